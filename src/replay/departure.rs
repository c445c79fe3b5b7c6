//! The places where behaviour Exact sends something else than Linux would, and the reasons, as data.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::string::String;
use std::vec::Vec;

use crate::Instant;
use crate::conntrack::{ConnectionId, Direction};
use crate::event::DropReason;
use crate::ftp::Form;
use crate::helper::{Intervention, RefusalReason};

/// A packet of which leaves, under [`Behaviour::Exact`](crate::Behaviour::Exact), something else than Linux would send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departure {
    /// The frame that arrived.
    pub frame: u64,
    /// When.
    pub time: Instant,
    /// Connection of the packet, where it has one here.
    pub connection: Option<ConnectionId>,
    /// Which way it went in that.
    pub direction: Option<Direction>,
    /// Action of Linux on the packet.
    pub linux: LinuxDoes,
    /// Reason why Linux does that.
    pub why: Option<Quirk>,
    /// Actions taken here on the packet.
    pub here: Vec<Here>,
    /// True if this was reported for the connection before: its streams have shifted otherwise, or Linux knows it
    /// otherwise.
    pub alike: bool,
    /// The packets that leave here because of it, from their IP headers.
    pub ours: Vec<Vec<u8>>,
    /// Those that Linux sends.
    pub theirs: Vec<Vec<u8>>,
}

impl Departure {
    /// Returns true if at least one reason is known.
    #[must_use]
    pub const fn is_explained(&self) -> bool {
        self.why.is_some() || !self.here.is_empty()
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.linux)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        for (i, here) in self.here.iter().enumerate() {
            write!(f, "{} {here}", if i == 0 { "; here" } else { "," })?;
        }
        Ok(())
    }
}

/// The action of Linux on a packet for which behaviour Exact sends something else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinuxDoes {
    /// Drops it.
    Drops(DropReason),
    /// Sends nothing, now.
    SendsNothing,
    /// Lets its text pass as it came.
    Passes,
    /// Writes this line into it.
    Writes(String),
    /// Sends it with numbers that differ by so much: sequence number, acknowledgement.
    Numbers(i32, i32),
    /// Sends it without translating it.
    LeavesUntranslated,
    /// Translates it and sends it there.
    SendsTo(SocketAddr),
    /// Sends the packet alone.
    SendsNoMore,
    /// Sends it elsewhere, or another one.
    SendsAnother,
}

impl fmt::Display for LinuxDoes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drops(reason) => write!(f, "drops it ({reason})"),
            Self::SendsNothing => f.write_str("sends nothing"),
            Self::Passes => f.write_str("lets it pass as it came"),
            Self::Writes(line) => write!(f, "writes {line}"),
            Self::Numbers(sequence, acknowledgement) => {
                f.write_str("sends it")?;
                let numbers = [("sequence number", *sequence), ("acknowledgement", *acknowledgement)];
                for (i, (name, by)) in numbers.into_iter().filter(|(_, by)| *by != 0).enumerate() {
                    let way = if by < 0 { "lower" } else { "higher" };
                    write!(f, "{} its {name} {} {way}", if i == 0 { " with" } else { "," }, by.unsigned_abs())?;
                }
                if (*sequence, *acknowledgement) == (0, 0) { f.write_str(" with other numbers") } else { Ok(()) }
            }
            Self::LeavesUntranslated => f.write_str("does not translate it"),
            Self::SendsTo(end) => write!(f, "sends it to {end}"),
            Self::SendsNoMore => f.write_str("sends nothing besides it"),
            Self::SendsAnother => f.write_str("sends another packet"),
        }
    }
}

/// The reason why Linux does what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quirk {
    /// It reads only the first line of a segment.
    FirstLineOnly,
    /// It reads no announcement that is not whole in its segment.
    WholeOnly,
    /// It reads a segment only where one before it ended with a line.
    NotAtLineStart,
    /// It does not know this announcement.
    Unknown(Form),
    /// It finds nothing in this announcement that it can read.
    Unreadable(Form),
    /// It takes a text for this announcement that is none.
    NoAnnouncement(Form),
    /// It takes this address for another than the speaker's.
    Foreign(IpAddr),
    /// It writes every announcement in its own spelling.
    OwnSpelling,
    /// It announced another port.
    OtherPort,
    /// It reads on within TLS, which began in this frame.
    WithinTls(u64),
    /// It reads what is sent again anew.
    ReadsAgain,
    /// It does not wait for what is missing.
    DoesNotWait,
    /// It adjusts an ICMP error as if that were the segment that it quotes.
    ErrorAsSegment,
    /// It keeps no text that it replaced.
    KeepsNoText,
    /// It corrects numbers by its last replacement alone.
    OneCorrection,
    /// The stream has shifted otherwise since this frame.
    ShiftedSince(u64),
    /// It does not expect this data connection, which was announced in this frame.
    NotExpected(Option<u64>),
    /// It expects this data connection since this frame.
    Expected(Option<u64>),
    /// It takes the packet for invalid.
    Invalid,
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstLineOnly => f.write_str("it reads only the first line of a segment"),
            Self::WholeOnly => f.write_str("it reads no announcement that is not whole in its segment"),
            Self::NotAtLineStart => f.write_str("it reads a segment only where one before it ended with a line"),
            Self::Unknown(form) => write!(f, "it does not know {form}"),
            Self::Unreadable(form) => write!(f, "it cannot read this {form}"),
            Self::NoAnnouncement(form) => write!(f, "it looks for an endpoint in this {form}, which has none"),
            Self::Foreign(address) => write!(f, "it takes {address} for another than the speaker's address"),
            Self::OwnSpelling => f.write_str("it spells every announcement in its own way"),
            Self::OtherPort => f.write_str("it chose another port"),
            Self::WithinTls(frame) => write!(f, "it reads on within TLS, which began in frame {frame}"),
            Self::ReadsAgain => f.write_str("it reads what is sent again anew"),
            Self::DoesNotWait => f.write_str("it does not wait for what is missing"),
            Self::ErrorAsSegment => f.write_str("it takes an ICMP error for a segment"),
            Self::KeepsNoText => f.write_str("it keeps no text that it replaced"),
            Self::OneCorrection => f.write_str("it corrects numbers by its last replacement alone"),
            Self::ShiftedSince(frame) => write!(f, "numbers differ since frame {frame}, where other text left"),
            Self::NotExpected(Some(frame)) => write!(f, "it did not expect what was announced in frame {frame}"),
            Self::NotExpected(None) => f.write_str("it did not expect this connection"),
            Self::Expected(Some(frame)) => write!(f, "it expects this connection since frame {frame}"),
            Self::Expected(None) => f.write_str("it expects this connection"),
            Self::Invalid => f.write_str("it takes it for invalid"),
        }
    }
}

/// An action of behaviour Exact on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Here {
    /// The helper did this to its stream.
    Intervened(Intervention),
    /// An announcement was refused.
    Refused(RefusalReason),
    /// An announcement leaves as this line.
    Announces(String),
    /// The text passes as it came.
    Passes,
    /// It is dropped.
    Drops(DropReason),
    /// It is for the router itself.
    Local,
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intervened(intervention) => intervention.fmt(f),
            Self::Refused(why) => write!(f, "it is refused ({why})"),
            Self::Announces(line) => write!(f, "it leaves as {line}"),
            Self::Passes => f.write_str("it passes as it came"),
            Self::Drops(reason) => write!(f, "it is dropped ({reason})"),
            Self::Local => f.write_str("it is for the router itself"),
        }
    }
}
