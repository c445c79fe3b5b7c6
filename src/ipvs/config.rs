//! Configuration of the load balancer: services, real servers, settings.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use crate::packet::{Family, Protocol};

/// Configuration of an [`Ipvs`](super::Ipvs).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpvsConfig {
    /// The services, in the order in which they were added.
    pub services: Vec<ServiceConfig>,
    /// The control ports that `ip_vs_ftp` reads, at most eight; empty where the module is not loaded.
    pub ftp_ports: Vec<u16>,
    /// Settings of `net.ipv4.vs.*` and `ipvsadm --set`.
    pub settings: Settings,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// Address or firewall mark of the service.
    pub address: ServiceAddress,
    /// The scheduler (`-s`); `wlc` is `ipvsadm`'s default.
    pub scheduler: Scheduler,
    /// The scheduler's flags (`-b`).
    pub flags: SchedulerFlags,
    /// Persistence: clients stay with a real server (`-p`, `-M`).
    pub persistence: Option<Persistence>,
    /// True if each datagram is scheduled by itself (`--ops`); UDP only.
    pub one_packet: bool,
    /// The real servers, in the order in which they were added.
    pub servers: Vec<ServerConfig>,
}

impl ServiceConfig {
    /// A service without real servers and without persistence.
    #[must_use]
    pub const fn new(address: ServiceAddress, scheduler: Scheduler) -> Self {
        Self {
            address,
            scheduler,
            flags: SchedulerFlags { fallback: false, port: false },
            persistence: None,
            one_packet: false,
            servers: Vec::new(),
        }
    }

    /// The same with another real server.
    #[must_use]
    pub fn with_server(mut self, server: ServerConfig) -> Self {
        self.servers.push(server);
        self
    }

    /// The same with persistence by whole client addresses.
    #[must_use]
    pub const fn persistent(mut self, timeout: Duration) -> Self {
        let prefix = if matches!(self.address.family(), Family::V4) { 32 } else { 128 };
        self.persistence = Some(Persistence { timeout, prefix });
        self
    }
}

/// Address or firewall mark of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ServiceAddress {
    /// A virtual address and port (`-t`, `-u`); port 0 stands for every port, and wants persistence.
    Endpoint {
        /// TCP or UDP.
        protocol: u8,
        /// The virtual address and port.
        at: SocketAddr,
    },
    /// Whatever bears this firewall mark (`-f`).
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// True if IPv6 packets are meant (`-6`).
        ipv6: bool,
    },
}

impl ServiceAddress {
    /// A TCP service at an address and port.
    #[must_use]
    pub const fn tcp(at: SocketAddr) -> Self {
        Self::Endpoint { protocol: Protocol::TCP.0, at }
    }

    /// A UDP service at an address and port.
    #[must_use]
    pub const fn udp(at: SocketAddr) -> Self {
        Self::Endpoint { protocol: Protocol::UDP.0, at }
    }

    /// IPv4 packets that bear a firewall mark.
    #[must_use]
    pub const fn mark(mark: u32) -> Self {
        Self::Mark { mark, ipv6: false }
    }

    /// The family of its packets.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Endpoint { at: SocketAddr::V4(_), .. } | Self::Mark { ipv6: false, .. } => Family::V4,
            _ => Family::V6,
        }
    }

    /// The port, 0 for a firewall mark.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Endpoint { at, .. } => at.port(),
            Self::Mark { .. } => 0,
        }
    }
}

impl fmt::Display for ServiceAddress {
    /// As `ipvsadm` wants it: `-t 203.0.113.21:21`, `-f 21`, `-f 21 -6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { protocol, at } if *protocol == Protocol::UDP.0 => write!(f, "-u {at}"),
            Self::Endpoint { at, .. } => write!(f, "-t {at}"),
            Self::Mark { mark, ipv6: false } => write!(f, "-f {mark}"),
            Self::Mark { mark, ipv6: true } => write!(f, "-f {mark} -6"),
        }
    }
}

