//! A router beside the one that behaves exactly, which does what Linux does with the same packets: what leaves the two is
//! compared, and where it differs it is said why.

use core::net::{IpAddr, SocketAddr};
use std::borrow::ToOwned;
use std::collections::{HashMap, VecDeque};
use std::string::String;
use std::vec::Vec;

use super::departure::{Departure, Here, LinuxDoes, Quirk};
use super::frames::Frame;
use crate::conntrack::{ConnectionId, Direction, Tuple};
use crate::event::{AnnouncementOutcome, DropReason, Event};
use crate::ftp::{Form, Reading, Sender, Text, read_segment};
use crate::helper::{Intervention, RefusalReason};
use crate::packet::{Headers, Layer4, Packet, TcpOptions};
use crate::router::{Egress, Outbox, Router, Verdict};
use crate::{Instant, SequenceNumber};

/// So many announcements are remembered, to name the frames they came in.
const ANNOUNCED: usize = 256;
/// So much of a line is shown.
const LINE: usize = 100;

/// A packet that leaves, by this interface, or for the router's own machine.
type Sent = (Option<usize>, Vec<u8>);

/// Linux, and what is known of where it and the other router part.
pub(super) struct Beside {
    router: Router,
    outbox: Outbox,
    buffer: Vec<u8>,
    ours: Heard,
    theirs: Heard,
    known: HashMap<Whose, Known>,
    /// Which frame announced what is expected: here, and by Linux.
    announced: VecDeque<(Side, Tuple, u64)>,
    /// Number of packets that Linux has taken for invalid.
    invalid: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Here,
    Linux,
}

/// A connection, as the router knows it that knows it.
type Whose = (Side, ConnectionId);

/// The facts known about a connection.
#[derive(Default)]
struct Known {
    /// The frame in which TLS began.
    tls: Option<u64>,
    /// The first frame whose text left in another length than Linux sends it, by direction.
    departed: [Option<u64>; 2],
    /// True for a direction in which differing numbers were reported since then.
    told: [bool; 2],
    /// Reason why all packets of it differ, where it is no control connection.
    why: Option<Quirk>,
}

/// The events of the packet at hand.
#[derive(Default)]
struct Heard {
    announced: Vec<Announced>,
    denied: Vec<(Form, RefusalReason)>,
    partial: Option<Form>,
    interventions: Vec<Intervention>,
    /// The expectation that it met.
    fulfilled: Option<Tuple>,
}

struct Announced {
    form: Form,
    address: IpAddr,
    outcome: AnnouncementOutcome,
}

impl Heard {
    fn has_heard(&self) -> bool {
        self.partial.is_some() || !self.announced.is_empty()
    }
}

impl Announced {
    fn texts(&self) -> Option<(Text, Text)> {
        match &self.outcome {
            AnnouncementOutcome::Expected { before, after, .. } => Some((*before, after.unwrap_or(*before))),
            _ => None,
        }
    }

    fn expected(&self) -> Option<&Tuple> {
        match &self.outcome {
            AnnouncementOutcome::Expected { expected, .. } => Some(expected),
            _ => None,
        }
    }
}

/// The reasons why something else leaves.
struct Reasons {
    why: Option<Quirk>,
    here: Vec<Here>,
    /// True if the same was reported for the connection before.
    alike: bool,
}

