//! Statements as nft prints and reads them, made into what `nft -j` writes.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::cursor::{Cursor, Parsed, Unread};
use super::expressions::{assigned, compared, expression, seconds, set};
use super::tokens::Kind;

/// Reads the statements of a rule, and its comment. What cannot be read is kept word for word, to the rule's end.
pub(super) fn rule(cursor: &mut Cursor) -> (Vec<Value>, Option<String>) {
    let (mut statements, mut comment) = (Vec::new(), None);
    while !cursor.is_end() {
        if cursor.take_word("comment") {
            comment = cursor.name().ok();
            continue;
        }
        let start = cursor.position();
        match statement(cursor) {
            Ok(read) => statements.push(read),
            Err(Unread) => {
                cursor.skip_statement();
                statements.push(Value::String(cursor.text_since(start)));
            }
        }
    }
    (statements, comment)
}

/// One statement.
pub(super) fn statement(cursor: &mut Cursor) -> Parsed<Value> {
    if let Some(verdict) = verdict(cursor)? {
        return Ok(verdict);
    }
    let start = cursor.position();
    let word = match cursor.peek() {
        Some(Kind::Word(word)) => word.clone(),
        Some(Kind::Sign("(") | Kind::At(_)) => return comparison(cursor),
        _ => return Err(Unread),
    };
    cursor.next();
    match word.as_str() {
        "counter" => counter(cursor),
        "log" => log(cursor),
        "limit" => meter(cursor, "limit", limit),
        "quota" => meter(cursor, "quota", quota),
        "last" => {
            if cursor.take_word("used") {
                cursor.name()?;
            }
            Ok(json!({"last": null}))
        }
        "reject" => reject(cursor),
        "notrack" => Ok(json!({"notrack": null})),
        "snat" | "dnat" | "masquerade" | "redirect" => nat(cursor, &word),
        "queue" => {
            cursor.skip_statement();
            Ok(json!({"queue": cursor.text_since(start + 1)}))
        }
        "add" | "update" | "delete" if matches!(cursor.peek(), Some(Kind::At(_))) => update(cursor, &word),
        "set" => {
            let action = cursor.name()?;
            update_in_front(cursor, &action)
        }
        "meter" => per_element(cursor),
        "flow" => {
            let action = cursor.name()?;
            let table = set(cursor, false)?;
            Ok(json!({"flow": {"op": action, "flowtable": table}}))
        }
        "reset" => {
            let option = expression(cursor)?;
            Ok(json!({ "reset": option }))
        }
        "synproxy" | "tproxy" | "dup" | "fwd" | "xt" => Err(Unread),
        "ct" => match connection_object(cursor) {
            Some(read) => Ok(read),
            None => {
                cursor.rewind(start);
                comparison(cursor)
            }
        },
        _ => {
            cursor.rewind(start);
            comparison(cursor)
        }
    }
}

/// A verdict, if it is one.
pub(super) fn verdict(cursor: &mut Cursor) -> Parsed<Option<Value>> {
    let Some(Kind::Word(word)) = cursor.peek() else { return Ok(None) };
    let word = word.clone();
    Ok(Some(match word.as_str() {
        "accept" | "drop" | "continue" | "return" => {
            cursor.next();
            tagged(&word, Value::Null)
        }
        "jump" | "goto" => {
            cursor.next();
            let target = cursor.name()?;
            tagged(&word, json!({ "target": target }))
        }
        _ => return Ok(None),
    }))
}

/// An object with one member.
fn tagged(name: &str, value: Value) -> Value {
    let mut made = Map::new();
    made.insert(name.to_string(), value);
    Value::Object(made)
}

