//! The progress of a TCP connection, by its packets' headers alone.

use super::{Began, Ending, FramePos};
use crate::SequenceNumber;
use crate::packet::{Segment, TcpFlags};

/// Packets and bytes of one connection, and how it ends.
pub(super) struct FlowStats {
    pub(super) ending: Ending,
    sides: [Side; 2],
}

/// One side's stream.
#[derive(Clone, Copy, Default)]
struct Side {
    /// The sequence number after its last byte, and the distance of that from the first number seen.
    end: Option<(SequenceNumber, i64)>,
    /// The distance of its first byte from the first number seen: negative if segments came out of order.
    start: i64,
    /// The sequence number of its SYN.
    syn: Option<SequenceNumber>,
    /// The sequence number of its FIN.
    fin: Option<SequenceNumber>,
}

impl FlowStats {
    pub(super) fn new(at: FramePos, began: Began) -> Self {
        let ending = Ending {
            first: at,
            last: at,
            answered: !matches!(began, Began::Syn),
            fin: [None; 2],
            reset: None,
            packets: [0; 2],
            bytes: [0; 2],
            frame_bytes: [0; 2],
        };
        Self { ending, sides: [Side::default(); 2] }
    }

    /// Counts a packet of `side` (0 opened the connection). `payload` and `frame_bytes` are lengths in bytes.
    pub(super) fn see(&mut self, side: usize, at: FramePos, segment: &Segment, payload: u32, frame_bytes: u64) {
        let flags = segment.flags;
        self.ending.last = at;
        if let (Some(packets), Some(bytes)) = (self.ending.packets.get_mut(side), self.ending.frame_bytes.get_mut(side))
        {
            *packets += 1;
            *bytes += frame_bytes;
        }
        // An opener that acknowledges was answered, also where the capture has only its side.
        let acknowledges = flags.has(TcpFlags::ACK) || side == 1;
        self.ending.answered |= acknowledges && !flags.has(TcpFlags::RST);
        if let Some(fin) = self.ending.fin.get_mut(side)
            && flags.has(TcpFlags::FIN)
        {
            fin.get_or_insert(at.frame);
        }
        if flags.has(TcpFlags::RST) {
            self.ending.reset.get_or_insert((side, at.frame));
            return;
        }
        let first = segment.sequence + u32::from(flags.has(TcpFlags::SYN));
        let Some(stream) = self.sides.get_mut(side) else { return };
        if flags.has(TcpFlags::SYN) {
            stream.syn = Some(segment.sequence);
        }
        if flags.has(TcpFlags::FIN) {
            stream.fin.get_or_insert(first + payload);
        }
        stream.extend(first, payload);
        if let Some(bytes) = self.ending.bytes.get_mut(side) {
            *bytes = stream.bytes();
        }
    }

    /// Returns true if a SYN of `side` is another than the one seen: the connection's ports are used again.
    pub(super) fn begins_another(&self, side: usize, segment: &Segment) -> bool {
        let Some(Side { syn, end, start, .. }) = self.sides.get(side) else { return false };
        match syn {
            _ if !segment.flags.has(TcpFlags::SYN) || segment.flags.has(TcpFlags::RST) => false,
            Some(syn) => *syn != segment.sequence,
            // The beginning was not seen, and this is the beginning of another connection: not one that came late.
            None => {
                let is_before = |(number, place): (SequenceNumber, i64)| {
                    place + i64::from((segment.sequence + 1).since(number)) == *start
                };
                end.is_some_and(|end| !is_before(end)) || self.is_over()
            }
        }
    }

    /// Returns true if it was reset, or closed by both sides.
    pub(super) const fn is_over(&self) -> bool {
        self.ending.reset.is_some() || matches!(self.ending.fin, [Some(_), Some(_)])
    }
}

impl Side {
    /// Makes the stream reach as far as a segment that begins at `first`.
    fn extend(&mut self, first: SequenceNumber, payload: u32) {
        let (number, place) = *self.end.get_or_insert((first, 0));
        let from = place + i64::from(first.since(number));
        // The acknowledgements after a FIN count it, and it is no byte.
        let limit = self.fin.map_or(i64::MAX, |fin| place + i64::from(fin.since(number)));
        let to = (from + i64::from(payload)).min(limit);
        if to > place {
            self.end = Some((number + (to - place) as u32, to));
        }
        // A keepalive probe begins one byte before the stream's end, also where nothing else was seen.
        let is_out_of_order = from < self.start - 1 && from >= self.start - i64::from(u16::MAX);
        if is_out_of_order {
            self.start = from;
        }
    }

