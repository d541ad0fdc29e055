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

    /// The same, in terms that are worth having at this site: two factors become a delta where kernels
    /// have none, or take no such rank, or the factors have more values than the delta.
    pub(super) fn at(self, site: &SiteDesc<'_>) -> Self {
        let (Some(up), Some(down)) = (self.up, self.down) else { return self };
        let (rank, out, row) = (down.rows(), site.out, site.row());
        let larger = rank.saturating_mul(out.saturating_add(row)) > out.saturating_mul(row);
        if site.kind == SiteKind::Depthwise || rank > MAX_TERM_RANK || larger {
            return Self::delta(up.matmul(down));
        }
        self
    }

    /// The values, with the shapes they must have at a site of `out` by `row`, in the order of the term parts.
    pub(super) fn outputs(&self, out: usize, row: usize) -> [Option<(Node<'t>, Shape)>; 3] {
        let rank = self.down.map_or(0, Node::rows);
        let with = |node: Option<Node<'t>>, rows, columns| node.map(|node| (node, Shape::new(rows, columns)));
        [with(self.down, rank, row), with(self.up, out, rank), with(self.delta, out, row)]
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
        Ok(TermLayout { rank: self.down.map_or(0, |down| down.rows() as u32), ..delta })
    }
}
