//! One control connection.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use super::announcement::{self, Announcement, Wrong};
use super::copies::Copies;
use super::expected::{Expected, Open};
use super::flow_stats::FlowStats;
use super::helper_oracle::{Followed, HelperOutcome};
use super::lines::{End, Found, Line, LineReader};
use super::stream::{Heard, Piece, Stream};
use super::{
    Announced, Began, CloseKind, Ended, FramePos, FtpEvent, Helper, Opened, SessionId, Sink, Summary, Tls, Unfulfilled,
};
use crate::SequenceNumber;
use crate::conntrack::Direction;
use crate::ftp::tls::Turn;
use crate::ftp::{Command, CommandKind, Dialogue, Sender};
use crate::packet::{Segment, TcpFlags};

/// So many announcements are remembered, to know them when they are sent again.
const REMEMBERED: usize = 16;

/// Whom a session tells, and who wants to know of its announcements.
pub(super) struct Out<'o> {
    pub(super) sink: &'o mut dyn Sink,
    pub(super) summary: &'o mut Summary,
    pub(super) expected: &'o mut Expected,
    /// Announcements of the packet at hand.
    pub(super) fresh: VecDeque<Open>,
}

impl<'o> Out<'o> {
    pub(super) fn new(sink: &'o mut dyn Sink, summary: &'o mut Summary, expected: &'o mut Expected) -> Self {
        Self { sink, summary, expected, fresh: VecDeque::new() }
    }

    pub(super) fn tell(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        match event {
            FtpEvent::Opened(_) => self.summary.sessions += 1,
            FtpEvent::Announced(announced) => {
                self.summary.announcements += 1;
                self.summary.handled += u64::from(announced.helper.acts());
                self.summary.unjudged += u64::from(matches!(announced.helper, Helper::Unknown(_)));
                let malformed = announced.wrong.is_some_and(|wrong| !wrong.is_lack());
                self.summary.malformed_announcements += u64::from(malformed);
                self.summary.would_drop += u64::from(matches!(announced.helper, Helper::Drops(_)));
            }
            FtpEvent::WouldDrop { .. } => self.summary.would_drop += 1,
            FtpEvent::Again { .. } => self.summary.again += 1,
            FtpEvent::Gap { .. } => self.summary.gaps += 1,
            FtpEvent::DataOpened(_) => self.summary.data += 1,
            FtpEvent::DataEnded(_, ending) => {
                let failed = matches!(ending.how(), CloseKind::Refused | CloseKind::NeverAnswered);
                self.summary.data_failed += u64::from(failed);
            }
            FtpEvent::Unfulfilled { why: Unfulfilled::NotCaptured, .. } => self.summary.not_captured += 1,
            FtpEvent::Unfulfilled { why, .. } if why.is_failure() => self.summary.unfulfilled += 1,
            FtpEvent::Unfulfilled { .. } => self.summary.unused += 1,
            FtpEvent::IcmpError { .. } => self.summary.icmp_errors += 1,
            FtpEvent::OtherSide { .. } => self.summary.two_sided += 1,
            FtpEvent::Ended(ended) => self.summary.evicted += u64::from(ended.evicted),
            _ => {}
        }
        self.sink.event(at, event);
    }
}

/// A control connection.
pub(super) struct Session {
    pub(super) ends: Ends,
    pub(super) stats: FlowStats,
    pub(super) copies: Copies,
    pub(super) followed: Followed,
    sides: [Side; 2],
    talk: Talk,
}

/// The ends of the control connection.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) id: SessionId,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// The addresses of the client and the server on the other side of a router that translates them.
    pub(super) translated: Option<[IpAddr; 2]>,
}

impl Ends {
    fn translated(&self, sender: Sender) -> Option<IpAddr> {
        self.translated.map(|addresses| addresses[Direction::from(sender) as usize])
    }

    pub(super) const fn own(&self, sender: Sender) -> IpAddr {
        match sender {
            Sender::Client => self.client.ip(),
            Sender::Server => self.server.ip(),
        }
    }
}

