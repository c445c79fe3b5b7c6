//! Asks the chains of nftables about a packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::apply_target::clamp_mss;
use super::super::connlimit::ConnlimitMatch;
use super::super::context::{EvalContext, RuleVerdict, Tracking, WayBack};
use super::super::edit::{self, PacketEdit};
use super::super::memory::Outcome as Seen;
use super::super::number::extension_header;
use super::super::rules::{AddressTypes, Policy};
use super::compile::{
    Code, CompiledData, CompiledNat, CompiledNatValue, CompiledVerdict, Instruction, MAX_STACK, Nft, Step, name_value,
};
use super::dynamic;
use super::model::{CtKey, Expression, FibInterface, FibResult, Header, MetaKey, NatKind, Operator, SetAction, Span};
use crate::conntrack::{Connection, Conntrack, Direction, PacketState, Status, Template, Tuple};
use crate::nat::jenkins::hash_bytes;
use crate::nat::{NatRange, PortRange};
use crate::packet::{Family, Layer4, Protocol, TcpOptions};

/// The bits of `ct state`, as nft counts them.
pub(super) const fn state_bit(state: PacketState) -> u128 {
    match state {
        PacketState::Invalid(_) => 1,
        PacketState::Established => 2,
        PacketState::Related => 4,
        PacketState::New => 8,
        PacketState::Untracked => 64,
    }
}

/// The values that an expression leaves.
struct Stack {
    values: [u128; MAX_STACK],
    len: usize,
}

impl Stack {
    const fn new() -> Self {
        Self { values: [0; MAX_STACK], len: 0 }
    }

    fn push(&mut self, value: u128) -> Option<()> {
        *self.values.get_mut(self.len)? = value;
        self.len += 1;
        Some(())
    }

    fn pop(&mut self) -> Option<u128> {
        self.len = self.len.checked_sub(1)?;
        self.values.get(self.len).copied()
    }

    fn top(&self) -> Option<u128> {
        self.values.get(self.len.checked_sub(1)?).copied()
    }

    fn values(&self) -> &[u128] {
        self.values.get(..self.len).unwrap_or_default()
    }
}

/// The outcome of a rule's statements.
enum Outcome {
    /// A statement does not match, or all were carried out.
    Next,
    Final(RuleVerdict),
    Chain(CompiledVerdict),
}

