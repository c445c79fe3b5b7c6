//! What an announcement may open.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use crate::ftp::HostPortError;

/// What an announcement may open under [`Behaviour::Exact`](crate::Behaviour::Exact). Linux asks for none of this but
/// that the address is the speaker's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The lowest port that may be announced. Below 1024 stand servers, which a data connection must not reach
    /// (RFC 2577 section 3).
    pub lowest_port: u16,
    /// Whether the server must have let the client in before anything is announced: text that a browser was made to send
    /// to port 21 is no FTP session.
    pub login_first: bool,
    /// Addresses that may be announced although they are not the speaker's: transfers from server to server (FXP). None by
    /// default (RFC 2577 section 3, the bounce attack).
    pub foreign: Vec<RangeInclusive<IpAddr>>,
    /// Whether a server that announces another address than its own (one inside its own NAT, say) is taken to mean its own:
    /// the client is told the address that it dialled, as for 0.0.0.0. That opens nothing that the server could not have
    /// announced itself, and keeps clients from calling third hosts. Otherwise it is refused. Addresses among
    /// [`foreign`](Self::foreign) stay as they are.
    pub mend_passive: bool,
    /// How many data connections may be expected of one control connection at once; of more, the oldest are forgotten.
    pub pending: u8,
    /// How many may be expected at once of all the control connections that one client's address has; what is announced
    /// beyond them is refused.
    pub pending_per_host: u16,
    /// The ports on which servers listen for data connections of sessions within TLS, whose announcements cannot be read
    /// (RFC 4217). As long as such a control connection lives, its client may dial any of them on its server. None by
    /// default: the firewall's own rules decide.
    pub encrypted_passive: Option<RangeInclusive<u16>>,
    /// Whether those ports are learnt where they are not declared, and how many a range may have at most: 1000, say. As soon
    /// as a control connection is within TLS, its client may then dial, on this server alone and for as long as the control
    /// connection lives, any port from the lowest to the highest that the same server announced to anybody in sessions that
    /// could be read, in announcements that were let through, within the last day. That includes ports in between that it
    /// never announced: other services there are open to these clients. Of a server whose ports lie farther apart nothing
    /// is opened. Nothing is learnt by default.
    pub learn_passive: Option<u16>,
}

impl Default for Policy {
    /// Ports from 1024, login first, nobody else's address, wrong passive ones mended, 8 at once, 64 a client.
    fn default() -> Self {
        Self {
            lowest_port: 1024,
            login_first: true,
            foreign: Vec::new(),
            mend_passive: true,
            pending: 8,
            pending_per_host: 64,
            encrypted_passive: None,
            learn_passive: None,
        }
    }
}

impl Policy {
    pub(super) fn allows_foreign(&self, address: IpAddr) -> bool {
        self.foreign.iter().any(|range| range.contains(&address))
    }
}

/// Why an announcement was refused. It leaves as one that the other side refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denied {
    /// It announces another address than the speaker's.
    ForeignAddress(IpAddr),
    /// It announces a port below [`Policy::lowest_port`].
    LowPort(u16),
    /// It announces nothing that can be understood.
    Malformed(HostPortError),
    /// The server has not let the client in.
    NotLoggedIn,
    /// The connection began as something else than FTP: a browser was made to send these lines (NAT slipstreaming).
    NotFtp,
    /// The client did not ask where the server listens.
    Unasked,
    /// No port is free, or there is no room for what would be expected.
    NoRoom,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignAddress(address) => write!(f, "{address} is not the speaker's address"),
            Self::LowPort(port) => write!(f, "port {port} is too low"),
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::NotLoggedIn => f.write_str("before login"),
            Self::NotFtp => f.write_str("the connection did not begin as FTP"),
            Self::Unasked => f.write_str("nobody asked for it"),
            Self::NoRoom => f.write_str("no free port, or too many are expected"),
        }
    }
}
