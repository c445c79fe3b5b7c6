//! The actions of Linux's helper on each segment: the same packets go through a tracker and a helper that translate
//! nothing.
//!
//! Neither rules nor routes stand between, and no checksum is looked at: captures show packets before hardware filled
//! them in, with any time to live, from any address to any other.

use core::fmt;
use core::net::IpAddr;
use std::vec::Vec;

use super::Began;
use super::lines::{Begin, End};
use super::synthetic::Synthetic;
use crate::conntrack::{
    ConnectionId, Conntrack, ConntrackConfig, Direction, InvalidReason, Limits, PacketState, Status, Template, Tracked,
    Tuple,
};
use crate::event::{AnnouncementOutcome, DropReason, Event};
use crate::ftp::{Form, LineStarts, Sender};
use crate::helper::{FtpHelper, HelperConfig};
use crate::nat::Nat;
use crate::packet::{Headers, Layer4, Packet, Segment, TcpFlags};
use crate::{Instant, SequenceNumber};

/// The action of the helper on an announcement.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Helper {
    /// It expects the data connection.
    Acts {
        /// Ends of the expected connection; source port 0 is any.
        expected: Tuple,
    },
    /// It drops the packet.
    Drops(DropReason),
    /// It does nothing, and the packet passes.
    Passes(PassReason),
    /// The capture does not show what it does.
    Unknown(Unjudged),
}

impl Helper {
    /// Returns true if the helper expects the data connection.
    #[must_use]
    pub const fn acts(&self) -> bool {
        matches!(self, Self::Acts { .. })
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acts { .. } => f.write_str("expects the data connection"),
            Self::Drops(DropReason::PartialAnnouncement) => {
                f.write_str("the packet is dropped: its segment begins like an announcement and has not all of one")
            }
            Self::Drops(reason) => write!(f, "the packet is dropped: {reason}"),
            Self::Passes(why) => why.fmt(f),
            Self::Unknown(why) => write!(f, "cannot be judged: {why}"),
        }
    }
}

/// The reason why the helper does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassReason {
    /// Linux's helper does not know `LPRT` and 228.
    Form,
    /// It is the first line that conntrack saw of its side: where lines begin is not known before one has ended.
    FirstLine,
    /// The segment does not begin where an earlier one, that ended in a line feed, ended.
    NotALineStart,
    /// So many lines stand before it in its segment, and only the first is read.
    Behind(u32),
    /// It begins inside its segment.
    Inside,
    /// The line does not begin as the helper wants it: with the bare word, or with the code and a blank.
    NotAsLinuxReads,
    /// The address is not its sender's own (`loose=0`).
    ForeignAddress,
    /// Conntrack takes its segment for invalid.
    Invalid(InvalidReason),
    /// Conntrack has not seen packets both ways.
    OneSided,
}

/// The reason why a capture does not show what the helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unjudged {
    /// The connection began before the capture: nobody knows whether conntrack and the helper saw its beginning.
    MidStream,
    /// The capture has not all of the line.
    PartOfLine,
    /// The capture lacks what comes before the segment.
    Gap,
    /// More connections at once than the inspector follows.
    TooMany,
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MidStream => "the connection began before the capture",
            Self::PartOfLine => "the capture has not all of the line",
            Self::Gap => "the capture lacks what comes before the segment",
            Self::TooMany => "more connections at once than are followed",
        })
    }
}

impl fmt::Display for PassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("the helper does not know this form"),
            Self::FirstLine => {
                f.write_str("the first line of its side: the helper does not know yet where lines begin")
            }
            Self::NotALineStart => f.write_str("its segment does not begin where one ended in a line feed"),
            Self::Behind(1) => f.write_str("one line stands before it in its segment, and only the first is read"),
            Self::Behind(lines) => {
                write!(f, "{lines} lines stand before it in its segment, and only the first is read")
            }
            Self::Inside => f.write_str("it begins inside its segment"),
            Self::NotAsLinuxReads => f.write_str("the line does not begin as the helper wants it"),
            Self::ForeignAddress => f.write_str("the address announced is not the sender's"),
            Self::Invalid(reason) => write!(f, "its segment is invalid for conntrack: {}", invalid(*reason)),
            Self::OneSided => f.write_str("conntrack has not seen packets both ways"),
        }
    }
}

