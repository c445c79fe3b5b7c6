//! The table of entries: every slot taken at construction, found from the client's side and from the real server's,
//! expired without looking at all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU32;

use super::entry::{Entry, EntryId};
use crate::Instant;
use crate::hash::TableKey;
use crate::hash_index::HashIndex;
use crate::packet::Protocol;
use crate::timer_wheel::TimerWheel;

/// Entries in slots.
pub(super) struct Table {
    slots: Box<[Slot]>,
    /// Nodes are `slot * 2` and `slot * 2 + 1`. The first is found by the endpoint that the client dialled (a template
    /// by its own key), the second by the endpoint from which the real server answers.
    chains: HashIndex,
    free: Vec<u32>,
    wheel: TimerWheel,
    key: TableKey,
    /// Number of entries wait for a client whose port is not known.
    waiting: u32,
}

struct Slot {
    /// Odd while an entry lives here.
    generation: NonZeroU32,
    entry: Entry,
}

/// The generation of a slot that was never used: even.
const FIRST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// From which side an entry is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Index {
    Client = 0,
    Server = 1,
    Template = 2,
}

impl Table {
    pub(super) fn new(capacity: u32, key: TableKey) -> Self {
        Self {
            slots: (0..capacity).map(|_| Slot { generation: FIRST, entry: Entry::EMPTY }).collect(),
            chains: HashIndex::new(capacity.saturating_mul(2)),
            free: (0..capacity).rev().collect(),
            wheel: TimerWheel::new(capacity),
            key,
            waiting: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn at(&self, slot: u32) -> &Entry {
        &self.slots[slot as usize].entry
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.slots[slot as usize].entry
    }

    pub(super) fn id(&self, slot: u32) -> EntryId {
        EntryId { slot, generation: self.slots[slot as usize].generation }
    }

    pub(super) fn slot(&self, id: EntryId) -> Option<u32> {
        (self.slots.get(id.slot as usize)?.generation == id.generation).then_some(id.slot)
    }

    /// Entries, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        let living = self.slots.iter().enumerate().filter(|(_, slot)| slot.generation.get() & 1 == 1);
        living.map(|(slot, here)| (EntryId { slot: slot as u32, generation: here.generation }, &here.entry))
    }

    /// Enters an entry, in front of those with the same ends. `None` when there is no slot.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<u32> {
        let slot = self.free.pop()?;
        let place = &mut self.slots[slot as usize];
        place.generation = next_generation(place.generation);
        place.entry = Entry { scheduled: entry.deadline, ..entry };
        self.wheel.insert(slot, entry.deadline);
        self.waiting += u32::from(entry.is_waiting);
        self.link(slot);
        Some(slot)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.wheel.remove(slot);
        let place = &mut self.slots[slot as usize];
        self.waiting -= u32::from(place.entry.is_waiting);
        place.generation = next_generation(place.generation);
        self.free.push(slot);
    }

    /// The client that was waited for comes from this port.
    pub(super) fn fill_client_port(&mut self, slot: u32, port: u16) {
        self.unlink(slot);
        let entry = &mut self.slots[slot as usize].entry;
        self.waiting -= u32::from(entry.is_waiting);
        entry.is_waiting = false;
        entry.client.set_port(port);
        self.link(slot);
    }

    /// Lets an entry no longer be found; it stays while others depend on it.
    pub(super) fn retire(&mut self, slot: u32) {
        self.unlink(slot);
    }

    fn link(&mut self, slot: u32) {
        let entry = self.at(slot);
        let (first, second) = if entry.is_template {
            (self.hash(Index::Template, entry.protocol, entry.client, entry.virtual_at), None)
        } else {
            let from_server = self.hash(Index::Server, entry.protocol, entry.client, entry.answers_from());
            (self.hash(Index::Client, entry.protocol, entry.client, entry.virtual_at), Some(from_server))
        };
        self.chains.link(slot << 1, first);
        if let Some(hash) = second {
            self.chains.link(slot << 1 | 1, hash);
        }
    }

    fn unlink(&mut self, slot: u32) {
        self.chains.unlink(slot << 1);
        self.chains.unlink(slot << 1 | 1);
    }

    fn hash(&self, index: Index, protocol: Protocol, client: SocketAddr, other: SocketAddr) -> u64 {
        let ([a, b], [c, d]) = (words(client.ip()), words(other.ip()));
        let ports = u64::from(client.port()) << 16 | u64::from(other.port());
        let kind = u64::from(protocol.0) << 2 | index as u64;
        self.key.hash([a, b, c, d, ports << 32 | kind])
    }

    fn find(&self, index: Index, protocol: Protocol, client: SocketAddr, other: SocketAddr) -> Option<u32> {
        let mut nodes = self.chains.with_hash(self.hash(index, protocol, client, other));
        let same = |slot: u32| {
            let entry = self.at(slot);
            let ends = match index {
                Index::Server => entry.answers_from() == other,
                Index::Client | Index::Template => entry.virtual_at == other,
            };
            let kind = entry.is_template == (index == Index::Template);
            ends && kind && entry.client == client && entry.protocol == protocol
        };
        nodes.find(|node| (node & 1 == 1) == (index == Index::Server) && same(node >> 1)).map(|node| node >> 1)
    }

    /// The entry of a packet from a client; one that waits for a client of unknown port comes second.
    pub(super) fn by_client(&self, protocol: Protocol, client: SocketAddr, dialled: SocketAddr) -> Option<u32> {
        let known = |client: SocketAddr| {
            let found = self.find(Index::Client, protocol, client, dialled)?;
            (self.at(found).is_waiting == (client.port() == 0)).then_some(found)
        };
        known(client).or_else(|| {
            if self.waiting == 0 {
                return None;
            }
            known(SocketAddr::new(client.ip(), 0))
        })
    }

    /// The entry of a packet from a real server.
    pub(super) fn by_server(&self, protocol: Protocol, server: SocketAddr, client: SocketAddr) -> Option<u32> {
        self.find(Index::Server, protocol, client, server)
    }

    /// A client's persistence.
    pub(super) fn template(&self, protocol: Protocol, client: SocketAddr, at: SocketAddr) -> Option<u32> {
        self.find(Index::Template, protocol, client, at)
    }

    /// Sets until when an entry is remembered.
    pub(super) fn set_deadline(&mut self, slot: u32, deadline: Instant) {
        let entry = &mut self.slots[slot as usize].entry;
        entry.deadline = deadline;
        if deadline < entry.scheduled {
            entry.scheduled = deadline;
            self.wheel.remove(slot);
            self.wheel.insert(slot, deadline);
        }
    }

    /// An entry whose time is over at `now`; its deadline is to be moved, or it is to be removed, before the next call.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<u32> {
        loop {
            let slot = self.wheel.pop(now)?;
            let entry = &mut self.slots[slot as usize].entry;
            entry.scheduled = entry.deadline;
            self.wheel.insert(slot, entry.deadline);
            if entry.deadline.has_passed(now) {
                return Some(slot);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wheel.next_due()
    }
}

/// One further, without ever being zero: odd and even keep taking turns.
fn next_generation(generation: NonZeroU32) -> NonZeroU32 {
    generation.checked_add(1).unwrap_or(FIRST)
}

fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [u64::from(address.to_bits()), 1],
        IpAddr::V6(address) => [(address.to_bits() >> 64) as u64, address.to_bits() as u64],
    }
}
