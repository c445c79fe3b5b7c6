//! Link layers: where the network packet begins in a captured frame.
//!
//! ```
//! use ftp_conntrack::packet::Family;
//! use ftp_conntrack::packet::link::{LinkType, find_network};
//!
//! // Ethernet with one 802.1Q tag, then the first bytes of an IPv6 header.
//! let frame = [
//!     2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, // addresses
//!     0x81, 0x00, 0x00, 0x05, 0x86, 0xdd, // tag, EtherType
//!     0x60, 0, 0, 0,
//! ];
//! let payload = find_network(LinkType::ETHERNET, &frame).unwrap();
//! assert_eq!(payload.family, Some(Family::V6));
//! assert_eq!(payload.offset, 18);
//! ```

use core::fmt;

use super::Family;

/// EtherType of IPv4 (IEEE 802 numbers, as all below).
const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
const SERVICE_VLAN: u16 = 0x88a8;
/// The number that switches used for an outer tag before 802.1ad.
const OLD_SERVICE_VLAN: u16 = 0x9100;
/// EtherType of a VN-Tag, which port extenders set (IEEE 802.1BR's forerunner): four bytes, then an EtherType.
const VN_TAG: u16 = 0x8926;
/// EtherType of unicast MPLS (RFC 3032 section 5).
const MPLS: u16 = 0x8847;
/// EtherType of MPLS with upstream-assigned labels (RFC 5332).
const MPLS_UPSTREAM: u16 = 0x8848;
/// EtherType of a PPPoE session (RFC 2516 section 4).
const PPPOE_SESSION: u16 = 0x8864;
/// EtherType of PPP (RFC 3772 section 5).
const PPP: u16 = 0x880b;
/// The smallest EtherType; below it the field is the length of an 802.3 frame, LLC follows.
const SMALLEST_ETHER_TYPE: u16 = 0x0600;
/// Protocol of a cooked frame in which an 802.2 LLC header follows (`ETH_P_802_2`).
const COOKED_LLC: u16 = 0x0004;

/// Maximum number of tags, MPLS labels and encapsulations before [`LinkError::TooDeep`].
pub const MAX_DEPTH: usize = 8;

/// A link type, by its `LINKTYPE_` number in captures (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: four bytes of address family in the capturing machine's byte order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without address and control.
    pub const PPP: Self = Self(9);
    /// Bare IP, as some systems wrongly number it in files (their `DLT_RAW`).
    pub const RAW_12: Self = Self(12);
    /// Bare IP, as OpenBSD wrongly numbers it in files (its `DLT_RAW`).
    pub const RAW_14: Self = Self(14);
    /// PPP in HDLC-like framing (RFC 1662), or Cisco HDLC (RFC 1547 section 4.3.1).
    pub const PPP_HDLC: Self = Self(50);
    /// PPPoE without the Ethernet header.
    pub const PPP_ETHER: Self = Self(51);
    /// Bare IP, IPv4 or IPv6 as the first nibble says.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: four bytes of address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// Bare IPv4.
    pub const IPV4: Self = Self(228);
    /// Bare IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux netfilter log messages.
    pub const NFLOG: Self = Self(239);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// The name after `LINKTYPE_`; `None` for a number without a name here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "NULL",
            1 => "ETHERNET",
            6 => "IEEE802_5",
            8 => "SLIP",
            9 => "PPP",
            10 => "FDDI",
            50 => "PPP_HDLC",
            51 => "PPP_ETHER",
            100 => "ATM_RFC1483",
            12 | 14 | 101 => "RAW",
            104 => "C_HDLC",
            105 => "IEEE802_11",
            106 => "ATM_CLIP",
            107 => "FRELAY",
            108 => "LOOP",
            113 => "LINUX_SLL",
            117 => "PFLOG",
            119 => "IEEE802_11_PRISM",
            127 => "IEEE802_11_RADIOTAP",
            143 => "DOCSIS",
            166 => "PPP_PPPD",
            187 => "BLUETOOTH_HCI_H4",
            189 => "USB_LINUX",
            192 => "PPI",
            195 => "IEEE802_15_4_WITHFCS",
            197 => "ERF",
            220 => "USB_LINUX_MMAPPED",
            228 => "IPV4",
            229 => "IPV6",
            239 => "NFLOG",
            249 => "USBPCAP",
            253 => "NETLINK",
            258 => "PKTAP",
            276 => "LINUX_SLL2",
            _ => return None,
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "LINKTYPE {}", self.0),
        }
    }
}

