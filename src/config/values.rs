//! The values that options take: addresses, ports, protocols, marks.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use super::error::Error;
use super::protocol_names::PROTOCOLS;
use super::words::Word;
use crate::netfilter::{AddressMask, Cidr, Masked, PortRange};
use crate::packet::{Family, Protocol};

const WANTED_PORT: &str = "write a port from 0 to 65535, a range such as 1024:65535, or a service such as ftp";

/// The ports that some names stand for (IANA's service names, and `www` and `imap2` as /etc/services has them).
const SERVICES: &[(&str, u16)] = &[
    ("echo", 7),
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("gopher", 70),
    ("finger", 79),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("auth", 113),
    ("nntp", 119),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("submissions", 465),
    ("isakmp", 500),
    ("syslog", 514),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("submission", 587),
    ("ipp", 631),
    ("ldaps", 636),
    ("rsync", 873),
    ("ftps-data", 989),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("radius", 1812),
    ("nfs", 2049),
    ("mysql", 3306),
    ("ipsec-nat-t", 4500),
    ("sip", 5060),
    ("mdns", 5353),
    ("postgresql", 5432),
    ("http-alt", 8080),
];

/// A protocol by name (in either case) or number; `None` for all of them.
pub(super) fn protocol(word: &Word) -> Result<Option<Protocol>, Error> {
    let text = word.text.to_ascii_lowercase();
    if text == "all" {
        return Ok(None);
    }
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| number(&text).map(u128::from)).and_then(|number| u8::try_from(number).ok());
    let number = number.ok_or_else(|| Error::bad_value(word, "write a protocol such as tcp, udp, icmp, 47 or all"))?;
    Ok((number != 0).then_some(Protocol(number)))
}

/// A number as C writes it: decimal, `0x` hexadecimal, or octal behind a zero.
pub(super) fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // The standard library would let a sign through.
    if digits.starts_with(['+', '-']) { None } else { u32::from_str_radix(digits, radix).ok() }
}

/// Parses a number of 64 bits as C writes it.
pub(super) fn number64(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// Parses the decimal digits that a text begins with.
pub(super) fn leading_digits(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Returns the number of days from 1 January 1970 to a date.
pub(super) fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    // Years of this count begin in March, so that a leap day is their last.
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let since_march = if month > 2 { month.saturating_sub(3) } else { month.saturating_add(9) };
    let of_year = (153 * since_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

/// A number that may have only decimal digits.
pub(super) fn decimal<T: core::str::FromStr>(text: &str) -> Option<T> {
    if text.starts_with(['+', '-']) { None } else { text.parse().ok() }
}

/// `VALUE` or `VALUE/MASK`.
pub(super) fn masked(word: &Word) -> Result<Masked, Error> {
    let parse = || match word.text.split_once('/') {
        Some((value, mask)) => Some(Masked { value: number(value)?, mask: number(mask)? }),
        None => Some(Masked { value: number(&word.text)?, mask: u32::MAX }),
    };
    parse().ok_or_else(|| Error::bad_value(word, "write a mark such as 21, 0x15 or 0x15/0xff"))
}

/// A 32-bit number.
pub(super) fn bits(word: &Word) -> Result<u32, Error> {
    number(&word.text).ok_or_else(|| Error::bad_value(word, "write a number such as 21 or 0xff"))
}

/// Returns the port that a service's name stands for.
pub(super) fn service(text: &str) -> Option<u16> {
    SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port)
}

/// A port by number or service.
pub(super) fn port(text: &str) -> Option<u16> {
    decimal(text).or_else(|| service(text))
}

/// `A`, `A:B`, `:B` or `A:`, with the separator that the option has.
fn range(text: &str, separator: char) -> Option<PortRange> {
    let Some((first, last)) = text.split_once(separator) else { return port(text).map(PortRange::one) };
    let first = if first.is_empty() { 0 } else { port(first)? };
    let last = if last.is_empty() { u16::MAX } else { port(last)? };
    (first <= last).then_some(PortRange { first, last })
}

/// The ports of `--dport`.
pub(super) fn port_range(word: &Word) -> Result<PortRange, Error> {
    range(&word.text, ':').ok_or_else(|| Error::bad_value(word, WANTED_PORT))
}

/// The ports of `-m multiport`; the kernel has room for fifteen, and a range takes two.
pub(super) fn port_list(word: &Word) -> Result<Vec<PortRange>, Error> {
    let ranges: Option<Vec<PortRange>> = word.text.split(',').map(|text| range(text, ':')).collect();
    let ranges = ranges.ok_or_else(|| Error::bad_value(word, WANTED_PORT))?;
    let room: usize = word.text.split(',').map(|text| if text.contains(':') { 2 } else { 1 }).sum();
    if room > 15 {
        Err(Error::bad_value(word, "list at most 15 ports, where a range counts as two"))
    } else {
        Ok(ranges)
    }
}

/// The ports of `--to-ports`: `A` or `A-B`, since a dash in a service's name would not do.
pub(super) fn nat_ports(text: &str) -> Option<PortRange> {
    if let Some(port) = port(text) {
        return Some(PortRange::one(port));
    }
    let (first, last) = text.split_once('-')?;
    let (first, last) = (decimal(first)?, decimal(last)?);
    (first <= last).then_some(PortRange { first, last })
}

/// An address of the family; an IPv4 address may leave trailing zero bytes out (`10`, `10.1`), as iptables allows.
pub(super) fn address(text: &str, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => dotted(text).map(IpAddr::V4),
        Family::V6 => text.parse().ok().map(IpAddr::V6),
    }
}

fn dotted(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0u8; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        match parts.next() {
            Some(part) => *byte = decimal(part)?,
            None => break,
        }
    }
    parts.next().is_none().then_some(Ipv4Addr::from(bytes))
}

