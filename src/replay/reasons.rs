//! The reasons why two routers send different packets.

use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

use super::beside::{Beside, Side, Whose};
use super::departure::{Departure, Here, Quirk};
use super::frames::Frame;
use super::heard::Announced;
use super::sent_pair::{Pair, Sent, payload};
use crate::conntrack::{ConnectionId, Direction, Tuple};
use crate::event::AnnouncementOutcome;
use crate::ftp::{Form, Reading, Sender, read_segment};
use crate::helper::Intervention;
use crate::packet::Headers;
use crate::router::Router;

/// So much of a line is shown.
const LINE: usize = 100;

/// The reasons why something else leaves.
struct Reasons {
    pub(super) why: Option<Quirk>,
    pub(super) here: Vec<Here>,
    /// True if the same was reported for the connection before.
    pub(super) alike: bool,
}

impl Beside {
    /// Explains why the two routers sent different packets.
    pub(super) fn judge(&mut self, frame: &Frame, pair: &Pair<'_>, router: &Router) -> Departure {
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
    pub(super) fn numbers(&mut self, whose: Whose, direction: Direction, pair: &Pair<'_>) -> (Quirk, bool) {
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

/// Returns the position of a text within another.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    text.windows(part.len()).position(|window| window == part)
}

/// A line, as it is shown.
pub(super) fn shown(line: &[u8]) -> String {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(line.get(..end).unwrap_or_default());
    let mut shown: String = text.escape_debug().take(LINE).collect();
    if text.escape_debug().nth(LINE).is_some() {
        shown.push_str("...");
    }
    shown
}
