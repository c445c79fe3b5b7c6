//! Connections that are expected, because another one announced them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::connection::{ConnectionId, Direction, NO_EXPECTATION as NONE};
use super::tuple::Tuple;
use crate::Instant;
use crate::hash::TableKey;
use crate::hash_index::HashIndex;
use crate::packet::Side;
use crate::timer_wheel::TimerWheel;

/// A connection that may come, and what is to happen when it does (`nf_conntrack_expect`).
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    pub(super) tuple: Tuple,
    /// The last port of a range; the tuple has the first.
    pub(super) last_port: Option<u16>,
    pub(super) master: ConnectionId,
    pub(super) on_match: OnMatch,
    pub(super) deadline: Instant,
}

impl Expectation {
    /// Returns the tuple of the expected connection; source port 0 stands for any.
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        self.tuple
    }

    /// Returns the last port if a range is expected, with any number of connections (`NF_CT_EXPECT_PERMANENT`);
    /// the tuple's destination has the first. `None` for a connection that is expected once.
    #[must_use]
    pub const fn last_port(&self) -> Option<u16> {
        self.last_port
    }

    fn is_met_by(&self, tuple: &Tuple) -> bool {
        let first = self.tuple.destination_port();
        let meant = match self.last_port {
            Some(last) if (first..=last).contains(&tuple.destination_port()) => {
                tuple.with_port(Side::Destination, first)
            }
            Some(_) => return false,
            None => *tuple,
        };
        self.tuple.same_destination(meant) && self.tuple.same_source_address(meant)
    }

    /// Returns the tuple for look-ups: of a range, with port 0.
    fn hash(&self, key: &TableKey) -> u64 {
        match self.last_port {
            Some(_) => hash_of_range(&self.tuple, key),
            None => self.tuple.hash_expected(key),
        }
    }

    /// The connection that announced it.
    #[must_use]
    pub const fn master(&self) -> ConnectionId {
        self.master
    }

    /// Returns what happens to a connection that meets it.
    #[must_use]
    pub const fn on_match(&self) -> OnMatch {
        self.on_match
    }

    /// Returns how long it will still be waited for.
    #[must_use]
    pub const fn remaining(&self, now: Instant) -> core::time::Duration {
        self.deadline.since(now)
    }
}

/// Action for an expected connection, beside making it the master's child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMatch {
    /// Nothing.
    Nothing,
    /// It is translated as its master is (`nf_nat_follow_master`): its source to where the master's other side sees
    /// it, its destination to the announcing end and the port that this end announced.
    FollowMaster {
        /// The direction, in terms of the master, in which the connection is opened.
        direction: Direction,
        /// The port in the text as it was announced; `None` where it is the one that is dialled.
        port: Option<u16>,
    },
    /// The load balancer's entry gives the tuple of the replies.
    Balance,
}

/// The reason for not registering an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectError {
    /// Another connection expects the same (`-EBUSY`).
    Busy,
    /// There is no room (`-EMFILE`).
    Full,
    /// The host that opened the master has as many as [`ExpectPolicy::per_host`](super::ExpectPolicy::per_host) allows.
    HostFull,
    /// The master is gone, or has no helper (`-ESHUTDOWN`).
    NoMaster,
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "another connection expects the same",
            Self::Full => "no room for another expectation",
            Self::HostFull => "the host has too many expectations",
            Self::NoMaster => "the master is gone or has no helper",
        })
    }
}

impl core::error::Error for ExpectError {}

/// A registered expectation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationId {
    slot: u32,
    generation: u32,
}

impl From<ExpectationId> for u64 {
    fn from(id: ExpectationId) -> Self {
        Self::from(id.generation) << 32 | Self::from(id.slot)
    }
}

impl From<u64> for ExpectationId {
    fn from(number: u64) -> Self {
        Self { slot: number as u32, generation: (number >> 32) as u32 }
    }
}

fn hash_of_range(tuple: &Tuple, key: &TableKey) -> u64 {
    tuple.with_port(Side::Destination, 0).hash_expected(key)
}

/// The table of expectations: found by destination, and by master through chains.
pub(super) struct Table {
    slots: Box<[Slot]>,
    /// By source address and destination; nodes are slots.
    by_tuple: HashIndex,
    /// By the host whose connections announced them.
    by_host: HashIndex,
    /// Number of ranges among them.
    ranges: u32,
    free: Vec<u32>,
    wheel: TimerWheel,
    key: TableKey,
}

#[derive(Clone, Copy)]
struct Slot {
    generation: u32,
    next_of_master: u32,
    expectation: Option<Expectation>,
}

