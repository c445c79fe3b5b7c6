//! The target modules and their options.

use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::matches::{dscp_class, set_name, sources, type_of_service};
use super::nat_range::nat_range;
use super::options::{Given, OptionSpec, flag, one, text, two};
use super::values::{self, Network};
use super::words::Word;
use crate::netfilter::{
    ConnmarkAction, Masked, NatRange, PacketEdit, RejectWith, SetUpdate, TableName, Target, is_known_helper,
};
use crate::packet::{Family, Protocol};

/// A target module.
#[derive(Debug)]
pub(super) struct TargetSpec {
    pub(super) name: &'static str,
    /// The only family that has it.
    family: Option<Family>,
    pub(super) options: &'static [OptionSpec],
    /// The only tables that Linux takes the target in, and what to write.
    tables: Option<(&'static [TableName], &'static str)>,
    /// The only built-in chains that Linux takes the target in, and what to write.
    chains: Option<(&'static [&'static str], &'static str)>,
    /// False if a packet that reaches a rule with it is undecided.
    decided: bool,
    /// Reads the target; `None` where an option asks for what this library does not know.
    read: fn(&TargetWords<'_>) -> Result<Option<Target>, Error>,
}

/// A target module that is known.
pub(super) type TargetModule = &'static TargetSpec;

impl TargetSpec {
    const fn new(
        name: &'static str,
        options: &'static [OptionSpec],
        read: fn(&TargetWords<'_>) -> Result<Option<Target>, Error>,
    ) -> Self {
        Self { name, family: None, options, tables: None, chains: None, decided: true, read }
    }

    /// A target that leaves the packet as it was: the next rule is asked.
    const fn going_on(name: &'static str, options: &'static [OptionSpec]) -> Self {
        Self::new(name, options, go_on)
    }

    /// A target that is not decided here.
    const fn undecided(name: &'static str, options: &'static [OptionSpec]) -> Self {
        Self { decided: false, ..Self::new(name, options, do_not_decide) }
    }

    const fn of(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    const fn in_tables(self, tables: &'static [TableName], wanted: &'static str) -> Self {
        Self { tables: Some((tables, wanted)), ..self }
    }

    const fn in_mangle(self) -> Self {
        self.in_tables(&[TableName::Mangle], "use it in the table mangle (-t mangle)")
    }

    const fn in_nat(self, chains: &'static [&'static str], wanted: &'static str) -> Self {
        let of_nat = self.in_tables(&[TableName::Nat], "use it in the table nat (-t nat)");
        Self { chains: Some((chains, wanted)), ..of_nat }
    }
}

const RAW: (&[TableName], &str) = (&[TableName::Raw], "use it in the table raw (-t raw)");
const LABELS: (&[TableName], &str) =
    (&[TableName::Mangle, TableName::Security], "use it in the table security (-t security)");

/// Every target, in the order of the manual page.
static TARGETS: &[TargetSpec] = &[
    TargetSpec::going_on("AUDIT", AUDIT),
    TargetSpec::new("CHECKSUM", CHECKSUM, checksum).in_mangle(),
    TargetSpec::going_on("CLASSIFY", CLASSIFY),
    TargetSpec::undecided("CLUSTERIP", CLUSTERIP).of(Family::V4),
    TargetSpec::new("CONNMARK", CONNMARK, connmark),
    TargetSpec::going_on("CONNSECMARK", CONNSECMARK).in_tables(LABELS.0, LABELS.1),
    TargetSpec::new("CT", CT, ct).in_tables(RAW.0, RAW.1),
    TargetSpec::new("DNAT", DNAT, dnat).in_nat(&["PREROUTING", "OUTPUT"], "use it in PREROUTING or OUTPUT"),
    TargetSpec::undecided("DNPT", NPT).of(Family::V6),
    TargetSpec::new("DSCP", DSCP, dscp).in_mangle(),
    TargetSpec::new("ECN", ECN, ecn).of(Family::V4).in_mangle(),
    TargetSpec::new("HL", HL, hop_limit).of(Family::V6).in_mangle(),
    TargetSpec::undecided("HMARK", HMARK),
    TargetSpec::going_on("IDLETIMER", IDLETIMER),
    TargetSpec::going_on("LED", LED),
    TargetSpec::new("LOG", LOG, log),
    TargetSpec::new("MARK", MARK, mark),
    TargetSpec::new("MASQUERADE", MASQUERADE, masquerade).in_nat(&["POSTROUTING"], "use it in POSTROUTING"),
    TargetSpec::new("NETMAP", NETMAP, netmap)
        .in_nat(&["PREROUTING", "POSTROUTING", "OUTPUT", "INPUT"], "use it in a chain of the table nat"),
    TargetSpec::going_on("NFLOG", NFLOG),
    TargetSpec::undecided("NFQUEUE", NFQUEUE),
    TargetSpec::new("NOTRACK", &[], no_track).in_tables(RAW.0, RAW.1),
    TargetSpec::going_on("RATEEST", RATEEST),
    TargetSpec::new("REDIRECT", REDIRECT, redirect).in_nat(&["PREROUTING", "OUTPUT"], "use it in PREROUTING or OUTPUT"),
    TargetSpec::new("REJECT", REJECT, rejected).in_tables(&[TableName::Filter], "use it in the table filter"),
    TargetSpec::going_on("SECMARK", SECMARK).in_tables(LABELS.0, LABELS.1),
    TargetSpec::new("SET", SET, update_sets),
    TargetSpec::new("SNAT", SNAT, snat).in_nat(&["POSTROUTING", "INPUT"], "use it in POSTROUTING or INPUT"),
    TargetSpec::undecided("SNPT", NPT).of(Family::V6),
    TargetSpec::undecided("SYNPROXY", SYNPROXY),
    TargetSpec::new("TCPMSS", TCPMSS, tcp_mss),
    TargetSpec::new("TCPOPTSTRIP", TCPOPTSTRIP, strip_options).in_mangle(),
    TargetSpec::undecided("TEE", TEE),
    TargetSpec::new("TOS", TOS, tos).in_mangle(),
    TargetSpec::undecided("TPROXY", TPROXY),
    TargetSpec::going_on("TRACE", &[]).in_tables(RAW.0, RAW.1),
    TargetSpec::new("TTL", TTL, hop_limit).of(Family::V4).in_mangle(),
    TargetSpec::going_on("ULOG", ULOG).of(Family::V4),
    TargetSpec::going_on("NFACCT", NFACCT),
];

/// Returns the module that `-j` names.
pub(super) fn by_name(name: &str, family: Family) -> Option<TargetModule> {
    TARGETS.iter().find(|target| target.name == name && target.family.is_none_or(|of| of == family))
}

/// The targets that are undecided, or have options that are: names and options.
pub(super) fn undecided() -> Vec<(&'static str, Vec<&'static str>)> {
    let options = |target: TargetModule| target.options.iter().filter(|option| !option.decided);
    let found = TARGETS.iter().filter(|target| !target.decided || options(target).next().is_some());
    let of = |target: TargetModule| if target.decided { options(target).map(|o| o.name).collect() } else { Vec::new() };
    found.map(|target| (target.name, of(target))).collect()
}

/// Returns true if a name is written as target modules are, in capitals: a kernel may have such a module, whatever it
/// does. A name with small letters is a chain that nobody made.
pub(super) fn looks_like_target(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

static AUDIT: &[OptionSpec] = &[one("--type")];
static CHECKSUM: &[OptionSpec] = &[flag("--checksum-fill")];
static CLASSIFY: &[OptionSpec] = &[one("--set-class")];
static CLUSTERIP: &[OptionSpec] = &[
    flag("--new"),
    one("--hashmode"),
    one("--clustermac"),
    one("--total-nodes"),
    one("--local-node"),
    one("--hash-init"),
];
static CONNSECMARK: &[OptionSpec] = &[flag("--save"), flag("--restore")];
static NPT: &[OptionSpec] = &[one("--src-pfx"), one("--dst-pfx")];
static DSCP: &[OptionSpec] = &[one("--set-dscp"), one("--set-dscp-class")];
static ECN: &[OptionSpec] = &[flag("--ecn-tcp-remove")];
static HL: &[OptionSpec] = &[one("--hl-set"), one("--hl-dec"), one("--hl-inc")];
static TTL: &[OptionSpec] = &[one("--ttl-set"), one("--ttl-dec"), one("--ttl-inc")];
static HMARK: &[OptionSpec] = &[
    one("--hmark-tuple"),
    one("--hmark-mod"),
    one("--hmark-offset"),
    one("--hmark-src-prefix"),
    one("--hmark-dst-prefix"),
    one("--hmark-sport-mask"),
    one("--hmark-dport-mask"),
    one("--hmark-spi-mask"),
    one("--hmark-proto-mask"),
    one("--hmark-rnd"),
];
static IDLETIMER: &[OptionSpec] = &[one("--timeout"), one("--label"), flag("--alarm")];
static LED: &[OptionSpec] = &[one("--led-trigger-id"), one("--led-delay"), flag("--led-always-blink")];
static NETMAP: &[OptionSpec] = &[one("--to")];
static NFLOG: &[OptionSpec] = &[
    one("--nflog-group"),
    text("--nflog-prefix"),
    one("--nflog-range"),
    one("--nflog-size"),
    one("--nflog-threshold"),
];
static NFQUEUE: &[OptionSpec] =
    &[one("--queue-num"), one("--queue-balance"), flag("--queue-bypass"), flag("--queue-cpu-fanout")];
static RATEEST: &[OptionSpec] = &[one("--rateest-name"), one("--rateest-interval"), one("--rateest-ewmalog")];
static SECMARK: &[OptionSpec] = &[one("--selctx")];
static SET: &[OptionSpec] = &[
    two("--add-set"),
    two("--del-set"),
    two("--map-set").undecided(),
    one("--timeout"),
    flag("--exist"),
    flag("--map-mark").undecided(),
    flag("--map-prio").undecided(),
    flag("--map-queue").undecided(),
];
static SYNPROXY: &[OptionSpec] =
    &[one("--mss"), one("--wscale"), flag("--sack-perm"), flag("--timestamp"), flag("--ecn")];
static TCPOPTSTRIP: &[OptionSpec] = &[one("--strip-options")];
static TEE: &[OptionSpec] = &[one("--gateway"), one("--oif")];
static TOS: &[OptionSpec] = &[one("--set-tos"), one("--and-tos"), one("--or-tos"), one("--xor-tos")];
static TPROXY: &[OptionSpec] = &[one("--on-port"), one("--on-ip"), one("--tproxy-mark")];
static ULOG: &[OptionSpec] =
    &[one("--ulog-nlgroup"), text("--ulog-prefix"), one("--ulog-cprange"), one("--ulog-qthreshold")];
static NFACCT: &[OptionSpec] = &[one("--nfacct-name")];
static REJECT: &[OptionSpec] = &[one("--reject-with")];
static MARK: &[OptionSpec] =
    &[one("--set-mark"), one("--set-xmark"), one("--and-mark"), one("--or-mark"), one("--xor-mark")];
static CONNMARK: &[OptionSpec] = &[
    one("--set-mark"),
    one("--set-xmark"),
    one("--and-mark"),
    one("--or-mark"),
    one("--xor-mark"),
    flag("--save-mark"),
    flag("--restore-mark"),
    one("--mask"),
    one("--nfmask"),
    one("--ctmask"),
    one("--left-shift-mark").undecided(),
    one("--right-shift-mark").undecided(),
];
static CT: &[OptionSpec] = &[
    flag("--notrack"),
    one("--helper"),
    one("--zone"),
    one("--zone-orig").undecided(),
    one("--zone-reply").undecided(),
    one("--timeout").undecided(),
    one("--ctevents"),
    one("--expevents"),
];
static MASQUERADE: &[OptionSpec] = &[one("--to-ports"), flag("--random"), flag("--random-fully")];
static SNAT: &[OptionSpec] = &[one("--to-source"), flag("--random"), flag("--random-fully"), flag("--persistent")];
static DNAT: &[OptionSpec] = &[one("--to-destination"), flag("--random"), flag("--persistent")];
static REDIRECT: &[OptionSpec] = &[one("--to-ports"), flag("--random")];
static TCPMSS: &[OptionSpec] = &[one("--set-mss"), flag("--clamp-mss-to-pmtu")];
static LOG: &[OptionSpec] = &[
    one("--log-level"),
    text("--log-prefix"),
    flag("--log-tcp-sequence"),
    flag("--log-tcp-options"),
    flag("--log-ip-options"),
    flag("--log-uid"),
    flag("--log-macdecode"),
];

/// The words from which a target is read: its name, the options given to it, and the rule around it.
pub(super) struct TargetWords<'a> {
    pub(super) name: &'a Word,
    pub(super) given: &'a [Given<'a>],
    pub(super) table: TableName,
    /// The rule's chain, where a hook calls it.
    pub(super) built_in: Option<&'a str>,
    pub(super) family: Family,
    /// The rule's protocol; none where it is negated.
    pub(super) protocol: Option<Protocol>,
}

impl<'a> TargetWords<'a> {
    fn option(&self, name: &str) -> Option<&'a Given<'a>> {
        self.given.iter().find(|given| given.name == name)
    }

    fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    fn missing(&self, wanted: &'static str) -> Error {
        Error::at(self.name, ErrorKind::MissingValue, wanted)
    }

    /// The one option of those that say what to do.
    fn only(&self, names: &[&str], wanted: &'static str) -> Result<&'a Given<'a>, Error> {
        let mut found = self.given.iter().filter(|given| names.contains(&given.name));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (_, Some(second)) => Err(Error::at(second.word, ErrorKind::Repeated, wanted)),
            (None, None) => Err(self.missing(wanted)),
        }
    }
}

impl TargetSpec {
    /// Reads the target; `None` where an option asks for what this library does not know.
    pub(super) fn target(&self, words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
        check(self, words)?;
        (self.read)(words)
    }
}

/// Options that a target must be given.
const REQUIRED: &[(&str, &str)] = &[
    ("AUDIT", "--type"),
    ("CLASSIFY", "--set-class"),
    ("IDLETIMER", "--timeout"),
    ("IDLETIMER", "--label"),
    ("LED", "--led-trigger-id"),
    ("SECMARK", "--selctx"),
    ("TEE", "--gateway"),
];

/// Checks the values that iptables checks of a target that changes nothing here.
fn check_values(words: &TargetWords<'_>) -> Result<(), Error> {
    let name = words.name.text.as_str();
    let mut lacking = REQUIRED.iter().filter(|(target, option)| *target == name && !words.has(option));
    if let Some((_, option)) = lacking.next() {
        return Err(Error::at(words.name, ErrorKind::MissingValue, std::format!("write {option}")));
    }
    for given in words.given {
        let value = given.value();
        let text = value.text.as_str();
        let number = |most: u32| values::number(text).is_some_and(|number| number <= most);
        let hexadecimal = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).is_ok();
        let fits = match given.name {
            "--type" => matches!(text, "accept" | "drop" | "reject"),
            "--set-class" => text.split_once(':').is_some_and(|(a, b)| hexadecimal(a) && hexadecimal(b)),
            "--timeout" => number(u32::MAX),
            "--nflog-group" | "--nflog-threshold" | "--queue-num" => number(65_535),
            "--nflog-range" | "--nflog-size" => number(u32::MAX),
            "--gateway" => values::address(text, words.family).is_some(),
            _ => true,
        };
        if !fits {
            return Err(Error::bad_value(value, "write a value that iptables takes"));
        }
    }
    Ok(())
}

