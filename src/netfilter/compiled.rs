//! Rules made ready to be asked: chains are ranges of one list, interfaces are numbers.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::ipset::SetUpdate;
use super::memory::{MemoryPlan, Stateful};
use super::nft::{Entry, Nft};
use super::rules::{
    Cidr, Condition, Hook, Match, Origin, Policy, Rule, Ruleset, StateSet, Table, TableName, Target, is_known_helper,
};
use super::rules_error::RulesError;
use super::skipped::{RawScope, STATES, SkippedTables};
use crate::conntrack::Template;
use crate::nat::PortRange;
use crate::packet::Family;

/// Maximum depth of chains that call each other.
pub(super) const MAX_DEPTH: usize = 64;

/// The rules of one family, ready to be asked: chains are ranges of one list, interfaces are numbers.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) tables: [Option<CompiledTable>; TableName::COUNT],
    /// For each state, which tables need not be asked about a packet in it, and where.
    pub(super) skipped: [SkippedTables; 5],
    /// For each hook, whom table raw asks about.
    pub(super) raw: [RawScope; 5],
    pub(super) loaded: [bool; TableName::COUNT],
    pub(super) may_add_option: bool,
    pub(super) sets_zones: bool,
    pub(super) origins: Box<[Option<Origin>]>,
    /// The chains of nftables, and the family of which packets they are asked about here.
    pub(super) nft: Option<(Arc<Nft>, Family)>,
    /// The number of the first rule of nftables.
    pub(super) first_nft_rule: u32,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledTable {
    pub(super) rules: Box<[CompiledRule]>,
    /// For each hook, the first rule of its chain; `None` where that chain has nothing to say.
    pub(super) entries: [Option<u32>; 5],
    /// For each hook, whether its chain has only rules that say how connections begin.
    pub(super) only_begins: [bool; 5],
}

#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    pub(super) conditions: Box<[CompiledCondition]>,
    pub(super) action: Action,
    /// True if what a capture shows may decide whether it matches.
    pub(super) is_chancy: bool,
    /// Number of the rule among all rules of the family.
    pub(super) number: u32,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledCondition {
    pub(super) test: Test,
    pub(super) negated: bool,
}

/// A test; those that nearly every rule has are laid out to be asked fast.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Protocol(u8),
    /// For each interface, whether it matches.
    In(Box<[bool]>),
    Out(Box<[bool]>),
    /// An IPv4 address at an offset of the header, under a mask.
    AddressV4 {
        at: usize,
        mask: u32,
        value: u32,
    },
    /// One range of destination ports.
    DestinationPort(PortRange),
    State(StateSet),
    /// A match that remembers, and its place in the memory; `None` where it cannot be answered.
    Stateful(Box<Stateful>, Option<u32>),
    Other(Match),
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Jump(u32),
    Goto(u32),
    /// The end of a built-in chain.
    Policy(Policy),
    Return,
    /// `CT` without more than a helper or a zone.
    Template(Template),
    /// `SET`: the updates, and the place of each one's set in the memory.
    UpdateSets(Box<[(SetUpdate, Option<u32>)]>),
    Target(Target),
}

