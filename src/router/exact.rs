//! The last step of a packet's way under behaviour Exact: what was held back leaves with it.

use core::net::IpAddr;

use super::interfaces::{Destination, Network};
use super::slow_path::PacketContext;
use super::{Egress, Outbox, Router};
use crate::Instant;
use crate::conntrack::{ConnectionId, ICMP_HEADER, Status};
use crate::event::DropReason;
use crate::helper::{ExactContext, SegmentSink};
use crate::packet::{Headers, Protocol};

/// The egresses of packets that leave because of another.
struct Ways<'w> {
    outbox: &'w mut Outbox,
    along: Egress,
    /// Nowhere, if no route leads back.
    back: Option<Egress>,
    mark: u32,
}

impl SegmentSink for Ways<'_> {
    fn along(&mut self, bytes: &[u8]) {
        self.outbox.send_copy(bytes, self.along, self.mark);
    }

    fn back(&mut self, bytes: &[u8]) {
        if let Some(back) = self.back {
            self.outbox.send_copy(bytes, back, 0);
        }
    }
}

/// Sends packets where their destination is.
struct Routed<'w> {
    network: &'w mut Network,
    outbox: &'w mut Outbox,
}

impl SegmentSink for Routed<'_> {
    fn along(&mut self, bytes: &[u8]) {
        self.back(bytes);
    }

    fn back(&mut self, bytes: &[u8]) {
        let destination = Headers::find(bytes).map(|headers| headers.destination(bytes));
        if let Some(egress) = destination.ok().and_then(|destination| way_to(self.network, destination)) {
            self.outbox.send_copy(bytes, egress, 0);
        }
    }
}

impl Router {
    /// Sends again the text that the helper released and nobody acknowledged.
    pub(super) fn send_again(&mut self, now: Instant, outbox: &mut Outbox) {
        let mut sink = Routed { network: &mut self.network, outbox };
        self.helper.handle_timeout(now, &mut self.conntrack, &mut sink);
    }

    /// A packet of a control connection, or an error about one, leaves.
    #[inline(never)]
    pub(super) fn finish_exactly(
        &mut self,
        id: ConnectionId,
        context: &mut PacketContext<'_, '_>,
    ) -> Result<(), DropReason> {
        if context.tracked.is_error {
            self.adjust_quoted(context, id);
            return Ok(());
        }
        // The expectation needs a master that is confirmed.
        if self.conntrack.get(id).is_some_and(|connection| !connection.status().has(Status::CONFIRMED)) {
            self.conntrack.confirm(context.now, id)?;
        }
        self.pass_exactly(context, id)
    }

    /// The helper reads a packet and adjusts its numbers.
    fn pass_exactly(&mut self, context: &mut PacketContext<'_, '_>, id: ConnectionId) -> Result<(), DropReason> {
        let Some(connection) = self.conntrack.get(id) else { return Ok(()) };
        let source = connection.tuple(context.tracked.direction).source();
        let back = way_to(&mut self.network, source);
        let mut sink = Ways { outbox: &mut self.released, along: context.egress, back, mark: context.packet.mark };
        let mut context = ExactContext {
            now: context.now,
            tracked: &context.tracked,
            packet: &mut *context.packet,
            headers: &mut *context.headers,
            mtu: context.mtu,
            sink: &mut sink,
        };
        self.helper.pass_exactly(&mut self.conntrack, &mut self.nat, &mut context)
    }

    /// An ICMP error about a packet of a control connection: the number in it becomes the one that its sender knows.
    fn adjust_quoted(&self, context: &mut PacketContext<'_, '_>, id: ConnectionId) {
        let PacketContext { packet, headers, tracked, .. } = context;
        let Some(slot) = self.conntrack.get(id).and_then(|connection| connection.helper_slot()) else { return };
        let was_right = headers.transport_checksum_ok(packet.bytes());
        let bytes = packet.bytes_mut();
        if let Some(quoted) = bytes.get_mut(headers.transport + ICMP_HEADER..headers.end)
            && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
            && (headers.protocol.is_icmp() && inner.protocol == Protocol::TCP)
        {
            let sent = tracked.direction.other();
            inner.map_quoted_sequence(quoted, |number| self.helper.quoted(slot, sent, number));
        }
        if was_right {
            headers.fill_transport_checksum(bytes);
        }
    }
}

fn way_to(network: &mut Network, address: IpAddr) -> Option<Egress> {
    match network.resolve(address.into()).destination {
        Destination::Local => Some(Egress::Local),
        Destination::Via { interface, next_hop } => Some(Egress::Forward { interface, next_hop }),
        Destination::Nowhere(_) => None,
    }
}
