//! Functions selected by a code in an attribute record.

/// Declares a closed list of functions with their file codes.
macro_rules! function_codes {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant = $code,)* }

        impl $name {
            /// Every function, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The function with file code `code`, or `None`.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The code that stands in attribute records.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// The name as printed by `inspect`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }
    };
}

pub(crate) use function_codes;
