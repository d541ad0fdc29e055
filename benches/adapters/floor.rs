//! What factors must add, by counting.

use ingraft::kernel::{SiteKind, Sites};
use ingraft::plan::PlanView;

use crate::made::pixels;

/// The multiply-accumulates that factors of `rank` add, as a part of all dense and depthwise ones.
pub(crate) fn multiplications(plan: &PlanView<'_>, rank: usize) -> f64 {
    share(plan, |row, out| (row * out) as f64, |row, out| (rank * (row + out)) as f64, |taps| taps as f64)
}

/// The same in vector operations of 16 lanes that multiply or belong to an epilogue, loads and moves not counted.
///
/// A layer takes `⌈K/4⌉` products per vector of outputs and five operations to requantize it. Factors take `⌈K/16⌉` products
/// for four rank rows, or `⌈K/8⌉` for every eight, 16 operations to sum and requantize those of four pixels, and per vector
/// of outputs `⌈r/2⌉` products, a conversion, a multiplication and an addition. A depthwise window takes a product and two shuffles for
/// every four taps.
pub(crate) fn operations(plan: &PlanView<'_>, rank: usize) -> f64 {
    let up = |value: usize, by: usize| value.div_ceil(by) as f64;
    share(
        plan,
        |row, out| up(out, 16) * (up(row, 4) + 5.0),
        |row, out| {
            let down = if rank > 4 { up(rank, 8) * (up(row, 8) + 4.0) } else { up(row, 16) + 4.0 };
            down + up(out, 16) * (up(rank, 2) + 3.0)
        },
        |taps| (3.0 * up(taps, 4) + 6.0) / 16.0,
    )
}

/// Per pixel: `dense(row, out)` of a dense layer, `added(row, out)` of factors on a 1×1 one, `depthwise(taps)` per channel.
fn share(
    plan: &PlanView<'_>,
    dense: impl Fn(usize, usize) -> f64,
    added: impl Fn(usize, usize) -> f64,
    depthwise: impl Fn(usize) -> f64,
) -> f64 {
    let (mut all, mut terms) = (0.0, 0.0);
    for index in 0..plan.site_count() {
        let Some(site) = plan.site(index) else { continue };
        let pixels = pixels(plan, index);
        all += pixels as f64
            * match site.kind {
                SiteKind::Depthwise => site.out as f64 * depthwise(site.row()),
                _ => dense(site.row(), site.out),
            };
        if site.kind != SiteKind::Depthwise && site.kernel == [1, 1] && pixels > 1 {
            terms += pixels as f64 * added(site.row(), site.out);
        }
    }
    terms / all
}
