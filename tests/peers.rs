//! Real FTP traffic under behaviour Exact: the 27 situations in which Linux, Open vSwitch, libalias and pktkit were
//! compared. There is one test for each, in the order of the table in the documentation of `ftp_conntrack::helper`.

mod common;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::event::Event;
use ftp_conntrack::packet::Headers;
use ftp_conntrack::router::{Egress, RouterConfig, Verdict};

/// The server stands behind the router, which the outside knows.
const DNAT: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
                    *nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n";

/// A control connection through a router that behaves as it should.
struct Session {
    world: World,
    /// Both ends of the connection, as the client knows them, and as the server does.
    client: [&'static str; 2],
    server: [&'static str; 2],
    /// The interfaces of client and server.
    interfaces: [usize; 2],
    /// Next numbers of client and server, in their own count.
    next: [u32; 2],
}

impl Session {
    /// The client is inside.
    fn masqueraded() -> Self {
        Self::new(MASQUERADE, [CLIENT, SERVER], [OUTSIDE, SERVER], [LAN, WAN])
    }

    /// The server is inside.
    fn forwarded() -> Self {
        let ([client, server], inside) = (["198.51.100.9:5000", "203.0.113.1:21"], "10.77.1.2:21");
        Self::new(DNAT, [client, server], [client, inside], [WAN, LAN])
    }

    fn new(rules: &str, client: [&'static str; 2], server: [&'static str; 2], interfaces: [usize; 2]) -> Self {
        let mut session = Self { world: World::new(exact(rules)), client, server, interfaces, next: [1000, 5000] };
        session.log_in();
        session
    }

    fn log_in(&mut self) {
        let ([c, s], [c2, s2]) = (self.client, self.server);
        let [client, server] = self.interfaces;
        self.world.forward(client, &tcp(c, s, SYN, 999, 0, ""));
        self.world.forward(server, &tcp(s2, c2, SYN | ACK, 4999, 1000, ""));
        self.server("220 ready\r\n");
        self.client("USER ftp\r\n");
        self.server("230 in\r\n");
    }

    /// The client says something new; gives the text as the server gets it, and its number.
    fn client(&mut self, text: &str) -> String {
        let at = self.next[0];
        self.next[0] += text.len() as u32;
        self.client_at(at, text).1
    }

    /// The client says something at a place of its stream.
    fn client_at(&mut self, at: u32, text: &str) -> (u32, String) {
        let packet = tcp(self.client[0], self.client[1], PSH_ACK, at, self.next[1], text);
        self.send(self.interfaces[0], &packet)
    }

    /// The server says something new; gives the text as the client gets it.
    fn server(&mut self, said: &str) -> String {
        let at = self.next[1];
        self.next[1] += said.len() as u32;
        let packet = tcp(self.server[1], self.server[0], PSH_ACK, at, 1000, said);
        self.send(self.interfaces[1], &packet).1
    }

    /// Sends a packet; returns the text that leaves to the other side, put together, and the number of its first byte.
    fn send(&mut self, interface: usize, packet: &[u8]) -> (u32, String) {
        self.world.outbox.clear();
        let first = self.world.forward(interface, packet);
        let (number, mut all) = (numbers(&first).0, text(&first));
        for outgoing in self.world.outbox.iter() {
            let headers = Headers::find(outgoing.bytes).unwrap();
            assert!(headers.transport_checksum_ok(outgoing.bytes));
            if matches!(outgoing.egress, Egress::Forward { interface: out, .. } if out != interface) {
                assert_eq!(numbers(outgoing.bytes).0, number + all.len() as u32);
                all += &text(outgoing.bytes);
            }
        }
        (number, all)
    }

    /// The packets that the router sent back to the sender of the last one.
    fn answers(&self, interface: usize) -> Vec<(u32, u32)> {
        let back = |outgoing: &ftp_conntrack::router::Outgoing<'_>| matches!(outgoing.egress, Egress::Forward { interface: out, .. } if out == interface);
        self.world.outbox.iter().filter(back).map(|outgoing| numbers(outgoing.bytes)).collect()
    }

    /// Returns the destination of a SYN: "interface destination".
    fn opens(&mut self, interface: usize, from: &str, to: &str) -> Option<String> {
        let (verdict, bytes) = self.world.send(interface, &tcp(from, to, SYN, 1, 0, ""));
        let headers = Headers::find(&bytes).unwrap();
        match verdict {
            Verdict::Forward { interface, .. } => {
                let (_, port) = headers.ports(&bytes).unwrap();
                Some(format!("{interface} {}:{port}", headers.destination(&bytes)))
            }
            _ => None,
        }
    }

    fn denied(&mut self) -> usize {
        let events: Vec<_> = std::iter::from_fn(|| self.world.router.poll_event()).collect();
        events.iter().filter(|(_, event)| matches!(event, Event::Denied { .. })).count()
    }
}

fn exact(rules: &str) -> RouterConfig {
    let mut config = config(rules);
    config.helper = config.helper.behaving(Behaviour::Exact);
    config
}

#[test]
fn row_01_port() {
    let mut session = Session::masqueraded();
    assert_eq!(session.client("PORT 10,77,1,2,4,210\r\n"), "PORT 203,0,113,1,4,210\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:20", "203.0.113.1:1234").as_deref(), Some("0 10.77.1.2:1234"));
}

#[test]
fn row_02_port_in_lower_case() {
    assert_eq!(Session::masqueraded().client("port 10,77,1,2,4,210\r\n"), "port 203,0,113,1,4,210\r\n");
}

#[test]
fn row_03_port_behind_another_command() {
    let left = Session::masqueraded().client("TYPE I\r\nPORT 10,77,1,2,4,210\r\n");
    assert_eq!(left, "TYPE I\r\nPORT 203,0,113,1,4,210\r\n");
}

#[test]
fn row_04_another_command_behind_port() {
    let left = Session::masqueraded().client("PORT 10,77,1,2,4,210\r\nLIST\r\n");
    assert_eq!(left, "PORT 203,0,113,1,4,210\r\nLIST\r\n");
}

#[test]
fn row_05_port_in_two_segments() {
    let mut session = Session::masqueraded();
    assert_eq!(session.client("PORT 10,77,1,"), "");
    assert_eq!(session.answers(LAN), [], "the server has not acknowledged what stands before it");
    assert_eq!(session.client("2,4,210\r\n"), "PORT 203,0,113,1,4,210\r\n");
}

#[test]
fn row_06_port_that_ends_in_a_line_feed() {
    assert_eq!(Session::masqueraded().client("PORT 10,77,1,2,4,210\n"), "PORT 203,0,113,1,4,210\n");
}

#[test]
fn row_07_port_with_two_blanks() {
    assert_eq!(Session::masqueraded().client("PORT  10,77,1,2,4,210\r\n"), "PORT  203,0,113,1,4,210\r\n");
}

#[test]
fn row_08_eprt() {
    assert_eq!(Session::masqueraded().client("EPRT |1|10.77.1.2|1234|\r\n"), "EPRT |1|203.0.113.1|1234|\r\n");
}

#[test]
fn row_09_eprt_with_another_delimiter() {
    assert_eq!(Session::masqueraded().client("EPRT !1!10.77.1.2!1234!\r\n"), "EPRT !1!203.0.113.1!1234!\r\n");
}

#[test]
fn row_10_lprt() {
    let mut session = Session::masqueraded();
    assert_eq!(session.client("LPRT 4,4,10,77,1,2,2,4,210\r\n"), "LPRT 4,4,203,0,113,1,2,4,210\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:20", "203.0.113.1:1234").as_deref(), Some("0 10.77.1.2:1234"));
}

