//! Asking both, packet by packet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ftp_conntrack::Instant;
use ftp_conntrack::config::{self, Directory};
use ftp_conntrack::netfilter::Outcome;
use ftp_conntrack::replay::ForcedPort;
use ftp_conntrack::router::RouterConfig;

use crate::kernel::{Kernel, OnWire, SELF};
use crate::library::{self, Library};
use crate::setup::Setup;
use crate::{choice, compare, wire};

/// The kernel and what the library needs to be told about it.
pub(crate) struct Judge {
    kernel: Kernel,
    machine: Directory,
    /// `addr.json` and `route.json`.
    pub(crate) files: (String, String),
    loaded: Option<(Setup, RouterConfig)>,
    /// Packets asked about.
    pub(crate) packets: u64,
    /// Scripts of nftables that were loaded, and those that were printed and compared.
    scripts: u32,
    pub(crate) printed: u32,
    /// Number of packets about which the kernel decided, a tick of its clock from a limit's edge.
    pub(crate) followed: u64,
    /// Number of times that packets were asked about again.
    repetitions: u16,
    /// A packet of the dialogue said what a link takes, and the kernel may have believed it.
    taught: bool,
}

/// Longer than a tick of the kernel's: what it learns of links is to be forgotten at once, which is at the next tick.
const TICK: Duration = Duration::from_millis(12);

/// A step of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Packet { interface: usize, bytes: Vec<u8> },
    Wait(Duration),
}

/// A packet as it was seen, for a capture.
#[derive(Clone, Debug)]
pub(crate) struct SeenPacket {
    pub(crate) time: Instant,
    pub(crate) arrived: bool,
    pub(crate) packet: OnWire,
}

/// A difference.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// In what way, in a few words without numbers: differences of one kind are likely to have one cause.
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// One dialogue under way.
pub(crate) struct Trial {
    library: Library,
    pub(crate) steps: Vec<Step>,
    pub(crate) seen: Vec<SeenPacket>,
    pub(crate) difference: Option<Difference>,
    /// Chance decided otherwise for each: nothing after it can be compared.
    pub(crate) chance: bool,
    /// The longest time that a question took: what the kernel did then, it did at some time within.
    stall: Duration,
    /// The kernel's tables in the end, and when.
    pub(crate) tables: Option<(Instant, [String; 2])>,
}

fn now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::from_micros(since.as_micros() as i64)
}

impl Judge {
    pub(crate) fn start() -> Result<Self, String> {
        let kernel = Kernel::start()?;
        let files = kernel.addresses_and_routes()?;
        let text = |error: config::Error| error.to_string();
        let mut machine = Directory::default();
        machine.interfaces = config::parse_addresses("addr.json", &files.0).map_err(text)?;
        machine.routes = config::parse_routes("route.json", &files.1).map_err(text)?;
        Ok(Self {
            kernel,
            machine,
            files,
            loaded: None,
            packets: 0,
            scripts: 0,
            printed: 0,
            followed: 0,
            repetitions: 0,
            taught: false,
        })
    }

    /// Both begin anew.
    pub(crate) fn begin(&mut self, setup: &Setup) -> Result<Trial, String> {
        let config = match &self.loaded {
            Some((loaded, config)) if loaded == setup && !setup.remembers() => {
                let config = config.clone();
                self.kernel.load_nft(setup)?;
                config
            }
            _ => {
                let config = library::configuration(setup, &self.machine)?;
                self.kernel.load(setup)?;
                self.compare_nft(setup)?;
                self.loaded = Some((setup.clone(), config.clone()));
                config
            }
        };
        if std::mem::take(&mut self.taught) {
            std::thread::sleep(TICK);
        }
        self.kernel.flush()?;
        self.kernel.drain();
        let library = Library::new(config, setup.is_host)?;
        Ok(Trial {
            library,
            steps: Vec::new(),
            seen: Vec::new(),
            difference: None,
            chance: false,
            stall: Duration::ZERO,
            tables: None,
        })
    }

