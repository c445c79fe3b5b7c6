//! The server of a session: it answers as the script says, and opens the data connections that it is asked for.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::format;
use std::vec::Vec;

use smoltcp::iface::SocketHandle;

use super::client::reply_code;
use super::data::{DataEnd, Progress};
use super::host::{Host, Stream};
use super::script::{Act, DIALS_FIRST, Script};
use super::talk::Talk;
use crate::Instant;
use crate::ftp::{Command, Form, Reply, Sender, write};

/// Time that a server waits for a data connection to open.
const OPENS_WITHIN: Duration = Duration::from_secs(25);
/// Time that a server waits for a transfer to end, beside the time that it took when it was captured.
const ENDS_WITHIN: Duration = Duration::from_secs(50);

/// The port from which servers dial (RFC 959 section 3.2).
const DATA_PORT: u16 = 20;

/// A server's part of one session.
pub(super) struct Server {
    script: Script,
    control: SocketHandle,
    talk: Talk,
    /// The turn whose command comes next.
    turn: usize,
    /// The client, as this server sees it.
    client: Option<SocketAddr>,
    wanted: Wanted,
    data: Option<DataEnd>,
    transfer: Option<Transfer>,
    /// The reply that a client gets whose data connection does not open until then.
    dialling: Option<(Instant, Vec<u8>)>,
}

/// The data connection that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Accept,
    Dial(SocketAddr),
}

#[derive(Clone, Debug)]
struct Transfer {
    turn: usize,
    until: Instant,
    is_told: bool,
}

impl Server {
    pub(super) const fn new(script: Script, control: SocketHandle) -> Self {
        Self {
            script,
            control,
            talk: Talk { received: Vec::new(), is_encrypted: false },
            turn: 0,
            client: None,
            wanted: Wanted::Nothing,
            data: None,
            transfer: None,
            dialling: None,
        }
    }

    /// Returns the time at which it has something to do of its own accord.
    pub(super) fn due(&self) -> Option<Instant> {
        if let Some((until, _)) = self.dialling {
            return Some(until);
        }
        let transfer = self.transfer.as_ref()?;
        let closes = match self.script.turns.get(transfer.turn).map(|turn| &turn.act) {
            Some(Act::Transfer { sender: Sender::Server, lasts, .. }) => {
                self.data.as_ref().and_then(|data| data.closes_at(*lasts))
            }
            _ => None,
        };
        [closes, Some(transfer.until)].into_iter().flatten().min()
    }

    /// Does what is to be done now. Returns true if it did something.
    pub(super) fn work(&mut self, host: &mut Host, now: Instant) -> bool {
        if self.turn == 0 {
            if !host.is_open(self.control) {
                return false;
            }
            self.client = host.peer(self.control);
            let greeting = self.script.turns.first().map(|turn| turn.reply.clone()).unwrap_or_default();
            self.say(host, &greeting);
            self.turn = 1;
            return true;
        }
        if self.transfer.is_some() {
            return self.go_on(host, now);
        }
        if self.dialling.is_some() {
            return self.wait_for_dialled(host, now);
        }
        let mut bytes = Vec::new();
        let stream = host.read(self.control, &mut bytes);
        self.talk.receive(&bytes);
        if let Some(line) = self.talk.next_line() {
            self.command(host, now, &line);
            return true;
        }
        if stream == Stream::Ended {
            host.close(self.control);
        }
        false
    }

    fn say(&mut self, host: &mut Host, line: &[u8]) {
        let line = self.talk.write(line);
        // Replies are shorter than a socket's buffer.
        let _ = host.send(self.control, &line);
    }

    fn command(&mut self, host: &mut Host, now: Instant, line: &[u8]) {
        let number = self.turn;
        self.turn += 1;
        let Some(turn) = self.script.turns.get(number).cloned() else {
            return self.say(host, b"221 Goodbye.");
        };
        if verb(line) != verb(&turn.command) {
            return self.say(host, b"500 Unknown command.");
        }
        match turn.act {
            Act::Say => self.say(host, &turn.reply),
            Act::StartTls => {
                self.say(host, &turn.reply);
                self.talk.is_encrypted = Reply::parse(&turn.reply).is_some_and(|reply| reply.code < 400);
            }
            Act::Passive { form, address, port } => self.listen(host, form, address, port, &turn.reply),
            Act::Active { .. } => self.told_where(host, now, line, &turn.reply),
            Act::Transfer { from_port, .. } => {
                self.open(host, from_port);
                self.transfer = Some(Transfer { turn: number, until: now + OPENS_WITHIN, is_told: false });
            }
        }
    }

    /// Listens, and announces where.
    fn listen(&mut self, host: &mut Host, form: Form, address: Option<IpAddr>, port: u16, reply: &[u8]) {
        self.forget_data(host);
        self.data = host.listen(port).map(DataEnd::new);
        self.wanted = Wanted::Accept;
        let address = address.unwrap_or(host.address);
        let text = write(form, address, port);
        let captured = Reply::parse(reply).filter(|reply| reply.code == reply_code(form)).and_then(|r| r.endpoint());
        let line = match captured {
            Some(there) => {
                let mut line = reply.to_vec();
                line.splice(there.range(), text.as_bytes().iter().copied());
                line
            }
            None => {
                let text = std::string::String::from_utf8_lossy(text.as_bytes()).into_owned();
                let mode = if form == Form::Epsv { "Extended Passive" } else { "Passive" };
                format!("{} Entering {mode} Mode ({text}).", reply_code(form)).into_bytes()
            }
        };
        self.say(host, &line);
    }

