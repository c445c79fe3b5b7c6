//! Reads announcements as the most permissive server does; `servers.md` says which server reads what.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;

use super::line::{content, is_junk, telnet};
use super::{Form, HostPortError};

/// The verbs that announce something. All have the same length.
const VERBS: [(&[u8; VERB], Form); 3] = [(b"PORT", Form::Port), (b"EPRT", Form::Eprt), (b"LPRT", Form::Lprt)];
/// Length of such a verb in bytes.
const VERB: usize = 4;

/// Returns true if a client's line that begins with `begun` may become an announcement for some server.
///
/// ```
/// use ftp_conntrack::ftp::may_announce;
///
/// assert!(may_announce(b"") && may_announce(b"po") && may_announce(b"\0\xff\xf1PO") && may_announce(b"NOOP\rP"));
/// assert!(!may_announce(b"RETR file") && !may_announce(b"PORTAL"));
/// ```
#[must_use]
pub fn may_announce(begun: &[u8]) -> bool {
    starts(begun).any(|start| !matches!(Verb::at(begun, start), Verb::Other))
}

/// Finds an announcement's verb that a server may see in a client's complete line, although it is not where RFC 959 has it:
/// after control bytes, or with control bytes, Telnet commands or bytes above 127 in it. Returns the form, and where in the
/// line the argument is.
///
/// ```
/// use ftp_conntrack::ftp::{Form, hidden_announcement};
///
/// assert_eq!(hidden_announcement(b"NOOP\rPO\0RT 10,0,0,1,4,210\r\n"), Some((Form::Port, 11..25)));
/// assert_eq!(hidden_announcement(b"HELP PORT\r\n"), None);
/// ```
#[must_use]
pub fn hidden_announcement(line: &[u8]) -> Option<(Form, Range<usize>)> {
    let text = content(line);
    starts(text).find_map(|start| {
        let Verb::Whole(form, end) = Verb::at(text, start) else { return None };
        let argument = text.get(end..).unwrap_or_default();
        let separators = argument.iter().take_while(|byte| is_junk(**byte)).count();
        argument.iter().any(u8::is_ascii_digit).then_some((form, end + separators..text.len()))
    })
}

/// Returns true if some client reads an endpoint in a server's line that is no 227 of RFC 959: with another byte than a blank
/// or a hyphen after the code, or, while the client waits for that reply, with another code of success.
///
/// ```
/// use ftp_conntrack::ftp::hidden_reply;
///
/// assert!(hidden_reply(b"227_(10,0,0,5,4,210)\r\n", false) && hidden_reply(b"200 ok\r227 (10,0,0,5,4,210)\r\n", true));
/// assert!(!hidden_reply(b"227 (10,0,0,5,4,210)\r\n", true) && !hidden_reply(b"200 (10,0,0,5,4,210)\r\n", false));
/// ```
#[must_use]
pub fn hidden_reply(line: &[u8], awaited: bool) -> bool {
    let numbers = |text: &[u8]| {
        let lists = text.split(|byte| !byte.is_ascii_digit() && *byte != b',');
        lists.filter(|list| list.contains(&b',')).any(|list| list.split(|byte| *byte == b',').count() >= 6)
    };
    let bars = |text: &[u8]| text.windows(3).any(|text| matches!(text, [b'|', b'|', b'0'..=b'9']));
    may_hide_reply(line, awaited) && line.get(3..).is_some_and(|text| numbers(text) || bars(text))
}

/// Returns true if a server's line that begins with `begun` may become one in which an endpoint is
/// [hidden](hidden_reply).
#[must_use]
pub fn may_hide_reply(begun: &[u8], awaited: bool) -> bool {
    match *begun {
        [b'2', b'2', b'7'..=b'9', b' ' | b'-' | b'\r' | b'\n', ..] => false,
        [b'2', b'2', b'7'..=b'9', byte, ..] => !byte.is_ascii_digit(),
        // A path may be anything.
        [b'2', b'5', b'7', ..] => false,
        [b'2', b'0'..=b'9', b'0'..=b'9', b' ', ..] => awaited,
        _ => false,
    }
}

/// Finds where something begins, in a client's line of which the beginning left already, that may become an announcement for
/// some server: at a control byte. `rest` follows what left.
///
/// ```
/// use ftp_conntrack::ftp::may_announce_later;
///
/// // After `NOOP`:
/// assert_eq!(may_announce_later(b" x\rPO"), Some(2));
/// assert_eq!(may_announce_later(b" x\rPA"), None);
/// assert_eq!(may_announce_later(b" x\r\n"), None);
/// ```
#[must_use]
pub fn may_announce_later(rest: &[u8]) -> Option<usize> {
    let text = if rest.contains(&b'\n') { content(rest) } else { rest };
    let later = starts(text).skip(1).find(|start| !matches!(Verb::at(text, *start), Verb::Other));
    later.map(|start| start - 1)
}

/// Returns the places where a command may begin for some server: the first byte, and after each control byte but tab.
fn starts(text: &[u8]) -> impl Iterator<Item = usize> {
    let after = text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_control() && **byte != b'\t');
    core::iter::once(0).chain(after.map(|(at, _)| at + 1))
}

/// The text that may follow from some place on.
enum Verb {
    /// No verb of an announcement.
    Other,
    /// The beginning of one; the text ends there.
    Begun,
    /// One, and where it ends.
    Whole(Form, usize),
}

