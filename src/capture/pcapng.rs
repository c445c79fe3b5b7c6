//! pcapng: blocks, in sections that each have their byte order and interfaces (draft-ietf-opsawg-pcapng).

use std::io::Read;
use std::string::String;
use std::vec::Vec;

use super::MAX_BLOCK;
use super::bytes::Order;
use super::clock::{Clock, Stamp};
use super::error::{Damage, Stop};
use super::reader::{Entry, Step};
use super::record::{Direction, Interface};
use super::source::Source;
use crate::packet::link::LinkType;

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;
/// Blocks without packets that Wireshark gives a frame number all the same: systemd journal entries, custom blocks
/// (copied by tools or not), sysdig events (three versions).
const NUMBERED: [u32; 6] = [9, 0x0bad, 0x4000_0bad, 0x0204, 0x0216, 0x0221];

/// The magic number in a section header, by which the section's byte order is known.
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Bytes before a block's body: type and total length.
const HEAD: usize = 8;
/// Bytes after a block's body: the total length again.
const TAIL: usize = 4;
/// Number of bytes that tell any block's length: type, length, a section's magic (or the end of the smallest block).
const SMALLEST_BLOCK: usize = 12;
/// A section header without options.
const SMALLEST_SECTION_HEADER: u32 = 28;

/// The most interfaces of one file.
const MAX_INTERFACES: usize = 65_536;
/// The most bytes of an interface's name.
pub(super) const MAX_NAME: usize = 255;

/// Returns true if a file that begins with `first` is pcapng.
pub(super) fn is_pcapng(first: &[u8]) -> bool {
    // This type reads the same both ways.
    Order::of_magic(first, SECTION_HEADER).is_some()
}

/// The byte order of the section whose header block begins with `block`.
fn section_order(block: &[u8]) -> Option<Order> {
    Order::of_magic(block.get(HEAD..)?, BYTE_ORDER_MAGIC)
}

/// The sections and interfaces of the file so far.
#[derive(Debug)]
pub(super) struct Sections {
    /// The current section's byte order.
    order: Order,
    /// The index, in the file, of the current section's first interface.
    first: usize,
    /// The clocks of all interfaces.
    clocks: Vec<Clock>,
    /// The time of the section's latest packet.
    latest: Stamp,
}

/// A block, its total length checked.
struct Block<'a> {
    kind: u32,
    body: &'a [u8],
}

impl Sections {
    pub(super) const fn new() -> Self {
        Self { order: Order::Little, first: 0, clocks: Vec::new(), latest: Stamp::epoch() }
    }

