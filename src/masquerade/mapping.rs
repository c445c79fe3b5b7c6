//! Which endpoint stands for which.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use crate::netfilter::Cidr;
use crate::packet::Protocol;

/// So many endpoints are remembered; beyond that the oldest are forgotten.
const MOST: usize = 1 << 18;

/// The relation of a packet to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Known {
    /// A connection, or an announced endpoint.
    Seen,
    /// Nothing: this is the first of it.
    First,
}

/// A near endpoint, towards a remote one. Port 0 of the remote one stands for any: an announced endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Near {
    protocol: Protocol,
    endpoint: SocketAddr,
    remote: SocketAddr,
}

/// A port of the far address, towards a remote endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Far {
    protocol: Protocol,
    port: u16,
    remote: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Mapping {
    near: Vec<Cidr>,
    far: IpAddr,
    ports: HashMap<Near, u16>,
    taken: HashMap<Far, SocketAddr>,
    oldest_first: VecDeque<Near>,
}

impl Mapping {
    pub(super) fn hide(inside: Vec<Cidr>, outside: IpAddr) -> Self {
        Self { near: inside, far: outside, ports: HashMap::new(), taken: HashMap::new(), oldest_first: VecDeque::new() }
    }

    pub(super) fn reveal(outside: IpAddr, host: IpAddr) -> Self {
        Self::hide(Vec::from([Cidr::host(outside)]), host)
    }

    pub(super) fn is_near(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.far.is_ipv4() && self.near.iter().any(|network| network.contains(address))
    }

    pub(super) const fn far_address(&self) -> IpAddr {
        self.far
    }

    /// Returns the translated endpoint for `endpoint` towards `remote`: the same port, or, if another near endpoint has
    /// it there, the next one in its class that is free.
    pub(super) fn far(&mut self, protocol: Protocol, endpoint: SocketAddr, remote: SocketAddr) -> (SocketAddr, Known) {
        let near = Near { protocol, endpoint, remote };
        let (port, known) = match self.port(&near) {
            Some(port) => (port, Known::Seen),
            None => (self.choose(near), Known::First),
        };
        (SocketAddr::new(self.far, port), known)
    }

    /// The port of a connection, or of the announced endpoint that it comes to.
    fn port(&self, near: &Near) -> Option<u16> {
        let any = Near { remote: any_port(near.remote), ..*near };
        self.ports.get(near).or_else(|| self.ports.get(&any)).copied()
    }

    fn choose(&mut self, near: Near) -> u16 {
        let port = class(near.endpoint.port()).find(|port| self.is_free(&near, *port));
        // With none free there is no right answer.
        let port = port.unwrap_or(near.endpoint.port());
        if self.oldest_first.len() >= MOST {
            self.forget_oldest();
        }
        self.oldest_first.push_back(near);
        self.ports.insert(near, port);
        self.taken.entry(Far { protocol: near.protocol, port, remote: near.remote }).or_insert(near.endpoint);
        port
    }

    /// Returns true if no other near endpoint has this port there: towards the same endpoint, or towards any port of
    /// it.
    fn is_free(&self, near: &Near, port: u16) -> bool {
        let towards = |remote| Far { protocol: near.protocol, port, remote };
        let others = [near.remote, any_port(near.remote)];
        others.iter().all(|remote| self.taken.get(&towards(*remote)).is_none_or(|whose| *whose == near.endpoint))
    }

    fn forget_oldest(&mut self) {
        let Some(near) = self.oldest_first.pop_front() else { return };
        let Some(port) = self.ports.remove(&near) else { return };
        let far = Far { protocol: near.protocol, port, remote: near.remote };
        if let Entry::Occupied(taken) = self.taken.entry(far)
            && *taken.get() == near.endpoint
        {
            taken.remove();
        }
    }
}

const fn any_port(mut remote: SocketAddr) -> SocketAddr {
    remote.set_port(0);
    remote
}

