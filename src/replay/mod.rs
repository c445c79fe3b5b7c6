//! Feeds a router's capture through a router of one's own, and compares what leaves.
//!
//! A capture taken on a router shows each packet twice, as it arrives and as it leaves. [`Replay`] hands the arriving
//! packets to a [`Router`] made from the same router's files. With [`Options::verify`] it compares the packets that
//! this router sends with those that the capture shows leaving. In the end it compares the router's tables with those
//! the kernel printed.
//!
//! Under [`Behaviour::Exact`] a second router does what Linux does with the same packets; where something else leaves,
//! a [`Departure`] says why.

mod anywhere;
mod beside;
mod beyond;
mod carriage;
mod comparable;
mod compared;
mod departure;
mod frames;
mod gap_watcher;
mod heard;
mod holes;
mod lacking;
mod own;
mod pair;
mod passage;
mod reasons;
mod sent_pair;
mod service_gaps;
mod size;
mod streams;
mod suggest;
mod tables;
mod train;
mod verify;

pub use crate::inspect::NoopSink;
pub use crate::nat::choices::ForcedPort;
pub use compared::NothingCompared;
pub use departure::{Departure, Here, LinuxDoes, Quirk};
pub use gap_watcher::Watch;
pub use holes::Hole;
pub use service_gaps::holes;
pub use size::count_connections;
pub use suggest::force_port;
pub use tables::TableDifference;
pub use verify::{Difference, DifferenceKind};

use core::fmt;
use core::net::IpAddr;
use core::ops::Range;
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::string::String;
use std::vec::Vec;

use crate::capture::{Direction, ReadError, RecordSource};
use crate::config::{self, Directory, InterfaceConfig};
use crate::conntrack::Tuple;
use crate::event::{DropReason, Event};
use crate::packet::{Headers, Layer4, Packet, Protocol};
use crate::router::{Egress, Outbox, Router, RouterError, Verdict};
use crate::{Behaviour, Instant};
use beside::Beside;
use beyond::{Evidence, Flows};
use carriage::Carriage;
use compared::Compared;
use frames::{Devices, Frame, Frames};
use own::Delivered;
use sent_pair::Sending;
use streams::Streams;
use verify::Verifier;

/// The options of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// True if the leaving packets are compared with the capture, and the tables with the kernel's.
    pub verify: bool,
    /// Control ports to attach the helper to by number, beside what rules say.
    pub ports: Vec<u16>,
    /// Whom the router's helper behaves like.
    pub behaviour: Behaviour,
    /// True if connections older than the capture are taken over, translated as the leaving packets show.
    pub adopt: bool,
    /// Maximum number of TCP connections at once, if more than the tables have room for by default.
    pub sessions: u32,
}

/// The reason why a replay cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file has a value that cannot be understood.
    Config(config::Error),
    /// The configuration has something that cannot be meant.
    Router(RouterError),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Router(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReplayError {}

/// A packet of the capture, or one that the router sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen<'a> {
    /// The frame in the capture: of what arrived, also for what is sent because of it.
    pub frame: u64,
    /// When it arrived.
    pub time: Instant,
    /// The number of the interface.
    pub interface: usize,
    /// The packet, from its IP header.
    pub bytes: &'a [u8],
}

