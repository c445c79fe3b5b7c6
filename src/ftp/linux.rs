//! One segment, read as Linux reads it.

mod extended;
mod ipv6_text;
mod numbers;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Announcement, Form, Reading, Sender};

/// Reads one segment's payload as `nf_conntrack_ftp` of Linux 6.18 does.
///
/// `payload` is the segment's whole payload, and its first byte begins a line (see
/// [`LineStarts`](super::LineStarts)). `own` is the sender's own address on the control connection
/// ([`Endpoints::own`](super::Endpoints::own)): it decides which family `EPRT` may name, and is the address of a `229`
/// reply.
///
/// Quirks of the kernel, all kept:
///
/// * Only the payload's beginning counts, and of that only `PORT`, `EPRT`, `227 ` and `229 `. The blank, digit or
///   parenthesis at which the endpoint begins is looked for in the whole payload, past the line's end too. The bytes
///   after the endpoint are not checked.
/// * Once the keyword is there, anything that cannot be read is [`Reading::Partial`]. So is a payload that is only the
///   beginning of a keyword (a lone `P`).
/// * Numbers have no range. In `PORT` and `227` fields count modulo 2^32 and are joined by OR, so that bits above the
///   eighth reach into the field before. The port of `EPRT` and `229` counts modulo 65536, and only 0 is refused.
/// * `PORT` wants exactly one blank before the numbers and a carriage return after them. `227` wants any byte after
///   them that is neither a digit nor a comma, and its numbers begin at the first digit of the text.
/// * On an IPv6 control connection `PORT` and `227` announce `own` with its first four bytes replaced.
///
/// ```
/// use core::net::{IpAddr, Ipv4Addr};
/// use ftp_conntrack::ftp::{Form, Reading, Sender, read_segment};
///
/// let own = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// let Reading::Announcement(found) = read_segment(Sender::Client, own, b"PORT 10,0,0,1,4,1\r\n") else { panic!() };
/// assert_eq!((found.address, found.port, found.range()), (own, 1025, 5..17));
///
/// assert_eq!(read_segment(Sender::Client, own, b"PORT 10,0,0,1,4,1\n"), Reading::Partial(Form::Port));
/// assert_eq!(read_segment(Sender::Client, own, b"PWD\r\nPORT 10,0,0,1,4,1\r\n"), Reading::Nothing);
/// ```
#[must_use]
pub fn read_segment(sender: Sender, own: IpAddr, payload: &[u8]) -> Reading {
    let forms = match sender {
        Sender::Client => [Form::Port, Form::Eprt],
        Sender::Server => [Form::Pasv, Form::Epsv],
    };
    for form in forms {
        match keyword(form, payload) {
            Keyword::Absent => {}
            Keyword::Begun => return Reading::Partial(form),
            Keyword::Present => {
                return announcement(form, own, payload).map_or(Reading::Partial(form), Reading::Announcement);
            }
        }
    }
    Reading::Nothing
}

const KEYWORD: usize = 4;

enum Keyword {
    Absent,
    /// The payload ends within the keyword or with it.
    Begun,
    /// The payload goes on behind the keyword.
    Present,
}

fn keyword(form: Form, payload: &[u8]) -> Keyword {
    let word: &[u8; KEYWORD] = match form {
        Form::Port => b"PORT",
        Form::Eprt => b"EPRT",
        Form::Pasv => b"227 ",
        Form::Epsv => b"229 ",
        Form::Lprt | Form::Lpsv => return Keyword::Absent,
    };
    let begun = word.iter().zip(payload).all(|(a, b)| a.eq_ignore_ascii_case(b));
    match payload.len() {
        0 => Keyword::Absent,
        _ if !begun => Keyword::Absent,
        1..=KEYWORD => Keyword::Begun,
        _ => Keyword::Present,
    }
}

/// The endpoint that an announcement's text names, and its length in bytes from the reader's start.
struct Found {
    address: IpAddr,
    port: u16,
    length: usize,
}

fn announcement(form: Form, own: IpAddr, payload: &[u8]) -> Option<Announcement> {
    let start = text_start(form, payload)?;
    let text = payload.get(start..)?;
    let Found { address, port, length } = match form {
        Form::Port => host_port(own, text, Some(b'\r')),
        Form::Pasv => host_port(own, text, None),
        Form::Eprt => extended::eprt(own, text),
        Form::Epsv => extended::epsv(own, text),
        Form::Lprt | Form::Lpsv => None,
    }?;
    Some(Announcement { form, address, port, start, end: start + length })
}

/// Returns the place where the reader of `form` starts: after the first blank or parenthesis, or on the first digit,
/// anywhere in the payload.
fn text_start(form: Form, payload: &[u8]) -> Option<usize> {
    let rest = payload.get(KEYWORD..)?;
    let offset = match form {
        Form::Port | Form::Eprt => rest.iter().position(|b| *b == b' ')? + 1,
        Form::Pasv => rest.iter().position(u8::is_ascii_digit)?,
        Form::Epsv => rest.iter().position(|b| *b == b'(')? + 1,
        Form::Lprt | Form::Lpsv => return None,
    };
    Some(KEYWORD + offset)
}

fn host_port(own: IpAddr, text: &[u8], terminator: Option<u8>) -> Option<Found> {
    let ([a, b, c, d, high, low], length) = numbers::read(text, b',', terminator)?;
    let address = typed_address(own, numbers::quad([a, b, c, d]));
    Some(Found { address, port: (high << 8 | low) as u16, length })
}

/// Linux keeps the typed quad where an IPv4 address would be in a copy of the sender's address.
fn typed_address(own: IpAddr, quad: Ipv4Addr) -> IpAddr {
    match own {
        IpAddr::V4(_) => IpAddr::V4(quad),
        IpAddr::V6(own) => {
            let mut octets = own.octets();
            octets[..4].copy_from_slice(&quad.octets());
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

#[cfg(test)]
mod tests;
