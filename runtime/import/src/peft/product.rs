//! Checkpoints that are products of another kind: Hadamard and Kronecker, and those with the weight itself.

use crate::ImportError;
use crate::change::Change;
use crate::matrix::{self, Matrix};
use crate::peft::module::Module;
use crate::tensors::Tensor;

type Result<T> = core::result::Result<T, ImportError>;

pub(super) fn loha(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let factor = |which: u32| -> Result<(Matrix, usize)> {
        let [a, b, t] = ["a", "b", "t"].map(|part| match part {
            "t" => format!("hada_t{which}"),
            part => format!("hada_w{which}_{part}"),
        });
        match module.optional(&t) {
            Some(core) => {
                let (a, b) = (module.matrix(&a, 0, out)?, module.matrix(&b, 0, 0)?);
                Ok((contracted(module, core, &a, &b)?, a.rows))
            }
            None => {
                let b = module.matrix(&b, 0, row)?;
                Ok((module.matrix(&a, out, b.rows)?.matmul(&b), b.rows))
            }
        }
    };
    let ((w1, rank), (w2, _)) = (factor(1)?, factor(2)?);
    module.fits("hada_w1", &w1, out, row)?;
    module.fits("hada_w2", &w2, out, row)?;
    let alpha = module.config.patterned("alpha", "alpha_pattern", module.path, 8.0)?;
    Ok(Change::dense(w1.zip(&w2, |a, b| a * b).scaled(alpha / rank as f64)))
}

/// `ΔW[o, i, window] = Σ t[p, q, window]·a[p, o]·b[q, i]`.
fn contracted(module: &Module<'_>, core: &Tensor, a: &Matrix, b: &Matrix) -> Result<Matrix> {
    let contracted = matrix::contracted(&core.dims, &core.values, [a, b], module.place.shape());
    contracted
        .map_or_else(|| module.refuse("a Tucker core does not fit its factors, or these the module"), Ok)
}

pub(super) fn lokr(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let product = |a: &str, b: &str| {
        let b = module.matrix(b, 0, 0)?;
        let product = module.matrix(a, 0, b.rows)?.product(&b, (out, row));
        product.map_or_else(|| module.refuse("factors of lokr make more than the module"), Ok)
    };
    let w1 = match module.optional("lokr_w1") {
        Some(w1) => w1.matrix(),
        None => product("lokr_w1_a", "lokr_w1_b")?,
    };
    let full = module.optional("lokr_w2");
    let w2 = match (full, module.optional("lokr_t2")) {
        (Some(w2), _) => w2.matrix(),
        (None, Some(core)) => {
            contracted(module, core, &module.matrix("lokr_w2_a", 0, 0)?, &module.matrix("lokr_w2_b", 0, 0)?)?
        }
        (None, None) => product("lokr_w2_a", "lokr_w2_b")?,
    };
    let larger = "the product of lokr is not of the module's size";
    // PEFT's product of a matrix and a tensor of three extents aligns them at the right, and reshapes.
    let delta = match full.map(|w2| &w2.dims[..]) {
        Some([o2, i2, k]) => {
            let (i2, k) = (*i2, *k);
            let width = w1.columns.saturating_mul(k);
            let rows = o2.saturating_mul(w1.rows).saturating_mul(i2);
            if width == 0 || rows.saturating_mul(width) != out * row {
                return module.refuse(larger);
            }
            let data = (0..o2 * w1.rows * i2 * width).map(|at| {
                let (o, y, x) = (at / (w1.rows * i2 * width), at / width % (w1.rows * i2), at % width);
                w1.at(y / i2, x / k) * w2.at(o, y % i2 * k + x % k)
            });
            Matrix::new(out, row, data.collect())
        }
        _ => w1.kronecker(&w2, out, row).map_or_else(|| module.refuse(larger), Ok)?,
    };
    let rank = module.config.patterned("r", "rank_pattern", module.path, 8.0)?;
    let alpha = module.config.patterned("alpha", "alpha_pattern", module.path, 8.0)?;
    if rank.is_nan() || rank <= 0.0 {
        return module.refuse("a rank of 0");
    }
    Ok(Change::dense(delta.scaled(alpha / rank)))
}

pub(super) fn hira(module: &Module<'_>) -> Result<Change> {
    module.ungrouped()?;
    let (out, row) = module.place.shape();
    let product = if module.optional("hira_embedding_A").is_some() {
        // Of a table, the other way round.
        let a = module.matrix("hira_embedding_A", 0, out)?;
        module.matrix("hira_embedding_B", row, a.rows)?.matmul(&a).transpose()
    } else {
        let a = module.matrix("hira_A", 0, row)?;
        module.matrix("hira_B", out, a.rows)?.matmul(&a)
    };
    Ok(Change::dense(product.zip(&module.place.weight, |delta, w| delta * w)))
}

pub(super) fn deft(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let p = module.matrix("deft_P", out, 0)?;
    let rank = p.columns;
    let (q, right) = match module.config.text("decomposition_method") {
        "qr" => {
            let q = orthonormal(&p);
            (q.clone(), q)
        }
        "relu" | "" => (p.clone(), p.clone().map(|v| v.max(0.0))),
        _ => return module.refuse("decomposition_method is neither relu nor qr"),
    };
    let removed = right.transpose().matmul(&module.place.weight);
    let inner = match module.config.flag("para", false)? {
        true => removed.scaled(-1.0),
        false => {
            let alpha = module.config.number("alpha", 0.0)?;
            let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
            module.matrix("deft_R", rank, row)?.scaled(scale).minus(&removed)
        }
    };
    Ok(Change::factors(q, inner))
}

/// The Q of a QR decomposition by Householder's reflections, with LAPACK's signs.
pub(super) fn orthonormal(matrix: &Matrix) -> Matrix {
    let (rows, columns) = (matrix.rows, matrix.columns);
    let mut r = matrix.clone();
    let mut reflections: Vec<Vec<f64>> = Vec::new();
    for k in 0..columns.min(rows) {
        let mut v: Vec<f64> = (0..rows).map(|i| if i < k { 0.0 } else { r.at(i, k) }).collect();
        let below = v[k + 1..].iter().map(|x| x * x).sum::<f64>();
        if below == 0.0 {
            reflections.push(vec![0.0; rows]);
            continue;
        }
        v[k] += v[k].signum() * (below + v[k] * v[k]).sqrt();
        reflect(&mut r, &v);
        reflections.push(v);
    }
    let mut q = Matrix::from_fn(rows, columns, |i, j| f64::from(u8::from(i == j)));
    reflections.iter().rev().for_each(|v| reflect(&mut q, v));
    q
}

/// `matrix − 2·v·(vᵀ·matrix)/(vᵀ·v)`.
fn reflect(matrix: &mut Matrix, v: &[f64]) {
    let length: f64 = v.iter().map(|x| x * x).sum();
    if length == 0.0 {
        return;
    }
    for j in 0..matrix.columns {
        let dot: f64 = (0..matrix.rows).map(|i| v[i] * matrix.at(i, j)).sum();
        (0..matrix.rows).for_each(|i| matrix.data[i * matrix.columns + j] -= 2.0 * v[i] * dot / length);
    }
}
