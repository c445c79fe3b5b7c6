//! Which address and port a connection gets, and writing it into its packets (`nf_nat`).
//!
//! The first packet of a connection decides: [`Nat::setup`] finds a tuple that nobody else has and makes it the
//! connection's reply tuple. Every later packet only needs [`translate`].
//!
//! ```
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::conntrack::{ConntrackConfig, Conntrack, Direction};
//! use ftp_conntrack::nat::{Nat, NatRange, translate};
//! use ftp_conntrack::packet::{Headers, Side};
//!
//! let (mut conntrack, mut nat) = (Conntrack::new(ConntrackConfig::default(), [1, 2]), Nat::new([3, 4]));
//! // 10.77.1.2:40000 > 198.51.100.9:21, SYN
//! let mut syn = [
//!     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9,
//!     0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
//! ];
//! let (now, headers) = (Instant::from_secs(0), Headers::find(&syn).unwrap());
//! let tracked = conntrack.track(now, &syn, &headers, Default::default()).unwrap();
//! let id = tracked.connection.unwrap();
//!
//! let outside = NatRange::to_address("203.0.113.1".parse().unwrap());
//! nat.setup(now, &mut conntrack, id, &outside, Side::Source).unwrap();
//! translate(conntrack.get(id).unwrap(), tracked.direction, Side::Source, &mut syn, &headers);
//!
//! assert_eq!(headers.source(&syn).to_string(), "203.0.113.1");
//! let reply = conntrack.get(id).unwrap().tuple(Direction::Reply);
//! assert_eq!(reply.to_string(), "198.51.100.9:21 > 203.0.113.1:40000");
//! ```

pub(crate) mod choices;
pub(crate) mod jenkins;
mod range;
mod translate;
mod unique;

pub(crate) use choices::PortChooser;
pub use range::{NatRange, PortRange};
pub(crate) use translate::{moves, resists};
pub use translate::{translate, translate_error};

use core::net::IpAddr;

use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, OnMatch, Status};
use crate::event::{DestroyReason, DropReason};
use crate::packet::Side;

/// Address translation: what it needs beside the table of connections.
#[derive(Debug)]
pub struct Nat {
    pub(crate) choices: PortChooser,
}

impl Nat {
    /// `key` keys the choice of ports: it should come from a source that the network cannot guess.
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        Self { choices: PortChooser::new(key) }
    }

    /// Decides what one end of an unconfirmed connection is translated to (`nf_nat_setup_info`).
    ///
    /// The end is decided once: later calls change nothing.
    ///
    /// # Errors
    /// When the connection has no tuple to translate, which only ICMP messages without an answer have not.
    pub fn setup(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        id: ConnectionId,
        range: &NatRange,
        side: Side,
    ) -> Result<(), DropReason> {
        let Some(connection) = conntrack.get(id) else { return Ok(()) };
        let (translated, done) = match side {
            Side::Source => (Status::SRC_NAT, Status::SRC_NAT_DONE),
            Side::Destination => (Status::DST_NAT, Status::DST_NAT_DONE),
        };
        if connection.status().has(Status::CONFIRMED | done) {
            return Ok(());
        }
        let original = *connection.tuple(Direction::Original);
        let current = connection.tuple(Direction::Reply).reversed().ok_or(DropReason::Clash)?;
        let (unique, evicted) = self.unique_tuple(now, conntrack, (id, current), &original, range, side);
        if let Some(evicted) = evicted {
            conntrack.destroy_for(now, evicted, DestroyReason::Evicted);
        }
        let mut bits = done;
        if unique != current {
            conntrack.alter_reply(id, unique.reversed().ok_or(DropReason::Clash)?);
            bits |= translated;
        }
        if side == Side::Source {
            conntrack.note_source(id);
        }
        if let Some(connection) = conntrack.get_mut(id) {
            connection.status.set(bits);
        }
        Ok(())
    }

    /// Decides that one end stays as it is, as far as nobody else has the tuple (`nf_nat_alloc_null_binding`): a
    /// source port that is taken moves even so.
    ///
    /// # Errors
    /// As [`Nat::setup`].
    pub fn setup_null(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        id: ConnectionId,
        side: Side,
    ) -> Result<(), DropReason> {
        let Some(connection) = conntrack.get(id) else { return Ok(()) };
        let reply = connection.tuple(Direction::Reply);
        let own = match side {
            Side::Source => reply.destination(),
            Side::Destination => reply.source(),
        };
        self.setup(now, conntrack, id, &NatRange::to_address(own), side)
    }

    /// Does what an expectation asks for the connection that met it.
    ///
    /// # Errors
    /// As [`Nat::setup`].
    pub fn apply_expectation(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        child: ConnectionId,
        on_match: OnMatch,
    ) -> Result<(), DropReason> {
        match on_match {
            OnMatch::FollowMaster { direction, port } => self.follow_master(now, conntrack, child, direction, port),
            _ => Ok(()),
        }
    }

    /// Translates a data connection as its control connection is (`nf_nat_follow_master`): its source to the address
    /// under which the announcing end knows the other end, its destination to the announcing end itself and the port
    /// it announced.
    ///
    /// Worked example. C = 10.77.1.2 is masqueraded as N = 203.0.113.1 towards S = 198.51.100.9; the control
    /// connection is C > S, its replies S > N. After `PORT` for C:5000 the server opens S:20 > N:5000, in reply
    /// direction of the master. What the master's tuple of the other direction, C > S, has as destination becomes
    /// the source (S: unchanged), and its source with the announced port becomes the destination: C:5000.
    fn follow_master(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        child: ConnectionId,
        direction: Direction,
        port: Option<u16>,
    ) -> Result<(), DropReason> {
        let master = conntrack.get(child).and_then(|c| c.master()).and_then(|m| conntrack.get(m));
        let Some(other_way) = master.map(|m| *m.tuple(direction.other())) else { return Ok(()) };
        let source = NatRange::to_address(other_way.destination());
        self.setup(now, conntrack, child, &source, Side::Source)?;
        let destination = match port {
            Some(port) => NatRange::to_endpoint(other_way.source(), port),
            None => NatRange::to_address(other_way.source()),
        };
        self.setup(now, conntrack, child, &destination, Side::Destination)
    }
}

/// Returns true if an address lies between two others of its family, both included.
pub(crate) fn lies_between(address: IpAddr, first: IpAddr, last: IpAddr) -> bool {
    address.is_ipv4() == first.is_ipv4() && first <= address && address <= last
}
/// Returns the number of the cluster node that an address is for (`-m cluster`), of so many; 0 for IPv6, whose hash is not
/// known.
pub(crate) fn cluster_node(address: IpAddr, seed: u32, nodes: u32) -> u32 {
    let IpAddr::V4(address) = address else { return 0 };
    let hash = jenkins::hash_one(u32::from_le_bytes(address.octets()), seed);
    ((u64::from(hash) * u64::from(nodes)) >> 32) as u32
}
