//! Seals: who vouches for an adapter file, signed with Ed25519 (RFC 8032).
//!
//! A seal is a file of its own beside the adapter's, so that adapter files are read as before. Its 216 bytes,
//! integers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `INGRSEAL` |
//! | 8 | 8 | format version as u32, then 0 |
//! | 16 | 8 | version of the adapter: a device never goes back to a lower one |
//! | 24 | 8 | when the seal expires, in seconds since 1970; 0 never |
//! | 32 | 32 | content hash of the adapter, as its file states it |
//! | 64 | 32 | content hash of its base |
//! | 96 | 32 | name of its method, padded with zeros |
//! | 128 | 16 | key it is to be kept under, padded with zeros |
//! | 144 | 8 | first bytes of BLAKE3 of the public key: which key to verify with |
//! | 152 | 64 | signature over all bytes before it |

use core::fmt;

use ingraft_adapter::Adapter;
use ingraft_tensor::hash::blake3;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use self::curve::Point;
use crate::Key;

mod curve;

/// A seal as it is stored and sent; nothing in it is trusted before [`Seal::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal([u8; Seal::BYTES]);

/// What a seal states about an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Content hash of the adapter ([`Adapter::hash`]).
    pub adapter: [u8; 32],
    /// Content hash of its base.
    pub base: [u8; 32],
    /// Name of its method, padded with zeros.
    pub method: [u8; 32],
    /// The key it is to be kept under.
    pub key: Key,
    /// Its version.
    pub version: u64,
    /// When the seal expires, in seconds since 1970; `None` never.
    pub expires: Option<u64>,
}

/// A public key that a device trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(Point);

/// Why a seal does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// There is none: sign the adapter.
    Missing,
    /// The bytes are no seal of a version that is read here.
    Malformed,
    /// The bytes are no public key, or one of small order, which vouches for nothing.
    PublicKey,
    /// It was made with a key that is not trusted.
    UnknownSigner {
        /// First bytes of BLAKE3 of that public key.
        signer: [u8; 8],
    },
    /// The signature is not that of the key.
    Signature,
    /// It is for another adapter file.
    OtherAdapter,
    /// It is for another base than the adapter's.
    OtherBase,
    /// It is for another method than the adapter's.
    OtherMethod,
    /// It is for another key than that to be kept under.
    OtherKey {
        /// The key it is for.
        key: Key,
    },
    /// It has expired; or it expires, and the device does not know the time.
    Expired {
        /// When, in seconds since 1970.
        at: u64,
    },
    /// The device had a higher version already.
    Rollback {
        /// Version of the seal.
        version: u64,
        /// Lowest that is accepted.
        floor: u64,
    },
    /// The name of the method is longer than a seal has room for.
    MethodName,
}

impl Seal {
    /// Bytes of a seal.
    pub const BYTES: usize = 216;

    /// These bytes as a seal.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of a file as a seal; `None` where they are not as many. What they say is looked at by [`Self::verify`].
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// What the seal states, once the signature proves to be that of one of `trusted`.
    ///
    /// # Errors
    /// [`SealError::Malformed`], [`SealError::UnknownSigner`], [`SealError::Signature`].
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Statement, SealError> {
        let record = Record::read_from_bytes(&self.0).map_err(|_| SealError::Malformed)?;
        if record.magic != MAGIC || record.format != FORMAT || record.reserved != 0 {
            return Err(SealError::Malformed);
        }
        let key = Key::from_bytes(record.key).ok_or(SealError::Malformed)?;
        let signer = trusted.iter().find(|trusted| trusted.id() == record.signer);
        let signer = signer.ok_or(SealError::UnknownSigner { signer: record.signer })?;
        let signed = self.0.get(..SIGNED).ok_or(SealError::Malformed)?;
        signer.0.verifies(signed, &record.signature).then_some(()).ok_or(SealError::Signature)?;
        let Record { adapter, base, method, version, .. } = record;
        let expires = (record.expires != 0).then_some(record.expires);
        Ok(Statement { adapter, base, method, key, version, expires })
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Statement {
    /// What a seal for `adapter`, to be kept under `key`, states.
    ///
    /// # Errors
    /// [`SealError::MethodName`].
    pub fn of(
        adapter: &Adapter<'_>,
        key: Key,
        version: u64,
        expires: Option<u64>,
    ) -> Result<Self, SealError> {
        let method = method_name(adapter).ok_or(SealError::MethodName)?;
        Ok(Self { adapter: *adapter.hash(), base: *adapter.base_hash(), method, key, version, expires })
    }

    /// Whether the statement is one about `adapter`, kept under `key`, that holds at `now` and is not below `floor`.
    ///
    /// # Errors
    /// The first [`SealError`] found.
    pub fn check(
        &self,
        adapter: &Adapter<'_>,
        key: &Key,
        now: Option<u64>,
        floor: u64,
    ) -> Result<(), SealError> {
        let ensure = |holds: bool, error| if holds { Ok(()) } else { Err(error) };
        ensure(self.adapter == *adapter.hash(), SealError::OtherAdapter)?;
        ensure(self.base == *adapter.base_hash(), SealError::OtherBase)?;
        ensure(Some(self.method) == method_name(adapter), SealError::OtherMethod)?;
        ensure(self.key == *key, SealError::OtherKey { key: self.key })?;
        if let Some(at) = self.expires {
            ensure(now.is_some_and(|now| now < at), SealError::Expired { at })?;
        }
        ensure(self.version >= floor, SealError::Rollback { version: self.version, floor })
    }
}

impl PublicKey {
    /// Bytes of a public key.
    pub const BYTES: usize = 32;

    /// The public key of these bytes.
    ///
    /// # Errors
    /// [`SealError::PublicKey`]; for any bytes in a build without the feature `verify`.
    pub fn new(bytes: &[u8; Self::BYTES]) -> Result<Self, SealError> {
        Point::new(bytes).map(Self).ok_or(SealError::PublicKey)
    }

    /// The bytes.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        self.0.to_bytes()
    }

    /// First bytes of its BLAKE3 hash, by which a seal names it.
    pub fn id(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = blake3(&self.to_bytes());
        [a, b, c, d, e, f, g, h]
    }
}

/// A key to sign with. It is cleared from memory when it is dropped.
#[cfg(feature = "sign")]
pub struct SecretKey(ed25519_dalek::SigningKey);

#[cfg(feature = "sign")]
impl SecretKey {
    /// Bytes of a seed.
    pub const BYTES: usize = 32;

