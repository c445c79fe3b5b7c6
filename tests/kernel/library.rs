//! The library, asked the same as the kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ftp_conntrack::Instant;
use ftp_conntrack::config::{self, Directory};
use ftp_conntrack::conntrack::Limits;
use ftp_conntrack::event::Event;
use ftp_conntrack::netfilter::Outcome;
use ftp_conntrack::netfilter::nft::NftRuleset;
use ftp_conntrack::packet::Packet;
use ftp_conntrack::replay::{ForcedPort, force_port};

use ftp_conntrack::router::{Egress, Outbox, Router, RouterConfig, Verdict};

use crate::kernel::{INTERFACES, OnWire, SELF};
use crate::own;
use crate::setup::Setup;

/// A router of one's own; a dialogue begins with a new one.
pub(crate) struct Library {
    router: Router,
    outbox: Outbox,
    buffer: Vec<u8>,
    /// The router's number of each interface.
    numbers: [usize; 3],
    /// True if delivered packets are reported as sent to the machine.
    is_host: bool,
}

/// The library's output for a packet.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) verdict: String,
    /// True if it is for this machine, which may then answer.
    pub(crate) is_local: bool,
    pub(crate) sent: Vec<OnWire>,
    /// The packet as it is now.
    pub(crate) packet: Vec<u8>,
    pub(crate) events: Vec<String>,
    pub(crate) undecided: bool,
}

/// Returns the configuration for a setup and the machine's addresses and routes.
pub(crate) fn configuration(setup: &Setup, machine: &Directory) -> Result<RouterConfig, String> {
    let text = |error: config::Error| error.to_string();
    let mut directory = machine.clone();
    let rules = |name: &str, rules: &str, family| config::parse_rules(name, rules, family).map_err(text);
    let (rules4, warnings4) = rules("rules.v4", &setup.rules4, ftp_conntrack::packet::Family::V4)?;
    let (rules6, warnings6) = rules("rules.v6", &setup.rules6, ftp_conntrack::packet::Family::V6)?;
    if let Some(warning) = warnings4.first().or(warnings6.first()) {
        return Err(warning.to_string());
    }
    (directory.rules4, directory.rules6) = (Some(rules4), Some(rules6));
    if !setup.nft.is_empty() {
        let (ruleset, warnings) = config::parse_nft("ruleset.nft", &setup.nft).map_err(text)?;
        if let Some(warning) = warnings.first() {
            return Err(format!("{warning}\n{}", setup.nft));
        }
        directory.nft = Some(ruleset);
    }
    directory.sets = config::parse_ipset("ipset.save", &setup.sets).map_err(text)?.0;
    directory.sysctl = config::parse_sysctl("sysctl.conf", &sysctl_text(setup)).map_err(text)?;
    let mut config = directory.router_config().map_err(text)?;
    config.conntrack.limits = Limits::new(1024, 256, 128);
    config.fragments = 8;
    // The kernel verifies checksums unless told otherwise.
    config.checksum = !setup.sysctl.iter().any(|(key, value)| key.ends_with("conntrack_checksum") && value == "0");
    Ok(config)
}

/// Compares the models of what nft printed, as JSON and as text. The difference is told in words.
pub(crate) fn same_nft(json: &str, text: &str) -> Result<(), String> {
    let read = |result: Result<(NftRuleset, Vec<config::Warning>), config::Error>| {
        let (mut ruleset, warnings) = result.map_err(|error| error.to_string())?;
        if let Some(warning) = warnings.first() {
            return Err(warning.to_string());
        }
        for table in &mut ruleset.tables {
            table.sets.sort_by(|one, other| one.name.cmp(&other.name));
            table.chains.sort_by(|one, other| one.name.cmp(&other.name));
            table.helpers.sort();
            table.meters.sort_by(|one, other| one.0.cmp(&other.0));
            table.chains.iter_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.origin = None);
        }
        Ok(ruleset)
    };
    let json = read(config::parse_nft_json("ruleset.json", json))?;
    let text = read(config::parse_nft("ruleset.nft", text))?;
    if json == text { Ok(()) } else { Err(format!("nft printed two models:\n{json:?}\n{text:?}")) }
}

