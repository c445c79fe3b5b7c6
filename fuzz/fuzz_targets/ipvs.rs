//! Arbitrary packets at arbitrary times through a load balancer.
//!
//! Nothing panics. A packet that leaves is whole, with right checksums if it arrived with right ones. A packet that
//! wants room changes nothing before it has it. Real servers count as many connections as there are entries for them,
//! and in the end nothing is left.
#![no_main]

mod packets;
mod right;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arbitrary::Arbitrary;
use ftp_conntrack::ipvs::{self, Forwarding, Scheduler, ServerConfig, ServiceAddress, ServiceConfig};
use ftp_conntrack::netfilter::{Hook, Cidr, Masked, Match, NatRange, PortRange, Rule, Ruleset, TableName, Target};
use ftp_conntrack::packet::{Headers, Packet, Protocol};
use ftp_conntrack::router::{RouterConfig, Interface, Outbox, Route, Router, Verdict};
use ftp_conntrack::{Behaviour, Instant};
use libfuzzer_sys::fuzz_target;
use packets::{ip, ip_packet};
use right::{is_right, make_right};

const ENTRIES: u32 = 10;
const CONNECTIONS: u32 = 12;
const SCHEDULERS: [&str; 8] = ["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh"];

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    setup: Setup,
    steps: Vec<Step<'a>>,
}

#[derive(Debug, Arbitrary)]
struct Setup {
    by_mark: bool,
    persistent: bool,
    exact: bool,
    reads_ftp: bool,
    conntrack: bool,
    checksum: bool,
    masquerades: bool,
    scheduler: u8,
    reuse: u8,
    ways: [u8; 3],
}

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// Any bytes.
    Raw {
        inside: bool,
        repair: bool,
        bytes: &'a [u8],
    },
    /// A packet of a client, or of a real server.
    Fresh {
        inside: bool,
        v6: bool,
        hosts: (u8, u8),
        ports: (u8, u8),
        packet: Shape<'a>,
    },
    /// A packet of one of the entries that are there.
    Known {
        entry: u8,
        answers: bool,
        port: u8,
        packet: Shape<'a>,
    },
    /// An error about the packet that left last.
    Error {
        inside: bool,
        kind: u8,
        code: u8,
        quoted: u8,
    },
    /// Time passes, or steps back.
    Time {
        seconds: i16,
        tell: bool,
    },
    Weight {
        server: u8,
        weight: u8,
    },
    Flush,
}

#[derive(Debug, Arbitrary)]
struct Shape<'a> {
    udp: bool,
    flags: u8,
    numbers: (u8, u8),
    text: Text<'a>,
    room: u8,
    wrong: bool,
}

#[derive(Debug, Arbitrary)]
enum Text<'a> {
    Nothing,
    Raw(&'a [u8]),
    Pasv,
    Epsv,
    Port(u16),
    Eprt(u16),
    Announces { own: bool, port: u16 },
    AnnouncesExtended(u16),
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
    /// The latest time that was: what began then ends after it.
    latest: Instant,
    last: Vec<u8>,
}

