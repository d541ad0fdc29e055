//! The check of sparse terms.

use ingraft_kernel::Sparse;

/// Whether the rows follow each other through all entries, each ascending and below `row`.
///
/// Entries that do not rise above the one before are counted over all, then where a row begins: the counts are equal
/// where every row ascends. At a low density rows have a few entries or none, and a loop over each would end where no
/// processor foresees.
pub(crate) fn ascends(sparse: &Sparse<'_>, row: usize) -> bool {
    let (bounds, entries) = (sparse.indptr, sparse.indices);
    let covered =
        bounds.first() == Some(&0) && bounds.last().is_some_and(|end| *end as usize == entries.len());
    let most = entries.iter().fold(0, |most: u16, entry| most.max(*entry));
    if !covered || !entries.is_empty() && usize::from(most) >= row {
        return false;
    }
    let (mut sorted, mut at_rows) = (true, 0u32);
    for (start, end) in bounds.iter().zip(bounds.iter().skip(1)) {
        let start_at = *start as usize;
        let pair = entries.get(start_at.wrapping_sub(1)).zip(entries.get(start_at));
        let falls = pair.is_some_and(|(before, entry)| entry <= before);
        sorted &= start <= end;
        // An empty row begins nowhere.
        at_rows = at_rows.wrapping_add(u32::from(falls & (start < end)));
    }
    sorted && falls(entries) == at_rows
}

/// How many entries do not rise above the one before.
fn falls(entries: &[u16]) -> u32 {
    /// Entries counted in 16 bits, eight or more at a time on processors with vectors.
    const BLOCK: usize = 4096;
    let mut count = 0u32;
    let mut rest = entries;
    while rest.len() > 1 {
        let block = rest.get(..rest.len().min(BLOCK)).unwrap_or(rest);
        let pairs = block.iter().zip(block.iter().skip(1));
        let falls = pairs.fold(0u16, |falls, (before, entry)| falls.wrapping_add(u16::from(entry <= before)));
        count = count.wrapping_add(u32::from(falls));
        rest = rest.get(BLOCK - 1..).unwrap_or(&[]);
    }
    count
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use ingraft_kernel::{Sparse, SparseValues};
    use ingraft_tensor::Rng;

    /// Row by row.
    fn plainly(bounds: &[u32], entries: &[u16], row: usize) -> bool {
        bounds.first() == Some(&0)
            && bounds.last().is_some_and(|end| *end as usize == entries.len())
            && bounds.windows(2).all(|pair| {
                entries.get(pair[0] as usize..pair[1] as usize).is_some_and(|columns| {
                    columns.is_sorted_by(|a, b| a < b)
                        && columns.last().is_none_or(|last| usize::from(*last) < row)
                })
            })
    }

    /// Overlays with rows of any number of entries, one thing wrong in most of them.
    #[test]
    fn agrees_with_a_loop_over_rows() {
        let (mut rng, mut right, mut wrong) = (Rng::new(1), 0, 0);
        // Miri takes seconds for what takes a millisecond.
        let (cases, longest, most) = if cfg!(miri) { (40, 30, 8) } else { (4000, 300, 40) };
        for case in 0..cases {
            let (row, rows) = (1 + rng.below(longest), rng.below(most));
            let density = 1 + rng.below(60);
            let (mut bounds, mut entries) = (Vec::from([0u32]), Vec::new());
            for _ in 0..rows {
                entries.extend((0..row as u16).filter(|_| rng.below(60) < density));
                bounds.push(entries.len() as u32);
            }
            let (bound, entry, entry_count) =
                (rng.below(bounds.len()), rng.below(entries.len().max(1)), entries.len());
            match (case % 5, entries.get_mut(entry), bounds.get_mut(bound)) {
                (1, Some(entry), _) => *entry = rng.below(row + 2) as u16,
                (2, _, Some(bound)) => *bound = rng.below(entry_count + 3) as u32,
                (3, Some(entry), _) => *entry = row as u16,
                (4, _, Some(bound)) => *bound = bound.wrapping_sub(1),
                _ => {}
            }
            let expected = plainly(&bounds, &entries, row);
            let values: Vec<i16> = entries.iter().map(|_| 1).collect();
            let sparse = Sparse { indptr: &bounds, indices: &entries, values: SparseValues::I16(&values) };
            assert_eq!(super::ascends(&sparse, row), expected, "{bounds:?} {entries:?} {row}");
            if expected { right += 1 } else { wrong += 1 }
        }
        assert!(right > cases / 8 && wrong > cases / 8, "{right} right, {wrong} wrong");
    }
}
