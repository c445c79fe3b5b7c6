//! The order in which one packet meets all the other layers: the hooks, interfaces and routes, and the verdict.
//!
//! ```
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::netfilter::{Hook, Cidr, Match, NatRange, PortRange, Rule, TableName, Target};
//! use ftp_conntrack::packet::{Packet, Protocol};
//! use ftp_conntrack::router::{RouterConfig, Interface, Outbox, Route, Router, Verdict};
//!
//! let mut config = RouterConfig::default();
//! config.interfaces = vec![
//!     Interface::new("lan").with_address("10.77.1.1".parse()?, 24),
//!     Interface::new("wan").with_address("203.0.113.1".parse()?, 24),
//! ];
//! config.routes = vec![
//!     Route::on_link(Cidr::new("10.77.1.0".parse()?, 24).unwrap(), 0),
//!     Route::on_link(Cidr::new("0.0.0.0".parse()?, 0).unwrap(), 1),
//! ];
//! config.rules4.append(TableName::Raw, Hook::Prerouting, Rule::new(Target::helper("ftp"))
//!     .when(Match::Protocol(Protocol::TCP)).when(Match::DestinationPorts(vec![PortRange::one(21)])));
//! config.rules4.append(TableName::Nat, Hook::Postrouting, Rule::new(Target::Masquerade(NatRange::default()))
//!     .when(Match::OutInterface("wan".into())));
//! let mut router = Router::new(config, [1, 2, 3, 4])?;
//! let mut outbox = Outbox::new(64, 1 << 16);
//!
//! // 10.77.1.2:40000 > 198.51.100.9:21, SYN
//! let mut buffer = [0; 40 + Packet::ROOM];
//! buffer[..40].copy_from_slice(&[
//!     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x05, 0x44, 10, 77, 1, 2, 198, 51, 100, 9,
//!     0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
//! ]);
//! let mut packet = Packet::new(&mut buffer, 0..40)?;
//! let verdict = router.process(Instant::from_secs(0), 0, &mut packet, &mut outbox);
//! assert_eq!(verdict, Verdict::Forward { interface: 1, next_hop: "198.51.100.9".parse()? });
//! assert_eq!(packet.bytes()[12..16], [203, 0, 113, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adopt;
mod answer;
mod balance;
mod error;
mod exact;
mod fast_path;
mod fragments;
mod interfaces;
mod ipv4_options;
mod outbox;
mod packet_context;
mod parts;
mod routing;
mod slow_path;
mod sources;
mod tables;
mod tracking;
mod translation;

pub use error::RouterError;
#[cfg_attr(not(feature = "capture"), allow(unused_imports))]
pub(crate) use fragments::{Fragments, Gathered};
pub use interfaces::{AddressScope, Interface, InterfaceAddress, InterfaceSettings, ReversePath, Route, RouteKind};
pub use outbox::{Egress, Outbox, Outgoing};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::conntrack::{self, Conntrack};
use crate::event::{DropReason, Event};
use crate::helper::{FtpHelper, HelperConfig};
use crate::ipvs::{self, Ipvs};
use crate::nat::{Nat, PortChooser};
use crate::netfilter::nft::{Nft, NftRuleset, NftState};
use crate::netfilter::{Chance, IpSet, MemoryPlan, Origin, RecentSizes, RuleMemory, Rules, Ruleset};
use crate::packet::{DEFAULT_HOP_LIMIT, Family, Headers, MAX_BUILT, Packet};
use crate::{Behaviour, Instant};
use interfaces::Network;

/// The configuration of a router.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouterConfig {
    /// Interfaces; their places in this list are their numbers everywhere else.
    pub interfaces: Vec<Interface>,
    /// Routes, of both families.
    pub routes: Vec<Route>,
    /// Rules for IPv4.
    pub rules4: Ruleset,
    /// Rules for IPv6.
    pub rules6: Ruleset,
    /// Tables of nftables.
    pub nft: NftRuleset,
    /// Sets of `ipset`, which rules name.
    pub sets: Vec<IpSet>,
    /// Sizes of the lists of `-m recent`.
    pub recent_sizes: RecentSizes,
    /// Configuration of the tracker.
    pub conntrack: conntrack::ConntrackConfig,
    /// Configuration of the FTP helper.
    pub helper: HelperConfig,
    /// Destination ports of connections that get the helper without a rule (`nf_conntrack_helper` = 1, gone since
    /// Linux 6.0).
    pub helper_ports: Vec<u16>,
    /// Configuration of the load balancer.
    pub ipvs: Option<ipvs::IpvsConfig>,
    /// True if arriving packets with a wrong checksum in their IPv4 header are dropped, as Linux does.
    pub header_checksum: bool,
    /// True if arriving packets with a wrong checksum in their transport header are invalid (`nf_conntrack_checksum`,
    /// which kernels set). Captures often have them, where hardware was to fill them in.
    pub checksum: bool,
    /// The packets that are tracked: of IPv4, and of IPv6. A load balancer with services tracks on demand in any case.
    pub tracking: [TrackingScope; 2],
    /// Maximum number of packets that wait for missing fragments at once, 64 KiB each.
    pub fragments: usize,
    /// Settings of the IP layer.
    pub ip: IpSettings,
}

