//! A method's terms from tensors that were trained elsewhere, or read from a file.

mod latent;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{Affine, Factors, SiteDesc, SiteTerms, Sparse, SparseValues, TwoFactor};
use ingraft_train::{
    FrozenSite, Latent, LatentHolder, LatentTensor, Method, Part, SiteValues, TermLayout, Unfit,
};

pub(crate) use self::latent::drawn_constants;
use self::latent::{latent, take};
use crate::ValuesError;
use crate::place::in_kernel;

/// A tensor of a site, in published order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamedTensor<'t> {
    /// Its name within the site.
    pub name: &'t str,
    /// Its extents. A method's matrix may come in more: `[r, in, kh, kw]` for `[r, in·kh·kw]`.
    pub dims: &'t [usize],
    /// Its values, row by row.
    pub values: &'t [f64],
}

/// A tensor that a method keeps at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name within the site.
    pub name: &'static str,
    /// Its extents.
    pub dims: Vec<usize>,
    /// Whether it is trained; else it is a constant, drawn or computed from the weight.
    pub trained: bool,
}

/// f32 terms of one site with storage of their own; parts that are empty are not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnedTerms {
    /// Rank per group.
    pub rank: usize,
    /// `[groups · rank, row]`.
    pub down: Vec<f32>,
    /// `[out, rank]`.
    pub up: Vec<f32>,
    /// `[out + 1]`.
    pub indptr: Vec<u32>,
    /// `[nnz]`.
    pub indices: Vec<u16>,
    /// `[nnz]`.
    pub sparse: Vec<f32>,
    /// As long as the base's weight and in its layout ([`FrozenSite::offset`]).
    pub dense: Vec<f32>,
    /// `[out]`.
    pub scale: Vec<f32>,
    /// `[out]`.
    pub shift: Vec<f32>,
}

impl OwnedTerms {
    /// The terms, borrowed; `scale` and `shift` are both there or both absent.
    pub fn terms(&self) -> SiteTerms<'_> {
        let mut terms = SiteTerms::NONE;
        if !self.up.is_empty() {
            let factors = Factors::F32 { down: &self.down, up: &self.up };
            terms.two_factor = Some(TwoFactor { rank: self.rank, factors });
        }
        if !self.sparse.is_empty() {
            let values = SparseValues::F32(&self.sparse);
            terms.sparse = Some(Sparse { indptr: &self.indptr, indices: &self.indices, values });
        }
        if !self.dense.is_empty() {
            terms.dense = Some(&self.dense);
        }
        if !self.scale.is_empty() {
            terms.affine = Some(Affine { scale: &self.scale, shift: &self.shift });
        }
        terms
    }

    fn for_layout(site: &SiteDesc<'_>, layout: &TermLayout) -> Self {
        let (rank, nnz) = (layout.rank as usize, layout.nnz as usize);
        let affine = layout.scale || layout.shift;
        let channels = |wanted: bool| if wanted { site.out } else { 0 };
        Self {
            rank,
            down: vec![0.0; site.groups * rank * site.row()],
            up: vec![0.0; site.out * rank],
            indptr: vec![0; if nnz == 0 { 0 } else { site.out + 1 }],
            indices: vec![0; nnz],
            sparse: vec![0.0; nnz],
            dense: vec![0.0; if layout.dense { site.out * site.row() } else { 0 }],
            scale: vec![1.0; channels(affine)],
            shift: vec![0.0; channels(affine)],
        }
    }

    fn values(&mut self) -> SiteValues<'_> {
        SiteValues {
            down: &mut self.down,
            up: &mut self.up,
            sparse: &mut self.sparse,
            indptr: &mut self.indptr,
            indices: &mut self.indices,
            dense: &mut self.dense,
            scale: &mut self.scale,
            shift: &mut self.shift,
        }
    }
}

/// The tensors that `method` keeps at `site`, under the names in which files have them.
///
/// # Errors
/// [`Unfit`] when the method is not defined there.
pub fn declared(method: &dyn Method, site: &SiteDesc<'_>) -> Result<Vec<TensorInfo>, Unfit> {
    Ok(declared_by(method, site, &method.layout(site)?))
}

/// The terms that tensors of a method are of which chooses what it trains.
fn chosen(site: &SiteDesc<'_>, tensors: &[NamedTensor<'_>]) -> TermLayout {
    let has = |name| tensors.iter().any(|tensor| tensor.name == name);
    let (dense, shift) = (has("delta"), has("shift"));
    let count = |name| tensors.iter().find(|tensor| tensor.name == name).map_or(0, |t| t.values.len());
    let rank = count("lora_B") / site.out.max(1);
    TermLayout { nnz: count("values") as u32, rank: rank as u32, dense, shift, ..TermLayout::NONE }
}