#[test]
fn row_11_port_sent_again() {
    let mut session = Session::masqueraded();
    let at = session.next[0];
    session.client("PORT 10,77,1,2,4,210\r\n");
    assert_eq!(session.client_at(at, "PORT 10,77,1,2,4,210\r\n"), (at, "PORT 203,0,113,1,4,210\r\n".into()));
    assert_eq!(session.client_at(at + 22, "LIST\r\n"), (at + 24, "LIST\r\n".into()));
}

#[test]
fn row_12_port_sent_again_where_another_port_was_announced() {
    let mut session = Session::masqueraded();
    another_client_expects(&mut session, 1234);
    let at = session.next[0];
    let (number, first) = session.client_at(at, "PORT 10,77,1,2,4,210\r\n");
    assert!(first.starts_with("PORT 203,0,113,1,") && !first.ends_with(",4,210\r\n"), "{first}");
    assert_eq!(session.client_at(at, "PORT 10,77,1,2,4,210\r\n"), (number, first.clone()));
    let numbers: Vec<u16> = first.trim_end().rsplit(',').take(2).map(|number| number.parse().unwrap()).collect();
    let announced = format!("203.0.113.1:{}", numbers[1] << 8 | numbers[0]);
    assert_eq!(session.opens(WAN, "198.51.100.9:20", &announced).as_deref(), Some("0 10.77.1.2:1234"));
}

