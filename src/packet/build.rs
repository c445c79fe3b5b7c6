//! Packets that a router makes itself: ICMP errors, TCP resets, and segments in somebody's name.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Family, Headers, Layer4, Protocol, TcpFlags, TcpOptions};
use crate::SequenceNumber;

/// The time to live of packets that Linux makes itself.
pub(crate) const DEFAULT_HOP_LIMIT: u8 = 64;
/// Precedence "internetwork control", which Linux gives to ICMP errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// An ICMP error is at most this long (RFC 1812 section 4.3.2.3).
const MAX_ICMP_ERROR: usize = 576;
/// An ICMPv6 error is at most this long (RFC 4443 section 2.4).
const MAX_ICMPV6_ERROR: usize = 1280;
/// The longest packet that is made here.
pub(crate) const MAX_BUILT: usize = MAX_ICMPV6_ERROR;

/// An ICMP or ICMPv6 error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The word behind the checksum: the MTU, where the next link's is too small.
    pub(crate) rest: u32,
}

impl IcmpError {
    /// The time to live is over (RFC 792; RFC 4443 section 3.3).
    pub(crate) const fn hop_limit(family: Family) -> Self {
        match family {
            Family::V4 => Self { kind: 11, code: 0, rest: 0 },
            Family::V6 => Self { kind: 3, code: 0, rest: 0 },
        }
    }

    /// The destination cannot be reached.
    pub(crate) const fn unreachable(family: Family, code: u8) -> Self {
        match family {
            Family::V4 => Self { kind: 3, code, rest: 0 },
            Family::V6 => Self { kind: 1, code, rest: 0 },
        }
    }

    /// The packet is too big for the next link (RFC 1191 section 4; RFC 4443 section 3.2).
    pub(crate) const fn too_big(family: Family, mtu: u32) -> Self {
        match family {
            Family::V4 => Self { kind: 3, code: 4, rest: mtu & 0xffff },
            Family::V6 => Self { kind: 2, code: 0, rest: mtu },
        }
    }

    /// An option makes no sense (RFC 792): where in the header.
    pub(crate) const fn parameter_problem(pointer: u8) -> Self {
        Self { kind: 12, code: 0, rest: (pointer as u32) << 24 }
    }

    /// The header has a field that makes no sense, or an option that nobody knows (RFC 4443 section 3.4): where.
    pub(crate) const fn parameter_problem_v6(code: u8, pointer: u32) -> Self {
        Self { kind: 4, code, rest: pointer }
    }

    /// True for the ICMPv6 errors that also answer a packet to a group (RFC 4443 section 2.4 (e.3)).
    const fn answers_groups(&self) -> bool {
        matches!((self.kind, self.code), (2, 0) | (4, 2))
    }

    /// Writes the error about `original` into `out`, with these IPv4 options, from `source` to the original's source.
    /// Returns its length; `None` when no error may be sent about it (RFC 1122 section 3.2.2; RFC 4443 section 2.4).
    /// That is the case for another error, for a fragment that is not the first, and for source or destination
    /// addresses of many hosts or of none.
    pub(crate) fn write(
        &self,
        out: &mut [u8],
        original: &[u8],
        source: IpAddr,
        identification: u16,
        options: &[u8],
    ) -> Option<usize> {
        let headers = Headers::find_cut(original).ok()?;
        let (from, to) = (headers.source(original), headers.destination(original));
        let is_later_part = headers.fragment.is_some_and(|f| f.offset != 0);
        let is_to_group = to.is_multicast() && !self.answers_groups();
        let nobody = from.is_unspecified() || from.is_multicast() || from.is_loopback() || is_to_group;
        if is_later_part || nobody || is_error(&headers) {
            return None;
        }
        let (header, longest) = match headers.family {
            Family::V4 => (20 + options.len(), MAX_ICMP_ERROR),
            Family::V6 => (40, MAX_ICMPV6_ERROR),
        };
        let quoted = headers.end.min(original.len()).min(longest - header - 8);
        let len = header + 8 + quoted;
        let packet = out.get_mut(..len)?;
        let protocol = if headers.family == Family::V4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let tos = original.get(1).map_or(0, |tos| tos & 0x1e) | INTERNETWORK_CONTROL;
        write_ip(packet, source, from, protocol, tos, identification, false)?;
        if !options.is_empty() {
            // The header's length, in words, shares its byte with the version.
            packet.first_mut()?.clone_from(&(0x40 | (header / 4) as u8));
            packet.get_mut(20..header)?.copy_from_slice(options);
        }
        let message = packet.get_mut(header..)?;
        let [kind, code, _, _, rest @ ..] = message else { return None };
        (*kind, *code) = (self.kind, self.code);
        rest.get_mut(..4)?.copy_from_slice(&self.rest.to_be_bytes());
        rest.get_mut(4..)?.copy_from_slice(original.get(..quoted)?);
        finish(packet)
    }
}

/// Returns true if a packet reports an error itself.
fn is_error(headers: &Headers) -> bool {
    match headers.layer4 {
        Layer4::Icmp(icmp) if headers.protocol == Protocol::ICMP => !matches!(icmp.kind, 0 | 8 | 13..=18),
        Layer4::Icmp(icmp) => icmp.kind < 128,
        _ => headers.protocol.is_icmp(),
    }
}