impl Verb {
    fn at(text: &[u8], start: usize) -> Self {
        let (mut at, mut letters, mut length) = (start, [0; VERB], 0);
        while let Some(letter) = letters.get_mut(length) {
            at += skipped(text.get(at..).unwrap_or_default());
            match text.get(at) {
                Some(byte) => *letter = byte.to_ascii_uppercase(),
                None => break,
            }
            (at, length) = (at + 1, length + 1);
        }
        let read = letters.get(..length).unwrap_or_default();
        let Some((_, form)) = VERBS.iter().find(|(verb, _)| verb.starts_with(read)) else { return Self::Other };
        match text.get(at) {
            _ if length < VERB => Self::Begun,
            Some(byte) if byte.is_ascii_alphanumeric() => Self::Other,
            _ => Self::Whole(*form, at),
        }
    }
}

/// Returns the number of bytes before the next letter that some server may skip.
fn skipped(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = match telnet(rest) {
            0 => usize::from(rest.first().is_some_and(|byte| is_junk(*byte) || !byte.is_ascii())),
            commands => commands,
        };
        if step == 0 {
            break;
        }
        at += step;
    }
    at
}

/// Reads PORT's argument as those servers do that read it: leading zeros and `+`, blanks around numbers, and any text that
/// follows the sixth number. Where servers would read different endpoints, it is an error.
pub(super) fn host_port(argument: &[u8]) -> Result<(IpAddr, u16), HostPortError> {
    let mut numbers = [0_u8; 6];
    let mut rest = argument;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.trim_ascii_start().strip_prefix(b",").ok_or(HostPortError::Separator)?;
        }
        rest = rest.trim_ascii_start();
        rest = rest.strip_prefix(b"+").unwrap_or(rest);
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (text, behind) = rest.split_at_checked(digits).ok_or(HostPortError::NotANumber)?;
        let value = core::str::from_utf8(text).map_err(|_| HostPortError::NotANumber)?;
        *number = match value.trim_start_matches('0') {
            "" if value.is_empty() => return Err(HostPortError::NotANumber),
            "" => 0,
            value => value.parse().map_err(|_| HostPortError::OutOfRange)?,
        };
        rest = behind;
    }
    let [a, b, c, d, high, low] = numbers;
    Ok((Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(argument: &str) -> Result<u16, HostPortError> {
        host_port(argument.as_bytes()).map(|(address, port)| {
            assert_eq!(address, IpAddr::from([10, 0, 0, 5]));
            port
        })
    }

    #[test]
    fn numbers_as_servers_read_them() {
        for argument in [
            "10,0,0,5,4,210",
            "010,000,00,0005,4,210",
            "10, 0,\t0 , 5,+4,210",
            "10,0,0,5,4,210 text",
            "10,0,0,5,4,210,1",
            "10,0,0,5,4,210x",
            "10,00000000000000000000,0,5,4,210",
        ] {
            assert_eq!(read(argument), Ok(1234), "{argument}");
        }
        for (argument, error) in [
            ("10,,0,5,4,210", HostPortError::NotANumber),
            ("10,-0,0,5,4,210", HostPortError::NotANumber),
            ("10x,0,0,5,4,210", HostPortError::Separator),
            ("1_0,0,0,5,4,210", HostPortError::Separator),
            ("10,0,0,5,4,300", HostPortError::OutOfRange),
            ("10.0.0.5,4,210", HostPortError::Separator),
            ("", HostPortError::NotANumber),
        ] {
            assert_eq!(read(argument), Err(error), "{argument}");
        }
    }

    #[test]
    fn verbs_are_found_among_bytes_that_servers_skip() {
        for (line, argument) in [
            (&b"\0PORT 1\r\n"[..], "1"),
            (b"PO\xff\xf1RT 1\r\n", "1"),
            (b"PO\xff\xfdART 1\r\n", "1"),
            (b"PORT\x0b1\n", "1"),
            (b"\xef\xbb\xbfeprt |1\n", "|1"),
            (b"NOOP\rPORT 1\r\n", "1"),
            (b"x\x00y\x0cLPRT 1", "1"),
            (b"PORT\xa01\r\n", "\u{fffd}1"),
        ] {
            let (_, range) = hidden_announcement(line).unwrap_or_else(|| panic!("{line:?}"));
            let text = &line[range];
            assert!(text.ends_with(&argument.as_bytes()[argument.len() - 1..]), "{line:?}: {text:?}");
        }
        for line in
            [&b"HELP PORT 1\r\n"[..], b"STOR a\tPORT 1\r\n", b"STOR S\xc3\xbcport 1\r\n", b"PORTAL 1", b"\rPORT\r\n"]
        {
            assert_eq!(hidden_announcement(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_may_become_an_announcement_is_known_from_its_beginning() {
        for line in [&b"\xff\xf4\xff\xf2PO\0RT 10,0,0,5,4,210\r\n"[..], b"NOOP\rPORT 10,0,0,5,4,210\r\n"] {
            assert!(hidden_announcement(line).is_some());
            let first = line.iter().rposition(|byte| *byte == b'\r' && line[0] == b'N').map_or(0, |_| 5);
            assert!((first..line.len()).all(|end| may_announce(&line[..end])), "{line:?}");
        }
        assert!(!may_announce(b"227 (1,2") && !may_announce(b"USER port"));
    }
}
