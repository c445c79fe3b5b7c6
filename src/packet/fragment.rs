//! Cutting a packet into fragments, and making it whole again (RFC 791 section 3.2, RFC 8200 section 4.5).

use super::{Family, Headers, Packet};

/// Returns true if an IPv4 packet says that it must not be fragmented.
pub(crate) fn must_not_be_cut(bytes: &[u8]) -> bool {
    bytes.get(6).is_some_and(|flags| flags & 0x40 != 0)
}

/// The length of an IPv4 header.
fn header_len(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |b| usize::from(b & 15) * 4)
}

/// The layout of a packet's fragments: the part that is in every one, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    family: Family,
    /// The length of the headers that every part has, without the IPv6 fragment header.
    header: usize,
    /// IPv6: where the header that follows them is named, and what the parts have in common.
    named_at: usize,
    identification: u32,
}

impl Cut {
    /// The length of an IPv6 fragment header.
    const FRAGMENT_HEADER: usize = 8;
    /// Protocol number of the fragment header.
    const FRAGMENT: u8 = 44;

    /// For an IPv4 packet.
    pub(crate) fn v4(bytes: &[u8]) -> Self {
        Self { family: Family::V4, header: header_len(bytes), named_at: 0, identification: 0 }
    }

    /// For an IPv6 packet with a fragment header behind its first `header` bytes, in which `named_at` names what
    /// follows.
    pub(crate) const fn v6(header: usize, named_at: usize, identification: u32) -> Self {
        Self { family: Family::V6, header, named_at, identification }
    }

    /// The length of the headers of a part.
    pub(crate) const fn overhead(&self) -> usize {
        match self.family {
            Family::V4 => self.header,
            Family::V6 => self.header + Self::FRAGMENT_HEADER,
        }
    }

    /// The length of what is cut.
    pub(crate) const fn body(&self, whole: &[u8]) -> usize {
        whole.len().saturating_sub(self.header)
    }

    /// Writes the part of `whole` that carries `len` bytes from `offset` of what is cut. Gives its length; `None` when it
    /// does not fit.
    pub(crate) fn write(&self, out: &mut [u8], whole: &[u8], offset: usize, len: usize) -> Option<usize> {
        let part = whole.get(self.header + offset..self.header + offset + len)?;
        let overhead = self.overhead();
        let out = out.get_mut(..overhead + len)?;
        out.get_mut(..self.header)?.copy_from_slice(whole.get(..self.header)?);
        out.get_mut(overhead..)?.copy_from_slice(part);
        let more = offset + len < self.body(whole);
        match self.family {
            Family::V4 => {
                let keep = u16::from(*whole.get(6)?) << 8 & 0x4000;
                let field = keep | u16::from(more) << 13 | u16::try_from(offset / 8).ok()?;
                out.get_mut(2..4)?.copy_from_slice(&u16::try_from(overhead + len).ok()?.to_be_bytes());
                out.get_mut(6..8)?.copy_from_slice(&field.to_be_bytes());
                if offset > 0 {
                    blank_options(out.get_mut(20..self.header)?);
                }
                Headers::find(out).ok()?.fill_header_checksum(out);
            }
            Family::V6 => {
                let next = core::mem::replace(out.get_mut(self.named_at)?, Self::FRAGMENT);
                let [field0, field1] = (u16::try_from(offset).ok()? | u16::from(more)).to_be_bytes();
                let header = out.get_mut(self.header..overhead)?;
                header.get_mut(..4)?.copy_from_slice(&[next, 0, field0, field1]);
                header.get_mut(4..)?.copy_from_slice(&self.identification.to_be_bytes());
                out.get_mut(4..6)?.copy_from_slice(&u16::try_from(overhead + len - 40).ok()?.to_be_bytes());
            }
        }
        Some(out.len())
    }
}

/// Returns the place where an IPv6 packet is cut: the length of the headers that every fragment has, and the place
/// where they name the next one (RFC 8200 section 4.5: hop-by-hop options, routing, and destination options before
/// that).
pub(crate) fn unfragmentable_v6(bytes: &[u8]) -> (usize, usize) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut at, mut named_at, mut routed) = (40, 6, false);
    while let (Some(next), Some(words)) = (bytes.get(named_at), bytes.get(at + 1)) {
        match *next {
            DESTINATION if routed => break,
            HOP_BY_HOP | DESTINATION => {}
            ROUTING => routed = true,
            _ => break,
        }
        (named_at, at) = (at, at + (usize::from(*words) + 1) * 8);
    }
    (at, named_at)
}