#[derive(Default)]
struct Side {
    stream: Stream,
    lines: LineReader,
    /// True if what comes next follows a gap.
    after_gap: bool,
}

/// The dialogue so far.
#[derive(Default)]
struct Talk {
    dialogue: Dialogue,
    /// True if the server agreed to `AUTH`.
    agreed: bool,
    tls: bool,
    /// True if the client said `QUIT`.
    quit: bool,
    announcements: u32,
    told: VecDeque<(Sender, SequenceNumber, u32)>,
}

impl Session {
    pub(super) fn open(opened: Opened, at: FramePos, out: &mut Out<'_>) -> Self {
        out.tell(at, &FtpEvent::Opened(opened));
        let Opened { session: id, client, server, began, .. } = opened;
        let side = || Side {
            lines: if began == Began::Syn { LineReader::default() } else { LineReader::standing_alone() },
            ..Side::default()
        };
        Self {
            ends: Ends { id, client, server, translated: None },
            stats: FlowStats::new(at, began),
            copies: Copies::default(),
            followed: Followed::new(began),
            sides: [side(), side()],
            talk: Talk::new(began),
        }
    }

    /// A packet of it.
    pub(super) fn segment(
        &mut self,
        sender: Sender,
        at: FramePos,
        segment: &Segment,
        text: Text<'_>,
        out: &mut Out<'_>,
    ) {
        let place = Direction::from(sender) as usize;
        self.stats.see(place, at, segment, text.captured.len() as u32 + text.missing, text.frame_bytes);
        if segment.flags.has(TcpFlags::ACK) && !segment.flags.has(TcpFlags::RST) {
            self.hear(sender.other(), at, out, |stream, tell| stream.acknowledge(segment.acknowledgement, tell));
        }
        let first = segment.sequence + u32::from(segment.flags.has(TcpFlags::SYN));
        let resets = segment.flags.has(TcpFlags::RST);
        if let Some(side) = self.sides.get_mut(place)
            && (segment.flags.has(TcpFlags::SYN) || text.is_empty() && !side.stream.has_begun() && !resets)
        {
            side.stream.begin(first);
        }
        if text.missing > 0 && !resets {
            out.tell(at, &FtpEvent::Cut { session: self.ends.id, sender, bytes: text.missing });
        }
        // A reset's payload says why it was sent, and is no part of the stream (RFC 9293 section 3.5.2).
        if !resets {
            let Text { captured, missing, helper_outcome, .. } = text;
            let piece = Piece { at, sequence: first, text: captured, heard: 0, missing, helper_outcome };
            self.hear(sender, at, out, |stream, tell| stream.take(piece, tell));
        }
    }

    /// Reports what is left: nothing more comes of it.
    pub(super) fn end(&mut self, evicted: bool, out: &mut Out<'_>) {
        let at = self.stats.ending.last;
        for sender in [Sender::Client, Sender::Server] {
            self.hear(sender, at, out, |stream, tell| stream.finish(tell));
            if let Some(side) = self.sides.get_mut(Direction::from(sender) as usize) {
                let (talk, ends) = (&mut self.talk, &self.ends);
                side.lines.finish(at, &mut |found| talk.found(ends, sender, found, out));
            }
        }
        let Talk { tls, announcements, .. } = self.talk;
        let (login, commands) = (self.talk.dialogue.login(), self.talk.dialogue.commands());
        let ending = self.stats.ending;
        let ended = Ended { session: self.ends.id, ending, login, tls, commands, announcements, evicted };
        out.tell(at, &FtpEvent::Ended(ended));
    }

    /// Returns why announcements that nobody met are given up.
    pub(super) const fn why_given_up(&self, at_end_of_capture: bool) -> Unfulfilled {
        match (self.talk.quit, self.stats.is_over()) {
            (true, _) => Unfulfilled::Quit,
            (false, false) if at_end_of_capture => Unfulfilled::EndOfCapture,
            (false, _) => Unfulfilled::Over,
        }
    }

