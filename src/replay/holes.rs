//! The holes that a load balancer leaves for FTP's data connections: by its configuration, and as a capture shows them.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::vec::Vec;

use super::{Seen, Sink};
use crate::event::Event;
use crate::ftp::{Form, LineReading, ReplyLines, Sender, read_line};
use crate::ipvs::{Forwarding, ServiceAddress, ServiceConfig};
use crate::netfilter::{Match, Rule, Ruleset, TableName, Target};
use crate::packet::{Headers, Layer4, Protocol, TcpFlags};
use crate::router::{Router, RouterConfig, Verdict};
use crate::{Behaviour, Instant};

/// The port that control connections go to.
const FTP_PORT: u16 = 21;
/// The port that active data connections come from (RFC 959 section 3.2).
const FTP_DATA_PORT: u16 = 20;
/// From here on a port may be that of a passive data connection (Linux, `ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;

/// A hole: data connections that do not come through, or not as clients may want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hole {
    /// A service keeps no client with its real server, and nobody reads what is announced.
    NotPersistent {
        /// The service.
        service: ServiceAddress,
    },
    /// Of the ports that get a service's mark none can be a passive one, and nobody reads what is announced.
    NoPassivePorts {
        /// The service.
        service: ServiceAddress,
    },
    /// A client was told of a passive port, or dialled it, and neither a service nor an entry takes it.
    UncoveredPort {
        /// The virtual address and the port.
        at: SocketAddr,
    },
    /// A real server announces the virtual address itself (`pasv_address`), and `ip_vs_ftp`, which takes what is announced
    /// for the real server, lets an entry wait that leads there.
    PasvAddressSet {
        /// The real server.
        real: IpAddr,
        /// Address that it announces.
        virtual_at: IpAddr,
    },
    /// Clients are told a real server's own address.
    RealAddressAnnounced {
        /// The real server.
        real: IpAddr,
        /// The virtual address.
        virtual_at: IpAddr,
    },
    /// No rule masquerades what a real server opens.
    ActiveNotMasqueraded {
        /// The real server.
        real: IpAddr,
    },
    /// Connections that real servers open leave from another address than the virtual one.
    ActiveFromAnotherAddress {
        /// The address it leaves from.
        leaves_as: IpAddr,
        /// The virtual address.
        virtual_at: IpAddr,
    },
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPersistent { service } => {
                write!(f, "service {service} has no persistence, and nobody reads what it carries: ")?;
                f.write_str("data connections meet any real server, or none")
            }
            Self::NoPassivePorts { service } => {
                write!(f, "service {service}: no passive port gets its mark, and nobody reads what it carries: ")?;
                f.write_str("passive data connections meet no real server")
            }
            Self::UncoveredPort { at } => write!(f, "passive port {at}: no service, mark or entry takes it"),
            Self::PasvAddressSet { real, virtual_at } => {
                write!(f, "{real} announces the virtual address {virtual_at} itself (pasv_address): ")?;
                f.write_str("ip_vs_ftp finds nothing to rewrite, and leads data connections to the director itself")
            }
            Self::RealAddressAnnounced { real, virtual_at } => {
                write!(f, "clients are told {real}, a real server's own address, and not {virtual_at}: ")?;
                f.write_str("nobody rewrote its reply")
            }
            Self::ActiveNotMasqueraded { real } => {
                write!(f, "active data of {real} leaves with its own address: no rule masquerades it")
            }
            Self::ActiveFromAnotherAddress { leaves_as, virtual_at } => {
                write!(f, "active data leaves from {leaves_as}, and not from the virtual address {virtual_at}")
            }
        }
    }
}

impl Hole {
    /// Returns the kind of hole as one word: `not_persistent` and so on.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotPersistent { .. } => "not_persistent",
            Self::NoPassivePorts { .. } => "no_passive_ports",
            Self::UncoveredPort { .. } => "uncovered_port",
            Self::PasvAddressSet { .. } => "pasv_address_set",
            Self::RealAddressAnnounced { .. } => "real_address_announced",
            Self::ActiveNotMasqueraded { .. } => "active_not_masqueraded",
            Self::ActiveFromAnotherAddress { .. } => "active_from_another_address",
        }
    }
}

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

