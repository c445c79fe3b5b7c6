//! Other packets that a router meets: UDP, pings, ICMP errors, strange headers, fragments, packets for itself.

use std::net::IpAddr;

use super::{DMZ, IN, MASQUERADE, Net, OUT, Play, any_nat, settings};
use crate::kernel::OnWire;
use crate::rng::Rng;
use crate::session::{Ends, Session, Transfer};
use crate::setup::{Rules, Setup};
use crate::wire::{self, ACK, FIN, Ip, PSH, RST, SYN, Tcp, icmp, udp};
use crate::world::{MSS, World, at};

const ERRORS4: &[(u8, u8, u32)] = &[
    (3, 0, 0),
    (3, 1, 0),
    (3, 2, 0),
    (3, 3, 0),
    (3, 4, 1400),
    (3, 4, 0),
    (3, 9, 0),
    (3, 13, 0),
    (3, 15, 0),
    (3, 16, 0),
    (4, 0, 0),
    (5, 0, 0x0a4d_0102),
    (5, 1, 0),
    (11, 0, 0),
    (11, 1, 0),
    (12, 0, 0),
    (12, 1, 0x0400_0000),
    (12, 2, 0),
];
const ERRORS6: &[(u8, u8, u32)] = &[
    (1, 0, 0),
    (1, 1, 0),
    (1, 3, 0),
    (1, 4, 0),
    (1, 6, 0),
    (2, 0, 1280),
    (2, 0, 0),
    (3, 0, 0),
    (3, 1, 0),
    (4, 0, 0),
    (4, 1, 6),
    (4, 2, 40),
    (127, 0, 0),
    (100, 0, 0),
    (1, 200, 0),
];

pub(super) const fn ping_kinds(v6: bool) -> (u8, u8) {
    if v6 { (128, 129) } else { (8, 0) }
}

/// A ping, and the answer of whoever it reaches.
pub(super) fn ping(w: &mut World<'_>, net: &Net, from: (usize, IpAddr), to: IpAddr, server: (usize, IpAddr)) {
    let (request, reply) = ping_kinds(net.v6);
    let (identifier, ip) = (w.rng.u32(), w.ip());
    for packet in w.carry(from.0, &icmp(&ip, from.1, to, request, 0, identifier, b"ping")) {
        let Some(read) = wire::read(&packet.bytes) else { continue };
        let Some(rest) = packet.bytes.get(read.at + 4..read.at + 8) else { continue };
        if packet.interface == server.0 && read.to == server.1 {
            let rest = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
            let ip = w.ip();
            w.carry(server.0, &icmp(&ip, server.1, read.from, reply, 0, rest, b"ping"));
            if w.rng.percent(20) {
                w.carry(server.0, &icmp(&ip, server.1, read.from, reply, 0, rest, b"ping"));
            }
        }
    }
}

/// A question in a datagram, and the answer.
pub(super) fn question(w: &mut World<'_>, net: &Net) {
    let (port, to) = (w.rng.port(), w.rng.pick(&[53, 123, 21, 33_434]));
    for _ in 0..w.rng.range(1, 3) {
        let ip = w.ip();
        for packet in w.carry(IN, &udp(&ip, at(net.client, port), at(net.server, to), b"question")) {
            let Some(read) = wire::read(&packet.bytes) else { continue };
            if read.protocol == 17 && packet.interface == OUT && w.rng.percent(80) {
                let ip = w.ip();
                w.carry(OUT, &udp(&ip, at(net.server, to), read.source(), b"answer"));
            }
        }
    }
}

/// An ICMP error about a packet that left by `interface`, from somewhere there.
pub(super) fn error_about(w: &mut World<'_>, net: &Net, about: &OnWire) {
    let Some(read) = wire::read(&about.bytes) else { return };
    let (kind, code, rest) = w.rng.pick(if net.v6 { ERRORS6 } else { ERRORS4 });
    let least = if net.v6 { 48 } else { 28 };
    let cut = match w.rng.range(0, 8) {
        0 => w.rng.range(0, 70) as usize,
        1 => least,
        2 => least + 12,
        3 => least + 4,
        _ => about.bytes.len(),
    };
    let mut quote = about.bytes[..cut.min(about.bytes.len()).min(1200)].to_vec();
    if w.rng.percent(12) && !quote.is_empty() {
        let at = w.rng.below(quote.len());
        quote[at] ^= 1 << w.rng.below(8);
    }
    if w.rng.percent(5) && quote.len() > 28 && !net.v6 {
        quote[2..4].copy_from_slice(&[5, 0xdc]);
    }
    let from = w.rng.pick(&[read.to, net.stranger, read.to]);
    let to = match w.rng.range(0, 12) {
        0 => net.router_out,
        1 => net.client,
        2 => net.inner,
        _ => read.from,
    };
    let ip = w.ip();
    w.carry(about.interface, &icmp(&ip, from, to, kind, code, rest, &quote));
}