/// Writes the reset that answers a TCP segment as if its destination had sent it (RFC 9293 section 3.5.2). Gives its
/// length; `None` for what is no segment, or a reset itself.
pub(crate) fn write_reset(out: &mut [u8], original: &[u8]) -> Option<usize> {
    let found = Headers::find(original).ok()?;
    // A first fragment that is not gathered counts as whole.
    let headers = Headers { fragment: found.fragment.filter(|fragment| fragment.offset != 0), ..found };
    let Layer4::Tcp(segment) = headers.layer4 else { return None };
    if segment.flags.has(TcpFlags::RST) || headers.fragment.is_some() || !headers.transport_checksum_ok(original) {
        return None;
    }
    let header = if headers.family == Family::V4 { 20 } else { 40 };
    let packet = out.get_mut(..header + 20)?;
    let (source, destination) = (headers.destination(original), headers.source(original));
    write_ip(packet, source, destination, Protocol::TCP, 0, 0, true)?;
    let (source_port, destination_port) = headers.ports(original)?;
    let (sequence, acknowledgement, flags) = if segment.flags.has(TcpFlags::ACK) {
        (segment.acknowledgement.0, 0, TcpFlags::RST)
    } else {
        let control = u32::from(segment.flags.has(TcpFlags::SYN)) + u32::from(segment.flags.has(TcpFlags::FIN));
        let end = segment.sequence + control + headers.payload(original).len() as u32;
        (0, end.0, TcpFlags::RST | TcpFlags::ACK)
    };
    let tcp = packet.get_mut(header..)?;
    tcp.get_mut(0..2)?.copy_from_slice(&destination_port.to_be_bytes());
    tcp.get_mut(2..4)?.copy_from_slice(&source_port.to_be_bytes());
    tcp.get_mut(4..8)?.copy_from_slice(&sequence.to_be_bytes());
    tcp.get_mut(8..12)?.copy_from_slice(&acknowledgement.to_be_bytes());
    tcp.get_mut(12..)?.copy_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let len = finish(packet)?;
    // Of the two zeros, Linux writes this one into a reset over IPv6 (seen on 6.18).
    let sum = packet.get_mut(header + 16..header + 18)?;
    if headers.family == Family::V6 && sum == [0xff, 0xff] {
        sum.fill(0);
    }
    Some(len)
}

/// The ends of a segment that is sent in another's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InName {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The two timestamps, where the connection has them (RFC 7323 section 3.2).
    pub(crate) timestamps: Option<[u8; 8]>,
}

impl InName {
    /// Writes a segment with ACK, and PSH if it bears something. Gives its length; `None` if it does not fit.
    pub(crate) fn write(
        &self,
        out: &mut [u8],
        sequence: SequenceNumber,
        acknowledgement: SequenceNumber,
        window: u16,
        payload: &[u8],
    ) -> Option<usize> {
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        let tcp_header = if self.timestamps.is_some() { 32 } else { 20 };
        let packet = out.get_mut(..header + tcp_header + payload.len())?;
        write_ip(packet, self.source.ip(), self.destination.ip(), Protocol::TCP, 0, 0, true)?;
        let tcp = packet.get_mut(header..)?;
        let (tcp, text) = tcp.split_at_mut_checked(tcp_header)?;
        text.copy_from_slice(payload);
        let (fixed, options) = tcp.split_first_chunk_mut::<20>()?;
        let flags = TcpFlags::ACK | if payload.is_empty() { 0 } else { TcpFlags::PSH };
        fixed[0..2].copy_from_slice(&self.source.port().to_be_bytes());
        fixed[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        fixed[4..8].copy_from_slice(&sequence.0.to_be_bytes());
        fixed[8..12].copy_from_slice(&acknowledgement.0.to_be_bytes());
        fixed[12..14].copy_from_slice(&[(tcp_header << 2) as u8, flags]);
        fixed[14..16].copy_from_slice(&window.to_be_bytes());
        if let (Some(timestamps), Some((front, back))) = (self.timestamps, options.split_first_chunk_mut::<4>()) {
            // Two bytes that do nothing, so that the numbers stand at multiples of four (RFC 7323 appendix A).
            *front = [1, 1, TcpOptions::TIMESTAMPS, 10];
            back.copy_from_slice(&timestamps);
        }
        finish(packet)
    }
}

/// Writes an IP header in front of a packet of which all other bytes are still to come; they are zeroed.
fn write_ip(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    tos: u8,
    identification: u16,
    whole: bool,
) -> Option<()> {
    packet.fill(0);
    let len = packet.len();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [len0, len1] = u16::try_from(len).ok()?.to_be_bytes();
            let [id0, id1] = identification.to_be_bytes();
            let flags = if whole { 0x40 } else { 0 };
            let header = packet.first_chunk_mut::<20>()?;
            *header = [
                0x45,
                tos,
                len0,
                len1,
                id0,
                id1,
                flags,
                0,
                DEFAULT_HOP_LIMIT,
                protocol.0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [len0, len1] = u16::try_from(len.checked_sub(40)?).ok()?.to_be_bytes();
            let header = packet.first_chunk_mut::<40>()?;
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, len0, len1, protocol.0, DEFAULT_HOP_LIMIT]);
            header[8..24].copy_from_slice(&Ipv6Addr::octets(&source));
            header[24..40].copy_from_slice(&Ipv6Addr::octets(&destination));
        }
        _ => return None,
    }
    Some(())
}

