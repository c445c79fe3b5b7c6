//! The lines of a connection that may be a control connection.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::flow::Mark;

/// A line that was said.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// 0 for the client, 1 for the server.
    pub(super) side: usize,
    pub(super) text: Vec<u8>,
    /// The frame in which the line ends.
    pub(super) at: Mark,
}

/// Bytes of a line that are kept; what follows is cut off.
const LONGEST: usize = 512;
/// Lines that are kept of one connection; later ones are counted.
const LINES: usize = 1 << 16;
/// Segments that wait for an earlier one; then the hole is stepped over.
const WAITING: usize = 24;

#[derive(Debug, Default)]
struct Stream {
    next: Option<u32>,
    waiting: BTreeMap<u32, (Mark, Vec<u8>)>,
    line: Vec<u8>,
}

/// Both sides' lines, in the order in which they were complete.
#[derive(Debug, Default)]
pub(super) struct Text {
    streams: [Stream; 2],
    pub(super) lines: Vec<Line>,
    pub(super) lost_lines: u64,
    /// Place where TLS begins, or other bytes that are no text.
    pub(super) tls: Option<Mark>,
    /// True if TLS begins with the connection's first byte.
    pub(super) implicit: bool,
    /// True if bytes are missing from the capture.
    pub(super) gap: bool,
}

impl Text {
    pub(super) fn syn(&mut self, side: usize, sequence: u32) {
        self.streams[side].next = Some(sequence.wrapping_add(1));
    }

    pub(super) fn data(&mut self, side: usize, at: Mark, sequence: u32, bytes: &[u8]) {
        if self.tls.is_some() {
            return;
        }
        let next = *self.streams[side].next.get_or_insert(sequence);
        if (sequence.wrapping_sub(next) as i32) > 0 {
            let stream = &mut self.streams[side];
            stream.waiting.insert(sequence, (at, bytes.to_vec()));
            if stream.waiting.len() > WAITING {
                self.step_over(side);
            }
            return;
        }
        self.take(side, at, sequence, bytes);
        self.drain(side);
    }

    /// Ends the reading: what still waits is read, holes are stepped over.
    pub(super) fn finish(&mut self) {
        for side in [0, 1] {
            while !self.streams[side].waiting.is_empty() {
                self.step_over(side);
            }
            let line = core::mem::take(&mut self.streams[side].line);
            let at = self.lines.last().map(|line| line.at).unwrap_or_default();
            if !line.is_empty() && self.tls.is_none() {
                self.lines.push(Line { side, text: line, at });
            }
        }
    }

    fn step_over(&mut self, side: usize) {
        let stream = &mut self.streams[side];
        let next = stream.next.unwrap_or_default();
        let Some(first) = stream.waiting.keys().copied().min_by_key(|sequence| sequence.wrapping_sub(next)) else {
            return;
        };
        self.gap = true;
        stream.line.clear();
        stream.next = Some(first);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        loop {
            let stream = &mut self.streams[side];
            let Some(next) = stream.next else { return };
            let ready = stream.waiting.keys().copied().find(|sequence| (sequence.wrapping_sub(next) as i32) <= 0);
            let Some(sequence) = ready else { return };
            let Some((at, bytes)) = stream.waiting.remove(&sequence) else { return };
            self.take(side, at, sequence, &bytes);
        }
    }

    fn take(&mut self, side: usize, at: Mark, sequence: u32, bytes: &[u8]) {
        let stream = &mut self.streams[side];
        let next = stream.next.unwrap_or(sequence);
        let known = next.wrapping_sub(sequence) as usize;
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return };
        stream.next = Some(next.wrapping_add(fresh.len() as u32));
        if stream.line.is_empty() && is_tls_record(fresh) {
            self.tls = Some(at);
            self.implicit = self.lines.is_empty();
            return;
        }
        for byte in fresh {
            let stream = &mut self.streams[side];
            if *byte == b'\n' {
                let mut text = core::mem::take(&mut stream.line);
                while text.last() == Some(&b'\r') {
                    text.pop();
                }
                if self.lines.len() < LINES {
                    self.lines.push(Line { side, text, at });
                } else {
                    self.lost_lines += 1;
                }
            } else if stream.line.len() < LONGEST {
                stream.line.push(*byte);
            }
        }
    }
}

/// True if these bytes begin a TLS handshake record, or an SSL 2 hello that offers TLS.
fn is_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, 0..=4, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &Text) -> Vec<(usize, &[u8])> {
        text.lines.iter().map(|line| (line.side, &line.text[..])).collect()
    }

    #[test]
    fn lines_are_read_in_the_order_of_the_stream() {
        let mut text = Text::default();
        let at = |frame| Mark { frame, time: 0 };
        text.syn(0, 9);
        text.data(0, at(2), 15, b"anonymous\r\nPA");
        text.data(0, at(3), 10, b"USER ");
        text.data(0, at(4), 10, b"USER ");
        text.data(0, at(5), 28, b"SS x\r\n");
        assert_eq!(said(&text), [(0, &b"USER anonymous"[..]), (0, b"PASS x")]);
        assert_eq!((text.lines[0].at.frame, text.lines[1].at.frame, text.gap), (2, 5, false));
    }

    #[test]
    fn holes_are_stepped_over_in_the_end() {
        let mut text = Text::default();
        text.syn(1, 0);
        text.data(1, Mark::default(), 1, b"220 a\r\n");
        text.data(1, Mark::default(), 100, b"530 no\r\n");
        text.finish();
        assert_eq!(said(&text), [(1, &b"220 a"[..]), (1, b"530 no")]);
        assert!(text.gap);
    }

    #[test]
    fn tls_ends_the_text() {
        let mut text = Text::default();
        text.data(1, Mark::default(), 1, b"234 go\r\n");
        text.data(0, Mark { frame: 7, time: 0 }, 1, &[0x16, 3, 1, 0, 200]);
        text.data(0, Mark::default(), 6, b"USER x\r\n");
        assert_eq!((text.lines.len(), text.tls.unwrap().frame, text.implicit), (1, 7, false));
    }
}
