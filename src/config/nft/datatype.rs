//! The data types of nftables: how a word becomes a number.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::string::String;

use super::super::protocol_names::PROTOCOLS;
use super::super::values::service;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Ipv4,
    Ipv6,
    Port,
    Protocol,
    /// The name of an interface; a trailing asterisk stands for any ending.
    Name,
    /// An interface, by its name: without wildcards.
    Interface,
    /// The name of a helper.
    Text,
    Mark,
    State,
    Status,
    Direction,
    Family,
    EtherType,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    TcpFlags,
    Dscp,
    PacketType,
    RouteType,
    Boolean,
    User,
    Ecn,
    /// Nanoseconds since 1970, in UTC.
    Time,
    /// The day of the week, in UTC.
    Day,
    /// Seconds since midnight, in UTC.
    Hour,
    /// The name of an object.
    Object,
    Integer(u8),
}

impl Datatype {
    /// Returns the number of bits of a value.
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 | Self::Mark | Self::State | Self::Status | Self::RouteType | Self::User => 32,
            Self::Ipv6 | Self::Name | Self::Interface | Self::Text => 128,
            Self::Port | Self::EtherType => 16,
            Self::Dscp => 6,
            Self::Ecn => 2,
            Self::Time => 64,
            Self::Hour => 32,
            Self::Integer(bits) => bits,
            _ => 8,
        }
    }

    /// The type that a set's declaration names.
    pub(super) fn of_set(name: &str) -> Option<Self> {
        Some(match name {
            "ipv4_addr" => Self::Ipv4,
            "ipv6_addr" => Self::Ipv6,
            "inet_service" => Self::Port,
            "inet_proto" => Self::Protocol,
            "ifname" => Self::Name,
            "iface_index" => Self::Interface,
            "mark" => Self::Mark,
            "ct_state" => Self::State,
            "ct_status" => Self::Status,
            "ct_dir" => Self::Direction,
            "nf_proto" => Self::Family,
            "ether_type" => Self::EtherType,
            "icmp_type" => Self::IcmpType,
            "icmp_code" => Self::IcmpCode,
            "icmpv6_type" => Self::Icmpv6Type,
            "icmpv6_code" => Self::Icmpv6Code,
            "tcp_flag" => Self::TcpFlags,
            "dscp" => Self::Dscp,
            "pkt_type" => Self::PacketType,
            "fib_addrtype" => Self::RouteType,
            "boolean" => Self::Boolean,
            "uid" => Self::User,
            "limit" | "quota" => Self::Object,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "ecn" => Self::Ecn,
            "gid" => Self::User,
            "integer" => Self::Integer(32),
            _ => return None,
        })
    }

    /// The value of a word.
    pub(super) fn value(self, word: &str) -> Option<u128> {
        if let Some(value) = self.symbol(word) {
            return Some(value);
        }
        match self {
            Self::Ipv4 => word.parse::<Ipv4Addr>().ok().map(|address| u128::from(address.to_bits())),
            Self::Ipv6 => word.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits),
            Self::Name | Self::Interface | Self::Text => name(word),
            Self::Time => time(word),
            Self::Hour => time_of_day(word),
            _ => number(word).filter(|value| self.fits(*value)),
        }
    }

    /// True if a number is not too large for the type.
    pub(super) const fn fits(self, value: u128) -> bool {
        let bits = self.bits();
        bits >= 128 || value >> bits == 0
    }

    fn symbol(self, word: &str) -> Option<u128> {
        let table: &[(&str, u128)] = match self {
            Self::State => &[("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)],
            Self::Status => &[
                ("expected", 1),
                ("seen-reply", 2),
                ("assured", 4),
                ("confirmed", 8),
                ("snat", 16),
                ("dnat", 32),
                ("dying", 512),
            ],
            Self::Direction => &[("original", 0), ("reply", 1)],
            Self::Family => &[("ipv4", 2), ("ipv6", 10)],
            Self::EtherType => &[("ip", 0x800), ("ip6", 0x86dd), ("arp", 0x806), ("vlan", 0x8100), ("8021q", 0x8100)],
            Self::Protocol => PROTOCOLS,
            Self::Port => return service(word).map(u128::from),
            Self::TcpFlags => {
                &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32), ("ecn", 64), ("cwr", 128)]
            }
            Self::IcmpType => ICMP_TYPES,
            Self::IcmpCode => ICMP_CODES,
            Self::Icmpv6Type => ICMPV6_TYPES,
            Self::Icmpv6Code => ICMPV6_CODES,
            Self::PacketType => &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)],
            Self::RouteType => &[
                ("unspec", 0),
                ("unicast", 1),
                ("local", 2),
                ("broadcast", 3),
                ("anycast", 4),
                ("multicast", 5),
                ("blackhole", 6),
                ("unreachable", 7),
                ("prohibit", 8),
            ],
            Self::Boolean => &[("exists", 1), ("missing", 0), ("true", 1), ("false", 0)],
            Self::Dscp => DSCP,
            Self::Ecn => &[("not-ect", 0), ("ect1", 1), ("ect0", 2), ("ce", 3)],
            Self::Day => &[
                ("Sunday", 0),
                ("Monday", 1),
                ("Tuesday", 2),
                ("Wednesday", 3),
                ("Thursday", 4),
                ("Friday", 5),
                ("Saturday", 6),
            ],
            Self::User => &[("root", 0)],
            _ => return None,
        };
        table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    }
}

