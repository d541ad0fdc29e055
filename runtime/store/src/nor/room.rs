//! Where the next file goes.

use super::Layout;
use crate::medium::States;

/// The first of `sectors` sectors in a row, from `cursor` on and round the end, that no file of `kept` lies in. Going
/// round spreads erasures over all sectors that do not hold files which stay.
///
/// # Errors
/// Most bytes in a row that are free.
pub(super) fn find(layout: &Layout, cursor: u32, sectors: u32, kept: &dyn States) -> Result<u32, u32> {
    let from = if cursor < layout.file_sectors { cursor } else { 0 };
    let gap = gap(layout, from, sectors, kept).or_else(|_| gap_from_start(layout, sectors, kept));
    gap.map_err(|most| most.saturating_mul(layout.sector_bytes))
}

fn gap_from_start(layout: &Layout, sectors: u32, kept: &dyn States) -> Result<u32, u32> {
    gap(layout, 0, sectors, kept)
}

/// The first gap of `sectors` from `from` on, or the sectors of the largest.
fn gap(layout: &Layout, from: u32, sectors: u32, kept: &dyn States) -> Result<u32, u32> {
    let (mut start, mut most) = (from, 0);
    while start < layout.file_sectors {
        // The file that `start` lies in, or the next one behind it.
        let (mut inside, mut next) = (None, layout.file_sectors);
        kept.each(&mut |state| {
            for file in state.files() {
                let end = file.sector.saturating_add(layout.sectors(file.len, file.sealed));
                if file.sector <= start && start < end {
                    inside = inside.max(Some(end));
                } else if file.sector > start {
                    next = next.min(file.sector);
                }
            }
        });
        match inside {
            Some(end) => start = end,
            None if next.saturating_sub(start) >= sectors => return Ok(start),
            None => {
                most = most.max(next.saturating_sub(start));
                start = next;
            }
        }
    }
    Err(most)
}
