//! Parsers of `ip_vs_ftp` for control connections. It reads otherwise than the tracker's helper: not by lines but at
//! the beginning of each segment, and it lets pass what it does not understand.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::{ControlFlow, Range};

use crate::packet::Family;

/// Answer that the server is about to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing that is read.
    Active,
    /// 227.
    Passive,
    /// 229.
    ExtendedPassive,
}

/// The command at any place of a client's segment that lets the server announce an endpoint.
///
/// `EPSV` may name the family of the connection and nothing else: with `EPSV ALL` or the other family nothing of the
/// segment counts.
pub(super) fn awaited(payload: &[u8], family: Family) -> ControlFlow<Option<Mode>> {
    let own = match family {
        Family::V4 => b'1',
        Family::V6 => b'2',
    };
    for at in 0..payload.len().saturating_sub(PASV.len() - 1) {
        let rest = payload.get(at..).unwrap_or_default();
        if family == Family::V4 && behind(rest, PASV).is_some() {
            return ControlFlow::Break(Some(Mode::Passive));
        }
        match behind(rest, b"EPSV") {
            Some([b'\r', ..]) => return ControlFlow::Break(Some(Mode::ExtendedPassive)),
            Some([b' ', digit, b'\r', ..]) if *digit == own => return ControlFlow::Break(Some(Mode::ExtendedPassive)),
            Some([b' ', ..]) => return ControlFlow::Break(None),
            _ => {}
        }
    }
    ControlFlow::Continue(())
}

const PASV: &[u8] = b"PASV\r\n";

/// The endpoint that a client announces at the beginning of a segment: PORT (IPv4 only) or EPRT.
pub(super) fn from_client(payload: &[u8], family: Family) -> Option<SocketAddr> {
    if let Some(rest) = behind(payload, b"PORT") {
        return if family == Family::V4 { Numbers::read(rest, b' ').map(|numbers| numbers.endpoint) } else { None };
    }
    let text = skipped(behind(payload, b"EPRT")?, b' ')?;
    read_extended(text, family, None).map(|(endpoint, _)| endpoint)
}

/// The endpoint that a server announces at the beginning of a segment, and where in it the text stands. 229 leaves the
/// address out, which then is `own`.
pub(super) fn from_server(payload: &[u8], mode: Mode, own: IpAddr) -> Option<(SocketAddr, Range<usize>)> {
    let (rest, end) = match mode {
        Mode::Active => return None,
        Mode::Passive => {
            let numbers = Numbers::read(behind(payload, b"227 ")?, b'(')?;
            return Some((numbers.endpoint, place(payload, numbers.text, numbers.behind)));
        }
        Mode::ExtendedPassive => {
            let text = skipped(behind(payload, b"229 ")?, b'(')?;
            let family = if own.is_ipv4() { Family::V4 } else { Family::V6 };
            let (endpoint, end) = read_extended(text, family, Some(own))?;
            ((endpoint, text), end)
        }
    };
    let (endpoint, text) = rest;
    Some((endpoint, place(payload, text, end)))
}

/// Returns the range from the start of `text` to the start of `end` within `payload`.
fn place(payload: &[u8], text: &[u8], end: &[u8]) -> Range<usize> {
    payload.len() - text.len()..payload.len() - end.len()
}

/// Returns the text after a keyword in either case.
fn behind<'t>(text: &'t [u8], keyword: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then_some(rest)
}

/// Returns the text after the first `skip` and all that follow it at once.
fn skipped(text: &[u8], skip: u8) -> Option<&[u8]> {
    let first = text.iter().position(|byte| *byte == skip)?;
    without(text.get(first..)?, skip)
}

/// The text without the bytes `skip` at its beginning; something must be left.
fn without(text: &[u8], skip: u8) -> Option<&[u8]> {
    let start = text.iter().position(|byte| *byte != skip)?;
    text.get(start..)
}

/// Six numbers.
struct Numbers<'t> {
    endpoint: SocketAddr,
    /// From the first digit on.
    text: &'t [u8],
    /// From behind the last digit on.
    behind: &'t [u8],
}

impl<'t> Numbers<'t> {
    /// Reads six numbers up to 255 with commas between. A digit begins them; else they stand behind the first
    /// `skip`.
    fn read(text: &'t [u8], skip: u8) -> Option<Self> {
        let first = text.iter().position(|byte| *byte == skip || byte.is_ascii_digit())?;
        let text = match text.get(first..)? {
            text @ [byte, ..] if *byte != skip => text,
            text => without(text, skip)?,
        };
        let mut numbers = [0u8; 6];
        let mut commas = 0;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    let number = numbers.get_mut(commas)?;
                    *number = number.checked_mul(10)?.checked_add(byte - b'0')?;
                }
                b',' if commas < 5 => commas += 1,
                _ if commas < 5 => return None,
                _ => {
                    let [a, b, c, d, high, low] = numbers;
                    let port = u16::from_be_bytes([high, low]);
                    let endpoint = SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port);
                    return Some(Self { endpoint, text, behind: text.get(at..)? });
                }
            }
        }
        // The text may go on in the next segment.
        None
    }
}

