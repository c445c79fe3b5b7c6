//! Follows what is seen of FTP in a capture from anywhere, and tells it for people: a summary, then sessions.
//!
//! Memory is bounded: of many sessions only some are kept, those with something wrong and those that announce something
//! first; the others are counted by what became of them.

use std::collections::{BTreeMap, HashMap};

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Direction, Tuple};
use ftp_conntrack::ftp::{Login, Sender};
use ftp_conntrack::inspect::{
    self, Announced as AnnouncedFact, Began, CloseKind, Data as DataFact, Ended, Fit, FramePos, FtpEvent, Helper,
    Opened, PassReason, SessionId, Sink, Summary, Tls,
};
use ftp_conntrack::packet::Protocol;

use crate::output::Output;
use crate::replay::session::{Announced, Data, Ending, Outcome, Said, Seen, Session, Step};
use crate::replay::talk::text;
use crate::replay::tell::Teller;
use crate::replay::words::{plural, ports};

/// So many sessions are told in full, unless all are asked for.
const SHOWN: usize = 20;
/// So much of a session is kept, unless all of it is asked for.
const STEPS: usize = 100;
/// So much of a session is kept even then.
const ALL_STEPS: usize = 100_000;
/// So many pairs of addresses are counted apart.
const PAIRS: usize = 4096;
/// So many of them are shown.
const SHOWN_PAIRS: usize = 5;
/// So many ports where FTP is spoken unwatched are told.
const ELSEWHERE: usize = 8;

/// The state of a session with nothing more to report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NeverAnswered,
    Refused,
    Tls,
    LoginFailed,
    LoggedIn,
    NoLogin,
    Silent,
}

impl Kind {
    const fn of(ended: &Ended) -> Self {
        match (ended.ending.how(), ended.login) {
            (CloseKind::NeverAnswered, _) => Self::NeverAnswered,
            (CloseKind::Refused, _) => Self::Refused,
            _ if ended.tls => Self::Tls,
            (_, Login::Done) => Self::LoggedIn,
            (_, Login::Failed(_)) => Self::LoginFailed,
            _ if ended.commands == 0 => Self::Silent,
            _ => Self::NoLogin,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NeverAnswered => "never answered",
            Self::Refused => "refused",
            Self::Tls => "TLS, so that nothing can be read",
            Self::LoginFailed => "login failed",
            Self::LoggedIn => "logged in, nothing announced",
            Self::NoLogin => "no login seen, nothing announced",
            Self::Silent => "no command seen",
        }
    }
}

/// Sessions that are only counted.
#[derive(Default)]
struct Counted {
    sessions: u64,
    pairs: HashMap<String, u64>,
}

/// A session that is followed.
struct Live {
    session: Session,
    number: u64,
    /// Index of each announcement among its steps.
    announced: HashMap<u32, usize>,
    /// Announcements as they are on the other side of a router, seen before the announcement itself.
    translated: HashMap<u32, String>,
    more: u64,
    ended: Option<Ended>,
    /// True if something went wrong.
    wrong: bool,
    /// True if it was reported that the capture cuts packets.
    cut: bool,
}

/// The sessions that are kept of a capture.
pub(crate) struct Watched<'o> {
    /// Output for sessions as they end, if all are to be shown.
    told: Option<&'o mut Output>,
    live: HashMap<SessionId, Live>,
    kept: Vec<Live>,
    counted: BTreeMap<Kind, Counted>,
    /// Sessions with something announced or something wrong that are not kept.
    hidden: u64,
    start: Option<Instant>,
    why_not: BTreeMap<String, u64>,
    elsewhere: Vec<(u16, String)>,
}

impl<'o> Watched<'o> {
    pub(crate) fn new(told: Option<&'o mut Output>) -> Self {
        Self {
            told,
            live: HashMap::new(),
            kept: Vec::new(),
            counted: BTreeMap::new(),
            hidden: 0,
            start: None,
            why_not: BTreeMap::new(),
            elsewhere: Vec::new(),
        }
    }

