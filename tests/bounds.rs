//! Every bound of behaviour Exact, exhausted as an attacker would: when it is full, nothing inside leaks, nothing shifts
//! wrongly, and nothing is opened that would have been refused.

mod common;

use std::time::Duration;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::conntrack::Limits;
use ftp_conntrack::router::{RouterConfig, Verdict};

fn world() -> World {
    World::new(exact())
}

/// Behaviour Exact with small tables: many routers are made.
fn exact() -> RouterConfig {
    let mut config = config(MASQUERADE);
    config.helper = config.helper.behaving(Behaviour::Exact);
    config.helper.hold_buffers = 8;
    config.conntrack.limits = Limits::new(256, 256, 96);
    config
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

/// Names of bounds, and a test that exhausts them.
type Way = (&'static [&'static str], fn());

/// Each way to exhaust bounds, with the bounds that it exhausts: constants of `src/helper/exact`, and the numbers that a router
/// is configured with.
const WAYS: [Way; 19] = [
    (&["MAX_WAITING"], waiting_commands_without_login),
    (&["MAX_WAITING"], waiting_commands_that_are_no_ftp),
    (&["EDITS", "UNIT_EDITS"], replacements_in_one_segment),
    (&["EDITS"], replacements_one_by_one),
    (&["LONGEST_LINE"], length_of_a_line),
    (&["LONGEST_REPLY"], length_of_a_reply),
    (&["UNIT_EDITS"], replacements_of_a_reply),
    (&["HEAD"], head_of_a_line),
    (&["hold_buffers"], unfinished_lines_of_many),
    (&["SIZE"], early_segments_far_ahead),
    (&["STRETCHES"], early_segments_with_many_gaps),
    (&["expectations"], expectations_of_all),
    (&["max_expectations"], expectations_of_one_connection),
    (&["max_expectations_per_client"], expectations_of_one_client),
    (&["MAX_PORT_ATTEMPTS", "lowest_port"], ports_that_are_all_expected),
    (&["SERVERS", "learn_tls_passive_ports"], servers_that_are_learnt),
    (&["REPEATS", "helped"], bytes_that_nobody_acknowledges),
    (&["MAX_PAYLOAD", "LEAST", "LEAST_MTU"], a_segment_of_the_greatest_length),
    (&["MAX_SCALE"], a_window_of_any_scale),
];

/// Numbers that bound nothing: what they count is never full.
const NO_BOUNDS: [&str; 5] = [
    // Bytes of TLS and of replies.
    "HANDSHAKE",
    "TLS",
    "CODE",
    // The longest header that can be, and a link's default.
    "MAX_HEADER",
    "ETHERNET_MTU",
];

#[test]
fn every_bound_fails_closed() {
    for (bounds, exhaust) in WAYS {
        println!("{bounds:?}");
        exhaust();
    }
}

/// A bound that is added later has no way to exhaust it here, and this fails until it has.
#[test]
fn every_bound_has_a_way_to_exhaust_it() {
    fn rust_files(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rust_files(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source.join("helper"), &mut files);
    files.push(source.join("ftp/dialogue.rs"));
    let mut bounds = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines() {
            let Some((before, after)) = line.split_once("const ") else { continue };
            let Some((name, kind)) = after.split_once(": ") else { continue };
            let is_declared = before.trim().is_empty() || before.trim_start().starts_with("pub");
            let is_number = ["usize", "u8", "u16", "u32", "u64"].iter().any(|number| kind.starts_with(number));
            if is_declared && is_number {
                bounds.push(name.to_string());
            }
        }
    }
    assert!(bounds.len() > 15, "the source is read as it is written: {bounds:?}");
    // The numbers of a configuration, by their names in its text.
    let numbers = |text: String| -> Vec<String> {
        let fields = text.split([',', '{', '}', '(', ')']).filter_map(|field| field.split_once(": "));
        let fields = fields.filter(|(_, value)| value.trim().starts_with(|c: char| c.is_ascii_digit()));
        fields.map(|(name, _)| name.trim().to_string()).collect()
    };
    let config = config(MASQUERADE);
    bounds.extend(numbers(format!("{:?}", config.helper)));
    bounds.extend(numbers(format!("{:?}", config.conntrack.limits)));
    let is_elsewhere = |name: &str| ["connections", "events"].contains(&name) || NO_BOUNDS.contains(&name);
    for bound in bounds.iter().filter(|bound| !is_elsewhere(bound)) {
        assert!(WAYS.iter().any(|(names, _)| names.contains(&bound.as_str())), "nothing exhausts {bound}");
    }
    for (names, _) in WAYS {
        for name in names.iter().filter(|name| **name != "learn_tls_passive_ports") {
            assert!(bounds.iter().any(|bound| bound == name), "there is no {name}");
        }
    }
}

