//! Carries FTP's decision out on a tracked connection: finds a port, registers the expectation, replaces the text
//! (`nf_conntrack_ftp`, `nf_nat_ftp`).
//!
//! The decision itself, what a line announces and what that means, is [`crate::ftp`]'s.
//!
//! [`crate::router::Router`] does all of this. A program that routes by itself calls, for each packet and in this order:
//! [`Conntrack::track`], [`Nat::setup`] for a first packet, [`nat::translate`](crate::nat::translate), [`FtpHelper::process`],
//! [`Conntrack::confirm`]. The order is the same for both behaviours.
//!
//! ```
//! use ftp_conntrack::conntrack::{Conntrack, ConntrackConfig, OnMatch, Template};
//! use ftp_conntrack::event::DropReason;
//! use ftp_conntrack::helper::{FtpHelper, HelperConfig, HelperContext, SegmentSink};
//! use ftp_conntrack::nat::{Nat, NatRange, translate};
//! use ftp_conntrack::packet::{Headers, Packet, Side};
//! use ftp_conntrack::{Behaviour, Instant};
//!
//! /// A masquerading gateway: its address is 203.0.113.1.
//! struct Gateway {
//!     conntrack: Conntrack,
//!     nat: Nat,
//!     helper: FtpHelper,
//!     sent: Sent,
//! }
//!
//! /// Packets that leave besides the one at hand. A real gateway routes them by their destination.
//! #[derive(Default)]
//! struct Sent(Vec<Vec<u8>>);
//!
//! impl SegmentSink for Sent {
//!     fn along(&mut self, bytes: &[u8]) {
//!         self.0.push(bytes.to_vec());
//!     }
//!     fn back(&mut self, bytes: &[u8]) {
//!         self.0.push(bytes.to_vec());
//!     }
//! }
//!
//! impl Gateway {
//!     fn new() -> Self {
//!         let config = ConntrackConfig::default();
//!         let helper = HelperConfig::default().behaving(Behaviour::Exact);
//!         Self {
//!             helper: FtpHelper::new(helper, config.limits.helped),
//!             conntrack: Conntrack::new(config, [1, 2]), // random numbers in real life
//!             nat: Nat::new([3, 4]),
//!             sent: Sent::default(),
//!         }
//!     }
//!
//!     /// Sends a packet on, or drops it.
//!     fn forward(&mut self, now: Instant, packet: &mut Packet<'_>) -> Result<(), DropReason> {
//!         let Self { conntrack, nat, helper, sent } = self;
//!         let Ok(mut headers) = Headers::find(packet.bytes()) else { return Ok(()) };
//!         let tracked = conntrack.track(now, packet.bytes(), &headers, Template::FTP)?;
//!         let Some(id) = tracked.connection else { return Ok(()) };
//!         if tracked.on_match == OnMatch::Nothing {
//!             // Only the first packet of a connection decides.
//!             nat.setup(now, conntrack, id, &NatRange::to_address([203, 0, 113, 1].into()), Side::Source)?;
//!         } else {
//!             nat.apply_expectation(now, conntrack, id, tracked.on_match)?;
//!         }
//!         if let Some(connection) = conntrack.get(id) {
//!             for side in [Side::Destination, Side::Source] {
//!                 translate(connection, tracked.direction, side, packet.bytes_mut(), &headers);
//!             }
//!         }
//!         let mut context = HelperContext::new(now, &tracked, packet, &mut headers, sent);
//!         helper.process(conntrack, nat, &mut context)?;
//!         conntrack.confirm(now, id)
//!     }
//! }
//! # /// A segment, as it leaves.
//! # fn send(gateway: &mut Gateway, ends: [([u8; 4], u16); 2], flags: u8, numbers: [u32; 2], text: &str) -> String {
//! #     use ftp_conntrack::packet::checksum;
//! #     let length = 40 + text.len() as u16;
//! #     let mut bytes = vec![0x45, 0];
//! #     bytes.extend(length.to_be_bytes());
//! #     bytes.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
//! #     ends.iter().for_each(|(address, _)| bytes.extend(address));
//! #     let sum = checksum::fold(checksum::sum(&bytes, 0));
//! #     bytes[10..12].copy_from_slice(&sum.to_be_bytes());
//! #     ends.iter().for_each(|(_, port)| bytes.extend(port.to_be_bytes()));
//! #     numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
//! #     bytes.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
//! #     bytes.extend(text.bytes());
//! #     let start = checksum::pseudo_header(&bytes[12..20], 6, bytes.len() - 20);
//! #     let sum = checksum::fold(checksum::sum(&bytes[20..], start));
//! #     bytes[36..38].copy_from_slice(&sum.to_be_bytes());
//! #     bytes.resize(bytes.len() + Packet::ROOM, 0);
//! #     let mut packet = Packet::new(&mut bytes, 0..usize::from(length)).unwrap();
//! #     gateway.forward(Instant::from_secs(0), &mut packet).unwrap();
//! #     let headers = Headers::find(packet.bytes()).unwrap();
//! #     assert!(headers.transport_checksum_ok(packet.bytes()));
//! #     String::from_utf8_lossy(headers.payload(packet.bytes())).into_owned()
//! # }
//! # let mut gateway = Gateway::new();
//! # let (client, server, outside) = (([10, 0, 0, 5], 5000), ([198, 51, 100, 9], 21), ([203, 0, 113, 1], 5000));
//! # let gateway = &mut gateway;
//! # send(gateway, [client, server], 2, [99, 0], "");
//! # send(gateway, [server, outside], 0x12, [499, 100], "");
//! # send(gateway, [client, server], 0x18, [100, 500], "USER a\r\n");
//! # send(gateway, [server, outside], 0x18, [500, 108], "230 in\r\n");
//! // A line in two segments, and not the first of its segment: Linux would let it leave with the inside address.
//! let mut left = Vec::new();
//! # let mut client_says = |number, text: &str| left.push(send(gateway, [client, server], 0x18, [number, 508], text));
//! client_says(108, "NOOP\r\nPORT 10,0,");
//! client_says(124, "0,5,4,210\r\n");
//! assert_eq!(left, ["NOOP\r\n", "PORT 203,0,113,1,4,210\r\n"]);
//! assert_eq!(gateway.conntrack.expected(), 1);
//! # Ok::<(), DropReason>(())
//! ```
//!
//! Between packets, [`FtpHelper::poll_at`] says when [`FtpHelper::handle_timeout`] is due.
//!
#![doc = include_str!("peers.md")]
#![doc = include_str!("servers.md")]

