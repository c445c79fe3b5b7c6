//! Established connections, and what their packets look like.

use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{ConnectionId, Conntrack, ConntrackConfig, Template, Tracked};
use ftp_conntrack::event::DropReason;
use ftp_conntrack::nat::{Nat, NatRange};
use ftp_conntrack::packet::{Headers, Side};

use crate::packets::{ACK, DATA, Frame, SYN, SYN_ACK, SYN_OPTIONS};

/// Address of masqueraded connections.
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
/// The client's first number; the server's is 0.
const FIRST: u32 = 1000;

/// The ends of a connection: the client as it is, the client as the server sees it, the server.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) client: SocketAddr,
    pub(crate) seen: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl Flow {
    /// A connection of its own for each `number`, not translated.
    pub(crate) fn numbered(number: u32, server_port: u16) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        let client = SocketAddr::new([10, a, b, c].into(), 40_000 + (number % 1000) as u16);
        Self { client, seen: client, server: SocketAddr::new([198, 51, 100, 9].into(), server_port) }
    }

    /// The same over IPv6.
    pub(crate) fn over_ipv6(number: u32, server_port: u16) -> Self {
        let [high, low] = [number >> 16, number & 0xffff].map(|half| half as u16);
        let client = SocketAddr::new([0xfd77, 0, 0, 0, 0, 0, high, low].into(), 40_000);
        let server = SocketAddr::new([0x2001, 0xdb8, 9, 0, 0, 0, 0, 9].into(), server_port);
        Self { client, seen: client, server }
    }

    /// The same, whose client the server sees elsewhere.
    pub(crate) fn seen_as(self, seen: SocketAddr) -> Self {
        Self { seen, ..self }
    }

    pub(crate) fn syn(&self) -> Frame {
        Frame::tcp((self.client, self.server), SYN, FIRST, 0, &SYN_OPTIONS, b"")
    }

    pub(crate) fn syn_ack(&self) -> Frame {
        Frame::tcp((self.server, self.seen), SYN_ACK, 0, FIRST + 1, &SYN_OPTIONS, b"")
    }

    pub(crate) fn ack(&self) -> Frame {
        Frame::tcp((self.client, self.server), ACK, FIRST + 1, 1, &[], b"")
    }

    /// The client says something after `said` bytes.
    pub(crate) fn request(&self, said: u32, text: &[u8]) -> Frame {
        Frame::tcp((self.client, self.server), DATA, FIRST + 1 + said, 1, &[], text)
    }

    /// The server acknowledges that many bytes.
    pub(crate) fn answer(&self, said: u32) -> Frame {
        Frame::tcp((self.server, self.seen), ACK, 1, FIRST + 1 + said, &[], b"")
    }

    /// A packet of either direction of the established connection.
    pub(crate) fn pair(&self) -> [Frame; 2] {
        const TEXT: &[u8] = b"something to be carried";
        [self.request(0, TEXT), self.answer(TEXT.len() as u32)]
    }
}

/// A tracker for that many connections, whose events nobody wants.
pub(crate) fn conntrack(connections: u32) -> Conntrack {
    let mut config = ConntrackConfig::default();
    config.limits.connections = connections;
    config.limits.events = 0;
    Conntrack::new(config, [1, 2])
}

pub(crate) fn track(conntrack: &mut Conntrack, frame: &Frame, template: Template) -> Result<Tracked, DropReason> {
    let headers = Headers::find(frame.bytes()).expect("a whole packet");
    conntrack.track(Instant::from_secs(0), frame.bytes(), &headers, template)
}

/// Opens a connection: with a `nat`, its source becomes `flow.seen`.
pub(crate) fn open(conntrack: &mut Conntrack, nat: Option<&mut Nat>, flow: &Flow, template: Template) -> ConnectionId {
    let now = Instant::from_secs(0);
    let id = track(conntrack, &flow.syn(), template).expect("room").connection.expect("a connection");
    if let Some(nat) = nat {
        let range = NatRange::to_address(flow.seen.ip());
        nat.setup(now, conntrack, id, &range, Side::Source).expect("a tuple");
    }
    conntrack.confirm(now, id).expect("a tuple of its own");
    for frame in [flow.syn_ack(), flow.ack()] {
        let tracked = track(conntrack, &frame, Template::default()).expect("no new connection");
        assert_eq!(tracked.connection, Some(id));
    }
    id
}

/// The numbers below `count`, shuffled, the same way every time.
pub(crate) fn shuffled(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..count).rev() {
        // Marsaglia's xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        numbers.swap(at, (random % (at as u64 + 1)) as usize);
    }
    numbers
}
