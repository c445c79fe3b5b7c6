//! The way of nearly every packet: a segment of an open connection that was answered, sent on by a router whose tables have
//! nothing to say of such packets.
//!
//! It goes no other way than the packets of [`super::walk`]: tracker, translation and routes are the same functions. What
//! is left out is only what would be asked in vain. Whatever is not as it nearly always is, is found out before anything is
//! changed, and the packet goes from hook to hook.

use super::interfaces::{Destination, Network, Resolved};
use super::{Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::{Connection, ConnectionId, Direction, Probe};
use crate::helper::FtpHelper;
use crate::nat::{moves, translate};
use crate::packet::{Headers, Packet, Side};

impl Router {
    /// Sends a packet that arrived on its way, if there is nothing special about it. `None` if there is: nothing was
    /// changed.
    // Inlined, with all that it calls: what is known once about headers and connection is not asked again.
    #[inline(always)]
    pub(super) fn pass(
        &mut self,
        now: Instant,
        packet: &mut Packet<'_>,
        headers: &Headers,
        probe: Option<&Probe>,
    ) -> Option<Verdict> {
        if !self.lets_pass[family_index(headers.family)] || headers.hop_limit(packet.bytes()) <= 1 {
            return None;
        }
        let (id, connection, direction) = self.conntrack.known(probe?)?;
        if connection.has_helper() && self.is_read(id, connection, direction, packet, headers) {
            return None;
        }
        let resolved = way(&mut self.network, connection, direction, packet.bytes(), headers)?;
        let Destination::Via { interface, next_hop } = resolved.destination else { return None };
        let connection = self.conntrack.pass(now, probe?, packet.bytes(), headers)?;
        packet.truncate(headers.end);
        let bytes = packet.bytes_mut();
        translate(connection, direction, Side::Destination, bytes, headers);
        headers.decrement_hop_limit(bytes);
        translate(connection, direction, Side::Source, bytes, headers);
        Some(Verdict::Forward { interface, next_hop })
    }

    /// Whether the helper reads a packet of its connection, or may have to.
    #[inline]
    fn is_read(
        &self,
        id: ConnectionId,
        connection: &Connection,
        direction: Direction,
        packet: &Packet<'_>,
        headers: &Headers,
    ) -> bool {
        self.helper.is_exact()
            || FtpHelper::room_for(connection, headers, packet).is_err()
            || self.helper.lines(id, connection, direction, packet.bytes(), headers).is_some()
    }
}

/// Where a packet of a connection is sent on to, once it is translated; `None` when it is not, or when it does not fit
/// there.
#[inline(always)]
fn way<'n>(
    network: &'n mut Network,
    connection: &Connection,
    direction: Direction,
    bytes: &[u8],
    headers: &Headers,
) -> Option<&'n Resolved> {
    let source = headers.address(bytes, Side::Source);
    let destination = if moves(connection, direction, Side::Destination) {
        connection.tuple(direction.other()).end(Side::Source)
    } else {
        headers.address(bytes, Side::Destination)
    };
    let resolved = network.resolve(destination);
    let Destination::Via { interface, .. } = resolved.destination else { return None };
    let is_special = resolved.is_for_many
        || headers.end > resolved.mtu
        || Network::is_martian(source, destination)
        || connection.left_masquerade(direction, Some(interface));
    if is_special { None } else { Some(resolved) }
}
