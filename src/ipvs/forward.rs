//! Packets on their way to a real server, and back from one.

use core::net::{IpAddr, SocketAddr};

use super::Ipvs;
use super::config::Forwarding;
use super::entry::Entry;
use super::request::{Arrival, ends};
use super::state::State;
use super::tracking::settle;
use crate::Instant;
use crate::conntrack::{Conntrack, Tracked};
use crate::event::{DropReason, Event};
use crate::packet::{Family, Headers, Layer4, Packet, Protocol, Side, TcpFlags, checksum};

/// The most that a tunnel puts before a packet: an IPv6 header.
pub(super) const OUTER_HEADER: usize = 40;

/// Outcome for a packet from a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It is none of a service's.
    No,
    /// It has the virtual address now.
    Yes,
    /// The text was rewritten, too.
    Rewritten,
}

impl Ipvs {
    /// Makes a packet one for its real server, as far as its entry says, and settles whether it stays tracked.
    /// `verifies`: what `ip_vs_ftp` reads must have the right checksum.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        conntrack: &mut Conntrack,
        tracked: &mut Tracked,
        (packet, headers): (&mut Packet<'_>, &mut Headers),
        verifies: bool,
    ) -> Result<(), DropReason> {
        let slot = arrival.slot;
        if self.table.at(slot).is_waiting
            && let Some((client, _)) = ends(headers, packet.bytes())
        {
            self.table.fill_client_port(slot, client.port());
            self.tell_met(now, conntrack, slot);
        }
        if arrival.forwarding == Forwarding::Masquerade {
            if self.table.at(slot).is_ftp {
                if verifies && !headers.transport_checksum_ok(packet.bytes()) {
                    return Err(DropReason::Checksum);
                }
                self.read_client(now, slot, conntrack, headers.payload(packet.bytes()))?;
            }
            let real = arrival.real;
            write_end(packet.bytes_mut(), headers, Side::Destination, real);
        } else if self.table.at(slot).followed {
            self.read_passive(now, slot, conntrack, headers.payload(packet.bytes()))?;
        }
        settle(self.table.at(slot), false, conntrack, tracked);
        Ok(())
    }

    /// Gives a packet from a real server its virtual address, which it has already unless its entry masquerades.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        tracked: &mut Tracked,
        (packet, headers): (&mut Packet<'_>, &mut Headers),
        verifies: bool,
    ) -> Result<Answered, DropReason> {
        let Some(slot) = self.answered(now, conntrack, packet.bytes(), headers) else { return Ok(Answered::No) };
        let mut answered = Answered::Yes;
        if self.table.at(slot).is_ftp {
            if verifies && !headers.transport_checksum_ok(packet.bytes()) {
                return Err(DropReason::Checksum);
            }
            if self.read_server(now, slot, conntrack, tracked, packet, headers)? {
                answered = Answered::Rewritten;
            }
        }
        let Entry { forwarding, virtual_at, .. } = *self.table.at(slot);
        if forwarding == Forwarding::Masquerade {
            write_end(packet.bytes_mut(), headers, Side::Source, virtual_at);
        }
        if answered == Answered::Rewritten {
            // Linux sums a rewritten packet when all is done.
            headers.fill_transport_checksum(packet.bytes_mut());
        }
        let comes = self.table.at(slot).state == State::Listen
            && matches!(headers.layer4, Layer4::Tcp(segment) if segment.flags.has(TcpFlags::SYN));
        if comes {
            self.tell_met(now, conntrack, slot);
        }
        self.note_packet(slot, true, headers);
        settle(self.table.at(slot), true, conntrack, tracked);
        self.touch(now, slot);
        Ok(answered)
    }

    /// The entry of a packet from a real server.
    fn answered(&mut self, now: Instant, conntrack: &mut Conntrack, bytes: &[u8], headers: &Headers) -> Option<u32> {
        if !matches!(headers.layer4, Layer4::Tcp(_) | Layer4::Udp) {
            return None;
        }
        let (server, client) = ends(headers, bytes)?;
        let slot = self.table.by_server(headers.protocol, server, client)?;
        if !self.still_lives(now, slot, conntrack) {
            self.forget(now, slot, conntrack);
            return None;
        }
        Some(slot)
    }

    /// A data connection that was announced comes.
    pub(super) fn tell_met(&self, now: Instant, conntrack: &mut Conntrack, slot: u32) {
        let entry = self.table.at(slot);
        let event = Event::BalancedDataArrived {
            entry: self.table.id(slot),
            control: entry.control.map(|control| self.table.id(control)),
            client: entry.client,
            dialled: entry.virtual_at,
            real_server: entry.real,
        };
        conntrack.events.push(now, event);
    }
}

/// Writes one end of a packet. A datagram that came without a checksum gets one, unlike in NAT (seen on Linux 6.1).
fn write_end(bytes: &mut [u8], headers: &Headers, side: Side, end: SocketAddr) {
    let unsummed =
        headers.layer4 == Layer4::Udp && bytes.get(headers.transport + 6..headers.transport + 8) == Some(&[0; 2]);
    headers.set_endpoint(bytes, side, end.ip(), end.port());
    if unsummed {
        headers.fill_transport_checksum(bytes);
    }
}

