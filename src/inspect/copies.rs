//! Packets that a capture shows more than once: on `any` device, on a mirror port, on both sides of a bridge or router.

use core::time::Duration;

use crate::Instant;
use crate::SequenceNumber;
use crate::packet::{Family, Headers, Segment, TcpFlags};

/// A copy comes within this time.
const WITHIN: Duration = Duration::from_millis(500);
/// Time within which an equal packet is a copy, where packets have no identification: a retransmission may be the same
/// to the bit, but copies come at once.
const AT_ONCE: Duration = Duration::from_millis(5);
/// So many packets of each side are remembered.
const REMEMBERED: usize = 4;

/// The fields that tell packets of one side apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    identification: u16,
    sequence: SequenceNumber,
    acknowledgement: SequenceNumber,
    flags: TcpFlags,
    window: u16,
    end: usize,
}

/// The latest packets of both sides.
#[derive(Default)]
pub(super) struct Copies {
    latest: [[Option<(Instant, Print)>; REMEMBERED]; 2],
    next: [usize; 2],
}

impl Copies {
    /// Returns true if a packet equals one that was seen a moment ago, and remembers it. It is remembered.
    pub(super) fn is_copy(
        &mut self,
        side: usize,
        time: Instant,
        bytes: &[u8],
        headers: &Headers,
        segment: &Segment,
    ) -> bool {
        let identification = match (headers.family, bytes.get(4..6)) {
            (Family::V4, Some(&[high, low])) => u16::from_be_bytes([high, low]),
            _ => 0,
        };
        let Segment { sequence, acknowledgement, flags, window, .. } = *segment;
        let print = Print { identification, sequence, acknowledgement, flags, window, end: headers.end };
        let within = if identification == 0 { AT_ONCE } else { WITHIN };
        let is_same = |seen: &Option<(Instant, Print)>| {
            seen.is_some_and(|(then, other)| other == print && time.since(then).max(then.since(time)) <= within)
        };
        let Some(latest) = self.latest.get_mut(side) else { return false };
        if latest.iter().any(is_same) {
            return true;
        }
        let Some(next) = self.next.get_mut(side) else { return false };
        if let Some(place) = latest.get_mut(*next) {
            *place = Some((time, print));
        }
        *next = (*next + 1) % REMEMBERED;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Layer4;

    fn packet(identification: u8, sequence: u8) -> [u8; 40] {
        [
            0x45,
            0,
            0,
            40,
            0,
            identification,
            0x40,
            0,
            64,
            6,
            0,
            0,
            10,
            77,
            1,
            2,
            198,
            51,
            100,
            9,
            0x9c,
            0x40,
            0,
            21,
            0,
            0,
            0,
            sequence,
            0,
            0,
            0,
            0,
            0x50,
            0x10,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
        ]
    }

    fn is_copy(copies: &mut Copies, millis: i64, bytes: &[u8]) -> bool {
        let headers = Headers::find(bytes).unwrap();
        let Layer4::Tcp(segment) = headers.layer4 else { panic!() };
        copies.is_copy(0, Instant::from_micros(millis * 1000), bytes, &headers, &segment)
    }

    #[test]
    fn copies_come_soon() {
        let mut copies = Copies::default();
        let mut routed = packet(7, 1);
        routed[8] = 63;
        assert!(!is_copy(&mut copies, 0, &packet(7, 1)));
        assert!(is_copy(&mut copies, 400, &routed));
        assert!(!is_copy(&mut copies, 900, &packet(7, 1)), "too late");
        assert!(!is_copy(&mut copies, 900, &packet(8, 1)), "sent again");
        assert!(!is_copy(&mut copies, 900, &packet(7, 2)));
        assert!(is_copy(&mut copies, 899, &packet(7, 2)), "time steps back");
    }

    #[test]
    fn without_identification_they_come_at_once() {
        let mut copies = Copies::default();
        assert!(!is_copy(&mut copies, 0, &packet(0, 1)));
        assert!(is_copy(&mut copies, 4, &packet(0, 1)));
        assert!(!is_copy(&mut copies, 250, &packet(0, 1)), "a retransmission");
    }
}