/// UDP, ping, ICMP errors about translated packets, packets that die here.
pub(super) fn others(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = if rng.percent(80) { MASQUERADE } else { "" };
    let setup = Setup::new(net.v6, &Rules { filter: String::new(), ..Rules::nat(nat) });
    (
        settings(rng, setup),
        Box::new(move |w| {
            let Some(s) = Session::open(w, net.outward()) else { return };
            s.login(w);
            for _ in 0..w.rng.range(6, 16) {
                match w.rng.range(0, 10) {
                    0 | 1 => question(w, &net),
                    2 | 3 => ping(w, &net, (IN, net.client), net.server, (OUT, net.server)),
                    4..7 => {
                        let (port, extended) = (w.rng.port(), w.rng.percent(40));
                        let line = if w.rng.percent(50) {
                            "NOOP\r\n".to_owned()
                        } else {
                            s.command(extended, net.client, port)
                        };
                        let left = w.say(s.c, line);
                        for packet in left {
                            error_about(w, &net, &packet);
                        }
                    }
                    7 => {
                        let tcp = w.segment(s.c, ACK, b"");
                        let ip = Ip { ttl: w.rng.pick(&[0, 1, 2]), ..w.ip() };
                        w.carry(IN, &tcp.packet(&ip, w.halves[s.c].local, w.halves[s.c].remote));
                    }
                    8 => {
                        let ip = w.ip();
                        let never = udp(&ip, at(net.router_out, 5555), at(net.server, 53), b"never sent");
                        error_about(w, &net, &OnWire { interface: OUT, bytes: never });
                    }
                    _ => {
                        w.say(s.s, "200 ok\r\n");
                        w.send(s.c, ACK);
                    }
                }
            }
        }),
    )
}

/// ICMP errors of every kind about every kind of connection, in both directions.
pub(super) fn errors(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let inward = rng.percent(35);
    let nat = match inward {
        true => format!(
            "-A PREROUTING -d {0}/{1} -p tcp -m tcp --dport 21 -j DNAT --to-destination {2}\n\
             -A PREROUTING -d {0}/{1} -p udp -j DNAT --to-destination {2}{3}",
            net.router_out,
            net.bits(),
            net.inner,
            if rng.percent(50) { "\n-A POSTROUTING -o in -j MASQUERADE" } else { "" }
        ),
        false => any_nat(rng, &net),
    };
    let filter = rng.pick(&[
        "",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A FORWARD -p icmp -m conntrack --ctstate NEW -j DROP",
    ]);
    let filter = if net.v6 { filter.replace("-p icmp", "-p ipv6-icmp") } else { filter.to_owned() };
    let setup = Setup::new(net.v6, &Rules { filter, ..Rules::nat(&nat) });
    (
        settings(rng, setup),
        Box::new(move |w| {
            let ends = if inward { net.inward() } else { net.outward() };
            let Some(s) = Session::open(w, ends.clone()) else { return };
            for round in 0..w.rng.range(4, 12) {
                let left = match w.rng.range(0, 6) {
                    0 => w.say(s.c, "NOOP\r\n"),
                    1 => w.say(s.s, "200 ok\r\n"),
                    2 => {
                        let (port, extended) = (w.rng.port(), w.rng.percent(30));
                        w.say(s.c, s.command(extended, ends.client.1, port))
                    }
                    3 => {
                        let (ip, port) = (w.ip(), w.rng.port());
                        w.carry(ends.client.0, &udp(&ip, at(ends.client.1, port), at(ends.target, 53), b"question"))
                    }
                    4 => {
                        let (ip, identifier) = (w.ip(), w.rng.u32());
                        w.carry(
                            ends.client.0,
                            &icmp(&ip, ends.client.1, net.server, ping_kinds(net.v6).0, 0, identifier, b"ping"),
                        )
                    }
                    _ => {
                        let (ip, port) = (w.ip(), w.rng.port());
                        let syn = Tcp { options: MSS.to_vec(), ..Tcp::new(SYN, round, 0) };
                        w.carry(ends.client.0, &syn.packet(&ip, at(ends.client.1, port), at(ends.target, 21)))
                    }
                };
                for packet in left {
                    for _ in 0..w.rng.range(1, 4) {
                        error_about(w, &net, &packet);
                    }
                }
            }
            w.say(s.c, "NOOP\r\n");
            w.say(s.s, "200 ok\r\n");
        }),
    )
}

