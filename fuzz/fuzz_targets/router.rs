//! Arbitrary packets at arbitrary times through a router with NAT and the FTP helper.
//!
//! Nothing panics. A packet that leaves is whole, with right checksums if it arrived with right ones. Tables stay
//! within their limits, and a packet that wants room changes nothing before it has it.
#![no_main]

mod packets;
mod right;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use arbitrary::Arbitrary;
use ftp_conntrack::conntrack::{Direction, Tuple};
use ftp_conntrack::netfilter::{Hook, Cidr, Match, NatRange, PortRange, Rule, Ruleset, StateSet, TableName, Target};
use ftp_conntrack::packet::{Headers, Layer4, Packet, Protocol};
use ftp_conntrack::router::{RouterConfig, Interface, Outbox, Route, Router, Verdict};
use ftp_conntrack::{Behaviour, Instant};
use libfuzzer_sys::fuzz_target;
use packets::{ip, ip_packet};
use right::{is_right, make_right};

const CONNECTIONS: u32 = 12;
const EXPECTATIONS: u32 = 3;
const HELPED: u32 = 4;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    setup: Setup,
    steps: Vec<Step<'a>>,
}

#[derive(Debug, Arbitrary)]
struct Setup {
    checksum: bool,
    loose: bool,
    by_port: bool,
    few_ports: bool,
    events: bool,
    exact: bool,
}

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// Any bytes.
    Raw {
        from: From,
        repair: bool,
        room: u8,
        bytes: &'a [u8],
    },
    /// A packet from one of a few hosts to another.
    Fresh {
        from: From,
        v6: bool,
        hosts: (u8, u8),
        ports: (u8, u8),
        packet: Shape<'a>,
    },
    /// A packet of one of the connections that are there.
    Known {
        from: From,
        connection: u8,
        reply: bool,
        packet: Shape<'a>,
    },
    /// A connection that is expected.
    Expected {
        from: From,
        expectation: u8,
        port: u8,
        packet: Shape<'a>,
    },
    /// An error about the packet that left last.
    Error {
        from: From,
        kind: u8,
        code: u8,
        quoted: u8,
    },
    /// Time passes, or steps back.
    Time(i32),
    /// The caller takes a hand.
    Delete {
        connection: u8,
    },
    Flush,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum From {
    Lan,
    Wan,
    Own,
}

