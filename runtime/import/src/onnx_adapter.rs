//! ONNX Runtime's `.onnx_adapter`: a FlatBuffer with the identifier `TORT` that holds named tensors, nothing else.
//!
//! The file says neither method nor scale: its tensors are inputs of a graph that multiplies by them. What is read is the
//! layout that Olive and ONNX Runtime GenAI write for LoRA: pairs `MODULE.lora_A…` and `MODULE.lora_B…` as a `MatMul` takes
//! them, `[in, r]` and `[r, out]`, the scale folded into one of them.

use std::collections::BTreeMap;

use ingraft_adapter::{AdapterFacts, ParameterSpec};

use crate::base::Base;
use crate::bind::{Matching, Sought, bind};
use crate::change::Change;
use crate::matrix::Matrix;
use crate::tensors::{Tensor, Tensors, elements};
use crate::{Fault, ImportError, Imported, ImportedSite};

type Result<T> = core::result::Result<T, ImportError>;

/// Whether these bytes say that they are such a file.
pub fn is_onnx_adapter(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TORT")
}

/// Reads an `.onnx_adapter` with LoRA factors as an adapter of `base`.
///
/// # Errors
/// [`ImportError`]; nothing is imported in part.
pub fn import_onnx_adapter(
    base: &Base<'_>,
    bytes: &[u8],
    matching: &Matching,
    provenance: &str,
) -> Result<Imported> {
    let mut pairs: BTreeMap<String, BTreeMap<char, (String, Tensor)>> = BTreeMap::new();
    for (name, tensor) in read(bytes)? {
        let why = "no factor of a LoRA: there is no .lora_A or .lora_B in its name";
        let split = [("A", ".lora_A"), ("B", ".lora_B")].iter().find_map(|(which, mark)| {
            let (module, _) = name.split_once(mark)?;
            Some((module.trim_start_matches("base_model.model.").to_owned(), which.chars().next()?))
        });
        let (module, which) = split.ok_or_else(|| ImportError::at(&name, Fault::Unsupported(why)))?;
        if let Some((other, _)) = pairs.entry(module).or_default().insert(which, (name.clone(), tensor)) {
            return Err(ImportError::at(&name, Fault::Ambiguous(vec![other, name.clone()])));
        }
    }
    let names =
        |held: &BTreeMap<char, (String, Tensor)>| held.values().map(|(name, _)| name.clone()).collect();
    let sought: Vec<Sought> = pairs
        .iter()
        .map(|(path, held)| Sought { path: path.clone(), tensors: names(held), ..Sought::default() })
        .collect();
    let sites = bind(base, &sought, matching)?;
    let mut builder = base.builder();
    let mut imported = Vec::new();
    for (site, (path, held)) in sites.into_iter().zip(pairs) {
        let place = base.place(site)?;
        let (out, row) = place.shape();
        let factor = |which: char| {
            let missing = || ImportError::at(&path, Fault::Missing(format!("lora_{which}")));
            held.get(&which).map(|(_, tensor)| tensor.matrix()).ok_or_else(missing)
        };
        let (a, b) = (factor('A')?, factor('B')?);
        let rank = a.columns;
        if (a.rows, b.rows, b.columns) != (row, rank, out) || rank == 0 || place.desc().groups != 1 {
            let wanted = format!("[{row}, r] and [r, {out}]");
            let given = vec![a.rows, a.columns, b.rows, b.columns];
            return Err(ImportError::at(&path, Fault::Shape { given, wanted }));
        }
        let (down, up) = (a.transpose(), b.transpose());
        let placed =
            Change::factors(up.clone(), down.clone()).place(&place).map_err(|error| error.or_about(&path))?;
        let desc = place.desc();
        placed.terms.into_iter().for_each(|term| builder.term(site, desc, term));
        for (name, matrix) in [("lora_A", down), ("lora_B", up)] {
            let Matrix { rows, columns, data } = matrix;
            builder.parameter(
                site,
                desc.name,
                ParameterSpec { name: name.to_owned(), dims: vec![rows, columns], values: data },
            );
        }
        // The scale is folded in: α is the rank.
        let own = [("module", path.clone()), ("rank", rank.to_string()), ("alpha", rank.to_string())];
        builder.site_settings(site, desc.name, &own.map(|(name, value)| (name.to_owned(), value)));
        imported.push(ImportedSite { name: desc.name.to_owned(), module: path, error: placed.error });
    }
    let facts = AdapterFacts {
        method: "lora".to_owned(),
        method_version: 1,
        provenance: provenance.to_owned(),
        ..AdapterFacts::default()
    };
    Imported::new(base, builder.finish(&facts), imported)
}

