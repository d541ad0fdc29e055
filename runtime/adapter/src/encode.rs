//! Writing an adapter file into memory of the caller: for devices without a heap.

use ingraft_kernel::{Factors, SiteDesc, SiteTerms, Sites, SparseValues};
use ingraft_tensor::{bytes, hash};
use zerocopy::{FromZeros, IntoBytes};

use crate::record::{
    FORMAT_VERSION, HASH_END, HeadRecord, Header, MAGIC, NONE, Table, TermRecord, Text, kind,
};
use crate::{HeadView, SiteName, TermSource};

/// What an adapter file says beside its terms.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileFacts<'f> {
    /// Method name.
    pub method: &'f str,
    /// What the method means by its parameters; 0 to say nothing.
    pub method_version: u32,
    /// Hyper-parameters, lines of `name=value`.
    pub hyper: &'f str,
    /// Who made it, from what.
    pub provenance: &'f str,
}

/// Why terms cannot be written as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The memory is smaller than [`Encoder::file_bytes`] says.
    Memory {
        /// Bytes needed.
        needed: usize,
        /// Bytes supplied.
        supplied: usize,
    },
    /// A delta of every weight at this site has no place in a file: train fewer values, or export on a host.
    Dense(SiteName),
    /// The file would be longer than its 32-bit offsets reach.
    TooLarge,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Memory { needed, supplied } => {
                write!(f, "the adapter file takes {needed} bytes, {supplied} were supplied")
            }
            Self::Dense(site) => write!(
                f,
                "site {}: a delta of every weight is not written on a device; train factors or a sparse delta",
                site.as_str()
            ),
            Self::TooLarge => f.write_str("the adapter file would pass 4 GiB"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Writes what a [`TermSource`] says of a base as an adapter file: what a trainer learned, with its head.
///
/// Terms are written as they are: f32 factors of an int8 site stay f32. The bytes are those that
/// `AdapterBuilder` (feature `alloc`) writes of the same terms.
#[derive(Clone, Copy)]
pub struct Encoder<'e> {
    base: &'e dyn Sites,
    source: &'e dyn TermSource,
    facts: FileFacts<'e>,
}

// Not derived: what prints a source would be linked into devices.
impl core::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.facts.method)
    }
}

