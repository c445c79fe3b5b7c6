//! Objects as `nft -j` writes them, one by one: one that cannot be read is named, and what needs it is undecided.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use serde_json::Value;

use super::datatype::Datatype;
use super::expressions::{Unread, elements, key, only, whole};
use super::statements::{limit, quota, statement};
use crate::config::error::{Warning, WarningKind};
use crate::netfilter::nft::{
    Base, ChainKind, Element, Expression, Header, MetaKey, Meter, NftChain, NftRule, NftRuleset, NftSet, NftTable,
    Operator, Span, Statement, TableFamily,
};
use crate::netfilter::{Hook, Origin, Policy, RejectWith, is_known_helper};

/// An object of a file.
pub(super) struct Object {
    pub(super) value: Value,
    /// The line where it begins; 0 where lines say nothing.
    pub(super) line: u32,
    pub(super) file: Arc<str>,
}

/// An object that no later command takes away.
struct Named<'o> {
    kind: &'o str,
    inner: &'o Value,
    line: u32,
    file: &'o Arc<str>,
    /// True for `insert`: a rule that comes before those that are there.
    is_first: bool,
}

/// The objects that the rules of a table may name.
pub(super) struct Scope<'t> {
    pub(super) family: TableFamily,
    /// The types of each set's key and, if it is a map, of its data.
    pub(super) sets: &'t BTreeMap<String, Vec<Datatype>>,
    pub(super) helpers: &'t [String],
    pub(super) meters: &'t [String],
    /// Sets that the rules make themselves: `meter`.
    pub(super) meter_sets: RefCell<Vec<NftSet>>,
}

#[derive(Default)]
struct TableNames {
    sets: BTreeMap<String, Vec<Datatype>>,
    data: BTreeMap<String, Vec<Datatype>>,
    helpers: Vec<String>,
    meters: Vec<String>,
}

/// Builds the model from the objects of a file and of those that it includes.
pub(super) struct Loader {
    /// The file of the object that is read.
    file: Arc<str>,
    tables: Vec<NftTable>,
    names: Vec<TableNames>,
    /// Tables for other packets than IP.
    skipped: Vec<(String, String)>,
    pub(super) warnings: Vec<Warning>,
}

impl Loader {
    pub(super) fn new() -> Self {
        Self { file: "".into(), tables: Vec::new(), names: Vec::new(), skipped: Vec::new(), warnings: Vec::new() }
    }

    /// Begins with tables that are there. Types of their sets are not known: a rule that asks one is undecided.
    pub(super) fn after(ruleset: NftRuleset) -> Self {
        let names_of = |table: &NftTable| TableNames {
            helpers: table.helpers.iter().map(|(name, _)| name.clone()).collect(),
            meters: table.meters.iter().map(|(name, _)| name.clone()).collect(),
            ..TableNames::default()
        };
        let names = ruleset.tables.iter().map(names_of).collect();
        Self { tables: ruleset.tables, names, ..Self::new() }
    }

    /// Loads the objects of a file: first what rules name, then the rules, in the order of the file.
    pub(super) fn load(mut self, objects: &[Object]) -> (NftRuleset, Vec<Warning>) {
        let objects = remaining(objects);
        for object in objects.iter().filter(|object| object.kind == "table") {
            self.file = object.file.clone();
            self.table(object.inner, object.line);
        }
        for object in &objects {
            self.file = object.file.clone();
            self.declare(object.kind, object.inner, object.line);
        }
        for object in &objects {
            self.file = object.file.clone();
            match object.kind {
                "set" | "map" | "element" => self.fill(object.inner, object.line),
                "flush set" => self.empty(object.inner),
                "delete element" => self.take_out(object.inner, object.line),
                "rule" => self.rule(object.inner, object.line, object.is_first),
                _ => {}
            }
        }
        (NftRuleset { tables: self.tables }, self.warnings)
    }

    fn warn(&mut self, kind: WarningKind, line: u32, word: &str) {
        let warning = Warning::new(kind, line, word).in_file(&self.file);
        self.warnings.push(if line == 0 { Warning { line: None, ..warning } } else { warning });
    }

    fn table(&mut self, object: &Value, line: u32) {
        let (Some(family), Some(name)) = (text(object, "family"), text(object, "name")) else { return };
        match family_of(family) {
            Some(family) => {
                if !self.tables.iter().any(|table| table.family == family && table.name == name) {
                    self.tables.push(NftTable::new(family, name));
                    self.names.push(TableNames::default());
                }
            }
            None => {
                let skipped = (family.to_string(), name.to_string());
                if !self.skipped.contains(&skipped) {
                    self.skipped.push(skipped);
                    self.warn(WarningKind::OtherPackets, line, &format!("table {family} {name}"));
                }
            }
        }
    }

