//! Gradients of terms: added up on the device, fetched once a step.

use cudarc::driver::CudaSlice;
use ingraft_kernel::SiteGrads;
use zerocopy::IntoBytes;

use crate::CudaError;
use crate::device::Device;
use crate::launch::launch_alone;
use crate::memory::{CudaMemory, Mode, Twin};
use crate::params::Lanes;

/// Device addresses of the sums of one site; 0 where none is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) sparse: u64,
    pub(crate) scale: u64,
    pub(crate) shift: u64,
    pub(crate) dense: u64,
}

impl Sums {
    /// Whether a gradient is wanted that depends on the layer's input.
    pub(crate) fn read_input(&self) -> bool {
        [self.down, self.up, self.sparse, self.scale, self.dense].iter().any(|sum| *sum != 0)
    }
}

/// The sums of one step: those that are collected, and copies of others, to be brought back when the step has run.
pub(crate) struct Placed<'g> {
    pub(crate) sums: Sums,
    copies: Vec<(CudaSlice<u8>, &'g mut [f32])>,
}

impl<'g> Placed<'g> {
    /// Finds where `grads` are added up.
    ///
    /// # Errors
    /// [`CudaError`] where there is no room for a copy, or a graph would name one.
    pub(crate) fn new(device: &Device, memory: &CudaMemory, grads: SiteGrads<'g>) -> Result<Self, CudaError> {
        let SiteGrads { down, up, sparse, scale, shift, dense } = grads;
        let mut copies = Vec::new();
        let mut place = |grad: Option<&'g mut [f32]>| {
            let Some(grad) = grad.filter(|grad| !grad.is_empty()) else { return Ok(0) };
            if let Some(address) = memory.summed(device, grad.as_bytes()) {
                return Ok(address);
            }
            if memory.lane.mode != Mode::Steps {
                return Err(CudaError::Driver("a recorded gradient is not collected".to_owned()));
            }
            let copy = device.copy_of(grad.as_bytes())?;
            let address = device.address(&copy);
            copies.push((copy, grad));
            Ok(address)
        };
        let sums = Sums {
            down: place(down)?,
            up: place(up)?,
            sparse: place(sparse)?,
            scale: place(scale)?,
            shift: place(shift)?,
            dense: place(dense)?,
        };
        Ok(Self { sums, copies })
    }

    /// Brings copies back.
    ///
    /// # Errors
    /// [`CudaError`] of what failed on the device.
    pub(crate) fn fetch(self, memory: &CudaMemory) -> Result<(), CudaError> {
        for (copy, grad) in self.copies {
            memory.lane.stream.memcpy_dtoh(&copy, grad.as_mut_bytes())?;
            memory.lane.stream.synchronize()?;
        }
        Ok(())
    }
}

/// Adds to `gradients` what was added up on the device, and begins anew; the first time, begins.
///
/// # Errors
/// [`CudaError`] of what failed on the device.
pub(crate) fn collect(
    device: &Device,
    memory: &mut CudaMemory,
    gradients: &mut [f32],
) -> Result<(), CudaError> {
    if gradients.is_empty() {
        return Ok(());
    }
    let Some(twin) = memory.sums.iter_mut().find(|twin| twin.is_of(gradients.as_bytes())) else {
        let zeros = || device.zeros(size_of_val(gradients));
        memory.sums.push(Twin::new(gradients.as_bytes(), zeros()?));
        for lane in &mut memory.others {
            lane.parts.push(zeros()?);
        }
        return Ok(());
    };
    let (stream, found) = (&memory.lane.stream, &mut memory.fetched);
    found.resize(gradients.len(), 0.0);
    stream.memcpy_dtoh(&twin.device, found.as_mut_bytes())?;
    stream.memset_zeros(&mut twin.device)?;
    stream.synchronize()?;
    gradients.iter_mut().zip(found).for_each(|(to, sum)| *to += *sum);
    Ok(())
}

/// Puts `gradients` in place of what was added up for them.
///
/// # Errors
/// [`CudaError`] of what failed on the device.
pub(crate) fn deposit(memory: &mut CudaMemory, gradients: &[f32]) -> Result<(), CudaError> {
    let twin = memory.sums.iter_mut().find(|twin| twin.is_of(gradients.as_bytes()));
    twin.map_or(Ok(()), |twin| Ok(memory.lane.stream.memcpy_htod(gradients.as_bytes(), &mut twin.device)?))
}

/// Copies `values` to the device, where terms that are parts of them are read from then on.
///
/// # Errors
/// [`CudaError`] where there is no room.
pub(crate) fn mirror(device: &Device, memory: &mut CudaMemory, values: &[u8]) -> Result<(), CudaError> {
    if values.is_empty() {
        return Ok(());
    }
    match memory.mirrors.iter_mut().find(|twin| twin.is_of(values)) {
        Some(twin) => memory.lane.stream.memcpy_htod(values, &mut twin.device)?,
        None => {
            let copy = device.copy_of(values)?;
            memory.mirrors.push(Twin::new(values, copy));
        }
    }
    memory.era = memory.era.wrapping_add(1);
    Ok(())
}

/// Copies `values` back.
///
/// # Errors
/// [`CudaError`] of what failed on the device, and for values that are not mirrored.
pub(crate) fn recall(memory: &CudaMemory, values: &mut [u8]) -> Result<(), CudaError> {
    if values.is_empty() {
        return Ok(());
    }
    let twin = memory.mirrors.iter().find(|twin| twin.is_of(values));
    let twin = twin.ok_or_else(|| CudaError::Driver("these values are not mirrored".to_owned()))?;
    memory.lane.stream.memcpy_dtoh(&twin.device, values)?;
    Ok(memory.lane.stream.synchronize()?)
}

/// Adds what lanes hold to the sums, in the order of lanes, and works in the first from then on.
///
/// # Errors
/// [`CudaError`] of what failed on the device.
pub(crate) fn join(device: &Device, memory: &mut CudaMemory) -> Result<(), CudaError> {
    memory.select(0)?;
    if !memory.others.iter().any(|lane| lane.ran) {
        return Ok(());
    }
    memory.others.sort_by_key(|lane| lane.number);
    for lane in memory.others.iter().filter(|lane| lane.ran) {
        memory.lane.stream.join(&lane.stream)?;
    }
    for (index, twin) in memory.sums.iter().enumerate() {
        let mut record = Lanes {
            sums: device.address(&twin.device),
            count: (twin.device.len() / 4) as i32,
            ..Lanes::default()
        };
        let ran = memory.others.iter().filter(|lane| lane.ran).filter_map(|lane| lane.parts.get(index));
        for (to, part) in record.parts.iter_mut().zip(ran) {
            *to = device.address(part);
            record.lanes += 1;
        }
        let blocks = (record.count as u32).div_ceil(THREADS);
        launch_alone(device, memory, "add_lanes", blocks, THREADS, &record)?;
    }
    memory.others.iter_mut().for_each(|lane| lane.ran = false);
    memory.era = memory.era.wrapping_add(1);
    Ok(())
}

/// Threads of a block.
const THREADS: u32 = 128;
