//! Announced endpoints, and the connections that come to them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{HashMap, VecDeque};
use std::vec::Vec;

use super::{Fit, FramePos, SessionId, Unfulfilled};
use crate::Instant;
use crate::ftp::Sender;
use crate::packet::Segment;

/// So many announcements of one control connection are waited for; clients use one after the other.
pub(super) const MAX_OPEN: usize = 16;
/// So many announcements of one endpoint are waited for.
const MAX_SHARED: usize = 64;
/// So many SYNs that nobody announced are remembered, for captures that show packets out of order.
const RECENT: usize = 64;
/// They are no older than this, in microseconds.
const RECENT_MICROS: u64 = 1_000_000;

/// An announcement that may be met.
#[derive(Clone, Copy)]
pub(super) struct Open {
    pub(super) session: SessionId,
    pub(super) number: u32,
    /// Address that will open the connection.
    pub(super) opener: Sender,
    /// The address of that side of the control connection.
    pub(super) from: IpAddr,
    /// That address on the other side of a router that translates it.
    pub(super) from_translated: Option<IpAddr>,
    /// Endpoint that was announced.
    pub(super) there: SocketAddr,
    /// The same port at the announcer's address on the control connection, where that is another.
    pub(super) own: Option<SocketAddr>,
    /// Number of connections that came.
    pub(super) met: u32,
    /// True if a transfer was asked for.
    pub(super) asked: bool,
    /// True if the server said that the transfer begins.
    pub(super) begun: bool,
    /// The reason why no connection comes, as the server's replies tell it.
    pub(super) why: Option<Unfulfilled>,
}

/// A SYN.
#[derive(Clone, Copy)]
pub(super) struct Syn {
    pub(super) at: FramePos,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) segment: Segment,
    /// Bytes of its frame with all headers.
    pub(super) frame_bytes: u64,
}

/// An announcement that is given up, and the reason.
pub(super) type GivenUp = (u32, Unfulfilled);

/// All announcements that may be met.
#[derive(Default)]
pub(super) struct Expected {
    open: HashMap<SessionId, VecDeque<Open>>,
    /// Sessions whose announcements name an endpoint.
    endpoints: HashMap<SocketAddr, Vec<SessionId>>,
    recent: VecDeque<Syn>,
}

impl Expected {
    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// An endpoint was announced. What is given up for it.
    pub(super) fn announce(&mut self, open: Open) -> Option<GivenUp> {
        for endpoint in [Some(open.there), open.own].into_iter().flatten() {
            let sessions = self.endpoints.entry(endpoint).or_default();
            if sessions.len() == MAX_SHARED {
                sessions.remove(0);
            }
            sessions.push(open.session);
        }
        let all = self.open.entry(open.session).or_default();
        all.push_back(open);
        let oldest = if all.len() > MAX_OPEN { all.pop_front() } else { None }?;
        self.forget_endpoints(&oldest);
        given_up(&oldest, Unfulfilled::Replaced)
    }

    /// The server refused the latest announcement of a control connection.
    pub(super) fn refuse(&mut self, session: SessionId, code: u16) {
        if let Some(latest) = self.latest(session).filter(|latest| latest.opener == Sender::Server) {
            latest.why = Some(Unfulfilled::Refused(code));
        }
    }

    /// The client asked for a transfer.
    pub(super) fn ask(&mut self, session: SessionId) {
        if let Some(latest) = self.latest(session) {
            latest.asked = true;
        }
    }

    /// The server answered the command for a transfer.
    pub(super) fn answer(&mut self, session: SessionId, code: u16) {
        let Some(latest) = self.latest(session) else { return };
        latest.asked = true;
        match code {
            100..200 => latest.begun = true,
            // A reply without 125 or 150 does not show that a connection was opened.
            200..300 if latest.begun => latest.why = Some(Unfulfilled::NotCaptured),
            425 => latest.why = Some(Unfulfilled::NoConnection(code)),
            400.. => latest.why = Some(Unfulfilled::TransferRefused(code)),
            _ => {}
        }
    }

    fn latest(&mut self, session: SessionId) -> Option<&mut Open> {
        self.open.get_mut(&session).and_then(VecDeque::back_mut)
    }

    /// A control connection is gone: what it announced and nobody met.
    pub(super) fn forget(&mut self, session: SessionId, why: Unfulfilled) -> Vec<GivenUp> {
        let all = self.open.remove(&session).unwrap_or_default();
        all.iter().for_each(|open| self.forget_endpoints(open));
        let last = all.len().saturating_sub(1);
        let whys = (0..).map(|place| if place < last { Unfulfilled::Replaced } else { why });
        all.iter().zip(whys).filter_map(|(open, why)| given_up(open, why)).collect()
    }

