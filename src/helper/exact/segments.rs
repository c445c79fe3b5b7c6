//! Writing what leaves.

use alloc::boxed::Box;
use alloc::vec;
use core::net::SocketAddr;
use core::ops::Range;

use super::intervention::Intervention;
use super::stream::{Emission, Incoming, Stream, Taken};
use crate::SequenceNumber;
use crate::conntrack::{ConnectionId, Conntrack, Direction};
use crate::helper::HelperContext;
use crate::packet::{Headers, InName, Layer4, Segment, TcpFlags, TcpOptions};

/// The longest payload that an IP packet can bear, and what may be put in front of it or grow in it.
const MAX_PAYLOAD: usize = 1 << 17;
/// The longest header of a segment: IPv6 and its extensions, or IPv4 with options, and TCP with options.
const MAX_HEADER: usize = 512;
/// The least that is put into a segment, whatever is said of the link and by the other side.
const LEAST: usize = 16;
/// The least that an IPv6 link takes.
const LEAST_MTU: usize = 1280;

/// Takes packets that leave besides the one at hand.
///
/// A packet is complete: its addresses are those that its receiver knows, and its checksums are right.
pub trait SegmentSink {
    /// Sends a packet where the packet at hand goes.
    fn along(&mut self, bytes: &[u8]);
    /// Sends a packet to the sender of the packet at hand.
    fn back(&mut self, bytes: &[u8]);
}

/// Takes nothing: under [`Behaviour::Linux`](crate::Behaviour::Linux) nothing leaves besides.
impl SegmentSink for () {
    fn along(&mut self, _: &[u8]) {}
    fn back(&mut self, _: &[u8]) {}
}

/// The result of writing a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pieces: u16,
    /// True if the other side's window takes less than there is.
    is_cut: bool,
}

impl Written {
    pub(super) fn interventions(self) -> impl Iterator<Item = Intervention> {
        let split = (self.pieces > 1).then_some(Intervention::Split(self.pieces));
        [split, self.is_cut.then_some(Intervention::WindowFull)].into_iter().flatten()
    }
}

/// Buffers in which payloads are put together, and packets made.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    leaves: Box<[u8]>,
    packet: Box<[u8]>,
}

/// The fields of an answer to a segment's sender in the other side's name.
pub(super) struct Answering {
    name: Option<InName>,
    /// The number that the sender expects from the other side.
    pub(super) next: SequenceNumber,
}

impl Answering {
    pub(super) fn new(
        conntrack: &Conntrack,
        id: ConnectionId,
        context: &HelperContext<'_, '_>,
        segment: &Segment,
    ) -> Self {
        Self { next: segment.acknowledgement, ..Self::to(conntrack, id, context.tracked.direction, echoed(context)) }
    }

    /// To whoever sends in this direction, with these timestamps.
    pub(super) fn to(
        conntrack: &Conntrack,
        id: ConnectionId,
        direction: Direction,
        timestamps: Option<[u8; 8]>,
    ) -> Self {
        let name = conntrack.get(id).map(|connection| {
            let tuple = connection.tuple(direction);
            InName {
                source: SocketAddr::new(tuple.destination(), tuple.destination_port()),
                destination: SocketAddr::new(tuple.source(), tuple.source_port()),
                timestamps,
            }
        });
        Self { name, next: SequenceNumber(0) }
    }

    /// Tells the sender that everything up to `number` was received.
    pub(super) fn acknowledge(&self, number: SequenceNumber, window: u16, sink: &mut dyn SegmentSink) {
        let mut room = [0; 128];
        self.send(&mut room, (self.next, number), window, (&[], None), sink);
    }

    fn send(
        &self,
        room: &mut [u8],
        (sequence, acknowledgement): (SequenceNumber, SequenceNumber),
        window: u16,
        (payload, urgent): (&[u8], Option<u16>),
        sink: &mut dyn SegmentSink,
    ) {
        let written = self.name.and_then(|name| name.write(room, sequence, acknowledgement, window, payload));
        let Some(bytes) = written.and_then(|len| room.get_mut(..len)) else { return };
        if urgent.is_some()
            && let Ok(mut headers) = Headers::find(bytes)
        {
            headers.set_urgent_pointer(bytes, urgent);
        }
        sink.back(bytes);
    }
}

