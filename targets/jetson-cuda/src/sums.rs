//! Gradients of terms: added up on the device, fetched once a step.

use cudarc::driver::CudaSlice;
use ingraft_kernel::SiteGrads;
use zerocopy::IntoBytes;

use crate::CudaError;
use crate::device::Device;
use crate::memory::{CudaMemory, Mode, Twin};

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
            if memory.mode != Mode::Steps {
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
    pub(crate) fn fetch(self, device: &Device) -> Result<(), CudaError> {
        for (copy, grad) in self.copies {
            device.stream.memcpy_dtoh(&copy, grad.as_mut_bytes())?;
            device.stream.synchronize()?;
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
        let sums = device.zeros(size_of_val(gradients))?;
        memory.sums.push(Twin::new(gradients.as_bytes(), sums));
        return Ok(());
    };
    let found = &mut memory.fetched;
    found.resize(gradients.len(), 0.0);
    device.stream.memcpy_dtoh(&twin.device, found.as_mut_bytes())?;
    device.stream.memset_zeros(&mut twin.device)?;
    device.stream.synchronize()?;
    gradients.iter_mut().zip(found).for_each(|(to, sum)| *to += *sum);
    Ok(())
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
        Some(twin) => device.stream.memcpy_htod(values, &mut twin.device)?,
        None => {
            let copy = device.copy_of(values)?;
            memory.mirrors.push(Twin::new(values, copy));
        }
    }
    Ok(())
}
