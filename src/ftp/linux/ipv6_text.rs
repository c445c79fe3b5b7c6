//! IPv6 addresses, as much of them as Linux takes for one.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Returns the length of the address at the start of `text`: up to the delimiter or a NUL, else all of it.
pub(super) fn length(text: &[u8], delimiter: u8) -> usize {
    text.iter().position(|b| *b == delimiter || *b == 0).unwrap_or(text.len())
}

/// Reads an address that is the whole of `text` (RFC 4291 section 2.2, all three forms). Linux takes any number of
/// leading zeros, in groups and in the dotted quad.
pub(super) fn read(text: &[u8]) -> Option<Ipv6Addr> {
    match text.windows(2).position(|pair| pair == b"::") {
        None => {
            let groups = Groups::read(text)?;
            (groups.count == Groups::ALL).then_some(groups.values.into())
        }
        Some(gap) => shortened(text.get(..gap)?, text.get(gap + 2..)?),
    }
}

/// The address `head::tail`; the gap stands for at least one group, and a dotted quad can only be at the very end.
fn shortened(head: &[u8], tail: &[u8]) -> Option<Ipv6Addr> {
    if head.contains(&b'.') {
        return None;
    }
    let (head, tail) = (Groups::read(head)?, Groups::read(tail)?);
    if head.count + tail.count >= Groups::ALL {
        return None;
    }
    let mut values = head.values;
    let from_end = values.iter_mut().rev().take(tail.count);
    for (value, group) in from_end.zip(tail.values.iter().take(tail.count).rev()) {
        *value = *group;
    }
    Some(values.into())
}

/// Groups of an address from one place on; those not read are 0.
struct Groups {
    values: [u16; Self::ALL],
    count: usize,
}

impl Groups {
    const ALL: usize = 8;

    /// Reads groups with colons between; the last may be a dotted quad, which counts as two.
    fn read(text: &[u8]) -> Option<Self> {
        let mut groups = Self { values: [0; Self::ALL], count: 0 };
        if text.is_empty() {
            return Some(groups);
        }
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (group, behind) = split(text, b':');
            match behind {
                None if group.contains(&b'.') => groups.push_quad(quad(group)?)?,
                _ => groups.push(number(group, 16, 0xffff)?)?,
            }
            rest = behind;
        }
        Some(groups)
    }

    fn push(&mut self, value: u16) -> Option<()> {
        *self.values.get_mut(self.count)? = value;
        self.count += 1;
        Some(())
    }

    fn push_quad(&mut self, quad: Ipv4Addr) -> Option<()> {
        let [a, b, c, d] = quad.octets();
        self.push(u16::from_be_bytes([a, b]))?;
        self.push(u16::from_be_bytes([c, d]))
    }
}

fn quad(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut rest = Some(text);
    for octet in &mut octets {
        let (digits, behind) = split(rest?, b'.');
        *octet = number(digits, 10, 0xff)? as u8;
        rest = behind;
    }
    rest.is_none().then_some(octets.into())
}

/// Splits text at the first `separator`, if there is one.
fn split(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |b| *b == separator);
    (parts.next().unwrap_or_default(), parts.next())
}

/// A number of at least one digit, at most `max`.
fn number(digits: &[u8], radix: u32, max: u16) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u32;
    for byte in digits {
        // Stays below 2^20, however many zeros lead.
        value = value * radix + char::from(*byte).to_digit(radix)?;
        if value > u32::from(max) {
            return None;
        }
    }
    u16::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn same(ours: &str, plain: &str) {
        assert_eq!(read(ours.as_bytes()), Some(plain.parse().unwrap()), "{ours}");
    }

    #[test]
    fn every_form() {
        for text in [
            "::",
            "fd77:1::2",
            "fd77:1:0:0:0:0:0:2",
            "FD77::aBcD",
            "1::",
            "::1",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8",
            "::ffff:1.2.3.4",
            "fd77:1::10.99.200.255",
            "1:2:3:4:5:6:7.8.9.10",
            "1:2:3:4:5::1.2.3.4",
        ] {
            same(text, text);
        }
    }

    #[test]
    fn any_number_of_leading_zeros() {
        same("fd77:000000000000000000001::0002", "fd77:1::2");
        same("0fd77::", "fd77::");
        same("fd77:1::0000.00.0.0000002", "fd77:1::2");
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            ":",
            ":::",
            "1",
            "1:",
            "1:2:3:4:5:6:7",
            ":1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:",
            "1:2:3:4:5:6:7:8:",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4::5:6:7:8",
            "1:2:3:4:5:6:7:8::",
            "::1:2:3:4:5:6:7:8",
            "1::2::3",
            "1:::2",
            "1::2:",
            "10000::",
            "100000000::",
            "1fd77::",
            "::g",
            "::1 ",
            " ::1",
            "::1%eth0",
            "1.2.3.4",
            "::1.2.3",
            "::1.2.3.4.5",
            "::1.2.3.",
            "::.1.2.3",
            "::1..2.3",
            "::1.2.3.256",
            "::a.2.3.4",
            "::1.2.3.a",
            "::1.2.3.4:5",
            "1.2.3.4::",
            "::1.2.3.4294967298",
            "1:2:3:4:5:6:7:1.2.3.4",
            "1:2:3:4:5:1.2.3.4",
            "1:2:3:4:5:6::1.2.3.4",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ends_at_the_delimiter_a_nul_or_the_end() {
        assert_eq!(length(b"::1|5|", b'|'), 3);
        assert_eq!(length(b"::1\x005|", b'|'), 3);
        assert_eq!(length(b"::1", b'|'), 3);
        assert_eq!(length(b"fd77::a2A", b'A'), 8);
    }
}
