use super::*;
use crate::ftp::{LineReading, ReplyLines, Sender, read_line};
use crate::packet::{Headers, Layer4, Packet, Side, TcpFlags, TcpOptions};
use std::string::{String, ToString};
use std::vec;

const OUTSIDE: &str = "203.0.113.1";

fn masquerade() -> Masquerade {
    Masquerade::new(vec![Cidr::new([10, 0, 0, 0].into(), 8).unwrap()], OUTSIDE.parse().unwrap())
}

fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}

/// A TCP segment with right checksums; `options` in words of four bytes.
struct Tcp<'a> {
    from: &'a str,
    to: &'a str,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    urgent: u16,
    options: &'a [u8],
    text: &'a [u8],
}

const CLIENT: &str = "10.0.0.5:40000";
const SERVER: &str = "198.51.100.9:21";
const SAYS: Tcp<'_> = Tcp {
    from: CLIENT,
    to: SERVER,
    flags: TcpFlags::PSH | TcpFlags::ACK,
    sequence: 1000,
    acknowledgement: 9000,
    urgent: 0,
    options: &[],
    text: b"",
};

impl Tcp<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (from, to) = (at(self.from), at(self.to));
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { panic!() };
        let len = 40 + self.options.len() + self.text.len();
        let mut bytes = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 1, 0x40, 0, 64, 6, 0, 0];
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([((20 + self.options.len()) << 2) as u8, self.flags, 0xff, 0xff, 0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(self.options);
        bytes.extend(self.text);
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_header_checksum(&mut bytes);
        headers.fill_transport_checksum(&mut bytes);
        bytes
    }
}

/// Translates; what leaves must have right checksums.
fn translated(masquerade: &mut Masquerade, frame: u64, bytes: &[u8]) -> (Outcome, Vec<u8>) {
    let (outcome, bytes) = any_translated(masquerade, frame, bytes);
    let headers = Headers::find(&bytes).unwrap();
    assert!(headers.header_checksum_ok(&bytes) && headers.transport_checksum_ok(&bytes), "{bytes:02x?}");
    (outcome, bytes)
}

fn any_translated(masquerade: &mut Masquerade, frame: u64, bytes: &[u8]) -> (Outcome, Vec<u8>) {
    let mut buffer = [bytes, &[0; Packet::ROOM * 4]].concat();
    let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
    let outcome = masquerade.translate(frame, &mut packet);
    (outcome, packet.bytes().to_vec())
}

/// "from > to sequence acknowledgement text" of what leaves.
fn leaves(masquerade: &mut Masquerade, frame: u64, segment: &Tcp<'_>) -> String {
    let (_, bytes) = translated(masquerade, frame, &segment.bytes());
    let headers = Headers::find(&bytes).unwrap();
    let Layer4::Tcp(tcp) = headers.layer4 else { panic!() };
    let (source, destination) = headers.ports(&bytes).unwrap();
    let text = headers.payload(&bytes).escape_ascii();
    std::format!(
        "{}:{source} > {}:{destination} {} {} {text}",
        headers.source(&bytes),
        headers.destination(&bytes),
        tcp.sequence,
        tcp.acknowledgement
    )
}

fn announce(masquerade: &mut Masquerade, frame: u64, from: &str, to: &str, start: u32, text: &[u8]) -> Option<String> {
    let sender = if text.first().is_some_and(u8::is_ascii_digit) { Sender::Server } else { Sender::Client };
    let from = at(from);
    let reading = read_line(sender, from.ip(), text, &mut ReplyLines::default());
    let LineReading::Announcement(announcement) = reading else { panic!("{reading:?}") };
    let line = Line { frame, from, to: at(to), start: SequenceNumber(start), text };
    masquerade.announce(&line, &announcement).map(|rewriting| rewriting.text.to_string())
}

const PORT: &[u8] = b"PORT 10,0,0,5,4,210\r\n";

