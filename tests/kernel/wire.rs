//! Packets as endpoints write and read them, independent of the library.

use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// The oddities of an IP header.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) ttl: u8,
    pub(crate) identification: u16,
    /// Flags and offset as IPv4 has them.
    pub(crate) fragment: u16,
    /// IPv4 options, a multiple of four bytes; for IPv6, extension headers with the number of the first before them.
    pub(crate) options: Vec<u8>,
    pub(crate) tos: u8,
}

impl Default for Ip {
    fn default() -> Self {
        Self { ttl: 64, identification: 0, fragment: 0x4000, options: Vec::new(), tos: 0 }
    }
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Tcp {
    pub(crate) const fn new(flags: u8, seq: u32, ack: u32) -> Self {
        Self { flags, seq, ack, window: 64_240, urgent: 0, options: Vec::new(), data: Vec::new() }
    }

    pub(crate) fn packet(&self, ip: &Ip, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let mut options = self.options.clone();
        while !options.len().is_multiple_of(4) {
            options.push(1);
        }
        let mut body = Vec::new();
        body.extend(from.port().to_be_bytes());
        body.extend(to.port().to_be_bytes());
        body.extend(self.seq.to_be_bytes());
        body.extend(self.ack.to_be_bytes());
        body.extend([((20 + options.len()) as u8) << 2, self.flags]);
        body.extend(self.window.to_be_bytes());
        body.extend([0, 0]);
        body.extend(self.urgent.to_be_bytes());
        body.extend(options);
        body.extend(&self.data);
        sum_into(&mut body, 16, from.ip(), to.ip(), 6);
        self::ip(ip, from.ip(), to.ip(), 6, &body)
    }
}

pub(crate) fn udp(ip: &Ip, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend((8 + data.len() as u16).to_be_bytes());
    body.extend([0, 0]);
    body.extend(data);
    sum_into(&mut body, 6, from.ip(), to.ip(), 17);
    if body[6..8] == [0, 0] {
        body[6..8].copy_from_slice(&[255, 255]);
    }
    self::ip(ip, from.ip(), to.ip(), 17, &body)
}

/// An SCTP packet with these chunks.
pub(crate) fn sctp(ip: &Ip, from: SocketAddr, to: SocketAddr, tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(tag.to_be_bytes());
    body.extend([0; 4]);
    body.extend(chunks);
    let sum = crc32c(&body);
    body[8..12].copy_from_slice(&sum.to_le_bytes());
    self::ip(ip, from.ip(), to.ip(), 132, &body)
}

/// SCTP's checksum, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |value: u32| value >> 1 ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |value, byte| (0..8).fold(value ^ u32::from(*byte), |value, _| shift(value)))
}

/// An ICMP or, between IPv6 addresses, ICMPv6 message; `rest` is the second half of its header.
pub(crate) fn icmp(ip: &Ip, from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut body = vec![kind, code, 0, 0];
    body.extend(rest.to_be_bytes());
    body.extend(data);
    if from.is_ipv6() {
        sum_into(&mut body, 2, from, to, 58);
        return self::ip(ip, from, to, 58, &body);
    }
    let sum = !fold(add(&body, 0));
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    self::ip(ip, from, to, 1, &body)
}

/// An IP header before a body.
pub(crate) fn ip(ip: &Ip, from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = 20 + ip.options.len();
            out.extend([0x40 | (header / 4) as u8, ip.tos]);
            out.extend(((header + body.len()) as u16).to_be_bytes());
            out.extend(ip.identification.to_be_bytes());
            out.extend(ip.fragment.to_be_bytes());
            out.extend([ip.ttl, protocol, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
            out.extend(&ip.options);
            let sum = !fold(add(&out, 0));
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (next, extensions) = ip.options.split_first().map_or((protocol, &[][..]), |(next, rest)| (*next, rest));
            out.extend([0x60, 0, 0, 0]);
            out.extend(((extensions.len() + body.len()) as u16).to_be_bytes());
            out.extend([next, ip.ttl]);
            out.extend(from.octets());
            out.extend(to.octets());
            out.extend(extensions);
        }
        _ => unreachable!("both ends are of one family"),
    }
    out.extend(body);
    out
}

/// An IPv6 fragment header behind which `protocol` follows.
pub(crate) fn fragment_header(protocol: u8, offset: usize, more: bool, identification: u32) -> Vec<u8> {
    let mut out = vec![protocol, 0];
    out.extend((offset as u16 | u16::from(more)).to_be_bytes());
    out.extend(identification.to_be_bytes());
    out
}