/// The network packet of a frame, and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Payload {
    /// Bytes before the network packet; never more than the frame has.
    pub offset: usize,
    /// The family that the link layer announces. `None`: not IP (ARP, LLDP, PPP negotiation, ...). Whether the packet
    /// at `offset` is a good one is not looked at.
    pub family: Option<Family>,
    /// The innermost EtherType. For IP always 0x0800 or 0x86dd, whatever the link layer calls it; below 0x0600 it is
    /// no EtherType (802.3 with a length); 0 where the link layer has none.
    pub ether_type: u16,
    /// Fields of a Linux cooked capture.
    pub cooked: Option<Cooked>,
}

impl Payload {
    /// An IP packet of `family` at `offset`.
    const fn ip(family: Family, offset: usize) -> Self {
        let ether_type = match family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        };
        Self { offset, family: Some(family), ether_type, cooked: None }
    }

    /// Something that is not IP at `offset`.
    const fn other(ether_type: u16, offset: usize) -> Self {
        Self { offset, family: None, ether_type, cooked: None }
    }
}

/// The fields that Linux notes of a frame in a cooked capture (`tcpdump -i any`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cooked {
    /// The interface's index on the machine that captured; version 2 only.
    pub interface: Option<u32>,
    /// Type of the packet.
    pub packet_type: PacketType,
}

/// The relation of a frame to the machine that captured it; Linux' `PACKET_` numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PacketType {
    /// Sent to this machine (0).
    Host,
    /// Broadcast by another machine (1).
    Broadcast,
    /// Multicast by another machine (2).
    Multicast,
    /// Sent by another machine to another machine (3).
    OtherHost,
    /// Sent by this machine (4).
    Outgoing,
    /// Any other number.
    Other(u16),
}

impl From<u16> for PacketType {
    fn from(number: u16) -> Self {
        match number {
            0 => Self::Host,
            1 => Self::Broadcast,
            2 => Self::Multicast,
            3 => Self::OtherHost,
            4 => Self::Outgoing,
            other => Self::Other(other),
        }
    }
}

/// The reason why no network packet was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The frame ends inside its link layer.
    Truncated,
    /// More than [`MAX_DEPTH`] tags, labels and encapsulations.
    TooDeep,
    /// A link type that is not understood.
    Unsupported(LinkType),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the frame ends inside its link layer"),
            Self::TooDeep => write!(f, "more than {MAX_DEPTH} tags or labels"),
            Self::Unsupported(link) => write!(f, "link type {link} is not understood"),
        }
    }
}

impl core::error::Error for LinkError {}

