//! Random tables of nftables: every expression and statement, in chains of every hook, beside iptables' tables.

use super::host::NO_RESETS;
use super::packets::{error_about, ping, question};
use super::{IN, Net, OUT, Play, any_nat, settings};
use crate::kernel::SELF;
use crate::rng::Rng;
use crate::session::{Ends, Session};
use crate::setup::{Rules, Setup};
use crate::wire::udp;
use crate::world::{World, at};

/// Which rules a script has beside those that every script has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Matches, marks, sets and verdicts.
    Plain,
    /// Translations too.
    Nat,
    /// Limits, quotas, counters and sets that rules change.
    Meters,
}

pub(super) fn nft(rng: &mut Rng) -> (Setup, Play) {
    planned(rng, Kind::Plain, false)
}

pub(super) fn nft_nat(rng: &mut Rng) -> (Setup, Play) {
    planned(rng, Kind::Nat, false)
}

pub(super) fn nft_meters(rng: &mut Rng) -> (Setup, Play) {
    planned(rng, Kind::Meters, false)
}

/// The machine itself takes part.
pub(super) fn nft_host(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut script =
        Script { rng, net, kind: Kind::Plain, is_inet: false, is_host: true, hook: "", out: String::new() };
    script.write();
    let nft = script.out;
    let rules = Rules { raw: NO_RESETS.to_owned(), ..Rules::empty() };
    let setup = settings(rng, Setup::new(net.v6, &rules).with_host()).with_nft(nft);
    let play = move |w: &mut World<'_>| {
        for _ in 0..w.rng.range(1, 4) {
            let own = w.rng.pick(&[net.router_out, net.router_in]);
            let ends = match w.rng.range(0, 3) {
                0 => Ends::new((SELF, net.router_out), (OUT, net.server), net.server),
                1 => Ends::new((IN, net.client), (SELF, own), own),
                _ => Ends::new((OUT, net.server), (SELF, own), own),
            };
            if let Some(session) = Session::open(w, ends) {
                session.play(w);
            }
        }
    };
    (setup, Box::new(play))
}

/// With iptables' rules between.
pub(super) fn nft_between(rng: &mut Rng) -> (Setup, Play) {
    let kind = rng.pick(&[Kind::Plain, Kind::Nat]);
    planned(rng, kind, true)
}

fn planned(rng: &mut Rng, kind: Kind, between: bool) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut script = Script { rng, net, kind, is_inet: false, is_host: false, hook: "forward", out: String::new() };
    script.write();
    let nft = script.out;
    let setup = if between {
        let marks = rng.pick(&[
            "-A PREROUTING -p tcp -m tcp --dport 21 -j MARK --set-xmark 0x2/0x2",
            "-A FORWARD -m mark --mark 0x1 -j MARK --set-xmark 0x4/0x4",
            "-A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x6/0xffffffff",
            "",
        ]);
        let filter = rng.pick(&[
            "-A FORWARD -m mark --mark 0x3 -j DROP",
            "-A FORWARD -m connmark --mark 0x5 -j DROP",
            "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -m mark --mark 0x4/0x4 -j REJECT",
        ]);
        let nat = any_nat(rng, &net);
        let rules = Rules { mangle: marks.to_owned(), filter: filter.to_owned(), ..Rules::nat(&nat) };
        Setup::new(net.v6, &rules)
    } else {
        Setup::default()
    };
    let setup = settings(rng, setup).with_nft(nft);
    (setup, Box::new(move |w| talk(w, &net)))
}

