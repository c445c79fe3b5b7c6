//! Gathering fragments, within bounds.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use crate::Instant;
use crate::packet::{Family, Fragment, Headers, Packet, Protocol, must_not_be_cut};

/// Time for which fragments wait for the others (Linux, `net.ipv4.ipfrag_time`).
const TIMEOUT: Duration = Duration::from_secs(30);
/// A packet that comes in more parts than this is given up.
const MAX_PARTS: usize = 256;
/// Maximum length of an IPv4 packet, with tail room.
const BUFFER: usize = MAX_HEADER + u16::MAX as usize + Packet::ROOM;
/// The longest headers before a part: IPv4's 60 bytes, or IPv6's with some extensions.
const MAX_HEADER: usize = 256;

/// Packets that come in parts: so many at once, in memory taken at construction.
#[derive(Debug)]
pub(crate) struct Fragments {
    queues: Box<[Queue]>,
}

/// The parts of one packet.
#[derive(Debug)]
struct Queue {
    /// Datagram whose fragments wait, and its deadline; `None` if the buffer is free.
    key: Option<Key>,
    deadline: Instant,
    /// The packet as far as it is there: what follows its header begins at [`MAX_HEADER`].
    buffer: Box<[u8]>,
    /// Length of the headers; 0 while the first part is not there.
    header: usize,
    /// IPv6: what follows the fragment header, and where in the headers that is to be said.
    next: (usize, u8),
    /// The length of what follows the header, once the last part is there.
    total: Option<usize>,
    /// Offset and length of the parts, in order.
    parts: Vec<(u16, u16)>,
    /// The longest part, header included, and the longest of those that must not be cut.
    longest: usize,
    longest_uncuttable: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    identification: u32,
    protocol: Protocol,
    interface: Option<usize>,
}

/// The result of adding a fragment.
pub(crate) enum Gathered {
    /// Others are missing.
    Waits,
    /// It does not fit, or there is no room.
    Refused,
    /// It is no fragment that could be gathered, and goes on as it is (IPv6, seen on 6.18).
    Passes,
    /// The packet is whole.
    Whole(Whole),
}

/// A packet whose parts are all there. Its queue is to be [given back](Fragments::give_back).
pub(crate) struct Whole {
    queue: usize,
    pub(crate) buffer: Box<[u8]>,
    /// Range of the packet in the buffer.
    pub(crate) range: Range<usize>,
    /// Offset and length of the parts it came in, in order.
    pub(super) parts: Vec<(u16, u16)>,
    /// The longest part, headers included.
    pub(super) longest: usize,
    /// The length of the headers before the parts, and, for IPv6, where they name what follows.
    pub(super) header: (usize, usize),
}

impl Fragments {
    pub(crate) fn new(queues: usize) -> Self {
        let queue = || Queue {
            key: None,
            deadline: Instant::NEVER,
            buffer: vec![0; BUFFER].into(),
            header: 0,
            next: (0, 0),
            total: None,
            parts: Vec::with_capacity(MAX_PARTS),
            longest: 0,
            longest_uncuttable: 0,
        };
        Self { queues: (0..queues).map(|_| queue()).collect() }
    }

    /// Takes a part in.
    pub(crate) fn gather(
        &mut self,
        now: Instant,
        interface: Option<usize>,
        bytes: &[u8],
        headers: &Headers,
        fragment: Fragment,
    ) -> Gathered {
        let key = Key {
            source: headers.source(bytes),
            destination: headers.destination(bytes),
            identification: fragment.identification,
            // The fragments of an IPv6 packet may name different headers; the first one counts (RFC 8200 section 4.5).
            protocol: if headers.family == Family::V4 { headers.protocol } else { Protocol(0) },
            interface,
        };
        if begins_too_short(bytes, headers, fragment) {
            return Gathered::Passes;
        }
        let known = self.queues.iter().position(|queue| queue.key == Some(key) && !queue.deadline.has_passed(now));
        let free = || self.queues.iter().position(|queue| queue.key.is_none() || queue.deadline.has_passed(now));
        let Some(index) = known.or_else(free) else { return Gathered::Refused };
        let Some(queue) = self.queues.get_mut(index) else { return Gathered::Refused };
        if known.is_none() {
            queue.begin(key, now + TIMEOUT);
        }
        if headers.family == Family::V6 && fragment.more && !(headers.end - fragment.body).is_multiple_of(8) {
            queue.key = None;
            return Gathered::Passes;
        }
        match queue.insert(bytes, headers, fragment) {
            Some(true) => self.whole(index),
            Some(false) => Gathered::Waits,
            None => {
                queue.key = None;
                Gathered::Refused
            }
        }
    }

