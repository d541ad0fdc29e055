//! Checkpoints of kohya and LyCORIS: LoRA, LoHa, LoKr, whole differences, with the paths of modules flattened by underscores.
//!
//! A module's scale is its `alpha` over its rank, and 1 where there is no `alpha`: not, as in some readers, the
//! alpha of another module. Underscores stand for dots and for themselves, so that a name is looked up among those of the
//! base, flattened in the same way; one that fits several is refused.

use std::collections::BTreeMap;

use ingraft_adapter::{AdapterFacts, ParameterSpec};

use crate::base::{Base, Place};
use crate::bind::{Matching, Sought, bind_flattened};
use crate::change::Change;
use crate::matrix::Matrix;
use crate::tensors::{self, Tensor, is_weight};
use crate::{Fault, ImportError, Imported, ImportedSite};

type Result<T> = core::result::Result<T, ImportError>;

/// Reads a kohya or LyCORIS file as an adapter of `base`.
///
/// # Errors
/// [`ImportError`]; nothing is imported in part.
pub fn import_lycoris(
    base: &Base<'_>,
    model: &[u8],
    matching: &Matching,
    provenance: &str,
) -> Result<Imported> {
    let mut modules: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, tensor) in tensors::read(model)? {
        let why = "no tensor of kohya's or LyCORIS's LoRA, LoHa, LoKr or full differences";
        let (path, leaf) =
            name.split_once('.').ok_or_else(|| ImportError::at(&name, Fault::Unsupported(why)))?;
        if !LEAVES.contains(&leaf) {
            return Err(ImportError::at(&name, Fault::Unsupported(why)));
        }
        modules.entry(path.to_owned()).or_default().insert(leaf.to_owned(), tensor);
    }
    let sought: Vec<Sought> = modules
        .iter()
        .map(|(path, held)| Sought {
            path: path.clone(),
            tensors: held.keys().map(|leaf| format!("{path}.{leaf}")).collect(),
            ..Sought::default()
        })
        .collect();
    let sites = bind_flattened(base, &sought, PREFIXES, matching)?;
    let mut builder = base.builder();
    let (mut imported, mut methods) = (Vec::new(), Vec::new());
    for (site, (path, held)) in sites.into_iter().zip(modules) {
        let place = base.place(site)?;
        let (method, change) = Module { path: &path, held: &held, place: &place }.change()?;
        methods.push(method);
        let placed = change.place(&place).map_err(|error| error.or_about(&path))?;
        let desc = place.desc();
        placed.terms.into_iter().for_each(|term| builder.term(site, desc, term));
        for (name, tensor) in held {
            builder.parameter(
                site,
                desc.name,
                ParameterSpec { name, dims: tensor.dims, values: tensor.values },
            );
        }
        builder.site_settings(site, desc.name, &[("module".to_owned(), path.clone())]);
        imported.push(ImportedSite { name: desc.name.to_owned(), module: path, error: placed.error });
    }
    methods.sort_unstable();
    methods.dedup();
    let facts = AdapterFacts {
        method: format!("lycoris {}", methods.join("+")),
        provenance: provenance.to_owned(),
        ..AdapterFacts::default()
    };
    Imported::new(base, builder.finish(&facts), imported)
}

struct Module<'m> {
    path: &'m str,
    held: &'m BTreeMap<String, Tensor>,
    place: &'m Place<'m>,
}