/// The packet goes on to the next rule.
fn go_on(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    check_values(words)?;
    Ok(Some(Target::Continue))
}

/// Nobody here knows what becomes of the packet.
fn do_not_decide(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    check_values(words)?;
    Ok(None)
}

fn check(module: &TargetSpec, words: &TargetWords<'_>) -> Result<(), Error> {
    if let Some((tables, wanted)) = module.tables
        && !tables.contains(&words.table)
    {
        return Err(Error::at(words.name, ErrorKind::Misplaced, wanted));
    }
    if let (Some((chains, wanted)), Some(chain)) = (module.chains, words.built_in)
        && !chains.contains(&chain)
    {
        return Err(Error::at(words.name, ErrorKind::Misplaced, wanted));
    }
    for given in words.given {
        if given.negated {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "no target's option can be negated"));
        }
    }
    Ok(())
}

const REJECT_V4: &[(&str, u8)] = &[
    ("icmp-net-unreachable", 0),
    ("net-unreach", 0),
    ("icmp-host-unreachable", 1),
    ("host-unreach", 1),
    ("icmp-proto-unreachable", 2),
    ("proto-unreach", 2),
    ("icmp-port-unreachable", 3),
    ("port-unreach", 3),
    ("icmp-net-prohibited", 9),
    ("net-prohib", 9),
    ("icmp-host-prohibited", 10),
    ("host-prohib", 10),
    ("icmp-admin-prohibited", 13),
    ("admin-prohib", 13),
];