fn invalid(reason: InvalidReason) -> &'static str {
    use crate::conntrack::TcpInvalid;
    match reason {
        InvalidReason::Header => "its header is damaged",
        InvalidReason::Checksum => "its checksum is wrong",
        InvalidReason::Protocol => "it has no place in a connection",
        InvalidReason::IcmpError => "an ICMP error about nothing",
        InvalidReason::Tcp(TcpInvalid::Flags) => "its flags make no sense",
        InvalidReason::Tcp(TcpInvalid::OldReset) => "a reset with an old number",
        InvalidReason::Tcp(TcpInvalid::AboveWindow) => "beyond the receiver's window",
        InvalidReason::Tcp(TcpInvalid::AcknowledgesUnsent) => "it acknowledges what was not sent",
        InvalidReason::Tcp(_) => "no such segment may come in the connection's state",
    }
}

/// The helper's action on one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HelperOutcome {
    /// Reason why the helper does not look at it.
    unread: Option<Helper>,
    outcome: Outcome,
    /// True if the capture has only its beginning.
    cut: bool,
    /// True if it began as an expected connection.
    pub(super) related: bool,
}

impl Default for HelperOutcome {
    fn default() -> Self {
        Self { unread: Some(Helper::Unknown(Unjudged::Gap)), outcome: Outcome::Nothing, cut: false, related: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Nothing,
    Announced { form: Form, address: IpAddr, port: u16, helper: Helper },
    Partial(Form),
}

impl HelperOutcome {
    /// Returns the helper's action on the announcement in a line that begins so.
    pub(super) fn of(begin: &Begin, end: End, form: Form) -> Helper {
        let helper_outcome = &begin.helper_outcome;
        if matches!(form, Form::Lprt | Form::Lpsv) {
            return Helper::Passes(PassReason::Form);
        }
        if helper_outcome.cut && end == End::Lost {
            return Helper::Unknown(Unjudged::PartOfLine);
        }
        if let Some(unknown @ Helper::Unknown(Unjudged::MidStream | Unjudged::TooMany)) = helper_outcome.unread {
            return unknown;
        }
        match helper_outcome.outcome {
            _ if !begin.first && begin.index > 0 => Helper::Passes(PassReason::Behind(begin.index)),
            _ if !begin.first => Helper::Passes(PassReason::Inside),
            Outcome::Announced { form: read, helper, .. } if read == form => helper,
            Outcome::Partial(read) if read == form => Helper::Drops(DropReason::PartialAnnouncement),
            _ => helper_outcome.unread.unwrap_or(Helper::Passes(PassReason::NotAsLinuxReads)),
        }
    }

    /// The endpoint that the helper reads, and what it makes of it.
    pub(super) const fn read(&self) -> Option<(Form, IpAddr, u16, Helper)> {
        match self.outcome {
            Outcome::Announced { form, address, port, helper } => Some((form, address, port, helper)),
            _ => None,
        }
    }

    /// The capture lacks what comes before the segment: where lines begin cannot be known.
    pub(super) const fn follow_gap(&mut self) {
        if let Some(Helper::Passes(PassReason::NotALineStart | PassReason::FirstLine)) = self.unread {
            self.unread = Some(Helper::Unknown(Unjudged::Gap));
        }
    }

    /// The form it begins like, if the helper drops the segment for it.
    pub(super) const fn partial(&self) -> Option<Form> {
        match self.outcome {
            Outcome::Partial(form) if !self.cut => Some(form),
            _ => None,
        }
    }
}

/// The state kept of a control connection: the line starts that the helper knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    connection: Option<ConnectionId>,
    starts: LineStarts,
    spoken: [bool; 2],
    /// The sequence number after the last byte of each side, as conntrack saw it.
    end: [Option<SequenceNumber>; 2],
    /// True if the client acknowledged the server's SYN.
    acknowledged: bool,
    /// True if the connection began before the capture.
    mid_stream: bool,
}

/// A packet to be judged.
pub(super) struct Case<'a> {
    pub(super) time: Instant,
    /// Headers; the buffer has room after the packet.
    pub(super) headers: &'a Headers,
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) length: usize,
    /// Number of bytes that were captured.
    pub(super) captured: usize,
}