/// The timestamps of an answer: what the segment echoed, and its own to echo.
pub(super) fn echoed(context: &HelperContext<'_, '_>) -> Option<[u8; 8]> {
    let options = context.headers.tcp_options(context.packet.bytes());
    options.iter().find_map(|option| match option {
        Ok((TcpOptions::TIMESTAMPS, _, &[a, b, c, d, e, f, g, h])) => Some([e, f, g, h, a, b, c, d]),
        _ => None,
    })
}

impl SegmentWriter {
    pub(super) fn new() -> Self {
        Self { leaves: vec![0; MAX_PAYLOAD].into(), packet: vec![0; MAX_HEADER + usize::from(u16::MAX)].into() }
    }

    /// Writes what leaves with a segment into its packet, and what does not fit into others.
    pub(super) fn write(
        &mut self,
        stream: &mut Stream,
        incoming: Incoming<'_>,
        taken: Taken,
        takes: Takes,
        context: &mut HelperContext<'_, '_>,
    ) -> Written {
        let mut written = Written::default();
        let number = match taken.emission {
            Emission::Same => stream.outgoing(incoming.start),
            Emission::Nothing { number } => number,
            Emission::Bytes { from, .. } => stream.outgoing(from),
        };
        context.headers.set_sequence(context.packet.bytes_mut(), number - u32::from(incoming.syn));
        let mut begins = number;
        match taken.emission {
            Emission::Same => stream.note_sent(number + incoming.payload.len() as u32),
            Emission::Nothing { .. } => self.put(0, 0, taken.fin, context),
            Emission::Bytes { from, to } => {
                let len = self.compose(stream, from, to, incoming);
                // A SYN leaves alone, and with no more than it came with.
                let had = incoming.payload.len();
                // Of a replacement the other side may have a part.
                let first = usize::try_from(stream.outside().since(number)).unwrap_or(0).min(len);
                // The window is not known before the other side's SYN.
                let fits = if incoming.syn { had } else { takes.window.max(1) };
                let end = len.min(first + fits);
                begins = number + first as u32;
                context.headers.set_sequence(context.packet.bytes_mut(), begins - u32::from(incoming.syn));
                written.is_cut = end < len;
                written.pieces =
                    self.put_in_pieces(first..end, number, taken.fin && end == len, takes.longest, context);
                stream.note_sent_again(number + end as u32);
            }
        }
        if matches!(taken.emission, Emission::Same) && !taken.fin {
            clear(TcpFlags::FIN, context);
        }
        if incoming.urgent.is_some() || stream.is_urgent() {
            let bytes = context.packet.bytes_mut();
            context.headers.set_urgent_pointer(bytes, stream.urgent_behind(begins));
        }
        written
    }

    /// Puts the bytes of a stretch of the stream together, with what is replaced in it; how many they are.
    fn compose(&mut self, stream: &Stream, from: SequenceNumber, to: SequenceNumber, incoming: Incoming<'_>) -> usize {
        let raw = stream.copy(from, to, incoming, &mut self.leaves);
        let mut len = raw;
        for (stretch, text) in stream.history().within(from, raw).rev() {
            let grown = len - stretch.len() + text.len();
            if grown > self.leaves.len() || stretch.end > len {
                debug_assert!(false, "there is room for every replacement of a stream");
                return 0;
            }
            self.leaves.copy_within(stretch.end..len, stretch.start + text.len());
            if let Some(place) = self.leaves.get_mut(stretch.start..stretch.start + text.len()) {
                place.copy_from_slice(text);
            }
            len = grown;
        }
        len
    }

    /// The first piece of these bytes leaves in the packet, the others in copies of it. `number` is that of byte 0. How
    /// many there are.
    fn put_in_pieces(
        &mut self,
        bytes: Range<usize>,
        number: SequenceNumber,
        fin: bool,
        longest: u16,
        context: &mut HelperContext<'_, '_>,
    ) -> u16 {
        let Layer4::Tcp(segment) = context.headers.layer4 else { return 0 };
        let header = segment.payload;
        let options = header - context.headers.transport - 20;
        let bearable = match longest {
            0 => usize::from(u16::MAX),
            longest => usize::from(longest).saturating_sub(options),
        };
        let most = bearable.min(context.mtu.saturating_sub(header)).clamp(LEAST, usize::from(u16::MAX) - header);
        let had = context.headers.end.saturating_sub(header);
        let first = bytes.end.min(bytes.start + most.min(had + context.packet.tail_room()));
        let mut at = first;
        let mut pieces = 1;
        while at < bytes.end {
            pieces += 1;
            let piece = (bytes.end - at).min(most);
            let last = at + piece == bytes.end;
            self.send_copy(at..at + piece, number + at as u32, fin && last, header, context);
            at += piece;
        }
        self.put(bytes.start, first, fin && first == bytes.end, context);
        pieces
    }

