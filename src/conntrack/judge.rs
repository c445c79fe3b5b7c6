//! Answers of the trackers of the protocols.

use core::time::Duration;

use super::ConntrackConfig;
use super::connection::{Connection, Direction, ProtocolState, Status};
use super::sctp::{Chunks, SctpTracker};
use super::tcp::{CompiledTcpConfig, Kind, Renewal, SegmentContext, TcpInvalid, TcpVerdict};
use super::tracked::InvalidReason;
use crate::packet::{Headers, Layer4, Protocol};
use crate::{Instant, Micros};

/// The answer of a protocol's tracker.
pub(super) enum TrackVerdict {
    /// Part of the connection, which from now on lasts this long; `None`: as long as it did.
    Accept(Option<Renewal>),
    /// No part of it; the connection may have to end earlier.
    Invalid { reason: InvalidReason, shorten: Option<Micros> },
    /// The connection is over, and this packet begins another.
    Reopen,
    /// The connection is over with this packet.
    Kill,
}

impl Connection {
    /// Lets a segment of an open connection that was answered pass, and counts it; true when the connection is to be
    /// [scheduled](super::table::Table::schedule) anew. `None` when it is no such segment, or more is to be said about it:
    /// nothing was changed.
    #[inline(always)]
    pub(super) fn accept_established(
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
    pub(super) fn counts(&mut self, now: Instant, direction: Direction, headers: &Headers, renewal: Renewal) -> bool {
        if renewal.assured {
            self.status.set(Status::ASSURED);
        }
        self.count(direction, headers);
        !self.status.has(Status::FIXED_TIMEOUT) && self.last_until(now + renewal.timeout)
    }

    #[inline]
    pub(super) fn count(&mut self, direction: Direction, headers: &Headers) {
        let counters = &mut self.counters[direction as usize];
        counters.packets += 1;
        counters.bytes += headers.end as u64;
    }
}

/// After this time in both directions UDP is a stream (Linux, `udp_packet`).
pub(super) const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);

/// Lets the protocol's tracker judge a packet.
pub(super) fn judge(
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
