//! FTP sessions through every kind of router.

use std::net::IpAddr;

use super::{DMZ, IN, MASQUERADE, Net, OUT, Play, any_nat, play, settings};
use crate::rng::Rng;
use crate::session::{Ends, Session, Transfer};
use crate::setup::{DROP_INVALID, HELPER, Rules, Setup};
use crate::text::host_port_text;
use crate::wire::{ACK, udp};
use crate::world::{MSS, World, at};

pub(super) fn masquerade(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let random = if rng.percent(15) { " --random" } else { "" };
    let setup = Setup::new(net.v6, &Rules::nat(&format!("{MASQUERADE}{random}")));
    let far = rng.percent(20);
    (
        settings(rng, setup),
        Box::new(move |w| {
            let mut ends = net.outward();
            if far {
                ends.client = (DMZ, net.dmz);
            }
            play(w, &[ends]);
        }),
    )
}

pub(super) fn snat(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let to = [String::new(), " --persistent".to_owned(), " --random".to_owned()];
    let nat = format!("-A POSTROUTING -s {} -o out -j SNAT --to-source {}{}", net.inside, net.spare, to[rng.below(3)]);
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let other = Ends { client: (IN, net.client2), ..net.outward() };
            play(w, &[net.outward(), other]);
        }),
    )
}

/// Several clients that announce the same port, behind one address.
pub(super) fn collide(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(MASQUERADE));
    (
        setup,
        Box::new(move |w| {
            let port = w.rng.pick(&[1024, 5000, 40_000, 65_533, 65_535, 1, 1023]);
            let same = w.rng.percent(30);
            for i in 0..4_u16 {
                let client = host(&net, 10 + i);
                let client_port = if same { 30_000 } else { 30_000 + i };
                let ends = Ends { client: (IN, client), client_port: Some(client_port), ..net.outward() };
                let Some(session) = Session::open(w, ends) else { continue };
                session.login(w);
                let transfer = Transfer {
                    extended: w.rng.percent(50),
                    port: Some(port),
                    only_announced: w.rng.percent(50),
                    ..Transfer::default()
                };
                session.active(w, &transfer);
            }
        }),
    )
}

/// A machine of the inner network.
fn host(net: &Net, number: u16) -> IpAddr {
    if net.v6 { IpAddr::from([0xfd77, 1, 0, 0, 0, 0, 0, number]) } else { IpAddr::from([10, 77, 1, number as u8]) }
}

pub(super) fn dnat(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = format!(
        "-A PREROUTING -d {}/{} -p tcp -m tcp --dport 21 -j DNAT --to-destination {}",
        net.router_out,
        net.bits(),
        net.inner
    );
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (settings(rng, setup), Box::new(move |w| play(w, &[net.inward()])))
}

pub(super) fn dnat_port(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let to = net.with_port(net.inner, 21);
    let mut rules = Rules::nat(&format!(
        "-A PREROUTING -d {}/{} -p tcp -m tcp --dport 2121 -j DNAT --to-destination {to}",
        net.router_out,
        net.bits()
    ));
    rules.raw = "-A PREROUTING -p tcp -m tcp --dport 2121 -j CT --helper ftp".to_owned();
    let setup = Setup::new(net.v6, &rules);
    (settings(rng, setup), Box::new(move |w| play(w, &[Ends { port: 2121, ..net.inward() }])))
}

/// Source and destination both rewritten.
pub(super) fn both(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = format!(
        "-A PREROUTING -d {}/{} -p tcp -m tcp --dport 21 -j DNAT --to-destination {}\n-A POSTROUTING -o in -j MASQUERADE",
        net.router_out,
        net.bits(),
        net.inner
    );
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    let hairpin = rng.percent(30);
    (
        settings(rng, setup),
        Box::new(move |w| {
            let mut ends = net.inward();
            if hairpin {
                ends.client = (IN, net.client);
            }
            play(w, &[ends]);
        }),
    )
}

