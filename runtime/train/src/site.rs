//! A site's frozen weight, seen as real values.

use ingraft_kernel::attrs::{Attrs, QConvAttrs};
use ingraft_kernel::{OpCode, Place, SiteDesc, SiteKind, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes::{self, Plain};

/// One site of a plan with the weight the base has there.
///
/// Methods read it to choose what they train, and to write integer terms on the
/// scales of the base. It is never written. The weight of a normalization is its scale, its bias the shift.
#[derive(Clone, Copy, Debug)]
pub struct FrozenSite<'p> {
    /// What kind of weight.
    pub desc: SiteDesc<'p>,
    weight: Weight<'p>,
}

/// The quantization of an int8 site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteScales<'p> {
    /// Real value of one input step.
    pub input: f32,
    /// Code of real zero in the input.
    pub input_zero_point: i32,
    /// Real value of one output step; 1 for an f32 output.
    pub output: f32,
    multiplier: &'p [f32],
}

#[derive(Clone, Copy, Debug)]
enum Weight<'p> {
    Real {
        weight: &'p [f32],
        bias: &'p [f32],
    },
    Codes {
        codes: &'p [i8],
        bias: &'p [i32],
        scales: SiteScales<'p>,
    },
    /// int8 with a scale per channel, on an input whose scale is found at run time.
    Dynamic {
        codes: &'p [i8],
        bias: &'p [f32],
        scales: &'p [f32],
    },
}

impl<'p> FrozenSite<'p> {
    /// Site `index` of `plan`; `None` when there is none, or its weight is not
    /// that of a convolution, linear layer, normalization or table of rows.
    pub fn new(plan: &'p PlanView<'_>, index: usize) -> Option<Self> {
        let desc = plan.site(index)?;
        let (phase, place) = [Phase::Infer, Phase::Train]
            .into_iter()
            .find_map(|phase| plan.site_tensors(phase, index).map(|place| (phase, place)))?;
        let step = plan.step(phase, place.step as usize)?;
        let weight = match step.op {
            OpCode::Conv | OpCode::Depthwise => {
                let bias: &[f32] = constant(plan, step.inputs, 2)?;
                (bias.len() == desc.out).then_some(())?;
                Weight::Real { weight: constant(plan, step.inputs, 1)?, bias }
            }
            OpCode::QConv | OpCode::QDepthwise => {
                let attrs = QConvAttrs::read(step.attrs)?;
                let multiplier = constant(plan, step.inputs, 3)?;
                let scales = SiteScales {
                    input: attrs.in_scale,
                    input_zero_point: attrs.in_zero_point,
                    output: attrs.out_scale,
                    multiplier,
                };
                let bias: &[i32] = constant(plan, step.inputs, 2)?;
                (multiplier.len() == desc.out && bias.len() == desc.out).then_some(())?;
                Weight::Codes { codes: constant(plan, step.inputs, 1)?, bias, scales }
            }
            OpCode::Norm => {
                let bias: &[f32] = if step.inputs.len() > 2 { constant(plan, step.inputs, 2)? } else { &[] };
                (bias.is_empty() || bias.len() == desc.out).then_some(())?;
                Weight::Real { weight: constant(plan, step.inputs, 1)?, bias }
            }
            OpCode::Gather => Weight::Real { weight: constant(plan, step.inputs, 0)?, bias: &[] },
            OpCode::DynamicConv => {
                let scales: &[f32] = constant(plan, step.inputs, 3)?;
                let bias: &[f32] = constant(plan, step.inputs, 2)?;
                (scales.len() == desc.out && bias.len() == desc.out).then_some(())?;
                Weight::Dynamic { codes: constant(plan, step.inputs, 1)?, bias, scales }
            }
            _ => return None,
        };
        let elements = match weight {
            Weight::Real { weight, .. } => weight.len(),
            Weight::Codes { codes, .. } | Weight::Dynamic { codes, .. } => codes.len(),
        };
        (elements == desc.out.checked_mul(desc.row())?).then_some(Self { desc, weight })
    }

    /// A site with this real weight, as its kernel would hold it; `None` when it has another size.
    ///
    /// For computing with a method outside a plan.
    pub fn of_weight(desc: SiteDesc<'p>, weight: &'p [f32]) -> Option<Self> {
        Self::of_layer(desc, weight, &[])
    }

