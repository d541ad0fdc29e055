/*
 * Ingraft for firmware in C: runs an int8 model with small adapters, and trains a head on the device.
 *
 * The way: ingraft_plan_open, ingraft_plan_describe, ingraft_session_bind, then ingraft_write_input, ingraft_run and
 * ingraft_read_output again and again; ingraft_attach and ingraft_switch between two runs. To learn: end the session,
 * bind a trainer in its memory, write what was learned, attach it.
 *
 * Nothing allocates, and nothing panics. Every function that can refuse gives a status; ingraft_status_text has a sentence
 * for each. Link with --gc-sections.
 *
 * Objects (ingraft_plan, ingraft_session, ingraft_adapter, ingraft_trainer) are opaque. The caller places them: static, or
 * anywhere else from the alignment of their type on, zeroed before the first call. An object must not be copied or moved:
 * it is refused with NOT_BOUND at another address. Memory, plans and adapters start at 16-byte boundaries.
 *
 * Pointers are checked for null and alignment. Beyond that every function takes the caller's word that a pointer leads to
 * as much memory as its type or the length beside it says, and that nobody else uses that memory during the call, nor the
 * object's own: no interrupt handler, no other thread or core. Different objects may be used at the same time. Under
 * "Safety", each function says what it reads and writes, and what must stay longer than the call.
 */


#ifndef INGRAFT_H
#define INGRAFT_H

/* Generated from the source by the package in header/: do not edit. */

#include <stddef.h>
#include <stdint.h>

// Words of a plan's storage.
#define INGRAFT_PLAN_WORDS 11

// Words of an adapter's storage.
#define INGRAFT_ADAPTER_WORDS 10

// Words of a session's storage.
#define INGRAFT_SESSION_WORDS 20

// Words of a trainer's storage.
#define INGRAFT_TRAINER_WORDS 68

