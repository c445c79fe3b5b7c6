//! Shows a capture from one side of a masquerading router as the other side would have seen it, in either direction,
//! without the router.
//!
//! [`Masquerade`] translates addresses, ports and FTP text and adjusts numbers; it follows no connection's state and
//! drops nothing. A packet that shows the inside of a router, whichever way it goes, becomes the same packet outside:
//!
//! ```
//! use std::net::IpAddr;
//! use ftp_conntrack::ftp::{LineReading, ReplyLines, Sender, read_line};
//! use ftp_conntrack::masquerade::{Line, Masquerade};
//! use ftp_conntrack::{SequenceNumber, netfilter::Cidr};
//!
//! let inside = "10.0.0.5".parse::<IpAddr>()?;
//! let mut masquerade = Masquerade::new(vec![Cidr::host(inside)], "203.0.113.1".parse()?);
//!
//! // What a client inside says; where its line begins is the reader's to know.
//! let text = b"PORT 10,0,0,5,4,210\r\n";
//! let reading = read_line(Sender::Client, inside, text, &mut ReplyLines::default());
//! let LineReading::Announcement(announcement) = reading else { panic!("{reading:?}") };
//! let line = Line {
//!     frame: 17,
//!     from: "10.0.0.5:40000".parse()?,
//!     to: "198.51.100.9:21".parse()?,
//!     start: SequenceNumber(1000),
//!     text,
//! };
//! let rewriting = masquerade.announce(&line, &announcement).ok_or("left as it is")?;
//! assert_eq!(rewriting.text.as_str(), "203,0,113,1,4,210");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Masquerade::translate`] then writes that text into every packet that bears it, in whatever pieces, and moves the
//! numbers behind it. `Frames` does this to whole captures, and finds the lines itself.

#[cfg(feature = "capture")]
mod frames;
mod mapping;
mod streams;
mod translate;

#[cfg(feature = "capture")]
pub use frames::{Frames, Sink, Summary};
pub use mapping::Known;
pub use translate::{Outcome, Untouched};

use std::net::{IpAddr, SocketAddr};
use std::string::ToString;
use std::vec::Vec;

use crate::SequenceNumber;
use crate::ftp::{self, Announcement, Delimiter, ExtendedHostPort, Form, Text};
use crate::netfilter::Cidr;
use crate::packet::Protocol;
use mapping::Mapping;
use streams::{Flow, Streams};

/// One side of a masquerading router, to be shown as the other side sees it.
///
/// Addresses to be replaced are *near*, all others *remote*; what takes a near address's place is *far*.
#[derive(Debug)]
pub struct Masquerade {
    mapping: Mapping,
    streams: Streams,
    /// True if the near side is the outside, and its translated address a host inside.
    reveals: bool,
}

/// A line of a control connection, where it stands in the stream.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Line<'a> {
    /// The frame that completed it.
    pub frame: u64,
    /// Endpoint that announces it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// The sequence number of its first byte.
    pub start: SequenceNumber,
    /// The line.
    pub text: &'a [u8],
}

/// An announcement that leaves otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewriting {
    /// Text that replaces [`Announcement::range`] of the line.
    pub text: Text,
    /// Endpoint that is announced now.
    pub endpoint: SocketAddr,
    /// The stretch of the line that the text takes the place of.
    range: (usize, usize),
}

impl Rewriting {
    /// The line as it leaves.
    pub fn line(&self, line: &Line<'_>) -> Vec<u8> {
        let (start, end) = self.range;
        let [before, after] = [line.text.get(..start), line.text.get(end..)].map(Option::unwrap_or_default);
        [before, &self.text, after].concat()
    }
}

impl Masquerade {
    /// The inside as the outside sees it: every address of `inside` is `outside`. Ports stay, unless two hosts inside
    /// would have the same one towards the same endpoint.
    #[must_use]
    pub fn new(inside: Vec<Cidr>, outside: IpAddr) -> Self {
        Self { mapping: Mapping::hide(inside, outside), streams: Streams::default(), reveals: false }
    }

    /// The outside as the inside sees it: `outside` is `host`, the only one behind it.
    #[must_use]
    pub fn back(outside: IpAddr, host: IpAddr) -> Self {
        Self { mapping: Mapping::reveal(outside, host), streams: Streams::default(), reveals: true }
    }

    /// Returns true if an address is one that is replaced.
    #[must_use]
    pub fn hides(&self, address: IpAddr) -> bool {
        self.mapping.is_near(address)
    }

