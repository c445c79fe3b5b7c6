//! The replacements in each stream.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::SequenceNumber;
use crate::ftp::Text;
use crate::seqadj::History;

/// So many replacements of one stream are remembered.
const EDITS: usize = 1 << 12;
/// So many streams with replacements are remembered; beyond that the oldest are forgotten.
const STREAMS: usize = 1 << 16;
/// So many streams between the same endpoints are remembered: the one that is translated, and those that were read
/// ahead of it.
const GENERATIONS: usize = 4;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

impl Flow {
    pub(super) const fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// A stream between two endpoints, until the next one between them.
#[derive(Debug)]
struct Stream {
    /// The first frame that may belong to it.
    begins: u64,
    /// The number of its SYN, if that was seen.
    first: Option<SequenceNumber>,
    history: History<Text>,
}

/// Without a SYN, a replacement is assumed to lie within this number of bytes of the stream's start.
const NEAR_BEGINNING: i32 = 1 << 24;

impl Stream {
    /// Returns true if this is the number of the stream's SYN, which comes late or again.
    fn began_with(&mut self, number: SequenceNumber) -> bool {
        if self.first.is_none()
            && let Some(edit) = self.history.edits().next()
            && (1..NEAR_BEGINNING).contains(&edit.start.since(number))
        {
            self.first = Some(number);
        }
        self.first == Some(number)
    }
}

/// The streams in which something is replaced.
#[derive(Debug, Default)]
pub(super) struct Streams {
    flows: HashMap<Flow, VecDeque<Stream>>,
    oldest_first: VecDeque<Flow>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Notes a replacement that `frame` made known; false if there is one at that place.
    pub(super) fn replace(
        &mut self,
        flow: Flow,
        frame: u64,
        start: SequenceNumber,
        removed: u32,
        inserted: Text,
    ) -> bool {
        if !self.flows.contains_key(&flow) {
            if self.oldest_first.len() >= STREAMS
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.flows.remove(&oldest);
            }
            self.oldest_first.push_back(flow);
        }
        let streams = self.flows.entry(flow).or_default();
        if streams.is_empty() {
            // Packets of it before this frame may have been split from the same line.
            streams.push_back(Stream { begins: 0, first: None, history: History::growing(EDITS) });
        }
        let stream = streams.iter_mut().rev().find(|stream| stream.begins <= frame);
        stream.is_some_and(|stream| stream.history.replace(start, removed, inserted).is_ok())
    }

    /// A SYN with this number: another than the stream's own begins another stream.
    pub(super) fn begin(&mut self, flow: Flow, frame: u64, number: SequenceNumber) {
        // Nothing is replaced yet in streams that are not known.
        let Some(streams) = self.flows.get_mut(&flow) else { return };
        if streams.back_mut().is_some_and(|stream| stream.began_with(number)) {
            return;
        }
        if streams.len() >= GENERATIONS {
            streams.pop_front();
        }
        streams.push_back(Stream { begins: frame, first: Some(number), history: History::growing(EDITS) });
    }

    /// Returns the replacements in the stream that a packet of this frame belongs to.
    pub(super) fn history(&self, flow: Flow, frame: u64) -> Option<&History<Text>> {
        let streams = self.flows.get(&flow)?;
        streams.iter().rev().find(|stream| stream.begins <= frame).map(|stream| &stream.history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::{Form, write};

    const FLOW: Flow = Flow {
        from: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)), 4000),
        to: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9)), 21),
    };

    fn n(number: u32) -> SequenceNumber {
        SequenceNumber(number)
    }

    /// By how much the stream of this frame has shifted at its end.
    fn shift(streams: &Streams, frame: u64) -> i32 {
        streams.history(FLOW, frame).map_or(0, |history| history.outgoing(n(1 << 20)).since(n(1 << 20)))
    }

    #[test]
    fn the_next_stream_between_the_same_endpoints_begins_anew() {
        let text = write(Form::Port, [203, 0, 113, 11].into(), 1234); // 18 bytes
        let mut streams = Streams::default();
        assert!(streams.replace(FLOW, 5, n(1000), 14, text));
        assert!(!streams.replace(FLOW, 6, n(1000), 14, text), "sent again");
        streams.begin(FLOW, 7, n(900)); // its own, again
        streams.begin(FLOW, 9, n(70_000));
        streams.begin(FLOW, 10, n(70_000));
        assert!(streams.replace(FLOW, 12, n(70_001), 17, text));
        assert!(streams.replace(FLOW, 12, n(70_101), 17, text));
        assert_eq!([1, 8, 9, 20].map(|frame| shift(&streams, frame)), [4, 4, 2, 2]);
        assert_eq!(streams.history(FLOW.reversed(), 20).map(|_| ()), None);
    }

    #[test]
    fn the_oldest_streams_are_forgotten() {
        let text = write(Form::Port, [203, 0, 113, 1].into(), 1234);
        let mut streams = Streams::default();
        for i in 0..=STREAMS {
            let to = SocketAddr::new(std::net::Ipv4Addr::from(i as u32).into(), 21);
            assert!(streams.replace(Flow { to, ..FLOW }, 1, n(1), 9, text));
        }
        assert_eq!((streams.flows.len(), streams.oldest_first.len()), (STREAMS, STREAMS));
    }
}
