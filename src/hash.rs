//! Keyed hashes: of the tables, and of what is to look random.

/// The hash of the tables: NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC", 1999) over whole 64-bit words, and
/// one more keyed product that spreads its result over the buckets.
///
/// A router's peers choose ports and addresses and see how long their packets take; under a key that they do not know
/// they cannot make a bucket long. Of two things of as many words, whatever they are, NH makes the same 128 bits with a
/// probability of at most 2 to the -64. Two that share a bucket nevertheless do so for what the last product
/// made of bits that differ: unlike for a sum alone, nothing follows from them for others.
#[derive(Clone, Copy)]
pub(crate) struct TableKey {
    words: [u64; Self::MOST_WORDS],
    spread: [u64; 2],
}

impl TableKey {
    /// No more words are hashed at once.
    const MOST_WORDS: usize = 6;

    /// The words of the key are drawn from a shorter one.
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        let key = Key::new(key);
        let words = [key.hash([0]), key.hash([1]), key.hash([2]), key.hash([3]), key.hash([4]), key.hash([5])];
        Self { words, spread: [key.hash([6]), key.hash([7])] }
    }

    #[inline(always)]
    pub(crate) fn hash<const N: usize>(&self, words: [u64; N]) -> u64 {
        const { assert!(N <= Self::MOST_WORDS) };
        let mut padded = [0; Self::MOST_WORDS];
        padded[..N].copy_from_slice(&words);
        let mut sum = 0u128;
        for i in (0..N).step_by(2) {
            let product =
                multiply(padded[i].wrapping_add(self.words[i]), padded[i + 1].wrapping_add(self.words[i + 1]));
            sum = sum.wrapping_add(product);
        }
        let [high, low] = halves(sum);
        let [high, low] = halves(multiply(high.wrapping_add(self.spread[0]), low.wrapping_add(self.spread[1])));
        high ^ low
    }
}

#[inline(always)]
const fn multiply(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}

#[inline(always)]
const fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012) over whole 64-bit words: numbers that nobody can foretell who does not know
/// the key. Equal to SipHash-1-3 over the words' little-endian bytes.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    /// The state that every hash begins with.
    state: [u64; 4],
}

impl Key {
    pub(crate) const fn new([k0, k1]: [u64; 2]) -> Self {
        let state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { state }
    }

    pub(crate) const fn hash<const N: usize>(self, words: [u64; N]) -> u64 {
        let mut v = self.state;
        let mut i = 0;
        while i < N {
            v[3] ^= words[i];
            round(&mut v);
            v[0] ^= words[i];
            i += 1;
        }
        let length = ((N as u64 * 8) & 0xff) << 56;
        v[3] ^= length;
        round(&mut v);
        v[0] ^= length;
        v[2] ^= 0xff;
        round(&mut v);
        round(&mut v);
        round(&mut v);
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

const fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use siphasher::sip::SipHasher13;

    fn theirs(key: [u64; 2], words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    /// Every word counts, and so does its place; under another key all is different.
    #[test]
    fn what_differs_hashes_differently() {
        let keys = [[1, 2], [1, 3], [0, 0]].map(TableKey::new);
        let mut seen = alloc::collections::BTreeSet::new();
        for key in keys {
            for place in 0..5 {
                for bit in 0..64 {
                    let mut words = [0; 5];
                    words[place] = 1 << bit;
                    assert!(seen.insert(key.hash(words)), "word {place}, bit {bit}");
                }
            }
            assert!(seen.insert(key.hash([0; 5])));
        }
    }

    /// Clients of a network that dial one service from consecutive ports: no bucket of as many as there are of them has
    /// more than chance puts there.
    #[test]
    fn neighbours_spread() {
        const BUCKETS: usize = 1 << 14;
        for key in [[1, 2], [0, 0], [u64::MAX, 7]].map(TableKey::new) {
            let mut counts = alloc::vec![0; BUCKETS];
            for client in 0..BUCKETS as u64 {
                let (host, port) = (0x0a00_0000 + client / 256, 40_000 + client % 256);
                counts[key.hash([host << 32 | 0xc633_6409, port << 48 | 21 << 32 | 0x602]) as usize % BUCKETS] += 1;
            }
            assert!(counts.iter().all(|count| *count < 12));
            let empty = counts.iter().filter(|count| **count == 0).count();
            // One in e is to be expected.
            assert!((BUCKETS * 35 / 100..BUCKETS * 39 / 100).contains(&empty), "{empty}");
        }
    }

    #[test]
    fn agrees_with_its_definition() {
        let key = TableKey::new([5, 6]);
        let words = [3, u64::MAX, 1 << 63];
        let add = |i: usize| u128::from(words.get(i).copied().unwrap_or(0u64).wrapping_add(key.words[i]));
        let nh = (add(0) * add(1)).wrapping_add(add(2) * add(3));
        let last = u128::from(((nh >> 64) as u64).wrapping_add(key.spread[0]))
            * u128::from((nh as u64).wrapping_add(key.spread[1]));
        assert_eq!(key.hash(words), (last >> 64) as u64 ^ last as u64);
    }

    #[test]
    fn agrees_with_siphasher() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(Key::new(key).hash([]), theirs(key, &[]));
        assert_eq!(Key::new(key).hash([1, u64::MAX]), theirs(key, &[1, u64::MAX]));
        assert_eq!(Key::new(key).hash([9, 8, 7, 6, 5]), theirs(key, &[9, 8, 7, 6, 5]));
    }
}
