//! TCP as honest stacks and others send it.

use super::{IN, MASQUERADE, Net, OUT, Play, any_nat, settings};
use crate::rng::Rng;
use crate::session::{Ends, Session, Transfer};
use crate::setup::{Rules, Setup};
use crate::text::host_port_text;
use crate::wire::{ACK, FIN, PSH, RST, SYN, URG};
use crate::world::{Id, MSS, World, at};

const SACK_PERMITTED: &[u8] = &[2, 4, 5, 0xb4, 4, 2];

/// Loss, reordering, duplicates, retransmissions cut otherwise and SACK while payload lengths change.
pub(super) fn shuffle(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = match rng.percent(50) {
        true => MASQUERADE.to_owned(),
        false => format!("-A POSTROUTING -o out -j SNAT --to-source {}", net.spare),
    };
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let options = if w.rng.percent(70) { SACK_PERMITTED } else { MSS };
            let client = w.rng.pick(&[net.client, net.client2]);
            let Some(s) = Session::open(w, Ends { client: (IN, client), options: options.to_vec(), ..net.outward() })
            else {
                return;
            };
            s.login(w);
            let mut sent = Vec::new();
            for _ in 0..w.rng.range(4, 16) {
                shuffled(w, &s, &mut sent);
                if w.rng.percent(50) {
                    w.send(s.s, ACK);
                }
            }
        }),
    )
}

fn announcement(w: &mut World<'_>, s: &Session) -> Vec<u8> {
    let (extended, port) = (w.rng.percent(30), w.rng.port());
    s.command(extended, s.ends.client.1, port).into_bytes()
}

fn shuffled(w: &mut World<'_>, s: &Session, sent: &mut Vec<(u32, Vec<u8>)>) {
    let from = w.halves[s.c].snd;
    match w.rng.range(0, 20) {
        0..7 => {
            let line = announcement(w, s);
            w.say(s.c, &line);
            sent.push((from, line));
        }
        7..10 => {
            let line = w.rng.pick(&["NOOP\r\n", "LIST\r\n", "CWD /a/b\r\n"]).as_bytes().to_vec();
            w.say(s.c, &line);
            sent.push((from, line));
        }
        10..12 if !sent.is_empty() => {
            // As it was.
            let (seq, line) = sent[w.rng.below(sent.len())].clone();
            again(w, s.c, seq, &line);
        }
        12..14 if !sent.is_empty() => {
            // Cut otherwise: from anywhere in one line on, with what follows.
            let at = w.rng.below(sent.len());
            let (seq, _) = sent[at];
            let whole: Vec<u8> = sent[at..].iter().flat_map(|(_, line)| line.clone()).collect();
            let first = w.rng.below(whole.len());
            let last = first + 1 + w.rng.below(whole.len() - first);
            again(w, s.c, seq.wrapping_add(first as u32), &whole[first..last.min(first + 1400)]);
        }
        14..16 => drop(w.say(s.s, "200 ok\r\n")),
        16..19 => hole(w, s, sent),
        _ => w.again(s.s),
    }
}

fn again(w: &mut World<'_>, id: Id, seq: u32, data: &[u8]) {
    let mut tcp = w.segment(id, PSH | ACK, data);
    tcp.seq = seq;
    w.inject(id, &tcp);
}

/// The second segment arrives first, and the server says so with SACK.
fn hole(w: &mut World<'_>, s: &Session, sent: &mut Vec<(u32, Vec<u8>)>) {
    let line = announcement(w, s);
    let seq = w.halves[s.c].snd;
    w.halves[s.c].snd = seq.wrapping_add(line.len() as u32);
    w.say(s.c, "LIST\r\n");
    sent.push((seq, line.clone()));
    sent.push((seq.wrapping_add(line.len() as u32), b"LIST\r\n".to_vec()));
    let edge = w.halves[s.s].rcv.wrapping_add(line.len() as u32);
    let mut options =
        w.rng.pick(&[&[1, 1, 5, 10][..], &[5, 10], &[1, 5, 10], &[1, 1, 1, 5, 10], &[1, 1, 5, 18]]).to_vec();
    options.extend(edge.to_be_bytes());
    options.extend(edge.wrapping_add(6).to_be_bytes());
    if options.contains(&18) {
        options.extend(edge.wrapping_sub(9).to_be_bytes());
        options.extend(edge.wrapping_sub(3).to_be_bytes());
    }
    w.send_with(s.s, ACK, &options);
    again(w, s.c, seq, &line);
    w.send(s.s, ACK);
}

