//! Checking an adapter against its base, once.

use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_kernel::{
    Affine, Factors, Patched, SiteDesc, SiteKind, SiteTerms, Sites, Sparse, SparseValues, TwoFactor,
};
use ingraft_tensor::bytes::{self, Plain};
use ingraft_tensor::{DType, hash};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::record::{
    FORMAT_VERSION, HASH_END, Header, Link, MAGIC, NONE, PrivacyRecord, Table, TermRecord, Text, kind,
};
use crate::{AdapterError, ParameterSection, Privacy, SiteName, TermSource, overlay};

/// An adapter file that was checked against a base: bound to it by content hash.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    index: &'a [u32],
    terms: &'a [TermRecord],
    strings: &'a str,
}

/// The head of an adapter: what replaces the last linear layer.
#[derive(Clone, Copy, Debug)]
pub struct HeadView<'a> {
    /// Site whose output it reads; [`ingraft_kernel::NO_SITE`] for the input of the last linear layer.
    pub site: u32,
    /// Axes averaged ([`ingraft_kernel::head`]).
    pub pool: u32,
    /// Number of classes.
    pub classes: usize,
    /// `[classes, features]`.
    pub weight: &'a [f32],
    /// `[classes]`.
    pub bias: &'a [f32],
    /// Class names, one per line.
    pub labels: &'a str,
    /// What turns logits into scores.
    pub link: Link,
}

impl<'a> Adapter<'a> {
    /// Checks `bytes` against `base`, in time linear in their number.
    ///
    /// # Errors
    /// The first [`AdapterError`] found; nothing is applied in part.
    pub fn attach(bytes: &'a [u8], base: &dyn Sites) -> Result<Self, AdapterError> {
        let adapter = Self::open(bytes)?;
        let (wanted, found) = (adapter.header.base, base.base_hash());
        if wanted != found {
            return Err(AdapterError::WrongBase { wanted: first4(&wanted), found: first4(&found) });
        }
        adapter.check_index(base)?;
        adapter.check_declared()?;
        for (i, term) in adapter.terms.iter().enumerate() {
            let site = base.site(term.site as usize).ok_or(AdapterError::Record(i as u32))?;
            adapter.check_term(i as u32, term, &site)?;
        }
        adapter.check_head(base)?;
        Ok(adapter)
    }

