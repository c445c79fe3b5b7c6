//! FTP behind a load balancer in one process, as the LVS documents have it and as `ip_vs_ftp` has it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::config::{parse_ipvs_rules, parse_keepalived, parse_rules};
use ftp_conntrack::conntrack::Limits;
use ftp_conntrack::event::{BalancedBy, DropReason, Event};
use ftp_conntrack::helper::HelperConfig;
use ftp_conntrack::ipvs::{self, State};
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Family, Headers, Packet};
use ftp_conntrack::router::{Interface, Route, RouterConfig, Verdict};
use proptest::prelude::*;

const EXT: usize = 0;
const INT: usize = 1;
const VIRTUAL: &str = "203.0.113.21:21";

/// Table mangle and nat as the LVS documents have them typed.
const DOCUMENTS: &str = r"
/sbin/iptables -t mangle -A PREROUTING -i ext -p tcp \
     -s 0.0.0.0/0 -d 203.0.113.21/32 --dport 21 \ 
     -j MARK --set-mark 21
/sbin/iptables -t mangle -A PREROUTING -i ext -p tcp -d 203.0.113.21/32 --dport 10000:20000 -j MARK --set-mark 21
/sbin/iptables -t nat -A POSTROUTING -p tcp -s 10.77.1.0/24 --sport 20 -j MASQUERADE
";

const KEEPALIVED: &str = "
! FTP by firewall mark
virtual_server fwmark 21 {
    delay_loop 6
    lb_algo rr
    lb_kind NAT
    persistence_timeout 300
    protocol TCP
    real_server 10.77.1.11 21 { weight 1 }
    real_server 10.77.1.12 21 { weight 1 }
    real_server 10.77.1.13 21 { weight 1 }
}
";

/// The same three servers behind the virtual address, by its port 21 and without persistence.
const BY_PORT: &str = "-A -t 203.0.113.21:21 -s rr\n-a -t 203.0.113.21:21 -r 10.77.1.11:21 -m\n\
    -a -t 203.0.113.21:21 -r 10.77.1.12:21 -m\n-a -t 203.0.113.21:21 -r 10.77.1.13:21 -m\n";

fn director(rules: &str, ipvs: ipvs::IpvsConfig) -> RouterConfig {
    let mut config = RouterConfig::default();
    config.interfaces = vec![
        Interface::new("ext").with_address([203, 0, 113, 1].into(), 24).with_address([203, 0, 113, 21].into(), 32),
        Interface::new("int").with_address([10, 77, 1, 1].into(), 24),
    ];
    config.routes = vec![
        Route::on_link(Cidr::new([10, 77, 1, 0].into(), 24).unwrap(), INT),
        Route::on_link(Cidr::new([0, 0, 0, 0].into(), 0).unwrap(), EXT),
    ];
    let (rules, warnings) = parse_rules("rules.v4", rules, Family::V4).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config.rules4 = rules;
    config.ipvs = Some(ipvs);
    config
}

/// A director with services as ipvsadm has them, and `ip_vs_ftp` or not.
fn cluster(rules: &str, ipvsadm: &str, reads_ftp: bool) -> World {
    let (mut ipvs, warnings) = parse_ipvs_rules("ipvs.rules", ipvsadm).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    ipvs.ftp_ports.extend(reads_ftp.then_some(21));
    World::new(director(rules, ipvs))
}

/// One TCP connection: what each end believes of it.
#[derive(Clone, Copy, Debug)]
struct Dialogue {
    near: Half,
    far: Half,
}

/// One end: its interface, its address, whom it talks to, and its numbers.
#[derive(Clone, Copy, Debug)]
struct Half {
    interface: usize,
    local: SocketAddr,
    remote: SocketAddr,
    next: u32,
    heard: u32,
}

impl Half {
    fn packet(&self, flags: u8, text: &str) -> Vec<u8> {
        let heard = if flags & ACK != 0 { self.heard } else { 0 };
        tcp(&self.local.to_string(), &self.remote.to_string(), flags, self.next, heard, text)
    }
}

fn ends(bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let headers = Headers::find(bytes).unwrap();
    let (from, to) = headers.ports(bytes).unwrap();
    (SocketAddr::new(headers.source(bytes), from), SocketAddr::new(headers.destination(bytes), to))
}

impl Dialogue {
    /// Opens a connection from one side; the other end is whoever gets the SYN.
    fn open(world: &mut World, interface: usize, from: &str, to: &str) -> Self {
        Self::try_open(world, interface, from, to).unwrap_or_else(|verdict| panic!("{from} > {to}: {verdict:?}"))
    }

    fn try_open(world: &mut World, interface: usize, from: &str, to: &str) -> Result<Self, Verdict> {
        let (local, remote) = (from.parse().unwrap(), to.parse().unwrap());
        let near = Half { interface, local, remote, next: 1000, heard: 0 };
        let (verdict, syn) = world.send(interface, &near.packet(SYN, ""));
        let Verdict::Forward { interface: out, .. } = verdict else { return Err(verdict) };
        let (source, destination) = ends(&syn);
        let far = Half { interface: out, local: destination, remote: source, next: 500_000, heard: 1001 };
        let mut dialogue = Self { near: Half { next: 1001, ..near }, far };
        let answer = world.forward(out, &far.packet(SYN | ACK, ""));
        assert_eq!(ends(&answer), (remote, local), "the answer comes from whom it was asked");
        dialogue.far.next += 1;
        dialogue.near.heard = 500_001;
        world.forward(interface, &dialogue.near.packet(ACK, ""));
        Ok(dialogue)
    }

    /// The side that opened it says something; gives what arrives.
    fn say(&mut self, world: &mut World, line: &str) -> String {
        carry(world, &mut self.near, &mut self.far, line)
    }

    /// The other side answers.
    fn answer(&mut self, world: &mut World, line: &str) -> String {
        carry(world, &mut self.far, &mut self.near, line)
    }

    fn login(mut self, world: &mut World) -> Self {
        assert_eq!(self.answer(world, "220 ready\r\n"), "220 ready\r\n");
        assert_eq!(self.say(world, "USER ftp\r\n"), "USER ftp\r\n");
        self.answer(world, "230 in\r\n");
        self
    }
}

fn carry(world: &mut World, from: &mut Half, to: &mut Half, line: &str) -> String {
    let bytes = world.forward(from.interface, &from.packet(PSH_ACK, line));
    assert_eq!(ends(&bytes), (to.remote, to.local));
    assert_eq!(numbers(&bytes), (to.heard, to.next), "numbers as the receiver knows them");
    let heard = text(&bytes);
    from.next += line.len() as u32;
    to.heard += heard.len() as u32;
    heard
}

fn server(dialogue: &Dialogue) -> String {
    dialogue.far.local.ip().to_string()
}

fn events(world: &mut World) -> Vec<Event> {
    std::iter::from_fn(|| world.router.poll_event()).map(|(_, event)| event).collect()
}

fn entries(world: &World) -> String {
    let mut text = String::new();
    world.router.ipvs().unwrap().write_proc_conn(world.now, &mut text).unwrap();
    text
}

