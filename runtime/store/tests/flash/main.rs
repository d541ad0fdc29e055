//! The store in NOR flash: its life, its end at every moment, and what others may do to it.

mod cuts;
mod device;
mod hostile;
mod life;
#[cfg(feature = "sign")]
mod seal;
