//! The records of an adapter file, byte for byte.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of every adapter.
pub const MAGIC: [u8; 8] = *b"INGRADPT";
/// The format this crate reads and writes.
pub const FORMAT_VERSION: u32 = 2;
/// Most dimensions of a parameter tensor.
pub const MAX_DIMS: usize = 6;

/// What turns a head's logits into scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Link {
    /// Softmax over classes: exactly one is true.
    Softmax = 0,
    /// A sigmoid per class: any number may be true.
    Sigmoid = 1,
    /// The logits themselves.
    Identity = 2,
}

impl Link {
    /// The link with file code `code`, or `None`.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Softmax),
            1 => Some(Self::Sigmoid),
            2 => Some(Self::Identity),
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
        base: [u8; 32],
        method: Text,
        /// Lines of `name=value`.
        hyper: Text,
        /// Free text: who made it from what.
        provenance: Text,
        strings: Table,
        /// Declared sites: a [`Text`] each.
        declared: Table,
        /// First term of each site of the base, or `u32::MAX`.
        index: Table,
        terms: Table,
        head: HeadRecord,
        /// What the method computed the terms from; nothing that runs an adapter reads these two.
        parameters: Table,
        site_settings: Table,
        /// Counts changes of what the method means by its parameters.
        method_version: u32,
        /// First byte of the [`PrivacyRecord`], or 0: not said to be private.
        privacy: u32,
    }

    /// How it was trained privately ([`crate::Privacy`]).
    struct PrivacyRecord {
        epsilon: f64,
        delta: f64,
        rate: f64,
        noise: f64,
        bound: f64,
        /// Code of [`crate::PrivacyUnit`].
        unit: u32,
        units: u32,
        steps: u32,
        runs: u32,
        reserved: u64,
    }

    /// One of a method's own tensors at a site, ascending by site.
    struct ParameterRecord {
        site: u32,
        /// Code of [`crate::ParameterType`], or [`MEMBER`].
        dtype: u32,
        name: Text,
        site_name: Text,
        rank: u32,
        dims: [u32; MAX_DIMS],
        blob: u32,
    }

    /// Hyper-parameters of one site where they are not those of the header, ascending by site.
    struct SettingsRecord {
        site: u32,
        reserved: u32,
        name: Text,
        /// Lines of `name=value`.
        hyper: Text,
    }

    /// One term. Meaning of `blobs` by kind: see [`kind`].
    struct TermRecord {
        site: u32,
        kind: u32,
        rank: u32,
        nnz: u32,
        /// The site's output channels, groups and row length; must be the base's.
        out: u32,
        groups: u32,
        row: u32,
        reserved: u32,
        name: Text,
        blobs: [u32; 4],
    }

    /// The head; absent when `classes` is 0.
    struct HeadRecord {
        classes: u32,
        features: u32,
        /// Site whose output it reads, or `u32::MAX` for the default features.
        site: u32,
        pool: u32,
        link: u32,
        weight: u32,
        bias: u32,
        reserved: u32,
        labels: Text,
    }
}

/// Codes of [`TermRecord::kind`].
pub(crate) mod kind {
    /// f32 factors; blobs: down, up.
    pub(crate) const TWO_FACTOR_F32: u32 = 1;
    /// int8 factors; blobs: down, up, down scale, up scale.
    pub(crate) const TWO_FACTOR_I8: u32 = 2;
    /// int16 deltas; blobs: indptr, indices, values.
    pub(crate) const SPARSE_I16: u32 = 3;
    /// f32 deltas; blobs: indptr, indices, values.
    pub(crate) const SPARSE_F32: u32 = 4;
    /// Scale and shift; blobs: scale, shift.
    pub(crate) const AFFINE: u32 = 5;
    /// A whole int8 weight and its folded bias in place of the base's; blobs: weight, bias.
    pub(crate) const FUSED_I8: u32 = 6;
    /// The highest code.
    pub(crate) const LAST: u32 = FUSED_I8;
}

/// [`ParameterRecord::dtype`] of a member of a stack, which stands behind all tensors: a whole adapter file. Its site is
/// [`NONE`], its two extents are the bytes of the file and whether it is frozen.
pub(crate) const MEMBER: u32 = 2;

/// "No term" in the index.
pub(crate) const NONE: u32 = u32::MAX;
/// Bytes of the header before the part the hash covers.
pub(crate) const HASH_END: usize = core::mem::offset_of!(Header, base);
