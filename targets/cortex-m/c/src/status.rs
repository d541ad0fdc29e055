//! The one enum of reasons.

use core::ffi::{CStr, c_char};

use ingraft_adapter::{AdapterError, EncodeError};
use ingraft_exec::ExecError;
use ingraft_kernel::KernelError;
use ingraft_plan::PlanError;
use ingraft_train::TrainError;

macro_rules! texts {
    ($($name:ident: $text:literal,)*) => {
        impl Status {
            /// Every status.
            const ALL: &[Self] = &[$(Self::$name),*];

            /// A sentence that says what is wrong and what to do.
            fn text(self) -> &'static CStr {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

/// What a function says: that it did as asked, or the first reason why not.
///
/// A refusal changes nothing but what the function says; the base keeps running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer is null.
    Null = 1,
    /// A pointer is not aligned for its type.
    Misaligned = 2,
    /// A buffer is longer than the memory of the machine, or not as long as what it is for.
    Length = 3,
    /// The object was never bound, was ended, was copied elsewhere, or is of another kind.
    NotBound = 4,
    /// A text is not UTF-8.
    NotUtf8 = 5,
    /// A reason that this library has no number for.
    Other = 6,

    /// The bytes do not begin as a plan does.
    PlanSignature = 16,
    /// The plan is of another version of the format.
    PlanVersion = 17,
    /// The plan does not start at a 16-byte boundary.
    PlanMisaligned = 18,
    /// The plan is cut short or has bytes behind it.
    PlanLength = 19,
    /// The plan was damaged.
    PlanHash = 20,
    /// A table of the plan lies outside of it.
    PlanRange = 21,
    /// A record of the plan is invalid.
    PlanRecord = 22,

    /// The bytes do not begin as an adapter does.
    AdapterSignature = 32,
    /// The adapter is of another version of the format.
    AdapterVersion = 33,
    /// The adapter does not start at a 16-byte boundary.
    AdapterMisaligned = 34,
    /// The adapter is cut short or has bytes behind it.
    AdapterLength = 35,
    /// The adapter was damaged.
    AdapterHash = 36,
    /// A record of the adapter is invalid.
    AdapterRecord = 37,
    /// The adapter was made for another base.
    AdapterBase = 38,
    /// The adapter acts at a site that the base does not have.
    AdapterUnknownSite = 39,
    /// The adapter declares a site and has nothing for it.
    AdapterMissingSite = 40,
    /// A site of the adapter appears twice or out of order.
    AdapterDuplicateSite = 41,
    /// A term has another shape than its site.
    AdapterShape = 42,
    /// A site cannot take this kind of term.
    AdapterKind = 43,
    /// A value of the adapter is not finite.
    AdapterNotFinite = 44,
    /// Indices of a sparse term are out of order or range.
    AdapterIndices = 45,
    /// A rank is zero or above the limit.
    AdapterRank = 46,
    /// Sums of a whole weight could leave 32 bits.
    AdapterAccumulator = 47,
    /// The method's own tensors are malformed.
    AdapterParameters = 48,
    /// The head has another shape than what it reads.
    AdapterHeadShape = 49,
    /// The head has more classes than the plan reserved room for.
    AdapterHeadClasses = 50,

    /// The memory is smaller than said beforehand, or does not start at a 16-byte boundary.
    MemoryTooSmall = 64,
    /// The plan has no schedule for training.
    NoSchedule = 65,
    /// No kernel is linked for a step of the plan.
    StepUnsupported = 66,
    /// A step has operands that its operator does not take.
    StepOperands = 67,
    /// A step reaches outside the memory.
    StepMemory = 68,
    /// An input holds an index outside its axis.
    StepIndex = 69,
    /// A step cannot take a term of the adapter.
    StepTerms = 70,
    /// The device failed.
    StepDevice = 71,
    /// There is no such input or output, or it has another length.
    Io = 72,
    /// The plan runs more than one sample at a time.
    Batch = 73,

    /// The plan has no tensor that a head could read.
    NoReadout = 80,
    /// The plan reserved room for fewer classes.
    TooManyClasses = 81,
    /// More parameters than can be addressed.
    TooLarge = 82,
    /// The clip is not a whole number of inputs, or its features are not as many as the trainer's.
    Clip = 83,
    /// There is no such class.
    Class = 84,
    /// Nothing was accumulated since the last step.
    NoGradients = 85,
    /// Gradients are not finite.
    Diverged = 86,
    /// The room for the file of an adapter, or for its weights, is too small.
    RoomTooSmall = 87,
}

texts! {
    Ok: c"done",
    Null: c"a pointer is null",
    Misaligned: c"a pointer is not aligned for its type",
    Length: c"a buffer has another length than what it is for",
    NotBound: c"the object was never bound, was ended, was copied elsewhere, or is of another kind",
    NotUtf8: c"a text is not UTF-8",
    Other: c"a reason that this library has no number for",
    PlanSignature: c"not a plan file; `ingraft compile` makes one from an ONNX model",
    PlanVersion: c"the plan's format is not supported; recompile the model",
    PlanMisaligned: c"plan bytes must start at a 16-byte boundary",
    PlanLength: c"the plan is truncated or has trailing bytes",
    PlanHash: c"the plan's content hash does not match; the file is damaged",
    PlanRange: c"a table of the plan reaches outside the file",
    PlanRecord: c"a record of the plan is invalid",
    AdapterSignature: c"not an adapter file",
    AdapterVersion: c"the adapter's format is not supported; export it again",
    AdapterMisaligned: c"adapter bytes must start at a 16-byte boundary",
    AdapterLength: c"the adapter is truncated or has trailing bytes",
    AdapterHash: c"the adapter's content hash does not match; the file is damaged",
    AdapterRecord: c"a record of the adapter is invalid",
    AdapterBase: c"the adapter belongs to another base",
    AdapterUnknownSite: c"the adapter names a site that this base or the adapter itself does not declare",
    AdapterMissingSite: c"the adapter declares a site but has no terms for it",
    AdapterDuplicateSite: c"a site of the adapter appears twice or out of order",
    AdapterShape: c"the shapes of a term do not fit its site",
    AdapterKind: c"a site cannot take this kind of term",
    AdapterNotFinite: c"a value of the adapter is not finite",
    AdapterIndices: c"indices of a sparse term are out of order or range",
    AdapterRank: c"a rank is zero or above the limit",
    AdapterAccumulator: c"sums of a whole weight could leave 32 bits",
    AdapterParameters: c"the method's own tensors are malformed, out of order or not finite",
    AdapterHeadShape: c"the head does not fit the tensor it reads",
    AdapterHeadClasses: c"the plan reserved room for fewer classes: compile it with --head-classes",
    MemoryTooSmall: c"more memory is needed, from a 16-byte boundary on; ask for its size first",
    NoSchedule: c"the plan has no training schedule; compile with --train-from",
    StepUnsupported: c"no kernel is linked for a step: build the library with INGRAFT_PLAN of this plan",
    StepOperands: c"operands of a step do not fit its attributes; recompile the plan",
    StepMemory: c"a step reaches outside the memory supplied",
    StepIndex: c"an input holds an index outside its axis; check the input values",
    StepTerms: c"a step cannot take a term of the adapter: build the library with the feature any-term",
    StepDevice: c"the device failed",
    Io: c"there is no such input or output, or it has another length",
    Batch: c"the plan runs more than one sample at a time; compile it for one",
    NoReadout: c"the plan has no tensor that a head could read",
    TooManyClasses: c"the plan reserved room for fewer classes: compile it with --head-classes",
    TooLarge: c"more parameters than can be addressed",
    Clip: c"a clip must be a whole number of inputs, features as many as the trainer's",
    Class: c"there is no such class",
    NoGradients: c"no clip was accumulated since the last step",
    Diverged: c"gradients are not finite; lower the learning rate",
    RoomTooSmall: c"the room for the adapter's file or for its weights is too small",
}

/// A sentence for `status`, in English and ASCII: for a console or a log. It lies in flash and is never null.
#[unsafe(no_mangle)]
pub extern "C" fn ingraft_status_text(status: u32) -> *const c_char {
    #[cfg(feature = "deliberate-panic")]
    assert!(status != 5, "on purpose");
    let known = Status::ALL.iter().find(|known| **known as u32 == status);
    known.map_or(c"this is no status of the library", |status| status.text()).as_ptr()
}

impl From<Result<(), Status>> for Status {
    fn from(result: Result<(), Status>) -> Self {
        result.err().unwrap_or(Self::Ok)
    }
}

impl From<PlanError> for Status {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::NotAPlan => Self::PlanSignature,
            PlanError::Version(_) => Self::PlanVersion,
            PlanError::Misaligned => Self::PlanMisaligned,
            PlanError::Length => Self::PlanLength,
            PlanError::Hash => Self::PlanHash,
            PlanError::Range(_) => Self::PlanRange,
            PlanError::Record(..) => Self::PlanRecord,
            _ => Self::Other,
        }
    }
}

