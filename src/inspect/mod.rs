//! The FTP story of any capture, told by a passive observer: what each control connection says, what it announces, what
//! Linux's helper would make of that, and which data connections come.
//!
//! Nothing is edited and nothing dropped. What a capture lacks is stepped over and said; what it shows more than once is
//! told once. Memory is bounded whatever the capture's length: facts are told as they are seen, and what is over is
//! forgotten.
//!
//! ```
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::inspect::{FtpEvent, Inspector, FramePos, Options, Sink};
//!
//! struct Endpoints(Vec<String>);
//!
//! impl Sink for Endpoints {
//!     fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
//!         if let FtpEvent::Announced(announced) = event {
//!             let there = (announced.address.unwrap(), announced.port.unwrap());
//!             self.0.push(format!("frame {}: {} {there:?}: {}", at.frame, announced.form, announced.helper));
//!         }
//!     }
//! }
//!
//! // 10.77.1.2:40000 > 198.51.100.9:21, "PORT 10,77,1,2,4,210"
//! let mut packet = vec![
//!     0x45, 0, 0, 62, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, // IPv4
//!     0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0, // TCP
//! ];
//! packet.extend(b"PORT 10,77,1,2,4,210\r\n");
//! let mut inspector = Inspector::new(Options::default());
//! let mut endpoints = Endpoints(Vec::new());
//! let at = FramePos { frame: 1, time: Instant::from_secs(0) };
//! inspector.packet(at, &packet, packet.len(), &mut endpoints);
//! let summary = inspector.finish(&mut endpoints);
//! assert_eq!(endpoints.0, ["frame 1: PORT (10.77.1.2, 1234): cannot be judged: the connection began before the capture"]);
//! assert_eq!((summary.sessions, summary.announcements, summary.handled), (1, 1, 0));
//! ```

mod announcement;
mod copies;
mod elsewhere;
mod event;
mod expected;
mod flow;
mod flow_stats;
mod helper_oracle;
mod icmp;
mod inspector;
mod lines;
pub(crate) mod packets;
mod session;
mod stream;
mod synthetic;
mod view;

pub use announcement::Wrong;
pub use event::{
    Announced, Began, CloseKind, Data, Ended, Ending, Fit, FramePos, FtpEvent, NoopSink, Opened, SessionId, Sink,
    Summary, Tls, Unfulfilled,
};
pub use helper_oracle::{Helper, PassReason, Unjudged};
pub use icmp::IcmpError;
pub use inspector::{Inspector, Options};
