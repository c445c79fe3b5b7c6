//! Looks a packet's connection up without changing anything.

use super::connection::{Connection, ConnectionId, Direction, Status};
use super::tcp::CompiledTcpConfig;
use super::{Conntrack, Tuple};
use crate::Instant;
use crate::packet::Headers;

/// The place in the table where a packet's tuple was found. It holds while the table does not change. The tuple itself
/// is not carried along: it takes longer to copy than to read again.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    pub(super) found: Option<(u32, Direction)>,
    /// The time of what was found is over.
    pub(super) is_over: bool,
    pub(super) epoch: u32,
    pub(super) zone: u16,
}

impl Probe {
    /// The connection that was found and whose time is not over.
    #[inline]
    pub(super) fn known(&self) -> Option<(u32, Direction)> {
        self.found.filter(|_| !self.is_over)
    }

    /// Returns true if the packet belongs to no living connection.
    #[inline]
    pub(crate) const fn finds_nobody(&self) -> bool {
        self.is_over || self.found.is_none()
    }
}

/// A connection that a packet belongs to.
pub(crate) struct Known<'c> {
    pub(crate) id: ConnectionId,
    pub(crate) connection: &'c mut Connection,
    pub(crate) direction: Direction,
    pub(super) tcp: &'c CompiledTcpConfig,
}

impl Known<'_> {
    /// Lets the packet pass and counts it, if it is a segment of an open connection that was answered; true when the
    /// connection is to be [scheduled](Conntrack::schedule) anew. `None` when more is to be said: nothing was changed, and
    /// the packet is to be [tracked](Conntrack::track_probed).
    #[inline(always)]
    pub(crate) fn accept_established(&mut self, now: Instant, bytes: &[u8], headers: &Headers) -> Option<bool> {
        self.connection.accept_established(self.tcp, now, self.direction, bytes, headers, 0)
    }
}

impl Conntrack {
    /// Looks a packet's tuple up and changes nothing. `None` when it has no tuple.
    #[inline(always)]
    pub(crate) fn probe(&self, now: Instant, bytes: &[u8], headers: &Headers, zone: u16) -> Option<Probe> {
        let tuple = Tuple::of(headers, bytes)?.in_zone(zone);
        let found = self.table.find(&tuple);
        let is_over = found.is_some_and(|(slot, _)| self.table.at(slot).expired(now));
        Some(Probe { found, is_over, epoch: self.table.epoch(), zone })
    }

    /// The connection a probe found.
    #[inline]
    pub(crate) fn probed(&self, probe: &Probe) -> Option<&Connection> {
        debug_assert_eq!(probe.epoch, self.table.epoch(), "the table changed since");
        probe.found.map(|(slot, _)| self.table.at(slot))
    }

    /// The connection that a probe found, if its time is not over and its numbers are not adjusted.
    #[inline(always)]
    pub(crate) fn known(&mut self, probe: &Probe) -> Option<Known<'_>> {
        let (slot, direction) = probe.known()?;
        let id = self.table.id(slot);
        let connection = self.table.at_mut(slot);
        let is_adjusted = connection.status.has(Status::SEQ_ADJUST);
        (!is_adjusted).then_some(Known { id, connection, direction, tcp: &self.tcp })
    }

    /// Lets the wheel look earlier at a connection whose time has become shorter.
    pub(crate) fn schedule(&mut self, probe: &Probe) {
        if let Some((slot, _)) = probe.known() {
            self.table.schedule(slot);
        }
    }
}
