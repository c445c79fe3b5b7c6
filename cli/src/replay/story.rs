//! Follows a replay, to tell the story of every control connection afterwards.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Connection, ConnectionId, Direction, Tuple};
use ftp_conntrack::event::{AnnouncementOutcome, DropReason, Event};
use ftp_conntrack::ftp::{Form, Sender};
use ftp_conntrack::inspect::FramePos;
use ftp_conntrack::packet::{Family, Headers, Layer4, Protocol, Segment, TcpFlags};
use ftp_conntrack::replay::{Departure, Hole, Seen, Sink, Watch};
use ftp_conntrack::router::{Router, Verdict};

use crate::replay::balanced::Balanced;
use crate::replay::decode::{describe, short};
use crate::replay::session::{Announced, Data, Ending, Moved, Outcome, Said, Session, Step};
use crate::replay::talk::line_at;

/// So many frames are named where many have the same fate.
const NAMED: usize = 8;
/// So many packets of no session are told of that Linux would have sent otherwise.
const DEPARTURES: usize = 20;
/// Maximum number of connections without a helper to list.
const UNHELPED: usize = 20;
/// So much of a dropped packet is shown.
const DROPPED: usize = 140;

/// The story so far.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) sessions: Vec<Session>,
    /// Dropped packets that belong to no session.
    pub(crate) drops: BTreeMap<String, Tally>,
    /// Rules that nobody here understands, and who met them.
    pub(crate) undecided: BTreeMap<String, Tally>,
    /// Packets of no session of which something else left than Linux would have sent, the first of them.
    pub(crate) departures: Vec<(u64, String)>,
    /// Connections that are neither control nor data connections.
    pub(crate) others: u64,
    /// Connections to control ports that no helper reads: the first frame, the tuple, and true if it was a SYN.
    pub(crate) unhelped: Vec<(u64, Tuple, bool)>,
    /// Control ports.
    pub(crate) watched: Vec<u16>,
    /// Holes that the load balancer leaves, and the frames in which they were seen.
    pub(crate) holes: Vec<(Hole, Option<u64>)>,
    pub(crate) watch: Option<Watch>,
    pub(crate) packets: u64,
    pub(crate) leaving: u64,
    pub(crate) dropped: u64,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Instant,
    pub(crate) roles: HashMap<ConnectionId, Role>,
    pub(crate) balanced: Balanced,
    pub(crate) current: Current,
}

/// The number of packets with the same fate, and the first of them.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) frames: Vec<u64>,
}

impl Tally {
    fn note(&mut self, frame: u64) {
        self.count += 1;
        if self.frames.len() < NAMED {
            self.frames.push(frame);
        }
    }
}

/// The role of a connection in the story.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Control { session: usize },
    Data { session: usize, step: usize },
}

impl Role {
    const fn session(self) -> usize {
        match self {
            Self::Control { session } | Self::Data { session, .. } => session,
        }
    }
}

/// The tracker's answer to a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracked {
    /// It does not know its connection.
    No,
    Yes,
    /// A helper reads its connection.
    WithHelper,
}

/// The packet at hand.
#[derive(Default)]
pub(crate) struct Current {
    pub(crate) frame: u64,
    arrived: Vec<u8>,
    left: Vec<u8>,
    pub(crate) connection: Option<ConnectionId>,
    /// True if it has text that was sent before.
    again: bool,
}

