//! Compares what the library takes and refuses with what iptables itself does, over rules drawn from the words of the manual
//! page iptables-extensions(8).
//!
//! ```text
//! IPTABLES_RULES=3000 IPTABLES_SEED=1 cargo test --test iptables_words -- --nocapture
//! ```
//!
//! It needs `iptables-legacy-restore` and `ip6tables-legacy-restore`, and root; without them it says so and passes.
#![cfg(feature = "config")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use ftp_conntrack::config::parse_rules;
use ftp_conntrack::packet::Family;

/// Numbers that are the same for the same seed (xorshift).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }
}

/// A module: its name, and its options, each with values that may follow it.
type Words = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const NUMBERS: &[&str] = &["0", "1", "5", "63", "64", "255", "256", "65535", "65536", "0x10", "010", "-1", "x", ""];
const RANGES: &[&str] = &["1", "1:5", "5:1", ":5", "5:", "0:65536", "1-5", "x", ":"];
const NONE: &[&str] = &[];

const MATCHES: &[Words] = &[
    ("ttl", &[("--ttl-eq", NUMBERS), ("--ttl-lt", NUMBERS), ("--ttl-gt", NUMBERS)]),
    ("hl", &[("--hl-eq", NUMBERS), ("--hl-lt", NUMBERS), ("--hl-gt", NUMBERS)]),
    ("length", &[("--length", RANGES)]),
    ("dscp", &[("--dscp", NUMBERS), ("--dscp-class", &["EF", "BE", "AF11", "AF51", "CS7", "CS8", "x"])]),
    ("tos", &[("--tos", &["0x10", "0x10/0x3f", "Minimize-Delay", "256", "1/256", "x"])]),
    ("ecn", &[("--ecn-tcp-cwr", NONE), ("--ecn-tcp-ece", NONE), ("--ecn-ip-ect", &["0", "3", "4", "x"])]),
    ("tcpmss", &[("--mss", RANGES)]),
    (
        "addrtype",
        &[
            ("--src-type", &["LOCAL", "local,UNICAST", "MOON", ""]),
            ("--dst-type", &["ANYCAST", "THROW", "MULTICAST,BROADCAST"]),
            ("--limit-iface-in", NONE),
            ("--limit-iface-out", NONE),
        ],
    ),
    (
        "limit",
        &[
            ("--limit", &["3/sec", "3/minute", "1/h", "5", "10000/s", "10001/s", "0/s", "x/s", "3/fortnight", "3/"]),
            ("--limit-burst", &["1", "5", "10000", "10001", "0", "x"]),
        ],
    ),
    (
        "hashlimit",
        &[
            ("--hashlimit-upto", &["3/sec", "1000000/s", "1000001/s", "512kb/s", "1mb/s", "5/min", "x"]),
            ("--hashlimit-above", &["3/sec", "5", "10kb/minute"]),
            ("--hashlimit-mode", &["srcip", "srcip,dstport", "moon", ""]),
            ("--hashlimit-srcmask", &["8", "32", "33", "129"]),
            ("--hashlimit-name", &["foo", ""]),
            ("--hashlimit-burst", &["5", "0", "x", "1000000", "1000001"]),
            ("--hashlimit-htable-max", NUMBERS),
            ("--hashlimit-htable-expire", NUMBERS),
        ],
    ),
    (
        "recent",
        &[
            ("--set", NONE),
            ("--rcheck", NONE),
            ("--update", NONE),
            ("--remove", NONE),
            ("--seconds", &["0", "1", "60", "x"]),
            ("--reap", NONE),
            ("--hitcount", &["0", "1", "20", "x"]),
            ("--rttl", NONE),
            ("--name", &["foo"]),
            ("--rsource", NONE),
            ("--rdest", NONE),
            ("--mask", &["255.255.255.0", "24", "x"]),
        ],
    ),
    (
        "connlimit",
        &[
            ("--connlimit-upto", NUMBERS),
            ("--connlimit-above", NUMBERS),
            ("--connlimit-mask", &["0", "24", "32", "33", "128", "129"]),
            ("--connlimit-saddr", NONE),
            ("--connlimit-daddr", NONE),
        ],
    ),
    (
        "connbytes",
        &[
            ("--connbytes", &["1", "1:5", "5:1", "1:", ":5", "x", "18446744073709551615"]),
            ("--connbytes-dir", &["original", "reply", "both", "moon"]),
            ("--connbytes-mode", &["packets", "bytes", "avgpkt", "moon"]),
        ],
    ),
    ("connmark", &[("--mark", &["1", "1/2", "0x1/0xff", "x", "4294967296"])]),
    ("mark", &[("--mark", &["1", "1/2", "0x1/0xff", "x", "4294967296"])]),
    (
        "conntrack",
        &[
            ("--ctstate", &["NEW", "NEW,SNAT", "moon"]),
            ("--ctproto", &["tcp", "6", "0", "256", "moon"]),
            ("--ctorigsrc", &["10.0.0.1", "10.0.0.0/8", "fd00::1", "x"]),
            ("--ctorigdstport", RANGES),
            ("--ctstatus", &["NONE", "ASSURED,SEEN_REPLY", "moon"]),
            ("--ctexpire", RANGES),
            ("--ctdir", &["ORIGINAL", "REPLY", "original", "moon"]),
        ],
    ),
    ("state", &[("--state", &["NEW", "NEW,SNAT", "moon"])]),
    (
        "cluster",
        &[
            ("--cluster-total-nodes", &["2", "32", "33", "0"]),
            ("--cluster-local-node", &["1", "2", "3", "0"]),
            ("--cluster-local-nodemask", &["1", "3", "4", "0"]),
            ("--cluster-hash-seed", NUMBERS),
        ],
    ),
    ("quota", &[("--quota", &["0", "1000", "18446744073709551615", "x"])]),
    (
        "statistic",
        &[
            ("--mode", &["random", "nth", "moon"]),
            ("--probability", &["0", "0.5", "1", "1.1", "-1", "x"]),
            ("--every", &["0", "1", "5", "x"]),
            ("--packet", &["0", "4", "5"]),
        ],
    ),
    (
        "string",
        &[
            ("--algo", &["bm", "kmp", "moon"]),
            ("--from", &["0", "65535", "65536"]),
            ("--to", &["0", "65535", "65536"]),
            ("--string", &["a", ""]),
            ("--hex-string", &["'|0d0a|", "'|0d0|", "'a|0d", "abc"]),
            ("--icase", NONE),
        ],
    ),
    (
        "time",
        &[
            ("--datestart", &["2026", "2026-01-02", "2026-01-02T03:04:05", "1969", "2039", "x"]),
            ("--timestart", &["00:00", "23:59:59", "24:00", "06:03", "1", "x"]),
            ("--monthdays", &["1,2", "31", "32", "0"]),
            ("--weekdays", &["Mon,Tue", "1,7", "8", "Mo", "x"]),
            ("--contiguous", NONE),
            ("--kerneltz", NONE),
        ],
    ),
    (
        "u32",
        &[("--u32", &["'0=1", "'6&0xFF=1&&4&0x3FFF=0", "'0>>22&0x3C@0>>24=0,1:5", "'0", "'0=1=", "'x=1", "'0 & 1"])],
    ),
    ("pkttype", &[("--pkt-type", &["unicast", "broadcast", "multicast", "otherhost", "moon"])]),
    ("physdev", &[("--physdev-in", &["eth0"]), ("--physdev-is-bridged", NONE), ("--physdev-is-in", NONE)]),
    ("devgroup", &[("--src-group", &["0", "1/1"]), ("--dst-group", &["0", "0x1"])]),
    (
        "policy",
        &[
            ("--dir", &["in", "out", "x"]),
            ("--pol", &["none", "ipsec", "x"]),
            ("--strict", NONE),
            ("--reqid", NUMBERS),
            ("--proto", &["esp", "ah", "x"]),
        ],
    ),
    ("rpfilter", &[("--loose", NONE), ("--validmark", NONE), ("--accept-local", NONE), ("--invert", NONE)]),
    ("owner", &[("--uid-owner", &["0", "1-5", "root"]), ("--socket-exists", NONE)]),
    ("mac", &[("--mac-source", &["00:11:22:33:44:55", "0:1:2:3:4:5", "00:11", "x"])]),
    ("iprange", &[("--src-range", &["10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.1", "10.0.0.1", "fd00::1-fd00::2"])]),
    ("comment", &[("--comment", &["a", "'a b"])]),
    ("helper", &[("--helper", &["ftp"])]),
    ("rt", &[("--rt-type", NUMBERS), ("--rt-segsleft", RANGES), ("--rt-len", NUMBERS)]),
    ("multiport", &[("--sports", &["1,2", "1:5", "x", "65536"]), ("--dports", &["1"]), ("--ports", &["1"])]),
    (
        "tcp",
        &[
            ("--sport", RANGES),
            ("--tcp-flags", &["SYN SYN", "ALL NONE", "MOON SYN", "SYN"]),
            ("--syn", NONE),
            ("--tcp-option", NUMBERS),
        ],
    ),
    ("sctp", &[("--chunk-types", &["any INIT", "all DATA:Be,INIT", "moon INIT", "any MOON", "only DATA:X"])]),
    ("set", &[("--match-set", &["a"])]),
];

