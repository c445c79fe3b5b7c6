//! The announcement of one complete line, as the RFCs have it.

use core::net::IpAddr;

use super::line::{content, is_junk};
use super::permissive::{self, hidden_announcement};
use super::scanner::Scanner;
use super::{Announcement, Command, Form, HostPort, HostPortError, LongHostPort, Reply, Sender};

/// The result of reading a complete line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineReading {
    /// No announcement, whatever it looks like.
    Nothing,
    /// An announcement.
    Announcement(Announcement),
    /// The command or the reply of an announcement, with something that is no endpoint where one should stand.
    Malformed(Form, HostPortError),
}

/// Which reply a server's next line belongs to (RFC 959 section 4.2).
///
/// A reply may have many lines: the first has a hyphen behind its code, the last the same code and a blank. What stands
/// between is text, even if it looks like another reply: a greeting may contain `227 (10,0,0,5,4,1)`, and announces
/// nothing.
///
/// ```
/// use ftp_conntrack::ftp::ReplyLines;
///
/// let mut lines = ReplyLines::default();
/// assert_eq!(lines.code_of(b"220-Welcome\r\n"), Some((220, 4)));
/// assert_eq!(lines.code_of(b"227 (10,0,0,5,4,1)\r\n"), Some((220, 0)));
/// assert_eq!(lines.code_of(b"220 ready\r\n"), Some((220, 4)));
/// assert_eq!(lines.code_of(b"227 (10,0,0,5,4,1)\r\n"), Some((227, 4)));
/// assert_eq!(lines.code_of(b"no reply\r\n"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyLines {
    /// The code of the reply that has begun.
    within: Option<u16>,
}

impl ReplyLines {
    /// Before the first line of a reply.
    #[must_use]
    pub const fn new() -> Self {
        Self { within: None }
    }

    /// The code of the reply that the server's next complete line belongs to, and where in the line its text begins.
    /// `None` if it belongs to none.
    pub fn code_of(&mut self, line: &[u8]) -> Option<(u16, usize)> {
        let reply = Reply::parse(line);
        match (self.within, reply) {
            (Some(code), Some(reply)) if reply.code == code => {
                if !reply.continues {
                    self.within = None;
                }
                Some((code, text_at(line, &reply)))
            }
            (Some(code), _) => Some((code, 0)),
            (None, Some(reply)) => {
                self.within = reply.continues.then_some(reply.code);
                Some((reply.code, text_at(line, &reply)))
            }
            (None, None) => None,
        }
    }

    /// Returns true if the latest line's reply has more lines.
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.within.is_some()
    }

    /// The code of the reply that the next line belongs to, if one has begun.
    #[must_use]
    pub const fn within(&self) -> Option<u16> {
        self.within
    }
}

fn text_at(line: &[u8], reply: &Reply<'_>) -> usize {
    content(line).len() - reply.text.len()
}

/// Reads one complete line of `sender`, whose own address is `own` (a 229 reply means it without naming it). `replies`
/// is what all lines of the server before it were shown to.
///
/// Every line is read, wherever its segment begins; an argument must be nothing but an endpoint, while a reply's text
/// may have one anywhere. [`read_segment`](super::read_segment) is how Linux reads.
///
/// ```
/// use core::net::{IpAddr, Ipv4Addr};
/// use ftp_conntrack::ftp::{Form, LineReading, ReplyLines, Sender, read_line};
///
/// let own = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
/// let mut replies = ReplyLines::default();
/// let line = b"EPRT !1!10.0.0.5!1234!\n";
/// let LineReading::Announcement(there) = read_line(Sender::Client, own, line, &mut replies) else { panic!() };
/// assert_eq!((there.form, there.address, there.port), (Form::Eprt, own, 1234));
/// assert_eq!(&line[there.range()], b"!1!10.0.0.5!1234!");
///
/// let nothing = read_line(Sender::Client, own, b"STOR 10,0,0,5,4,210\r\n", &mut replies);
/// assert_eq!(nothing, LineReading::Nothing);
/// ```
#[must_use]
pub fn read_line(sender: Sender, own: IpAddr, line: &[u8], replies: &mut ReplyLines) -> LineReading {
    match sender {
        Sender::Client => read_command(line),
        Sender::Server => {
            replies.code_of(line).map_or(LineReading::Nothing, |(code, at)| read_reply(own, line, code, at))
        }
    }
}

