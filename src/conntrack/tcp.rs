//! TCP states, and the test of a segment against the windows that both sides have announced.
//!
//! The window test is that of Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2001), as Linux
//! applies it. For each side the tracker keeps four values:
//!
//! - `end`: the highest end that it sent;
//! - `max_end`: the highest end that it may send, from the other side's acknowledgements and windows;
//! - `max_window`: the largest window that it announced;
//! - the highest number that it acknowledged.
//!
//! A segment from `sender` fits when
//!
//! 1. its first byte is not beyond the end that the receiver allowed: `sequence <= sender.max_end`;
//! 2. its end is not so old that the receiver's window has passed it: `end >= sender.end - receiver.max_window`;
//! 3. it acknowledges nothing that was not sent: `ack <= receiver.end`;
//! 4. it acknowledges nothing that is too old: `ack >= receiver.end - max(66000, sender.max_window)`.
//!
//! Breaking 1 or 3 makes a segment invalid. One that breaks only 2 or 4 is an old segment come late: it passes and
//! changes nothing.
//!
//! Worked example. A client sent up to byte 1000 (`end` = 1000) and the server last acknowledged 900 with a window of
//! 500. The client's `max_end` is 1400, the server's `max_window` 500. A segment 1000..1200 fits. One that begins at
//! 1401 is invalid (1). One that ends at 499 is old (2). An acknowledgement of 1001 by the server is invalid (3).

use core::time::Duration;

use super::connection::{Direction, Status};
use crate::packet::{Headers, Segment, TcpFlags, TcpOptions};
use crate::{Micros, SequenceNumber};

/// The state of a TCP connection, as `/proc/net/nf_conntrack` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums)]
pub enum TcpState {
    /// Before any segment was accepted.
    None,
    /// SYN seen.
    SynSent,
    /// SYN seen both ways.
    SynRecv,
    /// Open.
    Established,
    /// One side has sent FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// Both sides have sent FIN.
    LastAck,
    /// Both FINs were acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// SYN seen both ways, crossing.
    SynSent2,
}

impl TcpState {
    /// Every state, in the order of their numbers.
    const ALL: [Self; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// The name the kernel prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }

    /// Returns true if a step into this state depends on more than the state table.
    #[inline]
    const fn depends_on_more(self) -> bool {
        matches!(self, Self::SynSent | Self::SynRecv | Self::TimeWait | Self::Close | Self::SynSent2)
    }

    /// Returns true while the connection is being opened.
    pub(super) const fn is_opening(self) -> bool {
        matches!(self, Self::None | Self::SynSent | Self::SynRecv | Self::SynSent2)
    }

    /// Returns true if the connection is being closed, or is closed.
    const fn closing(self) -> bool {
        matches!(self, Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close)
    }
}

/// Timeouts of a connection in each state, and the other settings of TCP (`net.netfilter.nf_conntrack_tcp_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Timeout of SYN_SENT and SYN_SENT2.
    pub syn_sent: Duration,
    /// Timeout of SYN_RECV.
    pub syn_recv: Duration,
    /// Timeout of ESTABLISHED.
    pub established: Duration,
    /// Timeout of FIN_WAIT.
    pub fin_wait: Duration,
    /// Timeout of CLOSE_WAIT.
    pub close_wait: Duration,
    /// Timeout of LAST_ACK.
    pub last_ack: Duration,
    /// Timeout of TIME_WAIT.
    pub time_wait: Duration,
    /// Timeout of CLOSE.
    pub close: Duration,
    /// Timeout after more than `max_retransmissions` of the same segment, and while a side's window is closed.
    pub retransmission: Duration,
    /// Timeout while data is not acknowledged.
    pub unacknowledged: Duration,
    /// Maximum number of retransmissions before the timeout `retransmission` applies.
    pub max_retransmissions: u8,
    /// True if connections are picked up in mid-stream.
    pub loose: bool,
    /// True if segments outside the window pass too.
    pub be_liberal: bool,
    /// True if a reset with an old number passes too.
    pub ignore_invalid_rst: bool,
}

impl Default for TcpConfig {
    /// The kernel's defaults (`net/netfilter` documentation, nf_conntrack-sysctl).
    fn default() -> Self {
        Self {
            syn_sent: Duration::from_secs(120),
            syn_recv: Duration::from_secs(60),
            established: Duration::from_secs(432_000),
            fin_wait: Duration::from_secs(120),
            close_wait: Duration::from_secs(60),
            last_ack: Duration::from_secs(30),
            time_wait: Duration::from_secs(120),
            close: Duration::from_secs(10),
            retransmission: Duration::from_secs(300),
            unacknowledged: Duration::from_secs(300),
            max_retransmissions: 3,
            loose: true,
            be_liberal: false,
            ignore_invalid_rst: false,
        }
    }
}

impl TcpConfig {
    const fn timeout(&self, state: TcpState) -> Duration {
        match state {
            TcpState::None | TcpState::SynSent | TcpState::SynSent2 => self.syn_sent,
            TcpState::SynRecv => self.syn_recv,
            TcpState::Established => self.established,
            TcpState::FinWait => self.fin_wait,
            TcpState::CloseWait => self.close_wait,
            TcpState::LastAck => self.last_ack,
            TcpState::TimeWait => self.time_wait,
            TcpState::Close => self.close,
        }
    }
}

