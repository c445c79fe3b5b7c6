//! What Linux's helper would do with each segment: the same packets go through a tracker and a helper that translate
//! nothing.
//!
//! Neither rules nor routes stand between, and no checksum is looked at: captures show packets before hardware filled
//! them in, with any time to live, from any address to any other.

use core::fmt;
use core::net::IpAddr;
use std::vec::Vec;

use super::lines::{Begin, End};
use crate::conntrack::{
    ConnectionId, Conntrack, ConntrackConfig, Direction, InvalidReason, Limits, PacketState, Status, Template, Tracked,
    Tuple,
};
use crate::event::{AnnouncementOutcome, DropReason, Event};
use crate::ftp::{Form, LineStarts, Sender};
use crate::helper::{FtpHelper, HelperConfig};
use crate::nat::Nat;
use crate::packet::{Headers, Layer4, Packet, Segment};
use crate::{Instant, SequenceNumber};

/// What the helper makes of an announcement.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Helper {
    /// It expects the data connection.
    Acts {
        /// Who is expected to open it to where; source port 0 stands for any.
        expected: Tuple,
    },
    /// It drops the packet.
    Drops(DropReason),
    /// It does nothing, and the packet passes.
    Passes(PassReason),
}

impl Helper {
    /// Whether it expects the data connection.
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
        }
    }
}

/// Why the helper does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassReason {
    /// Linux's helper does not know `LPRT` and 228.
    Form,
    /// It is the first line that conntrack saw of its side: where lines begin is not known before one has ended.
    FirstLine,
    /// Its segment does not begin where an earlier one, that ended in a line feed, ended.
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
    /// The beginning of the connection is not in the capture, and what comes first is from the server: conntrack takes
    /// it for the client, so that the connection has no helper.
    ServerFirst,
    /// Conntrack has not seen packets both ways.
    OneSided,
    /// The connection has no helper: there were too many at once.
    NoHelper,
    /// The capture has not all of its line.
    Lost,
    /// Its segment came while another before it was missing.
    Unknown,
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
            Self::ForeignAddress => f.write_str("not its sender's own address"),
            Self::Invalid(reason) => write!(f, "its segment is invalid for conntrack: {}", invalid(*reason)),
            Self::ServerFirst => f.write_str(
                "the connection's beginning is not in the capture, and conntrack takes the server, which speaks first, \
                 for the client",
            ),
            Self::OneSided => f.write_str("conntrack has not seen packets both ways"),
            Self::NoHelper => f.write_str("no room for another connection with a helper"),
            Self::Lost => f.write_str("the capture has not all of its line"),
            Self::Unknown => f.write_str("not known"),
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

/// What became of one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HelperOutcome {
    /// Why the helper does not look at it.
    unread: Option<PassReason>,
    outcome: Outcome,
    /// Whether the capture has only its beginning.
    cut: bool,
    /// Whether it began as an expected connection.
    pub(super) related: bool,
}

