//! Attacks on what training gives away, as the literature does them, to measure how far its privacy holds.

pub(crate) mod inversion;
pub(crate) mod membership;
pub(crate) mod records;
pub(crate) mod span;
pub(crate) mod text;