/// A comparison, a lookup, or a change of a value.
fn comparison(cursor: &mut Cursor) -> Parsed<Value> {
    let left = expression(cursor)?;
    if !left.is_object() {
        return Err(Unread);
    }
    if cursor.take_word("vmap") {
        let data = set(cursor, true)?;
        return Ok(json!({"vmap": {"key": left, "data": data}}));
    }
    if cursor.take_word("set") {
        let value = assigned(cursor)?;
        return Ok(json!({"mangle": {"key": left, "value": value}}));
    }
    if left.get("ct").and_then(|ct| ct.get("key")).and_then(Value::as_str) == Some("count") {
        return Err(Unread);
    }
    let operators = [
        ("==", "=="),
        ("eq", "=="),
        ("!=", "!="),
        ("ne", "!="),
        ("<=", "<="),
        ("le", "<="),
        (">=", ">="),
        ("ge", ">="),
        ("<", "<"),
        ("lt", "<"),
        (">", ">"),
        ("gt", ">"),
        ("!", "!"),
    ];
    let given = operators.into_iter().find(|(written, _)| cursor.take_sign(written) || cursor.take_word(written));
    let right = compared(cursor)?;
    if cursor.take_sign("/") {
        // `VALUE / MASK`.
        let mask = compared(cursor)?;
        let operator = given.map_or("==", |(_, operator)| operator);
        return Ok(json!({"match": {"op": operator, "left": {"&": [left, mask]}, "right": right}}));
    }
    let is_set = right.get("set").is_some() || right.as_str().is_some_and(|word| word.starts_with('@'));
    let operator = match given {
        Some((_, operator)) => operator,
        None if has_flags(&left) && !is_set => "in",
        None => "==",
    };
    Ok(json!({"match": {"op": operator, "left": left, "right": right}}))
}

/// True for a value that is a union of flags: without an operator, one of them is enough.
fn has_flags(left: &Value) -> bool {
    let key = |kind: &str, member: &str| left.get(kind).and_then(|inner| inner.get(member)).and_then(Value::as_str);
    matches!(key("ct", "key"), Some("state" | "status" | "label" | "event"))
        || (key("payload", "protocol") == Some("tcp") && key("payload", "field") == Some("flags"))
}

/// `counter`, after its word.
pub(super) fn counter(cursor: &mut Cursor) -> Parsed<Value> {
    if cursor.take_word("name") {
        return Ok(tagged("counter", named(cursor)?));
    }
    if cursor.take_word("packets") {
        let packets = cursor.number()?;
        cursor.word("bytes")?;
        let bytes = cursor.number()?;
        return Ok(json!({"counter": {"packets": packets, "bytes": bytes}}));
    }
    Ok(json!({"counter": null}))
}

/// The name of an object, or a map to such names.
fn named(cursor: &mut Cursor) -> Parsed<Value> {
    let start = cursor.position();
    if let Ok(read) = expression(cursor)
        && read.get("map").is_some()
    {
        return Ok(read);
    }
    cursor.rewind(start);
    cursor.name().map(Value::String)
}

fn meter(cursor: &mut Cursor, kind: &str, read: fn(&mut Cursor) -> Parsed<Value>) -> Parsed<Value> {
    let inner = if cursor.take_word("name") { named(cursor)? } else { read(cursor)? };
    Ok(tagged(kind, inner))
}

/// `rate [over] NUMBER [UNIT]/TIME [burst NUMBER UNIT]`.
pub(super) fn limit(cursor: &mut Cursor) -> Parsed<Value> {
    cursor.word("rate")?;
    let is_over = cursor.take_word("over");
    if !is_over {
        cursor.take_word("until");
    }
    let mut inner = Map::new();
    inner.insert("rate".into(), cursor.number()?.into());
    let unit = byte_unit(cursor);
    cursor.sign("/")?;
    inner.insert("per".into(), cursor.name()?.into());
    let mut burst = if unit.is_some() { 0 } else { 5 };
    let mut burst_unit = unit.as_ref().map(|_| "bytes".to_string());
    if cursor.take_word("burst") {
        burst = cursor.number()?;
        burst_unit = byte_unit(cursor);
        if burst_unit.is_none() {
            cursor.take_word("packets");
        }
    }
    inner.insert("burst".into(), burst.into());
    if is_over {
        inner.insert("inv".into(), true.into());
    }
    if let Some(unit) = unit {
        inner.insert("rate_unit".into(), unit.into());
        inner.insert("burst_unit".into(), burst_unit.unwrap_or_else(|| "bytes".to_string()).into());
    }
    Ok(Value::Object(inner))
}

fn byte_unit(cursor: &mut Cursor) -> Option<String> {
    ["bytes", "kbytes", "mbytes"].into_iter().find(|unit| cursor.take_word(unit)).map(ToString::to_string)
}

/// `[over] NUMBER UNIT [used NUMBER UNIT]`.
pub(super) fn quota(cursor: &mut Cursor) -> Parsed<Value> {
    let is_over = cursor.take_word("over");
    if !is_over {
        cursor.take_word("until");
    }
    let mut inner = Map::new();
    inner.insert("val".into(), cursor.number()?.into());
    inner.insert("val_unit".into(), byte_unit(cursor).ok_or(Unread)?.into());
    if is_over {
        inner.insert("inv".into(), true.into());
    }
    if cursor.take_word("used") {
        inner.insert("used".into(), cursor.number()?.into());
        inner.insert("used_unit".into(), byte_unit(cursor).ok_or(Unread)?.into());
    }
    Ok(Value::Object(inner))
}

