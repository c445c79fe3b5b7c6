//! `-m recent`: lists of addresses and when they were seen.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use core::net::IpAddr;

use super::keyed::{Key, Keyed, masked, words};
use crate::Instant;

/// The operation of `-m recent` on its list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct RecentMatch {
    /// `--name`.
    pub list: String,
    /// Operation on the list.
    pub action: RecentAction,
    /// True for `--rdest`: the destination counts, not the source.
    pub destination: bool,
    /// `--mask`: the leading bits of the address that count.
    pub prefix: u8,
    /// `--seconds`: only what was seen since then counts; 0 for ever.
    pub seconds: u32,
    /// `--reap`: what is older is removed.
    pub reap: bool,
    /// `--hitcount`: the address was seen so often; 0 for once.
    pub hits: u32,
    /// `--rttl`: the time to live must be that of the packet that was seen.
    pub same_ttl: bool,
}

/// An operation on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum RecentAction {
    /// `--set`: the address was seen now.
    Set,
    /// `--rcheck`: is the address in the list?
    Check,
    /// `--update`: the same, and if it is, it was seen now.
    Update,
    /// `--remove`: the same, and if it is, it leaves the list.
    Remove,
}

/// The sizes of the lists (`ip_list_tot` and `ip_pkt_list_tot` of `xt_recent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct RecentSizes {
    /// Addresses of a list.
    pub addresses: u32,
    /// Times of an address.
    pub times: u32,
}

impl Default for RecentSizes {
    /// Returns the kernel's defaults.
    fn default() -> Self {
        Self { addresses: 100, times: 20 }
    }
}

/// A list.
#[derive(Debug)]
pub(super) struct RecentList {
    table: Keyed<Seen>,
    /// For each entry, its times, the latest of them at [`Seen::next`] less one.
    times: Box<[Instant]>,
    sizes: RecentSizes,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    ttl: u8,
    /// Number of times that were noted.
    count: u32,
    /// The place of the next time.
    next: u32,
}

impl RecentList {
    pub(super) fn new(sizes: RecentSizes, seeds: [u64; 2]) -> Self {
        let times = sizes.addresses.saturating_mul(sizes.times) as usize;
        Self { table: Keyed::new(sizes.addresses, seeds), times: vec![Instant::default(); times].into(), sizes }
    }

    /// Asks, and does what is to be done. `ttl` is the packet's. The second value is true if a tick of the kernel's clock
    /// more or less decides.
    pub(super) fn ask(&mut self, test: &RecentMatch, address: IpAddr, ttl: u8, now: Instant) -> bool {
        let address = masked(address, test.prefix);
        let [high, low] = words(address);
        let key: Key = [high, low, u64::from(address.is_ipv6()), 0, 0, 0];
        let wanted_ttl = test.same_ttl.then_some(ttl);
        let found = self.table.find(&key);
        let found = found.filter(|entry| {
            let seen = self.table.get(*entry).map(|seen| seen.ttl);
            wanted_ttl.is_none() || seen == wanted_ttl
        });
        let Some(entry) = found else {
            if test.action == RecentAction::Set {
                self.add(key, ttl, now);
                return true;
            }
            return false;
        };
        match test.action {
            RecentAction::Set => {
                self.note(entry, ttl, now);
                true
            }
            RecentAction::Remove => {
                self.table.remove(entry);
                true
            }
            RecentAction::Check | RecentAction::Update => {
                let holds = self.was_seen(entry, test, now);
                if test.reap {
                    self.reap(test.seconds, now);
                }
                if holds && test.action == RecentAction::Update {
                    self.note(entry, ttl, now);
                }
                holds
            }
        }
    }

    fn was_seen(&self, entry: u32, test: &RecentMatch, now: Instant) -> bool {
        let count = self.table.get(entry).map_or(0, |seen| seen.count.min(self.sizes.times));
        if test.seconds == 0 && test.hits == 0 {
            return true;
        }
        let since = now - core::time::Duration::from_secs(test.seconds.into());
        let times = self.times_of(entry).iter().take(count as usize);
        let hits = times.filter(|time| test.seconds == 0 || **time >= since).count();
        hits >= test.hits.max(1) as usize
    }

