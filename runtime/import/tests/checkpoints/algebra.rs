//! The identities that make it an algebra.

use ingraft_adapter::{Adapter, Base as NoAdapter, TermSource, TermSpec};
use ingraft_import::{
    Aligned, Base, Coding, Compression, Imported, Matching, Member, Operation, Weighted, compose, compress,
    decode_ternary, encode_ternary, export_native, import_native, import_peft, members, read_tensors, stack,
    stacked,
};
use ingraft_kernel::{Factors, Sites, SparseValues};
use ingraft_train::FrozenSite;

use crate::fixture::{Compiled, checkpoint, distance, outputs, run};
use crate::native::file;

fn import(base: &Base<'_>, case: &str) -> Vec<u8> {
    let (config, tensors) = checkpoint(case);
    import_peft(base, &config, &tensors, &Matching::default(), "test").expect("fits").bytes
}

fn result(base: &Base<'_>, bytes: &[u8]) -> Vec<f64> {
    let file = Aligned::copy_of(bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    run(base.plan, &outputs()["linear/input"], &adapter)
}

fn joined(base: &Base<'_>, parts: &[(&[u8], f64)], operation: Operation) -> Imported {
    let parts: Vec<Weighted<'_>> =
        parts.iter().map(|(bytes, weight)| Weighted { bytes, weight: *weight }).collect();
    compose(base, &parts, operation).unwrap_or_else(|error| panic!("{operation:?}: {error}"))
}

fn same(base: &Base<'_>, a: &[u8], b: &[u8], what: &str) {
    let apart = distance(&result(base, a), &result(base, b));
    assert!(apart < 1e-5, "{what}: {apart:.1e} apart");
}

/// Deltas of a normalization are those of its scale and shift, which an adapter holds whole.
#[test]
fn normalizations_add_and_scale_as_deltas() {
    let compiled = Compiled::new("norm", false);
    let base = compiled.base(false);
    let (config, tensors) = checkpoint("ln");
    let made = import_peft(&base, &config, &tensors, &Matching::default(), "test").expect("agrees").bytes;
    let pairs = |bytes: &[u8]| -> Vec<Vec<f32>> {
        let held = Aligned::copy_of(bytes);
        let adapter = Adapter::attach(held.as_slice(), &base.plan).expect("it was written for this base");
        let terms = |site| adapter.terms(site).affine.map(|affine| [affine.scale, affine.shift].concat());
        (0..base.plan.site_count()).filter_map(terms).collect()
    };
    let sum = |weights: &[f64]| {
        let parts: Vec<Weighted<'_>> =
            weights.iter().map(|w| Weighted { bytes: &made, weight: *w }).collect();
        pairs(&compose(&base, &parts, Operation::Sum).expect("deltas add").bytes)
    };
    let whole = pairs(&made);
    assert_eq!(whole.len(), 2);
    assert_eq!(sum(&[1.0]), whole);
    assert_eq!(sum(&[0.25, 0.75]), whole);
    // Nothing is left of it: the base's own pair.
    let frozen =
        |site: &usize| FrozenSite::new(&base.plan, *site).filter(|frozen| frozen.desc.kind.is_norm());
    let own: Vec<Vec<f32>> = (0..base.plan.site_count())
        .filter_map(|site| frozen(&site))
        .map(|site| {
            let channels = || 0..site.desc.out;
            channels().map(|c| site.weight(c, 0)).chain(channels().map(|c| site.real_bias(c))).collect()
        })
        .collect();
    assert_eq!(sum(&[1.0, -1.0]), own);
    assert_eq!(pairs(&compress(&base, &made, Compression::Fuse).expect("one pair already").bytes), whole);
    assert_eq!(pairs(&compress(&base, &made, Compression::Rank(1)).expect("a column").bytes).len(), 2);
    let none = compress(&base, &made, Compression::Int8).expect_err("no factors");
    assert!(none.to_string().contains("low-rank pair"), "{none}");
}

#[test]
fn an_adapter_less_itself_is_the_base() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let untouched = run(base.plan, &outputs()["linear/input"], &NoAdapter);
    for case in ["lora", "dora", "ia3", "road_1", "shira", "lora_trained_bias"] {
        let a = import(&base, case);
        assert!(distance(&result(&base, &a), &untouched) > 1e-2, "{case} does something");
        let nothing = joined(&base, &[(&a, 1.0), (&a, -1.0)], Operation::Sum);
        let apart = distance(&result(&base, &nothing.bytes), &untouched);
        assert!(apart < 1e-5, "{case}: {apart:.1e} apart");
    }
    let a = import(&base, "lora");
    let minus = joined(&base, &[(&a, 1.0)], Operation::Negate).bytes;
    for operation in [Operation::Sum, Operation::Concatenate, Operation::FactorSum] {
        let nothing = joined(&base, &[(&a, 1.0), (&minus, 1.0)], operation);
        let apart = distance(&result(&base, &nothing.bytes), &untouched);
        assert!(apart < 1e-5, "{operation:?}: {apart:.1e} apart");
    }
}

