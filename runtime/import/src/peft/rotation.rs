//! Checkpoints that turn or mix the inputs or the outputs of a weight.

use ingraft_method::butterfly;

use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

pub(super) fn oft(module: &Module<'_>) -> Result<Change> {
    let (_, row) = module.place.shape();
    if module.place.desc().kernel != [1, 1] {
        return module.refuse(
            "for kernels above 1×1 what PEFT runs is not what it merges, and no change of the weight; merge it in \
             PEFT if that is what was meant",
        );
    }
    let table = module.optional("oft_embedding_R.weight").is_some();
    let name = if table { "oft_embedding_R.weight" } else { "oft_R.weight" };
    let stored = module.matrix(name, 0, 0)?;
    // b(b − 1)/2 values above the diagonal.
    let size = ((1.0 + (1.0 + 8.0 * stored.columns as f64).sqrt()) / 2.0) as usize;
    if size * (size - 1) / 2 != stored.columns || !row.is_multiple_of(size) {
        return module.refuse("oft_R is no row of triangles, or its blocks do not divide the row");
    }
    let blocks = row / size;
    let shared = module.config.flag("block_share", false)?;
    module.fits(name, &stored, if shared { 1 } else { blocks }, 0)?;
    // Constrained OFT draws every block back to a bound, in every run.
    let bound = match module.config.flag("coft", false)? {
        true => module.config.number("eps", 6e-5)? / (stored.rows as f64).sqrt(),
        false => f64::INFINITY,
    };
    let mut turned = Matrix::zeros(module.place.weight.rows, row);
    for block in 0..blocks {
        let skew = skew(stored.row(if shared { 0 } else { block }), size);
        let norm = skew.norm();
        let skew = if norm > bound { skew.scaled(bound / norm) } else { skew };
        let rotation = oft_block(module, &skew)?;
        // y = W·(x·R): the weight's columns of this block times Rᵀ. Rows of a table are what is turned: times R.
        let turn = if table { rotation.transpose() } else { rotation };
        for o in 0..turned.rows {
            for j in 0..size {
                let product = |k: usize| module.place.weight.at(o, block * size + k) * turn.at(j, k);
                turned.data[o * row + block * size + j] = (0..size).map(product).sum();
            }
        }
    }
    Ok(Change::dense(turned.minus(&module.place.weight)))
}

fn oft_block(module: &Module<'_>, skew: &Matrix) -> Result<Matrix> {
    if !module.config.flag("use_cayley_neumann", true)? {
        return cayley(skew).ok_or_else(|| ImportError::at(module.path, Fault::NotFinite));
    }
    if older_than_0_18(module.config.text("peft_version")) {
        return module
            .refuse("before PEFT 0.18 the Neumann series of OFT was another one; save it with a newer PEFT");
    }
    series(skew, module.config.count("num_cayley_neumann_terms", 5)?)
}

/// `I + 2·Q + 2·Q² + …`, the last power once.
pub(super) fn series(skew: &Matrix, terms: usize) -> Result<Matrix> {
    if terms > MOST_TERMS {
        let why = "above 64; the series has long converged by then";
        return Err(ImportError::at("num_cayley_neumann_terms", Fault::Unsupported(why)));
    }
    let mut sum = Matrix::identity(skew.rows);
    if terms > 1 {
        sum = sum.plus(&skew.clone().scaled(2.0));
    }
    if terms > 2 {
        let mut power = skew.matmul(skew);
        sum = sum.plus(&power.clone().scaled(2.0));
        for _ in 3..terms - 1 {
            power = power.matmul(skew);
            sum = sum.plus(&power.clone().scaled(2.0));
        }
        sum = sum.plus(&power.matmul(skew));
    }
    Ok(sum)
}

/// 2ᵐ⁻¹ blocks are a span, which stands in a row.
const MOST_FACTORS: usize = 24;
/// PEFT's default is 5. The number is the file's, so there must be an end to it.
const MOST_TERMS: usize = 64;

fn older_than_0_18(version: &str) -> bool {
    let numbers: Vec<u32> =
        version.split('@').next().unwrap_or("").split('.').map_while(|part| part.parse().ok()).collect();
    numbers.len() >= 2 && (numbers[0], numbers[1]) < (0, 18)
}

/// `(I − Q)(I + Q)⁻¹`.
pub(super) fn cayley(skew: &Matrix) -> Option<Matrix> {
    let identity = Matrix::identity(skew.rows);
    let inverse = identity.clone().plus(skew).inverse()?;
    Some(identity.minus(skew).matmul(&inverse))
}

/// The skew matrix with `upper` above its diagonal, row by row.
pub(super) fn skew(upper: &[f64], size: usize) -> Matrix {
    let mut matrix = Matrix::zeros(size, size);
    let places = (0..size).flat_map(|i| (i + 1..size).map(move |j| (i, j)));
    for ((i, j), value) in places.zip(upper) {
        matrix.data[i * size + j] = *value;
        matrix.data[j * size + i] = -value;
    }
    matrix
}

