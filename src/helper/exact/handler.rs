//! Reads one side of a control connection, and decides about what it announces.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use super::super::{Job, MAX_PORT_ATTEMPTS, announced};
use super::learnt::Learnt;
use super::policy::Policy;
use super::refusal::RefusalReason;
use super::stream::{Instead, ReadLines, UNIT_EDITS, UnitEdits, Until};
use crate::conntrack::{Connection, Conntrack, ExpectError, ExpectationId, OnMatch, Tuple};
use crate::event::{AnnouncementOutcome, Event};
use crate::ftp::{
    self, Announcement, Command, CommandKind, Decision, Dialogue, Endpoints, Expect, Form, HostPort, HostPortError,
    LineReading, Reading, Sender, Text, decide, read_line, write_like,
};
use crate::nat::Nat;

/// Reads one side's commands or replies.
pub(super) struct LineHandler<'h> {
    pub(super) job: Job,
    pub(super) ends: Endpoints,
    /// True if the client is a program on this machine.
    pub(super) client_is_local: bool,
    /// The server's end of the control connection.
    pub(super) server: SocketAddr,
    pub(super) policy: &'h Policy,
    /// True if the helper is loose.
    pub(super) loose: bool,
    pub(super) dialogue: &'h mut Dialogue<ExpectationId>,
    pub(super) learnt: &'h mut Learnt,
    pub(super) conntrack: &'h mut Conntrack,
    pub(super) nat: &'h mut Nat,
    /// Set if what follows, on both sides, is not read: true if it is TLS, false if it may be.
    pub(super) tls: Option<bool>,
    /// The same, until the stream was told.
    pub(super) stops: Option<bool>,
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

    fn may_announce_later(&self, rest: &[u8]) -> Option<usize> {
        let is_client = self.job.sender == Sender::Client;
        if is_client { ftp::may_announce_later(rest) } else { None }
    }

    fn complete_later(&mut self, rest: &[u8], edits: &mut UnitEdits) {
        if let Some((form, range)) = ftp::hidden_announcement(rest) {
            self.tell_refused(form, RefusalReason::Malformed(HostPortError::Verb));
            edits.set(range, refused(form, self.ends.client));
        }
    }

    fn unit(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = bytes.iter().position(|byte| *byte == b'\n')? + 1;
        if self.job.sender == Sender::Client {
            return Some(first);
        }
        let mut replies = self.dialogue.replies();
        let mut end = first;
        if let Some((227..=229, _)) = replies.code_of(bytes.get(..first)?) {
            while replies.continues() {
                let rest = bytes.get(end..)?;
                let len = rest.iter().position(|byte| *byte == b'\n')? + 1;
                replies.code_of(rest.get(..len)?);
                end += len;
            }
        }
        Some(end)
    }

    fn complete(&mut self, unit: &[u8], edits: &mut UnitEdits) {
        match self.job.sender {
            Sender::Client => self.command(unit, edits),
            Sender::Server => self.reply(unit, edits),
        }
    }

    fn left(&mut self, head: &[u8]) {
        match self.job.sender {
            Sender::Client => {
                self.dialogue.command(head, None);
            }
            Sender::Server => self.answer(head),
        }
    }

    fn fed(&mut self, head: &[u8]) {
        if self.job.sender == Sender::Client {
            self.dialogue.command(head, None);
        }
    }

    fn too_long(&mut self, begun: &[u8]) -> Instead {
        match self.job.sender {
            Sender::Client => self.long_command(begun),
            Sender::Server => {
                self.dialogue.lose_reply();
                self.tell_refused(form_of_reply(begun), RefusalReason::Malformed(HostPortError::Trailing));
                Instead::Refusal(Text::copy_of(b"425 No data connection.\r\n"), Until::after(begun))
            }
        }
    }

    fn lost(&mut self) {
        if self.job.sender == Sender::Server {
            self.dialogue.lose_reply();
        }
    }

    fn stops(&mut self) -> Option<bool> {
        self.stops.take()
    }
}

