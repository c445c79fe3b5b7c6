//! Asking the rules.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::edit;
use super::ipset::{self, SetUpdate};
use super::memory::{MemoryPlan, Outcome, RuleMemory, Stateful};
use super::nft::{Entry, Nft, NftState};
use super::rules::{
    AddressMask, AddressTypes, Cidr, Condition, ConnmarkAction, Hook, Limit, Match, Origin, Policy, RejectWith, Rule,
    Ruleset, StateSet, Table, TableName, Target,
};
use crate::Instant;
use crate::conntrack::{Conntrack, Direction, PacketState, Template, Tracked};
use crate::nat::{NatRange, PortRange, lies_between};
use crate::packet::{Family, Headers, Layer4, Packet, Protocol, read_array};

/// Maximum depth of chains that call each other.
const MAX_DEPTH: usize = 64;

/// The rules of one family, ready to be asked: chains are ranges of one list, interfaces are numbers.
#[derive(Clone, Debug)]
pub struct Rules {
    tables: [Option<CompiledTable>; TableName::COUNT],
    /// For each state, which tables need not be asked about a packet in it, and where.
    skipped: [SkippedTables; 5],
    /// For each hook, whom table raw asks about.
    raw: [RawScope; 5],
    loaded: [bool; TableName::COUNT],
    may_add_option: bool,
    sets_zones: bool,
    origins: Box<[Option<Origin>]>,
    /// The chains of nftables, and the family of which packets they are asked about here.
    nft: Option<(Arc<Nft>, Family)>,
    /// The number of the first rule of nftables.
    first_nft_rule: u32,
}

#[derive(Clone, Debug)]
struct CompiledTable {
    rules: Box<[CompiledRule]>,
    /// For each hook, the first rule of its chain; `None` where that chain has nothing to say.
    entries: [Option<u32>; 5],
    /// For each hook, whether its chain has only rules that say how connections begin.
    only_begins: [bool; 5],
}

#[derive(Clone, Debug)]
struct CompiledRule {
    conditions: Box<[CompiledCondition]>,
    action: Action,
    /// True if what a capture shows may decide whether it matches.
    is_chancy: bool,
    /// Number of the rule among all rules of the family.
    number: u32,
}

#[derive(Clone, Debug)]
struct CompiledCondition {
    test: Test,
    negated: bool,
}

/// A test; those that nearly every rule has are laid out to be asked fast.
#[derive(Clone, Debug)]
enum Test {
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
enum Action {
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

/// Rules that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// A rule calls a chain that is not there.
    NoChain {
        /// The table.
        table: TableName,
        /// The chain that was called.
        chain: String,
        /// File and line.
        origin: Option<Origin>,
    },
    /// A rule of nftables names a chain, a set or an object that is not there.
    NftMissing {
        /// The family and name of the table.
        table: String,
        /// Part of the ruleset that is missing.
        what: String,
        /// File and line.
        origin: Option<Origin>,
    },
    /// Chains of nftables call each other in a circle, or too deep.
    NftLoop {
        /// The family and name of the table.
        table: String,
        /// The chain at which it was noticed.
        chain: String,
    },
    /// Chains call each other in a circle, or too deep.
    Loop {
        /// The table.
        table: TableName,
        /// The chain at which it was noticed.
        chain: String,
    },
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain { table, chain, origin } => {
                if let Some(origin) = origin {
                    write!(f, "{origin}: ")?;
                }
                write!(f, "no chain {chain} in table {}", table.name())
            }
            Self::NftMissing { table, what, origin } => {
                if let Some(origin) = origin {
                    write!(f, "{origin}: ")?;
                }
                write!(f, "no {what} in table {table}")
            }
            Self::NftLoop { table, chain } => {
                write!(f, "chain {chain} in table {table} calls itself, or too many others")
            }
            Self::Loop { table, chain } => {
                write!(f, "chain {chain} in table {} calls itself, or more than {MAX_DEPTH} others", table.name())
            }
        }
    }
}

impl core::error::Error for RulesError {}

/// Verdict of a table on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleVerdict {
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told.
    Reject(RejectWith),
    /// One end of its connection is mapped into a range.
    Map(NatRange),
    /// The source becomes the address of the interface it leaves by.
    Masquerade(NatRange),
    /// The destination becomes this machine.
    Redirect(NatRange),
    /// The network of one end changes, and its host stays.
    Netmap(AddressMask),
}

/// Decisions of table raw on tracking a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracking {
    /// Nothing: it is tracked as usual.
    #[default]
    Usual,
    /// It is not tracked.
    None,
    /// It is tracked so.
    Template(Template),
}

