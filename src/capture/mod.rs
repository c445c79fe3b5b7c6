//! Captures in and out: time, interface, direction, link type, bytes.
//!
//! [`Reader`] takes pcap and pcapng from anything that can be read, pipes included; [`Writer`] makes pcapng.
//! Where the network packet begins in a frame is told by [`crate::packet::link`].
//!
//! ```
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::capture::{Direction, Interface, Reader, Writer};
//! use ftp_conntrack::packet::link::LinkType;
//!
//! let inside = Interface::named("eth0", LinkType::RAW);
//! let mut writer = Writer::new(Vec::new(), &[inside])?;
//! writer.write(0, Instant::from_secs(1), Direction::Out, &[0x45, 0, 0, 20])?;
//! let file = writer.into_inner()?;
//!
//! let mut reader = Reader::new(&file[..])?;
//! while let Some(record) = reader.next() {
//!     let record = record?;
//!     assert_eq!((record.frame, record.time), (1, Instant::from_secs(1)));
//!     assert_eq!((record.interface_name, record.direction), (Some("eth0"), Direction::Out));
//!     assert_eq!(record.data, [0x45, 0, 0, 20]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
mod build;
mod bytes;
mod clock;
mod error;
mod foreign;
mod merged;
mod pcap;
mod pcapng;
mod reader;
mod record;
mod source;
mod writer;

pub use error::{Damage, ReadError, WriteError};
pub use foreign::Foreign;
pub use merged::{Merged, RecordSource};
pub use reader::Reader;
pub use record::{Direction, Interface, Record};
pub use writer::Writer;

/// The longest record or block that is read; longer ones are taken for damage. Wireshark has the same limit.
const MAX_BLOCK: u32 = 16 << 20;
