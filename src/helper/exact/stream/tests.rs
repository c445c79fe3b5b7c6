use super::*;
use crate::ftp::{Form, write};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const FIRST: SequenceNumber = SequenceNumber(u32::MAX - 30);

/// Replaces the argument of PORT by eighteen bytes.
#[derive(Default)]
struct Ports {
    heard: Vec<String>,
}

impl ReadLines for Ports {
    fn may_leave(&mut self, begun: &[u8]) -> bool {
        !begun.iter().zip(b"PORT").all(|(a, b)| a == b)
    }

    fn unit(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte == b'\n').map(|feed| feed + 1)
    }

    fn complete(&mut self, line: &[u8], edits: &mut UnitEdits) {
        self.left(line);
        let end = line.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
        if line.starts_with(b"PORT ") {
            edits.set(5..end, write(Form::Port, [203, 0, 113, 11].into(), 1234));
        }
    }

    fn left(&mut self, head: &[u8]) {
        self.heard.push(String::from_utf8_lossy(head).trim_end().into());
    }

    fn too_long(&mut self, begun: &[u8]) -> Instead {
        if begun.is_empty() { Instead::Nothing } else { Instead::Refusal(Text::copy_of(b"PORT 0\r\n"), Until::LineEnd) }
    }

    fn lost(&mut self) {}
}

/// A stream, and what the other side has of it.
struct Both {
    stream: Stream,
    pool: Pool,
    handler: Ports,
    far: BTreeMap<usize, u8>,
    fin: Option<usize>,
}

impl Both {
    fn new(windows: usize) -> Self {
        let mut pool = Pool::new(windows);
        let mut stream = Stream::new();
        stream.begin(FIRST, &mut pool);
        Self { stream, pool, handler: Ports::default(), far: BTreeMap::new(), fin: None }
    }

    /// Sends a segment; gives what leaves.
    fn send(&mut self, at: usize, payload: &[u8], fin: bool) -> String {
        let incoming = Incoming { start: FIRST + at as u32, payload, syn: false, fin, urgent: None };
        let taken = self.stream.take(incoming, &mut self.pool, &mut self.handler);
        let (number, bytes) = match taken.emission {
            Emission::Same => (self.stream.outgoing(incoming.start), payload.to_vec()),
            Emission::Nothing { number } => (number, vec![]),
            Emission::Bytes { from, to } => {
                let mut bytes = vec![0; to.since(from) as usize];
                assert_eq!(self.stream.copy(from, to, incoming, &mut bytes), bytes.len());
                for (range, text) in self.stream.history().within(from, bytes.len()).rev() {
                    bytes.splice(range, text.iter().copied());
                }
                (self.stream.outgoing(from), bytes)
            }
        };
        self.stream.note_sent(number + bytes.len() as u32);
        self.stream.trim(&mut self.pool);
        let number = number.since(FIRST);
        for (i, byte) in bytes.iter().enumerate() {
            let place = usize::try_from(number).unwrap() + i;
            let before = *self.far.entry(place).or_insert(*byte);
            assert_eq!(before, *byte, "the byte at {place} left as another");
        }
        if taken.fin {
            let end = number as usize + bytes.len();
            assert_eq!(*self.fin.get_or_insert(end), end);
        }
        let fin = if taken.fin { " FIN" } else { "" };
        alloc::format!("{number} {}{fin}", bytes.escape_ascii())
    }

    /// Returns the bytes that the other side has without a gap.
    fn has(&self) -> Vec<u8> {
        (0..).map_while(|place| self.far.get(&place).copied()).collect()
    }

    /// It acknowledges `upto`.
    fn acknowledges(&mut self, upto: usize) -> i32 {
        self.stream.acknowledge(FIRST + upto as u32, &mut self.pool).since(FIRST)
    }

    fn owed(&mut self) -> Option<i32> {
        self.stream.owed(false).map(|number| number.since(FIRST))
    }
}

const PORT: &[u8] = b"PORT 10,0,0,5,4,210\r\n";

