//! Control connections, joined over all views, and the data connections that belong to them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

use super::dialogue::{Announcement, Dialogue, is_private};
use super::flow::Flow;
use super::view::{View, is_control_port, is_ftp_command};
use crate::ftp::{Reply, Sender};

/// A connection in one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) view: usize,
    pub(super) flow: usize,
}

/// One TCP connection, wherever it was seen.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) places: Vec<Place>,
}

/// A control connection, wherever it was seen. The first place is the one whose dialogue is told.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) places: Vec<Place>,
    /// The dialogue of each place.
    pub(super) dialogues: Vec<Dialogue>,
}

/// Everything that was captured.
pub(super) struct Scene {
    pub(super) views: Vec<View>,
    /// Connections by what their opener's SYN was numbered with.
    by_isn: HashMap<u32, Vec<Place>>,
    /// Connections of each view by the port that was dialled.
    by_port: HashMap<(usize, u16), Vec<usize>>,
    controls: HashSet<Place>,
}

/// Routers that decremented a packet's TTL before it was seen, as far as systems begin with the usual values.
pub(super) const fn hops(ttl: u8) -> u8 {
    match ttl {
        0..=64 => 64 - ttl,
        65..=128 => 128 - ttl,
        _ => 255 - ttl,
    }
}

impl Scene {
    pub(super) fn new(mut views: Vec<View>, ports: &[u16]) -> (Self, Vec<Session>) {
        let (mut by_isn, mut by_port): (HashMap<u32, Vec<Place>>, HashMap<_, Vec<usize>>) = Default::default();
        let mut controls = Vec::new();
        for (number, view) in views.iter_mut().enumerate() {
            for (index, flow) in view.flows.iter_mut().enumerate() {
                let place = Place { view: number, flow: index };
                turn_round(flow);
                if is_control(flow, ports) {
                    controls.push(place);
                }
                if let Some(isn) = flow.isn() {
                    by_isn.entry(isn).or_default().push(place);
                }
                by_port.entry((number, flow.ends[1].port())).or_default().push(index);
            }
        }
        let scene = Self { views, by_isn, by_port, controls: controls.iter().copied().collect() };
        let sessions = scene.sessions(&controls);
        (scene, sessions)
    }

    pub(super) fn flow(&self, place: Place) -> &Flow {
        &self.views[place.view].flows[place.flow]
    }

    pub(super) fn view(&self, place: Place) -> &View {
        &self.views[place.view]
    }

    /// All places of the connection that this place shows.
    fn everywhere(&self, place: Place) -> Vec<Place> {
        let flow = self.flow(place);
        let is_same = |other: &Place| {
            let ends = self.flow(*other).ends;
            // NAT leaves an end or a port as it was.
            ends[0] == flow.ends[0] || ends[1].port() == flow.ends[1].port() || ends[0].port() == flow.ends[0].port()
        };
        let Some(isn) = flow.isn() else {
            // Without a SYN only the ends tell.
            let in_view = |(number, view): (usize, &View)| {
                let index = view.flows.iter().position(|other| other.ends == flow.ends && other.isn().is_none());
                index.map(|index| Place { view: number, flow: index })
            };
            let others = self.views.iter().enumerate().filter(|(number, _)| *number != place.view);
            let others: Vec<Place> = others.filter_map(in_view).collect();
            return core::iter::once(place).chain(others).collect();
        };
        self.by_isn.get(&isn).map(|places| places.iter().copied().filter(is_same).collect()).unwrap_or_default()
    }

