//! SCTP: the states of an association, and whether a packet bears the right verification tag.
//!
//! What Linux does was asked of a 6.18 kernel chunk by chunk; the words are RFC 9260's. Each packet bears the tag that its
//! receiver chose in its INIT or INIT ACK. The tracker keeps one tag for each direction: what packets that way must bear.
//! Each chunk of a packet is judged in turn, and what it changes stays changed even if a later one makes the packet
//! invalid.
//!
//! Worked example. A client's INIT, whose own tag is 0, says that the client wants to read 17: replies are to bear 17. The
//! server's INIT ACK bears 17 and says 34: from now on the client's packets are to bear 34. With COOKIE ECHO and
//! COOKIE ACK the association is ESTABLISHED.
//!
//! A heartbeat may bear a tag that is not known: one side may have begun anew. It passes and changes nothing; if its answer
//! bears another tag too, that tag is taken, and the other side's is forgotten until its next heartbeat.

use core::time::Duration;

use super::connection::Direction;
use crate::packet::{Headers, read_array};

/// The state of an SCTP association, as `/proc/net/nf_conntrack` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum SctpState {
    /// Before any chunk was accepted.
    None,
    /// INIT seen and not answered; or aborted, or shut down.
    Closed,
    /// INIT ACK seen.
    CookieWait,
    /// COOKIE ECHO seen.
    CookieEchoed,
    /// Open.
    Established,
    /// SHUTDOWN seen, from the side that opened it.
    ShutdownSent,
    /// SHUTDOWN seen, from the other side.
    ShutdownReceived,
    /// SHUTDOWN ACK seen.
    ShutdownAckSent,
    /// A heartbeat was seen, but not the association's beginning.
    HeartbeatSent,
}

impl SctpState {
    /// The name the kernel prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    /// Returns the state after a chunk in this direction; `None` where the chunk has no place.
    const fn after(self, direction: Direction, kind: u8) -> Option<Self> {
        use SctpState::{
            Closed, CookieEchoed, CookieWait, Established, HeartbeatSent, None, ShutdownAckSent, ShutdownReceived,
            ShutdownSent,
        };
        Some(match (self, direction, kind) {
            (None, _, INIT | INIT_ACK | HEARTBEAT_ACK | SHUTDOWN | ERROR | COOKIE_ECHO) => Closed,
            (None, _, HEARTBEAT) => HeartbeatSent,
            (None, _, SHUTDOWN_ACK) => ShutdownAckSent,
            (None, ..) => return Option::None,
            (HeartbeatSent, Direction::Reply, HEARTBEAT_ACK) => Established,
            (
                HeartbeatSent,
                Direction::Reply,
                INIT | INIT_ACK | ABORT | SHUTDOWN | SHUTDOWN_ACK | ERROR | COOKIE_ECHO | COOKIE_ACK
                | SHUTDOWN_COMPLETE,
            ) => return Option::None,
            (HeartbeatSent, _, INIT) => CookieWait,
            (HeartbeatSent, _, SHUTDOWN_ACK) => ShutdownAckSent,
            (HeartbeatSent, _, INIT_ACK | ABORT | SHUTDOWN | ERROR | COOKIE_ECHO | COOKIE_ACK | SHUTDOWN_COMPLETE) => {
                Closed
            }
            (_, _, ABORT) => Closed,
            (ShutdownSent | ShutdownReceived, Direction::Original, INIT) => Closed,
            (Closed, Direction::Reply, INIT_ACK) => CookieWait,
            (CookieWait, _, COOKIE_ECHO) => CookieEchoed,
            (CookieEchoed, _, COOKIE_ACK) => Established,
            (CookieEchoed, Direction::Reply, ERROR) => Closed,
            (Established, Direction::Original, SHUTDOWN) => ShutdownSent,
            (Established, Direction::Reply, SHUTDOWN) => ShutdownReceived,
            (ShutdownSent | ShutdownReceived, _, SHUTDOWN_ACK) => ShutdownAckSent,
            (ShutdownAckSent, _, SHUTDOWN_COMPLETE) => Closed,
            (same, ..) => same,
        })
    }
}

/// Timeouts of an association in each state (`net.netfilter.nf_conntrack_sctp_timeout_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SctpConfig {
    /// Timeout of CLOSED.
    pub closed: Duration,
    /// Timeout of COOKIE_WAIT.
    pub cookie_wait: Duration,
    /// Timeout of COOKIE_ECHOED.
    pub cookie_echoed: Duration,
    /// Timeout of ESTABLISHED.
    pub established: Duration,
    /// Timeout of SHUTDOWN_SENT.
    pub shutdown_sent: Duration,
    /// Timeout of SHUTDOWN_RECD.
    pub shutdown_received: Duration,
    /// Timeout of SHUTDOWN_ACK_SENT.
    pub shutdown_ack_sent: Duration,
    /// Timeout of HEARTBEAT_SENT.
    pub heartbeat_sent: Duration,
}

