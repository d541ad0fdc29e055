//! Methods as expressions: what the weight becomes, in a small vocabulary.
//!
//! A method that is an [`Expression`] declares parameters and computes, from the
//! frozen weight W and those parameters, a [`Form`]: the effective weight, a
//! delta of it, two factors of the delta, a scale, a shift. It is written once,
//! as mathematics on [`Node`]s:
//!
//! ```text
//! let v = w + b.matmul(a) * scale;
//! Ok(Form::weight(v.times(magnitude).times(v.row_norms().detach().reciprocal())))
//! ```
//!
//! Running it over a [`Tape`] gives everything else: the number of parameters
//! and all memory (shapes alone), the start values, the terms, and the gradient of
//! the parameters (reverse mode over the words, one file each in `word`).
//!
//! # Shapes
//! A weight is the matrix `[out, row]` as published implementations flatten it: a
//! row counts input channels first, then kernel height and width. Groups of a
//! convolution are rows of the one matrix.
//!
//! # Numerics
//! f64, in a fixed order and without contraction: the same bits on every target.

mod form;
mod method;
mod node;
mod revised;
mod start;
mod svd;
mod tape;
mod word;

pub(crate) use form::Form;
pub(crate) use method::{Expressed, Expression};
pub(crate) use node::Node;
pub(crate) use revised::Revised;
pub(crate) use start::Start;
pub(crate) use svd::eigenvectors;
pub(crate) use tape::{Among, Tape};

/// The singular value decomposition of `rows` by `columns` values.
pub(crate) fn svd(rows: usize, columns: usize, values: &[f64]) -> svd::Svd {
    svd::svd(word::Matrix { shape: word::Shape::new(rows, columns), data: values })
}
