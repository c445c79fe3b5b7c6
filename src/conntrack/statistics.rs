//! Counters.

use core::fmt::{self, Write};

use super::Conntrack;

/// Counters since construction, under the names of `/proc/net/stat/nf_conntrack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Packets that no tracker could make sense of.
    pub invalid: u64,
    /// Connections that were not confirmed because their tuple was taken.
    pub insert_failed: u64,
    /// Packets dropped for want of room.
    pub drop: u64,
    /// Connections given up to make room.
    pub early_drop: u64,
    /// ICMP errors that belong to no connection.
    pub icmp_error: u64,
    /// Connections that were expected.
    pub expect_new: u64,
    /// Expectations registered.
    pub expect_create: u64,
    /// Expectations removed, met or not.
    pub expect_delete: u64,
}

impl Conntrack {
    /// Returns the counters.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Writes the counters as `/proc/net/stat/nf_conntrack` shows them for one processor. Columns that current kernels
    /// do not count are zero.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc_statistics(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str(
            "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
             icmp_error  expect_new expect_create expect_delete search_restart\n",
        )?;
        let Statistics { invalid, insert_failed, drop, early_drop, icmp_error, .. } = self.statistics;
        let Statistics { expect_new, expect_create, expect_delete, .. } = self.statistics;
        let connections = [0, 0, 0, invalid, 0, 0, 0, 0, insert_failed, drop, early_drop, icmp_error];
        write!(out, "{:08x} ", self.len())?;
        connections.iter().try_for_each(|count| write!(out, " {:08x}", *count as u32))?;
        out.write_char(' ')?;
        let expectations = [expect_new, expect_create, expect_delete, 0];
        expectations.iter().try_for_each(|count| write!(out, " {:08x}", *count as u32))?;
        out.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::ConntrackConfig;

    #[test]
    fn the_text_is_the_kernels() {
        let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
        conntrack.statistics.expect_create = 4;
        conntrack.statistics.expect_delete = 3;
        let mut text = alloc::string::String::new();
        conntrack.write_proc_statistics(&mut text).unwrap();
        // As 6.18 printed them, but for one entry.
        let expected = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop \
                        early_drop icmp_error  expect_new expect_create expect_delete search_restart\n\
                        00000000  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
                        00000000 00000000 00000000  00000000 00000004 00000003 00000000\n";
        assert_eq!(text, expected);
    }
}
