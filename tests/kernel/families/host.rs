//! The router is a host as well: an FTP server behind its own INPUT rules, and a client behind OUTPUT.

use std::net::IpAddr;

use super::packets::ping_kinds;
use super::{DMZ, IN, MASQUERADE, Net, OUT, Play, any_nat, settings};
use crate::kernel::SELF;
use crate::rng::Rng;
use crate::session::{Ends, Session, Transfer};
use crate::setup::{HELPER, Rules, Setup};
use crate::wire::{self, ACK, FIN, PSH, RST, SYN, Tcp, icmp, udp};
use crate::world::{Id, MSS, World, at};

/// No socket of the machine is part of the dialogue: its stack would reset every connection. What it says by itself is
/// dropped before it is tracked; what an endpoint here says has another bit beside.
pub(super) const NO_RESETS: &str = "-A OUTPUT -p tcp -m tcp ! --sport 113 --tcp-flags RST,PSH RST -j DROP";
const OWN_RST: u8 = RST | PSH;
const HELPER_OUT: &str = "-A OUTPUT -p tcp -m tcp --dport 21 -j CT --helper ftp";
const TCP_REJECT: &str = "-A INPUT -p tcp -j REJECT --reject-with tcp-reset\n";

const OUTPUT_REJECT: &str = "-A OUTPUT -p tcp -m tcp --dport 22 -j REJECT --reject-with tcp-reset\n\
     -A OUTPUT -p udp -m udp --dport 21 -j REJECT\n";

/// Which connections there may be, and by which translation they are as they are.
#[derive(Clone, Copy)]
enum Way {
    Plain,
    /// The client dials a port that leads to the server's.
    Port,
    /// The client dials an address that leads to the server's.
    Address,
}

pub(super) fn host(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let way = rng.pick(&[Way::Plain, Way::Plain, Way::Port, Way::Address]);
    let rules = Rules {
        raw: raw(rng),
        mangle: mangle(rng),
        nat: nat(rng, &net, way),
        filter: String::new(),
        policies: ["ACCEPT"; 3],
    };
    let rules = filtered(rng, &net, rules);
    let setup = settings(rng, Setup::new(net.v6, &rules).with_host());
    (
        setup,
        Box::new(move |w| {
            for _ in 0..w.rng.range(1, 4) {
                let ends = ends(w, &net, way);
                strange(w, &net);
                if let Some(session) = Session::open(w, ends) {
                    converse(w, &net, &session);
                }
            }
            strange(w, &net);
        }),
    )
}

fn raw(rng: &mut Rng) -> String {
    let helped = rng.pick(&[[HELPER, HELPER_OUT], [HELPER, HELPER_OUT], [HELPER, ""], ["", HELPER_OUT]]);
    let untracked = match rng.percent(20) {
        true => "-A OUTPUT -p udp -j CT --notrack\n-A PREROUTING -p udp -j CT --notrack",
        false => "",
    };
    format!("{NO_RESETS}\n{}\n{}\n{untracked}", helped[0], helped[1])
}

fn mangle(rng: &mut Rng) -> String {
    let rules = [
        "",
        "",
        "-A OUTPUT -p tcp -m tcp --dport 21 -j MARK --set-xmark 0x7/0xffffffff\n\
         -A POSTROUTING -m mark --mark 0x7 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "-A PREROUTING -p tcp -m tcp --dport 21 -j MARK --set-xmark 0x5/0xffffffff\n\
         -A INPUT -m mark --mark 0x5 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
        "-A OUTPUT -p tcp -m conntrack --ctstate RELATED -j CONNMARK --set-xmark 0x9/0xffffffff\n\
         -A INPUT -m conntrack --ctstate RELATED -j CONNMARK --set-xmark 0xa/0xffffffff",
        "-A OUTPUT -o out -p tcp -m tcp --sport 20 -j MARK --set-xmark 0x3/0xffffffff\n\
         -A POSTROUTING -m mark --mark 0x3 -j CONNMARK --set-xmark 0x3/0xffffffff",
    ];
    rng.pick(&rules).to_owned()
}

/// Returns rules that lead the dialled port or address elsewhere, and translate sources.
fn nat(rng: &mut Rng, net: &Net, way: Way) -> String {
    let bits = net.bits();
    let led = match way {
        Way::Plain => String::new(),
        Way::Port => format!(
            "{}\n-A OUTPUT -p tcp -m tcp --dport 2121 -j DNAT --to-destination {}\n",
            rng.pick(&[
                "-A PREROUTING -p tcp -m tcp --dport 2121 -j REDIRECT --to-ports 21",
                "-A PREROUTING -p tcp -m tcp --dport 2121 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 21",
            ]),
            net.with_port(net.server, 21)
        ),
        Way::Address => format!(
            "-A PREROUTING -d {}/{bits} -p tcp -m tcp --dport 21 -j DNAT --to-destination {}\n\
             -A OUTPUT -d {}/{bits} -p tcp -m tcp --dport 21 -j DNAT --to-destination {}\n",
            net.spare,
            rng.pick(&[net.router_in, net.router_out]),
            net.stranger,
            rng.pick(&[net.server, net.dmz, net.router_in]),
        ),
    };
    let source = match rng.range(0, 6) {
        0 => format!("-A POSTROUTING -o out -p tcp -j SNAT --to-source {}", net.with_port(net.spare, "3000-3009")),
        1 => format!("-A INPUT -p tcp -m tcp --dport 21 -j SNAT --to-source {}", net.client2),
        2 => format!("{MASQUERADE}\n-A POSTROUTING -o dmz -j MASQUERADE"),
        3 => String::new(),
        _ => any_nat(rng, net),
    };
    led + &source
}

