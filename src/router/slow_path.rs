//! One packet's way.
//!
//! 1. *find*: where its headers are.
//! 2. *probe*: whether its connection is known, and whether there is room for what may be done to it. Nothing is
//!    changed yet.
//! 3. *apply*: the hooks, in Netfilter's order. From here on tables and packet change.
//!
//! What few packets meet stands in functions of its own that are never inlined, so that the way that nearly every packet
//! goes stays short. What a step finds out is written once, into [`PacketContext`] or beside it, and asked for there: values that
//! are put together from small fields and then copied whole cost more than most steps.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::answer::Refusal;
use super::fragments::{Gathered, Whole, begins_too_short};
use super::interfaces::{Destination, Network, Resolved};
use super::{Egress, Outbox, RouteKind, Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, OnMatch, PacketState, Probe, Status, Template, Tracked};
use crate::event::{DestroyReason, DropReason, Event};
use crate::ftp::MAX_TEXT;
use crate::helper::FtpHelper;
use crate::nat::{NatRange, moves, resists, translate, translate_error};
use crate::netfilter::nft::NftState;
use crate::netfilter::{
    self, AddressMask, EvalContext, Hook, RawScope, RuleMemory, Rules, SkippedTables, TableName, Tracking,
};
use crate::packet::{
    Address, Cut, Family, Fragment, Headers, HopByHop, IcmpError, IpOptions, Layer4, Packet, Protocol, Side, TcpFlags,
    atomic_fragment_header, must_not_be_cut, read_hop_by_hop, unfragmentable_v6,
};

/// A packet on its way.
pub(super) struct PacketContext<'t, 'b> {
    pub(super) now: Instant,
    pub(super) packet: &'t mut Packet<'b>,
    pub(super) headers: &'t mut Headers,
    pub(super) probe: &'t mut Option<Probe>,
    pub(super) tracked: Tracked,
    /// Which tables need not be asked about it, once it is tracked.
    skipped: SkippedTables,
    pub(super) in_interface: Option<usize>,
    pub(super) out_interface: Option<usize>,
    /// Egress, once the packet was routed.
    pub(super) egress: Egress,
    /// The longest packet that the link takes by which it leaves.
    pub(super) mtu: usize,
    /// The longest part it came in, if it came in parts.
    longest_part: Option<usize>,
    /// The load balancer has had it (`ipvs_property`).
    pub(super) balanced: bool,
    /// This machine sent it to itself, and it arrived.
    came_back: bool,
    /// The link that link-local addresses belong to, of a packet that this machine makes: the interface by which came what
    /// it answers.
    pub(super) link: Option<usize>,
    /// The IPv4 options it bears, once they were read.
    pub(super) ip_options: Option<IpOptions>,
    /// True if its text was rewritten, by the helper or the load balancer.
    pub(super) rewritten: bool,
}

impl<'t, 'b> PacketContext<'t, 'b> {
    /// A packet before its first hook; without an interface, one that this machine makes.
    #[inline]
    pub(super) const fn new(
        now: Instant,
        packet: &'t mut Packet<'b>,
        headers: &'t mut Headers,
        probe: &'t mut Option<Probe>,
        in_interface: Option<usize>,
    ) -> Self {
        Self {
            now,
            packet,
            headers,
            probe,
            tracked: Tracked::UNTRACKED,
            skipped: SkippedTables::NONE,
            in_interface,
            out_interface: None,
            egress: Egress::Local,
            mtu: usize::MAX,
            longest_part: None,
            balanced: false,
            came_back: false,
            link: None,
            ip_options: None,
            rewritten: false,
        }
    }
}

impl PacketContext<'_, '_> {
    /// Returns true if the packet may begin a connection.
    #[inline]
    fn may_begin(&self) -> bool {
        let begins = match self.headers.layer4 {
            Layer4::Tcp(segment) => segment.flags.has(TcpFlags::SYN),
            layer4 => layer4 == Layer4::Unreadable,
        };
        begins || self.probe.as_ref().is_none_or(Probe::finds_nobody)
    }

