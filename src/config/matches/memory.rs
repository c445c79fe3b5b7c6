//! Matches that remember: limits, lists and counts.

use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{OptionSpec, flag, one};
use super::super::values;
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, number, undecided_module, when};
use crate::netfilter::{Condition, ConnlimitMatch, HashlimitMatch, Match, RecentAction, RecentMatch, Stateful};
use crate::packet::Family;

static LIMIT: &[OptionSpec] = &[one("--limit"), one("--limit-burst")];
static HASHLIMIT: &[OptionSpec] = &[
    one("--hashlimit-upto").or_not(),
    one("--hashlimit-above").or_not(),
    one("--hashlimit").or_not(),
    one("--hashlimit-mode"),
    one("--hashlimit-srcmask"),
    one("--hashlimit-dstmask"),
    one("--hashlimit-name"),
    one("--hashlimit-burst"),
    one("--hashlimit-htable-size"),
    one("--hashlimit-htable-max"),
    one("--hashlimit-htable-expire"),
    one("--hashlimit-htable-gcinterval"),
    flag("--hashlimit-rate-match").undecided(),
    one("--hashlimit-rate-interval").undecided(),
];
static RECENT: &[OptionSpec] = &[
    flag("--set").or_not(),
    flag("--rcheck").or_not(),
    flag("--update").or_not(),
    flag("--remove").or_not(),
    one("--seconds"),
    flag("--reap"),
    one("--hitcount"),
    flag("--rttl"),
    one("--name"),
    flag("--rsource"),
    flag("--rdest"),
    one("--mask"),
];
static CONNLIMIT: &[OptionSpec] = &[
    one("--connlimit-upto").or_not(),
    one("--connlimit-above").or_not(),
    one("--connlimit-mask"),
    flag("--connlimit-saddr"),
    flag("--connlimit-daddr"),
];
static QUOTA: &[OptionSpec] = &[one("--quota").or_not()];
static STATISTIC: &[OptionSpec] =
    &[one("--mode"), one("--probability").or_not(), one("--every").or_not(), one("--packet")];
static RATEEST: &[OptionSpec] = &[
    one("--rateest").undecided(),
    one("--rateest1").undecided(),
    one("--rateest2").undecided(),
    flag("--rateest-delta").undecided(),
    flag("--rateest-lt").or_not().undecided(),
    flag("--rateest-gt").or_not().undecided(),
    flag("--rateest-eq").or_not().undecided(),
];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("limit", LIMIT, limit).bare(),
    ModuleSpec::new("hashlimit", HASHLIMIT, hashlimit),
    ModuleSpec::new("recent", RECENT, recent),
    ModuleSpec::new("connlimit", CONNLIMIT, connlimit),
    ModuleSpec::new("quota", QUOTA, quota),
    ModuleSpec::new("statistic", STATISTIC, statistic),
    ModuleSpec::new("rateest", RATEEST, undecided_module),
];

const WANTED_RATE: &str = "write a rate such as 5/second, 100/minute or 3/hour";

/// `NUMBER/UNIT` in units of 1/`scale` seconds a packet; the unit may be cut short.
fn rate(word: &Word, scale: u64) -> Result<u64, Error> {
    let parse = || {
        let (number, unit) = word.text.split_once('/').unwrap_or((&word.text, "second"));
        let unit = unit.to_ascii_lowercase();
        let units = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)];
        let known = units.iter().find(|(name, _)| !unit.is_empty() && name.starts_with(unit.as_str()));
        let number: u64 = values::leading_digits(number)?;
        let cost = scale.checked_mul(known?.1)?.checked_div(number)?;
        (cost > 0).then_some(cost)
    };
    parse().ok_or_else(|| Error::bad_value(word, WANTED_RATE))
}

/// Units in which iptables counts a second, for `limit` and for `hashlimit`.
const LIMIT_SCALE: u64 = 10_000;
const HASHLIMIT_SCALE: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