/// Finds the network packet in `frame`, which was captured on a link of type `link`.
///
/// Follows 802.1Q, 802.1ad and 0x9100 tags, VN-Tags, MPLS labels (the nibble after the last one tells the family, as routers
/// guess it), PPPoE sessions and SNAP headers.
///
/// # Errors
///
/// [`LinkError::Truncated`] when the frame ends before its network packet begins, [`LinkError::TooDeep`] after more
/// than [`MAX_DEPTH`] tags and labels, [`LinkError::Unsupported`] for other link types.
pub fn find_network(link: LinkType, frame: &[u8]) -> Result<Payload, LinkError> {
    match link {
        LinkType::ETHERNET => ethernet(frame),
        LinkType::NULL => loopback(frame, null_family),
        LinkType::LOOP => loopback(frame, u32::from_be_bytes),
        LinkType::RAW | LinkType::RAW_12 | LinkType::RAW_14 => by_nibble(frame, 0, 0),
        LinkType::IPV4 => Ok(Payload::ip(Family::V4, 0)),
        LinkType::IPV6 => Ok(Payload::ip(Family::V6, 0)),
        LinkType::PPP | LinkType::PPP_HDLC => hdlc(frame),
        LinkType::PPP_ETHER => pppoe(frame, 0, MAX_DEPTH),
        LinkType::LINUX_SLL => cooked_v1(frame),
        LinkType::LINUX_SLL2 => cooked_v2(frame),
        LinkType::NFLOG => netfilter_log(frame),
        other => Err(LinkError::Unsupported(other)),
    }
}

/// The `N` bytes at `at`.
fn bytes<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], LinkError> {
    frame.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(LinkError::Truncated)
}

/// The big-endian number at `at`.
fn number(frame: &[u8], at: usize) -> Result<u16, LinkError> {
    bytes(frame, at).map(u16::from_be_bytes)
}

/// Returns the destination's and the source's address of an Ethernet frame; `None` if it is shorter than these.
#[cfg(all(feature = "capture", feature = "config"))]
pub(crate) fn ethernet_addresses(frame: &[u8]) -> Option<[[u8; 6]; 2]> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    let (from, _) = rest.split_first_chunk::<6>()?;
    Some([*to, *from])
}

/// Returns the sender's address of a frame whose link type shows it, if it has six bytes.
#[cfg(all(feature = "capture", feature = "config"))]
pub(crate) fn sender_address(link_type: LinkType, frame: &[u8]) -> Option<[u8; 6]> {
    let (length_at, address_at) = match link_type {
        LinkType::ETHERNET => return ethernet_addresses(frame).map(|[_, from]| from),
        LinkType::LINUX_SLL => (5, 6),
        LinkType::LINUX_SLL2 => (11, 12),
        _ => return None,
    };
    let address = frame.get(address_at..address_at + 6)?;
    if *frame.get(length_at)? == 6 { address.try_into().ok() } else { None }
}

fn ethernet(frame: &[u8]) -> Result<Payload, LinkError> {
    after_ether_type(frame, 12, MAX_DEPTH)
}

/// Reads the header that the EtherType at `at` announces.
fn after_ether_type(frame: &[u8], at: usize, depth: usize) -> Result<Payload, LinkError> {
    announced(number(frame, at)?, frame, at + 2, depth)
}

/// Reads the header that `ether_type` announces at `at`; follows at most `depth` further headers.
pub(super) fn announced(ether_type: u16, frame: &[u8], at: usize, depth: usize) -> Result<Payload, LinkError> {
    match ether_type {
        IPV4 => Ok(Payload::ip(Family::V4, at)),
        IPV6 => Ok(Payload::ip(Family::V6, at)),
        VLAN | SERVICE_VLAN | OLD_SERVICE_VLAN => after_ether_type(frame, at + 2, deeper(depth)?),
        VN_TAG => after_ether_type(frame, at + 4, deeper(depth)?),
        MPLS | MPLS_UPSTREAM => mpls(frame, at, ether_type, depth),
        PPPOE_SESSION => pppoe(frame, at, deeper(depth)?),
        0..SMALLEST_ETHER_TYPE => llc(frame, at, ether_type, depth),
        other => Ok(Payload::other(other, at)),
    }
}

fn deeper(depth: usize) -> Result<usize, LinkError> {
    depth.checked_sub(1).ok_or(LinkError::TooDeep)
}