/// A [`TcpConfig`] as each segment asks it.
#[derive(Clone, Debug)]
pub(super) struct CompiledTcpConfig {
    /// By [`TcpState`].
    timeouts: [Micros; TcpState::ALL.len()],
    close: Micros,
    retransmission: Micros,
    unacknowledged: Micros,
    max_retransmissions: u8,
    loose: bool,
    be_liberal: bool,
    ignore_invalid_rst: bool,
}

impl From<&TcpConfig> for CompiledTcpConfig {
    fn from(config: &TcpConfig) -> Self {
        Self {
            timeouts: TcpState::ALL.map(|state| config.timeout(state).into()),
            close: config.close.into(),
            retransmission: config.retransmission.into(),
            unacknowledged: config.unacknowledged.into(),
            max_retransmissions: config.max_retransmissions,
            loose: config.loose,
            be_liberal: config.be_liberal,
            ignore_invalid_rst: config.ignore_invalid_rst,
        }
    }
}

/// Old acknowledgements may lie this far behind (rule 4), whatever the window.
const MAX_ACK_WINDOW: u32 = 66_000;
/// The largest window scale that counts (RFC 7323 section 2.3).
const MAX_WINDOW_SCALE: u8 = 14;

/// The kind of a segment for the state table: the first of these flags that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    Other,
}

impl Kind {
    /// Returns the kind of a segment with these flags; `None` when they make no sense together.
    #[inline]
    pub(super) const fn of(flags: TcpFlags) -> Option<Self> {
        if flags.0 & (TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK) == TcpFlags::ACK {
            return Some(Self::Ack);
        }
        // Worked out once for all flags.
        const KINDS: [Option<Kind>; 64] = {
            let mut kinds = [None; 64];
            let mut flags = 0;
            while flags < 64 {
                if flags_make_sense(TcpFlags(flags)) {
                    kinds[flags as usize] = Some(Kind::first_of(TcpFlags(flags)));
                }
                flags += 1;
            }
            kinds
        };
        // ECE and CWR do not matter.
        KINDS[flags.0 as usize % 64]
    }

    /// Returns true if the segment has SYN.
    #[inline]
    const fn begins(self) -> bool {
        matches!(self, Self::Syn | Self::SynAck)
    }

    const fn first_of(flags: TcpFlags) -> Self {
        if flags.has(TcpFlags::RST) {
            Self::Rst
        } else if flags.has(TcpFlags::SYN) {
            if flags.has(TcpFlags::ACK) { Self::SynAck } else { Self::Syn }
        } else if flags.has(TcpFlags::FIN) {
            Self::Fin
        } else if flags.has(TcpFlags::ACK) {
            Self::Ack
        } else {
            Self::Other
        }
    }
}

/// The state table's answer to a segment.
#[derive(Clone, Copy)]
enum Step {
    /// On to this state.
    To(TcpState),
    /// It passes and changes nothing.
    Ignore,
    /// It belongs to no such connection.
    Invalid,
}

/// The state table: for each direction and state, what SYN, SYN/ACK, FIN, ACK, RST and other segments lead to.
#[inline]
const fn step(direction: Direction, state: TcpState, kind: Kind) -> Step {
    use Step::{Ignore, Invalid, To};
    use TcpState::*;
    const STEPS: [[[Step; 6]; 10]; 2] = [
        [
            [To(SynSent), Invalid, Invalid, To(Established), Invalid, Invalid], // None
            [To(SynSent), Invalid, Invalid, Invalid, To(Close), Invalid],       // SynSent
            [Ignore, To(SynRecv), To(FinWait), To(Established), To(Close), Invalid], // SynRecv
            [Ignore, Invalid, To(FinWait), To(Established), To(Close), Invalid], // Established
            [Ignore, Invalid, To(LastAck), To(CloseWait), To(Close), Invalid],  // FinWait
            [Ignore, Invalid, To(LastAck), To(CloseWait), To(Close), Invalid],  // CloseWait
            [Ignore, Invalid, To(LastAck), To(TimeWait), To(Close), Invalid],   // LastAck
            [To(SynSent), Invalid, To(TimeWait), To(TimeWait), To(Close), Invalid], // TimeWait
            [To(SynSent), Invalid, To(Close), To(Close), To(Close), Invalid],   // Close
            [To(SynSent2), To(SynRecv), Invalid, Invalid, To(Close), Invalid],  // SynSent2
        ],
        [
            [Invalid, Invalid, Invalid, Invalid, Invalid, Invalid], // None
            [To(SynSent2), To(SynRecv), Invalid, Ignore, To(Close), Invalid], // SynSent
            [Invalid, Ignore, To(FinWait), To(SynRecv), To(Close), Invalid], // SynRecv
            [Invalid, Ignore, To(FinWait), To(Established), To(Close), Invalid], // Established
            [Invalid, Ignore, To(LastAck), To(CloseWait), To(Close), Invalid], // FinWait
            [Invalid, Ignore, To(LastAck), To(CloseWait), To(Close), Invalid], // CloseWait
            [Invalid, Ignore, To(LastAck), To(TimeWait), To(Close), Invalid], // LastAck
            [To(SynSent), Ignore, To(TimeWait), To(TimeWait), To(Close), Invalid], // TimeWait
            [Invalid, Ignore, To(Close), To(Close), To(Close), Invalid], // Close
            [To(SynSent2), To(SynRecv), Invalid, Ignore, To(Close), Invalid], // SynSent2
        ],
    ];
    STEPS[direction as usize][state as usize][kind as usize]
}

