//! One group of benchmarks per layer.
//!
//! Times are per packet, line or number, unless a group's `Throughput` says that an iteration handles several. What
//! changes a packet works on a copy; `packet/copy` says what the copy costs.

mod capture;
mod conntrack;
mod flow;
mod ftp;
mod helper;
mod nat;
mod netfilter;
mod packet;
mod packets;
mod router;
mod seqadj;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    for layer in [
        packet::bench,
        ftp::bench,
        seqadj::bench,
        conntrack::bench,
        nat::bench,
        helper::bench,
        netfilter::bench,
        router::bench,
        capture::bench,
    ] {
        layer(&mut criterion);
    }
    criterion.final_summary();
}
