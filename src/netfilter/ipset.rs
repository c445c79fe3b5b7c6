//! Sets of addresses, ports and interfaces that `ipset` makes, and `-m set` and `-j SET`, which ask and change them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::context::EvalContext;
use super::keyed::{Key, Keyed, masked, words};
use crate::Instant;
use crate::packet::{Family, Layer4};

/// A set, as `ipset save` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct IpSet {
    /// Name of the set.
    pub name: String,
    /// Parts of an element; none for a list of sets.
    pub parts: Vec<SetPart>,
    /// The family of its addresses.
    pub family: Family,
    /// The leading bits of addresses that count (`netmask`).
    pub prefix: u8,
    /// Maximum number of elements.
    pub most: u32,
    /// Timeout of elements that rules add, in seconds, if elements end at all; 0 for ever.
    pub timeout: Option<u32>,
    /// True if packets and bytes are counted.
    pub counters: bool,
    /// True if a full set forgets an element to take another (`forceadd`).
    pub forceadd: bool,
    /// The elements.
    pub elements: Vec<SetElement>,
    /// The names of the member sets of a list.
    pub members: Vec<String>,
    /// The addresses or ports that the set has room for (`range` of a bitmap).
    pub range: Option<(u128, u128)>,
}

/// A part of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum SetPart {
    /// An address.
    Address,
    /// A network.
    Network,
    /// A protocol and a port.
    Port,
    /// A port of any protocol (`bitmap:port`).
    AnyPort,
    /// An interface.
    Interface,
    /// A firewall mark.
    Mark,
    /// A MAC address, which a packet of IP does not have.
    Mac,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct SetElement {
    /// A value for each part.
    pub values: Vec<SetValue>,
    /// `nomatch`: packets of it do not match.
    pub nomatch: bool,
    /// Seconds that it lasts still; `None` for ever.
    pub timeout: Option<u32>,
    /// Packets and bytes that it matched.
    pub counted: (u64, u64),
}

/// A value of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum SetValue {
    /// A network, or an address with all its bits.
    Network(IpAddr, u8),
    /// A protocol and a port; for ICMP, type and code.
    Port(u8, u16),
    /// An interface.
    Interface(String),
    /// A firewall mark.
    Mark(u32),
}

/// `-m set`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct IpSetMatch {
    /// The name of the set.
    pub set: String,
    /// For each part, true for `src`.
    pub sources: Vec<bool>,
    /// `--return-nomatch`: elements with `nomatch` match, and others do not.
    pub return_nomatch: bool,
    /// False for `! --update-counters`.
    pub counts: bool,
    /// Compares the packets of the element: how, and with what.
    pub packets: Option<(Compared, u64)>,
    /// Compares the bytes of the element.
    pub bytes: Option<(Compared, u64)>,
}

/// A comparison of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Compared {
    /// It is equal.
    Equal,
    /// It is not equal.
    NotEqual,
    /// It is less.
    Less,
    /// It is more.
    More,
}

/// `-j SET`: one thing that is done to a set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct SetUpdate {
    /// The name of the set.
    pub set: String,
    /// For each part, true for `src`.
    pub sources: Vec<bool>,
    /// True for `--add-set`, false for `--del-set`.
    pub adds: bool,
    /// `--timeout`, in seconds.
    pub timeout: Option<u32>,
    /// `--exist`: the time of an element that is there begins again.
    pub exist: bool,
}

/// The sets as they are now.
#[derive(Debug, Default)]
pub(super) struct SetState {
    sets: Box<[State]>,
    /// When the first packet asked: the time from which the elements of the file last.
    start: Option<Instant>,
}

#[derive(Debug)]
struct State {
    family: Family,
    parts: Box<[SetPart]>,
    prefix: u8,
    timeout: Option<u32>,
    counters: bool,
    forceadd: bool,
    range: Option<(u128, u128)>,
    members: Box<[u32]>,
    /// For each of two networks of a key, the lengths of prefixes that elements have, longest first.
    prefixes: [Box<[u8]>; 2],
    /// The router's number of each interface that elements name.
    interfaces: Box<[Option<usize>]>,
    elements: Keyed<Element>,
}

#[derive(Clone, Copy, Debug)]
struct Element {
    nomatch: bool,
    ends: Ends,
    counted: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    Never,
    /// So many seconds after the first packet.
    After(u32),
    At(Instant),
}

/// Maximum number of elements of a set, whatever it says.
const MOST: u32 = 65_536;

/// The values of a packet, or of an element, before networks are cut.
#[derive(Clone, Copy, Default)]
struct Values {
    addresses: [Option<(IpAddr, u8)>; 2],
    port: u64,
    other: u64,
}

impl Values {
    /// The key, with the leading bits of both addresses.
    fn key(&self, prefixes: [u8; 2]) -> Key {
        let cut = |index: usize| match self.addresses[index] {
            Some((address, _)) => words(masked(address, prefixes[index])),
            None => [0; 2],
        };
        let ([a, b], [c, d]) = (cut(0), cut(1));
        let lengths = u64::from(prefixes[0]) << 32 | u64::from(prefixes[1]) << 40;
        [a, b, c, d, self.port | lengths, self.other]
    }

