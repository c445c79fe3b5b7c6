//! Writing captures.

use std::io::{self, BufWriter, Write};
use std::vec::Vec;

use super::error::WriteError;
use super::pcapng::{BYTE_ORDER_MAGIC, ENHANCED_PACKET, INTERFACE_DESCRIPTION, MAX_NAME, SECTION_HEADER};
use super::record::{Direction, Interface, Record};
use crate::Instant;

/// The longest frame: with all that is written around it, a reader must accept its block.
const MAX_FRAME: usize = super::MAX_BLOCK as usize - 256;

/// `if_name`, `if_tsresol`, and the end of a block's options.
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const END_OF_OPTIONS: u16 = 0;

/// Writes a capture as pcapng: one section, little-endian whatever the machine, so that the same frames give the same
/// file. It has its own buffer.
pub struct Writer<W: Write> {
    file: BufWriter<W>,
    /// True, by interface, if times are counted in nanoseconds.
    nanoseconds: Vec<bool>,
}

impl<W: Write> core::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a capture on `writer` with `interfaces`, whose indexes are their places.
    ///
    /// # Errors
    ///
    /// As [`add_interface`](Self::add_interface).
    pub fn new(writer: W, interfaces: &[Interface]) -> Result<Self, WriteError> {
        let mut writer = Self { file: BufWriter::new(writer), nanoseconds: Vec::new() };
        // Version 1.0, of unknown length.
        let parts = [&BYTE_ORDER_MAGIC.to_le_bytes()[..], &1_u32.to_le_bytes(), &u64::MAX.to_le_bytes()];
        writer.write_block(SECTION_HEADER, &parts).map_err(WriteError::Io)?;
        for interface in interfaces {
            writer.add_interface(interface)?;
        }
        Ok(writer)
    }

    /// Describes a further interface and returns its index. Frames may have been written before.
    ///
    /// # Errors
    ///
    /// [`WriteError::LinkType`] or [`WriteError::NameTooLong`] for what pcapng or [`Reader`](super::Reader) cannot
    /// hold; [`WriteError::Io`].
    pub fn add_interface(&mut self, interface: &Interface) -> Result<usize, WriteError> {
        let Ok(link_type) = u16::try_from(interface.link_type.0) else {
            return Err(WriteError::LinkType(interface.link_type));
        };
        let name = interface.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME {
            return Err(WriteError::NameTooLong(name.len()));
        }
        let mut options = Vec::new();
        if interface.name.is_some() {
            push_option(&mut options, IF_NAME, name.as_bytes());
        }
        push_option(&mut options, IF_TSRESOL, &[if interface.nanoseconds { 9 } else { 6 }]);
        push_option(&mut options, END_OF_OPTIONS, &[]);
        let (link_type, snaplen) = (u32::from(link_type).to_le_bytes(), interface.snaplen.to_le_bytes());
        self.write_block(INTERFACE_DESCRIPTION, &[&link_type, &snaplen, &options]).map_err(WriteError::Io)?;
        self.nanoseconds.push(interface.nanoseconds);
        Ok(self.nanoseconds.len() - 1)
    }

    /// Writes a frame that was captured whole.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoSuchInterface`], [`WriteError::Time`], [`WriteError::TooLong`]; [`WriteError::Io`].
    pub fn write(
        &mut self,
        interface: usize,
        time: Instant,
        direction: Direction,
        data: &[u8],
    ) -> Result<(), WriteError> {
        self.put(interface, time, 0, direction, data.len(), data)
    }

    /// Writes a frame as it was read, nanoseconds and length on the wire included. Its `interface` counts among this
    /// writer's interfaces; its number, link type and interface name are not looked at.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_record(&mut self, record: &Record<'_>) -> Result<(), WriteError> {
        let Record { interface, time, nanos, direction, original_len, data, .. } = *record;
        self.put(interface, time, nanos, direction, original_len, data)
    }

    fn put(
        &mut self,
        interface: usize,
        time: Instant,
        nanos: u32,
        direction: Direction,
        original_len: usize,
        data: &[u8],
    ) -> Result<(), WriteError> {
        let has_nanoseconds = *self.nanoseconds.get(interface).ok_or(WriteError::NoSuchInterface(interface))?;
        if data.len() > MAX_FRAME {
            return Err(WriteError::TooLong(data.len()));
        }
        let number = u32::try_from(interface).map_err(|_| WriteError::NoSuchInterface(interface))?;
        let ticks = ticks(time, nanos, has_nanoseconds).ok_or(WriteError::Time(time))?;
        let original_len = original_len.max(data.len());
        let original_len = u32::try_from(original_len).map_err(|_| WriteError::TooLong(original_len))?;
        let mut head = [0; 20];
        let words = [number, (ticks >> 32) as u32, ticks as u32, data.len() as u32, original_len];
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let padding = [0; 3].get(..data.len().next_multiple_of(4) - data.len()).unwrap_or_default();
        self.write_block(ENHANCED_PACKET, &[&head, data, padding, flags(direction)]).map_err(WriteError::Io)
    }

    /// Writes a block; the length of its parts together is a multiple of four.
    fn write_block(&mut self, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
        let len = 12 + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(len).map_err(io::Error::other)?.to_le_bytes();
        self.file.write_all(&kind.to_le_bytes())?;
        self.file.write_all(&len)?;
        for part in parts {
            self.file.write_all(part)?;
        }
        self.file.write_all(&len)
    }

    /// Hands all that was written on to the underlying writer, and flushes that.
    ///
    /// # Errors
    ///
    /// What the underlying writer says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Ends the capture and returns the underlying writer.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`] when what is still buffered cannot be written.
    pub fn into_inner(self) -> Result<W, WriteError> {
        self.file.into_inner().map_err(|error| WriteError::Io(error.into_error()))
    }
}