#[test]
fn pairs_side_by_side_are_the_sum_of_their_deltas() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    // The second has other ranks, module by module.
    let (a, b) = (import(&base, "lora"), import(&base, "adalora"));
    let parts: [(&[u8], f64); 2] = [(&a, 0.7), (&b, -1.3)];
    let concatenated = joined(&base, &parts, Operation::Concatenate).bytes;
    same(&base, &concatenated, &joined(&base, &parts, Operation::Sum).bytes, "concat and sum");
    let fused = joined(&base, &parts, Operation::Prune { density: 1.0 }).bytes;
    same(&base, &concatenated, &fused, "concat and the sum of whole deltas");
    let file = Aligned::copy_of(&concatenated);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    assert_eq!(adapter.terms(0).two_factor.map(|term| term.rank), Some(3 + 5));
    let added = compose(
        &base,
        &[Weighted { bytes: &a, weight: 1.0 }, Weighted { bytes: &b, weight: 1.0 }],
        Operation::FactorSum,
    );
    assert!(added.expect_err("other ranks").to_string().contains("different ranks"));
    let dora = import(&base, "dora");
    let refused = compose(&base, &[Weighted { bytes: &dora, weight: 1.0 }], Operation::Concatenate)
        .expect_err("no pair");
    assert!(refused.to_string().contains("acts on factors"), "{refused}");
}

#[test]
fn a_feature_set_is_its_members_side_by_side_and_nothing_of_the_others() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (a, b, c) = (import(&base, "lora"), import(&base, "loha"), import(&base, "adalora"));
    let set = |a_in: f64, b_in: f64, c_in: f64| {
        joined(&base, &[(&a, a_in), (&b, b_in), (&c, c_in)], Operation::Features).bytes
    };
    let pair = set(1.0, 0.0, 1.0);
    same(
        &base,
        &pair,
        &joined(&base, &[(&a, 1.0), (&c, 1.0)], Operation::Concatenate).bytes,
        "a set and pairs side by side",
    );
    let one = set(1.0, 0.0, 0.0);
    same(&base, &a, &one, "a set of one");
    let file = Aligned::copy_of(&one);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    // With any of the members outside it would be a whole delta.
    assert_eq!(adapter.terms(0).two_factor.map(|term| term.rank), Some(3));
    let whole = set(1.0, 1.0, 1.0);
    let less = joined(&base, &[(&whole, 1.0), (&b, -1.0)], Operation::Sum).bytes;
    same(&base, &pair, &less, "all but one");
    let refused = |weights: [f64; 2]| {
        let parts = [Weighted { bytes: &a, weight: weights[0] }, Weighted { bytes: &c, weight: weights[1] }];
        compose(&base, &parts, Operation::Features).expect_err("no set").to_string()
    };
    assert!(refused([1.0, 0.5]).contains("its weight is 1 or 0"));
    assert!(refused([0.0, 0.0]).contains("a set without a feature is the base"));
}

#[test]
fn one_adapter_whole_is_itself_under_every_operation() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (a, c) = (import(&base, "lora"), import(&base, "lora_bias"));
    let operations = [
        Operation::Sum,
        Operation::Concatenate,
        Operation::Features,
        Operation::FactorSum,
        Operation::Ties { density: 1.0 },
        Operation::Dare { density: 1.0, seed: 3 },
        Operation::Prune { density: 1.0 },
    ];
    for operation in operations {
        same(&base, &a, &joined(&base, &[(&a, 1.0)], operation).bytes, &operation.name());
    }
    same(
        &base,
        &c,
        &joined(&base, &[(&a, 1.0), (&a, 1.0), (&c, 1.0)], Operation::Analogy).bytes,
        "a − a + c",
    );
}

