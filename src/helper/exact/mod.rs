//! Behaviour Exact: a control connection's streams are read line by line, wherever its segments are cut, and leave with
//! every announcement replaced, whatever is sent again.
//!
//! A segment's way: what it acknowledges is told to the [stream](stream::Stream) of the other side; its own stream takes
//! it in, the lines that it completes are [heard](hearing::Hearing), and what then may leave leaves with it: less than it
//! bears where a line is unfinished, more where one is finished. What does not fit into one segment leaves in several.

mod dialogue;
mod hearing;
mod policy;
mod segments;
mod stream;
mod window;

pub use policy::{Denied, Policy};

use alloc::boxed::Box;
use alloc::vec;

use super::{Job, endpoints};
use crate::conntrack::{ConnectionId, Conntrack, Direction, ExpectPolicy, HelpedSlot, Tracked};
use crate::event::{DropReason, Event};
use crate::ftp::Sender;
use crate::nat::Nat;
use crate::packet::{Headers, Layer4, Packet, Segment, TcpFlags, TcpOptions};
use crate::{Instant, SequenceNumber};
use dialogue::Dialogue;
use hearing::Hearing;
pub(crate) use segments::Leaving;
use segments::{Answering, Bench, Takes};
use stream::{Incoming, Stream};
use window::Pool;

/// The type of a TLS record that bears a handshake, and the version's first byte (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
const TLS: u8 = 3;

/// Windows are shifted by no more (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;

/// How long what was announced is waited for (as in Linux).
const PATIENCE: core::time::Duration = ExpectPolicy::FTP.timeout;

/// What is known of all control connections.
#[derive(Debug)]
pub(super) struct Exact {
    states: Box<[State]>,
    tools: Tools,
    /// The state that is looked at next, whether its connection is gone.
    swept: usize,
}

/// What all connections share.
#[derive(Debug)]
struct Tools {
    policy: Policy,
    pool: Pool,
    bench: Bench,
    /// What a packet bore.
    came: Box<[u8]>,
}

/// What is known of one.
#[derive(Debug)]
struct State {
    connection: Option<ConnectionId>,
    /// By direction.
    streams: [Stream; 2],
    dialogue: Dialogue,
    /// The longest segment that the sender of each direction takes (0: not known).
    longest: [u16; 2],
    /// The window that the sender of each direction announced last, as it stands in its header.
    windows: [u16; 2],
    /// By how much it shifts it, if it offers that (RFC 7323 section 2).
    scales: [Option<u8>; 2],
}

/// A packet that leaves, and those that leave because of it.
pub(crate) struct Passage<'p, 'b> {
    pub(crate) now: Instant,
    pub(crate) tracked: &'p Tracked,
    pub(crate) packet: &'p mut Packet<'b>,
    pub(crate) headers: &'p mut Headers,
    /// How long a packet may be there.
    pub(crate) mtu: usize,
    /// Takes what leaves besides.
    pub(crate) leaving: &'p mut dyn Leaving,
}

impl Exact {
    /// For at most `helped` connections, of which `windows` streams may have a line that is unfinished, or segments that
    /// came early, at once.
    pub(super) fn new(policy: Policy, helped: u32, windows: usize) -> Self {
        let tools = Tools {
            policy,
            pool: Pool::new(windows),
            bench: Bench::new(),
            came: vec![0; usize::from(u16::MAX)].into(),
        };
        Self { states: (0..helped).map(|_| State::new()).collect(), tools, swept: 0 }
    }

    /// Reads a packet of a helped connection that is about to leave, already translated but with its own numbers.
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(super) fn process(
        &mut self,
        conntrack: &mut Conntrack,
        nat: &mut Nat,
        rewrites: bool,
        passage: &mut Passage<'_, '_>,
    ) -> Result<(), DropReason> {
        let Layer4::Tcp(segment) = passage.headers.layer4 else { return Ok(()) };
        let Some(id) = passage.tracked.connection else { return Ok(()) };
        let Some(slot) = conntrack.get(id).and_then(|connection| connection.helped()) else { return Ok(()) };
        self.sweep(conntrack);
        let Some(state) = self.states.get_mut(slot.index()) else { return Ok(()) };
        state.belong_to(id, &mut self.tools.pool);
        conntrack.be_liberal(id);
        state.windows[passage.tracked.direction as usize] = segment.window;
        if segment.flags.has(TcpFlags::SYN) {
            state.begin(&segment, passage, &mut self.tools.pool);
            return Ok(());
        }
        state.pass(&mut self.tools, id, &segment, conntrack, (nat, rewrites), passage)
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

    /// A number in a packet of a control connection that an ICMP error quotes, as its sender knows it.
    pub(super) fn quoted(&self, slot: HelpedSlot, direction: Direction, number: SequenceNumber) -> SequenceNumber {
        let state = self.states.get(slot.index());
        state.map_or(number, |state| state.streams[direction as usize].history().returning(number))
    }
}

impl State {
    fn new() -> Self {
        Self {
            connection: None,
            streams: [Stream::new(), Stream::new()],
            dialogue: Dialogue::new(),
            longest: [0; 2],
            windows: [0; 2],
            scales: [None; 2],
        }
    }

