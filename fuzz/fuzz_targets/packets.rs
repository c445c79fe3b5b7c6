//! Packets for the targets that send whole ones.

use std::net::IpAddr;

use ftp_conntrack::packet::Protocol;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An IP packet between hosts of one family, without its checksum.
pub(crate) fn ip_packet(
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    transport: &[u8],
    hop_limit: u8,
) -> Vec<u8> {
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (20 + transport.len() as u16).to_be_bytes();
            packet.extend([0x45, 0, high, low, 0, 1, 0x40, 0, hop_limit, protocol.0, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = (transport.len() as u16).to_be_bytes();
            packet.extend([0x60, 0, 0, 0, high, low, protocol.0, hop_limit]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => unreachable!("hosts of one family"),
    }
    packet.extend(transport);
    packet
}
