//! FTP through NAT, firewalls and load balancers, as the Linux kernel does it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "alloc")]
mod chains;
#[cfg(feature = "alloc")]
mod hash;
mod sequence;
mod time;
#[cfg(feature = "alloc")]
mod wheel;

#[cfg(feature = "capture")]
pub mod capture;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "alloc")]
pub mod conntrack;
#[cfg(feature = "alloc")]
pub mod event;
pub mod ftp;
#[cfg(feature = "alloc")]
pub mod helper;
#[cfg(feature = "alloc")]
pub mod nat;
#[cfg(feature = "alloc")]
pub mod netfilter;
pub mod packet;
#[cfg(all(feature = "capture", feature = "config"))]
pub mod replay;
#[cfg(feature = "alloc")]
pub mod router;
pub mod seqadj;

pub use sequence::SequenceNumber;
pub use time::Instant;
