//! The layers that need no memory: `ftp`, `packet`, `seqadj`.

use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};

use ftp_conntrack::SequenceNumber;
use ftp_conntrack::ftp::{Command, Decision, Endpoints, Sender, decide, read_segment, write};
use ftp_conntrack::packet::{Headers, Layer4, Packet, Side};
use ftp_conntrack::seqadj::Shift;

use crate::ensure;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 2));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));

/// 10.77.1.2:40000 > 198.51.100.9:21, "PORT 10,77,1,2,4,1", checksums right.
const PORT: [u8; 60] = *b"\x45\0\0\x3c\0\x01\x40\0\x40\x06\x05\x30\x0a\x4d\x01\x02\xc6\x33\x64\x09\
    \x9c\x40\0\x15\0\0\0\x07\0\0\0\x09\x50\x18\xff\xff\0\0\0\0PORT 10,77,1,2,4,1\r\n";

/// One announcement, from packet to packet.
pub fn check() -> Result<(), u8> {
    let mut buffer = [0; PORT.len() + Packet::ROOM];
    buffer[..PORT.len()].copy_from_slice(black_box(&PORT));
    let mut packet = Packet::new(&mut buffer, 0..PORT.len()).map_err(|_| 1)?;
    let mut headers = Headers::find(packet.bytes()).map_err(|_| 2)?;
    ensure(headers.header_checksum_ok(packet.bytes()), 3)?;
    let Layer4::Tcp(segment) = headers.layer4 else { return Err(4) };

    let ends = Endpoints { client: CLIENT, dialled: SERVER, server: SERVER, seen: OUTSIDE };
    let payload = headers.payload(packet.bytes());
    ensure(matches!(Command::parse(payload), Some(Command::Port(Ok(there))) if there.port == 1025), 5)?;
    let reading = read_segment(Sender::Client, ends.own(Sender::Client), payload);
    let Decision::Expect(expect) = decide(reading, Sender::Client, &ends, false) else { return Err(6) };
    ensure(expect.source == SERVER && expect.destination.ip() == OUTSIDE, 7)?;

    let text = write(expect.announcement.form, expect.announce, expect.destination.port());
    headers.set_endpoint(packet.bytes_mut(), Side::Source, OUTSIDE, 40_001);
    packet.replace_payload(&mut headers, expect.announcement.range(), text.as_bytes()).map_err(|_| 8)?;
    ensure(headers.payload(packet.bytes()) == b"PORT 203,0,113,1,4,1\r\n", 9)?;
    ensure(headers.header_checksum_ok(packet.bytes()) && headers.transport_checksum_ok(packet.bytes()), 10)?;

    let mut shift = Shift::default();
    shift.register(black_box(segment.sequence), 2);
    ensure(shift.outgoing(SequenceNumber(27)) == SequenceNumber(29), 11)?;
    ensure(shift.returning(SequenceNumber(29)) == SequenceNumber(27), 12)
}