#[test]
fn the_worked_example() {
    let mut both = Both::new(1);
    assert_eq!((both.send(0, b"PO", false), both.owed()), ("0 ".into(), Some(2)));
    assert_eq!((both.send(2, &PORT[2..19], false), both.owed()), ("0 ".into(), Some(19)));
    assert_eq!((both.send(19, b"\r\n", false), both.owed()), ("0 PORT 203,0,113,11,4,210\\r\\n".into(), None));
    // It was lost; the sender has only the last piece to send again.
    assert_eq!(both.send(19, b"\r\n", false), "0 PORT 203,0,113,11,4,210\\r\\n");
    assert_eq!(both.acknowledges(5), 19, "what was acknowledged is not taken back");
    assert_eq!(both.send(19, b"\r\n", false), "5 203,0,113,11,4,210\\r\\n");
    assert_eq!(both.acknowledges(25), 21);
    assert!(both.stream.window.is_none(), "nothing is kept any more");
    assert_eq!(both.send(21, b"LIST\r\n", false), "25 LIST\\r\\n");
    assert_eq!(both.send(0, PORT, false), "24 ", "an old number, and no old bytes");
}

#[test]
fn a_whole_line_needs_no_window() {
    let mut both = Both::new(0);
    assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
    assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
    assert_eq!(both.send(5, &PORT[5..8], false), "5 ");
    assert_eq!(both.send(8, &PORT[8..], false), "5 203,0,113,11,4,210\\r\\n");
}

#[test]
fn without_a_window_a_part_is_not_taken() {
    let mut both = Both::new(0);
    assert_eq!(both.send(0, b"NOOP\r\nPO", false), "0 NOOP\\r\\n");
    assert_eq!(both.owed(), None);
    assert_eq!(both.send(6, PORT, false), "6 PORT 203,0,113,11,4,210\\r\\n");
}

#[test]
fn what_is_not_kept_is_not_acknowledged() {
    let mut both = Both::new(1);
    assert_eq!((both.send(0, b"LIST\r\nPO", false), both.owed()), ("0 LIST\\r\\n".into(), None));
    assert_eq!(both.acknowledges(6), 8, "now it is");
}

#[test]
fn what_comes_early_waits() {
    let mut both = Both::new(1);
    assert_eq!(both.send(21, b"LIST\r\n", true), "0 ");
    assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\nLIST\\r\\n FIN");
    assert_eq!(both.send(21, b"LIST\r\n", true), "25 LIST\\r\\n FIN");
    assert_eq!(both.acknowledges(32), 28);
    assert_eq!(both.send(27, b"", true), "31 ");
    assert_eq!(both.send(28, b"", false), "32 ", "an acknowledgement after the end");
}

#[test]
fn what_came_early_makes_way() {
    let mut both = Both::new(1);
    for i in 0..200 {
        both.send(100 + i * 10, b"early", false);
    }
    assert_eq!(both.send(0, PORT, false), "0 PORT 203,0,113,11,4,210\\r\\n");
}

#[test]
fn an_unfinished_line_does_not_leave() {
    let mut both = Both::new(1);
    assert_eq!(both.send(0, &PORT[..17], false), "0 ");
    assert_eq!(both.send(17, b"", true), "0  FIN");
    assert_eq!(both.acknowledges(1), 18);
    let mut both = Both::new(1);
    assert_eq!(both.send(0, b"NOOP\r\nPORT 10,0", true), "0 NOOP\\r\\n FIN");
}

/// Found by proptest.
#[test]
fn an_unfinished_line_at_the_end_needs_no_window() {
    let mut both = Both::new(0);
    assert_eq!(both.send(0, b"NOOP\r\nPORT 10,0", true), "0 NOOP\\r\\n FIN");
}

#[test]
fn an_endless_line_is_refused() {
    let mut both = Both::new(1);
    both.send(0, b"PORT ", false);
    for i in 0..100 {
        both.send(5 + i * 500, &[b'1'; 500], false);
    }
    assert_eq!(both.has(), b"PORT 0\r\n");
    both.send(50_005, b"11\nNOOP\r\n", false);
    assert_eq!(both.has(), b"PORT 0\r\nNOOP\r\n");
    assert_eq!(both.acknowledges(8), 50_008, "what does not leave counts as received");
}

#[test]
fn the_other_side_has_not_what_it_has_in_part() {
    let mut both = Both::new(1);
    both.send(0, PORT, false);
    both.send(21, b"LIST\r\n", false);
    let map = |left: u32, right: u32| {
        let (left, right) = both.stream.selectively(FIRST + left, FIRST + right);
        (left.since(FIRST), right.since(FIRST))
    };
    assert_eq!(map(25, 31), (21, 27));
    assert_eq!(map(10, 31), (19, 27));
    assert_eq!(map(2, 10), (2, 5));
    assert_eq!(map(6, 10), (-1, 0), "nothing whole");
}