pub(super) fn boft(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (out, row) = module.place.shape();
    let stored = module.tensor("boft_R")?;
    let [factors, blocks, size, other] = stored.dims[..] else {
        return module.refuse("boft_R has four extents");
    };
    if size == 0 || blocks * size != row || other != size {
        return module.refuse("the blocks of boft_R do not fill a row");
    }
    // The last of several factors shuffles the halves of blocks within spans of size·2ᵐ⁻¹.
    let halves = factors == 1 || size.is_multiple_of(2) && factors <= MOST_FACTORS;
    if factors == 0 || !halves || !row.is_multiple_of(size << (factors - 1)) {
        return module.refuse("the factors of boft_R do not shuffle a row of this length");
    }
    let scale = module.vector("boft_s", out)?;
    // W·M₁ᵀ·M₂ᵀ⋯ with M = P·R·Pᵀ.
    let mut turned = module.place.weight.clone();
    for (factor, values) in stored.values.chunks_exact(row * size).enumerate() {
        // Which input stands at a place within the blocks.
        let mut order: Vec<usize> = (0..row).collect();
        if factor > 0 {
            butterfly(row, size, factor).into_iter().enumerate().for_each(|(i, place)| order[place] = i);
        }
        let mut next = Matrix::zeros(out, row);
        for (block, values) in values.chunks_exact(size * size).enumerate() {
            let values = Matrix::new(size, size, values.to_vec());
            let skew = values.clone().minus(&values.transpose()).scaled(0.5);
            let rotation = cayley(&skew).ok_or_else(|| ImportError::at(module.path, Fault::NotFinite))?;
            for o in 0..out {
                for j in 0..size {
                    let product = |k: usize| rotation.at(j, k) * turned.at(o, order[block * size + k]);
                    next.data[o * row + order[block * size + j]] = (0..size).map(product).sum();
                }
            }
        }
        turned = next;
    }
    Ok(Change::dense(turned.rows_times(&scale).minus(&module.place.weight)))
}

pub(super) fn hra(module: &Module<'_>) -> Result<Change> {
    let (_, row) = module.place.shape();
    let mut u = module.matrix("hra_u", row, 0)?.transpose();
    let scheme = module.config.flag("apply_GS", false)?;
    for i in 0..u.rows {
        let mut vector = u.row(i).to_vec();
        if scheme {
            for j in 0..i {
                let dot: f64 = vector.iter().zip(u.row(j)).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(u.row(j)).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length.is_nan() || length <= 0.0 {
            return Err(ImportError::at(module.path, Fault::NotFinite));
        }
        u.data[i * row..(i + 1) * row].iter_mut().zip(vector).for_each(|(to, v)| *to = v / length);
    }
    // W·(I − 2u₁u₁ᵀ)(I − 2u₂u₂ᵀ)…; with orthogonal vectors the same as I − 2UUᵀ.
    let mut turned = module.place.weight.clone();
    for i in 0..u.rows {
        let vector = Matrix::new(row, 1, u.row(i).to_vec());
        let along = turned.matmul(&vector).matmul(&vector.transpose());
        turned = turned.minus(&along.scaled(2.0));
    }
    Ok(Change::dense(turned.minus(&module.place.weight)))
}

pub(super) fn road(module: &Module<'_>) -> Result<Change> {
    let (out, _) = module.place.shape();
    let group = module.config.count("group_size", 64)?;
    if group < 2 || !group.is_multiple_of(2) || !out.is_multiple_of(group) {
        return module.refuse("group_size does not divide the outputs, or is odd");
    }
    let half = group / 2;
    let variant = module.config.text("variant");
    let count = match variant {
        "road_1" | "" => out / 2,
        "road_2" => out,
        "road_4" => 2 * out,
        _ => return module.refuse("variant is none of road_1, road_2 and road_4"),
    };
    let (theta, alpha) = (module.vector("road_theta", count)?, module.vector("road_alpha", count)?);
    // Where the parameter of output i stands, for the cosine and for the sine.
    let places = |i: usize| match variant {
        "road_2" => [i, i],
        "road_4" => [i / group * 2 * group + i % group, i / group * 2 * group + group + i % group],
        _ => [i / group * half + i % half; 2],
    };
    let mut mixing = Matrix::zeros(out, out);
    for i in 0..out {
        let [first, second] = places(i);
        mixing.data[i * out + i] = alpha[first] * theta[first].cos() - 1.0;
        let sine = alpha[second] * theta[second].sin();
        let lower = i % group < half;
        let partner = if lower { i + half } else { i - half };
        mixing.data[i * out + partner] = if lower { -sine } else { sine };
    }
    let bias = Matrix::new(out, 1, module.bias()?.to_vec());
    let mut change = Change::dense(mixing.matmul(&module.place.weight));
    change.shift = Some(mixing.matmul(&bias).data);
    Ok(change)
}

pub(super) fn miss(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let weight = &module.place.weight;
    let block = module.tensor("miss_block")?;
    let mode = module.config.text("init_weights");
    if mode == "bat" {
        let [tiles, r, other] = block.dims[..] else { return module.refuse("miss_block has three extents") };
        if r != other || tiles * r != out || !row.is_multiple_of(r) {
            return module.refuse("the tiles of miss_block do not fill this module");
        }
        let at = |tile: usize, i: usize, j: usize| block.values[(tile * r + i) * r + j];
        return Ok(Change::dense(Matrix::from_fn(out, row, |o, j| {
            let (tile, first) = (o / r, j / r * r);
            let product: f64 = (0..r).map(|k| weight.at(o, first + k) * at(tile, k, j % r)).sum();
            product + at(tile, o % r, j % r)
        })));
    }
    let block = module.matrix("miss_block", 0, if mode == "mini" { 0 } else { out })?;
    if !out.is_multiple_of(block.columns) {
        return module.refuse("miss_block does not tile the outputs");
    }
    Ok(Change::dense(Matrix::from_fn(out, row, |o, j| block.at(j % block.rows, o % block.columns))))
}
