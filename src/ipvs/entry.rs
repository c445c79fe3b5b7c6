//! One connection entry.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU32;
use core::time::Duration;

use super::config::Forwarding;
use super::ftp::Mode;
use super::state::State;
use crate::Instant;
use crate::conntrack::NoId;
use crate::packet::Protocol;

/// An entry's name: valid until the entry expires, and never that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    pub(super) slot: u32,
    pub(super) generation: NonZeroU32,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl From<EntryId> for u64 {
    fn from(id: EntryId) -> Self {
        Self::from(id.generation.get()) << 32 | Self::from(id.slot)
    }
}

impl TryFrom<u64> for EntryId {
    type Error = NoId;

    fn try_from(number: u64) -> Result<Self, NoId> {
        let generation = NonZeroU32::new((number >> 32) as u32).ok_or(NoId)?;
        Ok(Self { slot: number as u32, generation })
    }
}

/// A connection through the load balancer, a client's persistence, or a data connection that is waited for
/// (`ip_vs_conn`).
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub(super) protocol: Protocol,
    pub(super) client: SocketAddr,
    pub(super) virtual_at: SocketAddr,
    pub(super) real: SocketAddr,
    pub(super) forwarding: Forwarding,
    /// The number of its real server among all.
    pub(super) server: u32,
    pub(super) state: State,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// When the wheel will look at it: at the deadline or before.
    pub(super) scheduled: Instant,
    pub(super) is_template: bool,
    /// True if the client's port is not known yet (`IP_VS_CONN_F_NO_CPORT`).
    pub(super) is_waiting: bool,
    /// True if the packets stay tracked (`IP_VS_CONN_F_NFCT`).
    pub(super) tracked: bool,
    /// A helper reads it, or would if its replies came through here: its data connections follow what is said on it.
    pub(super) followed: bool,
    /// Nothing of it came back so far (`IP_VS_CONN_F_NOOUTPUT`).
    pub(super) one_way: bool,
    /// True if it counts as active for its server.
    pub(super) active: bool,
    /// `ip_vs_ftp` reads it.
    pub(super) is_ftp: bool,
    /// It lasts one packet.
    pub(super) one_packet: bool,
    pub(super) mode: Mode,
    /// The slot of the entry that it belongs to.
    pub(super) control: Option<u32>,
    /// Number of entries that belong to it.
    pub(super) controlled: u32,
    /// Of one that waits for a client's next connection: how many more control connections wait for one, and the real
    /// server of one of them, if that is another.
    pub(super) requests: u32,
    pub(super) rival: Option<SocketAddr>,
}

impl Entry {
    /// The protocol; 0 for the persistence of a firewall mark.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The client; its port is 0 in a template, and while it is waited for.
    #[must_use]
    pub const fn client(&self) -> SocketAddr {
        self.client
    }

    /// Returns what the client dialled; in the template of a firewall mark, an address made of the mark.
    #[must_use]
    pub const fn virtual_address(&self) -> SocketAddr {
        self.virtual_at
    }

    /// The real server.
    #[must_use]
    pub const fn real_server(&self) -> SocketAddr {
        self.real
    }

    /// Returns the forwarding method.
    #[must_use]
    pub const fn forwarding(&self) -> Forwarding {
        self.forwarding
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns true if it is not a connection but a client's persistence.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        self.is_template
    }

    /// Returns true if it waits for a client whose port nobody has said.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Returns the number of entries that belong to it: it does not expire before they do.
    #[must_use]
    pub const fn controlled(&self) -> u32 {
        self.controlled
    }

    /// Returns how long it lasts if no packet comes.
    #[must_use]
    pub const fn remaining(&self, now: Instant) -> Duration {
        self.deadline.since(now)
    }

    /// The source of packets from its real server, as they arrive here: the virtual address, unless it is rewritten.
    pub(super) const fn answers_from(&self) -> SocketAddr {
        match self.forwarding {
            Forwarding::Masquerade => self.real,
            _ => self.virtual_at,
        }
    }
}

/// An address that stands in slots that were never used.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0);

impl Entry {
    pub(super) const EMPTY: Self = Self {
        protocol: Protocol(0),
        client: NOBODY,
        virtual_at: NOBODY,
        real: NOBODY,
        forwarding: Forwarding::Masquerade,
        server: 0,
        state: State::None,
        timeout: Self::FIRST_TIMEOUT,
        deadline: Instant::NEVER,
        scheduled: Instant::NEVER,
        is_template: false,
        is_waiting: false,
        tracked: false,
        followed: false,
        one_way: false,
        active: false,
        is_ftp: false,
        one_packet: false,
        mode: Mode::Active,
        control: None,
        controlled: 0,
        requests: 0,
        rival: None,
    };

    /// Time that a new entry lasts until its first packet sets its state (Linux, `ip_vs_conn_new`).
    pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
}