    /// Checks the container alone: signature, version, length, hash and tables.
    /// The result answers questions about the file but has not met a base.
    ///
    /// # Errors
    /// The first [`AdapterError`] found.
    pub fn open(bytes: &'a [u8]) -> Result<Self, AdapterError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(AdapterError::NotAnAdapter);
        }
        if bytes.as_ptr().align_offset(bytes::ALIGN) != 0 {
            return Err(AdapterError::Misaligned);
        }
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| AdapterError::Length)?;
        if header.version != FORMAT_VERSION {
            return Err(AdapterError::Version(header.version));
        }
        if header.file_bytes as usize != bytes.len() {
            return Err(AdapterError::Length);
        }
        let covered = bytes.get(HASH_END..).ok_or(AdapterError::Length)?;
        if hash::blake3(covered) != header.hash {
            return Err(AdapterError::Hash);
        }
        let strings = table(bytes, header.strings).ok_or(AdapterError::Record(NONE))?;
        privacy(bytes, header).ok_or(AdapterError::Privacy)?;
        Ok(Self {
            bytes,
            header,
            index: table(bytes, header.index).ok_or(AdapterError::Record(NONE))?,
            terms: table(bytes, header.terms).ok_or(AdapterError::Record(NONE))?,
            strings: core::str::from_utf8(strings).map_err(|_| AdapterError::Record(NONE))?,
        })
    }

    /// Content hash of this adapter.
    pub fn hash(&self) -> &'a [u8; 32] {
        &self.header.hash
    }

    /// Content hash of the base it belongs to.
    pub fn base_hash(&self) -> &'a [u8; 32] {
        &self.header.base
    }

    /// The method that made it.
    pub fn method(&self) -> &'a str {
        self.text(self.header.method)
    }

    /// Hyper-parameters, lines of `name=value`.
    pub fn hyper(&self) -> &'a str {
        self.text(self.header.hyper)
    }

    /// Who made it, from what.
    pub fn provenance(&self) -> &'a str {
        self.text(self.header.provenance)
    }

    /// How it was trained privately; `None` where it does not say that it was.
    pub fn privacy(&self) -> Option<Privacy> {
        privacy(self.bytes, self.header).flatten()
    }

    /// What the method means by its parameters, counted from 1; 0 where none was said.
    pub fn method_version(&self) -> u32 {
        self.header.method_version
    }

    /// The method's own tensors, checked now: whoever only runs an adapter never pays for them.
    ///
    /// # Errors
    /// [`AdapterError::Parameters`], or [`AdapterError::Record`] when the tables lie outside the file.
    pub fn parameters(&self) -> Result<ParameterSection<'a>, AdapterError> {
        let lost = AdapterError::Record(NONE);
        let tensors = table(self.bytes, self.header.parameters).ok_or(lost)?;
        let settings = table(self.bytes, self.header.site_settings).ok_or(lost)?;
        ParameterSection::new(self.bytes, self.strings, self.index.len(), tensors, settings)
    }

    /// Index and name of each site it acts on, and the terms there.
    pub fn site_terms(&self) -> impl Iterator<Item = (usize, &'a str, SiteTerms<'_>)> {
        let mut last = NONE;
        let first = move |term: &&TermRecord| core::mem::replace(&mut last, term.site) != term.site;
        self.terms
            .iter()
            .filter(first)
            .map(|term| (term.site as usize, self.text(term.name), self.terms(term.site as usize)))
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Names of the sites it acts on, in order.
    pub fn sites(&self) -> impl Iterator<Item = &'a str> + '_ {
        let mut last = NONE;
        self.terms.iter().filter_map(move |term| {
            let new = term.site != last;
            last = term.site;
            new.then(|| self.text(term.name))
        })
    }

    fn text(&self, text: Text) -> &'a str {
        let start = text.offset as usize;
        self.strings.get(start..start.saturating_add(text.len as usize)).unwrap_or("")
    }

    fn blob<T: Plain>(&self, offset: u32, count: usize) -> Option<&'a [T]> {
        let start = offset as usize;
        let end = start.checked_add(count.checked_mul(size_of::<T>())?)?;
        bytes::cast(self.bytes.get(start..end)?)
    }

    fn declared(&self) -> &'a [Text] {
        table(self.bytes, self.header.declared).unwrap_or(&[])
    }

    /// The index must cover the base's sites and point at the first term of each.
    fn check_index(&self, base: &dyn Sites) -> Result<(), AdapterError> {
        let name_at = |i: usize| base.site(i).map_or(SiteName::new("?"), |s| SiteName::new(s.name));
        if self.index.len() != base.site_count() {
            let last = self.terms.last().map_or("?", |t| self.text(t.name));
            return Err(AdapterError::UnknownSite(SiteName::new(last)));
        }
        let mut last = None;
        for (i, term) in self.terms.iter().enumerate() {
            let name = SiteName::new(self.text(term.name));
            let site = base.site(term.site as usize).ok_or(AdapterError::UnknownSite(name))?;
            if site.name != self.text(term.name) {
                return Err(AdapterError::UnknownSite(name));
            }
            let key = (term.site, family(term.kind));
            if last.is_some_and(|l| l >= key) {
                return Err(AdapterError::DuplicateSite(name));
            }
            let first = last.is_none_or(|(s, _)| s != term.site);
            if first && self.index.get(term.site as usize) != Some(&(i as u32)) {
                return Err(AdapterError::Record(i as u32));
            }
            last = Some(key);
        }
        for (i, first) in self.index.iter().enumerate().filter(|(_, first)| **first != NONE) {
            let points = self.terms.get(*first as usize).is_some_and(|t| t.site as usize == i);
            points.then_some(()).ok_or(AdapterError::MissingSite(name_at(i)))?;
        }
        Ok(())
    }

    /// Declared sites and sites with terms must be the same, in the same order.
    fn check_declared(&self) -> Result<(), AdapterError> {
        let (mut declared, mut present) = (self.declared().iter().map(|t| self.text(*t)), self.sites());
        loop {
            match (declared.next(), present.next()) {
                (None, None) => return Ok(()),
                (Some(d), Some(p)) if d == p => {}
                (Some(d), _) => return Err(AdapterError::MissingSite(SiteName::new(d))),
                (None, Some(p)) => return Err(AdapterError::UnknownSite(SiteName::new(p))),
            }
        }
    }

    fn check_term(&self, index: u32, term: &TermRecord, site: &SiteDesc<'_>) -> Result<(), AdapterError> {
        let name = SiteName::new(site.name);
        let integer = matches!(term.kind, kind::TWO_FACTOR_I8 | kind::SPARSE_I16 | kind::FUSED_I8);
        let low_rank = matches!(term.kind, kind::TWO_FACTOR_I8 | kind::TWO_FACTOR_F32);
        let refused = (integer && site.dtype != DType::I8)
            || (low_rank && site.kind == SiteKind::Depthwise)
            || (site.kind.is_norm() && term.kind != kind::AFFINE)
            || (site.kind == SiteKind::Embedding
                && !matches!(term.kind, kind::TWO_FACTOR_F32 | kind::SPARSE_F32));
        if refused {
            return Err(AdapterError::Kind(name));
        }
        if low_rank && (term.rank == 0 || term.rank as usize > MAX_TERM_RANK) {
            return Err(AdapterError::Rank(name));
        }
        let mut terms = SiteTerms::NONE;
        self.read(term, site, &mut terms).ok_or(if term.kind > kind::LAST {
            AdapterError::Record(index)
        } else {
            AdapterError::Shape(name)
        })?;
        finite(&terms).then_some(()).ok_or(AdapterError::NotFinite(name))?;
        let bounded = terms.patched.is_none_or(|fused| sums_fit(site, &fused));
        bounded.then_some(()).ok_or(AdapterError::Accumulator(name))?;
        match terms.sparse {
            Some(sparse) => {
                overlay::ascends(&sparse, site.row()).then_some(()).ok_or(AdapterError::Indices(name))
            }
            None => Ok(()),
        }
    }

    fn check_head(&self, base: &dyn Sites) -> Result<(), AdapterError> {
        let head = &self.header.head;
        if head.classes == 0 {
            return Ok(());
        }
        let reserved = base.head_classes() as u32;
        if head.classes > reserved {
            return Err(AdapterError::HeadClasses { wanted: head.classes, reserved });
        }
        let features = base.head_features(head.site, head.pool).ok_or(AdapterError::HeadShape)?;
        let view = self.head().filter(|_| head.features as usize == features && head.pool <= 3);
        let view = view.ok_or(AdapterError::HeadShape)?;
        let finite = view.weight.iter().chain(view.bias).all(|v| v.is_finite());
        finite.then_some(()).ok_or(AdapterError::HeadShape)
    }

    /// Adds the term in `record` to `terms`; `None` when its blobs do not fit the site.
    fn read(&self, record: &TermRecord, site: &SiteDesc<'_>, terms: &mut SiteTerms<'a>) -> Option<()> {
        let shape = TermShape::of(record);
        let same = (shape.out, shape.groups, shape.row) == (site.out, site.groups, site.row());
        same.then_some(())?;
        self.read_shaped(record, shape, terms)
    }

    fn read_shaped(&self, record: &TermRecord, site: TermShape, terms: &mut SiteTerms<'a>) -> Option<()> {
        let [b0, b1, b2, b3] = record.blobs;
        let (rank, nnz) = (record.rank as usize, record.nnz as usize);
        let rows = site.groups.checked_mul(rank)?;
        let (down, up) = (rows.checked_mul(site.row)?, site.out.checked_mul(rank)?);
        let sparse = |values| {
            let (indptr, indices) = (self.blob(b0, site.out.checked_add(1)?)?, self.blob(b1, nnz)?);
            Some(Sparse { indptr, indices, values })
        };
        match record.kind {
            kind::TWO_FACTOR_F32 => {
                let factors = Factors::F32 { down: self.blob(b0, down)?, up: self.blob(b1, up)? };
                terms.two_factor = Some(TwoFactor { rank, factors });
            }
            kind::TWO_FACTOR_I8 => {
                let factors = Factors::I8 {
                    down: self.blob(b0, down)?,
                    up: self.blob(b1, up)?,
                    down_scale: self.blob(b2, rows)?,
                    up_scale: self.blob(b3, site.out)?,
                };
                terms.two_factor = Some(TwoFactor { rank, factors });
            }
            kind::SPARSE_I16 => terms.sparse = sparse(SparseValues::I16(self.blob(b2, nnz)?)),
            kind::SPARSE_F32 => terms.sparse = sparse(SparseValues::F32(self.blob(b2, nnz)?)),
            kind::AFFINE => {
                let (scale, shift) = (self.blob(b0, site.out)?, self.blob(b1, site.out)?);
                terms.affine = Some(Affine { scale, shift });
            }
            kind::FUSED_I8 => {
                let (weight, bias) =
                    (self.blob(b0, site.out.checked_mul(site.row)?)?, self.blob(b1, site.out)?);
                terms.patched = Some(Patched { weight, bias });
            }
            _ => return None,
        }
        let sparse = matches!(record.kind, kind::SPARSE_I16 | kind::SPARSE_F32);
        (!sparse || terms.sparse.is_some()).then_some(())
    }
}

