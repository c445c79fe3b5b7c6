//! The bytes that the other side has of a stream, their acknowledgement to the sender, and the bytes to be sent again.

use super::{Emission, Incoming, Stream, Taken, UNIT_EDITS};
use crate::SequenceNumber;
use crate::helper::exact::intervention::Intervention;
use crate::helper::exact::window::Pool;

impl Stream {
    /// Returns why a line does not leave, if that was found since this was asked last.
    pub(in crate::helper::exact) const fn withheld(&mut self) -> Option<Intervention> {
        self.withheld.take()
    }

    /// Gives a segment of which nothing leaves an old number, which the other side answers with its window.
    pub(in crate::helper::exact) fn probing(&self, taken: Taken) -> Taken {
        match taken.emission {
            Emission::Nothing { .. } if !taken.fin && !self.opaque => {
                Taken { emission: Emission::Nothing { number: self.outgoing(self.acknowledged) - 1 }, ..taken }
            }
            _ => taken,
        }
    }

    /// Returns the part of the other side's acknowledgement that its sender cannot be given as it is.
    pub(in crate::helper::exact) fn misses(&self, number: SequenceNumber) -> Option<Intervention> {
        let said = self.history.returning(number);
        let is_within = !self.history.is_unchanged() && self.outgoing(said) != number;
        let is_late = self.begun && said.before(self.told());
        match (is_late, is_within) {
            (true, _) => Some(Intervention::KnowsMore),
            (false, true) => Some(Intervention::WithinReplacement),
            (false, false) => None,
        }
    }

    /// The other side acknowledges up to `number`, in its own numbers. What the sender is to read.
    pub(in crate::helper::exact) fn acknowledge(&mut self, number: SequenceNumber, pool: &mut Pool) -> SequenceNumber {
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
            self.skip_withheld();
            self.urgent = self.urgent.filter(|urgent| urgent.after(self.acknowledged));
            self.trim(pool);
        }
        self.owed(false);
        ours.later(self.acknowledged).later(self.answered)
    }

    /// Counts bytes that do not leave as received, once all before them was.
    pub(super) fn skip_withheld(&mut self) {
        let end = self.history.skip_removed(self.acknowledged);
        if end.after(self.acknowledged) && !end.after(self.released) {
            self.acknowledged = end;
            self.history.forget(end);
            self.owes = true;
        }
    }

    /// The edges of a stretch that the other side has, as the sender is to read them: what it has only in part, it has
    /// not.
    pub(in crate::helper::exact) fn selectively(
        &self,
        left: SequenceNumber,
        right: SequenceNumber,
    ) -> (SequenceNumber, SequenceNumber) {
        let (from, to) = (self.history.returning_end(left), self.history.returning(right));
        // An empty stretch below what is acknowledged says nothing.
        if from.before(to) { (from, to) } else { (self.acknowledged - 1, self.acknowledged) }
    }

    /// Up to where the sender is to be told, now, that we have what it sent: it may wait for that. `again`: something
    /// came just now, maybe because it was not told.
    pub(in crate::helper::exact) fn owed(&mut self, again: bool) -> Option<SequenceNumber> {
        if core::mem::take(&mut self.owes) && !self.opaque {
            return Some(self.told());
        }
        // Bytes that could not be withheld, if they had to be given up, are not acknowledged.
        let window = self.window.as_ref().filter(|_| self.history.room() >= UNIT_EDITS)?;
        // Bytes that left and are not kept must be acknowledged by the other side alone.
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
    pub(in crate::helper::exact) fn had(&self, incoming: Incoming<'_>) -> Option<SequenceNumber> {
        let delivered = self.begun && !self.opaque && !incoming.payload.is_empty();
        let number = self.acknowledged.later(self.answered);
        (delivered && !incoming.end().after(self.acknowledged)).then_some(number)
    }

    /// In the other side's numbers, up to where it has what left.
    pub(in crate::helper::exact) const fn outside(&self) -> SequenceNumber {
        self.outside
    }

    /// Returns the number that the other side expects next, in its own numbers; `acknowledged`, if the stream has not begun.
    pub(in crate::helper::exact) const fn expected(&self, acknowledged: SequenceNumber) -> SequenceNumber {
        if self.begun { self.outside } else { acknowledged }
    }

    /// Notes that something was sent up to here, in the other side's numbers.
    pub(in crate::helper::exact) fn note_sent(&mut self, upto: SequenceNumber) {
        self.sent = self.sent.later(upto);
    }

    /// Notes that what is kept was sent up to here, for the first time or once more: what was sent behind it may be lost,
    /// too.
    pub(in crate::helper::exact) fn note_sent_again(&mut self, upto: SequenceNumber) {
        self.sent = if self.window.is_some() { upto } else { self.sent.later(upto) };
    }

    /// Keeps a segment that did not leave whole, for want of room on the other side.
    pub(in crate::helper::exact) fn keep(&mut self, incoming: Incoming<'_>, pool: &mut Pool) {
        if self.window.is_none() && self.is_unsent() {
            self.window = pool.take(incoming.start, self.holder);
            if let Some(window) = &mut self.window {
                window.insert(incoming.start, incoming.payload);
            }
        }
    }

    /// Returns true if bytes may leave that were never sent.
    fn is_unsent(&self) -> bool {
        self.sent.before(self.outgoing(self.released))
    }

    /// Returns true if bytes may leave that the other side has not got and the sender will not send again by itself:
    /// they are ours to send until they arrive.
    pub(in crate::helper::exact) fn is_ours(&self) -> bool {
        let is_kept = self.window.as_ref().is_some_and(|window| !self.acknowledged.before(window.start()));
        let lacks = self.acknowledged.before(self.released);
        is_kept && lacks && (self.answered.after(self.acknowledged) || self.is_unsent())
    }

    /// Everything that the other side has not acknowledged counts as not sent.
    pub(in crate::helper::exact) fn send_again(&mut self) {
        self.sent = self.outside;
    }

    /// Returns the bytes that may leave and were never sent, and their first number in the other side's numbers: the
    /// sender will not send them again by itself, or only after a long time.
    pub(in crate::helper::exact) fn unsent(&self) -> Option<(SequenceNumber, SequenceNumber, SequenceNumber)> {
        let window = self.window.as_ref()?;
        let from = self.history.returning(self.sent);
        let is_kept = !from.before(window.start()) && from.before(self.released);
        (is_kept && self.is_unsent()).then_some((from, self.released, self.sent))
    }

    /// Forgets what need not leave again.
    pub(in crate::helper::exact) fn trim(&mut self, pool: &mut Pool) {
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
