//! The client of a session: it says its lines and acts on what it is told.

use core::net::SocketAddr;
use core::time::Duration;
use std::vec::Vec;

use smoltcp::iface::SocketHandle;

use super::data::{DataEnd, Progress};
use super::host::{Host, Stream};
use super::script::{Act, Failure, Outcome, Script, Turn};
use super::talk::Talk;
use crate::Instant;
use crate::ftp::{Form, Reply, Sender};

/// Time that a client waits for a reply: longer than a server waits for a data connection.
const PATIENCE: Duration = Duration::from_secs(90);
/// The first port from which a client dials data connections.
const FIRST_DATA_PORT: u16 = 50_000;

/// A client that speaks a script.
pub(super) struct Client {
    script: Script,
    control: Option<SocketHandle>,
    talk: Talk,
    turn: usize,
    stage: Stage,
    data: Option<DataEnd>,
    /// The data connection's port that comes next.
    next_port: u16,
    /// The code that refused what the data connection needs.
    refused: Option<u16>,
    /// True if something was to open a data connection, and it could not be dialled.
    cannot_dial: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Begins at this time.
    Pausing(Instant),
    /// Gives up at this time.
    Waiting(Instant),
    /// The transfer's last reply came with this code; the data may still be underway.
    Finishing(Instant, u16),
    Over,
}

impl Client {
    /// Returns a client that begins at its script's time after `now`, and has ports of its own for data connections.
    pub(super) fn new(script: Script, now: Instant, ports: u16) -> Self {
        let begins = now + script.starts;
        Self {
            script,
            control: None,
            talk: Talk::default(),
            turn: 0,
            stage: Stage::Pausing(begins),
            data: None,
            next_port: FIRST_DATA_PORT.saturating_add(ports),
            refused: None,
            cannot_dial: false,
            outcome: Outcome::default(),
        }
    }

