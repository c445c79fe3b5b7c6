//! Sequence adjustment.

use std::hint::black_box;

use criterion::Criterion;
use ftp_conntrack::SequenceNumber;
use ftp_conntrack::seqadj::Shift;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seqadj");
    let mut shift = Shift::default();
    shift.register(SequenceNumber(1000), 3);
    shift.register(SequenceNumber(2000), 2);
    let number = SequenceNumber(2019);
    group.bench_function("outgoing and returning", |b| {
        b.iter(|| black_box(&shift).returning(black_box(&shift).outgoing(black_box(number))));
    });
    group.finish();
}
