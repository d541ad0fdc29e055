//! A model, its clips, and what the host's scalar reference makes of them: what it learns in the laboratory, and what the
//! device will learn on the spot.

use ingraft_adapter::{Adapter, TermSource};
use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::{Host, NO_SITE, OpCode, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;

use crate::aligned::Aligned;
use crate::learn::{self, Codes, Example, Room, largest};
use crate::sources::{Clips, Source};

/// What a clip and its class are.
type Clip = (usize, Vec<i8>);

/// A model, its clips and what was learned of them.
pub(crate) struct Lesson {
    pub(crate) model: Source,
    /// The plan, with room for a head.
    pub(crate) file: Aligned,
    pub(crate) clips: Clips,
    /// The adapter that was trained in the laboratory.
    pub(crate) laboratory: Aligned,
    /// The adapter that the device trains on the spot.
    pub(crate) learned: Aligned,
}

impl Lesson {
    /// Compiles the model and learns twice.
    pub(crate) fn new(model: Source) -> Self {
        let head_classes = model.labels.len() as u32;
        let mut options = CompileOptions { head_classes, ..CompileOptions::default() };
        options.import.dims.insert("N".into(), 1);
        let file = compile(&model.onnx, &options).unwrap_or_else(|error| panic!("the model: {error}")).plan;
        let file = Aligned::new(&file);
        let plan = PlanView::new(file.bytes()).expect("a plan we wrote is valid");
        let clips = model.clips(codes(&plan));
        let learned = |clips: &[Clip]| learn_from(&plan, &model, clips);
        let (laboratory, learned) = (learned(&clips.laboratory), learned(&clips.examples));
        Self { model, file, clips, laboratory, learned }
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

    /// How many of the clips to judge by are right with each of [`Self::adapters`].
    pub(crate) fn right(&self) -> [u32; 2] {
        self.adapters().map(|adapter| {
            let right = |clip: &&Clip| self.classify(&clip.1, &adapter).0 == clip.0;
            self.clips.held_out.iter().filter(right).count() as u32
        })
    }

    /// What the base or an adapter makes of a clip: the class, and the bytes of the first output.
    pub(crate) fn classify<S: TermSource>(&self, clip: &[i8], source: &S) -> (usize, Vec<u8>) {
        let plan = self.plan();
        let needs =
            MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
        let (mut memory, mut input) = (Aligned::zeroed(needs.total()), vec![0.0; clip.len()]);
        let mut session =
            Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).expect("memory suffices");
        codes(&plan).read(clip, &mut input);
        session.write_input(0, bytes::of(&input)).expect("the input has this length");
        session.run(source).expect("bound steps run");
        let output = session.output(0).expect("the model has an output");
        let mut logits: Vec<f32> = output.as_slice().map(<[f32]>::to_vec).expect("the output is real");
        let output = output.bytes().to_vec();
        if let Some(head) = source.head() {
            logits = vec![0.0; head.classes];
            session.read_logits(0, &mut logits).expect("the head has run");
        }
        (largest(&logits), output)
    }

    /// Values of the features of all clips to learn from.
    pub(crate) fn feature_values(&self) -> usize {
        self.clips.examples.len() * features(&self.plan())
    }

    /// More than the file of a head takes.
    pub(crate) fn adapter_bytes(&self) -> usize {
        adapter_bytes(&self.plan(), self.model.labels.len())
    }

    /// Bytes that inference takes on `target`, and what the rest takes too: training follows it in the same memory.
    pub(crate) fn memory(&self, target: &Host) -> (usize, usize) {
        let plan = self.plan();
        let infer =
            MemoryNeeds::new(&plan, Phase::Infer, target).expect("every target runs every step").total();
        let train =
            learn::memory(&plan, target, self.model.labels.len() as u32).expect("the host trained it");
        (infer, infer.max(train))
    }
}

/// What the codes of the model's input stand for: its first step quantizes.
pub(crate) fn codes(plan: &PlanView<'_>) -> Codes {
    let step = plan.step(Phase::Infer, 0).filter(|step| step.op == OpCode::Quantize).expect("a real input");
    let tensor = step.outputs.first().and_then(|tensor| plan.tensor(*tensor));
    let qparams = tensor.and_then(|tensor| tensor.qparams).expect("codes have parameters");
    Codes { scale: qparams.scale, zero_point: qparams.zero_point }
}

/// Clips one behind the other, each a byte for its class and its codes.
pub(crate) fn stored(clips: &[Clip]) -> Vec<u8> {
    clips
        .iter()
        .flat_map(|(class, codes)| [*class as u8].into_iter().chain(codes.iter().map(|code| *code as u8)))
        .collect()
}

/// What the host's reference learns of `clips`.
fn learn_from(plan: &PlanView<'_>, model: &Source, clips: &[Clip]) -> Aligned {
    let classes = model.labels.len();
    let bytes = learn::memory(plan, &Host::SCALAR, classes as u32).unwrap_or_else(|error| panic!("{error}"));
    let (mut memory, mut file) = (Aligned::zeroed(bytes), Aligned::zeroed(adapter_bytes(plan, classes)));
    let (mut input, mut features) = (vec![0.0; model.window()], vec![0.0; clips.len() * features(plan)]);
    let examples = clips.iter().map(|(class, codes)| Example { codes, class: *class });
    let room = Room { input: &mut input, features: &mut features };
    let labels = model.labels.join("\n");
    let learned = learn::learn(
        (*plan, &Host::SCALAR),
        examples,
        (codes(plan), &labels),
        memory.bytes_mut(),
        room,
        file.bytes_mut(),
    );
    Aligned::new(learned.unwrap_or_else(|error| panic!("the host learns: {error:?}")))
}

fn features(plan: &PlanView<'_>) -> usize {
    plan.head_features(NO_SITE, 0).expect("the model has a last layer")
}

fn adapter_bytes(plan: &PlanView<'_>, classes: usize) -> usize {
    1024 + 4 * (features(plan) + 1) * classes + 4 * plan.site_count()
}
