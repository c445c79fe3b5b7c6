//! The places of one packet's headers.

use core::fmt;
use core::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::address::Address;
use super::{Family, Protocol, Side};
use crate::SequenceNumber;

/// The headers of a packet, as [`Headers::find`] reads them: offsets from the start of its IP header, and the fields of
/// its transport header that later steps need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headers {
    /// The address family.
    pub family: Family,
    /// The transport protocol; for IPv6, what follows the extension headers.
    pub protocol: Protocol,
    /// Start of the transport header.
    pub transport: usize,
    /// End of the packet by its own length field; padding follows.
    pub end: usize,
    /// Set when this is only a part of a packet.
    pub fragment: Option<Fragment>,
    /// The transport header.
    pub layer4: Layer4,
}

/// A part of a packet (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fragment {
    /// Identification that the fragments of one packet have in common.
    pub identification: u32,
    /// Offset of this fragment in the whole packet, in bytes.
    pub offset: usize,
    /// True if more fragments follow.
    pub more: bool,
    /// Length of the headers before the fragment's data: the IPv4 header, or the IPv6 headers before the fragment
    /// header; in bytes.
    pub header: usize,
    /// Start of the fragment's data.
    pub body: usize,
    /// Place in the headers where the fragment header is named (IPv6).
    pub named_at: usize,
}

/// A transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layer4 {
    /// TCP.
    Tcp(Segment),
    /// UDP or UDP-Lite.
    Udp,
    /// SCTP.
    Sctp,
    /// GRE.
    Gre(GreHeader),
    /// ICMP or ICMPv6.
    Icmp(IcmpHeader),
    /// A protocol without ports, or whose ports nothing here reads.
    Other,
    /// Not all of the header is there, or it contradicts itself; or this is not a first fragment.
    Unreadable,
}

/// The fields of a TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The sequence number of the first byte, or of SYN.
    pub sequence: SequenceNumber,
    /// The next byte expected from the other side; without meaning unless ACK is set.
    pub acknowledgement: SequenceNumber,
    /// SYN, ACK and so on.
    pub flags: TcpFlags,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// Start of the payload, from the start of the IP header.
    pub payload: usize,
}

/// The flags of a TCP header.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;

    /// Returns true if any of these is set.
    #[inline]
    #[must_use]
    pub const fn has(self, flags: u8) -> bool {
        self.0 & flags != 0
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in "FSRPAUEC".chars().enumerate() {
            if self.0 & (1 << i) != 0 {
                write!(f, "{name}")?;
            }
        }
        Ok(())
    }
}

/// The first words of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IcmpHeader {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The identifier, in messages that have one.
    pub identifier: u16,
}

/// The fields of a GRE header (RFC 2784, RFC 2637).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GreHeader {
    /// The version: 0, or 1 where it is PPTP's. Absent where there are not even eight bytes, which Linux wants to see.
    pub version: Option<u8>,
    /// The call that it belongs to in PPTP; else 0.
    pub call: u16,
}

/// The reason why a packet is no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Neither version 4 nor 6.
    Version,
    /// Shorter than its header says the header is.
    Header,
    /// Shorter than its header says the packet is.
    Length,
    /// The IPv4 header's checksum is wrong.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "neither IPv4 nor IPv6",
            Self::Header => "cut off inside its IP header",
            Self::Length => "shorter than its IP header says",
            Self::Checksum => "wrong IPv4 header checksum",
        })
    }
}

impl core::error::Error for Malformed {}

impl Headers {
    /// Finds the headers of the packet that begins at the first byte.
    ///
    /// # Errors
    /// When it is no whole IP packet. A damaged transport header is no error: [`Layer4::Unreadable`].
    #[inline(always)]
    pub fn find(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::locate(bytes, true)
    }