/// FTP in both directions, datagrams, pings and errors.
fn talk(w: &mut World<'_>, net: &Net) {
    for _ in 0..w.rng.range(1, 4) {
        match w.rng.range(0, 8) {
            0..4 => {
                let ends = match w.rng.range(0, 3) {
                    0 => net.inward(),
                    1 => Ends::new((OUT, net.server), (IN, net.inner), net.inner),
                    _ => net.outward(),
                };
                if let Some(session) = Session::open(w, ends) {
                    session.play(w);
                }
            }
            4 => question(w, net),
            5 => ping(w, net, (IN, net.client), net.server, (OUT, net.server)),
            6 => {
                let (port, to) = (w.rng.port(), w.rng.pick(&[53, 21, 443]));
                let ip = w.ip();
                for packet in w.carry(OUT, &udp(&ip, at(net.stranger, port), at(net.client, to), b"from outside")) {
                    error_about(w, net, &packet);
                }
            }
            _ => {
                let ip = w.ip();
                let (to, port) = (w.rng.pick(&[net.router_in, net.router_out, net.server]), w.rng.pick(&[7, 53]));
                w.carry(IN, &udp(&ip, at(net.client2, 7), at(to, port), b"datagram"));
            }
        }
    }
}

/// A script that is being written.
struct Script<'r> {
    rng: &'r mut Rng,
    net: Net,
    kind: Kind,
    is_inet: bool,
    /// True if the machine takes part in the dialogue.
    is_host: bool,
    /// The hook of the chain that is written.
    hook: &'static str,
    out: String,
}

