//! What the suites share: finding data, aligned files, running a plan.
#![allow(dead_code, reason = "each suite uses a part")]

use std::path::PathBuf;

use ingraft::adapter::TermSource;
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{HostMemory, Target};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::bytes;

/// The development data, or `None` with a note where it is absent. In CI absence
/// fails: it would hide a broken test.
pub(crate) fn data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let path = PathBuf::from(std::env::var("INGRAFT_DATA").unwrap_or_else(|_| default.to_owned()));
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "the development data is absent: {}", path.display());
    eprintln!("skipped: no data at {} (set INGRAFT_DATA)", path.display());
    None
}

/// Bytes at a 16-byte boundary.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    storage: Vec<u128>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { storage: vec![0; len.div_ceil(16)], len }
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(source: &[u8]) -> Self {
        let mut it = Self::zeroed(source.len());
        it.as_mut().copy_from_slice(source);
        it
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(self.storage.as_slice())[..self.len]
    }

    /// The bytes, to write.
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut zerocopy::IntoBytes::as_mut_bytes(self.storage.as_mut_slice())[..self.len]
    }
}

/// Runs one inference and gives every output's bytes.
pub(crate) fn infer<S: TermSource, T: Target<Memory = HostMemory>>(
    plan: PlanView<'_>,
    target: &T,
    inputs: &[&[u8]],
    source: &S,
) -> Vec<Vec<u8>> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("the target runs every step");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut()).expect("memory suffices");
    for (index, input) in inputs.iter().enumerate() {
        session.write_input(index, input).expect("the input has this length");
    }
    session.run(source).expect("bound steps run");
    let count = plan.outputs().count();
    (0..count).map(|i| session.output(i).expect("output exists").bytes().to_vec()).collect()
}

/// `bytes` as floats.
pub(crate) fn floats(values: &[u8]) -> Vec<f32> {
    values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The index of the largest value, the first of equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let best = values.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map_or(0, |(i, _)| i)
}

/// The floats as bytes.
pub(crate) fn as_bytes(values: &[f32]) -> &[u8] {
    bytes::of(values)
}

/// A small deterministic generator for test values.
#[derive(Clone, Debug)]
pub(crate) struct Lcg(u64);

impl Lcg {
    /// A generator of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// 31 random bits.
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }

    /// A real in 0…1.
    pub(crate) fn real(&mut self) -> f32 {
        self.bits() as f32 / (1u32 << 31) as f32
    }

    /// An int8 code.
    pub(crate) fn code(&mut self) -> i8 {
        (self.bits() >> 8) as i8
    }
}
