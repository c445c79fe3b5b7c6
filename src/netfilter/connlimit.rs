//! `-m connlimit`: how many connections a group of addresses has.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::keyed::{Key, Keyed, masked, words};
use crate::conntrack::{ConnectionId, Conntrack, TcpState};

/// A bound on the connections of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct ConnlimitMatch {
    /// The number of connections.
    pub bound: u32,
    /// True for `--connlimit-upto`: it matches up to the bound, and not above it.
    pub upto: bool,
    /// `--connlimit-mask`: how many leading bits of the address count.
    pub prefix: u8,
    /// True for `--connlimit-daddr`.
    pub destination: bool,
}

/// The connections that one rule has counted.
#[derive(Debug)]
pub(super) struct Connlimit {
    /// The first connection of each group.
    groups: Keyed<u32>,
    /// The connections, chained by group.
    nodes: Box<[Node]>,
    free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    connection: Option<ConnectionId>,
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Connlimit {
    /// An empty one, with room for so many connections.
    pub(super) fn new(capacity: u32, seeds: [u64; 2]) -> Self {
        let node = |number: u32| Node { connection: None, next: if number + 1 < capacity { number + 1 } else { NONE } };
        let nodes: Vec<Node> = (0..capacity).map(node).collect();
        Self { groups: Keyed::new(capacity, seeds), nodes: nodes.into(), free: if capacity == 0 { NONE } else { 0 } }
    }

    /// Counts the connections of a packet's group, its own among them; `None` when there is no room to count.
    pub(super) fn count(
        &mut self,
        test: &ConnlimitMatch,
        address: IpAddr,
        connection: ConnectionId,
        conntrack: &Conntrack,
    ) -> Option<u32> {
        let zone = conntrack.get(connection)?.tuple(crate::conntrack::Direction::Original).zone();
        let [high, low] = words(masked(address, test.prefix));
        let key: Key = [high, low, zone.into(), 0, 0, 0];
        let group = match self.groups.find(&key) {
            Some(group) => group,
            None => self.groups.insert(key, NONE).or_else(|| {
                self.forget_group(conntrack);
                self.groups.insert(key, NONE)
            })?,
        };
        self.groups.touch(group);
        let (mut count, mut is_counted) = (0u32, false);
        let mut before = NONE;
        let mut at = *self.groups.get(group)?;
        while let Some(Node { connection: Some(counted), next }) = self.nodes.get(at as usize).copied() {
            if counted == connection || is_open(counted, conntrack) {
                is_counted |= counted == connection;
                count += 1;
                before = at;
            } else {
                self.unchain(group, before, at, next);
            }
            at = next;
        }
        if !is_counted {
            let new = self.free;
            let node = self.nodes.get_mut(new as usize)?;
            self.free = node.next;
            *node = Node { connection: Some(connection), next: *self.groups.get(group)? };
            *self.groups.get_mut(group)? = new;
            count += 1;
        }
        Some(count)
    }

    fn unchain(&mut self, group: u32, before: u32, at: u32, next: u32) {
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.next = next,
            None => {
                if let Some(first) = self.groups.get_mut(group) {
                    *first = next;
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            *node = Node { connection: None, next: self.free };
            self.free = at;
        }
    }

    /// Makes room for a group: the one asked about longest ago goes, if none of its connections is open.
    fn forget_group(&mut self, conntrack: &Conntrack) {
        let Some(oldest) = self.groups.oldest() else { return };
        let mut at = self.groups.get(oldest).copied().unwrap_or(NONE);
        while let Some(Node { connection: Some(counted), next }) = self.nodes.get(at as usize).copied() {
            if is_open(counted, conntrack) {
                return;
            }
            self.unchain(oldest, NONE, at, next);
            at = next;
        }
        self.groups.remove(oldest);
    }
}

fn is_open(id: ConnectionId, conntrack: &Conntrack) -> bool {
    let Some(connection) = conntrack.get(id) else { return false };
    !matches!(connection.tcp_state(), Some(TcpState::TimeWait | TcpState::Close))
}
