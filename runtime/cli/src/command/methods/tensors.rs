//! Shapes of a method's tensors in symbols, found by asking for them at several sizes.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_method::{
    MethodError, MethodRow, Saliency, Score, TensorInfo, build, build_on, declared, score_for,
};
use ingraft_tensor::{DType, Rng};
use ingraft_train::{FrozenSite, Method};

use super::{Size, TensorReport};

/// Sizes at which the method is asked. All have the divisors that methods split by; no two agree in anything else, not all in their largest common divisor.
const PROBES: [Probe; 4] = [
    Probe { out: 96, row: 64, rank: 4 },
    Probe { out: 64, row: 160, rank: 8 },
    Probe { out: 144, row: 96, rank: 4 },
    Probe { out: 128, row: 192, rank: 2 },
];

#[derive(Clone, Copy)]
struct Probe {
    out: usize,
    row: usize,
    rank: usize,
}

/// The tensors of `row` at a linear layer, or at a normalization; of one that has none there, those of the head it trains.
pub(super) fn of(row: &MethodRow) -> Vec<TensorReport> {
    let probes: Option<Vec<Vec<TensorInfo>>> = PROBES.iter().map(|probe| ask(row, *probe)).collect();
    let Some(probes) = probes else { return Vec::new() };
    if probes.iter().all(Vec::is_empty) {
        return head();
    }
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

fn head() -> Vec<TensorReport> {
    let part = |name, shape: &[&str]| TensorReport {
        name,
        shape: shape.iter().map(|extent| (*extent).to_owned()).collect(),
        trained: true,
    };
    vec![part("head/weight", &["classes", "features"]), part("head/bias", &["classes"])]
}

/// The tensors of `row` with `settings` at a linear layer of this size, or else at a normalization of as many outputs; why
/// there are none.
pub(super) fn at(
    row: &MethodRow,
    size: Size,
    settings: &[(&str, &str)],
) -> Result<Vec<TensorReport>, String> {
    let infos = declared_at(row, size, settings)?;
    let report = |info: &TensorInfo| TensorReport {
        name: info.name,
        shape: info.dims.iter().map(usize::to_string).collect(),
        trained: info.trained,
    };
    Ok(if infos.is_empty() { head() } else { infos.iter().map(report).collect() })
}

fn ask(row: &MethodRow, probe: Probe) -> Option<Vec<TensorInfo>> {
    let rank = probe.rank.to_string();
    // The rank that is aimed at is at most that.
    let ranks = row.settings.iter().map(|setting| setting.name);
    let ranks = ranks.filter(|name| ["rank", "target_rank"].contains(name));
    let settings: Vec<(&str, &str)> = ranks.map(|name| (name, &*rank)).collect();
    declared_at(row, Size { out: probe.out, inputs: probe.row }, &settings).ok()
}

fn declared_at(row: &MethodRow, size: Size, settings: &[(&str, &str)]) -> Result<Vec<TensorInfo>, String> {
    let site = SiteDesc {
        // What methods of experts take for one.
        name: "experts.0.weight",
        kind: SiteKind::Linear,
        dtype: DType::F32,
        out: size.out,
        inputs: size.inputs,
        kernel: [1, 1],
        groups: 1,
        transposed: false,
    };
    let method = match score_for(row.name, settings).map_err(|error| error.to_string())? {
        None => build(row.name, settings),
        Some(score) => measured(row, settings, site, score),
    };
    let method = method.map_err(|error| error.to_string())?;
    // What is not defined on a weight is on a normalization.
    let norm = SiteDesc { kind: SiteKind::Norm, inputs: 1, groups: size.out, ..site };
    match declared(&*method, &site).map_err(|error| error.to_string())? {
        none if none.is_empty() => declared(&*method, &norm).map_err(|error| error.to_string()),
        tensors => Ok(tensors),
    }
}

/// The method on what random data would say of the site: how many places are chosen depends on the sizes alone.
fn measured(
    row: &MethodRow,
    settings: &[(&str, &str)],
    site: SiteDesc<'static>,
    score: Score,
) -> Result<Box<dyn Method>, MethodError> {
    let mut rng = Rng::new(0);
    let mut real = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.uniform(-1.0, 1.0) as f32).collect() };
    let weight = real(site.out * site.row());
    let router = SiteDesc { name: "gate", out: 1, inputs: 1, ..site };
    let frozen = [FrozenSite::of_weight(site, &weight), FrozenSite::of_weight(router, &weight[..1])];
    // Only where experts are chosen is there one.
    let sites = if matches!(score, Score::Gate(_) | Score::Token(_)) { 2 } else { 1 };
    let frozen: Vec<FrozenSite<'_>> = frozen.into_iter().flatten().take(sites).collect();
    let mut saliency = Saliency::of_sites(&frozen, score);
    match score {
        Score::Gate(_) | Score::Token(_) => {
            saliency.observe_gates("", &[1.0]);
        }
        Score::Attribution(_) => {
            let outputs: Vec<f64> = real(site.out).into_iter().map(f64::from).collect();
            saliency.observe_outputs(site.name, &outputs);
        }
        _ => {
            saliency.observe_site(site.name, &real(site.out * site.row()));
        }
    }
    build_on(row.name, settings, &saliency)
}