#[test]
fn what_is_drawn_depends_on_the_seed_alone() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let a = import(&base, "loha");
    let dare = |seed| joined(&base, &[(&a, 1.0)], Operation::Dare { density: 0.5, seed }).bytes;
    assert_eq!(dare(1), dare(1));
    assert_ne!(result(&base, &dare(1)), result(&base, &dare(2)));
}

#[test]
fn ties_keeps_the_sign_of_the_majority() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let a = import(&base, "loha");
    let minus = joined(&base, &[(&a, -1.0)], Operation::Sum).bytes;
    // Two of three say a, each by its own weight; the third is outvoted and does not count.
    let elected =
        joined(&base, &[(&a, 1.0), (&a, 3.0), (&minus, 1.0)], Operation::Ties { density: 1.0 }).bytes;
    same(&base, &elected, &joined(&base, &[(&a, 2.0)], Operation::Sum).bytes, "the mean of those that agree");
}

#[test]
fn compression_states_what_it_costs() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let a = import(&base, "loha");
    let whole = compress(&base, &a, Compression::Rank(256)).expect("any rank");
    assert!(whole.sites.iter().all(|site| site.error < 1e-6), "{:?}", whole.sites);
    same(&base, &a, &whole.bytes, "the full rank");
    let errors: Vec<f64> = (1..5)
        .map(|rank| compress(&base, &a, Compression::Rank(rank)).expect("any rank").sites[0].error)
        .collect();
    // LoHa of rank 2 has a delta of rank 4.
    assert!(errors.is_sorted_by(|a, b| a > b) && errors[3] < 1e-6, "{errors:?}");
    let lora = import(&base, "lora");
    same(
        &base,
        &lora,
        &compress(&base, &lora, Compression::Slice(3)).expect("all of it").bytes,
        "the whole slice",
    );
    let slice = compress(&base, &lora, Compression::Slice(1)).expect("a part").bytes;
    let file = Aligned::copy_of(&slice);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    assert_eq!(adapter.terms(0).two_factor.map(|term| term.rank), Some(1));
    assert!(compress(&base, &lora, Compression::Slice(4)).is_err());
    assert!(compress(&base, &a, Compression::Slice(1)).is_err());
}

#[test]
fn a_ternary_delta_has_one_size_and_as_many_entries_as_asked_for() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let a = import(&base, "loha");
    let ternary = compress(&base, &a, Compression::Ternary { density: 0.1, scale: 1.0 }).expect("a share");
    let file = Aligned::copy_of(&ternary.bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    let Some(SparseValues::F32(values)) = adapter.terms(0).sparse.map(|sparse| sparse.values) else {
        panic!("entries")
    };
    assert_eq!(values.len(), 12);
    assert!(values.iter().all(|v| v.abs() == values[0].abs() && *v != 0.0));
    assert!(ternary.bytes.len() < a.len());
    assert!(compress(&base, &a, Compression::Ternary { density: 0.0, scale: 1.0 }).is_err());
}

