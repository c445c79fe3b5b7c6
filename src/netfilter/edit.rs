//! Targets that change bytes of a packet: TTL, HL, TOS, DSCP, ECN, TCPOPTSTRIP.

use super::context::EvalContext;
use crate::packet::{Family, Layer4, read_array};

/// A change to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum PacketEdit {
    /// `TTL --ttl-set`, `HL --hl-set`.
    SetHopLimit(u8),
    /// `--ttl-inc`: at most to 255.
    RaiseHopLimit(u8),
    /// `--ttl-dec`: at least to 0.
    LowerHopLimit(u8),
    /// `TOS`, `DSCP`: `class = (class & !mask) ^ value`, of the type of service or traffic class.
    TrafficClass {
        /// The bits that are toggled at last.
        value: u8,
        /// The bits that are cleared before.
        mask: u8,
    },
    /// `ECN --ecn-tcp-remove`: the ECN bits of a TCP header are cleared.
    RemoveEcn,
    /// `TCPOPTSTRIP`: options of these kinds, a bit each, become no-operations.
    StripOptions([u64; 4]),
}

/// Applies a change to the packet; returns true if the packet is dropped.
pub(super) fn apply(edit: PacketEdit, subject: &mut EvalContext<'_, '_>) -> bool {
    let (headers, bytes) = (*subject.headers, subject.packet.bytes_mut());
    match edit {
        PacketEdit::SetHopLimit(limit) => headers.set_hop_limit(bytes, limit),
        PacketEdit::RaiseHopLimit(by) => headers.set_hop_limit(bytes, headers.hop_limit(bytes).saturating_add(by)),
        PacketEdit::LowerHopLimit(by) => headers.set_hop_limit(bytes, headers.hop_limit(bytes).saturating_sub(by)),
        PacketEdit::TrafficClass { value, mask } => {
            let old = match (headers.family, bytes) {
                (Family::V4, [_, class, ..]) => *class,
                (Family::V6, [first, second, ..]) => first.checked_shl(4).unwrap_or(0) | *second >> 4,
                _ => return false,
            };
            headers.set_traffic_class(subject.packet.bytes_mut(), (old & !mask) ^ value);
        }
        PacketEdit::RemoveEcn => {
            let Layer4::Tcp(_) = headers.layer4 else { return headers.fragment.is_none() };
            // Data offset, the reserved bits and the flags: bits 6 and 7 of the flags are ECE and CWR.
            let word = read_array(bytes, headers.transport + 12).map_or(0, u16::from_be_bytes);
            headers.set_tcp_half(bytes, 12, word & !0xc0);
            if let Layer4::Tcp(segment) = &mut subject.headers.layer4 {
                segment.flags.0 &= !0xc0;
            }
        }
        PacketEdit::StripOptions(kinds) => {
            let Layer4::Tcp(segment) = headers.layer4 else { return false };
            let mut at = headers.transport + 20;
            while at < segment.payload {
                let length = match bytes.get(at..segment.payload) {
                    None | Some([] | [0, ..] | [2..=255]) => break,
                    Some([1, ..]) => 1,
                    Some([_, length, ..]) => usize::from(*length).max(2),
                };
                let kind = bytes.get(at).copied().unwrap_or_default();
                let is_stripped = kinds[usize::from(kind >> 6)] >> (kind & 63) & 1 != 0;
                if at + length > segment.payload {
                    break;
                }
                if is_stripped {
                    (at..at + length).for_each(|place| headers.set_tcp_byte(bytes, place - headers.transport, 1));
                }
                at += length;
            }
        }
    }
    false
}
