//! Times from both ends of their range, and leaps between them: every call returns, and nothing is due for ever.

use crate::common::*;
use ftp_conntrack::config::parse_ipvs_rules;
use ftp_conntrack::inspect::{FramePos, Inspector, Options, Sink};
use ftp_conntrack::{Behaviour, Instant};

struct Nothing;

impl Sink for Nothing {}

/// Moments at both ends, with those next to them, and one between.
const MOMENTS: [i64; 8] =
    [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 300_000_000, i64::MAX - 262_144, i64::MAX - 1, i64::MAX];

/// Every leap from one of the moments to another.
fn leaps() -> impl Iterator<Item = Instant> {
    MOMENTS.iter().flat_map(|from| MOMENTS.iter().flat_map(|to| [*from, *to])).map(Instant::from_micros)
}

/// Does what is due, as embedders do it: until the router says that nothing is.
fn settle(world: &mut World) {
    let mut calls = 0;
    while world.router.poll_at().is_some_and(|at| at <= world.now) {
        world.router.handle_timeout(world.now, &mut world.outbox);
        calls += 1;
        assert!(calls < 10_000, "something is always due at {}", world.now);
    }
    world.outbox.clear();
}

/// A control connection, an announcement, part of a line, the data connection, and a part of a packet.
fn session(world: &mut World, port: u16, to: &str) {
    let client = format!("10.77.1.2:{port}");
    let (outside, data) = (format!("203.0.113.1:{port}"), format!("203.0.113.1:{}", 1025));
    let mut fragment = tcp(&client, to, PSH_ACK, 1, 1, "abcd");
    fragment[6] = 0x20;
    for (interface, bytes) in [
        (LAN, tcp(&client, to, SYN, 89, 0, "")),
        (WAN, tcp(to, &outside, SYN | ACK, 489, 90, "")),
        (LAN, tcp(&client, to, ACK, 90, 490, "")),
        (WAN, tcp(to, &outside, PSH_ACK, 490, 90, "220 ready\r\n")),
        (LAN, tcp(&client, to, PSH_ACK, 90, 501, "USER ftp \r\n")),
        (WAN, tcp(to, &outside, PSH_ACK, 501, 101, "230 in\r\n")),
        (LAN, tcp(&client, to, PSH_ACK, 101, 509, "PORT 10,77,1,2,4,1\r\n")),
        (LAN, tcp(&client, to, PSH_ACK, 121, 509, "PORT 10,77")),
        (WAN, tcp("198.51.100.9:20", &data, SYN, 1, 0, "")),
        (LAN, fragment),
    ] {
        world.send(interface, &bytes);
    }
}

#[test]
fn a_router_never_hangs_at_the_ends_of_time() {
    for behaviour in [Behaviour::Linux, Behaviour::Exact] {
        let mut config = config(MASQUERADE);
        config.helper = config.helper.behaving(behaviour);
        let mut world = World::new(config);
        for (round, now) in leaps().enumerate() {
            world.now = now;
            session(&mut world, 20_000 + round as u16, SERVER);
            settle(&mut world);
        }
        // Whatever lasts for ever at the end of time is gone once a moment is later than it.
        world.router.conntrack_mut().flush(world.now);
        assert!(world.router.conntrack().is_empty());
    }
}

#[test]
fn a_load_balancer_never_hangs_at_the_ends_of_time() {
    let services = "-A -t 198.51.100.9:21 -s rr -p 300\n-a -t 198.51.100.9:21 -r 198.51.100.11:21 -m\n\
        -a -t 198.51.100.9:21 -r 198.51.100.12:21 -m\n";
    let mut config = config("");
    let (mut ipvs, _) = parse_ipvs_rules("ipvs.rules", services).unwrap();
    ipvs.ftp_ports.push(21);
    config.interfaces[WAN] = config.interfaces[WAN].clone().with_address([198, 51, 100, 9].into(), 32);
    config.ipvs = Some(ipvs);
    let mut world = World::new(config);
    for (round, now) in leaps().enumerate() {
        world.now = now;
        let client = format!("10.77.1.{}:{}", 2 + round % 8, 20_000 + round);
        for real in ["198.51.100.11:21", "198.51.100.12:21"] {
            world.send(LAN, &tcp(&client, SERVER, SYN, 89, 0, ""));
            world.send(WAN, &tcp(real, &client, SYN | ACK, 489, 90, ""));
            world.send(LAN, &tcp(&client, SERVER, ACK, 90, 490, ""));
        }
        settle(&mut world);
    }
    assert!(world.router.ipvs().is_some_and(|ipvs| !ipvs.is_empty()), "something was balanced");
}

#[test]
fn an_inspector_never_hangs_at_the_ends_of_time() {
    let mut inspector = Inspector::new(Options::default());
    for (round, time) in leaps().enumerate() {
        let client = format!("10.77.1.2:{}", 20_000 + round);
        for bytes in [
            tcp(&client, SERVER, SYN, 89, 0, ""),
            tcp(SERVER, &client, SYN | ACK, 489, 90, ""),
            tcp(&client, SERVER, PSH_ACK, 90, 490, "PORT 10,77,1,2,4,1\r\n"),
            tcp("198.51.100.9:20", "10.77.1.2:1025", SYN, 1, 0, ""),
        ] {
            inspector.packet(FramePos { frame: round as u64, time }, &bytes, 0, &mut Nothing);
        }
    }
    assert!(inspector.finish(&mut Nothing).sessions > 0);
}
