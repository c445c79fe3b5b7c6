//! Failures of control connections, of logins, and of connections within TLS.

use std::format;
use std::string::{String, ToString};

use super::cause::Certainty::{Inferred, Shown};
use super::cause::{Cause, Code, Machine};
use super::diagnose::Diagnosis;
use super::dialogue::{Announcement, Dialogue, Exchange, is_private};
use super::fate::Fate;
use super::flow::Mark;
use super::session::{Attempt, address};
use super::stalled::SHORT;
use crate::ftp::Form;

impl Diagnosis<'_> {
    /// The control connection itself was not answered, or only one side of it is there.
    pub(super) fn control_connection(&self) -> Option<Cause> {
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
                Fate::RefusedByPeer => self.no_real_server().unwrap_or_else(|| {
                    let sentence = "The server refuses the control connection: nothing listens on that port.";
                    Cause::new(Code::RejectServer, Shown, sentence)
                }),
                Fate::RefusedOnTheWay { by, .. } => self.no_real_server().unwrap_or_else(|| {
                    Cause::new(Code::RejectRouter, Shown, format!("The control connection is rejected by {by}."))
                }),
                Fate::DroppedAtPeer(_, certainty) => {
                    Cause::new(Code::DropServer, certainty, "The server does not answer the control connection.")
                }
                Fate::DroppedAtRouter(certainty) => self.table_full().unwrap_or_else(|| {
                    Cause::new(Code::DropRouter, certainty, "The control connection does not pass the router.")
                }),
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
    pub(super) fn login(&self, said: &Dialogue) -> Option<Cause> {
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

    /// Connections that were dialled while the control connection was encrypted, and did not open.
    pub(super) fn within_tls(&self) -> Option<Cause> {
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
    pub(super) fn closed_while_idle(&self, said: &Dialogue) -> Option<Cause> {
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
