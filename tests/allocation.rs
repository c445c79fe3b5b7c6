//! Processing packets allocates nothing: all memory is taken when a router is made.
#![allow(unsafe_code, reason = "a global allocator cannot be had without")]

#[path = "../benches/layers/packets.rs"]
mod packets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ftp_conntrack::event::{AnnouncementOutcome, DestroyReason, DropReason, Event};
use ftp_conntrack::ipvs::{self, Forwarding, Ipvs, Scheduler, ServerConfig, ServiceAddress, ServiceConfig};
use ftp_conntrack::netfilter::{
    AddressTypes, Cidr, ConnmarkAction, Hook, Masked, Match, NatRange, PortRange, Rule, Ruleset, StateSet, TableName,
    Target,
};
use ftp_conntrack::packet::{Headers, Layer4, Protocol, TcpFlags};
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig, Verdict};
use ftp_conntrack::{Behaviour, Instant};
use packets::{ACK, DATA, Frame, SYN, SYN_ACK, SYN_OPTIONS};

/// The system's allocator, which counts what the current thread takes, moves and gives back.
struct Counting;

thread_local! {
    // Constant and without a destructor: reaching it allocates nothing, whenever that is.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LAN: usize = 0;
const WAN: usize = 1;
/// Fewer than the connections to come, so that older ones have to make way.
const CONNECTIONS: u32 = 2_000;
/// Fewer than the load balancer's clients.
const ENTRIES: u32 = 500;

#[test]
fn nothing_is_allocated_between_construction_and_drop() {
    let before_construction = COUNT.get();
    let mut world = World::new(Behaviour::Linux);
    let constructed = COUNT.get();
    assert!(constructed > before_construction, "the allocator does not count");

    world.dialogues();
    world.balanced();
    world.crowd();
    world.quiet();

    assert_eq!(COUNT.get() - constructed, 0, "calls of the allocator while packets were processed");
    world.assert_all_was_seen();
}

#[test]
fn nothing_is_allocated_for_lines_in_pieces() {
    let mut world = World::new(Behaviour::Exact);
    let constructed = COUNT.get();
    let mut control = Stream::new(addr("10.77.1.2:40000"), addr("198.51.100.9:21"), LAN);
    control.open(&mut world);
    control.server_says(&mut world, b"220 ready\r\n");
    control.client_says(&mut world, b"USER ftp\r\n");
    control.server_says(&mut world, b"230 welcome\r\n");
    for _ in 0..100 {
        // In two pieces, the second one twice.
        control.sends(&mut world, 0, DATA, b"PORT 10,77,1", b"");
        control.sends(&mut world, 0, DATA, b",2,19,136\r\nNO", b"PORT 203,0,113,1,19,136\r\nNO");
        control.sends_early(&mut world, 0, 4, b"PORT 10,77,1,2,19,137\r\n");
        control.sends(&mut world, 0, DATA, b"OP\r\n", b"OP\r\nPORT 203,0,113,1,19,137\r\n");
        control.ends[0].next = control.ends[0].next.wrapping_add(23);
        control.acknowledges(&mut world, 1, &[]);
        control.server_says(&mut world, b"200 ok\r\n");
        control.sends(&mut world, 0, DATA, b"EPRT |1|192.0.2.1|4000|\r\n", b"EPRT |1|0.0.0.0|0|\r\n");
        control.acknowledges(&mut world, 1, &[]);
        control.server_says(&mut world, b"501 no\r\n");
    }
    control.client_says(&mut world, b"AUTH TLS\r\n");
    control.server_says(&mut world, b"234 go on\r\n");
    control.client_says(&mut world, b"\x16\x03\x01PORT 10,77,1,2,19,136\r\n");
    control.close(&mut world);
    assert_eq!(COUNT.get() - constructed, 0, "calls of the allocator while packets were processed");
    assert_eq!((world.seen.announced, world.seen.rewritten), (200, 200));
}

/// Rules of every kind: matches, targets, marks, a chain of the user.
fn rules(nat: IpAddr) -> Ruleset {
    let mut rules = Ruleset::default();
    let states = |states| Match::ConnectionState(states);
    let everybody = Match::Source(Cidr::new(if nat.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0).unwrap());
    let mark = Masked { value: 7, mask: u32::MAX };
    let control = Match::DestinationPorts(vec![PortRange::one(21)]);
    let helper = Rule::new(Target::helper("ftp")).when(Match::Protocol(Protocol::TCP)).when(control.clone());
    rules.append(TableName::Raw, Hook::Prerouting, helper);
    let marking = Rule::new(Target::Mark(mark)).when(Match::Protocol(Protocol::TCP)).when(control);
    rules.append(TableName::Mangle, Hook::Prerouting, marking);
    let saving = ConnmarkAction::Save { nfmask: u32::MAX, ctmask: u32::MAX };
    rules.append(TableName::Mangle, Hook::Forward, Rule::new(Target::Connmark(saving)).when(Match::Mark(mark)));
    let masquerade = Rule::new(Target::Masquerade(NatRange::default())).when(Match::OutInterface("wan".into()));
    rules.append(TableName::Nat, Hook::Postrouting, masquerade);
    for chain in [Hook::Input, Hook::Forward] {
        rules.append(TableName::Filter, chain, Rule::new(Target::Drop).when(states(StateSet::INVALID)));
    }
    rules.append(
        TableName::Filter,
        Hook::Forward,
        Rule::new(Target::Log { prefix: "helped ".into() })
            .when(Match::Helper("ftp".into()))
            .when(states(StateSet::RELATED)),
    );
    rules.append(TableName::Filter, Hook::Forward, Rule::new(Target::Jump("later".into())).when(everybody));
    let types =
        Match::AddressType { source: AddressTypes::default(), destination: AddressTypes::BROADCAST, limit: None };
    rules.append_to(TableName::Filter, "later", Rule::new(Target::Drop).when(types));
    rules.append_to(TableName::Filter, "later", Rule::new(Target::Return).unless(Match::Helper("ftp".into())));
    rules
}

/// A persistent FTP service on a port of its own, with room for fewer entries than will be wanted.
fn services() -> ipvs::IpvsConfig {
    let address = ServiceAddress::tcp(addr("203.0.113.1:2121"));
    let service = ServiceConfig::new(address, Scheduler::WeightedRoundRobin).persistent(Duration::from_secs(300));
    let server = |last, weight| {
        ServerConfig::new(IpAddr::from([10, 77, 1, last]), 2121, Forwarding::Masquerade).weighing(weight)
    };
    let mut config = ipvs::IpvsConfig::default();
    config.services.push(service.with_server(server(12, 1)).with_server(server(11, 2)));
    config.ftp_ports.push(2121);
    config.settings.entries = ENTRIES;
    config
}

/// A router with both families masqueraded, and what was seen of it.
struct World {
    router: Router,
    outbox: Outbox,
    now: Instant,
    seen: Seen,
}

/// Counts of the events without which the test would prove nothing.
#[derive(Debug, Default)]
struct Seen {
    forwarded: u32,
    new: u32,
    announced: u32,
    rewritten: u32,
    fulfilled: u32,
    unfulfilled: u32,
    timeouts: u32,
    evicted: u32,
    logged: u32,
    dropped: u32,
}

impl World {
    fn new(behaviour: Behaviour) -> Self {
        let mut config = RouterConfig::default();
        config.helper = config.helper.behaving(behaviour);
        config.interfaces = vec![
            Interface::new("lan").with_address(ip("10.77.1.1"), 8).with_address(ip("fd77::1"), 64),
            Interface::new("wan").with_address(ip("203.0.113.1"), 24).with_address(ip("2001:db8::1"), 64),
        ];
        let net = |address: &str, prefix| Cidr::new(ip(address), prefix).unwrap();
        config.routes = vec![
            Route::on_link(net("10.0.0.0", 8), LAN),
            Route::on_link(net("fd77::", 64), LAN),
            Route::through(net("0.0.0.0", 0), WAN, ip("203.0.113.254")),
            Route::through(net("::", 0), WAN, ip("2001:db8::fe")),
        ];
        config.rules4 = rules(ip("203.0.113.1"));
        config.rules6 = rules(ip("2001:db8::1"));
        config.conntrack.limits.connections = CONNECTIONS;
        config.conntrack.limits.expectations = 8;
        config.conntrack.limits.helped = 8;
        config.conntrack.limits.events = 64;
        config.checksum = true;
        config.ipvs = Some(services());
        let router = Router::new(config, [1, 2, 3, 4]).unwrap();
        Self { router, outbox: Outbox::new(64, 1 << 16), now: Instant::from_secs(1_700_000_000), seen: Seen::default() }
    }

    /// Hands a packet to the router as it arrives and counts what comes of it; it is then as it leaves.
    fn arrive(&mut self, interface: usize, frame: &mut Frame) -> Verdict {
        self.step(|router, now, outbox| frame.change(|packet| router.process(now, interface, packet, outbox)))
    }

    /// The router sends a packet itself.
    fn send_own(&mut self, frame: &mut Frame) -> Verdict {
        self.step(|router, now, outbox| frame.change(|packet| router.output(now, packet, outbox)))
    }

    fn step(&mut self, call: impl FnOnce(&mut Router, Instant, &mut Outbox) -> Verdict) -> Verdict {
        self.pass(Duration::from_millis(1));
        let verdict = call(&mut self.router, self.now, &mut self.outbox);
        self.seen.forwarded += u32::from(matches!(verdict, Verdict::Forward { .. }));
        self.outbox.clear();
        self.take_events();
        verdict
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.router.poll_at().is_some_and(|at| at <= self.now) {
            self.router.handle_timeout(self.now, &mut self.outbox);
            self.take_events();
        }
    }

    fn take_events(&mut self) {
        let seen = &mut self.seen;
        while let Some((_, event)) = self.router.poll_event() {
            match event {
                Event::New { .. } => seen.new += 1,
                Event::Announced { outcome: AnnouncementOutcome::Expected { before, after, .. }, .. } => {
                    seen.announced += 1;
                    seen.rewritten += u32::from(after.is_some_and(|after| after != before));
                }
                Event::Fulfilled { .. } => seen.fulfilled += 1,
                Event::Unfulfilled { .. } => seen.unfulfilled += 1,
                Event::Destroyed { reason: DestroyReason::Timeout, .. } => seen.timeouts += 1,
                Event::Destroyed { reason: DestroyReason::Evicted, .. } => seen.evicted += 1,
                Event::Log { .. } => seen.logged += 1,
                Event::Dropped { .. } => seen.dropped += 1,
                _ => {}
            }
        }
    }

    /// Two whole FTP sessions, whose PORT and EPRT grow.
    fn dialogues(&mut self) {
        self.dialogue(
            ("10.77.1.2:40000", "198.51.100.9:21"),
            (b"PORT 10,77,1,2,19,136\r\n", b"PORT 203,0,113,1,19,136\r\n"),
        );
        self.dialogue(
            ("[fd77::2]:40000", "[2001:db8:9::9]:21"),
            (b"EPRT |2|fd77::2|5000|\r\n", b"EPRT |2|2001:0db8:0000:0000:0000:0000:0000:0001|5000|\r\n"),
        );
    }

    fn dialogue(&mut self, (client, server): (&str, &str), (said, heard): (&[u8], &[u8])) {
        let mut control = Stream::new(addr(client), addr(server), LAN);
        control.open(self);
        control.server_says(self, b"220 ready\r\n");
        control.client_says(self, b"USER ftp\r\n");
        control.server_says(self, b"331 password\r\n");
        control.client_says(self, b"PASS ftp\r\n");
        control.server_says(self, b"230 welcome\r\n");

        // The announcement grows, is lost, comes again, and is answered.
        control.says(self, 0, said, heard);
        control.says_again(self, 0, said, heard);
        control.server_says(self, b"200 PORT command successful\r\n");
        control.client_says(self, b"RETR file\r\n");
        control.client_acknowledges_with_sack(self);
        let announced = SocketAddr::new(control.ends[1].remote.ip(), 5000);
        let mut active = Stream::new(SocketAddr::new(addr(server).ip(), 20), announced, WAN);
        active.open(self);
        assert_eq!(active.ends[1].local, SocketAddr::new(addr(client).ip(), 5000), "the data connection's other end");
        active.client_says(self, b"contents");
        active.close(self);
        control.server_says(self, b"226 done\r\n");

        control.client_says(self, b"EPSV\r\n");
        control.server_says(self, b"229 Entering Extended Passive Mode (|||50000|)\r\n");
        let mut passive = Stream::new(SocketAddr::new(addr(client).ip(), 40001), with_port(server, 50000), LAN);
        passive.open(self);
        passive.server_says(self, b"contents");
        passive.close(self);

        // Announced, and nobody comes; then announced anew.
        control.says(self, 0, said, heard);
        control.server_says(self, b"425 cannot\r\n");
        self.pass(Duration::from_secs(301));
        control.says(self, 0, said, heard);
        control.close(self);
        self.pass(Duration::from_secs(121));
    }

    /// Connections by the thousand, most of them never answered; the table is too small for all.
    fn crowd(&mut self) {
        for number in 0..10_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let inside = IpAddr::from([10, a, b, c.max(1)]);
            let outside = IpAddr::from([198, 51, 100, b.max(1)]);
            // Few ports for many clients: translation has to find others.
            let port = 1024 + (number % 3) as u16;
            let (from, to) = (SocketAddr::new(inside, port), SocketAddr::new(outside, 80));
            match number % 5 {
                0 => self.forwarded_or_full(Frame::udp(from, to, b"query")),
                1 => self.forwarded_or_full(Frame::icmp(inside, outside, 8, [c, b, 0, 1], b"ping")),
                2 => self.forwarded_or_full(Frame::tcp((from, to), SYN, number, 0, &SYN_OPTIONS, b"")),
                3 => self.own(Frame::udp(SocketAddr::new(ip("203.0.113.1"), port), to, b"query")),
                _ => self.answered(from, SocketAddr::new(outside, 443), number),
            }
            // Packets of no connection, and bytes that are no packet.
            if number % 100 == 0 {
                let stray = (SocketAddr::new(outside, 443), SocketAddr::new(ip("203.0.113.1"), 9));
                let mut frame = Frame::tcp(stray, SYN | TcpFlags::FIN, 1, 0, &[], b"");
                assert!(matches!(self.arrive(WAN, &mut frame), Verdict::Drop(DropReason::Rule)));
                let mut frame = Frame::cut(&frame, 30);
                assert_eq!(self.arrive(WAN, &mut frame), Verdict::Drop(DropReason::Malformed));
            }
            if number % 1000 == 999 {
                self.pass(Duration::from_secs(20));
            }
        }
    }

    fn forwarded_or_full(&mut self, mut frame: Frame) {
        let verdict = self.arrive(LAN, &mut frame);
        assert!(matches!(verdict, Verdict::Forward { interface: WAN, .. } | Verdict::Drop(DropReason::TableFull)));
        // A router on the way has something to say about it.
        if let (Verdict::Forward { .. }, Ok(headers)) = (verdict, Headers::find(frame.bytes())) {
            let own = headers.source(frame.bytes());
            let quoted = &frame.bytes()[..headers.transport + 8];
            let mut error = Frame::icmp(ip("192.0.2.33"), own, 3, [0; 4], quoted);
            let verdict = self.arrive(WAN, &mut error);
            assert!(matches!(verdict, Verdict::Forward { interface: LAN, .. }), "{verdict:?}");
        }
    }

    fn own(&mut self, mut frame: Frame) {
        let verdict = self.send_own(&mut frame);
        assert!(matches!(verdict, Verdict::Forward { .. } | Verdict::Drop(DropReason::TableFull)), "{verdict:?}");
    }

    /// A connection that is opened, used, and left alone.
    fn answered(&mut self, from: SocketAddr, to: SocketAddr, number: u32) {
        let mut syn = Frame::tcp((from, to), SYN, number, 0, &SYN_OPTIONS, b"");
        if self.arrive(LAN, &mut syn) == Verdict::Drop(DropReason::TableFull) {
            return;
        }
        let seen = ends_of(syn.bytes()).0;
        let mut answer = Frame::tcp((to, seen), SYN_ACK, 5, number + 1, &SYN_OPTIONS, b"");
        let verdict = self.arrive(WAN, &mut answer);
        assert!(matches!(verdict, Verdict::Forward { interface: LAN, .. }), "{verdict:?}");
        assert_eq!(ends_of(answer.bytes()), (to, from));
        let mut ack = Frame::tcp((from, to), ACK, number + 1, 6, &[], b"");
        assert!(matches!(self.arrive(LAN, &mut ack), Verdict::Forward { interface: WAN, .. }));
    }

    /// A session through the load balancer, and then more clients than it can remember.
    fn balanced(&mut self) {
        let mut control = Stream::new(addr("198.51.100.50:40000"), addr("203.0.113.1:2121"), WAN);
        control.open(self);
        assert_eq!(control.ends[1].local, addr("10.77.1.11:2121"));
        control.server_says(self, b"220 ready\r\n");
        control.client_says(self, b"PASV\r\n");
        control.says(self, 1, b"227 Ok (10,77,1,11,78,52).\r\n", b"227 Ok (203,0,113,1,78,52).\r\n");
        let mut data = Stream::new(addr("198.51.100.50:40001"), addr("203.0.113.1:20020"), WAN);
        data.open(self);
        assert_eq!(data.ends[1].local, addr("10.77.1.11:20020"));
        data.server_says(self, b"contents");
        data.close(self);
        control.client_says(self, b"PORT 198,51,100,50,156,70\r\n");
        control.close(self);
        let mut refused = 0;
        for number in 0..ENTRIES {
            let [_, _, a, b] = number.to_be_bytes();
            let from = SocketAddr::new([198, 51, a, b].into(), 1024);
            let mut syn = Frame::tcp((from, addr("203.0.113.1:2121")), SYN, number, 0, &SYN_OPTIONS, b"");
            match self.arrive(WAN, &mut syn) {
                Verdict::Forward { interface: LAN, .. } => {}
                Verdict::Drop(DropReason::EntriesFull) => refused += 1,
                verdict => panic!("{verdict:?}"),
            }
        }
        assert!(refused >= ENTRIES / 2, "each client wants two: {refused} were refused");
    }

    /// Time passes until nothing is left.
    fn quiet(&mut self) {
        while let Some(at) = self.router.poll_at() {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now, &mut self.outbox);
            self.take_events();
        }
        assert!(self.router.conntrack().is_empty());
        assert!(self.router.ipvs().is_some_and(Ipvs::is_empty));
    }

    /// The test tells nothing if these paths were not taken.
    fn assert_all_was_seen(&self) {
        let Seen {
            forwarded,
            new,
            announced,
            rewritten,
            fulfilled,
            unfulfilled,
            timeouts,
            evicted,
            logged,
            dropped,
            ..
        } = self.seen;
        assert_eq!((announced, rewritten, fulfilled, logged), (10, 8, 4, 4));
        assert!(unfulfilled >= 4, "{unfulfilled} expectations were left");
        assert!(forwarded > 10_000 && new > 2 * CONNECTIONS && dropped >= 200);
        assert!(timeouts > CONNECTIONS / 2 && evicted > 100);
    }
}

