//! Events and drop reasons, as data.
//!
//! Layers note events as they work; whoever is interested takes them out after each packet. A packet of an established
//! connection makes none, unless it is dropped, meets a LOG rule or announces something. Behaviour Exact also notes
//! what it does to a control connection's packets. The queue is bounded: what nobody takes is lost, and counted.
//!
//! ```
//! use ftp_conntrack::event::Events;
//!
//! let mut events = Events::new(16);
//! assert!(events.pop().is_none());
//! assert_eq!(events.lost(), 0);
//! ```

mod words;

use alloc::collections::VecDeque;
use core::net::{IpAddr, SocketAddr};

use crate::Instant;
use crate::conntrack::{ConnectionId, Counters, Direction, Tuple};
use crate::ftp;
use crate::ipvs;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was confirmed: its first packet left.
    New {
        /// Name of the connection.
        connection: ConnectionId,
        /// Tuple of the first packet, before NAT.
        original: Tuple,
        /// The tuple its replies have.
        reply: Tuple,
        /// The connection that announced it.
        master: Option<ConnectionId>,
        /// True if the FTP helper reads it.
        helper: bool,
    },
    /// A connection is forgotten.
    Destroyed {
        /// Name of the connection, never used again.
        connection: ConnectionId,
        /// Tuple of the first packet.
        original: Tuple,
        /// Packets and bytes each way.
        counters: [Counters; 2],
        /// The reason.
        reason: DestroyReason,
    },
    /// The helper read an endpoint on a control connection.
    Announced {
        /// The control connection.
        connection: ConnectionId,
        /// The sender of the line.
        sender: ftp::Sender,
        /// The command or reply that announced it.
        form: ftp::Form,
        /// The address and port as they stood in the text.
        address: IpAddr,
        /// The port as it stood in the text.
        port: u16,
        /// The helper's outcome.
        outcome: AnnouncementOutcome,
    },
    /// The helper dropped a packet: the keyword of an announcement stood there, and the rest of it did not.
    PartialAnnouncement {
        /// The control connection.
        connection: ConnectionId,
        /// The sender of the line.
        sender: ftp::Sender,
        /// Which announcement it began like.
        form: ftp::Form,
    },
    /// An announcement was refused, and leaves as one that the other side refuses.
    Denied {
        /// The control connection.
        connection: ConnectionId,
        /// The sender of the line.
        sender: ftp::Sender,
        /// The command or reply that announced it.
        form: ftp::Form,
        /// The reason.
        reason: crate::helper::RefusalReason,
    },
    /// Behaviour Exact did something with a segment of a control connection besides replacing what it announces.
    Intervened {
        /// The control connection.
        connection: ConnectionId,
        /// The sender of the bytes.
        sender: ftp::Sender,
        /// The intervention.
        intervention: crate::helper::Intervention,
    },
    /// The control connection switched to TLS and is not read any more.
    Encrypted {
        /// The control connection.
        connection: ConnectionId,
        /// The ports that its client may dial from here on, as [`Policy::tls_passive_ports`] or
        /// [`Policy::learn_tls_passive_ports`] has it.
        ///
        /// [`Policy::tls_passive_ports`]: crate::helper::Policy::tls_passive_ports
        /// [`Policy::learn_tls_passive_ports`]: crate::helper::Policy::learn_tls_passive_ports
        passive: Option<core::ops::RangeInclusive<u16>>,
    },
    /// A data connection came as announced: its first packet matched an expectation.
    Fulfilled {
        /// The data connection.
        connection: ConnectionId,
        /// The control connection.
        master: ConnectionId,
        /// The expectation's tuple; source port 0 stands for any.
        expected: Tuple,
    },
    /// An expectation is forgotten, and nothing met it.
    Unfulfilled {
        /// The control connection.
        master: ConnectionId,
        /// The expectation's tuple.
        expected: Tuple,
        /// The reason.
        reason: DestroyReason,
    },
    /// A client's connection was given to a real server.
    Balanced {
        /// The new entry.
        entry: ipvs::EntryId,
        /// The service.
        service: ipvs::ServiceAddress,
        /// The client.
        client: SocketAddr,
        /// The endpoint that the client connected to.
        dialled: SocketAddr,
        /// The real server.
        real_server: SocketAddr,
        /// The reason for this real server.
        by: BalancedBy,
    },
    /// `ip_vs_ftp` read an announcement on a control connection, or under behaviour Exact a PASV that a real server
    /// answers directly, and an entry waits for the data connection.
    BalancedDataAnnounced {
        /// The control connection's entry.
        control: ipvs::EntryId,
        /// The data connection's entry, new or waiting again.
        entry: ipvs::EntryId,
        /// The sender of the line.
        sender: ftp::Sender,
        /// The client's end; its port is 0 where nobody has said it.
        client: SocketAddr,
        /// The virtual address and port; port 0 where the reply that names it does not come through here.
        dialled: SocketAddr,
        /// The real server's end.
        real_server: SocketAddr,
    },
    /// A data connection came that an entry waited for.
    BalancedDataArrived {
        /// The entry that led it.
        entry: ipvs::EntryId,
        /// The control connection's entry.
        control: Option<ipvs::EntryId>,
        /// The client's end.
        client: SocketAddr,
        /// The virtual address and port.
        dialled: SocketAddr,
        /// The real server's end.
        real_server: SocketAddr,
    },
    /// A client asked several real servers where they listen, on control connections whose replies do not come through
    /// here: nobody can say whose data connection this is, and the services decide (behaviour Exact).
    BalancedContested {
        /// The client.
        client: SocketAddr,
        /// The endpoint that the client connected to.
        dialled: SocketAddr,
        /// Two of the real servers.
        real_servers: [IpAddr; 2],
    },
    /// A packet was dropped.
    Dropped {
        /// The reason.
        reason: DropReason,
        /// The connection of the packet, if it has one.
        connection: Option<ConnectionId>,
        /// Which way it went.
        direction: Option<Direction>,
    },
    /// A LOG rule was met.
    Log {
        /// True if the rule belongs to IPv6.
        ipv6: bool,
        /// The rule's number among all rules of its family, in loading order.
        rule: usize,
    },
    /// A packet met a rule that this library does not understand; it went on as if the rule did not match.
    Undecided {
        /// True if the rule belongs to IPv6.
        ipv6: bool,
        /// The rule's number among all rules of its family, in loading order.
        rule: usize,
    },
}