    fn times_of(&self, entry: u32) -> &[Instant] {
        let start = entry as usize * self.sizes.times as usize;
        self.times.get(start..start + self.sizes.times as usize).unwrap_or_default()
    }

    fn add(&mut self, key: Key, ttl: u8, now: Instant) {
        let new = Seen { ttl, count: 0, next: 0 };
        let entry = self.table.insert(key, new).or_else(|| {
            // A full list forgets whoever was seen longest ago.
            let oldest = self.table.oldest()?;
            self.table.remove(oldest);
            self.table.insert(key, new)
        });
        if let Some(entry) = entry {
            self.note(entry, ttl, now);
        }
    }

    fn note(&mut self, entry: u32, ttl: u8, now: Instant) {
        let room = self.sizes.times;
        self.table.touch(entry);
        let Some(seen) = self.table.get_mut(entry) else { return };
        let place = entry as usize * room as usize + seen.next as usize;
        seen.ttl = ttl;
        seen.next = if seen.next + 1 < room { seen.next + 1 } else { 0 };
        seen.count = (seen.count + 1).min(room);
        if let Some(time) = self.times.get_mut(place) {
            *time = now;
        }
    }

    /// Removes the entry that was touched longest ago, if it was not seen for so long.
    fn reap(&mut self, seconds: u32, now: Instant) {
        let since = now - core::time::Duration::from_secs(seconds.into());
        let Some(oldest) = self.table.oldest() else { return };
        let Some(seen) = self.table.get(oldest) else { return };
        let latest = if seen.next == 0 { self.sizes.times - 1 } else { seen.next - 1 };
        if self.times_of(oldest).get(latest as usize).is_some_and(|time| *time < since) {
            self.table.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(action: RecentAction) -> RecentMatch {
        RecentMatch {
            list: "DEFAULT".into(),
            action,
            destination: false,
            prefix: 32,
            seconds: 0,
            reap: false,
            hits: 0,
            same_ttl: false,
        }
    }

    fn list() -> RecentList {
        RecentList::new(RecentSizes { addresses: 2, times: 3 }, [1, 2])
    }

    const A: [u8; 4] = [10, 0, 0, 1];

    #[test]
    fn an_address_is_remembered_until_it_is_removed() {
        let mut list = list();
        let at = Instant::from_secs(100);
        let mut ask = |action| list.ask(&test(action), A.into(), 64, at);
        assert_eq!([RecentAction::Check, RecentAction::Update, RecentAction::Set].map(&mut ask), [false, false, true]);
        assert_eq!(
            [RecentAction::Check, RecentAction::Remove, RecentAction::Remove].map(&mut ask),
            [true, true, false]
        );
    }

    #[test]
    fn hits_within_seconds_are_counted() {
        let mut list = list();
        for second in [100, 110, 120] {
            list.ask(&test(RecentAction::Set), A.into(), 64, Instant::from_secs(second));
        }
        let check = |seconds, hits| RecentMatch { seconds, hits, ..test(RecentAction::Check) };
        let now = Instant::from_secs(121);
        assert!(list.ask(&check(12, 2), A.into(), 64, now));
        assert!(!list.ask(&check(12, 3), A.into(), 64, now));
        assert!(list.ask(&check(0, 3), A.into(), 64, now));
        let ttl = RecentMatch { same_ttl: true, ..test(RecentAction::Check) };
        assert!(list.ask(&ttl, A.into(), 64, now));
        assert!(!list.ask(&ttl, A.into(), 63, now));
    }

    #[test]
    fn a_full_list_forgets_who_was_seen_longest_ago() {
        let mut list = list();
        for last in [1, 2, 1, 3] {
            list.ask(&test(RecentAction::Set), [10, 0, 0, last].into(), 64, Instant::from_secs(100));
        }
        let mut has = |last| list.ask(&test(RecentAction::Check), [10, 0, 0, last].into(), 64, Instant::from_secs(100));
        assert_eq!([1, 2, 3].map(&mut has), [true, false, true]);
    }
}
