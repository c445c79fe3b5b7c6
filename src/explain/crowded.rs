//! Failures for want of room: a connection table that is full, a load balancer whose servers take no more clients, an endpoint
//! that two sessions announce at the same time.

use core::net::IpAddr;
use std::format;
use std::vec::Vec;

use super::cause::Certainty::{Inferred, Shown};
use super::cause::{Cause, Code, Machine};
use super::diagnose::Diagnosis;
use super::dialogue::Announcement;
use super::remedy::in_words;
use super::router::RouterFiles;
use super::session::{Scene, Session, address};
use crate::ftp::Sender;

impl Diagnosis<'_> {
    /// The router's connection table has no room for another connection.
    pub(super) fn table_full(&self) -> Option<Cause> {
        let (most, count) = self.router?.full_table()?;
        let sentence = format!(
            "The router's connection table is full: {count} of at most {most} connections, so that new ones are dropped."
        );
        let rule = Self::rule(
            format!("net.netfilter.nf_conntrack_max = {most}"),
            format!(
                "{count} connections are in the table; the kernel's log says: nf_conntrack: table full, dropping packet"
            ),
        );
        Some(self.mended(Cause::new(Code::TableFull, Inferred, sentence).seen([rule]), None))
    }

    /// The control connection was dialled to a virtual service of the router, and no real server takes it.
    pub(super) fn no_real_server(&self) -> Option<Cause> {
        let router = self.router?;
        let dialled = address(self.scene.flow(self.main_place()).ends[1]);
        let is_virtual = router.is_local(dialled) && router.directory.ipvs.is_some();
        let sentence =
            "The load balancer has no real server that takes another client, and resets the connection itself.";
        let cause = Cause::new(Code::Busy, Inferred, sentence).on(Machine::Router);
        is_virtual.then(|| self.mended(cause.or(&[Code::RejectServer]), None))
    }
}

/// The announcements of a session, each with the address that it names.
fn endpoints<'s>(scene: &Scene, session: &'s Session) -> Vec<(IpAddr, &'s Announcement)> {
    let ends = scene.flow(session.places[0]).ends;
    let address_of = |announced: &Announcement| {
        let own = ends[usize::from(announced.form.sender() == Sender::Server)];
        announced.address.map_or_else(|| address(own), |address| address.to_canonical())
    };
    session.main().announcements.iter().map(|announced| (address_of(announced), announced)).collect()
}

/// Two control connections announce the same endpoint: the helper can expect its data connection for one of them only, and
/// drops the other's announcement.
pub(super) fn same_endpoint(
    scene: &Scene,
    sessions: &[Session],
    number: usize,
    router: Option<&RouterFiles>,
) -> Option<Cause> {
    let session = &sessions[number];
    let place = session.places[0];
    let first = scene.flow(place).first.time;
    for (endpoint, announced) in endpoints(scene, session) {
        let answered = session.main().exchanges.get(announced.exchange).is_some_and(|exchange| exchange.code() > 0);
        if answered && announced.form.sender() == Sender::Client {
            // The announcement got through.
            continue;
        }
        for (other_number, other) in sessions.iter().enumerate().filter(|(other, _)| *other != number) {
            let other_place = other.places[0];
            if scene.view(other_place).file != scene.view(place).file || scene.flow(other_place).last.time < first {
                continue;
            }
            let earlier = endpoints(scene, other).into_iter().find(|(its_endpoint, its)| {
                *its_endpoint == endpoint
                    && its.port == announced.port
                    && its.form.sender() == announced.form.sender()
                    && its.at.time <= announced.at.time
            });
            let Some((_, earlier)) = earlier else { continue };
            let sentence = format!(
                "Two control connections announce {endpoint} port {} at the same time: the helper expects its data connection for session {}, and drops this one's announcement.",
                announced.port,
                other_number + 1
            );
            let certainty = if router.is_some() { Shown } else { Inferred };
            let diagnosis = Diagnosis { scene, session, router, server_files: None };
            let seen = [
                diagnosis.ev(other_place, earlier.at, earlier.line.clone(), format!("session {}", other_number + 1)),
                diagnosis.ev(
                    place,
                    announced.at,
                    announced.line.clone(),
                    "this session, while the other's data connection is still expected",
                ),
            ];
            let mut cause = Cause::new(Code::SameEndpoint, certainty, sentence).on(Machine::Router).seen(seen);
            let who = if announced.form.sender() == Sender::Client { Machine::Client } else { Machine::Server };
            let words =
                "Let each data connection have a port of its own: a wider range of ports, and none that is fixed.";
            cause.remedies.push(in_words(who, words));
            return Some(cause);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Explanation, Options};
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_endpoint_that_two_logs_announce_is_found() {
        // One file with two sessions: the second one's announcement is never answered.
        let log = "*   Trying 192.0.2.7:21...\n< 220 a\n> USER x\n< 230 in\n> PORT 10,0,0,5,195,80\n< 200 ok\n> LIST\n\
                   < 220 a\n> USER x\n< 230 in\n> PORT 10,0,0,5,195,80\n";
        let mut explanation = Explanation::of(Options::default());
        assert!(explanation.read_log("log", log));
        let report = explanation.report();
        let cause = &report.sessions[1].causes[0];
        assert_eq!(cause.code, Code::SameEndpoint, "{cause:?}");
        assert!(cause.sentence.contains("10.0.0.5 port 50000") && cause.sentence.contains("session 1"), "{cause:?}");
        assert!(cause.remedies[0].to_string().contains("a port of its own"));
        // Another port is another endpoint.
        let mut explanation = Explanation::of(Options::default());
        explanation.read_log("log", &log.replacen("195,80", "195,81", 1));
        assert_ne!(explanation.report().sessions[1].code(), Code::SameEndpoint);
    }
}