/// The first expression in a setting, a whole number, that gives the extent at every size.
fn whole(row: &MethodRow, extents: [Option<usize>; 4]) -> Option<String> {
    let numbers = row.settings.iter().filter_map(|s| Some((s.name, s.default.parse::<usize>().ok()?)));
    // By 1 everything divides.
    let mut numbers = numbers.filter(|(name, value)| *name != "rank" && *value > 1);
    numbers.find_map(|(name, n)| {
        let fits = |part: &Whole| PROBES.map(|probe| Some(part(n, probe))) == extents;
        let (form, _) = WHOLES.iter().find(|(_, part)| fits(part))?;
        Some(form.replace('#', name))
    })
}

/// A form in a whole number at a site of some size.
type Whole = fn(usize, Probe) -> usize;

/// Forms in a whole number, `#`.
const WHOLES: [(&str, Whole); 9] = [
    ("out/#", |n, p| p.out / n),
    ("in/#", |n, p| p.row / n),
    ("rank·#", |n, p| p.rank * n),
    ("(out/#)·(in/#)", |n, p| (p.out / n) * (p.row / n)),
    ("#·(#−1)/2", |n, _| n * (n - 1) / 2),
    ("rank·out/#", |n, p| p.rank * p.out / n),
    ("rank·in/#", |n, p| p.rank * p.row / n),
    ("#·out", |n, p| n * p.out),
    ("#·in", |n, p| n * p.row),
];

/// A share of a site of some size.
type Part = fn(f64, Probe) -> usize;

/// Numbers of places that a share, `#`, of a matrix comes to, products rounded to whole numbers.
const SHARES: [(&str, Part); 6] = [
    ("#·out·in", |s, p| (s * (p.out * p.row) as f64) as usize),
    ("#·out·in", |s, p| (s * (p.out * p.row) as f64).round() as usize),
    ("(#·out)·in", |s, p| (s * p.out as f64) as usize * p.row),
    ("(#·in)·out", |s, p| (s * p.row as f64) as usize * p.out),
    ("(#·out)·(#·in)", |s, p| (s * p.out as f64) as usize * (s * p.row as f64) as usize),
    ("(#·out/100)·in", |s, p| (s * p.out as f64 / 100.0) as usize * p.row),
];

