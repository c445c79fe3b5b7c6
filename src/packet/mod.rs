//! Finds the headers of one packet, and changes an address, a port, a number or a stretch of text so that every length
//! and checksum stays right.
//!
//! A [`Packet`] is the caller's buffer with the network packet somewhere in it: what stands before may be a link
//! header, what stands after is room to grow. [`Headers::find`] looks at it once; everything later uses the
//! offsets it found.
//!
//! ```
//! use ftp_conntrack::packet::{Headers, Layer4, Packet, Side};
//!
//! // 10.77.1.2:40000 > 198.51.100.9:21, "NOOP\r\n"
//! let mut buffer = [0; 128];
//! let frame = [
//!     0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, // IPv4
//!     0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0, // TCP
//!     b'N', b'O', b'O', b'P', b'\r', b'\n',
//! ];
//! buffer[..frame.len()].copy_from_slice(&frame);
//! let mut packet = Packet::new(&mut buffer, 0..frame.len()).unwrap();
//!
//! let mut headers = Headers::find(packet.bytes()).unwrap();
//! let Layer4::Tcp(segment) = headers.layer4 else { unreachable!() };
//! assert_eq!(segment.sequence.0, 7);
//! assert_eq!(headers.payload(packet.bytes()), b"NOOP\r\n");
//!
//! headers.set_endpoint(packet.bytes_mut(), Side::Source, "203.0.113.1".parse().unwrap(), 40001);
//! packet.replace_payload(&mut headers, 0..4, b"STAT").unwrap();
//! assert_eq!(headers.payload(packet.bytes()), b"STAT\r\n");
//! ```

mod address;
mod buffer;
#[cfg(feature = "alloc")]
mod build;
pub mod checksum;
pub mod crc32c;
mod edit;
#[cfg(feature = "alloc")]
mod fragment;
mod headers;
#[cfg(feature = "alloc")]
mod hop_by_hop;
#[cfg(feature = "alloc")]
mod ip_options;
pub mod link;
#[cfg(feature = "alloc")]
mod mss;
mod protocol;
pub mod tunnel;

#[cfg(feature = "alloc")]
pub(crate) use address::Address;
pub use buffer::{BadRange, Packet, ReplaceError};
#[cfg(feature = "alloc")]
pub(crate) use build::{DEFAULT_HOP_LIMIT, IcmpError, InName, MAX_BUILT, write_reset};
pub use edit::Side;
#[cfg(feature = "alloc")]
pub(crate) use fragment::{Cut, atomic_fragment_header, must_not_be_cut, unfragmentable_v6};
#[cfg(feature = "alloc")]
pub(crate) use headers::read_array;
pub use headers::{
    BadOption, Fragment, GreHeader, Headers, IcmpHeader, Layer4, Malformed, Segment, TcpFlags, TcpOptions,
};
#[cfg(feature = "alloc")]
pub(crate) use hop_by_hop::{HopByHop, read_hop_by_hop};
#[cfg(feature = "alloc")]
pub(crate) use ip_options::{Entry, IpOptions, MAX_OPTIONS};
pub use protocol::{Family, Protocol};
