//! Tables of nftables as data, and how they are asked (nf_tables).
//!
//! [`NftRuleset`] is what `nft list ruleset` says, built in code or read by `config`. [`Nft`] is the same ready to be
//! asked; [`Rules`](super::Rules) asks its chains in the order of their priorities, with iptables' tables between them.
//!
//! ```
//! use ftp_conntrack::netfilter::nft::{
//!     Base, ChainKind, CtKey, Expression, Nft, NftChain, NftRule, NftRuleset, NftTable, NftVerdict, Operator, Span, Statement,
//!     TableFamily,
//! };
//! use ftp_conntrack::netfilter::{Hook, Policy};
//!
//! // ct state established,related accept
//! let known = Statement::Match {
//!     left: Expression::Ct(CtKey::State),
//!     operator: Operator::AnyBit,
//!     right: vec![Span::one(2 | 4)],
//! };
//! let rule = NftRule { statements: vec![known, Statement::Verdict(NftVerdict::Accept)], origin: None };
//! let base = Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
//! let mut table = NftTable::new(TableFamily::Inet, "edge");
//! table.chains.push(NftChain { name: "forward".into(), base: Some(base), rules: vec![rule] });
//! let nft = Nft::new(&NftRuleset { tables: vec![table] }, &["lan", "wan"])?;
//! # Ok::<(), ftp_conntrack::netfilter::RulesError>(())
//! ```

mod compile;
mod dynamic;
mod evaluate;
mod foretell;
mod lookup;
mod model;
mod slots;
mod state;

pub use compile::Nft;
pub use model::{
    Base, ChainKind, CtKey, Data, Element, Expression, FibInterface, FibResult, Header, MetaKey, Meter, NatKind,
    NatStatement, NatValue, NftChain, NftRule, NftRuleset, NftSet, NftTable, NftVerdict, ObjectRef, Operator,
    SetAction, SetRef, Span, Statement, TableFamily,
};
pub(crate) use slots::Entry;
pub use state::NftState;
