//! One packet: which connection it belongs to, and what it does to it.

use super::connection::{Direction, Status};
use super::judge::{TrackVerdict, judge};
use super::probe::Probe;
use super::tracked::{InvalidReason, PacketState, Template, Tracked};
use super::{Conntrack, OnMatch, Tuple};
use crate::Instant;
use crate::event::DropReason;
use crate::packet::{Headers, IcmpHeader, Layer4, Protocol};

impl Conntrack {
    /// Finds the connection a packet belongs to, or begins one, and lets the packet change its state.
    ///
    /// A connection that begins is not in the table until [`Conntrack::confirm`]; if the packet does not leave,
    /// [`Conntrack::discard`] gives it up. One that is forgotten in between ends with its time.
    ///
    /// # Errors
    /// When there is no room for another connection: the packet is to be dropped.
    pub fn track(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        template: Template,
    ) -> Result<Tracked, DropReason> {
        let probe = self.probe(now, bytes, headers, template.zone);
        let mut tracked = Tracked::UNTRACKED;
        self.track_probed(now, bytes, headers, template, probe.as_ref(), &mut tracked)?;
        Ok(tracked)
    }

    /// As [`Conntrack::track`], for a packet whose tuple was looked up already; `tracked` is what it is made of it.
    #[inline(always)]
    pub(crate) fn track_probed(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        template: Template,
        probe: Option<&Probe>,
        tracked: &mut Tracked,
    ) -> Result<(), DropReason> {
        if let Layer4::Icmp(icmp) = headers.layer4
            && let Some(message) = self.track_message(now, bytes, headers, icmp, template.zone)
        {
            *tracked = message;
            return Ok(());
        }
        let Some(probe) = probe else {
            *tracked = self.invalid(InvalidReason::Header);
            return Ok(());
        };
        debug_assert_eq!(probe.epoch, self.table.epoch(), "the table changed since");
        if let Some((slot, direction)) = probe.known()
            && let Some(state) = self.track_known(now, slot, direction, bytes, headers)
        {
            *tracked = match state {
                PacketState::Invalid(_) => Tracked::without(state),
                _ => Tracked { connection: Some(self.table.id(slot)), direction, ..Tracked::without(state) },
            };
            return Ok(());
        }
        *tracked = self.track_new(now, bytes, headers, template, probe)?;
        Ok(())
    }

    /// A packet whose checksum is wrong: it belongs to no connection, but uses up the expectation of the one that it would
    /// have begun (seen on 6.18).
    #[inline(never)]
    pub(crate) fn track_bad_checksum(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        probe: Option<&Probe>,
    ) -> Tracked {
        if let Some(probe) = probe
            && probe.finds_nobody()
            && let Some(tuple) = Tuple::of(headers, bytes)
        {
            self.consume_expectation(now, &tuple.in_zone(probe.zone));
        }
        Tracked::BAD_CHECKSUM
    }

    /// ICMP messages that begin no connection: errors, and what is never tracked.
    #[inline(never)]
    fn track_message(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        icmp: IcmpHeader,
        zone: u16,
    ) -> Option<Tracked> {
        if headers.is_icmp_error() {
            return Some(self.track_error(now, bytes, headers, zone));
        }
        (headers.protocol == Protocol::ICMPV6 && is_neighbour_discovery(icmp)).then_some(Tracked::UNTRACKED)
    }

    /// A packet that is invalid, and counted.
    pub(super) const fn invalid(&mut self, reason: InvalidReason) -> Tracked {
        self.statistics.invalid += 1;
        Tracked::without(PacketState::Invalid(reason))
    }

    /// The state of a packet of a connection that is there; `None` when it begins another with the same tuple.
    #[inline(never)]
    fn track_known(
        &mut self,
        now: Instant,
        slot: u32,
        direction: Direction,
        bytes: &[u8],
        headers: &Headers,
    ) -> Option<PacketState> {
        let shift = self.acknowledged_shift(slot, direction, headers);
        match self.table.at_mut(slot).accept_established(&self.tcp, now, direction, bytes, headers, shift) {
            Some(is_early) => {
                if is_early {
                    self.table.schedule(slot);
                }
                Some(PacketState::Established)
            }
            None => self.track_judged(now, slot, direction, bytes, headers, shift),
        }
    }