    /// The table of an object; `None` where it is not one for IP packets.
    fn table_of(&self, object: &Value) -> Option<usize> {
        let family = family_of(text(object, "family")?)?;
        let name = text(object, "table")?;
        self.tables.iter().position(|table| table.family == family && table.name == name)
    }

    /// Takes up what rules may name.
    fn declare(&mut self, kind: &str, object: &Value, line: u32) {
        let Some(index) = self.table_of(object) else { return };
        let Some(name) = text(object, "name") else { return };
        if let Some(unread) = text(object, "unread") {
            let what = format!("{kind} {name} of table {}: {unread}", self.table_name(index));
            return self.warn(WarningKind::UnknownObject, line, &what);
        }
        let known = match kind {
            "chain" => self.chain(index, name, object),
            "set" | "map" => self.set(index, name, object),
            "ct helper" => match text(object, "type") {
                Some(helper) if is_known_helper(helper) => {
                    self.tables[index].helpers.push((name.into(), helper.into()));
                    self.names[index].helpers.push(name.into());
                    true
                }
                _ => false,
            },
            "limit" => self.meter(index, name, limit(object)),
            "quota" => self.meter(index, name, quota(object)),
            "ct timeout" => {
                let what = format!("ct timeout {name} of table {}", self.table_name(index));
                return self.warn(WarningKind::NotImitated, line, &what);
            }
            "flowtable" => {
                let what = format!("flowtable {name} of table {}", self.table_name(index));
                return self.warn(WarningKind::Flowtable, line, &what);
            }
            _ => return,
        };
        if !known {
            let what = format!("{kind} {name} of table {}", self.table_name(index));
            self.warn(WarningKind::UnknownObject, line, &what);
        }
    }

    fn table_name(&self, index: usize) -> String {
        self.tables.get(index).map(|table| format!("{} {}", table.family.name(), table.name)).unwrap_or_default()
    }

    fn meter(&mut self, index: usize, name: &str, meter: Option<Meter>) -> bool {
        let Some(meter) = meter else { return false };
        self.tables[index].meters.push((name.into(), meter));
        self.names[index].meters.push(name.into());
        true
    }

    fn chain(&mut self, index: usize, name: &str, object: &Value) -> bool {
        if self.tables[index].chains.iter().any(|chain| chain.name == name) {
            return true;
        }
        let base = match text(object, "hook") {
            None => None,
            Some(hook) => match base(hook, object) {
                Some(base) => Some(base),
                None => return false,
            },
        };
        self.tables[index].chains.push(NftChain { name: name.into(), base, rules: Vec::new() });
        true
    }

    fn set(&mut self, index: usize, name: &str, object: &Value) -> bool {
        let Some(types) = object.get("type").and_then(types) else { return false };
        let data = match object.get("map") {
            None => None,
            Some(data) if data.as_str() == Some("verdict") => Some(Vec::new()),
            // Counting does nothing to packets.
            Some(data) if data.as_str() == Some("counter") => return true,
            Some(data) => match self::types(data) {
                Some(types) => Some(types),
                None => return false,
            },
        };
        let time = |key: &str| object.get(key).and_then(milliseconds);
        let set = NftSet {
            name: name.into(),
            parts: types.iter().map(|datatype| datatype.bits()).collect(),
            elements: Vec::new(),
            size: whole(object.get("size")).unwrap_or(u32::from(u16::MAX)),
            timeout: time("timeout"),
        };
        self.tables[index].sets.retain(|known| known.name != name);
        self.tables[index].sets.push(set);
        self.names[index].sets.insert(name.into(), types);
        if let Some(data) = data {
            self.names[index].data.insert(name.into(), data);
        }
        true
    }

    /// Fills a set with its elements. One whose elements cannot be read is unknown.
    fn fill(&mut self, object: &Value, line: u32) {
        let (Some(index), Some(name)) = (self.table_of(object), text(object, "name")) else { return };
        let Some(given) = object.get("elem") else { return };
        match self.read_elements(index, name, given) {
            None => {}
            Some(Ok(read)) => {
                if let Some(set) = self.tables[index].sets.iter_mut().find(|set| set.name == name) {
                    let timeout = set.timeout;
                    let timed = |element: Element| Element { expires: element.expires.or(timeout), ..element };
                    set.elements.extend(read.into_iter().map(timed));
                }
            }
            Some(Err(what)) => {
                self.names[index].sets.remove(name);
                let what = format!("set {name} of table {}: {what}", self.table_name(index));
                self.warn(WarningKind::UnknownObject, line, &what);
            }
        }
    }