/// UDP both ways, pings and other ICMP, protocols that have no ports.
pub(super) fn datagrams(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let dnat = format!(
        "-A PREROUTING -d {}/{} -p udp -m udp --dport 53 -j DNAT --to-destination {}",
        net.router_out,
        net.bits(),
        net.with_port(net.inner, 5353)
    );
    let masquerade = rng.pick(&[
        MASQUERADE,
        "-A POSTROUTING -o out -p udp -j MASQUERADE --to-ports 5000-5003",
        "-A POSTROUTING -o out -j MASQUERADE --random",
        "",
    ]);
    let nat = format!("{dnat}\n{masquerade}\n-A POSTROUTING -o in -j MASQUERADE");
    let filter = rng.pick(&[
        "",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A FORWARD -i out -m conntrack --ctstate NEW -j DROP",
    ]);
    let setup = Setup::new(net.v6, &Rules { filter: filter.to_owned(), ..Rules::nat(&nat) });
    (
        settings(rng, setup),
        Box::new(move |w| {
            for _ in 0..w.rng.range(4, 14) {
                datagram(w, &net);
            }
        }),
    )
}

fn datagram(w: &mut World<'_>, net: &Net) {
    let client = w.rng.pick(&[net.client, net.client2]);
    match w.rng.range(0, 12) {
        0..3 => question(w, net),
        3 | 4 => ping(w, net, (IN, client), net.server, (OUT, net.server)),
        5 => ping(w, net, (IN, client), net.dmz, (DMZ, net.dmz)),
        6 => {
            let (ip, port) = (w.ip(), w.rng.pick(&[4000, 4001]));
            for packet in w.carry(OUT, &udp(&ip, at(net.server, port), at(net.router_out, 53), b"question")) {
                if let Some(read) = wire::read(&packet.bytes)
                    && packet.interface == IN
                    && read.ports.is_some()
                {
                    w.carry(IN, &udp(&ip, read.destination(), read.source(), b"answer"));
                }
            }
        }
        7 => {
            // The same port from two machines.
            for client in [net.client, net.client2] {
                let ip = w.ip();
                w.carry(IN, &udp(&ip, at(client, 4500), at(net.server, 4500), b"same"));
            }
        }
        8 => {
            let (ip, from) = (w.ip(), w.rng.below(2));
            let kinds: &[u8] = if net.v6 {
                &[129, 128, 144, 160, 127, 200]
            } else {
                &[0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 19, 42, 255]
            };
            let (kind, code, rest) = (w.rng.pick(kinds), w.rng.pick(&[0, 0, 0, 1]), w.rng.u32());
            let (source, target) = if from == 0 { (client, net.server) } else { (net.server, net.client) };
            w.carry(from, &icmp(&ip, source, target, kind, code, rest, b"unasked"));
        }
        9 => {
            let (ip, protocol, len) = (w.ip(), w.rng.pick(&[4, 41, 50, 51, 89, 103, 136, 255, 33]), w.rng.below(30));
            if net.v6 && protocol == 51 {
                return;
            }
            let body = w.rng.bytes(len);
            w.carry(IN, &wire::ip(&ip, client, net.server, protocol, &body));
        }
        10 => {
            // Lengths and checksums that are wrong or absent.
            let ip = w.ip();
            let mut packet = udp(&ip, at(client, 600), at(net.server, 53), b"question");
            let at = if net.v6 { 40 } else { 20 };
            let field = w.rng.pick(&[(6, 0_u16), (4, 0), (4, 7), (4, 8), (4, 200), (4, 15), (6, 0x1234)]);
            packet[at + field.0..at + field.0 + 2].copy_from_slice(&field.1.to_be_bytes());
            w.carry(IN, &packet);
        }
        _ => {
            // A datagram that nobody asked for, and one to port 0.
            let (ip, port) = (w.ip(), w.rng.pick(&[0, 1, 5000, 5001]));
            w.carry(OUT, &udp(&ip, at(net.server, 53), at(client, port), b"unasked"));
            w.carry(IN, &udp(&ip, at(client, port), at(net.server, 0), b"to zero"));
        }
    }
}