fn log(cursor: &mut Cursor) -> Parsed<Value> {
    let mut inner = Map::new();
    while let Some(Kind::Word(word)) = cursor.peek() {
        let word = word.clone();
        match word.as_str() {
            "prefix" | "level" => {
                cursor.next();
                inner.insert(word, cursor.name()?.into());
            }
            "group" | "snaplen" | "queue-threshold" => {
                cursor.next();
                inner.insert(word, cursor.number()?.into());
            }
            "flags" => {
                cursor.next();
                let kind = cursor.name()?;
                if let "tcp" | "ip" = kind.as_str() {
                    cursor.name()?;
                    while cursor.take_sign(",") {
                        cursor.name()?;
                    }
                }
            }
            _ => break,
        }
    }
    Ok(tagged("log", if inner.is_empty() { Value::Null } else { Value::Object(inner) }))
}

fn reject(cursor: &mut Cursor) -> Parsed<Value> {
    if !cursor.take_word("with") {
        return Ok(json!({"reject": null}));
    }
    let kind = cursor.name()?;
    if kind == "tcp" {
        cursor.word("reset")?;
        return Ok(json!({"reject": {"type": "tcp reset"}}));
    }
    if !matches!(kind.as_str(), "icmp" | "icmpv6" | "icmpx") {
        return Err(Unread);
    }
    cursor.take_word("type");
    let code = match cursor.peek() {
        Some(Kind::Number(_)) => cursor.number()?.into(),
        _ => Value::String(cursor.name()?),
    };
    Ok(json!({"reject": {"type": kind, "expr": code}}))
}

/// `ct helper set`, `ct timeout set`, `ct expectation set`, `ct count`, after `ct`; none for other words.
fn connection_object(cursor: &mut Cursor) -> Option<Value> {
    let Some(Kind::Word(kind)) = cursor.peek() else { return None };
    let kind = kind.clone();
    cursor.next();
    match kind.as_str() {
        "helper" | "timeout" | "expectation" if cursor.take_word("set") => {
            let name = named(cursor).ok()?;
            Some(tagged(&std::format!("ct {kind}"), name))
        }
        "count" => {
            let is_over = cursor.take_word("over");
            let number = cursor.number().ok()?;
            Some(if is_over {
                json!({"ct count": {"val": number, "inv": true}})
            } else {
                json!({"ct count": {"val": number}})
            })
        }
        _ => None,
    }
}

fn nat(cursor: &mut Cursor, kind: &str) -> Parsed<Value> {
    let mut inner = Map::new();
    let family = ["ip", "ip6"].into_iter().find(|family| is_family(cursor, family));
    if let Some(family) = family {
        cursor.next();
        inner.insert("family".into(), family.into());
    }
    if cursor.take_word("prefix") {
        inner.insert("flags".into(), "netmap".into());
        inner.insert("type_flags".into(), "prefix".into());
    } else if cursor.take_word("interval") {
    } else if cursor.take_word("addr") {
        cursor.sign(".")?;
        cursor.word("port")?;
    }
    let has_to = cursor.take_word("to");
    let is_local = matches!(kind, "masquerade" | "redirect");
    if has_to || (!is_local && !cursor.is_end()) {
        if !cursor.is_sign(":") {
            let value = if is_local { port(cursor)? } else { address(cursor)? };
            inner.insert(if is_local { "port" } else { "addr" }.into(), value);
        }
        if cursor.take_sign(":") {
            inner.insert("port".into(), port(cursor)?);
        }
    }
    let mut flags = Vec::new();
    while let Some(Kind::Word(word)) = cursor.peek() {
        if !matches!(word.as_str(), "random" | "fully-random" | "persistent") {
            break;
        }
        flags.push(Value::String(word.clone()));
        cursor.next();
        cursor.take_sign(",");
    }
    if !flags.is_empty() {
        if inner.contains_key("flags") {
            flags.push("netmap".into());
        }
        let flags = if flags.len() == 1 { flags.swap_remove(0) } else { Value::Array(flags) };
        inner.insert("flags".into(), flags);
    }
    Ok(tagged(kind, if inner.is_empty() { Value::Null } else { Value::Object(inner) }))
}

