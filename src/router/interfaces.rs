//! The machine's interfaces, addresses and routes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::conntrack::NotedRoute;
use crate::netfilter::{AddressTypes, Cidr, HostInfo, WayBack};
use crate::packet::{Address, DEFAULT_HOP_LIMIT, Family};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Name of the device.
    pub name: String,
    /// Addresses, in the order of configuration.
    pub addresses: Vec<InterfaceAddress>,
    /// The longest packet it takes, from the IP header, in bytes.
    pub mtu: usize,
    /// The kernel's settings for it.
    pub settings: InterfaceSettings,
}

/// Settings of an interface, as Linux has them under `net.ipv4.conf` and `net.ipv6.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceSettings {
    /// True if IPv4 packets that arrive here are forwarded (`net.ipv4.conf.NAME.forwarding`).
    pub forwarding: bool,
    /// True if it is a router's interface for IPv6: all-routers groups and subnet-router anycast addresses are its own
    /// (`net.ipv6.conf.NAME.forwarding`).
    pub is_ipv6_router: bool,
    /// Validation of IPv4 sources (`rp_filter`, the higher one of the interface's and `all`).
    pub reverse_path: ReversePath,
    /// True if IPv4 packets from an address of this machine are accepted (`accept_local`).
    pub accept_local: bool,
    /// True if packets to 127.0.0.0/8 are accepted (`route_localnet`).
    pub route_localnet: bool,
    /// Hop limit of IPv6 packets that this machine makes and sends here (`net.ipv6.conf.NAME.hop_limit`).
    pub hop_limit: u8,
    /// True if neighbours are resolved here, so that the interface is in the groups of its own IPv6 addresses; false for
    /// devices with the flag `NOARP`.
    pub resolves_neighbours: bool,
}

impl Default for InterfaceSettings {
    /// A router's: it forwards, and nothing else differs from the kernel's default.
    fn default() -> Self {
        Self {
            forwarding: true,
            is_ipv6_router: true,
            reverse_path: ReversePath::Off,
            accept_local: false,
            route_localnet: false,
            hop_limit: DEFAULT_HOP_LIMIT,
            resolves_neighbours: true,
        }
    }
}

/// Validation of IPv4 sources by the way back (RFC 3704; `rp_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReversePath {
    /// None (0).
    #[default]
    Off,
    /// The way back leads through the interface of arrival (1).
    Strict,
    /// There is a way back (2).
    Loose,
}

impl Interface {
    /// An interface with an MTU of 1500 and no addresses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), addresses: Vec::new(), mtu: 1500, settings: InterfaceSettings::default() }
    }

    /// The same interface with another address.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr, prefix: u8) -> Self {
        self.addresses.push(InterfaceAddress { address, prefix, scope: AddressScope::Global, secondary: false });
        self
    }
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Number of leading bits of the network.
    pub prefix: u8,
    /// Scope of the address.
    pub scope: AddressScope,
    /// True if another address of the same network was configured before.
    pub secondary: bool,
}

impl InterfaceAddress {
    fn network(self) -> Option<Cidr> {
        Cidr::new(self.address, self.prefix)
    }
}

/// The scope in which an address may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AddressScope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// On this machine.
    Host,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Route {
    /// Network that it leads to.
    pub destination: Cidr,
    /// The number of the interface it leaves by.
    pub interface: usize,
    /// Next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address of packets that this machine sends along it.
    pub source: Option<IpAddr>,
    /// Of two routes to the same network the one with the lower metric counts.
    pub metric: u32,
    /// Kind of the route: unicast, or a refusal.
    pub kind: RouteKind,
}

impl Route {
    /// A route to a network on the link of an interface.
    #[must_use]
    pub const fn on_link(destination: Cidr, interface: usize) -> Self {
        Self { destination, interface, gateway: None, source: None, metric: 0, kind: RouteKind::Unicast }
    }

