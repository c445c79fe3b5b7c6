//! Checksums.

use ftp_conntrack::packet::{Family, Headers, Layer4, Protocol, checksum};

/// Makes a packet's checksums right, where it has any. What is too short to have one stays.
pub fn make_right(bytes: &mut [u8]) {
    let Ok(headers) = Headers::find(bytes) else { return };
    if headers.family == Family::V4 {
        fill(bytes, 10, 0, headers.transport.min(usize::from(bytes[0] & 15) * 4), 0);
    }
    let at = match (headers.protocol, headers.layer4) {
        _ if headers.fragment.is_some() => return,
        (Protocol::TCP, Layer4::Tcp(_)) => 16,
        (Protocol::UDP, Layer4::Udp) => 6,
        (Protocol::ICMP | Protocol::ICMPV6, Layer4::Icmp(_)) => 2,
        _ => return,
    };
    let addresses = if headers.family == Family::V4 { 12..20 } else { 8..40 };
    let len = headers.end - headers.transport;
    let start = match headers.protocol {
        Protocol::ICMP => 0,
        _ => checksum::pseudo_header(&bytes[addresses], headers.protocol.0, len),
    };
    fill(bytes, headers.transport + at, headers.transport, headers.end, start);
}

fn fill(bytes: &mut [u8], at: usize, from: usize, to: usize, start: u32) {
    bytes[at..at + 2].fill(0);
    let sum = match checksum::fold(checksum::sum(&bytes[from..to], start)) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Returns true if all of a packet's checksums are right.
///
/// An ICMP message of nothing but zeros is taken as such: its checksum should be ffff, and what changes with the bytes
/// under it (RFC 1624) comes out as the other zero.
pub fn is_right(bytes: &[u8]) -> bool {
    Headers::find(bytes).is_ok_and(|headers| {
        let zeros = headers.protocol == Protocol::ICMP && bytes[headers.transport..headers.end].iter().all(|b| *b == 0);
        headers.header_checksum_ok(bytes) && (zeros || headers.transport_checksum_ok(bytes))
    })
}
