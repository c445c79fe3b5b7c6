//! Sets whose elements rules change, or time does.

use alloc::vec::Vec;
use core::time::Duration;

use super::super::keyed::{Key, Keyed};
use super::model::{Meter, NftSet};
use super::state::MeterState;
use crate::Instant;

/// A set as it is before the first packet.
#[derive(Clone, Debug)]
pub(super) struct DynamicPlan {
    /// The keys, each with how long it lasts, in milliseconds.
    elements: Vec<(Key, Option<u64>)>,
    size: u32,
    /// Timeout of elements that rules add, in milliseconds.
    timeout: Option<u64>,
}

/// The elements of a set.
#[derive(Debug)]
pub(super) struct DynamicSet {
    elements: Keyed<Entry>,
    timeout: Option<u64>,
    /// Elements that were there before the first packet: their time begins with it.
    waiting: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The number of the element in the ruleset; `u32::MAX` for one that a rule added.
    number: u32,
    /// Timeout of the element, in milliseconds.
    timeout: Option<u64>,
    expires: Option<Instant>,
    meter: Option<MeterState>,
}

impl DynamicPlan {
    /// Maximum number of bits of a key.
    pub(super) const MAX_BITS: usize = Key::BITS;

    pub(super) fn new(set: &NftSet) -> Self {
        let values = |element: &super::model::Element| element.key.iter().map(|span| span.first).collect::<Vec<u128>>();
        let elements =
            set.elements.iter().map(|element| (key(&values(element), &set.parts), element.expires)).collect();
        let size = set.size.max(set.elements.len() as u32);
        Self { elements, size, timeout: set.timeout }
    }
}

/// Packs the parts of a key, each with its bits, one after the other.
pub(super) fn key(values: &[u128], parts: &[u8]) -> Key {
    let mut packed: Key = [0; 6];
    let mut at = 0usize;
    for (value, bits) in values.iter().zip(parts) {
        let bits = usize::from(*bits);
        for (shift, word) in [(0, *value as u64), (64, (*value >> 64) as u64)] {
            if shift < bits {
                let place = at + shift;
                let low = packed.get_mut(place / 64);
                low.into_iter().for_each(|low| *low |= word << (place % 64));
                if !place.is_multiple_of(64) {
                    packed.get_mut(place / 64 + 1).into_iter().for_each(|high| *high |= word >> (64 - place % 64));
                }
            }
        }
        at += bits;
    }
    packed
}

/// The bits of a packed key.
trait Packed {
    const BITS: usize;
}

impl Packed for Key {
    const BITS: usize = 6 * 64;
}

impl DynamicSet {
    pub(super) fn new(plan: &DynamicPlan, seeds: [u64; 2]) -> Self {
        let mut set = Self { elements: Keyed::new(plan.size, seeds), timeout: plan.timeout, waiting: true };
        for ((key, timeout), number) in plan.elements.iter().zip(0u32..) {
            if set.elements.find(key).is_none() {
                set.elements.insert(*key, Entry { number, timeout: *timeout, expires: None, meter: None });
            }
        }
        set
    }

    /// Starts the time of the elements that were there before the first packet.
    fn start(&mut self, now: Instant) {
        if !core::mem::take(&mut self.waiting) {
            return;
        }
        for number in 0..self.elements.capacity() {
            if let Some(entry) = self.elements.get_mut(number) {
                entry.expires = entry.timeout.map(|timeout| after(now, timeout));
            }
        }
    }

    /// The place of an element whose time is not over.
    fn find(&mut self, key: &Key, now: Instant) -> Option<u32> {
        self.start(now);
        let place = self.elements.find(key)?;
        let is_over = self.elements.get(place)?.expires.is_some_and(|expires| expires <= now);
        if is_over {
            self.elements.remove(place);
            return None;
        }
        Some(place)
    }

    /// Returns the number of an element in the ruleset, if the set has it.
    pub(super) fn number(&mut self, key: &Key, now: Instant) -> Option<u32> {
        let place = self.find(key, now)?;
        Some(self.elements.get(place)?.number)
    }

