//! Carries FTP's decision out on a tracked connection: finds a port, registers the expectation, replaces the text
//! (`nf_conntrack_ftp`, `nf_nat_ftp`).
//!
//! The decision itself, what a line announces and what that means, is [`crate::ftp`]'s.
//!
//! ```
//! use ftp_conntrack::helper::{FtpHelper, HelperConfig};
//!
//! // Room for the 4096 helped connections that a tracker has by default.
//! let helper = FtpHelper::new(HelperConfig::default(), 4096);
//! assert!(!helper.config().loose);
//! ```
//!
//! [`crate::router::Router`] calls [`FtpHelper::process`] for each packet that is about to leave; who routes
//! otherwise does the same after translation and before sequence adjustment.
//!
#![doc = include_str!("peers.md")]
#![doc = include_str!("servers.md")]

mod exact;

pub(crate) use exact::{ExactContext, SegmentSink};
pub use exact::{Intervention, Policy, PolicyError, PolicySetting, RefusalReason};

use alloc::boxed::Box;
use alloc::vec;
use core::net::SocketAddr;
use core::ops::RangeInclusive;

use crate::conntrack::{
    Connection, ConnectionId, Conntrack, Direction, ExpectError, ExpectPolicy, ExpectationId, HelperSlot, OnMatch,
    PacketState, Tracked, Tuple,
};
use crate::event::{AnnouncementOutcome, DropReason, Event};
use crate::ftp::{self, Announcement, Decision, Endpoints, Expect, LineStarts, PassReason, Reading, Sender, Text};
use crate::nat::Nat;
use crate::packet::{Headers, Layer4, Packet, Protocol, Segment, Side};
use crate::{Behaviour, Instant, SequenceNumber};
use exact::Exact;

/// Which parts of the helper are there, and their options.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HelperConfig {
    /// True if the helper is there (`nf_conntrack_ftp` is loaded); without it no connection gets it.
    pub enabled: bool,
    /// True if it rewrites text (`nf_nat_ftp` is loaded).
    pub rewrites: bool,
    /// True if an announced address may be another than the sender's (`loose=1`).
    pub loose: bool,
    /// Whom it behaves like.
    pub behaviour: Behaviour,
    /// Policy for announcements, under [`Behaviour::Exact`].
    pub policy: Policy,
    /// Maximum number of streams that hold an unfinished line or early segments at once, 8 KiB each, under
    /// [`Behaviour::Exact`]. Beyond it, the client that has most gives up its oldest: an unfinished line then does not
    /// leave.
    pub hold_buffers: usize,
}

impl Default for HelperConfig {
    /// All there, not loose, as Linux does it.
    fn default() -> Self {
        Self {
            enabled: true,
            rewrites: true,
            loose: false,
            behaviour: Behaviour::Linux,
            policy: Policy::default(),
            hold_buffers: 128,
        }
    }
}

impl HelperConfig {
    /// The same, there or not.
    #[must_use]
    pub fn enabled(self, enabled: bool) -> Self {
        Self { enabled, ..self }
    }

    /// The same, rewriting or not.
    #[must_use]
    pub fn rewriting(self, rewrites: bool) -> Self {
        Self { rewrites, ..self }
    }

    /// The same, loose or not.
    #[must_use]
    pub fn loose(self, loose: bool) -> Self {
        Self { loose, ..self }
    }

