//! The replies of a server.

use core::net::IpAddr;
use core::ops::Range;

use super::line::content;
use super::scanner::Scanner;
use super::{ExtendedHostPort, HostPort, LongHostPort};

/// One line of a server's reply, borrowed from it (RFC 959 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Reply<'a> {
    /// The three digits, 100 to 699 (6yz are RFC 2228's protected replies).
    pub code: u16,
    /// True if more lines follow: a hyphen follows the code.
    pub continues: bool,
    /// Text after code and separator, without the line's end.
    pub text: &'a [u8],
}

/// The endpoint where a server will listen, by its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReplyEndpoint {
    /// The address; `None` is the address that the client dialled (a 229 reply names none).
    pub address: Option<IpAddr>,
    /// The port. A server may say 0, which nobody can connect to.
    pub port: u16,
    /// Start of the endpoint's text, in bytes from the start of the line.
    pub start: usize,
    /// End of that text: the first byte after it.
    pub end: usize,
}

impl ReplyEndpoint {
    /// The bytes of the line that say the endpoint: the numbers, or from the first delimiter to the last.
    #[inline]
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl<'a> Reply<'a> {
    /// The code and the byte behind it.
    pub(super) const BEFORE_TEXT: usize = 4;

    /// Reads one complete line. It may end in CRLF, LF or nothing; what follows the first LF is not looked at.
    ///
    /// `None` if it does not begin with a code and a blank, a hyphen or the end: it is then a line within a longer
    /// reply, or none of FTP.
    ///
    /// ```
    /// use ftp_conntrack::ftp::Reply;
    ///
    /// let line = b"227 Entering Passive Mode (192,168,0,18,48,196).\r\n";
    /// let reply = Reply::parse(line).ok_or("no reply")?;
    /// assert_eq!((reply.code, reply.continues), (227, false));
    /// let there = reply.endpoint().ok_or("no endpoint")?;
    /// assert_eq!((there.address, there.port), (Some("192.168.0.18".parse()?), 48 << 8 | 196));
    /// assert_eq!(&line[there.range()], b"192,168,0,18,48,196");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = content(line);
        let [hundreds @ b'1'..=b'6', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = line else { return None };
        let code = [hundreds, tens, ones].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0'));
        let (continues, text) = match rest {
            [] => (false, rest),
            [b' ', text @ ..] => (false, text),
            [b'-', text @ ..] => (true, text),
            _ => return None,
        };
        Some(Self { code, continues, text })
    }

    /// Returns the endpoint where the server listens by a 227, 228 or 229 reply; `None` for other codes and text that
    /// cannot be understood.
    ///
    /// * 227: the first six numbers up to 255 with commas between, with or without parentheses, wherever in the text
    ///   (RFC 1123 section 4.1.2.6 has clients search for them).
    /// * 228: the first list as [`LongHostPort`] reads it (RFC 1639).
    /// * 229: `|||port|` with any delimiter but a digit, first behind a parenthesis, else anywhere (RFC 2428 section
    ///   3). Family and address may be filled in, though the RFC wants them empty.
    #[must_use]
    pub fn endpoint(&self) -> Option<ReplyEndpoint> {
        match self.code {
            227 => self.list(|s| HostPort::scan(s).ok().map(|there| (there.address.into(), there.port))),
            228 => self.list(|s| LongHostPort::scan(s).ok().map(|there| (there.address, there.port))),
            229 => self.extended(),
            _ => None,
        }
    }

    /// The first comma-separated list that `scan` reads, if it is not part of a longer one.
    fn list(&self, scan: impl Fn(&mut Scanner<'_>) -> Option<(IpAddr, u16)>) -> Option<ReplyEndpoint> {
        let mut before = b' ';
        for (start, byte) in self.text.iter().copied().enumerate() {
            if byte.is_ascii_digit() && !in_list(before) {
                let mut scanner = Scanner::new(self.text, start);
                let there = scan(&mut scanner).filter(|_| !goes_on(scanner.rest()));
                if let Some((address, port)) = there {
                    return Some(endpoint(Some(address), port, start..scanner.at()));
                }
            }
            before = byte;
        }
        None
    }

    fn extended(&self) -> Option<ReplyEndpoint> {
        let parenthesis = |at: usize| at.checked_sub(1).and_then(|at| self.text.get(at)) == Some(&b'(');
        let places = || 0..self.text.len();
        let behind_parenthesis = places().filter(|at| parenthesis(*at));
        behind_parenthesis.chain(places()).find_map(|at| extended(self.text, at))
    }
}

/// Returns true if a list goes on after the part that was read; a comma that closes a clause does not belong to it.
fn goes_on(rest: &[u8]) -> bool {
    matches!(rest, [b'0'..=b'9', ..] | [b',', b'0'..=b'9', ..])
}

fn in_list(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b','
}

fn endpoint(address: Option<IpAddr>, port: u16, in_text: Range<usize>) -> ReplyEndpoint {
    ReplyEndpoint { address, port, start: Reply::BEFORE_TEXT + in_text.start, end: Reply::BEFORE_TEXT + in_text.end }
}

/// The extended form that starts at `start` of `text`.
fn extended(text: &[u8], start: usize) -> Option<ReplyEndpoint> {
    // An address and a port are no longer than this, and so no search for a delimiter takes long.
    let window = text.get(..text.len().min(start + 64))?;
    let mut scanner = Scanner::new(window, start);
    let delimiter = scanner.next().filter(|d| d.is_ascii_graphic() && !d.is_ascii_digit())?;
    if scanner.skip(delimiter) && scanner.skip(delimiter) {
        let port = scanner.number(u16::MAX).ok()?;
        return scanner.skip(delimiter).then(|| endpoint(None, port, start..scanner.at()));
    }
    let mut scanner = Scanner::new(window, start);
    let there = ExtendedHostPort::scan(&mut scanner).ok()?;
    Some(endpoint(Some(there.address), there.port, start..scanner.at()))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};

    /// "address port text" of the endpoint of `line`.
    fn there(line: &str) -> Option<String> {
        let e = Reply::parse(line.as_bytes())?.endpoint()?;
        let address = e.address.map_or("-".to_string(), |a| a.to_string());
        Some(std::format!("{address} {} {}", e.port, &line[e.range()]))
    }

    fn says(line: &str, expected: &str) {
        assert_eq!(there(line).as_deref(), Some(expected), "{line:?}");
    }

    #[test]
    fn lines() {
        for (line, code, continues, text) in [
            ("220 ready\r\n", 220, false, "ready"),
            ("220-hello\r\n", 220, true, "hello"),
            ("200\r\n", 200, false, ""),
            ("200 \n", 200, false, ""),
            ("631 x", 631, false, "x"),
            ("150  a \r\n226 b\r\n", 150, false, " a "),
        ] {
            let reply = Reply { code, continues, text: text.as_bytes() };
            assert_eq!(Reply::parse(line.as_bytes()), Some(reply), "{line:?}");
        }
        for line in ["", "\r\n", "22", "2a0 x", " 220 x", "2200 x", "2024-01-01", "020 x", "720 x", "220\tx", "PORT"] {
            assert_eq!(Reply::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn six_numbers_in_any_dress() {
        says("227 Entering Passive Mode (10,0,0,1,4,1).\r\n", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227 Entering Passive Mode 10,0,0,1,4,1\r\n", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227 =10,0,0,1,4,1\r\n", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227 10,0,0,1,4,1", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227 At 10,0,0,1,4,1, says the server.", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227-listen (10,0,0,1,4,1)\n", "10.0.0.1 1025 10,0,0,1,4,1");
        says("227 Passive 1 2, 3 (010,000,000,001,004,001)\r\n", "10.0.0.1 1025 010,000,000,001,004,001");
        says("227 (0,0,0,0,0,0)\r\n", "0.0.0.0 0 0,0,0,0,0,0");
    }

    #[test]
    fn six_numbers_out_of_range_or_of_another_count() {
        for line in [
            "227 (10,0,0,1,300,10)\r\n",
            "227 (300,0,0,1,4,1)\r\n",
            "227 (10,0,0,1,4,1,7)\r\n",
            "227 (10,0,0,1,4)\r\n",
            "227 (10,0,0,1,4,1111)\r\n",
            "227 (,10,0,0,1,4,1)\r\n",
            "227 Logout.\r\n",
            "227",
            "226 (10,0,0,1,4,1)\r\n",
            "227 (10, 0, 0, 1, 4, 1)\r\n",
        ] {
            assert_eq!(there(line), None, "{line:?}");
        }
    }

    #[test]
    fn extended_with_any_delimiter() {
        says("229 Entering Extended Passive Mode (|||1025|)\r\n", "- 1025 |||1025|");
        says("229 (!!!1025!)\r\n", "- 1025 !!!1025!");
        says("229 Ok |||65535|\r\n", "- 65535 |||65535|");
        says("229 --- 5 (|||1025|)\r\n", "- 1025 |||1025|");
        says("229 ---5- (|||1025|)\r\n", "- 1025 |||1025|");
        says("229 ((((1025()\r\n", "- 1025 (((1025(");
        says("229 (|1|10.0.0.1|1025|)\r\n", "10.0.0.1 1025 |1|10.0.0.1|1025|");
        let longest = "|2|1111:2222:3333:4444:5555:6666:255.255.255.255|65535|";
        says(
            &std::format!("229 ({longest})"),
            &std::format!("1111:2222:3333:4444:5555:6666:ffff:ffff 65535 {longest}"),
        );
        says("229 (|2|2001:db8::1|1025|)\r\n", "2001:db8::1 1025 |2|2001:db8::1|1025|");
    }

    #[test]
    fn extended_malformed() {
        for line in [
            "229 (|||65536|)\r\n",
            "229 (|||1025)\r\n",
            "229 (||1025|)\r\n",
            "229 (|||x|)\r\n",
            "229 (   1025 )\r\n",
            "229 (|1||1025|)\r\n",
            "229 (11110251)\r\n",
            "229 (9198.8.8.8910259)\r\n",
            "229\r\n",
            "229 (",
            "229 (||||)\r\n",
        ] {
            assert_eq!(there(line), None, "{line:?}");
        }
    }

    #[test]
    fn long() {
        says("228 Entering Long Passive Mode (4,4,10,0,0,1,2,4,1)\r\n", "10.0.0.1 1025 4,4,10,0,0,1,2,4,1");
        let v6 = "6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,1,2,4,1";
        says(&std::format!("228 {v6}\r\n"), &std::format!("2001:db8::1 1025 {v6}"));
        assert_eq!(there("228 (4,4,10,0,0,1,2,4,1,9)\r\n"), None);
        assert_eq!(there("228 (4,4,10,0,0,1)\r\n"), None);
    }
}