/// Which packets of a family are tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackingScope {
    /// All.
    #[default]
    Everything,
    /// All if a rule of the family needs it, and none otherwise, as in Linux: rules that match connection states, translate
    /// addresses or attach a helper do.
    OnDemand,
}

/// Settings of the IP layer that hold for all interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpSettings {
    /// Time to live of IPv4 packets that this machine makes (`net.ipv4.ip_default_ttl`).
    pub default_ttl: u8,
    /// True if ICMP errors come from the address of the interface of arrival (`net.ipv4.icmp_errors_use_inbound_ifaddr`).
    pub errors_use_inbound_address: bool,
    /// True if IPv6 packets are forwarded (`net.ipv6.conf.all.forwarding`).
    pub ipv6_forwarding: bool,
}

impl Default for IpSettings {
    /// A router's: it forwards, and nothing else differs from the kernel's default.
    fn default() -> Self {
        Self { default_ttl: DEFAULT_HOP_LIMIT, errors_use_inbound_address: false, ipv6_forwarding: true }
    }
}

impl Default for RouterConfig {
    /// No interfaces, routes or rules; transport checksums are not looked at; room for 16 packets in fragments.
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            routes: Vec::new(),
            rules4: Ruleset::default(),
            rules6: Ruleset::default(),
            nft: NftRuleset::default(),
            sets: Vec::new(),
            recent_sizes: RecentSizes::default(),
            conntrack: conntrack::ConntrackConfig::default(),
            helper: HelperConfig::default(),
            helper_ports: Vec::new(),
            ipvs: None,
            header_checksum: true,
            checksum: false,
            tracking: [TrackingScope::Everything; 2],
            fragments: 16,
            ip: IpSettings::default(),
        }
    }
}

/// The router's decision about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It leaves.
    Forward {
        /// The number of the interface it leaves by.
        interface: usize,
        /// Next hop: a gateway, or the destination.
        next_hop: IpAddr,
    },
    /// It is for this machine.
    Local,
    /// It is gone.
    Drop(DropReason),
    /// It is kept, and leaves with others through the outbox, now or later, or never.
    Held,
    /// It needs this many bytes of room behind it. Nothing was changed: give it the room and call again.
    NeedsRoom(usize),
}

impl core::fmt::Display for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Forward { interface, next_hop } => write!(f, "forward by interface {interface} to {next_hop}"),
            Self::Local => f.write_str("deliver to this machine"),
            Self::Drop(reason) => write!(f, "drop: {reason}"),
            Self::Held => f.write_str("hold"),
            Self::NeedsRoom(bytes) => write!(f, "needs {bytes} bytes of room after it"),
        }
    }
}

/// A router.
pub struct Router {
    network: Network,
    rules: [Rules; 2],
    nft_state: NftState,
    memory: RuleMemory,
    conntrack: Conntrack,
    nat: Nat,
    helper: FtpHelper,
    helper_ports: Vec<u16>,
    ipvs: Option<Ipvs>,
    /// True if connections are tracked, by family: where a rule, a helper or a service wants it.
    tracks: [bool; 2],
    /// True if only connection and routes decide about forwarded packets of open connections, by family.
    has_fast_path: [bool; 2],
    header_checksum: bool,
    checksum: bool,
    ip: IpSettings,
    fragments: Fragments,
    /// Buffer for packets that the router makes.
    scratch: Box<[u8]>,
    /// The interface that a packet of this machine's own is sent by, while one is.
    output_link: Option<usize>,
    /// Identifications of ICMP errors.
    identifications: PortChooser,
    /// Packets that leave because of the packet at hand, under behaviour Exact.
    released: Outbox,
}