/// One end of a TCP connection.
#[derive(Clone, Copy)]
struct End {
    interface: usize,
    local: SocketAddr,
    /// The other end, as this one sees it.
    remote: SocketAddr,
    /// The number of the next byte it sends.
    next: u32,
    /// The number of the next byte it waits for.
    awaited: u32,
}

/// A TCP connection through the router: the client and the server, each of whom believes what it reads.
struct Stream {
    ends: [End; 2],
}

impl Stream {
    /// The client calls from an interface; whom it reaches is seen when its SYN leaves.
    fn new(client: SocketAddr, server: SocketAddr, interface: usize) -> Self {
        let end = |interface, local, remote, next| End { interface, local, remote, next, awaited: 0 };
        let other = if interface == LAN { WAN } else { LAN };
        // Numbers wrap on the way.
        Self { ends: [end(interface, client, server, u32::MAX - 60), end(other, server, client, 7_000)] }
    }

    /// The handshake.
    fn open(&mut self, world: &mut World) {
        let [client, server] = self.ends;
        let mut syn = Frame::tcp((client.local, client.remote), SYN, client.next, 0, &SYN_OPTIONS, b"");
        let verdict = world.arrive(client.interface, &mut syn);
        assert!(matches!(verdict, Verdict::Forward { interface, .. } if interface == server.interface), "{verdict:?}");
        let (seen, reached) = ends_of(syn.bytes());
        self.ends[1] = End { local: reached, remote: seen, awaited: client.next.wrapping_add(1), ..server };
        self.ends[0].next = client.next.wrapping_add(1);

        let server = self.ends[1];
        let mut answer =
            Frame::tcp((server.local, server.remote), SYN_ACK, server.next, server.awaited, &SYN_OPTIONS, b"");
        world.arrive(server.interface, &mut answer);
        assert_eq!(ends_of(answer.bytes()), (client.remote, client.local));
        self.ends[1].next = server.next.wrapping_add(1);
        self.ends[0].awaited = server.next.wrapping_add(1);
        self.acknowledges(world, 0, &[]);
    }