/// Clients that are logged in, each on a connection of its own.
struct Many {
    world: World,
    /// Each client's end, its next number and the server's.
    clients: Vec<(String, String, u32)>,
}

impl Many {
    fn log_in(count: u16, address: impl Fn(u16) -> String, change: impl FnOnce(&mut RouterConfig)) -> Self {
        let mut config = exact();
        change(&mut config);
        let mut many = Self { world: World::new(config), clients: Vec::new() };
        for number in 0..count {
            let (client, seen) =
                (format!("{}:{}", address(number), 40_000 + number), format!("203.0.113.1:{}", 40_000 + number));
            many.world.forward(LAN, &tcp(&client, SERVER, SYN, 99, 0, ""));
            many.world.forward(WAN, &tcp(SERVER, &seen, SYN | ACK, 499, 100, ""));
            many.world.forward(LAN, &tcp(&client, SERVER, PSH_ACK, 100, 500, "USER a\r\n"));
            many.world.forward(WAN, &tcp(SERVER, &seen, PSH_ACK, 500, 108, "230 in\r\n"));
            many.clients.push((client, seen, 108));
        }
        many.world.outbox.clear();
        many
    }

    /// A client says something. Returns the text that leaves; no inside address is in it.
    fn say(&mut self, number: usize, text: &str) -> String {
        let (client, _, next) = &mut self.clients[number];
        let (verdict, left) = self.world.send(LAN, &tcp(client, SERVER, PSH_ACK, *next, 508, text));
        *next += text.len() as u32;
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        let mut said = common::text(&left);
        for packet in self.world.outbox.iter().filter(|packet| packet.bytes[16..20] == [198, 51, 100, 9]) {
            said += &common::text(packet.bytes);
        }
        self.world.outbox.clear();
        assert!(!said.contains("10,77"), "an inside address leaked: {said}");
        said
    }

    fn expected(&self) -> usize {
        self.world.router.conntrack().expected()
    }
}

const REWRITTEN: &str = "PORT 203,0,113,1,";
const REFUSED: &str = "PORT 0,0,0,0,0,0\r\n";

fn own(number: u16) -> String {
    format!("10.77.1.{}", 2 + number)
}

fn unfinished_lines_of_many() {
    let mut many = Many::log_in(20, own, |config| config.helper.hold_buffers = 3);
    (0..20).for_each(|number| assert_eq!(many.say(number, "PORT 10,77,"), ""));
    let mut whole = 0;
    for number in 0..20 {
        let left = many.say(number, &format!("1,{},31,144\r\nNOOP\r\n", 2 + number));
        // A line that was given up does not leave; a new line does, and is read.
        whole += usize::from(left.contains(REWRITTEN));
        assert!(left.ends_with("NOOP\r\n") || left.is_empty(), "{left:?}");
    }
    assert!((1..=3).contains(&whole) && many.expected() == whole, "{whole}");
}

