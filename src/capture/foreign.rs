//! Formats that are recognised, to name what converts them.

use core::fmt;

/// A format that is neither pcap nor pcapng, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Foreign {
    /// `snoop` of Solaris (RFC 1761).
    Snoop,
    /// Microsoft Network Monitor 1.
    NetworkMonitor1,
    /// Microsoft Network Monitor 2.
    NetworkMonitor2,
    /// Sniffer for DOS.
    Sniffer,
    /// Sniffer for Windows, or NetXRay.
    NetXRay,
    /// Endace's extensible record format; it has no magic, so this is a guess.
    Erf,
    /// Bluetooth HCI log.
    Btsnoop,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// LZ4 frame.
    Lz4,
    /// Zip archive.
    Zip,
}

impl Foreign {
    /// Number of bytes that [`recognise`](Self::recognise) looks at.
    pub(super) const LOOK: usize = 16;

    /// The format of a file that begins with `first`.
    pub(super) fn recognise(first: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Foreign); 12] = [
            (b"snoop\0\0\0", Foreign::Snoop),
            (b"RTSS", Foreign::NetworkMonitor1),
            (b"GMBU", Foreign::NetworkMonitor2),
            (b"TRSNIFF data    ", Foreign::Sniffer),
            (b"XCP\0", Foreign::NetXRay),
            (b"btsnoop\0", Foreign::Btsnoop),
            (b"\x1f\x8b", Foreign::Gzip),
            (b"\x28\xb5\x2f\xfd", Foreign::Zstd),
            (b"\xfd7zXZ\0", Foreign::Xz),
            (b"BZh", Foreign::Bzip2),
            (b"\x04\x22\x4d\x18", Foreign::Lz4),
            (b"PK\x03\x04", Foreign::Zip),
        ];
        let by_magic = MAGIC.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, format)| *format);
        by_magic.or_else(|| looks_like_erf(first).then_some(Self::Erf))
    }

    /// The command that makes pcapng of it, or unpacks it.
    #[must_use]
    pub const fn converter(self) -> &'static str {
        match self {
            Self::Gzip => "gunzip FILE",
            Self::Zstd => "unzstd FILE",
            Self::Xz => "unxz FILE",
            Self::Bzip2 => "bunzip2 FILE",
            Self::Lz4 => "unlz4 FILE",
            Self::Zip => "unzip FILE",
            _ => "editcap -F pcapng IN OUT",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snoop => "snoop",
            Self::NetworkMonitor1 => "Microsoft Network Monitor 1",
            Self::NetworkMonitor2 => "Microsoft Network Monitor 2",
            Self::Sniffer => "Sniffer (DOS)",
            Self::NetXRay => "Sniffer (Windows)",
            Self::Erf => "ERF (by its looks)",
            Self::Btsnoop => "btsnoop",
            Self::Gzip => "gzip",
            Self::Zstd => "Zstandard",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "LZ4",
            Self::Zip => "a Zip archive",
        })
    }
}

/// A first ERF record: eight bytes of time, the seconds the latter four (little-endian); type; flags; length of the
/// record with its 16 bytes of header; losses; length on the wire.
fn looks_like_erf(first: &[u8]) -> bool {
    let &[_, _, _, _, s0, s1, s2, s3, kind, _, l0, l1, _, _, w0, w1, ..] = first else {
        return false;
    };
    /// 1995, when the format's makers began.
    const EARLIEST: u32 = 788_918_400;
    let length = u16::from_be_bytes([l0, l1]);
    u32::from_le_bytes([s0, s1, s2, s3]) >= EARLIEST
        && (1..=48).contains(&(kind & 0x7f))
        // The upper bound keeps text out.
        && (17..0x2000).contains(&length)
        && u16::from_be_bytes([w0, w1]) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn recognised_by_first_bytes() {
        let cases: [(&[u8], Foreign, &str); 8] = [
            (b"snoop\0\0\0\0\0\0\x02", Foreign::Snoop, "snoop"),
            (b"GMBU\0\x02", Foreign::NetworkMonitor2, "Microsoft Network Monitor 2"),
            (b"RTSS\x01\x01", Foreign::NetworkMonitor1, "Microsoft Network Monitor 1"),
            (b"TRSNIFF data    \x1a", Foreign::Sniffer, "Sniffer (DOS)"),
            (b"XCP\x00002.002\0", Foreign::NetXRay, "Sniffer (Windows)"),
            (b"\x1f\x8b\x08\x08", Foreign::Gzip, "gzip"),
            (b"\x28\xb5\x2f\xfd", Foreign::Zstd, "Zstandard"),
            (b"\0\x47\x2f\0\x81\xd7\x48\x41\x02\x05\0\x48\0\0\x03\x3b", Foreign::Erf, "ERF (by its looks)"),
        ];
        for (first, format, name) in cases {
            assert_eq!(Foreign::recognise(first), Some(format));
            assert_eq!(format.to_string(), name);
        }
        assert_eq!(Foreign::Gzip.converter(), "gunzip FILE");
        assert_eq!(Foreign::Snoop.converter(), "editcap -F pcapng IN OUT");
    }

    #[test]
    fn others_are_not() {
        for first in [&b""[..], b"snoop", b"hello, world, this is text", b"some text 1 2 3 4 5", &[0; 16]] {
            assert_eq!(Foreign::recognise(first), None);
        }
    }
}
