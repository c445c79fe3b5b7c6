//! From what was seen of a session to its causes.

use core::net::{IpAddr, SocketAddr};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::cause::{Cause, Certainty, Code, Evidence, Machine};
use super::dialogue::{Announcement, Dialogue, Exchange, Transfer, is_private, plain};
use super::filter::Verdict;
use super::flow::Mark;
use super::remedy::{Known, remedies};
use super::router::{Helper, RouterFiles};
use super::server::ServerFiles;
use super::session::{Attempt, Place, Scene, Session, address, hops};
use super::settings;
use crate::ftp::{Form, Sender};
use crate::netfilter::StateSet;

use Certainty::{Inferred, Shown};

/// A session, what was captured, and the files at hand.
pub(super) struct Diagnosis<'a> {
    pub(super) scene: &'a Scene,
    pub(super) session: &'a Session,
    pub(super) router: Option<&'a RouterFiles>,
    pub(super) server_files: Option<&'a ServerFiles>,
}

/// The place where a SYN got lost, or the machine that refused it.
enum Fate {
    /// It was answered.
    Open,
    /// The peer's host has it and says nothing.
    DroppedAtPeer(Place, Certainty),
    /// The peer answered, as this place has it, and the answer does not get back.
    AnswerLost(Place),
    /// The router has it and does not send it on.
    DroppedAtRouter(Certainty),
    /// The peer's host, or a machine with its address, resets.
    RefusedByPeer,
    /// A machine on the way says no.
    RefusedOnTheWay { by: String, is_router: bool },
    /// It left the last place that was looked at.
    Lost,
}

