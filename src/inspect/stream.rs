//! One side's bytes in the order in which it sent them.

use std::collections::VecDeque;
use std::vec::Vec;

use super::FramePos;
use super::helper_oracle::HelperOutcome;
use crate::SequenceNumber;

/// So many bytes of one side wait for a gap before them to be filled. A control connection's window is rarely larger.
pub(super) const MAX_WAITING: usize = 16 << 10;
/// So many segments wait.
const MAX_WAITING_SEGMENTS: usize = 64;
/// So many gaps that were stepped over are remembered, in case they are filled late.
const MAX_HOLES: usize = 8;

/// The payload of a segment, or what is new of it.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) at: FramePos,
    /// The number of the segment's first byte.
    pub(super) sequence: SequenceNumber,
    /// The segment's payload as far as it was captured.
    pub(super) text: &'a [u8],
    /// Number of its bytes that were read before.
    pub(super) heard: usize,
    /// Number of bytes of the segment that the capture left out, after `text`.
    pub(super) missing: u32,
    pub(super) helper_outcome: HelperOutcome,
}

impl<'a> Piece<'a> {
    fn end(&self) -> SequenceNumber {
        self.sequence + self.text.len() as u32 + self.missing
    }

    /// Returns the bytes that were not read before.
    pub(super) fn fresh(&self) -> &'a [u8] {
        self.text.get(self.heard..).unwrap_or_default()
    }
}