impl Default for SctpConfig {
    /// The kernel's defaults (as 6.18 shows them).
    fn default() -> Self {
        Self {
            closed: Duration::from_secs(10),
            cookie_wait: Duration::from_secs(3),
            cookie_echoed: Duration::from_secs(3),
            established: Duration::from_secs(210),
            shutdown_sent: Duration::from_secs(3),
            shutdown_received: Duration::from_secs(3),
            shutdown_ack_sent: Duration::from_secs(3),
            heartbeat_sent: Duration::from_secs(30),
        }
    }
}

impl SctpConfig {
    const fn timeout(&self, state: SctpState) -> Duration {
        match state {
            SctpState::None | SctpState::Closed => self.closed,
            SctpState::CookieWait => self.cookie_wait,
            SctpState::CookieEchoed => self.cookie_echoed,
            SctpState::Established => self.established,
            SctpState::ShutdownSent => self.shutdown_sent,
            SctpState::ShutdownReceived => self.shutdown_received,
            SctpState::ShutdownAckSent => self.shutdown_ack_sent,
            SctpState::HeartbeatSent => self.heartbeat_sent,
        }
    }
}

// Types of chunks (RFC 9260 section 3.2) that mean something here.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The flag T: the tag is the one that the sender would read, and not the receiver's (RFC 9260 section 8.5.1).
const REFLECTED: u8 = 1;

/// The chunks of a packet.
pub(super) struct Chunks<'p> {
    /// The packet's verification tag.
    tag: u32,
    bytes: &'p [u8],
}

#[derive(Clone, Copy)]
struct Chunk<'p> {
    kind: u8,
    flags: u8,
    /// Bytes after the header, to the end of the packet.
    rest: &'p [u8],
}

impl Chunk<'_> {
    /// The tag that an INIT or INIT ACK chooses, if its fixed fields are all there (RFC 9260 section 3.3.2).
    fn initiate_tag(&self) -> Option<u32> {
        self.rest.get(..16).and_then(|fields| read_array(fields, 0)).map(u32::from_be_bytes)
    }
}

impl<'p> Chunks<'p> {
    /// The chunks of an SCTP packet; `None` when there are none, one has no length, or such are together that may not be:
    /// INIT, INIT ACK and SHUTDOWN COMPLETE come alone, COOKIE ECHO and COOKIE ACK first (RFC 9260 section 6.10).
    pub(super) fn of(headers: &Headers, bytes: &'p [u8]) -> Option<Self> {
        let packet = bytes.get(headers.transport..headers.end)?;
        let chunks = Self { tag: u32::from_be_bytes(read_array(packet, 4)?), bytes: packet.get(12..)? };
        let mut rest = chunks.bytes;
        while let [_, _, length @ ..] = rest
            && let [high, low, ..] = *length
        {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length == 0 {
                return None;
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        let count = chunks.iter().count();
        let is_misplaced = |(place, chunk): (usize, Chunk<'_>)| match chunk.kind {
            INIT | INIT_ACK | SHUTDOWN_COMPLETE => count > 1,
            COOKIE_ECHO | COOKIE_ACK => place > 0,
            _ => false,
        };
        (count > 0 && !chunks.iter().enumerate().any(is_misplaced)).then_some(chunks)
    }

    /// A chunk reaches over what its length says, rounded up to a word; what is shorter than a chunk's header at the end is
    /// none.
    fn iter(&self) -> impl Iterator<Item = Chunk<'p>> {
        let mut bytes = self.bytes;
        core::iter::from_fn(move || {
            let ([kind, flags, high, low], rest) = bytes.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes([*high, *low])).max(1);
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(Chunk { kind: *kind, flags: *flags, rest })
        })
    }

    fn has(&self, kind: u8) -> bool {
        self.iter().any(|chunk| chunk.kind == kind)
    }

    /// Returns true if the packet has a chunk with rules of its own about the tag.
    fn has_own_rules(&self) -> bool {
        self.iter().any(|chunk| {
            matches!(
                chunk.kind,
                INIT | ABORT | SHUTDOWN_COMPLETE | SHUTDOWN_ACK | COOKIE_ECHO | HEARTBEAT | HEARTBEAT_ACK
            )
        })
    }
}

