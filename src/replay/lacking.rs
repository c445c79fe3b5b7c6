//! Going on where the capture lacks packets.
//!
//! What is lacking is made good only where the library would otherwise do something else than the capture shows, and
//! only as far as there is evidence of it: bytes that others acknowledge or that something follows are supplied as
//! segments of blanks, and a connection whose beginning passed unseen is taken over as the packets that leave show it.
//! Both are counted, so that nobody takes them for seen.
//!
//! Worked example. The capture shows a client's stream up to 2000 and then the server's reply, arriving at the outer
//! link with an acknowledgement of 2016 and leaving by the inner one. The tracker refuses the reply, since it
//! acknowledges what was not sent; the capture shows it leaving. So a command of 16 bytes passed unseen: a segment of
//! that length is handed to the router as from the client, ending in a line end as commands do, and then the reply once
//! more.

use std::collections::VecDeque;

use super::frames::Frame;
use super::passage::Passage;
use super::streams::{Segment, Unseen};
use super::{Lacking, Passed, Replay, Sink, pair, sent, verify};
use crate::conntrack::{ConnectionId, Direction};
use crate::packet::Packet;

impl Replay {
    /// Where the capture lacks packets and the library therefore does something else than the capture shows: supplies
    /// what passed unseen, or takes the connection over, and hands the packet over once more.
    pub(super) fn make_good(
        &mut self,
        frame: &Frame,
        ahead: &VecDeque<Frame>,
        passed: &mut Option<Passed>,
        sink: &mut dyn Sink,
    ) {
        let Some(passage) = self.contradiction(frame, ahead, passed.as_ref()) else { return };
        let Some(streams) = &self.streams else { return };
        let unseen = streams.unseen(&passage.arrived);
        let may_be_older = || if self.imitates { streams.may_be_older(&passage.arrived) } else { unseen.beginning };
        let is_older = self.adopts && may_be_older();
        let is_lost = self.imitates && streams.may_have_lost_beginning(&passage.arrived, ahead);
        if self.imitates && (unseen.own > 0 || unseen.other > 0) {
            self.supply(frame, &passage, unseen, sink);
            *passed = self.again(frame);
            if self.contradiction(frame, ahead, passed.as_ref()).is_none() {
                return;
            }
        }
        if (is_older || is_lost) && self.adopt(frame, &passage, sink).is_some() {
            *passed = self.again(frame);
        }
    }

    /// The segment as it left, if the library has it leave otherwise or not at all.
    fn contradiction(&self, frame: &Frame, ahead: &VecDeque<Frame>, passed: Option<&Passed>) -> Option<Passage> {
        let left = pair::leaves_as(frame, ahead)?;
        let Passed { verdict, range } = passed?;
        let bytes = self.buffer.get(range.clone()).unwrap_or_default();
        let agrees = sent(*verdict, bytes, &self.outbox)
            .any(|(interface, bytes)| interface == left.interface && verify::agree(bytes, &left.bytes));
        if agrees { None } else { Passage::read(frame, left) }
    }

    /// Hands a packet over once more: what happened the first time is not told.
    fn again(&mut self, frame: &Frame) -> Option<Passed> {
        while self.router.poll_event().is_some() {}
        self.outbox.clear();
        self.hand_over(frame.time, Some(frame.interface), &frame.bytes)
    }

    /// Hands segments over for those that passed unseen.
    fn supply(&mut self, frame: &Frame, passage: &Passage, unseen: Unseen, sink: &mut dyn Sink) {
        let Some(streams) = &mut self.streams else { return };
        streams.note_lacking(passage, unseen);
        let made = passage.supply(unseen, streams.other_window(&passage.left));
        self.summary.supplied += u64::from(unseen.own) + u64::from(unseen.other);
        sink.lacks(frame.number, frame.time, Lacking::Bytes { own: unseen.own, other: unseen.other });
        for (interface, bytes) in made {
            self.outbox.clear();
            let passed = self.hand_over(frame.time, Some(interface), &bytes);
            let Some(streams) = &mut self.streams else { return };
            let leaves = passed.iter().flat_map(|Passed { verdict, range }| {
                sent(*verdict, self.buffer.get(range.clone()).unwrap_or_default(), &self.outbox)
            });
            for (interface, bytes) in leaves.chain([(interface, bytes.as_slice())]) {
                if let Some(segment) = Segment::read(interface, bytes) {
                    streams.note_segment(&segment);
                }
            }
        }
    }

    /// Takes over the connection of a segment, as the capture shows it leaving.
    fn adopt(&mut self, frame: &Frame, passage: &Passage, sink: &mut dyn Sink) -> Option<ConnectionId> {
        let streams = self.streams.as_ref()?;
        let is_reply = passage.is_reply(frame.time, &self.router);
        let window = streams.other_window(&passage.left);
        let ((interface, mut bytes), adopted) = passage.adopted(&frame.bytes, is_reply, window)?;
        if let Some(beside) = &mut self.beside {
            let mut bytes = bytes.clone();
            let range = 0..bytes.len();
            // What has no room there differs, and that is said.
            let _ =
                beside.router_mut().adopt(frame.time, interface, &mut Packet::new(&mut bytes, range).ok()?, adopted);
        }
        let range = 0..bytes.len();
        let mut packet = Packet::new(&mut bytes, range).ok()?;
        let id = self.router.adopt(frame.time, interface, &mut packet, adopted).ok()?;
        if let Some((interface, bytes)) = passage.line_end() {
            self.hand_over(frame.time, Some(interface), &bytes);
        }
        self.summary.adopted += 1;
        let original = *self.router.conntrack().get(id)?.tuple(Direction::Original);
        sink.lacks(frame.number, frame.time, Lacking::Beginning { original });
        Some(id)
    }
}
