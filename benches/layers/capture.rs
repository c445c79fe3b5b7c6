//! Reading captures.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Reader, Writer};
use ftp_conntrack::packet::link::LinkType;

use crate::flow::Flow;

const PACKETS: u32 = 10_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Elements(PACKETS.into()));
    for (name, file) in [("pcap", pcap()), ("pcapng", pcapng())] {
        assert_eq!(read(&file).0, PACKETS);
        group.bench_function(format!("read 10,000 packets/{name}"), |b| b.iter(|| read(black_box(&file))));
    }
    group.finish();
}

/// Returns the number of packets, and of bytes in them.
fn read(file: &[u8]) -> (u32, usize) {
    let mut reader = Reader::new(file).expect("a capture");
    let (mut packets, mut bytes) = (0, 0);
    while let Some(record) = reader.next() {
        packets += 1;
        bytes += record.expect("no damage").data.len();
    }
    (packets, bytes)
}

fn pcap() -> Vec<u8> {
    let mut file = Vec::new();
    // Magic number, version 2.4, no correction, no accuracy, the longest packet, link type.
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, LinkType::RAW.0] {
        file.extend(word.to_le_bytes());
    }
    for number in 0..PACKETS {
        let [frame, _] = Flow::numbered(number, 21).pair();
        let len = frame.bytes().len() as u32;
        for word in [number, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame.bytes());
    }
    file
}

fn pcapng() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &[Interface::named("lan", LinkType::RAW)]).expect("a name that fits");
    for number in 0..PACKETS {
        let [frame, _] = Flow::numbered(number, 21).pair();
        let time = Instant::from_secs(i64::from(number));
        writer.write(0, time, Direction::In, frame.bytes()).expect("a vector takes it");
    }
    writer.into_inner().expect("a vector takes it")
}
