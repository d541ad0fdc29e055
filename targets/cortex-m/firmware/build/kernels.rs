//! The explicit resolver: the rows of kernels that a plan runs, as the firmware's source.

use ingraft_kernel::{Host, Target};
use ingraft_plan::{Phase, PlanView};

/// What adapters may have beside integer factors of rank 16 at most, scales, shifts and whole weights.
#[derive(Clone, Copy)]
pub(crate) struct Adapters {
    /// Heads.
    pub(crate) heads: bool,
    /// Real factors, as a trainer has them, and overlays: these link the scalar reference behind the int8 rows.
    pub(crate) any_term: bool,
}

/// The list of rows for `plan` on `target`: firmware links no others. One too few, and the session refuses to bind.
pub(crate) fn list(plan: &PlanView<'_>, target: &Host, adapters: Adapters) -> String {
    let mut paths = Vec::new();
    if adapters.heads {
        paths.push("ingraft_kernel::head::KERNEL".to_owned());
    }
    for phase in [Phase::Infer, Phase::Train] {
        for index in 0..plan.step_count(phase) {
            let step = plan.resolve(phase, index).expect("a plan we wrote is valid");
            let name = target.kernel_name(&step).expect("every target runs every step");
            let (family, _) = name.split_once("__").expect("names end in an instruction set");
            let row = ROWS.iter().find(|row| row.0 == family);
            let path = row.unwrap_or_else(|| panic!("add {family} to the list of rows")).1;
            let lean = path.starts_with("ingraft_cortex_m") && !adapters.any_term;
            paths.push(format!("{path}{}", if lean { "_LEAN" } else { "" }));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    format!("&[{}]", paths.join(", "))
}

/// Where rows stand in the source, by family and types.
const ROWS: &[(&str, &str)] = &[
    ("add_qs8_qs8_qs8", "ingraft_kernel::elementwise::KERNEL_ADD_Q"),
    ("conv_backward_f32_qc8w_f32", "ingraft_kernel::backward::conv::KERNEL_Q"),
    ("copy_x_x", "ingraft_kernel::copy::KERNEL"),
    ("dequantize_qs8_f32", "ingraft_kernel::quantize::KERNEL_DEQUANTIZE"),
    ("lookup_qs8_qs8", "ingraft_kernel::lookup::KERNEL"),
    ("pool_qs8_qs8", "ingraft_kernel::pool::KERNEL_Q"),
    ("qconv_qs8_qc8w_f32", "ingraft_cortex_m::rows::QCONV_F32"),
    ("qconv_qs8_qc8w_qs8", "ingraft_cortex_m::rows::QCONV"),
    ("qdepthwise_qs8_qc8w_qs8", "ingraft_cortex_m::rows::QDEPTHWISE"),
    ("quantize_f32_qs8", "ingraft_kernel::quantize::KERNEL"),
    ("reduce_qs8_qs8", "ingraft_kernel::reduce::KERNEL_Q"),
    ("requantize_qs8_qs8", "ingraft_kernel::quantize::KERNEL_REQUANTIZE"),
    ("softmax_f32_f32", "ingraft_kernel::softmax::KERNEL"),
    ("softmax_qs8_qs8", "ingraft_kernel::softmax::KERNEL_Q"),
];