/// A name's bytes, padded with zeros to 16.
pub(super) fn name(word: &str) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes.get_mut(..word.len())?.copy_from_slice(word.as_bytes());
    (word.len() < 16).then(|| u128::from_be_bytes(bytes))
}

/// The names that begin so: `wan*`.
pub(super) fn names(word: &str) -> Option<(u128, u128)> {
    if let Some(literal) = word.strip_suffix("\\*") {
        let mut whole = String::from(literal);
        whole.push('*');
        return name(&whole).map(|value| (value, value));
    }
    match word.strip_suffix('*') {
        None => name(word).map(|value| (value, value)),
        Some(prefix) => {
            let first = name(prefix)?;
            let rest = u128::MAX.checked_shr(8 * prefix.len() as u32).unwrap_or(0);
            Some((first, first | rest))
        }
    }
}

/// `HH:MM:SS` or `HH:MM`, in seconds.
fn time_of_day(word: &str) -> Option<u128> {
    let mut seconds = 0;
    let mut parts = 0;
    for (part, below) in word.split(':').zip([24, 60, 60, 0]) {
        let value = number(part).filter(|value| *value < below)?;
        seconds = seconds * 60 + value;
        parts += 1;
    }
    match parts {
        2 => Some(seconds * 60),
        3 => Some(seconds),
        _ => number(word).filter(|seconds| *seconds <= 86_400),
    }
}

/// `YYYY-MM-DD HH:MM:SS`, in nanoseconds since 1970.
fn time(word: &str) -> Option<u128> {
    let (date, clock) = word.split_once(' ').unwrap_or((word, "00:00:00"));
    let mut fields = date.split('-').map(|field| number(field).and_then(|field| i64::try_from(field).ok()));
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    if fields.next().is_some() || !(1970..10_000).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Years begin in March: the day that some have more is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = u128::try_from(days * 86_400).ok()? + time_of_day(clock)?;
    Some(seconds * 1_000_000_000)
}

/// A number in decimal, octal or hexadecimal digits.
pub(super) fn number(word: &str) -> Option<u128> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None if word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

const ICMP_TYPES: &[(&str, u128)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

/// The codes of ICMP's destination unreachable that nft names.
pub(super) const ICMP_CODES: &[(&str, u128)] = &[
    ("net-unreachable", 0),
    ("host-unreachable", 1),
    ("prot-unreachable", 2),
    ("port-unreachable", 3),
    ("frag-needed", 4),
    ("net-prohibited", 9),
    ("host-prohibited", 10),
    ("admin-prohibited", 13),
];

const ICMPV6_TYPES: &[(&str, u128)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];

/// The codes of ICMPv6's destination unreachable that nft names.
pub(super) const ICMPV6_CODES: &[(&str, u128)] = &[
    ("no-route", 0),
    ("admin-prohibited", 1),
    ("addr-unreachable", 3),
    ("port-unreachable", 4),
    ("policy-fail", 5),
    ("reject-route", 6),
];

const DSCP: &[(&str, u128)] = &[
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("be", 0),
    ("df", 0),
    ("lephb", 1),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("va", 44),
    ("ef", 46),
];
