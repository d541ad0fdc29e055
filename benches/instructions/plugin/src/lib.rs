//! Counts the instructions that a guest executes, in all and inside the functions whose
//! symbol contains `fn=PART`:
//!
//! ```text
//! qemu-aarch64 -plugin libinstruction_count.so[,fn=PART] PROGRAM
//! ```
//!
//! The plugin interface is version 1 of QEMU's `qemu-plugin.h`. Counts are exact for a
//! program of one thread; they are instructions, not cycles.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// The version of the interface this plugin speaks.
// SAFETY: QEMU looks the symbol up by this name, and no other crate is linked in.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU's name")]
pub static qemu_plugin_version: c_int = 1;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: extern "C" fn(u64, *mut c_void));
    fn qemu_plugin_register_atexit_cb(id: u64, callback: extern "C" fn(u64, *mut c_void), data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_symbol(instruction: *const c_void) -> *const c_char;
    fn qemu_plugin_register_vcpu_tb_exec_inline(block: *mut c_void, op: c_int, to: *mut c_void, value: u64);
    fn qemu_plugin_register_vcpu_insn_exec_inline(
        instruction: *mut c_void,
        op: c_int,
        to: *mut c_void,
        value: u64,
    );
}

/// The inline operation that adds a value to a word of memory.
const ADD: c_int = 0;

/// A word that translated code adds to.
struct Counter(UnsafeCell<u64>);

// SAFETY: only the one thread of the guest's program writes, and it has ended when the count is read.
unsafe impl Sync for Counter {}

impl Counter {
    fn address(&self) -> *mut c_void {
        self.0.get().cast()
    }

    fn value(&self) -> u64 {
        // SAFETY: no guest code runs any more when this is called.
        unsafe { *self.0.get() }
    }
}

static TOTAL: Counter = Counter(UnsafeCell::new(0));
static INSIDE: Counter = Counter(UnsafeCell::new(0));
static PART: OnceLock<String> = OnceLock::new();

extern "C" fn translated(_: u64, block: *mut c_void) {
    // SAFETY: QEMU hands over a block that is valid during this call, and instructions are
    // asked for below their count; the counters live as long as the program.
    unsafe {
        let count = qemu_plugin_tb_n_insns(block);
        qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, TOTAL.address(), count as u64);
        let Some(part) = PART.get() else { return };
        for index in 0..count {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let symbol = qemu_plugin_insn_symbol(instruction);
            if !symbol.is_null() && CStr::from_ptr(symbol).to_string_lossy().contains(part.as_str()) {
                qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, INSIDE.address(), 1);
            }
        }
    }
}

extern "C" fn ended(_: u64, _: *mut c_void) {
    eprintln!("instructions total={} inside={}", TOTAL.value(), INSIDE.value());
}

/// Called by QEMU when it loads the plugin.
///
/// # Safety
/// `arguments` are `count` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _information: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller's promise.
        let argument = unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy();
        if let Some(part) = argument.strip_prefix("fn=") {
            let _ = PART.set(part.to_owned());
        }
    }
    // SAFETY: the identifier is QEMU's, and the callbacks live as long as the plugin.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, ended, std::ptr::null_mut());
    }
    0
}
