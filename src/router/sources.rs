//! Source addresses: which arriving ones are believed, and which ones this machine uses itself.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::interfaces::{AddressScope, Destination, InterfaceAddress, Network, ReversePath, subnet_router};
use crate::packet::{Address, Family};

/// All hosts of a link (RFC 1112 section 4): the one IPv4 group that every interface is in.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

impl Network {
    /// True if packets of this family that arrive on an interface are forwarded.
    pub(super) fn forwards(&self, family: Family, interface: usize) -> bool {
        match family {
            Family::V4 => self.interfaces.get(interface).is_none_or(|interface| interface.settings.forwarding),
            Family::V6 => self.forwards_v6,
        }
    }

    /// True if packets from this source that arrive on an interface are forwarded.
    #[inline(never)]
    pub(super) fn is_let_in(&mut self, interface: usize, source: Address) -> bool {
        self.forwards(source.family, interface)
            && (source.family == Family::V6 || self.accepts_source(interface, source, None))
    }

    /// True if an IPv4 packet may come from this source by this interface (RFC 1812 section 5.3.7, RFC 3704).
    /// `destination`: where it is for, if that may be all hosts of a link.
    pub(super) fn accepts_source(&mut self, interface: usize, source: Address, destination: Option<Address>) -> bool {
        let settings = self.interfaces.get(interface).map(|interface| interface.settings).unwrap_or_default();
        if source.is_multicast() || source.is_broadcast() {
            return false;
        }
        if source.is_unspecified() {
            return destination.is_some_and(|to| to.is_broadcast() || to.is_multicast());
        }
        let to_all = destination.is_some_and(Address::is_broadcast);
        if source.is_loopback() && !settings.route_localnet && !to_all {
            return false;
        }
        if self.is_own_v4(source) {
            let is_strict = settings.reverse_path == ReversePath::Strict;
            return settings.accept_local && (!is_strict || self.interface_towards(source.into()) == Some(interface));
        }
        if settings.reverse_path == ReversePath::Off {
            return true;
        }
        let resolved = self.resolve(source);
        match resolved.destination {
            _ if resolved.is_for_many => false,
            Destination::Via { interface: back, .. } => {
                settings.reverse_path == ReversePath::Loose || back == interface
            }
            Destination::Local => settings.accept_local,
            Destination::Nowhere(_) => false,
        }
    }

    /// True for a broadcast or multicast address that packets which arrive on an interface are delivered for.
    pub(super) fn is_delivered_to_many(&self, interface: usize, destination: Address) -> bool {
        match IpAddr::from(destination) {
            IpAddr::V4(address) => address == ALL_HOSTS || self.is_broadcast(address),
            IpAddr::V6(address) => self.is_joined(interface, address),
        }
    }

    /// True for the IPv6 groups that every router is in (RFC 4291 section 2.8).
    fn is_joined(&self, interface: usize, group: Ipv6Addr) -> bool {
        let Some(interface) = self.interfaces.get(interface) else { return false };
        let settings = &interface.settings;
        let is_router = self.forwards_v6 && settings.is_ipv6_router;
        match group.segments() {
            [0xff02, 0, 0, 0, 0, 0, 0, 1] => true,
            [0xff02 | 0xff05, 0, 0, 0, 0, 0, 0, 2] => is_router,
            [0xff02, 0, 0, 0, 0, 1, high, low] if high >> 8 == 0xff && settings.resolves_neighbours => {
                let ends_so = |address: Ipv6Addr| {
                    address.to_bits() as u32 & 0xff_ffff == u32::from(high & 0xff) << 16 | u32::from(low)
                };
                let own = interface.addresses.iter().filter_map(|own| match own.address {
                    IpAddr::V6(address) => Some((address, own.prefix)),
                    IpAddr::V4(_) => None,
                });
                own.into_iter().any(|(address, prefix)| {
                    ends_so(address) || is_router && prefix < 127 && ends_so(subnet_router(address, prefix))
                })
            }
            _ => false,
        }
    }

