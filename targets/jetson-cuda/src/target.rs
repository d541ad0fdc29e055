//! The target itself.

use core::ops::Range;
use core::time::Duration;

use cudarc::driver::PushKernelArg;
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::descent::Descent;
use ingraft_kernel::{
    Choice, Factors, Host, KernelError, OpCode, Replay, SiteGrads, SiteTerms, Sparse, SparseValues, Step,
    Target, TermsBytes,
};

use crate::device::Device;
use crate::image::Image;
use crate::launch::{Launch, place};
use crate::memory::{Mode, Priority, Recording};
use crate::params::MAX_LANES;
use crate::sums::{self, Placed, Sums};
use crate::terms::{ENTRY, Terms};
use crate::{CudaError, CudaMemory, Resident, Shared, descent, device, params, rows};

/// A GPU.
#[derive(Debug)]
pub struct Cuda {
    device: Device,
    halves: bool,
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
    /// How long making the context took.
    pub context: Duration,
    /// How long loading the kernels took, behind that.
    pub load: Duration,
}

impl Cuda {
    /// GPU `ordinal`, 0 for the only one.
    ///
    /// # Errors
    /// [`CudaError`]; among them [`CudaError::NoDriver`] on a machine without one.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        Self::with_image(ordinal, Image::find)
    }

    /// The same with the kernels that [`Self::open`] takes for a GPU without an image of its own: text (PTX) that the driver compiles,
    /// for about a minute the first time, and with `dp4a` in place of tensor cores.
    ///
    /// # Errors
    /// [`CudaError`].
    pub fn open_portable(ordinal: usize) -> Result<Self, CudaError> {
        Self::with_image(ordinal, Image::portable)
    }

    fn with_image(
        ordinal: usize,
        choose: fn((i32, i32)) -> Result<&'static Image, CudaError>,
    ) -> Result<Self, CudaError> {
        let cuda = Self { device: Device::open(ordinal, rows::KERNELS, choose)?, halves: false };
        cuda.check_records()?;
        Ok(cuda)
    }

    /// The same GPU as the target `cuda-fp16`: float convolutions, linear layers and products of two activations in f16, depthwise
    /// layers with weights in f16, within the bounds that `rows/half.rs` and `rows/product.rs` state. Never what a command takes by
    /// itself.
    ///
    /// # Errors
    /// [`CudaError::NoHalves`] where the kernels are compiled for less than compute capability 8.0.
    pub fn with_halves(self) -> Result<Self, CudaError> {
        let capability = self.device.image.capability;
        if capability < (8, 0) {
            Err(CudaError::NoHalves { capability })
        } else {
            Ok(Self { halves: true, ..self })
        }
    }

    /// Every row: its operator and its name.
    pub fn rows() -> impl Iterator<Item = (OpCode, &'static str)> {
        rows::ROWS.iter().map(|row| (row.op, row.name))
    }

    /// The rows that [`Self::with_halves`] puts before them.
    pub fn half_rows() -> impl Iterator<Item = (OpCode, &'static str)> {
        rows::HALVES.iter().map(|row| (row.op, row.name))
    }

    /// What it is.
    ///
    /// # Errors
    /// [`CudaError`] when the driver does not answer.
    pub fn info(&self) -> Result<Info, CudaError> {
        let context = self.device.copies.context();
        Ok(Info {
            name: context.name()?,
            capability: context.compute_capability()?,
            driver: device::driver()?,
            image: self.device.image.name,
            memory: context.total_mem()?,
            context: self.device.took[0],
            load: self.device.took[1],
        })
    }

    /// Memory for a session, of the size that `MemoryNeeds` says.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn allocate(&self, bytes: usize) -> Result<CudaMemory, CudaError> {
        CudaMemory::new(&self.device, bytes, 1, Priority::Equal)
    }

    /// The same for a session whose inferences go before all that is not allocated so: beside training on the same GPU.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn allocate_first(&self, bytes: usize) -> Result<CudaMemory, CudaError> {
        CudaMemory::new(&self.device, bytes, 1, Priority::First)
    }

    /// The same for `lanes` clips of a batch at once, from 1 to 16, each with activations of its own. One with packed weights
    /// ([`Self::with_halves`]), which stand beside the activations.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn allocate_lanes(&self, bytes: usize, lanes: usize) -> Result<CudaMemory, CudaError> {
        let most = if self.halves { 1 } else { MAX_LANES };
        CudaMemory::new(&self.device, bytes, lanes.min(most), Priority::Equal)
    }

    /// Brings a plan or an adapter to the GPU, to be used there in place.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn keep(&self, bytes: &[u8]) -> Result<Resident, CudaError> {
        Resident::new(&self.device, bytes)
    }

    /// Memory of `bytes` on the host of which the GPU has a copy, for `exec::Resident` and `exec::PatchedCopy`.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or another.
    pub fn share(&self, bytes: usize) -> Result<Shared, CudaError> {
        Shared::new(&self.device, bytes)
    }

    /// Waits until everything launched has run.
    ///
    /// # Errors
    /// [`CudaError`] of what failed meanwhile.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.device.streams.wait()
    }

    /// Brings weights that were written to the GPU.
    fn renew(&self, step: &Step<'_>, weights: &[u8]) -> Result<(), KernelError> {
        self.device.renew(weights).map_err(|_| KernelError::Device(step.op))
    }

    /// Whether host and image agree on the records that travel between them.
    fn check_records(&self) -> Result<(), CudaError> {
        let wanted = || {
            [ENTRY, descent::GROUP].into_iter().chain(
                params::SIZES.iter().chain(params::float::SIZES).chain(params::gradient::SIZES).copied(),
            )
        };
        let sizes = self.device.zeros(wanted().count() * 4)?;
        let record = self.device.address(&sizes);
        let function = self.device.function("record_sizes");
        let function =
            function.ok_or_else(|| CudaError::Driver("the image has no record_sizes".to_owned()))?;
        let config =
            cudarc::driver::LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        let mut arguments = self.device.copies.launch_builder(function);
        // SAFETY: one parameter, an address with room for all sizes.
        unsafe { arguments.arg(&record).launch(config) }?;
        let mut bytes = vec![0u8; sizes.len()];
        self.device.copies.memcpy_dtoh(&sizes, &mut bytes)?;
        self.device.copies.synchronize()?;
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
        let (_, row) = rows::of(step, self.halves)?;
        let run = (row.launch)(&mut Launch { device: &self.device, memory, step, terms, sums, accumulate });
        // Entries are this step's, whether its row looked at them or not.
        memory.lane.entries = None;
        if let (Err(_), Mode::Recording(index)) = (&run, memory.lane.mode) {
            self.abandon(memory, index);
        }
        run
    }

    /// [`KernelError::Index`] where an index led outside what it picks from.
    fn check_indices(&self, memory: &mut CudaMemory, op: OpCode) -> Result<(), KernelError> {
        match memory.lane.strayed() {
            Ok(false) => Ok(()),
            Ok(true) => Err(KernelError::Index(op)),
            Err(error) => Err(failed(memory, op, error)),
        }
    }

    /// Ends a recording that cannot be finished.
    fn abandon(&self, memory: &mut CudaMemory, index: usize) {
        // The stream leaves capture, whatever it says of the graph.
        let _ = self.device.streams.end(&memory.lane.stream);
        memory.lane.recordings.truncate(index);
        memory.lane.entries = None;
        memory.lane.mode = Mode::Steps;
    }

    /// Replays the recording of `index`, made just now or before.
    fn replay(&self, memory: &mut CudaMemory, index: usize) -> Result<(), CudaError> {
        if memory.lane.mode == Mode::Recording(index) {
            let graph = self.device.streams.end(&memory.lane.stream);
            memory.lane.mode = Mode::Steps;
            let recording = memory.lane.recordings.get_mut(index);
            match (graph, recording) {
                (Ok(graph), Some(recording)) => recording.graph = graph,
                (graph, _) => {
                    memory.lane.recordings.truncate(index);
                    graph?;
                }
            }
        }
        memory.lane.mode = Mode::Steps;
        let Some(recording) = memory.lane.recordings.get_mut(index) else { return Ok(()) };
        recording.upload(&memory.lane.stream)?;
        recording.graph.as_ref().map_or(Ok(()), |graph| Ok(graph.launch()?))
    }
}