    /// The same of a packet on which there is more to be said than that it counts.
    #[inline(never)]
    fn track_judged(
        &mut self,
        now: Instant,
        slot: u32,
        direction: Direction,
        bytes: &[u8],
        headers: &Headers,
        shift: i32,
    ) -> Option<PacketState> {
        let connection = self.table.at_mut(slot);
        let state = connection.status.of_packet(direction);
        let verdict = judge((&self.config, &self.tcp), connection, now, direction, bytes, headers, shift);
        if direction == Direction::Reply && matches!(verdict, TrackVerdict::Accept(_)) {
            connection.status.set(Status::SEEN_REPLY);
        }
        match verdict {
            TrackVerdict::Accept(None) => {}
            TrackVerdict::Accept(Some(renewal)) => {
                if connection.counts(now, direction, headers, renewal) {
                    self.table.schedule(slot);
                }
            }
            TrackVerdict::Invalid { reason, shorten } => {
                if let Some(timeout) = shorten
                    && connection.outlives(now + timeout)
                {
                    self.table.set_deadline(slot, now + timeout);
                }
                return Some(self.invalid(reason).state);
            }
            TrackVerdict::Reopen => return None,
            TrackVerdict::Kill => {
                // It is no longer found, but this packet still goes its way.
                connection.count(direction, headers);
                connection.status.set(Status::DYING);
                self.table.set_deadline(slot, now);
            }
        }
        Some(state)
    }

    /// An ICMP error: it belongs to the connection of the packet it quotes.
    ///
    /// Worked example. A client 10.77.1.2 is masqueraded as 203.0.113.1 towards 198.51.100.9: original tuple
    /// 10.77.1.2 > 198.51.100.9, reply tuple 198.51.100.9 > 203.0.113.1. A router 192.0.2.33 on the way answers the
    /// client's packet with an error to 203.0.113.1 that quotes 203.0.113.1 > 198.51.100.9. The quoted tuple reversed,
    /// 198.51.100.9 > 203.0.113.1, is found in reply direction: that is the error's direction too. And the error goes
    /// to where packets of that direction go, 203.0.113.1, or it is none of this connection's business.
    #[inline(never)]
    fn track_error(&mut self, now: Instant, bytes: &[u8], headers: &Headers, zone: u16) -> Tracked {
        let quoted = bytes.get(headers.transport + ICMP_HEADER..headers.end).unwrap_or_default();
        let reversed = Headers::find_quoted(quoted, headers.family)
            .ok()
            .and_then(|inner| Tuple::of(&inner, quoted)?.in_zone(zone).reversed());
        let found = reversed.and_then(|tuple| self.table.find(&tuple));
        let Some((slot, direction)) = found.filter(|(slot, _)| !self.table.at(*slot).expired(now)) else {
            self.statistics.icmp_error += 1;
            return self.invalid(InvalidReason::IcmpError);
        };
        if self.table.at(slot).tuple(direction).destination() != headers.destination(bytes) {
            self.statistics.icmp_error += 1;
            return self.invalid(InvalidReason::IcmpError);
        }
        Tracked {
            connection: Some(self.table.id(slot)),
            direction,
            state: PacketState::Related,
            is_error: true,
            on_match: OnMatch::Nothing,
        }
    }

    /// By how much the other side's stream has shifted at what a segment acknowledges: window tracking works in each
    /// sender's own numbers.
    #[inline]
    fn acknowledged_shift(&self, slot: u32, direction: Direction, headers: &Headers) -> i32 {
        let connection = self.table.at(slot);
        if !connection.status.has(Status::SEQ_ADJUST) {
            return 0;
        }
        let (Some(helped), Layer4::Tcp(segment)) = (connection.helper_slot, headers.layer4) else { return 0 };
        let adjustment = self.adjustment(helped);
        adjustment.map_or(0, |a| a.window_shift(direction.other() as usize, segment.acknowledgement))
    }
}

/// Type, code, checksum and the word behind them.
pub(crate) const ICMP_HEADER: usize = 8;

/// Neighbour discovery and multicast listeners: never tracked.
const fn is_neighbour_discovery(icmp: IcmpHeader) -> bool {
    matches!(icmp.kind, 130..=137 | 143)
}
