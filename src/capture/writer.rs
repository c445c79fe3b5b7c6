//! Writing captures.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::time::Duration;
use std::vec::Vec;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::{PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::error::WriteError;
use super::pcapng::MAX_NAME;
use super::record::{Direction, Interface, Record};
use crate::Instant;

/// The longest frame: with all that is written around it, a reader must accept its block.
const MAX_FRAME: usize = super::MAX_BLOCK as usize - 256;

/// Writes a capture as pcapng: one section, little-endian whatever the machine, so that the same frames give the same
/// file. It has its own buffer.
pub struct Writer<W: Write> {
    blocks: PcapNgWriter<BufWriter<W>>,
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
        let blocks = PcapNgWriter::with_endianness(BufWriter::new(writer), Endianness::Little).map_err(io_error)?;
        let mut writer = Self { blocks };
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
        if u16::try_from(interface.link_type.0).is_err() {
            return Err(WriteError::LinkType(interface.link_type));
        }
        let resolution = match interface.nanoseconds {
            true => InterfaceTsResolution::NANO,
            false => InterfaceTsResolution::MICRO,
        };
        let mut options = Vec::from([InterfaceDescriptionOption::IfTsResol(resolution)]);
        if let Some(name) = &interface.name {
            if name.len() > MAX_NAME {
                return Err(WriteError::NameTooLong(name.len()));
            }
            options.insert(0, InterfaceDescriptionOption::IfName(Cow::Borrowed(name)));
        }
        let linktype = DataLink::from(interface.link_type.0);
        let block = InterfaceDescriptionBlock { linktype, snaplen: interface.snaplen, options };
        let index = self.blocks.interfaces().len();
        self.blocks.write_pcapng_block(block).map_err(io_error)?;
        Ok(index)
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
        if interface >= self.blocks.interfaces().len() {
            return Err(WriteError::NoSuchInterface(interface));
        }
        if data.len() > MAX_FRAME {
            return Err(WriteError::TooLong(data.len()));
        }
        let original_len = original_len.max(data.len());
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(interface).map_err(|_| WriteError::NoSuchInterface(interface))?,
            timestamp: since_epoch(time, nanos).ok_or(WriteError::Time(time))?,
            original_len: u32::try_from(original_len).map_err(|_| WriteError::TooLong(original_len))?,
            data: Cow::Borrowed(data),
            options: flags(direction),
        };
        self.blocks.write_pcapng_block(block).map_err(io_error)?;
        Ok(())
    }

    /// Hands all that was written on to the underlying writer, and flushes that.
    ///
    /// # Errors
    ///
    /// What the underlying writer says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.blocks.get_mut().flush()
    }

    /// Ends the capture and returns the underlying writer.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`] when what is still buffered cannot be written.
    pub fn into_inner(self) -> Result<W, WriteError> {
        self.blocks.into_inner().into_inner().map_err(|error| WriteError::Io(error.into_error()))
    }
}

/// A moment as pcapng can hold it in either resolution: nanoseconds from the epoch in 64 bits.
fn since_epoch(time: Instant, nanos: u32) -> Option<Duration> {
    let micros = u64::try_from(time.micros()).ok()?;
    let total = micros.checked_mul(1000)?.checked_add(nanos.into())?;
    Some(Duration::from_nanos(total))
}

/// `epb_flags`, where there is something to say.
fn flags(direction: Direction) -> Vec<EnhancedPacketOption<'static>> {
    match direction {
        Direction::Unknown => Vec::new(),
        Direction::In => Vec::from([EnhancedPacketOption::Flags(1)]),
        Direction::Out => Vec::from([EnhancedPacketOption::Flags(2)]),
    }
}

/// All that can be refused was looked at before, so what is left is the file.
fn io_error(error: PcapNgWriteError) -> WriteError {
    WriteError::Io(match error {
        PcapNgWriteError::Io(error) => error,
        other => io::Error::other(other),
    })
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
