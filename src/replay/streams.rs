//! The segments of each TCP stream that each link of the router shows, and so the gaps of the capture.
//!
//! A capturing program that cannot keep up loses packets, arriving and leaving copies alike. What passed is told by
//! what others say of it: an acknowledgement of bytes that were never seen, or a segment that follows them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{HashMap, VecDeque};
use std::vec::Vec;

use super::frames::Frame;
use super::passage::Passage;
use crate::SequenceNumber;
use crate::packet::{Headers, Layer4, TcpFlags};

/// One side of a TCP connection on one link: the interface, who sends, and to whom.
type SideOf = (usize, SocketAddr, SocketAddr);

/// A TCP segment, on a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) interface: usize,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) flags: TcpFlags,
    pub(super) sequence: SequenceNumber,
    /// First sequence number after the segment.
    pub(super) end: SequenceNumber,
    pub(super) acknowledgement: SequenceNumber,
    pub(super) window: u16,
}

impl Segment {
    /// The segment in a packet; a part of one is none.
    pub(super) fn read(interface: usize, bytes: &[u8]) -> Option<Self> {
        let headers = Headers::find(bytes).ok().filter(|headers| headers.fragment.is_none())?;
        let Layer4::Tcp(segment) = headers.layer4 else { return None };
        let (source_port, destination_port) = headers.ports(bytes)?;
        let flags = segment.flags;
        let length = headers.payload(bytes).len() as u32;
        let numbered = u32::from(flags.has(TcpFlags::SYN)) + u32::from(flags.has(TcpFlags::FIN));
        Some(Self {
            interface,
            source: SocketAddr::new(headers.source(bytes), source_port),
            destination: SocketAddr::new(headers.destination(bytes), destination_port),
            flags,
            sequence: segment.sequence,
            end: segment.sequence + length + numbered,
            acknowledgement: segment.acknowledgement,
            window: segment.window,
        })
    }

    const fn own(&self) -> SideOf {
        (self.interface, self.source, self.destination)
    }

    const fn other(&self) -> SideOf {
        (self.interface, self.destination, self.source)
    }

    /// Returns the missing bytes before it, given the state of its own side and of the other.
    fn unseen(&self, own: Option<&Side>, other: Option<&Side>) -> Unseen {
        let beginning = own.is_none() && !self.flags.has(TcpFlags::SYN);
        let is_older = beginning && other.is_none_or(|other| other.lacks);
        let before = own.filter(|_| !self.flags.has(TcpFlags::SYN)).map_or(0, |own| self.sequence.since(own.end));
        let acknowledged = other.filter(|_| self.acknowledges());
        let acknowledged = acknowledged.map_or(0, |other| self.acknowledgement.since(other.end));
        let count = |bytes: i32| u32::try_from(bytes).unwrap_or(0);
        Unseen { own: count(before), other: count(acknowledged), beginning, is_older }
    }

    /// Returns true if it is the first of a connection.
    const fn begins(&self) -> bool {
        self.flags.has(TcpFlags::SYN) && !self.flags.has(TcpFlags::ACK)
    }

    /// Returns true if a side is one of a connection between the same hosts, on the same link.
    fn is_between_the_same(&self, side: &SideOf) -> bool {
        let (interface, source, destination) = side;
        let hosts = [source.ip(), destination.ip()];
        let (own, other) = (self.source.ip(), self.destination.ip());
        *interface == self.interface && (hosts == [own, other] || hosts == [other, own])
    }

    const fn acknowledges(&self) -> bool {
        self.flags.has(TcpFlags::ACK) && !self.flags.has(TcpFlags::RST)
    }
}

/// Servers listen below, clients and data connections are at ports above (RFC 6335 section 6).
pub(super) const FIRST_EPHEMERAL: u16 = 1024;
/// A SYN whose number lies no further back belongs to the stream that was seen.
const SAME_STREAM: i32 = 1 << 24;

/// The part of one side's stream that was seen.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// End of the part of the stream that was seen.
    end: SequenceNumber,
    /// The highest number that it acknowledged.
    acknowledged: Option<SequenceNumber>,
    window: u16,
    /// End of the stream, if it was seen ending.
    fin: Option<SequenceNumber>,
    reset: bool,
    /// Something of its stream was not seen, though it passed.
    lacks: bool,
    /// And that not because it is older than the capture.
    lost: bool,
    /// True if the SYN was seen.
    began: bool,
}

