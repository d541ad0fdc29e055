//! Names that adapters are kept under.

use core::fmt;
use ingraft_tensor::arrays::arrays;

/// The name that a device keeps an adapter under, say that of a place or a season: 1 to 16 of the letters `a` to `z`,
/// digits, `-`, `_` and `.`, the first a letter or a digit. No capitals: it is also the name of a file, and some systems
/// hold `A` and `a` for one.
///
/// # Examples
/// ```
/// use ingraft_store::Key;
///
/// let key = Key::new("mill-3").expect("a name");
/// assert_eq!(key.as_str(), "mill-3");
/// assert!(Key::new("").is_none() && Key::new("../x").is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// Most bytes of a name.
    pub const BYTES: usize = 16;

    /// The key called `name`, or `None` where that cannot be one.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        bytes.get_mut(..name.len())?.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        Self::from_bytes(bytes)
    }

    /// The key of these bytes, padded with zeros; `None` where they are not one.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [first, ..] = bytes;
        let mut name = bytes.split(|byte| *byte == 0);
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: &u8| plain(byte) || matches!(byte, b'-' | b'_' | b'.');
        let spelled = plain(&first) && name.next()?.iter().all(allowed);
        (spelled && name.all(<[u8]>::is_empty)).then_some(Self(bytes))
    }

    /// Its bytes, padded with zeros.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or(&[]);
        core::str::from_utf8(name).unwrap_or("")
    }

    /// A number that differs between most keys.
    pub(crate) fn spread(&self) -> usize {
        let words = arrays::<_, 8>(&self.0).0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mix = |sum: u64, word: u64| {
            let z = (sum ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z ^ (z >> 29)
        };
        words.fold(0x9e37_79b9_7f4a_7c15, mix) as usize
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_files() {
        for name in ["a", "7", "mill-3", "a.b_c", "sixteen.letters1"] {
            assert_eq!(
                Key::new(name).map(|key| Key::from_bytes(key.to_bytes())),
                Some(Key::new(name)),
                "{name}"
            );
        }
        for name in ["", ".", "-a", "A", "a/b", "a b", "é", "seventeen.letters"] {
            assert_eq!(Key::new(name), None, "{name}");
        }
        let mut bytes = [0; Key::BYTES];
        bytes[0] = b'a';
        bytes[9] = b'b';
        assert_eq!(Key::from_bytes(bytes), None, "nothing stands behind the end");
    }
}
