//! Expressions as nft prints and reads them, made into what `nft -j` writes.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::cursor::{Cursor, Parsed, Unread};
use super::tokens::Kind;

/// Maximum number of parentheses and braces in each other.
const MAX_DEPTH: usize = 32;

/// The headers whose fields are asked for by a word.
const HEADERS: &[&str] = &[
    "ip", "ip6", "tcp", "udp", "udplite", "sctp", "dccp", "th", "icmp", "icmpv6", "igmp", "esp", "ah", "comp", "ether",
    "vlan", "arp", "gre", "gretap", "vxlan", "geneve",
];

/// The extension headers of IPv6 whose fields are asked for by a word.
const EXTENSIONS: &[&str] = &["hbh", "frag", "dst", "mh", "srh", "rt0", "rt2"];

/// Keys before which `meta` may be left out.
const META: &[&str] = &[
    "mark",
    "iif",
    "iifname",
    "iiftype",
    "iifgroup",
    "oif",
    "oifname",
    "oiftype",
    "oifgroup",
    "skuid",
    "skgid",
    "nftrace",
    "rtclassid",
    "ibriport",
    "obriport",
    "ibrname",
    "obrname",
    "pkttype",
    "cpu",
    "cgroup",
    "ipsec",
    "time",
    "day",
    "hour",
];

/// An expression that reads a packet.
pub(super) fn expression(cursor: &mut Cursor) -> Parsed<Value> {
    nested(cursor, 0)
}

fn nested(cursor: &mut Cursor, depth: usize) -> Parsed<Value> {
    let first = operators(cursor, 0, depth)?;
    let mut parts = vec![first];
    while cursor.take_sign(".") {
        parts.push(operators(cursor, 0, depth)?);
    }
    let value = concatenated(parts);
    if cursor.take_word("map") {
        let data = set(cursor, true)?;
        return Ok(json!({"map": {"key": value, "data": data}}));
    }
    Ok(value)
}

fn concatenated(mut parts: Vec<Value>) -> Value {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => json!({ "concat": parts }),
    }
}

/// The operators from the one that binds least, each as a sign or a word.
const OPERATORS: [(&str, &str); 5] = [("|", "or"), ("^", "xor"), ("&", "and"), ("<<", "lshift"), (">>", "rshift")];

/// Operators of a level and of those that bind closer. Both shifts are one level.
fn operators(cursor: &mut Cursor, level: usize, depth: usize) -> Parsed<Value> {
    let Some(operator) = OPERATORS.get(level) else { return primary(cursor, depth) };
    let is_shift = level == 3;
    let below = |cursor: &mut Cursor| operators(cursor, if is_shift { OPERATORS.len() } else { level + 1 }, depth);
    let mut value = below(cursor)?;
    loop {
        let taken = [operator, &OPERATORS[4]]
            .into_iter()
            .take(if is_shift { 2 } else { 1 })
            .find(|(sign, word)| cursor.take_sign(sign) || cursor.take_word(word));
        let Some((sign, _)) = taken else { return Ok(value) };
        let right = below(cursor)?;
        let mut made = Map::new();
        made.insert((*sign).to_string(), json!([value, right]));
        value = Value::Object(made);
    }
}

fn primary(cursor: &mut Cursor, depth: usize) -> Parsed<Value> {
    if depth > MAX_DEPTH {
        return Err(Unread);
    }
    if cursor.take_sign("(") {
        let value = nested(cursor, depth + 1)?;
        cursor.sign(")")?;
        return Ok(value);
    }
    let start = cursor.position();
    if let Some(read) = field(cursor, depth) {
        return Ok(read);
    }
    cursor.rewind(start);
    constant(cursor)
}

/// A value of the packet; `None` where the words are none.
fn field(cursor: &mut Cursor, depth: usize) -> Option<Value> {
    if let Some(Kind::At(base)) = cursor.peek() {
        let base = base.clone();
        cursor.next();
        return raw_payload(cursor, &base).ok();
    }
    let Some(Kind::Word(word)) = cursor.peek() else { return None };
    let word = word.clone();
    cursor.next();
    named_field(cursor, &word, depth).ok()
}

