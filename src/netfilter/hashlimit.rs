//! `-m hashlimit`: a rate for each group of addresses and ports.

use alloc::string::String;
use core::net::IpAddr;
use core::time::Duration;

use super::bucket::{Bucket, Verdict};
use super::keyed::{Key, Keyed, masked, words};
use crate::Instant;

/// A rate for each group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct HashlimitMatch {
    /// `--hashlimit-name`: rules of one name share their groups.
    pub name: String,
    /// True for `--hashlimit-above`: it matches what exceeds the rate.
    pub above: bool,
    /// Nanoseconds that a packet costs.
    pub cost: u64,
    /// `--hashlimit-burst`, in packets.
    pub burst: u32,
    /// `--hashlimit-mode` with `srcip`: how many leading bits of the source address count.
    pub source: Option<u8>,
    /// `dstip`: the same of the destination.
    pub destination: Option<u8>,
    /// `srcport`.
    pub source_port: bool,
    /// `dstport`.
    pub destination_port: bool,
    /// `--hashlimit-htable-max`: the number of groups; 0 for the kernel's own.
    pub most: u32,
    /// `--hashlimit-htable-expire`: how long a group is remembered, in milliseconds.
    pub expires: u32,
}

/// Maximum number of groups of a table, whatever its rule says. The kernel's own number grows with its memory.
const MOST: u32 = 65_536;
/// Number of groups where the rule does not say.
const USUAL: u32 = 8_192;

impl HashlimitMatch {
    /// Nanoseconds that are saved up at most.
    const fn most_saved(&self) -> u64 {
        self.cost.saturating_mul(self.burst as u64)
    }
}

/// The groups of one name.
#[derive(Debug)]
pub(super) struct Hashlimit {
    table: Keyed<Group>,
    /// Of the first rule of this name, which decides for all.
    expires: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    bucket: Bucket,
    last: Instant,
}

/// The fields that a hashlimit tells packets apart by.
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ports: (u16, u16),
}

impl Hashlimit {
    pub(super) fn new(test: &HashlimitMatch, seeds: [u64; 2]) -> Self {
        let most = if test.most == 0 { USUAL } else { test.most.min(MOST) };
        Self { table: Keyed::new(most, seeds), expires: Duration::from_millis(test.expires.into()) }
    }

    /// Asks about a packet; `None` when there is no room for its group. The number is that of the group.
    pub(super) fn ask(&mut self, test: &HashlimitMatch, ends: &Ends, now: Instant) -> Option<(u32, Verdict)> {
        let address = |address: IpAddr, prefix: Option<u8>| prefix.map_or([0; 2], |bits| words(masked(address, bits)));
        let [a, b] = address(ends.source, test.source);
        let [c, d] = address(ends.destination, test.destination);
        let port = |port: u16, counts: bool| if counts { u64::from(port) } else { 0 };
        let ports = port(ends.ports.0, test.source_port) << 16 | port(ends.ports.1, test.destination_port);
        let key: Key = [a, b, c, d, ports, 0];
        self.forget(now);
        let number = match self.table.find(&key) {
            Some(number) => number,
            None => {
                let group = Group { bucket: Bucket::new(test.most_saved()), last: now };
                self.table.insert(key, group)?
            }
        };
        self.table.touch(number);
        let group = self.table.get_mut(number)?;
        group.last = now;
        Some((number, group.bucket.ask(now, test.cost, test.most_saved())))
    }

    /// Takes what a packet costs, or notes that there was not enough.
    pub(super) fn settle(&mut self, number: u32, cost: u64, is_enough: bool) {
        if let Some(group) = self.table.get_mut(number) {
            if is_enough { group.bucket.take(cost) } else { group.bucket.lack(cost) }
        }
    }

    /// Forgets groups whose time is over: at most two, so that a packet costs the same whatever their number.
    fn forget(&mut self, now: Instant) {
        for _ in 0..2 {
            let Some(oldest) = self.table.oldest() else { return };
            if self.table.get(oldest).is_none_or(|group| group.last + self.expires > now) {
                return;
            }
            self.table.remove(oldest);
        }
    }
}
