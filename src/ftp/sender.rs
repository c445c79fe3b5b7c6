//! The sides of a control connection.

/// A side of the control connection.
///
/// The client is the side that opened it (conntrack's ORIGINAL direction), the server the side that took it (REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sender {
    /// The side that opened the control connection; it sends commands.
    Client,
    /// The side that accepted it; it sends replies.
    Server,
}

impl Sender {
    /// The one who listens while this one speaks.
    #[inline]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_of_the_other_is_oneself() {
        assert_eq!(Sender::Client.other(), Sender::Server);
        assert_eq!(Sender::Server.other(), Sender::Client);
    }
}