// What a function says: that it did as asked, or the first reason why not.
//
// A refusal changes nothing but what the function says; the base keeps running.
enum ingraft_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    INGRAFT_STATUS_OK = 0,
    // A pointer is null.
    INGRAFT_STATUS_NULL = 1,
    // A pointer is not aligned for its type.
    INGRAFT_STATUS_MISALIGNED = 2,
    // A buffer is longer than the memory of the machine, or not as long as what it is for.
    INGRAFT_STATUS_LENGTH = 3,
    // The object was never bound, was ended, was copied elsewhere, or is of another kind.
    INGRAFT_STATUS_NOT_BOUND = 4,
    // A text is not UTF-8.
    INGRAFT_STATUS_NOT_UTF8 = 5,
    // A reason that this library has no number for.
    INGRAFT_STATUS_OTHER = 6,
    // The bytes do not begin as a plan does.
    INGRAFT_STATUS_PLAN_SIGNATURE = 16,
    // The plan is of another version of the format.
    INGRAFT_STATUS_PLAN_VERSION = 17,
    // The plan does not start at a 16-byte boundary.
    INGRAFT_STATUS_PLAN_MISALIGNED = 18,
    // The plan is cut short or has bytes behind it.
    INGRAFT_STATUS_PLAN_LENGTH = 19,
    // The plan was damaged.
    INGRAFT_STATUS_PLAN_HASH = 20,
    // A table of the plan lies outside of it.
    INGRAFT_STATUS_PLAN_RANGE = 21,
    // A record of the plan is invalid.
    INGRAFT_STATUS_PLAN_RECORD = 22,
    // The bytes do not begin as an adapter does.
    INGRAFT_STATUS_ADAPTER_SIGNATURE = 32,
    // The adapter is of another version of the format.
    INGRAFT_STATUS_ADAPTER_VERSION = 33,
    // The adapter does not start at a 16-byte boundary.
    INGRAFT_STATUS_ADAPTER_MISALIGNED = 34,
    // The adapter is cut short or has bytes behind it.
    INGRAFT_STATUS_ADAPTER_LENGTH = 35,
    // The adapter was damaged.
    INGRAFT_STATUS_ADAPTER_HASH = 36,
    // A record of the adapter is invalid.
    INGRAFT_STATUS_ADAPTER_RECORD = 37,
    // The adapter was made for another base.
    INGRAFT_STATUS_ADAPTER_BASE = 38,
    // The adapter acts at a site that the base does not have.
    INGRAFT_STATUS_ADAPTER_UNKNOWN_SITE = 39,
    // The adapter declares a site and has nothing for it.
    INGRAFT_STATUS_ADAPTER_MISSING_SITE = 40,
    // A site of the adapter appears twice or out of order.
    INGRAFT_STATUS_ADAPTER_DUPLICATE_SITE = 41,
    // A term has another shape than its site.
    INGRAFT_STATUS_ADAPTER_SHAPE = 42,
    // A site cannot take this kind of term.
    INGRAFT_STATUS_ADAPTER_KIND = 43,
    // A value of the adapter is not finite.
    INGRAFT_STATUS_ADAPTER_NOT_FINITE = 44,
    // Indices of a sparse term are out of order or range.
    INGRAFT_STATUS_ADAPTER_INDICES = 45,
    // A rank is zero or above the limit.
    INGRAFT_STATUS_ADAPTER_RANK = 46,
    // Sums of a whole weight could leave 32 bits.
    INGRAFT_STATUS_ADAPTER_ACCUMULATOR = 47,
    // The method's own tensors are malformed.
    INGRAFT_STATUS_ADAPTER_PARAMETERS = 48,
    // The head has another shape than what it reads.
    INGRAFT_STATUS_ADAPTER_HEAD_SHAPE = 49,
    // The head has more classes than the plan reserved room for.
    INGRAFT_STATUS_ADAPTER_HEAD_CLASSES = 50,
    // The memory is smaller than said beforehand, or does not start at a 16-byte boundary.
    INGRAFT_STATUS_MEMORY_TOO_SMALL = 64,
    // The plan has no schedule for training.
    INGRAFT_STATUS_NO_SCHEDULE = 65,
    // No kernel is linked for a step of the plan.
    INGRAFT_STATUS_STEP_UNSUPPORTED = 66,
    // A step has operands that its operator does not take.
    INGRAFT_STATUS_STEP_OPERANDS = 67,
    // A step reaches outside the memory.
    INGRAFT_STATUS_STEP_MEMORY = 68,
    // An input holds an index outside its axis.
    INGRAFT_STATUS_STEP_INDEX = 69,
    // A step cannot take a term of the adapter.
    INGRAFT_STATUS_STEP_TERMS = 70,
    // The device failed.
    INGRAFT_STATUS_STEP_DEVICE = 71,
    // There is no such input or output, or it has another length.
    INGRAFT_STATUS_IO = 72,
    // The plan runs more than one sample at a time.
    INGRAFT_STATUS_BATCH = 73,
    // The plan has no tensor that a head could read.
    INGRAFT_STATUS_NO_READOUT = 80,
    // The plan reserved room for fewer classes.
    INGRAFT_STATUS_TOO_MANY_CLASSES = 81,
    // More parameters than can be addressed.
    INGRAFT_STATUS_TOO_LARGE = 82,
    // The clip is not a whole number of inputs, or its features are not as many as the trainer's.
    INGRAFT_STATUS_CLIP = 83,
    // There is no such class.
    INGRAFT_STATUS_CLASS = 84,
    // Nothing was accumulated since the last step.
    INGRAFT_STATUS_NO_GRADIENTS = 85,
    // Gradients are not finite.
    INGRAFT_STATUS_DIVERGED = 86,
    // The room for the file of an adapter, or for its weights, is too small.
    INGRAFT_STATUS_ROOM_TOO_SMALL = 87,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ingraft_status ingraft_status;
#else
typedef uint32_t ingraft_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Room for a plan that was checked: opaque, placed by the caller, filled by `ingraft_plan_open`.
//
// It holds references alone, so it may be dropped at any time; it must not be copied elsewhere.
typedef struct ingraft_plan {
    uint64_t words[INGRAFT_PLAN_WORDS];
} ingraft_plan;