fn limit(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let rate = match words.option("--limit") {
        Some(given) => rate(given.value(), LIMIT_SCALE)?,
        None => LIMIT_SCALE * 3_600 / 3,
    };
    let burst = match words.option("--limit-burst") {
        Some(given) => number(given.value(), 0, 10_000)?,
        None => 5,
    };
    let cost = rate.saturating_mul(SECOND / LIMIT_SCALE);
    Ok(vec![when(Match::Stateful(Stateful::Limit { cost, burst }), false)])
}

fn hashlimit(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --hashlimit-upto or --hashlimit-above, and --hashlimit-name";
    let Some(bound) = words.at_most_one(&["--hashlimit", "--hashlimit-upto", "--hashlimit-above"])? else {
        return Err(words.missing(wanted));
    };
    let name = words.required("--hashlimit-name", wanted)?.value();
    if name.text.is_empty() || name.text.len() > 254 {
        return Err(Error::bad_value(name, "write a name of 1 to 254 bytes"));
    }
    let is_bytes = bound.value().text.contains(['b', 'B']);
    let cost =
        if is_bytes { 0 } else { rate(bound.value(), HASHLIMIT_SCALE)?.saturating_mul(SECOND / HASHLIMIT_SCALE) };
    let bits = if words.family == Family::V4 { 32 } else { 128 };
    let mut test = HashlimitMatch {
        name: name.text.clone(),
        above: (bound.name == "--hashlimit-above") != bound.negated,
        cost,
        burst: 5,
        source: None,
        destination: None,
        source_port: false,
        destination_port: false,
        most: words.number("--hashlimit-htable-max", u32::MAX)?.unwrap_or(0),
        expires: words.number("--hashlimit-htable-expire", u32::MAX)?.unwrap_or(10_000),
    };
    words.number("--hashlimit-htable-size", u32::MAX)?;
    words.number("--hashlimit-htable-gcinterval", u32::MAX)?;
    words.number("--hashlimit-rate-interval", u32::MAX)?;
    let source = words.number("--hashlimit-srcmask", bits)?.unwrap_or(bits) as u8;
    let destination = words.number("--hashlimit-dstmask", bits)?.unwrap_or(bits) as u8;
    if let Some(mode) = words.option("--hashlimit-mode") {
        for part in mode.value().text.split(',') {
            match part {
                "srcip" => test.source = Some(source),
                "dstip" => test.destination = Some(destination),
                "srcport" => test.source_port = true,
                "dstport" => test.destination_port = true,
                _ => return Err(Error::bad_value(mode.value(), "list some of srcip,dstip,srcport,dstport")),
            }
        }
    }
    if is_bytes {
        return bytes_per_second(words);
    }
    if let Some(given) = words.option("--hashlimit-burst") {
        test.burst = number(given.value(), 1, 1_000_000)?;
    }
    Ok(vec![when(Match::Stateful(Stateful::Hashlimit(test)), false)])
}

/// A rate in bytes, which nobody here decides: the kernel rounds it in ways of its own.
fn bytes_per_second(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    for given in words.given.iter().filter(|given| given.name.contains("upto") || given.name.contains("above")) {
        let text = given.value().text.to_ascii_lowercase();
        let amount = text.split_once('/').map_or(text.as_str(), |(amount, _)| amount);
        let unit = amount.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_second = text.split_once('/').is_none_or(|(_, per)| "second".starts_with(per) && !per.is_empty());
        if !matches!(unit, "b" | "kb" | "mb") || amount.len() == unit.len() || !is_second {
            return Err(Error::bad_value(given.value(), "write a rate such as 512kb/s"));
        }
    }
    Ok(words.unknown())
}

