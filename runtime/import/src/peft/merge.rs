//! What PEFT adds to a weight when it merges a LoRA, in its order of operations.

use ingraft_adapter::{Adapter, ParameterSection};
use ingraft_kernel::SiteKind;
use ingraft_tensor::DType;
use serde_json::Value;

use crate::base::Place;
use crate::json::Ordered;
use crate::matrix::Matrix;
use crate::peft::config::Config;
use crate::peft::{WRAPPED, low_rank, module_path};

/// ΔW of the LoRA that `adapter` has at `place`, an f32 site, as PEFT 0.21 computes it in f32, `(B·A)·s`; `None` for anything
/// else, and where compilation folded something into the weight.
///
/// The product of every rank is added to the sum of those before it, rounded once (a fused multiply-add), the sum times s is rounded, and so is
/// what is added to the weight. PyTorch promises no order of the sum: its products of f32 have this one on x86-64 with FMA from
/// 12 columns and 5 rows on and to rank 128 (`benches/record/lora-merge-2026-11-30.md`), and for rank 1 there is no other.
pub(crate) fn lora_delta(
    adapter: &Adapter<'_>,
    section: &ParameterSection<'_>,
    place: &Place<'_>,
) -> Option<Matrix> {
    let desc = place.desc();
    let folded = place.output.iter().chain(&place.input).any(|factor| *factor != 1.0);
    let linear = desc.kernel == [1, 1] && desc.groups == 1 && desc.kind != SiteKind::Embedding;
    if !linear || folded || desc.dtype != DType::F32 {
        return None;
    }
    let (out, row) = place.shape();
    let (mut down, mut up) = (None, None);
    for tensor in section.site(place.index) {
        let values: Vec<f64> = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect();
        match tensor.name.strip_suffix(".weight").unwrap_or(tensor.name) {
            "lora_A" => down = Some(values),
            "lora_B" => up = Some(values),
            _ => return None,
        }
    }
    let (down, up) = (down?, up?);
    let rank = down.len() / row.max(1);
    if rank == 0 || rank * row != down.len() || out * rank != up.len() {
        return None;
    }
    let module = section.site_settings().find(|(site, ..)| *site == place.index);
    let module = module.and_then(|(.., settings)| module_path(settings));
    let scale = scale(adapter, module.unwrap_or(""), rank)? as f32;
    Some(Matrix::from_fn(out, row, |o, j| {
        let product = |sum: f32, k: usize| (up[o * rank + k] as f32).mul_add(down[k * row + j] as f32, sum);
        f64::from((0..rank).fold(0.0, product) * scale)
    }))
}

/// s of the pair of `rank` at `module`, as the adapter's settings say.
fn scale(adapter: &Adapter<'_>, module: &str, rank: usize) -> Option<f64> {
    let hyper = Ordered::of_lines(adapter.hyper());
    if hyper.get("peft_type").is_some() {
        let config = Config::parse(hyper.to_json().as_bytes()).ok()?;
        let plain = config.peft_type() == "LORA" && !module.contains(WRAPPED);
        // Start values that changed the base are a text.
        let changed = !config.text("init_lora_weights").is_empty();
        let other = changed || ["use_dora", "use_bdlora"].iter().any(|name| config.is_on(name));
        return low_rank::lora_scale(&config, module, rank).ok().filter(|_| plain && !other);
    }
    let number = |name: &str| hyper.get(name).and_then(Value::as_f64);
    let (alpha, stated) = (number("alpha")?, number("rank")?);
    let root = match adapter.method() {
        "lora" => hyper.get("rslora").and_then(Value::as_bool).unwrap_or(false),
        "rslora" => true,
        _ => return None,
    };
    (stated == rank as f64).then(|| alpha / if root { stated.sqrt() } else { stated })
}