/// Host information that matches can query (addrtype, path MTU).
pub trait HostInfo {
    /// Returns what kind of address this is to the machine.
    fn address_type(&self, address: IpAddr) -> AddressTypes;
    /// The longest packet that fits on the links towards both ends.
    fn path_mtu(&self, source: IpAddr, destination: IpAddr) -> usize;
    /// Returns what kind of address this is by the routes: of one interface, if it is limited to one.
    fn route_type(&self, address: IpAddr, interface: Option<usize>) -> AddressTypes {
        let _ = interface;
        self.address_type(address)
    }
    /// Returns where a packet to this address would go.
    fn way_back(&self, address: IpAddr) -> WayBack {
        let _ = address;
        WayBack::Nowhere
    }
    /// Returns true if this machine sends to itself by the interface.
    fn is_loopback(&self, interface: usize) -> bool {
        let _ = interface;
        false
    }
}

/// The route of a packet back to the sender of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum WayBack {
    /// To this machine.
    Local,
    /// By the interface of this number.
    Via(usize),
    /// Nowhere.
    Nowhere,
}

/// A packet, and all that rules may ask or change about it.
#[allow(clippy::exhaustive_structs)]
pub struct EvalContext<'p, 'b> {
    /// The packet, its firewall mark with it.
    pub packet: &'p mut Packet<'b>,
    /// Headers of the packet.
    pub headers: &'p mut Headers,
    /// The number of the interface it arrived on.
    pub in_interface: Option<usize>,
    /// The number of the interface it leaves by.
    pub out_interface: Option<usize>,
    /// Result of connection tracking; `None` before conntrack ran.
    pub tracked: Option<&'p Tracked>,
    /// Decisions of table raw.
    pub tracking: &'p mut Tracking,
    /// The machine's addresses and links.
    pub surroundings: &'p dyn HostInfo,
    /// The time.
    pub now: Instant,
    /// State that rules of nftables keep between packets.
    pub nft: &'p mut NftState,
    /// State of rules of iptables.
    pub memory: &'p mut RuleMemory,
    /// A match wanted a header that is not all there: the packet is dropped, whatever the rule says.
    pub hot_drop: bool,
    /// The number of the last LOG rule that was met.
    pub logged: Option<usize>,
    /// The number of the last rule that was met and is not understood.
    pub not_understood: Option<usize>,
}

