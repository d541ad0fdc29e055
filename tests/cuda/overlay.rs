//! Overlays written into weights of which the GPU has a copy.

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::exec::{MemoryNeeds, PatchedCopy, Resident, Session};
use ingraft::kernel::{Host, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft_jetson_cuda::Cuda;
use ingraft_models::demo::BASE_INT8;

use crate::models::{input, outputs, plan};
use crate::support::{as_bytes, infer};
use crate::{build, gpu};

/// Every output, bytes.
type Outputs = Vec<Vec<u8>>;

fn run<S: TermSource>(session: &mut Session<'_, '_, Cuda>, x: &[f32], source: &S) -> Outputs {
    session.write_input(0, as_bytes(x)).expect("the input has this length");
    session.run(source).expect("it runs");
    outputs(session, session.plan())
}

/// How many sites run with a weight that an overlay stands in.
fn written<S: TermSource>(plan: &PlanView<'_>, source: &S) -> usize {
    build::sites(plan).filter(|(index, _)| !source.terms(*index).packed.weights.is_empty()).count()
}

/// Terms of every kind, overlays within int8.
fn terms(plan: &PlanView<'_>, seed: u64) -> build::Terms {
    let mut terms = build::random_terms(plan, seed);
    for (index, term) in &mut terms {
        let site = plan.site(*index).expect("the site exists");
        *term = build::clamped(term.clone(), &site, &build::constants(plan, *index).0);
    }
    terms
}

/// Factors, an overlay and a scale on every site: as files, packed once, and one after the other in one copy.
#[test]
fn overlays_in_weights_compute_what_their_files_do() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan(BASE_INT8, 1).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let x = input(&plan, 8);
    let files = [3, 4].map(|seed| {
        cuda.keep(build::adapter(&plan, &terms(&plan, seed)).as_slice()).expect("the GPU has room")
    });
    let adapters = files.each_ref().map(|file| Adapter::attach(file.bytes(), &plan).expect("it fits"));
    let wanted = adapters.each_ref().map(|adapter| infer(plan, &Host::SCALAR, &[as_bytes(&x)], adapter));
    let of_base = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &Base);
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    let sites = build::sites(&plan).count();

    for (adapter, wanted) in adapters.iter().zip(&wanted) {
        let bytes = Resident::bytes(&session, adapter).expect("steps are known");
        let mut room = cuda.share(bytes).expect("the GPU has room");
        let packed = Resident::new(&session, *adapter, room.bytes_mut()).expect("memory suffices");
        assert_eq!(written(&plan, &packed), sites);
        assert_eq!(&run(&mut session, &x, &packed), wanted);
        assert_eq!(run(&mut session, &x, &Base), of_base);
    }

    let mut room =
        cuda.share(PatchedCopy::bytes(&session).expect("steps are known")).expect("the GPU has room");
    let words = adapters.each_ref().map(|adapter| PatchedCopy::log_words(&session, adapter));
    let mut log = vec![0; words[0].max(words[1])];
    let mut copy = PatchedCopy::new(&session, room.bytes_mut(), &mut log).expect("memory suffices");
    for turn in 0..6 {
        let patch = copy.apply(&session, adapters[turn % 2]).expect("the log suffices");
        assert_eq!(written(&plan, &patch), sites);
        assert_eq!(run(&mut session, &x, &patch), wanted[turn % 2], "turn {turn}");
        assert_eq!(run(&mut session, &x, &Base), of_base, "base, turn {turn}");
    }
}
