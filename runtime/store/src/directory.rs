//! A directory as the medium of a store.
//!
//! | file | what |
//! |---|---|
//! | `key-NAME.state` | what is known of a key: its record ([`crate::record`]), with salt 0 |
//! | `NNNNNNNN.adapter` | an adapter file, as it was staged, under a number of its own |
//! | `NNNNNNNN.seal` | its seal |
//! | `….partial` | a file that is being written |
//! | `lock` | held by the process that has the store open |
//!
//! A file is written under another name, synced to disk and renamed, and the directory is synced: a record is there
//! whole or not at all, and files before the record that names them. Files that no record names are removed when the
//! store is opened, unless a record cannot be read: then it may be that which names them.
//!
//! Needs Rust 1.89, for the lock; what a device builds of this crate needs 1.88.

use std::format;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::vec::Vec;

use crate::index::Place;
use crate::medium::{Medium, Shortage, States};
use crate::record::{RECORD_BYTES, decode, encode};
use crate::store::Store;
use crate::{Key, KeyState, Seal, StoreError, Stored};

/// A [`Store`] in a directory.
pub type DirectoryStore = Store<Directory, Vec<Place>>;

/// A directory as the medium of a store.
///
/// # Examples
/// ```no_run
/// use ingraft_store::{Directory, DirectoryStore, Place};
///
/// let directory = Directory::open("/var/lib/ingraft", 64 << 20)?;
/// let store = DirectoryStore::open(directory, vec![Place::EMPTY; Place::places(1000)])?;
/// # Ok::<(), ingraft_store::StoreError<std::io::Error>>(())
/// ```
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    budget: u32,
    /// Held until the store is closed; the system lets go of it when the process dies.
    _lock: File,
}

type Result<T> = core::result::Result<T, StoreError<io::Error>>;

impl Directory {
    /// The directory at `root`, made where it is not there; files and seals take `budget_bytes` at most.
    ///
    /// # Errors
    /// [`StoreError::Medium`], with [`ErrorKind::WouldBlock`] where another process has the store open.
    #[clippy::msrv = "1.89"]
    pub fn open(root: impl Into<PathBuf>, budget_bytes: u32) -> Result<Self> {
        let root = root.into();
        let lock = || {
            fs::create_dir_all(&root)?;
            let lock = File::options().create(true).truncate(false).write(true).open(root.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => Ok(lock),
                Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        let lock = lock().map_err(StoreError::Medium)?;
        Ok(Self { root, budget: budget_bytes, _lock: lock })
    }

    /// Where the file of `stored` lies. It stays as it is until the key is confirmed, reverted, evicted or removed; who
    /// has it mapped to memory then keeps the old bytes.
    pub fn path(&self, stored: &Stored) -> PathBuf {
        self.root.join(format!("{:08x}.adapter", stored.sector))
    }

    fn seal_path(&self, stored: &Stored) -> PathBuf {
        self.path(stored).with_extension("seal")
    }

    fn state_path(&self, key: &Key) -> PathBuf {
        self.root.join(format!("key-{key}.state"))
    }

    /// Writes a file whole or not at all.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&partial, path)?;
        self.sync()
    }

    /// Makes what was renamed and removed outlive a cut.
    fn sync(&self) -> io::Result<()> {
        if cfg!(unix) { File::open(&self.root)?.sync_all() } else { Ok(()) }
    }

    /// The states on disk, and whether all could be read. Files that none of them names go.
    fn states(&self) -> io::Result<Vec<KeyState>> {
        let (mut states, mut others, mut all) = (Vec::new(), Vec::new(), true);
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("state") => match self.state(&path)? {
                    Some(state) => states.push(state),
                    None => all = false,
                },
                Some("adapter" | "seal") => others.push(path),
                Some("partial") => fs::remove_file(path)?,
                _ => {}
            }
        }
        let named: Vec<PathBuf> = states
            .iter()
            .flat_map(KeyState::files)
            .flat_map(|stored| [self.path(stored), self.seal_path(stored)])
            .collect();
        for path in others.iter().filter(|path| all && !named.contains(path)) {
            fs::remove_file(path)?;
        }
        Ok(states)
    }

    /// The state in the file at `path`, if it is that of the key it is named after.
    fn state(&self, path: &Path) -> io::Result<Option<KeyState>> {
        let mut bytes = [0; RECORD_BYTES];
        let whole = read_start(path, &mut bytes)?;
        let state = decode(&bytes, SALT).filter(|state| whole && self.state_path(&state.key) == path);
        Ok(state)
    }
}