impl TermSource for Adapter<'_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let mut terms = SiteTerms::NONE;
        let Some(first) = self.index.get(index).filter(|first| **first != NONE) else { return terms };
        let records = self.terms.get(*first as usize..).unwrap_or(&[]);
        for record in records.iter().take_while(|r| r.site as usize == index) {
            // Checked at attach: every record of an attached adapter can be read.
            let _ = self.read_shaped(record, TermShape::of(record), &mut terms);
        }
        terms
    }

    fn head(&self) -> Option<HeadView<'_>> {
        let head = &self.header.head;
        let classes = head.classes as usize;
        (classes != 0).then_some(())?;
        Some(HeadView {
            site: head.site,
            pool: head.pool,
            classes,
            weight: self.blob(head.weight, classes.checked_mul(head.features as usize)?)?,
            bias: self.blob(head.bias, classes)?,
            labels: self.text(head.labels),
            link: Link::from_code(head.link)?,
        })
    }
}

/// What sizes the blobs of a term.
#[derive(Clone, Copy)]
struct TermShape {
    out: usize,
    groups: usize,
    row: usize,
}

impl TermShape {
    fn of(record: &TermRecord) -> Self {
        Self { out: record.out as usize, groups: record.groups as usize, row: record.row as usize }
    }
}