pub(crate) fn sysctl_text(setup: &Setup) -> String {
    setup.sysctl.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

impl Library {
    pub(crate) fn new(config: RouterConfig, is_host: bool) -> Result<Self, String> {
        let place = |name: &str| config.interfaces.iter().position(|interface| interface.name == name);
        let mut numbers = [0; 3];
        for (number, (name, ..)) in numbers.iter_mut().zip(INTERFACES) {
            *number = place(name).ok_or("an interface is missing")?;
        }
        let router = Router::new(config, [11, 12, 13, 14]).map_err(|error| error.to_string())?;
        Ok(Self { router, outbox: Outbox::new(256, 1 << 18), buffer: Vec::new(), numbers, is_host })
    }

    /// A packet arrives on an interface, or, without one, this machine sends it. `choice` is what the kernel
    /// may have chosen at random. An error is a panic.
    pub(crate) fn process(
        &mut self,
        now: Instant,
        interface: Option<usize>,
        bytes: &[u8],
        choice: Option<ForcedPort>,
        outcome: Option<Outcome>,
    ) -> Result<Made, String> {
        let ask = || self.process_unguarded(now, interface, bytes, choice, outcome);
        catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panics").to_owned()
        })
    }

    fn process_unguarded(
        &mut self,
        now: Instant,
        interface: Option<usize>,
        bytes: &[u8],
        choice: Option<ForcedPort>,
        outcome: Option<Outcome>,
    ) -> Made {
        self.router.handle_timeout(now, &mut self.outbox);
        force_port(&mut self.router, choice);
        self.router.chance_mut().suggest(outcome);
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(bytes.len() + Packet::ROOM, 0);
        let mut packet = Packet::new(&mut self.buffer, 0..bytes.len()).expect("the packet is in its buffer");
        let verdict = match interface {
            Some(wire) => self.router.process(now, self.numbers[wire], &mut packet, &mut self.outbox),
            None => self.router.output(now, &mut packet, &mut self.outbox),
        };
        let mut sent = Vec::new();
        let wire = |number: usize| self.numbers.iter().position(|known| *known == number).unwrap_or(usize::MAX);
        if let Verdict::Forward { interface, .. } = verdict {
            sent.push(OnWire { interface: wire(interface), bytes: packet.bytes().to_vec() });
        }
        let mut delivered = Vec::new();
        let mut is_local = verdict == Verdict::Local;
        for outgoing in self.outbox.iter() {
            match outgoing.egress {
                Egress::Forward { interface, .. } => {
                    sent.push(OnWire { interface: wire(interface), bytes: outgoing.bytes.to_vec() });
                }
                _ => {
                    is_local = true;
                    delivered.push(outgoing.bytes.to_vec());
                }
            }
        }
        if verdict == Verdict::Local {
            delivered.push(packet.bytes().to_vec());
        }
        if self.is_host {
            sent.extend(delivered.iter().map(|bytes| OnWire { interface: SELF, bytes: own::as_delivered(bytes) }));
        }
        let packet = packet.bytes().to_vec();
        self.outbox.clear();
        let (mut events, mut undecided) = (Vec::new(), false);
        while let Some((_, event)) = self.router.poll_event() {
            undecided |= matches!(event, Event::Undecided { .. });
            events.push(format!("{event:?}"));
        }
        Made { verdict: format!("{verdict:?}"), is_local, sent, packet, events, undecided }
    }

    /// Number of times that the kernel's packets decided, a tick of the clock from a limit's edge.
    pub(crate) fn followed(&mut self) -> u64 {
        self.router.chance_mut().followed()
    }

    /// The tables of connections and expectations.
    pub(crate) fn tables(&mut self, now: Instant) -> [String; 2] {
        self.router.handle_timeout(now, &mut self.outbox);
        self.outbox.clear();
        let (mut connections, mut expectations) = (String::new(), String::new());
        let conntrack = self.router.conntrack();
        conntrack.write_proc(now, &mut connections).expect("a string takes everything");
        conntrack.write_proc_expect(now, &mut expectations).expect("a string takes everything");
        [connections, expectations]
    }
}