/// The state that is kept of an SCTP association.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SctpTracker {
    state: SctpState,
    /// The tag that packets of each direction must bear; 0 while it is not known.
    tags: [u32; 2],
    /// True for the side whose INIT waits for an INIT ACK, which may choose another tag than the known one.
    opening: [bool; 2],
    /// INITs crossed: no INIT ACK may choose another tag.
    crossed: bool,
    /// Which way a heartbeat went whose tag was not the known one.
    foreign_heartbeat: Option<Direction>,
}

/// A packet that is no part of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

impl SctpTracker {
    /// The association that begins with a packet of these chunks; `None` where none can begin.
    pub(super) fn open(chunks: &Chunks<'_>) -> Option<Self> {
        let begins = |chunk: Chunk<'_>| SctpState::None.after(Direction::Original, chunk.kind).is_some();
        if !chunks.iter().all(begins) {
            return None;
        }
        // The tag of a SHUTDOWN ACK out of nowhere will come back (RFC 9260 section 8.4).
        let reflected = if chunks.has(SHUTDOWN_ACK) { chunks.tag } else { 0 };
        let own = if chunks.has(HEARTBEAT) { chunks.tag } else { 0 };
        Some(Self {
            state: SctpState::None,
            tags: [own, reflected],
            opening: [false; 2],
            crossed: false,
            foreign_heartbeat: None,
        })
    }

    pub(crate) const fn state(&self) -> SctpState {
        self.state
    }

    /// Lets a packet change the association. `established` is told as soon as one of its chunks opens it. Returns how long
    /// it lasts from now on; `None`: as long as it did.
    pub(super) fn track(
        &mut self,
        config: &SctpConfig,
        direction: Direction,
        chunks: &Chunks<'_>,
        mut established: impl FnMut(),
    ) -> Result<Option<Duration>, Invalid> {
        if !chunks.has_own_rules() && chunks.tag != self.tags[direction as usize] {
            return Err(Invalid);
        }
        let mut renews = true;
        for chunk in chunks.iter() {
            let is_foreign = self.is_foreign(direction, chunks.tag);
            if matches!(chunk.kind, HEARTBEAT | HEARTBEAT_ACK) && is_foreign && chunks.has(DATA) {
                return Err(Invalid);
            }
            if chunk.kind == HEARTBEAT && is_foreign {
                if !renews {
                    return Err(Invalid);
                }
                self.foreign_heartbeat = Some(direction);
                renews = false;
                continue;
            }
            self.check_tag(direction, &chunk, chunks.tag)?;
            let before = self.state;
            let after = before.after(direction, chunk.kind).ok_or(Invalid)?;
            self.take_tag(direction, &chunk)?;
            // An INIT that is repeated does not keep an entry alive.
            renews &= !(chunk.kind == INIT && before == SctpState::Closed);
            if after == SctpState::Established && before != after {
                established();
            }
            self.state = after;
        }
        Ok(renews.then(|| config.timeout(self.state)))
    }

    /// Returns true if a tag is known in that direction and is another.
    const fn is_foreign(&self, direction: Direction, tag: u32) -> bool {
        let known = self.tags[direction as usize];
        known != 0 && known != tag
    }

    /// Checks if a packet with such a chunk may have this tag (RFC 9260 section 8.5).
    fn check_tag(&mut self, direction: Direction, chunk: &Chunk<'_>, tag: u32) -> Result<(), Invalid> {
        let (own, others) = (direction as usize, direction.other() as usize);
        let passes = match chunk.kind {
            INIT => tag == 0,
            ABORT | SHUTDOWN_COMPLETE if chunk.flags & REFLECTED != 0 => tag == self.tags[others],
            ABORT | SHUTDOWN_COMPLETE | COOKIE_ECHO => tag == self.tags[own],
            HEARTBEAT_ACK if self.is_foreign(direction, tag) => {
                let answers = self.foreign_heartbeat == Some(direction.other());
                if answers {
                    self.tags[own] = tag;
                    self.tags[others] = 0;
                    self.foreign_heartbeat = None;
                }
                answers
            }
            HEARTBEAT | HEARTBEAT_ACK => {
                if self.tags[own] != 0 {
                    self.foreign_heartbeat = None;
                }
                self.tags[own] = tag;
                true
            }
            _ => true,
        };
        if passes { Ok(()) } else { Err(Invalid) }
    }

