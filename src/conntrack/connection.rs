//! One connection.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;

use super::Tuple;
use super::sctp::{SctpState, SctpTracker};
use super::tcp::{TcpState, TcpTracker};
use crate::Instant;
use crate::packet::Protocol;

/// A connection's name: valid until the connection is destroyed, and never that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(super) slot: u32,
    pub(super) generation: NonZeroU32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Error: the number is not that of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoId;

impl fmt::Display for NoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the number of an id: its upper half is 0")
    }
}

impl core::error::Error for NoId {}

impl From<ConnectionId> for u64 {
    fn from(id: ConnectionId) -> Self {
        Self::from(id.generation.get()) << 32 | Self::from(id.slot)
    }
}

impl TryFrom<u64> for ConnectionId {
    type Error = NoId;

    fn try_from(number: u64) -> Result<Self, NoId> {
        let generation = NonZeroU32::new((number >> 32) as u32).ok_or(NoId)?;
        Ok(Self { slot: number as u32, generation })
    }
}

/// Direction of a packet within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Direction {
    /// As its first packet went.
    Original = 0,
    /// The other way.
    Reply = 1,
}

impl Direction {
    /// The other direction.
    #[inline]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Original => "original",
            Self::Reply => "reply",
        })
    }
}

/// Status bits of a connection (`enum ip_conntrack_status`).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Status(pub(crate) u16);

impl Status {
    /// It was expected: the child of a master.
    pub const EXPECTED: u16 = 1;
    /// Packets went both ways.
    pub const SEEN_REPLY: u16 = 1 << 1;
    /// It is not to be given up for want of space.
    pub const ASSURED: u16 = 1 << 2;
    /// The first packet left the machine, and the connection is in the table.
    pub const CONFIRMED: u16 = 1 << 3;
    /// The source is translated.
    pub const SRC_NAT: u16 = 1 << 4;
    /// The destination is translated.
    pub const DST_NAT: u16 = 1 << 5;
    /// Sequence numbers have to be adjusted.
    pub const SEQ_ADJUST: u16 = 1 << 6;
    /// It was decided whether its source is translated.
    pub const SRC_NAT_DONE: u16 = 1 << 7;
    /// It was decided whether its destination is translated.
    pub const DST_NAT_DONE: u16 = 1 << 8;
    /// It is over, and no longer found.
    pub const DYING: u16 = 1 << 9;
    /// Packets do not renew the timeout.
    pub const FIXED_TIMEOUT: u16 = 1 << 10;

    /// Returns true if any of these bits is set.
    #[inline]
    #[must_use]
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] = [
            "EXPECTED",
            "SEEN_REPLY",
            "ASSURED",
            "CONFIRMED",
            "SRC_NAT",
            "DST_NAT",
            "SEQ_ADJUST",
            "SRC_NAT_DONE",
            "DST_NAT_DONE",
            "DYING",
            "FIXED_TIMEOUT",
        ];
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.debug_list().entries(set.map(|(_, name)| name)).finish()
    }
}

/// Packets and bytes that went one way; bytes count from the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The number of a connection that has a helper, or whose numbers are adjusted for another reason: unique among
/// those living, and below [`super::Limits::helped`], so that layers above can keep what they know of such a
/// connection in an array of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HelperSlot(pub(crate) u32);

impl HelperSlot {
    /// The number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A connection: two tuples, what they went through, and until when it is remembered (`nf_conn`).
///
/// The reply tuple *is* the translation: it is what an answer to the translated packet looks like. Without NAT it
/// is the original tuple reversed.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) tuples: [Tuple; 2],
    pub(crate) status: Status,
    pub(crate) protocol: ProtocolState,
    pub(super) deadline: Instant,
    /// When the wheel will look at it: at the deadline or before.
    pub(super) scheduled: Instant,
    pub(crate) mark: u32,
    /// Labels (`-m connlabel`), a bit each.
    labels: [u64; 2],
    pub(crate) helper_slot: Option<HelperSlot>,
    pub(crate) helper: bool,
    pub(super) master: Option<ConnectionId>,
    pub(super) master_had_helper: bool,
    /// Number of connections that this one announced.
    pub(super) children: u32,
    /// True if it is not forgotten as long as one of them lives.
    pub(super) kept_by_children: bool,
    /// The first expectation this connection is the master of; they are chained, newest first.
    pub(super) expectations: u32,
    pub(super) counters: [Counters; 2],
    /// The interface its source was masqueraded for.
    pub(crate) masqueraded_on: Option<u32>,
    routes: [NotedRoute; 2],
}

/// The number of the route that packets of a direction take, noted by who routes them: their destination does not
/// change, nor do the routes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NotedRoute(pub(crate) u16);

impl NotedRoute {
    /// None was noted.
    pub(crate) const NONE: Self = Self(u16::MAX);
    /// They are not sent on, or by a route that cannot be noted: where they go is looked up for each.
    pub(crate) const ELSEWHERE: Self = Self(u16::MAX - 1);
}

impl fmt::Debug for NotedRoute {
    /// Never makes a difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// The end of a chain of expectations.
pub(super) const NO_EXPECTATION: u32 = u32::MAX;

/// State that the protocol's tracker keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProtocolState {
    Tcp(TcpTracker),
    /// UDP: from when on replies make it a stream.
    Udp {
        stream_from: Instant,
    },
    /// UDP-Lite: a stream as soon as it was answered.
    UdpLite,
    Sctp(SctpTracker),
    Gre,
    Icmp,
    Generic,
}