/// IP options of every kind, padding, times to live, wrong checksums and lengths, packets longer than the next link takes.
pub(super) fn headers(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let rules = Rules {
        filter: "-A FORWARD -m conntrack --ctstate INVALID -j DROP".to_owned(),
        ..Rules::nat(&any_nat(rng, &net))
    };
    let open = Rules { filter: String::new(), ..rules.clone() };
    let setup = Setup::new(net.v6, if rng.percent(50) { &rules } else { &open });
    (
        settings(rng, setup),
        Box::new(move |w| {
            let ends = match w.rng.percent(40) {
                true => Ends { server: (DMZ, net.dmz), target: net.dmz, ..net.outward() },
                false => net.outward(),
            };
            let Some(s) = Session::open(w, ends) else { return };
            s.login(w);
            for _ in 0..w.rng.range(3, 14) {
                odd_header(w, &net, &s);
            }
        }),
    )
}

/// IPv4 options that routers pass on, fill in, or refuse; a multiple of four bytes.
fn any_options(w: &mut World<'_>, net: &Net) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..w.rng.pick(&[1, 1, 1, 1, 2, 2, 3]) {
        let entries = w.rng.pick(&[0, 1, 2, 3]);
        let mut option = match w.rng.range(0, 12) {
            0..4 => [
                &[7, 3 + 4 * entries, 4 + 4 * w.rng.pick(&[0, 0, 1, entries])][..],
                &[0x11; 12][..4 * usize::from(entries)],
            ]
            .concat(),
            4 | 5 => [
                &[68, 4 + 4 * entries, 5 + 4 * w.rng.pick(&[0, 0, 1, entries]), w.rng.pick(&[0, 0, 0x10, 0xf0, 2])][..],
                &[0; 12][..4 * usize::from(entries)],
            ]
            .concat(),
            6 => {
                let flags = w.rng.pick(&[1, 3, 3, 0x11, 0xf3]);
                let address = match w.rng.pick(&[net.router_in, net.router_out, net.server, net.client]) {
                    IpAddr::V4(address) => address.octets(),
                    IpAddr::V6(_) => [0; 4],
                };
                [&[68, 12, w.rng.pick(&[5, 5, 13]), flags][..], &address, &[0; 4]].concat()
            }
            7 => w
                .rng
                .pick(&[&[1, 1, 1][..], &[0, 9, 9], &[1, 0], &[148, 4, 0, 0], &[148, 4, 0, 1], &[200, 4, 1, 2]])
                .to_vec(),
            8 => w
                .rng
                .pick(&[
                    &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                    &[136, 4, 1, 2],
                    &[134, 6, 0, 0, 0, 1],
                    &[134, 8, 0, 0, 0, 1, 1, 2],
                ])
                .to_vec(),
            9 => [&[w.rng.pick(&[131, 137]), 7, w.rng.pick(&[4, 8, 3, 0])][..], &[198, 51, 100, 9]].concat(),
            _ => {
                let (kind, length) =
                    (w.rng.pick(&[7, 68, 131, 137, 148, 134, 200, 1]), w.rng.pick(&[0, 1, 2, 3, 4, 5, 7, 8, 40]));
                let rest = if matches!(kind, 131 | 137) { 0 } else { w.rng.below(9) };
                [vec![kind, length, w.rng.pick(&[0, 3, 4, 5, 8, 9, 255])], w.rng.bytes(rest)].concat()
            }
        };
        let is_source_route = matches!(option.first(), Some(131 | 137));
        options.append(&mut option);
        if is_source_route {
            // Of what an error about what follows would bear, the kernel makes a route back.
            break;
        }
    }
    let padding = w.rng.pick(&[0, 0, 1]);
    options.resize(options.len().next_multiple_of(4).max(4), padding);
    options.truncate(40);
    options
}

