//! Packets that the router's own machine sent.
//!
//! The capture shows them as they left: translated, if their connection is. What a server on the router answers behind
//! REDIRECT leaves with the address that the client called. The router is handed the packet as that server sent it.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;
use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::frames::Frame;
use crate::conntrack::{Connection, Direction, Tuple};
use crate::packet::{Headers, Layer4, Packet, Protocol, Side, TcpFlags};
use crate::router::Router;

/// Maximum number of segments that the router's machine may still reset.
const MOST_DELIVERED: usize = 256;

/// The ends of TCP segments that were delivered to the router's machine, and that it may reset.
#[derive(Debug, Default)]
pub(super) struct Delivered(VecDeque<(SocketAddr, SocketAddr)>);

impl Delivered {
    /// Notes a packet that was delivered to the router's machine.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let Ok(headers) = Headers::find(bytes) else { return };
        if let (Layer4::Tcp(_), Some(ends)) = (headers.layer4, ends(&headers, bytes)) {
            self.0.truncate(MOST_DELIVERED - 1);
            self.0.push_front(ends);
        }
    }

    /// Returns true if a packet that left resets a segment that was delivered, once for each. Linux does that where a
    /// segment of a masqueraded connection is invalid: it is not translated, and reaches the router's own address.
    pub(super) fn is_reset(&mut self, headers: &Headers, bytes: &[u8]) -> bool {
        let is_reset = matches!(headers.layer4, Layer4::Tcp(segment) if segment.flags.has(TcpFlags::RST));
        let Some((source, destination)) = ends(headers, bytes).filter(|_| is_reset) else { return false };
        let found = self.0.iter().position(|delivered| *delivered == (destination, source));
        found.and_then(|at| self.0.remove(at)).is_some()
    }
}

/// Returns a packet that left as the router's own machine sent it; `None` if it sent none such: the packet has no address
/// of the router's, or belongs to a connection that the router forwards.
pub(super) fn as_sent(frame: &Frame, headers: &Headers, router: &Router) -> Option<Vec<u8>> {
    let source = headers.source(&frame.bytes);
    let as_it_left = || router.is_local(source).then(|| frame.bytes.clone());
    let Some((connection, direction)) = connection_of(frame, headers, router) else { return as_it_left() };
    let sent = *connection.tuple(direction);
    if !router.is_local(sent.source()) {
        return None;
    }
    let left = Tuple::of(headers, &frame.bytes)?;
    if sent == left {
        return as_it_left();
    }
    let mut buffer = frame.bytes.clone();
    buffer.resize(frame.bytes.len() + Packet::ROOM, 0);
    let leaves_checksum = headers.checksum_is_left_to_device(&frame.bytes);
    let mut packet = Packet::new(&mut buffer, 0..frame.bytes.len()).ok()?;
    let mut headers = Headers::find(packet.bytes()).ok()?;
    for side in [Side::Source, Side::Destination] {
        headers.set_endpoint(packet.bytes_mut(), side, sent.address(side), port(sent, side));
    }
    take_back_shifts(connection, direction, router, &mut packet, &mut headers);
    if connection.has_helper() {
        take_back_address(left.source(), sent.source(), &mut packet, &mut headers);
    }
    if leaves_checksum {
        headers.sum_pseudo_header_only(packet.bytes_mut());
    }
    Some(packet.bytes().to_vec())
}

/// Returns the connection of a TCP or UDP packet that left, and the direction in which it went.
fn connection_of<'r>(frame: &Frame, headers: &Headers, router: &'r Router) -> Option<(&'r Connection, Direction)> {
    if !matches!(headers.protocol, Protocol::TCP | Protocol::UDP) {
        return None;
    }
    let (source, destination) = ends(headers, &frame.bytes)?;
    // Packets the other way arrive with the ends of this one.
    let arriving = Tuple::new(headers.protocol, destination, source)?;
    let conntrack = router.conntrack();
    let (id, direction) = conntrack.find(frame.time, &arriving)?;
    Some((conntrack.get(id)?, direction.other()))
}

/// Returns both ends of a packet that has ports.
fn ends(headers: &Headers, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = headers.ports(bytes)?;
    Some((SocketAddr::new(headers.source(bytes), source), SocketAddr::new(headers.destination(bytes), destination)))
}

const fn port(tuple: Tuple, side: Side) -> u16 {
    match side {
        Side::Source => tuple.source_port(),
        Side::Destination => tuple.destination_port(),
    }
}

/// Gives the packet the sequence numbers that its sender counts with.
fn take_back_shifts(
    connection: &Connection,
    direction: Direction,
    router: &Router,
    packet: &mut Packet<'_>,
    headers: &mut Headers,
) {
    let Some(adjustment) = connection.helper_slot().and_then(|slot| router.conntrack().adjustment(slot)) else {
        return;
    };
    let Layer4::Tcp(segment) = headers.layer4 else { return };
    let sequence = adjustment.returning(direction as usize, segment.sequence);
    let acknowledgement = adjustment.outgoing(direction.other() as usize, segment.acknowledgement);
    headers.set_sequence(packet.bytes_mut(), sequence);
    headers.set_acknowledgement(packet.bytes_mut(), acknowledgement);
}

/// Replaces the address that the helper wrote into an announcement by the sender's own.
fn take_back_address(written: IpAddr, own: IpAddr, packet: &mut Packet<'_>, headers: &mut Headers) {
    let commas = |address: IpAddr| format!("{},", address.to_string().replace('.', ","));
    let (written, own) = (commas(written), commas(own));
    let payload = headers.payload(packet.bytes());
    let Some(at) = payload.windows(written.len()).position(|window| window == written.as_bytes()) else { return };
    // An announcement that has no room behind it stays as it left, and differs.
    let _ = packet.replace_payload(headers, at..at + written.len(), own.as_bytes());
}
