//! Hostile load. With packets of any kind in any numbers, tables stay within their bounds, sessions that were there
//! before go on working, and counters say what was refused. Packets chosen to collide in the tables do not collide.
//! `HOSTILE_TIMES=1000000` tries each a million times.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::conntrack::{Direction, LongestChains, Tuple};
use ftp_conntrack::router::{RouterConfig, Verdict};

const CONNECTIONS: u32 = 2048;
const EXPECTATIONS: u32 = 64;
const HELPED: u32 = 256;
const WINDOWS: usize = 16;
/// So often each thing is tried.
static OFTEN: LazyLock<u32> = LazyLock::new(|| match std::env::var("HOSTILE_TIMES") {
    Ok(times) => times.parse().expect("HOSTILE_TIMES is a number"),
    Err(_) => 50_000,
});

fn world(behaviour: Behaviour) -> World {
    let mut config: RouterConfig = config(MASQUERADE);
    config.helper = config.helper.behaving(behaviour);
    config.helper.hold_buffers = WINDOWS;
    config.conntrack.limits.connections = CONNECTIONS;
    config.conntrack.limits.expectations = EXPECTATIONS;
    config.conntrack.limits.helped = HELPED;
    let mut world = World::new(config);
    world.login();
    world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 501, 101, "230 in\r\n"));
    world.forward(LAN, &tcp(CLIENT, SERVER, ACK, 101, 509, ""));
    world
}

/// The session that was there before announces, and its data connection comes; `round` tells one from the next.
fn still_works(world: &mut World, round: u32) {
    let (number, grown) = (101 + round * 20, 101 + round * 22);
    let left = world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, number, 509, "PORT 10,77,1,2,4,1\r\n"));
    assert_eq!((numbers(&left).0, text(&left).as_str()), (grown, "PORT 203,0,113,1,4,1\r\n"));
    let back = world.forward(WAN, &tcp(SERVER, OUTSIDE, ACK, 509, grown + 22, ""));
    assert_eq!(numbers(&back).1, number + 20);
    let from = format!("198.51.100.9:{}", 30_000 + round);
    let (verdict, data) = world.send(WAN, &tcp(&from, "203.0.113.1:1025", SYN, 1, 0, ""));
    assert!(matches!(verdict, Verdict::Forward { interface: LAN, .. }), "{verdict:?}");
    assert_eq!(data[16..20], [10, 77, 1, 2]);
    within_bounds(world);
}

fn within_bounds(world: &World) {
    let conntrack = world.router.conntrack();
    assert!(conntrack.len() <= CONNECTIONS as usize && conntrack.expected() <= EXPECTATIONS as usize);
}

/// Clients inside that differ from each other, and from [`CLIENT`].
fn client(i: u32) -> String {
    let [_, a, b, c] = (0x000a_0000 + i % 60_000).to_be_bytes();
    let port = 1024 + i / 60_000;
    format!("{}:{port}", Ipv4Addr::new(10, a.wrapping_add(100), b, c))
}

fn both(test: impl Fn(Behaviour)) {
    [Behaviour::Linux, Behaviour::Exact].into_iter().for_each(test);
}

#[test]
fn syns_that_nobody_answers() {
    both(|behaviour| {
        let mut world = world(behaviour);
        for i in 0..*OFTEN {
            world.send(LAN, &tcp(&client(i), "198.51.100.9:80", SYN, i, 0, ""));
            if i % (*OFTEN / 4) == 0 {
                still_works(&mut world, i / (*OFTEN / 4));
            }
        }
        let statistics = world.router.conntrack().statistics();
        assert!(statistics.early_drop + statistics.drop > 0, "{statistics:?}");
    });
}

#[test]
fn control_connections_that_nobody_answers() {
    both(|behaviour| {
        let mut world = world(behaviour);
        for i in 0..*OFTEN {
            world.send(LAN, &tcp(&client(i), SERVER, SYN, i, 0, ""));
        }
        still_works(&mut world, 0);
    });
}

#[test]
fn announcements_that_nobody_follows() {
    both(|behaviour| {
        let mut world = world(behaviour);
        // Another client, whose announcements are all different.
        let (other, outside) = ("10.77.1.3:4000", "203.0.113.1:4000");
        world.forward(LAN, &tcp(other, SERVER, SYN, 999, 0, ""));
        world.forward(WAN, &tcp(SERVER, outside, SYN | ACK, 4999, 1000, ""));
        world.forward(LAN, &tcp(other, SERVER, PSH_ACK, 1000, 5000, "USER ftp\r\n"));
        world.forward(WAN, &tcp(SERVER, outside, PSH_ACK, 5000, 1010, "230 in\r\n"));
        let (mut near, mut far) = (1010u32, 1010u32);
        for i in 0..*OFTEN {
            let line = format!("PORT 10,77,1,3,{},{}\r\n", 100 + i % 100, i / 100 % 100);
            let left = world.forward(LAN, &tcp(other, SERVER, PSH_ACK, near, 5008, &line));
            assert_eq!(numbers(&left).0, far);
            near += line.len() as u32;
            far += text(&left).len() as u32;
            world.forward(WAN, &tcp(SERVER, outside, ACK, 5008, far, ""));
            if i % (*OFTEN / 4) == 0 {
                still_works(&mut world, i / (*OFTEN / 4));
            }
        }
        assert!(world.router.conntrack().expected() <= 8);
    });
}

