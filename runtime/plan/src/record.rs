//! The records of a plan file, byte for byte.

use ingraft_tensor::MAX_RANK;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of every plan.
pub const MAGIC: [u8; 8] = *b"INGRPLAN";
/// The format this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// "No index" in any record field that refers to a table.
pub const NONE: u32 = u32::MAX;
/// Words a front-end recipe takes in an input record.
pub const RECIPE_WORDS: usize = 24;

/// One of the two schedules a plan can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Inference.
    Infer,
    /// Forward with saved masks, then backward.
    Train,
}

/// Whether a model's end is an input or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A model input.
    Input,
    /// A model output.
    Output,
}

/// How the outputs of a clip's patches become the output of the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ClipRule {
    /// Mean over patches.
    Mean = 0,
    /// Maximum over patches.
    Max = 1,
}

impl ClipRule {
    /// The rule with file code `code`, or `None`.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Mean),
            1 => Some(Self::Max),
            _ => None,
        }
    }
}

macro_rules! records {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub(crate) struct $name { $($(#[$fdoc])* pub(crate) $field: $ty,)* }
        )*
    };
}

records! {
    /// A table: first byte and number of records.
    struct Table {
        offset: u32,
        count: u32,
    }

    /// A range of the string pool.
    struct Text {
        offset: u32,
        len: u32,
    }

    /// The start of the file. The hash covers every byte after itself.
    struct Header {
        magic: [u8; 8],
        version: u32,
        file_bytes: u32,
        hash: [u8; 32],
        tensors: Table,
        operands: Table,
        infer: Table,
        train: Table,
        sites: Table,
        io: Table,
        /// Attribute words; `count` in bytes.
        attrs: Table,
        /// String pool; `count` in bytes.
        strings: Table,
        /// Arena bytes per phase.
        arena_bytes: [u32; 2],
        /// Largest sum of simultaneously live tensors per phase.
        lower_bound_bytes: [u32; 2],
        /// Tensor a default head reads, per phase, and the step that produces it.
        features: [u32; 2],
        features_step: [u32; 2],
        /// Tensor holding the logits, per phase, and the step that produces it.
        logits: [u32; 2],
        logits_step: [u32; 2],
        /// First step of the training schedule that depends on a trained site;
        /// the steps before it may be cached.
        train_cut: u32,
        /// First backward step of the training schedule.
        train_backward: u32,
        head_classes: u32,
        reserved: u32,
        model_name: Text,
        /// Lines of `node<TAB>op<TAB>reason`: what stayed float.
        float_nodes: Text,
    }

    /// One tensor: in the arena or in the file.
    struct TensorRecord {
        dtype: u8,
        rank: u8,
        /// 0 arena, 1 file.
        storage: u8,
        /// 1 when `scale` and `zero_point` apply.
        quantized: u8,
        dims: [u32; MAX_RANK],
        offset: u32,
        scale: f32,
        zero_point: i32,
        /// Tensor holding the gradient, or [`NONE`].
        grad: u32,
        name: Text,
    }

    /// One step. Operands are tensor indices, inputs first.
    struct StepRecord {
        op: u16,
        inputs: u8,
        outputs: u8,
        operands: u32,
        attrs: u32,
        attrs_bytes: u32,
        /// Site whose terms act in this step, or [`NONE`].
        site: u32,
        /// For a backward step, the forward step it belongs to; else [`NONE`].
        forward: u32,
        name: Text,
    }

    /// One site.
    struct SiteRecord {
        name: Text,
        kind: u8,
        dtype: u8,
        transposed: u8,
        /// 1 when the site lies in the `late` part of the network.
        late: u8,
        out: u32,
        inputs: u32,
        kernel: [u32; 2],
        groups: u32,
        /// Step that applies it, per phase.
        step: [u32; 2],
        /// Tensor the step reads, per phase.
        input: [u32; 2],
        /// Tensor the step writes, per phase.
        output: [u32; 2],
        /// f32 `[out]` in the file with W_plan = diag(o)·W, or [`NONE`].
        out_diagonal: u32,
        /// f32 `[inputs]` in the file with W_plan = W·diag(i), or [`NONE`].
        in_diagonal: u32,
    }

    /// One input or output.
    struct IoRecord {
        name: Text,
        tensor: u32,
        /// 0 input, 1 output.
        role: u32,
        /// Newline-separated class names.
        labels: Text,
        /// Clip rule of an output.
        clip: u32,
        /// Samples between the patches of a clip; 0 for the recipe's own.
        hop: u32,
        /// Front-end recipe of an input: words used, then words.
        recipe_len: u32,
        recipe: [u32; RECIPE_WORDS],
        reserved: u32,
    }
}

impl Phase {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Infer => 0,
            Self::Train => 1,
        }
    }
}

/// Bytes of the header before the part the hash covers.
pub(crate) const HASH_END: usize = core::mem::offset_of!(Header, tensors);
