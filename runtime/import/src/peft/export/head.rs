//! A head as PEFT saves one: the last linear layer whole, among `modules_to_save`.

use std::collections::BTreeMap;

use ingraft_adapter::HeadView;
use ingraft_kernel::{NO_SITE, SiteKind, Sites, head};
use ingraft_plan::{Phase, PlanView};

use super::adapted;
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// Adds weight and bias of the layer that `view` replaces, and gives the path of its module.
///
/// # Errors
/// [`Fault::Unsupported`] for a head that is not a linear layer in the place of the base's last.
pub(super) fn module(
    plan: &PlanView<'_>,
    view: &HeadView<'_>,
    modules: &BTreeMap<usize, &str>,
    tensors: &mut Tensors,
) -> Result<String, ImportError> {
    let refuse = |why| ImportError::at("head", Fault::Unsupported(why));
    let mut sites = (0..plan.site_count()).rev().filter_map(|index| Some((index, plan.site(index)?)));
    let (index, site) = sites
        .find(|(_, site)| site.kind == SiteKind::Linear)
        .ok_or_else(|| refuse("the base has no last linear layer; use --layout ingraft"))?;
    // One position per sample: else the base's layer works on each, and averages, if at all, behind it.
    let source = plan.head_source(Phase::Infer, NO_SITE).and_then(|(tensor, _)| plan.tensor(tensor));
    let single = source
        .and_then(|source| head::sample_dims(source.operand.shape))
        .is_some_and(|[_, h, w, features]| h * w == 1 && features == site.inputs);
    let (output, input) = plan.site_diagonals(index);
    if view.site != NO_SITE || !single || output.is_some() {
        return Err(refuse(
            "it does not stand in the place of the base's last linear layer, which is what PEFT can load; \
             use --layout ingraft",
        ));
    }
    let module = adapted::module(modules, index, &site);
    // The plan's features are the model's, divided by what equalization took out of them.
    let factor = |at: usize| input.map_or(1.0, |input| f64::from(input[at % site.inputs]));
    let weight =
        view.weight.iter().enumerate().map(|(at, value)| f64::from((f64::from(*value) / factor(at)) as f32));
    let dims = vec![view.classes, site.inputs];
    tensors.insert(format!("base_model.model.{module}.weight"), Tensor { dims, values: weight.collect() });
    let bias = view.bias.iter().map(|value| f64::from(*value)).collect();
    tensors
        .insert(format!("base_model.model.{module}.bias"), Tensor { dims: vec![view.classes], values: bias });
    Ok(module.to_owned())
}