#[test]
fn a_port_command_and_what_follows_it() {
    let mut m = masquerade();
    assert_eq!(announce(&mut m, 3, CLIENT, SERVER, 1000, PORT).as_deref(), Some("203,0,113,1,4,210"));
    assert_eq!(announce(&mut m, 9, CLIENT, SERVER, 1000, PORT), None, "the same once more");
    let says = |sequence, text| Tcp { sequence, text, ..SAYS };
    let answers =
        |acknowledgement, text| Tcp { from: SERVER, to: CLIENT, sequence: 9000, acknowledgement, text, ..SAYS };
    for (segment, expected) in [
        (says(990, b"PASS x@y\r\n"), "203.0.113.1:40000 > 198.51.100.9:21 990 9000 PASS x@y\\r\\n"),
        (says(1000, PORT), "203.0.113.1:40000 > 198.51.100.9:21 1000 9000 PORT 203,0,113,1,4,210\\r\\n"),
        (answers(1021, b"200 ok\r\n"), "198.51.100.9:21 > 203.0.113.1:40000 9000 1024 200 ok\\r\\n"),
        (says(1021, b"LIST\r\n"), "203.0.113.1:40000 > 198.51.100.9:21 1024 9000 LIST\\r\\n"),
        (says(1000, PORT), "203.0.113.1:40000 > 198.51.100.9:21 1000 9000 PORT 203,0,113,1,4,210\\r\\n"),
        (answers(1010, b""), "198.51.100.9:21 > 203.0.113.1:40000 9000 1005 "),
        (says(1000, b"PORT 10,0,0"), "203.0.113.1:40000 > 198.51.100.9:21 1000 9000 PORT "),
        (says(1011, b",5,4,2"), "203.0.113.1:40000 > 198.51.100.9:21 1005 9000 "),
        (says(1017, b"10\r\nLI"), "203.0.113.1:40000 > 198.51.100.9:21 1005 9000 203,0,113,1,4,210\\r\\nLI"),
    ] {
        assert_eq!(leaves(&mut m, 20, &segment), expected);
    }
}

#[test]
fn two_commands_in_one_segment() {
    let mut m = masquerade();
    announce(&mut m, 1, CLIENT, SERVER, 1000, PORT);
    announce(&mut m, 1, CLIENT, SERVER, 1021, b"EPRT !1!10.0.0.5!1235!\n");
    let both = [PORT, b"EPRT !1!10.0.0.5!1235!\n"].concat();
    let expected =
        "203.0.113.1:40000 > 198.51.100.9:21 1000 9000 PORT 203,0,113,1,4,210\\r\\nEPRT !1!203.0.113.1!1235!\\n";
    assert_eq!(leaves(&mut m, 1, &Tcp { text: &both, ..SAYS }), expected);
}

#[test]
fn what_is_announced_and_left_alone() {
    let mut m = masquerade();
    for text in [&b"PORT 192,0,2,7,4,210\r\n"[..], b"PORT 10,0,0,5,0,0\r\n", b"PORT 0,0,0,0,4,1\r\n"] {
        assert_eq!(announce(&mut m, 1, CLIENT, SERVER, 1, text), None, "{}", text.escape_ascii());
    }
    let (server, client) = ("10.0.0.9:21", "198.51.100.7:5000");
    assert_eq!(announce(&mut m, 1, server, client, 1, b"229 ok (|||4000|)\r\n"), None);
    assert_eq!(announce(&mut m, 1, "198.51.100.9:21", CLIENT, 1, b"227 (10,0,0,1,4,1)\r\n"), None, "a remote speaker");
    let replaced = [
        (&b"227 (0,0,0,0,4,1)\r\n"[..], "203,0,113,1,4,1"),
        (b"227 (10,0,0,77,4,9)\r\n", "203,0,113,1,4,9"),
        (b"228 (4,4,10,0,0,9,2,4,1)\r\n", "4,4,203,0,113,1,2,4,1"),
        (b"229 (|1|10.0.0.9|4001|)\r\n", "|1|203.0.113.1|4001|"),
    ];
    for (i, (text, expected)) in replaced.into_iter().enumerate() {
        let start = 1000 * (i as u32 + 1);
        assert_eq!(announce(&mut m, 1, server, client, start, text).as_deref(), Some(expected));
    }
}

