//! Tables, chains, sets and rules of nftables as data.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::edit::PacketEdit;
use super::super::rules::{Hook, Origin, Policy, RejectWith};
use crate::packet::Family;

/// The tables of nftables that see IP packets, in the order they were loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NftRuleset {
    /// The tables.
    pub tables: Vec<NftTable>,
}

impl NftRuleset {
    /// True if no table has a chain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.chains.is_empty())
    }
}

/// The packets that a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum TableFamily {
    /// `ip`: IPv4.
    Ip,
    /// `ip6`: IPv6.
    Ip6,
    /// `inet`: both.
    Inet,
}

impl TableFamily {
    /// Returns true if the table sees packets of a family.
    #[must_use]
    pub const fn sees(self, family: Family) -> bool {
        match self {
            Self::Ip => matches!(family, Family::V4),
            Self::Ip6 => matches!(family, Family::V6),
            Self::Inet => true,
        }
    }

    /// The name that nft gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NftTable {
    /// The packets it sees.
    pub family: TableFamily,
    /// Name of the table.
    pub name: String,
    /// Chains of the table.
    pub chains: Vec<NftChain>,
    /// Named sets and maps.
    pub sets: Vec<NftSet>,
    /// Objects `ct helper`: each name, and the helper it names (`ftp`).
    pub helpers: Vec<(String, String)>,
    /// Named limits and quotas.
    pub meters: Vec<(String, Meter)>,
}