/// A receiver of a replay's results while it runs.
pub trait Sink {
    /// A packet arrived (or was sent by the router's own machine), and this became of it.
    fn packet(&mut self, _packet: Seen<'_>, _verdict: Verdict, _router: &Router) {}
    /// Something happened because of the packet of this frame.
    fn event(&mut self, _frame: u64, _time: Instant, _event: &Event, _router: &Router) {}
    /// The router sends a packet.
    fn leaves(&mut self, _packet: Seen<'_>, _router: &Router) {}
    /// Something else leaves of a packet than Linux would send (only under [`Behaviour::Exact`]). It follows the packet's
    /// events and what leaves of it.
    fn departs(&mut self, _departure: &Departure, _router: &Router) {}
    /// A packet differs.
    fn differs(&mut self, _difference: &Difference, _router: &Router) {}
    /// A line of the tables differs.
    fn table_differs(&mut self, _difference: &TableDifference) {}
    /// The capture lacks something that must have passed before this frame, and it was made good.
    fn lacks(&mut self, _frame: u64, _time: Instant, _lacking: Lacking) {}
    /// The capture is damaged, or ends, here.
    fn broken(&mut self, _error: &ReadError) {}
}

/// A gap in the capture, by the evidence of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lacking {
    /// Bytes of a TCP stream that were never seen, and that what was seen follows or acknowledges. They were supplied as
    /// blanks.
    Bytes {
        /// Of the stream that the frame belongs to.
        own: u32,
        /// Of the stream that it acknowledges.
        other: u32,
    },
    /// The beginning of a connection, which was taken over.
    Beginning {
        /// Tuple that its first packet would have had.
        original: Tuple,
    },
}

impl Sink for NoopSink {}

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Packets that arrived.
    pub arrived: u64,
    /// Packets that the router's own machine sent.
    pub own: u64,
    /// Packets that leave and are not compared: neighbour discovery and the like, which the machine itself sends.
    pub housekeeping: u64,
    /// Packets that the capture shows leaving.
    pub left: u64,
    /// Packets that differ: in a byte, or because one side has none.
    pub differ: u64,
    /// Lines of the tables that differ.
    pub table_lines: u64,
    /// Ports that were taken from the capture because the kernel chose them at random.
    pub choices: u64,
    /// Packets that met a rule nobody here understands.
    pub undecidable: u64,
    /// Frames that are no IP packets.
    pub not_ip: u64,
    /// Frames on devices that the router's files do not name, and frames for other hosts.
    pub ignored: u64,
    /// The devices of those frames, and how many each has.
    pub ignored_on: BTreeMap<String, u64>,
    /// Frames of which the capture has only the beginning.
    pub cut: u64,
    /// Packets whose transport checksum arrived wrong, so that it was not compared.
    pub bad_checksums: u64,
    /// Events that were not told, because too many came at once.
    pub events_lost: u64,
    /// Bytes of TCP streams that the capture lacks though they passed, and that were supplied.
    pub supplied: u64,
    /// TCP connections that are older than the capture; counted where packets are compared.
    pub older: u64,
    /// Connections whose beginning the capture lacks, and that were taken over.
    pub adopted: u64,
    /// Lines of the kernel's tables that nothing in the capture leads to, since it lacks packets: not compared.
    pub lines_beyond: u64,
    /// Lines of the kernel's tables of connections that the capture has no packet of: older, or left out by its filter.
    pub lines_unseen: u64,
    /// Reason why no packet was compared, if none was.
    pub nothing_compared: Option<NothingCompared>,
    /// Packets that the capture shows though others were supplied for them as missing.
    pub contradicted: u64,
    /// Packets dropped here because the library's table of helped connections was full; Linux has no such limit.
    pub helpers_full: u64,
    /// True if the tables were compared.
    pub tables_compared: bool,
    /// Packets of which something else leaves than Linux would send, under [`Behaviour::Exact`].
    pub departures: u64,
    /// Those of them whose reason was told of their connection before ([`Departure::alike`]).
    pub departures_alike: u64,
}

impl Summary {
    /// Returns true if everything that was compared agrees.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        self.differ == 0
            && self.table_lines == 0
            && self.undecidable == 0
            && self.contradicted == 0
            && self.helpers_full == 0
            && self.nothing_compared.is_none()
    }
}

impl fmt::Display for Summary {
    /// The line that `replay --verify` ends with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arrived, own, left, differ, table_lines, choices, undecidable, .. } = self;
        write!(
            f,
            "verified: {arrived} arrived, {own} own, {left} left, {differ} differ, {table_lines} table lines differ, \
             {choices} choices taken, {undecidable} undecidable"
        )
    }
}