    fn forget_endpoints(&mut self, open: &Open) {
        for endpoint in [Some(open.there), open.own].into_iter().flatten() {
            if let Some(sessions) = self.endpoints.get_mut(&endpoint) {
                if let Some(place) = sessions.iter().position(|session| *session == open.session) {
                    sessions.remove(place);
                }
                if sessions.is_empty() {
                    self.endpoints.remove(&endpoint);
                }
            }
        }
    }

    /// Returns true if a connection between these ends was announced exactly so, and none came yet.
    pub(super) fn is_expected(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let sessions = self.endpoints.get(&to).map_or(&[][..], Vec::as_slice);
        let mut open = sessions.iter().filter_map(|session| self.open.get(session)).flatten();
        open.any(|open| open.met == 0 && fit(open, from, to) == Some(Fit::Exact))
    }

    /// The announcement that a connection from one endpoint to another meets best, which is met then; as it was before.
    pub(super) fn meet(&mut self, from: SocketAddr, to: SocketAddr) -> Option<(Open, Fit)> {
        let sessions = self.endpoints.get(&to)?;
        let mut best: Option<((bool, u8), SessionId, u32, Fit)> = None;
        for session in sessions {
            // The latest first.
            for open in self.open.get(session).into_iter().flatten().rev() {
                let Some(fit) = fit(open, from, to) else { continue };
                let rank = (open.met > 0, fit as u8);
                if best.as_ref().is_none_or(|(other, ..)| rank < *other) {
                    best = Some((rank, *session, open.number, fit));
                }
            }
        }
        let (_, session, number, fit) = best?;
        let open = self.open.get_mut(&session)?.iter_mut().find(|open| open.number == number)?;
        let found = *open;
        open.met = open.met.saturating_add(1);
        Some((found, fit))
    }

    /// Remembers a SYN that nobody announced.
    pub(super) fn remember(&mut self, syn: Syn) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(syn);
    }

    /// A SYN that came just before this was announced.
    pub(super) fn came_before(&mut self, open: &Open, now: Instant) -> Option<Syn> {
        let fits = |syn: &Syn| {
            fit(open, syn.from, syn.to) == Some(Fit::Exact)
                && now.micros().abs_diff(syn.at.time.micros()) <= RECENT_MICROS
        };
        let place = self.recent.iter().rposition(fits)?;
        self.recent.remove(place)
    }
}

fn fit(open: &Open, from: SocketAddr, to: SocketAddr) -> Option<Fit> {
    let from_other_side = from.ip() == open.from || Some(from.ip()) == open.from_translated;
    match (open.there == to, open.own == Some(to)) {
        (true, _) if from_other_side => Some(Fit::Exact),
        (true, _) => Some(Fit::OtherSource),
        (false, true) if from_other_side => Some(Fit::OwnAddress),
        _ => None,
    }
}

