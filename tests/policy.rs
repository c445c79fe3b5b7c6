//! The attacks that announcements make, and their outcome under behaviour Exact.

mod common;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::event::Event;
use ftp_conntrack::helper::RefusalReason;
use ftp_conntrack::packet::Packet;
use ftp_conntrack::router::Verdict;

/// A connection to [`SERVER`]; both ends say their lines in turn.
struct Talk {
    world: World,
    /// The client inside, and how it is seen outside.
    client: [&'static str; 2],
    next: [u32; 2],
    far: [u32; 2],
}

impl Talk {
    fn new(change: impl FnOnce(&mut ftp_conntrack::helper::Policy)) -> Self {
        let mut config = config(MASQUERADE);
        config.helper = config.helper.behaving(Behaviour::Exact);
        change(&mut config.helper.policy);
        Self::open(World::new(config), [CLIENT, OUTSIDE])
    }

    fn open(mut world: World, client: [&'static str; 2]) -> Self {
        world.forward(LAN, &tcp(client[0], SERVER, SYN, 999, 0, ""));
        world.forward(WAN, &tcp(SERVER, client[1], SYN | ACK, 4999, 1000, ""));
        Self { world, client, next: [1000, 5000], far: [1000, 5000] }
    }

    fn logged_in(change: impl FnOnce(&mut ftp_conntrack::helper::Policy)) -> Self {
        let mut talk = Self::new(change);
        talk.log_in();
        talk
    }

    fn log_in(&mut self) {
        for (who, line) in
            [(1, "220 hi\r\n"), (0, "USER a\r\n"), (1, "331 pass\r\n"), (0, "PASS b\r\n"), (1, "230 in\r\n")]
        {
            self.says(who, line);
        }
    }

    /// One side says a line; gives what the other gets.
    fn says(&mut self, who: usize, text_said: &str) -> String {
        let (interface, ends) = [(LAN, [self.client[0], SERVER]), (WAN, [SERVER, self.client[1]])][who];
        let packet = tcp(ends[0], ends[1], PSH_ACK, self.next[who], self.far[1 - who], text_said);
        let left = text(&self.world.forward(interface, &packet));
        self.next[who] += text_said.len() as u32;
        self.far[who] += left.len() as u32;
        left
    }

    fn denied(&mut self) -> Vec<RefusalReason> {
        let events = std::iter::from_fn(|| self.world.router.poll_event());
        let denied = events.filter_map(|(_, event)| match event {
            Event::Denied { reason, .. } => Some(reason),
            _ => None,
        });
        denied.collect()
    }

    fn reaches_inside(&mut self, port: u16) -> bool {
        let syn = tcp("198.51.100.9:20", &format!("203.0.113.1:{port}"), SYN, 1, 0, "");
        matches!(self.world.send(WAN, &syn).0, Verdict::Forward { .. })
    }
}

/// RFC 2577 section 3: a client has the server open connections to others.
#[test]
fn the_bounce_attack() {
    let mut talk = Talk::logged_in(|_| {});
    assert_eq!(talk.says(0, "PORT 192,0,2,25,0,25\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.says(0, "EPRT |1|10.77.1.9|4000|\r\n"), "EPRT |1|0.0.0.0|0|\r\n");
    let foreign = |address: &str| RefusalReason::ForeignAddress(address.parse().unwrap());
    assert_eq!(talk.denied(), [foreign("192.0.2.25"), foreign("10.77.1.9")]);
    assert_eq!(talk.world.router.conntrack().expected(), 0);
}

#[test]
fn transfers_between_servers_that_are_allowed() {
    let other = "192.0.2.25".parse().unwrap();
    let mut talk = Talk::logged_in(|policy| policy.allowed_third_parties = Some([other..=other].into()));
    assert_eq!(talk.says(0, "PORT 192,0,2,25,40,25\r\n"), "PORT 192,0,2,25,40,25\r\n");
    assert_eq!(talk.denied(), []);
}

/// A page makes a browser inside send a form to port 21 of the attacker's server. A segment then begins with PORT, and
/// the NAT opens a port of the victim (NAT slipstreaming). The server answers as if it were one of FTP.
#[test]
fn nat_slipstreaming() {
    let mut talk = Talk::new(|_| {});
    talk.says(0, "POST / HTTP/1.1\r\nHost: attacker.example:21\r\nContent-Length: 5000\r\n\r\n");
    talk.says(1, "220 hi\r\n");
    talk.says(0, "USER a\r\n");
    talk.says(1, "331 pass\r\n");
    talk.says(0, "PASS b\r\n");
    talk.says(1, "230 in\r\n");
    assert_eq!(talk.says(0, "PORT 10,77,1,2,13,61\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.denied(), [RefusalReason::NotFtp]);
    assert!(!talk.reaches_inside(3389));
    // As Linux has it, the port is open.
    let mut linux = World::new(config(MASQUERADE));
    linux.login();
    linux.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 101, 501, "PORT 10,77,1,2,13,61\r\n"));
    let syn = tcp("198.51.100.9:20", "203.0.113.1:3389", SYN, 1, 0, "");
    assert!(matches!(linux.send(WAN, &syn).0, Verdict::Forward { .. }));
}

/// A server behind a NAT of its own announces its address there; or it sends its clients to a third host.
#[test]
fn a_passive_address_that_is_not_the_servers() {
    let expected = |talk: &Talk| {
        let found = talk
            .world
            .router
            .conntrack()
            .iter_expectations(talk.world.now)
            .next()
            .map(|(_, expectation)| expectation.tuple());
        found.map(|tuple| format!("{} > {}:{}", tuple.source(), tuple.destination(), tuple.destination_port()))
    };
    let reply = "227 Entering Passive Mode (192,168,7,7,200,10).\r\n";
    let mut talk = Talk::logged_in(|_| {});
    talk.says(0, "PASV\r\n");
    assert_eq!(talk.says(1, reply), "227 Entering Passive Mode (198,51,100,9,200,10).\r\n");
    assert_eq!(expected(&talk).as_deref(), Some("10.77.1.2 > 198.51.100.9:51210"));
    let events: Vec<Event> = std::iter::from_fn(|| talk.world.router.poll_event()).map(|(_, event)| event).collect();
    let said = "192.168.7.7".parse::<std::net::IpAddr>().unwrap();
    let tells = |event: &Event| matches!(event, Event::Announced { address, port: 51210, .. } if *address == said);
    assert!(events.iter().any(tells) && !events.iter().any(|event| matches!(event, Event::Denied { .. })));
    // Not without being asked, and not at the port of a server.
    assert_eq!(talk.says(1, reply), "425 No data connection.\r\n");
    talk.says(0, "PASV\r\n");
    assert_eq!(talk.says(1, "227 (192,168,7,7,0,22)\r\n"), "425 No data connection.\r\n");
    assert_eq!(talk.denied(), [RefusalReason::Unasked, RefusalReason::LowPort(22)]);

    let mut strict = Talk::logged_in(|policy| policy.rewrite_foreign_pasv = false);
    strict.says(0, "PASV\r\n");
    assert_eq!(strict.says(1, reply), "425 No data connection.\r\n");
    assert_eq!(strict.denied(), [RefusalReason::ForeignAddress("192.168.7.7".parse().unwrap())]);
    assert_eq!(expected(&strict), None);

    let other = "192.168.7.7".parse().unwrap();
    let mut allowed = Talk::logged_in(|policy| policy.allowed_third_parties = Some([other..=other].into()));
    allowed.says(0, "PASV\r\n");
    assert_eq!(allowed.says(1, reply), reply);
    assert_eq!(expected(&allowed).as_deref(), Some("10.77.1.2 > 192.168.7.7:51210"));
}

/// The same where nothing is translated and the address is of another kind, and where the server is inside and names
/// another host there.
#[test]
fn a_passive_address_is_mended_behind_any_router() {
    const HELPER: &str = "*raw\n-A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";
    const DNAT: &str = "*nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n";
    let (client, inside) = ("198.51.100.9:40000", "10.77.1.2:21");
    for (rules, public, named, shown) in [
        (HELPER.to_owned(), inside, "192,0,2,9", "10,77,1,2"),
        ([HELPER, DNAT].concat(), "203.0.113.1:21", "10,77,1,9", "203,0,113,1"),
    ] {
        let mut config = config(&rules);
        config.helper = config.helper.behaving(Behaviour::Exact);
        let mut world = World::new(config);
        world.forward(WAN, &tcp(client, public, SYN, 999, 0, ""));
        world.forward(LAN, &tcp(inside, client, SYN | ACK, 4999, 1000, ""));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1000, 5000, "USER a\r\n"));
        world.forward(LAN, &tcp(inside, client, PSH_ACK, 5000, 1008, "230 in\r\n"));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1008, 5008, "PASV\r\n"));
        let left = world.forward(LAN, &tcp(inside, client, PSH_ACK, 5008, 1014, &format!("227 ={named},200,10\r\n")));
        assert_eq!(text(&left), format!("227 ={shown},200,10\r\n"));
        let to = public.replace(":21", ":51210");
        let (verdict, packet) = world.send(WAN, &tcp("198.51.100.9:6000", &to, SYN, 1, 0, ""));
        assert!(matches!(verdict, Verdict::Forward { interface: LAN, .. }), "{verdict:?}");
        assert_eq!(packet[16..20], [10, 77, 1, 2], "to the server, not to whom it named");
        let related = world.router.conntrack().iter(world.now).filter(|(_, connection)| connection.master().is_some());
        assert_eq!(related.count(), 1);
    }
}