    /// Forgets what it knew, if that was of another connection.
    fn belong_to(&mut self, id: ConnectionId, pool: &mut Pool) {
        if self.connection != Some(id) {
            self.streams.iter_mut().for_each(|stream| stream.reset(pool));
            (self.connection, self.dialogue) = (Some(id), Dialogue::new());
            (self.longest, self.windows, self.scales) = ([0; 2], [0; 2], [None; 2]);
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
        passage: &mut Passage<'_, '_>,
    ) -> Result<(), DropReason> {
        let direction = passage.tracked.direction;
        let [ours, theirs] = [direction, direction.other()].map(|direction| self.window(direction));
        let [own, others] = ends(&mut self.streams, direction);
        let answering = Answering::new(conntrack, id, passage, segment);
        if segment.flags.has(TcpFlags::ACK) {
            let acknowledgement = others.acknowledge(segment.acknowledgement, &mut tools.pool);
            let bytes = passage.packet.bytes_mut();
            passage.headers.set_acknowledgement(bytes, acknowledgement);
            let mapped = passage.headers.map_sack_blocks(bytes, |left, right| others.selectively(left, right));
            mapped.map_err(|_| DropReason::TcpOptions)?;
        }
        if segment.flags.has(TcpFlags::RST) {
            let number = own.outgoing_at_most(segment.sequence);
            passage.headers.set_sequence(passage.packet.bytes_mut(), number);
            return Ok(());
        }
        let Some(connection) = conntrack.get(id) else { return Ok(()) };
        let job = Job {
            now: passage.now,
            id,
            direction,
            sender: Sender::from(direction),
            rewrites,
            zone: connection.tuple(Direction::Original).zone(),
            policy: ExpectPolicy { most: tools.policy.pending, timeout: PATIENCE },
        };
        let ends = endpoints(connection);
        let (policy, dialogue) = (&tools.policy, &mut self.dialogue);
        let mut hearing = Hearing { job, ends, policy, dialogue, conntrack, nat, tls: false };

        let mut came = core::mem::take(&mut tools.came);
        let payload = copy(passage.headers.payload(passage.packet.bytes()), &mut came);
        let incoming = Incoming { start: segment.sequence, payload, fin: segment.flags.has(TcpFlags::FIN) };
        if own.is_at_beginning() && matches!(payload, [HANDSHAKE, TLS, ..]) {
            own.stop_reading();
            hearing.tls = true;
        }
        let taken = own.take(incoming, &mut tools.pool, &mut hearing);
        let tls = hearing.tls;
        let takes = Takes { longest: self.longest[direction.other() as usize], window: theirs };
        tools.bench.write(own, incoming, taken, takes, passage);
        own.keep(incoming, &mut tools.pool);
        own.trim(&mut tools.pool);
        let (has_text, had) = (!incoming.payload.is_empty(), own.had(incoming));
        tools.came = came;
        if let Some((start, growth)) = own.grown() {
            // Windows are reckoned by it; the numbers are adjusted here.
            conntrack.register_growth(id, direction, start, growth);
        }

        let window = self.windows[direction.other() as usize];
        if let Some(owed) = own.owed(has_text).or(had) {
            answering.acknowledge(owed, window, passage.leaving);
        }
        if segment.flags.has(TcpFlags::ACK) {
            let say = (own.acknowledged(), window);
            let takes = Takes { longest: self.longest[direction as usize], window: ours };
            tools.bench.send_unsent(others, &answering, say, takes, passage.leaving);
        }
        if tls {
            self.streams.iter_mut().for_each(Stream::stop_reading);
            conntrack.events.push(passage.now, Event::Encrypted { connection: id });
        }
        Ok(())
    }

    /// A SYN: a stream begins, and with the client's the dialogue.
    fn begin(&mut self, segment: &Segment, passage: &Passage<'_, '_>, pool: &mut Pool) {
        let direction = passage.tracked.direction;
        let stream = &mut self.streams[direction as usize];
        let begins = stream.begin(segment.sequence + 1, pool);
        if begins && !segment.flags.has(TcpFlags::ACK) {
            self.dialogue.begin();
        }
        let (longest, scale) = (&mut self.longest[direction as usize], &mut self.scales[direction as usize]);
        (*longest, *scale) = (0, None);
        for option in passage.headers.tcp_options(passage.packet.bytes()).iter() {
            match option {
                Ok((TcpOptions::MSS, _, &[high, low])) => *longest = u16::from_be_bytes([high, low]),
                Ok((TcpOptions::WINDOW_SCALE, _, &[shift])) => *scale = Some(shift.min(MAX_SCALE)),
                _ => {}
            }
        }
    }

    /// How many bytes the sender of this direction takes, in its last words.
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
    let Some(room) = room.get_mut(..bytes.len()) else { return &[] };
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
