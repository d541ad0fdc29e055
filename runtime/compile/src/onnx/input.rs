//! The types of the graph's inputs.

use std::collections::BTreeSet;

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

/// Refuses an extent for a dimension that none of the inputs has: a wrong name would fix nothing, unseen.
///
/// # Errors
/// [`ImportError::SuperfluousDim`].
pub(super) fn check_dims<'a>(
    inputs: impl Iterator<Item = &'a ValueInfoProto>,
    options: &ImportOptions,
) -> Result<(), ImportError> {
    let types = inputs.filter_map(|info| info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref());
    let named: BTreeSet<&str> = types.flat_map(|shape| &shape.dim).filter_map(named).collect();
    match options.dims.keys().find(|dim| !named.contains(dim.as_str())) {
        Some(dim) => Err(ImportError::SuperfluousDim {
            dim: dim.clone(),
            named: named.into_iter().map(str::to_owned).collect(),
        }),
        None => Ok(()),
    }
}

/// Refuses a shape for what is none of the file's inputs, for the same reason.
///
/// # Errors
/// [`ImportError::SuperfluousShape`].
pub(super) fn check_shapes(inputs: &[ValueInfoProto], options: &ImportOptions) -> Result<(), ImportError> {
    let is_input = |name: &String| inputs.iter().any(|info| info.name == *name);
    match options.shapes.keys().chain(options.operands.keys()).find(|name| !is_input(name)) {
        Some(name) => Err(ImportError::SuperfluousShape {
            input: name.clone(),
            inputs: inputs.iter().map(|info| info.name.clone()).collect(),
        }),
        None => Ok(()),
    }
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
    named(dim).unwrap_or("?")
}

/// The name of a dimension that has one.
fn named(dim: &DimensionProto) -> Option<&str> {
    match &dim.value {
        Some(Value::DimParam(name)) if !name.is_empty() => Some(name),
        _ => None,
    }
}
