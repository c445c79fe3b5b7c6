//! The whole way of a packet of an established, masqueraded connection.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use criterion::{Criterion, Throughput};
use ftp_conntrack::Instant;
use ftp_conntrack::netfilter::{Cidr, Hook, Match, NatRange, PortRange, Rule, Ruleset, StateSet, TableName, Target};
use ftp_conntrack::packet::{Headers, Protocol};
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig, Verdict};

use crate::flow::{Flow, OUTSIDE, shuffled};
use crate::packets::Frame;

const LAN: usize = 0;
const WAN: usize = 1;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(1));
    let v4 = |port| Flow::numbered(1, port).seen_as(SocketAddr::new(OUTSIDE, 40_001));
    let v6 = Flow::over_ipv6(1, 443).seen_as("[2001:db8::1]:40000".parse().expect("an address"));
    let kinds = [("IPv4", v4(443)), ("IPv4, with helper", v4(21)), ("IPv6", v6)];
    for (name, flow) in kinds {
        let mut machine = Machine::new(16);
        machine.open(&flow);
        machine.order = vec![0];
        group.bench_function(format!("process, one connection/{name}"), |b| b.iter(|| machine.process_next()));
    }

    const MANY: usize = 1 << 14;
    let mut machine = Machine::new(MANY as u32 + 16);
    for number in 0..MANY as u32 {
        let flow = Flow::numbered(number, 443);
        machine.open(&flow.seen_as(SocketAddr::new(OUTSIDE, flow.client.port())));
    }
    machine.order = shuffled(MANY);
    group.bench_function("process, 16k connections at random", |b| b.iter(|| machine.process_next()));
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("conntrack text, 16k connections", |b| {
        let now = Instant::from_micros(machine.micros);
        b.iter(|| machine.router.conntrack().to_proc_text(now));
    });
    group.finish();
}

/// A router that masquerades, and packets of its connections.
struct Machine {
    router: Router,
    outbox: Outbox,
    frames: Vec<[Frame; 2]>,
    order: Vec<usize>,
    next: usize,
    micros: i64,
}

impl Machine {
    fn new(connections: u32) -> Self {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let net = |text: &str, prefix| Cidr::new(ip(text), prefix).expect("a network");
        let mut config = RouterConfig::default();
        config.interfaces = vec![
            Interface::new("in").with_address(ip("10.255.255.254"), 8).with_address(ip("fd77::ff"), 64),
            Interface::new("out").with_address(OUTSIDE, 24).with_address(ip("2001:db8::1"), 64),
        ];
        config.routes = vec![
            Route::on_link(net("10.0.0.0", 8), LAN),
            Route::on_link(net("fd77::", 64), LAN),
            Route::on_link(net("203.0.113.0", 24), WAN),
            Route::through(net("0.0.0.0", 0), WAN, ip("203.0.113.254")),
            Route::through(net("::", 0), WAN, ip("2001:db8::fe")),
        ];
        config.rules4 = rules();
        config.rules6 = rules();
        config.conntrack.limits.connections = connections;
        config.conntrack.limits.events = 0;
        let router = Router::new(config, [1, 2, 3, 4]).expect("no chain is called");
        let outbox = Outbox::new(64, 1 << 16);
        Self { router, outbox, frames: Vec::new(), order: Vec::new(), next: 0, micros: 0 }
    }

    /// Opens a connection whose source port is free, or finds out what it became.
    fn open(&mut self, flow: &Flow) {
        let syn = self.process(LAN, &flow.syn());
        let headers = Headers::find(syn.bytes()).expect("a whole packet");
        let (port, _) = headers.ports(syn.bytes()).expect("TCP");
        let flow = flow.seen_as(SocketAddr::new(flow.seen.ip(), port));
        self.process(WAN, &flow.syn_ack());
        self.process(LAN, &flow.ack());
        self.frames.push(flow.pair());
    }

    /// Each connection's directions take turns, so that no packet looks sent again.
    fn process_next(&mut self) {
        let round = self.next / self.order.len();
        let frame = self.frames[self.order[self.next % self.order.len()]][round % 2];
        self.next += 1;
        black_box(self.process(round % 2, &frame));
    }

    fn process(&mut self, interface: usize, frame: &Frame) -> Frame {
        self.micros += 1;
        let now = Instant::from_micros(self.micros);
        let mut frame = *frame;
        let verdict = frame.change(|packet| self.router.process(now, interface, packet, &mut self.outbox));
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        frame
    }
}

/// Returns the rules of a masquerading router in front of FTP clients.
fn rules() -> Ruleset {
    let mut rules = Ruleset::default();
    let helper = Rule::new(Target::helper("ftp"))
        .when(Match::Protocol(Protocol::TCP))
        .when(Match::DestinationPorts(vec![PortRange::one(21)]));
    rules.append(TableName::Raw, Hook::Prerouting, helper);
    let masquerade = Rule::new(Target::Masquerade(NatRange::default())).when(Match::OutInterface("out".into()));
    rules.append(TableName::Nat, Hook::Postrouting, masquerade);
    let invalid = Rule::new(Target::Drop).when(Match::ConnectionState(StateSet::INVALID));
    rules.append(TableName::Filter, Hook::Input, invalid.clone());
    rules.append(TableName::Filter, Hook::Forward, invalid);
    rules.append(TableName::Filter, Hook::Input, Rule::new(Target::Drop).when(Match::Protocol(Protocol::TCP)));
    rules
}
