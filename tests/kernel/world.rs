//! Endpoints on both sides of the router, which believe only the packets that reach them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::judge::{Judge, Trial};
use crate::kernel::OnWire;
use crate::rng::Rng;
use crate::wire::{self, ACK, FIN, Ip, Read, SYN, Tcp};

/// Maximum segment size 1460.
pub(crate) const MSS: &[u8] = &[2, 4, 5, 0xb4];

/// One end of a TCP connection.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    pub(crate) interface: usize,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) snd: u32,
    pub(crate) rcv: u32,
    pub(crate) options: Vec<u8>,
    pub(crate) ip: Ip,
    pub(crate) last: Option<Vec<u8>>,
    inbox: Vec<u8>,
    accepted: bool,
}

/// Which half: its place in the world.
pub(crate) type Id = usize;

/// Both sides, and what stands between.
pub(crate) struct World<'j> {
    judge: &'j mut Judge,
    pub(crate) trial: Trial,
    pub(crate) rng: Rng,
    pub(crate) halves: Vec<Half>,
    listeners: Vec<(usize, SocketAddr)>,
    identification: u16,
    /// Every packet that left, latest last.
    pub(crate) left: Vec<OnWire>,
}

impl<'j> World<'j> {
    pub(crate) fn new(judge: &'j mut Judge, trial: Trial, mut rng: Rng) -> Self {
        let identification = rng.range(1, 30_000) as u16;
        Self { judge, trial, rng, halves: Vec::new(), listeners: Vec::new(), identification, left: Vec::new() }
    }

    pub(crate) fn ip(&mut self) -> Ip {
        self.identification = self.identification.wrapping_add(1);
        Ip { identification: self.identification, ..Ip::default() }
    }

    /// An initial sequence number; one in eight so close to 2^32 that the connection wraps.
    pub(crate) fn isn(&mut self) -> u32 {
        if self.rng.below(8) == 0 { 0_u32.wrapping_sub(self.rng.range(1, 120)) } else { self.rng.u32() }
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.judge.wait(&mut self.trial, Duration::from_millis(millis));
    }

    /// A packet goes to the router, and what leaves goes to those it is for.
    pub(crate) fn carry(&mut self, interface: usize, packet: &[u8]) -> Vec<OnWire> {
        let out = self.judge.ask(&mut self.trial, interface, packet);
        for packet in &out {
            if let Some(read) = wire::read(&packet.bytes) {
                self.deliver(packet.interface, &read);
            }
        }
        self.left.extend(out.iter().cloned());
        out
    }

    fn deliver(&mut self, interface: usize, read: &Read) {
        let Some(tcp) = &read.tcp else { return };
        let (local, remote) = (read.destination(), read.source());
        let is_it = |half: &Half| (half.interface, half.local, half.remote) == (interface, local, remote);
        if !self.halves.iter().any(is_it) && tcp.flags == SYN && self.listeners.contains(&(interface, local)) {
            let isn = self.isn();
            let id = self.half(interface, local, remote, isn);
            self.halves[id].accepted = true;
        }
        if let Some(half) = self.halves.iter_mut().rev().find(|half| is_it(half)) {
            half.hear(tcp);
        }
    }

    pub(crate) fn half(&mut self, interface: usize, local: SocketAddr, remote: SocketAddr, isn: u32) -> Id {
        self.halves.push(Half {
            interface,
            local,
            remote,
            snd: isn,
            rcv: 0,
            options: Vec::new(),
            ip: Ip::default(),
            last: None,
            inbox: Vec::new(),
            accepted: false,
        });
        self.halves.len() - 1
    }

    pub(crate) fn listen(&mut self, interface: usize, at: SocketAddr) {
        self.listeners.push((interface, at));
    }

    /// The half that came to be because a SYN reached a listener.
    pub(crate) fn accepted(&mut self, interface: usize, at: SocketAddr) -> Option<Id> {
        let id = self.halves.iter().position(|h| h.accepted && (h.interface, h.local) == (interface, at))?;
        self.halves[id].accepted = false;
        Some(id)
    }