/// The network that `-s` or `-d` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// An address and a prefix.
    Prefix(Cidr),
    /// A mask whose ones are not all in front.
    Scattered(AddressMask),
}

/// One or more networks: `ADDRESS`, `ADDRESS/PREFIX` or `ADDRESS/MASK`, separated by commas.
pub(super) fn networks(word: &Word, family: Family) -> Result<Vec<Network>, Error> {
    let networks: Option<Vec<Network>> = word.text.split(',').map(|text| network(text.trim(), family)).collect();
    networks.ok_or_else(|| {
        Error::bad_value(
            word,
            match family {
                Family::V4 => "write an IPv4 address or network such as 192.0.2.1 or 10.0.0.0/8",
                Family::V6 => "write an IPv6 address or network such as 2001:db8::1 or fd00::/8",
            },
        )
    })
}

fn network(text: &str, family: Family) -> Option<Network> {
    let Some((text, mask)) = text.split_once('/') else {
        return Some(Network::Prefix(Cidr::host(address(text, family)?)));
    };
    let address = address(text, family)?;
    let Some(prefix) = prefix(mask, family)? else {
        let mask = match mask.parse().ok()? {
            IpAddr::V4(mask) => u128::from(mask.to_bits()),
            IpAddr::V6(mask) => mask.to_bits(),
        };
        return Some(Network::Scattered(AddressMask { address, mask }));
    };
    Some(Network::Prefix(Cidr::new(cut(address, prefix), prefix)?))
}

/// Returns how many leading bits a mask has, written as an address; `Some(None)` where its ones are not all in front.
pub(super) fn prefix_of_mask(mask: &str, family: Family) -> Option<Option<u8>> {
    prefix(mask, family).filter(|_| decimal::<u8>(mask).is_none())
}

/// Returns the number of leading ones of a mask; `None` inside where its ones are not all in front.
fn prefix(mask: &str, family: Family) -> Option<Option<u8>> {
    if let Some(prefix) = decimal::<u8>(mask) {
        return Some(Some(prefix));
    }
    let (ones, contiguous) = match (family, mask.parse().ok()?) {
        (Family::V4, IpAddr::V4(mask)) => {
            let bits = mask.to_bits();
            (bits.count_ones(), bits.leading_ones() == bits.count_ones())
        }
        (Family::V6, IpAddr::V6(mask)) => {
            let bits = mask.to_bits();
            (bits.count_ones(), bits.leading_ones() == bits.count_ones())
        }
        _ => return None,
    };
    Some(if contiguous { u8::try_from(ones).ok() } else { None })
}

