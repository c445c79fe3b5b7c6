//! Routes packets, and refuses those that go nowhere.

use core::net::IpAddr;

use super::answer::Refusal;
use super::interfaces::{Destination, Network, Resolved};
use super::packet_context::PacketContext;
use super::{Egress, RouteKind, Router};
use crate::event::DropReason;
use crate::packet::{Address, Family, Headers, HopByHop, IcmpError, Side, read_hop_by_hop};

impl Router {
    pub(super) fn mtu(&self, interface: usize) -> usize {
        self.network.interfaces.get(interface).map_or(usize::MAX, |interface| interface.mtu)
    }

    /// Decides where an arriving packet goes: on to its next hop, or to this machine.
    pub(super) fn route(&mut self, context: &mut PacketContext<'_, '_>) -> Result<Egress, Refusal> {
        let destination = context.headers.address(context.packet.bytes(), Side::Destination);
        let source = context.headers.address(context.packet.bytes(), Side::Source);
        let interface = context.in_interface.unwrap_or(usize::MAX);
        let family = context.headers.family;
        if family == Family::V4 {
            self.validate_v4(interface, source, destination)?;
            if context.headers.transport != 20 {
                self.read_options(context)?;
            }
        }
        if family == Family::V4 && destination.is_unspecified() {
            return Ok(Egress::Local);
        }
        if destination.is_link_local_v6() {
            return self.route_on_link(interface, context);
        }
        let Resolved { destination: to, is_for_many, mtu, .. } = *self.network.resolve(destination);
        match to {
            _ if is_for_many => {
                let is_delivered = self.network.is_delivered_to_many(interface, destination);
                if is_delivered { Ok(Egress::Local) } else { Err(DropReason::NotForwardable.into()) }
            }
            Destination::Local => Ok(Egress::Local),
            Destination::Nowhere(_) if family == Family::V4 && !self.network.forwards(family, interface) => {
                Err(DropReason::NotForwardable.into())
            }
            Destination::Nowhere(kind) => Err(nowhere(family, kind)),
            Destination::Via { .. } if !self.network.forwards(family, interface) => {
                Err(DropReason::NotForwardable.into())
            }
            Destination::Via { interface, next_hop } => {
                context.leaves_by(interface, &next_hop, mtu);
                Ok(context.egress)
            }
        }
    }

    /// As [`Self::route`], for a link-local destination.
    #[inline(never)]
    fn route_on_link(&self, interface: usize, context: &mut PacketContext<'_, '_>) -> Result<Egress, Refusal> {
        let IpAddr::V6(destination) = context.headers.destination(context.packet.bytes()) else {
            return Err(DropReason::NotForwardable.into());
        };
        match self.network.destination_on_link(interface, destination) {
            Destination::Local => Ok(Egress::Local),
            Destination::Nowhere(kind) => Err(nowhere(Family::V6, kind)),
            Destination::Via { .. } if !self.network.forwards_v6 => Err(DropReason::NotForwardable.into()),
            Destination::Via { interface, next_hop } => {
                context.leaves_by(interface, &next_hop, self.mtu(interface));
                Ok(context.egress)
            }
        }
    }

    /// Drops IPv4 packets from or to addresses that no packet on a link may have (martians). Linux does so with packets of
    /// known connections too.
    fn validate_v4(&mut self, interface: usize, source: Address, destination: Address) -> Result<(), DropReason> {
        let to_loopback = destination.is_loopback()
            && self.network.interfaces.get(interface).is_none_or(|interface| !interface.settings.route_localnet);
        if source.is_unspecified() && destination.is_unspecified() {
            // A broadcast as hosts sent it once (RFC 1122 section 3.2.1.3 (a)).
            return Ok(());
        }
        if destination.is_unspecified() || to_loopback {
            return Err(DropReason::NotForwardable);
        }
        let is_plain = self.network.forwards_everything && !Network::is_special_source(source);
        if is_plain && !self.network.is_own_v4(source) {
            return Ok(());
        }
        let is_accepted = self.network.accepts_source(interface, source, Some(destination));
        if is_accepted { Ok(()) } else { Err(DropReason::NotForwardable) }
    }

    /// Drops IPv6 packets before any hook sees them: between addresses that no packet on a link may have, and with
    /// hop-by-hop options that make no sense.
    pub(super) fn receive_v6(&self, interface: usize, bytes: &[u8], headers: &Headers) -> Result<(), Refusal> {
        let source = headers.address(bytes, Side::Source);
        let destination = headers.address(bytes, Side::Destination);
        let is_ours = self.network.loopback == Some(interface);
        let is_internal = source.is_loopback() || destination.is_loopback();
        let to_no_link = destination.is_multicast() && destination.multicast_scope() < 2;
        if source.is_multicast() || !is_ours && (is_internal || to_no_link) {
            return Err(DropReason::NotForwardable.into());
        }
        match read_hop_by_hop(bytes, headers.end) {
            HopByHop::Passes => Ok(()),
            HopByHop::Discard => Err(DropReason::IpOptions.into()),
            HopByHop::Problem { code, pointer } => {
                Err(Refusal::with_error(DropReason::IpOptions, IcmpError::parameter_problem_v6(code, pointer)))
            }
        }
    }

    /// Returns the route of a packet that this machine sends.
    pub(super) fn destination_of_own(&mut self, context: &PacketContext<'_, '_>) -> Destination {
        let destination = context.headers.address(context.packet.bytes(), Side::Destination);
        match (IpAddr::from(destination), context.link) {
            (IpAddr::V6(address), Some(link)) if address.is_unicast_link_local() => {
                self.network.destination_on_link(link, address)
            }
            (IpAddr::V4(address), Some(interface)) if address.is_multicast() || address.is_broadcast() => {
                Destination::Via { interface, next_hop: address.into() }
            }
            _ => self.network.resolve(destination).destination,
        }
    }
}

/// Refuses an IPv6 source that belongs to one link, where its packet would leave by another interface.
pub(super) fn leaves_its_link(source: Address) -> Result<(), Refusal> {
    const BEYOND_SCOPE: u8 = 2;
    match source {
        _ if source.is_unspecified() => Err(DropReason::NotForwardable.into()),
        _ if source.is_link_local_v6() => {
            let error = IcmpError::unreachable(Family::V6, BEYOND_SCOPE);
            Err(Refusal::with_error(DropReason::NotForwardable, error))
        }
        _ => Ok(()),
    }
}

/// No route leads on.
pub(super) fn nowhere(family: Family, kind: RouteKind) -> Refusal {
    let code = match (kind, family) {
        (RouteKind::Blackhole, _) => return DropReason::NoRoute.into(),
        (RouteKind::Unreachable, Family::V4) => 1,
        (RouteKind::Prohibit, Family::V4) => 13,
        (RouteKind::Prohibit, Family::V6) => 1,
        _ => 0,
    };
    Refusal::with_error(DropReason::NoRoute, IcmpError::unreachable(family, code))
}
