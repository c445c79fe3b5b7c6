//! Transfers that begin and stop.

use std::format;

use super::cause::Certainty::{Inferred, Shown};
use super::cause::{Cause, Code};
use super::diagnose::Diagnosis;
use super::dialogue::{Announcement, Exchange};
use super::session::Attempt;
use crate::ftp::Sender;

impl Diagnosis<'_> {
    /// An open data connection that does not do its work.
    pub(super) fn stalled(
        &self,
        attempt: &Attempt,
        announced: &Announcement,
        exchange: Option<&Exchange>,
    ) -> Option<Cause> {
        let flows = || attempt.places.iter().map(|place| (*place, self.scene.flow(*place)));
        for (place, flow) in flows() {
            for side in &flow.sides {
                let resent = side.resent;
                let never = side.acked.is_none_or(|acked| resent.sequence.wrapping_sub(acked) as i32 >= 0);
                if resent.times >= 3 && resent.length > 500 && never {
                    let arrived = flows().any(|(_, other)| other.ends != flow.ends || self.scene.views.len() > 1);
                    let certainty = if arrived { Shown } else { Inferred };
                    let seen = self.ev(
                        place,
                        resent.last,
                        format!("{} bytes, sent {} times, never acknowledged", resent.length, resent.times + 1),
                        "small packets pass and large ones do not",
                    );
                    return Some(self.mended(Cause::new(Code::Mtu, certainty, "Large packets of the data connection do not arrive: a link on the way takes less, and nobody tells the sender.").seen([seen]), Some(announced)));
                }
            }
        }
        let exchange = exchange?;
        if exchange.preliminary.is_none() || exchange.answer.as_ref().is_some_and(|answer| answer.code < 400) {
            return None;
        }
        let uploads = matches!(exchange.verb.as_str(), "STOR" | "APPE" | "STOU");
        for (place, flow) in flows() {
            // The sending side's data never comes, though its handshake did.
            let passive = announced.form.sender() == Sender::Server;
            let sender = usize::from(passive != uploads);
            let waited = flow.last.time.max(self.scene.flow(self.main_place()).last.time) - flow.first.time;
            let silent =
                flow.sides[sender].bytes == 0 && flow.sides[sender].fin.is_none() && flow.sides[sender].reset.is_none();
            let at_sender = self.near(usize::from(!uploads)).is_some_and(|near| near.view == place.view);
            if silent && waited > SHORT && !at_sender {
                let seen = self.ev(
                    place,
                    flow.first,
                    format!("{} > {}: opened, and no byte comes", flow.ends[0], flow.ends[1]),
                    "the transfer was announced by 150",
                );
                let cause = Cause::new(
                    Code::Mtu,
                    Inferred,
                    "The data connection opens, and nothing comes through it: large packets may not pass.",
                );
                return Some(
                    self.mended(
                        cause.seen([seen]).lacking(
                            "a capture on the sending side shows whether it sends large packets again and again",
                        ),
                        Some(announced),
                    ),
                );
            }
        }
        None
    }
}

/// A data connection is given this long to come, in microseconds.
pub(super) const SHORT: i64 = 3_000_000;
