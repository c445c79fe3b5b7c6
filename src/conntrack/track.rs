//! One packet: which connection it belongs to, and what it does to it.

use super::connection::{Connection, ConnectionId, Direction, ProtocolState, Status};
use super::sctp::{Chunks, SctpTracker};
use super::tcp::{CompiledTcpConfig, Kind, Renewal, SegmentContext, TcpInvalid, TcpTracker, TcpVerdict};
use super::{Conntrack, ConntrackConfig, Expectation, OnMatch, Tuple};
use crate::event::{DestroyReason, DropReason, Event};
use crate::packet::{Headers, IcmpHeader, Layer4, Protocol, Side};
use crate::{Instant, Micros};
use core::time::Duration;

/// The relation of a packet to its connection (`enum ip_conntrack_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum PacketState {
    /// No tracker can make sense of it.
    Invalid(InvalidReason),
    /// A rule said not to track it.
    Untracked,
    /// It goes the way of a connection's first packet, and nothing has come back yet.
    New,
    /// It belongs to a connection that was answered.
    Established,
    /// It begins a connection that was expected, or is an ICMP error about one.
    Related,
}

/// The reason why a packet is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The transport header is not whole, or the packet's lengths contradict each other.
    Header,
    /// The checksum is wrong.
    Checksum,
    /// A message that has no place in any connection.
    Protocol,
    /// An ICMP error about nothing that is known here, or sent to somebody else than its subject.
    IcmpError,
    /// TCP would have it otherwise.
    Tcp(TcpInvalid),
}

/// The tracker's answer to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tracked {
    /// The packet's connection.
    pub connection: Option<ConnectionId>,
    /// Which way of it.
    pub direction: Direction,
    /// Relation of the packet to the connection.
    pub state: PacketState,
    /// It is an ICMP error about the connection, or a reset that this machine sends in its name: not part of it.
    pub is_error: bool,
    /// Actions for a connection that was expected and begins with this packet.
    pub on_match: OnMatch,
}

impl Tracked {
    pub(crate) const UNTRACKED: Self = Self::without(PacketState::Untracked);
    pub(crate) const BAD_CHECKSUM: Self = Self::invalid(InvalidReason::Checksum);

    /// Returns the template of an answer that this machine sends in a connection's name: a reset, or an ICMP error.
    pub(crate) const fn answering(self) -> Self {
        Self {
            direction: self.direction.other(),
            state: PacketState::Related,
            is_error: true,
            on_match: OnMatch::Nothing,
            ..self
        }
    }

    const fn without(state: PacketState) -> Self {
        Self { connection: None, direction: Direction::Original, state, is_error: false, on_match: OnMatch::Nothing }
    }

    const fn invalid(reason: InvalidReason) -> Self {
        Self::without(PacketState::Invalid(reason))
    }
}

/// The settings that a rule gives to connections that begin with a packet (`CT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Template {
    /// The zone.
    pub zone: u16,
    /// True if these connections get the FTP helper.
    pub helper: bool,
}

impl Template {
    /// The FTP helper, in the default zone.
    pub const FTP: Self = Self { zone: 0, helper: true };
}

/// The answer of a protocol's tracker.
enum TrackVerdict {
    /// Part of the connection, which from now on lasts this long; `None`: as long as it did.
    Accept(Option<Renewal>),
    /// No part of it; the connection may have to end earlier.
    Invalid { reason: InvalidReason, shorten: Option<Micros> },
    /// The connection is over, and this packet begins another.
    Reopen,
    /// The connection is over with this packet.
    Kill,
}

/// The place in the table where a packet's tuple was found. It holds while the table does not change. The tuple itself
/// is not carried along: it takes longer to copy than to read again.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    found: Option<(u32, Direction)>,
    /// The time of what was found is over.
    is_over: bool,
    epoch: u32,
    zone: u16,
}

