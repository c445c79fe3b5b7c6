//! The arguments of PORT, EPRT and LPRT.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::scanner::{NumberError, Scanner};

/// The argument of `PORT`, `h1,h2,h3,h4,p1,p2` (RFC 959 section 4.1.2), which a `227` reply contains too.
///
/// [`Display`](fmt::Display) writes it without leading zeros, which gives back any text that had none.
///
/// ```
/// use ftp_conntrack::ftp::HostPort;
///
/// let there = HostPort::parse(b"192,168,0,239,12,13")?;
/// assert_eq!((there.address.octets(), there.port), ([192, 168, 0, 239], 12 << 8 | 13));
/// assert_eq!(there.to_string(), "192,168,0,239,12,13");
/// # Ok::<(), ftp_conntrack::ftp::HostPortError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct HostPort {
    /// The address, `h1.h2.h3.h4`.
    pub address: Ipv4Addr,
    /// The port, `p1 * 256 + p2`. The grammar allows 0.
    pub port: u16,
}

/// The argument of `EPRT`, `|1|132.235.1.2|6275|` (RFC 2428 section 2).
///
/// [`Display`](fmt::Display) keeps the delimiter, and gives back any text that had its numbers without leading zeros
/// and its IPv6 address as RFC 5952 recommends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct ExtendedHostPort {
    /// The byte that stands around the fields.
    pub delimiter: Delimiter,
    /// The address; its family is the first field.
    pub address: IpAddr,
    /// The port. The grammar allows 0.
    pub port: u16,
}

/// The argument of `LPRT`, `4,4,h1,h2,h3,h4,2,p1,p2` or `6,16,h1,…,h16,2,p1,p2` (RFC 1639), which a `228`
/// reply contains too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct LongHostPort {
    /// The address; the first field is its IP version.
    pub address: IpAddr,
    /// The port. The grammar allows 0.
    pub port: u16,
}

/// The byte that stands around the fields of an `EPRT` argument: printable ASCII without the blank, 33 to 126 (RFC 2428
/// section 2). By default `|`, as the RFC recommends.
///
/// One that also occurs in the address or the port (a digit, say) is within the RFC's range, but makes a text that
/// nobody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delimiter(u8);

impl Delimiter {
    /// `byte` as a delimiter; `None` below 33 and above 126.
    #[inline]
    #[must_use]
    pub const fn new(byte: u8) -> Option<Self> {
        if byte.is_ascii_graphic() { Some(Self(byte)) } else { None }
    }

    /// The byte, 33 to 126.
    #[inline]
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }
}

impl Default for Delimiter {
    fn default() -> Self {
        Self(b'|')
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        char::from(self.0).fmt(f)
    }
}

/// The reason why an argument names no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostPortError {
    /// There is no argument.
    Missing,
    /// A number is missing: something else, or the end, stands in its place.
    NotANumber,
    /// A number exceeds its range (255, or 65535 for the port of `EPRT`) or has more digits than that range needs.
    OutOfRange,
    /// The fields are not separated as they must be, or there are too few of them.
    Separator,
    /// The first byte of an `EPRT` argument cannot be a delimiter.
    Delimiter(u8),
    /// This is no family known here: 1 and 2 in `EPRT`, 4 and 6 in `LPRT`.
    Family(u16),
    /// The address of an `EPRT` argument is none of its family.
    Address,
    /// An `LPRT` argument gives its address or its port a length, in bytes, that it does not have.
    Length(u8),
    /// Something follows the endpoint.
    Trailing,
    /// The command has bytes in it, or before it, that not every server skips.
    Verb,
}

impl fmt::Display for HostPortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no argument"),
            Self::NotANumber => f.write_str("a number is missing"),
            Self::OutOfRange => f.write_str("a number is out of range"),
            Self::Separator => f.write_str("the fields are not separated as they must be"),
            Self::Delimiter(byte) => write!(f, "byte {byte} cannot be a delimiter"),
            Self::Family(family) => write!(f, "unknown address family {family}"),
            Self::Address => f.write_str("not an address of its family"),
            Self::Length(length) => write!(f, "wrong length {length}"),
            Self::Trailing => f.write_str("something follows the endpoint"),
            Self::Verb => f.write_str("the command is spelled so that only some servers read it"),
        }
    }
}

impl core::error::Error for HostPortError {}

impl From<NumberError> for HostPortError {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::Missing => Self::NotANumber,
            NumberError::TooLarge => Self::OutOfRange,
        }
    }
}

impl HostPort {
    /// Reads an argument that is nothing but six numbers up to 255 with commas between. Leading zeros are allowed up to
    /// three digits.
    ///
    /// # Errors
    /// Says what is missing or wrong; the first thing that is.
    pub fn parse(argument: &[u8]) -> Result<Self, HostPortError> {
        whole(argument, Self::scan)
    }

    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Self, HostPortError> {
        let [a, b, c, d, high, low] = octets(scanner)?;
        Ok(Self { address: Ipv4Addr::new(a, b, c, d), port: u16::from_be_bytes([high, low]) })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([a, b, c, d], [high, low]) = (self.address.octets(), self.port.to_be_bytes());
        write!(f, "{a},{b},{c},{d},{high},{low}")
    }
}

