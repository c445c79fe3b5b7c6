//! Behaviour Exact: reads the streams of a control connection line by line, wherever segments are cut, and replaces
//! every announcement, also in retransmissions.
//!
//! A segment's ACK is applied to the [stream](stream::Stream) of the other side. Its payload is appended to its own
//! stream, and completed lines are [parsed](handler::LineHandler). Then the bytes that may now be sent leave with it.
//! These are fewer than it has where a line is unfinished, and more where one is finished. Bytes that do not fit into
//! one segment leave in several.

mod handler;
mod intervention;
mod learnt;
mod policy;
mod refusal;
mod segments;
mod setting;
mod stream;
mod window;

pub use intervention::Intervention;
pub use policy::Policy;
pub use refusal::RefusalReason;
pub use setting::{PolicyError, PolicySetting};

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use core::net::SocketAddr;

use super::{HelperContext, Job, endpoints};
use crate::conntrack::{ConnectionId, Conntrack, Direction, ExpectPolicy, ExpectationId, HelperSlot, ICMP_HEADER};
use crate::event::{DropReason, Event};
use crate::ftp::{Dialogue, Sender};
use crate::nat::Nat;
use crate::packet::{Headers, Layer4, Protocol, Segment, TcpFlags, TcpOptions};
use crate::{Instant, SequenceNumber};
use handler::LineHandler;
use intervention::interventions;
use learnt::Learnt;
pub use segments::SegmentSink;
use segments::{Answering, SegmentWriter, Takes, echoed};
use stream::{Emission, Incoming, Stream};
use window::{Holder, Pool};

/// The type of a TLS record that bears a handshake, and the version's first byte (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
const TLS: u8 = 3;

/// Windows are shifted by no more (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;

/// Time after which bytes that are ours to send are sent again, and the maximum number of times.
const REPEAT: core::time::Duration = core::time::Duration::from_secs(1);
const REPEATS: u8 = 120;

/// Timeout of an expectation. Linux waits for 5 minutes. A command that is lost is sent again for 15 (RFC 1122 section
/// 4.2.3.5 asks for at least 100 s; `tcp_retries2` is 15). The SYN after it is sent again for 2 more.
const PATIENCE: core::time::Duration = core::time::Duration::from_secs(20 * 60);

/// The state that is kept of all control connections.
#[derive(Debug)]
pub(super) struct Exact {
    states: Box<[State]>,
    tools: Tools,
    /// The state that is looked at next, whether its connection is gone.
    swept: usize,
    /// Deadlines for bytes that are ours to send until they arrive, in the order of time.
    timers: VecDeque<Timer>,
}

/// When it is looked whether a stream has to be sent again.
#[derive(Clone, Copy, Debug)]
struct Timer {
    due: Instant,
    slot: HelperSlot,
    id: ConnectionId,
    direction: Direction,
    /// Up to where the other side had it when the timer was set, and how often it was set since.
    outside: SequenceNumber,
    times: u8,
}

/// The parts that all connections share.
#[derive(Debug)]
struct Tools {
    policy: Policy,
    /// True if the helper is loose: see [`Policy::allowed_third_parties`].
    loose: bool,
    pool: Pool,
    writer: SegmentWriter,
    learnt: Learnt,
    /// Payload that the packet arrived with.
    came: Box<[u8]>,
}

/// The state that is kept of one connection.
#[derive(Debug)]
struct State {
    connection: Option<ConnectionId>,
    /// By direction.
    streams: [Stream; 2],
    dialogue: Dialogue<ExpectationId>,
    /// The longest segment that the sender of each direction takes (0: not known).
    longest: [u16; 2],
    /// The window that the sender of each direction announced last, as it stands in its header.
    windows: [u16; 2],
    /// By how much it shifts it, if it offers that (RFC 7323 section 2).
    scales: [Option<u8>; 2],
    /// The timestamps that an answer to it bears.
    timestamps: [Option<[u8; 8]>; 2],
    /// True if a timer runs for the stream of this direction.
    timed: [bool; 2],
}

/// The segment at hand, to report interventions in it.
#[derive(Clone, Copy)]
struct Noted {
    now: Instant,
    connection: ConnectionId,
    sender: Sender,
}