fn named_field(cursor: &mut Cursor, word: &str, depth: usize) -> Parsed<Value> {
    match word {
        "meta" => {
            let key = cursor.name()?;
            Ok(json!({"meta": {"key": key}}))
        }
        "ct" => connection(cursor),
        "fib" => lookup_route(cursor),
        "numgen" => {
            let mode = cursor.name()?;
            cursor.word("mod")?;
            let modulus = cursor.number()?;
            let offset = if cursor.take_word("offset") { cursor.number()? } else { 0 };
            Ok(json!({"numgen": {"mode": mode, "mod": modulus, "offset": offset}}))
        }
        "jhash" | "symhash" => hash(cursor, word, depth),
        "socket" => {
            let key = cursor.name()?;
            let mut inner = json!({ "key": key });
            if cursor.take_word("level") {
                inner["level"] = cursor.number()?.into();
            }
            Ok(json!({ "socket": inner }))
        }
        "osf" => {
            let ttl = if cursor.take_word("ttl") { Some(cursor.name()?) } else { None };
            let key = cursor.name()?;
            let inner = match ttl {
                Some(ttl) => json!({"key": key, "ttl": ttl}),
                None => json!({"key": key}),
            };
            Ok(json!({ "osf": inner }))
        }
        "ipsec" => {
            let direction = cursor.name()?;
            let number = if cursor.take_word("spnum") { cursor.number()? } else { 0 };
            let family = if cursor.is_word("ip") || cursor.is_word("ip6") { Some(cursor.name()?) } else { None };
            let key = cursor.name()?;
            let inner = match family {
                Some(family) => json!({"key": key, "dir": direction, "spnum": number, "family": family}),
                None => json!({"key": key, "dir": direction, "spnum": number}),
            };
            Ok(json!({ "ipsec": inner }))
        }
        "exthdr" => {
            let name = cursor.name()?;
            Ok(json!({"exthdr": {"name": name}}))
        }
        "rt" => routing(cursor),
        _ if META.contains(&word) => Ok(json!({"meta": {"key": word}})),
        _ if EXTENSIONS.contains(&word) => extension_field(cursor, word),
        _ if HEADERS.contains(&word) => payload(cursor, word),
        _ => Err(Unread),
    }
}

/// `@BASE,OFFSET,LENGTH`.
fn raw_payload(cursor: &mut Cursor, base: &str) -> Parsed<Value> {
    if !matches!(base, "nh" | "th" | "ll" | "ih") {
        return Err(Unread);
    }
    cursor.sign(",")?;
    let offset = cursor.number()?;
    cursor.sign(",")?;
    let length = cursor.number()?;
    Ok(json!({"payload": {"base": base, "offset": offset, "len": length}}))
}

fn payload(cursor: &mut Cursor, protocol: &str) -> Parsed<Value> {
    if let ("tcp" | "ip", true) = (protocol, cursor.take_word("option")) {
        let mut inner = Map::new();
        match cursor.peek() {
            Some(Kind::At(number)) => {
                inner.insert("base".into(), number.clone().into());
                cursor.next();
                cursor.sign(",")?;
                inner.insert("offset".into(), cursor.number()?.into());
                cursor.sign(",")?;
                inner.insert("len".into(), cursor.number()?.into());
            }
            _ => {
                inner.insert("name".into(), cursor.name()?.into());
                option_field(cursor, &mut inner);
            }
        }
        return Ok(if protocol == "tcp" { json!({ "tcp option": inner }) } else { json!({ "ip option": inner }) });
    }
    if protocol == "sctp" && cursor.take_word("chunk") {
        let mut inner = Map::new();
        inner.insert("name".into(), cursor.name()?.into());
        option_field(cursor, &mut inner);
        return Ok(json!({ "sctp chunk": inner }));
    }
    let Some(Kind::Word(field)) = cursor.peek() else { return Err(Unread) };
    let field = field.clone();
    cursor.next();
    Ok(json!({"payload": {"protocol": protocol, "field": field}}))
}

/// The field of an option; none where the option itself is asked for.
fn option_field(cursor: &mut Cursor, inner: &mut Map<String, Value>) {
    if let Some(Kind::Word(field)) = cursor.peek()
        && !matches!(field.as_str(), "exists" | "missing" | "set" | "vmap" | "map" | "and" | "or" | "xor" | "eq" | "ne")
    {
        inner.insert("field".into(), field.clone().into());
        cursor.next();
    }
}

fn extension_field(cursor: &mut Cursor, name: &str) -> Parsed<Value> {
    let Some(Kind::Word(field)) = cursor.peek() else { return Err(Unread) };
    let mut field = field.clone();
    cursor.next();
    if cursor.take_sign("[") {
        let index = cursor.number()?;
        cursor.sign("]")?;
        field = std::format!("{field}[{index}]");
    }
    Ok(json!({"exthdr": {"name": name, "field": field}}))
}

/// `rt`: the route's properties, or the routing header's.
fn routing(cursor: &mut Cursor) -> Parsed<Value> {
    let family = if cursor.is_word("ip") || cursor.is_word("ip6") { Some(cursor.name()?) } else { None };
    let Some(Kind::Word(key)) = cursor.peek() else { return Err(Unread) };
    let key = key.clone();
    match (key.as_str(), family) {
        ("nexthop", Some(family)) => {
            cursor.next();
            Ok(json!({"rt": {"key": key, "family": family}}))
        }
        ("classid" | "nexthop" | "mtu" | "ipsec", None) => {
            cursor.next();
            Ok(json!({"rt": {"key": key}}))
        }
        (_, None) => extension_field(cursor, "rt"),
        _ => Err(Unread),
    }
}

