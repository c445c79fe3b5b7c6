//! Random rules of every word that iptables has and this kernel knows, and packets that some of them match. Each rule that
//! matches leaves its own bit in the type of service.

use std::fmt::Write as _;

use super::{IN, MASQUERADE, Net, OUT, Play};
use crate::rng::Rng;
use crate::session::Session;
use crate::setup::{HELPER, Rules, Setup};
use crate::wire::{ACK, FIN, Ip, PSH, RST, SYN, Tcp, icmp, sctp, udp};
use crate::world::{World, at};

/// Rules with words that need no memory.
pub(super) fn words(rng: &mut Rng) -> (Setup, Play) {
    plan(rng, false)
}

/// Rules that remember: limits, lists, sets and counts.
pub(super) fn memory(rng: &mut Rng) -> (Setup, Play) {
    plan(rng, true)
}

/// Targets that change packets.
pub(super) fn edits(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut mangle = String::new();
    for _ in 0..rng.range(1, 5) {
        let chain = rng.pick(&["PREROUTING", "FORWARD", "POSTROUTING"]);
        // A string takes everything.
        let _ = writeln!(mangle, "-A {chain} {}", edit(rng, net.v6));
    }
    let nat = match rng.range(0, 4) {
        0 if net.v6 => "-A PREROUTING -i in -j NETMAP --to 2001:db8:77::/64".to_owned(),
        0 => "-A PREROUTING -i in -j NETMAP --to 198.51.0.0/16".to_owned(),
        1 if net.v6 => "-A POSTROUTING -o out -j NETMAP --to 2001:db8:1::/64".to_owned(),
        1 => "-A POSTROUTING -o out -j NETMAP --to 203.0.113.128/25".to_owned(),
        _ => MASQUERADE.to_owned(),
    };
    let setup = Setup::new(net.v6, &Rules { raw: HELPER.to_owned(), mangle, nat, ..Rules::empty() });
    (setup, Box::new(move |w| play(w, &net, false)))
}

fn edit(rng: &mut Rng, v6: bool) -> String {
    let byte = rng.range(0, 256);
    let hop = if v6 { "HL --hl" } else { "TTL --ttl" };
    let target = match rng.range(0, 9) {
        0 => format!("-j {hop}-set {}", rng.pick(&[0, 1, 2, 64, 255])),
        1 => format!("-j {hop}-inc {}", rng.pick(&[1, 200])),
        2 => format!("-j {hop}-dec {}", rng.pick(&[1, 70])),
        3 => format!("-j TOS --set-tos {byte:#x}/{:#x}", rng.range(0, 256)),
        4 => format!("-j TOS --{}-tos {byte:#x}", rng.pick(&["and", "or", "xor"])),
        5 => format!("-j DSCP --set-dscp {}", byte & 63),
        6 => format!("-j DSCP --set-dscp-class {}", rng.pick(&["EF", "BE", "AF21", "CS3"])),
        7 if !v6 => return "-p tcp -j ECN --ecn-tcp-remove".to_owned(),
        _ => {
            let options = rng.pick(&["mss", "sack-permitted,timestamp", "2,3,8", "timestamp", "wscale"]);
            return format!("-p tcp -j TCPOPTSTRIP --strip-options {options}");
        }
    };
    format!(
        "{} {target}",
        rng.pick(&["", "-p tcp", "-p udp", "-m ttl --ttl-gt 10"])
            .replace("-m ttl --ttl-gt 10", if v6 { "-m hl --hl-gt 10" } else { "-m ttl --ttl-gt 10" },)
    )
}