/// At most one term of a family per site, families in this order.
fn family(kind: u32) -> u32 {
    match kind {
        kind::TWO_FACTOR_F32 | kind::TWO_FACTOR_I8 => 0,
        kind::SPARSE_I16 | kind::SPARSE_F32 => 1,
        kind::AFFINE => 2,
        _ => 3,
    }
}

/// Whether no sum of a channel, for any input, leaves 32 bits: |bias| + Σ|w|·255 < 2³¹.
fn sums_fit(site: &SiteDesc<'_>, fused: &Patched<'_>) -> bool {
    let out = site.out.max(1);
    (0..site.out).zip(fused.bias).all(|(channel, bias)| {
        let magnitude = |w: &i8| i64::from(w.unsigned_abs()) * 255;
        let sum: i64 = match site.kind {
            SiteKind::Depthwise => fused.weight.iter().skip(channel).step_by(out).map(magnitude).sum(),
            _ => fused
                .weight
                .chunks_exact(site.row().max(1))
                .nth(channel)
                .into_iter()
                .flatten()
                .map(magnitude)
                .sum(),
        };
        sum.saturating_add(i64::from(bias.unsigned_abs())) < 1 << 31
    })
}

fn finite(terms: &SiteTerms<'_>) -> bool {
    let all = |values: &[f32]| values.iter().all(|v| v.is_finite());
    let factors = terms.two_factor.is_none_or(|t| match t.factors {
        Factors::F32 { down, up } => all(down) && all(up),
        Factors::I8 { down_scale, up_scale, .. } => all(down_scale) && all(up_scale),
    });
    let sparse = terms.sparse.is_none_or(|s| match s.values {
        SparseValues::F32(values) => all(values),
        SparseValues::I16(_) => true,
    });
    factors && sparse && terms.affine.is_none_or(|a| all(a.scale) && all(a.shift))
}

/// What the file says of its privacy, if anything; `None` where that makes no sense.
fn privacy(bytes: &[u8], header: &Header) -> Option<Option<Privacy>> {
    if header.privacy == 0 {
        return Some(None);
    }
    let record: &[PrivacyRecord] = table(bytes, Table { offset: header.privacy, count: 1 })?;
    record.first().and_then(Privacy::read).map(Some)
}

fn table<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8], table: Table) -> Option<&[T]> {
    let len = (table.count as usize).checked_mul(size_of::<T>())?;
    let start = table.offset as usize;
    <[T]>::ref_from_bytes(bytes.get(start..start.checked_add(len)?)?).ok()
}

fn first4(hash: &[u8; 32]) -> [u8; 4] {
    [hash[0], hash[1], hash[2], hash[3]]
}
