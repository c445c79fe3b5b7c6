//! Services and real servers at work.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use super::config::{Forwarding, IpvsConfig, ServerConfig, ServiceAddress, ServiceConfig};
use super::schedule::SchedulerState;
use crate::packet::{Family, Protocol};

/// FTP's control port, which Linux treats specially wherever a service has it.
pub(super) const FTP_PORT: u16 = 21;
/// The port that active data connections come from.
pub(super) const FTP_DATA_PORT: u16 = 20;
/// From here on a port may be that of a passive data connection (`ip_unprivileged_port_start`).
pub(super) const UNPRIVILEGED: u16 = 1024;

/// A real server and what it has to do.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) config: ServerConfig,
    pub(super) active: u32,
    pub(super) inactive: u32,
    pub(super) persistent: u32,
    pub(super) overloaded: bool,
}

impl Server {
    const fn new(config: ServerConfig) -> Self {
        Self { config, active: 0, inactive: 0, persistent: 0, overloaded: false }
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Connections in which data flows or that are being opened.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// Other connections: closing, closed, or waited for.
    #[must_use]
    pub const fn inactive(&self) -> u32 {
        self.inactive
    }

    /// Clients that stay with it.
    #[must_use]
    pub const fn persistent(&self) -> u32 {
        self.persistent
    }

    /// Returns true if it has reached its upper threshold, and has not fallen below the lower one since.
    #[must_use]
    pub const fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Returns true if it takes new clients.
    pub(super) const fn takes_clients(&self) -> bool {
        self.config.weight > 0 && !self.overloaded
    }

    const fn connections(&self) -> u32 {
        self.active.saturating_add(self.inactive)
    }

    /// An entry for it was made.
    pub(super) const fn bind(&mut self, is_template: bool) {
        if is_template {
            self.persistent += 1;
        } else {
            self.inactive += 1;
        }
        if self.config.upper != 0 && self.connections() >= self.config.upper {
            self.overloaded = true;
        }
    }

    /// An entry for it is gone.
    pub(super) const fn unbind(&mut self, is_template: bool, active: bool) {
        let counter = match (is_template, active) {
            (true, _) => &mut self.persistent,
            (false, true) => &mut self.active,
            (false, false) => &mut self.inactive,
        };
        *counter = counter.saturating_sub(1);
        let ServerConfig { upper, lower, .. } = self.config;
        let fell = if lower != 0 {
            self.connections() < lower
        } else if upper != 0 {
            (self.connections() as u64) * 4 < upper as u64 * 3
        } else {
            true
        };
        self.overloaded &= !fell;
    }

    /// A connection to it became active, or ceased to be.
    pub(super) const fn count_active(&mut self, active: bool) {
        if active {
            self.active += 1;
            self.inactive = self.inactive.saturating_sub(1);
        } else {
            self.active = self.active.saturating_sub(1);
            self.inactive += 1;
        }
    }
}

/// A service and whose turn it is.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) config: ServiceConfig,
    /// Range of this service's servers; the one added last comes first, as in Linux.
    pub(super) servers: Range<usize>,
    pub(super) choice: SchedulerState,
}

