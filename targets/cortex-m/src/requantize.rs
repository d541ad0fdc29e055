//! From pre-activation values in output steps to codes.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_tensor::ROUND_MAGIC;
use ingraft_tensor::arrays::{arrays, arrays_mut};

use crate::asm_float::{round, saturated, saturated_two, scale, scale_two};

/// Sums and what they are multiplied by.
pub(crate) type Scaled<'a> = (&'a [i32], &'a [f32]);

/// What turns values into codes.
///
/// # Numerics
/// Rounding is monotonic, so clamping codes between the rounded bounds gives what rounding the
/// clamped value does. The saturating steps on the way only meet values that the clamp replaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Smallest value.
    pub(crate) lo: f32,
    /// Largest value.
    pub(crate) hi: f32,
    /// Code of real zero.
    pub(crate) zero_point: i32,
    /// Smallest and largest code.
    codes: [i32; 2],
}

impl Limits {
    /// The limits of a step that passed [`QConvAttrs::fits_codes`].
    #[inline]
    pub(crate) fn new(attrs: &QConvAttrs) -> Self {
        let code = |v: f32| ((v + ROUND_MAGIC) - ROUND_MAGIC) as i32 + attrs.out_zero_point;
        let QConvAttrs { lo, hi, out_zero_point: zero_point, .. } = *attrs;
        Self { lo, hi, zero_point, codes: [code(lo), code(hi)] }
    }

    /// Whether the codes are all of int8: saturating is then the whole clamp.
    pub(crate) fn are_full(&self) -> bool {
        self.codes == [-128, 127]
    }

    /// Smallest and largest code.
    #[cfg_attr(not(helium), allow(dead_code, reason = "read by instructions"))]
    pub(crate) fn codes_between(&self) -> [i32; 2] {
        self.codes
    }

    /// The code of a rounded value, where the codes are all of int8.
    #[inline(always)]
    fn saturated(&self, rounded: i32) -> i8 {
        rounded.saturating_add(self.zero_point).clamp(-128, 127) as i8
    }

    /// The code of a rounded value.
    #[inline(always)]
    fn clamped(&self, rounded: i32) -> i8 {
        let [lo, hi] = self.codes;
        rounded.saturating_add(self.zero_point).max(lo).min(hi) as i8
    }

    /// The code of `value`.
    #[inline(always)]
    pub(crate) fn code(&self, value: f32) -> i8 {
        self.clamped(round(value))
    }

    /// The codes of `sums` times `multiplier`, or of the sum of two such products.
    #[inline(always)]
    pub(crate) fn codes(&self, terms: Scaled<'_>, low: Option<Scaled<'_>>, out: &mut [i8]) {
        match (low, self.are_full()) {
            (None, true) => {
                let done = saturated(terms.0, terms.1, self.zero_point, out);
                if done == out.len() {
                    return;
                }
                let (rest, out) = (behind(terms, done), out.get_mut(done..).unwrap_or(&mut []));
                each(rest, rest, out, |[t, _]| scale(t.0, t.1), |v| self.saturated(v));
            }
            (None, false) => each(terms, terms, out, |[t, _]| scale(t.0, t.1), |v| self.clamped(v)),
            (Some(low), true) => {
                let done = saturated_two([terms, low], self.zero_point, out);
                if done == out.len() {
                    return;
                }
                let out = out.get_mut(done..).unwrap_or(&mut []);
                each(behind(terms, done), behind(low, done), out, scale_two, |v| self.saturated(v));
            }
            (Some(low), false) => each(terms, low, out, scale_two, |v| self.clamped(v)),
        }
    }
}

/// What is left of `terms` after `done` of them.
#[inline(always)]
fn behind(terms: Scaled<'_>, done: usize) -> Scaled<'_> {
    (terms.0.get(done..).unwrap_or(&[]), terms.1.get(done..).unwrap_or(&[]))
}

/// Rounds four values at a time; the last ones among zeros.
#[inline(always)]
fn each(
    first: Scaled<'_>,
    second: Scaled<'_>,
    out: &mut [i8],
    round: impl Fn([(&[i32; 4], &[f32; 4]); 2]) -> [i32; 4],
    code: impl Fn(i32) -> i8,
) {
    let (quads, rest) = arrays_mut::<_, 4>(out);
    let [(a, a_rest), (b, b_rest)] = [first.0, second.0].map(arrays::<_, 4>);
    let [(m, m_rest), (n, n_rest)] = [first.1, second.1].map(arrays::<_, 4>);
    for (out, (first, second)) in quads.iter_mut().zip(a.iter().zip(m).zip(b.iter().zip(n))) {
        *out = round([first, second]).map(&code);
    }
    if rest.is_empty() {
        return;
    }
    // Scales may go on behind the last output, sums too.
    let next =
        |at: usize, whole: &[[i32; 4]], rest: &[i32]| whole.get(at).copied().unwrap_or_else(|| filled(rest));
    let next_scale =
        |at: usize, whole: &[[f32; 4]], rest: &[f32]| whole.get(at).copied().unwrap_or_else(|| filled(rest));
    let at = quads.len();
    let (a, b) = (next(at, a, a_rest), next(at, b, b_rest));
    let (m, n) = (next_scale(at, m, m_rest), next_scale(at, n, n_rest));
    let codes = round([(&a, &m), (&b, &n)]).map(code);
    rest.iter_mut().zip(codes).for_each(|(o, code)| *o = code);
}

fn filled<T: Copy + Default>(values: &[T]) -> [T; 4] {
    let mut whole = [T::default(); 4];
    whole.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
    whole
}
