//! Plans and adapters read from disk.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ingraft_adapter::Adapter;
use ingraft_plan::PlanView;

use crate::CliError;
use crate::aligned::AlignedBytes;
use crate::backend::Backend;

/// A plan or adapter file in memory, aligned as both ask for; where a target reads it, if it was brought there.
#[derive(Debug)]
pub(crate) struct ArtifactFile<B = AlignedBytes> {
    path: PathBuf,
    bytes: B,
}

impl ArtifactFile {
    /// Reads the file at `path`; nothing is checked yet.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let bytes = fs::read(path).map_err(|source| CliError::io(path, source))?;
        Ok(Self { path: path.to_path_buf(), bytes: bytes.as_slice().into() })
    }

    /// A file that was never on disk; `name` stands for it in messages.
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Self {
        Self { path: PathBuf::from(name), bytes: bytes.into() }
    }

    /// Reads the file at `path` to where `target` reads it; nothing is checked yet.
    pub(crate) fn read_for<T: Backend>(target: &T, path: &Path) -> Result<ArtifactFile<T::Kept>, CliError> {
        let Self { path, bytes } = Self::read(path)?;
        Ok(ArtifactFile { path, bytes: target.keep(bytes)? })
    }
}

impl<B: AsRef<[u8]>> ArtifactFile<B> {
    /// The same file where `target` reads it.
    pub(crate) fn kept_for<T: Backend>(&self, target: &T) -> Result<ArtifactFile<T::Kept>, CliError> {
        Ok(ArtifactFile { path: self.path.clone(), bytes: target.keep(self.bytes().into())? })
    }

    /// Where it is, or what it is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The file as a checked plan.
    pub(crate) fn plan(&self) -> Result<PlanView<'_>, CliError> {
        PlanView::new(self.bytes()).map_err(|error| CliError::Plan { path: self.path.clone(), error })
    }

    /// The file as an adapter that fits `plan`.
    pub(crate) fn attach(&self, plan: &PlanView<'_>) -> Result<Adapter<'_>, CliError> {
        Adapter::attach(self.bytes(), plan)
            .map_err(|error| CliError::Adapter { path: self.path.clone(), error })
    }

    /// The file as an adapter that has not met its base.
    pub(crate) fn adapter(&self) -> Result<Adapter<'_>, CliError> {
        Adapter::open(self.bytes()).map_err(|error| CliError::Adapter { path: self.path.clone(), error })
    }
}

/// Refuses a path in a folder that is not there, before the work is done whose result would go there.
pub(crate) fn check_folder(path: &Path) -> Result<(), CliError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(CliError::io(folder, ErrorKind::NotADirectory.into())),
        Err(source) => Err(CliError::io(folder, source)),
    }
}

/// Writes a file whole or not at all: what stood at `path` before is there until
/// the new bytes are on disk.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&partial, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&partial);
        CliError::io(path, source)
    })
}