#[test]
fn the_documents_as_they_stand_there() {
    let (ipvs, warnings) = parse_keepalived("keepalived.conf", KEEPALIVED).unwrap();
    assert!(warnings.is_empty() && ipvs.ftp_ports.is_empty());
    let mut world = World::new(director(DOCUMENTS, ipvs));
    let mut met = Vec::new();
    for (number, client) in ["198.51.100.7", "198.51.100.8", "198.51.100.9"].into_iter().enumerate() {
        let mut control = Dialogue::open(&mut world, EXT, &format!("{client}:40000"), VIRTUAL).login(&mut world);
        let real = server(&control);
        met.push(real.clone());

        // Passive: the real server announces the virtual address (pasv_address) and a marked port.
        control.say(&mut world, "PASV\r\n");
        let port = 10_000 + number as u16;
        let line = format!("227 Entering Passive Mode (203,0,113,21,{},{}).\r\n", port >> 8, port & 0xff);
        assert_eq!(control.answer(&mut world, &line), line);
        let data = Dialogue::open(&mut world, EXT, &format!("{client}:40001"), &format!("203.0.113.21:{port}"));
        assert_eq!(data.far.local, format!("{real}:{port}").parse().unwrap());
        control.say(&mut world, "EPSV\r\n");
        let line = format!("229 Entering Extended Passive Mode (|||{}|)\r\n", port + 100);
        assert_eq!(control.answer(&mut world, &line), line);
        let data = Dialogue::open(&mut world, EXT, &format!("{client}:40002"), &format!("203.0.113.21:{}", port + 100));
        assert_eq!(server(&data), real);

        // Active: MASQUERADE gives it the first address of the interface.
        control.say(&mut world, &format!("PORT {},160,0\r\n", client.replace('.', ",")));
        let mut data = Dialogue::open(&mut world, INT, &format!("{real}:20"), &format!("{client}:40960"));
        assert_eq!(data.far.remote, "203.0.113.1:20".parse().unwrap());
        assert_eq!(data.say(&mut world, "a file"), "a file");
        control.say(&mut world, &format!("EPRT |1|{client}|40961|\r\n"));
        let data = Dialogue::open(&mut world, INT, &format!("{real}:20"), &format!("{client}:40961"));
        assert_eq!(data.far.remote.port(), 20);

        // A passive port outside the marked range belongs to nobody.
        let lost = Dialogue::try_open(&mut world, EXT, &format!("{client}:40003"), "203.0.113.21:30000");
        assert_eq!(lost.unwrap_err(), Verdict::Local);
    }
    assert_eq!(met, ["10.77.1.13", "10.77.1.12", "10.77.1.11"]);

    // A second control connection of the first client stays with its server, and the events say why.
    events(&mut world);
    let again = Dialogue::open(&mut world, EXT, "198.51.100.7:41000", VIRTUAL);
    assert_eq!(server(&again), "10.77.1.13");
    let told = events(&mut world);
    let by = told.iter().find_map(|event| if let Event::Balanced { by, .. } = event { Some(*by) } else { None });
    let Some(BalancedBy::Persistence(template)) = by else { panic!("{told:?}") };
    let template = world.router.ipvs().unwrap().get(template).unwrap();
    assert!(template.is_template() && template.state() == State::Assured);
    // Nothing of it is tracked but the active data connections; and what was lost is the director's own.
    assert_eq!(world.table().lines().filter(|line| line.contains("sport=20 ")).count(), 6, "{}", world.table());
    assert_eq!(world.table().lines().count(), 6 + 3, "{}", world.table());
}

#[test]
fn with_ip_vs_ftp_two_clients_of_one_address_meet_two_servers() {
    let mut world = cluster("", BY_PORT, true);
    let mut met = Vec::new();
    for client_port in [40_000, 50_000] {
        let from = |offset: u16| format!("198.51.100.7:{}", client_port + offset);
        let mut control = Dialogue::open(&mut world, EXT, &from(0), VIRTUAL).login(&mut world);
        let real = server(&control);
        met.push(real.clone());
        events(&mut world);

        control.say(&mut world, "PASV\r\n");
        let own = real.replace('.', ",");
        let heard = control.answer(&mut world, &format!("227 Entering Passive Mode ({own},78,52).\r\n"));
        assert_eq!(heard, "227 Entering Passive Mode (203,0,113,21,78,52).\r\n");
        assert!(entries(&world).contains("C6336407 0000 CB007115 4E34"), "{}", entries(&world));
        let data = Dialogue::open(&mut world, EXT, &from(1), "203.0.113.21:20020");
        assert_eq!(data.far.local, format!("{real}:20020").parse().unwrap());
        let told = events(&mut world);
        assert!(told.iter().any(|event| matches!(event, Event::BalancedDataAnnounced { .. })), "{told:?}");
        let arrived = told.iter().filter(|event| matches!(event, Event::BalancedDataArrived { control: Some(_), .. }));
        assert_eq!(arrived.count(), 1, "{told:?}");
        // From here on the server's numbers are two ahead; each line checks them.
        control.answer(&mut world, "150 here it comes\r\n");

        control.say(&mut world, "EPSV\r\n");
        let heard = control.answer(&mut world, "229 Entering Extended Passive Mode (|||30020|)\r\n");
        assert_eq!(heard, "229 Entering Extended Passive Mode (|||30020|)\r\n");
        assert_eq!(server(&Dialogue::open(&mut world, EXT, &from(2), "203.0.113.21:30020")), real);

        for (line, port) in [("PORT 198,51,100,7,", 40960), ("EPRT |1|198.51.100.7|", 40961)] {
            let port = port + u16::from(client_port == 50_000) * 10;
            let end = if line.starts_with('P') { format!("{},{}", port >> 8, port & 0xff) } else { format!("{port}|") };
            let line = format!("{line}{end}\r\n");
            assert_eq!(control.say(&mut world, &line), line);
            let mut data = Dialogue::open(&mut world, INT, &format!("{real}:20"), &format!("198.51.100.7:{port}"));
            assert_eq!(data.far.remote, "203.0.113.21:20".parse().unwrap());
            assert_eq!(data.say(&mut world, "a file"), "a file");
            assert_eq!(data.answer(&mut world, "!"), "!");
        }
    }
    assert_eq!(met, ["10.77.1.13", "10.77.1.12"]);
}

/// The same by a firewall mark that only port 21 gets.
const BY_MARK: &str =
    "-A -f 21 -s rr\n-a -f 21 -r 10.77.1.11 -m\n-a -f 21 -r 10.77.1.12 -m\n-a -f 21 -r 10.77.1.13 -m\n";

/// A director that follows data connections by what it reads: no persistence, no marked ports but the control port, no rule
/// for active data, no `ip_vs_ftp`.
fn follower(ipvsadm: &str) -> World {
    let (ipvs, _) = parse_ipvs_rules("ipvs.rules", ipvsadm).unwrap();
    let marks = "*mangle\n-A PREROUTING -d 203.0.113.21/32 -p tcp -m tcp --dport 21 -j MARK --set-mark 21\nCOMMIT\n";
    let mut config = director(if ipvsadm == BY_MARK { marks } else { "" }, ipvs);
    config.helper = HelperConfig::default().behaving(Behaviour::Exact);
    config.helper_ports.push(21);
    World::new(config)
}

fn endpoint_of_227(line: &str) -> String {
    let numbers: Vec<u16> = line.split(['(', ')']).nth(1).unwrap().split(',').map(|n| n.parse().unwrap()).collect();
    let [a, b, c, d, high, low] = numbers[..] else { panic!("{line}") };
    format!("{a}.{b}.{c}.{d}:{}", high << 8 | low)
}

fn line_227(address: &str, port: u16) -> String {
    format!("227 Entering Passive Mode ({},{},{}).\r\n", address.replace('.', ","), port >> 8, port & 0xff)
}

#[test]
fn behaviour_exact_needs_no_persistence() {
    [BY_PORT, BY_MARK].into_iter().for_each(five_clients_behind_one_address);
}