/// The reason for the choice of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalancedBy {
    /// The service's scheduler chose.
    Scheduler(ipvs::Scheduler),
    /// The client stays where it was: this template says so.
    Persistence(ipvs::EntryId),
}

/// The reason for dropping a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// It is no whole IP packet.
    Malformed,
    /// A rule, or a chain's policy, said so.
    Rule,
    /// A rule said so, and its sender is to be told.
    Rejected,
    /// The table of connections is full of connections that are not to be given up.
    TableFull,
    /// No more connections can have a helper.
    HelpersFull,
    /// Another connection had the same tuple when this one was confirmed.
    Clash,
    /// No address to translate to, on the interface it leaves by or arrived on.
    NoAddress,
    /// It leaves by another interface than the one whose address its connection bears.
    Rerouted,
    /// It begins like an announcement, and the rest is not there.
    PartialAnnouncement,
    /// The data connection could not be expected: the same one is expected from another control connection, or
    /// there is no room.
    ExpectationRefused,
    /// No port was free to announce.
    NoPort,
    /// The text could not be replaced.
    Mangle,
    /// A TCP option in it does not fit, and its numbers had to be adjusted.
    TcpOptions,
    /// An IPv4 option in it makes no sense, or is a source route.
    IpOptions,
    /// The time to live, or hop limit, is used up.
    HopLimit,
    /// No route leads to its destination.
    NoRoute,
    /// It is larger than the next link takes, and must not be cut.
    TooBig,
    /// A fragment that does not fit with the others, or for which there is no room.
    Fragment,
    /// It is for another host, or from an address that cannot send.
    NotForwardable,
    /// No real server of its service takes it.
    NoRealServer,
    /// The table of load balancing entries is full.
    EntriesFull,
    /// It begins another connection between the same ends while the tracker still has the old one, which is gone now.
    PortReused,
    /// The text had to be rewritten, but the connection is not tracked.
    NotTracked,
    /// The checksum is wrong, and the helper would read the text.
    Checksum,
}