#[test]
fn colliding_ports_are_announced_and_met_elsewhere() {
    let mut m = masquerade();
    announce(&mut m, 1, CLIENT, SERVER, 1000, PORT);
    let other = announce(&mut m, 2, "10.0.0.6:40000", SERVER, 1000, b"PORT 10,0,0,6,4,210\r\n");
    assert_eq!(other.as_deref(), Some("203,0,113,1,4,211"));
    let opens = |to| Tcp { from: "198.51.100.9:20", to, flags: TcpFlags::SYN, ..SAYS };
    assert_eq!(leaves(&mut m, 3, &opens("10.0.0.6:1234")), "198.51.100.9:20 > 203.0.113.1:1235 1000 9000 ");
    assert_eq!(leaves(&mut m, 3, &opens("10.0.0.5:1234")), "198.51.100.9:20 > 203.0.113.1:1234 1000 9000 ");
}

#[test]
fn sack_and_urgent_pointer_move_with_the_text() {
    let mut m = masquerade();
    announce(&mut m, 1, CLIENT, SERVER, 1000, PORT);
    // No-operation once, so that the edges stand at an odd place: the checksum must be right all the same.
    let mut options = vec![1, 5, 10];
    options.extend([1021u32, 1027].map(u32::to_be_bytes).concat());
    options.push(1);
    let answer = Tcp { from: SERVER, to: CLIENT, acknowledgement: 1000, options: &options, ..SAYS };
    let (_, bytes) = translated(&mut m, 2, &answer.bytes());
    let headers = Headers::find(&bytes).unwrap();
    let edges: Vec<u8> = headers.tcp_options(&bytes).iter().flat_map(|option| option.unwrap().2.to_vec()).collect();
    assert_eq!(edges, [1024u32, 1030].map(u32::to_be_bytes).concat());
    assert_eq!(TcpOptions::SACK, 5);

    let flags = TcpFlags::PSH | TcpFlags::ACK | TcpFlags::URG;
    let text = [PORT, b"ABOR\r\n"].concat();
    let (_, bytes) = translated(&mut m, 2, &Tcp { text: &text, urgent: 22, flags, ..SAYS }.bytes());
    assert_eq!(bytes[38..40], [0, 25]);
}

#[test]
fn an_error_and_the_packet_that_it_quotes() {
    let mut m = masquerade();
    announce(&mut m, 1, CLIENT, SERVER, 1000, PORT);
    let quoted = Tcp { sequence: 1021, text: b"LIST\r\n", ..SAYS }.bytes();
    for shown in [28, 40] {
        // 192.0.2.1 > 10.0.0.5, destination unreachable
        let len = 28 + shown;
        let mut bytes = vec![0x45, 0, 0, len as u8, 0, 1, 0, 0, 60, 1, 0, 0, 192, 0, 2, 1, 10, 0, 0, 5];
        bytes.extend([3, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(&quoted[..shown]);
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_header_checksum(&mut bytes);
        headers.fill_transport_checksum(&mut bytes);
        let (outcome, bytes) = translated(&mut m, 2, &bytes);
        assert!(matches!(outcome, Outcome::Translated { side: Side::Destination, .. }), "{outcome:?}");
        assert_eq!(bytes[16..20], [203, 0, 113, 1], "to whom");
        assert_eq!(bytes[40..44], [203, 0, 113, 1], "whose packet");
        assert_eq!(bytes[52..56], 1024u32.to_be_bytes(), "which byte of it");
    }
}

#[test]
fn what_is_not_the_routers_stays() {
    let mut m = masquerade();
    for (from, to, why) in [
        ("10.0.0.5:1", "10.0.0.6:2", Untouched::BothNear),
        ("192.0.2.1:1", "198.51.100.9:2", Untouched::NeitherNear),
        ("10.0.0.5:1", "224.0.0.251:2", Untouched::Multicast),
    ] {
        let bytes = Tcp { from, to, ..SAYS }.bytes();
        assert_eq!(translated(&mut m, 1, &bytes), (Outcome::Untouched(why), bytes));
    }
    let ipv6 = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0xfd; 32]].concat();
    assert_eq!(any_translated(&mut m, 1, &ipv6), (Outcome::Untouched(Untouched::OtherFamily), ipv6));
    assert_eq!(any_translated(&mut m, 1, &[]), (Outcome::Untouched(Untouched::Unreadable), vec![]));
}

