//! A checked plan.

use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Host, NO_SITE, Sites};
use ingraft_plan::{IoView, Phase, PlanView};

use crate::object::{self, Storage};
use crate::pointer;
use crate::status::Status;

include!(concat!(env!("OUT_DIR"), "/target.rs"));

/// Room for a plan that was checked: opaque, placed by the caller, filled by `ingraft_plan_open`.
///
/// It holds references alone, so it may be dropped at any time; it must not be copied elsewhere.
#[repr(C)]
pub struct PlanStorage {
    words: [u64; PLAN_WORDS],
}

/// Words of a plan's storage.
pub const PLAN_WORDS: usize = 11;

impl Storage for PlanStorage {
    type Value = PlanView<'static>;
    const KIND: usize = 0x5fc1_7a20;
}

/// What a plan needs and has.
#[repr(C)]
pub struct PlanFacts {
    /// Bytes of memory for a session, exactly.
    pub session_bytes: usize,
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
    /// Classes of a head, at most; 0 where the plan has no room for one.
    pub head_classes: usize,
    /// Values that a head reads: the features of a clip.
    pub features: usize,
}

/// Checks a plan, once, in time linear in its bytes.
///
/// `bytes` starts at a 16-byte boundary, in flash or elsewhere.
///
/// Refuses with `PLAN_*`; the storage is then empty.
///
/// # Safety
/// `plan` is written. `bytes` is read, now and later: it stays, unchanged, while the plan or anything bound to it is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_plan_open(plan: *mut PlanStorage, bytes: *const u8, len: usize) -> Status {
    // SAFETY: the caller's word, as the header states it: bytes that stay.
    let opened = unsafe { object::put(plan, || Ok(PlanView::new(pointer::slice(bytes, len)?)?)) };
    opened.into()
}

/// What a plan needs and has, written to `facts`.
///
/// Refuses with `STEP_*` where no kernel is linked for a step.
///
/// # Safety
/// `plan` is read, `facts` written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_plan_describe(plan: *const PlanStorage, facts: *mut PlanFacts) -> Status {
    // SAFETY: the caller's word.
    let plan = unsafe { object::get(plan) };
    let found = plan.and_then(|plan| {
        Ok(PlanFacts {
            session_bytes: MemoryNeeds::new(plan, Phase::Infer, &TARGET)?.total(),
            inputs: plan.inputs().count(),
            outputs: plan.outputs().count(),
            head_classes: plan.head_classes(),
            features: plan.head_features(NO_SITE, 0).unwrap_or(0),
        })
    });
    // SAFETY: the caller's word.
    found.and_then(|found| unsafe { pointer::write(facts, found) }).into()
}

/// Bytes of input `index`, written to `bytes`.
///
/// Refuses with `IO`.
///
/// # Safety
/// `plan` is read, `bytes` written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_plan_input(
    plan: *const PlanStorage,
    index: usize,
    bytes: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    let found = unsafe { object::get(plan) }.and_then(|plan| io_bytes(plan, plan.inputs().nth(index)));
    // SAFETY: the caller's word.
    found.and_then(|found| unsafe { pointer::write(bytes, found) }).into()
}

/// Bytes of output `index`, written to `bytes`.
///
/// Refuses with `IO`.
///
/// # Safety
/// `plan` is read, `bytes` written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_plan_output(
    plan: *const PlanStorage,
    index: usize,
    bytes: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    let found = unsafe { object::get(plan) }.and_then(|plan| io_bytes(plan, plan.outputs().nth(index)));
    // SAFETY: the caller's word.
    found.and_then(|found| unsafe { pointer::write(bytes, found) }).into()
}

fn io_bytes(plan: &PlanView<'_>, io: Option<IoView<'_>>) -> Result<usize, Status> {
    let tensor = io.and_then(|io| plan.tensor(io.tensor)).ok_or(Status::Io)?;
    tensor.operand.shape.elements().checked_mul(tensor.operand.dtype.size()).ok_or(Status::Io)
}