/// A packet of the capture, and what leaves because of it on both sides.
struct Pair<'p> {
    arrived: &'p [u8],
    ours: &'p [Sent],
    theirs: &'p [Sent],
    /// Reason why it is dropped here.
    dropped: Option<DropReason>,
    /// Linux's verdict.
    verdict: Verdict,
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

    /// Explains why the two routers sent different packets.
    fn judge(&mut self, frame: &Frame, pair: &Pair<'_>, router: &Router) -> Departure {
        let tuple = Headers::find(pair.arrived).ok().and_then(|headers| Tuple::of(&headers, pair.arrived));
        let find = |router: &Router| tuple.and_then(|tuple| router.conntrack().find(frame.time, &tuple));
        let (here, linux) = (find(router), find(&self.router));
        let is_control =
            here.is_some_and(|(id, _)| router.conntrack().get(id).is_some_and(|connection| connection.has_helper()));
        let whose = match (here, linux) {
            (Some((id, _)), _) => Some((Side::Here, id)),
            (None, Some((id, _))) => Some((Side::Linux, id)),
            (None, None) => None,
        };
        let Reasons { why, here: done, alike } = match (whose, here) {
            (Some(whose), Some((_, direction))) if is_control => {
                self.judge_control(frame.number, whose, direction, pair, router)
            }
            _ => self.judge_other(whose, pair),
        };
        let packets = |sent: &[Sent]| sent.iter().map(|(_, bytes)| bytes.clone()).collect();
        Departure {
            frame: frame.number,
            time: frame.time,
            connection: here.map(|(id, _)| id),
            direction: here.map(|(_, direction)| direction),
            linux: pair.linux_does(),
            why,
            here: done,
            alike,
            ours: packets(pair.ours),
            theirs: packets(pair.theirs),
        }
    }

    /// A packet of a control connection.
    fn judge_control(
        &mut self,
        frame: u64,
        whose: Whose,
        direction: Direction,
        pair: &Pair<'_>,
        router: &Router,
    ) -> Reasons {
        if pair.differs_in_numbers() && self.ours.interventions.is_empty() {
            let (why, alike) = self.numbers(whose, direction, pair);
            return Reasons { why: Some(why), here: Vec::new(), alike };
        }
        if self.shifts_otherwise(pair) {
            let known = self.known.entry(whose).or_default();
            known.departed[direction as usize].get_or_insert(frame);
        }
        let why = match () {
            () if self.is_invalid() => Some(Quirk::Invalid),
            () if self.theirs.has_heard() => self.why_heard(whose),
            () => self.why_unheard(whose.1, direction, pair, router),
        };
        Reasons { why: why.or_else(|| why_numbers(pair)), here: self.done(pair), alike: false }
    }

    /// A packet of another connection, which Linux may know otherwise, or not at all.
    fn judge_other(&mut self, whose: Option<Whose>, pair: &Pair<'_>) -> Reasons {
        let known = whose.and_then(|whose| self.known.get(&whose)).and_then(|known| known.why);
        let why = known.or_else(|| self.why_data(pair));
        if let Some(whose) = whose {
            self.known.entry(whose).or_default().why = why;
        }
        Reasons { why, here: self.done(pair), alike: known.is_some() }
    }

    /// Returns true if the stream goes on with other numbers than Linux's: another length of replaced text left.
    fn shifts_otherwise(&self, pair: &Pair<'_>) -> bool {
        let length = |sent: &[Sent]| sent.iter().map(|(_, bytes)| payload(bytes).len()).sum::<usize>();
        let is_read = !self.is_again() || !self.theirs.announced.is_empty();
        is_read && !pair.theirs.is_empty() && length(pair.ours) != length(pair.theirs)
    }

    /// Returns the reason why only the numbers of a packet differ, and true if that was reported for these streams.
    fn numbers(&mut self, whose: Whose, direction: Direction, pair: &Pair<'_>) -> (Quirk, bool) {
        let known = self.known.entry(whose).or_default();
        let (sequence, acknowledgement) = pair.shift().unwrap_or_default();
        let streams = [(sequence, direction as usize), (acknowledgement, direction.other() as usize)];
        let mut told = None;
        for (_, stream) in streams.into_iter().filter(|(by, _)| *by != 0) {
            let Some(frame) = known.departed[stream] else { return (Quirk::OneCorrection, false) };
            let before = core::mem::replace(&mut known.told[stream], true);
            let (first, alike) = told.unwrap_or((frame, true));
            told = Some((frame.min(first), alike && before));
        }
        told.map_or((Quirk::OneCorrection, false), |(frame, alike)| (Quirk::ShiftedSince(frame), alike))
    }

    /// Returns the reason why Linux acts on text that it takes for an announcement.
    fn why_heard(&self, whose: Whose) -> Option<Quirk> {
        let announced = self.theirs.announced.first();
        let form = self.theirs.partial.or(announced.map(|announced| announced.form))?;
        let of_form = |announced: &&Announced| announced.form == form;
        let ours = self.ours.announced.iter().find(of_form);
        if let Some(frame) = self.known.get(&whose).and_then(|known| known.tls) {
            return Some(Quirk::WithinTls(frame));
        }
        if self.is_again() {
            return Some(Quirk::ReadsAgain);
        }
        if self.theirs.partial.is_some() {
            let waits = self.did(|done| *done == Intervention::Released) || self.waits();
            let is_announcement = ours.is_some() || self.ours.denied.iter().any(|(denied, _)| *denied == form);
            return Some(match () {
                () if waits => Quirk::WholeOnly,
                () if is_announcement => Quirk::Unreadable(form),
                () => Quirk::NoAnnouncement(form),
            });
        }
        match (announced?, ours) {
            (_, None) if self.ours.denied.iter().any(|(denied, _)| *denied == form) => None,
            (_, None) if self.waits() => Some(Quirk::DoesNotWait),
            (theirs, None) => {
                let known = |known: &&(Side, Tuple, u64)| known.0 == Side::Here && Some(&known.1) == theirs.expected();
                let before = self.announced.iter().find(known);
                Some(before.map_or(Quirk::NoAnnouncement(form), |_| Quirk::ReadsAgain))
            }
            (theirs, Some(ours)) => {
                let ports = [theirs, ours].map(|side| side.expected().map(|tuple| tuple.destination_port()));
                match theirs.outcome {
                    AnnouncementOutcome::ForeignAddress => Some(Quirk::Foreign(theirs.address)),
                    AnnouncementOutcome::Refused(_) => None,
                    _ if ports[0] != ports[1] => Some(Quirk::OtherPort),
                    _ if self.ours.announced.len() > 1 || !self.ours.denied.is_empty() => Some(Quirk::FirstLineOnly),
                    _ if theirs.texts().map(|t| t.1) != ours.texts().map(|t| t.1) => Some(Quirk::OwnSpelling),
                    _ => None,
                }
            }
        }
    }

    /// Returns the reason why Linux does not act on an announcement.
    fn why_unheard(&self, id: ConnectionId, direction: Direction, pair: &Pair<'_>, router: &Router) -> Option<Quirk> {
        if self.is_again() {
            return Some(Quirk::KeepsNoText);
        }
        let announced = self.ours.announced.first()?;
        if matches!(announced.form, Form::Lprt | Form::Lpsv) {
            return Some(Quirk::Unknown(announced.form));
        }
        if self.did(|done| *done == Intervention::Released) {
            return Some(Quirk::WholeOnly);
        }
        let text = payload(pair.arrived);
        let (before, _) = announced.texts()?;
        let at = find(text, before.as_bytes())?;
        if text.get(..at).is_some_and(|before| before.contains(&b'\n')) {
            return Some(Quirk::FirstLineOnly);
        }
        let own = router.conntrack().get(id)?.tuple(direction).source();
        match read_segment(Sender::from(direction), own, text) {
            Reading::Announcement(_) | Reading::Partial(_) => Some(Quirk::NotAtLineStart),
            Reading::Nothing => Some(Quirk::Unreadable(announced.form)),
        }
    }

    /// Returns true if Linux took the packet for invalid.
    const fn is_invalid(&self) -> bool {
        self.router.conntrack().statistics().invalid > self.invalid
    }

    /// Returns the reason why something else leaves for a packet of no control connection.
    fn why_data(&self, pair: &Pair<'_>) -> Option<Quirk> {
        let since = |side: Side, expected: &Tuple| {
            let found = self.announced.iter().find(|(whose, tuple, _)| *whose == side && tuple == expected);
            found.map(|(_, _, frame)| *frame)
        };
        match (&self.ours.fulfilled, &self.theirs.fulfilled) {
            (Some(expected), None) => Some(Quirk::NotExpected(since(Side::Here, expected))),
            (None, Some(expected)) => Some(Quirk::Expected(since(Side::Linux, expected))),
            _ => {
                let ports = |sent: &[Sent]| sent.first().and_then(|(_, bytes)| Headers::find(bytes).ok()?.ports(bytes));
                let (here, there) = (ports(pair.ours), ports(pair.theirs));
                let other = here.is_some() && there.is_some() && here != there;
                match () {
                    () if other => Some(Quirk::OtherPort),
                    () if self.is_invalid() => Some(Quirk::Invalid),
                    () => why_numbers(pair),
                }
            }
        }
    }

    /// Returns the actions taken here on the packet.
    fn done(&self, pair: &Pair<'_>) -> Vec<Here> {
        let mut done: Vec<Here> = self.ours.interventions.iter().map(|done| Here::Intervened(*done)).collect();
        done.extend(self.ours.denied.iter().map(|(_, why)| Here::Refused(*why)));
        let left: Vec<u8> = pair.ours.iter().flat_map(|(_, bytes)| payload(bytes)).copied().collect();
        let mut lines = left.split_inclusive(|byte| *byte == b'\n');
        for (_, after) in self.ours.announced.iter().filter_map(Announced::texts) {
            let line = lines.find(|line| find(line, after.as_bytes()).is_some()).map(shown);
            done.push(Here::Announces(line.unwrap_or_else(|| after.as_str().to_owned())));
        }
        match pair.ours {
            [] if done.is_empty() => done.extend(pair.dropped.map(Here::Drops)),
            [(None, _)] => done.push(Here::Local),
            [(Some(_), ours)] if done.is_empty() && !left.is_empty() && payload(ours) == payload(pair.arrived) => {
                done.push(Here::Passes);
            }
            _ => {}
        }
        done
    }

    /// Returns true if the packet, or its end, waits here for others, and may wait for ever.
    fn waits(&self) -> bool {
        use Intervention::{Early, Held, NotKept, TooLong, Unfinished};
        self.did(|done| matches!(done, Held(_) | Early | NotKept | TooLong | Unfinished))
    }

    fn did(&self, what: impl Fn(&Intervention) -> bool) -> bool {
        self.ours.interventions.iter().any(what)
    }

    /// Returns true if the packet has bytes that were sent before.
    fn is_again(&self) -> bool {
        self.did(|done| matches!(done, Intervention::SentAgain | Intervention::Shortened | Intervention::Emptied))
    }
}

