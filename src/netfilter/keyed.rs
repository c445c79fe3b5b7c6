//! A table of fixed size by keys, which knows who was touched longest ago.

use alloc::boxed::Box;
use core::net::IpAddr;

use crate::hash::TableKey;
use crate::hash_index::HashIndex;

/// A key: addresses and ports, or whatever else distinguishes the entries of a table.
pub(super) type Key = [u64; 6];

/// Values by key. Its memory is taken when it is made.
pub(super) struct Keyed<V> {
    index: HashIndex,
    hash: TableKey,
    entries: Box<[Option<Entry<V>>]>,
    /// The entries that were touched first and last.
    ends: [u32; 2],
    /// The first entry that is free; each knows the next one.
    free: Box<[u32]>,
    free_len: usize,
}

#[derive(Debug)]
struct Entry<V> {
    key: Key,
    /// Neighbours in the order of use: the one touched before, and the one after.
    around: [u32; 2],
    value: V,
}

const NONE: u32 = u32::MAX;
const OLDER: usize = 0;
const NEWER: usize = 1;

impl<V> core::fmt::Debug for Keyed<V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Keyed").field("free", &self.free_len).finish_non_exhaustive()
    }
}

impl<V> Keyed<V> {
    /// An empty table for so many entries.
    pub(super) fn new(capacity: u32, seeds: [u64; 2]) -> Self {
        Self {
            index: HashIndex::new(capacity),
            hash: TableKey::new(seeds),
            entries: (0..capacity).map(|_| None).collect(),
            ends: [NONE; 2],
            free: (0..capacity).rev().collect::<alloc::vec::Vec<u32>>().into(),
            free_len: capacity as usize,
        }
    }

    /// Maximum number of entries.
    pub(super) fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The entry of a key, by its number.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let mut found = self.index.with_hash(self.hash.hash(*key));
        found.find(|number| self.entry(*number).is_some_and(|entry| entry.key == *key))
    }

    /// The value of an entry.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        self.entries.get_mut(number as usize)?.as_mut().map(|entry| &mut entry.value)
    }

    /// The value of an entry.
    pub(super) fn get(&self, number: u32) -> Option<&V> {
        self.entry(number).map(|entry| &entry.value)
    }

    /// Adds an entry as the one touched last; `None` when the table is full.
    pub(super) fn insert(&mut self, key: Key, value: V) -> Option<u32> {
        self.free_len = self.free_len.checked_sub(1)?;
        let number = *self.free.get(self.free_len)?;
        *self.entries.get_mut(number as usize)? = Some(Entry { key, around: [NONE; 2], value });
        self.index.link(number, self.hash.hash(key));
        self.append(number);
        Some(number)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, number: u32) {
        if self.entry(number).is_none() {
            return;
        }
        self.detach(number);
        self.index.unlink(number);
        if let Some(entry) = self.entries.get_mut(number as usize) {
            *entry = None;
        }
        if let Some(place) = self.free.get_mut(self.free_len) {
            *place = number;
            self.free_len += 1;
        }
    }

    /// Makes an entry the one touched last.
    pub(super) fn touch(&mut self, number: u32) {
        if self.entry(number).is_some() {
            self.detach(number);
            self.append(number);
        }
    }

    /// The entry that was touched longest ago.
    pub(super) const fn oldest(&self) -> Option<u32> {
        if self.ends[0] == NONE { None } else { Some(self.ends[0]) }
    }

    fn entry(&self, number: u32) -> Option<&Entry<V>> {
        self.entries.get(number as usize)?.as_ref()
    }

    fn set_neighbour(&mut self, of: u32, side: usize, neighbour: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(of as usize) {
            entry.around[side] = neighbour;
        }
    }

    fn append(&mut self, number: u32) {
        let last = self.ends[1];
        self.set_neighbour(number, OLDER, last);
        self.set_neighbour(number, NEWER, NONE);
        if last == NONE {
            self.ends[0] = number;
        } else {
            self.set_neighbour(last, NEWER, number);
        }
        self.ends[1] = number;
    }

    fn detach(&mut self, number: u32) {
        let Some([older, newer]) = self.entry(number).map(|entry| entry.around) else { return };
        if older == NONE {
            self.ends[0] = newer;
        } else {
            self.set_neighbour(older, NEWER, newer);
        }
        if newer == NONE {
            self.ends[1] = older;
        } else {
            self.set_neighbour(newer, OLDER, older);
        }
    }
}

/// An address as the two words of a key.
pub(super) fn words(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// The leading bits of an address; none for 0.
pub(super) fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_refuses_and_knows_its_oldest_entry() {
        let mut table = Keyed::new(2, [1, 2]);
        let [a, b, c] = [1, 2, 3].map(|n| [n, 0, 0, 0, 0, 0]);
        let first = table.insert(a, 'a').unwrap();
        let second = table.insert(b, 'b').unwrap();
        assert_eq!(table.insert(c, 'c'), None);
        assert_eq!(table.oldest(), Some(first));
        table.touch(first);
        assert_eq!(table.oldest(), Some(second));
        table.remove(second);
        let third = table.insert(c, 'c').unwrap();
        assert_eq!((table.find(&b), table.find(&c), table.oldest()), (None, Some(third), Some(first)));
        table.remove(first);
        table.remove(third);
        assert_eq!((table.oldest(), table.find(&a)), (None, None));
        assert_eq!(table.get_mut(first), None);
    }
}
