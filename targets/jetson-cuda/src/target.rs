//! The target itself.

use core::ops::Range;

use cudarc::driver::PushKernelArg;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::{
    Choice, Factors, KernelError, OpCode, Replay, SiteGrads, SiteTerms, SparseValues, Step, Target,
};

use crate::device::Device;
use crate::launch::{Launch, place};
use crate::memory::{Mode, Recording};
use crate::sums::{self, Placed, Sums};
use crate::terms::{ENTRY, Terms};
use crate::{CudaError, CudaMemory, Resident, params, rows};

/// A GPU.
#[derive(Debug)]
pub struct Cuda {
    device: Device,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The device's name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// The driver's CUDA version, major · 1000 + minor · 10.
    pub driver: i32,
    /// The image of kernels in use.
    pub image: &'static str,
    /// Bytes of memory.
    pub memory: usize,
}

impl Cuda {
    /// GPU `ordinal`, 0 for the only one.
    ///
    /// # Errors
    /// [`CudaError`]; among them [`CudaError::NoDriver`] on a machine without one.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        let cuda = Self { device: Device::open(ordinal, rows::KERNELS)? };
        cuda.check_records()?;
        Ok(cuda)
    }

    /// Every row: its operator and its name.
    pub fn rows() -> impl Iterator<Item = (OpCode, &'static str)> {
        rows::ROWS.iter().map(|row| (row.op, row.name))
    }

    /// What it is.
    ///
    /// # Errors
    /// [`CudaError`] when the driver does not answer.
    pub fn info(&self) -> Result<Info, CudaError> {
        let context = self.device.stream.context();
        let mut driver = 0;
        // SAFETY: writes one int.
        unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut driver) }.result()?;
        Ok(Info {
            name: context.name()?,
            capability: context.compute_capability()?,
            driver,
            image: self.device.image,
            memory: context.total_mem()?,
        })
    }

    /// Memory for a session, of the size that `MemoryNeeds` says.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn allocate(&self, bytes: usize) -> Result<CudaMemory, CudaError> {
        CudaMemory::new(&self.device, bytes)
    }

    /// Brings a plan or an adapter to the GPU, to be used there in place.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn keep(&self, bytes: &[u8]) -> Result<Resident, CudaError> {
        self.device.keep(bytes)
    }

    /// Waits until everything launched has run.
    ///
    /// # Errors
    /// [`CudaError`] of what failed meanwhile.
    pub fn wait(&self) -> Result<(), CudaError> {
        Ok(self.device.stream.synchronize()?)
    }

    /// Whether host and image agree on the records that travel between them.
    fn check_records(&self) -> Result<(), CudaError> {
        let wanted = || [ENTRY].into_iter().chain(params::SIZES.iter().chain(params::float::SIZES).copied());
        let sizes = self.device.zeros(wanted().count() * 4)?;
        let record = self.device.address(&sizes);
        let function = self.device.function("record_sizes");
        let function =
            function.ok_or_else(|| CudaError::Driver("the image has no record_sizes".to_owned()))?;
        let config =
            cudarc::driver::LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        let mut arguments = self.device.stream.launch_builder(function);
        // SAFETY: one parameter, an address with room for all sizes.
        unsafe { arguments.arg(&record).launch(config) }?;
        let mut bytes = vec![0u8; sizes.len()];
        self.device.stream.memcpy_dtoh(&sizes, &mut bytes)?;
        self.device.stream.synchronize()?;
        let found = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word) as usize);
        let agree = found.eq(wanted());
        agree.then_some(()).ok_or_else(|| CudaError::Driver("the image is of another build".to_owned()))
    }

    fn launch(
        &self,
        memory: &mut CudaMemory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        (sums, accumulate): (Sums, u32),
    ) -> Result<(), KernelError> {
        let (_, row) = rows::of(step)?;
        let run = (row.launch)(&mut Launch { device: &self.device, memory, step, terms, sums, accumulate });
        // An entry is this step's, whether its row looked at it or not.
        memory.entry = None;
        if let (Err(_), Mode::Recording(index)) = (&run, memory.mode) {
            self.abandon(memory, index);
        }
        run
    }

    /// [`KernelError::Index`] where an index led outside what it picks from.
    fn check_indices(&self, memory: &mut CudaMemory, op: OpCode) -> Result<(), KernelError> {
        match memory.strayed(&self.device) {
            Ok(false) => Ok(()),
            Ok(true) => Err(KernelError::Index(op)),
            Err(error) => Err(failed(memory, op, error)),
        }
    }

    /// Ends a recording that cannot be finished.
    fn abandon(&self, memory: &mut CudaMemory, index: usize) {
        // The stream leaves capture, whatever it says of the graph.
        let _ = self.device.stream.end_capture(NO_FLAGS);
        memory.recordings.truncate(index);
        memory.mode = Mode::Steps;
    }

    /// Replays the recording of `index`, made just now or before.
    fn replay(&self, memory: &mut CudaMemory, index: usize) -> Result<(), CudaError> {
        if memory.mode == Mode::Recording(index) {
            let graph = self.device.stream.end_capture(NO_FLAGS);
            memory.mode = Mode::Steps;
            let recording = memory.recordings.get_mut(index);
            match (graph, recording) {
                (Ok(graph), Some(recording)) => recording.graph = graph,
                (graph, _) => {
                    memory.recordings.truncate(index);
                    graph?;
                }
            }
        }
        memory.mode = Mode::Steps;
        let Some(recording) = memory.recordings.get_mut(index) else { return Ok(()) };
        recording.upload(&self.device)?;
        recording.graph.as_ref().map_or(Ok(()), |graph| Ok(graph.launch()?))
    }
}

const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