    fn client_says(&mut self, world: &mut World, text: &[u8]) {
        self.says(world, 0, text, text);
    }

    fn server_says(&mut self, world: &mut World, text: &[u8]) {
        self.says(world, 1, text, text);
    }

    /// One end sends a line, the other reads what it is to read and acknowledges it.
    fn says(&mut self, world: &mut World, who: usize, said: &[u8], heard: &[u8]) {
        self.sends(world, who, DATA, said, heard);
        self.acknowledges(world, 1 - who, &[]);
    }

    /// The line that was sent last comes again, and has to look as before.
    fn says_again(&mut self, world: &mut World, who: usize, said: &[u8], heard: &[u8]) {
        self.ends[who].next = self.ends[who].next.wrapping_sub(said.len() as u32);
        self.ends[1 - who].awaited = self.ends[1 - who].awaited.wrapping_sub(heard.len() as u32);
        self.says(world, who, said, heard);
    }

    /// A segment that comes before what stands in front of it; nothing of it leaves.
    fn sends_early(&mut self, world: &mut World, who: usize, gap: u32, said: &[u8]) {
        let (from, to) = (self.ends[who], self.ends[1 - who]);
        let number = from.next.wrapping_add(gap);
        let mut frame = Frame::tcp((from.local, from.remote), DATA, number, from.awaited, &[], said);
        world.arrive(from.interface, &mut frame);
        let headers = Headers::find(frame.bytes()).unwrap();
        let Layer4::Tcp(segment) = headers.layer4 else { panic!("no TCP") };
        assert_eq!((headers.payload(frame.bytes()), segment.sequence.0), (&b""[..], to.awaited));
    }