impl<'e> Encoder<'e> {
    /// The file of the terms and the head of `source` on the sites of `base`.
    pub fn new(base: &'e dyn Sites, source: &'e dyn TermSource, facts: FileFacts<'e>) -> Self {
        Self { base, source, facts }
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// [`EncodeError::Dense`], [`EncodeError::TooLarge`].
    pub fn file_bytes(&self) -> Result<usize, EncodeError> {
        self.layout().map(|layout| layout.end)
    }

    /// Writes the file to the front of `memory`; gives its bytes. To be attached they must start at a 16-byte boundary.
    ///
    /// # Errors
    /// [`EncodeError`]; `memory` then holds no file.
    pub fn write<'m>(&self, memory: &'m mut [u8]) -> Result<&'m [u8], EncodeError> {
        let layout = self.layout()?;
        let supplied = memory.len();
        let short = EncodeError::Memory { needed: layout.end, supplied };
        let file = memory.get_mut(..layout.end).ok_or(short)?;
        file.fill(0);
        self.fill(&layout, file).ok_or(EncodeError::TooLarge)?;
        let hash = hash::blake3(file.get(HASH_END..).unwrap_or(&[]));
        put(file, core::mem::offset_of!(Header, hash), &hash).ok_or(EncodeError::TooLarge)?;
        Ok(file)
    }

    /// The sites with terms, in order.
    fn sites(&self) -> impl Iterator<Item = (usize, SiteDesc<'e>, SiteTerms<'e>)> + use<'e> {
        let (base, source) = (self.base, self.source);
        let described = (0..base.site_count()).filter_map(move |index| Some((index, base.site(index)?)));
        described.map(move |(index, site)| (index, site, source.terms(index))).filter(|(_, _, terms)| {
            terms.dense.is_some() || terms_of(terms).into_iter().any(|term| term.is_some())
        })
    }

    fn layout(&self) -> Result<Layout, EncodeError> {
        let FileFacts { method, hyper, provenance, .. } = self.facts;
        let head = self.source.head();
        let (mut declared, mut terms, mut blobs) = (0usize, 0usize, 0usize);
        let mut strings =
            [method, hyper, provenance].iter().fold(0usize, |sum, s| sum.saturating_add(s.len()));
        let mut blob = |bytes: &[u8]| blobs = blobs.saturating_add(bytes::align_up(bytes.len()));
        for (_, site, at) in self.sites() {
            if at.dense.is_some() {
                return Err(EncodeError::Dense(SiteName::new(site.name)));
            }
            declared = declared.saturating_add(1);
            strings = strings.saturating_add(site.name.len());
            for term in terms_of(&at).into_iter().flatten() {
                terms = terms.saturating_add(1);
                term.blobs.into_iter().flatten().for_each(&mut blob);
            }
        }
        if let Some(head) = head {
            blob(bytes::of(head.weight));
            blob(bytes::of(head.bias));
            strings = strings.saturating_add(head.labels.len());
        }
        let first = bytes::align_up(size_of::<Header>());
        let mut end = first.saturating_add(blobs);
        let mut section = |count: usize, size: usize| {
            let offset = u32::try_from(end).ok()?;
            end = bytes::align_up(end.checked_add(count.checked_mul(size)?)?);
            Some(Table { offset, count: u32::try_from(count).ok()? })
        };
        let tables = (|| {
            let strings = section(strings, 1)?;
            let declared = section(declared, size_of::<Text>())?;
            let index = section(self.base.site_count(), size_of::<u32>())?;
            let terms = section(terms, size_of::<TermRecord>())?;
            Some([strings, declared, index, terms, section(0, 1)?])
        })();
        let [strings, declared, index, terms, empty] = tables.ok_or(EncodeError::TooLarge)?;
        u32::try_from(end).map_err(|_| EncodeError::TooLarge)?;
        Ok(Layout { blobs: first, strings, declared, index, terms, empty, end })
    }

    /// Everything but the hash; `None` where the source changed since its layout.
    fn fill(&self, layout: &Layout, file: &mut [u8]) -> Option<()> {
        let mut pool = Cursor { at: layout.blobs, first: 0 };
        let mut strings =
            Cursor { at: layout.strings.offset as usize, first: layout.strings.offset as usize };
        let mut header = Header::new_zeroed();
        (header.magic, header.version) = (MAGIC, FORMAT_VERSION);
        header.file_bytes = u32::try_from(layout.end).ok()?;
        header.base = self.base.base_hash();
        header.method = strings.text(file, self.facts.method)?;
        header.hyper = strings.text(file, self.facts.hyper)?;
        header.provenance = strings.text(file, self.facts.provenance)?;
        header.method_version = self.facts.method_version;
        (header.strings, header.declared, header.index) = (layout.strings, layout.declared, layout.index);
        (header.terms, header.parameters, header.site_settings) = (layout.terms, layout.empty, layout.empty);
        let index = layout.index.offset as usize;
        for site in 0..self.base.site_count() {
            put(file, index.checked_add(site.checked_mul(size_of::<u32>())?)?, NONE.as_bytes())?;
        }
        let (mut declared, mut records) = (layout.declared.offset as usize, layout.terms.offset as usize);
        let mut count = 0u32;
        for (at, site, terms) in self.sites() {
            let name = strings.text(file, site.name)?;
            put(file, declared, name.as_bytes())?;
            declared = declared.checked_add(size_of::<Text>())?;
            put(file, index.checked_add(at.checked_mul(size_of::<u32>())?)?, count.as_bytes())?;
            for term in terms_of(&terms).into_iter().flatten() {
                let record = term.record(file, &mut pool, (at, &site, name))?;
                put(file, records, record.as_bytes())?;
                records = records.checked_add(size_of::<TermRecord>())?;
                count = count.checked_add(1)?;
            }
        }
        if let Some(head) = self.source.head() {
            header.head = head_record(file, (&mut pool, &mut strings), &head)?;
        }
        put(file, 0, header.as_bytes())
    }
}

/// Where the parts of a file lie.
struct Layout {
    blobs: usize,
    strings: Table,
    declared: Table,
    index: Table,
    terms: Table,
    /// A table without records, at the end.
    empty: Table,
    end: usize,
}

/// Where the next bytes of a section go.
struct Cursor {
    at: usize,
    /// What texts count their offsets from.
    first: usize,
}

