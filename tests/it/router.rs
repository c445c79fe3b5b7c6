//! A router at work: what an embedder meets that no recording shows.

use std::time::Duration;

use crate::common::*;
use ftp_conntrack::config::parse_ipvs_rules;
use ftp_conntrack::event::{DestroyReason, DropReason, Event};
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Headers, Packet, checksum};
use ftp_conntrack::router::{Egress, Interface, Route, Verdict};

#[test]
fn a_packet_that_may_grow_asks_for_room_and_changes_nothing() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    let before = world.table();
    let port = tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n");

    let mut tight = [port.as_slice(), &[0; 8]].concat();
    let mut packet = Packet::new(&mut tight, 0..port.len()).unwrap();
    let verdict = world.router.process(world.now, LAN, &mut packet, &mut world.outbox);
    let Verdict::NeedsRoom(room) = verdict else { panic!("{verdict:?}") };
    assert!(room <= Packet::ROOM);
    assert_eq!((packet.bytes(), world.table()), (port.as_slice(), before));

    // With that much room the same call goes through.
    let mut roomy = [port.as_slice(), &vec![0; room]].concat();
    let mut packet = Packet::new(&mut roomy, 0..port.len()).unwrap();
    let verdict = world.router.process(world.now, LAN, &mut packet, &mut world.outbox);
    assert!(matches!(verdict, Verdict::Forward { interface: WAN, .. }), "{verdict:?}");
    assert_eq!(text(packet.bytes()), "PORT 203,0,113,1,4,1\r\n");
}

#[test]
fn nobody_else_sends_from_an_address_of_the_router() {
    let mut world = World::new(config(MASQUERADE));
    for own in ["203.0.113.1:40000", "127.0.0.1:40000"] {
        let (verdict, _) = world.send(LAN, &tcp(own, SERVER, SYN, 1, 0, ""));
        assert_eq!(verdict, Verdict::Drop(DropReason::NotForwardable), "{own}");
    }
    assert_eq!(world.table(), "");
}

#[test]
fn nobody_else_answers_in_the_name_of_the_router_either() {
    let mut world = World::new(config(""));
    let router = "203.0.113.1:22";
    assert_eq!(world.send(LAN, &tcp(CLIENT, router, SYN, 1, 0, "")).0, Verdict::Local);
    // In reply direction of a connection that is known.
    for interface in [WAN, LAN] {
        let (verdict, _) = world.send(interface, &tcp(router, CLIENT, SYN | ACK, 1, 2, ""));
        assert_eq!(verdict, Verdict::Drop(DropReason::NotForwardable));
    }
}

#[test]
fn table_security_drops_what_table_filter_lets_pass() {
    let rules = "*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n*security\n-A FORWARD -p tcp --dport 21 -j DROP\nCOMMIT\n";
    let mut world = World::new(config(rules));
    let (verdict, _) = world.send(LAN, &tcp(CLIENT, SERVER, SYN, 1, 0, ""));
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    let other = SERVER.replace(":21", ":22");
    let (verdict, _) = world.send(LAN, &tcp(CLIENT, &other, SYN, 1, 0, ""));
    assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    // Once it is established, the fast path asks the table too.
    let late = "*security\n-A FORWARD -p tcp -m tcp --tcp-flags FIN FIN -j DROP\nCOMMIT\n";
    let mut world = World::new(config(&[MASQUERADE, late].join("\n")));
    world.login();
    let (verdict, _) = world.send(LAN, &tcp(CLIENT, SERVER, PSH_ACK | 1, 101, 501, "NOOP\r\n"));
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
}

