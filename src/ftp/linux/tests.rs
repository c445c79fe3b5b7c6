extern crate std;

use super::*;
use core::net::SocketAddr;

const OWN4: &str = "10.0.0.1";
const OWN6: &str = "2001:db8::1";

fn read(sender: Sender, own: &str, payload: &str) -> Reading {
    read_segment(sender, own.parse().unwrap(), payload.as_bytes())
}

/// `payload` announces `endpoint` in the text at `start..start + length`.
fn found(sender: Sender, own: &str, payload: &str, endpoint: &str, start: usize, length: usize) {
    let Reading::Announcement(a) = read(sender, own, payload) else { panic!("not read: {payload:?}") };
    assert_eq!(SocketAddr::new(a.address, a.port), endpoint.parse().unwrap(), "{payload:?}");
    assert_eq!(a.range(), start..start + length, "{payload:?}");
    assert_eq!(a.form.sender(), sender);
}

fn client(payload: &str, endpoint: &str, start: usize, length: usize) {
    found(Sender::Client, OWN4, payload, endpoint, start, length);
}

fn client6(payload: &str, endpoint: &str, start: usize, length: usize) {
    found(Sender::Client, OWN6, payload, endpoint, start, length);
}

fn server(payload: &str, endpoint: &str, start: usize, length: usize) {
    found(Sender::Server, OWN4, payload, endpoint, start, length);
}

fn partial(form: Form, own: &str, payloads: &[&str]) {
    for payload in payloads {
        assert_eq!(read(form.sender(), own, payload), Reading::Partial(form), "{payload:?}");
    }
}

fn nothing(sender: Sender, payloads: &[&str]) {
    for payload in payloads {
        assert_eq!(read(sender, OWN4, payload), Reading::Nothing, "{payload:?}");
    }
}

#[test]
fn port() {
    client("PORT 10,0,0,1,4,1\r\n", "10.0.0.1:1025", 5, 12);
    client("port 10,0,0,1,4,1\r\n", "10.0.0.1:1025", 5, 12);
    client("PoRt 10,0,0,1,4,1\r", "10.0.0.1:1025", 5, 12);
    client("PORT 10,0,0,1,4,1\r\nLIST\r\n", "10.0.0.1:1025", 5, 12);
    client("PORT 10,0,0,2,255,255\r\n", "10.0.0.2:65535", 5, 16);
}

#[test]
fn port_numbers_have_no_range() {
    client("PORT 10,0,0,1,0,0\r\n", "10.0.0.1:0", 5, 12);
    client("PORT 010,000,000,001,004,001\r\n", "10.0.0.1:1025", 5, 23);
    client("PORT 10,0,0,1,256,22\r\n", "10.0.0.1:22", 5, 15);
    client("PORT 9,256,0,1,4,1\r\n", "9.0.0.1:1025", 5, 13);
    client("PORT 10,0,0,1,,1\r\n", "10.0.0.1:1", 5, 11);
    client("PORT ,,,,,\r\n", "0.0.0.0:0", 5, 5);
    client("PORT 10,0,0,1,1,257\r\n", "10.0.0.1:257", 5, 14);
    client("PORT 4294967306,0,0,1,4,1\r\n", "10.0.0.1:1025", 5, 20);
}

#[test]
fn port_begins_behind_the_first_blank_wherever_that_is() {
    client("PORTX 10,0,0,1,4,1\r\n", "10.0.0.1:1025", 6, 12);
    client("PORTFOLIO\r\nX 10,0,0,1,4,1\r\n", "10.0.0.1:1025", 13, 12);
}

#[test]
fn port_malformed() {
    partial(
        Form::Port,
        OWN4,
        &[
            "PORT 10,0,0,1,4,1\n",
            "PORT 10,0,0,1,4,1",
            "PORT  10,0,0,1,4,1\r\n",
            "PORT 10,0,0,1,4,1 \r\n",
            "PORT 10,0,0,1,4,1,7\r\n",
            "PORT 10,0,0,1,4\r\n",
            "PORT 10.0.0.1,4,1\r\n",
            "PORT\t10,0,0,1,4,1\r\n",
            "PORT +10,0,0,1,4,1\r\n",
            "PORT a\r\n",
            "PORT \r\n",
            "PORT ",
            "PORT\r\n",
            "P",
            "p",
            "PO",
            "POR",
            "PORT",
        ],
    );
}

#[test]
fn eprt() {
    client("EPRT |1|10.0.0.1|1025|\r\n", "10.0.0.1:1025", 5, 17);
    client("eprt !1!10.0.0.1!1025!\r\n", "10.0.0.1:1025", 5, 17);
    client("EPRT x1x10.0.0.1x1025x\r\n", "10.0.0.1:1025", 5, 17);
    client("EPRT |1|10.0.0.1|1025|", "10.0.0.1:1025", 5, 17);
    client("EPRT |1|10.0.0.1|1025|junk", "10.0.0.1:1025", 5, 17);
    client("EPRT |1|10.0.0.1|1025|1025|\r\n", "10.0.0.1:1025", 5, 17);
}

