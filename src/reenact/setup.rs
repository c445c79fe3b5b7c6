//! The machines and links between client and server.

use core::net::IpAddr;
use std::vec::Vec;

use crate::router::RouterConfig;

/// Maximum number of connections that a re-enactment's router tracks, unless its owner said less.
const CONNECTIONS: u32 = 4096;

/// The machines and links between client and server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// The router; without one, packets go straight to the address that they name.
    pub router: Option<RouterConfig>,
    /// The longest packet in bytes that the links beyond the router take; longer ones are lost, and nobody says so.
    pub path_mtu: Option<usize>,
}

impl Setup {
    /// Returns what lies between if it is this router, with tables as small as few sessions need.
    #[must_use]
    pub fn through(mut router: RouterConfig) -> Self {
        let limits = &mut router.conntrack.limits;
        limits.connections = limits.connections.min(CONNECTIONS);
        limits.expectations = limits.expectations.min(CONNECTIONS);
        limits.helped = limits.helped.min(CONNECTIONS);
        // Packets come as hosts send them, and hosts compute checksums.
        router.checksum = true;
        router.fragments = 2;
        Self { router: Some(router), path_mtu: None }
    }

    /// Returns the hosts that no script names: the real servers.
    pub(super) fn other_hosts(&self) -> Vec<IpAddr> {
        let balancer = self.router.as_ref().and_then(|router| router.ipvs.as_ref());
        let servers = balancer.into_iter().flat_map(|ipvs| &ipvs.services).flat_map(|service| &service.servers);
        servers.map(|server| server.address).collect()
    }
}

/// True for addresses that lead nowhere from outside (RFC 1918, RFC 6598, RFC 4193).
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
