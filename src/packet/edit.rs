//! Changing a packet so that every length and checksum stays right.

use core::net::IpAddr;
use core::ops::Range;

use super::address::Address;
use super::headers::{BadOption, read_array};
use super::{Family, Headers, Layer4, Packet, Protocol, ReplaceError, TcpFlags, TcpOptions, checksum};
use crate::SequenceNumber;

/// One of a packet's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl Side {
    /// The other end.
    #[inline]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

impl Headers {
    /// Changes the address and port (for ICMP, the identifier) of one end.
    ///
    /// The IPv4 header's checksum and that of the transport header change by the difference; a UDP packet without a
    /// checksum stays without. A transport header that is cut off before its checksum, as inside an ICMP error, has
    /// its port changed and nothing else. SCTP's checksum, which cannot be mended, is computed anew. An address of the
    /// other family changes nothing.
    #[inline]
    pub fn set_endpoint(&self, bytes: &mut [u8], side: Side, address: IpAddr, port: u16) {
        self.set_end(bytes, side, address.into(), port);
    }

    /// As [`Headers::set_endpoint`].
    #[inline(always)]
    pub(crate) fn set_end(&self, bytes: &mut [u8], side: Side, address: Address, port: u16) {
        match (self.family, self.layer4) {
            _ if address.family != self.family => {}
            (Family::V4, Layer4::Tcp(_)) => self.set_end_v4_tcp(bytes, side, address.words[0] as u32, port),
            (Family::V6, Layer4::Tcp(_)) => self.set_end_v6_tcp(bytes, side, address.words, port),
            _ => self.set_any_end(bytes, side, address.into(), port),
        }
    }

    #[inline(never)]
    fn set_any_end(&self, bytes: &mut [u8], side: Side, address: IpAddr, port: u16) {
        self.set_address(bytes, side, address);
        self.set_port(bytes, side, port);
        if self.layer4 == Layer4::Sctp {
            self.fill_sctp_checksum(bytes);
        }
    }

    fn fill_sctp_checksum(&self, bytes: &mut [u8]) {
        // A packet quoted in an ICMP error may be cut short.
        let sum = super::crc32c::of_sctp(bytes.get(self.transport..self.end.min(bytes.len())).unwrap_or_default());
        write(bytes, self.transport + 8, &sum.to_le_bytes());
    }

    /// The commonest case, with one change of each checksum.
    #[inline(always)]
    fn set_end_v4_tcp(&self, bytes: &mut [u8], side: Side, address: u32, port: u16) {
        let Some((ip, tcp)) = self.ip_and_tcp::<20>(bytes) else { return };
        let (address_at, port_at) = if side == Side::Source { (12, 0) } else { (16, 2) };
        // As they stand in the packet: words may be summed in any byte order (RFC 1071 section 2), if all are.
        let (address, port) = (address.to_be_bytes(), port.to_be_bytes());
        let old_address: [u8; 4] = read_array(ip, address_at).unwrap_or_default();
        let old_port: [u8; 2] = read_array(tcp, port_at).unwrap_or_default();
        if old_address == address && old_port == port {
            return;
        }
        write(ip, address_at, &address);
        write(tcp, port_at, &port);
        let change = checksum::change_u32(u32::from_ne_bytes(old_address), u32::from_ne_bytes(address));
        if old_address != address {
            change_sum(ip, 10, change);
        }
        let ports = checksum::change_u16(u16::from_ne_bytes(old_port), u16::from_ne_bytes(port));
        change_sum(tcp, 16, change + ports);
    }

