//! Threads of the operating system as workers.

extern crate std;

use ingraft_kernel::{Job, MAX_WORKERS, Workers};
use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Threads could not be started.
#[derive(Debug)]
pub struct ThreadsError(ThreadPoolBuildError);

impl core::fmt::Display for ThreadsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "threads cannot be started ({}); ask for fewer", self.0)
    }
}

impl core::error::Error for ThreadsError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A pool of threads that sessions share.
///
/// Nothing allocates while steps run. A thread that has found no work for a while sleeps, and waking it costs some
/// microseconds: run whole inferences inside [`Pool::install`], so that the calling thread is one of the pool's.
///
/// # Examples
///
/// ```
/// use ingraft_exec::Pool;
/// use ingraft_kernel::{Host, Parallel, Workers};
///
/// let pool = Pool::new(2).expect("threads can be started");
/// let target = Parallel::new(Host::SCALAR, &pool);
/// assert_eq!(pool.count(), 2);
/// # let _ = target;
/// ```
#[derive(Debug)]
pub struct Pool(ThreadPool);

impl Pool {
    /// A pool of `threads` threads, at least 1 and at most [`MAX_WORKERS`].
    ///
    /// # Errors
    /// [`ThreadsError`] when the operating system starts no more threads.
    pub fn new(threads: usize) -> Result<Self, ThreadsError> {
        let pool = ThreadPoolBuilder::new().num_threads(threads.clamp(1, MAX_WORKERS)).build();
        pool.map(Self).map_err(ThreadsError)
    }

    /// Runs `work` on a thread of the pool and waits for it.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    fn run(&self, jobs: &mut [Job<'_>]) {
        self.0.install(|| halve(jobs));
    }
}

/// Runs one half here and offers the other to whoever is free.
fn halve(jobs: &mut [Job<'_>]) {
    match jobs {
        [] => {}
        [job] => job.run(),
        _ => {
            let (left, right) = jobs.split_at_mut(jobs.len() / 2);
            rayon_core::join(|| halve(left), || halve(right));
        }
    }
}
