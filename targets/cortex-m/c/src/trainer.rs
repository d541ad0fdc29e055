//! Training a head on the device.

use core::ffi::c_char;

use ingraft_adapter::{Encoder, FileFacts, HeadView};
use ingraft_kernel::NO_SITE;
use ingraft_method::Head;
use ingraft_train::{
    AdamW, Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, TrainedHead, Trainer, Truth,
};

use crate::object::{self, Storage};
use crate::plan::{PlanStorage, TARGET};
use crate::pointer;
use crate::status::Status;

/// Room for a trainer: opaque, placed by the caller, filled by `ingraft_trainer_bind`.
///
/// It must not be copied elsewhere.
#[repr(C)]
pub struct TrainerStorage {
    words: [u64; TRAINER_WORDS],
}

/// Words of a trainer's storage.
pub const TRAINER_WORDS: usize = 68;

impl Storage for TrainerStorage {
    type Value = Trainer<'static, 'static>;
    const KIND: usize = 0x17d8_4ce3;
}

/// How a head is trained: softmax cross-entropy, by AdamW.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Training {
    /// Classes, at most the `head_classes` that `ingraft_plan_describe` tells.
    pub classes: u32,
    /// Learning rate; 0.03 suits most heads.
    pub rate: f32,
    /// Weight decay; 0.01 suits most heads. Not applied to biases.
    pub weight_decay: f32,
}

/// A head on the features of the last layer.
fn setup(training: &Training) -> Setup<'static> {
    Setup {
        method: &Head,
        sites: &[],
        readout: Readout::Head { site: NO_SITE, pool: 0, classes: training.classes },
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &AdamW::DEFAULT,
        adapter: LearningRate { rate: 0.0, weight_decay: 0.0 },
        head: LearningRate { rate: training.rate, weight_decay: training.weight_decay },
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        // A head starts at zero: nothing is drawn.
        seed: 0,
    }
}

/// Bytes of memory for a trainer, exactly, written to `memory_bytes`.
///
/// Refuses with `NO_READOUT`, `BATCH`, `TOO_MANY_CLASSES`, `TOO_LARGE`, `STEP_*`.
///
/// # Safety
/// `plan` and `training` are read, `memory_bytes` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_bytes(
    plan: *const PlanStorage,
    training: *const Training,
    memory_bytes: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    let (plan, training) = unsafe { (object::get(plan), pointer::read(training)) };
    let needed = plan.and_then(|plan| Ok(Trainer::memory(plan, &TARGET, &setup(&training?))?.total()));
    // SAFETY: the caller's word.
    needed.and_then(|needed| unsafe { pointer::write(memory_bytes, needed) }).into()
}

/// Binds a plan for training a head, which starts at zero.
///
/// `memory` starts at a 16-byte boundary and has as many bytes as `ingraft_trainer_bytes` tells; it may be that of a session
/// that was ended.
///
/// Refuses as `ingraft_trainer_bytes` and with `MEMORY_TOO_SMALL`; the storage is then empty.
///
/// # Safety
/// `trainer` is written; `plan` and `training` are read and not needed afterwards. `memory` is the trainer's alone from
/// now on, until the trainer is ended or not used any more: the caller neither reads nor writes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_bind(
    trainer: *mut TrainerStorage,
    plan: *const PlanStorage,
    training: *const Training,
    memory: *mut u8,
    len: usize,
) -> Status {
    // SAFETY: the caller's word, as the header states it: memory that is the trainer's from now on.
    let bound = unsafe {
        object::put(trainer, || {
            let (plan, training) = (*object::get(plan)?, pointer::read(training)?);
            Ok(Trainer::bind(plan, &TARGET, setup(&training), pointer::slice_mut(memory, len)?)?)
        })
    };
    bound.into()
}

/// Ends a trainer: its memory is the caller's again. Later calls with it are refused with `NOT_BOUND`.
///
/// # Safety
/// `trainer` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_end(trainer: *mut TrainerStorage) -> Status {
    // SAFETY: the caller's word.
    unsafe { object::get(trainer).and_then(|_| object::clear(trainer)) }.into()
}

/// Runs the base over a clip and writes its features, to `features`, `count` values: as many as
/// `ingraft_plan_describe` tells.
///
/// `input` holds the inputs of the model one behind the other, once or, for a clip of several windows, several times; the
/// features are then the mean. They stand for the clip from now on: it need not be run again.
///
/// Refuses with `CLIP`, `LENGTH`, `STEP_*`.
///
/// # Safety
/// `trainer` and its memory are written, `input` is read, `features` is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_features(
    trainer: *mut TrainerStorage,
    input: *const u8,
    len: usize,
    features: *mut f32,
    count: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (trainer, input, features) = unsafe {
        (object::get_mut(trainer), pointer::slice(input, len), pointer::slice_mut(features, count))
    };
    trainer.and_then(|trainer| Ok(trainer.features(Clip::Inputs(input?), features?)?)).into()
}

/// Takes the features of a clip into the statistics by which the head sees features: to be done once for every clip that
/// will be learned from, before `ingraft_trainer_standardize`.
///
/// Refuses with `CLIP`.
///
/// # Safety
/// `trainer` and its memory are written, `features` is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_observe(
    trainer: *mut TrainerStorage,
    features: *const f32,
    count: usize,
) -> Status {
    // SAFETY: the caller's word.
    let (trainer, features) = unsafe { (object::get_mut(trainer), pointer::slice(features, count)) };
    trainer.and_then(|trainer| Ok(trainer.observe(Clip::Features(features?))?)).into()
}