    /// Returns the configuration with this policy.
    #[must_use]
    pub fn under(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same, behaving like this.
    #[must_use]
    pub fn behaving(self, behaviour: Behaviour) -> Self {
        Self { behaviour, ..self }
    }
}

/// The FTP helper: where lines begin on each helped connection, in memory taken when it is made.
#[derive(Debug)]
pub struct FtpHelper {
    config: HelperConfig,
    states: Box<[Option<State>]>,
    exact: Option<Box<Exact>>,
}

/// The state that is kept of one control connection.
#[derive(Clone, Copy, Debug)]
struct State {
    connection: ConnectionId,
    line_starts: LineStarts,
}

/// Maximum number of other ports to try when the announced one is expected already (Linux, `nf_nat_exp_find_port`).
const MAX_PORT_ATTEMPTS: u32 = 128;

impl FtpHelper {
    /// A helper for at most `helped` connections: [`crate::conntrack::Limits::helped`].
    pub fn new(config: HelperConfig, helped: u32) -> Self {
        let exact = match config.behaviour {
            Behaviour::Linux => None,
            Behaviour::Exact => {
                Some(Box::new(Exact::new(config.policy.clone(), config.loose, helped, config.hold_buffers)))
            }
        };
        Self { config, states: vec![None; helped as usize].into(), exact }
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &HelperConfig {
        &self.config
    }

    /// Returns the tail room still missing for a packet of this connection that may grow; `None` if there is enough.
    #[inline(always)]
    pub(crate) fn room_for(connection: &Connection, headers: &Headers, packet: &Packet<'_>) -> Result<(), usize> {
        if !connection.has_helper() {
            return Ok(());
        }
        let padding = packet.bytes().len().saturating_sub(headers.end);
        let is_short = packet.tail_room() + padding < ftp::MAX_TEXT;
        let has_text = || matches!(headers.layer4, Layer4::Tcp(segment) if segment.payload < headers.end);
        let may_grow = is_short && has_text() && connection.is_altered();
        if may_grow { Err(ftp::MAX_TEXT - padding.min(ftp::MAX_TEXT)) } else { Ok(()) }
    }

    /// Reads a packet of a helped connection that is about to leave, already translated but with its own sequence
    /// numbers, and does what the line in it asks for. True when its text was rewritten. There must be [`ftp::MAX_TEXT`]
    /// bytes of room behind it.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    #[inline]
    pub fn process(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        tracked: &Tracked,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) -> Result<bool, DropReason> {
        match self.line_segment(conntrack, tracked, packet, headers) {
            Some(line_segment) => self.hear(line_segment, now, conntrack, nat, packet, headers),
            None => Ok(false),
        }
    }

    /// Handles a segment in which a line begins or ends.
    #[inline]
    fn line_segment(
        &self,
        conntrack: &Conntrack,
        tracked: &Tracked,
        packet: &Packet<'_>,
        headers: &Headers,
    ) -> Option<LineSegment> {
        let (Some(id), PacketState::Established, false) = (tracked.connection, tracked.state, tracked.is_error) else {
            return None;
        };
        let Layer4::Tcp(segment) = headers.layer4 else { return None };
        let connection = conntrack.get(id).filter(|c| c.has_helper())?;
        let helped = connection.helper_slot()?;
        let lines = self.lines(id, connection, tracked.direction, packet.bytes(), headers)?;
        Some(LineSegment { id, helped, direction: tracked.direction, segment, lines })
    }

    /// Returns the places where a line begins or ends in a packet of a helped connection that was answered; `None` when
    /// neither does.
    #[inline(always)]
    pub(crate) fn lines(
        &self,
        id: ConnectionId,
        connection: &Connection,
        direction: Direction,
        bytes: &[u8],
        headers: &Headers,
    ) -> Option<Lines> {
        let Layer4::Tcp(segment) = &headers.layer4 else { return None };
        let ends = *headers.payload(bytes).last()? == b'\n';
        let state = self.states.get(connection.helper_slot()?.index())?.as_ref().filter(|state| state.connection == id);
        let sender = Sender::from(direction);
        let begins = state.is_some_and(|state| state.line_starts.begins_line(sender, segment.sequence));
        (begins || ends).then_some(Lines { begins, ends })
    }

    /// Reads a packet in which a line begins or ends.
    #[inline(never)]
    fn hear(
        &mut self,
        line_segment: LineSegment,
        now: Instant,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) -> Result<bool, DropReason> {
        let LineSegment { id, helped, direction, segment, lines } = line_segment;
        let sender = Sender::from(direction);
        let Some(connection) = conntrack.get(id) else { return Ok(false) };
        let payload = headers.payload(packet.bytes());
        let next = segment.sequence + payload.len() as u32;
        let zone = connection.tuple(Direction::Original).zone();
        let mut result = Ok(false);
        if lines.begins {
            let ends = endpoints(connection);
            let reading = ftp::read_segment(sender, ends.own(sender), payload);
            match ftp::decide(reading, sender, &ends, self.config.loose) {
                Decision::Drop(form) => {
                    conntrack.events.push(now, Event::PartialAnnouncement { connection: id, sender, form });
                    return Err(DropReason::PartialAnnouncement);
                }
                Decision::Pass(PassReason::ForeignAddress(_)) => {
                    if let Reading::Announcement(announcement) = reading {
                        let event = announced(id, sender, &announcement, AnnouncementOutcome::ForeignAddress);
                        conntrack.events.push(now, event);
                    }
                }
                Decision::Expect(expect) => {
                    let rewrites = self.config.rewrites;
                    let policy = ExpectPolicy::FTP;
                    let job = Job { now, id, direction, sender, rewrites, zone, policy };
                    result = job.carry_out(conntrack, nat, &expect, segment.sequence, packet, headers);
                }
                _ => {}
            }
        }
        if lines.ends
            && let Some(state) = self.state(id, helped)
        {
            state.line_starts.note(sender, next);
        }
        result
    }

    /// Returns true if packets are handed to [`pass_exactly`](Self::pass_exactly) instead of
    /// [`process`](Self::process).
    #[inline]
    pub(crate) const fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    /// Reads a packet of a helped connection that is about to leave, already translated, and adjusts its numbers, under
    /// [`Behaviour::Exact`].
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(crate) fn pass_exactly(
        &mut self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        context: &mut ExactContext<'_, '_>,
    ) -> Result<(), DropReason> {
        let rewrites = self.config.rewrites;
        self.exact.as_mut().map_or(Ok(()), |exact| exact.process(conntrack, nat, rewrites, context))
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, under [`Behaviour::Exact`].
    pub(crate) fn poll_at(&self) -> Option<Instant> {
        self.exact.as_ref().and_then(|exact| exact.poll_at())
    }

    /// Sends again what was held back, then sent, and did not arrive, under [`Behaviour::Exact`].
    pub(crate) fn handle_timeout(&mut self, now: Instant, conntrack: &mut Conntrack, sink: &mut dyn SegmentSink) {
        if let Some(exact) = &mut self.exact {
            exact.handle_timeout(now, conntrack, sink);
        }
    }

    /// The sequence number in a packet that an ICMP error quotes, as its sender knows it, under [`Behaviour::Exact`].
    /// The quoted packet went in `direction`.
    pub(crate) fn quoted(&self, slot: HelperSlot, direction: Direction, number: SequenceNumber) -> SequenceNumber {
        self.exact.as_ref().map_or(number, |exact| exact.quoted(slot, direction, number))
    }

    /// The state of a connection; a fresh one where the slot was another's.
    fn state(&mut self, id: ConnectionId, helped: HelperSlot) -> Option<&mut State> {
        let state = self.states.get_mut(helped.index())?;
        if state.is_none_or(|s| s.connection != id) {
            *state = Some(State { connection: id, line_starts: LineStarts::default() });
        }
        state.as_mut()
    }
}

/// A packet of a control connection in which a line begins or ends.
struct LineSegment {
    id: ConnectionId,
    helped: HelperSlot,
    direction: Direction,
    segment: Segment,
    lines: Lines,
}

/// Which of both is true of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    /// A line begins with its first byte.
    begins: bool,
    /// A line ends with its last.
    ends: bool,
}

/// One announcement on its way.
struct Job {
    now: Instant,
    id: ConnectionId,
    direction: Direction,
    sender: Sender,
    rewrites: bool,
    zone: u16,
    policy: ExpectPolicy,
}

impl Job {
    /// Registers what is expected and, if the control connection is translated, rewrites the text.
    fn carry_out(
        &self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        expect: &Expect,
        sequence: SequenceNumber,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) -> Result<bool, DropReason> {
        let translated = self.rewrites && conntrack.get(self.id).is_some_and(Connection::is_translated);
        let announcement = expect.announcement;
        let before = Text::copy_of(headers.payload(packet.bytes()).get(announcement.range()).unwrap_or_default());
        let done = if translated {
            self.rewrite(conntrack, nat, expect, sequence, packet, headers).map(|(tuple, text)| (tuple, Some(text)))
        } else {
            let tuple = self.expected_tuple(expect, expect.destination.port());
            let registered = tuple.map(|t| self.register(conntrack, t, OnMatch::Nothing));
            match (tuple, registered) {
                (Some(tuple), Some(Ok(_))) => Ok((tuple, None)),
                _ => Err(DropReason::ExpectationRefused),
            }
        };
        let outcome = match &done {
            Ok((expected, after)) => AnnouncementOutcome::Expected { expected: *expected, before, after: *after },
            Err(reason) => AnnouncementOutcome::Refused(*reason),
        };
        conntrack.events.push(self.now, announced(self.id, self.sender, &announcement, outcome));
        done.map(|(_, after)| after.is_some())
    }