const REJECT_V6: &[(&str, u8)] = &[
    ("icmp6-no-route", 0),
    ("no-route", 0),
    ("icmp6-adm-prohibited", 1),
    ("adm-prohibited", 1),
    ("icmp6-addr-unreachable", 3),
    ("addr-unreach", 3),
    ("icmp6-port-unreachable", 4),
    ("port-unreach", 4),
    ("icmp6-policy-fail", 5),
    ("policy-fail", 5),
    ("icmp6-reject-route", 6),
    ("reject-route", 6),
];

fn rejected(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    reject(words).map(Target::Reject).map(Some)
}

fn reject(words: &TargetWords<'_>) -> Result<RejectWith, Error> {
    let (names, default, wanted) = match words.family {
        Family::V4 => (REJECT_V4, 3, "write tcp-reset or a name such as icmp-port-unreachable"),
        Family::V6 => (REJECT_V6, 4, "write tcp-reset or a name such as icmp6-port-unreachable"),
    };
    let Some(given) = words.option("--reject-with") else { return Ok(RejectWith::Unreachable(default)) };
    let value = given.value();
    if matches!(value.text.as_str(), "tcp-reset" | "tcp-rst") {
        return match words.protocol {
            Some(Protocol::TCP) => Ok(RejectWith::TcpReset),
            _ => Err(Error::at(value, ErrorKind::Misplaced, "it needs -p tcp")),
        };
    }
    match names.iter().find(|(name, _)| *name == value.text) {
        Some((_, code)) => Ok(RejectWith::Unreachable(*code)),
        None => Err(Error::bad_value(value, wanted)),
    }
}

