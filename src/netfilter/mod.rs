//! Tables, chains, matches and targets as data; firewall marks.

mod evaluate;
mod rules;

pub use crate::nat::{NatRange, PortRange};
pub use evaluate::{Rules, RulesError, Subject, Tracking, Verdict};
pub use rules::{
    AddressTypes, Chain, Cidr, Condition, ConnmarkAction, Hook, Masked, Match, Origin, Policy, RejectWith, Rule,
    Ruleset, StateSet, Table, TableName, Target,
};
