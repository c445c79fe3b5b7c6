//! Packets.

mod protocol;
pub use protocol::{Family, Protocol};
