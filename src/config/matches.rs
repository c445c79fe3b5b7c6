//! The match modules and their options.

use core::net::IpAddr;
use std::vec;
use std::vec::Vec;

use super::error::Error;
use super::icmp_names::icmp_type;
use super::options::{Given, OptionSpec, flag, one, text, two};
use super::values;
use super::words::Word;
use crate::netfilter::{AddressTypes, Match, StateSet};
use crate::packet::{Family, Protocol};

/// A match module that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    /// Options of the other protocols that `-p` brings: known by name only.
    OtherProtocol,
    Multiport,
    State,
    Conntrack,
    Mark,
    Connmark,
    Helper,
    Comment,
    AddressType,
    AddressRange,
    Limit,
}

/// The meaning of an option.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Test(Match),
    /// It tests nothing.
    Nothing,
    /// It tests something that this library does not.
    Unknown,
}

static TCP: &[OptionSpec] = &[
    one("--sport"),
    one("--source-port"),
    one("--dport"),
    one("--destination-port"),
    two("--tcp-flags"),
    flag("--syn"),
    one("--tcp-option"),
];
static UDP: &[OptionSpec] = &[one("--sport"), one("--source-port"), one("--dport"), one("--destination-port")];
static SCTP: &[OptionSpec] =
    &[one("--sport"), one("--source-port"), one("--dport"), one("--destination-port"), two("--chunk-types")];
static ICMP: &[OptionSpec] = &[one("--icmp-type")];
static ICMPV6: &[OptionSpec] = &[one("--icmpv6-type")];
static OTHER_PROTOCOL: &[OptionSpec] = &[
    one("--sport"),
    one("--source-port"),
    one("--dport"),
    one("--destination-port"),
    two("--chunk-types"),
    one("--dccp-types"),
    one("--dccp-option"),
    one("--espspi"),
    one("--ahspi"),
    one("--mh-type"),
];
static MULTIPORT: &[OptionSpec] =
    &[one("--sports"), one("--source-ports"), one("--dports"), one("--destination-ports"), one("--ports")];
static STATE: &[OptionSpec] = &[one("--state")];
static CONNTRACK: &[OptionSpec] = &[
    one("--ctstate"),
    one("--ctproto"),
    one("--ctorigsrc"),
    one("--ctorigdst"),
    one("--ctreplsrc"),
    one("--ctrepldst"),
    one("--ctorigsrcport"),
    one("--ctorigdstport"),
    one("--ctreplsrcport"),
    one("--ctrepldstport"),
    one("--ctstatus"),
    one("--ctexpire"),
    one("--ctdir"),
];
static MARK: &[OptionSpec] = &[one("--mark")];
static HELPER: &[OptionSpec] = &[one("--helper")];
static COMMENT: &[OptionSpec] = &[text("--comment")];
static ADDRESS_TYPE: &[OptionSpec] =
    &[one("--src-type"), one("--dst-type"), flag("--limit-iface-in"), flag("--limit-iface-out")];
static ADDRESS_RANGE: &[OptionSpec] = &[one("--src-range"), one("--dst-range")];
static LIMIT: &[OptionSpec] = &[one("--limit"), one("--limit-burst")];

impl Module {
    /// The module that `-m` names.
    pub(super) fn by_name(name: &str, family: Family) -> Option<Self> {
        Some(match name {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "icmp" if family == Family::V4 => Self::Icmp,
            "icmp6" | "icmpv6" | "ipv6-icmp" if family == Family::V6 => Self::Icmpv6,
            "multiport" => Self::Multiport,
            "state" => Self::State,
            "conntrack" => Self::Conntrack,
            "mark" => Self::Mark,
            "connmark" => Self::Connmark,
            "helper" => Self::Helper,
            "comment" => Self::Comment,
            "addrtype" => Self::AddressType,
            "iprange" => Self::AddressRange,
            "limit" => Self::Limit,
            _ => return None,
        })
    }

    /// The module that `-p` brings along.
    pub(super) fn of_protocol(protocol: Protocol, family: Family) -> Self {
        match (protocol, family) {
            (Protocol::TCP, _) => Self::Tcp,
            (Protocol::UDP, _) => Self::Udp,
            (Protocol::SCTP, _) => Self::Sctp,
            (Protocol::ICMP, Family::V4) => Self::Icmp,
            (Protocol::ICMPV6, Family::V6) => Self::Icmpv6,
            _ => Self::OtherProtocol,
        }
    }

