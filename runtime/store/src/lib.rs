//! Keeps adapters where they outlive power cuts: in NOR flash, or in a directory.
//!
//! A device has one frozen base and adapters that come later: trained on the spot, or sent to it. This crate keeps each
//! under a [`Key`], and promises that whenever the power goes, the store holds the state from before the operation or
//! from after it, and that the last good adapter of every key is there.
//!
//! # Examples
//!
//! A new adapter, from its arrival to the end of its trial:
//!
//! ```
//! use embedded_storage::nor_flash::NorFlash;
//! use ingraft_store::{
//!     FlashStore, Guard, Key, Nor, Observed, Place, Policy, PublicKey, Region, Seal, StoreError, Verdict,
//! };
//!
//! fn update<F: NorFlash>(
//!     flash: F,
//!     (file, seal): (&[u8], &Seal),
//!     vendor: &[PublicKey],
//!     memory: &mut [u8],
//! ) -> Result<Verdict, StoreError<F::Error>> {
//!     let region = Region { offset: 0, bank_bytes: 8192, file_bytes: 256 * 1024 };
//!     let mut places = [Place::EMPTY; Place::places(20)];
//!     let mut store = FlashStore::open(Nor::open(flash, region)?, &mut places)?;
//!
//!     let key = Key::new("mill-3").expect("a name");
//!     store.stage(key, file, Some(seal), &Policy::signed(vendor, None))?;
//!     store.begin_trial(&key, 1)?;
//!     let adapter = store.load(&key, memory)?;
//!     assert!(adapter.on_trial);
//!     // Attach `adapter.bytes`, run the clips that were held out, count:
//!     let observed = Observed { clips: 40, right: 36, good_right: 33, ..Observed::default() };
//!     store.judge(&key, &observed, &Guard { clips: 40, least_right: 700, most_lost: 20, most_saturated: 10 })
//! }
//! ```
//!
//! # Concepts
//!
//! - **States** ([`KeyState`]): a file is staged, then on trial, then good. Whatever is not confirmed, by [`Store::confirm`]
//!   or by a [`Guard`], reverts to the last good one; so does a trial that more restarts interrupt than it was given.
//! - **Policy**: what a file must prove to be staged, from nothing to a signature by a pinned key ([`Policy`], [`Seal`]).
//!   Under [`Level::Signed`] the version never goes back.
//! - **Room**: where room is needed, the least recently used adapters go that are neither pinned nor the fallback of a
//!   candidate. Files are written round the region, so that its sectors wear evenly.
//! - **Reading**: [`Store::load`] copies a file to the caller's memory, [`Store::mapped`] uses it where flash is mapped to
//!   memory; either way its hash is verified then. Which adapter acts in an inference is not the store's affair:
//!   attach it and say so per call.
//! - **Formats**: [`record`] has that of a key, the head of a bank is at [`Nor`], that of a seal at [`Seal`].
//!
//! # What is trusted
//!
//! Every byte that is read is checked before it means anything, and no read takes longer than linear time in the records
//! (for keys not chosen to collide, else times the places of the index) or panics. Checks show damage, not malice: who
//! can write the flash can put an older state there. A device that fears that holds the seal ([`Store::seal`]) to its
//! policy after loading.
//!
//! A flipped bit in a record takes the key back to its record before, in a file it makes loading
//! [`Refusal::Damaged`]; the base is still there.
//!
//! # Why not `sequential-storage`
//!
//! Its map keeps the newest value of a key over the same flash traits, with wear levelling. But its interface is async,
//! an item must fit a page and is read through a buffer, so adapters could not be used in place and would need the
//! allocator here anyway; one step of a key must be one record, which the map would give, and the file's room must be
//! known to be free from the same records, for which every one of them must be read at the start, in order. What is left
//! for it to do are two banks and a check: less code than the adaptor, and with an order of writes that a test can
//! enumerate.
//!
//! # Features
//!
//! `std` adds the store in a directory, `sign` making keys and seals. Without `verify`, which is on by default, seals cannot be
//! verified: the policy `signed` admits nothing, and what is left contains no panic, by the link-time check of
//! `tests/bare-metal`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
mod directory;
mod error;
mod guard;
mod index;
mod key;
mod medium;
mod nor;
mod policy;
pub mod record;
mod seal;
mod state;
mod store;

#[cfg(feature = "std")]
pub use directory::{Directory, DirectoryStore};
pub use error::{Refusal, StoreError};
pub use guard::{Guard, Observed, Reason, Verdict};
pub use index::Place;
pub use key::Key;
pub use medium::{Medium, Shortage, States};
pub use nor::{FlashStore, Nor, Region};
pub use policy::{Level, Policy};
#[cfg(feature = "sign")]
pub use seal::SecretKey;
pub use seal::{PublicKey, Seal, SealError, Statement};
pub use state::{Candidate, KeyState, Stage, Stored};
pub use store::{Loaded, Store};