#[test]
fn row_13_an_older_command_sent_again() {
    let mut session = Session::masqueraded();
    let at = session.next[0];
    session.client("PORT 10,77,1,2,4,210\r\n");
    session.client("PORT 10,77,1,2,4,211\r\n");
    assert_eq!(session.client_at(at, "PORT 10,77,1,2,4,210\r\n"), (at, "PORT 203,0,113,1,4,210\r\n".into()));
    let both = "PORT 10,77,1,2,4,210\r\nPORT 10,77,1,2,4,211\r\n";
    let (number, text) = session.client_at(at, both);
    assert_eq!((number, text.as_str()), (at, "PORT 203,0,113,1,4,210\r\nPORT 203,0,113,1,4,211\r\n"));
    assert_eq!(session.client_at(at + 44, "LIST\r\n"), (at + 48, "LIST\r\n".into()));
}

#[test]
fn row_14_two_clients_choose_one_port() {
    let mut session = Session::masqueraded();
    another_client_expects(&mut session, 1234);
    assert_ne!(session.client("PORT 10,77,1,2,4,210\r\n"), "PORT 203,0,113,1,4,210\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:20", "203.0.113.1:1234").as_deref(), Some("0 10.77.1.3:1234"));
}

#[test]
fn row_15_an_address_that_is_not_the_speakers() {
    let mut session = Session::masqueraded();
    assert_eq!(session.client("PORT 10,77,1,7,4,210\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(session.client("EPRT |1|192.0.2.1|1234|\r\n"), "EPRT |1|0.0.0.0|0|\r\n");
    assert_eq!(session.denied(), 2);
}

#[test]
fn row_16_a_port_below_1024() {
    let mut session = Session::masqueraded();
    assert_eq!(session.client("PORT 10,77,1,2,0,22\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:20", "203.0.113.1:22"), None);
    assert_eq!(session.denied(), 1);
}

#[test]
fn row_17_selective_acknowledgements() {
    let mut session = Session::masqueraded();
    let at = session.next[0];
    session.client("PORT 10,77,1,2,4,210\r\n");
    session.client("LIST\r\nNOOP\r\n");
    // The server has PORT, which ended at + 24 for it, and six bytes behind the next six.
    let mut answer = tcp(SERVER, OUTSIDE, ACK, session.next[1], at + 24, "");
    answer[32] = 0x80;
    answer.extend([1, 1, 5, 10]);
    answer.extend([at + 30, at + 36].map(u32::to_be_bytes).concat());
    let left = session.world.forward(WAN, &finish(answer));
    assert_eq!(numbers(&left).1, at + 22);
    assert_eq!(left[44..52], [at + 28, at + 34].map(u32::to_be_bytes).concat());
}

#[test]
fn row_18_port_within_tls() {
    let mut session = Session::masqueraded();
    session.client("AUTH TLS\r\n");
    session.server("234 go on\r\n");
    assert_eq!(session.client("PORT 10,77,1,2,4,210\r\n"), "PORT 10,77,1,2,4,210\r\n");
    assert_eq!(session.client("POR"), "POR");
    assert_eq!(session.server("227 (10,0,0,1,2,3)\r\n"), "227 (10,0,0,1,2,3)\r\n");
}

#[test]
fn row_19_passive() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    let left = session.server("227 Entering Passive Mode (10,77,1,2,200,10).\r\n");
    assert_eq!(left, "227 Entering Passive Mode (203,0,113,1,200,10).\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:6000", "203.0.113.1:51210").as_deref(), Some("0 10.77.1.2:51210"));
}

