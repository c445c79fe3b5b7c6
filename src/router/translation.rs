//! Translates packets: as table nat decides for the first packet of a connection.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet_context::PacketContext;
use super::tables::ask;
use super::{Egress, Router, family_index};
use crate::conntrack::{ConnectionId, PacketState, Status};
use crate::event::{DestroyReason, DropReason};
use crate::nat::{NatRange, moves, resists, translate, translate_error};
use crate::netfilter::{self, AddressMask, Hook, TableName, Tracking};
use crate::packet::{Headers, Layer4, Packet, Side};

impl Router {
    /// Translates one end: decided by rules for the first packet of a connection, and then for all.
    // Inlined, so that it is known which end, and where that stands.
    #[inline(always)]
    pub(super) fn translate(
        &mut self,
        hook: Hook,
        side: Side,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), DropReason> {
        let Some(id) = context.tracked.connection else { return Ok(()) };
        if context.tracked.state != PacketState::Established {
            if context.tracked.is_error && context.headers.protocol.is_icmp() {
                return self.translate_error(id, side, context);
            }
            self.decide_translation(id, hook, side, context)?;
        }
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        if !connection.is_translated() {
            return Ok(());
        }
        let PacketContext { packet, headers, tracked, .. } = context;
        if hook == Hook::Postrouting && connection.left_masquerade(tracked.direction, context.out_interface) {
            self.conntrack.destroy_for(context.now, id, DestroyReason::Rerouted);
            context.tracked.connection = None;
            return Err(DropReason::Rerouted);
        }
        if !moves(connection, tracked.direction, side) {
            return Ok(());
        }
        if let Layer4::Gre(_) = headers.layer4
            && resists(headers, side)
        {
            return Err(DropReason::NotForwardable);
        }
        translate(connection, tracked.direction, side, packet.bytes_mut(), headers);
        if let Layer4::Icmp(_) = headers.layer4 {
            read_identifier_again(packet, headers);
        }
        Ok(())
    }

    /// Translates an ICMP error about a connection.
    #[inline(never)]
    fn translate_error(
        &self,
        id: ConnectionId,
        side: Side,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), DropReason> {
        let PacketContext { packet, headers, tracked, .. } = context;
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let passes = translate_error(connection, tracked.direction, side, packet.bytes_mut(), headers);
        if passes { Ok(()) } else { Err(DropReason::NotForwardable) }
    }

    /// Asks table nat what one end of a connection becomes, if that was not decided yet; without an answer it stays, if
    /// nobody else has the tuple.
    #[inline(never)]
    fn decide_translation(
        &mut self,
        id: ConnectionId,
        hook: Hook,
        side: Side,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), DropReason> {
        let now = context.now;
        let rules = &self.rules[family_index(context.headers.family)];
        let done = if side == Side::Source { Status::SRC_NAT_DONE } else { Status::DST_NAT_DONE };
        let begins = matches!(context.tracked.state, PacketState::New | PacketState::Related);
        if !begins || context.tracked.is_error {
            return Ok(());
        }
        if !rules.is_loaded(TableName::Nat) || self.conntrack.get(id).is_none_or(|c| c.status().has(done)) {
            return Ok(());
        }
        let mut tracking = Tracking::None;
        let verdict = if rules.asks_at(TableName::Nat, hook) {
            ask(
                rules,
                &self.network,
                (&mut self.conntrack, &mut self.nft_state, &mut self.memory),
                (TableName::Nat, hook),
                context,
                &mut tracking,
            )
        } else {
            netfilter::RuleVerdict::Accept
        };
        let range = match verdict {
            netfilter::RuleVerdict::Map(range) => range,
            netfilter::RuleVerdict::Masquerade(range) => {
                let address = self.masquerade_address(context)?;
                if let Some(connection) = self.conntrack.get_mut(id) {
                    connection.masqueraded_on = context.out_interface.map(|i| i as u32);
                }
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::RuleVerdict::Redirect(range) => {
                let address = self.redirect_address(hook, context)?;
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::RuleVerdict::Netmap(network) => {
                let old = context.headers.address(context.packet.bytes(), side).into();
                let address = in_network(network, old);
                NatRange { addresses: Some((address, address)), ..NatRange::default() }
            }
            netfilter::RuleVerdict::Accept => return self.nat.setup_null(now, &mut self.conntrack, id, side),
            _ => return Err(DropReason::Rule),
        };
        self.nat.setup(now, &mut self.conntrack, id, &range, side)
    }

    fn masquerade_address(&self, context: &PacketContext<'_, '_>) -> Result<IpAddr, DropReason> {
        let Egress::Forward { interface, next_hop } = context.egress else { return Err(DropReason::NoAddress) };
        self.network.source_for(interface, next_hop).ok_or(DropReason::NoAddress)
    }

    /// This machine, as seen from where the packet came: the loopback address for its own.
    fn redirect_address(&self, hook: Hook, context: &PacketContext<'_, '_>) -> Result<IpAddr, DropReason> {
        let source = context.headers.source(context.packet.bytes());
        match context.in_interface {
            Some(interface) if hook == Hook::Prerouting => {
                let addresses = self.network.interfaces.get(interface).into_iter().flat_map(|i| &i.addresses);
                let first = addresses.map(|own| own.address).find(|own| own.is_ipv4() == source.is_ipv4());
                first.ok_or(DropReason::NoAddress)
            }
            _ if source.is_ipv4() => Ok(Ipv4Addr::LOCALHOST.into()),
            _ => Ok(Ipv6Addr::LOCALHOST.into()),
        }
    }
}

/// ICMP's identifier, which translation changes, is part of what was read of its header.
#[inline(never)]
fn read_identifier_again(packet: &Packet<'_>, headers: &mut Headers) {
    if let Ok(found) = Headers::find(packet.bytes()) {
        *headers = found;
    }
}

/// Moves an address into a network: its bits under the mask become the network's.
const fn in_network(network: AddressMask, old: IpAddr) -> IpAddr {
    match (network.address, old) {
        (IpAddr::V4(new), IpAddr::V4(old)) => {
            let mask = network.mask as u32;
            IpAddr::V4(Ipv4Addr::from_bits(new.to_bits() & mask | old.to_bits() & !mask))
        }
        (IpAddr::V6(new), IpAddr::V6(old)) => {
            IpAddr::V6(Ipv6Addr::from_bits(new.to_bits() & network.mask | old.to_bits() & !network.mask))
        }
        _ => old,
    }
}
