//! Deadlines of many things, without looking at all of them.

use alloc::boxed::Box;
use alloc::vec;

use crate::Instant;

/// A hierarchical timer wheel over indexes `0..capacity` (Varghese and Lauck, 1987).
///
/// Insertion, removal and expiry cost the same whatever the number of entries. A tick is 2^18 microseconds, a
/// quarter of a second: entries come up to that much late, never early. Whoever needs to know to the microsecond
/// compares the deadline itself.
///
/// A deadline that moves later need not be told: [`TimerWheel::pop`] hands the index out at the old one, and the owner
/// inserts it again. What lies in the last tick of all, as [`Instant::NEVER`] does, does not come up. When time steps back by more than [`STEP_BACK`] ticks, the entries are laid out anew.
pub(crate) struct TimerWheel {
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit for each slot with entries.
    occupied: [u64; LEVELS],
    links: Box<[Link]>,
    /// The tick up to which slots were emptied.
    cursor: u64,
    /// No slot is to be emptied before this tick.
    soonest: u64,
}

#[derive(Clone, Copy)]
struct Link {
    due: u64,
    previous: u32,
    next: u32,
    /// Level and slot; [`NOWHERE`] when not in the wheel.
    place: (u8, u8),
}

const TICK_BITS: u32 = 18;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Eight levels of six bits hold every tick that a 64-bit count of microseconds has.
const LEVELS: usize = 8;
const NONE: u32 = u32::MAX;
const NOWHERE: (u8, u8) = (u8::MAX, u8::MAX);
/// Time may step back this many ticks, 16 seconds, without anything being laid out anew.
const STEP_BACK: u64 = 64;

impl TimerWheel {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            links: vec![Link { due: 0, previous: NONE, next: NONE, place: NOWHERE }; capacity as usize].into(),
            cursor: 0,
            soonest: u64::MAX,
        }
    }

    /// Puts `index` in, to come up at or shortly after `deadline`. It must not be in the wheel.
    pub(crate) fn insert(&mut self, index: u32, deadline: Instant) {
        self.insert_at(index, due_tick(deadline));
    }

    fn insert_at(&mut self, index: u32, tick: u64) {
        let due = tick.max(self.cursor);
        let apart = due ^ self.cursor;
        let level = (63 - (apart | 1).leading_zeros()) / SLOT_BITS;
        let slot = (due >> (level * SLOT_BITS)) as usize % SLOTS;
        let head = self.heads[level as usize][slot];
        self.links[index as usize] = Link { due: tick, previous: NONE, next: head, place: (level as u8, slot as u8) };
        if head != NONE {
            self.links[head as usize].previous = index;
        }
        self.heads[level as usize][slot] = index;
        self.occupied[level as usize] |= 1 << slot;
        let begins = due >> (level * SLOT_BITS) << (level * SLOT_BITS);
        self.soonest = self.soonest.min(begins);
    }

    /// Takes `index` out, if it is in.
    pub(crate) fn remove(&mut self, index: u32) {
        let link = self.links[index as usize];
        if link.place == NOWHERE {
            return;
        }
        let (level, slot) = (usize::from(link.place.0), usize::from(link.place.1));
        if link.previous == NONE {
            self.heads[level][slot] = link.next;
            if link.next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.links[link.previous as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[index as usize].place = NOWHERE;
    }

    /// Takes out an index that may be due at `now`. The caller looks at the deadline and inserts it again if it lies
    /// later.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<u32> {
        let now = now_tick(now);
        if now.saturating_add(STEP_BACK) < self.cursor {
            self.lay_out_anew(now);
        }
        if now < self.soonest {
            return None;
        }
        let Some((level, slot, tick)) = self.earliest() else {
            self.soonest = u64::MAX;
            return None;
        };
        self.soonest = tick;
        if tick > now {
            return None;
        }
        self.cursor = self.cursor.max(tick);
        let index = self.heads[level][slot];
        self.remove(index);
        Some(index)
    }

    /// Puts every entry in again, as seen from an earlier time.
    fn lay_out_anew(&mut self, now: u64) {
        let mut taken = NONE;
        for level in 0..LEVELS {
            while self.occupied[level] != 0 {
                let index = self.heads[level][self.occupied[level].trailing_zeros() as usize];
                self.remove(index);
                self.links[index as usize].next = taken;
                taken = index;
            }
        }
        self.cursor = now;
        while taken != NONE {
            let Link { due, next, .. } = self.links[taken as usize];
            self.insert_at(taken, due);
            taken = next;
        }
    }

    /// Returns when [`TimerWheel::pop`] may next have something; it may then turn out to be too early.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let (_, _, tick) = self.earliest().filter(|(_, _, tick)| *tick <= LAST_TICK)?;
        Some(Instant::from_micros(((tick << TICK_BITS) ^ SIGN) as i64))
    }

    /// The first slot with entries, and the tick at which it is to be emptied.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let mut best = None;
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = level as u32 * SLOT_BITS;
            let here = (self.cursor >> shift) % SLOTS as u64;
            // Slots behind the cursor's own cannot be occupied: they were emptied when the cursor passed.
            let ahead = self.occupied[level] & (u64::MAX << here);
            let slot = u64::from(ahead.trailing_zeros()) % SLOTS as u64;
            let tick = ((self.cursor >> shift) - here + slot) << shift;
            if best.is_none_or(|(_, _, earliest)| tick < earliest) {
                best = Some((level, slot as usize, tick));
            }
        }
        best
    }
}