#[derive(Debug, Arbitrary)]
struct Shape<'a> {
    protocol: Transport,
    flags: Flags,
    /// Distance of the numbers from the right ones.
    off: (i8, i8),
    sack: Option<(u8, u8)>,
    text: Text<'a>,
    last_hop: bool,
    room: u8,
    padding: u8,
    wrong: bool,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Transport {
    Tcp,
    Udp,
    Echo,
    Other(u8),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Flags {
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
    Rst,
    Any(u8),
}

#[derive(Debug, Arbitrary)]
enum Text<'a> {
    Nothing,
    Raw(&'a [u8]),
    Line(&'a [u8]),
    Port { own: bool, port: u16 },
    Eprt { own: bool, port: u16 },
    Pasv { own: bool, port: u16 },
    Epsv { port: u16 },
}

fuzz_target!(|input: Input<'_>| {
    let mut world = World::new(&input.setup);
    for step in input.steps.iter().take(64) {
        world.step(step);
    }
    world.end();
});

struct World {
    router: Router,
    outbox: Outbox,
    now: Instant,
    /// The latest moment so far.
    latest: Instant,
    /// The next number of each sender, as it counts itself and as the other side sees it.
    next: HashMap<(Tuple, bool), (u32, u32)>,
    last: Vec<u8>,
}

impl World {
    fn new(setup: &Setup) -> Self {
        let net = |address: &str, prefix| Cidr::new(ip(address), prefix).expect("a network");
        let mut config = RouterConfig::default();
        config.interfaces = vec![
            Interface::new("lan").with_address(ip("10.77.1.1"), 24).with_address(ip("fd77::1"), 64),
            Interface::new("wan").with_address(ip("203.0.113.1"), 24).with_address(ip("2001:db8::1"), 64),
        ];
        config.routes = vec![
            Route::on_link(net("10.77.1.0", 24), 0),
            Route::on_link(net("fd77::", 64), 0),
            Route::on_link(net("0.0.0.0", 0), 1),
            Route::on_link(net("::", 0), 1),
        ];
        config.rules4 = rules(setup, ip("10.77.1.2"));
        config.rules6 = rules(setup, ip("fd77::2"));
        config.helper = config.helper.loose(setup.loose);
        if setup.exact {
            config.helper = config.helper.behaving(Behaviour::Exact);
            config.helper.hold_buffers = 2;
            config.helper.policy.require_login = setup.loose;
        }
        if setup.by_port {
            config.helper_ports = vec![21];
        }
        config.checksum = setup.checksum;
        config.conntrack.limits.connections = CONNECTIONS;
        config.conntrack.limits.expectations = EXPECTATIONS;
        config.conntrack.limits.helped = HELPED;
        config.conntrack.limits.events = if setup.events { 8 } else { 0 };
        let router = Router::new(config, [1, 2, 3, 4]).expect("no chain is called");
        let outbox = Outbox::new(4, 4096);
        Self { router, outbox, now: Instant::from_secs(1000), latest: Instant::from_secs(1000), next: HashMap::new(), last: Vec::new() }
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Raw { from, repair, room, bytes } => {
                let mut bytes = bytes.to_vec();
                if *repair {
                    make_right(&mut bytes);
                }
                self.send(*from, bytes, *room);
            }
            Step::Fresh { from, v6, hosts, ports, packet } => {
                let (source, destination) = (host(hosts.0, *v6), host(hosts.1, *v6));
                let ends = (SocketAddr::new(source, port(ports.0)), SocketAddr::new(destination, port(ports.1)));
                self.send_shape(*from, ends, packet);
            }
            Step::Known { from, connection, reply, packet } => {
                let direction = if *reply { Direction::Reply } else { Direction::Original };
                let count = self.router.conntrack().iter(self.now).count().max(1);
                let chosen = self.router.conntrack().iter(self.now).nth(usize::from(*connection) % count);
                let tuple = chosen.map(|(_, connection)| *connection.tuple(direction));
                if let Some(tuple) = tuple {
                    self.send_shape(*from, ends_of(&tuple), packet);
                }
            }
            Step::Expected { from, expectation, port: source, packet } => {
                let count = self.router.conntrack().expected().max(1);
                let chosen = self.router.conntrack().iter_expectations(self.now).nth(usize::from(*expectation) % count);
                if let Some(mut ends) = chosen.map(|(_, expectation)| ends_of(&expectation.tuple())) {
                    ends.0.set_port(port(*source));
                    self.send_shape(*from, ends, packet);
                }
            }
            Step::Error { from, kind, code, quoted } => self.send_error(*from, *kind, *code, *quoted),
            Step::Time(micros) => {
                self.now = moment(self.now, *micros);
                self.latest = self.latest.max(self.now);
                let _ = self.router.poll_at();
                self.router.handle_timeout(self.now, &mut self.outbox);
                self.check_tables();
            }
            Step::Delete { connection } => {
                let chosen = self.router.conntrack().iter(self.now).nth(usize::from(*connection));
                if let Some(id) = chosen.map(|(id, _)| id) {
                    assert!(self.router.conntrack_mut().delete(self.now, id));
                    assert!(!self.router.conntrack_mut().delete(self.now, id));
                }
            }
            Step::Flush => {
                self.router.conntrack_mut().flush(self.now);
                assert!(self.router.conntrack().is_empty() && self.router.conntrack().expected() == 0);
            }
        }
    }

    fn send_shape(&mut self, from: From, (source, destination): (SocketAddr, SocketAddr), shape: &Shape<'_>) {
        let mut text = text(&shape.text, source.ip());
        let mut transport = Vec::new();
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        let tuple = Tuple::new(Protocol::TCP, source, destination);
        let protocol = match shape.protocol {
            Transport::Tcp => {
                let (sequence, acknowledgement) = self.numbers(tuple);
                transport.extend(ports);
                transport.extend(sequence.wrapping_add_signed(shape.off.0.into()).to_be_bytes());
                transport.extend(acknowledgement.wrapping_add_signed(shape.off.1.into()).to_be_bytes());
                let offset = if shape.sack.is_some() { 8 } else { 5 };
                transport.extend([offset << 4, flags(shape.flags), 0xff, 0xff, 0, 0, 0, 0]);
                if let Some((from, to)) = shape.sack {
                    transport.extend([1, 1, 5, 10]);
                    transport.extend(acknowledgement.wrapping_sub(from.into()).to_be_bytes());
                    transport.extend(acknowledgement.wrapping_add(to.into()).to_be_bytes());
                }
                Protocol::TCP
            }
            Transport::Udp => {
                transport.extend(ports);
                transport.extend((8 + text.len() as u16).to_be_bytes());
                transport.extend([0, 0]);
                Protocol::UDP
            }
            Transport::Echo => {
                let request = !destination.ip().to_string().starts_with("10.");
                let (protocol, kind) = match (source.is_ipv4(), request) {
                    (true, true) => (Protocol::ICMP, 8),
                    (true, false) => (Protocol::ICMP, 0),
                    (false, true) => (Protocol::ICMPV6, 128),
                    (false, false) => (Protocol::ICMPV6, 129),
                };
                transport.extend([kind, 0, 0, 0]);
                transport.extend(ports);
                protocol
            }
            Transport::Other(number) => Protocol(number),
        };
        transport.append(&mut text);
        let mut packet =
            ip_packet(source.ip(), destination.ip(), protocol, &transport, if shape.last_hop { 1 } else { 64 });
        make_right(&mut packet);
        if shape.wrong
            && let Some(last) = packet.last_mut()
        {
            *last ^= 0x55;
        }
        packet.extend(core::iter::repeat_n(0, usize::from(shape.padding % 8)));
        self.send(from, packet, shape.room);
    }

    fn send_error(&mut self, from: From, kind: u8, code: u8, quoted: u8) {
        let Ok(headers) = Headers::find(&self.last) else { return };
        let victim = headers.source(&self.last);
        let (teller, protocol) = match victim {
            IpAddr::V4(_) => (ip("192.0.2.33"), Protocol::ICMP),
            IpAddr::V6(_) => (ip("2001:db8:33::1"), Protocol::ICMPV6),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend(self.last.iter().take(usize::from(quoted)));
        let mut packet = ip_packet(teller, victim, protocol, &message, 64);
        make_right(&mut packet);
        self.send(from, packet, 64);
    }

    /// The numbers that fit a segment of this tuple best.
    fn numbers(&mut self, tuple: Option<Tuple>) -> (u32, u32) {
        let Some((original, reply)) = tuple.and_then(|tuple| self.name(&tuple)) else { return (1000, 0) };
        let (sequence, _) = *self.next.get(&(original, reply)).unwrap_or(&(1000, 1000));
        let (_, acknowledgement) = *self.next.get(&(original, !reply)).unwrap_or(&(1000, 1000));
        (sequence, acknowledgement)
    }

    /// The connection of a tuple by its original tuple, and whether this one is the reply's.
    fn name(&self, tuple: &Tuple) -> Option<(Tuple, bool)> {
        let (id, direction) = self.router.conntrack().find(self.now, tuple)?;
        let connection = self.router.conntrack().get(id)?;
        Some((*connection.tuple(Direction::Original), direction == Direction::Reply))
    }

    fn send(&mut self, from: From, bytes: Vec<u8>, room: u8) {
        let arrived = bytes.clone();
        let mut buffer = bytes;
        buffer.resize(arrived.len() + usize::from(room % 65), 0xee);
        let right = is_right(&arrived);
        let verdict = self.call(from, &mut buffer, arrived.len());
        let (verdict, bytes) = match verdict {
            (Verdict::NeedsRoom(wanted), bytes) => {
                assert_eq!(bytes, arrived, "it wants room, and was changed");
                assert!(wanted <= Packet::ROOM, "{wanted} bytes of room");
                let mut buffer = arrived.clone();
                buffer.resize(arrived.len() + wanted, 0xee);
                let (verdict, bytes) = self.call(from, &mut buffer, arrived.len());
                assert!(!matches!(verdict, Verdict::NeedsRoom(_)), "it wants room again");
                (verdict, bytes)
            }
            other => other,
        };
        if let Verdict::Forward { .. } | Verdict::Local = verdict {
            let headers = Headers::find(&bytes).expect("what leaves is a whole packet");
            assert_eq!(headers.end, bytes.len());
            assert!(!right || is_right(&bytes), "{arrived:02x?} became {bytes:02x?}");
            self.note(&arrived, &bytes);
            self.last = bytes;
        }
        for outgoing in self.outbox.iter() {
            assert!(is_right(outgoing.bytes), "{:02x?}", outgoing.bytes);
        }
        self.outbox.clear();
        self.check_tables();
    }

    fn call(&mut self, from: From, buffer: &mut [u8], len: usize) -> (Verdict, Vec<u8>) {
        let mut packet = Packet::new(buffer, 0..len).expect("it stands in its buffer");
        let verdict = match from {
            From::Lan => self.router.process(self.now, 0, &mut packet, &mut self.outbox),
            From::Wan => self.router.process(self.now, 1, &mut packet, &mut self.outbox),
            From::Own => self.router.output(self.now, &mut packet, &mut self.outbox),
        };
        (verdict, packet.bytes().to_vec())
    }

    /// Notes where a sender stands.
    fn note(&mut self, arrived: &[u8], left: &[u8]) {
        let (Ok(a), Ok(l)) = (Headers::find(arrived), Headers::find(left)) else { return };
        let (Layer4::Tcp(before), Layer4::Tcp(after)) = (a.layer4, l.layer4) else { return };
        let Some(name) = Tuple::of(&a, arrived).and_then(|tuple| self.name(&tuple)) else { return };
        let control = (before.flags.0 & 1) + (before.flags.0 >> 1 & 1);
        let own = before.sequence + a.payload(arrived).len() as u32 + u32::from(control);
        let seen = after.sequence + l.payload(left).len() as u32 + u32::from(control);
        self.next.insert(name, (own.0, seen.0));
    }

    fn check_tables(&mut self) {
        let conntrack = self.router.conntrack();
        assert!(conntrack.len() <= CONNECTIONS as usize, "{} connections", conntrack.len());
        assert!(conntrack.expected() <= EXPECTATIONS as usize, "{} expectations", conntrack.expected());
        let helped = conntrack.iter(self.now).filter(|(_, connection)| connection.helper_slot().is_some()).count();
        assert!(helped <= HELPED as usize, "{helped} helped connections");
        for (id, connection) in conntrack.iter(self.now) {
            for direction in [Direction::Original, Direction::Reply] {
                // Of a host that speaks to itself, port to same port, both directions look alike.
                let found = conntrack.find(self.now, connection.tuple(direction)).map(|(id, _)| id);
                assert_eq!(found, Some(id), "each tuple belongs to one connection");
            }
        }
        let mut events = 0;
        while self.router.poll_event().is_some() {
            events += 1;
        }
        assert!(events <= 8);
    }

    /// All can be printed, and all is forgotten in the end.
    fn end(&mut self) {
        let text = self.router.conntrack().to_proc_text(self.now);
        assert_eq!(text.lines().count(), self.router.conntrack().iter(self.now).count());
        let mut rounds = 0;
        while let Some(at) = self.router.poll_at() {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now, &mut self.outbox);
            rounds += 1;
            assert!(rounds < 10_000, "it never ends");
        }
        // Deadlines after the end of time never come.
        if self.latest.micros() < END {
            assert!(self.router.conntrack().is_empty() && self.router.conntrack().expected() == 0);
        }
    }
}