const SET_MARK: &[&str] = &["--set-mark", "--set-xmark", "--and-mark", "--or-mark", "--xor-mark"];
const WANTED_MARK: &str = "write one of --set-mark, --set-xmark, --and-mark, --or-mark, --xor-mark";

fn mark(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    Ok(Some(Target::Mark(set_mark(words.only(SET_MARK, WANTED_MARK)?)?)))
}

/// Every way to set a mark, as the kernel has it: clear the bits of the mask, then toggle those of the value.
fn set_mark(given: &Given<'_>) -> Result<Masked, Error> {
    let value = given.value();
    Ok(match given.name {
        "--and-mark" => Masked { value: 0, mask: !values::bits(value)? },
        "--or-mark" => values::bits(value).map(|bits| Masked { value: bits, mask: bits })?,
        "--xor-mark" => Masked { value: values::bits(value)?, mask: 0 },
        "--set-mark" => values::masked(value).map(|m| Masked { value: m.value, mask: m.mask | m.value })?,
        _ => values::masked(value)?,
    })
}

/// The names of syslog(3) for the levels 0 to 7, in the spellings that iptables takes.
const LOG_LEVELS: &[&str] = &[
    "emerg", "panic", "alert", "crit", "error", "warning", "notice", "info", "debug", "0", "1", "2", "3", "4", "5",
    "6", "7",
];

