//! Which of the packets that leave is the one that arrived.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::vec::Vec;

use super::frames::Frame;
use crate::SequenceNumber;
use crate::capture::Direction;
use crate::ftp::{Command, Reply};
use crate::packet::{Headers, Layer4, Protocol};

/// The frames that leave among those that follow, with their headers.
pub(super) fn leaving(ahead: &VecDeque<Frame>) -> impl Iterator<Item = (&Frame, Headers)> {
    let left = ahead.iter().filter(|frame| frame.direction == Direction::Out);
    left.filter_map(|frame| Some((frame, Headers::find(&frame.bytes).ok()?)))
}

/// Returns true if the two packets may be one before and after translation.
pub(super) fn is_same(a: &Headers, a_bytes: &[u8], b: &Headers, b_bytes: &[u8]) -> bool {
    let identification = |bytes: &[u8]| bytes.get(4..6).map(<[u8]>::to_vec);
    if a.protocol != b.protocol || a.family != b.family {
        return false;
    }
    if a_bytes.first().is_some_and(|b| b >> 4 == 4) && identification(a_bytes) != identification(b_bytes) {
        return false;
    }
    match (a.layer4, b.layer4) {
        (Layer4::Tcp(a), Layer4::Tcp(b)) => a.flags == b.flags && a.window == b.window,
        _ => a.protocol != Protocol::TCP && a.end == b.end,
    }
}

/// Numbers of a stream that has grown lie no further apart than this: a few hundred announcements grow it by less.
const FAR: u32 = 1 << 13;

/// Finds the frame in which a TCP segment leaves: the first that is the same, still has one of its ends, and has the
/// same place in its stream. The text may differ only if both announce something, and no other segment that arrived
/// meanwhile had that text.
///
/// A frame is evidence of this segment only if no other can be the one that left in it: neither one that the router sends
/// already (`is_expected`), nor one that arrived meanwhile. Packets without an identification of their own look alike.
pub(super) fn leaves_as<'a>(
    arrived: &Frame,
    ahead: &'a VecDeque<Frame>,
    is_expected: impl Fn(&Frame) -> bool,
) -> Option<&'a Frame> {
    let headers = Headers::find(&arrived.bytes).ok()?;
    let text = headers.payload(&arrived.bytes);
    let mut arrivals = ahead.iter().filter(|frame| frame.direction != Direction::Out).peekable();
    let mut meanwhile: Vec<(&Frame, Headers)> = Vec::new();
    let mut found = Vec::new();
    for (frame, left) in leaving(ahead) {
        while let Some(other) = arrivals.next_if(|arrival| arrival.number < frame.number) {
            meanwhile.extend(Headers::find(&other.bytes).ok().map(|headers| (other, headers)));
        }
        let leaves_with = left.payload(&frame.bytes);
        let is_other_text = || {
            let has_text = |(other, headers): &(&Frame, Headers)| headers.payload(&other.bytes) == leaves_with;
            announced(text).is_some() && announced(leaves_with).is_some() && !meanwhile.iter().any(has_text)
        };
        let is_it = (text == leaves_with || is_other_text()) && is_copy(&headers, arrived, &left, frame);
        if !is_it || is_expected(frame) {
            continue;
        }
        found.push(frame);
        let could_be = |(other, headers): &&(&Frame, Headers)| {
            headers.payload(&other.bytes) == leaves_with && is_copy(headers, other, &left, frame)
        };
        if found.len() > meanwhile.iter().filter(could_be).count() {
            return found.first().copied();
        }
    }
    None
}

/// Returns true if `left` can be the segment that arrived, whatever its text.
fn is_copy(headers: &Headers, arrived: &Frame, left_headers: &Headers, left: &Frame) -> bool {
    let Some((source, destination)) = ends(headers, &arrived.bytes) else { return false };
    let has_an_end = ends(left_headers, &left.bytes).is_some_and(|(s, d)| s == source || d == destination);
    has_an_end && is_same(headers, &arrived.bytes, left_headers, &left.bytes) && is_near(headers, left_headers)
}

/// Both ends of a packet.
fn ends(headers: &Headers, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = headers.ports(bytes)?;
    Some((SocketAddr::new(headers.source(bytes), source), SocketAddr::new(headers.destination(bytes), destination)))
}

/// Returns true if two segments have the same place in their streams, as far as these may have grown.
pub(super) fn is_near(a: &Headers, b: &Headers) -> bool {
    let (Layer4::Tcp(a), Layer4::Tcp(b)) = (a.layer4, b.layer4) else { return false };
    let near = |a: SequenceNumber, b: SequenceNumber| a.since(b).unsigned_abs() < FAR;
    near(a.sequence, b.sequence) && near(a.acknowledgement, b.acknowledgement)
}

/// The port that a text announces.
pub(super) fn announced(payload: &[u8]) -> Option<u16> {
    let line = payload.split_inclusive(|byte| *byte == b'\n').next()?;
    match Command::parse(line) {
        Some(Command::Port(Ok(at))) => return Some(at.port),
        Some(Command::Eprt(Ok(at))) => return Some(at.port),
        _ => {}
    }
    Reply::parse(line)?.endpoint().map(|endpoint| endpoint.port)
}
