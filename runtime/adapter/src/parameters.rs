//! A method's own tensors: what the terms of an adapter were computed from.
//!
//! Nothing that runs an adapter reads them. They let one be trained further, exported under the
//! names of published checkpoints, or deployed anew.

use ingraft_tensor::bytes;

use crate::record::{MEMBER, NONE, ParameterRecord, SettingsRecord, Text};
use crate::{AdapterError, SiteName};

/// The element type of a parameter. The discriminant is the code used in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ParameterType {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary64: constants that f32 cannot hold.
    F64 = 1,
}

impl ParameterType {
    /// The type with file code `code`, or `None`.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            1 => Some(Self::F64),
            _ => None,
        }
    }
}

/// The values of a parameter, row by row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParameterValues<'a> {
    /// Of type [`ParameterType::F32`].
    F32(&'a [f32]),
    /// Of type [`ParameterType::F64`].
    F64(&'a [f64]),
}

/// One tensor of a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterTensor<'a> {
    /// Index of the site.
    pub site: usize,
    /// Name of the site.
    pub site_name: &'a str,
    /// Its name within the site.
    pub name: &'a str,
    /// Its extents.
    pub dims: &'a [u32],
    /// Its values.
    pub values: ParameterValues<'a>,
}

/// One of the adapters that a stack acts as: a whole file inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Whether it stays as it is when training goes on.
    pub frozen: bool,
    /// Its file, aligned as one is; nothing in it is checked yet.
    pub bytes: &'a [u8],
}

/// The checked parameters of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct ParameterSection<'a> {
    bytes: &'a [u8],
    strings: &'a str,
    tensors: &'a [ParameterRecord],
    settings: &'a [SettingsRecord],
}

impl<'a> ParameterSection<'a> {
    /// Checks every record; `sites` is the number of sites of the base.
    pub(crate) fn new(
        bytes: &'a [u8],
        strings: &'a str,
        sites: usize,
        tensors: &'a [ParameterRecord],
        settings: &'a [SettingsRecord],
    ) -> Result<Self, AdapterError> {
        let section = Self { bytes, strings, tensors, settings };
        let mut last = None;
        let mut behind = false;
        for record in tensors {
            if record.dtype == MEMBER {
                section.member(record).ok_or_else(|| section.malformed(record.name))?;
                behind = true;
                continue;
            }
            let tensor = section.read(record).filter(|tensor| tensor.site < sites && finite(tensor.values));
            let tensor = tensor.ok_or_else(|| section.malformed(record.name))?;
            let key = (tensor.site, tensor.name);
            if behind || last.is_some_and(|last| last >= key) {
                return Err(section.malformed(record.name));
            }
            last = Some(key);
        }
        let mut last = None;
        for record in settings {
            let whole = section.text(record.name).is_some() && section.text(record.hyper).is_some();
            if !whole || record.site as usize >= sites || last.is_some_and(|last| last >= record.site) {
                return Err(section.malformed(record.name));
            }
            last = Some(record.site);
        }
        Ok(section)
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors().next().is_none()
    }

    /// The members of a stack, in their order; none in an adapter that is no stack.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'a>> + '_ {
        self.tensors.iter().filter_map(|record| self.member(record))
    }

    /// Every tensor, ascending by site, then name.
    pub fn tensors(&self) -> impl Iterator<Item = ParameterTensor<'a>> + '_ {
        self.tensors.iter().filter_map(|record| self.read(record))
    }

    /// The tensors of site `index`.
    pub fn site(&self, index: usize) -> impl Iterator<Item = ParameterTensor<'a>> + '_ {
        let first = self.tensors.partition_point(|record| (record.site as usize) < index);
        let records = self.tensors.get(first..).unwrap_or(&[]);
        let of_site = records.iter().take_while(move |record| record.site as usize == index);
        of_site.filter_map(|record| self.read(record))
    }

    /// Lines of `name=value` that hold at site `index` in place of the adapter's; empty where all of those do.
    pub fn settings(&self, index: usize) -> &'a str {
        let at = self.settings.binary_search_by_key(&index, |record| record.site as usize).ok();
        let record = at.and_then(|at| self.settings.get(at));
        record.and_then(|record| self.text(record.hyper)).unwrap_or("")
    }

    /// Index, name and settings of every site that has its own.
    pub fn site_settings(&self) -> impl Iterator<Item = (usize, &'a str, &'a str)> + '_ {
        self.settings.iter().filter_map(|record| {
            Some((record.site as usize, self.text(record.name)?, self.text(record.hyper)?))
        })
    }

    fn read(&self, record: &'a ParameterRecord) -> Option<ParameterTensor<'a>> {
        let dims = record.dims.get(..record.rank as usize)?;
        // In 32 bits and without regard to zeros: what is refused does not depend on the machine or on the order.
        let extent = dims.iter().try_fold(1u32, |count, dim| count.checked_mul((*dim).max(1)))?;
        let count = if dims.contains(&0) { 0 } else { extent as usize };
        let values = match ParameterType::from_code(record.dtype)? {
            ParameterType::F32 => ParameterValues::F32(self.blob(record.blob, count)?),
            ParameterType::F64 => ParameterValues::F64(self.blob(record.blob, count)?),
        };
        let name = self.text(record.name).filter(|name| !name.is_empty())?;
        let site_name = self.text(record.site_name)?;
        Some(ParameterTensor { site: record.site as usize, site_name, name, dims, values })
    }

    fn member(&self, record: &ParameterRecord) -> Option<MemberView<'a>> {
        let [len, frozen, ..] = record.dims;
        let whole = record.dtype == MEMBER && record.site == NONE && record.rank == 2 && frozen <= 1;
        whole.then_some(())?;
        let name = self.text(record.name).filter(|name| !name.is_empty())?;
        Some(MemberView { name, frozen: frozen == 1, bytes: self.blob(record.blob, len as usize)? })
    }

    fn blob<T: bytes::Plain>(&self, offset: u32, count: usize) -> Option<&'a [T]> {
        let start = offset as usize;
        let end = start.checked_add(count.checked_mul(size_of::<T>())?)?;
        bytes::cast(self.bytes.get(start..end)?)
    }

    fn text(&self, text: Text) -> Option<&'a str> {
        let start = text.offset as usize;
        self.strings.get(start..start.checked_add(text.len as usize)?)
    }

    /// Names the tensor: site names are those of terms, which parameters may stand without.
    fn malformed(&self, name: Text) -> AdapterError {
        AdapterError::Parameters(SiteName::new(self.text(name).unwrap_or("?")))
    }
}

impl ParameterValues<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Option<f64> {
        match self {
            Self::F32(values) => values.get(index).map(|value| f64::from(*value)),
            Self::F64(values) => values.get(index).copied(),
        }
    }
}

fn finite(values: ParameterValues<'_>) -> bool {
    match values {
        ParameterValues::F32(values) => values.iter().all(|v| v.is_finite()),
        ParameterValues::F64(values) => values.iter().all(|v| v.is_finite()),
    }
}