/// The result of a segment for its stream.
pub(super) enum Heard<'a> {
    /// The next bytes.
    Next(Piece<'a>),
    /// So many bytes that were sent are not in the capture.
    Gap(u32),
    /// Bytes that fill a gap stepped over before, or that come before the first ones that were seen.
    Late(Piece<'a>),
    /// Bytes that were heard before.
    Again(Piece<'a>),
}

/// A segment that waits for what comes before it.
struct Waiting {
    at: FramePos,
    sequence: SequenceNumber,
    text: Vec<u8>,
    missing: u32,
    helper_outcome: HelperOutcome,
}

/// Follows one side.
#[derive(Default)]
pub(super) struct Stream {
    /// The first number that was seen, and the next to come.
    seen: Option<(SequenceNumber, SequenceNumber)>,
    /// Gaps that were stepped over.
    holes: VecDeque<(SequenceNumber, SequenceNumber)>,
    /// In order.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The latest number that the other side acknowledged.
    acknowledged: Option<SequenceNumber>,
}

impl Stream {
    /// The number of the first byte is known: a SYN was seen.
    pub(super) fn begin(&mut self, first: SequenceNumber) {
        self.seen.get_or_insert((first, first));
    }

    /// Returns true if any byte of this side was seen.
    pub(super) const fn has_begun(&self) -> bool {
        self.seen.is_some()
    }

    /// A segment with payload came; what can be told of it is.
    pub(super) fn take(&mut self, piece: Piece<'_>, tell: &mut dyn FnMut(Heard<'_>)) {
        if piece.text.is_empty() && piece.missing == 0 {
            return;
        }
        let (start, next) = *self.seen.get_or_insert((piece.sequence, piece.sequence));
        if piece.sequence.after(next) {
            self.wait(&piece);
        } else if piece.end().after(next) {
            let heard = (next.since(piece.sequence) as usize).min(piece.text.len());
            if heard > 0 {
                let text = piece.text.get(..heard).unwrap_or_default();
                tell(Heard::Again(Piece { text, missing: 0, ..piece }));
            }
            self.next(&Piece { heard, ..piece }, tell);
        } else {
            self.old(piece, start, next, tell);
        }
        self.release(tell);
    }

    /// The other side acknowledged everything before `number`: what is missing before that will not come any more.
    pub(super) fn acknowledge(&mut self, number: SequenceNumber, tell: &mut dyn FnMut(Heard<'_>)) {
        self.acknowledged = Some(self.acknowledged.map_or(number, |latest| latest.later(number)));
        self.release(tell);
    }

    /// Nothing comes any more: what waits is told.
    pub(super) fn finish(&mut self, tell: &mut dyn FnMut(Heard<'_>)) {
        while let Some(first) = self.waiting.front() {
            self.acknowledged = Some(first.sequence);
            self.release(tell);
        }
    }

    fn next(&mut self, piece: &Piece<'_>, tell: &mut dyn FnMut(Heard<'_>)) {
        let start = self.seen.map_or(piece.sequence, |(start, _)| start);
        self.seen = Some((start, piece.end()));
        tell(Heard::Next(*piece));
    }

    fn old(&mut self, piece: Piece<'_>, start: SequenceNumber, next: SequenceNumber, tell: &mut dyn FnMut(Heard<'_>)) {
        if piece.sequence.before(start) {
            self.seen = Some((piece.sequence, next));
            return tell(Heard::Late(piece));
        }
        let fills =
            |(from, to): &(SequenceNumber, SequenceNumber)| piece.sequence.before(*to) && piece.end().after(*from);
        match self.holes.iter().position(fills) {
            Some(hole) => {
                self.fill(hole, &piece);
                tell(Heard::Late(piece));
            }
            None => tell(Heard::Again(piece)),
        }
    }

    /// Keeps the rest of a hole before and after a piece.
    fn fill(&mut self, hole: usize, piece: &Piece<'_>) {
        let Some((from, to)) = self.holes.remove(hole) else { return };
        if piece.sequence.after(from) {
            self.holes.push_back((from, piece.sequence));
        }
        if piece.end().before(to) {
            self.holes.push_back((piece.end(), to));
        }
        self.forget_holes();
    }

    fn forget_holes(&mut self) {
        while self.holes.len() > MAX_HOLES {
            self.holes.pop_front();
        }
    }

    fn wait(&mut self, piece: &Piece<'_>) {
        let place = self.waiting.partition_point(|other| other.sequence.before(piece.sequence));
        let known = self.waiting.get(place).filter(|other| other.sequence == piece.sequence);
        if known.is_some_and(|other| other.text.len() >= piece.text.len()) {
            return;
        }
        self.waiting_bytes += piece.text.len();
        let Piece { at, sequence, text, missing, helper_outcome, .. } = *piece;
        self.waiting.insert(place, Waiting { at, sequence, text: text.into(), missing, helper_outcome });
    }

    /// Tells what no longer has to wait.
    fn release(&mut self, tell: &mut dyn FnMut(Heard<'_>)) {
        while let (Some(first), Some((_, next))) = (self.waiting.front(), self.seen) {
            let from = first.sequence;
            if from.after(next) {
                let never = self.acknowledged.is_some_and(|latest| !latest.before(from));
                let full = self.waiting_bytes > MAX_WAITING || self.waiting.len() > MAX_WAITING_SEGMENTS;
                if !never && !full {
                    return;
                }
                self.step_over(next, from, tell);
            }
            let Some(first) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= first.text.len();
            let Waiting { at, sequence, text, missing, helper_outcome } = first;
            let piece = Piece { at, sequence, text: &text, heard: 0, missing, helper_outcome };
            let Some((_, next)) = self.seen else { return };
            if piece.end().after(next) {
                let heard = (next.since(sequence) as usize).min(text.len());
                self.next(&Piece { heard, ..piece }, tell);
            }
        }
    }

    fn step_over(&mut self, next: SequenceNumber, to: SequenceNumber, tell: &mut dyn FnMut(Heard<'_>)) {
        self.holes.push_back((next, to));
        self.forget_holes();
        self.seen = self.seen.map(|(start, _)| (start, to));
        tell(Heard::Gap(to.since(next) as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use std::format;
    use std::string::String;

    #[derive(Default)]
    struct Told(Stream, Vec<String>);

    impl Told {
        fn take(&mut self, sequence: u32, text: &str, missing: u32) -> &mut Self {
            let at = FramePos { frame: 1, time: Instant::from_secs(0) };
            let sequence = SequenceNumber(sequence);
            let helper_outcome = HelperOutcome::default();
            let Self(stream, told) = self;
            let piece = Piece { at, sequence, text: text.as_bytes(), heard: 0, missing, helper_outcome };
            stream.take(piece, &mut |heard| told.push(words(&heard)));
            self
        }

        fn acknowledge(&mut self, number: u32) -> &mut Self {
            let Self(stream, told) = self;
            stream.acknowledge(SequenceNumber(number), &mut |heard| told.push(words(&heard)));
            self
        }

        fn says(&self, expected: &[&str]) {
            assert_eq!(self.1, expected);
        }
    }

    fn words(heard: &Heard<'_>) -> String {
        let text = |piece: &Piece<'_>| String::from_utf8_lossy(piece.fresh()).into_owned();
        match heard {
            Heard::Next(piece) => text(piece),
            Heard::Gap(bytes) => format!("gap {bytes}"),
            Heard::Late(piece) => format!("late {}", text(piece)),
            Heard::Again(piece) => format!("again {}", text(piece)),
        }
    }

    #[test]
    fn segments_out_of_order_wait() {
        Told::default().take(10, "ab", 0).take(14, "ef", 0).take(12, "cd", 0).says(&["ab", "cd", "ef"]);
        // Across the wrap.
        Told::default().take(u32::MAX, "ab", 0).take(3, "ef", 0).take(1, "cd", 0).says(&["ab", "cd", "ef"]);
    }

    #[test]
    fn what_was_heard_is_not_heard_twice() {
        Told::default().take(10, "abcd", 0).take(10, "abcd", 0).says(&["abcd", "again abcd"]);
        Told::default().take(10, "abcd", 0).take(12, "cdef", 0).says(&["abcd", "again cd", "ef"]);
        Told::default().take(10, "ab", 0).take(14, "ef", 0).take(10, "abcdef", 0).says(&["ab", "again ab", "cdef"]);
    }

    #[test]
    fn a_gap_is_stepped_over_once_it_was_acknowledged() {
        let mut told = Told::default();
        told.take(10, "ab", 0).take(14, "ef", 0).acknowledge(13).says(&["ab"]);
        told.acknowledge(14).says(&["ab", "gap 2", "ef"]);
        told.take(12, "cd", 0).take(12, "cd", 0);
        told.says(&["ab", "gap 2", "ef", "late cd", "again cd"]);
    }

    #[test]
    fn a_gap_is_stepped_over_when_too_much_waits() {
        let long = "x".repeat(MAX_WAITING);
        let mut told = Told::default();
        told.take(10, "ab", 0).take(14, &long, 0).says(&["ab"]);
        told.take(14 + MAX_WAITING as u32, "y", 0).says(&["ab", "gap 2", &long, "y"]);
        let mut many = Told::default();
        many.take(0, "a", 0);
        (0..MAX_WAITING_SEGMENTS as u32).for_each(|n| {
            many.take(10 + 2 * n, "b", 0);
        });
        assert_eq!(many.1.len(), 1);
        many.take(500, "c", 0);
        assert_eq!(many.1[1], "gap 9");
    }

    #[test]
    fn what_the_capture_cut_off_counts() {
        Told::default().take(10, "ab", 3).take(15, "f", 0).says(&["ab", "f"]);
        Told::default().take(10, "", 3).take(13, "d", 0).says(&["", "d"]);
    }

    #[test]
    fn what_comes_before_the_first_is_late() {
        Told::default().take(10, "ab", 0).take(8, "xy", 0).take(8, "xy", 0).says(&["ab", "late xy", "again xy"]);
    }

    #[test]
    fn the_end_tells_what_waits() {
        let mut told = Told::default();
        told.take(10, "ab", 0).take(14, "ef", 0).take(20, "kl", 0);
        let Told(stream, words_told) = &mut told;
        stream.finish(&mut |heard| words_told.push(words(&heard)));
        told.says(&["ab", "gap 2", "ef", "gap 4", "kl"]);
    }
}
