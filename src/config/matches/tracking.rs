//! Matches on connections.

use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{Given, OptionSpec, flag, one};
use super::super::values::{self, Network};
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, number, number_range, ranged, when};
use crate::netfilter::{Condition, Counted, Match, Number, NumberMatch, StateSet};
use crate::packet::Family;

static STATE: &[OptionSpec] = &[one("--state").or_not()];
static CONNTRACK: &[OptionSpec] = &[
    one("--ctstate").or_not(),
    one("--ctproto").or_not(),
    one("--ctorigsrc").or_not(),
    one("--ctorigdst").or_not(),
    one("--ctreplsrc").or_not(),
    one("--ctrepldst").or_not(),
    one("--ctorigsrcport").or_not(),
    one("--ctorigdstport").or_not(),
    one("--ctreplsrcport").or_not(),
    one("--ctrepldstport").or_not(),
    one("--ctstatus").or_not(),
    one("--ctexpire").or_not(),
    one("--ctdir"),
];
static MARK: &[OptionSpec] = &[one("--mark").or_not()];
static HELPER: &[OptionSpec] = &[one("--helper").or_not()];
static CONNBYTES: &[OptionSpec] = &[one("--connbytes").or_not(), one("--connbytes-dir"), one("--connbytes-mode")];
static CONNLABEL: &[OptionSpec] = &[one("--label").or_not(), flag("--set")];
static CLUSTER: &[OptionSpec] = &[
    one("--cluster-total-nodes"),
    one("--cluster-local-node").or_not(),
    one("--cluster-local-nodemask").or_not(),
    one("--cluster-hash-seed"),
];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("state", STATE, conntrack),
    ModuleSpec::new("conntrack", CONNTRACK, conntrack),
    ModuleSpec::new("mark", MARK, mark),
    ModuleSpec::new("connmark", MARK, mark),
    ModuleSpec::new("helper", HELPER, helper),
    ModuleSpec::new("connbytes", CONNBYTES, connbytes),
    ModuleSpec::new("connlabel", CONNLABEL, connlabel),
    ModuleSpec::new("cluster", CLUSTER, cluster),
];

fn conntrack(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = Vec::new();
    for given in words.given {
        let value = given.value();
        let reply = given.name.starts_with("--ctrepl");
        let source = given.name.contains("src");
        let test = match given.name {
            "--state" => Match::ConnectionState(states(value, STATES)?),
            "--ctstate" => Match::ConnectionState(states(value, CONNTRACK_STATES)?),
            "--ctproto" => protocol(given)?,
            "--ctstatus" => status(value)?,
            "--ctexpire" => ranged(Number::ConnectionExpires, number_range(value, u32::MAX)?),
            "--ctdir" => {
                let direction = match value.text.to_ascii_uppercase().as_str() {
                    "ORIGINAL" => 0,
                    "REPLY" => 1,
                    _ => return Err(Error::bad_value(value, "write ORIGINAL or REPLY")),
                };
                ranged(Number::ConnectionDirection, (direction, direction))
            }
            name if name.ends_with("port") => {
                let ports = values::port_range(value)?;
                let number = Number::ConnectionPort { reply, source };
                ranged(number, (ports.first.into(), ports.last.into()))
            }
            _ => match values::networks(value, words.family)?.as_slice() {
                [Network::Prefix(network)] => Match::ConnectionAddress { reply, source, network: (*network).into() },
                [Network::Scattered(network)] => Match::ConnectionAddress { reply, source, network: *network },
                _ => return Err(Error::bad_value(value, "write one network")),
            },
        };
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn protocol(given: &Given<'_>) -> Result<Match, Error> {
    match values::protocol(given.value())? {
        Some(protocol) => Ok(ranged(Number::ConnectionProtocol, (protocol.0.into(), protocol.0.into()))),
        None if given.negated => Err(Error::at(given.value(), ErrorKind::Misplaced, "write a protocol")),
        None => Ok(ranged(Number::ConnectionProtocol, (0, 255))),
    }
}

/// The kernel's bits of a connection's status.
const STATUSES: &[(&str, u64)] = &[("NONE", 0), ("EXPECTED", 1), ("SEEN_REPLY", 2), ("ASSURED", 4), ("CONFIRMED", 8)];

fn status(word: &Word) -> Result<Match, Error> {
    let bit = |name: &str| STATUSES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, bit)| *bit);
    let bits: Option<Vec<u64>> = word.text.split(',').map(bit).collect();
    let bits = bits.ok_or_else(|| Error::bad_value(word, "list some of EXPECTED,SEEN_REPLY,ASSURED,CONFIRMED"))?;
    let mask = bits.into_iter().fold(0, |all, bit| all | bit);
    // Any of the bits will do; of none of them there is none.
    Ok(Match::Number(NumberMatch { number: Number::ConnectionStatus, mask, ranges: vec![(1, u64::MAX)] }))
}