impl Connection {
    pub(super) fn new(original: Tuple, reply: Tuple, protocol: ProtocolState, deadline: Instant) -> Self {
        Self {
            tuples: [original, reply],
            status: Status::default(),
            protocol,
            deadline,
            scheduled: deadline,
            mark: 0,
            labels: [0; 2],
            helper_slot: None,
            helper: false,
            master: None,
            master_had_helper: false,
            children: 0,
            kept_by_children: false,
            expectations: NO_EXPECTATION,
            counters: Default::default(),
            masqueraded_on: None,
            routes: [NotedRoute::NONE; 2],
        }
    }

    /// The tuple of the packets that go this way, as they arrive.
    #[inline]
    #[must_use]
    pub const fn tuple(&self, direction: Direction) -> &Tuple {
        &self.tuples[direction as usize]
    }

    /// The route that its packets of a direction take.
    #[inline(always)]
    pub(crate) const fn route_mut(&mut self, direction: Direction) -> &mut NotedRoute {
        &mut self.routes[direction as usize]
    }

    /// Returns the status bits.
    #[inline]
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Returns true if one of its ends is translated.
    #[inline]
    pub(crate) const fn is_translated(&self) -> bool {
        self.status.has(Status::SRC_NAT | Status::DST_NAT)
    }

    /// Returns true if its packets leave with other ends than they came with: NAT, or a load balancer, which leaves the
    /// status bits alone.
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.tuples[1].reversed().is_some_and(|leaves_as| leaves_as != self.tuples[0])
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.tuples[0].protocol()
    }

    /// The state of a TCP connection.
    #[must_use]
    pub const fn tcp_state(&self) -> Option<TcpState> {
        match &self.protocol {
            ProtocolState::Tcp(tracker) => Some(tracker.state()),
            _ => None,
        }
    }

    /// The state of an SCTP association.
    #[must_use]
    pub const fn sctp_state(&self) -> Option<SctpState> {
        match &self.protocol {
            ProtocolState::Sctp(tracker) => Some(tracker.state()),
            _ => None,
        }
    }

    /// The connection's mark (`ctmark`): set by rules, inherited by what it announces.
    #[must_use]
    pub const fn mark(&self) -> u32 {
        self.mark
    }

    /// Returns true if it has a label, of 128 (`-m connlabel`).
    #[must_use]
    pub fn has_label(&self, label: u8) -> bool {
        self.labels.get(usize::from(label >> 6)).is_some_and(|labels| labels >> (label & 63) & 1 != 0)
    }

    /// Gives it a label.
    pub(super) fn set_label(&mut self, label: u8) {
        if let Some(labels) = self.labels.get_mut(usize::from(label >> 6)) {
            *labels |= 1 << (label & 63);
        }
    }

    /// Returns true if the FTP helper reads it.
    #[inline]
    #[must_use]
    pub const fn has_helper(&self) -> bool {
        self.helper
    }

    /// The number of a connection with a helper.
    #[inline]
    #[must_use]
    pub const fn helper_slot(&self) -> Option<HelperSlot> {
        self.helper_slot
    }

    /// The connection that announced this one.
    #[must_use]
    pub const fn master(&self) -> Option<ConnectionId> {
        self.master
    }

    /// Returns true if a helper read the announcement of this connection; the master may be gone since.
    #[must_use]
    pub const fn master_had_helper(&self) -> bool {
        self.master_had_helper
    }

    /// Returns the number of connections that this one announced.
    #[must_use]
    pub const fn children(&self) -> u32 {
        self.children
    }

    /// Returns packets and bytes of this direction.
    #[must_use]
    pub const fn counters(&self, direction: Direction) -> Counters {
        self.counters[direction as usize]
    }

    /// Returns how long it will still be remembered if no packet comes.
    #[must_use]
    pub const fn remaining(&self, now: Instant) -> Duration {
        self.deadline.since(now)
    }

    /// Returns true if it is remembered longer than until `now`.
    #[inline]
    pub(crate) fn outlives(&self, now: Instant) -> bool {
        !self.deadline.has_passed(now)
    }

    /// Sets until when it is remembered. True when the wheel would look at it too late: it is to be
    /// [scheduled](super::table::Table::schedule) anew.
    #[inline]
    #[must_use]
    pub(super) fn last_until(&mut self, deadline: Instant) -> bool {
        self.deadline = deadline;
        deadline < self.scheduled
    }

    /// Returns true if a packet leaves by another interface than the one whose address the connection bears.
    #[inline]
    pub(crate) fn left_masquerade(&self, direction: Direction, interface: Option<usize>) -> bool {
        direction == Direction::Original
            && self.masqueraded_on.is_some_and(|bound| interface.map(|i| i as u32) != Some(bound))
    }

    /// Returns true if its time is over.
    #[inline]
    pub(super) fn expired(&self, now: Instant) -> bool {
        (self.deadline.has_passed(now) && !self.is_kept()) || self.status.has(Status::DYING)
    }

    /// Returns true if one of the connections that it announced keeps it.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept_by_children && self.children > 0
    }
}