fn plan(rng: &mut Rng, remembers: bool) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut mangle = String::new();
    for bit in 0..rng.range(2, 7) {
        let negated = if rng.percent(25) { "! " } else { "" };
        let test = if remembers { remembering(rng, &net, negated) } else { test(rng, &net, negated) };
        let chain = if test.contains("rpfilter") { "PREROUTING" } else { "FORWARD" };
        let also = if rng.percent(25) { other(rng) } else { String::new() };
        let (first, second) = if rng.percent(50) { (test, also) } else { (also, test) };
        let (first, second) = if second.starts_with("-p") { (second, first) } else { (first, second) };
        let _ = writeln!(mangle, "-A {chain} {first} {second} -j TOS --xor-tos {:#x}", 1 << bit);
    }
    let nat = rng.pick(&["", MASQUERADE]).to_owned();
    let mut setup = Setup::new(net.v6, &Rules { raw: HELPER.to_owned(), mangle, nat, ..Rules::empty() });
    if rng.percent(50) {
        setup = setup.with("acct", 1);
    }
    if remembers {
        setup.sets = sets(net.v6);
    }
    (setup, Box::new(move |w| play(w, &net, remembers)))
}

/// A match that goes with any other.
fn other(rng: &mut Rng) -> String {
    rng.pick(&["-m length --length 0:100", "-i in", "-m conntrack --ctdir ORIGINAL", "-m conntrack --ctstate NEW"])
        .to_owned()
}

