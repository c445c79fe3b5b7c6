//! One packet's way.
//!
//! 1. *find*: where its headers are.
//! 2. *probe*: whether its connection is known, and whether there is room for what may be done to it. Nothing is
//!    changed yet.
//! 3. *apply*: the hooks, in Netfilter's order. From here on tables and packet change.
//!
//! What few packets meet stands in functions of its own that are never inlined, so that the way that nearly every packet
//! goes stays short. What a step finds out is written once, into [`Transit`] or beside it, and asked for there: values that
//! are put together from small fields and then copied whole cost more than most steps.

use core::net::IpAddr;

use super::answer::Refusal;
use super::fragments::{Gathered, Whole};
use super::interfaces::{Destination, Network, Resolved};
use super::{Outbox, RouteKind, Router, Verdict, Way, family_index};
use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, OnMatch, PacketState, Probe, Status, Template, Tracked};
use crate::event::{DestroyReason, DropReason, Event};
use crate::ftp::MAX_TEXT;
use crate::helper::FtpHelper;
use crate::nat::{NatRange, moves, resists, translate, translate_error};
use crate::netfilter::{self, Asks, Hook, Rules, Silent, Subject, TableName, Tracking};
use crate::packet::{
    Cut, Family, Fragment, Headers, IcmpError, IpOptions, Layer4, Packet, Protocol, Side, TcpFlags, must_not_be_cut,
};

/// A packet on its way.
pub(super) struct Transit<'t, 'b> {
    pub(super) now: Instant,
    pub(super) packet: &'t mut Packet<'b>,
    pub(super) headers: &'t mut Headers,
    pub(super) probe: &'t mut Option<Probe>,
    pub(super) tracked: Tracked,
    /// Which tables need not be asked about it, once it is tracked.
    silent: Silent,
    pub(super) in_interface: Option<usize>,
    pub(super) out_interface: Option<usize>,
    /// Where it goes, once it was routed.
    pub(super) way: Way,
    /// The longest packet that the link takes by which it leaves.
    pub(super) mtu: usize,
    /// The longest part it came in, if it came in parts.
    longest_part: Option<usize>,
    /// The load balancer has had it (`ipvs_property`).
    pub(super) balanced: bool,
    /// This machine sent it to itself, and it arrived.
    came_back: bool,
    /// The IPv4 options it bears, once they were read.
    pub(super) ip_options: Option<IpOptions>,
    /// Its text was rewritten before the helper's turn.
    pub(super) rewritten: bool,
}

impl<'t, 'b> Transit<'t, 'b> {
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
            silent: Silent::NONE,
            in_interface,
            out_interface: None,
            way: Way::Local,
            mtu: usize::MAX,
            longest_part: None,
            balanced: false,
            came_back: false,
            ip_options: None,
            rewritten: false,
        }
    }
}

impl Transit<'_, '_> {
    /// Whether it may begin a connection.
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
        self.way = Way::Forward { interface, next_hop: *next_hop };
    }
}