/// Sends a text in pieces that come in this order, again and again, until all of it has left.
fn comes_in_order(text: &str, piece: usize, order: impl Fn(usize) -> Vec<usize>) {
    let mut talk = logged_in();
    let start = talk.client;
    let pieces: Vec<&str> = text.as_bytes().chunks(piece).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    let expected = format!("USER a\r\n{}", text.replace("10,77,1,2", "203,0,113,1"));
    for _ in 0..80 {
        for number in order(pieces.len()) {
            let at = start + (number * piece) as u32;
            talk.send(&tcp(CLIENT, SERVER, PSH_ACK, at, talk.server, pieces[number]));
            talk.holds();
        }
        let has = talk.has();
        assert!(expected.starts_with(&has), "{has}");
        if has == expected {
            return;
        }
        talk.answer_to("", 100 + has.len() as u32);
    }
    panic!("it never leaves: {}", talk.has());
}

fn many_lines(count: usize) -> String {
    (0..count).map(|i| format!("NOOP\r\nPORT 10,77,1,2,31,{}\r\n", 100 + i % 100)).collect()
}

fn early_segments_far_ahead() {
    comes_in_order(&many_lines(500), 1000, |count| (0..count).rev().collect());
}

fn early_segments_with_many_gaps() {
    comes_in_order(&many_lines(20), 2, |count| {
        (0..count).rev().step_by(2).chain((0..count).rev().skip(1).step_by(2)).collect()
    });
    comes_in_order(&many_lines(20), 1, |count| (0..count).filter(|i| i % 3 != 0).chain(0..count).collect());
}

fn expectations_of_all() {
    let mut many = Many::log_in(20, own, |config| config.conntrack.limits.expectations = 5);
    let left: Vec<String> =
        (0..20).map(|number| many.say(number, &format!("PORT 10,77,1,{},31,144\r\n", 2 + number))).collect();
    assert!(left[..5].iter().all(|left| left.starts_with(REWRITTEN)) && many.expected() == 5, "{left:?}");
    assert!(left[5..].iter().all(|left| left == REFUSED), "{left:?}");
}

fn expectations_of_one_connection() {
    let mut talk = logged_in();
    for number in 0..30 {
        let left = talk.say(&format!("PORT 10,77,1,2,31,{number}\r\n"));
        let upto = 100 + talk.has().len() as u32;
        talk.answer_to("200 ok\r\n", upto);
        assert!(left.starts_with(REWRITTEN) && talk.opened() <= 8, "{left}");
    }
}

fn expectations_of_one_client() {
    let mut many = Many::log_in(20, |_| own(0), |config| config.helper.policy.max_expectations_per_client = 6);
    let left: Vec<String> =
        (0..20).map(|number| many.say(number, &format!("PORT 10,77,1,2,31,{number}\r\n"))).collect();
    assert!(left[..6].iter().all(|left| left.starts_with(REWRITTEN)) && many.expected() == 6, "{left:?}");
    assert!(left[6..].iter().all(|left| left == REFUSED), "{left:?}");
}

fn ports_that_are_all_expected() {
    let mut many = Many::log_in(20, own, |config| config.helper.policy.lowest_port = 65_530);
    let left: Vec<String> =
        (0..20).map(|number| many.say(number, &format!("PORT 10,77,1,{},255,255\r\n", 2 + number))).collect();
    assert_eq!(left.iter().filter(|left| left.starts_with(REWRITTEN)).count(), 6, "{left:?}");
    assert_eq!((left.iter().filter(|left| *left == REFUSED).count(), many.expected()), (14, 6), "{left:?}");
}