#[test]
fn ports_of_servers() {
    let mut talk = Talk::logged_in(|_| {});
    assert_eq!(talk.says(0, "PORT 10,77,1,2,0,22\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.denied(), [RefusalReason::LowPort(22)]);
    assert!(!talk.reaches_inside(22));
}

#[test]
fn before_login() {
    let mut talk = Talk::new(|_| {});
    talk.says(1, "220 hi\r\n");
    talk.says(0, "USER a\r\n");
    talk.says(1, "331 pass\r\n");
    assert_eq!(talk.says(0, "PORT 10,77,1,2,4,1\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.denied(), [RefusalReason::NotLoggedIn]);
    let mut lenient = Talk::new(|policy| policy.require_login = false);
    assert_eq!(lenient.says(0, "PORT 10,77,1,2,4,1\r\n"), "PORT 203,0,113,1,4,1\r\n");
}

#[test]
fn a_passive_reply_that_nobody_asked_for() {
    let mut talk = Talk::logged_in(|_| {});
    assert_eq!(talk.says(1, "227 (198,51,100,9,100,1)\r\n"), "425 No data connection.\r\n");
    assert_eq!(talk.denied(), [RefusalReason::Unasked]);
}

#[test]
fn an_announcement_that_the_server_refuses_opens_nothing() {
    let mut talk = Talk::logged_in(|_| {});
    assert_eq!(talk.says(0, "PORT 10,77,1,2,4,1\r\n"), "PORT 203,0,113,1,4,1\r\n");
    assert_eq!(talk.world.router.conntrack().expected(), 1);
    talk.says(1, "500 no\r\n");
    assert_eq!(talk.world.router.conntrack().expected(), 0);
    assert!(!talk.reaches_inside(1025));
}

#[test]
fn several_at_once_and_no_more_than_that() {
    let mut talk = Talk::logged_in(|policy| policy.max_expectations = 2);
    for port in 1..=3 {
        talk.says(0, &format!("PORT 10,77,1,2,4,{port}\r\n"));
    }
    let reached: Vec<bool> = (1025..=1027).map(|port| talk.reaches_inside(port)).collect();
    assert_eq!(reached, [false, true, true]);
}

#[test]
fn a_client_has_its_share_and_no_more() {
    let mut talk = Talk::logged_in(|policy| policy.max_expectations_per_client = 3);
    for (client, shares) in [
        ([CLIENT, OUTSIDE], [true, true]),
        (["10.77.1.2:4001", "203.0.113.1:4001"], [true, false]),
        (["10.77.1.3:4002", "203.0.113.1:4002"], [true, true]),
    ] {
        if client[0] != CLIENT {
            talk = Talk::open(talk.world, client);
            talk.log_in();
        }
        let (host, _) = client[0].split_once(':').unwrap();
        let (host, low) = (host.replace('.', ","), client[0].as_bytes()[client[0].len() - 1]);
        let passed = [1, 2].map(|port| !talk.says(0, &format!("PORT {host},{low},{port}\r\n")).contains("0,0,0,0"));
        assert_eq!(passed, shares, "{client:?}");
    }
    assert_eq!(talk.denied(), [RefusalReason::ClientFull]);
}

/// The server stands behind the router, which lets in what belongs to its sessions and nothing else.
const FIREWALL: &str = "*raw\n-A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
    *nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n\
    *filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp --dport 21 -j ACCEPT\n\
    -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\nCOMMIT\n";

/// RFC 4217: where the server listens is said within TLS. Its passive ports are declared.
#[test]
fn the_declared_ports_of_sessions_within_tls() {
    let (client, public, server) = ("198.51.100.9:40000", "203.0.113.1:21", "10.77.1.2:21");
    for declared in [None, Some(50_000..=50_099)] {
        let mut config = config(FIREWALL);
        config.helper = config.helper.behaving(Behaviour::Exact);
        config.helper.policy.tls_passive_ports = declared.clone();
        let mut world = World::new(config);
        let dials = |world: &mut World, from: &str, port: u16| {
            let (verdict, packet) = world.send(WAN, &tcp(from, &format!("203.0.113.1:{port}"), SYN, 1, 0, ""));
            matches!(verdict, Verdict::Forward { interface: LAN, .. }).then(|| packet[16..24].to_vec())
        };
        world.forward(WAN, &tcp(client, public, SYN, 999, 0, ""));
        world.forward(LAN, &tcp(server, client, SYN | ACK, 4999, 1000, ""));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1000, 5000, "AUTH TLS\r\n"));
        assert_eq!(dials(&mut world, "198.51.100.9:6000", 50_000), None);
        world.forward(LAN, &tcp(server, client, PSH_ACK, 5000, 1010, "234 go on\r\n"));
        let events: Vec<Event> = std::iter::from_fn(|| world.router.poll_event()).map(|(_, event)| event).collect();
        let said = events.iter().any(|event| matches!(event, Event::Encrypted { passive, .. } if *passive == declared));
        assert!(said, "{events:#?}");

        // Any of them, as often as it likes, from its address; none that lies outside.
        for (from, port, may) in [
            ("198.51.100.9:6001", 50_000, true),
            ("198.51.100.9:6002", 50_099, true),
            ("198.51.100.9:6003", 50_000, true),
            ("198.51.100.9:6004", 49_999, false),
            ("198.51.100.9:6005", 50_100, false),
            ("198.51.100.8:6006", 50_000, false),
        ] {
            let [high, low] = u16::to_be_bytes(port);
            let reached = dials(&mut world, from, port);
            let expected = (may && declared.is_some()).then(|| vec![10, 77, 1, 2]);
            assert_eq!(reached.as_ref().map(|bytes| bytes[..4].to_vec()), expected, "{from} {port}");
            assert!(reached.is_none_or(|bytes| bytes[6..8] == [high, low]));
        }

        // It ends with the control connection.
        world.forward(WAN, &tcp(client, public, RST, 1010, 0, ""));
        world.now = world.now + std::time::Duration::from_secs(11);
        assert_eq!(dials(&mut world, "198.51.100.9:6007", 50_000), None);
    }
}

/// Without a declaration, they may be learnt: of the same server, from announcements where these could be read.
#[test]
fn the_learnt_ports_of_sessions_within_tls() {
    let (public, server) = ("203.0.113.1:21", "10.77.1.2:21");
    let open = |world: &mut World, client: &str| {
        world.forward(WAN, &tcp(client, public, SYN, 999, 0, ""));
        world.forward(LAN, &tcp(server, client, SYN | ACK, 4999, 1000, ""));
    };
    // A session in the clear, in which the server announces this port.
    let announces = |world: &mut World, client: &str, port: u16| {
        open(world, client);
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1000, 5000, "USER a\r\n"));
        world.forward(LAN, &tcp(server, client, PSH_ACK, 5000, 1008, "230 in\r\n"));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1008, 5008, "EPSV\r\n"));
        let reply = format!("229 Extended (|||{port}|)\r\n");
        text(&world.forward(LAN, &tcp(server, client, PSH_ACK, 5008, 1014, &reply)))
    };
    // One within TLS; which ports are open to its client then.
    let encrypts = |world: &mut World, client: &str| {
        open(world, client);
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1000, 5000, "AUTH TLS\r\n"));
        world.forward(LAN, &tcp(server, client, PSH_ACK, 5000, 1010, "234 go on\r\n"));
        let mut events = std::iter::from_fn(|| world.router.poll_event()).map(|(_, event)| event);
        events.find_map(|event| match event {
            Event::Encrypted { passive, .. } => Some(passive),
            _ => None,
        })
    };
    let dials = |world: &mut World, from: &str, port: u16| {
        let (verdict, _) = world.send(WAN, &tcp(from, &format!("203.0.113.1:{port}"), SYN, 1, 0, ""));
        matches!(verdict, Verdict::Forward { interface: LAN, .. })
    };
    for (widest, learnt) in [(None, None), (Some(100), Some(50_010..=50_020)), (Some(10), None)] {
        let mut config = config(FIREWALL);
        config.helper = config.helper.behaving(Behaviour::Exact);
        config.helper.policy.learn_tls_passive_ports = widest;
        let mut world = World::new(config);
        assert_eq!(encrypts(&mut world, "198.51.100.9:40000"), Some(None), "nothing is known yet");
        for (client, port) in [("198.51.100.7:1", 50_020), ("198.51.100.8:2", 50_010), ("198.51.100.8:3", 50_015)] {
            assert_eq!(announces(&mut world, client, port), format!("229 Extended (|||{port}|)\r\n"));
        }
        // A refused announcement teaches nothing.
        assert_eq!(announces(&mut world, "198.51.100.8:4", 99), "425 No data connection.\r\n");
        assert_eq!(encrypts(&mut world, "198.51.100.9:40001"), Some(learnt.clone()));
        let is_learnt = learnt.is_some();
        for (from, port, may) in [
            ("198.51.100.9:6000", 50_010, is_learnt),
            ("198.51.100.9:6001", 50_013, is_learnt),
            ("198.51.100.9:6002", 50_020, is_learnt),
            ("198.51.100.9:6003", 50_009, false),
            ("198.51.100.9:6004", 50_021, false),
            ("198.51.100.6:6005", 50_013, false),
        ] {
            assert_eq!(dials(&mut world, from, port), may, "{widest:?} {from} {port}");
        }
        world.forward(WAN, &tcp("198.51.100.9:40001", public, RST, 1010, 0, ""));
        world.now = world.now + std::time::Duration::from_secs(11);
        assert!(!dials(&mut world, "198.51.100.9:6006", 50_013), "it ends with the control connection");
        world.now = world.now + std::time::Duration::from_secs(24 * 60 * 60);
        assert_eq!(encrypts(&mut world, "198.51.100.9:40002"), Some(None), "what is old is forgotten");
    }
}

