//! What the two sides of a control connection say, as far as it matters to data connections.

use ftp_conntrack::SequenceNumber;
use ftp_conntrack::conntrack::Direction;
use ftp_conntrack::ftp::{Command, Reply};
use ftp_conntrack::packet::Segment;

use crate::decode::{escaped, short};

/// No more than this is shown of a line.
const WIDTH: usize = 100;

/// Follows both sides, so that what is sent again is not shown again.
#[derive(Default)]
pub(crate) struct Talk {
    next: [Option<SequenceNumber>; 2],
    /// Whether the reply to what the client said last is of interest.
    answer_wanted: bool,
    /// Whether the last segment was heard before.
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
                Direction::Original => self.command(line),
                Direction::Reply => self.reply(line),
            };
            if matters {
                heard.push(Line { index, text: text(line) });
            }
        }
        heard
    }

    /// Whether the last segment bore what was said before.
    pub(crate) const fn was_heard(&self) -> bool {
        self.heard
    }

    fn command(&mut self, line: &[u8]) -> bool {
        let Some(command) = Command::parse(line) else { return false };
        let (matters, answer) = match command {
            Command::User(_) => (true, false),
            Command::Port(_) | Command::Eprt(_) | Command::Lprt(_) => (true, true),
            Command::Pasv | Command::Epsv(_) | Command::Lpsv => (true, true),
            Command::Auth(_) | Command::Ccc | Command::Abor | Command::Quit => (true, true),
            Command::Other { verb, .. } => (is_transfer(verb), is_transfer(verb)),
            _ => (false, false),
        };
        self.answer_wanted = answer;
        matters
    }

    fn reply(&mut self, line: &[u8]) -> bool {
        let Some(reply) = Reply::parse(line).filter(|reply| !reply.continues) else { return false };
        let wanted = self.answer_wanted;
        // After a preliminary reply comes another.
        self.answer_wanted &= reply.code < 200;
        wanted || reply.code >= 400 || matches!(reply.code, 227..=229 | 234)
    }
}

fn is_transfer(verb: &[u8]) -> bool {
    let verbs: [&[u8]; 7] = [b"RETR", b"STOR", b"STOU", b"APPE", b"LIST", b"NLST", b"MLSD"];
    verbs.iter().any(|transfer| verb.eq_ignore_ascii_case(transfer))
}

/// The line of a segment with this index, complete or not.
pub(crate) fn line_at(payload: &[u8], index: usize) -> Option<String> {
    payload.split_inclusive(|byte| *byte == b'\n').nth(index).map(text)
}

fn text(line: &[u8]) -> String {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    short(&escaped(line.get(..end).unwrap_or_default()), WIDTH)
}