impl Noted {
    fn note(self, conntrack: &mut Conntrack, intervention: Intervention) {
        let event = Event::Intervened { connection: self.connection, sender: self.sender, intervention };
        conntrack.events.push(self.now, event);
    }

    const fn other(self) -> Self {
        Self { sender: self.sender.other(), ..self }
    }
}

impl Exact {
    /// For at most `helped` connections, of which `windows` streams may have a line that is unfinished, or segments that
    /// came early, at once.
    pub(super) fn new(policy: Policy, loose: bool, helped: u32, hold_buffers: usize) -> Self {
        let tools = Tools {
            learnt: Learnt::new(policy.learn_tls_passive_ports),
            policy,
            loose,
            pool: Pool::new(hold_buffers),
            writer: SegmentWriter::new(),
            came: vec![0; usize::from(u16::MAX)].into(),
        };
        Self {
            states: (0..helped).map(|_| State::new()).collect(),
            tools,
            swept: 0,
            timers: VecDeque::with_capacity(helped as usize * 2),
        }
    }

    /// Reads a packet of a helped connection that is about to leave, already translated but with its own numbers. Returns
    /// true if it leaves with other text.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(super) fn process(
        &mut self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        rewrites: bool,
        context: &mut HelperContext<'_, '_>,
    ) -> Result<bool, DropReason> {
        let Some(id) = context.tracked.connection else { return Ok(false) };
        let Some(slot) = conntrack.get(id).and_then(|connection| connection.helper_slot()) else {
            cannot_happen!("a packet without a helper is read by it");
            return Ok(false);
        };
        if context.tracked.is_error {
            self.adjust_quoted(slot, context);
            return Ok(false);
        }
        // The expectation needs a master that is confirmed.
        conntrack.confirm(context.now, id)?;
        let Layer4::Tcp(segment) = context.headers.layer4 else { return Ok(false) };
        self.sweep(conntrack);
        let Some(state) = self.states.get_mut(slot.index()) else { return Ok(false) };
        state.belong_to((slot, id), conntrack, &mut self.tools.pool);
        conntrack.be_liberal(id);
        conntrack.keep_for_children(id);
        state.windows[context.tracked.direction as usize] = segment.window;
        if segment.flags.has(TcpFlags::SYN) {
            state.begin(&segment, context, &mut self.tools.pool);
        }
        state.timestamps[context.tracked.direction as usize] = echoed(context);
        let result = state.pass(&mut self.tools, id, &segment, conntrack, (nat, rewrites), context);
        for direction in [Direction::Original, Direction::Reply] {
            let stream = &state.streams[direction as usize];
            if stream.is_ours() && !state.timed[direction as usize] {
                debug_assert!(self.timers.len() < self.timers.capacity(), "there is one for every stream");
                let due = context.now + REPEAT;
                self.timers.push_back(Timer { due, slot, id, direction, outside: stream.outside(), times: 0 });
                state.timed[direction as usize] = true;
            }
        }
        self.make_room(context.now, conntrack);
        result
    }

    /// Keeps a window free for whoever comes next.
    fn make_room(&mut self, now: Instant, conntrack: &mut Conntrack) {
        let Some(holder) = self.tools.pool.too_many() else { return };
        let Some(state) = self.states.get_mut(holder.state) else {
            cannot_happen!("nobody holds a window");
            return;
        };
        state.streams[holder.direction as usize].give_up(&mut self.tools.pool);
        if let Some(connection) = state.connection {
            Noted { now, connection, sender: holder.direction.into() }.note(conntrack, Intervention::GivenUp);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to look at.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.timers.front().and_then(|timer| timer.due.if_ever())
    }

    /// Sends again what is ours to send and did not arrive.
    pub(super) fn handle_timeout(&mut self, now: Instant, conntrack: &mut Conntrack, sink: &mut dyn SegmentSink) {
        // Those that are set anew meanwhile are due later.
        for _ in 0..self.timers.len() {
            let Some(timer) = self.timers.front().copied().filter(|timer| timer.due.has_passed(now)) else { return };
            self.timers.pop_front();
            let Timer { slot, id, direction, outside, times, .. } = timer;
            let Some(state) = self.states.get_mut(slot.index()) else { continue };
            state.timed[direction as usize] = false;
            if let Some(other) = state.connection.filter(|other| *other != id) {
                if state.streams[direction as usize].is_ours() {
                    let outside = state.streams[direction as usize].outside();
                    self.timers.push_back(Timer { due: now + REPEAT, slot, id: other, direction, outside, times: 0 });
                    state.timed[direction as usize] = true;
                }
                continue;
            }
            if conntrack.get(id).is_none() || !state.streams[direction as usize].is_ours() {
                continue;
            }
            let arrived = state.streams[direction as usize].outside();
            if arrived == outside {
                let noted = Noted { now, connection: id, sender: Sender::from(direction) };
                if state.repeat(&mut self.tools, id, direction, conntrack, sink) {
                    noted.note(conntrack, Intervention::SentInItsName);
                }
            }
            let times = if arrived == outside { times + 1 } else { 0 };
            if times < REPEATS {
                self.timers.push_back(Timer { due: now + REPEAT, outside: arrived, times, ..timer });
                state.timed[direction as usize] = true;
            }
        }
    }

    /// Looks at one state, in turn: what a connection that is gone kept is free again.
    fn sweep(&mut self, conntrack: &Conntrack) {
        self.swept = (self.swept + 1) % self.states.len().max(1);
        if let Some(state) = self.states.get_mut(self.swept)
            && state.connection.is_some_and(|id| conntrack.get(id).is_none())
        {
            state.streams.iter_mut().for_each(|stream| stream.reset(&mut self.tools.pool));
            state.connection = None;
        }
    }

    /// An ICMP error about a packet of a control connection: the number in it becomes the one that its sender knows.
    fn adjust_quoted(&self, slot: HelperSlot, context: &mut HelperContext<'_, '_>) {
        let HelperContext { packet, headers, tracked, .. } = context;
        let was_right = headers.transport_checksum_ok(packet.bytes());
        let bytes = packet.bytes_mut();
        if let Some(quoted) = bytes.get_mut(headers.transport + ICMP_HEADER..headers.end)
            && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
            && (headers.protocol.is_icmp() && inner.protocol == Protocol::TCP)
        {
            let sent = tracked.direction.other();
            inner.map_quoted_sequence(quoted, |number| self.quoted(slot, sent, number));
        }
        if was_right {
            headers.fill_transport_checksum(bytes);
        }
    }

    /// A number in a packet of a control connection that an ICMP error quotes, as its sender knows it.
    fn quoted(&self, slot: HelperSlot, direction: Direction, number: SequenceNumber) -> SequenceNumber {
        let state = self.states.get(slot.index());
        state.map_or(number, |state| state.streams[direction as usize].history().returning(number))
    }
}