impl Pair<'_> {
    fn is_same(&self) -> bool {
        let same = |((to, ours), (to2, theirs)): (&Sent, &Sent)| to == to2 && comparable(ours) == comparable(theirs);
        self.ours.len() == self.theirs.len() && self.ours.iter().zip(self.theirs).all(same)
    }

    /// Returns true if the same leaves, except for numbers of streams.
    fn differs_in_numbers(&self) -> bool {
        let same = |((to, ours), (to2, theirs)): (&Sent, &Sent)| to == to2 && unnumbered(ours) == unnumbered(theirs);
        self.ours.len() == self.theirs.len() && self.ours.iter().zip(self.theirs).all(same)
    }

    /// By how much Linux's numbers are higher: sequence number, acknowledgement.
    fn shift(&self) -> Option<(i32, i32)> {
        let ([(_, ours), ..], [(_, theirs), ..]) = (self.ours, self.theirs) else { return None };
        let (a, b) = (numbers(ours)?, numbers(theirs)?);
        Some((b.0.since(a.0), b.1.since(a.1)))
    }

    fn linux_does(&self) -> LinuxDoes {
        let Some((to, theirs)) = self.theirs.first() else {
            return match self.verdict {
                Verdict::Drop(reason) => LinuxDoes::Drops(reason),
                _ => LinuxDoes::SendsNothing,
            };
        };
        let first = self.ours.first();
        if self.differs_in_numbers() {
            let (sequence, acknowledgement) = self.shift().unwrap_or_default();
            return LinuxDoes::Numbers(sequence, acknowledgement);
        }
        if self.ours.len() > self.theirs.len()
            && first.is_some_and(|(way, ours)| way == to && unnumbered(ours) == unnumbered(theirs))
        {
            return LinuxDoes::SendsNoMore;
        }
        let came = ends(self.arrived);
        let is_moved = first.is_some_and(|(_, ours)| ends(ours) != came);
        match ends(theirs) {
            moved if is_moved && moved == came => return LinuxDoes::LeavesUntranslated,
            Some(moved) if Some(moved) != came && !is_moved => {
                return LinuxDoes::SendsTo(SocketAddr::new(moved.destination(), moved.destination_port()));
            }
            _ => {}
        }
        let (came, left) = (payload(self.arrived), payload(theirs));
        if first.is_some_and(|(_, ours)| payload(ours).len() > left.len() && payload(ours).starts_with(left))
            && !left.is_empty()
        {
            return LinuxDoes::SendsNoMore;
        }
        let lines =
            |text: &[u8]| -> Vec<Vec<u8>> { text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
        let known = lines(came);
        match lines(left).into_iter().find(|line| !known.contains(line)) {
            Some(line) => LinuxDoes::Writes(shown(&line)),
            None if first.is_some_and(|(way, _)| way != to) => LinuxDoes::SendsAnother,
            None => LinuxDoes::Passes,
        }
    }
}

