//! Every replacement of a stream that may still be asked for.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::SequenceNumber;

/// A stretch of a stream that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<T> {
    /// The first byte that was replaced, in its sender's numbers.
    pub start: SequenceNumber,
    /// Number of bytes were replaced.
    pub removed: u32,
    /// The replacement.
    pub inserted: T,
    /// By how much the stream had shifted before it.
    shift: i32,
}

impl<T: AsRef<[u8]>> Edit<T> {
    /// The first byte after what was replaced, in its sender's numbers.
    pub fn end(&self) -> SequenceNumber {
        self.start + self.removed
    }

    /// Returns true if the byte at `position` and those behind it leave without it. What was put in between two bytes
    /// leaves with the second.
    fn lies_before(&self, position: SequenceNumber) -> bool {
        self.start.before(position) && !self.end().after(position)
    }

    /// By how much the stream has shifted after it.
    fn shift_after(&self) -> i32 {
        self.shift.wrapping_add(self.inserted().len() as i32).wrapping_sub(self.removed as i32)
    }

    fn inserted(&self) -> &[u8] {
        self.inserted.as_ref()
    }

    /// Returns the start of the replacement, in the other side's numbers.
    fn start_outside(&self) -> SequenceNumber {
        self.start.shifted(self.shift)
    }

    /// Returns the end of the replacement, in the other side's numbers.
    fn end_outside(&self) -> SequenceNumber {
        self.end().shifted(self.shift_after())
    }
}

/// Shifts of one direction of a stream: every replacement, so that what is sent again, in whatever pieces, leaves
/// with the numbers and the bytes that it had the first time. [`Shift`](super::Shift) knows one.
///
/// A position inside a replaced stretch is that stretch's beginning, on either side: there is no other that both sides
/// have. So a segment that ends inside one leaves without the part of it, and the segment that brings its last byte
/// leaves with the whole replacement.
///
/// Worked example. The command `PORT 10,0,0,5,4,210` CR LF begins at 1000; its 14 bytes from 1005 became the 18 of
/// `203,0,113,11,4,210`. The next command is at 1021:
///
/// | segment of the sender | leaves as |
/// |---|---|
/// | 1000..1021, all of it | 1000..1025 |
/// | 1000..1012, `PORT 10,0,0` | 1000..1005, `PORT ` |
/// | 1012..1021, `,5,4,210` CR LF | 1005..1025, the whole replacement, CR LF |
/// | 1021.. | 1025.. |
///
/// | acknowledged | as the sender reads it |
/// |---|---|
/// | 1005 | 1005 |
/// | 1010, inside | 1005: none of it |
/// | 1023 | 1019 |
/// | 1025 | 1021 |
///
/// ```
/// use ftp_conntrack::SequenceNumber;
/// use ftp_conntrack::seqadj::History;
///
/// let mut history = History::new(8);
/// history.replace(SequenceNumber(1005), 14, "203,0,113,11,4,210")?;
/// history.replace(SequenceNumber(2005), 14, "203,0,113,11,4,211")?;
/// assert_eq!(history.outgoing(SequenceNumber(1000)), SequenceNumber(1000));
/// assert_eq!(history.outgoing(SequenceNumber(1021)), SequenceNumber(1025));
/// assert_eq!(history.outgoing(SequenceNumber(2021)), SequenceNumber(2029));
/// assert_eq!(history.returning(SequenceNumber(2029)), SequenceNumber(2021));
///
/// // The first command once more, from its fourth byte: bytes 2..16 of these 18 are replaced.
/// let edits: Vec<_> = history.within(SequenceNumber(1003), 18).collect();
/// assert_eq!(edits, [(2..16, &b"203,0,113,11,4,210"[..])]);
/// # Ok::<(), ftp_conntrack::seqadj::OutOfOrder>(())
/// ```
#[derive(Clone, Debug)]
pub struct History<T> {
    edits: VecDeque<Edit<T>>,
    most: usize,
    /// By how much the stream has shifted before the oldest replacement.
    shift: i32,
}

/// A replacement that begins before the end of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct OutOfOrder;

impl core::fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the replacement begins before the end of an earlier one")
    }
}

impl core::error::Error for OutOfOrder {}

