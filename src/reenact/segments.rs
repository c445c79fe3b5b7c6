//! Segments in the sizes that a path takes, which smoltcp does not learn from ICMP.

use core::net::IpAddr;
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use crate::packet::{Headers, Layer4, Protocol, TcpFlags};

/// The shortest path MTU that a host believes in bytes: IPv4's (RFC 791).
const SHORTEST: usize = 68;
/// Length of an ICMP header in bytes.
const ICMP_HEADER: usize = 8;

/// Returns what an ICMP error says of a path: the destination, and the longest packet in bytes. `None` for other packets.
pub(super) fn path_mtu_told(packet: &[u8]) -> Option<(IpAddr, usize)> {
    let headers = Headers::find(packet).ok()?;
    let Layer4::Icmp(icmp) = headers.layer4 else { return None };
    let message = packet.get(headers.transport..)?;
    let mtu = match (headers.protocol, icmp.kind, icmp.code) {
        (Protocol::ICMP, 3, 4) => u32::from(u16::from_be_bytes([*message.get(6)?, *message.get(7)?])),
        (Protocol::ICMPV6, 2, _) => u32::from_be_bytes(message.get(4..8)?.try_into().ok()?),
        _ => return None,
    };
    let quoted = message.get(ICMP_HEADER..)?;
    let inner = Headers::find_quoted(quoted, headers.family).ok()?;
    Some((inner.destination(quoted), usize::try_from(mtu).ok()?.max(SHORTEST)))
}

/// Cuts a TCP segment into those that its path takes.
pub(super) fn cut(packet: Vec<u8>, path_mtu: &HashMap<IpAddr, usize>) -> Vec<Vec<u8>> {
    if path_mtu.is_empty() {
        return vec![packet];
    }
    let Ok(headers) = Headers::find(&packet) else { return vec![packet] };
    let Layer4::Tcp(segment) = headers.layer4 else { return vec![packet] };
    let longest = path_mtu.get(&headers.destination(&packet)).copied().unwrap_or(usize::MAX);
    let room = longest.saturating_sub(segment.payload);
    let payload = packet.get(segment.payload..headers.end).unwrap_or_default();
    if payload.len() <= room || room == 0 {
        return vec![packet];
    }
    let mut sequence = segment.sequence;
    let last = payload.len().div_ceil(room).saturating_sub(1);
    let piece = |(number, payload): (usize, &[u8])| {
        let mut copy = [packet.get(..segment.payload).unwrap_or_default(), payload].concat();
        let clear = if number == last { 0 } else { TcpFlags::FIN | TcpFlags::PSH };
        let mut headers = headers;
        headers.finish_copy(&mut copy, sequence, 0, clear);
        sequence = sequence + payload.len() as u32;
        copy
    };
    payload.chunks(room).enumerate().map(piece).collect()
}

/// Returns the ends and flags of a TCP segment.
pub(super) fn segment(packet: &[u8]) -> Option<Head> {
    let headers = Headers::find(packet).ok()?;
    let Layer4::Tcp(segment) = headers.layer4 else { return None };
    let (from, to) = headers.ports(packet)?;
    Some(Head {
        from: (headers.source(packet), from).into(),
        to: (headers.destination(packet), to).into(),
        flags: segment.flags,
    })
}

/// The ends and flags of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) from: core::net::SocketAddr,
    pub(super) to: core::net::SocketAddr,
    pub(super) flags: TcpFlags,
}

impl Head {
    /// True for the first segment of a connection.
    pub(super) const fn opens(&self) -> bool {
        self.flags.has(TcpFlags::SYN) && !self.flags.has(TcpFlags::ACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_cut_to_the_path_mtu_and_its_end_keeps_the_fin() {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x9c, 0x40, 0, 20, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0x50, 0x11, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend((0..100).map(|n| n as u8));
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let headers = Headers::find(&packet).unwrap();
        headers.fill_header_checksum(&mut packet);
        headers.fill_transport_checksum(&mut packet);
        let pieces = cut(packet.clone(), &HashMap::from([("10.0.0.2".parse().unwrap(), 80)]));
        let read = |piece: &Vec<u8>| {
            let headers = Headers::find(piece).unwrap();
            assert!(headers.header_checksum_ok(piece) && headers.transport_checksum_ok(piece));
            let head = segment(piece).unwrap();
            let Layer4::Tcp(tcp) = headers.layer4 else { unreachable!() };
            (tcp.sequence.0, head.flags.has(TcpFlags::FIN), headers.payload(piece).to_vec())
        };
        let pieces: Vec<_> = pieces.iter().map(read).collect();
        let whole: Vec<u8> = (0..100).collect();
        let expected = [
            (0xffff_fff0, false, whole[..40].to_vec()),
            (24, false, whole[40..80].to_vec()),
            (64, true, whole[80..].to_vec()),
        ];
        assert_eq!(pieces, expected);
        assert_eq!(cut(packet.clone(), &HashMap::new()), [packet]);
    }
}
