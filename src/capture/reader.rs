//! Reading captures.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::vec::Vec;

use super::clock::Stamp;
use super::error::{Damage, ReadError, Stop};
use super::pcapng::Sections;
use super::record::{Direction, Interface, Record};
use super::source::Source;
use super::{Foreign, pcap, pcapng};

/// Reads a capture's frames in the order of the file.
///
/// Reads pcap (either byte order, microseconds and nanoseconds, and the "modified" variant of old Linux systems) and
/// pcapng (any number of sections and interfaces; enhanced, simple and obsolete packet blocks). Never seeks, and
/// reads no further than needed for a record, so that a pipe will do. Memory grows to the longest record (16 MiB at
/// most) and with the number of interfaces (65,536 at most), not with the file. It has its own buffer.
#[derive(Debug)]
pub struct Reader<R: Read> {
    source: Source<R>,
    format: Format,
    interfaces: Vec<Interface>,
    /// The number of the latest frame.
    frame: u64,
    ended: bool,
}

#[derive(Debug)]
enum Format {
    Pcap(pcap::Layout),
    Pcapng(Sections),
}

/// The kind of the next record or block. All of it is in the source's buffer.
pub(super) enum Step {
    /// There is none.
    End,
    /// A frame.
    Packet(Entry),
    /// Something else.
    Other {
        whole: usize,
        /// True if Wireshark would count it as a frame.
        numbered: bool,
    },
    /// Something of a length that can be trusted, but with contents that cannot.
    Bad { whole: usize, numbered: bool, damage: Damage },
}

/// A frame in the source's buffer.
pub(super) struct Entry {
    /// Bytes of the whole record.
    pub(super) whole: usize,
    /// Start of the frame in the record.
    pub(super) at: usize,
    /// Number of its bytes in the record.
    pub(super) captured: usize,
    /// Number of its bytes on the wire.
    pub(super) original: u32,
    /// Index of its interface in the file.
    pub(super) interface: usize,
    pub(super) stamp: Stamp,
    pub(super) direction: Direction,
}

impl Reader<File> {
    /// Opens the capture in the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`Reader::new`], and [`ReadError::Io`] when there is no such file or it may not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { offset: 0, source })?;
        Self::new(file)
    }
}

impl<R: Read> Reader<R> {
    /// Begins to read a capture. `reader` needs no buffer of its own.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], or [`ReadError::NotCapture`] for anything but pcap and pcapng;
    /// [`ReadError::Truncated`] or [`ReadError::Damaged`] when a pcap file's header is cut short or of an unknown
    /// version; [`ReadError::Io`].
    pub fn new(reader: R) -> Result<Self, ReadError> {
        let mut source = Source::new(reader);
        let mut interfaces = Vec::new();
        // The shortest capture, a pcap file's header, is longer.
        let first = source.peek_up_to(Foreign::LOOK).map_err(|error| Stop::Io(error).at(1, 0))?;
        let format = if pcap::is_pcap(first) {
            let (layout, interface) = pcap::open(&mut source).map_err(|stop| stop.at(1, 0))?;
            interfaces.push(interface);
            Format::Pcap(layout)
        } else if pcapng::is_pcapng(first) {
            Format::Pcapng(Sections::new())
        } else {
            return Err(not_a_capture(first));
        };
        Ok(Self { source, format, interfaces, frame: 0, ended: false })
    }

    /// The interfaces met so far. pcap files have one; pcapng files describe them on the way, so that there is none
    /// before the first record was read. Those of later sections follow those of earlier ones.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The next frame; `None` at the end of the file. The record lives until the next call.
    ///
    /// # Errors
    ///
    /// [`ReadError::Truncated`], [`ReadError::Io`], and [`ReadError::Damaged`], after which reading may go on:
    /// [`Damage`] tells when. After the last error comes `None`.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the reader, which `Iterator` cannot say")]
    pub fn next(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        while !self.ended {
            let offset = self.source.offset();
            match self.step() {
                Ok(Step::End) => self.ended = true,
                Ok(Step::Other { whole, numbered }) => self.pass(whole, numbered),
                Ok(Step::Bad { whole, numbered, damage }) => {
                    let error = ReadError::Damaged { frame: self.frame + 1, offset, damage };
                    self.pass(whole, numbered);
                    return Some(Err(error));
                }
                Ok(Step::Packet(entry)) => return Some(Ok(self.record(&entry))),
                Err(stop) => {
                    self.ended = true;
                    return Some(Err(stop.at(self.frame + 1, offset)));
                }
            }
        }
        None
    }

    fn step(&mut self) -> Result<Step, Stop> {
        match &mut self.format {
            Format::Pcap(layout) => layout.step(&mut self.source),
            Format::Pcapng(sections) => sections.step(&mut self.source, &mut self.interfaces),
        }
    }

