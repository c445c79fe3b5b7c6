//! All connections of a capture.

use core::net::SocketAddr;
use core::time::Duration;
use std::boxed::Box;
use std::collections::HashMap;
use std::io::Read;
use std::vec::Vec;

use super::elsewhere::Elsewhere;
use super::ending::Trail;
use super::expected::{Expected, Open, Syn};
use super::flow::FlowKey;
use super::judge::{Case, Judge};
use super::packets::{Packets, TcpPacket};
use super::session::{Out, Session, Text};
use super::{Began, Data, Fact, Fit, Moment, Opened, SessionId, Sink, Summary, Unfulfilled};
use crate::capture::{Reader, Record};
use crate::conntrack::Direction;
use crate::ftp::Sender;
use crate::packet::link::{self, LinkError};
use crate::packet::{Segment, TcpFlags};

/// So many control connections are followed at once; beyond that, the longest silent are given up.
pub const MAX_SESSIONS: usize = 4096;
/// So many data connections are followed at once.
pub const MAX_DATA: usize = 8192;
/// A control connection that is over is forgotten after this time: its data connection may still come.
const LINGER: Duration = Duration::from_secs(30);
/// What is over is looked for once in so many packets of FTP.
const SWEEP: u64 = 4096;

/// What an inspector watches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The ports of servers' control connections.
    pub ports: Vec<u16>,
}

impl Default for Options {
    /// Port 21.
    fn default() -> Self {
        Self { ports: Vec::from([21]) }
    }
}

/// Watches packets, and tells what FTP there is in them.
pub struct Inspector {
    options: Options,
    packets: Packets,
    judge: Judge,
    flows: HashMap<FlowKey, Flow>,
    /// How many of them are control connections.
    sessions: usize,
    /// The data connections of each control connection.
    data: HashMap<SessionId, Vec<FlowKey>>,
    expected: Expected,
    elsewhere: Elsewhere,
    summary: Summary,
    latest: Option<Moment>,
    next_session: u64,
    next_sweep: u64,
}

/// A connection that is followed.
enum Flow {
    Control(Box<Session>),
    Data(Box<DataFlow>),
}

struct DataFlow {
    data: Data,
    trail: Trail,
    copies: super::copies::Copies,
    ended: bool,
}

/// A packet on its way through the inspector.
struct Transit {
    at: Moment,
    packet: TcpPacket,
    from: SocketAddr,
    to: SocketAddr,
    key: FlowKey,
}

impl Transit {
    /// How many bytes of payload it had.
    const fn payload(&self) -> usize {
        self.packet.length.saturating_sub(self.packet.segment.payload)
    }

    /// The payload as far as it was captured.
    fn captured<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        let TcpPacket { segment, captured, .. } = &self.packet;
        buffer.get(segment.payload..*captured).unwrap_or_default()
    }

    /// How many bytes of payload the capture left out.
    fn missing(&self) -> usize {
        self.packet.length - self.packet.captured.max(self.packet.segment.payload.min(self.packet.length))
    }

    const fn flags(&self) -> TcpFlags {
        self.packet.segment.flags
    }

    fn began(&self) -> Began {
        match (self.flags().has(TcpFlags::SYN), self.flags().has(TcpFlags::ACK)) {
            (true, false) => Began::Syn,
            (true, true) => Began::SynAck,
            _ => Began::MidStream,
        }
    }
}

