//! The one check of a plan's bytes.

use ingraft_kernel::{MAX_INPUTS, MAX_OUTPUTS, OpCode, Place, SiteKind};
use ingraft_tensor::{DType, SCALE_MAX, SCALE_MIN, bytes, hash};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::{Part, PlanError};
use crate::record::{FORMAT_VERSION, HASH_END, Header, MAGIC, NONE, Table, Text};
use crate::{ClipRule, Limits, Phase, PlanView, RECIPE_WORDS};

/// Checks `bytes` as a plan that declares no more than `limits`.
///
/// # Errors
/// The first fault found.
pub(crate) fn plan<'a>(bytes: &'a [u8], limits: &Limits) -> Result<PlanView<'a>, PlanError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(PlanError::NotAPlan);
    }
    if bytes.as_ptr().align_offset(bytes::ALIGN) != 0 {
        return Err(PlanError::Misaligned);
    }
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| PlanError::Length)?;
    if header.version != FORMAT_VERSION {
        return Err(PlanError::Version(header.version));
    }
    if header.file_bytes as usize != bytes.len() {
        return Err(PlanError::Length);
    }
    limits.check(header)?;
    let covered = bytes.get(HASH_END..).ok_or(PlanError::Length)?;
    if hash::blake3(covered) != header.hash {
        return Err(PlanError::Hash);
    }
    let view = PlanView {
        bytes,
        header,
        tensors: table(bytes, header.tensors, Part::Tensor)?,
        operands: table(bytes, header.operands, Part::Operand)?,
        phases: [table(bytes, header.infer, Part::Step)?, table(bytes, header.train, Part::Step)?],
        sites: table(bytes, header.sites, Part::Site)?,
        io: table(bytes, header.io, Part::Io)?,
        attrs: table(bytes, header.attrs, Part::Step)?,
        strings: core::str::from_utf8(table(bytes, header.strings, Part::String)?)
            .map_err(|_| PlanError::Range(Part::String))?,
    };
    header_fields(&view)?;
    tensors(&view)?;
    steps(&view, Phase::Infer)?;
    steps(&view, Phase::Train)?;
    sites(&view)?;
    io(&view)?;
    Ok(view)
}

fn table<T: FromBytes + Immutable + KnownLayout>(
    bytes: &[u8],
    table: Table,
    part: Part,
) -> Result<&[T], PlanError> {
    let range = || {
        let len = (table.count as usize).checked_mul(size_of::<T>())?;
        let start = table.offset as usize;
        <[T]>::ref_from_bytes(bytes.get(start..start.checked_add(len)?)?).ok()
    };
    range().ok_or(PlanError::Range(part))
}

fn text(view: &PlanView<'_>, text: Text) -> bool {
    let start = text.offset as usize;
    view.strings.get(start..start.saturating_add(text.len as usize)).is_some()
}

fn index(value: u32, count: usize) -> bool {
    value == NONE || (value as usize) < count
}

fn header_fields(view: &PlanView<'_>) -> Result<(), PlanError> {
    let header = view.header;
    let tensors = view.tensors.len();
    let steps = view.phases.map(<[_]>::len);
    let heads = [header.features, header.logits].iter().all(|pair| pair.iter().all(|t| index(*t, tensors)))
        && [header.features_step, header.logits_step]
            .iter()
            .all(|pair| pair.iter().zip(steps).all(|(s, count)| index(*s, count)));
    let paired = [(header.features, header.features_step), (header.logits, header.logits_step)]
        .iter()
        .all(|(tensor, step)| tensor.iter().zip(step).all(|(t, s)| (*t == NONE) == (*s == NONE)));
    let train = header.train_backward as usize <= steps[1] && header.train_cut <= header.train_backward;
    let fine = heads
        && paired
        && train
        && text(view, header.model_name)
        && text(view, header.float_nodes)
        && header.head_classes <= HEAD_CLASSES_MAX;
    fine.then_some(()).ok_or(PlanError::Record(Part::Header, 0))
}