impl ExtendedHostPort {
    /// Reads an argument that is nothing but family, address and port with a delimiter before, between and behind.
    ///
    /// # Errors
    /// Says what is missing or wrong; the first thing that is.
    pub fn parse(argument: &[u8]) -> Result<Self, HostPortError> {
        whole(argument, Self::scan)
    }

    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Self, HostPortError> {
        let first = scanner.next().ok_or(HostPortError::Missing)?;
        let delimiter = Delimiter::new(first).ok_or(HostPortError::Delimiter(first))?;
        let family = field(scanner, delimiter)?;
        let address = field(scanner, delimiter)?;
        let port = field(scanner, delimiter)?;
        let address = match whole(family, |s| Ok(s.number(u16::MAX)?))? {
            1 => IpAddr::V4(address_text(address)?),
            2 => IpAddr::V6(address_text(address)?),
            other => return Err(HostPortError::Family(other)),
        };
        Ok(Self { delimiter, address, port: whole(port, |s| Ok(s.number(u16::MAX)?))? })
    }
}

impl fmt::Display for ExtendedHostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delimiter: d, address, port } = self;
        let family = if address.is_ipv4() { 1 } else { 2 };
        write!(f, "{d}{family}{d}{address}{d}{port}{d}")
    }
}

impl LongHostPort {
    /// Reads an argument that is nothing but numbers with commas between: IP version, length and bytes of the address,
    /// length (2) and bytes of the port.
    ///
    /// # Errors
    /// Says what is missing or wrong; the first thing that is.
    pub fn parse(argument: &[u8]) -> Result<Self, HostPortError> {
        whole(argument, Self::scan)
    }

    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Self, HostPortError> {
        let version = scanner.octet()?;
        let address = match version {
            4 => IpAddr::V4(Ipv4Addr::from(counted::<4>(scanner)?)),
            6 => IpAddr::V6(Ipv6Addr::from(counted::<16>(scanner)?)),
            other => return Err(HostPortError::Family(other.into())),
        };
        Ok(Self { address, port: u16::from_be_bytes(counted(scanner)?) })
    }
}

impl fmt::Display for LongHostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => {
                f.write_str("4,4")?;
                all(f, &v4.octets())?;
            }
            IpAddr::V6(v6) => {
                f.write_str("6,16")?;
                all(f, &v6.octets())?;
            }
        }
        f.write_str(",2")?;
        all(f, &self.port.to_be_bytes())
    }
}

fn all(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, ",{octet}"))
}

/// Reads `text` with `scan`, and refuses what it leaves over.
fn whole<T>(text: &[u8], scan: impl FnOnce(&mut Scanner<'_>) -> Result<T, HostPortError>) -> Result<T, HostPortError> {
    if text.is_empty() {
        return Err(HostPortError::Missing);
    }
    let mut scanner = Scanner::new(text, 0);
    let value = scan(&mut scanner)?;
    if scanner.peek().is_some() { Err(HostPortError::Trailing) } else { Ok(value) }
}

fn field<'a>(scanner: &mut Scanner<'a>, delimiter: Delimiter) -> Result<&'a [u8], HostPortError> {
    scanner.until(delimiter.byte()).ok_or(HostPortError::Separator)
}

fn address_text<T: core::str::FromStr>(text: &[u8]) -> Result<T, HostPortError> {
    core::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(HostPortError::Address)
}

fn comma(scanner: &mut Scanner<'_>) -> Result<(), HostPortError> {
    if scanner.skip(b',') { Ok(()) } else { Err(HostPortError::Separator) }
}

/// `N` octets with commas between.
fn octets<const N: usize>(scanner: &mut Scanner<'_>) -> Result<[u8; N], HostPortError> {
    let mut octets = [0; N];
    for (at, octet) in octets.iter_mut().enumerate() {
        if at > 0 {
            comma(scanner)?;
        }
        *octet = scanner.octet()?;
    }
    Ok(octets)
}