fn five_clients_behind_one_address(ipvsadm: &str) {
    let mut world = follower(ipvsadm);
    // Five clients behind one address, three servers.
    let ports = [40_000, 41_000, 42_000, 43_000, 44_000];
    let mut controls: Vec<_> = ports
        .map(|port| Dialogue::open(&mut world, EXT, &format!("198.51.100.7:{port}"), VIRTUAL).login(&mut world))
        .into();
    let servers: Vec<_> = controls.iter().map(server).collect();
    assert_eq!(servers, ["10.77.1.13", "10.77.1.12", "10.77.1.11", "10.77.1.13", "10.77.1.12"]);

    // All have a PASV open at once, and all their servers announce the same port.
    let mut dialled = Vec::new();
    for (control, real) in controls.iter_mut().zip(&servers) {
        assert_eq!(control.say(&mut world, "PASV\r\n"), "PASV\r\n");
        let heard = control.answer(&mut world, &line_227(real, 20_020));
        assert!(heard.starts_with("227 Entering Passive Mode (203,0,113,21,"), "{heard}");
        dialled.push(endpoint_of_227(&heard));
    }
    assert_eq!(dialled[0], "203.0.113.21:20020");
    assert_eq!(dialled.iter().collect::<HashSet<_>>().len(), 5, "{dialled:?}");
    // They come in another order, from any port, and each meets its own server where that listens.
    for number in [3, 0, 4, 2, 1] {
        let from = format!("198.51.100.7:{}", 50_000 + number);
        let mut data = Dialogue::open(&mut world, EXT, &from, &dialled[number]);
        assert_eq!(data.far.local, format!("{}:20020", servers[number]).parse().unwrap());
        assert_eq!(data.say(&mut world, "a file"), "a file");
        assert_eq!(data.answer(&mut world, "!"), "!");
    }
    for (number, control) in controls.iter_mut().enumerate() {
        assert_eq!(control.answer(&mut world, "226 done\r\n"), "226 done\r\n");
        control.say(&mut world, "EPSV\r\n");
        let port = 30_000 + number as u16 / 3;
        let heard = control.answer(&mut world, &format!("229 Extended (|||{port}|)\r\n"));
        let told: u16 = heard.split('|').nth(3).unwrap().parse().unwrap();
        let from = format!("198.51.100.7:{}", 51_000 + number);
        let data = Dialogue::open(&mut world, EXT, &from, &format!("203.0.113.21:{told}"));
        assert_eq!(data.far.local, format!("{}:{port}", servers[number]).parse().unwrap());
    }
}

#[test]
fn behaviour_exact_leads_ipv6_too() {
    let ipvsadm = "-A -t [2001:db8:1::21]:21 -s rr\n-a -t [2001:db8:1::21]:21 -r [fd77:1::11]:21 -m\n\
        -a -t [2001:db8:1::21]:21 -r [fd77:1::12]:21 -m\n";
    let (ipvs, _) = parse_ipvs_rules("ipvs.rules", ipvsadm).unwrap();
    let mut config = director("", ipvs);
    let [public, inside, vip] = ["2001:db8:1::1", "fd77:1::1", "2001:db8:1::21"].map(|text| text.parse().unwrap());
    config.interfaces[EXT] = config.interfaces[EXT].clone().with_address(public, 64).with_address(vip, 128);
    config.interfaces[INT] = config.interfaces[INT].clone().with_address(inside, 64);
    config.routes.push(Route::on_link(Cidr::new(inside, 64).unwrap(), INT));
    config.routes.push(Route::on_link(Cidr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0).unwrap(), EXT));
    config.helper = HelperConfig::default().behaving(Behaviour::Exact);
    config.helper_ports.push(21);
    let mut world = World::new(config);

    // Two clients of one address; both servers announce the same port.
    let mut controls = [40_000, 41_000].map(|port| {
        let from = format!("[2001:db8:7::1]:{port}");
        Dialogue::open(&mut world, EXT, &from, "[2001:db8:1::21]:21").login(&mut world)
    });
    let servers = controls.each_ref().map(server);
    assert_eq!(servers, ["fd77:1::12", "fd77:1::11"]);
    let told = controls.each_mut().map(|control| {
        control.say(&mut world, "EPSV\r\n");
        let heard = control.answer(&mut world, "229 Extended (|||30000|)\r\n");
        heard.split('|').nth(3).unwrap().parse::<u16>().unwrap()
    });
    assert!(told[0] == 30_000 && told[1] != 30_000, "{told:?}");
    for number in [1, 0] {
        let from = format!("[2001:db8:7::1]:{}", 50_000 + number);
        let data = Dialogue::open(&mut world, EXT, &from, &format!("[2001:db8:1::21]:{}", told[number]));
        assert_eq!(data.far.local, format!("[{}]:30000", servers[number]).parse().unwrap());
    }
    // Active data leaves with the virtual address.
    for (number, control) in controls.iter_mut().enumerate() {
        control.answer(&mut world, "226 done\r\n");
        let to = 60_000 + number as u16;
        let line = format!("EPRT |2|2001:db8:7::1|{to}|\r\n");
        assert_eq!(control.say(&mut world, &line), line);
        control.answer(&mut world, "200 ok\r\n");
        let from = format!("[{}]:20", servers[number]);
        let data = Dialogue::open(&mut world, INT, &from, &format!("[2001:db8:7::1]:{to}"));
        assert_eq!(data.far.remote.ip(), vip);
    }
}

#[test]
fn behaviour_exact_gives_active_data_the_virtual_address() {
    let mut world = follower(BY_PORT);
    for (number, port) in [40_000u16, 41_000, 42_000].into_iter().enumerate() {
        let mut control = Dialogue::open(&mut world, EXT, &format!("198.51.100.7:{port}"), VIRTUAL).login(&mut world);
        let real = server(&control);
        let there = 5_000 + number as u16;
        for (line, source) in [
            (format!("PORT 198,51,100,7,{},{}\r\n", there >> 8, there & 0xff), 20),
            (format!("EPRT |1|198.51.100.7|{}|\r\n", there + 100), 20),
            // Servers without privileges open from any port.
            (format!("EPRT |1|198.51.100.7|{}|\r\n", there + 200), 34_567),
        ] {
            assert_eq!(control.say(&mut world, &line), line);
            control.answer(&mut world, "200 ok\r\n");
            let to: u16 = match line.split('|').nth(3) {
                Some(port) => port.parse().unwrap(),
                None => there,
            };
            let mut data = Dialogue::open(&mut world, INT, &format!("{real}:{source}"), &format!("198.51.100.7:{to}"));
            assert_eq!(data.far.remote, format!("203.0.113.21:{source}").parse().unwrap());
            assert_eq!(data.say(&mut world, "a file"), "a file");
            assert_eq!(data.answer(&mut world, "!"), "!");
        }
    }
    // An endpoint that was not announced leaves as it came.
    let other = Dialogue::open(&mut world, INT, "10.77.1.11:20", "198.51.100.7:6000");
    assert_eq!(other.far.remote, "10.77.1.11:20".parse().unwrap());
}

