//! The table of connections: every slot taken at construction, found by either tuple or by source, expired without
//! looking at all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use super::connection::{Connection, ConnectionId, Direction, ProtocolState, Status};
use super::tuple::Tuple;
use crate::Instant;
use crate::hash::TableKey;
use crate::hash_index::HashIndex;
use crate::timer_wheel::TimerWheel;

/// Connections in slots.
pub(super) struct Table {
    slots: Box<[Slot]>,
    /// Nodes are `slot * 2 + direction`.
    by_tuple: HashIndex,
    /// Nodes are slots.
    by_source: HashIndex,
    free: Vec<u32>,
    wheel: TimerWheel,
    key: TableKey,
    epoch: u32,
}

// No more cache lines are touched than it fills.
#[repr(align(64))]
struct Slot {
    /// Odd while a connection lives here.
    generation: NonZeroU32,
    connection: Connection,
}

/// The generation of a slot that was never used: even.
const FIRST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// One further, without ever being zero: odd and even keep taking turns.
fn next_generation(generation: NonZeroU32) -> NonZeroU32 {
    generation.checked_add(1).unwrap_or(FIRST)
}

impl Table {
    pub(super) fn new(capacity: u32, key: TableKey) -> Self {
        let nobody = Connection::new(Tuple::NOWHERE, Tuple::NOWHERE, ProtocolState::Generic, Instant::NEVER);
        let empty = || Slot { generation: FIRST, connection: nobody.clone() };
        Self {
            slots: (0..capacity).map(|_| empty()).collect(),
            by_tuple: HashIndex::new(capacity * 2),
            by_source: HashIndex::new(capacity),
            free: (0..capacity).rev().collect(),
            wheel: TimerWheel::new(capacity),
            key,
            epoch: 0,
        }
    }

    /// Changes whenever what [`Table::find`] gave may no longer be true.
    #[inline]
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the number of connections, confirmed or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The longest chains of tuples, and of sources.
    pub(super) fn longest_chains(&self) -> [usize; 2] {
        [&self.by_tuple, &self.by_source].map(HashIndex::longest)
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
        entry.connection = Connection::new(original, reply, protocol, deadline);
        self.wheel.insert(slot, deadline);
        Some(slot)
    }

    /// Frees a slot. Whoever calls this has looked after everything that hangs on the connection.
    pub(super) fn free(&mut self, slot: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        self.by_tuple.unlink(slot << 1);
        self.by_tuple.unlink(slot << 1 | 1);
        self.by_source.unlink(slot);
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
        (0..self.slots.len() as u32).filter(|slot| self.is_living(*slot))
    }

    /// The confirmed connection with this tuple, expired or not.
    #[inline(always)]
    pub(super) fn find(&self, tuple: &Tuple) -> Option<(u32, Direction)> {
        let hash = tuple.hash(&self.key);
        match self.by_tuple.newest(hash) {
            Some(node) if self.tuple_of(node) == tuple => Some(place(node)),
            _ => {
                let [source, destination] = tuple.ends();
                self.find_behind(hash, source, destination, tuple.rest())
            }
        }
    }

    /// The same where it is not the newest of its bucket.
    // The tuple comes in pieces, so that it is not put together in memory where it is.
    #[inline(never)]
    fn find_behind(&self, hash: u64, source: [u64; 2], destination: [u64; 2], rest: u64) -> Option<(u32, Direction)> {
        let tuple = Tuple::from_words([source, destination], rest);
        self.by_tuple.with_hash(hash).find(|node| *self.tuple_of(*node) == tuple).map(place)
    }

    #[inline(always)]
    fn tuple_of(&self, node: u32) -> &Tuple {
        let (slot, direction) = place(node);
        self.at(slot).tuple(direction)
    }

    /// Connections from the same source, of those that [`Table::link_source`] was told; newest first.
    pub(super) fn same_source(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let tuple = *tuple;
        let candidates = self.by_source.with_hash(tuple.hash_source(&self.key));
        candidates.filter(move |slot| self.at(*slot).tuples[0].same_source(tuple))
    }

    /// Connections in the bucket `distance` buckets behind that of `tuple`.
    pub(super) fn near(&self, tuple: &Tuple, distance: usize) -> impl Iterator<Item = u32> {
        self.by_tuple.near(tuple.hash(&self.key), distance).map(|node| node >> 1)
    }

    /// Makes a connection found by both its tuples: confirms it.
    pub(super) fn link_tuples(&mut self, slot: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        let connection = &mut self.slots[slot as usize].connection;
        connection.status.set(Status::CONFIRMED);
        for (direction, tuple) in connection.tuples.iter().enumerate() {
            self.by_tuple.link(slot << 1 | direction as u32, tuple.hash(&self.key));
        }
    }

    /// Makes a connection found by its original source.
    pub(super) fn link_source(&mut self, slot: u32) {
        let hash = self.at(slot).tuples[0].hash_source(&self.key);
        self.by_source.link(slot, hash);
    }

    /// Sets until when a connection is remembered.
    #[inline]
    pub(super) fn set_deadline(&mut self, slot: u32, deadline: Instant) {
        if self.at_mut(slot).last_until(deadline) {
            self.schedule(slot);
        }
    }

    /// Lets the wheel look at a connection at its deadline.
    #[inline(never)]
    pub(super) fn schedule(&mut self, slot: u32) {
        let connection = self.at_mut(slot);
        connection.scheduled = connection.deadline;
        let deadline = connection.deadline;
        self.wheel.remove(slot);
        self.wheel.insert(slot, deadline);
    }

