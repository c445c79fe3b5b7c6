//! Finds gaps of a load balancer's configuration in the packets that meet them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::vec::Vec;

use super::holes::{FTP_PORT, Hole, UNPRIVILEGED};
use super::service_gaps::{Sample, control_ports, holes, is_followed, is_read, rules};
use super::{Seen, Sink};
use crate::Instant;
use crate::event::Event;
use crate::ftp::{Form, LineReading, ReplyLines, Sender, read_line};
use crate::ipvs::{ServiceAddress, ServiceConfig};
use crate::netfilter::{Rule, TableName, Target};
use crate::packet::{Headers, Layer4, Protocol, TcpFlags};
use crate::router::{Router, RouterConfig, Verdict};

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

pub(super) fn opens(headers: &Headers) -> bool {
    matches!(headers.layer4, Layer4::Tcp(segment)
        if segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK))
}

/// Returns the endpoints where a server whose address is `own` says that it listens.
pub(super) fn announced(
    payload: &[u8],
    own: IpAddr,
    replies: &mut ReplyLines,
) -> impl Iterator<Item = (Form, SocketAddr)> {
    let lines = payload.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.filter_map(move |line| match read_line(Sender::Server, own, line, replies) {
        LineReading::Announcement(there) => Some((there.form, SocketAddr::new(there.address, there.port))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Behaviour;
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