/// True if the next word names a family, and no header: `snat ip to`, but not `snat ip saddr map`.
fn is_family(cursor: &mut Cursor, family: &str) -> bool {
    let follows = ["to", "prefix", "interval", "addr"];
    cursor.is_word(family)
        && match cursor.peek_second() {
            Some(Kind::Word(word)) => follows.contains(&word.as_str()),
            _ => true,
        }
}

/// Addresses to translate to.
fn address(cursor: &mut Cursor) -> Parsed<Value> {
    let first = one_address(cursor)?;
    if cursor.take_sign("-") {
        let last = one_address(cursor)?;
        return Ok(json!({"range": [first, last]}));
    }
    if first.is_string() && cursor.take_sign("/") {
        let length = cursor.number()?;
        return Ok(json!({"prefix": {"addr": first, "len": length}}));
    }
    Ok(first)
}

fn one_address(cursor: &mut Cursor) -> Parsed<Value> {
    if cursor.take_sign("[") {
        let Some(Kind::Address(address)) = cursor.peek() else { return Err(Unread) };
        let address = Value::String(address.clone());
        cursor.next();
        cursor.sign("]")?;
        return Ok(address);
    }
    expression(cursor)
}

fn port(cursor: &mut Cursor) -> Parsed<Value> {
    let first = expression(cursor)?;
    if cursor.take_sign("-") {
        let last = expression(cursor)?;
        return Ok(json!({"range": [first, last]}));
    }
    Ok(first)
}

/// `add @set { … }`, after its first word.
fn update(cursor: &mut Cursor, action: &str) -> Parsed<Value> {
    let set = set(cursor, false)?;
    cursor.sign("{")?;
    cursor.skip_lines();
    let key = timed_key(cursor)?;
    let mut statements = Vec::new();
    let mut data = None;
    loop {
        cursor.skip_lines();
        if cursor.take_sign("}") {
            break;
        }
        if cursor.take_sign(":") {
            data = Some(match verdict(cursor)? {
                Some(verdict) => verdict,
                None => expression(cursor)?,
            });
            continue;
        }
        statements.push(statement(cursor)?);
    }
    let mut inner = Map::new();
    inner.insert("op".into(), action.into());
    inner.insert("elem".into(), key);
    if !statements.is_empty() {
        inner.insert("stmt".into(), Value::Array(statements));
    }
    if let Some(data) = data {
        inner.insert("data".into(), data);
        inner.insert("map".into(), set);
        return Ok(tagged("map", Value::Object(inner)));
    }
    inner.insert("set".into(), set);
    Ok(tagged("set", Value::Object(inner)))
}

/// `set add KEY @set`, after its second word.
fn update_in_front(cursor: &mut Cursor, action: &str) -> Parsed<Value> {
    let key = timed_key(cursor)?;
    let set = set(cursor, false)?;
    Ok(json!({"set": {"op": action, "elem": key, "set": set}}))
}

/// A key, and how long its element lasts.
fn timed_key(cursor: &mut Cursor) -> Parsed<Value> {
    let key = expression(cursor)?;
    if cursor.take_word("timeout") {
        let timeout = seconds(cursor)?;
        return Ok(json!({"elem": {"val": key, "timeout": timeout}}));
    }
    Ok(key)
}

/// `meter NAME [size N] { KEY STATEMENT }`.
fn per_element(cursor: &mut Cursor) -> Parsed<Value> {
    let name = cursor.name()?;
    let size = if cursor.take_word("size") { cursor.number()? } else { u64::from(u16::MAX) };
    cursor.sign("{")?;
    let key = timed_key(cursor)?;
    let statement = statement(cursor)?;
    cursor.sign("}")?;
    Ok(json!({"meter": {"key": key, "stmt": statement, "size": size, "name": name}}))
}

/// `policy` and others that take a list in braces: `{ established : 100, close : 4 }`.
pub(super) fn pairs(cursor: &mut Cursor) -> Parsed<Map<String, Value>> {
    let mut found = Map::new();
    cursor.sign("{")?;
    loop {
        cursor.skip_lines();
        if cursor.take_sign("}") {
            return Ok(found);
        }
        let name = cursor.name()?;
        cursor.sign(":")?;
        found.insert(name, seconds(cursor)?);
        cursor.skip_lines();
        cursor.take_sign(",");
    }
}

/// Words with commas between them.
pub(super) fn list(cursor: &mut Cursor) -> Parsed<Vec<Value>> {
    let mut found = vec![Value::String(cursor.name()?)];
    while cursor.take_sign(",") {
        found.push(Value::String(cursor.name()?));
    }
    Ok(found)
}
