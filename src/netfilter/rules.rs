//! Rules as data: what `iptables-save` says, in the words of iptables.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::calendar::TimeMatch;
use super::edit::PacketEdit;
use super::ipset::SetUpdate;
use super::memory::Stateful;
use super::number::{Number, NumberMatch};
use super::sctp_chunks::ChunkMatch;
use super::text::TextMatch;
use super::u32_match::U32Test;
use crate::nat::{NatRange, PortRange};
use crate::packet::Protocol;

/// A place in a packet's way through the router where chains are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Hook {
    /// As a packet arrives, before it is routed.
    Prerouting,
    /// For this machine, before it is delivered.
    Input,
    /// To be forwarded.
    Forward,
    /// Made by this machine, before it is routed.
    Output,
    /// As a packet leaves, after it is routed.
    Postrouting,
}

impl Hook {
    /// Every hook, in the order of their numbers in the kernel.
    pub const ALL: [Self; 5] = [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// The built-in chain's name: `PREROUTING` and so on.
    #[must_use]
    pub const fn chain_name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

/// A table: when in a hook its chains are called, and what they may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum TableName {
    /// Before connection tracking: helpers, zones, and what is not to be tracked.
    Raw,
    /// Marks and other changes to the packet.
    Mangle,
    /// Address translation; asked for the first packet of a connection only.
    Nat,
    /// Table filter: accepts or drops packets.
    Filter,
    /// Labels for SELinux, after table filter; its chains can drop too.
    Security,
}

impl TableName {
    /// Every table, in the order a hook calls them.
    pub const ALL: [Self; Self::COUNT] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter, Self::Security];

    /// Number of tables.
    pub(crate) const COUNT: usize = 5;

    /// The name that `iptables -t` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Security => "security",
        }
    }

    /// The hooks this table has built-in chains for.
    #[must_use]
    pub const fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Raw => &[Hook::Prerouting, Hook::Output],
            Self::Mangle => &Hook::ALL,
            Self::Nat => &[Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting],
            Self::Filter | Self::Security => &[Hook::Input, Hook::Forward, Hook::Output],
        }
    }
}

/// The rules of one address family, as loaded: one of each table.
///
/// ```
/// use ftp_conntrack::netfilter::{Hook, Match, PortRange, Rule, Ruleset, TableName, Target, NatRange};
/// use ftp_conntrack::packet::Protocol;
///
/// let mut rules = Ruleset::default();
/// rules.append(TableName::Raw, Hook::Prerouting, Rule::new(Target::helper("ftp"))
///     .when(Match::Protocol(Protocol::TCP))
///     .when(Match::DestinationPorts(vec![PortRange::one(21)])));
/// rules.append(TableName::Nat, Hook::Postrouting, Rule::new(Target::Masquerade(NatRange::default()))
///     .when(Match::OutInterface("eth0".into())));
/// assert_eq!(rules.table(TableName::Raw).chain("PREROUTING").unwrap().rules.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    tables: [Table; TableName::COUNT],
    loaded: [bool; TableName::COUNT],
    /// A built-in chain that was named and that its table has not.
    pub(super) misplaced: Option<(TableName, Hook)>,
}

impl Default for Ruleset {
    /// Four tables with built-in chains that accept everything: what a kernel has before any rule is loaded.
    fn default() -> Self {
        Self { tables: TableName::ALL.map(Table::new), loaded: [false; TableName::COUNT], misplaced: None }
    }
}

impl Ruleset {
    /// The table of that name.
    #[must_use]
    pub fn table(&self, name: TableName) -> &Table {
        &self.tables[name as usize]
    }

    /// Returns true if a table was touched. An empty table nat makes a difference in Linux: without it, connections are not
    /// moved out of each other's way.
    #[must_use]
    pub const fn is_loaded(&self, name: TableName) -> bool {
        self.loaded[name as usize]
    }

    /// The table of that name, to be changed; it counts as loaded then.
    pub fn table_mut(&mut self, name: TableName) -> &mut Table {
        self.loaded[name as usize] = true;
        &mut self.tables[name as usize]
    }

    /// Adds `rule` at the end of a built-in chain (`iptables -A FORWARD`).
    ///
    /// Where the table has no such chain, [`Rules::new`](super::Rules::new) and the router refuse the ruleset.
    pub fn append(&mut self, table: TableName, hook: Hook, rule: Rule) {
        if let Some(chain) = self.built_in(table, hook) {
            chain.rules.push(rule);
        }
    }

