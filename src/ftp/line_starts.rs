//! The places where lines begin.

use super::Sender;
use crate::SequenceNumber;

/// Number of line starts that Linux remembers in each direction.
const REMEMBERED: usize = 2;

/// The sequence numbers at which a line may begin, per direction, as Linux's FTP helper keeps them.
///
/// Linux reads a segment only if it starts exactly where an earlier segment ended in a line feed, and it remembers the
/// two latest such places of each side. So the first line of each side is never read, nor is a line that begins within
/// a segment, while a retransmission of the latest line is.
///
/// ```
/// use ftp_conntrack::{SequenceNumber, ftp::{LineStarts, Sender}};
///
/// let mut starts = LineStarts::default();
/// assert!(!starts.begins_line(Sender::Client, SequenceNumber(1000)));
/// starts.note(Sender::Client, SequenceNumber(1000) + b"USER ftp\r\n".len() as u32);
/// assert!(starts.begins_line(Sender::Client, SequenceNumber(1010)));
/// assert!(!starts.begins_line(Sender::Server, SequenceNumber(1010)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineStarts {
    client: Direction,
    server: Direction,
}

impl LineStarts {
    /// Returns true if a segment of `sender` that starts at `sequence` begins a line. `sequence` counts in the sender's
    /// own numbering, before any sequence adjustment.
    #[inline]
    #[must_use]
    pub fn begins_line(&self, sender: Sender, sequence: SequenceNumber) -> bool {
        self.direction(sender).remembers(sequence)
    }

    /// Notes that a segment of `sender` ended in a line feed, so that its next line begins at `next`: the segment's
    /// sequence number plus the length of its payload (SYN and FIN not counted).
    #[inline]
    pub fn note(&mut self, sender: Sender, next: SequenceNumber) {
        match sender {
            Sender::Client => self.client.note(next),
            Sender::Server => self.server.note(next),
        }
    }

    #[inline]
    fn direction(&self, sender: Sender) -> &Direction {
        match sender {
            Sender::Client => &self.client,
            Sender::Server => &self.server,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Direction {
    starts: [Option<SequenceNumber>; REMEMBERED],
}

impl Direction {
    #[inline]
    fn remembers(&self, sequence: SequenceNumber) -> bool {
        self.starts.contains(&Some(sequence))
    }

    fn note(&mut self, next: SequenceNumber) {
        if self.remembers(next) {
            return;
        }
        let [first, second] = &mut self.starts;
        match (*first, *second) {
            (None, _) => *first = Some(next),
            (_, None) => *second = Some(next),
            (Some(a), Some(b)) => {
                let (older, slot) = if a.before(b) { (a, first) } else { (b, second) };
                // A late retransmission must not push out a younger place.
                if next.after(older) {
                    *slot = Some(next);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Sender = Sender::Client;

    fn noted(numbers: &[u32]) -> LineStarts {
        let mut starts = LineStarts::default();
        for n in numbers {
            starts.note(C, SequenceNumber(*n));
        }
        starts
    }

    fn begins(starts: &LineStarts, n: u32) -> bool {
        starts.begins_line(C, SequenceNumber(n))
    }

    #[test]
    fn nothing_begins_a_line_at_first() {
        let starts = LineStarts::default();
        assert!(!begins(&starts, 0), "an empty slot must not be taken for sequence number 0");
        assert!(!begins(&noted(&[10]), 0));
    }

    #[test]
    fn the_latest_two_are_remembered() {
        let starts = noted(&[10, 20, 30]);
        assert!(!begins(&starts, 10) && begins(&starts, 20) && begins(&starts, 30));
        let starts = noted(&[10, 20, 30, 40]);
        assert!(!begins(&starts, 20) && begins(&starts, 30) && begins(&starts, 40));
    }

    #[test]
    fn noting_a_place_again_changes_nothing() {
        assert_eq!(noted(&[10, 20, 20, 10]), noted(&[10, 20]));
    }

    #[test]
    fn a_place_older_than_both_is_forgotten() {
        assert_eq!(noted(&[20, 30, 10]), noted(&[20, 30]));
    }

    #[test]
    fn a_place_between_replaces_the_older() {
        let starts = noted(&[20, 40, 30]);
        assert!(!begins(&starts, 20) && begins(&starts, 30) && begins(&starts, 40));
    }

    #[test]
    fn older_is_older_across_the_wrap() {
        let starts = noted(&[0xffff_fff0, 5, 20]);
        assert!(!begins(&starts, 0xffff_fff0) && begins(&starts, 5) && begins(&starts, 20));
    }

    #[test]
    fn the_directions_are_apart() {
        let mut starts = noted(&[10]);
        assert!(!starts.begins_line(Sender::Server, SequenceNumber(10)));
        starts.note(Sender::Server, SequenceNumber(7));
        assert!(starts.begins_line(Sender::Server, SequenceNumber(7)) && begins(&starts, 10) && !begins(&starts, 7));
    }
}
