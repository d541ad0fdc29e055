//! Reading a node's attributes.

use ingraft_tensor::DType;

use super::NodeReader;
use crate::error::Fault;
use crate::graph::Tensor;
use crate::onnx::proto::{AttributeProto, AttributeType, data_type};
use crate::onnx::tensor;

impl<'a> NodeReader<'a> {
    /// An integer attribute.
    pub(crate) fn optional_int(&mut self, name: &'static str) -> Result<Option<i64>, Fault> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|a| a.i))
    }

    /// An integer attribute with a default.
    pub(crate) fn int(&mut self, name: &'static str, default: i64) -> Result<i64, Fault> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    /// An integer attribute without a default.
    pub(crate) fn required_int(&mut self, name: &'static str) -> Result<i64, Fault> {
        self.optional_int(name)?.ok_or(Fault::MissingAttribute { attribute: name })
    }

    /// An integer attribute that means a truth value.
    pub(crate) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Fault> {
        match self.int(name, default.into())? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Attribute { attribute: name, reason: "must be 0 or 1" }),
        }
    }

    /// A float attribute; must be finite.
    pub(crate) fn optional_float(&mut self, name: &'static str) -> Result<Option<f32>, Fault> {
        let value = self.attribute(name, AttributeType::Float)?.map(|a| a.f);
        if value.is_some_and(|v| v.is_nan()) {
            return Err(Fault::Attribute { attribute: name, reason: "is not a number" });
        }
        Ok(value)
    }

    /// A float attribute with a default.
    pub(crate) fn float(&mut self, name: &'static str, default: f32) -> Result<f32, Fault> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    /// A list of floats.
    pub(crate) fn floats(&mut self, name: &'static str) -> Result<Option<Vec<f32>>, Fault> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| a.floats.clone()))
    }

    /// A list of integers.
    pub(crate) fn ints(&mut self, name: &'static str) -> Result<Option<Vec<i64>>, Fault> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    /// A string with a default.
    pub(crate) fn string(&mut self, name: &'static str, default: &'static str) -> Result<&'a str, Fault> {
        match self.attribute(name, AttributeType::String)? {
            Some(attribute) => text(name, &attribute.s),
            None => Ok(default),
        }
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, name: &'static str) -> Result<Option<Vec<&'a str>>, Fault> {
        let Some(attribute) = self.attribute(name, AttributeType::Strings)? else { return Ok(None) };
        attribute.strings.iter().map(|s| text(name, s)).collect::<Result<_, _>>().map(Some)
    }

    /// A tensor.
    pub(crate) fn tensor(&mut self, name: &'static str) -> Result<Option<Tensor>, Fault> {
        match self.attribute(name, AttributeType::Tensor)?.map(|a| &a.t) {
            Some(Some(proto)) => tensor::read(proto).map(Some).map_err(Fault::Tensor),
            Some(None) => Err(Fault::MissingAttribute { attribute: name }),
            None => Ok(None),
        }
    }

    /// An element type, where given and not left undefined. Double is held as single.
    pub(crate) fn optional_dtype(&mut self, name: &'static str) -> Result<Option<DType>, Fault> {
        let Some(code) = self.optional_int(name)?.filter(|&code| code != 0) else { return Ok(None) };
        let refused =
            Fault::Attribute { attribute: name, reason: "is an element type that is not supported" };
        let code = i32::try_from(code).map_err(|_| refused.clone())?;
        if code == data_type::DOUBLE {
            return Ok(Some(DType::F32));
        }
        tensor::dtype(code).map(Some).ok_or(refused)
    }

    /// An element type.
    pub(crate) fn dtype(&mut self, name: &'static str) -> Result<DType, Fault> {
        self.optional_dtype(name)?.ok_or(Fault::MissingAttribute { attribute: name })
    }

    fn attribute(
        &mut self,
        name: &'static str,
        kind: AttributeType,
    ) -> Result<Option<&'a AttributeProto>, Fault> {
        let Some(&attribute) = self.attributes.get(name) else { return Ok(None) };
        self.attributes_read.insert(name);
        if attribute.r#type == kind as i32 {
            Ok(Some(attribute))
        } else {
            Err(Fault::Attribute { attribute: name, reason: "has the wrong type" })
        }
    }
}

fn text<'a>(name: &'static str, bytes: &'a [u8]) -> Result<&'a str, Fault> {
    core::str::from_utf8(bytes).map_err(|_| Fault::Attribute { attribute: name, reason: "is not UTF-8" })
}