impl State {
    fn new() -> Self {
        Self {
            connection: None,
            streams: [Stream::new(), Stream::new()],
            dialogue: Dialogue::from_middle(),
            longest: [0; 2],
            windows: [0; 2],
            scales: [None; 2],
            timestamps: [None; 2],
            timed: [false; 2],
        }
    }

    /// Forgets what it knew, if that was of another connection.
    fn belong_to(&mut self, (slot, id): (HelperSlot, ConnectionId), conntrack: &Conntrack, pool: &mut Pool) {
        if self.connection != Some(id)
            && let Some(connection) = conntrack.get(id)
        {
            let client = connection.tuple(Direction::Original).source();
            for direction in [Direction::Original, Direction::Reply] {
                let holder = Holder { state: slot.index(), direction, client };
                self.streams[direction as usize].belong_to(holder, pool);
            }
            (self.connection, self.dialogue) = (Some(id), Dialogue::from_middle());
            (self.longest, self.windows, self.scales) = ([0; 2], [0; 2], [None; 2]);
            // A timer that still runs is taken over, so that there is one for every stream.
            self.timestamps = [None; 2];
        }
    }

    /// A segment of a connection that was opened.
    fn pass(
        &mut self,
        tools: &mut Tools,
        id: ConnectionId,
        segment: &Segment,
        conntrack: &mut Conntrack,
        (nat, rewrites): (&mut Nat, bool),
        context: &mut HelperContext<'_, '_>,
    ) -> Result<bool, DropReason> {
        let direction = context.tracked.direction;
        let [ours, theirs] = [direction, direction.other()].map(|direction| self.window(direction));
        let [own, others] = ends(&mut self.streams, direction);
        let mut answering = Answering::new(conntrack, id, context, segment);
        let noted = Noted { now: context.now, connection: id, sender: Sender::from(direction) };
        if segment.flags.has(TcpFlags::ACK) {
            others.misses(segment.acknowledgement).into_iter().for_each(|done| noted.note(conntrack, done));
            let acknowledgement = others.acknowledge(segment.acknowledgement, &mut tools.pool);
            // The segment may be an old one.
            answering.next = others.expected(segment.acknowledgement);
            let bytes = context.packet.bytes_mut();
            context.headers.set_acknowledgement(bytes, acknowledgement);
            let mapped = context.headers.map_sack_blocks(bytes, |left, right| others.selectively(left, right));
            mapped.map_err(|_| DropReason::TcpOptions)?;
        }
        let is_syn = segment.flags.has(TcpFlags::SYN);
        if segment.flags.has(TcpFlags::RST) || (is_syn && context.headers.payload(context.packet.bytes()).is_empty()) {
            // A SYN comes before everything that was replaced.
            let number = if is_syn { segment.sequence } else { own.outgoing_at_most(segment.sequence) };
            context.headers.set_sequence(context.packet.bytes_mut(), number);
            return Ok(false);
        }
        let Some(connection) = conntrack.get(id) else { return Ok(false) };
        let job = Job {
            now: context.now,
            id,
            direction,
            sender: Sender::from(direction),
            rewrites,
            zone: connection.tuple(Direction::Original).zone(),
            policy: ExpectPolicy {
                most: tools.policy.max_expectations,
                per_host: Some(tools.policy.max_expectations_per_client),
                timeout: PATIENCE,
            },
        };
        let ends = endpoints(connection);
        let reply = connection.tuple(Direction::Reply);
        let server = SocketAddr::new(reply.source(), reply.source_port());
        let ((policy, loose), dialogue, learnt) = ((&tools.policy, tools.loose), &mut self.dialogue, &mut tools.learnt);
        let client_is_local = context.client_is_local;
        let mut handler = LineHandler {
            job,
            ends,
            client_is_local,
            server,
            policy,
            loose,
            dialogue,
            learnt,
            conntrack,
            nat,
            tls: None,
            stops: None,
        };

        let mut came = core::mem::take(&mut tools.came);
        let payload = copy(context.headers.payload(context.packet.bytes()), &mut came);
        let pointer = context.headers.urgent_pointer(context.packet.bytes());
        let incoming = Incoming {
            // Data in a SYN (Fast Open) begins after it.
            start: segment.sequence + u32::from(is_syn),
            payload,
            fin: segment.flags.has(TcpFlags::FIN),
            syn: is_syn,
            urgent: pointer.map(|pointer| segment.sequence + u32::from(pointer)),
        };
        if own.is_at_beginning() && matches!(payload, [HANDSHAKE] | [HANDSHAKE, TLS, ..]) {
            own.stop_reading(true);
            handler.tls = Some(true);
        }
        let before = own.standing();
        let mut taken = own.take(incoming, &mut tools.pool, &mut handler);
        if theirs == 0 && !payload.is_empty() && !is_syn {
            // The sender probes a closed window: only the other side can say that it opened.
            taken = own.probing(taken);
        }
        let LineHandler { tls, job, .. } = handler;
        interventions(before, own, incoming, taken).for_each(|done| noted.note(conntrack, done));
        own.withheld().into_iter().for_each(|done| noted.note(conntrack, done));
        let takes = Takes { longest: self.longest[direction.other() as usize], window: theirs };
        let written = tools.writer.write(own, incoming, taken, takes, context);
        written.interventions().for_each(|done| noted.note(conntrack, done));
        own.keep(incoming, &mut tools.pool);
        own.trim(&mut tools.pool);
        let (has_text, had) = (!incoming.payload.is_empty(), own.had(incoming));
        tools.came = came;
        if let Some((start, growth)) = own.grown() {
            // Windows are reckoned by it; the numbers are adjusted here.
            conntrack.register_growth(id, direction, start, growth);
        }

        let window = self.windows[direction.other() as usize];
        // A SYN is acknowledged by the other side alone.
        if !is_syn && let Some(owed) = own.owed(has_text).or(had) {
            answering.acknowledge(owed, window, context.sink);
            noted.note(conntrack, Intervention::Acknowledged(owed));
        }
        if segment.flags.has(TcpFlags::ACK) && !is_syn {
            let say = (own.told(), window);
            let takes = Takes { longest: self.longest[direction as usize], window: ours };
            if tools.writer.send_unsent(others, &answering, say, takes, context.sink) {
                noted.other().note(conntrack, Intervention::SentInItsName);
            }
        }
        if let Some(is_tls) = tls {
            self.streams[direction.other() as usize].stop_reading(is_tls);
        }
        if tls == Some(true) {
            let declared = tools.policy.tls_passive_ports.clone();
            let passive = declared.or_else(|| tools.learnt.ports(context.now, server));
            let passive = passive.filter(|ports| job.expect_range(conntrack, ports));
            conntrack.events.push(context.now, Event::Encrypted { connection: id, passive });
        }
        Ok(!matches!(taken.emission, Emission::Same))
    }

