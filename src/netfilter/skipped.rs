//! Tables that need not be asked about packets in a state: they would let every one pass.

use super::compiled::{Action, CompiledRule, CompiledTable, Rules, Test};
use super::nft::{Entry, Nft};
use super::rules::{Hook, Match, Policy, StateSet, TableName, Target};
use crate::conntrack::PacketState;
use crate::packet::Family;

impl Rules {
    /// Whom table raw asks about at a hook.
    #[inline]
    pub(crate) const fn asks_raw(&self, hook: Hook) -> RawScope {
        self.raw[hook as usize]
    }

    /// Which tables need not be asked about a packet in a state, and where.
    #[inline]
    pub(crate) const fn skipped(&self, state: PacketState) -> SkippedTables {
        self.skipped[StateSet::of_state(state).0.trailing_zeros() as usize]
    }

    /// Returns true if no table has anything to say of packets of an answered connection that arrive and are sent on.
    pub(crate) fn let_pass_what_is_sent_on(&self) -> bool {
        use {Hook::*, TableName::*};
        let skipped = self.skipped(PacketState::Established);
        let asked = [
            (Mangle, Prerouting),
            (Filter, Prerouting),
            (Mangle, Forward),
            (Filter, Forward),
            (Security, Forward),
            (Mangle, Postrouting),
            (Filter, Postrouting),
        ];
        self.asks_raw(Prerouting) != RawScope::All
            && !self.may_grow_packets()
            && asked.into_iter().all(|(table, hook)| skipped.includes(table, hook))
    }
}

impl CompiledTable {
    /// Packets that it must be asked about at a hook.
    pub(super) const fn asks(&self, hook: Hook) -> RawScope {
        match self.entries[hook as usize] {
            None => RawScope::None,
            Some(_) if self.only_begins[hook as usize] => RawScope::NewOnly,
            Some(_) => RawScope::All,
        }
    }

    /// Returns true if every packet in a state passes at a hook, whatever else it is, and no rule does anything to it.
    fn is_silent(&self, hook: Hook, state: StateSet) -> bool {
        let Some(entry) = self.entries[hook as usize] else { return true };
        let met = self.rules.iter().skip(entry as usize).find_map(|rule| match rule.foretell(state) {
            StaticOutcome::Fails => None,
            StaticOutcome::Matches => Some(&rule.action),
            StaticOutcome::Open => Some(&Action::Policy(Policy::Drop)),
        });
        matches!(met, Some(Action::Policy(Policy::Accept) | Action::Target(Target::Accept)))
    }
}

/// Packets that a table must be asked about at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawScope {
    None,
    /// Packets that may begin a connection: it says nothing but how they are tracked.
    NewOnly,
    All,
}

/// Tables that need not be asked about a packet, since they let it pass and do nothing to it: a bit for each hook of
/// each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SkippedTables(u32);

impl SkippedTables {
    /// Every table is to be asked.
    pub(crate) const NONE: Self = Self(0);

    /// Those that say nothing about packets in this state. Table raw is asked before there is one.
    pub(super) fn of(tables: &[Option<CompiledTable>; TableName::COUNT], state: StateSet) -> Self {
        let mut skipped = Self::default();
        for table in [TableName::Mangle, TableName::Nat, TableName::Filter, TableName::Security] {
            let says_nothing = |hook| tables[table as usize].as_ref().is_none_or(|t| t.is_silent(hook, state));
            for hook in Hook::ALL.into_iter().filter(|hook| says_nothing(*hook)) {
                skipped.0 |= Self::bit(table, hook);
            }
        }
        // Places in which iptables has no chains.
        for hook in [Hook::Input, Hook::Forward, Hook::Postrouting] {
            skipped.0 |= Self::bit(TableName::Raw, hook);
        }
        skipped
    }

    /// Takes away the places where chains of nftables do not let every packet in a state pass.
    pub(super) fn unless_nft_speaks(&mut self, nft: &Nft, family: Family, state: PacketState) {
        for table in TableName::ALL {
            for hook in Hook::ALL {
                let speaks = |entry: &Entry| matches!(entry, Entry::Nft(chain) if !nft.is_silent(*chain, state));
                if nft.slots(family).at(table, hook).iter().any(speaks) {
                    self.0 &= !Self::bit(table, hook);
                }
            }
        }
    }

    /// Returns true if this table need not be asked at this hook.
    #[inline]
    pub(crate) const fn includes(self, table: TableName, hook: Hook) -> bool {
        self.0 & Self::bit(table, hook) != 0
    }

