//! The commands of a client.

use core::ops::Range;

use super::line::{content, is_junk, telnet, trimmed};
use super::{ExtendedHostPort, HostPort, HostPortError, LongHostPort};

/// One command of a client, borrowed from its line.
///
/// Those that matter to whoever follows an FTP session have a variant of their own; the rest are [`Command::Other`]. An
/// argument that is text is what stands behind the verb, without the blanks around it, and may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command<'a> {
    /// `PORT a,b,c,d,p1,p2`: the client will listen there (RFC 959 section 4.1.2).
    Port(Result<HostPort, HostPortError>),
    /// `EPRT |1|address|port|`: the client will listen there (RFC 2428 section 2).
    Eprt(Result<ExtendedHostPort, HostPortError>),
    /// `LPRT 4,4,a,b,c,d,2,p1,p2`: the client will listen there (RFC 1639).
    Lprt(Result<LongHostPort, HostPortError>),
    /// `PASV`: the server shall listen and say where in a 227 reply (RFC 959 section 4.1.2).
    Pasv,
    /// `EPSV`: the server shall listen and say on which port in a 229 reply (RFC 2428 section 3).
    Epsv(EpsvArgument<'a>),
    /// `LPSV`: the server shall listen and say where in a 228 reply (RFC 1639).
    Lpsv,
    /// `AUTH mechanism`: asks for a security mechanism; after a 234 reply to `AUTH TLS` the control connection is TLS
    /// (RFC 2228 section 3, RFC 4217 section 4).
    Auth(&'a [u8]),
    /// `CCC`: the control connection shall be clear text again (RFC 2228 section 3).
    Ccc,
    /// `USER name` (RFC 959 section 4.1.1).
    User(&'a [u8]),
    /// `PASS password` (RFC 959 section 4.1.1).
    Pass(&'a [u8]),
    /// `QUIT` (RFC 959 section 4.1.1).
    Quit,
    /// `ABOR`: the transfer shall stop (RFC 959 section 4.1.3). Telnet commands before it are stepped over.
    Abor,
    /// `HOST name`: which of the server's hosts is meant (RFC 7151 section 3).
    Host(&'a [u8]),
    /// `FEAT`: which extensions the server has (RFC 2389 section 3).
    Feat,
    /// `PROT level`: how data connections are protected (RFC 2228 section 3).
    Prot(&'a [u8]),
    /// `PBSZ size`: the protection buffer's size (RFC 2228 section 3).
    Pbsz(&'a [u8]),
    /// Any other command.
    Other {
        /// The verb as it was typed.
        verb: &'a [u8],
        /// Argument of the command.
        argument: &'a [u8],
    },
}

/// The argument of `EPSV` (RFC 2428 sections 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EpsvArgument<'a> {
    /// None: the family of the control connection.
    None,
    /// A family, by its number: 1 is IPv4, 2 is IPv6.
    Family(u16),
    /// `ALL`: from now on the client will use no other way to open a data connection.
    All,
    /// Something that the RFC does not know.
    Unknown(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Reads one complete line. It may end in CRLF, LF or nothing; bytes after the first LF are ignored. Case does not
    /// matter. Blanks and control bytes around the verb and the argument are skipped, as some server does with each.
    ///
    /// `None` if the line has no verb: it is empty, or its first byte is no letter.
    ///
    /// ```
    /// use ftp_conntrack::ftp::{Command, EpsvArgument};
    ///
    /// assert_eq!(Command::parse(b"epsv all\r\n"), Some(Command::Epsv(EpsvArgument::All)));
    /// assert_eq!(Command::parse(b"AUTH TLS\r\n"), Some(Command::Auth(b"TLS")));
    ///
    /// let Some(Command::Port(there)) = Command::parse(b"PORT 10,0,0,1,4,210\r\n") else { panic!() };
    /// assert_eq!(there.map(|there| there.port), Ok(1234));
    /// let Some(Command::Port(there)) = Command::parse(b"PORT 10,0,0,1\r\n") else { panic!() };
    /// assert!(there.is_err());
    /// ```
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (verb, argument) = split(line)?;
        Some(Self::from_parts(line.get(verb)?, line.get(argument)?))
    }

    /// Returns the range of the argument in the line, in bytes from the start of `line`; empty if there is none. `None`
    /// if the line has no verb.
    ///
    /// ```
    /// use ftp_conntrack::ftp::Command;
    ///
    /// assert_eq!(Command::argument_range(b"PORT 10,0,0,1,4,210\r\n"), Some(5..19));
    /// ```
    #[must_use]
    pub fn argument_range(line: &[u8]) -> Option<Range<usize>> {
        split(line).map(|(_, argument)| argument)
    }

    fn from_parts(verb: &'a [u8], argument: &'a [u8]) -> Self {
        let mut upper = [0; 4];
        let word = upper.get_mut(..verb.len()).map_or(&[][..], |word| {
            word.copy_from_slice(verb);
            word.make_ascii_uppercase();
            word
        });
        match word {
            b"PORT" => Self::Port(HostPort::parse(argument)),
            b"EPRT" => Self::Eprt(ExtendedHostPort::parse(argument)),
            b"LPRT" => Self::Lprt(LongHostPort::parse(argument)),
            b"PASV" => Self::Pasv,
            b"EPSV" => Self::Epsv(EpsvArgument::parse(argument)),
            b"LPSV" => Self::Lpsv,
            b"AUTH" => Self::Auth(argument),
            b"CCC" => Self::Ccc,
            b"USER" => Self::User(argument),
            b"PASS" => Self::Pass(argument),
            b"QUIT" => Self::Quit,
            b"ABOR" => Self::Abor,
            b"HOST" => Self::Host(argument),
            b"FEAT" => Self::Feat,
            b"PROT" => Self::Prot(argument),
            b"PBSZ" => Self::Pbsz(argument),
            _ => Self::Other { verb, argument },
        }
    }
}

impl<'a> EpsvArgument<'a> {
    fn parse(argument: &'a [u8]) -> Self {
        if argument.is_empty() {
            return Self::None;
        }
        if argument.eq_ignore_ascii_case(b"ALL") {
            return Self::All;
        }
        match core::str::from_utf8(argument).ok().and_then(|text| text.parse().ok()) {
            Some(family) if argument.iter().all(u8::is_ascii_digit) => Self::Family(family),
            _ => Self::Unknown(argument),
        }
    }
}

/// Returns the ranges of verb and argument in the line.
fn split(line: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let text = content(line);
    let mut start = 0;
    // Telnet commands and control bytes may take turns.
    loop {
        let rest = text.get(start..)?;
        let junk = rest.iter().take_while(|byte| is_junk(**byte)).count();
        let commands = telnet(rest.get(junk..)?);
        start += junk + commands;
        if commands == 0 {
            break;
        }
    }
    let all = trimmed(text, start..text.len());
    let words = text.get(all.clone())?;
    if !words.first()?.is_ascii_alphabetic() {
        return None;
    }
    let length = words.iter().position(|b| is_junk(*b)).unwrap_or(words.len());
    let verb_end = all.start + length;
    Some((all.start..verb_end, trimmed(text, verb_end..all.end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn parse(line: &str) -> Option<Command<'_>> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn endpoints() {
        let there = HostPort { address: Ipv4Addr::new(10, 0, 0, 5), port: 1234 };
        for line in [
            "PORT 10,0,0,5,4,210\r\n",
            "port 10,0,0,5,4,210\n",
            "PORT 10,0,0,5,4,210",
            "PORT  10,0,0,5,4,210 \r\n",
            " \tPoRt\t10,0,0,5,4,210\r\n",
            "PORT 10,0,0,5,4,210\r\nLIST\r\n",
        ] {
            assert_eq!(parse(line), Some(Command::Port(Ok(there))), "{line:?}");
            let range = Command::argument_range(line.as_bytes()).unwrap();
            assert_eq!(&line[range], "10,0,0,5,4,210");
        }
        let there = LongHostPort { address: there.address.into(), port: 1234 };
        assert_eq!(parse("LPRT 4,4,10,0,0,5,2,4,210\r\n"), Some(Command::Lprt(Ok(there))));
        let there = ExtendedHostPort::parse(b"!1!10.0.0.5!1234!");
        assert!(there.is_ok());
        assert_eq!(parse("eprt !1!10.0.0.5!1234!\r\n"), Some(Command::Eprt(there)));
    }

    #[test]
    fn malformed_endpoints_are_kept_as_errors() {
        assert_eq!(parse("PORT\r\n"), Some(Command::Port(Err(HostPortError::Missing))));
        assert_eq!(parse("PORT 10,0,0,5,4,300\r\n"), Some(Command::Port(Err(HostPortError::OutOfRange))));
        assert_eq!(parse("EPRT |9|x|1|\r\n"), Some(Command::Eprt(Err(HostPortError::Family(9)))));
        assert_eq!(parse("LPRT 4,5\r\n"), Some(Command::Lprt(Err(HostPortError::Length(5)))));
    }

    #[test]
    fn epsv() {
        assert_eq!(parse("EPSV\r\n"), Some(Command::Epsv(EpsvArgument::None)));
        assert_eq!(parse("EPSV 2\r\n"), Some(Command::Epsv(EpsvArgument::Family(2))));
        assert_eq!(parse("EPSV all\r\n"), Some(Command::Epsv(EpsvArgument::All)));
        assert_eq!(parse("EPSV +2\r\n"), Some(Command::Epsv(EpsvArgument::Unknown(b"+2"))));
        assert_eq!(parse("EPSV 65536\r\n"), Some(Command::Epsv(EpsvArgument::Unknown(b"65536"))));
    }

    #[test]
    fn the_rest() {
        for (line, command) in [
            ("pasv\r\n", Command::Pasv),
            ("LPSV\r\n", Command::Lpsv),
            ("AUTH  tls \r\n", Command::Auth(b"tls")),
            ("CCC\r\n", Command::Ccc),
            ("USER a b\r\n", Command::User(b"a b")),
            ("PASS\r\n", Command::Pass(b"")),
            ("PASS x@y\r\n", Command::Pass(b"x@y")),
            ("QUIT\r\n", Command::Quit),
            ("ABOR\r\n", Command::Abor),
            ("HOST ftp.example\r\n", Command::Host(b"ftp.example")),
            ("FEAT\r\n", Command::Feat),
            ("PROT P\r\n", Command::Prot(b"P")),
            ("PBSZ 0\r\n", Command::Pbsz(b"0")),
            ("retr a  b\r\n", Command::Other { verb: b"retr", argument: b"a  b" }),
            ("PORTX 1\r\n", Command::Other { verb: b"PORTX", argument: b"1" }),
            ("POR 1\r\n", Command::Other { verb: b"POR", argument: b"1" }),
        ] {
            assert_eq!(parse(line), Some(command), "{line:?}");
        }
    }

    #[test]
    fn telnet_before_a_command() {
        assert_eq!(Command::parse(b"\xff\xf4\xff\xf2ABOR\r\n"), Some(Command::Abor));
        assert_eq!(Command::parse(b"\xf2ABOR\r\n"), Some(Command::Abor));
        assert_eq!(Command::argument_range(b"\xff\xf4\xff\xf2ALLO 7\r\n"), Some(9..10));
    }

    #[test]
    fn no_verb() {
        for line in ["", "\r\n", "\n", "  \r\n", "1\r\n", "\u{16}\u{3}\u{1}", "\r\nQUIT\r\n", ",PORT\r\n"] {
            assert_eq!((parse(line), Command::argument_range(line.as_bytes())), (None, None), "{line:?}");
        }
    }

    #[test]
    fn no_argument_has_an_empty_range_within_the_line() {
        assert_eq!(Command::argument_range(b"PASV\r\n"), Some(4..4));
        assert_eq!(Command::argument_range(b"PASV  \r\n"), Some(4..4));
    }
}
