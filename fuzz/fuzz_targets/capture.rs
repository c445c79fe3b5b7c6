//! Arbitrary files: reading ends, with as many records as there is room for, and what can be written again reads the
//! same.
#![no_main]

use std::io::Read;

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Interface, Reader, Writer};
use ftp_conntrack::packet::Headers;
use ftp_conntrack::packet::link::find_network;
use libfuzzer_sys::fuzz_target;

/// A pipe that gives a few bytes at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let len = room.len().min(7);
        self.0.read(&mut room[..len])
    }
}

fuzz_target!(|file: &[u8]| {
    let Ok(mut reader) = Reader::new(file) else { return };
    let mut trickle = Reader::new(Trickle(file)).expect("the same file");
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps <= file.len() + 2, "it does not end");
        let (record, same) = match (reader.next(), trickle.next()) {
            (Some(Ok(record)), Some(Ok(same))) => (record, same),
            (Some(Err(error)), Some(Err(same))) => {
                assert_eq!(error.to_string(), same.to_string());
                continue;
            }
            (None, None) => break,
            (one, other) => panic!("{one:?} at once, {other:?} by and by"),
        };
        assert_eq!(format!("{record:?}"), format!("{same:?}"));
        assert!(record.data.len() <= file.len());
        if let Ok(payload) = find_network(record.link_type, record.data) {
            let packet = &record.data[payload.offset..];
            let _ = Headers::find_cut(packet);
        }
        let mut interface = Interface::new(record.link_type);
        interface.nanoseconds = true;
        let Ok(mut writer) = Writer::new(Vec::new(), &[interface]) else { continue };
        let mut copy = record;
        copy.interface = 0;
        if writer.write_record(&copy).is_ok() {
            let written = writer.into_inner().expect("a vector takes it");
            let mut again = Reader::new(&written[..]).expect("a capture");
            let again = again.next().expect("a record").expect("no damage");
            assert_eq!((again.time, again.nanos, again.data), (copy.time, copy.nanos, copy.data));
            assert!(again.time >= Instant::from_secs(0));
        }
    }
    assert!(reader.next().is_none());
});
