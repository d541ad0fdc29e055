//! What an expression comes to.

use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{TermLayout, Unfit};

use super::Node;
use super::word::Shape;
use crate::mask::dense;

/// What becomes of a site: the value of an expression, and the terms it lowers to exactly.
///
/// What is not two factors is a delta of the whole weight, which is fused when the adapter is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Form<'t> {
    up: Option<Node<'t>>,
    down: Option<Node<'t>>,
    delta: Option<Node<'t>>,
    scale: Option<Node<'t>>,
    shift: Option<Node<'t>>,
}

impl<'t> Form<'t> {
    /// `W' = up·down + W`.
    pub(crate) fn two_factor(up: Node<'t>, down: Node<'t>) -> Self {
        Self { up: Some(up), down: Some(down), ..Self::default() }
    }

    /// `W' = W + Δ`.
    pub(crate) fn delta(delta: Node<'t>) -> Self {
        Self { delta: Some(delta), ..Self::default() }
    }

    /// `W'` itself.
    pub(crate) fn weight(weight: Node<'t>) -> Self {
        Self::delta(weight - weight.tape().weight())
    }

    /// `y = scale ⊙ (Wx + b) + shift`, columns.
    pub(crate) fn affine(scale: Node<'t>, shift: Node<'t>) -> Self {
        Self { scale: Some(scale), shift: Some(shift), ..Self::default() }
    }

    /// `W' = diag(scale)·(W + up·down)` beside the base's bias as it is; `scale` a column. Kernels scale what they add to
    /// the bias, so that the shift gives the bias back.
    pub(crate) fn directed(up: Node<'t>, down: Node<'t>, scale: Node<'t>) -> Self {
        let bias = up.tape().bias();
        let shift = bias - bias.times(scale);
        Self { scale: Some(scale), shift: Some(shift), ..Self::two_factor(up, down) }
    }

    /// `y = Wx + b + shift`, a column.
    pub(crate) fn shift(shift: Node<'t>) -> Self {
        Self::default().shifted(shift)
    }

    /// The same with another bias: `shift` is added to the output.
    pub(crate) fn shifted(self, shift: Node<'t>) -> Self {
        Self { shift: Some(shift), ..self }
    }

    /// The delta of the weight that this is, whole, and the shift of the output.
    pub(crate) fn parts(self) -> [Option<Node<'t>>; 2] {
        let product = self.up.zip(self.down).map(|(up, down)| up.matmul(down));
        match (product, self.scale) {
            // As `directed` has it: what its shift gives back to the bias is none of the weight's.
            (Some(product), Some(scale)) => {
                let w = product.tape().weight();
                [Some((w + product).times(scale) - w), None]
            }
            _ => [self.delta.or(product), self.shift],
        }
    }

    /// The same, in terms that are worth having at this site: two factors become a delta where kernels
    /// have none, or take no such rank, or the factors have more values than the delta.
    pub(super) fn at(self, site: &SiteDesc<'_>) -> Self {
        let (Some(up), Some(down)) = (self.up, self.down) else { return self };
        let (rank, out, row) = (down.rows(), site.out, site.row());
        let larger = rank.saturating_mul(out.saturating_add(row)) > out.saturating_mul(row);
        if site.kind == SiteKind::Depthwise || rank > MAX_TERM_RANK || larger {
            return Self { up: None, down: None, delta: Some(up.matmul(down)), ..self };
        }
        self
    }

    /// The values, with the shapes they must have at a site of `out` by `row`, in the order of the term parts.
    pub(super) fn outputs(&self, out: usize, row: usize) -> [Option<(Node<'t>, Shape)>; 5] {
        let rank = self.down.map_or(0, Node::rows);
        let with = |node: Option<Node<'t>>, rows, columns| node.map(|node| (node, Shape::new(rows, columns)));
        [
            with(self.down, rank, row),
            with(self.up, out, rank),
            with(self.delta, out, row),
            with(self.scale, out, 1),
            with(self.shift, out, 1),
        ]
    }

    /// The terms of this form.
    ///
    /// # Errors
    /// [`Unfit`] when a value has not the shape of its term.
    pub(super) fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        let (out, row) = (site.out, site.row());
        let fits = self.outputs(out, row).into_iter().flatten().all(|(node, shape)| node.shape() == shape);
        if !fits {
            return Err(Unfit::Expression { out, row });
        }
        let delta = self.delta.map_or(Ok(TermLayout::NONE), |_| dense(site))?;
        Ok(TermLayout {
            rank: self.down.map_or(0, |down| down.rows() as u32),
            scale: self.scale.is_some(),
            shift: self.shift.is_some(),
            ..delta
        })
    }
}
