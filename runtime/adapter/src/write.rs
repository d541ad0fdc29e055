//! Writing an adapter file.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{Factors, NO_SITE, SiteDesc, SiteTerms, Sites, SparseValues};
use ingraft_tensor::{bytes, hash};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::record::{
    FORMAT_VERSION, HASH_END, HeadRecord, Header, Link, MAGIC, MAX_DIMS, MEMBER, NONE, ParameterRecord,
    SettingsRecord, Table, TermRecord, Text, kind,
};
use crate::{HeadView, ParameterType, Privacy};

/// One term to write, with owned storage. Shapes as in [`ingraft_kernel::terms`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TermSpec {
    /// f32 low-rank factors.
    TwoFactorF32 {
        /// Rank per group.
        rank: usize,
        /// `[groups · rank, row]`.
        down: Vec<f32>,
        /// `[out, rank]`.
        up: Vec<f32>,
    },
    /// int8 low-rank factors.
    TwoFactorI8 {
        /// Rank per group.
        rank: usize,
        /// `[groups · rank, row]`.
        down: Vec<i8>,
        /// `[out, rank]`.
        up: Vec<i8>,
        /// `[groups · rank]`.
        down_scale: Vec<f32>,
        /// `[out]`.
        up_scale: Vec<f32>,
    },
    /// Integer sparse deltas.
    SparseI16 {
        /// `[out + 1]`.
        indptr: Vec<u32>,
        /// `[nnz]`.
        indices: Vec<u16>,
        /// `[nnz]`.
        values: Vec<i16>,
    },
    /// Real sparse deltas.
    SparseF32 {
        /// `[out + 1]`.
        indptr: Vec<u32>,
        /// `[nnz]`.
        indices: Vec<u16>,
        /// `[nnz]`.
        values: Vec<f32>,
    },
    /// A whole int8 weight on the base's scales, used instead of the base's.
    FusedI8 {
        /// As the base's, in the layout of its kernel.
        weight: Vec<i8>,
        /// `[out]`, the input zero point folded in as in the base's.
        bias: Vec<i32>,
    },
    /// Scale and shift of the pre-activation value.
    Affine {
        /// `[out]`.
        scale: Vec<f32>,
        /// `[out]`.
        shift: Vec<f32>,
    },
}

impl TermSpec {
    /// The terms of a site as they are; a delta of every weight in real units, which only trainers have, is left out.
    pub fn of(terms: &SiteTerms<'_>) -> Vec<Self> {
        let factors = terms.two_factor.map(|term| match term.factors {
            Factors::F32 { down, up } => {
                Self::TwoFactorF32 { rank: term.rank, down: down.to_vec(), up: up.to_vec() }
            }
            Factors::I8 { down, up, down_scale, up_scale } => Self::TwoFactorI8 {
                rank: term.rank,
                down: down.to_vec(),
                up: up.to_vec(),
                down_scale: down_scale.to_vec(),
                up_scale: up_scale.to_vec(),
            },
        });
        let sparse = terms.sparse.map(|sparse| {
            let (indptr, indices) = (sparse.indptr.to_vec(), sparse.indices.to_vec());
            match sparse.values {
                SparseValues::F32(values) => Self::SparseF32 { indptr, indices, values: values.to_vec() },
                SparseValues::I16(values) => Self::SparseI16 { indptr, indices, values: values.to_vec() },
            }
        });
        let fused = terms
            .patched
            .map(|fused| Self::FusedI8 { weight: fused.weight.to_vec(), bias: fused.bias.to_vec() });
        let affine = terms
            .affine
            .map(|affine| Self::Affine { scale: affine.scale.to_vec(), shift: affine.shift.to_vec() });
        [factors, sparse, fused, affine].into_iter().flatten().collect()
    }
}

/// One of a method's own tensors, to write.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its name within the site: that of the published implementation where there is one.
    pub name: String,
    /// Its extents, at most [`MAX_DIMS`].
    pub dims: Vec<usize>,
    /// Its values, row by row. Written as f32 where that loses nothing, else as f64.
    pub values: Vec<f64>,
}

/// A head to write.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    /// Site whose output it reads; `None` for the input of the last linear layer.
    pub site: Option<u32>,
    /// Axes averaged ([`ingraft_kernel::head`]).
    pub pool: u32,
    /// `[classes, features]`.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// Class names.
    pub labels: Vec<String>,
    /// What turns logits into scores.
    pub link: Link,
}

