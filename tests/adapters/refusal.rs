//! Adapters that must be refused, each with the name of what is wrong.

use ingraft::adapter::{Adapter, AdapterBuilder, AdapterError, AdapterFacts, Privacy, PrivacyUnit, TermSpec};
use ingraft::kernel::{SiteDesc, Sites};
use ingraft::plan::PlanView;

use crate::build::{self, adapter, facts, head, low_rank, sites};
use crate::support::{AlignedBytes, Lcg};
use crate::{base, input};

fn attach(file: &AlignedBytes, plan: &PlanView<'_>) -> Result<(), AdapterError> {
    Adapter::attach(file.as_slice(), plan).map(|_| ())
}

/// The name an error carries.
fn site_of(error: AdapterError) -> String {
    match error {
        AdapterError::UnknownSite(s)
        | AdapterError::MissingSite(s)
        | AdapterError::DuplicateSite(s)
        | AdapterError::Shape(s)
        | AdapterError::Kind(s)
        | AdapterError::NotFinite(s)
        | AdapterError::Indices(s)
        | AdapterError::Accumulator(s)
        | AdapterError::Rank(s) => s.as_str().to_owned(),
        other => panic!("{other} names no site"),
    }
}

#[test]
fn another_base_is_refused() {
    let (one, two) = (base(1), base(2));
    let (one, two) =
        (PlanView::new(one.as_slice()).expect("valid"), PlanView::new(two.as_slice()).expect("valid"));
    let file = adapter(&one, &build::random_terms(&one, 1));
    assert!(attach(&file, &one).is_ok());
    let error = attach(&file, &two).expect_err("another base");
    assert!(matches!(error, AdapterError::WrongBase { .. }), "{error}");
    assert!(!input(&one, 0).is_empty());
}

/// The sites of a plan with one renamed, added or taken away.
struct Altered<'p, 'a> {
    plan: &'p PlanView<'a>,
    extra: Option<SiteDesc<'static>>,
    renamed: Option<usize>,
}

impl Sites for Altered<'_, '_> {
    fn base_hash(&self) -> [u8; 32] {
        self.plan.base_hash()
    }
    fn site_count(&self) -> usize {
        self.plan.site_count() + usize::from(self.extra.is_some())
    }
    fn site(&self, index: usize) -> Option<SiteDesc<'_>> {
        if index == self.plan.site_count() {
            return self.extra;
        }
        let site = self.plan.site(index)?;
        let name = if self.renamed == Some(index) { "another.weight" } else { site.name };
        Some(SiteDesc { name, ..site })
    }
    fn head_features(&self, site: u32, pool: u32) -> Option<usize> {
        self.plan.head_features(site, pool)
    }
    fn head_classes(&self) -> usize {
        self.plan.head_classes()
    }
}

#[test]
fn a_site_too_many_is_named() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let mut extra = plan.site(0).expect("a site");
    extra.name = "one.too.many";
    let extra = SiteDesc { name: "one.too.many", ..extra };
    let altered = Altered { plan: &plan, extra: Some(extra), renamed: None };
    let mut builder = AdapterBuilder::new(&altered);
    let affine = build::affine(&extra, &mut Lcg::new(1));
    builder.term(plan.site_count(), &extra, affine);
    let adapter = AlignedBytes::copy_of(&builder.finish(&facts()));
    assert_eq!(site_of(attach(&adapter, &plan).expect_err("too many")), "one.too.many");
}

#[test]
fn a_renamed_site_is_named() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let altered = Altered { plan: &plan, extra: None, renamed: Some(1) };
    let mut builder = AdapterBuilder::new(&altered);
    let site = altered.site(1).expect("a site");
    builder.term(1, &site, build::affine(&site, &mut Lcg::new(1)));
    let adapter = AlignedBytes::copy_of(&builder.finish(&facts()));
    assert_eq!(site_of(attach(&adapter, &plan).expect_err("renamed")), "another.weight");
}

#[test]
fn a_missing_site_is_named() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let terms = build::random_terms(&plan, 3);
    let whole = adapter(&plan, &terms);
    let last = plan.site(plan.site_count() - 1).expect("a site").name.to_owned();
    let torn = build_torn(&whole, plan.site_count() - 1);
    assert_eq!(site_of(attach(&torn, &plan).expect_err("one too few")), last);
}

/// The file with the index entry of one site erased and the hash made right again:
/// a site the adapter declares then has no terms.
fn build_torn(file: &AlignedBytes, site: usize) -> AlignedBytes {
    let mut bytes = file.as_slice().to_vec();
    let word =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    // Header: magic 8, version 4, length 4, hash 32, base 32, three texts 24, strings 8, declared 8; then index, terms.
    let (index, terms) = (word(&bytes, 120) as usize, 128);
    let first = word(&bytes, index + 4 * site);
    bytes[index + 4 * site..index + 4 * site + 4].fill(0xff);
    bytes[terms + 4..terms + 8].copy_from_slice(&first.to_le_bytes());
    rehash(&mut bytes);
    AlignedBytes::copy_of(&bytes)
}

/// Makes the content hash right again, so that deeper checks are reached.
fn rehash(bytes: &mut [u8]) {
    let hash = blake3::hash(&bytes[48..]);
    bytes[16..48].copy_from_slice(hash.as_bytes());
}

