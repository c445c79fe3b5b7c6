//! Virtual services and their real servers (`ip_vs`, `ip_vs_ftp`).
//!
//! # FTP behind a load balancer
//!
//! Clients know one virtual address. Their control connections, to its port 21, are spread over real servers. Data
//! connections are the trouble: active ones come back out from the real server's port 20, passive ones come in to a
//! high port of the virtual address. Each must meet the real server of its control connection. There are two ways, and
//! they work together.
//!
//! **A firewall mark and persistence**, as the LVS documents have it. Port 21 and the passive ports of the virtual
//! address get one mark, 21, in table mangle. The service answers for the mark. A persistent one keeps each client with
//! one real server, whichever marked port it dials:
//!
//! ```text
//! iptables -t mangle -A PREROUTING -p tcp -d 203.0.113.21 --dport 21 -j MARK --set-mark 21
//! iptables -t mangle -A PREROUTING -p tcp -d 203.0.113.21 --dport 10000:20000 -j MARK --set-mark 21
//! iptables -t nat -A POSTROUTING -p tcp -s 10.77.1.0/24 --sport 20 -j MASQUERADE
//! ipvsadm -A -f 21 -s rr -p 300
//! ipvsadm -a -f 21 -r 10.77.1.11 -m
//! ```
//!
//! Nobody reads FTP here. So the real servers must announce passive ports between 10000 and 20000 (`pasv_min_port`,
//! `pasv_max_port`), and the virtual address rather than their own (`pasv_address`). What a real server opens from port
//! 20 belongs to no entry; only the MASQUERADE rule lets it leave, with the first address of the interface: a client
//! that wants active data from the virtual address will not have it. And two clients behind one NAT address share a
//! real server.
//!
//! **`ip_vs_ftp`**, only with masquerading. It reads control connections on its ports. A 227 or 229, when the client
//! asked for it, makes an entry that waits for the client at the port that the real server named. The text gets the
//! virtual address: neither marks on passive ports nor persistence nor `pasv_address` are wanted. A PORT or EPRT makes
//! an entry for the real server's port 20, so that active data leaves with the virtual address. It rewrites through the
//! connection tracker, and a 227 of a connection that is not tracked is dropped.
//!
//! # Without persistence, without marked ports
//!
//! Under [`Behaviour::Exact`](crate::Behaviour::Exact) there is a third way, which Linux does not have: the helper
//! reads the control connections that it is attached to (`CT --helper ftp` on port 21, or
//! [`RouterConfig::helper_ports`](crate::router::RouterConfig::helper_ports)), and what is announced leads the data
//! connections. A plain
//! `-A -t 203.0.113.21:21 -s rr` is enough: clients behind one NAT address meet as many real servers as there are, and
//! each of their data connections meets its own, active and passive. A 227 or 229 gets the virtual address and a port
//! that no other real server announced to the same address. What a real server opens leaves with the virtual address.
//! These data connections have no entries; the entry of their control connection lives as long as they do.
//!
//! With direct routing and tunnels no reply comes through here. There the client's next connection after its PASV or
//! EPSV follows it to its real server. While clients of one address have asked two real servers at once, nobody can say
//! whose connection comes: the services decide, by persistence where they have it, and
//! [`BalancedContested`](crate::event::Event::BalancedContested) tells of it.
//!
//! ```
//! use core::time::Duration;
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::ipvs::{IpvsConfig, Forwarding, Ipvs, Scheduler, ServerConfig, ServiceAddress, ServiceConfig};
//!
//! // ipvsadm -A -f 21 -s rr -p 300; ipvsadm -a -f 21 -r 10.77.1.11 -m; ...
//! let mut config = IpvsConfig::default();
//! let address = ServiceAddress::mark(21);
//! let mut service = ServiceConfig::new(address, Scheduler::RoundRobin).persistent(Duration::from_secs(300));
//! for last in [11, 12, 13] {
//!     service = service.with_server(ServerConfig::new([10, 77, 1, last].into(), 0, Forwarding::Masquerade));
//! }
//! config.services.push(service);
//! config.ftp_ports.push(21);
//!
//! let ipvs = Ipvs::new(config, [1, 2]);
//! let mut text = String::new();
//! ipvs.write_proc(&mut text)?;
//! let expected = "FWM  00000015 rr persistent 75000 FFFFFFFF\n  -> 0A4D010D:0000      Masq    1      0          0";
//! assert!(text.contains(expected), "{text}");
//! assert!(ipvs.iter(Instant::from_secs(0)).next().is_none());
//! # Ok::<(), core::fmt::Error>(())
//! ```
//!
//! [`crate::router::RouterConfig::ipvs`] puts it where it belongs: requests are taken where packets for this machine
//! arrive, after table filter's INPUT. They leave through OUTPUT and POSTROUTING, never through FORWARD. Replies get
//! the virtual address behind table filter's FORWARD.

