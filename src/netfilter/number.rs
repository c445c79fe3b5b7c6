//! Numbers of a packet, its connection or its links, which matches compare.

use alloc::vec::Vec;

use super::context::EvalContext;
use crate::conntrack::{Connection, Conntrack, Direction, Status};
use crate::packet::{Family, Layer4, Protocol, Side, TcpOptions};

/// A test on a number: under the mask, it lies in one of the ranges, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NumberMatch {
    /// The number.
    pub number: Number,
    /// The bits of it that are looked at.
    pub mask: u64,
    /// The ranges.
    pub ranges: Vec<(u64, u64)>,
}

impl NumberMatch {
    /// A test for numbers of one range.
    #[must_use]
    pub fn range(number: Number, first: u64, last: u64) -> Self {
        Self { number, mask: u64::MAX, ranges: alloc::vec![(first, last)] }
    }

    /// A test for one value under a mask.
    #[must_use]
    pub fn masked(number: Number, value: u64, mask: u64) -> Self {
        Self { number, mask, ranges: alloc::vec![(value, value)] }
    }
}

/// A number of a packet, its connection or its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Number {
    /// `-m ttl`, `-m hl`: time to live or hop limit.
    HopLimit,
    /// `-m length`: bytes from the IP header on.
    Length,
    /// `-m tos`, `-m dscp`, `-m ecn`: type of service or traffic class.
    TrafficClass,
    /// `-m tcpmss`: the maximum segment size that a TCP segment announces.
    TcpMss,
    /// `--tcp-option`: 1 if a TCP segment has an option of this kind, else 0.
    TcpOption(u8),
    /// `-m pkttype`: 0 for this machine, 1 broadcast, 2 multicast.
    PacketType,
    /// `-m devgroup`, `-m realm`: groups and realms are 0, as long as nobody sets them.
    Zero,
    /// `-f`: 1 if it is a later part of a packet, else 0.
    LaterPart,
    /// `--espspi`, `--ahspi`.
    Spi,
    /// The type in a mobility header.
    MobilityType,
    /// A byte of the first IPv6 extension header of a kind, by its offset.
    Extension {
        /// 0 hop-by-hop options, 43 routing, 60 destination options.
        kind: u8,
        /// The byte.
        offset: u8,
    },
    /// The length of the first IPv6 extension header of a kind, in bytes.
    ExtensionLength(u8),
    /// `--ctproto`.
    ConnectionProtocol,
    /// `--ctstatus`: the kernel's bits.
    ConnectionStatus,
    /// `--ctexpire`, in seconds.
    ConnectionExpires,
    /// `--ctdir`: 0 original, 1 reply.
    ConnectionDirection,
    /// `--ctorigsrcport` and the like.
    ConnectionPort {
        /// True for the reply tuple.
        reply: bool,
        /// True for the source.
        source: bool,
    },
    /// `-m connbytes`.
    ConnectionCount {
        /// Quantity that is counted.
        of: Counted,
        /// The direction; both for `None`.
        reply: Option<bool>,
    },
    /// `-m connlabel`: 1 if the connection has this label, else 0.
    ConnectionLabel(u8),
}

/// The quantity that `-m connbytes` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Counted {
    /// Packets.
    Packets,
    /// Bytes.
    Bytes,
    /// Bytes a packet.
    Average,
}

