//! State that rules keep from packet to packet: limits, quotas, counters.

use alloc::boxed::Box;

use super::model::Meter;
use crate::Instant;

/// The state that rules of nftables keep. Its memory is taken when it is made. Its memory is taken when it is made.
#[derive(Clone, Debug, Default)]
pub struct NftState {
    pub(super) meters: Box<[MeterState]>,
    /// The numbers that `numgen inc` gives next.
    pub(super) counters: Box<[u32]>,
}

/// A limit or a quota, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeterState {
    meter: Meter,
    /// Nanoseconds of a limit's time, or bytes of a quota, that were saved up or used.
    amount: u64,
    last: Option<Instant>,
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl MeterState {
    pub(super) fn new(meter: Meter) -> Self {
        let amount = match meter {
            Meter::Limit { .. } => most(&meter),
            Meter::Quota { used, .. } => used,
        };
        Self { meter, amount, last: None }
    }

    /// Returns true if the rule goes on with a packet of this length.
    pub(super) fn passes(&mut self, now: Instant, length: usize) -> bool {
        let length = length as u64;
        match self.meter {
            Meter::Quota { bytes, over, .. } => {
                self.amount = self.amount.saturating_add(length);
                (self.amount > bytes) == over
            }
            Meter::Limit { over, .. } => {
                let most = most(&self.meter);
                let past = self.last.map_or(0, |last| now.since(last).as_nanos().min(u128::from(u64::MAX)) as u64);
                self.last = Some(now);
                let saved = self.amount.saturating_add(past).min(most);
                let cost = cost(&self.meter, length);
                if saved >= cost {
                    self.amount = saved - cost;
                    return !over;
                }
                self.amount = saved;
                over
            }
        }
    }
}

/// Nanoseconds that a packet of a length costs.
fn cost(meter: &Meter, length: u64) -> u64 {
    let Meter::Limit { rate, per, bytes, .. } = *meter else { return 0 };
    let unit = per.saturating_mul(SECOND);
    if bytes {
        (u128::from(unit) * u128::from(length) / u128::from(rate.max(1))).min(u128::from(u64::MAX)) as u64
    } else {
        unit / rate.max(1)
    }
}

/// Nanoseconds that a limit saves up at most.
fn most(meter: &Meter) -> u64 {
    let Meter::Limit { rate, per, burst, bytes, .. } = *meter else { return 0 };
    let unit = u128::from(per) * u128::from(SECOND);
    let rate = u128::from(rate.max(1));
    let tokens = if bytes { unit * (rate + u128::from(burst)) / rate } else { unit / rate * u128::from(burst.max(1)) };
    tokens.min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_limit_lets_its_burst_pass_and_then_its_rate() {
        let limit = Meter::Limit { rate: 10, per: 1, burst: 5, bytes: false, over: false };
        let mut state = MeterState::new(limit);
        let start = Instant::from_secs(1);
        let at_once = (0..9).filter(|_| state.passes(start, 60)).count();
        assert_eq!(at_once, 5);
        assert!(!state.passes(start + Duration::from_millis(99), 60));
        assert!(state.passes(start + Duration::from_millis(201), 60));
    }

    #[test]
    fn a_quota_ends_with_its_bytes() {
        let mut until = MeterState::new(Meter::Quota { bytes: 100, used: 20, over: false });
        let mut over = MeterState::new(Meter::Quota { bytes: 100, used: 20, over: true });
        let at = Instant::from_secs(1);
        assert_eq!([40, 40, 1].map(|length| until.passes(at, length)), [true, true, false]);
        assert_eq!([40, 40, 1].map(|length| over.passes(at, length)), [false, false, true]);
    }
}
