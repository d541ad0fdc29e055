//! A NOR flash in memory, behind the traits that drivers of real ones implement. On a board, its driver stands here.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Writing only clears bits, erasing sets those of a whole sector, and the power may go during either.
#[derive(Debug)]
pub struct SimulatedNor<'m> {
    cells: &'m mut [u8],
    /// Words and sectors that are still written or erased before the power goes.
    left: Option<u32>,
}

/// Why the flash fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NorFault {
    /// The power is gone.
    Power,
    /// The driver was misused.
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for NorFault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Power => NorFlashErrorKind::Other,
            Self::Misuse(kind) => *kind,
        }
    }
}

impl<'m> SimulatedNor<'m> {
    /// The flash that lies in `cells`, with what it holds.
    pub fn new(cells: &'m mut [u8]) -> Self {
        Self { cells, left: None }
    }

    /// Lets the power go in the middle of the word or sector after `units` more.
    pub fn cut_after(&mut self, units: u32) {
        self.left = Some(units);
    }

    /// Whether the next unit of work is done whole.
    fn spend(&mut self) -> Result<bool, NorFault> {
        match &mut self.left {
            None => Ok(true),
            Some(u32::MAX) => Err(NorFault::Power),
            Some(left) => {
                *left = left.checked_sub(1).unwrap_or(u32::MAX);
                Ok(*left != u32::MAX)
            }
        }
    }

    /// Changes `len` cells from `at` on, the first half of them where the power goes.
    fn change(
        &mut self,
        at: usize,
        len: usize,
        mut cell: impl FnMut(usize, u8) -> u8,
    ) -> Result<(), NorFault> {
        let whole = self.spend()?;
        let done = if whole { len } else { len / 2 };
        let cells = self.cells.iter_mut().skip(at).take(done).enumerate();
        cells.for_each(|(index, value)| *value = cell(index, *value));
        if whole { Ok(()) } else { Err(NorFault::Power) }
    }
}

impl ErrorType for SimulatedNor<'_> {
    type Error = NorFault;
}

impl ReadNorFlash for SimulatedNor<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFault> {
        check_read(&*self, offset, bytes.len()).map_err(NorFault::Misuse)?;
        bytes.iter_mut().zip(self.cells.iter().skip(offset as usize)).for_each(|(to, cell)| *to = *cell);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.cells.len()
    }
}

impl NorFlash for SimulatedNor<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFault> {
        check_erase(&*self, from, to).map_err(NorFault::Misuse)?;
        let sectors = (from as usize..to as usize).step_by(Self::ERASE_SIZE);
        sectors.into_iter().try_for_each(|at| self.change(at, Self::ERASE_SIZE, |_, _| 0xff))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFault> {
        check_write(&*self, offset, bytes.len()).map_err(NorFault::Misuse)?;
        let words = (offset as usize..).step_by(Self::WRITE_SIZE).zip(bytes.chunks(Self::WRITE_SIZE));
        for (at, word) in words {
            self.change(at, word.len(), |index, cell| cell & word.get(index).copied().unwrap_or(0xff))?;
        }
        Ok(())
    }
}
