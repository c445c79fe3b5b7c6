//! Sets as they are asked: the cost of a lookup grows with the logarithm of their size.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::model::{Element, Span};

/// The keys of a set, ordered for lookups.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// Spans of one part that do not overlap, in order, each with the number of its element.
    Spans(Box<[(Span, u32)]>),
    /// Keys of several parts without spans, in order.
    Points(Box<[(Box<[u128]>, u32)]>),
    /// Keys of several parts, or spans that overlap.
    Tree(Option<Tree>),
}

/// A segment tree over one part of the keys. Each node holds the keys whose spans it covers; their other parts form a tree
/// again.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// First value of each segment.
    bounds: Box<[u128]>,
    nodes: Box<[Option<Node>]>,
}

#[derive(Clone, Debug)]
enum Node {
    Element(u32),
    Next(Box<Tree>),
}

impl Lookup {
    pub(super) fn new(elements: &[Element]) -> Self {
        let numbered = || elements.iter().zip(0u32..);
        if elements.iter().all(|element| element.key.len() == 1) {
            let mut spans: Vec<(Span, u32)> =
                numbered().filter_map(|(element, number)| Some((*element.key.first()?, number))).collect();
            spans.sort_unstable();
            if spans.windows(2).all(|pair| matches!(pair, [a, b] if a.0.last < b.0.first)) {
                return Self::Spans(spans.into());
            }
        } else if elements.iter().all(|element| element.key.iter().all(|span| span.first == span.last)) {
            let key = |element: &Element| element.key.iter().map(|span| span.first).collect::<Box<[u128]>>();
            let mut points: Vec<_> = numbered().map(|(element, number)| (key(element), number)).collect();
            points.sort_unstable();
            return Self::Points(points.into());
        }
        let keys: Vec<(&[Span], u32)> = numbered().map(|(element, number)| (&*element.key, number)).collect();
        Self::Tree(Tree::new(&keys))
    }

    /// Returns the number of the element that has a key.
    #[inline]
    pub(super) fn find(&self, key: &[u128]) -> Option<u32> {
        match self {
            Self::Spans(spans) => {
                let [value] = key else { return None };
                let after = spans.partition_point(|(span, _)| span.first <= *value);
                let (span, number) = spans.get(after.checked_sub(1)?)?;
                span.contains(*value).then_some(*number)
            }
            Self::Points(points) => {
                let at = points.binary_search_by(|(point, _)| (**point).cmp(key)).ok()?;
                points.get(at).map(|(_, number)| *number)
            }
            Self::Tree(tree) => tree.as_ref()?.find(key),
        }
    }
}

impl Tree {
    /// A tree of keys; `None` where there are none, or they have no parts.
    fn new(keys: &[(&[Span], u32)]) -> Option<Self> {
        let mut bounds: Vec<u128> = Vec::new();
        for (key, _) in keys {
            let span = key.first()?;
            bounds.push(span.first);
            bounds.extend(span.last.checked_add(1));
        }
        bounds.sort_unstable();
        bounds.dedup();
        let segments = bounds.len();
        let mut members: Vec<Vec<(&[Span], u32)>> = alloc::vec![Vec::new(); segments * 2];
        for (key, number) in keys {
            let (span, rest) = key.split_first()?;
            let end = span.last.checked_add(1).map_or(segments, |end| bounds.partition_point(|bound| *bound < end));
            let (mut low, mut high) = (bounds.partition_point(|bound| *bound < span.first) + segments, end + segments);
            while low < high {
                if low % 2 == 1 {
                    members[low].push((rest, *number));
                    low += 1;
                }
                if high % 2 == 1 {
                    high -= 1;
                    members[high].push((rest, *number));
                }
                low /= 2;
                high /= 2;
            }
        }
        let node = |members: &Vec<(&[Span], u32)>| {
            let lowest = members.iter().filter(|(rest, _)| rest.is_empty()).map(|(_, number)| *number).min();
            match lowest {
                Some(number) => Some(Node::Element(number)),
                None if members.is_empty() => None,
                None => Self::new(members).map(|tree| Node::Next(Box::new(tree))),
            }
        };
        let nodes = members.iter().map(node).collect();
        Some(Self { bounds: bounds.into(), nodes })
    }

    fn find(&self, key: &[u128]) -> Option<u32> {
        let (value, rest) = key.split_first()?;
        let segment = self.bounds.partition_point(|bound| bound <= value).checked_sub(1)?;
        let mut node = segment + self.bounds.len();
        let mut found: Option<u32> = None;
        while node > 0 {
            let number = match self.nodes.get(node) {
                Some(Some(Node::Element(number))) if rest.is_empty() => Some(*number),
                Some(Some(Node::Next(tree))) => tree.find(rest),
                _ => None,
            };
            found = [found, number].into_iter().flatten().min();
            node /= 2;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elements(parts: usize, width: u128) -> impl Strategy<Value = Vec<Element>> {
        let top = prop_oneof![4 => 0..40u128, 1 => Just(u128::MAX - 40)];
        let span = (top, 0..=width).prop_map(|(first, more)| Span { first, last: first + more });
        let key = prop::collection::vec(span, parts);
        prop::collection::vec(key.prop_map(Element::new), 0..30)
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_list_has(
            (sets, key) in (1usize..4).prop_flat_map(|parts| {
                let sets = prop_oneof![elements(parts, 0), elements(parts, 12)];
                let value = prop_oneof![4 => 0..60u128, 1 => (u128::MAX - 45)..=u128::MAX];
                (sets, prop::collection::vec(value, parts))
            })
        ) {
            let has = |element: &Element| element.key.iter().zip(&key).all(|(span, value)| span.contains(*value));
            let found = Lookup::new(&sets).find(&key);
            prop_assert_eq!(found.is_some(), sets.iter().any(has));
            if let Some(number) = found {
                prop_assert!(has(&sets[number as usize]));
            }
        }
    }
}