/// A router, and a capture on its way through it.
pub struct Replay {
    router: Router,
    frames: Frames,
    verifier: Option<Verifier>,
    /// Streams that the capture shows, where missing packets are to be supplied.
    streams: Option<Streams>,
    flows: Flows,
    /// True if the last packet was dropped, and the capture does not show it leaving either.
    is_dropped: bool,
    compared: Compared,
    adopts: bool,
    /// True if the library is to do what the capture shows; otherwise it may have its own reasons to differ.
    imitates: bool,
    /// The second router that behaves as Linux, where that may differ.
    beside: Option<Box<Beside>>,
    /// Connections that the machine itself may reset.
    delivered: Delivered,
    outbox: Outbox,
    buffer: Vec<u8>,
    summary: Summary,
    tables_time: Option<Instant>,
    kernel_tables: [Option<String>; 4],
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

/// Number of frames to read ahead to see what the kernel chose.
const LOOK_AHEAD: usize = 64;
/// Maximum number of events of one packet, or of the time before it.
const EVENTS: usize = 1 << 14;
/// Number of frames by which those of interfaces recorded on their own may be out of order in a file.
const REORDERED: usize = 4096;
/// Maximum number of TCP connections that a capture or a caller makes room for.
const MOST_SESSIONS: u32 = 1 << 20;
/// The seeds do not matter: what they decide is taken from the capture, or differs.
const SEEDS: [u64; 4] = [0x6674_7063, 0x6f6e_6e74, 0x7261_636b, 0x7265_706c];

/// The place where a packet is handed to the router, by the number of the interface.
#[derive(Clone, Copy)]
enum Place {
    /// It arrived there.
    Arrived(usize),
    /// The router's own machine sent it there.
    Sent(usize),
}

/// The result of a packet that was handed to the router, and its place in the buffer.
// place
struct Passed {
    verdict: Verdict,
    range: Range<usize>,
}

/// Returns true for a port of a bridge, bond or team: what it receives and sends, the device with the addresses receives
/// and sends too, and that copy is the router's. A device of a VRF keeps its addresses.
fn is_bridge_port(interface: &InterfaceConfig) -> bool {
    let is_routed = |address: IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    interface.master.is_some() && !interface.addresses.iter().any(|address| is_routed(address.address))
}

/// Maximum depth of devices on top of each other.
const MOST_LAYERS: u32 = 8;

/// Returns how often a capture of all devices shows a frame of an interface: there, and on each device below it.
fn copies(interfaces: &[InterfaceConfig], place: usize, depth: u32) -> u32 {
    let Some(name) = interfaces.get(place).map(|interface| &interface.name) else { return 1 };
    let is_below =
        |(_, other): &(usize, &InterfaceConfig)| is_bridge_port(other) && other.master.as_ref() == Some(name);
    let below = interfaces.iter().enumerate().filter(is_below).filter(|_| depth < MOST_LAYERS);
    1 + below.map(|(port, _)| copies(interfaces, port, depth + 1)).max().unwrap_or(0)
}

/// Returns true if another device sends through this one: a VLAN, or a macvlan.
fn has_children(interfaces: &[InterfaceConfig], name: &str) -> bool {
    interfaces.iter().any(|other| other.parent.as_deref() == Some(name))
}

/// Adds a frame to those read ahead: one of several interfaces recorded on their own goes where its time puts it. At the
/// same time, packets arrive before others leave.
fn put_in_order(frame: Frame, ahead: &mut VecDeque<Frame>) {
    let at = |frame: &Frame| (frame.time, frame.nanos, frame.direction == Direction::Out);
    let place = at(&frame);
    let later = |other: &&Frame| frame.unordered && other.unordered && at(other) > place;
    let at = ahead.len() - ahead.iter().rev().take_while(later).count();
    ahead.insert(at, frame);
}

/// Returns true for what every machine says on its own links, whatever it routes: neighbour and router discovery,
/// multicast listeners, IGMP and DHCP. Nothing in the router's files leads to it. What is forwarded has no hop limit of
/// 255, which discovery must have (RFC 4861 section 4).
fn is_housekeeping(headers: &Headers, bytes: &[u8]) -> bool {
    const IGMP: Protocol = Protocol(2);
    let stays_on_link = match headers.destination(bytes) {
        IpAddr::V4(to) => to.is_broadcast() || to.is_multicast(),
        IpAddr::V6(to) => to.segments()[0] == 0xff02,
    };
    match headers.layer4 {
        Layer4::Icmp(icmp) if headers.protocol == Protocol::ICMPV6 => {
            let is_listener = matches!(icmp.kind, 130..=132 | 143) && stays_on_link;
            is_listener || matches!(icmp.kind, 133..=136) && headers.hop_limit(bytes) == 255
        }
        Layer4::Udp => matches!(headers.ports(bytes), Some((68, 67) | (67, 68) | (546, 547) | (547, 546))),
        _ => headers.protocol == IGMP && stays_on_link,
    }
}

/// The packets that leave because of one: itself, and what is in the outbox.
fn sent<'s>(verdict: Verdict, bytes: &'s [u8], outbox: &'s Outbox) -> impl Iterator<Item = (usize, &'s [u8])> {
    let itself = match verdict {
        Verdict::Forward { interface, .. } => Some((interface, bytes)),
        _ => None,
    };
    let others = outbox.iter().filter_map(|outgoing| match outgoing.egress {
        Egress::Forward { interface, .. } => Some((interface, outgoing.bytes)),
        _ => None,
    });
    itself.into_iter().chain(others)
}