/// Returns true if the flags make sense together. PSH, ECE and CWR do not matter. PSH, ECE and CWR do not matter.
const fn flags_make_sense(flags: TcpFlags) -> bool {
    const F: u8 = TcpFlags::FIN;
    const S: u8 = TcpFlags::SYN;
    const R: u8 = TcpFlags::RST;
    const A: u8 = TcpFlags::ACK;
    const U: u8 = TcpFlags::URG;
    const SYN_URG: u8 = S | U;
    const SYN_ACK: u8 = S | A;
    const RST_ACK: u8 = R | A;
    const FIN_ACK: u8 = F | A;
    const FIN_ACK_URG: u8 = F | A | U;
    const ACK_URG: u8 = A | U;
    matches!(flags.0 & (F | S | R | A | U), S | SYN_URG | SYN_ACK | R | RST_ACK | FIN_ACK | FIN_ACK_URG | A | ACK_URG)
}

/// A segment that was refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpInvalid {
    /// Flags that do not go together.
    Flags,
    /// No such segment may come in this state.
    State,
    /// A first segment in mid-stream, and connections are not to be taken up (`nf_conntrack_tcp_loose` = 0).
    Pickup,
    /// A reset with a number older than what was acknowledged.
    OldReset,
    /// Beyond the receiver's window.
    AboveWindow,
    /// It acknowledges what was not sent.
    AcknowledgesUnsent,
}

/// The tracker's decision about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpVerdict {
    /// It passes and belongs to the connection; the connection's time is renewed if there is one.
    Accept(Option<Renewal>),
    /// It is no part of the connection, which may have to be remembered for no longer than this.
    Invalid { why: TcpInvalid, shorten: Option<Micros> },
    /// The connection is over and the segment begins another one.
    Reopen,
    /// The connection is over with this segment, which passes.
    Kill,
}

impl TcpVerdict {
    /// It passes and changes nothing.
    const PASSES: Self = Self::Accept(None);
}

/// The consequences of a segment that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    /// Time for which the connection is kept from now on.
    pub(super) timeout: Micros,
    /// It is not to be given up for want of space any more.
    pub(super) assured: bool,
}

/// The numbers and windows of one side.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    end: SequenceNumber,
    max_end: SequenceNumber,
    max_window: u32,
    max_ack: SequenceNumber,
    scale: u8,
    flags: u8,
}

const WINDOW_SCALE: u8 = 1;
const SACK_PERMITTED: u8 = 1 << 1;
/// This side sent the first FIN.
const CLOSE_INIT: u8 = 1 << 2;
const BE_LIBERAL: u8 = 1 << 3;
const DATA_UNACKNOWLEDGED: u8 = 1 << 4;
const MAX_ACK_SET: u8 = 1 << 5;
/// A challenge ACK may come (RFC 5961 section 4).
const EXPECT_CHALLENGE_ACK: u8 = 1 << 6;
const SIMULTANEOUS_OPEN: u8 = 1 << 7;

/// The last segment, as far as later ones need it.
#[derive(Clone, Copy, Debug)]
struct Last {
    kind: Kind,
    direction: Direction,
    sequence: SequenceNumber,
    acknowledgement: SequenceNumber,
    /// End of the last segment; zero before any was remembered, as in Linux.
    end: SequenceNumber,
    window: u16,
    scale: u8,
    flags: u8,
}

/// The state that is kept of a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpTracker {
    peers: [Peer; 2],
    last: Last,
    state: TcpState,
    retransmissions: u8,
}

/// A segment with what surrounds it.
#[derive(Clone, Copy)]
pub(super) struct SegmentContext<'p> {
    pub(super) segment: &'p Segment,
    pub(super) kind: Kind,
    pub(super) headers: &'p Headers,
    pub(super) bytes: &'p [u8],
    pub(super) direction: Direction,
    /// Status of the connection before this segment.
    pub(super) status: Status,
    /// By how much the other side's stream has shifted at what this segment acknowledges.
    pub(super) shift: i32,
}

