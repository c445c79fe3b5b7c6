//! The Internet checksum (RFC 1071) and its change with the bytes under it (RFC 1624).
//!
//! Where a header field changes, its checksum is changed by the difference. One that arrived wrong (damaged, or left to
//! be filled in by hardware) leaves wrong by just as much. Sums are kept as the 32 bits with end-around carry that
//! Linux keeps, so that of the two zeros of one's complement the same one comes out.

/// Adds two partial sums with end-around carry.
#[inline]
#[must_use]
pub const fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u32
}

/// The partial sum of `bytes`, taken as big-endian 16-bit words and padded with a zero, added to `sum`.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8], sum: u32) -> u32 {
    let mut total = u64::from(sum);
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        total += u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(chunks.remainder()) {
        *to = *from;
    }
    total += u64::from(u32::from_be_bytes(last));
    while total > u64::from(u32::MAX) {
        total = (total & u64::from(u32::MAX)) + (total >> 32);
    }
    total as u32
}

/// The partial sum of two 64-bit words, as [`sum`] has it of their bytes.
#[inline]
pub(super) const fn sum_words([a, b]: [u64; 2]) -> u32 {
    let total = (a >> 32) + (a & 0xffff_ffff) + (b >> 32) + (b & 0xffff_ffff);
    add(total as u32, (total >> 32) as u32)
}

/// Returns true if the checksum of an IPv4 header without options is right. Words may be summed in any byte order (RFC
/// 1071 section 2): here in the machine's own.
#[inline(always)]
pub(super) fn is_right(header: &[u8; 20]) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *header;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let (sum, carry) = first.overflowing_add(u64::from_ne_bytes([i, j, k, l, m, n, o, p]));
    let (sum, more) = sum.overflowing_add(u64::from(u32::from_ne_bytes([q, r, s, t])) + u64::from(carry));
    let sum = sum.wrapping_add(u64::from(more));
    // Folding to 16 bits leaves what division by 0xffff leaves, and 0xffff for a zero that is not all zeros.
    sum % 0xffff == 0 && sum != 0
}

/// The checksum field that belongs to a partial sum.
#[inline]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !(((once & 0xffff) + (once >> 16)) as u16)
}

/// Returns the number to add to a partial sum when 32 bits under it change: less than 2^18, so that some may be added
/// up.
#[inline]
pub(super) const fn change_u32(old: u32, new: u32) -> u32 {
    let (old, new) = (!old, new);
    (old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff)
}

/// The same for 16 bits.
#[inline]
pub(super) const fn change_u16(old: u16, new: u16) -> u32 {
    !old as u32 + new as u32
}

/// The checksum field after changes under it, as [`replace_u32`] has it.
#[inline]
pub(super) const fn follow(field: u16, change: u32) -> u16 {
    fold(!field as u32 + change)
}

/// The checksum field after 32 bits under it changed from `old` to `new`.
#[inline]
#[must_use]
pub const fn replace_u32(field: u16, old: u32, new: u32) -> u16 {
    fold(add(add(!field as u32, !old), new))
}

/// The checksum field after 16 bits under it changed from `old` to `new`.
#[inline]
#[must_use]
pub const fn replace_u16(field: u16, old: u16, new: u16) -> u16 {
    replace_u32(field, old as u32, new as u32)
}

/// The partial sum of the pseudo-header of a TCP or UDP packet (RFC 9293 section 3.1, RFC 8200 section 8.1).
///
/// `addresses` are the source and destination as they stand in the IP header, one behind the other.
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, transport_len: usize) -> u32 {
    sum(addresses, add(u32::from(protocol), transport_len as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1071_example() {
        assert_eq!(!fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0)), 0xddf2);
        assert_eq!(fold(sum(&[0xab], 0)), !0xab00);
        assert_eq!(fold(sum(&[], 0)), 0xffff);
    }

    #[test]
    fn rfc1624_example_gives_the_right_zero() {
        // Section 4: the field 0xdd2f, a word that goes from 0x5555 to 0x3285.
        assert_eq!(replace_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much() {
        let right = fold(sum(&[1, 2, 3, 4], 0));
        let after = fold(sum(&[9, 8, 3, 4], 0));
        let wrong = right.wrapping_add(5);
        assert_eq!(replace_u16(wrong, 0x0102, 0x0908), after.wrapping_add(5));
    }

    #[test]
    fn words_sum_as_their_bytes() {
        for words in [[0, 0], [u64::MAX, u64::MAX], [0xffff_ffff_0000_0001, 0xffff_fffe], [0x2001_0db8 << 32, 9]] {
            let [high, low] = words.map(u64::to_be_bytes);
            assert_eq!(sum_words(words), sum(&[high, low].concat(), 0), "{words:x?}");
        }
    }

    /// Of the two zeros the same one comes out, in either byte order.
    #[test]
    fn changes_are_followed_as_replaced() {
        for field in [0, 1, 0xfffe, 0xffff, 0x1234] {
            for (old, new) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (7, 7), (0x0a01_0203, 0xc633_6409), (1, 0x1_0000)]
            {
                let expected = replace_u32(field, old, new);
                assert_eq!(follow(field, change_u32(old, new)), expected);
                let swapped = follow(field.swap_bytes(), change_u32(old.swap_bytes(), new.swap_bytes()));
                assert_eq!(swapped.swap_bytes(), expected);
                let halves = change_u16((old >> 16) as u16, (new >> 16) as u16) + change_u16(old as u16, new as u16);
                assert_eq!(follow(field, halves), expected);
            }
        }
    }

    #[test]
    fn agrees_with_pnet() {
        let bytes: [u8; 61] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        for len in 1..bytes.len() {
            let theirs = pnet_packet::util::checksum(&bytes[..len], usize::MAX);
            assert_eq!(fold(sum(&bytes[..len], 0)), theirs, "length {len}");
        }
    }
}
