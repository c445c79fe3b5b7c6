//! The packets as they leave, written to a capture.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Record, WriteError, Writer};
use ftp_conntrack::packet::link::LinkType;
use ftp_conntrack::replay::{Seen, Sink};
use ftp_conntrack::router::Router;

use crate::failure::Failure;
use crate::replay::input::Input;

/// Writes what leaves, if it was asked to.
pub(crate) struct Recorder {
    path: PathBuf,
    writer: Option<Writer<File>>,
    failed: Option<WriteError>,
    /// Number of interfaces that were described.
    interfaces: usize,
}

impl Recorder {
    /// For what leaves a router.
    pub(crate) fn of_router(path: Option<&Path>, input: &Input) -> Result<Self, Failure> {
        let interfaces = input.replay.router().interfaces();
        let described: Vec<_> = interfaces.iter().map(|i| Interface::named(i.name.as_str(), LinkType::RAW)).collect();
        Self::create(path, &input.capture_paths, &described)
    }

    /// For packets on these interfaces; `captures` are read meanwhile.
    pub(crate) fn create(path: Option<&Path>, captures: &[PathBuf], interfaces: &[Interface]) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self { path: PathBuf::new(), writer: None, failed: None, interfaces: 0 });
        };
        if captures.iter().any(|capture| is_same(path, capture)) {
            return Err(Failure::of_file(path, "is the capture that is read; write to another file"));
        }
        let file = File::create(path).map_err(|error| Failure::of_file(path, cannot_write(error)))?;
        let writer = Writer::new(file, interfaces).map_err(|error| Failure::of_file(path, error))?;
        Ok(Self { path: path.to_owned(), writer: Some(writer), failed: None, interfaces: interfaces.len() })
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let closed = self.writer.map_or(Ok(()), |writer| writer.into_inner().map(drop));
        let failed = self.failed.or(closed.err());
        failed.map_or(Ok(()), |error| Err(Failure::of_file(&self.path, error)))
    }
}

impl Sink for Recorder {
    fn leaves(&mut self, packet: Seen<'_>, _: &Router) {
        self.write(packet.interface, packet.time, packet.bytes);
    }
}

impl Recorder {
    /// A packet leaves.
    pub(crate) fn write(&mut self, interface: usize, time: Instant, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        if self.failed.is_none() {
            self.failed = writer.write(interface, time, Direction::Out, bytes).err();
        }
    }
}

impl Recorder {
    /// A frame leaves on the interface of the capture that it came from.
    pub(crate) fn copy(&mut self, record: &Record<'_>) {
        let Some(writer) = &mut self.writer else { return };
        while self.failed.is_none() && self.interfaces <= record.interface {
            let mut interface = Interface::new(record.link_type);
            // Of interfaces without a frame so far nothing is known.
            interface.name = record.interface_name.filter(|_| self.interfaces == record.interface).map(str::to_owned);
            interface.nanoseconds = true;
            self.failed = writer.add_interface(&interface).err();
            self.interfaces += 1;
        }
        if self.failed.is_none() {
            self.failed = writer.write_record(record).err();
        }
    }
}

fn cannot_write(error: std::io::Error) -> String {
    format!("cannot be written: {error}")
}

/// Returns true if both paths lead to one file, which would be emptied before it is read.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
