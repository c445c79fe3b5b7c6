//! Lines that announce an endpoint, well or badly.

use core::fmt;
use core::net::IpAddr;

use super::lines::{End, Line};
use crate::ftp::{Command, ExtendedHostPort, Form, HostPort, HostPortError, Reply, Sender};

/// The mistake in an announcement that can be recognised all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wrong {
    /// The command's argument is no endpoint.
    Argument(HostPortError),
    /// An `EPRT` or 229 whose last delimiter is missing.
    Unclosed,
    /// The reply's text names no endpoint.
    NoEndpoint,
    /// A hyphen stands behind the reply's code: more lines follow, and clients look at the last.
    Continued,
    /// It stands inside a longer reply of this code.
    Inside(u16),
    /// Port 0, to which nobody can connect.
    PortZero,
    /// The family is not that of the control connection.
    Family,
    /// The capture has only its beginning.
    NoEnd,
    /// The capture may have only its end.
    NoBeginning,
    /// Only Linux's helper reads an endpoint in it.
    OnlyLinux,
}

impl Wrong {
    /// Returns true if the capture lacks a part of the line, which may be well formed.
    #[must_use]
    pub const fn is_lack(&self) -> bool {
        matches!(self, Self::NoEnd | Self::NoBeginning)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::Unclosed => f.write_str("no closing delimiter"),
            Self::NoEndpoint => f.write_str("names no endpoint that can be understood"),
            Self::Continued => f.write_str("a hyphen behind the code: not the reply's last line"),
            Self::Inside(code) => write!(f, "inside a {code} reply of several lines"),
            Self::PortZero => f.write_str("port 0"),
            Self::Family => f.write_str("not the control connection's address family"),
            Self::NoEnd => f.write_str("its end is not in the capture"),
            Self::NoBeginning => f.write_str("its beginning is not in the capture"),
            Self::OnlyLinux => f.write_str("only Linux's helper reads an endpoint in it"),
        }
    }
}

/// The announcement of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Announcement {
    pub(super) form: Form,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) wrong: Option<Wrong>,
}

impl Announcement {
    const fn there(form: Form, address: IpAddr, port: u16) -> Self {
        Self { form, address: Some(address), port: Some(port), wrong: None }
    }

    const fn nowhere(form: Form, wrong: Wrong) -> Self {
        Self { form, address: None, port: None, wrong: Some(wrong) }
    }

    const fn but(mut self, wrong: Wrong) -> Self {
        if self.wrong.is_none() {
            self.wrong = Some(wrong);
        }
        self
    }

    const fn has_endpoint(&self) -> bool {
        self.port.is_some()
    }
}

/// Reads the announcement of a line of `sender`, whose own address is `own`. `inside`: the code of the reply of several
/// lines that the line stands in.
pub(super) fn read(sender: Sender, own: IpAddr, line: &Line<'_>, inside: Option<u16>) -> Option<Announcement> {
    let found = match sender {
        Sender::Client => command(line.text),
        Sender::Server => reply(line.text, own, inside),
    };
    let found = match found {
        Some(found) if line.end == End::Lost => Some(cut(found, line.text)),
        Some(found) => Some(found),
        None if line.headless => headless(sender, own, line.text),
        None => None,
    }?;
    let family = found.address.is_some_and(|address| address.is_ipv4() != own.is_ipv4());
    Some(match found {
        _ if family => found.but(Wrong::Family),
        Announcement { port: Some(0), .. } => found.but(Wrong::PortZero),
        _ => found,
    })
}

/// A line whose end the capture lacks: numbers at its end may go on.
fn cut(found: Announcement, text: &[u8]) -> Announcement {
    let closed = matches!((found.form, text), (Form::Pasv | Form::Lpsv | Form::Epsv, [.., b')' | b'.']));
    match found.has_endpoint() && closed {
        true => found,
        false => Announcement { wrong: Some(Wrong::NoEnd), ..found },
    }
}

fn command(text: &[u8]) -> Option<Announcement> {
    Some(match Command::parse(text)? {
        Command::Port(Ok(there)) => Announcement::there(Form::Port, there.address.into(), there.port),
        Command::Eprt(Ok(there)) => Announcement::there(Form::Eprt, there.address, there.port),
        Command::Lprt(Ok(there)) => Announcement::there(Form::Lprt, there.address, there.port),
        Command::Port(Err(error)) => bad_port(argument(text), error),
        Command::Eprt(Err(error)) => bad_eprt(argument(text), error),
        Command::Lprt(Err(error)) => Announcement::nowhere(Form::Lprt, Wrong::Argument(error)),
        _ => return None,
    })
}

fn argument(text: &[u8]) -> &[u8] {
    Command::argument_range(text).and_then(|range| text.get(range)).unwrap_or_default()
}

