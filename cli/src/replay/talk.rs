//! The commands and replies of a control connection, as far as they matter to data connections.

use ftp_conntrack::SequenceNumber;
use ftp_conntrack::conntrack::Direction;
use ftp_conntrack::ftp::{Answer, Command, Dialogue};
use ftp_conntrack::packet::Segment;

use crate::replay::decode::{escaped, short};

/// No more than this is shown of a line.
const WIDTH: usize = 100;

/// Follows both sides, so that what is sent again is not shown again.
#[derive(Default)]
pub(crate) struct Talk {
    next: [Option<SequenceNumber>; 2],
    dialogue: Dialogue,
    /// True if the last segment was read before.
    heard: bool,
}

/// A line that matters.
pub(crate) struct Line {
    /// Which line of its segment it is, from 0.
    pub(crate) index: usize,
    pub(crate) text: String,
}

impl Talk {
    /// The complete lines of a segment that matter.
    pub(crate) fn hear(&mut self, direction: Direction, segment: &Segment, payload: &[u8]) -> Vec<Line> {
        let next = &mut self.next[direction as usize];
        self.heard = !payload.is_empty() && next.is_some_and(|next| segment.sequence.before(next));
        if payload.is_empty() || self.heard {
            return Vec::new();
        }
        *next = Some(segment.sequence.shifted(i32::try_from(payload.len()).unwrap_or(i32::MAX)));
        let lines = payload.split_inclusive(|byte| *byte == b'\n').enumerate();
        let mut heard = Vec::new();
        for (index, line) in lines.filter(|(_, line)| line.ends_with(b"\n")) {
            let matters = match direction {
                Direction::Original => {
                    self.dialogue.command(line, None);
                    Command::parse(line).is_some_and(|command| command.concerns_data())
                }
                Direction::Reply => self.dialogue.reply(line).as_ref().is_some_and(Answer::concerns_data),
            };
            if matters {
                heard.push(Line { index, text: text(line) });
            }
        }
        heard
    }

    /// Returns true if the text of the last segment was sent before.
    pub(crate) const fn was_heard(&self) -> bool {
        self.heard
    }
}

/// The line of a segment with this index, complete or not.
pub(crate) fn line_at(payload: &[u8], index: usize) -> Option<String> {
    payload.split_inclusive(|byte| *byte == b'\n').nth(index).map(text)
}

/// A line as it is shown.
pub(crate) fn text(line: &[u8]) -> String {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    short(&escaped(line.get(..end).unwrap_or_default()), WIDTH)
}
