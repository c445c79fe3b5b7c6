//! Several captures read as one.

use std::io::Read;
use std::string::String;
use std::vec::Vec;

use super::{Direction, ReadError, Reader, Record};
use crate::Instant;
use crate::packet::link::LinkType;

/// A source of captured frames: one capture, or several that are merged.
pub trait RecordSource {
    /// Returns the next frame; `None` at the end. The record lives until the next call.
    ///
    /// # Errors
    ///
    /// As [`Reader::next`].
    fn next_record(&mut self) -> Option<Result<Record<'_>, ReadError>>;
}

impl<R: Read> RecordSource for Reader<R> {
    fn next_record(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.next()
    }
}

/// Several captures of one machine, merged by time.
///
/// Frames are numbered anew, in the order in which they come, as `mergecap` does; those of a single capture keep their
/// numbers. A capture that names no interface gets the name that was given for it.
///
/// ```
/// use ftp_conntrack::Instant;
/// use ftp_conntrack::capture::{Direction, Interface, Merged, Reader, RecordSource, Writer};
/// use ftp_conntrack::packet::link::LinkType;
///
/// let capture = |second: i64| -> Vec<u8> {
///     let mut writer = Writer::new(Vec::new(), &[Interface::new(LinkType::RAW)]).unwrap();
///     writer.write(0, Instant::from_secs(second), Direction::In, &[0x45]).unwrap();
///     writer.into_inner().unwrap()
/// };
/// let (late, early) = (capture(2), capture(1));
/// let mut merged = Merged::default();
/// merged.add(Some("lan".into()), Reader::new(&late[..])?);
/// merged.add(Some("wan".into()), Reader::new(&early[..])?);
/// let first = merged.next_record().unwrap()?;
/// assert_eq!((first.frame, first.interface_name), (1, Some("wan")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Merged<R: Read> {
    parts: Vec<Part<R>>,
    /// The number of the latest frame.
    frame: u64,
    /// The frame that was returned last.
    current: Owned,
}

/// One of the captures, with its next frame.
#[derive(Debug)]
struct Part<R: Read> {
    name: Option<String>,
    reader: Reader<R>,
    next: Option<Result<Owned, ReadError>>,
    has_begun: bool,
}

/// A frame in memory of its own.
#[derive(Debug, Default)]
struct Owned {
    frame: u64,
    time: Instant,
    nanos: u32,
    interface: usize,
    interface_name: Option<String>,
    link_type: Option<LinkType>,
    direction: Direction,
    original_len: usize,
    data: Vec<u8>,
}

impl<R: Read> Default for Merged<R> {
    fn default() -> Self {
        Self { parts: Vec::new(), frame: 0, current: Owned::default() }
    }
}

impl<R: Read> Merged<R> {
    /// Adds a capture. `name`: the interface of its frames, where it names none.
    pub fn add(&mut self, name: Option<String>, reader: Reader<R>) {
        self.parts.push(Part { name, reader, next: None, has_begun: false });
    }

    /// Returns the number of captures.
    pub const fn len(&self) -> usize {
        self.parts.len()
    }

    /// True if there is no capture.
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the place of the capture whose frame is the next: an error comes at once, then the earliest.
    fn earliest(&self) -> Option<usize> {
        let times = self.parts.iter().enumerate().filter_map(|(place, part)| match part.next.as_ref()? {
            Ok(frame) => Some((Some((frame.time, frame.nanos)), place)),
            Err(_) => Some((None, place)),
        });
        times.min().map(|(_, place)| place)
    }
}

impl<R: Read> RecordSource for Merged<R> {
    fn next_record(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        if self.parts.len() == 1 {
            let only = self.parts.first_mut()?;
            let name = only.name.as_deref();
            return only.reader.next().map(|record| {
                record.map(|record| Record { interface_name: record.interface_name.or(name), ..record })
            });
        }
        for (number, part) in self.parts.iter_mut().enumerate() {
            if !part.has_begun {
                part.has_begun = true;
                part.advance(number);
            }
        }
        let place = self.earliest()?;
        let part = self.parts.get_mut(place)?;
        let next = part.next.take()?;
        part.advance(place);
        match next {
            Ok(frame) => self.current = frame,
            Err(error) => return Some(Err(error)),
        }
        self.frame += 1;
        self.current.frame = self.frame;
        Some(Ok(self.current.as_record()))
    }
}

impl<R: Read> Part<R> {
    /// Reads the next frame.
    fn advance(&mut self, number: usize) {
        let name = &self.name;
        self.next = self.reader.next().map(|record| record.map(|record| Owned::of(&record, name.as_ref(), number)));
    }
}

impl Owned {
    fn of(record: &Record<'_>, name: Option<&String>, number: usize) -> Self {
        Self {
            frame: record.frame,
            time: record.time,
            nanos: record.nanos,
            interface: number,
            interface_name: record.interface_name.map(String::from).or_else(|| name.cloned()),
            link_type: Some(record.link_type),
            direction: record.direction,
            original_len: record.original_len,
            data: record.data.to_vec(),
        }
    }

    fn as_record(&self) -> Record<'_> {
        Record {
            frame: self.frame,
            time: self.time,
            nanos: self.nanos,
            interface: self.interface,
            interface_name: self.interface_name.as_deref(),
            link_type: self.link_type.unwrap_or(LinkType::NULL),
            direction: self.direction,
            original_len: self.original_len,
            data: &self.data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Interface, Writer};

    fn capture(times: &[i64]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &[Interface::new(LinkType::RAW)]).unwrap();
        for time in times {
            writer.write(0, Instant::from_secs(*time), Direction::Unknown, &[*time as u8]).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn seen(captures: &[(&str, &[u8])]) -> Vec<(u64, String, u8)> {
        let mut merged = Merged::default();
        for (name, bytes) in captures {
            merged.add(Some((*name).into()), Reader::new(*bytes).unwrap());
        }
        let mut seen = Vec::new();
        while let Some(record) = merged.next_record() {
            let Ok(record) = record else { continue };
            seen.push((record.frame, record.interface_name.unwrap().into(), record.data[0]));
        }
        seen
    }

    #[test]
    fn frames_come_in_the_order_of_time() {
        let (lan, wan) = (capture(&[1, 4, 5]), capture(&[2, 3, 6]));
        let expected = [("lan", 1), ("wan", 2), ("wan", 3), ("lan", 4), ("lan", 5), ("wan", 6)];
        let expected = expected.iter().zip(1..).map(|((name, time), frame)| (frame, String::from(*name), *time));
        assert_eq!(seen(&[("lan", &lan), ("wan", &wan)]), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_capture_that_ends_early_does_not_end_the_others() {
        let (whole, mut cut) = (capture(&[1, 3]), capture(&[2, 4]));
        cut.truncate(cut.len() - 3);
        assert_eq!(seen(&[("a", &whole), ("b", &cut)]).len(), 3);
        assert_eq!(seen(&[("a", &whole)])[1], (2, "a".into(), 3));
        assert!(seen(&[]).is_empty());
    }
}