impl Nft {
    /// Asks a base chain. `first_rule` is added to the numbers of rules that are noted.
    pub(crate) fn evaluate(
        &self,
        chain: u32,
        first_rule: u32,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> RuleVerdict {
        let verdict = self.run(chain, first_rule, conntrack, subject);
        verdict.unwrap_or_else(|| match self.chains.get(chain as usize).and_then(|chain| chain.policy) {
            Some(Policy::Drop) => RuleVerdict::Drop,
            _ => RuleVerdict::Accept,
        })
    }

    /// Asks the rules of a chain; `None` where it returns. Chains that call each other too deep were refused.
    fn run(
        &self,
        chain: u32,
        first_rule: u32,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<RuleVerdict> {
        for rule in &self.chains.get(chain as usize)?.rules {
            let mut outcome = Outcome::Next;
            for (at, step) in rule.steps.iter().enumerate() {
                if step.is_chancy() {
                    let after = rule.steps.get(at + 1..).unwrap_or_default();
                    subject.memory.chance.wish = wish(after, subject.memory.chance.seen);
                }
                match self.step(step, rule.number + first_rule, conntrack, subject) {
                    Some(Outcome::Next) => {}
                    Some(other) => {
                        outcome = other;
                        break;
                    }
                    None => break,
                }
            }
            match outcome {
                Outcome::Next => {}
                Outcome::Final(verdict) => return Some(verdict),
                Outcome::Chain(CompiledVerdict::Accept) => return Some(RuleVerdict::Accept),
                Outcome::Chain(CompiledVerdict::Drop) => return Some(RuleVerdict::Drop),
                Outcome::Chain(CompiledVerdict::Return) => return None,
                Outcome::Chain(CompiledVerdict::Continue) => {}
                Outcome::Chain(CompiledVerdict::Goto(called)) => {
                    return self.run(called, first_rule, conntrack, subject);
                }
                Outcome::Chain(CompiledVerdict::Jump(called)) => {
                    if let Some(verdict) = self.run(called, first_rule, conntrack, subject) {
                        return Some(verdict);
                    }
                }
            }
        }
        None
    }

    /// Carries out a statement; `None` where it does not match.
    fn step(
        &self,
        step: &Step,
        rule: u32,
        conntrack: &mut Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<Outcome> {
        match step {
            Step::Match { code, operator, spans } => {
                let value = self.value(code, rule, conntrack, subject)?;
                compares(value, *operator, spans).then_some(Outcome::Next)
            }
            Step::Lookup { code, set, negated } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let found = self.has(*set, stack.values(), subject)?;
                (found != *negated).then_some(Outcome::Next)
            }
            Step::Verdict(verdict) => Some(Outcome::Chain(*verdict)),
            Step::VerdictMap { code, set } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let CompiledData::Verdict(verdict) = self.find(*set, stack.values(), subject)? else { return None };
                // `continue` goes on within the rule: its other statements follow.
                Some(if *verdict == CompiledVerdict::Continue { Outcome::Next } else { Outcome::Chain(*verdict) })
            }
            Step::SetMark(code) => {
                subject.packet.mark = self.value(code, rule, conntrack, subject)? as u32;
                Some(Outcome::Next)
            }
            Step::SetCtMark(code) => {
                let mark = self.value(code, rule, conntrack, subject)? as u32;
                if let Some(id) = subject.tracked.and_then(|tracked| tracked.connection) {
                    conntrack.set_mark(id, mark);
                }
                Some(Outcome::Next)
            }
            Step::SetZone(code) => {
                let zone = self.value(code, rule, conntrack, subject)? as u16;
                // The first zone is right; a packet that was not to be tracked is, then (seen on 6.18).
                if subject.tracked.is_none() && matches!(*subject.tracking, Tracking::Usual | Tracking::None) {
                    *subject.tracking = Tracking::Template(Template { zone, ..Template::default() });
                }
                Some(Outcome::Next)
            }
            Step::SetHelper(is_ftp) => {
                set_helper(*is_ftp, conntrack, subject);
                Some(Outcome::Next)
            }
            Step::NoTrack => {
                if subject.tracked.is_none() && *subject.tracking == Tracking::Usual {
                    *subject.tracking = Tracking::None;
                }
                Some(Outcome::Next)
            }
            Step::Nat(nat) => self.nat(nat, rule, conntrack, subject),
            Step::MaxSeg(size) => {
                if let Layer4::Tcp(_) = subject.headers.layer4 {
                    lower_mss(*size, subject);
                    Some(Outcome::Next)
                } else {
                    None
                }
            }
            Step::Reject { with, family } => {
                let is_tcp = subject.headers.protocol == Protocol::TCP;
                let applies = match with {
                    super::super::rules::RejectWith::TcpReset => is_tcp,
                    _ => family.is_none_or(|family| family == subject.headers.family),
                };
                applies.then_some(Outcome::Final(RuleVerdict::Reject(*with)))
            }
            Step::Log => {
                subject.logged = Some(rule as usize);
                Some(Outcome::Next)
            }
            Step::Meter(number) => self.meter(*number, subject),
            Step::MeterBy { code, set } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let CompiledData::Meter(number) = self.find(*set, stack.values(), subject)? else { return None };
                self.meter(*number, subject)
            }
            Step::SetHelperBy { code, set } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let CompiledData::Helper(is_ftp) = self.find(*set, stack.values(), subject)? else { return None };
                set_helper(*is_ftp, conntrack, subject);
                Some(Outcome::Next)
            }
            Step::Count { number, bound, over } => {
                let id = subject.tracked?.connection?;
                let test = ConnlimitMatch { bound: *bound, upto: true, prefix: 0, destination: false };
                let address = subject.headers.source(subject.packet.bytes());
                let counted = subject.nft.counts.get_mut(*number as usize)?.count(&test, address, id, conntrack);
                let Some(count) = counted else { return Some(Outcome::Final(RuleVerdict::Drop)) };
                ((count > *bound) == *over).then_some(Outcome::Next)
            }
            Step::Edit(edit) => {
                let applies = match edit {
                    PacketEdit::SetHopLimit(_) | PacketEdit::TrafficClass { .. } => true,
                    _ => subject.headers.protocol == Protocol::TCP,
                };
                if applies {
                    edit::apply(*edit, subject);
                }
                applies.then_some(Outcome::Next)
            }
            Step::Update { action, code, set, timeout, meter } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let compiled = self.sets.get(*set as usize)?;
                let key = dynamic::key(stack.values(), &compiled.parts);
                let (now, length) = (subject.now, subject.packet.bytes().len());
                let elements = subject.nft.sets.get_mut(compiled.dynamic? as usize)?;
                let renews = *action == SetAction::Update;
                if *action == SetAction::Delete {
                    elements.remove(&key, now);
                    return Some(Outcome::Next);
                }
                match elements.add(&key, now, renews, *timeout, *meter)? {
                    Some(meter) => meter.passes(now, length, &mut subject.memory.chance).then_some(Outcome::Next),
                    None => Some(Outcome::Next),
                }
            }
            Step::Unknown => {
                subject.not_understood = Some(rule as usize);
                None
            }
        }
    }

    fn meter(&self, number: u32, subject: &mut EvalContext<'_, '_>) -> Option<Outcome> {
        let (now, length) = (subject.now, subject.packet.bytes().len());
        let meter = subject.nft.meters.get_mut(number as usize)?;
        meter.passes(now, length, &mut subject.memory.chance).then_some(Outcome::Next)
    }

    /// Returns true if a set has a key.
    fn has(&self, set: u32, key: &[u128], subject: &mut EvalContext<'_, '_>) -> Option<bool> {
        let set = self.sets.get(set as usize)?;
        let Some(elements) = set.dynamic else { return Some(set.lookup.find(key).is_some()) };
        let (now, length) = (subject.now, subject.packet.bytes().len());
        let elements = subject.nft.sets.get_mut(elements as usize)?;
        match elements.hit(&dynamic::key(key, &set.parts), now) {
            None => Some(false),
            // An element's own limit is asked by whoever finds the element (seen on 6.18).
            Some(Some(meter)) => meter.passes(now, length, &mut subject.memory.chance).then_some(true),
            Some(None) => Some(true),
        }
    }

    /// Returns the data that a map has for a key.
    fn find(&self, set: u32, key: &[u128], subject: &mut EvalContext<'_, '_>) -> Option<&CompiledData> {
        let set = self.sets.get(set as usize)?;
        let number = match set.dynamic {
            None => set.lookup.find(key)?,
            Some(elements) => {
                let elements = subject.nft.sets.get_mut(elements as usize)?;
                elements.number(&dynamic::key(key, &set.parts), subject.now)?
            }
        };
        set.data.get(number as usize)
    }

    /// Computes an expression of one part.
    fn value(&self, code: &Code, rule: u32, conntrack: &Conntrack, subject: &mut EvalContext<'_, '_>) -> Option<u128> {
        // Most expressions are one value of the packet.
        if let [Instruction::Load(expression)] = &**code {
            return self.load(expression, rule, conntrack, subject);
        }
        self.compute(code, rule, conntrack, subject)?.top()
    }

    /// Computes a key; `None` where the packet has not got what is asked for.
    fn compute(
        &self,
        code: &Code,
        rule: u32,
        conntrack: &Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<Stack> {
        let mut stack = Stack::new();
        for instruction in code {
            match instruction {
                Instruction::Load(expression) => {
                    let value = self.load(expression, rule, conntrack, subject)?;
                    stack.push(value)?;
                }
                Instruction::And | Instruction::Or | Instruction::Xor => {
                    let (right, left) = (stack.pop()?, stack.pop()?);
                    stack.push(match instruction {
                        Instruction::And => left & right,
                        Instruction::Or => left | right,
                        _ => left ^ right,
                    })?;
                }
                Instruction::ShiftLeft(bits) => {
                    let value = stack.pop()?;
                    stack.push(value.checked_shl(u32::from(*bits)).unwrap_or(0) & 0xffff_ffff)?;
                }
                Instruction::ShiftRight(bits) => {
                    let value = stack.pop()?;
                    stack.push(value.checked_shr(u32::from(*bits)).unwrap_or(0))?;
                }
                Instruction::Map { parts, set } => {
                    let below = stack.len.checked_sub(*parts)?;
                    let key = stack.values().get(below..)?;
                    let CompiledData::Values(values) = self.find(*set, key, subject)? else {
                        return None;
                    };
                    let value = values.first()?.first;
                    stack.len = below;
                    stack.push(value)?;
                }
                Instruction::Hash { parts, modulus, seed, offset } => {
                    let below = stack.len.checked_sub(parts.len())?;
                    let hash = hash_of(stack.values().get(below..)?, parts, *seed);
                    // The hash's share of its range, of so many numbers.
                    let value = (u64::from(hash) * u64::from(*modulus)) >> 32;
                    stack.len = below;
                    stack.push(u128::from(value) + u128::from(*offset))?;
                }
                Instruction::Counter { modulus, offset, number } => {
                    let next = subject.nft.counters.get_mut(*number as usize)?;
                    let value = *next;
                    *next = if value + 1 >= *modulus { 0 } else { value + 1 };
                    stack.push(u128::from(value) + u128::from(*offset))?;
                }
            }
        }
        Some(stack)
    }

    /// Reads a value of a packet or its connection.
    fn load(
        &self,
        expression: &Expression,
        rule: u32,
        conntrack: &Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<u128> {
        match expression {
            Expression::Value(value) => Some(*value),
            Expression::Payload { header, offset, bits } => payload(*header, *offset, *bits, subject),
            Expression::Meta(key) => self.meta(*key, rule, subject),
            Expression::Ct(key) => ct(*key, conntrack, subject),
            Expression::TcpOption { kind, offset, bits } => tcp_option(*kind, *offset, *bits, subject),
            Expression::ExtensionHeader(kind) => has_extension_header(*kind, subject),
            Expression::ExtensionField { kind, offset, bits } => extension_field(*kind, *offset, *bits, subject),
            Expression::IpOption { kind, offset, bits } => ip_option(*kind, *offset, *bits, subject),
            Expression::Fib { source, interface, result } => self.fib(*source, *interface, *result, subject),
            _ => {
                subject.not_understood = Some(rule as usize);
                None
            }
        }
    }

    fn meta(&self, key: MetaKey, rule: u32, subject: &mut EvalContext<'_, '_>) -> Option<u128> {
        let name = |interface: Option<usize>| match interface {
            None => Some(0),
            Some(interface) => self.names.get(interface).copied(),
        };
        let headers = &subject.headers;
        match key {
            MetaKey::Mark => Some(u128::from(subject.packet.mark)),
            MetaKey::InName => name(subject.in_interface),
            MetaKey::OutName => name(subject.out_interface),
            MetaKey::Layer4Protocol => Some(u128::from(headers.protocol.0)),
            MetaKey::Family => Some(headers.family as u128),
            MetaKey::EtherType => Some(if headers.family == Family::V4 { 0x800 } else { 0x86dd }),
            MetaKey::Length => Some(subject.packet.bytes().len() as u128),
            MetaKey::PacketType => {
                // Broadcasts and multicasts come as such: this machine's own are not known by their frames.
                let kinds = subject.surroundings.address_type(headers.destination(subject.packet.bytes())).0;
                Some(match subject.in_interface {
                    Some(_) if kinds & AddressTypes::BROADCAST.0 != 0 => 1,
                    Some(_) if kinds & AddressTypes::MULTICAST.0 != 0 => 2,
                    _ => 0,
                })
            }
            MetaKey::Time => u128::try_from(subject.now.micros()).ok().map(|micros| micros * 1000),
            // 1 January 1970 was a Thursday.
            MetaKey::Day => {
                Some((subject.now.micros().div_euclid(1_000_000).div_euclid(86_400) + 4).rem_euclid(7) as u128)
            }
            MetaKey::Hour => Some(subject.now.micros().div_euclid(1_000_000).rem_euclid(86_400) as u128),
            MetaKey::SocketUser => {
                // A forwarded packet has no socket here; the socket of this machine's own packets is not known.
                if subject.in_interface.is_none() {
                    subject.not_understood = Some(rule as usize);
                }
                None
            }
        }
    }

    fn fib(
        &self,
        source: bool,
        interface: FibInterface,
        result: FibResult,
        subject: &EvalContext<'_, '_>,
    ) -> Option<u128> {
        let bytes = subject.packet.bytes();
        let headers = &subject.headers;
        let address = if source { headers.source(bytes) } else { headers.destination(bytes) };
        let limited = match interface {
            FibInterface::Any => None,
            FibInterface::In => subject.in_interface,
            FibInterface::Out => subject.out_interface,
        };
        if result == FibResult::Type {
            return Some(route_type(subject.surroundings.route_type(address, limited).0));
        }
        let found = match subject.surroundings.way_back(address) {
            WayBack::Via(interface) if limited.is_none_or(|limited| limited == interface) => Some(interface),
            _ => None,
        };
        let name = found.and_then(|interface| self.names.get(interface).copied()).unwrap_or(0);
        Some(if result == FibResult::Exists { u128::from(name != 0) } else { name })
    }

    fn nat(
        &self,
        nat: &CompiledNat,
        rule: u32,
        conntrack: &Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<Outcome> {
        let family = subject.headers.family;
        if nat.family.is_some_and(|wanted| wanted != family) {
            return None;
        }
        let mut range = NatRange { random: nat.random, persistent: nat.persistent, ..NatRange::default() };
        if let Some(value) = &nat.address {
            let (addresses, ports) = self.nat_value(value, rule, conntrack, subject)?;
            let addresses = if nat.netmap { netmap(addresses, nat.kind, subject) } else { addresses };
            range.addresses = Some((address(family, addresses.first), address(family, addresses.last)));
            range.ports = ports.map(port_range);
        }
        if let Some(value) = &nat.port {
            range.ports = Some(port_range(self.nat_value(value, rule, conntrack, subject)?.0));
        }
        Some(Outcome::Final(match nat.kind {
            NatKind::Snat | NatKind::Dnat => RuleVerdict::Map(range),
            NatKind::Masquerade => RuleVerdict::Masquerade(range),
            NatKind::Redirect => RuleVerdict::Redirect(range),
        }))
    }

    /// Returns a value, and the second one where a map has two.
    fn nat_value(
        &self,
        value: &CompiledNatValue,
        rule: u32,
        conntrack: &Conntrack,
        subject: &mut EvalContext<'_, '_>,
    ) -> Option<(Span, Option<Span>)> {
        match value {
            CompiledNatValue::Span(span) => Some((*span, None)),
            CompiledNatValue::Computed(code) => {
                let value = self.value(code, rule, conntrack, subject)?;
                Some((Span::one(value), None))
            }
            CompiledNatValue::Map { code, set } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let CompiledData::Values(values) = self.find(*set, stack.values(), subject)? else { return None };
                Some((*values.first()?, values.get(1).copied()))
            }
        }
    }
}

/// The address whose network is that of `to` and whose host is that of the packet's.
fn netmap(to: Span, kind: NatKind, subject: &EvalContext<'_, '_>) -> Span {
    let bytes = subject.packet.bytes();
    let old = match kind {
        NatKind::Snat | NatKind::Masquerade => subject.headers.source(bytes),
        NatKind::Dnat | NatKind::Redirect => subject.headers.destination(bytes),
    };
    let host = to.first ^ to.last;
    Span::one((to.first & !host) | (address_bits(old) & host))
}

const fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

const fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits() as u128,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

const fn port_range(span: Span) -> PortRange {
    PortRange { first: span.first as u16, last: span.last as u16 }
}

/// A span that ends before it begins is one over midnight.
const fn holds(span: Span, value: u128) -> bool {
    if span.first <= span.last { span.contains(value) } else { value >= span.first || value <= span.last }
}

fn compares(value: u128, operator: Operator, spans: &[Span]) -> bool {
    let first = spans.first().map_or(0, |span| span.first);
    match operator {
        Operator::Equal => spans.iter().any(|span| holds(*span, value)),
        Operator::NotEqual => !spans.iter().any(|span| holds(*span, value)),
        Operator::Less => value < first,
        Operator::AtMost => value <= first,
        Operator::More => value > first,
        Operator::AtLeast => value >= first,
        Operator::AnyBit => value & first != 0,
        Operator::NoBit => value & first == 0,
    }
}

/// Returns bits of a header that the packet has.
fn payload(header: Header, offset: u16, bits: u16, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let headers = &subject.headers;
    let is_later_part = headers.fragment.is_some_and(|fragment| fragment.offset != 0);
    let base = match header {
        Header::Ipv4 if headers.family != Family::V4 => return None,
        Header::Ipv6 if headers.family != Family::V6 => return None,
        Header::Ipv4 | Header::Ipv6 | Header::Network => 0,
        Header::Protocol(protocol) if headers.protocol.0 != protocol => return None,
        Header::Transport | Header::Protocol(_) if is_later_part => return None,
        Header::Transport | Header::Protocol(_) => headers.transport,
    };
    bits_at(subject.packet.bytes().get(base..headers.end)?, usize::from(offset), usize::from(bits))
}

/// Returns at most 128 bits, of which `offset` others stand in front.
fn bits_at(bytes: &[u8], offset: usize, bits: usize) -> Option<u128> {
    if bits == 0 || bits > 128 {
        return None;
    }
    let end = offset + bits;
    let mut value: u128 = 0;
    let mut left = bits;
    for (index, byte) in bytes.get(offset / 8..end.div_ceil(8))?.iter().enumerate() {
        let skipped = if index == 0 { offset % 8 } else { 0 };
        let taken = (8 - skipped).min(left);
        let part = (u128::from(*byte) << skipped & 0xff) >> (8 - taken);
        value = value.checked_shl(taken as u32).unwrap_or(0) | part;
        left -= taken;
    }
    Some(value)
}

fn tcp_option(kind: u8, offset: u16, bits: u16, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let bytes = subject.packet.bytes();
    let Layer4::Tcp(_) = subject.headers.layer4 else {
        return (bits == 0).then_some(0);
    };
    let mut options = subject.headers.tcp_options(bytes).iter().map_while(Result::ok);
    let found = options.find(|(found, ..)| *found == kind);
    if bits == 0 {
        return Some(u128::from(found.is_some()));
    }
    // The option's own kind and length stand in front of its value.
    let (_, _, value) = found?;
    bits_at(value, usize::from(offset).checked_sub(16)?, usize::from(bits))
}

/// Returns true if the packet has an extension header.
fn has_extension_header(wanted: u8, subject: &EvalContext<'_, '_>) -> Option<u128> {
    (subject.headers.family == Family::V6).then(|| u128::from(extension_header(wanted, subject).is_some()))
}

fn extension_field(kind: u8, offset: u16, bits: u16, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let at = extension_header(kind, subject)?;
    bits_at(subject.packet.bytes().get(at..)?, usize::from(offset), usize::from(bits))
}

/// Bits of an IPv4 option (RFC 791 section 3.1).
fn ip_option(wanted: u8, offset: u16, bits: u16, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let (headers, bytes) = (&subject.headers, subject.packet.bytes());
    if headers.family != Family::V4 {
        return None;
    }
    let end = usize::from(bytes.first()? & 15) * 4;
    let (mut at, mut found) = (20, None);
    while at < end {
        match bytes.get(at..end)? {
            [0, ..] => break,
            [1, ..] => at += 1,
            [kind, length, ..] if *length >= 2 => {
                if *kind == wanted {
                    found = bytes.get(at..at + usize::from(*length));
                    break;
                }
                at += usize::from(*length);
            }
            _ => break,
        }
    }
    match bits {
        0 => Some(u128::from(found.is_some())),
        _ => bits_at(found?, usize::from(offset), usize::from(bits)),
    }
}

/// The hash of a key: of the bytes of its parts, each padded to a multiple of four.
fn hash_of(values: &[u128], parts: &[u8], seed: u32) -> u32 {
    let mut bytes = [0; 16 * MAX_STACK];
    let mut end = 0;
    for (value, bits) in values.iter().zip(parts) {
        let length = usize::from(*bits).div_ceil(8);
        let all = value.to_be_bytes();
        let own = all.get(16 - length.min(16)..).unwrap_or_default();
        bytes.iter_mut().skip(end).zip(own).for_each(|(to, from)| *to = *from);
        end += length.next_multiple_of(4);
    }
    hash_bytes(bytes.get(..end).unwrap_or_default(), seed)
}

/// Returns true if a rule must go on for what a capture shows to come about, and false if it must not.
fn wish(after: &[Step], seen: Option<Seen>) -> Option<bool> {
    let seen = seen?;
    // Only where nothing else decides before the verdict.
    let is_certain = |step: &&Step| {
        matches!(step, Step::Log | Step::SetMark(_) | Step::SetCtMark(_) | Step::Edit(_) | Step::MaxSeg(_))
    };
    match after.iter().find(|step| !is_certain(step))? {
        Step::Verdict(CompiledVerdict::Accept) => Some(matches!(seen, Seen::Leaves(..))),
        Step::Verdict(CompiledVerdict::Drop) => Some(seen == Seen::Vanishes),
        Step::Reject { .. } => Some(seen == Seen::Answered),
        _ => None,
    }
}

impl Step {
    /// Returns true if what a capture shows may decide.
    const fn is_chancy(&self) -> bool {
        matches!(self, Self::Meter(_) | Self::MeterBy { .. } | Self::Update { meter: Some(_), .. })
    }
}

/// The kernel's number of a route's type (`RTN_*`).
const fn route_type(kinds: u16) -> u128 {
    if kinds & AddressTypes::LOCAL.0 != 0 {
        2
    } else if kinds & AddressTypes::BROADCAST.0 != 0 {
        3
    } else if kinds & AddressTypes::MULTICAST.0 != 0 {
        5
    } else if kinds & AddressTypes::UNICAST.0 != 0 {
        1
    } else {
        0
    }
}

fn ct(key: CtKey, conntrack: &Conntrack, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let Some(tracked) = subject.tracked else {
        // Before conntrack a packet is invalid, or untracked by a rule.
        return match (key, &*subject.tracking) {
            (CtKey::State, Tracking::None) => Some(64),
            (CtKey::State, Tracking::Usual) => Some(1),
            // One for which a rule set a zone is new, and nothing else is known of it (seen on 6.18).
            (CtKey::State, Tracking::Template(_)) => Some(8),
            _ => None,
        };
    };
    if key == CtKey::State {
        return Some(state_bit(tracked.state));
    }
    let connection = conntrack.get(tracked.connection?)?;
    let tuple = |reply: bool| connection.tuple(if reply { Direction::Reply } else { Direction::Original });
    Some(match key {
        CtKey::State => return None,
        CtKey::Status => status(connection),
        CtKey::Mark => u128::from(connection.mark()),
        CtKey::Direction => u128::from(tracked.direction == Direction::Reply),
        CtKey::Helper => {
            if connection.master().is_none() || !connection.master_had_helper() {
                return None;
            }
            name_value("ftp")
        }
        CtKey::Zone => u128::from(connection.tuple(Direction::Original).zone()),
        CtKey::Family => tuple(false).family() as u128,
        CtKey::Protocol => u128::from(connection.protocol().0),
        CtKey::Address { reply, source, family } => {
            let tuple = tuple(reply);
            if family.is_some_and(|family| family != tuple.family()) {
                return None;
            }
            end(tuple, source).0
        }
        CtKey::Port { reply, source } => end(tuple(reply), source).1,
        CtKey::AveragePacket { reply } => {
            let packets = counted(connection, reply, |counters| counters.packets);
            counted(connection, reply, |counters| counters.bytes).checked_div(packets).unwrap_or(0)
        }
        CtKey::Packets { reply } => counted(connection, reply, |counters| counters.packets),
        CtKey::Bytes { reply } => counted(connection, reply, |counters| counters.bytes),
    })
}

fn end(tuple: &Tuple, source: bool) -> (u128, u128) {
    let (address, port) =
        if source { (tuple.source(), tuple.source_port()) } else { (tuple.destination(), tuple.destination_port()) };
    (address_bits(address), u128::from(port))
}

fn counted(connection: &Connection, reply: Option<bool>, of: fn(crate::conntrack::Counters) -> u64) -> u128 {
    let of = |direction| u128::from(of(connection.counters(direction)));
    match reply {
        Some(false) => of(Direction::Original),
        Some(true) => of(Direction::Reply),
        None => of(Direction::Original) + of(Direction::Reply),
    }
}

fn status(connection: &Connection) -> u128 {
    let status = connection.status();
    let bit = |bit: u16| if status.has(bit) { u128::from(bit) } else { 0 };
    (0..11).map(|shift| bit(1 << shift)).sum()
}

/// `ct helper set`: only a connection that begins gets one.
fn set_helper(is_ftp: bool, conntrack: &mut Conntrack, subject: &EvalContext<'_, '_>) {
    let Some(id) = subject.tracked.and_then(|tracked| tracked.connection) else { return };
    let begins = conntrack.get(id).is_some_and(|connection| !connection.status().has(Status::CONFIRMED));
    if is_ftp && begins && subject.headers.protocol == Protocol::TCP {
        // Without room for another helper, the connection has none, as when the kernel lacks memory.
        let _ = conntrack.attach_helper(id);
    }
}

/// `tcp option maxseg size set`: only an option that is there is changed, and never raised.
fn lower_mss(size: Option<u16>, subject: &mut EvalContext<'_, '_>) {
    let options = subject.headers.tcp_options(subject.packet.bytes());
    let is_there = options.iter().map_while(Result::ok).any(|(kind, ..)| kind == TcpOptions::MSS);
    if is_there {
        clamp_mss(size, subject);
    }
}