impl Cursor {
    fn blob(&mut self, file: &mut [u8], bytes: &[u8]) -> Option<u32> {
        put(file, self.at, bytes)?;
        let offset = u32::try_from(self.at).ok()?;
        self.at = self.at.checked_add(bytes::align_up(bytes.len()))?;
        Some(offset)
    }

    fn text(&mut self, file: &mut [u8], text: &str) -> Option<Text> {
        put(file, self.at, text.as_bytes())?;
        let offset = u32::try_from(self.at.checked_sub(self.first)?).ok()?;
        self.at = self.at.checked_add(text.len())?;
        Some(Text { offset, len: u32::try_from(text.len()).ok()? })
    }
}

/// One term as its record has it.
struct Term<'t> {
    kind: u32,
    rank: usize,
    nnz: usize,
    blobs: [Option<&'t [u8]>; 4],
}

impl Term<'_> {
    fn record(
        &self,
        file: &mut [u8],
        pool: &mut Cursor,
        (index, site, name): (usize, &SiteDesc<'_>, Text),
    ) -> Option<TermRecord> {
        let narrow = |value: usize| u32::try_from(value).ok();
        let mut record = TermRecord::new_zeroed();
        (record.site, record.kind, record.name) = (narrow(index)?, self.kind, name);
        (record.rank, record.nnz) = (narrow(self.rank)?, narrow(self.nnz)?);
        (record.out, record.groups, record.row) =
            (narrow(site.out)?, narrow(site.groups)?, narrow(site.row())?);
        for (offset, bytes) in record.blobs.iter_mut().zip(self.blobs) {
            if let Some(bytes) = bytes {
                *offset = pool.blob(file, bytes)?;
            }
        }
        Some(record)
    }
}

/// The terms of a site that a file holds, in the order of a file.
fn terms_of<'t>(terms: &SiteTerms<'t>) -> [Option<Term<'t>>; 4] {
    let two_factor = terms.two_factor.map(|term| match term.factors {
        Factors::F32 { down, up } => Term {
            kind: kind::TWO_FACTOR_F32,
            rank: term.rank,
            nnz: 0,
            blobs: [Some(bytes::of(down)), Some(bytes::of(up)), None, None],
        },
        Factors::I8 { down, up, down_scale, up_scale } => Term {
            kind: kind::TWO_FACTOR_I8,
            rank: term.rank,
            nnz: 0,
            blobs: [bytes::of(down), bytes::of(up), bytes::of(down_scale), bytes::of(up_scale)].map(Some),
        },
    });
    let sparse = terms.sparse.map(|sparse| {
        let (kind, values) = match sparse.values {
            SparseValues::I16(values) => (kind::SPARSE_I16, bytes::of(values)),
            SparseValues::F32(values) => (kind::SPARSE_F32, bytes::of(values)),
        };
        let blobs = [Some(bytes::of(sparse.indptr)), Some(bytes::of(sparse.indices)), Some(values), None];
        Term { kind, rank: 0, nnz: sparse.indices.len(), blobs }
    });
    let pair =
        |kind, first, second| Term { kind, rank: 0, nnz: 0, blobs: [Some(first), Some(second), None, None] };
    let affine = terms.affine.map(|term| pair(kind::AFFINE, bytes::of(term.scale), bytes::of(term.shift)));
    let fused = terms.patched.map(|term| pair(kind::FUSED_I8, bytes::of(term.weight), bytes::of(term.bias)));
    [two_factor, sparse, affine, fused]
}

fn head_record(
    file: &mut [u8],
    (pool, strings): (&mut Cursor, &mut Cursor),
    head: &HeadView<'_>,
) -> Option<HeadRecord> {
    let mut record = HeadRecord::new_zeroed();
    record.classes = u32::try_from(head.classes).ok()?;
    record.features = u32::try_from(head.weight.len().checked_div(head.classes)?).ok()?;
    (record.site, record.pool, record.link) = (head.site, head.pool, head.link as u32);
    record.weight = pool.blob(file, bytes::of(head.weight))?;
    record.bias = pool.blob(file, bytes::of(head.bias))?;
    record.labels = strings.text(file, head.labels)?;
    Some(record)
}

/// Copies `bytes` into `file` at `at`; `None` where they do not fit.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    let room = file.get_mut(at..at.checked_add(bytes.len())?)?;
    room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Some(())
}