impl World {
    fn new(setup: &Setup) -> Self {
        let net = |address: &str, prefix| Cidr::new(ip(address), prefix).expect("a network");
        let mut config = RouterConfig::default();
        config.interfaces = vec![
            Interface::new("ext")
                .with_address(ip("203.0.113.1"), 24)
                .with_address(ip("203.0.113.21"), 32)
                .with_address(ip("2001:db8::21"), 64),
            Interface::new("int").with_address(ip("10.77.1.1"), 24).with_address(ip("fd77::1"), 64),
        ];
        config.routes = vec![
            Route::on_link(net("10.77.1.0", 24), 1),
            Route::on_link(net("fd77::", 64), 1),
            Route::on_link(net("0.0.0.0", 0), 0),
            Route::on_link(net("::", 0), 0),
        ];
        config.rules4 = rules(setup);
        config.rules6 = rules(setup);
        config.ipvs = Some(services(setup));
        if setup.exact {
            config.helper = config.helper.behaving(Behaviour::Exact);
            config.helper.hold_buffers = 2;
            config.helper.policy.require_login = false;
            config.helper_ports = vec![21];
        }
        config.checksum = setup.checksum;
        config.conntrack.limits.connections = CONNECTIONS;
        config.conntrack.limits.expectations = 3;
        config.conntrack.limits.helped = 4;
        config.conntrack.limits.events = 8;
        config.fragments = 2;
        let router = Router::new(config, [1, 2, 3, 4]).expect("no chain is called");
        Self {
            router,
            outbox: Outbox::new(8, 1 << 14),
            now: Instant::from_secs(100_000),
            latest: Instant::from_secs(100_000),
            last: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Raw { inside, repair, bytes } => {
                let mut bytes = bytes.to_vec();
                if *repair {
                    make_right(&mut bytes);
                }
                self.send(*inside, bytes, 0);
            }
            Step::Fresh { inside, v6, hosts, ports, packet } => {
                let source = SocketAddr::new(host(hosts.0, *v6), port(ports.0));
                self.send_shape(*inside, source, SocketAddr::new(host(hosts.1, *v6), port(ports.1)), packet);
            }
            Step::Known { entry, answers, port: source, packet } => {
                let ipvs = self.router.ipvs().expect("it is there");
                let count = ipvs.iter(self.now).count().max(1);
                let Some((_, entry)) = ipvs.iter(self.now).nth(usize::from(*entry) % count) else { return };
                let (mut client, dialled, real) = (entry.client(), entry.virtual_address(), entry.real_server());
                if client.port() == 0 {
                    client.set_port(port(*source));
                }
                let (from, to) = if *answers { (real, client) } else { (client, dialled) };
                if from.is_ipv4() == to.is_ipv4() {
                    self.send_shape(*answers, from, to, packet);
                }
            }
            Step::Error { inside, kind, code, quoted } => self.send_error(*inside, *kind, *code, *quoted),
            Step::Time { seconds, tell } => {
                self.now = moment(self.now, *seconds);
                self.latest = self.latest.max(self.now);
                if *tell {
                    let _ = self.router.poll_at();
                    self.router.handle_timeout(self.now, &mut self.outbox);
                }
                self.check();
            }
            Step::Weight { server, weight } => {
                let ipvs = self.router.ipvs_mut().expect("it is there");
                let there = ipvs.set_weight(0, usize::from(server % 4), u32::from(weight % 4));
                assert_eq!(there, server % 4 < 3);
            }
            Step::Flush => {
                self.router.conntrack_mut().flush(self.now);
                assert!(self.router.conntrack().is_empty() && self.router.conntrack().expected() == 0);
            }
        }
    }