/// Maximum number of missing bytes that are made up: no more are on their way unacknowledged on a control connection.
const MAX_MADE_UP: u16 = 1 << 15;

impl Case<'_> {
    const fn is_cut(&self) -> bool {
        self.captured < self.length
    }

    /// Fills in text that the capture lacks, which would be zeros otherwise. Nearly every segment of a control
    /// connection ends its line, and the start of the next line depends on that. Missing text must not make an
    /// announcement malformed either. Returns the byte that was replaced, to be put back.
    fn pretend(&mut self, segment: &Segment) -> Option<u8> {
        if self.captured >= self.length || segment.payload >= self.length {
            return None;
        }
        *self.buffer.get_mut(self.length - 1)? = b'\n';
        let text = self.buffer.get(segment.payload..self.captured).unwrap_or_default();
        if text.is_empty() || text.contains(&b'\n') {
            return None;
        }
        Some(core::mem::take(self.buffer.get_mut(segment.payload)?))
    }
}

/// So many control connections are tracked for each that is followed: some are over, and not forgotten.
const HELPED_FOR_EACH: u32 = 4;
/// So many connections, for each of those: data connections, open ones and those in TIME_WAIT.
const CONNECTIONS_FOR_EACH: u32 = 2;
/// The seeds do not matter: nothing is chosen by chance.
const SEEDS: [u64; 4] = [0x696e_7370, 0x6563_7400, 0x6a75_6467, 0x6500_0000];

/// A tracker and its helper.
pub(super) struct HelperOracle {
    conntrack: Conntrack,
    helper: FtpHelper,
    nat: Nat,
}

impl HelperOracle {
    /// For so many control connections at once.
    pub(super) fn new(sessions: u32) -> Self {
        let [a, b, c, d] = SEEDS;
        let helped = sessions * HELPED_FOR_EACH;
        let limits = Limits::new(helped * CONNECTIONS_FOR_EACH, helped, helped);
        let mut config = ConntrackConfig { limits, ..ConntrackConfig::default() };
        // A capture lacks acknowledgements; the connection does not end for that.
        config.tcp.retransmission = config.tcp.established;
        config.tcp.unacknowledged = config.tcp.established;
        Self {
            conntrack: Conntrack::new(config, [a, b]),
            helper: FtpHelper::new(HelperConfig::default(), helped),
            nat: Nat::new([c, d]),
        }
    }

    /// A packet of a data connection, or of one that may be. Whether it begins one that was expected.
    pub(super) fn data(&mut self, case: &Case<'_>) -> bool {
        self.conntrack.handle_timeout(case.time);
        let related = match self.track(case, Template::default()) {
            Ok(tracked) => tracked.state == PacketState::Related,
            Err(_) => false,
        };
        while self.conntrack.events.pop().is_some() {}
        related
    }

