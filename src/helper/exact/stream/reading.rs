//! Reads what of a stream is new: unit by unit, each a command or a reply.

use core::ops::Range;

use super::{Head, Incoming, Line, ReadLines, Stream, Until};
use crate::SequenceNumber;
use crate::ftp::Text;
use crate::helper::exact::intervention::Intervention;
use crate::helper::exact::window::Pool;

/// Maximum length in bytes of a line that may become an announcement. Nobody reads a longer one.
const LONGEST_LINE: usize = 1024;
/// The same of a reply of several lines.
const LONGEST_REPLY: usize = 4096;

/// Maximum number of replacements in one unit.
pub(in crate::helper::exact) const UNIT_EDITS: usize = 4;

/// The replacements in one unit, in the order of its text.
#[derive(Debug, Default)]
pub(in crate::helper::exact) struct UnitEdits {
    edits: [Option<(Range<usize>, Text)>; UNIT_EDITS],
    len: usize,
}

impl UnitEdits {
    /// Adds a replacement. Returns false if there is no room for it.
    pub(in crate::helper::exact) fn push(&mut self, range: Range<usize>, text: Text) -> bool {
        let Some(place) = self.edits.get_mut(self.len) else { return false };
        *place = Some((range, text));
        self.len += 1;
        true
    }

    /// Makes this the only replacement.
    pub(in crate::helper::exact) fn set(&mut self, range: Range<usize>, text: Text) {
        *self = Self::default();
        self.push(range, text);
    }

    fn into_iter(self) -> impl Iterator<Item = (Range<usize>, Text)> {
        self.edits.into_iter().flatten()
    }
}

/// The replacement for a unit that is too long to be held.
#[derive(Clone, Copy, Debug)]
pub(in crate::helper::exact) enum Instead {
    /// Nothing. The unit begins after what was read of it.
    Nothing,
    /// A refusal. The rest of the unit does not leave.
    Refusal(Text, Until),
}

impl Stream {
    /// Reads what of a segment is new, and what came early and follows it.
    pub(super) fn read_new(&mut self, incoming: Incoming<'_>, pool: &mut Pool, handler: &mut dyn ReadLines) {
        let known = self.next.since(incoming.start).max(0) as usize;
        let fresh = incoming.payload.get(known..).unwrap_or_default();
        if let Some(mut window) = self.window.take() {
            if !window.insert(self.next, fresh) {
                // Bytes that came early are sent again, and so are those that do not fit; those that fit go on.
                window.forget_behind(self.next);
                let fits = window.room_at(self.next).min(fresh.len());
                window.insert(self.next, fresh.get(..fits).unwrap_or_default());
            }
            self.read(self.released, window.contiguous(self.released), handler);
            self.window = Some(window);
            return;
        }
        let start = self.next;
        self.read(start, fresh, handler);
        let held = self.released.since(start).max(0) as usize..self.next.since(start).max(0) as usize;
        let held = fresh.get(held).unwrap_or_default();
        // A line that the stream ends with will not be completed.
        let is_last = incoming.fin && incoming.end() == self.next && self.history.room() > 0;
        if !held.is_empty() && !is_last {
            self.hold(held, pool);
        }
    }

    /// Keeps the beginning of a unit. Without a buffer for it, it was not read: its sender will send it again.
    fn hold(&mut self, held: &[u8], pool: &mut Pool) {
        let window = pool.take(self.released, self.holder);
        self.window = window.map(|mut window| {
            let kept = window.insert(self.released, held);
            debug_assert!(kept, "an empty buffer takes a unit");
            window
        });
        if self.window.is_none() {
            self.next = self.released;
        }
    }

