//! Writes an announcement's text.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::{Deref, Range};

use super::Form;

/// The most bytes a replacement text has: an IPv6 endpoint of [`Form::Lprt`], `6,16,`, sixteen numbers up to 255 and
/// commas, `2,255,255`.
pub const MAX_TEXT: usize = 78;

/// The text that announces an endpoint, at most [`MAX_TEXT`] bytes of ASCII, held inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text {
    // Bytes past `length` stay zero, so that comparison may look at all of them.
    bytes: [u8; MAX_TEXT],
    length: u8,
}

/// Writes the text that takes the place of an announcement, exactly as Linux's FTP NAT helper does:
///
/// | form | IPv4 | IPv6 |
/// |---|---|---|
/// | [`Form::Port`], [`Form::Pasv`] | `a,b,c,d,p1,p2` | the first four bytes of the address for `a,b,c,d` |
/// | [`Form::Eprt`] | `\|1\|a.b.c.d\|port\|` | `\|2\|` eight groups of four lowercase digits `\|port\|` |
/// | [`Form::Epsv`] | `\|\|\|port\|` | `\|\|\|port\|` |
///
/// [`Form::Lprt`] and [`Form::Lpsv`], which Linux does not know, are written as RFC 1639 has them.
///
/// Numbers have no leading zeros, the delimiter is always `|`, and an IPv6 address is never shortened with `::`.
///
/// ```
/// use core::net::{IpAddr, Ipv4Addr};
/// use ftp_conntrack::ftp::{Form, write};
///
/// let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 107));
/// assert_eq!(write(Form::Port, address, 51213).as_bytes(), b"198,51,100,107,200,13");
/// assert_eq!(write(Form::Eprt, address, 51213).as_bytes(), b"|1|198.51.100.107|51213|");
/// assert_eq!(write(Form::Epsv, address, 51213).as_bytes(), b"|||51213|");
/// ```
#[must_use]
pub fn write(form: Form, address: IpAddr, port: u16) -> Text {
    let mut text = Text::EMPTY;
    match form {
        Form::Port | Form::Pasv => text.six_numbers(address, port),
        Form::Eprt => text.extended(address, port),
        Form::Epsv => {
            text.push_all(b"|||");
            text.port(port);
        }
        Form::Lprt | Form::Lpsv => text.long(address, port),
    }
    text
}

/// Writes like [`write()`], in the style of the text that is replaced: with its delimiter, unless the address contains that
/// too, and in a [`Form::Epsv`] reply with family and address if it had them. IPv6 addresses are written as RFC 5952
/// recommends: some servers refuse any other form.
///
/// ```
/// use core::net::{IpAddr, Ipv4Addr};
/// use ftp_conntrack::ftp::{Form, write_like};
///
/// let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 107));
/// assert_eq!(write_like(Form::Eprt, b"!1!10.0.0.5!1234!", address, 51213).as_bytes(), b"!1!198.51.100.107!51213!");
/// assert_eq!(write_like(Form::Epsv, b"|1|10.0.0.5|1234|", address, 1234).as_bytes(), b"|1|198.51.100.107|1234|");
/// ```
#[must_use]
pub fn write_like(form: Form, replaced: &[u8], address: IpAddr, port: u16) -> Text {
    let (Form::Eprt | Form::Epsv, Some(&delimiter)) = (form, replaced.first()) else {
        return write(form, address, port);
    };
    let says_address = form == Form::Epsv && replaced.get(1) != Some(&delimiter);
    let mut text = match (says_address || form == Form::Eprt, address) {
        (true, IpAddr::V6(v6)) => Text::recommended(v6, port),
        (true, IpAddr::V4(_)) => write(Form::Eprt, address, port),
        (false, _) => write(form, address, port),
    };
    let stands_in_text = delimiter.is_ascii_hexdigit() || matches!(delimiter, b'.' | b':');
    if delimiter.is_ascii_graphic() && !stands_in_text {
        let written = text.bytes.iter_mut().take(usize::from(text.length));
        written.filter(|byte| **byte == b'|').for_each(|byte| *byte = delimiter);
    }
    text
}

impl Text {
    /// No text at all.
    pub const EMPTY: Self = Self { bytes: [0; MAX_TEXT], length: 0 };

    /// A copy of a text as it was announced; what is longer than [`MAX_TEXT`] is cut off.
    #[must_use]
    pub fn copy_of(announced: &[u8]) -> Self {
        let mut text = Self::EMPTY;
        announced.iter().take(MAX_TEXT).for_each(|byte| text.push(*byte));
        text
    }

