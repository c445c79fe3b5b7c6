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
use alloc::vec::Vec;

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
use segments::{Answering, Bench, bearable};
use stream::{Incoming, Stream};
use window::Pool;

/// The type of a TLS record that bears a handshake, and the version's first byte (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
const TLS: u8 = 3;

/// How long what was announced is waited for (as in Linux).
const PATIENCE: core::time::Duration = ExpectPolicy::FTP.timeout;

/// What is known of all control connections.
#[derive(Debug)]
pub(super) struct Exact {
    policy: Policy,
    states: Box<[Option<Box<State>>]>,
    spare: Vec<Box<State>>,
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
    /// The window that the sender of each direction announced last.
    windows: [u16; 2],
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
        let spare = (0..helped).map(|_| Box::new(State::new())).collect();
        let states = (0..helped).map(|_| None).collect();
        let came = vec![0; usize::from(u16::MAX)].into();
        Self { policy, states, spare, pool: Pool::new(windows), bench: Bench::new(), came }
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
        if !self.ready(id, slot) {
            return Err(DropReason::HelpersFull);
        }
        conntrack.be_liberal(id);
        let Some(Some(mut state)) = self.states.get_mut(slot.index()).map(Option::take) else { return Ok(()) };
        state.windows[passage.tracked.direction as usize] = segment.window;
        let result = if segment.flags.has(TcpFlags::SYN) {
            state.begin(&segment, passage, &mut self.pool);
            Ok(())
        } else {
            self.pass(&mut state, id, &segment, conntrack, (nat, rewrites), passage)
        };
        if let Some(slot) = self.states.get_mut(slot.index()) {
            *slot = Some(state);
        }
        result
    }

    /// A segment of a connection that was opened.
    fn pass(
        &mut self,
        state: &mut State,
        id: ConnectionId,
        segment: &Segment,
        conntrack: &mut Conntrack,
        (nat, rewrites): (&mut Nat, bool),
        passage: &mut Passage<'_, '_>,
    ) -> Result<(), DropReason> {
        let direction = passage.tracked.direction;
        let [own, others] = ends(&mut state.streams, direction);
        let answering = Answering::new(conntrack, id, passage, segment);
        if segment.flags.has(TcpFlags::ACK) {
            let acknowledgement = others.acknowledge(segment.acknowledgement, &mut self.pool);
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
            policy: ExpectPolicy { most: self.policy.pending, timeout: PATIENCE },
        };
        let ends = endpoints(connection);
        let (policy, dialogue) = (&self.policy, &mut state.dialogue);
        let mut hearing = Hearing { job, ends, policy, dialogue, conntrack, nat, tls: false };

        let mut came = core::mem::take(&mut self.came);
        let len = passage.headers.end.saturating_sub(segment.payload);
        let payload = came.get_mut(..len).unwrap_or_default();
        payload.copy_from_slice(passage.headers.payload(passage.packet.bytes()));
        let incoming = Incoming { start: segment.sequence, payload, fin: segment.flags.has(TcpFlags::FIN) };
        if own.is_at_beginning() && matches!(payload, [HANDSHAKE, TLS, ..]) {
            own.stop_reading();
            hearing.tls = true;
        }
        let taken = own.take(incoming, &mut self.pool, &mut hearing);
        let tls = hearing.tls;
        self.bench.write(own, incoming, taken, state.longest[direction.other() as usize], passage);
        self.came = came;
        own.trim(&mut self.pool);
        if let Some((start, growth)) = own.grown() {
            // Windows are reckoned by it; the numbers are adjusted here.
            conntrack.register_growth(id, direction, start, growth);
        }

        let window = state.windows[direction.other() as usize];
        if let Some(owed) = own.owed() {
            answering.acknowledge(owed, window, passage.leaving);
        }
        if segment.flags.has(TcpFlags::ACK) && segment.window > 0 {
            let say = (own.acknowledged(), window);
            let takes = (usize::from(segment.window), bearable(state.longest[direction as usize]));
            self.bench.repeat(others, &answering, say, takes, passage.leaving);
        }
        if tls {
            state.streams.iter_mut().for_each(Stream::stop_reading);
            conntrack.events.push(passage.now, Event::Encrypted { connection: id });
        }
        Ok(())
    }

    /// Makes the state of a connection ready, if it is not; false if there is none left.
    fn ready(&mut self, id: ConnectionId, slot: HelpedSlot) -> bool {
        let Some(state) = self.states.get_mut(slot.index()) else { return false };
        if state.is_none() {
            *state = self.spare.pop();
        }
        let Some(state) = state else { return false };
        if state.connection != Some(id) {
            state.streams.iter_mut().for_each(|stream| stream.reset(&mut self.pool));
            (state.connection, state.dialogue) = (Some(id), Dialogue::new());
            (state.longest, state.windows) = ([0; 2], [0; 2]);
        }
        true
    }

    /// A number in a packet of a control connection that an ICMP error quotes, as its sender knows it.
    pub(super) fn quoted(&self, slot: HelpedSlot, direction: Direction, number: SequenceNumber) -> SequenceNumber {
        let state = self.states.get(slot.index()).and_then(|state| state.as_deref());
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
        }
    }

    /// A SYN: a stream begins, and with the client's the dialogue.
    fn begin(&mut self, segment: &Segment, passage: &Passage<'_, '_>, pool: &mut Pool) {
        let direction = passage.tracked.direction;
        let stream = &mut self.streams[direction as usize];
        let begins = stream.begin(segment.sequence + 1, pool);
        if begins && !segment.flags.has(TcpFlags::ACK) {
            self.dialogue.begin();
        }
        let options = passage.headers.tcp_options(passage.packet.bytes());
        let longest = options.iter().find_map(|option| match option {
            Ok((TcpOptions::MSS, _, &[high, low])) => Some(u16::from_be_bytes([high, low])),
            _ => None,
        });
        self.longest[direction as usize] = longest.unwrap_or(0);
    }
}

/// The stream of this direction, and the other.
fn ends([original, reply]: &mut [Stream; 2], direction: Direction) -> [&mut Stream; 2] {
    match direction {
        Direction::Original => [original, reply],
        Direction::Reply => [reply, original],
    }
}