    /// A copy of the packet's headers with another piece.
    fn send_copy(
        &mut self,
        piece: Range<usize>,
        number: SequenceNumber,
        fin: bool,
        header: usize,
        context: &mut HelperContext<'_, '_>,
    ) {
        let (Some(headers), Some(piece)) = (context.packet.bytes().get(..header), self.leaves.get(piece)) else {
            return;
        };
        let len = header + piece.len();
        let Some(room) = self.packet.get_mut(..len) else { return };
        let Some((front, back)) = room.split_at_mut_checked(header) else { return };
        front.copy_from_slice(headers);
        back.copy_from_slice(piece);
        let mut copied = *context.headers;
        let (set, clear) = if fin { (TcpFlags::FIN, TcpFlags::URG) } else { (0, TcpFlags::URG | TcpFlags::FIN) };
        copied.finish_copy(room, number, set, clear);
        context.sink.along(room);
    }

    /// Makes this stretch the packet's payload.
    fn put(&mut self, from: usize, to: usize, fin: bool, context: &mut HelperContext<'_, '_>) {
        let Layer4::Tcp(segment) = context.headers.layer4 else { return };
        let had = context.headers.end.saturating_sub(segment.payload);
        let payload = self.leaves.get(from..to).unwrap_or_default();
        if had > 0 || !payload.is_empty() {
            // There is room: no more was taken than fits.
            let _ = context.packet.replace_payload(context.headers, 0..had, payload);
        }
        if fin {
            context.headers.set_flags(context.packet.bytes_mut(), TcpFlags::FIN, 0);
        } else {
            clear(TcpFlags::FIN, context);
        }
    }

    /// Sends to the sender of the packet at hand what it has not got of `stream`, and nobody else will send in time, as far
    /// as its window goes. Whether there was any.
    pub(super) fn send_unsent(
        &mut self,
        stream: &mut Stream,
        answering: &Answering,
        (acknowledgement, window): (SequenceNumber, u16),
        takes: Takes,
        sink: &mut dyn SegmentSink,
    ) -> bool {
        let Some((from, to, begin)) = stream.unsent() else { return false };
        let len =
            self.compose(stream, from, to, Incoming { start: to, payload: &[], syn: false, fin: false, urgent: None });
        let number = stream.outgoing(from);
        let mut at = usize::try_from(begin.since(number)).unwrap_or(0);
        let room = usize::try_from((stream.outside() + takes.window as u32).since(number)).unwrap_or(0);
        let end = len.min(room);
        let sends = at < end;
        while at < end {
            let piece = (end - at).min(bearable(takes.longest));
            let bytes = self.leaves.get(at..at + piece).unwrap_or_default();
            let numbers = (number + at as u32, acknowledgement);
            answering.send(&mut self.packet, numbers, window, (bytes, stream.urgent_behind(numbers.0)), sink);
            at += piece;
            stream.note_sent(number + at as u32);
        }
        sends
    }
}

/// The limits of the other side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    /// Maximum length of its segments (0: not known).
    pub(super) longest: u16,
    /// Number of bytes after its acknowledgement that it takes.
    pub(super) window: usize,
}

/// Returns the maximum payload of an answer: as much as every link takes, unless its receiver takes less.
fn bearable(longest: u16) -> usize {
    let longest = if longest == 0 { usize::from(u16::MAX) } else { usize::from(longest) };
    longest.saturating_sub(12).clamp(LEAST, LEAST_MTU - 40 - 32)
}

fn clear(flags: u8, context: &mut HelperContext<'_, '_>) {
    context.headers.set_flags(context.packet.bytes_mut(), 0, flags);
}