impl Module<'_> {
    fn change(&self) -> Result<(&'static str, Change)> {
        let (out, row) = self.place.shape();
        if self.place.desc().groups != 1 {
            return self
                .refuse("a grouped convolution's pair reads every group, which no delta of its weight can");
        }
        let (method, mut change, rank) = if self.held.contains_key("lora_up.weight") {
            let (change, rank) = self.lora()?;
            ("lora", change, Some(rank))
        } else if self.held.contains_key("hada_w1_a") {
            let ((w1, rank), (w2, _)) = (self.hadamard_factor(1)?, self.hadamard_factor(2)?);
            self.fits("hada_w1", &w1, out, row)?;
            self.fits("hada_w2", &w2, out, row)?;
            ("loha", Change::dense(w1.zip(&w2, |a, b| a * b)), Some(rank))
        } else if self.held.keys().any(|name| name.starts_with("lokr_")) {
            let (delta, rank) = self.kronecker()?;
            ("lokr", Change::dense(delta), rank)
        } else {
            ("full", self.difference()?, None)
        };
        let scale = match (rank, self.held.get("alpha")) {
            // Two whole factors have no rank to scale by.
            (None, _) | (_, None) => 1.0,
            (Some(0), _) => return self.refuse("a rank of 0"),
            (Some(rank), Some(alpha)) => alpha.values.first().copied().unwrap_or(0.0) / rank as f64,
        };
        change.factors = change.factors.map(|(up, down)| (up.scaled(scale), down));
        change.dense = change.dense.map(|delta| delta.scaled(scale));
        if let Some(delta) = &change.dense {
            self.fits("the delta", delta, out, row)?;
        }
        match self.held.get("dora_scale") {
            Some(scale) => Ok((method, self.decomposed(scale, &change.delta(out, row))?)),
            None => Ok((method, change)),
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.held.get(name).ok_or_else(|| ImportError::at(self.path, Fault::Missing(name.to_owned())))
    }

    fn refuse<T>(&self, why: &'static str) -> Result<T> {
        Err(ImportError::at(self.path, Fault::Unsupported(why)))
    }

    fn fits(&self, name: &str, matrix: &Matrix, rows: usize, columns: usize) -> Result<()> {
        if (matrix.rows, matrix.columns) == (rows, columns) {
            return Ok(());
        }
        let fault =
            Fault::Shape { given: vec![matrix.rows, matrix.columns], wanted: format!("[{rows}, {columns}]") };
        Err(ImportError::at(&format!("{}.{name}", self.path), fault))
    }

    fn lora(&self) -> Result<(Change, usize)> {
        let (out, row) = self.place.shape();
        let (up, down) = (self.tensor("lora_up.weight")?.matrix(), self.tensor("lora_down.weight")?.matrix());
        let rank = down.rows;
        self.fits("lora_up.weight", &up, out, rank)?;
        if let Some(core) = self.held.get("lora_mid.weight") {
            return Ok((Change::dense(self.contracted(core, &up.transpose(), &down)?), rank));
        }
        self.fits("lora_down.weight", &down, rank, row)?;
        Ok((Change::factors(up, down), rank))
    }

    fn hadamard_factor(&self, which: u32) -> Result<(Matrix, usize)> {
        let part = |part: &str| self.tensor(&format!("hada_w{which}_{part}")).map(Tensor::matrix);
        let (a, b) = (part("a")?, part("b")?);
        match self.held.get(&format!("hada_t{which}")) {
            Some(core) => Ok((self.contracted(core, &a, &b)?, b.rows)),
            None => Ok((self.product(&a, &b)?, b.rows)),
        }
    }

    /// The product and the rank of what was split, if anything was.
    fn kronecker(&self) -> Result<(Matrix, Option<usize>)> {
        let mut rank = None;
        let mut factor = |which: u32| {
            if let Some(whole) = self.held.get(&format!("lokr_w{which}")) {
                return Ok(whole.matrix());
            }
            let part = |part: &str| self.tensor(&format!("lokr_w{which}_{part}")).map(Tensor::matrix);
            let (a, b) = (part("a")?, part("b")?);
            rank = Some(b.rows);
            match self.held.get(&format!("lokr_t{which}")) {
                Some(core) => self.contracted(core, &a, &b),
                None => self.product(&a, &b),
            }
        };
        let (w1, w2) = (factor(1)?, factor(2)?);
        let (out, row) = self.place.shape();
        let product = w1.kronecker(&w2, out, row);
        Ok((
            product.map_or_else(|| self.refuse("the product of lokr is not of the weight's size"), Ok)?,
            rank,
        ))
    }

    fn product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        self.fits("a factor", a, a.rows, b.rows)?;
        let product = a.product(b, self.place.shape());
        product.map_or_else(|| self.refuse("two factors make more than the weight"), Ok)
    }

    /// `Σ core[p, q, window]·a[p, out]·b[q, in]`.
    fn contracted(&self, core: &Tensor, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        let contracted = crate::matrix::contracted(&core.dims, &core.values, [a, b], self.place.shape());
        contracted
            .map_or_else(|| self.refuse("a Tucker core does not fit its factors, or these the weight"), Ok)
    }

    /// A whole difference of weight and bias.
    fn difference(&self) -> Result<Change> {
        let (out, row) = self.place.shape();
        let mut change = Change::default();
        if let Some(delta) = self.held.get("diff") {
            if !is_weight(&delta.dims, self.place.desc()) {
                let fault = Fault::Shape { given: delta.dims.clone(), wanted: format!("[{out}, {row}]") };
                return Err(ImportError::at(self.path, fault));
            }
            change.dense = Some(delta.matrix());
        }
        if let Some(shift) = self.held.get("diff_b") {
            self.fits("diff_b", &shift.matrix(), out, 1)?;
            change.shift = Some(shift.values.clone());
        }
        if change == Change::default() { self.refuse("there is but an alpha") } else { Ok(change) }
    }

    /// `W' = m·V/‖V‖`, `V = W + Δ`, lengths over rows.
    fn decomposed(&self, scale: &Tensor, delta: &Matrix) -> Result<Change> {
        let out = self.place.desc().out;
        if scale.dims.first() != Some(&out) || scale.values.len() != out {
            return self
                .refuse("dora_scale is not one value per output; scales per input are of an older form");
        }
        let v = self.place.weight.clone().plus(delta);
        let factors: Vec<f64> = scale.values.iter().zip(v.row_norms()).map(|(m, norm)| m / norm).collect();
        if !factors.iter().all(|factor| factor.is_finite()) {
            return Err(ImportError::at(self.path, Fault::NotFinite));
        }
        Ok(Change::dense(v.rows_times(&factors).minus(&self.place.weight)))
    }
}

/// How names end.
const LEAVES: &[&str] = &[
    "alpha",
    "lora_up.weight",
    "lora_down.weight",
    "lora_mid.weight",
    "dora_scale",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "hada_t1",
    "hada_t2",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "lokr_t1",
    "lokr_t2",
    "diff",
    "diff_b",
];

/// How names begin: which part of a pipeline of models is meant.
const PREFIXES: &[&str] =
    &["lycoris_", "lora_unet_", "lora_te1_", "lora_te2_", "lora_te_", "lora_transformer_", "lora_"];
