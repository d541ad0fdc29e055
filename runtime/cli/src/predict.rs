//! A plan bound to memory, run on feeds.

use ingraft_adapter::{Adapter, Link, TermSource};
use ingraft_dataset::Array;
use ingraft_exec::{ExecError, MemoryNeeds, Resident, Session, Trace};
use ingraft_plan::{ClipRule, IoView, Phase, PlanView};
use ingraft_tensor::{DType, QParams, bytes};
use serde::Serialize;

use crate::CliError;
use crate::backend::Backend;
use crate::input::Feed;

/// A plan ready to run, with the adapter that acts.
pub(crate) struct Predictor<'a, 'm, T: Backend> {
    session: Session<'a, 'm, T>,
    target: &'a T,
    adapter: Option<Resident<'m, Adapter<'a>>>,
    outputs: Vec<OutputSpec>,
}

/// What a predictor works in: a session's memory, and what is packed of the adapter.
pub(crate) struct Memory<T: Backend> {
    store: T::Store,
    room: Option<T::Room>,
    len: usize,
}

impl<T: Backend> Memory<T> {
    /// Memory for inferences of `plan` on `target`.
    pub(crate) fn new(plan: &PlanView<'_>, target: &T) -> Result<Self, CliError> {
        let len = MemoryNeeds::new(plan, Phase::Infer, target)?.total();
        Ok(Self { store: target.store(len)?, room: None, len })
    }

    /// Bytes of all, once a predictor has worked in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// What one output over all runs of a feed gave.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Its ONNX name; `logits` for an adapter's head.
    pub(crate) name: String,
    /// The values, runs joined along the outermost axis or by the clip rule.
    pub(crate) array: Array,
    /// Class names, where known.
    pub(crate) labels: Vec<String>,
    link: Link,
}

/// One class of one sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Score {
    /// Index of the class.
    pub(crate) index: usize,
    /// Its name, where known.
    pub(crate) label: Option<String>,
    /// A head's scores are probabilities; a model's are its output as it is.
    pub(crate) score: f32,
}

#[derive(Clone, Debug)]
struct OutputSpec {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    qparams: Option<QParams>,
    labels: Vec<String>,
    clip: ClipRule,
    link: Link,
}

impl<'a, 'm, T: Backend> Predictor<'a, 'm, T> {
    /// Binds `plan` to `memory`, and packs `adapter` there for the target: overlays and fused weights then run at the base's speed.
    pub(crate) fn new(
        plan: PlanView<'a>,
        target: &'a T,
        adapter: Option<Adapter<'a>>,
        memory: &'m mut Memory<T>,
    ) -> Result<Self, CliError> {
        let Memory { store, room, len } = memory;
        let session = Session::bind(plan, Phase::Infer, target, T::memory(store))?;
        let adapter = match adapter {
            Some(adapter) => {
                let bytes = Resident::bytes(&session, &adapter)?;
                *len = len.saturating_add(bytes);
                let room = room.insert(target.room(bytes)?);
                Some(Resident::new(&session, adapter, T::packed(room))?)
            }
            None => None,
        };
        let outputs = match adapter.head() {
            Some(head) => vec![OutputSpec {
                name: "logits".to_owned(),
                dtype: DType::F32,
                shape: vec![session.batch(), head.classes],
                qparams: None,
                labels: names(head.labels),
                // The head is linear and was trained on the mean over a clip's patches.
                clip: ClipRule::Mean,
                link: head.link,
            }],
            None => plan.outputs().filter_map(|io| OutputSpec::of(&plan, &io)).collect(),
        };
        Ok(Self { session, target, adapter, outputs })
    }

    /// Runs every run of `feed`.
    pub(crate) fn run(
        &mut self,
        feed: &Feed,
        trace: &mut (dyn Trace<T::Memory> + Send),
    ) -> Result<Vec<Output>, CliError> {
        let mut values: Vec<Vec<u8>> = vec![Vec::new(); self.outputs.len()];
        for run in &feed.runs {
            self.feed(run)?;
            self.infer(trace)?;
            for (index, (spec, values)) in self.outputs.iter().zip(&mut values).enumerate() {
                values.extend(self.read(index, spec)?);
            }
        }
        let join = |(index, (spec, values)): (usize, (&OutputSpec, Vec<u8>))| {
            let short = ExecError::Io { index: index as u32, expected: spec.bytes() };
            spec.join(values, feed).ok_or(CliError::Exec(short))
        };
        self.outputs.iter().zip(values).enumerate().map(join).collect()
    }

