//! Hears one side of a control connection, and decides about what it announces.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use super::super::{Job, MAX_PORT_ATTEMPTS, announced};
use super::dialogue::{Answer, Dialogue};
use super::learnt::Learnt;
use super::policy::Policy;
use super::refusal::RefusalReason;
use super::stream::ReadLines;
use crate::conntrack::{Connection, Conntrack, ExpectError, ExpectationId, OnMatch, Tuple};
use crate::event::{AnnouncementOutcome, Event};
use crate::ftp::{
    self, Announcement, Command, Decision, Endpoints, Expect, Form, HostPort, LineReading, Reading, Sender, Text,
    decide, read_line, write_like,
};
use crate::nat::Nat;

/// Who listens to one side.
pub(super) struct LineHandler<'h> {
    pub(super) job: Job,
    pub(super) ends: Endpoints,
    /// The server's end of the control connection.
    pub(super) server: SocketAddr,
    pub(super) policy: &'h Policy,
    /// True if the helper is loose.
    pub(super) loose: bool,
    pub(super) dialogue: &'h mut Dialogue,
    pub(super) learnt: &'h mut Learnt,
    pub(super) conntrack: &'h mut Conntrack,
    pub(super) nat: &'h mut Nat,
    /// Whether what follows, on both sides, is TLS.
    pub(super) tls: bool,
}

/// A reply's code and what stands behind it.
const CODE: usize = 4;

impl ReadLines for LineHandler<'_> {
    fn may_leave(&mut self, begun: &[u8]) -> bool {
        match self.job.sender {
            Sender::Client => !ftp::may_announce(begun),
            Sender::Server => self.reply_may_leave(begun),
        }
    }

    fn line(&mut self, line: &[u8], left: bool) -> Option<(Range<usize>, Text)> {
        match self.job.sender {
            Sender::Client => self.command(line, left),
            Sender::Server => self.reply(line, left),
        }
    }

    fn stops(&self) -> bool {
        self.tls
    }
}

