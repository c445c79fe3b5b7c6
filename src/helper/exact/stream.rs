//! One direction of a control connection: what was read, what may leave, and what is held back.

mod delivery;
mod reading;

use super::intervention::Intervention;
use super::window::{Holder, Pool, Window};
use crate::SequenceNumber;
use crate::ftp::Text;
use crate::ftp::tls::Cipher;
use crate::seqadj::History;
pub(super) use reading::{Instead, UNIT_EDITS, UnitEdits};

/// Maximum number of replacements that wait for their acknowledgement. Of more, the lines do not leave before.
pub(super) const EDITS: usize = 16;
/// So much of every line is remembered for whoever follows the dialogue.
pub(super) const HEAD: usize = 40;

/// Reads the units of a stream: commands, or replies. A reply that may announce something is one unit with all its lines;
/// of any other, each line is one.
pub(super) trait ReadLines {
    /// Returns the length of the unit at the beginning of `bytes`, if it is complete.
    fn unit(&mut self, bytes: &[u8]) -> Option<usize>;

    /// Returns true if a unit that begins with `begun` may leave before it is complete.
    fn may_leave(&mut self, begun: &[u8]) -> bool;

    /// Returns where something begins in `rest` that may become an announcement, although the line's beginning left.
    fn may_announce_later(&self, _rest: &[u8]) -> Option<usize> {
        None
    }

    /// Reads the end of a line whose beginning left, and adds what is to be replaced in it.
    fn complete_later(&mut self, _rest: &[u8], _edits: &mut UnitEdits) {}

    /// Reads a complete unit, and adds what is to be replaced in it.
    fn complete(&mut self, unit: &[u8], edits: &mut UnitEdits);

    /// Reads the first [`HEAD`] bytes of a line that left before it was complete.
    fn left(&mut self, head: &[u8]);

    /// Reads the first [`HEAD`] bytes of a line that did not leave as a whole, but with its feed.
    fn fed(&mut self, _head: &[u8]) {}

    /// Reads the beginning of a unit that is too long to be held, and says what leaves in its place.
    fn too_long(&mut self, begun: &[u8]) -> Instead;

    /// A unit was given up before it was complete, and does not leave.
    fn lost(&mut self);

    /// Returns `Some`, once, if no lines are to be read after the unit that was read last: true if TLS follows.
    fn stops(&mut self) -> Option<bool> {
        None
    }
}

/// A segment of the stream, in its sender's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    /// The number of its first byte.
    pub(super) start: SequenceNumber,
    pub(super) payload: &'a [u8],
    /// True if it opens the stream: its own number is one before `start`.
    pub(super) syn: bool,
    pub(super) fin: bool,
    /// The number behind the last byte that it calls urgent.
    pub(super) urgent: Option<SequenceNumber>,
}

impl Incoming<'_> {
    pub(super) fn end(&self) -> SequenceNumber {
        self.start + self.payload.len() as u32
    }
}

/// The part of the stream that leaves with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emission {
    /// The segment's own payload, as it is.
    Same,
    /// These bytes, with what is replaced in them.
    Bytes { from: SequenceNumber, to: SequenceNumber },
    /// No bytes, with this number, which is the other side's.
    Nothing { number: SequenceNumber },
}

/// The result of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) emission: Emission,
    /// True if the last byte that leaves is the stream's last.
    pub(super) fin: bool,
}

/// The numbers up to which a stream was read and may leave.
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
    /// It left up to `released`; what was read after that is held back, since an announcement may be hidden in it.
    Leaves,
    /// The bytes that were read of it do not leave, and neither does the rest.
    Swallowed(Until),
    /// TLS records: they leave as they come, but in order, since text may follow the last one.
    Tls,
}

/// The end of a unit that does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// With its line.
    LineEnd,
    /// Before the feed of its line, which leaves: its receiver answers an empty line, so that its sender goes on.
    Feed,
    /// With the last line of the reply that has this code (RFC 959 section 4.2).
    ReplyEnd([u8; 3]),
}

