//! S²FT: structured sparse fine-tuning (Yang et al., 2024).

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::MethodError;
use crate::mask::{ROW_LIMIT, draw, fill, keep_representable};
use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SHARE, SettingRow, Settings};
use crate::sparse::Budget;

/// Trains all weights of some channels: those that a layer writes (`up`), or those that it reads (`down`).
///
/// The published form renumbers the channels between two layers so that what is trained lies together, which changes no
/// value; an overlay names its places, so nothing is renumbered. Channels are drawn by `seed` once for each number of channels, so
/// that layers that share channels train the same ones: of pointwise → depthwise → pointwise, `up` trains what the first writes
/// and the depthwise one makes of it, `down` what the depthwise one makes and the last reads. Of other layers with as many
/// channels it trains those of the same numbers, which mean nothing there. A depthwise layer writes the channels it reads: both kinds train
/// their whole filters. A channel that is read is every place of the kernel. Starts as the base. Parameters: with n = `max(⌊p·channels⌋, 1)`,
/// `n·row` for `up`, `n·(out/groups)·kernel` for `down`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct S2ft {
    side: Side,
    ratio: f64,
    seed: u32,
}

/// The channels that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Those a layer writes.
    Up,
    /// Those it reads.
    Down,
}

impl S2ft {
    /// The channels that `site` has on that side.
    fn channels(&self, site: &SiteDesc<'_>) -> usize {
        match self.side {
            Side::Up => site.out,
            Side::Down => site.inputs.saturating_mul(site.groups),
        }
    }

    /// Which of `channels` channels are trained.
    fn chosen(&self, channels: usize) -> Vec<bool> {
        let mut numbers = vec![0.0; Budget::Share(self.ratio).units(channels)];
        draw(channels, &mut Rng::stream(u64::from(self.seed), channels as u64), &mut numbers);
        let mut chosen = vec![false; channels];
        for number in numbers {
            chosen.iter_mut().skip(number as usize).take(1).for_each(|chosen| *chosen = true);
        }
        chosen
    }
}

impl Method for S2ft {
    fn name(&self) -> &'static str {
        "s2ft"
    }

    /// 2: channels are drawn by their number, not site by site.
    fn version(&self) -> u32 {
        2
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("kind", Setting::Name(if self.side == Side::Up { "up" } else { "down" }));
        visit("ratio", Setting::Real(self.ratio));
        visit("seed", Setting::Count(self.seed));
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        if !matches!(site.kind, SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise) {
            return Ok(TermLayout::NONE);
        }
        let row = site.row();
        if row > ROW_LIMIT {
            return Err(Unfit::RowTooLong { row, limit: ROW_LIMIT });
        }
        let each = match self.side {
            Side::Up => row,
            Side::Down => site.out / site.groups.max(1) * (row / site.inputs.max(1)),
        };
        let count = Budget::Share(self.ratio).units(self.channels(site)).saturating_mul(each);
        let nnz = u32::try_from(count).map_err(|_| Unfit::Expression { out: site.out, row })?;
        Ok(TermLayout { nnz, ..TermLayout::NONE })
    }

    fn initialize(&self, site: &FrozenSite<'_>, _: &mut Rng, terms: &mut SiteValues<'_>) {
        let desc = &site.desc;
        let chosen = self.chosen(self.channels(desc));
        let (inputs, of_group) = (desc.inputs.max(1), (desc.out / desc.groups.max(1)).max(1));
        fill(site, terms, |channel, position| {
            let number = match self.side {
                Side::Up => channel,
                // Inputs are innermost in a kernel's row.
                Side::Down => channel / of_group * inputs + position % inputs,
            };
            chosen.get(number).copied().unwrap_or(false)
        });
    }

    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        keep_representable(site, terms);
    }
}

/// `s2ft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "s2ft",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "kind", default: "down", expected: "up or down" },
        SettingRow { name: "ratio", default: "0.05", expected: SHARE },
        SettingRow { name: "seed", default: "0", expected: "a whole number" },
    ],
    deploy: OVERLAY,
    source: "S²FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(make),
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let side = settings.one_of("kind", &[("up", Side::Up), ("down", Side::Down)])?;
    Ok(Box::new(S2ft { side, ratio: settings.share("ratio")?, seed: settings.number("seed", |_| true)? }))
}
