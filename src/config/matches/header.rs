//! Matches on fields of IP headers and TCP options, and on addresses.

use core::net::IpAddr;
use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{OptionSpec, flag, one};
use super::super::values;
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, number, number_range, ranged, undecided_module, when};
use crate::netfilter::{AddressTypes, Condition, Limit, Match, Number, NumberMatch};
use crate::packet::{Family, Protocol};

static TTL: &[OptionSpec] = &[one("--ttl-eq").or_not(), one("--ttl").or_not(), one("--ttl-lt"), one("--ttl-gt")];
static HL: &[OptionSpec] = &[one("--hl-eq").or_not(), one("--hl").or_not(), one("--hl-lt"), one("--hl-gt")];
static LENGTH: &[OptionSpec] = &[one("--length").or_not()];
static DSCP: &[OptionSpec] = &[one("--dscp").or_not(), one("--dscp-class").or_not()];
static TOS: &[OptionSpec] = &[one("--tos").or_not()];
static ECN: &[OptionSpec] =
    &[flag("--ecn-tcp-cwr").or_not(), flag("--ecn-tcp-ece").or_not(), one("--ecn-ip-ect").or_not()];
static TCPMSS: &[OptionSpec] = &[one("--mss").or_not()];
static ADDRESS_TYPE: &[OptionSpec] =
    &[one("--src-type").or_not(), one("--dst-type").or_not(), flag("--limit-iface-in"), flag("--limit-iface-out")];
static ADDRESS_RANGE: &[OptionSpec] = &[one("--src-range").or_not(), one("--dst-range").or_not()];
static REALM: &[OptionSpec] = &[one("--realm").or_not().undecided()];
static ROUTING: &[OptionSpec] = &[
    one("--rt-type").or_not(),
    one("--rt-segsleft").or_not(),
    one("--rt-len").or_not(),
    flag("--rt-0-res").undecided(),
    one("--rt-0-addrs").undecided(),
    flag("--rt-0-not-strict").undecided(),
];
static FRAGMENT: &[OptionSpec] = &[
    one("--fragid").or_not().undecided(),
    one("--fraglen").or_not().undecided(),
    flag("--fragres").undecided(),
    flag("--fragfirst").undecided(),
    flag("--fragmore").undecided(),
    flag("--fraglast").undecided(),
];
static HOP_BY_HOP: &[OptionSpec] = &[one("--hbh-len").or_not(), one("--hbh-opts").undecided()];
static DESTINATION: &[OptionSpec] = &[one("--dst-len").or_not(), one("--dst-opts").undecided()];
static IPV6HEADER: &[OptionSpec] = &[one("--header").or_not().undecided(), flag("--soft").undecided()];
static SRH: &[OptionSpec] = &[one("--srh-next-hdr").or_not().undecided()];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("ttl", TTL, hop_limit).of(Family::V4),
    ModuleSpec::new("hl", HL, hop_limit).of(Family::V6),
    ModuleSpec::new("length", LENGTH, length),
    ModuleSpec::new("dscp", DSCP, dscp),
    ModuleSpec::new("tos", TOS, tos),
    ModuleSpec::new("ecn", ECN, ecn),
    ModuleSpec::new("tcpmss", TCPMSS, tcpmss).with(&[6]),
    ModuleSpec::new("addrtype", ADDRESS_TYPE, address_type),
    ModuleSpec::new("iprange", ADDRESS_RANGE, address_range),
    ModuleSpec::new("realm", REALM, undecided_module).of(Family::V4),
    ModuleSpec::new("rt", ROUTING, routing).of(Family::V6).bare(),
    ModuleSpec::new("frag", FRAGMENT, undecided_module).of(Family::V6).bare(),
    ModuleSpec::new("hbh", HOP_BY_HOP, extension).of(Family::V6).bare(),
    ModuleSpec::new("dst", DESTINATION, extension).of(Family::V6).bare(),
    ModuleSpec::new("ipv6header", IPV6HEADER, undecided_module).of(Family::V6),
    ModuleSpec::new("srh", SRH, undecided_module).of(Family::V6).bare(),
    ModuleSpec::new("eui64", &[], undecided_module).of(Family::V6).bare(),
];