fn log(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    if let Some(given) = words.option("--log-level").filter(|given| !LOG_LEVELS.contains(&given.value().text.as_str()))
    {
        return Err(Error::bad_value(given.value(), "write a level from 0 to 7 or its name, such as warning"));
    }
    let prefix = words.option("--log-prefix").map(|given| given.value().text.clone()).unwrap_or_default();
    Ok(Some(Target::Log { prefix }))
}

fn connmark(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    if let Some(shift) = words.given.iter().find(|given| given.name.ends_with("-shift-mark")) {
        values::bits(shift.value())?;
        return Ok(None);
    }
    let ways = [SET_MARK, &["--save-mark", "--restore-mark"]].concat();
    let way = words.only(&ways, "write one of --set-mark, --set-xmark, --save-mark, --restore-mark")?;
    let (nfmask, ctmask) = connmark_masks(words, way)?;
    Ok(Some(Target::Connmark(match way.name {
        "--save-mark" => ConnmarkAction::Save { nfmask, ctmask },
        "--restore-mark" => ConnmarkAction::Restore { nfmask, ctmask },
        _ => ConnmarkAction::Set(set_mark(way)?),
    })))
}

/// `--nfmask` and `--ctmask`, or `--mask` for both; only what copies a mark takes them.
fn connmark_masks(words: &TargetWords<'_>, way: &Given<'_>) -> Result<(u32, u32), Error> {
    let mask = |name| words.option(name).map(|given| values::bits(given.value())).transpose();
    let (both, nfmask, ctmask) = (mask("--mask")?, mask("--nfmask")?, mask("--ctmask")?);
    let copies = matches!(way.name, "--save-mark" | "--restore-mark");
    if !copies && (both.is_some() || nfmask.is_some() || ctmask.is_some()) {
        return Err(Error::at(way.word, ErrorKind::Misplaced, "write its mask behind a slash: VALUE/MASK"));
    }
    let both = both.unwrap_or(u32::MAX);
    Ok((nfmask.unwrap_or(both), ctmask.unwrap_or(both)))
}

fn ct(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    if words.has("--notrack") {
        return Ok(Some(Target::NoTrack));
    }
    // Events change nothing about a packet; zones of one direction and timeout policies do.
    if words.has("--zone-orig") || words.has("--zone-reply") || words.has("--timeout") {
        return Ok(None);
    }
    let helper = match words.option("--helper") {
        // The kernel loads a helper by protocol, and iptables refuses the rule without one.
        Some(given) if words.protocol.is_none() => {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs a protocol, such as -p tcp"));
        }
        given => given.map(|given| given.value().text.clone()),
    };
    if helper.as_ref().is_some_and(|helper| !is_known_helper(helper)) {
        return Ok(None);
    }
    let zone = match words.option("--zone") {
        Some(given) if given.value().is("mark") => return Ok(None),
        Some(given) => Some(zone(given.value())?),
        None => None,
    };
    Ok(Some(Target::Ct { helper, zone }))
}