/// The ports that may take `port`'s place, itself first: a privileged port stays privileged, and one below 512 below
/// (as Linux has it; RFC 4787 section 4.2.2 wants the first of this).
fn class(port: u16) -> impl Iterator<Item = u16> {
    let (first, last) = match port {
        0 => (0, 0),
        1..512 => (1, 511),
        512..1024 => (512, 1023),
        _ => (1024, u16::MAX),
    };
    (port..=last).chain(first..port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn at(endpoint: &str) -> SocketAddr {
        endpoint.parse().unwrap()
    }

    fn mapping() -> Mapping {
        Mapping::hide(Vec::from([Cidr::new([10, 0, 0, 0].into(), 8).unwrap()]), [203, 0, 113, 1].into())
    }

    fn far(mapping: &mut Mapping, near: &str, remote: &str) -> (u16, Known) {
        let (far, known) = mapping.far(Protocol::TCP, at(near), at(remote));
        assert_eq!(far.ip(), IpAddr::from([203, 0, 113, 1]));
        (far.port(), known)
    }

    #[test]
    fn ports_stay_until_two_hosts_have_one() {
        let mut mapping = mapping();
        assert_eq!(far(&mut mapping, "10.0.0.5:4000", "198.51.100.9:21"), (4000, Known::First));
        assert_eq!(far(&mut mapping, "10.0.0.5:4000", "198.51.100.9:21"), (4000, Known::Seen));
        assert_eq!(far(&mut mapping, "10.0.0.6:4000", "198.51.100.8:21"), (4000, Known::First), "another server");
        assert_eq!(far(&mut mapping, "10.0.0.6:4000", "198.51.100.9:21"), (4001, Known::First));
        assert_eq!(far(&mut mapping, "10.0.0.6:4000", "198.51.100.9:21"), (4001, Known::Seen));
        let udp = mapping.far(Protocol::UDP, at("10.0.0.7:4000"), at("198.51.100.9:21"));
        assert_eq!(udp.0.port(), 4000, "another protocol");
    }

    #[test]
    fn an_announced_endpoint_is_met_from_any_port() {
        let mut mapping = mapping();
        assert_eq!(far(&mut mapping, "10.0.0.5:5000", "198.51.100.9:0"), (5000, Known::First));
        assert_eq!(far(&mut mapping, "10.0.0.6:5000", "198.51.100.9:0"), (5001, Known::First));
        assert_eq!(far(&mut mapping, "10.0.0.5:5000", "198.51.100.9:20"), (5000, Known::Seen));
        assert_eq!(far(&mut mapping, "10.0.0.6:5000", "198.51.100.9:20"), (5001, Known::Seen));
        assert_eq!(far(&mut mapping, "10.0.0.7:5000", "198.51.100.9:80"), (5002, Known::First), "both are announced");
    }

    #[test]
    fn ports_stay_in_their_class() {
        for (port, others) in [(511, [1, 2]), (1023, [512, 513]), (65535, [1024, 1025])] {
            let mut mapping = mapping();
            let mut of = |host| far(&mut mapping, &format!("10.0.0.{host}:{port}"), "198.51.100.9:21").0;
            assert_eq!([of(1), of(2), of(3)], [port, others[0], others[1]]);
        }
    }

    #[test]
    fn who_is_near() {
        let mapping = mapping();
        assert!(mapping.is_near([10, 9, 8, 7].into()) && !mapping.is_near([11, 0, 0, 1].into()));
        let both = Mapping::hide(Vec::from([Cidr::host("fd00::1".parse().unwrap())]), [203, 0, 113, 1].into());
        assert!(!both.is_near("fd00::1".parse().unwrap()), "the other family");
        let back = Mapping::reveal([203, 0, 113, 1].into(), [10, 0, 0, 5].into());
        assert!(back.is_near([203, 0, 113, 1].into()) && !back.is_near([10, 0, 0, 5].into()));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut mapping = mapping();
        for i in 0..=MOST {
            let [_, a, b, c] = (i as u32).to_be_bytes();
            mapping.far(Protocol::TCP, at("10.0.0.5:4000"), SocketAddr::new([a + 1, b, c, 9].into(), 21));
        }
        assert_eq!((mapping.ports.len(), mapping.taken.len(), mapping.oldest_first.len()), (MOST, MOST, MOST));
    }
}
