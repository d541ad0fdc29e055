//! Steps cut into bands of output rows, so that several workers share one.
//!
//! Activations are channels-last, so a band of a result is one run of memory. A window reaches into rows of its
//! neighbors' inputs; where a band begins or ends inside the image, the padding of the whole step becomes less.

use core::ops::Range;

use ingraft_tensor::Shape;
use zerocopy::IntoBytes;

use crate::attrs::Window;
use crate::{OpCode, Operand, Place, Span, Step};

/// How a step can be cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Along the height of one sample.
    Height(Window),
    /// Along the outermost axis: samples, or rows of a linear layer.
    Outermost,
    /// Elementwise, or along the innermost axis alone: so many inputs are cut like the output.
    Rows(usize),
}

/// A step that can be cut into bands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bands<'s, 'a> {
    step: &'s Step<'a>,
    cut: Cut,
    rows: usize,
    count: usize,
}

/// One band: operands, and the attribute record where it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band<'a> {
    pub(crate) step: Step<'a>,
    words: [u32; WORDS],
    len: usize,
}

impl<'s, 'a> Bands<'s, 'a> {
    /// At most `most` bands of `step`, each of `grain` multiply-accumulates or more; `None` for a step that is
    /// better, or only, run whole.
    pub(crate) fn new(step: &'s Step<'a>, most: usize, grain: usize) -> Option<Self> {
        if most <= 1 {
            return None;
        }
        let (&[output], Some(input)) = (step.outputs(), step.inputs().first()) else { return None };
        let (cut, rows) = cut(step, input.shape, output.shape)?;
        let count = most.min(rows).min(work(step, output.shape).checked_div(grain)?);
        (count > 1).then_some(Self { step, cut, rows, count })
    }

    /// Number of bands.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Band `index`; `None` past the last, or for operands whose bytes do not divide.
    pub(crate) fn get(&self, index: usize) -> Option<Band<'a>> {
        let edge = |index: usize| self.rows.checked_mul(index)?.checked_div(self.count);
        let rows = edge(index)?..edge(index.checked_add(1)?)?;
        let record = self.step.attrs;
        let (mut words, len) = ([0u32; WORDS], record.len());
        words.as_mut_bytes().get_mut(..len)?.iter_mut().zip(record).for_each(|(w, b)| *w = *b);
        let output = *self.step.outputs().first()?;
        let (input, cut_inputs) = match self.cut {
            Cut::Height(window) => (height(window, self.step, &rows, &mut words)?, 1),
            Cut::Outermost => (rows.clone(), 1),
            Cut::Rows(inputs) => (rows.clone(), inputs),
        };
        let mut step = Step::new(self.step.op, self.step.attrs);
        for (slot, operand) in self.step.inputs().iter().enumerate() {
            let operand = if slot < cut_inputs { self.narrow(*operand, &input)? } else { *operand };
            step.push_input(operand).ok()?;
        }
        step.push_output(self.narrow(output, &rows)?).ok()?;
        (step.packed, step.choice) = (self.step.packed, self.step.choice);
        Some(Band { step, words, len })
    }

    /// `operand` without all but `rows` of its rows.
    fn narrow(&self, operand: Operand<'a>, rows: &Range<usize>) -> Option<Operand<'a>> {
        let dims = operand.shape.dims();
        let (all, shape) = match self.cut {
            Cut::Height(_) => {
                let &[n, h, w, c] = dims else { return None };
                (h as usize, Shape::new(&[n, rows.len() as u32, w, c]))
            }
            Cut::Outermost => {
                let &[n, h, w, c] = dims else { return None };
                (n as usize, Shape::new(&[rows.len() as u32, h, w, c]))
            }
            Cut::Rows(_) => {
                let inner = *dims.last()?;
                let all = operand.shape.elements().checked_div(inner as usize)?;
                (all, Shape::new(&[rows.len() as u32, inner]))
            }
        };
        let cut = |len: usize| {
            let row = len.checked_div(all).filter(|row| row.checked_mul(all) == Some(len))?;
            Some((row.checked_mul(rows.start)?, row.checked_mul(rows.len())?))
        };
        let place = match operand.place {
            Place::Memory(span) => {
                let (skipped, len) = cut(span.len)?;
                Place::Memory(Span { offset: span.offset.checked_add(skipped)?, len })
            }
            Place::Plan(bytes) => {
                let (skipped, len) = cut(bytes.len())?;
                Place::Plan(bytes.get(skipped..)?.get(..len)?)
            }
        };
        Some(Operand { dtype: operand.dtype, shape: shape.ok()?, place })
    }
}