fn given_up(open: &Open, why: Unfulfilled) -> Option<GivenUp> {
    let why = match open.why {
        Some(why) => why,
        None if !open.asked && why != Unfulfilled::EndOfCapture => Unfulfilled::Unused,
        None => why,
    };
    (open.met == 0).then_some((open.number, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Headers, Layer4};
    use std::vec;

    const SERVER: &str = "10.0.0.1";

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn open(session: u64, number: u32, there: &str, own: Option<&str>) -> Open {
        Open {
            session: SessionId(session),
            number,
            opener: Sender::Server,
            from: SERVER.parse().unwrap(),
            there: end(there),
            own: own.map(end),
            from_translated: None,
            met: 0,
            asked: false,
            begun: false,
            why: None,
        }
    }

    fn meet(expected: &mut Expected, from: &str, to: &str) -> Option<(u64, u32, Fit)> {
        expected.meet(end(from), end(to)).map(|(open, fit)| (open.session.0, open.number, fit))
    }

    #[test]
    fn the_best_fit_is_met() {
        let mut expected = Expected::default();
        expected.announce(open(1, 1, "192.168.0.9:1025", Some("10.0.0.2:1025")));
        expected.announce(open(2, 1, "10.0.0.2:1025", None));
        assert_eq!(meet(&mut expected, "10.0.0.1:20", "10.0.0.2:1025"), Some((2, 1, Fit::Exact)));
        assert_eq!(meet(&mut expected, "10.0.0.1:20", "10.0.0.2:1025"), Some((1, 1, Fit::OwnAddress)));
        assert_eq!(meet(&mut expected, "10.0.0.7:20", "192.168.0.9:1025"), Some((1, 1, Fit::OtherSource)));
        assert_eq!(meet(&mut expected, "10.0.0.7:20", "10.0.0.2:1026"), None);
    }

    #[test]
    fn the_latest_is_met_first() {
        let mut expected = Expected::default();
        expected.announce(open(1, 1, "10.0.0.2:1025", None));
        expected.announce(open(1, 2, "10.0.0.2:1025", None));
        assert_eq!(meet(&mut expected, "10.0.0.1:20", "10.0.0.2:1025"), Some((1, 2, Fit::Exact)));
        assert_eq!(meet(&mut expected, "10.0.0.1:20", "10.0.0.2:1025"), Some((1, 1, Fit::Exact)));
        assert_eq!(expected.forget(SessionId(1), Unfulfilled::Over), []);
        assert!(expected.is_empty());
    }

    #[test]
    fn what_nobody_met_is_given_up() {
        let mut expected = Expected::default();
        let port = |number: u32| std::format!("10.0.0.2:{}", 1024 + number);
        let given: Vec<_> =
            (1..=MAX_OPEN as u32 + 1).filter_map(|n| expected.announce(open(1, n, &port(n), None))).collect();
        assert_eq!(given, [(1, Unfulfilled::Unused)]);
        assert_eq!(meet(&mut expected, "10.0.0.1:20", &port(1)), None);
        expected.refuse(SessionId(1), 500);
        for n in 2..=MAX_OPEN as u32 - 1 {
            assert!(meet(&mut expected, "10.0.0.1:20", &port(n)).is_some());
        }
        let (before, last) = (MAX_OPEN as u32, MAX_OPEN as u32 + 1);
        let mut filtered = Expected::default();
        filtered.announce(open(1, 1, "10.0.0.2:1025", None));
        filtered.answer(SessionId(1), 150);
        filtered.answer(SessionId(1), 226);
        assert_eq!(filtered.forget(SessionId(1), Unfulfilled::Over), [(1, Unfulfilled::NotCaptured)]);
        assert_eq!(
            expected.forget(SessionId(1), Unfulfilled::EndOfCapture),
            vec![(before, Unfulfilled::Unused), (last, Unfulfilled::Refused(500))]
        );
        assert!(expected.is_empty());
    }

    #[test]
    fn replies_tell_why_nothing_came() {
        let told = |replies: &[u16]| {
            let mut expected = Expected::default();
            expected.announce(open(1, 1, "10.0.0.2:1025", None));
            expected.ask(SessionId(1));
            replies.iter().for_each(|code| expected.answer(SessionId(1), *code));
            expected.forget(SessionId(1), Unfulfilled::Over)[0].1
        };
        assert_eq!(told(&[226]), Unfulfilled::Over, "nothing says that a connection was opened");
        assert_eq!(told(&[150, 226]), Unfulfilled::NotCaptured);
        assert_eq!(told(&[550]), Unfulfilled::TransferRefused(550));
        assert_eq!(told(&[150, 425]), Unfulfilled::NoConnection(425));
        assert!(told(&[150, 425]).is_failure() && !told(&[550]).is_failure());
    }

    #[test]
    fn a_syn_may_come_before() {
        let mut expected = Expected::default();
        let at = FramePos { frame: 1, time: Instant::from_secs(5) };
        let mut bytes = [0; 40];
        (bytes[0], bytes[3], bytes[9], bytes[32], bytes[33]) = (0x45, 40, 6, 0x50, 2);
        let Layer4::Tcp(segment) = Headers::find_cut(&bytes).unwrap().layer4 else { panic!("no TCP") };
        let syn = Syn { at, from: end("10.0.0.1:20"), to: end("10.0.0.2:1025"), segment, frame_bytes: 54 };
        expected.remember(syn);
        let announced = open(1, 1, "10.0.0.2:1025", None);
        assert!(expected.came_before(&announced, Instant::from_secs(9)).is_none(), "too long ago");
        assert!(expected.came_before(&open(1, 1, "10.0.0.2:1026", None), at.time).is_none());
        assert!(expected.came_before(&announced, at.time).is_some());
        assert!(expected.came_before(&announced, at.time).is_none(), "only once");
    }
}
