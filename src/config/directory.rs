//! A router directory: its files, any of them absent.

use std::format;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use super::addresses::{InterfaceConfig, parse_addresses};
use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::ip_settings::{is_part, warn_of_settings};
use super::ipset::parse_ipset;
use super::ipvsadm::parse_ipvs_rules;
use super::keepalived::parse_keepalived_with;
use super::modules::{Modules, parse_modules};
use super::nft::{parse_nft_json, parse_nft_with};
use super::policy::parse_policy;
use super::routes::{RouteConfig, parse_routes};
use super::rules::parse_rules;
use super::sysctl::{Sysctl, parse_sysctl};
use super::values::decimal;
use crate::Instant;
use crate::helper::Policy;
use crate::ipvs;
use crate::netfilter::nft::{NftChain, NftRuleset, NftTable, TableFamily};
use crate::netfilter::{IpSet, Ruleset, TableName};
use crate::packet::Family;

/// The file of keepalived's configuration.
const KEEPALIVED: &str = "keepalived.conf";

/// The files that a router's owner has saved about it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Directory {
    /// `rules.v4`, from iptables-save or as typed.
    pub rules4: Option<Ruleset>,
    /// `rules.v6`, from ip6tables-save or as typed.
    pub rules6: Option<Ruleset>,
    /// `ruleset.json`, from `nft -j list ruleset`, or else `ruleset.nft`, from `nft list ruleset` or `nftables.conf`.
    pub nft: Option<NftRuleset>,
    /// `ipset.save`, from `ipset save`; empty where absent.
    pub sets: Vec<IpSet>,
    /// `addr.json`, from `ip -j addr`; empty where absent.
    pub interfaces: Vec<InterfaceConfig>,
    /// `route.json`, from `ip -j route`; empty where absent.
    pub routes: Vec<RouteConfig>,
    /// `sysctl.conf`; empty where absent.
    pub sysctl: Sysctl,
    /// `modules`, from lsmod or as typed.
    pub modules: Option<Modules>,
    /// `policy.conf`: limits on announcements under behaviour Exact; the defaults where absent.
    pub policy: Policy,
    /// `tables.time`: when the kernel's tables were printed, since the Unix epoch.
    pub tables_time: Option<Instant>,
    /// `nf_conntrack`: the kernel's connections afterwards, as `/proc/net/nf_conntrack` prints them.
    pub conntrack_text: Option<String>,
    /// `nf_conntrack_expect`: the kernel's expectations afterwards.
    pub expect_text: Option<String>,
    /// `ipvs.rules`, from ipvsadm -S -n or as typed, or else `keepalived.conf`: services and real servers.
    pub ipvs: Option<ipvs::IpvsConfig>,
    /// True if `ipvs.rules` was there. Without `modules`, `ip_vs_ftp` is there only with it.
    pub has_ipvs_rules: bool,
    /// `ip_vs`: the kernel's services and real servers afterwards, as `/proc/net/ip_vs` prints them.
    pub ip_vs_text: Option<String>,
    /// `ip_vs_conn`: the kernel's load balancing entries afterwards.
    pub ip_vs_conn_text: Option<String>,
    /// `router.pcapng`, or else `router.pcap`, or else every `router-NAME.pcapng` and `router-NAME.pcap`: one for each
    /// interface.
    pub captures: Vec<PathBuf>,
    /// Warnings about the files.
    pub warnings: Vec<Warning>,
}

