//! Makes a ruleset ready to be asked: chains, sets and interfaces become numbers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::edit::PacketEdit;
use super::super::rules::{Origin, Policy, RejectWith, is_known_helper};
use super::super::rules_error::RulesError;
use super::dynamic::DynamicPlan;
use super::lookup::Lookup;
use super::model::{
    Base, ChainKind, CtKey, Data, Element, Expression, Meter, NatKind, NatValue, NftRuleset, NftSet, NftTable,
    NftVerdict, ObjectRef, Operator, SetAction, SetRef, Span, Statement, TableFamily,
};
use super::slots::Slots;
use super::state::{MeterState, NftState, StatePlan};
use crate::packet::Family;

/// Maximum number of chains that call each other: the kernel refuses more.
const MAX_DEPTH: usize = 16;

/// Maximum number of values that an expression holds at once.
pub(super) const MAX_STACK: usize = 16;

/// The chains of nftables, ready to be asked.
#[derive(Clone, Debug)]
pub struct Nft {
    pub(super) chains: Box<[CompiledChain]>,
    pub(super) sets: Box<[CompiledSet]>,
    pub(super) names: Box<[u128]>,
    slots: [Slots; 2],
    origins: Box<[Option<Origin>]>,
    pub(super) plan: StatePlan,
    asks_counters: bool,
    has_nat: [bool; 2],
    adds_option: [bool; 2],
    sets_zones: [bool; 2],
}