impl LineHandler<'_> {
    /// Whether a reply's line may leave before it is complete. Its code must be heard first.
    fn reply_may_leave(&mut self, begun: &[u8]) -> bool {
        let is_code = begun.iter().take(CODE - 1).all(u8::is_ascii_digit);
        if begun.len() < CODE && is_code {
            return false;
        }
        let mut replies = self.dialogue.replies();
        !matches!(replies.code_of(begun), Some((227..=229, _)))
    }

    fn command(&mut self, line: &[u8], left: bool) -> Option<(Range<usize>, Text)> {
        let mut expected = None;
        let mut replacement = None;
        if !left {
            let mut replies = self.dialogue.replies();
            let reading = read_line(Sender::Client, self.ends.client, line, &mut replies);
            match self.judge(reading, line) {
                LineAction::Nothing => {}
                LineAction::Accepted(id, replaced) => (expected, replacement) = (Some(id), replaced),
                LineAction::Refused(form) => {
                    let range = ftp::hidden_announcement(line).map(|(_, range)| range);
                    let range = range.or_else(|| Command::argument_range(line)).unwrap_or_default();
                    replacement = Some((range, refused(form, self.ends.client)));
                }
            }
        }
        self.dialogue.command(line, expected);
        replacement
    }

    fn reply(&mut self, line: &[u8], left: bool) -> Option<(Range<usize>, Text)> {
        let mut replies = self.dialogue.replies();
        let mut replacement = None;
        if left {
            replies.code_of(line);
        } else {
            let reading = read_line(Sender::Server, self.ends.server, line, &mut replies);
            match self.judge(reading, line) {
                LineAction::Nothing => {}
                LineAction::Accepted(_, replaced) => replacement = replaced,
                LineAction::Refused(_) => replacement = Some(refusal(line, replies.continues())),
            }
        }
        match self.dialogue.reply(line, replies) {
            Answer::Nothing => {}
            Answer::Unwanted(expected) => self.conntrack.unexpect(self.job.now, expected),
            Answer::Tls => self.tls = true,
        }
        replacement
    }

    fn judge(&mut self, reading: LineReading, line: &[u8]) -> LineAction {
        let (form, result) = match reading {
            LineReading::Announcement(announcement) => (announcement.form, self.open(announcement, line)),
            LineReading::Malformed(form, error) => {
                let asked = form.sender() == Sender::Client || self.dialogue.awaits_passive();
                (form, Err(if asked { RefusalReason::Malformed(error) } else { RefusalReason::Unasked }))
            }
            LineReading::Nothing => return LineAction::Nothing,
        };
        result.unwrap_or_else(|reason| {
            let event = Event::Denied { connection: self.job.id, sender: self.job.sender, form, reason };
            self.conntrack.events.push(self.job.now, event);
            LineAction::Refused(form)
        })
    }

    /// Expects what is announced, if it may be.
    fn open(&mut self, mut announcement: Announcement, line: &[u8]) -> Result<LineAction, RefusalReason> {
        let (own, said) = (self.ends.own(self.job.sender), (announcement.address, announcement.port));
        // A server may know the address by which its clients know it.
        let means_own = announcement.address.is_unspecified() || announcement.address == self.ends.dialled;
        let mends = self.job.sender == Sender::Server && self.mends(announcement.address);
        if self.job.sender == Sender::Server && (means_own || mends) {
            announcement.address = own;
        }
        self.may_open(&announcement, own)?;
        let foreign = announcement.address != own;
        let Decision::Expect(expect) =
            decide(Reading::Announcement(announcement), self.job.sender, &self.ends, foreign)
        else {
            return Err(RefusalReason::ForeignAddress(announcement.address));
        };
        let translated = self.job.rewrites && self.conntrack.get(self.job.id).is_some_and(Connection::is_altered);
        let (tuple, id) = if translated && !foreign {
            self.find_port(&expect)?
        } else {
            let tuple = self.job.expected_tuple(&expect, announcement.port).ok_or(RefusalReason::NoPort)?;
            (tuple, self.job.register(self.conntrack, tuple, OnMatch::Nothing).map_err(no_room)?)
        };
        let before = line.get(announcement.range()).unwrap_or_default();
        // A true announcement keeps its spelling, unless some server may find a second one in it.
        let (port, writes) = (tuple.destination_port(), (translated && !foreign) || mends);
        let is_odd = announcement.form == Form::Port && HostPort::parse(before).is_err();
        let text = (writes && (is_odd || said != (expect.announce, port)))
            .then(|| write_like(announcement.form, before, expect.announce, port))
            .filter(|text| text.as_bytes() != before);
        if self.job.sender == Sender::Server && !foreign {
            self.learnt.note(self.job.now, self.server, said.1);
        }
        self.tell(&Announcement { address: said.0, ..announcement }, tuple, before, text);
        let replacement = text.map(|text| (announcement.range(), text));
        Ok(LineAction::Accepted(id, replacement))
    }

    /// Whether a server that announces this address is taken to mean its own.
    fn mends(&self, address: IpAddr) -> bool {
        let is_of_family = address.is_ipv4() == self.ends.server.is_ipv4();
        self.policy.rewrite_foreign_pasv && is_of_family && !self.allows(address)
    }

    fn allows(&self, third_party: IpAddr) -> bool {
        self.policy.allows_third_party(third_party, self.loose)
    }

    /// The announced port, or, where another control connection announced it, any other.
    fn find_port(&mut self, expect: &Expect) -> Result<(Tuple, ExpectationId), RefusalReason> {
        let announced = expect.destination.port();
        let on_match = OnMatch::FollowMaster { direction: self.job.direction.other(), port: Some(announced) };
        let (first, now) = (self.policy.lowest_port.max(1), self.job.now);
        let mut port = announced;
        for _ in 0..MAX_PORT_ATTEMPTS {
            let tuple = self.job.expected_tuple(expect, port).ok_or(RefusalReason::NoPort)?;
            match self.job.register(self.conntrack, tuple, on_match) {
                Ok(id) => return Ok((tuple, id)),
                Err(ExpectError::Busy) => {}
                Err(error) => return Err(no_room(error)),
            }
            let (job, conntrack) = (&self.job, &*self.conntrack);
            let is_free =
                |port| job.expected_tuple(expect, port).is_some_and(|tuple| !conntrack.has_pending(now, &tuple));
            port = self.nat.choices.port(first, u32::from(u16::MAX - first) + 1, is_free);
        }
        Err(RefusalReason::NoPort)
    }

    fn tell(&mut self, announcement: &Announcement, expected: Tuple, before: &[u8], after: Option<Text>) {
        let outcome = AnnouncementOutcome::Expected { expected, before: Text::copy_of(before), after };
        let event = announced(self.job.id, self.job.sender, announcement, outcome);
        self.conntrack.events.push(self.job.now, event);
    }

    fn may_open(&self, announcement: &Announcement, own: IpAddr) -> Result<(), RefusalReason> {
        if self.job.sender == Sender::Server && !self.dialogue.awaits_passive() {
            return Err(RefusalReason::Unasked);
        }
        if self.policy.require_login && self.dialogue.is_something_else() {
            return Err(RefusalReason::NotFtp);
        }
        if self.policy.require_login && !self.dialogue.is_logged_in() {
            return Err(RefusalReason::NotLoggedIn);
        }
        if announcement.address != own && !self.allows(announcement.address) {
            return Err(RefusalReason::ForeignAddress(announcement.address));
        }
        if announcement.port < self.policy.lowest_port {
            return Err(RefusalReason::LowPort(announcement.port));
        }
        Ok(())
    }
}

/// What was decided about a line.
enum LineAction {
    Nothing,
    /// It opens this, and is to say that.
    Accepted(ExpectationId, Option<(Range<usize>, Text)>),
    Refused(Form),
}

/// The reason to refuse an announcement whose expectation cannot be registered.
const fn no_room(error: ExpectError) -> RefusalReason {
    match error {
        ExpectError::HostFull => RefusalReason::ClientFull,
        ExpectError::Busy => RefusalReason::NoPort,
        ExpectError::Full | ExpectError::NoMaster => RefusalReason::TableFull,
    }
}

/// An argument that every server refuses.
fn refused(form: Form, like: IpAddr) -> Text {
    let nowhere: IpAddr = match like {
        IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) if form == Form::Port => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    ftp::write(form, nowhere, 0)
}

/// A reply that tells the client that there will be no data connection (RFC 959 section 4.2), for a line of one that
/// would have told where.
fn refusal(line: &[u8], continues: bool) -> (Range<usize>, Text) {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let text: &[u8] = if continues { b"425-No data connection." } else { b"425 No data connection." };
    (0..end, Text::copy_of(text))
}
