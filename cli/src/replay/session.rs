//! One control connection, and what came of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ftp_conntrack::SequenceNumber;
use ftp_conntrack::conntrack::{Counters, Direction, TcpState, Tuple};
use ftp_conntrack::event::{DestroyReason, DropReason};
use ftp_conntrack::ftp::{ReplyLines, Sender};
use ftp_conntrack::inspect::{CloseKind, FramePos, Helper, Unfulfilled, Wrong};
use ftp_conntrack::packet::TcpFlags;

use crate::replay::balanced::Balance;
use crate::replay::talk::Talk;

/// A control connection.
pub(crate) struct Session {
    pub(crate) opened: FramePos,
    /// True if its first packet was seen.
    pub(crate) begun: bool,
    /// Tunnel that carries it, if any.
    pub(crate) tunnel: Option<String>,
    /// Client and server as they are on the other side of a router that translates addresses, if that was captured too.
    pub(crate) other_side: Option<(SocketAddr, SocketAddr)>,
    /// From the client, as it arrives.
    pub(crate) original: Tuple,
    /// From the server, as it arrives.
    pub(crate) reply: Tuple,
    pub(crate) steps: Vec<Step>,
    pub(crate) talk: Talk,
    pub(crate) ending: Ending,
    /// The real server that a load balancer gave it.
    pub(crate) balance: Option<Balance>,
    /// Which reply the server's next line belongs to.
    pub(crate) replies: ReplyLines,
}

impl Session {
    /// A session of which nothing more is known.
    pub(crate) fn new(opened: FramePos, begun: bool, original: Tuple, reply: Tuple) -> Self {
        let (talk, ending, replies) = (Talk::default(), Ending::default(), ReplyLines::default());
        Self {
            opened,
            begun,
            tunnel: None,
            other_side: None,
            original,
            reply,
            steps: Vec::new(),
            talk,
            ending,
            balance: None,
            replies,
        }
    }
}

impl Session {
    /// Returns the numbers of data connections that were announced without a helper, and that came.
    pub(crate) fn balanced(&self) -> (u64, u64) {
        let read = self.steps.iter().filter(|step| matches!(step, Step::Announced(_))).count();
        let heard = self.balance.as_ref().map_or(0, |balance| balance.announced.len());
        let data = self.steps.iter().filter(|step| matches!(step, Step::Data(_))).count();
        (heard.saturating_sub(read) as u64, data as u64)
    }
}

/// Something on a control connection.
pub(crate) enum Step {
    /// A line that only passed.
    Said(Said),
    /// A line that announced a data connection.
    Announced(Box<Announced>),
    /// A data connection, told by itself and not with what announced it.
    Data(Box<DataStep>),
    /// A packet of it, or of one of its data connections, was dropped.
    Dropped { at: FramePos, reason: DropReason, what: String },
    /// Something about the capture, or about what can be read.
    Noted { at: FramePos, what: String, bad: bool },
    /// Something else left of a packet than Linux would have sent.
    Departs { at: FramePos, why: String },
    /// So many more, which are not kept.
    More(u64),
}

pub(crate) struct Said {
    pub(crate) at: FramePos,
    pub(crate) sender: Sender,
    pub(crate) line: String,
    /// The line as it was sent on, where that differs.
    pub(crate) sent_on: Option<String>,
    /// Which line of its segment it is.
    pub(crate) index: usize,
    /// True if its segment was sent before.
    pub(crate) again: bool,
    /// True if a load balancer reads the connection, or no helper does.
    pub(crate) balanced: bool,
}

/// A data connection through a load balancer.
pub(crate) struct DataStep {
    pub(crate) opener: Sender,
    /// Reason for its destination.
    pub(crate) why: String,
    /// True if that is not the right destination.
    pub(crate) bad: bool,
    pub(crate) data: Data,
}

pub(crate) struct Announced {
    pub(crate) said: Said,
    pub(crate) moved: Option<Moved>,
    pub(crate) outcome: Outcome,
}

/// The shift of the numbers after an announcement.
pub(crate) struct Moved {
    /// By how many bytes the text grew.
    pub(crate) growth: i32,
    pub(crate) position: SequenceNumber,
    pub(crate) offset_after: i32,
}

pub(crate) enum Outcome {
    /// Expected, and nothing came yet.
    Expected(Tuple),
    /// Expected, and this came.
    Came(Tuple, Box<Data>),
    /// Expected, and given up.
    GivenUp(Tuple, FramePos, DestroyReason),
    /// Not the speaker's address.
    Foreign,
    Refused(DropReason),
    /// Only looked at.
    Seen(Box<Seen>),
}

/// The outcome of an announcement, where nothing is translated.
pub(crate) struct Seen {
    /// Mistake in it.
    pub(crate) wrong: Option<Wrong>,
    /// Action of Linux's helper on it.
    pub(crate) helper: Helper,
    /// The reason why the helper ignores it.
    pub(crate) why: String,
    /// The endpoint that the helper reads, where that is another.
    pub(crate) helper_reads: Option<(IpAddr, u16)>,
    /// The line as it is on the other side of a router that translates addresses.
    pub(crate) translated: Option<String>,
    /// ICMP errors about packets of its data connections.
    pub(crate) icmp: Vec<String>,
    /// The data connections, each with what is to be said of how it fits.
    pub(crate) data: Vec<(Data, Option<&'static str>)>,
    /// Reason why none came.
    pub(crate) unfulfilled: Option<Unfulfilled>,
}

impl Outcome {
    pub(crate) const fn expected(&self) -> Option<Tuple> {
        match self {
            Self::Expected(tuple) | Self::Came(tuple, _) | Self::GivenUp(tuple, ..) => Some(*tuple),
            Self::Foreign | Self::Refused(_) | Self::Seen(_) => None,
        }
    }

    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self, Self::Expected(_))
    }
}

/// A data connection.
pub(crate) struct Data {
    pub(crate) opened: FramePos,
    /// Both ways as they arrive; `None` if its first packet did not leave.
    pub(crate) tuples: Option<(Tuple, Tuple)>,
    pub(crate) ending: Ending,
}

/// The end of a connection, as it was seen.
#[derive(Default)]
pub(crate) struct Ending {
    /// The frame of the first FIN, by direction.
    pub(crate) fin: [Option<u64>; 2],
    /// The first reset.
    pub(crate) reset: Option<(Direction, u64)>,
    pub(crate) state: Option<TcpState>,
    /// Number of packets sent, by direction; bytes with all headers where a router counted them, else of the stream.
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    /// Bytes of the frames with all headers.
    pub(crate) frame_bytes: Option<[u64; 2]>,
    /// From the first packet to the last.
    pub(crate) duration: Option<Duration>,
    /// Kind of its end, where nothing else was looked at.
    pub(crate) how: Option<CloseKind>,
    /// Set when the table has forgotten it.
    pub(crate) forgotten: Option<(FramePos, DestroyReason)>,
}

impl Ending {
    /// Takes over a tracker's counters.
    pub(crate) fn count(&mut self, counters: [Counters; 2]) {
        self.packets = counters.map(|way| way.packets);
        self.bytes = counters.map(|way| way.bytes);
    }

    /// A segment went through.
    pub(crate) fn see(&mut self, frame: u64, direction: Direction, flags: TcpFlags) {
        if flags.has(TcpFlags::FIN) {
            self.fin[direction as usize].get_or_insert(frame);
        }
        if flags.has(TcpFlags::RST) {
            self.reset.get_or_insert((direction, frame));
        }
    }
}