impl Default for HelperOutcome {
    fn default() -> Self {
        Self { unread: Some(PassReason::Unknown), outcome: Outcome::Nothing, cut: false, related: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Nothing,
    Announced { form: Form, address: IpAddr, port: u16, helper: Helper },
    Partial(Form),
}

impl HelperOutcome {
    /// What the helper makes of the announcement in a line that begins so.
    pub(super) fn of(begin: &Begin, end: End, form: Form) -> Helper {
        let helper_outcome = &begin.helper_outcome;
        if matches!(form, Form::Lprt | Form::Lpsv) {
            return Helper::Passes(PassReason::Form);
        }
        if helper_outcome.cut && end == End::Lost {
            return Helper::Passes(PassReason::Lost);
        }
        match helper_outcome.outcome {
            _ if !begin.first && begin.index > 0 => Helper::Passes(PassReason::Behind(begin.index)),
            _ if !begin.first => Helper::Passes(PassReason::Inside),
            Outcome::Announced { form: read, helper, .. } if read == form => helper,
            Outcome::Partial(read) if read == form => Helper::Drops(DropReason::PartialAnnouncement),
            _ => Helper::Passes(helper_outcome.unread.unwrap_or(PassReason::NotAsLinuxReads)),
        }
    }

    /// The endpoint that the helper reads, and what it makes of it.
    pub(super) const fn read(&self) -> Option<(Form, IpAddr, u16, Helper)> {
        match self.outcome {
            Outcome::Announced { form, address, port, helper } => Some((form, address, port, helper)),
            _ => None,
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

/// What is remembered of a control connection: what the helper knows of where its lines begin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    connection: Option<ConnectionId>,
    starts: LineStarts,
    spoken: [bool; 2],
}

/// A packet to be judged.
pub(super) struct Case<'a> {
    pub(super) time: Instant,
    /// Its headers; the buffer has room behind the packet.
    pub(super) headers: &'a Headers,
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) length: usize,
    /// How much of it was captured.
    pub(super) captured: usize,
}

impl Case<'_> {
    const fn is_cut(&self) -> bool {
        self.captured < self.length
    }

    /// Stands in for text that the capture lacks, which is zeros otherwise. Nearly every segment of a control connection
    /// ends its line, and where the next line begins depends on that; and what is lacking must not be what makes an
    /// announcement malformed. Gives what stood where the text begins, to be put back.
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
        let config = ConntrackConfig { limits, ..ConntrackConfig::default() };
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
        let first = case.pretend(&segment);
        let mut helper_outcome = match self.track(case, template) {
            Ok(tracked) => self.help(case, followed, sender, &tracked),
            Err(_) => HelperOutcome { unread: Some(PassReason::NoHelper), ..HelperOutcome::default() },
        };
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
        if let PacketState::Invalid(reason) = tracked.state {
            return unread(PassReason::Invalid(reason));
        }
        let Some(id) = tracked.connection else { return HelperOutcome::default() };
        if followed.connection != Some(id) {
            *followed = Followed { connection: Some(id), ..Followed::default() };
        }
        if Sender::from(tracked.direction) != sender {
            return unread(PassReason::ServerFirst);
        }
        if self.conntrack.get(id).is_none_or(|connection| !connection.has_helper()) {
            return unread(PassReason::NoHelper);
        }
        if tracked.state != PacketState::Established {
            return unread(PassReason::OneSided);
        }
        let mut headers = *case.headers;
        let Layer4::Tcp(segment) = headers.layer4 else { return HelperOutcome::default() };
        let Ok(mut packet) = Packet::new(case.buffer, 0..case.length) else { return HelperOutcome::default() };
        let payload = headers.payload(packet.bytes());
        let feed = payload.last().map(|last| *last == b'\n');
        let helper_outcome =
            HelperOutcome { unread: followed.why(sender, segment.sequence), ..HelperOutcome::default() };
        let end = segment.sequence + payload.len() as u32;
        // What it does and why is in the events.
        let passes =
            self.helper.process(case.time, &mut self.conntrack, &mut self.nat, tracked, &mut packet, &mut headers);
        if let (Some(feed), true) = (feed, passes != Err(DropReason::PartialAnnouncement)) {
            followed.note(sender, feed, end);
        }
        helper_outcome
    }
}

impl Followed {
    /// Why a segment that begins here is not read; `None` if it is.
    fn why(&self, sender: Sender, sequence: SequenceNumber) -> Option<PassReason> {
        if self.starts.begins_line(sender, sequence) {
            return None;
        }
        let spoken = self.spoken[Direction::from(sender) as usize];
        Some(if spoken { PassReason::NotALineStart } else { PassReason::FirstLine })
    }

    fn note(&mut self, sender: Sender, feed: bool, end: SequenceNumber) {
        self.spoken[Direction::from(sender) as usize] = true;
        if feed {
            self.starts.note(sender, end);
        }
    }
}
