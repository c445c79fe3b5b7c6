//! From one side's bytes to its lines.

use std::vec::Vec;

use super::FramePos;
use super::helper_oracle::HelperOutcome;
use super::stream::Piece;
use crate::SequenceNumber;
use crate::ftp::tls::{Cipher, Turn};

/// A longer line is kept up to here. RFC 959 sets no limit; servers take some hundred bytes.
pub(super) const MAX_LINE: usize = 4 << 10;

/// The beginning of a line.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) at: FramePos,
    pub(super) sequence: SequenceNumber,
    /// Number of lines that end before it in its segment.
    pub(super) index: u32,
    /// True if its segment begins with it.
    pub(super) first: bool,
    pub(super) helper_outcome: HelperOutcome,
}

/// The end of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// With a line feed.
    Feed,
    /// The capture has not all of it.
    Lost,
    /// Nothing more was sent.
    Over,
}

/// A line, without its line feed and the carriage returns before that.
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    pub(super) begin: Begin,
    /// The segment that ends it.
    pub(super) at: FramePos,
    pub(super) end: End,
    /// True if its first bytes may be missing.
    pub(super) headless: bool,
}

/// A finding of the reader.
pub(super) enum Found<'a> {
    Line(Line<'a>),
    /// From here on nothing can be read, or it can again.
    Turn(FramePos, Turn),
}

/// Reads one side's lines.
#[derive(Default)]
pub(super) struct LineReader {
    text: Vec<u8>,
    begin: Option<Begin>,
    /// True if bytes are missing before the line at hand.
    headless: bool,
    pub(super) cipher: Cipher,
}

impl LineReader {
    /// For a stretch of text that stands alone: nobody knows whether a line begins where it begins.
    pub(super) fn standing_alone() -> Self {
        Self { headless: true, ..Self::default() }
    }

    /// The next bytes.
    pub(super) fn read(&mut self, piece: &Piece<'_>, tell: &mut dyn FnMut(Found<'_>)) {
        let fresh = piece.fresh();
        let fresh = if self.begin.is_some() {
            fresh
        } else {
            let (fresh, turn) = self.cipher.pass(fresh, piece.missing);
            if let Some(turn) = turn {
                tell(Found::Turn(piece.at, turn));
            }
            fresh
        };
        let before = piece.text.len() - fresh.len();
        let head = piece.text.get(..before).unwrap_or_default();
        let mut index = head.iter().filter(|byte| **byte == b'\n').count() as u32;
        let mut offset = before;
        for part in fresh.split_inclusive(|byte| *byte == b'\n') {
            let sequence = piece.sequence + offset as u32;
            let here =
                Begin { at: piece.at, sequence, index, first: offset == 0, helper_outcome: piece.helper_outcome };
            self.begin.get_or_insert(here);
            let room = MAX_LINE.saturating_sub(self.text.len());
            self.text.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            offset += part.len();
            if part.ends_with(b"\n") {
                self.end(piece.at, End::Feed, tell);
                index += 1;
            }
        }
        if piece.missing > 0 {
            self.lose(piece.at, tell);
        }
    }

    /// Bytes are missing here.
    pub(super) fn lose(&mut self, at: FramePos, tell: &mut dyn FnMut(Found<'_>)) {
        self.end(at, End::Lost, tell);
        self.headless = true;
        self.cipher.lose();
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, at: FramePos, tell: &mut dyn FnMut(Found<'_>)) {
        self.end(at, End::Over, tell);
    }

    fn end(&mut self, at: FramePos, end: End, tell: &mut dyn FnMut(Found<'_>)) {
        let Some(begin) = self.begin.take() else { return };
        let mut text = self.text.as_slice();
        while let [before @ .., b'\r' | b'\n'] = text {
            text = before;
        }
        let headless = core::mem::replace(&mut self.headless, false);
        tell(Found::Line(Line { text, begin, at, end, headless }));
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use std::format;
    use std::string::String;

    #[derive(Default)]
    struct Told(LineReader, Vec<String>, u32);

    impl Told {
        fn read(&mut self, text: &str, missing: u32) -> &mut Self {
            let Self(reader, told, next) = self;
            let at = FramePos { frame: 1, time: Instant::from_secs(0) };
            let (sequence, helper_outcome) = (SequenceNumber(*next), HelperOutcome::default());
            let piece = Piece { at, sequence, text: text.as_bytes(), heard: 0, missing, helper_outcome };
            *next += text.len() as u32 + missing;
            reader.read(&piece, &mut |found| told.push(words(&found)));
            self
        }

        fn says(&self, expected: &[&str]) {
            assert_eq!(self.1, expected);
        }
    }

    fn words(found: &Found<'_>) -> String {
        match found {
            Found::Line(line) => {
                let index = line.begin.index;
                let (start, text) = (line.begin.sequence, String::from_utf8_lossy(line.text));
                let head = if line.headless { "?" } else { "" };
                format!("{start}.{index} {head}{text} {:?}", line.end)
            }
            Found::Turn(_, turn) => format!("{turn:?}"),
        }
    }

    #[test]
    fn lines_know_where_in_their_segment_they_begin() {
        Told::default().read("a\r\nb\nc\r\r\n", 0).says(&["0.0 a Feed", "3.1 b Feed", "5.2 c Feed"]);
        Told::default().read("a", 0).read("b\r\nc\r\n", 0).says(&["0.0 ab Feed", "4.1 c Feed"]);
        Told::default().read("a\rb\r\n", 0).says(&["0.0 a\rb Feed"]);
    }

    #[test]
    fn the_part_of_a_segment_that_was_heard_counts() {
        let mut told = Told::default();
        let at = FramePos { frame: 1, time: Instant::from_secs(0) };
        let (sequence, helper_outcome) = (SequenceNumber(0), HelperOutcome::default());
        let piece = Piece { at, sequence, text: b"a\r\nb\r\n", heard: 3, missing: 0, helper_outcome };
        let Told(reader, lines, _) = &mut told;
        reader.read(&piece, &mut |found| lines.push(words(&found)));
        told.says(&["3.1 b Feed"]);
    }

    #[test]
    fn lines_that_the_capture_cut() {
        let mut told = Told::default();
        told.read("PORT 1,2", 9).read("x\r\ny\r\n", 0);
        told.says(&["0.0 PORT 1,2 Lost", "17.0 ?x Feed", "20.1 y Feed"]);
    }

    #[test]
    fn long_lines_are_kept_in_part() {
        let long = "x".repeat(MAX_LINE);
        let mut told = Told::default();
        told.read(&long, 0).read("more\r\nnext\r\n", 0);
        told.says(&[&format!("0.0 {long} Feed"), &format!("{}.1 next Feed", MAX_LINE + 6)]);
    }

    #[test]
    fn nothing_is_read_of_tls() {
        let mut told = Told::default();
        told.read("234 go\r\n", 0).read("\x16\x03\x01\0\x02ab", 0).read("\x17\x03\x03\0\x01\n", 0);
        told.says(&["0.0 234 go Feed", "Tls"]);
        told.read("200 clear\r\n", 0);
        told.says(&["0.0 234 go Feed", "Tls", "Clear", "21.0 200 clear Feed"]);
    }
}
