//! Constant weight codes and their zero points.

use ingraft_tensor::DType;

use crate::graph::{Graph, Tensor, ValueId};

/// Weights minus zero points in plan order, `[out, kh, kw, in]`: exact, up to nine bits.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    values: Vec<i16>,
    shape: [usize; 4],
}

impl Filters {
    /// The filters of a convolution, stored `[out, in, kernel…]` with one or two spatial dimensions.
    pub(super) fn of_convolution(graph: &Graph, weight: ValueId, zero: Option<ValueId>) -> Option<Self> {
        let konst = graph.konst(weight)?;
        let (out, inputs, [kh, kw]) = match *konst.shape() {
            [out, inputs, kw] => (out, inputs, [1, kw]),
            [out, inputs, kh, kw] => (out, inputs, [kh, kw]),
            _ => return None,
        };
        let (taps, shape) = (kh * kw, [out, kh, kw, inputs]);
        let order = move |o: usize, tap: usize, i: usize| (o * inputs + i) * taps + tap;
        Self::gather(konst, constant(graph, zero)?, shape, order)
    }

    /// The columns of a matrix stored `[in, out]`.
    pub(super) fn of_matrix(graph: &Graph, weight: ValueId, zero: Option<ValueId>) -> Option<Self> {
        let konst = graph.konst(weight)?;
        let [inputs, out] = *konst.shape() else { return None };
        Self::gather(konst, constant(graph, zero)?, [out, 1, 1, inputs], move |o, _, i| i * out + o)
    }

    fn gather(
        konst: &Tensor,
        zero: Option<&Tensor>,
        shape: [usize; 4],
        order: impl Fn(usize, usize, usize) -> usize,
    ) -> Option<Self> {
        let [out, kh, kw, inputs] = shape;
        let codes = matches!(konst.dtype(), DType::I8 | DType::U8).then(|| konst.to_i64())?;
        let zeros = zero.map_or(vec![0], Tensor::to_i64);
        (zeros.len() == 1 || zeros.len() == out).then_some(())?;
        let mut values = Vec::with_capacity(codes.len());
        for o in 0..out {
            let zero = if zeros.len() == 1 { zeros[0] } else { zeros[o] };
            for tap in 0..kh * kw {
                values.extend((0..inputs).map(|i| (codes[order(o, tap, i)] - zero) as i16));
            }
        }
        Some(Self { values, shape })
    }

    /// Output channels.
    pub(super) fn out(&self) -> usize {
        self.shape[0]
    }

    /// `[out, kh, kw, in]`.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The weights as int8 codes, where they fit.
    pub(super) fn codes(&self) -> Option<Vec<i8>> {
        self.values.iter().map(|v| i8::try_from(*v).ok()).collect()
    }

    /// int8 codes that add up to the weights: as few as need be, at most three.
    pub(super) fn parts(&self) -> Vec<Vec<i8>> {
        let mut rest = self.values.clone();
        let mut parts = Vec::new();
        while parts.is_empty() || rest.iter().any(|v| *v != 0) {
            let part: Vec<i8> = rest.iter().map(|v| (*v).clamp(-128, 127) as i8).collect();
            rest.iter_mut().zip(&part).for_each(|(v, p)| *v -= i16::from(*p));
            parts.push(part);
        }
        parts
    }

    /// The sum of `codes` over each output channel.
    pub(super) fn sums(&self, codes: &[i8]) -> Vec<i32> {
        let row = (self.shape[1] * self.shape[2] * self.shape[3]).max(1);
        let mut sums: Vec<i32> =
            codes.chunks(row).map(|row| row.iter().map(|c| i32::from(*c)).sum()).collect();
        sums.resize(self.out(), 0);
        sums
    }
}

/// The constant behind an operand that may be absent; `None` where it is there but not constant.
fn constant(graph: &Graph, value: Option<ValueId>) -> Option<Option<&Tensor>> {
    value.map_or(Some(None), |value| graph.konst(value).map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_bits_split_into_codes_that_add_up() {
        let filters = Filters { values: vec![-255, -128, 0, 127, 200, 255], shape: [2, 1, 1, 3] };
        assert!(filters.codes().is_none());
        let parts = filters.parts();
        assert!(parts.len() <= 3);
        for (i, value) in filters.values.iter().enumerate() {
            assert_eq!(parts.iter().map(|p| i16::from(p[i])).sum::<i16>(), *value);
        }
        assert_eq!(filters.sums(&[1, 2, 3, -4, -5, -6]), [6, -15]);
    }
}
