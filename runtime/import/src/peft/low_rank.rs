//! Checkpoints that are two factors: LoRA and its relatives.

use ingraft_method::TorchRng;

use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::WRAPPED;
use crate::peft::block_diagonal::{Factor, block_diagonal, diagonal};
use crate::peft::config::Config;
use crate::peft::module::Module;
use crate::peft::sparse::rows;
use crate::peft::weighed::taken_out;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// s of LoRA: α/r, or α/√r.
pub(super) fn lora_scale(config: &Config, path: &str, rank: usize) -> Result<f64> {
    let stated = config.patterned("r", "rank_pattern", path, 8.0)?;
    if stated != rank as f64 {
        let wanted = format!("rank {stated}, which adapter_config.json states");
        return Err(ImportError::at(path, Fault::Shape { given: vec![rank], wanted }));
    }
    let alpha = config.patterned("lora_alpha", "alpha_pattern", path, 8.0)?;
    Ok(alpha / if config.flag("use_rslora", false)? { stated.sqrt() } else { stated })
}

/// Rows in place of a table's own, as an option of LoRA.
pub(super) const TOKENS: &str = "token_adapter.trainable_tokens_delta";

pub(super) fn lora(module: &Module<'_>) -> Result<Change> {
    match (module.optional(TOKENS).is_some(), module.optional("lora_embedding_A").is_some()) {
        (true, false) => return rows(module, TOKENS, "trainable_token_indices"),
        (true, true) => return module.refuse("a table with both factors and rows of its own"),
        (false, true) => return embedding(module),
        (false, false) => {}
    }
    let (out, row) = module.place.shape();
    let (left, right) = match block_diagonal(module)? {
        Some((Factor::A, count)) => (count, 1),
        Some((Factor::B, count)) => (1, count),
        None => (1, 1),
    };
    let groups = module.place.desc().groups;
    let a = diagonal(module, "lora_A.weight", 0, row * groups, left)?;
    let b = diagonal(module, "lora_B.weight", out, (a.rows / groups).max(1), right)?;
    let rank = a.rows;
    let (a, b) = if groups == 1 { (a, b) } else { within_groups(module, &a, &b)? };
    // PEFT 0.21 adds the delta of an attention's output projection twice, merged or not: once with the attention, once by itself.
    let times = if module.path.contains(WRAPPED) { 2.0 } else { 1.0 };
    let scale = times * lora_scale(module.config, module.path, rank)?;
    let shift =
        module.optional("lora_B.bias").is_some().then(|| module.vector("lora_B.bias", out)).transpose()?;
    let shift = shift.map(|shift| shift.iter().map(|v| v * scale).collect());
    let mut change = match (module.config.flag("use_dora", false)?, taken_out(module, a.rows, scale)?) {
        (true, Some(_)) => {
            return module.refuse("the magnitudes of DoRA are of a base that init_lora_weights changed");
        }
        (true, None) => dora(module, &b.matmul(&a).scaled(scale))?,
        (false, Some((up, down))) => {
            Change::factors(b.scaled(scale).beside(&up.scaled(-1.0)), a.above(&down))
        }
        (false, None) => Change::factors(b.scaled(scale), a),
    };
    change.shift = shift;
    Ok(change)
}

/// The pair of a grouped convolution as one of its weight: PEFT's A reads every channel, and r/groups of its rows belong to
/// the outputs of each group.
fn within_groups(module: &Module<'_>, a: &Matrix, b: &Matrix) -> Result<(Matrix, Matrix)> {
    let ((out, row), groups) = (module.place.shape(), module.place.desc().groups);
    if module.config.flag("use_dora", false)?
        || matches!(module.config.text("init_lora_weights"), "pissa" | "olora")
    {
        module.ungrouped()?;
    }
    let rows = b.columns;
    if a.rows != rows * groups || !out.is_multiple_of(groups) {
        return module.refuse("the rank of a grouped convolution's pair is not a multiple of its groups");
    }
    let group = |k: usize| k / rows;
    let reads_others = |at: usize| at % a.columns / row.max(1) != group(at / a.columns);
    if a.data.iter().enumerate().any(|(at, value)| *value != 0.0 && reads_others(at)) {
        module.ungrouped()?;
    }
    let up =
        Matrix::from_fn(
            out,
            a.rows,
            |o, k| {
                if o / (out / groups) == group(k) { b.at(o, k % rows) } else { 0.0 }
            },
        );
    Ok((Matrix::from_fn(a.rows, row, |k, j| a.at(k, group(k) * row + j)), up))
}