/// No NAT: data connections pass only as RELATED.
pub(super) fn firewall(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let state = rng.pick(&["state --state", "conntrack --ctstate"]);
    let mut rules = Rules::nat("");
    rules.policies[1] = "DROP";
    rules.filter += &format!(
        "\n-A FORWARD -p tcp -m tcp --dport 21 -j ACCEPT\n-A FORWARD -p tcp -m {state} RELATED,ESTABLISHED -j ACCEPT"
    );
    let setup = Setup::new(net.v6, &rules);
    (
        settings(rng, setup),
        Box::new(move |w| {
            if let Some(session) = Session::open(w, net.outward()) {
                session.login(w);
                for _ in 0..4 {
                    session.any_transfer(w);
                }
            }
            // Nobody announced this one.
            let port = w.rng.port();
            w.connect((OUT, at(net.server, 20)), at(net.client, port), (IN, at(net.client, 9)), MSS);
        }),
    )
}

/// Announced addresses that are not the speaker's.
pub(super) fn foreign(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = any_nat(rng, &net);
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let Some(session) = Session::open(w, net.outward()) else { return };
            session.login(w);
            for _ in 0..4 {
                let others = match net.v6 {
                    false => ["10.77.1.3", "192.0.2.1", "0.0.0.0", "127.0.0.1", "198.51.100.9", "198.51.100.10"],
                    true => ["fd77:1::3", "2001:db8::1", "::", "::1", "2001:db8:9::9", "::ffff:10.77.1.2"],
                };
                let transfer = Transfer {
                    address: w.rng.pick(&others).parse().ok(),
                    extended: w.rng.percent(40),
                    only_announced: w.rng.percent(60),
                    ..Transfer::default()
                };
                if w.rng.percent(50) {
                    session.active(w, &Transfer { only_announced: true, ..transfer });
                } else {
                    session.passive(w, &transfer);
                }
            }
        }),
    )
}

