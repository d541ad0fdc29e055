//! One case of the records.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// A method at a site, with everything that the NumPy implementation computed; its format is described in
/// `tests/golden/methods/records/case.py`.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) method: String,
    pub(crate) site: Layer,
    pub(crate) hyper: BTreeMap<String, Value>,
    /// Trained scalars.
    pub(crate) parameters: usize,
    pub(crate) starts_as_base: bool,
    pub(crate) weight: Array,
    #[serde(default)]
    pub(crate) bias: Option<Array>,
    pub(crate) tensors: BTreeMap<String, Array>,
    pub(crate) constants: BTreeMap<String, Array>,
    pub(crate) effective_weight: Array,
    #[serde(default)]
    pub(crate) effective_bias: Option<Array>,
    pub(crate) upstream: Array,
    #[serde(default)]
    pub(crate) upstream_bias: Option<Array>,
    pub(crate) gradients: BTreeMap<String, Array>,
    pub(crate) expected: BTreeMap<String, Array>,
}

/// The layer that is adapted.
#[derive(Deserialize)]
pub(crate) struct Layer {
    pub(crate) kind: String,
    pub(crate) out: usize,
    /// Input channels, of all groups.
    #[serde(rename = "in")]
    pub(crate) inputs: usize,
    pub(crate) kernel: Vec<usize>,
    pub(crate) groups: usize,
}

/// Values in row-major order.
#[derive(Deserialize)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

/// All cases.
pub(crate) fn read() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/methods/records/records.json");
    let text = std::fs::read_to_string(path).expect("the records' cases are committed");
    serde_json::from_str(&text).expect("the records' cases are what their script writes")
}

impl Case {
    /// Which case it is.
    pub(crate) fn title(&self) -> String {
        let hyper: Vec<_> = self.hyper.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let Layer { kind, out, inputs, kernel, groups } = &self.site;
        format!("{} [{}] {kind} {out}x{inputs} {kernel:?}/{groups}", self.method, hyper.join(" "))
    }

    /// Elements of a row of the weight.
    pub(crate) fn row(&self) -> usize {
        self.weight.data.len() / self.site.out
    }

    /// Hyper-parameter `name`, as a setting is written.
    pub(crate) fn text(&self, name: &str) -> String {
        match &self.hyper[name] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        }
    }

    /// Hyper-parameter `name`, a number.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.hyper[name].as_f64().expect("a number")
    }

    /// Hyper-parameter `name`, a flag; false where the case has none.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.hyper.get(name).is_some_and(|value| value.as_bool().expect("a flag"))
    }

    /// The pairs of array `indices` (`[2, n]`) as places in a matrix of `columns`.
    pub(crate) fn flat(&self, indices: &Array, columns: usize) -> Vec<f64> {
        let (rows, positions) = indices.data.split_at(indices.data.len() / 2);
        rows.iter().zip(positions).map(|(row, column)| row * columns as f64 + column).collect()
    }
}

impl Array {
    /// The matrix turned.
    pub(crate) fn transposed(&self) -> Vec<f64> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        (0..self.data.len()).map(|i| self.data[i % rows * columns + i / rows]).collect()
    }
}
