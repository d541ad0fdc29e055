//! Files of keys: one line, what it is and 64 hexadecimal digits.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ingraft_store::{Key, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::CliError;
use crate::plan_file::write_whole;
use crate::report::hex;

const SECRET: &str = "ingraft-secret-key-1 ";
const PUBLIC: &str = "ingraft-public-key-1 ";
/// Bytes of either file.
const BYTES: usize = SECRET.len() + 2 * SecretKey::BYTES + 1;

/// The name that devices keep an adapter under.
pub(crate) fn key_name(name: &str) -> Result<Key, CliError> {
    Key::new(name).ok_or_else(|| CliError::Setting {
        option: "--name",
        value: name.to_owned(),
        expected: "1 to 16 of a to z, digits, - _ and ., the first a letter or a digit".to_owned(),
    })
}

/// Where the public key of the secret one at `path` lies.
pub(crate) fn public_path(path: &Path) -> PathBuf {
    behind(path, ".pub")
}

/// Where the seal of the adapter at `path` lies.
pub(crate) fn seal_path(path: &Path) -> PathBuf {
    behind(path, ".seal")
}

/// Writes a secret key that only its owner may read. A key that is there already stays: what it signed would be orphaned.
pub(crate) fn write_secret(path: &Path, seed: &[u8; SecretKey::BYTES]) -> Result<(), CliError> {
    let mut text = Zeroizing::new([b'\n'; BYTES]);
    let digits = seed.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit);
    text.iter_mut().zip(SECRET.bytes().chain(digits)).for_each(|(to, byte)| *to = byte);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        let mut file = options.open(path)?;
        file.write_all(text.as_slice())?;
        file.sync_all()
    };
    write().map_err(|source| CliError::io(path, source))
}

pub(crate) fn write_public(path: &Path, key: &PublicKey) -> Result<(), CliError> {
    write_whole(path, format!("{PUBLIC}{}\n", hex(&key.to_bytes())).as_bytes())
}

pub(crate) fn read_secret(path: &Path) -> Result<SecretKey, CliError> {
    let seed = read(path, SECRET)?;
    Ok(SecretKey::from_seed(&seed))
}

pub(crate) fn read_public(path: &Path) -> Result<PublicKey, CliError> {
    let bytes = read(path, PUBLIC)?;
    PublicKey::new(&bytes).map_err(|error| CliError::Seal { path: path.to_path_buf(), error })
}

/// The bytes of the key in the file at `path`, which begins with `kind`.
fn read(path: &Path, kind: &'static str) -> Result<Zeroizing<[u8; SecretKey::BYTES]>, CliError> {
    // No buffer grows, so that no copy of a key is left behind.
    let mut text = Zeroizing::new([0; BYTES + 1]);
    let mut len = 0;
    let mut file = File::open(path).map_err(|source| CliError::io(path, source))?;
    while let Some(rest) = text.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(|source| CliError::io(path, source))? {
            0 => break,
            more => len += more,
        }
    }
    let refused = || CliError::NotAKey { path: path.to_path_buf(), wanted: kind.trim() };
    let line = text.get(..len).unwrap_or_default().trim_ascii_end();
    let digits = line.strip_prefix(kind.as_bytes()).ok_or_else(refused)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut bytes = Zeroizing::new([0; SecretKey::BYTES]);
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return Err(refused());
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let value = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
        *byte = (value(high).ok_or_else(refused)? << 4) | value(low).ok_or_else(refused)?;
    }
    Ok(bytes)
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef".get(usize::from(value)).copied().unwrap_or(b'0')
}

fn behind(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}
