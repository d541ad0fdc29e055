//! The operating system's random numbers.

use ingraft_train::private::{Entropy, NoEntropy};
use zeroize::Zeroize;

/// The operating system's generator, asked for a block at a time. There is no seed: nobody can set or repeat what it gives.
pub(crate) struct OsEntropy {
    block: [u8; Self::BLOCK],
    /// Bytes of it that were handed out, and are no longer in it.
    used: usize,
}

impl OsEntropy {
    const BLOCK: usize = 4096;

    pub(crate) fn new() -> Self {
        Self { block: [0; Self::BLOCK], used: Self::BLOCK }
    }
}

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        if bytes.len() > Self::BLOCK - self.used {
            if bytes.len() > Self::BLOCK {
                return getrandom::fill(bytes).map_err(|_| NoEntropy);
            }
            getrandom::fill(&mut self.block).map_err(|_| NoEntropy)?;
            self.used = 0;
        }
        let given = &mut self.block[self.used..self.used + bytes.len()];
        bytes.copy_from_slice(given);
        given.zeroize();
        self.used += bytes.len();
        Ok(())
    }
}

impl Drop for OsEntropy {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_are_alike() {
        let (mut one, mut other) = (OsEntropy::new(), OsEntropy::new());
        let mut drawn = Vec::new();
        for entropy in [&mut one, &mut other] {
            for len in [8, 4090, 8, 5000, 16] {
                let mut bytes = vec![0; len];
                entropy.fill(&mut bytes).expect("the system has a generator");
                drawn.push(bytes[..8].to_vec());
            }
        }
        let count = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), count);
    }
}
