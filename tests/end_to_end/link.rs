//! The path between a host and the router: a link that delays, loses, repeats and reorders, and a box that cuts and
//! merges segments.

use std::collections::VecDeque;
use std::time::Duration;

use ftp_conntrack::Instant;

use crate::rng::Rng;
use crate::wire::{ACK, FIN, PSH, Segment};

/// The faults of a link, each in percent of its packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) repetition: u32,
    pub(crate) reordering: u32,
}

/// One direction of a link.
#[derive(Debug)]
pub(crate) struct Link {
    delay: Duration,
    weather: Weather,
    rng: Rng,
    lost_in_a_row: u32,
    /// When the latest packet that was not overtaken arrives.
    latest: Instant,
}

/// No more packets than these are lost in a row, so that all dialogues end.
const MOST_LOST_IN_A_ROW: u32 = 3;

impl Link {
    pub(crate) const fn new(delay: Duration, weather: Weather, rng: Rng) -> Self {
        Self { delay, weather, rng, lost_in_a_row: 0, latest: Instant::from_micros(0) }
    }

    /// When a packet that is sent now arrives: once, never, or more than once.
    pub(crate) fn arrivals(&mut self, now: Instant) -> Vec<Instant> {
        if self.rng.percent(self.weather.loss) && self.lost_in_a_row < MOST_LOST_IN_A_ROW {
            self.lost_in_a_row += 1;
            return Vec::new();
        }
        self.lost_in_a_row = 0;
        let mut arrivals = vec![self.arrival(now)];
        while self.rng.percent(self.weather.repetition) && arrivals.len() < 4 {
            arrivals.push(self.arrival(now));
        }
        arrivals
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let straight = now + self.delay;
        if self.rng.percent(self.weather.reordering) {
            // Late by up to four times the delay, and others pass by.
            return straight
                + Duration::from_micros(u64::from(self.rng.range(0, 4 * self.delay.as_micros() as u32 + 1)));
        }
        self.latest = self.latest.max(straight);
        self.latest
    }
}

/// Cuts and merges what a host sends on control connections, each in so many of a hundred cases.
#[derive(Debug)]
pub(crate) struct Cutter {
    cuts: u32,
    merges: u32,
    mtu: usize,
    rng: Rng,
    /// Segments that may be merged with the next, and the time when they no longer wait.
    waiting: VecDeque<(Instant, Vec<u8>)>,
}

impl Cutter {
    pub(crate) const fn new(cuts: u32, merges: u32, mtu: usize, rng: Rng) -> Self {
        Self { cuts, merges, mtu, rng, waiting: VecDeque::new() }
    }

    /// A packet comes; gives what goes on.
    pub(crate) fn pass(&mut self, now: Instant, packet: Vec<u8>) -> Vec<Vec<u8>> {
        let segment = Segment::read(&packet);
        let text = segment.as_ref().filter(|segment| !segment.payload.is_empty() && segment.is_control());
        let Some(segment) = text else {
            let mut sent = self.release(Instant::NEVER);
            sent.push(packet);
            return sent;
        };
        let mut sent = Vec::new();
        let mut packet = packet;
        if let Some((_, first)) = self.waiting.pop_back() {
            match merged(&first, segment, &packet, self.mtu) {
                Some(both) => packet = both,
                None => sent = self.cut(&first),
            }
        }
        if self.rng.percent(self.merges) {
            let patience = Duration::from_micros(self.rng.range(0, 30_000).into());
            self.waiting.push_back((now + patience, packet));
        } else {
            sent.extend(self.cut(&packet));
        }
        sent
    }

    /// Gives what has waited long enough.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some((until, _)) = self.waiting.front() {
            if *until > now {
                break;
            }
            let Some((_, packet)) = self.waiting.pop_front() else { break };
            sent.extend(self.cut(&packet));
        }
        sent
    }

    pub(crate) fn poll_at(&self) -> Option<Instant> {
        self.waiting.front().map(|(until, _)| *until)
    }

    /// Cuts a segment anywhere, in any number of pieces.
    fn cut(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let Some(segment) = Segment::read(packet) else { return vec![packet.to_vec()] };
        let payload = segment.payload(packet);
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < payload.len() {
            let rest = payload.len() - start;
            let end = if self.rng.percent(self.cuts) { start + 1 + self.rng.below(rest) } else { payload.len() };
            let flags = if end == payload.len() { segment.flags } else { segment.flags & !(FIN | PSH) };
            pieces.push(segment.carrying(packet, segment.seq.wrapping_add(start as u32), flags, &payload[start..end]));
            start = end;
        }
        pieces
    }
}

/// Two adjacent segments of a stream as one, with the later one's acknowledgement.
fn merged(first: &[u8], second: &Segment, packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let before = Segment::read(first)?;
    let adjacent = before.end() == second.seq && before.from == second.from && before.to == second.to;
    let plain = |segment: &Segment| segment.flags & !(FIN | PSH) == ACK;
    if !adjacent || !plain(&before) || !plain(second) || before.has(FIN) {
        return None;
    }
    let text = [before.payload(first), second.payload(packet)].concat();
    (second.payload.start + text.len() <= mtu).then(|| second.carrying(packet, before.seq, second.flags, &text))
}
