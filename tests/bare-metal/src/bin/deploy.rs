//! The counted model as firmware deploys it: its own kernels only, no text, an adapter to switch to. For its size, and for
//! the depth of its stack.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use ingraft_adapter::AdapterSet;
use ingraft_bare_metal::end::finish;
use ingraft_bare_metal::flash::{
    Aligned, COUNT_INPUT, COUNT_KERNELS, COUNT_LOW_RANK, COUNT_NATIVE_BYTES, COUNT_PLAN,
};
use ingraft_exec::Session;
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

static TARGET: Host = Host::only("firmware", COUNT_KERNELS);

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; COUNT_NATIVE_BYTES]> = Aligned([0; COUNT_NATIVE_BYTES]);
    let done = infer(&mut MEMORY.0).is_some();
    finish(done)
}

/// The base, then with an adapter.
fn infer(memory: &mut [u8]) -> Option<()> {
    let plan = PlanView::new(&COUNT_PLAN.0).ok()?;
    let mut adapters = AdapterSet::<2>::new();
    let adapter = adapters.attach(&COUNT_LOW_RANK.0, &plan).ok()?;
    let mut session = Session::bind(plan, Phase::Infer, &TARGET, memory).ok()?;
    for active in [None, Some(adapter)] {
        adapters.switch(active).ok()?;
        session.write_input(0, &COUNT_INPUT.0).ok()?;
        session.run(&adapters.active()).ok()?;
    }
    session.output(0).map(|_| ())
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    finish(false)
}