/// `DfamilyDaddressDportD`, or, with an address at hand, `DDDportD`; D is any one byte from `!` to `~`. Gives what
/// follows.
fn read_extended(text: &[u8], family: Family, own: Option<IpAddr>) -> Option<(SocketAddr, &[u8])> {
    let (&delimiter, rest) = text.split_first()?;
    if !(33..=126).contains(&delimiter) {
        return None;
    }
    let (address, rest) = match (rest, own) {
        ([first, second, rest @ ..], Some(own)) if *first == delimiter && *second == delimiter => (own, rest),
        ([number, second, rest @ ..], _) if *second == delimiter => {
            let end = rest.iter().position(|byte| *byte == delimiter)?;
            let address = core::str::from_utf8(rest.get(..end)?).ok()?;
            let address = match (number, family) {
                (b'1', Family::V4) => dotted(address)?.into(),
                (b'2', Family::V6) => address.parse::<Ipv6Addr>().ok()?.into(),
                _ => return None,
            };
            (address, rest.get(end + 1..)?)
        }
        _ => return None,
    };
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let port: u16 = core::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let (&end, behind) = rest.get(digits..)?.split_first()?;
    (end == delimiter && port != 0).then_some((SocketAddr::new(address, port), behind))
}

/// Four numbers up to 255 with dots between; leading zeros do not count.
fn dotted(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then_some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Family = Family::V4;

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn passive_commands_anywhere() {
        let (passive, extended) =
            (ControlFlow::Break(Some(Mode::Passive)), ControlFlow::Break(Some(Mode::ExtendedPassive)));
        assert_eq!(awaited(b"PASV\r\n", V4), passive);
        assert_eq!(awaited(b"NOOP\r\npasv\r\n", V4), passive);
        assert_eq!(awaited(b"PASV\n", V4), ControlFlow::Continue(()));
        assert_eq!(awaited(b"PASV\r\n", Family::V6), ControlFlow::Continue(()));
        assert_eq!(awaited(b"EPSV\r\n", V4), extended);
        assert_eq!(awaited(b"EPSV 1\r\n", V4), extended);
        assert_eq!(awaited(b"EPSV 2\r\n", V4), ControlFlow::Break(None));
        assert_eq!(awaited(b"EPSV 2\r\n", Family::V6), extended);
        assert_eq!(awaited(b"EPSV ALL\r\nPASV\r\n", V4), ControlFlow::Break(None));
        assert_eq!(awaited(b"EPSV\r", V4), ControlFlow::Continue(()));
    }

    #[test]
    fn what_a_client_announces() {
        for text in ["PORT 10,0,0,5,4,1\r\n", "port10,0,0,5,4,1 ", "PORT   10,0,0,5,4,1,", "PORT 010,000,0,5,4,001\n"] {
            assert_eq!(from_client(text.as_bytes(), V4), at("10.0.0.5:1025"), "{text}");
        }
        assert_eq!(from_client(b"PORT 10,0,0,5,0,0\r\n", V4), at("10.0.0.5:0"));
        for text in [
            "PORT 10,0,0,5,4,1",
            "PORT 10,0,0,5,4\r\n",
            "PORT 256,0,0,5,4,1\r\n",
            "XPORT 1,2,3,4,5,6\r\n",
            "POR",
            "PORT ",
        ] {
            assert_eq!(from_client(text.as_bytes(), V4), None, "{text}");
        }
        assert_eq!(from_client(b"PORT 10,0,0,5,4,1\r\n", Family::V6), None);
        assert_eq!(from_client(b"EPRT  |1|010.0.0.5|1025|\r\n", V4), at("10.0.0.5:1025"));
        assert_eq!(from_client(b"eprt !2!2001:db8::5!1025!", Family::V6), at("[2001:db8::5]:1025"));
        for text in [
            "EPRT |1|1.2.3.4|123456|\r\n",
            "EPRT |2|::1|5|\r\n",
            "EPRT |1|1.2.3|5|\r\n",
            "EPRT |1|1.2.3.4|0|\r\n",
            "EPRT |||5|\r\n",
            "EPRT |1|1.2.3.4|5",
        ] {
            assert_eq!(from_client(text.as_bytes(), V4), None, "{text}");
        }
    }

    #[test]
    fn what_a_server_announces() {
        let own: IpAddr = [10, 77, 1, 11].into();
        let text = b"227 Entering Passive Mode (10,77,1,11,78,52).\r\n";
        assert_eq!(from_server(text, Mode::Passive, own), Some(("10.77.1.11:20020".parse().unwrap(), 27..43)));
        let text = b"227 =10,77,1,11,78,52\r\n";
        assert_eq!(from_server(text, Mode::Passive, own).map(|(_, range)| range), Some(5..21));
        assert_eq!(from_server(b"227 Mode 2 (10,77,1,11,78,52).\r\n", Mode::Passive, own), None);
        let text = b"229 Entering Extended Passive Mode (|||20020|)\r\n";
        assert_eq!(from_server(text, Mode::ExtendedPassive, own), Some(("10.77.1.11:20020".parse().unwrap(), 36..45)));
        let text = b"229 ((|1|10.77.1.12|20020|)\r\n";
        assert_eq!(from_server(text, Mode::ExtendedPassive, own), Some(("10.77.1.12:20020".parse().unwrap(), 6..26)));
        assert_eq!(from_server(b"229 (|||20020)\r\n", Mode::ExtendedPassive, own), None);
        assert_eq!(from_server(text, Mode::Active, own), None);
    }
}