    /// A route through a gateway.
    #[must_use]
    pub const fn through(destination: Cidr, interface: usize, gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), ..Self::on_link(destination, interface) }
    }
}

/// The kind of a route: unicast, or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteKind {
    /// It does.
    Unicast,
    /// To this machine.
    Local,
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told that the host is unreachable.
    Unreachable,
    /// Nowhere, and the sender is told that it is prohibited.
    Prohibit,
}

/// The destination of a packet after routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Local,
    Via { interface: usize, next_hop: IpAddr },
    Nowhere(RouteKind),
}

/// Number of destinations whose route is remembered.
const CACHED: usize = 256;

/// The route that was found for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    address: Address,
    pub(crate) destination: Destination,
    /// True for broadcast and multicast addresses.
    pub(crate) is_for_many: bool,
    /// The longest packet that the link takes by which packets to it leave.
    pub(crate) mtu: usize,
    /// The address that this machine uses towards it.
    source: Option<IpAddr>,
}

/// A route by which packets are sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    pub(crate) interface: usize,
    gateway: Option<IpAddr>,
    /// The longest packet that the link takes.
    pub(crate) mtu: usize,
}

impl Onward {
    /// Returns the next hop to an address.
    #[inline(always)]
    pub(crate) fn next_hop(&self, address: Address) -> IpAddr {
        match self.gateway {
            Some(gateway) => gateway,
            None => address.into(),
        }
    }
}

/// Interfaces and routes, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// The last destination of each kind of low bits; routes do not change.
    cache: Box<[Resolved; CACHED]>,
    pub(crate) interfaces: Box<[Interface]>,
    /// The interface by which this machine sends to itself: the one with the loopback address.
    pub(crate) loopback: Option<usize>,
    /// Every address of this machine, sorted, with its interface.
    local: Box<[(IpAddr, usize)]>,
    /// Subnet-router anycast addresses (RFC 4291 section 2.6.1), sorted. Link-local ones are left out: they depend on the
    /// interface.
    anycast: Box<[Ipv6Addr]>,
    /// A bit for each IPv4 address of this machine, by [`low_bit`]: what is not among them need not be looked for.
    local_bits: u64,
    /// True if every interface forwards and no source is validated by the way back.
    pub(super) forwards_everything: bool,
    /// True if IPv6 is forwarded at all (`net.ipv6.conf.all.forwarding`).
    pub(super) forwards_v6: bool,
    /// Longest prefix first; of equals, lowest metric first.
    routes: Box<[Route]>,
    /// For each route.
    onwards: Box<[Onward]>,
}

impl Network {
    pub(crate) fn new(interfaces: Vec<Interface>, mut routes: Vec<Route>, forwards_v6: bool) -> Self {
        let addresses = |(index, interface): (usize, &Interface)| {
            interface.addresses.iter().map(move |a| (a.address, index)).collect::<Vec<_>>()
        };
        let mut local: Vec<_> = interfaces.iter().enumerate().flat_map(addresses).collect();
        local.sort_unstable();
        // Of one address on two interfaces, and of equal routes, the first counts.
        local.dedup_by_key(|(address, _)| *address);
        let v4 = local.iter().filter(|(address, _)| address.is_ipv4());
        let local_bits = v4.fold(0, |bits, (address, _)| bits | low_bit(Address::from(*address)));
        let is_loopback = |interface: &Interface| interface.addresses.iter().any(|own| own.address.is_loopback());
        let loopback = interfaces.iter().position(is_loopback);
        let mut anycast: Vec<Ipv6Addr> =
            if forwards_v6 { interfaces.iter().flat_map(anycast_addresses).collect() } else { Vec::new() };
        anycast.sort_unstable();
        let forwards = |i: &Interface| i.settings.forwarding && i.settings.reverse_path == ReversePath::Off;
        let forwards_everything = forwards_v6 && interfaces.iter().all(forwards);
        routes.sort_by_key(|route| (core::cmp::Reverse(route.destination.prefix()), route.metric));
        let nobody = Resolved {
            address: Address::v4(0),
            destination: Destination::Nowhere(RouteKind::Blackhole),
            is_for_many: false,
            mtu: usize::MAX,
            source: None,
        };
        let cache = Box::new([nobody; CACHED]);
        let mtu = |route: &Route| interfaces.get(route.interface).map_or(usize::MAX, |interface| interface.mtu);
        let onward = |r: &Route| Onward { interface: r.interface, gateway: r.gateway, mtu: mtu(r) };
        let onwards = routes.iter().take(usize::from(NotedRoute::ELSEWHERE.0)).map(onward).collect();
        Self {
            cache,
            onwards,
            interfaces: interfaces.into(),
            loopback,
            local: local.into(),
            anycast: anycast.into(),
            local_bits,
            forwards_everything,
            forwards_v6,
            routes: routes.into(),
        }
    }

