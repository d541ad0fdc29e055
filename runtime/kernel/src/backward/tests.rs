//! Backward steps against finite differences, adjoints and exact cases.

extern crate std;

mod activations;
mod adjoint;
mod elementwise;
mod exact;
mod finite_differences;
mod moved;
mod site;

use std::vec::Vec;

use ingraft_tensor::{View, ViewMut};

use super::*;
use crate::attrs::Attrs;
use crate::test_case::{Tensor, bind};
use crate::{Kernel, SiteGrads, SiteTerms};

/// What a call carries beside its operands.
#[derive(Default)]
struct Site<'a> {
    terms: SiteTerms<'a>,
    grads: SiteGrads<'a>,
    accumulate: u32,
}

/// Checks the step as at bind, then runs it into `outputs`. The workspace is
/// filled with NaN, so that nothing may rely on what it holds.
fn run<A: Attrs>(
    kernel: &Kernel,
    attrs: &A,
    inputs: &[&Tensor],
    outputs: &mut [&mut Tensor],
    site: Site<'_>,
) -> Result<(), KernelError> {
    let workspace = bind(kernel, attrs, inputs, outputs)?;
    let inputs: Vec<View<'_>> =
        inputs.iter().map(|t| View::new(t.dtype, t.shape, t.bytes()).unwrap()).collect();
    let mut outputs: Vec<ViewMut<'_>> =
        outputs.iter_mut().map(|t| ViewMut::new(t.dtype, t.shape, t.bytes_mut()).unwrap()).collect();
    let mut scratch = std::vec![u64::MAX; workspace.div_ceil(8)];
    let scratch = zerocopy::IntoBytes::as_mut_bytes(&mut scratch[..]);
    (kernel.run)(&mut Call {
        op: kernel.op,
        attrs: attrs.as_bytes(),
        inputs: &inputs,
        outputs: &mut outputs,
        workspace: &mut scratch[..workspace],
        packed: &[],
        terms: site.terms,
        grads: site.grads,
        accumulate: site.accumulate,
    })
}

/// `Σ a·b` in f64.
fn inner(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum()
}

/// A mask tensor with bit `i` set where `pass(i)`.
fn mask(len: usize, pass: impl Fn(usize) -> bool) -> Tensor {
    let mut bits = std::vec![0u8; len.div_ceil(8)];
    for i in (0..len).filter(|i| pass(*i)) {
        bits[i / 8] |= 1 << (i % 8);
    }
    Tensor::new(&[bits.len() as u32], &bits)
}