fn add(bytes: &[u8], sum: u32) -> u32 {
    bytes
        .chunks(2)
        .fold(sum, |sum, pair| sum + (u32::from(pair[0]) << 8) + u32::from(pair.get(1).copied().unwrap_or(0)))
}

const fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u32 {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => unreachable!("both ends are of one family"),
    };
    add(&addresses, u32::from(protocol) + len as u32)
}

/// Writes the checksum of a transport header at `at`.
pub(crate) fn sum_into(body: &mut [u8], at: usize, from: IpAddr, to: IpAddr, protocol: u8) {
    sum_covered(body, at, body.len(), (from, to), protocol);
}

/// The same where it covers only so many bytes.
pub(crate) fn sum_covered(body: &mut [u8], at: usize, covered: usize, ends: (IpAddr, IpAddr), protocol: u8) {
    body[at..at + 2].fill(0);
    let sum = !fold(add(&body[..covered], pseudo(ends.0, ends.1, protocol, body.len())));
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Sums up a TCP segment of which only the pseudo header was summed, as the kernel leaves it to the device; or, where the
/// segment is delivered here, to nobody.
pub(crate) fn finish_sum(packet: &mut [u8]) {
    let Some(read) = read(packet).filter(|read| read.protocol == 6 && !read.is_fragment) else { return };
    let Some(body) = packet.get_mut(read.at..) else { return };
    if word(body, 16) == Some(fold(pseudo(read.from, read.to, 6, body.len()))) {
        sum_into(body, 16, read.from, read.to, 6);
    }
}

/// A packet as its receiver reads it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    /// Start of the transport header.
    pub(crate) at: usize,
    pub(crate) is_fragment: bool,
    /// The ports of TCP, UDP, UDP-Lite and SCTP.
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) tcp: Option<Tcp>,
    pub(crate) checksum_ok: bool,
}

/// Returns true if a packet is an ICMP or ICMPv6 error that names a link's MTU.
pub(crate) fn says_too_big(bytes: &[u8]) -> bool {
    let Some(read) = read(bytes) else { return false };
    let what = bytes.get(read.at..read.at + 2);
    matches!((read.protocol, what), (1, Some([3, 4])) | (58, Some([2, _])))
}

impl Read {
    pub(crate) fn source(&self) -> SocketAddr {
        SocketAddr::new(self.from, self.ports.unwrap_or_default().0)
    }

    pub(crate) fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.to, self.ports.unwrap_or_default().1)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a packet as far as it goes.
pub(crate) fn read(bytes: &[u8]) -> Option<Read> {
    let is_v4 = bytes.first()? >> 4 == 4;
    let (from, to, protocol, ttl, at, end, is_fragment);
    if is_v4 {
        from = IpAddr::from(<[u8; 4]>::try_from(bytes.get(12..16)?).ok()?);
        to = IpAddr::from(<[u8; 4]>::try_from(bytes.get(16..20)?).ok()?);
        (protocol, ttl, at) = (bytes[9], bytes[8], usize::from(bytes[0] & 15) * 4);
        (end, is_fragment) = (usize::from(word(bytes, 2)?), word(bytes, 6)? & 0x3fff != 0);
    } else {
        from = IpAddr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?);
        to = IpAddr::from(<[u8; 16]>::try_from(bytes.get(24..40)?).ok()?);
        (protocol, ttl, at) = (bytes[6], bytes[7], 40);
        (end, is_fragment) = (40 + usize::from(word(bytes, 4)?), protocol == 44);
    }
    let body = bytes.get(at..end.min(bytes.len()))?;
    let mut out = Read { from, to, protocol, ttl, at, is_fragment, ports: None, tcp: None, checksum_ok: true };
    if is_fragment {
        return Some(out);
    }
    if matches!(protocol, 6 | 17 | 132 | 136) {
        out.ports = word(body, 0).zip(word(body, 2));
    }
    out.checksum_ok = match protocol {
        6 | 58 => fold(add(body, pseudo(from, to, protocol, body.len()))) == 0xffff,
        17 => word(body, 6) == Some(0) || fold(add(body, pseudo(from, to, protocol, body.len()))) == 0xffff,
        1 => fold(add(body, 0)) == 0xffff,
        _ => true,
    };
    if protocol == 6 {
        out.tcp = read_tcp(body);
    }
    Some(out)
}

