//! Arbitrary replacements in a stream: positions keep their order, those outside replacements come back as they went, and a
//! segment is as long when it leaves as the numbers of its ends say.
#![no_main]

use arbitrary::Arbitrary;
use ftp_conntrack::SequenceNumber;
use ftp_conntrack::seqadj::History;
use libfuzzer_sys::fuzz_target;

/// Number of replacements that are remembered.
const MOST: usize = 4;

#[derive(Debug, Arbitrary)]
struct Input {
    first: u32,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// So many bytes further on, so many are replaced by so many.
    Replace { further: u8, removed: u8, inserted: u8 },
    /// Up to so many bytes before the last replacement, all is acknowledged.
    Acknowledge { back: u8 },
    /// A segment from so many bytes before the end of all.
    Segment { back: u16, len: u8 },
}

fuzz_target!(|input: Input| {
    let mut history = History::new(MOST);
    // Numbers before this are asked for no more.
    let mut oldest = SequenceNumber(input.first);
    let mut end = oldest;
    for step in input.steps {
        match step {
            Step::Replace { further, removed, inserted } => {
                let start = end + u32::from(further);
                let outside = history.outgoing(start);
                history.replace(start, removed.into(), vec![b'x'; inserted.into()]).expect("it lies behind the others");
                // Nothing is put in twice at one place.
                end = start + u32::from(removed.max(1));
                assert_eq!(history.outgoing(start), outside, "what is before it stays");
                let kept = history.edits().next().expect("one was just noted").start;
                oldest = if kept.before(oldest) { oldest } else { kept };
            }
            Step::Acknowledge { back } => {
                let acknowledged = SequenceNumber(end.0.wrapping_sub(back.into()));
                if acknowledged.before(oldest) {
                    continue;
                }
                let position = end + 1;
                let outside = history.outgoing(position);
                history.forget(acknowledged);
                assert_eq!(history.outgoing(position), outside, "what is behind it stays");
                oldest = acknowledged;
            }
            Step::Segment { back, len } => {
                let start = SequenceNumber(end.0.wrapping_sub(back.into()));
                if !start.before(oldest) {
                    segment(&history, start, len.into());
                }
            }
        }
    }
});

fn segment(history: &History<Vec<u8>>, start: SequenceNumber, len: usize) {
    let end = start + len as u32;
    let [left, right] = [start, end].map(|position| history.outgoing(position));
    assert!(!right.before(left), "order is kept");
    let grown: i64 = history.within(start, len).map(|(range, by)| by.len() as i64 - range.len() as i64).sum();
    assert_eq!(i64::from(right.since(left)), len as i64 + grown, "{start:?} {len} {history:?}");
    for position in [start, end] {
        let inside = history.edits().any(|edit| edit.start.before(position) && position.before(edit.end()));
        let back = history.returning(history.outgoing(position));
        assert!(!back.after(position));
        let empty = history.edits().any(|edit| edit.inserted.is_empty());
        assert!(inside || empty || back == position, "{position:?} came back as {back:?}: {history:?}");
    }
}
