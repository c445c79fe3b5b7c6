//! Lists of decimal numbers without a range.

use core::net::Ipv4Addr;

/// Reads `N` decimal numbers with `separator` between them, up to the first byte that is neither a digit nor the
/// separator. That byte must exist, and be `terminator` if there is one; it is not counted in the length.
///
/// A field without digits is 0, and a field that exceeds 32 bits wraps.
pub(super) fn read<const N: usize>(text: &[u8], separator: u8, terminator: Option<u8>) -> Option<([u32; N], usize)> {
    let mut numbers = [0_u32; N];
    let mut at = 0;
    for (length, byte) in text.iter().copied().enumerate() {
        if byte.is_ascii_digit() {
            let number = numbers.get_mut(at)?;
            *number = number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
        } else if byte == separator {
            at += 1;
        } else {
            let complete = at + 1 == N && terminator.is_none_or(|t| t == byte);
            return complete.then_some((numbers, length));
        }
    }
    None
}

/// The address of four such numbers: joined by OR, so that what exceeds a byte reaches into the byte before.
pub(super) fn quad([a, b, c, d]: [u32; 4]) -> Ipv4Addr {
    Ipv4Addr::from_bits(a << 24 | b << 16 | c << 8 | d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_all_numbers_and_a_byte_behind() {
        assert_eq!(read(b"1,2;", b',', None), Some(([1, 2], 3)));
        assert_eq!(read(b"1,2;", b',', Some(b';')), Some(([1, 2], 3)));
        assert_eq!(read::<2>(b"1,2;", b',', Some(b'\r')), None);
        assert_eq!(read::<2>(b"1,2", b',', None), None);
        assert_eq!(read::<2>(b"1;", b',', None), None);
        assert_eq!(read::<2>(b"1,2,3;", b',', None), None);
        assert_eq!(read::<2>(b"1,2,;", b',', None), None);
        assert_eq!(read::<2>(b"", b',', None), None);
    }

    #[test]
    fn an_empty_field_is_zero() {
        assert_eq!(read(b",,,,,\r", b',', Some(b'\r')), Some(([0; 6], 5)));
        assert_eq!(read(b"\r", b',', None), Some(([0; 1], 0)));
    }

    #[test]
    fn fields_wrap_at_32_bits() {
        assert_eq!(read(b"4294967306 ", b',', None), Some(([10], 10)));
    }

    #[test]
    fn excess_bits_reach_into_the_byte_before() {
        assert_eq!(quad([9, 256, 0, 1]), Ipv4Addr::new(9, 0, 0, 1));
        assert_eq!(quad([8, 256, 0, 1]), Ipv4Addr::new(9, 0, 0, 1));
        assert_eq!(quad([0x1ff, 0, 0, 1]), Ipv4Addr::new(255, 0, 0, 1));
    }
}