    /// The capture is over.
    pub(crate) fn finish(mut self) -> Watched<'static> {
        // With `--tail`, each was shown; none is left.
        self.live.clear();
        let Self { live, kept, counted, hidden, start, why_not, elsewhere, .. } = self;
        Watched { told: None, live, kept, counted, hidden, start, why_not, elsewhere }
    }
}

impl Sink for Watched<'_> {
    fn frame(&mut self, at: FramePos) {
        self.start.get_or_insert(at.time);
    }

    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        match event {
            FtpEvent::Opened(opened) => self.opened(at, opened),
            FtpEvent::Announced(announced) => {
                if !announced.helper.acts() {
                    *self.why_not.entry(why_not(&announced.helper)).or_default() += 1;
                }
                if let Some(live) = self.live.get_mut(&announced.session) {
                    live.announced(at, announced, self.told.is_some());
                }
            }
            FtpEvent::Elsewhere { server, .. } => {
                let known = self.elsewhere.iter().any(|(port, _)| *port == server.port());
                if !known && self.elsewhere.len() < ELSEWHERE {
                    self.elsewhere.push((server.port(), server.to_string()));
                }
            }
            FtpEvent::Done { session } => self.done(*session),
            _ => {
                if let Some(live) = session_of(event).and_then(|session| self.live.get_mut(&session)) {
                    live.event(at, event, self.told.is_some());
                }
            }
        }
    }
}

