//! Follows connections through a load balancer, whether or not a helper reads them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::conntrack::{ConnectionId, Direction, Tuple};
use ftp_conntrack::event::{BalancedBy, Event};
use ftp_conntrack::ftp::{LineReading, Sender, read_line};
use ftp_conntrack::inspect::FramePos;
use ftp_conntrack::ipvs::{EntryId, Forwarding, ServiceAddress};
use ftp_conntrack::packet::{Headers, Layer4, Protocol};
use ftp_conntrack::replay::Seen;
use ftp_conntrack::router::{Router, Verdict};

use crate::replay::session::{Data, DataStep, Ending, Said, Session, Step};
use crate::replay::story::{Current, Role, Story, Tracked};
use crate::replay::talk::line_at;

/// The port that control connections go to, beside those that `ip_vs_ftp` reads.
const FTP_PORT: u16 = 21;

/// The real server of a control connection, and why it is this one.
#[derive(Clone)]
pub(crate) struct Balance {
    entry: EntryId,
    service: ServiceAddress,
    client: SocketAddr,
    dialled: SocketAddr,
    pub(crate) real: SocketAddr,
    forwarding: Forwarding,
    why: String,
    /// Announcements of either side: its sender, and the port.
    pub(crate) announced: Vec<(Sender, u16)>,
}

impl Balance {
    /// `service -f 21: 10.77.1.13:21 (Masq), chosen by rr`.
    pub(crate) fn told(&self) -> String {
        format!("service {}: {} ({}), {}", self.service, self.real, self.forwarding.name(), self.why)
    }
}

/// The balanced connections, by the ends of packets as they arrive.
#[derive(Default)]
pub(crate) struct Balanced {
    places: HashMap<(SocketAddr, SocketAddr), (Role, Direction)>,
    by_entry: HashMap<EntryId, usize>,
    /// The sessions of a client's address.
    by_client: HashMap<IpAddr, Vec<usize>>,
}

impl Balanced {
    /// Packets between these ends belong here; replies come from `real`.
    fn place(&mut self, role: Role, (from, to): (SocketAddr, SocketAddr), answers: SocketAddr) {
        self.places.insert((from, to), (role, Direction::Original));
        self.places.insert((answers, from), (role, Direction::Reply));
    }

    /// Returns the role of a connection that the tracker knows by this tuple.
    pub(crate) fn role(&self, original: &Tuple) -> Option<Role> {
        let ends = (
            SocketAddr::new(original.source(), original.source_port()),
            SocketAddr::new(original.destination(), original.destination_port()),
        );
        self.places.get(&ends).map(|(role, _)| *role).filter(|_| original.protocol() == Protocol::TCP)
    }
}

impl Story {
    /// A packet came, which may belong to a connection that only the load balancer knows. `tracked`: whether the tracker
    /// counts it.
    pub(crate) fn see_balanced(&mut self, packet: &Seen<'_>, verdict: Verdict, headers: &Headers, tracked: Tracked) {
        let Some((from, to)) = headers.ports(packet.bytes) else { return };
        let ends = (SocketAddr::new(headers.source(packet.bytes), from), {
            SocketAddr::new(headers.destination(packet.bytes), to)
        });
        let (Some((role, direction)), Layer4::Tcp(segment)) =
            (self.balanced.places.get(&ends).copied(), headers.layer4)
        else {
            return;
        };
        if let Some(ending) = self.ending_of(role).filter(|_| matches!(verdict, Verdict::Forward { .. })) {
            ending.see(packet.frame, direction, segment.flags);
            if tracked == Tracked::No {
                ending.packets[direction as usize] += 1;
                ending.bytes[direction as usize] += packet.bytes.len() as u64;
            }
        }
        if let (Role::Control { session }, false) = (role, tracked == Tracked::WithHelper) {
            let at = FramePos { frame: packet.frame, time: packet.time };
            self.hear(at, session, direction, &segment, headers.payload(packet.bytes));
        }
        if let Role::Control { session } = role {
            self.note_announced(session, Sender::from(direction), headers.payload(packet.bytes));
        }
    }