#[derive(Clone, Debug)]
pub(super) struct CompiledChain {
    pub(super) policy: Option<Policy>,
    pub(super) rules: Box<[CompiledRule]>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    pub(super) steps: Box<[Step]>,
    pub(super) number: u32,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledSet {
    pub(super) lookup: Lookup,
    /// The number of its elements in the memory, if rules change them, or time does.
    pub(super) dynamic: Option<u32>,
    /// Bits of each part of its keys.
    pub(super) parts: Box<[u8]>,
    pub(super) data: Box<[CompiledData]>,
}

#[derive(Clone, Debug)]
pub(super) enum CompiledData {
    None,
    /// A helper: true for FTP's.
    Helper(bool),
    /// The number of a limit or quota.
    Meter(u32),
    Verdict(CompiledVerdict),
    Values(Box<[Span]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompiledVerdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(u32),
    Goto(u32),
}

/// An expression, operands before operators. What it leaves is a key.
pub(super) type Code = Box<[Instruction]>;

#[derive(Clone, Debug)]
pub(super) enum Instruction {
    Load(Expression),
    And,
    Or,
    Xor,
    ShiftLeft(u8),
    ShiftRight(u8),
    /// Replaces a key of so many parts by what a map has for it.
    Map {
        parts: usize,
        set: u32,
    },
    Counter {
        modulus: u32,
        offset: u32,
        number: u32,
    },
    /// Replaces a key by its hash.
    Hash {
        parts: Box<[u8]>,
        modulus: u32,
        seed: u32,
        offset: u32,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Match {
        code: Code,
        operator: Operator,
        spans: Box<[Span]>,
    },
    Lookup {
        code: Code,
        set: u32,
        negated: bool,
    },
    Verdict(CompiledVerdict),
    VerdictMap {
        code: Code,
        set: u32,
    },
    SetMark(Code),
    SetCtMark(Code),
    /// True for the FTP helper.
    SetHelper(bool),
    SetHelperBy {
        code: Code,
        set: u32,
    },
    MeterBy {
        code: Code,
        set: u32,
    },
    Count {
        number: u32,
        bound: u32,
        over: bool,
    },
    Edit(PacketEdit),
    Update {
        action: SetAction,
        code: Code,
        set: u32,
        /// Milliseconds.
        timeout: Option<u64>,
        meter: Option<Meter>,
    },
    SetZone(Code),
    NoTrack,
    Nat(Box<CompiledNat>),
    MaxSeg(Option<u16>),
    Reject {
        with: RejectWith,
        family: Option<Family>,
    },
    Log,
    Meter(u32),
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledNat {
    pub(super) kind: NatKind,
    pub(super) family: Option<Family>,
    pub(super) address: Option<CompiledNatValue>,
    pub(super) port: Option<CompiledNatValue>,
    pub(super) random: bool,
    pub(super) persistent: bool,
    pub(super) netmap: bool,
}

#[derive(Clone, Debug)]
pub(super) enum CompiledNatValue {
    Span(Span),
    Map { code: Code, set: u32 },
    Computed(Code),
}

impl Nft {
    /// Makes tables ready to be asked on a machine with these interfaces, in the order of their numbers.
    ///
    /// # Errors
    /// When a rule calls a chain that is not there, or chains call each other in a circle.
    pub fn new(ruleset: &NftRuleset, interfaces: &[&str]) -> Result<Self, RulesError> {
        let mut compiler = Compiler::default();
        for table in &ruleset.tables {
            compiler.table(table)?;
        }
        let bases = &compiler.bases;
        let of = |family: Family| {
            let seen: Vec<(u32, Base)> =
                bases.iter().filter(|(table, ..)| table.sees(family)).map(|(_, chain, base)| (*chain, *base)).collect();
            seen
        };
        let both = [of(Family::V4), of(Family::V6)];
        let has = |wanted: fn(&Statement) -> bool| {
            [Family::V4, Family::V6].map(|family| {
                let tables = ruleset.tables.iter().filter(|table| table.family.sees(family));
                let mut statements = tables.flat_map(|t| &t.chains).flat_map(|c| &c.rules).flat_map(|r| &r.statements);
                statements.any(wanted)
            })
        };
        Ok(Self {
            slots: both.each_ref().map(|bases| Slots::new(bases)),
            has_nat: both.each_ref().map(|bases| bases.iter().any(|(_, base)| base.kind == ChainKind::Nat)),
            adds_option: has(|statement| matches!(statement, Statement::MaxSeg(_))),
            sets_zones: has(|statement| matches!(statement, Statement::SetZone(_))),
            chains: compiler.chains.into(),
            sets: compiler.sets.into(),
            origins: compiler.origins.into(),
            asks_counters: compiler.asks_counters,
            plan: StatePlan {
                meters: compiler.meters,
                counters: compiler.counters,
                counts: compiler.counts,
                sets: compiler.dynamic,
            },
            names: interfaces.iter().map(|name| name_value(name)).collect(),
        })
    }

    /// Takes the memory that its rules need, on a machine that tracks so many connections. `seeds` key its hash tables.
    #[must_use]
    pub fn initial_state(&self, connections: u32, seeds: [u64; 2]) -> NftState {
        NftState::new(&self.plan, connections, seeds)
    }

    /// Returns true if a rule asks how much connections carried: the kernel counts it then.
    pub(crate) const fn asks_counters(&self) -> bool {
        self.asks_counters
    }

    pub(crate) const fn slots(&self, family: Family) -> &Slots {
        &self.slots[index(family)]
    }

    pub(crate) const fn origins(&self) -> &[Option<Origin>] {
        &self.origins
    }

    pub(crate) const fn has_nat(&self, family: Family) -> bool {
        self.has_nat[index(family)]
    }

    pub(crate) const fn may_add_option(&self, family: Family) -> bool {
        self.adds_option[index(family)]
    }

    pub(crate) const fn sets_zones(&self, family: Family) -> bool {
        self.sets_zones[index(family)]
    }
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// Returns an interface's name as a value: its bytes, padded with zeros to 16.
pub(super) fn name_value(name: &str) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u128::from_be_bytes(bytes)
}

#[derive(Default)]
struct Compiler {
    chains: Vec<CompiledChain>,
    sets: Vec<CompiledSet>,
    origins: Vec<Option<Origin>>,
    meters: Vec<MeterState>,
    counters: Vec<u32>,
    counts: u32,
    asks_counters: bool,
    dynamic: Vec<DynamicPlan>,
    bases: Vec<(TableFamily, u32, Base)>,
}

/// The named objects of a table's rules.
struct Names<'t> {
    table: &'t NftTable,
    chains: BTreeMap<&'t str, u32>,
    sets: BTreeMap<&'t str, u32>,
    meters: BTreeMap<&'t str, u32>,
}

impl Compiler {
    fn table(&mut self, table: &NftTable) -> Result<(), RulesError> {
        let first = self.chains.len() as u32;
        let meter = |compiler: &mut Self, (name, meter): &'_ (String, Meter)| {
            let number = compiler.meter(*meter);
            (name.clone(), number)
        };
        let meters: Vec<(String, u32)> = table.meters.iter().map(|named| meter(self, named)).collect();
        let mut names = Names {
            table,
            chains: table.chains.iter().map(|chain| chain.name.as_str()).zip(first..).collect(),
            sets: BTreeMap::new(),
            meters: meters.iter().map(|(name, number)| (name.as_str(), *number)).collect(),
        };
        for set in &table.sets {
            let number = self.named_set(&names, set)?;
            names.sets.insert(&set.name, number);
        }
        for (chain, number) in table.chains.iter().zip(first..) {
            if let Some(base) = chain.base {
                self.bases.push((table.family, number, base));
            }
            let mut rules = Vec::new();
            for rule in &chain.rules {
                let mut steps = Vec::new();
                for statement in &rule.statements {
                    steps.extend(self.statement(&names, statement, rule.origin.as_ref())?);
                }
                rules.push(CompiledRule { steps: steps.into(), number: self.origins.len() as u32 });
                self.origins.push(rule.origin.clone());
            }
            self.chains.push(CompiledChain { policy: chain.base.map(|base| base.policy), rules: rules.into() });
        }
        self.refuse_circles(table, first as usize)
    }