impl Rules {
    /// Makes rules ready to be asked on a machine with these interfaces, in the order of their numbers.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn new(ruleset: &Ruleset, interfaces: &[&str]) -> Result<Self, RulesError> {
        Self::with_memory(ruleset, Family::V4, interfaces, &mut MemoryPlan::default(), None)
    }

    /// Makes rules of one family ready to be asked, and the chains of nftables with them. The plan learns what the rules need
    /// to remember: it makes a [`RuleMemory`](super::RuleMemory).
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn with_memory(
        ruleset: &Ruleset,
        family: Family,
        interfaces: &[&str],
        plan: &mut MemoryPlan,
        nft: Option<Arc<Nft>>,
    ) -> Result<Self, RulesError> {
        if let Some((table, hook)) = ruleset.misplaced {
            return Err(RulesError::NoBuiltInChain { table, hook });
        }
        let nft = nft.map(|nft| (nft, family));
        let mut origins = Vec::new();
        let mut tables = [const { None }; TableName::COUNT];
        for name in TableName::ALL {
            let table = ruleset.table(name);
            if !table.is_trivial() {
                tables[name as usize] = Some(CompiledTable::new(
                    name,
                    table,
                    &mut Compiler { family, interfaces, plan, origins: &mut origins },
                )?);
            }
        }
        let has_nft_chains = |table, hook| {
            nft.as_ref()
                .is_some_and(|(nft, family): &(Arc<Nft>, Family)| !nft.slots(*family).at(table, hook).is_empty())
        };
        let asks_raw = |hook| match &tables[TableName::Raw as usize] {
            _ if has_nft_chains(TableName::Raw, hook) => RawScope::All,
            Some(table) => table.asks(hook),
            None => RawScope::None,
        };
        let raw = Hook::ALL.map(asks_raw);
        let skipped = STATES.map(|state| {
            let mut skipped = SkippedTables::of(&tables, StateSet::of_state(state));
            if let Some((nft, family)) = &nft {
                skipped.unless_nft_speaks(nft, *family, state);
            }
            skipped
        });
        let mut loaded = TableName::ALL.map(|name| ruleset.is_loaded(name));
        let first_nft_rule = origins.len() as u32;
        let mut nft_adds_option = false;
        let mut nft_sets_zones = false;
        if let Some((nft, family)) = &nft {
            loaded[TableName::Nat as usize] |= nft.has_nat(*family);
            origins.extend_from_slice(nft.origins());
            nft_adds_option = nft.may_add_option(*family);
            nft_sets_zones = nft.sets_zones(*family);
        }
        let adds_option = |rule: &Rule| matches!(rule.target, Target::TcpMss(_));
        let all_chains = || TableName::ALL.iter().flat_map(|name| &ruleset.table(*name).chains);
        let may_add_option = nft_adds_option || all_chains().any(|chain| chain.rules.iter().any(adds_option));
        let sets_zone = |rule: &Rule| matches!(rule.target, Target::Ct { zone: Some(_), .. });
        let sets_zones = nft_sets_zones || all_chains().any(|chain| chain.rules.iter().any(sets_zone));
        let origins = origins.into();
        Ok(Self { tables, skipped, raw, loaded, may_add_option, sets_zones, origins, nft, first_nft_rule })
    }

    /// Returns the file and line of a rule, by its number.
    #[must_use]
    pub fn origin(&self, rule: usize) -> Option<&Origin> {
        self.origins.get(rule)?.as_ref()
    }

    /// Returns true if a table would say anything but accept, or do anything.
    #[inline]
    #[must_use]
    pub fn asks(&self, table: TableName) -> bool {
        self.tables[table as usize].is_some()
    }

    /// Returns true if a rule may make a packet grow, by itself or through a helper that is not known before it was asked.
    #[inline]
    pub(crate) const fn may_grow_packets(&self) -> bool {
        self.may_add_option || self.sets_zones
    }

    /// Returns true if a rule may add an option to a SYN (TCPMSS), so that it grows by [`Rules::OPTION`] bytes.
    #[inline]
    #[must_use]
    pub const fn may_add_option(&self) -> bool {
        self.may_add_option
    }

    /// Returns true if a rule sets a zone, so that a packet's connection is not known before the rules were asked.
    #[inline]
    #[must_use]
    pub const fn sets_zones(&self) -> bool {
        self.sets_zones
    }

    /// Time that the option that TCPMSS adds is.
    pub const OPTION: usize = 4;

    /// Returns true if a table was loaded, with rules or without.
    #[inline]
    #[must_use]
    pub const fn is_loaded(&self, table: TableName) -> bool {
        self.loaded[table as usize]
    }

    /// Returns true if a table would say anything but accept, or do anything, at a hook.
    #[inline]
    #[must_use]
    pub fn asks_at(&self, table: TableName, hook: Hook) -> bool {
        self.tables[table as usize].as_ref().is_some_and(|compiled| compiled.entries[hook as usize].is_some())
            || !self.nft_chains(table, hook).is_empty()
    }

    /// Returns the chains asked in the place of a table's hook, if chains of nftables are among them.
    #[inline]
    pub(super) fn nft_chains(&self, table: TableName, hook: Hook) -> &[Entry] {
        self.nft.as_ref().map_or(&[], |(nft, family)| nft.slots(*family).at(table, hook))
    }
}

