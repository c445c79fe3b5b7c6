//! One packet, as the other side sees it.

use std::net::{IpAddr, SocketAddr};

use super::Masquerade;
use super::mapping::Known;
use super::streams::{Flow, Streams};
use crate::SequenceNumber;
use crate::conntrack::ICMP_HEADER;
use crate::ftp::Text;
use crate::packet::{Headers, Layer4, Packet, Protocol, Side, TcpFlags};
use crate::seqadj::History;

/// The result of translating a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has another address now.
    Translated {
        /// Relation to earlier packets. The first packet that comes from a remote endpoint and fits nothing is one that
        /// the router would not have let in by itself.
        known: Known,
        /// Which end was replaced: [`Side::Source`] of what a near host sends.
        side: Side,
        /// Number of announcements in it that were replaced, in whole or in part.
        rewritten: usize,
    },
    /// It is as it was.
    Untouched(Untouched),
    /// It has another address, but an announcement in it could not be replaced: the capture has only a part of the
    /// packet, it is a fragment, or would be too long.
    NotRewritten,
}

/// The reason why a packet is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Untouched {
    /// It is no IP packet, or its headers cannot be read.
    Unreadable,
    /// It is of the other address family.
    OtherFamily,
    /// Both its ends are near: it did not pass the router.
    BothNear,
    /// Neither of its ends is near.
    NeitherNear,
    /// It goes to many, and routers do not translate that.
    Multicast,
}

impl Masquerade {
    /// Translates a packet, the one of this `frame`, in place. Every announcement that it bears, and that was to be
    /// replaced, must have been [noted](Masquerade::announce) before, and every SYN before it
    /// [too](Masquerade::begin). There must be [`Packet::ROOM`] bytes behind it for each announcement that it bears.
    ///
    /// A wrong checksum stays wrong. A packet that was captured only in part is translated as far as it reaches; its
    /// text is left alone.
    pub fn translate(&mut self, frame: u64, packet: &mut Packet<'_>) -> Outcome {
        let Ok(mut headers) = Headers::find_cut(packet.bytes()) else {
            return Outcome::Untouched(Untouched::Unreadable);
        };
        let bytes = packet.bytes();
        let (source, destination) = (headers.source(bytes), headers.destination(bytes));
        if source.is_ipv4() != self.mapping.far_address().is_ipv4() {
            return Outcome::Untouched(Untouched::OtherFamily);
        }
        let side = match (self.mapping.is_near(source), self.mapping.is_near(destination)) {
            (true, true) => return Outcome::Untouched(Untouched::BothNear),
            (false, false) => return Outcome::Untouched(Untouched::NeitherNear),
            _ if goes_to_many(destination) => return Outcome::Untouched(Untouched::Multicast),
            (true, false) => Side::Source,
            (false, true) => Side::Destination,
        };
        let was_right = headers.end <= bytes.len() && headers.transport_checksum_ok(bytes);
        if headers.is_icmp_error() {
            return self.translate_error(frame, side, was_right, packet, &headers);
        }
        let (source_port, destination_port) = headers.ports(bytes).unwrap_or_default();
        let flow =
            Flow { from: SocketAddr::new(source, source_port), to: SocketAddr::new(destination, destination_port) };
        let moved =
            if self.streams.is_empty() { Moved::default() } else { self.adjust(frame, flow, packet, &mut headers) };
        let (far, known) = self.far(headers.protocol, flow, side);
        let bytes = packet.bytes_mut();
        set_end(far, side, bytes, &headers);
        // An edge of SACK at an odd place is not summed as the change of it is.
        if was_right && moved.numbers {
            headers.fill_transport_checksum(bytes);
        }
        if moved.failed {
            return Outcome::NotRewritten;
        }
        Outcome::Translated { known, side, rewritten: moved.rewritten }
    }

    /// Returns the translated endpoint for the near end of a flow.
    fn far(&mut self, protocol: Protocol, flow: Flow, side: Side) -> (SocketAddr, Known) {
        match side {
            Side::Source => self.mapping.far(protocol, flow.from, flow.to),
            Side::Destination => self.mapping.far(protocol, flow.to, flow.from),
        }
    }