/// An 802.2 header, if it is SNAP with the organisation code 0, holds an EtherType (RFC 1042).
fn llc(frame: &[u8], at: usize, length: u16, depth: usize) -> Result<Payload, LinkError> {
    match bytes(frame, at) {
        Ok([0xaa, 0xaa, 3, 0, 0, 0]) => after_ether_type(frame, at + 6, deeper(depth)?),
        _ => Ok(Payload::other(length, at)),
    }
}

/// A stack of MPLS labels (RFC 3032 section 2.1); no label tells what follows the last, so the first nibble must.
fn mpls(frame: &[u8], mut at: usize, ether_type: u16, mut depth: usize) -> Result<Payload, LinkError> {
    loop {
        depth = deeper(depth)?;
        let [_, _, class_and_bottom, _] = bytes(frame, at)?;
        at += 4;
        if class_and_bottom & 1 != 0 {
            return by_nibble(frame, at, ether_type);
        }
    }
}

/// IPv4 or IPv6 as the first nibble says, else something of `ether_type`.
fn by_nibble(frame: &[u8], at: usize, ether_type: u16) -> Result<Payload, LinkError> {
    let [first] = bytes(frame, at)?;
    Ok(match first >> 4 {
        4 => Payload::ip(Family::V4, at),
        6 => Payload::ip(Family::V6, at),
        _ => Payload::other(ether_type, at),
    })
}

/// A PPPoE session header (RFC 2516 section 4): version and type, code, session, length, then PPP.
fn pppoe(frame: &[u8], at: usize, depth: usize) -> Result<Payload, LinkError> {
    let [_, code, _, _, _, _] = bytes(frame, at)?;
    match code {
        0 => ppp(frame, at + 6, PPPOE_SESSION, depth),
        _ => Ok(Payload::other(PPPOE_SESSION, at)),
    }
}

/// PPP by itself: the address 0xff and the control 3 may have been negotiated away (RFC 1661 section 6.6). Cisco HDLC
/// has another address, a zero control and an EtherType.
fn hdlc(frame: &[u8]) -> Result<Payload, LinkError> {
    match bytes(frame, 0) {
        Ok([0xff, 3]) => ppp(frame, 2, PPP, MAX_DEPTH),
        Ok([0x0f | 0x8f, 0]) => after_ether_type(frame, 2, MAX_DEPTH),
        _ => ppp(frame, 0, PPP, MAX_DEPTH),
    }
}

/// A PPP protocol number and what it announces. One byte when odd, as RFC 1661 section 6.5 allows.
fn ppp(frame: &[u8], at: usize, ether_type: u16, depth: usize) -> Result<Payload, LinkError> {
    let [first] = bytes(frame, at)?;
    let (protocol, at) = if first & 1 == 1 { (u16::from(first), at + 1) } else { (number(frame, at)?, at + 2) };
    match protocol {
        0x0021 => Ok(Payload::ip(Family::V4, at)),
        0x0057 => Ok(Payload::ip(Family::V6, at)),
        0x0281 => mpls(frame, at, MPLS, depth),
        0x0283 => mpls(frame, at, MPLS_UPSTREAM, depth),
        _ => Ok(Payload::other(ether_type, at)),
    }
}

/// Four bytes of address family, then the packet.
fn loopback(frame: &[u8], read: fn([u8; 4]) -> u32) -> Result<Payload, LinkError> {
    let family = read(bytes(frame, 0)?);
    Ok(match family {
        2 => Payload::ip(Family::V4, 4),
        // AF_INET6 on Linux, Windows, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 23 | 24 | 28 | 30 => Payload::ip(Family::V6, 4),
        _ => Payload::other(0, 4),
    })
}

/// The family in the byte order of the machine that captured, which the file does not tell: families are small, so
/// the order that gives a small number is the right one.
fn null_family(word: [u8; 4]) -> u32 {
    u32::from_le_bytes(word).min(u32::from_be_bytes(word))
}

