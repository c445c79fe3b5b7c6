//! The table of connections: every slot taken at construction, found by either tuple or by source, expired without
//! looking at all of them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::connection::{Connection, ConnectionId, Direction, ProtocolState, Status};
use super::hash::Key;
use super::tuple::Tuple;
use super::wheel::Wheel;
use crate::Instant;

const NONE: u32 = u32::MAX;
/// The chain of connections from the same source, beside those of the two tuples.
const SOURCE: usize = 2;

/// Connections in slots. The chains of the hash tables run through the slots, so nothing is allocated later.
///
/// A chain's nodes are numbered `slot * 2 + direction` where they are found by tuple, and `slot` where they are
/// found by source.
pub(super) struct Table {
    slots: Box<[Slot]>,
    by_tuple: Box<[u32]>,
    by_source: Box<[u32]>,
    free: Vec<u32>,
    wheel: Wheel,
    key: Key,
    epoch: u32,
}

struct Slot {
    /// Odd while a connection lives here.
    generation: NonZeroU32,
    next: [u32; 3],
    connection: Connection,
}

impl Table {
    pub(super) fn new(capacity: u32, key: Key) -> Self {
        let nobody = Connection {
            tuples: [Tuple::NOWHERE; 2],
            status: Status::default(),
            protocol: ProtocolState::Generic,
            deadline: Instant::NEVER,
            scheduled: Instant::NEVER,
            mark: 0,
            helped: None,
            helper: false,
            master: None,
            master_had_helper: false,
            expectations: NONE,
            counters: Default::default(),
            masqueraded_on: None,
        };
        let buckets = (capacity as usize).next_power_of_two();
        Self {
            slots: (0..capacity)
                .map(|_| Slot { generation: FIRST, next: [NONE; 3], connection: nobody.clone() })
                .collect(),
            by_tuple: vec![NONE; buckets * 2].into(),
            by_source: vec![NONE; buckets].into(),
            free: (0..capacity).rev().collect(),
            wheel: Wheel::new(capacity),
            key,
            epoch: 0,
        }
    }

    /// Changes whenever what [`Table::find`] gave may no longer be true.
    #[inline]
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many connections there are, confirmed or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Makes an unconfirmed connection, not yet found by anything. `None` when there is no slot.
    pub(super) fn create(
        &mut self,
        original: Tuple,
        reply: Tuple,
        protocol: ProtocolState,
        deadline: Instant,
    ) -> Option<u32> {
        let slot = self.free.pop()?;
        let entry = &mut self.slots[slot as usize];
        entry.generation = next_generation(entry.generation);
        entry.next = [NONE; 3];
        entry.connection = Connection {
            tuples: [original, reply],
            status: Status::default(),
            protocol,
            deadline,
            scheduled: deadline,
            mark: 0,
            helped: None,
            helper: false,
            master: None,
            master_had_helper: false,
            expectations: NONE,
            counters: Default::default(),
            masqueraded_on: None,
        };
        self.wheel.insert(slot, deadline);
        Some(slot)
    }

    /// Frees a slot. Whoever calls this has looked after everything that hangs on the connection.
    pub(super) fn free(&mut self, slot: u32) {
        self.unlink_tuples(slot);
        self.unlink_source(slot);
        self.wheel.remove(slot);
        let entry = &mut self.slots[slot as usize];
        entry.generation = next_generation(entry.generation);
        self.free.push(slot);
    }

    #[inline]
    pub(super) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    /// The slot of a connection that still lives.
    #[inline]
    pub(super) fn slot(&self, id: ConnectionId) -> Option<u32> {
        (self.slots.get(id.slot as usize)?.generation == id.generation).then_some(id.slot)
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> &Connection {
        &self.slots[slot as usize].connection
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize].connection
    }