/// Returns a time in its interface's unit since 1970; `None` for one that 64 bits of nanoseconds do not hold.
fn ticks(time: Instant, nanos: u32, in_nanoseconds: bool) -> Option<u64> {
    let micros = u64::try_from(time.micros()).ok()?;
    let total = micros.checked_mul(1000)?.checked_add(nanos.into())?;
    Some(if in_nanoseconds { total } else { total / 1000 })
}

/// Appends an option, and bytes of 0 up to a multiple of four.
fn push_option(options: &mut Vec<u8>, code: u16, value: &[u8]) {
    options.extend(code.to_le_bytes());
    options.extend((value.len() as u16).to_le_bytes());
    options.extend(value);
    options.resize(options.len().next_multiple_of(4), 0);
}

/// Returns `epb_flags` and the end of options for a known direction.
const fn flags(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Unknown => &[],
        Direction::In => &[2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        Direction::Out => &[2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::super::build::{drain, read_all};
    use super::*;
    use crate::packet::link::LinkType;
    use proptest::prelude::*;

    #[test]
    fn a_file_byte_by_byte() {
        let mut writer = Writer::new(Vec::new(), &[Interface::named("lan", LinkType::RAW)]).unwrap();
        writer.write(0, Instant::from_micros((1 << 32) + 2), Direction::Out, &[0x45]).unwrap();
        assert_eq!(
            writer.into_inner().unwrap(),
            [
                0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, // section header
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0, //
                1, 0, 0, 0, 40, 0, 0, 0, 101, 0, 0, 0, 0, 0, 0, 0, // interface
                2, 0, 3, 0, b'l', b'a', b'n', 0, 9, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, //
                6, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // packet
                0x45, 0, 0, 0, 2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0,
            ]
        );
    }

    #[test]
    fn interfaces_may_come_later() {
        let mut writer = Writer::new(Vec::new(), &[Interface::new(LinkType::ETHERNET)]).unwrap();
        writer.write(0, Instant::from_secs(1), Direction::In, b"a").unwrap();
        let fine = Interface { nanoseconds: true, snaplen: 96, ..Interface::named("b", LinkType::LINUX_SLL2) };
        assert_eq!(writer.add_interface(&fine).unwrap(), 1);
        writer.write(1, Instant::from_secs(2), Direction::Unknown, b"b").unwrap();
        let file = writer.into_inner().unwrap();
        let mut reader = Reader::new(&file[..]).unwrap();
        let interfaces: Vec<_> = drain(&mut reader).0.iter().map(|record| (record.3, record.4)).collect();
        assert_eq!(interfaces, [(0, Direction::In), (1, Direction::Unknown)]);
        assert_eq!(reader.interfaces(), [Interface::new(LinkType::ETHERNET), fine]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_the_file_good() {
        let mut writer = Writer::new(Vec::new(), &[Interface::new(LinkType::ETHERNET)]).unwrap();
        let at = Instant::from_secs(1);
        let refused = writer.write(1, at, Direction::In, b"x");
        assert!(matches!(refused, Err(WriteError::NoSuchInterface(1))));
        for time in [Instant::from_micros(-1), Instant::NEVER] {
            assert!(matches!(writer.write(0, time, Direction::In, b"x"), Err(WriteError::Time(t)) if t == time));
        }
        let long = std::vec![0; MAX_FRAME + 1];
        assert!(matches!(writer.write(0, at, Direction::In, &long), Err(WriteError::TooLong(_))));
        let link = LinkType(65_536);
        assert!(matches!(writer.add_interface(&Interface::new(link)), Err(WriteError::LinkType(l)) if l == link));
        let name = "n".repeat(256);
        let named = Interface::named(name, LinkType::RAW);
        assert!(matches!(writer.add_interface(&named), Err(WriteError::NameTooLong(256))));
        writer.write(0, at, Direction::In, &long[1..]).unwrap();
        let (records, errors) = read_all(&writer.into_inner().unwrap());
        assert_eq!((records.len(), records[0].6.len()), (1, MAX_FRAME));
        assert!(errors.is_empty());
    }

    /// Refuses to be written to.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told() {
        let mut writer = Writer::new(Full, &[Interface::new(LinkType::ETHERNET)]).unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(matches!(writer.into_inner(), Err(WriteError::Io(_))));
    }

    fn directions() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Unknown), Just(Direction::In), Just(Direction::Out)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            interfaces in prop::collection::vec((".{0,20}", any::<u16>(), any::<u32>(), any::<bool>()), 1..4),
            frames in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..1_i64 << 53, 0..1000_u32, directions(), 0..9_usize, any::<Vec<u8>>()),
                0..8,
            ),
        ) {
            let interfaces: Vec<_> = interfaces
                .into_iter()
                .map(|(name, link, snaplen, nanoseconds)| {
                    let name = Some(name.replace('\0', "0"));
                    Interface { name, link_type: LinkType(link.into()), snaplen, nanoseconds }
                })
                .collect();
            let mut writer = Writer::new(Vec::new(), &interfaces).unwrap();
            let mut expected = Vec::new();
            for (number, (interface, micros, nanos, direction, cut, data)) in (1..).zip(&frames) {
                let interface = interface.index(interfaces.len());
                let nanos = if interfaces[interface].nanoseconds { *nanos } else { 0 };
                let original_len = data.len() + cut;
                let record = Record {
                    frame: 0,
                    time: Instant::from_micros(*micros),
                    nanos,
                    interface,
                    interface_name: None,
                    link_type: LinkType::NULL,
                    direction: *direction,
                    original_len,
                    data,
                };
                writer.write_record(&record).unwrap();
                expected.push((number, *micros, nanos, interface, *direction, original_len, data.clone()));
            }
            let file = writer.into_inner().unwrap();
            let mut reader = Reader::new(&file[..]).unwrap();
            let (records, errors) = drain(&mut reader);
            prop_assert_eq!(records, expected);
            prop_assert!(errors.is_empty());
            prop_assert_eq!(reader.interfaces(), interfaces);
        }
    }
}