    /// Chains that call each other in a circle, or too deep, are refused, as the kernel does.
    fn refuse_circles(&self, table: &NftTable, first: usize) -> Result<(), RulesError> {
        let chains = self.chains.get(first..).unwrap_or_default();
        let calls: Vec<Vec<usize>> = chains.iter().map(|chain| self.calls(chain, first)).collect();
        // Every round finds the chains that are one deeper than those found before.
        let mut depths: Vec<Option<usize>> = alloc::vec![None; calls.len()];
        for _ in 0..=MAX_DEPTH {
            for (chain, called) in calls.iter().enumerate() {
                let deepest = called.iter().try_fold(0, |deepest, called| {
                    let depth = depths.get(*called).copied().flatten()?;
                    Some(deepest.max(depth + 1))
                });
                if let Some(depth) = depths.get_mut(chain) {
                    *depth = deepest;
                }
            }
        }
        match depths.iter().position(|depth| depth.is_none_or(|depth| depth > MAX_DEPTH)) {
            Some(chain) => {
                let name = table.chains.get(chain).map(|chain| chain.name.as_str()).unwrap_or_default();
                Err(RulesError::NftLoop { table: table_name(table), chain: name.into() })
            }
            None => Ok(()),
        }
    }

    /// The chains that a chain calls, counted from the table's first.
    fn calls(&self, chain: &CompiledChain, first: usize) -> Vec<usize> {
        let mut calls = Vec::new();
        let mut note = |verdict: CompiledVerdict| {
            if let CompiledVerdict::Jump(chain) | CompiledVerdict::Goto(chain) = verdict {
                calls.push((chain as usize).saturating_sub(first));
            }
        };
        for step in chain.rules.iter().flat_map(|rule| &rule.steps) {
            match step {
                Step::Verdict(verdict) => note(*verdict),
                Step::VerdictMap { set, .. } => {
                    for data in self.sets.get(*set as usize).into_iter().flat_map(|set| &set.data) {
                        if let CompiledData::Verdict(verdict) = data {
                            note(*verdict);
                        }
                    }
                }
                _ => {}
            }
        }
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    fn meter(&mut self, meter: Meter) -> u32 {
        self.meters.push(MeterState::new(meter));
        self.meters.len() as u32 - 1
    }

    /// A named set. One that rules change, or time does, is kept in the memory.
    fn named_set(&mut self, names: &Names<'_>, set: &NftSet) -> Result<u32, RulesError> {
        let number = self.set(names, &set.elements, None)?;
        let statements = names.table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
        let mut updates = statements
            .filter(|statement| matches!(statement, Statement::Update { set: updated, .. } if *updated == set.name));
        let is_dynamic = updates.next().is_some() || set.elements.iter().any(|element| element.expires.is_some());
        let bits: usize = set.parts.iter().map(|bits| usize::from(*bits)).sum();
        if is_dynamic && bits <= DynamicPlan::MAX_BITS {
            let dynamic = self.dynamic.len() as u32;
            self.dynamic.push(DynamicPlan::new(set));
            if let Some(compiled) = self.sets.get_mut(number as usize) {
                compiled.dynamic = Some(dynamic);
                compiled.parts = set.parts.clone().into();
            }
        }
        Ok(number)
    }

    fn set(&mut self, names: &Names<'_>, elements: &[Element], origin: Option<&Origin>) -> Result<u32, RulesError> {
        let mut data = Vec::new();
        for element in elements {
            data.push(match &element.data {
                Data::Object(name) => names.object(name, origin)?,
                Data::None => CompiledData::None,
                Data::Verdict(verdict) => CompiledData::Verdict(names.verdict(verdict, origin)?),
                Data::Values(values) => CompiledData::Values(values.clone()),
            });
        }
        let lookup = Lookup::new(elements);
        self.sets.push(CompiledSet { lookup, dynamic: None, parts: Box::default(), data: data.into() });
        Ok(self.sets.len() as u32 - 1)
    }

    fn set_ref(&mut self, names: &Names<'_>, set: &SetRef, origin: Option<&Origin>) -> Result<u32, RulesError> {
        match set {
            SetRef::Anonymous(elements) => self.set(names, elements, origin),
            SetRef::Named(name) => names.sets.get(name.as_str()).copied().ok_or_else(|| RulesError::NftMissing {
                table: table_name(names.table),
                what: described("set", name),
                origin: origin.cloned(),
            }),
        }
    }

    fn statement(
        &mut self,
        names: &Names<'_>,
        statement: &Statement,
        origin: Option<&Origin>,
    ) -> Result<Option<Step>, RulesError> {
        let missing =
            |what: String| RulesError::NftMissing { table: table_name(names.table), what, origin: origin.cloned() };
        Ok(Some(match statement {
            Statement::Match { left, operator, right } => Step::Match {
                code: self.code(names, core::slice::from_ref(left), origin)?,
                operator: *operator,
                spans: right.clone().into(),
            },
            Statement::Lookup { key, set, negated } => Step::Lookup {
                code: self.code(names, key, origin)?,
                set: self.set_ref(names, set, origin)?,
                negated: *negated,
            },
            Statement::Verdict(verdict) => Step::Verdict(names.verdict(verdict, origin)?),
            Statement::VerdictMap { key, map } => {
                Step::VerdictMap { code: self.code(names, key, origin)?, set: self.set_ref(names, map, origin)? }
            }
            Statement::SetMark(value) => Step::SetMark(self.code(names, core::slice::from_ref(value), origin)?),
            Statement::SetCtMark(value) => Step::SetCtMark(self.code(names, core::slice::from_ref(value), origin)?),
            Statement::SetZone(value) => Step::SetZone(self.code(names, core::slice::from_ref(value), origin)?),
            Statement::SetHelper(ObjectRef::Named(object)) => {
                let helper = names.table.helpers.iter().find(|(name, _)| name == object);
                let (_, helper) = helper.ok_or_else(|| missing(described("ct helper", object)))?;
                if !is_known_helper(helper) {
                    return Err(RulesError::UnknownHelper { helper: helper.clone(), origin: origin.cloned() });
                }
                Step::SetHelper(helper == "ftp")
            }
            Statement::SetHelper(ObjectRef::Map { key, map }) => {
                Step::SetHelperBy { code: self.code(names, key, origin)?, set: self.set_ref(names, map, origin)? }
            }
            Statement::Count { bound, over } => {
                self.counts += 1;
                Step::Count { number: self.counts - 1, bound: *bound, over: *over }
            }
            Statement::Edit(edit) => Step::Edit(*edit),
            Statement::Update { action, key, set, timeout, meter } => {
                let code = self.code(names, key, origin)?;
                let number = self.set_ref(names, &SetRef::Named(set.clone()), origin)?;
                let is_there = self.sets.get(number as usize).is_some_and(|set| set.dynamic.is_some());
                if is_there {
                    Step::Update { action: *action, code, set: number, timeout: *timeout, meter: *meter }
                } else {
                    Step::Unknown
                }
            }
            Statement::NoTrack => Step::NoTrack,
            Statement::Nat(nat) => {
                let mut value = |value: &Option<NatValue>| match value {
                    None => Ok(None),
                    Some(value) => self.nat_value(names, value, origin).map(Some),
                };
                Step::Nat(Box::new(CompiledNat {
                    kind: nat.kind,
                    family: nat.family,
                    address: value(&nat.address)?,
                    port: value(&nat.port)?,
                    random: nat.random,
                    persistent: nat.persistent,
                    netmap: nat.netmap,
                }))
            }
            Statement::MaxSeg(size) => Step::MaxSeg(*size),
            Statement::Reject { with, family } => Step::Reject { with: *with, family: *family },
            Statement::Log { .. } => Step::Log,
            Statement::Meter(meter) => Step::Meter(self.meter(*meter)),
            Statement::NamedMeter(ObjectRef::Map { key, map }) => {
                Step::MeterBy { code: self.code(names, key, origin)?, set: self.set_ref(names, map, origin)? }
            }
            Statement::NamedMeter(ObjectRef::Named(name)) => {
                let number = names.meters.get(name.as_str()).copied();
                Step::Meter(number.ok_or_else(|| missing(described("limit or quota", name)))?)
            }
            Statement::Unknown(_) => Step::Unknown,
        }))
    }

    fn nat_value(
        &mut self,
        names: &Names<'_>,
        value: &NatValue,
        origin: Option<&Origin>,
    ) -> Result<CompiledNatValue, RulesError> {
        Ok(match value {
            NatValue::Span(span) => CompiledNatValue::Span(*span),
            NatValue::Map { key, map } => {
                CompiledNatValue::Map { code: self.code(names, key, origin)?, set: self.set_ref(names, map, origin)? }
            }
            NatValue::Computed(expression) => {
                CompiledNatValue::Computed(self.code(names, core::slice::from_ref(expression), origin)?)
            }
        })
    }

    /// Puts the parts of a key into the order in which they are computed. One that is too deep is not understood.
    fn code(&mut self, names: &Names<'_>, key: &[Expression], origin: Option<&Origin>) -> Result<Code, RulesError> {
        let mut code = Vec::new();
        let mut deepest = 0;
        for (below, part) in key.iter().enumerate() {
            let depth = self.push(names, part, &mut code, origin)?;
            deepest = deepest.max(below + depth);
        }
        if deepest > MAX_STACK {
            code = alloc::vec![Instruction::Load(Expression::Unknown("an expression that is too deep".into()))];
        }
        Ok(code.into())
    }

    /// Returns how many values it holds at once.
    fn push(
        &mut self,
        names: &Names<'_>,
        expression: &Expression,
        code: &mut Vec<Instruction>,
        origin: Option<&Origin>,
    ) -> Result<usize, RulesError> {
        let (left, right, instruction) = match expression {
            Expression::And(left, right) => (left, Some(right), Instruction::And),
            Expression::Or(left, right) => (left, Some(right), Instruction::Or),
            Expression::Xor(left, right) => (left, Some(right), Instruction::Xor),
            Expression::ShiftLeft(value, bits) => (value, None, Instruction::ShiftLeft(*bits)),
            Expression::ShiftRight(value, bits) => (value, None, Instruction::ShiftRight(*bits)),
            Expression::Map { key, map } => {
                let mut deepest = 1;
                for (below, part) in key.iter().enumerate() {
                    deepest = deepest.max(below + self.push(names, part, code, origin)?);
                }
                code.push(Instruction::Map { parts: key.len(), set: self.set_ref(names, map, origin)? });
                return Ok(deepest);
            }
            Expression::Hash { key, modulus, seed, offset } => {
                let mut deepest = 1;
                for (below, (part, _)) in key.iter().enumerate() {
                    deepest = deepest.max(below + self.push(names, part, code, origin)?);
                }
                let parts = key.iter().map(|(_, bits)| *bits).collect();
                code.push(Instruction::Hash { parts, modulus: *modulus, seed: *seed, offset: *offset });
                return Ok(deepest);
            }
            Expression::Counter { modulus, offset } => {
                code.push(Instruction::Counter {
                    modulus: *modulus,
                    offset: *offset,
                    number: self.counters.len() as u32,
                });
                self.counters.push(0);
                return Ok(1);
            }
            leaf => {
                let counts = |key: &CtKey| {
                    matches!(key, CtKey::Packets { .. } | CtKey::Bytes { .. } | CtKey::AveragePacket { .. })
                };
                self.asks_counters |= matches!(leaf, Expression::Ct(key) if counts(key));
                code.push(Instruction::Load(leaf.clone()));
                return Ok(1);
            }
        };
        let left = self.push(names, left, code, origin)?;
        let right = match right {
            Some(right) => 1 + self.push(names, right, code, origin)?,
            None => 0,
        };
        code.push(instruction);
        Ok(left.max(right))
    }
}

impl Names<'_> {
    /// The object that a map names: a helper, or a limit or quota.
    fn object(&self, name: &String, origin: Option<&Origin>) -> Result<CompiledData, RulesError> {
        if let Some((_, helper)) = self.table.helpers.iter().find(|(known, _)| known == name) {
            return Ok(CompiledData::Helper(helper == "ftp"));
        }
        let meter = self.meters.get(name.as_str()).copied();
        meter.map(CompiledData::Meter).ok_or_else(|| RulesError::NftMissing {
            table: table_name(self.table),
            what: described("object", name),
            origin: origin.cloned(),
        })
    }

    fn verdict(&self, verdict: &NftVerdict, origin: Option<&Origin>) -> Result<CompiledVerdict, RulesError> {
        let find = |name: &String| {
            self.chains.get(name.as_str()).copied().ok_or_else(|| RulesError::NftMissing {
                table: table_name(self.table),
                what: described("chain", name),
                origin: origin.cloned(),
            })
        };
        Ok(match verdict {
            NftVerdict::Accept => CompiledVerdict::Accept,
            NftVerdict::Drop => CompiledVerdict::Drop,
            NftVerdict::Continue => CompiledVerdict::Continue,
            NftVerdict::Return => CompiledVerdict::Return,
            NftVerdict::Jump(chain) => CompiledVerdict::Jump(find(chain)?),
            NftVerdict::Goto(chain) => CompiledVerdict::Goto(find(chain)?),
        })
    }
}

/// Returns `KIND NAME`. (Formatting would need unwinding, which a program without std may not have.)
fn described(kind: &str, name: &str) -> String {
    [kind, " ", name].concat()
}

fn table_name(table: &NftTable) -> String {
    described(table.family.name(), &table.name)
}
