//! Tables, chains, sets and objects, in blocks or after a command.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::cursor::{Cursor, Parsed, Unread};
use super::expressions::{elements, expression, seconds};
use super::statements::{counter, limit, list, pairs, quota, rule, statement};
use super::tokens::Kind;

/// The family and name of a table.
#[derive(Clone, Debug)]
pub(super) struct TableName {
    pub(super) family: String,
    pub(super) table: String,
}

/// The statements of a block, each with the line where it begins.
pub(super) type Found = Vec<(Value, u32)>;

impl TableName {
    /// An object of this table.
    pub(super) fn object(&self, kind: &str, name: &str, mut inner: Map<String, Value>) -> Value {
        inner.insert("family".into(), self.family.clone().into());
        inner.insert("table".into(), self.table.clone().into());
        inner.insert("name".into(), name.into());
        let mut made = Map::new();
        made.insert(kind.to_string(), Value::Object(inner));
        Value::Object(made)
    }

    /// A rule of a chain.
    pub(super) fn rule(&self, chain: &str, cursor: &mut Cursor) -> Value {
        let (statements, comment) = rule(cursor);
        let mut inner = json!({"family": self.family, "table": self.table, "chain": chain, "expr": statements});
        if let Some(comment) = comment {
            inner["comment"] = comment.into();
        }
        json!({ "rule": inner })
    }
}

/// The block of a table, after its opening brace.
pub(super) fn table(cursor: &mut Cursor, table: &TableName, found: &mut Found) -> Parsed<()> {
    cursor.open_scope();
    loop {
        cursor.skip_ends();
        if cursor.take_sign("}") {
            break;
        }
        cursor.mark();
        let line = cursor.next_line();
        let kind = cursor.name()?;
        match kind.as_str() {
            "define" | "redefine" => cursor.define()?,
            "undefine" => cursor.undefine()?,
            "chain" => {
                let name = cursor.name()?;
                block_start(cursor)?;
                chain(cursor, table, &name, line, found)?;
            }
            "flags" | "comment" => cursor.skip_statement(),
            _ => {
                let (kind, name) = object_name(cursor, &kind)?;
                block_start(cursor)?;
                object(cursor, table, &kind, &name, line, found)?;
            }
        }
    }
    cursor.close_scope();
    Ok(())
}

fn block_start(cursor: &mut Cursor) -> Parsed<()> {
    cursor.skip_lines();
    cursor.sign("{")
}

/// The kind and name of an object, after its first word.
pub(super) fn object_name(cursor: &mut Cursor, kind: &str) -> Parsed<(String, String)> {
    let kind = if kind == "ct" { std::format!("ct {}", cursor.name()?) } else { kind.to_string() };
    Ok((kind, cursor.name()?))
}

/// The block of a chain, after its opening brace.
pub(super) fn chain(cursor: &mut Cursor, table: &TableName, name: &str, line: u32, found: &mut Found) -> Parsed<()> {
    cursor.open_scope();
    let mut base = Map::new();
    let mut rules: Found = Vec::new();
    loop {
        cursor.skip_ends();
        if cursor.take_sign("}") {
            break;
        }
        cursor.mark();
        let line = cursor.next_line();
        let Some(next) = cursor.peek().cloned() else { return Err(Unread) };
        match next {
            Kind::Word(word) => match word.as_str() {
                "type" => hook(cursor, &mut base)?,
                "policy" => {
                    cursor.next();
                    base.insert("policy".into(), cursor.name()?.into());
                }
                "define" | "redefine" => {
                    cursor.next();
                    cursor.define()?;
                }
                "undefine" => {
                    cursor.next();
                    cursor.undefine()?;
                }
                "comment" => cursor.skip_statement(),
                "flags" if matches!(cursor.peek_second(), Some(Kind::Word(flag)) if flag == "offload") => {
                    cursor.skip_statement();
                }
                _ => rules.push((table.rule(name, cursor), line)),
            },
            _ => rules.push((table.rule(name, cursor), line)),
        }
        // A rule ends its line: any other token would be taken for a rule again.
        if !cursor.is_end() {
            return Err(Unread);
        }
    }
    cursor.close_scope();
    found.push((table.object("chain", name, base), line));
    found.extend(rules);
    Ok(())
}

/// `type TYPE hook HOOK [device NAME] priority PRIORITY [; policy POLICY]`.
fn hook(cursor: &mut Cursor, base: &mut Map<String, Value>) -> Parsed<()> {
    cursor.word("type")?;
    base.insert("type".into(), cursor.name()?.into());
    cursor.word("hook")?;
    base.insert("hook".into(), cursor.name()?.into());
    while cursor.is_word("device") || cursor.is_word("devices") {
        cursor.next();
        cursor.take_sign("=");
        if cursor.is_sign("{") {
            elements(cursor, false, 0)?;
        } else {
            cursor.name()?;
        }
    }
    cursor.word("priority")?;
    base.insert("prio".into(), priority(cursor)?.into());
    Ok(())
}

