//! On which ports servers listen, as they announced in sessions that could be read.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::Instant;

/// Maximum number of servers that are remembered. Of more nothing is learnt: a server that made way for another would be
/// learnt anew, without the ports for which nothing is opened.
pub(super) const SERVERS: usize = 64;
/// Time after which a port that was not announced again is forgotten: a server may be set up otherwise by then.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The passive ports of servers, from the lowest that each announced to the highest.
#[derive(Debug)]
pub(super) struct Learnt {
    servers: Vec<Server>,
    /// Maximum number of ports of a range; `None` if none is learnt.
    widest: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    address: SocketAddr,
    lowest: u16,
    highest: u16,
    last: Instant,
}

impl Learnt {
    pub(super) fn new(widest: Option<u16>) -> Self {
        Self { servers: Vec::with_capacity(widest.map_or(0, |_| SERVERS)), widest }
    }

    /// A server announced a port of its own.
    pub(super) fn note(&mut self, now: Instant, address: SocketAddr, port: u16) {
        if self.widest.is_none() {
            return;
        }
        self.servers.retain(|server| now.since(server.last) < FORGOTTEN);
        if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
            (server.lowest, server.highest) = (server.lowest.min(port), server.highest.max(port));
            server.last = now;
            return;
        }
        if self.servers.len() == SERVERS {
            return;
        }
        self.servers.push(Server { address, lowest: port, highest: port, last: now });
    }

    /// Returns the ports where a server listens, if these were learnt. A server that announced ports farther apart than
    /// the maximum may listen anywhere: none are known of it.
    pub(super) fn ports(&self, now: Instant, address: SocketAddr) -> Option<RangeInclusive<u16>> {
        let widest = self.widest?;
        let is_it = |server: &&Server| server.address == address && now.since(server.last) < FORGOTTEN;
        let server = self.servers.iter().find(is_it)?;
        (server.highest - server.lowest < widest).then_some(server.lowest..=server.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Instant {
        Instant::from_secs(seconds)
    }

    fn server(number: u8) -> SocketAddr {
        ([192, 0, 2, number], 21).into()
    }

    #[test]
    fn from_the_lowest_to_the_highest() {
        let mut learnt = Learnt::new(Some(100));
        assert_eq!(learnt.ports(at(0), server(1)), None);
        for port in [50_020, 50_010, 50_015] {
            learnt.note(at(0), server(1), port);
        }
        assert_eq!(learnt.ports(at(1), server(1)), Some(50_010..=50_020));
        assert_eq!(learnt.ports(at(1), server(2)), None);
        assert_eq!(learnt.ports(at(1), ([192, 0, 2, 1], 2121).into()), None, "another server of that host");
        learnt.note(at(2), server(1), 50_109);
        assert_eq!(learnt.ports(at(2), server(1)), Some(50_010..=50_109));
        learnt.note(at(2), server(1), 50_110);
        assert_eq!(learnt.ports(at(2), server(1)), None, "it listens anywhere");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let day = 24 * 60 * 60;
        let mut learnt = Learnt::new(Some(1000));
        learnt.note(at(0), server(1), 4000);
        learnt.note(at(day - 1), server(1), 4100);
        assert_eq!(learnt.ports(at(day), server(1)), Some(4000..=4100));
        assert_eq!(learnt.ports(at(2 * day), server(1)), None);
        learnt.note(at(2 * day), server(1), 5000);
        assert_eq!(learnt.ports(at(2 * day), server(1)), Some(5000..=5000));
        for number in 2..=SERVERS as u8 + 1 {
            learnt.note(at(2 * day + i64::from(number)), server(number), 5000);
        }
        assert!(learnt.ports(at(2 * day + 100), server(1)).is_some() && learnt.servers.len() == SERVERS);
        assert_eq!(learnt.ports(at(2 * day + 100), server(SERVERS as u8 + 1)), None, "there is no room for it");
    }

    #[test]
    fn nothing_unless_asked_to() {
        let mut learnt = Learnt::new(None);
        learnt.note(at(0), server(1), 4000);
        assert!(learnt.ports(at(0), server(1)).is_none() && learnt.servers.capacity() == 0);
    }
}
