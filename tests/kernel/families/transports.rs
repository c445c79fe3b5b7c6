//! Transport protocols beside TCP and UDP: SCTP, GRE, UDP-Lite, and some that have no tracker.

use std::net::SocketAddr;

use super::packets::error_about;
use super::{IN, MASQUERADE, Net, OUT, Play, any_nat, settings};
use crate::kernel::OnWire;
use crate::rng::Rng;
use crate::setup::{Rules, Setup};
use crate::wire::{self, Ip};
use crate::world::{World, at};

const GRE: u8 = 47;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Types of SCTP's chunks, and some that are none.
const KINDS: [u8; 19] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 63, 0x80, 0xc1];
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

fn rules(rng: &mut Rng, net: &Net) -> Rules {
    let nat = match rng.range(0, 6) {
        0 => String::new(),
        1 => format!("-A POSTROUTING -o out -p sctp -j SNAT --to-source {}", net.with_port(net.spare, "5000-5003")),
        2 => format!(
            "-A PREROUTING -d {}/{} -p sctp -j DNAT --to-destination {}\n{MASQUERADE}",
            net.router_out,
            net.bits(),
            net.with_port(net.inner, 99)
        ),
        3 => format!("-A POSTROUTING -o out -p sctp -j MASQUERADE --to-ports 7000-7010 --random\n{MASQUERADE}"),
        _ => any_nat(rng, net),
    };
    let mut rules = Rules::nat(&nat);
    if rng.percent(30) {
        rules.filter = String::new();
    }
    rules.filter += rng.pick(&[
        "",
        "",
        "\n-A FORWARD -p sctp -m sctp --sport 1000 -j DROP",
        "\n-A FORWARD -p sctp -m sctp ! --dport 99 -j DROP",
        "\n-A FORWARD -p sctp -m multiport --dports 99,1000:5001 -j DROP",
        "\n-A FORWARD -p udplite -m multiport --ports 1000,1001 -j DROP",
    ]);
    rules
}

/// An association as both ends know it.
struct Association {
    client: SocketAddr,
    target: SocketAddr,
    server: SocketAddr,
    /// As whom the server knows the client.
    known_as: Option<SocketAddr>,
    /// The tag that packets of each direction bear.
    tags: [u32; 2],
}

/// SCTP: handshakes, data, ends, and chunks of every kind at any time, with right and wrong tags.
pub(super) fn sctp(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let rules = rules(rng, &net);
    let setup = settings(rng, Setup::new(net.v6, &rules));
    (
        setup,
        Box::new(move |w| {
            for _ in 0..w.rng.range(1, 4) {
                let client = w.rng.pick(&[net.client, net.client, net.client2]);
                let port = w.rng.pick(&[1000, 5001, 40_000, 40_001]);
                let mut association = Association {
                    client: at(client, port),
                    target: at(net.server, 99),
                    server: at(net.server, 99),
                    known_as: None,
                    tags: [w.rng.u32() | 1, w.rng.u32() | 1],
                };
                if w.rng.percent(80) {
                    let steps = w.rng.range(1, 5) as usize;
                    let handshake = [(false, INIT), (true, INIT_ACK), (false, 10), (true, 11)];
                    for (answers, kind) in handshake.into_iter().take(steps) {
                        let tag = if kind == INIT { 0 } else { association.tags[usize::from(answers)] };
                        let chunk = chunk(w, &association, answers, kind);
                        association.send(w, &net, answers, tag, &chunk);
                    }
                }
                for _ in 0..w.rng.range(1, 14) {
                    any_packet(w, &net, &mut association);
                }
            }
        }),
    )
}

/// SCTP over the time that an entry lives, by short timeouts.
pub(super) fn sctp_expire(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(&any_nat(rng, &net)))
        .with("sctp_timeout_closed", rng.range(1, 3))
        .with("sctp_timeout_established", 2)
        .with("gre_timeout", 1)
        .with("gre_timeout_stream", 2);
    (
        setup,
        Box::new(move |w| {
            let mut association = Association {
                client: at(net.client, 1000),
                target: at(net.server, 99),
                server: at(net.server, 99),
                known_as: None,
                tags: [17, 34],
            };
            for _ in 0..w.rng.range(3, 8) {
                any_packet(w, &net, &mut association);
                if w.rng.percent(50) {
                    any_gre(w, &net);
                }
                if w.rng.percent(40) {
                    let millis = w.rng.pick(&[1300, 2300]);
                    w.wait(millis);
                }
            }
        }),
    )
}