    /// The text's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The text, which is always ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn six_numbers(&mut self, address: IpAddr, port: u16) {
        for octet in first_four(address) {
            self.decimal(octet.into());
            self.push(b',');
        }
        let [high, low] = port.to_be_bytes();
        self.decimal(high.into());
        self.push(b',');
        self.decimal(low.into());
    }

    fn extended(&mut self, address: IpAddr, port: u16) {
        match address {
            IpAddr::V4(v4) => {
                self.push_all(b"|1|");
                self.dotted(v4);
            }
            IpAddr::V6(v6) => {
                self.push_all(b"|2|");
                self.groups(v6);
            }
        }
        self.push(b'|');
        self.port(port);
    }

    /// Writes `|2|`, the address as RFC 5952 recommends, and the port.
    fn recommended(address: Ipv6Addr, port: u16) -> Self {
        let mut text = Self::EMPTY;
        text.push_all(b"|2|");
        text.short_groups(address);
        text.push(b'|');
        text.port(port);
        text
    }

    /// Writes an IPv6 address as RFC 5952 has it: no leading zeros, and `::` for the first of the longest runs of zeros.
    fn short_groups(&mut self, address: Ipv6Addr) {
        if let Some(mapped) = address.to_ipv4_mapped() {
            self.push_all(b"::ffff:");
            return self.dotted(mapped);
        }
        let groups = address.segments();
        let zeros = longest_zeros(&groups);
        for (index, group) in groups.into_iter().enumerate() {
            if zeros.contains(&index) {
                if index == zeros.start {
                    self.push_all(b"::");
                }
                continue;
            }
            if index > 0 && index != zeros.end {
                self.push(b':');
            }
            self.short_hexadecimal(group);
        }
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        let [first, rest @ ..] = address.octets();
        self.decimal(first.into());
        for octet in rest {
            self.push(b'.');
            self.decimal(octet.into());
        }
    }

    /// RFC 1639: IP version, length and bytes of the address, length and bytes of the port.
    fn long(&mut self, address: IpAddr, port: u16) {
        match address {
            IpAddr::V4(v4) => {
                self.push_all(b"4,4");
                self.octets(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.push_all(b"6,16");
                self.octets(&v6.octets());
            }
        }
        self.push_all(b",2");
        self.octets(&port.to_be_bytes());
    }

    /// Each with a comma before it.
    fn octets(&mut self, octets: &[u8]) {
        for octet in octets {
            self.push(b',');
            self.decimal((*octet).into());
        }
    }

    fn groups(&mut self, address: Ipv6Addr) {
        let [first, rest @ ..] = address.segments();
        self.hexadecimal(first);
        for group in rest {
            self.push(b':');
            self.hexadecimal(group);
        }
    }

    fn port(&mut self, port: u16) {
        self.decimal(port);
        self.push(b'|');
    }

    fn decimal(&mut self, number: u16) {
        let mut seen = false;
        for unit in [10_000, 1000, 100, 10, 1] {
            let digit = (number / unit % 10) as u8;
            seen |= digit != 0 || unit == 1;
            if seen {
                self.push(b'0' + digit);
            }
        }
    }

    fn hexadecimal(&mut self, group: u16) {
        for shift in [12, 8, 4, 0] {
            self.digit(group >> shift & 0xf);
        }
    }

    fn short_hexadecimal(&mut self, group: u16) {
        for shift in [12, 8, 4, 0] {
            if shift == 0 || group >> shift != 0 {
                self.digit(group >> shift & 0xf);
            }
        }
    }

    fn digit(&mut self, digit: u16) {
        let digit = digit as u8;
        self.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }

    fn push_all(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        // The longest text fits exactly, so the check never fails.
        if let Some(slot) = self.bytes.get_mut(usize::from(self.length)) {
            *slot = byte;
            self.length += 1;
        }
    }
}

/// On an IPv6 control connection Linux prints the start of the address as if it were an IPv4 address.
fn first_four(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.octets();
            [a, b, c, d]
        }
    }
}

/// Returns where the first of the longest runs of at least two zeros is; an empty range after all groups if there is none.
fn longest_zeros(groups: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut run) = (groups.len()..groups.len(), 0..0);
    for (index, group) in groups.iter().enumerate() {
        run = if *group == 0 { run.start..index + 1 } else { index + 1..index + 1 };
        if run.len() > longest.len().max(1) {
            longest = run.clone();
        }
    }
    longest
}

