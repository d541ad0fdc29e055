//! Constant tensors on the host.

use std::sync::Arc;

use ingraft_tensor::DType;

/// A constant: element type, extents and little-endian row-major data. Cloning shares the data.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Arc<[u8]>,
}

impl core::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The number of elements of `shape`, or `None` where there are more than a plan can hold: 2³¹−1.
///
/// An extent of zero does not hide large ones beside it, so that the product of any extents of an accepted shape fits.
pub fn elements(shape: &[usize]) -> Option<usize> {
    let fits =
        |product: usize, &extent: &usize| product.checked_mul(extent.max(1)).filter(|&n| n <= ELEMENTS_MAX);
    let product = shape.iter().try_fold(1, fits)?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// The most elements a value may have.
pub const ELEMENTS_MAX: usize = i32::MAX as usize;

impl Tensor {
    /// A tensor over little-endian `data`, or `None` where the length does not fit the shape.
    pub fn new(dtype: DType, shape: Vec<usize>, data: impl Into<Arc<[u8]>>) -> Option<Self> {
        let data = data.into();
        let bytes = elements(&shape)?.checked_mul(dtype.size())?;
        (bytes == data.len()).then_some(Self { dtype, shape, data })
    }

    /// A tensor of floats, or `None` where the length does not fit the shape.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Option<Self> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::new(DType::F32, shape.to_vec(), data)
    }

    /// A tensor of integers stored as `dtype`, or `None` where the length does not fit, a value does not, or `dtype`
    /// is a float. Every nonzero value is true.
    pub fn from_i64(dtype: DType, shape: &[usize], values: &[i64]) -> Option<Self> {
        let mut data = Vec::with_capacity(values.len() * dtype.size());
        for &v in values {
            match dtype {
                DType::I64 => data.extend(v.to_le_bytes()),
                DType::I32 => data.extend(i32::try_from(v).ok()?.to_le_bytes()),
                DType::I16 => data.extend(i16::try_from(v).ok()?.to_le_bytes()),
                DType::I8 => data.extend(i8::try_from(v).ok()?.to_le_bytes()),
                DType::U8 => data.push(u8::try_from(v).ok()?),
                DType::Bool => data.push((v != 0) as u8),
                _ => return None,
            }
        }
        Self::new(dtype, shape.to_vec(), data)
    }

    /// A scalar float.
    pub fn scalar_f32(value: f32) -> Self {
        Self { dtype: DType::F32, shape: Vec::new(), data: value.to_le_bytes().to_vec().into() }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The data, little-endian and row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The same data under another shape, or `None` where the element counts differ.
    pub fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        (elements(&shape)? == self.elements()).then(|| Self { shape, ..self.clone() })
    }

    /// The elements as floats; integers convert as ONNX `Cast` does, half floats exactly.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.chunks::<4>().map(f32::from_le_bytes).collect(),
            DType::F16 => self.chunks::<2>().map(|b| f16_to_f32(u16::from_le_bytes(b))).collect(),
            _ => self.to_i64().iter().map(|&v| v as f32).collect(),
        }
    }

    /// The elements as integers; floats truncate toward zero and saturate, as ONNX `Cast` does within range.
    pub fn to_i64(&self) -> Vec<i64> {
        match self.dtype {
            DType::I64 => self.chunks::<8>().map(i64::from_le_bytes).collect(),
            DType::I32 => self.chunks::<4>().map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            DType::I16 => self.chunks::<2>().map(|b| i64::from(i16::from_le_bytes(b))).collect(),
            DType::I8 => self.data.iter().map(|&b| i64::from(b as i8)).collect(),
            DType::U8 => self.data.iter().map(|&b| i64::from(b)).collect(),
            DType::Bool => self.data.iter().map(|&b| i64::from(b != 0)).collect(),
            _ => self.to_f32().iter().map(|&v| v as i64).collect(),
        }
    }

    /// The only element as a float, or `None` where there is not exactly one.
    pub fn scalar(&self) -> Option<f32> {
        if self.elements() != 1 {
            return None;
        }
        self.to_f32().first().copied()
    }

    /// The only element, exact for every float and for integers up to 2⁵³, or `None` where there is not exactly one.
    pub fn scalar_f64(&self) -> Option<f64> {
        match self.dtype {
            DType::F32 | DType::F16 => self.scalar().map(f64::from),
            _ if self.elements() == 1 => self.to_i64().first().map(|&v| v as f64),
            _ => None,
        }
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.data.as_chunks::<N>().0.iter().copied()
    }
}

/// The value of the binary16 number with these bits.
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match (exponent, fraction) {
        (0, _) => (fraction as f32 * 5.960_464_5e-8).to_bits(),
        (0x1f, _) => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The bits of the binary16 number nearest to `value` (ties to even, overflow to infinity).
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    // Below the smallest normal number, adding 0.5 aligns the last fraction bit with 2⁻²⁴ and lets the FPU round.
    if magnitude < 0x3880_0000 {
        let aligned = f32::from_bits(magnitude) + 0.5;
        return sign | (aligned.to_bits() - 0x3f00_0000) as u16;
    }
    let half_minus_one = 0xfff + (magnitude >> 13 & 1);
    sign | ((magnitude - 0x3800_0000 + half_minus_one) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_round_trip() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if value.is_nan() {
                assert!(f16_to_f32(f32_to_f16(value)).is_nan());
            } else {
                assert_eq!(f32_to_f16(value), bits, "{value}");
            }
        }
        let cases = [(65504.0, 0x7bff), (65519.9, 0x7bff), (65520.0, 0x7c00), (1e-8, 0), (2.980_232_5e-8, 1)];
        for (value, bits) in cases {
            assert_eq!(f32_to_f16(value), bits, "{value}");
        }
    }

    #[test]
    fn lengths_must_fit() {
        assert!(Tensor::new(DType::F32, vec![2], vec![0; 7]).is_none());
        assert!(Tensor::new(DType::I8, vec![usize::MAX, 2], vec![0; 7]).is_none());
        assert!(Tensor::new(DType::I8, vec![0, usize::MAX], vec![]).is_none());
        assert_eq!(Tensor::from_f32(&[2], &[1.0, -2.5]).unwrap().to_i64(), [1, -2]);
        assert!(Tensor::from_i64(DType::I8, &[1], &[128]).is_none());
    }
}
