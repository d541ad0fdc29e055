//! An adapter: check, describe, attach, run in each of its forms.

use ingraft_adapter::{Adapter, AdapterSet, ParameterSection, TermSource};
use ingraft_exec::{MemoryNeeds, PatchedCopy, Resident, Session};
use ingraft_import::{Aligned, export_native, export_peft};
use ingraft_kernel::{Host, Sites};
use ingraft_plan::{Phase, PlanView};

use super::{hosts, plan_file, room, sealed};

/// Whatever `bytes` are as an adapter of [`plan_file`].
pub fn adapter(bytes: &[u8]) {
    let plan = PlanView::new(plan_file()).expect("we wrote it");
    let raw = Aligned::copy_of(bytes);
    let _ = (Adapter::open(raw.as_slice()).is_ok(), Adapter::attach(raw.as_slice(), &plan).is_ok());
    let mut bound = bytes.to_vec();
    if let Some(base) = bound.get_mut(48..80) {
        base.copy_from_slice(plan.hash());
    }
    let file = Aligned::copy_of(&sealed(&bound));
    let _ = export_native(file.as_slice());
    let mut set = AdapterSet::<2>::new();
    let Ok(id) = set.attach(file.as_slice(), &plan) else { return };
    let Some(adapter) = set.find(id).copied() else { panic!("attached and not there") };
    describe(&adapter, plan.site_count());
    let _ = export_peft(file.as_slice(), &plan);
    for host in hosts() {
        run(plan, host, &adapter);
    }
}

fn describe(adapter: &Adapter<'_>, sites: usize) {
    let _ = (adapter.method().len(), adapter.hyper().len(), adapter.provenance().len());
    let _ = (adapter.sites().count(), adapter.site_terms().count());
    let _ = adapter.privacy().map(|privacy| privacy.to_string().len());
    if let Ok(section) = adapter.parameters() {
        parameters(&section, sites);
        for member in section.members() {
            let _ = Adapter::open(Aligned::copy_of(member.bytes).as_slice()).is_ok();
        }
    }
}

fn parameters(section: &ParameterSection<'_>, sites: usize) {
    for site in 0..sites + 1 {
        let _ = section.settings(site).len();
        for tensor in section.site(site) {
            let count = tensor.dims.iter().fold(1usize, |count, dim| count.saturating_mul(*dim as usize));
            assert_eq!(tensor.values.len(), count, "{}", tensor.name);
        }
    }
    let by_site: usize = (0..sites).map(|site| section.site(site).count()).sum();
    assert_eq!(section.tensors().count(), by_site);
}

/// Whatever form an adapter runs in, the outputs are the same bytes; taking it out restores the base to the bit.
fn run(plan: PlanView<'_>, host: &Host, adapter: &Adapter<'_>) {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, host).expect("the base runs");
    room(needs.total(), |memory| {
        let mut session = Session::bind(plan, Phase::Infer, host, memory).expect("the base runs");
        let Some(plain) = outputs(&mut session, plan, adapter) else { return };
        let resident = Resident::bytes(&session, adapter).expect("a term is sized");
        room(resident, |memory| {
            if let Ok(resident) = Resident::new(&session, adapter, memory) {
                assert_eq!(outputs(&mut session, plan, &resident).as_ref(), Some(&plain), "resident");
            }
        });
        let bytes = PatchedCopy::bytes(&session).expect("the base's weights are sized");
        room(bytes, |memory| {
            let mut log = [0; 512];
            let mut copy = PatchedCopy::new(&session, memory, &mut log).expect("room for it");
            let before = copy.bytes_of_copy().to_vec();
            if let Ok(patch) = copy.apply(&session, adapter) {
                assert_eq!(outputs(&mut session, plan, &patch).as_ref(), Some(&plain), "patched");
            }
            copy.revert(&session).expect("what was written can be taken out");
            assert!(copy.bytes_of_copy() == before, "the base is back to the bit");
        });
    });
}

/// The bits of the outputs and of the head's logits; `None` where the adapter cannot run.
fn outputs<S: TermSource>(
    session: &mut Session<'_, '_, Host>,
    plan: PlanView<'_>,
    source: &S,
) -> Option<Vec<u8>> {
    for input in 0..plan.inputs().count() {
        let tensor = plan.inputs().nth(input).and_then(|io| plan.tensor(io.tensor)).expect("an input");
        let values = (0..tensor.operand.shape.elements()).flat_map(|i| ((i % 7) as f32 - 3.0).to_le_bytes());
        session.write_input(input, &values.collect::<Vec<_>>()).expect("its size");
    }
    session.run(source).ok()?;
    let mut found = Vec::new();
    match source.head() {
        Some(head) => {
            let mut logits = vec![0.0; head.classes];
            session.read_logits(0, &mut logits).expect("room for a head was checked");
            found.extend(logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes()));
        }
        None => found.extend_from_slice(session.output(0).expect("an output").bytes()),
    }
    Some(found)
}
