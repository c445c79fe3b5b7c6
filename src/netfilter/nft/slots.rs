//! Which chains are asked where: the base chains of a hook in the order of their priorities, and iptables' tables among
//! them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::rules::{Hook, TableName};
use super::model::{Base, ChainKind};

/// A chain of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The built-in chain of iptables' table.
    Iptables,
    /// A base chain of nftables, by its number.
    Nft(u32),
}

/// The places where the router asks: for each table of iptables and each hook, the chains to be asked, in order.
///
/// A slot that iptables has no chain for is the place of chains that are called after those it has: (filter, PREROUTING)
/// follows the translation of destinations, (filter, POSTROUTING) and (raw, INPUT) that of sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots([[Box<[Entry]>; Hook::ALL.len()]; TableName::COUNT]);

/// When conntrack looks a packet up.
const CONNTRACK: i32 = -200;

impl Slots {
    /// Sorts base chains, given in the order in which they were loaded.
    pub(super) fn new(bases: &[(u32, Base)]) -> Self {
        let mut slots = Self::default();
        for table in TableName::ALL {
            for hook in Hook::ALL {
                let belongs = |(_, base): &&(u32, Base)| base.hook == hook && slot_of(base) == table;
                let mut entries: Vec<(i32, Entry)> = Vec::new();
                if table.hooks().contains(&hook) {
                    entries.push((table.priority(hook), Entry::Iptables));
                }
                // Of chains with the same priority, the one that was loaded last is called first (seen on 6.18).
                entries.extend(
                    bases.iter().rev().filter(belongs).map(|(chain, base)| (base.priority, Entry::Nft(*chain))),
                );
                entries.sort_by_key(|(priority, _)| *priority);
                if entries.iter().any(|(_, entry)| *entry != Entry::Iptables) {
                    slots.0[table as usize][hook as usize] = entries.into_iter().map(|(_, entry)| entry).collect();
                }
            }
        }
        slots
    }

    /// Returns the chains of a slot; none where no chain of nftables is asked.
    #[inline]
    pub(crate) const fn at(&self, table: TableName, hook: Hook) -> &[Entry] {
        &self.0[table as usize][hook as usize]
    }
}

/// Returns the table in whose slot a base chain is asked.
const fn slot_of(base: &Base) -> TableName {
    let priority = base.priority;
    match (base.kind, base.hook) {
        (ChainKind::Nat, _) => TableName::Nat,
        (_, Hook::Prerouting | Hook::Output) if priority < CONNTRACK => TableName::Raw,
        (_, Hook::Prerouting | Hook::Output) if priority < -100 => TableName::Mangle,
        (_, Hook::Input) if priority >= 100 => TableName::Raw,
        (_, Hook::Input | Hook::Forward) if priority < 0 => TableName::Mangle,
        (_, Hook::Postrouting) if priority < 100 => TableName::Mangle,
        (_, Hook::Input | Hook::Forward | Hook::Output) if priority >= 50 => TableName::Security,
        _ => TableName::Filter,
    }
}

impl TableName {
    /// The priority with which the kernel calls iptables' chains of this table.
    const fn priority(self, hook: Hook) -> i32 {
        match (self, hook) {
            (Self::Raw, _) => -300,
            (Self::Mangle, _) => -150,
            (Self::Nat, Hook::Prerouting | Hook::Output) => -100,
            (Self::Nat, _) => 100,
            (Self::Filter, _) => 0,
            (Self::Security, _) => 50,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rules::Policy;
    use super::*;

    #[test]
    fn chains_are_asked_in_the_order_of_their_priorities_with_iptables_between_them() {
        let base = |hook, priority| Base { kind: ChainKind::Filter, hook, priority, policy: Policy::Accept };
        let bases = [(0, base(Hook::Forward, 5)), (1, base(Hook::Forward, -5)), (2, base(Hook::Forward, -200))];
        let slots = Slots::new(&bases);
        assert_eq!(slots.at(TableName::Mangle, Hook::Forward), [Entry::Nft(2), Entry::Iptables, Entry::Nft(1)]);
        assert_eq!(slots.at(TableName::Filter, Hook::Forward), [Entry::Iptables, Entry::Nft(0)]);
        assert!(slots.at(TableName::Filter, Hook::Input).is_empty());
        let slots = Slots::new(&[(0, base(Hook::Forward, 10)), (1, base(Hook::Forward, 10))]);
        assert_eq!(slots.at(TableName::Filter, Hook::Forward), [Entry::Iptables, Entry::Nft(1), Entry::Nft(0)]);
        let slots = Slots::new(&[(0, base(Hook::Forward, 60))]);
        assert_eq!(slots.at(TableName::Security, Hook::Forward), [Entry::Iptables, Entry::Nft(0)]);
    }
}