impl LineHandler<'_> {
    /// Returns true if a reply's line may leave before it is complete. Its code must be heard first.
    fn reply_may_leave(&mut self, begun: &[u8]) -> bool {
        let is_code = begun.iter().take(CODE - 1).all(u8::is_ascii_digit);
        if begun.len() < CODE && is_code {
            return false;
        }
        let mut replies = self.dialogue.replies();
        let is_text = replies.continues();
        let is_passive = matches!(replies.code_of(begun), Some((227..=229, _)));
        let may_hide = !is_text && ftp::may_hide_reply(begun, self.dialogue.awaits(CommandKind::Passive));
        !is_passive && !may_hide
    }

    /// Returns true if some client reads an endpoint in this line, which is none of a 227.
    fn hides_endpoint(&self, line: &[u8]) -> bool {
        let awaited = self.dialogue.awaits(CommandKind::Passive);
        !self.dialogue.replies().continues() && ftp::hidden_reply(line, awaited)
    }

    fn command(&mut self, line: &[u8], edits: &mut UnitEdits) {
        let mut expected = None;
        let reading = read_line(Sender::Client, self.ends.client, line, &mut self.dialogue.replies());
        match self.judge(reading, line) {
            LineAction::Pass => {}
            LineAction::Expect(id, replacement) => {
                expected = Some(id);
                if let Some((range, text)) = replacement {
                    edits.set(range, text);
                }
            }
            LineAction::Refuse(form) => {
                let range = ftp::hidden_announcement(line).map(|(_, range)| range);
                let range = range.or_else(|| Command::argument_range(line)).unwrap_or_default();
                edits.set(range, refused(form, self.ends.client));
            }
        }
        self.dialogue.command(line, expected);
    }

    /// The beginning of a command that is longer than any announcement: the server gets one that it refuses. Blanks before
    /// a command are left out.
    fn long_command(&mut self, begun: &[u8]) -> Instead {
        let form = match Command::parse(begun) {
            Some(Command::Port(_)) => Form::Port,
            Some(Command::Eprt(_)) => Form::Eprt,
            Some(Command::Lprt(_)) => Form::Lprt,
            _ if begun.iter().any(u8::is_ascii_graphic) => Form::Port,
            _ => return Instead::Nothing,
        };
        self.tell_refused(form, RefusalReason::Malformed(HostPortError::Trailing));
        self.dialogue.command(begun, None);
        let line: &[u8] = match form {
            Form::Port => b"PORT 0,0,0,0,0,0\r\n",
            Form::Eprt => b"EPRT |1|0.0.0.0|0|\r\n",
            _ => b"LPRT 4,4,0,0,0,0,2,0,0\r\n",
        };
        Instead::Refusal(Text::copy_of(line), Until::LineEnd)
    }

    /// A reply is refused as a whole, or passes as a whole: its lines have one code.
    fn reply(&mut self, unit: &[u8], edits: &mut UnitEdits) {
        if self.hides_endpoint(unit) {
            self.tell_refused(Form::Pasv, RefusalReason::Malformed(HostPortError::Verb));
            self.dialogue.lose_reply();
            return refuse_reply(unit, edits);
        }
        let mut expected = [None; UNIT_EDITS];
        let mut count = 0;
        let mut at = 0;
        let mut refuses = !self.may_open_all(unit);
        for line in unit.split_inclusive(|byte| *byte == b'\n') {
            let reading = read_line(Sender::Server, self.ends.server, line, &mut self.dialogue.replies());
            let action = match (refuses, reading) {
                (false, _) => self.judge(reading, line),
                // Nothing more is opened by a reply that is refused.
                (true, _) => LineAction::Pass,
            };
            match action {
                LineAction::Pass => {}
                LineAction::Refuse(_) => refuses = true,
                LineAction::Expect(id, replacement) => {
                    let fits =
                        replacement.is_none_or(|(range, text)| edits.push(range.start + at..range.end + at, text));
                    match expected.get_mut(count) {
                        Some(place) if fits => (*place, count) = (Some(id), count + 1),
                        _ => {
                            self.conntrack.unexpect(self.job.now, id);
                            refuses = true;
                        }
                    }
                }
            }
            self.answer(line);
            at += line.len();
        }
        if refuses {
            expected.into_iter().flatten().for_each(|id| self.conntrack.unexpect(self.job.now, id));
            refuse_reply(unit, edits);
        }
    }

    /// Returns true if no line of a reply announces what may not be opened. The first that does is told.
    fn may_open_all(&mut self, unit: &[u8]) -> bool {
        let mut replies = self.dialogue.replies();
        unit.split_inclusive(|byte| *byte == b'\n').all(|line| {
            let reading = read_line(Sender::Server, self.ends.server, line, &mut replies);
            match self.check(reading) {
                Ok(()) => true,
                Err((form, reason)) => {
                    self.tell_refused(form, reason);
                    false
                }
            }
        })
    }

    /// Checks what a server's line announces, without opening it.
    fn check(&self, reading: LineReading) -> Result<(), (Form, RefusalReason)> {
        match reading {
            LineReading::Announcement(mut announcement) => {
                let own = self.ends.own(self.job.sender);
                self.resolve(&mut announcement);
                self.may_open(&announcement, own).map_err(|reason| (announcement.form, reason))
            }
            LineReading::Malformed(form, error) => {
                let asked = form.sender() == Sender::Client || self.dialogue.may_await(CommandKind::Passive);
                Err((form, if asked { RefusalReason::Malformed(error) } else { RefusalReason::Unasked }))
            }
            LineReading::Nothing => Ok(()),
        }
    }

    /// A line of the server's, or its beginning.
    fn answer(&mut self, line: &[u8]) {
        let Some(answer) = self.dialogue.reply(line) else { return };
        match (answer.kind, answer.code) {
            // The server opens no data connection for a command that it refuses.
            (Some(CommandKind::Active), 400..) => {
                if let Some(expected) = answer.tag {
                    self.conntrack.unexpect(self.job.now, expected);
                }
            }
            (Some(CommandKind::Tls), 234) if answer.command.is_some() => self.stop(true),
            // A command that is not remembered may have been AUTH: nothing more is read, and nothing more is opened.
            (None, 234) if answer.command.is_some() => self.stop(false),
            _ => {}
        }
    }

    const fn stop(&mut self, is_tls: bool) {
        (self.tls, self.stops) = (Some(is_tls), Some(is_tls));
    }

    fn judge(&mut self, reading: LineReading, line: &[u8]) -> LineAction {
        let (form, result) = match reading {
            LineReading::Announcement(announcement) => (announcement.form, self.open(announcement, line)),
            LineReading::Malformed(form, _) => match self.check(reading) {
                Err((form, reason)) => (form, Err(reason)),
                Ok(()) => return LineAction::Refuse(form),
            },
            LineReading::Nothing => return LineAction::Pass,
        };
        result.unwrap_or_else(|reason| {
            self.tell_refused(form, reason);
            LineAction::Refuse(form)
        })
    }

    fn tell_refused(&mut self, form: Form, reason: RefusalReason) {
        let event = Event::Denied { connection: self.job.id, sender: self.job.sender, form, reason };
        self.conntrack.events.push(self.job.now, event);
    }

    /// Takes the address that a server announces for its own, where that is what it means.
    fn resolve(&self, announcement: &mut Announcement) -> bool {
        // A server may know the address by which its clients know it.
        let means_own = announcement.address.is_unspecified() || announcement.address == self.ends.dialled;
        let mends = self.job.sender == Sender::Server && self.mends(announcement.address);
        if self.job.sender == Sender::Server && (means_own || mends) {
            announcement.address = self.ends.own(self.job.sender);
        }
        mends
    }

    /// Expects what is announced, if it may be.
    fn open(&mut self, mut announcement: Announcement, line: &[u8]) -> Result<LineAction, RefusalReason> {
        let (own, said) = (self.ends.own(self.job.sender), (announcement.address, announcement.port));
        let mends = self.resolve(&mut announcement);
        self.may_open(&announcement, own)?;
        if self.is_arranged(announcement.address) {
            // The firewall's rules decide about the data connection, as in Linux.
            let event = announced(self.job.id, self.job.sender, &announcement, AnnouncementOutcome::ForeignAddress);
            self.conntrack.events.push(self.job.now, event);
            return Ok(LineAction::Pass);
        }
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
        Ok(LineAction::Expect(id, replacement))
    }

    /// Returns true if a server that announces this address is taken to mean its own.
    fn mends(&self, address: IpAddr) -> bool {
        let is_of_family = address.is_ipv4() == self.ends.server.is_ipv4();
        let is_own = address == self.ends.server || address == self.ends.dialled;
        self.policy.rewrite_foreign_pasv
            && is_of_family
            && !is_own
            && !self.allows(address)
            && !self.is_arranged(address)
    }

    /// Returns true if data connections are arranged to go to this address, which is not the sender's: the text passes,
    /// and nothing is expected. One such address is a client's as the server sees it, if DNAT publishes its ports. The
    /// other is a server that a front end names, if clients reach it as they reach the front end.
    ///
    /// A proxy on this machine passes on what the server says: a public address that a private server names is meant for
    /// the proxy's clients.
    fn is_arranged(&self, address: IpAddr) -> bool {
        let Endpoints { client, dialled, server, seen } = self.ends;
        if self.allows(address) {
            return false;
        }
        match self.job.sender {
            Sender::Client => address == seen && seen != client,
            Sender::Server => {
                let rewrites = self.policy.rewrite_foreign_pasv && server == dialled;
                let is_named_to_clients = self.client_is_local && is_private(server) && !is_private(address);
                let is_meant = is_reached_like(address, server) || is_named_to_clients && is_unicast(address);
                rewrites && address != server && !address.is_unspecified() && is_meant
            }
        }
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
        if self.job.sender == Sender::Server && !self.dialogue.may_await(CommandKind::Passive) {
            return Err(RefusalReason::Unasked);
        }
        if self.policy.require_login && self.dialogue.is_other_protocol() {
            return Err(RefusalReason::NotFtp);
        }
        if self.policy.require_login && !self.dialogue.may_be_logged_in() {
            return Err(RefusalReason::NotLoggedIn);
        }
        let may_be_named = self.allows(announcement.address) || self.is_arranged(announcement.address);
        if announcement.address != own && !may_be_named {
            return Err(RefusalReason::ForeignAddress(announcement.address));
        }
        if announcement.port < self.policy.lowest_port {
            return Err(RefusalReason::LowPort(announcement.port));
        }
        Ok(())
    }
}