    /// Finds a port that nobody else expects, registers it, and writes it into the text.
    fn rewrite(
        &self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        expect: &Expect,
        sequence: SequenceNumber,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) -> Result<(Tuple, Text), DropReason> {
        let (tuple, id) = self.find_port(conntrack, nat, expect)?;
        let announcement = expect.announcement;
        let text = ftp::write(announcement.form, expect.announce, tuple.destination_port());
        if packet.replace_payload(headers, announcement.range(), text.as_bytes()).is_err() {
            conntrack.unexpect(self.now, id);
            return Err(DropReason::Mangle);
        }
        let growth = text.as_bytes().len() as i32 - announcement.range().len() as i32;
        if growth != 0 {
            conntrack.register_growth(self.id, self.direction, sequence, growth);
        }
        Ok((tuple, text))
    }

    /// The announced port, or, while it is expected already, one above it.
    fn find_port(
        &self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        expect: &Expect,
    ) -> Result<(Tuple, ExpectationId), DropReason> {
        let announced = expect.destination.port();
        let on_match = OnMatch::FollowMaster { direction: self.direction.other(), port: Some(announced) };
        let above = u32::from(u16::MAX - announced);
        let mut port = announced;
        for _ in 0..=above.min(MAX_PORT_ATTEMPTS) {
            let tuple = self.expected_tuple(expect, port).ok_or(DropReason::ExpectationRefused)?;
            match self.register(conntrack, tuple, on_match) {
                // Linux registers port 0 too, and then takes it for a failure.
                Ok(_) if port == 0 => return Err(DropReason::NoPort),
                Ok(id) => return Ok((tuple, id)),
                Err(ExpectError::Busy) => {}
                Err(_) => return Err(DropReason::NoPort),
            }
            let free = |port| self.expected_tuple(expect, port).is_some_and(|t| !conntrack.has_pending(self.now, &t));
            port = nat.choices.port(announced, above, free);
        }
        Err(DropReason::NoPort)
    }