impl Replay {
    /// The router that a directory describes, before the first packet.
    ///
    /// # Errors
    /// When the directory describes none.
    pub fn new(directory: &Directory, options: Options) -> Result<Self, ReplayError> {
        Self::with_header_checksums(directory, options, true)
    }

    /// The same; `header_checksum` as in [`router::RouterConfig`](crate::router::RouterConfig::header_checksum).
    fn with_header_checksums(
        directory: &Directory,
        options: Options,
        header_checksum: bool,
    ) -> Result<Self, ReplayError> {
        let imitates = options.behaviour == Behaviour::Linux;
        let mut config = directory.router_config().map_err(ReplayError::Config)?;
        config.header_checksum = header_checksum;
        // With headers unverified, neither is their payload.
        config.checksum &= header_checksum;
        config.helper_ports.extend(&options.ports);
        config.helper = config.helper.behaving(options.behaviour);
        config.conntrack.limits.events = EVENTS;
        let limits = &mut config.conntrack.limits;
        let sessions = options.sessions.min(MOST_SESSIONS);
        limits.helped = limits.helped.max(sessions);
        if directory.sysctl.get("net.netfilter.nf_conntrack_max").is_none() {
            limits.connections = limits.connections.max(sessions);
        }
        let beside = match options.behaviour {
            Behaviour::Linux => None,
            Behaviour::Exact => {
                let mut config = config.clone();
                config.helper = config.helper.behaving(Behaviour::Linux);
                let router = Router::new(config, SEEDS).map_err(ReplayError::Router)?;
                Some(Box::new(Beside::new(router)))
            }
        };
        let router = Router::new(config, SEEDS).map_err(ReplayError::Router)?;
        let link_addresses = directory.interfaces.iter().map(|interface| interface.link_address).collect();
        let is_port = directory.interfaces.iter().map(is_bridge_port).collect();
        let indexes = directory.interfaces.iter().map(|interface| interface.index).collect();
        let copies = (0..directory.interfaces.len()).map(|place| copies(&directory.interfaces, place, 0)).collect();
        let has_children =
            directory.interfaces.iter().map(|own| has_children(&directory.interfaces, &own.name)).collect();
        let devices = Devices { indexes, link_addresses, is_port, copies, has_children };
        Ok(Self {
            router,
            frames: Frames::new(devices),
            verifier: options.verify.then(Verifier::default),
            streams: (options.verify && imitates || options.adopt).then(Streams::default),
            flows: Flows::default(),
            is_dropped: false,
            compared: Compared::default(),
            adopts: options.adopt,
            imitates,
            beside,
            delivered: Delivered::default(),
            outbox: Outbox::new(64, 1 << 17),
            buffer: Vec::new(),
            summary: Summary::default(),
            tables_time: directory.tables_time,
            kernel_tables: [
                directory.conntrack_text.clone(),
                directory.expect_text.clone(),
                directory.ip_vs_text.clone(),
                directory.ip_vs_conn_text.clone(),
            ],
        })
    }

