//! Which real server takes a new client.
//!
//! Servers stand in the order in which Linux keeps them: the one added last comes first. Choosing costs nothing per
//! connection; the schedulers that count connections look at each server of the service.

use alloc::boxed::Box;
use core::net::{IpAddr, SocketAddr};

use super::config::{Scheduler, SchedulerFlags};
use super::service::Server;

/// State that a scheduler keeps between two choices.
#[derive(Debug)]
pub(super) enum SchedulerState {
    /// The server chosen last.
    RoundRobin(Option<usize>),
    Weighted(Weighted),
    /// Of all servers, the one with the least of something.
    Least(Overhead),
    /// Of all servers the first without active connections, else the one with the shortest expected delay.
    NeverQueue,
    /// A server for each of 256 hashes.
    Hashed {
        by: HashedBy,
        table: Box<[Option<usize>; BUCKETS]>,
    },
}

/// Measure of a server's load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Overhead {
    Connections,
    ConnectionsForItsWeight,
    ExpectedDelay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashedBy {
    Source,
    Destination,
}

/// Size of the hash table (Linux, `IP_VS_SH_TAB_SIZE`, `IP_VS_DH_TAB_SIZE`).
const BUCKETS: usize = 256;

impl SchedulerState {
    pub(super) fn new(scheduler: Scheduler, servers: &[Server]) -> Self {
        let mut choice = match scheduler {
            Scheduler::RoundRobin => Self::RoundRobin(None),
            Scheduler::WeightedRoundRobin => Self::Weighted(Weighted::default()),
            Scheduler::LeastConnection => Self::Least(Overhead::Connections),
            Scheduler::WeightedLeastConnection => Self::Least(Overhead::ConnectionsForItsWeight),
            Scheduler::ShortestExpectedDelay => Self::Least(Overhead::ExpectedDelay),
            Scheduler::NeverQueue => Self::NeverQueue,
            Scheduler::SourceHashing => Self::hashed(HashedBy::Source),
            Scheduler::DestinationHashing => Self::hashed(HashedBy::Destination),
        };
        // Each server that is added is a change, and what `wrr` makes of it depends on those before.
        for added in 1..=servers.len() {
            choice.servers_changed(servers.get(servers.len() - added..).unwrap_or_default());
        }
        choice
    }

    fn hashed(by: HashedBy) -> Self {
        Self::Hashed { by, table: Box::new([None; BUCKETS]) }
    }

    /// A server was added, or has another weight.
    pub(super) fn servers_changed(&mut self, servers: &[Server]) {
        match self {
            Self::Weighted(weighted) => weighted.servers_changed(servers),
            Self::Hashed { by: HashedBy::Source, table } => fill(table, servers, |server| server.config.weight),
            Self::Hashed { by: HashedBy::Destination, table } => fill(table, servers, |_| 1),
            _ => {}
        }
    }

    /// The server that takes a client from `source` who dialled `at`.
    pub(super) fn choose(
        &mut self,
        servers: &[Server],
        source: SocketAddr,
        at: IpAddr,
        flags: SchedulerFlags,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(last) => {
                let next = last.map_or(0, |last| last + 1);
                let circle = (0..servers.len()).map(|step| (next + step) % servers.len());
                let chosen = circle.into_iter().find(|at| servers.get(*at).is_some_and(Server::takes_clients))?;
                *last = Some(chosen);
                Some(chosen)
            }
            Self::Weighted(weighted) => weighted.choose(servers),
            Self::Least(overhead) => least(servers, *overhead),
            Self::NeverQueue => {
                let idle = servers.iter().position(|server| server.takes_clients() && server.active == 0);
                idle.or_else(|| least(servers, Overhead::ExpectedDelay))
            }
            Self::Hashed { by: HashedBy::Destination, table } => {
                let chosen = (*table.get(destination_bucket(at))?)?;
                servers.get(chosen).filter(|server| server.takes_clients()).map(|_| chosen)
            }
            Self::Hashed { by: HashedBy::Source, table } => {
                let port = if flags.port { source.port() } else { 0 };
                let ready = |bucket: usize| {
                    let chosen = (*table.get(bucket)?)?;
                    servers.get(chosen).filter(|server| server.takes_clients()).map(|_| chosen)
                };
                let first = source_bucket(source.ip(), port, 0);
                ready(first).or_else(|| {
                    let others = (0..BUCKETS).map(|offset| source_bucket(source.ip(), port, offset + first));
                    flags.fallback.then(|| others.into_iter().find_map(ready)).flatten()
                })
            }
        }
    }
}

