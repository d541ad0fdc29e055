//! Rows for AVX2 and FMA.

pub(crate) mod conv;
pub(crate) mod depthwise;
mod dot;
pub(crate) mod lanes;
pub(crate) mod qconv;
pub(crate) mod qdepthwise;
mod qdot;
pub(crate) mod requantize;
pub(crate) mod tile;
