//! Arbitrary configuration: nothing panics, a refusal is one line that names a place in the file, and what was read makes a
//! router or is refused by name.
//!
//! The first byte chooses the kind of file; the rest is its text.
#![no_main]

use std::fmt::Display;

use ftp_conntrack::config::{
    Error, Warning, parse_addresses, parse_ipvs_rules, parse_keepalived, parse_modules, parse_routes, parse_rules,
    parse_sysctl,
};
use ftp_conntrack::packet::Family;
use ftp_conntrack::router::{RouterConfig, Interface, Router};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let text = &*String::from_utf8_lossy(text);
    match choice % 8 {
        0 => rules(text, Family::V4),
        1 => rules(text, Family::V6),
        2 => ipvs(text, parse_ipvs_rules("f", text)),
        3 => ipvs(text, parse_keepalived("f", text)),
        4 => read(text, parse_sysctl("f", text).map(|_| Vec::new())),
        5 => read(text, parse_modules("f", text).map(|_| Vec::new())),
        6 => read(text, parse_addresses("f", text).map(|_| Vec::new())),
        _ => read(text, parse_routes("f", text).map(|_| Vec::new())),
    }
});

fn rules(text: &str, family: Family) {
    let ruleset = match parse_rules("f", text, family) {
        Ok((ruleset, warnings)) => {
            read(text, Ok(warnings));
            ruleset
        }
        Err(error) => return read(text, Err(error)),
    };
    let mut config = RouterConfig::default();
    match family {
        Family::V4 => config.rules4 = ruleset,
        _ => config.rules6 = ruleset,
    }
    starts(config);
}

fn ipvs(text: &str, result: Result<(ftp_conntrack::ipvs::IpvsConfig, Vec<Warning>), Error>) {
    let (ipvs, warnings) = match result {
        Ok(read) => read,
        Err(error) => return read(text, Err(error)),
    };
    read(text, Ok(warnings));
    let mut config = RouterConfig::default();
    config.ipvs = Some(ipvs);
    config.ipvs.iter_mut().for_each(|ipvs| ipvs.settings.entries = 8);
    starts(config);
}

fn starts(mut config: RouterConfig) {
    config.interfaces.push(Interface::new("lan").with_address([10, 77, 1, 1].into(), 24));
    config.conntrack.limits = ftp_conntrack::conntrack::Limits::new(8, 2, 2);
    if let Err(error) = Router::new(config, [1, 2, 3, 4]) {
        is_one_line(&error);
    }
}

fn read(text: &str, result: Result<Vec<Warning>, Error>) {
    let last = text.matches('\n').count() as u32 + 1;
    match result {
        Ok(warnings) => warnings.iter().for_each(|warning| is_one_line(warning)),
        Err(error) => {
            is_one_line(&error);
            assert!(error.line.is_none_or(|line| (1..=last).contains(&line)), "{error} of {last} lines");
        }
    }
}

fn is_one_line(said: &dyn Display) {
    let said = said.to_string();
    assert!(!said.is_empty() && !said.contains(['\n', '\r', '\x1b']), "{said:?}");
}
