//! The part of a capture that could be compared.

use core::fmt;
use core::net::SocketAddr;
use std::collections::HashSet;

use super::frames::Frame;
use crate::capture::Direction;
use crate::packet::{Headers, Layer4, TcpFlags};

/// The reason why nothing of a capture was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NothingCompared {
    /// It has no packet on the router's interfaces.
    NoPacket,
    /// It shows packets that arrive and none that leave, though some were answered.
    ArrivalsOnly,
    /// It shows packets that leave and none that arrive.
    DeparturesOnly,
    /// It shows one of the router's interfaces, and packets pass by two.
    OneInterface {
        /// The number of that interface.
        interface: usize,
    },
}

impl fmt::Display for NothingCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = match self {
            Self::NoPacket => "the capture has no packet on the router's interfaces",
            Self::ArrivalsOnly => "the capture shows only packets that arrive",
            Self::DeparturesOnly => "the capture shows only packets that leave",
            Self::OneInterface { .. } => "the capture shows only one of the router's interfaces",
        };
        write!(f, "{missing}; capture on all interfaces, in both directions: tcpdump -i any -y LINUX_SLL2")
    }
}

/// The parts of a capture that were seen, and those that agreed.
#[derive(Debug, Default)]
pub(super) struct Compared {
    arrived: u64,
    left: u64,
    /// Packets other than the router's own that left as they were predicted.
    agreed: u64,
    /// The only interface, and whether there is another.
    interface: Option<usize>,
    has_others: bool,
    /// TCP segments that the library sent: interface and ends.
    sent: HashSet<(usize, SocketAddr, SocketAddr)>,
    /// True if a segment arrived that answers one of them.
    is_answered: bool,
}

/// Maximum number of connections that are remembered to see whether they are answered.
const MOST: usize = 1024;

impl Compared {
    /// Notes a frame.
    pub(super) fn note(&mut self, frame: &Frame) {
        match frame.direction {
            Direction::Out => self.left += 1,
            _ => self.arrived += 1,
        }
        self.has_others |= self.interface.is_some_and(|interface| interface != frame.interface);
        self.interface.get_or_insert(frame.interface);
        if self.agreed == 0 && frame.direction != Direction::Out && !self.is_answered {
            let answers = |(source, destination)| self.sent.contains(&(frame.interface, destination, source));
            self.is_answered = acknowledging(&frame.bytes).is_some_and(answers);
        }
    }

    /// Notes a packet that the library sends.
    pub(super) fn note_sent(&mut self, interface: usize, bytes: &[u8]) {
        if self.agreed == 0
            && self.sent.len() < MOST
            && let Some((source, destination)) = segment_ends(bytes)
        {
            self.sent.insert((interface, source, destination));
        }
    }

    /// Notes a forwarded packet that left as the library sent it.
    pub(super) const fn note_agreed(&mut self) {
        self.agreed += 1;
    }

    /// Returns why nothing was compared. `differ`: packets that differ.
    pub(super) const fn nothing(&self, differ: u64) -> Option<NothingCompared> {
        match (self.interface, self.has_others) {
            (None, _) => Some(NothingCompared::NoPacket),
            _ if self.agreed > 0 || differ == 0 => None,
            _ if self.arrived == 0 => Some(NothingCompared::DeparturesOnly),
            _ if self.left == 0 && self.is_answered => Some(NothingCompared::ArrivalsOnly),
            (Some(interface), false) => Some(NothingCompared::OneInterface { interface }),
            _ => None,
        }
    }
}

fn segment_ends(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let headers = Headers::find(bytes).ok()?;
    let Layer4::Tcp(_) = headers.layer4 else { return None };
    let (source, destination) = headers.ports(bytes)?;
    Some((SocketAddr::new(headers.source(bytes), source), SocketAddr::new(headers.destination(bytes), destination)))
}

fn acknowledging(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let headers = Headers::find(bytes).ok()?;
    let Layer4::Tcp(segment) = headers.layer4 else { return None };
    if segment.flags.has(TcpFlags::ACK) { segment_ends(bytes) } else { None }
}
