//! Every bound of behaviour Exact, exhausted as an attacker would: when it is full, nothing inside leaks, nothing shifts
//! wrongly, and nothing is opened that would have been refused.

mod common;

use std::time::Duration;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::router::Verdict;

fn world() -> World {
    let mut config = config(MASQUERADE);
    config.helper = config.helper.behaving(Behaviour::Exact);
    World::new(config)
}

/// A control connection whose two streams are followed by their numbers.
struct Talk {
    world: World,
    client: u32,
    server: u32,
    /// Everything that left towards the server, by its number.
    left: Vec<(u32, String)>,
}

impl Talk {
    fn open() -> Self {
        let mut world = world();
        world.forward(LAN, &tcp(CLIENT, SERVER, SYN, 99, 0, ""));
        world.forward(WAN, &tcp(SERVER, OUTSIDE, SYN | ACK, 499, 100, ""));
        world.forward(LAN, &tcp(CLIENT, SERVER, ACK, 100, 500, ""));
        let mut talk = Self { world, client: 100, server: 500, left: Vec::new() };
        talk.answer("220 ready\r\n");
        talk
    }

    /// The client says something, which nobody acknowledges.
    fn say(&mut self, text: &str) -> String {
        let bytes = tcp(CLIENT, SERVER, PSH_ACK, self.client, self.server, text);
        self.client += text.len() as u32;
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> String {
        let (verdict, left) = self.world.send(LAN, bytes);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        let said = text(&left);
        self.left.push((numbers(&left).0, said.clone()));
        for packet in self.world.outbox.iter().filter(|packet| packet.bytes[16..20] == [198, 51, 100, 9]) {
            self.left.push((numbers(packet.bytes).0, text(packet.bytes)));
        }
        self.world.outbox.clear();
        said
    }

    /// The server says something and acknowledges the client's bytes up to `upto`, as it counts them.
    fn answer_to(&mut self, text: &str, upto: u32) -> String {
        let bytes = tcp(SERVER, OUTSIDE, PSH_ACK, self.server, upto, text);
        self.server += text.len() as u32;
        let left = common::text(&self.world.forward(WAN, &bytes));
        self.world.outbox.clear();
        left
    }

    fn answer(&mut self, text: &str) -> String {
        self.answer_to(text, 100)
    }

    /// Returns the bytes that the server has, in order: no byte may have left as two.
    fn has(&self) -> String {
        let mut has: Vec<Option<u8>> = Vec::new();
        for (number, text) in &self.left {
            for (i, byte) in text.bytes().enumerate() {
                let at = number.wrapping_sub(100) as usize + i;
                has.resize(has.len().max(at + 1), None);
                assert_eq!(*has[at].get_or_insert(byte), byte, "the byte at {at} left as two: {:?}", self.left);
            }
        }
        String::from_utf8(has.into_iter().map_while(|byte| byte).collect()).unwrap()
    }

    fn holds(&self) {
        let has = self.has();
        assert!(!has.contains("10,77,1,2"), "an inside address leaked: {has}");
        assert!(self.left.iter().all(|(_, text)| !text.contains("10,77")), "{:?}", self.left);
    }

    fn opened(&self) -> usize {
        self.world.router.conntrack().expected()
    }
}

const PORT: &str = "PORT 10,77,1,2,31,144\r\n";

/// Each bound, with how an attacker exhausts it.
const BOUNDS: [(&str, fn()); 8] = [
    ("waiting commands, no login", waiting_commands_without_login),
    ("waiting commands, not FTP", waiting_commands_that_are_no_ftp),
    ("replacements in one segment", replacements_in_one_segment),
    ("replacements one by one", replacements_one_by_one),
    ("length of a line", length_of_a_line),
    ("length of a reply", length_of_a_reply),
    ("replacements of a reply", replacements_of_a_reply),
    ("head of a line", head_of_a_line),
];

#[test]
fn every_bound_fails_closed() {
    for (name, exhaust) in BOUNDS {
        println!("{name}");
        exhaust();
    }
}

fn waiting_commands_without_login() {
    let mut talk = Talk::open();
    talk.say("USER a\r\n");
    (0..200).for_each(|i| drop(talk.say(["NOOP\r\n", "PWD\r\n"][i % 2])));
    assert_eq!(talk.say(PORT), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.opened(), 0);
    talk.holds();
}

fn waiting_commands_that_are_no_ftp() {
    let mut talk = Talk::open();
    talk.say("POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    (0..200).for_each(|i| drop(talk.say(["NOOP\r\n", "PWD\r\n"][i % 2])));
    assert_eq!(talk.say(PORT), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.opened(), 0);
    talk.holds();
}

fn logged_in() -> Talk {
    let mut talk = Talk::open();
    talk.say("USER a\r\n");
    talk.answer_to("230 in\r\n", 108);
    talk
}

fn replacements_in_one_segment() {
    let mut talk = logged_in();
    let all: String = (0..40).map(|i| format!("PORT 10,77,1,2,31,{}\r\n", 100 + i)).collect();
    let start = talk.client;
    talk.say(&all);
    talk.holds();
    // Acknowledged as far as it came, the sender sends it again, until all is there.
    for _ in 0..20 {
        let upto = 100 + talk.has().len() as u32;
        talk.answer_to("", upto);
        talk.send(&tcp(CLIENT, SERVER, PSH_ACK, start, talk.server, &all));
        talk.holds();
    }
    let expected: String = (0..40).map(|i| format!("PORT 203,0,113,1,31,{}\r\n", 100 + i)).collect();
    assert_eq!(talk.has(), format!("USER a\r\n{expected}"));
}

fn replacements_one_by_one() {
    let mut talk = logged_in();
    let start = talk.client;
    (0..40).for_each(|i| drop(talk.say(&format!("PORT 10,77,1,2,31,{}\r\n", 100 + i))));
    talk.holds();
    // The first is sent again: it leaves as before.
    let again = tcp(CLIENT, SERVER, PSH_ACK, start, talk.server, "PORT 10,77,1,2,31,100\r\n");
    assert_eq!(talk.send(&again), "PORT 203,0,113,1,31,100\r\n");
    talk.holds();
}

fn length_of_a_line() {
    let long = "x".repeat(5000);
    for line in [format!("ADAT {long}\r\n"), format!("STAT {long}\r\n")] {
        let mut talk = logged_in();
        line.as_bytes().chunks(700).for_each(|piece| drop(talk.say(std::str::from_utf8(piece).unwrap())));
        talk.say(PORT);
        assert_eq!(talk.has(), format!("USER a\r\n{line}PORT 203,0,113,1,31,144\r\n"), "it passes whole");
    }
    let mut talk = logged_in();
    let line = format!("PORT {}10,77,1,2,31,144\r\n", "0".repeat(5000));
    line.as_bytes().chunks(700).for_each(|piece| drop(talk.say(std::str::from_utf8(piece).unwrap())));
    talk.say(PORT);
    talk.holds();
    assert_eq!(talk.has(), "USER a\r\nPORT 0,0,0,0,0,0\r\nPORT 203,0,113,1,31,144\r\n");
    // All of it counts as received once the server has what left.
    let upto = 100 + talk.has().len() as u32;
    let bytes = talk.world.forward(WAN, &tcp(SERVER, OUTSIDE, ACK, talk.server, upto, ""));
    assert_eq!(numbers(&bytes).1, talk.client);
}

fn length_of_a_reply() {
    let mut talk = logged_in();
    talk.say("PASV\r\n");
    let mut heard = String::new();
    heard += &talk.answer("227-listening\r\n");
    (0..200).for_each(|_| heard += &talk.answer(" more of the same, at some length\r\n"));
    heard += &talk.answer("227 (198,51,100,9,19,137)\r\n200 ok\r\n");
    assert_eq!(heard, "425 No data connection.\r\n200 ok\r\n");
    assert_eq!(talk.opened(), 0);
}

fn replacements_of_a_reply() {
    for (reply, expected) in [
        ("227-(1,2,3,4,5)\r\n227 Entering Passive Mode (198,51,100,9,19,137).\r\n", "425 No data connection.\r\n"),
        ("227-(198,51,100,9,19,137)\r\n227 (198,51,100,9,0,21)\r\n", "425 No data connection.\r\n"),
    ] {
        for cut in 1..reply.len() {
            let mut talk = logged_in();
            talk.say("PASV\r\n");
            let heard = talk.answer(&reply[..cut]) + &talk.answer(&reply[cut..]);
            assert_eq!(heard, expected, "{cut}");
            assert_eq!(talk.opened(), 0, "a reply that is refused opens nothing");
        }
    }
    let mut talk = logged_in();
    talk.say("PASV\r\n");
    let whole = "227-(198,51,100,9,19,137)\r\n227 (198,51,100,9,19,137)\r\n";
    assert_eq!(talk.answer(whole), whole);
    assert_eq!(talk.opened(), 1);
}

fn head_of_a_line() {
    let mut talk = logged_in();
    talk.say(&" ".repeat(60));
    talk.say("RE");
    talk.say("IN\r\n");
    assert_eq!(talk.say(PORT), "PORT 0,0,0,0,0,0\r\n", "nobody is logged in any more");
    talk.holds();
}

#[test]
fn a_fin_that_is_old_or_blind_does_not_stop_the_real_one() {
    let mut talk = logged_in();
    for number in [90, 100, talk.client - 1, talk.client + 1, talk.client + 5000, talk.client + (1 << 30), 1 << 31] {
        let (_, left) = talk.world.send(LAN, &tcp(CLIENT, SERVER, FIN | ACK, number, talk.server, ""));
        assert_eq!(left[33] & FIN, 0, "{number}");
    }
    talk.say("QUIT\r\n");
    let (_, left) = talk.world.send(LAN, &tcp(CLIENT, SERVER, FIN | ACK, talk.client, talk.server, ""));
    assert_eq!((left[33] & FIN, numbers(&left).0), (FIN, talk.client));
}

#[test]
fn data_in_a_syn_is_read_and_what_follows_goes_on() {
    for text in ["USER a\r\n", "USER a\r\nPORT 10,77,1,2,31,144\r\n", "USER a\r\nPORT 10,77"] {
        let mut world = world();
        let syn = world.forward(LAN, &tcp(CLIENT, SERVER, SYN, 99, 0, text));
        assert_eq!(numbers(&syn).0, 99);
        let left = common::text(&syn);
        assert!(left.starts_with("USER a\r\n") && !left.contains("10,77"), "{left}");
        // A server that does not know Fast Open has none of it.
        world.forward(WAN, &tcp(SERVER, OUTSIDE, SYN | ACK, 499, 100, "220 ready\r\n"));
        let again = common::text(&world.forward(LAN, &tcp(CLIENT, SERVER, ACK, 100, 509, text)));
        assert_eq!(again, left, "the same again");
        let end = 100 + left.len() as u32;
        let back = world.forward(WAN, &tcp(SERVER, OUTSIDE, ACK, 510, end, ""));
        let next = 100 + text.len() as u32;
        assert!(numbers(&back).1 <= next);
        let rest = if text.ends_with('\n') { "NOOP\r\n" } else { ",1,2,4,1\r\nNOOP\r\n" };
        let left = common::text(&world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, next, 510, rest)));
        assert!(left.ends_with("NOOP\r\n") && !left.contains("10,77"), "{left}");
    }
}