/// Packet type, ARPHRD type, address length, eight bytes of address, protocol.
fn cooked_v1(frame: &[u8]) -> Result<Payload, LinkError> {
    let packet_type = number(frame, 0)?.into();
    let hardware = number(frame, 2)?;
    let protocol = number(frame, 14)?;
    let cooked = Cooked { interface: None, packet_type };
    cooked_payload(frame, 16, hardware, protocol, cooked)
}

/// Protocol, two reserved bytes, interface index, ARPHRD type, packet type, address length, eight bytes of address.
fn cooked_v2(frame: &[u8]) -> Result<Payload, LinkError> {
    let header: [u8; 20] = bytes(frame, 0)?;
    let protocol = number(&header, 0)?;
    let interface = u32::from_be_bytes(bytes(&header, 4)?);
    let hardware = number(&header, 8)?;
    let [packet_type] = bytes(&header, 10)?;
    let cooked = Cooked { interface: Some(interface), packet_type: u16::from(packet_type).into() };
    cooked_payload(frame, 20, hardware, protocol, cooked)
}

/// Reads the header that `protocol` announces after a cooked header.
fn cooked_payload(frame: &[u8], at: usize, hardware: u16, protocol: u16, cooked: Cooked) -> Result<Payload, LinkError> {
    let payload = match (hardware, protocol) {
        // ARPHRD_FRAD, the three of IEEE 802.11, ARPHRD_NETLINK: the protocol is no EtherType.
        (770 | 801..=803 | 824, _) => Payload::other(0, at),
        (_, COOKED_LLC) => llc(frame, at, COOKED_LLC, MAX_DEPTH)?,
        // Other small numbers are Linux' own (`ETH_P_ALL` and the like), with no LLC header to look for.
        (_, 0..SMALLEST_ETHER_TYPE) => Payload::other(protocol, at),
        _ => announced(protocol, frame, at, MAX_DEPTH)?,
    };
    Ok(Payload { cooked: Some(cooked), ..payload })
}

/// The attribute that holds the packet (`NFULA_PAYLOAD`).
const NFLOG_PAYLOAD: u16 = 9;

/// Family, version, resource, then attributes: length (with its four bytes of header) and type, padded to four bytes,
/// in the byte order of the machine that captured.
fn netfilter_log(frame: &[u8]) -> Result<Payload, LinkError> {
    let [family, version, _, _] = bytes(frame, 0)?;
    let mut at = 4;
    // Versions other than 0 have no known layout.
    while version == 0 && at < frame.len() {
        let [l0, l1, t0, t1] = bytes(frame, at)?;
        let (length, kind) = attribute([l0, l1], [t0, t1]);
        if kind == NFLOG_PAYLOAD {
            return Ok(match family {
                2 => Payload::ip(Family::V4, at + 4),
                10 => Payload::ip(Family::V6, at + 4),
                _ => Payload::other(0, at + 4),
            });
        }
        // A length below the header's would not advance.
        at += usize::from(length.max(4)).next_multiple_of(4);
    }
    Ok(Payload::other(0, at.min(frame.len())))
}

