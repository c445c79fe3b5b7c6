//! Properties of every address, every port and every line.

extern crate std;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn address() -> impl Strategy<Value = IpAddr> {
    // Zeros are what shortens IPv6 addresses, so they must be frequent.
    let group = prop_oneof![Just(0_u16), Just(0xffff), any::<u16>()];
    prop_oneof![
        any::<[u8; 4]>().prop_map(|o| Ipv4Addr::from(o).into()),
        proptest::array::uniform8(group).prop_map(|g| Ipv6Addr::from(g).into()),
    ]
}

const WORDS: [&str; 23] = [
    "PORT ", "EPRT ", "LPRT ", "EPSV ", "227 ", "228 ", "229 ", "229 (", "|1|", "|2|", "|||", "10,0,0,1", ",4,1",
    "4,4,", "6,16,", "::", "fd77:", "10.0.0.1", "|1025|", "\r\n", "\n", " ", "65536",
];

/// Bytes that come close to a line of FTP.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(&WORDS[..]);
    let part = prop_oneof![
        4 => word.prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..3),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn announced(form: Form, own: IpAddr, before: &str, text: &[u8], behind: &str) -> Announcement {
    let payload = [before.as_bytes(), text, behind.as_bytes()].concat();
    let Reading::Announcement(found) = read_segment(form.sender(), own, &payload) else {
        panic!("not read: {:?}", std::string::String::from_utf8_lossy(&payload))
    };
    assert_eq!(&payload[found.range()], text);
    found
}

proptest! {
    #[test]
    fn linux_reads_what_is_written(address in address(), port in 1_u16..) {
        for (form, before, behind) in [
            (Form::Port, "PORT ", "\r\n"),
            (Form::Eprt, "EPRT ", "\r\n"),
            (Form::Pasv, "227 Entering Passive Mode (", ").\r\n"),
            (Form::Epsv, "229 Entering Extended Passive Mode (", ")\r\n"),
        ] {
            let text = write(form, address, port);
            let found = announced(form, address, before, &text, behind);
            prop_assert_eq!((found.form, found.address, found.port), (form, address, port));
        }
    }

    #[test]
    fn linux_reads_every_usual_address(address in address(), port in 1_u16..) {
        let text = ExtendedHostPort { delimiter: Delimiter::default(), address, port }.to_string();
        let found = announced(Form::Eprt, address, "EPRT ", text.as_bytes(), "\r\n");
        prop_assert_eq!((found.address, found.port), (address, port));
    }

    #[test]
    fn the_written_text_is_that_of_the_rfcs(address in address(), port: u16) {
        let extended = ExtendedHostPort { delimiter: Delimiter::default(), address, port };
        prop_assert_eq!(ExtendedHostPort::parse(&write(Form::Eprt, address, port)), Ok(extended));
        if let IpAddr::V4(address) = address {
            let there = HostPort { address, port };
            prop_assert_eq!(write(Form::Port, address.into(), port).to_string(), there.to_string());
        }
    }

    #[test]
    fn what_is_formatted_is_parsed(address in address(), port: u16, delimiter in 33_u8..=126) {
        let there = LongHostPort { address, port };
        prop_assert_eq!(LongHostPort::parse(there.to_string().as_bytes()), Ok(there));
        let delimiter = Delimiter::new(delimiter).unwrap();
        let there = ExtendedHostPort { delimiter, address, port };
        let clashes = delimiter.byte().is_ascii_hexdigit() || b".:".contains(&delimiter.byte());
        if !clashes {
            prop_assert_eq!(ExtendedHostPort::parse(there.to_string().as_bytes()), Ok(there));
        }
    }

    #[test]
    fn whatever_parses_says_the_same_again(text in line()) {
        if let Ok(there) = HostPort::parse(&text) {
            prop_assert_eq!(HostPort::parse(there.to_string().as_bytes()), Ok(there));
        }
        if let Ok(there) = ExtendedHostPort::parse(&text) {
            prop_assert_eq!(ExtendedHostPort::parse(there.to_string().as_bytes()), Ok(there));
        }
        if let Ok(there) = LongHostPort::parse(&text) {
            prop_assert_eq!(LongHostPort::parse(there.to_string().as_bytes()), Ok(there));
        }
    }

    #[test]
    fn ranges_lie_within_the_line(line in line(), own in address()) {
        for sender in [Sender::Client, Sender::Server] {
            if let Reading::Announcement(found) = read_segment(sender, own, &line) {
                prop_assert!(line.get(found.range()).is_some_and(|text| !text.is_empty()));
            }
        }
        let range = Command::argument_range(&line);
        prop_assert_eq!(range.is_some(), Command::parse(&line).is_some());
        prop_assert!(range.is_none_or(|range| line.get(range).is_some()));
        if let Some(there) = Reply::parse(&line).and_then(|reply| reply.endpoint()) {
            prop_assert!(line.get(there.range()).is_some_and(|text| !text.is_empty()));
        }
    }
}