impl<T: AsRef<[u8]>> History<T> {
    /// No replacement yet, and memory for `most` of them; beyond that the oldest are forgotten, as by
    /// [`forget`](Self::forget).
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { edits: VecDeque::with_capacity(most), most, shift: 0 }
    }

    /// The same, its memory taken as replacements come.
    #[must_use]
    pub fn growing(most: usize) -> Self {
        Self { edits: VecDeque::new(), most, shift: 0 }
    }

    /// Notes that `removed` bytes from `start`, in their sender's numbers, leave as `inserted`.
    ///
    /// # Errors
    /// When they begin before the end of what was replaced last; nothing is changed then.
    pub fn replace(&mut self, start: SequenceNumber, removed: u32, inserted: T) -> Result<(), OutOfOrder> {
        let shift = match self.edits.back() {
            Some(last) if start.before(last.end()) => return Err(OutOfOrder),
            Some(last) => last.shift_after(),
            None => self.shift,
        };
        if self.edits.len() >= self.most {
            self.forget_oldest();
        }
        self.edits.push_back(Edit { start, removed, inserted, shift });
        Ok(())
    }

    /// Returns how many more replacements can be noted before one is forgotten.
    #[must_use]
    pub fn room(&self) -> usize {
        self.most.saturating_sub(self.edits.len())
    }

    /// Removes `more` further bytes from `start` on, if the last replacement ends there and removes bytes without
    /// inserting any. Returns true if it does.
    pub fn extend(&mut self, start: SequenceNumber, more: u32) -> bool {
        let last = self.edits.back_mut().filter(|last| last.end() == start && last.inserted().is_empty());
        last.map(|last| last.removed = last.removed.saturating_add(more)).is_some()
    }

    /// Returns the position after the bytes at `position` that were removed without replacement. The receiver has them as
    /// soon as it has what stands before them.
    #[must_use]
    pub fn skip_removed(&self, mut position: SequenceNumber) -> SequenceNumber {
        for edit in self.edits.iter().filter(|edit| edit.inserted().is_empty()) {
            if edit.start == position {
                position = edit.end();
            }
        }
        position
    }

    /// Forgets everything: no byte was replaced.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.shift = 0;
    }

    /// Forgets the replacements that end at or before `acknowledged`, a number that the sender reads: it will not send
    /// them again. Positions before them count as shifted as much as those behind them from now on.
    pub fn forget(&mut self, acknowledged: SequenceNumber) {
        while self.edits.front().is_some_and(|edit| edit.lies_before(acknowledged)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.edits.pop_front() {
            self.shift = oldest.shift_after();
        }
    }

    /// Returns true if nothing is remembered.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.edits.is_empty()
    }

    /// Returns what is remembered, in the order of the stream.
    #[must_use]
    pub fn edits(&self) -> impl DoubleEndedIterator<Item = &Edit<T>> {
        self.edits.iter()
    }

    /// A position of the sender, as the other side is to read it: a sequence number, or, where the capture or the
    /// packet is on the sender's side, an acknowledgement.
    #[must_use]
    pub fn outgoing(&self, position: SequenceNumber) -> SequenceNumber {
        match self.before(|edit| edit.start.before(position)) {
            Some(edit) if position.before(edit.end()) => edit.start_outside(),
            Some(edit) => position.shifted(edit.shift_after()),
            None => position.shifted(self.shift),
        }
    }

    /// A position of the other side's, an acknowledgement or an edge of a SACK block, as the sender is to read it.
    #[must_use]
    pub fn returning(&self, position: SequenceNumber) -> SequenceNumber {
        match self.before(|edit| edit.start_outside().before(position)) {
            Some(edit) if position.before(edit.end_outside()) => edit.start,
            Some(edit) => position.shifted(edit.shift_after().wrapping_neg()),
            None => position.shifted(self.shift.wrapping_neg()),
        }
    }

    /// As [`returning`](Self::returning), but a position inside a replacement is its end: where the first byte behind
    /// it is that the other side has.
    #[must_use]
    pub fn returning_end(&self, position: SequenceNumber) -> SequenceNumber {
        match self.before(|edit| edit.start_outside().before(position)) {
            Some(edit) if position.before(edit.end_outside()) => edit.end(),
            _ => self.returning(position),
        }
    }

    /// The last edit of those at the beginning for which `is_before` holds.
    fn before(&self, is_before: impl Fn(&Edit<T>) -> bool) -> Option<&Edit<T>> {
        self.edits.partition_point(is_before).checked_sub(1).and_then(|last| self.edits.get(last))
    }

    /// Returns what of `len` bytes from `start`, in their sender's numbers, leaves otherwise: stretches of them,
    /// counted from the first, and what takes the place of each. Whoever replaces them from the last to the first need
    /// not count anew.
    #[must_use]
    pub fn within(
        &self,
        start: SequenceNumber,
        len: usize,
    ) -> impl DoubleEndedIterator<Item = (Range<usize>, &[u8])> + '_ {
        let end = start + len as u32;
        let from = self.edits.partition_point(|edit| edit.lies_before(start));
        let to = self.edits.partition_point(|edit| edit.start.before(end)).max(from);
        self.edits.range(from..to).map(move |edit| {
            let stretch = edit.start.since(start).max(0) as usize..(edit.end().since(start) as usize).min(len);
            let ends_here = !edit.end().after(end);
            (stretch, if ends_here { edit.inserted() } else { &[] })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn n(number: u32) -> SequenceNumber {
        SequenceNumber(number)
    }

    #[test]
    fn what_is_put_in_between_leaves_with_what_follows() {
        let mut history = History::new(4);
        history.replace(n(1000), 1, "one").unwrap();
        history.replace(n(1001), 0, "two").unwrap();
        assert_eq!(history.within(n(1001), 5).collect::<Vec<_>>(), [(0..0, &b"two"[..])]);
        assert_eq!(history.within(n(1000), 1).collect::<Vec<_>>(), [(0..1, &b"one"[..])]);
        assert_eq!([1001, 1002].map(|at| history.outgoing(n(at)).0), [1003, 1007]);
        history.forget(n(1001));
        assert_eq!(history.within(n(1001), 5).count(), 1);
    }

    /// As in the worked example.
    fn example() -> History<&'static str> {
        let mut history = History::new(4);
        history.replace(n(1005), 14, "203,0,113,11,4,210").unwrap();
        history
    }

    #[test]
    fn the_worked_example() {
        let history = example();
        for (ours, theirs) in [(1000, 1000), (1005, 1005), (1012, 1005), (1018, 1005), (1019, 1023), (1021, 1025)] {
            assert_eq!(history.outgoing(n(ours)), n(theirs), "{ours}");
        }
        for (theirs, ours) in [(1000, 1000), (1005, 1005), (1010, 1005), (1022, 1005), (1023, 1019), (1025, 1021)] {
            assert_eq!(history.returning(n(theirs)), n(ours), "{theirs}");
        }
        let within = |start, len| history.within(n(start), len).collect::<Vec<_>>();
        assert_eq!(within(1000, 12), [(5..12, &b""[..])]);
        assert_eq!(within(1012, 9), [(0..7, &b"203,0,113,11,4,210"[..])]);
        assert_eq!(within(1019, 2), []);
        assert_eq!(within(1000, 5), []);
        assert_eq!(within(1008, 2), [(0..2, &b""[..])]);
    }

    #[test]
    fn the_ends_of_what_is_there_in_part() {
        let history = example();
        for (theirs, ours) in [(1004, 1004), (1005, 1005), (1006, 1019), (1022, 1019), (1023, 1019), (1024, 1020)] {
            assert_eq!(history.returning_end(n(theirs)), n(ours), "{theirs}");
        }
    }

    #[test]
    fn a_removal_can_be_extended() {
        let mut history = example();
        assert!(!history.extend(n(1019), 2), "it inserts something");
        history.replace(n(1019), 1, "").unwrap();
        assert!(!history.extend(n(1019), 2) && history.extend(n(1020), 1), "only where it ends");
        assert_eq!(history.outgoing(n(1021)), n(1023));
        assert_eq!([1005, 1019, 1021].map(|at| history.skip_removed(n(at)).0), [1005, 1021, 1021]);
        assert_eq!(history.room(), 2);
        history.clear();
        assert_eq!((history.outgoing(n(1021)), history.edits().count()), (n(1021), 0));
    }

    #[test]
    fn what_overlaps_an_earlier_one_is_refused() {
        let mut history = example();
        assert_eq!(history.replace(n(1018), 3, "x"), Err(OutOfOrder));
        assert_eq!(history.replace(n(900), 3, "x"), Err(OutOfOrder));
        assert_eq!(history.replace(n(1019), 2, ""), Ok(()));
        assert_eq!(history.outgoing(n(1021)), n(1023));
    }

    #[test]
    fn what_is_forgotten_shifts_all_the_same() {
        let mut history = example();
        history.replace(n(1025), 4, "abcdefgh").unwrap();
        history.forget(n(1018));
        assert_eq!(history.edits().count(), 2);
        history.forget(n(1019));
        assert_eq!(history.edits().count(), 1);
        assert_eq!(history.outgoing(n(1021)), n(1025));
        assert_eq!(history.outgoing(n(1030)), n(1038));
        history.forget(n(2000));
        assert_eq!((history.outgoing(n(2000)), history.returning(n(2008))), (n(2008), n(2000)));
    }

    #[test]
    fn no_more_than_the_given_number_is_kept() {
        let mut history = History::new(2);
        for i in 0..5 {
            history.replace(n(i * 10), 1, "ab").unwrap();
        }
        assert_eq!(history.edits().map(|edit| edit.start).collect::<Vec<_>>(), [n(30), n(40)]);
        assert_eq!((history.outgoing(n(30)), history.outgoing(n(41))), (n(33), n(46)));
    }

    /// A stream, and stretches of it with what replaces them: gap before, bytes removed, bytes inserted.
    fn edited() -> impl Strategy<Value = (u32, Vec<(u32, u32, Vec<u8>)>)> {
        let edit = (0..20u32, 1..12u32, proptest::collection::vec(any::<u8>(), 0..16));
        (any::<u32>(), proptest::collection::vec(edit, 0..6))
    }

    proptest! {
        /// Whatever the segments: those that leave, put together, are the stream with its stretches replaced.
        #[test]
        fn any_segmentation_gives_the_same_far_stream(
            (first, edits) in edited(),
            cuts in proptest::collection::vec((0..200usize, 0..60usize), 0..20),
        ) {
            let first = n(first);
            let mut history = History::new(8);
            let (mut near, mut far) = (Vec::new(), Vec::new());
            for (i, (gap, removed, inserted)) in edits.into_iter().enumerate() {
                let kept = (0..gap).map(|j| (i as u32 * 31 + j) as u8).collect::<Vec<_>>();
                near.extend(&kept);
                far.extend(&kept);
                history.replace(first + near.len() as u32, removed, inserted.clone()).unwrap();
                near.resize(near.len() + removed as usize, 0xee);
                far.extend(inserted);
            }
            near.extend(b"end");
            far.extend(b"end");
            let whole = core::iter::once((0, near.len()));
            for (from, len) in cuts.into_iter().chain(whole) {
                let from = from.min(near.len());
                let to = (from + len).min(near.len());
                let mut segment = near[from..to].to_vec();
                let start = first + from as u32;
                for (stretch, inserted) in history.within(start, segment.len()).rev() {
                    segment.splice(stretch, inserted.iter().copied());
                }
                let at = history.outgoing(start).since(first) as usize;
                prop_assert_eq!(&segment[..], &far[at..at + segment.len()]);
                let end = history.outgoing(first + to as u32).since(first) as usize;
                prop_assert_eq!(end, at + segment.len());
            }
        }

        /// Returns what is not inside a replaced stretch goes out and comes back.
        #[test]
        fn positions_go_out_and_come_back((first, edits) in edited(), position in 0..200u32) {
            let mut history = History::new(8);
            let mut at = n(first);
            for (gap, removed, inserted) in edits {
                history.replace(at + gap, removed, inserted).unwrap();
                at = at + gap + removed;
            }
            let position = n(first) + position;
            let back = history.returning(history.outgoing(position));
            let inside = history.edits().find(|e| position.after(e.start) && position.before(e.end()));
            let start = inside.map_or(position, |edit| edit.start);
            // An empty replacement makes several positions one outside.
            if history.edits().all(|edit| !edit.inserted.is_empty()) {
                prop_assert_eq!(back, start);
            } else {
                prop_assert_eq!(history.outgoing(back), history.outgoing(position));
            }
        }
    }
}
