//! The first step of a packet, the tracker, and the last: helper, sequence adjustment and confirmation.

use super::answer::Refusal;
use super::packet_context::PacketContext;
use super::{Router, family_index};
use crate::conntrack::{ConnectionId, Direction, OnMatch, PacketState, Status, Template, Tracked};
use crate::event::DropReason;
use crate::netfilter::{Hook, RawScope, Tracking};
use crate::packet::{Headers, Protocol};

impl Router {
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
        let Some(connection) = self.conntrack.get(id) else {
            cannot_happen!("the connection was there a moment ago");
            return Ok(());
        };
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
}

/// True if Linux would not take the transport checksum of an arriving packet for right.
#[inline(never)]
pub(super) fn is_checksum_wrong(bytes: &[u8], headers: &Headers) -> bool {
    !headers.transport_checksum_ok(bytes) && !headers.checksum_is_left_to_device(bytes)
}
