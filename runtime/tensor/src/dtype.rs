//! Element types.

/// The element type of a tensor. The discriminant is the code used in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary16, stored only.
    F16 = 1,
    /// Two's complement 8 bit: activations and weights of the integer path.
    I8 = 2,
    /// Unsigned 8 bit. Appears at model boundaries only; inside a plan it is stored as `I8` minus 128.
    U8 = 3,
    /// Two's complement 16 bit.
    I16 = 4,
    /// Two's complement 32 bit: accumulators and biases.
    I32 = 5,
    /// Two's complement 64 bit: token ids and shape operands.
    I64 = 6,
    /// One byte, zero or one.
    Bool = 7,
}

impl DType {
    /// The type with file code `code`, or `None`.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::I8,
            3 => Self::U8,
            4 => Self::I16,
            5 => Self::I32,
            6 => Self::I64,
            7 => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    /// The name users see, NumPy's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
        }
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 0..=u8::MAX {
            if let Some(dtype) = DType::from_code(code) {
                assert_eq!(dtype as u8, code);
            }
        }
        assert_eq!(DType::from_code(8), None);
    }
}
