//! The announcement of a line.

use core::fmt;
use core::net::IpAddr;
use core::ops::Range;

use super::Sender;

/// The form in which an endpoint for a data connection is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The client's `PORT a,b,c,d,p1,p2` (RFC 959 section 4.1.2).
    Port,
    /// The client's `EPRT |1|address|port|` (RFC 2428 section 2).
    Eprt,
    /// The server's `227` reply to `PASV`, six numbers somewhere in its text (RFC 959 section 4.2, RFC 1123 section
    /// 4.1.2.6).
    Pasv,
    /// The server's `229` reply to `EPSV`, `(|||port|)` (RFC 2428 section 3). It names no address: the server's own.
    Epsv,
    /// The client's `LPRT 4,4,a,b,c,d,2,p1,p2` (RFC 1639). Linux does not know it.
    Lprt,
    /// The server's `228` reply to `LPSV` (RFC 1639). Linux does not know it.
    Lpsv,
}

impl Form {
    /// Returns the side that announces in this form.
    #[inline]
    #[must_use]
    pub const fn sender(self) -> Sender {
        match self {
            Self::Port | Self::Eprt | Self::Lprt => Sender::Client,
            Self::Pasv | Self::Epsv | Self::Lpsv => Sender::Server,
        }
    }
}

impl fmt::Display for Form {
    /// The word the line starts with: `PORT`, `EPRT`, `LPRT`, `227`, `228`, `229`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
            Self::Pasv => "227",
            Self::Epsv => "229",
            Self::Lprt => "LPRT",
            Self::Lpsv => "228",
        })
    }
}

/// An endpoint found in a segment's payload, or in a line: where its sender will listen for the data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Announcement {
    /// Form of the announcement.
    pub form: Form,
    /// The address in the text; for [`Form::Epsv`] the sender's own.
    pub address: IpAddr,
    /// The port in the text. [`Form::Port`] and [`Form::Pasv`] can announce port 0, as Linux reads them.
    pub port: u16,
    /// Start of the text that NAT would replace, in bytes from the start of the payload or the line.
    pub start: usize,
    /// End of that text: the first byte after it.
    pub end: usize,
}

impl Announcement {
    /// The bytes of the payload or the line that NAT would replace.
    #[inline]
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The result of reading a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reading {
    /// No announcement.
    Nothing,
    /// The beginning of an announcement, or a malformed one: it cannot be told what it would open.
    Partial(Form),
    /// An announcement.
    Announcement(Announcement),
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn forms_know_their_speaker_and_their_word() {
        let seen = [Form::Port, Form::Eprt, Form::Pasv, Form::Epsv].map(|f| (f.sender(), f.to_string()));
        assert_eq!(seen[0], (Sender::Client, "PORT".to_string()));
        assert_eq!(seen[1], (Sender::Client, "EPRT".to_string()));
        assert_eq!(seen[2], (Sender::Server, "227".to_string()));
        assert_eq!(seen[3], (Sender::Server, "229".to_string()));
    }
}