impl core::fmt::Debug for Router {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Router").field("conntrack", &self.conntrack).finish_non_exhaustive()
    }
}

impl Router {
    /// Makes a router, and takes all the memory it will need. `seeds` key its hash tables and its choice of ports:
    /// they should come from a source that the network cannot guess; the same seeds and packets give the same bytes.
    ///
    /// # Errors
    /// When the configuration cannot be meant: see [`RouterError`].
    pub fn new(mut config: RouterConfig, seeds: [u64; 4]) -> Result<Self, RouterError> {
        error::check(&config)?;
        config.conntrack.accounting |= config.rules4.wants_accounting() || config.rules6.wants_accounting();
        let names: Vec<&str> = config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        let has_nft = !config.nft.is_empty();
        let nft = if has_nft { Some(Arc::new(Nft::new(&config.nft, &names)?)) } else { None };
        let asks_counters = nft.as_ref().is_some_and(|nft| nft.asks_counters());
        let mut conntrack = config.conntrack;
        conntrack.accounting |= asks_counters;
        let connections = conntrack.limits.connections;
        let nft_state =
            nft.as_ref().map(|nft| nft.initial_state(connections, [seeds[3], seeds[1]])).unwrap_or_default();
        let mut plan = MemoryPlan::new(config.sets, &names, config.recent_sizes);
        let rules = [
            Rules::with_memory(&config.rules4, Family::V4, &names, &mut plan, nft.clone())?,
            Rules::with_memory(&config.rules6, Family::V6, &names, &mut plan, nft)?,
        ];
        let memory = RuleMemory::new(&plan, connections, [seeds[3], seeds[1]]);
        let helped = conntrack.limits.helped;
        let released = match config.helper.behaviour {
            Behaviour::Linux => Outbox::new(0, 0),
            Behaviour::Exact => Outbox::new(64, 1 << 17),
        };
        let [a, b, c, d] = seeds;
        let mut ipvs = config.ipvs.map(|ipvs| Ipvs::new(ipvs, [b, c]));
        let follows = config.helper.behaviour == Behaviour::Exact && config.helper.enabled && config.helper.rewrites;
        if let Some(ipvs) = ipvs.as_mut().filter(|_| follows) {
            ipvs.follow_helped();
        }
        let tracks = tracked_families(
            config.tracking,
            ipvs.as_ref(),
            [&config.rules4, &config.rules6],
            has_nft || !config.helper_ports.is_empty(),
        );
        let is_plain = ipvs.is_none();
        let has_fast_path = [0, 1].map(|family| is_plain && tracks[family] && rules[family].let_pass_what_is_sent_on());
        Ok(Self {
            ipvs,
            tracks,
            has_fast_path,
            network: Network::new(config.interfaces, config.routes, config.ip.ipv6_forwarding),
            rules,
            nft_state,
            memory,
            conntrack: Conntrack::new(conntrack, [a, b]),
            nat: Nat::new([c, d]),
            helper: FtpHelper::new(config.helper, helped),
            helper_ports: config.helper_ports,
            header_checksum: config.header_checksum,
            checksum: config.checksum,
            ip: config.ip,
            fragments: Fragments::new(config.fragments),
            scratch: vec![0; MAX_BUILT + Packet::ROOM].into(),
            output_link: None,
            identifications: PortChooser::new([d, c]),
            released,
        })
    }

    /// A packet arrived on an interface. Change it as the verdict says it goes on; what else leaves is put into the
    /// outbox.
    pub fn process(&mut self, now: Instant, interface: usize, packet: &mut Packet<'_>, outbox: &mut Outbox) -> Verdict {
        let passed = match packet.bytes().first().map(|first| first >> 4) {
            Some(4) => self.fast_path_v4(now, interface, packet),
            Some(6) => self.fast_path_v6(now, interface, packet),
            _ => None,
        };
        if let Some(verdict) = passed {
            leave_checksum_to_device(packet);
            return verdict;
        }
        let verdict = self.process_slow_path(now, Some(interface), packet, outbox);
        self.released.move_to(outbox);
        leave_checksum_to_device(packet);
        verdict
    }

