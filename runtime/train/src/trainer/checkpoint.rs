//! Everything that a training run is at a moment, as bytes.
//!
//! A run that is bound again with the same setup and given these bytes goes on to the same result, to the bit. The
//! layout is: magic, content hash of the plan, a record of the run, the vectors in the order of [`Vectors`], and the
//! BLAKE3 hash of all that. Little-endian, as plans are.

use ingraft_kernel::Target;
use ingraft_tensor::bytes::{self, Plain};
use ingraft_tensor::hash::{HASH_BYTES, blake3};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Trainer;
use crate::TrainError;

const MAGIC: [u8; 8] = *b"INGRTRN2";

/// What has to agree, and the counters.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    /// Tells method, sites, optimizer and seed apart.
    run: [u8; 8],
    parameters: u32,
    computed: u32,
    constants: u32,
    indptr: u32,
    indices: u32,
    features: u32,
    steps: u32,
    clips: u32,
    observed: u32,
    loss: f32,
}

/// Copies values from or to a checkpoint.
trait Vectors {
    fn visit<T: Plain>(&mut self, values: &mut [T]) -> Option<()>;
}

/// To a checkpoint.
struct Writer<'o>(&'o mut [u8]);

impl Writer<'_> {
    fn put(&mut self, source: &[u8]) -> Option<()> {
        let (to, rest) = core::mem::take(&mut self.0).split_at_mut_checked(source.len())?;
        to.iter_mut().zip(source).for_each(|(t, s)| *t = *s);
        self.0 = rest;
        Some(())
    }
}

impl Vectors for Writer<'_> {
    fn visit<T: Plain>(&mut self, values: &mut [T]) -> Option<()> {
        self.put(bytes::of(values))
    }
}

/// From a checkpoint.
struct Reader<'i>(&'i [u8]);

impl Reader<'_> {
    fn take(&mut self, to: &mut [u8]) -> Option<()> {
        let (from, rest) = self.0.split_at_checked(to.len())?;
        to.iter_mut().zip(from).for_each(|(t, f)| *t = *f);
        self.0 = rest;
        Some(())
    }
}

impl Vectors for Reader<'_> {
    fn visit<T: Plain>(&mut self, values: &mut [T]) -> Option<()> {
        self.take(bytes::of_mut(values))
    }
}

/// Counts bytes.
struct Counter(usize);

impl Vectors for Counter {
    fn visit<T: Plain>(&mut self, values: &mut [T]) -> Option<()> {
        self.0 = self.0.checked_add(size_of_val(values))?;
        Some(())
    }
}

impl<T: Target> Trainer<'_, '_, T> {
    /// Bytes of [`Self::save`].
    pub fn checkpoint_bytes(&mut self) -> usize {
        let fixed =
            MAGIC.len().saturating_add(HASH_BYTES.saturating_mul(2)).saturating_add(size_of::<Record>());
        let mut counter = Counter(fixed);
        self.vectors(&mut counter).map_or(usize::MAX, |()| counter.0)
    }

    /// Writes all that the run is between two clips: parameters, accumulated gradients, the optimizer's state, feature
    /// statistics, counters.
    ///
    /// # Errors
    /// [`TrainError::Busy`] within a clip; [`TrainError::Length`] unless `out` has [`Self::checkpoint_bytes`].
    pub fn save(&mut self, out: &mut [u8]) -> Result<(), TrainError> {
        self.idle()?;
        self.settle()?;
        self.fetch()?;
        let needed = self.checkpoint_bytes();
        let given = out.len();
        let length = TrainError::Length { needed, given };
        if given != needed {
            return Err(length);
        }
        let (content, hash) = out.split_at_mut_checked(needed.saturating_sub(HASH_BYTES)).ok_or(length)?;
        let mut writer = Writer(&mut *content);
        let record = self.record();
        let written = writer
            .put(&MAGIC)
            .and_then(|()| writer.put(self.session.plan().hash()))
            .and_then(|()| writer.put(record.as_bytes()))
            .and_then(|()| self.vectors(&mut writer));
        written.ok_or(length)?;
        hash.iter_mut().zip(blake3(content)).for_each(|(h, b)| *h = b);
        Ok(())
    }

    /// Goes on where [`Self::save`] was called.
    ///
    /// # Errors
    /// [`TrainError::Damaged`] for bytes that are no whole checkpoint, [`TrainError::OtherRun`] for that of another
    /// plan, method, choice of sites, optimizer or seed; nothing is changed then.
    pub fn resume(&mut self, checkpoint: &[u8]) -> Result<(), TrainError> {
        self.idle()?;
        self.settle()?;
        let content = checkpoint.split_at_checked(checkpoint.len().saturating_sub(HASH_BYTES));
        let (content, hash) = content.ok_or(TrainError::Damaged)?;
        if blake3(content) != hash || !content.starts_with(&MAGIC) {
            return Err(TrainError::Damaged);
        }
        let mut reader = Reader(content);
        let (mut magic, mut plan, mut record) = (MAGIC, [0; HASH_BYTES], self.record());
        let head = reader
            .take(&mut magic)
            .and_then(|()| reader.take(&mut plan))
            .and_then(|()| reader.take(record.as_mut_bytes()));
        head.ok_or(TrainError::Damaged)?;
        let Record { steps, clips, observed, loss, .. } = record;
        let same = Record { steps, clips, observed, loss, ..self.record() } == record;
        if !same || plan != *self.session.plan().hash() || checkpoint.len() != self.checkpoint_bytes() {
            return Err(TrainError::OtherRun);
        }
        self.vectors(&mut reader).ok_or(TrainError::Damaged)?;
        self.apart.iter_mut().for_each(|apart| (apart.ahead, apart.held) = (false, true));
        (self.steps, self.clips, self.loss) = (steps, clips, loss);
        self.statistics.observed = observed;
        self.stale = true;
        self.compute_all();
        Ok(())
    }

    fn record(&self) -> Record {
        let count = |len: usize| len as u32;
        Record {
            run: self.run().to_le_bytes(),
            parameters: count(self.parameters.values.len()),
            computed: count(self.parameters.computed.len()),
            constants: count(self.latent.constants.len()),
            indptr: count(self.parameters.indptr.len()),
            indices: count(self.parameters.indices.len()),
            features: count(self.statistics.mean.len()),
            steps: self.steps,
            clips: self.clips,
            observed: self.statistics.observed,
            loss: if self.loss.is_nan() { 0.0 } else { self.loss },
        }
    }

    /// FNV-1a over what tells one run from another.
    fn run(&self) -> u64 {
        let names = self.setup.method.name().bytes().chain(self.setup.optimizer.name().bytes());
        let sites = self.setup.sites.iter().flat_map(|site| site.to_le_bytes());
        let all = names.chain(sites).chain(self.setup.seed.to_le_bytes());
        all.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    fn vectors(&mut self, to: &mut impl Vectors) -> Option<()> {
        to.visit(self.parameters.values)?;
        to.visit(self.gradients)?;
        to.visit(self.state)?;
        to.visit(self.latent.gradients)?;
        to.visit(self.latent.constants)?;
        // Methods may choose positions anew.
        to.visit(self.parameters.indptr)?;
        to.visit(self.parameters.indices)?;
        to.visit(self.statistics.mean)?;
        to.visit(self.statistics.inverse_std)
    }
}