    /// Adds `rule` at the end of a user's chain, which is made if it is not there (`iptables -N`, then `-A`).
    pub fn append_to(&mut self, table: TableName, chain: &str, rule: Rule) {
        self.table_mut(table).chain_mut(chain).rules.push(rule);
    }

    /// Sets the policy of a built-in chain (`iptables -P`).
    ///
    /// Where the table has no such chain, [`Rules::new`](super::Rules::new) and the router refuse the ruleset.
    pub fn set_policy(&mut self, table: TableName, hook: Hook, policy: Policy) {
        if let Some(chain) = self.built_in(table, hook) {
            chain.policy = Some(policy);
        }
    }

    fn built_in(&mut self, table: TableName, hook: Hook) -> Option<&mut Chain> {
        if !table.hooks().contains(&hook) {
            self.misplaced.get_or_insert((table, hook));
            return None;
        }
        Some(self.table_mut(table).chain_mut(hook.chain_name()))
    }

    /// Returns true if a rule asks for connections to be tracked: one that translates, or one about connections. Linux tracks a
    /// family only where something asks for it.
    pub fn wants_tracking(&self) -> bool {
        self.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules).any(Rule::wants_tracking)
    }

    /// Returns true if a rule asks for the packets and bytes of connections, which Linux counts then.
    pub(crate) fn wants_accounting(&self) -> bool {
        let counts = |condition: &Condition| match &condition.test {
            Match::Number(test) => matches!(test.number, Number::ConnectionCount { .. }),
            _ => false,
        };
        let rules = self.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.conditions).any(counts)
    }

    /// Returns true if no table has a rule or a policy other than accept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|t| t.chains.iter().all(|c| c.rules.is_empty() && c.policy != Some(Policy::Drop)))
    }
}

/// One table: its built-in chains first, then those of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// The chains, in order of appearance.
    pub chains: Vec<Chain>,
}

impl Table {
    /// The table with its built-in chains, empty, with policy accept.
    #[must_use]
    pub fn new(name: TableName) -> Self {
        let built_in =
            |hook: &Hook| Chain { name: hook.chain_name().into(), policy: Some(Policy::Accept), rules: Vec::new() };
        Self { chains: name.hooks().iter().map(built_in).collect() }
    }

    /// The chain of that name, if there is one.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }

    /// The chain of that name; a user's chain is made if there is none.
    pub(crate) fn chain_mut(&mut self, name: &str) -> &mut Chain {
        let index = self.chains.iter().position(|c| c.name == name).unwrap_or_else(|| {
            self.chains.push(Chain { name: name.into(), policy: None, rules: Vec::new() });
            self.chains.len() - 1
        });
        &mut self.chains[index]
    }
}

/// A list of rules, called by a hook (built-in) or by another rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chain {
    /// `FORWARD`, or what the user called it.
    pub name: String,
    /// Policy for packets that no rule decided; only built-in chains have one.
    pub policy: Option<Policy>,
    /// The rules, in the order they are asked.
    pub rules: Vec<Rule>,
}

/// Policy of a built-in chain for packets that no rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It is dropped.
    Drop,
}

/// A rule: if every condition holds, the target is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// The target.
    pub target: Target,
    /// File and line of the rule.
    pub origin: Option<Origin>,
}

/// Returns true if the words of a match or target name one of these modules.
fn names_any(words: &str, modules: &[&str]) -> bool {
    words.split_whitespace().any(|word| modules.contains(&word))
}

impl Rule {
    /// Returns true if it translates, or asks about connections.
    fn wants_tracking(&self) -> bool {
        let asks = |condition: &Condition| {
            use Match::{Cluster, ConnectionAddress, ConnectionState, Connmark, Helper, SetLabel};
            match &condition.test {
                ConnectionState(_) | Connmark(_) | Helper(_) | ConnectionAddress { .. } => true,
                SetLabel(_) | Cluster { .. } | Match::Stateful(Stateful::Connlimit(_)) => true,
                Match::Number(test) => test.number.is_of_connection(),
                _ => false,
            }
        };
        if let Target::Unknown(words) = &self.target
            && names_any(words, &["NETMAP", "SYNPROXY", "CONNSECMARK"])
        {
            return true;
        }
        let acts = matches!(
            self.target,
            Target::Connmark(_)
                | Target::Ct { .. }
                | Target::Masquerade(_)
                | Target::Snat(_)
                | Target::Dnat(_)
                | Target::Redirect(_)
                | Target::Netmap(_)
        );
        acts || self.conditions.iter().any(asks)
    }

