//! Ranges of addresses and ports for NAT.

use core::net::IpAddr;

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// Just one port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Returns true if `port` is in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Addresses and ports that NAT may choose for one end of a connection (`nf_nat_range2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct NatRange {
    /// Lowest and highest address; absent where only ports are given.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The ports; absent where the port may stay.
    pub ports: Option<PortRange>,
    /// `--random`, `--random-fully`: the port is chosen at random even when the old one is free.
    pub random: bool,
    /// `--persistent`: a client's address alone decides which address of a range it gets.
    pub persistent: bool,
    /// `--to-destination ADDRESS:FIRST-LAST/BASE`: ports keep their distance from this one.
    pub base_port: Option<u16>,
}

impl NatRange {
    /// One address, any port.
    #[must_use]
    pub const fn to_address(address: IpAddr) -> Self {
        Self { addresses: Some((address, address)), ports: None, random: false, persistent: false, base_port: None }
    }

    /// One address and one port.
    #[must_use]
    pub const fn to_endpoint(address: IpAddr, port: u16) -> Self {
        Self { ports: Some(PortRange::one(port)), ..Self::to_address(address) }
    }

    /// Returns true if an address and port lie in the range.
    pub(super) fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.addresses.is_none_or(|(first, last)| super::lies_between(address, first, last))
            && self.ports.is_none_or(|ports| ports.contains(port))
    }
}