impl Table {
    /// Returns true if no rule stands in it and every policy accepts.
    fn is_trivial(&self) -> bool {
        self.chains.iter().all(|c| c.rules.is_empty() && c.policy != Some(Policy::Drop))
    }
}

impl CompiledTable {
    fn new(name: TableName, table: &Table, compiler: &mut Compiler<'_>) -> Result<Self, RulesError> {
        // Place where each chain will begin: the rules, then the chain's end.
        let mut begins = Vec::new();
        let mut next = 0;
        for chain in &table.chains {
            begins.push(next);
            next += chain.rules.len() as u32 + 1;
        }
        let names: BTreeMap<&str, usize> =
            table.chains.iter().enumerate().map(|(index, chain)| (chain.name.as_str(), index)).collect();
        let find = |called: &str, origin: &Option<Origin>| {
            names.get(called).copied().ok_or_else(|| RulesError::NoChain {
                table: name,
                chain: called.to_string(),
                origin: origin.clone(),
            })
        };
        let mut calls = vec![Vec::new(); table.chains.len()];
        let mut rules = Vec::new();
        for (index, chain) in table.chains.iter().enumerate() {
            for rule in &chain.rules {
                let action = match &rule.target {
                    Target::Jump(called) | Target::Goto(called) => {
                        let position = find(called, &rule.origin)?;
                        calls[index].push(position);
                        let begin = begins[position];
                        if matches!(rule.target, Target::Jump(_)) { Action::Jump(begin) } else { Action::Goto(begin) }
                    }
                    Target::Return => match chain.policy {
                        Some(policy) => Action::Policy(policy),
                        None => Action::Return,
                    },
                    Target::Ct { helper: Some(helper), .. } if !is_known_helper(helper) => {
                        return Err(RulesError::UnknownHelper { helper: helper.clone(), origin: rule.origin.clone() });
                    }
                    Target::Ct { helper, zone } => Action::Template(Template {
                        zone: zone.unwrap_or_default(),
                        helper: helper.as_deref() == Some("ftp"),
                    }),
                    Target::UpdateSets(updates) => {
                        let place = |update: &SetUpdate| (update.clone(), compiler.plan.set(&update.set));
                        Action::UpdateSets(updates.iter().map(place).collect())
                    }
                    target => Action::Target(target.clone()),
                };
                rules.push(compiler.rule(rule, action));
            }
            let end = chain.policy.map_or(Action::Return, Action::Policy);
            let conditions = Box::default();
            rules.push(CompiledRule { conditions, action: end, is_chancy: false, number: u32::MAX });
        }
        if let Some(index) = too_deep(&calls) {
            return Err(RulesError::Loop { table: name, chain: table.chains[index].name.clone() });
        }
        let position = |hook: Hook| table.chains.iter().position(|chain| chain.name == hook.chain_name());
        let entry = |hook: Hook| {
            let position = position(hook)?;
            let chain = table.chains.get(position)?;
            let skipped = chain.rules.is_empty() && chain.policy != Some(Policy::Drop);
            if skipped { None } else { begins.get(position).copied() }
        };
        let is_template = |rule: &Rule| {
            let known = |condition: &Condition| !matches!(condition.test, Match::Unknown(_) | Match::Stateful(_));
            matches!(rule.target, Target::Ct { zone: None, .. }) && rule.conditions.iter().all(known)
        };
        let only_begins = |hook: Hook| {
            let chain = position(hook).and_then(|position| table.chains.get(position));
            chain.is_some_and(|c| c.policy == Some(Policy::Accept) && c.rules.iter().all(is_template))
        };
        Ok(Self { rules: rules.into(), entries: Hook::ALL.map(entry), only_begins: Hook::ALL.map(only_begins) })
    }
}

