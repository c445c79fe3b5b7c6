//! All connections of a capture.

use core::net::SocketAddr;
use core::time::Duration;
use std::boxed::Box;
use std::collections::HashMap;
use std::io::Read;
use std::vec::Vec;

use super::elsewhere::Elsewhere;
use super::expected::{Expected, Open, Syn};
use super::flow::FlowKey;
use super::flow_stats::FlowStats;
use super::helper_oracle::{Case, HelperOracle, HelperOutcome};
use super::icmp::IcmpError;
use super::packets::{Packets, TcpPacket};
use super::session::{Out, Session, Text};
use super::view::{Print, Prints, Translations, View};
use super::{Began, Data, Fit, FramePos, FtpEvent, Opened, SessionId, Sink, Summary, Unfulfilled};
use crate::capture::{Reader, Record};
use crate::conntrack::Direction;
use crate::ftp::Sender;
use crate::packet::link::{self, LinkError};
use crate::packet::{Segment, TcpFlags};

/// So many control connections are followed at once, unless the options say otherwise.
const SESSIONS: usize = 4096;
/// So many data connections are followed for each of them, on average.
const DATA_FOR_EACH: usize = 2;
/// The tracker's tables grow with them.
const MOST_SESSIONS: usize = 1 << 20;
/// A control connection that is over is forgotten after this time: its data connection may still come.
const LINGER: Duration = Duration::from_secs(30);
/// Number of packets of FTP after which finished connections are looked for.
const SWEEP: u64 = 4096;

/// The ports and limits of an inspector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The ports of servers' control connections.
    pub ports: Vec<u16>,
    /// Maximum number of control connections that are followed at once; beyond that, the longest silent are given up.
    /// Memory is taken for them when the inspector is made, some kilobytes for each.
    pub sessions: usize,
}

impl Default for Options {
    /// Port 21; 4096 control connections.
    fn default() -> Self {
        Self { ports: Vec::from([21]), sessions: SESSIONS }
    }
}

/// Watches packets, and tells what FTP there is in them.
pub struct Inspector {
    options: Options,
    packets: Packets,
    oracle: HelperOracle,
    flows: HashMap<FlowKey, Flow>,
    /// Number of them that are control connections.
    sessions: usize,
    /// The data connections of each control connection.
    data: HashMap<SessionId, Vec<FlowKey>>,
    expected: Expected,
    /// Second copies of connections, from the other side of a router.
    views: HashMap<FlowKey, View>,
    /// The second copies of each connection.
    views_of: HashMap<FlowKey, Vec<FlowKey>>,
    prints: Prints,
    elsewhere: Elsewhere,
    summary: Summary,
    latest: Option<FramePos>,
    next_session: u64,
    next_sweep: u64,
}

impl core::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inspector").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

/// A connection that is followed.
enum Flow {
    Control(Box<Session>),
    Data(Box<DataFlow>),
}

struct DataFlow {
    data: Data,
    stats: FlowStats,
    copies: super::copies::Copies,
}

/// A packet on its way through the inspector.
struct Transit {
    at: FramePos,
    packet: TcpPacket,
    from: SocketAddr,
    to: SocketAddr,
    key: FlowKey,
    /// Bytes of the frame with all its headers.
    frame_bytes: u64,
}

impl Transit {
    fn print(&self, buffer: &[u8]) -> Print {
        let TcpPacket { headers, segment, .. } = &self.packet;
        Print::of(self.at.time, (self.from, self.to), self.key, (headers.family, buffer), segment, self.payload())
    }

    /// Returns the number of payload bytes on the wire.
    const fn payload(&self) -> usize {
        self.packet.length.saturating_sub(self.packet.segment.payload)
    }