fn zone(word: &Word) -> Result<u16, Error> {
    let zone = values::number(&word.text).and_then(|zone| u16::try_from(zone).ok());
    zone.ok_or_else(|| Error::bad_value(word, "write a zone from 0 to 65535"))
}

fn no_track(_: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    Ok(Some(Target::NoTrack))
}

fn masquerade(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    to_ports(words).map(Target::Masquerade).map(Some)
}

fn redirect(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    to_ports(words).map(Target::Redirect).map(Some)
}

fn snat(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    to_addresses(words, "--to-source", "write --to-source ADDRESS").map(Target::Snat).map(Some)
}

fn dnat(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    to_addresses(words, "--to-destination", "write --to-destination ADDRESS").map(Target::Dnat).map(Some)
}

fn netmap(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let given = words.option("--to").ok_or_else(|| words.missing("write --to NETWORK"))?;
    let value = given.value();
    match values::networks(value, words.family)?.as_slice() {
        [Network::Prefix(network)] => Ok(Some(Target::Netmap((*network).into()))),
        [Network::Scattered(network)] => Ok(Some(Target::Netmap(*network))),
        _ => Err(Error::bad_value(value, "write one network")),
    }
}

fn checksum(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    // A checksum left to a device is filled in by the time that a capture shows the packet.
    if words.has("--checksum-fill") { Ok(Some(Target::Continue)) } else { Err(words.missing("write --checksum-fill")) }
}

fn dscp(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let given = words.only(&["--set-dscp", "--set-dscp-class"], "write --set-dscp or --set-dscp-class")?;
    let class = match given.name {
        "--set-dscp" => number_up_to(given.value(), 63)?,
        _ => dscp_class(given.value())?,
    };
    Ok(Some(Target::Edit(PacketEdit::TrafficClass { value: class << 2, mask: 0xfc })))
}

fn tos(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let names = ["--set-tos", "--and-tos", "--or-tos", "--xor-tos"];
    let given = words.only(&names, "write one of --set-tos, --and-tos, --or-tos, --xor-tos")?;
    let (value, mask) = match given.name {
        "--set-tos" => type_of_service(given.value(), 0xff)?,
        "--and-tos" => (0, !number_up_to(given.value(), 255)?),
        "--or-tos" => {
            let bits = number_up_to(given.value(), 255)?;
            (bits, bits)
        }
        _ => (number_up_to(given.value(), 255)?, 0),
    };
    Ok(Some(Target::Edit(PacketEdit::TrafficClass { value, mask })))
}

fn ecn(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    if !words.has("--ecn-tcp-remove") {
        return Err(words.missing("write --ecn-tcp-remove"));
    }
    if words.protocol != Some(Protocol::TCP) {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "it needs -p tcp"));
    }
    Ok(Some(Target::Edit(PacketEdit::RemoveEcn)))
}

fn hop_limit(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let names = ["--ttl-set", "--ttl-dec", "--ttl-inc", "--hl-set", "--hl-dec", "--hl-inc"];
    let given = words.only(&names, "write one of set, dec and inc")?;
    let by = number_up_to(given.value(), 255)?;
    let change = match given.name.rsplit('-').next() {
        Some("set") => return Ok(Some(Target::Edit(PacketEdit::SetHopLimit(by)))),
        Some("dec") => PacketEdit::LowerHopLimit(by),
        _ => PacketEdit::RaiseHopLimit(by),
    };
    if by == 0 {
        return Err(Error::bad_value(given.value(), "write a number from 1 to 255"));
    }
    Ok(Some(Target::Edit(change)))
}

fn number_up_to(word: &Word, most: u8) -> Result<u8, Error> {
    let number = values::number(&word.text).and_then(|number| u8::try_from(number).ok());
    let wanted = || std::format!("write a number from 0 to {most}");
    number.filter(|number| *number <= most).ok_or_else(|| Error::bad_value(word, wanted()))
}