impl Association {
    fn send(&mut self, w: &mut World<'_>, net: &Net, answers: bool, tag: u32, chunks: &[u8]) -> Vec<OnWire> {
        let ip = w.ip();
        let (interface, from, to) = match (answers, self.known_as) {
            (false, _) => (IN, self.client, self.target),
            (true, known_as) => (OUT, self.server, known_as.unwrap_or_else(|| at(net.router_out, self.client.port()))),
        };
        let mut packet = wire::sctp(&ip, from, to, tag, chunks);
        if w.rng.percent(3) {
            let last = packet.len() - 1;
            let place = w.rng.pick(&[last, last - 1, last.min(if net.v6 { 49 } else { 29 })]);
            packet[place] ^= 4;
        }
        if w.rng.percent(2) {
            // Not even a whole header.
            let len = w.rng.below(13);
            packet = wire::ip(&ip, from.ip(), to.ip(), SCTP, &packet[if net.v6 { 40 } else { 20 }..][..len]);
        }
        let left = w.carry(interface, &packet);
        for packet in &left {
            if let Some(read) = wire::read(&packet.bytes)
                && !answers
                && packet.interface == OUT
                && read.protocol == SCTP
            {
                self.known_as = Some(read.source());
            }
        }
        if w.rng.percent(6) {
            for packet in &left {
                error_about(w, net, packet);
            }
        }
        left
    }
}

/// A chunk as an end would write it.
fn chunk(w: &mut World<'_>, association: &Association, answers: bool, kind: u8) -> Vec<u8> {
    let body: Vec<u8> = match kind {
        INIT | INIT_ACK => {
            // The tag that answers are to bear.
            let tag = match w.rng.percent(85) {
                true => association.tags[usize::from(!answers)],
                false => w.rng.pick(&[0, 1, 2]),
            };
            [&tag.to_be_bytes()[..], &[0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 7]].concat()
        }
        0 => vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'x'],
        3 => vec![0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        4 | 5 => vec![0, 1, 0, 8, 0, 0, 0, 5],
        7 => vec![0, 0, 0, 1],
        10 => b"cookie..".to_vec(),
        _ => Vec::new(),
    };
    let flags = if matches!(kind, 6 | 14) { u8::from(w.rng.percent(30)) } else { 0 };
    let length = match w.rng.range(0, 60) {
        0 => w.rng.pick(&[0, 1, 3, 7, 200]),
        _ => 4 + body.len() as u16,
    };
    let mut out = vec![kind, flags];
    out.extend(length.to_be_bytes());
    out.extend(body);
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
    out
}

fn any_packet(w: &mut World<'_>, net: &Net, association: &mut Association) {
    let answers = w.rng.percent(45);
    let own = association.tags[usize::from(answers)];
    let mut chunks = Vec::new();
    let mut first = 0;
    for number in 0..w.rng.pick(&[1, 1, 1, 1, 2, 2, 3]) {
        let kind = w.rng.pick(&KINDS);
        first = if number == 0 { kind } else { first };
        chunks.extend(chunk(w, association, answers, kind));
    }
    let tag = match w.rng.range(0, 12) {
        0 => 0,
        1 => association.tags[usize::from(!answers)],
        2 => w.rng.pick(&[1, 2, own]),
        _ if first == INIT => 0,
        _ => own,
    };
    if w.rng.percent(3) {
        let len = w.rng.below(chunks.len() + 1);
        chunks.truncate(len);
    }
    association.send(w, net, answers, tag, &chunks);
}

