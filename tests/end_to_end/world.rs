//! Hosts, links and the router, on a clock that jumps to the next thing that happens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use ftp_conntrack::Instant;
use ftp_conntrack::config::{parse_ipvs_rules, parse_rules};
use ftp_conntrack::conntrack::Limits;
use ftp_conntrack::event::Event;
use ftp_conntrack::helper::HelperConfig;
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Family, Packet};
use ftp_conntrack::router::{Egress, Interface, Outbox, Route, Router, RouterConfig, Verdict};

use smoltcp::socket::tcp::State;

use crate::client::Client;
use crate::host::{Host, Kind};
use crate::link::{Cutter, Link};
use crate::options::Options;
use crate::oracle::Watch;
use crate::plan::{OpaqueTalk, Session};
use crate::rng::Rng;
use crate::server::Server;
use crate::trace::Trace;
use crate::wire::{self, FIN, RST, SYN, Segment};

/// The clients' link, and the number of the router's interface there.
pub(crate) const NEAR: usize = 0;
/// The server's.
pub(crate) const FAR: usize = 1;

/// A dialogue that takes longer is stuck.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Timeout of half open and half closed connections where packets may be lost.
const PATIENT: Duration = Duration::from_secs(300);
/// Time for which the last FIN is sent again, where packets may be lost, before its sender gives up.
const LINGERS: Duration = Duration::from_secs(300);
/// A dialogue that takes more packets is one that never ends.
const MOST: u64 = 30_000;
/// Longer than anything but an open connection is remembered: TIME_WAIT lasts 120 s, an expectation and what is not
/// acknowledged 300 s.
const FORGOTTEN: Duration = Duration::from_secs(1000);

/// Everything of one dialogue.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) options: Options,
    pub(crate) router: Router,
    outbox: Outbox,
    /// The clients', then the server's.
    hosts: Vec<Host>,
    /// Boxes that each host's packets go through.
    cutters: Vec<Cutter>,
    /// When each host wants to be asked again.
    due: Vec<Option<Instant>>,
    /// To the router and from it, of each link.
    links: [[Link; 2]; 2],
    pub(crate) clients: Vec<Client>,
    pub(crate) server: Server,
    underway: BinaryHeap<Reverse<Underway>>,
    sent: u64,
    pub(crate) watch: Watch,
    rng: Rng,
    pub(crate) trace: Trace,
    /// When a program last had something to do.
    pub(crate) progress: Instant,
}

/// A packet on a link, by when it arrives and when it was sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Underway {
    arrives: Instant,
    number: u64,
    link: usize,
    towards: Towards,
    packet: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Towards {
    Router = 0,
    Host = 1,
}

impl World {
    pub(crate) fn new(options: Options, rng: &mut Rng) -> Self {
        let now = Instant::from_secs(1000);
        let mut next = |_| Rng::of("end to end", rng.next());
        let streams: [Rng; 8] = std::array::from_fn(&mut next);
        let [mut seeds, mut plans, server_rng, a, b, c, d, mut cuts] = streams;
        let addresses: Vec<_> =
            (0..options.clients).map(|n| options.client(n)).chain([options.addresses.server]).collect();
        let link_of = |host: usize| if host < options.clients { NEAR } else { FAR };
        let mut hosts: Vec<Host> = (addresses.iter().enumerate())
            .map(|(number, address)| Host::new(*address, options.mtu[link_of(number)], seeds.next(), now))
            .collect();
        let cutters = (0..hosts.len())
            .map(|_| {
                Cutter::new(
                    options.cuts,
                    options.merges,
                    options.mtu[NEAR].min(options.mtu[FAR]),
                    Rng::of("end to end", cuts.next()),
                )
            })
            .collect();
        let sessions: Vec<Session> = (0..options.clients).map(|n| Session::draw(&options, n, &mut plans)).collect();
        let talk = OpaqueTalk::draw(&options, &mut plans);
        let files: HashMap<_, _> = (sessions.iter().flat_map(|session| &session.transfers))
            .filter(|transfer| !transfer.is_upload)
            .map(|transfer| (transfer.name.clone(), transfer.content.clone()))
            .collect();
        let (server_host, client_hosts) = hosts.split_last_mut().expect("the server is always there");
        let server = Server::new(files, talk.clone(), server_rng, server_host, &options);
        let clients = (sessions.into_iter().zip(client_hosts))
            .map(|(session, host)| Client::new(session, talk.clone(), host, &options))
            .collect();
        let link = |delay: usize, rng: Rng| Link::new(options.delay[delay], options.weather, rng);
        let links = [[link(NEAR, a), link(NEAR, b)], [link(FAR, c), link(FAR, d)]];
        let router = Router::new(config(&options), [seeds.next(), seeds.next(), seeds.next(), seeds.next()]);
        Self {
            now,
            router: router.expect("the rules call no chains"),
            outbox: Outbox::new(64, 1 << 17),
            due: vec![Some(now); hosts.len()],
            hosts,
            cutters,
            links,
            clients,
            server,
            underway: BinaryHeap::new(),
            sent: 0,
            watch: Watch::new(&options),
            rng: Rng::of("world", seeds.next()),
            trace: Trace::default(),
            progress: now,
            options,
        }
    }