    fn take_address(&mut self, address: IpAddr, prefix: u8) {
        let free = usize::from(self.addresses[0].is_some());
        self.addresses[free] = Some((address, prefix));
    }
}

impl SetState {
    pub(super) fn new(sets: &[IpSet], names: &[String], seeds: [u64; 2]) -> Self {
        let number = |name: &String| sets.iter().position(|set| set.name == *name).and_then(|n| u32::try_from(n).ok());
        let state = |set: &IpSet| {
            let mut interfaces: Vec<String> = Vec::new();
            let mut prefixes = [Vec::new(), Vec::new()];
            let most = set.most.min(MOST).max(set.elements.len() as u32);
            let mut elements = Keyed::new(most, seeds);
            for element in &set.elements {
                let mut values = Values::default();
                for value in &element.values {
                    match value {
                        SetValue::Network(address, prefix) => values.take_address(*address, *prefix),
                        SetValue::Port(protocol, port) => {
                            values.port = u64::from(*protocol) << 16 | u64::from(*port);
                        }
                        SetValue::Mark(mark) => values.other = (*mark).into(),
                        SetValue::Interface(name) => {
                            let known = interfaces.iter().position(|known| known == name);
                            let place = known.unwrap_or_else(|| {
                                interfaces.push(name.clone());
                                interfaces.len() - 1
                            });
                            values.other = place as u64 + 1;
                        }
                    }
                }
                let lengths = [0, 1].map(|index: usize| values.addresses[index].map_or(0, |(_, prefix)| prefix));
                for (known, length) in prefixes.iter_mut().zip(lengths) {
                    if !known.contains(&length) {
                        known.push(length);
                    }
                }
                let ends = element.timeout.filter(|seconds| *seconds > 0).map_or(Ends::Never, Ends::After);
                let key = values.key(lengths);
                if elements.find(&key).is_none() {
                    elements.insert(key, Element { nomatch: element.nomatch, ends, counted: element.counted });
                }
            }
            // Rules add addresses with all their bits.
            let full = if set.family == Family::V4 { 32 } else { 128 };
            for known in &mut prefixes {
                if !known.contains(&full) {
                    known.push(full);
                }
                known.sort_unstable_by(|a, b| b.cmp(a));
            }
            State {
                family: set.family,
                parts: set.parts.clone().into(),
                prefix: set.prefix,
                timeout: set.timeout,
                counters: set.counters,
                forceadd: set.forceadd,
                range: set.range,
                members: set.members.iter().filter_map(number).collect(),
                prefixes: prefixes.map(Into::into),
                interfaces: interfaces.iter().map(|name| names.iter().position(|known| known == name)).collect(),
                elements,
            }
        };
        Self { sets: sets.iter().map(state).collect(), start: None }
    }
}

impl Element {
    fn is_over(&self, start: Instant, now: Instant) -> bool {
        match self.ends {
            Ends::Never => false,
            Ends::After(seconds) => start + Duration::from_secs(seconds.into()) <= now,
            Ends::At(end) => end <= now,
        }
    }
}

impl State {
    /// Reads the values that a packet has for each part; `None` where it lacks one.
    fn values(&self, sources: &[bool], subject: &EvalContext<'_, '_>) -> Option<Values> {
        let (bytes, headers) = (subject.packet.bytes(), &subject.headers);
        let mut values = Values::default();
        for (number, part) in self.parts.iter().enumerate() {
            let is_source = *sources.get(number)?;
            match part {
                SetPart::Address | SetPart::Network => {
                    if headers.family != self.family {
                        return None;
                    }
                    let address = if is_source { headers.source(bytes) } else { headers.destination(bytes) };
                    values.take_address(masked(address, self.prefix), 0);
                }
                SetPart::Port => values.port = port(is_source, subject)?,
                SetPart::AnyPort => {
                    let (source, destination) = headers.ports(bytes)?;
                    values.port = u64::from(if is_source { source } else { destination });
                }
                SetPart::Interface => {
                    let interface = if is_source { subject.in_interface } else { subject.out_interface };
                    interface?;
                    let known = self.interfaces.iter().position(|known| *known == interface)?;
                    values.other = known as u64 + 1;
                }
                SetPart::Mark => values.other = subject.packet.mark.into(),
                SetPart::Mac => return None,
            }
        }
        Some(values)
    }

    /// The lengths of prefixes that are looked for in each of two addresses.
    fn lengths(&self, index: usize) -> &[u8] {
        const NONE: &[u8] = &[0];
        let mut addresses = self.parts.iter().filter(|part| matches!(part, SetPart::Address | SetPart::Network));
        if addresses.nth(index).is_some() { &self.prefixes[index] } else { NONE }
    }

    fn find(&self, values: &Values) -> Option<u32> {
        self.lengths(0).iter().find_map(|first| {
            self.lengths(1).iter().find_map(|second| self.elements.find(&values.key([*first, *second])))
        })
    }
}

