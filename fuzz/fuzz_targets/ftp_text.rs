//! Arbitrary lines: nothing panics, ranges lie within the line, and what was read reads the same when written again.
//!
//! The first byte chooses the sender's own address; the rest is the line.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ftp_conntrack::ftp::{
    Announcement, Command, Decision, Endpoints, ExtendedHostPort, Form, HostPort, LongHostPort, MAX_TEXT, Reading,
    Reply, Sender, decide, read_segment, write,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, line)) = data.split_first() else { return };
    let own: IpAddr = match choice {
        0..128 => Ipv4Addr::new(10, 77, 1, *choice).into(),
        _ => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(*choice)).into(),
    };
    as_linux(own, line);
    as_the_rfcs(line);
});

fn as_linux(own: IpAddr, line: &[u8]) {
    let seen = IpAddr::from([203, 0, 113, 1]);
    for sender in [Sender::Client, Sender::Server] {
        let ends = Endpoints { client: own, dialled: seen, server: own, seen };
        let reading = read_segment(sender, own, line);
        for loose in [false, true] {
            if let Decision::Expect(expect) = decide(reading, sender, &ends, loose) {
                assert!(loose || expect.announcement.address == own);
            }
        }
        if let Reading::Announcement(found) = reading {
            assert_eq!(found.form.sender(), sender);
            assert!(line.get(found.range()).is_some_and(|text| !text.is_empty()), "{found:?}");
            reads_again(own, sender, line, found);
        }
    }
}

/// NAT's text in place of an announcement is read as that announcement.
fn reads_again(own: IpAddr, sender: Sender, line: &[u8], found: Announcement) {
    let text = write(found.form, found.address, found.port);
    assert!(text.as_bytes().len() <= MAX_TEXT && text.as_bytes().is_ascii());
    // A digit or a comma right behind the text, or a reply that has none of its own in front, would make it another.
    let (before, behind) = match found.form {
        Form::Port => (&b"PORT "[..], &b"\r\n"[..]),
        Form::Eprt => (&b"EPRT "[..], &b"\r\n"[..]),
        Form::Pasv => (&b"227 ("[..], &b")\r\n"[..]),
        _ => (&b"229 ("[..], &b")\r\n"[..]),
    };
    let written = [before, text.as_bytes(), behind].concat();
    let Reading::Announcement(again) = read_segment(sender, own, &written) else {
        // Port 0 is announced by PORT and 227 only.
        panic!("{:?} was written for {:?}", written.escape_ascii().to_string(), line.escape_ascii().to_string());
    };
    assert_eq!((again.form, again.address, again.port), (found.form, found.address, found.port));
    assert_eq!(&written[again.range()], text.as_bytes());
}

fn as_the_rfcs(line: &[u8]) {
    let command = Command::parse(line);
    let argument = Command::argument_range(line);
    assert_eq!(command.is_some(), argument.is_some());
    assert!(argument.is_none_or(|range| line.get(range).is_some()));
    match command {
        Some(Command::Port(Ok(there))) => assert_eq!(HostPort::parse(there.to_string().as_bytes()), Ok(there)),
        Some(Command::Eprt(Ok(there))) => assert_eq!(ExtendedHostPort::parse(there.to_string().as_bytes()), Ok(there)),
        Some(Command::Lprt(Ok(there))) => assert_eq!(LongHostPort::parse(there.to_string().as_bytes()), Ok(there)),
        _ => {}
    }
    if let Some(reply) = Reply::parse(line) {
        assert!((100..=699).contains(&reply.code));
        if let Some(there) = reply.endpoint() {
            assert!(line.get(there.range()).is_some_and(|text| !text.is_empty()), "{there:?}");
        }
    }
}
