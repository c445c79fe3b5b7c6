//! The FTP helper on a masqueraded control connection.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::Criterion;
use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Conntrack, Template, Tracked};
use ftp_conntrack::helper::{FtpHelper, HelperConfig, HelperContext};
use ftp_conntrack::nat::Nat;
use ftp_conntrack::packet::Headers;

use crate::flow::{Flow, OUTSIDE, conntrack, open, track};
use crate::packets::Frame;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("helper");
    let mut bench = Bench::new();
    let port = bench.line(b"PORT 10,0,0,1,19,136\r\n");
    let grown = bench.process(&port);
    assert!(grown.bytes().ends_with(b"PORT 203,0,113,1,19,136\r\n"), "it is not rewritten");
    group.bench_function("process/PORT, rewritten", |b| b.iter(|| bench.process(black_box(&port))));
    let other = bench.line(b"RETR pub/file.tar.gz\r\n");
    group.bench_function("process/other command", |b| b.iter(|| bench.process(black_box(&other))));
    group.finish();
}

/// A control connection on which the client has spoken one line.
struct Bench {
    conntrack: Conntrack,
    nat: Nat,
    helper: FtpHelper,
    flow: Flow,
}

/// A packet, and what conntrack made of it.
struct Line {
    frame: Frame,
    headers: Headers,
    tracked: Tracked,
}

const FIRST_LINE: &[u8] = b"USER ftp\r\n";

impl Bench {
    fn new() -> Self {
        let flow = Flow::numbered(1, 21);
        let flow = flow.seen_as(SocketAddr::new(OUTSIDE, flow.client.port()));
        let mut bench = Self {
            conntrack: conntrack(1024),
            nat: Nat::new([3, 4]),
            helper: FtpHelper::new(HelperConfig::default(), 4096),
            flow,
        };
        open(&mut bench.conntrack, Some(&mut bench.nat), &flow, Template::FTP);
        let first = bench.tracked(flow.request(0, FIRST_LINE));
        bench.process(&first);
        bench
    }

    /// The client's second line; it may be sent any number of times.
    fn line(&mut self, text: &[u8]) -> Line {
        self.tracked(self.flow.request(FIRST_LINE.len() as u32, text))
    }

    fn tracked(&mut self, frame: Frame) -> Line {
        let headers = Headers::find(frame.bytes()).expect("a whole packet");
        let tracked = track(&mut self.conntrack, &frame, Template::default()).expect("no new connection");
        Line { frame, headers, tracked }
    }

    fn process(&mut self, line: &Line) -> Frame {
        let Line { mut frame, mut headers, tracked } = *line;
        let Self { conntrack, nat, helper, .. } = self;
        let now = Instant::from_secs(0);
        frame
            .change(|packet| {
                let mut sink = ();
                let mut context = HelperContext::new(now, &tracked, packet, &mut headers, &mut sink);
                helper.process(conntrack, nat, &mut context)
            })
            .expect("it is not dropped");
        frame
    }
}
