//! Places that PEFT draws from a seed, and stores the seed alone.

use ingraft_adapter::ParameterSection;
use ingraft_kernel::Sites;
use ingraft_method::TorchRng;
use ingraft_plan::PlanView;
use serde_json::Value;

use crate::json::Ordered;
use crate::{Fault, ImportError};

/// That PEFT would draw the places that `method` trained at every one of `sites`.
///
/// # Errors
/// [`Fault::Unsupported`] where they are others; [`Fault::Missing`] where there are none.
pub(super) fn drawn(
    method: &str,
    plan: &PlanView<'_>,
    hyper: &Ordered,
    section: &ParameterSection<'_>,
    sites: &[usize],
) -> Result<(), ImportError> {
    let seed = hyper.get("random_loc_seed").and_then(Value::as_u64);
    for index in sites {
        let Some(site) = plan.site(*index) else { continue };
        let held = section.site(*index).find(|tensor| tensor.name == "indices");
        let held = held.ok_or_else(|| ImportError::at(site.name, Fault::Missing("indices".to_owned())))?;
        let row = site.row();
        // Haar's spectrum has even sides.
        let columns = if method == "waveft" { row.next_multiple_of(2) } else { row };
        let wanted = seed.map(|seed| {
            let drawn = TorchRng::new(seed).permutation(site.out * row, held.values.len());
            drawn.into_iter().map(move |at| (at / row.max(1) * columns + at % row.max(1)) as f64)
        });
        let held = (0..held.values.len()).filter_map(|at| held.values.get(at));
        if !wanted.is_some_and(|wanted| wanted.eq(held)) {
            let why = "PEFT draws its places from random_loc_seed, and stores none; these are others; use --layout ingraft";
            return Err(ImportError::at(site.name, Fault::Unsupported(why)));
        }
    }
    Ok(())
}
