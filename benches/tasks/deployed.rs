//! Judging an adapter file as a device would run it.

use ingraft::adapter::{AdapterSet, Base, TermSource};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::Host;
use ingraft::plan::{Phase, PlanView};
use ingraft_dataset::stats::argmax;

use crate::Failure;
use crate::base::target;
use crate::support::{AlignedBytes, floats};

/// A fresh inference session of a plan.
pub(crate) struct Deployed<'p, 'm> {
    session: Session<'p, 'm, Host>,
}

/// The memory such a session needs.
pub(crate) fn memory(plan: &PlanView<'_>) -> Result<AlignedBytes, Failure> {
    Ok(AlignedBytes::zeroed(MemoryNeeds::new(plan, Phase::Infer, target())?.total()))
}

impl<'p, 'm> Deployed<'p, 'm> {
    /// Binds `plan`.
    pub(crate) fn new(plan: PlanView<'p>, memory: &'m mut AlignedBytes) -> Result<Self, Failure> {
        Ok(Self { session: Session::bind(plan, Phase::Infer, target(), memory.as_mut())? })
    }

    /// Attaches `adapter` (16-byte aligned) and gives the class of each clip of patches, then detaches it and
    /// proves on the first clip that the base is what it was.
    pub(crate) fn classify(&mut self, adapter: &[u8], clips: &[Vec<u8>]) -> Result<Vec<usize>, Failure> {
        let plan = *self.session.plan();
        let witness = clips.first().map_or(&[][..], Vec::as_slice);
        let before = self.outputs(&Base, witness)?;
        let mut set = AdapterSet::<1>::new();
        let id = set.attach(adapter, &plan)?;
        set.switch(Some(id))?;
        let classes = clips.iter().map(|clip| self.class(&set.active(), clip)).collect::<Result<_, _>>()?;
        set.detach(id)?;
        if self.outputs(&set.active(), witness)? != before {
            return Err("the base gives other bytes after the adapter was detached".into());
        }
        Ok(classes)
    }

    /// The class of a clip under the base's own outputs, or the head of `source`.
    pub(crate) fn class<S: TermSource>(&mut self, source: &S, clip: &[u8]) -> Result<usize, Failure> {
        let mut sums: Vec<f32> = Vec::new();
        for patch in self.patches(clip) {
            self.session.write_input(0, patch)?;
            self.session.run(source)?;
            let scores = match source.head() {
                Some(head) => {
                    let mut logits = vec![0.0; head.classes];
                    self.session.read_logits(0, &mut logits).ok_or("the head gave no logits")?;
                    logits
                }
                None => self.scores()?,
            };
            sums.resize(scores.len(), 0.0);
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
        }
        argmax(&sums).ok_or_else(|| "there are no scores".into())
    }

    fn scores(&self) -> Result<Vec<f32>, Failure> {
        Ok(floats(self.session.output(0).ok_or("the plan has no output")?.bytes()))
    }

    /// The bytes of every output for every patch of a clip.
    fn outputs<S: TermSource>(&mut self, source: &S, clip: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        for patch in self.patches(clip) {
            self.session.write_input(0, patch)?;
            self.session.run(source)?;
            let outputs = self.session.plan().outputs().count();
            (0..outputs).filter_map(|i| self.session.output(i)).for_each(|output| all.extend(output.bytes()));
        }
        Ok(all)
    }

    fn patches<'c>(&self, clip: &'c [u8]) -> impl Iterator<Item = &'c [u8]> + use<'c> {
        let plan = self.session.plan();
        let input = plan.inputs().next().and_then(|io| plan.tensor(io.tensor));
        let unit = input.map_or(1, |input| input.operand.shape.elements() * input.operand.dtype.size());
        clip.chunks_exact(unit)
    }
}
