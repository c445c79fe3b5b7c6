//! One side's part of a control connection: what it said, what it announced where, and what it heard.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use smoltcp::socket::tcp::Socket;

use crate::host::{self, Ended};
use crate::text::Form;

/// The text that one side of a control connection sent and received.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    /// Every byte said so far, whether or not the stack has taken it yet.
    pub(crate) said: Vec<u8>,
    taken: usize,
    pub(crate) announced: Vec<Announced>,
    pub(crate) heard: Vec<u8>,
    /// Up to where what was heard has been read.
    read: usize,
    /// The endpoints that were read in what was heard.
    pub(crate) learnt: Vec<SocketAddr>,
    /// Other end of the connection.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) ended: bool,
}

/// An endpoint in what was said.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) form: Form,
    /// Place of its text in the stream.
    pub(crate) range: Range<usize>,
    /// The address as it was written; `None` in the form that has none.
    pub(crate) address: Option<IpAddr>,
    pub(crate) fate: Fate,
}

/// The forms in which the other side may receive an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The endpoint, as the other side is to reach it.
    Endpoint,
    /// One line that refuses: the text is a whole reply, but for its end.
    Refusal,
    /// Any line that no server reads as an endpoint elsewhere: the text is a whole command, but for its end.
    Odd,
}

/// A line to say, or several, with the endpoint that it announces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) text: Vec<u8>,
    pub(crate) announced: Vec<Announced>,
}

impl Announced {
    fn moved(self, by: usize) -> Self {
        Self { range: self.range.start + by..self.range.end + by, ..self }
    }
}

impl Line {
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), announced: Vec::new() }
    }

    /// A line with an endpoint between two texts.
    pub(crate) fn announcing(before: &str, form: Form, endpoint: &str, after: &str) -> Self {
        let range = before.len()..before.len() + endpoint.len();
        let address = form.read(endpoint.as_bytes()).and_then(|endpoint| endpoint.address);
        let announced = vec![Announced { form, range, address, fate: Fate::Endpoint }];
        Self { text: [before, endpoint, after].concat().into(), announced }
    }

    /// A line that does not announce what it seems to, but for its end.
    pub(crate) fn doubtful(text: &[u8], end: &str, form: Form, fate: Fate) -> Self {
        let announced = vec![Announced { form, range: 0..text.len(), address: None, fate }];
        Self { text: [text, end.as_bytes()].concat(), announced }
    }

    /// This line and another after it.
    pub(crate) fn and(mut self, next: Self) -> Self {
        let start = self.text.len();
        self.text.extend(next.text);
        self.announced.extend(next.announced.into_iter().map(|announced| announced.moved(start)));
        self
    }
}

impl Speech {
    pub(crate) fn say(&mut self, line: &Line) {
        let start = self.said.len();
        self.said.extend(&line.text);
        self.announced.extend(line.announced.iter().cloned().map(|announced| announced.moved(start)));
    }

    /// Hands at most `most` bytes to the stack, and takes what it has; true if anything moved.
    pub(crate) fn pump(&mut self, socket: &mut Socket<'_>, most: usize) -> bool {
        if self.remote.is_none() {
            self.remote = host::endpoint(socket.remote_endpoint());
        }
        let mut moved = false;
        if socket.can_send() && self.taken < self.said.len() {
            let end = self.said.len().min(self.taken.saturating_add(most));
            let taken = socket.send_slice(&self.said[self.taken..end]).unwrap_or(0);
            self.taken += taken;
            moved |= taken > 0;
        }
        let (count, ended) = host::read(socket, &mut self.heard);
        if ended == Ended::Whole && !self.ended {
            self.ended = true;
            moved = true;
        }
        moved || count > 0
    }

    /// Returns true if the stack has taken all text.
    pub(crate) const fn is_said(&self) -> bool {
        self.taken == self.said.len()
    }

    /// The next line that was heard, without its end.
    pub(crate) fn next_line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.heard[self.read..];
        let length = rest.iter().position(|byte| *byte == b'\n')? + 1;
        self.read += length;
        let line = &rest[..length - 1];
        Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// Steps over bytes that are no text.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.read += bytes;
    }

    /// Returns the number of received bytes that are no line that was read.
    pub(crate) const fn unread(&self) -> usize {
        self.heard.len() - self.read
    }
}