/// The client's own port is published by DNAT, and it announces the address by which it is seen (containers).
#[test]
fn a_client_may_announce_its_own_address_as_the_outside_sees_it() {
    let mut talk = Talk::logged_in(|_| {});
    let line = "PORT 203,0,113,1,82,38\r\n";
    assert_eq!(talk.says(0, line), line, "the text passes");
    assert_eq!((talk.denied(), talk.world.router.conntrack().expected()), (vec![], 0), "nothing is opened");
    assert_eq!(talk.says(0, "PORT 203,0,113,1,0,22\r\n"), "PORT 0,0,0,0,0,0\r\n");
    assert_eq!(talk.denied(), [RefusalReason::LowPort(22)]);
}

/// A front end names the server that has the data; clients reach it by that address.
#[test]
fn a_front_end_may_name_another_server() {
    for (server, line) in [
        ("198.51.100.9:21", "227 Entering Passive Mode (198,51,100,10,200,10).\r\n"),
        ("10.20.0.20:21", "227 Entering Passive Mode (10,20,0,19,200,10).\r\n"),
    ] {
        for (loose, expected) in [(false, 0), (true, 1)] {
            let mut config = config(MASQUERADE);
            config.helper = config.helper.behaving(Behaviour::Exact).loose(loose);
            config.helper.policy.require_login = false;
            let mut world = World::new(config);
            world.forward(LAN, &tcp(CLIENT, server, SYN, 999, 0, ""));
            world.forward(WAN, &tcp(server, OUTSIDE, SYN | ACK, 4999, 1000, ""));
            world.forward(LAN, &tcp(CLIENT, server, PSH_ACK, 1000, 5000, "PASV\r\n"));
            let left = world.forward(WAN, &tcp(server, OUTSIDE, PSH_ACK, 5000, 1006, line));
            assert_eq!(text(&left), line);
            assert_eq!(world.router.conntrack().expected(), expected, "{server}, loose: {loose}");
        }
    }
}