    /// A rule for every packet.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self { conditions: Vec::new(), target, origin: None }
    }

    /// The same rule, for packets that also match `test`.
    #[must_use]
    pub fn when(mut self, test: Match) -> Self {
        self.conditions.push(Condition { test, negated: false });
        self
    }

    /// The same rule, for packets that do not match `test` (`!` in iptables).
    #[must_use]
    pub fn unless(mut self, test: Match) -> Self {
        self.conditions.push(Condition { test, negated: true });
        self
    }
}

/// The file and line a rule came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The file's name.
    pub file: Arc<str>,
    /// Line, from 1; 0 where lines say nothing.
    pub line: u32,
    /// The rule in nftables' words: table, chain and handle.
    pub rule: Option<Arc<str>>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
        }
        match &self.rule {
            Some(rule) => write!(f, " ({rule})"),
            None => Ok(()),
        }
    }
}

/// A test, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Condition {
    /// The test.
    pub test: Match,
    /// True if the condition holds when the test does not.
    pub negated: bool,
}

/// One test on a packet and its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Match {
    /// `-p`: the transport protocol. `-p all` is no test and not kept.
    Protocol(Protocol),
    /// `-s`: the source address.
    Source(Cidr),
    /// `-d`: the destination address.
    Destination(Cidr),
    /// `-i`: the interface it arrived on; a trailing `+` stands for any ending.
    InInterface(String),
    /// `-o`: the interface it leaves on; a trailing `+` stands for any ending.
    OutInterface(String),
    /// `--sport`, `--sports`: the TCP or UDP source port is in one of the ranges.
    SourcePorts(Vec<PortRange>),
    /// `--dport`, `--dports`: the TCP or UDP destination port is in one of the ranges.
    DestinationPorts(Vec<PortRange>),
    /// `-m multiport --ports`: either port is in one of the ranges.
    Ports(Vec<PortRange>),
    /// `--tcp-flags MASK COMPARE`, `--syn`: of the flags in `mask`, those in `set` are set and the others are not.
    TcpFlags {
        /// The flags looked at.
        mask: u8,
        /// Those of them that must be set.
        set: u8,
    },
    /// `-m state --state`, `-m conntrack --ctstate`: the packet's relation to its connection is one of these.
    ConnectionState(StateSet),
    /// `-m mark --mark VALUE/MASK`: the packet's firewall mark.
    Mark(Masked),
    /// `-m connmark --mark VALUE/MASK`: the connection's mark.
    Connmark(Masked),
    /// `-m helper --helper NAME`: the connection, or its master, has this helper.
    Helper(String),
    /// `--icmp-type`, `--icmpv6-type`: type, and a range of codes.
    IcmpType {
        /// The type; 255 for any (IPv4, as the kernel has it).
        kind: u8,
        /// The codes, both ends included.
        codes: (u8, u8),
    },
    /// `-m addrtype`: what kind of address the source or the destination is to this machine.
    AddressType {
        /// `--src-type`, as a set; empty for any.
        source: AddressTypes,
        /// `--dst-type`, as a set; empty for any.
        destination: AddressTypes,
        /// The interface that alone counts.
        limit: Option<Limit>,
    },
    /// `-m iprange --src-range`: the source address lies between these, both included.
    SourceRange(IpAddr, IpAddr),
    /// `-m iprange --dst-range`: the destination address lies between these, both included.
    DestinationRange(IpAddr, IpAddr),
    /// A number of the packet, its connection or its links.
    Number(NumberMatch),
    /// `-m conntrack --ctorigsrc` and the like: an address of the connection's tuples.
    ConnectionAddress {
        /// True for the tuple of the reply direction.
        reply: bool,
        /// True for the source.
        source: bool,
        /// The network.
        network: AddressMask,
    },
    /// `-s`, `-d` with a mask whose ones are not all in front.
    Address {
        /// True for the source.
        source: bool,
        /// The address and the mask.
        network: AddressMask,
    },
    /// `-m connlabel --set`: the connection has the label, or gets it.
    SetLabel(u8),
    /// `-m cluster`: the connection's source is for one of these nodes.
    Cluster {
        /// `--cluster-total-nodes`.
        nodes: u32,
        /// `--cluster-local-nodemask`: a bit for each node.
        mask: u32,
        /// `--cluster-hash-seed`.
        seed: u32,
    },
    /// `-m sctp --chunk-types`.
    Chunks(ChunkMatch),
    /// `-m string`.
    Text(TextMatch),
    /// `-m u32`: all tests hold.
    U32(Vec<U32Test>),
    /// `-m time`.
    Time(TimeMatch),
    /// `-m rpfilter`: a reply would leave by the interface of arrival.
    ReversePath {
        /// `--loose`: it would leave at all.
        loose: bool,
        /// `--accept-local`: an address of this machine may be the source.
        accept_local: bool,
    },
    /// `-m owner`, `-m cgroup`, `-m socket`: it is so of a socket of this machine. No packet that is sent on has one; of
    /// others it is not known.
    OfSocket {
        /// True if arriving packets for this machine may have one too (`-m socket`).
        arriving: bool,
    },
    /// `-m physdev`, `-m policy --pol ipsec`: it is so of no packet that is routed in the clear.
    Never,
    /// A match that remembers.
    Stateful(Stateful),
    /// Something this library does not know, word for word; a packet that reaches it is undecided.
    Unknown(String),
}

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network of `address` with `prefix` leading bits; `None` when there are not as many bits.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The address it was made with; bits beyond the prefix are as given.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the number of leading bits count.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns true if `address` belongs to the network; an address of the other family does not.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// An address under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct AddressMask {
    /// The address.
    pub address: IpAddr,
    /// The bits that count.
    pub mask: u128,
}

