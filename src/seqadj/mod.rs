//! By how much a TCP stream has shifted where, and how numbers of one side read on the other
//! (`nf_conntrack_seqadj`).
//!
//! When text in a stream is replaced by longer or shorter text, everything behind it moves: the sender's sequence
//! numbers have to be shifted as they leave, and the receiver's acknowledgements back as they return.
//!
//! ```
//! use ftp_conntrack::SequenceNumber;
//! use ftp_conntrack::seqadj::Shift;
//!
//! // A PORT command of 19 bytes at 1000 became 22 bytes long.
//! let mut shift = Shift::default();
//! shift.register(SequenceNumber(1000), 3);
//!
//! assert_eq!(shift.outgoing(SequenceNumber(1000)), SequenceNumber(1000)); // the command itself, sent again
//! assert_eq!(shift.outgoing(SequenceNumber(1019)), SequenceNumber(1022)); // what follows it
//! assert_eq!(shift.returning(SequenceNumber(1022)), SequenceNumber(1019)); // acknowledged by the other side
//! assert_eq!(shift.returning(SequenceNumber(1000)), SequenceNumber(1000));
//! ```

#[cfg(feature = "alloc")]
mod history;

#[cfg(feature = "alloc")]
pub use history::{Edit, History, OutOfOrder};

use crate::SequenceNumber;

/// Shift of one direction of a stream: one correction, as Linux keeps it.
///
/// Numbers up to and including the correction position move by `offset_before`, those after it by `offset_after`.
/// The position is the first byte of the packet whose text was replaced, so that this packet, when it is sent
/// again, keeps its own number.
///
/// A second correction makes the first one history: with (1000, 0, 3) and then 2 more bytes at 2000, the state is
/// (2000, 3, 5):
///
/// | number | outgoing | returning |
/// |---|---|---|
/// | 2000 | 2003 | – |
/// | 2019 | 2024 | – |
/// | 2003 | – | 2000 |
/// | 2024 | – | 2019 |
/// | 1000, late | 1003: wrong, and so in Linux | – |
///
/// An acknowledgement that lands inside the replaced text reads as if it were behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    correction_position: SequenceNumber,
    offset_before: i32,
    offset_after: i32,
}

impl Shift {
    /// Notes that the packet that begins at `sequence` (in its sender's numbers) grew by `growth` bytes.
    ///
    /// The same packet sent again is not counted twice, even if it now grows by another amount: Linux then loses the
    /// stream.
    pub fn register(&mut self, sequence: SequenceNumber, growth: i32) {
        if self.offset_before == self.offset_after || self.correction_position.before(sequence) {
            self.correction_position = sequence;
            self.offset_before = self.offset_after;
            self.offset_after = self.offset_after.wrapping_add(growth);
        }
    }

    /// A stream that has shifted by so many bytes before anybody looked.
    #[must_use]
    pub const fn by(growth: i32) -> Self {
        Self { correction_position: SequenceNumber(0), offset_before: growth, offset_after: growth }
    }

    /// By how much the byte at `sequence` (in its sender's numbers) moves.
    #[inline]
    #[must_use]
    pub const fn offset_at(&self, sequence: SequenceNumber) -> i32 {
        if sequence.after(self.correction_position) { self.offset_after } else { self.offset_before }
    }

    /// A sequence number of the sender, as the other side is to read it.
    #[inline]
    #[must_use]
    pub const fn outgoing(&self, sequence: SequenceNumber) -> SequenceNumber {
        sequence.shifted(self.offset_at(sequence))
    }

    /// An acknowledgement (or an edge of a SACK block) of the other side, as the sender is to read it.
    #[inline]
    #[must_use]
    pub const fn returning(&self, acknowledgement: SequenceNumber) -> SequenceNumber {
        let unshifted = acknowledgement.shifted(self.offset_before.wrapping_neg());
        acknowledgement.shifted(self.offset_at(unshifted).wrapping_neg())
    }