/// `loose=1` is the owner's word that other addresses may be announced; the policy may be narrower.
/// What curl, lftp, ftplib and wget read in an answer to PASV (`tests/servers/ask_clients.py`) is read, wherever it is cut.
#[test]
fn odd_answers_to_pasv_are_refused_and_no_inside_address_leaves() {
    const DNAT: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
                        *nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n";
    let heard = |said: &str, cut: usize| {
        let mut config = config(DNAT);
        config.helper = config.helper.behaving(Behaviour::Exact);
        // Small tables: a router is made for each case.
        config.helper.hold_buffers = 4;
        (config.conntrack.limits.connections, config.conntrack.limits.helped) = (16, 4);
        let mut world = World::new(config);
        let (client, public, server) = ("198.51.100.9:5000", "203.0.113.1:21", "10.77.1.2:21");
        world.forward(WAN, &tcp(client, public, SYN, 999, 0, ""));
        world.forward(LAN, &tcp(server, client, SYN | ACK, 4999, 1000, ""));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1000, 5000, "USER a\r\n"));
        world.forward(LAN, &tcp(server, client, PSH_ACK, 5000, 1008, "230 in\r\n"));
        world.forward(WAN, &tcp(client, public, PSH_ACK, 1008, 5008, "PASV\r\n"));
        let first = text(&world.forward(LAN, &tcp(server, client, PSH_ACK, 5008, 1014, &said[..cut])));
        let at = 5008 + cut as u32;
        first + &text(&world.forward(LAN, &tcp(server, client, PSH_ACK, at, 1014, &said[cut..])))
    };
    for odd in [
        "227\t(10,77,1,2,19,137)\r\n",
        "227(10,77,1,2,19,137)\r\n",
        "227_(10,77,1,2,19,137)\r\n",
        "227 (10, 77, 1, 2, 19, 137)\r\n",
        "227 (+10,+77,+1,+2,+19,+137)\r\n",
        "227 (10,77,1,2,19,137,7)\r\n",
        "200 ok\r227 Passive (10,77,1,2,19,137)\r\n",
        "226 Passive (10,77,1,2,19,137)\r\n",
        "200 (10,77,1,2,19,137)\r\n",
    ] {
        for cut in 0..odd.len() {
            let left = heard(odd, cut);
            assert!(!left.contains("77"), "{odd:?}, cut at {cut}, left as {left:?}");
            assert!(left.ends_with("\r\n") && left.starts_with(['2', '4']), "{left:?}");
        }
        assert_eq!(heard(odd, 0), "425 No data connection.\r\n");
    }
    for right in [
        "227 [10,77,1,2,19,137]\r\n",
        "227 2 (010,077,001,002,019,137)\r\n",
        "227 Passive\0Mode (10,77,1,2,19,137x)\r\n",
    ] {
        let left = heard(right, 0);
        assert!(left.contains("203,0,113,1,19,137"), "{right:?} left as {left:?}");
    }
    assert_eq!(heard("257 \"/1,2,3,4,5,6\"\r\n", 3), "257 \"/1,2,3,4,5,6\"\r\n", "a path");
}

