//! Matches on links, routes, sockets and other parts of the machine.

use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{OptionSpec, flag, one, text};
use super::super::values;
use super::{MatchWords, ModuleSpec, nothing, number, ranged, undecided_module, value_and_mask, when};
use crate::netfilter::{Condition, Match, Number, NumberMatch, TableName};

static COMMENT: &[OptionSpec] = &[text("--comment")];
static MAC: &[OptionSpec] = &[one("--mac-source").or_not().undecided()];
static PACKET_TYPE: &[OptionSpec] = &[one("--pkt-type").or_not()];
static BRIDGE: &[OptionSpec] = &[
    one("--physdev-in").or_not(),
    one("--physdev-out").or_not(),
    flag("--physdev-is-in").or_not(),
    flag("--physdev-is-out").or_not(),
    flag("--physdev-is-bridged").or_not(),
];
static GROUP: &[OptionSpec] = &[one("--src-group").or_not(), one("--dst-group").or_not()];
static POLICY: &[OptionSpec] = &[
    one("--dir"),
    one("--pol"),
    flag("--strict"),
    one("--reqid").or_not(),
    one("--spi").or_not(),
    one("--tunnel-src").or_not(),
    one("--tunnel-dst").or_not(),
    one("--proto").or_not(),
    one("--mode").or_not(),
    flag("--next"),
];
static REVERSE_PATH: &[OptionSpec] = &[flag("--loose"), flag("--validmark"), flag("--accept-local"), flag("--invert")];
static OWNER: &[OptionSpec] = &[
    one("--uid-owner").or_not(),
    one("--gid-owner").or_not(),
    flag("--socket-exists").or_not(),
    flag("--suppl-groups"),
];
static CGROUP: &[OptionSpec] = &[one("--cgroup").or_not().undecided(), one("--path").or_not().undecided()];
static SOCKET: &[OptionSpec] = &[flag("--transparent"), flag("--nowildcard"), flag("--restore-skmark")];
static CPU: &[OptionSpec] = &[one("--cpu").or_not().undecided()];
static NFACCT: &[OptionSpec] = &[one("--nfacct-name")];
static IPVS: &[OptionSpec] = &[
    flag("--ipvs").or_not().undecided(),
    one("--vproto").or_not().undecided(),
    one("--vaddr").or_not().undecided(),
    one("--vport").or_not().undecided(),
    one("--vdir").undecided(),
    one("--vmethod").or_not().undecided(),
    one("--vportctl").or_not().undecided(),
];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("comment", COMMENT, comment),
    ModuleSpec::new("mac", MAC, mac),
    ModuleSpec::new("pkttype", PACKET_TYPE, packet_type),
    ModuleSpec::new("physdev", BRIDGE, bridge),
    ModuleSpec::new("devgroup", GROUP, group),
    ModuleSpec::new("policy", POLICY, policy),
    ModuleSpec::new("rpfilter", REVERSE_PATH, reverse_path).bare(),
    ModuleSpec::new("owner", OWNER, owner),
    ModuleSpec::new("cgroup", CGROUP, undecided_module),
    ModuleSpec::new("socket", SOCKET, socket).bare(),
    ModuleSpec::new("cpu", CPU, cpu),
    ModuleSpec::new("nfacct", NFACCT, nothing),
    ModuleSpec::new("ipvs", IPVS, undecided_module),
];

fn comment(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    match words.given.iter().find(|given| given.value().text.len() > 255) {
        Some(given) => Err(Error::bad_value(given.value(), "write at most 255 bytes")),
        None => Ok(Vec::new()),
    }
}

fn mac(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    for given in words.given {
        let parts: Vec<&str> = given.value().text.split(':').collect();
        let is_byte = |part: &&str| (1..=2).contains(&part.len()) && u8::from_str_radix(part, 16).is_ok();
        if parts.len() != 6 || !parts.iter().all(is_byte) {
            return Err(Error::bad_value(given.value(), "write an address such as 00:11:22:33:44:55"));
        }
    }
    Ok(words.unknown())
}

fn cpu(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    for given in words.given {
        number(given.value(), 0, u32::MAX)?;
    }
    Ok(words.unknown())
}