#[test]
fn behaviour_exact_reads_what_ip_vs_ftp_cannot() {
    let mut world = follower(BY_PORT);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    let real = server(&control);
    // With pasv_address set the text is right already; the port may not be.
    control.say(&mut world, "PASV\r\n");
    assert_eq!(control.answer(&mut world, &line_227("203.0.113.21", 20_020)), line_227("203.0.113.21", 20_020));
    let mut other = Dialogue::open(&mut world, EXT, "198.51.100.7:41000", VIRTUAL).login(&mut world);
    other.say(&mut world, "PASV\r\n");
    let heard = other.answer(&mut world, &line_227("203.0.113.21", 20_020));
    assert_ne!(endpoint_of_227(&heard), "203.0.113.21:20020");
    let data = Dialogue::open(&mut world, EXT, "198.51.100.7:50000", "203.0.113.21:20020");
    assert_eq!(data.far.local, format!("{real}:20020").parse().unwrap());
    let data = Dialogue::open(&mut world, EXT, "198.51.100.7:50001", &endpoint_of_227(&heard));
    assert_eq!(data.far.local, format!("{}:20020", server(&other)).parse().unwrap());

    // A reply of several lines, its 227 cut in two: `ip_vs_ftp` reads one reply at the beginning of a segment.
    control.say(&mut world, "PASV\r\n");
    let line = line_227(&real, 20_021);
    let (first, second) = line.split_at(30);
    let (verdict, _) = world.send(INT, &control.far.packet(PSH_ACK, first));
    assert!(matches!(verdict, Verdict::Forward { .. } | Verdict::Held), "{verdict:?}");
    control.far.next += first.len() as u32;
    let leaves = world.forward(INT, &control.far.packet(PSH_ACK, second));
    assert!(text(&leaves).ends_with(&line_227("203.0.113.21", 20_021)), "{}", text(&leaves));
    // An address that is nobody's here stays refused.
    let refused = other.say(&mut world, "PORT 192,0,2,9,20,20\r\n");
    assert_eq!(refused, "PORT 0,0,0,0,0,0\r\n");
}

#[test]
fn under_behaviour_exact_a_control_connection_outlives_its_data() {
    let mut world = follower(BY_PORT);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    let real = server(&control);
    control.say(&mut world, "PASV\r\n");
    control.answer(&mut world, &line_227(&real, 20_020));
    world.forward(EXT, &control.near.packet(ACK, ""));
    let mut data = Dialogue::open(&mut world, EXT, "198.51.100.7:50000", "203.0.113.21:20020");
    for _ in 0..10 {
        world.now = world.now + Duration::from_secs(299);
        world.router.handle_timeout(world.now, &mut world.outbox);
        data.answer(&mut world, "more of the file");
        world.forward(EXT, &data.near.packet(ACK, ""));
    }
    assert_eq!(control.answer(&mut world, "226 done\r\n"), "226 done\r\n");
    // Without data it is over when ip_vs says so, and with it the tracker's connection.
    let conntrack = world.router.conntrack_mut();
    let data = conntrack.iter(world.now).find(|(_, connection)| connection.master().is_some()).unwrap().0;
    assert!(conntrack.delete(world.now, data) && conntrack.len() == 1);
    world.now = world.now + Duration::from_secs(901);
    world.router.handle_timeout(world.now, &mut world.outbox);
    assert!(world.router.ipvs().unwrap().is_empty() && world.router.conntrack().is_empty());
}

/// Opens a connection that its real server answers directly; gives that server.
fn open_directly(world: &mut World, client: &str, to: &str) -> String {
    let (verdict, _) = world.send(EXT, &tcp(client, to, SYN, 1000, 0, ""));
    let Verdict::Forward { next_hop, .. } = verdict else { panic!("{client} > {to}: {verdict:?}") };
    assert!(matches!(world.send(EXT, &tcp(client, to, ACK, 1001, 1, "")).0, Verdict::Forward { .. }));
    next_hop.to_string()
}

#[test]
fn behaviour_exact_follows_a_pasv_whose_reply_goes_elsewhere() {
    for way in ["-g", "-i"] {
        let mut world = follower(&BY_PORT.replace("-m", way));
        let command = |client: &str, line: &str| tcp(client, VIRTUAL, PSH_ACK, 1001, 1, line);
        let dialled = "203.0.113.21:30000";
        let first = open_directly(&mut world, "198.51.100.7:40000", VIRTUAL);
        let second = open_directly(&mut world, "198.51.100.7:41000", VIRTUAL);
        assert_ne!(first, second);
        // Whoever asked last, and nobody else of its address, gets the next connection, and just the next.
        for (client, real) in [("198.51.100.7:41000", &second), ("198.51.100.7:40000", &first)] {
            for line in ["PASV\r\n", "EPSV\r\n"] {
                world.send(EXT, &command(client, line));
                let port = 50_000 + world.router.ipvs().unwrap().len();
                let unknown = world.send(EXT, &tcp("198.51.100.8:50000", dialled, SYN, 1, 0, "")).0;
                assert_eq!(unknown, Verdict::Local, "another client's is nobody's");
                assert_eq!(open_directly(&mut world, &format!("198.51.100.7:{port}"), dialled), *real);
                let more = world.send(EXT, &tcp("198.51.100.7:49999", dialled, SYN, 1, 0, "")).0;
                assert_eq!(more, Verdict::Local);
            }
        }
        // Both ask at once: nobody can say, and an event tells of it. The service has no persistence.
        world.send(EXT, &command("198.51.100.7:40000", "PASV\r\n"));
        world.send(EXT, &command("198.51.100.7:41000", "PASV\r\n"));
        events(&mut world);
        for port in [60_000, 60_001] {
            let lost = world.send(EXT, &tcp(&format!("198.51.100.7:{port}"), dialled, SYN, 1, 0, "")).0;
            assert_eq!(lost, Verdict::Local);
            let told = events(&mut world);
            assert!(told.iter().any(|event| matches!(event, Event::BalancedContested { .. })), "{told:?}");
        }
        world.send(EXT, &command("198.51.100.7:40000", "PASV\r\n"));
        assert_eq!(open_directly(&mut world, "198.51.100.7:60002", dialled), first);
        let tracked = world.table().lines().filter(|line| line.contains(" tcp ")).count();
        assert_eq!(tracked, 4, "what is tracked was for the director: {}", world.table());
    }
}

#[test]
fn a_contested_pasv_is_left_to_persistence() {
    let services = "-A -t 203.0.113.21:8080 -s rr\n-a -t 203.0.113.21:8080 -r 10.77.1.13:80 -g\n\
                    -A -t 203.0.113.21:21 -s rr -p 300 -M 255.255.255.255\n-a -t 203.0.113.21:21 -r 10.77.1.11:21 -g\n\
                    -a -t 203.0.113.21:21 -r 10.77.1.12:21 -g\n";
    let mut world = follower(services);
    let dialled = "203.0.113.21:30000";
    let first = open_directly(&mut world, "198.51.100.7:40000", VIRTUAL);
    // With persistence both are at one server, and nothing is contested.
    assert_eq!(open_directly(&mut world, "198.51.100.7:41000", VIRTUAL), first);
    for client in ["198.51.100.7:40000", "198.51.100.7:41000"] {
        world.send(EXT, &tcp(client, VIRTUAL, PSH_ACK, 1001, 1, "PASV\r\n"));
    }
    // Another service's port is none of FTP's.
    assert_eq!(open_directly(&mut world, "198.51.100.7:49000", "203.0.113.21:8080"), "10.77.1.13");
    events(&mut world);
    assert_eq!(open_directly(&mut world, "198.51.100.7:50000", dialled), first);
    assert_eq!(open_directly(&mut world, "198.51.100.7:50001", dialled), first);
    // The next one is not announced; persistence leads it.
    assert_eq!(open_directly(&mut world, "198.51.100.7:50002", dialled), first);
    let told = events(&mut world);
    let count = |wanted: fn(&Event) -> bool| told.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::BalancedDataArrived { control: Some(_), .. })), 2, "{told:?}");
    assert_eq!(count(|event| matches!(event, Event::Balanced { .. })), 1, "{told:?}");
    assert_eq!(count(|event| matches!(event, Event::BalancedContested { .. })), 0, "{told:?}");
}

