//! State that rules of iptables keep from packet to packet. Its memory is taken when it is made. Its memory is taken
//! when it is made.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::bucket::{Bucket, Verdict};
use super::connlimit::{Connlimit, ConnlimitMatch};
use super::context::EvalContext;
use super::hashlimit::{Ends, Hashlimit, HashlimitMatch};
use super::ipset::{IpSet, IpSetMatch, SetPart, SetState};
use super::recent::{RecentList, RecentMatch, RecentSizes};
use crate::conntrack::Conntrack;
use crate::nat::PortChooser;
use crate::packet::{Family, Protocol};

/// A match that remembers what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stateful {
    /// `-m limit`: a rate for all packets of the rule.
    Limit {
        /// Nanoseconds that a packet costs.
        cost: u64,
        /// `--limit-burst`, in packets.
        burst: u32,
    },
    /// `-m hashlimit`.
    Hashlimit(HashlimitMatch),
    /// `-m recent`.
    Recent(RecentMatch),
    /// `-m connlimit`.
    Connlimit(ConnlimitMatch),
    /// `-m quota`: bytes that match.
    Quota(u64),
    /// `-m statistic --mode nth`: one of every so many packets.
    Every {
        /// `--every`.
        every: u32,
        /// `--packet`: the place of the packet that matches, from 0.
        packet: u32,
    },
    /// `-m statistic --mode random`: the probability, of 2^31.
    Random(u32),
    /// `-m set`.
    Set(IpSetMatch),
}

/// The state that rules need to keep: planned with [`Rules`](super::Rules), and shared by those of both families.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// State of single rules: a bucket, a quota or a count.
    counts: Vec<Count>,
    hashlimits: Vec<(Family, HashlimitMatch)>,
    recents: Vec<String>,
    connlimits: usize,
    sets: Vec<IpSet>,
    interfaces: Vec<String>,
    recent_sizes: RecentSizes,
}

#[derive(Clone, Copy, Debug)]
enum Count {
    Bucket(Bucket),
    /// Bytes that are left, or packets that were counted.
    Number(u64),
}

impl MemoryPlan {
    /// A plan with the sets that rules may name, on a machine with these interfaces.
    #[must_use]
    pub fn new(sets: Vec<IpSet>, interfaces: &[&str], recent_sizes: RecentSizes) -> Self {
        let interfaces = interfaces.iter().map(|name| (*name).into()).collect();
        Self { sets, interfaces, recent_sizes, ..Self::default() }
    }

    /// Makes room for a match, and returns its place; `None` where it names a set that is not there.
    pub(super) fn place(&mut self, test: &Stateful, family: Family) -> Option<u32> {
        let place = match test {
            Stateful::Limit { cost, burst } => {
                self.count(Count::Bucket(Bucket::new(cost.saturating_mul((*burst).into()))))
            }
            Stateful::Quota(bytes) => self.count(Count::Number(*bytes)),
            Stateful::Every { every, packet } => {
                self.count(Count::Number(u64::from(every.saturating_sub(*packet).saturating_sub(1))))
            }
            Stateful::Random(_) => 0,
            Stateful::Hashlimit(test) => {
                let same = |(of, other): &(Family, HashlimitMatch)| *of == family && other.name == test.name;
                place_of(&mut self.hashlimits, same, || (family, test.clone()))
            }
            Stateful::Recent(test) => place_of(&mut self.recents, |list| *list == test.list, || test.list.clone()),
            Stateful::Connlimit(_) => {
                self.connlimits += 1;
                self.connlimits - 1
            }
            // A test of a MAC address cannot be answered.
            Stateful::Set(test) => return self.set(&test.set).filter(|place| !self.has_mac(*place)),
        };
        u32::try_from(place).ok()
    }

    /// Returns the place of a set.
    pub(super) fn set(&self, name: &str) -> Option<u32> {
        let place = self.sets.iter().position(|set| set.name == name)?;
        u32::try_from(place).ok()
    }

    fn has_mac(&self, set: u32) -> bool {
        let Some(set) = self.sets.get(set as usize) else { return false };
        let members = set.members.iter().filter_map(|name| self.sets.iter().find(|set| set.name == *name));
        [set].into_iter().chain(members).any(|set| set.parts.contains(&SetPart::Mac))
    }

    fn count(&mut self, count: Count) -> usize {
        self.counts.push(count);
        self.counts.len() - 1
    }
}

fn place_of<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    list.iter().position(is_it).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    })
}

/// Maximum number of connections that one rule counts.
const MOST_COUNTED: u32 = 65_536;

/// The state that the rules keep.
#[derive(Debug, Default)]
pub struct RuleMemory {
    counts: Box<[Count]>,
    hashlimits: Box<[Hashlimit]>,
    recents: Box<[RecentList]>,
    connlimits: Box<[Connlimit]>,
    pub(super) sets: SetState,
    pub(super) chance: Chance,
}

/// The choices where rules leave the outcome to chance, or to a tick of the clock.
#[derive(Debug)]
pub struct Chance {
    dice: PortChooser,
    /// Outcome of the packet at hand that a capture shows.
    pub(super) seen: Option<Outcome>,
    /// True or false if the match at hand must hold or must not, for that to come about.
    pub(super) wish: Option<bool>,
    followed: u64,
}

impl Default for Chance {
    fn default() -> Self {
        Self { dice: PortChooser::new([0; 2]), seen: None, wish: None, followed: 0 }
    }
}