    /// A packet of a control connection, from `sender`; `dialled`: it goes to a control port.
    pub(super) fn control(
        &mut self,
        case: &mut Case<'_>,
        followed: &mut Followed,
        sender: Sender,
        dialled: bool,
    ) -> HelperOutcome {
        self.conntrack.handle_timeout(case.time);
        while self.conntrack.events.pop().is_some() {}
        let template = if dialled { Template::FTP } else { Template::default() };
        let Layer4::Tcp(segment) = case.headers.layer4 else { return HelperOutcome::default() };
        self.make_up(case, followed, sender);
        let first = case.pretend(&segment);
        let mut helper_outcome = match self.track(case, template) {
            Ok(tracked) => self.help(case, followed, sender, &tracked),
            Err(_) => HelperOutcome { unread: Some(Helper::Unknown(Unjudged::TooMany)), ..HelperOutcome::default() },
        };
        if followed.mid_stream {
            helper_outcome.unread = Some(Helper::Unknown(Unjudged::MidStream));
        }
        followed.see(sender, &segment, case.length);
        if let (Some(first), Some(place)) = (first, case.buffer.get_mut(segment.payload)) {
            *place = first;
        }
        helper_outcome.cut = case.is_cut();
        while let Some((_, event)) = self.conntrack.events.pop() {
            match event {
                Event::Announced { form, address, port, outcome, .. } => {
                    let helper = match outcome {
                        AnnouncementOutcome::Expected { expected, .. } => Helper::Acts { expected },
                        AnnouncementOutcome::Refused(reason) => Helper::Drops(reason),
                        _ => Helper::Passes(PassReason::ForeignAddress),
                    };
                    helper_outcome.outcome = Outcome::Announced { form, address, port, helper };
                }
                Event::PartialAnnouncement { form, .. } => helper_outcome.outcome = Outcome::Partial(form),
                _ => {}
            }
        }
        helper_outcome
    }

    /// Shows conntrack what the capture lacks and must have passed before this packet: the handshake, and bytes of the
    /// other side that it acknowledges, which stand for whole lines.
    fn make_up(&mut self, case: &Case<'_>, followed: &mut Followed, sender: Sender) {
        let Layer4::Tcp(segment) = case.headers.layer4 else { return };
        if followed.mid_stream || !segment.flags.has(TcpFlags::ACK) || segment.flags.has(TcpFlags::RST) {
            return;
        }
        let acknowledged = segment.acknowledgement;
        let bare =
            Synthetic { sequence: acknowledged, acknowledgement: segment.sequence, flags: TcpFlags::ACK, payload: 0 };
        match followed.end(sender.other()) {
            None => {
                let ack = if sender == Sender::Client { TcpFlags::ACK } else { 0 };
                let sequence = acknowledged + u32::MAX;
                self.show(case, followed, sender, Synthetic { sequence, flags: TcpFlags::SYN | ack, ..bare });
            }
            Some(end) => {
                let missing = u16::try_from(acknowledged.since(end)).unwrap_or(0);
                if (1..=MAX_MADE_UP).contains(&missing) {
                    let bytes = Synthetic { sequence: end, payload: missing, ..bare };
                    self.show(case, followed, sender, bytes);
                }
            }
        }
        let speaks = sender == Sender::Server && case.length > segment.payload;
        if speaks && !followed.acknowledged {
            self.show(case, followed, sender, bare);
        }
    }

    /// Shows a made-up segment of the side that receives the packet at hand.
    fn show(&mut self, case: &Case<'_>, followed: &mut Followed, sender: Sender, made_up: Synthetic) {
        let Some(mut buffer) = made_up.packet(case.buffer, case.headers, true) else { return };
        let Ok(headers) = Headers::find_cut(&buffer) else { return };
        let Layer4::Tcp(segment) = headers.layer4 else { return };
        let length = headers.end;
        buffer.resize(length + Packet::ROOM, 0);
        let from = sender.other();
        let template = if from == Sender::Client { Template::FTP } else { Template::default() };
        let mut case = Case { time: case.time, headers: &headers, buffer: &mut buffer, length, captured: length };
        if let Ok(tracked) = self.track(&case, template) {
            let _ = self.help(&mut case, followed, from, &tracked);
        }
        while self.conntrack.events.pop().is_some() {}
        followed.see(from, &segment, length);
    }

    /// A control connection is given up: makes room for others.
    pub(super) fn forget(&mut self, now: Instant, followed: &Followed) {
        if let Some(id) = followed.connection {
            self.conntrack.delete(now, id);
            while self.conntrack.events.pop().is_some() {}
        }
    }

