//! Configurations as 32-bit words, the form in which a plan file stores them.

/// Writes words into a fixed record, in field order.
pub(crate) struct WordWriter<'a> {
    slots: core::slice::IterMut<'a, u32>,
}

impl<'a> WordWriter<'a> {
    pub(crate) fn new(words: &'a mut [u32]) -> Self {
        Self { slots: words.iter_mut() }
    }

    pub(crate) fn word(&mut self, value: u32) {
        if let Some(slot) = self.slots.next() {
            *slot = value;
        }
    }

    pub(crate) fn float(&mut self, value: f32) {
        self.word(value.to_bits());
    }
}

/// Reads words in field order; `None` past the end.
pub(crate) struct WordReader<'a> {
    words: core::slice::Iter<'a, u32>,
}

impl<'a> WordReader<'a> {
    pub(crate) fn new(words: &'a [u32]) -> Self {
        Self { words: words.iter() }
    }

    pub(crate) fn word(&mut self) -> Option<u32> {
        self.words.next().copied()
    }

    pub(crate) fn float(&mut self) -> Option<f32> {
        self.word().map(f32::from_bits)
    }

    /// Whether every word not yet read is zero: one recipe has one record, so that equal recipes hash
    /// equally.
    pub(crate) fn rest_is_zero(mut self) -> bool {
        self.words.all(|word| *word == 0)
    }
}

/// A closed choice with a stable word for plan files and a stable name for configuration files.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $text:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant = $word, )+ }

        impl $name {
            /// The name used in configuration files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// The choice of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( $text => Some(Self::$variant), )+ _ => None }
            }

            pub(crate) const fn from_word(word: u32) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )+ _ => None }
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use crate::{Axes, Layout, Spectrum, Window};

    #[test]
    fn names_and_words_return_the_choice() {
        macro_rules! check {
            ($($choice:ident)*) => {$(
                let mut known = 0;
                while let Some(choice) = $choice::from_word(known) {
                    assert_eq!($choice::from_name(choice.name()), Some(choice));
                    assert_eq!(choice as u32, known);
                    known += 1;
                }
                assert!(known >= 2);
                assert_eq!(($choice::from_word(u32::MAX), $choice::from_name("")), (None, None));
            )*};
        }
        check!(Axes Layout Spectrum Window);
    }
}
