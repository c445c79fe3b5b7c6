//! Asks the chains of nftables about a packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::apply_target::clamp_mss;
use super::super::context::{EvalContext, RuleVerdict, Tracking};
use super::super::rules::Policy;
use super::compile::{
    Code, CompiledData, CompiledNat, CompiledNatValue, CompiledVerdict, Instruction, MAX_STACK, Nft, Step, name_value,
};
use super::model::{CtKey, Expression, Header, MetaKey, NatKind, Operator, Span};
use crate::conntrack::{Connection, Conntrack, Direction, PacketState, Status, Template, Tuple};
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
            for step in &rule.steps {
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
                let found = self.sets.get(*set as usize)?.lookup.find(stack.values()).is_some();
                (found != *negated).then_some(Outcome::Next)
            }
            Step::Verdict(verdict) => Some(Outcome::Chain(*verdict)),
            Step::VerdictMap { code, set } => {
                let stack = self.compute(code, rule, conntrack, subject)?;
                let CompiledData::Verdict(verdict) = self.find(*set, stack.values())? else { return None };
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
                if subject.tracked.is_none() && *subject.tracking != Tracking::None {
                    let template = match *subject.tracking {
                        Tracking::Template(template) => template,
                        _ => Template::default(),
                    };
                    *subject.tracking = Tracking::Template(Template { zone, ..template });
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
                    lower_mss(*size, subject)?;
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
            Step::Meter(number) => {
                let (now, length) = (subject.now, subject.packet.bytes().len());
                let meter = subject.nft.meters.get_mut(*number as usize)?;
                meter.passes(now, length).then_some(Outcome::Next)
            }
            Step::Unknown => {
                subject.not_understood = Some(rule as usize);
                None
            }
        }
    }

    fn find(&self, set: u32, key: &[u128]) -> Option<&CompiledData> {
        let set = self.sets.get(set as usize)?;
        set.data.get(set.lookup.find(key)? as usize)
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
                    let CompiledData::Values(values) = self.find(*set, stack.values().get(below..)?)? else {
                        return None;
                    };
                    let value = values.first()?.first;
                    stack.len = below;
                    stack.push(value)?;
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
            Expression::FibType { source } => {
                let bytes = subject.packet.bytes();
                let headers = &subject.headers;
                let address = if *source { headers.source(bytes) } else { headers.destination(bytes) };
                let kinds = subject.surroundings.address_type(address);
                Some(route_type(kinds.0))
            }
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
            MetaKey::PacketType => Some(0),
            MetaKey::SocketUser => {
                // A forwarded packet has no socket here; the socket of this machine's own packets is not known.
                if subject.in_interface.is_none() {
                    subject.not_understood = Some(rule as usize);
                }
                None
            }
        }
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
                let CompiledData::Values(values) = self.find(*set, stack.values())? else { return None };
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

fn compares(value: u128, operator: Operator, spans: &[Span]) -> bool {
    let first = spans.first().map_or(0, |span| span.first);
    match operator {
        Operator::Equal => spans.iter().any(|span| span.contains(value)),
        Operator::NotEqual => !spans.iter().any(|span| span.contains(value)),
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
        return None;
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

/// IPv6 extension headers, one after the other (RFC 8200 section 4).
fn has_extension_header(wanted: u8, subject: &EvalContext<'_, '_>) -> Option<u128> {
    let (headers, bytes) = (&subject.headers, subject.packet.bytes());
    if headers.family != Family::V6 {
        return None;
    }
    let (mut next, mut at) = (*bytes.get(6)?, 40);
    while at < headers.transport {
        if next == wanted {
            return Some(1);
        }
        let length = if next == 44 { 8 } else { (usize::from(*bytes.get(at + 1)?) + 1) * 8 };
        next = *bytes.get(at)?;
        at += length;
    }
    Some(0)
}

/// The kernel's number of a route's type (`RTN_*`).
const fn route_type(kinds: u16) -> u128 {
    use super::super::rules::AddressTypes;
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
        let is_untracked = *subject.tracking == Tracking::None;
        return (key == CtKey::State).then_some(if is_untracked { 64 } else { 1 });
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
fn lower_mss(size: Option<u16>, subject: &mut EvalContext<'_, '_>) -> Option<()> {
    let options = subject.headers.tcp_options(subject.packet.bytes());
    options.iter().map_while(Result::ok).find(|(kind, ..)| *kind == TcpOptions::MSS)?;
    clamp_mss(size, subject);
    Some(())
}
