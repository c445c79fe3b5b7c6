//! The work of a network card on a packet: merged segments, cuts, and a checksum to be filled in.
//!
//! A capture on the router shows packets between the network card and the kernel. What the card does is not in them, and
//! is inferred: a TCP packet longer than its link takes was merged, and a checksum that is exactly the pseudo-header's sum
//! is to be filled in.

use std::collections::VecDeque;

use super::frames::Frame;
use super::pair::leaving;
use crate::packet::{Headers, Layer4, Packet, must_not_be_cut};
use crate::router::Interface;

/// The segments that a packet was merged of, and the device that fills in its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carriage {
    /// The longest segment, of a train.
    longest_segment: Option<usize>,
    leaves_checksum: bool,
}

impl Carriage {
    /// Infers it for a packet that arrived, from the frames that follow where two links take packets of other lengths.
    pub(super) fn of_arrived(frame: &Frame, ahead: &VecDeque<Frame>, interfaces: &[Interface]) -> Self {
        let mtu = mtu(interfaces, frame.interface);
        let smallest = interfaces.iter().map(|interface| interface.mtu).min().unwrap_or(usize::MAX);
        let leaves_checksum = leaves_checksum(&frame.bytes);
        if frame.bytes.len() <= smallest.min(mtu) {
            return Self { longest_segment: None, leaves_checksum };
        }
        let is_train = frame.bytes.len() > mtu && is_segment(&frame.bytes);
        let shown = if smallest < mtu { shown_leaving(frame, ahead, interfaces) } else { None };
        let longest_segment = match shown {
            Some(longest) => Some(longest.min(mtu)),
            None => is_train.then_some(mtu),
        };
        Self { longest_segment, leaves_checksum }
    }

    /// Infers it for a packet of the router's own, as it left.
    pub(super) fn of_own(frame: &Frame, interfaces: &[Interface]) -> Self {
        let mtu = mtu(interfaces, frame.interface);
        let is_train = frame.bytes.len() > mtu && is_segment(&frame.bytes);
        Self { longest_segment: is_train.then_some(mtu), leaves_checksum: leaves_checksum(&frame.bytes) }
    }

    /// Marks the packet accordingly.
    pub(super) fn mark(self, mut packet: Packet<'_>) -> Packet<'_> {
        if let Some(longest) = self.longest_segment {
            packet = packet.with_segments_of(longest);
        }
        if self.leaves_checksum { packet.with_checksum_left_to_device() } else { packet }
    }
}

fn mtu(interfaces: &[Interface], number: usize) -> usize {
    interfaces.get(number).map_or(usize::MAX, |interface| interface.mtu)
}

fn is_segment(bytes: &[u8]) -> bool {
    Headers::find(bytes).is_ok_and(|headers| matches!(headers.layer4, Layer4::Tcp(_)) && headers.fragment.is_none())
}

fn leaves_checksum(bytes: &[u8]) -> bool {
    Headers::find(bytes).is_ok_and(|h| !h.transport_checksum_ok(bytes) && h.checksum_is_left_to_device(bytes))
}

/// Returns the length of the longest segment of a packet that the capture shows leaving: cut, or whole by a link that
/// does not take it whole. `None` if it shows no such packet, or if the packet may be cut like any other.
fn shown_leaving(frame: &Frame, ahead: &VecDeque<Frame>, interfaces: &[Interface]) -> Option<usize> {
    let headers = Headers::find(&frame.bytes).ok()?;
    let Layer4::Tcp(arrived) = headers.layer4 else { return None };
    let text = headers.payload(&frame.bytes);
    if frame.bytes.first()? >> 4 == 4 && !must_not_be_cut(&frame.bytes) {
        return None;
    }
    leaving(ahead).find_map(|(other, left)| {
        let Layer4::Tcp(segment) = left.layer4 else { return None };
        let shown = left.payload(&other.bytes);
        let is_part = !shown.is_empty() && text.starts_with(shown) && segment.window == arrived.window;
        let link = mtu(interfaces, other.interface);
        match is_part && text.len() > link.saturating_sub(arrived.payload) {
            true => Some(other.bytes.len().min(link)),
            false => None,
        }
    })
}
