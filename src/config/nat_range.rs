//! `--to-source` and `--to-destination`.

use core::net::IpAddr;

use super::error::Error;
use super::values;
use super::words::Word;
use crate::netfilter::{NatRange, PortRange};
use crate::packet::Family;

/// `[ADDRESS[-ADDRESS]][:PORT[-PORT[/BASE]]]`; an IPv6 address with a port stands in brackets.
pub(super) fn nat_range(word: &Word, family: Family) -> Result<NatRange, Error> {
    parse(&word.text, family).ok_or_else(|| {
        Error::bad_value(
            word,
            match family {
                Family::V4 => "write ADDRESS, FIRST-LAST, ADDRESS:PORT or ADDRESS:FIRST-LAST",
                Family::V6 => "write ADDRESS, FIRST-LAST, [ADDRESS]:PORT or [ADDRESS]:FIRST-LAST",
            },
        )
    })
}

fn parse(text: &str, family: Family) -> Option<NatRange> {
    let (addresses, ports) = match family {
        Family::V4 => text.split_once(':').map_or((text, None), |(addresses, ports)| (addresses, Some(ports))),
        Family::V6 => split_v6(text)?,
    };
    if addresses.is_empty() && ports.is_none() {
        return None;
    }
    let mut range = NatRange::default();
    if !addresses.is_empty() {
        range.addresses = Some(address_range(addresses, family)?);
    }
    if let Some(ports) = ports {
        (range.ports, range.base_port) = port_range(ports)?;
    }
    Some(range)
}

/// Parts addresses and ports: a colon ends the addresses only where it is first or follows a bracket.
fn split_v6(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(ports) = text.strip_prefix(':')
        && !ports.contains(':')
    {
        return Some(("", Some(ports)));
    }
    match text.rsplit_once("]:") {
        Some((addresses, ports)) => Some((text.get(..addresses.len().checked_add(1)?)?, Some(ports))),
        None => Some((text, None)),
    }
}

/// `A`, `A-B`, `[A]`, `[A]-[B]` or `[A-B]`.
fn address_range(text: &str, family: Family) -> Option<(IpAddr, IpAddr)> {
    let text = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inside) if !inside.contains(['[', ']']) => inside,
        _ => text,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (one_address(first, family)?, one_address(last, family)?);
    (first <= last).then_some((first, last))
}

fn one_address(text: &str, family: Family) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').map_or(Some(text), |text| text.strip_suffix(']'))?;
    // Linux wants all four bytes here, unlike in -s.
    if family == Family::V4 { bare.parse().ok().map(IpAddr::V4) } else { values::address(bare, family) }
}

fn port_range(text: &str) -> Option<(Option<PortRange>, Option<u16>)> {
    let (ports, base) = text.split_once('/').map_or((text, None), |(ports, base)| (ports, Some(base)));
    let base = match base {
        Some(base) => Some(values::port(base)?),
        None => None,
    };
    let ports = values::nat_ports(ports)?;
    (ports.first != 0).then_some((Some(ports), base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, family: Family) -> Option<NatRange> {
        nat_range(&Word::new(text, 1), family).ok()
    }

    fn range(first: &str, last: &str, ports: Option<(u16, u16)>) -> NatRange {
        NatRange {
            addresses: Some((first.parse().unwrap(), last.parse().unwrap())),
            ports: ports.map(|(first, last)| PortRange { first, last }),
            ..NatRange::default()
        }
    }

    #[test]
    fn ipv4() {
        let v4 = |text| read(text, Family::V4).unwrap();
        assert_eq!(v4("203.0.113.99"), range("203.0.113.99", "203.0.113.99", None));
        assert_eq!(v4("203.0.113.10-203.0.113.13"), range("203.0.113.10", "203.0.113.13", None));
        assert_eq!(v4("203.0.113.10:30000-30020"), range("203.0.113.10", "203.0.113.10", Some((30000, 30020))));
        assert_eq!(v4("10.0.0.1-10.0.0.2:21"), range("10.0.0.1", "10.0.0.2", Some((21, 21))));
        assert_eq!(v4(":2121"), NatRange { ports: Some(PortRange::one(2121)), ..NatRange::default() });
        let shifted = NatRange { base_port: Some(21), ..range("10.0.0.1", "10.0.0.1", Some((2100, 2200))) };
        assert_eq!(v4("10.0.0.1:2100-2200/21"), shifted);
    }

    #[test]
    fn ipv6() {
        let v6 = |text| read(text, Family::V6).unwrap();
        assert_eq!(v6("fd77:1::11"), range("fd77:1::11", "fd77:1::11", None));
        assert_eq!(v6("fd77:1::11-fd77:1::12"), range("fd77:1::11", "fd77:1::12", None));
        assert_eq!(v6("[fd77:1::11]:21"), range("fd77:1::11", "fd77:1::11", Some((21, 21))));
        assert_eq!(v6("[fd77:1::11]"), range("fd77:1::11", "fd77:1::11", None));
        assert_eq!(v6("[fd77::1]-[fd77::2]:1-2"), range("fd77::1", "fd77::2", Some((1, 2))));
        assert_eq!(v6("[fd77::1-fd77::2]:1-2"), range("fd77::1", "fd77::2", Some((1, 2))));
        assert_eq!(v6("::1"), range("::1", "::1", None));
        assert_eq!(v6(":21"), NatRange { ports: Some(PortRange::one(21)), ..NatRange::default() });
    }

    #[test]
    fn refusals() {
        let refused =
            ["", ":", "10.0.0.1:", "10.0.0.2-10.0.0.1", "10.0.0.1:0", "10.0.0.1:2-1", "10.0", "::1", "10.0.0.1:1/"];
        for text in refused {
            assert_eq!(read(text, Family::V4), None, "{text}");
        }
        for text in ["", "10.0.0.1", "[::1", "[::1]:", "[::1]:x", "::1]:1", "[[::1]]:1"] {
            assert_eq!(read(text, Family::V6), None, "{text}");
        }
    }
}