fn declared_by(method: &dyn Method, site: &SiteDesc<'_>, layout: &TermLayout) -> Vec<TensorInfo> {
    let mut tensors = Vec::new();
    if is_latent(layout) {
        method.tensors(site, &mut |tensor: LatentTensor| {
            let (name, dims) = (tensor.name, vec![tensor.rows, tensor.columns]);
            tensors.push(TensorInfo { name, dims, trained: tensor.holder != LatentHolder::Constants });
        });
        return tensors;
    }
    let mut tensor = |name, dims: &[usize], trained| {
        tensors.push(TensorInfo { name, dims: dims.to_vec(), trained });
    };
    let (out, row, nnz, rank) = (site.out, site.row(), layout.nnz as usize, layout.rank as usize);
    if rank != 0 {
        tensor("lora_A", &[site.groups * rank, row], true);
        tensor("lora_B", &[out, rank], true);
    }
    if layout.dense {
        tensor("delta", &[out, row], true);
    }
    if nnz != 0 {
        tensor("indices", &[nnz], false);
        tensor("values", &[nnz], true);
    }
    for (name, trained) in [("scale", layout.scale), ("shift", layout.shift)] {
        if trained {
            tensor(name, &[out], true);
        }
    }
    tensors
}

/// The terms that `method` computes at `site` from `tensors`, which must be all it trains there.
/// Constants may be left out where they follow from the frozen weight.
///
/// # Errors
/// [`ValuesError`].
pub fn evaluate(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    tensors: &[NamedTensor<'_>],
) -> Result<OwnedTerms, ValuesError> {
    let layout = match method.layout(&site.desc) {
        // What would have been chosen by gradients was chosen before these were written.
        Err(Unfit::Unmeasured) => chosen(&site.desc, tensors),
        layout => layout.map_err(ValuesError::Unfit)?,
    };
    known(method, site, &layout, tensors)?;
    if is_latent(&layout) {
        latent(method, site, &layout, tensors)
    } else {
        terms(method, site, &layout, tensors)
    }
}

/// The constants that `method` keeps at `site` beside `tensors`: those among these, and those that follow from the frozen
/// weight. One that was drawn and is not among them is another than it was.
///
/// # Errors
/// As [`evaluate`].
pub fn constants(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    tensors: &[NamedTensor<'_>],
) -> Result<Vec<(TensorInfo, Vec<f64>)>, ValuesError> {
    let layout = method.layout(&site.desc).map_err(ValuesError::Unfit)?;
    known(method, site, &layout, tensors)?;
    latent::constants(method, site, &layout, tensors)
}

/// Sets what a trainer holds at `site`: a latent site's own values, or its terms, to `tensors`, which must be all that
/// `method` trains there. Constants that are left out stay as they are.
///
/// # Errors
/// As [`evaluate`]; what was held may be changed in part then.
pub(crate) fn fill(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    tensors: &[NamedTensor<'_>],
    held: &mut Latent<'_>,
    values: &mut SiteValues<'_>,
) -> Result<(), ValuesError> {
    let layout = method.layout(&site.desc).map_err(ValuesError::Unfit)?;
    known(method, site, &layout, tensors)?;
    if is_latent(&layout) {
        return take(method, site, tensors, held).map(drop);
    }
    let owned = terms(method, site, &layout, tensors)?;
    let entries = tensors.iter().find(|tensor| tensor.name == "values");
    if let Some(entries) = entries.filter(|entries| entries.values.len() != values.sparse.len()) {
        return Err(shape(entries, &[values.sparse.len()]));
    }
    copy(values.down, &owned.down);
    copy(values.up, &owned.up);
    copy(values.sparse, &owned.sparse);
    copy(values.indptr, &owned.indptr);
    copy(values.indices, &owned.indices);
    copy(values.dense, &owned.dense);
    copy(values.scale, &owned.scale);
    copy(values.shift, &owned.shift);
    Ok(())
}

/// As many elements as both have: one of the two is empty where a part is not trained.
fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn is_latent(layout: &TermLayout) -> bool {
    layout.latent.decaying != 0 || layout.latent.steady != 0
}

/// Refuses tensors that are not finite, or not of the method.
fn known(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    layout: &TermLayout,
    tensors: &[NamedTensor<'_>],
) -> Result<(), ValuesError> {
    if let Some(tensor) = tensors.iter().find(|tensor| !tensor.values.iter().all(|v| v.is_finite())) {
        return Err(ValuesError::NotFinite(tensor.name.to_string()));
    }
    let declared = declared_by(method, &site.desc, layout);
    if declared.is_empty() {
        return Err(ValuesError::NothingHere);
    }
    let names = |tensor: &&NamedTensor<'_>| !declared.iter().any(|info| info.name == tensor.name);
    // Scale and shift travel together, though a method may train but one of them.
    let paired = |name: &str| matches!(name, "scale" | "shift") && (layout.scale || layout.shift);
    match tensors.iter().filter(names).find(|tensor| !paired(tensor.name)) {
        Some(tensor) => Err(ValuesError::Unexpected(tensor.name.to_string())),
        None => Ok(()),
    }
}

/// Terms that are trained as they are.
fn terms(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    layout: &TermLayout,
    tensors: &[NamedTensor<'_>],
) -> Result<OwnedTerms, ValuesError> {
    let desc = &site.desc;
    let (out, row, rank) = (desc.out, desc.row().max(1), layout.rank as usize);
    let find = |name: &'static str, wanted: &[usize]| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).ok_or(ValuesError::Missing(name))?;
        let count = wanted.iter().product::<usize>();
        if tensor.values.len() == count { Ok(tensor.values) } else { Err(shape(tensor, wanted)) }
    };
    let mut owned = OwnedTerms { rank, ..OwnedTerms::default() };
    if rank != 0 {
        let a = find("lora_A", &[desc.groups * rank, row])?;
        let scale = f64::from(method.rate(Part::Up).scale);
        owned.down = vec![0.0; a.len()];
        for (i, value) in a.iter().enumerate() {
            owned.down[i / row * row + in_kernel(desc, i % row)] = *value as f32;
        }
        owned.up = find("lora_B", &[out, rank])?.iter().map(|value| (value * scale) as f32).collect();
    }
    if layout.dense {
        owned.dense = vec![0.0; out * row];
        for (i, value) in find("delta", &[out, row])?.iter().enumerate() {
            owned.dense[site.offset(i / row, in_kernel(desc, i % row))] = *value as f32;
        }
    }
    if layout.nnz != 0 {
        let count = tensors.iter().find(|tensor| tensor.name == "values").map_or(0, |t| t.values.len());
        let (places, values) = (find("indices", &[count])?, find("values", &[count])?);
        let entries = places.iter().map(|place| *place as usize).zip(values.iter().copied()).collect();
        sparse(desc, entries, &mut owned)?;
    }
    if layout.scale || layout.shift {
        let part = |name: &'static str, trained: bool, rest: f32| {
            let given = tensors.iter().any(|tensor| tensor.name == name);
            if !given && !trained {
                return Ok(vec![rest; out]);
            }
            find(name, &[out]).map(|values| values.iter().map(|v| *v as f32).collect::<Vec<f32>>())
        };
        owned.scale = part("scale", layout.scale, 1.0)?;
        owned.shift = part("shift", layout.shift, 0.0)?;
    }
    Ok(owned)
}

/// Entries at `channel · row + position`, rows in published order, as a sparse term.
///
/// # Errors
/// [`ValuesError::Place`] when one lies outside or two coincide.
fn sparse(
    site: &SiteDesc<'_>,
    entries: Vec<(usize, f64)>,
    owned: &mut OwnedTerms,
) -> Result<(), ValuesError> {
    let row = site.row().max(1);
    let place = |(at, value): (usize, f64)| {
        let position = in_kernel(site, at % row);
        let narrow = u16::try_from(position).ok().filter(|_| at < site.out * row);
        narrow.map(|position| (at / row, position, value)).ok_or(ValuesError::Place(at))
    };
    let mut entries = entries.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|(channel, position, _)| (*channel, *position));
    let twice = entries.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    if let Some(pair) = twice {
        return Err(ValuesError::Place(pair[0].0 * row + usize::from(pair[0].1)));
    }
    owned.indptr = (0..=site.out).map(|out| entries.partition_point(|(c, _, _)| *c < out) as u32).collect();
    owned.indices = entries.iter().map(|(_, position, _)| *position).collect();
    owned.sparse = entries.iter().map(|(_, _, value)| *value as f32).collect();
    Ok(())
}

fn shape(given: &NamedTensor<'_>, wanted: &[usize]) -> ValuesError {
    ValuesError::Shape { tensor: given.name.to_string(), given: given.dims.to_vec(), wanted: wanted.to_vec() }
}
