//! The parts of a capture.

use std::string::String;

use crate::Instant;
use crate::packet::link::LinkType;

/// A place where packets were captured.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Interface {
    /// The device's name (`if_name`), at most 255 bytes when read; pcap files have none.
    pub name: Option<String>,
    /// Link layer with which its frames begin.
    pub link_type: LinkType,
    /// The most bytes of a frame that were kept; 0 for no limit.
    pub snaplen: u32,
    /// True if its times are finer than a microsecond. [`Writer`](super::Writer) writes nanoseconds then, else
    /// microseconds.
    pub nanoseconds: bool,
}

impl Interface {
    /// An interface without a name, without a limit, in microseconds.
    #[must_use]
    pub const fn new(link_type: LinkType) -> Self {
        Self { name: None, link_type, snaplen: 0, nanoseconds: false }
    }

    /// An interface with a name, without a limit, in microseconds.
    pub fn named(name: impl Into<String>, link_type: LinkType) -> Self {
        Self { name: Some(name.into()), ..Self::new(link_type) }
    }
}

/// Which way a frame passed an interface: bits 0 and 1 of pcapng's `epb_flags`.
///
/// Cooked captures say it in the frame instead: [`Cooked`](crate::packet::link::Cooked).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Direction {
    /// The capture does not tell (0).
    #[default]
    Unknown,
    /// It arrived (1).
    In,
    /// It left (2).
    Out,
}

/// A captured frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// Number of the frame in the file, from 1, as Wireshark counts.
    pub frame: u64,
    /// When it was captured, in microseconds since the Unix epoch. A pcapng Simple Packet Block bears no time: it has
    /// the time of the frame before it in its section, or the epoch.
    pub time: Instant,
    /// Nanoseconds past `time`, 0 to 999; what is finer is cut off.
    pub nanos: u32,
    /// Index into [`Reader::interfaces`](super::Reader::interfaces).
    pub interface: usize,
    /// The interface's name.
    pub interface_name: Option<&'a str>,
    /// The interface's link type.
    pub link_type: LinkType,
    /// Which way it passed.
    pub direction: Direction,
    /// Length on the wire, as the file claims: more than `data` where the capture cut it.
    pub original_len: usize,
    /// Bytes of the frame, link layer first.
    pub data: &'a [u8],
}