const UGLY_CLIENT: &[&str] = &[
    "PORT {hp}\n",
    "port {hp}\r\n",
    "Port  {hp}\r\n",
    "PORT\t{hp}\r\n",
    "PORT {hp} \r\n",
    "PORT {hp}",
    "PORT {hp}\r",
    " PORT {hp}\r\n",
    "PORT {hp},7\r\n",
    "PORT {hp0}\r\n",
    "PORT 256,1,1,1,10,10\r\n",
    "PORT 1,2,3,4,5\r\n",
    "PORT a,b\r\n",
    "PORT 10,77,1,2,300,1\r\n",
    "PORT 10.77.1.2,19,136\r\n",
    "PORT 010,077,001,002,019,136\r\n",
    "PORT {hp}\r\nPORT {hp2}\r\n",
    "NOOP\r\nPORT {hp}\r\n",
    "PORT {hp}\r\nNOOP\r\n",
    "PORTX {hp}\r\n",
    "XPORT {hp}\r\n",
    "PORT\r\n",
    "PORT \r\n",
    "PO",
    "RT {hp}\r\n",
    "PORT 10,77,1,2,",
    "19,136\r\n",
    "EPRT |{v}|{ca}|{p}|\r\n",
    "eprt |{v}|{ca}|{p}|\r\n",
    "EPRT !{v}!{ca}!{p}!\r\n",
    "EPRT |2|{ca}|{p}|\r\n",
    "EPRT |1|{ca}|{p}|\r\n",
    "EPRT |{v}|{ca}|{p}\r\n",
    "EPRT |{v}|{ca}|0|\r\n",
    "EPRT |{v}|{ca}|65536|\r\n",
    "EPRT |{v}|{ca}|123456|\r\n",
    "EPRT ||{ca}|{p}|\r\n",
    "EPRT {v}|{ca}|{p}|\r\n",
    "EPRT |3|{ca}|{p}|\r\n",
    "EPRT |{v}|{ca}:{p}|\r\n",
    "EPRT  |{v}|{ca}|{p}|\r\n",
    "EPRT |{v}|{ca}|{p}x|\r\n",
    "EPRT |1|010.077.001.002|{p}|\r\n",
    "EPRT |2|::1|{p}|\r\n",
    "EPRT |1|1.2.3|{p}|\r\n",
    "PORT {hp}{x300}\r\n",
    "{x1200}\r\n",
    "PORT \u{b9},1\r\n",
    "EPRT |2|fd77:1::2|{p}|\r\n",
    "EPRT 11{ca}1{p}1\r\n",
    "EPRT |{v}|{ca}|{p}|{p}|\r\n",
    "PORT 1,2,3,4,5,\r\n",
    "PORT ,,,,,\r\n",
    "\r\n",
    "\n",
    "EPRT |2|{ca}%eth0|{p}|\r\n",
    "EPRT |2|::|{p}|\r\n",
    "EPRT |2|::ffff:10.77.1.2|{p}|\r\n",
    "EPRT |2|FD77:1:0:0:0:0:0:2|{p}|\r\n",
    "EPRT |2|fd77:1::2:3:4:5:6:7:8|{p}|\r\n",
    "EPRT |2||{p}|\r\n",
    "EPRT |2|fd77:0001::0002|{p}|\r\n",
    "EPRT |2|fd77:1:0::0:2|{p}|\r\n",
    "AUTH TLS\r\n",
    "LPRT 4,4,{hp0}\r\n",
    "EPSV ALL\r\n",
    "PORT {hp}\r\r\n",
    "\r\nPORT {hp}\r\n",
    "PORT 0{hp}\r\n",
    "PORT {hp}\0\r\n",
    "PORT {hp}\n\n",
];
const UGLY_SERVER: &[&str] = &[
    "227 Entering Passive Mode {hps}\r\n",
    "227 Entering Passive Mode (={hps}).\r\n",
    "227 {hps}\r\n",
    "227-{hps}\r\n",
    "227 Ok ({hps})\n",
    "227 Entering Passive Mode ({hps}",
    "227 Entering Passive Mode ({hps}).\r",
    " 227 ({hps})\r\n",
    "227 Passive 1 2 3 ({hps})\r\n",
    "227 4 ports: ({hps})\r\n",
    "227 Entering Passive Mode\r\n",
    "227 \r\n",
    "227",
    "227 Entering Passive Mode (1,2,3,4,5)\r\n",
    "227 Entering Passive Mode (300,1,1,1,1,1)\r\n",
    "220 x\r\n227 Entering Passive Mode ({hps}).\r\n",
    "227 Entering Passive Mode ({hps}).\r\n226 x\r\n",
    "229 Entering Extended Passive Mode (|||{p}|)\r\n",
    "229 Ok |||{p}|\r\n",
    "229 Entering Extended Passive Mode (|||{p}|",
    "229 (!!!{p}!)\r\n",
    "229 (|{v}||{p}|)\r\n",
    "229 (|||0|)\r\n",
    "229 (|||65536|)\r\n",
    "229 (|||{p})\r\n",
    "229 (||{p}|)\r\n",
    "229-(|||{p}|)\r\n",
    "229 (|{v}|{sa}|{p}|)\r\n",
    "229 (   {p} )\r\n",
    "229 Entering Extended Passive Mode (",
    "229\r\n",
    "227 (9999999999999999999999999999999999999999)\r\n",
    "227 Entering Passive Mode ({hps}).{x300}\r\n",
    "228 Entering Long Passive Mode (4,4,{hps})\r\n",
    "227 \u{b2}({hps})\r\n",
    "227 Entering Passive Mode ({x300}{hps})\r\n",
    "229 Extended 5 (|||{p}|)\r\n",
    "22",
    "7 Entering Passive Mode ({hps})\r\n",
    "227 ({hps})\r\n227 ({hps})\r\n",
    "229 (|||{p}|)\r\n229 (|||{p}|)\r\n",
    "227 Entering Passive Mode ({hps}) 1,2\r\n",
    "229 (|||{p}|",
    ")\r\n",
    "227 (({hps}))\r\n",
    "229 ((|||{p}|))\r\n",
    "229 (|2||{p}|)\r\n",
    "229 (|1||{p}|)\r\n",
];

