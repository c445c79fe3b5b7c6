//! Rules that cannot be made ready.

use alloc::string::String;
use core::fmt;

use super::compiled::MAX_DEPTH;
use super::rules::{Hook, Origin, TableName};

/// Rules that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// A rule calls a chain that is not there.
    NoChain {
        /// The table.
        table: TableName,
        /// The chain that was called.
        chain: String,
        /// File and line.
        origin: Option<Origin>,
    },
    /// A rule of nftables names a chain, a set or an object that is not there.
    NftMissing {
        /// The family and name of the table.
        table: String,
        /// Part of the ruleset that is missing.
        what: String,
        /// File and line.
        origin: Option<Origin>,
    },
    /// A built-in chain was named that its table has not.
    NoBuiltInChain {
        /// The table.
        table: TableName,
        /// The hook that calls the chain.
        hook: Hook,
    },
    /// A rule, or an object of nftables, attaches a helper that no kernel has.
    UnknownHelper {
        /// The name of the helper.
        helper: String,
        /// File and line.
        origin: Option<Origin>,
    },
    /// Chains of nftables call each other in a circle, or too deep.
    NftLoop {
        /// The family and name of the table.
        table: String,
        /// The chain at which it was noticed.
        chain: String,
    },
    /// Chains call each other in a circle, or too deep.
    Loop {
        /// The table.
        table: TableName,
        /// The chain at which it was noticed.
        chain: String,
    },
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain { table, chain, origin } => {
                if let Some(origin) = origin {
                    write!(f, "{origin}: ")?;
                }
                write!(f, "no chain {chain} in table {}", table.name())
            }
            Self::NftMissing { table, what, origin } => {
                if let Some(origin) = origin {
                    write!(f, "{origin}: ")?;
                }
                write!(f, "no {what} in table {table}")
            }
            Self::NoBuiltInChain { table, hook } => {
                let names = table.hooks().iter().map(|hook| hook.chain_name());
                write!(f, "table {} has no chain {}, only", table.name(), hook.chain_name())?;
                names.enumerate().try_for_each(|(i, name)| write!(f, "{} {name}", if i == 0 { "" } else { "," }))
            }
            Self::UnknownHelper { helper, origin } => {
                if let Some(origin) = origin {
                    write!(f, "{origin}: ")?;
                }
                write!(f, "no helper is called {helper}: the one of FTP is ftp")
            }
            Self::NftLoop { table, chain } => {
                write!(f, "chain {chain} in table {table} calls itself, or too many others")
            }
            Self::Loop { table, chain } => {
                write!(f, "chain {chain} in table {} calls itself, or more than {MAX_DEPTH} others", table.name())
            }
        }
    }
}

impl core::error::Error for RulesError {}
