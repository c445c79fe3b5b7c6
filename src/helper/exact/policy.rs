//! The limits on announcements.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

/// Limits on announcements under [`Behaviour::Exact`](crate::Behaviour::Exact). Linux has only the last one of
/// [`HelperConfig::loose`](crate::helper::HelperConfig::loose).
///
/// [`set`](Self::set) changes a setting by its name, as the tools do.
///
/// ```
/// use ftp_conntrack::helper::Policy;
///
/// let mut policy = Policy::default();
/// policy.set("allowed_third_parties", "192.0.2.0/24, 2001:db8::7")?;
/// policy.lowest_port = 20_000;
/// # Ok::<(), ftp_conntrack::helper::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The lowest port that may be announced. Data connections must not reach servers, which listen below 1024 (RFC 2577
    /// section 3).
    pub lowest_port: u16,
    /// True if announcements before the server's 230 are refused. Text that a browser was made to send to port 21 is not an
    /// FTP session (NAT slipstreaming).
    pub require_login: bool,
    /// Addresses that may be announced although they are not the sender's, for transfers between two servers (FXP). `None`:
    /// all if the helper is [loose](crate::helper::HelperConfig::loose), else none (RFC 2577 section 3, the bounce attack).
    pub allowed_third_parties: Option<Vec<RangeInclusive<IpAddr>>>,
    /// True if an address in a 227 or 228 reply that clients cannot reach is replaced by the one that the client dialled.
    /// Servers behind a NAT of their own often announce their private address. False: replies with another address are
    /// refused.
    ///
    /// A reply with one of the [`allowed_third_parties`](Self::allowed_third_parties) passes unchanged. So does one that names
    /// another server, if the server is not behind DNAT and both addresses are private, or both are not: front ends do that.
    /// Then nothing is expected, and the rules decide about the data connection.
    pub rewrite_foreign_pasv: bool,
    /// Maximum number of expectations of one control connection. Beyond it, the oldest expectation is forgotten.
    pub max_expectations: u8,
    /// Maximum number of expectations of all control connections from one client address. Beyond it, announcements are
    /// refused.
    pub max_expectations_per_client: u16,
    /// Ports on which servers listen for the data connections of sessions in TLS (RFC 4217), whose announcements cannot be
    /// read. The client may connect to them on its server while the control connection lives. `None`: the rules decide.
    pub tls_passive_ports: Option<RangeInclusive<u16>>,
    /// Maximum size of a learnt range of [`tls_passive_ports`](Self::tls_passive_ports), where none are declared; 1000, say.
    ///
    /// Once a control connection switches to TLS, its client may connect to any port between the lowest and the highest port
    /// that the server announced during the last 24 hours. Only readable, accepted announcements count. Ports in between are
    /// open to these clients too, whatever listens there. A wider range is not opened. `None`: nothing is learnt.
    pub learn_tls_passive_ports: Option<u16>,
}

impl Default for Policy {
    /// Ports from 1024, after login, the sender's address only, foreign 227 rewritten, 8 expectations, 64 a client.
    fn default() -> Self {
        Self {
            lowest_port: 1024,
            require_login: true,
            allowed_third_parties: None,
            rewrite_foreign_pasv: true,
            max_expectations: 8,
            max_expectations_per_client: 64,
            tls_passive_ports: None,
            learn_tls_passive_ports: None,
        }
    }
}

impl Policy {
    /// True if `address`, which is not the sender's, may be announced.
    pub(super) fn allows_third_party(&self, address: IpAddr, is_loose: bool) -> bool {
        match &self.allowed_third_parties {
            Some(allowed) => allowed.iter().any(|range| range.contains(&address)),
            None => is_loose,
        }
    }
}