fn control_ports(config: &RouterConfig) -> impl Iterator<Item = u16> {
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
fn is_read(config: &RouterConfig, port: u16) -> bool {
    config.ipvs.as_ref().is_some_and(|ipvs| ipvs.ftp_ports.contains(&port))
}

/// Returns true if expectations open the data connections of these control connections, under behaviour Exact.
fn is_followed(config: &RouterConfig, port: u16) -> bool {
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

fn rules(set: &Ruleset, table: TableName) -> impl Iterator<Item = &Rule> {
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
struct Sample {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Sample {
    /// Returns true if no known field contradicts the rule.
    fn may_match(&self, rule: &Rule) -> bool {
        let speaks_against = |condition: &crate::netfilter::Condition| {
            self.test(&condition.test).is_some_and(|holds| holds == condition.negated)
        };
        !rule.conditions.iter().any(speaks_against)
    }

    /// Returns the result of a test, if it is known.
    fn test(&self, test: &Match) -> Option<bool> {
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

/// The ends of packets.
type Ends = (SocketAddr, SocketAddr);

/// Follows a replay, and finds the holes that its traffic falls through, after those of the configuration. Each is told
/// once; of uncovered ports, the first of a virtual address.
///
/// What it remembers grows with the control connections of the capture.
#[derive(Debug)]
pub struct Watch {
    config: RouterConfig,
    /// By client and virtual end.
    controls: HashMap<Ends, Control>,
    /// The same by real server and client.
    by_answer: HashMap<Ends, Ends>,
    /// The virtual address by which a client knows a real server.
    known_as: HashMap<(IpAddr, IpAddr), IpAddr>,
    /// The virtual addresses by which a client has control connections.
    dials: BTreeSet<(IpAddr, IpAddr)>,
    /// Source and destination of the packet at hand, if it opens a connection.
    opening: Option<Ends>,
    told: BTreeSet<Hole>,
    fresh: VecDeque<Hole>,
}

/// A control connection.
#[derive(Clone, Copy, Debug)]
struct Control {
    real: IpAddr,
    /// Which reply the server's next line belongs to, as it arrives, and as it leaves.
    arriving: ReplyLines,
    leaving: ReplyLines,
    /// Endpoint that its client was given last, which may have been dialled since when it is announced again.
    last: Option<SocketAddr>,
}

impl Watch {
    /// Over a router with this configuration.
    #[must_use]
    pub fn new(config: RouterConfig) -> Self {
        let fresh: VecDeque<Hole> = holes(&config).into();
        Self {
            config,
            controls: HashMap::new(),
            by_answer: HashMap::new(),
            known_as: HashMap::new(),
            dials: BTreeSet::new(),
            opening: None,
            told: fresh.iter().copied().collect(),
            fresh,
        }
    }

    /// A hole that was not told yet.
    pub fn next_hole(&mut self) -> Option<Hole> {
        self.fresh.pop_front()
    }

    fn tell(&mut self, hole: Hole) {
        let is_known = match hole {
            Hole::UncoveredPort { at } => {
                self.told.iter().any(|told| matches!(told, Hole::UncoveredPort { at: known } if known.ip() == at.ip()))
            }
            hole => self.told.contains(&hole),
        };
        if !is_known {
            self.told.insert(hole);
            self.fresh.push_back(hole);
        }
    }

    /// A control connection goes to a real server.
    fn begin(&mut self, (client, dialled): Ends, real: SocketAddr) {
        let control =
            Control { real: real.ip(), arriving: ReplyLines::default(), leaving: ReplyLines::default(), last: None };
        self.controls.insert((client, dialled), control);
        self.by_answer.insert((real, client), (client, dialled));
        self.known_as.insert((real.ip(), client.ip()), dialled.ip());
        self.dials.insert((client.ip(), dialled.ip()));
    }

    /// A client's connection that no service took.
    fn not_taken(&mut self, (client, dialled): Ends) {
        let is_control = control_ports(&self.config).any(|port| port == dialled.port());
        let has_cause =
            |hole: &Hole| matches!(hole, Hole::PasvAddressSet { virtual_at, .. } if *virtual_at == dialled.ip());
        if self.told.iter().any(has_cause) {
            return;
        }
        if dialled.port() >= UNPRIVILEGED && !is_control && self.dials.contains(&(client.ip(), dialled.ip())) {
            self.tell(Hole::UncoveredPort { at: dialled });
        }
    }

    /// Notes a server's announcement as it arrives: with the virtual address `ip_vs_ftp` does not know it.
    fn arrives(&mut self, ends: Ends, payload: &[u8]) {
        let Some(control_ends) = self.by_answer.get(&ends) else { return };
        let (_, dialled) = *control_ends;
        let Some(control) = self.controls.get_mut(control_ends) else { return };
        let real = control.real;
        let is_app = is_read(&self.config, dialled.port()) && !is_followed(&self.config, dialled.port());
        let set = announced(payload, real, &mut control.arriving)
            .any(|(form, there)| form == Form::Pasv && there.ip() == dialled.ip());
        if set && is_app {
            self.tell(Hole::PasvAddressSet { real, virtual_at: dialled.ip() });
        }
    }

    /// Notes the passive endpoint that a client is given.
    fn leaves_for_client(&mut self, now: Instant, (dialled, client): Ends, payload: &[u8], router: &Router) {
        let Some(control) = self.controls.get_mut(&(client, dialled)) else { return };
        let (real, mut replies) = (control.real, control.leaving);
        let told: Vec<_> = announced(payload, dialled.ip(), &mut replies).collect();
        control.leaving = replies;
        let last = control.last;
        control.last = told.last().map(|(_, there)| *there).or(last);
        for (_, there) in told {
            if there.ip() == real {
                self.tell(Hole::RealAddressAnnounced { real, virtual_at: dialled.ip() });
            } else if there.ip() == dialled.ip()
                && last != Some(there)
                && !self.is_covered(now, client.ip(), there, router)
            {
                self.tell(Hole::UncoveredPort { at: there });
            }
        }
    }

    /// Returns true if a data connection from a client would be accepted.
    fn is_covered(&self, now: Instant, client: IpAddr, at: SocketAddr, router: &Router) -> bool {
        let waits = router.ipvs().is_some_and(|ipvs| ipvs.is_expected(now, Protocol::TCP, client, at));
        waits || router.conntrack().is_expected(now, client, at) || self.has_service_for(at)
    }

    /// Returns true if a service accepts any client at this endpoint.
    fn has_service_for(&self, at: SocketAddr) -> bool {
        let set = if at.is_ipv4() { &self.config.rules4 } else { &self.config.rules6 };
        let sample = Sample { destination: Some(at.ip()), destination_port: Some(at.port()), ..Sample::default() };
        let marks = |mark: u32| {
            let sets = |rule: &Rule| matches!(&rule.target, Target::Mark(to) if to.value == mark);
            rules(set, TableName::Mangle).any(|rule| sets(rule) && sample.may_match(rule))
        };
        let takes = |service: &ServiceConfig| match service.address {
            ServiceAddress::Mark { mark, ipv6 } => ipv6 == at.is_ipv6() && marks(mark),
            ServiceAddress::Endpoint { protocol, at: own } => {
                let is_data = own.port() == FTP_PORT && service.persistence.is_some() && at.port() >= UNPRIVILEGED;
                protocol == Protocol::TCP.0
                    && own.ip() == at.ip()
                    && (own.port() == 0 || own.port() == at.port() || is_data)
            }
        };
        self.config.ipvs.iter().flat_map(|ipvs| &ipvs.services).any(takes)
    }

    /// A connection that a real server opens to a client of its leaves.
    fn leaves_from_server(&mut self, (real, client): Ends, leaves_as: IpAddr) {
        let Some(virtual_at) = self.known_as.get(&(real.ip(), client.ip())).copied() else { return };
        if leaves_as == real.ip() && leaves_as != virtual_at {
            self.tell(Hole::ActiveNotMasqueraded { real: real.ip() });
        } else if leaves_as != virtual_at {
            self.tell(Hole::ActiveFromAnotherAddress { leaves_as, virtual_at });
        }
    }
}

impl Sink for Watch {
    fn packet(&mut self, packet: Seen<'_>, verdict: Verdict, _: &Router) {
        self.opening = None;
        let Some((ends, headers)) = tcp_ends(packet.bytes) else { return };
        if opens(&headers) {
            self.opening = Some(ends);
            if verdict == Verdict::Local {
                self.not_taken(ends);
            }
        }
        self.arrives(ends, headers.payload(packet.bytes));
    }

    fn leaves(&mut self, packet: Seen<'_>, router: &Router) {
        let Some((ends, headers)) = tcp_ends(packet.bytes) else { return };
        if let Some(opening) = self.opening
            && opens(&headers)
        {
            self.leaves_from_server(opening, ends.0.ip());
        }
        self.leaves_for_client(packet.time, ends, headers.payload(packet.bytes), router);
    }

    fn event(&mut self, _: u64, _: Instant, event: &Event, _: &Router) {
        if let Event::Balanced { client, dialled, real_server, .. } = event
            && control_ports(&self.config).any(|port| port == dialled.port())
        {
            self.begin((*client, *dialled), *real_server);
        }
    }
}

fn tcp_ends(bytes: &[u8]) -> Option<(Ends, Headers)> {
    let headers = Headers::find(bytes).ok()?;
    let Layer4::Tcp(_) = headers.layer4 else { return None };
    let (from, to) = headers.ports(bytes)?;
    let ends = (SocketAddr::new(headers.source(bytes), from), SocketAddr::new(headers.destination(bytes), to));
    Some((ends, headers))
}

fn opens(headers: &Headers) -> bool {
    matches!(headers.layer4, Layer4::Tcp(segment)
        if segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK))
}

/// Returns the endpoints where a server whose address is `own` says that it listens.
fn announced(payload: &[u8], own: IpAddr, replies: &mut ReplyLines) -> impl Iterator<Item = (Form, SocketAddr)> {
    let lines = payload.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.filter_map(move |line| match read_line(Sender::Server, own, line, replies) {
        LineReading::Announcement(there) => Some((there.form, SocketAddr::new(there.address, there.port))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_ipvs_rules, parse_rules};
    use crate::helper::HelperConfig;
    use crate::netfilter::Cidr;
    use crate::packet::{Family, Packet};
    use crate::router::{Interface, Outbox, Route};
    use std::string::String;
    use std::vec;

    const EXT: usize = 0;
    const INT: usize = 1;
    const CLIENT: &str = "198.51.100.7:40000";
    const VIRTUAL: &str = "203.0.113.21:21";
    const REAL: &str = "10.77.1.11:21";
    const MARKS: &str = "-A PREROUTING -d 203.0.113.21/32 -p tcp -m tcp --dport 21 -j MARK --set-mark 21\n";
    const PASSIVE: &str = "-A PREROUTING -d 203.0.113.21/32 -p tcp -m tcp --dport 10000:20000 -j MARK --set-mark 21\n";
    const MASQUERADE: &str = "-A POSTROUTING -s 10.77.1.0/24 -p tcp -m tcp --sport 20 -j MASQUERADE\n";
    const PERSISTENT: &str = "-A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.11 -m\n";
    const BY_PORT: &str = "-A -t 203.0.113.21:21 -s rr\n-a -t 203.0.113.21:21 -r 10.77.1.11:21 -m\n";

    fn config(mangle: &str, nat: &str, ipvsadm: &str, reads_ftp: bool) -> RouterConfig {
        let text = std::format!("*mangle\n{mangle}COMMIT\n*nat\n{nat}COMMIT\n");
        let (mut ipvs, _) = parse_ipvs_rules("ipvs.rules", ipvsadm).unwrap();
        ipvs.ftp_ports.extend(reads_ftp.then_some(21));
        let interfaces = vec![
            Interface::new("ext").with_address([203, 0, 113, 1].into(), 24).with_address([203, 0, 113, 21].into(), 32),
            Interface::new("int").with_address([10, 77, 1, 1].into(), 24),
        ];
        let routes = vec![
            Route::on_link(Cidr::new([10, 77, 1, 0].into(), 24).unwrap(), INT),
            Route::on_link(Cidr::new([0, 0, 0, 0].into(), 0).unwrap(), EXT),
        ];
        let rules4 = parse_rules("rules.v4", &text, Family::V4).unwrap().0;
        RouterConfig { interfaces, routes, rules4, ipvs: Some(ipvs), ..RouterConfig::default() }
    }

    fn names(found: &[Hole]) -> Vec<&'static str> {
        found.iter().map(Hole::name).collect()
    }

    #[test]
    fn what_the_configuration_says() {
        let marks = [MARKS, PASSIVE].concat();
        let found = |mangle: &str, nat: &str, ipvsadm: &str, reads: bool| holes(&config(mangle, nat, ipvsadm, reads));
        // As the documents have it, all works, but active data has the interface's first address.
        let [leaves_as, virtual_at] = [1, 21].map(|last| IpAddr::from([203, 0, 113, last]));
        let classic = found(&marks, MASQUERADE, PERSISTENT, false);
        assert_eq!(classic, [Hole::ActiveFromAnotherAddress { leaves_as, virtual_at }]);
        let snat = "-A POSTROUTING -s 10.77.1.0/24 -p tcp -m tcp --sport 20 -j SNAT --to-source 203.0.113.21\n";
        assert_eq!(found(&marks, snat, PERSISTENT, false), []);
        let others = "-A POSTROUTING -s 10.78.0.0/16 -j MASQUERADE\n-A POSTROUTING -p udp -j MASQUERADE\n";
        assert_eq!(names(&found(&marks, others, PERSISTENT, false)), ["active_not_masqueraded"]);

        assert_eq!(names(&found(MARKS, snat, PERSISTENT, false)), ["no_passive_ports"]);
        let forgetful = PERSISTENT.replace(" -p 300", "");
        assert_eq!(names(&found(&marks, snat, &forgetful, false)), ["not_persistent"]);
        // ip_vs_ftp reads masquerading servers' connections, and no others.
        assert_eq!(found("", "", BY_PORT, true), []);
        assert_eq!(found(MARKS, "", &forgetful, true), []);
        assert_eq!(names(&found("", "", &BY_PORT.replace("-m", "-g"), true)), ["not_persistent"]);
        // A service for something else is none of FTP's.
        assert_eq!(found("", "", &BY_PORT.replace(":21 -s", ":80 -s").replace(":21 -r", ":80 -r"), false), []);
    }

    #[test]
    fn behaviour_exact_needs_neither() {
        let mut exact = config("", "", BY_PORT, false);
        exact.helper = HelperConfig::default().behaving(Behaviour::Exact);
        assert_eq!(names(&holes(&exact)), ["not_persistent", "active_not_masqueraded"]);
        exact.helper_ports.push(21);
        assert_eq!(holes(&exact), []);
        let routes = BY_PORT.replace("-m", "-g");
        let directly = RouterConfig { ipvs: Some(parse_ipvs_rules("ipvs.rules", &routes).unwrap().0), ..exact.clone() };
        assert_eq!(holes(&directly), []);

        // The virtual address in a reply is no trouble, nor is a port outside any range.
        exact.ipvs.as_mut().unwrap().ftp_ports.push(21);
        exact.helper.policy.require_login = false;
        let reply = "227 Entering Passive Mode (203,0,113,21,117,48).\r\n";
        assert_eq!(after_reply(exact, "PASV\r\n", reply), []);
    }

    /// A router, and whoever watches it.
    struct World {
        router: Router,
        watch: Watch,
        outbox: Outbox,
    }

    impl World {
        fn new(config: RouterConfig) -> Self {
            let mut watch = Watch::new(config.clone());
            while watch.next_hole().is_some() {}
            Self { router: Router::new(config, [1, 2, 3, 4]).unwrap(), watch, outbox: Outbox::new(4, 1 << 12) }
        }

        /// A control connection that both sides opened.
        fn open(config: RouterConfig) -> Self {
            let mut world = Self::new(config);
            world.send(EXT, (CLIENT, VIRTUAL), TcpFlags::SYN, "");
            world.send(INT, (REAL, CLIENT), TcpFlags::SYN | TcpFlags::ACK, "");
            world.send(EXT, (CLIENT, VIRTUAL), TcpFlags::ACK, "");
            world
        }

        fn send(&mut self, interface: usize, (from, to): (&str, &str), flags: u8, text: &str) {
            let bytes = segment(from, to, flags, text);
            let mut buffer = [&bytes[..], &[0; Packet::ROOM]].concat();
            let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
            let now = Instant::from_secs(1000);
            let verdict = self.router.process(now, interface, &mut packet, &mut self.outbox);
            let seen = Seen { frame: 1, time: now, interface, bytes: &bytes };
            self.watch.packet(seen, verdict, &self.router);
            if let Verdict::Forward { interface, .. } = verdict {
                self.watch.leaves(Seen { interface, bytes: packet.bytes(), ..seen }, &self.router);
            }
            while let Some((time, event)) = self.router.poll_event() {
                self.watch.event(1, time, &event, &self.router);
            }
        }

        fn found(mut self) -> Vec<Hole> {
            core::iter::from_fn(|| self.watch.next_hole()).collect()
        }
    }

    /// A TCP segment; numbers are as they follow on each other where both sides send one byte, their SYN.
    fn segment(from: &str, to: &str, flags: u8, text: &str) -> Vec<u8> {
        let [from, to]: [SocketAddr; 2] = [from, to].map(|end| end.parse().unwrap());
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { panic!() };
        let length = (40 + text.len()) as u16;
        let mut bytes = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0x40, 0, 64, 6, 0, 0];
        bytes.extend(source.octets().into_iter().chain(destination.octets()));
        bytes.extend(from.port().to_be_bytes().into_iter().chain(to.port().to_be_bytes()));
        let next = u8::from(flags & TcpFlags::SYN == 0);
        bytes.extend([0, 0, 0, next, 0, 0, 0, u8::from(flags & TcpFlags::ACK != 0)]);
        bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(text.as_bytes());
        let sum = crate::packet::checksum::fold(crate::packet::checksum::sum(&bytes[..20], 0));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let headers = Headers::find(&bytes).unwrap();
        headers.fill_transport_checksum(&mut bytes);
        bytes
    }

    fn after_reply(config: RouterConfig, asks: &str, reply: &str) -> Vec<Hole> {
        let mut world = World::open(config);
        world.send(EXT, (CLIENT, VIRTUAL), TcpFlags::ACK, asks);
        world.send(INT, (REAL, CLIENT), TcpFlags::ACK, reply);
        world.found()
    }

    #[test]
    fn what_servers_announce() {
        let marks = [MARKS, PASSIVE].concat();
        let classic = || config(&marks, MASQUERADE, PERSISTENT, false);
        let said = |address: &str, port: u16| {
            let digits: String = std::format!("{},{},{}", address.replace('.', ","), port >> 8, port & 0xff);
            std::format!("227 Entering Passive Mode ({digits}).\r\n")
        };
        let [real, virtual_at] = [[10, 77, 1, 11], [203, 0, 113, 21]].map(IpAddr::from);
        assert_eq!(after_reply(classic(), "PASV\r\n", &said("203.0.113.21", 10_000)), []);
        let uncovered = [Hole::UncoveredPort { at: "203.0.113.21:30000".parse().unwrap() }];
        assert_eq!(after_reply(classic(), "PASV\r\n", &said("203.0.113.21", 30_000)), uncovered);
        assert_eq!(after_reply(classic(), "EPSV\r\n", "229 Extended (|||30000|)\r\n"), uncovered);
        let private = [Hole::RealAddressAnnounced { real, virtual_at }];
        assert_eq!(after_reply(classic(), "PASV\r\n", &said("10.77.1.11", 10_000)), private);

        // ip_vs_ftp rewrites it, and waits, unless the server has done so itself.
        let with_app = || config("", "", BY_PORT, true);
        assert_eq!(after_reply(with_app(), "PASV\r\n", &said("10.77.1.11", 30_000)), []);
        let mut world = World::open(with_app());
        world.send(EXT, (CLIENT, VIRTUAL), TcpFlags::ACK, "PASV\r\n");
        world.send(INT, (REAL, CLIENT), TcpFlags::ACK, &said("203.0.113.21", 30_000));
        world.send(EXT, ("198.51.100.7:40001", "203.0.113.21:30000"), TcpFlags::SYN, "");
        assert_eq!(world.found(), [Hole::PasvAddressSet { real, virtual_at }]);
    }

    #[test]
    fn what_clients_dial_and_servers_open() {
        let marks = [MARKS, PASSIVE].concat();
        let mut world = World::open(config(&marks, MASQUERADE, PERSISTENT, false));
        world.watch.told.clear();
        for port in [30_000, 10_000, 30_001] {
            world.send(EXT, ("198.51.100.7:40001", &std::format!("203.0.113.21:{port}")), TcpFlags::SYN, "");
        }
        // Somebody who has no control connection is nobody's client.
        world.send(EXT, ("198.51.100.8:40001", "203.0.113.21:30000"), TcpFlags::SYN, "");
        world.send(INT, ("10.77.1.11:20", "198.51.100.7:5000"), TcpFlags::SYN, "");
        world.send(INT, ("10.77.1.11:4000", "198.51.100.7:5000"), TcpFlags::SYN, "");
        let [real, leaves_as, virtual_at] = [[10, 77, 1, 11], [203, 0, 113, 1], [203, 0, 113, 21]].map(IpAddr::from);
        let expected = [
            Hole::UncoveredPort { at: "203.0.113.21:30000".parse().unwrap() },
            Hole::ActiveFromAnotherAddress { leaves_as, virtual_at },
            Hole::ActiveNotMasqueraded { real },
        ];
        assert_eq!(world.found(), expected);
    }
}
