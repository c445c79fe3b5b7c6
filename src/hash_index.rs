//! Hash chains through numbered nodes: the index of every table here.

use alloc::boxed::Box;
use alloc::vec;

const NONE: u32 = u32::MAX;
const UNLINKED: u32 = u32::MAX - 1;

/// Buckets of doubly linked nodes `0..capacity`, each with its hash, so that whoever looks something up touches the
/// things themselves only where the whole hash agrees. Nothing is allocated after construction.
#[derive(Debug)]
pub(crate) struct HashIndex {
    heads: Box<[Head]>,
    nodes: Box<[Node]>,
}

/// The first node of a bucket, and the upper half of its hash: nearly always it is the one that is looked for, and the
/// nodes themselves, which lie elsewhere, are not touched.
#[derive(Clone, Copy, Debug)]
struct Head {
    tag: u32,
    node: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    next: u32,
    /// [`UNLINKED`] where the node is in no chain.
    previous: u32,
}

impl HashIndex {
    /// At least one bucket a node.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            heads: vec![Head { tag: 0, node: NONE }; (capacity as usize).next_power_of_two()].into(),
            nodes: vec![Node { hash: 0, next: NONE, previous: UNLINKED }; capacity as usize].into(),
        }
    }

    /// Puts a node in front of its bucket; one that is in a chain already stays there.
    pub(crate) fn link(&mut self, node: u32, hash: u64) {
        if self.nodes[node as usize].previous != UNLINKED {
            return;
        }
        let bucket = self.bucket(hash);
        let head = self.heads[bucket].node;
        self.nodes[node as usize] = Node { hash, next: head, previous: NONE };
        if head != NONE {
            self.nodes[head as usize].previous = node;
        }
        self.heads[bucket] = Head { tag: tag(hash), node };
    }

    /// Takes a node out of its chain, if it is in one.
    pub(crate) fn unlink(&mut self, node: u32) {
        let Node { hash, next, previous } = self.nodes[node as usize];
        match previous {
            UNLINKED => return,
            NONE => {
                let bucket = self.bucket(hash);
                let hash = self.nodes.get(next as usize).map_or(0, |node| node.hash);
                self.heads[bucket] = Head { tag: tag(hash), node: next };
            }
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[node as usize].previous = UNLINKED;
    }

    /// The newest node of a hash's bucket, if its hash resembles this one.
    #[inline(always)]
    pub(crate) fn newest(&self, hash: u64) -> Option<u32> {
        let Head { tag: newest, node } = self.heads[self.bucket(hash)];
        (newest == tag(hash) && node != NONE).then_some(node)
    }

    /// The nodes with this hash, newest first.
    #[inline]
    pub(crate) fn with_hash(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.walk(self.heads[self.bucket(hash)].node).filter(move |node| self.nodes[*node as usize].hash == hash)
    }

    /// The nodes of the bucket `distance` behind that of `hash`.
    pub(crate) fn near(&self, hash: u64, distance: usize) -> impl Iterator<Item = u32> {
        self.walk(self.heads[(self.bucket(hash) + distance) % self.heads.len()].node)
    }

    /// Returns the length of the longest bucket. Looks at all of them.
    pub(crate) fn longest(&self) -> usize {
        self.heads.iter().map(|head| self.walk(head.node).count()).max().unwrap_or(0)
    }

    #[inline]
    fn walk(&self, head: u32) -> impl Iterator<Item = u32> {
        let mut node = head;
        core::iter::from_fn(move || {
            let here = (node != NONE).then_some(node)?;
            node = self.nodes[here as usize].next;
            Some(here)
        })
    }

    #[inline]
    const fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }
}

#[inline(always)]
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0u32..8, any::<bool>(), 0u64..4), 1..100)) {
            // Two buckets, and in each two hashes that differ where heads are told apart.
            let spread = |hash: u64| (hash & 1) | hash >> 1 << 63;
            let mut chains = HashIndex::new(8);
            let mut model: Vec<(u32, u64)> = Vec::new();
            for (node, link, hash) in steps {
                let hash = spread(hash);
                if link {
                    chains.link(node, hash);
                    if !model.iter().any(|(n, _)| *n == node) {
                        model.insert(0, (node, hash));
                    }
                } else {
                    chains.unlink(node);
                    model.retain(|(n, _)| *n != node);
                }
                for hash in (0..4).map(spread) {
                    let expected: Vec<u32> = model.iter().filter(|(_, h)| *h == hash).map(|(n, _)| *n).collect();
                    let newest = model.iter().find(|(_, h)| h & 7 == hash & 7);
                    let expected_newest = newest.filter(|(_, h)| *h == hash).map(|(n, _)| *n);
                    prop_assert_eq!(chains.newest(hash), expected_newest);
                    prop_assert_eq!(chains.with_hash(hash).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
