//! The events of a capture's FTP.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::announcement::Wrong;
use super::helper_oracle::Helper;
use super::icmp::IcmpError;
use crate::capture::ReadError;
use crate::ftp::{CommandKind, Form, Login, Sender};
use crate::packet::tunnel::Tunnel;
use crate::{Instant, SequenceNumber};

/// A frame, and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct FramePos {
    /// Number of the frame in the capture, from 1.
    pub frame: u64,
    /// When it was captured.
    pub time: Instant,
}

/// The name of a control connection: they are numbered from 1 as they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

impl SessionId {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The beginning of a connection in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Began {
    /// With its SYN.
    Syn,
    /// With its SYN/ACK: what came before is not there.
    SynAck,
    /// In mid-stream.
    MidStream,
}

/// A control connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// Identifier of the session.
    pub session: SessionId,
    /// The client.
    pub client: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    /// Beginning of the connection.
    pub began: Began,
    /// Tunnel that carries it.
    pub tunnel: Option<Tunnel>,
}

/// A line that announces an endpoint, or tries to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Announced<'a> {
    /// The control connection.
    pub session: SessionId,
    /// Number on that connection, from 1.
    pub number: u32,
    /// Side that sends it.
    pub sender: Sender,
    /// Form of the announcement.
    pub form: Form,
    /// The line.
    pub line: &'a [u8],
    /// The address that it names, for 229 the server's own; `None` if it names none that can be understood.
    pub address: Option<IpAddr>,
    /// The port that it names.
    pub port: Option<u16>,
    /// Mistake in it; `None` if it is well formed.
    pub wrong: Option<Wrong>,
    /// True if the address is another than its sender's own on this connection.
    pub foreign: bool,
    /// The segment in which the line begins; it ends in the one of the moment that is told with this.
    pub began: FramePos,
    /// Action of Linux's helper on it.
    pub helper: Helper,
    /// The endpoint that Linux's helper reads, where that is another one.
    pub helper_reads: Option<(IpAddr, u16)>,
}

/// A data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Data {
    /// The control connection.
    pub session: SessionId,
    /// The announcement.
    pub number: u32,
    /// Number of data connections of the same announcement that came before.
    pub earlier: u32,
    /// Endpoint that opens it.
    pub from: SocketAddr,
    /// Endpoint to which it is opened.
    pub to: SocketAddr,
    /// Side of the control connection that opens it.
    pub opener: Sender,
    /// Beginning of the connection.
    pub began: Began,
    /// Agreement with the announcement.
    pub fit: Fit,
    /// True if Linux's tracker takes it for the expected one.
    pub related: bool,
}

/// The agreement of a data connection with its announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fit {
    /// From the other side of the control connection, to exactly the endpoint announced.
    Exact,
    /// To the port announced, at the announcer's address on the control connection, which is not the one announced: the
    /// announcer is behind NAT, or the other side distrusts it.
    OwnAddress,
    /// To the endpoint announced, from another address than the other side's.
    OtherSource,
}

/// The end of a TCP connection, as far as it was seen, and the amount that was sent. Of each pair, the first is for the
/// client (for a data connection: the side that opened it), the second for the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// The first packet.
    pub first: FramePos,
    /// The last packet so far.
    pub last: FramePos,
    /// True if the other side ever answered with anything but a reset, or the beginning was not seen.
    pub answered: bool,
    /// The frame of the first FIN.
    pub fin: [Option<u64>; 2],
    /// Side that sent the first reset, and its frame.
    pub reset: Option<(usize, u64)>,
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes of the stream, by sequence numbers: also those that the capture lacks, and none twice.
    pub bytes: [u64; 2],
    /// Bytes of the frames with all their headers, as Wireshark's conversations count them. Without a link layer, bytes of
    /// the IP packets.
    pub frame_bytes: [u64; 2],
}

impl Ending {
    /// Returns the kind of the end.
    #[must_use]
    pub const fn how(&self) -> CloseKind {
        match (self.reset, self.fin) {
            (Some((1, _)), _) if !self.answered => CloseKind::Refused,
            (Some(_), _) if !self.answered => CloseKind::NeverAnswered,
            (Some(_), _) => CloseKind::Reset,
            (None, [Some(_), Some(_)]) => CloseKind::Closed,
            (None, [Some(_), None] | [None, Some(_)]) if self.answered => CloseKind::HalfClosed,
            _ if !self.answered => CloseKind::NeverAnswered,
            _ => CloseKind::Open,
        }
    }

    /// From the first packet to the last.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.last.time.since(self.first.time)
    }
}

/// The kind of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseKind {
    /// By both sides.
    Closed,
    /// By one side; the other went on to the end of the capture.
    HalfClosed,
    /// By a reset.
    Reset,
    /// A reset answered its SYN.
    Refused,
    /// Nobody answered.
    NeverAnswered,
    /// It was still open at the end of the capture, or when it was given up.
    Open,
}