fn filled(template: &str, net: &Net, port: u16) -> Vec<u8> {
    let v4 = Net::of(false);
    let pairs = [
        ("{hp}", host_port_text(v4.client, port)),
        ("{hp2}", host_port_text(v4.client, port ^ 1)),
        ("{hp0}", host_port_text(v4.client, 0)),
        ("{hps}", host_port_text(v4.server, port)),
        ("{ca}", net.client.to_string()),
        ("{sa}", net.server.to_string()),
        ("{p}", port.to_string()),
        ("{v}", if net.v6 { "2" } else { "1" }.to_owned()),
        ("{x300}", "x".repeat(300)),
        ("{x1200}", "X".repeat(1200)),
    ];
    let text = pairs.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    text.chars().map(|c| c as u8).collect()
}

/// Commands and replies as no RFC has them, cut and joined at any place.
pub(super) fn ugly(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = any_nat(rng, &net);
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (
        setup,
        Box::new(move |w| {
            let Some(session) = Session::open(w, net.outward()) else { return };
            if w.rng.percent(90) {
                session.login(w);
            }
            for _ in 0..w.rng.range(3, 16) {
                ugly_line(w, &net, &session);
            }
        }),
    )
}

fn ugly_line(w: &mut World<'_>, net: &Net, session: &Session) {
    let port = match w.rng.range(0, 4) {
        0 => w.rng.range(1, 65_536) as u16,
        1 => w.rng.pick(&[21, 1023, 1, 65_535]),
        _ => w.rng.port(),
    };
    let (who, texts) = if w.rng.percent(55) { (session.c, UGLY_CLIENT) } else { (session.s, UGLY_SERVER) };
    let mut line = filled(w.rng.pick(texts), net, port);
    match w.rng.range(0, 10) {
        0 | 1 if line.len() > 2 => {
            let cut = w.rng.range(1, line.len() as u32) as usize;
            w.say(who, &line[..cut]);
            if w.rng.percent(30) {
                w.again(who);
            }
            w.say(who, &line[cut..]);
        }
        2 => {
            for _ in 0..w.rng.range(1, 4) {
                let at = w.rng.below(line.len());
                line[at] = w.rng.next() as u8;
            }
            w.say(who, &line);
        }
        3 => {
            // Another line in the same segment.
            line.extend(filled(w.rng.pick(texts), net, port));
            line.truncate(1400);
            w.say(who, &line);
        }
        _ => drop(w.say(who, &line)),
    }
    if w.rng.percent(25) {
        w.again(who);
    }
    if w.rng.percent(60) {
        w.send(if who == session.c { session.s } else { session.c }, ACK);
    }
    if w.rng.percent(20) {
        w.say(who, if who == session.c { "NOOP\r\n" } else { "200 ok\r\n" });
    }
}

