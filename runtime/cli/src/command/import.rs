//! `ingraft import`: an adapter from a checkpoint of another library, or from a directory that `export` wrote.

use std::fs;
use std::path::{Path, PathBuf};

use ingraft_import::{
    Base, Imported, JSON, Matching, TENSORS, Tensors, decode_ternary, import_lycoris, import_native,
    import_onnx_adapter, import_peft, is_onnx_adapter, is_ternary,
};
use serde::Serialize;

use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::report::{Table, bytes, hex};
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of HF PEFT, one that `export` wrote, a .safetensors file of kohya or LyCORIS, an
    /// .onnx_adapter, or what `compress --coding` wrote.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// The plan that the adapter is for.
    #[arg(long, value_name = "BASE.plan")]
    base: PathBuf,
    /// Where to write the adapter.
    #[arg(short, long, value_name = "A.adapter")]
    output: PathBuf,
    /// The float model the plan was compiled from: norms and products with the weight are then taken on it.
    #[cfg(feature = "compile")]
    #[arg(long, value_name = "MODEL.onnx")]
    onnx: Option<PathBuf>,
    /// Lines of `MODULE SITE`, for modules whose site no name leads to.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Take what shape and order propose where no name leads to a site.
    #[arg(long)]
    accept_proposal: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `import --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct ImportReport {
    /// Content hash of the adapter.
    adapter_hash: String,
    /// Content hash of the base.
    base_hash: String,
    /// Bytes of the adapter file.
    adapter_bytes: usize,
    /// The method.
    method: String,
    /// The sites it acts on.
    sites: Vec<SiteReport>,
    /// Sites of the base that there was nothing for.
    untouched: Vec<String>,
}

/// One site.
#[derive(Debug, Serialize)]
struct SiteReport {
    /// Its name.
    name: String,
    /// The module of the checkpoint.
    module: String,
    /// Relative error of the delta as written against the checkpoint's (Frobenius).
    error: f64,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    let file = ArtifactFile::read(&args.base)?;
    let base = Base { plan: file.plan()?, initializers: args.initializers()? };
    let imported = args.read(&base)?;
    write_whole(&args.output, &imported.bytes)?;
    let report = ImportReport::new(&imported, &base)?;
    if args.json { console.json(&report) } else { console.line(report.table()) }
}

impl Args {
    #[cfg(feature = "compile")]
    fn initializers(&self) -> Result<Tensors, CliError> {
        initializers(self.onnx.as_ref())
    }

    #[cfg(not(feature = "compile"))]
    fn initializers(&self) -> Result<Tensors, CliError> {
        Ok(Tensors::new())
    }

    fn read(&self, base: &Base<'_>) -> Result<Imported, CliError> {
        let provenance =
            format!("ingraft {} import {}", env!("CARGO_PKG_VERSION"), self.checkpoint.display());
        let refused = |error| CliError::Import { path: self.checkpoint.clone(), error: Box::new(error) };
        let part = |name: &str| self.checkpoint.join(name);
        if part(JSON).exists() {
            let imported = import_native(base, &load(&part(JSON))?, &load(&part(TENSORS))?, &provenance);
            return imported.map_err(refused);
        }
        let matching = self.matching()?;
        if self.checkpoint.is_file() {
            let bytes = load(&self.checkpoint)?;
            if is_ternary(&bytes) {
                return decode_ternary(base, &bytes).map_err(refused);
            }
            let import = if is_onnx_adapter(&bytes) { import_onnx_adapter } else { import_lycoris };
            return import(base, &bytes, &matching, &provenance).map_err(refused);
        }
        let (config, model) = (part("adapter_config.json"), part("adapter_model.safetensors"));
        // What is there in its place may be a pickle: say so, and not that a file is missing.
        let model = if model.exists() {
            model
        } else {
            Some(part("adapter_model.bin")).filter(|p| p.exists()).unwrap_or(model)
        };
        import_peft(base, &load(&config)?, &load(&model)?, &matching, &provenance).map_err(refused)
    }

    fn matching(&self) -> Result<Matching, CliError> {
        let map = match &self.map {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| CliError::io(path, source))?;
                Matching::parse(&text)
                    .map_err(|error| CliError::Import { path: path.clone(), error: Box::new(error) })?
            }
            None => Default::default(),
        };
        Ok(Matching { map, accept_proposal: self.accept_proposal })
    }
}

/// The float initializers of the model at `path`, by name; none without one.
#[cfg(feature = "compile")]
pub(super) fn initializers(path: Option<&PathBuf>) -> Result<Tensors, CliError> {
    let Some(path) = path else { return Ok(Tensors::new()) };
    let held = ingraft_compile::initializers(&load(path)?)
        .map_err(|error| CliError::Compile { path: path.clone(), error: error.into() })?;
    let wide = |tensor: &ingraft_compile::Tensor| ingraft_import::Tensor {
        dims: tensor.shape().to_vec(),
        values: tensor.to_f32().iter().map(|v| f64::from(*v)).collect(),
    };
    Ok(held.iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect())
}

fn load(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|source| CliError::io(path, source))
}

impl ImportReport {
    pub(super) fn new(imported: &Imported, base: &Base<'_>) -> Result<Self, CliError> {
        let file = ArtifactFile::from_bytes("the imported adapter", &imported.bytes);
        let adapter = file.adapter()?;
        let site = |site: &ingraft_import::ImportedSite| SiteReport {
            name: site.name.clone(),
            module: site.module.clone(),
            error: site.error,
        };
        Ok(Self {
            adapter_hash: hex(adapter.hash()),
            base_hash: hex(base.plan.hash()),
            adapter_bytes: imported.bytes.len(),
            method: adapter.method().to_owned(),
            sites: imported.sites.iter().map(site).collect(),
            untouched: imported.untouched.clone(),
        })
    }

    pub(super) fn table(&self) -> String {
        let mut table = Table::new(["site", "from", "error"]);
        for site in &self.sites {
            table.row([site.name.clone(), site.module.clone(), format!("{:.1e}", site.error)]);
        }
        let untouched = if self.untouched.is_empty() { "none".to_owned() } else { self.untouched.join(", ") };
        format!(
            "adapter  {} ({}), {}\n{table}\nsites it leaves as they are: {untouched}",
            self.adapter_hash,
            bytes(self.adapter_bytes),
            self.method
        )
    }
}