/// A chain that is in a circle, or calls deeper than [`MAX_DEPTH`].
fn too_deep(calls: &[Vec<usize>]) -> Option<usize> {
    // The depth of each chain once those it calls are known. Every round finds those that are one deeper.
    let mut depths: Vec<Option<usize>> = vec![None; calls.len()];
    for _ in 0..MAX_DEPTH {
        for (index, called) in calls.iter().enumerate() {
            let deepest = called.iter().try_fold(0, |deepest, chain| Some(deepest.max(depths[*chain]? + 1)));
            depths[index] = deepest;
        }
    }
    depths.iter().position(|depth| depth.is_none_or(|deep| deep >= MAX_DEPTH))
}

/// The rules that are being compiled.
struct Compiler<'a> {
    pub(super) family: Family,
    pub(super) interfaces: &'a [&'a str],
    pub(super) plan: &'a mut MemoryPlan,
    pub(super) origins: &'a mut Vec<Option<Origin>>,
}

impl Compiler<'_> {
    /// Makes a rule ready, and gives it its number.
    pub(super) fn rule(&mut self, rule: &Rule, action: Action) -> CompiledRule {
        let number = self.origins.len() as u32;
        self.origins.push(rule.origin.clone());
        let conditions: Box<[CompiledCondition]> =
            rule.conditions.iter().map(|condition| CompiledCondition::new(condition, self)).collect();
        let is_chancy = conditions.iter().any(|c| matches!(&c.test, Test::Stateful(test, _) if test.is_chancy()));
        CompiledRule { conditions, action, is_chancy, number }
    }
}

impl CompiledCondition {
    fn new(condition: &Condition, compiler: &mut Compiler<'_>) -> Self {
        let matching =
            |pattern: &str| compiler.interfaces.iter().map(|name| interface_matches(pattern, name)).collect();
        let test = match &condition.test {
            Match::InInterface(pattern) => Test::In(matching(pattern)),
            Match::OutInterface(pattern) => Test::Out(matching(pattern)),
            Match::Protocol(protocol) => Test::Protocol(protocol.0),
            Match::Source(network) if network.address().is_ipv4() => address_v4(*network, 12),
            Match::Destination(network) if network.address().is_ipv4() => address_v4(*network, 16),
            Match::DestinationPorts(ranges) if let [range] = ranges.as_slice() => Test::DestinationPort(*range),
            Match::ConnectionState(states) => Test::State(*states),
            Match::Stateful(test) => Test::Stateful(Box::new(test.clone()), compiler.plan.place(test, compiler.family)),
            test => Test::Other(test.clone()),
        };
        Self { test, negated: condition.negated }
    }
}

fn address_v4(network: Cidr, at: usize) -> Test {
    let IpAddr::V4(address) = network.address() else { return Test::AddressV4 { at, mask: 0, value: 1 } };
    let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix())).unwrap_or(0);
    Test::AddressV4 { at, mask, value: address.to_bits() & mask }
}

/// A trailing `+` stands for any ending.
fn interface_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    fn jumps(pairs: &[(&str, &str)]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        for (from, to) in pairs {
            ruleset.table_mut(TableName::Filter).chain_mut(to);
            ruleset.append_to(TableName::Filter, from, Rule::new(Target::Jump((*to).into())));
        }
        ruleset
    }

    #[test]
    fn circles_and_depths_are_refused() {
        assert!(Rules::new(&jumps(&[("FORWARD", "a"), ("a", "b"), ("FORWARD", "b")]), &[]).is_ok());
        let circle = Rules::new(&jumps(&[("FORWARD", "a"), ("a", "b"), ("b", "a")]), &[]);
        assert!(matches!(circle, Err(RulesError::Loop { .. })), "{circle:?}");
        let names: Vec<String> = (0..70).map(|i| format!("c{i}")).collect();
        let chain = |len: usize| names.windows(2).take(len).map(|w| (w[0].as_str(), w[1].as_str())).collect::<Vec<_>>();
        assert!(Rules::new(&jumps(&chain(60)), &[]).is_ok());
        assert!(Rules::new(&jumps(&chain(69)), &[]).is_err());
        let mut nowhere = Ruleset::default();
        nowhere.append(TableName::Filter, Hook::Forward, Rule::new(Target::Jump("gone".into())));
        assert!(matches!(Rules::new(&nowhere, &[]), Err(RulesError::NoChain { .. })));
    }
}