/// `ΔW = s·(B·A)ᵀ` of a table, whose rows are looked up; with DoRA every column has a magnitude.
fn embedding(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let a = module.matrix("lora_embedding_A", 0, out)?;
    let b = module.matrix("lora_embedding_B", row, a.rows)?;
    let (up, down) = (a.transpose().scaled(lora_scale(module.config, module.path, a.rows)?), b.transpose());
    if !module.config.flag("use_dora", false)? {
        return Ok(Change::factors(up, down));
    }
    let weight = &module.place.weight;
    let v = weight.clone().plus(&up.matmul(&down));
    let magnitude = module.vector("lora_magnitude_vector", row)?;
    let factors: Vec<f64> =
        magnitude.iter().zip(v.transpose().row_norms()).map(|(m, norm)| m / norm).collect();
    if !factors.iter().all(|factor| factor.is_finite()) {
        return Err(ImportError::at(module.path, Fault::NotFinite));
    }
    Ok(Change::dense(v.columns_times(&factors).minus(weight)))
}

/// `W' = m·V/‖V‖`, `V = W + Δ`.
fn dora(module: &Module<'_>, delta: &Matrix) -> Result<Change> {
    let (out, _) = module.place.shape();
    let magnitude = module.vector("lora_magnitude_vector", out)?;
    let weight = &module.place.weight;
    let v = weight.clone().plus(delta);
    let factors: Vec<f64> = magnitude.iter().zip(v.row_norms()).map(|(m, norm)| m / norm).collect();
    if !factors.iter().all(|factor| factor.is_finite()) {
        return Err(ImportError::at(module.path, Fault::NotFinite));
    }
    Ok(Change::dense(v.rows_times(&factors).minus(weight)))
}

pub(super) fn adalora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let a = module.matrix("lora_A", 0, row)?;
    let b = module.matrix("lora_B", out, a.rows)?;
    let e = module.vector("lora_E", a.rows)?;
    let start = module.config.number("init_r", 12.0)?;
    let alpha = module.config.number("lora_alpha", 8.0)?;
    let scale = if alpha > 0.0 { alpha } else { start } / (start + 1e-5);
    Ok(Change::factors(b.scaled(scale), a.rows_times(&e)))
}

pub(super) fn vera(module: &Module<'_>) -> Result<Change> {
    projected(module, "vera", 1)
}

/// The mean of what PVeRA draws, which is what it runs unless told to sample.
pub(super) fn pvera(module: &Module<'_>) -> Result<Change> {
    projected(module, "pvera", 2)
}

/// A shared projection with scales of its rows; its first part counts, of so many.
fn projected(module: &Module<'_>, name: &str, parts: usize) -> Result<Change> {
    let (out, row) = module.place.shape();
    let d = module.tensor(&format!("{name}_lambda_d"))?.values.clone();
    let b = module.vector(&format!("{name}_lambda_b"), out)?;
    let rank = module.config.count("r", 256)?;
    let small = "the shared projection, or its lambda_d, is smaller than the rank or the module";
    // Before anything of that rank is drawn.
    if rank.checked_mul(parts) != Some(d.len()) {
        return module.refuse(small);
    }
    let held = ["A", "B"].map(|which| module.shared.get(&format!("{name}_{which}")));
    let (down, up) = match held {
        [Some(a), Some(b)] => (a.matrix(), b.matrix()),
        [None, None] => vera_projection(module, rank, parts)?,
        _ => return Err(ImportError::new(Fault::Missing(format!("{name}_A or {name}_B")))),
    };
    if down.rows != d.len() || up.columns != rank || down.columns < row || up.rows < out {
        return module.refuse(small);
    }
    let down = Matrix::from_fn(rank, row, |i, j| down.at(i, j));
    let up = Matrix::from_fn(out, rank, |i, j| up.at(i, j));
    Ok(Change::factors(up.rows_times(&b), down.rows_times(&d[..rank])))
}

/// The projection as PEFT draws it where it was not saved: A, then B, both for the widest module.
fn vera_projection(module: &Module<'_>, rank: usize, parts: usize) -> Result<(Matrix, Matrix)> {
    let seed = module.config.count("projection_prng_key", 0)?;
    let (out, inputs) = module.widest;
    let mut generator = TorchRng::new(seed as u64);
    let mut draw = |rows: usize, columns: usize| {
        // Kaiming's bound for the gain of a ReLU, as PyTorch computes it.
        let deviation = 2f64.sqrt() / (columns as f64).sqrt();
        let bound = (3f64.sqrt() * deviation) as f32;
        let data = (0..rows * columns).map(|_| f64::from(generator.uniform(-bound, bound))).collect();
        Matrix::new(rows, columns, data)
    };
    let a = draw(rank * parts, inputs);
    Ok((a, draw(out, rank)))
}

