//! pcap: one header, then records (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::bytes::Order;
use super::clock::Stamp;
use super::error::{Damage, Stop};
use super::record::{Direction, Interface};
use super::source::Source;
use super::{MAX_BLOCK, reader};
use crate::packet::link::LinkType;

/// The magic number with times in microseconds.
const MICROS: u32 = 0xa1b2_c3d4;
/// The magic number with times in nanoseconds.
const NANOS: u32 = 0xa1b2_3c4d;
/// The magic number of the format that a libpcap modified for Linux wrote: records bear the interface's index, the
/// protocol and the packet type, too.
const MODIFIED: u32 = 0xa1b2_cd34;

/// Bytes of the file's header.
const FILE_HEADER: usize = 24;
/// Bits of the link type field that are the link type; those above tell of frame check sequences.
const LINK_TYPE_BITS: u32 = 0x03ff_ffff;
/// The longest frame allowed where the file's snap length is smaller, as in libpcap: some files claim 0 or less than
/// they hold.
const USUAL_LIMIT: u32 = 262_144;

/// The layout of a file's records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    order: Order,
    variant: Variant,
    lengths: Lengths,
    /// The longest captured length that is believed.
    limit: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    Micros,
    Nanos,
    Modified,
}

/// Which of a record's two lengths comes first. Before version 2.3 it was that on the wire; files of 2.3 have either.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    SmallerIsCaptured,
}

/// Byte order and variant of a file that begins with `first`.
fn recognise(first: &[u8]) -> Option<(Order, Variant)> {
    let variants = [(MICROS, Variant::Micros), (NANOS, Variant::Nanos), (MODIFIED, Variant::Modified)];
    variants.into_iter().find_map(|(magic, variant)| Some((Order::of_magic(first, magic)?, variant)))
}

/// Returns true if a file that begins with `first` is pcap.
pub(super) fn is_pcap(first: &[u8]) -> bool {
    recognise(first).is_some()
}

/// Reads the file's header: the layout of its records, and its one interface.
pub(super) fn open(source: &mut Source<impl Read>) -> Result<(Layout, Interface), Stop> {
    let header = source.peek(FILE_HEADER)?.ok_or(Stop::Truncated)?;
    let (layout, interface) = parse_header(header)?.ok_or(Stop::Truncated)?;
    source.take(FILE_HEADER);
    Ok((layout, interface))
}

/// Magic, version, two numbers that nobody sets, snap length, link type. `None`: too short.
fn parse_header(header: &[u8]) -> Result<Option<(Layout, Interface)>, Stop> {
    let fields = || {
        let (order, variant) = recognise(header)?;
        let version = (order.u16(header, 4)?, order.u16(header, 6)?);
        Some((order, variant, version, order.u32(header, 16)?, order.u32(header, 20)?))
    };
    let Some((order, variant, version, snaplen, link_type)) = fields() else {
        return Ok(None);
    };
    let lengths = match version {
        (2, 0..=2) => Lengths::OriginalFirst,
        (2, 3) => Lengths::SmallerIsCaptured,
        (2, _) => Lengths::CapturedFirst,
        (major, minor) => return Err(Stop::Damaged(Damage::Version { major, minor })),
    };
    let limit = snaplen.clamp(USUAL_LIMIT, MAX_BLOCK);
    let link_type = LinkType(link_type & LINK_TYPE_BITS);
    let interface = Interface { name: None, link_type, snaplen, nanoseconds: variant == Variant::Nanos };
    Ok(Some((Layout { order, variant, lengths, limit }, interface)))
}

/// A record's header.
struct Header {
    seconds: u32,
    fraction: u32,
    captured: u32,
    original: u32,
    direction: Direction,
}

impl Layout {
    /// The next record.
    pub(super) fn step(&self, source: &mut Source<impl Read>) -> Result<reader::Step, Stop> {
        let Some(bytes) = source.peek(self.header_length())? else {
            return Ok(reader::Step::End);
        };
        let header = self.header(bytes).ok_or(Stop::Truncated)?;
        if header.captured > self.limit {
            return Err(Stop::Damaged(Damage::TooLong(header.captured)));
        }
        let whole = self.header_length() + header.captured as usize;
        source.peek(whole)?;
        Ok(reader::Step::Packet(reader::Entry {
            whole,
            at: self.header_length(),
            captured: header.captured as usize,
            original: header.original,
            interface: 0,
            stamp: self.stamp(&header),
            direction: header.direction,
        }))
    }