/// The first expression that gives the extent at every size.
fn symbol(row: &MethodRow, probes: &[Vec<TensorInfo>], at: usize, axis: usize) -> String {
    type Extent = fn(Probe) -> usize;
    let known: [(&str, Extent); 20] = [
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
        ("in/2", |p| p.row / 2),
        ("2·out", |p| 2 * p.out),
        ("2·in", |p| 2 * p.row),
        ("rank·(rank−1)/2", |p| p.rank * (p.rank - 1) / 2),
        ("min(out, in)/rank", |p| p.out.min(p.row) / p.rank),
        ("rank·(out+in)", |p| p.rank * (p.out + p.row)),
    ];
    let extent = |probe: usize| probes[probe].get(at).and_then(|info| info.dims.get(axis)).copied();
    let fits =
        |value: &dyn Fn(Probe) -> usize| (0..PROBES.len()).all(|i| extent(i) == Some(value(PROBES[i])));
    if let Some((name, _)) = known.iter().find(|(_, value)| fits(value)) {
        return (*name).to_owned();
    }
    let shares = row.settings.iter().filter_map(|s| Some((s.name, s.default.parse::<f64>().ok()?)));
    for (name, share) in shares {
        if let Some((form, _)) = SHARES.iter().find(|(_, part)| fits(&|p| part(share, p))) {
            return form.replace('#', name);
        }
    }
    let numbers = row.settings.iter().filter_map(|s| Some((s.name, s.default.parse::<usize>().ok()?)));
    let mut settings = numbers.filter(|(name, value)| *name != "rank" && fits(&|_| *value));
    match settings.next() {
        Some((name, _)) => name.to_owned(),
        None => match whole(row, [0, 1, 2, 3].map(extent))
            .or_else(|| Some(extent(0).filter(|n| fits(&|_| *n))?.to_string()))
        {
            Some(form) => form,
            None => "…".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use ingraft_method::METHODS;

    use super::*;

    fn listed(name: &str) -> Vec<(&'static str, String, bool)> {
        let row = METHODS.iter().find(|row| row.name == name).expect("a method of the list");
        of(row).into_iter().map(|t| (t.name, t.shape.join(" "), t.trained)).collect()
    }

    #[test]
    fn every_method_lists_its_tensors() {
        for row in METHODS {
            assert!(!listed(row.name).is_empty(), "{}", row.name);
        }
        let head =
            [("head/weight", "classes features".to_owned(), true), ("head/bias", "classes".to_owned(), true)];
        assert_eq!(listed("head"), head);
    }

    /// What a reader of the JSON works out of a shape: a product, quotient, sum or difference from left to right by rank.
    struct Reader<'r> {
        text: core::iter::Peekable<core::str::Chars<'r>>,
        row: &'r MethodRow,
        probe: Probe,
    }

    impl Reader<'_> {
        fn sum(&mut self) -> f64 {
            let mut value = self.product();
            while let Some(sign) = self.text.next_if(|c| matches!(c, '+' | '−')) {
                let next = self.product();
                value = if sign == '+' { value + next } else { value - next };
            }
            value
        }

        fn product(&mut self) -> f64 {
            let mut value = self.factor();
            while let Some(sign) = self.text.next_if(|c| matches!(c, '·' | '/')) {
                let next = self.factor();
                value = if sign == '·' { value * next } else { value / next };
            }
            value
        }

        fn factor(&mut self) -> f64 {
            if self.text.next_if_eq(&'(').is_some() {
                // Brackets are whole.
                let value = self.sum().floor();
                assert_eq!(self.text.next(), Some(')'));
                return value;
            }
            let mut word = String::new();
            while let Some(next) = self.text.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
            {
                word.push(next);
            }
            let value = match &*word {
                "out" => self.probe.out as f64,
                "in" => self.probe.row as f64,
                "rank" => self.probe.rank as f64,
                "min" | "max" => {
                    assert_eq!(self.text.next(), Some('('));
                    let first = self.sum();
                    assert_eq!((self.text.next(), self.text.next()), (Some(','), Some(' ')));
                    let second = self.sum();
                    assert_eq!(self.text.next(), Some(')'));
                    if word == "min" { first.min(second) } else { first.max(second) }
                }
                name => {
                    let setting = self.row.settings.iter().find(|setting| setting.name == name);
                    let text = setting.map_or(name, |setting| setting.default);
                    text.parse().unwrap_or_else(|_| panic!("{}: {name:?} is no number", self.row.name))
                }
            };
            if self.text.next_if_eq(&'²').is_some() { value * value } else { value }
        }
    }

    /// At a size that was not asked for: what is printed is what a checkpoint made by hand has to hold.
    #[test]
    fn shapes_hold_at_another_size() {
        let probe = Probe { out: 224, row: 128, rank: 2 };
        let (mut open, mut wrong, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for row in METHODS.iter().filter(|row| row.name != "head") {
            let held = ask(row, probe).unwrap_or_else(|| panic!("{} is defined here", row.name));
            let listed = of(row);
            let names = |all: &[TensorInfo]| all.iter().map(|t| (t.name, t.trained)).collect::<Vec<_>>();
            if names(&held) != listed.iter().map(|t| (t.name, t.trained)).collect::<Vec<_>>() {
                others.push(row.name);
                continue;
            }
            for (report, info) in listed.iter().zip(&held) {
                assert_eq!(report.shape.len(), info.dims.len(), "{}.{}", row.name, info.name);
                for (extent, dim) in report.shape.iter().zip(&info.dims) {
                    if extent == "…" {
                        open.push(format!("{}.{}", row.name, info.name));
                        continue;
                    }
                    let value = Reader { text: extent.chars().peekable(), row, probe }.sum();
                    if ![value.floor(), value.round()].contains(&(*dim as f64)) {
                        wrong.push(format!("{}.{}: {extent} is {value}, not {dim}", row.name, info.name));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // It chooses between entries and factors by the size.
        assert_eq!(others, ["spt"]);
        println!("{} extents follow from divisors: {}", open.len(), open.join(", "));
    }

    #[test]
    fn places_that_are_measured_are_counted_from_the_sizes() {
        for (name, count) in [
            ("speft", "budget·out·in"),
            ("rosa", "density·out·in"),
            ("shira", "density·out·in"),
            ("loki", "(quota·out/100)·in"),
            ("losia", "(fraction·out)·(fraction·in)"),
        ] {
            let tensors = listed(name);
            for (tensor, trained) in [("values", true), ("indices", false)] {
                assert!(tensors.contains(&(tensor, count.to_owned(), trained)), "{name}: {tensors:?}");
            }
        }
        let whole = [("delta", "out in".to_owned(), true), ("shift", "out".to_owned(), true)];
        assert_eq!(listed("esft"), whole);
        assert!(listed("oft").contains(&("oft_R", "in/block block·(block−1)/2".to_owned(), true)));
        assert!(listed("adalora").contains(&("lora_E", "rank 1".to_owned(), true)));
        assert!(listed("lora").contains(&("lora_A", "rank in".to_owned(), true)));
    }
}