#[test]
fn damage_is_found() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let whole = adapter(&plan, &build::random_terms(&plan, 3));
    let mut bytes = whole.as_slice().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert_eq!(attach(&AlignedBytes::copy_of(&bytes), &plan), Err(AdapterError::Hash));
    bytes.pop();
    assert_eq!(attach(&AlignedBytes::copy_of(&bytes), &plan), Err(AdapterError::Length));
    assert_eq!(
        attach(&AlignedBytes::copy_of(b"not an adapter at all"), &plan),
        Err(AdapterError::NotAnAdapter)
    );
}

#[test]
fn bad_terms_name_their_site() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let (dense, site) = sites(&plan).find(|(_, s)| low_rank(s)).expect("a dense site");
    let (depthwise, dw) = sites(&plan).find(|(_, s)| !low_rank(s)).expect("a depthwise site");
    let affine = |scale: f32, len: usize| TermSpec::Affine { scale: vec![scale; len], shift: vec![0.0; len] };
    let factors = |s: &SiteDesc<'_>, rank: usize| TermSpec::TwoFactorF32 {
        rank,
        down: vec![0.0; rank * s.groups * s.row()],
        up: vec![0.0; rank * s.out],
    };
    let sparse = |indices: Vec<u16>| TermSpec::SparseI16 {
        indptr: core::iter::once(0).chain((0..site.out).map(|_| indices.len() as u32)).collect(),
        values: vec![1; indices.len()],
        indices,
    };
    let fused =
        |len: usize, bias: i32| TermSpec::FusedI8 { weight: vec![127; len], bias: vec![bias; site.out] };
    let cases = [
        ("sums beyond 32 bits", dense, fused(site.out * site.row(), i32::MAX)),
        ("not finite", dense, affine(f32::NAN, site.out)),
        ("infinite", dense, affine(f32::INFINITY, site.out)),
        ("rank zero", dense, factors(&site, 0)),
        ("rank too high", dense, factors(&site, 257)),
        ("low rank on depthwise", depthwise, factors(&dw, 1)),
        ("index beyond the row", dense, sparse(vec![site.row() as u16])),
        ("indices descending", dense, sparse(vec![1, 0])),
        ("indices repeated", dense, sparse(vec![0, 0])),
    ];
    for (what, index, term) in cases {
        let error = attach(&adapter(&plan, &[(index, term)]), &plan).expect_err(what);
        assert_eq!(site_of(error), plan.site(index).expect("a site").name, "{what}: {error}");
    }
}

#[test]
fn heads_must_fit_what_they_read() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let features = plan.head_features(ingraft::kernel::NO_SITE, 0).expect("the model has features");
    assert!(attach(&head(&plan, 8, features), &plan).is_ok());
    assert_eq!(attach(&head(&plan, 3, features + 1), &plan), Err(AdapterError::HeadShape));
    let wanted = AdapterError::HeadClasses { wanted: 9, reserved: 8 };
    assert_eq!(attach(&head(&plan, 9, features), &plan), Err(wanted));
}

/// What a file says of its privacy is read back, is covered by its hash, and has to make sense.
#[test]
fn privacy_is_said_in_full_or_not_at_all() {
    let base = base(1);
    let plan = PlanView::new(base.as_slice()).expect("valid");
    let privacy = Privacy {
        epsilon: 8.0,
        delta: 4e-6,
        unit: PrivacyUnit::Group,
        units: 500,
        steps: 40,
        rate: 0.5,
        noise: 1.9,
        bound: 1.0,
        runs: 2,
    };
    let file = |privacy| {
        let builder = AdapterBuilder::new(&plan);
        builder.finish(&AdapterFacts { privacy, ..facts() })
    };
    let opened = |bytes: &[u8]| {
        let file = AlignedBytes::copy_of(bytes);
        Adapter::open(file.as_slice()).map(|adapter| adapter.privacy())
    };
    assert_eq!(opened(&file(None)), Ok(None));
    assert_eq!(opened(&file(Some(privacy))), Ok(Some(privacy)));
    for nonsense in [
        Privacy { epsilon: f64::NAN, ..privacy },
        Privacy { epsilon: 0.0, ..privacy },
        Privacy { delta: 1.0, ..privacy },
        Privacy { rate: 1.5, ..privacy },
        Privacy { noise: -1.0, ..privacy },
        Privacy { bound: f64::INFINITY, ..privacy },
        Privacy { units: 0, ..privacy },
        Privacy { runs: 0, ..privacy },
    ] {
        assert_eq!(opened(&file(Some(nonsense))), Err(AdapterError::Privacy), "{nonsense}");
    }
    // Changed by hand it is another file; with the hash made right, it still cannot point outside.
    let mut bytes = file(Some(privacy));
    let at = bytes.windows(8).position(|window| window == 4e-6f64.to_le_bytes()).expect("it is written");
    bytes[at] ^= 1;
    assert_eq!(opened(&bytes), Err(AdapterError::Hash));
    let mut bytes = file(None);
    // The last word of the header of 200 bytes.
    let place = 196..200;
    for offset in [1u32, 8, bytes.len() as u32 - 8, u32::MAX - 7] {
        bytes[place.clone()].copy_from_slice(&offset.to_le_bytes());
        rehash(&mut bytes);
        assert_eq!(opened(&bytes), Err(AdapterError::Privacy), "{offset}");
    }
}