/// Flags, sequence and acknowledgement numbers at random, on one connection.
pub(super) fn segments(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = any_nat(rng, &net);
    let rules = match rng.percent(60) {
        true => Rules::nat(&nat),
        false => Rules { filter: String::new(), ..Rules::nat(&nat) },
    };
    let setup = Setup::new(net.v6, &rules);
    (
        settings(rng, setup),
        Box::new(move |w| {
            let Some(s) = Session::open(w, net.outward()) else { return };
            if w.rng.percent(50) {
                s.login(w);
            }
            for _ in 0..w.rng.range(3, 24) {
                let id = if w.rng.percent(50) { s.c } else { s.s };
                odd_segment(w, id);
                if w.rng.percent(30) {
                    w.say(id, if id == s.c { "NOOP\r\n" } else { "200 ok\r\n" });
                }
            }
        }),
    )
}

const FLAGS: &[u8] = &[
    ACK,
    PSH | ACK,
    FIN | ACK,
    RST | ACK,
    RST,
    SYN,
    SYN | ACK,
    FIN,
    0,
    SYN | FIN,
    FIN | PSH | URG,
    PSH | ACK | URG,
    SYN | RST,
    FIN | SYN | RST | PSH | ACK | URG,
    SYN | PSH,
    SYN | URG,
    RST | FIN,
    URG | ACK,
    0xc2,
    0x50,
];

fn odd_segment(w: &mut World<'_>, id: Id) {
    let random = [w.rng.u32(), w.rng.u32()];
    let ahead = w.rng.pick(&[
        0,
        0,
        0,
        1,
        u32::MAX,
        5,
        20_u32.wrapping_neg(),
        1000,
        1000_u32.wrapping_neg(),
        70_000,
        70_000_u32.wrapping_neg(),
        1 << 31,
        64_240,
        64_241,
        64_239,
        random[0],
    ]);
    let acked = w.rng.pick(&[
        0,
        0,
        0,
        0,
        1,
        u32::MAX,
        10,
        100_u32.wrapping_neg(),
        66_000,
        66_000_u32.wrapping_neg(),
        66_001_u32.wrapping_neg(),
        random[1],
    ]);
    let flags = w.rng.pick(FLAGS);
    let data: &[u8] = if w.rng.percent(60) { b"" } else { b"NOOP\r\n" };
    let mut tcp = w.segment(id, flags, data);
    tcp.seq = tcp.seq.wrapping_add(ahead);
    tcp.ack = match w.rng.range(0, 12) {
        0 => 0,
        _ => w.halves[id].rcv.wrapping_add(acked),
    };
    if w.rng.percent(15) {
        tcp.window = w.rng.pick(&[0, 1, 100, 65_535]);
    }
    if w.rng.percent(5) {
        tcp.seq = 0;
    }
    if flags & URG != 0 {
        tcp.urgent = w.rng.range(0, 10) as u16;
    }
    if w.rng.percent(70) {
        w.inject(id, &tcp);
    } else {
        w.send_segment(id, &tcp);
    }
}

/// Connections whose beginning the router never saw.
pub(super) fn pickup(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = any_nat(rng, &net);
    let seen_as = match nat.as_str() {
        "" => net.client,
        MASQUERADE => net.router_out,
        _ => net.spare.parse().unwrap_or(net.client),
    };
    let setup = Setup::new(net.v6, &Rules::nat(&nat));
    let setup = if rng.percent(30) { setup.with("tcp_loose", 0) } else { setup };
    (
        setup,
        Box::new(move |w| {
            let port = w.rng.port();
            let [ours, theirs] = [w.isn(), w.isn()];
            let c = w.half(IN, at(net.client, port), at(net.server, 21), ours);
            let s = w.half(OUT, at(net.server, 21), at(seen_as, port), theirs);
            (w.halves[c].rcv, w.halves[s].rcv) = (theirs, ours);
            match w.rng.range(0, 5) {
                0 => {
                    w.say(c, "NOOP\r\n");
                    w.say(s, "200 ok\r\n");
                }
                1 => {
                    w.say(s, "200 ok\r\n");
                    w.say(c, "NOOP\r\n");
                }
                2 => drop(w.send(c, FIN | ACK)),
                3 => drop(w.send(s, SYN | ACK)),
                _ => drop(w.say(c, "NOOP\r\n")),
            }
            for _ in 0..3 {
                let (port, other) = (w.rng.port(), w.rng.port());
                if net.v6 {
                    w.say(c, format!("EPRT |2|{}|{port}|\r\n", net.client));
                    w.say(s, "200 ok\r\n");
                    w.say(s, format!("229 Ok (|||{other}|)\r\n"));
                } else {
                    w.say(c, format!("PORT {}\r\n", host_port_text(net.client, port)));
                    w.say(s, "200 ok\r\n");
                    w.say(s, format!("227 Entering Passive Mode ({}).\r\n", host_port_text(net.server, other)));
                }
                w.send(c, ACK);
            }
            if w.rng.percent(30) {
                odd_segment(w, c);
                odd_segment(w, s);
            }
        }),
    )
}