const SIGN: u64 = 1 << 63;

/// The tick that has begun at `now`. Flipping the sign keeps the order of moments before the epoch.
fn now_tick(now: Instant) -> u64 {
    (now.micros() as u64 ^ SIGN) >> TICK_BITS
}

/// The tick of the last moment there is. A deadline within it is due one tick later, which never begins: rounded down,
/// it would come up before its time, and again each time that it is put back.
const LAST_TICK: u64 = u64::MAX >> TICK_BITS;

/// The first tick that begins at or after `deadline`.
const fn due_tick(deadline: Instant) -> u64 {
    let micros = deadline.micros() as u64 ^ SIGN;
    micros.div_ceil(1 << TICK_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use core::time::Duration;
    use proptest::prelude::*;

    const TICK: Duration = Duration::from_micros(1 << TICK_BITS);

    #[test]
    fn nothing_comes_early_and_everything_within_a_tick() {
        let mut wheel = TimerWheel::new(3);
        let start = Instant::from_secs(1_795_167_176);
        for (index, seconds) in [(0, 1), (1, 432_000), (2, 120)] {
            wheel.insert(index, start + Duration::from_secs(seconds));
        }
        for (index, seconds) in [(0, 1), (2, 120), (1, 432_000)] {
            let deadline = start + Duration::from_secs(seconds);
            let early = deadline - Duration::from_micros(1);
            // Slots of upper levels come up early; their entries go back in, lower.
            while let Some(popped) = wheel.pop(early) {
                let seconds = [1, 432_000, 120][popped as usize];
                assert!(start + Duration::from_secs(seconds) > early);
                wheel.insert(popped, start + Duration::from_secs(seconds));
            }
            assert_eq!(wheel.pop(deadline + TICK), Some(index));
        }
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn the_last_tick_of_time_never_comes() {
        let mut wheel = TimerWheel::new(3);
        for (index, micros) in [(0, i64::MAX), (1, i64::MAX - 1), (2, i64::MIN)] {
            wheel.insert(index, Instant::from_micros(micros));
        }
        assert_eq!(wheel.next_due(), Some(Instant::from_micros(i64::MIN)));
        assert_eq!(wheel.pop(Instant::from_micros(i64::MIN)), Some(2));
        for now in [0, i64::MAX - 1, i64::MAX, i64::MIN, i64::MAX] {
            assert_eq!(wheel.pop(Instant::from_micros(now)), None, "at {now}");
        }
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn removed_entries_do_not_come() {
        let mut wheel = TimerWheel::new(2);
        wheel.insert(0, Instant::from_secs(1));
        wheel.insert(1, Instant::from_secs(1));
        wheel.remove(0);
        wheel.remove(0);
        let mut seen = vec::Vec::new();
        while let Some(index) = wheel.pop(Instant::from_secs(9)) {
            seen.push(index);
        }
        assert_eq!(seen, [1]);
    }

    #[test]
    fn time_that_steps_back_far_is_followed() {
        let mut wheel = TimerWheel::new(2);
        let mut deadlines = [1_000, 10_000];
        // Collects the deadlines due at a moment; those that came up early go back in.
        let due = |wheel: &mut TimerWheel, deadlines: [i64; 2], now: i64| {
            let mut due = vec::Vec::new();
            while let Some(index) = wheel.pop(Instant::from_secs(now)) {
                if deadlines[index as usize] <= now {
                    due.push(index);
                } else {
                    wheel.insert(index, Instant::from_secs(deadlines[index as usize]));
                }
            }
            due
        };
        wheel.insert(0, Instant::from_secs(deadlines[0]));
        wheel.insert(1, Instant::from_secs(deadlines[1]));
        assert_eq!(due(&mut wheel, deadlines, 5_000), [0]);
        // Back by more than an hour: what is due from there on comes in time.
        assert_eq!(due(&mut wheel, deadlines, 100), [0; 0]);
        deadlines[0] = 110;
        wheel.insert(0, Instant::from_secs(110));
        assert_eq!(due(&mut wheel, deadlines, 111), [0]);
        assert_eq!(due(&mut wheel, deadlines, 10_001), [1]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u32..16, -5_000_000i64..50_000_000, 0i64..3_000_000), 1..200)) {
            let mut wheel = TimerWheel::new(16);
            let mut model = BTreeMap::new();
            let mut now = Instant::from_micros(-7_000_000);
            for (index, ahead, step) in steps {
                wheel.remove(index);
                let deadline = Instant::from_micros(now.micros() + ahead);
                model.insert(index, deadline);
                wheel.insert(index, deadline);
                now = Instant::from_micros(now.micros() + step);
                while let Some(popped) = wheel.pop(now) {
                    let deadline = model[&popped];
                    if deadline > now {
                        wheel.insert(popped, deadline);
                    } else {
                        model.remove(&popped);
                    }
                }
                for (index, deadline) in &model {
                    prop_assert!(*deadline + TICK > now, "{index} was due at {deadline} and is still there at {now}");
                }
            }
        }
    }
}