const TARGETS: &[Words] = &[
    ("ACCEPT", &[]),
    ("LOG", &[("--log-level", &["info", "7", "8", "bad", "warn"]), ("--log-prefix", &["a", "'a b"])]),
    ("TTL", &[("--ttl-set", NUMBERS), ("--ttl-dec", NUMBERS), ("--ttl-inc", NUMBERS)]),
    ("HL", &[("--hl-set", NUMBERS), ("--hl-dec", NUMBERS), ("--hl-inc", NUMBERS)]),
    ("DSCP", &[("--set-dscp", NUMBERS), ("--set-dscp-class", &["EF", "x"])]),
    ("TOS", &[("--set-tos", &["1", "1/2", "256", "Minimize-Cost"]), ("--and-tos", NUMBERS), ("--xor-tos", NUMBERS)]),
    ("ECN", &[("--ecn-tcp-remove", NONE)]),
    ("TCPOPTSTRIP", &[("--strip-options", &["mss", "2,5", "moon", "0", "256"])]),
    ("CHECKSUM", &[("--checksum-fill", NONE)]),
    ("NFLOG", &[("--nflog-group", &["0", "65535", "65536"]), ("--nflog-prefix", &["a"])]),
    ("CLASSIFY", &[("--set-class", &["1:2", "x"])]),
    ("MARK", &[("--set-mark", &["1", "1/2", "x"]), ("--or-mark", &["1", "x"])]),
    ("CONNMARK", &[("--set-mark", &["1"]), ("--save-mark", NONE), ("--restore-mark", NONE), ("--mask", &["1"])]),
    ("NETMAP", &[("--to", &["10.0.0.0/24", "fd00::/64", "x"])]),
    ("TCPMSS", &[("--set-mss", NUMBERS), ("--clamp-mss-to-pmtu", NONE)]),
    ("NFQUEUE", &[("--queue-num", NUMBERS), ("--queue-bypass", NONE)]),
    ("TEE", &[("--gateway", &["10.0.0.1", "fd00::1", "x"])]),
    ("TRACE", &[]),
    ("AUDIT", &[("--type", &["accept", "drop", "x"])]),
    ("IDLETIMER", &[("--timeout", &["1", "0", "x"]), ("--label", &["a"])]),
];

