//! Errors in a capture, and their places.

use core::fmt;
use std::io;

use super::Foreign;
use crate::Instant;
use crate::packet::link::LinkType;

/// The reason why a capture cannot be read, or not further. `offset` counts bytes from the start of the file; `frame`
/// is the number that the frame concerned has, or the next frame would have had.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    Io {
        /// Start of the record that could not be read.
        offset: u64,
        /// Error of the system.
        source: io::Error,
    },
    /// The file has no bytes at all.
    Empty,
    /// The file does not begin as pcap or pcapng does.
    NotCapture {
        /// Format, where the first bytes tell it.
        format: Option<Foreign>,
        /// First bytes; 0 where the file is shorter.
        first: [u8; 4],
    },
    /// The file ends inside a record. All before was delivered; nothing follows.
    Truncated {
        /// The frame that is cut.
        frame: u64,
        /// Start of the record.
        offset: u64,
    },
    /// The file contradicts its format.
    Damaged {
        /// The frame concerned.
        frame: u64,
        /// Start of the record or block.
        offset: u64,
        /// Damage that was found.
        damage: Damage,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { offset: 0, source } => write!(f, "cannot be read: {source}"),
            Self::Io { offset, source } => write!(f, "cannot be read after byte {offset}: {source}"),
            Self::Empty => f.write_str("the file is empty"),
            Self::NotCapture { format: Some(format), .. } => {
                write!(f, "not pcap or pcapng but {format}; to convert: {}", format.converter())
            }
            Self::NotCapture { format: None, first: [a, b, c, d] } => {
                write!(f, "not pcap or pcapng: begins with {a:02x} {b:02x} {c:02x} {d:02x}")
            }
            Self::Truncated { frame, offset } => {
                write!(f, "the file is cut short in frame {frame}, whose record begins at byte {offset}")
            }
            Self::Damaged { frame, offset, damage } => {
                write!(f, "damaged at frame {frame}, byte {offset}: {damage}")
            }
        }
    }
}

impl core::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A contradiction between a file and its format.
///
/// After [`NoSuchInterface`](Self::NoSuchInterface), [`CapturedLength`](Self::CapturedLength),
/// [`TooShort`](Self::TooShort), [`Options`](Self::Options) and [`TooManyInterfaces`](Self::TooManyInterfaces) reading
/// goes on at the next block, as the block's length is good. After the others nothing can be trusted, and reading ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// A version of the format that is not known.
    Version {
        /// Before the dot.
        major: u16,
        /// After the dot.
        minor: u16,
    },
    /// A section's byte-order magic is neither way round.
    ByteOrder,
    /// A block with a total length that is shorter than any such block.
    BlockLength(u32),
    /// A record or block so long that its length must be wrong.
    TooLong(u32),
    /// A block's total length at its end is another than at its start.
    TrailingLength {
        /// At the start.
        leading: u32,
        /// At the end.
        trailing: u32,
    },
    /// A block too short for its fixed fields.
    TooShort,
    /// A captured length that is more than the block holds.
    CapturedLength(u32),
    /// A packet of an interface that its section has not described.
    NoSuchInterface(u32),
    /// A block's options run over its end, or one that is needed has a wrong length. An interface is known all the
    /// same.
    Options,
    /// More than 65,536 interfaces; further ones are left out, so that memory stays bounded.
    TooManyInterfaces,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { major, minor } => write!(f, "version {major}.{minor} of the format is not known"),
            Self::ByteOrder => f.write_str("a section without byte-order magic"),
            Self::BlockLength(length) => write!(f, "a block of {length} bytes"),
            Self::TooLong(length) => write!(f, "a record of {length} bytes"),
            Self::TrailingLength { leading, trailing } => {
                write!(f, "a block begins with length {leading} and ends with length {trailing}")
            }
            Self::TooShort => f.write_str("a block is too short for its fields"),
            Self::CapturedLength(length) => write!(f, "a block is too short for the {length} bytes of its packet"),
            Self::NoSuchInterface(index) => write!(f, "interface {index} has not been described"),
            Self::Options => f.write_str("a block's options are malformed"),
            Self::TooManyInterfaces => f.write_str("too many interfaces"),
        }
    }
}

/// The reason why nothing more can be read; the reader adds the place.
#[derive(Debug)]
pub(super) enum Stop {
    Io(io::Error),
    Truncated,
    Damaged(Damage),
}

impl Stop {
    pub(super) fn at(self, frame: u64, offset: u64) -> ReadError {
        match self {
            Self::Io(source) => ReadError::Io { offset, source },
            Self::Truncated => ReadError::Truncated { frame, offset },
            Self::Damaged(damage) => ReadError::Damaged { frame, offset, damage },
        }
    }
}

/// The reason why a frame or an interface could not be written. Nothing of it is in the file, except after
/// [`Io`](Self::Io).
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    Io(io::Error),
    /// No interface has this index.
    NoSuchInterface(usize),
    /// A time before 1970 or after 2554, for which pcapng has no number.
    Time(Instant),
    /// A frame of so many bytes; 16 MiB less 256 bytes is the most.
    TooLong(usize),
    /// A link type above 65,535.
    LinkType(LinkType),
    /// An interface name of so many bytes; 255 is the most.
    NameTooLong(usize),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(source) => write!(f, "cannot be written: {source}"),
            Self::NoSuchInterface(index) => write!(f, "no interface has the index {index}"),
            Self::Time(time) => write!(f, "the time {time} is outside 1970 to 2554"),
            Self::TooLong(length) => write!(f, "a frame of {length} bytes is too long"),
            Self::LinkType(link) => write!(f, "link type {} does not fit pcapng", link.0),
            Self::NameTooLong(length) => write!(f, "an interface name of {length} bytes is too long"),
        }
    }
}

impl core::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}
