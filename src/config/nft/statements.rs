//! Statements as `nft -j` writes them.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::Value;

use super::datatype::{Datatype, ICMP_CODES, ICMPV6_CODES};
use super::expressions::{
    Typed, Unread, elements, expression, key, only, operand, set_ref, unread, value, verdict, whole, words,
};
use super::load::{Scope, milliseconds};
use crate::netfilter::nft::{
    Data, Element, Expression, FibResult, Meter, NatKind, NatStatement, NatValue, NftSet, ObjectRef, Operator,
    SetAction, SetRef, Statement, TableFamily,
};
use crate::netfilter::{PacketEdit, RejectWith};
use crate::packet::Family;

/// Reads a statement; none for one that only counts.
pub(super) fn statement(given: &Value, scope: &Scope<'_>) -> Result<Option<Statement>, Unread> {
    let fail = || unread("the statement", given);
    if let Some(verdict) = verdict(given) {
        return Ok(Some(Statement::Verdict(verdict)));
    }
    // `notrack` and others may be written as a word.
    if let Some(word) = given.as_str() {
        return bare(word, scope).ok_or_else(fail);
    }
    let (name, inner) = only(given).ok_or_else(fail)?;
    Ok(Some(match name {
        "match" => return comparison(inner, scope).map(Some),
        "vmap" => {
            let parts = key(inner.get("key").ok_or_else(fail)?, scope)?;
            let types: Vec<Datatype> = parts.iter().map(|(_, datatype)| *datatype).collect();
            let map = set_ref(inner.get("data").ok_or_else(fail)?, &types, Some(&[]), scope)?;
            Statement::VerdictMap { key: parts.into_iter().map(|(part, _)| part).collect(), map }
        }
        "mangle" if is_without_effect(inner) => return Ok(None),
        "mangle" => mangle(inner, scope)?,
        "ct helper" => Statement::SetHelper(object(inner, scope.helpers, scope)?),
        "ct count" => Statement::Count {
            bound: whole(inner.get("val")).ok_or_else(fail)?,
            over: inner.get("inv").and_then(Value::as_bool).unwrap_or(false),
        },
        "set" => update(inner, scope)?,
        "meter" => per_element(inner, scope)?,
        "snat" | "dnat" | "masquerade" | "redirect" => nat(name, inner, scope)?,
        "reject" => reject(inner, scope).ok_or_else(fail)?,
        "log" => {
            let prefix = inner.get("prefix").and_then(Value::as_str).unwrap_or_default();
            Statement::Log { prefix: prefix.to_string() }
        }
        "limit" | "quota" if inner.is_string() || inner.get("map").is_some() => {
            Statement::NamedMeter(object(inner, scope.meters, scope)?)
        }
        "limit" => Statement::Meter(limit(inner).ok_or_else(fail)?),
        "quota" => Statement::Meter(quota(inner).ok_or_else(fail)?),
        "counter" | "last" | "flow" | "ct timeout" => return Ok(None),
        "notrack" => Statement::NoTrack,
        _ => return Err(fail()),
    }))
}

fn bare(word: &str, scope: &Scope<'_>) -> Option<Option<Statement>> {
    Some(match word {
        "notrack" => Some(Statement::NoTrack),
        "counter" => None,
        "log" => Some(Statement::Log { prefix: "".to_string() }),
        "reject" => reject(&Value::Null, scope),
        "masquerade" | "redirect" => nat(word, &Value::Null, scope).ok(),
        _ => return None,
    })
}