/// Returns the place of the first fragment header of an IPv6 packet, and the place where it is named; `None` without
/// one, or if it belongs to a real fragment.
pub(crate) fn atomic_fragment_header(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    const AUTHENTICATION: u8 = 51;
    let (mut at, mut named_at) = (40, 6);
    loop {
        let [_, words, high, low, ..] = *bytes.get(at..end)?.first_chunk::<8>()?;
        let length = match *bytes.get(named_at)? {
            0 | 43 | 60 => (usize::from(words) + 1) * 8,
            AUTHENTICATION => (usize::from(words) + 2) * 4,
            Cut::FRAGMENT => {
                let is_atomic = u16::from_be_bytes([high, low]) & !6 == 0;
                return is_atomic.then_some((at, named_at));
            }
            _ => return None,
        };
        (named_at, at) = (at, at + length);
    }
}

/// Options that are not copied into every fragment become no-operations (RFC 791 section 3.1).
fn blank_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(kind) = options.get(at).copied() {
        let len = match kind {
            0 => return,
            1 => 1,
            _ => options.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        if len == 0 || at + len > options.len() {
            return;
        }
        if kind & 0x80 == 0 {
            options[at..at + len].fill(1);
        }
        at += len;
    }
}

impl Packet<'_> {
    /// Takes the fragment header out of an IPv6 packet that is whole.
    pub(crate) fn remove_atomic_fragment_header(&mut self, (at, named_at): (usize, usize)) {
        let Some(next) = self.bytes().get(at).copied() else { return };
        let length = self.bytes().len().saturating_sub(40 + 8);
        if let Some(named) = self.bytes_mut().get_mut(named_at) {
            *named = next;
        }
        if let Some(field) = self.bytes_mut().get_mut(4..6) {
            field.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.splice(at..at + 8, &[]);
    }

    /// Makes a whole packet of what was gathered behind the headers of its first part: sets its length, and that it is
    /// no part. `next` is what the IPv6 fragment header said follows, and where it is to be said now.
    pub(crate) fn become_whole(&mut self, must_not_be_cut: bool, next: (usize, u8)) {
        let len = self.bytes().len();
        let bytes = self.bytes_mut();
        let is_v6 = bytes.first().is_some_and(|b| b >> 4 == 6);
        let length = u16::try_from(if is_v6 { len.saturating_sub(40) } else { len }).unwrap_or(u16::MAX).to_be_bytes();
        if is_v6 {
            if let Some(field) = bytes.get_mut(4..6) {
                field.copy_from_slice(&length);
            }
            if let Some(named) = bytes.get_mut(next.0) {
                *named = next.1;
            }
        } else if let Some([_, _, a, b, _, _, flags, offset, ..]) = bytes.get_mut(..8) {
            [*a, *b] = length;
            (*flags, *offset) = (if must_not_be_cut { 0x40 } else { 0 }, 0);
        }
        if let Ok(headers) = Headers::find(self.bytes()) {
            headers.fill_header_checksum(self.bytes_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_carry_their_place() {
        let mut whole = [7; 24 + 40];
        whole[..24].copy_from_slice(&[
            0x46, 0, 0, 64, 0, 9, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x44, 4, 5,
            0, // a timestamp option
        ]);
        let cut = Cut::v4(&whole);
        let mut out = [0; 64];
        assert_eq!(cut.write(&mut out, &whole, 0, 16), Some(40));
        assert_eq!((out[6..8].to_vec(), &out[20..24]), (alloc::vec![0x20, 0], &[0x44, 4, 5, 0][..]));
        assert_eq!(cut.write(&mut out, &whole, 16, 24), Some(48));
        assert_eq!((out[6..8].to_vec(), &out[20..24]), (alloc::vec![0, 2], &[1, 1, 1, 1][..]));
        assert!(Headers::find(&out[..48]).unwrap().header_checksum_ok(&out[..48]));
        assert_eq!(cut.write(&mut out, &whole, 32, 16), None);
    }

    #[test]
    fn an_ipv6_part_has_a_fragment_header() {
        let mut whole = [7; 40 + 40];
        whole[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 40, 17, 64]);
        let mut out = [0; 80];
        assert_eq!(Cut::v6(40, 6, 0x0102_0304).write(&mut out, &whole, 16, 24), Some(72));
        assert_eq!((out[4..7].to_vec(), &out[40..48]), (alloc::vec![0, 32, 44], &[17, 0, 0, 16, 1, 2, 3, 4][..]));
        let part = Headers::find(&out[..72]).unwrap().fragment.unwrap();
        assert_eq!((part.offset, part.more, part.header, part.body), (16, false, 40, 48));
    }
}
