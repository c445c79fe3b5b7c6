//! Tunnels: where the packet inside another one begins.
//!
//! ```
//! use ftp_conntrack::packet::tunnel::{self, Tunnel};
//! use ftp_conntrack::packet::{Family, Headers};
//!
//! // IPv6 in IPv4, as over a 6in4 tunnel: the outer header, then the first bytes of the inner one.
//! let bytes = [0x45, 0, 0, 24, 0, 0, 0, 0, 64, 41, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x60, 0, 0, 0];
//! let inner = tunnel::find_inner(&bytes, &Headers::find(&bytes)?).unwrap();
//! assert_eq!((inner.tunnel, inner.family, inner.offset), (Tunnel::Ip, Family::V6, 20));
//! # Ok::<(), ftp_conntrack::packet::Malformed>(())
//! ```

use core::fmt;

use super::headers::read_array;
use super::link::{self, LinkType, Payload};
use super::{Family, Headers, Protocol};

/// Maximum number of tunnels, one inside the other, to follow. Nothing that carries FTP has more; without a bound a
/// crafted packet would be looked at once for every twenty bytes.
pub const MAX_TUNNELS: usize = 4;

/// IPv4 inside (RFC 2003).
const IPV4: Protocol = Protocol(4);
/// IPv6 inside (RFC 2473, RFC 4213).
const IPV6: Protocol = Protocol(41);
/// Generic Routing Encapsulation (RFC 2784).
const GRE: Protocol = Protocol(47);

/// The protocol that carries the inner packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Tunnel {
    /// IP directly in IP: IPIP, 6in4, 4in6, 6in6 (protocols 4 and 41).
    Ip,
    /// GRE (RFC 2784, RFC 2890), or PPTP's version of it (RFC 2637).
    Gre,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "IP in IP",
            Self::Gre => "GRE",
        })
    }
}

/// A packet inside another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Inner {
    /// Tunnel that carries it.
    pub tunnel: Tunnel,
    /// Family, as the tunnel announces it; the packet itself is not checked.
    pub family: Family,
    /// Start of the inner packet, in bytes from the start of the outer packet.
    pub offset: usize,
}

/// Finds the packet that the packet of these headers carries; one level only. `None` if it carries none, is only a part
/// of a packet, or is cut off before the inner one begins.
#[must_use]
pub fn find_inner(bytes: &[u8], headers: &Headers) -> Option<Inner> {
    if headers.fragment.is_some() {
        return None;
    }
    let whole = bytes.get(..headers.end.min(bytes.len()))?;
    let at = headers.transport;
    let ip = |family| (at < whole.len()).then_some(Inner { tunnel: Tunnel::Ip, family, offset: at });
    match headers.protocol {
        IPV4 => ip(Family::V4),
        IPV6 => ip(Family::V6),
        GRE => {
            let inside = gre(whole, at)?;
            Some(Inner { tunnel: Tunnel::Gre, family: inside.family?, offset: inside.offset })
        }
        _ => None,
    }
}

