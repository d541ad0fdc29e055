//! Conversion between element types.

mod half;
mod recode;

use ingraft_tensor::{DType, View, ViewMut, bytes};

use crate::{Call, Kernel, KernelError, OpCode, Step, check};

pub use half::{f16_to_f32, f32_to_f16};
pub use recode::KERNEL as KERNEL_RECODE;

/// Conversion between any two element types. No attributes.
///
/// # Shapes
/// Input and output with as many elements.
///
/// # Numerics
/// Float to integer truncates toward zero and saturates, NaN becomes 0; integer
/// to a narrower integer keeps the low bits; to float rounds half to even; to
/// bool is `x ≠ 0`. uint8 operands hold plain unsigned values.
pub const KERNEL: Kernel = Kernel::new("cast_x_x__scalar", OpCode::Cast, None, None, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check::same_elements(step, 0)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let input = call.input(0)?;
    let out = call.output(0)?;
    let mut start = 0usize;
    while start < input.shape().elements() {
        let chunk = Chunk::load(&input, start).ok_or(error)?;
        chunk.store(out, start).ok_or(error)?;
        start = start.wrapping_add(CHUNK);
    }
    Ok(())
}

/// A few elements in the wider of the two kinds of number.
enum Chunk {
    Float([f32; CHUNK]),
    Integer([i64; CHUNK]),
}

impl Chunk {
    /// Up to [`CHUNK`] elements from `start`; `None` when misaligned.
    fn load(view: &View<'_>, start: usize) -> Option<Self> {
        let bytes = view.bytes();
        Some(match view.dtype() {
            DType::F32 => Self::Float(collect::<f32, _>(bytes, start, |x| x)?),
            DType::F16 => Self::Float(collect::<i16, _>(bytes, start, |x| f16_to_f32(x as u16))?),
            DType::I8 => Self::Integer(collect::<i8, _>(bytes, start, i64::from)?),
            DType::U8 => Self::Integer(collect::<u8, _>(bytes, start, i64::from)?),
            DType::Bool => Self::Integer(collect::<u8, _>(bytes, start, |x| i64::from(x != 0))?),
            DType::I16 => Self::Integer(collect::<i16, _>(bytes, start, i64::from)?),
            DType::I32 => Self::Integer(collect::<i32, _>(bytes, start, i64::from)?),
            DType::I64 => Self::Integer(collect::<i64, _>(bytes, start, |x| x)?),
            _ => return None,
        })
    }

    /// Writes the elements that `view` holds from `start`; `None` when misaligned.
    fn store(&self, view: &mut ViewMut<'_>, start: usize) -> Option<()> {
        let dtype = view.dtype();
        let bytes = view.bytes();
        match self {
            Self::Float(values) => match dtype {
                DType::F32 => spread(values, bytes, start, |x: f32| x),
                DType::F16 => spread(values, bytes, start, |x| f32_to_f16(x) as i16),
                DType::I8 => spread(values, bytes, start, |x| x as i8),
                DType::U8 => spread(values, bytes, start, |x| x as u8),
                DType::Bool => spread(values, bytes, start, |x| u8::from(x != 0.0)),
                DType::I16 => spread(values, bytes, start, |x| x as i16),
                DType::I32 => spread(values, bytes, start, |x| x as i32),
                DType::I64 => spread(values, bytes, start, |x| x as i64),
                _ => None,
            },
            Self::Integer(values) => match dtype {
                DType::F32 => spread(values, bytes, start, |x| x as f32),
                DType::F16 => spread(values, bytes, start, |x| f32_to_f16(x as f32) as i16),
                DType::I8 => spread(values, bytes, start, |x| x as i8),
                DType::U8 => spread(values, bytes, start, |x| x as u8),
                DType::Bool => spread(values, bytes, start, |x| u8::from(x != 0)),
                DType::I16 => spread(values, bytes, start, |x| x as i16),
                DType::I32 => spread(values, bytes, start, |x| x as i32),
                DType::I64 => spread(values, bytes, start, |x: i64| x),
                _ => None,
            },
        }
    }
}