pub(super) fn randlora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let (least, most) = (out.min(row), out.max(row));
    let (a, b) = (module.shared("randlora_A")?, module.shared("randlora_B")?);
    let lambda = module.matrix("randlora_lambda", 0, 0)?;
    let (rank, bases) = (lambda.rows, lambda.columns);
    let gamma = module.matrix("randlora_gamma", bases, least)?;
    let shapes = match (&a.dims[..], &b.dims[..]) {
        ([a0, a1, a2], [b0, b1, b2]) => {
            (*a0 == rank && *a1 >= 1 && *a2 >= least && *b0 >= most && *b1 >= bases && *b2 == rank)
                .then_some(([*a1, *a2], [*b1, *b2]))
        }
        _ => None,
    };
    let Some(([a_rows, a_columns], [b_rows, b_columns])) = shapes else {
        return module.refuse("randlora_A or randlora_B has a shape that does not hold this module");
    };
    // A is shared by all bases where it holds but one. Both are flattened as PEFT does, in their own orders.
    let a_at = |r: usize, n: usize, j: usize| a.values[(r * a_rows + n.min(a_rows - 1)) * a_columns + j];
    let b_at = |i: usize, n: usize, r: usize| b.values[(i * b_rows + n) * b_columns + r];
    let inner = rank * bases;
    let small = Matrix::from_fn(inner, least, |k, j| {
        let (r, n) = (k / bases, k % bases);
        lambda.at(r, n) * a_at(r, n, j) * gamma.at(n, j)
    });
    let large = Matrix::from_fn(most, inner, |i, k| b_at(i, k / rank, k % rank));
    let scale = module.config.number("randlora_alpha", 640.0)? / rank as f64;
    Ok(match least == row {
        true => Change::factors(large.scaled(scale), small),
        false => Change::factors(small.transpose().scaled(scale), large.transpose()),
    })
}

pub(super) fn gralora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let (a, b) = (module.tensor("gralora_A")?, module.tensor("gralora_B")?);
    let ([k, slice, rank], [bk, brank, bout]) =
        (three(module, "gralora_A", a)?, three(module, "gralora_B", b)?);
    if k * slice != row || bk != k || brank != rank || k * bout != out || !rank.is_multiple_of(k) {
        return module.refuse("gralora_A and gralora_B do not tile this module");
    }
    let chunk = rank / k;
    let delta = Matrix::from_fn(out, row, |o, l| {
        let (j, n) = (o / bout, l / slice);
        let product = |q: usize| {
            let left = a.values[(n * slice + l % slice) * rank + j * chunk + q];
            left * b.values[(j * rank + n * chunk + q) * bout + o % bout]
        };
        (0..chunk).map(product).sum()
    });
    let mut hybrid = 0;
    let mut change = Change::dense(delta);
    if module.optional("gralora_A_general.weight").is_some() {
        let general = module.matrix("gralora_A_general.weight", 0, row)?;
        hybrid = general.rows;
        change.factors = Some((module.matrix("gralora_B_general.weight", out, hybrid)?, general));
    }
    let scale = module.config.number("alpha", 64.0)? / (module.config.number("r", 32.0)? + hybrid as f64);
    Ok(Change::dense(change.delta(out, row).scaled(scale)))
}

pub(super) fn delora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let a = module.matrix("delora_A", 0, row)?;
    let b = module.matrix("delora_B", out, a.rows)?;
    let lambda = module.vector("delora_lambda", 1)?[0];
    let norms = match module.optional("delora_w_norm") {
        Some(_) => module.vector("delora_w_norm", row)?,
        None => module.place.weight.transpose().row_norms(),
    };
    let strength = lambda / a.rows as f64;
    let lengths = a.row_norms().into_iter().zip(b.transpose().row_norms());
    let diagonal: Vec<f64> = lengths.map(|(a, b)| strength / (a.max(1e-4) * b.max(1e-4))).collect();
    Ok(Change::factors(b.columns_times(&diagonal), a.columns_times(&norms)))
}

pub(super) fn vblora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let bank = module.shared("vblora_vector_bank")?.matrix();
    let top = module.config.count("topk", 2)?;
    let mixed = |name: &str| mixtures(module, name, &bank, top);
    let ((a, [rank, tiles]), (b, [btiles, brank])) = (mixed("vblora_logits_A")?, mixed("vblora_logits_B")?);
    let len = bank.columns;
    if tiles * len != row || btiles * len != out || rank != brank {
        return module.refuse("vblora_logits_A and vblora_logits_B do not tile this module");
    }
    let down = Matrix::new(rank, row, a);
    let up = Matrix::from_fn(out, rank, |o, r| b[((o / len) * rank + r) * len + o % len]);
    Ok(Change::factors(up, down))
}

