//! A TCP segment as it arrived and as it left, and what can be told from the two of packets that were not seen.

use core::net::IpAddr;
use std::vec;
use std::vec::Vec;

use super::frames::Frame;
use super::streams::{FIRST_EPHEMERAL, Segment, Unseen};
use crate::Instant;
use crate::conntrack::{Connection, Direction, ImportedState, Tuple};
use crate::packet::{InName, Protocol, TcpFlags};
use crate::router::Router;

/// Port from which FTP servers connect in active mode (RFC 959 section 3.2).
const FTP_DATA: u16 = 20;
/// Maximum number of connections that are searched for one of the same host.
const MOST_ASKED: usize = 1024;
/// The bytes that end a line.
const LINE_END: u32 = 2;
/// The longest segment that is made.
const LONGEST: u32 = 1400;
/// More than this is not supplied: nobody can say that it passed in order.
const MOST: u32 = 1 << 22;

/// A packet made for one that was not seen: it arrives on this interface.
pub(super) type Made = (usize, Vec<u8>);

/// A segment as it arrived, and as it left.
#[derive(Clone, Copy)]
pub(super) struct Passage {
    pub(super) arrived: Segment,
    pub(super) left: Segment,
}

impl Passage {
    pub(super) fn read(arrived: &Frame, left: &Frame) -> Option<Self> {
        let arrived = Segment::read(arrived.interface, &arrived.bytes)?;
        let left = Segment::read(left.interface, &left.bytes)?;
        Some(Self { arrived, left })
    }

    /// Returns true if the packet goes in the reply direction. Where flags and ports do not tell, the client is taken
    /// to have dialled, since most use passive mode. The exception is a client's stream that alone has grown, by an
    /// announcement.
    pub(super) fn is_reply(&self, now: Instant, router: &Router) -> bool {
        let Segment { flags, source, destination, .. } = self.arrived;
        if flags.has(TcpFlags::SYN) {
            return flags.has(TcpFlags::ACK);
        }
        let is_served = |port: u16| port < FIRST_EPHEMERAL;
        match (source.port(), destination.port()) {
            (FTP_DATA, _) => false,
            (_, FTP_DATA) => true,
            (source, destination) if is_served(source) != is_served(destination) => is_served(source),
            _ => {
                let client_sends = |from: IpAddr| {
                    let connections = router.conntrack().iter(now).map(|(_, connection)| connection);
                    let mut control = connections.take(MOST_ASKED).filter(|connection| connection.has_helper());
                    control.find(|connection| connection.tuple(Direction::Original).source() == from)
                };
                match (client_sends(source.ip()), client_sends(self.left.destination.ip())) {
                    (Some(control), _) => announced(router, control),
                    (None, Some(control)) => !announced(router, control),
                    (None, None) => false,
                }
            }
        }
    }

    /// Returns true if the router knows the connection and translates it as the capture shows.
    pub(super) fn is_translated_alike(&self, now: Instant, router: &Router) -> bool {
        let tuple = |segment: &Segment| Tuple::new(Protocol::TCP, segment.source, segment.destination);
        let (Some(arrived), Some(left)) = (tuple(&self.arrived), tuple(&self.left)) else { return false };
        let conntrack = router.conntrack();
        let known = conntrack.find(now, &arrived).and_then(|(id, direction)| Some((conntrack.get(id)?, direction)));
        known.is_some_and(|(connection, direction)| connection.tuple(direction.other()).reversed() == Some(left))
    }