impl From<AdapterError> for Status {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::NotAnAdapter => Self::AdapterSignature,
            AdapterError::Version(_) => Self::AdapterVersion,
            AdapterError::Misaligned => Self::AdapterMisaligned,
            AdapterError::Length => Self::AdapterLength,
            AdapterError::Hash => Self::AdapterHash,
            AdapterError::Record(_) => Self::AdapterRecord,
            AdapterError::WrongBase { .. } => Self::AdapterBase,
            AdapterError::UnknownSite(_) => Self::AdapterUnknownSite,
            AdapterError::MissingSite(_) => Self::AdapterMissingSite,
            AdapterError::DuplicateSite(_) => Self::AdapterDuplicateSite,
            AdapterError::Shape(_) => Self::AdapterShape,
            AdapterError::Kind(_) => Self::AdapterKind,
            AdapterError::NotFinite(_) => Self::AdapterNotFinite,
            AdapterError::Indices(_) => Self::AdapterIndices,
            AdapterError::Rank(_) => Self::AdapterRank,
            AdapterError::Accumulator(_) => Self::AdapterAccumulator,
            AdapterError::Parameters(_) => Self::AdapterParameters,
            AdapterError::HeadShape => Self::AdapterHeadShape,
            AdapterError::HeadClasses { .. } => Self::AdapterHeadClasses,
            _ => Self::Other,
        }
    }
}