    /// Sends what the other side has not acknowledged of the stream of this direction, as far as its window goes, and a
    /// byte even if that is closed. Whether there was any.
    fn repeat(
        &mut self,
        tools: &mut Tools,
        id: ConnectionId,
        direction: Direction,
        conntrack: &Conntrack,
        sink: &mut dyn SegmentSink,
    ) -> bool {
        let other = direction.other();
        let answering = Answering::to(conntrack, id, other, self.timestamps[other as usize]);
        let takes = Takes { longest: self.longest[other as usize], window: self.window(other).max(1) };
        let window = self.windows[direction as usize];
        let [own, others] = ends(&mut self.streams, direction);
        own.send_again();
        tools.writer.send_unsent(own, &answering, (others.told(), window), takes, sink)
    }

    /// A SYN: a stream begins, and with the client's the dialogue.
    fn begin(&mut self, segment: &Segment, context: &HelperContext<'_, '_>, pool: &mut Pool) {
        let direction = context.tracked.direction;
        let stream = &mut self.streams[direction as usize];
        let begins = stream.begin(segment.sequence + 1, pool);
        if begins && !segment.flags.has(TcpFlags::ACK) {
            self.dialogue = Dialogue::from_beginning();
        }
        let (longest, scale) = (&mut self.longest[direction as usize], &mut self.scales[direction as usize]);
        (*longest, *scale) = (0, None);
        for option in context.headers.tcp_options(context.packet.bytes()).iter() {
            match option {
                Ok((TcpOptions::MSS, _, &[high, low])) => *longest = u16::from_be_bytes([high, low]),
                Ok((TcpOptions::WINDOW_SCALE, _, &[shift])) => *scale = Some(shift.min(MAX_SCALE)),
                _ => {}
            }
        }
    }

    /// Returns the window that the sender of this direction announced last, in bytes.
    fn window(&self, direction: Direction) -> usize {
        let scale = match self.scales {
            [Some(_), Some(_)] => self.scales[direction as usize].unwrap_or(0),
            _ => 0,
        };
        usize::from(self.windows[direction as usize]) << scale
    }
}

/// A copy of `bytes`, which are no more than a packet can bear.
fn copy<'r>(bytes: &[u8], room: &'r mut [u8]) -> &'r [u8] {
    let Some(room) = room.get_mut(..bytes.len()) else {
        cannot_happen!("a packet is longer than any");
        return &[];
    };
    room.copy_from_slice(bytes);
    room
}

/// The stream of this direction, and the other.
fn ends([original, reply]: &mut [Stream; 2], direction: Direction) -> [&mut Stream; 2] {
    match direction {
        Direction::Original => [original, reply],
        Direction::Reply => [reply, original],
    }
}