    /// Makes the missing segments before it, in order of arrival: its sender's own bytes, then the other side's, as
    /// each is acknowledged.
    pub(super) fn supply(&self, unseen: Unseen, other_window: u16) -> Vec<Made> {
        if unseen.own > MOST || unseen.other > MOST {
            return Vec::new();
        }
        let Self { arrived, left } = self;
        let sender = Side::new(arrived.interface, arrived.source, arrived.destination, arrived.window);
        let other = Side::new(left.interface, left.destination, left.source, other_window);
        let mut made = Vec::new();
        let acknowledged = arrived.acknowledgement - unseen.other;
        for (from, length) in pieces(unseen.own) {
            let rest = unseen.own - from;
            made.extend(sender.says(arrived.sequence - rest, acknowledged, length));
            made.extend(other.says(left.acknowledgement - unseen.other, left.sequence - (rest - length), 0));
        }
        for (from, length) in pieces(unseen.other) {
            let rest = unseen.other - from;
            made.extend(other.says(left.acknowledgement - rest, left.sequence, length));
            if rest > length {
                made.extend(sender.says(arrived.sequence, arrived.acknowledgement - (rest - length), 0));
            }
        }
        made
    }

    /// The end of a line before it, so that a line begins with it.
    pub(super) fn line_end(&self) -> Option<Made> {
        let Segment { interface, source, destination, sequence, acknowledgement, window, .. } = self.arrived;
        Side::new(interface, source, destination, window).says(sequence - LINE_END, acknowledgement, LINE_END)
    }

    /// A packet of the connection's original direction, where it arrives, and what else there is to know of it, for
    /// whoever takes the connection over. `is_reply`: this segment goes the other way.
    pub(super) fn adopted(&self, bytes: &[u8], is_reply: bool, other_window: u16) -> Option<(Made, ImportedState)> {
        let Self { arrived, left } = self;
        let tuple = |segment: &Segment| Tuple::new(Protocol::TCP, segment.source, segment.destination);
        let own = left.sequence.since(arrived.sequence);
        let other =
            if arrived.flags.has(TcpFlags::ACK) { arrived.acknowledgement.since(left.acknowledgement) } else { 0 };
        if !is_reply {
            let adopted = ImportedState::with_reply(tuple(left)?.reversed()?).grown([own, other]);
            // The capture shows a connection beginning that the library would have begin otherwise: an announcement of
            // it passed unseen.
            let adopted = if arrived.flags.has(TcpFlags::SYN) { adopted.expected() } else { adopted };
            return Some(((arrived.interface, bytes.to_vec()), adopted));
        }
        let opener = Side::new(left.interface, left.destination, left.source, other_window);
        let made = opener.says(left.acknowledgement, left.sequence, 0)?;
        Some((made, ImportedState::with_reply(tuple(arrived)?).grown([other, own])))
    }
}

/// Returns true if only the client's stream of a control connection has grown: the client announced where the server is
/// to dial.
fn announced(router: &Router, control: &Connection) -> bool {
    let adjustment = control.helper_slot().and_then(|helped| router.conntrack().adjustment(helped));
    let grew = |direction: Direction| {
        let shift = adjustment.and_then(|adjustment| adjustment.shift(direction as usize));
        shift.is_some_and(|shift| shift.offset_after() != 0)
    };
    grew(Direction::Original) && !grew(Direction::Reply)
}

/// In whose name segments are made.
struct Side {
    interface: usize,
    name: InName,
    window: u16,
}

impl Side {
    const fn new(
        interface: usize,
        source: core::net::SocketAddr,
        destination: core::net::SocketAddr,
        window: u16,
    ) -> Self {
        Self { interface, name: InName { source, destination, timestamps: None }, window }
    }

    /// A segment of so many blanks, which end a line.
    fn says(
        &self,
        sequence: crate::SequenceNumber,
        acknowledgement: crate::SequenceNumber,
        length: u32,
    ) -> Option<Made> {
        let mut text = vec![b' '; length as usize];
        let end = b"\r\n".len().min(text.len());
        for (byte, ending) in text.iter_mut().rev().zip(b"\n\r".iter().take(end)) {
            *byte = *ending;
        }
        let mut bytes = vec![0; 60 + text.len()];
        let length = self.name.write(&mut bytes, sequence, acknowledgement, self.window, &text)?;
        bytes.truncate(length);
        Some((self.interface, bytes))
    }
}

/// So many bytes in pieces: where each begins, and its length.
fn pieces(bytes: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..bytes.div_ceil(LONGEST)).map(move |n| (n * LONGEST, (bytes - n * LONGEST).min(LONGEST)))
}