#[test]
fn lines_that_left_early_are_heard_by_their_beginning() {
    let mut both = Both::new(1);
    both.send(0, b"PA", false);
    both.send(2, b"SS secret\r\nLIST\r\n", false);
    assert_eq!(both.handler.heard, ["PASS secret", "LIST"]);
}

/// Cuts a stream, and sends its pieces in any order, some twice, with acknowledgements between.
fn shuffled() -> impl Strategy<Value = (Vec<usize>, Vec<(usize, usize, bool)>)> {
    let cuts = proptest::collection::vec(0..100usize, 0..12);
    let order = proptest::collection::vec((0..100usize, 1..40usize, any::<bool>()), 0..40);
    (cuts, order)
}

#[test]
fn what_is_urgent_is_called_so_when_it_leaves_and_until_it_arrives() {
    let mut both = Both::new(1);
    let mut send = |at: usize, payload: &[u8], urgent: usize| {
        let urgent = Some(FIRST + urgent as u32);
        let incoming = Incoming { start: FIRST + at as u32, payload, syn: false, fin: false, urgent };
        both.stream.take(incoming, &mut both.pool, &mut both.handler);
        [0, 20, 27].map(|number| both.stream.urgent_behind(FIRST + number))
    };
    // The last byte of the command's line, which becomes six bytes longer.
    assert_eq!(send(0, b"PORT 10,0,0,5,4,2", 19), [None; 3], "what waits is not called urgent");
    assert_eq!(send(17, b"\r\nNOOP\r\n", 19), [Some(25), Some(5), None]);
    assert_eq!(send(27, b"ABOR\r\n", 19), [Some(25), Some(5), None], "nothing is less urgent for being repeated");
    both.stream.acknowledge(FIRST + 25, &mut both.pool);
    assert!(!both.stream.is_urgent());
}

proptest! {
    /// Whatever comes in whatever order, and whenever its window is given up: no digit of an announcement leaves, and
    /// no byte leaves as another than before.
    #[test]
    fn what_is_given_up_does_not_leave(steps in proptest::collection::vec((0..52usize, 1..20usize, 0..6u8), 1..40)) {
        let text = b"NOOP\r\nPORT 10,0,0,5,4,2\r\nTYPE I\r\nPORT 10,0,0,5,4,3\r\nQ\r\n";
        let mut both = Both::new(1);
        for (at, len, then) in steps {
            let end = text.len().min(at + len);
            both.send(at, &text[at..end], end == text.len() && then == 0);
            let _ = both.stream.owed(true);
            match then {
                1 => both.stream.give_up(&mut both.pool),
                2 => {
                    let has = both.has().len();
                    both.acknowledges(has);
                }
                _ => {}
            }
            let left = String::from_utf8_lossy(&both.has()).into_owned();
            prop_assert!(!left.contains("10,") && !left.contains(",5,"), "{left}");
        }
    }

    #[test]
    fn any_segmentation_order_and_repetition_gives_the_same_far_stream(
        (mut cuts, order) in shuffled(),
        windows in 0..3usize,
    ) {
        let near = b"USER x\r\nPORT 10,0,0,5,4,210\r\nPO\nPORTO 1\nPORT 10,0,0,5,4,211\nLIST\r\nPORT 10,0,0";
        let far = b"USER x\r\nPORT 203,0,113,11,4,210\r\nPO\nPORTO 1\nPORT 203,0,113,11,4,210\nLIST\r\n";
        let mut both = Both::new(windows);
        for (from, len, acknowledges) in order {
            let from = from.min(near.len());
            let to = (from + len).min(near.len());
            both.send(from, &near[from..to], to == near.len());
            if acknowledges {
                let has = both.has().len();
                both.acknowledges(has);
            }
            prop_assert!(far.starts_with(&both.has()));
        }
        // In the end the sender sends from where it believes the other side to be.
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(near.len()));
        cuts.extend([0, near.len()]);
        cuts.sort_unstable();
        for _ in 0..3 {
            for pair in cuts.windows(2) {
                both.send(pair[0], &near[pair[0]..pair[1]], pair[1] == near.len());
            }
            if windows == 0 {
                both.send(0, near, true);
            }
        }
        prop_assert_eq!(both.has(), far);
        prop_assert_eq!(both.fin, Some(far.len()));
        let all = both.has().len() + 1;
        prop_assert_eq!(both.acknowledges(all), near.len() as i32 + 1);
        prop_assert!(both.stream.window.is_none());
        prop_assert_eq!(both.pool.take(FIRST, Holder::NOBODY).is_some(), windows > 0);
    }
}
