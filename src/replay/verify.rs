//! Comparing what a router sends with what a capture shows leaving.

use std::collections::VecDeque;
use std::vec::Vec;

use super::frames::Frame;
use crate::Instant;
use crate::packet::{Family, Headers, Layer4, Protocol};

/// A packet that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The frame that arrived and led to it.
    pub arrived: Option<u64>,
    /// The frame that left.
    pub left: Option<u64>,
    /// When.
    pub time: Instant,
    /// The number of the interface it leaves by.
    pub interface: usize,
    /// In what way.
    pub kind: DifferenceKind,
    /// Packet that the library sends; empty if none.
    pub ours: Vec<u8>,
    /// Packet that the capture shows; empty if none.
    pub theirs: Vec<u8>,
}

/// In what way a packet differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// Both send it, with different bytes.
    Bytes,
    /// The library sends it, and the capture does not show it.
    Missing,
    /// The capture shows it, and the library does not send it.
    Unexpected,
}

impl Difference {
    pub(super) fn unexpected(frame: &Frame) -> Self {
        Self {
            arrived: None,
            left: Some(frame.number),
            time: frame.time,
            interface: frame.interface,
            kind: DifferenceKind::Unexpected,
            ours: Vec::new(),
            theirs: frame.bytes.clone(),
        }
    }
}

/// The packets that the library sent and the capture has not shown yet.
#[derive(Default)]
pub(super) struct Verifier {
    pending: VecDeque<Predicted>,
}

struct Predicted {
    arrived: u64,
    time: Instant,
    interface: usize,
    bytes: Vec<u8>,
    /// Bytes that are compared.
    compared: Vec<u8>,
    /// True if the transport checksum was wrong on arrival.
    bad_checksum: bool,
}

/// Maximum number of packets that wait to be seen in the capture.
const MOST_PENDING: usize = 1024;

impl Verifier {
    /// Notes that the library sends a packet. Gives the oldest that was never seen leaving, if there are too many.
    pub(super) fn predict(
        &mut self,
        arrived: &Frame,
        interface: usize,
        bytes: &[u8],
        bad_checksum: bool,
    ) -> Option<Difference> {
        self.pending.push_back(Predicted {
            arrived: arrived.number,
            time: arrived.time,
            interface,
            bytes: bytes.to_vec(),
            compared: comparable(bytes, bad_checksum),
            bad_checksum,
        });
        if self.pending.len() > MOST_PENDING { self.pending.pop_front().map(Predicted::missing) } else { None }
    }

    /// Returns true if the packet that left was predicted, and stops waiting for it.
    pub(super) fn matches(&mut self, left: &Frame) -> bool {
        let compared = [false, true].map(|bad_checksum| comparable(&left.bytes, bad_checksum));
        let same = |p: &Predicted| p.interface == left.interface && p.compared == compared[usize::from(p.bad_checksum)];
        let found = self.pending.iter().position(same);
        found.map(|at| self.pending.remove(at)).is_some()
    }

    /// The prediction that was meant, if there is one: of the same packet, with other bytes.
    pub(super) fn closest(&mut self, left: &Frame) -> Option<Difference> {
        let meant = |p: &Predicted| p.interface == left.interface && is_meant(&p.bytes, &left.bytes);
        let at = self.pending.iter().position(meant)?;
        let predicted = self.pending.remove(at)?;
        Some(Difference {
            arrived: Some(predicted.arrived),
            left: Some(left.number),
            time: left.time,
            interface: left.interface,
            kind: DifferenceKind::Bytes,
            ours: predicted.bytes,
            theirs: left.bytes.clone(),
        })
    }

    /// Returns the predicted packets that never left.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = Difference> {
        self.pending.drain(..).map(Predicted::missing)
    }
}

impl Predicted {
    fn missing(self) -> Difference {
        Difference {
            arrived: Some(self.arrived),
            left: None,
            time: self.time,
            interface: self.interface,
            kind: DifferenceKind::Missing,
            ours: self.bytes,
            theirs: Vec::new(),
        }
    }
}

/// The packet without what is not compared: a transport checksum that arrived wrong, and the identifications of ICMP
/// errors and of IPv6 fragments and the flow labels of ICMPv6 errors, which the kernel draws at random.
fn comparable(bytes: &[u8], bad_checksum: bool) -> Vec<u8> {
    let mut compared = bytes.to_vec();
    let Ok(headers) = Headers::find(bytes) else { return compared };
    if headers.protocol == Protocol::ICMP && headers.is_icmp_error() {
        for range in [4..6, 10..12] {
            compared.get_mut(range).into_iter().for_each(|field| field.fill(0));
        }
    }
    if headers.protocol == Protocol::ICMPV6
        && headers.is_icmp_error()
        && let Some([_, class, label @ ..]) = compared.first_chunk_mut::<4>()
    {
        *class &= 0xf0;
        label.fill(0);
    }
    // A fragment header that the router wrote follows the IPv6 header, or what the fragment says stands before it.
    let fragment_header = match headers.fragment {
        Some(fragment) => Some(fragment.header),
        None => (bytes.get(6) == Some(&44)).then_some(40),
    };
    if headers.family == Family::V6
        && let Some(at) = fragment_header
    {
        compared.get_mut(at + 4..at + 8).into_iter().for_each(|field| field.fill(0));
    }
    if bad_checksum && let Some(at) = headers.transport_checksum_at() {
        compared.get_mut(at..at + 2).into_iter().for_each(|field| field.fill(0));
    }
    compared
}

/// Returns true if two packets are the same, except in fields that are never compared.
pub(super) fn agree(ours: &[u8], theirs: &[u8]) -> bool {
    let is_good = |bytes: &[u8]| Headers::find(bytes).is_ok_and(|h| h.transport_checksum_ok(bytes));
    let bad_checksum = !is_good(ours) && !is_good(theirs);
    comparable(ours, bad_checksum) == comparable(theirs, bad_checksum)
}

/// Returns true if two packets that differ are meant to be the same one.
fn is_meant(ours: &[u8], theirs: &[u8]) -> bool {
    let (Ok(a), Ok(b)) = (Headers::find(ours), Headers::find(theirs)) else { return false };
    if a.family != b.family || a.protocol != b.protocol {
        return false;
    }
    let ends = |h: &Headers, bytes: &[u8]| (h.source(bytes), h.destination(bytes), h.ports(bytes));
    match (a.layer4, b.layer4) {
        (Layer4::Tcp(x), Layer4::Tcp(y)) => {
            let same_ends = ends(&a, ours) == ends(&b, theirs);
            let same_identification = ours.get(4..6) == theirs.get(4..6) && a.family == Family::V4;
            x.flags == y.flags && (same_ends || same_identification)
        }
        _ => ours.get(4..6) == theirs.get(4..6) || ends(&a, ours) == ends(&b, theirs),
    }
}
