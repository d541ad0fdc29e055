//! Front ends against NumPy, against a naive f64 reference on real recordings, and against themselves in a
//! stream.

mod clips;
mod golden;
mod naive;
mod recordings;
mod sizes;
mod stream;
mod untrusted;
