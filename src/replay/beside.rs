//! A router beside the one that behaves exactly, which does what Linux does with the same packets: what leaves the two is
//! compared, and where it differs it is said why.

use std::collections::{HashMap, VecDeque};
use std::vec::Vec;

use super::departure::{Departure, Quirk};
use super::frames::Frame;
use super::heard::{Announced, Heard};
use super::sent_pair::{Pair, Sending, Sent};
use crate::Instant;
use crate::conntrack::{ConnectionId, Tuple};
use crate::event::Event;
use crate::packet::Packet;
use crate::router::{Outbox, Router, Verdict};

/// So many announcements are remembered, to name the frames they came in.
const ANNOUNCED: usize = 256;

/// Linux, and what is known of where it and the other router part.
pub(super) struct Beside {
    pub(super) router: Router,
    pub(super) outbox: Outbox,
    pub(super) buffer: Vec<u8>,
    pub(super) ours: Heard,
    pub(super) theirs: Heard,
    pub(super) known: HashMap<Whose, Known>,
    /// Which frame announced what is expected: here, and by Linux.
    pub(super) announced: VecDeque<(Side, Tuple, u64)>,
    /// Number of packets that Linux has taken for invalid.
    pub(super) invalid: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Here,
    Linux,
}

/// A connection, as the router knows it that knows it.
pub(super) type Whose = (Side, ConnectionId);

/// The facts known about a connection.
#[derive(Default)]
pub(super) struct Known {
    /// The frame in which TLS began.
    pub(super) tls: Option<u64>,
    /// The first frame whose text left in another length than Linux sends it, by direction.
    pub(super) departed: [Option<u64>; 2],
    /// True for a direction in which differing numbers were reported since then.
    pub(super) told: [bool; 2],
    /// Reason why all packets of it differ, where it is no control connection.
    pub(super) why: Option<Quirk>,
}

impl Beside {
    /// Beside a router of the same configuration, but for the behaviour.
    pub(super) fn new(router: Router) -> Self {
        Self {
            router,
            outbox: Outbox::new(64, 1 << 17),
            buffer: Vec::new(),
            ours: Heard::default(),
            theirs: Heard::default(),
            known: HashMap::new(),
            announced: VecDeque::new(),
            invalid: 0,
        }
    }

    /// Lets Linux's random choice be this one.
    pub(super) const fn router_mut(&mut self) -> &mut Router {
        &mut self.router
    }

    /// Time passes for Linux too.
    pub(super) fn handle_timeout(&mut self, now: Instant, frame: u64) {
        self.router.handle_timeout(now, &mut self.outbox);
        self.listen(frame);
    }

    /// Something happened on the router that behaves exactly.
    pub(super) fn note(&mut self, frame: u64, event: &Event) {
        self.hear(Side::Here, frame, event);
    }

    /// Linux's events.
    fn listen(&mut self, frame: u64) {
        while let Some((_, event)) = self.router.poll_event() {
            self.hear(Side::Linux, frame, &event);
        }
    }

    fn hear(&mut self, side: Side, frame: u64, event: &Event) {
        let heard = match side {
            Side::Here => &mut self.ours,
            Side::Linux => &mut self.theirs,
        };
        match event {
            Event::Announced { form, address, outcome, .. } => {
                let announced = Announced { form: *form, address: *address, outcome: outcome.clone() };
                if let Some(expected) = announced.expected() {
                    self.announced.push_front((side, *expected, frame));
                    self.announced.truncate(ANNOUNCED);
                }
                heard.announced.push(announced);
            }
            Event::Denied { form, reason, .. } => heard.denied.push((*form, *reason)),
            Event::PartialAnnouncement { form, .. } => heard.partial = Some(*form),
            Event::Intervened { intervention, .. } => heard.interventions.push(*intervention),
            Event::Fulfilled { expected, .. } => heard.fulfilled = Some(*expected),
            Event::Encrypted { connection, .. } => {
                self.known.entry((side, *connection)).or_default().tls = Some(frame);
            }
            Event::Destroyed { connection, .. } => {
                self.known.remove(&(side, *connection));
            }
            _ => {}
        }
    }

    /// Hands Linux the packet that the other router had, which sent `ours`, and compares.
    pub(super) fn compare(&mut self, frame: &Frame, own: bool, ours: &Sending, router: &Router) -> Option<Departure> {
        let (verdict, theirs) = self.feed(frame, own);
        let Sending { sent: ours, dropped } = ours;
        self.listen(frame.number);
        let pair = Pair { arrived: &frame.bytes, ours, theirs: &theirs, dropped: *dropped, verdict };
        let departure = (!pair.is_same()).then(|| self.judge(frame, &pair, router));
        (self.ours, self.theirs) = (Heard::default(), Heard::default());
        self.invalid = self.router.conntrack().statistics().invalid;
        departure
    }

    fn feed(&mut self, frame: &Frame, own: bool) -> (Verdict, Vec<Sent>) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&frame.bytes);
        self.buffer.resize(frame.bytes.len() + Packet::ROOM, 0);
        let Ok(packet) = Packet::new(&mut self.buffer, 0..frame.bytes.len()) else {
            return (Verdict::Held, Vec::new());
        };
        let mut packet = frame.carriage.mark(packet);
        let verdict = if own {
            self.router.output_by(frame.time, frame.interface, &mut packet, &mut self.outbox)
        } else {
            self.router.process(frame.time, frame.interface, &mut packet, &mut self.outbox)
        };
        let Sending { sent, .. } = Sending::of(verdict, packet.bytes(), &self.outbox);
        self.outbox.clear();
        (verdict, sent)
    }
}