impl Side {
    /// Before its first segment.
    const fn beginning(segment: &Segment) -> Self {
        let Segment { sequence, window, .. } = *segment;
        Self {
            end: sequence,
            acknowledged: None,
            window,
            fin: None,
            reset: false,
            lacks: false,
            lost: false,
            began: segment.flags.has(TcpFlags::SYN),
        }
    }

    /// Returns true if a SYN begins another stream: its number was not seen, nor one near it.
    fn is_over(&self, syn: &Segment) -> bool {
        let back = self.end.since(syn.end);
        !(0..=SAME_STREAM).contains(&back)
    }

    fn note(&mut self, segment: &Segment) {
        if segment.flags.has(TcpFlags::SYN) && self.is_over(segment) {
            *self = Self::beginning(segment);
        }
        self.end = self.end.later(segment.end);
        self.window = segment.window;
        self.reset |= segment.flags.has(TcpFlags::RST);
        if segment.flags.has(TcpFlags::FIN) {
            self.fin = Some(segment.end);
        }
        if segment.acknowledges() {
            let acknowledged = self.acknowledged.map_or(segment.acknowledgement, |a| a.later(segment.acknowledgement));
            self.acknowledged = Some(acknowledged);
        }
    }
}

/// The missing bytes, by the evidence of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Bytes of the segment's own stream before it.
    pub(super) own: u32,
    /// Bytes of the other side's stream that it acknowledges.
    pub(super) other: u32,
    /// The beginning of the segment's own stream.
    pub(super) beginning: bool,
    /// The other side's beginning passed unseen too: the connection may simply be older than the capture.
    is_older: bool,
}

impl Unseen {
    /// Returns true if the capture lost something.
    const fn is_loss(self) -> bool {
        self.own > 0 || self.other > 0 || self.beginning && !self.is_older
    }
}

/// The parts of all streams that were seen.
#[derive(Debug, Default)]
pub(super) struct Streams {
    sides: HashMap<SideOf, Side>,
    /// The interfaces on which segments from one end to another were seen.
    links: HashMap<(SocketAddr, SocketAddr), Vec<usize>>,
    /// The stretches of each side that were supplied, by their first number and the one after the last.
    supplied: HashMap<SideOf, Vec<(SequenceNumber, SequenceNumber)>>,
    /// Number of sides with gaps, by interface and hosts, and under `None` in all.
    gaps: HashMap<Option<(usize, IpAddr, IpAddr)>, Gaps>,
}

/// The number of sides of streams with gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gaps {
    /// For whatever reason.
    lacking: u32,
    /// Because the capture lost it.
    lost: u32,
}

impl Gaps {
    const fn of(side: &Side) -> Self {
        Self { lacking: side.lacks as u32, lost: (side.lacks && side.lost) as u32 }
    }

    const fn without(self, other: Self) -> Self {
        Self { lacking: self.lacking.saturating_sub(other.lacking), lost: self.lost.saturating_sub(other.lost) }
    }

    const fn with(self, other: Self) -> Self {
        Self { lacking: self.lacking + other.lacking, lost: self.lost + other.lost }
    }

    /// Returns true if something is missing; with `adopts`, also what is older than the capture.
    const fn any(self, adopts: bool) -> bool {
        if adopts { self.lacking > 0 } else { self.lost > 0 }
    }
}

/// Returns the key of a side's hosts, the same for both sides.
fn hosts((interface, source, destination): &SideOf) -> (usize, IpAddr, IpAddr) {
    let (a, b) = (source.ip(), destination.ip());
    (*interface, a.min(b), a.max(b))
}

impl Streams {
    /// Returns the missing bytes before this segment.
    pub(super) fn unseen(&self, segment: &Segment) -> Unseen {
        segment.unseen(self.sides.get(&segment.own()), self.sides.get(&segment.other()))
    }

