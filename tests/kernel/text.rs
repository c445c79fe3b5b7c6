//! The text of FTP as endpoints write and read it.

use std::net::{IpAddr, SocketAddr};

/// `h1,h2,h3,h4,p1,p2`.
pub(crate) fn host_port_text(address: IpAddr, port: u16) -> String {
    format!("{},{},{}", address.to_string().replace('.', ","), port >> 8, port & 255)
}

/// The first six numbers with commas between.
pub(crate) fn host_port(text: &str) -> Option<SocketAddr> {
    text.split(|c: char| !c.is_ascii_digit() && c != ',').find_map(|word| {
        let numbers: Vec<u8> = word.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [a, b, c, d, high, low] = numbers[..] else { return None };
        Some(SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low])))
    })
}

/// The address, if any, and the port between bars.
pub(crate) fn extended(text: &str) -> Option<(Option<IpAddr>, u16)> {
    let mut words = text.split('|').skip(1);
    let (_, address, port) = (words.next()?, words.next()?, words.next()?);
    Some((address.parse().ok(), port.parse().ok()?))
}
