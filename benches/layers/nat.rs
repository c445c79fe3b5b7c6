//! Address translation.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::Criterion;
use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Conntrack, Direction, Template};
use ftp_conntrack::nat::{Nat, NatRange, translate};
use ftp_conntrack::packet::{Headers, Side};

use crate::flow::{Flow, OUTSIDE, conntrack, open, track};
use crate::packets::Frame;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nat");
    let families = [
        ("IPv4", Flow::numbered(1, 443), OUTSIDE),
        ("IPv6", Flow::over_ipv6(1, 443), "2001:db8::1".parse().expect("an address")),
    ];
    for (family, flow, outside) in families {
        let flow = flow.seen_as(SocketAddr::new(outside, flow.client.port()));
        let (mut table, mut nat) = (conntrack(1024), Nat::new([3, 4]));
        let id = open(&mut table, Some(&mut nat), &flow, Template::default());
        let frame = flow.request(0, b"something");
        let headers = Headers::find(frame.bytes()).expect("a whole packet");
        group.bench_function(format!("translate/{family}"), |b| {
            b.iter(|| {
                let mut frame = *black_box(&frame);
                let connection = table.get(id).expect("it is there");
                frame.change(|packet| {
                    translate(connection, Direction::Original, Side::Source, packet.bytes_mut(), &headers);
                });
                frame
            });
        });
    }

    let taken = Flow::numbered(1, 443);
    let taken = taken.seen_as(SocketAddr::new(OUTSIDE, taken.client.port()));
    // Another client with the same source port.
    let other = Flow { client: SocketAddr::new([10, 1, 1, 1].into(), taken.client.port()), ..taken };
    let (mut table, mut nat) = (conntrack(1024), Nat::new([3, 4]));
    group.bench_function("track, setup, discard/the port is free", |b| {
        let syn = other.syn();
        b.iter(|| begin(&mut table, &mut nat, black_box(&syn)));
    });
    open(&mut table, Some(&mut nat), &taken, Template::default());
    group.bench_function("track, setup, discard/the port is taken", |b| {
        let syn = other.syn();
        b.iter(|| begin(&mut table, &mut nat, black_box(&syn)));
    });
    group.finish();
}

fn begin(conntrack: &mut Conntrack, nat: &mut Nat, syn: &Frame) {
    let id = track(conntrack, syn, Template::default()).expect("room").connection.expect("a connection");
    let range = NatRange::to_address(OUTSIDE);
    nat.setup(Instant::from_secs(0), conntrack, id, &range, Side::Source).expect("a tuple");
    conntrack.discard(id);
}
