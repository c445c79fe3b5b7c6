//! Time, as the caller tells it.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A moment, in microseconds since an epoch of the caller's choice.
///
/// The library has no clock. Captures use the Unix epoch; a router may count from its start (then the timestamps that it
/// enters into IPv4 options, which count from midnight, say something else). Moments may be
/// negative and may step back: captures do.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant(i64);

impl Instant {
    /// A moment that never comes, not even at the largest `now`. Deadlines that would lie beyond it are this one.
    pub const NEVER: Self = Self(i64::MAX);

    /// The moment `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment `seconds` seconds after the epoch.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        if micros <= 0 { Duration::ZERO } else { Duration::from_micros(micros as u64) }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// A duration as it counts between moments: whole microseconds, never negative. Sums and comparisons of durations ask
/// for more than one word; on a packet's way that is noticed.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(i64);

#[cfg(feature = "alloc")]
impl From<Duration> for Micros {
    #[inline]
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }
}

#[cfg(feature = "alloc")]
impl Add<Micros> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, span: Micros) -> Self {
        // A span is never negative.
        self.0.checked_add(span.0).map_or(Self::NEVER, Self)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000))
    }
}

#[cfg(feature = "alloc")]
impl Instant {
    /// Returns true if a deadline at this moment has passed at `now`. [`NEVER`](Self::NEVER) does not pass: a deadline
    /// that is moved on, and stays there, would be due again for ever.
    #[inline]
    pub(crate) const fn has_passed(self, now: Self) -> bool {
        self.0 <= now.0 && self.0 != Self::NEVER.0
    }

    /// Returns this moment, if it ever comes.
    pub(crate) fn if_ever(self) -> Option<Self> {
        (self != Self::NEVER).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::from_secs(1).since(Instant::from_secs(2)), Duration::ZERO);
        assert_eq!(Instant::from_secs(3).since(Instant::from_secs(1)), Duration::from_secs(2));
    }
}