    pub(super) fn is_living(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|entry| entry.generation.get() & 1 == 1)
    }

    /// Slots in use, in the order of their numbers.
    pub(super) fn living(&self) -> impl Iterator<Item = u32> {
        let living = self.slots.iter().enumerate().filter(|(_, slot)| slot.generation.get() & 1 == 1);
        living.map(|(index, _)| index as u32)
    }

    /// The confirmed connection with this tuple, expired or not.
    #[inline]
    pub(super) fn find(&self, tuple: &Tuple) -> Option<(u32, Direction)> {
        let mut node = self.by_tuple[self.tuple_bucket(tuple)];
        while node != NONE {
            let (slot, direction) = (node >> 1, node as usize & 1);
            let entry = &self.slots[slot as usize];
            if entry.connection.tuples[direction] == *tuple {
                return Some((slot, if direction == 0 { Direction::Original } else { Direction::Reply }));
            }
            node = entry.next[direction];
        }
        None
    }

    /// Living connections from the same source, of those that [`Table::link_source`] was told; newest first.
    pub(super) fn from_source(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let mut node = self.by_source[self.source_bucket(tuple)];
        let tuple = *tuple;
        core::iter::from_fn(move || {
            while node != NONE {
                let slot = node;
                let entry = &self.slots[slot as usize];
                node = entry.next[SOURCE];
                if entry.connection.tuples[0].same_source(tuple) {
                    return Some(slot);
                }
            }
            None
        })
    }

    /// Connections in the bucket `distance` buckets behind that of `tuple`.
    pub(super) fn in_bucket(&self, tuple: &Tuple, distance: usize) -> impl Iterator<Item = u32> {
        let bucket = (self.tuple_bucket(tuple) + distance) % self.by_tuple.len();
        let mut node = self.by_tuple[bucket];
        core::iter::from_fn(move || {
            let here = (node != NONE).then_some(node)?;
            node = self.slots[(here >> 1) as usize].next[here as usize & 1];
            Some(here >> 1)
        })
    }

    /// Makes a connection found by both its tuples: confirms it.
    pub(super) fn link_tuples(&mut self, slot: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        for direction in 0..2 {
            let tuple = self.at(slot).tuples[direction];
            let bucket = self.tuple_bucket(&tuple);
            self.slots[slot as usize].next[direction] = self.by_tuple[bucket];
            self.by_tuple[bucket] = slot << 1 | direction as u32;
        }
        self.at_mut(slot).status.set(Status::CONFIRMED);
    }

    fn unlink_tuples(&mut self, slot: u32) {
        if !self.at(slot).status.has(Status::CONFIRMED) {
            return;
        }
        self.epoch = self.epoch.wrapping_add(1);
        for direction in 0..2 {
            let bucket = self.tuple_bucket(&self.at(slot).tuples[direction]);
            let wanted = slot << 1 | direction as u32;
            let behind = self.slots[slot as usize].next[direction];
            if self.by_tuple[bucket] == wanted {
                self.by_tuple[bucket] = behind;
                continue;
            }
            let mut node = self.by_tuple[bucket];
            while node != NONE {
                let next = &mut self.slots[(node >> 1) as usize].next[node as usize & 1];
                if *next == wanted {
                    *next = behind;
                    break;
                }
                node = *next;
            }
        }
    }

    /// Makes a connection found by its original source.
    pub(super) fn link_source(&mut self, slot: u32) {
        let bucket = self.source_bucket(&self.at(slot).tuples[0]);
        self.slots[slot as usize].next[SOURCE] = self.by_source[bucket];
        self.by_source[bucket] = slot;
    }

    fn unlink_source(&mut self, slot: u32) {
        let bucket = self.source_bucket(&self.at(slot).tuples[0]);
        let behind = self.slots[slot as usize].next[SOURCE];
        if self.by_source[bucket] == slot {
            self.by_source[bucket] = behind;
            return;
        }
        let mut node = self.by_source[bucket];
        while node != NONE {
            let next = &mut self.slots[node as usize].next[SOURCE];
            if *next == slot {
                *next = behind;
                return;
            }
            node = *next;
        }
    }

    /// Sets until when a connection is remembered.
    #[inline]
    pub(super) fn set_deadline(&mut self, slot: u32, deadline: Instant) {
        let connection = &mut self.slots[slot as usize].connection;
        connection.deadline = deadline;
        if deadline < connection.scheduled {
            connection.scheduled = deadline;
            self.wheel.remove(slot);
            self.wheel.insert(slot, deadline);
        }
    }

    /// A connection whose time is over at `now`; to be called until there is none.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<u32> {
        loop {
            let slot = self.wheel.pop(now)?;
            let connection = &mut self.slots[slot as usize].connection;
            let deadline = connection.deadline;
            connection.scheduled = deadline;
            self.wheel.insert(slot, deadline);
            if deadline <= now {
                return Some(slot);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wheel.next_due()
    }

    #[inline]
    fn tuple_bucket(&self, tuple: &Tuple) -> usize {
        tuple.hash(self.key) as usize & (self.by_tuple.len() - 1)
    }

    fn source_bucket(&self, tuple: &Tuple) -> usize {
        tuple.hash_source(self.key) as usize & (self.by_source.len() - 1)
    }
}

/// The generation of a slot that was never used: even.
const FIRST: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// One further, without ever being zero: odd and even keep taking turns.
fn next_generation(generation: NonZeroU32) -> NonZeroU32 {
    generation.checked_add(1).unwrap_or(FIRST)
}
