//! Tables, chains, matches and targets as data; firewall marks.

mod rules;
pub use rules::{
    AddressTypes, Chain, Cidr, Condition, ConnmarkAction, Hook, Masked, Match, NatRange, Origin, Policy, PortRange,
    RejectWith, Rule, Ruleset, StateSet, Table, TableName, Target,
};
