//! How a TCP connection goes on, by its packets' headers alone.

use super::{Began, Ending, FramePos};
use crate::SequenceNumber;
use crate::packet::{Segment, TcpFlags};

/// What was seen of one connection.
pub(super) struct FlowStats {
    pub(super) ending: Ending,
    /// The first number of each side's stream, and the number behind its last byte.
    extent: [Option<(SequenceNumber, SequenceNumber)>; 2],
    /// The number of each side's SYN.
    syn: [Option<SequenceNumber>; 2],
}

impl FlowStats {
    pub(super) const fn new(at: FramePos, began: Began) -> Self {
        let ending = Ending {
            first: at,
            last: at,
            answered: !matches!(began, Began::Syn),
            fin: [None; 2],
            reset: None,
            packets: [0; 2],
            bytes: [0; 2],
        };
        Self { ending, extent: [None; 2], syn: [None; 2] }
    }

    /// A packet of `side` (0 is who opened it) came, with so many bytes of payload.
    pub(super) fn see(&mut self, side: usize, at: FramePos, segment: &Segment, payload: u32) {
        let flags = segment.flags;
        self.ending.last = at;
        if let Some(packets) = self.ending.packets.get_mut(side) {
            *packets += 1;
        }
        self.ending.answered |= side == 1 && !flags.has(TcpFlags::RST);
        if let Some(fin) = self.ending.fin.get_mut(side)
            && flags.has(TcpFlags::FIN)
        {
            fin.get_or_insert(at.frame);
        }
        if flags.has(TcpFlags::RST) {
            self.ending.reset.get_or_insert((side, at.frame));
            return;
        }
        if let Some(syn) = self.syn.get_mut(side)
            && flags.has(TcpFlags::SYN)
        {
            *syn = Some(segment.sequence);
        }
        let first = segment.sequence + u32::from(flags.has(TcpFlags::SYN));
        self.extend(side, first, first + payload);
    }

    fn extend(&mut self, side: usize, from: SequenceNumber, to: SequenceNumber) {
        let (Some(extent), Some(bytes)) = (self.extent.get_mut(side), self.ending.bytes.get_mut(side)) else { return };
        let (start, end) = extent.get_or_insert((from, from));
        let forward = u64::try_from(to.since(*end)).unwrap_or(0);
        // What comes before the first packet that was seen: one out of order.
        let back = u64::try_from(start.since(from)).unwrap_or(0).min(u64::from(u16::MAX));
        // A keepalive probe begins one before, and is no byte.
        let back = if back > 1 { back } else { 0 };
        *bytes += forward + back;
        *end = end.later(to);
        if back > 0 {
            *start = from;
        }
    }

    /// Whether a SYN of `side` is another than the one seen: the connection's ports are used again.
    pub(super) fn begins_another(&self, side: usize, segment: &Segment) -> bool {
        let syn = self.syn.get(side).copied().flatten();
        match syn {
            _ if !segment.flags.has(TcpFlags::SYN) || segment.flags.has(TcpFlags::RST) => false,
            Some(syn) => syn != segment.sequence,
            // Its beginning was not seen, and this is the beginning of another: not one that came late.
            None => {
                let extent = self.extent.get(side).copied().flatten();
                extent.is_some_and(|(start, _)| segment.sequence + 1 != start) || self.is_over()
            }
        }
    }

    /// Whether it was reset, or closed by both sides.
    pub(super) const fn is_over(&self) -> bool {
        self.ending.reset.is_some() || matches!(self.ending.fin, [Some(_), Some(_)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::inspect::CloseKind;
    use crate::packet::{Headers, Layer4};

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
            stats.see(*side, at(frame), &segment(*flags, *sequence), *payload);
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
    }

    #[test]
    fn endings() {
        let how = |packets: &[_]| stats(packets).ending.how();
        assert_eq!(how(&[(0, SYN, 1, 0), (0, SYN, 1, 0)]), CloseKind::NeverAnswered);
        assert_eq!(how(&[(0, SYN, 1, 0), (1, RST | ACK, 0, 0)]), CloseKind::Refused);
        assert_eq!(how(&[(0, ACK, 1, 0)]), CloseKind::Open, "one side is in the capture");
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
