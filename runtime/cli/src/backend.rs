//! What commands need of a target: memory of its own, and files where it reads them.

use core::fmt::Debug;

use ingraft_adapter::TermSource;
use ingraft_exec::{Session, Trace};
use ingraft_kernel::{Host, Target};
use serde::Serialize;

use crate::CliError;
use crate::aligned::AlignedBytes;
use crate::board::Board;
use crate::threads::Shared;

/// A device beside the processor.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    /// Its name.
    pub(crate) name: String,
    /// The CUDA that its driver knows, as in `12.6`.
    pub(crate) driver: String,
    /// The image of kernels in use.
    pub(crate) image: &'static str,
    /// Time of making the context in microseconds.
    pub(crate) context_us: f64,
    /// Time of loading the kernels, behind that.
    pub(crate) load_us: f64,
    /// The board that it is a part of; null elsewhere.
    pub(crate) board: Option<Board>,
}

/// A target with its memory.
pub(crate) trait Backend: Target + Debug + Sync + Sized {
    /// A session's memory, and what keeps it.
    type Store;
    /// A plan or adapter file where the target reads it.
    type Kept: AsRef<[u8]>;
    /// Memory of the host that the target reads what is packed of an adapter from.
    type Room;

    /// Memory for a session of so many bytes.
    ///
    /// # Errors
    /// [`CliError`] where there is no such room.
    fn store(&self, bytes: usize) -> Result<Self::Store, CliError>;

    /// The same for training, with room for `clips` of a batch at once, and how many it has room for.
    ///
    /// # Errors
    /// As [`Self::store`].
    fn store_clips(&self, bytes: usize, _clips: usize) -> Result<(Self::Store, usize), CliError> {
        Ok((self.store(bytes)?, 1))
    }

    /// The memory as sessions take it.
    fn memory(store: &mut Self::Store) -> &mut Self::Memory;

    /// Brings a file to where the target reads it in place.
    ///
    /// # Errors
    /// [`CliError`] where there is no room for it.
    fn keep(&self, file: AlignedBytes) -> Result<Self::Kept, CliError>;

    /// Room for so many bytes that are packed of an adapter.
    ///
    /// # Errors
    /// [`CliError`] where there is none.
    fn room(&self, bytes: usize) -> Result<Self::Room, CliError>;

    /// The room as it is written.
    fn packed(room: &mut Self::Room) -> &mut [u8];

    /// Starts one run of `session`; [`Self::wait`] ends it.
    ///
    /// # Errors
    /// [`CliError::Exec`].
    fn infer(
        &self,
        session: &mut Session<'_, '_, Self>,
        source: &(impl TermSource + Sync),
        trace: &mut (dyn Trace<Self::Memory> + Send),
    ) -> Result<(), CliError> {
        Ok(session.run_traced(core::slice::from_ref(source), trace)?)
    }

    /// Waits until everything started has run.
    ///
    /// # Errors
    /// [`CliError`] of what failed meanwhile.
    fn wait(&self) -> Result<(), CliError> {
        Ok(())
    }

    /// The device beside the processor, if it is one.
    fn device(&self) -> Option<Device> {
        None
    }
}

impl Backend for Shared<'_> {
    type Store = AlignedBytes;
    type Kept = AlignedBytes;
    type Room = AlignedBytes;

    fn store(&self, bytes: usize) -> Result<AlignedBytes, CliError> {
        Ok(AlignedBytes::zeroed(bytes))
    }

    fn memory(store: &mut AlignedBytes) -> &mut [u8] {
        store.as_mut_slice()
    }

    fn keep(&self, file: AlignedBytes) -> Result<AlignedBytes, CliError> {
        Ok(file)
    }

    fn room(&self, bytes: usize) -> Result<AlignedBytes, CliError> {
        Ok(AlignedBytes::zeroed(bytes))
    }

    fn packed(room: &mut AlignedBytes) -> &mut [u8] {
        room.as_mut_slice()
    }

    fn infer(
        &self,
        session: &mut Session<'_, '_, Self>,
        source: &(impl TermSource + Sync),
        trace: &mut (dyn Trace<[u8]> + Send),
    ) -> Result<(), CliError> {
        // Steps are shared without waking anyone first.
        let run = || session.run_traced(core::slice::from_ref(source), trace);
        Ok(self.workers().install(run)?)
    }
}

impl Backend for Host {
    type Store = AlignedBytes;
    type Kept = AlignedBytes;
    type Room = AlignedBytes;

    fn store(&self, bytes: usize) -> Result<AlignedBytes, CliError> {
        Ok(AlignedBytes::zeroed(bytes))
    }

    fn memory(store: &mut AlignedBytes) -> &mut [u8] {
        store.as_mut_slice()
    }

    fn keep(&self, file: AlignedBytes) -> Result<AlignedBytes, CliError> {
        Ok(file)
    }

    fn room(&self, bytes: usize) -> Result<AlignedBytes, CliError> {
        Ok(AlignedBytes::zeroed(bytes))
    }

    fn packed(room: &mut AlignedBytes) -> &mut [u8] {
        room.as_mut_slice()
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use core::time::Duration;
    use std::path::Path;

    use ingraft_jetson_cuda::{Cuda, CudaMemory, Resident, Shared};

    use super::{AlignedBytes, Backend, Board, CliError, Device, Target};

    /// Clips of a batch that are under way at once.
    const LANES: usize = 8;

    impl Backend for Cuda {
        type Store = CudaMemory;
        type Kept = Resident;
        type Room = Shared;

        fn store(&self, bytes: usize) -> Result<CudaMemory, CliError> {
            Ok(self.allocate(bytes)?)
        }

        fn store_clips(&self, bytes: usize, clips: usize) -> Result<(CudaMemory, usize), CliError> {
            let store = self.allocate_lanes(bytes, clips.clamp(1, LANES))?;
            let lanes = self.lanes(&store);
            Ok((store, lanes))
        }

        fn memory(store: &mut CudaMemory) -> &mut CudaMemory {
            store
        }

        fn keep(&self, file: AlignedBytes) -> Result<Resident, CliError> {
            Ok(Self::keep(self, file.as_slice())?)
        }

        fn room(&self, bytes: usize) -> Result<Shared, CliError> {
            Ok(self.share(bytes)?)
        }

        fn packed(room: &mut Shared) -> &mut [u8] {
            room.bytes_mut()
        }

        fn wait(&self) -> Result<(), CliError> {
            Ok(Self::wait(self)?)
        }

        fn device(&self) -> Option<Device> {
            let info = self.info().ok()?;
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            Some(Device {
                name: info.name,
                driver: format!("{}.{}", info.driver / 1000, info.driver % 1000 / 10),
                image: info.image,
                context_us: micros(info.context),
                load_us: micros(info.load),
                board: Board::read(Path::new("/")),
            })
        }
    }
}
