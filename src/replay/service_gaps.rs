//! Gaps of a load balancer's configuration, found in the configuration alone.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::holes::{FTP_DATA_PORT, FTP_PORT, Hole, UNPRIVILEGED};
use crate::Behaviour;
use crate::ipvs::{Forwarding, ServiceAddress, ServiceConfig};
use crate::netfilter::{Match, Rule, Ruleset, TableName, Target};
use crate::packet::Protocol;
use crate::router::RouterConfig;

/// The holes that a configuration leaves, whatever traffic comes.
///
/// ```
/// use ftp_conntrack::ipvs::{self, Forwarding, Scheduler, ServerConfig, ServiceAddress, ServiceConfig};
/// use ftp_conntrack::replay::{Hole, holes};
/// use ftp_conntrack::router::RouterConfig;
///
/// let service = ServiceConfig::new(ServiceAddress::tcp("203.0.113.21:21".parse()?), Scheduler::RoundRobin)
///     .with_server(ServerConfig::new([10, 77, 1, 11].into(), 21, Forwarding::Masquerade));
/// let mut balancer = ipvs::IpvsConfig::default();
/// balancer.services.push(service);
/// let mut config = RouterConfig::default();
/// config.ipvs = Some(balancer);
///
/// let found: Vec<_> = holes(&config).iter().map(Hole::name).collect();
/// assert_eq!(found, ["not_persistent", "active_not_masqueraded"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn holes(config: &RouterConfig) -> Vec<Hole> {
    let services = config.ipvs.iter().flat_map(|ipvs| &ipvs.services);
    let mut found = BTreeSet::new();
    for service in services {
        for control in control_ends(config, service) {
            found.extend(holes_of_service(config, service, control));
        }
    }
    found.into_iter().collect()
}

/// The endpoint where clients reach a service's control connections; for a firewall mark, the address may be any.
#[derive(Clone, Copy)]
struct ControlEnd {
    address: Option<IpAddr>,
    port: u16,
}

fn control_ends(config: &RouterConfig, service: &ServiceConfig) -> Vec<ControlEnd> {
    let ports = || control_ports(config);
    match service.address {
        ServiceAddress::Endpoint { protocol, at } => {
            let is_control = protocol == Protocol::TCP.0 && (at.port() == 0 || ports().any(|port| port == at.port()));
            let port = if at.port() == 0 { FTP_PORT } else { at.port() };
            is_control.then_some(ControlEnd { address: Some(at.ip()), port }).into_iter().collect()
        }
        ServiceAddress::Mark { mark, ipv6 } => {
            let marking = rules(if ipv6 { &config.rules6 } else { &config.rules4 }, TableName::Mangle);
            let marking = marking.filter(|rule| matches!(&rule.target, Target::Mark(to) if to.value == mark));
            let end = |rule: &Rule| {
                let sample = |port| Sample { destination_port: Some(port), ..Sample::default() };
                let port = ports().find(|port| sample(*port).may_match(rule))?;
                Some(ControlEnd { address: host(rule), port })
            };
            marking.filter_map(end).collect()
        }
    }
}

pub(super) fn control_ports(config: &RouterConfig) -> impl Iterator<Item = u16> {
    let read = config.ipvs.iter().flat_map(|ipvs| &ipvs.ftp_ports).copied();
    core::iter::once(FTP_PORT).chain(read).chain(config.helper_ports.iter().copied())
}

fn holes_of_service(config: &RouterConfig, service: &ServiceConfig, control: ControlEnd) -> Vec<Hole> {
    let (read, followed) = (is_read(config, control.port), is_followed(config, control.port));
    let is_read = |forwarding| followed || read && forwarding == Forwarding::Masquerade;
    let unread = || service.servers.iter().filter(|server| !is_read(server.forwarding));
    if unread().next().is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    if service.persistence.is_none() {
        found.push(Hole::NotPersistent { service: service.address });
    } else if !has_passive_ports(config, service, control) {
        found.push(Hole::NoPassivePorts { service: service.address });
    }
    let masquerading = unread().filter(|server| server.forwarding == Forwarding::Masquerade);
    found.extend(masquerading.filter_map(|server| active_hole(config, server.address, control.address)));
    found
}

/// Returns true if `ip_vs_ftp` reads control connections to masquerading servers.
pub(super) fn is_read(config: &RouterConfig, port: u16) -> bool {
    config.ipvs.as_ref().is_some_and(|ipvs| ipvs.ftp_ports.contains(&port))
}