    #[inline]
    pub(super) const fn bit(table: TableName, hook: Hook) -> u32 {
        1 << (table as u32 * Hook::ALL.len() as u32 + hook as u32)
    }
}

/// Every state a packet can be in, in the order of [`StateSet`]'s bits.
pub(super) const STATES: [PacketState; 5] = [
    PacketState::Invalid(crate::conntrack::InvalidReason::Header),
    PacketState::New,
    PacketState::Established,
    PacketState::Related,
    PacketState::Untracked,
];

/// Outcome of a rule as far as it follows from the packet's state alone.
enum StaticOutcome {
    /// It matches.
    Matches,
    /// It does not match, and asking it does nothing.
    Fails,
    Open,
}

impl CompiledRule {
    fn foretell(&self, state: StateSet) -> StaticOutcome {
        let mut foretold = StaticOutcome::Matches;
        for condition in &self.conditions {
            match &condition.test {
                Test::State(states) if !states.intersects(StateSet::SNAT.union(StateSet::DNAT)) => {
                    if states.intersects(state) == condition.negated {
                        return StaticOutcome::Fails;
                    }
                }
                test if test.has_effects() => return StaticOutcome::Open,
                _ => foretold = StaticOutcome::Open,
            }
        }
        foretold
    }
}

impl Test {
    /// Returns true if all that asking it may do is to drop the packet.
    pub(super) const fn only_drops(&self) -> bool {
        use Match::{DestinationPorts, Ports, SourcePorts, TcpFlags};
        matches!(
            self,
            Self::DestinationPort(_)
                | Self::Other(SourcePorts(_) | DestinationPorts(_) | Ports(_) | TcpFlags { .. } | Match::Number(_))
        )
    }

    /// Returns true if asking it may drop the packet, or note that it is not understood.
    pub(super) const fn has_effects(&self) -> bool {
        use Match::{Chunks, DestinationPorts, OfSocket, Ports, SetLabel, SourcePorts, TcpFlags, Unknown};
        match self {
            Self::DestinationPort(_) | Self::Stateful(..) => true,
            Self::Other(SourcePorts(_) | DestinationPorts(_) | Ports(_) | TcpFlags { .. }) => true,
            Self::Other(Unknown(_) | OfSocket { .. } | SetLabel(_) | Chunks(_)) => true,
            Self::Other(Match::Number(test)) => test.number.may_drop(),
            _ => false,
        }
    }
}