fn read_command(line: &[u8]) -> LineReading {
    match read_verb(line) {
        LineReading::Nothing => hidden_announcement(line)
            .map_or(LineReading::Nothing, |(form, _)| LineReading::Malformed(form, HostPortError::Verb)),
        reading => reading,
    }
}

/// Reads a line whose verb is where RFC 959 has it.
fn read_verb(line: &[u8]) -> LineReading {
    let (form, there) = match Command::parse(line) {
        Some(Command::Port(there)) => {
            let there = there.map(|there| (there.address.into(), there.port));
            let argument = Command::argument_range(line).and_then(|range| line.get(range)).unwrap_or_default();
            // The strict reading knows best what is wrong.
            (Form::Port, there.or_else(|error| permissive::host_port(argument).map_err(|_| error)))
        }
        Some(Command::Eprt(there)) => (Form::Eprt, there.map(|there| (there.address, there.port))),
        Some(Command::Lprt(there)) => (Form::Lprt, there.map(|there| (there.address, there.port))),
        _ => return LineReading::Nothing,
    };
    let range = Command::argument_range(line);
    // Bytes that some server takes for a part of the first number.
    let before = range.as_ref().and_then(|range| line.get(..range.start)).unwrap_or_default();
    let separators = before.iter().rev().take_while(|byte| is_junk(**byte));
    if separators.clone().any(|byte| !matches!(byte, 0 | b'\t' | 0x0b | 0x0c | b'\r' | b' ')) && has_verb(before) {
        return LineReading::Malformed(form, HostPortError::Verb);
    }
    match (there, range) {
        (Ok((address, port)), Some(range)) => {
            LineReading::Announcement(Announcement { form, address, port, start: range.start, end: range.end })
        }
        (Err(error), _) => LineReading::Malformed(form, error),
        (Ok(_), None) => LineReading::Nothing,
    }
}

/// True if a verb is in the part of a line before its argument.
fn has_verb(before: &[u8]) -> bool {
    before.iter().any(u8::is_ascii_alphabetic)
}

/// A line of a reply with this code, whose text begins at `at`.
fn read_reply(own: IpAddr, line: &[u8], code: u16, at: usize) -> LineReading {
    let form = match code {
        227 => Form::Pasv,
        228 => Form::Lpsv,
        229 => Form::Epsv,
        _ => return LineReading::Nothing,
    };
    let text = content(line).get(at..).unwrap_or_default();
    let reply = Reply { code, continues: false, text };
    match reply.endpoint() {
        Some(there) => LineReading::Announcement(Announcement {
            form,
            address: there.address.unwrap_or(own),
            port: there.port,
            start: there.start - Reply::BEFORE_TEXT + at,
            end: there.end - Reply::BEFORE_TEXT + at,
        }),
        None => attempt(form, text).map_or(LineReading::Nothing, |error| LineReading::Malformed(form, error)),
    }
}

/// Returns the mistake in the endpoint that a reply's text tries to name; `None` if it does not try.
fn attempt(form: Form, text: &[u8]) -> Option<HostPortError> {
    let list = || text.windows(2).position(|pair| matches!(pair, [b'0'..=b'9', b',']));
    let error = match form {
        Form::Epsv => {
            let bars = text.windows(2).position(|pair| pair == b"||")?;
            let digits = text.get(bars + 2..)?.iter().any(u8::is_ascii_digit);
            return Some(if digits { HostPortError::Separator } else { HostPortError::NotANumber });
        }
        Form::Lpsv => LongHostPort::scan(&mut Scanner::new(text, number_before(text, list()?))).err(),
        _ => HostPort::scan(&mut Scanner::new(text, number_before(text, list()?))).err(),
    };
    Some(error.unwrap_or(HostPortError::Trailing))
}

