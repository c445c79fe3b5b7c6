//! Instructions to the connection tracker for connections through the load balancer.

use super::Ipvs;
use super::config::Forwarding;
use super::entry::Entry;
use super::lifetime::WHILE_CONTROLLING;
use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, Status, Tracked, Tuple};
use crate::packet::{Protocol, Side};

/// A packet of an entry is about to leave: it is no longer tracked, or its connection's replies are known by the real
/// server (`output` false) or by the virtual address (`output` true).
///
/// The reply tuple changes without the bits that say so of NAT: the tracker translates nothing.
pub(super) fn settle(entry: &Entry, output: bool, conntrack: &mut Conntrack, tracked: &mut Tracked) {
    if !entry.tracked {
        if let Some(id) = tracked.connection {
            conntrack.discard(id);
        }
        *tracked = Tracked::UNTRACKED;
        return;
    }
    let Some(id) = tracked.connection else { return };
    let unconfirmed = conntrack.get(id).is_some_and(|connection| !connection.status().has(Status::CONFIRMED));
    let may_change = unconfirmed && !tracked.is_error && tracked.direction == Direction::Original;
    if may_change && entry.forwarding == Forwarding::Masquerade {
        if entry.is_ftp && entry.protocol == Protocol::TCP && conntrack.allow_adjustment(id).is_err() {
            return;
        }
        alter_reply(entry, output, conntrack, id);
    }
}

fn alter_reply(entry: &Entry, output: bool, conntrack: &mut Conntrack, id: ConnectionId) {
    let (side, end) = if output { (Side::Destination, entry.virtual_at) } else { (Side::Source, entry.real) };
    if let Some(reply) = conntrack.get(id).map(|connection| *connection.tuple(Direction::Reply)) {
        conntrack.alter_reply(id, reply.with_end(side, end.ip(), end.port()));
    }
}

impl Ipvs {
    /// A data connection came that `ip_vs_ftp` let the tracker expect: its replies are known as the entry says.
    pub(crate) fn met_expectation(&self, now: Instant, conntrack: &mut Conntrack, id: ConnectionId) {
        let Some(original) = conntrack.get(id).map(|connection| *connection.tuple(Direction::Original)) else { return };
        let source = core::net::SocketAddr::new(original.source(), original.source_port());
        let destination = core::net::SocketAddr::new(original.destination(), original.destination_port());
        let protocol = original.protocol();
        let from_server = self.table.by_server(protocol, source, destination).map(|slot| (slot, true));
        let found = from_server.or_else(|| Some((self.table.by_client(protocol, source, destination)?, false)));
        if let Some((slot, output)) = found.filter(|(slot, _)| self.lives(now, *slot)) {
            let entry = self.table.at(slot);
            if entry.forwarding == Forwarding::Masquerade {
                alter_reply(entry, output, conntrack, id);
            }
        }
    }

    /// A new entry for a connection that a helper is to read is the helper's, and no longer `ip_vs_ftp`'s.
    pub(super) fn follow(&mut self, slot: u32, conntrack: &Conntrack, tracked: &Tracked) {
        let is_helped = || tracked.connection.and_then(|id| conntrack.get(id)).is_some_and(|c| c.has_helper());
        let entry = self.table.at_mut(slot);
        if self.follows && is_helped() {
            entry.followed = true;
            entry.tracked |= entry.forwarding == Forwarding::Masquerade;
            entry.is_ftp = false;
        }
    }

    /// Returns true if an entry's time is not over. One whose data connections the tracker knows goes on for a minute
    /// at a time.
    pub(super) fn still_lives(&mut self, now: Instant, slot: u32, conntrack: &Conntrack) -> bool {
        let entry = self.table.at(slot);
        if self.lives(now, slot) || !entry.followed {
            return self.lives(now, slot);
        }
        let tuple = Tuple::new(entry.protocol, entry.client, entry.virtual_at);
        let known = tuple.and_then(|tuple| conntrack.find(now, &tuple)).and_then(|(id, _)| conntrack.get(id));
        let has_data = known.is_some_and(|connection| connection.children() > 0);
        if has_data {
            self.table.set_deadline(slot, now + WHILE_CONTROLLING);
        }
        has_data
    }

    /// Returns true if an entry's time is not over.
    pub(super) fn lives(&self, now: Instant, slot: u32) -> bool {
        let entry = self.table.at(slot);
        !entry.deadline.has_passed(now) || entry.controlled > 0
    }
}