fn failed(memory: &mut CudaMemory, op: OpCode, error: CudaError) -> KernelError {
    memory.failure = Some(error);
    KernelError::Device(op)
}

impl Target for Cuda {
    type Memory = CudaMemory;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn capacity(&self, memory: &CudaMemory) -> usize {
        memory.len
    }

    fn write(&self, memory: &mut CudaMemory, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        memory.clear_transients(&self.device).ok()?;
        let mut part = memory.bytes.try_slice_mut(offset..end)?;
        self.device.stream.memcpy_htod(bytes, &mut part).ok()
    }

    fn read(&self, memory: &CudaMemory, offset: usize, bytes: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        let part = memory.bytes.try_slice(offset..end)?;
        self.device.stream.memcpy_dtoh(&part, bytes).ok()?;
        self.device.stream.synchronize().ok()
    }

    fn kernel_name(&self, step: &Step<'_>) -> Result<&'static str, KernelError> {
        rows::of(step).map(|(_, row)| row.name)
    }

    fn choose(&self, step: &Step<'_>) -> Result<Choice, KernelError> {
        rows::of(step).map(|(index, _)| Choice(index))
    }

    fn workspace_bytes(&self, step: &Step<'_>) -> usize {
        rows::of(step).map_or(0, |(_, row)| (row.workspace)(step))
    }

    fn packed_bytes(&self, _: &Step<'_>) -> usize {
        0
    }

    fn prepare(&self, _: &mut CudaMemory, _: &Step<'_>) -> Result<(), KernelError> {
        Ok(())
    }

    fn run(&self, memory: &mut CudaMemory, step: &Step<'_>, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        self.launch(memory, step, terms, (Sums::default(), 0))?;
        if core::mem::take(&mut memory.watched) { self.check_indices(memory, step.op) } else { Ok(()) }
    }

    fn run_backward(
        &self,
        memory: &mut CudaMemory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        let placed = match Placed::new(&self.device, memory, grads) {
            Ok(placed) => placed,
            Err(error) => {
                if let Mode::Recording(index) = memory.mode {
                    self.abandon(memory, index);
                }
                return Err(failed(memory, step.op, error));
            }
        };
        self.launch(memory, step, terms, (placed.sums, accumulate))?;
        placed.fetch(&self.device).map_err(|error| failed(memory, step.op, error))
    }

    fn check_terms(&self, step: &Step<'_>, terms: &SiteTerms<'_>) -> Result<(), KernelError> {
        let integer = matches!(terms.two_factor.map(|term| term.factors), Some(Factors::I8 { .. }))
            || matches!(terms.sparse.map(|sparse| sparse.values), Some(SparseValues::I16(_)));
        let refused = match step.op {
            OpCode::QConv => false,
            OpCode::QDepthwise => terms.two_factor.is_some(),
            OpCode::ConvBackward => integer,
            OpCode::DepthwiseBackward => integer || terms.two_factor.is_some(),
            _ => terms.dense.is_some(),
        };
        if refused { Err(KernelError::Terms(step.op)) } else { Ok(()) }
    }

    fn mirror(&self, memory: &mut CudaMemory, values: &[u8]) -> Result<(), KernelError> {
        let done = sums::mirror(&self.device, memory, values);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn collect(&self, memory: &mut CudaMemory, gradients: &mut [f32]) -> Result<(), KernelError> {
        let done = sums::collect(&self.device, memory, gradients);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn forget(&self, memory: &mut CudaMemory) {
        memory.forget(&self.device);
    }

    fn begin(
        &self,
        memory: &mut CudaMemory,
        steps: Range<usize>,
        sources: usize,
    ) -> Result<Replay, KernelError> {
        let slots = steps.len().saturating_mul(sources);
        let key = (steps.start, steps.end, sources);
        memory.clear_transients(&self.device).map_err(|error| failed(memory, OpCode::Copy, error))?;
        memory.entry = None;
        if let Some(index) = memory.recordings.iter().position(|recording| recording.key == key) {
            if let Some(recording) = memory.recordings.get_mut(index) {
                recording.rewind();
            }
            memory.mode = Mode::Ready(index);
            return Ok(Replay::Ready);
        }
        let begun = Recording::new(&self.device, key, slots).and_then(|recording| {
            memory.recordings.push(recording);
            Ok(self.device.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?)
        });
        begun.map_err(|error| failed(memory, OpCode::Copy, error))?;
        memory.mode = Mode::Recording(memory.recordings.len().saturating_sub(1));
        Ok(Replay::Record)
    }

    fn update(&self, memory: &mut CudaMemory, step: OpCode, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        let (Mode::Recording(index) | Mode::Ready(index)) = memory.mode else { return Ok(()) };
        // An int8 weight takes integer terms elsewhere: attaching did not refuse them.
        let real = step == OpCode::DynamicConv;
        let refused = if real { check_float_terms(step, &terms) } else { Ok(()) };
        let entry = refused.and_then(|()| {
            let entry = Terms::new(terms, &mut |bytes| place(&self.device, memory, bytes));
            entry.map_err(|error| failed(memory, step, error))
        });
        if let (Err(_), Mode::Recording(index)) = (&entry, memory.mode) {
            self.abandon(memory, index);
        }
        let entry = entry?;
        memory.entry = memory.recordings.get_mut(index).map(|recording| recording.push(entry));
        Ok(())
    }

    fn finish(&self, memory: &mut CudaMemory) -> Result<(), KernelError> {
        let (Mode::Recording(index) | Mode::Ready(index)) = memory.mode else { return Ok(()) };
        self.replay(memory, index).map_err(|error| failed(memory, OpCode::Copy, error))?;
        let watched = memory.recordings.get(index).is_some_and(|recording| recording.watched);
        if watched { self.check_indices(memory, OpCode::Gather) } else { Ok(()) }
    }
}