impl fmt::Display for CloseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::HalfClosed => "closed by one side",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::NeverAnswered => "never answered",
            Self::Open => "still open",
        })
    }
}

/// The reason why an announced data connection did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfulfilled {
    /// The server refused the announcement with this reply.
    Refused(u16),
    /// The server refused or gave up the transfer with this reply, as for a file that does not exist.
    TransferRefused(u16),
    /// The server could not open the data connection (425).
    NoConnection(u16),
    /// The transfer began and was completed: the data connection came, and is not in the capture.
    NotCaptured,
    /// No transfer was asked for before the next announcement, `QUIT` or the end of the control connection.
    Unused,
    /// A transfer was asked for, and another announcement followed.
    Replaced,
    /// A transfer was asked for, and the client quit.
    Quit,
    /// A transfer was asked for, and the control connection ended.
    Over,
    /// The capture ended first.
    EndOfCapture,
}

impl Unfulfilled {
    /// Returns true if the data connection should have come and did not.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::NoConnection(_) | Self::Replaced | Self::Quit | Self::Over | Self::EndOfCapture)
    }
}

impl fmt::Display for Unfulfilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "the server refused the announcement: {code}"),
            Self::TransferRefused(code) => write!(f, "the server refused the transfer: {code}"),
            Self::NoConnection(code) => write!(f, "the server could not open it: {code}"),
            Self::NotCaptured => {
                f.write_str("the transfer began and was completed; its packets are not in the capture")
            }
            Self::Unused => f.write_str("no transfer was asked for"),
            Self::Replaced => f.write_str("the next announcement followed"),
            Self::Quit => f.write_str("the client quit"),
            Self::Over => f.write_str("the control connection ended"),
            Self::EndOfCapture => f.write_str("the capture ended"),
        }
    }
}

/// A control connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Identifier of the session.
    pub session: SessionId,
    /// End of the connection.
    pub ending: Ending,
    /// Result of the login.
    pub login: Login,
    /// True if TLS was used.
    pub tls: bool,
    /// Number of commands that were read.
    pub commands: u64,
    /// Number of endpoints that were announced.
    pub announcements: u32,
    /// True if it was given up because there were too many at once.
    pub evicted: bool,
}

/// The way in which TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// After `AUTH`.
    Explicit,
    /// From the beginning, or nobody saw an `AUTH`.
    Implicit,
}

/// Something that is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FtpEvent<'a> {
    /// A control connection begins.
    Opened(Opened),
    /// The client gave a command.
    Command {
        /// The control connection.
        session: SessionId,
        /// Number on that connection, from 1.
        number: u64,
        /// The line, without its end.
        line: &'a [u8],
        /// True if it matters to data connections.
        matters: bool,
        /// Number of lines that end before it in its segment.
        index: u32,
    },
    /// The server answered: the last line of a reply.
    Reply {
        /// The control connection.
        session: SessionId,
        /// The line, without its end.
        line: &'a [u8],
        /// Code of the reply.
        code: u16,
        /// The kind of command that it answers.
        asked: Option<CommandKind>,
        /// The number of the command that it answers; `None` for a greeting, and if the command was not seen.
        command: Option<u64>,
        /// True if it matters to data connections.
        matters: bool,
        /// Number of lines that end before it in its segment.
        index: u32,
    },
    /// A whole line was said: every one is told so, before whatever else it is told as.
    Line {
        /// The control connection.
        session: SessionId,
        /// Side that sends it.
        sender: Sender,
        /// The line, without its end.
        line: &'a [u8],
        /// The sequence number of its first byte.
        start: SequenceNumber,
    },
    /// An endpoint was announced. The same line is told as a command or reply, too.
    Announced(Announced<'a>),
    /// An announcement was sent again.
    Again {
        /// The control connection.
        session: SessionId,
        /// Which one; `None` if it is too long ago.
        number: Option<u32>,
        /// Side that sends it.
        sender: Sender,
        /// Form of the announcement.
        form: Form,
        /// The line.
        line: &'a [u8],
        /// Action of Linux's helper on it.
        helper: Helper,
    },
    /// Linux's helper would drop a packet that announces nothing: it begins like an announcement.
    WouldDrop {
        /// The control connection.
        session: SessionId,
        /// Side that sends it.
        sender: Sender,
        /// Form that it begins like.
        form: Form,
    },
    /// Some bytes of one side are not in the capture.
    Gap {
        /// The control connection.
        session: SessionId,
        /// Sender of the bytes.
        sender: Sender,
        /// Number of bytes.
        bytes: u32,
    },
    /// The capture cut a packet of a control connection short.
    Cut {
        /// The control connection.
        session: SessionId,
        /// Sender of the bytes.
        sender: Sender,
        /// Number of bytes that are missing.
        bytes: u32,
    },
    /// TLS begins: nothing more can be read.
    Tls {
        /// The control connection.
        session: SessionId,
        /// Way in which TLS begins.
        how: Tls,
    },
    /// The bytes that follow can be read again, after `CCC`.
    Clear {
        /// The control connection.
        session: SessionId,
    },
    /// The session is seen a second time, on the other side of a router that translates addresses.
    OtherSide {
        /// The control connection.
        session: SessionId,
        /// The client as it is seen there.
        client: SocketAddr,
        /// The server as it is seen there.
        server: SocketAddr,
    },
    /// An announcement is seen on the other side of a router that translates addresses. It may come before
    /// [`FtpEvent::Announced`]: the packet that arrives is captured first.
    Translated {
        /// The control connection.
        session: SessionId,
        /// The announcement.
        number: u32,
        /// The side that sends it.
        sender: Sender,
        /// The form of the announcement.
        form: Form,
        /// The line as it is there.
        line: &'a [u8],
        /// The address that it names there.
        address: Option<IpAddr>,
        /// The port that it names there.
        port: Option<u16>,
    },
    /// An ICMP error about a packet of a session.
    IcmpError {
        /// The control connection.
        session: SessionId,
        /// The announcement, if the packet belongs to one of its data connections.
        number: Option<u32>,
        /// The ICMP error.
        error: IcmpError,
    },
    /// A data connection begins.
    DataOpened(Data),
    /// A data connection is over.
    DataEnded(Data, Ending),
    /// No data connection came.
    Unfulfilled {
        /// The control connection.
        session: SessionId,
        /// The announcement.
        number: u32,
        /// Reason why no data connection came.
        why: Unfulfilled,
    },
    /// A control connection is over. Its data connections may go on.
    Ended(Ended),
    /// Nothing more will be told of a control connection.
    Done {
        /// Identifier of the session.
        session: SessionId,
    },
    /// FTP is spoken on a port that is not watched.
    Elsewhere {
        /// The server.
        server: SocketAddr,
        /// The client.
        client: SocketAddr,
    },
}