impl From<ExecError> for Status {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::MemoryTooSmall { .. } => Self::MemoryTooSmall,
            ExecError::NoSchedule => Self::NoSchedule,
            ExecError::Step { error, .. } => match error {
                KernelError::Unsupported(_) => Self::StepUnsupported,
                KernelError::Operands(_) => Self::StepOperands,
                KernelError::Memory(_) => Self::StepMemory,
                KernelError::Index(_) => Self::StepIndex,
                KernelError::Terms(_) => Self::StepTerms,
                KernelError::Device(_) => Self::StepDevice,
                _ => Self::Other,
            },
            ExecError::Io { .. } => Self::Io,
            ExecError::Batch { .. } => Self::Batch,
            _ => Self::Other,
        }
    }
}

impl From<TrainError> for Status {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Exec(error) => error.into(),
            TrainError::MemoryTooSmall { .. } => Self::MemoryTooSmall,
            TrainError::NoReadout => Self::NoReadout,
            TrainError::Batch(_) => Self::Batch,
            TrainError::HeadClasses { .. } => Self::TooManyClasses,
            TrainError::TooLarge => Self::TooLarge,
            TrainError::Clip { .. } => Self::Clip,
            TrainError::Truth { .. } => Self::Class,
            TrainError::Length { .. } => Self::Length,
            TrainError::NoGradients => Self::NoGradients,
            TrainError::Diverged => Self::Diverged,
            // A head alone gives no others.
            _ => Self::Other,
        }
    }
}

impl From<EncodeError> for Status {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Memory { .. } => Self::RoomTooSmall,
            EncodeError::TooLarge => Self::TooLarge,
            _ => Self::Other,
        }
    }
}
