//! Lengths of the rows of a weight that two factors moved.

use ingraft_kernel::SiteKind;
use ingraft_tensor::arrays::arrays;
use ingraft_train::FrozenSite;

use super::super::word::{Matrix, Shape};
use super::{Kind, Memory, Node, State, Tape, operand};

impl<'t> Tape<'t> {
    /// The length of every row of W + `up`·`down`, a column, without a matrix of W's size. No gradient passes: who says it
    /// detaches it. Computed where terms are, and kept for the way back.
    pub(crate) fn moved_row_norms(&'t self, up: Node<'t>, down: Node<'t>) -> Node<'t> {
        let (out, row) = (self.site.out, self.site.row());
        let kept = self.state("~row_norms", out, 1).index;
        let mut state = self.state.borrow_mut();
        let [u, d] = [up.index, down.index].map(|index| state.shape(index));
        state.faulty |= (u.rows, u.columns, d.columns) != (out, d.rows, row);
        let index = state.push(Kind::Weight, Shape::new(out, 1), row, true);
        let [first, kept] = [index, kept].map(|index| state.entry(index).first);
        let State { memory: Some(Memory { site, latent, goes_back, .. }), entries, .. } = &mut *state else {
            return self.node(index);
        };
        let (before, own) = latent.workspace.split_at_mut(first);
        let (norms, moved) = own.split_at_mut(out);
        if !*goes_back {
            let [up, down] = [up, down].map(|node| operand(entries, node.index, latent.constants, before));
            for (channel, norm) in norms.iter_mut().enumerate() {
                row_of(site, channel, &mut moved[..row]);
                *norm = libm::sqrt(squares(&moved[..row], up.row(channel), down));
            }
        }
        let held = &mut latent.constants[kept..kept + out];
        let (to, from) = if *goes_back { (norms, held) } else { (held, norms) };
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        self.node(index)
    }
}

/// Writes the row of output channel `channel` of the frozen weight, in published order.
fn row_of(site: &FrozenSite<'_>, channel: usize, row: &mut [f64]) {
    let desc = &site.desc;
    let (window, inputs) = (desc.kernel.iter().product::<usize>().max(1), desc.inputs);
    let codes = site.codes().filter(|_| desc.kind != SiteKind::Depthwise);
    let codes = codes.and_then(|codes| codes.get(site.offset(channel, 0)..)?.get(..row.len()));
    let weight = |position: usize| match codes.zip(site.weight_step(channel)) {
        Some((codes, step)) => f32::from(codes[position]) * step,
        None => site.weight(channel, position),
    };
    for (input, places) in row.chunks_exact_mut(window).enumerate() {
        for (at, place) in places.iter_mut().enumerate() {
            *place = f64::from(weight(at * inputs + input));
        }
    }
}

/// The sum of the squares of `row + up·down`, in eight interleaved sums.
fn squares(row: &[f64], up: &[f64], down: Matrix<'_>) -> f64 {
    let (runs, rest) = arrays::<_, 8>(row);
    let mut sums = [0.0f64; 8];
    for (at, run) in runs.iter().enumerate() {
        let mut moved = *run;
        for (factor, along) in up.iter().zip(down.rows()) {
            let (along, _) = arrays::<_, 8>(along);
            moved.iter_mut().zip(&along[at]).for_each(|(to, from)| *to += factor * from);
        }
        sums.iter_mut().zip(moved).for_each(|(sum, value)| *sum += value * value);
    }
    let first = row.len() - rest.len();
    let tail = rest.iter().enumerate().map(|(at, value)| {
        let moves = up.iter().zip(down.rows()).map(|(factor, along)| factor * along[first + at]);
        let moved = value + moves.sum::<f64>();
        moved * moved
    });
    sums.into_iter().chain(tail).sum()
}