    fn send_shape(&mut self, inside: bool, source: SocketAddr, destination: SocketAddr, shape: &Shape<'_>) {
        let text = text(&shape.text, source.ip());
        let mut transport = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        let protocol = if shape.udp {
            transport.extend((8 + text.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
            Protocol::UDP
        } else {
            let flags = [2, 18, 16, 24, 24, 17, 4, shape.flags][usize::from(shape.flags % 8)];
            transport.extend([0, 0, 4, shape.numbers.0, 0, 0, 4, shape.numbers.1]);
            transport.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            Protocol::TCP
        };
        transport.extend(text);
        let mut packet = ip_packet(source.ip(), destination.ip(), protocol, &transport, 64);
        make_right(&mut packet);
        if shape.wrong
            && let Some(last) = packet.last_mut()
        {
            *last ^= 0x55;
        }
        self.send(inside, packet, shape.room);
    }

    fn send_error(&mut self, inside: bool, kind: u8, code: u8, quoted: u8) {
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
        self.send(inside, packet, 64);
    }

    fn send(&mut self, inside: bool, arrived: Vec<u8>, room: u8) {
        let right = is_right(&arrived);
        let (verdict, bytes) = match self.call(inside, &arrived, usize::from(room % 65)) {
            (Verdict::NeedsRoom(wanted), bytes) => {
                assert_eq!(bytes, arrived, "it wants room, and was changed");
                assert!(wanted <= Packet::ROOM, "{wanted} bytes of room");
                let (verdict, bytes) = self.call(inside, &arrived, wanted);
                assert!(!matches!(verdict, Verdict::NeedsRoom(_)), "it wants room again");
                (verdict, bytes)
            }
            other => other,
        };
        if let Verdict::Forward { .. } | Verdict::Local = verdict {
            let headers = Headers::find(&bytes).expect("what leaves is a whole packet");
            assert_eq!(headers.end, bytes.len());
            assert!(!right || is_right(&bytes), "{arrived:02x?} became {bytes:02x?}");
            self.last = bytes;
        }
        for outgoing in self.outbox.iter() {
            assert!(Headers::find(outgoing.bytes).is_ok_and(|headers| headers.header_checksum_ok(outgoing.bytes)));
        }
        self.outbox.clear();
        self.check();
    }

    fn call(&mut self, inside: bool, arrived: &[u8], room: usize) -> (Verdict, Vec<u8>) {
        let mut buffer = arrived.to_vec();
        buffer.resize(arrived.len() + room, 0xee);
        let mut packet = Packet::new(&mut buffer, 0..arrived.len()).expect("it stands in its buffer");
        let verdict = self.router.process(self.now, usize::from(inside), &mut packet, &mut self.outbox);
        (verdict, packet.bytes().to_vec())
    }

    fn check(&mut self) {
        let ipvs = self.router.ipvs().expect("it is there");
        assert!(ipvs.len() <= ENTRIES as usize, "{} entries", ipvs.len());
        let counted: u32 = (0..2)
            .flat_map(|service| ipvs.servers(service))
            .map(|server| server.active() + server.inactive() + server.persistent())
            .sum();
        assert_eq!(counted as usize, ipvs.len(), "servers count their entries");
        assert!(self.router.conntrack().len() <= CONNECTIONS as usize);
        while self.router.poll_event().is_some() {}
    }

    /// All can be printed, and all is forgotten in the end.
    fn end(&mut self) {
        let ipvs = self.router.ipvs().expect("it is there");
        let mut text = String::new();
        ipvs.write_proc(&mut text).expect("a String takes all");
        ipvs.write_proc_conn(self.now, &mut text).expect("a String takes all");
        self.now = self.latest;
        self.router.handle_timeout(self.now, &mut self.outbox);
        let mut rounds = 0;
        while let Some(at) = self.router.poll_at() {
            self.now = self.now.max(at) + Duration::from_micros(1);
            self.router.handle_timeout(self.now, &mut self.outbox);
            rounds += 1;
            assert!(rounds < 20_000, "it never ends");
        }
        self.check();
        // Deadlines after the end of time never come.
        if self.latest.micros() < END {
            assert!(self.router.ipvs().is_some_and(ipvs::Ipvs::is_empty) && self.router.conntrack().is_empty());
        }
    }
}

/// A month before the end of time: what is remembered after it may be remembered for ever.
const END: i64 = i64::MAX - 30 * 86_400_000_000;

/// Returns the moment `seconds` from `now`, or one near an end of the range.
fn moment(now: Instant, seconds: i16) -> Instant {
    let near = i64::from(seconds.unsigned_abs() >> 4) * 100_000;
    Instant::from_micros(match seconds.rem_euclid(16) {
        0 => i64::MAX - near,
        1 => i64::MIN + near,
        _ => now.micros().saturating_add(i64::from(seconds) * 1_000_000),
    })
}

fn services(setup: &Setup) -> ipvs::IpvsConfig {
    let scheduler = SCHEDULERS[usize::from(setup.scheduler) % SCHEDULERS.len()];
    let scheduler = Scheduler::from_name(scheduler).expect("a scheduler");
    let mut config = ipvs::IpvsConfig::default();
    for v6 in [false, true] {
        let address = match (setup.by_mark, v6) {
            (true, ipv6) => ServiceAddress::Mark { mark: 21, ipv6 },
            (false, _) => ServiceAddress::tcp(SocketAddr::new(host(4, v6), 21)),
        };
        let mut service = ServiceConfig::new(address, scheduler);
        if setup.persistent {
            service = service.persistent(Duration::from_secs(100));
        }
        for (number, way) in setup.ways.iter().enumerate() {
            let way = [Forwarding::Masquerade, Forwarding::Masquerade, Forwarding::Route, Forwarding::Tunnel]
                [usize::from(way % 4)];
            let mut server = ServerConfig::new(host(5 + number as u8, v6), if setup.by_mark { 0 } else { 21 }, way);
            server.upper = if number == 0 { 3 } else { 0 };
            service = service.with_server(server);
        }
        config.services.push(service);
    }
    config.ftp_ports.extend(setup.reads_ftp.then_some(21));
    config.settings.entries = ENTRIES;
    config.settings.conntrack = setup.conntrack;
    config.settings.reuse_mode = setup.reuse % 4;
    config
}

fn rules(setup: &Setup) -> Ruleset {
    let mut rules = Ruleset::default();
    let mark = || Rule::new(Target::Mark(Masked { value: 21, mask: u32::MAX })).when(Match::Protocol(Protocol::TCP));
    let ports = vec![PortRange::one(21), PortRange { first: 10_000, last: 20_000 }];
    if setup.by_mark {
        rules.append(TableName::Mangle, Hook::Prerouting, mark().when(Match::DestinationPorts(ports)));
    }
    if setup.masquerades {
        let active = Rule::new(Target::Masquerade(NatRange::default())).when(Match::Protocol(Protocol::TCP));
        let active = active.when(Match::SourcePorts(vec![PortRange::one(20)]));
        rules.append(TableName::Nat, Hook::Postrouting, active);
    }
    rules
}

/// Clients, the director, real servers.
fn host(number: u8, v6: bool) -> IpAddr {
    let hosts = [
        ("198.51.100.7", "2001:db8:7::7"),
        ("198.51.100.8", "2001:db8:7::8"),
        ("203.0.113.1", "2001:db8::21"),
        ("10.77.1.1", "fd77::1"),
        ("203.0.113.21", "2001:db8::21"),
        ("10.77.1.11", "fd77::11"),
        ("10.77.1.12", "fd77::12"),
        ("10.77.1.13", "fd77::13"),
    ];
    let (v4_text, v6_text) = hosts[usize::from(number) % hosts.len()];
    ip(if v6 { v6_text } else { v4_text })
}

fn port(number: u8) -> u16 {
    [21, 20, 40_000, 40_001, 10_001, 30_000, 80, 0][usize::from(number % 8)]
}

fn text(text: &Text<'_>, own: IpAddr) -> Vec<u8> {
    let six = |address: IpAddr, port: u16| {
        let address = if address.is_ipv4() { address } else { ip("10.77.1.11") };
        format!("{},{},{}", address.to_string().replace('.', ","), port >> 8, port & 255)
    };
    match text {
        Text::Nothing => Vec::new(),
        Text::Raw(bytes) => bytes[..bytes.len().min(200)].to_vec(),
        Text::Pasv => b"PASV\r\n".to_vec(),
        Text::Epsv => b"EPSV\r\n".to_vec(),
        Text::Port(port) => format!("PORT {}\r\n", six(own, *port)).into_bytes(),
        Text::Eprt(port) => {
            let family = if own.is_ipv4() { 1 } else { 2 };
            format!("EPRT |{family}|{own}|{port}|\r\n").into_bytes()
        }
        Text::Announces { own: true, port } => format!("227 Passive ({}).\r\n", six(own, *port)).into_bytes(),
        Text::Announces { port, .. } => format!("227 Passive ({}).\r\n", six(host(4, false), *port)).into_bytes(),
        Text::AnnouncesExtended(port) => format!("229 Extended (|||{port}|)\r\n").into_bytes(),
    }
}
