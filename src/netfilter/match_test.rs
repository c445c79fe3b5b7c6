//! Tests a packet against the matches of a rule.

use super::compiled::{CompiledCondition, Test};
use super::context::{EvalContext, Wants, WayBack};
use super::rules::{AddressTypes, Limit, Match, StateSet};
use crate::conntrack::{Conntrack, Direction};
use crate::nat::{PortRange, lies_between};
use crate::packet::{Family, Layer4, Protocol, read_array};

impl CompiledCondition {
    #[inline]
    pub(super) fn holds(&self, rule: u32, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) -> bool {
        let one_of = |list: &[bool], interface: Option<usize>| interface.is_some_and(|i| list.get(i) == Some(&true));
        let holds = match &self.test {
            Test::Protocol(protocol) => subject.headers.protocol.0 == *protocol,
            Test::AddressV4 { at, mask, value } => {
                let address = read_array(subject.packet.bytes(), *at).map(u32::from_be_bytes);
                subject.headers.family == Family::V4 && address.is_some_and(|a| a & mask == *value)
            }
            Test::DestinationPort(range) => match subject.ports(Wants::Header) {
                Some((_, destination)) => range.contains(destination),
                None => return false,
            },
            Test::State(states) => states.intersects(state_of(*states, subject, conntrack)),
            Test::In(list) => one_of(list, subject.in_interface),
            Test::Out(list) => one_of(list, subject.out_interface),
            Test::Other(Match::Unknown(_)) => {
                subject.not_understood = Some(rule as usize);
                return false;
            }
            Test::Stateful(test, Some(place)) => match test.holds(*place, conntrack, subject) {
                Some(holds) => holds,
                None => return false,
            },
            Test::Stateful(_, None) => {
                subject.not_understood = Some(rule as usize);
                return false;
            }
            Test::Other(test) => match matches(test, rule, conntrack, subject) {
                Some(holds) => holds,
                // A port of a packet that shows none: the rule does not match, whichever way it asks.
                None => return false,
            },
        };
        holds != self.negated
    }
}

