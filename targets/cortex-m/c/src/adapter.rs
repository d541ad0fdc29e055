//! A checked adapter.

use core::ffi::c_char;

use ingraft_adapter::{Adapter, AdapterError, SiteName, TermSource};

use crate::object::{self, Storage};
use crate::plan::PlanStorage;
use crate::pointer;
use crate::status::Status;

/// Room for an adapter that was checked: opaque, placed by the caller, filled by `ingraft_attach`.
///
/// It holds references alone, so it may be dropped at any time; it must not be copied elsewhere.
#[repr(C)]
pub struct AdapterStorage {
    words: [u64; ADAPTER_WORDS],
}

/// Words of an adapter's storage.
pub const ADAPTER_WORDS: usize = 10;

/// An adapter, or the site for which it was refused.
pub(crate) enum Attached {
    Adapter(Adapter<'static>),
    Refused(SiteName),
}

impl Storage for AdapterStorage {
    type Value = Attached;
    const KIND: usize = 0x3b94_e618;
}

/// What an adapter has.
#[repr(C)]
pub struct AdapterFacts {
    /// Classes of its head; 0 where it has none and the base's outputs stay.
    pub classes: usize,
    /// Names of the classes, one per line, in the adapter's file: `labels_len` bytes and no zero byte behind them.
    pub labels: *const c_char,
    /// Bytes of `labels`.
    pub labels_len: usize,
}

/// Checks an adapter against its base, once, in time linear in its bytes.
///
/// `bytes` starts at a 16-byte boundary, in flash or elsewhere.
///
/// Refuses with `ADAPTER_*`: `ingraft_adapter_refused` then names the site, where the reason is one.
///
/// # Safety
/// `adapter` is written, `plan` read. `bytes` is read, now and later: it stays, unchanged, while the adapter is used or
/// a session acts with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_attach(
    adapter: *mut AdapterStorage,
    plan: *const PlanStorage,
    bytes: *const u8,
    len: usize,
) -> Status {
    let mut refusal = Status::Ok;
    // SAFETY: the caller's word, as the header states it: bytes that stay.
    let attached = unsafe {
        object::put(adapter, || {
            let (plan, bytes) = (object::get(plan)?, pointer::slice(bytes, len)?);
            Adapter::attach(bytes, plan).map(Attached::Adapter).or_else(|error| {
                refusal = error.into();
                site(&error).map(Attached::Refused).ok_or(refusal)
            })
        })
    };
    match attached {
        Ok(()) => refusal,
        Err(status) => status,
    }
}

/// The site that a refusal names.
fn site(error: &AdapterError) -> Option<SiteName> {
    match *error {
        AdapterError::UnknownSite(site)
        | AdapterError::MissingSite(site)
        | AdapterError::DuplicateSite(site)
        | AdapterError::Shape(site)
        | AdapterError::Kind(site)
        | AdapterError::NotFinite(site)
        | AdapterError::Indices(site)
        | AdapterError::Rank(site)
        | AdapterError::Accumulator(site)
        | AdapterError::Parameters(site) => Some(site),
        _ => None,
    }
}

/// Name of the site for which `ingraft_attach` refused this adapter: copied to `name` with a zero byte behind it, cut
/// where it does not fit. An empty name where it was refused for no site, or not at all.
///
/// # Safety
/// `adapter` is read, `name` written for `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_adapter_refused(
    adapter: *const AdapterStorage,
    name: *mut c_char,
    room: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (attached, name) = unsafe { (object::get(adapter), pointer::slice_mut(name.cast::<u8>(), room)) };
    let site = match attached {
        Ok(Attached::Refused(site)) => site.as_str(),
        _ => "",
    };
    let written = name.and_then(|name| {
        let (last, name) = name.split_last_mut().ok_or(Status::Length)?;
        *last = 0;
        let rest = core::iter::repeat(&0);
        name.iter_mut().zip(site.as_bytes().iter().chain(rest)).for_each(|(to, byte)| *to = *byte);
        Ok(())
    });
    written.into()
}

/// What an adapter has, written to `facts`.
///
/// # Safety
/// `adapter` is read, `facts` written. `labels` points into the adapter's bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_adapter_describe(
    adapter: *const AdapterStorage,
    facts: *mut AdapterFacts,
) -> Status {
    // SAFETY: the caller's word.
    let found = unsafe { get(adapter) }.map(|adapter| {
        let (classes, labels) = adapter.head().map_or((0, ""), |head| (head.classes, head.labels));
        AdapterFacts { classes, labels: labels.as_ptr().cast(), labels_len: labels.len() }
    });
    // SAFETY: the caller's word.
    found.and_then(|found| unsafe { pointer::write(facts, found) }).into()
}

/// The adapter at `place`, where it was not refused.
///
/// # Safety
/// As [`object::get`].
pub(crate) unsafe fn get(place: *const AdapterStorage) -> Result<Adapter<'static>, Status> {
    // SAFETY: the caller's word.
    match unsafe { object::get(place)? } {
        Attached::Adapter(adapter) => Ok(*adapter),
        Attached::Refused(_) => Err(Status::NotBound),
    }
}