// What a plan needs and has.
typedef struct ingraft_plan_facts {
    // Bytes of memory for a session, exactly.
    size_t session_bytes;
    // Inputs.
    size_t inputs;
    // Outputs.
    size_t outputs;
    // Classes of a head, at most; 0 where the plan has no room for one.
    size_t head_classes;
    // Values that a head reads: the features of a clip.
    size_t features;
} ingraft_plan_facts;

// Room for an adapter that was checked: opaque, placed by the caller, filled by `ingraft_attach`.
//
// It holds references alone, so it may be dropped at any time; it must not be copied elsewhere.
typedef struct ingraft_adapter {
    uint64_t words[INGRAFT_ADAPTER_WORDS];
} ingraft_adapter;

// What an adapter has.
typedef struct ingraft_adapter_facts {
    // Classes of its head; 0 where it has none and the base's outputs stay.
    size_t classes;
    // Names of the classes, one per line, in the adapter's file: `labels_len` bytes and no zero byte behind them.
    const char *labels;
    // Bytes of `labels`.
    size_t labels_len;
} ingraft_adapter_facts;

// Room for a session: opaque, placed by the caller, filled by `ingraft_session_bind`.
//
// It must not be copied elsewhere.
typedef struct ingraft_session {
    uint64_t words[INGRAFT_SESSION_WORDS];
} ingraft_session;

// How a head is trained: softmax cross-entropy, by AdamW.
typedef struct ingraft_training {
    // Classes, at most the `head_classes` that `ingraft_plan_describe` tells.
    uint32_t classes;
    // Learning rate; 0.03 suits most heads.
    float rate;
    // Weight decay; 0.01 suits most heads. Not applied to biases.
    float weight_decay;
} ingraft_training;

// Room for a trainer: opaque, placed by the caller, filled by `ingraft_trainer_bind`.
//
// It must not be copied elsewhere.
typedef struct ingraft_trainer {
    uint64_t words[INGRAFT_TRAINER_WORDS];
} ingraft_trainer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A sentence for `status`, in English and ASCII: for a console or a log. It lies in flash and is never null.
const char *ingraft_status_text(uint32_t status);

// Checks a plan, once, in time linear in its bytes.
//
// `bytes` starts at a 16-byte boundary, in flash or elsewhere.
//
// Refuses with `PLAN_*`; the storage is then empty.
//
// # Safety
// `plan` is written. `bytes` is read, now and later: it stays, unchanged, while the plan or anything bound to it is used.
ingraft_status ingraft_plan_open(struct ingraft_plan *plan,
                                 const uint8_t *bytes,
                                 size_t len);

// What a plan needs and has, written to `facts`.
//
// Refuses with `STEP_*` where no kernel is linked for a step.
//
// # Safety
// `plan` is read, `facts` written.
ingraft_status ingraft_plan_describe(const struct ingraft_plan *plan, struct ingraft_plan_facts *facts);

// Bytes of input `index`, written to `bytes`.
//
// Refuses with `IO`.
//
// # Safety
// `plan` is read, `bytes` written.
ingraft_status ingraft_plan_input(const struct ingraft_plan *plan, size_t index, size_t *bytes);

// Bytes of output `index`, written to `bytes`.
//
// Refuses with `IO`.
//
// # Safety
// `plan` is read, `bytes` written.
ingraft_status ingraft_plan_output(const struct ingraft_plan *plan, size_t index, size_t *bytes);

// Checks an adapter against its base, once, in time linear in its bytes.
//
// `bytes` starts at a 16-byte boundary, in flash or elsewhere.
//
// Refuses with `ADAPTER_*`: `ingraft_adapter_refused` then names the site, where the reason is one.
//
// # Safety
// `adapter` is written, `plan` read. `bytes` is read, now and later: it stays, unchanged, while the adapter is used or
// a session acts with it.
ingraft_status ingraft_attach(struct ingraft_adapter *adapter,
                              const struct ingraft_plan *plan,
                              const uint8_t *bytes,
                              size_t len);