fn read_tcp(body: &[u8]) -> Option<Tcp> {
    let header = usize::from(body.get(12)? >> 4) * 4;
    Some(Tcp {
        flags: *body.get(13)?,
        seq: long(body, 4)?,
        ack: long(body, 8)?,
        window: word(body, 14)?,
        urgent: word(body, 18)?,
        options: body.get(20..header)?.to_vec(),
        data: body.get(header..)?.to_vec(),
    })
}

/// A packet in one line.
pub(crate) fn show(bytes: &[u8]) -> String {
    let Some(read) = read(bytes) else { return format!("{} bytes {}", bytes.len(), hex(bytes)) };
    let mut out = match read.ports {
        Some(_) => format!("{} > {}", read.source(), read.destination()),
        None => format!("{} > {}", read.from, read.to),
    };
    if let Some(tcp) = &read.tcp {
        let flags: String =
            "FSRPAUEC".chars().enumerate().filter(|(bit, _)| tcp.flags >> bit & 1 == 1).map(|(_, c)| c).collect();
        out += &format!(" {flags} seq={} ack={} win={}", tcp.seq, tcp.ack, tcp.window);
        if tcp.urgent != 0 {
            out += &format!(" urg={}", tcp.urgent);
        }
        if !tcp.options.is_empty() {
            out += &format!(" opt={}", hex(&tcp.options));
        }
        if !tcp.data.is_empty() {
            let shown = &tcp.data[..tcp.data.len().min(120)];
            out += &format!(" {} bytes \"{}\"", tcp.data.len(), shown.escape_ascii());
        }
    } else {
        let body = bytes.get(read.at..).unwrap_or_default();
        let shown = &body[..body.len().min(64)];
        let name = match read.protocol {
            1 => "icmp",
            17 => "udp",
            58 => "icmp6",
            _ => "proto",
        };
        out += &format!(" {name}/{} {}", read.protocol, hex(shown));
    }
    let identification = if bytes[0] >> 4 == 4 { word(bytes, 4).unwrap_or_default() } else { 0 };
    out += &format!(" [ttl={} id={identification} len={}", read.ttl, bytes.len());
    if bytes[0] >> 4 == 4 && word(bytes, 6) != Some(0x4000) {
        out += &format!(" frag={:04x}", word(bytes, 6).unwrap_or_default());
    }
    if bytes[0] >> 4 == 4 && bytes[0] & 15 != 5 {
        out += &format!(" ipopt={}", hex(bytes.get(20..read.at).unwrap_or_default()));
    }
    if bytes[0] >> 4 == 4 && !header_checksum_ok(bytes) {
        out += " BAD HEADER CHECKSUM";
    }
    let total = if bytes[0] >> 4 == 4 { word(bytes, 2) } else { word(bytes, 4).map(|len| len.saturating_add(40)) };
    if total.map(usize::from) != Some(bytes.len()) {
        out += &format!(" says {} bytes", total.unwrap_or_default());
    }
    if !read.checksum_ok {
        out += " BAD CHECKSUM";
    }
    out + "]"
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the checksum of an IPv4 header.
pub(crate) fn header_sum(bytes: &mut [u8]) {
    let header = usize::from(bytes[0] & 15) * 4;
    bytes[10..12].fill(0);
    let sum = !fold(add(&bytes[..header], 0));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Gives a part of a packet another identification, so that it does not meet parts of an earlier dialogue.
pub(crate) fn reidentify(bytes: &mut [u8], salt: u16) {
    let Some(read) = read(bytes).filter(|read| read.is_fragment) else { return };
    if read.to.is_ipv6() {
        if let Some(field) = bytes.get_mut(46..48) {
            field.iter_mut().zip(salt.to_be_bytes()).for_each(|(byte, salt)| *byte ^= salt);
        }
        return;
    }
    let right = bytes.get(..read.at).is_some_and(|header| fold(add(header, 0)) == 0xffff);
    bytes[4..6].iter_mut().zip(salt.to_be_bytes()).for_each(|(byte, salt)| *byte ^= salt);
    if right {
        header_sum(bytes);
    }
}

/// Returns true if the checksum of an IPv4 header is right.
pub(crate) fn header_checksum_ok(bytes: &[u8]) -> bool {
    bytes.get(..usize::from(bytes[0] & 15) * 4).is_some_and(|header| fold(add(header, 0)) == 0xffff)
}
