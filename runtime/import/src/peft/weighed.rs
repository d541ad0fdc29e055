//! Checkpoints that mean the weight itself: computed from it, or in place of a part of it.

use ingraft_kernel::elementwise::UnaryFn;

use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::peft::product::orthonormal;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// `W' = W + W∘A + B`, `b' = b + b∘D + E + W·C` (GLoRA), each a pair, a value per channel, one value, or nothing.
pub(super) fn glora(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (out, row) = module.place.shape();
    let weight = &module.place.weight;
    let mut delta = Matrix::zeros(out, row);
    if let Some(a) = support(module, "glora_A", out, row)? {
        delta = delta.plus(&a.zip(weight, |a, w| a * w));
    }
    if let Some(b) = support(module, "glora_B", out, row)? {
        delta = delta.plus(&b);
    }
    let mut shift: Option<Vec<f64>> = None;
    let mut add = |values: Vec<f64>| {
        let shift = shift.get_or_insert_with(|| vec![0.0; out]);
        shift.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    };
    if let Some(c) = support(module, "glora_C", row, 1)? {
        add(weight.matmul(&c).data);
    }
    if let Some(d) = support(module, "glora_D", out, 1)? {
        add(module.bias()?.iter().zip(&d.data).map(|(bias, d)| bias * d).collect());
    }
    if let Some(e) = support(module, "glora_E", out, 1)? {
        add(e.data);
    }
    Ok(Change { dense: Some(delta), shift, ..Change::default() })
}

/// A support of GLoRA as `rows` by `columns`; `None` where it is switched off.
fn support(module: &Module<'_>, name: &str, rows: usize, columns: usize) -> Result<Option<Matrix>> {
    let part = |end: &str| format!("{name}.{end}");
    if module.optional(&part("Xd")).is_some() {
        let up = module.matrix(&part("Xd"), rows, 0)?;
        return Ok(Some(up.matmul(&module.matrix(&part("Xu"), up.columns, columns)?)));
    }
    let Some(held) = module.optional(&part("X")) else { return Ok(None) };
    if let [value] = held.values[..] {
        return Ok(Some(Matrix::from_fn(rows, columns, |_, _| value)));
    }
    let values = module.vector(&part("X"), rows)?;
    Ok(Some(Matrix::from_fn(rows, columns, |i, _| values[i])))
}

/// `ΔW = s·(B·g(Wᵀ))ᵀ`, g a small network over the columns of the weight (PEANuT).
pub(super) fn peanut(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (out, _) = module.place.shape();
    let name = module.config.text("act_fn");
    let Some((function, alpha, beta)) = activation(if name.is_empty() { "relu" } else { name }) else {
        return module.refuse(
            "act_fn is none of the activations that are read; merge it in PEFT and compile the merged model",
        );
    };
    // f32, as PEFT computes it.
    let bend = |values: Matrix| values.map(|v| f64::from(function.eval(alpha, beta, v as f32)));
    let a = module.matrix("peanut_A.weight", 0, out)?;
    let rank = a.rows;
    let layers = |side: &str| -> Result<Vec<Matrix>> {
        let head = format!("peanut_{side}.");
        let count = module.numbered(&head, ".weight")?;
        (0..count).map(|at| module.matrix(&format!("{head}{at}.weight"), rank, rank)).collect()
    };
    let (encoders, decoders) = (layers("encoders")?, layers("decoders")?);
    let depth = module.config.count("depth", 0)?;
    if encoders.len() != depth || decoders.len() != depth {
        return module.refuse("there are not as many encoders and decoders as depth says");
    }
    let mut hidden = bend(module.place.weight.transpose().matmul(&a.transpose()));
    let mut held = Vec::new();
    for encoder in &encoders {
        held.push(hidden.clone());
        hidden = bend(hidden.matmul(&encoder.transpose()));
    }
    for decoder in &decoders {
        hidden = bend(hidden.matmul(&decoder.transpose()));
        if let Some(before) = held.pop() {
            hidden = hidden.plus(&before);
        }
    }
    let scale = module.config.number("scaling", 1.0)?;
    let b = module.matrix("peanut_B.weight", out, rank)?;
    Ok(Change::factors(b.scaled(scale), hidden.transpose()))
}

