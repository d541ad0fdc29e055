//! Gradients of a product of two activations: products without packing.
//!
//! # Limit
//! `m·k·n` multiply-adds for either operand. `dY·Bᵀ` is dot products along `n`, `Aᵀ·dY` a broadcast of a column of A each
//! row and step: both read their operands as they are stored.

use ingraft_kernel::backward::matmul::{Product, products};
use ingraft_kernel::{Call, KernelError};

use super::product::{Dots, Left, Outer, Output, Right};
use crate::Vector;

/// Adds the gradient of the wanted operand.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    products(call, |Product { left, extents: [m, k, n], dy, kept, dx }| {
        let dy = Right { values: dy, stride: n };
        match left {
            true => v.perform(Dots {
                left: dy,
                right: Right { values: kept, stride: n },
                rows: m,
                columns: k,
                depth: n,
                output: Output { values: dx, stride: k, add: true },
            }),
            false => v.perform(Outer {
                left: Left { values: kept, row: 1, step: k },
                right: dy,
                rows: k,
                columns: n,
                depth: m,
                output: Output { values: dx, stride: n, add: true },
            }),
        }
    })
}