/// A GRE header: flags and version (2), protocol (2), then what the flags say: checksum (4), key (4), sequence number
/// (4), in version 1 an acknowledgement number (4).
fn gre(bytes: &[u8], at: usize) -> Option<Payload> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    const VERSION: u16 = 7;
    const PPP: u16 = 0x880b;
    const ETHERNET: u16 = 0x6558;
    let flags = u16::from_be_bytes(read_array(bytes, at)?);
    let protocol = u16::from_be_bytes(read_array(bytes, at + 2)?);
    let fields = match flags & VERSION {
        // RFC 2784 section 2.3: a packet with routing is to be thrown away.
        0 if flags & ROUTING == 0 => CHECKSUM | KEY | SEQUENCE,
        // RFC 2637 section 4.1: its key is the length of the payload and the call's number.
        1 if flags & KEY != 0 && protocol == PPP => KEY | SEQUENCE | ACKNOWLEDGEMENT,
        _ => return None,
    };
    let inside = at + 4 + 4 * (flags & fields).count_ones() as usize;
    let (link, start) = match protocol {
        PPP => (LinkType::PPP, inside),
        ETHERNET => (LinkType::ETHERNET, inside),
        _ => return link::announced(protocol, bytes, inside, link::MAX_DEPTH).ok().filter(|p| p.offset < bytes.len()),
    };
    let payload = link::find_network(link, bytes.get(start..)?).ok()?;
    Some(Payload { offset: start + payload.offset, ..payload }).filter(|p| p.offset < bytes.len())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// An IPv4 packet of this protocol.
    fn outer(protocol: u8, body: &[u8]) -> Vec<u8> {
        let length = 20 + body.len() as u8;
        let mut bytes = Vec::from([0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend(body);
        bytes
    }

    fn inner(bytes: &[u8]) -> Option<Inner> {
        find_inner(bytes, &Headers::find_cut(bytes).unwrap())
    }

    fn found(tunnel: Tunnel, family: Family, offset: usize) -> Option<Inner> {
        Some(Inner { tunnel, family, offset })
    }

    #[test]
    fn ip_in_ip() {
        assert_eq!(inner(&outer(4, &[0x45])), found(Tunnel::Ip, Family::V4, 20));
        assert_eq!(inner(&outer(41, &[0x60])), found(Tunnel::Ip, Family::V6, 20));
        assert_eq!(inner(&outer(6, &[0x45; 20])), None);
        assert_eq!(inner(&outer(4, &[])), None, "nothing inside");
        let mut in_6 = Vec::from([0x60, 0, 0, 0, 0, 9, 60, 64]);
        in_6.extend([0; 32]);
        // A destination option header of eight bytes (a tunnel encapsulation limit), then IPv4.
        in_6.extend([4, 0, 4, 1, 4, 1, 0, 0, 0x45]);
        assert_eq!(inner(&in_6), found(Tunnel::Ip, Family::V4, 48));
    }

    #[test]
    fn gre_with_each_field() {
        let ip = |flags: u8, fields: usize| {
            let mut body = Vec::from([flags, 0, 8, 0]);
            body.resize(4 + fields, 0xee);
            body.push(0x45);
            inner(&outer(47, &body))
        };
        assert_eq!(ip(0, 0), found(Tunnel::Gre, Family::V4, 24));
        assert_eq!(ip(0x80, 4), found(Tunnel::Gre, Family::V4, 28), "checksum");
        assert_eq!(ip(0x20, 4), found(Tunnel::Gre, Family::V4, 28), "key");
        assert_eq!(ip(0x10, 4), found(Tunnel::Gre, Family::V4, 28), "sequence number");
        assert_eq!(ip(0xb0, 12), found(Tunnel::Gre, Family::V4, 36), "all three");
        assert_eq!(ip(0x40, 0), None, "routing");
        assert_eq!(ip(0xb0, 8), None, "cut off");
        assert_eq!(inner(&outer(47, &[0, 2, 8, 0, 0x45])), None, "an unknown version");
        assert_eq!(inner(&outer(47, &[0, 0, 0x86, 0xdd, 0x60])), found(Tunnel::Gre, Family::V6, 24));
        assert_eq!(inner(&outer(47, &[0, 0, 0x08, 0x06, 0])), None, "ARP");
    }

    #[test]
    fn ethernet_in_gre() {
        let mut body = Vec::from([0x20, 0, 0x65, 0x58, 0, 0, 0, 7]);
        body.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 5, 8, 0, 0x45]);
        assert_eq!(inner(&outer(47, &body)), found(Tunnel::Gre, Family::V4, 20 + 8 + 18));
    }

    #[test]
    fn ppp_in_gre() {
        // Version 1: payload length and call, sequence, acknowledgement; with and without address and control.
        let pptp = [0x30, 0x81, 0x88, 0x0b, 0, 5, 0, 1, 0, 0, 0, 9, 0, 0, 0, 8];
        let with = [&pptp[..], &[0xff, 3, 0, 0x21, 0x45]].concat();
        assert_eq!(inner(&outer(47, &with)), found(Tunnel::Gre, Family::V4, 40));
        let without = [&pptp[..], &[0x21, 0x45]].concat();
        assert_eq!(inner(&outer(47, &without)), found(Tunnel::Gre, Family::V4, 37));
        let negotiation = [&pptp[..], &[0xc0, 0x21, 1]].concat();
        assert_eq!(inner(&outer(47, &negotiation)), None);
        assert_eq!(inner(&outer(47, &[0, 0, 0x88, 0x0b, 0, 0x57, 0x60])), found(Tunnel::Gre, Family::V6, 26));
        assert_eq!(inner(&outer(47, &[0, 1, 0x88, 0x0b, 0x21, 0x45])), None, "version 1 without its key");
    }

    #[test]
    fn a_part_carries_nothing_that_can_be_read() {
        let mut part = outer(4, &[0x45; 8]);
        part[6] = 0x20;
        assert_eq!(inner(&part), None);
    }
}
