//! PSOFT: a rotation between singular vectors of the weight.

use super::rotation::{cayley, series, skew};
use super::weighed::{float, separate, triplets};
use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// `ΔW = s·B·(R − I)·A`, `s·B·A` the part of W of its r largest singular values, `R = diag(b)·R₀·diag(a)`.
///
/// PEFT's file has neither B nor A: it decomposes the weight anew where it is loaded. Signs of singular vectors are the library's
/// choice, and what an angle between two of them means changes with them: PyTorch's own two libraries differ. So they are read
/// from `psoft_A` and `psoft_B` where the file has them, and the weight says whether they are its own; without them
/// only what has no angles is read, for which no sign counts.
pub(super) fn psoft(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let rank = module.config.count("r", 32)?;
    if rank == 0 || rank > out.min(row) {
        return module.refuse("r is 0, or beyond the smaller side of the weight");
    }
    let scale = module.config.number("psoft_alpha", 32.0)? / rank as f64;
    let turned = rotation(module, rank)?.minus(&Matrix::identity(rank));
    if module.optional("psoft_A").is_some() || module.optional("psoft_B").is_some() {
        let a = module.matrix("psoft_A", rank, row)?;
        let b = module.matrix("psoft_B", out, rank)?.scaled(scale);
        check(module, &b.matmul(&a), rank)?;
        return Ok(Change::factors(b.matmul(&turned), a));
    }
    let angles = (0..rank * rank).any(|at| at / rank != at % rank && turned.data[at] != 0.0);
    if angles || module.config.text("psoft_svd") == "lowrank" {
        return module.refuse(SIGNS);
    }
    let (up, down) = triplets(module, 0..rank)?;
    // Scaled alike, they need not be told apart.
    let alike = (1..rank).all(|k| turned.at(k, k) == turned.at(0, 0));
    if !alike && !separate(float(module)?, rank) {
        return module
            .refuse("singular values of the weight are too close to tell which is scaled by how much");
    }
    let factors: Vec<f64> = (0..rank).map(|k| turned.at(k, k)).collect();
    Ok(Change::factors(up.columns_times(&factors), down))
}

/// R, rank by rank.
fn rotation(module: &Module<'_>, rank: usize) -> Result<Matrix> {
    let mut rotation = match module.config.flag("psoft_orth", true)? {
        true => {
            let mut skew = skew(&module.vector("psoft_R.weight", rank * (rank - 1) / 2)?, rank);
            if module.config.flag("use_cayley_neumann", false)? {
                let bound = module.config.number("cayley_neumann_eps", f64::INFINITY)?;
                let norm = skew.norm();
                if norm > bound {
                    skew = skew.scaled(bound / (norm + 1e-12));
                }
                series(&skew, module.config.count("num_cayley_neumann_terms", 5)?)?
            } else {
                // The other way round than OFT's.
                let rotation = cayley(&skew.scaled(-1.0));
                rotation.ok_or_else(|| ImportError::at(module.path, Fault::NotFinite))?
            }
        }
        false => module.matrix("psoft_R.weight", rank, rank)?,
    };
    let diagonal = |side: &str| -> Result<Option<Vec<f64>>> {
        let name = format!("psoft_R.vector_{side}");
        match (module.config.flag(&format!("psoft_mag_{side}"), true)?, module.optional(&name).is_some()) {
            (true, _) => module.vector(&name, rank).map(Some),
            (false, true) => {
                module.refuse("a vector of psoft_R that psoft_mag_a or psoft_mag_b says there is not")
            }
            (false, false) => Ok(None),
        }
    };
    if let Some(factors) = diagonal("b")? {
        rotation = rotation.rows_times(&factors);
    }
    if let Some(factors) = diagonal("a")? {
        rotation = rotation.columns_times(&factors);
    }
    Ok(rotation)
}

/// That `part` is the weight's own; what PEFT decomposes in part only, and by random columns, is near it.
fn check(module: &Module<'_>, part: &Matrix, rank: usize) -> Result<()> {
    let (up, down) = triplets(module, 0..rank)?;
    let own = up.matmul(&down);
    let near = if module.config.text("psoft_svd") == "lowrank" { 0.2 } else { 1e-3 };
    let apart = part.clone().minus(&own).norm();
    if apart.is_nan() || apart > near * own.norm() {
        let why = "psoft_B·psoft_A is not the weight's part of its largest singular values: they are of another base";
        return Err(ImportError::at(module.path, Fault::Unsupported(why)));
    }
    Ok(())
}

const SIGNS: &str = "PSOFT's angles are between singular vectors of the weight, whose signs every library chooses otherwise, and the file has \
                     none; add them as psoft_A and psoft_B, the two of layer._get_psoft_ab_cache_buffers(\"default\") in PEFT, or convert it \
                     with PEFT's save_as_lora";
