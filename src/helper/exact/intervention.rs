//! The interventions in a control connection's segments besides replacing announcements.

use core::fmt;

use super::stream::{Emission, Incoming, Standing, Stream, Taken};
use crate::SequenceNumber;

/// An intervention of [`Behaviour::Exact`](crate::Behaviour::Exact) in a segment of a control connection, besides
/// replacing announcements. Linux does none of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Intervention {
    /// So many bytes of the stream wait now: the line they begin is unfinished, and may become an announcement.
    Held(u32),
    /// The bytes that waited leave with it: their line is whole, or will not become an announcement.
    Released,
    /// The bytes that waited, and that its sender takes for delivered, leave with it once more.
    SentAlong,
    /// The FIN waits for the bytes before it.
    FinWaits,
    /// Bytes that stand before it have not come: it waits for them, or, where there is no room, for being sent again.
    Early,
    /// There is no room to keep the beginning of its line: its sender has to send it again.
    NotKept,
    /// It comes once more: where text was replaced, it leaves with what it left with first.
    SentAgain,
    /// The other side has its beginning: it leaves without that.
    Shortened,
    /// The other side has all of it: it leaves without bytes, and the other side repeats its acknowledgement.
    Emptied,
    /// The text has grown: it leaves in this number of segments.
    Split(u16),
    /// The other side's window takes less: the rest leaves as that opens.
    WindowFull,
    /// A line that may be an announcement is longer than anybody would read: it does not leave.
    TooLong,
    /// An unfinished line, or what came early, is given up: its client has more of that than any other, and another needed
    /// the room. It does not leave.
    GivenUp,
    /// The stream ends within a line that may have become an announcement: that does not leave.
    Unfinished,
    /// The sender gets an acknowledgement of everything up to this number in the other side's name: it may wait for
    /// that before it sends more.
    Acknowledged(SequenceNumber),
    /// The bytes that waited leave in the sender's name: no other segment would bring them in time.
    SentInItsName,
    /// It acknowledges a part of a text that was put in the place of another: none of that, as its receiver reads it.
    WithinReplacement,
    /// The receiver got an acknowledgement of more before, and gets that again.
    KnowsMore,
}

impl fmt::Display for Intervention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held(1) => return f.write_str("1 byte of an unfinished line waits"),
            Self::Held(bytes) => return write!(f, "{bytes} bytes of an unfinished line wait"),
            Self::Released => "what waited leaves with it",
            Self::SentAlong => "what waited leaves with it once more",
            Self::FinWaits => "its FIN waits for what stands before it",
            Self::Early => "it waits for the bytes before it",
            Self::NotKept => "there is no room to keep it, and it has to be sent again",
            Self::SentAgain => "it is sent again, and leaves with the bytes first sent",
            Self::Shortened => "the other side has its beginning, and it leaves without that",
            Self::Emptied => "the other side has all of it, and it leaves without bytes",
            Self::Split(pieces) => return write!(f, "it leaves in {pieces} segments"),
            Self::WindowFull => "no more leaves than the other side's window takes",
            Self::TooLong => "a line that is too long for an announcement does not leave",
            Self::GivenUp => "what waited is given up, for want of room",
            Self::Unfinished => "the stream ends within a line, which does not leave",
            Self::Acknowledged(number) => return write!(f, "its sender is told that all up to {} arrived", number.0),
            Self::SentInItsName => "what waited leaves in its speaker's name",
            Self::KnowsMore => "its receiver was told of more before, and is told that",
            Self::WithinReplacement => "it acknowledges a part of a replaced text, and so none of it",
        })
    }
}

/// Returns the interventions in a segment, given its stream's state before.
pub(super) fn interventions(
    before: Standing,
    stream: &Stream,
    incoming: Incoming<'_>,
    taken: Taken,
) -> impl Iterator<Item = Intervention> {
    use Intervention::{Early, Emptied, FinWaits, Held, NotKept, Released, SentAgain, SentAlong, Shortened};
    let after = stream.standing();
    let has_text = !incoming.payload.is_empty();
    let reads = !before.is_opaque && has_text;
    let is_early = reads && incoming.start.after(before.next);
    let again = has_text && !is_early && incoming.start.before(before.released);
    let replaced = match taken.emission {
        Emission::Bytes { from, to } => {
            let known = if to.after(before.released) { before.released } else { to }.since(from);
            again && usize::try_from(known).is_ok_and(|known| stream.history().within(from, known).next().is_some())
        }
        _ => false,
    };
    let (sooner, later) = match taken.emission {
        Emission::Bytes { from, to } => (from.before(incoming.start), to.after(incoming.end())),
        _ => (false, false),
    };
    let releases = later || (before.released.before(before.next) && after.released.after(before.released));
    let had = again && incoming.start.before(stream.acknowledged());
    let is_empty = matches!(taken.emission, Emission::Nothing { .. });
    let held = u32::try_from(after.next.since(after.released)).unwrap_or(0);
    let is_new = incoming.start.before(before.next) || incoming.start == before.next;
    [
        is_early.then_some(Early),
        (had && is_empty).then_some(Emptied),
        (had && !is_empty).then_some(Shortened),
        replaced.then_some(SentAgain),
        releases.then_some(Released),
        (sooner && !releases).then_some(SentAlong),
        (reads && held > 0 && is_new).then_some(Held(held)),
        (reads && is_new && held == 0 && after.next == before.next && incoming.end().after(before.next))
            .then_some(NotKept),
        (incoming.fin && !taken.fin && !after.is_opaque).then_some(FinWaits),
    ]
    .into_iter()
    .flatten()
}
