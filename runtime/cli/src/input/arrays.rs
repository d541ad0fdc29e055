//! Arrays as inputs. Element types and extents must be the plan's; an array
//! whose outermost extent is a multiple of the plan's is fed in as many runs.

use std::path::Path;

use ingraft_dataset::Array;

use super::{Feed, InputSpec};
use crate::CliError;

/// The feed of a single array, for a plan with a single input.
///
/// # Errors
/// [`CliError::InputCount`], [`CliError::InputArray`].
pub(crate) fn feed_one(inputs: &[InputSpec<'_>], path: &Path, array: Array) -> Result<Feed, CliError> {
    let [input] = inputs else {
        return Err(CliError::InputCount(inputs.iter().map(|input| input.name.to_owned()).collect()));
    };
    feed(path, &[(input, array)])
}

/// The feed of arrays by input name, and the names no input has: a file that
/// fixed shapes at compile time also holds operands that are constants by now.
///
/// # Errors
/// [`CliError::InputMissing`], [`CliError::InputArray`].
pub(crate) fn feed_named(
    inputs: &[InputSpec<'_>],
    path: &Path,
    mut arrays: Vec<(String, Array)>,
) -> Result<(Feed, Vec<String>), CliError> {
    let mut pairs = Vec::with_capacity(inputs.len());
    for input in inputs {
        let found = arrays.iter().position(|(name, _)| name == input.name);
        let found = found.ok_or_else(|| CliError::InputMissing {
            path: path.to_path_buf(),
            name: input.name.to_owned(),
            found: arrays.iter().map(|(name, _)| name.clone()).collect(),
        })?;
        pairs.push((input, arrays.swap_remove(found).1));
    }
    let unused = arrays.into_iter().map(|(name, _)| name).collect();
    Ok((feed(path, &pairs)?, unused))
}

/// The feed of one sample of the only input, without or with its batch axis.
///
/// # Errors
/// [`CliError::InputCount`], [`CliError::InputArray`].
pub(crate) fn feed_row(inputs: &[InputSpec<'_>], path: &Path, row: &Array) -> Result<Feed, CliError> {
    let [input] = inputs else {
        return Err(CliError::InputCount(inputs.iter().map(|input| input.name.to_owned()).collect()));
    };
    let batch = input.shape.first().copied().unwrap_or(1).max(1);
    let fits = |samples: usize| row.bytes().len().checked_mul(samples) == Some(input.bytes());
    let samples = [1, batch].into_iter().find(|&samples| row.dtype() == input.dtype && fits(samples));
    let samples = samples.ok_or_else(|| mismatch(path, input, row))?;
    let mut bytes = row.bytes().to_vec();
    bytes.resize(input.bytes(), 0);
    Ok(Feed { runs: vec![vec![bytes]], padding: samples - 1, is_clip: true })
}

fn feed(path: &Path, pairs: &[(&InputSpec<'_>, Array)]) -> Result<Feed, CliError> {
    let mut count = None;
    for (input, array) in pairs {
        let runs = runs(input, array).filter(|&runs| *count.get_or_insert(runs) == runs);
        runs.ok_or_else(|| mismatch(path, input, array))?;
    }
    let run = |index: usize| {
        let part = |(input, array): &(&InputSpec<'_>, Array)| {
            let bytes = input.bytes();
            array.bytes().iter().skip(index * bytes).take(bytes).copied().collect()
        };
        pairs.iter().map(part).collect()
    };
    Ok(Feed { runs: (0..count.unwrap_or(1)).map(run).collect(), padding: 0, is_clip: false })
}

/// In how many runs `array` is fed to `input`; `None` when it does not fit.
fn runs(input: &InputSpec<'_>, array: &Array) -> Option<usize> {
    (array.dtype() == input.dtype).then_some(())?;
    if array.shape() == input.shape {
        return Some(1);
    }
    let (&batch, inner) = input.shape.split_first()?;
    let (&samples, same) = array.shape().split_first()?;
    let whole = inner == same && batch != 0 && samples != 0 && samples.is_multiple_of(batch);
    whole.then(|| samples / batch)
}

fn mismatch(path: &Path, input: &InputSpec<'_>, array: &Array) -> CliError {
    CliError::InputArray {
        path: path.to_path_buf(),
        name: input.name.to_owned(),
        wanted: format!("{} {:?}", input.dtype, input.shape),
        found: format!("{} {:?}", array.dtype(), array.shape()),
    }
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;

    fn input<'n>(name: &'n str, shape: &[usize]) -> InputSpec<'n> {
        InputSpec { name, dtype: DType::F32, shape: shape.to_vec(), qparams: None }
    }

    fn array(shape: &[usize]) -> Array {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        Array::from_values(shape, &values).unwrap()
    }

    #[test]
    fn a_multiple_of_the_batch_is_cut_into_runs() {
        let (inputs, path) = ([input("x", &[2, 3])], Path::new("x.npy"));
        let feed = feed_one(&inputs, path, array(&[4, 3])).unwrap();
        assert_eq!((feed.runs.len(), feed.padding, feed.is_clip), (2, 0, false));
        assert_eq!(feed.runs[1][0], array(&[4, 3]).bytes()[24..]);
        for shape in [&[3, 3][..], &[2, 4], &[6], &[0, 3], &[1, 2, 3]] {
            let error = feed_one(&inputs, path, array(shape)).unwrap_err();
            assert!(matches!(error, CliError::InputArray { .. }), "{shape:?}");
        }
        let codes = Array::from_values(&[2, 3], &[0i8; 6]).unwrap();
        assert!(feed_one(&inputs, path, codes).is_err());
    }

    #[test]
    fn named_arrays_must_agree_on_the_number_of_runs() {
        let (inputs, path) = ([input("x", &[1, 2]), input("h", &[1, 3])], Path::new("in.npz"));
        let named = |list: &[(&str, &[usize])]| {
            feed_named(
                &inputs,
                path,
                list.iter().map(|(name, shape)| ((*name).to_owned(), array(shape))).collect(),
            )
        };
        let (feed, unused) = named(&[("h", &[2, 3]), ("axes", &[1]), ("x", &[2, 2])]).unwrap();
        assert_eq!((feed.runs.len(), unused), (2, vec!["axes".to_owned()]));
        assert_eq!(feed.runs[1], [&array(&[2, 2]).bytes()[8..], &array(&[2, 3]).bytes()[12..]]);
        assert!(matches!(named(&[("h", &[1, 3]), ("x", &[2, 2])]), Err(CliError::InputArray { .. })));
        assert!(matches!(named(&[("x", &[1, 2])]), Err(CliError::InputMissing { name, .. }) if name == "h"));
        assert!(
            matches!(feed_one(&inputs, path, array(&[1, 2])), Err(CliError::InputCount(names)) if names.len() == 2)
        );
    }

    #[test]
    fn a_row_fills_the_batch_with_zeros() {
        let (inputs, path) = ([input("x", &[3, 2])], Path::new("features.npy"));
        let feed = feed_row(&inputs, path, &array(&[2])).unwrap();
        assert_eq!((feed.padding, feed.runs[0][0].len()), (2, 24));
        assert_eq!(feed_row(&inputs, path, &array(&[3, 2])).unwrap().padding, 0);
        assert!(feed_row(&inputs, path, &array(&[5])).is_err());
    }
}
