//! Packets as endpoints read and write them, independent of the library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// The port of control connections.
pub(crate) const CONTROL: u16 = 21;

const TCP: u8 = 6;

/// A TCP segment as it was found in a packet.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// Start of the TCP header.
    pub(crate) header: usize,
    pub(crate) payload: Range<usize>,
}

impl Segment {
    /// Finds the segment in a packet; `None` when the packet is anything else.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let (addresses, header) = addresses(packet)?;
        let tcp = packet.get(header..).filter(|tcp| tcp.len() >= 20)?;
        let payload = header + usize::from(tcp[12] >> 4) * 4;
        Some(Self {
            from: SocketAddr::new(addresses[0], u16_at(tcp, 0)),
            to: SocketAddr::new(addresses[1], u16_at(tcp, 2)),
            flags: tcp[13],
            seq: u32_at(tcp, 4),
            ack: u32_at(tcp, 8),
            window: u16_at(tcp, 14),
            header,
            payload: payload..packet.len().max(payload),
        })
    }

    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn payload<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(self.payload.clone()).unwrap_or_default()
    }

    /// Returns true if it is one of a control connection.
    pub(crate) const fn is_control(&self) -> bool {
        self.from.port() == CONTROL || self.to.port() == CONTROL
    }

    /// The urgent pointer, if it counts.
    pub(crate) fn urgent(&self, packet: &[u8]) -> Option<u16> {
        self.has(URG).then(|| u16_at(packet, self.header + 18))
    }

    /// The same segment, calling what stands before this place urgent.
    pub(crate) fn calling_urgent(&self, packet: &[u8], pointer: u16) -> Vec<u8> {
        let mut bytes = packet.to_vec();
        bytes[self.header + 13] |= URG;
        bytes[self.header + 18..self.header + 20].copy_from_slice(&pointer.to_be_bytes());
        finish(&mut bytes, self.header);
        bytes
    }

    /// The number behind the last byte, SYN and FIN counted.
    pub(crate) fn end(&self) -> u32 {
        let flags = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(flags)
    }

    /// The edges of its selective acknowledgements (RFC 2018).
    pub(crate) fn sack_edges(&self, packet: &[u8]) -> Vec<u32> {
        let mut options = packet.get(self.header + 20..self.payload.start).unwrap_or_default();
        loop {
            match options {
                [0, ..] | [] | [_] => return Vec::new(),
                [1, rest @ ..] => options = rest,
                [kind, length, ..] => {
                    let (option, rest) = options.split_at(usize::from(*length).clamp(2, options.len()));
                    if *kind == 5 {
                        return option[2..].chunks_exact(4).map(|edge| u32_at(edge, 0)).collect();
                    }
                    options = rest;
                }
            }
        }
    }

    /// The same segment with other text: its header, from the packet it was read of, with these flags.
    pub(crate) fn carrying(&self, packet: &[u8], seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [&packet[..self.payload.start], payload].concat();
        bytes[self.header + 4..self.header + 8].copy_from_slice(&seq.to_be_bytes());
        bytes[self.header + 13] = flags;
        finish(&mut bytes, self.header);
        bytes
    }
}

/// Source and destination of a TCP packet, and where its TCP header begins.
fn addresses(packet: &[u8]) -> Option<([IpAddr; 2], usize)> {
    match packet.first()? >> 4 {
        4 if *packet.get(9)? == TCP => {
            let at = |i: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(i..i + 4)?).ok()?).into());
            Some(([at(12)?, at(16)?], usize::from(packet[0] & 15) * 4))
        }
        6 if *packet.get(6)? == TCP => {
            let at = |i: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(i..i + 16)?).ok()?).into());
            Some(([at(8)?, at(24)?], 40))
        }
        _ => None,
    }
}

/// Whom a packet is for.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?).into()),
        6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?).into()),
        _ => None,
    }
}

/// Returns true if the checksums of a TCP packet are right, and its length is right.
pub(crate) fn is_sound(packet: &[u8], segment: &Segment) -> bool {
    let ip_ok = match packet[0] >> 4 {
        4 => usize::from(u16_at(packet, 2)) == packet.len() && fold(sum(&packet[..segment.header])) == 0,
        _ => usize::from(u16_at(packet, 4)) + 40 == packet.len(),
    };
    ip_ok && fold(transport_sum(packet, segment.header)) == 0
}

/// Sets a packet's lengths and checksums.
fn finish(packet: &mut [u8], header: usize) {
    let length = packet.len() as u16;
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[10..12].fill(0);
        let sum = fold(sum(&packet[..header]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
    }
    packet[header + 16..header + 18].fill(0);
    let sum = fold(transport_sum(packet, header));
    packet[header + 16..header + 18].copy_from_slice(&sum.to_be_bytes());
}

fn transport_sum(packet: &[u8], header: usize) -> u64 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    sum(addresses) + u64::from(TCP) + (packet.len() - header) as u64 + sum(&packet[header..])
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let last = u32::from_be_bytes([0, 1, 2, 3].map(|i| rest.get(i).copied().unwrap_or(0)));
    words.map(|word| u64::from(u32_at(word, 0))).sum::<u64>() + u64::from(last)
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