fn odd_header(w: &mut World<'_>, net: &Net, s: &Session) {
    let id = if w.rng.percent(70) { s.c } else { s.s };
    let (port, extended) = (w.rng.port(), w.rng.percent(30));
    let line = match w.rng.range(0, 4) {
        0 => Vec::new(),
        1 if id == s.c => s.command(extended, net.client, port).into_bytes(),
        2 => vec![b'x'; w.rng.pick(&[1200, 1221, 1240, 1241, 1400, 1440, 1460, 1461])],
        _ => b"NOOP\r\n".to_vec(),
    };
    let tcp = w.segment(id, if line.is_empty() { ACK } else { PSH | ACK }, &line);
    let half = w.halves[id].clone();
    let mut ip = w.ip();
    let at = if net.v6 { 40 } else { 20 };
    let plain = tcp.packet(&ip, half.local, half.remote);
    let packet = match w.rng.range(0, 10) {
        0 => {
            ip.ttl = w.rng.pick(&[0, 1, 2, 255]);
            tcp.packet(&ip, half.local, half.remote)
        }
        1 | 2 if !net.v6 => {
            ip.options = any_options(w, net);
            ip.ttl = w.rng.pick(&[64, 64, 64, 64, 64, 1]);
            tcp.packet(&ip, half.local, half.remote)
        }
        1 | 2 => {
            // Extension headers: hop-by-hop or destination options with padding.
            let kind = w.rng.pick(&[0, 60]);
            ip.options = vec![kind, 6, 0, 1, 4, 0, 0, 0, 0];
            tcp.packet(&ip, half.local, half.remote)
        }
        3 => {
            let mut packet = plain;
            let len = w.rng.range(1, 12) as usize;
            packet.extend(w.rng.bytes(len));
            packet
        }
        4 => {
            let mut packet = plain;
            let field = at + w.rng.pick(&[16, 17]);
            packet[field] ^= w.rng.pick(&[1, 0x80]);
            packet
        }
        5 if !net.v6 => {
            let mut packet = plain;
            match w.rng.range(0, 4) {
                0 => packet[10] ^= 1,
                1 => packet[3] = packet[3].wrapping_add(1),
                2 => packet[0] = w.rng.pick(&[0x44, 0x46, 0x4f]),
                _ => packet[2] = packet[2].wrapping_add(1),
            }
            packet
        }
        5 => {
            let mut packet = plain;
            match w.rng.range(0, 2) {
                0 => packet[5] = packet[5].wrapping_add(1),
                _ => packet[5] = packet[5].wrapping_sub(1),
            }
            packet
        }
        6 if !net.v6 => {
            ip.fragment = w.rng.pick(&[0, 0x8000, 0xc000]);
            tcp.packet(&ip, half.local, half.remote)
        }
        7 => {
            ip.tos = w.rng.pick(&[0, 1, 3, 0x10, 0xff]);
            let mut packet = tcp.packet(&ip, half.local, half.remote);
            if net.v6 {
                packet[1..4].copy_from_slice(&[0x0f, 0x12, 0x34]);
            }
            packet
        }
        8 => {
            let mut packet = plain;
            packet.truncate(at + w.rng.range(0, 24) as usize);
            if !net.v6 {
                let len = packet.len() as u16;
                packet[2..4].copy_from_slice(&len.to_be_bytes());
                wire::header_sum(&mut packet);
            } else {
                let len = (packet.len() - 40) as u16;
                packet[4..6].copy_from_slice(&len.to_be_bytes());
            }
            packet
        }
        _ => plain,
    };
    w.carry(half.interface, &packet);
}

/// Packets in parts: in any order, twice, overlapping, with parts missing.
pub(super) fn fragments(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(&any_nat(rng, &net)));
    // Parts that never become whole stay; nobody else may have this address for a while.
    let number = rng.next();
    (
        settings(rng, setup),
        Box::new(move |w| {
            let client = match net.client {
                IpAddr::V4(_) => IpAddr::from([10, 77, 2 + (number >> 8) as u8 % 250, 1 + number as u8 % 250]),
                IpAddr::V6(_) => {
                    IpAddr::from([0xfd77, 1, 0, 0, number as u16, (number >> 16) as u16, (number >> 32) as u16, 2])
                }
            };
            let net = Net { client, ..net };
            let Some(s) = Session::open(w, net.outward()) else { return };
            s.login(w);
            for _ in 0..w.rng.range(2, 7) {
                in_parts(w, &net, &s);
            }
            w.say(s.c, "NOOP\r\n");
        }),
    )
}