impl Diagnosis<'_> {
    /// Returns the session's causes, the likeliest first; empty if it is healthy.
    pub(super) fn causes(&self) -> Vec<Cause> {
        let mut causes = self.found();
        let mut seen = Vec::new();
        causes.retain(|cause| {
            let is_new = !seen.contains(&cause.code);
            seen.push(cause.code);
            is_new
        });
        // Known causes come before unknown ones.
        causes.sort_by_key(|cause| (cause.code == Code::Unknown, cause.certainty == Inferred));
        causes
    }

    fn found(&self) -> Vec<Cause> {
        if let Some(cause) = self.control_connection() {
            return [cause].into();
        }
        let said = self.session.main();
        if let Some(cause) = self.login(said) {
            return [cause].into();
        }
        let mut causes = self.transfers(said);
        if causes.is_empty() {
            causes.extend(self.refused_modes(said));
        }
        causes.extend(self.within_tls());
        if causes.is_empty() {
            causes.extend(self.closed_while_idle(said));
        }
        causes
    }

    fn main_place(&self) -> Place {
        self.session.places[0]
    }

    fn ev(&self, place: Place, at: Mark, shown: impl Into<String>, means: impl Into<String>) -> Evidence {
        let view = self.scene.view(place);
        let (name, frame) =
            if view.is_log { (format!("{} line {}", view.name, at.frame), 0) } else { (view.name.clone(), at.frame) };
        Evidence { view: name, frame, shown: shown.into(), means: means.into() }
    }

    fn rule(shown: impl Into<String>, means: impl Into<String>) -> Evidence {
        Evidence { view: String::new(), frame: 0, shown: shown.into(), means: means.into() }
    }

    /// The true ends: the client as the view nearest to it has it, the server as the view nearest to that.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let nearest = |side: usize| {
            let ttl = |place: &&Place| {
                let ttl = self.scene.flow(**place).sides[side].ttls.first().copied();
                (ttl.map_or(u8::MAX, hops), self.scene.view(**place).is_router)
            };
            let place = self.session.places.iter().min_by_key(ttl).copied().unwrap_or(self.main_place());
            plain(self.scene.flow(place).ends[side])
        };
        (nearest(0), nearest(1))
    }

    /// The control connection as the client sees it.
    fn ends_of_client(&self) -> [SocketAddr; 2] {
        let ttl = |place: &&Place| {
            (
                self.scene.flow(**place).sides[0].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl)),
                self.scene.view(**place).is_router,
            )
        };
        let place = self.session.places.iter().min_by_key(ttl).copied().unwrap_or(self.main_place());
        self.scene.flow(place).ends.map(plain)
    }

    /// The control connection's ends as the view nearest to the server has them.
    fn ends_at_server(&self) -> (SocketAddr, SocketAddr) {
        let place = self.near(1).unwrap_or(self.main_place());
        let [client, server] = self.scene.flow(place).ends.map(plain);
        (client, server)
    }

    /// True if a view was taken near this side, so that it has all that this side sends and gets.
    fn is_near(&self, place: Place, side: usize) -> bool {
        let flow = self.scene.flow(place);
        let distance = |side: usize| flow.sides[side].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl));
        !self.is_router_view(place) && distance(side) == 0 && distance(1 - side) > 0
    }

    /// True if one file shows the session's packets before and after a router.
    fn is_router_view(&self, place: Place) -> bool {
        let view = self.scene.view(place);
        view.is_router || self.levels(view.file).len() > 1
    }

    /// With how many different distances a file shows the client's packets.
    fn levels(&self, file: usize) -> Vec<u8> {
        let places = self.session.places.iter().filter(|place| self.scene.view(**place).file == file);
        let mut levels: Vec<u8> = places.flat_map(|place| self.scene.flow(*place).sides[0].ttls.clone()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    fn has_router_views(&self) -> bool {
        let routers: Vec<Place> =
            self.session.places.iter().copied().filter(|place| self.is_router_view(*place)).collect();
        let mut levels: Vec<u8> =
            routers.iter().flat_map(|place| self.scene.flow(*place).sides[0].ttls.clone()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels.len() > 1
    }

    fn near(&self, side: usize) -> Option<Place> {
        self.session.places.iter().copied().find(|place| self.is_near(*place, side))
    }

    /// Finds out where the connection to a peer got lost. `opener`: the side of the control connection that dials.
    fn fate(&self, attempt: &Attempt, opener: usize) -> Fate {
        let flows = || attempt.places.iter().map(|place| (*place, self.scene.flow(*place)));
        let is_open =
            flows().any(|(_, flow)| flow.syn_ack.is_some() || flow.sides[0].bytes > 0 || flow.sides[1].bytes > 0);
        if is_open {
            let near_opener = flows().find(|(place, _)| self.near(opener).is_some_and(|near| near.view == place.view));
            match near_opener {
                Some((_, flow)) if flow.syn_ack.is_none() && flow.has_syn() => {}
                None if !flows().any(|(_, flow)| flow.is_answered_in_vain()) => return Fate::Open,
                None => {}
                _ => return Fate::Open,
            }
            if let Some((place, _)) = flows().find(|(_, flow)| flow.is_answered_in_vain()) {
                return Fate::AnswerLost(place);
            }
        }
        for (_, flow) in flows() {
            if let Some(error) = flow.icmp.iter().find(|error| error.kind == 3 && error.code != 4 || error.kind == 1) {
                let from = error.from.to_canonical();
                if from == address(flow.ends[1]) {
                    continue;
                }
                let is_router = self.router.is_none_or(|router| router.is_local(from)) || self.has_router_views();
                return Fate::RefusedOnTheWay {
                    by: format!("{from} (ICMP type {} code {})", error.kind, error.code),
                    is_router,
                };
            }
        }
        // Distances that the SYN has come, in all views.
        let mut distances: Vec<u8> = flows().flat_map(|(_, flow)| flow.syn_ttls.iter().map(|ttl| hops(*ttl))).collect();
        distances.sort_unstable();
        distances.dedup();
        let passed = distances.len() > 1;
        // A peer's reset has come as far as its other packets.
        for (place, flow) in flows() {
            let Some((_, ttl)) = flow.sides[1].reset else { continue };
            let control = self.session.places.iter().find(|other| other.view == place.view);
            let usual = control.map(|other| self.scene.flow(*other).sides[1 - opener].ttls.clone()).unwrap_or_default();
            if usual.is_empty() || usual.iter().any(|other| hops(*other) == hops(ttl)) {
                // A router that has the address itself answers what it does not send on.
                let local = self.router.is_some_and(|router| router.is_local(address(flow.ends[1])));
                if !local || passed || self.ends_of_peer(opener) == address(flow.ends[1]) {
                    return Fate::RefusedByPeer;
                }
            }
            let by = format!("a reset from a machine on the way, as {}", flow.ends[1].ip());
            return Fate::RefusedOnTheWay { by, is_router: true };
        }
        if flows().any(|(_, flow)| flow.sides[1].icmp_refused(flow)) {
            return Fate::RefusedByPeer;
        }
        let near_peer = self.near(1 - opener);
        if let Some(near) = near_peer
            && let Some((place, _)) = flows().find(|(place, flow)| place.view == near.view && flow.has_syn())
        {
            return Fate::DroppedAtPeer(place, Shown);
        }
        match (self.has_router_views(), passed, near_peer) {
            (true, true, None) => match attempt
                .places
                .iter()
                .max_by_key(|place| self.scene.flow(**place).syn_ttls.iter().map(|ttl| hops(*ttl)).max())
            {
                Some(place) => Fate::DroppedAtPeer(*place, Inferred),
                None => Fate::Lost,
            },
            (true, true, Some(_)) => Fate::Lost,
            (true, false, _) => Fate::DroppedAtRouter(Shown),
            (false, _, Some(_)) => Fate::DroppedAtRouter(Inferred),
            (false, _, None) => Fate::Lost,
        }
    }

    fn ends_of_peer(&self, opener: usize) -> IpAddr {
        let (client, server) = self.ends();
        if opener == 0 { server.ip() } else { client.ip() }
    }

    fn known(&self, announced: Option<&Announcement>) -> Known {
        let [client, server] = self.ends_of_client();
        let seen = self.ends().1;
        let data_port = announced.map_or(0, |announced| announced.port);
        let hook = self
            .router
            .and_then(|router| router.verdict(client, seen, StateSet::NEW))
            .map_or("forward", |(_, hook)| hook);
        let ranges = self.router.map(|router| router.open_ranges(seen.ip(), hook)).unwrap_or_default();
        Known {
            control_port: seen.port(),
            server_inside: (seen.ip() != server.ip()).then(|| seen.ip().to_string()),
            nft_chain: self.router.and_then(|router| router.nft_chain(hook)),
            tools: self.router.map(RouterFiles::tools).unwrap_or_default(),
            ipv6: server.is_ipv6(),
            data_port,
            server_address: server.ip().to_string(),
            form: self.router.map(|router| router.form),
            hook,
            server_file: self.server_files.map(|files| files.language),
            server_ports: self
                .server_files
                .and_then(|files| files.settings_for(seen))
                .and_then(|settings| settings.passive_ports.as_ref())
                .map(|ports| (*ports.value.start(), *ports.value.end())),
            listens_for_ipv4_alone: self
                .server_files
                .and_then(|files| files.settings_for(seen))
                .is_some_and(|settings| settings.listens_for_ipv6.as_ref().is_none_or(|listens| !listens.value)),
            open_range: ranges.first().copied(),
        }
    }

    fn mended(&self, mut cause: Cause, announced: Option<&Announcement>) -> Cause {
        cause.remedies = remedies(cause.code, &self.known(announced));
        if let Some(settings) = self.server_files.and_then(|files| files.settings_for(self.ends().1)) {
            let lines = settings::evidence(cause.code, settings, announced);
            let told =
                announced.and_then(|announced| announced.address).map(|address| address.to_canonical().to_string());
            let is_set = settings.passive_address.as_ref().is_some_and(|set| Some(&set.value) == told.as_ref());
            if is_set && cause.code == Code::WrongAddress {
                cause.certainty = Shown;
            }
            cause.evidence.extend(lines);
        }
        cause
    }

    /// The control connection itself was not answered, or only one side of it is there.
    fn control_connection(&self) -> Option<Cause> {
        let attempt = Attempt { places: self.session.places.clone() };
        let place = self.main_place();
        let flow = self.scene.flow(place);
        let said = self.session.main();
        let dialled = format!("SYN {} > {}", flow.ends[0], flow.ends[1]);
        if flow.has_syn()
            && said.exchanges.is_empty()
            && !self.session.places.iter().any(|place| self.scene.flow(*place).is_open())
        {
            let seen = self.ev(place, flow.first, dialled, format!("{} SYNs, no answer", flow.syns.len()));
            let cause = match self.fate(&attempt, 0) {
                Fate::RefusedByPeer => Cause::new(
                    Code::RejectServer,
                    Shown,
                    "The server refuses the control connection: nothing listens on that port.",
                ),
                Fate::RefusedOnTheWay { by, .. } => {
                    Cause::new(Code::RejectRouter, Shown, format!("The control connection is rejected by {by}."))
                }
                Fate::DroppedAtPeer(_, certainty) => {
                    Cause::new(Code::DropServer, certainty, "The server does not answer the control connection.")
                }
                Fate::DroppedAtRouter(certainty) => {
                    Cause::new(Code::DropRouter, certainty, "The control connection does not pass the router.")
                }
                Fate::AnswerLost(_) => {
                    Cause::new(Code::Unknown, Shown, "The server answers, and its answer does not reach the client.")
                        .or(&[Code::DropRouter])
                }
                _ => Cause::new(Code::Unknown, Inferred, "Nothing answers the control connection.")
                    .or(&[Code::DropServer, Code::DropRouter])
                    .lacking("a capture on the server tells whether the SYN gets there"),
            };
            return Some(cause.seen([seen]));
        }
        if self.scene.view(place).is_log {
            return None;
        }
        let silent =
            |side: usize| self.session.places.iter().all(|place| self.scene.flow(*place).sides[side].packets == 0);
        if silent(0) || silent(1) {
            let who = if silent(0) { "client" } else { "server" };
            let cause = Cause::new(
                Code::OneSided,
                Shown,
                format!("The capture has no packet of the {who}: replies cannot be matched with commands."),
            );
            return Some(cause.lacking("capture both directions: on a machine that both pass, tcpdump -i any"));
        }
        let waited = flow.last.time.saturating_sub(flow.first.time);
        let is_silent = self.session.places.iter().all(|place| self.scene.flow(*place).sides[1].bytes == 0);
        if flow.has_syn() && flow.is_open() && is_silent && !said.implicit && waited > SHORT {
            let seen = self.ev(
                place,
                flow.first,
                dialled,
                format!("accepted, and in {} s no greeting comes", waited / 1_000_000),
            );
            let sentence = "The server accepts the control connection and says nothing: it may wait for a name lookup of the client's address, or be stuck.";
            return Some(
                Cause::new(Code::Unknown, Inferred, sentence)
                    .on(Machine::Server)
                    .seen([seen])
                    .lacking("the server's log tells what it waits for"),
            );
        }
        if said.implicit && flow.sides[1].bytes == 0 && flow.has_syn() {
            let at = said.tls.unwrap_or_default();
            let seen = self.ev(place, at, "TLS ClientHello", "the server never answers it");
            return Some(
                self.mended(
                    Cause::new(Code::ImplicitTls, Shown, "The client begins with TLS, and the server expects text.")
                        .seen([seen]),
                    None,
                ),
            );
        }
        None
    }

    /// The login was refused, or the server is full.
    fn login(&self, said: &Dialogue) -> Option<Cause> {
        let place = self.main_place();
        let shown = |exchange: &Exchange, means: &str| {
            let answer = exchange.answer.as_ref();
            let text = answer.map(|answer| format!("{} {}", answer.code, answer.text)).unwrap_or_default();
            self.ev(place, answer.map_or(exchange.at, |answer| answer.at), text, means.to_string())
        };
        if let Some(greeting) = said.exchanges.first().filter(|exchange| exchange.verb.is_empty())
            && matches!(greeting.code(), 421 | 530 | 550)
            && self.scene.flow(place).has_syn()
        {
            let cause = Cause::new(Code::Busy, Shown, "The server takes no client now.")
                .seen([shown(greeting, "the greeting")]);
            return Some(self.mended(cause, None));
        }
        if said.logged_in() {
            return None;
        }
        let refused = said.exchanges.iter().rev().find(|exchange| {
            matches!(exchange.verb.as_str(), "USER" | "PASS" | "ACCT")
                && (400..600).contains(&exchange.code())
                && exchange.code() != 503
        });
        if let Some(refused) = refused {
            let full = refused.code() == 421
                || refused.answer.as_ref().is_some_and(|answer| {
                    let text = answer.text.to_ascii_lowercase();
                    text.contains("too many") || text.contains("maximum")
                });
            let (code, sentence) = if full {
                (Code::Busy, "The server takes no more clients.")
            } else {
                (Code::Login, "The server refuses the login; nothing is wrong with data connections.")
            };
            let cause =
                Cause::new(code, Shown, sentence).seen([shown(refused, &format!("the answer to {}", refused.verb))]);
            return Some(self.mended(cause, None));
        }
        if let Some(auth) = said.exchanges.iter().find(|exchange| exchange.verb == "AUTH" && exchange.code() >= 400)
            && !said.exchanges.iter().any(|exchange| exchange.verb == "USER")
        {
            let cause = Cause::new(
                Code::Unknown,
                Shown,
                "The server does not speak TLS, and the client goes no further without.",
            );
            return Some(cause.on(Machine::Server).seen([shown(auth, "the answer to AUTH")]));
        }
        None
    }

    /// Returns the cause of each transfer's failure. A failure after which the same command worked is none.
    fn transfers(&self, said: &Dialogue) -> Vec<Cause> {
        let transfers = said.transfers();
        let worked = |transfer: &Transfer| {
            transfer
                .exchange
                .and_then(|index| said.exchanges.get(index))
                .is_some_and(|exchange| (200..300).contains(&exchange.code()))
        };
        let mut causes = Vec::new();
        for (index, transfer) in transfers.iter().enumerate() {
            let later = transfers.get(index + 1..).unwrap_or_default();
            if worked(transfer) || later.iter().any(worked) {
                continue;
            }
            causes.extend(self.transfer(said, *transfer, !later.is_empty()));
        }
        causes
    }

    fn transfer(&self, said: &Dialogue, transfer: Transfer, is_followed: bool) -> Option<Cause> {
        let exchange = transfer.exchange.and_then(|index| said.exchanges.get(index));
        let announced = transfer.announcement.and_then(|number| said.announcements.get(number));
        let code = exchange.map_or(0, Exchange::code);
        // The data connection first: what the server says of it is only a consequence.
        if let (Some(number), Some(announced)) = (transfer.announcement, announced) {
            let refused = said.exchanges.get(announced.exchange).is_some_and(|exchange| exchange.code() >= 400);
            if refused {
                return self.refused_announcement(said, number, announced);
            }
            if let Some(cause) = self.data(number, announced, exchange, is_followed) {
                return Some(cause);
            }
        }
        let exchange = exchange?;
        let place = self.main_place();
        let answer = exchange.answer.as_ref()?;
        let text = answer.text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let (code, sentence) = match code {
            _ if has(&["session reuse", "resum", "reuse"]) && has(&["ssl", "tls", "session"]) => (
                Code::TlsSessionReuse,
                "The server wants the data connection to resume the control connection's TLS session.",
            ),
            503 => (Code::BadSequence, "The server refuses the order of the commands."),
            452 | 552 => (Code::Quota, "The server has no room for the file."),
            450 | 550 | 553 | 551 => {
                (Code::NoSuchFile, "The file is not there, or the user may not use it; data connections work.")
            }
            530 | 532 => (Code::Login, "The server wants a login first."),
            421 if has(&["idle", "timeout", "timed out", "inactiv"]) => {
                (Code::IdleControl, "The server closed the session for being idle.")
            }
            425 if has(&["bad ip", "security"]) => (
                Code::OtherSource,
                "The server refuses the data connection: it comes from another address than the control connection.",
            ),
            425 | 426 => {
                let cause = Cause::new(
                    Code::Unknown,
                    Inferred,
                    "The server says that the data connection failed, and no view shows it.",
                );
                let cause = cause.or(&[Code::DropRouter, Code::DropClient, Code::DropServer]);
                let seen = self.ev(
                    place,
                    answer.at,
                    format!("{} {}", answer.code, answer.text),
                    format!("the answer to {}", exchange.shown()),
                );
                return Some(
                    cause
                        .seen([seen])
                        .lacking("the capture lacks the data connection: record all TCP, not only the control port"),
                );
            }
            _ => return None,
        };
        let seen = self.ev(
            place,
            answer.at,
            format!("{} {}", answer.code, answer.text),
            format!("the answer to {}", exchange.shown()),
        );
        Some(self.mended(Cause::new(code, Shown, sentence).seen([seen]), announced))
    }

    /// The server refused `PORT` or `EPRT`.
    fn refused_announcement(&self, said: &Dialogue, number: usize, announced: &Announcement) -> Option<Cause> {
        let exchange = said.exchanges.get(announced.exchange)?;
        let answer = exchange.answer.as_ref()?;
        let place = self.main_place();
        let seen = [
            self.ev(
                place,
                announced.at,
                announced.line.clone(),
                format!("the client will listen on {}", self.endpoint(announced)),
            ),
            self.ev(place, answer.at, format!("{} {}", answer.code, answer.text), "the server refuses it"),
        ];
        if matches!(answer.code, 530 | 503) {
            let code = if answer.code == 530 { Code::Login } else { Code::BadSequence };
            return Some(self.mended(
                Cause::new(code, Shown, "The server refuses the command before a login.").seen(seen),
                Some(announced),
            ));
        }
        // A server that dials at once says 425 where the data connection does not open: the connection tells why.
        let dialled = self.scene.attempts(self.session, number);
        let opened = dialled.iter().any(|attempt| matches!(self.fate(attempt, 1), Fate::Open));
        if answer.code == 425
            && !dialled.is_empty()
            && !opened
            && let Some(cause) = self.data(number, announced, None, false)
        {
            return Some(cause.seen(seen.into_iter().skip(1)));
        }
        if let Some(cause) = self.untranslated(number, announced) {
            return Some(cause.seen(seen));
        }
        let [client, dialled_server] = self.ends_of_client();
        let told = announced.address.unwrap_or(client.ip()).to_canonical();
        let is_seen_by_server = self.near(1).is_some() && self.ends_at_server().0.ip() == told;
        if told.is_ipv4()
            && is_private(told)
            && !is_private(dialled_server.ip())
            && answer.code != 502
            && !is_seen_by_server
        {
            let sentence = format!(
                "The client announces its private address {told}, and the server, which sees another one, refuses it: nothing on the way rewrote it."
            );
            let cause = Cause::new(Code::PrivateAddress, Inferred, sentence).on(Machine::Path);
            let cause = cause.or(&[Code::NoHelper, Code::HelperPort, Code::PortRefused]).seen(seen);
            let missing = "a capture on the server shows what arrives there; the router's files tell why its helper does not rewrite it";
            return Some(self.mended(cause.lacking(missing), Some(announced)));
        }
        let code = if announced.form == Form::Eprt && matches!(answer.code, 500 | 501 | 502 | 522) {
            Code::ExtendedRefused
        } else {
            Code::PortRefused
        };
        Some(self.mended(Cause::new(code, Shown, "The server refuses active mode.").seen(seen), Some(announced)))
    }

    fn endpoint(&self, announced: &Announcement) -> SocketAddr {
        let [_, server] = self.ends_of_client();
        SocketAddr::new(announced.address.unwrap_or(server.ip()), announced.port)
    }

    /// The announced address is not one that the other side can use: NAT without a helper, or a wrong setting.
    fn untranslated(&self, number: usize, announced: &Announcement) -> Option<Cause> {
        // As the other side hears it: the view nearest to that.
        let by_server = announced.form.sender() == Sender::Server;
        let listener = usize::from(!by_server);
        let ttl = |index: &usize| {
            let place = self.session.places[*index];
            (
                self.scene.flow(place).sides[listener].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl)),
                self.scene.view(place).is_router,
            )
        };
        let heard_at = (0..self.session.places.len()).min_by_key(ttl)?;
        let heard = self.session.announcement_in(&self.session.dialogues[heard_at], number)?;
        let place = self.session.places[heard_at];
        let announcer = usize::from(by_server);
        let own_there = address(self.scene.flow(place).ends[announcer]);
        let told = heard.address?.to_canonical();
        if own_there.is_unspecified() {
            return None;
        }
        let cannot_be = told.is_ipv4() != own_there.is_ipv4() || told.is_unspecified();
        if told == own_there || cannot_be && !by_server {
            return None;
        }
        let (client, server) = self.ends();
        let true_address = if by_server { server.ip() } else { client.ip() };
        let who = if by_server { "server" } else { "client" };
        let seen = self.ev(
            place,
            heard.at,
            heard.line.clone(),
            format!("{told} is announced, but the {who} is reached as {own_there}"),
        );
        let nat_is_seen = told == true_address && true_address != own_there;
        if nat_is_seen || self.router.is_some() && is_private(told) && !is_private(own_there) && !by_server {
            return Some(self.no_translation(announced, own_there).seen([seen]));
        }
        if is_private(told) && !told.is_unspecified() && !is_private(own_there) {
            let sentence = format!(
                "The {who} announces its private address {told}; from outside it is {own_there}, and nobody rewrote it."
            );
            let cause = Cause::new(Code::PrivateAddress, Inferred, sentence).or(&[
                Code::NoHelper,
                Code::HelperPort,
                Code::WrongAddress,
            ]);
            let cause = cause.on(if by_server { Machine::Server } else { Machine::Path });
            return Some(self.mended(cause.seen([seen]).lacking("the files and a capture of the router that translates would tell why its helper does not rewrite the address"), Some(announced)));
        }
        if !by_server {
            let sentence = format!(
                "The client announces {told}, and the server sees it as {own_there}: a router translates its address, and not what it says."
            );
            let cause = Cause::new(Code::PrivateAddress, Inferred, sentence)
                .on(Machine::Path)
                .or(&[Code::NoHelper, Code::HelperPort]);
            return Some(
                self.mended(
                    cause
                        .seen([seen])
                        .lacking("the files of the router that translates would tell why its helper does not"),
                    Some(announced),
                ),
            );
        }
        let beside = |a: IpAddr, b: IpAddr| match (a, b) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
            (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
            _ => false,
        };
        if self.router.is_some() && by_server && beside(told, own_there) && !cannot_be {
            let sentence = format!(
                "The server announces {told}, another machine beside {own_there}: the router's helper expects no data connection to it."
            );
            let cause = Cause::new(Code::OtherServer, Inferred, sentence).or(&[Code::WrongAddress]).seen([seen]);
            let missing = "the server's own files tell whether that address is meant";
            return Some(self.mended(cause.lacking(missing), Some(announced)));
        }
        let sentence =
            format!("The server announces {told}, which is not its address: clients reach it as {own_there}.");
        Some(self.mended(Cause::new(Code::WrongAddress, Shown, sentence).seen([seen]), Some(announced)))
    }

    /// NAT changes the announcer's address, and no helper changed what was said.
    fn no_translation(&self, announced: &Announcement, own_there: IpAddr) -> Cause {
        let (client, server) = self.ends();
        let Some(router) = self.router else {
            let sentence = "A router between the captures translates the address and not the announcement: no helper reads this control connection.";
            let cause = Cause::new(Code::NoHelper, Inferred, sentence).or(&[Code::HelperPort, Code::NoModule]);
            return self.mended(
                cause.lacking("the router's rules would tell whether the helper is attached elsewhere"),
                Some(announced),
            );
        };
        if self.session.main().tls.is_some() {
            return self.mended(
                Cause::new(
                    Code::Tls,
                    Shown,
                    "The control connection is encrypted: no helper can read the announcement.",
                ),
                Some(announced),
            );
        }
        let helper = router.helper(self.ends_of_client()[0], self.ends_of_client()[1]);
        if helper == Helper::None {
            let (from, to) = self.data_question(announced, client, server);
            if let Some((verdict, hook)) = router.verdict(from, to, StateSet::NEW)
                && verdict != Verdict::Accept
            {
                return self.router_drops(announced, (from, to), hook, &verdict, Shown);
            }
        }
        let _ = own_there;
        self.by_helper(&helper, announced).unwrap_or_else(|| {
            Cause::new(
                Code::RewrittenByMiddlebox,
                Inferred,
                "A helper is attached, and still the announcement does not carry the translated address.",
            )
        })
    }

    /// Returns the ends of an announcement's data connection after all NAT.
    fn data_question(
        &self,
        announced: &Announcement,
        client: SocketAddr,
        server: SocketAddr,
    ) -> (SocketAddr, SocketAddr) {
        if announced.form.sender() == Sender::Server {
            (SocketAddr::new(client.ip(), 40000), SocketAddr::new(server.ip(), announced.port))
        } else {
            (SocketAddr::new(server.ip(), 20), SocketAddr::new(client.ip(), announced.port))
        }
    }

    /// The cause that the state of the helper is; `None` if it is attached.
    fn by_helper(&self, helper: &Helper, announced: &Announcement) -> Option<Cause> {
        let port = self.ends().1.port();
        let cause = match helper {
            Helper::Attached(_) => return None,
            Helper::OtherPort(rule, ports) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                let ports = ports.join(", ");
                let cause = Cause::new(
                    Code::HelperPort,
                    Shown,
                    format!("The helper is attached to port {ports}, and this control connection goes to port {port}."),
                );
                cause.seen([Self::rule(rule.clone(), "attaches the helper to another port")])
            }
            Helper::OtherInterface(rule) => {
                let cause = Cause::new(
                    Code::HelperInterface,
                    Shown,
                    "The rule that attaches the helper names an interface by which this control connection does not come.",
                );
                cause.seen([Self::rule(rule.clone(), "does not match")])
            }
            Helper::NoModule => Cause::new(Code::NoModule, Shown, "The module nf_conntrack_ftp is not loaded."),
            Helper::None => Cause::new(
                Code::NoHelper,
                Shown,
                "No rule attaches the FTP helper to this control connection, and address translation needs it.",
            )
            .seen([Self::rule("no rule with CT --helper ftp matches", "nothing reads the announcements")]),
            Helper::NotKnown => Cause::new(Code::NoHelper, Inferred, "No helper rewrites what is announced.")
                .lacking("the router's rules (rules.v4, or nft -j list ruleset) would tell why"),
        };
        Some(self.mended(cause, Some(announced)))
    }

    /// The router's filter stops the data connection.
    fn router_drops(
        &self,
        announced: &Announcement,
        (from, to): (SocketAddr, SocketAddr),
        hook: &'static str,
        verdict: &Verdict,
        certainty: Certainty,
    ) -> Cause {
        let Some(router) = self.router else { return Cause::new(Code::Unknown, Inferred, "") };
        let (what, by) = match verdict {
            Verdict::Reject(by) => ("rejects", by.clone()),
            Verdict::Drop(by) => ("drops", by.clone()),
            Verdict::Accept => ("drops", String::new()),
        };
        let [client, server] = self.ends_of_client();
        let helper = router.helper(client, server);
        let is_tls = self.session.main().tls.is_some();
        let ranges = router.open_ranges(to.ip(), hook);
        let stops = Self::rule(by, format!("{what} {from} > {to}"));
        if announced.form.sender() == Sender::Server
            && matches!(helper, Helper::None)
            && !ranges.is_empty()
            && !ranges.iter().any(|(low, high)| (*low..=*high).contains(&to.port()))
        {
            let open: Vec<String> = ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
            let sentence =
                format!("The server listens on port {}, and the router opens only {}.", to.port(), open.join(", "));
            return self.mended(Cause::new(Code::Range, certainty, sentence).seen([stops]), Some(announced));
        }
        let cause = match &helper {
            Helper::Attached(_) if is_tls => Cause::new(
                Code::Tls,
                certainty,
                "The control connection is encrypted, so that the helper cannot read where the data connection goes, and no rule opens it.",
            ),
            Helper::Attached(rule) => {
                let related = router.verdict(from, to, StateSet::RELATED).map(|(verdict, _)| verdict);
                let established = router.verdict(from, to, StateSet::ESTABLISHED).map(|(verdict, _)| verdict);
                match (related, established) {
                    (Some(Verdict::Accept), _) => {
                        let foreign = announced.address.is_some_and(|address| address != server.ip());
                        let code = if foreign { Code::OtherServer } else { Code::Unknown };
                        let sentence = if foreign {
                            "The announced address is another machine's, so that the helper expects nothing."
                        } else {
                            "The rules would accept the data connection as RELATED, and still the router does not send it on."
                        };
                        Cause::new(code, Inferred, sentence).seen([Self::rule(rule.clone(), "attaches the helper")])
                    }
                    (_, Some(Verdict::Accept)) => Cause::new(
                        Code::NoRelated,
                        certainty,
                        "The rules accept ESTABLISHED and not RELATED, which the data connection's first packet is.",
                    )
                    .seen([Self::rule(rule.clone(), "attaches the helper, so that the data connection is RELATED")]),
                    (Some(Verdict::Reject(_)), _) => Cause::new(
                        Code::RejectRouter,
                        certainty,
                        "A rule rejects the data connection, though it is expected.",
                    ),
                    _ => Cause::new(
                        Code::DropRouter,
                        certainty,
                        "A rule drops the data connection, though it is expected.",
                    ),
                }
            }
            Helper::None => {
                let code = if matches!(verdict, Verdict::Reject(_)) { Code::RejectRouter } else { Code::DropRouter };
                let sentence = format!(
                    "The router {what} the data connection: its state is NEW, because no rule attaches the FTP helper, and no rule opens its port."
                );
                Cause::new(code, certainty, sentence)
            }
            other => {
                return self
                    .by_helper(other, announced)
                    .unwrap_or_else(|| Cause::new(Code::DropRouter, certainty, "The router drops it."))
                    .seen([stops]);
            }
        };
        self.mended(cause.seen([stops]), Some(announced))
    }

    /// Returns the cause if an announced data connection failed. `None` if nothing is wrong with it.
    fn data(
        &self,
        number: usize,
        announced: &Announcement,
        exchange: Option<&Exchange>,
        is_followed: bool,
    ) -> Option<Cause> {
        let attempts = self.scene.attempts(self.session, number);
        let opener = usize::from(announced.form.sender() == Sender::Client);
        let place = self.main_place();
        let listens =
            format!("the {} listens on {}", if opener == 0 { "server" } else { "client" }, self.endpoint(announced));
        let says = self.ev(place, announced.at, announced.line.clone(), listens);
        let mut fates = attempts.iter().map(|attempt| (attempt, self.fate(attempt, opener)));
        let open = attempts.iter().find(|attempt| matches!(self.fate(attempt, opener), Fate::Open));
        if let Some(open) = open {
            return self.stalled(open, announced, exchange).map(|cause| cause.seen([says]));
        }
        if attempts.is_empty() {
            return self.nobody_came(number, announced, exchange, is_followed).map(|cause| cause.seen([says]));
        }
        if let Some(cause) = self.untranslated(number, announced) {
            return Some(cause.seen(attempts.iter().filter_map(|attempt| self.dialled(attempt))));
        }
        let (attempt, fate) = fates.next()?;
        let dialled = self.dialled(attempt);
        Some(self.lost(announced, opener, attempt, &fate).seen(core::iter::once(says).chain(dialled)))
    }

    /// The evidence that a connection was dialled.
    fn dialled(&self, attempt: &Attempt) -> Option<Evidence> {
        let place = attempt.places.first().copied()?;
        let flow = self.scene.flow(place);
        let times = flow.syns.len();
        let span = flow.last.time.saturating_sub(flow.first.time) / 1_000_000;
        let how = match (flow.sides[1].reset, flow.icmp.first(), times) {
            (Some((at, _)), ..) => format!("refused by a reset in frame {}", at.frame),
            (_, Some(error), _) => format!(
                "{} answers in frame {}: ICMP type {} code {}",
                error.from, error.at.frame, error.kind, error.code
            ),
            _ if flow.is_answered_in_vain() => format!("{times} times in {span} s, though it is answered"),
            (.., 0 | 1) => "never answered".to_string(),
            _ => format!("{times} times in {span} s, never answered"),
        };
        Some(self.ev(place, flow.first, format!("SYN {} > {}", flow.ends[0], flow.ends[1]), how))
    }

    /// A data connection that was dialled and did not open.
    fn lost(&self, announced: &Announcement, opener: usize, attempt: &Attempt, fate: &Fate) -> Cause {
        let (client, server) = self.ends();
        let question = self.data_question(announced, client, server);
        let peer = if opener == 0 { "server" } else { "client" };
        let (drop_code, refuse_code) =
            if opener == 0 { (Code::DropServer, Code::RejectServer) } else { (Code::DropClient, Code::DropClient) };
        let cause = match fate {
            Fate::DroppedAtPeer(place, certainty) => {
                let sentence = match certainty {
                    Shown => format!("The data connection reaches the {peer}, whose own firewall drops it."),
                    Inferred => format!(
                        "The data connection leaves the router, and the {peer} or its firewall does not answer."
                    ),
                };
                let flow = self.scene.flow(*place);
                let seen = self.ev(
                    *place,
                    flow.first,
                    format!("SYN {} > {}", flow.ends[0], flow.ends[1]),
                    format!("gets as far as here, on the way to the {peer}"),
                );
                let cause = Cause::new(drop_code, *certainty, sentence).seen([seen]);
                if *certainty == Inferred {
                    cause.lacking(format!("a capture on the {peer} would show whether it arrives there"))
                } else {
                    cause
                }
            }
            Fate::RefusedOnTheWay { .. } | Fate::DroppedAtRouter(_) | Fate::RefusedByPeer
                if self.ends_at_router(attempt, opener) =>
            {
                if let Some(cause) = self.asked_rules(announced, question, Shown) {
                    return cause;
                }
                let [client, server] = self.ends_of_client();
                let helper = self.router.map_or(Helper::NotKnown, |router| router.helper(client, server));
                let cause = self.by_helper(&helper, announced);
                return cause.unwrap_or_else(|| {
                    Cause::new(
                        Code::RejectRouter,
                        Inferred,
                        "The data connection ends at the router, though a helper is attached: it expected none.",
                    )
                });
            }
            Fate::AnswerLost(place) => return self.answer_lost(announced, opener, *place),
            Fate::RefusedByPeer => Cause::new(
                refuse_code,
                Shown,
                format!(
                    "The {peer} refuses the data connection: nothing listens on port {}, or its firewall rejects it.",
                    announced.port
                ),
            ),
            Fate::RefusedOnTheWay { by, is_router, .. } => {
                if let Some(cause) = self.asked_rules(announced, question, Shown) {
                    return cause;
                }
                let code = if *is_router { Code::RejectRouter } else { Code::Unknown };
                Cause::new(code, Shown, format!("The data connection is rejected on the way, by {by}."))
                    .or(&[Code::NoHelper, Code::Range])
            }
            Fate::DroppedAtRouter(certainty) => {
                if let Some(cause) = self.asked_rules(announced, question, *certainty) {
                    return cause;
                }
                let code = if self.session.main().tls.is_some() { Code::Tls } else { Code::DropRouter };
                let cause = Cause::new(code, Inferred, "The data connection does not pass the router.");
                let cause = cause.or(&[Code::NoHelper, Code::HelperPort, Code::NoRelated, Code::Range]);
                cause.lacking(
                    "the router's rules (iptables-save, nft -j list ruleset) would tell which of them drops it",
                )
            }
            Fate::Lost | Fate::Open => {
                if self.near(1 - opener).is_none()
                    && let Some(cause) = self.asked_rules(announced, question, Inferred)
                {
                    return cause;
                }
                let tls = self.session.main().tls.is_some();
                let cause = if tls {
                    Cause::new(Code::Tls, Inferred, "Nothing answers the data connection. The control connection is encrypted, so that no firewall on the way can expect it.").or(&[drop_code, Code::Range])
                } else {
                    Cause::new(Code::Unknown, Inferred, format!("Nothing answers the data connection: it is dropped on the way to the {peer}, or by the {peer}'s firewall."))
                        .or(&[drop_code, Code::DropRouter, Code::NoHelper, Code::NoRelated, Code::Range])
                };
                let _ = attempt;
                cause.lacking(format!(
                    "the same session captured on the {peer} and on the routers between shows how far the SYN gets"
                ))
            }
        };
        self.mended(cause, Some(announced))
    }

    /// True if the data connection was dialled to an address of the router, behind which the peer is: without an
    /// expectation that translates it, the router takes it for its own.
    fn ends_at_router(&self, attempt: &Attempt, opener: usize) -> bool {
        let dialled = attempt.places.first().map(|place| address(self.scene.flow(*place).ends[1]));
        self.router.is_some_and(|router| dialled.is_some_and(|dialled| router.is_local(dialled)))
            && dialled != Some(self.ends_of_peer(opener))
    }

    /// The data connection arrives and is answered, and the answer goes astray: it comes from an address that is not the one
    /// of the control connection, where NAT without a helper leaves it as it is.
    fn answer_lost(&self, announced: &Announcement, opener: usize, at: Place) -> Cause {
        let flow = self.scene.flow(at);
        let (peer, dialler) = if opener == 0 { ("server", "client") } else { ("client", "server") };
        let (from, usual) = (address(flow.ends[0]), self.ends_of_client()[opener].ip());
        let seen = self.ev(
            at,
            flow.syn_ack.unwrap_or(flow.first),
            format!("SYN-ACK {} > {}", flow.ends[1], flow.ends[0]),
            format!("the {peer} answers, and the {dialler} never gets it"),
        );
        if opener == 1 && from != usual {
            let from_ev = self.ev(
                at,
                flow.first,
                format!("SYN {} > {}", flow.ends[0], flow.ends[1]),
                format!("comes from {from}, and the control connection's server is {usual}"),
            );
            let helper = self.router.map(|router| router.helper(self.ends_of_client()[0], self.ends_of_client()[1]));
            let cause = helper.and_then(|helper| self.by_helper(&helper, announced)).unwrap_or_else(|| {
                let sentence = format!(
                    "The data connection leaves with the address {from}, to which no answer comes back: nothing translates it to {usual}."
                );
                let cause = Cause::new(Code::NoHelper, Inferred, sentence).or(&[Code::HelperPort, Code::NoModule]);
                self.mended(cause, Some(announced))
                    .lacking("the rules of the router that translates would tell why its helper does not")
            });
            return cause.seen([from_ev, seen]);
        }
        let sentence = format!("The {peer} answers the data connection, and its answer does not reach the {dialler}.");
        let cause = Cause::new(Code::Unknown, Inferred, sentence).or(&[Code::DropRouter, Code::NoHelper]);
        cause.seen([seen]).lacking("captures on the routers between show how far the answer gets")
    }

    /// Returns the verdict of the router's rules on a data connection that did not pass.
    fn asked_rules(
        &self,
        announced: &Announcement,
        question: (SocketAddr, SocketAddr),
        certainty: Certainty,
    ) -> Option<Cause> {
        let router = self.router?;
        let [client, server] = self.ends_of_client();
        let is_readable = self.session.main().tls.is_none();
        let expected = is_readable && matches!(router.helper(client, server), Helper::Attached(_));
        let state = if expected { StateSet::RELATED } else { StateSet::NEW };
        let (mut verdict, hook) = router.verdict(question.0, question.1, state)?;
        if verdict == Verdict::Accept && expected {
            // The helper may have expected nothing.
            verdict = router.verdict(question.0, question.1, StateSet::NEW)?.0;
        }
        (verdict != Verdict::Accept).then(|| self.router_drops(announced, question, hook, &verdict, certainty))
    }

    /// Nobody dialled what was announced.
    fn nobody_came(
        &self,
        number: usize,
        announced: &Announcement,
        exchange: Option<&Exchange>,
        is_followed: bool,
    ) -> Option<Cause> {
        let opener = usize::from(announced.form.sender() == Sender::Client);
        let place = self.main_place();
        let flow = self.scene.flow(place);
        let code = exchange.map_or(0, Exchange::code);
        let failed = matches!(code, 425 | 426 | 421);
        let unanswered = exchange.is_some_and(|exchange| exchange.answer.is_none());
        let gave_up = exchange.is_none() && !is_followed;
        if !(failed || unanswered || gave_up) {
            return None;
        }
        let quit = self.session.main().exchanges.get(announced.exchange + 1..).unwrap_or_default();
        if gave_up && quit.iter().any(|exchange| exchange.verb != "QUIT") {
            // The client went on to other things: it did not want the connection.
            return None;
        }
        if self.scene.view(place).is_log {
            return self.not_in_log(number, announced);
        }
        let ended = flow.sides.iter().any(|side| side.fin.is_some() || side.reset.is_some());
        let waited = self.scene.view(place).last.time.saturating_sub(announced.at.time);
        if !ended && waited < SHORT && !failed {
            let cause = Cause::new(Code::TooShort, Shown, "The capture ends before the data connection comes.");
            return Some(cause.lacking("let the capture run until the client reports its error"));
        }
        let accepted =
            self.session.main().exchanges.get(announced.exchange).is_some_and(|exchange| exchange.code() > 0);
        if gave_up && opener == 1 && accepted {
            return None;
        }
        if let Some(cause) = self.untranslated(number, announced) {
            return Some(cause);
        }
        if gave_up && ended && self.near(opener).is_some() && self.session.places.len() == 1 && waited < SHORT {
            return None;
        }
        let dialler = if opener == 0 { "client" } else { "server" };
        let (client, server) = self.ends();
        if self.near(opener).is_none() && self.near(1 - opener).is_none() && !self.has_router_views() && !failed {
            return None;
        }
        if self.near(opener).is_none()
            && let Some(cause) = self.asked_rules(announced, self.data_question(announced, client, server), Inferred)
        {
            return Some(cause);
        }
        let cause = Cause::new(
            Code::Unknown,
            Inferred,
            format!("The {dialler} never dials the data connection where this capture could see it."),
        );
        let cause = cause.or(if opener == 0 {
            &[Code::DropRouter, Code::NoHelper, Code::Range, Code::WrongAddress]
        } else {
            &[Code::DropRouter, Code::NoHelper, Code::HelperPort]
        });
        Some(cause.lacking(format!("a capture on the {dialler} shows whether, and where to, it dials")))
    }

    /// A client's log ends without the data connection: only files can tell more.
    fn not_in_log(&self, number: usize, announced: &Announcement) -> Option<Cause> {
        if let Some(cause) = self.untranslated(number, announced) {
            return Some(cause);
        }
        let passive = announced.form.sender() == Sender::Server;
        let cause = if self.session.main().tls.is_some() {
            let sentence = "The data connection fails, and the control connection is encrypted, so that no firewall on the way can expect it.";
            Cause::new(Code::Tls, Inferred, sentence).or(&[Code::DropServer, Code::Range])
        } else {
            let sentence = "The data connection fails: it is dropped on the way, or by a firewall at its end.";
            let candidates: &[Code] = if passive {
                &[Code::DropServer, Code::DropRouter, Code::NoHelper, Code::Range]
            } else {
                &[Code::DropClient, Code::NoHelper, Code::DropRouter, Code::HelperPort]
            };
            Cause::new(Code::Unknown, Inferred, sentence).or(candidates)
        };
        let missing =
            "a log does not show packets: a capture on the client, and one on the server, show where they get lost";
        let said = self.ev(self.main_place(), announced.at, announced.line.clone(), "no data connection follows");
        Some(self.mended(cause.lacking(missing).seen([said]), Some(announced)))
    }

    /// An open data connection that does not do its work.
    fn stalled(&self, attempt: &Attempt, announced: &Announcement, exchange: Option<&Exchange>) -> Option<Cause> {
        let flows = || attempt.places.iter().map(|place| (*place, self.scene.flow(*place)));
        for (place, flow) in flows() {
            for side in &flow.sides {
                let resent = side.resent;
                let never = side.acked.is_none_or(|acked| resent.sequence.wrapping_sub(acked) as i32 >= 0);
                if resent.times >= 3 && resent.length > 500 && never {
                    let arrived = flows().any(|(_, other)| other.ends != flow.ends || self.scene.views.len() > 1);
                    let certainty = if arrived { Shown } else { Inferred };
                    let seen = self.ev(
                        place,
                        resent.last,
                        format!("{} bytes, sent {} times, never acknowledged", resent.length, resent.times + 1),
                        "small packets pass and large ones do not",
                    );
                    return Some(self.mended(Cause::new(Code::Mtu, certainty, "Large packets of the data connection do not arrive: a link on the way takes less, and nobody tells the sender.").seen([seen]), Some(announced)));
                }
            }
        }
        let exchange = exchange?;
        if exchange.preliminary.is_none() || exchange.answer.as_ref().is_some_and(|answer| answer.code < 400) {
            return None;
        }
        let uploads = matches!(exchange.verb.as_str(), "STOR" | "APPE" | "STOU");
        for (place, flow) in flows() {
            // The sending side's data never comes, though its handshake did.
            let passive = announced.form.sender() == Sender::Server;
            let sender = usize::from(passive != uploads);
            let waited = flow.last.time.max(self.scene.flow(self.main_place()).last.time) - flow.first.time;
            let silent =
                flow.sides[sender].bytes == 0 && flow.sides[sender].fin.is_none() && flow.sides[sender].reset.is_none();
            let at_sender = self.near(usize::from(!uploads)).is_some_and(|near| near.view == place.view);
            if silent && waited > SHORT && !at_sender {
                let seen = self.ev(
                    place,
                    flow.first,
                    format!("{} > {}: opened, and no byte comes", flow.ends[0], flow.ends[1]),
                    "the transfer was announced by 150",
                );
                let cause = Cause::new(
                    Code::Mtu,
                    Inferred,
                    "The data connection opens, and nothing comes through it: large packets may not pass.",
                );
                return Some(
                    self.mended(
                        cause.seen([seen]).lacking(
                            "a capture on the sending side shows whether it sends large packets again and again",
                        ),
                        Some(announced),
                    ),
                );
            }
        }
        None
    }

    /// `PASV`, `EPSV`, `PORT` or `EPRT` were refused, and nothing was transferred after that.
    fn refused_modes(&self, said: &Dialogue) -> Option<Cause> {
        let mut refused = said.exchanges.iter().enumerate().filter(|(_, exchange)| {
            matches!(exchange.verb.as_str(), "PASV" | "EPSV" | "PORT" | "EPRT") && (400..600).contains(&exchange.code())
        });
        let (index, last) = refused.next_back()?;
        let later = said.exchanges.get(index + 1..).unwrap_or_default();
        let recovered = later.iter().any(|exchange| {
            exchange.is_transfer() && (200..300).contains(&exchange.code())
                || matches!(exchange.code(), 227 | 229)
                || matches!(exchange.verb.as_str(), "PORT" | "EPRT") && exchange.code() == 200
        });
        if recovered {
            return None;
        }
        let place = self.main_place();
        let answer = last.answer.as_ref()?;
        let seen = self.ev(
            place,
            answer.at,
            format!("{} {}", answer.code, answer.text),
            format!("the answer to {}", last.verb),
        );
        if matches!(answer.code, 530) {
            return Some(
                self.mended(Cause::new(Code::Login, Shown, "The server wants a login first.").seen([seen]), None),
            );
        }
        if let Some((number, announced)) =
            said.announcements.iter().enumerate().find(|(_, announced)| announced.exchange == index)
        {
            return self.refused_announcement(said, number, announced);
        }
        let pasv_refused = said.exchanges.iter().any(|exchange| exchange.verb == "PASV" && exchange.code() >= 400);
        let (code, sentence) = match last.verb.as_str() {
            "PASV" => (Code::NoPassive, "The server does not offer passive mode."),
            "EPSV" if pasv_refused => (Code::NoPassive, "The server does not offer passive mode."),
            "EPSV" | "EPRT" => (
                Code::ExtendedRefused,
                "The server does not know the extended commands, and the client tries no other.",
            ),
            _ => (Code::PortRefused, "The server refuses active mode."),
        };
        Some(self.mended(Cause::new(code, Shown, sentence).seen([seen]), None))
    }

    /// Connections that were dialled while the control connection was encrypted, and did not open.
    fn within_tls(&self) -> Option<Cause> {
        let said = self.session.main();
        let tls = said.tls?;
        let attempts = self.scene.dialled_in_tls(self.session);
        let opened = attempts.iter().any(|attempt| {
            attempt.places.iter().any(|place| {
                let flow = self.scene.flow(*place);
                flow.syn_ack.is_some() && flow.sides[1].reset.is_none()
            })
        });
        if attempts.is_empty() {
            return self.quiet_tls(tls);
        }
        let attempt = attempts.iter().rev().find(|attempt| {
            attempt.places.iter().all(|place| {
                let flow = self.scene.flow(*place);
                flow.syn_ack.is_none()
            })
        })?;
        if opened {
            return None;
        }
        let flow = self.scene.flow(attempt.places[0]);
        let (client, server) = self.ends();
        let opener = usize::from(flow.ends[0].ip() != self.scene.flow(self.main_place()).ends[0].ip());
        let form = if opener == 0 { Form::Pasv } else { Form::Port };
        let announced = Announcement {
            form,
            address: Some(flow.ends[1].ip()),
            port: flow.ends[1].port(),
            at: tls,
            line: String::new(),
            exchange: 0,
        };
        let place = self.main_place();
        let seen = [self.ev(place, tls, "TLS begins", "what is announced cannot be read by any helper")];
        let dialled = self.dialled(attempt);
        let [_, dialled_server] = self.ends_of_client();
        let elsewhere = opener == 0 && address(flow.ends[1]) != dialled_server.ip();
        let cause = if elsewhere && (address(flow.ends[1]) == server.ip() || is_private(address(flow.ends[1]))) {
            let sentence = format!(
                "The server announces {} within TLS, where no helper can rewrite it; clients reach it as {}.",
                flow.ends[1].ip(),
                dialled_server.ip()
            );
            self.mended(Cause::new(Code::Tls, Shown, sentence), Some(&announced))
        } else {
            let _ = client;
            let fate = self.fate(attempt, opener);
            self.lost(&announced, opener, attempt, &fate)
        };
        Some(cause.seen(seen.into_iter().chain(dialled)))
    }

    /// Nothing was dialled in a session that went on in TLS for a while: only the dialling side knows.
    fn quiet_tls(&self, tls: Mark) -> Option<Cause> {
        let place = self.main_place();
        let flow = self.scene.flow(place);
        let last_said = flow.sides[1].last_data.map_or(tls.time, |at| at.time);
        // A client that gives up waits first, and then closes; one that is content says QUIT, and is answered.
        if flow.last.time.saturating_sub(last_said) < SHORT {
            return None;
        }
        let seen = self.ev(place, tls, "TLS begins", "what is said and announced cannot be read");
        let cause = Cause::new(
            Code::Unknown,
            Inferred,
            "The dialogue is encrypted, and no data connection comes where this capture could see it.",
        );
        let cause = cause.or(&[Code::Tls, Code::Healthy]).seen([seen]);
        Some(cause.lacking("a capture on the client shows whether it dials one, and the client's log what it was told"))
    }

    /// The control connection was dropped by a machine that had forgotten it.
    fn closed_while_idle(&self, said: &Dialogue) -> Option<Cause> {
        let place = self.main_place();
        let idle = said.exchanges.iter().rfind(|exchange| exchange.code() == 421)?;
        let answer = idle.answer.as_ref()?;
        let seen = self.ev(place, answer.at, format!("421 {}", answer.text), "the server ends the session");
        let text = answer.text.to_ascii_lowercase();
        let is_idle = ["idle", "timeout", "timed out", "inactiv"].iter().any(|word| text.contains(word));
        let waits = idle.is_transfer() && is_idle;
        waits.then(|| {
            self.mended(
                Cause::new(Code::IdleControl, Shown, "The server closed the session for being idle.").seen([seen]),
                None,
            )
        })
    }
}

/// A data connection is given this long to come, in microseconds.
const SHORT: i64 = 3_000_000;