impl NftTable {
    /// An empty table.
    #[must_use]
    pub fn new(family: TableFamily, name: &str) -> Self {
        Self {
            family,
            name: name.into(),
            chains: Vec::new(),
            sets: Vec::new(),
            helpers: Vec::new(),
            meters: Vec::new(),
        }
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NftChain {
    /// Name of the chain.
    pub name: String,
    /// Hook that calls it; `None` for a chain that only rules call.
    pub base: Option<Base>,
    /// Rules, in the order they are evaluated.
    pub rules: Vec<NftRule>,
}

/// The hook, type, priority and policy of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Base {
    /// Type of the chain.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// Priority among the other chains of the hook: lower ones are called first.
    pub priority: i32,
    /// Verdict on a packet that no rule decided.
    pub policy: Policy,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`: called for the first packet of a connection only.
    Nat,
    /// `route`: as `filter`; in `output`, a packet whose mark changed is routed again.
    Route,
}

/// A rule: statements from left to right, until a match fails or a verdict ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NftRule {
    /// Statements of the rule.
    pub statements: Vec<Statement>,
    /// Place where it was read.
    pub origin: Option<Origin>,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// The rule goes on only if a value compares so.
    Match {
        /// The value of the packet.
        left: Expression,
        /// Comparison operator.
        operator: Operator,
        /// The values it is compared with.
        right: Vec<Span>,
    },
    /// The rule goes on only if the key is in a set, or, if `negated`, if it is not.
    Lookup {
        /// The parts of the key.
        key: Vec<Expression>,
        /// The set.
        set: SetRef,
        /// True for `!=`.
        negated: bool,
    },
    /// A verdict.
    Verdict(NftVerdict),
    /// The verdict that a map has for a key; without one, the rule does not match.
    VerdictMap {
        /// The parts of the key.
        key: Vec<Expression>,
        /// The map.
        map: SetRef,
    },
    /// `meta mark set`.
    SetMark(Expression),
    /// `ct mark set`.
    SetCtMark(Expression),
    /// `ct helper set`: an object of the table.
    SetHelper(ObjectRef),
    /// `ct zone set`, before the connection is looked up.
    SetZone(Expression),
    /// `notrack`.
    NoTrack,
    /// `snat`, `dnat`, `masquerade`, `redirect`.
    Nat(NatStatement),
    /// `tcp option maxseg size set`; `None` for `rt mtu`.
    MaxSeg(Option<u16>),
    /// `reject`.
    Reject {
        /// Answer to the sender.
        with: RejectWith,
        /// The only family to which the rule applies, if there is one.
        family: Option<Family>,
    },
    /// `log`: an event, and the rule goes on.
    Log {
        /// The prefix.
        prefix: String,
    },
    /// `limit`, `quota`: the rule goes on only while it lasts.
    Meter(Meter),
    /// A named `limit` or `quota` of the table.
    NamedMeter(ObjectRef),
    /// `ct count`: the rule goes on only with so many connections that met it, or fewer.
    Count {
        /// The number of connections.
        bound: u32,
        /// True for `over`: it goes on only with more.
        over: bool,
    },
    /// `ip dscp set`, `ip ttl set` and others: changes the header.
    Edit(PacketEdit),
    /// `add @set { … }`, `update`, `delete`.
    Update {
        /// Operation on the set.
        action: SetAction,
        /// The parts of the key.
        key: Vec<Expression>,
        /// The name of the set.
        set: String,
        /// Timeout of the element, in milliseconds; `None` for the set's own.
        timeout: Option<u64>,
        /// A limit or quota of the element: the rule goes on only while it lasts.
        meter: Option<Meter>,
    },
    /// Something that is not known, word for word; a packet that reaches it is undecided.
    Unknown(String),
}

/// An object of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum ObjectRef {
    /// The one with this name.
    Named(String),
    /// The one whose name a map has for a key; without one, the rule does not match.
    Map {
        /// The parts of the key.
        key: Vec<Expression>,
        /// The map.
        map: SetRef,
    },
}

/// The operation of a rule on a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum SetAction {
    /// Adds an element, unless it is there.
    Add,
    /// Adds an element, or starts its time again.
    Update,
    /// Removes an element.
    Delete,
}

/// A bound on how often a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Meter {
    /// `limit rate`.
    Limit {
        /// Packets or bytes in each unit of time.
        rate: u64,
        /// The unit of time, in seconds.
        per: u64,
        /// Packets or bytes beyond the rate.
        burst: u64,
        /// True if bytes are counted.
        bytes: bool,
        /// True for `over`: it matches what exceeds the rate.
        over: bool,
    },
    /// `quota`.
    Quota {
        /// Bytes.
        bytes: u64,
        /// Bytes that were used when the rules were saved.
        used: u64,
        /// True for `over`: it matches what exceeds the quota.
        over: bool,
    },
}

/// A comparison of a value with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Operator {
    /// It is in one of the spans.
    Equal,
    /// It is in none of them.
    NotEqual,
    /// It is less than the first.
    Less,
    /// It is at most the first.
    AtMost,
    /// It is more than the first.
    More,
    /// It is at least the first.
    AtLeast,
    /// It has a bit of the first.
    AnyBit,
    /// It has no bit of the first.
    NoBit,
}

/// Values from `first` to `last`, both included: big-endian numbers. A name of an interface is its bytes, padded with
/// zeros to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct Span {
    /// The lowest.
    pub first: u128,
    /// The highest.
    pub last: u128,
}

impl Span {
    /// One value.
    #[must_use]
    pub const fn one(value: u128) -> Self {
        Self { first: value, last: value }
    }

    /// Returns true if the value is in the span.
    #[inline]
    #[must_use]
    pub const fn contains(self, value: u128) -> bool {
        self.first <= value && value <= self.last
    }
}

/// A set that belongs to a rule, or one that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum SetRef {
    /// The elements of a set that only this rule uses.
    Anonymous(Vec<Element>),
    /// A named set of the table.
    Named(String),
}

/// A named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NftSet {
    /// Name of the set.
    pub name: String,
    /// Number of bits of each part of a key.
    pub parts: Vec<u8>,
    /// Elements of the set.
    pub elements: Vec<Element>,
    /// Maximum number of elements that rules may add.
    pub size: u32,
    /// Timeout of elements that rules add, in milliseconds; `None` for ever.
    pub timeout: Option<u64>,
}

/// An element of a set: a span for each part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Element {
    /// The key.
    pub key: Box<[Span]>,
    /// Data that a map has for it.
    pub data: Data,
    /// Time until it is removed, in milliseconds; `None` for ever.
    pub expires: Option<u64>,
}

impl Element {
    /// An element of a set that is never removed.
    pub fn new(key: impl Into<Box<[Span]>>) -> Self {
        Self { key: key.into(), data: Data::None, expires: None }
    }
}

/// The data that a map has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Data {
    /// Nothing: it is a set.
    None,
    /// A verdict.
    Verdict(NftVerdict),
    /// A value, or several.
    Values(Box<[Span]>),
    /// The name of an object.
    Object(String),
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum NftVerdict {
    /// The packet passes this base chain; later ones are asked.
    Accept,
    /// The packet is gone.
    Drop,
    /// The next rule is asked.
    Continue,
    /// Back to the rule after the one that called this chain; in a base chain, its policy.
    Return,
    /// The chain's rules, then back here.
    Jump(String),
    /// The chain's rules, then back to the rule after the one that called this chain.
    Goto(String),
}

/// A translation of a connection's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NatStatement {
    /// Which end is translated, and how.
    pub kind: NatKind,
    /// The only family to which the rule applies, if there is one.
    pub family: Option<Family>,
    /// The addresses, and, if a map has both, the ports.
    pub address: Option<NatValue>,
    /// The ports.
    pub port: Option<NatValue>,
    /// True for `random` and `fully-random`.
    pub random: bool,
    /// True for `persistent`.
    pub persistent: bool,
    /// True for `prefix`: the network changes, and the host stays.
    pub netmap: bool,
}

/// The kinds of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum NatKind {
    /// The source becomes an address of the rule.
    Snat,
    /// The destination becomes an address of the rule.
    Dnat,
    /// The source becomes the address of the interface by which the packet leaves.
    Masquerade,
    /// The destination becomes this machine.
    Redirect,
}

/// Addresses or ports to translate to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum NatValue {
    /// These.
    Span(Span),
    /// Those that a map has for a key.
    Map {
        /// The parts of the key.
        key: Vec<Expression>,
        /// The map.
        map: SetRef,
    },
    /// A value of the packet.
    Computed(Expression),
}

/// A value that is computed for each packet; where a packet has none, the rule does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expression {
    /// A number.
    Value(u128),
    /// Bits of a header.
    Payload {
        /// The header.
        header: Header,
        /// Number of bits before them.
        offset: u16,
        /// Number of bits: at most 128.
        bits: u16,
    },
    /// `meta`.
    Meta(MetaKey),
    /// `ct`.
    Ct(CtKey),
    /// `tcp option NAME FIELD`: bits of an option.
    TcpOption {
        /// The option's number.
        kind: u8,
        /// Number of bits before them, from the option's first.
        offset: u16,
        /// Number of bits; 0 asks for the option itself.
        bits: u16,
    },
    /// True if the packet has an IPv6 extension header.
    ExtensionHeader(u8),
    /// Bits of an IPv6 extension header.
    ExtensionField {
        /// The header's number.
        kind: u8,
        /// Number of bits before them.
        offset: u16,
        /// Number of bits: at most 128.
        bits: u16,
    },
    /// `ip option NAME FIELD`: bits of an IPv4 option.
    IpOption {
        /// The option's number.
        kind: u8,
        /// Number of bits before them, from the option's first.
        offset: u16,
        /// Number of bits; 0 asks for the option itself.
        bits: u16,
    },
    /// `fib`: what the routes say of an address.
    Fib {
        /// True for the source address.
        source: bool,
        /// The interface to which the lookup is limited.
        interface: FibInterface,
        /// The value.
        result: FibResult,
    },
    /// `jhash`: a hash of a key.
    Hash {
        /// The parts of the key, each with its number of bits.
        key: Vec<(Self, u8)>,
        /// Modulus of the number.
        modulus: u32,
        /// The seed.
        seed: u32,
        /// The first number.
        offset: u32,
    },
    /// Both bits.
    And(Box<Self>, Box<Self>),
    /// Either bit.
    Or(Box<Self>, Box<Self>),
    /// One of the bits.
    Xor(Box<Self>, Box<Self>),
    /// Shifted to higher bits, of which there are 32.
    ShiftLeft(Box<Self>, u8),
    /// Shifted to lower bits.
    ShiftRight(Box<Self>, u8),
    /// The value that a map has for a key.
    Map {
        /// The parts of the key.
        key: Vec<Self>,
        /// The map.
        map: SetRef,
    },
    /// `numgen inc`: counts from `offset` through `modulus` numbers.
    Counter {
        /// Modulus of the number.
        modulus: u32,
        /// The first.
        offset: u32,
    },
    /// Something that is not known, word for word; a packet that reaches it is undecided.
    Unknown(String),
}

/// The interface to which a lookup of routes is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum FibInterface {
    /// None.
    Any,
    /// The one by which the packet arrived.
    In,
    /// The one by which it leaves.
    Out,
}

/// The result of a lookup of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum FibResult {
    /// `type`: the kind of the address.
    Type,
    /// `oif`, `oifname`: the name of the interface that leads to it.
    Interface,
    /// `oif exists`: true if an interface leads to it.
    Exists,
}

/// A header in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Header {
    /// The IPv4 header.
    Ipv4,
    /// The IPv6 header.
    Ipv6,
    /// The IP header of either family.
    Network,
    /// The transport header of any protocol.
    Transport,
    /// The transport header of one protocol.
    Protocol(u8),
}

/// A key of `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum MetaKey {
    /// The packet's mark.
    Mark,
    /// The name of the interface by which it arrived.
    InName,
    /// The name of the interface by which it leaves.
    OutName,
    /// The transport protocol.
    Layer4Protocol,
    /// The family: 2 for IPv4, 10 for IPv6.
    Family,
    /// The Ethernet type.
    EtherType,
    /// The packet's length in bytes.
    Length,
    /// Type of the packet's link-layer address: 0 for this machine.
    PacketType,
    /// The user or group whose socket sent it.
    SocketUser,
    /// Nanoseconds since 1970.
    Time,
    /// The day of the week: 0 for Sunday. (UTC)
    Day,
    /// Seconds since midnight. (UTC)
    Hour,
}

/// A key of `ct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum CtKey {
    /// The packet's state, as one bit.
    State,
    /// The connection's status bits.
    Status,
    /// The connection's mark.
    Mark,
    /// 0 in original direction, 1 in reply direction.
    Direction,
    /// The name of the helper.
    Helper,
    /// The zone.
    Zone,
    /// The family: 2 for IPv4, 10 for IPv6.
    Family,
    /// The transport protocol.
    Protocol,
    /// An address of the tuple of a direction.
    Address {
        /// True for the reply direction.
        reply: bool,
        /// True for the source.
        source: bool,
        /// The family that the rule names, if it does.
        family: Option<Family>,
    },
    /// A port of the tuple of a direction.
    Port {
        /// True for the reply direction.
        reply: bool,
        /// True for the source.
        source: bool,
    },
    /// Packets that were counted, in a direction or both.
    Packets {
        /// True for the reply direction; `None` for both.
        reply: Option<bool>,
    },
    /// Bytes of a packet on average, in a direction or both.
    AveragePacket {
        /// True for the reply direction; `None` for both.
        reply: Option<bool>,
    },
    /// Bytes that were counted, in a direction or both.
    Bytes {
        /// True for the reply direction; `None` for both.
        reply: Option<bool>,
    },
}