    /// The headers of a whole IPv4 packet without options in which there is a segment of TCP: nearly every packet.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn plain_v4(bytes: &[u8]) -> Option<Self> {
        let is_plain = *bytes.first()? == 0x45;
        let ip = if is_plain { IpHeader::v4(bytes).ok()? } else { return None };
        if ip.end <= bytes.len() { ip.plain(bytes) } else { None }
    }

    /// The headers of a whole IPv6 packet without extensions in which there is a segment of TCP.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(crate) fn plain_v6(bytes: &[u8]) -> Option<Self> {
        let ip = IpHeader::v6(bytes).ok()?;
        if ip.end <= bytes.len() { ip.plain(bytes) } else { None }
    }

    /// Finds the headers of a packet of which the end may be missing: one inside an ICMP error, or one that a capture
    /// cut. `end` may then lie beyond the bytes.
    ///
    /// # Errors
    /// When not even the IP header is whole.
    #[inline]
    pub fn find_cut(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::locate(bytes, false)
    }

    /// Each outcome is written where it is wanted as soon as it is known: a result this large is not copied for nothing.
    #[inline(always)]
    fn locate(bytes: &[u8], must_be_whole: bool) -> Result<Self, Malformed> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => IpHeader::v4(bytes)?.locate(bytes, must_be_whole),
            Some(6) => IpHeader::v6(bytes)?.locate(bytes, must_be_whole),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Header),
        }
    }

    /// Finds the headers of a packet that an ICMP error quotes, as Linux does. Its family is that of the error; the
    /// version and the length that it bears itself are not looked at: `end` says nothing.
    ///
    /// # Errors
    /// As [`Headers::find_cut`].
    pub fn find_quoted(bytes: &[u8], family: Family) -> Result<Self, Malformed> {
        // Headers that are longer than this are not looked through.
        let mut copy = [0; 256];
        let shown = copy.get_mut(..bytes.len().min(256)).ok_or(Malformed::Header)?;
        shown.copy_from_slice(bytes.get(..shown.len()).unwrap_or_default());
        let first = shown.first_mut().ok_or(Malformed::Header)?;
        *first = *first & 0x0f | if family == Family::V4 { 0x40 } else { 0x60 };
        let length = if family == Family::V4 { 2..4 } else { 4..6 };
        shown.get_mut(length).ok_or(Malformed::Header)?.fill(0xff);
        let ip = match family {
            Family::V4 => IpHeader::v4_quoted(shown)?,
            Family::V6 => IpHeader::v6(shown)?,
        };
        Ok(IpHeader::read_on(family, ip.protocol, (ip.transport, ip.end), ip.is_part, shown))
    }

    /// The source address.
    #[inline]
    #[must_use]
    pub fn source(&self, bytes: &[u8]) -> IpAddr {
        self.address(bytes, Side::Source).into()
    }

    /// The destination address.
    #[inline]
    #[must_use]
    pub fn destination(&self, bytes: &[u8]) -> IpAddr {
        self.address(bytes, Side::Destination).into()
    }

    /// The address of one end.
    #[inline(always)]
    pub(crate) fn address(&self, bytes: &[u8], side: Side) -> Address {
        match self.family {
            Family::V4 => {
                let at = if side == Side::Source { 12 } else { 16 };
                Address::v4(read_array(bytes, at).map_or(0, u32::from_be_bytes))
            }
            Family::V6 => {
                let at = if side == Side::Source { 8 } else { 24 };
                let high = read_array(bytes, at).map_or(0, u64::from_be_bytes);
                let low = read_array(bytes, at + 8).map_or(0, u64::from_be_bytes);
                Address { family: Family::V6, words: [high, low] }
            }
        }
    }

    /// Source and destination port, of a TCP, UDP or SCTP packet whose transport header shows at least these.
    #[inline(always)]
    #[must_use]
    pub fn ports(&self, bytes: &[u8]) -> Option<(u16, u16)> {
        if !matches!(self.protocol, Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP)
            || self.fragment.is_some_and(|f| f.offset != 0)
        {
            return None;
        }
        let [a, b, c, d] = read_array(bytes, self.transport)?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// Returns the bytes after the transport header of a TCP packet, padding aside; empty for every other packet.
    #[inline]
    #[must_use]
    pub fn payload<'p>(&self, bytes: &'p [u8]) -> &'p [u8] {
        match self.layer4 {
            Layer4::Tcp(segment) => bytes.get(segment.payload..self.end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The options of a TCP packet.
    #[inline]
    #[must_use]
    pub fn tcp_options<'p>(&self, bytes: &'p [u8]) -> TcpOptions<'p> {
        TcpOptions(match self.layer4 {
            Layer4::Tcp(segment) => bytes.get(self.transport + 20..segment.payload).unwrap_or_default(),
            _ => &[],
        })
    }

    /// The urgent pointer of a TCP packet, if it counts: from the sequence number to the end of what is urgent
    /// (RFC 6093 section 2).
    #[inline]
    pub fn urgent_pointer(&self, bytes: &[u8]) -> Option<u16> {
        match self.layer4 {
            Layer4::Tcp(segment) if segment.flags.has(TcpFlags::URG) => {
                read_array(bytes, self.transport + 18).map(u16::from_be_bytes)
            }
            _ => None,
        }
    }

    /// The time to live (IPv4) or hop limit (IPv6).
    #[inline]
    #[must_use]
    pub fn hop_limit(&self, bytes: &[u8]) -> u8 {
        let at = if self.family == Family::V4 { 8 } else { 7 };
        bytes.get(at).copied().unwrap_or_default()
    }

    /// Returns true if the IPv4 header's checksum is right; IPv6 has none, and that is right.
    #[inline(always)]
    #[must_use]
    pub fn header_checksum_ok(&self, bytes: &[u8]) -> bool {
        match self.family {
            Family::V4 => {
                let len = self.transport;
                match bytes.first_chunk() {
                    Some(header) if len == 20 => super::checksum::is_right(header),
                    _ => super::checksum::fold(super::checksum::sum(bytes.get(..len).unwrap_or_default(), 0)) == 0,
                }
            }
            Family::V6 => true,
        }
    }

    /// Returns true if the TCP, UDP, UDP-Lite, SCTP or ICMP checksum is right. Other protocols, fragments, and UDP
    /// without a checksum are.
    ///
    /// Of UDP-Lite, Linux sums UDP's number into the pseudo-header, and not its own (seen on 6.18): what RFC 3828 has for
    /// right is wrong to it, and so it is here.
    #[must_use]
    pub fn transport_checksum_ok(&self, bytes: &[u8]) -> bool {
        let transport = bytes.get(self.transport..self.end).unwrap_or_default();
        let pseudo = || super::checksum::pseudo_header(self.addresses(bytes), self.protocol.0, transport.len());
        let start = match self.protocol {
            _ if self.fragment.is_some() || self.layer4 == Layer4::Unreadable => return true,
            Protocol::UDP if transport.get(6..8) == Some(&[0, 0]) => return true,
            Protocol::TCP | Protocol::UDP | Protocol::ICMPV6 => pseudo(),
            Protocol::ICMP => 0,
            Protocol::SCTP => return sctp_checksum_ok(transport),
            Protocol::UDPLITE => {
                super::checksum::pseudo_header(self.addresses(bytes), Protocol::UDP.0, transport.len())
            }
            _ => return true,
        };
        let covered = if self.protocol == Protocol::UDPLITE { covered_by_udp_lite(transport) } else { transport };
        super::checksum::fold(super::checksum::sum(covered, start)) == 0
    }

    /// True if only the pseudo-header is summed in a TCP or UDP checksum: the sender is on this machine or its link, and a
    /// device is to fill in the rest. Linux takes such a checksum for right.
    #[cfg(feature = "alloc")]
    pub(crate) fn checksum_is_left_to_device(&self, bytes: &[u8]) -> bool {
        let transport = bytes.get(self.transport..self.end).unwrap_or_default();
        let at = match self.protocol {
            Protocol::TCP => 16,
            Protocol::UDP => 6,
            _ => return false,
        };
        let pseudo = super::checksum::pseudo_header(self.addresses(bytes), self.protocol.0, transport.len());
        // `fold` complements.
        read_array(transport, at).map(u16::from_be_bytes) == Some(!super::checksum::fold(pseudo))
    }

    /// Leaves the rest of a TCP or UDP checksum to a device.
    #[cfg(feature = "alloc")]
    pub(crate) fn sum_pseudo_header_only(&self, bytes: &mut [u8]) {
        let at = match self.protocol {
            Protocol::TCP => 16,
            Protocol::UDP => 6,
            _ => return,
        };
        let length = self.end.saturating_sub(self.transport);
        let pseudo = super::checksum::pseudo_header(self.addresses(bytes), self.protocol.0, length);
        if let Some(field) = bytes.get_mut(self.transport + at..self.transport + at + 2) {
            field.copy_from_slice(&(!super::checksum::fold(pseudo)).to_be_bytes());
        }
    }

    /// Returns true if it is an ICMP message that reports an error about the packet it quotes (RFC 792; RFC 4443
    /// section 2.1).
    #[inline]
    #[must_use]
    pub const fn is_icmp_error(&self) -> bool {
        match (self.protocol, self.layer4) {
            (Protocol::ICMP, Layer4::Icmp(icmp)) => matches!(icmp.kind, 3 | 4 | 5 | 11 | 12),
            (_, Layer4::Icmp(icmp)) => icmp.kind < 128,
            _ => false,
        }
    }

    /// Source and destination address as they stand in the header, one behind the other.
    pub(super) fn addresses<'p>(&self, bytes: &'p [u8]) -> &'p [u8] {
        let range = if self.family == Family::V4 { 12..20 } else { 8..40 };
        bytes.get(range).unwrap_or_default()
    }
}