impl Deref for Text {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Text {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::borrow::ToOwned;
    use std::format;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab, 1));

    #[test]
    fn six_numbers() {
        assert_eq!(&*write(Form::Pasv, V4, 20020), b"203,0,113,1,78,52");
        assert_eq!(&*write(Form::Port, V4, 0), b"203,0,113,1,0,0");
        assert_eq!(&*write(Form::Port, V4, 255), b"203,0,113,1,0,255");
        assert_eq!(&*write(Form::Port, IpAddr::V4(Ipv4Addr::BROADCAST), 65535), b"255,255,255,255,255,255");
    }

    #[test]
    fn six_numbers_on_ipv6_are_the_start_of_the_address() {
        assert_eq!(&*write(Form::Port, V6, 2570), b"32,1,13,184,10,10");
    }

    #[test]
    fn extended() {
        assert_eq!(&*write(Form::Eprt, V4, 21), b"|1|203.0.113.1|21|");
        assert_eq!(&*write(Form::Eprt, V6, 51213), b"|2|2001:0db8:0000:0000:0000:0000:00ab:0001|51213|");
        assert_eq!(&*write(Form::Epsv, V4, 1000), b"|||1000|");
        assert_eq!(&*write(Form::Epsv, V6, 65535), b"|||65535|");
    }

    #[test]
    fn the_longest_text_fits() {
        let text = write(Form::Lprt, IpAddr::V6(Ipv6Addr::from([0xff; 16])), 65535);
        assert_eq!(text.as_str(), format!("6,16,{}2,255,255", "255,".repeat(16)));
        assert_eq!(text.len(), MAX_TEXT);
    }

    #[test]
    fn long() {
        assert_eq!(&*write(Form::Lprt, V4, 1234), b"4,4,203,0,113,1,2,4,210");
        assert_eq!(&*write(Form::Lpsv, V6, 1234), b"6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,171,0,1,2,4,210");
    }

    #[test]
    fn the_dress_of_what_is_replaced() {
        let like = |form, replaced: &[u8], address| write_like(form, replaced, address, 7).as_str().to_owned();
        assert_eq!(like(Form::Eprt, b"!1!10.0.0.5!1234!", V4), "!1!203.0.113.1!7!");
        assert_eq!(like(Form::Eprt, b"a1a10.0.0.5a1234a", V4), "|1|203.0.113.1|7|", "no longer one that can be read");
        assert_eq!(like(Form::Eprt, b":1:10.0.0.5:1234:", V4), "|1|203.0.113.1|7|");
        assert_eq!(like(Form::Epsv, b"###1234#", V4), "###7#");
        assert_eq!(like(Form::Epsv, b"+2+fd00::5+1234+", V6), "+2+2001:db8::ab:1+7+");
        assert_eq!(like(Form::Eprt, b"|2|fd00::5|1234|", V6), "|2|2001:db8::ab:1|7|");
        assert_eq!(
            like(Form::Eprt, b":2:fd00::5:1234:", V6),
            "|2|2001:db8::ab:1|7|",
            "the delimiter is in the address"
        );
        assert_eq!(like(Form::Pasv, b"10,0,0,5,4,210", V4), "203,0,113,1,0,7");
        assert_eq!(like(Form::Lprt, b"", V4), "4,4,203,0,113,1,2,0,7");
    }

    #[test]
    fn every_decimal_is_as_the_library_formats_it() {
        for n in (0..=u16::MAX).step_by(7).chain([9, 10, 99, 100, 999, 1000, 9999, 10000]) {
            assert_eq!(write(Form::Epsv, V4, n).as_str(), format!("|||{n}|"));
        }
    }

    #[test]
    fn every_ipv6_address_is_as_the_library_formats_it() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let group = |i: u32| match random >> (3 * i) & 7 {
                0..=4 => 0,
                5 => 0xffff,
                wide => (random >> (wide + u64::from(i))) as u16 >> (4 * (i % 4)),
            };
            let address = Ipv6Addr::from([0, 1, 2, 3, 4, 5, 6, 7].map(group));
            assert_eq!(write_like(Form::Eprt, b"|", address.into(), 7).as_str(), format!("|2|{address}|7|"));
        }
        let mapped = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x207]);
        assert_eq!(write_like(Form::Eprt, b"|", mapped.into(), 7).as_str(), "|2|::ffff:192.0.2.7|7|");
    }

    #[test]
    fn shows_itself() {
        let text = write(Form::Epsv, V4, 7);
        assert_eq!(format!("{text} {text:?} {text:>6}"), "|||7| \"|||7|\"  |||7|");
    }
}
