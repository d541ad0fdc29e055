//! Processor features as values: to have one is the proof that it may be used.

/// Proof that the processor executes AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// Asks the processor and the operating system.
    #[cfg(feature = "std")]
    pub fn detect() -> Option<Self> {
        extern crate std;
        (std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// What the program was compiled for (`-C target-cpu`, `-C target-feature`).
    pub const fn baseline() -> Option<Self> {
        if cfg!(all(target_feature = "avx2", target_feature = "fma")) { Some(Self(())) } else { None }
    }

    /// The caller's word.
    ///
    /// # Safety
    /// - The processor executes AVX2 and FMA.
    /// - The operating system saves the 256-bit registers.
    pub const unsafe fn assume() -> Self {
        Self(())
    }
}