fn test(rng: &mut Rng, net: &Net, not: &str) -> String {
    let v6 = net.v6;
    let (low, high) = (rng.range(0, 90), rng.range(90, 1500));
    let address = rng.pick(&[net.client, net.server, net.router_out, net.inner, net.client2]);
    match rng.range(0, 38) {
        0 => format!("-m {} {not}{} {}", hl(v6), hl_option(v6, "eq"), rng.pick(&[63, 1, 9])),
        1 => format!("-m {} {} {}", hl(v6), hl_option(v6, rng.pick(&["lt", "gt"])), rng.pick(&[0, 9, 62, 63, 255])),
        2 => format!("-m length {not}--length {low}:{high}"),
        3 => format!("-m length {not}--length {}", rng.pick(&["40", "60", "0:65535", "60:", ":59", "80"])),
        4 => format!("-m dscp {not}--dscp {}", rng.pick(&["0", "0x2e", "10"])),
        5 => format!("-m dscp {not}--dscp-class {}", rng.pick(&["EF", "BE", "AF11", "CS1"])),
        6 => format!("-m tos {not}--tos {}", rng.pick(&["0x28", "0x00/0x03", "0x01/0x01", "0xb8/0xfc"])),
        7 => format!("-p tcp -m ecn {not}--ecn-tcp-{}", rng.pick(&["cwr", "ece"])),
        8 => format!("-m ecn {not}--ecn-ip-ect {}", rng.range(0, 4)),
        9 => format!("-p tcp -m tcpmss {not}--mss {}", rng.pick(&["1460", "500:1459", "0:65535", "536"])),
        10 => format!("-p tcp -m tcp {not}--tcp-option {}", rng.pick(&[2, 3, 4, 8, 5])),
        11 => format!("-m conntrack {not}--ctproto {}", rng.pick(&["6", "udp", "icmp"])),
        12 => format!("-m conntrack {not}--ct{}{} {address}", rng.pick(&["orig", "repl"]), rng.pick(&["src", "dst"])),
        13 => format!(
            "-m conntrack {not}--ct{}{}port {}",
            rng.pick(&["orig", "repl"]),
            rng.pick(&["src", "dst"]),
            rng.pick(&["21", "20:53", "1024:65535"])
        ),
        14 => format!(
            "-m conntrack {not}--ctstatus {}",
            rng.pick(&["NONE", "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SEEN_REPLY,ASSURED", "NONE,ASSURED"])
        ),
        15 => format!("-m conntrack {not}--ctexpire {}", rng.pick(&["1000:", "500:"])),
        16 => format!("-m conntrack --ctdir {}", rng.pick(&["ORIGINAL", "REPLY"])),
        17 => format!(
            "-m connbytes {not}--connbytes {} --connbytes-dir {} --connbytes-mode {}",
            rng.pick(&["1", "2:5", "100:1000", "50:80", "0:0"]),
            rng.pick(&["original", "reply", "both"]),
            rng.pick(&["packets", "bytes", "avgpkt"])
        ),
        18 => format!("-m connlabel {not}--label {}", rng.range(0, 3)),
        19 => format!("-m connlabel {not}--label {} --set", rng.range(0, 3)),
        20 if !v6 => {
            let nodes = rng.range(2, 6);
            let node = rng.range(1, nodes + 1);
            format!(
                "-m cluster --cluster-total-nodes {nodes} {not}--cluster-local-node {node} --cluster-hash-seed {:#x}",
                rng.u32()
            )
        }
        21 => {
            format!(
                "-m addrtype {not}--src-type {}",
                rng.pick(if v6 { &["UNICAST", "LOCAL", "LOCAL"] } else { &["UNICAST", "LOCAL", "BROADCAST,LOCAL"] })
            )
        }
        22 => format!(
            "-m addrtype {not}--dst-type {}",
            rng.pick(if v6 {
                &["UNICAST", "LOCAL", "MULTICAST"]
            } else {
                &["UNICAST", "LOCAL", "MULTICAST", "UNSPEC,UNICAST"]
            })
        ),
        23 => format!(
            "-m addrtype {not}--dst-type {} --limit-iface-{}",
            rng.pick(&["UNICAST", "LOCAL"]),
            rng.pick(&["in", "out"])
        ),
        24 => format!("-m rpfilter{}{}", rng.pick(&["", " --loose", " --accept-local"]), rng.pick(&["", " --invert"])),
        25 => {
            let bounds = rng.pick(&["", " --from 40", " --to 60", " --from 20 --to 70", " --from 60 --to 61"]);
            let text = rng.pick(&[
                "--string PORT",
                "--string r",
                "--hex-string |0d0a|",
                "--hex-string U|53|ER",
                "--string yy",
            ]);
            format!("-m string --algo {}{bounds} {not}{text}", rng.pick(&["bm", "kmp"]))
        }
        26 => format!("-m string --algo bm --icase {not}--string {}", rng.pick(&["user", "PoRt", "ok"])),
        27 if !v6 => format!(
            "-m u32 {not}--u32 \"{}\"",
            rng.pick(&[
                "6 & 0xFF = 6 && 0 >> 22 & 0x3C @ 0 & 0xFFFF = 21",
                "0 & 0xFFFF = 0x30:0x50",
                "4 & 0x3FFF = 0",
                "0 >> 22 & 0x3C @ 12 >> 26 & 0x3C @ 0 = 0x50415353:0x50415356",
                "6 & 0xFF = 1,17",
                "1000 = 0:0xffffffff",
            ])
        ),
        28 => format!("-m pkttype {not}--pkt-type {}", rng.pick(&["unicast", "multicast", "broadcast"])),
        29 => format!("-m physdev {not}--physdev-{}", rng.pick(&["in eth0", "is-bridged", "is-in", "is-out"])),
        30 => format!("-m devgroup {not}--{}-group {}", rng.pick(&["src", "dst"]), rng.pick(&["0", "1", "0x1/0x1"])),
        31 => format!("-m policy --dir {} --pol {}", rng.pick(&["in", "out"]), rng.pick(&["none", "ipsec"])),
        32 => {
            let days = rng.pick(&["Mon,Tue,Wed", "1,3,5,7", "Sa,Su", "Mon,Tue,Wed,Thu,Fri,Sat,Sun"]);
            format!("-m time {not}--weekdays {days}")
        }
        33 => format!(
            "-m time --timestart {} --timestop {}",
            rng.pick(&["00:00", "12:00", "23:59:59"]),
            rng.pick(&["11:59:59", "12:00", "23:59:59"])
        ),
        34 => format!("-m time {not}--monthdays {}", rng.pick(&["1,2,3", "29,30", "31", "10,11,12,13,14,15"])),
        35 => {
            format!("-m time --datestart {} --datestop {}", rng.pick(&["2020", "2026-06", "2026-11-29T12:00"]), "2037")
        }
        36 if !v6 => format!("{not}-f"),
        _ => format!(
            "-p sctp {not}--chunk-types {} {}",
            rng.pick(&["any", "all", "only"]),
            rng.pick(&["INIT", "DATA,INIT", "DATA:Be", "ABORT"])
        ),
    }
}

const fn hl(v6: bool) -> &'static str {
    if v6 { "hl" } else { "ttl" }
}

fn hl_option(v6: bool, how: &str) -> String {
    format!("--{}-{how}", hl(v6))
}