/// The firewall of the machine itself.
fn filtered(rng: &mut Rng, net: &Net, rules: Rules) -> Rules {
    let (mut filter, mut policies) = (String::new(), ["ACCEPT"; 3]);
    if rng.percent(70) {
        policies[0] = rng.pick(&["DROP", "ACCEPT"]);
        filter += &input(rng, net);
    }
    if rng.percent(50) {
        policies[2] = rng.pick(&["DROP", "ACCEPT"]);
        filter += &output(rng);
    }
    if rng.percent(20) {
        policies[1] = "DROP";
        filter += "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                   -A FORWARD -p tcp -m tcp --dport 21 -j ACCEPT\n";
    }
    Rules { filter, policies, ..rules }
}

fn input(rng: &mut Rng, net: &Net) -> String {
    let known = rng.pick(&[
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        "-A INPUT -m conntrack --ctstate INVALID -j DROP\n\
         -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -m helper --helper ftp -j ACCEPT\n",
    ]);
    let refused = match rng.percent(25) {
        true => format!("-A INPUT -s {}/{} -p tcp -m tcp --dport 21 -j REJECT\n", net.dmz, net.bits()),
        false => String::new(),
    };
    let [unreachable, prohibited] = match net.v6 {
        true => ["icmp6-port-unreachable", "icmp6-adm-prohibited"],
        false => ["icmp-port-unreachable", "icmp-admin-prohibited"],
    };
    let others = match rng.range(0, 4) {
        0 => String::new(),
        1 => format!("-A INPUT -j REJECT --reject-with {unreachable}\n"),
        2 => format!("{TCP_REJECT}-A INPUT -j REJECT --reject-with {prohibited}\n"),
        _ => "-A INPUT -p tcp -m tcp --dport 113 -j REJECT --reject-with tcp-reset\n-A INPUT -p tcp -j DROP\n".into(),
    };
    format!("{known}{refused}-A INPUT -p tcp -m tcp --dport 21 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT\n{others}")
}

fn output(rng: &mut Rng) -> String {
    let known = rng.pick(&[
        "-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        "-A OUTPUT -m conntrack --ctstate INVALID -j DROP\n\
         -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        "-A OUTPUT -m conntrack --ctstate UNTRACKED -j ACCEPT\n\
         -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n",
        "-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
         -A OUTPUT -p tcp -m tcp --sport 20 -m conntrack --ctstate RELATED -j ACCEPT\n",
    ]);
    let others = rng.pick(&["", "-A OUTPUT -p tcp -j DROP\n", OUTPUT_REJECT]);
    format!("{known}-A OUTPUT -p tcp -m tcp --dport 21 -j ACCEPT\n{others}")
}

/// Picks client and server: one of them the machine, or neither.
fn ends(w: &mut World<'_>, net: &Net, way: Way) -> Ends {
    let outside = [(OUT, net.server), (OUT, net.stranger), (DMZ, net.dmz), (IN, net.client)];
    match w.rng.range(0, 9) {
        0 => net.outward(),
        1 => to_itself(net, way),
        2..5 => {
            let client = w.rng.pick(&outside);
            let own = w.rng.pick(&[net.router_out, net.router_out, net.router_in]);
            let plain = Ends::new(client, (SELF, own), own);
            match way {
                Way::Plain => plain,
                Way::Port => {
                    let arrival = own_address(net, client.0);
                    let own = arrival.unwrap_or(own);
                    Ends { port: 2121, ..Ends::new(client, (SELF, own), own) }
                }
                Way::Address => {
                    let spare = net.spare.parse().unwrap_or(own);
                    Ends::new(client, (SELF, own), spare)
                }
            }
        }
        _ => {
            let server = w.rng.pick(&outside);
            let own = own_address(net, server.0).unwrap_or(net.router_in);
            let own = if w.rng.percent(80) { own } else { net.router_in };
            match way {
                Way::Plain => Ends::new((SELF, own), server, server.1),
                Way::Port => Ends { port: 2121, ..Ends::new((SELF, own), (OUT, net.server), server.1) },
                Way::Address => {
                    let server = w.rng.pick(&[(OUT, net.server), (DMZ, net.dmz)]);
                    Ends::new((SELF, own), server, net.stranger)
                }
            }
        }
    }
}

