//! Constants of the file.

use ingraft_tensor::DType;

use super::proto::{TensorProto, data_type};
use crate::error::TensorFault;
use crate::graph::{Tensor, tensor};

/// The element type an ONNX code is held in, for types that are held as they are.
pub(super) fn dtype(code: i32) -> Option<DType> {
    Some(match code {
        data_type::FLOAT => DType::F32,
        data_type::UINT8 => DType::U8,
        data_type::INT8 => DType::I8,
        data_type::INT16 => DType::I16,
        data_type::INT32 => DType::I32,
        data_type::INT64 => DType::I64,
        data_type::BOOL => DType::Bool,
        data_type::FLOAT16 => DType::F16,
        _ => return None,
    })
}

/// Reads a constant in its stored type. Types a plan does not hold become the nearest that holds their values: double
/// becomes single, unsigned integers the next larger signed type.
///
/// # Errors
/// A [`TensorFault`] where it is stored elsewhere, malformed or of another type.
pub(super) fn read(proto: &TensorProto) -> Result<Tensor, TensorFault> {
    if proto.data_location == EXTERNAL || !proto.external_data.is_empty() {
        return Err(TensorFault::ExternalData);
    }
    let extent = |&v: &i64| usize::try_from(v).ok();
    let shape: Option<Vec<usize>> = proto.dims.iter().map(extent).collect();
    let shape =
        shape.filter(|s| tensor::elements(s).is_some()).ok_or(TensorFault::Dims(proto.dims.clone()))?;
    let count = tensor::elements(&shape).unwrap_or(0);
    let (dtype, data) = match dtype(proto.data_type) {
        Some(dtype) => (dtype, stored(proto, dtype, count)?),
        None => converted(proto, count)?,
    };
    let found = data.len();
    Tensor::new(dtype, shape, data).ok_or(TensorFault::Length { expected: count, found })
}

/// Little-endian data of a type that is held as it is.
fn stored(proto: &TensorProto, dtype: DType, count: usize) -> Result<Vec<u8>, TensorFault> {
    let raw = &proto.raw_data;
    if !raw.is_empty() {
        check_length(raw.len(), count.saturating_mul(dtype.size()))?;
        return Ok(raw.clone());
    }
    match dtype {
        DType::F32 => typed(&proto.float_data, count, |v| Some(v.to_le_bytes())),
        DType::I64 => typed(&proto.int64_data, count, |v| Some(v.to_le_bytes())),
        DType::I32 => typed(&proto.int32_data, count, |v| Some(v.to_le_bytes())),
        DType::I16 => typed(&proto.int32_data, count, |&v| Some(i16::try_from(v).ok()?.to_le_bytes())),
        DType::I8 => typed(&proto.int32_data, count, |&v| Some(i8::try_from(v).ok()?.to_le_bytes())),
        DType::U8 => typed(&proto.int32_data, count, |&v| Some(u8::try_from(v).ok()?.to_le_bytes())),
        DType::F16 => typed(&proto.int32_data, count, |&v| Some(u16::try_from(v).ok()?.to_le_bytes())),
        DType::Bool => typed(&proto.int32_data, count, |&v| Some([u8::from(v != 0)])),
        _ => Err(TensorFault::DType(proto.data_type)),
    }
}

/// Data of a type that a plan does not hold, and the type it becomes.
fn converted(proto: &TensorProto, count: usize) -> Result<(DType, Vec<u8>), TensorFault> {
    let raw = &proto.raw_data;
    Ok(match proto.data_type {
        data_type::DOUBLE => {
            let doubles = from_raw(raw, &proto.double_data, count, f64::from_le_bytes)?;
            (DType::F32, typed(&doubles, count, |&v| Some((v as f32).to_le_bytes()))?)
        }
        data_type::UINT16 => {
            let small: Option<Vec<u16>> = proto.int32_data.iter().map(|&v| u16::try_from(v).ok()).collect();
            let values = from_raw(raw, &small.ok_or(TensorFault::Range)?, count, u16::from_le_bytes)?;
            (DType::I32, typed(&values, count, |&v| Some(i32::from(v).to_le_bytes()))?)
        }
        data_type::UINT32 => {
            let small: Option<Vec<u32>> = proto.uint64_data.iter().map(|&v| u32::try_from(v).ok()).collect();
            let values = from_raw(raw, &small.ok_or(TensorFault::Range)?, count, u32::from_le_bytes)?;
            (DType::I64, typed(&values, count, |&v| Some(i64::from(v).to_le_bytes()))?)
        }
        data_type::UINT64 => {
            let values = from_raw(raw, &proto.uint64_data, count, u64::from_le_bytes)?;
            (DType::I64, typed(&values, count, |&v| Some(i64::try_from(v).ok()?.to_le_bytes()))?)
        }
        code => return Err(TensorFault::DType(code)),
    })
}