/// The mark where an entry has a virtual address: an address whose first four bytes are the mark, as Linux prints it.
pub(super) fn mark_address(mark: u32, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(mark).into(),
        Family::V6 => Ipv6Addr::from_bits(u128::from(mark) << 96).into(),
    }
}

/// Time that a client stays with a real server, and what counts as the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Persistence {
    /// Time after the last new connection (`-p`, 300 seconds where nothing is said).
    pub timeout: Duration,
    /// Number of leading bits of the address that make the client (`-M`): at most 32 or 128.
    pub prefix: u8,
}

impl Persistence {
    /// The part of a client's address that counts.
    pub(super) fn client(self, address: IpAddr) -> IpAddr {
        let prefix = u32::from(self.prefix);
        match address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into(),
        }
    }
}

/// Flags of the schedulers `sh` and `mh` (`-b`); only `sh` uses them here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct SchedulerFlags {
    /// `sh-fallback`: while a source's server takes no connections, another one does.
    pub fallback: bool,
    /// `sh-port`: the source port counts beside the address.
    pub port: bool,
}

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The address (`-r`).
    pub address: IpAddr,
    /// The port; 0 for the port that the client connected to.
    pub port: u16,
    /// Returns the forwarding method.
    pub forwarding: Forwarding,
    /// The weight (`-w`, 0 to 65535); 0 takes no new clients.
    pub weight: u32,
    /// With this many connections it takes no more (`-x`); 0 for no limit.
    pub upper: u32,
    /// Below this many it takes connections again (`-y`); 0 for three quarters of the upper threshold.
    pub lower: u32,
}

impl ServerConfig {
    /// A server of weight 1 without thresholds.
    #[must_use]
    pub const fn new(address: IpAddr, port: u16, forwarding: Forwarding) -> Self {
        Self { address, port, forwarding, weight: 1, upper: 0, lower: 0 }
    }

    /// The same with another weight.
    #[must_use]
    pub const fn weighing(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// The same with thresholds, as [`ServerConfig::upper`] and [`ServerConfig::lower`].
    #[must_use]
    pub const fn between(self, lower: u32, upper: u32) -> Self {
        Self { upper, lower, ..self }
    }
}

/// Forwarding method of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarding {
    /// `-m`: address and port are rewritten, and replies come back through here.
    Masquerade,
    /// `-g`: unchanged but for the time to live; the real server has the virtual address too, and answers itself.
    Route,
    /// `-i`: in an outer IP packet; the real server answers itself.
    Tunnel,
}

impl Forwarding {
    /// As `/proc/net/ip_vs` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "Masq",
            Self::Route => "Route",
            Self::Tunnel => "Tunnel",
        }
    }
}

/// Algorithm that chooses a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheduler {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as it weighs.
    WeightedRoundRobin,
    /// The one with the least connections.
    LeastConnection,
    /// The one with the least connections for its weight.
    WeightedLeastConnection,
    /// The one with the shortest expected delay: (active + 1) / weight.
    ShortestExpectedDelay,
    /// One that is idle, else the one with the shortest expected delay.
    NeverQueue,
    /// By the client's address.
    SourceHashing,
    /// By the virtual address.
    DestinationHashing,
}

impl Scheduler {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::RoundRobin, "rr"),
        (Self::WeightedRoundRobin, "wrr"),
        (Self::LeastConnection, "lc"),
        (Self::WeightedLeastConnection, "wlc"),
        (Self::ShortestExpectedDelay, "sed"),
        (Self::NeverQueue, "nq"),
        (Self::SourceHashing, "sh"),
        (Self::DestinationHashing, "dh"),
    ];

    #[cfg(test)]
    pub(super) const ALL_FOR_TESTS: [Self; 8] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::SourceHashing,
        Self::DestinationHashing,
    ];

    /// The scheduler of this name.
    ///
    /// ```
    /// use ftp_conntrack::ipvs::Scheduler;
    ///
    /// assert_eq!(Scheduler::from_name("wlc"), Some(Scheduler::WeightedLeastConnection));
    /// assert_eq!(Scheduler::from_name("lblc"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(scheduler, _)| *scheduler)
    }

    /// Name of the connection.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(scheduler, _)| *scheduler == self).map_or("none", |(_, name)| name)
    }
}