/// An object by its name, or by a map that has names.
fn object(given: &Value, known: &[String], scope: &Scope<'_>) -> Result<ObjectRef, Unread> {
    let fail = || unread("the object", given);
    if let Some(name) = given.as_str() {
        return known.iter().find(|known| *known == name).cloned().map(ObjectRef::Named).ok_or_else(fail);
    }
    let map = given.get("map").ok_or_else(fail)?;
    let parts = key(map.get("key").ok_or_else(fail)?, scope)?;
    let types: Vec<Datatype> = parts.iter().map(|(_, datatype)| *datatype).collect();
    let set = set_ref(map.get("data").ok_or_else(fail)?, &types, Some(&[Datatype::Object]), scope)?;
    if let SetRef::Anonymous(elements) = &set {
        let is_known = |element: &Element| matches!(&element.data, Data::Object(name) if known.contains(name));
        if !elements.iter().all(is_known) {
            return Err(fail());
        }
    }
    Ok(ObjectRef::Map { key: parts.into_iter().map(|(part, _)| part).collect(), map: set })
}

/// True for what only other parts of the kernel look at.
fn is_without_effect(inner: &Value) -> bool {
    let target = inner.get("key").and_then(only);
    let key = target.and_then(|(_, what)| what.get("key")).and_then(Value::as_str).unwrap_or_default();
    match target {
        Some(("meta", _)) => matches!(key, "nftrace" | "priority" | "secmark"),
        Some(("ct", _)) => matches!(key, "label" | "event" | "secmark"),
        _ => false,
    }
}

/// `add @set { … }`.
fn update(inner: &Value, scope: &Scope<'_>) -> Result<Statement, Unread> {
    let fail = || unread("the update", inner);
    let action = match inner.get("op").and_then(Value::as_str) {
        Some("add") => SetAction::Add,
        Some("update") => SetAction::Update,
        Some("delete") => SetAction::Delete,
        _ => return Err(fail()),
    };
    let set = inner.get("set").and_then(Value::as_str).and_then(|name| name.strip_prefix('@')).ok_or_else(fail)?;
    let known = scope.sets.get(set).ok_or_else(fail)?;
    let (parts, timeout) = timed_key(inner.get("elem").ok_or_else(fail)?, scope)?;
    let bits: u32 = known.iter().map(|datatype| u32::from(datatype.bits())).sum();
    if known.len() != parts.len() || bits > MAX_KEY_BITS {
        return Err(fail());
    }
    let mut meter = None;
    for one in inner.get("stmt").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        match statement(one, scope)? {
            None => {}
            Some(Statement::Meter(one)) if meter.is_none() => meter = Some(one),
            Some(_) => return Err(fail()),
        }
    }
    let key = parts.into_iter().map(|(part, _)| part).collect();
    Ok(Statement::Update { action, key, set: set.into(), timeout, meter })
}

/// Maximum number of bits of a key that rules add.
const MAX_KEY_BITS: u32 = 384;

/// A key, and how long its element lasts, in milliseconds.
fn timed_key(given: &Value, scope: &Scope<'_>) -> Result<(Vec<Typed>, Option<u64>), Unread> {
    match only(given) {
        Some(("elem", inner)) => {
            let value = inner.get("val").ok_or_else(|| unread("the key", given))?;
            Ok((key(value, scope)?, inner.get("timeout").and_then(milliseconds)))
        }
        _ => Ok((key(given, scope)?, None)),
    }
}

/// `meter NAME { … }`: a set that only this rule updates.
fn per_element(inner: &Value, scope: &Scope<'_>) -> Result<Statement, Unread> {
    let fail = || unread("the meter", inner);
    let name = inner.get("name").and_then(Value::as_str).ok_or_else(fail)?;
    let (parts, timeout) = timed_key(inner.get("key").ok_or_else(fail)?, scope)?;
    let Some(Statement::Meter(meter)) = statement(inner.get("stmt").ok_or_else(fail)?, scope)? else {
        return Err(fail());
    };
    let widths: Vec<u8> = parts.iter().map(|(_, datatype)| datatype.bits()).collect();
    if widths.iter().map(|bits| u32::from(*bits)).sum::<u32>() > MAX_KEY_BITS {
        return Err(fail());
    }
    scope.meter_sets.borrow_mut().push(NftSet {
        name: name.into(),
        parts: widths,
        elements: Vec::new(),
        size: whole(inner.get("size")).unwrap_or(u32::from(u16::MAX)),
        timeout: None,
    });
    let key = parts.into_iter().map(|(part, _)| part).collect();
    Ok(Statement::Update { action: SetAction::Update, key, set: name.into(), timeout, meter: Some(meter) })
}