fn connection(cursor: &mut Cursor) -> Parsed<Value> {
    let direction = match cursor.peek() {
        Some(Kind::Word(word)) if word == "original" || word == "reply" => Some(word.clone()),
        _ => None,
    };
    if direction.is_some() {
        cursor.next();
    }
    let mut key = cursor.name()?;
    if let "ip" | "ip6" = key.as_str() {
        let field = cursor.name()?;
        key = std::format!("{key} {field}");
    }
    // These are the same in both directions.
    let direction = direction.filter(|_| key != "protocol" && key != "l3proto");
    Ok(match direction {
        Some(direction) => json!({"ct": {"key": key, "dir": direction}}),
        None => json!({"ct": {"key": key}}),
    })
}

fn lookup_route(cursor: &mut Cursor) -> Parsed<Value> {
    let mut flags = vec![cursor.name()?];
    while cursor.take_sign(".") {
        flags.push(cursor.name()?);
    }
    let result = cursor.name()?;
    Ok(json!({"fib": {"result": result, "flags": flags}}))
}

fn hash(cursor: &mut Cursor, kind: &str, depth: usize) -> Parsed<Value> {
    let mut inner = Map::new();
    if kind == "jhash" {
        let mut parts = vec![primary(cursor, depth + 1)?];
        while cursor.take_sign(".") {
            parts.push(primary(cursor, depth + 1)?);
        }
        inner.insert("expr".into(), concatenated(parts));
    }
    cursor.word("mod")?;
    inner.insert("mod".into(), cursor.number()?.into());
    if cursor.take_word("seed") {
        inner.insert("seed".into(), cursor.number()?.into());
    }
    if cursor.take_word("offset") {
        inner.insert("offset".into(), cursor.number()?.into());
    }
    Ok(if kind == "jhash" { json!({ "jhash": inner }) } else { json!({ "symhash": inner }) })
}

/// A value that is written down: one word.
fn constant(cursor: &mut Cursor) -> Parsed<Value> {
    let value = match cursor.peek() {
        Some(Kind::Word(word)) => match word.as_str() {
            "exists" => Value::Bool(true),
            "missing" => Value::Bool(false),
            word => Value::String(word.to_string()),
        },
        Some(Kind::Address(word) | Kind::Quoted(word)) => Value::String(word.clone()),
        Some(Kind::Number(digits)) => match super::super::datatype::number(digits).map(u64::try_from) {
            Some(Ok(number)) => number.into(),
            // Longer than a number of JSON's.
            _ => Value::String(digits.clone()),
        },
        Some(Kind::Sign("*")) => Value::String("*".into()),
        _ => return Err(Unread),
    };
    cursor.next();
    if value.is_number() && cursor.take_sign("[") {
        // `0x1 [invalid type]`: nft 1.0.6 forgot the type of a number that it prints.
        cursor.word("invalid")?;
        cursor.word("type")?;
        cursor.sign("]")?;
    }
    Ok(value)
}

/// A constant, a range, a network, or flags with bars between them.
fn item(cursor: &mut Cursor) -> Parsed<Value> {
    let first = flags(cursor, "|")?;
    if cursor.take_sign("-") {
        let last = flags(cursor, "|")?;
        return Ok(json!({"range": [first, last]}));
    }
    let is_network = first.as_str().is_some_and(|word| word.contains(['.', ':'])) && cursor.is_sign("/");
    if is_network {
        cursor.next();
        let length = cursor.number()?;
        return Ok(json!({"prefix": {"addr": first, "len": length}}));
    }
    Ok(first)
}

/// Flags with a sign between them.
fn flags(cursor: &mut Cursor, sign: &str) -> Parsed<Value> {
    let one = |cursor: &mut Cursor| {
        if !cursor.take_sign("(") {
            return constant(cursor);
        }
        let value = flags(cursor, "|")?;
        cursor.sign(")")?;
        Ok(value)
    };
    let mut all = vec![one(cursor)?];
    while cursor.take_sign(sign) || (sign == "|" && cursor.take_word("or")) {
        all.push(one(cursor)?);
    }
    Ok(if all.len() == 1 { all.swap_remove(0) } else { json!({ "|": all }) })
}

/// Items with dots between them.
fn joined(cursor: &mut Cursor) -> Parsed<Value> {
    let mut parts = vec![item(cursor)?];
    while cursor.take_sign(".") {
        parts.push(item(cursor)?);
    }
    Ok(concatenated(parts))
}

