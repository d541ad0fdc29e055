//! LoRA with a factor of blocks on the diagonal (BD-LoRA).

use serde_json::Value;

use crate::ImportError;
use crate::matrix::Matrix;
use crate::peft::module::Module;

type Result<T> = core::result::Result<T, ImportError>;

/// A factor of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    A,
    B,
}

/// Which factor of this module is block-diagonal, and of how many blocks (BD-LoRA).
pub(super) fn block_diagonal(module: &Module<'_>) -> Result<Option<(Factor, usize)>> {
    let setting = match module.config.value("use_bdlora") {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
        Some(setting @ Value::Object(_)) => setting,
        Some(_) => return module.refuse("use_bdlora does not say which factors have blocks"),
    };
    // As PEFT tests it: any part of the module's own name.
    let own = module.path.rsplit('.').next().unwrap_or(module.path);
    let named = |list: &str| {
        let names = setting.get(list).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).any(|name| own.contains(name))
    };
    let count = setting.get("nblocks").map_or(Some(1), Value::as_u64);
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let strict = setting.get("match_strict").and_then(Value::as_bool).unwrap_or(true);
    match (named("target_modules_bd_a"), named("target_modules_bd_b"), count) {
        (_, _, None) => module.refuse("nblocks of use_bdlora is no whole number above 0"),
        (true, true, _) => module.refuse("use_bdlora names this module for both factors"),
        (true, false, Some(count)) => Ok(Some((Factor::A, count))),
        (false, true, Some(count)) => Ok(Some((Factor::B, count))),
        (false, false, _) if strict => module.refuse("use_bdlora names this module for neither factor"),
        (false, false, _) => Ok(None),
    }
}

/// Blocks stored one below the other, put on the diagonal of a matrix of `rows` by `columns`; 0 rows are any, and of one block it is
/// what is stored.
pub(super) fn diagonal(
    module: &Module<'_>,
    name: &str,
    rows: usize,
    columns: usize,
    count: usize,
) -> Result<Matrix> {
    if !columns.is_multiple_of(count) {
        return module.refuse("the blocks of use_bdlora do not divide this module");
    }
    let stored = module.matrix(name, rows, columns / count)?;
    if !stored.rows.is_multiple_of(count) {
        return module.refuse("the blocks of use_bdlora do not divide this module");
    }
    let (high, wide) = (stored.rows / count, stored.columns);
    Ok(Matrix::from_fn(
        stored.rows,
        columns,
        |i, j| if i / high == j / wide { stored.at(i, j % wide) } else { 0.0 },
    ))
}