#[test]
fn eprt_numbers_have_no_range() {
    client("EPRT |1|10.0.0.1|65557|\r\n", "10.0.0.1:21", 5, 18);
    client("EPRT |1|10.0.0.|1025|\r\n", "10.0.0.0:1025", 5, 16);
    client("EPRT |1|...|1025|\r\n", "0.0.0.0:1025", 5, 12);
    client("EPRT |1|010.000.000.001|1025|\r\n", "10.0.0.1:1025", 5, 24);
    client("EPRT |1|9.256.0.1|1025|\r\n", "9.0.0.1:1025", 5, 18);
}

#[test]
fn eprt_malformed() {
    partial(
        Form::Eprt,
        OWN4,
        &[
            "EPRT |1|10.0.0.1|1025\r\n",
            "EPRT |1|10.0.0.1|0|\r\n",
            "EPRT |1|10.0.0.1||\r\n",
            "EPRT |1|10.0.0.1|65536|\r\n",
            "EPRT |2|2001:db8::1|1025|\r\n",
            "EPRT |2|10.0.0.1|1025|\r\n",
            "EPRT .1.10.0.0.1.1025.\r\n",
            "EPRT  |1|10.0.0.1|1025|\r\n",
            "EPRT |3|10.0.0.1|1025|\r\n",
            "EPRT ||10.0.0.1|1025|\r\n",
            "EPRT 1|10.0.0.1|1025|\r\n",
            "EPRT 11110.0.0.11102511\r\n",
            "EPRT |1!10.0.0.1!1025!\r\n",
            "EPRT |1!10.0.0.1|1025|\r\n",
            "EPRT |1|1.2.3|1025|\r\n",
            "EPRT |1|10.0.0.1:1025|\r\n",
            "EPRT |1|10.0.0.1|10x25|\r\n",
            "EPRT |1|",
            "EPRT |1",
            "EPRT |",
            "EPRT ",
            "EPRT\r\n",
            "E",
            "EP",
            "EPRT",
        ],
    );
}

#[test]
fn eprt_ipv6() {
    client6("EPRT |2|2001:db8::1|1025|\r\n", "[2001:db8::1]:1025", 5, 20);
    client6("EPRT |2|2001:0db8:0000:0000:0000:0000:0000:0001|1025|\r\n", "[2001:db8::1]:1025", 5, 48);
    client6("EPRT |2|::ffff:1.2.3.4|1025|\r\n", "[::ffff:1.2.3.4]:1025", 5, 23);
    client6("EPRT |2|::|1025|\r\n", "[::]:1025", 5, 11);
    client6("EPRT |2|2001:DB8::1|65557|\r\n", "[2001:db8::1]:21", 5, 21);
}

#[test]
fn eprt_ipv6_delimiters_that_also_occur_in_addresses() {
    client6("EPRT a2a2001::1a1025a\r\n", "[2001::1]:1025", 5, 16);
    client6("EPRT A2A2001::a1A1025A\r\n", "[2001::a1]:1025", 5, 17);
    client6("EPRT .2.2001::1.1025.\r\n", "[2001::1]:1025", 5, 16);
    client6("EPRT |2|2001::1\x001025|\r\n", "[2001::1]:1025", 5, 16);
}

#[test]
fn eprt_ipv6_malformed() {
    partial(
        Form::Eprt,
        OWN6,
        &[
            "EPRT |1|10.0.0.1|1025|\r\n",
            "EPRT |2|2001:db8::1%eth0|1025|\r\n",
            "EPRT |2|2001:db8::1|0|\r\n",
            "EPRT |2||1025|\r\n",
            "EPRT |2|2001:db8::1\r\n",
            "EPRT |2|2001:db8::1",
            "EPRT |2|2001:db8::1\0|1025|\r\n",
            "EPRT :2:2001:db8::1:1025:\r\n",
            "EPRT d2d2001:db8::1d1025d\r\n",
            "EPRT |2|10.0.0.1|1025|\r\n",
        ],
    );
}

#[test]
fn six_numbers_on_ipv6_replace_the_start_of_the_own_address() {
    client6("PORT 10,0,0,1,4,1\r\n", "[a00:1::1]:1025", 5, 12);
    client6("PORT 32,1,13,184,4,1\r\n", "[2001:db8::1]:1025", 5, 15);
    found(Sender::Server, OWN6, "227 (1,2,3,4,5,6).\r\n", "[102:304::1]:1286", 5, 11);
}