impl fmt::Debug for EvalContext<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvalContext").field("tracked", &self.tracked).finish_non_exhaustive()
    }
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
    /// to remember: it makes a [`RuleMemory`].
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
    fn nft_chains(&self, table: TableName, hook: Hook) -> &[Entry] {
        self.nft.as_ref().map_or(&[], |(nft, family)| nft.slots(*family).at(table, hook))
    }

    /// Whom table raw asks about at a hook.
    #[inline]
    pub(crate) const fn asks_raw(&self, hook: Hook) -> RawScope {
        self.raw[hook as usize]
    }

    /// Which tables need not be asked about a packet in a state, and where.
    #[inline]
    pub(crate) const fn skipped(&self, state: PacketState) -> SkippedTables {
        self.skipped[StateSet::of_state(state).0.trailing_zeros() as usize]
    }

    /// Returns true if no table has anything to say of packets of an answered connection that arrive and are sent on.
    pub(crate) fn let_pass_what_is_sent_on(&self) -> bool {
        use {Hook::*, TableName::*};
        let skipped = self.skipped(PacketState::Established);
        let asked = [
            (Mangle, Prerouting),
            (Filter, Prerouting),
            (Mangle, Forward),
            (Filter, Forward),
            (Security, Forward),
            (Mangle, Postrouting),
            (Filter, Postrouting),
        ];
        self.asks_raw(Prerouting) != RawScope::All
            && !self.may_grow_packets()
            && asked.into_iter().all(|(table, hook)| skipped.includes(table, hook))
    }

    /// Asks a table at a hook.
    pub fn evaluate(
        &self,
        table: TableName,
        hook: Hook,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> RuleVerdict {
        let chains = self.nft_chains(table, hook);
        if !chains.is_empty() {
            return self.evaluate_all(table, hook, conntrack, subject);
        }
        match &self.tables[table as usize] {
            Some(compiled) => compiled.evaluate(hook, conntrack, subject),
            None => RuleVerdict::Accept,
        }
    }

    /// Asks chains of nftables and of iptables, until one does not accept the packet.
    #[inline(never)]
    fn evaluate_all(
        &self,
        table: TableName,
        hook: Hook,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> RuleVerdict {
        let Some((nft, family)) = &self.nft else { return RuleVerdict::Accept };
        for entry in nft.slots(*family).at(table, hook) {
            let verdict = match (entry, &self.tables[table as usize]) {
                (Entry::Nft(chain), _) => nft.evaluate(*chain, self.first_nft_rule, conntrack, subject),
                (Entry::Iptables, Some(compiled)) => compiled.evaluate(hook, conntrack, subject),
                (Entry::Iptables, None) => RuleVerdict::Accept,
            };
            if verdict != RuleVerdict::Accept || subject.hot_drop {
                return verdict;
            }
        }
        RuleVerdict::Accept
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

    fn evaluate(&self, hook: Hook, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> RuleVerdict {
        let Some(entry) = self.entries[hook as usize] else { return RuleVerdict::Accept };
        // Only a chain that was gone to from the built-in one returns here: its policy decides then.
        self.run(entry, conntrack, subject).unwrap_or_else(|| self.policy(hook))
    }

    /// RawScope the rules from one on; `None` when a chain returns. Chains that call each other too deep were refused.
    fn run(&self, begin: u32, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<RuleVerdict> {
        let mut next = begin;
        while let Some(rule) = self.rules.get(next as usize) {
            next += 1;
            if rule.is_chancy {
                subject.memory.chance.wish = self.wish(rule, conntrack, subject);
            }
            if !rule.conditions.iter().all(|c| c.holds(rule.number, conntrack, subject)) {
                if subject.hot_drop {
                    return Some(RuleVerdict::Drop);
                }
                continue;
            }
            match &rule.action {
                Action::Policy(Policy::Accept) => return Some(RuleVerdict::Accept),
                Action::Policy(Policy::Drop) => return Some(RuleVerdict::Drop),
                Action::Jump(begin) => {
                    if let Some(verdict) = self.run(*begin, conntrack, subject) {
                        return Some(verdict);
                    }
                }
                Action::Goto(begin) => next = *begin,
                Action::Return => return None,
                Action::Template(template) => {
                    if *subject.tracking == Tracking::Usual {
                        *subject.tracking = Tracking::Template(*template);
                    }
                }
                Action::UpdateSets(updates) => {
                    for (update, set) in updates {
                        match set {
                            Some(set) => ipset::update(update, *set, subject),
                            None => subject.not_understood = Some(rule.number as usize),
                        }
                    }
                }
                Action::Target(target) => {
                    if let Some(verdict) = apply_target(target, rule.number, conntrack, subject) {
                        return Some(verdict);
                    }
                }
            }
        }
        None
    }

    /// Returns true if a rule must match for what a capture shows to come about, and false if it must not.
    #[inline(never)]
    fn wish(&self, rule: &CompiledRule, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<bool> {
        let seen = subject.memory.chance.seen?;
        let verdict = match &rule.action {
            Action::Jump(begin) | Action::Goto(begin) => self.predict(*begin, 0, conntrack, subject)?,
            action => verdict_of(action)?,
        };
        Some(match (verdict, seen) {
            (RuleVerdict::Map(range), Outcome::Leaves(address, port)) => {
                let has_address = range.addresses.is_none_or(|(first, last)| lies_between(address, first, last));
                has_address && range.ports.is_none_or(|ports| ports.contains(port))
            }
            (RuleVerdict::Drop, _) => seen == Outcome::Vanishes,
            (RuleVerdict::Reject(_), _) => seen == Outcome::Answered,
            (RuleVerdict::Accept, _) => matches!(seen, Outcome::Leaves(..)),
            _ => return None,
        })
    }

    /// Foretells the verdict of rules from one on, as far as nothing need be remembered for it.
    fn predict(
        &self,
        begin: u32,
        depth: usize,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<RuleVerdict> {
        let mut next = begin;
        while let Some(rule) = self.rules.get(next as usize) {
            next += 1;
            if rule.conditions.iter().any(|c| c.test.has_effects() && !c.test.only_drops()) {
                return None;
            }
            let holds = rule.conditions.iter().all(|c| c.holds(rule.number, conntrack, subject));
            if core::mem::take(&mut subject.hot_drop) {
                return None;
            }
            match &rule.action {
                _ if !holds => {}
                Action::Jump(begin) if depth < 8 => {
                    if let Some(verdict) = self.predict(*begin, depth + 1, conntrack, subject) {
                        return Some(verdict);
                    }
                }
                Action::Goto(begin) if *begin as usize >= next as usize => next = *begin,
                Action::Jump(_) | Action::Goto(_) | Action::Return => return None,
                action => {
                    if let Some(verdict) = verdict_of(action) {
                        return Some(verdict);
                    }
                }
            }
        }
        None
    }

    /// Whom it asks about at a hook.
    const fn asks(&self, hook: Hook) -> RawScope {
        match self.entries[hook as usize] {
            None => RawScope::None,
            Some(_) if self.only_begins[hook as usize] => RawScope::NewOnly,
            Some(_) => RawScope::All,
        }
    }

    /// Returns true if every packet in a state passes at a hook, whatever else it is, and no rule does anything to it.
    fn is_silent(&self, hook: Hook, state: StateSet) -> bool {
        let Some(entry) = self.entries[hook as usize] else { return true };
        let met = self.rules.iter().skip(entry as usize).find_map(|rule| match rule.foretell(state) {
            StaticOutcome::Fails => None,
            StaticOutcome::Matches => Some(&rule.action),
            StaticOutcome::Open => Some(&Action::Policy(Policy::Drop)),
        });
        matches!(met, Some(Action::Policy(Policy::Accept) | Action::Target(Target::Accept)))
    }

    /// The policy of a hook's chain: the first end behind its entry.
    fn policy(&self, hook: Hook) -> RuleVerdict {
        let entry = self.entries[hook as usize].unwrap_or_default() as usize;
        let end = self.rules.iter().skip(entry).find(|rule| rule.number == u32::MAX);
        match end.map(|rule| &rule.action) {
            Some(Action::Policy(Policy::Drop)) => RuleVerdict::Drop,
            _ => RuleVerdict::Accept,
        }
    }
}

/// Whom a table asks about at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawScope {
    None,
    /// Packets that may begin a connection: it says nothing but how they are tracked.
    NewOnly,
    All,
}

/// Tables that need not be asked about a packet, since they let it pass and do nothing to it: a bit for each hook of
/// each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SkippedTables(u32);

impl SkippedTables {
    /// Every table is to be asked.
    pub(crate) const NONE: Self = Self(0);

    /// Those that say nothing about packets in this state. Table raw is asked before there is one.
    fn of(tables: &[Option<CompiledTable>; TableName::COUNT], state: StateSet) -> Self {
        let mut skipped = Self::default();
        for table in [TableName::Mangle, TableName::Nat, TableName::Filter, TableName::Security] {
            let says_nothing = |hook| tables[table as usize].as_ref().is_none_or(|t| t.is_silent(hook, state));
            for hook in Hook::ALL.into_iter().filter(|hook| says_nothing(*hook)) {
                skipped.0 |= Self::bit(table, hook);
            }
        }
        // Places in which iptables has no chains.
        for hook in [Hook::Input, Hook::Forward, Hook::Postrouting] {
            skipped.0 |= Self::bit(TableName::Raw, hook);
        }
        skipped
    }

    /// Takes away the places where chains of nftables do not let every packet in a state pass.
    fn unless_nft_speaks(&mut self, nft: &Nft, family: Family, state: PacketState) {
        for table in TableName::ALL {
            for hook in Hook::ALL {
                let speaks = |entry: &Entry| matches!(entry, Entry::Nft(chain) if !nft.is_silent(*chain, state));
                if nft.slots(family).at(table, hook).iter().any(speaks) {
                    self.0 &= !Self::bit(table, hook);
                }
            }
        }
    }

    /// Returns true if this table need not be asked at this hook.
    #[inline]
    pub(crate) const fn includes(self, table: TableName, hook: Hook) -> bool {
        self.0 & Self::bit(table, hook) != 0
    }

    #[inline]
    const fn bit(table: TableName, hook: Hook) -> u32 {
        1 << (table as u32 * Hook::ALL.len() as u32 + hook as u32)
    }
}

/// Every state a packet can be in, in the order of [`StateSet`]'s bits.
const STATES: [PacketState; 5] = [
    PacketState::Invalid(crate::conntrack::InvalidReason::Header),
    PacketState::New,
    PacketState::Established,
    PacketState::Related,
    PacketState::Untracked,
];

/// Outcome of a rule as far as it follows from the packet's state alone.
enum StaticOutcome {
    /// It matches.
    Matches,
    /// It does not match, and asking it does nothing.
    Fails,
    Open,
}

impl CompiledRule {
    fn foretell(&self, state: StateSet) -> StaticOutcome {
        let mut foretold = StaticOutcome::Matches;
        for condition in &self.conditions {
            match &condition.test {
                Test::State(states) if !states.intersects(StateSet::SNAT.union(StateSet::DNAT)) => {
                    if states.intersects(state) == condition.negated {
                        return StaticOutcome::Fails;
                    }
                }
                test if test.has_effects() => return StaticOutcome::Open,
                _ => foretold = StaticOutcome::Open,
            }
        }
        foretold
    }
}

/// The verdict of an action that has one whatever the packet.
const fn verdict_of(action: &Action) -> Option<RuleVerdict> {
    Some(match action {
        Action::Policy(Policy::Accept) | Action::Target(Target::Accept) => RuleVerdict::Accept,
        Action::Policy(Policy::Drop) | Action::Target(Target::Drop) => RuleVerdict::Drop,
        Action::Target(Target::Reject(with)) => RuleVerdict::Reject(*with),
        Action::Target(Target::Dnat(range)) => RuleVerdict::Map(*range),
        _ => return None,
    })
}

impl Test {
    /// Returns true if all that asking it may do is to drop the packet.
    const fn only_drops(&self) -> bool {
        use Match::{DestinationPorts, Ports, SourcePorts, TcpFlags};
        matches!(
            self,
            Self::DestinationPort(_)
                | Self::Other(SourcePorts(_) | DestinationPorts(_) | Ports(_) | TcpFlags { .. } | Match::Number(_))
        )
    }

    /// Returns true if asking it may drop the packet, or note that it is not understood.
    const fn has_effects(&self) -> bool {
        use Match::{Chunks, DestinationPorts, OfSocket, Ports, SetLabel, SourcePorts, TcpFlags, Unknown};
        match self {
            Self::DestinationPort(_) | Self::Stateful(..) => true,
            Self::Other(SourcePorts(_) | DestinationPorts(_) | Ports(_) | TcpFlags { .. }) => true,
            Self::Other(Unknown(_) | OfSocket { .. } | SetLabel(_) | Chunks(_)) => true,
            Self::Other(Match::Number(test)) => test.number.may_drop(),
            _ => false,
        }
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
    family: Family,
    interfaces: &'a [&'a str],
    plan: &'a mut MemoryPlan,
    origins: &'a mut Vec<Option<Origin>>,
}

impl Compiler<'_> {
    /// Makes a rule ready, and gives it its number.
    fn rule(&mut self, rule: &Rule, action: Action) -> CompiledRule {
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

    #[inline]
    fn holds(&self, rule: u32, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> bool {
        let one_of = |list: &[bool], interface: Option<usize>| interface.is_some_and(|i| list.get(i) == Some(&true));
        let holds = match &self.test {
            Test::Protocol(protocol) => subject.headers.protocol.0 == *protocol,
            Test::AddressV4 { at, mask, value } => {
                let address = read_array(subject.packet.bytes(), *at).map(u32::from_be_bytes);
                subject.headers.family == Family::V4 && address.is_some_and(|a| a & mask == *value)
            }
            Test::DestinationPort(range) => match subject.ports(Wants::Header) {
                Some((_, destination)) => range.contains(destination),
                None => return false,
            },
            Test::State(states) => states.intersects(state_of(*states, subject, conntrack)),
            Test::In(list) => one_of(list, subject.in_interface),
            Test::Out(list) => one_of(list, subject.out_interface),
            Test::Other(Match::Unknown(_)) => {
                subject.not_understood = Some(rule as usize);
                return false;
            }
            Test::Stateful(test, Some(place)) => match test.holds(*place, conntrack, subject) {
                Some(holds) => holds,
                None => return false,
            },
            Test::Stateful(_, None) => {
                subject.not_understood = Some(rule as usize);
                return false;
            }
            Test::Other(test) => match matches(test, rule, conntrack, subject) {
                Some(holds) => holds,
                // A port of a packet that shows none: the rule does not match, whichever way it asks.
                None => return false,
            },
        };
        holds != self.negated
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

/// Returns true if a test holds; `None` when the packet has not got what is asked about.
#[inline]
fn matches(test: &Match, rule: u32, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<bool> {
    let tracked = subject.tracked;
    let connection = || tracked.and_then(|t| t.connection).and_then(|id| conntrack.get(id));
    let headers = *subject.headers;
    let bytes = subject.packet.bytes();
    Some(match test {
        Match::Protocol(protocol) => headers.protocol == *protocol,
        Match::Source(network) => network.contains(headers.source(bytes)),
        Match::Destination(network) => network.contains(headers.destination(bytes)),
        Match::SourcePorts(ranges) => one_of(ranges, subject.ports(Wants::of(ranges))?.0),
        Match::DestinationPorts(ranges) => one_of(ranges, subject.ports(Wants::of(ranges))?.1),
        Match::Ports(ranges) => {
            let (source, destination) = subject.ports(Wants::Ports)?;
            one_of(ranges, source) || one_of(ranges, destination)
        }
        Match::TcpFlags { mask, set } => match headers.layer4 {
            Layer4::Tcp(segment) => segment.flags.0 & mask == *set,
            _ => {
                subject.ports(Wants::Header)?;
                return None;
            }
        },
        Match::Mark(wanted) => subject.packet.mark & wanted.mask == wanted.value,
        Match::Connmark(wanted) => connection()?.mark() & wanted.mask == wanted.value,
        // Only the FTP helper is there. Linux compares as many characters as its name has; an empty name stands for any.
        Match::Helper(name) => {
            connection().is_some_and(|c| c.master_had_helper()) && (name.is_empty() || name.starts_with("ftp"))
        }
        Match::IcmpType { kind, codes } => match headers.layer4 {
            Layer4::Icmp(icmp) => {
                let any = *kind == u8::MAX && headers.protocol == Protocol::ICMP;
                any || icmp.kind == *kind && codes.0 <= icmp.code && icmp.code <= codes.1
            }
            _ => return None,
        },
        Match::AddressType { source, destination, limit } => {
            let interface = match limit {
                None => None,
                Some(Limit::In) => subject.in_interface,
                Some(Limit::Out) => subject.out_interface,
            };
            let is = |wanted: AddressTypes, address| {
                wanted.0 == 0 || wanted.0 & subject.surroundings.route_type(address, interface).0 != 0
            };
            is(*source, headers.source(bytes)) && is(*destination, headers.destination(bytes))
        }
        Match::SourceRange(first, last) => lies_between(headers.source(bytes), *first, *last),
        Match::DestinationRange(first, last) => lies_between(headers.destination(bytes), *first, *last),
        Match::Number(test) => return test.holds(conntrack, subject),
        Match::Address { source, network } => {
            network.contains(if *source { headers.source(bytes) } else { headers.destination(bytes) })
        }
        Match::ConnectionAddress { reply, source, network } => {
            let tuple = connection()?.tuple(if *reply { Direction::Reply } else { Direction::Original });
            network.contains(if *source { tuple.source() } else { tuple.destination() })
        }
        Match::SetLabel(label) => {
            let id = tracked.and_then(|tracked| tracked.connection)?;
            conntrack.set_label(id, *label)
        }
        Match::Cluster { nodes, mask, seed } => {
            let source = connection()?.tuple(Direction::Original).source();
            let node = crate::nat::cluster_node(source, *seed, *nodes);
            mask.checked_shr(node).unwrap_or(0) & 1 != 0
        }
        Match::Chunks(test) => {
            if !matches!(headers.layer4, Layer4::Sctp) {
                return None;
            }
            match test.holds(bytes.get(headers.transport + 12..headers.end).unwrap_or_default()) {
                Some(holds) => holds,
                None => {
                    subject.hot_drop = true;
                    return None;
                }
            }
        }
        Match::Text(text) => text.is_in(bytes),
        Match::U32(tests) => tests.iter().all(|test| test.holds(bytes)),
        Match::Time(time) => time.holds(subject.now),
        Match::ReversePath { loose, accept_local } => reverse_path(*loose, *accept_local, subject),
        Match::OfSocket { arriving } => {
            let for_us = || subject.surroundings.address_type(headers.destination(bytes)) == AddressTypes::LOCAL;
            if subject.in_interface.is_none() || *arriving && for_us() {
                subject.not_understood = Some(rule as usize);
                return None;
            }
            false
        }
        Match::Never => false,
        // Compiled away, or told before.
        Match::InInterface(_) | Match::OutInterface(_) | Match::ConnectionState(_) => return None,
        Match::Unknown(_) | Match::Stateful(_) => return None,
    })
}

/// `-m rpfilter`: a reply would leave by the interface of arrival. What this machine sends itself passes.
fn reverse_path(loose: bool, accept_local: bool, subject: &EvalContext<'_, '_>) -> bool {
    let source = subject.headers.source(subject.packet.bytes());
    let Some(interface) = subject.in_interface else { return true };
    if subject.surroundings.is_loopback(interface) {
        return true;
    }
    match subject.surroundings.way_back(source) {
        _ if source.is_unspecified() && source.is_ipv4() => true,
        WayBack::Local => accept_local,
        WayBack::Via(by) => loose || by == interface,
        WayBack::Nowhere => false,
    }
}

/// Bytes of the transport header that a match needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// All of it but options or chunks: `-m tcp`, `-m udp`, `-m sctp`.
    Header,
    /// The ports: `-m multiport`.
    Ports,
}

impl Wants {
    /// Several ranges can only be multiport's.
    const fn of(ranges: &[PortRange]) -> Self {
        if ranges.len() == 1 { Self::Header } else { Self::Ports }
    }
}

impl EvalContext<'_, '_> {
    /// The ports of a packet that is not a later fragment. One that does not even show what the match wants to see is to
    /// be dropped (`hotdrop`).
    #[inline]
    fn ports(&mut self, wants: Wants) -> Option<(u16, u16)> {
        let bytes = self.packet.bytes();
        let shown = self.headers.end.min(bytes.len()).saturating_sub(self.headers.transport);
        let wanted = match (wants, self.headers.protocol) {
            (Wants::Ports, _) => 4,
            (Wants::Header, Protocol::TCP) => 20,
            (Wants::Header, Protocol::SCTP) => 12,
            (Wants::Header, _) => 8,
        };
        let later_part = self.headers.fragment.is_some_and(|fragment| fragment.offset != 0);
        if shown < wanted && !later_part {
            self.hot_drop = true;
            return None;
        }
        self.headers.ports(bytes)
    }
}

fn one_of(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(port))
}

impl StateSet {
    #[inline]
    const fn of_state(state: PacketState) -> Self {
        match state {
            PacketState::New => Self::NEW,
            PacketState::Established => Self::ESTABLISHED,
            PacketState::Related => Self::RELATED,
            PacketState::Untracked => Self::UNTRACKED,
            PacketState::Invalid(_) => Self::INVALID,
        }
    }
}

/// A packet's state and, if they are asked for, its connection's translations, as a set.
#[inline]
fn state_of(wanted: StateSet, subject: &EvalContext<'_, '_>, conntrack: &Conntrack) -> StateSet {
    let state = subject.tracked.map_or(StateSet::INVALID, |tracked| StateSet::of_state(tracked.state));
    if !wanted.intersects(StateSet::SNAT.union(StateSet::DNAT)) {
        return state;
    }
    let Some(connection) = subject.tracked.and_then(|t| conntrack.get(t.connection?)) else { return state };
    let original = connection.tuple(Direction::Original);
    let reply = connection.tuple(Direction::Reply);
    let with = |set: StateSet, moved: bool, bit: StateSet| if moved { set.union(bit) } else { set };
    let set = with(state, original.source() != reply.destination(), StateSet::SNAT);
    with(set, original.destination() != reply.source(), StateSet::DNAT)
}

/// Does what a target says; `None` when the next rule is to be asked.
fn apply_target(
    target: &Target,
    rule: u32,
    conntrack: &mut Conntrack,
    subject: &mut EvalContext<'_, '_>,
) -> Option<RuleVerdict> {
    match target {
        Target::Accept => return Some(RuleVerdict::Accept),
        Target::Drop => return Some(RuleVerdict::Drop),
        Target::Reject(with) => return Some(RuleVerdict::Reject(*with)),
        Target::Snat(range) | Target::Dnat(range) => return Some(RuleVerdict::Map(*range)),
        Target::Masquerade(range) => return Some(RuleVerdict::Masquerade(*range)),
        Target::Redirect(range) => return Some(RuleVerdict::Redirect(*range)),
        Target::Netmap(network) => return Some(RuleVerdict::Netmap(*network)),
        Target::Edit(change) => return edit::apply(*change, subject).then_some(RuleVerdict::Drop),
        Target::Mark(change) => subject.packet.mark = (subject.packet.mark & !change.mask) ^ change.value,
        Target::Connmark(action) => connmark(*action, conntrack, subject),
        Target::NoTrack => {
            if *subject.tracking == Tracking::Usual {
                *subject.tracking = Tracking::None;
            }
        }
        Target::Log { .. } => subject.logged = Some(rule as usize),
        Target::Unknown(_) => subject.not_understood = Some(rule as usize),
        Target::TcpMss(mss) => return clamp_mss(*mss, subject),
        // Compiled away.
        Target::Ct { .. } | Target::Continue | Target::Return => {}
        Target::Jump(_) | Target::Goto(_) | Target::UpdateSets(_) => {}
    }
    None
}

/// TCPMSS: `None` for what fits the links towards both ends. A header that cannot be read is dropped, as in Linux.
pub(super) fn clamp_mss(mss: Option<u16>, subject: &mut EvalContext<'_, '_>) -> Option<RuleVerdict> {
    let bytes = subject.packet.bytes();
    let Layer4::Tcp(_) = subject.headers.layer4 else { return Some(RuleVerdict::Drop) };
    let headers_len = if subject.headers.family == Family::V4 { 40 } else { 60 };
    let mss = match mss {
        Some(mss) => mss,
        None => {
            let mtu = subject.surroundings.path_mtu(subject.headers.source(bytes), subject.headers.destination(bytes));
            match mtu.checked_sub(headers_len) {
                None | Some(0) => return Some(RuleVerdict::Drop),
                Some(rest) => u16::try_from(rest).unwrap_or(u16::MAX),
            }
        }
    };
    subject.packet.clamp_mss(subject.headers, mss);
    None
}

fn connmark(action: ConnmarkAction, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) {
    let Some(id) = subject.tracked.and_then(|t| t.connection) else { return };
    let Some(mark) = conntrack.get(id).map(|c| c.mark()) else { return };
    match action {
        ConnmarkAction::Set(change) => {
            conntrack.set_mark(id, (mark & !change.mask) ^ change.value);
        }
        ConnmarkAction::Save { nfmask, ctmask } => {
            conntrack.set_mark(id, (mark & !ctmask) ^ (subject.packet.mark & nfmask));
        }
        ConnmarkAction::Restore { nfmask, ctmask } => {
            subject.packet.mark = (subject.packet.mark & !nfmask) ^ (mark & ctmask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Masked;
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn jumps(pairs: &[(&str, &str)]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        for (from, to) in pairs {
            ruleset.table_mut(TableName::Filter).chain_mut(to);
            ruleset.append(TableName::Filter, from, Rule::new(Target::Jump((*to).into())));
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
        nowhere.append(TableName::Filter, "FORWARD", Rule::new(Target::Jump("gone".into())));
        assert!(matches!(Rules::new(&nowhere, &[]), Err(RulesError::NoChain { .. })));
    }

    struct Nowhere;

    impl HostInfo for Nowhere {
        fn address_type(&self, _: IpAddr) -> AddressTypes {
            AddressTypes::UNICAST
        }

        fn path_mtu(&self, _: IpAddr, _: IpAddr) -> usize {
            1500
        }
    }

    /// 10.0.0.1:1024 > 10.0.0.2:21, TCP; whole, and so short that a match on ports drops it.
    const PACKETS: [&[u8]; 2] = [
        &[
            0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, //
            4, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 255, 255, 0, 0, 0, 0,
        ],
        &[0x45, 0, 0, 24, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 21],
    ];

    /// Returns what FORWARD of table filter says of a packet in a state, and whether it did anything.
    fn ask_forward(rules: &Rules, packet: &[u8], state: PacketState) -> (bool, bool) {
        let limits = crate::conntrack::Limits::new(1, 1, 1);
        let mut conntrack = Conntrack::new(crate::conntrack::ConntrackConfig { limits, ..Default::default() }, [1, 2]);
        let mut buffer = packet.to_vec();
        let len = buffer.len();
        let mut packet = Packet::new(&mut buffer, 0..len).unwrap();
        let mut headers = Headers::find(packet.bytes()).unwrap();
        let tracked = Tracked { state, ..Tracked::UNTRACKED };
        let mut subject = EvalContext {
            packet: &mut packet,
            headers: &mut headers,
            in_interface: Some(0),
            out_interface: None,
            tracked: Some(&tracked),
            tracking: &mut Tracking::None,
            surroundings: &Nowhere,
            now: Instant::from_secs(0),
            nft: &mut NftState::default(),
            memory: &mut RuleMemory::default(),
            hot_drop: false,
            logged: None,
            not_understood: None,
        };
        let verdict = rules.evaluate(TableName::Filter, Hook::Forward, &mut conntrack, &mut subject);
        let noted = subject.hot_drop || subject.logged.is_some() || subject.not_understood.is_some();
        (verdict == RuleVerdict::Accept, noted || subject.packet.mark != 0)
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        let test = prop_oneof![
            4 => (1u8..128).prop_map(|states| Match::ConnectionState(StateSet(states))),
            1 => Just(Match::Protocol(Protocol::TCP)),
            1 => Just(Match::Protocol(Protocol::UDP)),
            1 => Just(Match::InInterface("lan".into())),
            1 => Just(Match::Source(Cidr::new([10, 0, 0, 0].into(), 8).unwrap())),
            1 => Just(Match::DestinationPorts(vec![PortRange::one(21)])),
            1 => Just(Match::SourcePorts(vec![PortRange::one(21)])),
            1 => Just(Match::TcpFlags { mask: 2, set: 0 }),
            1 => Just(Match::Unknown("-m moon".into())),
        ];
        (test, any::<bool>()).prop_map(|(test, negated)| Condition { test, negated })
    }

    fn any_target() -> impl Strategy<Value = Target> {
        prop_oneof![
            Just(Target::Accept),
            Just(Target::Drop),
            Just(Target::Return),
            Just(Target::Continue),
            Just(Target::Unknown("MOON".into())),
            Just(Target::Jump("other".into())),
            Just(Target::Goto("other".into())),
            Just(Target::Mark(Masked { value: 1, mask: 1 })),
        ]
    }

    proptest! {
        /// A skipped table would have accepted the packet and changed nothing.
        #[test]
        fn silence_is_consent(
            rules in prop::collection::vec((prop::collection::vec(any_condition(), 0..3), any_target()), 0..5),
            drops: bool,
        ) {
            let mut ruleset = Ruleset::default();
            let other = ruleset.table_mut(TableName::Filter).chain_mut("other");
            other.rules.push(Rule::new(Target::Drop));
            for (conditions, target) in rules {
                let mut rule = Rule::new(target);
                rule.conditions = conditions;
                ruleset.append(TableName::Filter, "FORWARD", rule);
            }
            if drops {
                ruleset.table_mut(TableName::Filter).chain_mut("FORWARD").policy = Some(Policy::Drop);
            }
            let rules = Rules::new(&ruleset, &["lan"]).unwrap();
            for state in STATES.into_iter().filter(|s| rules.skipped(*s).includes(TableName::Filter, Hook::Forward)) {
                for packet in PACKETS {
                    prop_assert_eq!(ask_forward(&rules, packet, state), (true, false), "{:?}", state);
                }
            }
        }
    }

    #[test]
    fn who_accepts_the_established_first_is_not_asked_about_them() {
        let mut ruleset = Ruleset::default();
        let states = |states| Match::ConnectionState(states);
        let known = StateSet::ESTABLISHED.union(StateSet::RELATED);
        ruleset.append(TableName::Filter, "FORWARD", Rule::new(Target::Drop).when(states(StateSet::INVALID)));
        ruleset.append(TableName::Filter, "FORWARD", Rule::new(Target::Accept).when(states(known)));
        ruleset.append(TableName::Filter, "FORWARD", Rule::new(Target::Drop));
        let rules = Rules::new(&ruleset, &[]).unwrap();
        let skipped = STATES.map(|state| rules.skipped(state).includes(TableName::Filter, Hook::Forward));
        assert_eq!(skipped, [false, false, true, true, false]);
        assert!(!rules.skipped(PacketState::Established).includes(TableName::Raw, Hook::Prerouting));
    }
}