    /// Returns true if this segment's connection began in the capture, by its link: then no missing packet explains its
    /// translation.
    pub(super) fn began(&self, segment: &Segment) -> bool {
        [segment.own(), segment.other()].iter().filter_map(|side| self.sides.get(side)).any(|side| side.began)
    }

    /// Returns true if packets that led to this segment may be missing. For a segment that begins a connection, those
    /// are the announcement's: then others between the same hosts were lost. For another segment, others of its
    /// connection were lost; or the connection is not known, and any were. Later frames show it as well as earlier
    /// ones. With `adopts`, packets before the capture began count as lost.
    pub(super) fn may_have_been_led_to(&self, segment: &Segment, ahead: &VecDeque<Frame>, adopts: bool) -> bool {
        let own = [segment.own(), segment.other()];
        let is_known = own.iter().any(|side| self.sides.contains_key(side));
        let begins = segment.begins();
        if begins && segment.destination.port() < FIRST_EPHEMERAL {
            return false;
        }
        let leads = |side: &SideOf| match (begins, is_known) {
            (true, _) => segment.is_between_the_same(side) && !own.contains(side),
            (false, true) => own.contains(side),
            (false, false) => true,
        };
        if !begins && !is_known && adopts {
            return true;
        }
        let gaps = |key| self.gaps.get(&key).copied().unwrap_or_default();
        let own_gaps = own.iter().filter_map(|side| self.sides.get(side)).map(Gaps::of);
        let own_gaps = own_gaps.fold(Gaps::default(), Gaps::with);
        let led = match (begins, is_known) {
            (true, _) => gaps(Some(hosts(&segment.own()))).without(own_gaps),
            (false, true) => own_gaps,
            (false, false) => gaps(None),
        };
        if led.any(adopts) {
            return true;
        }
        let mut later = Later { streams: self, sides: HashMap::new() };
        later.note(segment);
        ahead.iter().filter_map(|frame| Segment::read(frame.interface, &frame.bytes)).any(|following| {
            let unseen = later.note(&following);
            let shows = unseen.is_loss() || adopts && unseen.beginning;
            shows && (leads(&following.own()) || leads(&following.other()))
        })
    }

    /// The window that the other side of this segment's connection announced last.
    pub(super) fn other_window(&self, segment: &Segment) -> u16 {
        self.sides.get(&segment.other()).map_or(u16::MAX, |side| side.window)
    }

    /// Notes a frame, whichever way it goes. Whether it is the first of a connection that is older than the capture.
    pub(super) fn note(&mut self, frame: &Frame) -> bool {
        let Some(segment) = Segment::read(frame.interface, &frame.bytes) else { return false };
        let unseen = self.unseen(&segment);
        let is_older = unseen.is_older && !self.sides.contains_key(&segment.other());
        self.note_segment(&segment);
        self.note_unseen(&segment, unseen);
        is_older
    }

    /// Notes a segment that was seen, or made for one that was not.
    pub(super) fn note_segment(&mut self, segment: &Segment) {
        let (interface, source, destination) = segment.own();
        let links = self.links.entry((source, destination)).or_default();
        if !links.contains(&interface) {
            links.push(interface);
        }
        self.sides.entry(segment.own()).or_insert_with(|| Side::beginning(segment));
        self.change(&segment.own(), |side| side.note(segment));
    }

    /// Changes a side that is known, and counts what it lacks.
    fn change(&mut self, key: &SideOf, change: impl FnOnce(&mut Side)) {
        let Some(side) = self.sides.get_mut(key) else { return };
        let before = Gaps::of(side);
        change(side);
        let after = Gaps::of(side);
        if before != after {
            for key in [Some(hosts(key)), None] {
                let gaps = self.gaps.entry(key).or_default();
                *gaps = gaps.with(after).without(before);
            }
        }
    }

    /// Notes that bytes were supplied: of the segment's stream before it, and of the stream that it acknowledges.
    pub(super) fn note_supplied(&mut self, passage: &Passage, unseen: Unseen) {
        let Passage { arrived, left } = passage;
        let own = (arrived.own(), arrived.sequence - unseen.own, arrived.sequence);
        let other = (left.other(), left.acknowledgement - unseen.other, left.acknowledgement);
        for (side, from, to) in [own, other] {
            if from != to {
                self.supplied.entry(side).or_default().push((from, to));
            }
        }
    }

