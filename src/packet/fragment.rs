//! Cutting an IPv4 packet into fragments (RFC 791 section 3.2).

use super::{Headers, Packet};

/// Whether an IPv4 packet says that it must not be cut.
pub(crate) fn must_not_be_cut(bytes: &[u8]) -> bool {
    bytes.get(6).is_some_and(|flags| flags & 0x40 != 0)
}

/// The length of an IPv4 header.
pub(crate) fn header_len(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |b| usize::from(b & 15) * 4)
}

/// Writes the fragment of `whole` that carries `len` bytes from `offset` of what follows the IPv4 header, into `out`.
/// Gives its length; `None` when it does not fit.
pub(crate) fn write_fragment(out: &mut [u8], whole: &[u8], offset: usize, len: usize) -> Option<usize> {
    let header = header_len(whole);
    let body = whole.get(header..)?;
    let part = body.get(offset..offset + len)?;
    let out = out.get_mut(..header + len)?;
    out.get_mut(..header)?.copy_from_slice(whole.get(..header)?);
    out.get_mut(header..)?.copy_from_slice(part);
    let more = u16::from(offset + len < body.len()) << 13;
    let keep = u16::from(*whole.get(6)?) << 8 & 0x4000;
    let field = keep | more | u16::try_from(offset / 8).ok()?;
    out.get_mut(2..4)?.copy_from_slice(&u16::try_from(header + len).ok()?.to_be_bytes());
    out.get_mut(6..8)?.copy_from_slice(&field.to_be_bytes());
    if offset > 0 {
        blank_options(out.get_mut(20..header)?);
    }
    Headers::find(out).ok()?.fill_header_checksum(out);
    Some(out.len())
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
    /// Makes a whole packet of what was gathered behind the header of its first fragment: sets its length, and that it
    /// is no fragment.
    pub(crate) fn become_whole(&mut self, must_not_be_cut: bool) {
        let len = self.bytes().len();
        let bytes = self.bytes_mut();
        if let (Ok(len), Some([_, _, a, b, _, _, flags, offset, ..])) = (u16::try_from(len), bytes.get_mut(..8)) {
            [*a, *b] = len.to_be_bytes();
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
        let mut out = [0; 64];
        assert_eq!(write_fragment(&mut out, &whole, 0, 16), Some(40));
        assert_eq!((out[6..8].to_vec(), &out[20..24]), (alloc::vec![0x20, 0], &[0x44, 4, 5, 0][..]));
        assert_eq!(write_fragment(&mut out, &whole, 16, 24), Some(48));
        assert_eq!((out[6..8].to_vec(), &out[20..24]), (alloc::vec![0, 2], &[1, 1, 1, 1][..]));
        assert!(Headers::find(&out[..48]).unwrap().header_checksum_ok(&out[..48]));
        assert_eq!(write_fragment(&mut out, &whole, 32, 16), None);
    }
}