    /// The next segment of a half, not sent yet.
    pub(crate) fn segment(&self, id: Id, flags: u8, data: &[u8]) -> Tcp {
        let half = &self.halves[id];
        let mut tcp = Tcp::new(flags, half.snd, if flags & ACK == 0 { 0 } else { half.rcv });
        tcp.options.clone_from(&half.options);
        tcp.data = data.to_vec();
        tcp
    }

    /// The packet of a segment of a half.
    pub(crate) fn packet(&mut self, id: Id, tcp: &Tcp) -> Vec<u8> {
        let identification = self.ip().identification;
        let half = &self.halves[id];
        tcp.packet(&Ip { identification, ..half.ip.clone() }, half.local, half.remote)
    }

    /// Sends a segment that a half did not mean to send next.
    pub(crate) fn inject(&mut self, id: Id, tcp: &Tcp) -> Vec<OnWire> {
        let packet = self.packet(id, tcp);
        self.carry(self.halves[id].interface, &packet)
    }

    pub(crate) fn send_segment(&mut self, id: Id, tcp: &Tcp) -> Vec<OnWire> {
        let packet = self.packet(id, tcp);
        let half = &mut self.halves[id];
        half.last = Some(packet.clone());
        let length = tcp.data.len() as u32 + u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
        half.snd = half.snd.wrapping_add(length);
        let interface = half.interface;
        self.carry(interface, &packet)
    }

    pub(crate) fn send(&mut self, id: Id, flags: u8) -> Vec<OnWire> {
        let tcp = self.segment(id, flags, &[]);
        self.send_segment(id, &tcp)
    }

    pub(crate) fn send_with(&mut self, id: Id, flags: u8, options: &[u8]) -> Vec<OnWire> {
        let mut tcp = self.segment(id, flags, &[]);
        tcp.options = options.to_vec();
        self.send_segment(id, &tcp)
    }

    pub(crate) fn say(&mut self, id: Id, data: impl AsRef<[u8]>) -> Vec<OnWire> {
        let tcp = self.segment(id, wire::PSH | ACK, data.as_ref());
        self.send_segment(id, &tcp)
    }

    /// Sends the last packet again, byte for byte.
    pub(crate) fn again(&mut self, id: Id) {
        let half = &self.halves[id];
        if let Some(packet) = half.last.clone() {
            self.carry(half.interface, &packet);
        }
    }

    /// Everything heard since the last call.
    pub(crate) fn heard(&mut self, id: Id) -> String {
        let inbox = std::mem::take(&mut self.halves[id].inbox);
        inbox.iter().map(|byte| char::from(*byte)).collect()
    }

    /// Opens a connection to `remote`, where something listens at `server`.
    pub(crate) fn connect(
        &mut self,
        from: (usize, SocketAddr),
        remote: SocketAddr,
        server: (usize, SocketAddr),
        options: &[u8],
    ) -> (Id, Option<Id>) {
        self.listen(server.0, server.1);
        let isn = self.isn();
        let client = self.half(from.0, from.1, remote, isn);
        self.send_with(client, SYN, options);
        let Some(accepted) = self.accepted(server.0, server.1) else { return (client, None) };
        self.send_with(accepted, SYN | ACK, options);
        self.send(client, ACK);
        (client, Some(accepted))
    }

    /// Both close, `first` first.
    pub(crate) fn finish(&mut self, first: Id, then: Id) {
        self.send(first, FIN | ACK);
        self.send(then, FIN | ACK);
        self.send(first, ACK);
    }
}

impl Half {
    fn hear(&mut self, tcp: &Tcp) {
        let control = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
        let length = tcp.data.len() as u32 + control;
        if tcp.flags & SYN != 0 {
            self.rcv = tcp.seq.wrapping_add(length);
        } else if tcp.seq == self.rcv {
            self.rcv = self.rcv.wrapping_add(length);
            self.inbox.extend(&tcp.data);
        }
    }
}

pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