    /// Returns the module's name for `-m`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmp6",
            Self::OtherProtocol => "",
            Self::Multiport => "multiport",
            Self::State => "state",
            Self::Conntrack => "conntrack",
            Self::Mark => "mark",
            Self::Connmark => "connmark",
            Self::Helper => "helper",
            Self::Comment => "comment",
            Self::AddressType => "addrtype",
            Self::AddressRange => "iprange",
            Self::Limit => "limit",
        }
    }

    pub(super) const fn options(self) -> &'static [OptionSpec] {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Sctp => SCTP,
            Self::Icmp => ICMP,
            Self::Icmpv6 => ICMPV6,
            Self::OtherProtocol => OTHER_PROTOCOL,
            Self::Multiport => MULTIPORT,
            Self::State => STATE,
            Self::Conntrack => CONNTRACK,
            Self::Mark | Self::Connmark => MARK,
            Self::Helper => HELPER,
            Self::Comment => COMMENT,
            Self::AddressType => ADDRESS_TYPE,
            Self::AddressRange => ADDRESS_RANGE,
            Self::Limit => LIMIT,
        }
    }

    /// Returns true if iptables refuses the module when none of its options is given.
    pub(super) const fn needs_option(self) -> bool {
        !matches!(
            self,
            Self::Tcp | Self::Udp | Self::Sctp | Self::Icmp | Self::Icmpv6 | Self::OtherProtocol | Self::Limit
        )
    }

    /// Checks that the module goes with the rule's protocol, or returns the protocols that would.
    pub(super) fn goes_with(self, protocol: Option<Protocol>) -> Result<(), &'static str> {
        let (fits, wanted) = match self {
            Self::Tcp => (protocol == Some(Protocol::TCP), "it needs -p tcp"),
            Self::Udp => (protocol == Some(Protocol::UDP), "it needs -p udp"),
            Self::Sctp => (protocol == Some(Protocol::SCTP), "it needs -p sctp"),
            Self::Icmp => (protocol == Some(Protocol::ICMP), "it needs -p icmp"),
            Self::Icmpv6 => (protocol == Some(Protocol::ICMPV6), "it needs -p ipv6-icmp"),
            Self::Multiport => (protocol.is_some_and(has_ports), "it needs -p tcp or -p udp"),
            _ => (true, ""),
        };
        if fits { Ok(()) } else { Err(wanted) }
    }

    /// Reads one of its options.
    pub(super) fn read(self, given: &Given<'_>, family: Family) -> Result<Outcome, Error> {
        let value = given.value();
        let test = match (self, given.name) {
            (Self::OtherProtocol, _) => return Ok(Outcome::Unknown),
            (_, "--sport" | "--source-port") => Match::SourcePorts(vec![values::port_range(value)?]),
            (_, "--dport" | "--destination-port") => Match::DestinationPorts(vec![values::port_range(value)?]),
            (_, "--sports" | "--source-ports") => Match::SourcePorts(values::port_list(value)?),
            (_, "--dports" | "--destination-ports") => Match::DestinationPorts(values::port_list(value)?),
            (_, "--ports") => Match::Ports(values::port_list(value)?),
            (_, "--tcp-flags") => Match::TcpFlags { mask: tcp_flags(value)?, set: tcp_flags(given.second())? },
            (_, "--syn") => Match::TcpFlags { mask: FIN | SYN | RST | ACK, set: SYN },
            (_, "--icmp-type" | "--icmpv6-type") => icmp(value, family)?,
            (_, "--state") => Match::ConnectionState(states(value, STATES)?),
            (_, "--ctstate") => Match::ConnectionState(states(value, CONNTRACK_STATES)?),
            (Self::Mark, "--mark") => Match::Mark(values::masked(value)?),
            (Self::Connmark, "--mark") => Match::Connmark(values::masked(value)?),
            (_, "--helper") => Match::Helper(value.text.clone()),
            (_, "--src-type") => match address_types(value)? {
                Some(source) => Match::AddressType { source, destination: AddressTypes::default(), limit: None },
                None => return Ok(Outcome::Unknown),
            },
            (_, "--dst-type") => match address_types(value)? {
                Some(destination) => Match::AddressType { source: AddressTypes::default(), destination, limit: None },
                None => return Ok(Outcome::Unknown),
            },
            (_, "--src-range") => address_range(value, family).map(|(first, last)| Match::SourceRange(first, last))?,
            (_, "--dst-range") => {
                address_range(value, family).map(|(first, last)| Match::DestinationRange(first, last))?
            }
            (Self::Comment | Self::Limit, _) => return Ok(Outcome::Nothing),
            _ => return Ok(Outcome::Unknown),
        };
        Ok(Outcome::Test(test))
    }
}