    const fn header_length(&self) -> usize {
        match self.variant {
            Variant::Micros | Variant::Nanos => 16,
            Variant::Modified => 24,
        }
    }

    /// Seconds, fraction, two lengths; if modified, interface index (4), protocol (2), packet type (1), padding (1).
    fn header(&self, bytes: &[u8]) -> Option<Header> {
        let number = |at| self.order.u32(bytes, at);
        let (first, second) = (number(8)?, number(12)?);
        let (captured, original) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        let direction = match self.variant {
            Variant::Micros | Variant::Nanos => Direction::Unknown,
            Variant::Modified => direction_of(number(16)?, *bytes.get(22)?),
        };
        Some(Header { seconds: number(0)?, fraction: number(4)?, captured, original, direction })
    }

    /// Fractions of a second and more are added: files have them.
    fn stamp(&self, header: &Header) -> Stamp {
        let unit = if self.variant == Variant::Nanos { 1 } else { 1000 };
        Stamp::from_nanos(i128::from(header.seconds) * 1_000_000_000 + i128::from(header.fraction) * unit)
    }
}

/// The direction that Linux' packet type tells. Tools that make such files leave the fields zero, which would read as
/// "to this host"; no interface has the index 0.
const fn direction_of(interface: u32, packet_type: u8) -> Direction {
    match (interface, packet_type) {
        (1.., 0..=3) => Direction::In,
        (1.., 4) => Direction::Out,
        _ => Direction::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReadError;
    use super::super::build::{Build, only_error, read_all};
    use super::*;
    use std::vec::Vec;

    const ORDERS: [Order; 2] = [Order::Big, Order::Little];

    #[test]
    fn a_file_byte_by_byte() {
        let file = [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0x71, 0, 0, 0, // header
            5, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0xaa, 0xbb, // record
        ];
        let mut reader = super::super::Reader::new(&file[..]).unwrap();
        let snaplen = 262_144;
        assert_eq!(reader.interfaces(), [Interface { snaplen, ..Interface::new(LinkType::LINUX_SLL) }]);
        let record = reader.next().unwrap().unwrap();
        assert_eq!((record.frame, record.time.micros(), record.nanos), (1, 5_000_006, 0));
        assert_eq!((record.interface, record.interface_name, record.link_type), (0, None, LinkType::LINUX_SLL));
        assert_eq!((record.original_len, record.data), (9, &[0xaa, 0xbb][..]));
        assert!(reader.next().is_none());
    }

    #[test]
    fn both_orders_and_resolutions() {
        for order in ORDERS {
            let file = Build::pcap(order, MICROS, 4, 65_535, 1).words(&[7, 999_999, 1, 1]).raw(b"x");
            assert_eq!(read_all(&file.bytes).0, [(1, 7_999_999, 0, 0, Direction::Unknown, 1, Vec::from(b"x"))]);
            let file = Build::pcap(order, NANOS, 4, 65_535, 1).words(&[7, 999_999_999, 1, 1]).raw(b"x");
            assert_eq!(read_all(&file.bytes).0, [(1, 7_999_999, 999, 0, Direction::Unknown, 1, Vec::from(b"x"))]);
            assert!(super::super::Reader::new(&file.bytes[..]).unwrap().interfaces()[0].nanoseconds);
        }
    }

    #[test]
    fn seconds_after_2038_and_overlong_fractions() {
        let file = Build::pcap(Order::Big, MICROS, 4, 0, 1).words(&[0xffff_ffff, 1_500_000, 0, 0]);
        assert_eq!(read_all(&file.bytes).0, [(1, 4_294_967_296_500_000, 0, 0, Direction::Unknown, 0, Vec::new())]);
    }

    #[test]
    fn modified_records_are_longer_and_tell_the_direction() {
        for order in ORDERS {
            // Interface index, protocol, packet type.
            let with = |build: Build, index: u32, packet_type: u8, data: &[u8]| {
                let mut build = build.words(&[1, 2, 3, 3, index]);
                build.push_u16(0x0800);
                build.raw(&[packet_type, 0]).raw(data)
            };
            let mut file = Build::pcap(order, MODIFIED, 4, 65_535, 1);
            file = with(file, 2, 0, b"abc");
            file = with(file, 2, 4, b"def");
            file = with(file, 0, 0, b"ghi");
            let (records, errors) = read_all(&file.bytes);
            let directions: Vec<_> = records.iter().map(|record| record.4).collect();
            assert_eq!(directions, [Direction::In, Direction::Out, Direction::Unknown]);
            let data: Vec<_> = records.iter().map(|record| &record.6[..]).collect();
            assert_eq!(data, [b"abc", b"def", b"ghi"]);
            assert!(errors.is_empty());
        }
    }

    #[test]
    fn old_versions_swap_the_lengths() {
        let lengths = |minor, first, second| {
            let file = Build::pcap(Order::Big, MICROS, minor, 65_535, 1).words(&[1, 2, first, second]).raw(b"abcd");
            read_all(&file.bytes).0.first().map(|record| (record.5, record.6.len()))
        };
        assert_eq!(lengths(2, 60, 4), Some((60, 4)));
        assert_eq!(lengths(3, 60, 4), Some((60, 4)));
        assert_eq!(lengths(3, 4, 60), Some((60, 4)));
        assert_eq!(lengths(4, 4, 60), Some((60, 4)));
    }

    #[test]
    fn link_type_without_frame_check_bits() {
        for field in [0x5000_0001, 0x5400_0001] {
            let file = Build::pcap(Order::Little, MICROS, 4, 65_535, field);
            assert_eq!(
                super::super::Reader::new(&file.bytes[..]).unwrap().interfaces()[0].link_type,
                LinkType::ETHERNET
            );
        }
    }

    #[test]
    fn cut_files_deliver_what_is_whole() {
        let whole = Build::pcap(Order::Little, MICROS, 4, 65_535, 1).words(&[1, 2, 4, 4]).raw(b"abcd").bytes;
        let file = Build::pcap(Order::Little, MICROS, 4, 65_535, 1);
        let file = file.words(&[1, 2, 4, 4]).raw(b"abcd").words(&[3, 4, 4, 4]).raw(b"efgh").bytes;
        for cut in whole.len() + 1..file.len() {
            let (records, errors) = read_all(&file[..cut]);
            assert_eq!(records.len(), 1);
            assert_eq!(errors, ["the file is cut short in frame 2, whose record begins at byte 44"]);
        }
        for cut in 4..24 {
            assert!(matches!(only_error(&file[..cut]), ReadError::Truncated { frame: 1, offset: 0 }));
        }
        assert!(read_all(&file[..24]).1.is_empty());
    }

    #[test]
    fn lengths_beyond_belief() {
        let file = |snaplen, captured| Build::pcap(Order::Big, MICROS, 4, snaplen, 1).words(&[1, 2, captured, 9]).bytes;
        let damage = |snaplen, captured| match only_error(&file(snaplen, captured)) {
            ReadError::Damaged { frame: 1, offset: 24, damage } => Some(damage),
            _ => None,
        };
        assert_eq!(damage(100, 262_145), Some(Damage::TooLong(262_145)));
        assert_eq!(damage(u32::MAX, MAX_BLOCK + 1), Some(Damage::TooLong(MAX_BLOCK + 1)));
        assert_eq!(damage(100, 262_144), None);
        assert_eq!(damage(1_000_000, 262_145), None);
    }

    #[test]
    fn unknown_versions() {
        let mut file = Build::pcap(Order::Big, MICROS, 4, 65_535, 1).bytes;
        file[5] = 3;
        let damage = Damage::Version { major: 3, minor: 4 };
        assert!(matches!(only_error(&file), ReadError::Damaged { damage: d, .. } if d == damage));
    }
}