/// The names of TCP options.
const TCP_OPTIONS: &[(&str, u8)] =
    &[("wscale", 3), ("mss", 2), ("sack-permitted", 4), ("sack", 5), ("timestamp", 8), ("md5", 19)];

fn strip_options(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    if words.protocol != Some(Protocol::TCP) {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "it needs -p tcp"));
    }
    let mut kinds = [0u64; 4];
    if let Some(given) = words.option("--strip-options") {
        for name in given.value().text.split(',') {
            let known = TCP_OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
            let kind = known.or_else(|| values::number(name).and_then(|kind| u8::try_from(kind).ok()));
            let kind = kind.filter(|kind| *kind > 1);
            let kind = kind.ok_or_else(|| Error::bad_value(given.value(), "list options such as mss,sack or 2,5"))?;
            kinds[usize::from(kind >> 6)] |= 1 << (kind & 63);
        }
    }
    Ok(Some(Target::Edit(PacketEdit::StripOptions(kinds))))
}

fn update_sets(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let timeout = words.option("--timeout").map(|given| {
        let seconds = values::number(&given.value().text);
        seconds.ok_or_else(|| Error::bad_value(given.value(), "write a number of seconds"))
    });
    let timeout = timeout.transpose()?;
    let mut updates = Vec::new();
    let mut is_decided = true;
    for given in words.given.iter().filter(|given| given.name.ends_with("-set")) {
        set_name(given.value())?;
        let sources = sources(given.second())?;
        is_decided &= given.option.decided;
        let adds = given.name == "--add-set";
        let set = given.value().text.clone();
        updates.push(SetUpdate { set, sources, adds, timeout: timeout.filter(|_| adds), exist: words.has("--exist") });
    }
    if updates.is_empty() {
        return Err(words.missing("write --add-set, --del-set or --map-set"));
    }
    for name in ["--timeout", "--exist"] {
        if let Some(given) = words.option(name).filter(|_| !words.has("--add-set")) {
            return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs --add-set"));
        }
    }
    Ok(is_decided.then_some(Target::UpdateSets(updates)))
}

fn to_ports(words: &TargetWords<'_>) -> Result<NatRange, Error> {
    let ports = match words.option("--to-ports") {
        None => None,
        Some(given) => {
            let value = given.value();
            let ports = values::nat_ports(&value.text);
            Some(ports.ok_or_else(|| Error::bad_value(value, "write a port or a range such as 40000-40010"))?)
        }
    };
    with_flags(words, NatRange { ports, ..NatRange::default() })
}

fn to_addresses(words: &TargetWords<'_>, option: &str, wanted: &'static str) -> Result<NatRange, Error> {
    let given = words.option(option).ok_or_else(|| words.missing(wanted))?;
    with_flags(words, nat_range(given.value(), words.family)?)
}

/// Adds what NAT's flags say. Linux refuses ports without a protocol that has them.
fn with_flags(words: &TargetWords<'_>, range: NatRange) -> Result<NatRange, Error> {
    let dccp = Protocol(33);
    let with_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, dccp];
    if range.ports.is_some() && !words.protocol.is_some_and(|protocol| with_ports.contains(&protocol)) {
        return Err(Error::at(words.name, ErrorKind::Misplaced, "ports need -p tcp or -p udp"));
    }
    let random = words.has("--random") || words.has("--random-fully");
    Ok(NatRange { random, persistent: words.has("--persistent"), ..range })
}

fn tcp_mss(words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
    let wanted = "write --set-mss NUMBER or --clamp-mss-to-pmtu";
    let given = words.only(&["--set-mss", "--clamp-mss-to-pmtu"], wanted)?;
    if given.name == "--clamp-mss-to-pmtu" {
        return Ok(Some(Target::TcpMss(None)));
    }
    let mss = values::decimal(&given.value().text);
    mss.map(|mss| Some(Target::TcpMss(Some(mss))))
        .ok_or_else(|| Error::bad_value(given.value(), "write a size from 0 to 65535"))
}
