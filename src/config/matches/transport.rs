//! Matches on transport headers: ports, flags, types.

use std::vec;
use std::vec::Vec;

use super::super::error::Error;
use super::super::icmp_names::icmp_type;
use super::super::options::{OptionSpec, flag, one, two};
use super::super::values;
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, number, number_range, ranged, undecided_module, when};
use crate::netfilter::{ChunkMatch, Condition, Match, Number, WhichChunks};
use crate::packet::{Family, Protocol};

static PORTS: &[OptionSpec] = &[
    one("--sport").or_not(),
    one("--source-port").or_not(),
    one("--dport").or_not(),
    one("--destination-port").or_not(),
];
static TCP: &[OptionSpec] = &[
    one("--sport").or_not(),
    one("--source-port").or_not(),
    one("--dport").or_not(),
    one("--destination-port").or_not(),
    two("--tcp-flags").or_not(),
    flag("--syn").or_not(),
    one("--tcp-option").or_not(),
];
static SCTP: &[OptionSpec] = &[
    one("--sport").or_not(),
    one("--source-port").or_not(),
    one("--dport").or_not(),
    one("--destination-port").or_not(),
    two("--chunk-types").or_not(),
];
static DCCP: &[OptionSpec] = &[
    one("--sport").or_not().undecided(),
    one("--source-port").or_not().undecided(),
    one("--dport").or_not().undecided(),
    one("--destination-port").or_not().undecided(),
    one("--dccp-types").or_not().undecided(),
    one("--dccp-option").or_not().undecided(),
];
static ICMP: &[OptionSpec] = &[one("--icmp-type").or_not()];
static ICMPV6: &[OptionSpec] = &[one("--icmpv6-type").or_not()];
static MULTIPORT: &[OptionSpec] = &[
    one("--sports").or_not(),
    one("--source-ports").or_not(),
    one("--dports").or_not(),
    one("--destination-ports").or_not(),
    one("--ports").or_not(),
];
static ESP: &[OptionSpec] = &[one("--espspi").or_not()];
static AH: &[OptionSpec] = &[one("--ahspi").or_not()];
static AH6: &[OptionSpec] =
    &[one("--ahspi").or_not().undecided(), one("--ahlen").or_not().undecided(), flag("--ahres").undecided()];
static IPCOMP: &[OptionSpec] = &[one("--ipcompspi").or_not().undecided(), flag("--compres").undecided()];
static MH: &[OptionSpec] = &[one("--mh-type").or_not()];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("tcp", TCP, tcp).with(&[6]).bare(),
    ModuleSpec::new("udp", PORTS, ports).with(&[17]).bare(),
    ModuleSpec::new("udplite", PORTS, ports).with(&[136]).bare(),
    ModuleSpec::new("sctp", SCTP, sctp).with(&[132]).bare(),
    ModuleSpec::new("dccp", DCCP, undecided_module).with(&[33]).bare(),
    ModuleSpec::new("icmp", ICMP, icmp).of(Family::V4).with(&[1]).bare(),
    ModuleSpec::new("icmp6", ICMPV6, icmp).of(Family::V6).with(&[58]).bare(),
    ModuleSpec::new("multiport", MULTIPORT, multiport).with(&[6, 17, 132, 136, 33]),
    ModuleSpec::new("esp", ESP, esp).with(&[50]).bare(),
    ModuleSpec::new("ah", AH, esp).of(Family::V4).with(&[51]).bare(),
    ModuleSpec::new("ah", AH6, undecided_module).of(Family::V6).bare(),
    ModuleSpec::new("ipcomp", IPCOMP, undecided_module).with(&[108]).bare(),
    ModuleSpec::new("mh", MH, mobility).of(Family::V6).with(&[135]).bare(),
];

fn ports(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = Vec::new();
    for given in words.given {
        let test = match given.name {
            "--sport" | "--source-port" => Match::SourcePorts(vec![values::port_range(given.value())?]),
            "--dport" | "--destination-port" => Match::DestinationPorts(vec![values::port_range(given.value())?]),
            _ => continue,
        };
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn tcp(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = ports(words)?;
    words.at_most_one(&["--syn", "--tcp-flags"])?;
    for given in words.given {
        let test = match given.name {
            "--tcp-flags" => Match::TcpFlags { mask: tcp_flags(given.value())?, set: tcp_flags(given.second())? },
            "--syn" => Match::TcpFlags { mask: FIN | SYN | RST | ACK, set: SYN },
            "--tcp-option" => ranged(Number::TcpOption(number(given.value(), 1, 255)? as u8), (1, 1)),
            _ => continue,
        };
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn multiport(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    if words.protocol == Some(Protocol(33)) {
        // Nobody here reads the ports of DCCP.
        return Ok(words.unknown());
    }
    words.at_most_one(&["--sports", "--source-ports", "--dports", "--destination-ports", "--ports"])?;
    let given = words.given.iter().map(|given| {
        let list = values::port_list(given.value())?;
        let test = match given.name {
            "--sports" | "--source-ports" => Match::SourcePorts(list),
            "--dports" | "--destination-ports" => Match::DestinationPorts(list),
            _ => Match::Ports(list),
        };
        Ok(when(test, given.negated))
    });
    given.collect()
}

fn icmp(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| match icmp_type(&given.value().text, words.family) {
        Some((kind, codes)) => Ok(when(Match::IcmpType { kind, codes }, given.negated)),
        None => Err(Error::bad_value(given.value(), "write a type such as echo-request, 8 or 3/4")),
    });
    given.collect()
}

fn esp(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter();
    given.map(|given| Ok(when(ranged(Number::Spi, number_range(given.value(), u32::MAX)?), given.negated))).collect()
}

/// The types of mobility headers (RFC 6275 section 6.1).
const MOBILITY: &[&str] = &[
    "binding-refresh-request",
    "home-test-init",
    "careof-test-init",
    "home-test",
    "careof-test",
    "binding-update",
    "binding-acknowledgement",
    "binding-error",
];

fn mobility(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let word = given.value();
        let one = |text: &str| {
            let short = [("brr", 0), ("hoti", 1), ("coti", 2), ("hot", 3), ("cot", 4), ("bu", 5), ("ba", 6), ("be", 7)];
            let by_short = short.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, kind)| *kind);
            let mut named = MOBILITY.iter().zip(0u32..).filter(|(name, _)| name.starts_with(text) && !text.is_empty());
            let by_name = named.next().map(|(_, kind)| kind).filter(|_| named.next().is_none());
            by_short.or(by_name).or_else(|| values::number(text).filter(|kind| *kind < 256))
        };
        let range = match word.text.split_once(':') {
            None => one(&word.text).map(|kind| (kind, kind)),
            Some((first, last)) => {
                let first = if first.is_empty() { Some(0) } else { values::number(first) };
                let last = if last.is_empty() { Some(255) } else { values::number(last) };
                first.zip(last).filter(|(first, last)| first <= last && *last < 256)
            }
        };
        let (first, last) = range.ok_or_else(|| Error::bad_value(word, "write a type from 0 to 255 or its name"))?;
        Ok(when(ranged(Number::MobilityType, (first.into(), last.into())), given.negated))
    });
    given.collect()
}