    /// Goes on after a block that holds no frame to be delivered.
    fn pass(&mut self, whole: usize, numbered: bool) {
        self.source.take(whole);
        self.frame += u64::from(numbered);
    }

    /// The frame at `entry`, which is over then.
    fn record(&mut self, entry: &Entry) -> Record<'_> {
        self.frame += 1;
        let whole = self.source.take(entry.whole);
        // Neither lookup fails: the interface and the length were checked.
        let interface = self.interfaces.get(entry.interface);
        let data = whole.get(entry.at..).and_then(|data| data.get(..entry.captured));
        Record {
            frame: self.frame,
            time: entry.stamp.time,
            nanos: entry.stamp.nanos,
            interface: entry.interface,
            interface_name: interface.and_then(|interface| interface.name.as_deref()),
            link_type: interface.map_or(crate::packet::link::LinkType::NULL, |interface| interface.link_type),
            direction: entry.direction,
            original_len: entry.original as usize,
            data: data.unwrap_or_default(),
        }
    }
}

/// Says what a file is that begins with `first`.
fn not_a_capture(first: &[u8]) -> ReadError {
    if first.is_empty() {
        return ReadError::Empty;
    }
    let mut start = [0; 4];
    start.iter_mut().zip(first).for_each(|(to, from)| *to = *from);
    ReadError::NotCapture { format: Foreign::recognise(first), first: start }
}

#[cfg(test)]
mod tests {
    use super::super::build::{Build, drain, only_error, read_all};
    use super::super::bytes::Order;
    use super::*;
    use proptest::prelude::*;
    use std::io;
    use std::string::ToString;
    use std::time::Duration;

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::{Block, PcapNgReader};
    use pcap_file::{DataLink, Endianness, TsResolution};

    #[test]
    fn other_files_are_named() {
        assert!(matches!(only_error(b""), ReadError::Empty));
        let text = |bytes: &[u8]| only_error(bytes).to_string();
        assert_eq!(text(b"ab"), "not pcap or pcapng: begins with 61 62 00 00");
        assert_eq!(
            text(b"snoop\0\0\0\0\0\0\x02"),
            "not pcap or pcapng but snoop; to convert: editcap -F pcapng IN OUT"
        );
        assert_eq!(text(b"\x1f\x8b\x08\0\0"), "not pcap or pcapng but gzip; to convert: gunzip FILE");
    }

    #[test]
    fn missing_files_are_io_errors() {
        let error = Reader::open("no such directory/no such file").unwrap_err();
        assert!(matches!(error, ReadError::Io { offset: 0, ref source } if source.kind() == io::ErrorKind::NotFound));
        assert!(core::error::Error::source(&error).is_some());
    }

    /// Gives its bytes one at a time, then fails.
    struct Failing<'a>(&'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match (self.0, room) {
                ([first, rest @ ..], [to, ..]) => {
                    (*to, self.0) = (*first, rest);
                    Ok(1)
                }
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    #[test]
    fn frames_come_before_the_failure_after_them() {
        let file = Build::pcap(Order::Big, 0xa1b2_c3d4, 4, 65_535, 1).words(&[1, 2, 1, 1]).raw(b"x");
        let mut reader = Reader::new(Failing(&file.bytes)).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().data, b"x");
        assert!(matches!(reader.next(), Some(Err(ReadError::Io { offset: 41, .. }))));
        assert!(reader.next().is_none());
    }

    #[test]
    fn frames_longer_than_the_buffer_to_begin_with() {
        let long = std::vec![7; 200_000];
        let file = Build::pcapng(Order::Little).interface(1, 0, &[]);
        let file = file.enhanced(0, 1, b"a", &[]).enhanced(0, 2, &long, &[]).enhanced(0, 3, b"b", &[]);
        let lengths: Vec<_> = read_all(&file.bytes).0.iter().map(|record| record.6.len()).collect();
        assert_eq!(lengths, [1, 200_000, 1]);
    }

    /// A frame as pcap-file reads it: time in nanoseconds, interface, length on the wire, bytes.
    type Read4 = (u128, usize, usize, Vec<u8>);

    fn ours(file: &[u8]) -> Vec<Read4> {
        let (records, errors) = drain(&mut Reader::new(file).unwrap());
        assert!(errors.is_empty(), "{errors:?}");
        let nanos = |micros: i64, nanos: u32| micros as u128 * 1000 + u128::from(nanos);
        records.into_iter().map(|r| (nanos(r.1, r.2), r.3, r.5, r.6)).collect()
    }

