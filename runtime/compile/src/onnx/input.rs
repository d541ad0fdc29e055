//! The types of the graph's inputs.

use ingraft_tensor::DType;

use super::ImportOptions;
use super::proto::dimension_proto::Value;
use super::proto::{DimensionProto, ValueInfoProto};
use super::tensor;
use crate::error::{ImportError, InputFault};

/// The element type and static shape of an input.
///
/// # Errors
/// [`ImportError::Input`] or [`ImportError::UnknownDim`].
pub(super) fn resolve(
    info: &ValueInfoProto,
    options: &ImportOptions,
) -> Result<(DType, Vec<usize>), ImportError> {
    let refused = |fault| ImportError::Input { input: info.name.clone(), fault };
    let ty =
        info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or(refused(InputFault::NotATensor))?;
    let dtype = tensor::dtype(ty.elem_type).ok_or(refused(InputFault::DType(ty.elem_type)))?;
    let given = options.shapes.get(&info.name);
    let Some(declared) = &ty.shape else {
        return given.cloned().map(|shape| (dtype, shape)).ok_or(refused(InputFault::NoShape));
    };
    if let Some(given) = given {
        let fits = |(dim, &extent): (&DimensionProto, &usize)| fixed(dim).is_none_or(|fixed| fixed == extent);
        if declared.dim.len() != given.len() || !declared.dim.iter().zip(given).all(fits) {
            return Err(refused(InputFault::Mismatch { given: given.clone() }));
        }
        return Ok((dtype, given.clone()));
    }
    let shape = declared.dim.iter().enumerate().map(|(axis, dim)| {
        let name = name(dim);
        let extent = fixed(dim).or_else(|| options.dims.get(name).copied());
        let (input, dim) = (info.name.clone(), name.to_owned());
        extent.ok_or(ImportError::UnknownDim { input, axis, dim })
    });
    Ok((dtype, shape.collect::<Result<_, _>>()?))
}

/// The extent of a dimension that the file fixes; some exporters write −1 for an open one.
fn fixed(dim: &DimensionProto) -> Option<usize> {
    match dim.value {
        Some(Value::DimValue(extent)) => usize::try_from(extent).ok(),
        _ => None,
    }
}

/// The name of an open dimension, `?` where it has none.
fn name(dim: &DimensionProto) -> &str {
    match &dim.value {
        Some(Value::DimParam(name)) if !name.is_empty() => name,
        _ => "?",
    }
}