fn in_parts(w: &mut World<'_>, net: &Net, s: &Session) {
    let (port, extended) = (w.rng.port(), w.rng.percent(30));
    let line = match w.rng.percent(60) {
        true => s.command(extended, net.client, port).into_bytes(),
        false => [b"STAT ".to_vec(), vec![b'x'; w.rng.range(40, 1900) as usize], b"\r\n".to_vec()].concat(),
    };
    let half = w.halves[s.c].clone();
    let tcp = w.segment(s.c, PSH | ACK, &line);
    let ip = w.ip();
    let is_datagram = w.rng.percent(20);
    let whole = match is_datagram {
        true => udp(&ip, at(net.client, 700), at(net.server, 53), &line),
        false => tcp.packet(&ip, half.local, half.remote),
    };
    let protocol = if is_datagram { 17 } else { 6 };
    let body = whole[if net.v6 { 40 } else { 20 }..].to_vec();
    let step = 8 * w.rng.range(1, (body.len() as u32 / 8).clamp(2, 180)) as usize;
    let step = step.max((body.len() / 20) & !7).max(8);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let identification = w.rng.u32();
    let mut start = 0;
    while start < body.len() {
        let mut end = (start + step).min(body.len());
        let more = end < body.len();
        if w.rng.percent(3) {
            end = (end + 8).min(body.len());
        }
        parts.push(part(&ip, net, protocol, &body[start..end], start, more, identification));
        start += step;
    }
    match w.rng.range(0, 8) {
        0 => parts.reverse(),
        1 => {
            let at = w.rng.below(parts.len());
            parts.rotate_left(at);
        }
        2 => {
            let twice = parts[w.rng.below(parts.len())].clone();
            parts.insert(w.rng.below(parts.len()), twice);
        }
        3 => drop(parts.remove(w.rng.below(parts.len()))),
        _ => {}
    }
    for part in parts {
        w.carry(IN, &part);
    }
    if !is_datagram && w.rng.percent(90) {
        w.halves[s.c].snd = w.halves[s.c].snd.wrapping_add(line.len() as u32);
    }
    w.send(s.s, ACK);
}

fn part(ip: &Ip, net: &Net, protocol: u8, body: &[u8], offset: usize, more: bool, identification: u32) -> Vec<u8> {
    let mut ip = ip.clone();
    if net.v6 {
        ip.options = [vec![44], wire::fragment_header(protocol, offset, more, identification)].concat();
    } else {
        ip.fragment = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    }
    wire::ip(&ip, net.client, net.server, protocol, body)
}

/// Packets for the router itself, and those that are redirected to it.
pub(super) fn local(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = rng.pick(&[
        "",
        "-A PREROUTING -i in -p tcp -m tcp --dport 21 -j REDIRECT --to-ports 2121",
        "-A PREROUTING -i in -p tcp -j REDIRECT",
    ]);
    let filter =
        rng.pick(&["", "-A INPUT -p tcp -m tcp --dport 23 -j DROP", "-A INPUT -m conntrack --ctstate INVALID -j DROP"]);
    let rules = Rules { filter: filter.to_owned(), ..Rules::nat(&format!("{nat}\n{MASQUERADE}")) };
    (
        settings(rng, Setup::new(net.v6, &rules)),
        Box::new(move |w| {
            let mut last = None;
            for _ in 0..w.rng.range(3, 10) {
                let to = w.rng.pick(&[net.router_in, net.router_out, net.server]);
                let (ip, port, target) = (w.ip(), w.rng.port(), w.rng.pick(&[21, 23, 80]));
                if let Some((to, target, port)) = last
                    && w.rng.percent(35)
                {
                    in_the_routers_name(w, &net, to, target, port);
                }
                last = Some((to, target, port));
                let (flags, seq, ack) =
                    (w.rng.pick(&[SYN, SYN, SYN, ACK, RST, FIN | ACK, SYN | ACK]), w.isn(), w.rng.u32());
                match w.rng.range(0, 4) {
                    0 if to != net.server => {
                        let (request, _) = ping_kinds(net.v6);
                        w.carry(IN, &icmp(&ip, net.client, to, request, 0, seq, b"ping"));
                    }
                    1 if to != net.server => {
                        drop(w.carry(IN, &udp(&ip, at(net.client, port), at(to, target), b"to you")))
                    }
                    _ => {
                        let mut tcp = Tcp::new(flags, seq, if flags & ACK == 0 { 0 } else { ack });
                        tcp.options = if flags & SYN != 0 { MSS.to_vec() } else { Vec::new() };
                        w.carry(IN, &tcp.packet(&ip, at(net.client, port), at(to, target)));
                        if w.rng.percent(30) {
                            w.carry(IN, &tcp.packet(&ip, at(net.client, port), at(to, target)));
                        }
                    }
                }
            }
        }),
    )
}

