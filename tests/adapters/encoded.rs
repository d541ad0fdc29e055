//! Adapter files written without a heap.

use ingraft::adapter::{
    Adapter, AdapterBuilder, EncodeError, Encoder, FileFacts, HeadSpec, HeadView, Link, TermSource, TermSpec,
};
use ingraft::kernel::{SiteTerms, Sites};
use ingraft::plan::PlanView;

use crate::base;
use crate::build::{self, adapter, facts, fused, head, low_rank, sites};
use crate::support::AlignedBytes;

const FACTS: FileFacts<'_> =
    FileFacts { method: "built in a test", method_version: 0, hyper: "", provenance: "" };

/// Every kind of term and a head.
fn files(plan: &PlanView<'_>) -> Vec<AlignedBytes> {
    let mut files: Vec<AlignedBytes> =
        build::zero_terms(plan).into_iter().map(|(_, terms)| adapter(plan, &terms)).collect();
    files.extend((0..3).map(|seed| adapter(plan, &build::random_terms(plan, seed))));
    files.push(head(plan, 5, plan.head_features(u32::MAX, 0).expect("the model has a last layer")));
    let (site, desc) = sites(plan).find(|(_, site)| low_rank(site)).expect("a dense site");
    let mut builder = AdapterBuilder::new(plan);
    builder.term(site, &desc, fused(plan, site));
    let indptr = (0..=desc.out as u32).collect();
    let (indices, values) = (vec![0; desc.out], vec![0.25; desc.out]);
    builder.term(site, &desc, TermSpec::SparseF32 { indptr, indices, values });
    builder.head(HeadSpec {
        site: Some(site as u32),
        pool: 3,
        weight: vec![0.5; 2 * desc.out],
        bias: vec![1.0, 2.0],
        labels: vec!["near".into(), "far".into()],
        link: Link::Sigmoid,
    });
    files.push(AlignedBytes::copy_of(&builder.finish(&facts())));
    files
}

#[test]
fn without_a_heap_the_same_bytes_are_written() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    for (number, wanted) in files(&plan).iter().enumerate() {
        let adapter = Adapter::attach(wanted.as_slice(), &plan).expect("it fits");
        let encoder = Encoder::new(&plan, &adapter, FACTS);
        assert_eq!(encoder.file_bytes(), Ok(wanted.as_slice().len()), "file {number}");
        // Memory that was used before, and one byte more than is needed.
        let mut memory = vec![0xa5; wanted.as_slice().len() + 1];
        assert_eq!(encoder.write(&mut memory), Ok(wanted.as_slice()), "file {number}");
        assert_eq!(memory.last(), Some(&0xa5));
        let needed = wanted.as_slice().len();
        let short = encoder.write(&mut memory[..needed - 1]);
        assert_eq!(short, Err(EncodeError::Memory { needed, supplied: needed - 1 }));
    }
}

/// A delta of every weight at the first site.
struct Dense(Vec<f32>);

impl TermSource for Dense {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        SiteTerms { dense: (index == 0).then_some(&self.0), ..SiteTerms::NONE }
    }

    fn head(&self) -> Option<HeadView<'_>> {
        None
    }
}

#[test]
fn a_delta_of_every_weight_is_refused_by_name() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let site = plan.site(0).expect("the model has sites");
    let dense = Dense(vec![0.0; site.out * site.row()]);
    match Encoder::new(&plan, &dense, FACTS).write(&mut [0; 64]) {
        Err(EncodeError::Dense(name)) => assert_eq!(name.as_str(), site.name),
        other => panic!("{other:?}"),
    }
}
