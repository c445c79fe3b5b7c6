//! From what a frame carries to the innermost packet: parts are put together, tunnels are entered.

use std::vec::Vec;

use super::icmp::IcmpError;
use super::{FramePos, Summary};
use crate::packet::tunnel::{self, MAX_TUNNELS, Tunnel};
use crate::packet::{Headers, Layer4, Packet, Segment};
use crate::router::{Fragments, Gathered};

/// So many packets may wait for missing parts at once.
const MAX_INCOMPLETE: usize = 32;

/// Finds packets, and keeps the one found.
pub(crate) struct Packets {
    fragments: Fragments,
    /// The innermost packet, zeros for what was not captured of it, and room.
    pub(crate) buffer: Vec<u8>,
    /// The ICMP error that the latest packet is.
    pub(super) icmp_error: Option<IcmpError>,
}

/// A TCP packet, in the buffer.
pub(crate) struct TcpPacket {
    pub(crate) headers: Headers,
    pub(crate) segment: Segment,
    /// Number of bytes that were captured.
    pub(crate) captured: usize,
    /// Length in bytes.
    pub(crate) length: usize,
    pub(crate) tunnel: Option<Tunnel>,
}

impl Packets {
    pub(crate) fn new() -> Self {
        Self { fragments: Fragments::new(MAX_INCOMPLETE), buffer: Vec::new(), icmp_error: None }
    }

    /// The innermost packet of `bytes`, if it is TCP; what else there is is counted. `original`: how long the packet was
    /// before the capture cut it.
    pub(crate) fn find(
        &mut self,
        at: FramePos,
        bytes: &[u8],
        original: usize,
        summary: &mut Summary,
    ) -> Option<TcpPacket> {
        let mut whole: Vec<u8>;
        self.icmp_error = None;
        let (mut bytes, mut original) = (bytes, original);
        let (mut tunnel, mut depth) = (None, 0);
        loop {
            let headers = self.headers(bytes, original, summary)?;
            if let Some(fragment) = headers.fragment {
                if bytes.len() < headers.end {
                    summary.malformed += 1;
                    return None;
                }
                match self.fragments.gather(at.time, None, bytes, &headers, fragment) {
                    Gathered::Waits | Gathered::Refused | Gathered::Passes => {
                        summary.parts += 1;
                        return None;
                    }
                    Gathered::Whole(gathered) => {
                        whole = gathered.buffer.get(gathered.range.clone()).unwrap_or_default().to_vec();
                        self.fragments.give_back(gathered);
                        (bytes, original) = (&whole, whole.len());
                        depth += 1;
                        if depth > MAX_TUNNELS {
                            return None;
                        }
                        continue;
                    }
                }
            }
            let captured = bytes.get(..headers.end.min(bytes.len())).unwrap_or_default();
            match tunnel::find_inner(captured, &headers) {
                Some(inner) if depth < MAX_TUNNELS => {
                    summary.tunnelled += u64::from(tunnel.is_none());
                    tunnel = Some(inner.tunnel);
                    depth += 1;
                    bytes = captured.get(inner.offset..).unwrap_or_default();
                    original = headers.end.saturating_sub(inner.offset);
                }
                _ => return self.keep(captured, &headers, tunnel),
            }
        }
    }

    /// The headers of a packet. Where hardware cuts segments for the system, captures show a length of zero: that is
    /// mended, in a copy.
    fn headers(&mut self, bytes: &[u8], original: usize, summary: &mut Summary) -> Option<Headers> {
        match Headers::find_cut(bytes) {
            Ok(headers) if headers.end > headers.transport || headers.fragment.is_some() => Some(headers),
            Ok(_) | Err(_) => {
                let mended = self.mend(bytes, original).and_then(|()| Headers::find_cut(&self.buffer).ok());
                summary.malformed += u64::from(mended.is_none());
                mended
            }
        }
    }

    /// Puts a copy of the headers of a packet with length zero into the buffer, with its length.
    fn mend(&mut self, bytes: &[u8], original: usize) -> Option<()> {
        let (at, length) = match bytes.first()? >> 4 {
            4 if bytes.get(2..4)? == [0, 0] => (2, original),
            6 if bytes.get(4..6)? == [0, 0] => (4, original.checked_sub(40)?),
            _ => return None,
        };
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.buffer.get_mut(at..at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// Keeps a TCP packet as far as it was captured, with zeros behind.
    fn keep(&mut self, captured: &[u8], headers: &Headers, tunnel: Option<Tunnel>) -> Option<TcpPacket> {
        self.icmp_error = IcmpError::read(captured, headers);
        if headers.ports(captured).is_none() || headers.protocol != crate::packet::Protocol::TCP {
            return None;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(captured);
        self.buffer.resize(headers.end + Packet::ROOM, 0);
        let length_at = if captured.first()? >> 4 == 4 { 2 } else { 4 };
        if captured.get(length_at..length_at + 2)? == [0, 0] {
            let length = if length_at == 2 { headers.end } else { headers.end.checked_sub(40)? };
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            self.buffer.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        }
        let headers = Headers::find_cut(&self.buffer).ok()?;
        let Layer4::Tcp(segment) = headers.layer4 else { return None };
        Some(TcpPacket { headers, segment, captured: captured.len(), length: headers.end, tunnel })
    }
}
