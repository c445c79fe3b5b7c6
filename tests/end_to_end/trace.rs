//! The packets of a dialogue, to be shown when it fails.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use ftp_conntrack::Instant;

use crate::wire::{ACK, FIN, PSH, RST, SYN, Segment};

/// Number of lines shown of the time until progress stopped, and of the end.
const UNTIL: usize = 120;
const LAST: usize = 20;
/// Number of later lines without effect that are shown with it.
const ECHO: usize = 30;
/// Number of bytes of a packet's text that are shown.
const SHOWN: usize = 100;

/// The trace of a dialogue.
#[derive(Default)]
pub(crate) struct Trace {
    lines: Vec<Entry>,
    /// The numbers with which streams began, by link.
    beginnings: HashMap<(usize, SocketAddr, SocketAddr), u32>,
}

struct Entry {
    at: Instant,
    place: &'static str,
    link: usize,
    note: String,
    packet: Vec<u8>,
}

impl Trace {
    /// A packet was seen on one of the two links.
    pub(crate) fn packet(&mut self, at: Instant, link: usize, place: &'static str, note: String, packet: &[u8]) {
        if let Some(segment) = Segment::read(packet).filter(|segment| segment.has(SYN)) {
            self.beginnings.insert((link, segment.from, segment.to), segment.seq);
        }
        self.lines.push(Entry { at, place, link, note, packet: packet.to_vec() });
    }

    /// Something else happened.
    pub(crate) fn note(&mut self, at: Instant, note: String) {
        self.lines.push(Entry { at, place: "", link: 0, note, packet: Vec::new() });
    }

    /// The number with which a stream began on a link.
    pub(crate) fn beginning(&self, link: usize, from: SocketAddr, to: SocketAddr) -> Option<u32> {
        self.beginnings.get(&(link, from, to)).copied()
    }

    /// The last lines; if nothing went on since `progress`, also those before it.
    pub(crate) fn to_text(&self, progress: Instant) -> String {
        let until = (self.lines.partition_point(|entry| entry.at <= progress) + ECHO).min(self.lines.len());
        let last = self.lines.len().saturating_sub(LAST).max(until);
        let everything = std::env::var_os("E2E_TRACE").is_some();
        let mut text = String::new();
        for (number, entry) in self.lines.iter().enumerate() {
            if !everything && (number + UNTIL < until || (until..last).contains(&number)) {
                continue;
            }
            if !everything && number == last && last > until {
                text += "...\n";
            }
            let _ = write!(text, "{} {:19} ", entry.at, entry.place);
            if !entry.packet.is_empty() {
                text += &self.describe(entry);
            }
            let _ = writeln!(text, " {}", entry.note);
        }
        text
    }

    fn describe(&self, entry: &Entry) -> String {
        let Some(segment) = Segment::read(&entry.packet) else {
            return format!("no TCP, {} bytes", entry.packet.len());
        };
        let relative = |number: u32, from, to| match self.beginning(entry.link, from, to) {
            Some(first) => number.wrapping_sub(first) as i32,
            None => number as i32,
        };
        let names = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.')];
        let flags: String = names.iter().filter(|(flag, _)| segment.has(*flag)).map(|(_, name)| *name).collect();
        let payload = segment.payload(&entry.packet);
        let mut line =
            format!("{} > {} [{flags}] {}", segment.from, segment.to, relative(segment.seq, segment.from, segment.to));
        let _ = write!(line, "+{} ack {}", payload.len(), relative(segment.ack, segment.to, segment.from));
        let edges = segment.sack_edges(&entry.packet);
        if !edges.is_empty() {
            let edges: Vec<i32> = edges.iter().map(|edge| relative(*edge, segment.to, segment.from)).collect();
            let _ = write!(line, " sack {edges:?}");
        }
        let _ = write!(line, " win {}", segment.window);
        if !payload.is_empty() {
            let is_text = [segment.from.port(), segment.to.port()].contains(&21);
            let shown = if is_text { &payload[..payload.len().min(SHOWN)] } else { &[] };
            let _ = write!(line, " \"{}\"{}", shown.escape_ascii(), if is_text { "" } else { " (data)" });
        }
        line
    }
}
