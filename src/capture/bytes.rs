//! Numbers in a file's byte order.

/// The order of bytes in a file or a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    /// The order in which `bytes` begin with `magic`.
    pub(super) fn of_magic(bytes: &[u8], magic: u32) -> Option<Self> {
        [Self::Big, Self::Little].into_iter().find(|order| order.u32(bytes, 0) == Some(magic))
    }

    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let word = chunk(bytes, at)?;
        Some(match self {
            Self::Big => u16::from_be_bytes(word),
            Self::Little => u16::from_le_bytes(word),
        })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = chunk(bytes, at)?;
        Some(match self {
            Self::Big => u32::from_be_bytes(word),
            Self::Little => u32::from_le_bytes(word),
        })
    }

    pub(super) fn i64(self, bytes: &[u8], at: usize) -> Option<i64> {
        let word = chunk(bytes, at)?;
        Some(match self {
            Self::Big => i64::from_be_bytes(word),
            Self::Little => i64::from_le_bytes(word),
        })
    }
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders() {
        let bytes = [0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 0x80];
        assert_eq!(Order::Big.u16(&bytes, 1), Some(0x0b0c));
        assert_eq!(Order::Little.u16(&bytes, 1), Some(0x0c0b));
        assert_eq!(Order::Big.u32(&bytes, 0), Some(0x0a0b_0c0d));
        assert_eq!(Order::Little.u32(&bytes, 0), Some(0x0d0c_0b0a));
        assert_eq!(Order::Little.i64(&bytes, 0), Some(i64::MIN | 0x0d0c_0b0a));
        assert_eq!(Order::Big.u32(&bytes, 5), None);
        assert_eq!(Order::Big.u16(&bytes, usize::MAX), None);
        assert_eq!(Order::of_magic(&bytes, 0x0d0c_0b0a), Some(Order::Little));
        assert_eq!(Order::of_magic(&bytes, 1), None);
    }
}
