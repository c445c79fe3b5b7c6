//! FTP through NAT, firewalls and load balancers, as the Linux kernel does it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod sequence;
mod time;

pub mod ftp;
#[cfg(feature = "alloc")]
pub mod netfilter;
pub mod packet;
#[cfg(feature = "capture")]
pub mod capture;
#[cfg(feature = "config")]
pub mod config;

pub use sequence::SequenceNumber;
pub use time::Instant;