impl StateSet {
    #[inline]
    pub(super) const fn of_state(state: PacketState) -> Self {
        match state {
            PacketState::New => Self::NEW,
            PacketState::Established => Self::ESTABLISHED,
            PacketState::Related => Self::RELATED,
            PacketState::Untracked => Self::UNTRACKED,
            PacketState::Invalid(_) => Self::INVALID,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{EvalContext, HostInfo, RuleVerdict, Tracking};
    use super::super::memory::RuleMemory;
    use super::super::nft::NftState;
    use super::super::rules::Masked;
    use super::super::rules::{AddressTypes, Cidr, Condition, Rule, Ruleset};
    use super::*;
    use crate::Instant;
    use crate::conntrack::{Conntrack, Tracked};
    use crate::nat::PortRange;
    use crate::packet::{Headers, Packet, Protocol};
    use alloc::vec;
    use core::net::IpAddr;
    use proptest::prelude::*;

    struct Nowhere;

    impl HostInfo for Nowhere {
        fn address_type(&self, _: IpAddr) -> AddressTypes {
            AddressTypes::UNICAST
        }

        fn path_mtu(&self, _: IpAddr, _: IpAddr) -> usize {
            1500
        }
    }

    /// 10.0.0.1:1024 > 10.0.0.2:21, TCP; whole, and so short that a match on ports drops it.
    const PACKETS: [&[u8]; 2] = [
        &[
            0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, //
            4, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 255, 255, 0, 0, 0, 0,
        ],
        &[0x45, 0, 0, 24, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 21],
    ];

    /// Returns what FORWARD of table filter says of a packet in a state, and whether it did anything.
    fn ask_forward(rules: &Rules, packet: &[u8], state: PacketState) -> (bool, bool) {
        let limits = crate::conntrack::Limits::new(1, 1, 1);
        let mut conntrack = Conntrack::new(crate::conntrack::ConntrackConfig { limits, ..Default::default() }, [1, 2]);
        let mut buffer = packet.to_vec();
        let len = buffer.len();
        let mut packet = Packet::new(&mut buffer, 0..len).unwrap();
        let mut headers = Headers::find(packet.bytes()).unwrap();
        let tracked = Tracked { state, ..Tracked::UNTRACKED };
        let mut subject = EvalContext {
            packet: &mut packet,
            headers: &mut headers,
            in_interface: Some(0),
            out_interface: None,
            tracked: Some(&tracked),
            tracking: &mut Tracking::None,
            surroundings: &Nowhere,
            now: Instant::from_secs(0),
            nft: &mut NftState::default(),
            memory: &mut RuleMemory::default(),
            hot_drop: false,
            logged: None,
            not_understood: None,
        };
        let verdict = rules.evaluate(TableName::Filter, Hook::Forward, &mut conntrack, &mut subject);
        let noted = subject.hot_drop || subject.logged.is_some() || subject.not_understood.is_some();
        (verdict == RuleVerdict::Accept, noted || subject.packet.mark != 0)
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        let test = prop_oneof![
            4 => (1u8..128).prop_map(|states| Match::ConnectionState(StateSet(states))),
            1 => Just(Match::Protocol(Protocol::TCP)),
            1 => Just(Match::Protocol(Protocol::UDP)),
            1 => Just(Match::InInterface("lan".into())),
            1 => Just(Match::Source(Cidr::new([10, 0, 0, 0].into(), 8).unwrap())),
            1 => Just(Match::DestinationPorts(vec![PortRange::one(21)])),
            1 => Just(Match::SourcePorts(vec![PortRange::one(21)])),
            1 => Just(Match::TcpFlags { mask: 2, set: 0 }),
            1 => Just(Match::Unknown("-m moon".into())),
        ];
        (test, any::<bool>()).prop_map(|(test, negated)| Condition { test, negated })
    }

    fn any_target() -> impl Strategy<Value = Target> {
        prop_oneof![
            Just(Target::Accept),
            Just(Target::Drop),
            Just(Target::Return),
            Just(Target::Continue),
            Just(Target::Unknown("MOON".into())),
            Just(Target::Jump("other".into())),
            Just(Target::Goto("other".into())),
            Just(Target::Mark(Masked { value: 1, mask: 1 })),
        ]
    }

    proptest! {
        /// A skipped table would have accepted the packet and changed nothing.
        #[test]
        fn silence_is_consent(
            rules in prop::collection::vec((prop::collection::vec(any_condition(), 0..3), any_target()), 0..5),
            drops: bool,
        ) {
            let mut ruleset = Ruleset::default();
            let other = ruleset.table_mut(TableName::Filter).chain_mut("other");
            other.rules.push(Rule::new(Target::Drop));
            for (conditions, target) in rules {
                let mut rule = Rule::new(target);
                rule.conditions = conditions;
                ruleset.append(TableName::Filter, Hook::Forward, rule);
            }
            if drops {
                ruleset.table_mut(TableName::Filter).chain_mut("FORWARD").policy = Some(Policy::Drop);
            }
            let rules = Rules::new(&ruleset, &["lan"]).unwrap();
            for state in STATES.into_iter().filter(|s| rules.skipped(*s).includes(TableName::Filter, Hook::Forward)) {
                for packet in PACKETS {
                    prop_assert_eq!(ask_forward(&rules, packet, state), (true, false), "{:?}", state);
                }
            }
        }
    }

    #[test]
    fn who_accepts_the_established_first_is_not_asked_about_them() {
        let mut ruleset = Ruleset::default();
        let states = |states| Match::ConnectionState(states);
        let known = StateSet::ESTABLISHED.union(StateSet::RELATED);
        ruleset.append(TableName::Filter, Hook::Forward, Rule::new(Target::Drop).when(states(StateSet::INVALID)));
        ruleset.append(TableName::Filter, Hook::Forward, Rule::new(Target::Accept).when(states(known)));
        ruleset.append(TableName::Filter, Hook::Forward, Rule::new(Target::Drop));
        let rules = Rules::new(&ruleset, &[]).unwrap();
        let skipped = STATES.map(|state| rules.skipped(state).includes(TableName::Filter, Hook::Forward));
        assert_eq!(skipped, [false, false, true, true, false]);
        assert!(!rules.skipped(PacketState::Established).includes(TableName::Raw, Hook::Prerouting));
    }
}
