//! Adaptation methods.
//!
//! One file per method: which terms a site gets, how they start, how fast they
//! move. [`METHODS`] lists them with their settings; [`build`] makes one by
//! name. [`export`] turns what a trainer learned into an adapter file, with
//! integer terms on int8 sites.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
mod abba;
#[cfg(feature = "alloc")]
mod adalora;
#[cfg(feature = "alloc")]
mod attribution;
#[cfg(feature = "alloc")]
mod beft;
mod bias;
#[cfg(feature = "alloc")]
mod bitfit;
#[cfg(feature = "alloc")]
mod boft;
#[cfg(feature = "alloc")]
mod bone;
#[cfg(feature = "alloc")]
mod bora;
#[cfg(feature = "alloc")]
mod c3a;
#[cfg(feature = "alloc")]
mod context_peft;
#[cfg(feature = "alloc")]
mod continued;
#[cfg(feature = "alloc")]
mod curvature;
#[cfg(feature = "alloc")]
mod deft;
#[cfg(feature = "alloc")]
mod delora;
#[cfg(feature = "alloc")]
mod diablo;
#[cfg(feature = "alloc")]
mod dora;
#[cfg(feature = "alloc")]
mod edora;
#[cfg(feature = "alloc")]
mod error;
#[cfg(feature = "alloc")]
mod esft;
#[cfg(feature = "alloc")]
mod ether;
#[cfg(feature = "alloc")]
mod export;
#[cfg(feature = "alloc")]
mod expression;
#[cfg(feature = "alloc")]
mod flix;
#[cfg(feature = "alloc")]
mod flow;
#[cfg(feature = "alloc")]
mod fourierft;
mod full;
#[cfg(feature = "alloc")]
mod gralora;
#[cfg(feature = "alloc")]
mod hd_pissa;
mod head;
#[cfg(feature = "alloc")]
mod hira;
#[cfg(feature = "alloc")]
mod hra;
#[cfg(feature = "alloc")]
mod hut;
mod ia3;
#[cfg(feature = "alloc")]
mod id3;
#[cfg(feature = "alloc")]
mod kradapter;
#[cfg(feature = "alloc")]
mod l4q;
#[cfg(feature = "alloc")]
mod list;
mod ln;
#[cfg(feature = "alloc")]
mod loha;
#[cfg(feature = "alloc")]
mod loki;
#[cfg(feature = "alloc")]
mod lokr;
mod lora;
#[cfg(feature = "alloc")]
mod lorat;
#[cfg(feature = "alloc")]
mod loretta;
#[cfg(feature = "alloc")]
mod losia;
#[cfg(feature = "alloc")]
mod low_rank;
#[cfg(feature = "alloc")]
mod map;
mod mask;
#[cfg(feature = "alloc")]
mod melora;
#[cfg(feature = "alloc")]
mod miss;
#[cfg(feature = "alloc")]
mod moka;
#[cfg(feature = "alloc")]
mod msplora;
#[cfg(feature = "alloc")]
mod neuroada;
#[cfg(feature = "alloc")]
mod oft;
#[cfg(feature = "alloc")]
mod paca;
#[cfg(feature = "alloc")]
mod peqa;
#[cfg(feature = "alloc")]
mod pissa;
mod place;
#[cfg(feature = "alloc")]
mod poly;
#[cfg(feature = "alloc")]
mod psoft;
#[cfg(feature = "alloc")]
mod quantize;
#[cfg(feature = "alloc")]
mod quantum_peft;
#[cfg(feature = "alloc")]
mod qwha;
#[cfg(feature = "alloc")]
mod randlora;
#[cfg(feature = "alloc")]
mod ranges;
#[cfg(feature = "alloc")]
mod relevance;
#[cfg(feature = "alloc")]
mod road;
#[cfg(feature = "alloc")]
mod rosa;
#[cfg(feature = "alloc")]
mod rounding;
#[cfg(feature = "alloc")]
mod row;
mod rslora;
#[cfg(feature = "alloc")]
mod s2ft;
#[cfg(feature = "alloc")]
mod s2lora;
#[cfg(feature = "alloc")]
mod saliency;
#[cfg(feature = "alloc")]
mod saturation;
#[cfg(feature = "alloc")]
mod schedule;
#[cfg(feature = "alloc")]
mod score;
#[cfg(feature = "alloc")]
mod select;
mod shira;
#[cfg(feature = "alloc")]
mod sketchtune;
#[cfg(feature = "alloc")]
mod smt;
#[cfg(feature = "alloc")]
mod snell;
#[cfg(feature = "alloc")]
mod soka;
#[cfg(feature = "alloc")]
mod sora;
#[cfg(feature = "alloc")]
mod sparse;
#[cfg(feature = "alloc")]
mod sparsegrad;
#[cfg(feature = "alloc")]
mod spectral_adapter;
#[cfg(feature = "alloc")]
mod speft;
#[cfg(feature = "alloc")]
mod spt;
#[cfg(feature = "alloc")]
mod sqft;
mod ssf;
#[cfg(feature = "alloc")]
mod supertuning;
#[cfg(feature = "alloc")]
mod surm;
#[cfg(feature = "alloc")]
mod svft;
#[cfg(feature = "alloc")]
mod tinylora;
#[cfg(feature = "alloc")]
mod tlora;
#[cfg(feature = "alloc")]
mod torch;
#[cfg(feature = "alloc")]
mod unilora;
#[cfg(feature = "alloc")]
mod values;
#[cfg(feature = "alloc")]
mod vblora;
#[cfg(feature = "alloc")]
mod vectorfit;
#[cfg(feature = "alloc")]
mod vera;
#[cfg(feature = "alloc")]
mod wara;
#[cfg(feature = "alloc")]
mod waveft;

pub use bias::Bias;
#[cfg(feature = "alloc")]
pub use boft::butterfly;
#[cfg(feature = "alloc")]
pub use continued::{ContinueError, continue_from};
#[cfg(feature = "alloc")]
pub use error::{ExportError, MeasureError, MethodError, ValuesError};
#[cfg(feature = "alloc")]
pub use export::{
    DeltaFormat, Deployed, Export, ExportOptions, FactorFormat, SiteReport, TermFormat, deploy, deploy_as,
    export,
};
pub use full::Full;
pub use head::Head;
pub use ia3::Ia3;
#[cfg(feature = "alloc")]
pub use list::{METHODS, build, build_on, score_for};
pub use ln::Ln;
pub use lora::{DepthwiseTerm, Lora};
pub use mask::Mask;
pub use place::{in_kernel, published};
#[cfg(feature = "alloc")]
pub use ranges::{Ranges, RangesOn};
#[cfg(feature = "alloc")]
pub use row::{Definition, Family, MethodRow, SettingRow};
pub use rslora::RsLora;
#[cfg(feature = "alloc")]
pub use saliency::Saliency;
#[cfg(feature = "alloc")]
pub use saturation::Saturation;
#[cfg(feature = "alloc")]
pub use score::Score;
pub use shira::Shira;
pub use ssf::Ssf;
#[cfg(feature = "alloc")]
pub use torch::TorchRng;
#[cfg(feature = "alloc")]
pub use values::{NamedTensor, OwnedTerms, TensorInfo, constants, declared, evaluate};