/// Returns true if `-m multiport` takes the protocol.
fn has_ports(protocol: Protocol) -> bool {
    let dccp = Protocol(33);
    [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE, dccp].contains(&protocol)
}

// The flags of RFC 9293 section 3.1, as they lie in the header's fourteenth byte.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

fn tcp_flags(word: &Word) -> Result<u8, Error> {
    let flag = |name: &str| match name.to_ascii_uppercase().as_str() {
        "FIN" => Some(FIN),
        "SYN" => Some(SYN),
        "RST" => Some(RST),
        "PSH" => Some(PSH),
        "ACK" => Some(ACK),
        "URG" => Some(URG),
        "ALL" => Some(FIN | SYN | RST | PSH | ACK | URG),
        "NONE" => Some(0),
        _ => None,
    };
    let flags: Option<Vec<u8>> = word.text.split(',').map(flag).collect();
    let flags = flags.ok_or_else(|| Error::bad_value(word, "list some of SYN,ACK,FIN,RST,URG,PSH, or ALL or NONE"))?;
    Ok(flags.into_iter().fold(0, |all, flag| all | flag))
}

fn icmp(word: &Word, family: Family) -> Result<Match, Error> {
    match icmp_type(&word.text, family) {
        Some((kind, codes)) => Ok(Match::IcmpType { kind, codes }),
        None => Err(Error::bad_value(word, "write a type such as echo-request, 8 or 3/4")),
    }
}

const CONNTRACK_STATES: &[(&str, StateSet)] = &[
    ("INVALID", StateSet::INVALID),
    ("NEW", StateSet::NEW),
    ("ESTABLISHED", StateSet::ESTABLISHED),
    ("RELATED", StateSet::RELATED),
    ("UNTRACKED", StateSet::UNTRACKED),
    ("SNAT", StateSet::SNAT),
    ("DNAT", StateSet::DNAT),
];

/// `-m state` knows no SNAT and DNAT.
const STATES: &[(&str, StateSet)] = CONNTRACK_STATES.split_at(5).0;

fn states(word: &Word, known: &[(&str, StateSet)]) -> Result<StateSet, Error> {
    let state = |text: &str| known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, state)| *state);
    let states: Option<Vec<StateSet>> = word.text.split(',').map(state).collect();
    let states = states.ok_or_else(|| {
        Error::bad_value(word, "list some of NEW,ESTABLISHED,RELATED,INVALID,UNTRACKED (with --ctstate also SNAT,DNAT)")
    })?;
    Ok(states.into_iter().fold(StateSet::default(), StateSet::union))
}

/// The address types; `None` where one is known to iptables only.
fn address_types(word: &Word) -> Result<Option<AddressTypes>, Error> {
    let mut types = AddressTypes::default();
    let mut all_known = true;
    for name in word.text.split(',') {
        types = types.union(match name.to_ascii_uppercase().as_str() {
            "LOCAL" => AddressTypes::LOCAL,
            "UNICAST" => AddressTypes::UNICAST,
            "BROADCAST" => AddressTypes::BROADCAST,
            "MULTICAST" => AddressTypes::MULTICAST,
            "UNSPEC" => AddressTypes::UNSPEC,
            "ANYCAST" | "BLACKHOLE" | "UNREACHABLE" | "PROHIBIT" | "THROW" | "NAT" | "XRESOLVE" => {
                all_known = false;
                AddressTypes::default()
            }
            _ => return Err(Error::bad_value(word, "list some of LOCAL,UNICAST,BROADCAST,MULTICAST,UNSPEC")),
        });
    }
    Ok(all_known.then_some(types))
}

/// `A-B`, or `A` alone.
fn address_range(word: &Word, family: Family) -> Result<(IpAddr, IpAddr), Error> {
    let parse = || {
        let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
        let (first, last) = (values::address(first, family)?, values::address(last, family)?);
        (first <= last).then_some((first, last))
    };
    parse().ok_or_else(|| Error::bad_value(word, "write two addresses of this family, the lower first: FIRST-LAST"))
}
