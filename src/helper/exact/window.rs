//! Bytes of a stream that cannot leave yet, or may have to leave once more.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use crate::SequenceNumber;
use crate::conntrack::Direction;

/// Maximum number of bytes kept of a stream, from the first that is kept.
pub(super) const SIZE: usize = 8192;
/// Into how many stretches they may fall, as segments are missing between them.
const STRETCHES: usize = 64;

/// A stretch of a stream in memory, with gaps.
///
/// Bytes are kept as they came first: what comes again for the same place is not looked at, so that nobody can say one
/// thing to who reads here and another to who listens behind.
#[derive(Debug)]
pub(super) struct Window {
    start: SequenceNumber,
    bytes: Box<[u8]>,
    /// Ranges that have arrived, as offsets from `start`; in order, apart from each other.
    stretches: Vec<(usize, usize)>,
}

impl Window {
    fn new() -> Self {
        Self { start: SequenceNumber(0), bytes: vec![0; SIZE].into(), stretches: Vec::with_capacity(STRETCHES + 1) }
    }

    /// The first place that is kept.
    pub(super) const fn start(&self) -> SequenceNumber {
        self.start
    }

    /// Keeps what of `bytes`, which stand at `at`, is not there yet. False, and nothing changed, if they reach beyond
    /// the window or there would be too many gaps.
    pub(super) fn insert(&mut self, at: SequenceNumber, bytes: &[u8]) -> bool {
        let early = self.start.since(at).max(0) as usize;
        let Some(bytes) = bytes.get(early..).filter(|bytes| !bytes.is_empty()) else { return true };
        let from = (at + early as u32).since(self.start) as usize;
        let to = from + bytes.len();
        if to > SIZE || self.would_split_too_far(from, to) {
            return false;
        }
        let mut at = from;
        while at < to {
            let known = self.stretches.iter().find(|(_, end)| *end > at).copied();
            let (skip_from, skip_to) = known.unwrap_or((to, to));
            let gap_end = skip_from.clamp(at, to);
            if let (Some(there), Some(new)) = (self.bytes.get_mut(at..gap_end), bytes.get(at - from..gap_end - from)) {
                there.copy_from_slice(new);
            }
            at = skip_to.max(gap_end);
        }
        self.join(from, to);
        true
    }

    /// Returns how many bytes from `at` on there is room for.
    pub(super) fn room_at(&self, at: SequenceNumber) -> usize {
        usize::try_from(at.since(self.start)).map_or(0, |offset| SIZE.saturating_sub(offset))
    }

    fn would_split_too_far(&self, from: usize, to: usize) -> bool {
        let touches = self.stretches.iter().any(|(start, end)| *start <= to && from <= *end);
        !touches && self.stretches.len() >= STRETCHES
    }

    /// Makes one stretch of this one and all that touch it.
    fn join(&mut self, mut from: usize, mut to: usize) {
        self.stretches.retain(|(start, end)| {
            let touches = *start <= to && from <= *end;
            if touches {
                (from, to) = (from.min(*start), to.max(*end));
            }
            !touches
        });
        let place = self.stretches.partition_point(|(start, _)| *start < from);
        self.stretches.insert(place, (from, to));
    }

    /// The bytes that follow each other from `from` on.
    pub(super) fn contiguous(&self, from: SequenceNumber) -> &[u8] {
        let offset = from.since(self.start);
        let Ok(offset) = usize::try_from(offset) else { return &[] };
        let stretch = self.stretches.iter().find(|(start, end)| *start <= offset && offset < *end);
        stretch.and_then(|(_, end)| self.bytes.get(offset..*end)).unwrap_or_default()
    }

    /// Forgets what came early: all from `from` on.
    pub(super) fn forget_behind(&mut self, from: SequenceNumber) {
        let Ok(keep) = usize::try_from(from.since(self.start)) else { return };
        self.stretches.retain_mut(|(start, end)| {
            *end = (*end).min(keep);
            *start < *end
        });
    }