    /// Takes the endpoint that a client announces, or refuses it as it did before.
    fn told_where(&mut self, host: &mut Host, now: Instant, line: &[u8], reply: &[u8]) {
        self.forget_data(host);
        let there = match Command::parse(line) {
            Some(Command::Port(Ok(there))) => Some(SocketAddr::new(there.address.into(), there.port)),
            Some(Command::Eprt(Ok(there))) => Some(SocketAddr::new(there.address, there.port)),
            _ => None,
        };
        let refused = Reply::parse(reply).is_none_or(|reply| reply.code >= 400);
        let is_own = there.is_some() && there.map(|there| there.ip()) == self.client.map(|client| client.ip());
        let dials_first = Reply::parse(reply).is_some_and(|reply| reply.code == DIALS_FIRST);
        match there {
            Some(there) if dials_first => {
                self.wanted = Wanted::Dial(there);
                let turns = self.script.turns.iter().skip(self.turn);
                let port = turns.filter_map(|turn| match turn.act {
                    Act::Transfer { from_port, .. } => Some(from_port),
                    _ => None,
                });
                self.open(host, port.into_iter().next().unwrap_or(DATA_PORT));
                self.dialling = Some((now + OPENS_WITHIN, reply.to_vec()));
            }
            Some(there) if is_own || !refused => {
                self.wanted = Wanted::Dial(there);
                let reply = if refused { b"200 PORT command successful." } else { reply };
                self.say(host, reply);
            }
            _ => {
                self.wanted = Wanted::Nothing;
                self.say(host, if refused && !reply.is_empty() { reply } else { b"501 Syntax error." });
            }
        }
    }

    /// Answers a client whose endpoint is being dialled. Returns true once it did.
    fn wait_for_dialled(&mut self, host: &mut Host, now: Instant) -> bool {
        let Some((until, refusal)) = self.dialling.clone() else { return false };
        let is_open = self.data.as_mut().is_some_and(|data| data.is_open(host, now));
        let is_lost = until <= now || self.data.as_ref().is_none_or(|data| data.is_refused(host));
        if is_open {
            self.wanted = Wanted::Accept;
            self.say(host, b"200 Active data connection established.");
        } else if is_lost {
            self.wanted = Wanted::Nothing;
            self.forget_data(host);
            self.say(host, &refusal);
        } else {
            return false;
        }
        self.dialling = None;
        true
    }

    fn open(&mut self, host: &mut Host, from_port: u16) {
        if let Wanted::Dial(there) = self.wanted {
            self.data = host.connect(there, from_port).map(DataEnd::new);
        }
    }

    /// Goes on with a transfer. Returns true if something was said.
    fn go_on(&mut self, host: &mut Host, now: Instant) -> bool {
        let Some(transfer) = self.transfer.clone() else { return false };
        let Some(turn) = self.script.turns.get(transfer.turn).cloned() else { return false };
        let Act::Transfer { sender, bytes, lasts, .. } = turn.act else { return false };
        if self.wanted == Wanted::Nothing {
            self.end(host, b"425 Use PORT or PASV first.");
            return true;
        }
        let Some(data) = &mut self.data else {
            self.end(host, b"425 Failed to establish connection.");
            return true;
        };
        if !transfer.is_told {
            if data.is_open(host, now) {
                let peer = host.peer(data.socket()).map(|peer| peer.ip());
                if self.script.checks_source && peer != self.client.map(|client| client.ip()) {
                    self.end(host, b"425 Security: Bad IP connecting.");
                    return true;
                }
                self.say(host, b"150 Here it comes.");
                self.transfer = Some(Transfer { until: now + lasts + ENDS_WITHIN, is_told: true, ..transfer });
                return true;
            }
            if data.is_refused(host) || transfer.until <= now {
                self.end(host, b"425 Failed to establish connection.");
                return true;
            }
            return false;
        }
        let progress = match sender {
            Sender::Server => data.send(host, now, bytes, lasts),
            Sender::Client => data.receive(host, now, bytes),
        };
        match progress {
            Progress::Done => {
                let whole = Reply::parse(&turn.reply).is_some_and(|reply| (200..300).contains(&reply.code));
                let reply = if whole { turn.reply } else { b"226 Transfer complete.".to_vec() };
                self.end(host, &reply);
                true
            }
            Progress::Underway if transfer.until > now => false,
            Progress::Underway | Progress::Broken => {
                self.end(host, b"426 Failure writing network stream.");
                true
            }
        }
    }

    fn end(&mut self, host: &mut Host, reply: &[u8]) {
        self.transfer = None;
        self.wanted = Wanted::Nothing;
        self.forget_data(host);
        self.say(host, reply);
    }

    fn forget_data(&mut self, host: &mut Host) {
        if let Some(data) = self.data.take() {
            host.forget(data.socket());
        }
    }
}

fn verb(line: &[u8]) -> Vec<u8> {
    line.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_uppercase).collect()
}