    /// The router, as it is now.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// Runs a capture through the router, to its end or to where it breaks.
    pub fn run(&mut self, capture: &mut dyn RecordSource, sink: &mut dyn Sink) -> Summary {
        let mut ahead = VecDeque::new();
        let mut read = VecDeque::new();
        let mut more = true;
        loop {
            while ahead.len() < LOOK_AHEAD {
                let is_enough = |read: &VecDeque<Frame>| match read.back() {
                    None => false,
                    Some(frame) => !frame.unordered || read.len() >= REORDERED,
                };
                while more && !is_enough(&read) {
                    match self.frames.next(capture, &self.router, &mut self.summary) {
                        Some(Ok(frame)) => put_in_order(frame, &mut read),
                        Some(Err(error)) => sink.broken(&error),
                        None => more = false,
                    }
                }
                let Some(frame) = read.pop_front() else { break };
                ahead.push_back(frame);
            }
            let Some(mut frame) = ahead.pop_front() else { break };
            if self.verifier.is_some()
                && let Some(now) = self.tables_time.take_if(|now| *now < frame.time)
            {
                self.compare_tables(now, sink);
            }
            if frame.direction != Direction::Out {
                frame.carriage = Carriage::of_arrived(&frame, &ahead, self.router.interfaces());
            }
            self.step(&frame, &ahead, sink);
            self.frames.recycle(frame);
        }
        self.finish(sink);
        self.summary.clone()
    }

    fn step(&mut self, frame: &Frame, ahead: &VecDeque<Frame>, sink: &mut dyn Sink) {
        self.router.handle_timeout(frame.time, &mut self.outbox);
        if let Some(beside) = &mut self.beside {
            beside.handle_timeout(frame.time, frame.number);
        }
        self.tell(frame, sink);
        if frame.direction == Direction::Out {
            self.left(frame, ahead, sink);
        } else {
            self.summary.arrived += 1;
            if self.verifier.is_some() {
                let choice = suggest::choice(frame, ahead);
                if let Some(beside) = &mut self.beside {
                    force_port(beside.router_mut(), choice);
                }
                force_port(&mut self.router, choice);
            }
            self.feed(frame, ahead, false, sink);
        }
        self.flows.note(&frame.bytes);
        self.compared.note(frame);
        if let Some(streams) = &mut self.streams {
            let arrives = frame.direction != Direction::Out;
            self.summary.contradicted += u64::from(arrives && streams.contradicts(frame));
            // A segment that ends here is no evidence of others that came before it.
            if !(arrives && self.is_dropped) {
                let is_older = streams.note(frame) && arrives;
                self.summary.older += u64::from(is_older);
            }
        }
    }