#[test]
fn lines_that_are_never_finished() {
    let mut world = world(Behaviour::Exact);
    for i in 0..HELPED * 4 {
        let client = client(i);
        world.send(LAN, &tcp(&client, SERVER, SYN, 999, 0, ""));
        world.send(LAN, &tcp(&client, SERVER, PSH_ACK, 1000, 1, "PORT 10,0,"));
        for piece in 0..20 {
            world.send(LAN, &tcp(&client, SERVER, PSH_ACK, 1010 + piece * 100, 1, &"1".repeat(100)));
        }
        within_bounds(&world);
    }
    still_works(&mut world, 0);
}

/// Somebody begins lines on as many connections as there are windows, and more: others have theirs held all the same, and of
/// none that is given up anything leaves.
#[test]
fn windows_that_one_client_takes() {
    for hosts in [1, 3] {
        let mut world = world(Behaviour::Exact);
        let attacker = |i: u32| format!("10.77.1.{}:{}", 10 + i % hosts, 1024 + i);
        let outside = |i: u32| format!("203.0.113.1:{}", 1024 + i);
        let begin = |world: &mut World, i: u32| {
            world.forward(LAN, &tcp(&attacker(i), SERVER, SYN, 999, 0, ""));
            world.forward(WAN, &tcp(SERVER, &outside(i), SYN | ACK, 4999, 1000, ""));
            world.forward(LAN, &tcp(&attacker(i), SERVER, PSH_ACK, 1000, 5000, "PORT 10,77,"));
        };
        (0..100).for_each(|i| begin(&mut world, i));
        let held = world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 509, "PORT 10,77,1,"));
        assert_eq!((numbers(&held).0, text(&held).as_str()), (101, ""));
        (100..200).for_each(|i| begin(&mut world, i));
        let whole = world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 114, 509, "2,4,1\r\n"));
        assert_eq!((numbers(&whole).0, text(&whole).as_str()), (101, "PORT 203,0,113,1,4,1\r\n"));
        // They were told that it arrived, and go on.
        let mut ends = Vec::new();
        for i in 0..200 {
            let rest = world.forward(LAN, &tcp(&attacker(i), SERVER, PSH_ACK, 1011, 5000, "1,9,4,1\r\nNOOP\r\n"));
            assert_eq!(numbers(&rest).0, 1000);
            ends.push(text(&rest));
        }
        let given_up = ends.iter().filter(|left| *left == "\nNOOP\r\n").count();
        let kept = ends.iter().filter(|left| *left == "PORT 0,0,0,0,0,0\r\nNOOP\r\n").count();
        assert_eq!((given_up + kept, given_up), (200, 200 - (WINDOWS - 1)), "{ends:?}");
    }
}

#[test]
fn segments_whose_beginning_never_comes() {
    let mut world = world(Behaviour::Exact);
    for i in 0..*OFTEN {
        let place = 200 + i.wrapping_mul(7919) % 60_000;
        world.send(LAN, &tcp(CLIENT, SERVER, PSH_ACK, place, 509, "PORT 10,77,1,2,9,9\r\n"));
    }
    still_works(&mut world, 0);
}

#[test]
fn fragments_whose_rest_never_comes() {
    both(|behaviour| {
        let mut world = world(behaviour);
        for i in 0..*OFTEN {
            let mut first = tcp(&client(i), "198.51.100.9:80", PSH_ACK, 1, 1, "a part of it....");
            first[4..6].copy_from_slice(&(i as u16).to_be_bytes());
            first[6] = 0x20; // more fragments
            let (verdict, _) = world.send(LAN, &finish_header(first));
            assert!(matches!(verdict, Verdict::Held | Verdict::Drop(_)), "{verdict:?}");
        }
        still_works(&mut world, 0);
    });
}