    /// Runs the dialogue to its end; false if a host came to a halt before.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) fn run(&mut self) -> Result<bool, String> {
        let deadline = self.now + LONGEST;
        loop {
            for host in 0..self.hosts.len() {
                if self.due[host].is_some_and(|due| due <= self.now) {
                    self.work(host)?;
                }
            }
            if self.is_over() {
                return Ok(true);
            }
            let Some(next) = self.next_event() else {
                if self.programs_are_done() {
                    // smoltcp forgets to send a FIN again whose acknowledgement was lost in CLOSING.
                    return Ok(true);
                }
                if !self.options.is_fair() && self.hosts.iter().any(Host::has_something_to_send) {
                    // It also forgets, with windows of a byte, that it has something to send: whoever has would wait for
                    // some time at least.
                    return Ok(false);
                }
                return Err(format!("nothing will ever happen\n{}", self.describe()));
            };
            if self.only_lingers() && self.programs_are_done() && next > self.progress + LINGERS {
                return Ok(true);
            }
            if next > deadline {
                return Err(format!("stuck: not over after {} s\n{}", LONGEST.as_secs(), self.describe()));
            }
            if self.sent > if self.options.class.wild { 8 * MOST } else { MOST } {
                return Err(format!("a storm of {MOST} packets\n{}", self.describe()));
            }
            self.now = self.now.max(next);
            self.handle_due()?;
        }
    }

    /// Lets time pass until the router should remember nothing.
    ///
    /// # Errors
    /// What it remembers.
    pub(crate) fn forget(&mut self) -> Result<(), String> {
        let end = self.now + FORGOTTEN;
        let mut calls = 0;
        while let Some(at) = self.router.poll_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now, &mut self.outbox);
            self.empty_outbox()?;
            if self.router.conntrack().is_empty() && self.router.conntrack().expected() > 0 {
                return Err(format!("the router expects connections of nobody:\n{}", self.table()));
            }
            calls += 1;
            if calls > 100_000 {
                return Err("the router asks again and again to be called".into());
            }
        }
        self.now = end;
        let conntrack = self.router.conntrack();
        let balances = self.router.ipvs().is_some_and(|ipvs| !ipvs.is_empty());
        if conntrack.is_empty() && conntrack.expected() == 0 && !balances {
            return Ok(());
        }
        Err(format!("all is over, and the router remembers:\n{}", self.table()))
    }

    fn table(&self) -> String {
        let mut text = self.router.conntrack().to_proc_text(self.now);
        let _ = self.router.conntrack().write_proc_expect(self.now, &mut text);
        text
    }

    /// Describes the state of all hosts.
    fn describe(&self) -> String {
        let clients: String = self.clients.iter().map(|client| format!("  client: {}\n", client.describe())).collect();
        let sockets: String = self.hosts.iter().map(Host::describe_sockets).collect();
        format!("{clients}{sockets}{}", self.table())
    }

    fn is_over(&self) -> bool {
        self.underway.is_empty()
            && self.cutters.iter().all(|cutter| cutter.poll_at().is_none())
            && self.programs_are_done()
            && self.hosts.iter().all(Host::is_quiet)
    }

    fn programs_are_done(&self) -> bool {
        self.clients.iter().all(|client| client.done) && self.server.sessions.iter().all(|session| session.closed)
    }

    /// Returns true if all text and all files are delivered and acknowledged, and what is still open only waits for the
    /// end of the other side.
    ///
    /// Three things keep it from coming. Linux's tracker forgets a connection in TIME-WAIT for a SYN that was repeated and
    /// late, and the FIN that is sent again belongs to nothing: that happens to data connections, in which the helper has
    /// no part. The other side may have had the FIN long ago, and the router have forgotten both: then smoltcp sends it
    /// again for ever. And in CLOSING smoltcp forgets to send it again; the other side waits in FIN-WAIT-2, or in
    /// FIN-WAIT-1 where its numbers are after the FIN.
    fn only_lingers(&self) -> bool {
        let count =
            |kind: Kind, states: &[State]| -> usize { self.hosts.iter().map(|host| host.count(kind, states)).sum() };
        let (waits, ends) = ([State::FinWait1, State::FinWait2], [State::LastAck, State::Closing]);
        let is_over = |kind| count(kind, &[State::Closed, State::Listen]) + count(kind, &waits) + count(kind, &ends);
        let all_end = Kind::ALL.into_iter().all(|kind| is_over(kind) == count(kind, &[]));
        let control_ends = count(Kind::Control, &waits) <= count(Kind::Control, &[State::Closing]);
        !self.options.is_fair() && all_end && control_ends && !self.hosts.iter().any(Host::has_something_to_send)
    }

    fn next_event(&self) -> Option<Instant> {
        let arrives = self.underway.peek().map(|Reverse(underway)| underway.arrives);
        let cutters = self.cutters.iter().filter_map(Cutter::poll_at).min();
        let hosts = self.due.iter().flatten().min().copied();
        [arrives, cutters, hosts, self.router.poll_at()].into_iter().flatten().min()
    }

    /// A host's stack and its program work until both have nothing more to do.
    fn work(&mut self, number: usize) -> Result<(), String> {
        let mut rounds = 0;
        loop {
            let host = &mut self.hosts[number];
            let changed = host.poll(self.now);
            let busy = match self.clients.get_mut(number) {
                Some(client) => {
                    client.work(self.now, host, &self.options).map_err(|error| format!("client {number}: {error}"))?
                }
                None => self.server.work(host, &self.options)?,
            };
            let sent = host.take_sent();
            if busy {
                self.progress = self.now;
            }
            let quiet = !changed && !busy && sent.is_empty();
            self.send(number, sent);
            rounds += 1;
            if quiet || rounds > 10_000 {
                break;
            }
        }
        // A stack that has just worked and wants to work again at once is asked a little later.
        let soon = self.now + Duration::from_millis(1);
        let wakes = self.clients.get(number).and_then(|client| client.wakes).filter(|wakes| *wakes > self.now);
        let polled = self.hosts[number].poll_at(self.now).map(|at| if at <= self.now { soon } else { at });
        self.due[number] = [polled, wakes].into_iter().flatten().min();
        Ok(())
    }

    /// Sends a host's packets through its cutter and onto its link.
    fn send(&mut self, host: usize, packets: Vec<Vec<u8>>) {
        for packet in packets {
            for piece in self.cutters[host].pass(self.now, packet) {
                self.put(self.link_of(host), Towards::Router, piece);
            }
        }
    }

    const fn link_of(&self, host: usize) -> usize {
        if host + 1 < self.hosts.len() { NEAR } else { FAR }
    }

    /// Onto a link.
    fn put(&mut self, link: usize, towards: Towards, packet: Vec<u8>) {
        let marks = self.options.class.urgent && towards == Towards::Router;
        let packet = if marks { self.watch.urgent.mark(link, packet) } else { packet };
        let arrivals = self.links[link][towards as usize].arrivals(self.now);
        if arrivals.is_empty() {
            let place = [["lost by the clients", "lost to the clients"], ["lost by the server", "lost to the server"]];
            self.trace.packet(self.now, link, place[link][towards as usize], String::new(), &packet);
        }
        for arrives in arrivals {
            self.sent += 1;
            self.underway.push(Reverse(Underway { arrives, number: self.sent, link, towards, packet: packet.clone() }));
        }
    }

    /// Everything whose time has come.
    fn handle_due(&mut self) -> Result<(), String> {
        for host in 0..self.cutters.len() {
            for piece in self.cutters[host].release(self.now) {
                self.put(self.link_of(host), Towards::Router, piece);
            }
        }
        while let Some(Reverse(next)) = self.underway.peek().filter(|next| next.0.arrives <= self.now) {
            debug_assert!(next.arrives <= self.now);
            let Some(Reverse(Underway { link, towards, packet, .. })) = self.underway.pop() else { break };
            match towards {
                Towards::Router => {
                    let false_fin = self.false_fin(link, &packet);
                    self.watch.arrives(link, &packet);
                    self.route(link, packet)?;
                    if let Some(packet) = false_fin {
                        self.route(link, packet)?;
                    }
                }
                Towards::Host => self.deliver(packet)?,
            }
        }
        if self.router.poll_at().is_some_and(|at| at <= self.now) {
            self.router.handle_timeout(self.now, &mut self.outbox);
            self.empty_outbox()?;
        }
        Ok(())
    }

    fn deliver(&mut self, packet: Vec<u8>) -> Result<(), String> {
        let address = wire::destination(&packet);
        let host = self.hosts.iter().position(|host| Some(host.address) == address);
        match host {
            Some(host) => {
                self.hosts[host].receive(packet);
                self.work(host)
            }
            None => Ok(()),
        }
    }

    /// A FIN that no host sent, beside a segment of a control connection: an old one, or a blind one.
    fn false_fin(&mut self, link: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let segment =
            Segment::read(packet).filter(|segment| segment.is_control() && segment.flags & (SYN | RST | FIN) == 0)?;
        if !self.rng.percent(self.options.false_fins) {
            return None;
        }
        let first = self.trace.beginning(link, segment.from, segment.to)?;
        if segment.seq.wrapping_sub(first) < 8 {
            return None;
        }
        let number = match self.rng.below(3) {
            // That of the SYN: what follows it may not have come.
            0 => first,
            1 => segment.end().wrapping_add(self.rng.range(4097, 1 << 20)),
            _ => segment.seq.wrapping_add(1 << 31),
        };
        Some(segment.carrying(packet, number, segment.flags | FIN, &[]))
    }

    /// A packet arrives at the router.
    fn route(&mut self, link: usize, bytes: Vec<u8>) -> Result<(), String> {
        let length = bytes.len();
        let place = ["clients > router", "server  > router"][link];
        self.trace.packet(self.now, link, place, String::new(), &bytes);
        let mut buffer = bytes.clone();
        buffer.resize(length + if self.options.tight { 0 } else { Packet::ROOM }, 0);
        let mut packet = Packet::new(&mut buffer, 0..length).map_err(|error| format!("{error:?}"))?;
        let mut verdict = self.router.process(self.now, link, &mut packet, &mut self.outbox);
        if let Verdict::NeedsRoom(room) = verdict {
            if packet.bytes() != bytes {
                return Err("the router wants room and has changed the packet".into());
            }
            buffer = bytes.clone();
            buffer.resize(length + room, 0);
            packet = Packet::new(&mut buffer, 0..length).map_err(|error| format!("{error:?}"))?;
            verdict = self.router.process(self.now, link, &mut packet, &mut self.outbox);
        }
        let left = packet.bytes().to_vec();
        match verdict {
            Verdict::Forward { interface, .. } => self.leaves(interface, left)?,
            Verdict::Held => self.trace.note(self.now, "held".into()),
            verdict => {
                self.trace.note(self.now, format!("{verdict:?}"));
                self.watch.dropped(&self.options, link, &bytes, verdict)?;
            }
        }
        self.empty_outbox()
    }

    /// Sends the packets of the router's outbox.
    fn empty_outbox(&mut self) -> Result<(), String> {
        let sent: Vec<_> = self.outbox.iter().map(|sent| (sent.egress, sent.bytes.to_vec())).collect();
        if self.outbox.refused() > 0 {
            return Err("the outbox was too small".into());
        }
        self.outbox.clear();
        for (way, bytes) in sent {
            match way {
                Egress::Forward { interface, .. } => self.leaves(interface, bytes)?,
                way => return Err(format!("the router has a packet for {way:?}")),
            }
        }
        while let Some((at, event)) = self.router.poll_event() {
            if !matches!(event, Event::New { .. } | Event::Destroyed { .. } | Event::Dropped { .. }) {
                self.trace.note(at, format!("{event:?}"));
            }
        }
        Ok(())
    }

    /// A packet leaves the router.
    fn leaves(&mut self, link: usize, packet: Vec<u8>) -> Result<(), String> {
        let place = ["clients < router", "server  < router"][link];
        self.trace.packet(self.now, link, place, String::new(), &packet);
        self.watch.leaves(&self.options, link, &packet)?;
        self.put(link, Towards::Host, packet);
        Ok(())
    }
}