mod app;
mod config;
mod entry;
mod forward;
mod ftp;
mod icmp;
mod lifetime;
mod passive;
mod proc;
mod request;
mod schedule;
mod service;
mod state;
mod table;
mod tracking;

pub use config::{
    Forwarding, IpvsConfig, Persistence, Scheduler, SchedulerFlags, ServerConfig, ServiceAddress, ServiceConfig,
    Settings, TcpTimeouts,
};
pub use entry::{Entry, EntryId};
pub use service::Server;
pub use state::State;

pub(crate) use forward::{Answered, encapsulate};
pub(crate) use request::{Arrival, Refused};

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::Instant;
use crate::hash::TableKey;
use crate::packet::{Family, Protocol};
use service::Services;
use table::Table;

/// The load balancer: services, real servers, and all entries, in memory taken when it is made.
pub struct Ipvs {
    settings: Settings,
    ftp_ports: Vec<u16>,
    services: Services,
    table: Table,
    /// True if connections that a helper reads stay tracked.
    follows: bool,
}

impl core::fmt::Debug for Ipvs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ipvs").field("entries", &self.len()).finish_non_exhaustive()
    }
}

impl Ipvs {
    /// A load balancer without entries. `key` keys its hash table: it should come from a source that the network
    /// cannot guess.
    #[must_use]
    pub fn new(config: IpvsConfig, key: [u64; 2]) -> Self {
        Self {
            services: Services::new(&config),
            table: Table::new(config.settings.entries, TableKey::new(key)),
            settings: config.settings,
            ftp_ports: config.ftp_ports,
            follows: false,
        }
    }

    /// Returns the settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The control ports that `ip_vs_ftp` reads; none where it is not there.
    #[must_use]
    pub fn ftp_ports(&self) -> &[u16] {
        &self.ftp_ports
    }

    /// The services, in the order in which they were added.
    pub fn services(&self) -> impl Iterator<Item = &ServiceConfig> {
        self.services.all.iter().map(|service| &service.config)
    }

    /// The real servers of a service, by its number, in the order in which they were added, and what they have to do.
    pub fn servers(&self, service: usize) -> impl Iterator<Item = &Server> {
        let own = self.services.all.get(service).and_then(|s| self.services.servers.get(s.servers.clone()));
        own.unwrap_or_default().iter().rev()
    }

    /// Changes the weight of a real server, by the numbers of service and server in the order in which they were added:
    /// 0 lets it keep its clients and take no new ones. False when there is no such server.
    pub fn set_weight(&mut self, service: usize, server: usize, weight: u32) -> bool {
        self.services.set_weight(service, server, weight)
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry by its name.
    #[must_use]
    pub fn get(&self, id: EntryId) -> Option<&Entry> {
        Some(self.table.at(self.table.slot(id)?))
    }

    /// All entries whose time is not over, or who have others that depend on them.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.table.iter().filter(move |(_, entry)| !entry.deadline.has_passed(now) || entry.controlled > 0)
    }

    /// Returns true if an entry waits for a connection of a client's address, whatever port it comes from, to a virtual
    /// endpoint.
    #[must_use]
    pub fn is_expected(&self, now: Instant, protocol: Protocol, client: IpAddr, dialled: SocketAddr) -> bool {
        let slot = self.table.by_client(protocol, SocketAddr::new(client, 0), dialled);
        slot.is_some_and(|slot| self.lives(now, slot))
    }

    /// Returns true if the services make Linux track the connections of a family.
    pub(crate) fn wants_tracking(&self, family: Family) -> bool {
        self.services.want_tracking(family)
    }

    /// From now on connections that a helper reads stay tracked, and are left to it: its expectations lead their data
    /// connections, and `ip_vs_ftp` reads none of them.
    pub(crate) const fn follow_helped(&mut self) {
        self.follows = true;
    }

    /// Returns the tail room that a packet may need: text that grows, or a tunnel's outer header.
    pub(crate) fn room(&self, has_payload: bool) -> usize {
        let text = if has_payload && !self.ftp_ports.is_empty() { crate::ftp::MAX_TEXT } else { 0 };
        if self.services.has_tunnels { text.max(forward::OUTER_HEADER) } else { text }
    }
}