/// Sends packets from the network that look like answers of the router's own.
fn in_the_routers_name(w: &mut World<'_>, net: &Net, from: IpAddr, source: u16, port: u16) {
    let (ip, interface) = (w.ip(), w.rng.pick(&[IN, OUT, DMZ]));
    let source = w.rng.pick(&[source, 2121]);
    let (seq, ack) = (w.isn(), w.rng.u32());
    // Over IPv6 the machine takes such a packet, where it is redirected to it, and would answer itself with a reset, unseen.
    let packet = match w.rng.range(0, if net.v6 { 2 } else { 3 }) {
        0 => udp(&ip, at(from, source), at(net.client, port), b"not I"),
        1 => icmp(&ip, from, net.client, ping_kinds(net.v6).1, 0, ack, b"ping"),
        _ => Tcp::new(w.rng.pick(&[SYN | ACK, ACK, RST | ACK, PSH | ACK]), seq, ack).packet(
            &ip,
            at(from, source),
            at(net.client, port),
        ),
    };
    w.carry(interface, &packet);
}

/// Every form of REJECT, for every kind of packet.
pub(super) fn rejects(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let with: &[&str] = match net.v6 {
        false => &[
            "icmp-net-unreachable",
            "icmp-host-unreachable",
            "icmp-port-unreachable",
            "icmp-proto-unreachable",
            "icmp-net-prohibited",
            "icmp-host-prohibited",
            "icmp-admin-prohibited",
        ],
        true => &[
            "icmp6-no-route",
            "icmp6-adm-prohibited",
            "icmp6-addr-unreachable",
            "icmp6-port-unreachable",
            "icmp6-policy-fail",
            "icmp6-reject-route",
        ],
    };
    let chain = rng.pick(&["FORWARD", "FORWARD", "INPUT"]);
    let filter = format!(
        "-A {chain} -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset\n\
         -A {chain} -p tcp -m tcp --dport 21 -m conntrack --ctstate RELATED,ESTABLISHED -m tcp --tcp-flags PSH PSH -j REJECT --reject-with {}\n\
         -A {chain} -p udp -j REJECT --reject-with {}",
        rng.pick(&["tcp-reset", with[0], with[1]]),
        rng.pick(with)
    );
    let nat = any_nat(rng, &net);
    let setup = Setup::new(net.v6, &Rules { filter, ..Rules::nat(&nat) });
    (
        settings(rng, setup),
        Box::new(move |w| {
            let target = if chain == "INPUT" { net.router_in } else { net.server };
            for _ in 0..w.rng.range(3, 10) {
                let (ip, port) = (w.ip(), w.rng.port());
                let (flags, seq, ack) =
                    (w.rng.pick(&[SYN, SYN, ACK, RST, FIN | ACK, SYN | ACK, PSH | ACK]), w.isn(), w.rng.u32());
                let tcp = Tcp {
                    data: vec![b'z'; w.rng.pick(&[0, 0, 5, 700])],
                    ..Tcp::new(flags, seq, if flags & ACK == 0 { 0 } else { ack })
                };
                match w.rng.range(0, 4) {
                    0 => drop(
                        w.carry(IN, &udp(&ip, at(net.client, port), at(target, 53), &vec![7; seq as usize % 1300])),
                    ),
                    1 => drop(w.carry(OUT, &udp(&ip, at(net.server, port), at(net.client, 53), b"inward"))),
                    _ => drop(w.carry(IN, &tcp.packet(&ip, at(net.client, port), at(target, 25)))),
                }
            }
            if chain == "FORWARD"
                && let Some(s) = Session::open(w, net.outward())
            {
                w.say(s.s, "220 ready\r\n");
                w.say(s.c, "USER a\r\n");
                w.say(s.c, "USER b\r\n");
                w.say(s.s, "331 go on\r\n");
                s.active(w, &Transfer { only_announced: true, extended: net.v6, ..Transfer::default() });
            }
        }),
    )
}
