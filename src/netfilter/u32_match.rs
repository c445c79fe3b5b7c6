//! `-m u32`: numbers anywhere in a packet, by a small program.

use alloc::vec::Vec;

/// One test of a program: a number of the packet is in one of the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct U32Test {
    /// Offset of the first number, in bytes from the IP header.
    pub start: u32,
    /// Steps that are applied to it.
    pub steps: Vec<U32Step>,
    /// Ranges, both ends included.
    pub ranges: Vec<(u32, u32)>,
}

/// A step applied to a number of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum U32Step {
    /// `&`: the bits that both have.
    And(u32),
    /// `<<`.
    ShiftLeft(u32),
    /// `>>`.
    ShiftRight(u32),
    /// `@`: the number moves the start, and another number is read so many bytes after it.
    Move(u32),
}

impl U32Test {
    /// Returns true if the number is in a range; false if the packet is too short for it.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        let Some(value) = self.value(bytes) else { return false };
        self.ranges.iter().any(|(first, last)| *first <= value && value <= *last)
    }

    fn value(&self, bytes: &[u8]) -> Option<u32> {
        let read = |at: u64| -> Option<u32> {
            let word = bytes.get(usize::try_from(at).ok()?..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*word))
        };
        let mut start: u64 = 0;
        let mut value = read(self.start.into())?;
        for step in &self.steps {
            value = match *step {
                U32Step::And(bits) => value & bits,
                U32Step::ShiftLeft(bits) => value.checked_shl(bits).unwrap_or(0),
                U32Step::ShiftRight(bits) => value.checked_shr(bits).unwrap_or(0),
                U32Step::Move(offset) => {
                    start = start.saturating_add(value.into());
                    read(start.saturating_add(offset.into()))?
                }
            };
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn numbers_are_read_behind_headers() {
        // 0 >> 22 & 0x3C @ 0 >> 24 = 0: the ICMP type after an IPv4 header.
        let steps = vec![U32Step::ShiftRight(22), U32Step::And(0x3c), U32Step::Move(0), U32Step::ShiftRight(24)];
        let test = U32Test { start: 0, steps, ranges: vec![(0, 0), (8, 8)] };
        let mut packet = [0u8; 28];
        packet[0] = 0x45;
        for (kind, holds) in [(0, true), (8, true), (3, false)] {
            packet[20] = kind;
            assert_eq!(test.holds(&packet), holds);
        }
        assert!(!test.holds(&packet[..22]));
    }
}