impl SegmentContext<'_> {
    #[inline]
    fn options(&self) -> TcpOptions<'_> {
        self.headers.tcp_options(self.bytes)
    }

    #[inline]
    const fn has_options(&self) -> bool {
        self.segment.payload > self.headers.transport + 20
    }

    #[inline]
    const fn seen_reply(&self) -> bool {
        self.status.has(Status::SEEN_REPLY)
    }

    #[inline]
    const fn assured(&self) -> bool {
        self.status.has(Status::ASSURED)
    }

    /// Returns true if the acknowledgement counts.
    #[inline]
    const fn acknowledges(&self) -> bool {
        match self.kind {
            Kind::SynAck | Kind::Fin | Kind::Ack => true,
            Kind::Syn | Kind::Other => false,
            Kind::Rst => self.segment.flags.has(TcpFlags::ACK),
        }
    }

    #[inline]
    fn end(&self) -> SequenceNumber {
        let text = self.headers.end.wrapping_sub(self.segment.payload) as u32;
        self.segment.sequence + text + u32::from(self.kind.begins()) + u32::from(self.kind == Kind::Fin)
    }

    /// Returns the segment's numbers, for this receiver.
    #[inline(always)]
    fn numbers(&self, receiver: &Peer) -> Numbers {
        let ack = self.segment.acknowledgement;
        let selective = receiver.flags & SACK_PERMITTED != 0 && self.has_options();
        let sack = if selective { Self::sack(ack, self.options()) } else { ack };
        let unshifted = self.shift.wrapping_neg();
        Numbers {
            sequence: self.segment.sequence,
            end: self.end(),
            ack: ack.shifted(unshifted),
            sack: sack.shifted(unshifted),
        }
    }

    fn window_at_least_one(&self) -> u32 {
        u32::from(self.segment.window).max(1)
    }

    /// The highest right edge of a SACK block, or the acknowledgement where it is higher.
    #[inline(never)]
    fn sack(acknowledgement: SequenceNumber, options: TcpOptions<'_>) -> SequenceNumber {
        let mut highest = acknowledgement;
        for (kind, _, value) in options.iter().map_while(Result::ok) {
            if kind == TcpOptions::SACK && !value.is_empty() && value.len() % 8 == 0 {
                for block in value.as_chunks::<8>().0 {
                    let [.., a, b, c, d] = *block;
                    highest = highest.later(SequenceNumber(u32::from_be_bytes([a, b, c, d])));
                }
            }
        }
        highest
    }
}

/// The numbers of a segment, as its sender counts them.
#[derive(Clone, Copy)]
struct Numbers {
    sequence: SequenceNumber,
    end: SequenceNumber,
    ack: SequenceNumber,
    /// The highest number that SACK blocks or the acknowledgement name.
    sack: SequenceNumber,
}

impl Numbers {
    /// Which bounds they break.
    // Each bound is compared one byte further: half-way round the circle that is not the same.
    #[inline(always)]
    fn bounds(self, sender: &Peer, receiver: &Peer) -> Bounds {
        let below = receiver.max_window != 0 && !self.end.after(sender.end - receiver.max_window - 1);
        let old_ack = !self.sack.after(receiver.end - sender.max_window.max(MAX_ACK_WINDOW) - 1);
        Bounds {
            above: !self.sequence.before(sender.max_end + 1),
            unsent: !self.sack.before(receiver.end + 1),
            old: below | old_ack,
        }
    }
}

/// The bounds that a segment breaks.
struct Bounds {
    /// The first of the four.
    above: bool,
    /// The third.
    unsent: bool,
    /// The second or the fourth.
    old: bool,
}

impl Bounds {
    #[inline(always)]
    const fn are_broken(&self) -> bool {
        self.above | self.unsent | self.old
    }
}

/// The place of a segment relative to the windows.
enum Fit {
    /// It fits, and the windows were moved by it.
    Fits,
    /// It is old, or too eager by little: it passes and changes nothing.
    Ignored,
    Outside(TcpInvalid),
}