fn tensors(view: &PlanView<'_>) -> Result<(), PlanError> {
    let arena = view.header.arena_bytes.iter().copied().max().unwrap_or(0) as usize;
    for (i, record) in view.tensors.iter().enumerate() {
        let fits = || {
            let operand = view.operand(record)?;
            let aligned = record.offset as usize & (bytes::ALIGN - 1) == 0;
            let inside = match operand.place {
                Place::Memory(span) => record.storage == 0 && span.end() <= arena,
                Place::Plan(_) => record.storage == 1,
            };
            let scaled = record.quantized == 0
                || record.quantized == 1
                    && (SCALE_MIN..=SCALE_MAX).contains(&record.scale)
                    && (-128..=127).contains(&record.zero_point);
            (aligned && inside && scaled && index(record.grad, view.tensors.len()) && text(view, record.name))
                .then_some(())
        };
        fits().ok_or(PlanError::Record(Part::Tensor, i as u32))?;
    }
    Ok(())
}

fn steps(view: &PlanView<'_>, phase: Phase) -> Result<(), PlanError> {
    let arena = view.arena_bytes(phase);
    let inside = |i: &u32| {
        view.tensor(*i).is_some_and(|t| match t.operand.place {
            Place::Memory(span) => span.end() <= arena,
            Place::Plan(_) => true,
        })
    };
    let records = view.phases[phase.index()];
    for (i, record) in records.iter().enumerate() {
        let fits = || {
            OpCode::from_code(record.op)?;
            let step = view.step(phase, i)?;
            let counted = step.inputs.len() <= MAX_INPUTS && step.outputs.len() <= MAX_OUTPUTS;
            let aligned = record.attrs & 3 == 0;
            let operands = step.inputs.iter().chain(step.outputs).all(inside);
            let written = step
                .outputs
                .iter()
                .all(|o| view.tensor(*o).is_some_and(|t| matches!(t.operand.place, Place::Memory(_))));
            let forward = record.forward == NONE || (record.forward as usize) < i;
            let refers = index(record.site, view.sites.len()) && forward && text(view, record.name);
            (counted && aligned && operands && written && refers).then_some(())
        };
        fits().ok_or(PlanError::Record(Part::Step, i as u32))?;
    }
    Ok(())
}

fn sites(view: &PlanView<'_>) -> Result<(), PlanError> {
    let (tensors, steps) = (view.tensors.len(), view.phases.map(<[_]>::len));
    for (i, record) in view.sites.iter().enumerate() {
        let fits = || {
            SiteKind::from_code(record.kind)?;
            DType::from_code(record.dtype)?;
            let row = record.kernel[0].checked_mul(record.kernel[1])?.checked_mul(record.inputs)?;
            (row.checked_mul(record.out)? <= i32::MAX as u32).then_some(())?;
            record.out.checked_rem(record.groups)?.eq(&0).then_some(())?;
            let placed = record.step.iter().zip(steps).all(|(s, count)| index(*s, count))
                && record.input.iter().chain(&record.output).all(|t| index(*t, tensors));
            let complete = record
                .step
                .iter()
                .zip(record.input.iter().zip(&record.output))
                .all(|(s, (a, b))| (*s == NONE) == (*a == NONE) && (*s == NONE) == (*b == NONE));
            let diagonals = view.site_diagonals(i);
            let present = (record.out_diagonal == NONE || diagonals.0.is_some())
                && (record.in_diagonal == NONE || diagonals.1.is_some());
            (placed && complete && present && text(view, record.name)).then_some(())
        };
        fits().ok_or(PlanError::Record(Part::Site, i as u32))?;
    }
    Ok(())
}

fn io(view: &PlanView<'_>) -> Result<(), PlanError> {
    for (i, record) in view.io.iter().enumerate() {
        let fits = (record.tensor as usize) < view.tensors.len()
            && record.role <= 1
            && ClipRule::from_code(record.clip).is_some()
            && record.recipe_len as usize <= RECIPE_WORDS
            && text(view, record.name)
            && text(view, record.labels);
        fits.then_some(()).ok_or(PlanError::Record(Part::Io, i as u32))?;
    }
    Ok(())
}

/// More classes than any head: a bound on the memory a plan can ask for.
const HEAD_CLASSES_MAX: u32 = 65_536;
