//! A plan bound to memory: run, and switch between two runs.

use ingraft_adapter::Adapter;
use ingraft_exec::Session;
use ingraft_kernel::Host;
use ingraft_plan::Phase;

use crate::adapter::{self, AdapterStorage};
use crate::object::{self, Storage};
use crate::plan::{PlanStorage, TARGET};
use crate::pointer;
use crate::status::Status;

/// Room for a session: opaque, placed by the caller, filled by `ingraft_session_bind`.
///
/// It must not be copied elsewhere.
#[repr(C)]
pub struct SessionStorage {
    words: [u64; SESSION_WORDS],
}

/// Words of a session's storage.
pub const SESSION_WORDS: usize = 20;

/// A session and the adapter of the next runs.
pub(crate) struct Bound {
    session: Session<'static, 'static, Host>,
    active: Option<Adapter<'static>>,
}

impl Storage for SessionStorage {
    type Value = Bound;
    const KIND: usize = 0x6e02_9d54;
}

/// Binds a plan for inference: checks every step and lays out memory. The base is active.
///
/// `memory` starts at a 16-byte boundary and has the `session_bytes` that `ingraft_plan_describe` tells.
///
/// Refuses with `MEMORY_TOO_SMALL`, `STEP_*`; the storage is then empty.
///
/// # Safety
/// `session` is written, `plan` read and not needed afterwards. `memory` is the session's alone from now on, until the
/// session is ended or not used any more: the caller neither reads nor writes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_session_bind(
    session: *mut SessionStorage,
    plan: *const PlanStorage,
    memory: *mut u8,
    len: usize,
) -> Status {
    // SAFETY: the caller's word, as the header states it: memory that is the session's from now on.
    let bound = unsafe {
        object::put(session, || {
            let (plan, memory) = (*object::get(plan)?, pointer::slice_mut(memory, len)?);
            let session = Session::bind(plan, Phase::Infer, &TARGET, memory)?;
            Ok(Bound { session, active: None })
        })
    };
    bound.into()
}

/// Ends a session: its memory is the caller's again. Later calls with it are refused with `NOT_BOUND`.
///
/// # Safety
/// `session` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_session_end(session: *mut SessionStorage) -> Status {
    // SAFETY: the caller's word.
    unsafe { object::get(session).and_then(|_| object::clear(session)) }.into()
}

/// Makes `adapter` act in the runs that follow, or the base where it is null. No weight is copied or changed, so it takes
/// the same short time for every adapter, and going back to the base is exact.
///
/// Refuses with `ADAPTER_BASE` where it was attached to another plan; what acted before then still does.
///
/// # Safety
/// `session` is written. `adapter` is null or read and not needed afterwards; the bytes that it was attached from are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_switch(
    session: *mut SessionStorage,
    adapter: *const AdapterStorage,
) -> Status {
    // SAFETY: the caller's word.
    let switched = unsafe { object::get_mut(session) }.and_then(|bound| {
        if adapter.is_null() {
            bound.active = None;
            return Ok(());
        }
        // SAFETY: the caller's word.
        let adapter = unsafe { adapter::get(adapter)? };
        if adapter.base_hash() != bound.session.plan().hash() {
            return Err(Status::AdapterBase);
        }
        bound.active = Some(adapter);
        Ok(())
    });
    switched.into()
}

/// Copies `len` bytes into input `index`. To be done before every run: a run may use the memory of its inputs again.
///
/// Refuses with `IO`.
///
/// # Safety
/// `session` and its memory are written, `bytes` is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_write_input(
    session: *mut SessionStorage,
    index: usize,
    bytes: *const u8,
    len: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (bound, bytes) = unsafe { (object::get_mut(session), pointer::slice(bytes, len)) };
    bound.and_then(|bound| Ok(bound.session.write_input(index, bytes?)?)).into()
}

/// Runs one inference with the adapter that is active, or the base.
///
/// An adapter with a head leaves out the model's own last layers: read `ingraft_read_logits` then.
///
/// Refuses with `STEP_*`; the outputs are then of no meaning.
///
/// # Safety
/// `session` and its memory are written; bytes of the plan and of the active adapter are read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_run(session: *mut SessionStorage) -> Status {
    // SAFETY: the caller's word.
    let bound = unsafe { object::get_mut(session) };
    bound.and_then(|bound| Ok(bound.session.run(&bound.active)?)).into()
}

/// Copies output `index` to `bytes`, which has `len`.
///
/// Refuses with `IO`.
///
/// # Safety
/// `session` and its memory are read, `bytes` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_read_output(
    session: *const SessionStorage,
    index: usize,
    bytes: *mut u8,
    len: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (bound, bytes) = unsafe { (object::get(session), pointer::slice_mut(bytes, len)) };
    bound.and_then(|bound| Ok(bound.session.read_output(index, bytes?)?)).into()
}

/// Copies the first `classes` logits of the active adapter's head to `logits`.
///
/// Refuses with `IO` where the plan has room for fewer.
///
/// # Safety
/// `session` and its memory are read, `logits` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_read_logits(
    session: *const SessionStorage,
    logits: *mut f32,
    classes: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (bound, logits) = unsafe { (object::get(session), pointer::slice_mut(logits, classes)) };
    bound.and_then(|bound| bound.session.read_logits(0, logits?).ok_or(Status::Io)).into()
}