    /// The tuple of the data connection, its source port open, in the zone of the control connection.
    fn expected_tuple(&self, expect: &Expect, port: u16) -> Option<Tuple> {
        let destination = SocketAddr::new(expect.destination.ip(), port);
        let tuple = Tuple::new(Protocol::TCP, SocketAddr::new(expect.source, 0), destination)?;
        Some(tuple.in_zone(self.zone))
    }

    /// Expects the client at any of these ports of the server, since it cannot be read where the server listens. False
    /// where there is no room.
    fn expect_range(&self, conntrack: &mut Conntrack, ports: &RangeInclusive<u16>) -> bool {
        let Some(control) = conntrack.get(self.id) else { return false };
        let dialled = *control.tuple(Direction::Original);
        let first = dialled.with_port(Side::Source, 0).with_port(Side::Destination, *ports.start());
        let on_match = if control.is_altered() {
            OnMatch::FollowMaster { direction: Direction::Original, port: None }
        } else {
            OnMatch::Nothing
        };
        conntrack.expect_range(self.now, self.id, first, *ports.end(), on_match, self.policy).is_ok()
    }

    fn register(
        &self,
        conntrack: &mut Conntrack,
        tuple: Tuple,
        on_match: OnMatch,
    ) -> Result<ExpectationId, ExpectError> {
        conntrack.expect(self.now, self.id, tuple, on_match, self.policy)
    }
}

impl From<Direction> for Sender {
    /// Returns the sender of packets in this direction of a control connection.
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Original => Self::Client,
            Direction::Reply => Self::Server,
        }
    }
}

impl From<Sender> for Direction {
    /// The direction of what this side of a control connection sends.
    fn from(sender: Sender) -> Self {
        match sender {
            Sender::Client => Self::Original,
            Sender::Server => Self::Reply,
        }
    }
}

/// The four addresses of a control connection, as both sides see them.
fn endpoints(connection: &Connection) -> Endpoints {
    let original = connection.tuple(Direction::Original);
    let reply = connection.tuple(Direction::Reply);
    Endpoints {
        client: original.source(),
        dialled: original.destination(),
        server: reply.source(),
        seen: reply.destination(),
    }
}

fn announced(
    connection: ConnectionId,
    sender: Sender,
    announcement: &Announcement,
    outcome: AnnouncementOutcome,
) -> Event {
    Event::Announced {
        connection,
        sender,
        form: announcement.form,
        address: announcement.address,
        port: announcement.port,
        outcome,
    }
}
