//! Headers, and edits.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use ftp_conntrack::packet::{Headers, Side};

use crate::flow::Flow;
use crate::packets::Frame;

const PORT: &[u8] = b"PORT 10,77,1,2,19,136\r\n";
const ARGUMENT: core::ops::Range<usize> = 5..21;
const LONGER: &[u8] = b"203,0,113,1,19,136";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet");
    let families = [
        ("IPv4", Flow::numbered(2, 21), ["203.0.113.1", "203.0.113.2"]),
        ("IPv6", Flow::over_ipv6(2, 21), ["2001:db8::1", "2001:db8::2"]),
    ];
    for (family, flow, addresses) in families {
        let frame = flow.request(0, PORT);
        let headers = Headers::find(frame.bytes()).expect("a whole packet");
        group.bench_function(format!("find/{family}"), |b| b.iter(|| Headers::find(black_box(frame.bytes()))));

        let addresses = addresses.map(|address| address.parse::<IpAddr>().expect("an address"));
        let mut bytes = frame.bytes().to_vec();
        let mut round = 0_u16;
        group.bench_function(format!("set_endpoint/{family}"), |b| {
            b.iter(|| {
                round = round.wrapping_add(1);
                let address = addresses[usize::from(round % 2)];
                headers.set_endpoint(black_box(&mut bytes), Side::Source, address, round);
            });
        });
        group.bench_function(format!("replace_payload with growth/{family}"), |b| {
            b.iter(|| replaced(black_box(&frame), headers));
        });
    }
    let frame = families[0].1.request(0, PORT);
    group.bench_function("copy", |b| b.iter(|| *black_box(&frame)));
    group.finish();
}

fn replaced(frame: &Frame, mut headers: Headers) -> Frame {
    let mut frame = *frame;
    frame.change(|packet| packet.replace_payload(&mut headers, ARGUMENT, LONGER)).expect("room");
    frame
}
