//! The keyed hash of the tables.

/// SipHash-1-3 (Aumasson and Bernstein, 2012) over whole 64-bit words.
///
/// A router's peers choose ports and addresses and see how long their packets take; under a key that they do not
/// know they cannot make a bucket long. Equal to SipHash-1-3 over the words' little-endian bytes.
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

    #[inline]
    pub(crate) fn hash<const N: usize>(self, words: [u64; N]) -> u64 {
        let mut v = self.state;
        for word in words {
            v[3] ^= word;
            round(&mut v);
            v[0] ^= word;
        }
        let length = ((N as u64 * 8) & 0xff) << 56;
        v[3] ^= length;
        round(&mut v);
        v[0] ^= length;
        v[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
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

    #[test]
    fn agrees_with_siphasher() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(Key::new(key).hash([]), theirs(key, &[]));
        assert_eq!(Key::new(key).hash([1, u64::MAX]), theirs(key, &[1, u64::MAX]));
        assert_eq!(Key::new(key).hash([9, 8, 7, 6, 5]), theirs(key, &[9, 8, 7, 6, 5]));
    }
}