/// Six numbers can be read although something follows them.
fn bad_port(argument: &[u8], error: HostPortError) -> Announcement {
    let list = argument.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
    let list = argument.get(..list).unwrap_or_default();
    let bad = Announcement::nowhere(Form::Port, Wrong::Argument(error));
    match HostPort::parse(list) {
        Ok(there) => Announcement { address: Some(there.address.into()), port: Some(there.port), ..bad },
        Err(_) => bad,
    }
}

/// The endpoint can be read although its last delimiter is missing.
fn bad_eprt(argument: &[u8], error: HostPortError) -> Announcement {
    // Family, delimiters, an IPv6 address and a port are no longer.
    let mut text = [0; 64];
    let bad = Announcement::nowhere(Form::Eprt, Wrong::Argument(error));
    let Some((delimiter, room)) = argument.first().zip(text.get_mut(..=argument.len())) else { return bad };
    if let Some((last, rest)) = room.split_last_mut() {
        rest.copy_from_slice(argument);
        *last = *delimiter;
    }
    match ExtendedHostPort::parse(room) {
        Ok(there) => Announcement::there(Form::Eprt, there.address, there.port).but(Wrong::Unclosed),
        Err(_) => bad,
    }
}

fn reply(text: &[u8], own: IpAddr, inside: Option<u16>) -> Option<Announcement> {
    let reply = Reply::parse(text)?;
    let form = match reply.code {
        227 => Form::Pasv,
        228 => Form::Lpsv,
        229 => Form::Epsv,
        _ => return None,
    };
    let found = reply.endpoint().map(|there| Announcement::there(form, there.address.unwrap_or(own), there.port));
    match (found, inside) {
        (Some(found), Some(code)) if code != reply.code => Some(found.but(Wrong::Inside(code))),
        (Some(found), _) if reply.continues => Some(found.but(Wrong::Continued)),
        (Some(found), _) => Some(found),
        // The first lines of a longer reply need not name it, nor those of another reply.
        (None, Some(code)) if code != reply.code => None,
        (None, _) if reply.continues => None,
        (None, _) => Some(unclosed(text, form, own).unwrap_or(Announcement::nowhere(form, Wrong::NoEndpoint))),
    }
}

/// A 229 whose last delimiter is missing.
fn unclosed(text: &[u8], form: Form, own: IpAddr) -> Option<Announcement> {
    if form != Form::Epsv {
        return None;
    }
    let at = text
        .windows(3)
        .position(|three| matches!(three, [a, b, c] if a == b && b == c && !a.is_ascii_alphanumeric()))?;
    let delimiter = *text.get(at)?;
    let digits = text.get(at + 3..)?;
    let digits = digits.get(..digits.iter().take_while(|byte| byte.is_ascii_digit()).count())?;
    let port = core::str::from_utf8(digits).ok()?.parse().ok()?;
    delimiter.is_ascii_punctuation().then(|| Announcement::there(form, own, port).but(Wrong::Unclosed))
}

/// The end of a line whose beginning is missing.
fn headless(sender: Sender, own: IpAddr, text: &[u8]) -> Option<Announcement> {
    let found = match sender {
        Sender::Client => {
            let words: [&[u8]; 6] = [b"ORT ", b"RT ", b"T ", b"PRT ", b" ", b""];
            let rest = words.iter().find_map(|word| text.strip_prefix(*word).filter(|rest| begins_endpoint(rest)))?;
            if let Ok(there) = HostPort::parse(rest) {
                Announcement::there(Form::Port, there.address.into(), there.port)
            } else {
                let there = ExtendedHostPort::parse(rest).ok()?;
                Announcement::there(Form::Eprt, there.address, there.port)
            }
        }
        Sender::Server => {
            let open = text.iter().position(|byte| *byte == b'(')?;
            let text = text.get(open..)?;
            let there = |code| Reply { code, continues: false, text }.endpoint();
            match (there(227), there(229)) {
                (Some(there), _) => Announcement::there(Form::Pasv, there.address?, there.port),
                (None, Some(there)) => Announcement::there(Form::Epsv, there.address.unwrap_or(own), there.port),
                (None, None) => return None,
            }
        }
    };
    Some(found.but(Wrong::NoBeginning))
}

