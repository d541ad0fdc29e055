//! Tables that rows are looked up in: factors and entries add to the rows that are picked, and nothing else acts there.

use ingraft::adapter::{Adapter, AdapterError, Base, TermSource, TermSpec};
use ingraft::compile::onnx::proto::{GraphProto, NodeProto};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Host, NO_SITE, SiteKind, Target};
use ingraft::method::{Lora, build as method};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::DType;
use ingraft::train::{FrozenSite, Readout, TrainError, Trainer};

use crate::build::{self, sites};
use crate::methods;
use crate::mixture::Writer;
use crate::support::{AlignedBytes, Lcg, floats, infer};
use crate::targets;

const ROWS: usize = 11;
const WIDE: usize = 6;
const CLASSES: usize = 3;

/// Rows of a table, and one layer on each.
fn net(batch: usize, length: usize) -> AlignedBytes {
    let dims = [batch.into(), length.into()];
    let mut it = Writer::new(GraphProto::new("table").with_input("x", DType::I64, &dims));
    it.constant("table.weight", &[ROWS, WIDE], 1.0);
    it.node(NodeProto::new("Gather", &["table.weight", "x"], &["picked"]));
    it.linear("picked", "classes.weight", [WIDE, CLASSES], "logits");
    it.plan(17)
}

fn tokens(picked: &[i64]) -> Vec<u8> {
    picked.iter().flat_map(|token| token.to_le_bytes()).collect()
}

/// Factors of rank 2, and other entries in some rows; and what both are as a whole.
fn terms(random: &mut Lcg) -> ([TermSpec; 2], Vec<f32>) {
    let mut draw = |count: usize| (0..count).map(|_| random.real() - 0.5).collect::<Vec<f32>>();
    let (up, down, values) = (draw(ROWS * 2), draw(2 * WIDE), draw(4));
    let (indptr, indices) = (vec![0u32, 0, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4], vec![0u16, 2, 5, 1]);
    let mut whole: Vec<f32> = (0..ROWS * WIDE)
        .map(|at| (0..2).map(|k| up[at / WIDE * 2 + k] * down[k * WIDE + at % WIDE]).sum())
        .collect();
    for row in 0..ROWS {
        for at in indptr[row] as usize..indptr[row + 1] as usize {
            whole[row * WIDE + usize::from(indices[at])] += values[at];
        }
    }
    let pair = TermSpec::TwoFactorF32 { rank: 2, down, up };
    ([pair, TermSpec::SparseF32 { indptr, indices, values }], whole)
}

#[test]
fn what_is_picked_is_a_row_of_the_table_and_of_the_delta() {
    let file = net(1, 5);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let (index, site) = sites(&plan).find(|(_, site)| site.kind == SiteKind::Embedding).expect("a table");
    assert_eq!((site.name, site.out, site.row()), ("table.weight", ROWS, WIDE));
    let frozen = FrozenSite::new(&plan, index).expect("it has a weight");
    let classes = FrozenSite::new(&plan, 1).expect("a layer");
    let (terms, delta) = terms(&mut Lcg::new(3));
    let both: Vec<(usize, TermSpec)> = terms.into_iter().map(|term| (index, term)).collect();
    let held = build::adapter(&plan, &both);
    let adapter = Adapter::attach(held.as_slice(), &plan).expect("it fits");
    // From the end as well, and one twice.
    let picked = [8i64, 1, -3, 1, 0];
    let wanted: Vec<f64> = picked
        .iter()
        .flat_map(|token| {
            let row = token.rem_euclid(ROWS as i64) as usize;
            let value = |at: usize| f64::from(frozen.weight(row, at)) + f64::from(delta[row * WIDE + at]);
            let score = move |class: usize| {
                (0..WIDE).map(|at| value(at) * f64::from(classes.weight(class, at))).sum::<f64>()
            };
            (0..CLASSES).map(score).collect::<Vec<f64>>()
        })
        .collect();
    for target in targets::targets() {
        let run =
            |source: &dyn TermSource| floats(&infer(plan, &target, &[&tokens(&picked)], &source).remove(0));
        let found = run(&adapter);
        let near = found.iter().zip(&wanted).all(|(found, wanted)| (f64::from(*found) - wanted).abs() < 1e-5);
        assert!(near, "{}: {found:?} {wanted:?}", target.name());
        assert_ne!(run(&Base), found);
    }
}

#[test]
fn every_sample_may_have_a_table_of_its_own() {
    let (single, batched) = (net(1, 4), net(2, 4));
    let [one, two] =
        [&single, &batched].map(|file| PlanView::new(file.as_slice()).expect("a plan we wrote is valid"));
    let mut random = Lcg::new(8);
    let made = [(); 2].map(|()| terms(&mut random).0.into_iter().map(|term| (0, term)).collect::<Vec<_>>());
    let picked = [[3i64, 8, 1, 10], [1, 1, 8, 0]];
    for target in targets::targets() {
        let needs = MemoryNeeds::new(&two, Phase::Infer, &target).expect("the target runs every step");
        let mut memory = AlignedBytes::zeroed(needs.total());
        let mut session =
            Session::bind(two, Phase::Infer, &target, memory.as_mut()).expect("memory suffices");
        let files = made.each_ref().map(|terms| build::adapter(&two, terms));
        let adapters =
            files.each_ref().map(|file| Some(Adapter::attach(file.as_slice(), &two).expect("it fits")));
        session.write_input(0, &tokens(picked.as_flattened())).expect("two samples");
        session.run_batch(&adapters).expect("bound steps run");
        let found = floats(session.output(0).expect("an output").bytes());
        for (sample, tokens_of) in picked.iter().enumerate() {
            let file = build::adapter(&one, &made[sample]);
            let adapter = Adapter::attach(file.as_slice(), &one).expect("it fits");
            let alone = floats(&infer(one, &target, &[&tokens(tokens_of)], &adapter).remove(0));
            assert_eq!(alone, found[sample * alone.len()..][..alone.len()], "{}", target.name());
        }
    }
}

#[test]
fn other_terms_are_refused_and_a_table_is_not_trained() {
    let file = net(1, 5);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let affine = TermSpec::Affine { scale: vec![1.0; ROWS], shift: vec![0.0; ROWS] };
    let refused = build::adapter(&plan, &[(0, affine)]);
    match Adapter::attach(refused.as_slice(), &plan) {
        Err(AdapterError::Kind(name)) => assert_eq!(name.as_str(), "table.weight"),
        other => panic!("{other:?}"),
    }
    let lora = Lora::default();
    assert_eq!(Readout::Logits.adapted(&plan, &lora).collect::<Vec<u32>>(), [1]);
    // A head in place of the layer reads what was picked: nothing lies below it.
    let head = Readout::Head { site: NO_SITE, pool: 0, classes: 2 };
    assert_eq!(head.adapted(&plan, &lora).count(), 0);
    for name in ["lora", "full", "shira", "dora"] {
        let method = method(name, &[]).expect("a method of the list");
        let setup = methods::setup(&*method, &[0]);
        match Trainer::memory(&plan, &Host::SCALAR, &setup) {
            // Most methods have nothing to say of a table; what others would train there is refused by name.
            Err(TrainError::NothingToTrain) => {}
            Err(TrainError::NotTrainable(site)) => assert_eq!(site.as_str(), "table.weight"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