impl Directory {
    /// Reads the files of a router directory. Any of them may be absent; in errors and warnings they go by their names
    /// alone.
    ///
    /// # Errors
    ///
    /// A path that is no directory, a file that cannot be read or is no UTF-8 text, and what the parsers of this layer
    /// refuse.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(Error::of_file(&path.to_string_lossy(), ErrorKind::Unreadable, "name a directory"));
        }
        let mut directory = Self::default();
        directory.rules4 = directory.rules(path, "rules.v4", Family::V4)?;
        directory.rules6 = directory.rules(path, "rules.v6", Family::V6)?;
        directory.nft = directory.nft(path)?;
        directory.sets = directory.sets(path)?;
        directory.interfaces = parsed(path, "addr.json", parse_addresses)?.unwrap_or_default();
        directory.routes = parsed(path, "route.json", parse_routes)?.unwrap_or_default();
        directory.sysctl = parsed(path, "sysctl.conf", parse_sysctl)?.unwrap_or_default();
        directory.warnings.extend(warn_of_settings(&directory.sysctl));
        directory.modules = parsed(path, "modules", parse_modules)?;
        directory.policy = parsed(path, "policy.conf", parse_policy)?.unwrap_or_default();
        directory.tables_time = parsed(path, "tables.time", parse_time)?;
        directory.conntrack_text = text(path, "nf_conntrack")?;
        directory.expect_text = text(path, "nf_conntrack_expect")?;
        directory.ipvs = directory.services(path)?;
        directory.ip_vs_text = text(path, "ip_vs")?;
        directory.ip_vs_conn_text = text(path, "ip_vs_conn")?;
        directory.captures = captures(path)?;
        Ok(directory)
    }

    fn services(&mut self, path: &Path) -> Result<Option<ipvs::IpvsConfig>, Error> {
        let rules = text(path, "ipvs.rules")?;
        let (config, warnings) = match (rules, text(path, KEEPALIVED)?) {
            (None, None) => return Ok(None),
            (Some(rules), keepalived) => {
                // The kernel's services were made from keepalived's file, if that is used.
                let unused = keepalived.map(|_| Warning::of_file(KEEPALIVED, WarningKind::NotUsed));
                self.warnings.extend(unused);
                self.has_ipvs_rules = true;
                parse_ipvs_rules("ipvs.rules", &rules)?
            }
            // Files it includes are looked for beside it.
            (None, Some(keepalived)) => {
                let mut include = |name: &str| {
                    let name = Path::new(name).file_name()?;
                    fs::read_to_string(path.join(name)).ok()
                };
                parse_keepalived_with(KEEPALIVED, &keepalived, &mut include)?
            }
        };
        self.warnings.extend(warnings);
        // A keepalived without virtual servers moves addresses and balances nothing.
        Ok((self.has_ipvs_rules || !config.services.is_empty()).then_some(config))
    }

    fn sets(&mut self, path: &Path) -> Result<Vec<IpSet>, Error> {
        let Some(text) = text(path, "ipset.save")? else { return Ok(Vec::new()) };
        let (sets, warnings) = parse_ipset("ipset.save", &text)?;
        self.warnings.extend(warnings);
        Ok(sets)
    }

    /// Reads the output of `nft -j`, or else the text, with the files that it includes beside it.
    fn nft(&mut self, path: &Path) -> Result<Option<NftRuleset>, Error> {
        let (ruleset, warnings) = match (text(path, "ruleset.json")?, text(path, "ruleset.nft")?) {
            (Some(json), _) => parse_nft_json("ruleset.json", &json)?,
            (None, Some(script)) => parse_nft_with("ruleset.nft", &script, &mut |pattern| included(path, pattern))?,
            (None, None) => return Ok(None),
        };
        let (ruleset, warnings) = self.without_iptables(ruleset, warnings);
        self.warnings.extend(warnings);
        Ok(Some(ruleset))
    }

    /// Leaves out the tables of nftables in which iptables keeps its rules, where its own files have them.
    fn without_iptables(&self, ruleset: NftRuleset, warnings: Vec<Warning>) -> (NftRuleset, Vec<Warning>) {
        let (mut ruleset, mut warnings) = (ruleset, warnings);
        let (has_rules4, has_rules6) = (self.rules4.is_some(), self.rules6.is_some());
        let is_known = |table: &NftTable| match table.family {
            TableFamily::Ip => has_rules4 && is_of_iptables(table),
            TableFamily::Ip6 => has_rules6 && is_of_iptables(table),
            TableFamily::Inet => false,
        };
        let (known, rest) = ruleset.tables.into_iter().partition(is_known);
        ruleset.tables = rest;
        for table in known {
            let name = format!("table {} {}", table.family.name(), table.name);
            let is_about = |word: &str| word.ends_with(&name) || word.contains(&format!("{name}, "));
            warnings.retain(|warning| !is_about(&warning.word));
            let mut warning = Warning::of_file("ruleset", WarningKind::KeptByIptables);
            warning.word = name;
            warnings.push(warning);
        }
        (ruleset, warnings)
    }

    fn rules(&mut self, path: &Path, name: &str, family: Family) -> Result<Option<Ruleset>, Error> {
        let Some(text) = text(path, name)? else { return Ok(None) };
        let (rules, warnings) = parse_rules(name, &text, family)?;
        self.warnings.extend(warnings);
        Ok(Some(rules))
    }
}