    /// Reads elements of a set; none if there is no such set.
    fn read_elements(&self, index: usize, name: &str, given: &Value) -> Option<Result<Vec<Element>, Unread>> {
        let one;
        let list = match given {
            Value::Array(list) => list,
            other => {
                one = vec![other.clone()];
                &one
            }
        };
        let names = self.names.get(index)?;
        let types = names.sets.get(name)?;
        Some(elements(list, types, names.data.get(name).map(Vec::as_slice)))
    }

    /// `flush set`: takes all elements out.
    fn empty(&mut self, object: &Value) {
        let (Some(index), Some(name)) = (self.table_of(object), text(object, "name")) else { return };
        if let Some(set) = self.tables[index].sets.iter_mut().find(|set| set.name == name) {
            set.elements.clear();
        }
    }

    /// `delete element`: takes elements out.
    fn take_out(&mut self, object: &Value, line: u32) {
        let (Some(index), Some(name)) = (self.table_of(object), text(object, "name")) else { return };
        let Some(types) = self.names[index].sets.get(name) else { return };
        let given = object.get("elem").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match elements(given, types, None) {
            Ok(gone) => {
                if let Some(set) = self.tables[index].sets.iter_mut().find(|set| set.name == name) {
                    set.elements.retain(|element| gone.iter().all(|gone| gone.key != element.key));
                }
            }
            Err(what) => {
                self.names[index].sets.remove(name);
                let what = format!("set {name} of table {}: {what}", self.table_name(index));
                self.warn(WarningKind::UnknownObject, line, &what);
            }
        }
    }

    fn rule(&mut self, object: &Value, line: u32, is_first: bool) {
        let (Some(index), Some(chain)) = (self.table_of(object), text(object, "chain")) else { return };
        let handle = whole::<u64>(object.get("handle"));
        let table = self.table_name(index);
        let place = match handle {
            Some(handle) => format!("table {table}, chain {chain}, handle {handle}"),
            None => format!("table {table}, chain {chain}"),
        };
        let names = &self.names[index];
        let scope = Scope {
            family: self.tables[index].family,
            sets: &names.sets,
            helpers: &names.helpers,
            meters: &names.meters,
            meter_sets: RefCell::default(),
        };
        let mut statements = Vec::new();
        let mut failed = Vec::new();
        let given = object.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for one in given {
            match statement(one, &scope) {
                Ok(read) => statements.extend(read),
                Err(what) => {
                    failed.push(format!("{place}: {what}"));
                    statements.push(Statement::Unknown(what));
                }
            }
        }
        if let Some(implied) = implied(&statements, scope.family) {
            statements.insert(0, implied);
        }
        let made = scope.meter_sets.into_inner();
        for set in made {
            if !self.tables[index].sets.iter().any(|known| known.name == set.name) {
                self.tables[index].sets.push(set);
            }
        }
        let origin = Origin { file: self.file.clone(), line, rule: Some(place.into()) };
        for what in failed {
            self.warn(WarningKind::UnknownStatement, line, &what);
        }
        if let Some(chain) = self.tables[index].chains.iter_mut().find(|known| known.name == chain) {
            let rule = NftRule { statements, origin: Some(origin) };
            let index = whole::<usize>(object.get("index"));
            let at = match index {
                Some(index) => index.saturating_add(usize::from(!is_first)),
                None if is_first => 0,
                None => usize::MAX,
            };
            chain.rules.insert(at.min(chain.rules.len()), rule);
        }
    }
}

/// The objects that are there after the last command, in their order.
fn remaining(objects: &[Object]) -> Vec<Named<'_>> {
    let mut kept: Vec<Named<'_>> = Vec::new();
    for object in objects {
        let Some((action, inner)) = only(&object.value) else { continue };
        let named = |kind, inner, is_first| Named { kind, inner, line: object.line, file: &object.file, is_first };
        match (action, only(inner)) {
            ("add" | "create" | "insert", Some((kind, inner))) => kept.push(named(kind, inner, action == "insert")),
            ("flush", Some((kind, inner))) => match kind {
                "ruleset" => {
                    let family = text(inner, "family");
                    kept.retain(|old| family.is_some_and(|family| text(old.inner, "family") != Some(family)));
                }
                "table" => kept.retain(|old| old.kind != "rule" || !is_of_table(old, inner)),
                "chain" => kept.retain(|old| old.kind != "rule" || !is_of_chain(old, inner)),
                _ => kept.push(named("flush set", inner, false)),
            },
            ("delete" | "destroy", Some((kind, inner))) => match kind {
                "table" => kept.retain(|old| !is_of_table(old, inner) && !is_same("table", old, inner)),
                "chain" => kept.retain(|old| !is_same("chain", old, inner) && !is_of_chain(old, inner)),
                "element" => kept.push(named("delete element", inner, false)),
                _ => kept.retain(|old| !is_same(kind, old, inner)),
            },
            (kind, _) => kept.push(named(kind, inner, false)),
        }
    }
    kept
}