mod exact;

pub use exact::{Intervention, Policy, PolicyError, PolicySetting, RefusalReason, SegmentSink};

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::net::SocketAddr;
use core::ops::RangeInclusive;

use crate::conntrack::{
    Connection, ConnectionId, Conntrack, Direction, ExpectError, ExpectPolicy, ExpectationId, HelperSlot, OnMatch,
    PacketState, Status, Tracked, Tuple,
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

/// Maximum length in bytes of a packet on Ethernet.
const ETHERNET_MTU: usize = 1500;

/// Maximum number of other ports to try when the announced one is expected already (Linux, `nf_nat_exp_find_port`).
const MAX_PORT_ATTEMPTS: u32 = 128;

impl FtpHelper {
    /// A helper for at most `helped` connections: [`crate::conntrack::Limits::helped`].
    #[must_use]
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
    #[must_use]
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

    /// Reads a packet that is about to leave, already translated but with its own sequence numbers, does what the lines in
    /// it ask for, and adjusts its numbers. Returns true if its text was rewritten. [`Conntrack::confirm`] is the last
    /// step after it. Packets of connections without helper stay as they are.
    ///
    /// There must be [`ftp::MAX_TEXT`] bytes of room after the packet.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub fn process(
        &mut self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        context: &mut HelperContext<'_, '_>,
    ) -> Result<bool, DropReason> {
        let Some(connection) = context.tracked.connection.and_then(|id| conntrack.get(id)) else { return Ok(false) };
        if !connection.has_helper() {
            return Ok(false);
        }
        if let Some(exact) = &mut self.exact {
            return exact.process(conntrack, nat, self.config.rewrites, context);
        }
        // Sampled before the helper reads it: the packet that causes the first shift keeps its own number.
        let is_adjusted = connection.status().has(Status::SEQ_ADJUST);
        let HelperContext { now, tracked, packet, headers, .. } = context;
        let rewritten = self.read(*now, conntrack, nat, tracked, packet, headers)?;
        if is_adjusted && let Some(connection) = tracked.connection.and_then(|id| conntrack.get(id)) {
            conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
        }
        Ok(rewritten)
    }

    /// Reads a packet and rewrites its text, as [`process`](Self::process) does under [`Behaviour::Linux`], and leaves its
    /// numbers alone.
    #[inline]
    pub(crate) fn read(
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
        let Some(connection) = conntrack.get(id) else {
            cannot_happen!("the connection was there a moment ago");
            return Ok(false);
        };
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

    /// Returns true if it behaves like [`Behaviour::Exact`].
    #[inline]
    pub(crate) const fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    /// Returns the time of the next call of [`handle_timeout`](Self::handle_timeout). Under [`Behaviour::Linux`] there is
    /// none.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.exact.as_ref().and_then(|exact| exact.poll_at())
    }

    /// Sends again what was held back, then sent, and did not arrive. All of it goes [back](SegmentSink::back): each packet
    /// is to be routed by its destination.
    pub fn handle_timeout(&mut self, now: Instant, conntrack: &mut Conntrack, sink: &mut dyn SegmentSink) {
        if let Some(exact) = &mut self.exact {
            exact.handle_timeout(now, conntrack, sink);
        }
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

/// A packet that is about to leave, and what the helper is to know of it.
#[non_exhaustive]
pub struct HelperContext<'p, 'b> {
    /// The current time.
    pub now: Instant,
    /// Tracker's answer to the packet.
    pub tracked: &'p Tracked,
    /// The packet.
    pub packet: &'p mut Packet<'b>,
    /// Headers of the packet.
    pub headers: &'p mut Headers,
    /// Maximum length in bytes of the packets that leave; 1500 if nothing else is set.
    pub mtu: usize,
    /// True if the client of the control connection is a program on this machine, such as a proxy. It hears what the
    /// server announces as it is, unless that is an address that nobody can reach.
    pub client_is_local: bool,
    /// Takes packets that leave besides this one. Under [`Behaviour::Linux`] there are none.
    pub sink: &'p mut dyn SegmentSink,
}

impl<'p, 'b> HelperContext<'p, 'b> {
    /// Makes the context of a packet that is sent on, on a link with an MTU of 1500 bytes.
    pub const fn new(
        now: Instant,
        tracked: &'p Tracked,
        packet: &'p mut Packet<'b>,
        headers: &'p mut Headers,
        sink: &'p mut dyn SegmentSink,
    ) -> Self {
        Self { now, tracked, packet, headers, mtu: ETHERNET_MTU, client_is_local: false, sink }
    }
}

impl fmt::Debug for HelperContext<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelperContext").field("now", &self.now).field("tracked", self.tracked).finish_non_exhaustive()
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