    /// Takes the tag that a chunk chooses for the packets that will answer it.
    fn take_tag(&mut self, direction: Direction, chunk: &Chunk<'_>) -> Result<(), Invalid> {
        let (own, others) = (direction as usize, direction.other() as usize);
        match chunk.kind {
            INIT => {
                let tag = chunk.initiate_tag().ok_or(Invalid)?;
                if self.tags[others] != tag || self.state == SctpState::None {
                    self.crossed = core::mem::take(&mut self.opening[others]);
                    self.opening[own] |= !self.crossed;
                    self.tags[others] = tag;
                }
            }
            INIT_ACK => {
                let tag = chunk.initiate_tag().ok_or(Invalid)?;
                let known = self.tags[others];
                if tag != known && !self.opening[others] && (known != 0 || self.crossed) {
                    return Err(Invalid);
                }
                self.tags[others] = tag;
            }
            COOKIE_ACK => (self.opening, self.crossed) = ([false; 2], false),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const TO_CLIENT: u32 = 0x1111_1111;
    const TO_SERVER: u32 = 0x2222_2222;

    /// A chunk with this body.
    fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, flags, 0, 4 + body.len() as u8], body].concat()
    }

    fn init(kind: u8, tag: u32) -> Vec<u8> {
        chunk(kind, 0, &[&tag.to_be_bytes()[..], &[0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 7]].concat())
    }

    fn heartbeat() -> Vec<u8> {
        chunk(HEARTBEAT, 0, &[0, 1, 0, 8, 0, 0, 0, 5])
    }

    /// An IPv4 packet with these chunks.
    fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 132, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9];
        bytes.extend([0x9c, 0x40, 0, 99]);
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(chunks.concat());
        bytes[3] = bytes.len() as u8;
        bytes
    }

    /// Sends packets one after the other: who, tag, chunks. Returns the tracker and which were part of the association.
    fn told(packets: &[(Direction, u32, &[Vec<u8>])]) -> (Option<SctpTracker>, Vec<bool>) {
        let (mut tracker, mut passed) = (None, Vec::new());
        for (direction, tag, chunks) in packets {
            let bytes = packet(*tag, chunks);
            let headers = Headers::find(&bytes).unwrap();
            let Some(chunks) = Chunks::of(&headers, &bytes) else {
                passed.push(false);
                continue;
            };
            if tracker.is_none() {
                tracker = SctpTracker::open(&chunks);
            }
            let result = tracker.as_mut().map(|t| t.track(&SctpConfig::default(), *direction, &chunks, || {}));
            passed.push(matches!(result, Some(Ok(_))));
        }
        (tracker, passed)
    }

    use Direction::{Original, Reply};

    #[test]
    fn an_association_begins_and_ends() {
        let handshake: [(Direction, u32, &[Vec<u8>]); 8] = [
            (Original, 0, &[init(INIT, TO_CLIENT)]),
            (Reply, TO_CLIENT, &[init(INIT_ACK, TO_SERVER)]),
            (Original, TO_SERVER, &[chunk(COOKIE_ECHO, 0, b"cookie..")]),
            (Reply, TO_CLIENT, &[chunk(COOKIE_ACK, 0, b"")]),
            (Original, TO_SERVER, &[chunk(DATA, 3, &[0; 12])]),
            (Reply, TO_CLIENT, &[chunk(SHUTDOWN, 0, &[0; 4])]),
            (Original, TO_SERVER, &[chunk(SHUTDOWN_ACK, 0, b"")]),
            (Reply, TO_CLIENT, &[chunk(SHUTDOWN_COMPLETE, 0, b"")]),
        ];
        use SctpState::{Closed, CookieEchoed, CookieWait, Established, ShutdownAckSent, ShutdownReceived};
        let states =
            [Closed, CookieWait, CookieEchoed, Established, Established, ShutdownReceived, ShutdownAckSent, Closed];
        for (count, state) in (1..).zip(states) {
            let (tracker, passed) = told(&handshake[..count]);
            assert!(passed.iter().all(|passed| *passed), "{count}");
            assert_eq!(tracker.unwrap().state(), state);
        }
    }

    #[test]
    fn a_wrong_tag_is_no_part_of_it() {
        let open = (Original, 0, &[init(INIT, TO_CLIENT)][..]);
        let passes = |tag, chunks: &[Vec<u8>]| told(&[open, (Reply, tag, chunks)]).1[1];
        assert!(passes(TO_CLIENT, &[init(INIT_ACK, TO_SERVER)]));
        assert!(!passes(TO_SERVER, &[init(INIT_ACK, TO_SERVER)]));
        assert!(passes(TO_CLIENT, &[chunk(ABORT, 0, b"")]));
        assert!(!passes(TO_CLIENT, &[chunk(ABORT, REFLECTED, b"")]));
        assert!(passes(0, &[chunk(ABORT, REFLECTED, b"")]));
        // Seen on 6.18: SHUTDOWN ACK and a heartbeat may bear any.
        assert!(passes(7, &[chunk(SHUTDOWN_ACK, 0, b"")]));
        assert!(passes(7, &[heartbeat()]));
        assert!(!passes(7, &[heartbeat(), chunk(DATA, 3, &[0; 12])]));
        assert!(!passes(7, &[heartbeat(), heartbeat()]));
    }

    #[test]
    fn what_may_not_be_together() {
        let is_read = |chunks: &[Vec<u8>]| {
            let bytes = packet(0, chunks);
            Chunks::of(&Headers::find(&bytes).unwrap(), &bytes).is_some()
        };
        let data = || chunk(DATA, 3, &[0; 12]);
        assert!(is_read(&[data(), data()]) && is_read(&[chunk(COOKIE_ECHO, 0, b""), data()]));
        assert!(!is_read(&[init(INIT, 1), data()]) && !is_read(&[data(), chunk(SHUTDOWN_COMPLETE, 0, b"")]));
        assert!(!is_read(&[data(), chunk(COOKIE_ACK, 0, b"")]));
        assert!(!is_read(&[]) && !is_read(&[vec![DATA, 0, 0]]) && !is_read(&[vec![DATA, 0, 0, 0]]));
        // Longer than the packet; shorter than its own header; followed by less than a header.
        assert!(
            is_read(&[vec![DATA, 0, 9, 9]]) && is_read(&[vec![DATA, 0, 0, 1]]) && is_read(&[data(), vec![0, 0, 0]])
        );
    }

    #[test]
    fn a_side_that_began_anew_is_known_by_its_heartbeat() {
        let begin = (Original, TO_SERVER, &[heartbeat()][..]);
        let answer = chunk(HEARTBEAT_ACK, 0, &[0, 1, 0, 8, 0, 0, 0, 5]);
        let answered = (Reply, TO_CLIENT, core::slice::from_ref(&answer));
        let (tracker, passed) =
            told(&[begin, answered, (Original, 7, &[heartbeat()]), (Reply, 8, core::slice::from_ref(&answer))]);
        assert_eq!(passed, [true; 4]);
        let tracker = tracker.unwrap();
        assert_eq!((tracker.state(), tracker.tags), (SctpState::Established, [0, 8]));
        assert!(!told(&[begin, answered, (Reply, 8, core::slice::from_ref(&answer))]).1[2]);
    }

    #[test]
    fn an_init_ack_may_choose_another_tag_only_while_it_is_waited_for() {
        let init_from = |direction, tag| (direction, 0, init(INIT, tag));
        let steps = |steps: &[(Direction, u32, Vec<u8>)]| {
            let packets: Vec<_> =
                steps.iter().map(|(who, tag, chunk)| (*who, *tag, core::slice::from_ref(chunk))).collect();
            *told(&packets).1.last().unwrap()
        };
        let first = || (Reply, TO_CLIENT, init(INIT_ACK, TO_SERVER));
        let another = || (Reply, TO_CLIENT, init(INIT_ACK, 9));
        let open = || init_from(Original, TO_CLIENT);
        assert!(steps(&[open(), first(), another()]));
        assert!(!steps(&[open(), init_from(Reply, TO_SERVER), another()]));
        let echo = (Original, TO_SERVER, chunk(COOKIE_ECHO, 0, b""));
        let ack = (Reply, TO_CLIENT, chunk(COOKIE_ACK, 0, b""));
        assert!(!steps(&[open(), first(), echo.clone(), ack.clone(), another()]));
        assert!(steps(&[open(), first(), echo, ack, init_from(Original, 7), (Reply, 7, init(INIT_ACK, 9))]));
    }

    #[test]
    fn a_repeated_init_does_not_keep_it_alive() {
        let bytes = packet(0, &[init(INIT, TO_CLIENT)]);
        let chunks = Chunks::of(&Headers::find(&bytes).unwrap(), &bytes).unwrap();
        let mut tracker = SctpTracker::open(&chunks).unwrap();
        let config = SctpConfig::default();
        assert_eq!(tracker.track(&config, Original, &chunks, || {}), Ok(Some(config.closed)));
        assert_eq!(tracker.track(&config, Original, &chunks, || {}), Ok(None));
    }
}