    /// This machine sends a packet itself.
    pub fn output(&mut self, now: Instant, packet: &mut Packet<'_>, outbox: &mut Outbox) -> Verdict {
        let verdict = self.process_slow_path(now, None, packet, outbox);
        self.released.move_to(outbox);
        leave_checksum_to_device(packet);
        verdict
    }

    /// Sends a packet of this machine's own that was sent by one interface (`SO_BINDTODEVICE`, `IP_MULTICAST_IF`): groups
    /// and broadcasts leave by it, whatever the routes are.
    pub fn output_by(
        &mut self,
        now: Instant,
        interface: usize,
        packet: &mut Packet<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        self.output_link = Some(interface);
        let verdict = self.output(now, packet, outbox);
        self.output_link = None;
        verdict
    }

    /// When [`Router::handle_timeout`] should be called next; it may then find nothing to do. Every other call may
    /// change it.
    pub fn poll_at(&self) -> Option<Instant> {
        let ipvs = self.ipvs.as_ref().and_then(Ipvs::poll_at);
        [self.conntrack.poll_at(), self.fragments.poll_at(), self.helper.poll_at(), ipvs].into_iter().flatten().min()
    }

    /// Does what only time brings: forgets connections and parts of packets that had their time, and sends again what was
    /// held back ([`Behaviour::Exact`]) and did not arrive.
    pub fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        self.conntrack.handle_timeout(now);
        if self.helper.is_exact() {
            self.send_again(now, outbox);
        }
        if let Some(ipvs) = &mut self.ipvs {
            ipvs.handle_timeout(now, &mut self.conntrack);
        }
        self.fragments.handle_timeout(now);
    }

    /// The oldest event that was not taken yet, and when it happened.
    pub fn poll_event(&mut self) -> Option<(Instant, Event)> {
        self.conntrack.events.pop()
    }

    /// Returns the tracker.
    #[must_use]
    pub const fn conntrack(&self) -> &Conntrack {
        &self.conntrack
    }

    /// Returns the tracker, to delete from, to flush, and to set marks in.
    pub const fn conntrack_mut(&mut self) -> &mut Conntrack {
        &mut self.conntrack
    }

    /// Returns the load balancer.
    #[must_use]
    pub const fn ipvs(&self) -> Option<&Ipvs> {
        self.ipvs.as_ref()
    }

    /// Returns the load balancer, to change weights in.
    pub const fn ipvs_mut(&mut self) -> Option<&mut Ipvs> {
        self.ipvs.as_mut()
    }

    #[cfg(all(feature = "capture", feature = "config"))]
    pub(crate) const fn nat_mut(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// Returns what decides where rules leave it to chance, to suggest outcomes to.
    pub const fn chance_mut(&mut self) -> &mut Chance {
        self.memory.chance_mut()
    }

    /// Returns the interfaces, by number.
    #[must_use]
    pub const fn interfaces(&self) -> &[Interface] {
        &self.network.interfaces
    }

    /// Returns true if an address is this machine's own.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.network.is_local(address)
    }

    /// The number of the interface by which packets to an address leave; for an address of this machine, the one that
    /// has it.
    #[must_use]
    pub fn interface_towards(&self, address: IpAddr) -> Option<usize> {
        self.network.interface_towards(address)
    }

    /// Returns the place where a rule that an event names was read.
    #[must_use]
    pub fn rule_origin(&self, family: Family, rule: usize) -> Option<&Origin> {
        self.rules[family_index(family)].origin(rule)
    }
}

/// Returns the families whose connections are tracked. Linux tracks where something asks for it.
fn tracked_families(scopes: [TrackingScope; 2], ipvs: Option<&Ipvs>, rules: [&Ruleset; 2], helped: bool) -> [bool; 2] {
    let ipvs = ipvs.filter(|ipvs| ipvs.services().next().is_some());
    [Family::V4, Family::V6].map(|family| {
        let index = family_index(family);
        let is_asked_for =
            helped || rules[index].wants_tracking() || ipvs.is_some_and(|ipvs| ipvs.wants_tracking(family));
        is_asked_for || ipvs.is_none() && scopes[index] == TrackingScope::Everything
    })
}

/// Sums the pseudo-header of the addresses that the packet has now, if a network card is to fill in the rest.
#[inline]
fn leave_checksum_to_device(packet: &mut Packet<'_>) {
    if packet.checksum_is_left_to_device()
        && let Ok(headers) = Headers::find(packet.bytes())
    {
        headers.sum_pseudo_header_only(packet.bytes_mut());
    }
}

const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