    /// Hands a packet to the router, as arriving or as the machine's own, and tells what becomes of it.
    fn feed(&mut self, frame: &Frame, ahead: &VecDeque<Frame>, own: bool, sink: &mut dyn Sink) {
        let bad_checksum = verify::has_bad_checksum(&frame.bytes);
        self.summary.bad_checksums += u64::from(bad_checksum);
        let place = if own { Place::Sent(frame.interface) } else { Place::Arrived(frame.interface) };
        let mut passed = self.hand_over(frame.time, place, &frame.bytes, frame.carriage);
        if !own && self.streams.is_some() {
            self.make_good(frame, ahead, &mut passed, sink);
        }
        let Some(Passed { verdict, range }) = passed else { return };
        self.is_dropped = matches!(verdict, Verdict::Drop(_)) && pair::leaves_as(frame, ahead, |_| false).is_none();
        let seen = Seen { frame: frame.number, time: frame.time, interface: frame.interface, bytes: &frame.bytes };
        sink.packet(seen, verdict, &self.router);
        if verdict == Verdict::Local {
            self.delivered.note(&frame.bytes);
        }
        let mut unseen = Vec::new();
        let packet = self.buffer.get(range).unwrap_or_default();
        for (interface, bytes) in sent(verdict, packet, &self.outbox) {
            sink.leaves(Seen { interface, bytes, ..seen }, &self.router);
            if let Some(verifier) = &mut self.verifier {
                if !own {
                    self.compared.note_sent(interface, bytes);
                }
                unseen.extend(verifier.predict(frame, interface, bytes, bad_checksum));
            }
        }
        let sent = self.beside.as_ref().map(|_| Sending::of(verdict, packet, &self.outbox));
        for difference in &unseen {
            self.differs(difference, sink);
        }
        self.outbox.clear();
        self.tell(frame, sink);
        if let Some(sent) = sent {
            self.compare(frame, own, &sent, sink);
        }
    }

    /// Compares the packets that leave with those that Linux sends.
    fn compare(&mut self, frame: &Frame, own: bool, sent: &Sending, sink: &mut dyn Sink) {
        let Some(beside) = &mut self.beside else { return };
        if let Some(departure) = beside.compare(frame, own, sent, &self.router) {
            self.summary.departures += 1;
            self.summary.departures_alike += u64::from(departure.alike);
            sink.departs(&departure, &self.router);
        }
    }

    /// Hands a packet to the router: it arrived on an interface, or is the machine's own. What leaves is in the buffer and
    /// in the outbox.
    fn hand_over(&mut self, time: Instant, place: Place, bytes: &[u8], carriage: Carriage) -> Option<Passed> {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(bytes.len() + Packet::ROOM, 0);
        let mut packet = carriage.mark(Packet::new(&mut self.buffer, 0..bytes.len()).ok()?);
        let verdict = match place {
            Place::Arrived(interface) => self.router.process(time, interface, &mut packet, &mut self.outbox),
            Place::Sent(interface) => self.router.output_by(time, interface, &mut packet, &mut self.outbox),
        };
        let range = packet.range();
        Some(Passed { verdict, range })
    }

    /// The capture shows a packet leaving.
    fn left(&mut self, frame: &Frame, ahead: &VecDeque<Frame>, sink: &mut dyn Sink) {
        self.summary.left += 1;
        let differ = self.summary.differ;
        if self.was_predicted(frame, sink) {
            if self.summary.differ == differ {
                self.compared.note_agreed();
            }
            return;
        }
        let Ok(headers) = Headers::find(&frame.bytes) else {
            self.differs(&Difference::unexpected(frame), sink);
            return;
        };
        let reset = self.delivered.is_reset(&headers, &frame.bytes).then(|| frame.bytes.clone());
        if let Some(bytes) = own::as_sent(frame, &headers, &self.router).or(reset) {
            self.summary.own += 1;
            let carriage = Carriage::of_own(frame, self.router.interfaces());
            self.feed(&Frame { bytes, carriage, ..*frame }, ahead, true, sink);
            if self.was_predicted(frame, sink) {
                return;
            }
        }
        if is_housekeeping(&headers, &frame.bytes) {
            self.summary.housekeeping += 1;
            return;
        }
        self.differs(&Difference::unexpected(frame), sink);
    }

    /// Returns true if the router sent the packet that left, to the byte or otherwise; also if nothing is compared.
    fn was_predicted(&mut self, frame: &Frame, sink: &mut dyn Sink) -> bool {
        let Some(verifier) = &mut self.verifier else { return true };
        if verifier.matches(frame) {
            return true;
        }
        let difference = verifier.closest(frame);
        if let Some(difference) = &difference {
            self.differs(difference, sink);
        }
        difference.is_some()
    }