// Name of the site for which `ingraft_attach` refused this adapter: copied to `name` with a zero byte behind it, cut
// where it does not fit. An empty name where it was refused for no site, or not at all.
//
// # Safety
// `adapter` is read, `name` written for `room` bytes.
ingraft_status ingraft_adapter_refused(const struct ingraft_adapter *adapter,
                                       char *name,
                                       size_t room);

// What an adapter has, written to `facts`.
//
// # Safety
// `adapter` is read, `facts` written. `labels` points into the adapter's bytes.
ingraft_status ingraft_adapter_describe(const struct ingraft_adapter *adapter,
                                        struct ingraft_adapter_facts *facts);

// Binds a plan for inference: checks every step and lays out memory. The base is active.
//
// `memory` starts at a 16-byte boundary and has the `session_bytes` that `ingraft_plan_describe` tells.
//
// Refuses with `MEMORY_TOO_SMALL`, `STEP_*`; the storage is then empty.
//
// # Safety
// `session` is written, `plan` read and not needed afterwards. `memory` is the session's alone from now on, until the
// session is ended or not used any more: the caller neither reads nor writes it.
ingraft_status ingraft_session_bind(struct ingraft_session *session,
                                    const struct ingraft_plan *plan,
                                    uint8_t *memory,
                                    size_t len);

// Ends a session: its memory is the caller's again. Later calls with it are refused with `NOT_BOUND`.
//
// # Safety
// `session` is written.
ingraft_status ingraft_session_end(struct ingraft_session *session);

// Makes `adapter` act in the runs that follow, or the base where it is null. No weight is copied or changed, so it takes
// the same short time for every adapter, and going back to the base is exact.
//
// Refuses with `ADAPTER_BASE` where it was attached to another plan; what acted before then still does.
//
// # Safety
// `session` is written. `adapter` is null or read and not needed afterwards; the bytes that it was attached from are.
ingraft_status ingraft_switch(struct ingraft_session *session,
                              const struct ingraft_adapter *adapter);

// Copies `len` bytes into input `index`. To be done before every run: a run may use the memory of its inputs again.
//
// Refuses with `IO`.
//
// # Safety
// `session` and its memory are written, `bytes` is read.
ingraft_status ingraft_write_input(struct ingraft_session *session,
                                   size_t index,
                                   const uint8_t *bytes,
                                   size_t len);

// Runs one inference with the adapter that is active, or the base.
//
// An adapter with a head leaves out the model's own last layers: read `ingraft_read_logits` then.
//
// Refuses with `STEP_*`; the outputs are then of no meaning.
//
// # Safety
// `session` and its memory are written; bytes of the plan and of the active adapter are read.
ingraft_status ingraft_run(struct ingraft_session *session);

// Copies output `index` to `bytes`, which has `len`.
//
// Refuses with `IO`.
//
// # Safety
// `session` and its memory are read, `bytes` is written.
ingraft_status ingraft_read_output(const struct ingraft_session *session,
                                   size_t index,
                                   uint8_t *bytes,
                                   size_t len);

// Copies the first `classes` logits of the active adapter's head to `logits`.
//
// Refuses with `IO` where the plan has room for fewer.
//
// # Safety
// `session` and its memory are read, `logits` is written.
ingraft_status ingraft_read_logits(const struct ingraft_session *session, float *logits, size_t classes);

// Bytes of memory for a trainer, exactly, written to `memory_bytes`.
//
// Refuses with `NO_READOUT`, `BATCH`, `TOO_MANY_CLASSES`, `TOO_LARGE`, `STEP_*`.
//
// # Safety
// `plan` and `training` are read, `memory_bytes` is written.
ingraft_status ingraft_trainer_bytes(const struct ingraft_plan *plan,
                                     const struct ingraft_training *training,
                                     size_t *memory_bytes);

