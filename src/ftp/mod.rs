//! FTP text, and nothing else: reading it, writing it, and deciding what an announced endpoint means.
//!
//! FTP speaks of addresses in its text: a client says where it will listen (`PORT`, `EPRT`, `LPRT`), or a server does
//! (the replies 227, 228, 229), and the other side opens the data connection there. This layer needs neither packets
//! nor memory. A client behind NAT announces its own address, and the server must be told another:
//!
//! ```
//! use core::net::IpAddr;
//! use ftp_conntrack::ftp::{Decision, Endpoints, Sender, decide, read_segment, write};
//!
//! // The client 192.168.1.10 reaches the server 203.0.113.5 as 198.51.100.107.
//! let server: IpAddr = "203.0.113.5".parse()?;
//! let ends = Endpoints {
//!     client: "192.168.1.10".parse()?, seen: "198.51.100.107".parse()?, dialled: server, server,
//! };
//!
//! let line = b"PORT 192,168,1,10,200,13\r\n";
//! let reading = read_segment(Sender::Client, ends.own(Sender::Client), line);
//! let Decision::Expect(expect) = decide(reading, Sender::Client, &ends, false) else { panic!("{reading:?}") };
//! assert_eq!(expect.source, server);
//! assert_eq!(expect.destination, "198.51.100.107:51213".parse()?);
//!
//! let text = write(expect.announcement.form, expect.announce, expect.destination.port());
//! let mut rewritten = line.to_vec();
//! rewritten.splice(expect.announcement.range(), text.iter().copied());
//! assert_eq!(rewritten, b"PORT 198,51,100,107,200,13\r\n");
//! # Ok::<(), core::net::AddrParseError>(())
//! ```
//!
//! There are two ways to read. [`read_segment`] is how Linux does it, quirks included: one segment at a time, and only
//! where [`LineStarts`] says that a line begins. [`read_line`] has the language of the RFCs, as [`Command`] and [`Reply`]
//! understand it, one complete line at a time: strict in what a command's argument may be, lenient in what a reply's
//! text may look like.

mod announcement;
mod command;
mod command_kind;
mod decision;
mod dialogue;
mod host_port;
mod line;
mod line_starts;
mod linux;
mod permissive;
mod read_line;
mod reply;
mod scanner;
mod sender;
#[cfg(feature = "alloc")]
pub(crate) mod tls;
mod write;

#[cfg(test)]
mod properties;

pub use announcement::{Announcement, Form, Reading};
pub use command::{Command, EpsvArgument};
pub use command_kind::CommandKind;
pub use decision::{Decision, Endpoints, Expect, PassReason, decide};
pub use dialogue::{Answer, Dialogue, Login};
pub use host_port::{Delimiter, ExtendedHostPort, HostPort, HostPortError, LongHostPort};
pub use line_starts::LineStarts;
pub use linux::read_segment;
pub use permissive::{hidden_announcement, hidden_reply, may_announce, may_announce_later, may_hide_reply};
pub use read_line::{LineReading, ReplyLines, read_line};
pub use reply::{Reply, ReplyEndpoint};
pub use sender::Sender;
pub use write::{MAX_TEXT, Text, write, write_like};