impl AddressMask {
    /// Returns true if an address is the same under the mask; one of the other family is not.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.address.is_ipv4() == address.is_ipv4() && (bits(self.address) ^ bits(address)) & self.mask == 0
    }
}

impl From<Cidr> for AddressMask {
    fn from(network: Cidr) -> Self {
        let bits = if network.address.is_ipv4() { 32 } else { 128 };
        let mask = u128::MAX.checked_shl(bits - u32::from(network.prefix)).unwrap_or(0);
        let mask = if bits == 32 { mask & u128::from(u32::MAX) } else { mask };
        Self { address: network.address, mask }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A value compared under a mask: `(x & mask) == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Masked {
    /// The value wanted.
    pub value: u32,
    /// The bits looked at.
    pub mask: u32,
}

/// A set of connection states, for `--state` and `--ctstate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct StateSet(pub u8);

impl StateSet {
    /// It belongs to no connection that the tracker can make sense of.
    pub const INVALID: Self = Self(1);
    /// A first packet.
    pub const NEW: Self = Self(2);
    /// A packet of a connection that was answered.
    pub const ESTABLISHED: Self = Self(4);
    /// A first packet that was expected, or an ICMP error about a connection.
    pub const RELATED: Self = Self(8);
    /// Not tracked by rule (`CT --notrack`).
    pub const UNTRACKED: Self = Self(16);
    /// The connection's source is translated.
    pub const SNAT: Self = Self(32);
    /// The connection's destination is translated.
    pub const DNAT: Self = Self(64);

    /// Returns the union of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if the sets have a state in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A set of address types, for `-m addrtype`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct AddressTypes(pub u16);

impl AddressTypes {
    /// An address of this machine.
    pub const LOCAL: Self = Self(1);
    /// Reached by a route.
    pub const UNICAST: Self = Self(2);
    /// A network's broadcast address.
    pub const BROADCAST: Self = Self(4);
    /// A group's address.
    pub const MULTICAST: Self = Self(8);
    /// 0.0.0.0 or ::.
    pub const UNSPEC: Self = Self(16);
    /// An anycast address of this machine.
    pub const ANYCAST: Self = Self(32);
    /// A route drops it.
    pub const BLACKHOLE: Self = Self(64);
    /// A route says that it is unreachable.
    pub const UNREACHABLE: Self = Self(128);
    /// A route says that it is prohibited.
    pub const PROHIBIT: Self = Self(256);

    /// Returns the union of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The interface of a packet to which `-m addrtype` limits itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Limit {
    /// `--limit-iface-in`.
    In,
    /// `--limit-iface-out`.
    Out,
}

/// Action of a rule on a matching packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// No `-j`: counted only, and the next rule is asked.
    Continue,
    /// The packet passes this table.
    Accept,
    /// The packet is gone, without an answer.
    Drop,
    /// Back to the rule after the one that called this chain; in a built-in chain, its policy.
    Return,
    /// `-j CHAIN`: the chain's rules, then back here.
    Jump(String),
    /// `-g CHAIN`: the chain's rules, then back to whoever called this chain.
    Goto(String),
    /// `-j REJECT --reject-with`: the packet is gone, and its sender is told.
    Reject(RejectWith),
    /// `-j MARK`: `mark = (mark & !mask) ^ value`.
    Mark(Masked),
    /// `-j CONNMARK`.
    Connmark(ConnmarkAction),
    /// `-j CT --notrack` or `-j NOTRACK`: the packet is not tracked.
    NoTrack,
    /// `-j CT`: how a connection that begins here is tracked.
    Ct {
        /// `--helper`.
        helper: Option<String>,
        /// `--zone`.
        zone: Option<u16>,
    },
    /// `-j MASQUERADE`: the source becomes the outgoing interface's address. Only the range's ports count.
    Masquerade(NatRange),
    /// `-j SNAT`: the source becomes one of these.
    Snat(NatRange),
    /// `-j DNAT`: the destination becomes one of these.
    Dnat(NatRange),
    /// `-j REDIRECT`: the destination becomes this machine. Only the range's ports count.
    Redirect(NatRange),
    /// `-j NETMAP`: the network changes, and the host stays.
    Netmap(AddressMask),
    /// The packet is changed, and the next rule is asked.
    Edit(PacketEdit),
    /// `-j SET`: sets change, and the next rule is asked.
    UpdateSets(Vec<SetUpdate>),
    /// `-j TCPMSS --set-mss N`, or `None` for `--clamp-mss-to-pmtu`.
    TcpMss(Option<u16>),
    /// `-j LOG`: an event with this prefix, and the next rule is asked.
    Log {
        /// `--log-prefix`.
        prefix: String,
    },
    /// Something this library does not know, word for word; a packet that reaches it is undecided.
    Unknown(String),
}

impl Target {
    /// `-j CT --helper NAME`.
    #[must_use]
    pub fn helper(name: &str) -> Self {
        Self::Ct { helper: Some(name.into()), zone: None }
    }
}

/// Answer of REJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectWith {
    /// `tcp-reset`.
    TcpReset,
    /// An ICMP (ICMPv6) error: destination unreachable with this code.
    Unreachable(u8),
    /// `icmpx` of nftables, destination unreachable by its own code: 0 no route, 1 port, 2 host, 3 prohibited.
    EitherFamily(u8),
}

/// CONNMARK's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnmarkAction {
    /// `--set-xmark`: `ctmark = (ctmark & !mask) ^ value`.
    Set(Masked),
    /// `--save-mark`: `ctmark = (ctmark & !ctmask) ^ (mark & nfmask)`.
    Save {
        /// Bits taken from the packet's mark.
        nfmask: u32,
        /// Bits cleared in the connection's.
        ctmask: u32,
    },
    /// `--restore-mark`: `mark = (mark & !nfmask) ^ (ctmark & ctmask)`.
    Restore {
        /// Bits cleared in the packet's mark.
        nfmask: u32,
        /// Bits taken from the connection's.
        ctmask: u32,
    },
}