fn recent(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --set, --rcheck, --update or --remove";
    let Some(given) = words.at_most_one(&["--set", "--rcheck", "--update", "--remove"])? else {
        return Err(words.missing(wanted));
    };
    let action = match given.name {
        "--set" => RecentAction::Set,
        "--rcheck" => RecentAction::Check,
        "--update" => RecentAction::Update,
        _ => RecentAction::Remove,
    };
    words.at_most_one(&["--rsource", "--rdest"])?;
    let checks = matches!(action, RecentAction::Check | RecentAction::Update);
    for name in ["--seconds", "--hitcount", "--rttl"] {
        let takes = checks || action == RecentAction::Remove && name != "--hitcount";
        if let Some(given) = words.option(name).filter(|_| !takes) {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs --rcheck or --update"));
        }
    }
    if let Some(given) = words.option("--reap").filter(|_| !words.has("--seconds")) {
        return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs --seconds"));
    }
    let name = words.option("--name").map_or("DEFAULT", |given| given.value().text.as_str());
    if name.is_empty() || name.len() > 199 {
        return Err(words.missing("write a name of 1 to 199 bytes"));
    }
    let bits: u8 = if words.family == Family::V4 { 32 } else { 128 };
    let prefix = match words.option("--mask") {
        None => bits,
        Some(given) => match values::prefix_of_mask(&given.value().text, words.family) {
            Some(Some(prefix)) => prefix,
            Some(None) => return Ok(words.unknown()),
            None => return Err(Error::bad_value(given.value(), "write a mask such as 255.255.255.0")),
        },
    };
    let seconds = words.option("--seconds").map(|given| number(given.value(), 1, u32::MAX)).transpose()?.unwrap_or(0);
    let test = RecentMatch {
        list: name.into(),
        action,
        destination: words.has("--rdest"),
        prefix,
        seconds,
        reap: words.has("--reap"),
        hits: words.number("--hitcount", u32::MAX)?.unwrap_or(0),
        same_ttl: words.has("--rttl"),
    };
    Ok(vec![when(Match::Stateful(Stateful::Recent(test)), given.negated)])
}

fn connlimit(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --connlimit-upto or --connlimit-above";
    let Some(bound) = words.at_most_one(&["--connlimit-upto", "--connlimit-above"])? else {
        return Err(words.missing(wanted));
    };
    words.at_most_one(&["--connlimit-saddr", "--connlimit-daddr"])?;
    let bits = if words.family == Family::V4 { 32 } else { 128 };
    let test = ConnlimitMatch {
        bound: number(bound.value(), 0, u32::MAX)?,
        upto: (bound.name == "--connlimit-upto") != bound.negated,
        prefix: words.number("--connlimit-mask", 128)?.unwrap_or(bits).min(bits) as u8,
        destination: words.has("--connlimit-daddr"),
    };
    Ok(vec![when(Match::Stateful(Stateful::Connlimit(test)), false)])
}

fn quota(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let bytes = values::number64(&given.value().text);
        let bytes = bytes.ok_or_else(|| Error::bad_value(given.value(), "write a number of bytes"))?;
        Ok(when(Match::Stateful(Stateful::Quota(bytes)), given.negated))
    });
    given.collect()
}

fn statistic(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mode = words.required("--mode", "write --mode random or --mode nth")?.value();
    let wrong = |names: &[&str], wanted: &'static str| {
        let found = names.iter().find_map(|name| words.option(name));
        found.map_or(Ok(()), |given| Err(Error::at(given.word, ErrorKind::Misplaced, wanted)))
    };
    match mode.text.as_str() {
        "random" => {
            wrong(&["--every", "--packet"], "it needs --mode nth")?;
            let given = words.required("--probability", "write --probability from 0 to 1")?;
            let probability = given.value().text.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
            let wanted = "write a probability from 0.0 to 1.0";
            let probability = probability.ok_or_else(|| Error::bad_value(given.value(), wanted))?;
            let of = (probability * f64::from(1u32 << 31)).round() as u32;
            Ok(vec![when(Match::Stateful(Stateful::Random(of)), given.negated)])
        }
        "nth" => {
            wrong(&["--probability"], "it needs --mode random")?;
            let given = words.required("--every", "write --every NUMBER")?;
            let every = number(given.value(), 1, u32::MAX)?;
            let packet = words.number("--packet", u32::MAX)?.ok_or_else(|| words.missing("write --packet NUMBER"))?;
            if packet >= every {
                return Err(words.missing("write --packet from 0 to one less than --every"));
            }
            Ok(vec![when(Match::Stateful(Stateful::Every { every, packet }), given.negated)])
        }
        _ => Err(Error::bad_value(mode, "write random or nth")),
    }
}
