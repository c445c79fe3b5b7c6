//! A tuple that nobody else has (`get_unique_tuple`).

use core::net::IpAddr;

use super::{Nat, NatRange, jenkins, lies_between};
use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, Tuple};
use crate::packet::{Protocol, Side};

/// Number of ports that are tried from one starting point, at first; then half as many from another, and so on.
const MAX_ATTEMPTS: u32 = 128;
/// Number of connections from one source that are looked at for a mapping to share; Linux looks at all.
const MAX_MAPPINGS: usize = 128;
/// In so many of the last attempts a connection that is over makes way (seen on 6.18: always in ranges of up to 32
/// ports).
const LAST_ATTEMPTS: u32 = MAX_ATTEMPTS / 4;
/// With fewer attempts than this no further starting point is tried.
const MIN_ATTEMPTS: u32 = 16;

impl Nat {
    /// Returns the tuple of a connection after one end is mapped into a range, and the closed connection that has to be
    /// evicted for it. `original` is the connection's tuple; its packets look like `current` by now.
    pub(super) fn unique_tuple(
        &mut self,
        now: Instant,
        conntrack: &Conntrack,
        (id, current): (ConnectionId, Tuple),
        original: &Tuple,
        range: &NatRange,
        side: Side,
    ) -> (Tuple, Option<ConnectionId>) {
        let free = |tuple: &Tuple| tuple.reversed().is_some_and(|reply| !conntrack.is_taken(now, &reply, original));
        if side == Side::Source && !range.random {
            // If the source may stay but is taken, another connection's mapping is not asked for (seen on 6.18).
            if range.contains(current.source(), current.source_port()) {
                if free(&current) {
                    return (current, None);
                }
            } else if let Some(same) = mapping_of_same_source(now, conntrack, &current, original, range)
                && free(&same)
            {
                return (same, None);
            }
        }
        let addressed = current.with_end(side, choose_address(&current, range, side), current.port(side));
        if !range.random {
            let port = addressed.port(side);
            match range.ports {
                Some(ports)
                    if range.base_port.is_none()
                        && ports.contains(port)
                        && (ports.first == ports.last || free(&addressed)) =>
                {
                    return (addressed, None);
                }
                None if free(&addressed) => return (addressed, None),
                _ => {}
            }
        }
        let reusable_tuple = |tuple: &Tuple| conntrack.reusable_tuple(now, &tuple.reversed()?, id);
        self.choose_port(addressed, range, side, free, reusable_tuple)
    }

    /// Tries ports until one is free; in the last round a closed connection may be evicted. If none is free, keeps the
    /// last candidate, and the packet is dropped when the connection is to be confirmed.
    fn choose_port(
        &mut self,
        tuple: Tuple,
        range: &NatRange,
        side: Side,
        free: impl Fn(&Tuple) -> bool,
        reusable_tuple: impl Fn(&Tuple) -> Option<ConnectionId>,
    ) -> (Tuple, Option<ConnectionId>) {
        let Some((first, size)) = candidate_ports(&tuple, range, side) else { return (tuple, None) };
        // The identifier of an ICMP query stands at its source, whichever end is mapped.
        let end = if tuple.protocol().is_icmp() { Side::Source } else { side };
        let offset = match range.base_port {
            Some(base) => u32::from(tuple.port(side).wrapping_sub(base)),
            None if side == Side::Destination && !range.random => 0,
            None => {
                let followed = self.choices.followed();
                let suits = |tuple: &Tuple| free(tuple) || reusable_tuple(tuple).is_some();
                let port = self.choices.port(first, size, |port| suits(&tuple.with_port(end, port)));
                if self.choices.followed() > followed {
                    let chosen = tuple.with_port(end, port);
                    return (chosen, if free(&chosen) { None } else { reusable_tuple(&chosen) });
                }
                u32::from(port - first)
            }
        };
        let mut attempts = size.min(MAX_ATTEMPTS);
        let mut offset = offset;
        let mut last = tuple;
        loop {
            for i in 0..attempts {
                last = tuple.with_port(end, first.wrapping_add(((offset + i) % size) as u16));
                if free(&last) {
                    return (last, None);
                }
                if attempts - i <= LAST_ATTEMPTS
                    && let Some(evicted) = reusable_tuple(&last)
                {
                    return (last, Some(evicted));
                }
            }
            if attempts >= size || attempts < MIN_ATTEMPTS {
                return (last, None);
            }
            attempts /= 2;
            offset = self.choices.below(size);
        }
    }
}

