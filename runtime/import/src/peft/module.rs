//! One adapted module of a checkpoint, as the methods see it.

use std::collections::BTreeMap;

use crate::base::Place;
use crate::matrix::Matrix;
use crate::peft::config::Config;
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// The tensors of a module with the site they change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Module<'c> {
    /// Its path, as PyTorch has it.
    pub(crate) path: &'c str,
    /// By the end of their names: `lora_A.weight`.
    pub(crate) tensors: &'c BTreeMap<String, Tensor>,
    /// Those of the whole checkpoint.
    pub(crate) shared: &'c Tensors,
    pub(crate) config: &'c Config,
    pub(crate) place: &'c Place<'c>,
    /// The most output and input features of the modules that were adapted.
    pub(crate) widest: (usize, usize),
    /// Its number among the adapted modules, and how many these are, in the order of the plan's sites; `None` unless the user takes
    /// that order for PyTorch's.
    pub(crate) order: Option<(usize, usize)>,
}

impl Module<'_> {
    pub(crate) fn optional(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor, ImportError> {
        self.tensors.get(name).ok_or_else(|| ImportError::at(self.path, Fault::Missing(name.to_owned())))
    }

    /// A tensor that modules share; some methods repeat it beside each.
    pub(crate) fn shared(&self, name: &str) -> Result<&Tensor, ImportError> {
        self.tensors
            .get(name)
            .or_else(|| self.shared.get(name))
            .ok_or_else(|| ImportError::new(Fault::Missing(name.to_owned())))
    }

    /// Tensor `name` as `rows` by `columns`; 0 takes what is there, but not nothing.
    pub(crate) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ImportError> {
        let matrix = self.tensor(name)?.matrix();
        self.fits(name, &matrix, rows, columns)?;
        Ok(matrix)
    }

    /// Checks a shape.
    pub(crate) fn fits(
        &self,
        name: &str,
        matrix: &Matrix,
        rows: usize,
        columns: usize,
    ) -> Result<(), ImportError> {
        let same = |found: usize, wanted: usize| found != 0 && (wanted == 0 || found == wanted);
        if same(matrix.rows, rows) && same(matrix.columns, columns) {
            return Ok(());
        }
        let given = vec![matrix.rows, matrix.columns];
        let side = |wanted: usize| if wanted == 0 { "any".to_owned() } else { wanted.to_string() };
        let wanted = format!("[{}, {}]", side(rows), side(columns));
        Err(ImportError::at(&format!("{}.{name}", self.path), Fault::Shape { given, wanted }))
    }

    /// How many tensors are called `head`, a number and `tail`: the numbers from 0 on.
    pub(crate) fn numbered(&self, head: &str, tail: &str) -> Result<usize, ImportError> {
        let count = self.tensors.keys().filter(|name| name.starts_with(head)).count();
        let name = |at: usize| format!("{head}{at}{tail}");
        match (0..count).find(|at| !self.tensors.contains_key(&name(*at))) {
            Some(at) => Err(ImportError::at(self.path, Fault::Missing(name(at)))),
            None => Ok(count),
        }
    }

    /// Tensor `name` with `count` values, of any shape.
    pub(crate) fn vector(&self, name: &str, count: usize) -> Result<Vec<f64>, ImportError> {
        let tensor = self.tensor(name)?;
        if tensor.values.len() == count {
            return Ok(tensor.values.clone());
        }
        let fault = Fault::Shape { given: tensor.dims.clone(), wanted: format!("{count} values") };
        Err(ImportError::at(&format!("{}.{name}", self.path), fault))
    }

    pub(crate) fn refuse<T>(&self, why: &'static str) -> Result<T, ImportError> {
        Err(ImportError::at(self.path, Fault::Unsupported(why)))
    }

    /// The base's bias.
    pub(crate) fn bias(&self) -> Result<&[f64], ImportError> {
        let why = "this method scales the bias too, which a folded batch norm hides";
        self.place.bias.as_deref().ok_or_else(|| ImportError::at(self.path, Fault::NeedsWeights(why)))
    }

    /// Refuses grouped convolutions, whose checkpoints hold factors over all groups at once.
    pub(crate) fn ungrouped(&self) -> Result<(), ImportError> {
        if self.place.desc().groups == 1 {
            return Ok(());
        }
        self.refuse("a grouped convolution's pair reads every group, which no delta of its weight can")
    }

    /// Refuses a setting that is on.
    pub(crate) fn off(&self, name: &'static str, why: &'static str) -> Result<(), ImportError> {
        let on = self.config.flag(name, false)?;
        if on { Err(ImportError::at(name, Fault::Unsupported(why))) } else { Ok(()) }
    }
}
