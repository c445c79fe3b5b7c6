//! ICMP errors about packets of sessions.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::packet::{Family, Headers, Layer4, Protocol};

/// An ICMP error that quotes a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IcmpError {
    /// The address that sent the error.
    pub reporter: IpAddr,
    /// The address that it was sent to.
    pub receiver: IpAddr,
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The MTU of the next link, if the error is that a packet is too big and names it.
    pub mtu: Option<u32>,
    /// The source of the quoted segment.
    pub from: SocketAddr,
    /// The destination of the quoted segment.
    pub to: SocketAddr,
}

impl IcmpError {
    /// Returns the error if the packet is one, and quotes the ports of a TCP segment.
    pub(super) fn read(bytes: &[u8], headers: &Headers) -> Option<Self> {
        let Layer4::Icmp(icmp) = headers.layer4 else { return None };
        if !headers.is_icmp_error() {
            return None;
        }
        let message = bytes.get(headers.transport..)?;
        let quoted_bytes = message.get(8..)?;
        let quoted = Headers::find_quoted(quoted_bytes, headers.family).ok()?;
        if quoted.protocol != Protocol::TCP {
            return None;
        }
        let ports = quoted_bytes.get(quoted.transport..quoted.transport + 4)?;
        let port = |at: usize| Some(u16::from_be_bytes([*ports.get(at)?, *ports.get(at + 1)?]));
        let word = message.get(4..8)?.try_into().map(u32::from_be_bytes).ok()?;
        let mtu = match (headers.family, icmp.kind, icmp.code) {
            (Family::V4, 3, 4) => Some(word & 0xffff).filter(|mtu| *mtu > 0),
            (Family::V6, 2, _) => Some(word),
            _ => None,
        };
        Some(Self {
            reporter: headers.source(bytes),
            receiver: headers.destination(bytes),
            kind: icmp.kind,
            code: icmp.code,
            mtu,
            from: SocketAddr::new(quoted.source(quoted_bytes), port(0)?),
            to: SocketAddr::new(quoted.destination(quoted_bytes), port(2)?),
        })
    }

    const fn meaning(&self) -> &'static str {
        match (self.reporter.is_ipv4(), self.kind, self.code) {
            (true, 3, 0) => "network unreachable",
            (true, 3, 1) | (false, 1, 3) => "host unreachable",
            (true, 3, 2) => "protocol unreachable",
            (true, 3, 3) | (false, 1, 4) => "port unreachable",
            (true, 3, 4) | (false, 2, _) => "packet too big",
            (true, 3, 9 | 10 | 13) | (false, 1, 1) => "administratively prohibited",
            (false, 1, 0) => "no route",
            (true, 3, _) | (false, 1, _) => "destination unreachable",
            (true, 4, _) => "source quench",
            (true, 5, _) => "redirect",
            (true, 11, 0) | (false, 3, 0) => "time to live exceeded",
            (true, 11, _) | (false, 3, _) => "reassembly time exceeded",
            (true, 12, _) | (false, 4, _) => "parameter problem",
            _ => "error",
        }
    }
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ICMP {} from {}", self.meaning(), self.reporter)?;
        match self.mtu {
            Some(mtu) => write!(f, " (MTU {mtu})"),
            None => Ok(()),
        }
    }
}