fn hop_limit(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let names = ["--ttl-eq", "--ttl", "--ttl-lt", "--ttl-gt", "--hl-eq", "--hl", "--hl-lt", "--hl-gt"];
    words.at_most_one(&names)?;
    let given = words.given.iter().map(|given| {
        let value = u64::from(number(given.value(), 0, 255)?);
        let test = match given.name.rsplit('-').next() {
            Some("lt") if value == 0 => Match::Never,
            Some("lt") => ranged(Number::HopLimit, (0, value.saturating_sub(1))),
            Some("gt") => ranged(Number::HopLimit, (value.saturating_add(1), u64::MAX)),
            _ => ranged(Number::HopLimit, (value, value)),
        };
        Ok(when(test, given.negated))
    });
    given.collect()
}

fn length(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let range = number_range(given.value(), 65_535)?;
        Ok(when(ranged(Number::Length, range), given.negated))
    });
    given.collect()
}

/// The classes of DiffServ (RFC 2474, 2597, 3246).
pub(in super::super) fn dscp_class(word: &Word) -> Result<u8, Error> {
    let name = word.text.to_ascii_uppercase();
    let digits = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u8>().ok());
    let class = match name.as_str() {
        "BE" => Some(0),
        "EF" => Some(46),
        _ => match (digits("CS"), digits("AF")) {
            (Some(class), _) if class < 8 => class.checked_mul(8),
            (_, Some(class)) if (1..=4).contains(&(class / 10)) && (1..=3).contains(&(class % 10)) => {
                Some((class / 10) * 8 + (class % 10) * 2)
            }
            _ => None,
        },
    };
    class.ok_or_else(|| Error::bad_value(word, "write a class such as BE, EF, CS1 or AF11"))
}

fn dscp(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    words.at_most_one(&["--dscp", "--dscp-class"])?;
    let given = words.given.iter().map(|given| {
        let class = match given.name {
            "--dscp" => number(given.value(), 0, 63)?,
            _ => dscp_class(given.value())?.into(),
        };
        let test = Match::Number(NumberMatch::masked(Number::TrafficClass, u64::from(class) << 2, 0xfc));
        Ok(when(test, given.negated))
    });
    given.collect()
}

/// The names of RFC 1349.
const TOS_NAMES: &[(&str, u32)] = &[
    ("Minimize-Delay", 0x10),
    ("Maximize-Throughput", 0x08),
    ("Maximize-Reliability", 0x04),
    ("Minimize-Cost", 0x02),
    ("Normal-Service", 0x00),
];

/// A type of service and its mask: a name counts under the mask given.
pub(in super::super) fn type_of_service(word: &Word, mask_of_name: u32) -> Result<(u8, u8), Error> {
    let named = TOS_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word.text));
    let (value, mask) = match named {
        Some((_, value)) => (*value, mask_of_name),
        None => super::value_and_mask(word, 255)?,
    };
    Ok((value as u8, mask as u8))
}

fn tos(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let (value, mask) = type_of_service(given.value(), 0x3f)?;
        let test = Match::Number(NumberMatch::masked(Number::TrafficClass, value.into(), mask.into()));
        Ok(when(test, given.negated))
    });
    given.collect()
}

fn ecn(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut conditions = Vec::new();
    for given in words.given {
        let test = match given.name {
            "--ecn-ip-ect" => {
                let class = number(given.value(), 0, 3)?;
                Match::Number(NumberMatch::masked(Number::TrafficClass, class.into(), 3))
            }
            _ if words.protocol != Some(Protocol::TCP) => {
                return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs -p tcp"));
            }
            "--ecn-tcp-cwr" => Match::TcpFlags { mask: 0x80, set: 0x80 },
            _ => Match::TcpFlags { mask: 0x40, set: 0x40 },
        };
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn tcpmss(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter();
    given
        .map(|given| {
            let range = number_range(given.value(), 65_535)?;
            if range.0 > range.1 {
                return Err(Error::bad_value(given.value(), "write the lower number first"));
            }
            Ok(when(ranged(Number::TcpMss, range), given.negated))
        })
        .collect()
}

fn address_type(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let limit = match words.at_most_one(&["--limit-iface-in", "--limit-iface-out"])? {
        Some(given) if given.name == "--limit-iface-in" => Some((given, Limit::In)),
        Some(given) => Some((given, Limit::Out)),
        None => None,
    };
    let types: Vec<_> = words.given.iter().filter(|given| given.name.ends_with("-type")).collect();
    if types.is_empty() {
        return Err(words.missing("write --src-type or --dst-type"));
    }
    if let (Some((given, limit)), Some(chain)) = (limit, words.built_in) {
        let unfit: &[&str] = match limit {
            Limit::In => &["POSTROUTING", "OUTPUT"],
            Limit::Out => &["PREROUTING", "INPUT"],
        };
        if unfit.contains(&chain) {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "no packet of this chain has that interface"));
        }
    }
    let limit = limit.map(|(_, limit)| limit);
    let mut conditions = Vec::new();
    for given in types {
        let Some(types) = address_types(given.value())? else { return Ok(words.unknown()) };
        if words.family == Family::V6 && types.0 & AddressTypes::BROADCAST.0 != 0 {
            return Err(Error::bad_value(given.value(), "IPv6 has no broadcast addresses"));
        }
        if words.family == Family::V6 && types.0.count_ones() > 1 {
            // Of several types Linux wants all for IPv6, or one, as they are.
            return Ok(words.unknown());
        }
        let none = AddressTypes::default();
        let (source, destination) = if given.name == "--src-type" { (types, none) } else { (none, types) };
        conditions.push(when(Match::AddressType { source, destination, limit }, given.negated));
    }
    Ok(conditions)
}