impl HeadSpec {
    /// A head as it is.
    pub fn of(head: &HeadView<'_>) -> Self {
        let labels = head.labels.split('\n').map(str::to_string);
        Self {
            site: (head.site != NO_SITE).then_some(head.site),
            pool: head.pool,
            weight: head.weight.to_vec(),
            bias: head.bias.to_vec(),
            labels: if head.labels.is_empty() { Vec::new() } else { labels.collect() },
            link: head.link,
        }
    }
}

/// Facts of the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterFacts {
    /// Method name.
    pub method: String,
    /// What the method means by its parameters; 0 to say nothing.
    pub method_version: u32,
    /// Hyper-parameters.
    pub hyper: Vec<(String, String)>,
    /// Who made it, from what.
    pub provenance: String,
    /// How it was trained privately; `None` where it was not. For training alone to state.
    pub privacy: Option<Privacy>,
}

/// Collects the terms of an adapter for one base.
#[derive(Debug)]
pub struct AdapterBuilder {
    base: [u8; 32],
    index: Vec<u32>,
    pending: Vec<(u32, SiteShape, TermSpec)>,
    parameters: Vec<(u32, String, ParameterSpec)>,
    settings: Vec<(u32, String, String)>,
    members: Vec<(String, bool, Vec<u8>)>,
    head: Option<HeadSpec>,
    strings: String,
    blobs: Vec<u8>,
}

#[derive(Clone, Debug)]
struct SiteShape {
    name: String,
    out: usize,
    groups: usize,
    row: usize,
}

impl AdapterBuilder {
    /// An adapter without terms for `base`: the base itself.
    pub fn new(base: &dyn Sites) -> Self {
        Self {
            base: base.base_hash(),
            index: vec![NONE; base.site_count()],
            pending: Vec::new(),
            parameters: Vec::new(),
            settings: Vec::new(),
            members: Vec::new(),
            head: None,
            strings: String::new(),
            blobs: Vec::new(),
        }
    }

    /// Adds a term at site `index`, described by `site`.
    pub fn term(&mut self, index: usize, site: &SiteDesc<'_>, term: TermSpec) {
        let name = site.name.to_string();
        let shape = SiteShape { name, out: site.out, groups: site.groups, row: site.row() };
        self.pending.push((index as u32, shape, term));
    }

    /// Adds one of the method's own tensors at site `index`, called `site`.
    pub fn parameter(&mut self, index: usize, site: &str, parameter: ParameterSpec) {
        self.parameters.push((index as u32, site.to_string(), parameter));
    }

    /// States the hyper-parameters of site `index` that are not those of the whole adapter.
    pub fn site_settings(&mut self, index: usize, name: &str, hyper: &[(String, String)]) {
        self.settings.push((index as u32, name.to_string(), lines(hyper)));
    }

    /// Adds a member of a stack behind those there are: the file of an adapter of the same base, which the terms account for.
    pub fn member(&mut self, name: &str, frozen: bool, file: Vec<u8>) {
        self.members.push((name.to_string(), frozen, file));
    }

    /// Sets the head.
    pub fn head(&mut self, head: HeadSpec) {
        self.head = Some(head);
    }

    /// Lays the parts out and hashes them. [`crate::Adapter::attach`] is the judge
    /// of whether the result fits the base.
    pub fn finish(mut self, facts: &AdapterFacts) -> Vec<u8> {
        let mut header = Header::new_zeroed();
        header.magic = MAGIC;
        header.version = FORMAT_VERSION;
        header.base = self.base;
        header.method = self.text(&facts.method);
        header.method_version = facts.method_version;
        header.hyper = self.text(&lines(&facts.hyper));
        header.provenance = self.text(&facts.provenance);
        let mut pending = core::mem::take(&mut self.pending);
        pending.sort_by_key(|(site, _, term)| (*site, order(term)));
        let mut declared: Vec<Text> = Vec::new();
        let mut records = Vec::new();
        let mut last = NONE;
        for (site, shape, term) in &pending {
            let name = if *site == last {
                *declared.last().unwrap_or(&Text { offset: 0, len: 0 })
            } else {
                let name = self.text(&shape.name);
                if let Some(first) = self.index.get_mut(*site as usize) {
                    *first = records.len() as u32;
                }
                declared.push(name);
                name
            };
            last = *site;
            records.push(self.record(*site, shape, name, term));
        }
        header.head = self.head_record();
        header.privacy = facts.privacy.map_or(0, |privacy| self.blob(privacy.record().as_bytes()));
        let (parameters, settings) = (self.parameter_records(), self.settings_records());
        self.layout(header, &declared, &records, (&parameters, &settings))
    }