/// The fields of the first IP header.
struct IpHeader {
    family: Family,
    protocol: Protocol,
    transport: usize,
    end: usize,
    /// IPv4: this is only a part of a packet.
    is_part: bool,
}

impl IpHeader {
    /// Whoever calls this has looked at the version.
    #[inline(always)]
    fn v4(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<20>().ok_or(Malformed::Header)?;
        let &[first, _, l0, l1, _, _, f0, f1, _, protocol, ..] = header;
        let transport = usize::from(first & 15) * 4;
        if transport < 20 || transport > bytes.len() {
            return Err(Malformed::Header);
        }
        let end = usize::from(u16::from_be_bytes([l0, l1]));
        if end < transport {
            return Err(Malformed::Length);
        }
        // An offset, or the bit that says that others follow (RFC 791 section 3.1).
        let is_part = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
        Ok(Self { family: Family::V4, protocol: Protocol(protocol), transport, end, is_part })
    }

    /// The same where Linux does not ask whether the header is as long as it has to be (seen on 6.18).
    fn v4_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first_chunk::<20>() {
            Some([first, _, _, _, _, _, flags, offset, _, protocol, ..]) if first & 15 < 5 => {
                // A part is found by nobody, whatever it is a part of.
                let is_part = u16::from_be_bytes([*flags, *offset]) & 0x3fff != 0;
                let transport = usize::from(first & 15) * 4;
                let header =
                    Self { family: Family::V4, protocol: Protocol(*protocol), transport, end: bytes.len(), is_part };
                if is_part { Err(Malformed::Header) } else { Ok(header) }
            }
            _ => Self::v4(bytes),
        }
    }

    #[inline(always)]
    fn v6(bytes: &[u8]) -> Result<Self, Malformed> {
        let ip = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| Malformed::Header)?;
        let transport = ip.slice().len();
        let end = transport + usize::from(ip.payload_length());
        Ok(Self { family: Family::V6, protocol: Protocol(ip.next_header().0), transport, end, is_part: false })
    }

    /// The headers after it.
    // Inlined into each family's branch, where nothing has to be asked about the family.
    #[inline(always)]
    fn locate(self, bytes: &[u8], must_be_whole: bool) -> Result<Headers, Malformed> {
        let Self { family, protocol, transport, end, is_part } = self;
        if must_be_whole && end > bytes.len() {
            return Err(Malformed::Length);
        }
        match self.plain(bytes) {
            Some(headers) => Ok(headers),
            None => Ok(Self::read_on(family, protocol, (transport, end), is_part, bytes)),
        }
    }

    /// If a segment of TCP stands behind it, and this is no part of a packet.
    #[inline(always)]
    fn plain(&self, bytes: &[u8]) -> Option<Headers> {
        let Self { family, protocol, transport, end, is_part } = *self;
        if protocol != Protocol::TCP || is_part {
            return None;
        }
        let layer4 = Layer4::Tcp(segment(bytes, transport, end)?);
        Some(Headers { family, protocol: Protocol::TCP, transport, end, fragment: None, layer4 })
    }

    /// The rest of the headers, whatever they are.
    // The fields of the first header come piece by piece, so that they need not be put together in memory for packets
    // that do not come here.
    #[inline(never)]
    fn read_on(
        family: Family,
        protocol: Protocol,
        (transport, end): (usize, usize),
        is_part: bool,
        bytes: &[u8],
    ) -> Headers {
        let Extensions { protocol, end: transport, fragment, is_cut } = match family {
            Family::V4 => {
                let fragment = if is_part { fragment_v4(bytes, transport) } else { None };
                Extensions { protocol, end: transport, fragment, is_cut: false }
            }
            Family::V6 => {
                let whole = bytes.get(..end.min(bytes.len())).unwrap_or_default();
                Extensions::step_over(whole, transport, protocol.0)
            }
        };
        let readable = bytes.get(transport..end.min(bytes.len())).unwrap_or_default();
        let layer4 = match protocol {
            _ if is_cut || fragment.is_some_and(|f| f.offset != 0) => Layer4::Unreadable,
            Protocol(NO_NEXT_HEADER) if family == Family::V6 => Layer4::Unreadable,
            Protocol::TCP => segment(bytes, transport, end).map_or(Layer4::Unreadable, Layer4::Tcp),
            Protocol::UDP | Protocol::UDPLITE if readable.len() >= 8 => Layer4::Udp,
            Protocol::SCTP if readable.len() >= 12 => Layer4::Sctp,
            Protocol::GRE => gre(readable).map_or(Layer4::Unreadable, Layer4::Gre),
            Protocol::ICMP | Protocol::ICMPV6 => icmp(readable).map_or(Layer4::Unreadable, Layer4::Icmp),
            Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => Layer4::Unreadable,
            _ => Layer4::Other,
        };
        Headers { family, protocol, transport, end, fragment, layer4 }
    }
}

