//! The streams of sessions, which several threads may use at once.
//!
//! The driver spoils a recording under way where another thread waits for the whole context, or for its stream. So who
//! waits, waits for recordings first, and none begins meanwhile.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use crate::CudaError;

/// The streams of all sessions of a GPU.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    all: Vec<Weak<CudaStream>>,
    /// Recordings under way.
    recording: usize,
}

impl Streams {
    /// Counts `stream` among them.
    pub(crate) fn add(&self, stream: &Arc<CudaStream>) {
        let mut state = self.lock();
        state.all.retain(|known| known.strong_count() != 0);
        state.all.push(Arc::downgrade(stream));
    }

    /// Begins to record `stream`; [`Self::end`] follows, on the same thread and without waiting before.
    ///
    /// # Errors
    /// [`CudaError`] of the driver; nothing is recorded then.
    pub(crate) fn begin(&self, stream: &Arc<CudaStream>) -> Result<(), CudaError> {
        let mut state = self.lock();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        state.recording = state.recording.saturating_add(1);
        Ok(())
    }

    /// Ends the recording of `stream`.
    ///
    /// # Errors
    /// [`CudaError`] of what could not be recorded.
    pub(crate) fn end(&self, stream: &Arc<CudaStream>) -> Result<Option<CudaGraph>, CudaError> {
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        let mut state = self.lock();
        state.recording = state.recording.saturating_sub(1);
        drop(state);
        self.ended.notify_all();
        Ok(graph?)
    }

    /// Waits for all that was launched.
    ///
    /// # Errors
    /// [`CudaError`] of what failed meanwhile.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        let state = self.ended.wait_while(self.lock(), |state| state.recording != 0);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.all.iter().filter_map(Weak::upgrade).try_for_each(|stream| Ok(stream.synchronize()?))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