fn remembering(rng: &mut Rng, net: &Net, not: &str) -> String {
    let end = rng.pick(&["src", "dst"]);
    match rng.range(0, 13) {
        0 => format!("-m limit --limit {}", rng.pick(&["1/hour", "3/min", "5/sec", "2/day"])),
        1 => format!("-m limit --limit {} --limit-burst {}", rng.pick(&["1/hour", "4/min"]), rng.pick(&[1, 2, 7])),
        2 | 3 => {
            let mode =
                rng.pick(&["srcip", "dstip", "srcip,dstip", "srcip,srcport", "dstport", "srcip,dstip,srcport,dstport"]);
            let mask = rng.pick(&["", " --hashlimit-srcmask 16", " --hashlimit-dstmask 8"]);
            let full = rng.pick(&["", "", " --hashlimit-htable-size 16 --hashlimit-htable-max 16"]);
            format!(
                "-m hashlimit --hashlimit-{} {} --hashlimit-burst {} --hashlimit-mode {mode}{mask}{full} --hashlimit-name h{}",
                rng.pick(&["upto", "above"]),
                rng.pick(&["1/hour", "2/min", "1/day"]),
                rng.pick(&[1, 2, 5]),
                rng.u32() & 0xff_ffff,
            )
        }
        4 | 5 => {
            let list = rng.pick(&["", " --name other"]);
            let side = rng.pick(&["", " --rsource", " --rdest"]);
            format!("-m recent {not}--{}{list}{side}", rng.pick(&["set", "rcheck", "update", "remove"]))
        }
        6 => {
            let hits = rng.pick(&["", " --hitcount 2", " --hitcount 5"]);
            let more = rng.pick(&["", " --rttl", " --seconds 60", " --seconds 60 --reap"]);
            format!("-m recent {not}--{}{hits}{more}", rng.pick(&["rcheck", "update"]))
        }
        7 => format!(
            "-m connlimit --connlimit-{} {}{}{}",
            rng.pick(&["upto", "above"]),
            rng.pick(&[0, 1, 2, 3]),
            rng.pick(&["", " --connlimit-mask 8", " --connlimit-mask 0"]),
            rng.pick(&["", " --connlimit-saddr", " --connlimit-daddr"])
        ),
        8 => format!("-m quota {not}--quota {}", rng.pick(&[0, 100, 300, 1000])),
        9 => {
            let every = rng.range(1, 5);
            format!("-m statistic --mode nth {not}--every {every} --packet {}", rng.range(0, every))
        }
        10 if !net.v6 => {
            let (name, count) = rng.pick(&[
                ("ip", 1),
                ("net", 1),
                ("ipport", 2),
                ("netport", 2),
                ("netiface", 2),
                ("ports", 1),
                ("bits", 1),
                ("list", 1),
                ("ipportip", 3),
                ("counted", 1),
            ]);
            let mut flags = vec![end];
            flags.extend((1..count).map(|_| rng.pick(&["src", "dst"])));
            let more = rng.pick(&["", "", " --return-nomatch", " ! --update-counters"]);
            let more = if name == "counted" {
                rng.pick(&[" --packets-gt 1", " --bytes-lt 200", " --packets-eq 2"])
            } else {
                more
            };
            format!("-m set {not}--match-set {name} {}{more}", flags.join(","))
        }
        10 => format!("-m set {not}--match-set {} {end}", rng.pick(&["ip6", "net6"])),
        11 => format!("-m connlimit --connlimit-above 1 --connlimit-{}addr", rng.pick(&["s", "d"])),
        _ => format!("-m recent {not}--set{}", rng.pick(&["", " --rdest"])),
    }
}

