//! Addresses as numbers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// An address as the path compares, sums and writes it: two words, an IPv4 address in the first.
///
/// What [`IpAddr`] holds are bytes behind a tag; to take them out and put them together again for every step costs more
/// than the steps.
#[derive(Clone, Copy, Debug, Eq)]
pub(crate) struct Address {
    pub(crate) family: Family,
    pub(crate) words: [u64; 2],
}

impl Address {
    #[inline]
    pub(crate) const fn v4(bits: u32) -> Self {
        Self { family: Family::V4, words: [bits as u64, 0] }
    }
}

/// Questions of routing about an address.
#[cfg(feature = "alloc")]
impl Address {
    /// Returns true if it is a multicast address.
    #[inline]
    pub(crate) const fn is_multicast(self) -> bool {
        match self.family {
            Family::V4 => self.words[0] >> 28 == 0xe,
            Family::V6 => self.words[0] >> 56 == 0xff,
        }
    }

    /// Returns true if it is the limited broadcast address (RFC 919).
    #[inline]
    pub(crate) const fn is_broadcast(self) -> bool {
        matches!(self.family, Family::V4) && self.words[0] == u32::MAX as u64
    }

    /// True for the addresses of this host and this network (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5). Routing
    /// handles each of them in its own way.
    #[inline]
    pub(crate) const fn is_host_internal(self) -> bool {
        match self.family {
            Family::V4 => matches!(self.words[0] >> 24, 0 | 127),
            Family::V6 => self.words[0] == 0 && self.words[1] <= 1,
        }
    }

    /// True for 0.0.0.0 and ::.
    #[inline]
    pub(crate) const fn is_unspecified(self) -> bool {
        self.words[0] == 0 && self.words[1] == 0
    }

    /// True for 127.0.0.0/8 and ::1.
    #[inline]
    pub(crate) const fn is_loopback(self) -> bool {
        match self.family {
            Family::V4 => self.words[0] >> 24 == 127,
            Family::V6 => self.words[0] == 0 && self.words[1] == 1,
        }
    }

    /// True for fe80::/10, which belongs to one link (RFC 4291 section 2.5.6).
    #[inline]
    pub(crate) const fn is_link_local_v6(self) -> bool {
        matches!(self.family, Family::V6) && self.words[0] >> 54 == 0x3fa
    }

    /// The scope of an IPv6 group (RFC 4291 section 2.7): 1 is the interface's own, 2 the link's.
    #[inline]
    pub(crate) const fn multicast_scope(self) -> u8 {
        (self.words[0] >> 48) as u8 & 0xf
    }
}

impl PartialEq for Address {
    /// Word by word: arrays are compared in memory, to which the words would have to be written first.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ([high, low], [other_high, other_low]) = (self.words, other.words);
        high == other_high && low == other_low && self.family == other.family
    }
}

impl From<IpAddr> for Address {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            IpAddr::V6(v6) => Self { family: Family::V6, words: [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64] },
        }
    }
}

impl From<Address> for IpAddr {
    #[inline]
    fn from(address: Address) -> Self {
        let [high, low] = address.words;
        match address.family {
            Family::V4 => Ipv4Addr::from_bits(high as u32).into(),
            Family::V6 => Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into(),
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_address() {
        for (text, multicast, broadcast, internal) in [
            ("0.0.0.0", false, false, true),
            ("127.255.0.1", false, false, true),
            ("10.0.0.1", false, false, false),
            ("224.0.0.1", true, false, false),
            ("239.255.255.255", true, false, false),
            ("240.0.0.1", false, false, false),
            ("255.255.255.255", false, true, false),
            ("::", false, false, true),
            ("::1", false, false, true),
            ("::2", false, false, false),
            ("ff02::1", true, false, false),
            ("2001:db8::1", false, false, false),
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(IpAddr::from(address), ip);
            let kinds = (address.is_multicast(), address.is_broadcast(), address.is_host_internal());
            assert_eq!(kinds, (multicast, broadcast, internal), "{text}");
            assert_eq!(address.is_multicast(), ip.is_multicast());
        }
    }
}