/// A packet with IPv4 options, and its header's checksum.
fn with_options(bytes: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&bytes[..20], options, &bytes[20..]].concat();
    packet[0] = 0x45 + options.len() as u8 / 4;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::fold(checksum::sum(&packet[..20 + options.len()], 0));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn a_header_with_entries_of_this_router_has_a_right_checksum_whichever_way_it_goes() {
    const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
    let is_right = |(verdict, bytes): (Verdict, Vec<u8>)| {
        assert_eq!(bytes[22], 8, "{verdict:?}: an entry was made");
        Headers::find(&bytes).unwrap().header_checksum_ok(&bytes)
    };
    let onward = with_options(&tcp(CLIENT, SERVER, SYN, 1, 0, ""), &RECORD_ROUTE);
    assert!(is_right(World::new(config("")).send(LAN, &onward)));
    // By an interface without an address.
    let mut unnumbered = config("");
    unnumbered.interfaces[WAN] = Interface::new("wan");
    assert!(is_right(World::new(unnumbered).send(LAN, &onward)));
    // For this machine.
    let here = with_options(&tcp(CLIENT, "203.0.113.1:22", SYN, 1, 0, ""), &RECORD_ROUTE);
    assert!(is_right(World::new(config("")).send(LAN, &here)));
    // To a real server.
    for way in ["-m", "-g"] {
        let service = format!("-A -t 203.0.113.1:80 -s rr\n-a -t 203.0.113.1:80 -r 10.77.1.9:80 {way} -w 1\n");
        let mut director = config("");
        director.ipvs = Some(parse_ipvs_rules("ipvs.rules", &service).unwrap().0);
        let served = with_options(&tcp("198.51.100.7:5000", "203.0.113.1:80", SYN, 1, 0, ""), &RECORD_ROUTE);
        assert!(is_right(World::new(director).send(WAN, &served)), "{way}");
    }
}

#[test]
fn a_route_behind_many_others_is_followed() {
    let mut many = config(MASQUERADE);
    let routes = (0..66_000u32).map(|n| Cidr::new((0x0b00_0000 + n).to_be_bytes().into(), 32).unwrap());
    many.routes.extend(routes.map(|destination| Route::on_link(destination, LAN)));
    let mut world = World::new(many);
    world.login();
    for _ in 0..3 {
        let (verdict, _) = world.send(LAN, &tcp(CLIENT, SERVER, ACK, 101, 501, ""));
        assert!(matches!(verdict, Verdict::Forward { interface: WAN, .. }), "{verdict:?}");
    }
}

#[test]
fn the_numbers_move_with_the_text() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    let port = tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n");
    assert_eq!(numbers(&world.forward(LAN, &port)), (101, 501));
    assert_eq!(numbers(&world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 121, 501, "NOOP\r\n"))), (123, 501));
    let acknowledged = world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 501, 129, "200 ok\r\n"));
    assert_eq!(numbers(&acknowledged), (501, 127));
}

#[test]
fn an_announced_connection_comes_through_and_no_other_does() {
    let rules = format!(
        "{MASQUERADE}*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i lan -j ACCEPT\n\
         -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n"
    );
    let mut world = World::new(config(&rules));
    world.login();
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
    let (verdict, _) = world.send(WAN, &tcp("198.51.100.9:20", "203.0.113.1:1026", SYN, 1, 0, ""));
    // To a port that nobody announced: for the router itself, which has no INPUT rules here.
    assert_eq!(verdict, Verdict::Local);
    let (verdict, data) = world.send(WAN, &tcp("198.51.100.9:20", "203.0.113.1:1025", SYN, 1, 0, ""));
    assert!(matches!(verdict, Verdict::Forward { interface: LAN, .. }), "{verdict:?}");
    assert_eq!(data[16..20], [10, 77, 1, 2]);
    let events: Vec<Event> = std::iter::from_fn(|| world.router.poll_event()).map(|(_, event)| event).collect();
    assert!(events.iter().any(|event| matches!(event, Event::Fulfilled { .. })), "{events:#?}");
}

#[test]
fn an_expectation_ends_with_its_time_whether_or_not_anybody_calls() {
    for call in [false, true] {
        let mut world = World::new(config(MASQUERADE));
        world.login();
        world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
        assert!(world.table().contains("sport=0 dport=1025"), "{}", world.table());
        world.now = world.now + Duration::from_secs(300);
        if call {
            world.router.handle_timeout(world.now, &mut world.outbox);
        }
        let (verdict, _) = world.send(WAN, &tcp("198.51.100.9:20", "203.0.113.1:1025", SYN, 1, 0, ""));
        assert_eq!(verdict, Verdict::Local);
        assert!(!world.table().contains("sport=0"), "{}", world.table());
    }
}

