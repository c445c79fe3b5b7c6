//! The key of a TCP connection, the same in both directions.

use core::net::SocketAddr;

/// Both ends, the lesser first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct FlowKey(SocketAddr, SocketAddr);

impl FlowKey {
    pub(super) fn of(a: SocketAddr, b: SocketAddr) -> Self {
        if a <= b { Self(a, b) } else { Self(b, a) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_one() {
        let [a, b]: [SocketAddr; 2] = ["10.0.0.1:21", "10.0.0.1:20"].map(|end| end.parse().unwrap());
        assert_eq!(FlowKey::of(a, b), FlowKey::of(b, a));
        assert_ne!(FlowKey::of(a, b), FlowKey::of(a, a));
    }
}
