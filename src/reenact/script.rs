//! Everything that both ends of a session say, dial and transfer.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::vec::Vec;

use crate::ftp::{Form, Sender};

/// The code with which a server answers `PORT` that has dialled already, in vain.
pub const DIALS_FIRST: u16 = 425;

/// A session that can be spoken again.
///
/// Client and server hold the same script. What one of them says reaches the other through the router, and the other acts
/// on what arrives: it dials the endpoint that it reads, not the one that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Script {
    /// The client's end of the control connection, as the client has it.
    pub client: SocketAddr,
    /// The address and port that the client dials.
    pub server: SocketAddr,
    /// Time from the first session's beginning to this one's.
    pub starts: Duration,
    /// The greeting, then the commands in their order.
    pub turns: Vec<Turn>,
    /// True if the client dials the control connection's server, whatever address a 227 names.
    pub ignores_address: bool,
    /// True if the server takes data connections only from the control connection's client.
    pub checks_source: bool,
}

/// A command and what the server answers; the greeting has no command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Time for which the client waits before the command.
    pub pause: Duration,
    /// The client's line, without its end; empty for the greeting.
    pub command: Vec<u8>,
    /// The server's reply, without its end; for a transfer the one that ends it.
    pub reply: Vec<u8>,
    /// Their action besides.
    pub act: Act,
}

/// An action of client and server in a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// Nothing but talk.
    Say,
    /// The server listens and says where.
    Passive {
        /// 227 or 229.
        form: Form,
        /// The address that the server announces; `None` for its own.
        address: Option<IpAddr>,
        /// The port that it listens on.
        port: u16,
    },
    /// The client listens on this port, which its command names. A reply that refuses is given only to an address that is
    /// not the client's as the server sees it. A reply with [`DIALS_FIRST`] is given if the server, which dials before it
    /// answers, does not get through.
    Active {
        /// The port.
        port: u16,
    },
    /// A file or listing is transferred.
    Transfer {
        /// The sender.
        sender: Sender,
        /// Length in bytes.
        bytes: usize,
        /// Time that the sender takes.
        lasts: Duration,
        /// The port from which the server dials in active mode.
        from_port: u16,
    },
    /// TLS begins after the reply: nobody on the way can read what follows.
    StartTls,
}

impl Script {
    /// A session in which nothing is said yet.
    #[must_use]
    pub const fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self { client, server, starts: Duration::ZERO, turns: Vec::new(), ignores_address: false, checks_source: false }
    }

    /// The same with another turn.
    #[must_use]
    pub fn with(mut self, command: &str, reply: &str, act: Act) -> Self {
        self.turns.push(Turn::new(command, reply, act));
        self
    }

    /// Returns the numbers of the turns that transfer something.
    pub fn transfers(&self) -> impl Iterator<Item = usize> {
        let transfers = |turn: &Turn| matches!(turn.act, Act::Transfer { .. });
        self.turns.iter().enumerate().filter(move |(_, turn)| transfers(turn)).map(|(number, _)| number)
    }
}

impl Turn {
    /// A turn without a pause.
    #[must_use]
    pub fn new(command: &str, reply: &str, act: Act) -> Self {
        Self { pause: Duration::ZERO, command: command.into(), reply: reply.into(), act }
    }
}

/// The result of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// True if the control connection opened and the server's greeting arrived.
    pub opened: bool,
    /// The transfers, in order: the turn's number and what became of it.
    pub transfers: Vec<(usize, Result<(), Failure>)>,
    /// False if a bound was reached before the session was over.
    pub finished: bool,
}

impl Outcome {
    /// True if the session was over in time, and everything was transferred.
    #[must_use]
    pub fn works(&self) -> bool {
        self.finished && self.opened && self.transfers.iter().all(|(_, result)| result.is_ok())
    }
}

/// The reason for which a transfer failed, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The control connection did not open, or broke before.
    NoControl,
    /// The server refused, with this code.
    Refused(u16),
    /// The data connection did not open.
    NotOpened,
    /// The data connection opened, and not everything arrived.
    Incomplete,
    /// The session was over before.
    NotReached,
}