/// Ends observation: from now on the head sees features with mean 0 and deviation 1 over the clips observed.
///
/// # Safety
/// `trainer` and its memory are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_standardize(trainer: *mut TrainerStorage) -> Status {
    // SAFETY: the caller's word.
    unsafe { object::get_mut(trainer) }.map(|trainer| trainer.standardize()).into()
}

/// Adds the gradients of a clip of class `class`; its loss goes to `loss`, unless that is null.
///
/// Refuses with `CLIP`, `CLASS`.
///
/// # Safety
/// `trainer` and its memory are written, `features` is read, `loss` is null or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_accumulate(
    trainer: *mut TrainerStorage,
    features: *const f32,
    count: usize,
    class: usize,
    loss: *mut f32,
) -> Status {
    // SAFETY: the caller's word.
    let (trainer, features) = unsafe { (object::get_mut(trainer), pointer::slice(features, count)) };
    let added =
        trainer.and_then(|trainer| Ok(trainer.accumulate(Clip::Features(features?), Truth::Class(class))?));
    // SAFETY: the caller's word.
    added.and_then(|value| unsafe { pointer::write_if(loss, value) }).into()
}

/// Moves the head against the mean of the gradients that were added since the last step.
///
/// Refuses with `NO_GRADIENTS`, and with `DIVERGED`, which leaves the head as it was.
///
/// # Safety
/// `trainer` and its memory are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_step(trainer: *mut TrainerStorage) -> Status {
    // SAFETY: the caller's word.
    unsafe { object::get_mut(trainer) }.and_then(|trainer| Ok(trainer.step()?)).map(drop).into()
}

/// Bytes of the head's file with these class names, written to `bytes`.
///
/// Refuses with `NOT_UTF8`, `TOO_LARGE`.
///
/// # Safety
/// `trainer` and its memory are read, `bytes` is written. `labels` is null or a text with a zero byte behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_file_bytes(
    trainer: *const TrainerStorage,
    labels: *const c_char,
    bytes: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    let (trainer, labels) = unsafe { (object::get(trainer), pointer::text(labels)) };
    let needed = trainer.and_then(|trainer| {
        let head = trainer.head().ok_or(Status::NoReadout)?;
        let view = view(trainer, &head, (head.weight, head.bias), labels?);
        Ok(Encoder::new(trainer.plan(), &view, FACTS).file_bytes()?)
    });
    // SAFETY: the caller's word.
    needed.and_then(|needed| unsafe { pointer::write(bytes, needed) }).into()
}

/// Writes the head as an adapter to the front of `file`; its bytes go to `written`. To be attached where it lies, `file`
/// starts at a 16-byte boundary.
///
/// `labels` names the classes, one per line; null for no names. `room` takes `classes * (features + 1)` values while the
/// file is written.
///
/// Refuses with `ROOM_TOO_SMALL`, `NOT_UTF8`, `TOO_LARGE`; `file` then holds no adapter.
///
/// # Safety
/// `trainer` and its memory are read; `room`, `file` and `written` are written and do not overlap. `labels` is null or a
/// text with a zero byte behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ingraft_trainer_write(
    trainer: *const TrainerStorage,
    labels: *const c_char,
    room: *mut f32,
    room_count: usize,
    file: *mut u8,
    file_bytes: usize,
    written: *mut usize,
) -> Status {
    // SAFETY: the caller's word.
    let (trainer, labels, room, file) = unsafe {
        let buffers = (pointer::slice_mut(room, room_count), pointer::slice_mut(file, file_bytes));
        (object::get(trainer), pointer::text(labels), buffers.0, buffers.1)
    };
    let len = trainer.and_then(|trainer| write(trainer, labels?, room?, file?));
    // SAFETY: the caller's word.
    len.and_then(|len| unsafe { pointer::write(written, len) }).into()
}

/// What the file says beside the head: the same as the firmware in Rust, so that the bytes are.
const FACTS: FileFacts<'static> =
    FileFacts { method: "head", method_version: 1, hyper: "", provenance: "trained on the device" };

fn write(
    trainer: &Trainer<'_, '_>,
    labels: &str,
    room: &mut [f32],
    file: &mut [u8],
) -> Result<usize, Status> {
    let head = trainer.head().ok_or(Status::NoReadout)?;
    let (weight, rest) = room.split_at_mut_checked(head.weight.len()).ok_or(Status::RoomTooSmall)?;
    let bias = rest.get_mut(..head.bias.len()).ok_or(Status::RoomTooSmall)?;
    head.fold(weight, bias).ok_or(Status::RoomTooSmall)?;
    let view = view(trainer, &head, (weight, bias), labels);
    Ok(Encoder::new(trainer.plan(), &view, FACTS).write(file)?.len())
}

fn view<'h>(
    trainer: &Trainer<'_, '_>,
    head: &TrainedHead<'_>,
    (weight, bias): (&'h [f32], &'h [f32]),
    labels: &'h str,
) -> HeadView<'h> {
    let link = trainer.setup().loss.link();
    HeadView { site: head.site, pool: head.pool, classes: bias.len(), weight, bias, labels, link }
}
