//! Expressions as `nft -j` writes them.

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::Value;

use super::datatype::{Datatype, names, number};
use super::load::Scope;
use crate::netfilter::nft::{
    CtKey, Data, Element, Expression, FibInterface, FibResult, Header, MetaKey, NftVerdict, SetRef, Span,
};
use crate::packet::Family;

/// The expression that cannot be read, in words.
pub(super) type Unread = String;

/// An expression and the type of its values.
pub(super) type Typed = (Expression, Datatype);

pub(super) fn unread(what: &str, value: &Value) -> Unread {
    let text: String = value.to_string().chars().take(80).collect();
    format!("{what} {text}")
}

/// The parts of a key: several where it is a concatenation.
pub(super) fn key(value: &Value, scope: &Scope<'_>) -> Result<Vec<Typed>, Unread> {
    match value.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(|part| expression(part, scope)).collect(),
        None => Ok(vec![expression(value, scope)?]),
    }
}

/// An expression that reads a packet.
pub(super) fn expression(value: &Value, scope: &Scope<'_>) -> Result<Typed, Unread> {
    let fail = || unread("the expression", value);
    let (name, inner) = only(value).ok_or_else(fail)?;
    match name {
        "payload" => payload(inner).ok_or_else(fail),
        "meta" => {
            let key = inner.get("key").or(Some(inner)).and_then(Value::as_str).ok_or_else(fail)?;
            meta(key).ok_or_else(fail)
        }
        "ct" => ct(inner).ok_or_else(fail),
        "tcp option" => tcp_option(inner).ok_or_else(fail),
        "exthdr" => match (inner.get("name").and_then(Value::as_str).and_then(extension), inner.get("field")) {
            (Some(kind), None) => Ok((Expression::ExtensionHeader(kind), Datatype::Boolean)),
            (Some(kind), Some(field)) => extension_field(kind, field).ok_or_else(fail),
            _ => Err(fail()),
        },
        "fib" => fib(inner).ok_or_else(fail),
        "jhash" => hash(inner, scope)?.ok_or_else(fail),
        "ip option" => ip_option(inner).ok_or_else(fail),
        "numgen" if inner.get("mode").and_then(Value::as_str) == Some("inc") => {
            let modulus = whole(inner.get("mod")).ok_or_else(fail)?;
            let offset = whole(inner.get("offset")).unwrap_or(0);
            Ok((Expression::Counter { modulus, offset }, Datatype::Integer(32)))
        }
        "&" | "|" | "^" | "<<" | ">>" => binary(name, inner, scope),
        "map" => {
            let parts = key(inner.get("key").ok_or_else(fail)?, scope)?;
            let data = inner.get("data").ok_or_else(fail)?;
            // The values have the type of what they are used for, which the caller knows.
            let types: Vec<Datatype> = parts.iter().map(|(_, datatype)| *datatype).collect();
            let map = set_ref(data, &types, Some(&[Datatype::Mark]), scope)?;
            let key = parts.into_iter().map(|(part, _)| part).collect();
            Ok((Expression::Map { key, map }, Datatype::Mark))
        }
        _ => Err(fail()),
    }
}

fn binary(name: &str, operands: &Value, scope: &Scope<'_>) -> Result<Typed, Unread> {
    let fail = || unread("the expression", operands);
    let [left, rest @ ..] = operands.as_array().ok_or_else(fail)?.as_slice() else { return Err(fail()) };
    let (mut result, datatype) = expression(left, scope)?;
    if rest.is_empty() {
        return Err(fail());
    }
    for right in rest {
        if let "<<" | ">>" = name {
            let bits = whole::<u8>(Some(right)).ok_or_else(fail)?;
            result = match name {
                "<<" => Expression::ShiftLeft(Box::new(result), bits),
                _ => Expression::ShiftRight(Box::new(result), bits),
            };
            continue;
        }
        let right = match value(right, datatype) {
            Ok(span) if span.first == span.last => Expression::Value(span.first),
            _ => expression(right, scope)?.0,
        };
        let (left, right) = (Box::new(result), Box::new(right));
        result = match name {
            "&" => Expression::And(left, right),
            "|" => Expression::Or(left, right),
            _ => Expression::Xor(left, right),
        };
    }
    Ok((result, datatype))
}