/// A proxy on the router passes on what a server inside says: the address by which the proxy's clients reach it.
#[test]
fn what_a_proxy_on_the_router_hears_is_as_its_server_said_it() {
    const OUTPUT: &str = "*raw\n-A OUTPUT -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";
    let heard = |said: &str| {
        let mut config = config(OUTPUT);
        config.helper = config.helper.behaving(Behaviour::Exact);
        let mut world = World::new(config);
        let (proxy, server) = ("10.77.1.1:40000", "10.77.1.2:21");
        let mut send = |from_proxy: bool, flags: u8, numbers: [u32; 2], said: &str| {
            let ends = if from_proxy { [proxy, server] } else { [server, proxy] };
            let bytes = tcp(ends[0], ends[1], flags, numbers[0], numbers[1], said);
            let mut buffer = [&bytes[..], &[0; Packet::ROOM]].concat();
            let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
            let verdict = if from_proxy {
                world.router.output(world.now, &mut packet, &mut world.outbox)
            } else {
                world.router.process(world.now, LAN, &mut packet, &mut world.outbox)
            };
            assert!(matches!(verdict, Verdict::Forward { .. } | Verdict::Local), "{verdict:?}");
            text(packet.bytes())
        };
        send(true, SYN, [999, 0], "");
        send(false, SYN | ACK, [4999, 1000], "");
        send(true, PSH_ACK, [1000, 5000], "USER a\r\n");
        send(false, PSH_ACK, [5000, 1008], "230 in\r\n");
        send(true, PSH_ACK, [1008, 5008], "PASV\r\n");
        send(false, PSH_ACK, [5008, 1014], said)
    };
    for passes in ["227 (203,0,113,1,200,10)\r\n", "227 (192,0,2,80,200,10)\r\n", "227 (10,77,1,2,200,10)\r\n"] {
        assert_eq!(heard(passes), passes);
    }
    assert_eq!(heard("227 (0,0,0,0,200,10)\r\n"), "227 (10,77,1,2,200,10)\r\n", "nowhere is the server itself");
    assert_eq!(heard("227 (127,0,0,1,200,10)\r\n"), "227 (10,77,1,2,200,10)\r\n");
}

#[test]
fn a_loose_helper_lets_third_parties_be_announced() {
    for (allowed, passes) in [(None, true), (Some(vec![]), false)] {
        let mut config = config(MASQUERADE);
        config.helper = config.helper.behaving(Behaviour::Exact).loose(true);
        config.helper.policy.allowed_third_parties = allowed;
        let mut talk = Talk::open(World::new(config), [CLIENT, OUTSIDE]);
        talk.log_in();
        assert_eq!(talk.says(0, "PORT 192,0,2,25,40,25\r\n").contains("192,0,2,25"), passes);
        assert_eq!(talk.world.router.conntrack().expected(), usize::from(passes));
    }
}