    /// The same for IPv6.
    #[inline(always)]
    fn set_end_v6_tcp(&self, bytes: &mut [u8], side: Side, address: [u64; 2], port: u16) {
        let Some((ip, tcp)) = self.ip_and_tcp::<40>(bytes) else { return };
        let (address_at, port_at) = if side == Side::Source { (8, 0) } else { (24, 2) };
        let [old_high, old_low] = self.address(ip, side).words;
        let old_port = u16::from_be_bytes(read_array(tcp, port_at).unwrap_or_default());
        let [high, low] = address;
        write(ip, address_at, &high.to_be_bytes());
        write(ip, address_at + 8, &low.to_be_bytes());
        write(tcp, port_at, &port.to_be_bytes());
        update(tcp, 16, |sum| {
            let (before, after) = (checksum::sum_words([old_high, old_low]), checksum::sum_words(address));
            let same = old_high == high && old_low == low;
            let sum = if same { sum } else { checksum::replace_u32(sum, before, after) };
            if old_port == port { sum } else { checksum::replace_u16(sum, old_port, port) }
        });
    }

    /// The IP header without options, and the TCP header without options, if they are there.
    #[inline]
    fn ip_and_tcp<'p, const IP: usize>(&self, bytes: &'p mut [u8]) -> Option<(&'p mut [u8; IP], &'p mut [u8; 20])> {
        let (ip, tcp) = bytes.split_at_mut_checked(self.transport)?;
        Some((ip.first_chunk_mut()?, tcp.first_chunk_mut()?))
    }

    /// Changes the address of one end, and what is summed over it.
    pub(crate) fn set_address(&self, bytes: &mut [u8], side: Side, address: IpAddr) {
        match (self.family, address) {
            (Family::V4, IpAddr::V4(new)) => self.set_address_v4(bytes, side, u32::from(new)),
            (Family::V6, IpAddr::V6(new)) => self.set_address_v6(bytes, side, new.octets()),
            _ => {}
        }
    }

    #[inline]
    fn set_address_v4(&self, bytes: &mut [u8], side: Side, new: u32) {
        let at = if side == Side::Source { 12 } else { 16 };
        let Some(old) = read_array(bytes, at).map(u32::from_be_bytes) else { return };
        if old == new {
            return;
        }
        write(bytes, at, &new.to_be_bytes());
        update(bytes, 10, |sum| checksum::replace_u32(sum, old, new));
        self.update_transport_sum(bytes, true, |sum| checksum::replace_u32(sum, old, new));
    }

    fn set_address_v6(&self, bytes: &mut [u8], side: Side, new: [u8; 16]) {
        let at = if side == Side::Source { 8 } else { 24 };
        let Some(old) = read_array::<16>(bytes, at) else { return };
        if old == new {
            return;
        }
        write(bytes, at, &new);
        let (before, after) = (checksum::sum(&old, 0), checksum::sum(&new, 0));
        self.update_transport_sum(bytes, true, |sum| checksum::replace_u32(sum, before, after));
    }

    #[inline]
    fn set_port(&self, bytes: &mut [u8], side: Side, new: u16) {
        let at = match self.protocol {
            Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
                self.transport + if side == Side::Source { 0 } else { 2 }
            }
            Protocol::ICMP | Protocol::ICMPV6 if matches!(self.layer4, Layer4::Icmp(_)) => self.transport + 4,
            _ => return,
        };
        let Some(old) = read_array(bytes, at).map(u16::from_be_bytes) else { return };
        if old != new {
            write(bytes, at, &new.to_be_bytes());
            self.update_transport_sum(bytes, false, |sum| checksum::replace_u16(sum, old, new));
        }
    }

    /// Changes the transport checksum; `pseudo` when what changed stands in the pseudo-header, which ICMP for IPv4
    /// does not have.
    #[inline]
    fn update_transport_sum(&self, bytes: &mut [u8], pseudo: bool, change: impl Fn(u16) -> u16) {
        if self.fragment.is_some_and(|f| f.offset != 0) {
            return;
        }
        match self.protocol {
            // A header that is cut off shows its ports and maybe not its checksum: Linux wants its twenty bytes.
            Protocol::TCP if bytes.len() >= self.transport + 20 => update(bytes, self.transport + 16, change),
            Protocol::UDP | Protocol::UDPLITE if self.layer4 == Layer4::Udp => {
                update(bytes, self.transport + 6, |sum| match sum {
                    0 => 0,
                    sum => match change(sum) {
                        0 => 0xffff,
                        sum => sum,
                    },
                });
            }
            Protocol::ICMPV6 => update(bytes, self.transport + 2, change),
            Protocol::ICMP if !pseudo => update(bytes, self.transport + 2, change),
            _ => {}
        }
    }

    /// Changes the sequence number of a TCP packet, and nothing in others.
    #[inline]
    pub fn set_sequence(&mut self, bytes: &mut [u8], new: SequenceNumber) {
        if matches!(self.layer4, Layer4::Tcp(_)) {
            self.write_sequence(bytes, new);
        }
    }

    /// Changes the acknowledgement number of a TCP packet, and nothing in others.
    #[inline]
    pub fn set_acknowledgement(&mut self, bytes: &mut [u8], new: SequenceNumber) {
        if matches!(self.layer4, Layer4::Tcp(_)) {
            self.write_acknowledgement(bytes, new);
        }
    }

    /// Writes where TCP's sequence number stands, whatever the packet is.
    #[inline]
    pub(crate) fn write_sequence(&mut self, bytes: &mut [u8], new: SequenceNumber) {
        if let Layer4::Tcp(segment) = &mut self.layer4 {
            segment.sequence = new;
        }
        self.set_tcp_word(bytes, 4, new.0);
    }

    /// Writes where TCP's acknowledgement number stands, whatever the packet is.
    #[inline]
    pub(crate) fn write_acknowledgement(&mut self, bytes: &mut [u8], new: SequenceNumber) {
        if let Layer4::Tcp(segment) = &mut self.layer4 {
            segment.acknowledgement = new;
        }
        self.set_tcp_word(bytes, 8, new.0);
    }

    /// Changes the 32 bits at `at` of a TCP header: a number, or an edge of a SACK block.
    ///
    /// An option may stand at an odd place, where its bytes are summed the other way round. Linux does not mind that
    /// (seen on 6.18): such a packet leaves with a wrong checksum, and so it does here.
    pub(crate) fn set_tcp_word(&self, bytes: &mut [u8], at: usize, new: u32) {
        let place = self.transport + at;
        let Some(old) = read_array(bytes, place).map(u32::from_be_bytes) else { return };
        if old != new {
            write(bytes, place, &new.to_be_bytes());
            update(bytes, self.transport + 16, |sum| checksum::replace_u32(sum, old, new));
        }
    }

    /// Changes the left and right edges of a TCP packet's SACK blocks (RFC 2018). An edge at an odd place leaves the
    /// checksum wrong, as Linux does (seen on 6.18).
    ///
    /// # Errors
    /// When an option does not fit; blocks before it are changed.
    pub fn map_sack_blocks(
        &self,
        bytes: &mut [u8],
        map: impl Fn(SequenceNumber, SequenceNumber) -> (SequenceNumber, SequenceNumber),
    ) -> Result<(), BadOption> {
        let options = self.tcp_options(bytes);
        // A header has at most 40 bytes of options: four blocks, or as many in several options.
        let mut blocks = [(0, [0; 8]); 5];
        let mut slots = blocks.iter_mut();
        let mut result = Ok(());
        for option in options.iter() {
            match option {
                Ok((TcpOptions::SACK, at, value)) if value.len() % 8 == 0 => {
                    let found = value.as_chunks::<8>().0.iter().enumerate();
                    for ((i, block), slot) in found.zip(&mut slots) {
                        *slot = (20 + at + i * 8, *block);
                    }
                }
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        for (at, [a, b, c, d, e, f, g, h]) in blocks.into_iter().take_while(|(at, _)| *at != 0) {
            let left = SequenceNumber(u32::from_be_bytes([a, b, c, d]));
            let right = SequenceNumber(u32::from_be_bytes([e, f, g, h]));
            let (left, right) = map(left, right);
            self.set_tcp_word(bytes, at, left.0);
            self.set_tcp_word(bytes, at + 4, right.0);
        }
        result
    }

    /// Sets and clears flags of a TCP packet.
    pub fn set_flags(&mut self, bytes: &mut [u8], set: u8, clear: u8) {
        let at = self.transport + 12;
        let Layer4::Tcp(segment) = &mut self.layer4 else { return };
        let Some([offset, flags]) = read_array(bytes, at) else { return };
        let (old, new) = (u16::from_be_bytes([offset, flags]), u16::from_be_bytes([offset, flags & !clear | set]));
        if old != new {
            segment.flags = TcpFlags(flags & !clear | set);
            write(bytes, at, &new.to_be_bytes());
            update(bytes, self.transport + 16, |sum| checksum::replace_u16(sum, old, new));
        }
    }

    /// Makes a copy of a TCP packet's headers those of another payload, which stands behind them already.
    pub fn finish_copy(&mut self, bytes: &mut [u8], sequence: SequenceNumber, set: u8, clear: u8) {
        self.end = bytes.len();
        self.write_length(bytes);
        self.set_flags(bytes, set, clear);
        self.set_sequence(bytes, sequence);
        self.fill_header_checksum(bytes);
        self.fill_transport_checksum(bytes);
    }

    /// Calls what stands before this place of a TCP packet's stream, from its sequence number on, urgent; or nothing.
    pub fn set_urgent_pointer(&mut self, bytes: &mut [u8], pointer: Option<u16>) {
        match pointer {
            Some(_) => self.set_flags(bytes, TcpFlags::URG, 0),
            None => self.set_flags(bytes, 0, TcpFlags::URG),
        }
        self.map_urgent_pointer(bytes, |_| pointer.unwrap_or(0));
    }

    /// Changes the urgent pointer of a TCP packet, which counts from its sequence number (RFC 6093 section 2).
    pub fn map_urgent_pointer(&self, bytes: &mut [u8], map: impl Fn(u16) -> u16) {
        let (Layer4::Tcp(_), at) = (self.layer4, self.transport + 18) else { return };
        let Some(old) = read_array(bytes, at).map(u16::from_be_bytes) else { return };
        let new = map(old);
        if new != old {
            write(bytes, at, &new.to_be_bytes());
            update(bytes, self.transport + 16, |sum| checksum::replace_u16(sum, old, new));
        }
    }

    /// Changes the sequence number of a TCP packet that an ICMP error quotes, which may end before its checksum.
    pub fn map_quoted_sequence(&self, bytes: &mut [u8], map: impl Fn(SequenceNumber) -> SequenceNumber) {
        let Some(old) = read_array(bytes, self.transport + 4).map(u32::from_be_bytes) else { return };
        self.set_tcp_word(bytes, 4, map(SequenceNumber(old)).0);
    }

    /// Takes one from the time to live or hop limit, if there is one left.
    #[inline(always)]
    pub fn decrement_hop_limit(&self, bytes: &mut [u8]) {
        match self.family {
            Family::V4 => {
                let Some(ttl) = bytes.get_mut(8).filter(|ttl| **ttl > 0) else { return };
                *ttl -= 1;
                update(bytes, 10, |sum| {
                    // The time to live is the upper byte of its word. Linux adds with the carry of 0xffff too.
                    let sum = u32::from(sum) + 0x0100;
                    (sum + u32::from(sum >= 0xffff)) as u16
                });
            }
            Family::V6 => {
                if let Some(limit) = bytes.get_mut(7) {
                    *limit = limit.saturating_sub(1);
                }
            }
        }
    }

    /// Sets the time to live or hop limit.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_hop_limit(&self, bytes: &mut [u8], limit: u8) {
        match self.family {
            Family::V4 => {
                let Some(old) = read_array(bytes, 8).map(u16::from_be_bytes) else { return };
                let new = u16::from(limit) << 8 | old & 0xff;
                if new != old {
                    write(bytes, 8, &new.to_be_bytes());
                    update(bytes, 10, |sum| checksum::replace_u16(sum, old, new));
                }
            }
            Family::V6 => write(bytes, 7, &[limit]),
        }
    }

    /// Sets the type of service or traffic class.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_traffic_class(&self, bytes: &mut [u8], class: u8) {
        let Some(old) = read_array(bytes, 0).map(u16::from_be_bytes) else { return };
        match self.family {
            Family::V4 => {
                let new = old & 0xff00 | u16::from(class);
                if new != old {
                    write(bytes, 0, &new.to_be_bytes());
                    update(bytes, 10, |sum| checksum::replace_u16(sum, old, new));
                }
            }
            Family::V6 => write(bytes, 0, &(old & 0xf00f | u16::from(class) << 4).to_be_bytes()),
        }
    }

    /// Changes the 16 bits at `at` of a TCP header.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_tcp_half(&self, bytes: &mut [u8], at: usize, new: u16) {
        let place = self.transport + at;
        let Some(old) = read_array(bytes, place).map(u16::from_be_bytes) else { return };
        if old != new {
            write(bytes, place, &new.to_be_bytes());
            update(bytes, self.transport + 16, |sum| checksum::replace_u16(sum, old, new));
        }
    }

    /// Changes one byte of a TCP header, at an even or odd place.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_tcp_byte(&self, bytes: &mut [u8], at: usize, new: u8) {
        let even = at & !1;
        let Some([first, second]) = read_array::<2>(bytes, self.transport + even) else { return };
        let word = if at == even { [new, second] } else { [first, new] };
        self.set_tcp_half(bytes, even, u16::from_be_bytes(word));
    }

    /// Writes the IPv4 header's checksum anew.
    pub(crate) fn fill_header_checksum(&self, bytes: &mut [u8]) {
        if self.family != Family::V4 {
            return;
        }
        let len = bytes.first().map_or(0, |b| usize::from(b & 15) * 4);
        write(bytes, 10, &[0, 0]);
        let sum = checksum::fold(checksum::sum(bytes.get(..len).unwrap_or_default(), 0));
        write(bytes, 10, &sum.to_be_bytes());
    }

    /// Writes the transport checksum of a TCP, UDP or ICMP packet anew.
    pub(crate) fn fill_transport_checksum(&self, bytes: &mut [u8]) {
        let Some(at) = self.transport_checksum_at() else { return };
        let pseudo = self.protocol != Protocol::ICMP;
        write(bytes, at, &[0, 0]);
        let len = self.end.saturating_sub(self.transport);
        let start = if pseudo { checksum::pseudo_header(self.addresses(bytes), self.protocol.0, len) } else { 0 };
        let sum = checksum::fold(checksum::sum(bytes.get(self.transport..self.end).unwrap_or_default(), start));
        // All zeros would say "no checksum" in UDP; Linux avoids it for TCP that it sums in software as well.
        let avoids_zero = matches!(self.protocol, Protocol::TCP | Protocol::UDP);
        let sum = if sum == 0 && avoids_zero { 0xffff } else { sum };
        write(bytes, at, &sum.to_be_bytes());
    }

    /// Returns the place of the checksum of a TCP, UDP or ICMP packet.
    pub(crate) const fn transport_checksum_at(&self) -> Option<usize> {
        match self.protocol {
            Protocol::TCP => Some(self.transport + 16),
            Protocol::UDP => Some(self.transport + 6),
            Protocol::ICMP | Protocol::ICMPV6 => Some(self.transport + 2),
            _ => None,
        }
    }
}

