//! Shapes of a method's tensors in symbols, found by asking for them at several sizes.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_method::{MethodRow, TensorInfo, build, declared};
use ingraft_tensor::DType;

use super::TensorReport;

/// Sizes at which the method is asked. All have the divisors that methods split by; no two agree in anything else.
const PROBES: [Probe; 3] = [
    Probe { out: 96, row: 64, rank: 4 },
    Probe { out: 64, row: 160, rank: 8 },
    Probe { out: 224, row: 128, rank: 2 },
];

#[derive(Clone, Copy)]
struct Probe {
    out: usize,
    row: usize,
    rank: usize,
}

/// The tensors of `row` at a linear layer.
pub(super) fn of(row: &MethodRow) -> Vec<TensorReport> {
    let probes: Option<Vec<Vec<TensorInfo>>> = PROBES.iter().map(|probe| ask(row, *probe)).collect();
    let Some(probes) = probes else { return Vec::new() };
    let shape = |at: usize| {
        let first = &probes[0][at];
        (0..first.dims.len()).map(|axis| symbol(row, &probes, at, axis)).collect()
    };
    // A method that keeps other tensors at other sizes is reported as it is at the first.
    let tensors = probes[0].iter().enumerate();
    tensors
        .map(|(at, info)| TensorReport { name: info.name, shape: shape(at), trained: info.trained })
        .collect()
}

fn ask(row: &MethodRow, probe: Probe) -> Option<Vec<TensorInfo>> {
    let site = SiteDesc {
        name: "site",
        kind: SiteKind::Linear,
        dtype: DType::F32,
        out: probe.out,
        inputs: probe.row,
        kernel: [1, 1],
        groups: 1,
        transposed: false,
    };
    let rank = probe.rank.to_string();
    let ranked = row.settings.iter().any(|setting| setting.name == "rank");
    let settings: &[(&str, &str)] = if ranked { &[("rank", &rank)] } else { &[] };
    declared(&*build(row.name, settings).ok()?, &site).ok()
}

/// The first expression that gives the extent at every size.
fn symbol(row: &MethodRow, probes: &[Vec<TensorInfo>], at: usize, axis: usize) -> String {
    type Extent = fn(Probe) -> usize;
    let known: [(&str, Extent); 14] = [
        ("1", |_| 1),
        ("rank", |p| p.rank),
        ("out", |p| p.out),
        ("in", |p| p.row),
        ("2·rank", |p| 2 * p.rank),
        ("rank²", |p| p.rank * p.rank),
        ("out·in", |p| p.out * p.row),
        ("out/rank", |p| p.out / p.rank),
        ("in/rank", |p| p.row / p.rank),
        ("min(out, in)", |p| p.out.min(p.row)),
        ("max(out, in)", |p| p.out.max(p.row)),
        ("out/2", |p| p.out / 2),
        ("rank·out", |p| p.rank * p.out),
        ("rank·in", |p| p.rank * p.row),
    ];
    let extent = |probe: usize| probes[probe].get(at).and_then(|info| info.dims.get(axis)).copied();
    let fits =
        |value: &dyn Fn(Probe) -> usize| (0..PROBES.len()).all(|i| extent(i) == Some(value(PROBES[i])));
    if let Some((name, _)) = known.iter().find(|(_, value)| fits(value)) {
        return (*name).to_owned();
    }
    let numbers = row.settings.iter().filter_map(|s| Some((s.name, s.default.parse::<usize>().ok()?)));
    let mut settings = numbers.filter(|(name, value)| *name != "rank" && fits(&|_| *value));
    match settings.next() {
        Some((name, _)) => name.to_owned(),
        None => match extent(0) {
            Some(always) if fits(&|_| always) => always.to_string(),
            _ => "…".to_owned(),
        },
    }
}