impl Sink for Story {
    fn packet(&mut self, packet: Seen<'_>, verdict: Verdict, router: &Router) {
        self.look(Some(packet.frame), |watch| watch.packet(packet, verdict, router));
        self.packets += 1;
        self.first.get_or_insert(packet.time);
        self.last = packet.time;
        self.current.begin(packet.frame, packet.bytes);
        let Ok(headers) = Headers::find(packet.bytes) else { return };
        let Some(tuple) = Tuple::of(&headers, packet.bytes) else { return };
        let conntrack = router.conntrack();
        let found = conntrack.find(packet.time, &tuple);
        let tracked = match found.and_then(|(id, _)| conntrack.get(id)) {
            None => Tracked::No,
            Some(connection) if connection.has_helper() => Tracked::WithHelper,
            Some(_) => Tracked::Yes,
        };
        self.see_balanced(&packet, verdict, &headers, tracked);
        let Some((id, direction)) = found else { return };
        self.current.connection = Some(id);
        let (Some(connection), Layer4::Tcp(segment)) = (conntrack.get(id), headers.layer4) else { return };
        if matches!(verdict, Verdict::Forward { .. } | Verdict::Local)
            && let Some(ending) = self.ending(id)
        {
            ending.see(packet.frame, direction, segment.flags);
        }
        if connection.has_helper() {
            let at = FramePos { frame: packet.frame, time: packet.time };
            let session = self.session(id, connection, at);
            self.hear(at, session, direction, &segment, headers.payload(packet.bytes));
        }
    }

    fn leaves(&mut self, packet: Seen<'_>, router: &Router) {
        self.look(Some(packet.frame), |watch| watch.leaves(packet, router));
        self.leaving += 1;
        if self.current.left.is_empty() && packet.frame == self.current.frame {
            self.current.left.extend_from_slice(packet.bytes);
        }
    }

    fn event(&mut self, frame: u64, time: Instant, event: &Event, router: &Router) {
        self.look(Some(frame), |watch| watch.event(frame, time, event, router));
        let at = FramePos { frame, time };
        match event {
            Event::New { connection, original, reply, master, helper } => {
                self.opened(at, *connection, (*original, *reply), *master, *helper);
                self.current.connection = Some(*connection);
                self.see_current(*connection);
            }
            Event::Destroyed { connection, counters, reason, .. } => {
                if let Some(ending) = self.ending(*connection) {
                    ending.count(*counters);
                    ending.forgotten = Some((at, *reason));
                }
            }
            Event::Announced { connection, sender, form, address, port, outcome } => {
                let text = format!("{form} {address} port {port}");
                self.announced(at, *connection, (*sender, *form, &text), outcome, router);
            }
            Event::Denied { connection, sender, form, reason } => {
                self.denied(at, *connection, (*sender, *form), format!("refused: {reason}"));
            }
            Event::Encrypted { connection, .. } => {
                let Some(session) = self.roles.get(connection).map(|role| role.session()) else { return };
                let what = "TLS begins: nothing more is read".to_owned();
                self.sessions[session].steps.push(Step::Noted { at, what, bad: false });
            }
            Event::Fulfilled { connection, master, expected } => {
                let data = Data { opened: at, tuples: None, ending: Ending::default() };
                self.settle(*master, *expected, Outcome::Came(*expected, Box::new(data)), Some(*connection));
            }
            Event::Unfulfilled { master, expected, reason } => {
                self.settle(*master, *expected, Outcome::GivenUp(*expected, at, *reason), None);
            }
            Event::Balanced { .. }
            | Event::BalancedDataAnnounced { .. }
            | Event::BalancedDataArrived { .. }
            | Event::BalancedContested { .. } => {
                self.balanced(at, event, router);
            }
            Event::Dropped { reason, connection, .. } => self.dropped(at, *reason, *connection),
            Event::Undecided { ipv6, rule } => {
                let family = if *ipv6 { Family::V6 } else { Family::V4 };
                self.undecided.entry(place(router, family, *rule)).or_default().note(frame);
            }
            _ => {}
        }
    }

    fn departs(&mut self, departure: &Departure, _: &Router) {
        if departure.alike {
            return;
        }
        let at = FramePos { frame: departure.frame, time: departure.time };
        let why = departure.to_string();
        match departure.connection.and_then(|id| self.roles.get(&id)).map(|role| role.session()) {
            Some(session) => self.sessions[session].steps.push(Step::Departs { at, why }),
            None if self.departures.len() < DEPARTURES => self.departures.push((departure.frame, why)),
            None => {}
        }
    }
}