#[test]
fn a_transfer_keeps_its_control_connection() {
    let mut config = config(MASQUERADE);
    config.helper = config.helper.behaving(Behaviour::Exact);
    config.conntrack.tcp.established = Duration::from_secs(300);
    let mut talk = Talk { world: World::new(config), ..Talk::open() };
    for (interface, bytes) in [
        (LAN, tcp(CLIENT, SERVER, SYN, 99, 0, "")),
        (WAN, tcp(SERVER, OUTSIDE, SYN | ACK, 499, 100, "")),
        (LAN, tcp(CLIENT, SERVER, ACK, 100, 500, "")),
        (WAN, tcp(SERVER, OUTSIDE, PSH_ACK, 500, 100, "220 ready\r\n")),
        (LAN, tcp(CLIENT, SERVER, PSH_ACK, 100, 511, "USER a\r\n")),
        (WAN, tcp(SERVER, OUTSIDE, PSH_ACK, 511, 108, "230 in\r\n")),
        (LAN, tcp(CLIENT, SERVER, PSH_ACK, 108, 519, "PORT 10,77,1,2,31,144\r\n")),
        (WAN, tcp("198.51.100.9:20", "203.0.113.1:8080", SYN, 1, 0, "")),
        (LAN, tcp("10.77.1.2:8080", "198.51.100.9:20", SYN | ACK, 1, 2, "")),
        (WAN, tcp("198.51.100.9:20", "203.0.113.1:8080", ACK, 2, 2, "")),
    ] {
        talk.world.forward(interface, &bytes);
    }
    for _ in 0..30 {
        talk.world.now = talk.world.now + Duration::from_secs(200);
        talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
        talk.world.forward(WAN, &tcp("198.51.100.9:20", "203.0.113.1:8080", ACK, 2, 2, ""));
    }
    let done = talk.world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 519, 133, "226 done\r\n"));
    assert_eq!(text(&done), "226 done\r\n");
    // When both are silent, both are forgotten.
    talk.world.now = talk.world.now + Duration::from_secs(2000);
    talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
    talk.world.now = talk.world.now + Duration::from_secs(100);
    talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
    assert!(talk.world.router.conntrack().is_empty(), "{}", talk.world.table());
}