fn is_of_table(object: &Named<'_>, table: &Value) -> bool {
    text(object.inner, "family") == text(table, "family") && text(object.inner, "table") == text(table, "name")
}

fn is_of_chain(object: &Named<'_>, chain: &Value) -> bool {
    let same = |key| text(object.inner, key) == text(chain, key);
    object.kind == "rule" && same("family") && same("table") && text(object.inner, "chain") == text(chain, "name")
}

fn is_same(kind: &str, object: &Named<'_>, other: &Value) -> bool {
    let same = |key| text(object.inner, key) == text(other, key);
    object.kind == kind && same("family") && same("table") && same("name")
}

/// The match with which a rule that refuses packets begins, since nft puts it there unless the rule has one of its own.
fn implied(statements: &[Statement], family: TableFamily) -> Option<Statement> {
    let asks = |wanted: fn(&Expression) -> bool| {
        statements.iter().any(|statement| match statement {
            Statement::Match { left, .. } => wanted(left),
            Statement::Lookup { key, .. } | Statement::VerdictMap { key, .. } => key.iter().any(wanted),
            Statement::SetMark(Expression::Map { key, .. }) | Statement::SetCtMark(Expression::Map { key, .. }) => {
                key.iter().any(wanted)
            }
            _ => false,
        })
    };
    let equals = |key, value| Statement::Match {
        left: Expression::Meta(key),
        operator: Operator::Equal,
        right: vec![Span::one(value)],
    };
    statements.iter().find_map(|statement| match statement {
        Statement::Reject { with: RejectWith::TcpReset, .. } => {
            let is_known = asks(|expression| {
                matches!(
                    expression,
                    Expression::Payload { header: Header::Protocol(_), .. }
                        | Expression::Payload { header: Header::Ipv4, offset: 72, .. }
                        | Expression::Payload { header: Header::Ipv6, offset: 48, .. }
                        | Expression::Meta(MetaKey::Layer4Protocol)
                )
            });
            (!is_known).then(|| equals(MetaKey::Layer4Protocol, 6))
        }
        Statement::Reject { family: Some(wanted), .. } if family == TableFamily::Inet => {
            let is_known = asks(|expression| {
                matches!(
                    expression,
                    Expression::Payload { header: Header::Ipv4 | Header::Ipv6, .. }
                        | Expression::Payload { header: Header::Protocol(1 | 58), .. }
                        | Expression::Meta(MetaKey::Family | MetaKey::EtherType)
                )
            });
            (!is_known).then(|| equals(MetaKey::Family, *wanted as u128))
        }
        _ => None,
    })
}

/// Seconds, in milliseconds.
pub(super) fn milliseconds(value: &Value) -> Option<u64> {
    match value.as_u64() {
        Some(seconds) => seconds.checked_mul(1000),
        None => value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds)).map(|seconds| (seconds * 1000.0) as u64),
    }
}

fn text<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.get(key)?.as_str()
}

fn family_of(name: &str) -> Option<TableFamily> {
    match name {
        "ip" => Some(TableFamily::Ip),
        "ip6" => Some(TableFamily::Ip6),
        "inet" => Some(TableFamily::Inet),
        _ => None,
    }
}

fn base(hook: &str, object: &Value) -> Option<Base> {
    let hook = match hook {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        _ => return None,
    };
    let kind = match text(object, "type")? {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => return None,
    };
    let policy = match text(object, "policy") {
        None | Some("accept") => Policy::Accept,
        Some("drop") => Policy::Drop,
        Some(_) => return None,
    };
    let priority = i32::try_from(object.get("prio")?.as_i64()?).ok()?;
    Some(Base { kind, hook, priority, policy })
}

/// The types of a set's key: their names, or expressions that have them.
fn types(given: &Value) -> Option<Vec<Datatype>> {
    if let Some(expressions) = given.get("typeof") {
        let (sets, nothing) = (BTreeMap::new(), []);
        let scope = Scope {
            family: TableFamily::Inet,
            sets: &sets,
            helpers: &nothing,
            meters: &nothing,
            meter_sets: RefCell::default(),
        };
        let parts = key(expressions, &scope).ok()?;
        return Some(parts.into_iter().map(|(_, datatype)| datatype).collect());
    }
    match given {
        Value::String(names) => names.split(" . ").map(Datatype::of_set).collect(),
        Value::Array(names) => names.iter().map(|name| Datatype::of_set(name.as_str()?)).collect(),
        _ => None,
    }
}