    fn sessions(&self, controls: &[Place]) -> Vec<Session> {
        let mut told = HashSet::new();
        let mut sessions = Vec::new();
        for place in controls {
            if told.contains(place) {
                continue;
            }
            let mut places = self.everywhere(*place);
            places.retain(|place| self.controls.contains(place));
            told.extend(places.iter().copied());
            told.insert(*place);
            // The client's own view first, then the one that has most.
            places.sort_by_key(|place| {
                let flow = self.flow(*place);
                let lines = flow.text.as_ref().map_or(0, |text| text.lines.len());
                let near = flow.sides[0].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl));
                (core::cmp::Reverse(lines), self.view(*place).is_router, near)
            });
            let dialogue =
                |place: &Place| self.flow(*place).text.as_ref().map(|text| Dialogue::of(text)).unwrap_or_default();
            let dialogues = places.iter().map(dialogue).collect();
            sessions.push(Session { places, dialogues });
        }
        sessions.sort_by_key(|session| {
            let place = session.places[0];
            (self.view(place).file, self.flow(place).first.time, self.flow(place).first.frame)
        });
        sessions
    }

    /// The connections that were dialled because of an announcement: the `number`th of the session.
    pub(super) fn attempts(&self, session: &Session, number: usize) -> Vec<Attempt> {
        let mut found: Vec<Place> = Vec::new();
        for (place, dialogue) in session.places.iter().zip(&session.dialogues) {
            let Some(announced) = session.announcement_in(dialogue, number) else { continue };
            let ends = self.flow(*place).ends;
            let announcer = usize::from(announced.form.sender() == Sender::Server);
            let until = dialogue.announcements.iter().filter(|other| other.at.time > announced.at.time);
            let until = until.filter(|other| other.port == announced.port).map(|other| other.at.time).min();
            let again = dialogue.announcements.iter().any(|other| {
                other.port == announced.port
                    && (other.at.time, other.at.frame) < (announced.at.time, announced.at.frame)
            });
            let since = if again { announced.at.time } else { announced.at.time - EARLY };
            let addresses = [announced.address.unwrap_or(ends[announcer].ip()), ends[announcer].ip()];
            let candidates = self.by_port.get(&(place.view, announced.port)).into_iter().flatten();
            found.extend(candidates.map(|index| Place { view: place.view, flow: *index }).filter(|candidate| {
                let flow = self.flow(*candidate);
                let in_time = flow.first.time >= since && until.is_none_or(|until| flow.first.time < until);
                let fits = addresses.contains(&flow.ends[1].ip()) || flow.ends[0].ip() == ends[1 - announcer].ip();
                in_time && fits && !self.controls.contains(candidate)
            }));
        }
        self.gather(&found)
    }

    /// The connections that a client, or its server from port 20, dialled after TLS began.
    pub(super) fn dialled_in_tls(&self, session: &Session) -> Vec<Attempt> {
        let mut found = Vec::new();
        for (place, dialogue) in session.places.iter().zip(&session.dialogues) {
            let Some(since) = dialogue.tls else { continue };
            let control = self.flow(*place);
            let [client, server] = [control.ends[0].ip(), control.ends[1].ip()];
            let until = control.last.time + LATE;
            for (index, flow) in self.view(*place).flows.iter().enumerate() {
                let candidate = Place { view: place.view, flow: index };
                let in_time = (since.time..=until).contains(&flow.first.time);
                let [from, to] = flow.ends;
                let passive = from.ip() == client && (to.ip() == server || is_private(to.ip()) && !flow.is_open());
                let passive = passive && to.port() >= 1024;
                let active = from.ip() == server && to.ip() == client;
                if flow.has_syn() && in_time && (passive || active) && !self.controls.contains(&candidate) {
                    found.push(candidate);
                }
            }
        }
        self.gather(&found)
    }

    fn gather(&self, found: &[Place]) -> Vec<Attempt> {
        let mut attempts: Vec<Attempt> = Vec::new();
        for place in found {
            if attempts.iter().any(|attempt| attempt.places.contains(place)) {
                continue;
            }
            let mut places = self.everywhere(*place);
            if places.is_empty() {
                places.push(*place);
            }
            attempts.push(Attempt { places });
        }
        attempts
    }
}

/// A capture may have the SYN before the announcement by so many microseconds.
const EARLY: i64 = 200_000;
/// A data connection is dialled no later after a control connection's last packet, in microseconds.
const LATE: i64 = 1_000_000;

impl Session {
    pub(super) fn main(&self) -> &Dialogue {
        &self.dialogues[0]
    }

    /// The announcement of another view's dialogue that is the `number`th of the main one.
    pub(super) fn announcement_in<'a>(&self, dialogue: &'a Dialogue, number: usize) -> Option<&'a Announcement> {
        let wanted = self.main().announcements.get(number)?;
        if dialogue.announcements.len() == self.main().announcements.len() {
            return dialogue.announcements.get(number);
        }
        dialogue.announcements.iter().find(|other| other.form == wanted.form && other.port == wanted.port)
    }
}

/// Turns a connection round whose beginning was not seen, if its side 0 is the one that speaks like a server.
fn turn_round(flow: &mut Flow) {
    if flow.has_syn() || flow.syn_ack.is_some() {
        return;
    }
    let Some(text) = &mut flow.text else { return };
    let speaks =
        |side: usize, test: &dyn Fn(&[u8]) -> bool| text.lines.iter().any(|line| line.side == side && test(&line.text));
    let is_reply = |line: &[u8]| Reply::parse(line).is_some();
    let reversed = (speaks(0, &is_reply) && !speaks(0, &is_ftp_command)) && !speaks(1, &is_reply);
    if reversed {
        flow.ends.swap(0, 1);
        flow.sides.swap(0, 1);
        for line in &mut text.lines {
            line.side = 1 - line.side;
        }
    }
}

/// True for a control connection: by the first words of both sides, or by its port.
fn is_control(flow: &Flow, ports: &[u16]) -> bool {
    let port = flow.ends[1].port();
    if !ports.is_empty() {
        return ports.contains(&port);
    }
    let lines = flow.text.as_ref().map(|text| &text.lines[..]).unwrap_or_default();
    let of = |side: usize| lines.iter().filter(move |line| line.side == side).take(8);
    let commands = of(0).filter(|line| is_ftp_command(&line.text)).count();
    let replies = of(1).filter(|line| Reply::parse(&line.text).is_some()).count();
    let mail = of(0).any(|line| {
        let word = line.text.get(..4).unwrap_or_default().to_ascii_uppercase();
        matches!(&word[..], b"EHLO" | b"HELO" | b"MAIL" | b"LHLO")
    });
    let greets = of(1).next().is_some_and(|line| {
        let text = line.text.to_ascii_lowercase();
        Reply::parse(&line.text).is_some_and(|reply| reply.code == 220) && text.windows(3).any(|word| word == b"ftp")
    });
    if is_control_port(port) {
        let nothing_said = lines.is_empty();
        return !mail && (nothing_said || commands > 0 || replies > 0);
    }
    !mail && (commands > 0 && replies > 0 || greets)
}

/// The address of an end, IPv4 in IPv6 told as IPv4.
pub(super) fn address(end: SocketAddr) -> IpAddr {
    end.ip().to_canonical()
}