    /// Returns true if a packet to this address is for this machine.
    #[inline]
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => true,
            _ => self.local.binary_search_by_key(&address, |(local, _)| *local).is_ok(),
        }
    }

    /// Returns true if it is an IPv4 address of this machine.
    #[inline(always)]
    pub(crate) fn is_own_v4(&self, address: Address) -> bool {
        address.family == Family::V4 && self.local_bits & low_bit(address) != 0 && self.is_local(address.into())
    }

    /// True for a subnet-router anycast address of this machine.
    fn is_anycast(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V6(v6) if self.anycast.binary_search(&v6).is_ok())
    }

    pub(super) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        address.is_broadcast()
            || self.interfaces.iter().flat_map(|i| &i.addresses).any(|own| match own.address {
                IpAddr::V4(v4) if own.prefix < 31 => address.to_bits() == v4.to_bits() | u32::MAX >> own.prefix,
                _ => false,
            })
    }

    /// Returns the route of a packet to this address, and remembers it for the next one.
    #[inline]
    pub(crate) fn resolve(&mut self, address: Address) -> &Resolved {
        let [high, low] = address.words;
        let bits = (high >> 32 ^ high ^ low) as u32;
        let index = (bits.wrapping_mul(0x9e37_79b1) >> 24) as usize;
        if self.cache[index].address != address {
            self.find_out(address.family, address.words, index);
        }
        &self.cache[index]
    }

    // The address comes in pieces, so that it is not put together in memory where it is known.
    #[cold]
    fn find_out(&mut self, family: Family, words: [u64; 2], index: usize) {
        let address = Address { family, words };
        let ip = address.into();
        let is_for_many = self.address_type(ip).0 & AddressTypes::MULTICAST.union(AddressTypes::BROADCAST).0 != 0;
        let route = self.route_to(ip);
        let destination = self.destination(ip, route);
        let source = route.and_then(|route| self.source_of(route, ip));
        let mtu = match destination {
            Destination::Via { interface, .. } => self.interfaces.get(interface).map_or(usize::MAX, |i| i.mtu),
            Destination::Local | Destination::Nowhere(_) => usize::MAX,
        };
        self.cache[index] = Resolved { address, destination, is_for_many, mtu, source };
    }

    /// By which route packets to an address are sent on; `None` where they are not. Which one it is is noted where many
    /// packets to this address meet, and not looked for again.
    #[inline(always)]
    pub(crate) fn onward(&self, noted: &mut NotedRoute, address: Address) -> Option<&Onward> {
        if *noted == NotedRoute::NONE {
            let [high, low] = address.words;
            *noted = self.find_onward(address.family, high, low).unwrap_or(NotedRoute::ELSEWHERE);
        }
        self.onwards.get(usize::from(noted.0))
    }

    #[cold]
    fn find_onward(&self, family: Family, high: u64, low: u64) -> Option<NotedRoute> {
        let address = Address { family, words: [high, low] };
        let ip = address.into();
        let for_many = AddressTypes::MULTICAST.union(AddressTypes::BROADCAST);
        let is_special = address.is_host_internal() || address.is_link_local_v6() || self.is_anycast(ip);
        if self.is_local(ip) || is_special || self.address_type(ip).0 & for_many.0 != 0 {
            return None;
        }
        // One further down than can be noted is left to those who remember what they find by address.
        let mut routes = self.routes.iter().take(usize::from(NotedRoute::ELSEWHERE.0));
        let number = routes.position(|route| route.destination.contains(ip))?;
        let is_followed = self.routes.get(number).is_some_and(|route| matches!(route.kind, RouteKind::Unicast));
        u16::try_from(number).ok().map(NotedRoute).filter(|noted| is_followed && *noted < NotedRoute::ELSEWHERE)
    }

    /// Returns the route of packets to an address that may leave by one interface only.
    pub(super) fn route_on(&self, interface: usize, address: IpAddr) -> Destination {
        let mut routes = self.routes.iter().filter(|route| route.interface == interface);
        match routes.find(|route| route.destination.contains(address) && route.kind == RouteKind::Unicast) {
            Some(_) => Destination::Via { interface, next_hop: address },
            None => Destination::Nowhere(RouteKind::Unreachable),
        }
    }

    fn route_to(&self, address: IpAddr) -> Option<&Route> {
        self.routes.iter().find(|route| route.destination.contains(address))
    }

    /// True for the first address of the prefix of the route to it, on a link.
    pub(super) fn is_first_on_its_link(&self, address: Ipv6Addr) -> bool {
        self.route_to(address.into()).is_some_and(|route| {
            let prefix = route.destination.prefix();
            route.gateway.is_none() && prefix < 127 && subnet_router(address, prefix) == address
        })
    }

    /// Returns the route of a packet to this address.
    pub(crate) fn route(&self, address: IpAddr) -> Destination {
        self.destination(address, self.route_to(address))
    }

    fn destination(&self, address: IpAddr, route: Option<&Route>) -> Destination {
        if self.is_local(address) || self.is_anycast(address) {
            return Destination::Local;
        }
        match route {
            Some(route) => match route.kind {
                RouteKind::Unicast => {
                    Destination::Via { interface: route.interface, next_hop: route.gateway.unwrap_or(address) }
                }
                RouteKind::Local => Destination::Local,
                kind => Destination::Nowhere(kind),
            },
            None => Destination::Nowhere(RouteKind::Unreachable),
        }
    }

    pub(crate) fn interface_towards(&self, address: IpAddr) -> Option<usize> {
        match self.route(address) {
            Destination::Via { interface, .. } => Some(interface),
            Destination::Local => {
                let own = self.local.binary_search_by_key(&address, |(local, _)| *local).ok()?;
                self.local.get(own).map(|(_, interface)| *interface)
            }
            Destination::Nowhere(_) => None,
        }
    }

    /// The address that this machine uses towards another.
    pub(crate) fn source_towards(&mut self, address: IpAddr) -> Option<IpAddr> {
        self.resolve(address.into()).source
    }

    fn source_of(&self, route: &Route, address: IpAddr) -> Option<IpAddr> {
        route.source.or_else(|| self.source_for(route.interface, route.gateway.unwrap_or(address)))
    }

    /// True for a source that may be no sender's at all (RFC 1812 sections 4.2.2.11 and 5.3.7), or one of its link only.
    #[inline(always)]
    pub(crate) const fn is_special_source(source: Address) -> bool {
        source.is_multicast() || source.is_broadcast() || source.is_host_internal() || source.is_link_local_v6()
    }

    /// The address of an interface for packets to `next_hop`: one of the same network, else the first.
    pub(crate) fn source_for(&self, interface: usize, next_hop: IpAddr) -> Option<IpAddr> {
        let usable = |own: &&InterfaceAddress| {
            own.address.is_ipv4() == next_hop.is_ipv4() && !own.secondary && own.scope <= AddressScope::Global
        };
        let addresses = || self.interfaces.get(interface).into_iter().flat_map(|i| &i.addresses).filter(usable);
        let same_network = addresses().find(|own| own.network().is_some_and(|net| net.contains(next_hop)));
        same_network.or_else(|| addresses().next()).map(|own| own.address)
    }

    fn link_mtu(&self, address: IpAddr) -> usize {
        let link = self.interface_towards(address).and_then(|interface| self.interfaces.get(interface));
        link.map_or(usize::MAX, |interface| interface.mtu)
    }
}