/// Gives each server as many buckets in a row as it weighs, over and over.
fn fill(table: &mut [Option<usize>; BUCKETS], servers: &[Server], weight: impl Fn(&Server) -> u32) {
    let shares = servers.iter().enumerate().map(|(at, server)| (at, weight(server).max(1) as usize));
    let circle = shares.flat_map(|(at, weight)| core::iter::repeat_n(at, weight.min(BUCKETS)));
    table.fill(None);
    for (bucket, at) in table.iter_mut().zip(circle.cycle()) {
        *bucket = Some(at);
    }
}

/// An address as 32 bits: IPv6 ones have their four words joined by exclusive or.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// Multiplier of 32-bit hashes (Linux, `GOLDEN_RATIO_32`).
const GOLDEN_RATIO: u32 = 0x61c8_8647;

fn source_bucket(address: IpAddr, port: u16, offset: usize) -> usize {
    let product = folded(address).wrapping_add(u32::from(port)).wrapping_mul(GOLDEN_RATIO);
    (offset + (product >> 24) as usize) % BUCKETS
}

fn destination_bucket(address: IpAddr) -> usize {
    (folded(address).wrapping_mul(GOLDEN_RATIO) >> 24) as usize
}

/// The server with the least of something for its weight; of equals the first.
fn least(servers: &[Server], overhead: Overhead) -> Option<usize> {
    let candidates = servers.iter().enumerate().filter(|(_, server)| server.takes_clients());
    let burden = |server: &Server| {
        let connections = u64::from(server.active) << 8;
        match overhead {
            Overhead::Connections => (connections + u64::from(server.inactive), 1),
            Overhead::ConnectionsForItsWeight => {
                (connections + u64::from(server.inactive), u64::from(server.config.weight))
            }
            Overhead::ExpectedDelay => (u64::from(server.active) + 1, u64::from(server.config.weight)),
        }
    };
    candidates
        .map(|(at, server)| (at, burden(server)))
        .reduce(|best, other| {
            let ((_, (best_load, best_weight)), (_, (load, weight))) = (best, other);
            let busier = u128::from(best_load) * u128::from(weight) > u128::from(load) * u128::from(best_weight);
            if busier { other } else { best }
        })
        .map(|(at, _)| at)
}

/// Weighted round robin: the servers that weigh at least `current` in turn, then with a lower `current`.
#[derive(Debug, Default)]
pub(super) struct Weighted {
    last: Option<usize>,
    current: u32,
    /// The greatest weight there is, less what lies below the last step.
    most: u32,
    /// The greatest common divisor of all weights.
    step: u32,
}

impl Weighted {
    fn servers_changed(&mut self, servers: &[Server]) {
        let weights = || servers.iter().map(|server| server.config.weight);
        self.step = weights().fold(0, greatest_common_divisor).max(1);
        self.most = weights().max().unwrap_or(0).saturating_sub(self.step - 1);
        self.last = None;
        if self.current > self.most || self.current == 0 {
            self.current = self.most;
        } else if self.step > 1 {
            self.current = self.current / self.step * self.step + 1;
        }
    }

    fn choose(&mut self, servers: &[Server]) -> Option<usize> {
        let ready = || servers.iter().filter(|server| server.takes_clients());
        let heaviest = ready().map(|server| server.config.weight).max()?;
        let mut next = self.last.map_or(0, |last| last + 1);
        // The rest of this round, and, a step or more below it, one in which the heaviest takes part.
        for _round in 0..2 {
            let rest = servers.iter().enumerate().skip(next);
            let mut fitting = rest.filter(|(_, s)| s.takes_clients() && s.config.weight >= self.current);
            if let Some((at, _)) = fitting.next() {
                self.last = Some(at);
                return Some(at);
            }
            self.current = self.below(heaviest);
            next = 0;
        }
        None
    }

    /// The next lower weight at which a server of weight `heaviest` takes part; after the lowest comes the highest.
    fn below(&self, heaviest: u32) -> u32 {
        let lower = |from: u32| from - from.saturating_sub(heaviest).div_ceil(self.step) * self.step;
        lower(if self.current > self.step { self.current - self.step } else { self.most })
    }
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::config::{Forwarding, IpvsConfig, ServerConfig, ServiceAddress, ServiceConfig};
    use crate::ipvs::service::Services;
    use alloc::vec;
    use alloc::vec::Vec;

    fn services(scheduler: Scheduler, weights: &[u32]) -> Services {
        let mut service = ServiceConfig::new(ServiceAddress::mark(21), scheduler);
        for (last, weight) in (11..).zip(weights) {
            let server = ServerConfig::new([10, 77, 1, last].into(), 0, Forwarding::Masquerade);
            service.servers.push(server.weighing(*weight));
        }
        Services::new(&IpvsConfig { services: vec![service], ..IpvsConfig::default() })
    }