/// The elements in the raw field where it is used, else in the typed one.
fn from_raw<T: Clone, const N: usize>(
    raw: &[u8],
    values: &[T],
    count: usize,
    decode: fn([u8; N]) -> T,
) -> Result<Vec<T>, TensorFault> {
    if raw.is_empty() {
        return Ok(values.to_vec());
    }
    check_length(raw.len(), count.saturating_mul(N))?;
    Ok(raw.as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)).collect())
}

fn typed<T, const N: usize>(
    values: &[T],
    count: usize,
    encode: impl Fn(&T) -> Option<[u8; N]>,
) -> Result<Vec<u8>, TensorFault> {
    check_length(values.len(), count)?;
    let mut data = Vec::with_capacity(count * N);
    for value in values {
        data.extend(encode(value).ok_or(TensorFault::Range)?);
    }
    Ok(data)
}

fn check_length(found: usize, expected: usize) -> Result<(), TensorFault> {
    if found == expected { Ok(()) } else { Err(TensorFault::Length { expected, found }) }
}

/// [`TensorProto::data_location`] of data in another file.
const EXTERNAL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn reads_raw_and_typed_fields() {
        let typed = TensorProto { float_data: vec![1.0, -2.0], ..proto(data_type::FLOAT, &[2]) };
        let raw =
            TensorProto { raw_data: [0, 0, 128, 63, 0, 0, 0, 192].to_vec(), ..proto(data_type::FLOAT, &[2]) };
        assert_eq!(read(&typed).unwrap(), read(&raw).unwrap());
        let codes = TensorProto { int32_data: vec![-128, 127], ..proto(data_type::INT8, &[2]) };
        assert_eq!(read(&codes).unwrap().to_i64(), [-128, 127]);
        let half = TensorProto { int32_data: vec![0x3c00], ..proto(data_type::FLOAT16, &[]) };
        assert_eq!(read(&half).unwrap().scalar(), Some(1.0));
    }

    #[test]
    fn converts_what_a_plan_cannot_hold() {
        let double = TensorProto { double_data: vec![0.1], ..proto(data_type::DOUBLE, &[1]) };
        assert_eq!(read(&double).unwrap().to_f32(), [0.1]);
        let unsigned = TensorProto { raw_data: vec![255; 4], ..proto(data_type::UINT32, &[1]) };
        assert_eq!(read(&unsigned).unwrap().to_i64(), [i64::from(u32::MAX)]);
    }

    #[test]
    fn refuses_by_name() {
        let cases = [
            (TensorProto { data_location: 1, ..proto(data_type::FLOAT, &[1]) }, TensorFault::ExternalData),
            (proto(data_type::FLOAT, &[-1]), TensorFault::Dims(vec![-1])),
            (proto(data_type::FLOAT, &[1 << 40, 1 << 40]), TensorFault::Dims(vec![1 << 40, 1 << 40])),
            (proto(data_type::FLOAT, &[2]), TensorFault::Length { expected: 2, found: 0 }),
            (proto(22, &[0]), TensorFault::DType(22)),
            (TensorProto { int32_data: vec![300], ..proto(data_type::INT8, &[1]) }, TensorFault::Range),
            (
                TensorProto { raw_data: vec![0; 3], ..proto(data_type::FLOAT, &[1]) },
                TensorFault::Length { expected: 4, found: 3 },
            ),
        ];
        for (tensor, fault) in cases {
            assert_eq!(read(&tensor), Err(fault));
        }
    }
}