/// Returns true if a table is one that iptables makes: by its name, and the names of its base chains.
fn is_of_iptables(table: &NftTable) -> bool {
    let is_builtin = |chain: &NftChain| chain.base.is_none_or(|base| chain.name == base.hook.chain_name());
    let has_base = table.chains.iter().any(|chain| chain.base.is_some());
    TableName::ALL.iter().any(|name| name.name() == table.name) && has_base && table.chains.iter().all(is_builtin)
}

/// The files of a directory that an `include` names: by the name's end, since the router's own folders are not here. An
/// asterisk stands for any letters.
fn included(path: &Path, pattern: &str) -> Vec<(String, String)> {
    let Some(pattern) = Path::new(pattern).file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let mut names: Vec<String> = if pattern.contains(['*', '?', '[']) {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| fits(pattern, name)).collect()
    } else {
        [String::from(pattern)].into()
    };
    names.sort_unstable();
    names.into_iter().filter_map(|name| Some((name.clone(), text(path, &name).ok()??))).collect()
}

/// True if a file's name is the pattern's. The ruleset itself is no part of itself.
fn fits(pattern: &str, name: &str) -> bool {
    name != "ruleset.nft" && is_part(pattern, name)
}

/// Returns the captures in a directory: the one of all interfaces, or else one for each.
fn captures(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let whole = ["router.pcapng", "router.pcap"].iter().map(|name| path.join(name)).find(|file| file.is_file());
    if let Some(whole) = whole {
        return Ok(Vec::from([whole]));
    }
    let unreadable = |error| Error::of_file(&path.to_string_lossy(), ErrorKind::Unreadable, format!("{error}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if interface_of_capture(&file).is_some() && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the interface that a capture was taken on by its name: `lan` for `router-lan.pcap`.
pub fn interface_of_capture(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.strip_prefix("router-")?;
    let interface = name.strip_suffix(".pcapng").or_else(|| name.strip_suffix(".pcap"))?;
    (!interface.is_empty()).then(|| String::from(interface))
}

fn parsed<T>(path: &Path, name: &str, parse: fn(&str, &str) -> Result<T, Error>) -> Result<Option<T>, Error> {
    text(path, name)?.map(|text| parse(name, &text)).transpose()
}

/// The text of a file, if there is one.
fn text(path: &Path, name: &str) -> Result<Option<String>, Error> {
    match fs::read(path.join(name)) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::of_file(name, ErrorKind::NotText, "save it as UTF-8 text")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::of_file(name, ErrorKind::Unreadable, format!("{error}"))),
    }
}

/// Seconds since the Unix epoch, with a fraction of up to nine digits or none, as `date +%s.%N` prints them.
fn parse_time(file: &str, text: &str) -> Result<Instant, Error> {
    let word = text.trim();
    let time = || {
        let (seconds, fraction) = word.split_once('.').unwrap_or((word, "0"));
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let micros: i64 = decimal(format!("{fraction:0<6}").get(..6)?)?;
        decimal::<i64>(seconds)?.checked_mul(1_000_000)?.checked_add(micros).map(Instant::from_micros)
    };
    let wanted = "write seconds since 1970, such as 1795167202.361508";
    time().ok_or_else(|| Error::new(ErrorKind::BadValue, 1, word, wanted).in_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::{env, process};

    /// A directory that goes away with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
            let path = env::temp_dir().join(format!("ftp-conntrack-{}-{name}", process::id()));
            fs::create_dir_all(&path).unwrap();
            for (file, bytes) in files {
                fs::write(path.join(file), bytes).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_file_may_be_absent() {
        let scratch = Scratch::new("empty", &[]);
        let directory = Directory::read(&scratch.0).unwrap();
        assert!(directory.rules4.is_none() && directory.modules.is_none() && directory.captures.is_empty());
        assert!(directory.interfaces.is_empty() && directory.sysctl.is_empty() && directory.warnings.is_empty());
    }

    #[test]
    fn files_are_read_and_the_unknown_named() {
        let files: &[(&str, &[u8])] = &[
            ("rules.v4", b"iptables -A INPUT -m limit -j DROP\n"),
            ("rules.v6", b"ip6tables -P FORWARD DROP\n"),
            ("addr.json", b"[{\"ifindex\":1,\"ifname\":\"lo\",\"mtu\":65536}]"),
            ("route.json", b"[{\"dst\":\"default\",\"dev\":\"lo\"}]"),
            ("sysctl.conf", b"a=1\n"),
            ("modules", b"ip_vs_ftp\n"),
            ("policy.conf", b"lowest_port = 2000\n"),
            ("tables.time", b"1795167202.361508\n"),
            ("nf_conntrack", b"x\n"),
            ("router.pcap", b""),
            ("ipvs.rules", b"-A -f 21\n"),
            ("keepalived.conf", b"virtual_server fwmark 22 {\n}\n"),
            ("ip_vs", b"y\n"),
        ];
        let scratch = Scratch::new("full", files);
        let directory = Directory::read(&scratch.0).unwrap();
        let rules = directory.rules4.unwrap();
        assert_eq!(rules.table(TableName::Filter).chain("INPUT").unwrap().rules.len(), 1);
        assert!(!directory.rules6.unwrap().is_empty());
        assert_eq!((directory.interfaces.len(), directory.routes.len()), (1, 1));
        assert_eq!(directory.sysctl.get("a"), Some("1"));
        assert!(directory.modules.unwrap().has("ip_vs_ftp"));
        assert_eq!(directory.policy.lowest_port, 2000);
        assert_eq!(directory.tables_time, Some(Instant::from_micros(1_795_167_202_361_508)));
        assert_eq!((directory.conntrack_text.as_deref(), directory.expect_text), (Some("x\n"), None));
        assert_eq!(directory.ipvs.unwrap().services[0].address.to_string(), "-f 21");
        assert_eq!((directory.ip_vs_text.as_deref(), directory.ip_vs_conn_text), (Some("y\n"), None));
        assert_eq!(directory.captures, [scratch.0.join("router.pcap")]);
        let warnings: Vec<String> = directory.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["keepalived.conf: is not used, since ipvs.rules has its services"]);
    }

    #[test]
    fn one_capture_for_each_interface() {
        let files: &[(&str, &[u8])] = &[("router-wan.pcap", b""), ("router-eth0.5.pcapng", b""), ("router-.pcap", b"")];
        let scratch = Scratch::new("captures", files);
        let captures = Directory::read(&scratch.0).unwrap().captures;
        let names: Vec<_> = captures.iter().filter_map(|file| interface_of_capture(file)).collect();
        assert_eq!(names, ["eth0.5", "wan"]);
    }

    #[test]
    fn what_cannot_be_read() {
        let scratch = Scratch::new("bad", &[("modules", b"\xff")]);
        assert_eq!(Directory::read(&scratch.0).unwrap_err().kind, ErrorKind::NotText);
        assert_eq!(Directory::read(&scratch.0.join("none")).unwrap_err().kind, ErrorKind::Unreadable);
    }

    #[test]
    fn times() {
        let time = |text| parse_time("tables.time", text).ok();
        assert_eq!(time("12"), Some(Instant::from_secs(12)));
        assert_eq!(time("12.5\n"), Some(Instant::from_micros(12_500_000)));
        assert_eq!(time("12.123456789"), Some(Instant::from_micros(12_123_456)));
        for text in ["", "x", "1.", "1.x", ".5", "-1", "99999999999999999999", "1.0000000000", "1 2"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in r#"([a-z0-9:./=,{}\[\]" \n\\'$;-]|\PC|dst|local|-[Aaftrspwxy] |virtual_server |real_server |[{}]\n|"dst":|ports=|options |modprobe |table ip t \{|chain c \{|tcp dport |ct state |set s \{|elements = |\$x|define x = |@s|map |vmap )*"#) {
            let _ = parse_addresses("f", &text);
            let _ = parse_routes("f", &text);
            let _ = parse_sysctl("f", &text);
            let _ = parse_policy("f", &text);
            let _ = parse_modules("f", &text);
            let _ = parse_ipvs_rules("f", &text);
            let _ = parse_keepalived_with("f", &text, &mut |_| None);
            let _ = parse_time("f", &text);
            let _ = parse_nft_with("f", &text, &mut |_| Vec::new());
        }

        #[test]
        fn no_value_is_too_strange(value in r#"[0-9.]{0,20}|"\PC{0,12}"|-?[0-9]{1,30}|null|true|\[\{\}\]|\{\}"#, key in 0usize..6) {
            let key = ["local", "prefixlen", "scope", "broadcast", "address", "x"][key];
            let text = format!("[{{\"ifindex\":1,\"ifname\":\"a\",\"mtu\":1,\"addr_info\":[{{\"{key}\":{value}}}]}}]");
            let _ = parse_addresses("f", &text);
            for key in ["dst", "gateway", "via", "nexthops", "metric", "type", "flags"] {
                let _ = parse_routes("f", &format!("[{{\"dst\":\"default\",\"{key}\":{value}}}]"));
            }
        }
    }
}
