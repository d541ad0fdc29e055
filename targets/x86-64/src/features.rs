//! Processor features as values: to have one is the proof that it may be used.

macro_rules! proofs {
    ($($(#[$doc:meta])* $name:ident: $($feature:tt),+;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            /// Asks the processor and the operating system.
            #[cfg(feature = "std")]
            pub fn detect() -> Option<Self> {
                extern crate std;
                ($(std::is_x86_feature_detected!($feature))&&+).then_some(Self(()))
            }

            /// What the program was compiled for (`-C target-cpu`, `-C target-feature`).
            pub const fn baseline() -> Option<Self> {
                if cfg!(all($(target_feature = $feature),+)) { Some(Self(())) } else { None }
            }

            /// The caller's word.
            ///
            /// # Safety
            /// - The processor executes these instructions.
            /// - The operating system saves the registers they use.
            pub const unsafe fn assume() -> Self {
                Self(())
            }
        }
    )*};
}

proofs! {
    /// Proof that the processor executes AVX2 and FMA.
    Avx2: "avx2", "fma";
    /// Proof that the processor executes `vpdpbusd` on 256-bit vectors besides AVX2 and FMA (Intel since
    /// Alder Lake, its N series too, AMD since Zen 5).
    AvxVnni: "avx2", "fma", "avxvnni";
    /// Proof that the processor executes AVX-512 with byte and word instructions, byte permutations
    /// and `vpdpbusd` (Intel since Ice Lake, AMD since Zen 4), besides AVX2 and FMA.
    Avx512: "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni";
}

impl From<AvxVnni> for Avx2 {
    fn from(_: AvxVnni) -> Self {
        Self(())
    }
}

impl From<Avx512> for Avx2 {
    fn from(_: Avx512) -> Self {
        Self(())
    }
}
