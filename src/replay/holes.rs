//! The holes that a load balancer leaves for FTP's data connections: by its configuration, and as a capture shows them.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::ipvs::ServiceAddress;

/// The port that control connections go to.
pub(super) const FTP_PORT: u16 = 21;

/// The port that active data connections come from (RFC 959 section 3.2).
pub(super) const FTP_DATA_PORT: u16 = 20;

/// From here on a port may be that of a passive data connection (Linux, `ip_unprivileged_port_start`).
pub(super) const UNPRIVILEGED: u16 = 1024;

/// A hole: data connections that do not come through, or not as clients may want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hole {
    /// A service keeps no client with its real server, and nobody reads what is announced.
    NotPersistent {
        /// The service.
        service: ServiceAddress,
    },
    /// Of the ports that get a service's mark none can be a passive one, and nobody reads what is announced.
    NoPassivePorts {
        /// The service.
        service: ServiceAddress,
    },
    /// A client was told of a passive port, or dialled it, and neither a service nor an entry takes it.
    UncoveredPort {
        /// The virtual address and the port.
        at: SocketAddr,
    },
    /// A real server announces the virtual address itself (`pasv_address`), and `ip_vs_ftp`, which takes what is announced
    /// for the real server, lets an entry wait that leads there.
    PasvAddressSet {
        /// The real server.
        real: IpAddr,
        /// Address that it announces.
        virtual_at: IpAddr,
    },
    /// Clients are told a real server's own address.
    RealAddressAnnounced {
        /// The real server.
        real: IpAddr,
        /// The virtual address.
        virtual_at: IpAddr,
    },
    /// No rule masquerades what a real server opens.
    ActiveNotMasqueraded {
        /// The real server.
        real: IpAddr,
    },
    /// Connections that real servers open leave from another address than the virtual one.
    ActiveFromAnotherAddress {
        /// The address it leaves from.
        leaves_as: IpAddr,
        /// The virtual address.
        virtual_at: IpAddr,
    },
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPersistent { service } => {
                write!(f, "service {service} has no persistence, and nobody reads what it carries: ")?;
                f.write_str("data connections meet any real server, or none")
            }
            Self::NoPassivePorts { service } => {
                write!(f, "service {service}: no passive port gets its mark, and nobody reads what it carries: ")?;
                f.write_str("passive data connections meet no real server")
            }
            Self::UncoveredPort { at } => write!(f, "passive port {at}: no service, mark or entry takes it"),
            Self::PasvAddressSet { real, virtual_at } => {
                write!(f, "{real} announces the virtual address {virtual_at} itself (pasv_address): ")?;
                f.write_str("ip_vs_ftp finds nothing to rewrite, and leads data connections to the director itself")
            }
            Self::RealAddressAnnounced { real, virtual_at } => {
                write!(f, "clients are told {real}, a real server's own address, and not {virtual_at}: ")?;
                f.write_str("nobody rewrote its reply")
            }
            Self::ActiveNotMasqueraded { real } => {
                write!(f, "active data of {real} leaves with its own address: no rule masquerades it")
            }
            Self::ActiveFromAnotherAddress { leaves_as, virtual_at } => {
                write!(f, "active data leaves from {leaves_as}, and not from the virtual address {virtual_at}")
            }
        }
    }
}

impl Hole {
    /// Returns the kind of hole as one word: `not_persistent` and so on.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotPersistent { .. } => "not_persistent",
            Self::NoPassivePorts { .. } => "no_passive_ports",
            Self::UncoveredPort { .. } => "uncovered_port",
            Self::PasvAddressSet { .. } => "pasv_address_set",
            Self::RealAddressAnnounced { .. } => "real_address_announced",
            Self::ActiveNotMasqueraded { .. } => "active_not_masqueraded",
            Self::ActiveFromAnotherAddress { .. } => "active_from_another_address",
        }
    }
}
