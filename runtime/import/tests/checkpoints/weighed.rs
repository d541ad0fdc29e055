//! What wants the float weight, groups or an accepted order: taken with it, refused without.

use ingraft_adapter::Adapter;
use ingraft_import::{Aligned, Matching, import_peft};
use serde_json::{Value, json};

use crate::fixture::{Compiled, checkpoint, distance, outputs, run};
use crate::refusal::{Edit, Held, file, held, import, refused};

#[test]
fn a_part_of_the_weight_is_replaced_only_where_the_float_weight_is_at_hand() {
    let compiled = Compiled::new("linear", true);
    let outputs = outputs();
    for case in ["osf", "pissa", "olora"] {
        let (config, tensors) = checkpoint(case);
        let import =
            |weights| import_peft(&compiled.base(weights), &config, &tensors, &Matching::default(), "test");
        let refused = import(false).expect_err("rounding changed that part").to_string();
        assert!(refused.contains("rounding changed that part") && refused.contains("--onnx"), "{refused}");
        let base = compiled.base(true);
        let file = Aligned::copy_of(&import(true).expect("the weights are there").bytes);
        let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("import checked it");
        let apart = distance(
            &run(base.plan, &outputs["linear/input"], &adapter),
            &outputs[&format!("{case}/output")].values,
        );
        // What int8 costs the base and its activations; OLoRA's are beyond the range that the base was calibrated to.
        assert!(apart < if case == "olora" { 0.5 } else { 0.05 }, "{case}: {apart:.1e} apart");
    }
}

#[test]
fn block_diagonal_factors_and_projections_that_sample_are_read_as_they_are_or_refused() {
    let both = json!({"target_modules_bd_a": ["lin"], "target_modules_bd_b": ["lin0"], "nblocks": 2});
    let uneven = json!({"target_modules_bd_a": ["lin1"], "target_modules_bd_b": ["lin0"], "nblocks": 3});
    let other = json!({"target_modules_bd_a": ["lin0"], "target_modules_bd_b": ["lin1"], "nblocks": 2});
    let none = json!({"target_modules_bd_a": ["lin1"], "target_modules_bd_b": ["lin0"], "nblocks": 0});
    for (case, name, value, reason) in [
        ("bdlora", "use_bdlora", both, "for both factors"),
        ("bdlora", "use_bdlora", uneven, "do not divide this module"),
        ("bdlora", "use_bdlora", other, "shape"),
        ("bdlora", "use_bdlora", none, "no whole number above 0"),
        ("bdlora", "use_bdlora", json!(null), "shape"),
        ("bdlora", "use_bdlora", json!(true), "does not say which factors have blocks"),
        ("pvera_drawn", "sample_at_inference", json!(true), "sample_at_inference"),
        ("pvera_saved", "r", json!(5), "smaller than the rank"),
    ] {
        let (mut config, tensors) = held(case);
        config[name] = value;
        let error = import(&config, &file(&tensors)).expect_err(reason).to_string();
        assert!(error.contains(reason), "{case} {name}: {error}");
    }
}

#[test]
fn groups_that_a_pair_reads_across_are_refused_and_others_are_not() {
    let compiled = Compiled::new("groups", false);
    let base = compiled.base(true);
    let import = |config: &Value, tensors: &Held| {
        let config = serde_json::to_vec(config).expect("JSON");
        import_peft(&base, &config, &file(tensors), &Matching::default(), "test").map(|made| made.sites.len())
    };
    let error = {
        let (config, tensors) = held("lora_groups_all");
        import(&config, &tensors).expect_err("every group").to_string()
    };
    assert!(error.contains("reads every group"), "{error}");
    let (config, tensors) = held("lora_groups");
    assert_eq!(import(&config, &tensors), Ok(2));
    // One value of another group.
    let mut across = tensors.clone();
    let down = across.iter_mut().find(|(name, ..)| name.contains("mix.lora_A")).expect("a factor");
    *down.2.iter_mut().find(|value| **value == 0.0).expect("outside the group") = 0.1;
    assert!(import(&config, &across).expect_err("across").to_string().contains("reads every group"));
}

#[test]
fn vectors_of_several_modules_go_by_the_order_that_is_accepted() {
    let (outputs, compiled) = (outputs(), Compiled::new("linear", false));
    let base = compiled.base(true);
    let (config, tensors) = checkpoint("tinylora_untied");
    let import = |accept_proposal: bool| {
        let matching = Matching { accept_proposal, ..Matching::default() };
        import_peft(&base, &config, &tensors, &matching, "test")
    };
    let error = import(false).expect_err("which vector").to_string();
    assert!(error.contains("--accept-proposal"), "{error}");
    let made = Aligned::copy_of(&import(true).expect("in order").bytes);
    let adapter = Adapter::attach(made.as_slice(), &base.plan).expect("import checked it");
    let got = run(base.plan, &outputs["linear/input"], &adapter);
    let apart = distance(&got, &outputs["tinylora_untied/output"].values);
    assert!(apart < 1e-5, "{apart:.1e} apart");
}