fn comparison(inner: &Value, scope: &Scope<'_>) -> Result<Statement, Unread> {
    let fail = || unread("the match", inner);
    let operator = inner.get("op").and_then(Value::as_str).unwrap_or("==");
    let (left, right) = (inner.get("left").ok_or_else(fail)?, inner.get("right").ok_or_else(fail)?);
    let mut parts = key(left, scope)?;
    // `fib … oif exists` asks for less than the interface.
    if let ([(Expression::Fib { result, .. }, datatype)], true) = (parts.as_mut_slice(), right.is_boolean())
        && *result == FibResult::Interface
    {
        (*result, *datatype) = (FibResult::Exists, Datatype::Boolean);
    }
    let negated = match operator {
        "!=" => true,
        "==" | "in" => false,
        _ => return compare(operator, parts, right),
    };
    let is_set = right.get("set").is_some() || right.as_str().is_some_and(|word| word.starts_with('@'));
    if is_set || parts.len() > 1 {
        let types: Vec<Datatype> = parts.iter().map(|(_, datatype)| *datatype).collect();
        let key: Vec<Expression> = parts.into_iter().map(|(part, _)| part).collect();
        let set = if is_set {
            set_ref(right, &types, None, scope)?
        } else {
            elements(core::slice::from_ref(right), &types, None).map(SetRef::Anonymous)?
        };
        if let SetRef::Named(name) = &set
            && scope.sets.get(name.as_str()).is_some_and(|types| types.len() != key.len())
        {
            return Err(fail());
        }
        return Ok(Statement::Lookup { key, set, negated });
    }
    compare(operator, parts, right)
}

fn compare(operator: &str, parts: Vec<(Expression, Datatype)>, right: &Value) -> Result<Statement, Unread> {
    let fail = || unread("the match", right);
    let [(left, datatype)] = <[_; 1]>::try_from(parts).map_err(|_| fail())?;
    let right = value(right, datatype)?;
    let operator = match operator {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::AtMost,
        ">" => Operator::More,
        ">=" => Operator::AtLeast,
        "in" => Operator::AnyBit,
        "!" => Operator::NoBit,
        _ => return Err(fail()),
    };
    Ok(Statement::Match { left, operator, right: vec![right] })
}

fn mangle(inner: &Value, scope: &Scope<'_>) -> Result<Statement, Unread> {
    let fail = || unread("the change", inner);
    let (target, given) = (inner.get("key").ok_or_else(fail)?, inner.get("value").ok_or_else(fail)?);
    let (name, what) = only(target).ok_or_else(fail)?;
    let key = what.get("key").and_then(Value::as_str).unwrap_or_default();
    match (name, key) {
        ("meta", "mark") => Ok(Statement::SetMark(operand(given, Datatype::Mark, scope)?)),
        ("ct", "mark") => Ok(Statement::SetCtMark(operand(given, Datatype::Mark, scope)?)),
        ("ct", "zone") if what.get("dir").is_none() => {
            Ok(Statement::SetZone(operand(given, Datatype::Integer(16), scope)?))
        }
        ("payload", _) => edit(what, given).ok_or_else(fail),
        ("tcp option", _) if what.get("name").and_then(Value::as_str) == Some("maxseg") => {
            if let Some(("rt", rt)) = only(given) {
                return match rt.get("key").and_then(Value::as_str) {
                    Some("mtu") => Ok(Statement::MaxSeg(None)),
                    _ => Err(fail()),
                };
            }
            whole(Some(given)).map(|size| Statement::MaxSeg(Some(size))).ok_or_else(fail)
        }
        _ => Err(fail()),
    }
}