fn packet_type(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let value = given.value();
        let kind = match value.text.to_ascii_lowercase().as_str() {
            "unicast" | "host" => 0,
            "broadcast" | "bcast" => 1,
            "multicast" | "mcast" => 2,
            "otherhost" => 3,
            _ => return Err(Error::bad_value(value, "write unicast, broadcast or multicast")),
        };
        Ok(when(ranged(Number::PacketType, (kind, kind)), given.negated))
    });
    given.collect()
}

fn bridge(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let conditions = words.given.iter().map(|given| {
        if given.name == "--physdev-in" || given.name == "--physdev-out" {
            let name = &given.value().text;
            if name.is_empty() || name.len() > 15 {
                return Err(Error::bad_value(given.value(), "write an interface's name of at most 15 bytes"));
            }
        }
        Ok(when(Match::Never, given.negated))
    });
    conditions.collect()
}

fn group(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = Vec::new();
    for given in words.given {
        let value = given.value();
        let is_number = value.text.starts_with(|c: char| c.is_ascii_digit());
        let (group, mask) = match value.text.as_str() {
            "default" => (0, u32::MAX),
            _ if is_number => value_and_mask(value, u32::MAX)?,
            // A name stands for a number in a file that is not here.
            _ => return Ok(words.unknown()),
        };
        let test = Match::Number(NumberMatch::masked(Number::Zero, group.into(), mask.into()));
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn policy(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --dir in or --dir out, and --pol none or --pol ipsec";
    let direction = words.required("--dir", wanted)?;
    let is_in = match direction.value().text.to_ascii_lowercase().as_str() {
        "in" => true,
        "out" => false,
        _ => return Err(Error::bad_value(direction.value(), "write in or out")),
    };
    let policy = words.required("--pol", wanted)?.value();
    let unfit: &[&str] = if is_in { &["POSTROUTING", "OUTPUT"] } else { &["PREROUTING", "INPUT"] };
    if words.built_in.is_some_and(|chain| unfit.contains(&chain)) {
        return Err(Error::at(direction.word, ErrorKind::Misplaced, "no packet of this chain has such a policy"));
    }
    match policy.text.to_ascii_lowercase().as_str() {
        "none" if words.given.len() > 2 => Err(Error::at(policy, ErrorKind::Misplaced, "it goes with --dir only")),
        "none" => Ok(Vec::new()),
        "ipsec" => Ok(vec![when(Match::Never, false)]),
        _ => Err(Error::bad_value(policy, "write none or ipsec")),
    }
}

fn reverse_path(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let fits = matches!(words.table, TableName::Raw | TableName::Mangle);
    if !fits || words.built_in.is_some_and(|chain| chain != "PREROUTING") {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "use it in PREROUTING of the table raw or mangle"));
    }
    let test = Match::ReversePath { loose: words.has("--loose"), accept_local: words.has("--accept-local") };
    Ok(vec![when(test, words.has("--invert"))])
}

fn owner(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    if words.built_in.is_some_and(|chain| !matches!(chain, "OUTPUT" | "POSTROUTING")) {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "use it in OUTPUT or POSTROUTING"));
    }
    let mut conditions = Vec::new();
    for given in words.given.iter().filter(|given| given.name != "--suppl-groups") {
        if given.name.ends_with("-owner") {
            let text = &given.value().text;
            let is_range = text.split_once('-').is_some_and(|(first, last)| {
                values::number(first).zip(values::number(last)).is_some_and(|(first, last)| first <= last)
            });
            let is_name = !text.starts_with(|c: char| c.is_ascii_digit());
            if !is_range && !is_name && values::number(text).is_none() {
                return Err(Error::bad_value(given.value(), "write a number, a range of numbers or a name"));
            }
        }
        conditions.push(when(Match::OfSocket { arriving: false }, given.negated));
    }
    Ok(conditions)
}

fn socket(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let table = words.table == TableName::Mangle;
    if !table || words.built_in.is_some_and(|chain| !matches!(chain, "PREROUTING" | "INPUT")) {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "use it in PREROUTING or INPUT of the table mangle"));
    }
    Ok(vec![when(Match::OfSocket { arriving: true }, false)])
}