/// Sets the checksum of an IPv4 header alone.
fn finish_header(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[10..12].fill(0);
    let sum = ftp_conntrack::packet::checksum::fold(ftp_conntrack::packet::checksum::sum(&bytes[..20], 0));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An attacker knows how everything is hashed, and chooses what collides in a router of its own, which has another key. Sent
/// to a router whose key it does not know, that makes no longer chains than chance does.
struct Attack {
    config: RouterConfig,
    /// Makes the `i`th connection; gives where it comes from.
    attempt: fn(&mut World, u32) -> String,
    measure: fn(LongestChains) -> usize,
}

impl Attack {
    /// Number of entries chosen to collide, and the maximum that may.
    const CHAIN: usize = 16;
    const CHANCE: usize = 4;

    fn new(rules: &str, attempt: fn(&mut World, u32) -> String, measure: fn(LongestChains) -> usize) -> Self {
        let mut config = config(rules);
        config.helper = config.helper.behaving(Behaviour::Exact);
        config.helper.hold_buffers = 4;
        config.conntrack.limits.connections = 64;
        config.conntrack.limits.expectations = 64;
        config.conntrack.limits.helped = 64;
        Self { config, attempt, measure }
    }

    fn succeeds_only_with_the_key(&self) {
        let chosen = self.choose();
        let longest = |seeds: [u64; 4]| {
            let mut world = World::keyed(self.config.clone(), seeds);
            for i in &chosen {
                (self.attempt)(&mut world, *i);
            }
            (self.measure)(world.router.conntrack().longest_chains())
        };
        assert_eq!(longest([0; 4]), Self::CHAIN, "whoever has the key has them collide");
        for seeds in [[1, 2, 3, 4], [1, 0, 0, 0], [0, 1, 0, 0], [u64::MAX, 7, 0, 0]] {
            assert!(longest(seeds) <= Self::CHANCE, "{seeds:?}: {}", longest(seeds));
        }
    }

    /// Returns ports that lengthen the longest chain of a router whose key is known.
    fn choose(&self) -> Vec<u32> {
        let mut lab = World::keyed(self.config.clone(), [0; 4]);
        let mut chosen = Vec::new();
        for i in 0..100_000 {
            if chosen.len() == Self::CHAIN {
                break;
            }
            let source = (self.attempt)(&mut lab, i);
            let now = lab.now;
            let conntrack = lab.router.conntrack_mut();
            if (self.measure)(conntrack.longest_chains()) > chosen.len() {
                chosen.push(i);
            } else {
                let source: SocketAddr = source.parse().unwrap();
                let from = |tuple: &Tuple| SocketAddr::new(tuple.source(), tuple.source_port()) == source;
                let found = conntrack.iter(now).find(|(_, c)| from(c.tuple(Direction::Original)));
                let id = found.map(|(id, _)| id).unwrap();
                conntrack.delete(now, id);
            }
        }
        chosen
    }
}

fn dial(world: &mut World, i: u32) -> String {
    let source = format!("10.77.1.{}:{}", 2 + i % 200, 1024 + i / 200);
    world.forward(LAN, &tcp(&source, "198.51.100.9:80", SYN, i, 0, ""));
    source
}

/// A control connection that announces a port.
fn announce(world: &mut World, host: &str, (from, port): (u32, u32)) -> String {
    let client = format!("{host}:{from}");
    world.forward(LAN, &tcp(&client, SERVER, SYN, 999, 0, ""));
    world.forward(WAN, &tcp(SERVER, &client, SYN | ACK, 4999, 1000, ""));
    world.forward(LAN, &tcp(&client, SERVER, PSH_ACK, 1000, 5000, "USER ftp\r\n"));
    world.forward(WAN, &tcp(SERVER, &client, PSH_ACK, 5000, 1010, "230 in\r\n"));
    let line = format!("PORT {},{},{}\r\n", host.replace('.', ","), port >> 8, port & 255);
    assert_eq!(text(&world.forward(LAN, &tcp(&client, SERVER, PSH_ACK, 1010, 5008, &line))), line);
    client
}

const ROUTED: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";

#[test]
fn tuples_that_collide_under_another_key() {
    Attack::new(ROUTED, dial, |chains| chains.connections).succeeds_only_with_the_key();
}

#[test]
fn sources_that_collide_under_another_key() {
    Attack::new(MASQUERADE, dial, |chains| chains.sources).succeeds_only_with_the_key();
}

#[test]
fn announced_ports_that_collide_under_another_key() {
    let port = |world: &mut World, i| announce(world, "10.77.1.2", (1024 + i, 1024 + i));
    Attack::new(ROUTED, port, |chains| chains.expectations).succeeds_only_with_the_key();
}

#[test]
fn hosts_that_collide_under_another_key() {
    let host = |world: &mut World, i: u32| announce(world, &format!("10.77.{}.{}", i / 200, 2 + i % 200), (4000, 4001));
    Attack::new(ROUTED, host, |chains| chains.hosts).succeeds_only_with_the_key();
}
