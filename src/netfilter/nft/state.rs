//! State that rules keep from packet to packet: limits, quotas, counters.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::bucket::{Bucket, Verdict};
use super::super::connlimit::Connlimit;
use super::super::memory::Chance;
use super::dynamic::{DynamicPlan, DynamicSet};
use super::model::Meter;
use crate::Instant;

/// The state that rules need to keep.
#[derive(Clone, Debug, Default)]
pub(super) struct StatePlan {
    pub(super) meters: Vec<MeterState>,
    pub(super) counters: Vec<u32>,
    /// Number of rules that count connections.
    pub(super) counts: u32,
    pub(super) sets: Vec<DynamicPlan>,
}

/// The state that rules of nftables keep. Its memory is taken when it is made.
#[derive(Debug, Default)]
pub struct NftState {
    pub(super) meters: Box<[MeterState]>,
    /// The numbers that `numgen inc` gives next.
    pub(super) counters: Box<[u32]>,
    pub(super) counts: Box<[Connlimit]>,
    pub(super) sets: Box<[DynamicSet]>,
}

/// Maximum number of connections that one rule counts.
const MAX_COUNTED: u32 = 65_536;

impl NftState {
    pub(super) fn new(plan: &StatePlan, connections: u32, seeds: [u64; 2]) -> Self {
        Self {
            meters: plan.meters.clone().into(),
            counters: plan.counters.clone().into(),
            counts: (0..plan.counts).map(|_| Connlimit::new(connections.min(MAX_COUNTED), seeds)).collect(),
            sets: plan.sets.iter().map(|plan| DynamicSet::new(plan, seeds)).collect(),
        }
    }
}

/// A limit or a quota, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeterState {
    meter: Meter,
    rate: Bucket,
    /// Bytes of a quota that were used.
    used: u64,
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl MeterState {
    pub(super) const fn new(meter: Meter) -> Self {
        let used = match meter {
            Meter::Quota { used, .. } => used,
            Meter::Limit { .. } => 0,
        };
        Self { meter, rate: Bucket::new(most(&meter)), used }
    }

    /// Returns true if the rule goes on with a packet of this length. Within a tick of a limit's edge, what a capture shows
    /// decides.
    pub(super) fn passes(&mut self, now: Instant, length: usize, chance: &mut Chance) -> bool {
        let length = length as u64;
        match self.meter {
            Meter::Quota { bytes, over, .. } => {
                self.used = self.used.saturating_add(length);
                (self.used > bytes) == over
            }
            Meter::Limit { over, .. } => {
                let cost = cost(&self.meter, length);
                let Verdict { is_enough, is_close } = self.rate.ask(now, cost, most(&self.meter));
                let passes = chance.decide(is_enough != over, is_close);
                if passes == over {
                    self.rate.lack(cost);
                } else {
                    self.rate.take(cost);
                }
                passes
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
const fn most(meter: &Meter) -> u64 {
    let Meter::Limit { rate, per, burst, bytes, .. } = *meter else { return 0 };
    let unit = per as u128 * SECOND as u128;
    let rate = if rate == 0 { 1 } else { rate as u128 };
    let burst = burst as u128;
    let tokens = if bytes { unit * (rate + burst) / rate } else { unit / rate * if burst == 0 { 1 } else { burst } };
    if tokens > u64::MAX as u128 { u64::MAX } else { tokens as u64 }
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
        let at_once = (0..9).filter(|_| state.passes(start, 60, &mut Chance::default())).count();
        assert_eq!(at_once, 5);
        assert!(!state.passes(start + Duration::from_millis(89), 60, &mut Chance::default()));
        assert!(state.passes(start + Duration::from_millis(201), 60, &mut Chance::default()));
    }

    #[test]
    fn a_quota_ends_with_its_bytes() {
        let mut until = MeterState::new(Meter::Quota { bytes: 100, used: 20, over: false });
        let mut over = MeterState::new(Meter::Quota { bytes: 100, used: 20, over: true });
        let at = Instant::from_secs(1);
        assert_eq!([40, 40, 1].map(|length| until.passes(at, length, &mut Chance::default())), [true, true, false]);
        assert_eq!([40, 40, 1].map(|length| over.passes(at, length, &mut Chance::default())), [false, false, true]);
    }
}