    /// A connection whose time is over at `now`; to be freed before the next call.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<u32> {
        loop {
            let slot = self.wheel.pop(now)?;
            let connection = &mut self.slots[slot as usize].connection;
            if connection.is_kept() && connection.deadline.has_passed(now) {
                connection.deadline = now + AFTER_CHILDREN;
            }
            connection.scheduled = connection.deadline;
            self.wheel.insert(slot, connection.deadline);
            if connection.expired(now) {
                return Some(slot);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wheel.next_due()
    }
}

/// Time for which a connection that its children kept is remembered after the last of them ended, for the transfer's last reply.
pub(super) const AFTER_CHILDREN: Duration = Duration::from_secs(60);

/// Returns the slot and direction of a node in the chains of tuples.
#[inline(always)]
const fn place(node: u32) -> (u32, Direction) {
    (node >> 1, if node & 1 == 0 { Direction::Original } else { Direction::Reply })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;
    use alloc::vec::Vec;
    use core::net::{IpAddr, SocketAddr};
    use proptest::prelude::*;

    const CAPACITY: u32 = 6;
    /// The wheel hands connections out at most so late.
    const LATE: Duration = Duration::from_micros(1 << 18);

    /// A step of a random test.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A connection from one of a few endpoints to one of a few others, which lives so many seconds.
        Open { from: u8, to: u8, seconds: u8 },
        /// One of those that were ever opened is freed.
        Free(usize),
        /// One of them lives longer, or shorter.
        Renew(usize, u8),
        /// Seconds pass; who is over is freed.
        Pass(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4u8, 0..4u8, 1..200u8).prop_map(|(from, to, seconds)| Step::Open { from, to, seconds }),
            (0..40usize).prop_map(Step::Free),
            (0..40usize, 1..200u8).prop_map(|(which, seconds)| Step::Renew(which, seconds)),
            (0..120u8).prop_map(Step::Pass),
        ]
    }

    fn tuple(from: u8, to: u8) -> Tuple {
        let end = |host: u8, port| SocketAddr::new(IpAddr::from([10, 0, 0, host]), port);
        Tuple::new(Protocol::TCP, end(from, 1000), end(100 + to, 21)).unwrap()
    }

    /// A connection of the model: its name, its tuple, and until when.
    type Known = (ConnectionId, Tuple, Instant);

    proptest! {
        #[test]
        fn as_a_list_of_connections_has_it(steps in proptest::collection::vec(step(), 1..80)) {
            let mut table = Table::new(CAPACITY, TableKey::new([1, 2]));
            let mut now = Instant::from_secs(1000);
            let (mut model, mut ever) = (Vec::<Known>::new(), Vec::<ConnectionId>::new());
            for step in steps {
                match step {
                    Step::Open { from, to, seconds } => {
                        let original = tuple(from, to);
                        if model.iter().any(|known| known.1 == original) {
                            continue;
                        }
                        let deadline = now + Duration::from_secs(seconds.into());
                        let reply = original.reversed().unwrap();
                        let slot = table.create(original, reply, ProtocolState::Generic, deadline);
                        prop_assert_eq!(slot.is_some(), model.len() < CAPACITY as usize);
                        let Some(slot) = slot else { continue };
                        table.link_tuples(slot);
                        table.link_source(slot);
                        model.push((table.id(slot), original, deadline));
                        ever.push(table.id(slot));
                    }
                    Step::Free(which) if !ever.is_empty() => {
                        let id = ever[which % ever.len()];
                        let slot = table.slot(id);
                        prop_assert_eq!(slot.is_some(), model.iter().any(|known| known.0 == id));
                        if let Some(slot) = slot {
                            table.free(slot);
                            model.retain(|known| known.0 != id);
                        }
                    }
                    Step::Renew(which, seconds) if !model.is_empty() => {
                        let which = which % model.len();
                        let deadline = now + Duration::from_secs(seconds.into());
                        table.set_deadline(table.slot(model[which].0).unwrap(), deadline);
                        model[which].2 = deadline;
                    }
                    Step::Pass(seconds) => {
                        now = now + Duration::from_secs(seconds.into());
                        while let Some(slot) = table.next_expired(now) {
                            let id = table.id(slot);
                            let place = model.iter().position(|known| known.0 == id);
                            let (_, _, deadline) = model.swap_remove(place.unwrap());
                            prop_assert!(deadline <= now, "too early");
                            table.free(slot);
                        }
                        prop_assert!(model.iter().all(|known| known.2 + LATE > now), "too late");
                    }
                    Step::Free(_) | Step::Renew(..) => {}
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.living().count(), model.len());
                let due = table.next_due();
                prop_assert!(model.iter().all(|known| due.is_some_and(|due| due <= known.2 + LATE)));
                for from in 0..4 {
                    let mut same_source = 0;
                    for to in 0..4 {
                        let original = tuple(from, to);
                        let expected = model.iter().find(|known| known.1 == original).map(|known| known.0);
                        same_source += usize::from(expected.is_some());
                        for (tuple, direction) in
                            [(original, Direction::Original), (original.reversed().unwrap(), Direction::Reply)]
                        {
                            let found = table.find(&tuple);
                            let found = found.map(|(slot, direction)| (table.id(slot), direction));
                            prop_assert_eq!(found, expected.map(|id| (id, direction)));
                        }
                    }
                    prop_assert_eq!(table.same_source(&tuple(from, 0)).count(), same_source);
                }
            }
        }
    }
}
