//! From a step to a launch.

use cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg};
use ingraft_kernel::{KernelError, Operand, Place, SiteTerms, Step};
use ingraft_tensor::bytes::ALIGN;

use crate::CudaError;
use crate::device::Device;
use crate::memory::{CudaMemory, Lane, Mode};
use crate::sums::Sums;
use crate::terms::Terms;

/// A step about to be launched, with its memory.
pub(crate) struct Launch<'l, 's> {
    pub(crate) device: &'l Device,
    pub(crate) memory: &'l mut CudaMemory,
    pub(crate) step: &'l Step<'s>,
    pub(crate) terms: SiteTerms<'l>,
    /// Where gradients of the terms are added up.
    pub(crate) sums: Sums,
    /// Bit i adds to output i.
    pub(crate) accumulate: u32,
}

/// Families of kernels that read weights before they wait for the kernel they follow, and how many operands behind the first:
/// range and zero point of a dynamic layer are the kernel's before.
const EARLY: [(&str, usize); 7] = [
    ("qconv_", usize::MAX),
    ("qdepthwise_", usize::MAX),
    ("conv_f32_", usize::MAX),
    ("conv_f16_", usize::MAX),
    ("depthwise_f32_", usize::MAX),
    ("depthwise_f16_", usize::MAX),
    ("dynamic_conv_", 4),
];
/// Threads of a block where one thread does an element.
const THREADS: u32 = 128;

impl Launch<'_, '_> {
    /// The device address of input `index`.
    pub(crate) fn input(&mut self, index: usize) -> Result<u64, KernelError> {
        let operand = self.step.input(index)?;
        self.address(&operand)
    }

    /// The device address of input `index`, 0 where the step has none.
    pub(crate) fn optional(&mut self, index: usize) -> Result<u64, KernelError> {
        if index < self.step.inputs().len() { self.input(index) } else { Ok(0) }
    }

    /// The device address of output `index`.
    pub(crate) fn output(&mut self, index: usize) -> Result<u64, KernelError> {
        let operand = self.step.output(index)?;
        self.address(&operand)
    }

    /// The device address of the step's scratch memory, whose size its row tells beforehand.
    pub(crate) fn workspace(&mut self) -> Result<u64, KernelError> {
        let span = self.step.workspace;
        self.memory.address(span.offset, span.len).ok_or(KernelError::Memory(self.step.op))
    }

    /// The device address of the step's weights as its row packed them at bind.
    pub(crate) fn packed(&mut self) -> Result<u64, KernelError> {
        let span = self.step.packed;
        self.memory.address(span.offset, span.len).ok_or(KernelError::Memory(self.step.op))
    }

    /// The device address of the word that a kernel sets where an index leads outside; with `watch`, it is looked at
    /// when this has run.
    pub(crate) fn status(&mut self, watch: bool) -> u64 {
        self.memory.lane.watch(watch);
        self.device.address(&self.memory.lane.status)
    }

    /// The device address of the straight-through mask; 0 where there is none.
    pub(crate) fn mask(&mut self) -> Result<u64, KernelError> {
        self.step.outputs().get(1).copied().map_or(Ok(0), |operand| self.address(&operand))
    }

    /// The address of `len` bytes to work in; the step's only such memory.
    pub(crate) fn scratch(&mut self, len: usize) -> Result<u64, KernelError> {
        self.memory.lane.scratch(self.device, len).map_err(|error| self.fail(error))
    }

    fn address(&mut self, operand: &Operand<'_>) -> Result<u64, KernelError> {
        match operand.place {
            Place::Memory(span) => {
                self.memory.address(span.offset, span.len).ok_or(KernelError::Memory(self.step.op))
            }
            Place::Plan(bytes) => {
                let address = place(self.device, self.memory, bytes);
                address.map_err(|error| self.fail(error))
            }
        }
    }

    /// Samples of the batch that have terms of their own, one behind the other from [`Self::terms`], which takes them.
    pub(crate) fn samples(&self) -> usize {
        self.memory.lane.entries.map_or(1, |(_, count)| count)
    }

    /// The device address of the entry with the step's terms; 0 where there are none.
    ///
    /// While recording it is the table's, which every replay reads anew.
    pub(crate) fn terms(&mut self) -> Result<u64, KernelError> {
        if let Mode::Recording(_) = self.memory.lane.mode {
            return Ok(self.memory.lane.entries.take().map_or(0, |(first, _)| first));
        }
        if self.terms.is_none() {
            return Ok(0);
        }
        let entry = Terms::new(self.terms, &mut |bytes| place(self.device, self.memory, bytes));
        let address = entry.and_then(|entry| place(self.device, self.memory, &entry.to_bytes()));
        address.map_err(|error| self.fail(error))
    }