/// What transformers calls an activation.
fn activation(name: &str) -> Option<(UnaryFn, f32, f32)> {
    Some(match name {
        "relu" => (UnaryFn::Clip, 0.0, f32::INFINITY),
        "relu6" => (UnaryFn::Clip, 0.0, 6.0),
        "linear" => (UnaryFn::Clip, f32::NEG_INFINITY, f32::INFINITY),
        "leaky_relu" => (UnaryFn::LeakyRelu, 0.01, 0.0),
        "gelu" | "gelu_python" => (UnaryFn::Gelu, 0.0, 0.0),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => (UnaryFn::GeluTanh, 0.0, 0.0),
        "quick_gelu" => (UnaryFn::Swish, 1.702, 0.0),
        "silu" | "swish" => (UnaryFn::Swish, 1.0, 0.0),
        "mish" => (UnaryFn::Mish, 0.0, 0.0),
        "sigmoid" => (UnaryFn::Sigmoid, 0.0, 0.0),
        "tanh" => (UnaryFn::Tanh, 0.0, 0.0),
        _ => return None,
    })
}

/// The trained triplets in place of the weight's own smallest (OSF): ΔW = U·S·V − low(W).
pub(super) fn osf(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (out, row) = module.place.shape();
    let up = module.matrix("osf_svd_params.U_low", out, 0)?;
    let rank = up.columns;
    let values = module.vector("osf_svd_params.S_low", rank)?;
    let down = module.matrix("osf_svd_params.V_low", rank, row)?;
    let Some(kept) = out.min(row).checked_sub(rank) else {
        return module.refuse("osf_svd_params holds more triplets than the weight has");
    };
    let (own_up, own_down) = triplets(module, kept..out.min(row))?;
    Ok(Change::factors(up.columns_times(&values).beside(&own_up.scaled(-1.0)), down.above(&own_down)))
}

/// `W' = U·(S + diag(l))·Vᵀ` in the weight's place (FRoD), where U has the columns of `W·V⁻ᵀ` at length one. V and the places of S
/// are shared by the modules of a category; they must be in the file.
pub(super) fn frod(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (_, row) = module.place.shape();
    let category = category(module.path);
    let shared = |part: &str| format!("{part}.{category}");
    let names = ["frod_V", "frod_s_indices"].map(shared);
    if !names.iter().any(|name| module.shared.contains_key(name)) {
        return module.refuse(
            "without frod_V the projection is computed from all weights of a category; save it with save_projection",
        );
    }
    let [v, places] = names;
    let v_name = v.as_str();
    let v = module.shared(v_name)?.matrix();
    module.fits(v_name, &v, row, row)?;
    let values = &module.tensor("frod_lambda_s_values")?.values;
    let held = module.shared(&places)?.matrix();
    module.fits(&places, &held, 2, values.len())?;
    if !held.data.iter().all(|at| (0.0..row as f64).contains(at) && at.fract() == 0.0) {
        return module.refuse("an index of frod_s_indices lies outside the weight");
    }
    let weight = float(module)?;
    let Some(inverse) = v.inverse() else {
        return module
            .refuse("frod_V has no inverse, and which of several bases PEFT took is not in the file");
    };
    let basis = weight.matmul(&inverse.transpose());
    let lengths = basis.transpose().row_norms();
    // f32, as PEFT keeps it.
    let unit = |length: &f64| if *length > 1e-12 { length.recip() } else { 0.0 };
    let u = basis.columns_times(&lengths.iter().map(unit).collect::<Vec<_>>()).map(|v| f64::from(v as f32));
    let diagonal = module.vector("frod_lambda_l", row)?;
    let mut core = Matrix::from_fn(row, row, |i, j| if i == j { diagonal[i] } else { 0.0 });
    for (at, value) in values.iter().enumerate() {
        core.data[held.at(0, at) as usize * row + held.at(1, at) as usize] += value;
    }
    Ok(Change::dense(u.matmul(&core).matmul(&v.transpose()).minus(weight)))
}

