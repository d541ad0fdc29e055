//! Checkpoints of other libraries: what they compute here is what they compute there, and what does not fit is refused.

mod agree;
mod algebra;
mod carried;
mod exported;
mod fixture;
mod hostile;
mod native;
mod refusal;
mod weighed;