/// Of more servers than are remembered, the ports of the first are opened within TLS, and none of the others.
fn servers_that_are_learnt() {
    let mut config = exact();
    config.helper.policy.learn_tls_passive_ports = Some(10);
    let mut world = World::new(config);
    let mut session = |server: u16, client: u16, tls: bool| {
        let address = format!("198.51.{}.9", server);
        let (server, client, seen) =
            (format!("{address}:21"), format!("10.77.1.2:{client}"), format!("203.0.113.1:{client}"));
        world.forward(LAN, &tcp(&client, &server, SYN, 99, 0, ""));
        world.forward(WAN, &tcp(&server, &seen, SYN | ACK, 499, 100, ""));
        world.forward(WAN, &tcp(&server, &seen, PSH_ACK, 500, 100, "220 hi\r\n"));
        if tls {
            world.forward(LAN, &tcp(&client, &server, PSH_ACK, 100, 508, "AUTH TLS\r\n"));
            world.forward(WAN, &tcp(&server, &seen, PSH_ACK, 508, 110, "234 go\r\n"));
            return world.router.conntrack().expected();
        }
        world.forward(LAN, &tcp(&client, &server, PSH_ACK, 100, 508, "USER a\r\n"));
        world.forward(WAN, &tcp(&server, &seen, PSH_ACK, 508, 108, "230 in\r\n"));
        world.forward(LAN, &tcp(&client, &server, PSH_ACK, 108, 516, "PASV\r\n"));
        let reply = format!("227 ({},200,10)\r\n", address.replace('.', ","));
        world.forward(WAN, &tcp(&server, &seen, PSH_ACK, 516, 114, &reply));
        let data = world.forward(LAN, &tcp("10.77.1.2:50000", &format!("{address}:51210"), SYN, 1, 0, ""));
        assert!(!data.is_empty());
        0
    };
    for server in 0..80 {
        session(server, 41_000 + server, false);
    }
    let opened = session(0, 42_000, true);
    assert!(opened > 0, "the first server was learnt");
    assert_eq!(session(79, 42_079, true), opened, "nothing is opened for the last");
}

fn bytes_that_nobody_acknowledges() {
    let mut many = Many::log_in(4, own, |config| config.conntrack.limits.helped = 4);
    for number in 0..4 {
        assert_eq!(many.say(number, "PORT 10,77,"), "");
        assert!(many.say(number, &format!("1,{},31,144\r\n", 2 + number)).starts_with(REWRITTEN));
    }
    // Another connection has no helper: it does not begin.
    let (verdict, _) = many.world.send(LAN, &tcp("10.77.1.9:49999", SERVER, SYN, 99, 0, ""));
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    let mut sent = 0;
    for _ in 0..400 {
        many.world.now = many.world.now + Duration::from_secs(1);
        many.world.router.handle_timeout(many.world.now, &mut many.world.outbox);
        for packet in many.world.outbox.iter() {
            let said = text(packet.bytes);
            assert!(said.starts_with(REWRITTEN) && !said.contains("10,77"), "{said}");
            sent += 1;
        }
        many.world.outbox.clear();
    }
    assert!((4..=4 * 125).contains(&sent), "{sent}: it is sent again, and not for ever");
    for number in 0..4 {
        assert_eq!(many.say(number, "NOOP\r\n").lines().last(), Some("NOOP"));
    }
}