impl Story {
    /// Notes the holes that are found now; before the first frame, those of the configuration.
    fn look(&mut self, frame: Option<u64>, tell: impl FnOnce(&mut Watch)) {
        let Some(watch) = &mut self.watch else { return };
        if self.packets == 0 {
            self.holes.extend(core::iter::from_fn(|| watch.next_hole()).map(|hole| (hole, None)));
        }
        tell(watch);
        self.holes.extend(core::iter::from_fn(|| watch.next_hole()).map(|hole| (hole, frame)));
    }

    /// Adds the lines of a segment to what is said.
    pub(crate) fn hear(
        &mut self,
        at: FramePos,
        session: usize,
        direction: Direction,
        segment: &Segment,
        payload: &[u8],
    ) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let heard = session.talk.hear(direction, segment, payload);
        self.current.again = session.talk.was_heard();
        let balanced = session.balance.is_some();
        let said = |line: crate::replay::talk::Line| {
            let sender = Sender::from(direction);
            Step::Said(Said { at, sender, line: line.text, sent_on: None, index: line.index, again: false, balanced })
        };
        session.steps.extend(heard.into_iter().map(said));
    }

    /// The capture is over: how those connections stand that the table still has.
    pub(crate) fn finish(&mut self, router: &Router) {
        self.look(None, |_| {});
        let living: Vec<ConnectionId> = self.roles.keys().copied().collect();
        for id in living {
            let connection = router.conntrack().get(id);
            if let (Some(connection), Some(ending)) = (connection, self.ending(id)) {
                ending.state = connection.tcp_state();
                ending.count([Direction::Original, Direction::Reply].map(|way| connection.counters(way)));
            }
        }
    }

    /// The announcements of all sessions.
    pub(crate) fn announcements(&self) -> impl Iterator<Item = &Announced> {
        self.sessions.iter().flat_map(|session| &session.steps).filter_map(|step| match step {
            Step::Announced(announced) => Some(&**announced),
            _ => None,
        })
    }

    fn opened(
        &mut self,
        at: FramePos,
        id: ConnectionId,
        (original, reply): (Tuple, Tuple),
        master: Option<ConnectionId>,
        helper: bool,
    ) {
        if helper {
            self.begin_session(at, id, original, reply);
        } else if let Some(Role::Data { session, step }) = self.roles.get(&id).copied() {
            if let Some(data) = self.data(session, step) {
                data.tuples = Some((original, reply));
            }
        } else if let Some(role) = self.balanced.role(&original) {
            self.roles.insert(id, role);
            self.reply_known(role, original, reply);
        } else if master.is_none() && !self.data_unbalanced(at, id, &original, &reply) {
            let is_control =
                original.protocol() == Protocol::TCP && self.watched.contains(&original.destination_port());
            if is_control && self.unhelped.len() < UNHELPED {
                let begun = self.current.flags().is_some_and(|flags| flags.has(TcpFlags::SYN));
                self.unhelped.push((at.frame, original, begun));
            } else {
                self.others += 1;
            }
        }
    }

    fn begin_session(&mut self, opened: FramePos, id: ConnectionId, original: Tuple, reply: Tuple) -> usize {
        if let Some(role) = self.roles.get(&id) {
            return role.session();
        }
        if let Some(role @ Role::Control { session }) = self.balanced.role(&original) {
            self.roles.insert(id, role);
            self.reply_known(role, original, reply);
            return session;
        }
        let session = self.sessions.len();
        self.roles.insert(id, Role::Control { session });
        let begun = self.current.flags().is_some_and(|flags| flags.has(TcpFlags::SYN));
        self.sessions.push(Session::new(opened, begun, original, reply));
        session
    }

    /// The tracker says how the replies of a balanced connection arrive.
    fn reply_known(&mut self, role: Role, original: Tuple, reply: Tuple) {
        match role {
            Role::Control { session } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.reply = reply;
                }
            }
            Role::Data { session, step } => {
                if let Some(data) = self.data(session, step) {
                    data.tuples = Some((original, reply));
                }
            }
        }
    }

    /// The session of a connection with a helper, begun if its first packet was not heard of yet.
    fn session(&mut self, id: ConnectionId, connection: &Connection, at: FramePos) -> usize {
        let tuple = |way| *connection.tuple(way);
        self.begin_session(at, id, tuple(Direction::Original), tuple(Direction::Reply))
    }

    fn announced(
        &mut self,
        at: FramePos,
        id: ConnectionId,
        (sender, form, text): (Sender, Form, &str),
        outcome: &AnnouncementOutcome,
        router: &Router,
    ) {
        let Some(session) = self.roles.get(&id).map(|role| role.session()) else { return };
        let session = &mut self.sessions[session];
        let is_it = |step: &Step| match step {
            Step::Said(said) => said.at.frame == at.frame && said.sender == sender && begins(&said.line, form),
            _ => false,
        };
        // The helper reads the first such line of a segment.
        let found = session.steps.iter().position(is_it);
        let said = match found.map(|step| session.steps.remove(step)) {
            Some(Step::Said(said)) => said,
            _ => self.current.said(at, sender, form, text),
        };
        let mut announced = Announced { said, moved: None, outcome: Outcome::Foreign };
        match outcome {
            AnnouncementOutcome::Expected { expected, before, after } => {
                announced.outcome = Outcome::Expected(*expected);
                if let Some(after) = after {
                    let line = line_at(self.current.left_payload(), announced.said.index);
                    announced.said.sent_on = Some(line.unwrap_or_else(|| format!("{form} {}", after.as_str())));
                    let growth = after.as_bytes().len() as i32 - before.as_bytes().len() as i32;
                    announced.moved = moved(router, id, sender, growth);
                }
            }
            AnnouncementOutcome::Refused(reason) => announced.outcome = Outcome::Refused(*reason),
            _ => {}
        }
        let at = found.unwrap_or(session.steps.len());
        session.steps.insert(at, Step::Announced(Box::new(announced)));
    }

    /// An announcement was refused: what left in its place, and why.
    fn denied(&mut self, at: FramePos, id: ConnectionId, (sender, form): (Sender, Form), what: String) {
        let Some(session) = self.roles.get(&id).map(|role| role.session()) else { return };
        let steps = &mut self.sessions[session].steps;
        let is_it = |step: &Step| match step {
            Step::Said(said) => said.at.frame == at.frame && said.sender == sender && begins(&said.line, form),
            _ => false,
        };
        let found = steps.iter().rposition(is_it);
        if let Some(Step::Said(said)) = found.and_then(|found| steps.get_mut(found)) {
            said.sent_on = line_at(self.current.left_payload(), said.index);
        }
        let place = found.map_or(steps.len(), |found| found + 1);
        steps.insert(place, Step::Noted { at, what, bad: true });
    }

    /// Settles the first announcement that still waits for this.
    fn settle(&mut self, master: ConnectionId, expected: Tuple, outcome: Outcome, child: Option<ConnectionId>) {
        let Some(session) = self.roles.get(&master).map(|role| role.session()) else { return };
        let waits = |step: &Step| match step {
            Step::Announced(a) => a.outcome.is_pending() && a.outcome.expected() == Some(expected),
            _ => false,
        };
        let Some(step) = self.sessions[session].steps.iter().position(waits) else { return };
        if let Some(Step::Announced(announced)) = self.sessions[session].steps.get_mut(step) {
            announced.outcome = outcome;
        }
        if let Some(child) = child {
            self.roles.insert(child, Role::Data { session, step });
        }
    }

    fn dropped(&mut self, at: FramePos, reason: DropReason, connection: Option<ConnectionId>) {
        self.dropped += 1;
        let role = connection.or(self.current.connection).and_then(|id| self.roles.get(&id).copied());
        match role {
            Some(role) => {
                let what = short(&describe(&self.current.arrived), DROPPED);
                self.sessions[role.session()].steps.push(Step::Dropped { at, reason, what });
            }
            None => self.drops.entry(reason.to_string()).or_default().note(at.frame),
        }
    }

    /// The first packet of a connection can end it as well: it is only known once it left.
    fn see_current(&mut self, id: ConnectionId) {
        let frame = self.current.frame;
        let Some(flags) = self.current.flags() else { return };
        if let Some(ending) = self.ending(id) {
            ending.see(frame, Direction::Original, flags);
        }
    }

    fn ending(&mut self, id: ConnectionId) -> Option<&mut Ending> {
        let role = *self.roles.get(&id)?;
        self.ending_of(role)
    }

    pub(crate) fn ending_of(&mut self, role: Role) -> Option<&mut Ending> {
        match role {
            Role::Control { session } => self.sessions.get_mut(session).map(|session| &mut session.ending),
            Role::Data { session, step } => self.data(session, step).map(|data| &mut data.ending),
        }
    }

    fn data(&mut self, session: usize, step: usize) -> Option<&mut Data> {
        match self.sessions.get_mut(session)?.steps.get_mut(step)? {
            Step::Announced(announced) => match &mut announced.outcome {
                Outcome::Came(_, data) => Some(data),
                _ => None,
            },
            Step::Data(step) => Some(&mut step.data),
            _ => None,
        }
    }
}