#[test]
fn an_expectation_ends_with_its_master() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
    world.forward(LAN, &tcp(CLIENT, SERVER, RST | ACK, 121, 501, ""));
    assert!(world.table().contains("sport=0 dport=1025"), "{}", world.table());
    // CLOSE lasts ten seconds.
    world.now = world.now + Duration::from_secs(11);
    let (verdict, _) = world.send(WAN, &tcp("198.51.100.9:20", "203.0.113.1:1025", SYN, 1, 0, ""));
    assert_eq!(verdict, Verdict::Local);
}

#[test]
fn time_may_step_back() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    world.now = world.now + Duration::from_secs(200);
    world.router.handle_timeout(world.now, &mut world.outbox);
    world.now = ftp_conntrack::Instant::from_secs(900);
    world.router.handle_timeout(world.now, &mut world.outbox);
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "NOOP\r\n"));
    assert!(world.table().contains("ESTABLISHED"), "{}", world.table());
}

#[test]
fn a_full_table_gives_up_what_is_not_assured() {
    let mut config = config(MASQUERADE);
    config.conntrack.limits = ftp_conntrack::conntrack::Limits::new(64, 16, 16);
    let mut world = World::new(config);
    world.login();
    let mut dropped = 0;
    for port in 0..10_000_u16 {
        let syn = tcp(&format!("10.77.1.3:{}", 1024 + port), "198.51.100.9:80", SYN, 1, 0, "");
        match world.send(LAN, &syn).0 {
            Verdict::Forward { .. } => {}
            Verdict::Drop(DropReason::TableFull) => dropped += 1,
            verdict => panic!("{verdict:?}"),
        }
        assert!(world.router.conntrack().len() <= 64);
    }
    assert!(dropped < 1000, "{dropped} of 10000 found no room");
    // The connection that both sides know lives on.
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
}

#[test]
fn what_is_deleted_is_gone() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
    let id = world.router.conntrack().iter(world.now).next().unwrap().0;
    assert!(world.router.conntrack_mut().delete(world.now, id));
    assert!(!world.router.conntrack_mut().delete(world.now, id));
    assert_eq!(world.table(), "");
    let reasons: Vec<DestroyReason> = std::iter::from_fn(|| world.router.poll_event())
        .filter_map(|(_, event)| match event {
            Event::Destroyed { reason, .. } | Event::Unfulfilled { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [DestroyReason::Deleted, DestroyReason::Master]);
}

#[test]
fn the_senders_of_dropped_packets_are_told() {
    let mut world =
        World::new(config("*filter\n-A FORWARD -p tcp --dport 25 -j REJECT --reject-with tcp-reset\nCOMMIT\n"));
    let mut dying = tcp(CLIENT, SERVER, SYN, 1, 0, "");
    dying[8] = 1;
    assert_eq!(world.send(LAN, &finish(dying)).0, Verdict::Drop(DropReason::HopLimit));
    let sent: Vec<_> = world.outbox.iter().map(|sent| (sent.egress, sent.bytes.to_vec())).collect();
    let [(Egress::Forward { interface: LAN, .. }, error)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&error[12..16], &error[20..22]), (&[10, 77, 1, 1][..], &[11, 0][..]));

    world.outbox.clear();
    let mail = tcp(CLIENT, "198.51.100.9:25", SYN, 1, 0, "");
    assert_eq!(world.send(LAN, &mail).0, Verdict::Drop(DropReason::Rejected));
    let sent: Vec<_> = world.outbox.iter().map(|sent| sent.bytes.to_vec()).collect();
    assert_eq!((numbers(&sent[0]), sent[0][33]), ((0, 2), RST | ACK));
    assert!(world.router.conntrack().is_empty());
}

