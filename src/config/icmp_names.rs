//! The names iptables has for ICMP types and codes.

use crate::packet::Family;

/// A type and the codes it comes with, both ends included.
pub(super) type IcmpType = (u8, (u8, u8));

const ALL: (u8, u8) = (0, 255);

/// RFC 792, RFC 950, RFC 1256, RFC 1812 section 5.2.7; 255 is the kernel's "any".
const V4: &[(&str, IcmpType)] = &[
    ("any", (255, ALL)),
    ("echo-reply", (0, ALL)),
    ("pong", (0, ALL)),
    ("destination-unreachable", (3, ALL)),
    ("network-unreachable", (3, (0, 0))),
    ("host-unreachable", (3, (1, 1))),
    ("protocol-unreachable", (3, (2, 2))),
    ("port-unreachable", (3, (3, 3))),
    ("fragmentation-needed", (3, (4, 4))),
    ("source-route-failed", (3, (5, 5))),
    ("network-unknown", (3, (6, 6))),
    ("host-unknown", (3, (7, 7))),
    ("network-prohibited", (3, (9, 9))),
    ("host-prohibited", (3, (10, 10))),
    ("TOS-network-unreachable", (3, (11, 11))),
    ("TOS-host-unreachable", (3, (12, 12))),
    ("communication-prohibited", (3, (13, 13))),
    ("host-precedence-violation", (3, (14, 14))),
    ("precedence-cutoff", (3, (15, 15))),
    ("source-quench", (4, ALL)),
    ("redirect", (5, ALL)),
    ("network-redirect", (5, (0, 0))),
    ("host-redirect", (5, (1, 1))),
    ("TOS-network-redirect", (5, (2, 2))),
    ("TOS-host-redirect", (5, (3, 3))),
    ("echo-request", (8, ALL)),
    ("ping", (8, ALL)),
    ("router-advertisement", (9, ALL)),
    ("router-solicitation", (10, ALL)),
    ("time-exceeded", (11, ALL)),
    ("ttl-exceeded", (11, ALL)),
    ("ttl-zero-during-transit", (11, (0, 0))),
    ("ttl-zero-during-reassembly", (11, (1, 1))),
    ("parameter-problem", (12, ALL)),
    ("ip-header-bad", (12, (0, 0))),
    ("required-option-missing", (12, (1, 1))),
    ("timestamp-request", (13, ALL)),
    ("timestamp-reply", (14, ALL)),
    ("address-mask-request", (17, ALL)),
    ("address-mask-reply", (18, ALL)),
];

/// RFC 4443 sections 3 and 4, RFC 4861 section 4.
const V6: &[(&str, IcmpType)] = &[
    ("destination-unreachable", (1, ALL)),
    ("no-route", (1, (0, 0))),
    ("communication-prohibited", (1, (1, 1))),
    ("beyond-scope", (1, (2, 2))),
    ("address-unreachable", (1, (3, 3))),
    ("port-unreachable", (1, (4, 4))),
    ("failed-policy", (1, (5, 5))),
    ("reject-route", (1, (6, 6))),
    ("packet-too-big", (2, ALL)),
    ("time-exceeded", (3, ALL)),
    ("ttl-exceeded", (3, ALL)),
    ("ttl-zero-during-transit", (3, (0, 0))),
    ("ttl-zero-during-reassembly", (3, (1, 1))),
    ("parameter-problem", (4, ALL)),
    ("bad-header", (4, (0, 0))),
    ("unknown-header-type", (4, (1, 1))),
    ("unknown-option", (4, (2, 2))),
    ("echo-request", (128, ALL)),
    ("ping", (128, ALL)),
    ("echo-reply", (129, ALL)),
    ("pong", (129, ALL)),
    ("router-solicitation", (133, ALL)),
    ("router-advertisement", (134, ALL)),
    ("neighbour-solicitation", (135, ALL)),
    ("neighbor-solicitation", (135, ALL)),
    ("neighbour-advertisement", (136, ALL)),
    ("neighbor-advertisement", (136, ALL)),
    ("redirect", (137, ALL)),
];

/// `TYPE`, `TYPE/CODE`, or a name: whole or so much of it that no other begins like it, in either case.
pub(super) fn icmp_type(text: &str, family: Family) -> Option<IcmpType> {
    numeric(text).or_else(|| named(text, if family == Family::V4 { V4 } else { V6 }))
}

fn numeric(text: &str) -> Option<IcmpType> {
    let Some((kind, code)) = text.split_once('/') else { return Some((text.parse().ok()?, ALL)) };
    let code = code.parse().ok()?;
    Some((kind.parse().ok()?, (code, code)))
}

fn named(text: &str, names: &[(&str, IcmpType)]) -> Option<IcmpType> {
    if text.is_empty() {
        return None;
    }
    if let Some((_, found)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Some(*found);
    }
    let begins = |name: &str| name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    let mut found = names.iter().filter(|(name, _)| begins(name)).map(|(_, found)| *found);
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(icmp_type("echo-request", Family::V4), Some((8, (0, 255))));
        assert_eq!(icmp_type("echo-request", Family::V6), Some((128, (0, 255))));
        assert_eq!(icmp_type("fragmentation-needed", Family::V4), Some((3, (4, 4))));
        assert_eq!(icmp_type("packet-too-big", Family::V6), Some((2, (0, 255))));
        assert_eq!(icmp_type("any", Family::V4), Some((255, (0, 255))));
        assert_eq!(icmp_type("3/4", Family::V4), Some((3, (4, 4))));
        assert_eq!(icmp_type("8", Family::V4), Some((8, (0, 255))));
    }

    #[test]
    fn a_beginning_will_do_if_it_is_the_only_one() {
        assert_eq!(icmp_type("FRAG", Family::V4), Some((3, (4, 4))));
        assert_eq!(icmp_type("echo", Family::V4), None);
        assert_eq!(icmp_type("neigh", Family::V6), None);
        assert_eq!(icmp_type("", Family::V4), None);
    }

    #[test]
    fn what_is_none() {
        for text in ["any", "256", "8/256", "8/", "/0", "fragmentation-needed", "é"] {
            assert_eq!(icmp_type(text, Family::V6), None, "{text}");
        }
    }
}
