//! One direction of a control connection: what was read, what may leave, and what is held back.

use core::ops::Range;

use super::intervention::Intervention;
use super::window::{Holder, Pool, Window};
use crate::SequenceNumber;
use crate::ftp::Text;
use crate::ftp::tls::{Cipher, Turn};
use crate::seqadj::History;

/// So many replacements are remembered until they are acknowledged.
const EDITS: usize = 16;
/// A line that may be an announcement and is longer than this is none that anybody would read.
const LONGEST: usize = 1024;
/// So much of every line is remembered for whoever follows the dialogue.
pub(super) const HEAD: usize = 40;

/// Hears the lines of a stream.
pub(super) trait ReadLines {
    /// Whether a line that begins with `begun`, and of which more is to come, may leave before it is complete.
    fn may_leave(&mut self, begun: &[u8]) -> bool;

    /// A complete line, or, if it left before it was complete, no more than its first [`HEAD`] bytes. What is to leave
    /// in the place of a part of it; of a line that left already nothing can be replaced.
    fn line(&mut self, line: &[u8], left: bool) -> Option<(Range<usize>, Text)>;

    /// Whether what follows the line that was heard last is not to be read.
    fn stops(&self) -> bool {
        false
    }
}

/// A segment of the stream, in its sender's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    /// The number of its first byte.
    pub(super) start: SequenceNumber,
    pub(super) payload: &'a [u8],
    pub(super) fin: bool,
    /// The number behind the last byte that it calls urgent.
    pub(super) urgent: Option<SequenceNumber>,
}

impl Incoming<'_> {
    pub(super) fn end(&self) -> SequenceNumber {
        self.start + self.payload.len() as u32
    }
}

/// What of the stream leaves with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emission {
    /// What it bears, as it is.
    Same,
    /// These bytes, with what is replaced in them.
    Bytes { from: SequenceNumber, to: SequenceNumber },
    /// No bytes, with this number, which is the other side's.
    Nothing { number: SequenceNumber },
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) emission: Emission,
    /// Whether the last byte that leaves is the stream's last.
    pub(super) fin: bool,
}

/// How far a stream was read and may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) released: SequenceNumber,
    pub(super) next: SequenceNumber,
    pub(super) is_opaque: bool,
}

/// The state of the line at the end of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It begins at `released`; what was read of it is held back.
    Held,
    /// It left as far as it was read.
    Leaves,
    /// It was too long to be held and does not leave.
    Swallowed,
}

/// One direction of a control connection.
///
/// In its sender's numbers: `acknowledged` ≤ `released` ≤ `next`. The other side has what stands before `acknowledged`;
/// up to `released` bytes may leave; up to `next` they were read; between the two stands a line that may become an
/// announcement, which is kept in the window.
///
/// Worked example. `PORT 10,0,0,5,4,210` CR LF stands at 1000 and comes in three segments; it leaves as
/// `PORT 203,0,113,1,4,210` CR LF, 24 bytes.
///
/// | segment | leaves | we acknowledge | released | next |
/// |---|---|---|---|---|
/// | 1000..1002 `PO` | nothing, at 1000 | 1002 | 1000 | 1002 |
/// | 1002..1019 `RT …210` | nothing, at 1000 | 1019 | 1000 | 1019 |
/// | 1019..1021 CR LF | 1000..1024 | – | 1021 | 1021 |
///
/// The sender is told that we have what is held, since it may wait for that before it sends more. The last piece is
/// acknowledged by the other side alone: if what left is lost, the sender sends that piece again, and everything that
/// the other side has not got leaves again with it.
#[derive(Debug)]
pub(super) struct Stream {
    begun: bool,
    first: SequenceNumber,
    next: SequenceNumber,
    released: SequenceNumber,
    acknowledged: SequenceNumber,
    /// Up to here we acknowledged in the other side's name.
    answered: SequenceNumber,
    /// In the other side's numbers: up to where it has what left, and up to where it was sent.
    outside: SequenceNumber,
    sent: SequenceNumber,
    line: Line,
    head: Head,
    /// Where the stream ends.
    fin: Option<SequenceNumber>,
    /// The number behind the last byte that is urgent, until the other side has it.
    urgent: Option<SequenceNumber>,
    /// Holds all from its start to `next`, and what came early.
    window: Option<Window>,
    /// Who it is to the pool of windows.
    holder: Holder,
    history: History<Text>,
    grown: Option<(SequenceNumber, i32)>,
    /// Why a line of it does not leave, if that was found just now.
    withheld: Option<Intervention>,
    /// Nobody reads it, unless it becomes text again.
    opaque: bool,
    /// Where its TLS records end.
    cipher: Cipher,
}

/// The first bytes of a line that leaves before it is complete.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: [u8; HEAD],
    len: usize,
}

impl Head {
    const EMPTY: Self = Self { bytes: [0; HEAD], len: 0 };

    fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.len);
        self.len += room.zip(bytes).map(|(slot, byte)| *slot = *byte).count();
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Stream {
    pub(super) fn new() -> Self {
        let nowhere = SequenceNumber(0);
        Self {
            begun: false,
            first: nowhere,
            next: nowhere,
            released: nowhere,
            acknowledged: nowhere,
            answered: nowhere,
            outside: nowhere,
            sent: nowhere,
            line: Line::Held,
            head: Head::EMPTY,
            fin: None,
            urgent: None,
            window: None,
            holder: Holder::NOBODY,
            history: History::new(EDITS),
            grown: None,
            withheld: None,
            opaque: false,
            cipher: Cipher::default(),
        }
    }

    /// As it was when it was made; its window is given back.
    pub(super) fn reset(&mut self, pool: &mut Pool) {
        pool.give_back(self.window.take(), self.holder);
        self.history.clear();
        (self.begun, self.line, self.head, self.fin, self.opaque) = (false, Line::Held, Head::EMPTY, None, false);
        (self.grown, self.withheld, self.cipher, self.urgent) = (None, None, Cipher::default(), None);
    }

    /// It is another's from here on, and forgets everything.
    pub(super) fn belong_to(&mut self, holder: Holder, pool: &mut Pool) {
        self.reset(pool);
        self.holder = holder;
    }

    /// Gives its window up. Of an unfinished line nothing leaves: its sender sends it again, or, if it was told that it
    /// arrived, the line is no more. What came early comes again. What left, was lost, and was to be sent again by us is
    /// lost for good, and the connection with it.
    pub(super) fn give_up(&mut self, pool: &mut Pool) {
        pool.give_back(self.window.take(), self.holder);
        let held = u32::try_from(self.next.since(self.released)).unwrap_or(0);
        if held > 0 && self.answered.after(self.released) {
            self.withhold(self.released, held, Intervention::GivenUp);
            self.released = self.next;
            self.line = Line::Swallowed;
        } else {
            self.next = self.released;
        }
        self.fin = self.fin.filter(|fin| !fin.after(self.next));
    }

    /// The stream begins, its first byte at `first`; false if it did so before.
    pub(super) fn begin(&mut self, first: SequenceNumber, pool: &mut Pool) -> bool {
        if self.begun && self.first == first {
            return false;
        }
        self.reset(pool);
        self.begin_at(first);
        true
    }

    /// Whether nothing of it was read.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.begun && self.next == self.first
    }

    /// How far it was read and may leave.
    pub(super) const fn standing(&self) -> Standing {
        Standing { released: self.released, next: self.next, is_opaque: self.opaque }
    }

    /// Up to where the other side has it, in the sender's numbers.
    pub(super) const fn acknowledged(&self) -> SequenceNumber {
        self.acknowledged
    }

    /// Up to where the sender was told that it arrived, by the other side or by us.
    pub(super) const fn told(&self) -> SequenceNumber {
        self.acknowledged.later(self.answered)
    }

    fn begin_at(&mut self, first: SequenceNumber) {
        (self.begun, self.first) = (true, first);
        (self.next, self.released, self.acknowledged, self.answered) = (first, first, first, first);
        (self.outside, self.sent) = (first, first);
    }

    /// Nobody reads what follows: it leaves as it comes.
    pub(super) fn stop_reading(&mut self) {
        self.opaque = true;
        self.released = self.next;
    }

    /// A number of the sender as the other side is to read it.
    pub(super) fn outgoing(&self, number: SequenceNumber) -> SequenceNumber {
        self.history.outgoing(number)
    }

    /// The same; a number beyond what may leave is the number of what comes next.
    pub(super) fn outgoing_at_most(&self, number: SequenceNumber) -> SequenceNumber {
        let beyond = self.begun && !self.opaque && number.after(self.end());
        self.outgoing(if beyond { self.released } else { number })
    }

    /// What was replaced.
    pub(super) const fn history(&self) -> &History<Text> {
        &self.history
    }

    /// Takes a segment in: reads what is new of it, and says what leaves. Once that is [copied](Self::copy), [trim] is
    /// to be called.
    ///
    /// [trim]: Self::trim
    pub(super) fn take(&mut self, incoming: Incoming<'_>, pool: &mut Pool, handler: &mut dyn ReadLines) -> Taken {
        if !self.begun {
            self.begin_at(incoming.start);
        }
        if incoming.fin && self.fin.is_none() {
            self.fin = Some(incoming.end());
        }
        self.hear_urgent(incoming.urgent);
        let (released, next) = (self.released, self.next);
        if self.opaque && !incoming.payload.is_empty() {
            self.pass(incoming);
        }
        if !self.opaque {
            if incoming.start.after(next) && !incoming.payload.is_empty() {
                return self.take_early(incoming, pool);
            }
            if incoming.end().after(self.next) {
                self.read_new(incoming, pool, handler);
            }
        }
        self.end_unfinished_line();
        self.emission(incoming, released, next)
    }

    /// The sender calls what stands before this number urgent. What waits waits all the same; it is called urgent again when
    /// it leaves, since its sender, which may have been told that it arrived, will not say so again.
    fn hear_urgent(&mut self, urgent: Option<SequenceNumber>) {
        let later = |urgent: &SequenceNumber| {
            urgent.after(self.acknowledged) && self.urgent.is_none_or(|known| urgent.after(known))
        };
        if let Some(urgent) = urgent.filter(later) {
            self.urgent = Some(urgent);
        }
    }

    /// How far behind `number`, in the other side's numbers, the last urgent byte ends of those that may leave.
    pub(super) fn urgent_behind(&self, number: SequenceNumber) -> Option<u16> {
        let urgent = self.urgent.filter(|urgent| !urgent.after(self.released))?;
        u16::try_from(self.outgoing(urgent).since(number)).ok().filter(|pointer| *pointer > 0)
    }

    /// Whether anything is urgent.
    pub(super) const fn is_urgent(&self) -> bool {
        self.urgent.is_some()
    }

    /// A segment that nobody reads. After `CCC` (RFC 4217 section 12.3), which itself cannot be read, text follows the last
    /// record: from there on it is read again. Where a record's header is missed, nothing is read any more: what looks
    /// like a line may be anything.
    fn pass(&mut self, incoming: Incoming<'_>) {
        let mut end = incoming.end();
        if end.after(self.next) && !self.cipher.is_lost() {
            let fresh = match usize::try_from(incoming.start.since(self.next)) {
                Ok(gap) => {
                    self.cipher.skip(gap);
                    incoming.payload
                }
                Err(_) => incoming.payload.get(self.next.since(incoming.start) as usize..).unwrap_or_default(),
            };
            let was_on = self.cipher.is_on();
            let (text, turn) = if self.cipher.is_lost() { (fresh, None) } else { self.cipher.pass(fresh, 0) };
            if was_on && turn == Some(Turn::Clear) {
                end = end - text.len() as u32;
                (self.opaque, self.line) = (false, Line::Held);
            }
        }
        self.next = self.next.later(end);
        self.released = self.next;
    }

    /// A segment after a gap: its bytes wait.
    fn take_early(&mut self, incoming: Incoming<'_>, pool: &mut Pool) -> Taken {
        let mut window = self.window.take().or_else(|| pool.take(self.released, self.holder));
        let kept = window.as_mut().is_some_and(|window| window.insert(incoming.start, incoming.payload));
        if !kept && incoming.fin && self.fin == Some(incoming.end()) {
            self.fin = None;
        }
        match window {
            Some(window) if window.is_empty() => pool.give_back(Some(window), self.holder),
            window => self.window = window,
        }
        Taken { emission: Emission::Nothing { number: self.outgoing(self.released) }, fin: false }
    }

    /// Reads what of a segment is new, and what came early and follows it.
    fn read_new(&mut self, incoming: Incoming<'_>, pool: &mut Pool, handler: &mut dyn ReadLines) {
        let known = self.next.since(incoming.start).max(0) as usize;
        let fresh = incoming.payload.get(known..).unwrap_or_default();
        match self.window.take() {
            Some(mut window) => {
                if !window.insert(self.next, fresh) {
                    // What came early is sent again; what comes now goes on.
                    window.forget_behind(self.next);
                }
                if window.insert(self.next, fresh) {
                    let from = if self.line == Line::Held { self.released } else { self.next };
                    self.read(from, window.contiguous(from), handler);
                    self.window = Some(window);
                } else {
                    self.window = Some(window);
                    self.swallow_if_full();
                }
            }
            None => {
                let start = self.next;
                self.read(start, fresh, handler);
                let held = fresh.get(self.released.since(start).max(0) as usize..).unwrap_or_default();
                // A line that the stream ends with will not be completed.
                if !held.is_empty() && self.fin != Some(self.next) {
                    self.hold(held, pool);
                }
            }
        }
    }

    /// Keeps the beginning of a line. Without a window for it, it was not read: its sender will send it again.
    fn hold(&mut self, held: &[u8], pool: &mut Pool) {
        let window = pool.take(self.released, self.holder);
        self.window = window.map(|mut window| {
            window.insert(self.released, held);
            window
        });
        if self.window.is_none() {
            self.next = self.released;
        }
    }

    /// Reads `bytes`, which stand at `start`: where the line begins, if it is held, else where reading ended.
    fn read(&mut self, start: SequenceNumber, bytes: &[u8], handler: &mut dyn ReadLines) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let feed = rest.iter().position(|byte| *byte == b'\n');
            let len = feed.map_or(rest.len(), |feed| feed + 1);
            let part = rest.get(..len).unwrap_or_default();
            let here = start + at as u32;
            match self.line {
                Line::Held if feed.is_some() => {
                    if let Some((range, text)) = handler.line(part, false) {
                        self.replace(here + range.start as u32, range.len() as u32, text);
                    }
                }
                Line::Held if len > LONGEST => {
                    self.withhold(here, len as u32, Intervention::TooLong);
                    self.line = Line::Swallowed;
                }
                Line::Held if handler.may_leave(part) => {
                    self.head = Head::EMPTY;
                    self.head.push(part);
                    self.line = Line::Leaves;
                }
                Line::Held => {
                    self.next = here + len as u32;
                    return;
                }
                Line::Leaves => {
                    self.head.push(part);
                    if feed.is_some() {
                        handler.line(self.head.bytes(), true);
                    }
                }
                Line::Swallowed => {
                    let without_feed = len - usize::from(feed.is_some());
                    self.history.extend(here, without_feed as u32);
                    self.withheld = Some(Intervention::TooLong);
                }
            }
            if feed.is_some() {
                self.line = Line::Held;
            }
            at += len;
            if handler.stops() {
                self.opaque = true;
                at = bytes.len();
            }
            self.released = start + at as u32;
        }
        self.next = self.next.later(self.released);
    }

    /// Lines follow each other, so that no replacement overlaps another.
    fn replace(&mut self, start: SequenceNumber, removed: u32, text: Text) {
        if self.history.replace(start, removed, text).is_ok() {
            let (_, growth) = self.grown.get_or_insert((start, 0));
            *growth += text.len() as i32 - removed as i32;
        }
    }

    /// These bytes do not leave.
    fn withhold(&mut self, start: SequenceNumber, len: u32, why: Intervention) {
        self.replace(start, len, Text::EMPTY);
        self.withheld = Some(why);
    }

    /// Why a line does not leave, if that was found since this was asked last.
    pub(super) const fn withheld(&mut self) -> Option<Intervention> {
        self.withheld.take()
    }

    /// What an acknowledgement of the other side's says that its sender cannot be told as it is.
    pub(super) fn misses(&self, number: SequenceNumber) -> Option<Intervention> {
        let said = self.history.returning(number);
        let is_within = !self.history.is_unchanged() && self.outgoing(said) != number;
        let is_late = self.begun && said.before(self.told());
        match (is_late, is_within) {
            (true, _) => Some(Intervention::KnowsMore),
            (false, true) => Some(Intervention::WithinReplacement),
            (false, false) => None,
        }
    }

    /// By how much the stream has grown since this was asked last, and from where on.
    pub(super) fn grown(&mut self) -> Option<(SequenceNumber, i32)> {
        self.grown.take()
    }

    /// The window is full of a line that does not end: it is given up.
    fn swallow_if_full(&mut self) {
        let held = self.next.since(self.released);
        if self.line == Line::Held && held > LONGEST as i32 {
            self.withhold(self.released, held as u32, Intervention::TooLong);
            self.released = self.next;
            self.line = Line::Swallowed;
        }
    }

    /// Where the stream ends within a line that is held, the line does not leave.
    fn end_unfinished_line(&mut self) {
        if self.fin == Some(self.next) && self.released.before(self.next) {
            let held = self.next.since(self.released) as u32;
            self.withhold(self.released, held, Intervention::Unfinished);
            self.released = self.next;
        }
    }

    /// What leaves with a segment, after it was read; `released` and `next` are as they were before.
    fn emission(&self, incoming: Incoming<'_>, released: SequenceNumber, next: SequenceNumber) -> Taken {
        let (start, end) = (incoming.start, incoming.end());
        let newly = self.released.after(released) || incoming.fin;
        let was_held = released.before(next);
        let mut from = start.later(self.acknowledged);
        if let Some(window) = &self.window
            && (was_held || start.before(next))
            && !start.before(window.start())
        {
            // What the sender takes for delivered goes with it.
            from = window.start().later(self.acknowledged);
        }
        let to = if newly || end.after(self.released) { self.released } else { end };
        let ends = self.fin == Some(self.released);
        if from.before(to) {
            let is_same =
                from == start && to == end && self.history.within(from, incoming.payload.len()).next().is_none();
            let emission = if is_same { Emission::Same } else { Emission::Bytes { from, to } };
            return Taken { emission, fin: ends && to == self.released };
        }
        let fin = ends && newly && !self.acknowledged.after(self.released);
        Taken { emission: Emission::Nothing { number: self.number_of_nothing(incoming, fin) }, fin }
    }

    /// The number of a segment that leaves without bytes.
    fn number_of_nothing(&self, incoming: Incoming<'_>, fin: bool) -> SequenceNumber {
        let delivered = !incoming.end().after(self.acknowledged);
        if incoming.payload.is_empty() && !incoming.start.after(self.end()) && !fin {
            self.outgoing(incoming.start)
        } else if delivered && !fin {
            // An old number, so that the other side says again what it has.
            self.outgoing(self.acknowledged) - 1
        } else {
            self.outgoing(self.released)
        }
    }

    /// The number behind everything that may leave; the stream's end counts one.
    fn end(&self) -> SequenceNumber {
        self.released + u32::from(self.fin == Some(self.released))
    }

    /// Copies the bytes of the stream from `from` to `to`, of which `incoming` came just now. How many there are.
    pub(super) fn copy(
        &self,
        from: SequenceNumber,
        to: SequenceNumber,
        incoming: Incoming<'_>,
        out: &mut [u8],
    ) -> usize {
        let wanted = (to.since(from).max(0) as usize).min(out.len());
        let mut copied = 0;
        while copied < wanted {
            let at = from + copied as u32;
            let kept = self.window.as_ref().map_or(&[][..], |window| window.contiguous(at));
            let came = usize::try_from(at.since(incoming.start)).ok().and_then(|at| incoming.payload.get(at..));
            let bytes = if kept.is_empty() { came.unwrap_or_default() } else { kept };
            let len = bytes.len().min(wanted - copied);
            if let (Some(room), Some(bytes), 1..) = (out.get_mut(copied..copied + len), bytes.get(..len), len) {
                room.copy_from_slice(bytes);
            } else {
                break;
            }
            copied += len;
        }
        copied
    }

    /// The other side acknowledges up to `number`, in its own numbers. What the sender is to read.
    pub(super) fn acknowledge(&mut self, number: SequenceNumber, pool: &mut Pool) -> SequenceNumber {
        let ours = self.history.returning(number);
        if !self.begun {
            return ours;
        }
        if ours.after(self.end()) {
            // Nothing of this was sent.
            return ours;
        }
        self.outside = self.outside.later(number);
        self.sent = self.sent.later(number);
        if ours.after(self.acknowledged) {
            self.acknowledged = ours;
            self.history.forget(ours);
            self.urgent = self.urgent.filter(|urgent| urgent.after(ours));
            self.trim(pool);
        }
        self.owed(false);
        ours.later(self.acknowledged).later(self.answered)
    }

    /// The edges of a stretch that the other side has, as the sender is to read them: what it has only in part, it has
    /// not.
    pub(super) fn selectively(&self, left: SequenceNumber, right: SequenceNumber) -> (SequenceNumber, SequenceNumber) {
        let (from, to) = (self.history.returning_end(left), self.history.returning(right));
        // An empty stretch below what is acknowledged says nothing.
        if from.before(to) { (from, to) } else { (self.acknowledged - 1, self.acknowledged) }
    }

    /// Up to where the sender is to be told, now, that we have what it sent: it may wait for that. `again`: something
    /// came just now, maybe because it was not told.
    pub(super) fn owed(&mut self, again: bool) -> Option<SequenceNumber> {
        let Some(window) = &self.window else { return None };
        // What left and is not kept must be acknowledged by the other side alone.
        let all_kept = !self.acknowledged.before(window.start());
        let is_held = self.released.before(self.next);
        let owed = all_kept && is_held && (again || self.answered.before(self.next));
        owed.then(|| {
            self.answered = self.next;
            self.next
        })
    }

    /// Up to where the sender is to be told that the other side has it, since all of this segment was acknowledged and
    /// comes again: not every host repeats an acknowledgement for the empty segment that it gets.
    pub(super) fn had(&self, incoming: Incoming<'_>) -> Option<SequenceNumber> {
        let delivered = self.begun && !self.opaque && !incoming.payload.is_empty();
        let number = self.acknowledged.later(self.answered);
        (delivered && !incoming.end().after(self.acknowledged)).then_some(number)
    }

    /// In the other side's numbers, up to where it has what left.
    pub(super) const fn outside(&self) -> SequenceNumber {
        self.outside
    }

    /// Notes that something was sent up to here, in the other side's numbers.
    pub(super) fn note_sent(&mut self, upto: SequenceNumber) {
        self.sent = self.sent.later(upto);
    }

    /// Notes that what is kept was sent up to here, for the first time or once more: what was sent behind it may be lost,
    /// too.
    pub(super) fn note_sent_again(&mut self, upto: SequenceNumber) {
        self.sent = if self.window.is_some() { upto } else { self.sent.later(upto) };
    }

    /// Keeps a segment that did not leave whole, for want of room on the other side.
    pub(super) fn keep(&mut self, incoming: Incoming<'_>, pool: &mut Pool) {
        if self.window.is_none() && self.is_unsent() {
            self.window = pool.take(incoming.start, self.holder);
            if let Some(window) = &mut self.window {
                window.insert(incoming.start, incoming.payload);
            }
        }
    }

    /// Whether something may leave that was never sent.
    fn is_unsent(&self) -> bool {
        self.sent.before(self.outgoing(self.released))
    }

    /// Whether something may leave that the other side has not got and the sender will not send again by itself: then it
    /// is ours to send until it arrives.
    pub(super) fn is_ours(&self) -> bool {
        let is_kept = self.window.as_ref().is_some_and(|window| !self.acknowledged.before(window.start()));
        let lacks = self.acknowledged.before(self.released);
        is_kept && lacks && (self.answered.after(self.acknowledged) || self.is_unsent())
    }

    /// Everything that the other side has not acknowledged counts as not sent.
    pub(super) fn send_again(&mut self) {
        self.sent = self.outside;
    }

    /// What may leave and was never sent, and where to begin with it in the other side's numbers: what the sender will
    /// not send again by itself, or only after a long time.
    pub(super) fn unsent(&self) -> Option<(SequenceNumber, SequenceNumber, SequenceNumber)> {
        let window = self.window.as_ref()?;
        let from = self.history.returning(self.sent);
        let is_kept = !from.before(window.start()) && from.before(self.released);
        (is_kept && self.is_unsent()).then_some((from, self.released, self.sent))
    }

    /// Forgets what need not leave again.
    pub(super) fn trim(&mut self, pool: &mut Pool) {
        let Some(window) = &mut self.window else { return };
        let whole = self.answered.after(self.acknowledged) || self.sent.before(self.history.outgoing(self.released));
        let keep_from = if whole { self.acknowledged } else { self.released };
        if keep_from.after(window.start()) {
            window.advance(keep_from);
        }
        if window.is_empty() {
            pool.give_back(self.window.take(), self.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::{Form, write};
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const FIRST: SequenceNumber = SequenceNumber(u32::MAX - 30);

    /// Replaces the argument of PORT by eighteen bytes.
    #[derive(Default)]
    struct Ports {
        heard: Vec<String>,
    }

    impl ReadLines for Ports {
        fn may_leave(&mut self, begun: &[u8]) -> bool {
            !begun.iter().zip(b"PORT").all(|(a, b)| a == b)
        }

        fn line(&mut self, line: &[u8], left: bool) -> Option<(Range<usize>, Text)> {
            self.heard.push(String::from_utf8_lossy(line).trim_end().into());
            let end = line.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
            let is_port = !left && line.starts_with(b"PORT ");
            is_port.then(|| (5..end, write(Form::Port, [203, 0, 113, 11].into(), 1234)))
        }
    }

    /// A stream, and what the other side has of it.
    struct Both {
        stream: Stream,
        pool: Pool,
        handler: Ports,
        far: BTreeMap<usize, u8>,
        fin: Option<usize>,
    }

    impl Both {
        fn new(windows: usize) -> Self {
            let mut pool = Pool::new(windows);
            let mut stream = Stream::new();
            stream.begin(FIRST, &mut pool);
            Self { stream, pool, handler: Ports::default(), far: BTreeMap::new(), fin: None }
        }

        /// Sends a segment; gives what leaves.
        fn send(&mut self, at: usize, payload: &[u8], fin: bool) -> String {
            let incoming = Incoming { start: FIRST + at as u32, payload, fin, urgent: None };
            let taken = self.stream.take(incoming, &mut self.pool, &mut self.handler);
            let (number, bytes) = match taken.emission {
                Emission::Same => (self.stream.outgoing(incoming.start), payload.to_vec()),
                Emission::Nothing { number } => (number, vec![]),
                Emission::Bytes { from, to } => {
                    let mut bytes = vec![0; to.since(from) as usize];
                    assert_eq!(self.stream.copy(from, to, incoming, &mut bytes), bytes.len());
                    for (range, text) in self.stream.history().within(from, bytes.len()).rev() {
                        bytes.splice(range, text.iter().copied());
                    }
                    (self.stream.outgoing(from), bytes)
                }
            };
            self.stream.note_sent(number + bytes.len() as u32);
            self.stream.trim(&mut self.pool);
            let number = number.since(FIRST);
            for (i, byte) in bytes.iter().enumerate() {
                let place = usize::try_from(number).unwrap() + i;
                let before = *self.far.entry(place).or_insert(*byte);
                assert_eq!(before, *byte, "the byte at {place} left as another");
            }
            if taken.fin {
                let end = number as usize + bytes.len();
                assert_eq!(*self.fin.get_or_insert(end), end);
            }
            let fin = if taken.fin { " FIN" } else { "" };
            alloc::format!("{number} {}{fin}", bytes.escape_ascii())
        }

        /// What the other side has without a gap.
        fn has(&self) -> Vec<u8> {
            (0..).map_while(|place| self.far.get(&place).copied()).collect()
        }

        /// It acknowledges `upto`.
        fn acknowledges(&mut self, upto: usize) -> i32 {
            self.stream.acknowledge(FIRST + upto as u32, &mut self.pool).since(FIRST)
        }

        fn owed(&mut self) -> Option<i32> {
            self.stream.owed(false).map(|number| number.since(FIRST))
        }
    }

    const PORT: &[u8] = b"PORT 10,0,0,5,4,210\r\n";

    #[test]
    fn the_worked_example() {
        let mut both = Both::new(1);
        assert_eq!((both.send(0, b"PO", false), both.owed()), ("0 ".into(), Some(2)));
        assert_eq!((both.send(2, &PORT[2..19], false), both.owed()), ("0 ".into(), Some(19)));
        assert_eq!((both.send(19, b"\r\n", false), both.owed()), ("0 PORT 203,0,113,11,4,210\\r\\n".into(), None));
        // It was lost; the sender has only the last piece to send again.
        assert_eq!(both.send(19, b"\r\n", false), "0 PORT 203,0,113,11,4,210\\r\\n");
        assert_eq!(both.acknowledges(5), 19, "what was acknowledged is not taken back");
        assert_eq!(both.send(19, b"\r\n", false), "5 203,0,113,11,4,210\\r\\n");
        assert_eq!(both.acknowledges(25), 21);
        assert!(both.stream.window.is_none(), "nothing is kept any more");
        assert_eq!(both.send(21, b"LIST\r\n", false), "25 LIST\\r\\n");
        assert_eq!(both.send(0, PORT, false), "24 ", "an old number, and no old bytes");
    }

    #[test]
    fn a_whole_line_needs_no_window() {
        let mut both = Both::new(0);
        assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
        assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
        assert_eq!(both.send(5, &PORT[5..8], false), "5 ");
        assert_eq!(both.send(8, &PORT[8..], false), "5 203,0,113,11,4,210\\r\\n");
    }

    #[test]
    fn without_a_window_a_part_is_not_taken() {
        let mut both = Both::new(0);
        assert_eq!(both.send(0, b"NOOP\r\nPO", false), "0 NOOP\\r\\n");
        assert_eq!(both.owed(), None);
        assert_eq!(both.send(6, PORT, false), "6 PORT 203,0,113,11,4,210\\r\\n");
    }

    #[test]
    fn what_is_not_kept_is_not_acknowledged() {
        let mut both = Both::new(1);
        assert_eq!((both.send(0, b"LIST\r\nPO", false), both.owed()), ("0 LIST\\r\\n".into(), None));
        assert_eq!(both.acknowledges(6), 8, "now it is");
    }

    #[test]
    fn what_comes_early_waits() {
        let mut both = Both::new(1);
        assert_eq!(both.send(21, b"LIST\r\n", true), "0 ");
        assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\nLIST\\r\\n FIN");
        assert_eq!(both.send(21, b"LIST\r\n", true), "25 LIST\\r\\n FIN");
        assert_eq!(both.acknowledges(32), 28);
        assert_eq!(both.send(27, b"", true), "31 ");
        assert_eq!(both.send(28, b"", false), "32 ", "an acknowledgement after the end");
    }

    #[test]
    fn what_came_early_makes_way() {
        let mut both = Both::new(1);
        for i in 0..200 {
            both.send(100 + i * 10, b"early", false);
        }
        assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
    }

    #[test]
    fn an_unfinished_line_does_not_leave() {
        let mut both = Both::new(1);
        assert_eq!(both.send(0, &PORT[..17], false), "0 ");
        assert_eq!(both.send(17, b"", true), "0  FIN");
        assert_eq!(both.acknowledges(1), 18);
        let mut both = Both::new(1);
        assert_eq!(both.send(0, b"NOOP\r\nPORT 10,0", true), "0 NOOP\\r\\n FIN");
    }

    /// Found by proptest.
    #[test]
    fn an_unfinished_line_at_the_end_needs_no_window() {
        let mut both = Both::new(0);
        assert_eq!(both.send(0, b"NOOP\r\nPORT 10,0", true), "0 NOOP\\r\\n FIN");
    }

    #[test]
    fn an_endless_line_is_swallowed() {
        let mut both = Both::new(1);
        both.send(0, b"PORT ", false);
        for i in 0..100 {
            both.send(5 + i * 500, &[b'1'; 500], false);
        }
        assert_eq!(both.has(), b"");
        both.send(50_005, b"11\nNOOP\r\n", false);
        assert_eq!(both.has(), b"\nNOOP\r\n");
        assert_eq!(both.stream.history().edits().count(), 1);
    }

    #[test]
    fn the_other_side_has_not_what_it_has_in_part() {
        let mut both = Both::new(1);
        both.send(0, PORT, false);
        both.send(21, b"LIST\r\n", false);
        let map = |left: u32, right: u32| {
            let (left, right) = both.stream.selectively(FIRST + left, FIRST + right);
            (left.since(FIRST), right.since(FIRST))
        };
        assert_eq!(map(25, 31), (21, 27));
        assert_eq!(map(10, 31), (19, 27));
        assert_eq!(map(2, 10), (2, 5));
        assert_eq!(map(6, 10), (-1, 0), "nothing whole");
    }

    #[test]
    fn lines_that_left_early_are_heard_by_their_beginning() {
        let mut both = Both::new(1);
        both.send(0, b"PA", false);
        both.send(2, b"SS secret\r\nLIST\r\n", false);
        assert_eq!(both.handler.heard, ["PASS secret", "LIST"]);
    }

    /// Where a stream is cut, and how its pieces come: some twice, in any order, with acknowledgements between.
    fn shuffled() -> impl Strategy<Value = (Vec<usize>, Vec<(usize, usize, bool)>)> {
        let cuts = proptest::collection::vec(0..100usize, 0..12);
        let order = proptest::collection::vec((0..100usize, 1..40usize, any::<bool>()), 0..40);
        (cuts, order)
    }

    #[test]
    fn what_is_urgent_is_called_so_when_it_leaves_and_until_it_arrives() {
        let mut both = Both::new(1);
        let mut send = |at: usize, payload: &[u8], urgent: usize| {
            let urgent = Some(FIRST + urgent as u32);
            let incoming = Incoming { start: FIRST + at as u32, payload, fin: false, urgent };
            both.stream.take(incoming, &mut both.pool, &mut both.handler);
            [0, 20, 27].map(|number| both.stream.urgent_behind(FIRST + number))
        };
        // The last byte of the command's line, which becomes six bytes longer.
        assert_eq!(send(0, b"PORT 10,0,0,5,4,2", 19), [None; 3], "what waits is not called urgent");
        assert_eq!(send(17, b"\r\nNOOP\r\n", 19), [Some(25), Some(5), None]);
        assert_eq!(send(27, b"ABOR\r\n", 19), [Some(25), Some(5), None], "nothing is less urgent for being repeated");
        both.stream.acknowledge(FIRST + 25, &mut both.pool);
        assert!(!both.stream.is_urgent());
    }

    proptest! {
        /// Whatever comes in whatever order, and whenever its window is given up: no digit of an announcement leaves, and
        /// no byte leaves as another than before.
        #[test]
        fn what_is_given_up_does_not_leave(steps in proptest::collection::vec((0..52usize, 1..20usize, 0..6u8), 1..40)) {
            let text = b"NOOP\r\nPORT 10,0,0,5,4,2\r\nTYPE I\r\nPORT 10,0,0,5,4,3\r\nQ\r\n";
            let mut both = Both::new(1);
            for (at, len, then) in steps {
                let end = text.len().min(at + len);
                both.send(at, &text[at..end], end == text.len() && then == 0);
                let _ = both.stream.owed(true);
                match then {
                    1 => both.stream.give_up(&mut both.pool),
                    2 => {
                        let has = both.has().len();
                        both.acknowledges(has);
                    }
                    _ => {}
                }
                let left = String::from_utf8_lossy(&both.has()).into_owned();
                prop_assert!(!left.contains("10,") && !left.contains(",5,"), "{left}");
            }
        }

        #[test]
        fn any_segmentation_order_and_repetition_gives_the_same_far_stream(
            (mut cuts, order) in shuffled(),
            windows in 0..3usize,
        ) {
            let near = b"USER x\r\nPORT 10,0,0,5,4,210\r\nPO\nPORTO 1\nPORT 10,0,0,5,4,211\nLIST\r\nPORT 10,0,0";
            let far = b"USER x\r\nPORT 203,0,113,11,4,210\r\nPO\nPORTO 1\nPORT 203,0,113,11,4,210\nLIST\r\n";
            let mut both = Both::new(windows);
            for (from, len, acknowledges) in order {
                let from = from.min(near.len());
                let to = (from + len).min(near.len());
                both.send(from, &near[from..to], to == near.len());
                if acknowledges {
                    let has = both.has().len();
                    both.acknowledges(has);
                }
                prop_assert!(far.starts_with(&both.has()));
            }
            // In the end the sender sends from where it believes the other side to be.
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(near.len()));
            cuts.extend([0, near.len()]);
            cuts.sort_unstable();
            for _ in 0..3 {
                for pair in cuts.windows(2) {
                    both.send(pair[0], &near[pair[0]..pair[1]], pair[1] == near.len());
                }
                if windows == 0 {
                    both.send(0, near, true);
                }
            }
            prop_assert_eq!(both.has(), far);
            prop_assert_eq!(both.fin, Some(far.len()));
            let all = both.has().len() + 1;
            prop_assert_eq!(both.acknowledges(all), near.len() as i32 + 1);
            prop_assert!(both.stream.window.is_none());
            prop_assert_eq!(both.pool.take(FIRST, Holder::NOBODY).is_some(), windows > 0);
        }
    }
}
