//! The model whose instructions are counted, with adapters: the built-in one, or what `INGRAFT_COUNT_MODEL` names, a file or
//! a network of `ingraft_models::tiny`.

use ingraft_adapter::{AdapterBuilder, AdapterFacts, Base, TermSpec};
use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Host, NO_SITE, OpCode, SiteDesc, SiteKind, Sites};
use ingraft_models::tiny::Net;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::hash::blake3;
use ingraft_tensor::{DType, bytes};

use super::kernels::{Adapters, list};
use super::{Aligned, learn};

/// Classes of the head that is trained.
const CLASSES: u32 = 5;
/// Seed of random weights.
const SEED: u64 = 1;
/// What the deployed image's adapter has: integer factors.
const ADAPTERS: Adapters = Adapters { heads: false, any_term: false };
/// One weight of so many is in the sparse adapter.
const ONE_IN: usize = 100;

/// Writes plan, adapters and input; gives constants for the firmware.
pub(crate) fn constants(write: &dyn Fn(&str, &[u8])) -> String {
    let file = Aligned::new(&compiled());
    let plan = PlanView::new(file.bytes()).expect("a plan we wrote is valid");
    write("count.plan", file.bytes());
    let sites = || (0..plan.site_count()).filter_map(|index| plan.site(index));
    let takes = if sites().any(|site| is_pointwise(&site)) { is_pointwise } else { is_linear };
    write("count.rank_2", &adapter(&plan, "rank 2", takes, |site, code| super::low_rank(site, 2, code)));
    write("count.low_rank", &adapter(&plan, "rank 4", takes, |site, code| super::low_rank(site, 4, code)));
    write("count.sparse", &adapter(&plan, "sparse", |site| site.kind != SiteKind::Depthwise, sparse));
    let input = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("the model has an input");
    let (count, floats) = (input.operand.shape.elements(), input.operand.dtype == DType::F32);
    let codes: Vec<i8> = (0..count).map(|i| (i * 37 + 11) as i8).collect();
    let reals: Vec<f32> = codes.iter().map(|code| f32::from(*code) / 32.0).collect();
    let input = if floats { bytes::of(&reals) } else { bytes::of(&codes) };
    write("count.input", input);
    let [a, b, c, d, ..] = blake3(&super::run(plan, input, &Base));
    let bytes = |target: &Host| {
        MemoryNeeds::new(&plan, Phase::Infer, target).expect("every target runs every step").total()
    };
    let targets =
        [Host::SCALAR, ingraft_cortex_m::portable(), ingraft_cortex_m::dsp(), ingraft_cortex_m::helium()];
    let train = |target: &Host| learn::memory(&plan, target, CLASSES).expect("the plan has room for a head");
    let most = targets.iter().map(|target| bytes(target).max(train(target))).max().unwrap_or(0);
    format!(
        "/// Bytes a session of the counted plan needs, or a trainer of its head, with any target.\npub const COUNT_BYTES: usize = {most};\n\
         /// The same with the target of this core.\npub const COUNT_NATIVE_BYTES: usize = {};\n\
         /// Multiplications of an inference.\npub const COUNT_MACS: u32 = {};\n\
         /// First bytes of the hash of what the host's reference makes of the input.\npub const COUNT_OUTPUT: u32 = {};\n\
         /// Classes of a head that is trained.\npub const COUNT_CLASSES: u32 = {CLASSES};\n\
         /// Features that it reads.\npub const COUNT_FEATURES: usize = {};\n\
         /// The rows that [`COUNT_PLAN`] runs: firmware links no others.\n\
         pub const COUNT_KERNELS: &[ingraft_kernel::Kernel] = {};\n",
        bytes(&super::device()),
        macs(&plan),
        u32::from_be_bytes([a, b, c, d]),
        plan.head_features(NO_SITE, 0).expect("the model has a last layer"),
        list(&plan, &super::device(), ADAPTERS),
    )
}

/// The plan of the model to count, with room for a head.
fn compiled() -> Vec<u8> {
    println!("cargo:rerun-if-env-changed=INGRAFT_COUNT_MODEL");
    let tiny = CompileOptions { head_classes: CLASSES, ..CompileOptions::default() };
    let mut options = tiny.clone();
    options.import.dims.insert("N".into(), 1);
    let compiled = match std::env::var("INGRAFT_COUNT_MODEL") {
        Ok(name) => match Net::named(&name) {
            Some(net) => net.quantized(SEED, &tiny),
            None => {
                println!("cargo:rerun-if-changed={name}");
                let file = std::fs::read(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
                compile(&file, &options)
            }
        },
        Err(_) => compile(ingraft_models::demo::BASE_INT8, &options),
    };
    compiled.unwrap_or_else(|error| panic!("the model to count: {error}")).plan
}

fn macs(plan: &PlanView<'_>) -> usize {
    let steps = (0..plan.step_count(Phase::Infer)).filter_map(|index| plan.resolve(Phase::Infer, index).ok());
    let layers = steps.filter(|step| matches!(step.op, OpCode::QConv | OpCode::QDepthwise));
    let of = |step: ingraft_kernel::Step<'_>| -> Option<usize> {
        let [weight, bias] = [1, 2].map(|index| step.input(index).map_or(0, |o| o.shape.elements()));
        Some(step.output(0).ok()?.shape.elements() * weight.checked_div(bias)?)
    };
    layers.filter_map(of).sum()
}

fn adapter(
    plan: &PlanView<'_>,
    method: &str,
    takes: fn(&SiteDesc<'_>) -> bool,
    term: fn(&SiteDesc<'_>, &mut dyn FnMut() -> i8) -> TermSpec,
) -> Vec<u8> {
    let mut builder = AdapterBuilder::new(plan);
    let mut code = super::codes();
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        if takes(&site) {
            builder.term(index, &site, term(&site, &mut code));
        }
    }
    builder.finish(&AdapterFacts { method: method.into(), ..AdapterFacts::default() })
}

fn is_pointwise(site: &SiteDesc<'_>) -> bool {
    site.kind == SiteKind::Conv && site.kernel == [1, 1]
}

/// What a network without 1×1 convolutions has in their place.
fn is_linear(site: &SiteDesc<'_>) -> bool {
    site.kind == SiteKind::Linear
}

fn sparse(site: &SiteDesc<'_>, code: &mut dyn FnMut() -> i8) -> TermSpec {
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for channel in 0..site.out {
        let places = (0..site.row()).filter(|index| (channel * site.row() + index).is_multiple_of(ONE_IN));
        indices.extend(places.map(|index| index as u16));
        indptr.push(indices.len() as u32);
    }
    let values = indices.iter().map(|_| i16::from(code())).collect();
    TermSpec::SparseI16 { indptr, indices, values }
}