    /// Reads what nft prints of its tables, as JSON and as text: both must be the same model, and that of the script. Both
    /// are printed for one of ten scripts, since printing takes longer than a dialogue.
    fn compare_nft(&mut self, setup: &Setup) -> Result<(), String> {
        self.scripts += u32::from(!setup.nft.is_empty());
        if setup.nft.is_empty() || self.scripts % 10 != 1 {
            return Ok(());
        }
        let [json, text] = self.kernel.print_nft()?;
        self.printed += 1;
        library::same_nft(&json, &text).map_err(|difference| format!("{difference}\n{json}\n{text}"))
    }

    /// A packet arrives, or, with [`SELF`], is sent by the machine. Returns what the kernel sends; nothing after the first difference.
    pub(crate) fn ask(&mut self, trial: &mut Trial, interface: usize, bytes: &[u8]) -> Vec<OnWire> {
        if trial.difference.is_some() || trial.chance {
            return Vec::new();
        }
        let now = now();
        self.packets += 1;
        self.taught |= wire::says_too_big(bytes);
        let left = self.kernel.ask(interface, bytes);
        trial.stall = trial.stall.max(self::now().since(now));
        trial.steps.push(Step::Packet { interface, bytes: bytes.to_vec() });
        let arrived = OnWire { interface, bytes: bytes.to_vec() };
        trial.seen.push(SeenPacket { time: now, arrived: true, packet: arrived });
        let leaving = left.iter().map(|packet| SeenPacket { time: now, arrived: false, packet: packet.clone() });
        trial.seen.extend(leaving);
        trial.difference = trial.compare(now, interface, bytes, &left);
        left
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, trial: &mut Trial, time: Duration) {
        if trial.difference.is_none() {
            std::thread::sleep(time);
            trial.steps.push(Step::Wait(time));
        }
    }

    /// The dialogue is over: compares the tables.
    pub(crate) fn end(&mut self, trial: &mut Trial) -> Result<(), String> {
        let mut tables = self.kernel.tables()?;
        let mut now = now();
        self.followed += trial.library.followed();
        if trial.difference.is_none() && !trial.chance {
            let mut ours = trial.library.tables(now);
            let mut differences = trial.compare_tables(&tables, &ours);
            // The tables are those of all namespaces: a line of ours is missed while another's entries move.
            for _ in 0..3 {
                if differences.is_empty() {
                    break;
                }
                let before = self::now();
                tables = self.kernel.tables()?;
                now = self::now();
                trial.stall = trial.stall.max(now.since(before));
                ours = trial.library.tables(now);
                differences = trial.compare_tables(&tables, &ours);
            }
            if !differences.is_empty() {
                let both = ["kernel", "library"].iter().zip([&tables, &ours]);
                let whole = both.map(|(whose, [known, expected])| format!("the {whose}'s:\n{known}{expected}"));
                let text = format!("{}\n{}", differences.join("\n"), whole.collect::<String>());
                trial.difference = Some(Difference { kind: table_kind(&differences), text });
            }
        }
        trial.tables = Some((now, tables));
        Ok(())
    }

    /// Asks both about packets that are known.
    pub(crate) fn again(&mut self, setup: &Setup, steps: &[Step]) -> Result<Trial, String> {
        let mut trial = self.begin(setup)?;
        self.repetitions = self.repetitions.wrapping_add(1);
        let salt = self.repetitions;
        for step in steps {
            match step {
                Step::Packet { interface, bytes } => {
                    let mut bytes = bytes.clone();
                    wire::reidentify(&mut bytes, salt);
                    self.ask(&mut trial, *interface, &bytes);
                }
                Step::Wait(time) => self.wait(&mut trial, *time),
            }
        }
        self.end(&mut trial)?;
        Ok(trial)
    }
}

impl Trial {
    fn compare_tables(&self, kernel: &[String; 2], library: &[String; 2]) -> Vec<String> {
        let slack = i64::try_from(self.stall.as_secs()).unwrap_or(i64::MAX);
        let [known, expected] = [0, 1].map(|table| compare::tables(&kernel[table], &library[table], 1 + slack));
        known.into_iter().chain(expected.into_iter().map(|difference| format!("expectation {difference}"))).collect()
    }

