//! One run of the model with and without an adapter.

use ingraft_adapter::{AdapterSet, SetError, TermSource};
use ingraft_cortex_m::rows;
use ingraft_exec::{ExecError, Session};
use ingraft_kernel::{Host, Kernel, elementwise, pool, quantize};
use ingraft_plan::{Phase, PlanError, PlanView};

use crate::flash::{ADAPTER, ADAPTER_OUTPUT, BASE_OUTPUT, INPUT, PLAN};

/// Why a check failed.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// The plan was refused.
    Plan(PlanError),
    /// The adapter was refused.
    Adapter(SetError),
    /// The session refused.
    Exec(ExecError),
    /// The output differs from the host's.
    Output(&'static str),
}

/// The operators of [`PLAN`]: firmware links no others. One too few, and the session refuses to bind.
const KERNELS: &[Kernel] = &[
    elementwise::KERNEL_ADD_Q,
    pool::KERNEL_Q,
    rows::QCONV,
    rows::QDEPTHWISE,
    quantize::KERNEL,
    quantize::KERNEL_DEQUANTIZE,
];

/// Base, adapter, base again: each must equal the host's output to the bit.
///
/// # Errors
/// The first [`Failure`].
pub fn check(memory: &mut [u8]) -> Result<(), Failure> {
    let plan = PlanView::new(&PLAN.0).map_err(Failure::Plan)?;
    let mut adapters = AdapterSet::<1>::new();
    let adapter = adapters.attach(&ADAPTER.0, &plan).map_err(Failure::Adapter)?;
    let target = Host::only("firmware", KERNELS);
    let mut session = Session::bind(plan, Phase::Infer, &target, memory).map_err(Failure::Exec)?;
    expect(&mut session, &adapters.active(), &BASE_OUTPUT.0, "base")?;
    adapters.switch(Some(adapter)).map_err(Failure::Adapter)?;
    expect(&mut session, &adapters.active(), &ADAPTER_OUTPUT.0, "adapter")?;
    adapters.switch(None).map_err(Failure::Adapter)?;
    expect(&mut session, &adapters.active(), &BASE_OUTPUT.0, "base after the adapter")
}

fn expect<S: TermSource>(
    session: &mut Session<'_, '_, Host>,
    source: &S,
    wanted: &[u8],
    what: &'static str,
) -> Result<(), Failure> {
    session.write_input(0, &INPUT.0).map_err(Failure::Exec)?;
    session.run(source).map_err(Failure::Exec)?;
    let output = session.output(0).ok_or(Failure::Output(what))?;
    (output.bytes() == wanted).then_some(()).ok_or(Failure::Output(what))
}