impl Until {
    /// Returns where a unit ends that begins so.
    pub(super) fn after(begun: &[u8]) -> Self {
        match *begun {
            [a, b, c, b'-', ..] if [a, b, c].iter().all(u8::is_ascii_digit) => Self::ReplyEnd([a, b, c]),
            _ => Self::LineEnd,
        }
    }

    fn is_met(self, line: &[u8]) -> bool {
        match self {
            Self::LineEnd | Self::Feed => true,
            Self::ReplyEnd(code) => line.strip_prefix(&code).is_some_and(|rest| !rest.starts_with(b"-")),
        }
    }
}

/// One direction of a control connection.
///
/// In its sender's numbers: `acknowledged` ≤ `released` ≤ `next`. The other side has the bytes before `acknowledged`.
/// Bytes up to `released` may leave; bytes up to `next` were read. Between the two is a line that may become an
/// announcement, which is kept in the window.
///
/// Worked example. `PORT 10,0,0,5,4,210` CR LF is at 1000 and comes in three segments; it leaves as `PORT
/// 203,0,113,1,4,210` CR LF, 24 bytes.
///
/// Held bytes are acknowledged to their sender, since it may wait for that before it sends more. The last piece is
/// acknowledged by the other side alone. If the bytes that left are lost, the sender sends that piece again, and
/// everything that the other side has not got leaves again with it.
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
    /// End of the stream, if all before it was read.
    fin: Option<SequenceNumber>,
    /// End of the stream by a segment that came early.
    early_fin: Option<SequenceNumber>,
    /// Number at which its bytes stopped being read.
    opaque_from: SequenceNumber,
    /// True if the sender is to be told what it does not know: bytes that do not leave count as received.
    owes: bool,
    /// True if a unit was given up since a segment was read last.
    lost_unit: bool,
    /// The number behind the last byte that is urgent, until the other side has it.
    urgent: Option<SequenceNumber>,
    /// Holds all from its start to `next`, and what came early.
    window: Option<Window>,
    /// Identity of the stream in the pool of windows.
    holder: Holder,
    history: History<Text>,
    grown: Option<(SequenceNumber, i32)>,
    /// Reason why a line of it does not leave, if that was found just now.
    withheld: Option<Intervention>,
    /// Nobody reads it, unless it becomes text again.
    opaque: bool,
    /// Ends of its TLS records.
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

    fn of(bytes: &[u8]) -> Self {
        let mut head = Self::EMPTY;
        head.push(bytes);
        head
    }

    /// Adds bytes, as far as there is room. Of blanks at the beginning one is kept: they do not push the verb out.
    fn push(&mut self, mut bytes: &[u8]) {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        if self.bytes().iter().all(is_blank) {
            let blanks = bytes.iter().take_while(|byte| is_blank(byte)).count();
            bytes = bytes.get(if self.len == 0 { blanks.saturating_sub(1) } else { blanks }..).unwrap_or_default();
        }
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
            early_fin: None,
            opaque_from: nowhere,
            owes: false,
            lost_unit: false,
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
        (self.early_fin, self.owes, self.lost_unit) = (None, false, false);
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
        let held = u32::try_from(self.next.since(self.released)).unwrap_or(0);
        if held > 0 && self.answered.after(self.released) {
            let begun = self.window.as_ref().map_or(&[][..], |window| window.contiguous(self.released));
            let last = begun.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let until = match Until::after(begun) {
                Until::LineEnd => Until::Feed,
                until => until,
            };
            (self.line, self.head) = (Line::Swallowed(until), Head::of(last));
            let withheld = self.withhold(self.released, held, Intervention::GivenUp);
            debug_assert!(withheld, "nothing is acknowledged that could not be withheld");
            (self.released, self.lost_unit) = (self.next, true);
            self.skip_withheld();
        } else {
            self.next = self.released;
        }
        pool.give_back(self.window.take(), self.holder);
        (self.fin, self.early_fin) = (self.fin.filter(|fin| !fin.after(self.next)), None);
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

    /// Returns true if nothing of it was read.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.begun && self.next == self.first
    }

    /// Returns the numbers up to which it was read and may leave.
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

    /// Reads no lines in what follows. If it is TLS, lines are read again once text follows the last record (`CCC`, RFC 4217
    /// section 12.3, which itself cannot be read). Otherwise everything leaves as it comes.
    pub(super) fn stop_reading(&mut self, is_tls: bool) {
        if self.opaque {
            return;
        }
        self.released = self.next;
        if is_tls {
            self.line = Line::Tls;
        } else {
            self.become_opaque();
        }
    }

    const fn become_opaque(&mut self) {
        (self.opaque, self.opaque_from, self.line) = (true, self.next, Line::Held);
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

    /// Returns the replacements.
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
        self.hear_urgent(incoming.urgent);
        let (released, next) = (self.released, self.next);
        if self.opaque && !incoming.payload.is_empty() {
            self.next = self.next.later(incoming.end());
            self.released = self.next;
        }
        if !self.opaque {
            if incoming.start.after(next) && !incoming.payload.is_empty() {
                return self.take_early(incoming, pool);
            }
            if incoming.end().after(self.next) {
                self.read_new(incoming, pool, handler);
            }
        }
        self.hear_fin(incoming);
        self.end_unfinished_line();
        self.skip_withheld();
        self.emission(incoming, released, next)
    }

    /// Notes the end of the stream once all before it was read. A FIN anywhere else is old, or blind, or will be sent again;
    /// one that more bytes follow was none.
    fn hear_fin(&mut self, incoming: Incoming<'_>) {
        if (incoming.fin && incoming.end() == self.next) || self.early_fin == Some(self.next) {
            self.fin = Some(self.next);
        } else {
            self.fin = self.fin.filter(|fin| !fin.before(self.next));
        }
        self.early_fin = self.early_fin.filter(|fin| fin.after(self.next));
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

    /// Returns the offset from `number`, in the other side's numbers, of the last urgent byte that may leave.
    pub(super) fn urgent_behind(&self, number: SequenceNumber) -> Option<u16> {
        let urgent = self.urgent.filter(|urgent| !urgent.after(self.released))?;
        u16::try_from(self.outgoing(urgent).since(number)).ok().filter(|pointer| *pointer > 0)
    }

    /// Returns true if any byte is urgent.
    pub(super) const fn is_urgent(&self) -> bool {
        self.urgent.is_some()
    }

    /// A segment after a gap: its bytes wait.
    fn take_early(&mut self, incoming: Incoming<'_>, pool: &mut Pool) -> Taken {
        let mut window = self.window.take().or_else(|| pool.take(self.released, self.holder));
        let kept = window.as_mut().is_some_and(|window| window.insert(incoming.start, incoming.payload));
        if kept && incoming.fin {
            self.early_fin = Some(incoming.end());
        }
        match window {
            Some(window) if window.is_empty() => pool.give_back(Some(window), self.holder),
            window => self.window = window,
        }
        Taken { emission: Emission::Nothing { number: self.outgoing(self.released) }, fin: false }
    }

    /// By how much the stream has grown since this was asked last, and from where on.
    pub(super) fn grown(&mut self) -> Option<(SequenceNumber, i32)> {
        self.grown.take()
    }

    /// Returns the bytes that leave with a segment after it was read; `released` and `next` are their values before.
    fn emission(&self, incoming: Incoming<'_>, released: SequenceNumber, next: SequenceNumber) -> Taken {
        let (start, end) = (incoming.start, incoming.end());
        let is_elsewhere = start.before(self.first) || start.after(self.next);
        if incoming.payload.is_empty() && is_elsewhere && !self.opaque {
            return Taken {
                emission: Emission::Nothing { number: self.number_of_nothing(incoming, false) },
                fin: false,
            };
        }
        if self.opaque && !start.before(self.opaque_from) {
            return Taken { emission: Emission::Same, fin: incoming.fin };
        }
        let newly = self.released.after(released) || (incoming.fin && self.fin == Some(end));
        let was_held = released.before(next);
        let mut from = start.later(self.acknowledged);
        if let Some(window) = &self.window
            && (was_held || start.before(next))
            && !start.before(window.start())
        {
            // Bytes that the sender takes for delivered go with it.
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
}

#[cfg(test)]
mod tests;
