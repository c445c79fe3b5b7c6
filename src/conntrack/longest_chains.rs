//! Lengths of the hash tables' longest chains.

use super::Conntrack;

/// Number of entries in the fullest bucket of each hash table: what the slowest look-up passes by. Where nobody can
/// guess the key of the tables, this stays as small as chance has it, whatever tuples come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongestChains {
    /// Connections, each by both its tuples.
    pub connections: usize,
    /// Connections by their source, which those of one address and port share by nature.
    pub sources: usize,
    /// Expectations.
    pub expectations: usize,
    /// Expectations by the client of their control connections, which its own share by nature.
    pub hosts: usize,
}

impl Conntrack {
    /// The longest chains of its tables. It looks at all that is in them: for whoever watches a router, not for each
    /// packet.
    ///
    /// ```
    /// use ftp_conntrack::conntrack::{ConntrackConfig, Conntrack};
    ///
    /// let conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
    /// assert_eq!(conntrack.longest_chains().connections, 0);
    /// ```
    #[must_use]
    pub fn longest_chains(&self) -> LongestChains {
        let [connections, sources] = self.table.longest_chains();
        let [expectations, hosts] = self.expectations.longest_chains();
        LongestChains { connections, sources, expectations, hosts }
    }
}