/// Firewall marks, saved to and restored from the connection, and inherited by what an announcement opened.
pub(super) fn marks(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let server = format!("{}/{}", net.server, net.bits());
    let mark = rng.pick(&[
        "--set-xmark 0x15/0xff",
        "--set-mark 0x15",
        "--set-mark 0x1500/0xff00",
        "--or-mark 0x15",
        "--xor-mark 0xff",
        "--and-mark 0xf0",
    ]);
    let other = rng.pick(&["--set-xmark 0x15/0xffffffff", "--set-xmark 0x2a/0xffffffff"]);
    let save = rng.pick(&[
        "--save-mark",
        "--save-mark --nfmask 0xff --ctmask 0xffff",
        "--set-mark 0x77/0xff",
        "--set-xmark 0x7/0x1",
        "--or-mark 0x100",
    ]);
    let restore = rng.pick(&[
        "",
        "-A PREROUTING -j CONNMARK --restore-mark\n",
        "-A PREROUTING -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff\n",
    ]);
    let last = rng.pick(&[
        "-m mark --mark 0x15",
        "-m mark --mark 0x10/0xf0",
        "-m connmark --mark 0x15",
        "-m connmark --mark 0x1/0x1",
    ]);
    let mut rules = Rules::nat(&any_nat(rng, &net));
    rules.mangle = format!(
        "{restore}-A PREROUTING -d {server} -p tcp -m tcp --dport 21 -j MARK {mark}\n\
         -A PREROUTING -d {server} -p tcp -m tcp --dport 10000:20000 -j MARK {other}\n\
         -A POSTROUTING -m mark ! --mark 0x0 -j CONNMARK {save}"
    );
    rules.filter += &format!("\n-A FORWARD -p tcp -m tcp --dport 12345 {last} -j DROP");
    (
        settings(rng, Setup::new(net.v6, &rules)),
        Box::new(move |w| {
            let Some(session) = Session::open(w, net.outward()) else { return };
            session.login(w);
            let ports = [w.rng.range(10_000, 20_001) as u16, w.rng.range(20_001, 60_000) as u16, 12_345];
            for port in ports {
                let extended = w.rng.percent(40);
                session.passive(w, &Transfer { port: Some(port), extended, ..Transfer::default() });
            }
            session.active(w, &Transfer { extended: net.v6, ..Transfer::default() });
        }),
    )
}

/// No rule assigns the helper: nothing is rewritten, nothing expected.
pub(super) fn nohelper(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let rules = Rules { raw: String::new(), ..Rules::nat(MASQUERADE) };
    (settings(rng, Setup::new(net.v6, &rules)), Box::new(move |w| play(w, &[net.outward()])))
}

/// The helper on some ports only.
pub(super) fn helper_ports(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let raw = rng.pick(&[
        "-m multiport --dports 2121,8021",
        "-m multiport --dports 2000:3000,8021",
        "-m tcp --dport 2121:8021",
    ]);
    let rules = Rules { raw: format!("-A PREROUTING -p tcp {raw} -j CT --helper ftp"), ..Rules::nat(MASQUERADE) };
    (
        settings(rng, Setup::new(net.v6, &rules)),
        Box::new(move |w| {
            let ends = [21, 2121, 8021].map(|port| Ends { port, server_port: port, ..net.outward() });
            play(w, &ends);
        }),
    )
}