    #[inline]
    pub(super) const fn leaves_by(&mut self, interface: usize, next_hop: &IpAddr, mtu: usize) {
        self.mtu = mtu;
        self.out_interface = Some(interface);
        self.egress = Egress::Forward { interface, next_hop: *next_hop };
    }
}

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
            let context = PacketContext::new(now, packet, headers, &mut probe, in_interface);
            return self.refuse(&context, refusal, outbox);
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
        self.run(&mut PacketContext::new(now, packet, headers, &mut probe, in_interface), outbox)
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
    fn refuse(&mut self, context: &PacketContext<'_, '_>, refusal: Refusal, outbox: &mut Outbox) -> Verdict {
        // REJECT does not answer what may be damaged (seen on 6.18).
        let is_damaged = refusal.reason == DropReason::Rejected
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
    fn dropped(&mut self, now: Instant, reason: DropReason, tracked: Option<Tracked>) -> Verdict {
        let connection = tracked.and_then(|t| t.connection);
        let direction = tracked.filter(|t| t.connection.is_some()).map(|t| t.direction);
        self.conntrack.events.push(now, Event::Dropped { reason, connection, direction });
        Verdict::Drop(reason)
    }

    /// A part of a packet: the packet goes its way when all its parts are there.
    #[inline(never)]
    fn gather(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &Packet<'_>,
        headers: &mut Headers,
        fragment: Fragment,
        outbox: &mut Outbox,
    ) -> Option<Verdict> {
        let mut whole = match self.fragments.gather(now, in_interface, packet.bytes(), headers, fragment) {
            Gathered::Waits => return Some(Verdict::Held),
            Gathered::Refused => return Some(self.dropped(now, DropReason::Fragment, None)),
            Gathered::Passes => {
                if fragment.offset == 0 {
                    // From here on the packet counts as whole.
                    headers.fragment = None;
                }
                return None;
            }
            Gathered::Whole(whole) => whole,
        };
        let mut buffer = core::mem::take(&mut whole.buffer);
        let verdict = match Packet::new(&mut buffer, whole.range.clone()) {
            Ok(mut gathered) => {
                gathered.mark = packet.mark;
                self.run_in_fragments(now, in_interface, &mut gathered, &whole, outbox)
            }
            Err(_) => Verdict::Drop(DropReason::Fragment),
        };
        whole.buffer = buffer;
        self.fragments.give_back(whole);
        Some(verdict)
    }

    /// Takes the fragment header out of an IPv6 packet that is whole, and takes one with another such header after it for
    /// whole. Tracking connections does that.
    #[inline(never)]
    fn defragment_atomic(&self, packet: &mut Packet<'_>, headers: &mut Headers) {
        let Some(found) = atomic_fragment_header(packet.bytes(), headers.end) else { return };
        let (at, named_at) = found;
        let after = Fragment { offset: 0, more: false, header: at, body: at + 8, identification: 0, named_at };
        if !self.tracks[family_index(Family::V6)] || begins_too_short(packet.bytes(), headers, after) {
            return;
        }
        packet.truncate(headers.end);
        packet.remove_atomic_fragment_header(found);
        if let Ok(found) = Headers::find(packet.bytes()) {
            *headers = found;
            if headers.fragment.is_some_and(|fragment| fragment.offset == 0) {
                headers.fragment = None;
            }
        }
    }

    /// A packet that came in parts goes on in parts.
    fn run_in_fragments(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &mut Packet<'_>,
        whole: &Whole,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Ok(mut headers) = Headers::find(packet.bytes()) else {
            return self.dropped(now, DropReason::Malformed, None);
        };
        let mut probe = self.conntrack.probe(now, packet.bytes(), &headers, 0);
        let mut context = PacketContext::new(now, packet, &mut headers, &mut probe, in_interface);
        context.longest_part = Some(whole.longest);
        match self.run_hooks(&mut context) {
            Ok(()) => {
                match context.egress {
                    Egress::Forward { .. } => self.send_in_fragments(&context, whole, outbox),
                    Egress::Local => outbox.send_copy(context.packet.bytes(), Egress::Local, context.packet.mark),
                }
                Verdict::Held
            }
            Err(refusal) => self.refuse(&context, refusal, outbox),
        }
    }

    /// Parts leave in the sizes they came, if these fit; if a helper read the packet, as Linux has it, in the size of the
    /// longest. IPv6 parts bear another identification, and one that is not longer than the longest part leaves whole.
    fn send_in_fragments(&mut self, context: &PacketContext<'_, '_>, whole: &Whole, outbox: &mut Outbox) {
        let (bytes, mark, egress) = (context.packet.bytes(), context.packet.mark, context.egress);
        let mut removed = 0;
        let (cut, longest) = match context.headers.family {
            Family::V4 => (Cut::v4(bytes), whole.longest),
            Family::V6 if bytes.len() <= whole.longest => return outbox.send_copy(bytes, egress, mark),
            Family::V6 => {
                let identification = self.identifications.below(u32::MAX);
                let (header, named_at) = unfragmentable_v6(bytes);
                // Every fragment bears these headers, the first one less of the rest.
                removed = header as isize - whole.header.0 as isize;
                (Cut::v6(header, named_at, identification), whole.longest.max(MIN_MTU_V6))
            }
        };
        let mtu = context.mtu.min(longest);
        let connection = context.tracked.connection.and_then(|id| self.conntrack.get(id));
        let was_read = context.tracked.state == PacketState::Established && connection.is_some_and(|c| c.has_helper());
        // Offset and length of a fragment in what is cut now.
        let place = |&(offset, len): &(u16, u16)| {
            let start = usize::from(offset).checked_add_signed(if offset == 0 { 0 } else { -removed })?;
            let len = usize::from(len).checked_add_signed(if offset == 0 { -removed } else { 0 })?;
            Some((start, len))
        };
        let fits = |(i, part): (usize, &(u16, u16))| {
            let last = i + 1 == whole.parts.len();
            place(part).is_some_and(|(_, len)| len > 0 && len + cut.overhead() <= mtu && (last || len % 8 == 0))
        };
        let gathered: usize = whole.parts.iter().filter_map(place).map(|(_, len)| len).sum();
        if was_read || gathered != cut.body(bytes) || !whole.parts.iter().enumerate().all(fits) {
            return send_cut(&cut, bytes, mtu, egress, mark, outbox);
        }
        for (offset, len) in whole.parts.iter().filter_map(place) {
            send_part(&cut, bytes, offset, len, egress, mark, outbox);
        }
    }

    /// A packet that is longer than the link takes leaves in parts, or not at all.
    #[inline(never)]
    fn cut_for_link(&mut self, context: &mut PacketContext<'_, '_>, outbox: &mut Outbox) -> Verdict {
        let (bytes, mtu) = (context.packet.bytes(), context.mtu);
        if context.headers.family == Family::V4 && !must_not_be_cut(bytes) {
            send_cut(&Cut::v4(bytes), bytes, mtu, context.egress, context.packet.mark, outbox);
            return Verdict::Held;
        }
        if context.rewritten {
            // Linux sums a rewritten packet when it leaves: the error quotes one with only the pseudo-header summed.
            context.headers.sum_pseudo_header_only(context.packet.bytes_mut());
        }
        let error = IcmpError::too_big(context.headers.family, mtu as u32);
        self.refuse(context, Refusal::with_error(DropReason::TooBig, error), outbox)
    }

    pub(super) fn mtu(&self, interface: usize) -> usize {
        self.network.interfaces.get(interface).map_or(usize::MAX, |interface| interface.mtu)
    }

    /// The hooks.
    fn run_hooks(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
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

    /// Decides where an arriving packet goes: on to its next hop, or to this machine.
    fn route(&mut self, context: &mut PacketContext<'_, '_>) -> Result<Egress, Refusal> {
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
    fn receive_v6(&self, interface: usize, bytes: &[u8], headers: &Headers) -> Result<(), Refusal> {
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

    /// IPv4 options are read, and this router's entries made: behind PREROUTING, before anything else is done with the
    /// packet. One with a source route goes nowhere.
    #[inline(never)]
    fn read_options(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let bytes = context.packet.bytes();
        let [source, destination] = [context.headers.source(bytes), context.headers.destination(bytes)];
        let known_as =
            if self.network.is_local(destination) { Some(destination) } else { self.network.source_towards(source) };
        let entry = self.entry(context.now, known_as.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        let transport = context.headers.transport;
        let read = context.ip_options.insert(IpOptions::default());
        let header = context.packet.bytes_mut().get_mut(..transport).unwrap_or_default();
        if let Err(problem) = read.arrive(header, &entry) {
            return Err(Refusal::with_error(DropReason::IpOptions, IcmpError::parameter_problem(problem.0)));
        }
        if read.has_source_route() { Err(DropReason::IpOptions.into()) } else { Ok(()) }
    }

    /// The packet leaves with the address of this side in its IPv4 options.
    #[inline(never)]
    fn write_options(&mut self, read: IpOptions, context: &mut PacketContext<'_, '_>) {
        let destination = context.headers.destination(context.packet.bytes());
        let transport = context.headers.transport;
        if let Some(IpAddr::V4(own)) = self.network.source_towards(destination) {
            read.leave(context.packet.bytes_mut().get_mut(..transport).unwrap_or_default(), own.octets());
        }
        context.headers.fill_header_checksum(context.packet.bytes_mut());
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

    /// Returns the route of a packet that this machine sends.
    pub(super) fn destination_of_own(&mut self, context: &PacketContext<'_, '_>) -> Destination {
        let destination = context.headers.address(context.packet.bytes(), Side::Destination);
        match (IpAddr::from(destination), context.link) {
            (IpAddr::V6(address), Some(link)) if address.is_unicast_link_local() => {
                self.network.destination_on_link(link, address)
            }
            _ => self.network.resolve(destination).destination,
        }
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
                self.ask_raw(Hook::Output, context)?;
                context.tracked = tracked;
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

    /// The helper reads it, its numbers are adjusted, and its connection is confirmed.
    #[inline(always)]
    pub(super) fn finish(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), DropReason> {
        let Some(id) = context.tracked.connection else { return Ok(()) };
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let status = connection.status();
        if connection.has_helper() && self.helper.is_exact() {
            return self.finish_exactly(id, context);
        }
        let Tracked { state, is_error, direction, .. } = context.tracked;
        let is_spoken = connection.has_helper() && state == PacketState::Established && !is_error && {
            let bytes = context.packet.bytes();
            self.helper.lines(id, connection, direction, bytes, context.headers).is_some()
        };
        if status.has(Status::CONFIRMED) && !status.has(Status::SEQ_ADJUST) && !is_spoken {
            return Ok(());
        }
        self.finish_connection(id, context)
    }

    #[inline(never)]
    fn finish_connection(&mut self, id: ConnectionId, context: &mut PacketContext<'_, '_>) -> Result<(), DropReason> {
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let status = connection.status();
        if context.tracked.is_error {
            if status.has(Status::SEQ_ADJUST) && context.tracked.direction == Direction::Original {
                let PacketContext { packet, headers, tracked, .. } = context;
                self.conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
            }
            return Ok(());
        }
        if connection.has_helper() {
            let PacketContext { now, packet, headers, tracked, .. } = context;
            let rewritten = self.helper.read(*now, &mut self.conntrack, &mut self.nat, tracked, packet, headers)?;
            context.rewritten |= rewritten;
        }
        // Sample SEQ_ADJUST before the helper runs: the packet that causes the first shift keeps its own numbers. A
        // packet that came back by loopback was adjusted when it left, and is only read again (seen on 6.18). What came
        // back was adjusted when it left, and is only read again (seen on 6.18).
        if status.has(Status::SEQ_ADJUST)
            && !context.came_back
            && let Some(connection) = self.conntrack.get(id)
        {
            let PacketContext { packet, headers, tracked, .. } = context;
            self.conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
            if context.rewritten {
                // Linux sums a rewritten packet when all is done: of the two zeros its checksum is the other one.
                headers.fill_transport_checksum(packet.bytes_mut());
            }
        }
        if status.has(Status::CONFIRMED) { Ok(()) } else { self.conntrack.confirm(context.now, id) }
    }

    /// Table raw, then the tracker.
    #[inline(always)]
    pub(super) fn track(&mut self, hook: Hook, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let asks = match self.rules[family_index(context.headers.family)].asks_raw(hook) {
            RawScope::None => false,
            RawScope::NewOnly => context.may_begin(),
            RawScope::All => true,
        };
        let tracking = if asks { self.ask_raw(hook, context)? } else { Tracking::Usual };
        if !self.tracks[family_index(context.headers.family)] {
            return Ok(());
        }
        let template = match tracking {
            Tracking::None => return Ok(()),
            Tracking::Template(template) => template,
            Tracking::Usual => self.automatic_helper(context),
        };
        let PacketContext { now, packet, headers, probe, tracked, .. } = context;
        let bytes = packet.bytes();
        if template.zone != 0 {
            **probe = self.conntrack.probe(*now, bytes, headers, template.zone);
        }
        if self.checksum && hook == Hook::Prerouting && is_checksum_wrong(bytes, headers) {
            *tracked = self.conntrack.track_bad_checksum(*now, bytes, headers, probe.as_ref());
            return Ok(());
        }
        self.conntrack.track_probed(*now, bytes, headers, template, probe.as_ref(), tracked)?;
        context.skipped = self.rules[family_index(headers.family)].skipped(tracked.state);
        if let (Some(id), OnMatch::FollowMaster { .. }) = (tracked.connection, tracked.on_match) {
            self.nat.apply_expectation(*now, &mut self.conntrack, id, tracked.on_match)?;
        }
        if let (Some(ipvs), Some(id), OnMatch::Balance) =
            (&self.ipvs, context.tracked.connection, context.tracked.on_match)
        {
            ipvs.met_expectation(*now, &mut self.conntrack, id);
        }
        Ok(())
    }

    /// Asks table raw about tracking a packet.
    #[inline(never)]
    pub(super) fn ask_raw(&mut self, hook: Hook, context: &mut PacketContext<'_, '_>) -> Result<Tracking, Refusal> {
        let mut tracking = Tracking::default();
        let rules = &self.rules[family_index(context.headers.family)];
        let verdict = ask(
            rules,
            &self.network,
            (&mut self.conntrack, &mut self.nft_state, &mut self.memory),
            (TableName::Raw, hook),
            context,
            &mut tracking,
        );
        into_result(context.headers.family, verdict)?;
        if let Tracking::Template(template) = &mut tracking {
            template.helper &= self.helper.config().enabled;
        }
        Ok(tracking)
    }

    /// The helper by port, for routers that have it so.
    #[inline]
    pub(super) fn automatic_helper(&self, context: &PacketContext<'_, '_>) -> Template {
        let gets_helper = !self.helper_ports.is_empty() && self.is_control(context);
        if gets_helper { Template::FTP } else { Template::default() }
    }

    #[inline(never)]
    fn is_control(&self, context: &PacketContext<'_, '_>) -> bool {
        let ports = context.headers.ports(context.packet.bytes());
        self.helper.config().enabled
            && context.headers.protocol == Protocol::TCP
            && ports.is_some_and(|(_, destination)| self.helper_ports.contains(&destination))
    }

    /// A table whose verdict is pass or drop.
    #[inline]
    pub(super) fn filter(
        &mut self,
        table: TableName,
        hook: Hook,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), Refusal> {
        if context.skipped.includes(table, hook) { Ok(()) } else { self.ask_filter(table, hook, context) }
    }

    #[inline(never)]
    fn ask_filter(&mut self, table: TableName, hook: Hook, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let rules = &self.rules[family_index(context.headers.family)];
        if !rules.asks_at(table, hook) {
            return Ok(());
        }
        let mut tracking = Tracking::None;
        let verdict = ask(
            rules,
            &self.network,
            (&mut self.conntrack, &mut self.nft_state, &mut self.memory),
            (table, hook),
            context,
            &mut tracking,
        );
        into_result(context.headers.family, verdict)
    }

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

/// Refuses an IPv6 source that belongs to one link, where its packet would leave by another interface.
fn leaves_its_link(source: Address) -> Result<(), Refusal> {
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
fn nowhere(family: Family, kind: RouteKind) -> Refusal {
    let code = match (kind, family) {
        (RouteKind::Blackhole, _) => return DropReason::NoRoute.into(),
        (RouteKind::Unreachable, Family::V4) => 1,
        (RouteKind::Prohibit, Family::V4) => 13,
        (RouteKind::Prohibit, Family::V6) => 1,
        _ => 0,
    };
    Refusal::with_error(DropReason::NoRoute, IcmpError::unreachable(family, code))
}

/// Returns the tail room still missing for what rules may add; `None` if there is enough.
#[inline(never)]
fn room_for_rules(rules: &Rules, headers: &Headers, packet: &Packet<'_>) -> Option<usize> {
    let padding = packet.bytes().len() - headers.end;
    if rules.sets_zones() && !headers.payload(packet.bytes()).is_empty() && packet.tail_room() + padding < MAX_TEXT {
        return Some(MAX_TEXT);
    }
    let begins = matches!(headers.layer4, Layer4::Tcp(segment) if segment.flags.has(TcpFlags::SYN));
    let may_add_option = begins && rules.may_add_option() && packet.tail_room() + padding < Rules::OPTION;
    may_add_option.then_some(Rules::OPTION)
}

/// ICMP's identifier, which translation changes, is part of what was read of its header.
#[inline(never)]
fn read_identifier_again(packet: &Packet<'_>, headers: &mut Headers) {
    if let Ok(found) = Headers::find(packet.bytes()) {
        *headers = found;
    }
}

/// True if Linux would not take the transport checksum of an arriving packet for right.
#[inline(never)]
pub(super) fn is_checksum_wrong(bytes: &[u8], headers: &Headers) -> bool {
    !headers.transport_checksum_ok(bytes) && !headers.checksum_is_left_to_device(bytes)
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

/// Asks a table's chain of a hook.
fn ask(
    rules: &Rules,
    network: &Network,
    (conntrack, nft, memory): (&mut Conntrack, &mut NftState, &mut RuleMemory),
    (table, hook): (TableName, Hook),
    context: &mut PacketContext<'_, '_>,
    tracking: &mut Tracking,
) -> netfilter::RuleVerdict {
    let before = matches!(table, TableName::Raw);
    let mut subject = EvalContext {
        packet: &mut *context.packet,
        headers: &mut *context.headers,
        in_interface: context.in_interface,
        out_interface: if matches!(hook, Hook::Prerouting) { None } else { context.out_interface },
        tracked: if before { None } else { Some(&context.tracked) },
        tracking,
        surroundings: network,
        now: context.now,
        nft,
        memory,
        hot_drop: false,
        logged: None,
        not_understood: None,
    };
    let verdict = rules.evaluate(table, hook, conntrack, &mut subject);
    let (logged, not_understood) = (subject.logged, subject.not_understood);
    if let Some(rule) = logged {
        let ipv6 = context.headers.family == Family::V6;
        conntrack.events.push(context.now, Event::Log { ipv6, rule });
    }
    if let Some(rule) = not_understood {
        let ipv6 = context.headers.family == Family::V6;
        conntrack.events.push(context.now, Event::Undecided { ipv6, rule });
    }
    verdict
}

/// The verdict of a table that only passes or drops.
const fn into_result(family: Family, verdict: netfilter::RuleVerdict) -> Result<(), Refusal> {
    match verdict {
        netfilter::RuleVerdict::Drop => Err(Refusal { reason: DropReason::Rule, answer: None }),
        netfilter::RuleVerdict::Reject(with) => Err(Refusal::rejected(family, with)),
        _ => Ok(()),
    }
}

/// The least that an IPv6 link takes (RFC 8200 section 5).
const MIN_MTU_V6: usize = 1280;

/// Sends a packet in parts that are no longer than `mtu`.
fn send_cut(cut: &Cut, bytes: &[u8], mtu: usize, egress: Egress, mark: u32, outbox: &mut Outbox) {
    let body = cut.body(bytes);
    let room = mtu.saturating_sub(cut.overhead());
    let mut offset = 0;
    while offset < body && room >= 8 {
        // The last part need not be a multiple of eight bytes long.
        let rest = body - offset;
        let len = if rest <= room { rest } else { room & !7 };
        send_part(cut, bytes, offset, len, egress, mark, outbox);
        offset += len;
    }
}

fn send_part(cut: &Cut, bytes: &[u8], offset: usize, len: usize, egress: Egress, mark: u32, outbox: &mut Outbox) {
    let Some(room) = outbox.room(cut.overhead() + len) else { return };
    if let Some(written) = cut.write(room, bytes, offset, len) {
        outbox.send(written, egress, mark);
    }
}