/// Another connection from the same address and port was mapped already: the same mapping, if it lies in the range
/// (endpoint-independent mapping, RFC 4787 section 4.1).
fn mapping_of_same_source(
    now: Instant,
    conntrack: &Conntrack,
    current: &Tuple,
    original: &Tuple,
    range: &NatRange,
) -> Option<Tuple> {
    conntrack.same_source(now, original).take(MAX_MAPPINGS).find_map(|other| {
        let mapped = other.tuple(Direction::Reply);
        let (address, port) = (mapped.destination(), mapped.destination_port());
        range.contains(address, port).then(|| current.with_end(Side::Source, address, port))
    })
}

/// The address a client gets out of a range: spread by a hash, so that it gets the same one again.
fn choose_address(current: &Tuple, range: &NatRange, side: Side) -> IpAddr {
    let Some((first, last)) = range.addresses else { return current.address(side) };
    if first == last || !lies_between(first, first, last) {
        return first;
    }
    let (source, destination) = (words(current.source()), words(current.destination()));
    let last_word = if current.source().is_ipv4() { destination[0] } else { destination[3] };
    let initial = if range.persistent { 0 } else { last_word ^ u32::from(current.zone()) };
    let hash = jenkins::hash(source, initial);
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let count = u64::from(last.to_bits() - first.to_bits()) + 1;
            IpAddr::V4((first.to_bits() + ((u64::from(hash) * count) >> 32) as u32).into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let stir = match side {
                _ if range.persistent => Stir::Nothing,
                Side::Source => Stir::Words(destination),
                Side::Destination => Stir::Chosen,
            };
            IpAddr::V6(spread_v6(first.to_bits(), last.to_bits(), hash, stir).into())
        }
        _ => first,
    }
}

/// The value combined into the hash after each word of an IPv6 address: as 6.18 has it, the destination's word, already
/// replaced where the destination changes.
enum Stir {
    Nothing,
    Words([u32; 4]),
    Chosen,
}

/// Chooses an IPv6 address of a range word by word. After a word below its maximum, later words may be anything (but, as
/// 6.18 has it, the very last value).
fn spread_v6(first: u128, last: u128, mut hash: u32, stir: Stir) -> u128 {
    let word = |bits: u128, i: usize| (bits >> (96 - 32 * i)) as u32;
    let mut address = 0;
    let mut below = false;
    for i in 0..4 {
        let (low, count) = match below {
            true => (0, u64::from(u32::MAX)),
            false => (word(first, i), u64::from(word(last, i).wrapping_sub(word(first, i))) + 1),
        };
        let chosen = low.wrapping_add(((u64::from(hash) * count) >> 32) as u32);
        address = address << 32 | u128::from(chosen);
        below |= chosen < word(last, i);
        hash ^= match stir {
            Stir::Nothing => 0,
            Stir::Words(words) => words[i],
            Stir::Chosen => chosen.swap_bytes(),
        };
    }
    address
}

/// An address as the four words that are hashed: its bytes read little-endian, an IPv4 address in the first.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [u32::from_le_bytes(address.octets()), 0, 0, 0],
        IpAddr::V6(address) => {
            let octets = address.octets();
            core::array::from_fn(|i| {
                let [a, b, c, d] = [octets[i * 4], octets[i * 4 + 1], octets[i * 4 + 2], octets[i * 4 + 3]];
                u32::from_le_bytes([a, b, c, d])
            })
        }
    }
}