impl Watched<'_> {
    fn opened(&mut self, at: FramePos, opened: &Opened) {
        let Some(original) = Tuple::new(Protocol::TCP, opened.client, opened.server) else { return };
        let Some(reply) = original.reversed() else { return };
        let mut session = Session::new(at, opened.began == Began::Syn, original, reply);
        session.tunnel = opened.tunnel.map(|tunnel| tunnel.to_string());
        let number = opened.session.number();
        let live = Live {
            session,
            number,
            announced: HashMap::new(),
            translated: HashMap::new(),
            more: 0,
            ended: None,
            wrong: false,
            cut: false,
        };
        self.live.insert(opened.session, live);
    }

    /// Nothing more comes of a session: it is told, kept, or counted.
    fn done(&mut self, session: SessionId) {
        let Some(mut live) = self.live.remove(&session) else { return };
        if live.more > 0 {
            live.session.steps.push(Step::More(live.more));
        }
        if let Some(output) = &mut self.told {
            let mut teller = Teller::new(output, self.start.unwrap_or_default());
            teller.session(live.number as usize, &live.session);
            teller.output.blank();
            return;
        }
        self.kept.push(live);
        if self.kept.len() > SHOWN {
            // The least interesting of them, and of these the latest.
            let least = self.kept.iter().enumerate().max_by_key(|(_, live)| (live.rank(), live.number));
            if let Some((place, _)) = least {
                let live = self.kept.swap_remove(place);
                self.count(&live);
            }
        }
    }

    fn count(&mut self, live: &Live) {
        if live.rank() < 2 {
            self.hidden += 1;
            return;
        }
        let Some(ended) = &live.ended else { return };
        let counted = self.counted.entry(Kind::of(ended)).or_default();
        counted.sessions += 1;
        let Session { original, .. } = &live.session;
        let server = std::net::SocketAddr::new(original.destination(), original.destination_port());
        let pair = format!("{} > {server}", original.source());
        if counted.pairs.len() < PAIRS || counted.pairs.contains_key(&pair) {
            *counted.pairs.entry(pair).or_default() += 1;
        }
    }

    /// Tells it: a summary, then sessions; if these were told already, only the summary.
    pub(crate) fn tell(mut self, capture: &str, watched: &[u16], summary: &Summary, output: &mut Output) {
        let many = summary.sessions as usize > SHOWN;
        if many {
            // Of many, the ones with nothing to report are only counted.
            let (kept, dull): (Vec<_>, Vec<_>) = self.kept.drain(..).partition(|live| live.rank() < 2);
            self.kept = kept;
            dull.iter().for_each(|live| self.count(live));
        }
        self.kept.sort_by_key(|live| live.number);
        let mut teller = Teller::new(output, self.start.unwrap_or_default());
        self.summary(capture, watched, summary, &mut teller);
        for (kind, counted) in &self.counted {
            counted.tell(*kind, &mut teller);
        }
        for live in &self.kept {
            teller.output.blank();
            teller.session(live.number as usize, &live.session);
        }
        if self.hidden > 0 {
            teller.output.blank();
            let more = plural(self.hidden, "more control connection");
            teller
                .output
                .line(format_args!("... and {more} with something announced or wrong; --all tells of every one"));
        }
    }

    fn summary(&self, capture: &str, watched: &[u16], summary: &Summary, teller: &mut Teller<'_>) {
        let style = teller.style;
        let seconds = summary.span.map_or(0.0, |(first, last)| last.since(first).as_secs_f64());
        teller.label("Capture", &format!("{capture}: {} in {seconds:.3} s", plural(summary.frames, "frame")));
        let sessions = plural(summary.sessions, "control connection");
        let word = if watched.len() == 1 { "port" } else { "ports" };
        let announced = match summary.announcements {
            0 => "no data connection announced".to_owned(),
            count => {
                let came = summary.data.saturating_sub(summary.data_failed);
                format!("{} announced, {came} came", plural(count, "data connection"))
            }
        };
        teller.label("FTP", &format!("{sessions} to {word} {}; {announced}", ports(watched)));
        if summary.announcements > 0 {
            let all = summary.handled == summary.announcements;
            let judged = summary.announcements - summary.unjudged;
            let mut line = format!("Linux's helper would act on {} of {judged}", summary.handled);
            if summary.unjudged > 0 {
                line = format!("{line}; {} cannot be judged", summary.unjudged);
            }
            teller.label("Helper", &if all { style.good(line) } else { line });
            for (why, count) in &self.why_not {
                teller.label("", &format!("{count}: {why}"));
            }
        }
        let mut label = "Wrong";
        for line in wrong(summary) {
            teller.label(label, &style.bad(line));
            label = "";
        }
        let mut label = "Note";
        for line in notes(summary).into_iter().chain(self.hints(watched)) {
            teller.label(label, &line);
            label = "";
        }
    }

    fn hints(&self, watched: &[u16]) -> Option<String> {
        let (_, server) = self.elsewhere.first()?;
        let all: Vec<u16> = watched.iter().copied().chain(self.elsewhere.iter().map(|(port, _)| *port)).collect();
        let all = ports(&all).replace(' ', "");
        Some(format!("FTP is spoken on a port that is not watched: {server}; --ports {all}"))
    }
}

impl Counted {
    fn tell(&self, kind: Kind, teller: &mut Teller<'_>) {
        teller.output.blank();
        let heading = format!("{}: {}", plural(self.sessions, "control connection"), kind.name());
        let heading = teller.style.heading(heading);
        teller.output.line(heading);
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (pair, count) in pairs.iter().take(SHOWN_PAIRS) {
            teller.output.line(format_args!("{count:>7}  {pair}"));
        }
        let shown: u64 = pairs.iter().take(SHOWN_PAIRS).map(|(_, count)| **count).sum();
        if self.sessions > shown {
            let rest = self.sessions - shown;
            teller.output.line(format_args!("{rest:>7}  between others"));
        }
    }
}

impl Live {
    /// 0 if something went wrong, 1 if something was announced, 2 if there is nothing to tell.
    fn rank(&self) -> u8 {
        match (self.wrong, self.ended.is_some_and(|ended| ended.announcements > 0)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        }
    }

