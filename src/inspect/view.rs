//! The same session seen a second time, on the other side of a router that translates addresses.

use core::net::SocketAddr;
use core::time::Duration;
use std::boxed::Box;
use std::collections::VecDeque;

use super::flow::FlowKey;
use super::session::Session;
use super::{FramePos, FtpEvent, SessionId, Sink};
use crate::packet::{Family, Segment};
use crate::{Instant, SequenceNumber};

/// The second copy of a packet follows the first within this time.
const WITHIN: Duration = Duration::from_secs(1);
/// Maximum number of packets that are remembered.
const REMEMBERED: usize = 64;

/// The second copy of a connection that is followed.
pub(super) struct View {
    /// The connection.
    pub(super) of: FlowKey,
    /// The side that opened the connection, as this copy has it.
    pub(super) opener: SocketAddr,
    /// The sequence number of the opener's first packet.
    pub(super) first: SequenceNumber,
    /// Reads the lines, if it is a control connection.
    pub(super) session: Option<Box<Session>>,
}

/// A packet of a connection that is followed.
#[derive(Clone, Copy)]
pub(super) struct Print {
    pub(super) time: Instant,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) key: FlowKey,
    sequence: SequenceNumber,
    flags: u8,
    length: usize,
    identification: u16,
    hops: u8,
}

impl Print {
    pub(super) fn of(
        time: Instant,
        (from, to): (SocketAddr, SocketAddr),
        key: FlowKey,
        (family, bytes): (Family, &[u8]),
        segment: &Segment,
        payload: usize,
    ) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let (identification, hops) = match family {
            Family::V4 => (u16::from_be_bytes([byte(4), byte(5)]), byte(8)),
            Family::V6 => (0, byte(7)),
        };
        Self {
            time,
            from,
            to,
            key,
            sequence: segment.sequence,
            flags: segment.flags.0,
            length: payload,
            identification,
            hops,
        }
    }

    /// Returns true if `other` is this packet behind a router: one address was translated, and it came a hop further.
    fn is_same_translated(&self, other: &Self) -> bool {
        let one_end = match (self.from == other.from, self.to == other.to) {
            (true, false) => self.to.ip() != other.to.ip(),
            (false, true) => self.from.ip() != other.from.ip(),
            _ => false,
        };
        one_end
            && (self.sequence, self.flags, self.length, self.identification)
                == (other.sequence, other.flags, other.length, other.identification)
            && self.hops != other.hops
            && self.time.micros().abs_diff(other.time.micros()) <= WITHIN.as_micros() as u64
    }
}

/// The latest packets of connections that are followed.
#[derive(Default)]
pub(super) struct Prints(VecDeque<Print>);

impl Prints {
    pub(super) fn note(&mut self, print: Print) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(print);
    }

    /// Returns the packet that this one is the second copy of.
    pub(super) fn first_copy(&self, print: &Print) -> Option<&Print> {
        self.0.iter().rev().find(|other| other.is_same_translated(print))
    }
}

/// Reports the announcements of a second copy as translations of the session's.
pub(super) struct Translations<'s> {
    pub(super) session: SessionId,
    pub(super) sink: &'s mut dyn Sink,
}

impl Sink for Translations<'_> {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        if let FtpEvent::Announced(announced) = event {
            let translated = FtpEvent::Translated {
                session: self.session,
                number: announced.number,
                sender: announced.sender,
                form: announced.form,
                line: announced.line,
                address: announced.address,
                port: announced.port,
            };
            self.sink.event(at, &translated);
        }
    }
}
