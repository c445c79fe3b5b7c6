//! `-m string`: a text in a packet.

use alloc::boxed::Box;
use alloc::vec;

/// A text that is looked for in a packet. Offsets count from the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMatch {
    pattern: Box<[u8]>,
    /// For each byte of the pattern, how many bytes before it are the pattern's first ones too (Knuth, Morris and Pratt).
    borders: Box<[usize]>,
    ignores_case: bool,
    from: u16,
    to: u16,
}

impl TextMatch {
    /// A text to be looked for between two offsets; `ignores_case` for `--icase`.
    #[must_use]
    pub fn new(pattern: &[u8], ignores_case: bool, from: u16, to: u16) -> Self {
        let fold = |byte: &u8| if ignores_case { byte.to_ascii_lowercase() } else { *byte };
        let pattern: Box<[u8]> = pattern.iter().map(fold).collect();
        let mut borders = vec![0; pattern.len()];
        let mut length = 0;
        for at in 1..pattern.len() {
            while length > 0 && pattern[at] != pattern[length] {
                length = borders[length - 1];
            }
            if pattern[at] == pattern[length] {
                length += 1;
            }
            borders[at] = length;
        }
        Self { pattern, borders: borders.into(), ignores_case, from, to }
    }

    /// Returns true if the text stands between the two offsets: the second one is that after its last byte.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let from = usize::from(self.from);
        let mut length = 0;
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            let byte = if self.ignores_case { byte.to_ascii_lowercase() } else { *byte };
            while length > 0 && self.pattern.get(length) != Some(&byte) {
                length = self.borders.get(length - 1).copied().unwrap_or(0);
            }
            if self.pattern.get(length) == Some(&byte) {
                length += 1;
            }
            if length == self.pattern.len() {
                return at < usize::from(self.to);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_found_in_either_case_between_offsets() {
        assert!(TextMatch::new(b"PORT", false, 0, 100).is_in(b"xxPORT"));
        assert!(!TextMatch::new(b"PORT", false, 0, 100).is_in(b"xxPoRT"));
        assert!(TextMatch::new(b"pOrt", true, 2, 100).is_in(b"xxPoRT"));
        assert!(!TextMatch::new(b"PORT", false, 3, 100).is_in(b"xxPORT"));
        assert!(!TextMatch::new(b"PORT", false, 0, 5).is_in(b"xxPORT"));
        assert!(TextMatch::new(b"PORT", false, 0, 6).is_in(b"xxPORT"));
    }

    proptest! {
        #[test]
        fn a_text_is_found_where_a_window_has_it(
            pattern in prop::collection::vec(0u8..3, 1..6),
            bytes in prop::collection::vec(0u8..3, 0..60),
        ) {
            let has = bytes.windows(pattern.len()).any(|window| window == pattern);
            prop_assert_eq!(TextMatch::new(&pattern, false, 0, u16::MAX).is_in(&bytes), has);
        }
    }
}