    /// Remembers which ports are announced, so that data connections that no entry waits for find their session.
    fn note_announced(&mut self, session: usize, sender: Sender, payload: &[u8]) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let Some(balance) = &mut session.balance else { return };
        let own = if sender == Sender::Client { balance.client } else { balance.real };
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            let reading = read_line(sender, own.ip(), line, &mut session.replies);
            if let LineReading::Announcement(announcement) = reading {
                balance.announced.push((sender, announcement.port));
            }
        }
    }

    /// Notes an event of the load balancer.
    pub(crate) fn balanced(&mut self, at: FramePos, event: &Event, router: &Router) {
        match event {
            Event::Balanced { entry, service, client, dialled, real_server, by } => {
                let forwarding = router.ipvs().and_then(|ipvs| ipvs.get(*entry)).map(|entry| entry.forwarding());
                let balance = Balance {
                    entry: *entry,
                    service: *service,
                    client: *client,
                    dialled: *dialled,
                    real: *real_server,
                    forwarding: forwarding.unwrap_or(Forwarding::Masquerade),
                    why: why(*by, router),
                    announced: Vec::new(),
                };
                if is_control(dialled.port(), router) || self.helped(at, &balance, router).is_some() {
                    self.begin_balanced(at, balance, router);
                } else {
                    self.data_balanced(at, &balance);
                }
            }
            Event::BalancedDataAnnounced { control, entry, sender, client, dialled, real_server } => {
                let from = if client.port() == 0 { format!("{}:*", client.ip()) } else { client.to_string() };
                let what = match sender {
                    Sender::Client if client.port() == 0 => {
                        let (to, real) = (dialled.ip(), real_server.ip());
                        format!("entry {entry} waits: {from} to {to}:*, for {real}: the client's next connection")
                    }
                    Sender::Client => format!("entry {entry} waits: {real_server}, as {dialled}, to {from}"),
                    _ => format!("entry {entry} waits: {from} to {dialled}, for {real_server}"),
                };
                self.data_announced(at, *control, *sender, what);
            }
            Event::BalancedDataArrived { entry, control, client, dialled, real_server } => {
                let session = control.and_then(|control| self.balanced.by_entry.get(&control)).copied();
                let Some(session) = session else { return };
                let active = self.current.comes_from(*real_server);
                let (from, to) = if active { (*real_server, *client) } else { (*client, *dialled) };
                let own = self.sessions.get(session).and_then(|session| session.balance.as_ref());
                let direct = own.is_some_and(|own| own.forwarding != Forwarding::Masquerade);
                let answers = match (active, direct) {
                    (true, _) => *client,
                    (_, true) => *dialled,
                    _ => *real_server,
                };
                let opener = if active { Sender::Server } else { Sender::Client };
                let why = format!("led by entry {entry} to {real_server}, which waited for it");
                let step = DataStep { opener, why, bad: false, data: data(at, (from, to), (answers, from)) };
                let ends = if active {
                    (from, to, SocketAddr::new(dialled.ip(), dialled.port()))
                } else {
                    (from, to, answers)
                };
                self.begin_data(session, step, ends);
            }
            Event::BalancedContested { client, dialled, real_servers: [one, other] } => {
                let what = format!("{client} dials {dialled}: that {one} or {other} may have told it");
                let latest = self.balanced.by_client.get(&client.ip()).and_then(|own| own.last());
                if let Some(session) = latest.and_then(|session| self.sessions.get_mut(*session)) {
                    session.steps.push(Step::Noted { at, what, bad: true });
                }
            }
            _ => {}
        }
    }

    fn begin_balanced(&mut self, at: FramePos, balance: Balance, router: &Router) {
        let answers = answers_from(&balance);
        let ends = (balance.client, balance.dialled);
        let Some(original) = Tuple::new(Protocol::TCP, ends.0, ends.1) else { return };
        let Some(reply) = Tuple::new(Protocol::TCP, answers, ends.0) else { return };
        let known = self.helped(at, &balance, router);
        let number = known.unwrap_or(self.sessions.len());
        self.balanced.place(Role::Control { session: number }, ends, answers);
        self.balanced.by_entry.insert(balance.entry, number);
        self.balanced.by_client.entry(balance.client.ip()).or_default().push(number);
        if known.is_none() {
            self.sessions.push(Session::new(at, true, original, reply));
        }
        if let Some(session) = self.sessions.get_mut(number) {
            session.balance = Some(balance);
        }
    }

    /// The session of a connection that a helper reads: it has begun with the packet.
    fn helped(&self, at: FramePos, balance: &Balance, router: &Router) -> Option<usize> {
        let original = Tuple::new(Protocol::TCP, balance.client, balance.dialled)?;
        let (id, _) = router.conntrack().find(at.time, &original)?;
        match self.roles.get(&id)? {
            Role::Control { session } => Some(*session).filter(|session| *session < self.sessions.len()),
            Role::Data { .. } => None,
        }
    }

    /// A client dialled another port than that of a control connection, and a service took it.
    fn data_balanced(&mut self, at: FramePos, data_balance: &Balance) {
        let Balance { entry, client, dialled, real, .. } = *data_balance;
        let announced = (Sender::Server, dialled.port());
        let Some(session) = self.session_of_client(client.ip(), announced, |own| own.dialled.ip() == dialled.ip())
        else {
            self.others += 1;
            return;
        };
        let at_home = self.sessions.get(session).and_then(|s| s.balance.as_ref()).map(|own| own.real.ip());
        let bad = at_home.is_some_and(|own| own != real.ip());
        let another = if bad { ", which is not the control connection's real server" } else { "" };
        let answers = answers_from(data_balance);
        let why = format!("led by entry {entry} to {real}: {}{another}", data_balance.why);
        let step = DataStep { opener: Sender::Client, why, bad, data: data(at, (client, dialled), (answers, client)) };
        self.begin_data(session, step, (client, dialled, answers));
    }

    /// A real server opens a connection to a client of its, without an entry; or a client dials what nobody takes.
    pub(crate) fn data_unbalanced(&mut self, at: FramePos, id: ConnectionId, original: &Tuple, reply: &Tuple) -> bool {
        let announced = (Sender::Client, original.destination_port());
        let found = self.session_of_client(original.destination(), announced, |own| own.real.ip() == original.source());
        let Some(session) = found else { return self.data_not_taken(at, original) };
        let leaves_as = SocketAddr::new(reply.destination(), reply.destination_port());
        let virtual_at = self.sessions.get(session).and_then(|s| s.balance.as_ref()).map(|own| own.dialled.ip());
        let bad = virtual_at != Some(leaves_as.ip());
        let why = format!("led by no entry: it leaves from {leaves_as}");
        let (source, destination) = (original.source(), original.destination());
        let (from, to) = (SocketAddr::new(source, original.source_port()), {
            SocketAddr::new(destination, original.destination_port())
        });
        let data = Data { opened: at, tuples: Some((*original, *reply)), ending: Ending::default() };
        let step = DataStep { opener: Sender::Server, why, bad, data };
        let role = self.begin_data(session, step, (from, to, leaves_as));
        self.roles.insert(id, role);
        true
    }

    /// A client dials a port that was announced to it, and no service takes it.
    fn data_not_taken(&mut self, at: FramePos, original: &Tuple) -> bool {
        let announced = (Sender::Server, original.destination_port());
        let is_it = |own: &Balance| own.dialled.ip() == original.destination() && own.announced.contains(&announced);
        let Some(session) = self.session_of_client(original.source(), announced, is_it) else { return false };
        if let Some(session) = self.sessions.get_mut(session) {
            let what = format!("{original}: no service, mark or entry takes it, and it ends at the director");
            session.steps.push(Step::Noted { at, what, bad: true });
        }
        true
    }

    /// The latest session of a client to which a data connection may belong: one that announced its port before others.
    fn session_of_client(
        &self,
        client: IpAddr,
        announced: (Sender, u16),
        fits: impl Fn(&Balance) -> bool,
    ) -> Option<usize> {
        let own = self.balanced.by_client.get(&client)?;
        let balance = |session: usize| self.sessions.get(session).and_then(|session| session.balance.as_ref());
        let fitting = || own.iter().rev().copied().filter(|session| balance(*session).is_some_and(&fits));
        fitting()
            .find(|session| balance(*session).is_some_and(|own| own.announced.contains(&announced)))
            .or_else(|| fitting().next())
    }

    fn begin_data(
        &mut self,
        session: usize,
        step: DataStep,
        (from, to, answered_to): (SocketAddr, SocketAddr, SocketAddr),
    ) -> Role {
        let place = self.sessions.get(session).map_or(0, |session| session.steps.len());
        let role = Role::Data { session, step: place };
        if step.opener == Sender::Client {
            self.balanced.place(role, (from, to), answered_to);
        } else {
            self.balanced.places.insert((from, to), (role, Direction::Original));
            self.balanced.places.insert((to, answered_to), (role, Direction::Reply));
        }
        if let Some(session) = self.sessions.get_mut(session) {
            session.steps.push(Step::Data(Box::new(step)));
        }
        self.see_first(role);
        role
    }

    /// The first packet of what only now is known.
    fn see_first(&mut self, role: Role) {
        let (frame, flags, length) = (self.current.frame, self.current.flags(), self.current.length());
        let tracked = self.current.connection.is_some();
        if let (Some(flags), Some(ending)) = (flags, self.ending_of(role)) {
            ending.see(frame, Direction::Original, flags);
            if !tracked {
                ending.packets[0] += 1;
                ending.bytes[0] += length;
            }
        }
    }

    fn data_announced(&mut self, at: FramePos, control: EntryId, sender: Sender, what: String) {
        let Some(session) = self.balanced.by_entry.get(&control) else { return };
        let Some(session) = self.sessions.get_mut(*session) else { return };
        let payload = self.current.left_payload();
        let said = session.steps.iter_mut().rev().find_map(|step| match step {
            Step::Said(said) if said.at.frame == at.frame && said.sender == sender => Some(said),
            _ => None,
        });
        if let Some(said) = said {
            note_sent_on(said, payload);
        }
        session.steps.push(Step::Noted { at, what, bad: false });
    }
}

