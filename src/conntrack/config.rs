//! Configuration of the tracker.

use core::time::Duration;

use super::{SctpConfig, TcpConfig};

/// Configuration of a [`Conntrack`](super::Conntrack).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConntrackConfig {
    /// Maximum number of entries of each kind.
    pub limits: Limits,
    /// TCP.
    pub tcp: TcpConfig,
    /// SCTP.
    pub sctp: SctpConfig,
    /// Time that UDP, or UDP-Lite, is remembered before it goes both ways (`nf_conntrack_udp_timeout`).
    pub udp: Duration,
    /// Time that UDP is remembered once it goes both ways for some time (`nf_conntrack_udp_timeout_stream`).
    pub udp_stream: Duration,
    /// Time that GRE is remembered before it goes both ways (`nf_conntrack_gre_timeout`).
    pub gre: Duration,
    /// Time that GRE is remembered once it goes both ways (`nf_conntrack_gre_timeout_stream`).
    pub gre_stream: Duration,
    /// Time that an ICMP query is remembered (`nf_conntrack_icmp_timeout`).
    pub icmp: Duration,
    /// Time that an ICMPv6 query is remembered (`nf_conntrack_icmpv6_timeout`).
    pub icmpv6: Duration,
    /// Time that other protocols are remembered (`nf_conntrack_generic_timeout`).
    pub generic: Duration,
    /// True if the table's text shows packets and bytes (`nf_conntrack_acct`).
    pub accounting: bool,
}

impl Default for ConntrackConfig {
    /// The kernel's defaults.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            tcp: TcpConfig::default(),
            sctp: SctpConfig::default(),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(120),
            gre: Duration::from_secs(30),
            gre_stream: Duration::from_secs(180),
            icmp: Duration::from_secs(30),
            icmpv6: Duration::from_secs(30),
            generic: Duration::from_secs(600),
            accounting: false,
        }
    }
}

/// Maximum number of entries of each kind; memory for all of them is taken at construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections (`nf_conntrack_max`), about 300 bytes each.
    pub connections: u32,
    /// Expectations (`nf_conntrack_expect_max`), about 150 bytes each.
    pub expectations: u32,
    /// Connections that have a helper.
    pub helped: u32,
    /// Events that nobody has taken yet.
    pub events: usize,
}

impl Default for Limits {
    /// 65536 connections, of which 4096 can have a helper, with as many expectations; 256 events.
    fn default() -> Self {
        Self { connections: 65_536, expectations: 4_096, helped: 4_096, events: 256 }
    }
}

impl Limits {
    /// The default, with other numbers of connections, expectations and helped connections.
    #[must_use]
    pub fn new(connections: u32, expectations: u32, helped: u32) -> Self {
        Self { connections, expectations, helped, ..Self::default() }
    }
}
