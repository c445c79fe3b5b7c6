//! TCP sequence numbers.

use core::fmt;

/// A TCP sequence or acknowledgement number: 32 bits that wrap, compared by serial arithmetic
/// (RFC 1982; RFC 9293 section 3.4).
///
/// There is deliberately no `Ord`: "before" is no total order on a circle.
///
/// ```
/// use ftp_conntrack::SequenceNumber;
///
/// let last = SequenceNumber(u32::MAX);
/// assert!(last.before(last + 1));
/// assert_eq!((last + 1).since(last), 1);
/// assert!(!last.before(last) && !last.after(last));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct SequenceNumber(pub u32);

impl SequenceNumber {
    /// Returns true if this number comes strictly before `other`.
    #[inline]
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Returns true if this number comes strictly after `other`.
    #[inline]
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Returns the number of bytes this number is ahead of `earlier`; negative when it is behind.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// This number moved by `offset` bytes, forward or back.
    #[inline]
    #[must_use]
    pub const fn shifted(self, offset: i32) -> Self {
        Self(self.0.wrapping_add(offset as u32))
    }

    /// The later of two numbers.
    #[inline]
    #[must_use]
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

impl core::ops::Add<u32> for SequenceNumber {
    type Output = Self;

    #[inline]
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl core::ops::Sub<u32> for SequenceNumber {
    type Output = Self;

    #[inline]
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let n = SequenceNumber(0xffff_fff0);
        assert!(n.before(n + 0x20));
        assert!((n + 0x20).after(n));
        assert_eq!((n + 0x20).since(n), 0x20);
        assert_eq!(n.since(n + 0x20), -0x20);
        assert_eq!(n.shifted(-3), SequenceNumber(0xffff_ffed));
        assert_eq!(n.later(n + 0x20), n + 0x20);
    }

    #[test]
    fn half_way_round_is_before() {
        // (signed)(a - b) is i32::MIN both ways, so each is before the other; Linux decides so too.
        let n = SequenceNumber(5);
        assert!(n.before(n + (1 << 31)));
        assert!((n + (1 << 31)).before(n));
    }
}