    /// Notes an announcement, before any packet of it is translated; `None` if it leaves as it is.
    ///
    /// A near speaker's own address, another near one, and in replies the unspecified one are replaced; an address
    /// elsewhere is not the router's to translate. Where a line was announced before at the same place, nothing changes.
    pub fn announce(&mut self, line: &Line<'_>, announcement: &Announcement) -> Option<Rewriting> {
        let unspecified = announcement.address.is_unspecified() && matches!(announcement.form, Form::Pasv | Form::Lpsv);
        let address = if unspecified { line.from.ip() } else { announcement.address };
        if !self.mapping.is_near(line.from.ip()) {
            return self.respell(line, announcement);
        }
        if !self.mapping.is_near(address) || announcement.port == 0 {
            return None;
        }
        let listens = SocketAddr::new(address, announcement.port);
        // Any port of the other side may come.
        let comes_from = SocketAddr::new(line.to.ip(), 0);
        let endpoint = self.mapping.far(Protocol::TCP, listens, comes_from).0;
        let replaced = line.text.get(announcement.range())?;
        // A 229 reply says no address, and mostly stays.
        let is_same = endpoint.port() == announcement.port
            && (endpoint.ip() == announcement.address || !says_address(announcement.form, replaced));
        if is_same {
            return None;
        }
        let text = Self::write(announcement.form, replaced, endpoint, self.reveals)?;
        self.replace(line, announcement, replaced, text, endpoint)
    }

    /// Rewrites a remote side's announcement of its own address in the router's spelling.
    fn respell(&mut self, line: &Line<'_>, announcement: &Announcement) -> Option<Rewriting> {
        let is_own = announcement.address == line.from.ip() && self.mapping.is_near(line.to.ip());
        if announcement.form != Form::Eprt || !announcement.address.is_ipv6() || !is_own {
            return None;
        }
        let endpoint = SocketAddr::new(announcement.address, announcement.port);
        let replaced = line.text.get(announcement.range())?;
        let text = Self::write(announcement.form, replaced, endpoint, !self.reveals)?;
        if text.as_bytes() == replaced {
            return None;
        }
        self.replace(line, announcement, replaced, text, endpoint)
    }

    fn replace(
        &mut self,
        line: &Line<'_>,
        announcement: &Announcement,
        replaced: &[u8],
        text: Text,
        endpoint: SocketAddr,
    ) -> Option<Rewriting> {
        let start = line.start + u32::try_from(announcement.start).ok()?;
        let flow = Flow { from: line.from, to: line.to };
        let range = (announcement.start, announcement.end);
        let fits = self.streams.replace(flow, line.frame, start, replaced.len() as u32, text);
        fits.then_some(Rewriting { text, endpoint, range })
    }

    /// The text that announces `endpoint`. Routers write IPv6 addresses out in full, as Linux does; hosts write them short
    /// (RFC 5952).
    fn write(form: Form, replaced: &[u8], endpoint: SocketAddr, by_host: bool) -> Option<Text> {
        match (form, endpoint.ip()) {
            (Form::Eprt, address @ IpAddr::V6(_)) if by_host => {
                let delimiter = Delimiter::new(*replaced.first()?)?;
                let there = ExtendedHostPort { delimiter, address, port: endpoint.port() };
                Some(Text::copy_of(there.to_string().as_bytes()))
            }
            (Form::Eprt, address @ IpAddr::V6(_)) => {
                let styled = ftp::write_like(form, replaced, address, endpoint.port());
                let delimiter = [*styled.as_bytes().first()?];
                let full = ftp::write(form, address, endpoint.port());
                let full = full.as_str().replace('|', core::str::from_utf8(&delimiter).ok()?);
                Some(Text::copy_of(full.as_bytes()))
            }
            (_, address) => Some(ftp::write_like(form, replaced, address, endpoint.port())),
        }
    }

    /// A SYN with this sequence number: a stream begins, or, with the number that it began with, begins again.
    pub fn begin(&mut self, frame: u64, from: SocketAddr, to: SocketAddr, sequence: SequenceNumber) {
        self.streams.begin(Flow { from, to }, frame, sequence);
    }
}

/// Returns true if the text of an announcement has an address in it.
fn says_address(form: Form, text: &[u8]) -> bool {
    match (form, text) {
        (Form::Epsv, [first, second, ..]) => first != second,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
