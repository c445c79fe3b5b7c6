//! Packets in words.

use std::ops::Range;

use ftp_conntrack::packet::{Family, Headers, Layer4, Protocol};

/// A packet on one line: ends, protocol, the numbers of its transport header, and its payload.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let headers = match Headers::find_cut(bytes) {
        Ok(headers) => headers,
        Err(error) => return format!("{} bytes, {error}", bytes.len()),
    };
    let mut line = format!("{} {}", ends(&headers, bytes), headers.protocol.name());
    if let Some(fragment) = headers.fragment {
        line += &format!(" fragment at {}{}", fragment.offset, if fragment.more { ", more follow" } else { "" });
    }
    match headers.layer4 {
        Layer4::Tcp(tcp) => {
            let acknowledgement = tcp.acknowledgement.0;
            line += &format!(" [{:?}] seq {} ack {acknowledgement} win {}", tcp.flags, tcp.sequence.0, tcp.window);
        }
        Layer4::Icmp(icmp) => line += &format!(" type {} code {} id {}", icmp.kind, icmp.code, icmp.identifier),
        _ => {}
    }
    let payload = headers.payload(bytes);
    if !payload.is_empty() {
        line += &format!(" len {} \"{}\"", payload.len(), short(&escaped(payload), 120));
    }
    line
}

fn ends(headers: &Headers, bytes: &[u8]) -> String {
    let (source, destination) = (headers.source(bytes), headers.destination(bytes));
    match headers.ports(bytes) {
        Some((from, to)) => {
            format!("{} > {}", std::net::SocketAddr::new(source, from), std::net::SocketAddr::new(destination, to))
        }
        None => format!("{source} > {destination}"),
    }
}

/// The fields of a packet's headers, each with its place from the start of the IP header; what follows them is payload.
pub(crate) fn fields(bytes: &[u8]) -> Vec<(Range<usize>, &'static str)> {
    let Ok(headers) = Headers::find_cut(bytes) else { return vec![(0..bytes.len(), "packet")] };
    let mut fields = match headers.family {
        Family::V4 => shifted(0, IPV4),
        Family::V6 => shifted(0, IPV6),
    };
    let fixed = fields.last().map_or(0, |(range, _)| range.end);
    fields.push((fixed..headers.transport, if headers.family == Family::V4 { "IP options" } else { "IP extensions" }));
    let transport = match headers.protocol {
        _ if headers.fragment.is_some_and(|fragment| fragment.offset > 0) => &[],
        Protocol::TCP => TCP,
        Protocol::UDP | Protocol::UDPLITE => UDP,
        Protocol::ICMP | Protocol::ICMPV6 => ICMP,
        _ => &[],
    };
    fields.extend(shifted(headers.transport, transport));
    let read = fields.last().map_or(0, |(range, _)| range.end);
    let payload = match headers.layer4 {
        Layer4::Tcp(tcp) => tcp.payload.max(read),
        _ => read,
    };
    fields.push((read..payload, "TCP options"));
    fields.push((payload..bytes.len().max(payload), "payload"));
    fields.retain(|(range, _)| !range.is_empty());
    fields
}

type Fields = &'static [(usize, usize, &'static str)];

fn shifted(by: usize, fields: Fields) -> Vec<(Range<usize>, &'static str)> {
    fields.iter().map(|(start, end, name)| (start + by..end + by, *name)).collect()
}

const IPV4: Fields = &[
    (0, 1, "IP version and header length"),
    (1, 2, "IP type of service"),
    (2, 4, "IP total length"),
    (4, 6, "IP identification"),
    (6, 8, "IP flags and fragment offset"),
    (8, 9, "IP time to live"),
    (9, 10, "IP protocol"),
    (10, 12, "IP header checksum"),
    (12, 16, "IP source address"),
    (16, 20, "IP destination address"),
];

const IPV6: Fields = &[
    (0, 4, "IP version, traffic class and flow label"),
    (4, 6, "IP payload length"),
    (6, 7, "IP next header"),
    (7, 8, "IP hop limit"),
    (8, 24, "IP source address"),
    (24, 40, "IP destination address"),
];

const TCP: Fields = &[
    (0, 2, "TCP source port"),
    (2, 4, "TCP destination port"),
    (4, 8, "TCP sequence number"),
    (8, 12, "TCP acknowledgement number"),
    (12, 14, "TCP header length and flags"),
    (14, 16, "TCP window"),
    (16, 18, "TCP checksum"),
    (18, 20, "TCP urgent pointer"),
];

const UDP: Fields =
    &[(0, 2, "UDP source port"), (2, 4, "UDP destination port"), (4, 6, "UDP length"), (6, 8, "UDP checksum")];

const ICMP: Fields =
    &[(0, 1, "ICMP type"), (1, 2, "ICMP code"), (2, 4, "ICMP checksum"), (4, 8, "ICMP rest of header")];

/// Bytes as text that does a terminal no harm.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// At most `most` characters of an escaped text.
pub(crate) fn short(text: &str, most: usize) -> String {
    match text.get(..most) {
        Some(beginning) if text.len() > most => format!("{beginning}..."),
        _ => text.to_owned(),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