/// The action on a line.
enum LineAction {
    Pass,
    /// It opens this, and is to say that.
    Expect(ExpectationId, Option<(Range<usize>, Text)>),
    Refuse(Form),
}

/// Returns what a reply with this code announces.
fn form_of_reply(begun: &[u8]) -> Form {
    match begun.get(..3) {
        Some(b"228") => Form::Lpsv,
        Some(b"229") => Form::Epsv,
        _ => Form::Pasv,
    }
}

/// Returns true if hosts that reach `server` by its address may reach `address` too: both are private, or neither is.
fn is_reached_like(address: IpAddr, server: IpAddr) -> bool {
    address.is_ipv4() == server.is_ipv4() && is_unicast(address) && is_private(address) == is_private(server)
}

fn is_unicast(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_multicast()
}

/// Returns true for addresses of private networks, shared ones and links (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || a == 100 && b & 0xc0 == 64 || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// The reason to refuse an announcement whose expectation cannot be registered.
const fn no_room(error: ExpectError) -> RefusalReason {
    match error {
        ExpectError::HostFull => RefusalReason::ClientFull,
        ExpectError::Busy => RefusalReason::NoPort,
        ExpectError::Full | ExpectError::NoMaster => RefusalReason::TableFull,
    }
}

/// Puts a refusal in the place of a whole reply, but for its end.
fn refuse_reply(unit: &[u8], edits: &mut UnitEdits) {
    let end = unit.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    edits.set(0..end, Text::copy_of(b"425 No data connection."));
}

/// An argument that every server refuses.
fn refused(form: Form, like: IpAddr) -> Text {
    let nowhere: IpAddr = match like {
        IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) if form == Form::Port => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    write_like(form, b"|", nowhere, 0)
}