#[test]
fn pasv() {
    server("227 Entering Passive Mode (10,0,0,1,4,1).\r\n", "10.0.0.1:1025", 27, 12);
    server("227 Entering Passive Mode 10,0,0,1,4,1\r\n", "10.0.0.1:1025", 26, 12);
    server("227 =10,0,0,1,4,1\r\n", "10.0.0.1:1025", 5, 12);
    server("227 10,0,0,1,4,1\n", "10.0.0.1:1025", 4, 12);
    server("227 Entering Passive Mode (10,0,0,1,4,1)", "10.0.0.1:1025", 27, 12);
    server("227 (10,0,0,1,4,1x", "10.0.0.1:1025", 5, 12);
    server("227 (300,1,1,1,1,1)\r\n", "44.1.1.1:257", 5, 13);
    server("227 \r\n(10,0,0,1,4,1)", "10.0.0.1:1025", 7, 12);
}

#[test]
fn pasv_malformed() {
    partial(
        Form::Pasv,
        OWN4,
        &[
            "227 Entering Passive Mode (10,0,0,1,4,1",
            "227 OK\r\n",
            "227 Mode 2 (10,0,0,1,4,1)\r\n",
            "227 (10,0,0,1,4,1,7)\r\n",
            "227 (10, 0,0,1,4,1)\r\n",
            "227 (1,2,3,4,5)\r\n",
            "227 \r\n",
            "227 Logout.\r\n",
            "2",
            "22",
            "227",
            "227 ",
        ],
    );
}

#[test]
fn epsv() {
    server("229 Entering Extended Passive Mode (|||1025|)\r\n", "10.0.0.1:1025", 36, 8);
    server("229 Entering Extended Passive Mode (!!!1025!)\r\n", "10.0.0.1:1025", 36, 8);
    server("229 (|||1025|\r\n", "10.0.0.1:1025", 5, 8);
    server("229 (|||66561|)\r\n", "10.0.0.1:1025", 5, 9);
    server("229 Extended 5 (|||1025|)\r\n", "10.0.0.1:1025", 16, 8);
    found(Sender::Server, OWN6, "229 (|||1025|)\r\n", "[2001:db8::1]:1025", 5, 8);
}

#[test]
fn epsv_malformed() {
    partial(
        Form::Epsv,
        OWN4,
        &[
            "229 (|||0|)\r\n",
            "229 (|1|10.0.0.1|1025|)\r\n",
            "229 (|1||1025|)\r\n",
            "229 |||1025|\r\n",
            "229 ((|||1025|)\r\n",
            "229 (|||1025)\r\n",
            "229 (||1025|)\r\n",
            "229 (|||1025",
            "229 (|||",
            "229 (",
            "229 (   1025 )\r\n",
            "229 (11110251)\r\n",
            "229 ",
            "229",
        ],
    );
}

#[test]
fn all_else_is_nothing() {
    let client =
        ["", "PASV\r\n", "EPSV\r\n", "PWD\r\nPORT 10,0,0,1,4,1\r\n", " PORT 10,0,0,1,4,1\r\n", "XPORT 1\r\n", "\n"];
    nothing(Sender::Client, &client);
    nothing(Sender::Client, &["227 (10,0,0,1,4,1)\r\n", "LPRT 4,4,10,0,0,1,2,4,1\r\n", "PI", "PORK", "PX\r\n"]);
    let server =
        ["", "227-foo (10,0,0,1,4,1)\r\n", "220 hello\r\n", "229-(|||1025|)\r\n", "228 (4,4,10,0,0,1,2,4,1)\r\n"];
    nothing(Sender::Server, &server);
    nothing(Sender::Server, &["PORT 10,0,0,1,4,1\r\n", " 227 (10,0,0,1,4,1)\r\n", "229\r\n", "227\r\n", "228 "]);
}

#[test]
fn no_bytes_make_it_panic() {
    // Every prefix of every line above that has a form, with every byte put at every place.
    for (form, line) in [
        (Form::Port, "PORT 10,0,0,1,4,1\r\n"),
        (Form::Eprt, "EPRT |1|10.0.0.1|1025|\r\n"),
        (Form::Eprt, "EPRT |2|2001:db8::1.2.3.4|1025|\r\n"),
        (Form::Pasv, "227 (10,0,0,1,4,1)\r\n"),
        (Form::Epsv, "229 (|||1025|)\r\n"),
    ] {
        for own in [OWN4, OWN6] {
            for end in 0..=line.len() {
                let mut payload = line.as_bytes()[..end].to_vec();
                for at in 0..end {
                    for byte in 0..=255 {
                        payload[at] = byte;
                        if let Reading::Announcement(a) = read_segment(form.sender(), own.parse().unwrap(), &payload) {
                            assert!(a.start <= a.end && a.end <= payload.len());
                        }
                    }
                    payload[at] = line.as_bytes()[at];
                }
            }
        }
    }
}