    fn track(&mut self, case: &Case<'_>, template: Template) -> Result<Tracked, DropReason> {
        let bytes = case.buffer.get(..case.length).unwrap_or_default();
        let tracked = self.conntrack.track(case.time, bytes, case.headers, template)?;
        if let Some(id) = tracked.connection
            && self.conntrack.get(id).is_some_and(|connection| !connection.status().has(Status::CONFIRMED))
        {
            self.conntrack.confirm(case.time, id)?;
        }
        Ok(tracked)
    }

    /// Lets the helper read a packet, and notes what it learns of where lines begin.
    fn help(
        &mut self,
        case: &mut Case<'_>,
        followed: &mut Followed,
        sender: Sender,
        tracked: &Tracked,
    ) -> HelperOutcome {
        let unread = |why| HelperOutcome { unread: Some(why), ..HelperOutcome::default() };
        let passes = |why| unread(Helper::Passes(why));
        if let PacketState::Invalid(reason) = tracked.state {
            return passes(PassReason::Invalid(reason));
        }
        let Some(id) = tracked.connection else { return HelperOutcome::default() };
        if followed.connection != Some(id) {
            *followed =
                Followed { connection: Some(id), starts: LineStarts::default(), spoken: [false; 2], ..*followed };
        }
        if Sender::from(tracked.direction) != sender {
            return unread(Helper::Unknown(Unjudged::MidStream));
        }
        if self.conntrack.get(id).is_none_or(|connection| !connection.has_helper()) {
            return unread(Helper::Unknown(Unjudged::TooMany));
        }
        if tracked.state != PacketState::Established {
            return passes(PassReason::OneSided);
        }
        let mut headers = *case.headers;
        let Layer4::Tcp(segment) = headers.layer4 else { return HelperOutcome::default() };
        let Ok(mut packet) = Packet::new(case.buffer, 0..case.length) else { return HelperOutcome::default() };
        let payload = headers.payload(packet.bytes());
        let feed = payload.last().map(|last| *last == b'\n');
        let helper_outcome = HelperOutcome {
            unread: followed.why(sender, segment.sequence).map(Helper::Passes),
            ..HelperOutcome::default()
        };
        let end = segment.sequence + payload.len() as u32;
        // The events tell the outcome and its reason.
        let outcome =
            self.helper.read(case.time, &mut self.conntrack, &mut self.nat, tracked, &mut packet, &mut headers);
        if let (Some(feed), true) = (feed, outcome != Err(DropReason::PartialAnnouncement)) {
            followed.note(sender, feed, end);
        }
        helper_outcome
    }
}

impl Followed {
    pub(super) fn new(began: Began) -> Self {
        Self { mid_stream: began == Began::MidStream, ..Self::default() }
    }

    /// Returns the reason why a segment that begins here is not read; `None` if it is.
    fn why(&self, sender: Sender, sequence: SequenceNumber) -> Option<PassReason> {
        if self.starts.begins_line(sender, sequence) {
            return None;
        }
        let spoken = self.spoken[Direction::from(sender) as usize];
        Some(if spoken { PassReason::NotALineStart } else { PassReason::FirstLine })
    }

    /// Returns the sequence number after the last byte of a side.
    fn end(&self, sender: Sender) -> Option<SequenceNumber> {
        self.end[Direction::from(sender) as usize]
    }

    /// Notes how far a side's stream has come.
    fn see(&mut self, sender: Sender, segment: &Segment, length: usize) {
        if segment.flags.has(TcpFlags::RST) {
            return;
        }
        self.acknowledged |= sender == Sender::Client && segment.flags.has(TcpFlags::ACK);
        let payload = length.saturating_sub(segment.payload) as u32;
        let marks = u32::from(segment.flags.has(TcpFlags::SYN)) + u32::from(segment.flags.has(TcpFlags::FIN));
        let end = segment.sequence + (payload + marks);
        let known = &mut self.end[Direction::from(sender) as usize];
        *known = Some(known.map_or(end, |latest| latest.later(end)));
    }

    fn note(&mut self, sender: Sender, feed: bool, end: SequenceNumber) {
        self.spoken[Direction::from(sender) as usize] = true;
        if feed {
            self.starts.note(sender, end);
        }
    }
}
