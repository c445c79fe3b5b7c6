//! The delimited forms of RFC 2428.

use core::net::IpAddr;

use super::{Found, ipv6_text, numbers};

/// Reads `|1|a.b.c.d|port|` or `|2|ipv6|port|`, whichever family `own` has, from the first delimiter on.
pub(super) fn eprt(own: IpAddr, text: &[u8]) -> Option<Found> {
    let [delimiter, family, second, rest @ ..] = text else { return None };
    if !is_delimiter(*delimiter) || second != delimiter {
        return None;
    }
    let (address, address_length) = match (own, family) {
        (IpAddr::V4(_), b'1') => {
            let (quad, length) = numbers::read(rest, b'.', Some(*delimiter))?;
            (IpAddr::V4(numbers::quad(quad)), length)
        }
        (IpAddr::V6(_), b'2') => {
            let length = ipv6_text::length(rest, *delimiter);
            (IpAddr::V6(ipv6_text::read(rest.get(..length)?)?), length)
        }
        _ => return None,
    };
    // One byte ends the address: the delimiter, or a NUL behind an IPv6 address.
    let before_port = 3 + address_length + 1;
    let (port, port_length) = port(text.get(before_port..)?, *delimiter)?;
    Some(Found { address, port, length: before_port + port_length })
}

/// Reads `|||port|` from the first delimiter on; the address is `own`.
pub(super) fn epsv(own: IpAddr, text: &[u8]) -> Option<Found> {
    let [delimiter, second, third, rest @ ..] = text else { return None };
    if !is_delimiter(*delimiter) || second != delimiter || third != delimiter {
        return None;
    }
    let (port, port_length) = port(rest, *delimiter)?;
    Some(Found { address: own, port, length: 3 + port_length })
}

/// RFC 2428 allows digits too, but then nothing could be told apart.
fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_graphic() && !byte.is_ascii_digit()
}

/// Reads a port and the delimiter behind it; the length includes the delimiter. It counts in 16 bits, and 0 is refused.
fn port(text: &[u8], delimiter: u8) -> Option<(u16, usize)> {
    let mut port = 0_u16;
    for (at, byte) in text.iter().copied().enumerate() {
        if byte == delimiter {
            return (port != 0).then_some((port, at + 1));
        }
        if !byte.is_ascii_digit() {
            return None;
        }
        port = port.wrapping_mul(10).wrapping_add(u16::from(byte - b'0'));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_counts_in_16_bits_and_is_not_zero() {
        assert_eq!(port(b"1025|)", b'|'), Some((1025, 5)));
        assert_eq!(port(b"00021|", b'|'), Some((21, 6)));
        assert_eq!(port(b"65557|", b'|'), Some((21, 6)));
        assert_eq!(port(b"65536|", b'|'), None);
        assert_eq!(port(b"0|", b'|'), None);
        assert_eq!(port(b"|", b'|'), None);
        assert_eq!(port(b"21", b'|'), None);
        assert_eq!(port(b"2x1|", b'|'), None);
    }

    #[test]
    fn delimiters_are_printable_and_no_digits() {
        assert!(is_delimiter(33) && is_delimiter(126) && is_delimiter(b'x'));
        assert!(!is_delimiter(32) && !is_delimiter(127) && !is_delimiter(b'0') && !is_delimiter(0xa6));
    }
}
