//! Tuples: addresses, ports, protocol and zone, which identify a connection.

use core::fmt;
use core::net::IpAddr;

use crate::hash::TableKey;
use crate::packet::{Address, Family, Headers, Layer4, Protocol, Side};

/// One direction of a connection: addresses, ports, protocol and zone (`nf_conntrack_tuple`).
///
/// For ICMP and ICMPv6 the source port is the identifier, and the destination port is the type in its upper and
/// the code in its lower byte. For GRE the destination port is PPTP's call. Protocols without ports have 0 in both.
///
/// ```
/// use ftp_conntrack::conntrack::Tuple;
/// use ftp_conntrack::packet::Protocol;
///
/// let (client, server) = ("10.77.1.2:40000".parse().unwrap(), "198.51.100.9:21".parse().unwrap());
/// let control = Tuple::new(Protocol::TCP, client, server).unwrap();
/// let reply = control.reversed().unwrap();
/// assert_eq!((reply.source_port(), reply.destination_port()), (21, 40000));
/// assert_eq!(reply.reversed(), Some(control));
/// ```
#[derive(Clone, Copy, Eq, Hash)]
#[allow(clippy::derived_hash_with_manual_eq, reason = "it compares the same fields")]
pub struct Tuple {
    source: [u64; 2],
    destination: [u64; 2],
    /// Source port in the upper half.
    ports: u32,
    /// Zone in the upper half, then protocol, then family.
    kind: u32,
}

impl Tuple {
    /// Tuple of a slot that was never used.
    pub(super) const NOWHERE: Self = Self { source: [0; 2], destination: [0; 2], ports: 0, kind: Family::V4 as u32 };

    /// The tuple of packets from `source` to `destination`; `None` when their families differ.
    #[must_use]
    pub fn new(protocol: Protocol, source: core::net::SocketAddr, destination: core::net::SocketAddr) -> Option<Self> {
        let family = match (source.ip(), destination.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => Family::V4,
            (IpAddr::V6(_), IpAddr::V6(_)) => Family::V6,
            _ => return None,
        };
        Some(Self {
            source: Address::from(source.ip()).words,
            destination: Address::from(destination.ip()).words,
            ports: join(source.port(), destination.port()),
            kind: u32::from(protocol.0) << 8 | family as u32,
        })
    }