/// A segment as long as a packet can be, to a server that takes little: what leaves is the same, in as many segments.
fn a_segment_of_the_greatest_length() {
    let text = many_lines(1500);
    for (takes, window) in [(1460_u16, 0xfaf0_u16), (0, 0xfaf0), (1, 500), (536, 1), (65_535, 0xfaf0)] {
        let mut config = exact();
        config.interfaces.iter_mut().for_each(|interface| interface.mtu = 65_535);
        let mut talk = Talk { world: World::new(config), ..Talk::open() };
        talk.world.outbox = ftp_conntrack::router::Outbox::new(4096, 1 << 20);
        let mut answer = tcp(SERVER, OUTSIDE, SYN | ACK, 499, 100, "");
        answer[32] = 0x60;
        answer.extend([2, 4, takes.to_be_bytes()[0], takes.to_be_bytes()[1]]);
        for (interface, bytes) in [
            (LAN, tcp(CLIENT, SERVER, SYN, 99, 0, "")),
            (WAN, finish(answer)),
            (LAN, tcp(CLIENT, SERVER, PSH_ACK, 100, 500, "USER a\r\n")),
            (WAN, tcp(SERVER, OUTSIDE, PSH_ACK, 500, 108, "230 in\r\n")),
        ] {
            talk.world.forward(interface, &bytes);
        }
        talk.left = vec![(100, "USER a\r\n".into())];
        (talk.client, talk.server) = (108, 508);
        for _ in 0..6 {
            let has = talk.has().len() as u32;
            let mut answer = tcp(SERVER, OUTSIDE, ACK, 508, 100 + has, "");
            answer[34..36].copy_from_slice(&window.to_be_bytes());
            talk.world.forward(WAN, &finish(answer));
            talk.world.outbox.clear();
            talk.send(&tcp(CLIENT, SERVER, PSH_ACK, 108, 508, &text.as_bytes()[..40_000]));
            let most = talk.left.iter().map(|(_, text)| text.len()).max().unwrap();
            assert!(
                most <= usize::from(takes.max(16)) || takes == 0,
                "{most} bytes in a segment; the server takes {takes}"
            );
            talk.holds();
        }
        let expected = text.replace("10,77,1,2", "203,0,113,1");
        assert!(format!("USER a\r\n{expected}").starts_with(&talk.has()), "{}", talk.has());
        assert!(talk.has().len() > 8 || window < 10);
    }
}

/// A scale beyond the greatest counts as the greatest.
fn a_window_of_any_scale() {
    for scale in [0, 14, 15, 255] {
        let mut talk = Talk { world: world(), ..Talk::open() };
        let with_scale = |mut bytes: Vec<u8>| {
            bytes[32] = 0x60;
            bytes.extend([3, 3, scale, 0]);
            finish(bytes)
        };
        talk.world.forward(LAN, &with_scale(tcp(CLIENT, SERVER, SYN, 99, 0, "")));
        talk.world.forward(WAN, &with_scale(tcp(SERVER, OUTSIDE, SYN | ACK, 499, 100, "")));
        talk.world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 100, 500, "USER a\r\n"));
        talk.world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 500, 108, "230 in\r\n"));
        let left = talk.world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 108, 508, PORT));
        assert!(text(&left).starts_with(REWRITTEN), "{scale}");
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
    let mut config = exact();
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
        (LAN, tcp(CLIENT, SERVER, PSH_ACK, 131, 519, "PORT 10,77,1,2,31,145\r\n")),
        (WAN, tcp("198.51.100.9:20", "203.0.113.1:8080", SYN, 1, 0, "")),
        (LAN, tcp("10.77.1.2:8080", "198.51.100.9:20", SYN | ACK, 1, 2, "")),
        (WAN, tcp("198.51.100.9:20", "203.0.113.1:8080", ACK, 2, 2, "")),
    ] {
        talk.world.forward(interface, &bytes);
    }
    for round in 0..30 {
        talk.world.now = talk.world.now + Duration::from_secs(200);
        if round == 4 {
            // An endpoint announced before the transfer is still expected.
            let next = tcp("198.51.100.9:20", "203.0.113.1:8081", SYN, 1, 0, "");
            assert!(!talk.world.forward(WAN, &next).is_empty());
        }
        talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
        talk.world.forward(WAN, &tcp("198.51.100.9:20", "203.0.113.1:8080", ACK, 2, 2, ""));
    }
    let done = talk.world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 519, 158, "226 done\r\n"));
    assert_eq!(text(&done), "226 done\r\n");
    // When both are silent, both are forgotten.
    talk.world.now = talk.world.now + Duration::from_secs(2000);
    talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
    talk.world.now = talk.world.now + Duration::from_secs(100);
    talk.world.router.handle_timeout(talk.world.now, &mut talk.world.outbox);
    assert!(talk.world.router.conntrack().is_empty(), "{}", talk.world.table());
}
