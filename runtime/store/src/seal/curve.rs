//! The curve that signatures are made on. Without the feature `verify` there is none, and nothing verifies.

#[cfg(feature = "verify")]
use ed25519_dalek::{Signature, VerifyingKey};

/// A public key of full order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(feature = "verify")]
pub(super) struct Point(pub(super) VerifyingKey);

#[cfg(feature = "verify")]
impl Point {
    pub(super) fn new(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Strict: one file has one signature, and keys of small order sign nothing.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(signed, &Signature::from_bytes(signature)).is_ok()
    }
}

/// No bytes are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(not(feature = "verify"))]
pub(super) enum Point {}

#[cfg(not(feature = "verify"))]
impl Point {
    pub(super) fn new(_: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        match self {}
    }

    pub(super) fn verifies(&self, _: &[u8], _: &[u8; 64]) -> bool {
        match *self {}
    }
}