    /// Lets a side's stream do something, and hears what it tells.
    fn hear(
        &mut self,
        sender: Sender,
        at: FramePos,
        out: &mut Out<'_>,
        act: impl FnOnce(&mut Stream, &mut dyn FnMut(Heard<'_>)),
    ) {
        let Some(Side { stream, lines, after_gap }) = self.sides.get_mut(Direction::from(sender) as usize) else {
            return;
        };
        let (talk, ends) = (&mut self.talk, &self.ends);
        act(stream, &mut |heard| match heard {
            Heard::Next(mut piece) => {
                if core::mem::take(after_gap) {
                    piece.helper_outcome.follow_gap();
                }
                lines.read(&piece, &mut |found| talk.found(ends, sender, found, out));
            }
            Heard::Gap(bytes) => {
                *after_gap = true;
                lines.lose(at, &mut |found| talk.found(ends, sender, found, out));
                talk.dialogue.lose();
                out.tell(at, &FtpEvent::Gap { session: ends.id, sender, bytes });
            }
            Heard::Late(piece) if !lines.cipher.is_on() => {
                let mut alone = LineReader::standing_alone();
                alone.read(&piece, &mut |found| talk.found(ends, sender, found, out));
                alone.lose(at, &mut |found| talk.found(ends, sender, found, out));
            }
            Heard::Again(piece) if !lines.cipher.is_on() => {
                LineReader::standing_alone().read(&piece, &mut |found| {
                    if let Found::Line(line) = found {
                        talk.again(ends, sender, &line, out);
                    }
                });
            }
            _ => {}
        });
    }
}

/// The payload of a packet.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) captured: &'a [u8],
    /// Number of bytes that the capture left out after it.
    pub(super) missing: u32,
    /// Bytes of the frame with all its headers.
    pub(super) frame_bytes: u64,
    pub(super) helper_outcome: HelperOutcome,
}

impl Text<'_> {
    const fn is_empty(&self) -> bool {
        self.captured.is_empty() && self.missing == 0
    }
}

impl Talk {
    fn new(began: Began) -> Self {
        let dialogue = if began == Began::MidStream { Dialogue::from_middle() } else { Dialogue::from_beginning() };
        Self { dialogue, ..Self::default() }
    }

    fn found(&mut self, ends: &Ends, sender: Sender, found: Found<'_>, out: &mut Out<'_>) {
        match found {
            Found::Line(line) => self.line(ends, sender, &line, out),
            Found::Turn(at, Turn::Tls) if !self.tls => {
                self.tls = true;
                let how = if self.agreed { Tls::Explicit } else { Tls::Implicit };
                out.tell(at, &FtpEvent::Tls { session: ends.id, how });
            }
            Found::Turn(at, Turn::Clear) => out.tell(at, &FtpEvent::Clear { session: ends.id }),
            Found::Turn(..) => {}
        }
    }

    fn line(&mut self, ends: &Ends, sender: Sender, line: &Line<'_>, out: &mut Out<'_>) {
        if line.end == End::Feed {
            let (session, text, start) = (ends.id, line.text, line.begin.sequence);
            out.tell(line.at, &FtpEvent::Line { session, sender, line: text, start });
        }
        let inside = self.dialogue.replies().within();
        let read = announcement::read(sender, ends.own(sender), line, inside);
        // A 227 that names no endpoint and answers no PASV is another reply, as "227 Logout.".
        let asked = self.dialogue.awaits(CommandKind::Passive);
        let read = read.filter(|read| sender == Sender::Client || asked || read.wrong != Some(Wrong::NoEndpoint));
        match sender {
            Sender::Client => self.command(ends, line, out),
            Sender::Server => self.reply(ends, line, out),
        }
        let helper_outcome = line.begin.helper_outcome;
        match read {
            Some(read) => self.announced(ends, sender, line, read, out),
            None if !line.begin.first => {}
            None => {
                if let Some((form, address, port, _)) = helper_outcome.read() {
                    let wrong = Some(Wrong::OnlyLinux);
                    let read = Announcement { form, address: Some(address), port: Some(port), wrong };
                    self.announced(ends, sender, line, read, out);
                } else if let Some(form) = helper_outcome.partial() {
                    out.tell(line.begin.at, &FtpEvent::WouldDrop { session: ends.id, sender, form });
                }
            }
        }
    }