/// A month before the end of time: what is remembered after it may be remembered for ever.
const END: i64 = i64::MAX - 30 * 86_400_000_000;

/// Returns a moment up to 35 minutes from `now` in either direction, or days from it, or near an end of the range.
fn moment(now: Instant, micros: i32) -> Instant {
    Instant::from_micros(match micros.rem_euclid(16) {
        0 => i64::MAX - i64::from(micros.unsigned_abs() >> 4),
        1 => i64::MIN + i64::from(micros.unsigned_abs() >> 4),
        2 | 3 => now.micros().saturating_add(i64::from(micros) * 1000),
        _ => now.micros().saturating_add(i64::from(micros)),
    })
}

fn rules(setup: &Setup, inside: IpAddr) -> Ruleset {
    let mut rules = Ruleset::default();
    let tcp_to = |rule: Rule, port| {
        rule.when(Match::Protocol(Protocol::TCP)).when(Match::DestinationPorts(vec![PortRange::one(port)]))
    };
    if !setup.by_port {
        rules.append(TableName::Raw, Hook::Prerouting, tcp_to(Rule::new(Target::helper("ftp")), 21));
        rules.append(TableName::Raw, Hook::Output, tcp_to(Rule::new(Target::helper("ftp")), 21));
    }
    rules.append(TableName::Raw, Hook::Prerouting, tcp_to(Rule::new(Target::NoTrack), 9));
    let from_wan = Rule::new(Target::Dnat(NatRange::to_endpoint(inside, 21))).when(Match::InInterface("wan".into()));
    rules.append(TableName::Nat, Hook::Prerouting, tcp_to(from_wan, 21));
    let ports = setup.few_ports.then_some(PortRange { first: 40_000, last: 40_003 });
    let to_wan = Rule::new(Target::Masquerade(NatRange { ports, ..NatRange::default() }));
    let to_wan = to_wan.when(Match::OutInterface("wan".into())).when(Match::Protocol(Protocol::TCP));
    rules.append(TableName::Nat, Hook::Postrouting, to_wan);
    let others = Rule::new(Target::Masquerade(NatRange::default())).when(Match::OutInterface("wan".into()));
    rules.append(TableName::Nat, Hook::Postrouting, others);
    let invalid = Rule::new(Target::Drop).when(Match::ConnectionState(StateSet::INVALID));
    rules.append(TableName::Filter, Hook::Input, invalid);
    rules
}

