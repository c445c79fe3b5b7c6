//! Supplies packets that are missing from the capture.
//!
//! Missing packets are supplied only where the replay would otherwise differ from the capture, and only as far as there
//! is evidence. Bytes that another segment acknowledges or follows are supplied as segments of blanks. A connection
//! whose beginning is missing is taken over as the leaving packets show it. Both are counted, so that they are not
//! mistaken for captured packets.
//!
//! Worked example. The capture shows a client's stream up to 2000. Then the server's reply arrives at the outer link
//! with an acknowledgement of 2016, and leaves by the inner one. The tracker refuses the reply, since it acknowledges
//! bytes that were not sent. But the capture shows it leaving: a command of 16 bytes is missing. The router is given a
//! segment of that length from the client, with a line end as commands have, and then the reply once more.

use std::collections::VecDeque;
use std::vec::Vec;

use super::carriage::Carriage;
use super::frames::Frame;
use super::passage::Passage;
use super::streams::{Segment, Unseen};
use super::{Lacking, Passed, Place, Replay, Sink, comparable, pair, sent};
use crate::conntrack::{ConnectionId, Direction};
use crate::packet::Packet;

impl Replay {
    /// Supplies the missing packets, or takes the connection over, and hands the packet over once more, where the
    /// replay would otherwise differ.
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
        let is_led_to = match self.imitates {
            true => streams.may_have_been_led_to(&passage.arrived, ahead, self.adopts),
            false => unseen.beginning && self.adopts,
        };
        let began = streams.began(&passage.arrived);
        if self.imitates && self.supply(frame, &passage, unseen, sink) {
            *passed = self.again(frame);
            if self.contradiction(frame, ahead, passed.as_ref()).is_none() {
                return;
            }
        }
        // Of a connection that began here everybody knows how it is translated.
        let may_adopt = is_led_to && (!began || passage.is_translated_alike(frame.time, &self.router));
        if may_adopt && self.adopt(frame, &passage, sink).is_some() {
            *passed = self.again(frame);
        }
    }

    /// The segment as it left, if the library has it leave otherwise or not at all.
    fn contradiction(&self, frame: &Frame, ahead: &VecDeque<Frame>, passed: Option<&Passed>) -> Option<Passage> {
        let is_expected = |left: &Frame| self.verifier.as_ref().is_some_and(|verifier| verifier.expects(left));
        let left = pair::leaves_as(frame, ahead, is_expected)?;
        let Passed { verdict, range } = passed?;
        let bytes = self.buffer.get(range.clone()).unwrap_or_default();
        let agrees = sent(*verdict, bytes, &self.outbox)
            .any(|(interface, bytes)| interface == left.interface && comparable::agree(bytes, &left.bytes));
        if agrees { None } else { Passage::read(frame, left) }
    }

    /// Hands a packet over once more.
    fn again(&mut self, frame: &Frame) -> Option<Passed> {
        self.outbox.clear();
        self.hand_over(frame.time, Place::Arrived(frame.interface), &frame.bytes, frame.carriage)
    }

    /// Hands segments over for those that passed unseen. False when there are none to be made.
    fn supply(&mut self, frame: &Frame, passage: &Passage, unseen: Unseen, sink: &mut dyn Sink) -> bool {
        let Some(streams) = &mut self.streams else { return false };
        let made = passage.supply(unseen, streams.other_window(&passage.left));
        if made.is_empty() {
            return false;
        }
        // The events of the first try are discarded: the second brings them again.
        while self.router.poll_event().is_some() {}
        streams.note_lacking(passage, unseen);
        streams.note_supplied(passage, unseen);
        self.summary.supplied += u64::from(unseen.own) + u64::from(unseen.other);
        sink.lacks(frame.number, frame.time, Lacking::Bytes { own: unseen.own, other: unseen.other });
        for (interface, bytes) in made {
            self.outbox.clear();
            let passed = self.hand_over(frame.time, Place::Arrived(interface), &bytes, Carriage::default());
            let Some(streams) = &mut self.streams else { return true };
            let leaves = passed.iter().flat_map(|Passed { verdict, range }| {
                sent(*verdict, self.buffer.get(range.clone()).unwrap_or_default(), &self.outbox)
            });
            for (interface, bytes) in leaves.chain([(interface, bytes.as_slice())]) {
                if let Some(segment) = Segment::read(interface, bytes) {
                    streams.note_segment(&segment);
                }
            }
        }
        true
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
            // An adoption that finds no room shows as a difference.
            let _ =
                beside.router_mut().adopt(frame.time, interface, &mut Packet::new(&mut bytes, range).ok()?, adopted);
        }
        let range = 0..bytes.len();
        let mut packet = Packet::new(&mut bytes, range).ok()?;
        let first: Vec<_> = core::iter::from_fn(|| self.router.poll_event()).collect();
        let Ok(id) = self.router.adopt(frame.time, interface, &mut packet, adopted) else {
            first.iter().for_each(|(time, event)| self.tell_event(frame, *time, event, sink));
            return None;
        };
        if let Some((interface, bytes)) = passage.line_end() {
            self.hand_over(frame.time, Place::Arrived(interface), &bytes, Carriage::default());
        }
        self.summary.adopted += 1;
        let original = *self.router.conntrack().get(id)?.tuple(Direction::Original);
        sink.lacks(frame.number, frame.time, Lacking::Beginning { original });
        Some(id)
    }
}
