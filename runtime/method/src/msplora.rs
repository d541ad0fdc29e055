//! MSPLoRA: multi-scale pyramid low-rank adaptation (Zhao et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Among, Expression, Form, Node, Revised, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};

/// A pyramid of pairs: one for all sites of a shape, one for each third of them, one for each site:
/// `W' = W + s_g·B_g·A_g + s_k·B_k·A_k + s_l·B_l·A_l`, each s its own α over its own rank.
///
/// Sites of one shape, in the order of the plan, are the layers of one kind of module: of L, site l belongs to third ⌊3l/L⌋.
/// The largest rank is the one of all, the smallest the site's own. Shared pairs act at every site of theirs, as the paper
/// has it; the published code applies them where they are registered alone. Tensors, A and B of each: `msplora_A_global`
/// `[r_g, row]` and `msplora_B_global` `[out, r_g]`; `msplora_A_group0` to `2` `[r_k, row]`, the same at every site of the shape;
/// `msplora_A_layer` `[r_l, row]`; constant `group` `[3, 1]`, one at the site's third, the first where a file has none. A uniform
/// in ±1/√row, B zero: starts as the base. Parameters: `(out + row)·(r_g + 3·r_k + L·r_l)` for every shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MspLora {
    /// Rank and α of all, of a third, of a site.
    levels: [(u32, f64); 3],
}

impl MspLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let global = settings.number("global_rank", |rank| (1..=256).contains(rank))?;
        let group = settings.number("group_rank", |rank| (1..=global).contains(rank))?;
        let layer = settings.number("layer_rank", |rank| (1..=group).contains(rank))?;
        let alpha = |name| settings.positive(name);
        Ok(Self {
            levels: [
                (global, alpha("global_alpha")?),
                (group, alpha("group_alpha")?),
                (layer, alpha("layer_alpha")?),
            ],
        })
    }
}

/// The third that layer `index` of `layers` belongs to.
fn third(index: usize, layers: usize) -> usize {
    (THIRDS * index / layers.max(1)).min(THIRDS - 1)
}

impl Expression for MspLora {
    fn name(&self) -> &'static str {
        "msplora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        for ((rank, alpha), (rank_name, alpha_name)) in self.levels.into_iter().zip(LEVELS) {
            visit(rank_name, Setting::Count(rank));
            visit(alpha_name, Setting::Real(alpha));
        }
    }

    /// The site's own pair, which its zero leads to the base like the shared ones.
    fn steady_decays(&self) -> bool {
        true
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let [global, group, layer] = self.levels.map(|(rank, _)| rank as usize);
        let scaled = |b: Node<'t>, (rank, alpha): (u32, f64)| b * (alpha / f64::from(rank));
        tape.share(Among::Shape);
        let shared = |name, rank| tape.parameter(name, rank, row, Start::kaiming(row));
        let up = |name, rank| tape.parameter(name, out, rank, Start::ZERO);
        let first = (shared("msplora_A_global", global), up("msplora_B_global", global));
        let thirds = GROUPS.map(|[a, b]| (shared(a, group), up(b, group)));
        let own = tape.steady_parameter("msplora_A_layer", layer, row, Start::kaiming(row));
        let own = (own, tape.steady_parameter("msplora_B_layer", out, layer, Start::ZERO));
        let chosen = tape.constant("group", THIRDS, 1, |ones, _| {
            ones.iter_mut().enumerate().for_each(|(k, to)| *to = f64::from(u8::from(k == 0)));
        });
        let is = |k: usize| chosen.rows_at(tape.fixed(1, 1, |at, _| at.fill(k as f64)));
        let [(a, b), ..] = thirds;
        let mut middle = (a.times(is(0)), b.times(is(0)));
        for (k, (a, b)) in thirds.into_iter().enumerate().skip(1) {
            middle = (middle.0 + a.times(is(k)), middle.1 + b.times(is(k)));
        }
        let [s_g, s_k, s_l] = self.levels;
        let up = scaled(first.1, s_g).beside(scaled(middle.1, s_k)).beside(scaled(own.1, s_l));
        Ok(Form::two_factor(up, first.0.above(middle.0).above(own.0)))
    }

    fn settle(&self, sites: &mut Revised<'_, '_>) {
        let mut shapes = alloc::vec::Vec::new();
        sites.each(&mut |site| shapes.push(site.shape()));
        let mut index = 0;
        sites.each(&mut |site| {
            let same = |shapes: &[[usize; 2]]| shapes.iter().filter(|shape| **shape == site.shape()).count();
            let group = third(same(&shapes[..index]), same(&shapes));
            let [chosen] = site.kept(["group"]);
            chosen.iter_mut().enumerate().for_each(|(k, to)| *to = f64::from(u8::from(k == group)));
            index += 1;
        });
    }
}

const THIRDS: usize = 3;
const GROUPS: [[&str; 2]; THIRDS] = [
    ["msplora_A_group0", "msplora_B_group0"],
    ["msplora_A_group1", "msplora_B_group1"],
    ["msplora_A_group2", "msplora_B_group2"],
];
const LEVELS: [(&str, &str); 3] =
    [("global_rank", "global_alpha"), ("group_rank", "group_alpha"), ("layer_rank", "layer_alpha")];

const fn alpha(name: &'static str, default: &'static str) -> SettingRow {
    SettingRow { name, default, expected: "a positive number" }
}

/// `msplora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "msplora",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "global_rank", ..RANK },
        alpha("global_alpha", "8"),
        SettingRow { name: "group_rank", default: "4", expected: "a whole number in 1..=global_rank" },
        alpha("group_alpha", "4"),
        SettingRow { name: "layer_rank", default: "2", expected: "a whole number in 1..=group_rank" },
        alpha("layer_alpha", "2"),
    ],
    deploy: TWO_FACTOR,
    source: "MSPLoRA: A Multi-Scale Pyramid Low-Rank Adaptation for Efficient Model Fine-Tuning (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(MspLora::new(s))),
};

#[cfg(test)]
mod tests {
    use super::third;
    use alloc::vec::Vec;

    #[test]
    fn thirds_are_contiguous_and_as_even_as_can_be() {
        let of = |layers: usize| (0..layers).map(|l| third(l, layers)).collect::<Vec<_>>();
        assert_eq!(of(6), [0, 0, 1, 1, 2, 2]);
        // ⌊l/(L/3)⌋ with L/3 not rounded.
        assert_eq!(of(7), [0, 0, 0, 1, 1, 2, 2]);
        assert_eq!(of(2), [0, 1]);
        assert_eq!(of(1), [0]);
    }
}