#[test]
fn integer_factors_and_fused_weights_stay_close_on_an_int8_base() {
    let compiled = Compiled::new("linear", true);
    let base = compiled.base(true);
    let a = import(&base, "lora");
    let int8 = compress(&base, &a, Compression::Int8).expect("a pair");
    assert!(int8.sites.iter().all(|site| site.error > 0.0 && site.error < 0.02), "{:?}", int8.sites);
    let file = Aligned::copy_of(&int8.bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    assert!(matches!(adapter.terms(0).two_factor.map(|term| term.factors), Some(Factors::I8 { .. })));
    let apart = distance(&result(&base, &int8.bytes), &result(&base, &a));
    assert!(apart < 0.05, "{apart:.1e} apart");
    let fused = compress(&base, &a, Compression::Fuse).expect("any adapter");
    let file = Aligned::copy_of(&fused.bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("made for this base");
    assert!(adapter.terms(0).patched.is_some() && adapter.terms(0).two_factor.is_none());
    let apart = distance(&result(&base, &fused.bytes), &result(&base, &a));
    assert!(apart < 0.1, "{apart:.1e} apart");
    // Integer pairs add as deltas too.
    let nothing = joined(&base, &[(&int8.bytes, 1.0), (&int8.bytes, -1.0)], Operation::Sum);
    let untouched = run(base.plan, &outputs()["linear/input"], &NoAdapter);
    assert!(distance(&result(&base, &nothing.bytes), &untouched) < 1e-6);
}

#[test]
fn a_coded_ternary_file_is_the_ternary_adapter() {
    for quantized in [false, true] {
        let compiled = Compiled::new("linear", quantized);
        let base = compiled.base(true);
        for case in ["loha", "lora_bias"] {
            let a = import(&base, case);
            for density in [0.01, 0.1, 0.5, 1.0] {
                let plain =
                    compress(&base, &a, Compression::Ternary { density, scale: 0.8 }).expect("a share");
                let code = |coding| encode_ternary(&base, &a, density, 0.8, coding).expect("deltas");
                let (bitmap, golomb) = (code(Coding::Bitmap), code(Coding::Golomb));
                for coded in [&bitmap, &golomb] {
                    let back = decode_ternary(&base, coded).expect("we wrote it");
                    assert_eq!(result(&base, &back.bytes), result(&base, &plain.bytes), "{case} {density}");
                }
                assert!(density > 0.1 || golomb.len() < bitmap.len(), "{} {}", golomb.len(), bitmap.len());
                for at in 0..golomb.len() {
                    let mut bytes = golomb.clone();
                    bytes[at] ^= 0x55;
                    assert!(decode_ternary(&base, &bytes).is_err(), "a damaged byte {at}");
                    // The same with a hash that fits: read within its bounds, to the end or to a reason.
                    let hash = blake3::hash(&bytes[44..]);
                    bytes[12..44].copy_from_slice(hash.as_bytes());
                    let _ = decode_ternary(&base, &bytes);
                    assert!(decode_ternary(&base, &golomb[..at]).is_err(), "{at} bytes");
                }
            }
        }
    }
}

/// Members called `a`, `b`, … of these files; the first is frozen.
fn stack_of(files: &[&Vec<u8>]) -> Vec<Member> {
    let member = |(at, bytes): (usize, &&Vec<u8>)| Member {
        name: char::from(b'a' + at as u8).to_string(),
        frozen: at == 0,
        bytes: bytes.to_vec(),
    };
    files.iter().enumerate().map(member).collect()
}

#[test]
fn a_stack_acts_as_the_sum_of_its_members_and_gives_each_back() {
    for quantized in [false, true] {
        let compiled = Compiled::new("linear", quantized);
        let base = compiled.base(true);
        let (a, b, c) = (import(&base, "lora"), import(&base, "adalora"), import(&base, "lora_bias"));
        let held = stack_of(&[&a, &b, &c]);
        let made = stack(&base, &held).expect("of one base").bytes;
        let parts: [(&[u8], f64); 3] = [(&a, 1.0), (&b, 1.0), (&c, 1.0)];
        let sum = joined(&base, &parts, Operation::Sum).bytes;
        assert_eq!(result(&base, &made), result(&base, &sum));
        // Order and flags, and every file to the byte.
        assert_eq!(members(&made).expect("we wrote it"), held);
        assert_eq!(members(&sum).expect("whole"), []);
        // In another order it does the same.
        let turned = stack(&base, &stack_of(&[&c, &a, &b])).expect("of one base").bytes;
        let apart = distance(&result(&base, &turned), &result(&base, &made));
        assert!(apart < if quantized { 1e-2 } else { 1e-6 }, "{apart:.1e} apart");
        // Without its last member it is the stack of the others.
        let fewer = stack(&base, &members(&made).expect("we wrote it")[..2]).expect("of one base").bytes;
        same(&base, &fewer, &joined(&base, &parts[..2], Operation::Sum).bytes, "the first two");
        // Safetensors and JSON hold all of it.
        let exported = export_native(&made).expect("whole");
        let again = import_native(&base, exported.json.as_bytes(), &exported.tensors, "elsewhere");
        assert!(again.expect("we wrote it").bytes == made, "other bytes came back");
        // What acts may have been trained as a whole: then it is that, to the byte.
        let trained = stacked(&base, &a, &held[1..]).expect("of one base");
        assert_eq!(result(&base, &trained), result(&base, &a));
        assert_eq!(members(&trained).expect("we wrote it"), held[1..]);
    }
}

#[test]
fn stacks_that_are_none_are_refused_by_name() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let a = import(&base, "lora");
    let refused = |held: &[Member]| stack(&base, held).expect_err("no stack").to_string();
    assert!(refused(&[]).contains("at least one member"));
    let mut twice = stack_of(&[&a, &a]);
    let whole = stack(&base, &twice).expect("one adapter twice").bytes;
    assert!(refused(&stack_of(&[&a, &whole])).starts_with("b: it is a stack itself"));
    twice[1].name = "a".into();
    assert!(refused(&twice).contains("one name"));
    twice[1].name = String::new();
    assert!(refused(&twice).contains("a name"));
    let other = Compiled::new("norm", false);
    let (config, tensors) = checkpoint("ln");
    let foreign = import_peft(&other.base(false), &config, &tensors, &Matching::default(), "test");
    let error = refused(&stack_of(&[&a, &foreign.expect("agrees").bytes]));
    assert!(error.starts_with("b: ") && error.contains("base"), "{error}");
    // A member whose record says nonsense is a damaged file, as any is; the hash is that of the bytes.
    let flag = whole.windows(8).rposition(|window| window[..4] == (a.len() as u32).to_le_bytes());
    let mut damaged = whole.clone();
    let at = flag.expect("its length and flag") + 4;
    assert!(damaged[at] <= 1);
    damaged[at] = 7;
    let hash = blake3::hash(&damaged[48..]);
    damaged[16..48].copy_from_slice(hash.as_bytes());
    assert!(members(&damaged).expect_err("no flag").to_string().contains('b'));
}

/// Where PyTorch's sum has one order (rank 1) or was found to have the one that is documented (`lin0`), to the bit; else by less than what
/// rounding every sum moves.
#[test]
fn a_lora_is_merged_as_peft_merges_it() {
    let (compiled, outputs) = (Compiled::new("linear", false), outputs());
    let base = compiled.base(true);
    for (case, rank) in [("lora_rank_1", 1), ("lora_rank_2", 2), ("lora_rank_9", 9)] {
        let merged = compress(&base, &import(&base, case), Compression::Fuse).expect("any adapter").bytes;
        let held = Aligned::copy_of(&merged);
        let adapter = Adapter::attach(held.as_slice(), &base.plan).expect("it was written for this base");
        // One trained here is merged alike.
        let (_, tensors) = checkpoint(case);
        let mut own = Vec::new();
        for (name, tensor) in read_tensors(&tensors).expect("whole") {
            let (path, leaf) = name.rsplit_once(".lora_").expect("a factor");
            let module = path.trim_start_matches("base_model.model.");
            let leaf = leaf.trim_end_matches(".weight");
            let values = tensor.values.iter().map(|v| *v as f32).collect();
            own.push((format!("{module}.weight.lora_{leaf}"), tensor.dims, values));
        }
        let sites = r#"{"lin0.weight": {}, "block.lin1.weight": {}}"#;
        let json =
            format!(r#"{{"method": "lora", "settings": {{"rank": {rank}, "alpha": 7}}, "sites": {sites}}}"#);
        let made = import_native(&base, json.as_bytes(), &file(&own), "by hand").expect("fits");
        let twin = compress(&base, &made.bytes, Compression::Fuse).expect("any adapter").bytes;
        let twin_file = Aligned::copy_of(&twin);
        let twin = Adapter::attach(twin_file.as_slice(), &base.plan).expect("it was written for this base");
        for site in [0, 1] {
            let [ours, theirs] = [&twin, &adapter].map(|held| TermSpec::of(&held.terms(site)));
            assert_eq!(ours, theirs, "{case}");
        }
        for (site, module) in [(0, "lin0"), (1, "block.lin1")] {
            let SparseValues::F32(values) = adapter.terms(site).sparse.expect("a delta").values else {
                panic!("real numbers")
            };
            let of = |what: &str| &outputs[&format!("{case}/{what}/{module}")].values;
            let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
            let (added, whole) = (narrow(of("added")), narrow(of("merged")));
            assert_eq!(values.len(), added.len());
            let frozen = FrozenSite::new(&base.plan, site).expect("a linear layer");
            let row = frozen.desc.row();
            let sums = values.iter().enumerate().map(|(i, v)| frozen.weight(i / row, i % row) + v);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            let (sums, equal) = (sums.collect::<Vec<f32>>(), bits(values) == bits(&added));
            println!(
                "{case} {module}: {}",
                if equal { "to the bit" } else { "but for the order of the sum" }
            );
            if rank == 1 || module == "lin0" {
                assert!(equal && bits(&sums) == bits(&whole), "{case} {module}");
            }
            // Factors are below 1.5, s is 7/r: no partial sum is beyond 16.
            let furthest = values.iter().zip(&added).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(furthest <= rank as f32 * 16.0 * f32::EPSILON, "{case} {module}: {furthest:.1e}");
        }
    }
}
