//! A whole capture, as the other side would have seen it.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::string::String;
use std::vec::Vec;

use super::{Known, Line, Masquerade, Outcome, Rewriting, Untouched};
use crate::Instant;
use crate::capture::{Direction, ReadError, Reader, Record};
use crate::ftp::{LineReading, ReplyLines, Sender, read_line};
use crate::inspect::{self, FramePos, FtpEvent, Inspector, SessionId};
use crate::packet::link::{self, LinkType};
use crate::packet::{Headers, Layer4, Packet, Side, TcpFlags};

/// Number of frames to read ahead. An announcement is then known before its first piece leaves, and a retransmission
/// before the frames that came in between.
const FRAMES_AHEAD: usize = 4096;
/// No more bytes than this are read ahead.
const BYTES_AHEAD: usize = 16 << 20;
/// A segment is made no longer by what is announced in it than this.
const ROOM: usize = Packet::ROOM * 16;

/// A receiver of frames while a capture is translated.
pub trait Sink {
    /// A frame leaves: as it was read, but for the packet in it. Its `interface` is that of the capture.
    fn frame(&mut self, _record: &Record<'_>, _outcome: Outcome) {}
    /// A line leaves otherwise; it is told before the frames that bear it.
    fn rewritten(&mut self, _line: &Line<'_>, _rewriting: &Rewriting) {}
    /// A near speaker's line has an address in it that cannot be replaced.
    fn malformed(&mut self, _line: &Line<'_>) {}
    /// The capture is damaged, or ends, here.
    fn broken(&mut self, _error: &ReadError) {}
}

/// The counts of a translated capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// All of them.
    pub frames: u64,
    /// Those that a near host sent.
    pub outwards: u64,
    /// Those that were for a near host.
    pub inwards: u64,
    /// Of these, the first ones of what nobody inside had begun or announced.
    pub unasked: u64,
    /// Announcements that leave otherwise.
    pub rewritten: u64,
    /// Lines of near speakers with an address that could not be replaced.
    pub malformed: u64,
    /// Frames with an announcement that could not be replaced, being there only in part.
    pub not_rewritten: u64,
    /// Frames that carry no packet that can be read.
    pub unreadable: u64,
    /// Frames of the other address family.
    pub other_family: u64,
    /// Frames between two near hosts.
    pub both_near: u64,
    /// Frames between two remote ones.
    pub neither_near: u64,
    /// Frames from a near host to many.
    pub multicast: u64,
    /// Damaged places in the capture.
    pub damaged: u64,
    /// From the first frame to the last.
    pub span: Option<(Instant, Instant)>,
}

impl Summary {
    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Translated { side: Side::Source, .. } => &mut self.outwards,
            Outcome::Translated { side: Side::Destination, known, .. } => {
                self.unasked += u64::from(known == Known::First);
                &mut self.inwards
            }
            Outcome::NotRewritten => &mut self.not_rewritten,
            Outcome::Untouched(Untouched::Unreadable) => &mut self.unreadable,
            Outcome::Untouched(Untouched::OtherFamily) => &mut self.other_family,
            Outcome::Untouched(Untouched::BothNear) => &mut self.both_near,
            Outcome::Untouched(Untouched::NeitherNear) => &mut self.neither_near,
            Outcome::Untouched(Untouched::Multicast) => &mut self.multicast,
        };
        *counter += 1;
    }
}

/// A frame that was read and not yet translated.
struct Ahead {
    number: u64,
    time: Instant,
    nanos: u32,
    interface: usize,
    link_type: LinkType,
    direction: Direction,
    original_len: usize,
    /// The frame, and room.
    buffer: Vec<u8>,
    len: usize,
    /// Start of the packet.
    offset: Option<usize>,
}

/// Translates captures.
pub struct Frames {
    masquerade: Masquerade,
    inspector: Inspector,
    lines: Lines,
    ahead: VecDeque<Ahead>,
    bytes_ahead: usize,
    spare: Vec<Vec<u8>>,
    /// The names of the capture's interfaces.
    names: Vec<Option<String>>,
    summary: Summary,
}

impl core::fmt::Debug for Frames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

