//! FTP through NAT, firewalls and load balancers, as the Linux kernel does it: what `nf_conntrack_ftp` and
//! `nf_nat_ftp` do, together with the connection tracking, NAT, rules and routing that they live in, as a library
//! that is handed packets.
//!
//! FTP speaks of addresses in its text. A client says `PORT 192,168,0,239,12,13` or a server `227 Entering Passive Mode
//! (192,168,0,18,48,196)`, and a second TCP connection is opened to that address and port, often from the other side. A
//! firewall that lets only port 21 in drops it; NAT makes the address wrong. So something on the path has to read the
//! control connection, expect the data connection and rewrite the text. From then on it has to shift every sequence and
//! acknowledgement number by as many bytes as the text grew.
//!
//! No sockets, no threads, no clock and no random source: time and randomness come in as arguments, packets as bytes
//! with room around them, verdicts and events go out. The same packets, at the same times, with the same seeds, give
//! the same bytes.
//!
//! # Layers
//!
//! Each is public and useful alone, and uses only those above it in this table.
//!
//! | layer | knows | in Linux | needs |
//! |---|---|---|---|
//! | [`packet`] | where headers are; changing addresses, numbers and text with every checksum | skb | core |
//! | [`ftp`] | FTP text, and what an announcement means | the helper's parsers | core |
//! | [`seqadj`] | by how much a stream has shifted where | `nf_conntrack_seqadj` | core |
//! | [`conntrack`] | connections, TCP states and windows, expectations, timeouts | `nf_conntrack` | `alloc` |
//! | [`nat`] | which address and port a connection gets | `nf_nat` | `alloc` |
//! | [`helper`] | carries [`ftp`]'s decision out on a tracked connection | `nf_conntrack_ftp`, `nf_nat_ftp` | `alloc` |
//! | [`netfilter`] | tables, chains, matches, targets; firewall marks | ip_tables, xt_* | `alloc` |
//! | [`ipvs`] | virtual services, real servers, connection entries, FTP among them | `ip_vs`, `ip_vs_ftp` | `alloc` |
//! | [`router`] | the order in which a packet meets all of these | the hooks | `alloc` |
//! | [`phy`] | a router as a device of smoltcp's stack | – | `smoltcp` |
//! | [`config`] | a router's own files: iptables-save, `ip -j addr`, sysctl | – | `config` |
//! | [`capture`] | pcap and pcapng | – | `capture` |
//! | [`inspect`] | the FTP story of any capture, by looking on | – | `capture` |
//! | [`masquerade`] | what the other side of a router would have seen | – | `std`; for captures `capture` |
//! | [`replay`] | a capture through a router, compared with what the capture shows leaving | – | both |
//! | [`reenact`] | a session spoken again through a router with another configuration, by two TCP stacks | – | `explain` |
//! | [`explain`] | why a session fails, and what to change: from views of it and the router's files | – | `explain` |
//!
//! Beside them, [`event`] tells what happened, as data.
//!
//! # A router in one process
//!
//! [`router::Router`] is all of it; its documentation has the shortest complete example. An intrusion detection system
//! takes [`conntrack`] without [`nat`]; whoever has a tracker of their own takes [`ftp`] and [`seqadj`].
//!
//! # Two behaviours
//!
//! [`Behaviour::Linux`], the default, is the kernel to the byte; [`Behaviour::Exact`] is what FTP needs. [`helper`] has
//! the page that tells where they differ. They differ in how lines are read and what is held back, in what is
//! remembered of a stream's shifts, and in what an announcement may open, and nowhere else.
//!
//! # Features
//!
//! `default = ["std", "config", "capture"]`, so that the tools run as typed. An embedder writes `default-features =
//! false`, which needs only core, and adds `alloc` for the layers that keep tables. A feature adds API and never
//! changes behaviour.
//!
//! # Promises
//!
//! No `unsafe`, and no panic whatever the bytes. Memory is bounded and taken at construction; processing a packet
//! allocates nothing. No step costs more because there are more connections, expectations or ports taken.
#![no_std]
#![forbid(unsafe_code)]
// Says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// The table of layers links to `phy`, too.
#![cfg_attr(not(feature = "smoltcp"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

/// Fails in debug builds, for fuzzers and tests to notice; in others the caller goes on with what it has.
#[cfg(feature = "alloc")]
macro_rules! cannot_happen {
    ($what:literal) => {
        debug_assert!(false, $what)
    };
}

mod behaviour;
#[cfg(feature = "alloc")]
mod hash;
#[cfg(feature = "alloc")]
mod hash_index;
mod sequence;
mod time;
#[cfg(feature = "alloc")]
mod timer_wheel;

#[cfg(feature = "capture")]
pub mod capture;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "alloc")]
pub mod conntrack;
#[cfg(feature = "alloc")]
pub mod event;
#[cfg(feature = "explain")]
pub mod explain;
pub mod ftp;
#[cfg(feature = "alloc")]
pub mod helper;
#[cfg(feature = "capture")]
pub mod inspect;
#[cfg(feature = "alloc")]
pub mod ipvs;
#[cfg(feature = "std")]
pub mod masquerade;
#[cfg(feature = "alloc")]
pub mod nat;
#[cfg(feature = "alloc")]
pub mod netfilter;
pub mod packet;
#[cfg(feature = "smoltcp")]
pub mod phy;
#[cfg(feature = "explain")]
pub mod reenact;
#[cfg(all(feature = "capture", feature = "config"))]
pub mod replay;
#[cfg(feature = "alloc")]
pub mod router;
pub mod seqadj;

/// The README's example compiles.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use behaviour::Behaviour;
pub use sequence::SequenceNumber;
pub use time::Instant;
#[cfg(feature = "alloc")]
use time::Micros;