impl Script<'_> {
    fn write(&mut self) {
        let family = if self.rng.percent(60) {
            "inet"
        } else if self.net.v6 {
            "ip6"
        } else {
            "ip"
        };
        self.is_inet = family == "inet";
        let tables = self.rng.range(1, 3);
        for table in 0..tables {
            self.out += &format!("table {family} t{table} {{\n");
            self.objects(family);
            self.hook = "";
            for name in ["sub", "other"] {
                self.out += &format!("  chain {name} {{\n");
                for _ in 0..self.rng.range(0, 4) {
                    self.rule(name == "sub");
                }
                self.out += "  }\n";
            }
            if table == 0 && self.is_host {
                self.helper_chain();
            } else if table == 0 {
                // The machine's own answers are not seen if its rules drop them, and then not by the library either.
                self.out += "  chain guard {\n    type filter hook input priority 1000000; policy accept;\n    meta l4proto { tcp, udp } drop\n  }\n";
                self.helper_chain();
            }
            for number in 0..self.rng.range(1, 5) {
                self.chain(number);
            }
            if self.kind == Kind::Nat && table == 0 {
                self.nat_chains();
            }
            self.out += "}\n";
        }
    }

    /// The connection is tracked and helped, whatever the other chains say.
    fn helper_chain(&mut self) {
        let priority = self.rng.pick(&["raw + 101", "-140", "-90", "filter", "300"]);
        self.out +=
            &format!("  chain helped {{\n    type filter hook prerouting priority {priority}; policy accept;\n");
        let line = self.rng.pick(&[
            "tcp dport 21 ct helper set \"ftp-std\"",
            "ct state new tcp dport { 21, 2121 } ct helper set \"ftp-std\"",
            "ct helper set tcp dport map { 21 : \"ftp-std\", 2121 : \"ftp-std\" }",
            "ct state new",
        ]);
        self.out += &format!("    {line}\n  }}\n");
    }

    /// Sets, maps and objects that rules name.
    fn objects(&mut self, family: &str) {
        let l3 = if family == "inet" { "inet" } else { family };
        self.out += &format!("  ct helper ftp-std {{\n    type \"ftp\" protocol tcp\n    l3proto {l3}\n  }}\n");
        let kind = if self.net.v6 { "ipv6_addr" } else { "ipv4_addr" };
        let [a, b, c] = [self.net.client, self.net.server, self.net.stranger];
        let network = if self.net.v6 { "fd77:1::/64" } else { "10.77.0.0/16" };
        self.out += &format!("  set addrs {{\n    type {kind}\n    elements = {{ {a}, {c} }}\n  }}\n");
        self.out +=
            &format!("  set nets {{\n    type {kind}\n    flags interval\n    elements = {{ {network}, {b} }}\n  }}\n");
        self.out += "  set ports {\n    type inet_service\n    flags interval\n    elements = { 20-22, 2121, 40000-65535 }\n  }\n";
        self.out += &format!(
            "  set pairs {{\n    type {kind} . inet_service\n    flags interval\n    elements = {{ {network} . 21, {b} . 1024-50000 }}\n  }}\n"
        );
        self.out +=
            &format!("  map marks {{\n    type {kind} : mark\n    elements = {{ {a} : 0x1, {b} : 0x2 }}\n  }}\n");
        self.out += &format!(
            "  map verdicts {{\n    type {kind} : verdict\n    flags interval\n    elements = {{ {network} : jump other, {b} : continue, {c} : drop }}\n  }}\n"
        );
        if self.kind == Kind::Meters {
            self.out +=
                "  limit some {\n    rate 3/minute burst 4 packets\n  }\n  quota few {\n    over 900 bytes\n  }\n";
            self.out += &format!(
                "  set seen {{\n    type {kind}\n    size 64\n    flags dynamic,timeout\n    timeout 1h\n  }}\n"
            );
            self.out +=
                &format!("  set both {{\n    type {kind} . inet_service\n    size 3\n    flags dynamic\n  }}\n");
        }
    }

    fn chain(&mut self, number: u32) {
        let hook = self.rng.pick(if self.is_host {
            &["prerouting", "output", "output", "postrouting", "input", "input"]
        } else {
            &["prerouting", "prerouting", "forward", "forward", "postrouting", "input"]
        });
        self.hook = hook;
        let priority = match hook {
            // With iptables' priorities, the order is that in which the kernel was told.
            "prerouting" => self.rng.pick(&["-310", "raw + 10", "-190", "-160", "mangle + 5", "-90", "20", "50"]),
            "postrouting" => self.rng.pick(&["-160", "5", "90", "110", "300"]),
            _ => self.rng.pick(&["-160", "-10", "5", "5", "10", "45", "200"]),
        };
        let policy = if self.rng.percent(12) { "drop" } else { "accept" };
        self.out +=
            &format!("  chain c{number} {{\n    type filter hook {hook} priority {priority}; policy {policy};\n");
        let is_raw = hook == "prerouting" && matches!(priority, "-310" | "raw + 10");
        if self.rng.percent(40) {
            let known = self.rng.pick(&[
                "ct state established,related accept",
                "ct state vmap { established : accept, related : accept, invalid : drop }",
                "ct state { established, related } counter accept",
                "ct state established accept",
            ]);
            self.out += &format!("    {known}\n");
        }
        for _ in 0..self.rng.range(1, 6) {
            if is_raw && self.rng.percent(25) {
                let line =
                    self.rng.pick(&["udp dport 53 notrack", "ct zone set 1", "tcp dport 22 notrack", "ct zone set 3"]);
                self.out += &format!("    {line}\n");
            }
            self.rule(true);
        }
        self.out += "  }\n";
    }

    /// A rule: some matches, some statements, maybe a verdict.
    fn rule(&mut self, may_jump: bool) {
        let mut words: Vec<String> = Vec::new();
        // At most one transport protocol is asked about.
        let transport = self.rng.range(0, 10);
        for _ in 0..self.rng.range(0, 4) {
            let word = match self.rng.range(0, 6) {
                0 | 1 => self.connection(),
                2 => self.meta(),
                3 => self.network(),
                _ => self.transport(transport),
            };
            words.push(word);
        }
        for _ in 0..self.rng.range(0, 3) {
            let word = self.statement(transport);
            words.push(word);
        }
        // nft refuses to ask about two protocols at once.
        let protocols = ["tcp", "udp", "icmp"];
        let mut said: Option<&str> = None;
        words.retain(|word| {
            let named: Vec<&str> = protocols.into_iter().filter(|protocol| word.contains(protocol)).collect();
            match (named.as_slice(), said) {
                ([], _) => true,
                ([one], None) => {
                    said = Some(one);
                    true
                }
                ([one], Some(said)) => *one == said,
                (_, said) => said.is_none(),
            }
        });
        let transport = match said {
            Some("tcp") => 0,
            Some(_) => 9,
            None => transport,
        };
        words.push(self.verdict(may_jump, transport));
        let line = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ");
        if !line.is_empty() {
            self.out += &format!("    {line}\n");
        }
    }

    /// Puts addresses in the places of names.
    fn filled(&self, text: &str) -> String {
        let net = &self.net;
        text.replace("IP", if net.v6 { "ip6" } else { "ip" })
            .replace("CLIENT", &net.client.to_string())
            .replace("SERVER", &net.server.to_string())
            .replace("INNER", &net.inner.to_string())
            .replace("STRANGER", &net.stranger.to_string())
            .replace("SPARE", net.spare)
            .replace("NETWORK", if net.v6 { "fd77:1::/64" } else { "10.77.0.0/16" })
            .replace("LOWER", if net.v6 { "2001:db8::" } else { "192.0.2.0" })
            .replace("UPPER", if net.v6 { "2001:db8:9::10" } else { "198.51.100.9" })
    }

    fn connection(&mut self) -> String {
        let text = self.rng.pick(&[
            "ct state new",
            "ct state established,related",
            "ct state invalid",
            "ct state != established",
            "ct state { new, untracked }",
            "ct state & (established | related) == established",
            "ct state ! new",
            "ct status assured",
            "ct status snat",
            "ct status expected,dnat",
            "ct status & (seen-reply | confirmed) == confirmed",
            "ct direction reply",
            "ct direction original",
            "ct helper \"ftp\"",
            "ct helper != \"ftp\"",
            "ct mark 0x1",
            "ct mark & 0x3 == 0x1",
            "ct mark != 0x0",
            "ct mark { 0x0, 0x2-0x5 }",
            "ct zone 0",
            "ct original IP saddr CLIENT",
            "ct reply IP saddr SERVER",
            "ct original IP daddr @nets",
            "ct reply IP daddr != NETWORK",
            "meta l4proto tcp ct original proto-dst 21",
            "meta l4proto { tcp, udp } ct reply proto-src 1-1023",
            "ct l3proto ipv4",
            "ct protocol tcp",
            "ct original packets > 3",
            "ct original bytes < 500",
            "ct packets 2-6",
            "ct reply bytes >= 200",
            "ct avgpkt > 60",
        ]);
        self.filled(text)
    }

    fn meta(&mut self) -> String {
        let common = [
            "meta mark 0x1",
            "meta mark & 0x6 == 0x2",
            "meta mark { 0x1, 0x4-0x9 }",
            "meta mark != 0x0",
            "meta mark ^ 0x3 == 0x2",
            "meta mark < 0x3",
            "meta l4proto tcp",
            "meta l4proto { tcp, udp }",
            "meta l4proto != udp",
            "meta nfproto ipv4",
            "meta protocol ip6",
            "meta length 40-70",
            "meta length > 80",
            "meta pkttype host",
            "meta hour >= \"00:00\"",
            "meta time > \"2020-01-01 00:00:00\"",
            "fib daddr type local",
            "fib saddr type unicast",
            "fib daddr type != { local, broadcast }",
            "numgen inc mod 3 0",
            "numgen inc mod 4 < 2",
            "jhash IP saddr mod 8 seed 0xdeadbeef < 3",
            "jhash IP saddr . IP daddr mod 2 seed 0x5 0",
        ];
        let arriving =
            ["iifname \"in\"", "iifname \"o*\"", "iif != \"dmz\"", "iifname { \"out\", \"dm*\" }", "iif \"in\""];
        let leaving = [
            "oifname \"out\"",
            "oifname != \"i*\"",
            "oif { \"in\", \"dmz\" }",
            "iifname . oifname { \"in\" . \"out\", \"out\" . \"in\" }",
        ];
        let reverse = [
            "fib saddr . iif oif exists",
            "fib saddr . iif oif missing",
            "fib saddr oif \"in\"",
            "fib daddr oifname \"out\"",
        ];
        let text = match self.rng.range(0, 8) {
            0 | 1 => self.rng.pick(&arriving),
            2 if matches!(self.hook, "forward" | "postrouting") => self.rng.pick(&leaving),
            3 if matches!(self.hook, "prerouting" | "forward" | "input") => self.rng.pick(&reverse),
            _ => self.rng.pick(&common),
        };
        if text.contains("nfproto") && !self.is_inet || text.contains("fib") && self.hook.is_empty() {
            return String::new();
        }
        self.filled(text)
    }

    fn network(&mut self) -> String {
        let both = [
            "IP saddr CLIENT",
            "IP daddr NETWORK",
            "IP saddr != { CLIENT, SERVER }",
            "IP daddr LOWER-UPPER",
            "IP saddr @addrs",
            "IP daddr @nets",
            "IP saddr != @nets",
            "IP saddr . IP daddr { CLIENT . SERVER, SERVER . NETWORK }",
        ];
        let v4 = [
            "ip ttl 64",
            "ip ttl < 64",
            "ip dscp cs0",
            "ip dscp != { ef, cs1 }",
            "ip ecn not-ect",
            "ip length > 60",
            "ip version 4",
            "ip hdrlength 5",
            "ip frag-off & 0x1fff != 0",
            "ip id 1-20000",
            "ip protocol tcp",
            "ip protocol { icmp, udp }",
            "ip saddr & 0.0.0.1 == 0.0.0.1",
            "@nh,72,8 0x6",
        ];
        let v6 = [
            "ip6 hoplimit 64",
            "ip6 hoplimit <= 64",
            "ip6 nexthdr tcp",
            "ip6 nexthdr != icmpv6",
            "ip6 length > 30",
            "ip6 flowlabel 0",
            "ip6 dscp cs0",
            "ip6 version 6",
            "exthdr frag missing",
            "exthdr hbh exists",
            "frag more-fragments 1",
            "@nh,48,8 0x6",
        ];
        let text = match self.rng.range(0, 2) {
            0 => self.rng.pick(&both),
            _ if self.net.v6 => self.rng.pick(&v6),
            _ => self.rng.pick(&v4),
        };
        // The identification of what the machine itself answers is drawn at random.
        if self.is_host && text.starts_with("ip id") {
            return String::new();
        }
        self.filled(text)
    }

    fn transport(&mut self, which: u32) -> String {
        let text = match which {
            0..6 => self.rng.pick(&[
                "tcp dport 21",
                "tcp dport { 20, 21, 1024-40000 }",
                "tcp dport != 21",
                "tcp sport >= 1024",
                "tcp dport @ports",
                "tcp flags syn / fin,syn,rst,ack",
                "tcp flags & (syn | ack) == syn | ack",
                "tcp flags { syn, syn | ack, ack }",
                "tcp flags psh",
                "tcp flags ! fin,rst",
                "tcp flags != syn",
                "tcp window > 1000",
                "tcp sequence > 0x7fffffff",
                "tcp doff 5",
                "tcp option maxseg exists",
                "tcp option maxseg size 1400-1500",
                "tcp option sack-perm missing",
                "IP saddr . tcp dport @pairs",
                "IP daddr . tcp dport { SERVER . 21, INNER . 1024-65535 }",
                "tcp sport . tcp dport { 20 . 1024-65535, 1024-65535 . 21 }",
                "jhash IP saddr . tcp sport mod 4 seed 0x7 != 1",
            ]),
            6 | 7 => self.rng.pick(&[
                "udp dport 53",
                "udp sport != { 53, 123 }",
                "udp length < 20",
                "udp dport vmap { 53 : accept, 123 : continue }",
                "@th,16,16 53",
                "meta l4proto udp th dport { 21, 53 }",
            ]),
            8 if self.net.v6 => self.rng.pick(&[
                "icmpv6 type echo-request",
                "icmpv6 type { destination-unreachable, time-exceeded, packet-too-big }",
                "icmpv6 type . icmpv6 code { 1 . 4, 128 . 0 }",
                "icmpv6 code != no-route",
            ]),
            8 => self.rng.pick(&[
                "icmp type echo-request",
                "icmp type { destination-unreachable, time-exceeded, 12 }",
                "icmp type . icmp code { 3 . 3, 8 . 0 }",
                "icmp code != host-unreachable",
                "icmp type { echo-request, echo-reply } icmp id > 1000",
            ]),
            _ => "",
        };
        self.filled(text)
    }

    fn statement(&mut self, transport: u32) -> String {
        let plain = [
            "counter",
            "log prefix \"nft: \"",
            "meta mark set 0x1",
            "meta mark set meta mark | 0x4",
            "meta mark set meta mark & 0xfffffffe",
            "meta mark set ct mark",
            "meta mark set ct mark << 1",
            "meta mark set numgen inc mod 4",
            "meta mark set numgen inc mod 2 offset 3",
            "meta mark set IP saddr map { CLIENT : 0x1, SERVER : 0x2 }",
            "meta mark set IP daddr map @marks",
            "meta mark set jhash IP saddr . IP daddr mod 4 seed 0x11 offset 1",
            "ct mark set 0x5",
            "ct mark set meta mark",
            "ct mark set ct mark & 0xf0 | 0x3",
            "ct mark set meta mark ^ 0x6",
            "ct mark set ct mark or 0x10",
            "IP saddr vmap @verdicts",
            "IP daddr vmap { SERVER : jump other, NETWORK : continue }",
        ];
        // Without `ct count`: a connection that was dropped counts for some ticks more, which no packet shows. One limit for
        // the elements of a set: which of two an element keeps is not known.
        let meters = [
            "limit rate 3/second",
            "limit rate 2/minute burst 3 packets",
            "limit rate over 2/minute burst 3 packets",
            "limit rate 400 bytes/minute burst 300 bytes",
            "limit rate over 1 kbytes/hour",
            "limit name \"some\"",
            "quota 500 bytes",
            "quota over 400 bytes",
            "quota name \"few\"",
            "add @seen { IP saddr }",
            "update @seen { IP saddr timeout 1m }",
            "IP saddr @seen",
            "IP daddr != @seen",
            "delete @seen { IP daddr }",
            "update @seen { IP saddr limit rate 2/minute burst 3 packets }",
            "numgen inc mod 5 vmap { 0 : continue, 1-2 : jump other }",
        ];
        let tcp_meters = [
            "add @both { IP saddr . tcp dport }",
            "update @both { IP saddr . tcp sport }",
            "IP saddr . tcp dport @both",
        ];
        let tcp = [
            "tcp option maxseg size set 1000",
            "tcp option maxseg size set rt mtu",
            "meta mark set tcp dport map { 21 : 0x3, 1024-65535 : 0x7 }",
            "ct mark set tcp dport map { 21 : 0x3, 20 : 0x7 }",
            "tcp dport vmap { 21 : continue, 22 : drop, 1024-65535 : goto other }",
        ];
        let text = match (self.kind, self.rng.range(0, 4)) {
            (Kind::Meters, 0) if transport < 6 && self.rng.percent(30) => self.rng.pick(&tcp_meters),
            (Kind::Meters, 0 | 1) if !self.hook.is_empty() || !self.out.contains("vmap") => self.rng.pick(&meters),
            (_, 2) if transport < 6 => self.rng.pick(&tcp),
            _ => self.rng.pick(&plain),
        };
        // Chains that rules jump to do not jump themselves: they might come in a circle.
        if self.hook.is_empty() && (text.contains("jump") || text.contains("goto") || text.contains("@verdicts")) {
            return String::new();
        }
        self.filled(text)
    }

    fn verdict(&mut self, may_jump: bool, transport: u32) -> String {
        let is_filter = matches!(self.hook, "forward" | "input" | "output");
        match self.rng.range(0, 16) {
            0..4 => "accept",
            4 => "drop",
            5 | 6 if may_jump && !self.hook.is_empty() => "jump sub",
            7 if may_jump => "jump other",
            8 if may_jump && !self.hook.is_empty() => "goto other",
            9 => "return",
            10 => "continue",
            11 if is_filter => "reject",
            12 if is_filter && transport < 6 => "reject with tcp reset",
            13 if is_filter && self.is_inet => {
                self.rng.pick(&["reject with icmpx admin-prohibited", "reject with icmpx host-unreachable"])
            }
            14 if is_filter && self.net.v6 => "reject with icmpv6 no-route",
            14 if is_filter => "reject with icmp host-unreachable",
            _ => "",
        }
        .to_owned()
    }

    /// Translations of sources and destinations.
    fn nat_chains(&mut self) {
        let before = self.rng.pick(&["dstnat - 1", "dstnat + 5", "-105"]);
        self.out += &format!("  chain before {{\n    type nat hook prerouting priority {before};\n");
        for _ in 0..self.rng.range(0, 3) {
            let text = self.rng.pick(&[
                "IP daddr OUTSIDE tcp dport 21 dnat IP to INNER",
                "tcp dport 2121 redirect to :21",
                "IP daddr OUTSIDE meta l4proto tcp dnat IP to BINNERB:21",
                "iifname \"out\" dnat IP to tcp dport map { 21 : INNER, 2121 : CLIENT }",
                "iifname \"out\" ct state new dnat IP to IP daddr map { OUTSIDE : INNER }",
                "iifname \"out\" udp dport 53 redirect",
                "iifname \"out\" dnat IP to numgen inc mod 2 map { 0 : INNER, 1 : CLIENT }",
                "iifname \"out\" IP daddr OUTSIDE dnat IP to tcp dport map { 21 : INNER . 21, 2121 : INNER . 21 }",
            ]);
            let text = self.translated(text);
            self.out += &format!("    {text}\n");
        }
        let after = self.rng.pick(&["srcnat + 1", "srcnat - 5", "110"]);
        self.out += &format!("  }}\n  chain after {{\n    type nat hook postrouting priority {after};\n");
        for _ in 0..self.rng.range(1, 3) {
            let text = self.rng.pick(&[
                "oifname \"out\" masquerade",
                "oifname \"out\" snat IP to SPARE",
                "oifname \"out\" meta l4proto tcp snat IP to BSPAREB:3000-3999",
                "IP saddr NETWORK oifname \"out\" masquerade persistent",
                "oifname \"out\" snat IP to IP saddr map { CLIENT : SPARE, INNER : OUTSIDE }",
                "oifname \"out\" ct mark 0x5 snat IP to SPARE",
                "meta mark 0x1 masquerade",
                "oifname \"out\" snat IP to SPARE persistent",
                "oifname \"out\" snat IP prefix to IP saddr map { NETWORK : PREFIX }",
            ]);
            let text = self.translated(text);
            self.out += &format!("    {text}\n");
        }
        self.out += "  }\n";
    }

    fn translated(&self, text: &str) -> String {
        let bracket = |open: &'static str| if self.net.v6 { open } else { "" };
        let text = text.replace("OUTSIDE", &self.net.router_out.to_string());
        let text = text.replace("BINNERB", &format!("{}INNER{}", bracket("["), bracket("]")));
        let text = text.replace("BSPAREB", &format!("{}SPARE{}", bracket("["), bracket("]")));
        let text = text.replace("PREFIX", if self.net.v6 { "2001:db8:77::/64" } else { "203.113.0.0/16" });
        self.filled(&text)
    }
}
