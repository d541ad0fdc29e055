//! A method with every kind of term, and one with none.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Part, PartRate, Setting, SiteValues, TermLayout, Unfit};

/// Rank 2 where there can be one, five sparse entries, a dense delta, scale and shift.
#[derive(Debug)]
pub(crate) struct Everything;

impl Method for Everything {
    fn name(&self) -> &'static str {
        "everything"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        let rank = if site.kind == SiteKind::Depthwise { 0 } else { 2 };
        Ok(TermLayout { rank, nnz: 5, dense: true, scale: true, shift: true, ..TermLayout::NONE })
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let SiteValues { down, indptr, indices, .. } = terms;
        down.iter_mut().for_each(|a| *a = rng.uniform(-0.3, 0.3) as f32);
        let (row, total) = (site.desc.row(), site.desc.row() * site.desc.out);
        let mut count = 0;
        for channel in 0..site.desc.out {
            for position in 0..row {
                let next = count * total / indices.len() + count % 2;
                if count < indices.len() && channel * row + position == next {
                    indices[count] = position as u16;
                    count += 1;
                }
            }
            indptr[channel + 1] = count as u32;
        }
        assert_eq!(count, indices.len());
    }

    fn rate(&self, part: Part) -> PartRate {
        PartRate { scale: if part == Part::Up { 2.0 } else { 1.0 }, decays: part != Part::Scale }
    }
}

/// Terms nowhere: the head alone.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Method for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, _: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(TermLayout::NONE)
    }
}