    /// Forgets what stands before `to`.
    pub(super) fn advance(&mut self, to: SequenceNumber) {
        let Ok(by) = usize::try_from(to.since(self.start)) else { return };
        if by == 0 {
            return;
        }
        let end = self.stretches.last().map_or(0, |last| last.1);
        if by < end {
            self.bytes.copy_within(by..end, 0);
        }
        self.start = to;
        self.stretches.retain_mut(|(start, end)| {
            (*start, *end) = (start.saturating_sub(by), end.saturating_sub(by));
            *start < *end
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}

/// The holder of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The place of the control connection's state, and the stream's direction.
    pub(super) state: usize,
    pub(super) direction: Direction,
    /// The client of the control connection.
    pub(super) client: IpAddr,
}

impl Holder {
    pub(super) const NOBODY: Self =
        Self { state: usize::MAX, direction: Direction::Original, client: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
}

/// All windows there are.
///
/// Who wants one gets one: when the last is taken, the client that has most gives up its oldest. So a client that begins
/// lines on many connections takes none from another that has fewer.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Window>,
    /// Holders of windows, the oldest first.
    holders: Vec<Holder>,
    /// Number of windows of each client.
    clients: Vec<(IpAddr, u32)>,
}

impl Pool {
    /// So many windows, and one for whoever comes when they are taken.
    pub(super) fn new(count: usize) -> Self {
        let spare = usize::from(count > 0);
        Self {
            free: (0..count + spare).map(|_| Window::new()).collect(),
            holders: Vec::with_capacity(count + spare),
            clients: Vec::with_capacity(count + spare),
        }
    }

    /// A window that begins at `start`, if one is free.
    pub(super) fn take(&mut self, start: SequenceNumber, holder: Holder) -> Option<Window> {
        let mut window = self.free.pop()?;
        window.start = start;
        window.stretches.clear();
        self.holders.push(holder);
        match self.clients.iter_mut().find(|(client, _)| *client == holder.client) {
            Some((_, count)) => *count += 1,
            None => self.clients.push((holder.client, 1)),
        }
        Some(window)
    }

    pub(super) fn give_back(&mut self, window: Option<Window>, holder: Holder) {
        let Some(window) = window else { return };
        self.free.push(window);
        if let Some(at) = self.holders.iter().position(|known| *known == holder) {
            self.holders.remove(at);
        }
        if let Some(at) = self.clients.iter().position(|(client, _)| *client == holder.client) {
            self.clients[at].1 -= 1;
            if self.clients[at].1 == 0 {
                self.clients.swap_remove(at);
            }
        }
    }

    /// Returns the holder that has to give its window up, if none is left for the next one. That is the oldest of a
    /// client that has most; where all have one, the oldest of all. It looks once at every client and at every window.
    pub(super) fn too_many(&self) -> Option<Holder> {
        if !self.free.is_empty() {
            return None;
        }
        let (client, most) = *self.clients.iter().max_by_key(|(_, count)| *count)?;
        self.holders.iter().find(|holder| most == 1 || holder.client == client).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn n(number: u32) -> SequenceNumber {
        SequenceNumber(number)
    }

    #[test]
    fn bytes_come_in_any_order_and_stay_as_they_came_first() {
        let mut window = Pool::new(1).take(n(u32::MAX - 1), Holder::NOBODY).unwrap();
        assert!(window.insert(n(4), b"ghi"));
        assert!(window.insert(n(1), b"dXX")); // to 4
        assert!(window.insert(n(u32::MAX), b"bcDEFGHIJ"));
        assert_eq!(window.contiguous(n(u32::MAX - 1)), b"");
        assert_eq!(window.contiguous(n(u32::MAX)), b"bcdXXghiJ");
        assert!(window.insert(n(u32::MAX - 5), b"....a"));
        assert_eq!(window.contiguous(n(u32::MAX - 1)), b"abcdXXghiJ");
        window.advance(n(1));
        assert_eq!((window.start(), window.contiguous(n(1))), (n(1), &b"dXXghiJ"[..]));
        window.forget_behind(n(3));
        assert_eq!(window.contiguous(n(1)), b"dX");
        window.advance(n(50));
        assert!(window.is_empty() && window.start() == n(50));
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut window = Pool::new(1).take(n(0), Holder::NOBODY).unwrap();
        assert!(window.insert(n(SIZE as u32 - 1), b"x") && !window.insert(n(SIZE as u32 - 1), b"xy"));
        for i in 0..STRETCHES as u32 - 1 {
            assert!(window.insert(n(i * 2), b"x"));
        }
        assert!(!window.insert(n(SIZE as u32 / 2), b"x"), "one gap too many");
        assert!(window.insert(n(1), b"x"), "one gap fewer");
    }

    #[test]
    fn windows_are_counted_and_come_back_empty() {
        let mut pool = Pool::new(1);
        let mut window = pool.take(n(7), Holder::NOBODY).unwrap();
        window.insert(n(7), b"abc");
        let other = pool.take(n(8), Holder::NOBODY).unwrap();
        assert!(pool.take(n(8), Holder::NOBODY).is_none());
        pool.give_back(Some(other), Holder::NOBODY);
        pool.give_back(Some(window), Holder::NOBODY);
        assert!(pool.holders.is_empty() && pool.clients.is_empty());
        let window = pool.take(n(9), Holder::NOBODY);
        assert!(window.is_some_and(|window| window.is_empty() && window.start() == n(9)));
        assert!(Pool::new(0).take(n(9), Holder::NOBODY).is_none());
    }

    #[test]
    fn the_client_that_has_most_gives_up_its_oldest() {
        let holder =
            |client: u8, state: usize| Holder { state, direction: Direction::Reply, client: [10, 0, 0, client].into() };
        let mut pool = Pool::new(4);
        let mut take = |client: u8, state: usize| {
            pool.take(n(1), holder(client, state)).unwrap();
            let gives_up = pool.too_many();
            if let Some(holder) = gives_up {
                pool.give_back(Some(Window::new()), holder);
            }
            gives_up.map(|holder| holder.state)
        };
        assert_eq!([(1, 1), (2, 2), (2, 3), (3, 4)].map(|(client, state)| take(client, state)), [None; 4]);
        assert_eq!(take(4, 5), Some(2), "it had two");
        assert_eq!(take(5, 6), Some(1), "all have one, this the longest");
        assert_eq!(take(5, 7), Some(6), "its own");
    }

    proptest! {
        #[test]
        fn as_a_map_of_places_has_it(pieces in proptest::collection::vec((0..60u32, 1..20usize), 1..12)) {
            let first = n(u32::MAX - 20);
            let mut window = Pool::new(1).take(first, Holder::NOBODY).unwrap();
            let mut model = [None; 128];
            for (i, (at, len)) in pieces.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|j| (i * 20 + j) as u8).collect();
                if window.insert(first + at, &bytes) {
                    for (place, byte) in model[at as usize..].iter_mut().zip(bytes) {
                        place.get_or_insert(byte);
                    }
                }
            }
            for from in 0..100 {
                let expected: Vec<u8> = model[from..].iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(window.contiguous(first + from as u32), expected);
            }
        }
    }
}
