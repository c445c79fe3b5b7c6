//! From what was seen of a session to its causes.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::cause::Certainty::{Inferred, Shown};
use super::cause::{Cause, Code, Evidence};
use super::dialogue::{Announcement, Dialogue, Exchange, Transfer};
use super::flow::Mark;
use super::remedy::{Known, remedies};
use super::router::RouterFiles;
use super::server::ServerFiles;
use super::session::{Place, Scene, Session};
use super::settings;
use crate::netfilter::StateSet;

/// A session, what was captured, and the files at hand.
pub(super) struct Diagnosis<'a> {
    pub(super) scene: &'a Scene,
    pub(super) session: &'a Session,
    pub(super) router: Option<&'a RouterFiles>,
    pub(super) server_files: Option<&'a ServerFiles>,
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

    pub(super) fn main_place(&self) -> Place {
        self.session.places[0]
    }

    pub(super) fn ev(&self, place: Place, at: Mark, shown: impl Into<String>, means: impl Into<String>) -> Evidence {
        let view = self.scene.view(place);
        let (name, frame) =
            if view.is_log { (format!("{} line {}", view.name, at.frame), 0) } else { (view.name.clone(), at.frame) };
        Evidence { view: name, frame, shown: shown.into(), means: means.into() }
    }

    pub(super) fn rule(shown: impl Into<String>, means: impl Into<String>) -> Evidence {
        Evidence { view: String::new(), frame: 0, shown: shown.into(), means: means.into() }
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
            table_size: self.router.and_then(RouterFiles::table_size).unwrap_or(0),
            limited_servers: self.router.map(RouterFiles::limited_servers).unwrap_or_default(),
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

    pub(super) fn mended(&self, mut cause: Cause, announced: Option<&Announcement>) -> Cause {
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

    pub(super) fn transfer(&self, said: &Dialogue, transfer: Transfer, is_followed: bool) -> Option<Cause> {
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
}