/// Fills the checksums in, and gives the length.
fn finish(packet: &mut [u8]) -> Option<usize> {
    let headers = Headers::find(packet).ok()?;
    headers.fill_header_checksum(packet);
    headers.fill_transport_checksum(packet);
    Some(packet.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 198.51.100.9:20 > 10.77.1.2:50109, SYN; and the reset that Linux 6.18 answered it with (REJECT).
    const SYN: [u8; 44] = [
        0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0x05, 0x41, 198, 51, 100, 9, 10, 77, 1, 2, //
        0, 20, 0xc3, 0xbd, 0xad, 0xb5, 0x55, 0x56, 0, 0, 0, 0, 0x60, 2, 0xfa, 0xf0, 0xa0, 0xb9, 0, 0, 2, 4, 5, 0xb4,
    ];
    const RESET: [u8; 40] = [
        0x45, 0, 0, 0x28, 0, 0, 0x40, 0, 0x40, 6, 5, 0x45, 0x0a, 0x4d, 1, 2, 0xc6, 0x33, 0x64, 9, //
        0xc3, 0xbd, 0, 0x14, 0, 0, 0, 0, 0xad, 0xb5, 0x55, 0x57, 0x50, 0x14, 0, 0, 0xb3, 0x66, 0, 0,
    ];

    #[test]
    fn a_syn_is_reset_as_linux_does() {
        let mut syn = SYN;
        Headers::find(&SYN).unwrap().fill_transport_checksum(&mut syn);
        let mut out = [0xee; MAX_BUILT];
        assert_eq!(write_reset(&mut out, &syn), Some(40));
        assert_eq!(out[..40], RESET);
        assert_eq!(write_reset(&mut out, &RESET), None);
    }

    #[test]
    fn a_segment_in_the_name_of_another() {
        let endpoint = |text: &str| text.parse().unwrap();
        for (source, destination, header) in
            [("198.51.100.9:21", "10.77.1.2:40000", 20), ("[2001:db8::9]:21", "[fd77::2]:40000", 40)]
        {
            for timestamps in [None, Some([0, 0, 0, 7, 0, 0, 0, 9])] {
                let name = InName { source: endpoint(source), destination: endpoint(destination), timestamps };
                let mut out = [0xee; 128];
                let len = name.write(&mut out, SequenceNumber(5), SequenceNumber(6), 7, b"226 ok\r\n").unwrap();
                let bytes = &out[..len];
                let headers = Headers::find(bytes).unwrap();
                assert!(headers.header_checksum_ok(bytes) && headers.transport_checksum_ok(bytes));
                let Layer4::Tcp(segment) = headers.layer4 else { panic!() };
                assert_eq!((segment.sequence.0, segment.acknowledgement.0, segment.window), (5, 6, 7));
                assert_eq!((segment.flags.0, headers.payload(bytes)), (0x18, &b"226 ok\r\n"[..]));
                assert_eq!((headers.transport, headers.ports(bytes)), (header, Some((21, 40000))));
                let options: alloc::vec::Vec<_> = headers.tcp_options(bytes).iter().collect();
                let expected = timestamps.as_ref().map(|value| Ok((8, 4, &value[..])));
                assert_eq!(options, expected.into_iter().collect::<alloc::vec::Vec<_>>());
            }
        }
    }

    #[test]
    fn an_error_quotes_and_is_not_answered() {
        let mut out = [0xee; MAX_BUILT];
        let error = IcmpError::hop_limit(Family::V4);
        let len = error.write(&mut out, &SYN, [192, 0, 2, 1].into(), 7, &[]).unwrap();
        assert_eq!(len, 20 + 8 + 44);
        let headers = Headers::find(&out[..len]).unwrap();
        assert!(headers.header_checksum_ok(&out[..len]) && headers.transport_checksum_ok(&out[..len]));
        assert_eq!(out[1], 0xc0);
        assert_eq!(out[20..22], [11, 0]);
        assert_eq!(out[28..72], SYN);
        let mut again = [0; MAX_BUILT];
        assert_eq!(error.write(&mut again, &out[..len], [192, 0, 2, 2].into(), 8, &[]), None);
    }

    #[test]
    fn an_error_is_no_longer_than_576_bytes() {
        let mut long = [0; 1000];
        long[..44].copy_from_slice(&SYN);
        long[2..4].copy_from_slice(&1000_u16.to_be_bytes());
        let mut out = [0; MAX_BUILT];
        assert_eq!(
            IcmpError::too_big(Family::V4, 576).write(&mut out, &long, [192, 0, 2, 1].into(), 7, &[]),
            Some(576)
        );
        assert_eq!(out[24..28], 576_u32.to_be_bytes());
    }
}