impl Router {
    /// The whole way of a packet that arrived on an interface, or, without one, that this machine made.
    #[inline(never)]
    pub(super) fn walk(
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
        if let Some(fragment) = headers.fragment {
            return self.gather(now, in_interface, packet, headers, fragment, outbox);
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
        self.go(&mut Transit::new(now, packet, headers, &mut probe, in_interface), outbox)
    }

    /// The rest of the way: changes the packet and the tables.
    #[inline]
    fn go(&mut self, transit: &mut Transit<'_, '_>, outbox: &mut Outbox) -> Verdict {
        if let Err(refusal) = self.apply(transit) {
            return self.refuse(transit, refusal, outbox);
        }
        let Way::Forward { interface, next_hop } = transit.way else { return Verdict::Local };
        if transit.packet.bytes().len() > transit.mtu {
            return self.cut_for_link(transit, outbox);
        }
        Verdict::Forward { interface, next_hop }
    }

    /// The packet ends here: its sender is told if need be, and a connection that it would have begun does not begin.
    #[inline(never)]
    fn refuse(&mut self, transit: &Transit<'_, '_>, refusal: Refusal, outbox: &mut Outbox) -> Verdict {
        if let Some(answer) = refusal.answer {
            self.answer(transit, answer, outbox);
        }
        if let Some(id) = transit.tracked.connection {
            self.conntrack.discard(id);
        }
        self.dropped(transit.now, refusal.reason, Some(transit.tracked))
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
        headers: &Headers,
        fragment: Fragment,
        outbox: &mut Outbox,
    ) -> Verdict {
        let mut whole = match self.fragments.gather(now, in_interface, packet.bytes(), headers, fragment) {
            Gathered::Waits => return Verdict::Held,
            Gathered::Refused => return self.dropped(now, DropReason::Fragment, None),
            Gathered::Whole(whole) => whole,
        };
        let mut buffer = core::mem::take(&mut whole.buffer);
        let verdict = match Packet::new(&mut buffer, whole.range.clone()) {
            Ok(mut gathered) => {
                gathered.mark = packet.mark;
                self.go_on_in_parts(now, in_interface, &mut gathered, &whole, outbox)
            }
            Err(_) => Verdict::Drop(DropReason::Fragment),
        };
        whole.buffer = buffer;
        self.fragments.give_back(whole);
        verdict
    }

    /// A packet that came in parts goes on in parts.
    fn go_on_in_parts(
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
        let mut transit = Transit::new(now, packet, &mut headers, &mut probe, in_interface);
        transit.longest_part = Some(whole.longest);
        match self.apply(&mut transit) {
            Ok(()) => {
                match transit.way {
                    Way::Forward { .. } => self.send_in_parts(&transit, whole, outbox),
                    Way::Local => outbox.send_copy(transit.packet.bytes(), Way::Local, transit.packet.mark),
                }
                Verdict::Held
            }
            Err(refusal) => self.refuse(&transit, refusal, outbox),
        }
    }

    /// Parts leave in the sizes they came, if these fit; if a helper read the packet, as Linux has it, in the size of the
    /// longest. IPv6 parts bear another identification, and one that is not longer than the longest part leaves whole.
    fn send_in_parts(&mut self, transit: &Transit<'_, '_>, whole: &Whole, outbox: &mut Outbox) {
        let (bytes, mark, way) = (transit.packet.bytes(), transit.packet.mark, transit.way);
        let (cut, longest) = match transit.headers.family {
            Family::V4 => (Cut::v4(bytes), whole.longest),
            Family::V6 if bytes.len() <= whole.longest => return outbox.send_copy(bytes, way, mark),
            Family::V6 => {
                let identification = self.identifications.below(u32::MAX);
                (Cut::v6(whole.header.0, whole.header.1, identification), whole.longest.max(MIN_MTU_V6))
            }
        };
        let mtu = transit.mtu.min(longest);
        let connection = transit.tracked.connection.and_then(|id| self.conntrack.get(id));
        let was_read = transit.tracked.state == PacketState::Established && connection.is_some_and(|c| c.has_helper());
        let fits = |(i, (_, len)): (usize, &(u16, u16))| {
            let last = i + 1 == whole.parts.len();
            usize::from(*len) + cut.overhead() <= mtu && (last || len % 8 == 0)
        };
        let gathered: usize = whole.parts.iter().map(|(_, len)| usize::from(*len)).sum();
        if was_read || gathered != cut.body(bytes) || !whole.parts.iter().enumerate().all(fits) {
            return send_cut(&cut, bytes, mtu, way, mark, outbox);
        }
        for (offset, len) in &whole.parts {
            send_part(&cut, bytes, usize::from(*offset), usize::from(*len), way, mark, outbox);
        }
    }

    /// A packet that is longer than the link takes leaves in parts, or not at all.
    #[inline(never)]
    fn cut_for_link(&mut self, transit: &Transit<'_, '_>, outbox: &mut Outbox) -> Verdict {
        let (bytes, mtu) = (transit.packet.bytes(), transit.mtu);
        if transit.headers.family == Family::V4 && !must_not_be_cut(bytes) {
            send_cut(&Cut::v4(bytes), bytes, mtu, transit.way, transit.packet.mark, outbox);
            return Verdict::Held;
        }
        let error = IcmpError::too_big(transit.headers.family, mtu as u32);
        self.refuse(transit, Refusal::with_error(DropReason::TooBig, error), outbox)
    }

    pub(super) fn mtu(&self, interface: usize) -> usize {
        self.network.interfaces.get(interface).map_or(usize::MAX, |interface| interface.mtu)
    }

    /// The hooks.
    fn apply(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        if transit.in_interface.is_none() {
            return self.send_own(transit, None);
        }
        self.prerouting(transit)?;
        let bytes = transit.packet.bytes();
        let [source, destination] = [Side::Source, Side::Destination].map(|side| transit.headers.address(bytes, side));
        // Linux drops what comes from one of its own IPv4 addresses as from nobody (seen on 6.18), known connection or not.
        let is_martian = Network::is_martian(source) || destination.is_host_internal();
        if is_martian || self.network.is_own_v4(source) {
            return Err(DropReason::NotForwardable.into());
        }
        if transit.headers.transport != 20 && transit.headers.family == Family::V4 {
            self.read_options(transit)?;
        }
        let Resolved { destination, is_for_many, mtu, .. } = self.network.resolve(destination);
        match destination {
            Destination::Local => return self.input(transit),
            Destination::Via { .. } if *is_for_many => return Err(DropReason::NotForwardable.into()),
            Destination::Via { interface, next_hop } => transit.leaves_by(*interface, next_hop, *mtu),
            Destination::Nowhere(kind) => return Err(nowhere(transit.headers.family, *kind)),
        }
        self.forward(transit)?;
        self.postrouting(transit)
    }

    /// IPv4 options are read, and this router's entries made: behind PREROUTING, before anything else is done with the
    /// packet. One with a source route goes nowhere.
    #[inline(never)]
    fn read_options(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        let bytes = transit.packet.bytes();
        let [source, destination] = [transit.headers.source(bytes), transit.headers.destination(bytes)];
        let known_as =
            if self.network.is_local(destination) { Some(destination) } else { self.network.source_towards(source) };
        let entry = self.entry(transit.now, known_as.unwrap_or(core::net::Ipv4Addr::UNSPECIFIED.into()));
        let transport = transit.headers.transport;
        let read = transit.ip_options.insert(IpOptions::default());
        let header = transit.packet.bytes_mut().get_mut(..transport).unwrap_or_default();
        if let Err(problem) = read.arrive(header, &entry) {
            return Err(Refusal::with_error(DropReason::IpOptions, IcmpError::parameter_problem(problem.0)));
        }
        if read.has_source_route() { Err(DropReason::IpOptions.into()) } else { Ok(()) }
    }

    /// The packet leaves with the address of this side in its IPv4 options.
    #[inline(never)]
    fn write_options(&mut self, read: IpOptions, transit: &mut Transit<'_, '_>) {
        let destination = transit.headers.destination(transit.packet.bytes());
        let transport = transit.headers.transport;
        if let Some(IpAddr::V4(own)) = self.network.source_towards(destination) {
            read.leave(transit.packet.bytes_mut().get_mut(..transport).unwrap_or_default(), own.octets());
        }
        transit.headers.fill_header_checksum(transit.packet.bytes_mut());
    }

    /// A packet of this machine's own leaves. `in_its_name`: it is sent in the name of a connection, without being
    /// tracked itself.
    #[inline(never)]
    pub(super) fn send_own(
        &mut self,
        transit: &mut Transit<'_, '_>,
        in_its_name: Option<Tracked>,
    ) -> Result<(), Refusal> {
        if self.local_output(transit, in_its_name)? {
            return Ok(());
        }
        let destination = transit.headers.address(transit.packet.bytes(), Side::Destination);
        let Resolved { destination, mtu, .. } = self.network.resolve(destination);
        match destination {
            Destination::Local => return self.come_back(transit),
            Destination::Via { interface, next_hop } => transit.leaves_by(*interface, next_hop, *mtu),
            Destination::Nowhere(_) => return Err(DropReason::NoRoute.into()),
        }
        self.postrouting(transit)
    }

    /// What this machine sends to itself leaves by the loopback device and arrives there again; its connection, which has
    /// begun when it left, is the one it was.
    fn come_back(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        transit.out_interface = self.network.loopback;
        self.postrouting(transit)?;
        transit.in_interface = transit.out_interface.take();
        transit.came_back = true;
        self.ask_raw(Hook::Prerouting, transit)?;
        self.filter(TableName::Mangle, Hook::Prerouting, transit)?;
        self.translate(Hook::Prerouting, Side::Destination, transit)?;
        self.input(transit)
    }

    /// It arrived: raw, conntrack, mangle, and translation of its destination.
    #[inline]
    fn prerouting(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        self.track(Hook::Prerouting, transit)?;
        self.filter(TableName::Mangle, Hook::Prerouting, transit)?;
        Ok(self.translate(Hook::Prerouting, Side::Destination, transit)?)
    }

    /// This machine made it: raw, conntrack, mangle, translation of its destination, filter.
    fn local_output(&mut self, transit: &mut Transit<'_, '_>, in_its_name: Option<Tracked>) -> Result<bool, Refusal> {
        let destination = transit.headers.address(transit.packet.bytes(), Side::Destination);
        transit.out_interface = match self.network.resolve(destination).destination {
            Destination::Via { interface, .. } => Some(interface),
            Destination::Local => self.network.loopback,
            Destination::Nowhere(_) => None,
        };
        match in_its_name {
            Some(tracked) => {
                self.ask_raw(Hook::Output, transit)?;
                transit.tracked = tracked;
            }
            None => self.track(Hook::Output, transit)?,
        }
        self.filter(TableName::Mangle, Hook::Output, transit)?;
        self.translate(Hook::Output, Side::Destination, transit)?;
        if self.ipvs.is_some() && self.balance(transit)? {
            return Ok(true);
        }
        self.filter(TableName::Filter, Hook::Output, transit)?;
        Ok(false)
    }

    /// It is for this machine, or for a virtual service.
    #[inline(never)]
    fn input(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        self.filter(TableName::Mangle, Hook::Input, transit)?;
        self.filter(TableName::Filter, Hook::Input, transit)?;
        if transit.ip_options.is_some_and(|read| read.is_changed()) {
            // Not before: an ICMP error quotes the header with the checksum that it came with.
            transit.headers.fill_header_checksum(transit.packet.bytes_mut());
        }
        if self.ipvs.is_some() && self.balance(transit)? {
            return Ok(());
        }
        self.translate(Hook::Input, Side::Source, transit)?;
        Ok(self.finish(transit)?)
    }

    /// It is to be sent on.
    #[inline]
    fn forward(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        let family = transit.headers.family;
        let bytes = transit.packet.bytes();
        if transit.headers.hop_limit(bytes) <= 1 {
            return Err(Refusal::with_error(DropReason::HopLimit, IcmpError::hop_limit(family)));
        }
        let mtu = transit.mtu;
        let fitted = transit.longest_part.is_some_and(|longest| longest <= mtu);
        if bytes.len() > mtu && !fitted && (family == Family::V6 || must_not_be_cut(bytes)) {
            return Err(Refusal::with_error(DropReason::TooBig, IcmpError::too_big(family, mtu as u32)));
        }
        transit.headers.decrement_hop_limit(transit.packet.bytes_mut());
        self.filter(TableName::Mangle, Hook::Forward, transit)?;
        self.filter(TableName::Filter, Hook::Forward, transit)?;
        if self.ipvs.is_some() {
            self.answer_for_service(transit)?;
        }
        if let Some(read) = transit.ip_options.filter(IpOptions::is_changed) {
            self.write_options(read, transit);
        }
        Ok(())
    }

    /// It leaves: mangle, translation of its source, and what comes last.
    #[inline(always)]
    pub(super) fn postrouting(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        self.filter(TableName::Mangle, Hook::Postrouting, transit)?;
        self.translate(Hook::Postrouting, Side::Source, transit)?;
        Ok(self.finish(transit)?)
    }

    /// The helper reads it, its numbers are adjusted, and its connection is confirmed.
    #[inline(always)]
    pub(super) fn finish(&mut self, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let Some(id) = transit.tracked.connection else { return Ok(()) };
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let status = connection.status();
        if connection.has_helper() && self.helper.is_exact() {
            return self.finish_exactly(id, transit);
        }
        let Tracked { state, is_error, direction, .. } = transit.tracked;
        let is_spoken = connection.has_helper() && state == PacketState::Established && !is_error && {
            let bytes = transit.packet.bytes();
            self.helper.lines(id, connection, direction, bytes, transit.headers).is_some()
        };
        if status.has(Status::CONFIRMED) && !status.has(Status::SEQ_ADJUST) && !is_spoken {
            return Ok(());
        }
        self.finish_connection(id, transit)
    }

    #[inline(never)]
    fn finish_connection(&mut self, id: ConnectionId, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let status = connection.status();
        if transit.tracked.is_error {
            if status.has(Status::SEQ_ADJUST) && transit.tracked.direction == Direction::Original {
                let Transit { packet, headers, tracked, .. } = transit;
                self.conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
            }
            return Ok(());
        }
        let mut rewritten = transit.rewritten;
        if connection.has_helper() {
            let Transit { now, packet, headers, tracked, .. } = transit;
            rewritten |= self.helper.process(*now, &mut self.conntrack, &mut self.nat, tracked, packet, headers)?;
        }
        // Whether it is to be adjusted was decided before the helper read it: the packet whose text grows first keeps
        // its numbers.
        // What came back was adjusted when it left, and is only read again (seen on 6.18).
        if status.has(Status::SEQ_ADJUST)
            && !transit.came_back
            && let Some(connection) = self.conntrack.get(id)
        {
            let Transit { packet, headers, tracked, .. } = transit;
            self.conntrack.adjust(connection, tracked.direction, packet.bytes_mut(), headers)?;
            if rewritten {
                // Linux sums a rewritten packet when all is done: of the two zeros its checksum is the other one.
                headers.fill_transport_checksum(packet.bytes_mut());
            }
        }
        if status.has(Status::CONFIRMED) { Ok(()) } else { self.conntrack.confirm(transit.now, id) }
    }

    /// Table raw, then the tracker.
    #[inline(always)]
    pub(super) fn track(&mut self, hook: Hook, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        let asks = match self.rules[family_index(transit.headers.family)].asks_raw(hook) {
            Asks::Nobody => false,
            Asks::WhoBegins => transit.may_begin(),
            Asks::Everybody => true,
        };
        let tracking = if asks { self.ask_raw(hook, transit)? } else { Tracking::Usual };
        if !self.tracks[family_index(transit.headers.family)] {
            return Ok(());
        }
        let template = match tracking {
            Tracking::None => return Ok(()),
            Tracking::Template(template) => template,
            Tracking::Usual => self.automatic_helper(transit),
        };
        let Transit { now, packet, headers, probe, tracked, .. } = transit;
        let bytes = packet.bytes();
        if self.checksum && hook == Hook::Prerouting && !headers.transport_checksum_ok(bytes) {
            *tracked = Tracked::BAD_CHECKSUM;
            return Ok(());
        }
        if template.zone != 0 {
            **probe = self.conntrack.probe(*now, bytes, headers, template.zone);
        }
        self.conntrack.track_probed(*now, bytes, headers, template, probe.as_ref(), tracked)?;
        transit.silent = self.rules[family_index(headers.family)].silent(tracked.state);
        if let (Some(id), OnMatch::FollowMaster { .. }) = (tracked.connection, tracked.on_match) {
            self.nat.carry_out(*now, &mut self.conntrack, id, tracked.on_match)?;
        }
        if let (Some(ipvs), Some(id), OnMatch::Balance) =
            (&self.ipvs, transit.tracked.connection, transit.tracked.on_match)
        {
            ipvs.met_expectation(*now, &mut self.conntrack, id);
        }
        Ok(())
    }

    /// What table raw says about tracking a packet.
    #[inline(never)]
    pub(super) fn ask_raw(&mut self, hook: Hook, transit: &mut Transit<'_, '_>) -> Result<Tracking, Refusal> {
        let mut tracking = Tracking::default();
        let rules = &self.rules[family_index(transit.headers.family)];
        let verdict = ask(rules, &self.network, &mut self.conntrack, (TableName::Raw, hook), transit, &mut tracking);
        pass(transit.headers.family, verdict)?;
        if let Tracking::Template(template) = &mut tracking {
            template.helper &= self.helper.config().enabled;
        }
        Ok(tracking)
    }

    /// The helper by port, for routers that have it so.
    #[inline]
    pub(super) fn automatic_helper(&self, transit: &Transit<'_, '_>) -> Template {
        let gets_helper = !self.helper_ports.is_empty() && self.is_control(transit);
        if gets_helper { Template::FTP } else { Template::default() }
    }

    #[inline(never)]
    fn is_control(&self, transit: &Transit<'_, '_>) -> bool {
        let ports = transit.headers.ports(transit.packet.bytes());
        self.helper.config().enabled
            && transit.headers.protocol == Protocol::TCP
            && ports.is_some_and(|(_, destination)| self.helper_ports.contains(&destination))
    }

    /// A table whose verdict is pass or drop.
    #[inline]
    pub(super) fn filter(
        &mut self,
        table: TableName,
        hook: Hook,
        transit: &mut Transit<'_, '_>,
    ) -> Result<(), Refusal> {
        if transit.silent.includes(table, hook) { Ok(()) } else { self.ask_filter(table, hook, transit) }
    }

    #[inline(never)]
    fn ask_filter(&mut self, table: TableName, hook: Hook, transit: &mut Transit<'_, '_>) -> Result<(), Refusal> {
        let rules = &self.rules[family_index(transit.headers.family)];
        if !rules.asks_at(table, hook) {
            return Ok(());
        }
        let mut tracking = Tracking::None;
        let verdict = ask(rules, &self.network, &mut self.conntrack, (table, hook), transit, &mut tracking);
        pass(transit.headers.family, verdict)
    }

    /// Translates one end: decided by rules for the first packet of a connection, and then for all.
    // Inlined, so that it is known which end, and where that stands.
    #[inline(always)]
    pub(super) fn translate(
        &mut self,
        hook: Hook,
        side: Side,
        transit: &mut Transit<'_, '_>,
    ) -> Result<(), DropReason> {
        let Some(id) = transit.tracked.connection else { return Ok(()) };
        if transit.tracked.state != PacketState::Established {
            if transit.tracked.is_error && transit.headers.protocol.is_icmp() {
                return self.translate_error(id, side, transit);
            }
            self.decide_translation(id, hook, side, transit)?;
        }
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        if !connection.is_translated() {
            return Ok(());
        }
        let Transit { packet, headers, tracked, .. } = transit;
        if hook == Hook::Postrouting && connection.left_masquerade(tracked.direction, transit.out_interface) {
            self.conntrack.destroy_for(transit.now, id, DestroyReason::Rerouted);
            transit.tracked.connection = None;
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
    fn translate_error(&self, id: ConnectionId, side: Side, transit: &mut Transit<'_, '_>) -> Result<(), DropReason> {
        let Transit { packet, headers, tracked, .. } = transit;
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
        transit: &mut Transit<'_, '_>,
    ) -> Result<(), DropReason> {
        let now = transit.now;
        let rules = &self.rules[family_index(transit.headers.family)];
        let done = if side == Side::Source { Status::SRC_NAT_DONE } else { Status::DST_NAT_DONE };
        let begins = matches!(transit.tracked.state, PacketState::New | PacketState::Related);
        if !begins || transit.tracked.is_error {
            return Ok(());
        }
        if !rules.is_loaded(TableName::Nat) || self.conntrack.get(id).is_none_or(|c| c.status().has(done)) {
            return Ok(());
        }
        let mut tracking = Tracking::None;
        let verdict = if rules.asks_at(TableName::Nat, hook) {
            ask(rules, &self.network, &mut self.conntrack, (TableName::Nat, hook), transit, &mut tracking)
        } else {
            netfilter::Verdict::Accept
        };
        let range = match verdict {
            netfilter::Verdict::Map(range) => *range,
            netfilter::Verdict::Masquerade(range) => {
                let range = *range;
                let address = self.masquerade_address(transit)?;
                if let Some(connection) = self.conntrack.get_mut(id) {
                    connection.masqueraded_on = transit.out_interface.map(|i| i as u32);
                }
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::Verdict::Redirect(range) => {
                let range = *range;
                let address = self.redirect_address(hook, transit)?;
                NatRange { addresses: Some((address, address)), ..range }
            }
            netfilter::Verdict::Accept => return self.nat.setup_null(now, &mut self.conntrack, id, side),
            _ => return Err(DropReason::Rule),
        };
        self.nat.setup(now, &mut self.conntrack, id, &range, side)
    }

    fn masquerade_address(&self, transit: &Transit<'_, '_>) -> Result<IpAddr, DropReason> {
        let Way::Forward { interface, next_hop } = transit.way else { return Err(DropReason::NoAddress) };
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

/// How much room is to be behind a packet for what the rules may do to it, if there is less.
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

/// Asks a table's chain of a hook.
fn ask<'r>(
    rules: &'r Rules,
    network: &Network,
    conntrack: &mut Conntrack,
    (table, hook): (TableName, Hook),
    transit: &mut Transit<'_, '_>,
    tracking: &mut Tracking,
) -> netfilter::Verdict<'r> {
    let before = matches!(table, TableName::Raw);
    let mut subject = Subject {
        packet: &mut *transit.packet,
        headers: &mut *transit.headers,
        in_interface: transit.in_interface,
        out_interface: if matches!(hook, Hook::Prerouting) { None } else { transit.out_interface },
        tracked: if before { None } else { Some(&transit.tracked) },
        tracking,
        surroundings: network,
        hot_drop: false,
        logged: None,
        not_understood: None,
    };
    let verdict = rules.evaluate(table, hook, conntrack, &mut subject);
    let (logged, not_understood) = (subject.logged, subject.not_understood);
    if let Some(rule) = logged {
        let ipv6 = transit.headers.family == Family::V6;
        conntrack.events.push(transit.now, Event::Log { ipv6, rule });
    }
    if let Some(rule) = not_understood {
        let ipv6 = transit.headers.family == Family::V6;
        conntrack.events.push(transit.now, Event::Undecided { ipv6, rule });
    }
    verdict
}

/// The verdict of a table that only passes or drops.
const fn pass(family: Family, verdict: netfilter::Verdict<'_>) -> Result<(), Refusal> {
    match verdict {
        netfilter::Verdict::Drop => Err(Refusal { reason: DropReason::Rule, answer: None }),
        netfilter::Verdict::Reject(with) => Err(Refusal::rejected(family, with)),
        _ => Ok(()),
    }
}

/// The least that an IPv6 link takes (RFC 8200 section 5).
const MIN_MTU_V6: usize = 1280;

/// Sends a packet in parts that are no longer than `mtu`.
fn send_cut(cut: &Cut, bytes: &[u8], mtu: usize, way: Way, mark: u32, outbox: &mut Outbox) {
    let body = cut.body(bytes);
    let room = mtu.saturating_sub(cut.overhead());
    let mut offset = 0;
    while offset < body && room >= 8 {
        // The last part need not be a multiple of eight bytes long.
        let rest = body - offset;
        let len = if rest <= room { rest } else { room & !7 };
        send_part(cut, bytes, offset, len, way, mark, outbox);
        offset += len;
    }
}

fn send_part(cut: &Cut, bytes: &[u8], offset: usize, len: usize, way: Way, mark: u32, outbox: &mut Outbox) {
    let Some(room) = outbox.room(cut.overhead() + len) else { return };
    if let Some(written) = cut.write(room, bytes, offset, len) {
        outbox.send(written, way, mark);
    }
}