    /// It takes ticks for nanoseconds, whatever the interface says of them.
    fn theirs(file: &[u8], resolution: u8) -> Vec<Read4> {
        let nanos = |ticks: u128| match resolution {
            10.. => (ticks * 1_000_000_000) >> (resolution & 0x7f),
            _ => ticks * 10_u128.pow(9 - u32::from(resolution)),
        };
        let mut reader = PcapNgReader::new(file).unwrap();
        let mut records = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::EnhancedPacket(packet) => records.push((
                    nanos(packet.timestamp.as_nanos()),
                    packet.interface_id as usize,
                    packet.original_len as usize,
                    packet.data.into_owned(),
                )),
                Block::InterfaceDescription(_) => {}
                other => panic!("{other:?}"),
            }
        }
        records
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..6_usize) {
            // Past the magic numbers, which chance does not find.
            let starts = [
                Vec::new(),
                Build::pcap(Order::Big, 0xa1b2_c3d4, 4, 65_535, 1).bytes,
                Build::pcap(Order::Little, 0xa1b2_cd34, 3, 65_535, 1).bytes,
                Build::pcapng(Order::Big).bytes,
                Build::pcapng(Order::Little).interface(1, 64, &[]).bytes,
                Build::pcapng(Order::Little).interface(1, 0, &[]).enhanced(0, 1, b"x", &[]).bytes,
            ];
            bytes.splice(0..0, starts[start].iter().copied());
            let (records, _) = read_all(&bytes);
            prop_assert!(records.len() <= bytes.len());
        }

        /// As above, but with blocks whose lengths are good, so that their contents are looked at.
        #[test]
        fn any_contents_end(
            contents in prop::collection::vec((0..7_u32, prop::collection::vec(any::<u8>(), 0..60)), 0..10),
        ) {
            let mut file = Build::pcapng(Order::Little).interface(1, 64, &[]);
            for (kind, body) in &contents {
                file = file.block(*kind, |block| {
                    block.bytes.extend(body);
                    block.bytes.resize(body.len().next_multiple_of(4), 0);
                });
            }
            let (records, errors) = read_all(&file.bytes);
            prop_assert!(records.len() + errors.len() <= contents.len());
        }

        #[test]
        fn a_changed_byte_never_costs_what_came_before(at in 0..300_usize, byte in any::<u8>()) {
            let start = Build::pcapng(Order::Big).interface(1, 0, &[(2, b"eth0")]).enhanced(0, 1, b"before", &[]);
            let safe = start.bytes.len();
            let mut file = start.enhanced(0, 2, &[5; 100], &[(2, &[0, 0, 0, 1])]).turned().interface(1, 0, &[]);
            file = file.enhanced(0, 3, &[6; 50], &[]);
            let at = safe + at % (file.bytes.len() - safe);
            file.bytes[at] = byte;
            prop_assert_eq!(&read_all(&file.bytes).0[0].6, b"before");
        }

        /// Ticks that even as whole seconds fit an `Instant`.
        #[test]
        fn pcapng_as_pcap_file_reads_it(
            big in any::<bool>(),
            resolution in prop_oneof![0..10_u8, 0x80..0x80 + 30_u8],
            packets in prop::collection::vec((0..1_u64 << 43, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let order = if big { Order::Big } else { Order::Little };
            let mut file = Build::pcapng(order).interface(1, 0, &[(9, &[resolution])]);
            for (ticks, data) in &packets {
                file = file.enhanced(0, *ticks, data, &[(1, b"comment")]);
            }
            prop_assert_eq!(ours(&file.bytes), theirs(&file.bytes, resolution));
        }

        #[test]
        fn pcap_as_pcap_file_writes_it(
            big in any::<bool>(),
            nanoseconds in any::<bool>(),
            packets in prop::collection::vec((any::<u32>(), 0..1_000_000_000_u32, 0..99_u32, any::<[u8; 7]>()), 0..8),
        ) {
            let header = PcapHeader {
                datalink: DataLink::ETHERNET,
                ts_resolution: if nanoseconds { TsResolution::NanoSecond } else { TsResolution::MicroSecond },
                endianness: if big { Endianness::Big } else { Endianness::Little },
                ..PcapHeader::default()
            };
            let mut file = Vec::new();
            let mut writer = PcapWriter::with_header(&mut file, header).unwrap();
            let mut expected = Vec::new();
            for (seconds, nanos, more, data) in &packets {
                let nanos = if nanoseconds { *nanos } else { nanos / 1000 * 1000 };
                let time = Duration::new(u64::from(*seconds), nanos);
                writer.write_packet(&PcapPacket::new(time, 7 + more, &data[..])).unwrap();
                expected.push((time.as_nanos(), 0, 7 + *more as usize, Vec::from(data)));
            }
            prop_assert_eq!(ours(&file), expected);
        }
    }
}