    /// The payload as far as it was captured.
    fn captured<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        let TcpPacket { segment, captured, .. } = &self.packet;
        buffer.get(segment.payload..*captured).unwrap_or_default()
    }

    /// Returns the number of payload bytes that the capture left out.
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
        let options = Options { sessions: options.sessions.clamp(1, MOST_SESSIONS), ..options };
        Self {
            packets: Packets::new(),
            oracle: HelperOracle::new(options.sessions as u32),
            options,
            flows: HashMap::new(),
            sessions: 0,
            data: HashMap::new(),
            expected: Expected::default(),
            views: HashMap::new(),
            views_of: HashMap::new(),
            prints: Prints::default(),
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
        let at = FramePos { frame: record.frame, time: record.time };
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
        let original = record.original_len.saturating_sub(payload.offset);
        self.network(at, bytes, original, record.original_len as u64, sink);
    }

    /// A network packet, from its IP header as far as it was captured. `original`: how many bytes it had.
    pub fn packet(&mut self, at: FramePos, bytes: &[u8], original: usize, sink: &mut dyn Sink) {
        self.note_frame(at);
        self.network(at, bytes, original, original as u64, sink);
    }

    /// The capture is over: what is left to tell is told.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Summary {
        let at = self.latest.unwrap_or(FramePos { frame: 0, time: crate::Instant::from_secs(0) });
        let mut keys: Vec<(SessionId, bool, FlowKey)> = self.flows.iter().map(|(key, flow)| flow.order(*key)).collect();
        keys.sort_unstable();
        for (session, is_control, key) in &keys {
            self.end_flow(*key, false, sink);
            if *is_control {
                let why = match self.flows.get(key) {
                    Some(Flow::Control(session)) => session.why_given_up(true),
                    _ => Unfulfilled::EndOfCapture,
                };
                self.give_up(*session, at, why, sink);
            }
        }
        for (session, _, _) in keys.iter().filter(|(_, is_control, _)| *is_control) {
            sink.event(at, &FtpEvent::Done { session: *session });
        }
        self.flows.clear();
        self.views.clear();
        self.views_of.clear();
        self.data.clear();
        self.sessions = 0;
        self.summary.clone()
    }

    fn note_frame(&mut self, at: FramePos) {
        self.summary.frames += 1;
        let back = self.latest.is_some_and(|latest| at.time < latest.time);
        self.summary.steps_back += u64::from(back);
        let (first, last) = self.summary.span.unwrap_or((at.time, at.time));
        self.summary.span = Some((first.min(at.time), last.max(at.time)));
        self.latest = Some(at);
    }

    fn network(&mut self, at: FramePos, bytes: &[u8], original: usize, frame_bytes: u64, sink: &mut dyn Sink) {
        sink.packet(at, bytes);
        let found = self.packets.find(at, bytes, original, &mut self.summary);
        if let Some(error) = self.packets.icmp_error {
            self.icmp_error(at, error, sink);
        }
        let Some(packet) = found else { return };
        let buffer = &self.packets.buffer;
        let Some((source, destination)) = packet.headers.ports(buffer) else { return };
        let from = SocketAddr::new(packet.headers.source(buffer), source);
        let to = SocketAddr::new(packet.headers.destination(buffer), destination);
        self.segment(&Transit { at, packet, from, to, key: FlowKey::of(from, to), frame_bytes }, sink);
    }

    /// Reports an ICMP error if the packet that it quotes belongs to a session.
    fn icmp_error(&mut self, at: FramePos, error: IcmpError, sink: &mut dyn Sink) {
        let key = FlowKey::of(error.from, error.to);
        let key = self.views.get(&key).map_or(key, |view| view.of);
        let (session, number) = match self.flows.get(&key) {
            Some(Flow::Control(session)) => (session.ends.id, None),
            Some(Flow::Data(flow)) => (flow.data.session, Some(flow.data.number)),
            None => return,
        };
        Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &FtpEvent::IcmpError { session, number, error });
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
            None => {
                if !self.view(transit, sink) {
                    self.unknown(transit, sink);
                }
            }
        }
    }

    /// Follows a packet that is the second copy of one, on the other side of a router. Returns false if it is none.
    fn view(&mut self, transit: &Transit, sink: &mut dyn Sink) -> bool {
        let segment = &transit.packet.segment;
        let begins = transit.began() == Began::Syn;
        match self.views.get(&transit.key) {
            Some(view) if begins && (view.opener, view.first) != (transit.from, segment.sequence) => {
                self.views.remove(&transit.key);
            }
            Some(_) => {}
            None if self.views.len() >= DATA_FOR_EACH * self.options.sessions => return false,
            None => {
                let print = transit.print(&self.packets.buffer);
                let Some(first) = self.prints.first_copy(&print).copied() else { return false };
                self.begin_view(transit, &first, sink);
            }
        }
        let Some(view) = self.views.get_mut(&transit.key) else { return false };
        self.summary.ftp += 1;
        let Some(session) = &mut view.session else { return true };
        let sender = if transit.from == session.ends.client { Sender::Client } else { Sender::Server };
        let captured = transit.captured(&self.packets.buffer);
        let text = Text {
            captured,
            missing: transit.missing() as u32,
            frame_bytes: transit.frame_bytes,
            helper_outcome: HelperOutcome::default(),
        };
        let mut translations = Translations { session: session.ends.id, sink };
        let (mut uncounted, mut unmet) = (Summary::default(), Expected::default());
        session.segment(
            sender,
            transit.at,
            segment,
            text,
            &mut Out::new(&mut translations, &mut uncounted, &mut unmet),
        );
        true
    }

    fn begin_view(&mut self, transit: &Transit, first: &Print, sink: &mut dyn Sink) {
        let began = transit.began();
        let session = match self.flows.get_mut(&first.key) {
            Some(Flow::Control(session)) => {
                let from_client = first.from == session.ends.client;
                let (client, server) =
                    if from_client { (transit.from, transit.to) } else { (transit.to, transit.from) };
                let id = session.ends.id;
                if session.ends.translated.replace([client.ip(), server.ip()]).is_none() {
                    let event = FtpEvent::OtherSide { session: id, client, server };
                    Out::new(sink, &mut self.summary, &mut self.expected).tell(transit.at, &event);
                }
                let opened = Opened { session: id, client, server, began, tunnel: None };
                let (mut uncounted, mut unmet) = (Summary::default(), Expected::default());
                let mut untold = super::NoopSink;
                let out = &mut Out::new(&mut untold, &mut uncounted, &mut unmet);
                Some(Box::new(Session::open(opened, transit.at, out)))
            }
            _ => None,
        };
        let view = View { of: first.key, opener: transit.from, first: transit.packet.segment.sequence, session };
        self.views.insert(transit.key, view);
        self.views_of.entry(first.key).or_default().push(transit.key);
    }

    /// A packet of a connection that is not followed: does it begin one that is to be?
    fn unknown(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        if transit.flags().has(TcpFlags::RST) {
            return;
        }
        let watched = |end: SocketAddr| self.options.ports.contains(&end.port());
        // A client may announce a control port, as bounce scans do: what comes there is the data connection.
        if transit.began() == Began::Syn && self.expected.is_expected(transit.from, transit.to) {
            self.open_data(transit, sink);
            return;
        }
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
            let Transit { at, from, to, frame_bytes, .. } = *transit;
            self.expected.remember(Syn { at, from, to, segment: transit.packet.segment, frame_bytes });
        }
        let heard = self.elsewhere.hear(transit.from, transit.to, transit.captured(&self.packets.buffer));
        if let Some(server) = heard {
            sink.event(transit.at, &FtpEvent::Elsewhere { server, client: transit.from });
        }
    }

    fn open_session(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        if self.sessions >= self.options.sessions {
            self.make_room(transit.at, true, sink);
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
        self.prints.note(transit.print(&self.packets.buffer));
        let missing = transit.missing();
        self.summary.cut += u64::from(packet.captured < *length);
        let dialled = self.options.ports.contains(&transit.to.port());
        let captured = packet.captured;
        let mut case = Case { time: at.time, headers, buffer: &mut self.packets.buffer, length: *length, captured };
        let helper_outcome = self.oracle.control(&mut case, &mut session.followed, sender, dialled);
        let captured = transit.captured(&self.packets.buffer);
        let frame_bytes = transit.frame_bytes;
        let text = Text { captured, missing: missing as u32, frame_bytes, helper_outcome };
        let mut out = Out::new(sink, &mut self.summary, &mut self.expected);
        session.segment(sender, *at, segment, text, &mut out);
        let fresh = core::mem::take(&mut out.fresh);
        for open in fresh {
            self.announced(&open, *at, sink);
        }
        self.sweep(*at, sink);
    }

    /// An endpoint was announced: its connection may have come before, where packets are out of order.
    fn announced(&mut self, open: &Open, at: FramePos, sink: &mut dyn Sink) {
        if let Some((number, why)) = self.expected.announce(*open) {
            let event = FtpEvent::Unfulfilled { session: open.session, number, why };
            Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &event);
        }
        let Some(Syn { at, from, to, segment, frame_bytes }) = self.expected.came_before(open, at.time) else { return };
        let key = FlowKey::of(from, to);
        if !self.flows.contains_key(&key)
            && let Some((met, fit)) = self.expected.meet(from, to)
        {
            self.begin_data(key, at, (from, to), (&met, fit), Began::Syn, false, sink);
            if let Some(Flow::Data(flow)) = self.flows.get_mut(&key) {
                flow.stats.see(0, at, &segment, 0, frame_bytes);
            }
        }
    }

    /// Returns true if a packet belongs to a data connection that was announced.
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
        let related = self.judge_data(transit);
        self.begin_data(transit.key, transit.at, ends, (&open, fit), began, related, sink);
        let side = usize::from(transit.from != ends.0);
        if let Some(Flow::Data(flow)) = self.flows.get_mut(&transit.key) {
            let TcpPacket { headers, segment, .. } = &transit.packet;
            // The first cannot be a copy; another may be one of it.
            let _ = flow.copies.is_copy(side, transit.at.time, &self.packets.buffer, headers, segment);
        }
        self.see_data(transit, sink);
        true
    }

    /// Lets the tracker see a packet of a data connection. Whether it begins one that was expected.
    fn judge_data(&mut self, transit: &Transit) -> bool {
        let TcpPacket { headers, captured, length, .. } = &transit.packet;
        let buffer = &mut self.packets.buffer;
        self.oracle.data(&Case { time: transit.at.time, headers, buffer, length: *length, captured: *captured })
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a data connection is")]
    fn begin_data(
        &mut self,
        key: FlowKey,
        at: FramePos,
        (from, to): (SocketAddr, SocketAddr),
        (open, fit): (&Open, Fit),
        began: Began,
        related: bool,
        sink: &mut dyn Sink,
    ) {
        if self.flows.len() - self.sessions >= DATA_FOR_EACH * self.options.sessions {
            self.make_room(at, false, sink);
        }
        let Open { session, number, opener, met, .. } = *open;
        let data = Data { session, number, earlier: met, from, to, opener, began, fit, related };
        Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &FtpEvent::DataOpened(data));
        let copies = super::copies::Copies::default();
        let flow = DataFlow { data, stats: FlowStats::new(at, began), copies };
        self.data.entry(session).or_default().push(key);
        self.flows.insert(key, Flow::Data(Box::new(flow)));
    }

    /// A packet of a data connection that is followed.
    fn data(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        let Some(Flow::Data(flow)) = self.flows.get_mut(&transit.key) else { return };
        let Transit { at, packet, .. } = transit;
        let side = usize::from(transit.from != flow.data.from);
        if flow.copies.is_copy(side, at.time, &self.packets.buffer, &packet.headers, &packet.segment) {
            self.summary.ftp += 1;
            self.summary.copies += 1;
            return;
        }
        self.judge_data(transit);
        self.see_data(transit, sink);
    }

    fn see_data(&mut self, transit: &Transit, sink: &mut dyn Sink) {
        self.prints.note(transit.print(&self.packets.buffer));
        let Some(Flow::Data(flow)) = self.flows.get_mut(&transit.key) else { return };
        self.summary.ftp += 1;
        let Transit { at, packet, .. } = transit;
        let side = usize::from(transit.from != flow.data.from);
        self.summary.cut += u64::from(packet.captured < packet.length);
        flow.stats.see(side, *at, &packet.segment, transit.payload() as u32, transit.frame_bytes);
        self.sweep(*at, sink);
    }

    /// Forgets what is over, now and then.
    fn sweep(&mut self, at: FramePos, sink: &mut dyn Sink) {
        if self.summary.ftp < self.next_sweep {
            return;
        }
        self.next_sweep = self.summary.ftp + SWEEP;
        self.forget_all(at, false, &|flow| flow.is_over() && at.time.since(flow.last().time) > LINGER, sink);
    }

    /// Makes room for more control connections, or data connections: forgets what is over, and if that is not enough what
    /// was silent for longest.
    fn make_room(&mut self, at: FramePos, control: bool, sink: &mut dyn Sink) {
        let before = self.flows.len();
        self.forget_all(at, false, &|flow| flow.is_over() && flow.is_control() == control, sink);
        if self.flows.len() < before - before / 8 {
            return;
        }
        let kind = self.flows.values().filter(|flow| flow.is_control() == control);
        let mut frames: Vec<u64> = kind.map(|flow| flow.last().frame).collect();
        frames.sort_unstable();
        let Some(oldest) = frames.get(frames.len() / 8).copied() else { return };
        self.forget_all(at, true, &|flow| flow.is_control() == control && flow.last().frame <= oldest, sink);
    }

    /// Forgets connections: a control connection, unless it is given up, only if none of its data connections is left.
    fn forget_all(&mut self, at: FramePos, evicted: bool, which: &dyn Fn(&Flow) -> bool, sink: &mut dyn Sink) {
        let chosen = self.flows.iter().filter(|(_, flow)| which(flow));
        let mut keys: Vec<(SessionId, bool, FlowKey)> = chosen.map(|(key, flow)| flow.order(*key)).collect();
        // Data connections come before their control connection, of which all is told with its end.
        keys.sort_unstable();
        for (session, is_control, key) in keys {
            if evicted || !is_control || !self.data.contains_key(&session) {
                if let Some(Flow::Control(session)) = self.flows.get(&key) {
                    self.oracle.forget(at.time, &session.followed);
                }
                self.forget_flow(key, at, evicted, sink);
            }
        }
    }

    fn forget_flow(&mut self, key: FlowKey, at: FramePos, evicted: bool, sink: &mut dyn Sink) {
        self.end_flow(key, evicted, sink);
        for view in self.views_of.remove(&key).unwrap_or_default() {
            self.views.remove(&view);
        }
        match self.flows.remove(&key) {
            Some(Flow::Control(session)) => {
                self.sessions -= 1;
                let id = session.ends.id;
                let data = self.data.get(&id).cloned().unwrap_or_default();
                data.into_iter().for_each(|key| self.forget_flow(key, at, evicted, sink));
                self.give_up(id, at, session.why_given_up(false), sink);
                sink.event(at, &FtpEvent::Done { session: id });
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

    /// Reports how a connection ended, with all its packets: after its last.
    fn end_flow(&mut self, key: FlowKey, given_up: bool, sink: &mut dyn Sink) {
        let mut out = Out::new(sink, &mut self.summary, &mut self.expected);
        match self.flows.get_mut(&key) {
            Some(Flow::Control(session)) => {
                session.end(given_up, &mut out);
                let fresh = core::mem::take(&mut out.fresh);
                for open in fresh {
                    // The event names the announcement that it replaces.
                    let _ = self.expected.announce(open);
                }
            }
            Some(Flow::Data(flow)) => {
                let ending = flow.stats.ending;
                out.tell(ending.last, &FtpEvent::DataEnded(flow.data, ending));
            }
            None => {}
        }
    }

    /// Reports the announcements of a control connection for which no data connection came.
    fn give_up(&mut self, session: SessionId, at: FramePos, why: Unfulfilled, sink: &mut dyn Sink) {
        for (number, why) in self.expected.forget(session, why) {
            let event = FtpEvent::Unfulfilled { session, number, why };
            Out::new(sink, &mut self.summary, &mut self.expected).tell(at, &event);
        }
    }
}

impl Flow {
    const fn stats(&self) -> &FlowStats {
        match self {
            Self::Control(session) => &session.stats,
            Self::Data(flow) => &flow.stats,
        }
    }

    const fn last(&self) -> FramePos {
        self.stats().ending.last
    }

    const fn is_control(&self) -> bool {
        matches!(self, Self::Control(_))
    }

    const fn is_over(&self) -> bool {
        self.stats().is_over()
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
        transit.from == opener && !segment.flags.has(TcpFlags::ACK) && self.stats().begins_another(0, segment)
    }
}