/// Length and type of a netfilter attribute. Types are below 256, which tells the byte order.
fn attribute(length: [u8; 2], kind: [u8; 2]) -> (u16, u16) {
    match kind {
        [0, _] if kind != [0, 0] => (u16::from_be_bytes(length), u16::from_be_bytes(kind)),
        _ => (u16::from_le_bytes(length), u16::from_le_bytes(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn on_ethernet(rest: &[u8]) -> Result<Payload, LinkError> {
        let frame: Vec<u8> = ADDRESSES.iter().chain(rest).copied().collect();
        find_network(LinkType::ETHERNET, &frame)
    }

    fn ipv4(offset: usize) -> Result<Payload, LinkError> {
        Ok(Payload { offset, family: Some(Family::V4), ether_type: 0x0800, cooked: None })
    }

    fn ipv6(offset: usize) -> Result<Payload, LinkError> {
        Ok(Payload { offset, family: Some(Family::V6), ether_type: 0x86dd, cooked: None })
    }

    fn not_ip(offset: usize, ether_type: u16) -> Result<Payload, LinkError> {
        Ok(Payload { offset, family: None, ether_type, cooked: None })
    }

    #[test]
    fn ethernet_plain() {
        assert_eq!(on_ethernet(&[8, 0, 0x45]), ipv4(14));
        assert_eq!(on_ethernet(&[0x86, 0xdd, 0x60]), ipv6(14));
        assert_eq!(on_ethernet(&[8, 6, 0, 1]), not_ip(14, 0x0806));
        assert_eq!(on_ethernet(&[0x88, 0xcc, 2, 7]), not_ip(14, 0x88cc));
        assert_eq!(on_ethernet(&[8, 0]), ipv4(14));
        assert_eq!(on_ethernet(&[8]), Err(LinkError::Truncated));
        assert_eq!(find_network(LinkType::ETHERNET, &[]), Err(LinkError::Truncated));
    }

    #[test]
    fn ethernet_tags() {
        assert_eq!(on_ethernet(&[0x81, 0, 0, 5, 8, 0]), ipv4(18));
        assert_eq!(on_ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd]), ipv6(22));
        assert_eq!(on_ethernet(&[0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0]), ipv4(22));
        assert_eq!(on_ethernet(&[0x81, 0, 0, 5, 8, 6]), not_ip(18, 0x0806));
        assert_eq!(on_ethernet(&[0x89, 0x26, 0, 0, 0, 1, 0x81, 0, 0, 5, 8, 0]), ipv4(24));
        assert_eq!(on_ethernet(&[0x81, 0, 0, 5, 8]), Err(LinkError::Truncated));
        assert_eq!(on_ethernet(&[0x81, 0]), Err(LinkError::Truncated));
    }

    #[test]
    fn ethernet_tags_are_bounded() {
        let mut rest = [0x81, 0, 0, 5].repeat(MAX_DEPTH);
        rest.extend([8, 0]);
        assert_eq!(on_ethernet(&rest), ipv4(14 + 4 * MAX_DEPTH));
        rest.splice(0..0, [0x81, 0, 0, 4]);
        assert_eq!(on_ethernet(&rest), Err(LinkError::TooDeep));
    }

    #[test]
    fn mpls_nibble_tells_the_family() {
        assert_eq!(on_ethernet(&[0x88, 0x47, 0, 1, 0x01, 64, 0x45]), ipv4(18));
        assert_eq!(on_ethernet(&[0x88, 0x48, 0, 1, 0x00, 64, 0, 2, 0x01, 64, 0x60]), ipv6(22));
        // A pseudowire's control word begins with 0.
        assert_eq!(on_ethernet(&[0x88, 0x47, 0, 1, 0x01, 64, 0]), not_ip(18, 0x8847));
        assert_eq!(on_ethernet(&[0x81, 0, 0, 5, 0x88, 0x47, 0, 1, 0x01, 64, 0x45]), ipv4(22));
        assert_eq!(on_ethernet(&[0x88, 0x47, 0, 1, 0x01, 64]), Err(LinkError::Truncated));
        assert_eq!(on_ethernet(&[0x88, 0x47, 0, 1, 0x00, 64, 0x45]), Err(LinkError::Truncated));
        let mut stack = Vec::from([0x88, 0x47]);
        stack.extend([0, 1, 0, 64].repeat(MAX_DEPTH + 1));
        assert_eq!(on_ethernet(&stack), Err(LinkError::TooDeep));
    }

    #[test]
    fn pppoe_session() {
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0, 22, 0, 0x21, 0x45]), ipv4(22));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0, 42, 0, 0x57, 0x60]), ipv6(22));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0, 21, 0x21, 0x45]), ipv4(21));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0, 6, 0xc0, 0x21]), not_ip(22, 0x8864));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0xa7, 0, 7, 0, 0]), not_ip(14, 0x8864));
        assert_eq!(on_ethernet(&[0x88, 0x63, 0x11, 9, 0, 0, 0, 0]), not_ip(14, 0x8863));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0]), Err(LinkError::Truncated));
        assert_eq!(on_ethernet(&[0x88, 0x64, 0x11, 0, 0, 7, 0, 2, 0]), Err(LinkError::Truncated));
        assert_eq!(find_network(LinkType::PPP_ETHER, &[0x11, 0, 0, 7, 0, 22, 0, 0x21, 0x45]), ipv4(8));
    }

    #[test]
    fn llc_and_snap() {
        assert_eq!(on_ethernet(&[0, 28, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45]), ipv4(22));
        assert_eq!(on_ethernet(&[0, 38, 0x42, 0x42, 3, 0, 0, 0]), not_ip(14, 38));
        assert_eq!(on_ethernet(&[0, 0]), not_ip(14, 0));
        // Another organisation's numbers are not EtherTypes.
        assert_eq!(on_ethernet(&[0, 28, 0xaa, 0xaa, 3, 0, 0, 0x0c, 8, 0]), not_ip(14, 28));
    }

    #[test]
    fn bare_ip() {
        for link in [LinkType::RAW, LinkType(12), LinkType(14)] {
            assert_eq!(find_network(link, &[0x45, 0]), ipv4(0));
            assert_eq!(find_network(link, &[0x60, 0]), ipv6(0));
            assert_eq!(find_network(link, &[0x10]), not_ip(0, 0));
            assert_eq!(find_network(link, &[]), Err(LinkError::Truncated));
        }
        assert_eq!(find_network(LinkType::IPV4, &[0x45]), ipv4(0));
        assert_eq!(find_network(LinkType::IPV6, &[0x60]), ipv6(0));
    }

    #[test]
    fn loopback_in_either_order() {
        assert_eq!(find_network(LinkType::NULL, &[2, 0, 0, 0, 0x45]), ipv4(4));
        assert_eq!(find_network(LinkType::NULL, &[0, 0, 0, 2, 0x45]), ipv4(4));
        for family in [10, 23, 24, 28, 30] {
            assert_eq!(find_network(LinkType::NULL, &[family, 0, 0, 0, 0x60]), ipv6(4));
            assert_eq!(find_network(LinkType::LOOP, &[0, 0, 0, family, 0x60]), ipv6(4));
        }
        assert_eq!(find_network(LinkType::LOOP, &[2, 0, 0, 0, 0x45]), not_ip(4, 0));
        assert_eq!(find_network(LinkType::NULL, &[7, 0, 0, 0]), not_ip(4, 0));
        assert_eq!(find_network(LinkType::NULL, &[2, 0, 0]), Err(LinkError::Truncated));
    }

    #[test]
    fn ppp_with_and_without_address() {
        assert_eq!(find_network(LinkType::PPP, &[0xff, 3, 0, 0x21, 0x45]), ipv4(4));
        assert_eq!(find_network(LinkType::PPP, &[0, 0x57, 0x60]), ipv6(2));
        assert_eq!(find_network(LinkType::PPP, &[0xff, 3, 0x21, 0x45]), ipv4(3));
        assert_eq!(find_network(LinkType::PPP, &[0x21, 0x45]), ipv4(1));
        assert_eq!(find_network(LinkType::PPP, &[0xff, 3, 2, 0x81, 0, 1, 1, 64, 0x60]), ipv6(8));
        assert_eq!(find_network(LinkType::PPP, &[0xff, 3, 0xc0, 0x21]), not_ip(4, 0x880b));
        assert_eq!(find_network(LinkType::PPP_HDLC, &[0x0f, 0, 8, 0, 0x45]), ipv4(4));
        assert_eq!(find_network(LinkType::PPP, &[0xff, 3]), Err(LinkError::Truncated));
        assert_eq!(find_network(LinkType::PPP, &[0]), Err(LinkError::Truncated));
    }

    #[test]
    fn cooked_version_1() {
        let frame = [0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0, 0x45];
        let cooked = Some(Cooked { interface: None, packet_type: PacketType::Outgoing });
        assert_eq!(find_network(LinkType::LINUX_SLL, &frame), ipv4(16).map(|payload| Payload { cooked, ..payload }));
        assert_eq!(find_network(LinkType::LINUX_SLL, &frame[..15]), Err(LinkError::Truncated));

        let tagged = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0, 0, 5, 0x86, 0xdd];
        let cooked = Some(Cooked { interface: None, packet_type: PacketType::Host });
        assert_eq!(find_network(LinkType::LINUX_SLL, &tagged), ipv6(20).map(|payload| Payload { cooked, ..payload }));
    }

    #[test]
    fn cooked_version_2() {
        let mut frame = [0x86, 0xdd, 0, 0, 0, 0, 1, 2, 0, 1, 3, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x60];
        let cooked = Some(Cooked { interface: Some(258), packet_type: PacketType::OtherHost });
        assert_eq!(find_network(LinkType::LINUX_SLL2, &frame), ipv6(20).map(|payload| Payload { cooked, ..payload }));
        assert_eq!(find_network(LinkType::LINUX_SLL2, &frame[..19]), Err(LinkError::Truncated));

        // From a netlink socket (ARPHRD 824) the number is no EtherType.
        frame[8..10].copy_from_slice(&824_u16.to_be_bytes());
        let payload = find_network(LinkType::LINUX_SLL2, &frame);
        assert_eq!(payload, not_ip(20, 0).map(|payload| Payload { cooked, ..payload }));
    }

    #[test]
    fn packet_types() {
        assert_eq!(PacketType::from(1), PacketType::Broadcast);
        assert_eq!(PacketType::from(2), PacketType::Multicast);
        assert_eq!(PacketType::from(7), PacketType::Other(7));
    }

    #[test]
    fn netfilter_log_in_either_order() {
        // A hook attribute of 5 bytes with its padding, then the packet.
        let little = [2, 0, 0, 0, 5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 9, 0, 0x45, 0, 0, 0];
        let big = [10, 0, 0, 0, 0, 5, 0, 1, 9, 0, 0, 0, 0, 8, 0, 9, 0x60, 0, 0, 0];
        assert_eq!(find_network(LinkType::NFLOG, &little), ipv4(16));
        assert_eq!(find_network(LinkType::NFLOG, &big), ipv6(16));
        assert_eq!(find_network(LinkType::NFLOG, &little[..12]), not_ip(12, 0));
        assert_eq!(find_network(LinkType::NFLOG, &little[..14]), Err(LinkError::Truncated));
        assert_eq!(find_network(LinkType::NFLOG, &[2, 0, 0, 0, 0, 0, 0, 0]), not_ip(8, 0));
        // An attribute whose length leaves out its own header.
        assert_eq!(find_network(LinkType::NFLOG, &[2, 0, 0, 0, 0, 0, 1, 0, 8, 0, 9, 0, 0x45]), ipv4(12));
    }

    #[test]
    fn other_link_types_are_named() {
        let error = find_network(LinkType(105), &[0; 40]).unwrap_err();
        assert_eq!(error, LinkError::Unsupported(LinkType(105)));
        assert_eq!(error.to_string(), "link type IEEE802_11 is not understood");
        assert_eq!(LinkType(9999).to_string(), "LINKTYPE 9999");
        assert_eq!(LinkType(12).to_string(), "RAW");
    }

    proptest! {
        #[test]
        fn any_bytes_stay_inside_the_frame(link in 0..300_u32, frame in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(payload) = find_network(LinkType(link), &frame) {
                prop_assert!(payload.offset <= frame.len());
            }
        }
    }
}
