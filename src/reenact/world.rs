//! Hosts and the router between them, on a clock that jumps to the next thing that happens.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::boxed::Box;
use std::collections::{HashMap, HashSet, VecDeque};
use std::vec;
use std::vec::Vec;

use super::client::Client;
use super::host::Host;
use super::script::{Outcome, Script};
use super::segments::{Head, segment};
use super::server::Server;
use super::setup::{Setup, is_private};
use crate::Instant;
use crate::packet::{Packet, write_reset};
use crate::router::{Egress, Outbox, Router, RouterError, Verdict};

/// Time that a packet takes from the router to a host.
const DELAY: Duration = Duration::from_millis(1);
/// Virtual time after which sessions are given up.
const LONGEST: Duration = Duration::from_secs(48 * 3600);
/// Maximum number of packets, and of moments at which something happens, for each session.
const STEPS: u64 = 20_000;
/// Ports that each session has for data connections.
const DATA_PORTS: u16 = 64;
/// Longest packet in bytes that a host sends or gets.
const HOST_MTU: usize = 1500;
/// Keys of the router's tables. Each re-enactment has the same.
const SEEDS: [u64; 4] = [0x7265, 0x656e, 0x6163, 0x7421];

/// The place of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// On the link of an interface, or beyond it.
    Beyond(usize),
    /// It is the router itself.
    Router,
}

/// Everything of one re-enactment.
pub(super) struct World {
    now: Instant,
    router: Option<Router>,
    outbox: Outbox,
    hosts: Vec<(Place, Host)>,
    clients: Vec<(usize, Client)>,
    servers: Vec<(usize, Server)>,
    scripts: Vec<Script>,
    /// The control connections that arrived at a server: their ends as it sees them.
    arrived: HashSet<(SocketAddr, SocketAddr)>,
    /// Each script by its control connection's ends.
    dialled: HashMap<(SocketAddr, SocketAddr), usize>,
    underway: VecDeque<(Instant, usize, Box<[u8]>)>,
    path_mtu: usize,
    sent: u64,
}

impl World {
    pub(super) fn new(setup: &Setup, scripts: &[Script]) -> Result<Self, RouterError> {
        let now = Instant::from_secs(1000);
        let router = setup.router.clone().map(|config| Router::new(config, SEEDS)).transpose()?;
        let mut this = Self {
            now,
            router,
            outbox: Outbox::new(64, 1 << 17),
            hosts: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            scripts: Vec::new(),
            arrived: HashSet::new(),
            dialled: HashMap::new(),
            underway: VecDeque::new(),
            path_mtu: setup.path_mtu.unwrap_or(usize::MAX),
            sent: 0,
        };
        for script in scripts {
            this.add(script.clone());
        }
        for address in setup.other_hosts() {
            let place = this.place_of(address);
            this.host(place, address);
        }
        Ok(this)
    }

    fn add(&mut self, mut script: Script) {
        let mut ends = (script.client, script.server);
        while self.dialled.contains_key(&ends) {
            ends.0.set_port(ends.0.port().wrapping_sub(1).max(1024));
        }
        script.client = ends.0;
        let number = self.scripts.len();
        let place = self.place_of(script.client.ip());
        let host = self.host(place, script.client.ip());
        self.dialled.insert(ends, number);
        let ports = u16::try_from(number).unwrap_or(0).wrapping_mul(DATA_PORTS);
        self.clients.push((host, Client::new(script.clone(), self.now, ports)));
        self.scripts.push(script);
    }

    fn place_of(&self, address: IpAddr) -> Place {
        let Some(router) = &self.router else { return Place::Beyond(0) };
        if router.is_local(address) {
            return Place::Router;
        }
        router.interface_towards(address).map_or(Place::Beyond(usize::MAX), Place::Beyond)
    }