// Binds a plan for training a head, which starts at zero.
//
// `memory` starts at a 16-byte boundary and has as many bytes as `ingraft_trainer_bytes` tells; it may be that of a session
// that was ended.
//
// Refuses as `ingraft_trainer_bytes` and with `MEMORY_TOO_SMALL`; the storage is then empty.
//
// # Safety
// `trainer` is written; `plan` and `training` are read and not needed afterwards. `memory` is the trainer's alone from
// now on, until the trainer is ended or not used any more: the caller neither reads nor writes it.
ingraft_status ingraft_trainer_bind(struct ingraft_trainer *trainer,
                                    const struct ingraft_plan *plan,
                                    const struct ingraft_training *training,
                                    uint8_t *memory,
                                    size_t len);

// Ends a trainer: its memory is the caller's again. Later calls with it are refused with `NOT_BOUND`.
//
// # Safety
// `trainer` is written.
ingraft_status ingraft_trainer_end(struct ingraft_trainer *trainer);

// Runs the base over a clip and writes its features, to `features`, `count` values: as many as
// `ingraft_plan_describe` tells.
//
// `input` holds the inputs of the model one behind the other, once or, for a clip of several windows, several times; the
// features are then the mean. They stand for the clip from now on: it need not be run again.
//
// Refuses with `CLIP`, `LENGTH`, `STEP_*`.
//
// # Safety
// `trainer` and its memory are written, `input` is read, `features` is written.
ingraft_status ingraft_trainer_features(struct ingraft_trainer *trainer,
                                        const uint8_t *input,
                                        size_t len,
                                        float *features,
                                        size_t count);

// Takes the features of a clip into the statistics by which the head sees features: to be done once for every clip that
// will be learned from, before `ingraft_trainer_standardize`.
//
// Refuses with `CLIP`.
//
// # Safety
// `trainer` and its memory are written, `features` is read.
ingraft_status ingraft_trainer_observe(struct ingraft_trainer *trainer,
                                       const float *features,
                                       size_t count);

// Ends observation: from now on the head sees features with mean 0 and deviation 1 over the clips observed.
//
// # Safety
// `trainer` and its memory are written.
ingraft_status ingraft_trainer_standardize(struct ingraft_trainer *trainer);

// Adds the gradients of a clip of class `class`; its loss goes to `loss`, unless that is null.
//
// Refuses with `CLIP`, `CLASS`.
//
// # Safety
// `trainer` and its memory are written, `features` is read, `loss` is null or written.
ingraft_status ingraft_trainer_accumulate(struct ingraft_trainer *trainer,
                                          const float *features,
                                          size_t count,
                                          size_t class_,
                                          float *loss);

// Moves the head against the mean of the gradients that were added since the last step.
//
// Refuses with `NO_GRADIENTS`, and with `DIVERGED`, which leaves the head as it was.
//
// # Safety
// `trainer` and its memory are written.
ingraft_status ingraft_trainer_step(struct ingraft_trainer *trainer);

// Bytes of the head's file with these class names, written to `bytes`.
//
// Refuses with `NOT_UTF8`, `TOO_LARGE`.
//
// # Safety
// `trainer` and its memory are read, `bytes` is written. `labels` is null or a text with a zero byte behind it.
ingraft_status ingraft_trainer_file_bytes(const struct ingraft_trainer *trainer,
                                          const char *labels,
                                          size_t *bytes);

// Writes the head as an adapter to the front of `file`; its bytes go to `written`. To be attached where it lies, `file`
// starts at a 16-byte boundary.
//
// `labels` names the classes, one per line; null for no names. `room` takes `classes * (features + 1)` values while the
// file is written.
//
// Refuses with `ROOM_TOO_SMALL`, `NOT_UTF8`, `TOO_LARGE`; `file` then holds no adapter.
//
// # Safety
// `trainer` and its memory are read; `room`, `file` and `written` are written and do not overlap. `labels` is null or a
// text with a zero byte behind it.
ingraft_status ingraft_trainer_write(const struct ingraft_trainer *trainer,
                                     const char *labels,
                                     float *room,
                                     size_t room_count,
                                     uint8_t *file,
                                     size_t file_bytes,
                                     size_t *written);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* INGRAFT_H */