/// Vectors mixed from the best of a bank, one for each leading position of `name`.
fn mixtures(module: &Module<'_>, name: &str, bank: &Matrix, top: usize) -> Result<(Vec<f64>, [usize; 2])> {
    let mut mixed = Vec::new();
    if let Some(logits) = module.optional(name) {
        let [first, second, count] = three(module, name, logits)?;
        if count != bank.rows || top == 0 || top > count {
            return module.refuse("the logits are not as many as the vectors of the bank");
        }
        for logits in logits.values.chunks_exact(count) {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let weights: Vec<f64> =
                order[..top].iter().map(|at| (logits[*at] - logits[order[0]]).exp()).collect();
            let sum: f64 = weights.iter().sum();
            mix(&mut mixed, bank, order.iter().zip(weights.iter().map(|weight| weight / sum)));
        }
        return Ok((mixed, [first, second]));
    }
    let places = module.tensor(&format!("{name}_topk_indices"))?;
    let weights = module.tensor(&format!("{name}_topk_weights"))?;
    let ([first, second, top], [w1, w2, given]) =
        (three(module, name, places)?, three(module, name, weights)?);
    let places_of: Vec<usize> = places.values.iter().map(|at| *at as usize).collect();
    if [w1, w2] != [first, second] || given + 1 != top || places_of.iter().any(|at| *at >= bank.rows) {
        return module.refuse("the weights of the best vectors do not fit their indices");
    }
    for (places, weights) in places_of.chunks_exact(top).zip(weights.values.chunks(given.max(1))) {
        // The last weight is what the others leave.
        let last = 1.0 - weights.iter().take(given).sum::<f64>();
        mix(&mut mixed, bank, places.iter().zip(weights.iter().take(given).copied().chain([last])));
    }
    Ok((mixed, [first, second]))
}

fn mix<'i>(mixed: &mut Vec<f64>, bank: &Matrix, parts: impl Iterator<Item = (&'i usize, f64)> + Clone) {
    let value = |column: usize| parts.clone().map(|(row, weight)| bank.at(*row, column) * weight).sum();
    mixed.extend((0..bank.columns).map(value).collect::<Vec<f64>>());
}

pub(super) fn unilora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let theta = &module.shared("unilora_theta_d")?.values;
    let rank = module.config.count("r", 4)?;
    let factor = |which: char, rows: usize, columns: usize| -> Result<Matrix> {
        let places = module.matrix(&format!("unilora_indices_{which}"), rows, columns)?;
        let scales = module.matrix(&format!("unilora_scales_{which}"), rows, columns)?;
        if places.data.iter().any(|at| *at < 0.0 || *at as usize >= theta.len()) {
            return module.refuse("an index lies outside unilora_theta_d");
        }
        Ok(scales.zip(&places, |scale, at| scale * theta[at as usize]))
    };
    Ok(Change::factors(factor('B', out, rank)?, factor('A', rank, row)?))
}

pub(super) fn tinylora(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let groups: Vec<_> = module.shared.iter().filter(|(name, _)| name.starts_with("tinylora_v.")).collect();
    let v = match (&groups[..], module.order) {
        ([(_, v)], _) => *v,
        (_, None) => {
            return module.refuse(
                "which of several vectors a module uses follows from the order of PyTorch's modules, which is not in the file; \
                 --accept-proposal takes the order of the base's sites",
            );
        }
        // As many modules in a row as there are to a vector, and the rest to the last.
        (_, Some((number, of))) => {
            let to_each = (of / groups.len().max(1)).max(1);
            let group = (number / to_each).min(groups.len().saturating_sub(1));
            module.shared(&format!("tinylora_v.{group}"))?
        }
    };
    if v.values.is_empty() {
        return module.refuse("a tied vector without values");
    }
    if module.optional("tinylora_P").is_none() {
        return module
            .refuse("without tinylora_P the projection is drawn anew; save it with save_projection");
    }
    let a = module.matrix("tinylora_A", 0, row)?;
    let rank = a.rows;
    let b = module.matrix("tinylora_B", out, rank)?;
    let p = module.matrix("tinylora_P", v.values.len(), rank * rank)?;
    let mixed = Matrix::new(1, v.values.len(), v.values.clone()).matmul(&p);
    Ok(Change::factors(b.matmul(&Matrix::new(rank, rank, mixed.data)), a))
}

fn three(module: &Module<'_>, name: &str, tensor: &crate::tensors::Tensor) -> Result<[usize; 3]> {
    let wanted = || Fault::Shape { given: tensor.dims.clone(), wanted: "three extents".to_owned() };
    tensor.dims[..].try_into().map_err(|_| ImportError::at(&format!("{}.{name}", module.path), wanted()))
}