#[test]
fn what_a_sender_is_told_passes_the_rules_for_what_the_router_sends() {
    let rejects = |with| {
        format!(
            "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -m state --state RELATED -j ACCEPT\n\
             -A INPUT -p tcp -j REJECT --reject-with {with}\nCOMMIT\n"
        )
    };
    let syn = tcp(CLIENT, "203.0.113.1:21", SYN, 1, 0, "");
    // It is related to a connection that never begins.
    for (with, protocol) in [("icmp-port-unreachable", 1), ("tcp-reset", 6)] {
        let mut world = World::new(config(&rejects(with)));
        assert_eq!(world.send(LAN, &syn).0, Verdict::Drop(DropReason::Rejected));
        let told: Vec<u8> = world.outbox.iter().map(|sent| sent.bytes[9]).collect();
        assert_eq!(told, [protocol], "{with}");
        assert!(world.router.conntrack().is_empty());

        // Table raw is asked about it as about anything else.
        let raw = format!("*raw\n-A OUTPUT -p {protocol} -j DROP\nCOMMIT\n{}", rejects(with));
        let mut world = World::new(config(&raw));
        assert_eq!(world.send(LAN, &syn).0, Verdict::Drop(DropReason::Rejected));
        assert_eq!(world.outbox.iter().count(), 0, "{with}");
    }
}

#[test]
fn what_the_router_sends_to_itself_leaves_and_arrives() {
    let rules = "*mangle\n-A POSTROUTING -p tcp --dport 22 -j DROP\n-A PREROUTING -p tcp --dport 23 -j DROP\nCOMMIT\n";
    // The connection has begun when the packet left.
    for (port, verdict, begun) in
        [(22, Verdict::Drop(DropReason::Rule), 0), (23, Verdict::Drop(DropReason::Rule), 1), (24, Verdict::Local, 1)]
    {
        let mut world = World::new(config(rules));
        let mut bytes = tcp("203.0.113.1:40000", &format!("10.77.1.1:{port}"), SYN, 1, 0, "");
        let end = bytes.len();
        bytes.resize(end + Packet::ROOM, 0);
        let mut packet = Packet::new(&mut bytes, 0..end).unwrap();
        assert_eq!(world.router.output(world.now, &mut packet, &mut world.outbox), verdict, "{port}");
        assert_eq!(world.router.conntrack().len(), begun, "{port}");
    }
}

#[test]
fn a_packet_that_is_too_long_leaves_in_parts_or_not_at_all() {
    let mut config = config("");
    config.interfaces[WAN].mtu = 576;
    let mut world = World::new(config);
    let mut long = tcp(CLIENT, SERVER, SYN, 1, 0, &"x".repeat(960));
    assert_eq!(world.send(LAN, &long).0, Verdict::Drop(DropReason::TooBig));
    assert_eq!(world.outbox.iter().next().unwrap().bytes[20..22], [3, 4]);
    world.outbox.clear();
    long[6] = 0;
    assert_eq!(world.send(LAN, &finish(long)).0, Verdict::Held);
    let lengths: Vec<usize> = world.outbox.iter().map(|sent| sent.bytes.len()).collect();
    assert_eq!(lengths, [572, 448]);
}

#[test]
fn the_same_seeds_and_packets_give_the_same_bytes() {
    let run = || {
        let mut world = World::new(config(MASQUERADE));
        let mut left = Vec::new();
        // Two clients with the same port: the second gets one at random.
        for client in ["10.77.1.2:40000", "10.77.1.3:40000", "10.77.1.4:40000"] {
            left.push(world.forward(LAN, &tcp(client, SERVER, SYN, 1, 0, "")));
        }
        left
    };
    let left = run();
    assert_eq!(left, run());
    assert_ne!(left[0][20..22], left[1][20..22]);
}

#[test]
fn a_rewritten_packet_never_leaves_with_a_checksum_of_zero() {
    let mut world = World::new(config(MASQUERADE));
    world.login();
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,4,1\r\n"));
    // Rewritten, and its numbers moved by the command before. With every window there is, one of its sums is zero.
    let mut port = tcp(CLIENT, SERVER, PSH_ACK, 121, 501, "PORT 10,77,1,2,4,2\r\n");
    let mut sums = Vec::new();
    for window in 0..=u16::MAX {
        port[34..36].copy_from_slice(&window.to_be_bytes());
        let left = world.forward(LAN, &finish(port.clone()));
        sums.push(u16::from_be_bytes([left[36], left[37]]));
    }
    assert!(!sums.contains(&0) && sums.contains(&0xffff));
}