/// The router between the two links.
fn config(options: &Options) -> RouterConfig {
    let addresses = &options.addresses;
    let interface = |name: &str, address, mtu| {
        let mut interface = Interface::new(name).with_address(address, addresses.prefix);
        interface.mtu = mtu;
        interface
    };
    let network = |address| Cidr::new(address, addresses.prefix).expect("the prefix suits the family");
    let mut config = RouterConfig::default();
    config.interfaces =
        vec![interface("near", addresses.near, options.mtu[NEAR]), interface("far", addresses.far, options.mtu[FAR])];
    config.routes =
        vec![Route::on_link(network(addresses.client), NEAR), Route::on_link(network(addresses.server), FAR)];
    config.conntrack.limits = Limits::new(256, 64, 16);
    config.helper = HelperConfig::default().behaving(options.behaviour).loose(options.loose);
    config.helper.hold_buffers = options.hold_buffers;
    if let Some(pause) = options.pause {
        config.conntrack.tcp.established = 2 * pause;
    }
    config.checksum = true;
    config.fragments = 0;
    if !options.is_fair() {
        // A packet that is lost again and again is sent again after a minute. Linux forgets sooner what is not yet open
        // or half closed, and takes a FIN that is sent again for the other side's: then it forgets within 30 s, or 120
        // s once that is acknowledged.
        let tcp = &mut config.conntrack.tcp;
        let impatient = [
            &mut tcp.syn_sent,
            &mut tcp.syn_recv,
            &mut tcp.fin_wait,
            &mut tcp.close_wait,
            &mut tcp.last_ack,
            &mut tcp.time_wait,
        ];
        impatient.into_iter().for_each(|timeout| *timeout = PATIENT);
    }
    let family = if options.is_ipv6() { Family::V6 } else { Family::V4 };
    let (rules, warnings) = parse_rules("rules", &options.rules(), family).expect("the rules can be read");
    assert!(warnings.is_empty(), "{warnings:?}");
    match family {
        Family::V4 => config.rules4 = rules,
        _ => config.rules6 = rules,
    }
    config.ipvs = options.service().map(|service| {
        let (ipvs, warnings) = parse_ipvs_rules("ipvs.rules", &service).expect("the service can be read");
        assert!(warnings.is_empty(), "{warnings:?}");
        ipvs
    });
    config
}
