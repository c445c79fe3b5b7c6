//! The load balancer's part of a packet's way.

use core::net::IpAddr;

use super::Router;
use super::answer::Refusal;
use super::interfaces::{Destination, Resolved};
use super::packet_context::PacketContext;
use crate::conntrack::{PacketState, Tracked};
use crate::event::DropReason;
use crate::ipvs::{Answered, Arrival, Forwarding, Refused, encapsulate};
use crate::netfilter::{Hook, TableName};
use crate::packet::{Family, IcmpError, Side, must_not_be_cut};

/// "Port unreachable" (RFC 792; RFC 4443 section 3.1).
const fn port_unreachable(family: Family) -> IcmpError {
    let code = match family {
        Family::V4 => 3,
        Family::V6 => 4,
    };
    IcmpError::unreachable(family, code)
}

/// Returns the bytes that a tunnel to this address adds to a packet.
const fn outer_header(real: IpAddr) -> usize {
    if real.is_ipv4() { 20 } else { 40 }
}

impl Router {
    /// A packet for this machine, or made by it: one from a real server gets its virtual address; one for a virtual service
    /// leaves for a real server, and never reaches this machine: true.
    pub(super) fn balance(&mut self, context: &mut PacketContext<'_, '_>) -> Result<bool, Refusal> {
        if context.balanced {
            return Ok(false);
        }
        self.answer_for_service(context)?;
        let (Some(ipvs), false) = (&mut self.ipvs, context.balanced) else { return Ok(false) };
        ipvs.handle_timeout(context.now, &mut self.conntrack);
        let is_error = context.headers.is_icmp_error();
        let arrival = if is_error {
            Ok(ipvs.arrive_error(context.now, context.packet.bytes(), context.headers))
        } else {
            let marked = (context.packet.mark, context.in_interface.is_none());
            let arrived = (context.packet.bytes(), &*context.headers);
            ipvs.arrive(context.now, &mut self.conntrack, &context.tracked, arrived, marked)
        };
        match arrival {
            Ok(None) => Ok(false),
            Ok(Some(arrival)) => self.send_to_server(context, &arrival, is_error).map(|()| true),
            Err(Refused::Dropped(reason)) => Err(reason.into()),
            Err(Refused::Unreachable) => {
                Err(Refusal::with_error(DropReason::NoRealServer, port_unreachable(context.headers.family)))
            }
        }
    }

    /// A packet from a real server gets its virtual address.
    pub(super) fn answer_for_service(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let (Some(ipvs), false) = (&mut self.ipvs, context.balanced) else { return Ok(()) };
        let PacketContext { now, packet, headers, tracked, .. } = context;
        let answered = if headers.is_icmp_error() {
            let done = ipvs.answer_error(*now, &mut self.conntrack, tracked, packet.bytes_mut(), headers);
            if done { Answered::Yes } else { Answered::No }
        } else {
            ipvs.answer(*now, &mut self.conntrack, tracked, (packet, headers), self.checksum)?
        };
        context.balanced = answered != Answered::No;
        context.rewritten = answered == Answered::Rewritten;
        Ok(())
    }

    /// A packet leaves for a real server, as if this machine had sent it.
    fn send_to_server(
        &mut self,
        context: &mut PacketContext<'_, '_>,
        arrival: &Arrival,
        is_error: bool,
    ) -> Result<(), Refusal> {
        context.balanced = true;
        let Resolved { destination, mtu, .. } = *self.network.resolve(arrival.real.ip().into());
        self.pass_on(context, arrival, destination)?;
        let Some(ipvs) = &mut self.ipvs else { return Ok(()) };
        let PacketContext { now, packet, headers, tracked, .. } = context;
        if is_error {
            ipvs.forward_error(arrival, &mut self.conntrack, tracked, packet.bytes_mut(), headers);
        } else {
            ipvs.forward(*now, arrival, &mut self.conntrack, tracked, (packet, headers), self.checksum)?;
        }
        let Destination::Via { interface, next_hop } = destination else {
            // The real server is this machine, to which it comes as rewritten, or as it came.
            self.translate(Hook::Input, Side::Source, context)?;
            return Ok(self.finish(context)?);
        };
        if arrival.forwarding == Forwarding::Tunnel {
            return self.send_through_tunnel(context, arrival);
        }
        context.leaves_by(interface, &next_hop, mtu);
        if matches!(context.tracked.state, PacketState::Invalid(_)) {
            // A packet that the tracker did not know on arrival is looked up again as it leaves for the real server.
            *context.probe = self.conntrack.probe(context.now, context.packet.bytes(), context.headers, 0);
            self.track(Hook::Output, context)?;
        }
        self.filter(TableName::Mangle, Hook::Output, context)?;
        self.translate(Hook::Output, Side::Destination, context)?;
        self.filter(TableName::Filter, Hook::Output, context)?;
        self.filter(TableName::Security, Hook::Output, context)?;
        self.postrouting(context)
    }

    /// Takes one from a packet's time to live, and looks whether it can go to its real server.
    fn pass_on(
        &self,
        context: &mut PacketContext<'_, '_>,
        arrival: &Arrival,
        destination: Destination,
    ) -> Result<(), Refusal> {
        let family = context.headers.family;
        let arrived = context.in_interface.is_some();
        let interface = match destination {
            Destination::Via { interface, .. } => interface,
            // Nobody outside reaches a server that only this machine itself knows.
            Destination::Local if arrival.rewrites() && arrival.real.ip().is_loopback() && arrived => {
                return Err(DropReason::NotForwardable.into());
            }
            Destination::Local => return Ok(()),
            Destination::Nowhere(_) => return Err(DropReason::NoRoute.into()),
        };
        let bytes = context.packet.bytes();
        if arrived && context.headers.hop_limit(bytes) <= 1 {
            return Err(Refusal::with_error(DropReason::HopLimit, IcmpError::hop_limit(family)));
        }
        if arrived {
            context.headers.decrement_hop_limit(context.packet.bytes_mut());
        }
        let bytes = context.packet.bytes();
        let outer = if arrival.forwarding == Forwarding::Tunnel { outer_header(arrival.real.ip()) } else { 0 };
        let mtu = self.mtu(interface).saturating_sub(outer);
        if bytes.len() > mtu && (family == Family::V6 || must_not_be_cut(bytes)) {
            return Err(Refusal::with_error(DropReason::TooBig, IcmpError::too_big(family, mtu as u32)));
        }
        Ok(())
    }

    /// A packet leaves in an outer one, which this machine sends.
    fn send_through_tunnel(&mut self, context: &mut PacketContext<'_, '_>, arrival: &Arrival) -> Result<(), Refusal> {
        if let Some(id) = context.tracked.connection {
            self.conntrack.confirm(context.now, id)?;
        }
        let source = self.network.source_towards(arrival.real.ip()).ok_or(DropReason::NoAddress)?;
        let identification = self.identifications.below(1 << 16) as u16;
        let ends = (source, arrival.real);
        let outer = encapsulate(context.packet, context.headers, ends, identification).ok_or(DropReason::TooBig)?;
        *context.headers = outer;
        context.tracked = Tracked::UNTRACKED;
        *context.probe = self.conntrack.probe(context.now, context.packet.bytes(), context.headers, 0);
        self.send_own(context, None)
    }
}