impl Current {
    fn begin(&mut self, frame: u64, arrived: &[u8]) {
        self.frame = frame;
        self.arrived.clear();
        self.arrived.extend_from_slice(arrived);
        self.left.clear();
        self.connection = None;
        self.again = false;
    }

    /// A line that was not heard: its segment was sent before, or does not end with the line.
    fn said(&self, at: FramePos, sender: Sender, form: Form, text: &str) -> Said {
        let payload = Headers::find(&self.arrived).map_or(&[][..], |headers| headers.payload(&self.arrived));
        let mut lines = (0..).map_while(|index| Some((index, line_at(payload, index)?)));
        let found = lines.find(|(_, line)| begins(line, form));
        let (index, line) = found.unwrap_or((usize::MAX, text.to_owned()));
        Said { at, sender, line, sent_on: None, index, again: self.again, balanced: false }
    }

    pub(crate) fn source(&self) -> Option<SocketAddr> {
        let headers = Headers::find(&self.arrived).ok()?;
        let (port, _) = headers.ports(&self.arrived)?;
        Some(SocketAddr::new(headers.source(&self.arrived), port))
    }

    pub(crate) fn length(&self) -> u64 {
        self.arrived.len() as u64
    }

    pub(crate) fn flags(&self) -> Option<TcpFlags> {
        match Headers::find(&self.arrived).ok()?.layer4 {
            Layer4::Tcp(segment) => Some(segment.flags),
            _ => None,
        }
    }

    pub(crate) fn left_payload(&self) -> &[u8] {
        Headers::find(&self.left).map_or(&[], |headers| headers.payload(&self.left))
    }
}

fn begins(line: &str, form: Form) -> bool {
    let word = form.to_string();
    line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(&word))
}

/// Returns the shift of the stream after an announcement.
fn moved(router: &Router, id: ConnectionId, sender: Sender, growth: i32) -> Option<Moved> {
    let conntrack = router.conntrack();
    let shift = conntrack.adjustment(conntrack.get(id)?.helper_slot()?)?.shift(Direction::from(sender) as usize)?;
    Some(Moved { growth, position: shift.correction_position(), offset_after: shift.offset_after() })
}

/// Returns the place of a rule.
pub(crate) fn place(router: &Router, family: Family, rule: usize) -> String {
    router.rule_origin(family, rule).map_or_else(|| format!("rule {rule}"), ToString::to_string)
}