/// User chains, returns, negation, several tables; connmark saved and restored; notrack; reject.
pub(super) fn chains(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let (bits, inside, spare) = (net.bits(), net.inside, net.spare);
    let (quiet, nine) = (host(&net, 66), host(&net, 9));
    let unreachable = if net.v6 { "icmp6-port-unreachable" } else { "icmp-port-unreachable" };
    let rules = Rules {
        raw: format!(
            "{HELPER}\n-A PREROUTING -s {quiet}/{bits} -j CT --notrack\n-A PREROUTING -d {quiet}/{bits} -j CT --notrack"
        ),
        mangle: format!(
            ":ftp - [0:0]\n-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\n\
             -A PREROUTING -m mark ! --mark 0x0 -j ACCEPT\n-A PREROUTING -p tcp -m tcp --dport 21 -j ftp\n\
             -A PREROUTING -p tcp -m multiport --dports 10000:20000,30000 -j ftp\n-A ftp -s {nine}/{bits} -j RETURN\n\
             -A ftp -j MARK --set-xmark 0x15/0xffffffff\n\
             -A ftp -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"
        ),
        nat: format!(
            "-A POSTROUTING -o out -m mark --mark 0x15 -j SNAT --to-source {spare}\n\
             -A POSTROUTING ! -d {inside} -o out -j MASQUERADE"
        ),
        filter: format!(
            ":lan - [0:0]\n{DROP_INVALID}\n-A FORWARD -i in -j lan\n\
             -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A FORWARD -m helper --helper ftp -j ACCEPT\n-A FORWARD -p tcp -j REJECT --reject-with tcp-reset\n\
             -A FORWARD -j REJECT --reject-with {unreachable}\n-A lan ! -s {inside} -j DROP\n\
             -A lan -p tcp -m tcp ! --dport 25 -j ACCEPT\n-A lan -m comment --comment \"no mail\" -j DROP"
        ),
        ..Rules::empty()
    };
    (
        settings(rng, Setup::new(net.v6, &rules)),
        Box::new(move |w| {
            play(w, &[net.outward(), Ends { client: (IN, nine), ..net.outward() }]);
            Session::open(w, Ends { client: (IN, quiet), ..net.outward() });
            Session::open(w, Ends { port: 25, server_port: 25, ..net.outward() });
            let port = w.rng.port();
            w.connect((OUT, at(net.server, 20)), at(net.client, port), (IN, at(net.client, 9)), MSS);
            let to = if w.rng.percent(30) { net.router_in } else { net.client };
            let ip = w.ip();
            w.carry(OUT, &udp(&ip, at(net.server, 53), at(to, 999), b"x"));
        }),
    )
}

/// Address and port ranges; more clients than ports that are free.
pub(super) fn ranges(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let (first, last) = if net.v6 { ("2001:db8:1::10", "2001:db8:1::13") } else { ("203.0.113.10", "203.0.113.13") };
    let between = if net.v6 { format!("[{first}-{last}]") } else { format!("{first}-{last}") };
    let nat = match rng.range(0, 7) {
        0 => format!("-A POSTROUTING -o out -j SNAT --to-source {first}-{last}"),
        1 => format!("-A POSTROUTING -o out -j SNAT --to-source {first}-{last} --persistent"),
        2 => format!("-A POSTROUTING -o out -p tcp -j SNAT --to-source {between}:30000-30020"),
        3 => "-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 40000-40010".to_owned(),
        4 => "-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 40000-40010 --random".to_owned(),
        5 => "-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 40000-40001".to_owned(),
        _ => "-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 40003".to_owned(),
    };
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let random = w.rng.port();
            let port = w.rng.pick(&[30_005, 40_003, 700, 443, random]);
            for i in 0..4 {
                let client_port = w.rng.percent(70).then_some(port);
                let ends = Ends { client: (IN, host(&net, 20 + i)), client_port, ..net.outward() };
                if let Some(session) = Session::open(w, ends) {
                    session.login(w);
                    session.any_transfer(w);
                }
            }
        }),
    )
}

/// Connection tracking zones, and packets that are not tracked.
pub(super) fn zones(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let raw = rng.pick(&[
        "-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp --zone 5\n-A PREROUTING -j CT --zone 5",
        "-A PREROUTING -i in -j CT --zone 3\n-A PREROUTING -i out -j CT --zone 3",
        "-A PREROUTING -i in -j CT --zone 3",
        "-A PREROUTING -p tcp -m tcp --dport 21 -j NOTRACK",
        "-A PREROUTING -p tcp -m tcp --sport 21 -j CT --notrack\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp",
    ]);
    let nat = any_nat(rng, &net);
    let rules = Rules { raw: raw.to_owned(), filter: String::new(), ..Rules::nat(&nat) };
    (
        settings(rng, Setup::new(net.v6, &rules)),
        Box::new(move |w| {
            play(w, &[net.outward(), Ends { client: (DMZ, net.dmz), ..net.outward() }]);
        }),
    )
}