    /// Returns the route of a packet whose destination is link-local: on the link of this interface.
    pub(super) fn destination_on_link(&self, interface: usize, destination: Ipv6Addr) -> Destination {
        let own = self.interfaces.get(interface);
        let is_router = self.forwards_v6 && own.is_some_and(|own| own.settings.is_ipv6_router);
        let is_own = own.is_some_and(|own| {
            own.addresses.iter().any(|own| match own.address {
                IpAddr::V6(address) if address.is_unicast_link_local() => {
                    let is_anycast = is_router && own.prefix < 127 && subnet_router(address, own.prefix) == destination;
                    address == destination || is_anycast
                }
                _ => false,
            })
        });
        if is_own {
            return Destination::Local;
        }
        self.route_on(interface, destination.into())
    }

    /// The address of an interface that `icmp_errors_use_inbound_ifaddr` means: the first that is not secondary.
    pub(super) fn first_v4_of(&self, interface: usize) -> Option<IpAddr> {
        let addresses = &self.interfaces.get(interface)?.addresses;
        let is_usable =
            |own: &&InterfaceAddress| own.address.is_ipv4() && !own.secondary && own.scope <= AddressScope::Link;
        addresses.iter().find(is_usable).map(|own| own.address)
    }

    /// The address by which this machine speaks of a packet that arrived on `interface` to an IPv6 `destination`
    /// (RFC 6724 section 5; Linux prefers addresses of the interface of arrival).
    pub(super) fn select_source_v6(&self, interface: usize, destination: Ipv6Addr) -> Option<IpAddr> {
        let needs_link = destination.is_unicast_link_local() || destination.is_multicast();
        let mut best: Option<(Ipv6Addr, Preference)> = None;
        for (number, of) in self.interfaces.iter().enumerate() {
            if needs_link && number != interface {
                continue;
            }
            for own in &of.addresses {
                let IpAddr::V6(address) = own.address else { continue };
                if address.is_loopback() {
                    continue;
                }
                let preference = Preference::of(address, own.prefix, number == interface, destination);
                if best.is_none_or(|(_, found)| preference > found) {
                    best = Some((address, preference));
                }
            }
        }
        best.map(|(address, _)| address.into())
    }
}

/// The degree to which a source address suits a destination: the rules of RFC 6724 section 5 that apply to a router, in
/// order. Of equals the first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    /// Rule 1: it is the destination.
    is_same: bool,
    /// Rule 2: its scope reaches the destination; of those that do the smallest, of the others the largest.
    scope: i16,
    /// Rule 5: it is of the interface.
    is_on_interface: bool,
    /// Rule 6: it has the destination's label.
    has_same_label: bool,
    /// Rule 8: number of leading bits in common, up to its prefix.
    common_bits: u32,
}

impl Preference {
    fn of(address: Ipv6Addr, prefix: u8, is_on_interface: bool, destination: Ipv6Addr) -> Self {
        let (own, wanted) = (scope(address), scope(destination));
        let common = (address.to_bits() ^ destination.to_bits()).leading_zeros();
        Self {
            is_same: address == destination,
            scope: if own >= wanted { 0x100 - own } else { own - 0x100 },
            is_on_interface,
            has_same_label: label(address) == label(destination),
            common_bits: common.min(u32::from(prefix)),
        }
    }
}

/// The scope of an address (RFC 4291 section 2.7): 2 a link's, 5 a site's, 14 global.
fn scope(address: Ipv6Addr) -> i16 {
    match address.segments()[0] {
        first if first >> 8 == 0xff => (first & 0xf) as i16,
        first if first & 0xffc0 == 0xfe80 => 2,
        first if first & 0xffc0 == 0xfec0 => 5,
        _ if address.is_loopback() => 2,
        _ => 14,
    }
}

/// The label of an address in Linux's default policy table (RFC 6724 section 2.1; `ip addrlabel`).
fn label(address: Ipv6Addr) -> u8 {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 6,
        [0x2001, second, ..] if second & 0xfff0 == 0x10 => 7,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [first, ..] if first & 0xffc0 == 0xfec0 => 11,
        [first, ..] if first & 0xfe00 == 0xfc00 => 5,
        _ => 1,
    }
}
