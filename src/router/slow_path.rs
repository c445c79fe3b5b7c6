//! The hooks that a packet meets, in Netfilter's order.
//!
//! 1. *find*: where its headers are.
//! 2. *probe*: whether its connection is known, and whether there is room for what may be done to it. Nothing is
//!    changed yet.
//! 3. *apply*: the hooks. From here on tables and packet change.
//!
//! Rare cases have functions of their own that are never inlined, to keep the common path small.

use super::answer::Refusal;
use super::interfaces::Destination;
use super::packet_context::PacketContext;
use super::routing::leaves_its_link;
use super::tables::room_for_rules;
use super::tracking::is_checksum_wrong;
use super::{Egress, Outbox, Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::Tracked;
use crate::event::{DropReason, Event};
use crate::helper::FtpHelper;
use crate::netfilter::{Hook, TableName};
use crate::packet::{Family, Headers, IcmpError, IpOptions, Packet, Side, must_not_be_cut};

impl Router {
    /// The whole way of a packet that arrived on an interface, or, without one, that this machine made.
    #[inline(never)]
    pub(super) fn process_slow_path(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &mut Packet<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        // Left where it is found: it is too large to be moved for nothing.
        let mut found = Headers::find(packet.bytes());
        let Ok(headers) = &mut found else { return self.dropped(now, DropReason::Malformed, None) };
        if self.header_checksum && in_interface.is_some() && !headers.header_checksum_ok(packet.bytes()) {
            return self.dropped(now, DropReason::Malformed, None);
        }
        if let (Family::V6, Some(interface)) = (headers.family, in_interface)
            && let Err(refusal) = self.receive_v6(interface, packet.bytes(), headers)
        {
            let mut probe = None;
            let mut context = PacketContext::new(now, packet, headers, &mut probe, in_interface);
            return self.refuse(&mut context, refusal, outbox);
        }
        if headers.family == Family::V6 && headers.transport > 40 {
            self.defragment_atomic(packet, headers);
        }
        if let Some(fragment) = headers.fragment
            && let Some(verdict) = self.gather(now, in_interface, packet, headers, fragment, outbox)
        {
            return verdict;
        }
        let mut probe = self.conntrack.probe(now, packet.bytes(), headers, 0);
        let connection = probe.as_ref().and_then(|probe| self.conntrack.probed(probe));
        let rules = &self.rules[family_index(headers.family)];
        if let Some(connection) = connection
            && let Err(room) = FtpHelper::room_for(connection, headers, packet)
        {
            return Verdict::NeedsRoom(room);
        }
        if rules.may_grow_packets()
            && let Some(room) = room_for_rules(rules, headers, packet)
        {
            return Verdict::NeedsRoom(room);
        }
        if let Some(ipvs) = &self.ipvs {
            let room = ipvs.room(!headers.payload(packet.bytes()).is_empty());
            let padding = packet.bytes().len() - headers.end;
            if packet.tail_room() + padding < room {
                return Verdict::NeedsRoom(room);
            }
        }
        packet.truncate(headers.end);
        let mut context = PacketContext::new(now, packet, headers, &mut probe, in_interface);
        context.link = self.output_link.filter(|_| in_interface.is_none());
        self.run(&mut context, outbox)
    }

    /// The rest of the way: changes the packet and the tables.
    #[inline]
    fn run(&mut self, context: &mut PacketContext<'_, '_>, outbox: &mut Outbox) -> Verdict {
        if let Err(refusal) = self.run_hooks(context) {
            return self.refuse(context, refusal, outbox);
        }
        let Egress::Forward { interface, next_hop } = context.egress else { return Verdict::Local };
        if context.packet.len_on_link() > context.mtu {
            return self.cut_for_link(context, outbox);
        }
        Verdict::Forward { interface, next_hop }
    }

    /// The packet ends here: its sender is told if need be, and a connection that it would have begun does not begin.
    #[inline(never)]
    pub(super) fn refuse(
        &mut self,
        context: &mut PacketContext<'_, '_>,
        refusal: Refusal,
        outbox: &mut Outbox,
    ) -> Verdict {
        let leaves_checksum = context.packet.checksum_is_left_to_device();
        if leaves_checksum {
            // Translation has changed it as if it covered the whole packet.
            context.headers.sum_pseudo_header_only(context.packet.bytes_mut());
        }
        // REJECT does not answer what may be damaged (seen on 6.18).
        let is_damaged = refusal.reason == DropReason::Rejected
            && !leaves_checksum
            && context.in_interface.is_some()
            && is_checksum_wrong(context.packet.bytes(), context.headers);
        if let Some(answer) = refusal.answer.filter(|_| !is_damaged) {
            self.answer(context, answer, outbox);
        }
        if let Some(id) = context.tracked.connection {
            self.conntrack.discard(id);
        }
        self.dropped(context.now, refusal.reason, Some(context.tracked))
    }

    #[inline(never)]
    pub(super) fn dropped(&mut self, now: Instant, reason: DropReason, tracked: Option<Tracked>) -> Verdict {
        let connection = tracked.and_then(|t| t.connection);
        let direction = tracked.filter(|t| t.connection.is_some()).map(|t| t.direction);
        self.conntrack.events.push(now, Event::Dropped { reason, connection, direction });
        Verdict::Drop(reason)
    }

    /// The hooks.
    pub(super) fn run_hooks(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        if context.in_interface.is_none() {
            return self.send_own(context, None);
        }
        self.prerouting(context)?;
        if self.route(context)? == Egress::Local {
            return self.input(context);
        }
        self.forward(context)?;
        self.postrouting(context)
    }

    /// A packet of this machine's own leaves. `in_its_name`: it is sent in the name of a connection, without being
    /// tracked itself.
    #[inline(never)]
    pub(super) fn send_own(
        &mut self,
        context: &mut PacketContext<'_, '_>,
        in_its_name: Option<Tracked>,
    ) -> Result<(), Refusal> {
        if self.local_output(context, in_its_name)? {
            return Ok(());
        }
        match self.destination_of_own(context) {
            Destination::Local => return self.come_back(context),
            Destination::Via { interface, next_hop } => {
                let mtu = self.mtu(interface);
                context.leaves_by(interface, &next_hop, mtu);
            }
            Destination::Nowhere(_) => return Err(DropReason::NoRoute.into()),
        }
        self.postrouting(context)
    }

    /// Receives by the loopback device a packet that this machine sends to itself, as a packet of the same connection.
    fn come_back(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        context.out_interface = self.network.loopback;
        self.postrouting(context)?;
        context.in_interface = context.out_interface.take();
        context.came_back = true;
        self.ask_raw(Hook::Prerouting, context)?;
        self.filter(TableName::Mangle, Hook::Prerouting, context)?;
        self.translate(Hook::Prerouting, Side::Destination, context)?;
        self.filter(TableName::Filter, Hook::Prerouting, context)?;
        self.input(context)
    }

    /// It arrived: raw, conntrack, mangle, and translation of its destination.
    #[inline]
    fn prerouting(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        self.track(Hook::Prerouting, context)?;
        self.filter(TableName::Mangle, Hook::Prerouting, context)?;
        self.translate(Hook::Prerouting, Side::Destination, context)?;
        self.filter(TableName::Filter, Hook::Prerouting, context)
    }

    /// This machine made it: raw, conntrack, mangle, translation of its destination, filter.
    fn local_output(
        &mut self,
        context: &mut PacketContext<'_, '_>,
        in_its_name: Option<Tracked>,
    ) -> Result<bool, Refusal> {
        context.out_interface = match self.destination_of_own(context) {
            Destination::Via { interface, .. } => Some(interface),
            Destination::Local => self.network.loopback,
            Destination::Nowhere(_) => None,
        };
        match in_its_name {
            Some(tracked) => {
                context.tracked = tracked;
                self.ask_raw(Hook::Output, context)?;
            }
            None => self.track(Hook::Output, context)?,
        }
        self.filter(TableName::Mangle, Hook::Output, context)?;
        self.translate(Hook::Output, Side::Destination, context)?;
        if self.ipvs.is_some() && self.balance(context)? {
            return Ok(true);
        }
        self.filter(TableName::Filter, Hook::Output, context)?;
        self.filter(TableName::Security, Hook::Output, context)?;
        Ok(false)
    }

    /// It is for this machine, or for a virtual service.
    #[inline(never)]
    fn input(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        self.filter(TableName::Mangle, Hook::Input, context)?;
        self.filter(TableName::Filter, Hook::Input, context)?;
        self.filter(TableName::Security, Hook::Input, context)?;
        if context.ip_options.is_some_and(|read| read.is_changed()) {
            // Not before: an ICMP error quotes the header with the checksum that it came with.
            context.headers.fill_header_checksum(context.packet.bytes_mut());
        }
        if self.ipvs.is_some() && self.balance(context)? {
            return Ok(());
        }
        self.translate(Hook::Input, Side::Source, context)?;
        self.filter(TableName::Raw, Hook::Input, context)?;
        Ok(self.finish(context)?)
    }

    /// It is to be sent on.
    #[inline]
    fn forward(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let family = context.headers.family;
        let bytes = context.packet.bytes();
        if context.headers.hop_limit(bytes) <= 1 {
            return Err(Refusal::with_error(DropReason::HopLimit, IcmpError::hop_limit(family)));
        }
        if family == Family::V6 && context.in_interface != context.out_interface {
            leaves_its_link(context.headers.address(bytes, Side::Source))?;
        }
        let mtu = context.mtu;
        let fitted = context.longest_part.is_some_and(|longest| longest <= mtu);
        if context.packet.len_on_link() > mtu && !fitted && (family == Family::V6 || must_not_be_cut(bytes)) {
            return Err(Refusal::with_error(DropReason::TooBig, IcmpError::too_big(family, mtu as u32)));
        }
        context.headers.decrement_hop_limit(context.packet.bytes_mut());
        self.filter(TableName::Mangle, Hook::Forward, context)?;
        self.filter(TableName::Filter, Hook::Forward, context)?;
        self.filter(TableName::Security, Hook::Forward, context)?;
        if self.ipvs.is_some() {
            self.answer_for_service(context)?;
        }
        if let Some(read) = context.ip_options.filter(IpOptions::is_changed) {
            self.write_options(read, context);
        }
        Ok(())
    }

    /// It leaves: mangle, translation of its source, and what comes last.
    #[inline(always)]
    pub(super) fn postrouting(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        self.filter(TableName::Mangle, Hook::Postrouting, context)?;
        self.translate(Hook::Postrouting, Side::Source, context)?;
        self.filter(TableName::Filter, Hook::Postrouting, context)?;
        Ok(self.finish(context)?)
    }
}