/// A change of a header that every packet of the family has.
fn edit(target: &Value, given: &Value) -> Option<Statement> {
    let field = |key: &str| target.get(key).and_then(Value::as_str);
    let of = |datatype| value(given, datatype).ok().filter(|span| span.first == span.last).map(|span| span.first as u8);
    Some(Statement::Edit(match (field("protocol")?, field("field")?) {
        ("ip", "ttl") | ("ip6", "hoplimit") => PacketEdit::SetHopLimit(of(Datatype::Integer(8))?),
        ("ip" | "ip6", "dscp") => PacketEdit::TrafficClass { value: of(Datatype::Dscp)? << 2, mask: 0xfc },
        ("ip" | "ip6", "ecn") => PacketEdit::TrafficClass { value: of(Datatype::Ecn)?, mask: 0x03 },
        _ => return None,
    }))
}

/// The family of the addresses of a translation, where the rule does not name it.
fn family_of(given: &Value) -> Option<Family> {
    let word = match given {
        Value::String(word) => word,
        Value::Array(list) => return list.iter().find_map(family_of),
        Value::Object(map) => {
            let of = |key: &str| map.get(key).and_then(family_of);
            return of("addr")
                .or_else(|| of("range"))
                .or_else(|| of("prefix"))
                .or_else(|| of("concat"))
                .or_else(|| map.get("map").and_then(|map| map.get("data")).and_then(family_of))
                .or_else(|| map.get("set")?.as_array()?.first()?.as_array()?.get(1).and_then(family_of));
        }
        _ => return None,
    };
    match word.parse::<core::net::IpAddr>().ok()? {
        core::net::IpAddr::V4(_) => Some(Family::V4),
        core::net::IpAddr::V6(_) => Some(Family::V6),
    }
}

fn nat(name: &str, inner: &Value, scope: &Scope<'_>) -> Result<Statement, Unread> {
    let fail = || unread("the translation", inner);
    let kind = match name {
        "snat" => NatKind::Snat,
        "dnat" => NatKind::Dnat,
        "masquerade" => NatKind::Masquerade,
        _ => NatKind::Redirect,
    };
    let family = match (inner.get("family").and_then(Value::as_str), scope.family) {
        (Some("ip"), _) | (None, TableFamily::Ip) => Some(Family::V4),
        (Some("ip6"), _) | (None, TableFamily::Ip6) => Some(Family::V6),
        (None, TableFamily::Inet) => inner.get("addr").and_then(family_of),
        _ => return Err(fail()),
    };
    let datatype = if family == Some(Family::V6) { Datatype::Ipv6 } else { Datatype::Ipv4 };
    let address = inner.get("addr").map(|given| nat_value(given, &[datatype, Datatype::Port], scope)).transpose()?;
    if address.is_some() && family.is_none() {
        return Err(fail());
    }
    let port = inner.get("port").map(|given| nat_value(given, &[Datatype::Port], scope)).transpose()?;
    let mut nat = NatStatement { kind, family, address, port, random: false, persistent: false, netmap: false };
    for flag in inner.get("flags").map(words).unwrap_or_default() {
        match flag {
            "random" | "fully-random" => nat.random = true,
            "persistent" => nat.persistent = true,
            "netmap" => nat.netmap = true,
            _ => return Err(fail()),
        }
    }
    match inner.get("type_flags").map(words).unwrap_or_default().as_slice() {
        ["prefix"] => nat.netmap = true,
        [] | ["concat"] | ["interval"] => {}
        _ => return Err(fail()),
    }
    Ok(Statement::Nat(nat))
}

fn nat_value(given: &Value, types: &[Datatype], scope: &Scope<'_>) -> Result<NatValue, Unread> {
    if let Some(("map", map)) = only(given) {
        let fail = || unread("the map", map);
        let parts = key(map.get("key").ok_or_else(fail)?, scope)?;
        let key_types: Vec<Datatype> = parts.iter().map(|(_, datatype)| *datatype).collect();
        let data = set_ref(map.get("data").ok_or_else(fail)?, &key_types, Some(types), scope)?;
        return Ok(NatValue::Map { key: parts.into_iter().map(|(part, _)| part).collect(), map: data });
    }
    let datatype = types.first().copied().unwrap_or(Datatype::Port);
    match value(given, datatype) {
        Ok(span) => Ok(NatValue::Span(span)),
        Err(_) => expression(given, scope).map(|(expression, _)| NatValue::Computed(expression)),
    }
}

