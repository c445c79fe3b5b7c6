//! Reasons for invalid packets, in words.

use core::error::Error;
use core::fmt;

use super::{InvalidReason, TcpInvalid};

impl fmt::Display for InvalidReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "transport header cut short or contradictory",
            Self::Checksum => "wrong checksum",
            Self::Protocol => "message that fits no connection",
            Self::IcmpError => "ICMP error about an unknown connection or from a wrong sender",
            Self::Tcp(reason) => return reason.fmt(f),
        })
    }
}

impl Error for InvalidReason {}

impl fmt::Display for TcpInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "TCP flags that do not go together",
            Self::State => "TCP segment not allowed in this state",
            Self::Pickup => "TCP connection without its SYN, and nf_conntrack_tcp_loose is 0",
            Self::OldReset => "TCP reset older than what was acknowledged",
            Self::AboveWindow => "TCP segment beyond the receiver's window",
            Self::AcknowledgesUnsent => "TCP segment acknowledges data that was not sent",
        })
    }
}

impl Error for TcpInvalid {}