    /// Copies the bytes of every input into place.
    pub(crate) fn feed(&mut self, run: &[Vec<u8>]) -> Result<(), CliError> {
        for (index, bytes) in run.iter().enumerate() {
            self.session.write_input(index, bytes)?;
        }
        Ok(())
    }

    /// Runs once, leaving the outputs in memory.
    pub(crate) fn infer(&mut self, trace: &mut (dyn Trace<T::Memory> + Send)) -> Result<(), CliError> {
        self.target.infer(&mut self.session, &self.adapter, trace)?;
        self.target.wait()
    }

    fn read(&self, index: usize, spec: &OutputSpec) -> Result<Vec<u8>, CliError> {
        let mut bytes = vec![0; spec.bytes()];
        if self.adapter.head().is_none() {
            self.session.read_output(index, &mut bytes)?;
            return Ok(bytes);
        }
        let classes = spec.shape.last().copied().unwrap_or(0).max(1);
        let mut logits = vec![0.0f32; spec.elements()];
        for (sample, row) in logits.chunks_exact_mut(classes).enumerate() {
            // The adapter was checked against the room this plan reserves.
            let _ = self.session.read_logits(sample, row);
        }
        Ok(bytes::of(&logits).to_vec())
    }
}

impl OutputSpec {
    fn of(plan: &PlanView<'_>, io: &IoView<'_>) -> Option<Self> {
        let tensor = plan.tensor(io.tensor)?;
        let shape = tensor.operand.shape.dims().iter().map(|&extent| extent as usize).collect();
        Some(Self {
            name: io.name.to_owned(),
            dtype: tensor.operand.dtype,
            shape,
            qparams: tensor.qparams,
            labels: names(io.labels),
            clip: io.clip,
            link: Link::Identity,
        })
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }

    /// The output of a whole feed from the bytes of its runs, one behind the other;
    /// `None` when they are too few.
    fn join(&self, mut values: Vec<u8>, feed: &Feed) -> Option<Output> {
        let (batch, inner) = self.shape.split_first().map_or((1, &[][..]), |(&batch, inner)| (batch, inner));
        let row = inner.iter().product::<usize>();
        let padding = if feed.padding < batch { feed.padding } else { 0 };
        let rows = batch.checked_mul(feed.runs.len())?.checked_sub(padding)?;
        values.truncate(rows.checked_mul(row)?.checked_mul(self.dtype.size())?);
        let shape = |rows: usize| core::iter::once(rows).chain(inner.iter().copied()).collect::<Vec<_>>();
        let array = match Array::new(self.dtype, shape(rows), values)? {
            patches if feed.is_clip => Array::from_values(&shape(1), &self.pool(&self.real(&patches)?, row))?,
            // One run gives exactly what the model declares, scalars included.
            samples if feed.runs.len() == 1 && padding == 0 => samples.reshape(self.shape.clone())?,
            samples => samples,
        };
        Some(Output { name: self.name.clone(), array, labels: self.labels.clone(), link: self.link })
    }

    /// The real values of `array`.
    fn real(&self, array: &Array) -> Option<Vec<f32>> {
        match (array.to_vec::<i8>(), self.qparams) {
            (Some(codes), Some(qparams)) => {
                Some(codes.into_iter().map(|code| qparams.dequantize(code)).collect())
            }
            _ => array.to_f32(),
        }
    }

    /// The clip rule over rows of `row` values.
    fn pool(&self, rows: &[f32], row: usize) -> Vec<f32> {
        let count = rows.len().checked_div(row).unwrap_or(0);
        let column = |at: usize| rows.iter().skip(at).step_by(row.max(1)).copied();
        let value = |at: usize| match self.clip {
            ClipRule::Mean => (column(at).map(f64::from).sum::<f64>() / count as f64) as f32,
            ClipRule::Max => column(at).fold(f32::NEG_INFINITY, f32::max),
        };
        (0..row).map(value).collect()
    }
}

impl Output {
    /// The scores of every sample; `None` unless the output is one row of numbers per sample.
    pub(crate) fn scores(&self) -> Option<Vec<Vec<f32>>> {
        let [_, classes] = self.array.shape()[..] else { return None };
        let values = self.array.to_f32()?;
        Some(values.chunks_exact(classes.max(1)).map(|row| link(self.link, row)).collect())
    }