impl Band<'_> {
    /// The attribute record.
    pub(crate) fn attrs(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or(&[])
    }
}

/// The cut and the number of rows along it.
fn cut(step: &Step<'_>, input: Shape, output: Shape) -> Option<(Cut, usize)> {
    let alike = |inputs: usize| {
        let whole = step.inputs().iter().take(inputs).all(|operand| operand.shape == output);
        let rows = output.elements().checked_div(*output.dims().last()? as usize)?;
        whole.then_some((Cut::Rows(inputs), rows))
    };
    match step.op {
        OpCode::Conv | OpCode::QConv | OpCode::DynamicConv | OpCode::Depthwise | OpCode::QDepthwise => {}
        OpCode::Pool | OpCode::QPool => {}
        OpCode::Unary | OpCode::Lookup | OpCode::Softmax | OpCode::QSoftmax => return alike(1),
        OpCode::Quantize | OpCode::Dequantize | OpCode::Requantize => return alike(1),
        OpCode::Binary | OpCode::QAdd | OpCode::QMul => return alike(2),
        _ => return None,
    }
    let ([n, _, _, _], [_, height, _, _]) = (input.nhwc()?, output.nhwc()?);
    if n > 1 {
        return Some((Cut::Outermost, n));
    }
    // Every record of a window begins with it.
    let window = zerocopy::FromBytes::read_from_prefix(step.attrs).ok()?.0;
    Some((Cut::Height(window), height))
}

/// What `step` costs in multiply-accumulates; an element without any costs as much as eight.
fn work(step: &Step<'_>, output: Shape) -> usize {
    let weight = || Some(step.inputs().get(1)?.shape.elements());
    let channels = output.dims().last().map_or(1, |&c| c as usize);
    let per_element = match step.op {
        OpCode::Conv | OpCode::QConv | OpCode::DynamicConv | OpCode::Depthwise | OpCode::QDepthwise => {
            weight().and_then(|w| w.checked_div(channels)).unwrap_or(1)
        }
        _ => 8,
    };
    output.elements().saturating_mul(per_element)
}

/// The input rows behind the output `rows`, and the padding that is left, written into the record's `words`.
fn height(
    window: Window,
    step: &Step<'_>,
    rows: &Range<usize>,
    words: &mut [u32; WORDS],
) -> Option<Range<usize>> {
    let [_, height, _, _] = step.inputs().first()?.shape.nhwc()?;
    let [stride, dilation, kernel] = [window.stride, window.dilation, window.kernel].map(|v| v[0] as usize);
    let [top, bottom] = [window.pad[0] as usize, window.pad[2] as usize];
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    // Counted from the top of the padding.
    let first = rows.start.checked_mul(stride)?;
    let last = rows.end.checked_sub(1)?.checked_mul(stride)?.checked_add(reach)?;
    let end = top.checked_add(height)?;
    let (from, to) = (first.max(top), last.min(end));
    let (above, below) = (from.checked_sub(first)?, last.min(end.checked_add(bottom)?).checked_sub(to)?);
    let [_, _, _, _, _, _, top_word, _, bottom_word, ..] = words;
    (*top_word, *bottom_word) = (above as u32, below as u32);
    // A band wholly inside the padding has no input of its own.
    (from < to).then_some(from.checked_sub(top)?..to.checked_sub(top)?)
}

/// Words of the longest record of a step that can be cut.
const WORDS: usize = 20;
