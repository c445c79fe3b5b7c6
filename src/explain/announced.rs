//! Announcements that are refused, or that nobody translates.

use core::net::{IpAddr, SocketAddr};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::cause::Certainty::{Inferred, Shown};
use super::cause::{Cause, Code, Machine};
use super::diagnose::Diagnosis;
use super::dialogue::{Announcement, Dialogue, is_private};
use super::fate::Fate;
use super::filter::Verdict;
use super::router::Helper;
use super::session::{address, hops};
use crate::ftp::{Form, Sender};
use crate::netfilter::StateSet;

impl Diagnosis<'_> {
    /// The server refused `PORT` or `EPRT`.
    pub(super) fn refused_announcement(
        &self,
        said: &Dialogue,
        number: usize,
        announced: &Announcement,
    ) -> Option<Cause> {
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

    pub(super) fn endpoint(&self, announced: &Announcement) -> SocketAddr {
        let [_, server] = self.ends_of_client();
        SocketAddr::new(announced.address.unwrap_or(server.ip()), announced.port)
    }

    /// The announced address is not one that the other side can use: NAT without a helper, or a wrong setting.
    pub(super) fn untranslated(&self, number: usize, announced: &Announcement) -> Option<Cause> {
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

    /// The cause that the state of the helper is; `None` if it is attached.
    pub(super) fn by_helper(&self, helper: &Helper, announced: &Announcement) -> Option<Cause> {
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

    /// `PASV`, `EPSV`, `PORT` or `EPRT` were refused, and nothing was transferred after that.
    pub(super) fn refused_modes(&self, said: &Dialogue) -> Option<Cause> {
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
}
