//! Multiply-accumulates per second of every row that multiplies, on the shapes of real layers (`benches/shapes`).
//!
//! A row that a target adds to its table is measured by being listed there. Names read
//! `family_types__isa/model/node`; criterion's filter picks: `cargo bench --bench kernels -- qconv.*avx2/yamnet`.
//! `-- --peak` prints the share of a core's int8 products that 1×1 layers achieve.
#![forbid(unsafe_code)]

mod buffer;
mod peak;
mod problem;
mod shape;
#[path = "../support/mod.rs"]
mod support;

use criterion::Throughput;
use ingraft::kernel::{Host, Kernel};
use problem::Problem;

fn main() {
    if std::env::args().any(|argument| argument == "--peak") {
        return peak::print();
    }
    let mut criterion = support::criterion();
    for row in support::targets().iter().flat_map(own_rows) {
        let mut group = criterion.benchmark_group(row.name);
        for problem in problem::of(row.op).iter().filter(|problem| problem.suits(row)) {
            bench(&mut group, row, problem);
        }
        group.finish();
    }
    criterion.final_summary();
}

type Group<'c> = criterion::BenchmarkGroup<'c, criterion::measurement::WallTime>;

fn bench(group: &mut Group<'_>, row: &Kernel, problem: &Problem) {
    group.throughput(Throughput::Elements(problem.macs));
    group.bench_function(problem.name, |bencher| problem.run(row, |run| bencher.iter(run)));
}

/// The rows a target adds to those it inherits.
fn own_rows(target: &Host) -> &'static [Kernel] {
    target.tables().first().copied().unwrap_or(&[])
}