impl core::fmt::Display for DropReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Rule => "dropped by rule",
            Self::Rejected => "rejected by rule",
            Self::TableFull => "connection table full",
            Self::HelpersFull => "no room for another helped connection",
            Self::Clash => "its tuple is taken",
            Self::NoAddress => "no address to translate to",
            Self::Rerouted => "leaves by another interface than its masqueraded address",
            Self::PartialAnnouncement => "partial announcement",
            Self::ExpectationRefused => "cannot add expectation",
            Self::NoPort => "all ports in use",
            Self::Mangle => "cannot replace the text",
            Self::TcpOptions => "broken TCP options",
            Self::IpOptions => "IPv4 options that make no sense, or a source route",
            Self::HopLimit => "time to live exceeded",
            Self::NoRoute => "no route",
            Self::TooBig => "too big for the next link",
            Self::Fragment => "bad fragment",
            Self::NotForwardable => "not forwardable",
            Self::NoRealServer => "no real server takes it",
            Self::EntriesFull => "table of load balancing entries full",
            Self::PortReused => "its ports belonged to another connection until now",
            Self::NotTracked => "cannot be rewritten without being tracked",
            Self::Checksum => "wrong checksum",
        })
    }
}

impl core::error::Error for DropReason {}

/// Outcome of an announcement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnnouncementOutcome {
    /// A data connection is expected; the text was rewritten if NAT asks for it.
    Expected {
        /// Tuple of the expected connection; source port 0 stands for any.
        expected: Tuple,
        /// The text that was announced.
        before: ftp::Text,
        /// The text that was sent on.
        after: Option<ftp::Text>,
    },
    /// The address is not the speaker's: nothing is expected, nothing rewritten.
    ForeignAddress,
    /// The packet was dropped: no port was free, or the expectation could not be registered.
    Refused(DropReason),
}

/// The reason for forgetting a connection or an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DestroyReason {
    /// The timeout passed.
    Timeout,
    /// Another one took its tuple: the same ports again.
    Reopened,
    /// It was reset before it was answered.
    Reset,
    /// The table was full, or it was over and the port that it was translated to was needed.
    Evicted,
    /// An expectation made way for a newer one of the same master.
    Replaced,
    /// An expectation's master is gone.
    Master,
    /// The caller asked for it.
    Deleted,
    /// A packet of it would have left by another interface than the one whose address it bears.
    Rerouted,
    /// The load balancer's entry for it is over.
    Balancer,
}

/// A bounded queue of events.
#[derive(Debug)]
pub struct Events {
    queue: VecDeque<(Instant, Event)>,
    capacity: usize,
    lost: u64,
}

impl Events {
    /// A queue for `capacity` events; with 0 none are kept and none are counted as lost.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity), capacity, lost: 0 }
    }

    /// Takes the oldest event, and when it happened.
    pub fn pop(&mut self) -> Option<(Instant, Event)> {
        self.queue.pop_front()
    }

    /// Returns the number of events that were lost because nobody took older ones.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    #[inline]
    pub(crate) fn push(&mut self, now: Instant, event: Event) {
        if self.queue.len() < self.capacity {
            self.queue.push_back((now, event));
        } else if self.capacity > 0 {
            self.lost += 1;
        }
    }
}