/// The line as it left, if it changed on its way.
fn note_sent_on(said: &mut Said, left: &[u8]) {
    said.balanced = true;
    said.sent_on = line_at(left, said.index).filter(|line| *line != said.line);
}

impl Current {
    fn comes_from(&self, end: SocketAddr) -> bool {
        self.source() == Some(end)
    }
}

/// Returns the source of the real server's packets as they arrive here.
const fn answers_from(balance: &Balance) -> SocketAddr {
    match balance.forwarding {
        Forwarding::Masquerade => balance.real,
        _ => balance.dialled,
    }
}

fn data(opened: FramePos, (from, to): (SocketAddr, SocketAddr), answer: (SocketAddr, SocketAddr)) -> Data {
    let original = Tuple::new(Protocol::TCP, from, to);
    let reply = Tuple::new(Protocol::TCP, answer.0, answer.1);
    Data { opened, tuples: original.zip(reply), ending: Ending::default() }
}

fn is_control(port: u16, router: &Router) -> bool {
    port == FTP_PORT || router.ipvs().is_some_and(|ipvs| ipvs.ftp_ports().contains(&port))
}

fn why(by: BalancedBy, router: &Router) -> String {
    match by {
        BalancedBy::Scheduler(scheduler) => format!("chosen by {}", scheduler.name()),
        BalancedBy::Persistence(template) => match router.ipvs().and_then(|ipvs| ipvs.get(template)) {
            Some(entry) => format!("by persistence: template {template} keeps {} there", entry.client().ip()),
            None => format!("by persistence: template {template}"),
        },
        _ => "for a reason unknown here".to_owned(),
    }
}
