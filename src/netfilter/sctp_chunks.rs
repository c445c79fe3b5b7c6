//! `-m sctp --chunk-types`: the chunks of an SCTP packet (RFC 9260 section 3).

use alloc::vec::Vec;

/// Which chunks a packet has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct ChunkMatch {
    /// Number of chunks that must match.
    pub which: WhichChunks,
    /// The types.
    pub types: [u64; 4],
    /// For types whose flags count: the type, the flags that are looked at, and their values.
    pub flags: Vec<(u8, u8, u8)>,
}

/// The number of chunks that must be of the types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum WhichChunks {
    /// Each type is there.
    All,
    /// One of the types is there.
    Any,
    /// No chunk is of another type.
    Only,
}

impl ChunkMatch {
    /// Asks about the chunks of a packet; `None` where they cannot be read.
    pub(super) fn holds(&self, mut chunks: &[u8]) -> Option<bool> {
        let has = |set: &[u64; 4], kind: u8| set[usize::from(kind >> 6)] >> (kind & 63) & 1 != 0;
        let mut missing = self.types;
        let mut is_first = true;
        while !chunks.is_empty() {
            let [kind, flags, high, low] = *chunks.first_chunk()?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length == 0 {
                return None;
            }
            is_first = false;
            let flags_fit =
                self.flags.iter().find(|(of, ..)| *of == kind).is_none_or(|(_, mask, value)| flags & mask == *value);
            let fits = has(&self.types, kind) && flags_fit;
            match self.which {
                WhichChunks::Any if fits => return Some(true),
                WhichChunks::Only if !fits => return Some(false),
                WhichChunks::All if fits => missing[usize::from(kind >> 6)] &= !(1 << (kind & 63)),
                _ => {}
            }
            chunks = chunks.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if is_first {
            return None;
        }
        Some(match self.which {
            WhichChunks::Any => false,
            WhichChunks::Only => true,
            WhichChunks::All => missing == [0; 4],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_all_or_some_or_only_of_the_types() {
        // INIT (1) and DATA (0) with flag B (2).
        let chunks = [1, 0, 0, 4, 0, 2, 0, 5, 9, 0, 0, 0];
        let ask = |which, types: u64, flags: &[(u8, u8, u8)]| {
            ChunkMatch { which, types: [types, 0, 0, 0], flags: flags.to_vec() }.holds(&chunks)
        };
        assert_eq!(ask(WhichChunks::All, 0b11, &[]), Some(true));
        assert_eq!(ask(WhichChunks::All, 0b111, &[]), Some(false));
        assert_eq!(ask(WhichChunks::Any, 0b110, &[]), Some(true));
        assert_eq!(ask(WhichChunks::Only, 0b10, &[]), Some(false));
        assert_eq!(ask(WhichChunks::Only, 0b11, &[(0, 2, 2)]), Some(true));
        assert_eq!(ask(WhichChunks::Any, 0b1, &[(0, 2, 0)]), Some(false));
    }
}