/// The modules that share a projection of FRoD: those whose paths end alike, as PEFT tells them apart.
pub(super) fn category(path: &str) -> String {
    let mut parts = path.rsplit('.');
    match [parts.next(), parts.next(), parts.next()] {
        [Some("dense"), Some("output"), Some("attention")] => "attention_output".to_owned(),
        [Some(last), Some(before), _] if !before.chars().all(|c| c.is_ascii_digit()) => {
            format!("{before}_{last}")
        }
        [last, ..] => last.unwrap_or_default().to_owned(),
    }
}

/// What the start values of a LoRA took out of the base, as a pair: its `rank` largest triplets (PiSSA), or the first columns of its
/// orthogonal basis, `scale` times (OLoRA). `None` for start values that changed nothing.
///
/// Both are the same whatever signs another library gives the factors.
pub(super) fn taken_out(module: &Module<'_>, rank: usize, scale: f64) -> Result<Option<(Matrix, Matrix)>> {
    let start = module.config.text("init_lora_weights");
    match start {
        "pissa" => triplets(module, 0..rank).map(Some),
        "olora" => {
            let weight = float(module)?;
            let first = Matrix::from_fn(weight.rows, rank.min(weight.columns), |i, j| weight.at(i, j));
            let basis = orthonormal(&first);
            let rest = basis.transpose().matmul(weight);
            Ok(Some((basis.scaled(scale), rest)))
        }
        _ if ["pissa_niter", "corda", "loftq", "lora_ga"].iter().any(|name| start.starts_with(name)) => module.refuse(
            "init_lora_weights changed the base when training began, by what is not kept; save it in PEFT with \
             path_initial_model_for_weight_conversion, which writes a plain LoRA",
        ),
        _ => Ok(None),
    }
}

/// The singular triplets of the weight in `range`, largest first, as a pair.
pub(super) fn triplets(module: &Module<'_>, range: core::ops::Range<usize>) -> Result<(Matrix, Matrix)> {
    let weight = float(module)?;
    let (u, values, vt) = weight.svd();
    if range.end > values.len() {
        return module.refuse("a rank beyond that of the weight");
    }
    let edge = if range.start == 0 { range.end } else { range.start };
    if let (Some(above), Some(below)) = (edge.checked_sub(1).and_then(|at| values.get(at)), values.get(edge))
        && above - below <= CLOSE * values[0]
    {
        return module.refuse(
            "the weight's singular values at the cut are too close to tell which of them the checkpoint means; merge it in PEFT first",
        );
    }
    let up = Matrix::from_fn(u.rows, range.len(), |i, k| u.at(i, range.start + k) * values[range.start + k]);
    Ok((up, Matrix::from_fn(range.len(), vt.columns, |k, j| vt.at(range.start + k, j))))
}

/// Whether the `count` largest singular values of `weight` differ from each other.
pub(super) fn separate(weight: &Matrix, count: usize) -> bool {
    let (_, values, _) = weight.svd();
    values.windows(2).take(count.saturating_sub(1)).all(|pair| pair[0] - pair[1] > CLOSE * values[0])
}

/// Singular values nearer than this share of the largest are the same in f32.
const CLOSE: f64 = 1e-5;

/// The weight before it was rounded, which the checkpoint was made on.
pub(super) fn float<'m>(module: &Module<'m>) -> Result<&'m Matrix> {
    let rounded = module.place.frozen.weight_step(0).is_some();
    if module.place.exact || !rounded {
        return Ok(&module.place.weight);
    }
    let why = "a part of the weight is replaced by the checkpoint, and rounding changed that part";
    Err(ImportError::at(module.path, Fault::NeedsWeights(why)))
}