/// A receiver of events.
pub trait Sink {
    /// A frame of the capture was looked at; also one that is no packet.
    fn frame(&mut self, _at: FramePos) {}
    /// A network packet, from its IP header as far as it was captured: the outermost, before tunnels and parts.
    fn packet(&mut self, _at: FramePos, _bytes: &[u8]) {}
    /// Something was seen.
    fn event(&mut self, _at: FramePos, _event: &FtpEvent<'_>) {}
    /// The capture is damaged, or ends, here.
    fn broken(&mut self, _error: &ReadError) {}
}

/// Ignores everything: for callers that want only the summary.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct NoopSink;

impl Sink for NoopSink {}

/// The totals of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Frames.
    pub frames: u64,
    /// Frames that carry no IP packet.
    pub not_ip: u64,
    /// Frames whose link layer is not understood or not whole.
    pub unreadable: u64,
    /// The first link type that was not understood.
    pub link_type: Option<crate::packet::link::LinkType>,
    /// IP packets whose headers are damaged, or that are cut before the end of them.
    pub malformed: u64,
    /// Parts of packets of which others are missing.
    pub parts: u64,
    /// TCP packets of control and data connections.
    pub ftp: u64,
    /// Of these, copies: the capture shows the packet more than once.
    pub copies: u64,
    /// Of these, cut by the capture.
    pub cut: u64,
    /// Packets that came in a tunnel.
    pub tunnelled: u64,
    /// Control connections.
    pub sessions: u64,
    /// Of these, given up because there were too many at once.
    pub evicted: u64,
    /// Announcements, those sent again not counted.
    pub announcements: u64,
    /// Announcements that Linux's helper would act on.
    pub handled: u64,
    /// Announcements of which the capture does not show what the helper would do.
    pub unjudged: u64,
    /// Announcements that are not well formed; not those that the capture lacks a part of.
    pub malformed_announcements: u64,
    /// Packets that Linux's helper would drop.
    pub would_drop: u64,
    /// Announcements sent again.
    pub again: u64,
    /// Data connections.
    pub data: u64,
    /// Of these, refused or never answered.
    pub data_failed: u64,
    /// Announcements whose data connection should have come and did not.
    pub unfulfilled: u64,
    /// Announcements that were refused, or for which no transfer was asked or begun.
    pub unused: u64,
    /// ICMP errors about packets of sessions.
    pub icmp_errors: u64,
    /// Sessions that are seen on both sides of a router that translates addresses.
    pub two_sided: u64,
    /// Announcements whose data connection came, as the server says, and is not in the capture.
    pub not_captured: u64,
    /// Gaps in control connections.
    pub gaps: u64,
    /// Damaged places in the capture.
    pub damaged: u64,
    /// Frames whose time is before that of the frame before them.
    pub steps_back: u64,
    /// Times from the earliest to the latest frame.
    pub span: Option<(Instant, Instant)>,
}
