//! Packets that a capture lacks and that must have passed.

use std::vec::Vec;

use crate::SequenceNumber;
use crate::packet::{Family, Headers, TcpFlags};

/// Window scale 14, the largest: the real one is not known.
const SYN_OPTIONS: [u8; 4] = [1, 3, 3, 14];

/// A TCP segment that stands for one or more missing ones.
#[derive(Clone, Copy)]
pub(super) struct Synthetic {
    pub(super) sequence: SequenceNumber,
    pub(super) acknowledgement: SequenceNumber,
    pub(super) flags: u8,
    /// Number of blanks; the last is a line feed.
    pub(super) payload: u16,
}

impl Synthetic {
    /// Returns the IP packet, between the same ends as `like`, and the other way if `reversed`.
    pub(super) fn packet(&self, like: &[u8], headers: &Headers, reversed: bool) -> Option<Vec<u8>> {
        let (source, destination) = headers.ports(like)?;
        let (addresses, length_at) = match headers.family {
            Family::V4 => (like.get(12..20)?, 2),
            Family::V6 => (like.get(8..40)?, 4),
        };
        let (first, second) = addresses.split_at(addresses.len() / 2);
        let options = if self.flags & TcpFlags::SYN != 0 { &SYN_OPTIONS[..] } else { &[] };
        let segment = 20 + options.len() as u16 + self.payload;
        let mut bytes = match headers.family {
            Family::V4 => [&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0][..]].concat(),
            Family::V6 => [&[0x60, 0, 0, 0, 0, 0, 6, 64][..]].concat(),
        };
        let total = if length_at == 2 { segment + 20 } else { segment };
        bytes.get_mut(length_at..length_at + 2)?.copy_from_slice(&total.to_be_bytes());
        let (ends, ports) =
            if reversed { ([second, first], [destination, source]) } else { ([first, second], [source, destination]) };
        ends.iter().for_each(|end| bytes.extend_from_slice(end));
        ports.iter().for_each(|port| bytes.extend_from_slice(&port.to_be_bytes()));
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        bytes.extend_from_slice(&self.acknowledgement.0.to_be_bytes());
        bytes.extend_from_slice(&[0x50 + ((options.len() as u8 / 4) << 4), self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend_from_slice(options);
        let end = bytes.len() + usize::from(self.payload);
        bytes.resize(end, b' ');
        if self.payload > 0 {
            *bytes.last_mut()? = b'\n';
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Layer4;

    #[test]
    fn the_packet_can_be_read() {
        let mut like = std::vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 20, 4, 1];
        like.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 9, 0, 0, 0, 0]);
        let headers = Headers::find(&like).unwrap();
        let made_up = Synthetic {
            sequence: SequenceNumber(7),
            acknowledgement: SequenceNumber(9),
            flags: TcpFlags::SYN | TcpFlags::ACK,
            payload: 3,
        };
        let bytes = made_up.packet(&like, &headers, true).unwrap();
        let read = Headers::find_cut(&bytes).unwrap();
        assert_eq!((read.ports(&bytes), read.end), (Some((1025, 20)), bytes.len()));
        assert_eq!(read.source(&bytes), core::net::IpAddr::from([10, 0, 0, 2]));
        assert_eq!(read.payload(&bytes), b"  \n");
        assert!(matches!(read.layer4, Layer4::Tcp(segment) if segment.sequence == SequenceNumber(7)));
    }
}