    /// Returns true if a frame shows bytes that were supplied as missing.
    pub(super) fn contradicts(&self, frame: &Frame) -> bool {
        if self.supplied.is_empty() {
            return false;
        }
        let Some(segment) = Segment::read(frame.interface, &frame.bytes) else { return false };
        let overlaps = |(from, to): &(SequenceNumber, SequenceNumber)| {
            segment.sequence.before(*to) && segment.end.after(*from) && segment.sequence != segment.end
        };
        self.supplied.get(&segment.own()).is_some_and(|ranges| ranges.iter().any(overlaps))
    }

    /// Notes that a segment, as it arrived and as it left, shows that others passed unseen.
    pub(super) fn note_lacking(&mut self, passage: &Passage, unseen: Unseen) {
        self.note_unseen(&passage.arrived, unseen);
        self.note_unseen(&passage.left, unseen);
    }

    fn note_unseen(&mut self, segment: &Segment, unseen: Unseen) {
        for (side, is_missing) in
            [(segment.own(), unseen.own > 0 || unseen.beginning), (segment.other(), unseen.other > 0)]
        {
            if is_missing {
                self.change(&side, |side| {
                    side.lacks = true;
                    side.lost |= unseen.is_loss();
                });
            }
        }
    }

    /// Returns true if packets between two ends are missing: the streams have gaps, or nothing shows what brought the
    /// connection into this state.
    pub(super) fn lacks_of(&self, ends: [SocketAddr; 2], state: &str) -> bool {
        !self.links_of(ends).any(|(side, other)| {
            let has_holes = side.lacks || other.is_some_and(|other| other.lacks);
            !has_holes && Self::shows(side, other, state)
        })
    }

    /// Returns true if the streams between two ends have gaps, on every link that shows them.
    pub(super) fn has_holes(&self, ends: [SocketAddr; 2]) -> bool {
        let has_hole = |(side, other): (&Side, Option<&Side>)| side.lacks || other.is_some_and(|other| other.lacks);
        let mut links = self.links_of(ends);
        links.next().is_some_and(has_hole) && links.all(has_hole)
    }

    /// Returns true if a segment between two ends was seen.
    pub(super) fn has_seen(&self, [a, b]: [SocketAddr; 2]) -> bool {
        self.links.contains_key(&(a, b)) || self.links.contains_key(&(b, a))
    }

    /// Returns both sides of a connection, on each link that shows the first.
    fn links_of(&self, [a, b]: [SocketAddr; 2]) -> impl Iterator<Item = (&Side, Option<&Side>)> {
        self.links.get(&(a, b)).into_iter().flatten().filter_map(move |interface| {
            Some((self.sides.get(&(*interface, a, b))?, self.sides.get(&(*interface, b, a))))
        })
    }

    /// Returns true if packets of any connection between two addresses are missing.
    pub(super) fn lacks_between(&self, a: IpAddr, b: IpAddr) -> bool {
        let interfaces = self.gaps.keys().filter_map(|key| key.map(|(interface, ..)| interface)).max();
        let (a, b) = (a.min(b), a.max(b));
        let mut links = (0..=interfaces.unwrap_or(0)).map(|interface| self.gaps.get(&Some((interface, a, b))));
        links.any(|gaps| gaps.is_some_and(|gaps| gaps.lacking > 0))
    }

    /// Returns true if the segments seen of a connection bring it into a state.
    fn shows(side: &Side, other: Option<&Side>, state: &str) -> bool {
        let ends = |side: &Side| side.fin.is_some();
        let is_acknowledged = |side: &Side, by: &Side| {
            side.fin.is_some_and(|end| by.acknowledged.is_some_and(|acknowledged| !acknowledged.before(end)))
        };
        match (state, other) {
            ("CLOSE", _) => side.reset || other.is_some_and(|other| other.reset),
            ("FIN_WAIT" | "CLOSE_WAIT", _) => ends(side) || other.is_some_and(ends),
            ("LAST_ACK", Some(other)) => ends(side) && ends(other),
            ("TIME_WAIT", Some(other)) => is_acknowledged(side, other) && is_acknowledged(other, side),
            ("LAST_ACK" | "TIME_WAIT", None) => false,
            _ => true,
        }
    }
}