/// Window scaling, timestamps, zero windows, bursts of data at the edge of the window.
pub(super) fn scaled(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(&any_nat(rng, &net)));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let mut options = vec![2, 4, 5, 0xb4, 1, 3, 3, w.rng.pick(&[0, 2, 7, 14, 15, 255])];
            options.extend(w.rng.pick(&[&[][..], &[4, 2], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]]));
            let Some(s) = Session::open(w, Ends { options, ..net.outward() }) else { return };
            s.login(w);
            for _ in 0..w.rng.range(4, 20) {
                let id = if w.rng.percent(50) { s.c } else { s.s };
                let data = vec![b'y'; w.rng.pick(&[0, 1, 100, 1400])];
                let mut tcp = w.segment(id, if data.is_empty() { ACK } else { PSH | ACK }, &data);
                tcp.window = w.rng.pick(&[0, 1, 64, 512, 8192, 65_535]);
                tcp.seq = tcp.seq.wrapping_add(w.rng.pick(&[0, 0, 0, 1400, 70_000, 500_000, 1400_u32.wrapping_neg()]));
                if w.rng.percent(70) {
                    w.inject(id, &tcp);
                } else {
                    w.send_segment(id, &tcp);
                }
            }
        }),
    )
}

/// The same ports again: after TIME_WAIT, after RST, half-closed; simultaneous open.
pub(super) fn reuse(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let nat = if rng.percent(50) { "" } else { MASQUERADE };
    let setup = Setup::new(net.v6, &Rules::nat(nat));
    let remote = if nat.is_empty() { net.client } else { net.router_out };
    (
        settings(rng, setup),
        Box::new(move |w| {
            for _ in 0..w.rng.range(2, 6) {
                let Some(s) = Session::open(w, Ends { client_port: Some(2222), ..net.outward() }) else { continue };
                s.login(w);
                reuse_end(w, &s);
            }
            let [ours, theirs] = [w.isn(), w.isn()];
            let c = w.half(IN, at(net.client, 4444), at(net.server, 5555), ours);
            let d = w.half(OUT, at(net.server, 5555), at(remote, 4444), theirs);
            w.send_with(c, SYN, MSS);
            w.send_with(d, SYN, MSS);
            w.halves[c].snd = w.halves[c].snd.wrapping_sub(1);
            w.halves[d].snd = w.halves[d].snd.wrapping_sub(1);
            w.send_with(c, SYN | ACK, MSS);
            w.send_with(d, SYN | ACK, MSS);
            w.send(c, ACK);
            w.send(d, ACK);
        }),
    )
}

fn reuse_end(w: &mut World<'_>, s: &Session) {
    match w.rng.range(0, 10) {
        0..3 => s.quit(w),
        3..5 => {
            let id = if w.rng.percent(50) { s.c } else { s.s };
            w.send(id, RST | ACK);
        }
        5..7 => {
            w.send(s.c, FIN | ACK);
            w.send(s.s, ACK);
            w.say(s.s, "226 half closed\r\n");
            w.send(s.c, ACK);
        }
        7 => {
            // A challenge: SYN into a connection that the other side still has.
            w.send_with(s.c, SYN, MSS);
            w.send(s.s, ACK);
            w.send(s.c, RST);
        }
        8 => {
            w.finish(s.c, s.s);
            w.send(s.c, RST);
        }
        _ => {}
    }
}

/// Connections and what is left of them after their time.
pub(super) fn expire(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut setup = Setup::new(net.v6, &Rules::nat(MASQUERADE));
    for (key, seconds) in [
        ("tcp_timeout_syn_sent", 1),
        ("tcp_timeout_established", 3),
        ("tcp_timeout_time_wait", 1),
        ("tcp_timeout_fin_wait", 1),
        ("tcp_timeout_close", 1),
        ("tcp_timeout_unacknowledged", 2),
        ("tcp_timeout_close_wait", 1),
        ("tcp_timeout_last_ack", 1),
        ("tcp_timeout_max_retrans", 2),
    ] {
        setup = setup.with(key, seconds);
    }
    (
        setup,
        Box::new(move |w| {
            let only = Transfer { only_announced: true, extended: net.v6, ..Transfer::default() };
            let Some(a) = Session::open(w, net.outward()) else { return };
            a.login(w);
            a.active(w, &only);
            let isn = w.isn();
            let lone = w.half(IN, at(net.client, 3333), at(net.server, 80), isn);
            w.send_with(lone, SYN, MSS);
            let other = Ends { client: (IN, net.client2), ..net.outward() };
            if let Some(b) = Session::open(w, Ends { client_port: Some(2000), ..other.clone() }) {
                b.login(w);
                b.quit(w);
            }
            let millis = w.rng.pick(&[1500, 2500, 4500]);
            w.wait(millis);
            w.say(a.c, "NOOP\r\n");
            w.say(a.s, "200 ok\r\n");
            a.active(w, &only);
            w.again(lone);
            Session::open(w, Ends { client_port: Some(2000), ..other });
        }),
    )
}

