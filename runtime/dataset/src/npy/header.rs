//! The header of a `.npy` file: a Python dictionary literal, of which exactly the
//! three keys NumPy writes are understood.

use ingraft_tensor::DType;

use super::ElementCode;
use crate::ArrayError;

/// What a header says.
pub(super) struct Header {
    pub(super) element: ElementCode,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

/// Splits a file into its header and the bytes of its elements.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), ArrayError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(ArrayError::NotNpy)?;
    let (&[major, minor], rest) = rest.split_first_chunk().ok_or(ArrayError::NotNpy)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(&length, rest)| (usize::from(u16::from_le_bytes(length)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(&length, rest)| (u32::from_le_bytes(length) as usize, rest)),
        _ => return Err(ArrayError::Version { major, minor }),
    }
    .ok_or(ArrayError::NotNpy)?;
    let (text, payload) = rest.split_at_checked(length).ok_or(ArrayError::Header { at: bytes.len() })?;
    let mut literal = Literal { text, at: 0 };
    let header = literal.dictionary()?;
    Ok((header, payload))
}

/// The header of an array in C order, padded so that the elements start at a multiple of 64.
pub(super) fn write(dtype: DType, shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let extents = if shape.len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({extents}), }}", descr(dtype));
    let fixed = MAGIC.len() + 2 + 2;
    let padded = (fixed + text.len() + 1).next_multiple_of(64) - fixed;
    text.extend(core::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    // A rank whose header passes 64 KiB cannot come from an element count that fits memory, save
    // for thousands of unit extents; version 2 holds those.
    let (version, length): (u8, Vec<u8>) = match u16::try_from(text.len()) {
        Ok(length) => (1, length.to_le_bytes().to_vec()),
        Err(_) => (2, (text.len() as u32).to_le_bytes().to_vec()),
    };
    [MAGIC, &[version, 0], &length, text.as_bytes()].concat()
}

fn descr(dtype: DType) -> &'static str {
    CODES
        .iter()
        .find(|(_, of, bytes)| *of == dtype && *bytes == dtype.size())
        .map_or("|u1", |(code, ..)| code)
}

fn element_code(descr: &str) -> Option<ElementCode> {
    let order = descr.chars().next()?;
    let (_, dtype, bytes) = *CODES.iter().find(|(code, ..)| code.get(1..) == descr.get(1..))?;
    let big_endian = match order {
        '<' => false,
        '>' => true,
        '|' if bytes == 1 => false,
        _ => return None,
    };
    Some(ElementCode { dtype, bytes, big_endian })
}

/// A reader of the few Python literals a header is made of.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

impl Literal<'_> {
    fn dictionary(&mut self) -> Result<Header, ArrayError> {
        let (mut element, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key.as_str() {
                "descr" if element.is_none() => {
                    let descr = self.string()?;
                    element = Some(element_code(&descr).ok_or(ArrayError::ElementType(descr))?);
                }
                "fortran_order" if fortran_order.is_none() => fortran_order = Some(self.boolean()?),
                "shape" if shape.is_none() => shape = Some(self.tuple()?),
                _ => return Err(self.error()),
            }
            if !self.accept(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        match (element, fortran_order, shape) {
            (Some(element), Some(fortran_order), Some(shape)) => Ok(Header { element, fortran_order, shape }),
            _ => Err(self.error()),
        }
    }

    fn string(&mut self) -> Result<String, ArrayError> {
        let quote = if self.accept(b'"') {
            b'"'
        } else {
            self.expect(b'\'')?;
            b'\''
        };
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&c| c == quote).ok_or_else(|| self.error())?;
        let body = rest
            .get(..length)
            .and_then(|body| core::str::from_utf8(body).ok())
            .ok_or_else(|| self.error())?;
        self.at += length + 1;
        Ok(body.to_owned())
    }

    fn boolean(&mut self) -> Result<bool, ArrayError> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [("True", true), ("False", false)] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, ArrayError> {
        let mut extents = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            extents.push(self.integer()?);
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(extents)
    }

    fn integer(&mut self) -> Result<usize, ArrayError> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        let digits = rest.get(..length).and_then(|digits| core::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.error())?;
        self.at += length;
        Ok(value)
    }

    fn accept(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), ArrayError> {
        if self.accept(wanted) { Ok(()) } else { Err(self.error()) }
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|c| c.is_ascii_whitespace()).count();
    }

    fn error(&self) -> ArrayError {
        ArrayError::Header { at: self.at }
    }
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy's codes, the element type each becomes, and its bytes in the file.
const CODES: [(&str, DType, usize); 9] = [
    ("<f4", DType::F32, 4),
    ("<f8", DType::F32, 8),
    ("<f2", DType::F16, 2),
    ("|i1", DType::I8, 1),
    ("|u1", DType::U8, 1),
    ("<i2", DType::I16, 2),
    ("<i4", DType::I32, 4),
    ("<i8", DType::I64, 8),
    ("|b1", DType::Bool, 1),
];
