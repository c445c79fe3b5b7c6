//! The buffer a packet lives in.

use core::fmt;
use core::ops::Range;

/// A network packet in the caller's buffer, with room around it, and its firewall mark.
///
/// Room before it may hold the link header and takes the outer header of a tunnel; room after it takes text that
/// grows. [`Packet::ROOM`] bytes behind the packet are enough for whatever FTP rewriting asks.
#[derive(Debug)]
pub struct Packet<'b> {
    buffer: &'b mut [u8],
    /// `start..end` always lies in the buffer: nothing that the network sends moves them past its ends.
    start: usize,
    end: usize,
    /// The firewall mark (`skb->mark`): set by the caller or by rules, read by rules and by the caller's routing.
    pub mark: u32,
    /// Length of the longest segment in bytes, IP header included, of a train of TCP segments in one packet.
    segment_len: Option<usize>,
    /// True if its TCP or UDP checksum is only the pseudo-header's sum: a network card fills in the rest.
    leaves_checksum: bool,
}

impl<'b> Packet<'b> {
    /// Tail room with which no packet is ever refused for want of room.
    pub const ROOM: usize = 80;

    /// The packet that stands at `range` of `buffer`.
    ///
    /// # Errors
    /// When the range is not inside the buffer.
    pub fn new(buffer: &'b mut [u8], range: Range<usize>) -> Result<Self, BadRange> {
        if range.start > range.end || range.end > buffer.len() {
            return Err(BadRange);
        }
        Ok(Self { buffer, start: range.start, end: range.end, mark: 0, segment_len: None, leaves_checksum: false })
    }

    /// The packet, from its IP header to its end.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The packet, to be changed in place.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Marks the packet as a train of TCP segments, which the card or the kernel merged as they arrived or will cut as
    /// they leave (GRO, TSO, GSO). The longest of them has this many bytes, IP header included. A train is sent on
    /// whole if that fits the MTU.
    #[must_use]
    pub const fn with_segments_of(mut self, longest: usize) -> Self {
        self.segment_len = Some(longest);
        self
    }

    /// Marks the packet as one whose TCP or UDP checksum is only the sum of the pseudo-header. The sender is this machine or
    /// its neighbour on a virtual link, and a network card fills in the rest (`CHECKSUM_PARTIAL`). The packet leaves so,
    /// with the pseudo-header of its translated addresses.
    #[must_use]
    pub const fn with_checksum_left_to_device(mut self) -> Self {
        self.leaves_checksum = true;
        self
    }

    /// True if a network card is to fill in the TCP or UDP checksum.
    #[inline]
    pub const fn checksum_is_left_to_device(&self) -> bool {
        self.leaves_checksum
    }

    /// Returns the number of bytes, IP header included, of the longest packet that it becomes on a link.
    #[inline]
    #[must_use]
    pub fn len_on_link(&self) -> usize {
        let len = self.end - self.start;
        self.segment_len.map_or(len, |segment| segment.min(len))
    }

    /// Returns the range of the packet in the buffer.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Bytes free before the packet.
    #[must_use]
    pub const fn head_room(&self) -> usize {
        self.start
    }

    /// Bytes free behind the packet.
    #[inline]
    #[must_use]
    pub const fn tail_room(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Cuts what stands behind the first `len` bytes: link-layer padding.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }

    /// Puts a header before the packet: where there is room before it, else by moving the packet into the room behind
    /// it. False when there is neither.
    #[cfg(feature = "alloc")]
    pub(crate) fn prepend(&mut self, header: &[u8]) -> bool {
        let len = header.len();
        if self.start >= len {
            self.start -= len;
        } else if self.tail_room() >= len {
            self.buffer.copy_within(self.start..self.end, self.start + len);
            self.end += len;
        } else {
            return false;
        }
        let place = self.buffer.get_mut(self.start..self.start + len);
        place.map(|place| place.copy_from_slice(header)).is_some()
    }

    /// Replaces `old` (relative to the packet's start) by `new`, moving what follows. The caller has looked that the
    /// range is in the packet and that there is room; otherwise nothing is changed.
    pub(super) fn splice(&mut self, old: Range<usize>, new: &[u8]) {
        let growth = new.len().saturating_sub(old.len());
        if old.start > old.end || old.end > self.end - self.start || growth > self.tail_room() {
            return;
        }
        let from = self.start + old.end;
        let to = self.start + old.start + new.len();
        self.buffer.copy_within(from..self.end, to);
        if let Some(text) = self.buffer.get_mut(self.start + old.start..to) {
            text.copy_from_slice(new);
        }
        self.end = self.end - old.len() + new.len();
    }
}

/// A packet's place is not inside its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct BadRange;

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet's place is not inside its buffer")
    }
}

impl core::error::Error for BadRange {}

/// The reason why a stretch of payload was not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplaceError {
    /// This many bytes of room are wanted behind the packet.
    NeedsRoom(usize),
    /// The range is not in the payload of a TCP packet.
    NotInPayload,
    /// The packet would be longer than its length field can say.
    TooLong,
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsRoom(bytes) => write!(f, "the packet needs {bytes} bytes of room behind it"),
            Self::NotInPayload => f.write_str("the range is not in the payload of a TCP packet"),
            Self::TooLong => f.write_str("the packet would be longer than 65535 bytes"),
        }
    }
}

impl core::error::Error for ReplaceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "alloc")]
    #[test]
    fn a_header_goes_before_the_packet() {
        let mut buffer = *b"..packet....";
        let mut packet = Packet::new(&mut buffer, 2..8).unwrap();
        assert!(packet.prepend(b"a:"));
        assert_eq!((packet.bytes(), packet.head_room(), packet.tail_room()), (&b"a:packet"[..], 0, 4));
        // Without room before it, it moves.
        assert!(packet.prepend(b"to:"));
        assert_eq!((packet.bytes(), packet.tail_room()), (&b"to:a:packet"[..], 1));
        assert!(!packet.prepend(b"no"));
        assert_eq!(packet.bytes(), b"to:a:packet");
    }

    #[test]
    fn a_train_is_as_long_as_its_longest_segment() {
        let mut buffer = [0; 100];
        let packet = Packet::new(&mut buffer, 0..90).unwrap();
        assert_eq!(packet.len_on_link(), 90);
        let packet = packet.with_segments_of(60);
        assert_eq!((packet.len_on_link(), packet.bytes().len()), (60, 90));
        let packet = packet.with_segments_of(95);
        assert_eq!(packet.len_on_link(), 90);
    }

    #[test]
    fn splice_moves_the_tail_both_ways() {
        let mut buffer = *b"..abcdef....";
        let mut packet = Packet::new(&mut buffer, 2..8).unwrap();
        packet.splice(1..3, b"WXYZ");
        assert_eq!(packet.bytes(), b"aWXYZdef");
        packet.splice(1..5, b"");
        assert_eq!(packet.bytes(), b"adef");
        assert_eq!(packet.head_room(), 2);
        assert_eq!(packet.tail_room(), 6);
    }

    #[test]
    fn splice_without_room_changes_nothing() {
        let mut buffer = *b"abcd.";
        let mut packet = Packet::new(&mut buffer, 0..4).unwrap();
        packet.splice(1..2, b"wxyz");
        packet.splice(3..9, b"");
        assert_eq!(packet.bytes(), b"abcd");
        packet.truncate(usize::MAX);
        assert_eq!(packet.bytes(), b"abcd");
        assert!(Packet::new(&mut [0; 4], 2..5).is_err());
    }
}