    /// As [`Self::of_weight`], with a bias of every output channel or none.
    pub fn of_layer(desc: SiteDesc<'p>, weight: &'p [f32], bias: &'p [f32]) -> Option<Self> {
        let whole = weight.len() == desc.out.checked_mul(desc.row())?;
        let fits = bias.is_empty() || bias.len() == desc.out;
        (whole && fits).then_some(Self { desc, weight: Weight::Real { weight, bias } })
    }

    /// The scales of an int8 site; `None` for one whose input is real, or quantized at run time.
    pub fn scales(&self) -> Option<SiteScales<'p>> {
        match self.weight {
            Weight::Codes { scales, .. } => Some(scales),
            Weight::Real { .. } | Weight::Dynamic { .. } => None,
        }
    }

    /// The weight code at `position` of the row of output channel `channel`; `None` where [`Self::scales`] is.
    pub fn code(&self, channel: usize, position: usize) -> Option<i8> {
        match self.weight {
            Weight::Codes { codes, .. } => codes.get(self.offset(channel, position)).copied(),
            Weight::Real { .. } | Weight::Dynamic { .. } => None,
        }
    }

    /// Every weight code as it is stored ([`Self::offset`]); `None` for an f32 site.
    pub fn codes(&self) -> Option<&'p [i8]> {
        match self.weight {
            Weight::Codes { codes, .. } | Weight::Dynamic { codes, .. } => Some(codes),
            Weight::Real { .. } => None,
        }
    }

    /// The folded bias of output channel `channel`, in steps of the accumulator; `None` where [`Self::scales`] is.
    pub fn bias(&self, channel: usize) -> Option<i32> {
        match self.weight {
            Weight::Codes { bias, .. } => bias.get(channel).copied(),
            Weight::Real { .. } | Weight::Dynamic { .. } => None,
        }
    }

    /// The real bias of output channel `channel`; 0 outside, and where the base has none.
    pub fn real_bias(&self, channel: usize) -> f32 {
        match self.weight {
            Weight::Real { bias, .. } | Weight::Dynamic { bias, .. } => {
                bias.get(channel).copied().unwrap_or(0.0)
            }
            Weight::Codes { bias, scales, .. } => {
                // The stored bias has the input's zero point folded in.
                let row = 0..self.desc.row();
                let codes = row.filter_map(|position| self.code(channel, position)).map(i64::from);
                let folded = i64::from(scales.input_zero_point).wrapping_mul(codes.sum::<i64>());
                let steps = i64::from(bias.get(channel).copied().unwrap_or(0)).wrapping_add(folded);
                steps as f32 * (scales.input * scales.weight(channel))
            }
        }
    }

    /// The real value of one step of the weights of output channel `channel`; `None` where they are real.
    pub fn weight_step(&self, channel: usize) -> Option<f32> {
        match self.weight {
            Weight::Real { .. } => None,
            Weight::Codes { scales, .. } => Some(scales.weight(channel)),
            Weight::Dynamic { scales, .. } => scales.get(channel).copied(),
        }
    }

    /// The real weight at `position` of the row of output channel `channel`; 0 outside.
    pub fn weight(&self, channel: usize, position: usize) -> f32 {
        let at = self.offset(channel, position);
        match self.weight {
            Weight::Real { weight, .. } => weight.get(at).copied().unwrap_or(0.0),
            Weight::Codes { codes, scales, .. } => {
                f32::from(codes.get(at).copied().unwrap_or(0)) * scales.weight(channel)
            }
            Weight::Dynamic { codes, scales, .. } => {
                f32::from(codes.get(at).copied().unwrap_or(0)) * scales.get(channel).copied().unwrap_or(0.0)
            }
        }
    }

    /// Where in the weight the element at `position` of the row of output channel `channel` stands: depthwise
    /// weights are stored with the channel innermost, all others with the row innermost.
    pub fn offset(&self, channel: usize, position: usize) -> usize {
        match self.desc.kind {
            SiteKind::Depthwise => position.wrapping_mul(self.desc.out).wrapping_add(channel),
            _ => channel.wrapping_mul(self.desc.row()).wrapping_add(position),
        }
    }
}

impl SiteScales<'_> {
    /// Real value of one weight step of output channel `channel`: the multiplier
    /// is sx·sw/sy.
    pub fn weight(&self, channel: usize) -> f32 {
        self.multiplier.get(channel).copied().unwrap_or(0.0) * self.output / self.input
    }
}

fn constant<'p, T: Plain>(plan: &'p PlanView<'_>, inputs: &[u32], at: usize) -> Option<&'p [T]> {
    match plan.tensor(*inputs.get(at)?)?.operand.place {
        Place::Plan(source) => bytes::cast(source),
        Place::Memory(_) => None,
    }
}