fn begins_endpoint(text: &[u8]) -> bool {
    matches!(text, [b'0'..=b'9' | b'|', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::SequenceNumber;
    use crate::inspect::FramePos;
    use crate::inspect::helper_oracle::HelperOutcome;
    use crate::inspect::lines::Begin;
    use std::format;
    use std::string::String;

    fn line(text: &str, end: End, headless: bool) -> Line<'_> {
        let at = FramePos { frame: 1, time: Instant::from_secs(0) };
        let begin =
            Begin { at, sequence: SequenceNumber(0), index: 0, first: true, helper_outcome: HelperOutcome::default() };
        Line { text: text.as_bytes(), begin, at, end, headless }
    }

    fn told(found: Option<Announcement>) -> String {
        let Some(Announcement { form, address, port, wrong }) = found else { return "-".into() };
        let address = address.map_or("-".into(), |address| format!("{address}"));
        let port = port.map_or("-".into(), |port| format!("{port}"));
        let wrong = wrong.map_or(String::new(), |wrong| format!(", {wrong}"));
        format!("{form} {address} {port}{wrong}")
    }

    fn own() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    fn client(text: &str) -> String {
        told(read(Sender::Client, own(), &line(text, End::Feed, false), None))
    }

    fn server(text: &str) -> String {
        told(read(Sender::Server, own(), &line(text, End::Feed, false), None))
    }

    #[test]
    fn good_ones() {
        assert_eq!(client("PORT 10,0,0,1,4,210"), "PORT 10.0.0.1 1234");
        assert_eq!(client("eprt |1|10.0.0.1|1234|"), "EPRT 10.0.0.1 1234");
        assert_eq!(client("LPRT 4,4,10,0,0,1,2,4,210"), "LPRT 10.0.0.1 1234");
        assert_eq!(server("227 ok (10,0,0,1,4,210)."), "227 10.0.0.1 1234");
        assert_eq!(server("228 ok (4,4,10,0,0,1,2,4,210)"), "228 10.0.0.1 1234");
        assert_eq!(server("229 ok (|||1234|)"), "229 10.0.0.1 1234");
        assert_eq!([client("PASV"), server("220 ready")], ["-", "-"]);
        assert_eq!([client("227 ok (10,0,0,1,4,210)"), server("PORT 10,0,0,1,4,210")], ["-", "-"]);
    }

    #[test]
    fn bad_ones_say_what_is_wrong() {
        assert_eq!(client("PORT 10,0,0,256,4,210"), "PORT - -, a number is out of range");
        assert_eq!(client("PORT 10,0,0,1,4"), "PORT - -, the fields are not separated as they must be");
        assert_eq!(client("PORT"), "PORT - -, no argument");
        assert_eq!(client("PORT 10,0,0,1,4,210 x"), "PORT 10.0.0.1 1234, something follows the endpoint");
        assert_eq!(client("PORT 10,0,0,1,0,0"), "PORT 10.0.0.1 0, port 0");
        assert_eq!(client("EPRT |1|10.0.0.1|1234"), "EPRT 10.0.0.1 1234, no closing delimiter");
        assert_eq!(client("EPRT |2|fe80::1|1234|"), "EPRT fe80::1 1234, not the control connection's address family");
        let long = format!("EPRT |2|{}", "1".repeat(80));
        assert_eq!(client(&long), "EPRT - -, the fields are not separated as they must be");
        assert_eq!(server("227 ok"), "227 - -, names no endpoint that can be understood");
        assert_eq!(server("229 ok (|||1234)"), "229 10.0.0.1 1234, no closing delimiter");
        assert_eq!(
            server("227-ok (10,0,0,1,4,210)"),
            "227 10.0.0.1 1234, a hyphen behind the code: not the reply's last line"
        );
        assert_eq!(server("227-ok"), "-");
        let inside = |text| told(read(Sender::Server, own(), &line(text, End::Feed, false), Some(211)));
        assert_eq!(inside("227 ok (10,0,0,1,4,210)"), "227 10.0.0.1 1234, inside a 211 reply of several lines");
        assert_eq!(inside("227 files"), "-");
    }

    #[test]
    fn what_the_capture_lacks() {
        let lost = |sender, text| told(read(sender, own(), &line(text, End::Lost, false), None));
        assert_eq!(lost(Sender::Client, "PORT 10,0,0,1,4,21"), "PORT 10.0.0.1 1045, its end is not in the capture");
        assert_eq!(lost(Sender::Client, "PORT 10,0"), "PORT - -, its end is not in the capture");
        assert_eq!(lost(Sender::Server, "227 ok (10,0,0,1,4,210)"), "227 10.0.0.1 1234");
        let headless = |sender, text| told(read(sender, own(), &line(text, End::Feed, true), None));
        assert_eq!(
            headless(Sender::Client, "RT 10,0,0,1,4,210"),
            "PORT 10.0.0.1 1234, its beginning is not in the capture"
        );
        assert_eq!(
            headless(Sender::Client, "PRT |1|10.0.0.1|1234|"),
            "EPRT 10.0.0.1 1234, its beginning is not in the capture"
        );
        assert_eq!(headless(Sender::Client, "PORT 10,0,0,1,4,210"), "PORT 10.0.0.1 1234");
        assert_eq!(headless(Sender::Client, "1 2 3"), "-");
        assert_eq!(
            headless(Sender::Server, "27 ok (10,0,0,1,4,210)"),
            "227 10.0.0.1 1234, its beginning is not in the capture"
        );
        assert_eq!(
            headless(Sender::Server, "mode (|||1234|)"),
            "229 10.0.0.1 1234, its beginning is not in the capture"
        );
        assert_eq!(headless(Sender::Server, "nothing (here)"), "-");
    }
}
