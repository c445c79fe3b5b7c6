//! Connections that are expected, because another one announced them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::connection::{ConnectionId, Direction};
use super::hash::Key;
use super::tuple::Tuple;
use super::wheel::Wheel;
use crate::Instant;

const NONE: u32 = u32::MAX;

/// A connection that may come, and what is to happen when it does (`nf_conntrack_expect`).
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    pub(super) tuple: Tuple,
    pub(super) master: ConnectionId,
    pub(super) on_match: OnMatch,
    pub(super) deadline: Instant,
}

impl Expectation {
    /// Who may open it, to where; source port 0 stands for any.
    pub const fn tuple(&self) -> Tuple {
        self.tuple
    }

    /// The connection that announced it.
    pub const fn master(&self) -> ConnectionId {
        self.master
    }

    /// What happens to a connection that meets it.
    pub const fn on_match(&self) -> OnMatch {
        self.on_match
    }

    /// How long it will still be waited for.
    pub const fn remaining(&self, now: Instant) -> core::time::Duration {
        self.deadline.since(now)
    }
}

/// What is to be done with a connection that was expected, beside making it the master's child.
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
        /// The port in the text as it was announced.
        port: u16,
    },
}

/// Why an expectation was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectError {
    /// Another connection expects the same (`-EBUSY`).
    Busy,
    /// There is no room (`-EMFILE`).
    Full,
    /// The master is gone, or has no helper (`-ESHUTDOWN`).
    NoMaster,
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "another connection expects the same",
            Self::Full => "no room for another expectation",
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

/// The table of expectations: found by destination, and by master through chains.
pub(super) struct Table {
    slots: Box<[Slot]>,
    buckets: Box<[u32]>,
    free: Vec<u32>,
    wheel: Wheel,
    key: Key,
}

#[derive(Clone, Copy)]
struct Slot {
    generation: u32,
    next: u32,
    next_of_master: u32,
    expectation: Option<Expectation>,
}

impl Table {
    pub(super) fn new(capacity: u32, key: Key) -> Self {
        let empty = Slot { generation: 0, next: NONE, next_of_master: NONE, expectation: None };
        Self {
            slots: vec![empty; capacity as usize].into(),
            buckets: vec![NONE; (capacity as usize).next_power_of_two()].into(),
            free: (0..capacity).rev().collect(),
            wheel: Wheel::new(capacity),
            key,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Expectation> {
        self.slots.get(slot as usize)?.expectation.as_ref()
    }

    pub(super) fn slot(&self, id: ExpectationId) -> Option<u32> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation && slot.expectation.is_some()).then_some(id.slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Expectation> {
        self.slots.iter().filter_map(|slot| slot.expectation.as_ref())
    }

    /// The newest expectation that a connection with this tuple meets.
    pub(super) fn find(&self, tuple: &Tuple, now: Instant) -> Option<u32> {
        self.matching(tuple).find(|slot| self.at(*slot).is_some_and(|e| e.deadline > now))
    }

    /// Expectations with this destination whose source allows that of `tuple`, newest first.
    pub(super) fn matching(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let tuple = *tuple;
        let mut node = self.buckets.get(self.bucket(&tuple)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            while node != NONE {
                let slot = node;
                let entry = &self.slots[slot as usize];
                node = entry.next;
                let meets = |e: &Expectation| e.tuple.same_destination(tuple) && e.tuple.same_source_address(tuple);
                if entry.expectation.as_ref().is_some_and(meets) {
                    return Some(slot);
                }
            }
            None
        })
    }

    /// Registers an expectation in front of those with the same destination; `of_master` is the first of its
    /// master's. `None` when there is no room.
    pub(super) fn insert(&mut self, expectation: Expectation, of_master: u32) -> Option<(u32, ExpectationId)> {
        let slot = self.free.pop()?;
        let bucket = self.bucket(&expectation.tuple);
        let entry = &mut self.slots[slot as usize];
        entry.expectation = Some(expectation);
        entry.next = self.buckets[bucket];
        entry.next_of_master = of_master;
        self.buckets[bucket] = slot;
        self.wheel.insert(slot, expectation.deadline);
        Some((slot, ExpectationId { slot, generation: self.slots[slot as usize].generation }))
    }

    /// Takes an expectation out; `first` is the head of its master's chain, and the new head is returned with it.
    pub(super) fn remove(&mut self, slot: u32, first: u32) -> Option<(Expectation, u32)> {
        let expectation = self.slots.get_mut(slot as usize)?.expectation.take()?;
        let bucket = self.bucket(&expectation.tuple);
        let behind = self.slots[slot as usize].next;
        unlink(&mut self.slots, &mut self.buckets[bucket], slot, behind, |entry| &mut entry.next);
        let mut head = first;
        let behind = self.slots[slot as usize].next_of_master;
        unlink(&mut self.slots, &mut head, slot, behind, |entry| &mut entry.next_of_master);
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
        self.wheel.pop(now).inspect(|slot| {
            // Its deadline never moves: what comes up from an upper level goes back in.
            if let Some(deadline) = self.slots[*slot as usize].expectation.as_ref().map(|e| e.deadline) {
                self.wheel.insert(*slot, deadline);
            }
        })
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wheel.next_due()
    }

    fn bucket(&self, tuple: &Tuple) -> usize {
        tuple.hash_destination(self.key) as usize & (self.buckets.len() - 1)
    }
}

/// Takes `slot`, with `behind` behind it, out of the chain that begins at `head`.
fn unlink(slots: &mut [Slot], head: &mut u32, slot: u32, behind: u32, next: impl Fn(&mut Slot) -> &mut u32) {
    if *head == slot {
        *head = behind;
        return;
    }
    let mut node = *head;
    while node != NONE {
        let link = next(&mut slots[node as usize]);
        if *link == slot {
            *link = behind;
            return;
        }
        node = *link;
    }
}