    fn compare(&mut self, now: Instant, interface: usize, bytes: &[u8], left: &[OnWire]) -> Option<Difference> {
        let arrived = wire::read(bytes);
        let bad_checksum = arrived.as_ref().is_some_and(|read| !read.checksum_ok);
        let made = match self.library.process(
            now,
            (interface != SELF).then_some(interface),
            bytes,
            suggestion(bytes, left),
            Some(outcome(bytes, interface, left)),
        ) {
            Ok(made) => made,
            Err(panic) => return Some(Difference { kind: format!("panic: {panic}"), text: panic }),
        };
        let (mut theirs, mut ours) = (left.to_vec(), made.sent.clone());
        compare::cancel(&mut theirs, &mut ours, bad_checksum);
        if made.is_local {
            // A packet for this machine may be answered by its own sockets, or for want of one.
            theirs.retain(|packet| !self.is_own(now, &made.packet, packet));
        }
        if theirs.is_empty() && ours.is_empty() && !made.undecided {
            return None;
        }
        Some(describe(bytes, &theirs, &ours, &made))
    }

    /// Returns true if a packet that left is one that the machine itself sent, after handing it to the library.
    fn is_own(&mut self, now: Instant, delivered: &[u8], left: &OnWire) -> bool {
        let Some(sent) = as_sent(delivered, &left.bytes) else { return false };
        let Ok(made) = self.library.process(now, None, &sent, None, None) else { return false };
        made.sent.iter().any(|packet| compare::sent_by_the_machine(packet) == compare::sent_by_the_machine(left))
    }
}

/// Returns what became of a packet.
fn outcome(arrived: &[u8], interface: usize, left: &[OnWire]) -> Outcome {
    let sender = wire::read(arrived).map(|read| read.from);
    let mut packets = left.iter().filter_map(|packet| Some((packet.interface, wire::read(&packet.bytes)?)));
    match packets.next() {
        None => Outcome::Vanishes,
        Some((back, read)) if back == interface && Some(read.to) == sender => Outcome::Answered,
        Some((_, read)) => Outcome::Leaves(read.to, read.ports.map_or(0, |(_, port)| port)),
    }
}

/// Returns the port that the kernel may have chosen at random, or, where nothing left, that none was free.
fn suggestion(arrived: &[u8], left: &[OnWire]) -> Option<ForcedPort> {
    if left.is_empty() { Some(ForcedPort::Taken) } else { choice::of(arrived, left).map(ForcedPort::Port) }
}

/// The answer to a delivered packet as the machine sent it, before it was translated back.
fn as_sent(delivered: &[u8], left: &[u8]) -> Option<Vec<u8>> {
    let (to, from) = (wire::read(delivered)?, wire::read(left)?);
    let mut sent = left.to_vec();
    if (from.from, from.to) == (to.to, to.from) && from.ports.is_none() {
        return Some(sent);
    }
    let Some((source, destination)) = to.ports.filter(|_| from.protocol == to.protocol) else {
        let width = if to.to.is_ipv4() { 12..20 } else { 8..40 };
        return (left.get(width.clone())? == swapped(delivered.get(width)?)).then_some(sent);
    };
    let addresses = if to.to.is_ipv4() { 12..20 } else { 8..40 };
    sent.get_mut(addresses.clone())?.copy_from_slice(&swapped(delivered.get(addresses)?));
    let body = sent.get_mut(from.at..)?;
    body.get_mut(..2)?.copy_from_slice(&destination.to_be_bytes());
    body.get_mut(2..4)?.copy_from_slice(&source.to_be_bytes());
    wire::sum_into(body, if from.protocol == 6 { 16 } else { 6 }, to.to, to.from, from.protocol);
    if to.to.is_ipv4() {
        wire::header_sum(&mut sent);
    }
    Some(sent)
}

fn swapped(addresses: &[u8]) -> Vec<u8> {
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    [destination, source].concat()
}

