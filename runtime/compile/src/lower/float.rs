//! Float operators: everything the file did not quantize.

use super::LowerError;
use super::select::Selector;
use crate::graph::NodeId;

/// Lowers `id` as a float or index operator.
pub(super) fn lower(selector: &mut Selector<'_>, id: NodeId) -> Result<(), LowerError> {
    let node = &selector.graph[id];
    Err(selector.unsupported(node, "no plan operator computes it"))
}