const ODD_OPTIONS: &[&[u8]] = &[
    &[0],
    &[1, 1, 1, 1],
    &[2, 4, 5, 0xb4],
    &[5, 2],
    &[5, 1],
    &[5, 0],
    &[5, 40],
    &[3, 3, 200],
    &[3, 2],
    &[3, 4, 1, 1],
    &[4, 2, 4, 2],
    &[254, 4, 1, 2],
    &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
    &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
    &[2],
    &[1, 1, 1, 2],
    &[5, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    &[5, 9, 0, 0, 0, 1, 0, 0, 0],
    &[0, 5, 10, 0],
    &[2, 0],
    &[2, 3, 1],
    &[30, 4, 0, 0],
    &[5, 34, 0],
];

/// TCP options as nobody writes them, header lengths that are none, urgent data.
pub(super) fn options(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = Setup::new(net.v6, &Rules::nat(&any_nat(rng, &net)));
    (
        settings(rng, setup),
        Box::new(move |w| {
            let options = if w.rng.percent(50) { SACK_PERMITTED.to_vec() } else { w.rng.pick(ODD_OPTIONS).to_vec() };
            let Some(s) = Session::open(w, Ends { options, ..net.outward() }) else { return };
            s.login(w);
            s.active(w, &Transfer { only_announced: true, extended: net.v6, ..Transfer::default() });
            for _ in 0..w.rng.range(3, 12) {
                let id = if w.rng.percent(50) { s.c } else { s.s };
                let line: &[u8] = if w.rng.percent(50) { b"" } else { b"NOOP\r\n" };
                let mut tcp = w.segment(id, if line.is_empty() { ACK } else { PSH | ACK }, line);
                tcp.options = w.rng.pick(ODD_OPTIONS).to_vec();
                if w.rng.percent(30) {
                    tcp.flags |= URG;
                    tcp.urgent = w.rng.pick(&[0, 1, 5, 6, 7, 65_535]);
                }
                if w.rng.percent(10) {
                    let mut packet = w.packet(id, &tcp);
                    let at = if net.v6 { 40 } else { 20 };
                    packet[at + 12] = w.rng.pick(&[0x00, 0x40, 0xf0, 0x60, 0x51]);
                    w.carry(w.halves[id].interface, &packet);
                } else {
                    w.send_segment(id, &tcp);
                }
            }
        }),
    )
}

/// More connections than a range has ports, some of them over: who is over makes way for whoever begins behind it.
pub(super) fn few_ports(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let last = rng.pick(&[5000, 5000, 5001, 5003, 5007]);
    let nat = match rng.range(0, 3) {
        0 => format!(
            "-A POSTROUTING -o out -p tcp -j SNAT --to-source {}",
            net.with_port(net.spare, format!("5000-{last}"))
        ),
        1 => format!("-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 5000-{last}"),
        _ => format!("-A POSTROUTING -o out -p tcp -j MASQUERADE --to-ports 5000-{last} --random"),
    };
    let setup = settings(rng, Setup::new(net.v6, &Rules::nat(&nat)));
    (
        setup,
        Box::new(move |w| {
            let server = at(net.server, 21);
            w.listen(OUT, server);
            let base = w.isn();
            for _ in 0..w.rng.range(4, 14) {
                let client =
                    at(w.rng.pick(&[net.client, net.client2, net.inner]), w.rng.pick(&[5000, 5001, 20_000, 20_001]));
                let isn = base.wrapping_add(w.rng.pick(&[0, 0, 1, 2, 3, 100, 101, 1000, 0x9000_0000]));
                let c = w.half(IN, client, server, isn);
                let flags = w.rng.pick(&[SYN, SYN, SYN, SYN, ACK]);
                w.send(c, flags);
                let Some(s) = w.accepted(OUT, server) else { continue };
                let stage = w.rng.range(0, 8);
                if stage > 0 {
                    w.send(s, SYN | ACK);
                    w.send(c, ACK);
                }
                if w.rng.percent(30) {
                    w.say(c, "NOOP\r\n");
                    w.send(s, ACK);
                }
                match stage {
                    2..5 => w.finish(c, s),
                    5 => w.finish(s, c),
                    6 => drop(w.send(c, RST | ACK)),
                    7 => drop(w.send(s, RST | ACK)),
                    _ => {}
                }
            }
        }),
    )
}