#[test]
fn row_20_passive_without_parentheses() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    let left = session.server("227 Entering Passive Mode 10,77,1,2,200,10\r\n");
    assert_eq!(left, "227 Entering Passive Mode 203,0,113,1,200,10\r\n");
}

#[test]
fn row_21_passive_with_an_equals_sign() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    assert_eq!(session.server("227 =10,77,1,2,200,10\r\n"), "227 =203,0,113,1,200,10\r\n");
}

#[test]
fn row_22_extended_passive() {
    let mut session = Session::forwarded();
    session.client("EPSV\r\n");
    let left = session.server("229 Entering Extended Passive Mode (|||51210|)\r\n");
    assert_eq!(left, "229 Entering Extended Passive Mode (|||51210|)\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:6000", "203.0.113.1:51210").as_deref(), Some("0 10.77.1.2:51210"));
}

#[test]
fn row_23_passive_in_many_lines() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    let left = session.server("227-listen 10,77,1,2,200,10\r\n227 (10,77,1,2,200,10)\r\n");
    assert_eq!(left, "227-listen 203,0,113,1,200,10\r\n227 (203,0,113,1,200,10)\r\n");
}

#[test]
fn row_24_passive_behind_another_reply() {
    let mut session = Session::forwarded();
    session.client("TYPE I\r\nPASV\r\n");
    let left = session.server("200 ok\r\n227 (10,77,1,2,200,10)\r\n");
    assert_eq!(left, "200 ok\r\n227 (203,0,113,1,200,10)\r\n");
}

#[test]
fn row_25_a_number_above_255() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    assert_eq!(session.server("227 Passive (10,77,1,2,300,10)\r\n"), "425 No data connection.\r\n");
    assert_eq!(session.denied(), 1);
}

#[test]
fn row_26_passive_at_no_address() {
    let mut session = Session::forwarded();
    session.client("PASV\r\n");
    assert_eq!(session.server("227 Passive (0,0,0,0,200,10)\r\n"), "227 Passive (203,0,113,1,200,10)\r\n");
    assert_eq!(session.opens(WAN, "198.51.100.9:6000", "203.0.113.1:51210").as_deref(), Some("0 10.77.1.2:51210"));
}

#[test]
fn row_27_a_227_that_announces_nothing() {
    assert_eq!(Session::forwarded().server("227 Logout.\r\n"), "227 Logout.\r\n");
}

/// Another client inside has announced a port to the same server.
fn another_client_expects(session: &mut Session, port: u16) {
    let (client, outside) = ("10.77.1.3:40003", "203.0.113.1:40003");
    let world = &mut session.world;
    world.forward(LAN, &tcp(client, SERVER, SYN, 999, 0, ""));
    world.forward(WAN, &tcp(SERVER, outside, SYN | ACK, 4999, 1000, ""));
    world.forward(LAN, &tcp(client, SERVER, PSH_ACK, 1000, 5000, "USER ftp\r\n"));
    world.forward(WAN, &tcp(SERVER, outside, PSH_ACK, 5000, 1010, "230 in\r\n"));
    let command = format!("PORT 10,77,1,3,{},{}\r\n", port >> 8, port & 255);
    let left = world.forward(LAN, &tcp(client, SERVER, PSH_ACK, 1010, 5008, &command));
    assert_eq!(text(&left), format!("PORT 203,0,113,1,{},{}\r\n", port >> 8, port & 255));
}