impl Probe {
    /// The connection that was found and whose time is not over.
    #[inline]
    fn known(&self) -> Option<(u32, Direction)> {
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
    tcp: &'c CompiledTcpConfig,
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
    const fn invalid(&mut self, reason: InvalidReason) -> Tracked {
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

    /// A packet that begins a connection, in the place of one with the same tuple that is over.
    #[inline(never)]
    fn track_new(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        template: Template,
        probe: &Probe,
    ) -> Result<Tracked, DropReason> {
        if let Some((slot, _)) = probe.found {
            self.destroy(now, slot, if probe.is_over { DestroyReason::Timeout } else { DestroyReason::Reopened });
        }
        let Some(tuple) = Tuple::of(headers, bytes).map(|tuple| tuple.in_zone(probe.zone)) else {
            return Ok(self.invalid(InvalidReason::Header));
        };
        let tuple = &tuple;
        let Some(reply) = tuple.reversed() else { return Ok(self.invalid(InvalidReason::Protocol)) };
        let protocol = match begin(&self.tcp, now, bytes, headers) {
            Ok(protocol) => protocol,
            Err(reason) => {
                self.consume_expectation(now, tuple);
                return Ok(self.invalid(reason));
            }
        };
        // The verdict will set it.
        let deadline = Instant::NEVER;
        let slot = match self.table.create(*tuple, reply, protocol, deadline) {
            Some(slot) => slot,
            None => {
                self.make_room(now, tuple)?;
                self.table.create(*tuple, reply, protocol, deadline).ok_or(DropReason::TableFull)?
            }
        };
        let expectation = self.consume_expectation(now, tuple);
        if expectation.is_none()
            && template.helper
            && headers.protocol == Protocol::TCP
            && let Err(reason) = self.attach_helper_slot(slot)
        {
            self.release(slot);
            return Err(reason);
        }
        let connection = self.table.at_mut(slot);
        match judge_first((&self.config, &self.tcp), connection, now, bytes, headers) {
            TrackVerdict::Accept(renewal) => {
                connection.count(Direction::Original, headers);
                if let Some(renewal) = renewal {
                    self.table.set_deadline(slot, now + renewal.timeout);
                }
            }
            TrackVerdict::Invalid { reason, .. } => {
                self.release(slot);
                return Ok(self.invalid(reason));
            }
            TrackVerdict::Reopen | TrackVerdict::Kill => {
                self.release(slot);
                return Ok(self.invalid(InvalidReason::Protocol));
            }
        }
        let id = self.table.id(slot);
        self.statistics.expect_new += u64::from(expectation.is_some());
        let mut tracked = Tracked {
            connection: Some(id),
            direction: Direction::Original,
            state: PacketState::New,
            is_error: false,
            on_match: OnMatch::Nothing,
        };
        if let Some(expectation) = expectation {
            let (mark, helper) = self.get(expectation.master).map_or((0, false), |master| (master.mark, master.helper));
            let child = self.table.at_mut(slot);
            child.master_had_helper = helper;
            child.master = Some(expectation.master);
            child.mark = mark;
            child.status.set(Status::EXPECTED);
            if let Some(master) = self.get_mut(expectation.master) {
                master.children = master.children.saturating_add(1);
            }
            tracked.state = PacketState::Related;
            tracked.on_match = expectation.on_match;
            let event = Event::Fulfilled { connection: id, master: expectation.master, expected: expectation.tuple };
            self.events.push(now, event);
        }
        Ok(tracked)
    }

    /// The expectation that a connection with this tuple meets; it is met once, but for a range.
    fn consume_expectation(&mut self, now: Instant, tuple: &Tuple) -> Option<Expectation> {
        if self.expectations.len() == 0 {
            return None;
        }
        let slot = self.pending(now, tuple)?;
        let met = *self.expectations.at(slot)?;
        if met.last_port.is_some() {
            self.expectations.renew(slot, now + super::RANGE_TIMEOUT);
            let port = tuple.destination_port();
            return Some(Expectation { tuple: met.tuple.with_port(Side::Destination, port), ..met });
        }
        self.unexpect_slot(now, slot, None)
    }

    /// Forgets connections whose time is over; or else gives up those that are not assured, in the first of eight
    /// buckets that has any, as Linux does.
    pub(super) fn make_room(&mut self, now: Instant, tuple: &Tuple) -> Result<(), DropReason> {
        if let Some(slot) = self.table.next_expired(now) {
            self.destroy(now, slot, DestroyReason::Timeout);
            return Ok(());
        }
        let mut distances = 0..EARLY_DROP_BUCKETS;
        let distance = distances.find(|distance| self.expendable(now, tuple, *distance).is_some());
        let Some(distance) = distance else {
            self.statistics.drop += 1;
            return Err(DropReason::TableFull);
        };
        while let Some(slot) = self.expendable(now, tuple, distance) {
            self.statistics.early_drop += 1;
            self.destroy(now, slot, DestroyReason::Evicted);
        }
        Ok(())
    }

    /// A connection in a bucket that may be given up.
    fn expendable(&self, now: Instant, tuple: &Tuple, distance: usize) -> Option<u32> {
        self.table.near(tuple, distance).find(|slot| {
            let connection = self.table.at(*slot);
            !connection.status.has(Status::ASSURED) || connection.expired(now)
        })
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

impl Status {
    /// Returns the state of a packet of a connection with this status.
    #[inline]
    const fn of_packet(self, direction: Direction) -> PacketState {
        if matches!(direction, Direction::Reply) || self.has(Self::SEEN_REPLY) {
            PacketState::Established
        } else if self.has(Self::EXPECTED) {
            PacketState::Related
        } else {
            PacketState::New
        }
    }
}

impl Connection {
    /// Lets a segment of an open connection that was answered pass, and counts it; true when the connection is to be
    /// [scheduled](super::table::Table::schedule) anew. `None` when it is no such segment, or more is to be said about it:
    /// nothing was changed.
    #[inline(always)]
    fn accept_established(
        &mut self,
        tcp: &CompiledTcpConfig,
        now: Instant,
        direction: Direction,
        bytes: &[u8],
        headers: &Headers,
        shift: i32,
    ) -> Option<bool> {
        let status = self.status;
        let ProtocolState::Tcp(tracker) = &mut self.protocol else { return None };
        if !status.has(Status::SEEN_REPLY) {
            return None;
        }
        let renewal =
            tracker.accept_established(tcp, segment_context(headers, bytes, direction, status, shift).ok()?)?;
        Some(self.counts(now, direction, headers, renewal))
    }

    /// A packet counts. True when the connection is to be [scheduled](super::table::Table::schedule) anew.
    #[inline(always)]
    fn counts(&mut self, now: Instant, direction: Direction, headers: &Headers, renewal: Renewal) -> bool {
        if renewal.assured {
            self.status.set(Status::ASSURED);
        }
        self.count(direction, headers);
        !self.status.has(Status::FIXED_TIMEOUT) && self.last_until(now + renewal.timeout)
    }

    #[inline]
    fn count(&mut self, direction: Direction, headers: &Headers) {
        let counters = &mut self.counters[direction as usize];
        counters.packets += 1;
        counters.bytes += headers.end as u64;
    }
}

/// Number of buckets searched for connections to give up when the table is full (Linux, `early_drop`).
const EARLY_DROP_BUCKETS: usize = 8;
/// Type, code, checksum and the word behind them.
pub(crate) const ICMP_HEADER: usize = 8;
/// After this time in both directions UDP is a stream (Linux, `udp_packet`).
const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);

/// Neighbour discovery and multicast listeners: never tracked.
const fn is_neighbour_discovery(icmp: IcmpHeader) -> bool {
    matches!(icmp.kind, 130..=137 | 143)
}

/// Returns the protocol's state for a connection that begins with this packet.
pub(super) fn begin(
    tcp: &CompiledTcpConfig,
    now: Instant,
    bytes: &[u8],
    headers: &Headers,
) -> Result<ProtocolState, InvalidReason> {
    match headers.layer4 {
        Layer4::Tcp(_) => {
            let context = segment_context(headers, bytes, Direction::Original, Status::default(), 0)?;
            TcpTracker::open(tcp, context).map(ProtocolState::Tcp).map_err(InvalidReason::Tcp)
        }
        Layer4::Udp if headers.protocol == Protocol::UDPLITE => Ok(ProtocolState::UdpLite),
        Layer4::Udp => Ok(ProtocolState::Udp { stream_from: now + UDP_STREAM_AFTER }),
        Layer4::Icmp(icmp) => {
            let asks = match headers.protocol {
                Protocol::ICMP => matches!(icmp.kind, 8 | 13 | 15 | 17),
                _ => matches!(icmp.kind, 128 | 139),
            };
            if asks { Ok(ProtocolState::Icmp) } else { Err(InvalidReason::Protocol) }
        }
        Layer4::Sctp => {
            let chunks = Chunks::of(headers, bytes).ok_or(InvalidReason::Header)?;
            SctpTracker::open(&chunks).map(ProtocolState::Sctp).ok_or(InvalidReason::Protocol)
        }
        Layer4::Gre(_) => Ok(ProtocolState::Gre),
        Layer4::Other => Ok(ProtocolState::Generic),
        Layer4::Unreadable => Err(InvalidReason::Header),
    }
}

/// Lets the protocol's tracker judge the first packet of a connection.
#[inline(never)]
fn judge_first(
    (config, tcp): (&ConntrackConfig, &CompiledTcpConfig),
    connection: &mut Connection,
    now: Instant,
    bytes: &[u8],
    headers: &Headers,
) -> TrackVerdict {
    judge((config, tcp), connection, now, Direction::Original, bytes, headers, 0)
}

/// Lets the protocol's tracker judge a packet.
fn judge(
    (config, tcp): (&ConntrackConfig, &CompiledTcpConfig),
    connection: &mut Connection,
    now: Instant,
    direction: Direction,
    bytes: &[u8],
    headers: &Headers,
    shift: i32,
) -> TrackVerdict {
    let status = connection.status;
    let ProtocolState::Tcp(tracker) = &mut connection.protocol else {
        return judge_other(config, connection, now, direction, bytes, headers);
    };
    let context = match segment_context(headers, bytes, direction, status, shift) {
        Ok(context) => context,
        Err(reason) => return TrackVerdict::Invalid { reason, shorten: None },
    };
    match tracker.track(tcp, context) {
        TcpVerdict::Accept(renewal) => TrackVerdict::Accept(renewal),
        TcpVerdict::Invalid { why, shorten } => TrackVerdict::Invalid { reason: InvalidReason::Tcp(why), shorten },
        TcpVerdict::Reopen => TrackVerdict::Reopen,
        TcpVerdict::Kill => TrackVerdict::Kill,
    }
}

/// Judges a packet of another protocol than TCP.
#[inline(never)]
fn judge_other(
    config: &ConntrackConfig,
    connection: &mut Connection,
    now: Instant,
    direction: Direction,
    bytes: &[u8],
    headers: &Headers,
) -> TrackVerdict {
    let status = connection.status;
    match &mut connection.protocol {
        ProtocolState::Udp { stream_from } => {
            if !udp_length_fits(headers, bytes) {
                return TrackVerdict::Invalid { reason: InvalidReason::Header, shorten: None };
            }
            let stream = status.has(Status::SEEN_REPLY) && now > *stream_from;
            let timeout = if stream { config.udp_stream } else { config.udp };
            TrackVerdict::Accept(Some(Renewal { timeout: timeout.into(), assured: stream }))
        }
        ProtocolState::UdpLite if !udp_lite_is_sound(headers, bytes) => {
            TrackVerdict::Invalid { reason: InvalidReason::Header, shorten: None }
        }
        ProtocolState::UdpLite => answered_or_not(status, config.udp, config.udp_stream),
        ProtocolState::Gre => answered_or_not(status, config.gre, config.gre_stream),
        ProtocolState::Sctp(tracker) => {
            judge_sctp((tracker, &mut connection.status), config, direction, bytes, headers)
        }
        ProtocolState::Icmp => {
            let timeout = if headers.protocol == Protocol::ICMP { config.icmp } else { config.icmpv6 };
            TrackVerdict::Accept(Some(Renewal { timeout: timeout.into(), assured: false }))
        }
        ProtocolState::Tcp(_) | ProtocolState::Generic => {
            TrackVerdict::Accept(Some(Renewal { timeout: config.generic.into(), assured: false }))
        }
    }
}

/// Treats the connection as a stream as soon as it was answered.
fn answered_or_not(status: Status, timeout: Duration, stream: Duration) -> TrackVerdict {
    let is_stream = status.has(Status::SEEN_REPLY);
    let timeout = if is_stream { stream } else { timeout };
    TrackVerdict::Accept(Some(Renewal { timeout: timeout.into(), assured: is_stream }))
}

#[inline(never)]
fn judge_sctp(
    (tracker, status): (&mut SctpTracker, &mut Status),
    config: &ConntrackConfig,
    direction: Direction,
    bytes: &[u8],
    headers: &Headers,
) -> TrackVerdict {
    let invalid = |reason| TrackVerdict::Invalid { reason, shorten: None };
    let Some(chunks) = Chunks::of(headers, bytes) else { return invalid(InvalidReason::Header) };
    match tracker.track(&config.sctp, direction, &chunks, || status.set(Status::ASSURED)) {
        Ok(timeout) => TrackVerdict::Accept(timeout.map(|timeout| Renewal { timeout: timeout.into(), assured: false })),
        Err(_) => invalid(InvalidReason::Protocol),
    }
}

/// A TCP segment as the tracker wants it.
#[inline]
pub(super) fn segment_context<'p>(
    headers: &'p Headers,
    bytes: &'p [u8],
    direction: Direction,
    status: Status,
    shift: i32,
) -> Result<SegmentContext<'p>, InvalidReason> {
    let Layer4::Tcp(segment) = &headers.layer4 else { return Err(InvalidReason::Header) };
    let kind = Kind::of(segment.flags).ok_or(InvalidReason::Tcp(TcpInvalid::Flags))?;
    Ok(SegmentContext { segment, kind, headers, bytes, direction, status, shift })
}

/// Returns true if a UDP packet's own length lies between its header's and the packet's.
fn udp_length_fits(headers: &Headers, bytes: &[u8]) -> bool {
    let length = crate::packet::read_array(bytes, headers.transport + 4).map(u16::from_be_bytes);
    length.is_some_and(|len| len >= 8 && usize::from(len) <= headers.end.saturating_sub(headers.transport))
}

/// Returns true if a UDP-Lite packet has a checksum that covers the header and no more than there is (RFC 3828 section
/// 3.1).
fn udp_lite_is_sound(headers: &Headers, bytes: &[u8]) -> bool {
    let Some([c, d, s, t]) = crate::packet::read_array(bytes, headers.transport + 4) else { return false };
    let (coverage, length) = (usize::from(u16::from_be_bytes([c, d])), headers.end.saturating_sub(headers.transport));
    [s, t] != [0, 0] && (coverage == 0 || (8..=length).contains(&coverage))
}