fn describe(arrived: &[u8], theirs: &[OnWire], ours: &[OnWire], made: &library::Made) -> Difference {
    let name = |packet: &OnWire| format!("{:<4} {}", crate::kernel::name(packet.interface), wire::show(&packet.bytes));
    let mut text = format!("arrived:          {}\n", wire::show(arrived));
    for packet in theirs {
        text += &format!("kernel sends:     {}\n", name(packet));
    }
    for packet in ours {
        text += &format!("library sends:    {}\n", name(packet));
    }
    if let ([theirs], [ours]) = (theirs, ours) {
        text +=
            &format!("kernel's bytes:   {}\nlibrary's bytes:  {}\n", wire::hex(&theirs.bytes), wire::hex(&ours.bytes));
    }
    text += &format!("library decides:  {}\n", made.verdict);
    for event in &made.events {
        text += &format!("library tells:    {event}\n");
    }
    let short = |packets: &[OnWire]| packets.iter().map(|p| class(&p.bytes)).collect::<Vec<_>>().join("+");
    let what = match (theirs, ours) {
        ([theirs], [ours]) => differing(&theirs.bytes, &ours.bytes),
        _ => String::new(),
    };
    let verdict = made.verdict.split([' ', '{']).next().unwrap_or_default();
    let kind = format!("{} -> kernel [{}] library [{}] {verdict} {what}", class(arrived), short(theirs), short(ours));
    Difference { kind, text }
}

/// A packet in a word or two.
fn class(bytes: &[u8]) -> String {
    let Some(read) = wire::read(bytes) else { return "?".to_owned() };
    let mut version = (bytes[0] >> 4).to_string();
    if version == "4" && read.at != 20 {
        version += "+options";
    }
    if version.starts_with('4') && !wire::header_checksum_ok(bytes) {
        version += "+bad header";
    }
    if !read.checksum_ok {
        version += "+bad checksum";
    }
    match (&read.tcp, read.protocol) {
        _ if read.is_fragment => format!("{version}:fragment"),
        (Some(tcp), _) => {
            let flags: String =
                "FSRPAU".chars().enumerate().filter(|(bit, _)| tcp.flags >> bit & 1 == 1).map(|(_, c)| c).collect();
            format!("{version}:{flags}{}", if tcp.data.is_empty() { "" } else { "+data" })
        }
        (None, protocol) => {
            let is_error = |kind: &u8| if protocol == 1 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { *kind < 128 };
            let kind = bytes.get(read.at..read.at + 2).filter(|_| matches!(protocol, 1 | 58));
            if kind.is_some_and(|kind| is_error(&kind[0])) {
                return format!("{version}:error");
            }
            format!("{version}:{protocol}{}", kind.map_or(String::new(), |kind| format!("/{}.{}", kind[0], kind[1])))
        }
    }
}

/// The fields in which two packets differ.
fn differing(theirs: &[u8], ours: &[u8]) -> String {
    let mut fields = Vec::new();
    if theirs.len() != ours.len() {
        fields.push("length");
    }
    let (Some(a), Some(b)) = (wire::read(theirs), wire::read(ours)) else { return "unreadable".to_owned() };
    let mut note = |name: &'static str, differs: bool| {
        if differs {
            fields.push(name);
        }
    };
    note("source", a.from != b.from);
    note("destination", a.to != b.to);
    note("ttl", a.ttl != b.ttl);
    note("ports", a.ports != b.ports);
    if let (Some(x), Some(y)) = (&a.tcp, &b.tcp) {
        note("seq", x.seq != y.seq);
        note("ack", x.ack != y.ack);
        note("flags", x.flags != y.flags);
        note("options", x.options != y.options);
        note("data", x.data != y.data);
    } else {
        note("body", theirs.get(a.at..) != ours.get(b.at..));
    }
    if fields.is_empty() {
        fields.push("header");
    }
    fields.join(",")
}

fn table_kind(differences: &[String]) -> String {
    let word = |line: &str| -> String {
        let states = [
            "SYN_SENT2",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
            "TIME_WAIT",
            "CLOSE",
            "udp",
            "icmp",
            "tcp",
        ];
        let state = states.iter().find(|state| line.contains(**state)).unwrap_or(&"other");
        let start: String = line.split(':').next().unwrap_or_default().to_owned();
        format!("{start} {state}")
    };
    let mut words: Vec<String> = differences.iter().map(|line| word(line)).collect();
    words.sort();
    words.dedup();
    format!("table: {}", words.join("; "))
}