    /// The tuple of a packet; `None` when its transport header does not even show the ports.
    #[inline(always)]
    #[must_use]
    pub fn of(headers: &Headers, bytes: &[u8]) -> Option<Self> {
        let ports = match headers.protocol {
            Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
                let (source, destination) = headers.ports(bytes)?;
                join(source, destination)
            }
            Protocol::ICMP | Protocol::ICMPV6 => {
                let Layer4::Icmp(icmp) = headers.layer4 else { return None };
                join(icmp.identifier, u16::from_be_bytes([icmp.kind, icmp.code]))
            }
            Protocol::GRE => {
                let Layer4::Gre(gre) = headers.layer4 else { return None };
                join(0, gre.call)
            }
            // A later fragment belongs to nobody; neither does a packet whose IPv6 headers end nowhere.
            _ if headers.layer4 == Layer4::Unreadable => return None,
            _ => 0,
        };
        let (source, destination) = match headers.family {
            Family::V4 => {
                let [addresses] = bytes.get(12..20)?.as_chunks::<8>().0 else { return None };
                let both = u64::from_be_bytes(*addresses);
                ([both >> 32, 0], [both & 0xffff_ffff, 0])
            }
            Family::V6 => {
                let [a, b, c, d] = bytes.get(8..40)?.as_chunks::<8>().0 else { return None };
                let [a, b, c, d] = [a, b, c, d].map(|word| u64::from_be_bytes(*word));
                ([a, b], [c, d])
            }
        };
        let kind = u32::from(headers.protocol.0) << 8 | headers.family as u32;
        Some(Self { source, destination, ports, kind })
    }

    /// The same tuple in a zone: connections of different zones never meet (`CT --zone`).
    #[inline]
    #[must_use]
    pub const fn in_zone(self, zone: u16) -> Self {
        Self { kind: (self.kind & 0xffff) | (zone as u32) << 16, ..self }
    }

    /// The tuple of packets the other way; `None` for an ICMP message that has no answer.
    #[inline]
    #[must_use]
    pub fn reversed(self) -> Option<Self> {
        let ports = match self.protocol() {
            Protocol::ICMP | Protocol::ICMPV6 => {
                let [kind, code] = self.destination_port().to_be_bytes();
                let answer = icmp_counterpart(self.protocol(), kind)?;
                join(self.source_port(), u16::from_be_bytes([answer, code]))
            }
            _ => self.ports.rotate_left(16),
        };
        Some(Self { source: self.destination, destination: self.source, ports, kind: self.kind })
    }

    /// The address family.
    #[inline]
    #[must_use]
    pub const fn family(self) -> Family {
        if self.kind & 0xff == Family::V4 as u32 { Family::V4 } else { Family::V6 }
    }

    /// The transport protocol.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        Protocol((self.kind >> 8) as u8)
    }

    /// The zone, 0 unless a rule says otherwise.
    #[must_use]
    pub const fn zone(self) -> u16 {
        (self.kind >> 16) as u16
    }

    /// The source address.
    #[inline]
    #[must_use]
    pub fn source(self) -> IpAddr {
        self.address(Side::Source)
    }

    /// The destination address.
    #[inline]
    #[must_use]
    pub fn destination(self) -> IpAddr {
        self.address(Side::Destination)
    }

    /// The address at one end.
    #[inline]
    #[must_use]
    pub fn address(self, side: Side) -> IpAddr {
        self.end(side).into()
    }

    #[inline]
    pub(crate) const fn end(&self, side: Side) -> Address {
        let words = match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        };
        Address { family: self.family(), words }
    }

    /// The source port, or ICMP identifier.
    #[inline]
    #[must_use]
    pub const fn source_port(self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// The destination port, or ICMP type and code.
    #[inline]
    #[must_use]
    pub const fn destination_port(self) -> u16 {
        self.ports as u16
    }

    /// The port at one end.
    #[inline]
    #[must_use]
    pub const fn port(self, side: Side) -> u16 {
        match side {
            Side::Source => self.source_port(),
            Side::Destination => self.destination_port(),
        }
    }

    /// The same tuple with another end. An address of the other family changes only the port.
    #[must_use]
    pub fn with_end(mut self, side: Side, address: IpAddr, port: u16) -> Self {
        if address.is_ipv4() == (self.family() == Family::V4) {
            match side {
                Side::Source => self.source = Address::from(address).words,
                Side::Destination => self.destination = Address::from(address).words,
            }
        }
        self.ports = match side {
            Side::Source => join(port, self.destination_port()),
            Side::Destination => join(self.source_port(), port),
        };
        self
    }

    /// The same tuple with another port at one end.
    #[must_use]
    pub const fn with_port(mut self, side: Side, port: u16) -> Self {
        self.ports = match side {
            Side::Source => (self.ports & 0xffff) | (port as u32) << 16,
            Side::Destination => (self.ports & 0xffff_0000) | port as u32,
        };
        self
    }

    /// Returns true if both have the same source address.
    pub(super) fn same_source_address(self, other: Self) -> bool {
        self.source == other.source && self.family() == other.family()
    }

    /// Returns source and destination as words.
    #[inline(always)]
    pub(super) const fn ends(&self) -> [[u64; 2]; 2] {
        [self.source, self.destination]
    }

    #[inline(always)]
    pub(super) const fn rest(&self) -> u64 {
        (self.ports as u64) << 32 | self.kind as u64
    }

    pub(super) const fn from_words([source, destination]: [[u64; 2]; 2], rest: u64) -> Self {
        Self { source, destination, ports: (rest >> 32) as u32, kind: rest as u32 }
    }

    /// The hash of the whole tuple.
    #[inline(always)]
    pub(super) fn hash(self, key: &TableKey) -> u64 {
        let rest = self.rest();
        match self.family() {
            Family::V4 => key.hash([self.source[0] << 32 | self.destination[0], rest]),
            Family::V6 => {
                let ([a, b], [c, d]) = (self.source, self.destination);
                key.hash([a, b, c, d, rest])
            }
        }
    }

    /// The hash of what an expectation is looked up by: everything but the source port.
    pub(super) fn hash_expected(self, key: &TableKey) -> u64 {
        let ([a, b], [c, d]) = (self.source, self.destination);
        key.hash([a, b, c, d, u64::from(self.ports & 0xffff) << 32 | u64::from(self.kind)])
    }

    /// The hash of the address that it comes from.
    pub(super) fn hash_host(self, key: &TableKey) -> u64 {
        key.hash(self.source)
    }

    /// The hash of what NAT remembers mappings by: the source and the protocol.
    pub(super) fn hash_source(self, key: &TableKey) -> u64 {
        let [a, b] = self.source;
        key.hash([a, b, u64::from(self.ports >> 16) << 32 | u64::from(self.kind)])
    }

    /// Returns true if both come from the same address and port, by the same protocol, in the same zone.
    pub(crate) fn same_source(self, other: Self) -> bool {
        self.source == other.source && self.ports >> 16 == other.ports >> 16 && self.kind == other.kind
    }

    /// Returns true if both go to the same address and port, by the same protocol, in the same zone.
    pub(crate) fn same_destination(self, other: Self) -> bool {
        self.destination == other.destination && self.ports & 0xffff == other.ports & 0xffff && self.kind == other.kind
    }
}