/// Returns true if expectations open the data connections of these control connections, under behaviour Exact.
pub(super) fn is_followed(config: &RouterConfig, port: u16) -> bool {
    let helper = &config.helper;
    let follows = helper.behaviour == Behaviour::Exact && helper.enabled && helper.rewrites;
    let control = Sample { destination_port: Some(port), ..Sample::default() };
    let attaches = |rule: &Rule| matches!(rule.target, Target::Ct { helper: Some(_), .. }) && control.may_match(rule);
    let sets = [&config.rules4, &config.rules6];
    let attached = || sets.into_iter().any(|set| rules(set, TableName::Raw).any(attaches));
    follows && (config.helper_ports.contains(&port) || attached())
}

/// Returns true if a passive port may get the mark of a service. One by address takes all of them. One by address takes
/// all of them.
fn has_passive_ports(config: &RouterConfig, service: &ServiceConfig, control: ControlEnd) -> bool {
    let ServiceAddress::Mark { mark, ipv6 } = service.address else { return true };
    let marking = rules(if ipv6 { &config.rules6 } else { &config.rules4 }, TableName::Mangle);
    let mut marking = marking.filter(|rule| matches!(&rule.target, Target::Mark(to) if to.value == mark));
    let may_be_passive = |rule: &Rule| {
        let ports = rule.conditions.iter().filter(|condition| !condition.negated).find_map(|c| match &c.test {
            Match::DestinationPorts(ports) => Some(ports),
            _ => None,
        });
        let highest = ports.and_then(|ports| ports.iter().map(|range| range.last).max());
        let sample = Sample { destination: control.address, ..Sample::default() };
        highest.is_none_or(|port| port >= UNPRIVILEGED) && sample.may_match(rule)
    };
    marking.any(may_be_passive)
}

/// Returns the hole left by the address that a real server's active data connections leave from.
fn active_hole(config: &RouterConfig, real: IpAddr, virtual_at: Option<IpAddr>) -> Option<Hole> {
    let set = if real.is_ipv4() { &config.rules4 } else { &config.rules6 };
    let sample = Sample { source: Some(real), source_port: Some(FTP_DATA_PORT), ..Sample::default() };
    let translates = |rule: &&Rule| matches!(rule.target, Target::Masquerade(_) | Target::Snat(_));
    let rule = rules(set, TableName::Nat).filter(translates).find(|rule| sample.may_match(rule));
    let Some(rule) = rule else { return Some(Hole::ActiveNotMasqueraded { real }) };
    let virtual_at = virtual_at?;
    let leaves_as = match rule.target {
        Target::Snat(range) => range.addresses.filter(|(first, last)| first == last)?.0,
        _ => first_address_beside(config, virtual_at)?,
    };
    (leaves_as != virtual_at).then_some(Hole::ActiveFromAnotherAddress { leaves_as, virtual_at })
}

/// The first address of the interface that has this one, which MASQUERADE takes.
fn first_address_beside(config: &RouterConfig, address: IpAddr) -> Option<IpAddr> {
    let interface = config.interfaces.iter().find(|i| i.addresses.iter().any(|own| own.address == address))?;
    interface.addresses.iter().map(|own| own.address).find(|own| own.is_ipv4() == address.is_ipv4())
}

pub(super) fn rules(set: &Ruleset, table: TableName) -> impl Iterator<Item = &Rule> {
    set.table(table).chains.iter().flat_map(|chain| &chain.rules)
}

/// The one destination that a rule is for.
fn host(rule: &Rule) -> Option<IpAddr> {
    rule.conditions.iter().filter(|condition| !condition.negated).find_map(|condition| match condition.test {
        Match::Destination(cidr) if cidr.prefix() == if cidr.address().is_ipv4() { 32 } else { 128 } => {
            Some(cidr.address())
        }
        _ => None,
    })
}

/// The known fields of a TCP packet that a rule might match.
#[derive(Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
}

impl Sample {
    /// Returns true if no known field contradicts the rule.
    pub(super) fn may_match(&self, rule: &Rule) -> bool {
        let speaks_against = |condition: &crate::netfilter::Condition| {
            self.test(&condition.test).is_some_and(|holds| holds == condition.negated)
        };
        !rule.conditions.iter().any(speaks_against)
    }

    /// Returns the result of a test, if it is known.
    pub(super) fn test(&self, test: &Match) -> Option<bool> {
        Some(match test {
            Match::Protocol(protocol) => *protocol == Protocol::TCP,
            Match::Source(cidr) => cidr.contains(self.source?),
            Match::Destination(cidr) => cidr.contains(self.destination?),
            Match::SourcePorts(ports) => {
                let port = self.source_port?;
                ports.iter().any(|range| range.contains(port))
            }
            Match::DestinationPorts(ports) => {
                let port = self.destination_port?;
                ports.iter().any(|range| range.contains(port))
            }
            _ => return None,
        })
    }
}