    fn command(&mut self, ends: &Ends, line: &Line<'_>, out: &mut Out<'_>) {
        let Some(command) = Command::parse(line.text) else { return };
        if line.headless && matches!(command, Command::Other { .. }) {
            return;
        }
        let matters = command.concerns_data();
        match self.dialogue.command(line.text, None) {
            Some(CommandKind::Transfer) => out.expected.ask(ends.id),
            Some(CommandKind::Quit) => self.quit = true,
            _ => {}
        }
        let number = self.dialogue.commands();
        let event = FtpEvent::Command { session: ends.id, number, line: line.text, matters, index: line.begin.index };
        out.tell(line.at, &event);
    }

    fn reply(&mut self, ends: &Ends, line: &Line<'_>, out: &mut Out<'_>) {
        let Some(answer) = self.dialogue.reply(line.text) else { return };
        let code = answer.code;
        match (answer.kind, code) {
            (Some(CommandKind::Tls | CommandKind::Auth), 234 | 334) => self.agreed = true,
            (Some(CommandKind::Active), 400..) => out.expected.refuse(ends.id, code),
            (Some(CommandKind::Transfer), code) => out.expected.answer(ends.id, code),
            _ => {}
        }
        out.tell(
            line.at,
            &FtpEvent::Reply {
                session: ends.id,
                line: line.text,
                code,
                asked: answer.kind,
                command: answer.command,
                matters: answer.concerns_data(),
                index: line.begin.index,
            },
        );
    }

    fn announced(&mut self, ends: &Ends, sender: Sender, line: &Line<'_>, read: Announcement, out: &mut Out<'_>) {
        self.announcements = self.announcements.saturating_add(1);
        let number = self.announcements;
        if self.told.len() == REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back((sender, line.begin.sequence, number));
        let Announcement { form, address, port, wrong } = read;
        let own = ends.own(sender);
        let helper_reads = line.begin.helper_outcome.read().filter(|_| line.begin.first);
        let helper_reads = helper_reads.map(|(_, address, port, _)| (address, port));
        let announced = Announced {
            session: ends.id,
            number,
            sender,
            form,
            line: line.text,
            address,
            port,
            wrong,
            foreign: address.is_some_and(|address| address != own),
            began: line.begin.at,
            helper: HelperOutcome::of(&line.begin, line.end, form),
            helper_reads: helper_reads.filter(|(there, on)| (Some(*there), Some(*on)) != (address, port)),
        };
        out.tell(line.at, &FtpEvent::Announced(announced));
        if let (Some(address), Some(port @ 1..)) = (address, port) {
            out.fresh.push_back(Open {
                session: ends.id,
                number,
                opener: sender.other(),
                from: ends.own(sender.other()),
                there: SocketAddr::new(address, port),
                own: (address != own).then(|| SocketAddr::new(own, port)),
                from_translated: ends.translated(sender.other()),
                met: 0,
                asked: false,
                begun: false,
                why: None,
            });
        }
    }

    /// A line that was heard before.
    fn again(&mut self, ends: &Ends, sender: Sender, line: &Line<'_>, out: &mut Out<'_>) {
        let read = announcement::read(sender, ends.own(sender), line, None);
        let Some(read) = read.filter(|read| line.end == End::Feed && read.wrong != Some(Wrong::NoBeginning)) else {
            return;
        };
        let same = |(by, at, _): &&(Sender, SequenceNumber, u32)| *by == sender && *at == line.begin.sequence;
        let number = self.told.iter().rev().find(same).map(|(.., number)| *number);
        let helper = HelperOutcome::of(&line.begin, line.end, read.form);
        let event = FtpEvent::Again { session: ends.id, number, sender, form: read.form, line: line.text, helper };
        out.tell(line.at, &event);
    }
}
