//! Tables, chains, matches and targets as data; firewall marks (ip_tables and its extensions).
//!
//! A [`Ruleset`] is what `iptables-save` says, built in code or read by [`crate::config`]. [`Rules`] is the same ready to
//! be asked: [`crate::router`] does, at each hook, in Netfilter's order.
//!
//! ```
//! use ftp_conntrack::netfilter::{Hook, Masked, Match, PortRange, Rule, Rules, Ruleset, TableName, Target};
//! use ftp_conntrack::packet::Protocol;
//!
//! // iptables -t mangle -A PREROUTING -p tcp --dport 21 -j MARK --set-mark 21
//! let mut ruleset = Ruleset::default();
//! let mark = Target::Mark(Masked { value: 21, mask: u32::MAX });
//! ruleset.append(TableName::Mangle, Hook::Prerouting, Rule::new(mark)
//!     .when(Match::Protocol(Protocol::TCP))
//!     .when(Match::DestinationPorts(vec![PortRange::one(21)])));
//!
//! let rules = Rules::new(&ruleset, &["lo", "eth0"])?;
//! assert!(rules.asks(TableName::Mangle) && !rules.asks(TableName::Filter));
//! # Ok::<(), ftp_conntrack::netfilter::RulesError>(())
//! ```

mod apply_target;
mod bucket;
mod calendar;
mod compiled;
mod connlimit;
mod context;
mod edit;
mod evaluate;
mod hashlimit;
mod ipset;
mod keyed;
mod match_test;
mod memory;
pub mod nft;
mod number;
mod recent;
mod rules;
mod rules_error;
mod sctp_chunks;
mod skipped;
mod text;
mod u32_match;

pub use crate::nat::{NatRange, PortRange};
pub use calendar::TimeMatch;
pub use compiled::Rules;
pub use connlimit::ConnlimitMatch;
pub use context::{EvalContext, HostInfo, RuleVerdict, Tracking, WayBack};
pub use edit::PacketEdit;
pub use hashlimit::HashlimitMatch;
pub use ipset::{Compared, IpSet, IpSetMatch, SetElement, SetPart, SetUpdate, SetValue};
pub use memory::{Chance, MemoryPlan, Outcome, RuleMemory, Stateful};
pub use number::{Counted, Number, NumberMatch};
pub use recent::{RecentAction, RecentMatch, RecentSizes};
pub use rules_error::RulesError;
pub use sctp_chunks::{ChunkMatch, WhichChunks};
pub use text::TextMatch;
pub use u32_match::{U32Step, U32Test};

#[cfg(feature = "config")]
pub(crate) use rules::is_known_helper;
pub use rules::{
    AddressMask, AddressTypes, Chain, Cidr, Condition, ConnmarkAction, Hook, Limit, Masked, Match, Origin, Policy,
    RejectWith, Rule, Ruleset, StateSet, Table, TableName, Target,
};
pub(crate) use skipped::{RawScope, SkippedTables};
