//! Small plans and adapters from byte to output, through everything that a device does with them.
//!
//! Under Miri (`cargo +nightly miri test`) this is the check of the casts and borrows behind it. The files are those that
//! fuzzing starts from.

use ingraft_adapter::{AdapterSet, Base, TermSource};
use ingraft_exec::{MemoryNeeds, PatchedCopy, Resident, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::DType;
use zerocopy::IntoBytes;

macro_rules! seeds {
    ($folder:literal: $($name:literal),+) => {
        [$(($name, include_bytes!(concat!("../../../tests/fuzz/seeds/", $folder, "/", $name)).as_slice())),+]
    };
}

/// The plan that the adapters belong to comes first.
const PLANS: [(&str, &[u8]); 8] = seeds!("plan": "int8", "integers", "codes", "attention", "convolutions", "pictures", "recurrent", "shapes");
const ADAPTERS: [(&str, &[u8]); 7] =
    seeds!("adapter": "factors_i8", "sparse_i16", "fused", "affine", "factors_f32", "head", "sparse_f32");

/// `len` bytes, aligned as plans and memory must be.
struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(16)], len }
    }

    fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.bytes().copy_from_slice(bytes);
        copy
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }

    fn as_slice(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }
}

/// Calls `with` with a session of `file`.
fn bound(file: &[u8], with: impl FnOnce(Session<'_, '_, Host>)) {
    let file = Aligned::copy_of(file);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
    let mut memory = Aligned::zeroed(needs.total());
    with(Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes()).expect("it fits"));
}

/// Runs on inputs of 0.5, or of zeros where they are integers; the bytes of all outputs.
fn run(session: &mut Session<'_, '_, Host>, source: &impl TermSource) -> Vec<u8> {
    let plan = *session.plan();
    for (index, io) in plan.inputs().enumerate() {
        let tensor = plan.tensor(io.tensor).expect("an input has one").operand;
        let pattern = if tensor.dtype == DType::F32 { 0.5f32.to_le_bytes() } else { [0; 4] };
        let len = tensor.shape.elements() * tensor.dtype.size();
        let bytes: Vec<u8> = pattern.into_iter().cycle().take(len).collect();
        session.write_input(index, &bytes).expect("as long as its tensor");
    }
    session.run(source).expect("bound steps run");
    let output = |index| session.output(index).expect("an output").bytes();
    (0..plan.outputs().count()).flat_map(|index| output(index).to_vec()).collect()
}

#[test]
fn plans_run_and_give_the_same_again() {
    // Miri takes a minute for what takes a millisecond: the first of both are enough to meet every cast.
    let plans = if cfg!(miri) { 2 } else { PLANS.len() };
    for (name, file) in PLANS.into_iter().take(plans) {
        bound(file, |mut session| {
            let first = run(&mut session, &Base);
            assert!(!first.is_empty(), "{name}");
            assert_eq!(run(&mut session, &Base), first, "{name}");
        });
    }
}

#[test]
fn adapters_act_in_each_of_their_forms_and_the_base_comes_back() {
    let files = ADAPTERS.map(|(name, file)| (name, Aligned::copy_of(file)));
    bound(PLANS[0].1, |mut session| {
        let plan = *session.plan();
        let base = run(&mut session, &Base);
        let (mut set, mut acted) = (AdapterSet::<8>::new(), 0);
        let adapters = if cfg!(miri) { 2 } else { files.len() };
        for (name, file) in files.iter().take(adapters) {
            let id = set.attach(file.as_slice(), &plan).unwrap_or_else(|error| panic!("{name}: {error}"));
            set.switch(Some(id)).expect("it is in the set");
            let adapter = *set.active().expect("it was chosen");
            let adapted = run(&mut session, &adapter);
            acted += usize::from(adapted != base);

            let mut memory = Aligned::zeroed(Resident::bytes(&session, &adapter).expect("steps are known"));
            let resident = Resident::new(&session, adapter, memory.bytes()).expect("memory suffices");
            assert_eq!(run(&mut session, &resident), adapted, "{name}, resident");

            let mut log = vec![0; PatchedCopy::log_words(&session, &adapter)];
            let mut memory = Aligned::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
            let mut copy = PatchedCopy::new(&session, memory.bytes(), &mut log).expect("memory suffices");
            let untouched = copy.bytes_of_copy().to_vec();
            let patch = copy.apply(&session, adapter).expect("the log suffices");
            assert_eq!(run(&mut session, &patch), adapted, "{name}, patched");
            copy.revert(&session).expect("the same session");
            assert_eq!(copy.bytes_of_copy(), untouched, "{name}, taken out");

            set.switch(None).expect("the base is always there");
            assert_eq!(run(&mut session, &set.active()), base, "the base after {name}");
        }
        assert!(acted * 4 >= adapters * 3, "{acted} of {adapters} adapters change the output");
    });
}