fn module(rng: &mut Rng, (name, options): Words, letter: &str) -> String {
    let mut text = format!("{letter} {name}");
    let count = [0, 1, 1, 1, 2, 2, 3][rng.below(7)];
    for _ in 0..count.min(options.len()) {
        let Some((option, values)) = options.get(rng.below(options.len())) else { continue };
        let negation = if rng.below(6) == 0 { "! " } else { "" };
        text += &format!(" {negation}{option}");
        if !values.is_empty() {
            text += &format!(" {}", rng.pick(values));
        }
    }
    text
}

/// A table with one rule.
fn rule(rng: &mut Rng) -> String {
    let table = rng.pick(&["filter", "filter", "mangle", "raw", "nat"]);
    let chains: &[&str] = match table {
        "filter" => &["INPUT", "FORWARD", "OUTPUT", "mine"],
        "mangle" => &["PREROUTING", "FORWARD", "POSTROUTING", "mine"],
        "raw" => &["PREROUTING", "OUTPUT", "mine"],
        _ => &["PREROUTING", "POSTROUTING", "OUTPUT", "mine"],
    };
    let chain = rng.pick(chains);
    let protocol = rng.pick(&["", "", "-p tcp ", "-p udp ", "-p sctp ", "-p icmp "]);
    let with_match = rng.below(5) != 0;
    let matched = if with_match { module(rng, MATCHES[rng.0 as usize % MATCHES.len()], "-m") } else { String::new() };
    rng.below(2);
    let with_target = !with_match || rng.below(4) == 0;
    let target =
        if with_target { module(rng, TARGETS[rng.0 as usize % TARGETS.len()], "-j") } else { "-j ACCEPT".into() };
    format!("*{table}\n:mine - [0:0]\n-A {chain} {protocol}{matched} {target}\nCOMMIT\n")
}