#[test]
fn behaviour_exact_asks_for_room_on_balanced_connections() {
    let mut world = follower(BY_PORT);
    let control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    let mut line = control.far.packet(PSH_ACK, &line_227(&server(&control), 20_020));
    let len = line.len();
    let mut packet = Packet::new(&mut line, 0..len).unwrap();
    let verdict = world.router.process(world.now, INT, &mut packet, &mut world.outbox);
    assert!(matches!(verdict, Verdict::NeedsRoom(_)), "{verdict:?}");
}

#[test]
fn marks_and_ip_vs_ftp_together() {
    let marked = "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.11 -m\n-a -f 21 -r 10.77.1.12 -m\n";
    let mut world = cluster(DOCUMENTS, marked, true);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    control.say(&mut world, "PASV\r\n");
    let heard = control.answer(&mut world, "227 Entering Passive Mode (10,77,1,12,39,16).\r\n");
    assert_eq!(heard, "227 Entering Passive Mode (203,0,113,21,39,16).\r\n");
    assert_eq!(server(&Dialogue::open(&mut world, EXT, "198.51.100.7:40001", "203.0.113.21:10000")), "10.77.1.12");
    // With an entry of its own the active data connection leaves from the virtual address, whatever MASQUERADE says.
    control.say(&mut world, "PORT 198,51,100,7,160,0\r\n");
    let data = Dialogue::open(&mut world, INT, "10.77.1.12:20", "198.51.100.7:40960");
    assert_eq!(data.far.remote, "203.0.113.21:20".parse().unwrap());
}

#[test]
fn with_the_helper_a_passive_connection_is_related() {
    let rules = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n*filter\n\
                 -A INPUT -p tcp -m tcp --dport 21 -j ACCEPT\n-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
                 -A INPUT -j DROP\nCOMMIT\n";
    let mut world = cluster(rules, BY_PORT, true);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    control.say(&mut world, "PASV\r\n");
    let heard = control.answer(&mut world, "227 Entering Passive Mode (10,77,1,13,78,52).\r\n");
    assert_eq!(heard, "227 Entering Passive Mode (203,0,113,21,78,52).\r\n");
    assert!(world.table().contains("src=198.51.100.7 dst=203.0.113.21 sport=0 dport=20020 ftp"), "{}", world.table());
    let data = Dialogue::open(&mut world, EXT, "198.51.100.7:40001", "203.0.113.21:20020");
    assert_eq!(data.far.local, "10.77.1.13:20020".parse().unwrap());
    let lost = Dialogue::try_open(&mut world, EXT, "198.51.100.7:40002", "203.0.113.21:20021");
    assert_eq!(lost.unwrap_err(), Verdict::Drop(DropReason::Rule));
}

#[test]
fn a_control_connection_outlives_its_data() {
    let mut world = cluster("", BY_PORT, true);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).login(&mut world);
    control.say(&mut world, "PORT 198,51,100,7,160,0\r\n");
    control.answer(&mut world, "200 ok\r\n");
    world.forward(EXT, &control.near.packet(ACK, ""));
    let mut data = Dialogue::open(&mut world, INT, "10.77.1.13:20", "198.51.100.7:40960");
    let seconds = |world: &World, state: &str| entries(world).lines().filter(|line| line.contains(state)).count();
    assert_eq!((seconds(&world, "ESTABLISHED"), world.router.conntrack().len()), (2, 2));

    // Data flows for twenty minutes, and nobody says anything on the control connection.
    for _ in 0..4 {
        world.now = world.now + Duration::from_secs(300);
        world.router.handle_timeout(world.now, &mut world.outbox);
        data.say(&mut world, "more of the file");
        world.forward(EXT, &data.far.packet(ACK, ""));
    }
    assert_eq!((seconds(&world, "ESTABLISHED"), world.router.conntrack().len()), (2, 2), "{}", entries(&world));

    // When all is silent both go, the data connection first, and the tracker's with them.
    world.now = world.now + Duration::from_secs(901);
    world.router.handle_timeout(world.now, &mut world.outbox);
    world.now = world.now + Duration::from_secs(61);
    world.router.handle_timeout(world.now, &mut world.outbox);
    assert_eq!(entries(&world).lines().count(), 1, "{}", entries(&world));
    assert!(world.router.ipvs().unwrap().is_empty());
    assert_eq!(world.router.conntrack().len(), 0);
    let idle = world.router.ipvs().unwrap().servers(0).all(|server| server.active() + server.inactive() == 0);
    assert!(idle);
}

#[test]
fn weight_0_drains_and_thresholds_refuse() {
    let one = "-A -t 203.0.113.21:21 -s wlc\n-a -t 203.0.113.21:21 -r 10.77.1.11:21 -m -x 1\n";
    let mut world = cluster("", one, true);
    let mut control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    let refused = Dialogue::try_open(&mut world, EXT, "198.51.100.8:40000", VIRTUAL).unwrap_err();
    assert_eq!(refused, Verdict::Drop(DropReason::NoRealServer));
    // The client is told, by the virtual address, that the port is unreachable.
    let told: Vec<Vec<u8>> = world.outbox.iter().map(|packet| packet.bytes.to_vec()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0][12..20], &told[0][20..22]), (&[203, 0, 113, 21, 198, 51, 100, 8][..], &[3, 3][..]));
    world.outbox.clear();

    let ipvs = world.router.ipvs_mut().unwrap();
    assert!(ipvs.set_weight(0, 0, 0) && !ipvs.set_weight(0, 1, 0));
    assert_eq!(control.answer(&mut world, "220 still here\r\n"), "220 still here\r\n");
    // Once the connection is over, the threshold would let another in, and the weight does not.
    world.now = world.now + Duration::from_secs(1000);
    world.router.handle_timeout(world.now, &mut world.outbox);
    let refused = Dialogue::try_open(&mut world, EXT, "198.51.100.8:40001", VIRTUAL).unwrap_err();
    assert_eq!(refused, Verdict::Drop(DropReason::NoRealServer));
    world.router.ipvs_mut().unwrap().set_weight(0, 0, 1);
    Dialogue::open(&mut world, EXT, "198.51.100.8:40002", VIRTUAL);
}

#[test]
fn the_same_ports_again() {
    let mut world = cluster("", BY_PORT, true);
    let first = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    world.forward(first.far.interface, &first.far.packet(FIN | ACK, ""));
    let fin = Half { heard: first.near.heard + 1, ..first.near };
    world.forward(EXT, &fin.packet(FIN | ACK, ""));
    assert!(entries(&world).contains("TIME_WAIT"), "{}", entries(&world));
    // To the tracker it is not quite over: the SYN of another one makes both forget it, and is dropped.
    let dropped = Dialogue::try_open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL).unwrap_err();
    assert_eq!(dropped, Verdict::Drop(DropReason::PortReused));
    assert!(world.router.ipvs().unwrap().is_empty() && world.table().is_empty(), "{}", world.table());
    let second = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    assert_ne!(server(&first), server(&second));
    assert_eq!(entries(&world).lines().count(), 2);

    // With its last acknowledgement it is over for the tracker too, and the SYN goes through at once.
    world.forward(second.far.interface, &second.far.packet(FIN | ACK, ""));
    let fin = Half { heard: second.near.heard + 1, ..second.near };
    world.forward(EXT, &fin.packet(FIN | ACK, ""));
    let last = Half { next: second.far.next + 1, heard: second.far.heard + 1, ..second.far };
    world.forward(last.interface, &last.packet(ACK, ""));
    let third = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    assert_ne!(server(&second), server(&third));
    assert_eq!((entries(&world).lines().count(), world.table().lines().count()), (2, 1));
}

