//! What a clip may be made of.

/// One PCM sample of a mono clip.
pub trait Sample: Copy {
    /// The sample as a float; full scale is ±1.
    fn to_f32(self) -> f32;
}

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

/// Exact: the divisor is a power of two.
impl Sample for i16 {
    fn to_f32(self) -> f32 {
        f32::from(self) / 32768.0
    }
}