    /// The packet after which the stream is shifted by [`Shift::offset_after`].
    #[must_use]
    pub const fn correction_position(&self) -> SequenceNumber {
        self.correction_position
    }

    /// By how much numbers up to the correction position move.
    #[must_use]
    pub const fn offset_before(&self) -> i32 {
        self.offset_before
    }

    /// By how much numbers after the correction position move.
    #[must_use]
    pub const fn offset_after(&self) -> i32 {
        self.offset_after
    }
}

/// Shifts of both directions of a connection.
///
/// This is the place where the two behaviours keep different histories: whoever asks names the direction whose
/// *sender* the numbers belong to, and does not see what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjustment {
    shifts: [Shift; 2],
}

impl Adjustment {
    /// Notes that a packet of `direction` grew; see [`Shift::register`].
    pub fn register(&mut self, direction: usize, sequence: SequenceNumber, growth: i32) {
        if let Some(shift) = self.shifts.get_mut(direction) {
            shift.register(sequence, growth);
        }
    }

    /// Begins anew with streams that have grown by so much, by direction of the sender.
    pub fn start_with(&mut self, growth: [i32; 2]) {
        self.shifts = growth.map(Shift::by);
    }

    /// A sequence number of the sender of `direction`, as the other side is to read it.
    #[inline]
    #[must_use]
    pub fn outgoing(&self, direction: usize, sequence: SequenceNumber) -> SequenceNumber {
        self.shifts.get(direction).map_or(sequence, |shift| shift.outgoing(sequence))
    }

    /// A number that acknowledges what the sender of `direction` sent, as that sender is to read it.
    #[inline]
    #[must_use]
    pub fn returning(&self, direction: usize, acknowledgement: SequenceNumber) -> SequenceNumber {
        self.shifts.get(direction).map_or(acknowledgement, |shift| shift.returning(acknowledgement))
    }

    /// By how much the stream of `direction` has shifted at what is acknowledged, as window tracking reckons: at the
    /// number before it, and without taking the shift off first.
    #[inline]
    #[must_use]
    pub fn window_shift(&self, direction: usize, acknowledgement: SequenceNumber) -> i32 {
        self.shifts.get(direction).map_or(0, |shift| shift.offset_at(acknowledgement - 1))
    }

    /// Returns what is kept of one direction.
    #[must_use]
    pub fn shift(&self, direction: usize) -> Option<&Shift> {
        self.shifts.get(direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u32) -> SequenceNumber {
        SequenceNumber(number)
    }

    #[test]
    fn two_corrections() {
        let mut shift = Shift::default();
        shift.register(n(1000), 3);
        assert_eq!((shift.returning(n(1001)), shift.returning(n(1003))), (n(998), n(1000)));
        shift.register(n(2000), 2);
        assert_eq!((shift.outgoing(n(2000)), shift.outgoing(n(2019))), (n(2003), n(2024)));
        assert_eq!((shift.returning(n(2003)), shift.returning(n(2024))), (n(2000), n(2019)));
        assert_eq!(shift.outgoing(n(1000)), n(1003));
    }

    #[test]
    fn a_retransmission_does_not_accumulate() {
        let mut shift = Shift::default();
        shift.register(n(5000), 2);
        shift.register(n(5000), 2);
        assert_eq!((shift.offset_before(), shift.offset_after()), (0, 2));
    }

    #[test]
    fn shrinking_and_wrapping() {
        let mut shift = Shift::default();
        shift.register(n(u32::MAX - 5), -3);
        assert_eq!(shift.outgoing(n(14)), n(11));
        assert_eq!(shift.returning(n(11)), n(14));
        shift.register(n(100), 3);
        assert_eq!((shift.offset_before(), shift.offset_after()), (-3, 0));
        assert_eq!(shift.outgoing(n(120)), n(120));
    }
}