    fn client(number: u32) -> SocketAddr {
        SocketAddr::new(core::net::Ipv4Addr::from_bits(0xc633_0000 + number).into(), 1024 + number as u16)
    }

    const VIRTUAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(203, 0, 113, 21));

    /// Returns the number of `clients` that each server gets, as they were added; every connection stays open.
    fn shares(scheduler: Scheduler, weights: &[u32], clients: u32) -> Vec<u32> {
        let mut services = services(scheduler, weights);
        for number in 0..clients {
            if let Some(server) = services.choose(0, client(number), VIRTUAL) {
                let server = &mut services.servers[server as usize];
                server.bind(false);
                server.count_active(true);
            }
        }
        services.servers.iter().rev().map(Server::active).collect()
    }

    #[test]
    fn each_takes_its_share_of_thousands() {
        assert_eq!(shares(Scheduler::RoundRobin, &[1, 5, 0, 2], 3000), [1000, 1000, 0, 1000]);
        assert_eq!(shares(Scheduler::LeastConnection, &[1, 5, 0, 2], 3000), [1000, 1000, 0, 1000]);
        for scheduler in
            [Scheduler::WeightedRoundRobin, Scheduler::WeightedLeastConnection, Scheduler::ShortestExpectedDelay]
        {
            let taken = shares(scheduler, &[1, 5, 0, 2], 8000);
            for (taken, weight) in taken.iter().zip([1u32, 5, 0, 2]) {
                assert!(taken.abs_diff(weight * 1000) <= 5, "{scheduler:?}: {taken:?}");
            }
        }
        // While none is idle, never queue goes by the expected delay.
        let taken = shares(Scheduler::NeverQueue, &[1, 5, 0, 2], 8000);
        assert!(taken[1].abs_diff(5000) <= 5 && taken[2] == 0, "{taken:?}");
    }

    #[test]
    fn hashing_spreads_by_weight_and_stays() {
        let taken = shares(Scheduler::SourceHashing, &[1, 3], 8192);
        assert!(taken[0].abs_diff(2048) < 200, "{taken:?}");
        assert_eq!(taken.iter().sum::<u32>(), 8192);
        let mut services = services(Scheduler::SourceHashing, &[1, 3]);
        let first = services.choose(0, client(7), VIRTUAL);
        assert!((0..99).all(|_| services.choose(0, client(7), VIRTUAL) == first));
        // By destination everything for one address goes to one server.
        assert_eq!(
            shares(Scheduler::DestinationHashing, &[1, 1, 1], 500).iter().filter(|taken| **taken > 0).count(),
            1
        );
    }

    #[test]
    fn a_full_or_drained_server_takes_nobody() {
        for scheduler in Scheduler::ALL_FOR_TESTS {
            let mut services = services(scheduler, &[0, 0]);
            assert_eq!(services.choose(0, client(1), VIRTUAL), None, "{scheduler:?}");
            services.set_weight(0, 1, 3);
            services.set_weight(0, 0, 3);
            services.servers[0].overloaded = true;
            services.servers[1].overloaded = true;
            assert_eq!(services.choose(0, client(1), VIRTUAL), None, "{scheduler:?}");
            services.servers[0].overloaded = false;
            services.servers[1].overloaded = false;
            assert!(services.choose(0, client(1), VIRTUAL).is_some(), "{scheduler:?}");
        }
    }

    #[test]
    fn another_server_takes_the_clients_of_one_that_is_full() {
        let mut services = services(Scheduler::SourceHashing, &[1, 1]);
        let Some(first) = services.choose(0, client(1), VIRTUAL) else { panic!("nobody") };
        services.servers[first as usize].overloaded = true;
        assert_eq!(services.choose(0, client(1), VIRTUAL), None);
        services.all[0].config.flags.fallback = true;
        assert_eq!(services.choose(0, client(1), VIRTUAL), Some(1 - first));
    }

    #[test]
    fn weighted_turns_begin_where_linux_begins() {
        // Added 4, 0, 2: each addition rounds the current weight, which so begins at 1 (seen in recordings).
        let mut services = services(Scheduler::WeightedRoundRobin, &[4, 0, 2]);
        let turns: Vec<u32> = (0..8).filter_map(|n| services.choose(0, client(n), VIRTUAL)).collect();
        assert_eq!(turns, [0, 2, 2, 0, 2, 2, 0, 2]);
    }
}