    /// The next block.
    pub(super) fn step(
        &mut self,
        source: &mut Source<impl Read>,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Step, Stop> {
        let Some((whole, kind)) = self.whole_block(source)? else {
            return Ok(Step::End);
        };
        let bytes = source.peek(whole)?.ok_or(Stop::Truncated)?;
        let block = Block { kind, body: bytes.get(HEAD..whole - TAIL).unwrap_or_default() };
        if kind == SECTION_HEADER {
            self.begin_section(&block, interfaces).map_err(Stop::Damaged)?;
            return Ok(Step::Other { whole, numbered: false });
        }
        let numbered = is_numbered(kind);
        match self.understand(&block, whole, interfaces) {
            Ok(Some(entry)) => {
                self.latest = entry.stamp;
                Ok(Step::Packet(entry))
            }
            Ok(None) => Ok(Step::Other { whole, numbered }),
            Err(damage) => Ok(Step::Bad { whole, numbered, damage }),
        }
    }

    /// The length in the file and the type of the next block, when all of it is there and its two lengths agree. A
    /// section header's byte order is the section's from here on.
    fn whole_block(&mut self, source: &mut Source<impl Read>) -> Result<Option<(usize, u32)>, Stop> {
        let Some(head) = source.peek(SMALLEST_BLOCK)? else {
            return Ok(None);
        };
        let kind = self.order.u32(head, 0).ok_or(Stop::Truncated)?;
        if kind == SECTION_HEADER {
            self.order = section_order(head).ok_or(Stop::Damaged(Damage::ByteOrder))?;
        }
        let leading = self.order.u32(head, 4).ok_or(Stop::Truncated)?;
        let whole = check_length(kind, leading).map_err(Stop::Damaged)?;
        let block = source.peek(whole)?.ok_or(Stop::Truncated)?;
        let trailing = self.order.u32(block, whole - TAIL).ok_or(Stop::Truncated)?;
        if trailing != leading && trailing as usize != whole {
            return Err(Stop::Damaged(Damage::TrailingLength { leading, trailing }));
        }
        Ok(Some((whole, kind)))
    }

    /// A section header: magic, version, section length (which need not be known), options.
    fn begin_section(&mut self, block: &Block<'_>, interfaces: &[Interface]) -> Result<(), Damage> {
        let major = self.order.u16(block.body, 4).ok_or(Damage::TooShort)?;
        let minor = self.order.u16(block.body, 6).ok_or(Damage::TooShort)?;
        // 1.2 was written by mistake and differs in nothing.
        if (major, minor) != (1, 0) && (major, minor) != (1, 2) {
            return Err(Damage::Version { major, minor });
        }
        self.first = interfaces.len();
        self.latest = Stamp::epoch();
        Ok(())
    }

    /// A packet, or an interface that is noted, or nothing of interest.
    fn understand(
        &mut self,
        block: &Block<'_>,
        whole: usize,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<Entry>, Damage> {
        match block.kind {
            INTERFACE_DESCRIPTION => self.describe(block.body, interfaces).map(|()| None),
            ENHANCED_PACKET => self.enhanced_packet(block.body, whole).map(Some),
            SIMPLE_PACKET => self.simple_packet(block.body, whole, interfaces).map(Some),
            PACKET => self.old_packet(block.body, whole).map(Some),
            _ => Ok(None),
        }
    }

    /// Link type (2), reserved (2), snap length (4), options.
    fn describe(&mut self, body: &[u8], interfaces: &mut Vec<Interface>) -> Result<(), Damage> {
        if interfaces.len() >= MAX_INTERFACES {
            return Err(Damage::TooManyInterfaces);
        }
        let link_type = LinkType(self.order.u16(body, 0).ok_or(Damage::TooShort)?.into());
        let snaplen = self.order.u32(body, 4).ok_or(Damage::TooShort)?;
        let mut interface = Interface { snaplen, ..Interface::new(link_type) };
        let mut clock = Clock::DEFAULT;
        let options = body.get(8..).unwrap_or_default();
        let understood = interface_options(self.order, options, &mut interface, &mut clock);
        interface.nanoseconds = clock.finer_than_micros();
        // Also when its options are damaged: later interfaces must keep their numbers.
        interfaces.push(interface);
        self.clocks.push(clock);
        understood
    }

    /// Interface (4), ticks (high 4, low 4), captured length, original length, packet, options.
    fn enhanced_packet(&self, body: &[u8], whole: usize) -> Result<Entry, Damage> {
        let id = self.order.u32(body, 0).ok_or(Damage::TooShort)?;
        self.timed_packet(id, body, whole)
    }

    /// As an enhanced packet, but interface (2) and count of lost packets (2).
    fn old_packet(&self, body: &[u8], whole: usize) -> Result<Entry, Damage> {
        let id = self.order.u16(body, 0).ok_or(Damage::TooShort)?;
        self.timed_packet(id.into(), body, whole)
    }

    /// Reads the fields that enhanced packets and old ones have in common.
    fn timed_packet(&self, id: u32, body: &[u8], whole: usize) -> Result<Entry, Damage> {
        const FIXED: usize = 20;
        let number = |at| self.order.u32(body, at).ok_or(Damage::TooShort);
        let ticks = u64::from(number(4)?) << 32 | u64::from(number(8)?);
        let (captured, original) = (number(12)?, number(16)?);
        let (interface, clock) = self.interface(id)?;
        let after = body.get(FIXED..).unwrap_or_default();
        let length = captured as usize;
        if length > after.len() {
            return Err(Damage::CapturedLength(captured));
        }
        let options = after.get(length.next_multiple_of(4)..).unwrap_or_default();
        let direction = direction(self.order, options)?;
        let stamp = clock.stamp(ticks);
        Ok(Entry { whole, at: HEAD + FIXED, captured: length, original, interface, stamp, direction })
    }

    /// Original length, packet: of the section's first interface, as long as its snap length allows.
    fn simple_packet(&self, body: &[u8], whole: usize, interfaces: &[Interface]) -> Result<Entry, Damage> {
        const FIXED: usize = 4;
        let original = self.order.u32(body, 0).ok_or(Damage::TooShort)?;
        let (interface, _) = self.interface(0)?;
        let limit = interfaces.get(interface).map_or(0, |interface| interface.snaplen);
        let captured = if limit == 0 { original } else { original.min(limit) };
        let length = captured as usize;
        if length > body.get(FIXED..).unwrap_or_default().len() {
            return Err(Damage::CapturedLength(captured));
        }
        let (stamp, direction) = (self.latest, Direction::Unknown);
        Ok(Entry { whole, at: HEAD + FIXED, captured: length, original, interface, stamp, direction })
    }

    /// The index in the file, and the clock, of the current section's interface `id`.
    fn interface(&self, id: u32) -> Result<(usize, Clock), Damage> {
        let known = usize::try_from(id).ok().and_then(|id| {
            let index = self.first.checked_add(id)?;
            Some((index, *self.clocks.get(index)?))
        });
        known.ok_or(Damage::NoSuchInterface(id))
    }
}

/// Returns true if Wireshark counts a block of this type as a frame.
fn is_numbered(kind: u32) -> bool {
    matches!(kind, ENHANCED_PACKET | SIMPLE_PACKET | PACKET) || NUMBERED.contains(&kind)
}

/// The bytes that a block of `length` takes. Lengths ought to be multiples of four, but some files' are not, and the
/// padding is there all the same.
fn check_length(kind: u32, length: u32) -> Result<usize, Damage> {
    let smallest = if kind == SECTION_HEADER { SMALLEST_SECTION_HEADER } else { SMALLEST_BLOCK as u32 };
    match length {
        _ if length < smallest => Err(Damage::BlockLength(length)),
        _ if length > MAX_BLOCK => Err(Damage::TooLong(length)),
        _ => Ok((length as usize).next_multiple_of(4)),
    }
}

/// `if_name`, `if_tsresol` and `if_tsoffset`; all other options say nothing about packets.
fn interface_options(order: Order, options: &[u8], interface: &mut Interface, clock: &mut Clock) -> Result<(), Damage> {
    for option in (Options { order, rest: options }) {
        match option? {
            (2, name) => interface.name = Some(name_from(name)),
            (9, &[resolution]) => clock.resolution = resolution,
            (14, value) if value.len() == 8 => clock.offset = order.i64(value, 0).ok_or(Damage::Options)?,
            (9 | 14, _) => return Err(Damage::Options),
            _ => {}
        }
    }
    Ok(())
}

/// A name, without the closing zero that some writers add.
fn name_from(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut name = String::from_utf8_lossy(bytes.get(..MAX_NAME).unwrap_or(bytes)).into_owned();
    // Replacement characters may have made it longer.
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    name.truncate(end.unwrap_or_default());
    name
}

/// The direction in `epb_flags` (of old packets, `pack_flags`): bits 0 and 1.
fn direction(order: Order, options: &[u8]) -> Result<Direction, Damage> {
    let mut direction = Direction::Unknown;
    for option in (Options { order, rest: options }) {
        if let (2, flags) = option? {
            let flags = order.u32(flags, 0).filter(|_| flags.len() == 4).ok_or(Damage::Options)?;
            direction = match flags & 3 {
                1 => Direction::In,
                2 => Direction::Out,
                _ => Direction::Unknown,
            };
        }
    }
    Ok(direction)
}

/// A block's options: code (2), length (2), value, padding to four bytes; a code of 0 ends them.
struct Options<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.order.u16(self.rest, 0).filter(|code| *code != 0)?;
        let length = usize::from(self.order.u16(self.rest, 2)?);
        let rest = self.rest.get(4..).unwrap_or_default();
        let Some(value) = rest.get(..length) else {
            self.rest = &[];
            return Some(Err(Damage::Options));
        };
        // A block may end where the last option's padding would begin.
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((code, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::{Build, drain, only_error, read_all};
    use super::super::{ReadError, Reader};
    use super::*;
    use std::string::ToString;
    use std::vec;

    const ORDERS: [Order; 2] = [Order::Big, Order::Little];

    fn start(order: Order) -> Build {
        Build::pcapng(order).interface(1, 0, &[])
    }

    #[test]
    fn a_file_byte_by_byte() {
        let file = [
            0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, // section header
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0, //
            1, 0, 0, 0, 32, 0, 0, 0, 101, 0, 0, 0, 0, 0, 1, 0, // interface, RAW, 65536
            2, 0, 3, 0, b'l', b'a', b'n', 0, 0, 0, 0, 0, 32, 0, 0, 0, // name, end of options
            6, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0, // packet
            0x45, 0, 0, 0, 2, 0, 4, 0, 2, 0, 0, 0, 44, 0, 0, 0, // flags: out; no end of options
        ];
        let mut reader = Reader::new(&file[..]).unwrap();
        let record = reader.next().unwrap().unwrap();
        assert_eq!((record.frame, record.time.micros(), record.nanos), (1, (1 << 32) + 2, 0));
        assert_eq!((record.interface, record.interface_name), (0, Some("lan")));
        assert_eq!((record.link_type, record.direction), (LinkType::RAW, Direction::Out));
        assert_eq!((record.original_len, record.data), (60, &[0x45][..]));
        assert!(reader.next().is_none());
        assert_eq!(reader.interfaces(), [Interface { snaplen: 65_536, ..Interface::named("lan", LinkType::RAW) }]);
    }

    #[test]
    fn sections_have_their_own_order_interfaces_and_clocks() {
        for order in ORDERS {
            let file = Build::pcapng(order)
                .interface(1, 0, &[(2, b"a")])
                .interface(101, 0, &[(2, b"b"), (9, &[9])])
                .enhanced(1, 1_000_000_001, b"one", &[])
                .turned()
                .interface(276, 0, &[(2, b"c"), (9, &[0x80])])
                .enhanced(0, 3, b"two", &[])
                .enhanced(1, 3, b"bad", &[]);
            let mut reader = Reader::new(&file.bytes[..]).unwrap();
            assert!(reader.interfaces().is_empty());
            let (records, errors) = drain(&mut reader);
            let unknown = Direction::Unknown;
            assert_eq!(
                records,
                [
                    (1, 1_000_000, 1, 1, unknown, 3, Vec::from(b"one")),
                    (2, 3_000_000, 0, 2, unknown, 3, Vec::from(b"two"))
                ]
            );
            assert_eq!(errors.len(), 1);
            assert!(errors[0].ends_with("interface 1 has not been described"), "{errors:?}");
            let names: Vec<_> = reader.interfaces().iter().map(|interface| interface.name.as_deref()).collect();
            assert_eq!(names, [Some("a"), Some("b"), Some("c")]);
            let fine: Vec<_> = reader.interfaces().iter().map(|interface| interface.nanoseconds).collect();
            assert_eq!(fine, [false, true, false]);
        }
    }

    #[test]
    fn time_offset_in_the_section_s_order() {
        let big = Build::pcapng(Order::Big).interface(1, 0, &[(14, &100_i64.to_be_bytes())]).enhanced(0, 5, b"", &[]);
        assert_eq!(read_all(&big.bytes).0[0].1, 100_000_005);
        let little =
            Build::pcapng(Order::Little).interface(1, 0, &[(14, &(-2_i64).to_le_bytes())]).enhanced(0, 5, b"", &[]);
        assert_eq!(read_all(&little.bytes).0[0].1, -1_999_995);
    }

    #[test]
    fn directions() {
        for order in ORDERS {
            let flags = |number: u32| if order == Order::Big { number.to_be_bytes() } else { number.to_le_bytes() };
            let file = start(order)
                .enhanced(0, 0, b"1", &[(2, &flags(1))])
                .enhanced(0, 0, b"22", &[(1, b"a comment"), (2, &flags(0xffff_fffe))])
                .enhanced(0, 0, b"333", &[(2, &flags(4))])
                .old(0, 0, b"4444", &[(2, &flags(1))]);
            let (records, errors) = read_all(&file.bytes);
            let directions: Vec<_> = records.iter().map(|record| record.4).collect();
            assert_eq!(directions, [Direction::In, Direction::Out, Direction::Unknown, Direction::In]);
            assert!(errors.is_empty(), "{errors:?}");
        }
    }

    #[test]
    fn simple_packets_are_limited_by_the_snap_length() {
        let file = Build::pcapng(Order::Little)
            .interface(1, 5, &[])
            .interface(1, 0, &[])
            .simple(9, b"abcde")
            .enhanced(1, 77, b"x", &[])
            .simple(3, b"fgh")
            .section()
            .interface(1, 0, &[])
            .simple(1, b"i");
        let unknown = Direction::Unknown;
        assert_eq!(
            read_all(&file.bytes).0,
            [
                (1, 0, 0, 0, unknown, 9, Vec::from(b"abcde")),
                (2, 77, 0, 1, unknown, 1, Vec::from(b"x")),
                (3, 77, 0, 0, unknown, 3, Vec::from(b"fgh")),
                (4, 0, 0, 2, unknown, 1, Vec::from(b"i"))
            ]
        );
    }

    #[test]
    fn old_packets_have_a_short_interface_number() {
        let file = start(Order::Big).interface(1, 0, &[]).old(1, 5, b"abc", &[]);
        assert_eq!(read_all(&file.bytes).0, [(1, 5, 0, 1, Direction::Unknown, 3, Vec::from(b"abc"))]);
    }

    #[test]
    fn other_blocks_count_as_wireshark_counts() {
        let other = |kind| {
            let file = start(Order::Little).block(kind, |body| body.push_u32(32_473)).enhanced(0, 0, b"x", &[]);
            let (records, errors) = read_all(&file.bytes);
            assert!(errors.is_empty());
            records[0].0
        };
        // Names, statistics, secrets; unknown.
        assert_eq!([4, 5, 10, 0x0bcd].map(other), [1; 4]);
        // Journal entry, custom blocks, sysdig events.
        assert_eq!([9, 0x0bad, 0x4000_0bad, 0x0204, 0x0216].map(other), [2; 5]);
    }

    #[test]
    fn damaged_contents_are_told_and_passed_over() {
        let damaged = |damage: &str, with: fn(Build) -> Build| {
            let file = with(start(Order::Big)).enhanced(0, 0, b"good", &[]);
            let (records, errors) = read_all(&file.bytes);
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].0, 2);
            assert_eq!(errors, [std::format!("damaged at frame 1, byte 48: {damage}")]);
        };
        damaged("interface 1 has not been described", |build| build.enhanced(1, 0, b"bad", &[]));
        damaged("interface 7 has not been described", |build| build.old(7, 0, b"bad", &[]));
        damaged("a block is too short for the 9 bytes of its packet", |build| build.simple(9, b"bad"));
        damaged("a block is too short for the 4000000000 bytes of its packet", |build| {
            build.block(6, |body| [0, 0, 0, 4_000_000_000, 9].into_iter().for_each(|word| body.push_u32(word)))
        });
        damaged("a block is too short for its fields", |build| build.block(6, |body| body.push_u32(0)));
        damaged("a block's options are malformed", |build| build.enhanced(0, 0, b"bad", &[(2, &[0])]));
        damaged("a block's options are malformed", |build| {
            build.block(6, |body| [0, 0, 0, 0, 0, 0x0002_0009].into_iter().for_each(|word| body.push_u32(word)))
        });
    }

    #[test]
    fn an_interface_with_damaged_options_keeps_its_number() {
        let file = Build::pcapng(Order::Big)
            .interface(101, 0, &[(2, b"a"), (9, &[])])
            .interface(113, 0, &[(2, b"b\0")])
            .enhanced(1, 0, b"x", &[]);
        let mut reader = Reader::new(&file.bytes[..]).unwrap();
        let (records, errors) = drain(&mut reader);
        assert_eq!(errors, ["damaged at frame 1, byte 28: a block's options are malformed"]);
        assert_eq!(records[0].3, 1);
        assert_eq!(reader.interfaces()[0].name.as_deref(), Some("a"));
        assert_eq!(reader.interfaces()[1], Interface::named("b", LinkType::LINUX_SLL));
    }

    #[test]
    fn damaged_lengths_end_the_file() {
        let damage = |change: fn(&mut Vec<u8>)| {
            let mut file = start(Order::Big).enhanced(0, 0, b"abcd", &[]).enhanced(0, 0, b"good", &[]).bytes;
            change(&mut file);
            match only_error(&file) {
                ReadError::Damaged { frame: 1, offset: 48, damage } => {
                    assert_eq!(read_all(&file), (vec![], vec![only_error(&file).to_string()]));
                    damage
                }
                other => panic!("{other}"),
            }
        };
        assert_eq!(damage(|file| file[55] = 8), Damage::BlockLength(8));
        assert_eq!(damage(|file| file[52] = 2), Damage::TooLong(0x0200_0024));
        assert_eq!(damage(|file| file[83] = 40), Damage::TrailingLength { leading: 36, trailing: 40 });
    }

    #[test]
    fn lengths_without_their_padding_are_understood() {
        // As some writers do: the length is that of the data, the padding is there.
        let mut file = start(Order::Big).enhanced(0, 0, b"abc", &[]).enhanced(0, 0, b"next", &[]).bytes;
        for at in [55, 83] {
            assert_eq!(file[at], 36);
            file[at] = 35;
        }
        let (records, errors) = read_all(&file);
        assert_eq!(records.len(), 2);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn cut_files_deliver_what_is_whole() {
        let whole = start(Order::Little).enhanced(0, 0, b"abcd", &[]);
        let end = whole.bytes.len();
        let file = whole.enhanced(0, 0, b"efgh", &[]).bytes;
        for cut in end + 1..file.len() {
            let (records, errors) = read_all(&file[..cut]);
            assert_eq!(records.len(), 1);
            assert_eq!(errors, ["the file is cut short in frame 2, whose record begins at byte 84"]);
        }
        for cut in 4..28 {
            assert!(matches!(only_error(&file[..cut]), ReadError::Truncated { frame: 1, offset: 0 }), "{cut}");
        }
    }

    #[test]
    fn sections_of_other_versions_and_orders() {
        let with = |at: usize, byte: u8| {
            let mut file = start(Order::Big).bytes;
            file[at] = byte;
            match only_error(&file) {
                ReadError::Damaged { offset: 0, damage, .. } => damage,
                other => panic!("{other}"),
            }
        };
        assert_eq!(with(13, 2), Damage::Version { major: 2, minor: 0 });
        assert_eq!(with(15, 1), Damage::Version { major: 1, minor: 1 });
        assert_eq!(with(8, 0), Damage::ByteOrder);
        assert_eq!(with(7, 24), Damage::BlockLength(24));
        let mut file = start(Order::Big).bytes;
        file[15] = 2;
        assert!(read_all(&file).1.is_empty());
    }

    #[test]
    fn names_are_cut_and_made_text() {
        let long = [b'n'; 300];
        let file = Build::pcapng(Order::Big).interface(1, 0, &[(2, &long)]).interface(1, 0, &[(2, &[0xff; 200])]);
        let mut reader = Reader::new(&file.bytes[..]).unwrap();
        assert!(reader.next().is_none());
        let names: Vec<_> = reader.interfaces().iter().filter_map(|interface| interface.name.as_deref()).collect();
        assert_eq!((names[0].len(), names[1]), (MAX_NAME, "\u{fffd}".repeat(85).as_str()));
    }

    #[test]
    fn interfaces_are_bounded() {
        let one = Build::pcapng(Order::Big);
        let (head, one) = (one.bytes.len(), one.interface(1, 0, &[]).bytes);
        let mut file = Vec::from(&one[..head]);
        file.extend(one[head..].repeat(MAX_INTERFACES + 1));
        let mut reader = Reader::new(&file[..]).unwrap();
        assert_eq!(drain(&mut reader).1.len(), 1);
        assert_eq!(reader.interfaces().len(), MAX_INTERFACES);
    }
}