const CONNTRACK_STATES: &[(&str, StateSet)] = &[
    ("INVALID", StateSet::INVALID),
    ("NEW", StateSet::NEW),
    ("ESTABLISHED", StateSet::ESTABLISHED),
    ("RELATED", StateSet::RELATED),
    ("UNTRACKED", StateSet::UNTRACKED),
    ("SNAT", StateSet::SNAT),
    ("DNAT", StateSet::DNAT),
];

/// `-m state` knows no SNAT and DNAT.
const STATES: &[(&str, StateSet)] = CONNTRACK_STATES.split_at(5).0;

fn states(word: &Word, known: &[(&str, StateSet)]) -> Result<StateSet, Error> {
    let state = |text: &str| known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, state)| *state);
    let states: Option<Vec<StateSet>> = word.text.split(',').map(state).collect();
    let states = states.ok_or_else(|| {
        Error::bad_value(word, "list some of NEW,ESTABLISHED,RELATED,INVALID,UNTRACKED (with --ctstate also SNAT,DNAT)")
    })?;
    Ok(states.into_iter().fold(StateSet::default(), StateSet::union))
}

fn mark(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let test = if words.module.name == "mark" { Match::Mark } else { Match::Connmark };
    let given = words.given.iter();
    given.map(|given| Ok(when(test(values::masked(given.value())?), given.negated))).collect()
}

fn helper(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter();
    Ok(given.map(|given| when(Match::Helper(given.value().text.clone()), given.negated)).collect())
}

fn connbytes(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --connbytes FROM:TO, --connbytes-dir and --connbytes-mode";
    let (range, direction, mode) = (
        words.required("--connbytes", wanted)?,
        words.required("--connbytes-dir", wanted)?.value(),
        words.required("--connbytes-mode", wanted)?.value(),
    );
    let reply = match direction.text.as_str() {
        "original" => Some(false),
        "reply" => Some(true),
        "both" => None,
        _ => return Err(Error::bad_value(direction, "write original, reply or both")),
    };
    let of = match mode.text.as_str() {
        "packets" => Counted::Packets,
        "bytes" => Counted::Bytes,
        "avgpkt" => Counted::Average,
        _ => return Err(Error::bad_value(mode, "write packets, bytes or avgpkt")),
    };
    let (first, last) = range.value().text.split_once(':').unwrap_or((&range.value().text, ""));
    let bound = |text: &str, empty| if text.is_empty() { Some(empty) } else { values::number64(text) };
    let (Some(first), Some(last)) = (bound(first, 0), bound(last, u64::MAX)) else {
        return Err(Error::bad_value(range.value(), "write a number or FROM:TO"));
    };
    if first > last {
        return Err(Error::bad_value(range.value(), "write the lower number first"));
    }
    // iptables keeps a negated range as one whose bounds are swapped, so that `! 2:2` is 2:2.
    let negated = range.negated && first != last;
    Ok(vec![when(ranged(Number::ConnectionCount { of, reply }, (first, last)), negated)])
}

fn connlabel(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.required("--label", "write --label NUMBER")?;
    let label = values::number(&given.value().text).and_then(|label| u8::try_from(label).ok()).filter(|n| *n < 128);
    // A name stands for a number in a file that is not here.
    let Some(label) = label else { return Ok(words.unknown()) };
    let test = if words.has("--set") { Match::SetLabel(label) } else { ranged(Number::ConnectionLabel(label), (1, 1)) };
    Ok(vec![when(test, given.negated)])
}

fn cluster(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --cluster-total-nodes, --cluster-local-node and --cluster-hash-seed";
    let nodes = number(words.required("--cluster-total-nodes", wanted)?.value(), 1, 32)?;
    let seed = number(words.required("--cluster-hash-seed", wanted)?.value(), 0, u32::MAX)?;
    let Some(local) = words.at_most_one(&["--cluster-local-node", "--cluster-local-nodemask"])? else {
        return Err(words.missing(wanted));
    };
    let mask = match local.name {
        "--cluster-local-node" => 1u32 << (number(local.value(), 1, 32)? - 1),
        _ => number(local.value(), 1, u32::MAX)?,
    };
    if nodes < 32 && mask >= 1 << nodes {
        return Err(Error::bad_value(local.value(), "name a node of the cluster"));
    }
    if words.family == Family::V6 {
        // The kernel's hash of IPv6 addresses is not known here.
        return Ok(words.unknown());
    }
    Ok(vec![when(Match::Cluster { nodes, mask, seed }, local.negated)])
}