/// Helpers that the kernel has (`nf_conntrack_*`).
const HELPERS: [&str; 13] =
    ["ftp", "tftp", "irc", "sip", "amanda", "pptp", "RAS", "Q.931", "H.245", "netbios-ns", "sane", "snmp", "snmp_trap"];

/// Returns true for the name of a helper; on another port than its own, the kernel adds the port (`ftp-2121`).
pub(crate) fn is_known_helper(name: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let base = name.rsplit_once('-').filter(|(_, port)| is_port(port)).map_or(name, |(base, _)| base);
    HELPERS.contains(&base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn networks_contain_their_addresses() {
        let net = Cidr::new(Ipv4Addr::new(10, 77, 1, 0).into(), 24).unwrap();
        assert!(net.contains(Ipv4Addr::new(10, 77, 1, 255).into()));
        assert!(!net.contains(Ipv4Addr::new(10, 77, 2, 0).into()));
        assert!(!net.contains(Ipv6Addr::LOCALHOST.into()));
        let all = Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST.into()));
        let global = Cidr::new("2000::".parse().unwrap(), 3).unwrap();
        assert!(global.contains("3fff::1".parse().unwrap()));
        assert!(!global.contains("4000::1".parse().unwrap()));
        assert!(Cidr::new(Ipv4Addr::LOCALHOST.into(), 33).is_none());
    }
}
