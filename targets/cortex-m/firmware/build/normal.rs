//! The autoencoder, windows of motors, and what the host's scalar reference makes of them: what it learns in the
//! laboratory, what the device will learn on the spot, and which clips it takes to be out of order.

use ingraft_adapter::{Adapter, Base, TermSource};
use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::Host;
use ingraft_models::anomaly::{BASE_INT8, FRAMES};
use ingraft_models::demo::{PATCH_SAMPLES, synth::Task};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;

use crate::aligned::Aligned;
use crate::lesson::codes;
use crate::normal::{self, Limit};
use crate::sources::{drift, encode, spectra};

/// Bands of a frame.
const BANDS: usize = 64;
/// Values of a window.
pub(crate) const WINDOW: usize = FRAMES * BANDS;
/// Windows to learn from, each of another clip.
const EXAMPLES: usize = 50;
/// Clips to judge by: half in good order.
pub(crate) const CLIPS: usize = 24;
/// Deviations of a band that another sensor adds to it, at most.
const DRIFT: f64 = 1.0;
/// The first clip, past those that the base learned from.
const FIRST_SEED: u64 = 200;

/// Plan, windows, and what was learned of them.
pub(crate) struct Normal {
    /// The plan, with a training schedule.
    pub(crate) file: Aligned,
    /// Windows in the laboratory, one behind the other.
    there: Vec<i8>,
    /// The same on the spot.
    pub(crate) examples: Vec<i8>,
    /// Clips on the spot to judge by, and for each 1 where it is out of order, else 0.
    pub(crate) clips: Vec<(usize, Vec<i8>)>,
    /// The adapter that was trained in the laboratory.
    pub(crate) laboratory: Aligned,
    /// The adapter that the device trains on the spot.
    pub(crate) learned: Aligned,
}

impl Normal {
    pub(crate) fn new() -> Self {
        let mut options = CompileOptions { train_from: Some(TrainFrom::All), ..CompileOptions::default() };
        options.import.dims.insert("N".into(), 1);
        let file = Aligned::new(&compile(BASE_INT8, &options).expect("the built-in model compiles").plan);
        let plan = PlanView::new(file.bytes()).expect("a plan we wrote is valid");
        let [good, faults @ ..] = Task::Motor.sounds();
        let kinds = [vec![good; 2 * EXAMPLES + CLIPS / 2], faults.repeat(CLIPS / 2 / faults.len())].concat();
        let clips = kinds.iter().zip(FIRST_SEED..).map(|(kind, seed)| {
            let mut samples = vec![0.0; PATCH_SAMPLES];
            kind.clip(seed, &mut samples);
            (0, samples)
        });
        let clips: Vec<Vec<f32>> = spectra(1, clips).concat().concat();
        let sensor = |seed| drift(seed, &clips, BANDS, DRIFT);
        let ([elsewhere, here], codes) = ([sensor(7), sensor(8)], codes(&plan));
        let window = |clip: &Vec<f32>, sensor: &[f32]| encode(&clip[..WINDOW], sensor, codes);
        let windows = |clips: &[Vec<f32>], sensor: &[f32]| -> Vec<i8> {
            clips.iter().flat_map(|clip| window(clip, sensor)).collect()
        };
        let there = windows(&clips[..EXAMPLES], &elsewhere);
        let laboratory = learn_from(&plan, &there);
        let examples = windows(&clips[EXAMPLES..2 * EXAMPLES], &here);
        let learned = learn_from(&plan, &examples);
        let judged = clips.iter().zip(&kinds).skip(2 * EXAMPLES);
        let clips =
            judged.map(|(clip, kind)| (usize::from(*kind != good), encode(clip, &here, codes))).collect();
        Self { file, there, examples, clips, laboratory, learned }
    }

    pub(crate) fn plan(&self) -> PlanView<'_> {
        PlanView::new(self.file.bytes()).expect("a plan we wrote is valid")
    }

    /// The adapters from the laboratory and from the spot.
    pub(crate) fn adapters(&self) -> [Adapter<'_>; 2] {
        let plan = self.plan();
        [&self.laboratory, &self.learned]
            .map(|file| Adapter::attach(file.bytes(), &plan).expect("it fits its base"))
    }

    /// Above which error a clip is out of order with the laboratory's adapter, as it is known there.
    pub(crate) fn limit(&self) -> f32 {
        self.limit_of(&self.adapters()[0], &self.there)
    }

    /// How many clips are judged right with each of [`Self::adapters`]: with the limit of the laboratory, and with what the
    /// windows on the spot say.
    pub(crate) fn right(&self) -> [u32; 2] {
        let adapters = self.adapters();
        let limits = [self.limit(), self.limit_of(&adapters[1], &self.examples)];
        core::array::from_fn(|index| {
            let right = |(faulty, clip): &&(usize, Vec<i8>)| {
                let windows = clip.chunks_exact(WINDOW);
                let (count, errors) =
                    (windows.len(), windows.map(|window| self.error(window, &adapters[index])));
                usize::from(errors.sum::<f32>() / count as f32 > limits[index]) == *faulty
            };
            self.clips.iter().filter(right).count() as u32
        })
    }

    fn limit_of(&self, adapter: &Adapter<'_>, windows: &[i8]) -> f32 {
        let mut limit = Limit::default();
        windows.chunks_exact(WINDOW).for_each(|window| limit.observe(self.error(window, adapter)));
        limit.value()
    }

    /// What comes back of the first example.
    pub(crate) fn base_output(&self) -> Vec<f32> {
        self.run(&self.examples[..WINDOW], &Base).1
    }

    fn error<S: TermSource>(&self, window: &[i8], source: &S) -> f32 {
        let (input, back) = self.run(window, source);
        normal::error(&input, &back)
    }

    fn run<S: TermSource>(&self, window: &[i8], source: &S) -> (Vec<f32>, Vec<f32>) {
        let plan = self.plan();
        let needs =
            MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
        let (mut memory, mut input) = (Aligned::zeroed(needs.total()), vec![0.0; WINDOW]);
        let mut session =
            Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).expect("memory suffices");
        codes(&plan).read(window, &mut input);
        session.write_input(0, bytes::of(&input)).expect("the input has this length");
        session.run(source).expect("bound steps run");
        let back = session.output(0).and_then(|output| output.as_slice().map(<[f32]>::to_vec));
        (input, back.expect("the output is real"))
    }

    /// Bytes that inference and training take on `target`, one after the other.
    pub(crate) fn memory(&self, target: &Host) -> usize {
        let plan = self.plan();
        let infer =
            MemoryNeeds::new(&plan, Phase::Infer, target).expect("every target runs every step").total();
        infer.max(normal::memory(&plan, target).expect("the host trained it"))
    }
}

/// More than the file takes: factors of rank 2 of two layers between 512 and 64 channels, in f32.
pub(crate) const ADAPTER_BYTES: usize = 16384;

fn learn_from(plan: &PlanView<'_>, windows: &[i8]) -> Aligned {
    let bytes = normal::memory(plan, &Host::SCALAR).unwrap_or_else(|error| panic!("{error}"));
    let (mut memory, mut file) = (Aligned::zeroed(bytes), Aligned::zeroed(ADAPTER_BYTES));
    let mut input = vec![0.0; WINDOW];
    let windows = windows.chunks_exact(WINDOW);
    let target = (*plan, &Host::SCALAR);
    let learned =
        normal::learn(target, windows, codes(plan), memory.bytes_mut(), &mut input, file.bytes_mut());
    Aligned::new(learned.unwrap_or_else(|error| panic!("the host learns: {error:?}")))
}