/// A number, or a name with a number added to it.
fn priority(cursor: &mut Cursor) -> Parsed<i64> {
    let mut value = 0;
    let names = [
        ("raw", -300),
        ("mangle", -150),
        ("dstnat", -100),
        ("filter", 0),
        ("security", 50),
        ("srcnat", 100),
        ("out", 100),
    ];
    let known = names
        .into_iter()
        .find(|(name, _)| matches!(cursor.peek(), Some(Kind::Word(word) | Kind::Quoted(word)) if word == name));
    if let Some((_, number)) = known {
        cursor.next();
        value = number;
        if !cursor.is_sign("+") && !cursor.is_sign("-") {
            return Ok(value);
        }
    }
    let is_negative = cursor.take_sign("-");
    if !is_negative {
        cursor.take_sign("+");
    }
    let number = i64::try_from(cursor.number()?).map_err(|_| Unread)?;
    value += if is_negative { -number } else { number };
    Ok(value)
}

/// The block of a set, map or other object, after its opening brace.
pub(super) fn object(
    cursor: &mut Cursor,
    table: &TableName,
    kind: &str,
    name: &str,
    line: u32,
    found: &mut Found,
) -> Parsed<()> {
    let mut inner = Map::new();
    loop {
        cursor.skip_ends();
        if cursor.take_sign("}") {
            break;
        }
        if cursor.peek().is_none() {
            return Err(Unread);
        }
        cursor.mark();
        if property(cursor, kind, &mut inner).is_err() {
            // The kind of the object is not known, nor its statements.
            cursor.skip_statement();
            inner.insert("unread".into(), cursor.text_since(0).into());
        }
    }
    found.push((table.object(kind, name, inner), line));
    Ok(())
}

/// A property of an object.
fn property(cursor: &mut Cursor, kind: &str, inner: &mut Map<String, Value>) -> Parsed<()> {
    match kind {
        "set" | "map" => set_property(cursor, kind, inner),
        "limit" => limit(cursor).map(|read| merge(inner, read)),
        "quota" => quota(cursor).map(|read| merge(inner, read)),
        "ct helper" | "ct timeout" | "ct expectation" => connection_property(cursor, inner),
        // Only the kernel knows their effect: they are named where they matter.
        _ => {
            cursor.skip_statement();
            Ok(())
        }
    }
}

fn merge(inner: &mut Map<String, Value>, read: Value) {
    if let Value::Object(read) = read {
        inner.extend(read);
    }
}

fn connection_property(cursor: &mut Cursor, inner: &mut Map<String, Value>) -> Parsed<()> {
    let key = cursor.name()?;
    let value = match key.as_str() {
        "policy" => {
            cursor.sign("=")?;
            Value::Object(pairs(cursor)?)
        }
        "timeout" => milliseconds(seconds(cursor)?),
        "dport" | "size" => cursor.number()?.into(),
        "type" | "protocol" | "l3proto" => Value::String(cursor.name()?),
        "comment" => {
            cursor.name()?;
            return Ok(());
        }
        _ => return Err(Unread),
    };
    inner.insert(key, value);
    Ok(())
}

fn milliseconds(seconds: Value) -> Value {
    match seconds.as_u64() {
        Some(seconds) => seconds.saturating_mul(1000).into(),
        None => seconds,
    }
}

fn set_property(cursor: &mut Cursor, kind: &str, inner: &mut Map<String, Value>) -> Parsed<()> {
    let key = cursor.name()?;
    match key.as_str() {
        "type" | "typeof" => types(cursor, &key, kind, inner)?,
        "flags" => {
            inner.insert(key, Value::Array(list(cursor)?));
        }
        "timeout" | "gc-interval" => {
            inner.insert(key, seconds(cursor)?);
        }
        "size" => {
            inner.insert(key, cursor.number()?.into());
        }
        "policy" | "comment" => {
            inner.insert(key, cursor.name()?.into());
        }
        "auto-merge" => {
            inner.insert(key, true.into());
        }
        "elements" => {
            cursor.sign("=")?;
            let read = elements(cursor, kind == "map", 0)?;
            inner.insert("elem".into(), Value::Array(read));
        }
        "counter" => {
            counter(cursor)?;
        }
        "limit" | "quota" | "ct" | "last" => {
            cursor.rewind(0);
            let read = statement(cursor)?;
            inner.insert("stmt".into(), json!([read]));
        }
        _ => return Err(Unread),
    }
    Ok(())
}

/// `TYPE [. TYPE]… [: TYPE]`, or expressions in the place of the types.
fn types(cursor: &mut Cursor, word: &str, kind: &str, inner: &mut Map<String, Value>) -> Parsed<()> {
    let of_expression = word == "typeof";
    let key = if of_expression { json!({ "typeof": expression(cursor)? }) } else { names(cursor)? };
    inner.insert("type".into(), key);
    if kind == "map" {
        cursor.sign(":")?;
        cursor.take_word("interval");
        let is_verdict = cursor.is_word("verdict");
        let is_object =
            ["counter", "quota", "limit", "synproxy", "secmark"].into_iter().any(|word| cursor.is_word(word));
        let data = if of_expression && !is_verdict && !is_object {
            json!({ "typeof": expression(cursor)? })
        } else {
            names(cursor)?
        };
        inner.insert("map".into(), data);
    }
    Ok(())
}

fn names(cursor: &mut Cursor) -> Parsed<Value> {
    let mut found = vec![Value::String(cursor.name()?)];
    while cursor.take_sign(".") {
        found.push(Value::String(cursor.name()?));
    }
    Ok(if found.len() == 1 { found.swap_remove(0) } else { Value::Array(found) })
}