impl Packet<'_> {
    /// Replaces a stretch of a TCP packet's payload (`old` counts from the first byte of it), sets the packet's
    /// length and computes its checksums in full.
    ///
    /// Link-layer padding is cut off. The urgent pointer stays, as in Linux.
    ///
    /// # Errors
    /// See [`ReplaceError`]; nothing is changed then.
    pub fn replace_payload(
        &mut self,
        headers: &mut Headers,
        old: Range<usize>,
        new: &[u8],
    ) -> Result<(), ReplaceError> {
        let Layer4::Tcp(segment) = headers.layer4 else { return Err(ReplaceError::NotInPayload) };
        let len = headers.end.saturating_sub(segment.payload);
        if old.start > old.end || old.end > len || headers.end > self.bytes().len() {
            return Err(ReplaceError::NotInPayload);
        }
        if headers.end + new.len() > old.len() + usize::from(u16::MAX) {
            return Err(ReplaceError::TooLong);
        }
        let growth = new.len().saturating_sub(old.len());
        let padding = self.bytes().len() - headers.end;
        if growth > self.tail_room() + padding {
            return Err(ReplaceError::NeedsRoom(growth - padding));
        }
        self.truncate(headers.end);
        self.splice(segment.payload + old.start..segment.payload + old.end, new);
        headers.end = headers.end - old.len() + new.len();
        headers.write_length(self.bytes_mut());
        headers.fill_header_checksum(self.bytes_mut());
        headers.fill_transport_checksum(self.bytes_mut());
        Ok(())
    }
}

