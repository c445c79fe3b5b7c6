//! Urgent data (RFC 6093). smoltcp sends none, so a box in front of the router marks some bytes of the control
//! connections as urgent, as clients do that interrupt a transfer. After the router the same bytes must be marked.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::wire::Segment;

/// The Data Mark of Telnet (RFC 854), behind which a client says ABOR.
const DATA_MARK: u8 = 0xf2;
/// Of the bytes that may be urgent, one in so many is.
const ONE_IN: usize = 3;

/// A stream on a link, by its ends.
pub(crate) type Flow = (usize, SocketAddr, SocketAddr);

/// The bytes that were marked as urgent, and their places.
#[derive(Debug, Default)]
pub(crate) struct Urgent {
    /// Bytes that each host has sent so far, and the number before the first one.
    sent: HashMap<Flow, (u32, Vec<u8>)>,
    /// Which of the bytes that may be urgent were called so by what arrived at the router, by flow.
    arrived: HashMap<Flow, Vec<usize>>,
    /// The places that the router called urgent, in the other side's stream.
    left: HashMap<Flow, Vec<u32>>,
}

impl Urgent {
    /// A host sends a segment: if it bears a byte that is urgent, it says so.
    pub(crate) fn mark(&mut self, link: usize, packet: Vec<u8>) -> Vec<u8> {
        let Some(segment) = Segment::read(&packet).filter(Segment::is_control) else { return packet };
        let flow = (link, segment.from, segment.to);
        if segment.has(crate::wire::SYN) {
            self.sent.insert(flow, (segment.seq, Vec::new()));
            return packet;
        }
        let Some((first, stream)) = self.sent.get_mut(&flow) else { return packet };
        let at = segment.seq.wrapping_sub(*first).wrapping_sub(1) as usize;
        let payload = segment.payload(&packet);
        if at > stream.len() {
            return packet;
        }
        let new = payload.get(stream.len() - at..).unwrap_or_default();
        stream.extend(new);
        let place = last_urgent(stream, at..at + payload.len());
        place.map_or(packet.clone(), |place| segment.calling_urgent(&packet, (place + 1 - at) as u16))
    }

    /// A segment arrives at the router.
    pub(crate) fn arrives(&mut self, link: usize, segment: &Segment, packet: &[u8]) {
        let flow = (link, segment.from, segment.to);
        if let (Some(pointer), Some((first, stream))) = (segment.urgent(packet), self.sent.get(&flow)) {
            let end = segment.seq.wrapping_add(pointer.into()).wrapping_sub(*first).wrapping_sub(1) as usize;
            let number = candidates(&stream[..end]).count() - 1;
            self.arrived.entry(flow).or_default().push(number);
        }
    }

    /// A segment leaves the router.
    pub(crate) fn leaves(&mut self, link: usize, segment: &Segment, packet: &[u8]) {
        if let Some(pointer) = segment.urgent(packet) {
            self.left
                .entry((link, segment.from, segment.to))
                .or_default()
                .push(segment.seq.wrapping_add(pointer.into()));
        }
    }

    /// Checks that the bytes that left of a stream, which began with `first`, are marked urgent as their sender marked
    /// them, and no others.
    ///
    /// # Errors
    /// What it does not.
    pub(crate) fn check(&self, near: Flow, far: Flow, first: u32, heard: &[u8]) -> Result<(), String> {
        let places: BTreeMap<usize, usize> =
            candidates(heard).enumerate().map(|(number, at)| (at + 1, number)).collect();
        let mut last = None;
        for left in self.left.get(&far).into_iter().flatten() {
            let end = left.wrapping_sub(first).wrapping_sub(1) as usize;
            match places.get(&end) {
                Some(number) if is_urgent(*number) => last = last.max(Some(*number)),
                _ => return Err(format!("what ends at {end} is called urgent: {}", shown(heard, end))),
            }
        }
        // A host only learns of the last urgent byte.
        let most = self.arrived.get(&near).into_iter().flatten().max().copied();
        if most > last { Err(format!("urgent byte {most:?} is not called so, but {last:?}")) } else { Ok(()) }
    }
}

/// The places of the bytes that may be urgent: as many on both sides, since no announcement has any.
fn candidates(stream: &[u8]) -> impl Iterator<Item = usize> {
    stream.iter().enumerate().filter(|(_, byte)| matches!(**byte, b'\n' | DATA_MARK)).map(|(at, _)| at)
}

const fn is_urgent(number: usize) -> bool {
    number % ONE_IN == 1
}

/// The last byte of a stretch that is urgent.
fn last_urgent(stream: &[u8], within: std::ops::Range<usize>) -> Option<usize> {
    let urgent = candidates(stream).enumerate().filter(|(number, _)| is_urgent(*number));
    urgent.map(|(_, at)| at).filter(|at| within.contains(at)).last()
}

fn shown(heard: &[u8], end: usize) -> String {
    let from = end.saturating_sub(20).min(heard.len());
    heard[from..end.min(heard.len())].escape_ascii().to_string()
}
