//! Under behaviour Exact too a load balancer allocates nothing while it processes packets.
#![allow(unsafe_code, reason = "a global allocator cannot be had without")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use common::*;
use ftp_conntrack::config::parse_ipvs_rules;
use ftp_conntrack::event::Event;
use ftp_conntrack::helper::HelperConfig;
use ftp_conntrack::packet::Packet;
use ftp_conntrack::router::{Interface, Verdict};
use ftp_conntrack::{Behaviour, ipvs};

/// The system's allocator, which counts what the current thread takes.
struct Counting;

thread_local! {
    // Constant and without a destructor: reaching it allocates nothing, whenever that is.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VIRTUAL: &str = "203.0.113.21:21";

/// A director whose real servers are reached in this way.
fn director(way: &str) -> World {
    let text = format!(
        "-A -t {VIRTUAL} -s rr\n-a -t {VIRTUAL} -r 10.77.1.11:21 {way}\n-a -t {VIRTUAL} -r 10.77.1.12:21 {way}\n"
    );
    let ipvs: ipvs::IpvsConfig = parse_ipvs_rules("ipvs.rules", &text).unwrap().0;
    let mut config = config("");
    config.interfaces[WAN] =
        Interface::new("wan").with_address([203, 0, 113, 1].into(), 24).with_address([203, 0, 113, 21].into(), 32);
    config.helper = HelperConfig::default().behaving(Behaviour::Exact);
    config.helper.policy.require_login = false;
    config.helper_ports.push(21);
    config.ipvs = Some(ipvs);
    World::new(config)
}

/// Sends a packet in that must leave, and nothing may be allocated meanwhile.
fn send(world: &mut World, interface: usize, bytes: &[u8]) {
    let mut buffer = [bytes, &[0; Packet::ROOM]].concat();
    let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
    let before = COUNT.get();
    let verdict = world.router.process(world.now, interface, &mut packet, &mut world.outbox);
    assert_eq!(COUNT.get() - before, 0, "calls of the allocator");
    assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    world.outbox.clear();
}

/// Lets all be forgotten, without calls of the allocator; gives how many of the events so far are of this kind.
fn end(world: &mut World, wanted: fn(&Event) -> bool) -> usize {
    let told = std::iter::from_fn(|| world.router.poll_event()).filter(|(_, event)| wanted(event)).count();
    let before = COUNT.get();
    while let Some(at) = world.router.poll_at() {
        world.now = world.now.max(at) + Duration::from_micros(1);
        world.router.handle_timeout(world.now, &mut world.outbox);
    }
    assert_eq!(COUNT.get() - before, 0, "calls of the allocator");
    assert!(world.router.ipvs().is_some_and(ipvs::Ipvs::is_empty) && world.router.conntrack().is_empty());
    told
}

#[test]
fn following_by_expectation() {
    let mut world = director("-m");
    let (client, real) = ("198.51.100.7:40000", "10.77.1.12:21");
    send(&mut world, WAN, &tcp(client, VIRTUAL, SYN, 1000, 0, ""));
    send(&mut world, LAN, &tcp(real, client, SYN | ACK, 5000, 1001, ""));
    send(&mut world, WAN, &tcp(client, VIRTUAL, ACK, 1001, 5001, ""));
    send(&mut world, LAN, &tcp(real, client, PSH_ACK, 5001, 1001, "230 in\r\n"));
    send(&mut world, WAN, &tcp(client, VIRTUAL, PSH_ACK, 1001, 5009, "PASV\r\n"));
    send(&mut world, LAN, &tcp(real, client, PSH_ACK, 5009, 1007, "227 Ok (10,77,1,12,78,52).\r\n"));
    send(&mut world, WAN, &tcp("198.51.100.7:40001", "203.0.113.21:20020", SYN, 1, 0, ""));
    send(&mut world, LAN, &tcp("10.77.1.12:20020", "198.51.100.7:40001", SYN | ACK, 1, 2, ""));
    let fulfilled = end(&mut world, |event| matches!(event, Event::Fulfilled { .. }));
    assert_eq!(fulfilled, 1);
}

#[test]
fn following_a_pasv() {
    for way in ["-g", "-i"] {
        let mut world = director(way);
        let clients = ["198.51.100.7:40000", "198.51.100.7:41000"];
        for client in clients {
            send(&mut world, WAN, &tcp(client, VIRTUAL, SYN, 1000, 0, ""));
            send(&mut world, WAN, &tcp(client, VIRTUAL, ACK, 1001, 1, ""));
        }
        send(&mut world, WAN, &tcp(clients[0], VIRTUAL, PSH_ACK, 1001, 1, "PASV\r\n"));
        send(&mut world, WAN, &tcp("198.51.100.7:50000", "203.0.113.21:20020", SYN, 1, 0, ""));
        for client in clients {
            send(&mut world, WAN, &tcp(client, VIRTUAL, PSH_ACK, 1007, 1, "EPSV\r\n"));
        }
        let arrived = end(&mut world, |event| matches!(event, Event::BalancedDataArrived { .. }));
        assert_eq!(arrived, 1);
    }
}
