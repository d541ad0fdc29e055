//! Sites: the places where an adapter may attach.

use ingraft_tensor::DType;

/// Marks a step without a site.
pub const NO_SITE: u32 = u32::MAX;

/// What kind of weight a site adapts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SiteKind {
    /// A matrix applied to rows.
    Linear = 0,
    /// A convolution, dense or grouped.
    Conv = 1,
    /// A depthwise convolution.
    Depthwise = 2,
    /// A row-lookup table.
    Embedding = 3,
    /// Scale and shift of a normalization.
    Norm = 4,
    /// The scale of a normalization that has no shift.
    NormScale = 5,
}

impl SiteKind {
    /// The kind with file code `code`, or `None`.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Linear,
            1 => Self::Conv,
            2 => Self::Depthwise,
            3 => Self::Embedding,
            4 => Self::Norm,
            5 => Self::NormScale,
            _ => return None,
        })
    }

    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Conv => "conv",
            Self::Depthwise => "depthwise",
            Self::Embedding => "embedding",
            Self::Norm => "norm",
            Self::NormScale => "norm-scale",
        }
    }

    /// Whether the site is a layer: a weight that its input is multiplied by.
    pub const fn is_layer(self) -> bool {
        matches!(self, Self::Linear | Self::Conv | Self::Depthwise)
    }

    /// Whether the site is a normalization, whose own scale and shift an adapter's stand in the place of.
    pub const fn is_norm(self) -> bool {
        matches!(self, Self::Norm | Self::NormScale)
    }
}

/// One site, as an adapter needs to know it.
///
/// A normalization is a diagonal: `out` elements are normalized together, each is a group of its own with one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteDesc<'a> {
    /// The ONNX name of the weight.
    pub name: &'a str,
    /// What kind of weight.
    pub kind: SiteKind,
    /// Element type of the base weight.
    pub dtype: DType,
    /// Output channels.
    pub out: usize,
    /// Input channels per group.
    pub inputs: usize,
    /// Kernel height and width; 1×1 for linear.
    pub kernel: [usize; 2],
    /// Number of groups.
    pub groups: usize,
    /// Whether the ONNX weight is stored `(in, out)` rather than `(out, in)`.
    pub transposed: bool,
}

impl SiteDesc<'_> {
    /// Elements of one output row of the weight: kernel height × width × inputs per group.
    pub fn row(&self) -> usize {
        let [kh, kw] = self.kernel;
        kh.saturating_mul(kw).saturating_mul(self.inputs)
    }
}

/// The sites of one base, as an adapter is checked against them.
pub trait Sites {
    /// Content hash of the base.
    fn base_hash(&self) -> [u8; 32];
    /// Number of sites.
    fn site_count(&self) -> usize;
    /// Site `index`, or `None` past the end.
    fn site(&self, index: usize) -> Option<SiteDesc<'_>>;
    /// Number of features a head reading the output of site `index` with `pool` sees
    /// ([`NO_SITE`]: the input of the last linear layer), or `None` when it cannot be read.
    fn head_features(&self, site: u32, pool: u32) -> Option<usize>;
    /// Largest number of head classes the plan reserved room for.
    fn head_classes(&self) -> usize;
}