    fn sends(&mut self, world: &mut World, who: usize, flags: u8, said: &[u8], heard: &[u8]) {
        let (from, to) = (self.ends[who], self.ends[1 - who]);
        let mut frame = Frame::tcp((from.local, from.remote), flags, from.next, from.awaited, &[], said);
        let verdict = world.arrive(from.interface, &mut frame);
        assert!(matches!(verdict, Verdict::Forward { interface, .. } if interface == to.interface), "{verdict:?}");
        let bytes = frame.bytes();
        let headers = Headers::find(bytes).unwrap();
        let Layer4::Tcp(segment) = headers.layer4 else { panic!("no TCP") };
        assert!(headers.header_checksum_ok(bytes) && headers.transport_checksum_ok(bytes), "{bytes:02x?}");
        assert_eq!(headers.payload(bytes), heard);
        assert_eq!(segment.sequence.0, to.awaited, "sequence number of {:?}", heard.escape_ascii());
        assert_eq!(segment.acknowledgement.0, to.next, "acknowledgement with {:?}", heard.escape_ascii());
        let fin = u32::from(flags & TcpFlags::FIN);
        self.ends[who].next = from.next.wrapping_add(said.len() as u32 + fin);
        self.ends[1 - who].awaited = to.awaited.wrapping_add(heard.len() as u32 + fin);
    }