    fn differs(&mut self, difference: &Difference, sink: &mut dyn Sink) {
        self.summary.differ += 1;
        sink.differs(difference, &self.router);
    }

    /// Passes on what happened.
    fn tell(&mut self, frame: &Frame, sink: &mut dyn Sink) {
        while let Some((time, event)) = self.router.poll_event() {
            self.tell_event(frame, time, &event, sink);
        }
    }

    fn tell_event(&mut self, frame: &Frame, time: Instant, event: &Event, sink: &mut dyn Sink) {
        match event {
            Event::Undecided { .. } => self.summary.undecidable += 1,
            Event::Dropped { reason: DropReason::HelpersFull, .. } => self.summary.helpers_full += 1,
            _ => {}
        }
        if let Some(beside) = &mut self.beside {
            beside.note(frame.number, event);
        }
        sink.event(frame.number, time, event, &self.router);
    }

    /// The capture is over: what was sent and never seen, and the tables.
    fn finish(&mut self, sink: &mut dyn Sink) {
        self.summary.events_lost = self.router.conntrack().events.lost();
        let Some(verifier) = &mut self.verifier else { return };
        for difference in verifier.missing() {
            self.summary.differ += 1;
            sink.differs(&difference, &self.router);
        }
        self.summary.nothing_compared = self.compared.nothing(self.summary.differ);
        self.summary.choices = self.router.nat_mut().choices.followed();
        if let Some(now) = self.tables_time.take() {
            self.compare_tables(now, sink);
        }
    }

    /// Compares the tables with those that the kernel printed at this time.
    fn compare_tables(&mut self, now: Instant, sink: &mut dyn Sink) {
        self.router.handle_timeout(now, &mut self.outbox);
        let conntrack = self.router.conntrack();
        let mut ours: [String; 4] = Default::default();
        let [connections, expectations, services, entries] = &mut ours;
        // Writing to a String cannot fail.
        let _ = conntrack.write_proc(now, connections);
        let _ = conntrack.write_proc_expect(now, expectations);
        if let Some(ipvs) = self.router.ipvs() {
            let _ = ipvs.write_proc(services);
            let _ = ipvs.write_proc_conn(now, entries);
        }
        for (kernel, ours) in self.kernel_tables.iter().zip(&ours) {
            let Some(kernel) = kernel else { continue };
            self.summary.tables_compared = true;
            let differences = tables::compare(kernel, ours);
            let streams = self.streams.as_ref();
            let evidence = streams.map_or_else(Vec::new, |streams| beyond::of(streams, &self.flows, &differences));
            let evidence = evidence.into_iter().chain(core::iter::repeat(Evidence::Whole));
            for (difference, evidence) in differences.iter().zip(evidence) {
                match evidence {
                    Evidence::Whole => {
                        self.summary.table_lines += 1;
                        sink.table_differs(difference);
                    }
                    Evidence::Gaps => self.summary.lines_beyond += 1,
                    Evidence::Nothing => self.summary.lines_unseen += 1,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// An ICMPv6 message from fe80::1 to ff02::2.
    fn icmpv6(kind: u8, hop_limit: u8) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 8, 58, hop_limit];
        bytes.extend("fe80::1".parse::<core::net::Ipv6Addr>().unwrap().octets());
        bytes.extend("ff02::2".parse::<core::net::Ipv6Addr>().unwrap().octets());
        bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn discovery_is_housekeeping_and_what_is_forwarded_is_not() {
        let is_it = |bytes: &[u8]| is_housekeeping(&Headers::find(bytes).unwrap(), bytes);
        for kind in 133..=136 {
            assert!(is_it(&icmpv6(kind, 255)), "type {kind}");
            assert!(!is_it(&icmpv6(kind, 254)), "type {kind} was forwarded");
        }
        assert!(is_it(&icmpv6(143, 1)));
        assert!(!is_it(&icmpv6(128, 255)), "an echo request");
    }
}