    /// Keeps a step, if there is room.
    fn push(&mut self, step: Step, all: bool) -> Option<usize> {
        if self.session.steps.len() >= if all { ALL_STEPS } else { STEPS } {
            self.more += 1;
            return None;
        }
        self.session.steps.push(step);
        Some(self.session.steps.len() - 1)
    }

    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>, all: bool) {
        match event {
            FtpEvent::Command { line, matters: true, index, .. } => {
                self.push(Step::Said(said(at, Sender::Client, line, *index)), all);
            }
            FtpEvent::Reply { line, matters: true, index, .. } => {
                self.push(Step::Said(said(at, Sender::Server, line, *index)), all);
            }
            FtpEvent::Again { sender, line, helper, .. } => {
                let who = if *sender == Sender::Client { "C" } else { "S" };
                let what = format!("{who} {} (sent again)", text(line));
                self.note(at, &what, matches!(helper, Helper::Drops(_)), all);
            }
            FtpEvent::WouldDrop { form, .. } => {
                self.note(at, &format!("the helper would drop this packet: it begins like {form}"), true, all);
            }
            FtpEvent::Gap { sender, bytes, .. } => {
                self.note(at, &format!("{bytes} bytes of the {} are not in the capture", name(*sender)), true, all);
            }
            // A capture that cuts one packet cuts many.
            FtpEvent::Cut { .. } if self.cut => {}
            FtpEvent::Cut { sender, bytes, .. } => {
                self.cut = true;
                let what = format!("the capture cuts packets short: here {bytes} bytes of the {}'s", name(*sender));
                self.note(at, &what, false, all);
            }
            FtpEvent::Tls { how, .. } => {
                let what = match how {
                    Tls::Explicit => "TLS begins: nothing more can be read",
                    _ if self.session.begun => "TLS from the beginning: nothing can be read",
                    _ => "already in TLS when the capture began: nothing can be read",
                };
                self.note(at, what, false, all);
            }
            FtpEvent::OtherSide { client, server, .. } => self.session.other_side = Some((*client, *server)),
            FtpEvent::Translated { number, line, .. } => {
                let line = text(line);
                match self.seen(*number) {
                    Some(seen) => seen.translated = Some(line),
                    None => drop(self.translated.insert(*number, line)),
                }
            }
            FtpEvent::IcmpError { number: Some(number), error, .. } if self.seen(*number).is_some() => {
                let what = format!("{error} in frame {}, about {} > {}", at.frame, error.from, error.to);
                if let Some(seen) = self.seen(*number) {
                    seen.icmp.push(what);
                }
                self.wrong = true;
            }
            FtpEvent::IcmpError { error, .. } => {
                let what = format!("{error}, about {} > {}", error.from, error.to);
                self.note(at, &what, true, all);
            }
            FtpEvent::Clear { .. } => self.note(at, "clear text again", false, all),
            FtpEvent::DataOpened(data) => self.data_opened(at, data),
            FtpEvent::DataEnded(data, ending) => self.data_ended(data, ending),
            FtpEvent::Unfulfilled { number, why, .. } => {
                self.wrong |= why.is_failure();
                if let Some(seen) = self.seen(*number) {
                    seen.unfulfilled = Some(*why);
                }
            }
            FtpEvent::Ended(ended) => {
                self.session.ending = ending_of(&ended.ending);
                self.ended = Some(*ended);
                if ended.evicted {
                    self.note(at, "too many control connections at once: not followed further", true, all);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, at: FramePos, what: &str, bad: bool, all: bool) {
        self.wrong |= bad;
        self.push(Step::Noted { at, what: what.to_owned(), bad }, all);
    }

    fn announced(&mut self, at: FramePos, announced: &AnnouncedFact<'_>, all: bool) {
        self.wrong |= announced.wrong.is_some() || matches!(announced.helper, Helper::Drops(_));
        let line = text(announced.line);
        // It was told as a command or reply just now.
        let same = |step: &Step| matches!(step, Step::Said(said) if said.at.frame == at.frame && said.line == line);
        if self.session.steps.last().is_some_and(same) {
            self.session.steps.pop();
        } else if self.more > 0 {
            self.more -= 1;
        }
        let seen = Seen {
            wrong: announced.wrong,
            helper: announced.helper,
            why: self.why_ignored(announced),
            helper_reads: announced.helper_reads,
            translated: self.translated.remove(&announced.number),
            icmp: Vec::new(),
            data: Vec::new(),
            unfulfilled: None,
        };
        let said = said(at, announced.sender, announced.line, 0);
        let step = Announced { said, moved: None, outcome: Outcome::Seen(Box::new(seen)) };
        if let Some(place) = self.push(Step::Announced(Box::new(step)), all) {
            self.announced.insert(announced.number, place);
        }
    }

    fn why_ignored(&self, announced: &AnnouncedFact<'_>) -> String {
        let original = &self.session.original;
        let sender = if announced.sender == Sender::Client { original.source() } else { original.destination() };
        match (announced.helper, announced.address) {
            (Helper::Passes(PassReason::ForeignAddress), Some(address)) => {
                format!("announces {address}, but the sender is {sender}")
            }
            (helper, _) => helper.to_string(),
        }
    }

    fn seen(&mut self, number: u32) -> Option<&mut Seen> {
        let place = *self.announced.get(&number)?;
        match self.session.steps.get_mut(place)? {
            Step::Announced(announced) => match &mut announced.outcome {
                Outcome::Seen(seen) => Some(seen),
                _ => None,
            },
            _ => None,
        }
    }

    fn data_opened(&mut self, at: FramePos, data: &DataFact) {
        let Some(original) = Tuple::new(Protocol::TCP, data.from, data.to) else { return };
        let Some(reply) = original.reversed() else { return };
        let acts = self.seen(data.number).is_some_and(|seen| seen.helper.acts());
        let remark = match (data.fit, data.began) {
            (Fit::OwnAddress, _) => Some(match data.opener {
                Sender::Client => "the client connected to the server's real address instead:",
                _ => "the server connected to the client's real address instead:",
            }),
            (Fit::OtherSource, _) => Some("it comes from an address that is not the other side's:"),
            (_, Began::MidStream | Began::SynAck) => Some("its beginning is not in the capture:"),
            _ if data.earlier > 0 => Some("one more connection to the same endpoint:"),
            _ if acts && !data.related => Some("conntrack does not take it for the one expected:"),
            _ => None,
        };
        if let Some(seen) = self.seen(data.number) {
            let opened = Data { opened: at, tuples: Some((original, reply)), ending: Ending::default() };
            seen.data.push((opened, remark));
        }
    }

    fn data_ended(&mut self, data: &DataFact, ending: &inspect::Ending) {
        self.wrong |= matches!(ending.how(), CloseKind::NeverAnswered | CloseKind::Refused | CloseKind::Reset);
        let original = Tuple::new(Protocol::TCP, data.from, data.to);
        if let Some(seen) = self.seen(data.number) {
            let same = |data: &&mut (Data, _)| data.0.tuples.map(|(original, _)| original) == original;
            if let Some((data, _)) = seen.data.iter_mut().rev().find(same) {
                data.ending = ending_of(ending);
            }
        }
    }
}

fn session_of(event: &FtpEvent<'_>) -> Option<SessionId> {
    Some(match event {
        FtpEvent::Command { session, .. }
        | FtpEvent::Reply { session, .. }
        | FtpEvent::Again { session, .. }
        | FtpEvent::WouldDrop { session, .. }
        | FtpEvent::Gap { session, .. }
        | FtpEvent::Cut { session, .. }
        | FtpEvent::Tls { session, .. }
        | FtpEvent::Clear { session }
        | FtpEvent::OtherSide { session, .. }
        | FtpEvent::Translated { session, .. }
        | FtpEvent::IcmpError { session, .. }
        | FtpEvent::Unfulfilled { session, .. } => *session,
        FtpEvent::DataOpened(data) | FtpEvent::DataEnded(data, _) => data.session,
        FtpEvent::Ended(ended) => ended.session,
        _ => return None,
    })
}

fn said(at: FramePos, sender: Sender, line: &[u8], index: u32) -> Said {
    Said { at, sender, line: text(line), sent_on: None, index: index as usize, again: false, balanced: false }
}

fn ending_of(ending: &inspect::Ending) -> Ending {
    let way = |side: usize| if side == 0 { Direction::Original } else { Direction::Reply };
    Ending {
        fin: ending.fin,
        reset: ending.reset.map(|(side, frame)| (way(side), frame)),
        state: None,
        packets: ending.packets,
        bytes: ending.bytes,
        frame_bytes: Some(ending.frame_bytes),
        duration: Some(ending.duration()),
        how: Some(ending.how()),
        forgotten: None,
    }
}

const fn name(sender: Sender) -> &'static str {
    crate::replay::words::name(sender)
}

/// Returns the reason why the helper does nothing, in words that many announcements share.
fn why_not(helper: &Helper) -> String {
    match helper {
        Helper::Passes(PassReason::Behind(_)) => "other lines stand before it in its segment".to_owned(),
        helper => helper.to_string(),
    }
}

fn wrong(summary: &Summary) -> Vec<String> {
    let counts = [
        (summary.malformed_announcements, "announcement is malformed", "announcements are malformed"),
        (summary.would_drop, "packet the helper would drop", "packets the helper would drop"),
        (
            summary.data_failed,
            "data connection was refused or never answered",
            "data connections were refused or never answered",
        ),
        (summary.unfulfilled, "announced data connection never came", "announced data connections never came"),
        (summary.icmp_errors, "ICMP error about a packet of FTP", "ICMP errors about packets of FTP"),
        (summary.gaps, "gap in what was said", "gaps in what was said"),
        (summary.damaged, "damaged place in the capture", "damaged places in the capture"),
    ];
    counted(&counts)
}

fn notes(summary: &Summary) -> Vec<String> {
    let link = summary.link_type.map(|link| format!(" (link type {link})")).unwrap_or_default();
    let counts = [
        (
            summary.copies,
            "duplicate packet (same packet captured twice) ignored",
            "duplicate packets (same packet captured twice) ignored",
        ),
        (summary.cut, "packet of FTP was cut by the capture", "packets of FTP were cut by the capture"),
        (summary.tunnelled, "packet comes in a tunnel", "packets come in a tunnel"),
        (
            summary.not_captured,
            "announced data connection is not in the capture, though its transfer was completed",
            "announced data connections are not in the capture, though their transfers were completed",
        ),
        (
            summary.unused,
            "announced data connection was refused or not used",
            "announced data connections were refused or not used",
        ),
        (
            summary.two_sided,
            "control connection is seen on both sides of NAT, and counted once",
            "control connections are seen on both sides of NAT, and counted once",
        ),
        (
            summary.evicted,
            "control connection was given up, as too many were open",
            "control connections were given up, as too many were open",
        ),
        (summary.steps_back, "time the clock steps back", "times the clock steps back"),
        (summary.not_ip, "frame not looked at: no IP packet", "frames not looked at: no IP packets"),
        (summary.malformed, "frame not looked at: a damaged IP packet", "frames not looked at: damaged IP packets"),
        (
            summary.parts,
            "frame is part of a packet of which others are missing, or come later",
            "frames are parts of packets, of which the last makes the packet",
        ),
    ];
    let unreadable = match summary.unreadable {
        0 => None,
        1 => Some(format!("1 frame not looked at: its link layer is not understood{link}")),
        count => Some(format!("{count} frames not looked at: their link layer is not understood{link}")),
    };
    counted(&counts).into_iter().chain(unreadable).collect()
}

fn counted(counts: &[(u64, &str, &str)]) -> Vec<String> {
    let told = |(count, one, many): &(u64, &str, &str)| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {many}")),
    };
    counts.iter().filter_map(told).collect()
}