fn fragment_v4(bytes: &[u8], header: usize) -> Option<Fragment> {
    let ip = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    Some(Fragment {
        identification: u32::from(ip.identification()),
        offset: usize::from(ip.fragments_offset().value()) * 8,
        more: ip.more_fragments(),
        header,
        body: header,
        named_at: 0,
    })
}

/// Nothing follows (RFC 8200 section 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// The extension headers of an IPv6 packet (RFC 8200 section 4).
struct Extensions {
    /// Protocol of the next header.
    protocol: Protocol,
    /// End of these headers.
    end: usize,
    fragment: Option<Fragment>,
    /// One of them is not all there.
    is_cut: bool,
}

impl Extensions {
    /// Steps over the extension headers from `at` on, as far as Linux does (`ipv6_skip_exthdr`): up to what it takes for
    /// a transport header, or to the fragment header of a part.
    fn step_over(bytes: &[u8], mut at: usize, mut next: u8) -> Self {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        let mut fragment = None;
        // Place where the header at hand is named: in the IPv6 header, or in the extension before it.
        let mut named_at = 6;
        while let HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION = next {
            let header: Option<[u8; 8]> = read_array(bytes, at);
            let Some([following, length, a, b, identification @ ..]) = header else {
                return Self { protocol: Protocol(next), end: at, fragment, is_cut: true };
            };
            let len = match next {
                FRAGMENT => 8,
                AUTHENTICATION => (usize::from(length) + 2) * 4,
                _ => (usize::from(length) + 1) * 8,
            };
            if at + len > bytes.len() {
                return Self { protocol: Protocol(next), end: at, fragment, is_cut: true };
            }
            if next == FRAGMENT {
                let field = u16::from_be_bytes([a, b]);
                let (offset, more) = (usize::from(field & !7), field & 1 != 0);
                if offset != 0 || more {
                    let identification = u32::from_be_bytes(identification);
                    fragment = Some(Fragment { identification, offset, more, header: at, body: at + len, named_at });
                }
            }
            named_at = at;
            (at, next) = (at + len, following);
            if fragment.is_some() {
                break;
            }
        }
        Self { protocol: Protocol(next), end: at, fragment, is_cut: false }
    }
}

