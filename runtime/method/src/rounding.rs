//! What rounding took from the weights, weighed by the inputs it meets, and the spectrum that gives most of it back.

mod solve;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_exec::{StepEvent, Trace};
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{OpCode, Place, SiteDesc, SiteKind};
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;
use ingraft_train::FrozenSite;

use self::solve::{both_sides, shares, solve, walsh};
use crate::place::{in_kernel, published};
use crate::select::best;
use crate::{Saliency, Score};

/// One site: the error of its rounding, and what its inputs are like.
#[derive(Clone, Debug)]
pub(crate) struct Rounded {
    pub(crate) name: String,
    site: u32,
    out: usize,
    row: usize,
    /// Real weight less rounded one, `[out, row]`, rows in published order.
    pub(crate) error: Vec<f64>,
    /// Σ x·xᵀ of every group, `[groups, row, row]`, in published order.
    gram: Vec<f64>,
    /// Where element i of a kernel's row stands in a published one.
    order: Vec<usize>,
    patch: Vec<i8>,
}

impl Saliency {
    /// Says what the weight of site `site` of `plan` was before it was rounded: `[out, row]`, rows in published order, on the scales
    /// of the plan (what compilation folded in stays folded in). For [`Score::Rounding`], before [`Self::measure`], and
    /// [`Score::Unrounded`].
    ///
    /// Gives `false`, and takes nothing in, for another score, another size, or a site without int8 weights of a linear layer
    /// or convolution.
    pub fn unrounded(&mut self, plan: &PlanView<'_>, site: u32, weight: &[f64]) -> bool {
        let score = self.score();
        let frozen = FrozenSite::new(plan, site as usize).filter(|_| score.is_of_rounding());
        let rounded = frozen.and_then(|frozen| match score {
            Score::Rounding => Rounded::new(&frozen, site, weight),
            _ => Rounded::without_inputs(&frozen, site, weight),
        });
        rounded.map(|rounded| self.rounded.push(rounded)).is_some()
    }
}

impl Rounded {
    fn new(frozen: &FrozenSite<'_>, site: u32, weight: &[f64]) -> Option<Self> {
        let kind = matches!(frozen.desc.kind, SiteKind::Linear | SiteKind::Conv);
        (kind && frozen.scales().is_some()).then_some(())?;
        Self::of_site(frozen, site, weight)
    }

    /// The error alone.
    fn without_inputs(frozen: &FrozenSite<'_>, site: u32, weight: &[f64]) -> Option<Self> {
        frozen.codes()?;
        Self::of_error(frozen, site, weight)
    }

    fn of_site(frozen: &FrozenSite<'_>, site: u32, weight: &[f64]) -> Option<Self> {
        let (groups, row) = (frozen.desc.groups.max(1), frozen.desc.row());
        let made = Self::of_error(frozen, site, weight)?;
        Some(Self { gram: vec![0.0; groups * row * row], ..made })
    }

    fn of_error(frozen: &FrozenSite<'_>, site: u32, weight: &[f64]) -> Option<Self> {
        let desc: &SiteDesc<'_> = &frozen.desc;
        let (out, row) = (desc.out, desc.row());
        (weight.len() == out * row).then_some(())?;
        let held = |i: usize| f64::from(frozen.weight(i / row, in_kernel(desc, i % row)));
        Some(Self {
            name: desc.name.to_string(),
            site,
            out,
            row,
            error: weight.iter().enumerate().map(|(i, real)| real - held(i)).collect(),
            gram: Vec::new(),
            order: (0..row).map(|at| published(desc, at)).collect(),
            patch: Vec::new(),
        })
    }