impl Medium for Directory {
    type Error = io::Error;

    fn records(&mut self, each: &mut dyn FnMut(KeyState) -> Result<()>) -> Result<()> {
        self.states().map_err(StoreError::Medium)?.into_iter().try_for_each(each)
    }

    fn keys(&self) -> usize {
        usize::MAX
    }

    /// A number that no file of `kept` has, where the budget allows for another.
    fn room(&self, len: u32, sealed: bool, kept: &dyn States) -> core::result::Result<u32, Shortage> {
        let bytes = |len: u32, sealed: bool| u64::from(len) + if sealed { Seal::BYTES as u64 } else { 0 };
        let (mut used, mut numbers) = (0, Vec::new());
        kept.each(&mut |state| {
            for file in state.files() {
                used += bytes(file.len, file.sealed);
                numbers.push(file.sector);
            }
        });
        let (needed, most) = (bytes(len, sealed), u64::from(self.budget).saturating_sub(used));
        if needed > most {
            let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            return Err(Shortage { needed: small(needed), most: small(most) });
        }
        numbers.sort_unstable();
        let behind = numbers.last().map_or(Some(0), |last| last.checked_add(1));
        let gap = || (0..).zip(&numbers).find(|(free, number)| free < *number).map_or(0, |(free, _)| free);
        Ok(behind.unwrap_or_else(gap))
    }

    fn write(&mut self, stored: &Stored, file: &[u8], seal: Option<&Seal>) -> Result<()> {
        let write = || {
            if let Some(seal) = seal {
                self.write_whole(&self.seal_path(stored), seal.as_bytes())?;
            }
            self.write_whole(&self.path(stored), file)?;
            Ok(fs::read(self.path(stored))? == file)
        };
        let same = write().map_err(StoreError::Medium)?;
        same.then_some(()).ok_or(StoreError::Unwritable { offset: 0 })
    }

    fn commit(&mut self, state: &KeyState, _: &dyn States) -> Result<()> {
        let path = self.state_path(&state.key);
        let commit = || match state.is_empty() {
            false => self.write_whole(&path, &encode(state, SALT)),
            true => match fs::remove_file(&path) {
                Ok(()) => self.sync(),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
        };
        commit().map_err(StoreError::Medium)
    }

    fn read(&mut self, stored: &Stored, memory: &mut [u8]) -> Result<()> {
        read_start(&self.path(stored), memory).map(drop).map_err(StoreError::Medium)
    }

    /// Reads the file through on a thread of its own: from then on the system has it in memory.
    fn prefetch(&mut self, stored: &Stored) {
        let path = self.path(stored);
        // A hint that cannot be taken is no failure: the read that follows says what is wrong.
        let _ = thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || io::copy(&mut File::open(path)?, &mut io::sink()));
    }

    fn read_seal(&mut self, stored: &Stored) -> Result<Seal> {
        let mut bytes = [0; Seal::BYTES];
        read_start(&self.seal_path(stored), &mut bytes).map_err(StoreError::Medium)?;
        Ok(Seal::from_bytes(bytes))
    }

    fn release(&mut self, stored: &Stored) {
        // What cannot be removed now is when the store is opened.
        let _ = fs::remove_file(self.path(stored));
        if stored.sealed {
            let _ = fs::remove_file(self.seal_path(stored));
        }
    }
}

impl<P: AsRef<[Place]> + AsMut<[Place]>> Store<Directory, P> {
    /// Where the file lies that `key` is to run; [`Self::load`] verifies it.
    pub fn path(&self, key: &Key) -> Option<PathBuf> {
        let (stored, _) = self.find(key)?.in_use()?;
        Some(self.medium.path(&stored))
    }
}

/// Reads the start of the file at `path`; whether it was as long. What is missing reads as zeros: damage shows in hashes.
fn read_start(path: &Path, to: &mut [u8]) -> io::Result<bool> {
    to.fill(0);
    match File::open(path).and_then(|mut file| file.read_exact(to)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Records of a directory are in no bank.
const SALT: u64 = 0;
