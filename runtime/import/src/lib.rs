//! Adapters from and to the files of others, and algebra on adapter files.
//!
//! | what | how |
//! |---|---|
//! | any adapter as safetensors and JSON, and checkpoints of any method made by hand | [`export_native`], [`import_native`] |
//! | files of kohya and LyCORIS: LoRA, LoHa, LoKr, whole differences | [`import_lycoris`] |
//! | `.onnx_adapter` files of ONNX Runtime with LoRA factors | [`import_onnx_adapter`] |
//! | one adapter from several, and smaller ones | [`compose`], [`compress`], [`encode_ternary`] |
//! | several that act together, each frozen or trained on | [`stack`], [`members`] |
//! | directories of HF PEFT 0.21 | [`import_peft`], [`export_peft`] |
//!
//! Whatever is read binds by the names of tensors and fails closed: a tensor that belongs to no site, a setting that would
//! change the mathematics and is not honoured, a value that is not finite are refused by name, and nothing is
//! imported in part. Deltas are carried over by the diagonals that compilation recorded at a site
//! (W_plan = diag(o)·W·diag(i)); norms and products with the weight are taken on W itself.
#![forbid(unsafe_code)]

mod algebra;
mod aligned;
mod base;
mod bind;
mod change;
mod error;
mod json;
mod lycoris;
mod matrix;
mod native;
mod onnx_adapter;
mod peft;
mod tensors;

use ingraft_adapter::Adapter;

pub use algebra::{
    Coding, Compression, Member, Operation, Weighted, compose, compress, decode_ternary, encode_ternary,
    is_ternary, members, stack, stacked,
};
pub use aligned::Aligned;
pub use base::Base;
pub use bind::Matching;
pub use error::{Fault, ImportError};
pub use lycoris::import_lycoris;
pub use native::{Exported, JSON, TENSORS, export_native, import_native};
pub use onnx_adapter::{import_onnx_adapter, is_onnx_adapter};
pub use peft::{export_peft, import_peft};
pub use tensors::{Tensor, Tensors, read as read_tensors, refuse_pickle};

/// An adapter made from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The file.
    pub bytes: Vec<u8>,
    /// The sites it acts on.
    pub sites: Vec<ImportedSite>,
    /// Sites of the base that the checkpoint has nothing for.
    pub untouched: Vec<String>,
}

/// One site of an imported adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedSite {
    /// Its name.
    pub name: String,
    /// The module of the checkpoint.
    pub module: String,
    /// ‖ΔW_written − ΔW‖ / ‖ΔW‖: what writing the delta on the base's integers costs.
    pub error: f64,
}

impl Imported {
    /// Checks the file against its base, once more as everybody will.
    fn new(base: &Base<'_>, bytes: Vec<u8>, sites: Vec<ImportedSite>) -> Result<Self, ImportError> {
        let file = Aligned::copy_of(&bytes);
        Adapter::attach(file.as_slice(), &base.plan)?.parameters()?;
        let named = |name: &str| sites.iter().any(|site| site.name == name);
        let untouched = base.sites().map(|(_, site)| site.name).filter(|name| !named(name));
        let untouched = untouched.map(str::to_owned).collect();
        Ok(Self { bytes, sites, untouched })
    }
}
