//! Writing a connection's translation into its packets.

use crate::conntrack::{Connection, Direction, ICMP_HEADER, Status, Tuple};
use crate::packet::{Headers, Layer4, Protocol, Side};

/// Returns true if packets of this direction have this end translated.
///
/// SNAT changes the source of packets in original direction, and so the destination of replies.
#[inline]
pub(crate) fn moves(connection: &Connection, direction: Direction, side: Side) -> bool {
    let source_moves =
        matches!((direction, side), (Direction::Original, Side::Source) | (Direction::Reply, Side::Destination));
    connection.status().has(if source_moves { Status::SRC_NAT } else { Status::DST_NAT })
}

/// Returns true if a packet cannot be translated at this end, and is dropped where it would have to be (seen on 6.18):
/// GRE that shows less than eight bytes, and at the destination, where PPTP has its call, GRE of a version that nobody
/// knows.
pub(crate) fn resists(headers: &Headers, side: Side) -> bool {
    match headers.layer4 {
        Layer4::Gre(gre) => gre.version.is_none_or(|version| side == Side::Destination && version > 1),
        _ => false,
    }
}

/// Changes one end of a packet as its connection is translated (`nf_nat_packet`): the destination as the packet
/// arrives, the source as it leaves.
// Inlined, so that nothing is asked about the side where it is known.
#[inline(always)]
pub fn translate(connection: &Connection, direction: Direction, side: Side, bytes: &mut [u8], headers: &Headers) {
    if !moves(connection, direction, side) {
        return;
    }
    let other_way = connection.tuple(direction.other());
    if headers.protocol.is_icmp() {
        return translate_query(other_way, side, bytes, headers);
    }
    headers.set_end(bytes, side, other_way.end(side.other()), other_way.port(side.other()));
}

/// An ICMP query or its answer, which bears the identifier that answers to it have.
#[inline(never)]
fn translate_query(other_way: &Tuple, side: Side, bytes: &mut [u8], headers: &Headers) {
    if let Some(target) = other_way.reversed() {
        headers.set_endpoint(bytes, side, target.address(side), target.source_port());
    }
}

/// Changes an ICMP error about a connection, and the packet quoted in it (`nf_nat_icmp_reply_translation`). False
/// when it must not pass: a redirect about a translated connection, or one that quotes too little.
///
/// Worked example. C = 10.77.1.2 is masqueraded as N = 203.0.113.1 towards S = 198.51.100.9. A router R answers the
/// packet N > S with an error R > N that quotes N > S. It goes in reply direction, whose destination is translated
/// as it arrives: the quoted packet is in the *other* direction and lies the other way round, so its *source* N
/// becomes C, and the error's own destination N becomes C. The client reads an error about the packet C > S that it
/// sent.
pub fn translate_error(
    connection: &Connection,
    direction: Direction,
    side: Side,
    bytes: &mut [u8],
    headers: &Headers,
) -> bool {
    let is_redirect =
        matches!(headers.layer4, Layer4::Icmp(icmp) if headers.protocol == Protocol::ICMP && icmp.kind == 5);
    if is_redirect && connection.is_translated() {
        return false;
    }
    if !moves(connection, direction, side) {
        return true;
    }
    let other_way = connection.tuple(direction.other());
    let quoted_side = side.other();
    if let Some(quoted) = bytes.get_mut(headers.transport + ICMP_HEADER..headers.end)
        && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
    {
        // Four bytes of ports are enough to find the connection; to change them Linux wants eight.
        let wanted = if inner.layer4 == Layer4::Other { 0 } else { 8 };
        if quoted.len() < inner.transport + wanted || resists(&inner, quoted_side) {
            return false;
        }
        // The identifier of an ICMP query is the same at both ends.
        let is_query = inner.protocol.is_icmp();
        let port = if is_query { other_way.source_port() } else { other_way.port(quoted_side) };
        inner.set_endpoint(quoted, quoted_side, other_way.address(quoted_side), port);
    }
    headers.fill_transport_checksum(bytes);
    if let Some(target) = other_way.reversed() {
        headers.set_address(bytes, side, target.address(side));
    }
    true
}