    /// Output channels, and elements of a row.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.out, self.row]
    }

    /// Takes in one input of group `group`, in published order.
    fn take(&mut self, group: usize, x: &[f64]) {
        let gram = self.gram.chunks_exact_mut(self.row * self.row).nth(group).unwrap_or_default();
        for (sums, a) in gram.chunks_exact_mut(self.row).zip(x) {
            sums.iter_mut().zip(x).for_each(|(sum, b)| *sum += a * b);
        }
    }

    fn read(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) -> Option<()> {
        (event.step.op == OpCode::QConv).then_some(())?;
        let attrs: &QConvAttrs = event.step.attrs().ok()?;
        let (input, output) = (event.step.input(0).ok()?, event.step.output(0).ok()?);
        let codes: &[i8] = match input.place {
            Place::Memory(span) => bytes::cast(memory.get(span.offset..span.end())?)?,
            Place::Plan(bytes) => bytes::cast(bytes)?,
        };
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input.shape, output.shape)?;
        let zero = attrs.in_zero_point;
        let mut buffer = core::mem::take(&mut self.patch);
        buffer.resize(shape.row(), 0);
        let mut x = vec![0.0; self.row];
        let seen = shape.for_each_pixel(|_, pixel| {
            for group in 0..shape.groups {
                let patch = shape.patch(codes, zero as i8, pixel, group, &mut buffer).ok_or(())?;
                for (code, at) in patch.iter().zip(&self.order) {
                    x[*at] = f64::from(i32::from(*code) - zero) * f64::from(attrs.in_scale);
                }
                self.take(group, &x);
            }
            Ok::<(), ()>(())
        });
        self.patch = buffer;
        seen.ok()
    }

    /// The Gram matrix of a group with a little of its mean diagonal added; the identity where no input was seen.
    fn damped(&self, group: usize) -> Vec<f64> {
        let row = self.row;
        let mut gram = self.gram.iter().copied().skip(group * row * row).take(row * row).collect::<Vec<_>>();
        let trace: f64 = (0..row).map(|i| gram[i * row + i]).sum();
        let added = if trace > 0.0 { DAMPING * trace / row as f64 } else { 1.0 };
        (0..row).for_each(|i| gram[i * row + i] += added);
        gram
    }

    /// `count` places of a spectrum `[out, n]` and their coefficients X, ascending, with `E ≈ X·H/n`: the least squares over the inputs.
    ///
    /// Every channel gets a share of them by the norm of its whole spectrum, and of its own takes those that give most.
    pub(crate) fn spectrum(&self, count: usize) -> Vec<(usize, f64)> {
        let (out, row, n) = (self.out, self.row, self.row.next_power_of_two());
        let groups = self.gram.len() / (row * row).max(1);
        let whole: Vec<Vec<f64>> = self
            .error
            .chunks_exact(row)
            .map(|error| {
                let mut padded = error.to_vec();
                padded.resize(n, 0.0);
                walsh(&mut padded);
                padded
            })
            .collect();
        // More than a row has weights are no basis.
        let kept = shares(&whole, count, row);
        let mut chosen = Vec::with_capacity(count);
        for group in 0..groups {
            let gram = self.damped(group);
            // M = H·G·Hᵀ/n² and, per channel, v = H·G·e/n.
            let basis = both_sides(&gram, row, n);
            for channel in out / groups * group..out / groups * (group + 1) {
                let error = &self.error[channel * row..][..row];
                let mut target: Vec<f64> =
                    gram.chunks_exact(row).map(|g| g.iter().zip(error).map(|(g, e)| g * e).sum()).collect();
                target.resize(n, 0.0);
                walsh(&mut target);
                let gain: Vec<f64> =
                    (0..n).map(|j| basis[j * n + j] * whole[channel][j] * whole[channel][j]).collect();
                let places = best(&gain, kept[channel]);
                let normal = places.iter().flat_map(|i| places.iter().map(|j| basis[*i * n + *j])).collect();
                let right = places.iter().map(|j| target[*j] / n as f64).collect();
                let values = solve(normal, right);
                chosen.extend(places.into_iter().map(|j| channel * n + j).zip(values));
            }
        }
        chosen
    }
}

/// Watches the inputs of sites in a pass.
pub(crate) struct Inputs<'r>(pub(crate) &'r mut Vec<Rounded>);

