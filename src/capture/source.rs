//! Bytes of a file in order, as many at a time as a record needs.

use std::io::{self, Read};
use std::vec::Vec;

use super::error::Stop;

/// Number of bytes to ask of the file at once.
const STEP: usize = 64 * 1024;

/// A buffer over a reader, which grows to the longest record asked for and never seeks.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Start and end, in `buffer`, of the bytes not yet taken.
    start: usize,
    end: usize,
    /// Their place in the file.
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, end: 0, offset: 0 }
    }

    /// Returns the number of bytes that have been taken.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `count` bytes, which stay; fewer where the file ends.
    pub(super) fn peek_up_to(&mut self, count: usize) -> io::Result<&[u8]> {
        self.make_room(count);
        while self.end - self.start < count {
            match self.reader.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => break,
                // A reader that claims more than it was given room for is not believed.
                Ok(read) => self.end = self.buffer.len().min(self.end + read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let end = self.end.min(self.start + count);
        Ok(self.buffer.get(self.start..end).unwrap_or_default())
    }

    /// The next `count` bytes, which stay; `None` at the end of the file.
    pub(super) fn peek(&mut self, count: usize) -> Result<Option<&[u8]>, Stop> {
        let bytes = self.peek_up_to(count).map_err(Stop::Io)?;
        match bytes.len() {
            0 if count > 0 => Ok(None),
            length if length < count => Err(Stop::Truncated),
            _ => Ok(Some(bytes)),
        }
    }

    /// The next `count` bytes, which are over then. They must have been peeked at.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + count);
        self.offset += (self.start - from) as u64;
        self.buffer.get(from..self.start).unwrap_or_default()
    }

    /// Room for `count` bytes from `start` on.
    fn make_room(&mut self, count: usize) {
        if self.buffer.len() - self.start >= count {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < count {
            self.buffer.resize(count.next_multiple_of(STEP), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Gives one byte at a time, each after an interruption.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let room = room.get_mut(..1).unwrap();
            self.0.read(room)
        }
    }

    #[test]
    fn peeks_and_takes_across_short_reads() {
        let mut source = Source::new(Slow(b"abcdef", false));
        assert_eq!(source.peek(4).unwrap(), Some(&b"abcd"[..]));
        assert_eq!(source.take(3), b"abc");
        assert_eq!(source.offset(), 3);
        assert_eq!(source.peek(3).unwrap(), Some(&b"def"[..]));
        assert!(matches!(source.peek(4), Err(Stop::Truncated)));
        assert_eq!(source.take(9), b"def");
        assert_eq!(source.offset(), 6);
        assert_eq!(source.peek(1).unwrap(), None);
    }

    #[test]
    fn memory_does_not_follow_the_file() {
        let file = vec![7; 40 * STEP];
        let mut source = Source::new(&file[..]);
        while source.peek(1000).is_ok_and(|bytes| bytes.is_some()) {
            source.take(1000);
        }
        assert_eq!(source.offset(), (40 * STEP / 1000 * 1000) as u64);
        assert_eq!(source.buffer.len(), STEP);
        source.peek(STEP + 1).unwrap_err();
        assert_eq!(source.buffer.len(), 2 * STEP);
    }
}