// The flags of RFC 9293 section 3.1, as they lie in the header's fourteenth byte.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

fn tcp_flags(word: &Word) -> Result<u8, Error> {
    let flag = |name: &str| match name.to_ascii_uppercase().as_str() {
        "FIN" => Some(FIN),
        "SYN" => Some(SYN),
        "RST" => Some(RST),
        "PSH" => Some(PSH),
        "ACK" => Some(ACK),
        "URG" => Some(URG),
        "ALL" => Some(FIN | SYN | RST | PSH | ACK | URG),
        "NONE" => Some(0),
        _ => None,
    };
    let flags: Option<Vec<u8>> = word.text.split(',').map(flag).collect();
    let flags = flags.ok_or_else(|| Error::bad_value(word, "list some of SYN,ACK,FIN,RST,URG,PSH, or ALL or NONE"))?;
    Ok(flags.into_iter().fold(0, |all, flag| all | flag))
}

/// Chunk types (RFC 9260, 4820, 5061, 6525, 8260, 3758) and the letters of their flags, lowest bit last.
const CHUNKS: &[(&str, u8, &str)] = &[
    ("DATA", 0, "----IUBE"),
    ("INIT", 1, ""),
    ("INIT_ACK", 2, ""),
    ("SACK", 3, ""),
    ("HEARTBEAT", 4, ""),
    ("HEARTBEAT_ACK", 5, ""),
    ("ABORT", 6, "-------T"),
    ("SHUTDOWN", 7, ""),
    ("SHUTDOWN_ACK", 8, ""),
    ("ERROR", 9, ""),
    ("COOKIE_ECHO", 10, ""),
    ("COOKIE_ACK", 11, ""),
    ("ECN_ECNE", 12, ""),
    ("ECN_CWR", 13, ""),
    ("SHUTDOWN_COMPLETE", 14, "-------T"),
    ("I_DATA", 64, "----IUBE"),
    ("RE_CONFIG", 130, ""),
    ("PAD", 132, ""),
    ("ASCONF", 193, ""),
    ("ASCONF_ACK", 128, ""),
    ("FORWARD_TSN", 192, ""),
    ("I_FORWARD_TSN", 194, ""),
];

fn sctp(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = ports(words)?;
    if let Some(given) = words.option("--chunk-types") {
        conditions.push(when(Match::Chunks(chunks(given.value(), given.second())?), given.negated));
    }
    Ok(conditions)
}

fn chunks(which: &Word, list: &Word) -> Result<ChunkMatch, Error> {
    let which = match which.text.to_ascii_lowercase().as_str() {
        "all" => WhichChunks::All,
        "any" => WhichChunks::Any,
        "only" => WhichChunks::Only,
        _ => return Err(Error::bad_value(which, "write all, any or only")),
    };
    let mut test = ChunkMatch { which, types: [0; 4], flags: Vec::new() };
    if ["ALL", "NONE"].iter().any(|all| list.text.eq_ignore_ascii_case(all)) {
        test.types = if list.text.eq_ignore_ascii_case("ALL") { [u64::MAX; 4] } else { [0; 4] };
        return Ok(test);
    }
    for item in list.text.split(',') {
        let (name, flags) = item.split_once(':').unwrap_or((item, ""));
        let known = CHUNKS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let wanted = "list chunk types such as DATA,INIT or DATA:Be";
        let (_, kind, letters) = known.ok_or_else(|| Error::bad_value(list, wanted))?;
        test.types[usize::from(kind >> 6)] |= 1 << (kind & 63);
        let (mut mask, mut value) = (0u8, 0u8);
        for letter in flags.chars() {
            let at = letters.chars().position(|known| known == letter.to_ascii_uppercase() && known != '-');
            let bit = at.map(|at| 0x80u8 >> at).ok_or_else(|| Error::bad_value(list, wanted))?;
            mask |= bit;
            value = if letter.is_ascii_uppercase() { value | bit } else { value & !bit };
        }
        if mask != 0 {
            test.flags.push((*kind, mask, value));
        }
    }
    Ok(test)
}
