//! What a device accepts.

use ingraft_adapter::Adapter;

use crate::{Key, PublicKey, Refusal, Seal, SealError};

/// What a file must have to be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy<'a> {
    /// How much must be proved.
    pub level: Level<'a>,
    /// The base it must be for; looked at from [`Level::Hashed`] on.
    pub base: Option<[u8; 32]>,
}

/// How much must be proved of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level<'a> {
    /// Nothing: any bytes.
    Any,
    /// That it is an adapter file with the content that its own hash names. This shows damage, not who made it.
    Hashed,
    /// That one of these keys vouches for it, for its base, its method and the key it is kept under, and for a version
    /// that is not below any that was ever good under that key.
    Signed {
        /// The keys that are trusted: pinned in firmware.
        trusted: &'a [PublicKey],
        /// Seconds since 1970. A device without a clock says `None` and accepts only seals that do not expire.
        now: Option<u64>,
    },
}

impl<'a> Policy<'a> {
    /// Any bytes.
    pub const ANY: Self = Self { level: Level::Any, base: None };
    /// Any undamaged adapter file.
    pub const HASHED: Self = Self { level: Level::Hashed, base: None };

    /// Adapter files that one of `trusted` vouches for.
    pub const fn signed(trusted: &'a [PublicKey], now: Option<u64>) -> Self {
        Self { level: Level::Signed { trusted, now }, base: None }
    }

    /// The same, for adapters of the base with this content hash alone.
    pub const fn for_base(self, base: [u8; 32]) -> Self {
        Self { base: Some(base), ..self }
    }

    /// The version of `file`, to be kept under `key`, if it is admitted; 0 where none is proved. `floor` is the lowest
    /// version that may be. From [`Level::Hashed`] on the file must start at a 16-byte boundary.
    ///
    /// # Errors
    /// [`Refusal::Adapter`], [`Refusal::WrongBase`], [`Refusal::Seal`].
    pub fn admit(&self, key: &Key, file: &[u8], seal: Option<&Seal>, floor: u64) -> Result<u64, Refusal> {
        if self.level == Level::Any {
            return Ok(0);
        }
        let adapter = Adapter::open(file).map_err(Refusal::Adapter)?;
        if self.base.is_some_and(|base| base != *adapter.base_hash()) {
            return Err(Refusal::WrongBase);
        }
        let Level::Signed { trusted, now } = self.level else { return Ok(0) };
        let statement = seal.ok_or(SealError::Missing).and_then(|seal| seal.verify(trusted));
        let statement = statement.map_err(Refusal::Seal)?;
        statement.check(&adapter, key, now, floor).map_err(Refusal::Seal)?;
        Ok(statement.version)
    }
}