/// Other situations: rows 28 to 35, for both behaviours.
mod else_comes {
    use super::*;

    /// The outcome of a line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Leaks,
        Same,
        Rewritten,
        Refused,
    }

    /// Sends a logged in client's text in two segments, and gives what leaves.
    fn says(behaviour: Behaviour, loose: bool, text: &str, cut: usize) -> Vec<u8> {
        let mut config = config(MASQUERADE);
        config.helper = config.helper.behaving(behaviour).loose(loose);
        let mut world = World::new(config);
        world.login();
        world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 501, 101, "230 in\r\n"));
        let mut left = Vec::new();
        for (at, piece) in [(0, &text.as_bytes()[..cut]), (cut, &text.as_bytes()[cut..])] {
            if !piece.is_empty() {
                let (verdict, bytes) = world.send(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101 + at as u32, 509, piece));
                if matches!(verdict, Verdict::Forward { .. }) {
                    left.extend_from_slice(Headers::find(&bytes).unwrap().payload(&bytes));
                }
            }
        }
        left
    }

    fn fate(text: &str, left: &[u8]) -> Fate {
        let has = |part: &[u8]| left.windows(part.len()).any(|window| window == part);
        match () {
            () if has(b"10,77,1,2") => Fate::Leaks,
            () if left == text.as_bytes() => Fate::Same,
            () if has(b"203,0,113,1,31,144") => Fate::Rewritten,
            () => Fate::Refused,
        }
    }

    fn fates(text: &str, cut: usize) -> [Fate; 2] {
        [Behaviour::Linux, Behaviour::Exact].map(|behaviour| fate(text, &says(behaviour, false, text, cut)))
    }

    #[test]
    fn row_28_nul_before_port() {
        assert_eq!(fates("\0PORT 10,77,1,2,31,144\r\n", 0), [Fate::Leaks, Fate::Rewritten]);
    }

    #[test]
    fn row_29_port_after_a_carriage_return() {
        for cut in [0, 4, 5] {
            let [linux, exact] = fates("NOOP\rPORT 10,77,1,2,31,144\r\n", cut);
            assert!(linux == Fate::Leaks && exact == Fate::Refused, "cut at {cut}: {linux:?}, {exact:?}");
        }
    }

    #[test]
    fn row_30_telnet_within_port() {
        let said = b"PO\xff\xf1RT 10,77,1,2,31,144\r\n";
        let left = |behaviour| {
            let mut config = config(MASQUERADE);
            config.helper = config.helper.behaving(behaviour);
            let mut world = World::new(config);
            world.login();
            world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 501, 101, "230 in\r\n"));
            let bytes = world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 509, said));
            Headers::find(&bytes).unwrap().payload(&bytes).to_vec()
        };
        assert_eq!(left(Behaviour::Linux), said);
        assert!(!left(Behaviour::Exact).windows(5).any(|part| part == b"10,77"));
    }

    #[test]
    fn row_31_the_address_that_the_outside_sees() {
        assert_eq!(fates("PORT 203,0,113,1,16,16\r\n", 0), [Fate::Same; 2]);
    }

    #[test]
    fn row_32_a_long_line_that_announces_nothing() {
        assert_eq!(fates(&format!("ADAT {}\r\n", "x".repeat(1400)), 700), [Fate::Same; 2]);
    }

    #[test]
    fn row_35_a_loose_helper() {
        let said = "PORT 192,0,2,7,31,144\r\n";
        assert_eq!(says(Behaviour::Linux, true, said, 0), b"PORT 203,0,113,1,31,144\r\n");
        assert_eq!(says(Behaviour::Exact, true, said, 0), said.as_bytes());
    }

    #[test]
    fn the_page_has_every_row() {
        let page = include_str!("../src/helper/peers.md");
        for row in 1..=27 {
            assert!(page.contains(&format!("\n| {row} |")), "{row}");
        }
        for row in 28..=35 {
            assert!(page.contains(&format!("\n| {row}: ")), "{row}");
        }
    }
}
