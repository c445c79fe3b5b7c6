//! Random choices of the kernel, read from the packet that left.

use std::collections::VecDeque;

use super::frames::Frame;
use super::pair::{announced, is_near, is_same, leaving};
use crate::nat::choices::ForcedPort;
use crate::packet::{Headers, Layer4};
use crate::router::Router;

/// Forces the router's next random choice of a port: the one that a kernel made for the same packet.
///
/// The choice only counts if the router comes to choose a port for the next packet, and the port is in range and free.
pub fn force_port(router: &mut Router, choice: Option<ForcedPort>) {
    router.nat_mut().choices.suggest(choice);
}

/// Returns the port or identifier that the kernel may have chosen for an arriving packet. That is the announced port if
/// its text announces one, else the source port or, for ICMP, the identifier. It may also have found none, so that
/// nothing left. The caller finds out if there was anything to choose.
pub(super) fn choice(arrived: &Frame, ahead: &VecDeque<Frame>) -> Option<ForcedPort> {
    let headers = Headers::find(&arrived.bytes).ok()?;
    let same = leaving(ahead)
        .find(|(frame, left)| is_same(&headers, &arrived.bytes, left, &frame.bytes) && may_follow(&headers, left));
    let Some((frame, left)) = same else { return Some(ForcedPort::Taken) };
    chosen(frame, &left).map(ForcedPort::Port)
}

/// Returns false for TCP segments whose sequence numbers are too far apart to be the same segment, translated.
fn may_follow(arrived: &Headers, left: &Headers) -> bool {
    let (Layer4::Tcp(_), Layer4::Tcp(_)) = (arrived.layer4, left.layer4) else { return true };
    is_near(arrived, left)
}

fn chosen(frame: &Frame, left: &Headers) -> Option<u16> {
    match left.layer4 {
        Layer4::Tcp(_) if !left.payload(&frame.bytes).is_empty() => announced(left.payload(&frame.bytes)),
        Layer4::Icmp(icmp) => Some(icmp.identifier),
        _ => left.ports(&frame.bytes).map(|(source, _)| source),
    }
}