/// The address with nothing but zeros beyond the prefix.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn word(text: &str) -> Word {
        Word::new(text, 1)
    }

    fn prefix_of(address: &str, prefix: u8) -> Network {
        Network::Prefix(Cidr::new(address.parse().unwrap(), prefix).unwrap())
    }

    #[test]
    fn networks_in_every_spelling() {
        let v4 = |text| networks(&word(text), Family::V4).unwrap();
        assert_eq!(v4("192.168.0.18"), [prefix_of("192.168.0.18", 32)]);
        assert_eq!(v4("10.77.1.5/24"), [prefix_of("10.77.1.0", 24)]);
        assert_eq!(v4("10.77.1.5/255.255.0.0"), [prefix_of("10.77.0.0", 16)]);
        assert_eq!(v4("0/0"), [prefix_of("0.0.0.0", 0)]);
        assert_eq!(v4("10/8,192.168/16"), [prefix_of("10.0.0.0", 8), prefix_of("192.168.0.0", 16)]);
        let scattered = AddressMask { address: [10, 0, 0, 0].into(), mask: 0xff00_ff00 };
        assert_eq!(v4("10.0.0.0/255.0.255.0"), [Network::Scattered(scattered)]);
        let v6 = |text| networks(&word(text), Family::V6).unwrap();
        assert_eq!(v6("2001:db8:1::1/64"), [prefix_of("2001:db8:1::", 64)]);
        assert_eq!(v6("2001:db8::/ffff:ffff::"), [prefix_of("2001:db8::", 32)]);
        assert_eq!(v6("::/0"), [prefix_of("::", 0)]);
    }

    #[test]
    fn what_is_no_network() {
        for text in ["", "300", "10.0.0.0/33", "1.2.3.4.5", "10.0.0.1,", "ftp.example", "+1", "::1", "10.0.0.0/::"] {
            assert!(networks(&word(text), Family::V4).is_err(), "{text}");
        }
        for text in ["10.0.0.1", "::/129", "::/255.0.0.0", ":::"] {
            assert!(networks(&word(text), Family::V6).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        let range = |first, last| PortRange { first, last };
        assert_eq!(port_range(&word("10000:20000")), Ok(range(10000, 20000)));
        assert_eq!(port_range(&word(":1023")), Ok(range(0, 1023)));
        assert_eq!(port_range(&word("1024:")), Ok(range(1024, 65535)));
        assert_eq!(port_range(&word("ftp-data:ftp")), Ok(range(20, 21)));
        assert_eq!(port_list(&word("21,ssh,80:90")), Ok(vec![range(21, 21), range(22, 22), range(80, 90)]));
        assert_eq!(nat_ports("40000-40010"), Some(range(40000, 40010)));
        assert_eq!(nat_ports("ftp-data"), Some(range(20, 20)));
        for text in ["", "65536", "2:1", "1-2", "1,2", "+1", "no-such"] {
            assert!(port_range(&word(text)).is_err(), "{text}");
        }
        assert!(port_list(&word("1,,2")).is_err());
        assert!(port_list(&word("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15")).is_ok());
        assert!(port_list(&word("1,2,3,4,5,6,7,8,9,10,11,12,13,14:15,16")).is_err());
        assert_eq!(nat_ports("9-1"), None);
    }

    #[test]
    fn protocols() {
        assert_eq!(protocol(&word("TCP")), Ok(Some(Protocol::TCP)));
        assert_eq!(protocol(&word("ipv6-icmp")), Ok(Some(Protocol::ICMPV6)));
        assert_eq!(protocol(&word("ipip")), Ok(Some(Protocol(94))), "4 is ipencap in /etc/protocols");
        assert_eq!(protocol(&word("47")), Ok(Some(Protocol::GRE)));
        assert_eq!(protocol(&word("all")), Ok(None));
        assert_eq!(protocol(&word("0")), Ok(None));
        assert!(protocol(&word("256")).is_err());
        assert!(protocol(&word("tpc")).is_err());
    }

    #[test]
    fn marks() {
        assert_eq!(masked(&word("0x15/0xff")), Ok(Masked { value: 0x15, mask: 0xff }));
        assert_eq!(masked(&word("21")), Ok(Masked { value: 21, mask: u32::MAX }));
        assert_eq!(masked(&word("010")), Ok(Masked { value: 8, mask: u32::MAX }));
        for text in ["", "0x", "0x100000000", "-1", "+1", "0x+1", "1/", "1/2/3", "09"] {
            assert!(masked(&word(text)).is_err(), "{text}");
        }
    }
}