/// Returns true if a test holds; `None` when the packet has not got what is asked about.
#[inline]
pub(super) fn matches(
    test: &Match,
    rule: u32,
    conntrack: &mut Conntrack,
    subject: &mut EvalContext<'_, '_>,
) -> Option<bool> {
    let tracked = subject.tracked;
    let connection = || tracked.and_then(|t| t.connection).and_then(|id| conntrack.get(id));
    let headers = *subject.headers;
    let bytes = subject.packet.bytes();
    Some(match test {
        Match::Protocol(protocol) => headers.protocol == *protocol,
        Match::Source(network) => network.contains(headers.source(bytes)),
        Match::Destination(network) => network.contains(headers.destination(bytes)),
        Match::SourcePorts(ranges) => one_of(ranges, subject.ports(Wants::of(ranges))?.0),
        Match::DestinationPorts(ranges) => one_of(ranges, subject.ports(Wants::of(ranges))?.1),
        Match::Ports(ranges) => {
            let (source, destination) = subject.ports(Wants::Ports)?;
            one_of(ranges, source) || one_of(ranges, destination)
        }
        Match::TcpFlags { mask, set } => match headers.layer4 {
            Layer4::Tcp(segment) => segment.flags.0 & mask == *set,
            _ => {
                subject.ports(Wants::Header)?;
                return None;
            }
        },
        Match::Mark(wanted) => subject.packet.mark & wanted.mask == wanted.value,
        Match::Connmark(wanted) => connection()?.mark() & wanted.mask == wanted.value,
        // Only the FTP helper is there. Linux compares as many characters as its name has; an empty name stands for any.
        Match::Helper(name) => {
            connection().is_some_and(|c| c.master_had_helper()) && (name.is_empty() || name.starts_with("ftp"))
        }
        Match::IcmpType { kind, codes } => match headers.layer4 {
            Layer4::Icmp(icmp) => {
                let any = *kind == u8::MAX && headers.protocol == Protocol::ICMP;
                any || icmp.kind == *kind && codes.0 <= icmp.code && icmp.code <= codes.1
            }
            _ => return None,
        },
        Match::AddressType { source, destination, limit } => {
            let interface = match limit {
                None => None,
                Some(Limit::In) => subject.in_interface,
                Some(Limit::Out) => subject.out_interface,
            };
            let is = |wanted: AddressTypes, address| {
                wanted.0 == 0 || wanted.0 & subject.surroundings.route_type(address, interface).0 != 0
            };
            is(*source, headers.source(bytes)) && is(*destination, headers.destination(bytes))
        }
        Match::SourceRange(first, last) => lies_between(headers.source(bytes), *first, *last),
        Match::DestinationRange(first, last) => lies_between(headers.destination(bytes), *first, *last),
        Match::Number(test) => return test.holds(conntrack, subject),
        Match::Address { source, network } => {
            network.contains(if *source { headers.source(bytes) } else { headers.destination(bytes) })
        }
        Match::ConnectionAddress { reply, source, network } => {
            let tuple = connection()?.tuple(if *reply { Direction::Reply } else { Direction::Original });
            network.contains(if *source { tuple.source() } else { tuple.destination() })
        }
        Match::SetLabel(label) => {
            let id = tracked.and_then(|tracked| tracked.connection);
            id.is_some_and(|id| conntrack.set_label(id, *label))
        }
        Match::Cluster { nodes, mask, seed } => {
            let source = connection()?.tuple(Direction::Original).source();
            let node = crate::nat::cluster_node(source, *seed, *nodes);
            mask.checked_shr(node).unwrap_or(0) & 1 != 0
        }
        Match::Chunks(test) => {
            if !matches!(headers.layer4, Layer4::Sctp) {
                return None;
            }
            match test.holds(bytes.get(headers.transport + 12..headers.end).unwrap_or_default()) {
                Some(holds) => holds,
                None => {
                    subject.hot_drop = true;
                    return None;
                }
            }
        }
        Match::Text(text) => text.is_in(bytes),
        Match::U32(tests) => tests.iter().all(|test| test.holds(bytes)),
        Match::Time(time) => time.holds(subject.now),
        Match::ReversePath { loose, accept_local } => reverse_path(*loose, *accept_local, subject),
        Match::OfSocket { arriving } => {
            let for_us = || subject.surroundings.address_type(headers.destination(bytes)) == AddressTypes::LOCAL;
            if subject.in_interface.is_none() || *arriving && for_us() {
                subject.not_understood = Some(rule as usize);
                return None;
            }
            false
        }
        Match::Never => false,
        // Compiled away, or told before.
        Match::InInterface(_) | Match::OutInterface(_) | Match::ConnectionState(_) => return None,
        Match::Unknown(_) | Match::Stateful(_) => return None,
    })
}

/// `-m rpfilter`: a reply would leave by the interface of arrival. What this machine sends itself passes.
fn reverse_path(loose: bool, accept_local: bool, subject: &EvalContext<'_, '_>) -> bool {
    let source = subject.headers.source(subject.packet.bytes());
    let Some(interface) = subject.in_interface else { return true };
    if subject.surroundings.is_loopback(interface) {
        return true;
    }
    match subject.surroundings.way_back(source) {
        _ if source.is_unspecified() && source.is_ipv4() => true,
        WayBack::Local => accept_local,
        WayBack::Via(by) => loose || by == interface,
        WayBack::Nowhere => false,
    }
}

fn one_of(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(port))
}

/// A packet's state and, if they are asked for, its connection's translations, as a set.
#[inline]
fn state_of(wanted: StateSet, subject: &EvalContext<'_, '_>, conntrack: &Conntrack) -> StateSet {
    let state = subject.tracked.map_or(StateSet::INVALID, |tracked| StateSet::of_state(tracked.state));
    if !wanted.intersects(StateSet::SNAT.union(StateSet::DNAT)) {
        return state;
    }
    let Some(connection) = subject.tracked.and_then(|t| conntrack.get(t.connection?)) else { return state };
    let original = connection.tuple(Direction::Original);
    let reply = connection.tuple(Direction::Reply);
    let with = |set: StateSet, moved: bool, bit: StateSet| if moved { set.union(bit) } else { set };
    let set = with(state, original.source() != reply.destination(), StateSet::SNAT);
    with(set, original.destination() != reply.source(), StateSet::DNAT)
}
