//! FTP's endpoints as text, independent of the library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The form of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Port,
    Eprt,
    Lprt,
    Pasv,
    Epsv,
    Lpsv,
}

impl Form {
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Self::Port | Self::Eprt | Self::Lprt)
    }

    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
            Self::Lprt => "LPRT",
            Self::Pasv => "PASV",
            Self::Epsv => "EPSV",
            Self::Lpsv => "LPSV",
        }
    }

    /// Writes an endpoint; `delimiter` stands between the parts of the extended forms.
    pub(crate) fn write(self, endpoint: SocketAddr, delimiter: char) -> String {
        let [high, low] = endpoint.port().to_be_bytes();
        let (d, address, port) = (delimiter, endpoint.ip(), endpoint.port());
        match (self, address) {
            (Self::Eprt, _) => format!("{d}{}{d}{address}{d}{port}{d}", if address.is_ipv4() { 1 } else { 2 }),
            (Self::Epsv, _) => format!("{d}{d}{d}{port}{d}"),
            (Self::Lprt | Self::Lpsv, IpAddr::V4(v4)) => format!("4,4,{},2,{high},{low}", commas(&v4.octets())),
            (Self::Lprt | Self::Lpsv, IpAddr::V6(v6)) => format!("6,16,{},2,{high},{low}", commas(&v6.octets())),
            (Self::Port | Self::Pasv, IpAddr::V4(v4)) => format!("{},{high},{low}", commas(&v4.octets())),
            (Self::Port | Self::Pasv, IpAddr::V6(_)) => panic!("{self:?} has no IPv6"),
        }
    }

    /// Reads the endpoint that `text` begins with.
    pub(crate) fn read(self, text: &[u8]) -> Option<Endpoint> {
        match self {
            Self::Port | Self::Pasv => {
                let (numbers, length) = numbers(text, 6)?;
                let [a, b, c, d, high, low] = numbers[..] else { return None };
                let address = Some(Ipv4Addr::new(a, b, c, d).into());
                Some(Endpoint { address, port: u16::from_be_bytes([high, low]), length, delimiter: b',' })
            }
            Self::Lprt | Self::Lpsv => {
                let (size, count) = if text.starts_with(b"6,16,") { (16, 21) } else { (4, 9) };
                let (numbers, length) = numbers(text, count)?;
                let octets = &numbers[2..2 + size];
                let address = match <[u8; 4]>::try_from(octets) {
                    Ok(v4) => Ipv4Addr::from(v4).into(),
                    Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
                };
                let port = u16::from_be_bytes([numbers[count - 2], numbers[count - 1]]);
                let head_fits =
                    [4, 6].contains(&numbers[0]) && usize::from(numbers[1]) == size && numbers[2 + size] == 2;
                head_fits.then_some(Endpoint { address: Some(address), port, length, delimiter: b',' })
            }
            Self::Eprt | Self::Epsv => {
                let delimiter = *text.first()?;
                let parts: Vec<&[u8]> = text[1..].splitn(4, |byte| *byte == delimiter).collect();
                let [family, address, port, _] = parts[..] else { return None };
                let length = 4 + family.len() + address.len() + port.len();
                let port = std::str::from_utf8(port).ok()?.parse().ok()?;
                let address = std::str::from_utf8(address).ok()?;
                let address = match (family, address) {
                    (b"", "") => None,
                    (b"1", v4) => Some(v4.parse::<Ipv4Addr>().ok()?.into()),
                    (b"2", v6) => Some(v6.parse::<Ipv6Addr>().ok()?.into()),
                    _ => return None,
                };
                Some(Endpoint { address, port, length, delimiter })
            }
        }
    }

    /// Reads the endpoint in the text of a reply, wherever it stands.
    pub(crate) fn find(self, text: &[u8]) -> Option<Endpoint> {
        let may_begin = |byte: u8| if self == Self::Epsv { byte.is_ascii_punctuation() } else { byte.is_ascii_digit() };
        (0..text.len()).filter(|at| may_begin(text[*at])).find_map(|at| self.read(&text[at..]))
    }
}

/// An endpoint that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Not said in the short extended form.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    /// Number of bytes of its text.
    pub(crate) length: usize,
    pub(crate) delimiter: u8,
}

fn commas(octets: &[u8]) -> String {
    octets.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

/// So many numbers below 256 with commas between, and how long their text is.
fn numbers(text: &[u8], count: usize) -> Option<(Vec<u8>, usize)> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    loop {
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        numbers.push(std::str::from_utf8(&text[at..at + digits]).ok()?.parse().ok()?);
        at += digits;
        if numbers.len() == count {
            return Some((numbers, at));
        }
        if text.get(at) != Some(&b',') {
            return None;
        }
        at += 1;
    }
}

/// Every way an address may stand in text.
pub(crate) fn spellings(address: IpAddr) -> Vec<String> {
    match address {
        IpAddr::V4(v4) => vec![v4.to_string(), commas(&v4.octets())],
        IpAddr::V6(v6) => {
            let groups = v6.segments().map(|group| format!("{group:x}")).join(":");
            let full = v6.segments().map(|group| format!("{group:04x}")).join(":");
            vec![v6.to_string(), groups, full, commas(&v6.octets())]
        }
    }
}