    fn whole(&mut self, index: usize) -> Gathered {
        let Some((queue, total)) = self.queues.get_mut(index).and_then(|queue| queue.total.map(|total| (queue, total)))
        else {
            cannot_happen!("a packet is whole that has no end");
            return Gathered::Refused;
        };
        let range = MAX_HEADER.saturating_sub(queue.header)..MAX_HEADER + total;
        let uncuttable = queue.longest_uncuttable == queue.longest;
        let mut buffer = core::mem::take(&mut queue.buffer);
        if let Ok(mut packet) = Packet::new(&mut buffer, range.clone()) {
            packet.become_whole(uncuttable, queue.next);
        }
        let parts = core::mem::take(&mut queue.parts);
        Gathered::Whole(Whole {
            queue: index,
            buffer,
            range,
            parts,
            longest: queue.longest,
            header: (queue.header, queue.next.0),
        })
    }

    /// Gives the memory of a whole packet back.
    pub(crate) fn give_back(&mut self, whole: Whole) {
        if let Some(queue) = self.queues.get_mut(whole.queue) {
            queue.key = None;
            queue.buffer = whole.buffer;
            queue.parts = whole.parts;
        }
    }

    /// Gives up what waited too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for queue in self.queues.iter_mut().filter(|queue| queue.deadline.has_passed(now)) {
            queue.key = None;
        }
    }

    /// When the next of them has waited too long.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.queues.iter().filter(|queue| queue.key.is_some()).filter_map(|queue| queue.deadline.if_ever()).min()
    }
}

/// True if the first fragment of an IPv6 packet does not show the whole transport header (RFC 8200 section 4.5). Linux does
/// not gather it, and the others wait in vain.
pub(crate) fn begins_too_short(bytes: &[u8], headers: &Headers, fragment: Fragment) -> bool {
    let wanted = match headers.protocol {
        _ if headers.family == Family::V4 || fragment.offset != 0 => return false,
        Protocol::TCP => 20,
        Protocol::UDP | Protocol::ICMPV6 => 8,
        _ => 1,
    };
    headers.end.min(bytes.len()) < fragment.body + wanted
}

impl Queue {
    fn begin(&mut self, key: Key, deadline: Instant) {
        self.key = Some(key);
        self.deadline = deadline;
        self.header = 0;
        self.total = None;
        self.parts.clear();
        self.longest = 0;
        self.longest_uncuttable = 0;
    }

    /// Puts a part in its place. `None` when it contradicts others or is too much: the packet is given up then. A part
    /// that was there already changes nothing.
    fn insert(&mut self, bytes: &[u8], headers: &Headers, fragment: Fragment) -> Option<bool> {
        let header = fragment.header;
        let mut body = bytes.get(fragment.body..headers.end)?;
        if fragment.more {
            // IPv4 fragments with others after them are cut at a multiple of eight bytes.
            body = body.get(..body.len() & !7)?;
        }
        let (start, end) = (fragment.offset, fragment.offset + body.len());
        if body.is_empty() || end + header > usize::from(u16::MAX) {
            return None;
        }
        let longest_end = self.parts.last().map_or(0, |(offset, len)| usize::from(*offset) + usize::from(*len));
        match self.total {
            Some(total) if end > total || !fragment.more && end != total => return None,
            None if !fragment.more && end < longest_end => return None,
            None if !fragment.more => self.total = Some(end),
            _ => {}
        }
        let place = |(offset, len): &(u16, u16)| (usize::from(*offset), usize::from(*offset) + usize::from(*len));
        if self.parts.iter().map(place).any(|(first, last)| first <= start && end <= last) {
            return Some(false);
        }
        if self.parts.iter().map(place).any(|(first, last)| start < last && first < end) {
            return None;
        }
        if self.parts.len() == MAX_PARTS {
            return None;
        }
        let at = self.parts.partition_point(|(offset, _)| usize::from(*offset) < start);
        self.parts.insert(at, (u16::try_from(start).ok()?, u16::try_from(body.len()).ok()?));
        let length = fragment.body + body.len();
        self.longest = self.longest.max(length);
        if headers.family == Family::V4 && must_not_be_cut(bytes) {
            self.longest_uncuttable = self.longest_uncuttable.max(length);
        }
        if start == 0 {
            self.header = header;
            self.next = (fragment.named_at, *bytes.get(header)?);
            let before_body = MAX_HEADER.checked_sub(header)?;
            self.buffer.get_mut(before_body..MAX_HEADER)?.copy_from_slice(bytes.get(..header)?);
        }
        self.buffer.get_mut(MAX_HEADER + start..MAX_HEADER + end)?.copy_from_slice(body);
        Some(self.is_whole())
    }

