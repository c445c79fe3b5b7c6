//! Adds FTP to a tracker and NAT of one's own: `ftp` says what a line means, `seqadj` keeps the numbers right. Both are
//! `no_std` and need no allocator. What is to be called when, and in whose numbers, is the function `process`.

use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::SequenceNumber;
use ftp_conntrack::ftp::{Decision, Endpoints, LineStarts, Sender, decide, read_segment, write};
use ftp_conntrack::packet::{Headers, Layer4, Packet, Side};
use ftp_conntrack::seqadj::Adjustment;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The state that the tracker keeps beside its own entry for each control connection.
struct Control {
    ends: Endpoints,
    line_starts: LineStarts,
    adjustment: Adjustment,
}

/// Takes a segment of a control connection that the tracker knows, has found valid and has translated (the addresses and
/// ports in its headers are those with which it leaves). Its payload and its numbers are still the sender's.
///
/// Returns the data connection that is to be expected: who opens it, to where.
fn process(control: &mut Control, sender: Sender, packet: &mut Packet<'_>) -> Result<Option<(IpAddr, SocketAddr)>> {
    let mut headers = Headers::find(packet.bytes())?;
    let Layer4::Tcp(segment) = headers.layer4 else { return Ok(None) };
    let payload = headers.payload(packet.bytes());
    let next = segment.sequence + payload.len() as u32;
    let ends_line = payload.last() == Some(&b'\n');
    let mut expected = None;

    // 1. Read the line, if one begins here: in the sender's numbers, before any of them is changed.
    if control.line_starts.begins_line(sender, segment.sequence) {
        let reading = read_segment(sender, control.ends.own(sender), payload);
        match decide(reading, sender, &control.ends, false) {
            Decision::Expect(expect) => {
                // 2. Find a port that is free, and register the expectation, before the announcement leaves. This tracker
                //    has always room; where there is none, drop the packet: its sender will repeat it.
                let port = expect.destination.port();
                expected = Some((expect.source, SocketAddr::new(expect.destination.ip(), port)));
                // 3. Replace the text, if the connection is under NAT. Lengths and checksums follow.
                let text = write(expect.announcement.form, expect.announce, port);
                packet.replace_payload(&mut headers, expect.announcement.range(), &text)?;
                // 4. Note by how much the stream grew, at the number that this segment has for its sender.
                let growth = text.len() as i32 - expect.announcement.range().len() as i32;
                if growth != 0 {
                    control.adjustment.register(sender as usize, segment.sequence, growth);
                }
            }
            Decision::Drop(form) => return Err(format!("a part of an announcement ({form}): drop the packet").into()),
            // A foreign address (a bounce, perhaps) or no announcement: the packet goes on, and nothing is expected.
            _ => {}
        }
    }
    // 5. Note where the next line of this side begins: in the sender's numbers, whatever the text became.
    if ends_line {
        control.line_starts.note(sender, next);
    }
    // 6. Last of all, shift the numbers: the sender's own, and what it acknowledges of the other side's.
    let other = sender.other() as usize;
    let returning = |number| control.adjustment.returning(other, number);
    headers.set_sequence(packet.bytes_mut(), control.adjustment.outgoing(sender as usize, segment.sequence));
    headers.set_acknowledgement(packet.bytes_mut(), returning(segment.acknowledgement));
    let sack = headers.map_sack_blocks(packet.bytes_mut(), |left, right| (returning(left), returning(right)));
    sack.map_err(|_| "a broken TCP option: drop the packet")?;
    Ok(expected)
}

fn main() -> Result<()> {
    // A client behind NAT: 192.168.1.10 reaches the server as 198.51.100.107.
    let (client, seen): (SocketAddr, SocketAddr) = ("192.168.1.10:40000".parse()?, "198.51.100.107:40000".parse()?);
    let server: SocketAddr = "203.0.113.5:21".parse()?;
    let ends = Endpoints { client: client.ip(), seen: seen.ip(), dialled: server.ip(), server: server.ip() };
    let mut control = Control { ends, line_starts: LineStarts::default(), adjustment: Adjustment::default() };

    // Segments that arrive: sender, sequence number, acknowledgement number, text.
    let dialogue = [
        (Sender::Server, 500, 100, "220 ready\r\n"),
        (Sender::Client, 100, 511, "USER ftp\r\n"),
        (Sender::Server, 511, 110, "230 in\r\n"),
        (Sender::Client, 110, 519, "PORT 192,168,1,10,200,13\r\n"),
        (Sender::Server, 519, 138, "200 ok\r\n"),
        (Sender::Client, 136, 527, "RETR file\r\n"),
    ];
    for (sender, sequence, acknowledgement, text) in dialogue {
        let mut buffer = [0; 128];
        let (from, to) = if sender == Sender::Client { (client, server) } else { (server, seen) };
        let mut packet = segment(&mut buffer, from, to, (sequence, acknowledgement), text)?;
        // The tracker's own NAT: the client's end, as the other side knows it.
        let headers = Headers::find(packet.bytes())?;
        let (side, end) = if sender == Sender::Client { (Side::Source, seen) } else { (Side::Destination, client) };
        headers.set_endpoint(packet.bytes_mut(), side, end.ip(), end.port());
        let expected = process(&mut control, sender, &mut packet)?;

        let headers = Headers::find(packet.bytes())?;
        let Layer4::Tcp(left) = headers.layer4 else { unreachable!("it was made as TCP") };
        let leaves = std::str::from_utf8(headers.payload(packet.bytes()))?;
        let numbers = (left.sequence.0, left.acknowledgement.0);
        println!("{sender:?} ({sequence}, {acknowledgement}) {text:?} leaves as {numbers:?} {leaves:?}");
        if let Some((source, destination)) = expected {
            println!("    expect {source} > {destination}, and translate it to {}", client.ip());
        }
        assert!(headers.transport_checksum_ok(packet.bytes()));
    }
    Ok(())
}

/// Makes a segment with room for what may be written into it.
fn segment<'b>(
    buffer: &'b mut [u8],
    from: SocketAddr,
    to: SocketAddr,
    numbers: (u32, u32),
    text: &str,
) -> Result<Packet<'b>> {
    buffer[..40].fill(0);
    (buffer[0], buffer[8], buffer[9], buffer[32], buffer[33]) = (0x45, 64, 6, 0x50, 0x18);
    buffer[3] = 40;
    let mut packet = Packet::new(buffer, 0..40)?;
    let mut headers = Headers::find(packet.bytes())?;
    headers.set_endpoint(packet.bytes_mut(), Side::Source, from.ip(), from.port());
    headers.set_endpoint(packet.bytes_mut(), Side::Destination, to.ip(), to.port());
    headers.set_sequence(packet.bytes_mut(), SequenceNumber(numbers.0));
    headers.set_acknowledgement(packet.bytes_mut(), SequenceNumber(numbers.1));
    packet.replace_payload(&mut headers, 0..0, text.as_bytes())?; // sets lengths and checksums, too
    Ok(packet)
}