    fn find(&self, place: Place, address: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|(known, host)| *known == place && host.address == address)
    }

    fn host(&mut self, place: Place, address: IpAddr) -> usize {
        self.find(place, address).unwrap_or_else(|| {
            let seed = self.hosts.len() as u64 + 1;
            self.hosts.push((place, Host::new(address, HOST_MTU, seed, self.now)));
            self.hosts.len() - 1
        })
    }

    /// Runs all sessions to their ends.
    pub(super) fn run(mut self) -> Vec<Outcome> {
        let deadline = self.now + LONGEST;
        let most = STEPS.saturating_mul(self.clients.len() as u64);
        for _ in 0..most {
            self.work();
            if self.clients.iter().all(|(_, client)| client.is_over()) || self.sent > most {
                break;
            }
            let Some(next) = self.next_event().filter(|next| *next <= deadline) else { break };
            // Time goes on, whatever a timer says.
            self.now = next.max(self.now + Duration::from_micros(1));
            self.let_router_work();
            while self.underway.front().is_some_and(|(at, ..)| *at <= self.now) {
                if let Some((_, host, packet)) = self.underway.pop_front() {
                    self.hosts[host].1.receive(packet);
                }
            }
        }
        self.clients.into_iter().map(|(_, client)| client.into_outcome()).collect()
    }

    fn next_event(&mut self) -> Option<Instant> {
        let now = self.now;
        let hosts = self.hosts.iter_mut().filter_map(|(_, host)| host.poll_at(now));
        // All that was due until now is done.
        let clients = self.clients.iter().filter_map(|(_, client)| client.due()).filter(|due| *due > now);
        let servers = self.servers.iter().filter_map(|(_, server)| server.due()).filter(|due| *due > now);
        let packet = self.underway.front().map(|(at, ..)| *at);
        let router = self.router.as_ref().and_then(Router::poll_at);
        hosts.chain(clients).chain(servers).chain(packet).chain(router).min()
    }

    /// Lets everybody do what is to be done now.
    fn work(&mut self) {
        // Each round does something; a session has no more of it than turns and pieces of data.
        loop {
            for host in 0..self.hosts.len() {
                self.hosts[host].1.poll(self.now);
                for packet in self.hosts[host].1.take_sent() {
                    self.leave(host, &packet);
                }
            }
            let mut has_worked = false;
            for (host, client) in &mut self.clients {
                has_worked |= client.work(&mut self.hosts[*host].1, self.now);
            }
            for (host, server) in &mut self.servers {
                has_worked |= server.work(&mut self.hosts[*host].1, self.now);
            }
            if !has_worked {
                break;
            }
        }
        // Everything that programs wrote leaves.
        for host in 0..self.hosts.len() {
            self.hosts[host].1.poll(self.now);
            for packet in self.hosts[host].1.take_sent() {
                self.leave(host, &packet);
            }
        }
    }

    /// A host sends a packet.
    fn leave(&mut self, from: usize, packet: &[u8]) {
        let Some(head) = segment(packet) else { return };
        self.sent += 1;
        let place = self.hosts[from].0;
        let to = head.to.ip();
        if place != Place::Router
            && let Some(neighbour) = self.find(place, to)
        {
            self.accept(head, neighbour, head);
            return self.carry(neighbour, packet);
        }
        let Some(router) = &mut self.router else {
            self.arrive(head, place, packet);
            return;
        };
        if !self.arrived.iter().any(|(client, _)| client.ip() == to)
            && !self.scripts.iter().any(|script| {
                script.server.ip() == to || script.client.ip() == to && is_private(self.hosts[from].1.address)
            })
            && !router.is_local(to)
            && is_private(to)
            && !is_private(self.hosts[from].1.address)
        {
            // Private addresses lead nowhere from outside.
            return;
        }
        let mut buffer = vec![0; packet.len() + Packet::ROOM];
        if let Some(room) = buffer.get_mut(..packet.len()) {
            room.copy_from_slice(packet);
        }
        let Ok(mut moved) = Packet::new(&mut buffer, 0..packet.len()) else { return };
        let verdict = match place {
            Place::Beyond(interface) => router.process(self.now, interface, &mut moved, &mut self.outbox),
            Place::Router => router.output(self.now, &mut moved, &mut self.outbox),
        };
        let moved = moved.bytes().to_vec();
        self.empty_outbox();
        self.follow(head, verdict, &moved);
    }

    /// Sees a packet on after the router's verdict.
    fn follow(&mut self, sent: Head, verdict: Verdict, packet: &[u8]) {
        match verdict {
            Verdict::Forward { interface, .. } => self.arrive(sent, Place::Beyond(interface), packet),
            Verdict::Local => self.arrive(sent, Place::Router, packet),
            _ => {}
        }
    }

    /// A packet arrives where a host may be.
    fn arrive(&mut self, sent: Head, place: Place, packet: &[u8]) {
        if place != Place::Router && packet.len() > self.path_mtu {
            return;
        }
        let Some(head) = segment(packet) else {
            return self.error(place, packet);
        };
        if sent.opens() && self.dialled.contains_key(&(sent.from, sent.to)) {
            let host = self.host(place, head.to.ip());
            self.accept(sent, host, head);
        }
        match self.find(place, head.to.ip()) {
            Some(host) => self.carry(host, packet),
            None if place == Place::Router => self.refuse(packet),
            None => {}
        }
    }

    /// A control connection's first packet comes to a server: one listens for it.
    fn accept(&mut self, sent: Head, host: usize, head: Head) {
        let Some(number) = self.dialled.get(&(sent.from, sent.to)).copied().filter(|_| sent.opens()) else { return };
        if self.arrived.insert((head.from, head.to))
            && let Some(socket) = self.hosts[host].1.listen(head.to.port())
        {
            self.servers.push((host, Server::new(self.scripts[number].clone(), socket)));
        }
    }

    /// An ICMP error goes to the host that it names.
    fn error(&mut self, place: Place, packet: &[u8]) {
        let Ok(headers) = crate::packet::Headers::find(packet) else { return };
        if let Some(host) = self.find(place, headers.destination(packet)) {
            self.carry(host, packet);
        }
    }

    fn carry(&mut self, host: usize, packet: &[u8]) {
        self.underway.push_back((self.now + DELAY, host, packet.into()));
    }

    /// The router itself, on which nothing listens, resets.
    fn refuse(&mut self, packet: &[u8]) {
        let mut buffer = vec![0; 128 + Packet::ROOM];
        let Some(length) = write_reset(&mut buffer, packet) else { return };
        let Some(head) = buffer.get(..length).and_then(segment) else { return };
        let Ok(mut reset) = Packet::new(&mut buffer, 0..length) else { return };
        let Some(router) = &mut self.router else { return };
        let verdict = router.output(self.now, &mut reset, &mut self.outbox);
        let reset = reset.bytes().to_vec();
        if verdict != Verdict::Local {
            self.follow(head, verdict, &reset);
        }
        self.empty_outbox();
    }

    fn let_router_work(&mut self) {
        if let Some(router) = &mut self.router
            && router.poll_at().is_some_and(|at| at <= self.now)
        {
            router.handle_timeout(self.now, &mut self.outbox);
            self.empty_outbox();
        }
        if let Some(router) = &mut self.router {
            while router.poll_event().is_some() {}
        }
    }

    fn empty_outbox(&mut self) {
        let out: Vec<(Egress, Vec<u8>)> =
            self.outbox.iter().map(|outgoing| (outgoing.egress, outgoing.bytes.to_vec())).collect();
        self.outbox.clear();
        for (egress, packet) in out {
            let place = match egress {
                Egress::Forward { interface, .. } => Place::Beyond(interface),
                Egress::Local => Place::Router,
            };
            match segment(&packet) {
                Some(head) => self.arrive(head, place, &packet),
                None => self.error(place, &packet),
            }
        }
    }
}