    /// Returns the limit of an element, if the set has it.
    pub(super) fn hit(&mut self, key: &Key, now: Instant) -> Option<Option<&mut MeterState>> {
        let place = self.find(key, now)?;
        Some(self.elements.get_mut(place)?.meter.as_mut())
    }

    /// Removes an element; false if there is none.
    pub(super) fn remove(&mut self, key: &Key, now: Instant) -> bool {
        let found = self.find(key, now);
        found.into_iter().for_each(|place| self.elements.remove(place));
        found.is_some()
    }

    /// Adds an element, unless it is there; with `renews`, its time begins again. `None` where the set is full.
    pub(super) fn add(
        &mut self,
        key: &Key,
        now: Instant,
        renews: bool,
        timeout: Option<u64>,
        meter: Option<Meter>,
    ) -> Option<Option<&mut MeterState>> {
        let timeout = timeout.or(self.timeout);
        let place = match self.find(key, now) {
            Some(place) => {
                if renews && let Some(entry) = self.elements.get_mut(place) {
                    entry.expires = timeout.map(|timeout| after(now, timeout));
                }
                place
            }
            None => {
                let expires = timeout.map(|timeout| after(now, timeout));
                let entry = Entry { number: u32::MAX, timeout, expires, meter: meter.map(MeterState::new) };
                match self.elements.insert(*key, entry) {
                    Some(place) => place,
                    None => {
                        self.forget_over(now);
                        self.elements.insert(*key, entry)?
                    }
                }
            }
        };
        self.elements.touch(place);
        Some(self.elements.get_mut(place)?.meter.as_mut())
    }

    /// Makes room: the element touched longest ago goes, if its time is over.
    fn forget_over(&mut self, now: Instant) {
        if let Some(oldest) = self.elements.oldest()
            && self.elements.get(oldest).is_some_and(|entry| entry.expires.is_some_and(|expires| expires <= now))
        {
            self.elements.remove(oldest);
        }
    }
}

fn after(now: Instant, milliseconds: u64) -> Instant {
    now + Duration::from_millis(milliseconds.min(u64::from(u32::MAX) * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: u32, timeout: Option<u64>) -> DynamicPlan {
        DynamicPlan { elements: Vec::new(), size, timeout }
    }

    #[test]
    fn keys_of_several_parts_are_packed_without_overlap() {
        let one = key(&[0x0a00_0001, 21], &[32, 16]);
        assert_eq!(one, [0x15_0a00_0001, 0, 0, 0, 0, 0]);
        assert_ne!(key(&[1, 0], &[32, 16]), key(&[0, 1], &[32, 16]));
        let long = key(&[u128::MAX, 0, u128::MAX], &[128, 128, 128]);
        assert_eq!(long, [u64::MAX, u64::MAX, 0, 0, u64::MAX, u64::MAX]);
        let odd = key(&[0x3f, u128::MAX], &[6, 128]);
        assert_eq!(odd, [u64::MAX, u64::MAX, 0x3f, 0, 0, 0]);
    }

    #[test]
    fn elements_end_with_their_time_and_begin_again() {
        let mut set = DynamicSet::new(&plan(2, Some(1000)), [1, 2]);
        let start = Instant::from_secs(5);
        let [a, b, c] = [1, 2, 3].map(|value| key(&[value], &[32]));
        let later = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!(set.add(&a, start, false, None, None).is_some());
        assert!(set.add(&b, later(500), false, None, None).is_some());
        assert!(set.add(&c, later(600), false, None, None).is_none(), "it is full");
        assert!(set.add(&a, later(900), true, None, None).is_some());
        assert!(set.number(&a, later(1600)).is_some() && set.number(&b, later(1600)).is_none());
        assert!(set.add(&c, later(1600), false, None, None).is_some());
        assert!(set.remove(&a, later(1700)) && !set.remove(&a, later(1700)));
    }
}