impl PartialEq for Tuple {
    /// Word by word: arrays are compared in memory, to which the words would have to be written first.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b], [c, d]) = (self.source, self.destination);
        let ([e, f], [g, h]) = (other.source, other.destination);
        let differ = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
        differ == 0 && self.ports == other.ports && self.kind == other.kind
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol() {
            Protocol::ICMP | Protocol::ICMPV6 => {
                let [kind, code] = self.destination_port().to_be_bytes();
                write!(
                    f,
                    "{} > {} type {kind} code {code} id {}",
                    self.source(),
                    self.destination(),
                    self.source_port()
                )
            }
            _ => {
                let from = core::net::SocketAddr::new(self.source(), self.source_port());
                let to = core::net::SocketAddr::new(self.destination(), self.destination_port());
                write!(f, "{from} > {to}")
            }
        }
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.protocol().name())
    }
}

#[inline]
const fn join(source: u16, destination: u16) -> u32 {
    (source as u32) << 16 | destination as u32
}

/// The type that answers an ICMP or ICMPv6 type: echo, timestamp, information, address mask; node information.
const fn icmp_counterpart(protocol: Protocol, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (Protocol::ICMP, 8) => 0,
        (Protocol::ICMP, 0) => 8,
        (Protocol::ICMP, 13 | 15 | 17) | (Protocol::ICMPV6, 139) => kind + 1,
        (Protocol::ICMP, 14 | 16 | 18) | (Protocol::ICMPV6, 140) => kind - 1,
        (Protocol::ICMPV6, 128) => 129,
        (Protocol::ICMPV6, 129) => 128,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(source: &str, destination: &str) -> Tuple {
        Tuple::new(Protocol::TCP, source.parse().unwrap(), destination.parse().unwrap()).unwrap()
    }

    #[test]
    fn families_do_not_mix() {
        assert!(Tuple::new(Protocol::TCP, "10.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()).is_none());
    }

    #[test]
    fn ends_are_told_apart() {
        let t = tcp("10.0.0.1:1", "10.0.0.2:2");
        assert_eq!(t.with_end(Side::Source, [10, 0, 0, 9].into(), 9), tcp("10.0.0.9:9", "10.0.0.2:2"));
        assert_eq!(t.with_end(Side::Destination, [10, 0, 0, 9].into(), 9), tcp("10.0.0.1:1", "10.0.0.9:9"));
        assert_eq!(t.with_port(Side::Source, 7), tcp("10.0.0.1:7", "10.0.0.2:2"));
        assert_eq!(t.with_port(Side::Destination, 7), tcp("10.0.0.1:1", "10.0.0.2:7"));
        assert_eq!(t.in_zone(5).zone(), 5);
        assert_ne!(t.in_zone(5), t);
        assert_eq!(alloc::format!("{t}"), "10.0.0.1:1 > 10.0.0.2:2");
    }

    #[test]
    fn an_echo_request_is_answered_by_an_echo_reply() {
        let ends = ("10.0.0.1:77".parse().unwrap(), core::net::SocketAddr::new([10, 0, 0, 2].into(), 8 << 8));
        let ping = Tuple::new(Protocol::ICMP, ends.0, ends.1).unwrap();
        let pong = ping.reversed().unwrap();
        assert_eq!((pong.source_port(), pong.destination_port()), (77, 0));
        assert_eq!(pong.reversed(), Some(ping));
        assert_eq!(ping.with_port(Side::Destination, 3 << 8).reversed(), None);
    }
}