#[test]
fn singular_vectors_have_the_signs_that_the_file_gives_them() {
    let (config, tensors) = held("psoft");
    let without = |tensors: &Held| -> Held {
        tensors
            .iter()
            .filter(|(name, ..)| !name.ends_with("psoft_A") && !name.ends_with("psoft_B"))
            .cloned()
            .collect()
    };
    let error = refused(&config, &without(&tensors)).to_string();
    assert!(
        error.contains("whose signs every library chooses otherwise") && error.contains("save_as_lora"),
        "{error}"
    );
    // Those of another weight.
    let mut other = tensors.clone();
    let up = other.iter_mut().find(|(name, ..)| name.ends_with("psoft_B")).expect("a factor");
    up.2.reverse();
    assert!(refused(&config, &other).to_string().contains("of another base"));
    // One of the two.
    let half: Held = tensors.iter().filter(|(name, ..)| !name.ends_with("psoft_A")).cloned().collect();
    assert!(refused(&config, &half).to_string().contains("psoft_A is missing"));
    // A decomposition in part has no vectors that anybody else finds.
    let (mut config, tensors) = held("psoft_scaled");
    assert_eq!(import(&config, &file(&tensors)), Ok(2));
    config["psoft_svd"] = json!("lowrank");
    assert!(refused(&config, &tensors).to_string().contains("signs"));
}

#[test]
fn clusters_are_those_of_the_file_or_refused() {
    let (config, tensors) = held("adamss");
    assert_eq!(import(&config, &file(&tensors)), Ok(2));
    let changed = |edit: Edit<'_>| {
        let mut tensors = tensors.clone();
        edit(&mut tensors);
        refused(&config, &tensors).to_string()
    };
    // Made on another weight: its right vectors belong to no left ones that are orthogonal.
    let error = changed(&|tensors| {
        let right = tensors.iter_mut().find(|(name, ..)| name.ends_with("lin0.adamss_newB")).expect("one");
        right.2.reverse();
    });
    assert!(error.contains("other rows follow"), "{error}");
    // As many rows as another cluster has.
    let error = changed(&|tensors| {
        let part = tensors.iter_mut().find(|(name, ..)| name.ends_with("lin0.adamss_B.1")).expect("one");
        part.1[0] -= 1;
        part.2.truncate(part.1[0] * part.1[1]);
    });
    assert!(error.contains("other rows follow"), "{error}");
    // A part less: the clusters are others.
    let error =
        changed(&|tensors| tensors.retain(|(name, ..)| !name.contains("lin0") || !name.ends_with(".2")));
    assert!(error.contains("other rows follow") || error.contains("no tensor"), "{error}");
    // All directions of a wide matrix: its rows lie equally far from each other.
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (out, width) = (10, 13);
    let mut wide: Held = vec![(
        "base_model.model.lin0.adamss_newB".to_owned(),
        vec![out, width],
        whole_directions(&base.initializers["lin0.weight"], &base.initializers["lin0.bias"]),
    )];
    for (part, name) in [(2, "A"), (5, "B")] {
        for at in 0..2 {
            let dims = if name == "A" { vec![part, out] } else { vec![part, 2] };
            let values = vec![0.1; dims.iter().product()];
            wide.push((format!("base_model.model.lin0.adamss_{name}.{at}"), dims, values));
        }
    }
    let error = refused(&config, &wide).to_string();
    assert!(error.contains("rounding decides it"), "{error}");
}

/// An orthonormal basis of the rows of a weight beside its bias, turned so that the left vectors are orthogonal too: right singular vectors.
fn whole_directions(weight: &ingraft_import::Tensor, bias: &ingraft_import::Tensor) -> Vec<f32> {
    let (out, row) = (weight.dims[0], weight.dims[1]);
    let mut rows: Vec<Vec<f64>> = (0..out)
        .map(|o| weight.values[o * row..(o + 1) * row].iter().copied().chain([bias.values[o]]).collect())
        .collect();
    // Rows turned in pairs until they are orthogonal (Jacobi).
    for _ in 0..60 {
        for p in 0..out {
            for q in p + 1..out {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
                let (pp, qq, pq) =
                    (dot(&rows[p], &rows[p]), dot(&rows[q], &rows[q]), dot(&rows[p], &rows[q]));
                if pq.abs() < 1e-15 * (pp * qq).sqrt() {
                    continue;
                }
                let zeta = (qq - pp) / (2.0 * pq);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let (c, s) = (1.0 / (1.0 + t * t).sqrt(), t / (1.0 + t * t).sqrt());
                let turned =
                    rows[p].iter().zip(&rows[q]).map(|(x, y)| (c * x - s * y, s * x + c * y)).unzip();
                (rows[p], rows[q]) = turned;
            }
        }
    }
    let unit = |row: Vec<f64>| {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.into_iter().map(move |v| (v / length) as f32)
    };
    rows.into_iter().flat_map(unit).collect()
}