/// Returns the reason why Linux's numbers are others, or why it sends no error.
fn why_numbers(pair: &Pair<'_>) -> Option<Quirk> {
    let is_error = |bytes: &[u8]| Headers::find(bytes).is_ok_and(|headers| headers.is_icmp_error());
    let lacks_error = pair.theirs.is_empty() && pair.ours.first().is_some_and(|(_, ours)| is_error(ours));
    match () {
        () if lacks_error => Some(Quirk::ErrorAsSegment),
        () if pair.differs_in_numbers() => Some(Quirk::OneCorrection),
        () => None,
    }
}

/// The packets that leave because of a packet.
pub(super) struct Sending {
    sent: Vec<Sent>,
    /// Reason why the packet itself is dropped.
    dropped: Option<DropReason>,
}

impl Sending {
    pub(super) fn of(verdict: Verdict, packet: &[u8], outbox: &Outbox) -> Self {
        let way = |way: Egress| match way {
            Egress::Forward { interface, .. } => Some(interface),
            Egress::Local => None,
        };
        let (itself, dropped) = match verdict {
            Verdict::Forward { interface, .. } => (Some((Some(interface), packet.to_vec())), None),
            Verdict::Local => (Some((None, packet.to_vec())), None),
            Verdict::Drop(reason) => (None, Some(reason)),
            _ => (None, None),
        };
        let others = outbox.iter().map(|outgoing| (way(outgoing.egress), outgoing.bytes.to_vec()));
        Self { sent: itself.into_iter().chain(others).collect(), dropped }
    }
}