    /// The key of a seed, which must come from the operating system's generator. The caller clears the seed.
    pub fn from_seed(seed: &[u8; Self::BYTES]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(Point(self.0.verifying_key()))
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &Statement) -> Seal {
        use ed25519_dalek::Signer;
        use zerocopy::FromZeros;

        let mut record = Record::new_zeroed();
        (record.magic, record.format, record.signer) = (MAGIC, FORMAT, self.public().id());
        let Statement { adapter, base, method, key, version, expires } = *statement;
        (record.adapter, record.base, record.method) = (adapter, base, method);
        (record.key, record.version, record.expires) = (key.to_bytes(), version, expires.unwrap_or(0));
        let signed = record.as_bytes().get(..SIGNED).unwrap_or(&[]);
        record.signature = self.0.sign(signed).to_bytes();
        let mut bytes = [0; Seal::BYTES];
        bytes.iter_mut().zip(record.as_bytes()).for_each(|(to, byte)| *to = *byte);
        Seal(bytes)
    }
}

#[cfg(feature = "sign")]
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the adapter has no seal: sign it"),
            Self::Malformed => f.write_str("not a seal of a version that is read here"),
            Self::PublicKey => f.write_str("not a public key that could vouch for anything"),
            Self::UnknownSigner { signer } => {
                write!(
                    f,
                    "the seal was made with key {:016x}, which is not trusted",
                    u64::from_be_bytes(*signer)
                )
            }
            Self::Signature => {
                f.write_str("the signature is not that of the key: the seal was forged or damaged")
            }
            Self::OtherAdapter => f.write_str("the seal is for another adapter file"),
            Self::OtherBase => f.write_str("the seal is for another base"),
            Self::OtherMethod => f.write_str("the seal is for another method"),
            Self::OtherKey { key } => write!(f, "the seal is for the key {key}, not for this one"),
            Self::Expired { at } => {
                write!(
                    f,
                    "the seal expired {at} s after 1970, or the time is not known: sign the adapter again"
                )
            }
            Self::Rollback { version, floor } => {
                write!(f, "version {version} is older than {floor}, which was in use already")
            }
            Self::MethodName => f.write_str("the name of the method is longer than the 32 bytes of a seal"),
        }
    }
}

impl core::error::Error for SealError {}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    magic: [u8; 8],
    format: u32,
    reserved: u32,
    version: u64,
    expires: u64,
    adapter: [u8; 32],
    base: [u8; 32],
    method: [u8; 32],
    key: [u8; Key::BYTES],
    signer: [u8; 8],
    signature: [u8; 64],
}

fn method_name(adapter: &Adapter<'_>) -> Option<[u8; 32]> {
    let (mut bytes, name) = ([0; 32], adapter.method());
    bytes.get_mut(..name.len())?.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    Some(bytes)
}

const MAGIC: [u8; 8] = *b"INGRSEAL";
const FORMAT: u32 = 1;
/// Bytes before the signature.
const SIGNED: usize = core::mem::offset_of!(Record, signature);
const _: () = assert!(size_of::<Record>() == Seal::BYTES);