    /// Returns what became of the session; what was not reached failed.
    pub(super) fn into_outcome(mut self) -> Outcome {
        self.outcome.finished = self.is_over();
        let failure = if self.outcome.opened { Failure::NotReached } else { Failure::NoControl };
        for turn in self.script.transfers() {
            if !self.outcome.transfers.iter().any(|(known, _)| *known == turn) {
                self.outcome.transfers.push((turn, Err(failure)));
            }
        }
        self.outcome
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Returns the time at which it has something to do of its own accord.
    pub(super) fn due(&self) -> Option<Instant> {
        let closes = match self.turn().map(|turn| &turn.act) {
            Some(Act::Transfer { sender: Sender::Client, lasts, .. }) => {
                self.data.as_ref().and_then(|data| data.closes_at(*lasts))
            }
            _ => None,
        };
        let stage = match self.stage {
            Stage::Pausing(at) | Stage::Waiting(at) | Stage::Finishing(at, _) => Some(at),
            Stage::Over => None,
        };
        [closes, stage].into_iter().flatten().min()
    }

    fn turn(&self) -> Option<&Turn> {
        self.script.turns.get(self.turn)
    }

    /// Does what is to be done now. Returns true if it did something.
    pub(super) fn work(&mut self, host: &mut Host, now: Instant) -> bool {
        match self.stage {
            Stage::Over => false,
            Stage::Pausing(at) if at <= now => {
                self.begin(host, now);
                true
            }
            Stage::Pausing(_) => false,
            Stage::Waiting(until) => {
                let progress = self.transfer(host, now);
                if self.hear(host, now) {
                    return true;
                }
                if until <= now {
                    self.give_up(progress);
                    return true;
                }
                false
            }
            Stage::Finishing(until, code) => {
                let progress = self.transfer(host, now);
                if progress == Progress::Underway && until > now {
                    return false;
                }
                self.end_transfer(host, now, code, progress);
                true
            }
        }
    }

    /// Begins a turn: dials, listens, and says the command.
    fn begin(&mut self, host: &mut Host, now: Instant) {
        let Some(turn) = self.turn().cloned() else {
            self.stage = Stage::Over;
            return;
        };
        self.stage = Stage::Waiting(now + PATIENCE);
        let Some(control) = self.control else {
            self.control = host.connect(self.script.server, self.script.client.port());
            if self.control.is_none() {
                self.stage = Stage::Over;
            }
            return;
        };
        if let Act::Active { port } = turn.act {
            self.forget_data(host);
            self.data = host.listen(port).map(DataEnd::new);
        }
        let line = self.talk.write(&turn.command);
        // Commands are shorter than a socket's buffer.
        let _ = host.send(control, &line);
    }

    /// Moves the data that the turn transfers.
    fn transfer(&mut self, host: &mut Host, now: Instant) -> Progress {
        let Some(Act::Transfer { sender, bytes, lasts, .. }) = self.turn().map(|turn| turn.act.clone()) else {
            // A connection that was dialled early opens early.
            if let Some(data) = &mut self.data {
                data.is_open(host, now);
            }
            return Progress::Underway;
        };
        let Some(data) = &mut self.data else { return Progress::Broken };
        match sender {
            Sender::Server => data.receive(host, now, bytes),
            Sender::Client => data.send(host, now, bytes, lasts),
        }
    }

    /// Reads replies. Returns true if one ended the turn, or the control connection ended.
    fn hear(&mut self, host: &mut Host, now: Instant) -> bool {
        let Some(control) = self.control else { return false };
        let mut bytes = Vec::new();
        let stream = host.read(control, &mut bytes);
        self.talk.receive(&bytes);
        while let Some(line) = self.talk.next_line() {
            let Some(reply) = Reply::parse(&line).filter(|reply| !reply.continues && reply.code >= 200) else {
                continue;
            };
            self.answered(host, now, &line, reply.code);
            return true;
        }
        if stream != Stream::Open {
            self.stage = Stage::Over;
            return true;
        }
        false
    }

    /// Acts on the reply that ends the turn.
    fn answered(&mut self, host: &mut Host, now: Instant, line: &[u8], code: u16) {
        self.outcome.opened = true;
        let Some(turn) = self.turn().cloned() else { return };
        match turn.act {
            Act::Say => {
                if is_data_command(&turn.command) && code >= 400 {
                    self.forget_data(host);
                    self.refused = Some(code);
                }
            }
            Act::StartTls => self.talk.is_encrypted = code < 400,
            Act::Passive { .. } => {
                self.forget_data(host);
                self.refused = (code >= 400).then_some(code);
                if self.refused.is_none() {
                    self.data = self.dial(host, line);
                    self.cannot_dial = self.data.is_none();
                }
            }
            Act::Active { .. } => self.refused = (code >= 400).then_some(code),
            Act::Transfer { .. } => {
                self.stage = Stage::Finishing(now + PATIENCE, code);
                return;
            }
        }
        self.next(now);
    }

    /// Dials what a reply announces.
    fn dial(&mut self, host: &mut Host, line: &[u8]) -> Option<DataEnd> {
        let there = Reply::parse(line)?.endpoint()?;
        let dialled = self.script.server.ip();
        let address = there.address.filter(|_| !self.script.ignores_address).unwrap_or(dialled);
        self.next_port = self.next_port.wrapping_add(1).max(FIRST_DATA_PORT);
        host.connect(SocketAddr::new(address, there.port), self.next_port).map(DataEnd::new)
    }

    fn end_transfer(&mut self, host: &mut Host, now: Instant, code: u16, progress: Progress) {
        let opened = self.data.as_ref().is_some_and(DataEnd::was_opened);
        let result = match (code, progress) {
            (200..=299, Progress::Done) => Ok(()),
            _ if self.refused.is_some() => Err(Failure::Refused(self.refused.unwrap_or(code))),
            _ if self.cannot_dial || !opened && matches!(code, 425 | 426) => Err(Failure::NotOpened),
            (200..=299 | 425 | 426, _) if opened => Err(Failure::Incomplete),
            (200..=299, _) => Err(Failure::NotOpened),
            (code, _) => Err(Failure::Refused(code)),
        };
        self.outcome.transfers.push((self.turn, result));
        self.forget_data(host);
        (self.refused, self.cannot_dial) = (None, false);
        self.next(now);
    }

    fn give_up(&mut self, progress: Progress) {
        if matches!(self.turn().map(|turn| &turn.act), Some(Act::Transfer { .. })) {
            let opened = self.data.as_ref().is_some_and(DataEnd::was_opened);
            let failure = if opened || progress == Progress::Done { Failure::Incomplete } else { Failure::NotOpened };
            self.outcome.transfers.push((self.turn, Err(failure)));
        }
        self.stage = Stage::Over;
    }

    fn forget_data(&mut self, host: &mut Host) {
        if let Some(data) = self.data.take() {
            host.forget(data.socket());
        }
    }

    fn next(&mut self, now: Instant) {
        self.turn += 1;
        let pause = self.turn().map(|turn| turn.pause);
        self.stage = pause.map_or(Stage::Over, |pause| Stage::Pausing(now + pause));
    }
}

/// True for a command that asks for a data connection.
fn is_data_command(command: &[u8]) -> bool {
    let verb = command.get(..4).unwrap_or_default().to_ascii_uppercase();
    matches!(&verb[..], b"PASV" | b"EPSV" | b"PORT" | b"EPRT")
}

/// Returns the announcement's form that a reply's code has.
pub(super) const fn reply_code(form: Form) -> u16 {
    if matches!(form, Form::Epsv) { 229 } else { 227 }
}
