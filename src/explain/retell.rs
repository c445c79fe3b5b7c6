//! From a session as it was captured to a script that can be re-enacted.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::dialogue::{Announcement, Answer, Dialogue, Exchange, plain};
use super::router::RouterFiles;
use super::session::{Attempt, Place, Scene, Session, hops};
use crate::ftp::{Form, Sender};
use crate::reenact::{Act, DIALS_FIRST, Script, Turn};

/// Maximum number of bytes of a transfer that are re-enacted: enough for many full segments.
const LONGEST: usize = 64 * 1024;
/// Bytes of a transfer whose length nobody knows.
const ASSUMED: usize = 20_000;
/// A shorter transfer is taken for one that lasts no time.
const SHORT: Duration = Duration::from_secs(5);
/// The port from which servers dial, where nothing else is known (RFC 959 section 3.2).
const DATA_PORT: u16 = 20;
/// A port that a client is given whose own is not known.
const CLIENT_PORT: u16 = 40_000;

/// A session as a script, with what became of it.
#[derive(Clone, Debug)]
pub(super) struct Retold {
    pub(super) script: Script,
    /// True for each of the script's transfers that worked.
    pub(super) worked: Vec<bool>,
}

/// Retells sessions.
pub(super) struct Reteller<'a> {
    pub(super) scene: &'a Scene,
    pub(super) session: &'a Session,
    pub(super) router: Option<&'a RouterFiles>,
}

impl Reteller<'_> {
    /// Returns the session as a script. `None` if the capture does not show enough of it.
    pub(super) fn retell(&self) -> Option<Retold> {
        let said = self.session.main();
        if said.implicit || said.exchanges.is_empty() {
            return None;
        }
        let (by_client, by_server) = (self.nearest(0), self.nearest(1));
        let mut client = plain(self.scene.flow(self.session.places[by_client]).ends[0]);
        let dialled = plain(self.scene.flow(self.session.places[by_client]).ends[1]);
        if client.ip().is_unspecified() {
            client = SocketAddr::new(self.assumed_client(dialled)?, CLIENT_PORT);
        }
        let mut this = Telling {
            reteller: self,
            by_client,
            by_server,
            script: Script::new(client, dialled),
            worked: Vec::new(),
            last: None,
        };
        this.tell(said);
        let Telling { script, worked, .. } = this;
        (!worked.is_empty()).then_some(Retold { script, worked })
    }

    /// The number of the view nearest to a side.
    fn nearest(&self, side: usize) -> usize {
        let distance = |place: &Place| {
            let ttl = self.scene.flow(*place).sides[side].ttls.first().copied();
            (ttl.map_or(u8::MAX, hops), self.scene.view(*place).is_router)
        };
        (0..self.session.places.len()).min_by_key(|number| distance(&self.session.places[*number])).unwrap_or(0)
    }

    /// An address for a client of which only a log is known: one that it announced, or one on another link than the server.
    fn assumed_client(&self, dialled: SocketAddr) -> Option<IpAddr> {
        let announced = self.session.main().announcements.iter().find(|a| a.form.sender() == Sender::Client);
        if let Some(address) = announced.and_then(|announced| announced.address) {
            return Some(address);
        }
        let router = self.router?;
        let towards = router.towards(dialled.ip());
        let is_own = router.is_local(dialled.ip());
        let links = router.directory.interfaces.iter().filter(|link| !link.loopback);
        let link = links.clone().find(|link| {
            is_own == link.addresses.iter().any(|own| own.address == dialled.ip())
                && (is_own || Some(link.name.as_str()) != towards)
        });
        let own = link?.addresses.iter().find(|own| own.address.is_ipv4() == dialled.is_ipv4())?;
        match own.address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Some(Ipv4Addr::new(a, b, c, if d == 222 { 221 } else { 222 }).into())
            }
            IpAddr::V6(_) => None,
        }
    }

    /// The dialogue of a view, if it has all that the main one has.
    fn dialogue(&self, number: usize) -> &Dialogue {
        let (main, other) = (self.session.main(), &self.session.dialogues[number]);
        if other.exchanges.len() == main.exchanges.len() { other } else { main }
    }

    fn attempt(&self, number: usize) -> Option<Attempt> {
        let attempts = self.scene.attempts(self.session, number);
        let opened = |attempt: &Attempt| attempt.places.iter().any(|place| self.scene.flow(*place).is_open());
        attempts.iter().find(|attempt| opened(attempt)).or(attempts.first()).cloned()
    }
}

/// A script while it is written.
struct Telling<'a> {
    reteller: &'a Reteller<'a>,
    by_client: usize,
    by_server: usize,
    script: Script,
    worked: Vec<bool>,
    /// When the last reply came.
    last: Option<i64>,
}

