//! One packet's way.
//!
//! 1. *find*: where its headers are.
//! 2. *probe*: whether its connection is known, and whether there is room for what may be done to it. Nothing is
//!    changed yet.
//! 3. *apply*: the hooks, in Netfilter's order. From here on tables and packet change.

use core::net::IpAddr;

use super::interfaces::Destination;
use super::{Outbox, Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::{PacketState, Probe, Status, Template, Tracked};
use crate::event::{DropReason, Event};
use crate::helper::FtpHelper;
use crate::nat::{NatRange, translate, translate_error};
use crate::netfilter::{self, Hook, Subject, TableName, Tracking};
use crate::packet::{Headers, Layer4, Packet, Protocol, Side};

/// A packet on its way.
struct Transit<'t, 'b> {
    now: Instant,
    packet: &'t mut Packet<'b>,
    headers: Headers,
    probe: Option<Probe>,
    tracked: Tracked,
    in_interface: Option<usize>,
    out_interface: Option<usize>,
}

impl Router {
    /// The whole way of a packet that arrived on an interface, or, without one, that this machine made.
    pub(super) fn walk(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &mut Packet<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let headers = match Headers::find(packet.bytes()) {
            Ok(headers) if headers.fragment.is_none() => headers,
            Ok(_) => return self.dropped(now, DropReason::Fragment, None),
            Err(_) => return self.dropped(now, DropReason::Malformed, None),
        };
        let probe = self.conntrack.probe(packet.bytes(), &headers, 0);
        let connection = probe.as_ref().and_then(|probe| self.conntrack.probed(probe));
        if let Some(connection) = connection
            && let Err(room) = FtpHelper::room_for(connection, &headers, packet)
        {
            return Verdict::NeedsRoom(room.0);
        }
        packet.truncate(headers.end);
        let mut transit =
            Transit { now, packet, headers, probe, tracked: Tracked::UNTRACKED, in_interface, out_interface: None };
        match self.apply(&mut transit, outbox) {
            Ok(verdict) => verdict,
            Err(reason) => {
                if let Some(id) = transit.tracked.connection {
                    self.conntrack.discard(id);
                }
                self.dropped(now, reason, Some(transit.tracked))
            }
        }
    }

    fn dropped(&mut self, now: Instant, reason: DropReason, tracked: Option<Tracked>) -> Verdict {
        let connection = tracked.and_then(|t| t.connection);
        let direction = tracked.filter(|t| t.connection.is_some()).map(|t| t.direction);
        self.conntrack.events.push(now, Event::Dropped { reason, connection, direction });
        Verdict::Drop(reason)
    }

    /// The hooks.
    fn apply(&mut self, transit: &mut Transit<'_, '_>, outbox: &mut Outbox) -> Result<Verdict, DropReason> {
        match transit.in_interface {
            Some(_) => self.prerouting(transit)?,
            None => self.local_output(transit)?,
        }
        let destination = transit.headers.destination(transit.packet.bytes());
        match self.network.route(destination) {
            Destination::Local => self.input(transit).map(|()| Verdict::Local),
            Destination::Via { interface, next_hop } => {
                transit.out_interface = Some(interface);
                if transit.in_interface.is_some() {
                    self.forward(transit, outbox)?;
                }
                self.postrouting(transit, next_hop)?;
                Ok(Verdict::Forward { interface, next_hop })
            }
            Destination::Nowhere(_) => Err(DropReason::NoRoute),
        }
    }

    /// It arrived: raw, conntrack, mangle, and translation of its destination.
    fn prerouting(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        self.track(Hook::Prerouting, transit)?;
        self.filter(TableName::Mangle, Hook::Prerouting, transit)?;
        self.translate(Hook::Prerouting, Side::Destination, transit, None)
    }

    /// This machine made it: raw, conntrack, mangle, translation of its destination, filter.
    fn local_output(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let destination = transit.headers.destination(transit.packet.bytes());
        if let Destination::Via { interface, .. } = self.network.route(destination) {
            transit.out_interface = Some(interface);
        }
        self.track(Hook::Output, transit)?;
        self.filter(TableName::Mangle, Hook::Output, transit)?;
        self.translate(Hook::Output, Side::Destination, transit, None)?;
        self.filter(TableName::Filter, Hook::Output, transit)
    }

    /// It is for this machine.
    fn input(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        self.filter(TableName::Mangle, Hook::Input, transit)?;
        self.filter(TableName::Filter, Hook::Input, transit)?;
        self.translate(Hook::Input, Side::Source, transit, None)?;
        self.finish(transit)
    }

    /// It is to be sent on.
    fn forward(&mut self, transit: &mut Transit<'_, '_>, _outbox: &mut Outbox) -> Result<(), DropReason> {
        if transit.headers.hop_limit(transit.packet.bytes()) <= 1 {
            return Err(DropReason::HopLimit);
        }
        transit.headers.decrement_hop_limit(transit.packet.bytes_mut());
        self.filter(TableName::Mangle, Hook::Forward, transit)?;
        self.filter(TableName::Filter, Hook::Forward, transit)
    }

    /// It leaves: mangle, translation of its source, and what comes last.
    fn postrouting(&mut self, transit: &mut Transit<'_, '_>, next_hop: IpAddr) -> Result<(), DropReason> {
        self.filter(TableName::Mangle, Hook::Postrouting, transit)?;
        self.translate(Hook::Postrouting, Side::Source, transit, Some(next_hop))?;
        self.finish(transit)
    }

    /// The helper reads it, its numbers are adjusted, and its connection is confirmed.
    fn finish(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let Some(id) = transit.tracked.connection else { return Ok(()) };
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        if transit.tracked.is_error {
            return Ok(());
        }
        let status = connection.status();
        if connection.has_helper() {
            let Transit { now, packet, headers, tracked, .. } = transit;
            self.helper.process(*now, &mut self.conntrack, &mut self.nat, tracked, packet, headers)?;
        }
        // Whether it is to be adjusted was decided before the helper read it: the packet whose text grows first keeps
        // its numbers.
        if status.has(Status::SEQ_ADJUST)
            && let Some(connection) = self.conntrack.get(id)
        {
            let Transit { packet, headers, tracked, .. } = transit;
            self.conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
        }
        if status.has(Status::CONFIRMED) { Ok(()) } else { self.conntrack.confirm(transit.now, id) }
    }

    /// Table raw, then the tracker.
    fn track(&mut self, hook: Hook, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let mut tracking = Tracking::default();
        self.ask(TableName::Raw, hook, transit, None, &mut tracking).and_then(pass)?;
        let template = match tracking {
            Tracking::None => return Ok(()),
            Tracking::Template(mut template) => {
                template.helper &= self.helper.config().enabled;
                template
            }
            _ => self.automatic_helper(transit),
        };
        let Transit { now, packet, headers, probe, .. } = transit;
        let bytes = packet.bytes();
        let probe = if template.zone == 0 { *probe } else { self.conntrack.probe(bytes, headers, template.zone) };
        transit.tracked = self.conntrack.track_probed(*now, bytes, headers, template, probe)?;
        if let (Some(id), on_match) = (transit.tracked.connection, transit.tracked.on_match) {
            self.nat.carry_out(*now, &mut self.conntrack, id, on_match)?;
        }
        Ok(())
    }

    /// The helper by port, for routers that have it so.
    fn automatic_helper(&self, transit: &Transit<'_, '_>) -> Template {
        let is_control = || {
            let ports = transit.headers.ports(transit.packet.bytes());
            transit.headers.protocol == Protocol::TCP
                && ports.is_some_and(|(_, destination)| self.helper_ports.contains(&destination))
        };
        if self.helper.config().enabled && !self.helper_ports.is_empty() && is_control() {
            Template::FTP
        } else {
            Template::default()
        }
    }

    /// A table whose verdict is pass or drop.
    #[inline]
    fn filter(&mut self, table: TableName, hook: Hook, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        if !self.rules[family_index(transit.headers.family)].asks(table) {
            return Ok(());
        }
        let tracked = transit.tracked;
        self.ask(table, hook, transit, Some(&tracked), &mut Tracking::default()).and_then(pass)
    }

    /// Asks a table's chain of a hook.
    #[inline]
    fn ask(
        &mut self,
        table: TableName,
        hook: Hook,
        transit: &mut Transit<'_, '_>,
        tracked: Option<&Tracked>,
        tracking: &mut Tracking,
    ) -> Result<netfilter::Verdict, DropReason> {
        let family = family_index(transit.headers.family);
        let rules = &self.rules[family];
        if !rules.asks(table) {
            return Ok(netfilter::Verdict::Accept);
        }
        let network = &self.network;
        let mut met: (Option<usize>, Option<usize>) = (None, None);
        let mut mark = transit.packet.mark;
        let mut subject = Subject {
            bytes: transit.packet.bytes_mut(),
            headers: &transit.headers,
            mark: &mut mark,
            in_interface: transit.in_interface,
            out_interface: if hook == Hook::Prerouting { None } else { transit.out_interface },
            tracked,
            tracking,
            address_type: &|address| network.address_type(address),
            on_log: &mut |rule| met.0 = Some(rule),
            on_unknown: &mut |rule| met.1 = Some(rule),
        };
        let verdict = rules.evaluate(table, hook, &mut self.conntrack, &mut subject);
        transit.packet.mark = mark;
        if let Some(rule) = met.0 {
            self.conntrack.events.push(transit.now, Event::Log { rule });
        }
        if let Some(rule) = met.1 {
            self.conntrack.events.push(transit.now, Event::Undecided { ipv6: family == 1, rule });
        }
        Ok(verdict)
    }

    /// Translates one end: decided by rules for the first packet of a connection, and then for all.
    #[inline]
    fn translate(
        &mut self,
        hook: Hook,
        side: Side,
        transit: &mut Transit<'_, '_>,
        next_hop: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        let Some(id) = transit.tracked.connection else { return Ok(()) };
        if transit.tracked.is_error {
            let Transit { packet, headers, tracked, .. } = transit;
            let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
            let passes = translate_error(connection, tracked.direction, side, packet.bytes_mut(), headers);
            return if passes { Ok(()) } else { Err(DropReason::NotForwardable) };
        }
        let done = if side == Side::Source { Status::SRC_NAT_DONE } else { Status::DST_NAT_DONE };
        let undecided = matches!(transit.tracked.state, PacketState::New | PacketState::Related)
            && self.conntrack.get(id).is_some_and(|c| !c.status().has(done));
        if undecided {
            self.decide_translation(hook, side, transit, next_hop)?;
        }
        let Transit { packet, headers, tracked, .. } = transit;
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        if !connection.status().has(Status::SRC_NAT | Status::DST_NAT) {
            return Ok(());
        }
        if hook == Hook::Postrouting && connection.left_masquerade(tracked.direction, transit.out_interface) {
            self.conntrack.delete(transit.now, id);
            return Err(DropReason::Rerouted);
        }
        translate(connection, tracked.direction, side, packet.bytes_mut(), headers);
        // ICMP's identifier is part of what was read of its header.
        if let Layer4::Icmp(_) = headers.layer4
            && let Ok(found) = Headers::find(packet.bytes())
        {
            *headers = found;
        }
        Ok(())
    }

    /// Asks table nat what one end of a connection becomes; without an answer it stays, if nobody else has the tuple.
    fn decide_translation(
        &mut self,
        hook: Hook,
        side: Side,
        transit: &mut Transit<'_, '_>,
        next_hop: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        let Some(id) = transit.tracked.connection else { return Ok(()) };
        let tracked = transit.tracked;
        let now = transit.now;
        let range = match self.ask(TableName::Nat, hook, transit, Some(&tracked), &mut Tracking::default())? {
            netfilter::Verdict::Map(range) => range,
            netfilter::Verdict::Masquerade(range) => {
                let address = self.masquerade_address(transit, next_hop)?;
                if let Some(connection) = self.conntrack.get_mut(id) {
                    connection.masqueraded_on = transit.out_interface.map(|i| i as u32);
                }
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::Verdict::Redirect(range) => {
                let address = self.redirect_address(hook, transit)?;
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::Verdict::Accept => return self.nat.setup_null(now, &mut self.conntrack, id, side),
            _ => return Err(DropReason::Rule),
        };
        self.nat.setup(now, &mut self.conntrack, id, &range, side)
    }

    fn masquerade_address(&self, transit: &Transit<'_, '_>, next_hop: Option<IpAddr>) -> Result<IpAddr, DropReason> {
        let (Some(interface), Some(next_hop)) = (transit.out_interface, next_hop) else {
            return Err(DropReason::NoAddress);
        };
        self.network.source_for(interface, next_hop).ok_or(DropReason::NoAddress)
    }

    /// This machine, as seen from where the packet came: the loopback address for its own.
    fn redirect_address(&self, hook: Hook, transit: &Transit<'_, '_>) -> Result<IpAddr, DropReason> {
        let source = transit.headers.source(transit.packet.bytes());
        match transit.in_interface {
            Some(interface) if hook == Hook::Prerouting => {
                let addresses = self.network.interfaces.get(interface).into_iter().flat_map(|i| &i.addresses);
                let first = addresses.map(|own| own.address).find(|own| own.is_ipv4() == source.is_ipv4());
                first.ok_or(DropReason::NoAddress)
            }
            _ if source.is_ipv4() => Ok(core::net::Ipv4Addr::LOCALHOST.into()),
            _ => Ok(core::net::Ipv6Addr::LOCALHOST.into()),
        }
    }
}

/// The verdict of a table that only passes or drops.
fn pass(verdict: netfilter::Verdict) -> Result<(), DropReason> {
    match verdict {
        netfilter::Verdict::Drop => Err(DropReason::Rule),
        netfilter::Verdict::Reject(_) => Err(DropReason::Rejected),
        _ => Ok(()),
    }
}