fn collect<T: bytes::Element, N: Copy + Default>(
    bytes: &[u8],
    start: usize,
    convert: impl Fn(T) -> N,
) -> Option<[N; CHUNK]> {
    let mut values = [N::default(); CHUNK];
    for (value, &x) in values.iter_mut().zip(bytes::cast::<T>(bytes)?.get(start..)?) {
        *value = convert(x);
    }
    Some(values)
}

fn spread<T: bytes::Element, N: Copy>(
    values: &[N; CHUNK],
    bytes: &mut [u8],
    start: usize,
    convert: impl Fn(N) -> T,
) -> Option<()> {
    for (y, &value) in bytes::cast_mut::<T>(bytes)?.get_mut(start..)?.iter_mut().zip(values) {
        *y = convert(value);
    }
    Some(())
}

/// Elements converted at a time: what fits on a small stack.
const CHUNK: usize = 32;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::attrs::FillAttrs;
    use crate::test_case::{Random, Tensor, run};

    fn cast(input: &Tensor, dtype: DType) -> Tensor {
        let mut out = Tensor::zeros(dtype, input.shape.dims());
        run(&KERNEL, &FillAttrs { value: [0; 2] }, &[input], &mut [&mut out]).unwrap();
        out
    }

    #[test]
    fn floats_truncate_and_saturate() {
        let x = [1.9, -1.9, 0.4, -0.4, 300.0, -300.0, 1e10, -1e10, 1e20, f32::NAN, f32::INFINITY];
        let input = Tensor::new(&[11], &x);
        assert_eq!(cast(&input, DType::I8).values::<i8>(), x.map(|v| v as i8));
        assert_eq!(cast(&input, DType::U8).values::<u8>(), x.map(|v| v as u8));
        assert_eq!(cast(&input, DType::I16).values::<i16>(), x.map(|v| v as i16));
        assert_eq!(cast(&input, DType::I32).values::<i32>(), x.map(|v| v as i32));
        assert_eq!(cast(&input, DType::I64).values::<i64>(), x.map(|v| v as i64));
        assert_eq!(cast(&input, DType::Bool).bytes(), [1; 11]);
        assert_eq!(cast(&Tensor::new(&[2], &[0.0, -0.0]), DType::Bool).bytes(), [0, 0]);
    }

    #[test]
    fn integers_keep_their_low_bits() {
        let mut random = Random(3);
        let x: std::vec::Vec<i64> =
            (0..200).map(|_| (random.word() as i64) << 32 | random.word() as i64).collect();
        let input = Tensor::new(&[200], &x);
        let low =
            |bits: u32| x.iter().map(|&v| v << (64 - bits) >> (64 - bits)).collect::<std::vec::Vec<_>>();
        for (dtype, bits) in [(DType::I8, 8), (DType::I16, 16), (DType::I32, 32)] {
            assert_eq!(cast(&cast(&input, dtype), DType::I64).values::<i64>(), low(bits), "{dtype}");
        }
        let unsigned = cast(&cast(&input, DType::U8), DType::I64).values::<i64>();
        assert!(unsigned.iter().zip(&x).all(|(&y, &x)| y == x & 255));
        let floats = cast(&input, DType::F32).values::<f32>();
        assert!(floats.iter().zip(&x).all(|(&y, &x)| y == x as f32));
    }

    #[test]
    fn every_half_survives_the_round_trip() {
        let halves: std::vec::Vec<i16> = (0..=u16::MAX).map(|bits| bits as i16).collect();
        let input = Tensor::new(&[256, 256], &halves).cast(DType::F16);
        let wide = cast(&input, DType::F32);
        let back = cast(&wide, DType::F16);
        for ((bits, wide), back) in (0..=u16::MAX).zip(wide.values::<f32>()).zip(back.bytes().chunks(2)) {
            let back = u16::from_le_bytes([back[0], back[1]]);
            assert!(back == bits || wide.is_nan() && f16_to_f32(back).is_nan(), "{bits:#x}");
        }
    }
}
