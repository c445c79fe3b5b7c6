//! The way of nearly every packet: a segment of an open connection that was answered, sent on by a router whose tables have
//! nothing to say of such packets.
//!
//! Tracker and translation are the functions that [`super::slow_path`] calls; what is left out is only what would be asked in
//! vain. Whatever is not as it nearly always is, is found out before anything is changed, and the packet goes from hook to
//! hook.

use super::interfaces::Network;
use super::tracking::is_checksum_wrong;
use super::{Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::{Connection, Direction, Known};
use crate::helper::FtpHelper;
use crate::nat::{moves, translate};
use crate::packet::{Address, Headers, Packet, Side};

impl Router {
    /// Sends an IPv4 packet that arrived on its egress, if there is nothing special about it. `None` if there is: nothing was
    /// changed.
    #[inline(always)]
    pub(super) fn fast_path_v4(&mut self, now: Instant, interface: usize, packet: &mut Packet<'_>) -> Option<Verdict> {
        let headers = Headers::plain_v4(packet.bytes())?;
        self.fast_path(now, interface, packet, &headers)
    }

    /// The same of an IPv6 packet.
    #[inline(always)]
    pub(super) fn fast_path_v6(&mut self, now: Instant, interface: usize, packet: &mut Packet<'_>) -> Option<Verdict> {
        let headers = Headers::plain_v6(packet.bytes())?;
        self.fast_path(now, interface, packet, &headers)
    }

    // Inlined with all that it calls, once for each family: what is known of a packet is not asked again.
    #[inline(always)]
    fn fast_path(
        &mut self,
        now: Instant,
        interface: usize,
        packet: &mut Packet<'_>,
        headers: &Headers,
    ) -> Option<Verdict> {
        let bytes = packet.bytes();
        if !self.has_fast_path[family_index(headers.family)] || headers.hop_limit(bytes) <= 1 {
            return None;
        }
        if self.header_checksum && !headers.header_checksum_ok(bytes) {
            return None;
        }
        if self.checksum && is_checksum_wrong(bytes, headers) {
            return None;
        }
        let probe = self.conntrack.probe(now, bytes, headers, 0)?;
        let mut known = self.conntrack.known(&probe)?;
        let direction = known.direction;
        if known.connection.has_helper() && is_read(&self.helper, &known, packet, headers) {
            return None;
        }
        let source = headers.address(bytes, Side::Source);
        if !self.network.forwards_everything && !self.network.is_let_in(interface, source) {
            return None;
        }
        let destination = destination(known.connection, direction, bytes, headers);
        let route = self.network.onward(known.connection.route_mut(direction), destination)?;
        let is_special = headers.end > route.mtu
            || Network::is_special_source(source)
            || self.network.is_own_v4(source)
            || known.connection.left_masquerade(direction, Some(route.interface));
        if is_special {
            return None;
        }
        let is_early = known.accept_established(now, bytes, headers)?;
        if bytes.len() > headers.end {
            packet.truncate(headers.end);
        }
        let bytes = packet.bytes_mut();
        translate(known.connection, direction, Side::Destination, bytes, headers);
        headers.decrement_hop_limit(bytes);
        translate(known.connection, direction, Side::Source, bytes, headers);
        if is_early {
            self.conntrack.schedule(&probe);
        }
        Some(Verdict::Forward { interface: route.interface, next_hop: route.next_hop(destination) })
    }
}

/// Returns true if the helper reads a packet of its connection, or may have to.
#[inline(always)]
fn is_read(helper: &FtpHelper, known: &Known<'_>, packet: &Packet<'_>, headers: &Headers) -> bool {
    let Known { id, connection, direction, .. } = known;
    helper.is_exact()
        || FtpHelper::room_for(connection, headers, packet).is_err()
        || helper.lines(*id, connection, *direction, packet.bytes(), headers).is_some()
}

/// Returns the destination of a packet of a connection after translation.
#[inline(always)]
fn destination(connection: &Connection, direction: Direction, bytes: &[u8], headers: &Headers) -> Address {
    if moves(connection, direction, Side::Destination) {
        let [high, low] = connection.tuple(direction.other()).end(Side::Source).words;
        Address { family: headers.family, words: [high, low] }
    } else {
        headers.address(bytes, Side::Destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::{Cidr, Hook, Match, NatRange, PortRange, Rule, Ruleset, StateSet, TableName, Target};
    use crate::packet::{Protocol, TcpFlags};
    use crate::router::{Interface, Outbox, Route, RouterConfig};
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::{IpAddr, SocketAddr};
    use core::time::Duration;
    use proptest::prelude::*;

    const LAN: usize = 0;
    const WAN: usize = 1;
    const MTU: usize = 300;

    fn net(text: &str) -> Cidr {
        let (address, prefix) = text.split_once('/').unwrap();
        Cidr::new(address.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    }

    /// Masquerades, forwards a port inwards, helps FTP clients, drops what is invalid.
    fn rules(inside: &str) -> Ruleset {
        let mut rules = Ruleset::default();
        let to_port = |port| Match::DestinationPorts(vec![PortRange::one(port)]);
        let helper = Rule::new(Target::helper("ftp")).when(Match::Protocol(Protocol::TCP)).when(to_port(21));
        rules.append(TableName::Raw, Hook::Prerouting, helper);
        let masquerade = Rule::new(Target::Masquerade(NatRange::default())).when(Match::OutInterface("wan".into()));
        rules.append(TableName::Nat, Hook::Postrouting, masquerade);
        let inwards = Rule::new(Target::Dnat(NatRange::to_address(inside.parse().unwrap())));
        rules.append(
            TableName::Nat,
            Hook::Prerouting,
            inwards.when(Match::Protocol(Protocol::TCP)).when(to_port(8080)),
        );
        let invalid = Rule::new(Target::Drop).when(Match::ConnectionState(StateSet::INVALID));
        rules.append(TableName::Filter, Hook::Forward, invalid);
        rules
    }

    fn router() -> Router {
        let mut config = RouterConfig::default();
        let (lan, mut wan) = (Interface::new("lan"), Interface::new("wan"));
        wan.mtu = MTU;
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        config.interfaces = vec![
            lan.with_address(address("10.77.1.1"), 24).with_address(address("fd77::1"), 64),
            wan.with_address(address("203.0.113.1"), 24).with_address(address("2001:db8::1"), 64),
        ];
        config.routes = vec![
            Route::on_link(net("10.77.1.0/24"), LAN),
            Route::on_link(net("fd77::/64"), LAN),
            Route::through(net("0.0.0.0/0"), WAN, address("203.0.113.254")),
            Route::through(net("::/0"), WAN, address("2001:db8::fe")),
        ];
        config.rules4 = rules("10.77.1.9");
        config.rules6 = rules("fd77::9");
        config.conntrack.limits.connections = 16;
        Router::new(config, [1, 2, 3, 4]).unwrap()
    }

    /// The ends of a connection as each side sees them: the client's packets, and the server's.
    fn ends(flow: usize) -> [(SocketAddr, SocketAddr); 2] {
        let ends = [
            // FTP, masqueraded.
            ("10.77.1.2:40000", "198.51.100.9:21", "203.0.113.1:40000"),
            // Something else.
            ("10.77.1.3:40001", "198.51.100.9:443", "203.0.113.1:40001"),
            // Over IPv6.
            ("[fd77::2]:40002", "[2001:db8:9::9]:443", "[2001:db8::1]:40002"),
        ];
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        match ends.get(flow) {
            Some((client, server, seen)) => [(at(client), at(server)), (at(server), at(seen))],
            // Inwards.
            None => {
                let client = at("198.51.100.77:50000");
                [(client, at("203.0.113.1:8080")), (at("10.77.1.9:8080"), client)]
            }
        }
    }

    const fn arrives_on(flow: usize, reply: bool) -> usize {
        if (flow == 3) == reply { LAN } else { WAN }
    }

    #[derive(Clone, Debug)]
    struct Segment {
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
        window: u16,
        hop_limit: u8,
        options: Vec<u8>,
        text: Vec<u8>,
        padding: usize,
        /// Added to the IPv4 header's checksum.
        damage: u8,
    }

    impl Segment {
        fn bytes(&self, (source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
            let len = 20 + self.options.len() + self.text.len();
            let mut bytes = match (source.ip(), destination.ip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    let [high, low] = (20 + len as u16).to_be_bytes();
                    let mut header = vec![0x45, 0, high, low, 0, 1, 0, 0, self.hop_limit, 6, 0, 0];
                    header.extend(source.octets());
                    header.extend(destination.octets());
                    header
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    let [high, low] = (len as u16).to_be_bytes();
                    let mut header = vec![0x60, 0, 0, 0, high, low, 6, self.hop_limit];
                    header.extend(source.octets());
                    header.extend(destination.octets());
                    header
                }
                _ => panic!("of two families"),
            };
            bytes.extend(source.port().to_be_bytes());
            bytes.extend(destination.port().to_be_bytes());
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.acknowledgement.to_be_bytes());
            bytes.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
            bytes.extend(self.window.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(&self.options);
            bytes.extend(&self.text);
            let headers = Headers::find(&bytes).unwrap();
            headers.fill_header_checksum(&mut bytes);
            headers.fill_transport_checksum(&mut bytes);
            if source.is_ipv4() {
                bytes[11] = bytes[11].wrapping_add(self.damage);
            }
            bytes.resize(bytes.len() + self.padding, 0);
            bytes
        }
    }

    /// All that can be seen of a router.
    fn state(router: &mut Router, now: Instant) -> String {
        let connections: Vec<_> = router.conntrack().iter(now).collect();
        let mut state = format!("{connections:?} {:?}", router.conntrack().statistics());
        while let Some(event) = router.poll_event() {
            state += &format!(" {event:?}");
        }
        state
    }

    fn process(router: &mut Router, now: Instant, interface: usize, bytes: &[u8]) -> (Verdict, Vec<u8>, String) {
        let mut buffer = [bytes, &[0; Packet::ROOM]].concat();
        let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
        let mut outbox = Outbox::new(16, 1 << 14);
        let verdict = router.process(now, interface, &mut packet, &mut outbox);
        let bytes = packet.bytes().to_vec();
        let sent: Vec<_> = outbox.iter().map(|outgoing| (outgoing.bytes.to_vec(), outgoing.egress)).collect();
        (verdict, bytes, format!("{sent:?} {}", state(router, now)))
    }

    #[derive(Clone, Debug)]
    struct Step {
        flow: usize,
        reply: bool,
        /// Segment whose numbers are adjusted next.
        segment: Segment,
        /// After the one before.
        micros: u64,
    }

    fn step() -> impl Strategy<Value = Step> {
        let flags = prop_oneof![12 => Just(0x10u8), 6 => Just(0x18), 1 => Just(0x11), 1 => Just(0x14), 1 => Just(2), 1 => any::<u8>()];
        let shift =
            || prop_oneof![20 => Just(0u32), 1 => Just(1), 1 => Just(u32::MAX), 1 => Just(70_000), 1 => any::<u32>()];
        let text = prop_oneof![
            4 => Just(Vec::new()),
            4 => Just(b"something".to_vec()),
            2 => Just(b"NOOP\r\n".to_vec()),
            1 => Just(b"PORT 10,77,1,2,4,1\r\n".to_vec()),
            1 => Just(vec![b'x'; MTU]),
        ];
        let options = prop_oneof![6 => Just(Vec::new()), 1 => Just(vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
            1 => Just(vec![1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 1, 0])];
        let window = prop_oneof![8 => Just(0xffffu16), 1 => Just(0), 1 => any::<u16>()];
        let rare = (
            prop_oneof![12 => Just(64u8), 1 => 0..3u8],
            prop_oneof![8 => Just(0usize), 1 => 1..8usize],
            prop_oneof![20 => Just(0u8), 1 => any::<u8>()],
        );
        let micros = prop_oneof![20 => 0..1_000u64, 1 => 0..400_000_000_000u64];
        let numbers = (flags, shift(), shift());
        (0..4usize, any::<bool>(), numbers, text, options, window, rare, micros).prop_map(
            |(flow, reply, (flags, sequence, acknowledgement), text, options, window, rare, micros)| {
                let (hop_limit, padding, damage) = rare;
                let segment =
                    Segment { flags, sequence, acknowledgement, window, hop_limit, options, text, padding, damage };
                Step { flow, reply, segment, micros }
            },
        )
    }

    fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> Segment {
        Segment {
            flags,
            sequence,
            acknowledgement,
            window: 0xffff,
            hop_limit: 64,
            options: Vec::new(),
            text: Vec::new(),
            padding: 0,
            damage: 0,
        }
    }

    /// Opens all connections of a router.
    fn open(router: &mut Router, now: Instant) {
        for flow in 0..4 {
            let [there, back] = ends(flow);
            let syn = Segment { options: vec![1, 1, 4, 2, 3, 3, 7, 0], ..segment(TcpFlags::SYN, 99, 0) };
            let syn_ack = Segment { flags: TcpFlags::SYN | TcpFlags::ACK, acknowledgement: 100, ..syn.clone() };
            let ack = segment(TcpFlags::ACK, 100, 100);
            for (reply, segment, ends) in [(false, syn, there), (true, syn_ack, back), (false, ack, there)] {
                let (verdict, ..) = process(router, now, arrives_on(flow, reply), &segment.bytes(ends));
                assert!(matches!(verdict, Verdict::Forward { .. }), "{flow}: {verdict:?}");
            }
        }
    }

    #[test]
    fn what_nearly_every_packet_is_passes() {
        let mut router = router();
        let now = Instant::from_secs(1);
        open(&mut router, now);
        for flow in 0..4 {
            for (reply, ends) in [false, true].into_iter().zip(ends(flow)) {
                let mut bytes = segment(TcpFlags::ACK, 100, 100).bytes(ends);
                let mut packet = {
                    let len = bytes.len();
                    Packet::new(&mut bytes, 0..len).unwrap()
                };
                let verdict = {
                    let interface = arrives_on(flow, reply);
                    router
                        .fast_path_v4(now, interface, &mut packet)
                        .or_else(|| router.fast_path_v6(now, interface, &mut packet))
                };
                let leaves_by = 1 - arrives_on(flow, reply);
                assert!(
                    matches!(verdict, Some(Verdict::Forward { interface, .. }) if interface == leaves_by),
                    "{flow} {reply}: {verdict:?}"
                );
            }
        }
    }

    proptest! {
        /// A router that lets no packet past its hooks does just the same.
        #[test]
        fn it_is_the_way_of_all_others(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut short, mut long) = (router(), router());
            long.has_fast_path = [false; 2];
            let mut now = Instant::from_secs(1000);
            open(&mut short, now);
            open(&mut long, now);
            let mut next = [[100u32; 2]; 4];
            for Step { flow, reply, mut segment, micros } in steps {
                now = now + Duration::from_micros(micros);
                let [own, other] = if reply { [1, 0] } else { [0, 1] };
                let is_next = segment.sequence == 0;
                segment.sequence = segment.sequence.wrapping_add(next[flow][own]);
                segment.acknowledgement = segment.acknowledgement.wrapping_add(next[flow][other]);
                if is_next {
                    next[flow][own] += segment.text.len() as u32;
                }
                let bytes = segment.bytes(ends(flow)[own]);
                let interface = arrives_on(flow, reply);
                prop_assert_eq!(
                    process(&mut short, now, interface, &bytes),
                    process(&mut long, now, interface, &bytes),
                    "{:?}", segment
                );
            }
        }
    }
}