impl NumberMatch {
    /// Returns true if the number lies in a range; `None` when there is none, and the rule does not match either way.
    pub(super) fn holds(&self, conntrack: &Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<bool> {
        let value = match self.number.read(conntrack, subject) {
            Some(value) => value & self.mask,
            None if subject.hot_drop || !self.number.may_be_absent() => return None,
            None => return Some(false),
        };
        Some(self.ranges.iter().any(|(first, last)| *first <= value && value <= *last))
    }
}

impl Number {
    /// Returns true if only a connection has it.
    pub(super) const fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::ConnectionProtocol
                | Self::ConnectionStatus
                | Self::ConnectionExpires
                | Self::ConnectionDirection
                | Self::ConnectionPort { .. }
                | Self::ConnectionCount { .. }
                | Self::ConnectionLabel(_)
        )
    }

    /// Returns true if a packet without the number is one for which the test fails, so that its opposite holds.
    const fn may_be_absent(self) -> bool {
        matches!(self, Self::TcpMss | Self::Extension { .. } | Self::ExtensionLength(_) | Self::ConnectionLabel(_))
    }

    /// Returns true if asking for it may drop the packet.
    pub(super) const fn may_drop(self) -> bool {
        matches!(
            self,
            Self::TcpMss
                | Self::TcpOption(_)
                | Self::Spi
                | Self::MobilityType
                | Self::Extension { .. }
                | Self::ExtensionLength(_)
        )
    }

    fn read(self, conntrack: &Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<u64> {
        let bytes = subject.packet.bytes();
        let headers = *subject.headers;
        let tracked = subject.tracked;
        let connection = || tracked.and_then(|t| t.connection).and_then(|id| conntrack.get(id));
        Some(match self {
            Self::HopLimit => headers.hop_limit(bytes).into(),
            Self::Length => headers.end as u64,
            Self::TrafficClass => match headers.family {
                Family::V4 => (*bytes.get(1)?).into(),
                Family::V6 => {
                    let first = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
                    u64::from(first >> 4 & 0xff)
                }
            },
            Self::TcpMss => {
                let value = tcp_option(TcpOptions::MSS, subject)??;
                let [high, low] = *value.first_chunk()?;
                u16::from_be_bytes([high, low]).into()
            }
            Self::TcpOption(kind) => u64::from(tcp_option(kind, subject)?.is_some()),
            Self::PacketType => packet_type(subject).into(),
            Self::Zero => 0,
            Self::LaterPart => u64::from(headers.fragment.is_some_and(|fragment| fragment.offset != 0)),
            Self::Spi => {
                let at = if headers.protocol == Protocol(51) { 4 } else { 0 };
                u32::from_be_bytes(*transport::<4>(at, subject)?).into()
            }
            Self::MobilityType => transport::<1>(2, subject)?[0].into(),
            Self::Extension { kind, offset } => {
                let at = extension_header(kind, subject)?;
                (*bytes.get(at + usize::from(offset))?).into()
            }
            Self::ExtensionLength(kind) => {
                let at = extension_header(kind, subject)?;
                (u64::from(*bytes.get(at + 1)?) + 1) * 8
            }
            Self::ConnectionProtocol => connection()?.protocol().0.into(),
            Self::ConnectionStatus => connection()?.status().0.into(),
            // A connection that is not confirmed yet has no time.
            Self::ConnectionExpires => match connection()? {
                new if !new.status().has(Status::CONFIRMED) => 0,
                known => known.remaining(subject.now).as_secs(),
            },
            Self::ConnectionDirection => {
                connection()?;
                u64::from(tracked?.direction == Direction::Reply)
            }
            Self::ConnectionPort { reply, source } => {
                let tuple = connection()?.tuple(if reply { Direction::Reply } else { Direction::Original });
                if source { tuple.source_port() } else { tuple.destination_port() }.into()
            }
            Self::ConnectionCount { of, reply } => counted(connection()?, of, reply),
            Self::ConnectionLabel(label) => u64::from(connection()?.has_label(label)),
        })
    }
}

fn counted(connection: &Connection, of: Counted, reply: Option<bool>) -> u64 {
    let directions = match reply {
        Some(false) => &[Direction::Original][..],
        Some(true) => &[Direction::Reply],
        None => &[Direction::Original, Direction::Reply],
    };
    let counters = directions.iter().map(|direction| connection.counters(*direction));
    let (packets, bytes) = counters.fold((0, 0), |(packets, bytes), c| (packets + c.packets, bytes + c.bytes));
    match of {
        Counted::Packets => packets,
        Counted::Bytes => bytes,
        Counted::Average => bytes.checked_div(packets).unwrap_or(0),
    }
}

/// The value of a TCP option; the outer `None` where the packet has no TCP options to look at.
fn tcp_option<'p>(kind: u8, subject: &'p mut EvalContext<'_, '_>) -> Option<Option<&'p [u8]>> {
    let Layer4::Tcp(_) = subject.headers.layer4 else {
        if subject.headers.fragment.is_none_or(|fragment| fragment.offset == 0) {
            subject.hot_drop = true;
        }
        return None;
    };
    let options = subject.headers.tcp_options(subject.packet.bytes());
    let mut found = options.iter().map_while(Result::ok).filter(|(found, ..)| *found == kind);
    Some(found.next().map(|(_, _, value)| value))
}

/// Bytes of the transport header. A packet that is too short for them is to be dropped.
fn transport<'p, const N: usize>(at: usize, subject: &'p mut EvalContext<'_, '_>) -> Option<&'p [u8; N]> {
    let headers = *subject.headers;
    if headers.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    let end = headers.end.min(subject.packet.bytes().len());
    if headers.transport + at + N > end {
        subject.hot_drop = true;
        return None;
    }
    subject.packet.bytes().get(headers.transport + at..)?.first_chunk()
}

/// Returns the start of the first IPv6 extension header of a kind (RFC 8200 section 4).
pub(super) fn extension_header(wanted: u8, subject: &EvalContext<'_, '_>) -> Option<usize> {
    let (headers, bytes) = (&subject.headers, subject.packet.bytes());
    if headers.family != Family::V6 {
        return None;
    }
    let (mut next, mut at) = (*bytes.get(6)?, 40);
    while at < headers.transport {
        if next == wanted {
            return Some(at);
        }
        let length = if next == 44 { 8 } else { (usize::from(*bytes.get(at + 1)?) + 1) * 8 };
        next = *bytes.get(at)?;
        at += length;
    }
    None
}

/// The link-layer type of a packet, by its destination: links give groups and broadcasts addresses of their own.
fn packet_type(subject: &EvalContext<'_, '_>) -> u8 {
    use super::rules::AddressTypes;
    let destination = subject.headers.address(subject.packet.bytes(), Side::Destination).into();
    let kind = subject.surroundings.address_type(destination);
    match kind {
        AddressTypes::BROADCAST => 1,
        AddressTypes::MULTICAST => 2,
        _ => 0,
    }
}