/// The lowest port that may be chosen, and how many there are; `None` where the port cannot change.
fn candidate_ports(tuple: &Tuple, range: &NatRange, side: Side) -> Option<(u16, u32)> {
    let protocol = tuple.protocol();
    if let Some(ports) = range.ports {
        let (first, last) = (ports.first.min(ports.last), ports.first.max(ports.last));
        return has_ports(protocol).then(|| (first, u32::from(last - first) + 1));
    }
    if tuple.protocol().is_icmp() {
        return Some((0, 65_536));
    }
    if side == Side::Destination || !has_ports(protocol) {
        return None;
    }
    // A privileged port stays privileged.
    Some(match tuple.source_port() {
        0..512 => (1, 511),
        512..1024 => (600, 424),
        _ => (1024, 64_512),
    })
}

const fn has_ports(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP | Protocol::ICMP | Protocol::ICMPV6
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::ConntrackConfig;

    fn tcp(source: &str, destination: &str) -> Tuple {
        Tuple::new(Protocol::TCP, source.parse().unwrap(), destination.parse().unwrap()).unwrap()
    }

    fn unique(current: Tuple, range: &NatRange, side: Side) -> Tuple {
        let (mut conntrack, now) = (Conntrack::new(ConntrackConfig::default(), [1, 2]), Instant::from_secs(0));
        let syn = segment([10, 9, 9, 9], 9, 0, 2);
        let id = track(&mut conntrack, &syn);
        Nat::new([3, 4]).unique_tuple(now, &conntrack, (id, current), &current, range, side).0
    }

    /// A TCP segment to 198.51.100.9:21, or from there to 203.0.113.1.
    fn segment(from: [u8; 4], port: u16, sequence: u32, flags: u8) -> alloc::vec::Vec<u8> {
        let mut bytes = alloc::vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
        bytes.extend([from, [198, 51, 100, 9]].concat());
        bytes.extend([&port.to_be_bytes()[..], &[0, 21], &sequence.to_be_bytes(), &[0; 4], &[0x50, flags]].concat());
        bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
        bytes
    }

    fn track(conntrack: &mut Conntrack, bytes: &[u8]) -> ConnectionId {
        let headers = crate::packet::Headers::find(bytes).unwrap();
        let now = Instant::from_secs(0);
        conntrack.track(now, bytes, &headers, Default::default()).unwrap().connection.unwrap()
    }

    #[test]
    fn who_is_over_makes_way() {
        let now = Instant::from_secs(0);
        let range =
            NatRange { ports: Some(PortRangeOf(5000, 5000).into()), ..NatRange::to_address([203, 0, 113, 1].into()) };
        // A connection to the only port there is, reset by its client behind 1001; then another client's SYN.
        for (sequence, takes) in [(1000, false), (1001, true), (0x9000_0000, false)] {
            let (mut conntrack, mut nat) = (Conntrack::new(ConntrackConfig::default(), [1, 2]), Nat::new([3, 4]));
            let mut begin = |conntrack: &mut Conntrack, bytes: &[u8]| {
                let id = track(conntrack, bytes);
                nat.setup(now, conntrack, id, &range, Side::Source).unwrap();
                (id, conntrack.confirm(now, id))
            };
            let (old, _) = begin(&mut conntrack, &segment([10, 77, 1, 2], 20_000, 1000, 2));
            // The server's answer, so that the reset closes and does not forget.
            let mut answer = segment([198, 51, 100, 9], 21, 900, 0x12);
            answer[16..20].copy_from_slice(&[203, 0, 113, 1]);
            answer[22..24].copy_from_slice(&5000_u16.to_be_bytes());
            answer[28..32].copy_from_slice(&1001_u32.to_be_bytes());
            assert_eq!(track(&mut conntrack, &answer), old);
            assert_eq!(track(&mut conntrack, &segment([10, 77, 1, 2], 20_000, 1001, 4)), old);
            assert_eq!(conntrack.get(old).unwrap().tcp_state(), Some(crate::conntrack::TcpState::Close));
            let (_, confirmed) = begin(&mut conntrack, &segment([10, 77, 1, 3], 20_000, sequence, 2));
            assert_eq!((confirmed.is_ok(), conntrack.get(old).is_none()), (takes, takes), "{sequence}");
        }
    }

    #[test]
    fn a_free_port_stays() {
        let range = NatRange::to_address([203, 0, 113, 1].into());
        let current = tcp("10.77.1.2:40000", "198.51.100.9:21");
        assert_eq!(unique(current, &range, Side::Source), tcp("203.0.113.1:40000", "198.51.100.9:21"));
    }

    #[test]
    fn a_port_outside_the_range_moves_into_it() {
        let ports = PortRangeOf(30_000, 30_020);
        let range = NatRange { ports: Some(ports.into()), ..NatRange::to_address([203, 0, 113, 1].into()) };
        let moved = unique(tcp("10.77.1.2:40000", "198.51.100.9:21"), &range, Side::Source);
        assert!((30_000..=30_020).contains(&moved.source_port()), "{moved}");
        let stays = unique(tcp("10.77.1.2:30007", "198.51.100.9:21"), &range, Side::Source);
        assert_eq!(stays.source_port(), 30_007);
        let first = unique(tcp("10.77.1.2:40000", "198.51.100.9:21"), &range, Side::Destination);
        assert_eq!(first.destination_port(), 30_000);
    }

    #[test]
    fn a_port_that_moved_for_one_destination_does_not_move_alike_for_another() {
        let (mut conntrack, mut nat) = (Conntrack::new(ConntrackConfig::default(), [1, 2]), Nat::new([3, 4]));
        let now = Instant::from_secs(0);
        let datagram = |from: [u8; 4], source: u16, to: [u8; 4], destination: u16| {
            let mut bytes = alloc::vec![0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0];
            bytes.extend([from, to].concat());
            bytes.extend([source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat());
            bytes
        };
        let mut source_port = |bytes: &[u8], outside: Option<NatRange>| {
            let headers = crate::packet::Headers::find(bytes).unwrap();
            let id = conntrack.track(now, bytes, &headers, Default::default()).unwrap().connection.unwrap();
            match outside {
                Some(range) => nat.setup(now, &mut conntrack, id, &range, Side::Source).unwrap(),
                None => nat.setup_null(now, &mut conntrack, id, Side::Source).unwrap(),
            }
            conntrack.confirm(now, id).unwrap();
            conntrack.get(id).unwrap().tuple(Direction::Reply).destination_port()
        };
        let (client, server) = ([10, 77, 1, 2], [198, 51, 100, 9]);
        let range = Some(NatRange::to_address([203, 0, 113, 1].into()));
        // The client asks twice, and somebody sends to its own address what looks like answers: their source moves.
        let mut moved = [5001, 40_001].map(|port| {
            assert_eq!(source_port(&datagram(client, port, server, 99), range), port);
            source_port(&datagram(server, 99, client, port), None)
        });
        assert!(moved.iter().all(|port| (1..512).contains(port) && *port != 99));
        moved.sort_unstable();
        assert_ne!(moved[0], moved[1]);
    }

    #[test]
    fn an_offset_keeps_its_distance() {
        let range = NatRange {
            ports: Some(PortRangeOf(5000, 5099).into()),
            base_port: Some(2000),
            ..NatRange::to_address([10, 0, 0, 1].into())
        };
        let moved = unique(tcp("192.0.2.1:4", "203.0.113.1:2042"), &range, Side::Destination);
        assert_eq!(moved, tcp("192.0.2.1:4", "10.0.0.1:5042"));
    }

    #[test]
    fn classes_of_ports() {
        let current = |port| tcp("10.0.0.1:1", "10.0.0.2:2").with_port(Side::Source, port);
        let any = NatRange::default();
        assert_eq!(candidate_ports(&current(511), &any, Side::Source), Some((1, 511)));
        assert_eq!(candidate_ports(&current(512), &any, Side::Source), Some((600, 424)));
        assert_eq!(candidate_ports(&current(1024), &any, Side::Source), Some((1024, 64_512)));
        assert_eq!(candidate_ports(&current(1024), &any, Side::Destination), None);
    }

    struct PortRangeOf(u16, u16);

    impl From<PortRangeOf> for super::super::PortRange {
        fn from(ports: PortRangeOf) -> Self {
            Self { first: ports.0, last: ports.1 }
        }
    }
}
