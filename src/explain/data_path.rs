//! Data connections that do not arrive.

use core::net::SocketAddr;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::cause::Certainty::{self, Inferred, Shown};
use super::cause::{Cause, Code, Evidence};
use super::diagnose::Diagnosis;
use super::dialogue::{Announcement, Exchange};
use super::fate::Fate;
use super::filter::Verdict;
use super::router::Helper;
use super::session::{Attempt, Place, address};
use super::stalled::SHORT;
use crate::ftp::Sender;
use crate::netfilter::StateSet;

impl Diagnosis<'_> {
    /// Returns the ends of an announcement's data connection after all NAT.
    pub(super) fn data_question(
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

    /// The router's filter stops the data connection.
    pub(super) fn router_drops(
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
    pub(super) fn data(
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
    pub(super) fn dialled(&self, attempt: &Attempt) -> Option<Evidence> {
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
    pub(super) fn lost(&self, announced: &Announcement, opener: usize, attempt: &Attempt, fate: &Fate) -> Cause {
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
                let cause = self.asked_rules(announced, question, *certainty);
                if let Some(cause) = cause.or_else(|| self.table_full()) {
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
}
