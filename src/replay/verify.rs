//! Comparing what a router sends with what a capture shows leaving.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::vec::Vec;

use super::comparable::{comparable, is_summed};
use super::frames::Frame;
use super::train::{Progress, Segment, last_flags};
use crate::Instant;
use crate::packet::{Family, Headers, Layer4, Protocol, TcpFlags};

/// A packet that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The frame that arrived and led to it.
    pub arrived: Option<u64>,
    /// The frame that left.
    pub left: Option<u64>,
    /// When.
    pub time: Instant,
    /// The number of the interface it leaves by.
    pub interface: usize,
    /// In what way.
    pub kind: DifferenceKind,
    /// Packet that the library sends; empty if none.
    pub ours: Vec<u8>,
    /// Packet that the capture shows; empty if none.
    pub theirs: Vec<u8>,
}

/// In what way a packet differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// Both send it, with different bytes.
    Bytes,
    /// The library sends it, and the capture does not show it.
    Missing,
    /// The capture shows it, and the library does not send it.
    Unexpected,
}

impl Difference {
    pub(super) fn unexpected(frame: &Frame) -> Self {
        Self {
            arrived: None,
            left: Some(frame.number),
            time: frame.time,
            interface: frame.interface,
            kind: DifferenceKind::Unexpected,
            ours: Vec::new(),
            theirs: frame.bytes.clone(),
        }
    }
}

/// The packets that the library sent and the capture has not shown yet.
#[derive(Default)]
pub(super) struct Verifier {
    /// By the order in which they were sent.
    pending: BTreeMap<u64, Predicted>,
    /// The number of the next one.
    next: u64,
    /// The numbers of those that may be meant, oldest first.
    index: HashMap<Key, VecDeque<u64>>,
    hasher: RandomState,
}

/// A packet that the library sent.
struct Predicted {
    arrived: u64,
    time: Instant,
    interface: usize,
    bytes: Vec<u8>,
    /// The part of it that is compared.
    compared: Vec<u8>,
    /// True if its transport checksum was wrong when it arrived.
    bad_checksum: bool,
    /// The part of it that left, where it leaves in another cut.
    progress: Progress,
    keys: Vec<Key>,
}

/// The key by which a packet that leaves is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Hash of interface and compared bytes.
    Same(u64),
    /// Interface, protocol, TCP flags and both ends.
    Ends(usize, Protocol, Option<TcpFlags>, SocketAddr, SocketAddr),
    /// Interface and both ends of a TCP segment with payload.
    Stream(usize, SocketAddr, SocketAddr),
    /// Interface, family, protocol, TCP flags, and bytes 4 and 5: IPv4's identification or IPv6's length.
    Identification(usize, Family, Protocol, Option<TcpFlags>, [u8; 2]),
}

/// Maximum number of packets that wait to be seen in the capture.
const MOST_PENDING: usize = 1024;

impl Verifier {
    /// Notes that the library sends a packet. Returns the oldest that was never seen leaving, if there are too many.
    pub(super) fn predict(
        &mut self,
        arrived: &Frame,
        interface: usize,
        bytes: &[u8],
        bad_checksum: bool,
    ) -> Option<Difference> {
        let compared = comparable(bytes, bad_checksum);
        let mut keys = meant_keys(interface, bytes);
        keys.push(self.same(interface, &compared));
        let number = self.next;
        self.next += 1;
        for key in &keys {
            self.index.entry(*key).or_default().push_back(number);
        }
        let predicted = Predicted {
            arrived: arrived.number,
            time: arrived.time,
            interface,
            bytes: bytes.to_vec(),
            compared,
            bad_checksum,
            progress: Progress::default(),
            keys,
        };
        self.pending.insert(number, predicted);
        if self.pending.len() <= MOST_PENDING {
            return None;
        }
        let oldest = *self.pending.first_key_value()?.0;
        self.take(oldest).map(Predicted::missing)
    }

    /// Returns true if what left was predicted, in whatever cut, and stops waiting for it.
    pub(super) fn matches(&mut self, left: &Frame) -> bool {
        self.is_same(left) || self.continues(left)
    }

    fn is_same(&mut self, left: &Frame) -> bool {
        self.same_as(left).and_then(|number| self.take(number)).is_some()
    }

    /// Returns true if a packet is waited for that is this one, to the byte.
    pub(super) fn expects(&self, left: &Frame) -> bool {
        self.same_as(left).is_some()
    }

    fn same_as(&self, left: &Frame) -> Option<u64> {
        let found = [false, true].into_iter().filter_map(|bad_checksum| {
            let compared = comparable(&left.bytes, bad_checksum);
            let key = self.same(left.interface, &compared);
            let is_it = |p: &Predicted| {
                p.interface == left.interface && p.bad_checksum == bad_checksum && p.compared == compared
            };
            self.first(&key, |p| is_it(p) && p.progress == Progress::default())
        });
        found.min()
    }

