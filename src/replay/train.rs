//! Trains of TCP segments: the same bytes of a stream, arriving in one packet and leaving in several, or the reverse.
//!
//! A network card, or the kernel in its place, merges segments as they arrive and cuts them as they leave (GRO, TSO, GSO).
//! The capture shows them merged or cut, wherever it was taken. What must hold is the stream: each byte once, and in each
//! piece the headers that the whole has.

use std::vec::Vec;

use super::comparable::{blank, is_summed};
use crate::SequenceNumber;
use crate::packet::{Family, Headers, Layer4, TcpFlags};

/// Flags that only the last piece of a train has.
const LAST: u8 = TcpFlags::PSH | TcpFlags::FIN;
/// The flag that only the first piece has (RFC 3168 section 6.1.2).
const CWR: u8 = 0x80;

/// A TCP segment with payload, as it is compared when it may be cut or merged.
#[derive(Clone, Debug)]
pub(super) struct Segment<'b> {
    pub(super) sequence: SequenceNumber,
    pub(super) payload: &'b [u8],
    flags: TcpFlags,
    /// IPv4's identification.
    identification: Option<u16>,
    /// Both headers, without the fields that differ between pieces.
    headers: Vec<u8>,
    /// True if each checksum is right, or is left to a network card.
    is_summed: bool,
}

impl<'b> Segment<'b> {
    /// Reads a TCP segment; `None` for a fragment, for a segment without payload, and for other packets.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let found = Headers::find(bytes).ok().filter(|headers| headers.fragment.is_none())?;
        let Layer4::Tcp(tcp) = found.layer4 else { return None };
        let payload = found.payload(bytes);
        if payload.is_empty() {
            return None;
        }
        let mut headers = bytes.get(..tcp.payload)?.to_vec();
        let identification = match found.family {
            Family::V4 => bytes.get(4..6).and_then(|id| Some(u16::from_be_bytes(id.try_into().ok()?))),
            Family::V6 => None,
        };
        match found.family {
            Family::V4 => {
                blank(&mut headers, 2, 4);
                blank(&mut headers, 10, 2);
            }
            Family::V6 => blank(&mut headers, 4, 2),
        }
        blank(&mut headers, found.transport + 4, 4);
        blank(&mut headers, found.transport + 16, 2);
        if let Some(flags) = headers.get_mut(found.transport + 13) {
            *flags &= !(LAST | CWR);
        }
        let is_summed = is_summed(&found, bytes) && found.header_checksum_ok(bytes);
        Some(Self { sequence: tcp.sequence, payload, flags: tcp.flags, identification, headers, is_summed })
    }
}

/// The part of a train that was seen leaving, from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes of its payload.
    pub(super) bytes: usize,
    /// Packets that they left in.
    pieces: u16,
}

impl Progress {
    /// Compares what comes next of `whole` with `piece` from its byte `from` on. Returns how many bytes are the same in
    /// both; `None` if a byte differs, or a header.
    pub(super) fn compare(
        self,
        whole: &Segment<'_>,
        piece: &Segment<'_>,
        from: usize,
        bad_checksum: bool,
    ) -> Option<usize> {
        let at = whole.sequence + u32::try_from(self.bytes).ok()?;
        if at != piece.sequence + u32::try_from(from).ok()? || whole.headers != piece.headers {
            return None;
        }
        let rest = whole.payload.get(self.bytes..).filter(|rest| !rest.is_empty())?;
        let shown = piece.payload.get(from..).filter(|shown| !shown.is_empty())?;
        let len = rest.len().min(shown.len());
        let is_identified = from > 0 || self.may_have(whole.identification, piece.identification);
        let is_first = self.bytes == 0;
        let is_reduced = !piece.flags.has(CWR) || from > 0 || is_first && whole.flags.has(CWR);
        let same =
            rest.get(..len) == shown.get(..len) && is_identified && is_reduced && (piece.is_summed || bad_checksum);
        same.then_some(len)
    }

    /// Returns true if a piece that begins here may have this identification: pieces count on from that of the whole, or
    /// all have the same.
    fn may_have(self, whole: Option<u16>, piece: Option<u16>) -> bool {
        whole == piece || whole.map(|whole| whole.wrapping_add(self.pieces)) == piece
    }

    /// Returns the progress after `bytes` more in one packet.
    pub(super) const fn after(self, bytes: usize) -> Self {
        Self { bytes: self.bytes + bytes, pieces: self.pieces.wrapping_add(1) }
    }
}

/// Returns the flags of a segment that only the last piece of a train has.
pub(super) const fn last_flags(segment: &Segment<'_>) -> u8 {
    segment.flags.0 & LAST
}