impl Telling<'_> {
    fn tell(&mut self, said: &Dialogue) {
        if said.exchanges.first().is_some_and(|first| !first.verb.is_empty()) {
            self.script.turns.push(Turn::new("", "220 ready", Act::Say));
        }
        let transfers = said.transfers();
        for (index, exchange) in said.exchanges.iter().enumerate() {
            let announced = said.announcements.iter().position(|announced| announced.exchange == index);
            let transfer = transfers.iter().position(|transfer| transfer.exchange == Some(index));
            match (announced, transfer) {
                (Some(number), _) => {
                    self.announce(number, index, exchange);
                    let is_last = transfers
                        .last()
                        .is_some_and(|last| last.announcement == Some(number) && last.exchange.is_none());
                    if is_last {
                        self.give_up(number);
                    }
                }
                (None, Some(transfer)) => self.transfer(transfers[transfer].announcement, exchange),
                (None, None) => self.say(index, exchange),
            }
            self.last = exchange.answer.as_ref().map(|answer| answer.at.time).or(self.last);
        }
        if said.tls.is_some() {
            self.tell_tls();
        } else if self.worked.is_empty()
            && said.exchanges.iter().any(|e| matches!(e.verb.as_str(), "PASV" | "EPSV") && e.code() >= 400)
        {
            // A client that is refused asks for nothing; one that is not would.
            self.push("LIST", "226 done", Self::listing(ASSUMED));
            self.worked.push(false);
        }
    }

    fn push(&mut self, command: &str, reply: &str, act: Act) {
        self.script.turns.push(Turn::new(command, reply, act));
    }

    /// Adds a turn with the pause that the client made before it.
    fn turn(&mut self, exchange: &Exchange, command: &str, reply: &str, act: Act) {
        let pause = self.last.map_or(0, |last| exchange.at.time.saturating_sub(last));
        self.push(command, reply, act);
        if let Some(turn) = self.script.turns.last_mut() {
            turn.pause = Duration::from_micros(u64::try_from(pause).unwrap_or(0));
        }
    }

    fn say(&mut self, index: usize, exchange: &Exchange) {
        let heard = self.reteller.dialogue(self.by_server).exchanges.get(index).unwrap_or(exchange);
        let reply = heard.answer.as_ref().map_or_else(|| usual_reply(&exchange.verb).to_string(), line);
        let starts_tls = exchange.verb == "AUTH" && exchange.code() == 234;
        self.turn(exchange, &command(exchange), &reply, if starts_tls { Act::StartTls } else { Act::Say });
    }

    /// Adds the turn that announces an endpoint.
    fn announce(&mut self, number: usize, index: usize, exchange: &Exchange) {
        let Some(announced) = self.nearest_to_announcer(number) else { return self.say(index, exchange) };
        let reply = exchange.answer.as_ref().map(line).unwrap_or_default();
        if announced.form.sender() == Sender::Server {
            let place = self.reteller.session.places[self.by_server];
            let own = plain(self.reteller.scene.flow(place).ends[1]).ip();
            let address = announced.address.filter(|address| *address != own);
            self.note_where_client_dials(number);
            let act = Act::Passive { form: announced.form, address, port: announced.port };
            return self.turn(exchange, &command(exchange), &reply, act);
        }
        let heard = self.reteller.session.announcement_in(&self.reteller.session.dialogues[self.by_server], number);
        let place = self.reteller.session.places[self.by_server];
        let seen = plain(self.reteller.scene.flow(place).ends[0]).ip();
        let is_own = heard.and_then(|heard| heard.address) == Some(seen);
        // A server that says 425 here dials before it answers.
        let refused = exchange.code() >= 400 && exchange.code() != DIALS_FIRST;
        let act = if refused && is_own { Act::Say } else { Act::Active { port: announced.port } };
        let text = announced.line.clone();
        self.turn(exchange, &text, if reply.is_empty() { "200 ok" } else { &reply }, act);
    }

    fn nearest_to_announcer(&self, number: usize) -> Option<Announcement> {
        let session = self.reteller.session;
        let announced = session.main().announcements.get(number)?;
        let nearest = if announced.form.sender() == Sender::Server { self.by_server } else { self.by_client };
        session.announcement_in(&session.dialogues[nearest], number).or(Some(announced)).cloned()
    }

    /// Notes that the client dials the control connection's server, if it did so although a 227 named another address.
    fn note_where_client_dials(&mut self, number: usize) {
        let session = self.reteller.session;
        let Some(told) = session.announcement_in(&session.dialogues[self.by_client], number) else { return };
        let dialled = self.script.server.ip();
        let differs = told.address.is_some_and(|address| address != dialled);
        let Some(attempt) = self.reteller.attempt(number).filter(|_| differs) else { return };
        let view = session.places[self.by_client].view;
        let there = attempt.places.iter().filter(|place| place.view == view);
        self.script.ignores_address |=
            there.into_iter().any(|place| plain(self.reteller.scene.flow(*place).ends[1]).ip() == dialled);
    }

    fn transfer(&mut self, announcement: Option<usize>, exchange: &Exchange) {
        let attempt = announcement.and_then(|number| self.reteller.attempt(number));
        let worked = (200..300).contains(&exchange.code());
        if is_about_the_file(exchange) || announcement.is_none() {
            let reply = exchange.answer.as_ref().map_or_else(|| "550 no".to_string(), line);
            return self.turn(exchange, &command(exchange), &reply, Act::Say);
        }
        let sender =
            if matches!(exchange.verb.as_str(), "STOR" | "APPE" | "STOU") { Sender::Client } else { Sender::Server };
        let (moved, lasts, from_port) = self.moved(attempt.as_ref());
        let bytes = if worked { moved } else { moved.max(announced_length(exchange).unwrap_or(ASSUMED)) };
        let lasts = if worked && lasts > SHORT { lasts } else { Duration::ZERO };
        let act = Act::Transfer { sender, bytes: bytes.min(LONGEST), lasts, from_port };
        let reply = exchange.answer.as_ref().filter(|_| worked).map_or_else(|| "226 done".to_string(), line);
        self.turn(exchange, &command(exchange), &reply, act);
        self.worked.push(worked);
    }

    /// The bytes that a data connection moved, its duration, and the port from which it was dialled.
    fn moved(&self, attempt: Option<&Attempt>) -> (usize, Duration, u16) {
        let flows = || attempt.into_iter().flat_map(|attempt| &attempt.places).map(|p| self.reteller.scene.flow(*p));
        let bytes = flows().map(|flow| flow.sides[0].bytes.max(flow.sides[1].bytes)).max().unwrap_or(0);
        let lasts = flows().map(|flow| flow.last.time.saturating_sub(flow.first.time)).max().unwrap_or(0);
        let port = flows().map(|flow| flow.ends[0].port()).next().unwrap_or(DATA_PORT);
        let lasts = Duration::from_micros(u64::try_from(lasts).unwrap_or(0));
        (usize::try_from(bytes).unwrap_or(usize::MAX), lasts, port)
    }

    /// A client that could not open its data connection asked for nothing; in the script it does.
    fn give_up(&mut self, number: usize) {
        let (.., from_port) = self.moved(self.reteller.attempt(number).as_ref());
        let act = Act::Transfer { sender: Sender::Server, bytes: ASSUMED, lasts: Duration::ZERO, from_port };
        self.push("LIST", "226 done", act);
        self.worked.push(false);
    }

    const fn listing(bytes: usize) -> Act {
        Act::Transfer { sender: Sender::Server, bytes, lasts: Duration::ZERO, from_port: DATA_PORT }
    }

    /// Adds what was dialled while nobody could read what was said.
    fn tell_tls(&mut self) {
        let reteller = self.reteller;
        let view = reteller.session.places[self.by_client].view;
        if !self.script.turns.iter().any(|turn| turn.act == Act::StartTls) {
            self.push("AUTH TLS", "234 go", Act::StartTls);
        }
        self.push("USER x", "331 password", Act::Say);
        self.push("PASS x", "230 in", Act::Say);
        for attempt in reteller.scene.dialled_in_tls(reteller.session) {
            let place = attempt.places.iter().find(|place| place.view == view).or(attempt.places.first());
            let Some(flow) = place.map(|place| reteller.scene.flow(*place)) else { continue };
            let [from, to] = flow.ends.map(plain);
            let worked = flow.syn_ack.is_some() && flow.sides[1].reset.is_none();
            let (moved, _, from_port) = self.moved(Some(&attempt));
            let bytes = if worked { moved.min(LONGEST) } else { ASSUMED };
            if from.ip() == self.script.client.ip() {
                let by_server = plain(reteller.scene.flow(reteller.session.places[self.by_server]).ends[1]).ip();
                let (form, address) = match to.ip() {
                    address if address == self.script.server.ip() => (Form::Epsv, None),
                    address => (Form::Pasv, Some(address).filter(|address| *address != by_server)),
                };
                let verb = if form == Form::Epsv { "EPSV" } else { "PASV" };
                self.push(verb, "", Act::Passive { form, address, port: to.port() });
            } else {
                let text = crate::ftp::write(Form::Port, to.ip(), to.port());
                let line = format!("PORT {}", String::from_utf8_lossy(text.as_bytes()));
                self.push(&line, "200 ok", Act::Active { port: to.port() });
            }
            let act = Act::Transfer { sender: Sender::Server, bytes, lasts: Duration::ZERO, from_port };
            self.push("RETR x", "226 done", act);
            self.worked.push(worked);
        }
    }
}

fn line(answer: &Answer) -> String {
    format!("{} {}", answer.code, answer.text)
}

fn command(exchange: &Exchange) -> String {
    match exchange.argument.as_str() {
        "" => exchange.verb.clone(),
        argument => format!("{} {argument}", exchange.verb),
    }
}

/// A server's reply to a command whose own is not in the capture.
fn usual_reply(verb: &str) -> &'static str {
    match verb {
        "" => "220 ready",
        "USER" => "331 password",
        "PASS" => "230 in",
        "QUIT" => "221 bye",
        _ => "200 ok",
    }
}

/// True for a refusal that no data connection has a part in.
fn is_about_the_file(exchange: &Exchange) -> bool {
    matches!(exchange.code(), 450 | 452 | 500..=599)
}

/// The length that a 150 names, as in "Opening BINARY mode data connection for f (2000 bytes).".
fn announced_length(exchange: &Exchange) -> Option<usize> {
    let text = &exchange.preliminary.as_ref()?.text;
    let before = text.get(..text.find(" bytes")?)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