    fn layout(
        &self,
        mut header: Header,
        declared: &[Text],
        records: &[TermRecord],
        (parameters, settings): (&[ParameterRecord], &[SettingsRecord]),
    ) -> Vec<u8> {
        let mut out = vec![0u8; bytes::align_up(size_of::<Header>())];
        // Blobs follow the header, so that their offsets are known while records are made.
        out.extend_from_slice(&self.blobs);
        header.strings = append(&mut out, self.strings.as_bytes());
        header.declared = append(&mut out, declared);
        header.index = append(&mut out, &self.index);
        header.terms = append(&mut out, records);
        header.parameters = append(&mut out, parameters);
        header.site_settings = append(&mut out, settings);
        header.file_bytes = out.len() as u32;
        out[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        header.hash = hash::blake3(&out[HASH_END..]);
        out[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        out
    }

    fn record(&mut self, site: u32, shape: &SiteShape, name: Text, term: &TermSpec) -> TermRecord {
        let mut record = TermRecord::new_zeroed();
        record.site = site;
        record.name = name;
        record.out = shape.out as u32;
        record.groups = shape.groups as u32;
        record.row = shape.row as u32;
        match term {
            TermSpec::TwoFactorF32 { rank, down, up } => {
                record.kind = kind::TWO_FACTOR_F32;
                record.rank = *rank as u32;
                record.blobs = [self.blob(bytes::of(down)), self.blob(bytes::of(up)), 0, 0];
            }
            TermSpec::TwoFactorI8 { rank, down, up, down_scale, up_scale } => {
                record.kind = kind::TWO_FACTOR_I8;
                record.rank = *rank as u32;
                let (down, up) = (self.blob(bytes::of(down)), self.blob(bytes::of(up)));
                record.blobs = [down, up, self.blob(bytes::of(down_scale)), self.blob(bytes::of(up_scale))];
            }
            TermSpec::SparseI16 { indptr, indices, values } => {
                record.kind = kind::SPARSE_I16;
                self.sparse(&mut record, indptr, indices, bytes::of(values));
            }
            TermSpec::SparseF32 { indptr, indices, values } => {
                record.kind = kind::SPARSE_F32;
                self.sparse(&mut record, indptr, indices, bytes::of(values));
            }
            TermSpec::FusedI8 { weight, bias } => {
                record.kind = kind::FUSED_I8;
                record.blobs = [self.blob(bytes::of(weight)), self.blob(bytes::of(bias)), 0, 0];
            }
            TermSpec::Affine { scale, shift } => {
                record.kind = kind::AFFINE;
                record.blobs = [self.blob(bytes::of(scale)), self.blob(bytes::of(shift)), 0, 0];
            }
        }
        record
    }

    fn sparse(&mut self, record: &mut TermRecord, indptr: &[u32], indices: &[u16], values: &[u8]) {
        record.nnz = indices.len() as u32;
        let (indptr, indices) = (self.blob(bytes::of(indptr)), self.blob(bytes::of(indices)));
        record.blobs = [indptr, indices, self.blob(values), 0];
    }

    fn head_record(&mut self) -> HeadRecord {
        let mut record = HeadRecord::new_zeroed();
        if let Some(head) = self.head.take() {
            record.classes = head.bias.len() as u32;
            record.features = head.weight.len().checked_div(head.bias.len()).unwrap_or(0) as u32;
            record.site = head.site.unwrap_or(NO_SITE);
            record.pool = head.pool;
            record.link = head.link as u32;
            record.weight = self.blob(bytes::of(&head.weight));
            record.bias = self.blob(bytes::of(&head.bias));
            record.labels = self.text(&head.labels.join("\n"));
        }
        record
    }

    fn parameter_records(&mut self) -> Vec<ParameterRecord> {
        let mut pending = core::mem::take(&mut self.parameters);
        pending.sort_by(|(a, _, x), (b, _, y)| (a, &x.name).cmp(&(b, &y.name)));
        let mut last: Option<(u32, Text)> = None;
        let mut held: Vec<(&str, usize, u32)> = Vec::new();
        let mut records = Vec::with_capacity(pending.len());
        for (site, site_name, parameter) in &pending {
            let known = last.filter(|(known, _)| known == site).map(|(_, text)| text);
            let site_name = known.unwrap_or_else(|| self.text(site_name));
            last = Some((*site, site_name));
            let mut record = ParameterRecord::new_zeroed();
            let narrow: Vec<f32> = parameter.values.iter().map(|value| *value as f32).collect();
            let exact =
                narrow.iter().zip(&parameter.values).all(|(f, d)| f64::from(*f).to_bits() == d.to_bits());
            (record.site, record.site_name, record.name) = (*site, site_name, self.text(&parameter.name));
            let (dtype, data) = match exact {
                true => (ParameterType::F32, bytes::of(&narrow)),
                false => (ParameterType::F64, bytes::of(&parameter.values)),
            };
            record.dtype = dtype as u32;
            // What sites hold in common stands in the file once; each site's record leads there.
            let same = held.iter().find(|(name, len, at)| {
                *name == parameter.name && *len == data.len() && self.held(*at, *len) == Some(data)
            });
            record.blob = same.map(|(.., at)| *at).unwrap_or_else(|| self.blob(data));
            if same.is_none() {
                held.push((parameter.name.as_str(), data.len(), record.blob));
            }
            record.rank = parameter.dims.len().min(MAX_DIMS) as u32;
            record.dims.iter_mut().zip(&parameter.dims).for_each(|(to, dim)| *to = *dim as u32);
            records.push(record);
        }
        for (name, frozen, file) in core::mem::take(&mut self.members) {
            let mut record = ParameterRecord::new_zeroed();
            (record.site, record.dtype, record.rank) = (NONE, MEMBER, 2);
            (record.dims[0], record.dims[1]) = (file.len() as u32, u32::from(frozen));
            (record.name, record.blob) = (self.text(&name), self.blob(&file));
            records.push(record);
        }
        records
    }

    fn settings_records(&mut self) -> Vec<SettingsRecord> {
        let mut pending = core::mem::take(&mut self.settings);
        pending.sort();
        let record = |(site, name, hyper): &(u32, String, String)| {
            let mut record = SettingsRecord::new_zeroed();
            (record.site, record.name, record.hyper) = (*site, self.text(name), self.text(hyper));
            record
        };
        pending.iter().map(record).collect()
    }

    fn blob(&mut self, data: &[u8]) -> u32 {
        let offset = bytes::align_up(size_of::<Header>()) + self.blobs.len();
        self.blobs.extend_from_slice(data);
        self.blobs.resize(bytes::align_up(self.blobs.len()), 0);
        offset as u32
    }

    /// What was written at `offset`.
    fn held(&self, offset: u32, len: usize) -> Option<&[u8]> {
        let start = (offset as usize).checked_sub(bytes::align_up(size_of::<Header>()))?;
        self.blobs.get(start..start + len)
    }

    fn text(&mut self, text: &str) -> Text {
        let entry = Text { offset: self.strings.len() as u32, len: text.len() as u32 };
        self.strings.push_str(text);
        entry
    }
}

/// Hyper-parameters as the file has them.
fn lines(hyper: &[(String, String)]) -> String {
    let lines: Vec<String> = hyper.iter().map(|(k, v)| alloc::format!("{k}={v}")).collect();
    lines.join("\n")
}

fn order(term: &TermSpec) -> u32 {
    match term {
        TermSpec::TwoFactorF32 { .. } | TermSpec::TwoFactorI8 { .. } => 0,
        TermSpec::SparseI16 { .. } | TermSpec::SparseF32 { .. } => 1,
        TermSpec::Affine { .. } => 2,
        TermSpec::FusedI8 { .. } => 3,
    }
}

fn append<T: IntoBytes + Immutable>(out: &mut Vec<u8>, records: &[T]) -> Table {
    let table = Table { offset: out.len() as u32, count: records.len() as u32 };
    out.extend_from_slice(records.as_bytes());
    out.resize(bytes::align_up(out.len()), 0);
    table
}
