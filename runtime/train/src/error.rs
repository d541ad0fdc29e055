//! Why training cannot start or go on.

use ingraft_adapter::SiteName;
use ingraft_exec::ExecError;

use crate::Unfit;

/// The first reason a trainer refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TrainError {
    /// The plan cannot be bound or run.
    Exec(ExecError),
    /// The memory is smaller than [`crate::Trainer::memory`] said, or not 16-byte aligned.
    MemoryTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Usable bytes supplied.
        supplied: usize,
    },
    /// The plan has no tensor such a head or loss could read.
    NoReadout,
    /// The tensor the loss looks at has no gradient in the plan.
    NoGradient,
    /// The plan runs more than one sample at a time.
    Batch(usize),
    /// The plan reserves less room for a head.
    HeadClasses {
        /// Classes asked for.
        wanted: u32,
        /// Classes reserved.
        reserved: u32,
    },
    /// The base has no such site.
    NoSuchSite(u32),
    /// Sites are not listed in ascending order.
    SiteOrder(u32),
    /// The training schedule does not reach down to this site, or its weight is of no trainable kind.
    NotTrainable(SiteName),
    /// The loss does not depend on this site: the head reads a tensor before it.
    Unreachable(SiteName),
    /// The method refuses a site.
    Unfit {
        /// The site.
        site: SiteName,
        /// The method's reason.
        reason: Unfit,
    },
    /// What is trained at this site cannot act beside what an adapter that stays as it is has there.
    Stacked(SiteName),
    /// Another learning rate was asked for factors that the method does not train as they are.
    NoFactors,
    /// The model's own logits are trained on, so there is no head to start.
    NoHead,
    /// Neither a head nor any site would be trained.
    NothingToTrain,
    /// More parameters than can be addressed.
    TooLarge,
    /// A clip is empty or not a whole number of patches, or was given in a form this trainer cannot use.
    Clip {
        /// Bytes of one patch, or values of one clip's features.
        unit: usize,
        /// Bytes or values given.
        given: usize,
    },
    /// The truth does not fit the logits.
    Truth {
        /// Number of logits.
        logits: usize,
    },
    /// A buffer has another length.
    Length {
        /// Length needed.
        needed: usize,
        /// Length given.
        given: usize,
    },
    /// A clip is being trained on; finish it first.
    Busy,
    /// There is nothing accumulated to step on.
    NoGradients,
    /// These bytes are no checkpoint, or not all of one.
    Damaged,
    /// The checkpoint is that of a run with another plan, method, choice of sites, optimizer or seed.
    OtherRun,
    /// Gradients are not finite; parameters were left as they are.
    Diverged,
}

impl core::fmt::Display for TrainError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exec(error) => error.fmt(f),
            Self::MemoryTooSmall { needed, supplied } => {
                write!(
                    f,
                    "the trainer needs {needed} bytes of 16-byte aligned memory, {supplied} were supplied"
                )
            }
            Self::NoReadout => {
                f.write_str("the plan has no such tensor to read; choose another site for the head")
            }
            Self::NoGradient => f.write_str(
                "the tensor the loss looks at has no gradient; recompile with a lower --train-from",
            ),
            Self::Batch(n) => write!(f, "the plan runs {n} samples at a time; compile it for one to train"),
            Self::HeadClasses { wanted, reserved } => write!(
                f,
                "a head of {wanted} classes does not fit, {reserved} are reserved; recompile with --head-classes"
            ),
            Self::NoSuchSite(index) => write!(f, "there is no site {index}"),
            Self::SiteOrder(index) => {
                write!(f, "site {index} is out of order; list sites in ascending order, each once")
            }
            Self::NotTrainable(site) => {
                let site = site.as_str();
                write!(f, "site {site}: not in the training schedule; recompile with --train-from {site}")
            }
            Self::Unreachable(site) => {
                let site = site.as_str();
                write!(f, "site {site}: the loss does not depend on it; leave it out or read a later tensor")
            }
            Self::Unfit { site, reason } => write!(f, "site {}: {reason}", site.as_str()),
            Self::Stacked(site) => write!(
                f,
                "site {}: the frozen adapter has terms there that leave no room for those of this method; merge it into \
                 one weight first, choose other sites, or a method of another kind",
                site.as_str()
            ),
            Self::NoFactors => {
                f.write_str("the method trains no pair of factors as they are; leave their ratio of rates at 1")
            }
            Self::NoHead => f.write_str("there is no head to start at class means; train one, or leave them out"),
            Self::NothingToTrain => f.write_str("the method trains none of these sites and there is no head"),
            Self::TooLarge => f.write_str("more parameters than can be addressed"),
            Self::Clip { unit, given } => {
                write!(f, "a clip of {given} is not a whole number of patches of {unit}")
            }
            Self::Truth { logits } => write!(f, "the truth does not fit {logits} logits"),
            Self::Length { needed, given } => write!(f, "a buffer of {needed} is needed, {given} given"),
            Self::Busy => f.write_str("a clip is being trained on; finish it first"),
            Self::NoGradients => f.write_str("no clip was trained on since the last step"),
            Self::Damaged => f.write_str("the checkpoint is cut short or damaged; start anew without it"),
            Self::OtherRun => f.write_str(
                "the checkpoint is that of another run; resume with its plan, method, sites, optimizer and seed",
            ),
            Self::Diverged => f.write_str("gradients are not finite; lower the learning rate"),
        }
    }
}

impl core::error::Error for TrainError {}

impl From<ExecError> for TrainError {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}