#[test]
fn direct_routing_and_tunnelling() {
    let services = "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.11 -g\n-a -f 21 -r 10.77.1.12 -i\n";
    let mut world = cluster(DOCUMENTS, services, true);
    let syn = |client: &str| tcp(client, VIRTUAL, SYN, 1000, 0, "");
    let (verdict, tunnelled) = world.send(EXT, &syn("198.51.100.7:40000"));
    assert_eq!(verdict, Verdict::Forward { interface: INT, next_hop: [10, 77, 1, 12].into() });
    assert_eq!((tunnelled.len(), &tunnelled[..12]), (60, &[0x45, 0, 0, 60, 0, 0, 0x40, 0, 63, 4, 0x25, 0x18][..]));
    assert_eq!(tunnelled[12..20], [10, 77, 1, 1, 10, 77, 1, 12]);
    let inner = Headers::find(&tunnelled[20..]).unwrap();
    assert!(inner.header_checksum_ok(&tunnelled[20..]) && inner.hop_limit(&tunnelled[20..]) == 63);
    assert_eq!(tunnelled[40..], syn("198.51.100.7:40000")[20..]);

    let (verdict, routed) = world.send(EXT, &syn("198.51.100.8:40000"));
    assert_eq!(verdict, Verdict::Forward { interface: INT, next_hop: [10, 77, 1, 11].into() });
    assert_eq!(routed[12..], syn("198.51.100.8:40000")[12..]);
    // The real server answers itself. Through here it cannot: it would come from this machine's own address.
    let answer = tcp(VIRTUAL, "198.51.100.8:40000", SYN | ACK, 5, 1001, "");
    assert_eq!(world.send(INT, &answer).0, Verdict::Drop(DropReason::NotForwardable));
    // Nobody reads what they say: the 227 does not come through here. The mark leads the data connection.
    let (verdict, _) = world.send(EXT, &tcp("198.51.100.8:40001", "203.0.113.21:10007", SYN, 1, 0, ""));
    assert_eq!(verdict, Verdict::Forward { interface: INT, next_hop: [10, 77, 1, 11].into() });
}

#[test]
fn a_packet_for_a_tunnel_asks_for_room() {
    let services = "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.12 -i\n";
    let mut world = cluster(DOCUMENTS, services, false);
    let mut syn = tcp("198.51.100.7:40000", VIRTUAL, SYN, 1000, 0, "");
    let len = syn.len();
    let mut packet = Packet::new(&mut syn, 0..len).unwrap();
    let verdict = world.router.process(world.now, EXT, &mut packet, &mut world.outbox);
    assert_eq!(verdict, Verdict::NeedsRoom(40));
    assert!(world.router.ipvs().unwrap().is_empty());
}