/// Reads the value that another is compared with.
pub(super) fn compared(cursor: &mut Cursor) -> Parsed<Value> {
    if let Some(Kind::Sign("{") | Kind::At(_)) = cursor.peek() {
        return set(cursor, false);
    }
    let first = joined(cursor)?;
    if !cursor.is_sign(",") {
        return Ok(first);
    }
    let mut list = vec![first];
    while cursor.take_sign(",") {
        list.push(flags(cursor, "|")?);
    }
    Ok(Value::Array(list))
}

/// A value that is set or translated to.
pub(super) fn assigned(cursor: &mut Cursor) -> Parsed<Value> {
    let first = expression(cursor)?;
    if first.is_object() || !cursor.is_sign(",") {
        return Ok(first);
    }
    let mut list = vec![first];
    while cursor.take_sign(",") {
        list.push(constant(cursor)?);
    }
    Ok(Value::Array(list))
}

/// Elements in braces, or the name of a set.
pub(super) fn set(cursor: &mut Cursor, is_map: bool) -> Parsed<Value> {
    if let Some(Kind::At(name)) = cursor.peek() {
        let name = std::format!("@{name}");
        cursor.next();
        return Ok(Value::String(name));
    }
    let elements = elements(cursor, is_map, 0)?;
    Ok(json!({ "set": elements }))
}

/// Elements in braces. A variable may stand for several, with braces of their own.
pub(super) fn elements(cursor: &mut Cursor, is_map: bool, depth: usize) -> Parsed<Vec<Value>> {
    cursor.sign("{")?;
    let mut found = Vec::new();
    loop {
        cursor.skip_lines();
        if cursor.take_sign("}") {
            return Ok(found);
        }
        if cursor.is_sign("{") {
            if depth > MAX_DEPTH {
                return Err(Unread);
            }
            found.extend(elements(cursor, is_map, depth + 1)?);
        } else {
            found.push(element(cursor, is_map)?);
        }
        cursor.skip_lines();
        if !cursor.take_sign(",") {
            cursor.sign("}")?;
            return Ok(found);
        }
    }
}

fn element(cursor: &mut Cursor, is_map: bool) -> Parsed<Value> {
    let key = joined(cursor)?;
    let key = properties(cursor, key)?;
    if !is_map {
        return Ok(key);
    }
    cursor.skip_lines();
    cursor.sign(":")?;
    cursor.skip_lines();
    let data = match super::statements::verdict(cursor)? {
        Some(verdict) => verdict,
        None => joined(cursor)?,
    };
    Ok(json!([key, data]))
}

/// Reads the properties that may follow an element: its time, a comment, statements.
fn properties(cursor: &mut Cursor, key: Value) -> Parsed<Value> {
    let mut inner = Map::new();
    while let Some(Kind::Word(word)) = cursor.peek() {
        let word = word.clone();
        match word.as_str() {
            "timeout" | "expires" => {
                cursor.next();
                inner.insert(word, seconds(cursor)?);
            }
            "comment" => {
                cursor.next();
                inner.insert(word, cursor.name()?.into());
            }
            "counter" => {
                cursor.next();
                super::statements::counter(cursor)?;
            }
            "limit" | "quota" | "ct" | "last" => {
                // The set is not known, so neither is the statement's effect on its elements.
                let statement = super::statements::statement(cursor)?;
                inner.insert("stmt".into(), json!([statement]));
            }
            _ => break,
        }
    }
    if inner.is_empty() {
        return Ok(key);
    }
    inner.insert("val".into(), key);
    Ok(json!({ "elem": inner }))
}

/// A time in seconds: a number, or `1d2h3m4s`. Less than a second is a fraction.
pub(super) fn seconds(cursor: &mut Cursor) -> Parsed<Value> {
    let milliseconds = milliseconds(cursor)?;
    Ok(if milliseconds % 1000 == 0 { (milliseconds / 1000).into() } else { json!(milliseconds as f64 / 1000.0) })
}

/// A time in milliseconds.
fn milliseconds(cursor: &mut Cursor) -> Parsed<u64> {
    match cursor.peek() {
        Some(Kind::Number(_)) => cursor.number()?.checked_mul(1000).ok_or(Unread),
        Some(Kind::Word(word) | Kind::Quoted(word)) => {
            let time = time(word);
            cursor.next();
            time.ok_or(Unread)
        }
        _ => Err(Unread),
    }
}

/// A word such as `1h30m`, in milliseconds.
pub(super) fn time(word: &str) -> Option<u64> {
    let (mut rest, mut total) = (word, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let units = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest.get(unit.len()..)?;
        total = total.checked_add(number.checked_mul(factor)?)?;
    }
    Some(total)
}