/// Settings of the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Maximum number of connection entries; Linux has no bound but memory. About 400 bytes each.
    pub entries: u32,
    /// True if connections through IPVS stay in the connection tracker (`conntrack`). Those that `ip_vs_ftp` reads do
    /// in any case.
    pub conntrack: bool,
    /// Handling of a SYN on an entry whose connection is over (`conn_reuse_mode`): bit 0, it is scheduled anew after
    /// TIME_WAIT or a reset; bit 1, after FIN_WAIT too where replies do not come through here; 0, it never is.
    pub reuse_mode: u8,
    /// True if any segment but a reset may begin a connection (`sloppy_tcp`).
    pub sloppy_tcp: bool,
    /// True if the persistence of a server whose weight is 0 is forgotten (`expire_quiescent_template`).
    pub expire_quiescent_template: bool,
    /// Time that each TCP state lasts, by [`super::State`].
    pub tcp: TcpTimeouts,
    /// Time that UDP is remembered (`ipvsadm --set`).
    pub udp: Duration,
    /// Number of buckets of the kernel's table (`conn_tab_bits`); only printed.
    pub table_size: u32,
    /// Number of jiffies in a second (`CONFIG_HZ`), in which `/proc/net/ip_vs` prints the time of persistence.
    pub hertz: u32,
}

/// Time that TCP states last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpTimeouts {
    /// ESTABLISHED (`ipvsadm --set`).
    pub established: Duration,
    /// FIN_WAIT (`ipvsadm --set`).
    pub fin_wait: Duration,
    /// SYN_SENT.
    pub syn_sent: Duration,
    /// SYN_RECV.
    pub syn_received: Duration,
    /// TIME_WAIT.
    pub time_wait: Duration,
    /// CLOSE.
    pub close: Duration,
    /// CLOSE_WAIT.
    pub close_wait: Duration,
    /// LAST_ACK.
    pub last_ack: Duration,
    /// LISTEN: an entry that waits for a data connection.
    pub listen: Duration,
}

impl Default for TcpTimeouts {
    /// The kernel's (`tcp_timeouts` of ip_vs; most of them seen in recordings).
    fn default() -> Self {
        Self {
            established: Duration::from_secs(900),
            fin_wait: Duration::from_secs(120),
            syn_sent: Duration::from_secs(120),
            syn_received: Duration::from_secs(60),
            time_wait: Duration::from_secs(120),
            close: Duration::from_secs(10),
            close_wait: Duration::from_secs(60),
            last_ack: Duration::from_secs(30),
            listen: Duration::from_secs(120),
        }
    }
}

impl Default for Settings {
    /// The kernel's defaults, with room for 65536 entries; 250 jiffies a second, as Debian has it.
    fn default() -> Self {
        Self {
            entries: 65_536,
            conntrack: false,
            reuse_mode: 1,
            sloppy_tcp: false,
            expire_quiescent_template: false,
            tcp: TcpTimeouts::default(),
            udp: Duration::from_secs(300),
            table_size: 4096,
            hertz: 250,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_as_much_of_its_address_as_counts() {
        let client =
            |prefix, address: &str| Persistence { timeout: Duration::ZERO, prefix }.client(address.parse().unwrap());
        let text = |address: &str| address.parse::<IpAddr>().unwrap();
        assert_eq!(client(24, "198.51.100.7"), text("198.51.100.0"));
        assert_eq!(client(32, "198.51.100.7"), text("198.51.100.7"));
        assert_eq!(client(0, "198.51.100.7"), text("0.0.0.0"));
        assert_eq!(client(64, "2001:db8:7:8:9::a"), text("2001:db8:7:8::"));
        assert_eq!(client(128, "2001:db8::a"), text("2001:db8::a"));
    }

    #[test]
    fn every_scheduler_has_its_name() {
        for scheduler in Scheduler::ALL_FOR_TESTS {
            assert_eq!(Scheduler::from_name(scheduler.name()), Some(scheduler));
        }
    }
}
