//! The maximum segment size option of a SYN, which TCPMSS lowers or adds.

use super::edit::{update, write};
use super::headers::read_array;
use super::{Family, Headers, Layer4, Packet, TcpOptions, checksum};

/// The maximum segment size that is taken for granted where a SYN names none (RFC 9293 section 3.7.1).
const DEFAULT_MSS: [u16; 2] = [536, 1220];

impl Packet<'_> {
    /// Lowers the maximum segment size that a TCP header names, or adds the option where there is none and the packet
    /// has no data (TCPMSS). It is never raised. Without room for an option that is to be added, nothing changes.
    pub(crate) fn clamp_mss(&mut self, headers: &mut Headers, mss: u16) {
        match named_mss(headers, self.bytes()) {
            Some((at, old)) if old > mss => headers.set_mss(self.bytes_mut(), 20 + at, old, mss),
            Some(_) => {}
            None => self.add_mss(headers, mss.min(DEFAULT_MSS[usize::from(headers.family == Family::V6)])),
        }
    }

    /// Puts the option in front of the others.
    fn add_mss(&mut self, headers: &mut Headers, mss: u16) {
        let Layer4::Tcp(segment) = &mut headers.layer4 else { return };
        let full = segment.payload - headers.transport >= 60;
        if full || segment.payload < headers.end || self.tail_room() < 4 {
            return;
        }
        let [high, low] = mss.to_be_bytes();
        let at = headers.transport + 20;
        self.splice(at..at, &[TcpOptions::MSS, 4, high, low]);
        segment.payload += 4;
        headers.end += 4;
        if let Some(offset) = self.bytes_mut().get_mut(headers.transport + 12) {
            *offset = offset.wrapping_add(0x10);
        }
        headers.write_length(self.bytes_mut());
        headers.fill_header_checksum(self.bytes_mut());
        headers.fill_transport_checksum(self.bytes_mut());
    }
}

/// The maximum segment size that a TCP header names, and where from the first option. As on 6.18, the option counts after
/// an end-of-options byte too.
fn named_mss(headers: &Headers, bytes: &[u8]) -> Option<(usize, u16)> {
    const OPTION: [u8; 2] = [TcpOptions::MSS, 4];
    let Layer4::Tcp(segment) = headers.layer4 else { return None };
    let options = bytes.get(headers.transport + 20..segment.payload)?;
    let mut at = 0;
    while let Some([kind, length, high, low]) = read_array(options, at) {
        if [kind, length] == OPTION {
            return Some((at + 2, u16::from_be_bytes([high, low])));
        }
        at += if kind <= 1 { 1 } else { usize::from(length).max(1) };
    }
    None
}

impl Headers {
    /// Changes the two bytes of an option's value. At an odd place the checksum is then wrong, as with
    /// [`Headers::set_tcp_word`].
    fn set_mss(&self, bytes: &mut [u8], at: usize, old: u16, new: u16) {
        write(bytes, self.transport + at, &new.to_be_bytes());
        update(bytes, self.transport + 16, |sum| checksum::replace_u16(sum, old, new));
    }
}

#[cfg(test)]
mod tests {
    use super::super::edit::tests::{assert_right, segment};
    use super::*;

    #[test]
    fn the_segment_size_is_lowered_or_added_but_never_raised() {
        for (options, expected) in [
            (&[2, 4, 5, 0xb4][..], &[2, 4, 4, 0][..]),
            (&[1, 1, 2, 4, 5, 0xb4, 1, 1], &[1, 1, 2, 4, 4, 0, 1, 1]),
            (&[2, 4, 2, 0], &[2, 4, 2, 0]),
            (&[3, 3, 7, 0, 2, 4, 5, 0xb4], &[3, 3, 7, 0, 2, 4, 4, 0]),
            (&[], &[2, 4, 2, 0x18]),
            (&[1, 3, 3, 7], &[2, 4, 2, 0x18, 1, 3, 3, 7]),
        ] {
            let mut buffer = segment(options, b"");
            let len = buffer.len();
            buffer.resize(len + 8, 0xee);
            let mut packet = Packet::new(&mut buffer, 0..len).unwrap();
            let mut headers = Headers::find(packet.bytes()).unwrap();
            packet.clamp_mss(&mut headers, 1024);
            assert_eq!(&packet.bytes()[40..], expected);
            assert_right(packet.bytes());
            assert_eq!(Headers::find(packet.bytes()).unwrap(), headers);
        }
        let mut with_data = segment(&[], b"x");
        let mut packet = Packet::new(&mut with_data, 0..41).unwrap();
        let mut headers = Headers::find(packet.bytes()).unwrap();
        packet.clamp_mss(&mut headers, 1024);
        assert_eq!(packet.bytes().len(), 41);
    }
}