/// The machine is both.
fn to_itself(net: &Net, way: Way) -> Ends {
    let (client, server) = ((SELF, net.router_out), (SELF, net.router_in));
    Ends::new(client, server, if matches!(way, Way::Address) { net.stranger } else { net.router_in })
}

/// The machine's address on an interface.
fn own_address(net: &Net, interface: usize) -> Option<IpAddr> {
    match interface {
        IN => Some(net.router_in),
        OUT => Some(net.router_out),
        _ => (if net.v6 { "fd77:5::1" } else { "172.16.5.1" }).parse().ok(),
    }
}

/// A session, now and then with something beside it.
fn converse(w: &mut World<'_>, net: &Net, session: &Session) {
    session.login(w);
    for _ in 0..w.rng.range(1, 5) {
        match w.rng.range(0, 10) {
            0 => strange(w, net),
            1 => intrude(w, session),
            2 => complain(w, net),
            3 => {
                let transfer = Transfer { only_announced: true, extended: session.is_v6(), ..Transfer::default() };
                if w.rng.percent(50) { session.active(w, &transfer) } else { session.passive(w, &transfer) }
            }
            _ => session.any_transfer(w),
        }
    }
    match w.rng.range(0, 10) {
        0..4 => session.quit(w),
        4 => reset(w, session.c),
        5 => reset(w, session.s),
        _ => {}
    }
}

/// An endpoint gives up.
fn reset(w: &mut World<'_>, id: Id) {
    let flags = w.rng.pick(&[OWN_RST, OWN_RST | ACK]);
    let tcp = w.segment(id, flags, &[]);
    w.inject(id, &tcp);
}

/// A segment that does not belong where it is sent.
fn intrude(w: &mut World<'_>, session: &Session) {
    let id = w.rng.pick(&[session.c, session.s]);
    let mut tcp = w.segment(id, ACK, b"NOOP\r\n");
    match w.rng.range(0, 5) {
        0 => tcp.seq = tcp.seq.wrapping_add(1 << 20),
        1 => tcp.ack = tcp.ack.wrapping_add(1 << 20),
        2 => tcp.flags = SYN,
        3 => tcp.flags = SYN | ACK,
        _ => tcp.flags = 0,
    }
    w.inject(id, &tcp);
}

/// An ICMP error about the latest packet that left or was delivered, from somewhere there.
fn complain(w: &mut World<'_>, net: &Net) {
    let Some(about) = w.left.last().cloned() else { return };
    let Some(read) = wire::read(&about.bytes) else { return };
    // None that tells of a smaller MTU: the kernel believes it.
    let errors: &[_] = if net.v6 { &[(1, 1), (1, 4), (3, 0)] } else { &[(3, 1), (3, 3), (11, 0)] };
    let (kind, code) = w.rng.pick(errors);
    let from = if about.interface == SELF { read.to } else { w.rng.pick(&[read.to, net.stranger]) };
    let ip = w.ip();
    w.carry(about.interface, &icmp(&ip, from, read.from, kind, code, 0, &about.bytes));
}

/// Something nobody asked for, to the machine or from it.
fn strange(w: &mut World<'_>, net: &Net) {
    if w.rng.percent(40) {
        return;
    }
    let (mut ip, isn, port) = (w.ip(), w.isn(), w.rng.port());
    let own = w.rng.pick(&[net.router_in, net.router_out]);
    let (interface, peer) = w.rng.pick(&[(IN, net.client), (OUT, net.server), (OUT, net.stranger), (DMZ, net.dmz)]);
    let to = w.rng.pick(&[20, 21, 22, 53, 113, 2121, 3001]);
    let arrives = w.rng.percent(60);
    let ends = if arrives { (at(peer, port), at(own, to)) } else { (at(own, port), at(peer, to)) };
    let from = if arrives { interface } else { SELF };
    let passes = arrives && interface != DMZ && w.rng.percent(20);
    let ends = if passes { (ends.0, at(if interface == IN { net.server } else { net.inner }, to)) } else { ends };
    ip.ttl = if arrives { w.rng.pick(&[64, 64, 1]) } else { 64 };
    let (request, _) = ping_kinds(net.v6);
    match w.rng.range(0, 8) {
        0 | 1 => {
            let len = w.rng.below(40);
            let data = w.rng.bytes(len);
            w.carry(from, &udp(&ip, ends.0, ends.1, &data));
        }
        2 => drop(w.carry(from, &icmp(&ip, ends.0.ip(), ends.1.ip(), request, 0, isn, b"ping"))),
        kind => {
            let flags = match kind {
                3 => ACK | PSH,
                4 => w.rng.pick(&[OWN_RST, SYN | ACK, FIN | ACK]),
                _ => SYN,
            };
            let mut tcp = Tcp::new(flags, isn, if flags & ACK == 0 { 0 } else { isn ^ 0x5555 });
            tcp.options = if flags & SYN != 0 { MSS.to_vec() } else { Vec::new() };
            w.carry(from, &tcp.packet(&ip, ends.0, ends.1));
            if w.rng.percent(30) {
                w.carry(from, &tcp.packet(&ip, ends.0, ends.1));
            }
        }
    }
}
