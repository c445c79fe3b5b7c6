//! Reasons to refuse an announcement.

use core::fmt;
use core::net::IpAddr;

use super::setting::PolicySetting;
use crate::ftp::HostPortError;

/// The reason why an announcement was refused. The announcement leaves as one that the receiver refuses.
///
/// [`Display`](fmt::Display) names the [setting](Self::setting) of the policy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The announced address is not the sender's.
    ForeignAddress(IpAddr),
    /// The announced port is lower than the policy allows.
    LowPort(u16),
    /// The announcement cannot be read.
    Malformed(HostPortError),
    /// The server has not accepted the client's login.
    NotLoggedIn,
    /// The connection did not begin with an FTP command: a browser was made to send these lines (NAT slipstreaming).
    NotFtp,
    /// The client did not send PASV, EPSV or LPSV before this reply.
    Unasked,
    /// Other control connections expect every port that was tried.
    NoPort,
    /// The client's address has as many expectations as the policy allows.
    ClientFull,
    /// The table of expectations is full.
    TableFull,
}

impl RefusalReason {
    /// Returns the setting of [`Policy`](super::Policy) that decided, if one did.
    #[must_use]
    pub const fn setting(&self) -> Option<PolicySetting> {
        match self {
            Self::ForeignAddress(_) => Some(PolicySetting::AllowedThirdParties),
            Self::LowPort(_) => Some(PolicySetting::LowestPort),
            Self::NotLoggedIn | Self::NotFtp => Some(PolicySetting::RequireLogin),
            Self::ClientFull => Some(PolicySetting::MaxExpectationsPerClient),
            Self::Malformed(_) | Self::Unasked | Self::NoPort | Self::TableFull => None,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignAddress(address) => write!(f, "{address} is not the sender's address")?,
            Self::LowPort(port) => write!(f, "port {port} is too low")?,
            Self::Malformed(error) => write!(f, "malformed: {error}")?,
            Self::NotLoggedIn => f.write_str("the server has not accepted a login")?,
            Self::NotFtp => f.write_str("the connection did not begin with an FTP command")?,
            Self::Unasked => f.write_str("the client did not ask for it")?,
            Self::NoPort => f.write_str("other control connections expect every port that was tried")?,
            Self::ClientFull => f.write_str("the client's address has too many expectations")?,
            Self::TableFull => f.write_str("the table of expectations is full")?,
        }
        self.setting().map_or(Ok(()), |setting| write!(f, "; policy: {setting}"))
    }
}

impl core::error::Error for RefusalReason {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_refusal_names_the_setting_that_decided() {
        assert_eq!(RefusalReason::LowPort(22).to_string(), "port 22 is too low; policy: lowest_port");
        assert_eq!(RefusalReason::Unasked.to_string(), "the client did not ask for it");
    }
}