    /// Compares a segment with predicted ones that are cut otherwise, each byte once.
    fn continues(&mut self, left: &Frame) -> bool {
        let Some(piece) = Segment::read(&left.bytes) else { return false };
        let Some(key) = stream_key(left.interface, &left.bytes) else { return false };
        let mut steps: Vec<(u64, usize, bool)> = Vec::new();
        let (mut from, mut flags) = (0, 0);
        for number in self.index.get(&key).into_iter().flatten() {
            let Some(predicted) = self.pending.get(number) else { continue };
            let Some(whole) = Segment::read(&predicted.bytes) else { continue };
            if let Some(len) = predicted.progress.compare(&whole, &piece, from, predicted.bad_checksum) {
                from += len;
                let is_over = predicted.progress.bytes + len == whole.payload.len();
                flags |= if is_over { last_flags(&whole) } else { 0 };
                steps.push((*number, len, is_over));
            }
            if from == piece.payload.len() {
                break;
            }
        }
        if from != piece.payload.len() || flags != last_flags(&piece) {
            return false;
        }
        for (number, len, is_over) in steps {
            if is_over {
                self.take(number);
            } else if let Some(predicted) = self.pending.get_mut(&number) {
                predicted.progress = predicted.progress.after(len);
            }
        }
        true
    }

    /// Returns how the prediction that was meant differs, if there is one: of the same packet, with other bytes.
    pub(super) fn closest(&mut self, left: &Frame) -> Option<Difference> {
        let keys = meant_keys(left.interface, &left.bytes);
        let meant = keys.iter().filter(|key| !matches!(key, Key::Stream(..)));
        let number = meant.filter_map(|key| self.first(key, |_| true)).min()?;
        let predicted = self.take(number)?;
        Some(Difference {
            arrived: Some(predicted.arrived),
            left: Some(left.number),
            time: left.time,
            interface: left.interface,
            kind: DifferenceKind::Bytes,
            ours: predicted.bytes,
            theirs: left.bytes.clone(),
        })
    }

    /// Returns what was predicted and never left, or not all of it.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = Difference> {
        self.index.clear();
        core::mem::take(&mut self.pending).into_values().map(Predicted::missing)
    }

    fn same(&self, interface: usize, compared: &[u8]) -> Key {
        Key::Same(self.hasher.hash_one((interface, compared)))
    }

    /// Returns the number of the oldest prediction under a key that is meant.
    fn first(&self, key: &Key, is_meant: impl Fn(&Predicted) -> bool) -> Option<u64> {
        let mut numbers = self.index.get(key)?.iter().copied();
        numbers.find(|number| self.pending.get(number).is_some_and(&is_meant))
    }

    fn take(&mut self, number: u64) -> Option<Predicted> {
        let predicted = self.pending.remove(&number)?;
        for key in &predicted.keys {
            if let Some(numbers) = self.index.get_mut(key) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.index.remove(key);
                }
            }
        }
        Some(predicted)
    }
}

impl Predicted {
    fn missing(self) -> Difference {
        Difference {
            arrived: Some(self.arrived),
            left: None,
            time: self.time,
            interface: self.interface,
            kind: DifferenceKind::Missing,
            ours: self.bytes,
            theirs: Vec::new(),
        }
    }
}

/// Returns true if the transport checksum of an arriving packet is wrong, and no network card was to fill it in.
pub(super) fn has_bad_checksum(bytes: &[u8]) -> bool {
    Headers::find(bytes).is_ok_and(|headers| !is_summed(&headers, bytes))
}

/// Returns the keys under which packets are found that are meant to be this one, whatever its other bytes.
fn meant_keys(interface: usize, bytes: &[u8]) -> Vec<Key> {
    let Ok(headers) = Headers::find(bytes) else { return Vec::new() };
    let flags = match headers.layer4 {
        Layer4::Tcp(segment) => Some(segment.flags),
        _ => None,
    };
    let (source, destination) = ends(&headers, bytes);
    let mut keys = Vec::from([Key::Ends(interface, headers.protocol, flags, source, destination)]);
    let is_numbered = headers.family == Family::V4 || headers.protocol != Protocol::TCP;
    // Linux numbers many packets that must not be cut with 0.
    if let Some(field) = bytes.get(4..6).filter(|field| is_numbered && *field != [0, 0]) {
        let field = field.try_into().unwrap_or_default();
        keys.push(Key::Identification(interface, headers.family, headers.protocol, flags, field));
    }
    keys.extend(stream_key(interface, bytes));
    keys
}

fn stream_key(interface: usize, bytes: &[u8]) -> Option<Key> {
    let headers = Headers::find(bytes).ok().filter(|headers| headers.fragment.is_none())?;
    let Layer4::Tcp(_) = headers.layer4 else { return None };
    let (source, destination) = ends(&headers, bytes);
    (!headers.payload(bytes).is_empty()).then_some(Key::Stream(interface, source, destination))
}

/// Returns both ends of a packet, with ports of 0 where it has none.
fn ends(headers: &Headers, bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let (source, destination) = headers.ports(bytes).unwrap_or_default();
    (SocketAddr::new(headers.source(bytes), source), SocketAddr::new(headers.destination(bytes), destination))
}