/// The subnet-router anycast addresses of an interface (RFC 4291 section 2.6.1; not for prefixes of 127 bits, RFC 6164).
fn anycast_addresses(interface: &Interface) -> impl Iterator<Item = Ipv6Addr> {
    let own = if interface.settings.is_ipv6_router { interface.addresses.as_slice() } else { &[] };
    own.iter().filter_map(|own| match own.address {
        IpAddr::V6(address) if own.prefix < 127 && !address.is_unicast_link_local() && !address.is_loopback() => {
            Some(subnet_router(address, own.prefix))
        }
        _ => None,
    })
}

/// The address with nothing but zeros after its prefix.
pub(super) fn subnet_router(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

/// One of 64 bits, by an IPv4 address.
#[inline]
const fn low_bit(address: Address) -> u64 {
    1 << ((address.words[0] as u32).wrapping_mul(0x9e37_79b1) >> 26)
}

fn is_broadcast_of(own: &InterfaceAddress, address: IpAddr) -> bool {
    match (own.address, address) {
        (IpAddr::V4(own_v4), IpAddr::V4(address)) if own.prefix < 31 => {
            address.to_bits() == own_v4.to_bits() | u32::MAX >> own.prefix
        }
        _ => false,
    }
}

impl HostInfo for Network {
    fn path_mtu(&self, source: IpAddr, destination: IpAddr) -> usize {
        self.link_mtu(source).min(self.link_mtu(destination))
    }

    fn route_type(&self, address: IpAddr, interface: Option<usize>) -> AddressTypes {
        let kind = self.address_type(address);
        match (kind, address) {
            (AddressTypes::UNICAST, IpAddr::V6(_)) if self.is_anycast(address) => AddressTypes::ANYCAST,
            (AddressTypes::UNICAST, IpAddr::V6(_)) => match self.route_to(address).map(|route| route.kind) {
                None | Some(RouteKind::Unreachable) => AddressTypes::UNREACHABLE,
                Some(RouteKind::Blackhole) => AddressTypes::BLACKHOLE,
                Some(RouteKind::Prohibit) => AddressTypes::PROHIBIT,
                Some(_) => AddressTypes::UNICAST,
            },
            (AddressTypes::LOCAL | AddressTypes::BROADCAST, _) => {
                let is_there = |number: usize| {
                    let addresses = self.interfaces.get(number).into_iter().flat_map(|i| &i.addresses);
                    addresses.into_iter().any(|own| own.address == address || is_broadcast_of(own, address))
                };
                if interface.is_none_or(is_there) { kind } else { AddressTypes::UNICAST }
            }
            _ => kind,
        }
    }

    fn way_back(&self, address: IpAddr) -> WayBack {
        match self.route(address) {
            Destination::Local => WayBack::Local,
            Destination::Via { interface, .. } => WayBack::Via(interface),
            Destination::Nowhere(_) => WayBack::Nowhere,
        }
    }

    fn is_loopback(&self, interface: usize) -> bool {
        self.loopback == Some(interface)
    }

    fn address_type(&self, address: IpAddr) -> AddressTypes {
        match address {
            _ if address.is_unspecified() => AddressTypes::UNSPEC,
            _ if address.is_multicast() => AddressTypes::MULTICAST,
            _ if self.is_local(address) => AddressTypes::LOCAL,
            IpAddr::V4(v4) if self.is_broadcast(v4) => AddressTypes::BROADCAST,
            _ => AddressTypes::UNICAST,
        }
    }
}
