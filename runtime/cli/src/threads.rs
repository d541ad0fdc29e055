//! `--threads`: one inference shared by several threads.

use ingraft_exec::Pool;
use ingraft_kernel::{Host, Job, MAX_WORKERS, Parallel, Workers};

use crate::CliError;

/// The option.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ThreadsArg {
    /// Threads that share every inference; results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS as i64))]
    pub(crate) threads: u16,
}

/// The calling thread alone, or a pool.
#[derive(Debug)]
pub(crate) struct Threads(Option<Pool>);

/// A target whose steps [`Threads`] share.
pub(crate) type Shared<'t> = Parallel<'t, Threads>;

impl Threads {
    /// As many threads as asked for.
    ///
    /// # Errors
    /// [`CliError::Threads`] when the operating system starts no more.
    pub(crate) fn new(arg: ThreadsArg) -> Result<Self, CliError> {
        let pool = (arg.threads > 1).then(|| Pool::new(arg.threads.into()).map_err(CliError::Threads));
        Ok(Self(pool.transpose()?))
    }

    /// `host` on these threads.
    pub(crate) fn share(&self, host: Host) -> Shared<'_> {
        Parallel::new(host, self)
    }

    /// Runs `work` where its steps are shared without waking anyone first.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0.as_ref().map_or(1, Workers::count)
    }

    fn run(&self, jobs: &mut [Job<'_>]) {
        match &self.0 {
            Some(pool) => pool.run(jobs),
            None => jobs.iter_mut().for_each(Job::run),
        }
    }
}