/// The protocol and port of a packet as ipset has them: of ICMP, type and code; of others, 0.
fn port(is_source: bool, subject: &EvalContext<'_, '_>) -> Option<u64> {
    let headers = &subject.headers;
    let port = match headers.layer4 {
        Layer4::Icmp(icmp) => u16::from(icmp.kind) << 8 | u16::from(icmp.code),
        _ => match headers.ports(subject.packet.bytes()) {
            Some((source, destination)) => {
                if is_source {
                    source
                } else {
                    destination
                }
            }
            None if headers.layer4 == Layer4::Unreadable => return None,
            None => 0,
        },
    };
    Some(u64::from(headers.protocol.0) << 16 | u64::from(port))
}

/// The answer of a set about a packet.
enum Found {
    Nothing,
    Element { nomatch: bool },
}

/// Asks a set; `None` where the rule does not match either way.
pub(super) fn matches(test: &IpSetMatch, set: u32, subject: &mut EvalContext<'_, '_>) -> Option<bool> {
    let start = *subject.memory.sets.start.get_or_insert(subject.now);
    let members = subject.memory.sets.sets.get(set as usize)?.members.len();
    if members == 0 {
        return Some(match ask(test, set, start, subject) {
            Found::Nothing => false,
            Found::Element { nomatch } => nomatch == test.return_nomatch,
        });
    }
    for place in 0..members {
        let member = *subject.memory.sets.sets.get(set as usize)?.members.get(place)?;
        if let Found::Element { nomatch: false } = ask(test, member, start, subject) {
            return Some(true);
        }
    }
    Some(false)
}

fn ask(test: &IpSetMatch, set: u32, start: Instant, subject: &mut EvalContext<'_, '_>) -> Found {
    let (now, length) = (subject.now, subject.headers.end as u64);
    let Some(state) = subject.memory.sets.sets.get(set as usize) else { return Found::Nothing };
    let Some(values) = state.values(&test.sources, subject) else { return Found::Nothing };
    let Some(number) = state.find(&values) else { return Found::Nothing };
    let counters = state.counters;
    let Some(state) = subject.memory.sets.sets.get_mut(set as usize) else { return Found::Nothing };
    let Some(element) = state.elements.get_mut(number) else { return Found::Nothing };
    if element.is_over(start, now) {
        state.elements.remove(number);
        return Found::Nothing;
    }
    let (packets, bytes) = element.counted;
    let compares = |compared: Option<(Compared, u64)>, value: u64| match compared.filter(|_| counters) {
        None => true,
        Some((Compared::Equal, wanted)) => value == wanted,
        Some((Compared::NotEqual, wanted)) => value != wanted,
        Some((Compared::Less, wanted)) => value < wanted,
        Some((Compared::More, wanted)) => value > wanted,
    };
    let holds = compares(test.packets, packets) && compares(test.bytes, bytes);
    if test.counts && counters {
        element.counted = (packets + 1, bytes + length);
    }
    if holds { Found::Element { nomatch: element.nomatch } } else { Found::Nothing }
}

/// Adds a packet to a set, or removes it.
pub(super) fn update(update: &SetUpdate, set: u32, subject: &mut EvalContext<'_, '_>) {
    let start = *subject.memory.sets.start.get_or_insert(subject.now);
    let now = subject.now;
    let Some(state) = subject.memory.sets.sets.get(set as usize) else { return };
    let Some(values) = state.values(&update.sources, subject) else { return };
    if let (Some((first, last)), Some(value)) = (state.range, values.in_range())
        && (value < first || value > last)
    {
        return;
    }
    let full = if state.family == Family::V4 { 32 } else { 128 };
    let lengths = [0, 1].map(|index: usize| if values.addresses[index].is_some() { full } else { 0 });
    let key = values.key(lengths);
    let found = state.elements.find(&key);
    let seconds = update.timeout.or(state.timeout).filter(|_| state.timeout.is_some());
    let Some(state) = subject.memory.sets.sets.get_mut(set as usize) else { return };
    let ends = match seconds {
        Some(seconds) if seconds > 0 => Ends::At(now + Duration::from_secs(seconds.into())),
        _ => Ends::Never,
    };
    let is_there =
        found.filter(|number| state.elements.get(*number).is_some_and(|element| !element.is_over(start, now)));
    if !update.adds {
        if let Some(number) = found {
            state.elements.remove(number);
        }
        return;
    }
    if let Some(number) = is_there {
        if update.exist
            && let Some(element) = state.elements.get_mut(number)
        {
            element.ends = ends;
        }
        return;
    }
    if let Some(number) = found {
        state.elements.remove(number);
    }
    let element = Element { nomatch: false, ends, counted: (0, 0) };
    if state.elements.insert(key, element).is_none() && state.forceadd {
        if let Some(oldest) = state.elements.oldest() {
            state.elements.remove(oldest);
        }
        state.elements.insert(key, element);
    }
}

impl Values {
    fn in_range(&self) -> Option<u128> {
        match self.addresses[0] {
            Some((IpAddr::V4(address), _)) => Some(address.to_bits().into()),
            Some(_) => None,
            None => Some((self.port & 0xffff).into()),
        }
    }
}
