//! An interface's ticks as time.

use crate::Instant;

/// A moment, to the nanosecond.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) time: Instant,
    /// Nanoseconds past `time`, 0 to 999.
    pub(super) nanos: u32,
}

impl Stamp {
    /// The Unix epoch.
    pub(super) const fn epoch() -> Self {
        Self { time: Instant::from_micros(0), nanos: 0 }
    }

    /// The moment `nanos` nanoseconds after the Unix epoch; where that does not fit, the last or first moment that
    /// does. [`Instant::NEVER`] is left out, it is no moment.
    pub(super) fn from_nanos(nanos: i128) -> Self {
        let latest = i128::from(i64::MAX) - 1;
        let micros = nanos.div_euclid(1000).clamp(i128::from(i64::MIN), latest);
        Self { time: Instant::from_micros(micros as i64), nanos: nanos.rem_euclid(1000) as u32 }
    }
}

/// The resolution and offset of an interface's timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clock {
    /// `if_tsresol`: ticks of 10^-n seconds, or of 2^-n when bit 7 is set; n is the other bits.
    pub(super) resolution: u8,
    /// `if_tsoffset`: seconds to be added.
    pub(super) offset: i64,
}

impl Clock {
    /// The clock without options: microseconds from the Unix epoch.
    pub(super) const DEFAULT: Self = Self { resolution: 6, offset: 0 };

    /// The moment `ticks` after this clock's zero.
    pub(super) fn stamp(self, ticks: u64) -> Stamp {
        let since_zero = i128::from(ticks) * 1_000_000_000;
        let nanos = match self.exponent() {
            // Twice 64 bits: a tick this short needs more ticks for a nanosecond than there are.
            (Base::Ten, n) => 10_i128.checked_pow(n).map_or(0, |per_second| since_zero / per_second),
            (Base::Two, n) => since_zero >> n,
        };
        Stamp::from_nanos(i128::from(self.offset) * 1_000_000_000 + nanos)
    }

    /// Returns true if a tick is shorter than a microsecond.
    pub(super) fn finer_than_micros(self) -> bool {
        match self.exponent() {
            (Base::Ten, n) => n > 6,
            (Base::Two, n) => n > 19,
        }
    }

    fn exponent(self) -> (Base, u32) {
        let base = if self.resolution & 0x80 == 0 { Base::Ten } else { Base::Two };
        (base, u32::from(self.resolution & 0x7f))
    }
}

enum Base {
    Ten,
    Two,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(resolution: u8, offset: i64, ticks: u64) -> (i64, u32) {
        let stamp = Clock { resolution, offset }.stamp(ticks);
        (stamp.time.micros(), stamp.nanos)
    }

    #[test]
    fn powers_of_ten() {
        assert_eq!(stamp(0, 0, 7), (7_000_000, 0));
        assert_eq!(stamp(3, 0, 7_001), (7_001_000, 0));
        assert_eq!(stamp(6, 0, 7_000_001), (7_000_001, 0));
        assert_eq!(stamp(9, 0, 7_000_001_002), (7_000_001, 2));
        assert_eq!(stamp(12, 0, 7_000_001_002_999), (7_000_001, 2));
        assert_eq!(stamp(19, 0, u64::MAX), (1_844_674, 407));
        assert_eq!(stamp(28, 0, u64::MAX), (0, 1));
        assert_eq!(stamp(38, 0, u64::MAX), (0, 0));
        assert_eq!(stamp(127, 0, u64::MAX), (0, 0));
    }

    #[test]
    fn powers_of_two() {
        assert_eq!(stamp(0x80, 0, 7), (7_000_000, 0));
        assert_eq!(stamp(0x81, 0, 3), (1_500_000, 0));
        assert_eq!(stamp(0x80 | 20, 0, (5 << 20) + 1), (5_000_000, 953));
        assert_eq!(stamp(0x80 | 32, 0, 1 << 31), (500_000, 0));
        assert_eq!(stamp(0x80 | 64, 0, 1 << 63), (500_000, 0));
        assert_eq!(stamp(0xff, 0, u64::MAX), (0, 0));
    }

    #[test]
    fn offsets_reach_before_the_epoch() {
        assert_eq!(stamp(6, 100, 5), (100_000_005, 0));
        assert_eq!(stamp(6, -1, 5), (-999_995, 0));
        assert_eq!(stamp(9, -1, 1), (-1_000_000, 1));
    }

    #[test]
    fn what_does_not_fit_is_clamped() {
        assert_eq!(stamp(0, 0, u64::MAX).0, i64::MAX - 1);
        assert_eq!(stamp(6, i64::MIN, 0).0, i64::MIN);
        assert!(Clock { resolution: 0, offset: i64::MAX }.stamp(u64::MAX).time < Instant::NEVER);
    }

    #[test]
    fn fine_clocks() {
        for (resolution, fine) in [(6, false), (7, true), (9, true), (0x80 | 19, false), (0x80 | 20, true)] {
            assert_eq!(Clock { resolution, offset: 0 }.finer_than_micros(), fine);
        }
    }
}