    /// The `count` best classes of every sample, best first; `None` as [`Self::scores`].
    pub(crate) fn ranking(&self, count: usize) -> Option<Vec<Vec<Score>>> {
        let best = |scores: &Vec<f32>| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let score =
                |index: usize| Score { index, label: self.labels.get(index).cloned(), score: scores[index] };
            order.into_iter().take(count).map(score).collect()
        };
        self.scores().map(|samples| samples.iter().map(best).collect())
    }
}

/// Scores from logits.
fn link(link: Link, logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = || logits.iter().map(|&logit| f64::from(logit - largest).exp());
    let sum: f64 = exponentials().sum();
    match link {
        Link::Softmax => exponentials().map(|e| (e / sum) as f32).collect(),
        Link::Sigmoid => logits.iter().map(|&logit| (1.0 / (1.0 + f64::from(-logit).exp())) as f32).collect(),
        Link::Identity => logits.to_vec(),
    }
}

fn names(lines: &str) -> Vec<String> {
    lines.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[usize], clip: ClipRule) -> OutputSpec {
        OutputSpec {
            name: "y".to_owned(),
            dtype: DType::F32,
            shape: shape.to_vec(),
            qparams: None,
            labels: names("a\nb"),
            clip,
            link: Link::Identity,
        }
    }

    fn feed(runs: usize, padding: usize, is_clip: bool) -> Feed {
        Feed { runs: vec![Vec::new(); runs], padding, is_clip }
    }

    fn join(spec: &OutputSpec, values: &[f32], feed: &Feed) -> (Vec<usize>, Vec<f32>) {
        let array = spec.join(bytes::of(values).to_vec(), feed).unwrap().array;
        (array.shape().to_vec(), array.to_f32().unwrap())
    }

    #[test]
    fn patches_are_joined_by_the_clip_rule_without_padding() {
        let values = [1.0, 8.0, 2.0, 6.0, 6.0, 1.0, 99.0, 99.0];
        let mean = join(&spec(&[2, 2], ClipRule::Mean), &values, &feed(2, 1, true));
        assert_eq!(mean, (vec![1, 2], vec![3.0, 5.0]));
        let max = join(&spec(&[2, 2], ClipRule::Max), &values, &feed(2, 1, true));
        assert_eq!(max, (vec![1, 2], vec![6.0, 8.0]));
    }

    #[test]
    fn codes_are_joined_as_reals() {
        let codes =
            OutputSpec { dtype: DType::I8, qparams: QParams::new(0.5, -2), ..spec(&[1, 1], ClipRule::Mean) };
        let array = codes.join(vec![0, 3], &feed(2, 0, true)).unwrap().array;
        assert_eq!(array.to_vec::<f32>().unwrap(), [1.75]);
        let array = codes.join(vec![0, 3], &feed(2, 0, false)).unwrap().array;
        assert_eq!((array.shape(), array.to_vec::<i8>().unwrap()), (&[2, 1][..], vec![0, 3]));
    }

    #[test]
    fn arrays_keep_their_rows() {
        assert_eq!(
            join(&spec(&[2], ClipRule::Mean), &[1.0, 2.0], &feed(1, 0, false)),
            (vec![2], vec![1.0, 2.0])
        );
        assert_eq!(join(&spec(&[], ClipRule::Mean), &[1.0], &feed(1, 0, false)), (vec![], vec![1.0]));
        assert_eq!(
            join(&spec(&[], ClipRule::Mean), &[1.0, 2.0], &feed(2, 0, false)),
            (vec![2], vec![1.0, 2.0])
        );
    }

    #[test]
    fn rankings_are_of_scores() {
        let output = Output {
            name: "logits".to_owned(),
            array: Array::from_values(&[1, 3], &[0.0f32, 1.0, -1.0]).unwrap(),
            labels: names("a\nb\nc"),
            link: Link::Softmax,
        };
        let best = &output.ranking(2).unwrap()[0];
        assert_eq!((best.len(), best[0].index, best[0].label.as_deref()), (2, 1, Some("b")));
        assert!((best[0].score - 0.665_240_96).abs() < 1e-6 && (best[1].score - 0.244_728_47).abs() < 1e-6);
        assert_eq!(link(Link::Sigmoid, &[0.0, 800.0, -800.0]), [0.5, 1.0, 0.0]);
        let row = Output { array: Array::from_values(&[3], &[0.0f32; 3]).unwrap(), ..output };
        assert!(row.ranking(1).is_none());
    }
}