/// The state of the streams after the frames that follow.
struct Later<'s> {
    streams: &'s Streams,
    sides: HashMap<SideOf, Side>,
}

impl Later<'_> {
    fn side(&self, side: &SideOf) -> Option<&Side> {
        self.sides.get(side).or_else(|| self.streams.sides.get(side))
    }

    /// Notes a segment; what passed unseen before it.
    fn note(&mut self, segment: &Segment) -> Unseen {
        let (own, other) = (self.side(&segment.own()), self.side(&segment.other()));
        let unseen = segment.unseen(own, other);
        let mut side = own.copied().unwrap_or_else(|| Side::beginning(segment));
        side.note(segment);
        self.sides.insert(segment.own(), side);
        unseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "10.77.1.2:40000";
    const SERVER: &str = "198.51.100.9:21";

    fn segment(from_client: bool, flags: u8, sequence: u32, length: u32, acknowledgement: u32) -> Segment {
        let [client, server] = [CLIENT, SERVER].map(|end| end.parse().unwrap());
        let (source, destination) = if from_client { (client, server) } else { (server, client) };
        let numbered = u32::from(flags & (TcpFlags::SYN | TcpFlags::FIN) != 0);
        Segment {
            interface: 0,
            source,
            destination,
            flags: TcpFlags(flags),
            sequence: SequenceNumber(sequence),
            end: SequenceNumber(sequence.wrapping_add(length + numbered)),
            acknowledgement: SequenceNumber(acknowledgement),
            window: 1000,
        }
    }

    fn open() -> Streams {
        let mut streams = Streams::default();
        streams.note_segment(&segment(true, TcpFlags::SYN, 99, 0, 0));
        streams.note_segment(&segment(false, TcpFlags::SYN | TcpFlags::ACK, 999, 0, 100));
        streams.note_segment(&segment(true, TcpFlags::ACK, 100, 0, 1000));
        streams
    }

    #[test]
    fn what_others_acknowledge_has_passed() {
        let streams = open();
        let reply = segment(false, TcpFlags::ACK, 1000, 20, 116);
        assert_eq!(streams.unseen(&reply), Unseen { other: 16, ..Unseen::default() });
    }

    #[test]
    fn what_is_followed_has_passed() {
        let streams = open();
        let command = segment(true, TcpFlags::ACK, 130, 6, 1020);
        assert_eq!(streams.unseen(&command), Unseen { own: 30, other: 20, ..Unseen::default() });
        let again = segment(true, TcpFlags::ACK, 90, 6, 900);
        assert_eq!(streams.unseen(&again), Unseen::default());
    }

    #[test]
    fn a_connection_begins_with_a_syn() {
        let streams = Streams::default();
        assert!(streams.unseen(&segment(true, TcpFlags::ACK, 1, 0, 1)).beginning);
        assert!(!streams.unseen(&segment(true, TcpFlags::SYN, 1, 0, 0)).beginning);
    }

    #[test]
    fn states_are_reached_by_what_was_seen() {
        let ends = [CLIENT, SERVER].map(|end| end.parse().unwrap());
        let mut streams = open();
        assert!(!streams.lacks_of(ends, "ESTABLISHED"));
        assert!(streams.lacks_of(ends, "CLOSE"));
        streams.note_segment(&segment(true, TcpFlags::ACK | TcpFlags::FIN, 100, 0, 1000));
        assert!(!streams.lacks_of(ends, "FIN_WAIT"));
        streams.note_segment(&segment(false, TcpFlags::ACK | TcpFlags::FIN, 1000, 0, 101));
        assert!(streams.lacks_of(ends, "TIME_WAIT"), "the last acknowledgement was not seen");
        streams.note_segment(&segment(true, TcpFlags::ACK, 101, 0, 1001));
        assert!(!streams.lacks_of(ends, "TIME_WAIT"));
        let elsewhere = ["10.77.1.2:40001", SERVER].map(|end| end.parse().unwrap());
        assert!(streams.lacks_of(elsewhere, "ESTABLISHED"), "nothing of it was seen");
    }
}