/// Returns the start of the number whose last digit is at `last`.
fn number_before(text: &[u8], last: usize) -> usize {
    let digits = text.iter().take(last).rev().take_while(|byte| byte.is_ascii_digit()).count();
    last - digits
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::net::Ipv4Addr;
    use std::format;
    use std::string::String;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

    /// "form address port text", or what is wrong.
    fn read(sender: Sender, line: &str, replies: &mut ReplyLines) -> String {
        match read_line(sender, OWN, line.as_bytes(), replies) {
            LineReading::Nothing => String::from("nothing"),
            LineReading::Announcement(a) => format!("{} {} {} {}", a.form, a.address, a.port, &line[a.range()]),
            LineReading::Malformed(form, error) => format!("{form}: {error}"),
        }
    }

    #[test]
    fn commands() {
        for (line, expected) in [
            ("PORT 10,0,0,5,4,210\r\n", "PORT 10.0.0.5 1234 10,0,0,5,4,210"),
            ("port   10,0,0,5,4,210 \n", "PORT 10.0.0.5 1234 10,0,0,5,4,210"),
            ("EPRT |2|fd00::5|1234|\r\n", "EPRT fd00::5 1234 |2|fd00::5|1234|"),
            ("LPRT 4,4,10,0,0,5,2,4,210\r\n", "LPRT 10.0.0.5 1234 4,4,10,0,0,5,2,4,210"),
            ("PORT 10,0,0,5,4,2100\r\n", "PORT: a number is out of range"),
            ("PORT\r\n", "PORT: no argument"),
            ("STOR 10,0,0,5,4,210\r\n", "nothing"),
            ("227 (10,0,0,5,4,210)\r\n", "nothing"),
            ("\r\n", "nothing"),
        ] {
            assert_eq!(read(Sender::Client, line, &mut ReplyLines::default()), expected, "{line:?}");
        }
    }

    #[test]
    fn replies() {
        for (line, expected) in [
            ("227 Entering Passive Mode (10,0,0,5,4,210).\r\n", "227 10.0.0.5 1234 10,0,0,5,4,210"),
            ("227 =10,0,0,5,4,210\n", "227 10.0.0.5 1234 10,0,0,5,4,210"),
            ("229 Entering Extended Passive Mode (|||1234|)\r\n", "229 10.0.0.5 1234 |||1234|"),
            ("228 Entering Long Passive Mode (4,4,10,0,0,5,2,4,210)\r\n", "228 10.0.0.5 1234 4,4,10,0,0,5,2,4,210"),
            ("227 Logout.\r\n", "nothing"),
            ("227\r\n", "nothing"),
            ("229 Bye\r\n", "nothing"),
            ("226 (10,0,0,5,4,210)\r\n", "nothing"),
            ("PORT 10,0,0,5,4,210\r\n", "nothing"),
            ("227 Passive (10,0,0,5,300,10)\r\n", "227: a number is out of range"),
            ("227 Passive (10,0,0,5,10)\r\n", "227: the fields are not separated as they must be"),
            ("227 Passive (10,0,0,5,1,2,3)\r\n", "227: something follows the endpoint"),
            ("229 Passive (|||70000|)\r\n", "229: the fields are not separated as they must be"),
            ("229 Passive (|||)\r\n", "229: a number is missing"),
        ] {
            assert_eq!(read(Sender::Server, line, &mut ReplyLines::default()), expected, "{line:?}");
        }
    }

    #[test]
    fn every_line_of_a_227_reply_and_no_line_of_another() {
        let lines = [
            ("220-hello\r\n", "nothing"),
            ("227 (10,0,0,5,4,210)\r\n", "nothing"),
            ("220 ready\r\n", "nothing"),
            ("227-listening on 10,0,0,5,4,210\r\n", "227 10.0.0.5 1234 10,0,0,5,4,210"),
            ("  10,0,0,5,4,211\r\n", "227 10.0.0.5 1235 10,0,0,5,4,211"),
            ("227 (10,0,0,5,4,212)\r\n", "227 10.0.0.5 1236 10,0,0,5,4,212"),
            ("  10,0,0,5,4,213\r\n", "nothing"),
        ];
        let mut replies = ReplyLines::default();
        for (line, expected) in lines {
            assert_eq!(read(Sender::Server, line, &mut replies), expected, "{line:?}");
        }
        assert!(!replies.continues());
    }
}