#[test]
fn what_comes_unasked_is_told_once() {
    let mut m = masquerade();
    let comes = Tcp { from: "198.51.100.9:20", to: CLIENT, flags: TcpFlags::SYN, ..SAYS }.bytes();
    let known = |known| Outcome::Translated { known, side: Side::Destination, rewritten: 0 };
    assert_eq!(translated(&mut m, 1, &comes).0, known(Known::First));
    assert_eq!(translated(&mut m, 2, &comes).0, known(Known::Seen));
}

#[test]
fn a_packet_in_part_keeps_its_text() {
    let mut m = masquerade();
    announce(&mut m, 1, CLIENT, SERVER, 1000, PORT);
    let whole = Tcp { text: PORT, ..SAYS }.bytes();
    let (outcome, bytes) = any_translated(&mut m, 2, &whole[..52]);
    assert_eq!((outcome, bytes[40..52].escape_ascii().to_string().as_str()), (Outcome::NotRewritten, "PORT 10,0,0,"));
    assert_eq!(bytes[12..16], [203, 0, 113, 1]);
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut m = masquerade();
    let mut bytes = Tcp { text: b"NOOP\r\n", ..SAYS }.bytes();
    bytes[36] ^= 0x55;
    let (_, bytes) = any_translated(&mut m, 1, &bytes);
    assert!(!Headers::find(&bytes).unwrap().transport_checksum_ok(&bytes));
}

#[test]
fn back_again() {
    let mut there = masquerade();
    let mut back = Masquerade::back(OUTSIDE.parse().unwrap(), [10, 0, 0, 5].into());
    announce(&mut there, 1, CLIENT, SERVER, 1000, PORT);
    let outside = "203.0.113.1:40000";
    let announced = announce(&mut back, 1, outside, SERVER, 1000, b"PORT 203,0,113,1,4,210\r\n");
    assert_eq!(announced.as_deref(), Some("10,0,0,5,4,210"));
    let both = [
        Tcp { text: PORT, ..SAYS },
        Tcp { sequence: 1021, text: b"LIST\r\n", ..SAYS },
        Tcp { from: SERVER, to: CLIENT, sequence: 9000, acknowledgement: 1021, text: b"200 ok\r\n", ..SAYS },
        Tcp { from: "198.51.100.9:20", to: "10.0.0.5:1234", flags: TcpFlags::SYN, ..SAYS },
    ];
    for segment in both {
        let near = segment.bytes();
        let (_, far) = translated(&mut there, 2, &near);
        assert_ne!(far, near);
        assert_eq!(translated(&mut back, 2, &far).1, near);
    }
}

#[test]
fn ipv6_addresses_are_spelled_as_router_and_host_spell_them() {
    let (inside, outside) = ("[fd77:1::2]:40000", "[2001:db8:9::9]:21");
    let nat = "2001:db8:1::1".parse().unwrap();
    let near = vec![Cidr::new("fd77:1::".parse().unwrap(), 64).unwrap()];
    let full = b"EPRT |2|2001:0db8:0001:0000:0000:0000:0000:0001|1234|\r\n";
    let mut there = Masquerade::new(near, nat);
    let says = b"EPRT |2|fd77:1::2|1234|\r\n";
    let rewritten = announce(&mut there, 1, inside, outside, 1, says).unwrap();
    assert_eq!(rewritten.as_bytes(), &full[5..full.len() - 2]);
    let mut back = Masquerade::back(nat, "fd77:1::2".parse().unwrap());
    let rewritten = announce(&mut back, 1, "[2001:db8:1::1]:40000", outside, 1, full).unwrap();
    assert_eq!(rewritten, "|2|fd77:1::2|1234|");

    // A client outside, whose words the router has spelled out for the server inside.
    let (client, server) = ("[2001:db8:9::9]:5000", "[fd77:1::2]:21");
    let (short, long) = ("|2|2001:db8:9::9|1234|", "|2|2001:0db8:0009:0000:0000:0000:0000:0009|1234|");
    let line = |text: &str| std::format!("EPRT {text}\r\n").into_bytes();
    assert_eq!(announce(&mut there, 1, client, server, 1, &line(long)).as_deref(), Some(short));
    assert_eq!(announce(&mut there, 1, client, server, 100, &line(short)), None);
    let known = "[2001:db8:1::1]:21";
    assert_eq!(announce(&mut back, 1, client, known, 1, &line(short)).as_deref(), Some(long));
}
