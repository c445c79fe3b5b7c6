//! Asks the rules of a table at a hook, until one decides.

use super::apply_target::apply_target;
use super::compiled::{Action, CompiledRule, CompiledTable, Rules};
use super::context::{EvalContext, RuleVerdict, Tracking};
use super::ipset;
use super::memory::Outcome;
use super::nft::Entry;
use super::rules::{Hook, Policy, TableName, Target};
use crate::conntrack::Conntrack;
use crate::nat::lies_between;

impl Rules {
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

impl CompiledTable {
    pub(super) fn evaluate(
        &self,
        hook: Hook,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> RuleVerdict {
        let Some(entry) = self.entries[hook as usize] else { return RuleVerdict::Accept };
        // Only a chain that was gone to from the built-in one returns here: its policy decides then.
        self.run(entry, conntrack, subject).unwrap_or_else(|| self.policy(hook))
    }

    /// Asks the rules from one on; `None` when a chain returns. Chains that call each other too deep were refused.
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

    /// The policy of a hook's chain: the first end behind its entry.
    pub(super) fn policy(&self, hook: Hook) -> RuleVerdict {
        let entry = self.entries[hook as usize].unwrap_or_default() as usize;
        let end = self.rules.iter().skip(entry).find(|rule| rule.number == u32::MAX);
        match end.map(|rule| &rule.action) {
            Some(Action::Policy(Policy::Drop)) => RuleVerdict::Drop,
            _ => RuleVerdict::Accept,
        }
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
