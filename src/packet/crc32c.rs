//! SCTP's checksum: CRC-32C (RFC 9260 appendix A).
//!
//! Unlike the Internet checksum it cannot be mended by the difference: where a port changes it is computed anew, over the
//! whole packet, as Linux does. One that arrived wrong then leaves right.
//!
//! ```
//! use ftp_conntrack::packet::crc32c;
//!
//! assert_eq!(crc32c::checksum(&[b"1234", b"56789"]), 0xe306_9283);
//! ```

/// The polynomial of Castagnoli, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Remainder of each byte.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The CRC-32C of these stretches, one behind the other. On the wire its lowest byte stands first.
#[must_use]
pub fn checksum(stretches: &[&[u8]]) -> u32 {
    let bytes = stretches.iter().flat_map(|stretch| stretch.iter());
    // Eight bits cannot lie outside the table.
    !bytes.fold(u32::MAX, |value, byte| value >> 8 ^ TABLE[usize::from(value as u8 ^ byte)])
}

/// The checksum of an SCTP packet, in which its own field counts as zeros.
pub(super) fn of_sctp(packet: &[u8]) -> u32 {
    let (before, rest) = packet.split_at_checked(8).unwrap_or((packet, &[]));
    checksum(&[before, &[0; 4], rest.get(4..).unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3720_examples() {
        // RFC 3720 appendix B.4.
        assert_eq!(checksum(&[&[0; 32]]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(checksum(&[&[0xff; 32]]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(checksum(&[&ascending]).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(checksum(&[]), 0);
    }

    #[test]
    fn the_field_itself_does_not_count() {
        // A packet that left a Linux router: INIT, 203.0.113.7:5007 > 99.
        let packet = [
            0x13, 0x8f, 0, 0x63, 0, 0, 0, 0, 0x8b, 0x48, 0x34, 0x1f, 1, 0, 0, 0x14, 0x11, 0x11, 0x11, 0x11, //
            0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 7,
        ];
        assert_eq!(of_sctp(&packet).to_le_bytes(), packet[8..12]);
        assert_eq!(of_sctp(&packet[..4]), checksum(&[&packet[..4], &[0; 4]]));
    }
}
