//! The dialogue of a control connection, as commands with their replies.

use core::net::{IpAddr, SocketAddr};
use std::string::String;
use std::vec::Vec;

use super::flow::Mark;
use super::text::{Line, Text};
use crate::ftp::{self, Command, Form, Reply};

/// A whole reply: its code, the text of its line that counts, and the frame in which it ends.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) text: String,
    pub(super) at: Mark,
}

/// A command and its replies. The greeting has no command.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    /// In capitals; empty for the greeting.
    pub(super) verb: String,
    pub(super) argument: String,
    pub(super) at: Mark,
    /// The preliminary reply, 1xx.
    pub(super) preliminary: Option<Answer>,
    pub(super) answer: Option<Answer>,
}

impl Exchange {
    /// The code of its last reply; 0 if there is none.
    pub(super) fn code(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.code)
    }

    pub(super) fn is_transfer(&self) -> bool {
        ["LIST", "NLST", "MLSD", "RETR", "STOR", "APPE", "STOU"].contains(&self.verb.as_str())
    }

    /// The command as it is printed: no password, no file's contents.
    pub(super) fn shown(&self) -> String {
        match (self.verb.as_str(), self.argument.as_str()) {
            ("PASS", _) => "PASS ...".into(),
            (verb, "") => verb.into(),
            (verb, argument) => std::format!("{verb} {argument}"),
        }
    }
}

/// An endpoint that was announced.
#[derive(Clone, Debug)]
pub(super) struct Announcement {
    pub(super) form: Form,
    /// `None` for 229: the server's own.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) at: Mark,
    /// The line, as it is printed.
    pub(super) line: String,
    /// The exchange that it belongs to.
    pub(super) exchange: usize,
}

/// A control connection's dialogue in one view.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialogue {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) announcements: Vec<Announcement>,
    pub(super) tls: Option<Mark>,
    pub(super) implicit: bool,
    pub(super) gap: bool,
    pub(super) user: Option<String>,
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Dialogue {
    pub(super) fn of(text: &Text) -> Self {
        let mut this = Self { tls: text.tls, implicit: text.implicit, gap: text.gap, ..Self::default() };
        let mut followed: ftp::Dialogue = ftp::Dialogue::from_middle();
        // Place of each command's exchange, by the command's number.
        let mut places = Vec::new();
        let mut first_line: Option<&[u8]> = None;
        for line in &text.lines {
            if line.side == 0 {
                if followed.command(&line.text, None).is_some() {
                    places.push(this.exchanges.len());
                    this.command(&line.text, line.at);
                }
                continue;
            }
            let begins = followed.replies().within().is_none();
            let reply = Reply::parse(&line.text);
            match (followed.reply(&line.text), reply) {
                (Some(answer), Some(reply)) => {
                    // A reply of many lines may announce in its last line; else the first one tells most.
                    let first = first_line.take().filter(|first| !first.is_empty() && reply.endpoint().is_none());
                    let place = answer.command.and_then(|number| places.get(number as usize - 1).copied());
                    this.reply(answer.code, first.unwrap_or(reply.text), place, line);
                }
                (None, Some(reply)) if begins => first_line = Some(reply.text),
                _ => {}
            }
        }
        this
    }

    fn command(&mut self, line: &[u8], at: Mark) {
        let Some(command) = Command::parse(line) else { return };
        let argument = Command::argument_range(line).and_then(|range| line.get(range)).unwrap_or_default();
        let verb: Vec<u8> = line
            .iter()
            .copied()
            .skip_while(|byte| !byte.is_ascii_alphabetic())
            .take_while(u8::is_ascii_alphabetic)
            .collect();
        let index = self.exchanges.len();
        let endpoint = match command {
            Command::Port(Ok(there)) => Some((Form::Port, IpAddr::from(there.address), there.port)),
            Command::Eprt(Ok(there)) => Some((Form::Eprt, there.address, there.port)),
            _ => None,
        };
        if let Some((form, address, port)) = endpoint {
            let line = printable(line);
            self.announcements.push(Announcement { form, address: Some(address), port, at, line, exchange: index });
        }
        if let Command::User(name) = command {
            self.user = Some(printable(name));
        }
        let (verb, argument) = (printable(&verb).to_ascii_uppercase(), printable(argument));
        self.exchanges.push(Exchange { verb, argument, at, ..Exchange::default() });
    }

    fn reply(&mut self, code: u16, text: &[u8], place: Option<usize>, line: &Line) {
        let at = line.at;
        let answer = Answer { code, text: printable(text), at };
        if code < 200 && (place.is_some() || code != 120) {
            if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) {
                exchange.preliminary.get_or_insert(answer);
            }
            return;
        }
        let index = match place {
            Some(place) => place,
            None if self.exchanges.is_empty() => {
                self.exchanges.push(Exchange { at, ..Exchange::default() });
                0
            }
            // A server that says something unasked ends its last transfer, or everything.
            None => self.exchanges.len() - 1,
        };
        if matches!(code, 227 | 229)
            && let Some(there) = Reply::parse(&line.text).and_then(|reply| reply.endpoint())
        {
            let form = if code == 227 { Form::Pasv } else { Form::Epsv };
            let address = there.address.filter(|_| code == 227);
            let line = printable(&line.text);
            self.announcements.push(Announcement { form, address, port: there.port, at, line, exchange: index });
        }
        if let Some(exchange) = self.exchanges.get_mut(index) {
            exchange.answer = Some(answer);
        }
    }

    /// The announcements' transfers: each with the announcement that it uses, and the command if one was given.
    pub(super) fn transfers(&self) -> Vec<Transfer> {
        let mut transfers: Vec<Transfer> = Vec::new();
        let mut ready: Option<usize> = None;
        let mut announcements = self.announcements.iter().enumerate().peekable();
        for (index, exchange) in self.exchanges.iter().enumerate() {
            while let Some((number, _)) = announcements.next_if(|(_, announced)| announced.exchange <= index) {
                if let Some(unused) = ready.replace(number) {
                    transfers.push(Transfer { announcement: Some(unused), exchange: None });
                }
            }
            if exchange.is_transfer() {
                transfers.push(Transfer { announcement: ready.take(), exchange: Some(index) });
            }
        }
        transfers.extend(ready.map(|unused| Transfer { announcement: Some(unused), exchange: None }));
        transfers
    }

    /// True if the client was let in.
    pub(super) fn logged_in(&self) -> bool {
        self.exchanges.iter().any(|exchange| match exchange.verb.as_str() {
            "USER" | "PASS" | "ACCT" => matches!(exchange.code(), 230 | 232 | 202),
            "" | "AUTH" | "FEAT" | "HOST" | "OPTS" | "QUIT" | "SYST" | "PBSZ" | "PROT" | "NOOP" | "HELP" => false,
            _ => (200..300).contains(&exchange.code()) || exchange.preliminary.is_some(),
        })
    }
}

/// A data connection's errand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// Index of the announcement.
    pub(super) announcement: Option<usize>,
    /// Index of the command.
    pub(super) exchange: Option<usize>,
}

/// True for addresses that nobody reaches from elsewhere.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || matches!(v6.segments()[0], 0xfc00..=0xfdff | 0xfe80..=0xfebf)
        }
    }
}

/// The address and port as one, IPv4 in IPv6 told as IPv4.
pub(super) fn plain(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}
