//! The target modules and their options.

use super::error::{Error, ErrorKind};
use super::nat_range::nat_range;
use super::options::{Given, OptionSpec, flag, one, text};
use super::values;
use super::words::Word;
use crate::netfilter::{ConnmarkAction, Masked, NatRange, RejectWith, TableName, Target};
use crate::packet::{Family, Protocol};

/// A target module that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetModule {
    Reject,
    Mark,
    Connmark,
    Ct,
    NoTrack,
    Masquerade,
    Snat,
    Dnat,
    Redirect,
    TcpMss,
    Log,
}

/// Target modules that send, count or label elsewhere: the packet goes on to the next rule as it was.
const GOES_ON: &[&str] =
    &["AUDIT", "CLASSIFY", "CONNSECMARK", "IDLETIMER", "LED", "NFACCT", "NFLOG", "RATEEST", "SECMARK", "TRACE", "ULOG"];

/// Returns true if the target leaves the packet as it was and the next rule is asked.
pub(super) fn goes_on(name: &str) -> bool {
    GOES_ON.contains(&name)
}

/// Returns true if a name is written as target modules are, in capitals: a kernel may have such a module, whatever it
/// does. A name with small letters is a chain that nobody made.
pub(super) fn looks_like_target(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

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
    one("--left-shift-mark"),
    one("--right-shift-mark"),
];
static CT: &[OptionSpec] = &[
    flag("--notrack"),
    one("--helper"),
    one("--zone"),
    one("--zone-orig"),
    one("--zone-reply"),
    one("--timeout"),
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

impl TargetModule {
    /// The module that `-j` names.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "REJECT" => Self::Reject,
            "MARK" => Self::Mark,
            "CONNMARK" => Self::Connmark,
            "CT" => Self::Ct,
            "NOTRACK" => Self::NoTrack,
            "MASQUERADE" => Self::Masquerade,
            "SNAT" => Self::Snat,
            "DNAT" => Self::Dnat,
            "REDIRECT" => Self::Redirect,
            "TCPMSS" => Self::TcpMss,
            "LOG" => Self::Log,
            _ => return None,
        })
    }

    pub(super) const fn options(self) -> &'static [OptionSpec] {
        match self {
            Self::Reject => REJECT,
            Self::Mark => MARK,
            Self::Connmark => CONNMARK,
            Self::Ct => CT,
            Self::NoTrack => &[],
            Self::Masquerade => MASQUERADE,
            Self::Snat => SNAT,
            Self::Dnat => DNAT,
            Self::Redirect => REDIRECT,
            Self::TcpMss => TCPMSS,
            Self::Log => LOG,
        }
    }

    /// The only table that Linux takes the target in.
    const fn table(self) -> Option<(TableName, &'static str)> {
        match self {
            Self::Reject => Some((TableName::Filter, "use it in the table filter")),
            Self::Ct | Self::NoTrack => Some((TableName::Raw, "use it in the table raw (-t raw)")),
            Self::Masquerade | Self::Snat | Self::Dnat | Self::Redirect => {
                Some((TableName::Nat, "use it in the table nat (-t nat)"))
            }
            _ => None,
        }
    }

    /// The only built-in chains that Linux takes the target in.
    const fn chains(self) -> Option<(&'static [&'static str], &'static str)> {
        match self {
            Self::Masquerade => Some((&["POSTROUTING"], "use it in POSTROUTING")),
            Self::Snat => Some((&["POSTROUTING", "INPUT"], "use it in POSTROUTING or INPUT")),
            Self::Dnat | Self::Redirect => Some((&["PREROUTING", "OUTPUT"], "use it in PREROUTING or OUTPUT")),
            _ => None,
        }
    }

    /// The target; `None` where an option asks for what this library does not know.
    pub(super) fn read(self, words: &TargetWords<'_>) -> Result<Option<Target>, Error> {
        check(self, words)?;
        match self {
            Self::Reject => reject(words).map(Target::Reject).map(Some),
            Self::Mark => Ok(Some(Target::Mark(set_mark(words.only(SET_MARK, WANTED_MARK)?)?))),
            Self::Connmark => connmark(words),
            Self::Ct => ct(words),
            Self::NoTrack => Ok(Some(Target::NoTrack)),
            Self::Masquerade => to_ports(words).map(Target::Masquerade).map(Some),
            Self::Redirect => to_ports(words).map(Target::Redirect).map(Some),
            Self::Snat => to_addresses(words, "--to-source", "write --to-source ADDRESS").map(Target::Snat).map(Some),
            Self::Dnat => {
                to_addresses(words, "--to-destination", "write --to-destination ADDRESS").map(Target::Dnat).map(Some)
            }
            Self::TcpMss => tcp_mss(words).map(Target::TcpMss).map(Some),
            Self::Log => log(words).map(Some),
        }
    }
}

fn check(module: TargetModule, words: &TargetWords<'_>) -> Result<(), Error> {
    if let Some((table, wanted)) = module.table()
        && table != words.table
    {
        return Err(Error::at(words.name, ErrorKind::Misplaced, wanted));
    }
    if let (Some((chains, wanted)), Some(chain)) = (module.chains(), words.built_in)
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

fn log(words: &TargetWords<'_>) -> Result<Target, Error> {
    if let Some(given) = words.option("--log-level").filter(|given| !LOG_LEVELS.contains(&given.value().text.as_str()))
    {
        return Err(Error::bad_value(given.value(), "write a level from 0 to 7 or its name, such as warning"));
    }
    let prefix = words.option("--log-prefix").map(|given| given.value().text.clone()).unwrap_or_default();
    Ok(Target::Log { prefix })
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

fn tcp_mss(words: &TargetWords<'_>) -> Result<Option<u16>, Error> {
    let wanted = "write --set-mss NUMBER or --clamp-mss-to-pmtu";
    let given = words.only(&["--set-mss", "--clamp-mss-to-pmtu"], wanted)?;
    if given.name == "--clamp-mss-to-pmtu" {
        return Ok(None);
    }
    let mss = values::decimal(&given.value().text);
    mss.map(Some).ok_or_else(|| Error::bad_value(given.value(), "write a size from 0 to 65535"))
}
