//! A token bucket on the times of packets: what `limit` and `hashlimit` share.

use crate::Instant;

/// The tokens left of a rate. Tokens are nanoseconds: each packet costs some, and time brings them back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    saved: u64,
    last: Option<Instant>,
}

/// The answer of a bucket about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// True if there is enough for the packet.
    pub(super) is_enough: bool,
    /// True if one tick of the kernel's clock more or less decides.
    pub(super) is_close: bool,
}

/// Maximum length of a tick of a kernel's clock, in nanoseconds (`CONFIG_HZ=100`). Kernels count a limit's time in ticks.
const TICK: u64 = 10_000_000;

impl Bucket {
    /// A full bucket.
    pub(super) const fn new(most: u64) -> Self {
        Self { saved: most, last: None }
    }

    /// Adds what time brought, and compares with what a packet costs. Nothing is taken yet.
    pub(super) fn ask(&mut self, now: Instant, cost: u64, most: u64) -> Verdict {
        let past = self.last.map_or(0, |last| now.since(last).as_nanos().min(u128::from(u64::MAX)) as u64);
        let is_later = self.last.is_none_or(|last| last < now);
        if is_later {
            self.last = Some(now);
        }
        let full = self.saved >= most;
        self.saved = self.saved.saturating_add(past).min(most);
        // A bucket that was full before loses nothing by a tick.
        Verdict { is_enough: self.saved >= cost, is_close: !full && self.saved.abs_diff(cost) <= TICK }
    }

    /// Takes what a packet costs, which may be a tick more than there is.
    pub(super) const fn take(&mut self, cost: u64) {
        self.saved = self.saved.saturating_sub(cost);
    }

    /// Notes that there was not enough for a packet.
    pub(super) const fn lack(&mut self, cost: u64) {
        if self.saved >= cost {
            self.saved = cost.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn passes(bucket: &mut Bucket, now: Instant) -> bool {
        let verdict = bucket.ask(now, SECOND, 5 * SECOND);
        if verdict.is_enough {
            bucket.take(SECOND);
        }
        verdict.is_enough
    }

    #[test]
    fn a_bucket_lets_its_burst_pass_and_then_its_rate() {
        let mut bucket = Bucket::new(5 * SECOND);
        let start = Instant::from_secs(100);
        assert_eq!((0..9).filter(|_| passes(&mut bucket, start)).count(), 5);
        assert!(!passes(&mut bucket, start + Duration::from_millis(999)));
        assert!(passes(&mut bucket, start + Duration::from_millis(1000)));
        assert!(!passes(&mut bucket, start));
        assert!(passes(&mut bucket, start + Duration::from_millis(2000)));
    }

    #[test]
    fn within_a_tick_of_the_edge_it_is_close() {
        let mut bucket = Bucket::new(SECOND);
        let start = Instant::from_secs(100);
        assert!(!bucket.ask(start, SECOND, SECOND).is_close);
        bucket.take(SECOND);
        assert!(!bucket.ask(start + Duration::from_millis(900), SECOND, SECOND).is_close);
        assert!(bucket.ask(start + Duration::from_millis(995), SECOND, SECOND).is_close);
    }
}
