//! Differentially private training (DP-SGD; Abadi et al. 2016, "Deep Learning with Differential Privacy").
//!
//! A *unit* is what is protected: one clip, or a group of clips, by all of its patches and versions together. Per step
//! every unit is taken with the same probability, independently ([`uniform`]); the gradients of a unit are summed, then shortened
//! to a bound ([`PrivateSum::add`]); the sum over units gets Gaussian noise and is divided by the number of units expected
//! ([`PrivateSum::release`]), and becomes the trainer's gradient ([`crate::Trainer::set_gradients`]).
//! [`SampledGaussian`] says what that gives away.
//!
//! Two data sets are neighbours where one has a unit that the other has not. What is said holds for whoever sees every
//! step, hence for whoever sees the adapter.

mod accountant;
mod noise;
mod sum;

pub use accountant::SampledGaussian;
pub use noise::{Entropy, NoEntropy, gaussian, uniform};
pub use sum::{PrivateSum, bounded_norm};