/// A packet without what is drawn at random: the identification of an ICMP error.
fn comparable(bytes: &[u8]) -> Vec<u8> {
    let mut compared = bytes.to_vec();
    if Headers::find(bytes).is_ok_and(|headers| headers.is_icmp_error()) && bytes.first().is_some_and(|b| b >> 4 == 4) {
        for field in [4..6, 10..12] {
            compared.get_mut(field).into_iter().for_each(|field| field.fill(0));
        }
    }
    compared
}

/// A packet without the numbers of streams, and checksums over them.
fn unnumbered(bytes: &[u8]) -> Vec<u8> {
    let mut compared = comparable(bytes);
    let Ok(headers) = Headers::find(bytes) else { return compared };
    let mut clear = |from: usize, to: usize| {
        compared.get_mut(from..to).into_iter().for_each(|field| field.fill(0));
    };
    let transport = headers.transport;
    match headers.layer4 {
        Layer4::Tcp(_) => {
            clear(transport + 4, transport + 12);
            clear(transport + 16, transport + 20);
            for option in headers.tcp_options(bytes).iter() {
                if let Ok((TcpOptions::SACK, at, value)) = option {
                    clear(transport + 20 + at, transport + 20 + at + value.len());
                }
            }
        }
        // The quoted part of a segment.
        _ if headers.is_icmp_error() => clear(transport + 2, bytes.len()),
        _ => {}
    }
    compared
}

fn numbers(bytes: &[u8]) -> Option<(SequenceNumber, SequenceNumber)> {
    match Headers::find(bytes).ok()?.layer4 {
        Layer4::Tcp(segment) => Some((segment.sequence, segment.acknowledgement)),
        _ => None,
    }
}

fn ends(bytes: &[u8]) -> Option<Tuple> {
    Headers::find(bytes).ok().and_then(|headers| Tuple::of(&headers, bytes))
}

fn payload(bytes: &[u8]) -> &[u8] {
    Headers::find(bytes).map_or(&[], |headers| headers.payload(bytes))
}

/// Returns the position of a text within another.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    text.windows(part.len()).position(|window| window == part)
}

/// A line, as it is shown.
fn shown(line: &[u8]) -> String {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(line.get(..end).unwrap_or_default());
    let mut shown: String = text.escape_debug().take(LINE).collect();
    if text.escape_debug().nth(LINE).is_some() {
        shown.push_str("...");
    }
    shown
}