impl TcpTracker {
    /// Lets segments outside the window pass.
    pub(super) fn be_liberal(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.flags |= BE_LIBERAL);
    }

    /// Returns true if a new connection may take over the tuple: this one is closed, and the new one begins after its
    /// last byte.
    pub(crate) const fn makes_way_for(&self, new: &Self) -> bool {
        let is_over = matches!(self.state, TcpState::TimeWait | TcpState::Close);
        is_over && matches!(new.state, TcpState::SynSent) && new.peers[0].end.after(self.peers[0].end)
    }

    pub(crate) const fn state(&self) -> TcpState {
        self.state
    }

    /// Takes the connection for closed; false when it was.
    pub(super) fn close(&mut self) -> bool {
        core::mem::replace(&mut self.state, TcpState::Close) != TcpState::Close
    }

    /// The tracker for a connection that begins with this segment.
    pub(super) fn open(tcp: &CompiledTcpConfig, context: SegmentContext<'_>) -> Result<Self, TcpInvalid> {
        let kind = context.kind;
        let mut sender = Peer { end: context.end(), max_window: context.window_at_least_one(), ..Peer::default() };
        let mut receiver = Peer::default();
        match step(Direction::Original, TcpState::None, kind) {
            Step::To(TcpState::SynSent) => {
                sender.max_end = sender.end;
                sender.read_options(context.options());
            }
            Step::To(_) if tcp.loose => {
                // Nobody knows the window scale: let both sides do as they like.
                sender.max_end = sender.end + sender.max_window;
                sender.flags = SACK_PERMITTED | BE_LIBERAL;
                receiver.flags = SACK_PERMITTED | BE_LIBERAL;
            }
            Step::To(_) => return Err(TcpInvalid::Pickup),
            Step::Ignore | Step::Invalid => return Err(TcpInvalid::State),
        }
        Ok(Self::of(sender, receiver))
    }

    /// Before any segment was judged.
    const fn of(sender: Peer, receiver: Peer) -> Self {
        Self {
            peers: [sender, receiver],
            last: Last {
                kind: Kind::Other,
                direction: Direction::Original,
                sequence: SequenceNumber(0),
                acknowledgement: SequenceNumber(0),
                end: SequenceNumber(0),
                window: 0,
                scale: 0,
                flags: 0,
            },
            state: TcpState::None,
            retransmissions: 0,
        }
    }

    /// The tracker for a connection that is taken over with this segment: it begins with it, or is established and may do
    /// as it likes.
    pub(super) fn take_up(tcp: &CompiledTcpConfig, context: SegmentContext<'_>) -> Self {
        let begins = context.kind == Kind::Syn;
        let loose = CompiledTcpConfig { loose: true, ..tcp.clone() };
        let state = if begins { TcpState::SynSent } else { TcpState::Established };
        match Self::open(&loose, context) {
            Ok(tracker) => Self { state, ..tracker },
            Err(_) => Self { state, ..Self::of(Peer::default(), Peer::default()) },
        }
    }

    /// Lets an acknowledgement pass, with text or without, that lies within the windows of a connection that is open and
    /// stays so: what nearly every segment is. `None` for any other: nothing was changed, and [`TcpTracker::track`] judges
    /// it.
    // Once it is inlined, nothing of what depends on kind and state is asked here any more.
    #[inline(always)]
    pub(super) fn accept_established(
        &mut self,
        tcp: &CompiledTcpConfig,
        context: SegmentContext<'_>,
    ) -> Option<Renewal> {
        const OPEN: TcpState = TcpState::Established;
        let context = match context.kind {
            Kind::Ack => SegmentContext { kind: Kind::Ack, ..context },
            _ => return None,
        };
        let stays = match context.direction {
            Direction::Original => matches!(step(Direction::Original, OPEN, Kind::Ack), Step::To(OPEN)),
            Direction::Reply => matches!(step(Direction::Reply, OPEN, Kind::Ack), Step::To(OPEN)),
        };
        let (state, (sender, receiver)) = (self.state, self.pair(context.direction));
        if state != OPEN || !stays || OPEN.depends_on_more() || sender.max_window == 0 {
            return None;
        }
        let numbers = context.numbers(receiver);
        if numbers.bounds(sender, receiver).are_broken() {
            return None;
        }
        self.update_windows(context, numbers);
        Some(self.enter(tcp, context, OPEN, OPEN))
    }

    /// Judges a segment of the connection, the first one included.
    pub(super) fn track(&mut self, tcp: &CompiledTcpConfig, context: SegmentContext<'_>) -> TcpVerdict {
        let SegmentContext { kind, direction, .. } = context;
        let mut old = self.state;
        let state = match step(direction, old, kind) {
            Step::To(state) => state,
            Step::Ignore if self.resynchronises(context) => {
                old = TcpState::SynSent;
                TcpState::SynRecv
            }
            Step::Ignore => return self.ignore(context, old),
            Step::Invalid => return TcpVerdict::Invalid { why: TcpInvalid::State, shorten: None },
        };
        let (state, anywhere) = match self.special_cases(tcp, context, old, state) {
            SpecialCase::Steps { to, anywhere } => (to, anywhere),
            SpecialCase::Is(verdict) => return verdict,
        };
        if !anywhere {
            match self.fit(tcp, context) {
                Fit::Fits => {}
                Fit::Ignored => return TcpVerdict::PASSES,
                Fit::Outside(why) => {
                    return TcpVerdict::Invalid { why, shorten: self.shorten_on_bad_fin_rst(tcp, context) };
                }
            }
        }
        let renewal = self.enter(tcp, context, old, state);
        match kind {
            Kind::Rst if !context.seen_reply() => TcpVerdict::Kill,
            // The SYN again: a sender that never gives up must not keep the entry alive.
            Kind::Syn if !context.seen_reply() && old == TcpState::SynSent => TcpVerdict::PASSES,
            _ => TcpVerdict::Accept(Some(renewal)),
        }
    }

    /// Decides a step that depends on more than the state and the flags.
    fn special_cases(
        &mut self,
        tcp: &CompiledTcpConfig,
        context: SegmentContext<'_>,
        old: TcpState,
        state: TcpState,
    ) -> SpecialCase {
        let SegmentContext { kind, direction, .. } = context;
        let (mut to, mut anywhere) = (state, false);
        match state {
            TcpState::SynSent if old >= TcpState::TimeWait && old <= TcpState::Close => {
                let was_reset = self.last.direction == direction && self.last.kind == Kind::Rst;
                if (self.peers[0].flags | self.peers[1].flags) & CLOSE_INIT != 0 || was_reset {
                    return SpecialCase::Is(TcpVerdict::Reopen);
                }
                // The same as a SYN that is out of place: let the other side answer it.
                return SpecialCase::Is(self.ignore(context, old));
            }
            TcpState::TimeWait if self.is_challenge_ack(kind, direction, old) => {
                self.last.flags &= !EXPECT_CHALLENGE_ACK;
                return SpecialCase::Is(TcpVerdict::PASSES);
            }
            TcpState::SynSent2 => self.last.flags |= SIMULTANEOUS_OPEN,
            TcpState::SynRecv
                if direction == Direction::Reply && kind == Kind::Ack && self.last.flags & SIMULTANEOUS_OPEN != 0 =>
            {
                to = TcpState::Established;
            }
            TcpState::Close if kind == Kind::Rst => match self.reset(tcp, context, old) {
                Reset::Closes => {}
                Reset::ClosesUnchecked => anywhere = true,
                Reset::Doubtful => to = old,
                Reset::Invalid => {
                    return SpecialCase::Is(TcpVerdict::Invalid { why: TcpInvalid::OldReset, shorten: None });
                }
            },
            _ => {}
        }
        SpecialCase::Steps { to, anywhere }
    }

    /// The segment counts: takes the state over and says how long it lasts.
    #[inline(always)]
    fn enter(
        &mut self,
        tcp: &CompiledTcpConfig,
        context: SegmentContext<'_>,
        old: TcpState,
        state: TcpState,
    ) -> Renewal {
        let kind = context.kind;
        self.last.kind = kind;
        self.last.direction = context.direction;
        // Only a FIN leads there.
        if kind == Kind::Fin && old != state && state == TcpState::FinWait {
            self.peers[context.direction as usize].flags |= CLOSE_INIT;
        }
        self.state = state;

        let mut timeout = tcp.timeouts[state as usize];
        let unacknowledged = (self.peers[0].flags | self.peers[1].flags) & DATA_UNACKNOWLEDGED != 0;
        if self.retransmissions >= tcp.max_retransmissions && timeout > tcp.retransmission {
            timeout = tcp.retransmission;
        } else if kind == Kind::Rst {
            timeout = tcp.close;
        } else if unacknowledged && timeout > tcp.unacknowledged {
            timeout = tcp.unacknowledged;
        } else if self.last.window == 0 && timeout > tcp.retransmission {
            timeout = tcp.retransmission;
        }
        if !context.seen_reply() && state == TcpState::Established {
            timeout = timeout.min(tcp.unacknowledged);
        }
        let assured = context.seen_reply()
            && !context.assured()
            && matches!(old, TcpState::SynRecv | TcpState::Established)
            && state == TcpState::Established;
        Renewal { timeout, assured }
    }

    /// Takes an ignored SYN for the first segment of another connection if this out-of-place segment answers it.
    #[inline(never)]
    fn resynchronises(&mut self, context: SegmentContext<'_>) -> bool {
        let SegmentContext { kind, direction, .. } = context;
        let answers = kind == Kind::SynAck
            && self.last.kind == Kind::Syn
            && self.last.direction != direction
            && self.last.end == context.segment.acknowledgement;
        if answers {
            self.last.flags &= !EXPECT_CHALLENGE_ACK;
            self.peers[direction.other() as usize] = Peer {
                end: context.segment.acknowledgement,
                max_end: context.segment.acknowledgement,
                max_window: u32::from(self.last.window).max(1),
                max_ack: self.peers[direction.other() as usize].max_ack,
                scale: self.last.scale,
                flags: self.last.flags,
            };
            let answering = &mut self.peers[direction as usize];
            // Of a connection that was picked up, its answering side may still do as it likes (seen on 6.18).
            *answering = Peer { flags: answering.flags & BE_LIBERAL, ..Peer::default() };
        }
        answers
    }

    /// Lets a segment pass that is out of place but harmless, and remembers it: the answer may show what it was.
    #[inline(never)]
    fn ignore(&mut self, context: SegmentContext<'_>, old: TcpState) -> TcpVerdict {
        let SegmentContext { segment, kind, direction, .. } = context;
        self.last.kind = kind;
        self.last.direction = direction;
        self.last.sequence = segment.sequence;
        self.last.end = context.end();
        self.last.window = segment.window;
        if kind == Kind::Syn && direction == Direction::Original {
            let mut peer = Peer::default();
            peer.read_options(context.options());
            self.last.scale = peer.scale;
            self.last.flags = peer.flags & (WINDOW_SCALE | SACK_PERMITTED);
            if old == TcpState::LastAck {
                self.last.flags |= EXPECT_CHALLENGE_ACK;
            }
        }
        if old == TcpState::SynSent && kind == Kind::Ack && direction == Direction::Reply {
            self.last.acknowledgement = segment.acknowledgement;
        }
        TcpVerdict::PASSES
    }

    /// A FIN or RST outside the window: if both sides send one, the tracker is what is wrong, and the connection is
    /// not to be kept for days. Gives the time it has left at most.
    #[inline(never)]
    fn shorten_on_bad_fin_rst(&mut self, tcp: &CompiledTcpConfig, context: SegmentContext<'_>) -> Option<Micros> {
        let kind = context.kind;
        if !context.assured() || !matches!(kind, Kind::Fin | Kind::Rst) {
            return None;
        }
        if self.last.direction != context.direction && matches!(self.last.kind, Kind::Fin | Kind::Rst) {
            return Some(tcp.unacknowledged);
        }
        self.last.kind = kind;
        self.last.direction = context.direction;
        None
    }

    const fn is_challenge_ack(&self, kind: Kind, direction: Direction, old: TcpState) -> bool {
        matches!(old, TcpState::LastAck)
            && matches!(kind, Kind::Ack)
            && self.last.direction as u8 != direction as u8
            && matches!(self.last.kind, Kind::Syn)
            && self.last.flags & EXPECT_CHALLENGE_ACK != 0
    }

    /// Decides if a reset is believed.
    #[inline(never)]
    fn reset(&self, tcp: &CompiledTcpConfig, context: SegmentContext<'_>, old: TcpState) -> Reset {
        if old.closing() {
            return Reset::ClosesUnchecked;
        }
        let receiver = &self.peers[context.direction.other() as usize];
        let segment = context.segment;
        let established = old == TcpState::Established && context.assured();
        let mut doubtful = false;
        if receiver.flags & MAX_ACK_SET != 0 && self.last.kind != Kind::Syn {
            if segment.sequence.0 == 0 && !established {
                return Reset::Closes;
            }
            if segment.sequence.before(receiver.max_ack) && !tcp.ignore_invalid_rst {
                return Reset::Invalid;
            }
            let follows_its_data = self.last.kind == Kind::Ack
                && self.last.direction == context.direction
                && self.last.end == segment.sequence;
            if !established || segment.sequence == receiver.max_ack || follows_its_data {
                return Reset::Closes;
            }
            doubtful = true;
        }
        let answers_syn = self.last.kind == Kind::Syn && self.last.direction != context.direction;
        let answers_ignored = (context.seen_reply() && answers_syn
            || !context.assured() && self.last.kind == Kind::Ack)
            && self.last.end == segment.acknowledgement;
        let answers_challenge = old == TcpState::SynSent
            && self.last.kind == Kind::Ack
            && self.last.direction == Direction::Reply
            && segment.sequence == self.last.acknowledgement;
        match (answers_ignored || answers_challenge, doubtful) {
            (true, _) => Reset::ClosesUnchecked,
            (false, true) => Reset::Doubtful,
            (false, false) => Reset::Closes,
        }
    }

    /// Lays a segment into the windows, and moves them if it fits.
    fn fit(&mut self, tcp: &CompiledTcpConfig, context: SegmentContext<'_>) -> Fit {
        let (sender, receiver) = self.pair(context.direction);
        let numbers = if sender.max_window == 0 || !matches!(context.kind, Kind::Ack | Kind::Fin) {
            match self.interpret(context) {
                Some(meant) => meant,
                None => return Fit::Fits,
            }
        } else {
            context.numbers(receiver)
        };
        let (sender, receiver) = self.pair(context.direction);
        let bounds = numbers.bounds(sender, receiver);
        if bounds.are_broken() {
            return self.out_of_window(tcp, context.direction, numbers.end, bounds);
        }
        self.update_windows(context, numbers);
        Fit::Fits
    }

    /// Moves the windows as a segment says that fits.
    #[inline(always)]
    fn update_windows(&mut self, context: SegmentContext<'_>, numbers: Numbers) {
        let SegmentContext { segment, kind, direction, .. } = context;
        let Numbers { sequence, end, ack, sack } = numbers;
        let (sender, receiver) = self.pair(direction);
        let scale = if kind.begins() { 0 } else { sender.scale };
        let window = u32::from(segment.window) << scale;
        sender.max_window = sender.max_window.max(window.wrapping_add(sack.since(ack) as u32));
        if end.after(sender.end) {
            sender.end = end;
            sender.flags |= DATA_UNACKNOWLEDGED;
        }
        if context.acknowledges() {
            let known = sender.flags & MAX_ACK_SET != 0;
            sender.max_ack = if known { sender.max_ack.later(ack) } else { ack };
            sender.flags |= MAX_ACK_SET;
        }
        if receiver.max_window != 0 && end.after(sender.max_end) {
            receiver.max_window = receiver.max_window.wrapping_add(end.since(sender.max_end) as u32);
        }
        let allowed = sack + window;
        if !allowed.before(receiver.max_end) {
            receiver.max_end = allowed + u32::from(window == 0);
        }
        if ack == receiver.end {
            receiver.flags &= !DATA_UNACKNOWLEDGED;
        }
        if kind == Kind::Ack {
            self.count_repeats(direction, sequence, ack, end, segment.window);
        }
    }

    /// Interprets the numbers of a segment that is the first of its side, resets, or acknowledges nothing. The windows
    /// begin with a segment that begins a stream. Returns `None` when the segment fits as it is.
    #[inline(never)]
    fn interpret(&mut self, context: SegmentContext<'_>) -> Option<Numbers> {
        let state = self.state;
        let segment = context.segment;
        let flags = segment.flags;
        let direction = context.direction;
        let (sender, receiver) = self.pair(direction);
        let Numbers { mut sequence, mut end, mut ack, mut sack } = context.numbers(receiver);
        if sender.max_window == 0 {
            if flags.has(TcpFlags::SYN) {
                sender.begin(receiver, context);
                if !flags.has(TcpFlags::ACK) {
                    // Simultaneous open.
                    return None;
                }
            } else {
                // The first segment of this side that was seen is not its first.
                sender.end = end;
                sender.max_window = (u32::from(segment.window) << sender.scale).max(1);
                sender.max_end = end + sender.max_window;
                if receiver.max_window == 0 {
                    receiver.end = sack;
                    receiver.max_end = sack;
                } else if sack == receiver.end + 1 {
                    // Likely the answer to a keep-alive.
                    receiver.end = sack;
                }
            }
        } else if flags.has(TcpFlags::SYN)
            && end.after(sender.end)
            && matches!(state, TcpState::SynSent | TcpState::SynRecv)
        {
            // The sender begins anew, with other numbers.
            sender.begin(receiver, context);
            if direction == Direction::Reply && !flags.has(TcpFlags::ACK) {
                return None;
            }
        }

        if !flags.has(TcpFlags::ACK) || flags.has(TcpFlags::RST) && ack.0 == 0 {
            ack = receiver.end;
            sack = receiver.end;
        }
        if flags.has(TcpFlags::RST) && sequence.0 == 0 && state == TcpState::SynSent {
            // A reset in answer to a SYN: its number says nothing.
            sequence = sender.end;
            end = sender.end;
        }
        Some(Numbers { sequence, end, ack, sack })
    }

    /// Handles a segment that does not lie within the bounds.
    #[inline(never)]
    fn out_of_window(
        &mut self,
        tcp: &CompiledTcpConfig,
        direction: Direction,
        end: SequenceNumber,
        broken: Bounds,
    ) -> Fit {
        let (sender, receiver) = self.pair(direction);
        let Bounds { above, unsent, old } = broken;
        let liberal = tcp.be_liberal || sender.flags & BE_LIBERAL != 0;
        let overshoot = end.since(sender.max_end).wrapping_add(1) as u32;
        let little = above && !unsent && !old && overshoot <= receiver.max_window;
        if little {
            sender.end = end;
            sender.flags |= DATA_UNACKNOWLEDGED;
        }
        match (above && !little, unsent) {
            _ if liberal => Fit::Fits,
            (false, false) => Fit::Ignored,
            (true, _) => Fit::Outside(TcpInvalid::AboveWindow),
            (false, true) => Fit::Outside(TcpInvalid::AcknowledgesUnsent),
        }
    }

    /// Sender and receiver of what goes in a direction.
    #[inline]
    const fn pair(&mut self, direction: Direction) -> (&mut Peer, &mut Peer) {
        let [client, server] = &mut self.peers;
        match direction {
            Direction::Original => (client, server),
            Direction::Reply => (server, client),
        }
    }

    #[inline(always)]
    fn count_repeats(
        &mut self,
        direction: Direction,
        sequence: SequenceNumber,
        acknowledgement: SequenceNumber,
        end: SequenceNumber,
        window: u16,
    ) {
        let last = &mut self.last;
        if last.direction == direction
            && last.sequence == sequence
            && last.acknowledgement == acknowledgement
            && last.end == end
            && last.window == window
        {
            self.retransmissions = self.retransmissions.saturating_add(1);
        } else {
            last.direction = direction;
            last.sequence = sequence;
            last.acknowledgement = acknowledgement;
            last.end = end;
            last.window = window;
            self.retransmissions = 0;
        }
    }
}