#[test]
fn errors_find_their_way() {
    let mut world = cluster("", BY_PORT, true);
    let control = Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    let unreachable = |source: [u8; 4], destination: [u8; 4], quoted: &[u8]| {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 1, 0, 0];
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend([3, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(quoted);
        bytes[3] = bytes.len() as u8;
        for range in [0..20, 20..bytes.len()] {
            let sum = ftp_conntrack::packet::checksum::sum(&bytes[range.clone()], 0);
            let sum = ftp_conntrack::packet::checksum::fold(sum).to_be_bytes();
            let at = if range.start == 0 { 10 } else { 22 };
            bytes[at..at + 2].copy_from_slice(&sum);
        }
        bytes
    };
    // A router on the way to the client cannot deliver what the virtual address sent.
    let sent = world.forward(INT, &control.far.packet(ACK, ""));
    let error = world.forward(EXT, &unreachable([192, 0, 2, 33], [203, 0, 113, 21], &sent));
    assert_eq!(
        (&error[12..16], &error[16..20], &error[40..44]),
        (&[192, 0, 2, 33][..], &[10, 77, 1, 13][..], &[10, 77, 1, 13][..])
    );
    // The quoted packet keeps its checksum, as Linux leaves it.
    let sent = world.forward(INT, &control.far.packet(ACK, ""));
    let whole = unreachable([192, 0, 2, 33], [203, 0, 113, 21], &sent);
    assert_eq!(world.forward(EXT, &whole)[48..], whole[48..]);
    // A real server cannot deliver what the client sent.
    let sent = world.forward(EXT, &control.near.packet(ACK, ""));
    let error = world.forward(INT, &unreachable([10, 77, 1, 13], [198, 51, 100, 7], &sent));
    assert_eq!((&error[12..16], &error[44..48]), (&[203, 0, 113, 21][..], &[203, 0, 113, 21][..]));
}

#[test]
fn a_real_server_on_the_director_itself() {
    let services = "-A -t 203.0.113.21:21 -s rr\n-a -t 203.0.113.21:21 -r 127.0.0.1:21 -m\n\
                    -a -t 203.0.113.21:21 -r 10.77.1.1:21 -i\n-a -t 203.0.113.21:21 -r 10.77.1.1:2121 -m\n";
    let mut world = cluster("", services, false);
    let syn = |port: u16| tcp(&format!("198.51.100.7:{port}"), VIRTUAL, SYN, 1000, 0, "");
    let (verdict, rewritten) = world.send(EXT, &syn(40_000));
    assert_eq!((verdict, ends(&rewritten).1), (Verdict::Local, "10.77.1.1:2121".parse().unwrap()));
    // A packet that is not rewritten is delivered as it came.
    assert_eq!(world.send(EXT, &syn(40_001)), (Verdict::Local, syn(40_001)));
    assert_eq!(world.send(EXT, &syn(40_002)).0, Verdict::Drop(DropReason::NotForwardable));

    // Two answers pass here: one gets the virtual address, one has it, and both are read.
    let mut answer = |from: &str, to: &str| {
        let mut buffer = tcp(from, to, RST | ACK, 0, 1001, "");
        let len = buffer.len();
        buffer.resize(len + Packet::ROOM, 0);
        let mut packet = Packet::new(&mut buffer, 0..len).unwrap();
        let verdict = world.router.output(world.now, &mut packet, &mut world.outbox);
        assert!(matches!(verdict, Verdict::Forward { interface: EXT, .. }), "{verdict:?}");
        assert_eq!(ends(packet.bytes()).0, VIRTUAL.parse().unwrap());
    };
    answer("10.77.1.1:2121", "198.51.100.7:40000");
    answer(VIRTUAL, "198.51.100.7:40001");
    assert_eq!(entries(&world).matches(" CLOSE ").count(), 2, "{}", entries(&world));
}

#[test]
fn what_is_too_long_for_a_tunnel_is_told() {
    let mut world = cluster(DOCUMENTS, "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.12 -i\n", false);
    let segment = |len| tcp("198.51.100.7:40000", VIRTUAL, SYN, 1000, 0, &"y".repeat(len));
    assert!(matches!(world.send(EXT, &segment(1440)).0, Verdict::Forward { .. }));
    assert_eq!(world.send(EXT, &segment(1441)).0, Verdict::Drop(DropReason::TooBig));
    let told: Vec<Vec<u8>> = world.outbox.iter().map(|packet| packet.bytes.to_vec()).collect();
    // 1480 bytes fit; what is quoted has passed one hop already, as Linux has it.
    assert_eq!((&told[0][20..22], &told[0][26..28], told[0][28 + 8]), (&[3, 4][..], &[0x05, 0xc8][..], 63));
}

#[test]
fn what_the_tracker_does_not_understand_it_looks_at_again() {
    let mut world = cluster("*nat\nCOMMIT\n", BY_PORT, true);
    let (verdict, _) = world.send(EXT, &tcp("198.51.100.7:40000", VIRTUAL, SYN, 1000, 0, ""));
    assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    // An acknowledgement of nothing has no place in the connection. As it leaves it looks like the middle of another, to
    // the real server itself, whose ends are taken: it gets another port (seen on Linux 6.1).
    let stray = world.forward(EXT, &tcp("198.51.100.7:40000", VIRTUAL, ACK, 1001, 0, ""));
    let (from, to) = ends(&stray);
    assert_eq!(to, "10.77.1.13:21".parse().unwrap());
    assert!(from.ip().to_string() == "198.51.100.7" && from.port() != 40000, "{from}");
    assert!(
        world.table().contains("src=198.51.100.7 dst=10.77.1.13 sport=40000 dport=21 [UNREPLIED]"),
        "{}",
        world.table()
    );
}

#[test]
fn datagrams_get_the_checksum_they_came_without() {
    let mut world = cluster("", "-A -u 203.0.113.21:53 -s rr\n-a -u 203.0.113.21:53 -r 10.77.1.11:5353 -m\n", false);
    let datagram = |source: [u8; 4], destination: [u8; 4], ports: [u8; 4]| {
        let mut bytes = vec![0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0];
        bytes.extend([source, destination, ports].concat());
        bytes.extend([0, 12, 0, 0, b'a', b's', b'k', b'?']);
        let mut bytes = finish(bytes);
        bytes[26..28].fill(0);
        bytes
    };
    let asked = world.forward(EXT, &datagram([198, 51, 100, 7], [203, 0, 113, 21], [156, 64, 0, 53]));
    assert_eq!((&asked[16..20], &asked[22..24]), (&[10, 77, 1, 11][..], &[0x14, 0xe9][..]));
    assert_ne!(asked[26..28], [0; 2]);
    let answer = world.forward(INT, &datagram([10, 77, 1, 11], [198, 51, 100, 7], [0x14, 0xe9, 156, 64]));
    assert_eq!((&answer[12..16], &answer[20..22]), (&[203, 0, 113, 21][..], &[0, 53][..]));
    assert_ne!(answer[26..28], [0; 2]);
    let line = "UDP C6336407 9C40 CB007115 0035 0A4D010B 14E9 UDP             300";
    assert!(entries(&world).contains(line), "{}", entries(&world));
}

#[test]
fn the_tables_as_ipvsadm_lists_them() {
    let mut world = cluster(DOCUMENTS, "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.11 -m\n", false);
    Dialogue::open(&mut world, EXT, "198.51.100.7:40000", VIRTUAL);
    let ipvs = world.router.ipvs().unwrap();
    let (mut services, mut connections) = (String::new(), String::new());
    ipvs.write_list(&mut services).unwrap();
    ipvs.write_list_connections(world.now, &mut connections).unwrap();
    let lines: Vec<&str> = services.lines().skip(3).map(str::trim_end).collect();
    let expected = ["FWM  21 rr persistent 300", "  -> 10.77.1.11:0                 Masq    1      1          0"];
    assert_eq!(lines, expected);
    let line = "TCP 15:00  ESTABLISHED 198.51.100.7:40000 203.0.113.21:21    10.77.1.11:21\n";
    assert!(connections.contains(line), "{connections}");
}

/// Lines that clients and servers may send at any time.
const SAYINGS: [&str; 10] = [
    "",
    "PASV\r\n",
    "EPSV\r\n",
    "PORT 198,51,100,7,160,0\r\n",
    "PORT 198,51,100,8,0,0\r\n",
    "EPRT |1|198.51.100.7|40960|\r\n",
    "227 Entering Passive Mode (10,77,1,11,78,52).\r\n",
    "227 Entering Passive Mode (10,77,1,12,78,53).\r\n",
    "229 Entering Extended Passive Mode (|||20020|)\r\n",
    "227 (1,2,3",
];

/// Three servers by direct routing, where the next hop is the server that was chosen.
const DIRECT: &str = "-A -t 203.0.113.21:80 -s rr\n-a -t 203.0.113.21:80 -r 10.77.1.11:80 -g\n\
    -a -t 203.0.113.21:80 -r 10.77.1.12:80 -g\n-a -t 203.0.113.21:80 -r 10.77.1.13:80 -g\n";

/// A director with services as ipvsadm has them and these settings.
fn director_with(ipvsadm: &str, set: impl Fn(&mut ipvs::Settings)) -> World {
    let (mut ipvs, _) = parse_ipvs_rules("ipvs.rules", ipvsadm).unwrap();
    set(&mut ipvs.settings);
    World::new(director("", ipvs))
}

/// The last byte of the server that gets a segment from a client, or what becomes of the segment.
fn server_of(world: &mut World, client: &str, port: u16, flags: u8) -> Result<u8, Verdict> {
    let verdict = world.send(EXT, &tcp(client, &format!("203.0.113.21:{port}"), flags, 1000, 0, "")).0;
    match verdict {
        Verdict::Forward { interface: INT, next_hop: std::net::IpAddr::V4(server) } => Ok(server.octets()[3]),
        verdict => Err(verdict),
    }
}

#[test]
fn a_syn_on_an_entry_that_is_over_is_scheduled_anew_if_reuse_mode_says_so() {
    const CLIENT: &str = "198.51.100.7:40000";
    // The end of the first connection, the reuse mode, and whether another server gets the next SYN.
    for (then, reuse_mode, is_new) in [
        (ACK, 1, false),
        (ACK, 2, false),
        (FIN | ACK, 0, false),
        (FIN | ACK, 1, false),
        (FIN | ACK, 2, true),
        (FIN | ACK, 3, true),
        (RST, 0, false),
        (RST, 1, true),
        (RST, 2, true),
    ] {
        let mut world = director_with(DIRECT, |settings| settings.reuse_mode = reuse_mode);
        let first = server_of(&mut world, CLIENT, 80, SYN).unwrap();
        assert_eq!(server_of(&mut world, CLIENT, 80, ACK), Ok(first));
        assert_eq!(server_of(&mut world, CLIENT, 80, then), Ok(first));
        let state = entries(&world);
        // The tracker lets the SYN go once the old connection is out of its way.
        let second = server_of(&mut world, CLIENT, 80, SYN).or_else(|_| server_of(&mut world, CLIENT, 80, SYN));
        assert_eq!(second.unwrap() != first, is_new, "{then:#x} {reuse_mode} {state}");
    }
}

#[test]
fn only_a_syn_begins_a_connection_unless_tcp_is_sloppy() {
    for (flags, strict, sloppy) in [(SYN, true, true), (SYN | ACK, true, true), (ACK, false, true), (RST, false, false)]
    {
        for (is_sloppy, begins) in [(false, strict), (true, sloppy)] {
            let mut world = director_with(DIRECT, |settings| settings.sloppy_tcp = is_sloppy);
            let verdict = server_of(&mut world, "198.51.100.7:40000", 80, flags);
            assert_eq!(verdict.is_ok(), begins, "{flags:#x}, sloppy: {is_sloppy}, {verdict:?}");
            assert_eq!(world.router.ipvs().unwrap().len(), usize::from(begins));
        }
    }
}

#[test]
fn what_comes_from_the_port_of_active_data_begins_nothing() {
    let mut world = director_with(DIRECT, |_| {});
    assert_eq!(server_of(&mut world, "198.51.100.7:20", 80, SYN), Err(Verdict::Local));
    assert!(server_of(&mut world, "198.51.100.7:21", 80, SYN).is_ok());
}

#[test]
fn a_client_leaves_a_server_of_weight_0_if_its_persistence_is_to_expire() {
    let persistent = DIRECT.replace("-s rr\n", "-s rr -p 300\n");
    for expires in [false, true] {
        let mut world = director_with(&persistent, |settings| settings.expire_quiescent_template = expires);
        let first = server_of(&mut world, "198.51.100.7:40000", 80, SYN).unwrap();
        assert_eq!(server_of(&mut world, "198.51.100.7:40001", 80, SYN), Ok(first), "it stays");
        let ipvs = world.router.ipvs_mut().unwrap();
        assert!((0..3).any(|server| {
            let is_it = ipvs.servers(0).nth(server).unwrap().config().address.to_string().ends_with(&first.to_string());
            is_it && ipvs.set_weight(0, server, 0)
        }));
        let next = server_of(&mut world, "198.51.100.7:40002", 80, SYN).unwrap();
        assert_eq!(next != first, expires);
        // It stays with its server.
        assert_eq!(server_of(&mut world, "198.51.100.7:40003", 80, SYN), Ok(next));
    }
}

#[test]
fn persistence_is_by_port_but_for_ftp_and_services_of_all_ports() {
    let two = |port: u16| {
        format!(
            "-A -t 203.0.113.21:{port} -s rr -p 300\n-a -t 203.0.113.21:{port} -r 10.77.1.11:{port} -g\n\
             -a -t 203.0.113.21:{port} -r 10.77.1.12:{port} -g\n"
        )
    };
    // The client's data connection meets the server of its control connection.
    let mut ftp = director_with(&two(21), |_| {});
    let first = server_of(&mut ftp, "198.51.100.7:40000", 21, SYN).unwrap();
    let other = server_of(&mut ftp, "198.51.100.8:40000", 21, SYN).unwrap();
    assert_ne!(first, other);
    assert_eq!(server_of(&mut ftp, "198.51.100.7:40001", 50_000, SYN), Ok(first));
    assert_eq!(server_of(&mut ftp, "198.51.100.8:40001", 50_000, SYN), Ok(other));

    // Two services of one address are two choices.
    let mut web = director_with(&(two(80) + &two(443)), |_| {});
    let first = server_of(&mut web, "198.51.100.7:40000", 80, SYN).unwrap();
    server_of(&mut web, "198.51.100.8:40000", 443, SYN).unwrap();
    assert_ne!(server_of(&mut web, "198.51.100.7:40001", 443, SYN), Ok(first));

    // A service of all ports is one.
    let mut all = director_with(&two(0), |_| {});
    let first = server_of(&mut all, "198.51.100.7:40000", 80, SYN).unwrap();
    assert_eq!(server_of(&mut all, "198.51.100.7:40001", 443, SYN), Ok(first));
}

#[test]
fn a_full_table_refuses_and_takes_the_place_of_what_is_over() {
    let mut world = director_with(DIRECT, |settings| settings.entries = 2);
    assert!(server_of(&mut world, "198.51.100.7:1", 80, SYN).is_ok());
    assert!(server_of(&mut world, "198.51.100.7:2", 80, SYN).is_ok());
    assert_eq!(server_of(&mut world, "198.51.100.7:3", 80, SYN), Err(Verdict::Drop(DropReason::EntriesFull)));
    // SYN_RECV lasts 60 s; nobody calls `handle_timeout`.
    world.now = world.now + Duration::from_secs(61);
    assert!(server_of(&mut world, "198.51.100.7:3", 80, SYN).is_ok());
    assert_eq!(world.router.ipvs().unwrap().len(), 1);
}

#[test]
fn an_entry_that_was_removed_has_no_id_any_more() {
    let mut world = director_with(DIRECT, |settings| settings.entries = 1);
    server_of(&mut world, "198.51.100.7:1", 80, SYN).unwrap();
    let ids = |world: &World| world.router.ipvs().unwrap().iter(world.now).map(|(id, _)| id).collect::<Vec<_>>();
    let first = ids(&world);
    world.now = world.now + Duration::from_secs(61);
    world.router.handle_timeout(world.now, &mut world.outbox);
    assert!(ids(&world).is_empty());
    server_of(&mut world, "198.51.100.7:2", 80, SYN).unwrap();
    // The same slot, and another id.
    assert_ne!(ids(&world), first);
    assert!(world.router.ipvs().unwrap().get(first[0]).is_none());
}

fn any_segment() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, PSH_ACK, PSH_ACK, FIN | ACK, RST, 0]);
    let dialled = prop::sample::select(vec![21u16, 21, 21, 20, 20020, 20021, 10_001, 80]);
    let client = prop::sample::select(vec![40_000u16, 40_960, 40_001, 20]);
    (any::<bool>(), 7u8..9, client, dialled, 11u8..13, flags, prop::sample::select(SAYINGS.to_vec())).prop_map(
        |(comes, host, client, port, server, flags, text)| {
            let client = format!("198.51.100.{host}:{client}");
            let (from, to) = if comes {
                (client, format!("203.0.113.21:{port}"))
            } else {
                (format!("10.77.1.{server}:{port}"), client)
            };
            (comes, tcp(&from, &to, flags, 1000, 2000, text))
        },
    )
}