    fn acknowledges(&mut self, world: &mut World, who: usize, options: &[u8]) {
        let (from, to) = (self.ends[who], self.ends[1 - who]);
        let mut frame = Frame::tcp((from.local, from.remote), ACK, from.next, from.awaited, options, b"");
        let verdict = world.arrive(from.interface, &mut frame);
        assert!(matches!(verdict, Verdict::Forward { interface, .. } if interface == to.interface), "{verdict:?}");
        let bytes = frame.bytes();
        let headers = Headers::find(bytes).unwrap();
        let Layer4::Tcp(segment) = headers.layer4 else { panic!("no TCP") };
        assert!(headers.transport_checksum_ok(bytes));
        assert_eq!((segment.sequence.0, segment.acknowledgement.0), (to.awaited, to.next));
    }

    /// The server has the client's latest bytes twice, and says so (D-SACK): the edges are shifted too.
    fn client_acknowledges_with_sack(&mut self, world: &mut World) {
        let [_, server] = self.ends;
        let mut options = [1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        options[4..8].copy_from_slice(&server.awaited.wrapping_sub(5).to_be_bytes());
        options[8..].copy_from_slice(&server.awaited.to_be_bytes());
        self.acknowledges(world, 1, &options);
    }

    /// Both ends say that they are done.
    fn close(&mut self, world: &mut World) {
        let fin = TcpFlags::FIN | TcpFlags::ACK;
        self.sends(world, 0, fin, b"", b"");
        self.sends(world, 1, fin, b"", b"");
        self.acknowledges(world, 0, &[]);
    }
}

/// Source and destination of a packet.
fn ends_of(bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let headers = Headers::find(bytes).unwrap();
    let (from, to) = headers.ports(bytes).unwrap();
    (SocketAddr::new(headers.source(bytes), from), SocketAddr::new(headers.destination(bytes), to))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn with_port(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(addr(text).ip(), port)
}