impl Frames {
    /// For a capture whose control connections have these `ports`.
    #[must_use]
    pub fn new(masquerade: Masquerade, ports: Vec<u16>) -> Self {
        Self {
            masquerade,
            inspector: Inspector::new(inspect::Options { ports, ..inspect::Options::default() }),
            lines: Lines::default(),
            ahead: VecDeque::new(),
            bytes_ahead: 0,
            spare: Vec::new(),
            names: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Translates a capture, to its end or to where it breaks. Frames leave in the order they came.
    pub fn run<R: Read>(&mut self, capture: &mut Reader<R>, sink: &mut dyn Sink) -> Summary {
        while let Some(record) = capture.next() {
            match record {
                Ok(record) => self.read(&record, sink),
                Err(error) => {
                    self.summary.damaged += 1;
                    sink.broken(&error);
                }
            }
            while self.ahead.len() > FRAMES_AHEAD || self.bytes_ahead > BYTES_AHEAD {
                self.leave(sink);
            }
        }
        while !self.ahead.is_empty() {
            self.leave(sink);
        }
        self.summary.clone()
    }

    /// A frame is read ahead: what it announces is noted.
    fn read(&mut self, record: &Record<'_>, sink: &mut dyn Sink) {
        let payload = link::find_network(record.link_type, record.data).ok();
        let offset = payload.filter(|payload| payload.family.is_some()).map(|payload| payload.offset);
        if let Some(packet) = offset.and_then(|offset| record.data.get(offset..)) {
            let at = FramePos { frame: record.frame, time: record.time };
            self.note_syn(record.frame, packet);
            let original = packet.len() + record.original_len.saturating_sub(record.data.len());
            self.inspector.packet(at, packet, original, &mut self.lines);
            self.announce(sink);
        }
        if record.interface >= self.names.len() {
            self.names.resize(record.interface + 1, None);
        }
        if let (Some(slot @ None), Some(name)) = (self.names.get_mut(record.interface), record.interface_name) {
            *slot = Some(name.into());
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(record.data);
        let len = buffer.len();
        self.bytes_ahead += len;
        let Record { frame: number, time, nanos, interface, link_type, direction, original_len, .. } = *record;
        let ahead = Ahead { number, time, nanos, interface, link_type, direction, original_len, buffer, len, offset };
        self.ahead.push_back(ahead);
    }

    fn note_syn(&mut self, frame: u64, packet: &[u8]) {
        let Ok(headers) = Headers::find_cut(packet) else { return };
        let (Layer4::Tcp(segment), Some((source, destination))) = (headers.layer4, headers.ports(packet)) else {
            return;
        };
        if segment.flags.has(TcpFlags::SYN) {
            let from = SocketAddr::new(headers.source(packet), source);
            let to = SocketAddr::new(headers.destination(packet), destination);
            self.masquerade.begin(frame, from, to, segment.sequence);
        }
    }

    /// Notes what the lines announce that were read.
    fn announce(&mut self, sink: &mut dyn Sink) {
        while let Some(Heard { at, from, to, start, text, reading }) = self.lines.heard.pop_front() {
            let line = Line { frame: at.frame, from, to, start, text: &text };
            match reading {
                LineReading::Announcement(announcement) => {
                    if let Some(rewriting) = self.masquerade.announce(&line, &announcement) {
                        self.summary.rewritten += 1;
                        sink.rewritten(&line, &rewriting);
                    }
                }
                LineReading::Malformed(..) if self.masquerade.hides(from.ip()) => {
                    self.summary.malformed += 1;
                    sink.malformed(&line);
                }
                _ => {}
            }
        }
    }

    /// The frame read first leaves.
    fn leave(&mut self, sink: &mut dyn Sink) {
        let Some(mut frame) = self.ahead.pop_front() else { return };
        self.bytes_ahead -= frame.len;
        let (mut outcome, mut len) = (Outcome::Untouched(Untouched::Unreadable), frame.len);
        if let Some(offset) = frame.offset {
            frame.buffer.resize(frame.len + ROOM, 0);
            if let Ok(mut packet) = Packet::new(&mut frame.buffer, offset..frame.len) {
                outcome = self.masquerade.translate(frame.number, &mut packet);
                len = packet.range().end;
            }
        }
        self.summary.frames += 1;
        self.summary.count(outcome);
        self.summary.span = Some((self.summary.span.map_or(frame.time, |(first, _)| first), frame.time));
        let original_len = (frame.original_len + len).saturating_sub(frame.len).max(len);
        let record = Record {
            frame: frame.number,
            time: frame.time,
            nanos: frame.nanos,
            interface: frame.interface,
            interface_name: self.names.get(frame.interface).and_then(Option::as_deref),
            link_type: frame.link_type,
            direction: frame.direction,
            original_len,
            data: frame.buffer.get(..len).unwrap_or_default(),
        };
        sink.frame(&record, outcome);
        self.spare.push(frame.buffer);
    }
}

/// A line that may announce something.
struct Heard {
    at: FramePos,
    from: SocketAddr,
    to: SocketAddr,
    start: crate::SequenceNumber,
    text: Vec<u8>,
    reading: LineReading,
}

/// Reads the lines of all control connections.
#[derive(Default)]
struct Lines {
    sessions: HashMap<SessionId, (SocketAddr, SocketAddr, ReplyLines)>,
    heard: VecDeque<Heard>,
}

impl inspect::Sink for Lines {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        match event {
            FtpEvent::Opened(opened) => {
                self.sessions.insert(opened.session, (opened.client, opened.server, ReplyLines::default()));
            }
            FtpEvent::Line { session, sender, line, start } => {
                let Some((client, server, replies)) = self.sessions.get_mut(session) else { return };
                let (from, to) = match sender {
                    Sender::Client => (*client, *server),
                    Sender::Server => (*server, *client),
                };
                let reading = read_line(*sender, from.ip(), line, replies);
                if reading != LineReading::Nothing {
                    let (start, text) = (*start, line.to_vec());
                    self.heard.push_back(Heard { at, from, to, start, text, reading });
                }
            }
            FtpEvent::Done { session } => {
                self.sessions.remove(session);
            }
            _ => {}
        }
    }
}