    /// Launches `kernel` on a grid of blocks of `threads` threads.
    pub(crate) fn grid<P: DeviceRepr>(
        &mut self,
        kernel: &str,
        grid: (u32, u32, u32),
        threads: u32,
        record: &P,
    ) -> Result<(), KernelError> {
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        let function = self.device.function(kernel).ok_or(KernelError::Unsupported(self.step.op))?;
        let stream = &self.memory.lane.stream;
        let config = LaunchConfig { grid_dim: grid, block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        let launched = match (&self.device.chain, self.memory.lane.mode) {
            (Some(chain), Mode::Recording(_)) if self.may_overlap(kernel) => {
                // SAFETY: as below; every kernel waits for the one before, which a test reads in the sources.
                unsafe { chain.launch(stream, function, grid, threads, record) }
            }
            _ => {
                let mut arguments = stream.launch_builder(function);
                // SAFETY: the record is the kernel's one parameter (`Device` compares their sizes with the image's). Its
                // addresses lie in this session's memory, in resident files or in transients that live as long as the run;
                // the reference's check of the step, passed at bind, bounds what the kernel makes of its extents.
                unsafe { arguments.arg(record).launch(config) }.map(|_| ())
            }
        };
        launched.map_err(|error| self.fail(error.into()))
    }

    /// Whether `kernel` may begin before what it follows has ended: some read operands behind the first ahead of their wait, so
    /// these must be the plan's.
    fn may_overlap(&self, kernel: &str) -> bool {
        let constant = |operand: &Operand<'_>| matches!(operand.place, Place::Plan(_));
        let early = EARLY.iter().find(|(family, _)| kernel.starts_with(family));
        early.is_none_or(|(_, count)| self.step.inputs().iter().skip(1).take(*count).all(constant))
    }

    /// Launches `kernel` with a thread for each of `count` elements.
    pub(crate) fn elements<P: DeviceRepr>(
        &mut self,
        kernel: &str,
        count: usize,
        record: &P,
    ) -> Result<(), KernelError> {
        let blocks = u32::try_from(count.div_ceil(THREADS as usize));
        let blocks = blocks.map_err(|_| KernelError::Operands(self.step.op))?;
        self.grid(kernel, (blocks, 1, 1), THREADS, record)
    }

    fn fail(&mut self, error: CudaError) -> KernelError {
        self.memory.failure = Some(error);
        KernelError::Device(self.step.op)
    }
}

/// Launches `kernel`, which is no step's, in the lane's stream.
///
/// # Errors
/// [`CudaError`] of the driver.
pub(crate) fn launch_alone<P: DeviceRepr>(
    device: &Device,
    memory: &CudaMemory,
    kernel: &str,
    blocks: u32,
    threads: u32,
    record: &P,
) -> Result<(), CudaError> {
    if blocks == 0 {
        return Ok(());
    }
    let function = device.function(kernel);
    let function = function.ok_or_else(|| CudaError::Driver(format!("the image has no {kernel}")))?;
    let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
    let mut arguments = memory.lane.stream.launch_builder(function);
    // SAFETY: the record is the kernel's one parameter (`Device` compares their sizes with the image's). Its addresses lie in
    // slices that `memory` holds, with the counts beside them.
    unsafe { arguments.arg(record).launch(config) }?;
    Ok(())
}

/// The device address of `bytes`: where they are resident, else of a copy that lives as long as what reads it.
pub(crate) fn place(device: &Device, memory: &mut CudaMemory, bytes: &[u8]) -> Result<u64, CudaError> {
    if bytes.is_empty() {
        return Ok(0);
    }
    if let Some(address) =
        memory.mirrored(device, bytes).or_else(|| device.find(bytes).filter(|at| at % ALIGN as u64 == 0))
    {
        return Ok(address);
    }
    let copy = device.copy_of(bytes)?;
    let address = device.address(&copy);
    let Lane { recordings, transients, mode, .. } = &mut memory.lane;
    let recording = match *mode {
        Mode::Recording(index) => recordings.get_mut(index),
        _ => None,
    };
    recording.map_or(transients, |recording| &mut recording.constants).push(copy);
    Ok(address)
}

/// `count` elements as the device counts them.
///
/// # Errors
/// [`KernelError::Operands`] beyond 31 bits.
pub(crate) fn int(step: &Step<'_>, count: usize) -> Result<i32, KernelError> {
    i32::try_from(count).map_err(|_| KernelError::Operands(step.op))
}
