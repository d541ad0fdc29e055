//! A case as `build/conformance.rs` writes it, run as a session runs a step.

use core::fmt::{self, Display};

use ingraft_kernel::{
    Affine, Factors, Host, KernelError, OpCode, Operand, Patched, Place, SiteTerms, Span, Sparse,
    SparseValues, Step, Target, TwoFactor,
};
use ingraft_tensor::bytes::{self, Plain};
use ingraft_tensor::{DType, Shape};

/// Operands, terms and wanted outputs of a step.
pub(crate) struct Case<'r> {
    pub(crate) name: &'r str,
    op: OpCode,
    attrs: &'r [u8],
    inputs: [Operand<'r>; 4],
    output: Operand<'r>,
    wanted: &'r [u8],
    /// Empty for a step without.
    wanted_mask: &'r [u8],
    terms: SiteTerms<'r>,
}

/// What is wrong.
pub(crate) enum Failure {
    Refused(KernelError),
    Output,
    Mask,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Output => f.write_str("the output differs"),
            Self::Mask => f.write_str("the mask differs"),
        }
    }
}

impl<'r> Case<'r> {
    /// `None` for anything else than a record.
    pub(crate) fn read(record: &'r [u8]) -> Option<Self> {
        let mut pieces = Pieces(record.get(16..)?);
        let name = core::str::from_utf8(pieces.next()?).ok()?;
        let op = if pieces.word()? == 0 { OpCode::QConv } else { OpCode::QDepthwise };
        let attrs = pieces.next()?;
        let inputs = [pieces.tensor()?, pieces.tensor()?, pieces.tensor()?, pieces.tensor()?];
        let output = pieces.tensor()?;
        let Place::Plan(wanted) = output.place else { return None };
        let wanted_mask = pieces.next()?;
        let terms = pieces.terms()?;
        Some(Self { name, op, attrs, inputs, output, wanted, wanted_mask, terms })
    }

    /// What is wrong with the results of `target`, if anything.
    pub(crate) fn failure(&self, target: &Host, memory: &mut [u8]) -> Option<Failure> {
        match self.run(target, memory) {
            Err(error) => Some(Failure::Refused(error)),
            Ok((out, _)) if out != self.wanted => Some(Failure::Output),
            Ok((_, mask)) if mask != self.wanted_mask => Some(Failure::Mask),
            Ok(_) => None,
        }
    }

    /// Output and mask.
    fn run<'m>(&self, target: &Host, memory: &'m mut [u8]) -> Result<(&'m [u8], &'m [u8]), KernelError> {
        let error = KernelError::Memory(self.op);
        let mut step = Step::new(self.op, self.attrs);
        self.inputs.iter().try_for_each(|operand| step.push_input(*operand))?;
        let mut end = 0;
        let mut place = |len| {
            let span = Span { offset: end, len };
            end = bytes::align_up(span.end());
            span
        };
        let (out, mask) = (place(self.wanted.len()), place(self.wanted_mask.len()));
        step.push_output(Operand { place: Place::Memory(out), ..self.output })?;
        if mask.len > 0 {
            let shape = Shape::new(&[mask.len as u32]).map_err(|_| error)?;
            step.push_output(Operand { dtype: DType::U8, shape, place: Place::Memory(mask) })?;
        }
        step.workspace = place(target.workspace_bytes(&step));
        step.packed = place(target.packed_bytes(&step));
        memory.get_mut(..end).ok_or(error)?.fill(0x5a);
        // The host begins with these bytes too; bits behind the last of a mask stay.
        target.prepare(memory, &step)?;
        target.run(memory, &step, self.terms)?;
        let memory: &[u8] = memory;
        let get = |span: Span| memory.get(span.offset..span.end()).ok_or(error);
        Ok((get(out)?, get(mask)?))
    }
}

/// What is left of a record.
struct Pieces<'r>(&'r [u8]);

impl<'r> Pieces<'r> {
    fn next(&mut self) -> Option<&'r [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes::ALIGN)?;
        let len = u32::from_le_bytes(*head.first_chunk()?) as usize;
        let (piece, rest) = rest.split_at_checked(bytes::align_up(len))?;
        self.0 = rest;
        piece.get(..len)
    }

    fn cast<T: Plain>(&mut self) -> Option<&'r [T]> {
        bytes::cast(self.next()?)
    }

    fn word(&mut self) -> Option<u32> {
        self.cast()?.first().copied()
    }

    fn tensor(&mut self) -> Option<Operand<'r>> {
        let dtype = DType::from_code(u8::try_from(self.word()?).ok()?)?;
        let shape = Shape::new(self.cast()?).ok()?;
        Some(Operand { dtype, shape, place: Place::Plan(self.next()?) })
    }

    fn terms(&mut self) -> Option<SiteTerms<'r>> {
        let (two_factor, sparse) = (self.two_factor()?, self.sparse()?);
        let dense = Some(self.cast()?).filter(|delta| !delta.is_empty());
        let (scale, shift): (&[f32], &[f32]) = (self.cast()?, self.cast()?);
        let (weight, bias): (&[i8], &[i32]) = (self.cast()?, self.cast()?);
        let affine = (!scale.is_empty()).then_some(Affine { scale, shift });
        let patched = (!weight.is_empty()).then_some(Patched { weight, bias });
        Some(SiteTerms { two_factor, sparse, dense, affine, patched, ..SiteTerms::NONE })
    }

    fn two_factor(&mut self) -> Option<Option<TwoFactor<'r>>> {
        let &[kind, rank] = self.cast::<u32>()? else { return None };
        let factors = match kind {
            0 => return Some(None),
            1 => Factors::F32 { down: self.cast()?, up: self.cast()? },
            _ => Factors::I8 {
                down: self.cast()?,
                up: self.cast()?,
                down_scale: self.cast()?,
                up_scale: self.cast()?,
            },
        };
        Some(Some(TwoFactor { rank: rank as usize, factors }))
    }

    fn sparse(&mut self) -> Option<Option<Sparse<'r>>> {
        let kind = self.word()?;
        if kind == 0 {
            return Some(None);
        }
        let (indptr, indices) = (self.cast()?, self.cast()?);
        let values =
            if kind == 2 { SparseValues::I16(self.cast()?) } else { SparseValues::F32(self.cast()?) };
        Some(Some(Sparse { indptr, indices, values }))
    }
}