impl Headers {
    /// Writes the packet's length into its IP header.
    pub(crate) fn write_length(&self, bytes: &mut [u8]) {
        match self.family {
            Family::V4 => write(bytes, 2, &(self.end as u16).to_be_bytes()),
            Family::V6 => write(bytes, 4, &(self.end.saturating_sub(40) as u16).to_be_bytes()),
        }
    }
}

/// Writes `value` at `at`, if it fits there.
#[inline]
pub(super) fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

/// Lets a checksum follow a [change](checksum::change_u32) that was reckoned in the machine's byte order.
#[inline(always)]
fn change_sum(bytes: &mut [u8], at: usize, change: u32) {
    let Some(field) = read_array(bytes, at).map(u16::from_ne_bytes) else { return };
    write(bytes, at, &checksum::follow(field, change).to_ne_bytes());
}

/// Changes the 16 bits at `at`, if they are there.
#[inline(always)]
pub(super) fn update(bytes: &mut [u8], at: usize, change: impl Fn(u16) -> u16) {
    if let Some(field) = read_array(bytes, at) {
        write(bytes, at, &change(u16::from_be_bytes(field)).to_be_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::tcp::TcpPacket;

    /// 10.77.1.2:40000 > 198.51.100.9:21, flags PA, with the options and text given; checksums right.
    pub(in crate::packet) fn segment(options: &[u8], text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9]);
        let offset = ((20 + options.len()) / 4) << 4;
        bytes.extend([0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 9, offset as u8, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(text);
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_header_checksum(&mut bytes);
        headers.fill_transport_checksum(&mut bytes);
        bytes
    }

    pub(in crate::packet) fn assert_right(bytes: &[u8]) {
        let ip = Ipv4Packet::new(bytes).unwrap();
        assert_eq!(ip.get_checksum(), pnet_packet::ipv4::checksum(&ip), "{bytes:02x?}");
        let tcp = &bytes[20..];
        let sum =
            pnet_packet::tcp::ipv4_checksum(&TcpPacket::new(tcp).unwrap(), &ip.get_source(), &ip.get_destination());
        assert_eq!(TcpPacket::new(tcp).unwrap().get_checksum(), sum, "{bytes:02x?}");
    }

    #[test]
    fn endpoints_change_with_their_checksums() {
        let mut bytes = segment(&[], b"NOOP\r\n");
        assert_right(&bytes);
        let headers = Headers::find(&bytes).unwrap();
        headers.set_endpoint(&mut bytes, Side::Source, [203, 0, 113, 1].into(), 1024);
        headers.set_endpoint(&mut bytes, Side::Destination, [10, 0, 0, 1].into(), 2121);
        assert_right(&bytes);
        assert_eq!(headers.source(&bytes), IpAddr::from([203, 0, 113, 1]));
        assert_eq!(headers.ports(&bytes), Some((1024, 2121)));
    }

    #[test]
    fn numbers_change_with_their_checksum() {
        let mut bytes = segment(&[1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0], b"x");
        let mut headers = Headers::find(&bytes).unwrap();
        headers.set_sequence(&mut bytes, SequenceNumber(0xffff_fffe));
        headers.set_acknowledgement(&mut bytes, SequenceNumber(3));
        headers.set_tcp_word(&mut bytes, 24, 0x0102_0304);
        assert_right(&bytes);
        assert_eq!(bytes[44..48], [1, 2, 3, 4]);
        assert_eq!(Headers::find(&bytes).unwrap(), headers);
    }

    #[test]
    fn text_grows_and_shrinks() {
        for (old, new) in [(5..18, &b"203,0,113,1,4,1"[..]), (5..18, b""), (0..20, b"x"), (20..20, b"tail")] {
            let text = b"PORT 10,77,1,2,4,1\r\n";
            let mut buffer = segment(&[], text);
            let len = buffer.len();
            buffer.resize(len + 64, 0xee);
            let mut packet = Packet::new(&mut buffer, 0..len + 6).unwrap(); // six bytes of padding
            let mut headers = Headers::find(packet.bytes()).unwrap();
            packet.replace_payload(&mut headers, old.clone(), new).unwrap();
            assert_right(packet.bytes());
            let expected = [&text[..old.start], new, &text[old.end..]].concat();
            assert_eq!(headers.payload(packet.bytes()), expected);
            assert_eq!(packet.bytes().len(), headers.end);
            assert_eq!(Headers::find(packet.bytes()).unwrap(), headers);
        }
    }

    /// Found by fuzzing.
    #[test]
    fn a_datagram_has_no_numbers_to_change() {
        let mut datagram = *b"\x45\0\0\x1e\0\x01\x40\0\x40\x11\x4f\xef\xaf\x85\x85\x85\x0a\x01\xab\xaa\
            \x85\x01\x06\x06\xaa\x01\x89\xab\x56\x79";
        let before = datagram;
        let mut headers = Headers::find(&datagram).unwrap();
        headers.set_sequence(&mut datagram, SequenceNumber(1));
        headers.set_acknowledgement(&mut datagram, SequenceNumber(2));
        assert_eq!(datagram, before);
    }

    #[test]
    fn text_outside_the_payload_is_refused() {
        let mut buffer = segment(&[], b"NOOP\r\n");
        let len = buffer.len();
        let before = buffer.clone();
        let mut packet = Packet::new(&mut buffer, 0..len).unwrap();
        let mut headers = Headers::find(packet.bytes()).unwrap();
        assert_eq!(packet.replace_payload(&mut headers, 0..7, b""), Err(ReplaceError::NotInPayload));
        assert_eq!(packet.replace_payload(&mut headers, 0..0, b"ab"), Err(ReplaceError::NeedsRoom(2)));
        assert_eq!(packet.replace_payload(&mut headers, 0..0, &[0; 65_500]), Err(ReplaceError::TooLong));
        assert_eq!(packet.bytes(), before);
    }

    #[test]
    fn hop_limit_goes_down_with_its_checksum() {
        for ttl in 1..=255 {
            let mut bytes = segment(&[], b"");
            bytes[8] = ttl;
            let headers = Headers::find(&bytes).unwrap();
            headers.fill_header_checksum(&mut bytes);
            headers.decrement_hop_limit(&mut bytes);
            assert!(headers.header_checksum_ok(&bytes));
            assert_eq!(headers.hop_limit(&bytes), ttl - 1);
        }
    }

    #[test]
    fn ipv6_endpoints_change_with_their_checksum() {
        let mut bytes = Vec::from([0x60, 0, 0, 0, 0, 20, 6, 64]);
        bytes.extend([0x20; 32]);
        bytes.extend([0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_transport_checksum(&mut bytes);
        headers.set_endpoint(&mut bytes, Side::Source, "2001:db8:1::1".parse().unwrap(), 7);
        assert!(headers.transport_checksum_ok(&bytes));
        assert_eq!(headers.source(&bytes), "2001:db8:1::1".parse::<IpAddr>().unwrap());
    }
}