/// All services, found by what they answer for.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) all: Box<[Service]>,
    pub(super) servers: Box<[Server]>,
    /// Numbers in `all`, sorted by address.
    by_address: Box<[(ServiceAddress, usize)]>,
    /// True if there is an FTP service, and one for every port, per family.
    has_ftp: [bool; 2],
    has_catch_all: [bool; 2],
    /// True if packets may get an outer header.
    pub(super) has_tunnels: bool,
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl Services {
    pub(super) fn new(config: &IpvsConfig) -> Self {
        let mut servers = Vec::new();
        let mut all: Vec<Service> = Vec::new();
        let (mut has_ftp, mut has_catch_all) = ([false; 2], [false; 2]);
        for service in &config.services {
            let first = servers.len();
            servers.extend(service.servers.iter().rev().copied().map(Server::new));
            let own = servers.get(first..).unwrap_or_default();
            let family = index(service.address.family());
            if let ServiceAddress::Endpoint { at, .. } = service.address {
                has_ftp[family] |= at.port() == FTP_PORT;
                has_catch_all[family] |= at.port() == 0;
            }
            let choice = SchedulerState::new(service.scheduler, own);
            all.push(Service { config: service.clone(), servers: first..first + own.len(), choice });
        }
        let mut by_address: Vec<_> = all.iter().enumerate().map(|(at, s)| (s.config.address, at)).collect();
        by_address.sort_unstable();
        // Of two services with one address the first counts.
        by_address.dedup_by_key(|(address, _)| *address);
        let has_tunnels = servers.iter().any(|server| server.config.forwarding == Forwarding::Tunnel);
        let (all, servers, by_address) = (all.into(), servers.into(), by_address.into());
        Self { all, servers, by_address, has_ftp, has_catch_all, has_tunnels }
    }

    /// The service that answers for a packet: by its mark; by address and port; a port that may be a data connection's
    /// belongs to the FTP service of its address; a service for every port.
    pub(super) fn find(&self, mark: u32, protocol: Protocol, at: SocketAddr) -> Option<usize> {
        let ipv6 = at.is_ipv6();
        let family = index(if ipv6 { Family::V6 } else { Family::V4 });
        let by_mark = (mark != 0).then(|| self.at(&ServiceAddress::Mark { mark, ipv6 })).flatten();
        let endpoint = |port| {
            let at = SocketAddr::new(at.ip(), port);
            self.at(&ServiceAddress::Endpoint { protocol: protocol.0, at })
        };
        let may_be_data = protocol == Protocol::TCP && (at.port() == FTP_DATA_PORT || at.port() >= UNPRIVILEGED);
        by_mark
            .or_else(|| endpoint(at.port()))
            .or_else(|| (self.has_ftp[family] && may_be_data).then(|| endpoint(FTP_PORT)).flatten())
            .or_else(|| self.has_catch_all[family].then(|| endpoint(0)).flatten())
    }

    fn at(&self, address: &ServiceAddress) -> Option<usize> {
        let found = self.by_address.binary_search_by(|(known, _)| known.cmp(address)).ok()?;
        self.by_address.get(found).map(|(_, at)| *at)
    }

    /// Returns true if a service is there for just this endpoint.
    pub(super) fn has_own(&self, protocol: Protocol, at: SocketAddr) -> bool {
        self.at(&ServiceAddress::Endpoint { protocol: protocol.0, at }).is_some()
    }

    /// Returns true if Linux tracks connections of a family because of these services: one on port 21 rewrites
    /// addresses.
    pub(super) fn want_tracking(&self, family: Family) -> bool {
        self.all.iter().any(|service| {
            let config = &service.config;
            config.address.family() == family
                && config.address.port() == FTP_PORT
                && config.servers.iter().any(|server| server.forwarding == Forwarding::Masquerade)
        })
    }

    /// A server for a packet from `source` to `at`, as the service's scheduler chooses; its number among all.
    pub(super) fn choose(&mut self, service: usize, source: SocketAddr, at: IpAddr) -> Option<u32> {
        let service = self.all.get_mut(service)?;
        let own = self.servers.get(service.servers.clone())?;
        let chosen = service.choice.choose(own, source, at, service.config.flags)?;
        u32::try_from(service.servers.start + chosen).ok()
    }

    /// Changes a server's weight.
    pub(super) fn set_weight(&mut self, service: usize, server: usize, weight: u32) -> bool {
        let Some(service) = self.all.get_mut(service) else { return false };
        let Some(own) = self.servers.get_mut(service.servers.clone()) else { return false };
        // As they were added, from the end.
        let Some(server) = own.iter_mut().rev().nth(server) else { return false };
        server.config.weight = weight;
        service.choice.servers_changed(own);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::Scheduler;
    use alloc::vec;

    fn services(addresses: &[ServiceAddress]) -> Services {
        let services = addresses.iter().map(|address| ServiceConfig::new(*address, Scheduler::RoundRobin)).collect();
        Services::new(&IpvsConfig { services, ..IpvsConfig::default() })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn marks_come_first_and_every_port_last() {
        let services = services(&[
            ServiceAddress::tcp(at("203.0.113.21:0")),
            ServiceAddress::tcp(at("203.0.113.21:80")),
            ServiceAddress::mark(7),
            ServiceAddress::Mark { mark: 8, ipv6: true },
            ServiceAddress::udp(at("203.0.113.21:53")),
        ]);
        let tcp = |mark, port| services.find(mark, Protocol::TCP, SocketAddr::new([203, 0, 113, 21].into(), port));
        assert_eq!((tcp(7, 80), tcp(9, 80), tcp(0, 81), tcp(0, 20)), (Some(2), Some(1), Some(0), Some(0)));
        assert_eq!(services.find(0, Protocol::TCP, at("203.0.113.22:80")), None);
        // A mark of the other family, and a port of the other protocol, are others.
        assert_eq!(services.find(8, Protocol::UDP, at("203.0.113.21:80")), None);
        assert_eq!(services.find(8, Protocol::UDP, at("[2001:db8::21]:80")), Some(3));
        assert_eq!(services.find(0, Protocol::UDP, at("203.0.113.21:53")), Some(4));
    }

    #[test]
    fn high_ports_may_be_those_of_ftp_data() {
        let services = services(&[ServiceAddress::tcp(at("203.0.113.21:21"))]);
        let found = |port| services.find(0, Protocol::TCP, SocketAddr::new([203, 0, 113, 21].into(), port)).is_some();
        assert_eq!([20, 21, 22, 1023, 1024, 65535].map(found), [true, true, false, false, true, true]);
        assert_eq!(services.find(0, Protocol::UDP, at("203.0.113.21:2000")), None);
        assert_eq!(services.find(0, Protocol::TCP, at("203.0.113.22:2000")), None);
    }

    #[test]
    fn thresholds_stop_and_let_in_again() {
        let server = |lower, upper| {
            let config = ServerConfig::new([10, 77, 1, 11].into(), 21, Forwarding::Masquerade).between(lower, upper);
            let mut server = Server::new(config);
            for _ in 0..4 {
                server.bind(false);
            }
            server
        };
        let after_leaving = |mut server: Server| {
            let states = (0..4).map(|_| {
                server.unbind(false, false);
                server.is_overloaded()
            });
            states.collect::<Vec<_>>()
        };
        // Below the lower threshold; without one, below three quarters of the upper.
        assert_eq!(after_leaving(server(2, 4)), [true, true, false, false]);
        assert_eq!(after_leaving(server(0, 4)), [true, false, false, false]);
        assert!(!server(0, 0).is_overloaded() && !server(0, 5).is_overloaded());
        // A client that stays is no connection.
        let mut server = server(0, 5);
        server.bind(true);
        assert!(!server.is_overloaded());
    }

    #[test]
    fn only_port_21_makes_linux_track() {
        let masquerades = ServerConfig::new([10, 77, 1, 11].into(), 0, Forwarding::Masquerade);
        let routes = ServerConfig::new([10, 77, 1, 11].into(), 0, Forwarding::Route);
        let wants = |address, server| {
            let service = ServiceConfig::new(address, Scheduler::RoundRobin).with_server(server);
            Services::new(&IpvsConfig { services: vec![service], ..IpvsConfig::default() }).want_tracking(Family::V4)
        };
        let ftp = ServiceAddress::tcp(at("203.0.113.21:21"));
        assert!(wants(ftp, masquerades) && !wants(ftp, routes) && !wants(ServiceAddress::mark(21), masquerades));
        assert!(!wants(ServiceAddress::tcp(at("[2001:db8::21]:21")), masquerades));
    }
}
