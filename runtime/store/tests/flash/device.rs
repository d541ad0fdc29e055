//! A NOR flash in memory that loses power where it is told to.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use ingraft_tensor::Rng;

/// A NOR flash with words of `WRITE` bytes and sectors of `ERASE`. Writing a word and erasing a sector is a unit of
/// work each; the power may go during any.
#[derive(Clone, Debug)]
pub(crate) struct Flash<const WRITE: usize, const ERASE: usize> {
    pub(crate) bytes: Vec<u8>,
    /// Words that may not be written before they are erased. A word that was cut is one, whatever it reads as.
    used: Vec<bool>,
    /// How often each sector was erased.
    pub(crate) erased: Vec<u32>,
    /// Units of work done.
    pub(crate) units: u64,
    cut: Option<u64>,
    rng: Rng,
}

/// Why the flash fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power is gone.
    Power,
    /// The driver was misused.
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Power => NorFlashErrorKind::Other,
            Self::Misuse(kind) => *kind,
        }
    }
}

impl<const WRITE: usize, const ERASE: usize> Flash<WRITE, ERASE> {
    /// A flash that was never erased, full of noise.
    pub(crate) fn new(sectors: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let bytes = (0..sectors * ERASE).map(|_| rng.next_u64() as u8).collect();
        let used = vec![true; sectors * ERASE / WRITE];
        Self { bytes, used, erased: vec![0; sectors], units: 0, cut: None, rng }
    }

    /// Lets the power go in the unit of work after `units` more.
    pub(crate) fn cut_after(&mut self, units: u64, seed: u64) {
        self.cut = Some(self.units + units);
        self.rng = Rng::new(seed);
    }

    /// Switches the power on again.
    pub(crate) fn restore(&mut self) {
        self.cut = None;
    }

    fn powered(&self) -> Result<(), Fault> {
        if self.cut.is_some_and(|cut| self.units > cut) { Err(Fault::Power) } else { Ok(()) }
    }

    /// Whether the next unit of work is done; where the power goes, whatever is left of `target` is done.
    fn unit(&mut self, at: usize, target: &[u8]) -> Result<(), Fault> {
        self.powered()?;
        let now = self.cut == Some(self.units);
        self.units += 1;
        let bytes = &mut self.bytes[at..at + target.len()];
        if !now {
            bytes.copy_from_slice(target);
            return Ok(());
        }
        match self.rng.below(5) {
            0 => {}
            1 => bytes.copy_from_slice(target),
            // Cells change one by one.
            2 => bytes.iter_mut().zip(target).for_each(|(byte, target)| {
                let done = self.rng.next_u64() as u8;
                *byte = (*byte & !done) | (target & done);
            }),
            // The driver promises nothing of what was being written.
            3 => bytes.iter_mut().for_each(|byte| *byte = self.rng.next_u64() as u8),
            _ => {
                bytes.copy_from_slice(target);
                let bit = self.rng.below(8 * target.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        Err(Fault::Power)
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for Flash<WRITE, ERASE> {
    type Error = Fault;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for Flash<WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        self.powered()?;
        check_read(self, offset, bytes.len()).map_err(Fault::Misuse)?;
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for Flash<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        check_erase(self, from, to).map_err(Fault::Misuse)?;
        for sector in from as usize / ERASE..to as usize / ERASE {
            let words = sector * ERASE / WRITE..(sector + 1) * ERASE / WRITE;
            // Cut short, the sector may not be written before it is erased again.
            self.used[words.clone()].fill(true);
            self.erased[sector] += 1;
            self.unit(sector * ERASE, &[0xff; ERASE])?;
            self.used[words].fill(false);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        check_write(self, offset, bytes.len()).map_err(Fault::Misuse)?;
        for (word, bytes) in (offset as usize / WRITE..).zip(bytes.chunks(WRITE)) {
            self.powered()?;
            if core::mem::replace(&mut self.used[word], true) {
                // Begun and cut before anything could be seen of it: what a second write gives is anyone's guess.
                let cells = &self.bytes[word * WRITE..][..WRITE];
                assert!(cells.iter().all(|byte| *byte == 0xff), "word {word} is written twice");
                let guess: Vec<u8> = bytes.iter().map(|byte| byte & self.rng.next_u64() as u8).collect();
                let taken = if self.rng.below(2) == 0 { bytes } else { &guess };
                self.unit(word * WRITE, taken)?;
                continue;
            }
            self.unit(word * WRITE, bytes)?;
        }
        Ok(())
    }
}