impl Trace<[u8]> for Inputs<'_> {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        let rounded = self.0.iter_mut().find(|rounded| event.view.site == Some(rounded.site));
        // Steps without such a site are of no interest.
        let _ = rounded.and_then(|rounded| rounded.read(event, memory));
    }
}

/// What of the mean diagonal is added to a Gram matrix.
const DAMPING: f64 = 1e-4;
#[cfg(test)]
mod tests {
    use super::*;
    use ingraft_tensor::DType;

    #[test]
    fn spectra_are_those_of_the_record() {
        let records = include_str!("../../../tests/golden/methods/records/records.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(records).unwrap();
        let numbers = |array: &serde_json::Value| -> Vec<f64> {
            array["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let mut seen = 0;
        for case in cases.iter().filter(|case| case["hyper"]["start"] == "error") {
            let (out, row) = (
                case["site"]["out"].as_u64().unwrap() as usize,
                case["site"]["in"].as_u64().unwrap() as usize,
            );
            let (kind, dtype) = (SiteKind::Linear, DType::F32);
            let desc = SiteDesc {
                name: "s",
                kind,
                dtype,
                out,
                inputs: row,
                kernel: [1, 1],
                groups: 1,
                transposed: false,
            };
            let held: Vec<f32> = numbers(&case["weight"]).iter().map(|v| *v as f32).collect();
            let frozen = FrozenSite::of_weight(desc, &held).unwrap();
            let real = numbers(&case["constants"]["float_weight"]);
            let mut rounded = Rounded::of_site(&frozen, 0, &real).unwrap();
            numbers(&case["constants"]["inputs"]).chunks(row).for_each(|x| rounded.take(0, x));
            let rank = case["hyper"]["rank"].as_u64().unwrap() as usize;
            let found = rounded.spectrum(rank * (out + row));
            let scale = libm::sqrt(out as f64) / case["hyper"]["lambda"].as_f64().unwrap();
            let wanted = numbers(&case["constants"]["initial"]);
            let places: Vec<usize> = (0..wanted.len()).filter(|at| wanted[*at] != 0.0).collect();
            assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), places);
            for (at, value) in found {
                assert!((value * scale - wanted[at]).abs() < 1e-8, "{} {}", value * scale, wanted[at]);
            }
            seen += 1;
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn a_padded_spectrum_gives_most_of_the_error_back() {
        let (out, row, mut rng) = (4, 6, ingraft_tensor::Rng::new(3));
        let (kind, dtype) = (SiteKind::Conv, DType::F32);
        let desc =
            SiteDesc { name: "s", kind, dtype, out, inputs: 3, kernel: [1, 2], groups: 2, transposed: false };
        let held = vec![0.0f32; out * row];
        let frozen = FrozenSite::of_weight(desc, &held).unwrap();
        let error: Vec<f64> = (0..out * row).map(|_| rng.uniform(-1.0, 1.0)).collect();
        let mut rounded = Rounded::of_site(&frozen, 0, &error).unwrap();
        let inputs: Vec<f64> = (0..20 * row).map(|_| rng.uniform(-1.0, 1.0)).collect();
        inputs.chunks(row).enumerate().for_each(|(i, x)| rounded.take(i % 2, x));
        let mut left = f64::INFINITY;
        for count in [4, 12, 24] {
            let mut spectrum = vec![0.0; out * 8];
            let found = rounded.spectrum(count);
            assert_eq!(found.len(), count);
            found.into_iter().for_each(|(at, value)| spectrum[at] = value);
            spectrum.chunks_mut(8).for_each(walsh);
            let apart = |i: usize| error[i] - spectrum[i / row * 8 + i % row] / 8.0;
            let now: f64 = (0..out * row).map(|i| apart(i) * apart(i)).sum();
            assert!(now < left, "{count}: {now}");
            left = now;
        }
        let all: f64 = error.iter().map(|e| e * e).sum();
        assert!(left < 0.01 * all, "{left} of {all}");
    }
}