/// A value that is set: a number, or one that is computed.
pub(super) fn operand(given: &Value, datatype: Datatype, scope: &Scope<'_>) -> Result<Expression, Unread> {
    match value(given, datatype) {
        Ok(span) if span.first == span.last => Ok(Expression::Value(span.first)),
        _ => expression(given, scope).map(|(expression, _)| expression),
    }
}

const INVALID: &str = " [invalid type]";

/// The values of a constant.
pub(super) fn value(given: &Value, datatype: Datatype) -> Result<Span, Unread> {
    let fail = || unread("the value", given);
    match given {
        Value::Bool(flag) => Ok(Span::one(u128::from(*flag))),
        Value::Number(number) => {
            if number.as_u64() == Some(0) && datatype == Datatype::Interface {
                return Ok(Span::one(0));
            }
            let number = number.as_u64().map(u128::from).filter(|number| datatype.fits(*number)).ok_or_else(fail)?;
            match datatype {
                Datatype::Name
                | Datatype::Interface
                | Datatype::Text
                | Datatype::Ipv4
                | Datatype::Ipv6
                | Datatype::Object => Err(fail()),
                _ => Ok(Span::one(number)),
            }
        }
        Value::String(word) if word == "*" && datatype != Datatype::Name => Ok(Span { first: 0, last: top(datatype) }),
        Value::String(word) if datatype == Datatype::Name => {
            names(word).map(|(first, last)| Span { first, last }).ok_or_else(fail)
        }
        // nft 1.0.6 prints this for a number of which it forgot the type.
        Value::String(word) if word.ends_with(INVALID) => {
            let number = number(word.trim_end_matches(INVALID)).filter(|number| datatype.fits(*number));
            number.map(Span::one).ok_or_else(fail)
        }
        // No interface.
        Value::String(word) if word == "0" && datatype == Datatype::Interface => Ok(Span::one(0)),
        Value::String(word) => datatype.value(word).map(Span::one).ok_or_else(fail),
        Value::Array(flags) => flag_union(flags, datatype).ok_or_else(fail),
        Value::Object(_) => {
            let (name, inner) = only(given).ok_or_else(fail)?;
            match name {
                "prefix" => {
                    let address = value(inner.get("addr").ok_or_else(fail)?, datatype)?.first;
                    let bits = datatype.bits();
                    let length: u8 = whole(inner.get("len")).filter(|length| *length <= bits).ok_or_else(fail)?;
                    let host = if length == 0 { top(datatype) } else { (1u128 << (bits - length)) - 1 };
                    Ok(Span { first: address & !host, last: address | host })
                }
                "range" => {
                    let [first, last] = inner.as_array().ok_or_else(fail)?.as_slice() else { return Err(fail()) };
                    Ok(Span { first: value(first, datatype)?.first, last: value(last, datatype)?.last })
                }
                "|" => flag_union(inner.as_array().ok_or_else(fail)?, datatype).ok_or_else(fail),
                "elem" => value(inner.get("val").ok_or_else(fail)?, datatype),
                _ => Err(fail()),
            }
        }
        Value::Null => Err(fail()),
    }
}

fn flag_union(flags: &[Value], datatype: Datatype) -> Option<Span> {
    let mut all = 0;
    for flag in flags {
        all |= value(flag, datatype).ok()?.first;
    }
    Some(Span::one(all))
}