/// Puts a packet into an outer one from `source` to a real server (RFC 2003, RFC 4213, RFC 2473), and finds its
/// headers. The outer header has the inner one's time to live, type of service and "don't fragment", as Linux has it.
///
/// `None` when there is no room.
pub(crate) fn encapsulate(
    packet: &mut Packet<'_>,
    inner: &Headers,
    (source, real): (IpAddr, SocketAddr),
    identification: u16,
) -> Option<Headers> {
    let bytes = packet.bytes();
    let hop_limit = inner.hop_limit(bytes);
    let service = match inner.family {
        Family::V4 => *bytes.get(1)?,
        Family::V6 => {
            let [first, second, ..] = *bytes.first_chunk::<2>()?;
            first << 4 | second >> 4
        }
    };
    let protocol = match inner.family {
        Family::V4 => Protocol::IPIP,
        Family::V6 => Protocol::IPV6,
    };
    match (source, real.ip()) {
        (IpAddr::V4(source), IpAddr::V4(real)) => {
            let whole = inner.family == Family::V4 && bytes.get(6)? & 0x40 != 0;
            let length = u16::try_from(bytes.len() + 20).ok()?.to_be_bytes();
            let id = if whole { [0; 2] } else { identification.to_be_bytes() };
            let flags = if whole { 0x40 } else { 0 };
            let [s, d] = [source.octets(), real.octets()];
            let mut header = [0u8; 20];
            header[..12].copy_from_slice(&[
                0x45, service, length[0], length[1], id[0], id[1], flags, 0, hop_limit, protocol.0, 0, 0,
            ]);
            header[12..16].copy_from_slice(&s);
            header[16..].copy_from_slice(&d);
            let sum = checksum::fold(checksum::sum(&header, 0)).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            packet.prepend(&header).then_some(())?;
        }
        (IpAddr::V6(source), IpAddr::V6(real)) => {
            let length = u16::try_from(bytes.len()).ok()?.to_be_bytes();
            let mut header = [0u8; OUTER_HEADER];
            header[..8].copy_from_slice(&[
                0x60 | service >> 4,
                service << 4,
                0,
                0,
                length[0],
                length[1],
                protocol.0,
                hop_limit,
            ]);
            header[8..24].copy_from_slice(&source.octets());
            header[24..].copy_from_slice(&real.octets());
            packet.prepend(&header).then_some(())?;
        }
        _ => return None,
    }
    Headers::find(packet.bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// An IPv6 packet without payload, with traffic class 0xb8 and hop limit 63.
    fn inner() -> Vec<u8> {
        let mut bytes = Vec::from([0x6b, 0x80, 0, 0, 0, 0, 59, 63]);
        bytes.extend([0x20; 32]);
        bytes
    }

    fn outer(inner: &[u8], source: &str, real: &str) -> Vec<u8> {
        let mut buffer = [inner, &[0; OUTER_HEADER]].concat();
        let mut packet = Packet::new(&mut buffer, 0..inner.len()).unwrap();
        let headers = Headers::find(packet.bytes()).unwrap();
        let ends = (source.parse().unwrap(), SocketAddr::new(real.parse().unwrap(), 21));
        let found = encapsulate(&mut packet, &headers, ends, 0x1234).unwrap();
        assert_eq!(Headers::find(packet.bytes()).unwrap(), found);
        assert!(packet.bytes().ends_with(inner));
        packet.bytes().to_vec()
    }

    #[test]
    fn outer_headers_of_both_families() {
        let bytes = outer(&inner(), "fd77:1::1", "fd77:1::11");
        assert_eq!(bytes[..8], [0x6b, 0x80, 0, 0, 0, 40, 41, 63]);
        assert_eq!((bytes[8..24].last(), bytes[24..40].last()), (Some(&1), Some(&0x11)));
        // In IPv4 the packet may be cut, and so has an identification.
        let bytes = outer(&inner(), "10.77.1.1", "10.77.1.11");
        assert_eq!(bytes[..10], [0x45, 0xb8, 0, 60, 0x12, 0x34, 0, 0, 63, 41]);
        assert!(Headers::find(&bytes).unwrap().header_checksum_ok(&bytes));
    }

    #[test]
    fn without_room_there_is_no_outer_header() {
        let mut bytes = inner();
        let len = bytes.len();
        let mut packet = Packet::new(&mut bytes, 0..len).unwrap();
        let headers = Headers::find(packet.bytes()).unwrap();
        let ends = ("fd77:1::1".parse().unwrap(), "[fd77:1::11]:21".parse().unwrap());
        assert_eq!(encapsulate(&mut packet, &headers, ends, 1), None);
        // Families have no outer header for each other's ends.
        let ends = ("10.77.1.1".parse().unwrap(), "[fd77:1::11]:21".parse().unwrap());
        assert_eq!(encapsulate(&mut packet, &headers, ends, 1), None);
        assert_eq!(packet.bytes(), inner());
    }
}