/// The address types; `None` where one is known to iptables only.
fn address_types(word: &Word) -> Result<Option<AddressTypes>, Error> {
    let mut types = AddressTypes::default();
    let mut all_known = true;
    for name in word.text.split(',') {
        types = types.union(match name.to_ascii_uppercase().as_str() {
            "LOCAL" => AddressTypes::LOCAL,
            "UNICAST" => AddressTypes::UNICAST,
            "BROADCAST" => AddressTypes::BROADCAST,
            "MULTICAST" => AddressTypes::MULTICAST,
            "UNSPEC" => AddressTypes::UNSPEC,
            "ANYCAST" => AddressTypes::ANYCAST,
            "BLACKHOLE" => AddressTypes::BLACKHOLE,
            "UNREACHABLE" => AddressTypes::UNREACHABLE,
            "PROHIBIT" => AddressTypes::PROHIBIT,
            "THROW" | "NAT" | "XRESOLVE" => {
                all_known = false;
                AddressTypes::default()
            }
            _ => return Err(Error::bad_value(word, "list some of LOCAL,UNICAST,BROADCAST,MULTICAST,UNSPEC")),
        });
    }
    Ok(all_known.then_some(types))
}

fn address_range(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.given.iter().map(|given| {
        let (first, last) = range_of_addresses(given.value(), words.family)?;
        let test = match given.name {
            "--src-range" => Match::SourceRange(first, last),
            _ => Match::DestinationRange(first, last),
        };
        Ok(when(test, given.negated))
    });
    given.collect()
}

/// `A-B`, or `A` alone.
fn range_of_addresses(word: &Word, family: Family) -> Result<(IpAddr, IpAddr), Error> {
    let parse = || {
        let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
        let (first, last) = (values::address(first, family)?, values::address(last, family)?);
        (first <= last).then_some((first, last))
    };
    parse().ok_or_else(|| Error::bad_value(word, "write two addresses of this family, the lower first: FIRST-LAST"))
}

/// The number of the next header before a routing header, and of options.
const ROUTING_HEADER: u8 = 43;

fn routing(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let is = |offset| Number::Extension { kind: ROUTING_HEADER, offset };
    let mut conditions = vec![when(ranged(is(2), (0, 255)), false)];
    for given in words.given {
        let test = match given.name {
            "--rt-type" => {
                let kind = number(given.value(), 0, u32::MAX)?;
                ranged(is(2), (kind.into(), kind.into()))
            }
            "--rt-segsleft" => ranged(is(3), number_range(given.value(), u32::MAX)?),
            "--rt-len" => {
                let length = number(given.value(), 0, u32::MAX)?;
                ranged(Number::ExtensionLength(ROUTING_HEADER), (length.into(), length.into()))
            }
            _ => continue,
        };
        conditions.push(when(test, given.negated));
    }
    Ok(conditions)
}

fn extension(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let kind = if words.module.name == "hbh" { 0 } else { 60 };
    let mut conditions = vec![when(ranged(Number::ExtensionLength(kind), (0, u64::MAX)), false)];
    for given in words.given.iter().filter(|given| given.name.ends_with("-len")) {
        let length = number(given.value(), 0, u32::MAX)?;
        conditions.push(when(ranged(Number::ExtensionLength(kind), (length.into(), length.into())), given.negated));
    }
    Ok(conditions)
}