/// One of a few hosts: inside, the router itself, outside.
fn host(number: u8, v6: bool) -> IpAddr {
    let hosts = [
        ("10.77.1.2", "fd77::2"),
        ("10.77.1.3", "fd77::3"),
        ("198.51.100.9", "2001:db8:9::9"),
        ("198.51.100.10", "2001:db8:9::a"),
        ("203.0.113.1", "2001:db8::1"),
        ("10.77.1.1", "fd77::1"),
        ("10.77.1.255", "ff02::1"),
    ];
    let (v4_text, v6_text) = hosts[usize::from(number) % hosts.len()];
    ip(if v6 { v6_text } else { v4_text })
}

/// One of a few ports.
fn port(number: u8) -> u16 {
    [21, 20, 40_000, 40_001, 5000, 50_000, 80, 0][usize::from(number % 8)]
}

fn flags(flags: Flags) -> u8 {
    match flags {
        Flags::Syn => 2,
        Flags::SynAck => 18,
        Flags::Ack => 16,
        Flags::Data => 24,
        Flags::Fin => 17,
        Flags::Rst => 4,
        Flags::Any(flags) => flags,
    }
}

/// Returns the text of a packet from this address.
fn text(text: &Text<'_>, own: IpAddr) -> Vec<u8> {
    let announced = |is_own: &bool| if *is_own { own } else { host(3, own.is_ipv6()) };
    let six = |is_own: &bool, port: &u16| match announced(is_own) {
        IpAddr::V4(v4) => format!("{},{},{}", v4.to_string().replace('.', ","), port >> 8, port & 255),
        IpAddr::V6(_) => format!("253,119,0,0,{},{}", port >> 8, port & 255),
    };
    match text {
        Text::Nothing => Vec::new(),
        Text::Raw(bytes) => bytes[..bytes.len().min(200)].to_vec(),
        Text::Line(bytes) => [&bytes[..bytes.len().min(200)], b"\r\n"].concat(),
        Text::Port { own, port } => format!("PORT {}\r\n", six(own, port)).into_bytes(),
        Text::Eprt { own: is_own, port } => {
            let family = if own.is_ipv4() { 1 } else { 2 };
            format!("EPRT |{family}|{}|{port}|\r\n", announced(is_own)).into_bytes()
        }
        Text::Pasv { own, port } => format!("227 Entering Passive Mode ({}).\r\n", six(own, port)).into_bytes(),
        Text::Epsv { port } => format!("229 Entering Extended Passive Mode (|||{port}|)\r\n").into_bytes(),
    }
}

fn ends_of(tuple: &Tuple) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(tuple.source(), tuple.source_port()),
        SocketAddr::new(tuple.destination(), tuple.destination_port()),
    )
}
