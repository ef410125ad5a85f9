//! Times of the hot path: `cargo bench -p sealane-bench`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot_path(criterion: &mut Criterion) {
    for operation in sealane_bench::operations() {
        criterion.bench_function(operation.name, |bencher| {
            bencher.iter(|| black_box(operation.run()));
        });
    }
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