const fn top(datatype: Datatype) -> u128 {
    let bits = datatype.bits();
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

/// A set that a rule names, or that it has itself.
pub(super) fn set_ref(
    given: &Value,
    key: &[Datatype],
    data: Option<&[Datatype]>,
    scope: &Scope<'_>,
) -> Result<SetRef, Unread> {
    if let Some(name) = given.as_str().and_then(|name| name.strip_prefix('@')) {
        if !scope.sets.contains_key(name) {
            return Err(format!("the set {name}"));
        }
        return Ok(SetRef::Named(name.into()));
    }
    let list = given.get("set").and_then(Value::as_array).ok_or_else(|| unread("the set", given))?;
    elements(list, key, data).map(SetRef::Anonymous)
}

/// The elements of a set; of a map, if there are types of data.
pub(super) fn elements(list: &[Value], key: &[Datatype], data: Option<&[Datatype]>) -> Result<Vec<Element>, Unread> {
    let element = |given: &Value| {
        let fail = || unread("the element", given);
        match data {
            None => Ok(Element { key: spans(given, key)?, data: Data::None, expires: expires(given)? }),
            Some(types) => {
                let [given_key, value] = given.as_array().ok_or_else(fail)?.as_slice() else { return Err(fail()) };
                let data = match verdict(value) {
                    Some(verdict) => Data::Verdict(verdict),
                    None if types == [Datatype::Object] => Data::Object(value.as_str().ok_or_else(fail)?.into()),
                    None => Data::Values(spans(value, types)?),
                };
                Ok(Element { key: spans(given_key, key)?, data, expires: expires(given_key)? })
            }
        }
    };
    list.iter().map(element).collect()
}

/// Time until an element is removed, in milliseconds. One with a limit of its own is not known.
fn expires(given: &Value) -> Result<Option<u64>, Unread> {
    let Some(("elem", inner)) = only(given) else { return Ok(None) };
    if inner.get("stmt").is_some() || inner.get("limit").is_some() || inner.get("quota").is_some() {
        return Err(unread("the element", given));
    }
    Ok(inner.get("expires").or_else(|| inner.get("timeout")).and_then(super::load::milliseconds))
}

fn spans(given: &Value, types: &[Datatype]) -> Result<Box<[Span]>, Unread> {
    let given = match only(given) {
        Some(("elem", inner)) => inner.get("val").unwrap_or(given),
        _ => given,
    };
    let fail = || unread("the element", given);
    match only(given) {
        Some(("concat", parts)) => {
            let parts = parts.as_array().ok_or_else(fail)?;
            // Data may have an address without a port.
            if parts.len() > types.len() {
                return Err(fail());
            }
            parts.iter().zip(types).map(|(part, datatype)| value(part, *datatype)).collect()
        }
        _ => {
            let datatype = types.first().ok_or_else(fail)?;
            Ok(Box::new([value(given, *datatype)?]))
        }
    }
}

/// A verdict, if it is one.
pub(super) fn verdict(given: &Value) -> Option<NftVerdict> {
    let (name, inner) = only(given)?;
    let target = || inner.get("target").and_then(Value::as_str).map(ToString::to_string);
    Some(match name {
        "accept" => NftVerdict::Accept,
        "drop" => NftVerdict::Drop,
        "continue" => NftVerdict::Continue,
        "return" => NftVerdict::Return,
        "jump" => NftVerdict::Jump(target()?),
        "goto" => NftVerdict::Goto(target()?),
        _ => return None,
    })
}

/// The only member of an object.
pub(super) fn only(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.iter().next().map(|(name, inner)| (name.as_str(), inner))
}

/// A word, or a list of words.
pub(super) fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(word) => vec![word],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A whole number, also where it is written as a text.
pub(super) fn whole<T: TryFrom<u128>>(value: Option<&Value>) -> Option<T> {
    let number = match value? {
        Value::Number(given) => u128::from(given.as_u64()?),
        Value::String(word) => number(word)?,
        _ => return None,
    };
    T::try_from(number).ok()
}

fn payload(inner: &Value) -> Option<Typed> {
    if let Some(base) = inner.get("base").and_then(Value::as_str) {
        let header = match base {
            "nh" => Header::Network,
            "th" => Header::Transport,
            _ => return None,
        };
        let bits: u16 = whole(inner.get("len")).filter(|bits| (1..=128).contains(bits))?;
        let offset = whole(inner.get("offset"))?;
        return Some((Expression::Payload { header, offset, bits }, Datatype::Integer(bits as u8)));
    }
    let protocol = inner.get("protocol")?.as_str()?;
    let field = inner.get("field")?.as_str()?;
    let (header, fields): (Header, &[(&str, u16, Datatype)]) = match protocol {
        "ip" => (Header::Ipv4, IPV4),
        "ip6" => (Header::Ipv6, IPV6),
        "tcp" => (Header::Protocol(6), TCP),
        "udp" => (Header::Protocol(17), UDP),
        "udplite" => (Header::Protocol(136), UDP),
        "sctp" => (Header::Protocol(132), SCTP),
        "dccp" => (Header::Protocol(33), PORTS),
        "th" => (Header::Transport, PORTS),
        "icmp" => (Header::Protocol(1), ICMP),
        "icmpv6" => (Header::Protocol(58), ICMPV6),
        "esp" => (Header::Protocol(50), ESP),
        "ah" => (Header::Protocol(51), AH),
        "comp" => (Header::Protocol(108), COMP),
        "igmp" => (Header::Protocol(2), IGMP),
        _ => return None,
    };
    let (_, offset, datatype) = fields.iter().find(|(name, ..)| *name == field)?;
    let bits = u16::from(datatype.bits());
    Some((Expression::Payload { header, offset: *offset, bits }, *datatype))
}

const IPV4: &[(&str, u16, Datatype)] = &[
    ("version", 0, Datatype::Integer(4)),
    ("hdrlength", 4, Datatype::Integer(4)),
    ("dscp", 8, Datatype::Dscp),
    ("ecn", 14, Datatype::Ecn),
    ("length", 16, Datatype::Integer(16)),
    ("id", 32, Datatype::Integer(16)),
    ("frag-off", 48, Datatype::Integer(16)),
    ("ttl", 64, Datatype::Integer(8)),
    ("protocol", 72, Datatype::Protocol),
    ("checksum", 80, Datatype::Integer(16)),
    ("saddr", 96, Datatype::Ipv4),
    ("daddr", 128, Datatype::Ipv4),
];

const IPV6: &[(&str, u16, Datatype)] = &[
    ("version", 0, Datatype::Integer(4)),
    ("dscp", 4, Datatype::Dscp),
    ("ecn", 10, Datatype::Ecn),
    ("flowlabel", 12, Datatype::Integer(20)),
    ("length", 32, Datatype::Integer(16)),
    ("nexthdr", 48, Datatype::Protocol),
    ("hoplimit", 56, Datatype::Integer(8)),
    ("saddr", 64, Datatype::Ipv6),
    ("daddr", 192, Datatype::Ipv6),
];

const PORTS: &[(&str, u16, Datatype)] = &[("sport", 0, Datatype::Port), ("dport", 16, Datatype::Port)];

const TCP: &[(&str, u16, Datatype)] = &[
    ("sport", 0, Datatype::Port),
    ("dport", 16, Datatype::Port),
    ("sequence", 32, Datatype::Integer(32)),
    ("ackseq", 64, Datatype::Integer(32)),
    ("doff", 96, Datatype::Integer(4)),
    ("reserved", 100, Datatype::Integer(4)),
    ("flags", 104, Datatype::TcpFlags),
    ("window", 112, Datatype::Integer(16)),
    ("checksum", 128, Datatype::Integer(16)),
    ("urgptr", 144, Datatype::Integer(16)),
];

const UDP: &[(&str, u16, Datatype)] = &[
    ("sport", 0, Datatype::Port),
    ("dport", 16, Datatype::Port),
    ("length", 32, Datatype::Integer(16)),
    ("csumcov", 32, Datatype::Integer(16)),
    ("checksum", 48, Datatype::Integer(16)),
];

const SCTP: &[(&str, u16, Datatype)] = &[
    ("sport", 0, Datatype::Port),
    ("dport", 16, Datatype::Port),
    ("vtag", 32, Datatype::Integer(32)),
    ("checksum", 64, Datatype::Integer(32)),
];

const ICMP: &[(&str, u16, Datatype)] = &[
    ("type", 0, Datatype::IcmpType),
    ("code", 8, Datatype::IcmpCode),
    ("checksum", 16, Datatype::Integer(16)),
    ("id", 32, Datatype::Integer(16)),
    ("sequence", 48, Datatype::Integer(16)),
    ("gateway", 32, Datatype::Integer(32)),
    ("mtu", 48, Datatype::Integer(16)),
];

const ICMPV6: &[(&str, u16, Datatype)] = &[
    ("type", 0, Datatype::Icmpv6Type),
    ("code", 8, Datatype::Icmpv6Code),
    ("checksum", 16, Datatype::Integer(16)),
    ("parameter-problem", 32, Datatype::Integer(32)),
    ("packet-too-big", 32, Datatype::Integer(32)),
    ("id", 32, Datatype::Integer(16)),
    ("sequence", 48, Datatype::Integer(16)),
    ("max-delay", 32, Datatype::Integer(16)),
];

const ESP: &[(&str, u16, Datatype)] = &[("spi", 0, Datatype::Integer(32)), ("sequence", 32, Datatype::Integer(32))];

const AH: &[(&str, u16, Datatype)] = &[
    ("nexthdr", 0, Datatype::Protocol),
    ("hdrlength", 8, Datatype::Integer(8)),
    ("reserved", 16, Datatype::Integer(16)),
    ("spi", 32, Datatype::Integer(32)),
    ("sequence", 64, Datatype::Integer(32)),
];

const COMP: &[(&str, u16, Datatype)] =
    &[("nexthdr", 0, Datatype::Protocol), ("flags", 8, Datatype::Integer(8)), ("cpi", 16, Datatype::Integer(16))];

const IGMP: &[(&str, u16, Datatype)] = &[
    ("type", 0, Datatype::Integer(8)),
    ("mrt", 8, Datatype::Integer(8)),
    ("checksum", 16, Datatype::Integer(16)),
    ("group", 32, Datatype::Ipv4),
];

/// The fields of IPv6 extension headers, by the header's number.
const EXTENSION_FIELDS: &[(u8, &str, u16, Datatype)] = &[
    (0, "nexthdr", 0, Datatype::Protocol),
    (0, "hdrlength", 8, Datatype::Integer(8)),
    (43, "nexthdr", 0, Datatype::Protocol),
    (43, "hdrlength", 8, Datatype::Integer(8)),
    (43, "type", 16, Datatype::Integer(8)),
    (43, "seg-left", 24, Datatype::Integer(8)),
    (44, "nexthdr", 0, Datatype::Protocol),
    (44, "reserved", 8, Datatype::Integer(8)),
    (44, "frag-off", 16, Datatype::Integer(13)),
    (44, "reserved2", 29, Datatype::Integer(2)),
    (44, "more-fragments", 31, Datatype::Integer(1)),
    (44, "id", 32, Datatype::Integer(32)),
    (60, "nexthdr", 0, Datatype::Protocol),
    (60, "hdrlength", 8, Datatype::Integer(8)),
    (135, "nexthdr", 0, Datatype::Protocol),
    (135, "hdrlength", 8, Datatype::Integer(8)),
    (135, "type", 16, Datatype::Integer(8)),
];

fn extension_field(kind: u8, field: &Value) -> Option<Typed> {
    let field = field.as_str()?;
    let (.., offset, datatype) = EXTENSION_FIELDS.iter().find(|(of, name, ..)| *of == kind && *name == field)?;
    let bits = u16::from(datatype.bits());
    Some((Expression::ExtensionField { kind, offset: *offset, bits }, *datatype))
}

fn ip_option(inner: &Value) -> Option<Typed> {
    let kind = match inner.get("name")?.as_str()? {
        "rr" => 7,
        "lsrr" => 131,
        "ssrr" => 137,
        "ra" => 148,
        _ => return None,
    };
    let Some(field) = inner.get("field").and_then(Value::as_str) else {
        return Some((Expression::IpOption { kind, offset: 0, bits: 0 }, Datatype::Boolean));
    };
    let (offset, bits) = match (kind, field) {
        (_, "type") => (0, 8),
        (_, "length") => (8, 8),
        (148, "value") => (16, 16),
        (7 | 131 | 137, "ptr") => (16, 8),
        _ => return None,
    };
    Some((Expression::IpOption { kind, offset, bits }, Datatype::Integer(bits as u8)))
}

fn fib(inner: &Value) -> Option<Typed> {
    let (mut source, mut interface) = (None, FibInterface::Any);
    for flag in words(inner.get("flags")?) {
        match flag {
            "saddr" => source = Some(true),
            "daddr" => source = Some(false),
            "iif" => interface = FibInterface::In,
            "oif" => interface = FibInterface::Out,
            _ => return None,
        }
    }
    let (result, datatype) = match inner.get("result")?.as_str()? {
        "type" => (FibResult::Type, Datatype::RouteType),
        "oif" => (FibResult::Interface, Datatype::Interface),
        "oifname" => (FibResult::Interface, Datatype::Name),
        _ => return None,
    };
    Some((Expression::Fib { source: source?, interface, result }, datatype))
}

/// A hash with a seed. Without one, the kernel draws it, and what it gives is not known.
fn hash(inner: &Value, scope: &Scope<'_>) -> Result<Option<Typed>, Unread> {
    let (Some(modulus), Some(seed)) = (whole(inner.get("mod")), whole(inner.get("seed"))) else { return Ok(None) };
    let Some(given) = inner.get("expr") else { return Ok(None) };
    let mut parts = Vec::new();
    for (part, datatype) in key(given, scope)? {
        // A value that does not come from a header has the byte order of the machine.
        if !matches!(part, Expression::Payload { .. }) {
            return Ok(None);
        }
        parts.push((part, datatype.bits()));
    }
    let offset = whole(inner.get("offset")).unwrap_or(0);
    Ok(Some((Expression::Hash { key: parts, modulus, seed, offset }, Datatype::Integer(32))))
}

fn meta(key: &str) -> Option<Typed> {
    let (key, datatype) = match key {
        "mark" => (MetaKey::Mark, Datatype::Mark),
        "iifname" => (MetaKey::InName, Datatype::Name),
        "oifname" => (MetaKey::OutName, Datatype::Name),
        "iif" => (MetaKey::InName, Datatype::Interface),
        "oif" => (MetaKey::OutName, Datatype::Interface),
        "l4proto" => (MetaKey::Layer4Protocol, Datatype::Protocol),
        "nfproto" => (MetaKey::Family, Datatype::Family),
        "protocol" => (MetaKey::EtherType, Datatype::EtherType),
        "length" => (MetaKey::Length, Datatype::Integer(32)),
        "pkttype" => (MetaKey::PacketType, Datatype::PacketType),
        "skuid" | "skgid" => (MetaKey::SocketUser, Datatype::User),
        "time" => (MetaKey::Time, Datatype::Time),
        "day" => (MetaKey::Day, Datatype::Day),
        "hour" => (MetaKey::Hour, Datatype::Hour),
        _ => return None,
    };
    Some((Expression::Meta(key), datatype))
}

fn ct(inner: &Value) -> Option<Typed> {
    let key = inner.get("key")?.as_str()?;
    let direction = match inner.get("dir").and_then(Value::as_str) {
        None => None,
        Some("original") => Some(false),
        Some("reply") => Some(true),
        Some(_) => return None,
    };
    let family = match inner.get("family").and_then(Value::as_str).or_else(|| key.split_once(' ').map(|(f, _)| f)) {
        Some("ip") => Some(Family::V4),
        Some("ip6") => Some(Family::V6),
        _ => None,
    };
    let address = |source: bool| {
        let datatype = if family == Some(Family::V6) { Datatype::Ipv6 } else { Datatype::Ipv4 };
        Some((CtKey::Address { reply: direction?, source, family }, datatype))
    };
    let (key, datatype) = match key {
        "state" => (CtKey::State, Datatype::State),
        "status" => (CtKey::Status, Datatype::Status),
        "mark" => (CtKey::Mark, Datatype::Mark),
        "direction" => (CtKey::Direction, Datatype::Direction),
        "helper" => (CtKey::Helper, Datatype::Text),
        "zone" => (CtKey::Zone, Datatype::Integer(16)),
        "l3proto" => (CtKey::Family, Datatype::Family),
        "protocol" => (CtKey::Protocol, Datatype::Protocol),
        "saddr" | "ip saddr" | "ip6 saddr" => address(true)?,
        "daddr" | "ip daddr" | "ip6 daddr" => address(false)?,
        "proto-src" => (CtKey::Port { reply: direction?, source: true }, Datatype::Port),
        "proto-dst" => (CtKey::Port { reply: direction?, source: false }, Datatype::Port),
        "avgpkt" => (CtKey::AveragePacket { reply: direction }, Datatype::Integer(64)),
        "packets" => (CtKey::Packets { reply: direction }, Datatype::Integer(64)),
        "bytes" => (CtKey::Bytes { reply: direction }, Datatype::Integer(64)),
        _ => return None,
    };
    Some((Expression::Ct(key), datatype))
}

fn tcp_option(inner: &Value) -> Option<Typed> {
    let kind = match inner.get("name")?.as_str()? {
        "eol" => 0,
        "nop" => 1,
        "maxseg" => 2,
        "window" => 3,
        "sack-perm" => 4,
        "sack" => 5,
        "timestamp" => 8,
        "md5sig" => 19,
        "fastopen" => 34,
        _ => return None,
    };
    let Some(field) = inner.get("field").and_then(Value::as_str) else {
        return Some((Expression::TcpOption { kind, offset: 0, bits: 0 }, Datatype::Boolean));
    };
    let (offset, bits) = match (kind, field) {
        (2, "size") => (16, 16),
        (3, "count") => (16, 8),
        (8, "tsval") => (16, 32),
        (8, "tsecr") => (48, 32),
        _ => return None,
    };
    Some((Expression::TcpOption { kind, offset, bits }, Datatype::Integer(bits as u8)))
}

fn extension(name: &str) -> Option<u8> {
    Some(match name {
        "hbh" => 0,
        "rt" | "rt0" | "rt2" | "srh" => 43,
        "frag" => 44,
        "dst" => 60,
        "mh" => 135,
        _ => return None,
    })
}
