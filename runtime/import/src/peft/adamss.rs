//! AdaMSS: pairs of which each writes the rows of a cluster, which PEFT finds again whenever it loads the file.

use ingraft_method::TorchRng;

use super::cluster::clusters;
use super::weighed::float;
use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::peft::product::orthonormal;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// `[W b]' = [W b] + scatter(Bᵢ·Aᵢ)·newB`: newB holds right singular vectors of `[W b]`, and part i writes the rows whose left
/// singular vectors fall into cluster i.
///
/// The left vectors follow from newB and the weight. That they are orthogonal says that this is the weight the file was made on, and
/// that every Bᵢ has as many rows as its cluster says that the clusters are those of the file.
pub(super) fn adamss(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let right = module.matrix("adamss_newB", 0, 0)?;
    let whole = match right.columns.checked_sub(row) {
        Some(0) => float(module)?.clone(),
        Some(1) => {
            // Not the one that was rounded.
            let bias = module.place.float_bias.as_deref().map_or_else(|| module.bias(), Ok)?;
            float(module)?.beside(&Matrix::new(out, 1, bias.to_vec()))
        }
        _ => return module.refuse("adamss_newB is not as wide as the weight, or the weight beside its bias"),
    };
    let rank = right.rows;
    if rank > out.min(right.columns) {
        return module.refuse("adamss_newB has more rows than the weight has directions");
    }
    let left = left_vectors(module, &whole, &right)?;
    let of_part = |part: &str, held: usize| format!("adamss_{part}.{held}");
    let parts = module.numbered("adamss_A.", "")?;
    if parts == 0 {
        return Err(ImportError::at(module.path, Fault::Missing(of_part("A", 0))));
    }
    if parts > out || module.numbered("adamss_B.", "")? != parts {
        return module.refuse(OTHERS);
    }
    // Rows of an orthogonal matrix lie equally far from each other.
    let decided = rank < out || parts == 1 || parts == out;
    let Some(labels) = clusters(&left, parts).filter(|_| decided) else {
        return module.refuse(UNDECIDED);
    };
    let mut up = Matrix::zeros(out, rank);
    for part in 0..parts {
        let rows: Vec<usize> = (0..out).filter(|i| labels[*i] == part).collect();
        let a = module.matrix(&of_part("A", part), 0, rank)?;
        let b = module.matrix(&of_part("B", part), 0, a.rows)?;
        if b.rows != rows.len() {
            return module.refuse(OTHERS);
        }
        let product = b.matmul(&a);
        for (i, to) in rows.into_iter().enumerate() {
            up.data[to * rank..(to + 1) * rank].copy_from_slice(product.row(i));
        }
    }
    let shift =
        (right.columns > row).then(|| up.matmul(&Matrix::from_fn(rank, 1, |k, _| right.at(k, row))).data);
    let down = Matrix::from_fn(rank, row, |k, j| right.at(k, j));
    Ok(Change { shift, ..Change::factors(up, down) })
}

/// U of `whole ≈ U·diag(σ)·right`, as `torch.svd_lowrank` of two iterations finds it.
fn left_vectors(module: &Module<'_>, whole: &Matrix, right: &Matrix) -> Result<Matrix> {
    let (rows, columns) = (whole.rows, whole.columns);
    let mut scaled = whole.matmul(&right.transpose());
    // A tall matrix is projected on a basis that begins with random columns; of a wide one, that basis is `right`.
    if rows >= columns && right.rows < columns {
        let seed = module.config.count("random_seed", 0)? as u64;
        let drawn = TorchRng::new(seed).normals(columns * right.rows);
        let start = Matrix::new(columns, right.rows, drawn.into_iter().map(f64::from).collect());
        let mut basis = orthonormal(&whole.matmul(&start));
        for _ in 0..2 {
            basis = orthonormal(&whole.transpose().matmul(&basis));
            basis = orthonormal(&whole.matmul(&basis));
        }
        scaled = basis.matmul(&basis.transpose().matmul(&scaled));
    }
    let lengths = scaled.transpose().row_norms();
    if lengths.iter().any(|length| length.is_nan() || *length <= f64::MIN_POSITIVE) {
        return module.refuse(OTHERS);
    }
    let left = scaled.columns_times(&lengths.iter().map(|length| length.recip()).collect::<Vec<_>>());
    let square = left.transpose().matmul(&left);
    let apart =
        square.minus(&Matrix::identity(right.rows)).data.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    // As far as f32 leaves vectors of small singular values orthogonal.
    if apart.is_nan() || apart > 1e-2 { module.refuse(OTHERS) } else { Ok(left) }
}

const OTHERS: &str = "which rows its parts write follows from the weight, and of this one other rows follow than the file was made on; \
                      give the float model that it was made on, or merge it in PEFT";
const UNDECIDED: &str = "which rows its parts write is found by clustering, and here rounding decides it: rows lie as near to one centre \
                         as to another; merge it in PEFT and compile the merged model";