fn reject(inner: &Value, scope: &Scope<'_>) -> Option<Statement> {
    let code = |table: &[(&str, u128)]| {
        let given = inner.get("expr")?;
        let named = given.as_str().and_then(|word| table.iter().find(|(name, _)| *name == word));
        match named {
            Some((_, code)) => u8::try_from(*code).ok(),
            None => whole(Some(given)),
        }
    };
    let own = |family: Family| {
        Some(Statement::Reject {
            with: RejectWith::Unreachable(if family == Family::V4 { 3 } else { 4 }),
            family: Some(family),
        })
    };
    let kind = inner.get("type").and_then(Value::as_str);
    Some(match (kind, scope.family) {
        (Some("tcp reset"), _) => Statement::Reject { with: RejectWith::TcpReset, family: None },
        (Some("icmp"), _) => {
            Statement::Reject { with: RejectWith::Unreachable(code(ICMP_CODES)?), family: Some(Family::V4) }
        }
        (Some("icmpv6"), _) => {
            Statement::Reject { with: RejectWith::Unreachable(code(ICMPV6_CODES)?), family: Some(Family::V6) }
        }
        (Some("icmpx"), _) => Statement::Reject { with: RejectWith::EitherFamily(code(ICMPX_CODES)?), family: None },
        (None, TableFamily::Ip) => return own(Family::V4),
        (None, TableFamily::Ip6) => return own(Family::V6),
        (None, TableFamily::Inet) => Statement::Reject { with: RejectWith::EitherFamily(1), family: None },
        _ => return None,
    })
}

/// The codes of `reject with icmpx`, which stand for one of each family.
const ICMPX_CODES: &[(&str, u128)] =
    &[("no-route", 0), ("port-unreachable", 1), ("host-unreachable", 2), ("admin-prohibited", 3)];

/// A limit, in a rule or of its own.
pub(super) fn limit(inner: &Value) -> Option<Meter> {
    let per = match inner.get("per").and_then(Value::as_str).unwrap_or("second") {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 604_800,
        _ => return None,
    };
    let unit = |name: &str| match inner.get(name).and_then(Value::as_str) {
        None | Some("packets") => Some((1, false)),
        Some("bytes") => Some((1, true)),
        Some("kbytes") => Some((1 << 10, true)),
        Some("mbytes") => Some((1 << 20, true)),
        _ => None,
    };
    let (factor, bytes) = unit("rate_unit")?;
    let (burst_factor, _) = unit("burst_unit")?;
    let rate = whole::<u64>(inner.get("rate"))?.checked_mul(factor)?;
    let burst = match inner.get("burst") {
        None if bytes => 0,
        None => 5,
        given => whole::<u64>(given)?.checked_mul(burst_factor)?,
    };
    let over = inner.get("inv").and_then(Value::as_bool).unwrap_or(false);
    Some(Meter::Limit { rate, per, burst, bytes, over })
}

/// A quota, in a rule or of its own.
pub(super) fn quota(inner: &Value) -> Option<Meter> {
    let unit = |name: &str| match inner.get(name).and_then(Value::as_str) {
        None | Some("bytes") => Some(1),
        Some("kbytes") => Some(1 << 10),
        Some("mbytes") => Some(1 << 20),
        _ => None,
    };
    let given = inner.get("val").or_else(|| inner.get("bytes"));
    let bytes = whole::<u64>(given)?.checked_mul(unit("val_unit")?)?;
    let used = whole::<u64>(inner.get("used")).unwrap_or(0).checked_mul(unit("used_unit")?)?;
    let over = inner.get("inv").and_then(Value::as_bool).unwrap_or(false);
    Some(Meter::Quota { bytes, used, over })
}
