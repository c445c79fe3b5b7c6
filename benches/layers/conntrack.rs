//! The table of connections.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Conntrack, Template};
use ftp_conntrack::packet::Headers;

use crate::flow::{Flow, conntrack, open, shuffled, track};
use crate::packets::Frame;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conntrack");
    group.throughput(Throughput::Elements(1));
    for (family, flow) in [("IPv4", Flow::numbered(1, 443)), ("IPv6", Flow::over_ipv6(1, 443))] {
        let mut table = conntrack(1024);
        open(&mut table, None, &flow, Template::default());
        let mut traffic = Traffic::new(vec![flow.pair()], vec![0]);
        group.bench_function(format!("track, one connection/{family}"), |b| b.iter(|| traffic.track_next(&mut table)));
    }

    const MANY: usize = 1 << 16;
    let mut table = conntrack(MANY as u32 + 16);
    let mut frames = Vec::new();
    for number in 0..MANY as u32 {
        let flow = Flow::numbered(number, 443);
        open(&mut table, None, &flow, Template::default());
        frames.push(flow.pair());
    }
    let mut traffic = Traffic::new(frames, shuffled(MANY));
    group.bench_function("track, 64k connections at random", |b| b.iter(|| traffic.track_next(&mut table)));

    let syn = Flow::numbered(1 << 20, 443).syn();
    group.bench_function("track, confirm, delete beside 64k others", |b| b.iter(|| begin_and_end(&mut table, &syn)));
    group.finish();
}

/// Packets of connections, in an order: each connection's directions take turns, so that none looks sent again.
struct Traffic {
    frames: Vec<[Frame; 2]>,
    order: Vec<usize>,
    next: usize,
    micros: i64,
}

impl Traffic {
    fn new(frames: Vec<[Frame; 2]>, order: Vec<usize>) -> Self {
        Self { frames, order, next: 0, micros: 0 }
    }

    fn track_next(&mut self, conntrack: &mut Conntrack) {
        let round = self.next / self.order.len();
        let frame = &self.frames[self.order[self.next % self.order.len()]][round % 2];
        self.next += 1;
        self.micros += 1;
        let headers = Headers::find(frame.bytes()).expect("a whole packet");
        let now = Instant::from_micros(self.micros);
        let tracked = conntrack.track(now, frame.bytes(), &headers, Template::default());
        debug_assert!(tracked.is_ok_and(|tracked| tracked.connection.is_some()));
        let _ = black_box(tracked);
    }
}

fn begin_and_end(conntrack: &mut Conntrack, syn: &Frame) {
    let now = Instant::from_secs(0);
    let id = track(conntrack, syn, Template::default()).expect("room").connection.expect("a connection");
    conntrack.confirm(now, id).expect("a tuple of its own");
    conntrack.delete(now, id);
}
