//! The last step of a packet's way under behaviour Exact: what was held back leaves with it.

use core::net::IpAddr;

use super::interfaces::{Destination, Network};
use super::packet_context::PacketContext;
use super::{Egress, Outbox, Router};
use crate::Instant;
use crate::conntrack::{ConnectionId, Direction};
use crate::event::DropReason;
use crate::helper::{HelperContext, SegmentSink};
use crate::packet::Headers;

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
        let Some(connection) = self.conntrack.get(id) else {
            cannot_happen!("the connection was there a moment ago");
            return Ok(());
        };
        let source = connection.tuple(context.tracked.direction).source();
        let client_is_local = self.network.is_local(connection.tuple(Direction::Original).source());
        let back = way_to(&mut self.network, source);
        let mut sink = Ways { outbox: &mut self.released, along: context.egress, back, mark: context.packet.mark };
        let mut leaving =
            HelperContext::new(context.now, &context.tracked, &mut *context.packet, &mut *context.headers, &mut sink);
        (leaving.mtu, leaving.client_is_local) = (context.mtu, client_is_local);
        self.helper.process(&mut self.conntrack, &mut self.nat, &mut leaving).map(drop)
    }
}

fn way_to(network: &mut Network, address: IpAddr) -> Option<Egress> {
    match network.resolve(address.into()).destination {
        Destination::Local => Some(Egress::Local),
        Destination::Via { interface, next_hop } => Some(Egress::Forward { interface, next_hop }),
        Destination::Nowhere(_) => None,
    }
}