impl Table {
    pub(super) fn new(capacity: u32, key: TableKey) -> Self {
        let empty = Slot { generation: 0, next_of_master: NONE, expectation: None };
        Self {
            slots: vec![empty; capacity as usize].into(),
            by_tuple: HashIndex::new(capacity),
            by_host: HashIndex::new(capacity),
            ranges: 0,
            free: (0..capacity).rev().collect(),
            wheel: TimerWheel::new(capacity),
            key,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The longest chains of tuples, and of hosts.
    pub(super) fn longest_chains(&self) -> [usize; 2] {
        [&self.by_tuple, &self.by_host].map(HashIndex::longest)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Expectation> {
        self.slots.get(slot as usize)?.expectation.as_ref()
    }

    pub(super) fn slot(&self, id: ExpectationId) -> Option<u32> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation && slot.expectation.is_some()).then_some(id.slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ExpectationId, &Expectation)> {
        (0..).zip(&self.slots).filter_map(|(slot, at)| {
            let id = ExpectationId { slot, generation: at.generation };
            Some((id, at.expectation.as_ref()?))
        })
    }

    /// Expectations of this very connection, newest first.
    pub(super) fn matching(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let tuple = *tuple;
        let candidates = self.by_tuple.with_hash(tuple.hash_expected(&self.key));
        candidates.filter(move |slot| self.at(*slot).is_some_and(|e| e.last_port.is_none() && e.is_met_by(&tuple)))
    }

    /// Ranges that a connection with this tuple meets, newest first.
    pub(super) fn ranges_around(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let tuple = *tuple;
        let candidates = (self.ranges > 0).then(|| self.by_tuple.with_hash(hash_of_range(&tuple, &self.key)));
        let candidates = candidates.into_iter().flatten();
        candidates.filter(move |slot| self.at(*slot).is_some_and(|e| e.last_port.is_some() && e.is_met_by(&tuple)))
    }

    /// Waits for it longer.
    pub(super) fn renew(&mut self, slot: u32, deadline: Instant) {
        if let Some(expectation) = self.slots.get_mut(slot as usize).and_then(|slot| slot.expectation.as_mut()) {
            expectation.deadline = deadline;
        }
    }

    /// Expectations that connections of this host announced.
    pub(super) fn of_host(&self, host: &Tuple) -> impl Iterator<Item = &Expectation> {
        self.by_host.with_hash(host.hash_host(&self.key)).filter_map(|slot| self.at(slot))
    }

    /// Registers an expectation in front of those with the same destination; `host` opened its master, and `of_master`
    /// is the first of its master's. `None` when there is no room.
    pub(super) fn insert(
        &mut self,
        expectation: Expectation,
        host: &Tuple,
        of_master: u32,
    ) -> Option<(u32, ExpectationId)> {
        let slot = self.free.pop()?;
        let entry = &mut self.slots[slot as usize];
        entry.expectation = Some(expectation);
        entry.next_of_master = of_master;
        self.by_tuple.link(slot, expectation.hash(&self.key));
        self.ranges += u32::from(expectation.last_port.is_some());
        self.by_host.link(slot, host.hash_host(&self.key));
        self.wheel.insert(slot, expectation.deadline);
        Some((slot, ExpectationId { slot, generation: self.slots[slot as usize].generation }))
    }

    /// Takes an expectation out; `first` is the head of its master's chain, and the new head is returned with it.
    pub(super) fn remove(&mut self, slot: u32, first: u32) -> Option<(Expectation, u32)> {
        let expectation = self.slots.get_mut(slot as usize)?.expectation.take()?;
        self.by_tuple.unlink(slot);
        self.by_host.unlink(slot);
        self.ranges -= u32::from(expectation.last_port.is_some());
        let head = self.without(slot, first);
        self.wheel.remove(slot);
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        Some((expectation, head))
    }

    /// The expectations of a master, newest first, given its first.
    pub(super) fn of_master(&self, first: u32) -> impl Iterator<Item = u32> {
        let mut node = first;
        core::iter::from_fn(move || {
            let slot = (node != NONE).then_some(node)?;
            node = self.slots[slot as usize].next_of_master;
            Some(slot)
        })
    }

    /// An expectation whose time is over at `now`; to be removed before the next call.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<u32> {
        loop {
            let slot = self.wheel.pop(now)?;
            let Some(deadline) = self.at(slot).map(|expectation| expectation.deadline) else { continue };
            self.wheel.insert(slot, deadline);
            if deadline.has_passed(now) {
                return Some(slot);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wheel.next_due()
    }

    /// Takes `slot` out of its master's chain, which begins at `first`, and gives the chain's new beginning. A master
    /// has few expectations.
    fn without(&mut self, slot: u32, first: u32) -> u32 {
        let behind = self.slots[slot as usize].next_of_master;
        if first == slot {
            return behind;
        }
        let before = self.of_master(first).find(|other| self.slots[*other as usize].next_of_master == slot);
        if let Some(before) = before {
            self.slots[before as usize].next_of_master = behind;
        }
        first
    }
}