proptest! {
    /// Whatever comes in whatever order: what leaves is whole, servers have as many connections as there are entries for
    /// them, and in the end nothing is left.
    #[test]
    fn counters_and_entries_agree(
        steps in prop::collection::vec((any_segment(), prop::sample::select(vec![0u64, 0, 0, 1, 5, 61, 130])), 1..120),
        by_mark in any::<bool>(),
        stays in any::<bool>(),
        exact in any::<bool>(),
        way in prop::sample::select(vec!["-m", "-m", "-g", "-i"]),
    ) {
        let service = if by_mark { "-f 21" } else { "-t 203.0.113.21:21" };
        let persistence = if stays { " -p 100" } else { "" };
        let text = format!("-A {service} -s wlc{persistence}\n-a {service} -r 10.77.1.11 -m -x 5\n\
                            -a {service} -r 10.77.1.12 {way} -w 2\nipvsadm --set 200 60 60\n");
        let (mut ipvs, _) = parse_ipvs_rules("ipvs.rules", &text).unwrap();
        ipvs.ftp_ports.push(21);
        ipvs.settings.entries = 12;
        let mut config = director(DOCUMENTS, ipvs);
        config.conntrack.limits = Limits::new(32, 4, 4);
        if exact {
            config.helper = HelperConfig::default().behaving(Behaviour::Exact);
            (config.helper.hold_buffers, config.helper.policy.require_login) = (2, false);
            config.helper_ports.push(21);
        }
        config.fragments = 1;
        let mut world = World::new(config);
        for ((comes, packet), seconds) in steps {
            let (verdict, bytes) = world.send(if comes { EXT } else { INT }, &packet);
            if let Verdict::Forward { .. } = verdict {
                let headers = Headers::find(&bytes).unwrap();
                prop_assert!(headers.header_checksum_ok(&bytes) && headers.transport_checksum_ok(&bytes));
            }
            world.outbox.clear();
            world.now = world.now + Duration::from_secs(seconds);
            if seconds > 5 {
                world.router.handle_timeout(world.now, &mut world.outbox);
            }
            let ipvs = world.router.ipvs().unwrap();
            let counted: u32 = ipvs.servers(0).map(|server| server.active() + server.inactive() + server.persistent()).sum();
            prop_assert_eq!(counted as usize, ipvs.len());
            prop_assert!(ipvs.len() <= 12);
        }
        while let Some(at) = world.router.poll_at() {
            world.now = world.now.max(at);
            world.router.handle_timeout(world.now, &mut world.outbox);
        }
        prop_assert!(world.router.ipvs().unwrap().is_empty());
        prop_assert!(world.router.conntrack().is_empty());
        let idle = world.router.ipvs().unwrap().servers(0).all(|server| server.active() + server.persistent() == 0);
        prop_assert!(idle);
    }
}