/// The TCP header at `at` of a packet that ends at `end`; `None` unless it is all there.
#[inline]
fn segment(bytes: &[u8], at: usize, end: usize) -> Option<Segment> {
    let header = bytes.get(at..end.min(bytes.len()))?;
    let &[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = header.first_chunk::<20>()?;
    let len = usize::from(offset >> 4) * 4;
    (len >= 20 && len <= header.len()).then_some(Segment {
        sequence: SequenceNumber(u32::from_be_bytes([s0, s1, s2, s3])),
        acknowledgement: SequenceNumber(u32::from_be_bytes([a0, a1, a2, a3])),
        flags: TcpFlags(flags),
        window: u16::from_be_bytes([w0, w1]),
        payload: at + len,
    })
}

fn sctp_checksum_ok(packet: &[u8]) -> bool {
    read_array(packet, 8).map(u32::from_le_bytes) == Some(super::crc32c::of_sctp(packet))
}

/// Returns the part of a UDP-Lite packet that its checksum covers: as many bytes as the header says, or, if that is 0,
/// all.
fn covered_by_udp_lite(packet: &[u8]) -> &[u8] {
    match read_array(packet, 4).map_or(0, u16::from_be_bytes) {
        0 => packet,
        length => packet.get(..usize::from(length)).unwrap_or(packet),
    }
}

/// A GRE header. Of version 1 with anything but PPP inside, Linux makes nothing (seen on 6.18).
fn gre(transport: &[u8]) -> Option<GreHeader> {
    const PPP: [u8; 2] = [0x88, 0x0b];
    let &[_, flags, a, b, _, _, c, d, ..] = transport else { return Some(GreHeader { version: None, call: 0 }) };
    match flags & 7 {
        1 if [a, b] != PPP => None,
        1 => Some(GreHeader { version: Some(1), call: u16::from_be_bytes([c, d]) }),
        version => Some(GreHeader { version: Some(version), call: 0 }),
    }
}

fn icmp(transport: &[u8]) -> Option<IcmpHeader> {
    let &[kind, code, _, _, id0, id1, _, _, ..] = transport else { return None };
    Some(IcmpHeader { kind, code, identifier: u16::from_be_bytes([id0, id1]) })
}

/// The `N` bytes at `at`.
#[inline]
pub(crate) fn read_array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The options of a TCP header, one after the other: kind, where its value begins (from the first option), value.
///
/// Ends at the end-of-options marker, or, saying so once, where an option does not fit.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions<'p>(&'p [u8]);

impl<'p> TcpOptions<'p> {
    /// The options that stand in these bytes.
    #[must_use]
    pub const fn new(options: &'p [u8]) -> Self {
        Self(options)
    }

    /// Maximum segment size (RFC 9293 section 3.7.1).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323 section 2).
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgement permitted (RFC 2018 section 2).
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgement (RFC 2018 section 3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 section 3).
    pub const TIMESTAMPS: u8 = 8;

    /// The options with their places; `Err` once, at the end, when one does not fit.
    pub fn iter(self) -> impl Iterator<Item = Result<(u8, usize, &'p [u8]), BadOption>> {
        let options = self.0;
        let mut at = 0;
        core::iter::from_fn(move || {
            loop {
                let kind = *options.get(at)?;
                if kind == 0 {
                    at = options.len();
                    return None;
                }
                if kind == 1 {
                    at += 1;
                    continue;
                }
                let len = options.get(at + 1).map_or(0, |len| usize::from(*len));
                let value = if len < 2 { None } else { options.get(at + 2..at + len) };
                let begins = at + 2;
                at = if value.is_some() { at + len } else { options.len() };
                return Some(value.map(|v| (kind, begins, v)).ok_or(BadOption));
            }
        })
    }

    /// Returns true if there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// A TCP option whose length does not fit where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct BadOption;

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: [u8; 44] = [
        0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0xb5, 0xff, 10, 77, 1, 2, 198, 51, 100, 9, // IPv4
        0x9c, 0x40, 0, 21, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0x60, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, // TCP
        2, 4, 5, 0xb4, // MSS 1460
    ];

    #[test]
    fn finds_a_syn() {
        let h = Headers::find(&SYN).unwrap();
        assert_eq!((h.family, h.protocol, h.transport, h.end), (Family::V4, Protocol::TCP, 20, 44));
        assert_eq!(h.ports(&SYN), Some((40000, 21)));
        assert_eq!(h.source(&SYN), IpAddr::from([10, 77, 1, 2]));
        assert_eq!(h.destination(&SYN), IpAddr::from([198, 51, 100, 9]));
        let Layer4::Tcp(s) = h.layer4 else { panic!("{h:?}") };
        assert_eq!((s.sequence.0, s.flags.0, s.window, s.payload), (0x1234_5678, TcpFlags::SYN, 0xfaf0, 44));
        let options: alloc::vec::Vec<_> = h.tcp_options(&SYN).iter().collect();
        assert_eq!(options, [Ok((TcpOptions::MSS, 2, &[5, 0xb4][..]))]);
    }

    #[test]
    fn padding_is_not_the_packet() {
        let mut padded = [0; 60];
        padded[..44].copy_from_slice(&SYN);
        let h = Headers::find(&padded).unwrap();
        assert_eq!(h.end, 44);
        assert_eq!(h.payload(&padded), b"");
    }

    #[test]
    fn refuses_what_is_cut() {
        assert_eq!(Headers::find(&[]), Err(Malformed::Header));
        assert_eq!(Headers::find(&[0x15]), Err(Malformed::Version));
        assert_eq!(Headers::find(&SYN[..19]), Err(Malformed::Header));
        assert_eq!(Headers::find(&SYN[..43]), Err(Malformed::Length));
        assert_eq!(Headers::find_cut(&SYN[..28]).unwrap().layer4, Layer4::Unreadable);
        assert_eq!(Headers::find_cut(&SYN[..28]).unwrap().ports(&SYN[..28]), Some((40000, 21)));
        let mut short = SYN;
        short[3] = 10;
        assert_eq!(Headers::find(&short), Err(Malformed::Length));
    }

    #[test]
    fn an_ipv6_extension_is_stepped_over() {
        let mut bytes = [0; 40 + 8 + 20];
        bytes[0] = 0x60;
        bytes[5] = 28;
        bytes[6] = 0; // hop-by-hop
        bytes[40] = 6;
        bytes[40 + 8 + 3] = 21;
        bytes[40 + 8 + 12] = 0x50;
        let h = Headers::find(&bytes).unwrap();
        assert_eq!((h.protocol, h.transport, h.end), (Protocol::TCP, 48, 68));
        assert_eq!(h.ports(&bytes), Some((0, 21)));
    }

    /// An IPv6 header with this payload behind it.
    fn ipv6<const N: usize>(next: u8, payload: [u8; N]) -> alloc::vec::Vec<u8> {
        ipv6_of(next, &payload)
    }

    fn ipv6_of(next: u8, payload: &[u8]) -> alloc::vec::Vec<u8> {
        let mut bytes = alloc::vec![0; 40];
        bytes[0] = 0x60;
        bytes[5] = payload.len() as u8;
        bytes[6] = next;
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn extensions_that_a_fuzzer_cut_are_unreadable() {
        // Hop-by-hop, then destination options of 16 bytes of which none are there; and hop-by-hop twice.
        for payload in [[0x3c, 0, 1, 4, 0, 0, 0, 0], [0, 0, 1, 4, 0, 0, 0, 0]] {
            let headers = Headers::find(&ipv6(0, payload)).unwrap();
            assert_eq!((headers.transport, headers.layer4), (48, Layer4::Unreadable));
        }
        assert_eq!(Headers::find(&ipv6(60, [6, 9, 0, 0, 0, 0, 0, 0])).unwrap().layer4, Layer4::Unreadable);
        assert_eq!(Headers::find(&ipv6(60, [6])).unwrap().layer4, Layer4::Unreadable);
    }

    #[test]
    fn gre_has_pptps_call() {
        let gre = |bytes: &[u8]| match Headers::find(&ipv6_of(47, bytes)).unwrap().layer4 {
            Layer4::Gre(gre) => Some((gre.version, gre.call)),
            _ => None,
        };
        assert_eq!(gre(&[0x30, 1, 0x88, 0x0b, 0, 4, 0, 7]), Some((Some(1), 7)));
        assert_eq!(gre(&[0x20, 0, 8, 0, 0, 4, 0, 7]), Some((Some(0), 0)));
        assert_eq!(gre(&[0x30, 1, 0x88, 0x0b, 0, 4, 0]), Some((None, 0)));
        assert_eq!(gre(&[0x30, 1, 8, 0, 0, 4, 0, 7]), None);
    }

    #[test]
    fn udp_lite_is_summed_as_linux_sums_it() {
        // Port 1000 > 53, the header covered: right for Linux (seen on 6.18), and as RFC 3828 has it.
        let packet = |sum: [u8; 2]| {
            let mut bytes = alloc::vec![0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, 136, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9];
            bytes.extend([0x03, 0xe8, 0, 53, 0, 8, sum[0], sum[1]]);
            bytes.extend(b"abcdefgh");
            bytes
        };
        for (sum, is_right) in [([0xc6, 0x2d], true), ([0xc5, 0xb6], false)] {
            let bytes = packet(sum);
            assert_eq!(Headers::find(&bytes).unwrap().transport_checksum_ok(&bytes), is_right);
        }
    }

    #[test]
    fn a_quoted_header_may_be_too_short() {
        // 16 bytes by its own word: what follows them is no GRE of a version that anybody has.
        let quoted =
            [0x44, 0, 0, 26, 0x48, 0x85, 0x40, 0, 63, 47, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, 0x30, 1, 8, 0, 0, 4];
        let headers = Headers::find_quoted(&quoted, Family::V4).unwrap();
        assert_eq!((headers.protocol, headers.transport), (Protocol::GRE, 16));
        assert_eq!(headers.layer4, Layer4::Gre(GreHeader { version: Some(3), call: 0 }));
        assert_eq!(Headers::find_quoted(&quoted[..19], Family::V4), Err(Malformed::Header));
        assert_eq!(Headers::find(&quoted), Err(Malformed::Header));
    }

    #[test]
    fn sctp_keeps_a_right_checksum() {
        let mut bytes = alloc::vec![0x45, 0, 0, 52, 0, 1, 0x40, 0, 64, 132, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9];
        // As it left a Linux router from port 5007.
        bytes.extend([0x13, 0x8f, 0, 0x63, 0, 0, 0, 0, 0x8b, 0x48, 0x34, 0x1f, 1, 0, 0, 0x14, 0x11, 0x11, 0x11, 0x11]);
        bytes.extend([0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 7]);
        let headers = Headers::find(&bytes).unwrap();
        assert_eq!((headers.layer4, headers.ports(&bytes)), (Layer4::Sctp, Some((5007, 99))));
        assert!(headers.transport_checksum_ok(&bytes));
        let right = bytes.clone();
        bytes[28] ^= 1;
        assert!(!headers.transport_checksum_ok(&bytes));
        headers.set_endpoint(&mut bytes, Side::Source, [203, 0, 113, 1].into(), 1003);
        assert!(headers.transport_checksum_ok(&bytes));
        headers.set_endpoint(&mut bytes, Side::Source, [10, 77, 1, 2].into(), 5007);
        assert_eq!(bytes[20..], right[20..]);
    }

    #[test]
    fn an_ipv6_fragment_is_known() {
        let headers = Headers::find(&ipv6(44, [17, 0, 0, 0x19, 1, 2, 3, 4, 0, 53, 0, 53, 0, 8, 0, 0])).unwrap();
        let fragment =
            Fragment { identification: 0x0102_0304, offset: 24, more: true, header: 40, body: 48, named_at: 6 };
        assert_eq!((headers.protocol, headers.fragment), (Protocol::UDP, Some(fragment)));
        assert_eq!(headers.layer4, Layer4::Unreadable);
        // A fragment header that says neither more nor where is none ("atomic", RFC 6946).
        let atomic = Headers::find(&ipv6(44, [17, 0, 0, 0, 1, 2, 3, 4, 0, 53, 0, 53, 0, 8, 0, 0])).unwrap();
        assert_eq!((atomic.fragment, atomic.layer4, atomic.transport), (None, Layer4::Udp, 48));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut part = SYN;
        part[6] = 0;
        part[7] = 5;
        let h = Headers::find(&part).unwrap();
        assert_eq!(
            h.fragment,
            Some(Fragment { identification: 1, offset: 40, more: false, header: 20, body: 20, named_at: 0 })
        );
        assert_eq!(h.ports(&part), None);
        assert_eq!(h.layer4, Layer4::Unreadable);
    }

    #[test]
    fn a_bad_option_is_said_once() {
        let options = TcpOptions(&[1, 3, 3, 7, 5, 40, 0]);
        let read: alloc::vec::Vec<_> = options.iter().collect();
        assert_eq!(read, [Ok((3, 3, &[7][..])), Err(BadOption)]);
        assert_eq!(TcpOptions(&[0, 5]).iter().count(), 0);
        assert_eq!(TcpOptions(&[5, 1]).iter().count(), 1);
    }

    #[test]
    fn never_panics() {
        let mut bytes = SYN;
        for i in 0..bytes.len() {
            for value in 0..=255 {
                let old = core::mem::replace(&mut bytes[i], value);
                for len in [bytes.len(), i, 20] {
                    if let Ok(h) = Headers::find_cut(&bytes[..len]) {
                        let _ =
                            (h.ports(&bytes[..len]), h.payload(&bytes[..len]), h.transport_checksum_ok(&bytes[..len]));
                    }
                }
                bytes[i] = old;
            }
        }
    }
}