/// Whether what changes the weight is an overlay that can be written into it.
fn overlays(terms: &SiteTerms<'_>) -> bool {
    terms.patched.is_none() && matches!(terms.sparse.map(|sparse| sparse.values), Some(SparseValues::I16(_)))
}

/// The step as the host has it: weight and bias as in the plan, and no kernel chosen.
fn plain<'s>(step: &Step<'s>) -> Step<'s> {
    let mut plain = *step;
    plain.choice = None;
    plain
}

fn failed(memory: &mut CudaMemory, op: OpCode, error: CudaError) -> KernelError {
    memory.failure = Some(error);
    KernelError::Device(op)
}

impl Target for Cuda {
    type Memory = CudaMemory;

    fn name(&self) -> &'static str {
        if self.halves { "cuda-fp16" } else { "cuda" }
    }

    fn capacity(&self, memory: &CudaMemory) -> usize {
        memory.len
    }

    fn write(&self, memory: &mut CudaMemory, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        memory.lane.clear_transients().ok()?;
        let mut part = memory.lane.bytes.try_slice_mut(offset..end)?;
        memory.lane.stream.memcpy_htod(bytes, &mut part).ok()
    }

    fn read(&self, memory: &CudaMemory, offset: usize, bytes: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        let part = memory.lane.bytes.try_slice(offset..end)?;
        // While a stream is recorded nothing is copied in it; `begin` waited for what is read meanwhile, records of bind.
        let records = matches!(memory.lane.mode, Mode::Recording(_));
        let stream = if records { &self.device.copies } else { &memory.lane.stream };
        stream.memcpy_dtoh(&part, bytes).ok()?;
        stream.synchronize().ok()
    }

    fn kernel_name(&self, step: &Step<'_>) -> Result<&'static str, KernelError> {
        rows::of(step, self.halves).map(|(_, row)| row.name)
    }

    fn choose(&self, step: &Step<'_>) -> Result<Choice, KernelError> {
        rows::of(step, self.halves).map(|(index, _)| Choice(index))
    }

    fn workspace_bytes(&self, step: &Step<'_>) -> usize {
        rows::of(step, self.halves).map_or(0, |(_, row)| (row.workspace)(step))
    }

    fn packed_bytes(&self, step: &Step<'_>) -> usize {
        rows::of(step, self.halves).map_or(0, |(_, row)| (row.packed)(step))
    }

    fn prepare(&self, memory: &mut CudaMemory, step: &Step<'_>) -> Result<(), KernelError> {
        let (_, row) = rows::of(step, self.halves)?;
        if step.packed.len == 0 {
            return Ok(());
        }
        let (terms, sums) = (SiteTerms::NONE, Sums::default());
        (row.pack)(&mut Launch { device: &self.device, memory, step, terms, sums, accumulate: 0 })
    }

    fn terms_bytes(&self, step: &Step<'_>, terms: &SiteTerms<'_>) -> TermsBytes {
        if overlays(terms) { Host::SCALAR.terms_bytes(&plain(step), terms) } else { TermsBytes::default() }
    }

    fn pack_terms(
        &self,
        step: &Step<'_>,
        terms: &SiteTerms<'_>,
        weights: &mut [u8],
        factors: &mut [u8],
    ) -> Result<(), KernelError> {
        if !overlays(terms) {
            return Ok(());
        }
        Host::SCALAR.pack_terms(&plain(step), terms, weights, factors)?;
        self.renew(step, weights)
    }

    fn patch(
        &self,
        step: &Step<'_>,
        weights: &mut [u8],
        overlay: &Sparse<'_>,
        log: &mut [u32],
    ) -> Result<usize, KernelError> {
        let used = Host::SCALAR.patch(&plain(step), weights, overlay, log)?;
        self.renew(step, weights).map(|()| used)
    }

    fn unpatch(&self, step: &Step<'_>, weights: &mut [u8], log: &[u32]) -> Result<(), KernelError> {
        Host::SCALAR.unpatch(&plain(step), weights, log)?;
        self.renew(step, weights)
    }

    fn run(&self, memory: &mut CudaMemory, step: &Step<'_>, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        self.launch(memory, step, terms, (Sums::default(), 0))?;
        if core::mem::take(&mut memory.lane.watched) { self.check_indices(memory, step.op) } else { Ok(()) }
    }

    fn run_backward(
        &self,
        memory: &mut CudaMemory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        memory.lane.ran |= memory.lane.number != 0;
        let placed = match Placed::new(&self.device, memory, grads) {
            Ok(placed) => placed,
            Err(error) => {
                if let Mode::Recording(index) = memory.lane.mode {
                    self.abandon(memory, index);
                }
                return Err(failed(memory, step.op, error));
            }
        };
        self.launch(memory, step, terms, (placed.sums, accumulate))?;
        placed.fetch(memory).map_err(|error| failed(memory, step.op, error))
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

    fn lanes(&self, memory: &CudaMemory) -> usize {
        memory.others.len().saturating_add(1)
    }

    fn select(&self, memory: &mut CudaMemory, lane: usize) -> Result<(), KernelError> {
        memory.select(lane).map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn join(&self, memory: &mut CudaMemory) -> Result<(), KernelError> {
        let done = sums::join(&self.device, memory);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn descends(&self) -> bool {
        true
    }

    fn squares(
        &self,
        memory: &mut CudaMemory,
        groups: &mut dyn Iterator<Item = (&[f32], f32)>,
        take: &mut dyn FnMut(f32),
    ) -> Result<(), KernelError> {
        let done = descent::squares(&self.device, memory, groups, take);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn descend(
        &self,
        memory: &mut CudaMemory,
        groups: &mut dyn Iterator<Item = Descent<'_>>,
    ) -> Result<(), KernelError> {
        let done = descent::descend(&self.device, memory, groups);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn recall(&self, memory: &mut CudaMemory, values: &mut [u8]) -> Result<(), KernelError> {
        let done = sums::recall(memory, values);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn deposit(&self, memory: &mut CudaMemory, gradients: &[f32]) -> Result<(), KernelError> {
        let done = sums::deposit(memory, gradients);
        done.map_err(|error| failed(memory, OpCode::Copy, error))
    }

    fn forget(&self, memory: &mut CudaMemory) {
        memory.forget();
    }

    fn begin(
        &self,
        memory: &mut CudaMemory,
        steps: Range<usize>,
        sources: usize,
    ) -> Result<Replay, KernelError> {
        let slots = steps.len().saturating_mul(sources);
        let key = (steps.start, steps.end, sources);
        memory.lane.clear_transients().map_err(|error| failed(memory, OpCode::Copy, error))?;
        if let Some(index) = memory.lane.recordings.iter().position(|recording| recording.key == key) {
            if let Some(recording) = memory.lane.recordings.get_mut(index) {
                recording.rewind();
            }
            memory.lane.mode = Mode::Ready(index);
            return Ok(Replay::Ready);
        }
        let begun = Recording::new(&self.device, key, slots).and_then(|recording| {
            memory.lane.stream.synchronize()?;
            self.device.streams.begin(&memory.lane.stream)?;
            memory.lane.recordings.push(recording);
            Ok(())
        });
        begun.map_err(|error| failed(memory, OpCode::Copy, error))?;
        memory.lane.mode = Mode::Recording(memory.lane.recordings.len().saturating_sub(1));
        Ok(Replay::Record)
    }

    fn update(&self, memory: &mut CudaMemory, step: OpCode, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        let (Mode::Recording(index) | Mode::Ready(index)) = memory.lane.mode else { return Ok(()) };
        // An int8 weight takes integer terms elsewhere: attaching did not refuse them.
        let real = step == OpCode::DynamicConv;
        let refused = if real { check_float_terms(step, &terms) } else { Ok(()) };
        let entry = refused.and_then(|()| {
            let entry = Terms::new(terms, &mut |bytes| place(&self.device, memory, bytes));
            entry.map_err(|error| failed(memory, step, error))
        });
        if let (Err(_), Mode::Recording(index)) = (&entry, memory.lane.mode) {
            self.abandon(memory, index);
        }
        let entry = entry?;
        let Some(recording) = memory.lane.recordings.get_mut(index) else { return Ok(()) };
        let address = recording.push(entry);
        // A recorded step knows where its entries lie: nothing is launched that would take them.
        if let Mode::Recording(_) = memory.lane.mode {
            let (first, count) = memory.lane.entries.unwrap_or((address, 0));
            memory.lane.entries = Some((first, count.saturating_add(1)));
        }
        Ok(())
    }

    fn takes_batch(&self, step: &Step<'_>) -> bool {
        // Masks of two samples may share a byte.
        matches!(step.op, OpCode::QConv | OpCode::QDepthwise) && step.outputs().len() == 1
    }

    fn finish(&self, memory: &mut CudaMemory) -> Result<(), KernelError> {
        let (Mode::Recording(index) | Mode::Ready(index)) = memory.lane.mode else { return Ok(()) };
        // A recording of backward steps does not say so: what did not add anything holds zeros.
        memory.lane.ran |= memory.lane.number != 0;
        self.replay(memory, index).map_err(|error| failed(memory, OpCode::Copy, error))?;
        let watched = memory.lane.recordings.get(index).is_some_and(|recording| recording.watched);
        if watched { self.check_indices(memory, OpCode::Gather) } else { Ok(()) }
    }
}