/// The outcome of a step that depends on more than the state and the flags.
enum SpecialCase {
    /// It leads to this state; `anywhere`: wherever the segment lies.
    Steps { to: TcpState, anywhere: bool },
    /// There is no step.
    Is(TcpVerdict),
}

/// The effect of a reset.
enum Reset {
    /// It closes the connection if it lies in the window.
    Closes,
    /// It closes the connection wherever it lies.
    ClosesUnchecked,
    /// The number is not quite right: the segment passes, the connection stays, and a challenge ACK may follow.
    Doubtful,
    Invalid,
}

impl Peer {
    /// This side sends its SYN.
    #[inline(never)]
    fn begin(&mut self, other: &mut Self, context: SegmentContext<'_>) {
        self.end = context.end();
        self.max_end = self.end;
        self.max_window = context.window_at_least_one();
        self.read_options(context.options());
        if context.direction == Direction::Reply && self.flags & other.flags & WINDOW_SCALE == 0 {
            // Scaling counts only when both offer it (RFC 7323 section 2.2).
            self.scale = 0;
            other.scale = 0;
        }
    }

    /// The options of a SYN; where it has none, all stays as it was (seen on 6.18).
    fn read_options(&mut self, options: TcpOptions<'_>) {
        if options.is_empty() {
            return;
        }
        self.scale = 0;
        self.flags &= BE_LIBERAL;
        for (kind, _, value) in options.iter().map_while(Result::ok) {
            match (kind, value) {
                (TcpOptions::SACK_PERMITTED, []) => self.flags |= SACK_PERMITTED,
                (TcpOptions::WINDOW_SCALE, [scale]) => {
                    self.scale = (*scale).min(MAX_WINDOW_SCALE);
                    self.flags |= WINDOW_SCALE;
                }
                _ => {}
            }
        }
    }
}
