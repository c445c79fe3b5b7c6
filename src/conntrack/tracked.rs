//! The tracker's answer to a packet.

use super::OnMatch;
use super::connection::{ConnectionId, Direction, Status};
use super::tcp::TcpInvalid;

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

    pub(super) const fn without(state: PacketState) -> Self {
        Self { connection: None, direction: Direction::Original, state, is_error: false, on_match: OnMatch::Nothing }
    }

    pub(super) const fn invalid(reason: InvalidReason) -> Self {
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

impl Status {
    /// Returns the state of a packet of a connection with this status.
    #[inline]
    pub(super) const fn of_packet(self, direction: Direction) -> PacketState {
        if matches!(direction, Direction::Reply) || self.has(Self::SEEN_REPLY) {
            PacketState::Established
        } else if self.has(Self::EXPECTED) {
            PacketState::Related
        } else {
            PacketState::New
        }
    }
}