    /// Number of bytes from the first to the last, also of those that the capture lacks.
    fn bytes(&self) -> u64 {
        self.end.map_or(0, |(_, end)| u64::try_from(end - self.start).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::inspect::CloseKind;
    use crate::packet::{Headers, Layer4};
    use std::vec::Vec;

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const FIN: u8 = TcpFlags::FIN | ACK;
    const RST: u8 = TcpFlags::RST;

    fn segment(flags: u8, sequence: u32) -> Segment {
        let mut bytes = [
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 20, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0,
            0x50, flags, 0, 9, 0, 0, 0, 0,
        ];
        bytes[24..28].copy_from_slice(&sequence.to_be_bytes());
        match Headers::find(&bytes).unwrap().layer4 {
            Layer4::Tcp(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    /// Side, flags, sequence number, payload.
    fn stats(packets: &[(usize, u8, u32, u32)]) -> FlowStats {
        let at = |frame| FramePos { frame, time: Instant::from_secs(0) };
        let syn = packets.first().is_some_and(|(_, flags, ..)| *flags == SYN);
        let mut stats = FlowStats::new(at(1), if syn { Began::Syn } else { Began::MidStream });
        for (frame, (side, flags, sequence, payload)) in (1..).zip(packets) {
            stats.see(*side, at(frame), &segment(*flags, *sequence), *payload, 54 + u64::from(*payload));
        }
        stats
    }

    #[test]
    fn bytes_are_counted_by_their_numbers() {
        let bytes = |packets: &[_]| stats(packets).ending.bytes;
        // A gap of 50, a segment sent again, FIN.
        let all = [(0, SYN, 9, 0), (1, SYN | ACK, 99, 0), (0, ACK, 10, 100), (0, ACK, 160, 40), (0, ACK, 10, 100)];
        assert_eq!(bytes(&all), [190, 0]);
        assert_eq!(bytes(&[(0, ACK, u32::MAX, 5), (0, FIN, 4, 1)]), [6, 0], "across the wrap");
        assert_eq!(bytes(&[(1, ACK, 100, 5), (1, ACK, 90, 10)]), [0, 15], "out of order");
        assert_eq!(bytes(&[(1, ACK, 100, 5), (1, ACK, 99, 0)]), [0, 5], "a keepalive probe");
        let fin = [(0, SYN, 9, 0), (0, ACK, 10, 7), (0, FIN, 17, 0), (0, ACK, 18, 0), (0, FIN, 17, 0)];
        assert_eq!(bytes(&fin), [7, 0], "a FIN is no byte");
        // 5 GiB, in steps that a window allows.
        let steps = (0..5 << 10).map(|step: u32| (0, ACK, (step << 20).wrapping_add(77), 1 << 20));
        assert_eq!(bytes(&steps.collect::<Vec<_>>()), [5 << 30, 0], "numbers wrap");
    }

    #[test]
    fn packets_and_frames_are_counted_to_the_last() {
        let all = [(0, SYN, 9, 0), (0, SYN, 9, 0), (1, SYN | ACK, 99, 0), (0, ACK, 10, 6), (0, FIN, 16, 0)];
        let rest = [(1, FIN, 100, 0), (0, ACK, 17, 0), (1, RST, 101, 0)];
        let ending = stats(&[&all[..], &rest[..]].concat()).ending;
        assert_eq!((ending.packets, ending.bytes, ending.frame_bytes), ([5, 3], [6, 0], [276, 162]));
    }

    #[test]
    fn endings() {
        let how = |packets: &[_]| stats(packets).ending.how();
        assert_eq!(how(&[(0, SYN, 1, 0), (0, SYN, 1, 0)]), CloseKind::NeverAnswered);
        assert_eq!(how(&[(0, SYN, 1, 0), (1, RST | ACK, 0, 0)]), CloseKind::Refused);
        assert_eq!(how(&[(0, ACK, 1, 0)]), CloseKind::Open, "one side is in the capture");
        let one_side = [(0, SYN, 1, 0), (0, ACK, 2, 0), (0, ACK, 2, 9), (0, RST, 11, 0)];
        assert_eq!(how(&one_side), CloseKind::Reset, "an opener that acknowledges was answered");
        assert_eq!(how(&[(0, SYN, 1, 0), (0, RST, 2, 0)]), CloseKind::NeverAnswered, "given up by its opener");
        assert_eq!(how(&[(0, SYN, 1, 0), (1, SYN | ACK, 1, 0)]), CloseKind::Open);
        assert_eq!(how(&[(0, SYN, 1, 0), (1, SYN | ACK, 1, 0), (0, RST, 2, 0)]), CloseKind::Reset);
        assert_eq!(how(&[(0, SYN, 1, 0), (1, SYN | ACK, 1, 0), (1, FIN, 2, 0)]), CloseKind::HalfClosed);
        let closed = stats(&[(0, SYN, 1, 0), (1, SYN | ACK, 1, 0), (1, FIN, 2, 0), (0, FIN, 2, 0), (1, RST, 3, 0)]);
        assert_eq!((closed.ending.fin, closed.ending.reset), ([Some(4), Some(3)], Some((1, 5))));
    }

    #[test]
    fn ports_used_again() {
        let opened = stats(&[(0, SYN, 1, 0)]);
        assert!(!opened.begins_another(0, &segment(SYN, 1)), "sent again");
        assert!(opened.begins_another(0, &segment(SYN, 7)));
        assert!(!opened.begins_another(0, &segment(ACK, 7)));
        let middle = stats(&[(0, ACK, 8, 3)]);
        assert!(!middle.begins_another(0, &segment(SYN, 7)), "its own, late");
        assert!(middle.begins_another(0, &segment(SYN, 70)));
    }
}
