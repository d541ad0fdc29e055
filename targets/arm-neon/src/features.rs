//! Processor features as values: to have one is the proof that it may be used.

macro_rules! proof {
    ($(#[$doc:meta])* $name:ident: $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            /// Asks the operating system.
            #[cfg(feature = "std")]
            pub fn detect() -> Option<Self> {
                extern crate std;
                let has = $(std::arch::is_aarch64_feature_detected!($feature))&&+;
                has.then_some(Self(()))
            }

            /// What the program was compiled for (`-C target-cpu`, `-C target-feature`).
            pub const fn baseline() -> Option<Self> {
                if cfg!(all($(target_feature = $feature),+)) { Some(Self(())) } else { None }
            }

            /// The caller's word.
            ///
            /// # Safety
            /// The processor executes the extensions this type stands for.
            pub const unsafe fn assume() -> Self {
                Self(())
            }
        }
    };
}

proof! {
    /// Proof that the processor executes NEON, as all with an operating system do.
    Neon: "neon"
}

proof! {
    /// Proof that the processor executes NEON and the int8 dot product `SDOT`: Cortex-A55,
    /// A75 and later.
    DotProd: "neon", "dotprod"
}

proof! {
    /// Proof that the processor executes NEON, `SDOT` and the int8 matrix product `SMMLA`:
    /// Armv8.6 and later.
    I8mm: "neon", "dotprod", "i8mm"
}

proof! {
    /// Proof that the processor executes NEON and arithmetic of f16 vectors: Cortex-A55, A75 and later, Carmel.
    Fp16: "neon", "fp16"
}