/// GRE plain, with a key and of PPTP, UDP-Lite, and protocols that have no tracker.
pub(super) fn transports(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let rules = rules(rng, &net);
    let setup = settings(rng, Setup::new(net.v6, &rules));
    (
        setup,
        Box::new(move |w| {
            for _ in 0..w.rng.range(4, 16) {
                match w.rng.range(0, 6) {
                    0 | 1 => any_gre(w, &net),
                    2..5 => any_udp_lite(w, &net),
                    _ => {
                        let (ip, protocol) = (w.ip(), w.rng.pick(&[33, 50, 4, 115]));
                        let packet =
                            wire::ip(&ip, net.client, net.server, protocol, &[0, 1, 0, 2, 4, 0, 0, 0, 0, 0, 0, 0]);
                        let left = w.carry(IN, &packet);
                        answered(w, &net, &left);
                    }
                }
            }
        }),
    )
}

/// Maybe an answer to what left, or an error about it.
fn answered(w: &mut World<'_>, net: &Net, left: &[OnWire]) {
    for packet in left {
        let Some(read) = wire::read(&packet.bytes) else { continue };
        let body = packet.bytes[read.at..].to_vec();
        if w.rng.percent(60) {
            let ip = w.ip();
            w.carry(packet.interface, &wire::ip(&ip, read.to, read.from, read.protocol, &body));
        }
        if w.rng.percent(25) {
            error_about(w, net, packet);
        }
    }
}

fn any_gre(w: &mut World<'_>, net: &Net) {
    let client = w.rng.pick(&[net.client, net.client, net.client2]);
    let mut body = w
        .rng
        .pick(&[
            &[0, 0, 8, 0, b'a', b'b', b'c', b'd', b'e'][..],
            &[0x20, 0, 8, 0, 1, 2, 3, 4, b'a', b'b'],
            &[0x30, 1, 0x88, 0x0b, 0, 4, 0, 7, 0, 0, 0, 1, b'a', b'b', b'c', b'd'],
            &[0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1],
            &[0x30, 1, 8, 0, 0, 4, 0, 7],
            &[0, 2, 0x88, 0x0b, 0, 4, 0, 7],
        ])
        .to_vec();
    if w.rng.percent(10) {
        let len = w.rng.below(body.len());
        body.truncate(len);
    }
    let ip = w.ip();
    let (interface, from, to) =
        if w.rng.percent(80) { (IN, client, net.server) } else { (OUT, net.server, net.router_out) };
    let left = w.carry(interface, &wire::ip(&ip, from, to, GRE, &body));
    answered(w, net, &left);
}

fn any_udp_lite(w: &mut World<'_>, net: &Net) {
    let client = w.rng.pick(&[net.client, net.client, net.client2]);
    let (port, len) = (w.rng.pick(&[1000, 1000, 40_000]), w.rng.below(12));
    let data = w.rng.bytes(len);
    let coverage = match w.rng.range(0, 6) {
        0 => w.rng.range(0, 30) as u16,
        1 => 0,
        2 => 8 + len as u16,
        _ => 8,
    };
    let ip = w.ip();
    // Linux sums UDP's number.
    let summed = if w.rng.percent(80) { 17 } else { UDP_LITE };
    let packet = udp_lite(&ip, at(client, port), at(net.server, 53), coverage, &data, summed);
    for packet in w.carry(IN, &packet) {
        let Some(read) = wire::read(&packet.bytes) else { continue };
        if read.protocol == UDP_LITE && packet.interface == OUT && w.rng.percent(70) {
            let ip = w.ip();
            w.carry(OUT, &udp_lite(&ip, at(net.server, 53), read.source(), 8, b"answer", 17));
        }
        if w.rng.percent(15) {
            error_about(w, net, &packet);
        }
    }
}

/// A UDP-Lite packet, with this protocol number in the pseudo-header.
fn udp_lite(ip: &Ip, from: SocketAddr, to: SocketAddr, coverage: u16, data: &[u8], summed: u8) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(coverage.to_be_bytes());
    body.extend([0, 0]);
    body.extend(data);
    let covered = if coverage == 0 { body.len() } else { usize::from(coverage).clamp(8, body.len()) };
    wire::sum_covered(&mut body, 6, covered, (from.ip(), to.ip()), summed);
    wire::ip(ip, from.ip(), to.ip(), UDP_LITE, &body)
}