/// Asks the tool; an error is what it says.
fn ask(tool: &str, text: &str) -> std::io::Result<Result<(), String>> {
    let mut child =
        // In a network namespace of its own the kernel is asked too, and the rules end with it.
        Command::new("unshare").args(["-n", tool]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(stdin) = &mut child.stdin {
        stdin.write_all(text.as_bytes())?;
    }
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn iptables_takes_and_refuses_the_same() {
    let accepts_nothing = "*filter\nCOMMIT\n";
    if !matches!(ask("iptables-legacy-restore", accepts_nothing), Ok(Ok(()))) {
        println!("skipped: iptables-legacy-restore is not here, or only root may ask it");
        return;
    }
    let mut rng = Rng(number("IPTABLES_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let rules = number("IPTABLES_RULES", 300);
    let (mut wrong, mut taken, mut differ): (BTreeMap<String, String>, u64, u64) = (BTreeMap::new(), 0, 0);
    for _ in 0..rules {
        let text = rule(&mut rng);
        let v6 = rng.below(3) == 0;
        let (tool, family) =
            if v6 { ("ip6tables-legacy-restore", Family::V6) } else { ("iptables-legacy-restore", Family::V4) };
        let theirs = ask(tool, &text).expect("the tool runs");
        let ours = parse_rules("rules", &text, family);
        taken += u64::from(theirs.is_ok());
        differ += u64::from(theirs.is_ok() != ours.is_ok());
        let line = text.lines().nth(2).unwrap_or_default();
        match (&theirs, &ours) {
            (Ok(()), Err(error)) => {
                wrong.entry(format!("taken by {tool}: {error}")).or_insert_with(|| line.to_owned());
            }
            (Err(said), Ok(_)) => {
                wrong.entry(format!("refused by {tool}: {said}")).or_insert_with(|| line.to_owned());
            }
            _ => {}
        }
    }
    println!("{rules} rules, {taken} of them taken by iptables, {differ} differ, in {} ways", wrong.len());
    for (kind, line) in &wrong {
        println!("{kind}\n    {line}");
    }
    // The rest are values that only a kernel's module or a file of the machine decides on.
    assert!(differ * 100 <= rules * 4, "{differ} of {rules} differ");
    assert!(taken > rules / 10, "hardly a rule is one");
}
