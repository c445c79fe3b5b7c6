//! Random choices.

use crate::hash::Key;

/// Random numbers that nobody on the network can foretell, and that the same key gives again: SipHash of a counter.
///
/// Linux chooses ports at random only after the port that was asked for turned out to be taken. A replay knows what the
/// kernel chose, and suggests it.
#[derive(Debug)]
pub(crate) struct PortChooser {
    key: [u64; 2],
    counter: u64,
    suggestion: Option<ForcedPort>,
    followed: u64,
}

/// A random choice that another machine made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(all(feature = "capture", feature = "config")), allow(dead_code, unreachable_pub))]
pub enum ForcedPort {
    /// This port.
    Port(u16),
    /// Whatever was tried was taken: nothing left.
    Taken,
}

impl PortChooser {
    /// Returns a chooser whose choices this key determines.
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self { key, counter: 0, suggestion: None, followed: 0 }
    }

    /// Forces the next random choice of a port; a port out of range or in use is ignored.
    #[cfg(any(test, all(feature = "capture", feature = "config")))]
    pub(crate) const fn suggest(&mut self, suggestion: Option<ForcedPort>) {
        self.suggestion = suggestion;
    }

    /// Returns the number of suggestions that were followed.
    pub(crate) const fn followed(&self) -> u64 {
        self.followed
    }

    /// A number below `bound`; 0 when there is none.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.counter = self.counter.wrapping_add(1);
        let random = Key::new(self.key).hash([self.counter]) >> 32;
        ((random * u64::from(bound)) >> 32) as u32
    }

    /// A port that is `first` plus a number below `size`: the suggestion, if `suits` it, or any.
    pub(crate) fn port(&mut self, first: u16, size: u32, suits: impl Fn(u16) -> bool) -> u16 {
        match self.suggestion {
            Some(ForcedPort::Port(port)) if port >= first && u32::from(port - first) < size && suits(port) => {
                self.suggestion = None;
                self.followed += 1;
                return port;
            }
            // The first candidate is as good as any that is taken.
            Some(ForcedPort::Taken) if !suits(first) => return first,
            _ => {}
        }
        first.wrapping_add(self.below(size) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_choices_and_all_of_them() {
        let (mut a, mut b) = (PortChooser::new([1, 2]), PortChooser::new([1, 2]));
        let mut seen = [false; 10];
        for _ in 0..500 {
            let chosen = a.port(40_000, 10, |_| true);
            assert_eq!(chosen, b.port(40_000, 10, |_| true));
            seen[usize::from(chosen - 40_000)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn a_suggestion_is_followed_once_and_only_where_it_may_be() {
        let mut choices = PortChooser::new([1, 2]);
        choices.suggest(Some(ForcedPort::Port(40_009)));
        assert_ne!(choices.port(40_000, 9, |_| true), 40_009);
        assert!((40_000..40_010).contains(&choices.port(40_000, 10, |_| false)));
        assert_eq!(choices.followed(), 0);
        assert_eq!(choices.port(40_000, 10, |_| true), 40_009);
        assert_eq!(choices.followed(), 1);
        choices.suggest(Some(ForcedPort::Taken));
        assert_eq!(choices.port(40_000, 10, |_| false), 40_000);
    }
}