/// The outcome of a packet elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Outcome {
    /// It left, to this address and port (0 where it has none).
    Leaves(IpAddr, u16),
    /// It was answered: an error or a reset left.
    Answered,
    /// Nothing left.
    Vanishes,
}

impl Chance {
    /// Notes what a capture shows of the next packet. It decides only where chance does, or a tick of the clock.
    pub const fn suggest(&mut self, seen: Option<Outcome>) {
        self.seen = seen;
    }

    /// Returns how often the capture decided.
    #[must_use]
    pub const fn followed(&self) -> u64 {
        self.followed
    }

    /// Returns what is to come about: `nominal`, unless it is open and a capture shows the opposite.
    pub(super) fn decide(&mut self, nominal: bool, is_open: bool) -> bool {
        match self.wish {
            Some(wish) if is_open && wish != nominal => {
                self.followed += 1;
                wish
            }
            _ => nominal,
        }
    }
}

impl RuleMemory {
    /// Takes the memory that a plan asks for, for a tracker of so many connections.
    #[must_use]
    pub fn new(plan: &MemoryPlan, connections: u32, seeds: [u64; 2]) -> Self {
        let recent = |_: &String| RecentList::new(plan.recent_sizes, seeds);
        let connlimit = |_| Connlimit::new(connections.min(MOST_COUNTED), seeds);
        Self {
            counts: plan.counts.clone().into(),
            hashlimits: plan.hashlimits.iter().map(|(_, test)| Hashlimit::new(test, seeds)).collect(),
            recents: plan.recents.iter().map(recent).collect(),
            connlimits: (0..plan.connlimits).map(connlimit).collect(),
            sets: SetState::new(&plan.sets, &plan.interfaces, seeds),
            chance: Chance { dice: PortChooser::new(seeds), ..Chance::default() },
        }
    }

    /// Returns the choices where rules leave the outcome to chance.
    pub const fn chance_mut(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// Returns the choices where rules leave the outcome to chance.
    #[must_use]
    pub const fn chance(&self) -> &Chance {
        &self.chance
    }
}

impl Stateful {
    /// Returns true if what a capture shows may decide.
    pub(super) const fn is_chancy(&self) -> bool {
        matches!(self, Self::Limit { .. } | Self::Hashlimit(_) | Self::Random(_))
    }

    /// Asks, and remembers; `None` where the rule does not match either way.
    pub(super) fn holds(&self, place: u32, conntrack: &Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<bool> {
        let (bytes, headers, now) = (subject.packet.bytes(), *subject.headers, subject.now);
        let place = place as usize;
        match self {
            Self::Limit { cost, burst } => {
                let memory = &mut *subject.memory;
                let Count::Bucket(bucket) = memory.counts.get_mut(place)? else { return None };
                let Verdict { is_enough, is_close } = bucket.ask(now, *cost, cost.saturating_mul((*burst).into()));
                let passes = memory.chance.decide(is_enough, is_close);
                if passes {
                    bucket.take(*cost)
                } else {
                    bucket.lack(*cost)
                }
                Some(passes)
            }
            Self::Hashlimit(test) => {
                let wants_ports = test.source_port || test.destination_port;
                let ports = headers.ports(bytes).unwrap_or_default();
                let ends = Ends { source: headers.source(bytes), destination: headers.destination(bytes), ports };
                if wants_ports && headers.ports(bytes).is_none() && has_ports(headers.protocol) {
                    subject.hot_drop = true;
                    return None;
                }
                let memory = &mut *subject.memory;
                let table = memory.hashlimits.get_mut(place)?;
                let Some((group, Verdict { is_enough, is_close })) = table.ask(test, &ends, now) else {
                    subject.hot_drop = true;
                    return None;
                };
                let wanted = memory.chance.decide(is_enough != test.above, is_close);
                table.settle(group, test.cost, wanted != test.above);
                Some(wanted)
            }
            Self::Recent(test) => {
                let address = if test.destination { headers.destination(bytes) } else { headers.source(bytes) };
                // The kernel counts the packets that are sent on as they were before their last hop.
                let ttl = headers.hop_limit(bytes);
                Some(subject.memory.recents.get_mut(place)?.ask(test, address, ttl, now))
            }
            Self::Connlimit(test) => {
                let id = subject.tracked.and_then(|tracked| tracked.connection);
                let address = if test.destination { headers.destination(bytes) } else { headers.source(bytes) };
                let count = id.and_then(|id| {
                    let connlimit = subject.memory.connlimits.get_mut(place)?;
                    connlimit.count(test, address, id, conntrack)
                });
                let Some(count) = count else {
                    subject.hot_drop = true;
                    return None;
                };
                Some((count <= test.bound) == test.upto)
            }
            Self::Quota(_) => {
                let length = headers.end as u64;
                let Count::Number(left) = subject.memory.counts.get_mut(place)? else { return None };
                let lasts = *left >= length;
                *left = if lasts { *left - length } else { 0 };
                Some(lasts)
            }
            Self::Every { every, .. } => {
                let Count::Number(count) = subject.memory.counts.get_mut(place)? else { return None };
                let is_last = *count == 0;
                *count = if is_last { u64::from(every.saturating_sub(1)) } else { *count - 1 };
                Some(is_last)
            }
            Self::Random(probability) => {
                let chance = &mut subject.memory.chance;
                let drawn = chance.dice.below(1 << 31) < *probability;
                let is_open = *probability > 0 && *probability < 1 << 31;
                Some(chance.decide(drawn, is_open))
            }
            Self::Set(test) => {
                let set = u32::try_from(place).ok()?;
                super::ipset::matches(test, set, subject)
            }
        }
    }
}

const fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP)
}
