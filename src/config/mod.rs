//! Reads a router's own files, each as its own tool writes it: firewall rules, addresses, routes, virtual services, kernel
//! settings and modules, one by one or as a [`Directory`].
//!
//! ```
//! use ftp_conntrack::config::{parse_modules, parse_rules};
//! use ftp_conntrack::netfilter::{TableName, Target};
//! use ftp_conntrack::packet::Family;
//!
//! let text = "
//! *nat
//! :POSTROUTING ACCEPT [0:0]
//! -A POSTROUTING -o eth0 -j MASQUERADE
//! COMMIT
//! iptables -A FORWARD -m moon --phase full -j DROP
//! ";
//! let (rules, warnings) = parse_rules("rules.v4", text, Family::V4)?;
//! let rule = &rules.table(TableName::Nat).chain("POSTROUTING").unwrap().rules[0];
//! assert!(matches!(rule.target, Target::Masquerade(_)));
//! assert_eq!(warnings[0].word, "-m moon --phase full");
//!
//! let modules = parse_modules("modules", "options nf_conntrack_ftp ports=21,2121 loose=1")?;
//! assert_eq!(modules.ports("nf_conntrack_ftp"), [21, 2121]);
//!
//! let error = parse_rules("rules.v4", "iptables -A INPUT -i $EXT -j DROP", Family::V4).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "rules.v4:1: \"$EXT\" a variable has no value here; write the value itself, or save the rules with iptables-save > rules.v4"
//! );
//! # Ok::<(), ftp_conntrack::config::Error>(())
//! ```

mod addresses;
mod amend;
mod directory;
mod error;
mod icmp_names;
mod invocation;
mod ip_settings;
mod ipset;
mod ipvsadm;
mod json;
mod keepalived;
mod keepalived_text;
mod matches;
mod modules;
mod nat_range;
mod nft;
mod options;
mod policy;
mod protocol_names;
mod router;
mod routes;
mod rule;
mod rules;
mod sysctl;
mod targets;
mod undecided;
mod values;
mod words;

#[cfg(test)]
mod rules_tests;

pub use addresses::{AddressConfig, InterfaceConfig, Scope, parse_addresses};
pub use directory::{Directory, interface_of_capture};
pub use error::{Error, ErrorKind, Warning, WarningKind};
pub use ipset::parse_ipset;
pub use ipvsadm::parse_ipvs_rules;
pub use keepalived::{parse_keepalived, parse_keepalived_with};
pub use modules::{ModuleOption, Modules, parse_modules};
pub use nft::{parse_nft, parse_nft_json, parse_nft_with};
pub use policy::parse_policy;
pub use routes::{RouteConfig, RouteType, parse_routes};
pub use rules::parse_rules;
pub use sysctl::{Sysctl, parse_sysctl};
pub use undecided::undecided_words;