impl Inspector {
    /// An inspector that has seen nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            packets: Packets::new(),
            judge: Judge::new(),
            flows: HashMap::new(),
            sessions: 0,
            data: HashMap::new(),
            expected: Expected::default(),
            elsewhere: Elsewhere::default(),
            summary: Summary::default(),
            latest: None,
            next_session: 1,
            next_sweep: SWEEP,
        }
    }

    /// Reads a capture to its end, or to where it breaks.
    pub fn run<R: Read>(&mut self, capture: &mut Reader<R>, sink: &mut dyn Sink) -> Summary {
        while let Some(record) = capture.next() {
            match record {
                Ok(record) => self.record(&record, sink),
                Err(error) => {
                    self.summary.damaged += 1;
                    sink.broken(&error);
                }
            }
        }
        self.finish(sink)
    }

    /// A frame of a capture.
    pub fn record(&mut self, record: &Record<'_>, sink: &mut dyn Sink) {
        let at = Moment { frame: record.frame, time: record.time };
        self.note_frame(at);
        sink.frame(at);
        let payload = match link::find_network(record.link_type, record.data) {
            Ok(payload) => payload,
            Err(error) => {
                self.summary.unreadable += 1;
                if let LinkError::Unsupported(link) = error {
                    self.summary.link_type.get_or_insert(link);
                }
                return;
            }
        };
        if payload.family.is_none() {
            self.summary.not_ip += 1;
            return;
        }
        let bytes = record.data.get(payload.offset..).unwrap_or_default();
        self.network(at, bytes, record.original_len.saturating_sub(payload.offset), sink);
    }

    /// A network packet, from its IP header as far as it was captured. `original`: how many bytes it had.
    pub fn packet(&mut self, at: Moment, bytes: &[u8], original: usize, sink: &mut dyn Sink) {
        self.note_frame(at);
        self.network(at, bytes, original, sink);
    }

    /// The capture is over: what is left to tell is told.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Summary {
        let at = self.latest.unwrap_or(Moment { frame: 0, time: crate::Instant::from_secs(0) });
        let mut keys: Vec<(SessionId, bool, FlowKey)> = self.flows.iter().map(|(key, flow)| flow.order(*key)).collect();
        keys.sort_unstable();
        for (session, is_control, key) in &keys {
            self.end_flow(*key, at, false, sink);
            if *is_control {
                self.give_up(*session, at, Unfulfilled::EndOfCapture, sink);
            }
        }
        for (session, _, _) in keys.iter().filter(|(_, is_control, _)| *is_control) {
            sink.fact(at, &Fact::Done { session: *session });
        }
        self.flows.clear();
        self.data.clear();
        self.sessions = 0;
        self.summary.clone()
    }

    fn note_frame(&mut self, at: Moment) {
        self.summary.frames += 1;
        let back = self.latest.is_some_and(|latest| at.time < latest.time);
        self.summary.steps_back += u64::from(back);
        let (first, last) = self.summary.span.unwrap_or((at.time, at.time));
        self.summary.span = Some((first.min(at.time), last.max(at.time)));
        self.latest = Some(at);
    }

    fn network(&mut self, at: Moment, bytes: &[u8], original: usize, sink: &mut dyn Sink) {
        sink.packet(at, bytes);
        let Some(packet) = self.packets.find(at, bytes, original, &mut self.summary) else { return };
        let buffer = &self.packets.buffer;
        let Some((source, destination)) = packet.headers.ports(buffer) else { return };
        let from = SocketAddr::new(packet.headers.source(buffer), source);
        let to = SocketAddr::new(packet.headers.destination(buffer), destination);
        self.segment(&Transit { at, packet, from, to, key: FlowKey::of(from, to) }, sink);
    }

    fn segment(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        let again = match self.flows.get(&transit.key) {
            Some(flow) => flow.begins_another(transit),
            None => false,
        };
        if again {
            self.forget_flow(transit.key, transit.at, false, sink);
        }
        match self.flows.get(&transit.key) {
            Some(Flow::Control(_)) => self.control(transit, sink),
            Some(Flow::Data(_)) => self.data(transit, sink),
            None => self.unknown(transit, sink),
        }
    }

    /// A packet of a connection that is not followed: does it begin one that is to be?
    fn unknown(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        if transit.flags().has(TcpFlags::RST) {
            return;
        }
        let watched = |end: SocketAddr| self.options.ports.contains(&end.port());
        let control = match (transit.began(), watched(transit.from), watched(transit.to)) {
            (Began::Syn, _, true) | (Began::SynAck, true, _) => true,
            // Whoever opens a connection is no server: from a control port to another.
            (Began::Syn | Began::SynAck, ..) => false,
            (_, from, to) => from || to,
        };
        if control {
            return self.open_session(transit, sink);
        }
        if self.open_data(transit, sink) {
            return;
        }
        if transit.began() == Began::Syn {
            self.expected.remember(Syn { at: transit.at, from: transit.from, to: transit.to });
        }
        let heard = self.elsewhere.hear(transit.from, transit.to, transit.captured(&self.packets.buffer));
        if let Some(server) = heard {
            sink.fact(transit.at, &Fact::Elsewhere { server, client: transit.from });
        }
    }

    fn open_session(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        if self.sessions >= MAX_SESSIONS {
            self.make_room(transit.at, sink);
        }
        let from_client = match (transit.began(), self.options.ports.contains(&transit.to.port())) {
            (Began::Syn, _) => true,
            (Began::SynAck, _) => false,
            (_, true) if self.options.ports.contains(&transit.from.port()) => {
                // Both are control ports: only a server begins with a code.
                !matches!(transit.captured(&self.packets.buffer), [b'1'..=b'6', b'0'..=b'9', b'0'..=b'9', ..])
            }
            (_, to) => to,
        };
        let (client, server) = if from_client { (transit.from, transit.to) } else { (transit.to, transit.from) };
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions += 1;
        let opened = Opened { session, client, server, began: transit.began(), tunnel: transit.packet.tunnel };
        let mut out = Out::new(sink, &mut self.summary, &mut self.expected);
        let session = Session::open(opened, transit.at, &mut out);
        self.flows.insert(transit.key, Flow::Control(Box::new(session)));
        self.control(transit, sink);
    }

    fn control(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        let Some(Flow::Control(session)) = self.flows.get_mut(&transit.key) else { return };
        let sender = if transit.from == session.ends.client { Sender::Client } else { Sender::Server };
        self.summary.ftp += 1;
        let Transit { at, packet, .. } = transit;
        let TcpPacket { headers, segment, length, .. } = packet;
        let place = Direction::from(sender) as usize;
        if session.copies.is_copy(place, at.time, &self.packets.buffer, headers, segment) {
            self.summary.copies += 1;
            return;
        }
        let missing = transit.missing();
        self.summary.cut += u64::from(packet.captured < *length);
        let dialled = self.options.ports.contains(&transit.to.port());
        let captured = packet.captured;
        let mut case = Case { time: at.time, headers, buffer: &mut self.packets.buffer, length: *length, captured };
        let judged = self.judge.control(&mut case, &mut session.followed, sender, dialled);
        let captured = transit.captured(&self.packets.buffer);
        let text = Text { captured, missing: missing as u32, judged };
        let mut out = Out::new(sink, &mut self.summary, &mut self.expected);
        session.segment(sender, *at, segment, text, &mut out);
        let fresh = core::mem::take(&mut out.fresh);
        for open in fresh {
            self.announced(&open, *at, sink);
        }
        self.sweep(*at, sink);
    }

    /// An endpoint was announced: its connection may have come before, where packets are out of order.
    fn announced(&mut self, open: &Open, at: Moment, sink: &mut dyn Sink) {
        if let Some((number, why)) = self.expected.announce(*open) {
            let fact = Fact::Unfulfilled { session: open.session, number, why };
            Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &fact);
        }
        let Some(Syn { at, from, to }) = self.expected.came_before(open, at.time) else { return };
        let key = FlowKey::of(from, to);
        if let Some((met, fit)) = self.expected.meet(from, to)
            && !self.flows.contains_key(&key)
        {
            self.begin_data(key, at, (from, to), (&met, fit), Began::Syn, false, sink);
        }
    }

    /// Whether a packet belongs to a data connection that was announced.
    fn open_data(&mut self, transit: &Transit, sink: &mut dyn Sink) -> bool {
        if self.expected.is_empty() {
            return false;
        }
        let began = transit.began();
        let forward = if began == Began::SynAck { None } else { self.expected.meet(transit.from, transit.to) };
        let found = match (forward, began) {
            (Some(met), _) => Some((met, (transit.from, transit.to))),
            (None, Began::Syn) => None,
            (None, _) => self.expected.meet(transit.to, transit.from).map(|met| (met, (transit.to, transit.from))),
        };
        let Some(((open, fit), ends)) = found else { return false };
        let TcpPacket { headers, captured, length, .. } = &transit.packet;
        let buffer = &mut self.packets.buffer;
        let case = Case { time: transit.at.time, headers, buffer, length: *length, captured: *captured };
        let related = self.judge.data(&case);
        self.begin_data(transit.key, transit.at, ends, (&open, fit), began, related, sink);
        self.data(transit, sink);
        true
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a data connection is")]
    fn begin_data(
        &mut self,
        key: FlowKey,
        at: Moment,
        (from, to): (SocketAddr, SocketAddr),
        (open, fit): (&Open, Fit),
        began: Began,
        related: bool,
        sink: &mut dyn Sink,
    ) {
        if self.flows.len() - self.sessions >= MAX_DATA {
            self.make_room(at, sink);
        }
        let Open { session, number, opener, met, .. } = *open;
        let data = Data { session, number, earlier: met, from, to, opener, began, fit, related };
        Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &Fact::DataOpened(data));
        let copies = super::copies::Copies::default();
        let flow = DataFlow { data, trail: Trail::new(at, began), copies, ended: false };
        self.data.entry(session).or_default().push(key);
        self.flows.insert(key, Flow::Data(Box::new(flow)));
    }

    fn data(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        let Some(Flow::Data(flow)) = self.flows.get_mut(&transit.key) else { return };
        self.summary.ftp += 1;
        let Transit { at, packet, .. } = transit;
        let side = usize::from(transit.from != flow.data.from);
        if flow.copies.is_copy(side, at.time, &self.packets.buffer, &packet.headers, &packet.segment) {
            self.summary.copies += 1;
            return;
        }
        self.summary.cut += u64::from(packet.captured < packet.length);
        flow.trail.see(side, *at, &packet.segment, transit.payload() as u32);
        if flow.trail.is_over() && !core::mem::replace(&mut flow.ended, true) {
            let fact = Fact::DataEnded(flow.data, flow.trail.ending);
            Out::new(sink, &mut self.summary, &mut self.expected).tell(*at, &fact);
        }
        self.sweep(*at, sink);
    }

    /// Forgets what is over, now and then.
    fn sweep(&mut self, at: Moment, sink: &mut dyn Sink) {
        if self.summary.ftp < self.next_sweep {
            return;
        }
        self.next_sweep = self.summary.ftp + SWEEP;
        self.forget_all(at, false, &|flow| flow.is_over() && at.time.since(flow.last().time) > LINGER, sink);
    }

    /// Makes room for more: forgets what is over, and if that is not enough what was silent for longest.
    fn make_room(&mut self, at: Moment, sink: &mut dyn Sink) {
        let before = self.flows.len();
        self.forget_all(at, false, &Flow::is_over, sink);
        if self.flows.len() <= before - before / 8 {
            return;
        }
        let mut frames: Vec<u64> = self.flows.values().map(|flow| flow.last().frame).collect();
        frames.sort_unstable();
        let Some(oldest) = frames.get(frames.len() / 8).copied() else { return };
        self.forget_all(at, true, &|flow| flow.last().frame <= oldest, sink);
    }

    /// Forgets connections: a control connection only if none of its data connections is left.
    fn forget_all(&mut self, at: Moment, evicted: bool, which: &dyn Fn(&Flow) -> bool, sink: &mut dyn Sink) {
        let chosen = self.flows.iter().filter(|(_, flow)| which(flow));
        let mut keys: Vec<(SessionId, bool, FlowKey)> = chosen.map(|(key, flow)| flow.order(*key)).collect();
        // Data connections come before their control connection, of which all is told with its end.
        keys.sort_unstable();
        for (session, is_control, key) in keys {
            if !is_control || !self.data.contains_key(&session) {
                if let Some(Flow::Control(session)) = self.flows.get(&key) {
                    self.judge.forget(at.time, &session.followed);
                }
                self.forget_flow(key, at, evicted, sink);
            }
        }
    }

    fn forget_flow(&mut self, key: FlowKey, at: Moment, evicted: bool, sink: &mut dyn Sink) {
        self.end_flow(key, at, evicted, sink);
        match self.flows.remove(&key) {
            Some(Flow::Control(session)) => {
                self.sessions -= 1;
                let id = session.ends.id;
                let data = self.data.get(&id).cloned().unwrap_or_default();
                data.into_iter().for_each(|key| self.forget_flow(key, at, evicted, sink));
                self.give_up(id, at, Unfulfilled::Over, sink);
                sink.fact(at, &Fact::Done { session: id });
            }
            Some(Flow::Data(flow)) => {
                let session = flow.data.session;
                if let Some(keys) = self.data.get_mut(&session) {
                    keys.retain(|other| *other != key);
                    if keys.is_empty() {
                        self.data.remove(&session);
                    }
                }
            }
            None => {}
        }
    }

    /// Tells how a connection ended, if that was not told.
    fn end_flow(&mut self, key: FlowKey, at: Moment, given_up: bool, sink: &mut dyn Sink) {
        let mut out = Out::new(sink, &mut self.summary, &mut self.expected);
        match self.flows.get_mut(&key) {
            Some(Flow::Control(session)) => {
                session.end(at, given_up, &mut out);
                let fresh = core::mem::take(&mut out.fresh);
                for open in fresh {
                    // What it replaces is told with it.
                    let _ = self.expected.announce(open);
                }
            }
            Some(Flow::Data(flow)) if !flow.ended => {
                flow.ended = true;
                out.tell(at, &Fact::DataEnded(flow.data, flow.trail.ending));
            }
            _ => {}
        }
    }

    /// What a control connection announced in vain.
    fn give_up(&mut self, session: SessionId, at: Moment, why: Unfulfilled, sink: &mut dyn Sink) {
        for (number, why) in self.expected.forget(session, why) {
            let fact = Fact::Unfulfilled { session, number, why };
            Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &fact);
        }
    }
}

impl Flow {
    const fn trail(&self) -> &Trail {
        match self {
            Self::Control(session) => &session.trail,
            Self::Data(flow) => &flow.trail,
        }
    }

    const fn last(&self) -> Moment {
        self.trail().ending.last
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Control(session) => session.has_ended(),
            Self::Data(flow) => flow.ended,
        }
    }

    /// In the order of sessions, each one's data connections first.
    fn order(&self, key: FlowKey) -> (SessionId, bool, FlowKey) {
        match self {
            Self::Control(session) => (session.ends.id, true, key),
            Self::Data(flow) => (flow.data.session, false, key),
        }
    }

    fn begins_another(&self, transit: &Transit) -> bool {
        let opener = match self {
            Self::Control(session) => session.ends.client,
            Self::Data(flow) => flow.data.from,
        };
        let segment: &Segment = &transit.packet.segment;
        transit.from == opener && !segment.flags.has(TcpFlags::ACK) && self.trail().begins_another(0, segment)
    }
}