    /// Returns true if the first part, the last part and everything between is there.
    fn is_whole(&self) -> bool {
        let gathered: usize = self.parts.iter().map(|(_, len)| usize::from(*len)).sum();
        self.header > 0 && self.total == Some(gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Cut;

    fn whole() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 100, 0, 9, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend((0..80).map(|i| i as u8));
        bytes
    }

    fn part(offset: usize, len: usize) -> Vec<u8> {
        let mut out = vec![0; 100];
        let written = Cut::v4(&whole()).write(&mut out, &whole(), offset, len).unwrap();
        out.truncate(written);
        out
    }

    fn gather(fragments: &mut Fragments, seconds: i64, bytes: &[u8]) -> Gathered {
        let headers = Headers::find(bytes).unwrap();
        fragments.gather(Instant::from_secs(seconds), Some(0), bytes, &headers, headers.fragment.unwrap())
    }

    #[test]
    fn parts_in_any_order_become_the_packet() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut fragments = Fragments::new(1);
            let parts = [part(0, 24), part(24, 16), part(40, 40)];
            assert!(matches!(gather(&mut fragments, 0, &parts[order[0]]), Gathered::Waits));
            assert!(matches!(gather(&mut fragments, 0, &parts[order[0]]), Gathered::Waits), "a repetition");
            assert!(matches!(gather(&mut fragments, 0, &parts[order[1]]), Gathered::Waits));
            let Gathered::Whole(gathered) = gather(&mut fragments, 0, &parts[order[2]]) else { panic!("{order:?}") };
            let bytes = &gathered.buffer[gathered.range.clone()];
            assert_eq!(bytes[20..], whole()[20..]);
            assert!(Headers::find(bytes).unwrap().header_checksum_ok(bytes));
            assert_eq!((gathered.parts.as_slice(), gathered.longest), (&[(0, 24), (24, 16), (40, 40)][..], 60));
            fragments.give_back(gathered);
            assert!(matches!(gather(&mut fragments, 0, &parts[0]), Gathered::Waits));
        }
    }

    #[test]
    fn parts_that_overlap_are_refused() {
        let mut fragments = Fragments::new(1);
        assert!(matches!(gather(&mut fragments, 0, &part(0, 24)), Gathered::Waits));
        assert!(matches!(gather(&mut fragments, 0, &part(16, 24)), Gathered::Refused));
        assert!(matches!(gather(&mut fragments, 0, &part(24, 56)), Gathered::Waits), "begins anew");
    }

    #[test]
    fn room_is_bounded_and_comes_back_with_time() {
        let mut fragments = Fragments::new(1);
        let mut other = part(0, 24);
        other[5] = 10;
        assert!(matches!(gather(&mut fragments, 0, &part(0, 24)), Gathered::Waits));
        assert!(matches!(gather(&mut fragments, 29, &other), Gathered::Refused));
        assert_eq!(fragments.poll_at(), Some(Instant::from_secs(30)));
        fragments.handle_timeout(Instant::from_secs(30));
        assert_eq!(fragments.poll_at(), None);
        assert!(matches!(gather(&mut fragments, 30, &other), Gathered::Waits));
    }
}