/// The tensors of the file.
fn read(bytes: &[u8]) -> Result<Tensors> {
    let broken = || ImportError::new(Fault::FlatBuffer);
    if !is_onnx_adapter(bytes) {
        return Err(broken());
    }
    let buffer = Buffer(bytes);
    let root = buffer.follow(0).ok_or_else(broken)?;
    // The only format there has been.
    let version = buffer.field(root, 0).map_or(Some(0), |at| buffer.int(at)).ok_or_else(broken)?;
    if version != 1 {
        return Err(ImportError::at("format_version", Fault::Setting("1".to_owned())));
    }
    let list = buffer.field(root, 3).and_then(|at| buffer.follow(at)).ok_or_else(broken)?;
    let count = buffer.int(list).ok_or_else(broken)? as usize;
    // Every entry has four bytes of its own, so that a count past the end is one of a damaged file.
    if count.checked_mul(4).is_none_or(|len| bytes.len().saturating_sub(list) < len) {
        return Err(broken());
    }
    let mut tensors = Tensors::new();
    for entry in 0..count {
        let table = buffer.follow(list + 4 + 4 * entry).ok_or_else(broken)?;
        let (name, tensor) = parameter(&buffer, table).ok_or_else(broken)??;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(ImportError::at(&name, Fault::Ambiguous(vec![name.clone(), name.clone()])));
        }
    }
    Ok(tensors)
}

/// One entry; `None` where it leaves the buffer.
fn parameter(buffer: &Buffer<'_>, table: usize) -> Option<Result<(String, Tensor)>> {
    let vector = |slot: usize| buffer.field(table, slot).and_then(|at| buffer.follow(at));
    let name = core::str::from_utf8(buffer.bytes(vector(0)?, 1)?).ok()?.to_owned();
    let dims = buffer.bytes(vector(1)?, 8)?;
    let dims: Option<Vec<usize>> =
        dims.as_chunks::<8>().0.iter().map(|dim| usize::try_from(i64::from_le_bytes(*dim)).ok()).collect();
    let dims = dims?;
    let code = buffer.field(table, 2).map_or(Some(0), |at| buffer.int(at))?;
    let data = buffer.bytes(vector(3)?, 1)?;
    let Some(values) = elements(code, data) else {
        return Some(Err(ImportError::at(&name, Fault::Type(format!("number {code} of ONNX")))));
    };
    let count = dims.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
    if count != values.len() {
        let fault = Fault::Shape { given: dims, wanted: format!("{} values", values.len()) };
        return Some(Err(ImportError::at(&name, fault)));
    }
    if !values.iter().all(|value| value.is_finite()) {
        return Some(Err(ImportError::at(&name, Fault::NotFinite)));
    }
    Some(Ok((name, Tensor { dims, values })))
}

/// A FlatBuffer, every access checked.
struct Buffer<'b>(&'b [u8]);

impl Buffer<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn int(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Where the offset at `at` leads.
    fn follow(&self, at: usize) -> Option<usize> {
        let to = at.checked_add(self.int(at)? as usize)?;
        (to < self.0.len()).then_some(to)
    }

    /// Where field `slot` of the table at `table` stands; `None` where it has its default.
    fn field(&self, table: usize, slot: usize) -> Option<usize> {
        let back = i64::from(self.array(table).map(i32::from_le_bytes)?);
        let index = usize::try_from(i64::try_from(table).ok()?.checked_sub(back)?).ok()?;
        let size = usize::from(self.array(index).map(u16::from_le_bytes)?);
        let at = 4 + 2 * slot;
        (at + 2 <= size).then_some(())?;
        match self.array(index.checked_add(at)?).map(u16::from_le_bytes)? {
            0 => None,
            offset => table.checked_add(usize::from(offset)),
        }
    }

    /// The elements of the vector at `at`, `size` bytes each.
    fn bytes(&self, at: usize, size: usize) -> Option<&[u8]> {
        let len = (self.int(at)? as usize).checked_mul(size)?;
        let start = at.checked_add(4)?;
        self.0.get(start..start.checked_add(len)?)
    }
}