/// A comma, the number `N`, a comma, and `N` octets.
fn counted<const N: usize>(scanner: &mut Scanner<'_>) -> Result<[u8; N], HostPortError> {
    comma(scanner)?;
    let length = scanner.octet()?;
    if usize::from(length) != N {
        return Err(HostPortError::Length(length));
    }
    comma(scanner)?;
    octets(scanner)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn port_and_back() {
        for text in ["192,168,0,239,12,13", "0,0,0,0,0,0", "255,255,255,255,255,255", "10,0,0,1,0,21"] {
            assert_eq!(HostPort::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(
            HostPort::parse(b"132,235,1,2,24,131"),
            Ok(HostPort { address: Ipv4Addr::new(132, 235, 1, 2), port: 6275 })
        );
        assert_eq!(HostPort::parse(b"010,000,000,001,004,001").unwrap().to_string(), "10,0,0,1,4,1");
    }

    #[test]
    fn port_refusals() {
        for (text, error) in [
            ("", HostPortError::Missing),
            ("10,0,0,1,4,256", HostPortError::OutOfRange),
            ("0010,0,0,1,4,1", HostPortError::OutOfRange),
            ("10,0,0,1,4,", HostPortError::NotANumber),
            ("10,0,0,,4,1", HostPortError::NotANumber),
            ("10, 0,0,1,4,1", HostPortError::NotANumber),
            ("-1,0,0,1,4,1", HostPortError::NotANumber),
            ("10,0,0,1,4", HostPortError::Separator),
            ("10.0.0.1,4,1", HostPortError::Separator),
            ("10,0,0,1,4,1,7", HostPortError::Trailing),
            ("10,0,0,1,4,1 ", HostPortError::Trailing),
        ] {
            assert_eq!(HostPort::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn eprt_and_back() {
        for text in [
            "|1|132.235.1.2|6275|",
            "|2|1080::8:800:200c:417a|5282|",
            "!1!10.0.0.1!1025!",
            "x2x::ffff:10.0.0.1x65535x",
            "~2~::~0~",
            "%1%0.0.0.0%1%",
        ] {
            assert_eq!(ExtendedHostPort::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        let read = ExtendedHostPort::parse(b"!2!FE80:0::1!00021!").unwrap();
        assert_eq!((read.delimiter.byte(), read.port), (b'!', 21));
        assert_eq!(read.to_string(), "!2!fe80::1!21!");
    }

    #[test]
    fn eprt_refusals() {
        for (text, error) in [
            ("", HostPortError::Missing),
            (" 1 10.0.0.1 1025 ", HostPortError::Delimiter(b' ')),
            ("\x7f1\x7f", HostPortError::Delimiter(127)),
            ("|", HostPortError::Separator),
            ("|1|10.0.0.1|1025", HostPortError::Separator),
            ("||10.0.0.1|1025|", HostPortError::Missing),
            ("|x|10.0.0.1|1025|", HostPortError::NotANumber),
            ("|1x|10.0.0.1|1025|", HostPortError::Trailing),
            ("|3|10.0.0.1|1025|", HostPortError::Family(3)),
            ("|2|10.0.0.1|1025|", HostPortError::Address),
            ("|1|::1|1025|", HostPortError::Address),
            ("|1|10.0.0.256|1025|", HostPortError::Address),
            ("|1|010.0.0.1|1025|", HostPortError::Address),
            ("|1||1025|", HostPortError::Address),
            ("|2|fe80::1%eth0|1025|", HostPortError::Address),
            (".1.10.0.0.1.1025.", HostPortError::Address),
            ("|1|10.0.0.1||", HostPortError::Missing),
            ("|1|10.0.0.1|65536|", HostPortError::OutOfRange),
            ("|1|10.0.0.1|1025||", HostPortError::Trailing),
        ] {
            assert_eq!(ExtendedHostPort::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn lprt_and_back() {
        for text in ["4,4,10,0,0,5,2,4,210", "6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,1,2,255,255"] {
            assert_eq!(LongHostPort::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(
            LongHostPort::parse(b"6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,1,2,4,1"),
            Ok(LongHostPort { address: "2001:db8::1".parse().unwrap(), port: 1025 })
        );
    }

    #[test]
    fn lprt_refusals() {
        for (text, error) in [
            ("", HostPortError::Missing),
            ("5,4,10,0,0,5,2,4,210", HostPortError::Family(5)),
            ("4,16,10,0,0,5,2,4,210", HostPortError::Length(16)),
            ("6,4,10,0,0,5,2,4,210", HostPortError::Length(4)),
            ("4,4,10,0,0,5,3,4,210,1", HostPortError::Length(3)),
            ("4,4,10,0,0,5,2,4", HostPortError::Separator),
            ("4,4,10,0,0,5,2,4,x", HostPortError::NotANumber),
            ("4,4,10,0,0,500,2,4,1", HostPortError::OutOfRange),
            ("4,4,10,0,0,5,2,4,210,1", HostPortError::Trailing),
            ("4", HostPortError::Separator),
        ] {
            assert_eq!(LongHostPort::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn delimiters_are_printable() {
        assert_eq!(Delimiter::default().byte(), b'|');
        let allowed = (0..=255).filter(|b| Delimiter::new(*b).is_some());
        assert!(allowed.eq(33..=126));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(HostPortError::Family(3).to_string(), "unknown address family 3");
        assert_eq!(HostPortError::Delimiter(9).to_string(), "byte 9 cannot be a delimiter");
    }
}
