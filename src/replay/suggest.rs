//! What the kernel chose at random, read from the packet that left.

use std::collections::VecDeque;

use super::frames::Frame;
use crate::capture::Direction;
use crate::ftp::{Command, Reply};
use crate::nat::Suggestion;
use crate::packet::{Headers, Layer4, Protocol};

/// What the kernel may have chosen for an arriving packet: the announced port if its text announces one, the source port
/// (for ICMP, the identifier) otherwise; or it found none, and nothing left. Whether there was anything to choose is for
/// others to find.
pub(super) fn choice(arrived: &Frame, ahead: &VecDeque<Frame>) -> Option<Suggestion> {
    let headers = Headers::find(&arrived.bytes).ok()?;
    let left = ahead.iter().filter(|frame| frame.direction == Direction::Out);
    let same = left
        .filter_map(|frame| Some((frame, Headers::find(&frame.bytes).ok()?)))
        .find(|(frame, left)| is_same(&headers, &arrived.bytes, left, &frame.bytes));
    let Some((frame, left)) = same else { return Some(Suggestion::Taken) };
    chosen(frame, &left).map(Suggestion::Port)
}

fn chosen(frame: &Frame, left: &Headers) -> Option<u16> {
    match left.layer4 {
        Layer4::Tcp(_) if !left.payload(&frame.bytes).is_empty() => announced(left.payload(&frame.bytes)),
        Layer4::Icmp(icmp) => Some(icmp.identifier),
        _ => left.ports(&frame.bytes).map(|(source, _)| source),
    }
}

/// Whether one is the other, as far as it can be told after translation.
fn is_same(a: &Headers, a_bytes: &[u8], b: &Headers, b_bytes: &[u8]) -> bool {
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

fn announced(payload: &[u8]) -> Option<u16> {
    let line = payload.split_inclusive(|byte| *byte == b'\n').next()?;
    match Command::parse(line) {
        Some(Command::Port(Ok(at))) => return Some(at.port),
        Some(Command::Eprt(Ok(at))) => return Some(at.port),
        _ => {}
    }
    Reply::parse(line)?.endpoint().map(|endpoint| endpoint.port)
}