/// Sets as `ipset save` prints them.
fn sets(v6: bool) -> String {
    let text = if v6 {
        "create ip6 hash:ip family inet6\nadd ip6 fd77:1::2\ncreate net6 hash:net family inet6\nadd net6 2001:db8::/32\nadd net6 2001:db8:9::/48 nomatch\n"
    } else {
        "create ip hash:ip\nadd ip 10.77.1.2\n\
         create net hash:net\nadd net 10.0.0.0/8\nadd net 10.77.1.0/24 nomatch\nadd net 198.51.100.9\n\
         create ipport hash:ip,port\nadd ipport 198.51.100.9,tcp:21\nadd ipport 198.51.100.9,udp:53\nadd ipport 198.51.100.9,icmp:8/0\n\
         create netport hash:net,port\nadd netport 198.51.0.0/16,tcp:21\nadd netport 10.77.0.0/16,udp:53\n\
         create netiface hash:net,iface\nadd netiface 10.77.0.0/16,in\nadd netiface 198.51.100.0/24,out\n\
         create ports bitmap:port range 0-1024\nadd ports 21\nadd ports 53\n\
         create bits bitmap:ip range 10.77.1.0-10.77.1.255\nadd bits 10.77.1.2\n\
         create ipportip hash:ip,port,ip\nadd ipportip 198.51.100.9,tcp:21,10.77.1.2\n\
         create counted hash:ip counters\nadd counted 10.77.1.2\nadd counted 198.51.100.9\n\
         create list list:set\nadd list bits\nadd list net\n"
    };
    text.to_owned()
}

fn play(w: &mut World<'_>, net: &Net, remembers: bool) {
    let tos = |w: &mut World<'_>| w.rng.pick(&[0, 0, 0x28, 0xb8, 0x02, 0x03]);
    for _ in 0..w.rng.range(2, 12) {
        let from = w.rng.pick(&[net.client, net.client, net.client2, net.inner]);
        let (port, target) = (w.rng.pick(&[1024, 1025, 40_000]), w.rng.pick(&[21, 53, 99]));
        let ip = Ip { ttl: w.rng.pick(&[64, 64, 10, 2]), tos: tos(w), ..w.ip() };
        let text =
            w.rng.pick(&["", "yyyy", "USER a\r\n", "port 1\r\n", "a long text that is no command at all, and longer"]);
        match w.rng.range(0, 10) {
            0..3 => drop(w.carry(IN, &udp(&ip, at(from, port), at(net.server, target), text.as_bytes()))),
            3 => drop(w.carry(OUT, &udp(&ip, at(net.server, target), at(from, port), b"back"))),
            4 => {
                let kind = if net.v6 { 128 } else { 8 };
                drop(w.carry(IN, &icmp(&ip, from, net.server, kind, 0, w_rest(port), b"ping")));
            }
            5 => {
                let chunk = w.rng.pick(&[
                    &[1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 4, 0, 0, 1, 0, 1, 0, 0, 0, 1][..],
                    &[0, 3, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
                ]);
                drop(w.carry(IN, &sctp(&ip, at(from, port), at(net.server, target), 0, chunk)));
            }
            _ => {
                let flags = w.rng.pick(&[SYN, SYN, SYN | 0xc0, ACK, PSH | ACK, RST, FIN | ACK]);
                let options = w.rng.pick(&[
                    &[][..],
                    &[2, 4, 5, 0xb4],
                    &[2, 4, 2, 0, 4, 2, 1, 1],
                    &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
                    &[3, 3, 7, 0],
                ]);
                let data = if flags & SYN == 0 { text.as_bytes().to_vec() } else { Vec::new() };
                let seq = w.isn();
                let tcp = Tcp { options: options.to_vec(), data, ..Tcp::new(flags, seq, u32::from(flags & ACK != 0)) };
                drop(w.carry(IN, &tcp.packet(&ip, at(from, port), at(net.server, target))));
            }
        }
        if remembers && w.rng.percent(3) {
            w.wait(30);
        }
    }
    if let Some(s) = Session::open(w, net.outward()) {
        w.say(s.s, "220 ready\r\n");
        w.say(s.c, "USER a\r\n");
        w.say(s.s, "331 go on\r\n");
        w.say(s.c, "PASS ok\r\n");
        s.active(w, &crate::session::Transfer { only_announced: true, extended: net.v6, ..Default::default() });
        if w.rng.percent(50) {
            w.finish(s.c, s.s);
        }
        s.active(w, &crate::session::Transfer { only_announced: true, extended: net.v6, ..Default::default() });
    }
}

const fn w_rest(port: u16) -> u32 {
    (port as u32) << 16 | 1
}