    /// Writes what was announced otherwise, and every number as the other side has it.
    fn adjust(&self, frame: u64, flow: Flow, packet: &mut Packet<'_>, headers: &mut Headers) -> Moved {
        let Layer4::Tcp(segment) = headers.layer4 else { return Moved::default() };
        let mut moved = Moved::default();
        if let Some(history) = self.streams.history(flow, frame) {
            moved.numbers = true;
            // SYN takes the first number, text begins behind it.
            let text = segment.sequence + u32::from(segment.flags.has(TcpFlags::SYN));
            moved.rewrite(history, text, packet, headers);
            adjust_urgent(history, text, packet.bytes_mut(), headers);
            headers.set_sequence(packet.bytes_mut(), history.outgoing(segment.sequence));
        }
        if let Some(history) = self.streams.history(flow.reversed(), frame)
            && segment.flags.has(TcpFlags::ACK)
        {
            moved.numbers = true;
            let bytes = packet.bytes_mut();
            headers.set_acknowledgement(bytes, history.outgoing(segment.acknowledgement));
            // Options that do not fit have no edges to move.
            let _ = headers.map_sack_blocks(bytes, |left, right| (history.outgoing(left), history.outgoing(right)));
        }
        moved
    }

    /// An ICMP error, and the packet that it quotes: that one goes the other way, so its other end is near.
    fn translate_error(
        &mut self,
        frame: u64,
        side: Side,
        was_right: bool,
        packet: &mut Packet<'_>,
        headers: &Headers,
    ) -> Outcome {
        let bytes = packet.bytes_mut();
        let mut known = Known::First;
        let end = headers.end.min(bytes.len());
        if let Some(quoted) = bytes.get_mut(headers.transport + ICMP_HEADER..end)
            && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
        {
            let (source_port, destination_port) = inner.ports(quoted).unwrap_or_default();
            let flow = Flow {
                from: SocketAddr::new(inner.source(quoted), source_port),
                to: SocketAddr::new(inner.destination(quoted), destination_port),
            };
            let quoted_side = match side {
                Side::Source => Side::Destination,
                Side::Destination => Side::Source,
            };
            let near = if quoted_side == Side::Source { flow.from } else { flow.to };
            if self.mapping.is_near(near.ip()) {
                adjust_quoted(&self.streams, frame, flow, quoted, &inner);
                let far;
                (far, known) = self.far(inner.protocol, flow, quoted_side);
                set_end(far, quoted_side, quoted, &inner);
            }
        }
        if was_right {
            headers.fill_transport_checksum(bytes);
        }
        headers.set_address(bytes, side, self.mapping.far_address());
        Outcome::Translated { known, side, rewritten: 0 }
    }
}

/// The changes to a segment.
#[derive(Default)]
struct Moved {
    /// True if its stream, or that of the bytes it acknowledges, has replacements.
    numbers: bool,
    rewritten: usize,
    failed: bool,
}

impl Moved {
    /// Replaces what the segment has of the announcements, from the last to the first.
    fn rewrite(
        &mut self,
        history: &History<Text>,
        start: SequenceNumber,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) {
        let Layer4::Tcp(segment) = headers.layer4 else { return };
        let len = headers.end.saturating_sub(segment.payload);
        for (stretch, inserted) in history.within(start, len).rev() {
            let whole = headers.fragment.is_none() && headers.end <= packet.bytes().len();
            if !whole || packet.replace_payload(headers, stretch, inserted).is_err() {
                self.failed = true;
                return;
            }
            self.rewritten += 1;
        }
    }
}

/// Sets an end; what has no ports has an address all the same.
fn set_end(far: SocketAddr, side: Side, bytes: &mut [u8], headers: &Headers) {
    match headers.ports(bytes) {
        Some(_) => headers.set_endpoint(bytes, side, far.ip(), far.port()),
        None => headers.set_address(bytes, side, far.ip()),
    }
}

/// Lets the urgent pointer name the same byte as before, or the beginning of what took its place.
fn adjust_urgent(history: &History<Text>, start: SequenceNumber, bytes: &mut [u8], headers: &Headers) {
    let Layer4::Tcp(segment) = headers.layer4 else { return };
    if segment.flags.has(TcpFlags::URG) {
        let begins = history.outgoing(start);
        headers.map_urgent_pointer(bytes, |pointer| {
            let there = history.outgoing(start + u32::from(pointer));
            u16::try_from(there.since(begins)).unwrap_or(pointer)
        });
    }
}

/// The sequence number in a packet that an ICMP error quotes.
fn adjust_quoted(streams: &Streams, frame: u64, flow: Flow, quoted: &mut [u8], inner: &Headers) {
    if let Some(history) = streams.history(flow, frame)
        && inner.protocol == Protocol::TCP
    {
        inner.map_quoted_sequence(quoted, |sequence| history.outgoing(sequence));
    }
}

/// Multicast, or IPv4's broadcast to all.
fn goes_to_many(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::from([255; 4])
}
