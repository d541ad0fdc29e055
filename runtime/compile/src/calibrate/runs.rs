//! The sample inputs, checked against the model.

use ingraft_tensor::DType;

use super::CalibrateError;
use crate::graph::Graph;

/// The bytes of every model input, run by run.
#[derive(Clone, Debug)]
pub(super) struct Runs(Vec<Vec<Vec<u8>>>);

impl Runs {
    /// Cuts `samples` into runs of `graph`.
    pub(super) fn new(graph: &Graph, samples: &[Vec<(String, Vec<u8>)>]) -> Result<Self, CalibrateError> {
        let mut runs = Vec::new();
        for (sample, arrays) in samples.iter().enumerate() {
            let mut columns: Vec<Vec<&[u8]>> = Vec::with_capacity(graph.inputs.len());
            for id in &graph.inputs {
                let input = &graph[*id];
                let error = |found| CalibrateError::Input {
                    sample,
                    input: input.name.clone(),
                    expected: bytes_of(input.dtype, &input.shape),
                    found,
                };
                let array = arrays.iter().find(|(name, _)| *name == input.name).ok_or_else(|| error(None))?;
                let run = bytes_of(input.dtype, &input.shape);
                let whole = run != 0 && !array.1.is_empty() && array.1.len().is_multiple_of(run);
                let count = columns.first().map_or(array.1.len() / run.max(1), Vec::len);
                if !whole || array.1.len() != count * run {
                    return Err(error(Some(array.1.len())));
                }
                columns.push(array.1.chunks_exact(run).collect());
            }
            for run in 0..columns.first().map_or(0, Vec::len) {
                runs.push(columns.iter().map(|column| column[run].to_vec()).collect());
            }
        }
        if runs.is_empty() { Err(CalibrateError::NoSamples) } else { Ok(Self(runs)) }
    }

    /// The bytes of each model input, run by run.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Vec<u8>]> {
        self.0.iter().map(Vec::as_slice)
    }
}

fn bytes_of(dtype: DType, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * dtype.size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Builder;
    use crate::op::{Binary, Op};

    fn graph() -> Graph {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![1, 2]).unwrap();
        let y = b.input("y", DType::F32, vec![1]).unwrap();
        let z = b.add("z", Op::Binary(Binary::Add), &[x, y]).unwrap();
        b.finish(&[z])
    }

    fn sample(x: usize, y: usize) -> Vec<(String, Vec<u8>)> {
        vec![("y".to_owned(), vec![2; y]), ("x".to_owned(), vec![1; x])]
    }

    #[test]
    fn samples_are_cut_into_runs() {
        let runs = Runs::new(&graph(), &[sample(24, 12), sample(8, 4)]).unwrap();
        assert_eq!(runs.iter().count(), 4);
        assert!(runs.iter().all(|run| run == [vec![1; 8], vec![2; 4]]));
    }

    #[test]
    fn samples_that_do_not_fit_are_refused_by_name() {
        let input = |sample, input: &str, expected, found| CalibrateError::Input {
            sample,
            input: input.to_owned(),
            expected,
            found,
        };
        let cases = [
            (vec![sample(24, 12), sample(20, 12)], input(1, "x", 8, Some(20))),
            (vec![sample(24, 8)], input(0, "y", 4, Some(8))),
            (vec![sample(0, 0)], input(0, "x", 8, Some(0))),
            (vec![sample(8, 4)[..1].to_vec()], input(0, "x", 8, None)),
            (vec![], CalibrateError::NoSamples),
        ];
        for (samples, want) in cases {
            assert_eq!(Runs::new(&graph(), &samples).unwrap_err(), want);
        }
    }
}