    /// Reads `bytes`, which begin at `start`: where the unit begins, if it is held, else where reading ended.
    fn read(&mut self, start: SequenceNumber, bytes: &[u8], handler: &mut dyn ReadLines) {
        if core::mem::take(&mut self.lost_unit) {
            handler.lost();
        }
        let mut at = 0;
        let mut waits = false;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let here = start + at as u32;
            let read = match self.line {
                Line::Held => self.read_held(here, rest, handler),
                Line::Leaves => self.read_leaving(here, rest, handler),
                Line::Tls => self.read_tls(rest),
                Line::Swallowed(until) => self.read_swallowed(here, rest, until, handler),
            };
            let Read::Done(len) = read else {
                waits = matches!(read, Read::Unfinished);
                break;
            };
            at += len;
            match handler.stops() {
                Some(true) => self.line = Line::Tls,
                Some(false) => self.become_opaque(),
                None => {}
            }
            if self.opaque {
                at = bytes.len();
            }
            self.released = start + at as u32;
        }
        let read = if waits { start + bytes.len() as u32 } else { self.released };
        self.next = self.next.later(read);
    }

    /// Reads the unit at the beginning of `rest`.
    fn read_held(&mut self, here: SequenceNumber, rest: &[u8], handler: &mut dyn ReadLines) -> Read {
        let has_room = self.history.room() >= UNIT_EDITS;
        if let Some(len) = handler.unit(rest) {
            let unit = rest.get(..len).unwrap_or_default();
            if has_room {
                let mut edits = UnitEdits::default();
                handler.complete(unit, &mut edits);
                for (range, text) in edits.into_iter() {
                    self.replace(here + range.start as u32, range.len() as u32, text);
                }
                return Read::Done(len);
            }
            if !handler.may_leave(unit) {
                return Read::Full;
            }
            self.head = Head::of(unit);
            handler.left(self.head.bytes());
            return Read::Done(len);
        }
        let longest = if rest.contains(&b'\n') { LONGEST_REPLY } else { LONGEST_LINE };
        if handler.may_leave(rest) {
            self.head = Head::of(rest);
            self.line = Line::Leaves;
            Read::Done(rest.len())
        } else if rest.len() <= longest {
            Read::Unfinished
        } else if has_room {
            self.refuse_long(here, rest, handler);
            Read::Done(rest.len())
        } else {
            Read::Full
        }
    }

    /// A unit is longer than anything that would be read as an announcement.
    fn refuse_long(&mut self, here: SequenceNumber, begun: &[u8], handler: &mut dyn ReadLines) {
        self.withheld = Some(Intervention::TooLong);
        match handler.too_long(begun) {
            Instead::Nothing => {
                self.withhold(here, begun.len() as u32, Intervention::TooLong);
            }
            Instead::Refusal(text, until) => {
                self.replace(here, begun.len() as u32, text);
                let last = begun.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                (self.line, self.head) = (Line::Swallowed(until), Head::of(last));
            }
        }
    }

    /// A line that left as far as it was read goes on. It leaves up to where an announcement may be hidden in it.
    fn read_leaving(&mut self, here: SequenceNumber, rest: &[u8], handler: &mut dyn ReadLines) -> Read {
        let (len, ends) = line_length(rest);
        let line = rest.get(..len).unwrap_or_default();
        match handler.may_announce_later(line) {
            Some(0) if ends => {
                if self.history.room() < UNIT_EDITS {
                    return Read::Full;
                }
                let mut edits = UnitEdits::default();
                handler.complete_later(line, &mut edits);
                for (range, text) in edits.into_iter() {
                    self.replace(here + range.start as u32, range.len() as u32, text);
                }
            }
            Some(0) if len <= LONGEST_LINE => return Read::Unfinished,
            Some(0) => return self.withhold_hidden(here, len),
            Some(at) => {
                self.head.push(line.get(..at).unwrap_or_default());
                return Read::Done(at);
            }
            None => {}
        }
        self.head.push(line);
        if ends {
            handler.left(self.head.bytes());
            self.line = Line::Held;
        }
        Read::Done(len)
    }

    /// Withholds a line that hides more bytes than any announcement has: only its line feed still leaves.
    fn withhold_hidden(&mut self, here: SequenceNumber, len: usize) -> Read {
        if !self.withhold(here, len as u32, Intervention::TooLong) {
            return Read::Full;
        }
        self.line = Line::Swallowed(Until::Feed);
        Read::Done(len)
    }

    /// A unit that does not leave goes on.
    fn read_swallowed(&mut self, here: SequenceNumber, rest: &[u8], until: Until, handler: &mut dyn ReadLines) -> Read {
        let (len, ends) = line_length(rest);
        let withheld = len - usize::from(ends && until == Until::Feed);
        if withheld > 0 && !self.withhold(here, withheld as u32, Intervention::TooLong) {
            return Read::Full;
        }
        self.head.push(rest.get(..len).unwrap_or_default());
        if ends && until == Until::Feed {
            handler.fed(self.head.bytes());
        }
        if ends {
            if until.is_met(self.head.bytes()) {
                self.line = Line::Held;
            }
            self.head = Head::EMPTY;
        }
        Read::Done(len)
    }

    /// Reads TLS records, up to the text that follows the last one. What neither is a record nor follows one is not read,
    /// and neither is anything after it: what looks like a line may be anything.
    fn read_tls(&mut self, rest: &[u8]) -> Read {
        let (text, turn) = self.cipher.pass(rest, 0);
        if self.cipher.is_lost() || (turn.is_none() && !self.cipher.is_on()) {
            self.become_opaque();
            return Read::Done(rest.len());
        }
        if !text.is_empty() {
            self.line = Line::Held;
        }
        Read::Done(rest.len() - text.len())
    }

    /// Units follow each other, so that no replacement overlaps another.
    fn replace(&mut self, start: SequenceNumber, removed: u32, text: Text) {
        debug_assert!(self.history.room() > 0, "room is asked for before a unit is read");
        let replaced = self.history.replace(start, removed, text);
        debug_assert!(replaced.is_ok(), "units are read in order");
        if replaced.is_ok() {
            self.note_growth(start, text.len() as i32 - removed as i32);
        }
    }

    fn note_growth(&mut self, start: SequenceNumber, by: i32) {
        let (_, growth) = self.grown.get_or_insert((start, 0));
        *growth += by;
    }

    /// Lets these bytes not leave. Returns false, with nothing changed, if that cannot be remembered.
    pub(super) fn withhold(&mut self, start: SequenceNumber, len: u32, why: Intervention) -> bool {
        if self.history.extend(start, len) {
            self.note_growth(start, -(len as i32));
        } else if self.history.room() > 0 {
            self.replace(start, len, Text::EMPTY);
        } else {
            return false;
        }
        self.withheld = Some(why);
        true
    }

    /// Drops a held unit within which the stream ends.
    pub(super) fn end_unfinished_line(&mut self) {
        if self.fin == Some(self.next) && self.released.before(self.next) {
            let held = self.next.since(self.released) as u32;
            if self.withhold(self.released, held, Intervention::Unfinished) {
                self.released = self.next;
            }
        }
    }
}

/// The result of reading bytes.
enum Read {
    /// So many were read, and may leave.
    Done(usize),
    /// All were read, and wait for the rest of their unit.
    Unfinished,
    /// Nothing is read: more replacements wait for their acknowledgement than can be remembered.
    Full,
}

/// Returns the length of the line at the beginning of `rest`, and true if it ends there.
fn line_length(rest: &[u8]) -> (usize, bool) {
    rest.iter().position(|byte| *byte == b'\n').map_or((rest.len(), false), |feed| (feed + 1, true))
}
