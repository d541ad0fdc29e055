//! Batch norms folded and channels equalized: deltas still arrive, and norms are those of the weight trained on.

use ingraft_adapter::{Adapter, TermSource};
use ingraft_import::{Aligned, Base, Matching, export_peft, import_native, import_peft};
use ingraft_kernel::{Factors, SiteTerms, Sites};
use ingraft_method::in_kernel;
use ingraft_train::FrozenSite;

use crate::fixture::{Compiled, checkpoint, outputs};
use crate::native::file;

/// The delta of a site's weight that `terms` make, as the model file's weight would have it.
fn delta(base: &Base<'_>, index: usize, terms: &SiteTerms<'_>) -> Vec<f64> {
    let site = FrozenSite::new(&base.plan, index).expect("a weight");
    let (out, row) = (site.desc.out, site.desc.row());
    let scales = site.scales().expect("an int8 site");
    let (o, i) = base.plan.site_diagonals(index);
    let window = site.desc.kernel.iter().product::<usize>();
    let value = |channel: usize, position: usize| {
        let held = in_kernel(&site.desc, position);
        let moved = match (terms.two_factor.map(|term| (term.rank, term.factors)), terms.patched) {
            (Some((rank, Factors::F32 { down, up })), None) => {
                (0..rank).map(|k| f64::from(up[channel * rank + k]) * f64::from(down[k * row + held])).sum()
            }
            (None, Some(fused)) => {
                let widened = terms.affine.map_or(1.0, |affine| affine.scale[channel]);
                let code = f64::from(fused.weight[site.offset(channel, held)]);
                code * f64::from(widened) * f64::from(scales.weight(channel))
                    - f64::from(site.weight(channel, held))
            }
            _ => panic!("factors or a fused weight"),
        };
        let factor = |held: Option<&[f32]>, at: usize| held.map_or(1.0, |held| f64::from(held[at]));
        moved / factor(o, channel) / factor(i, position / window)
    };
    (0..out * row).map(|at| value(at / row, at % row)).collect()
}

fn relative(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    square(&mut got.iter().zip(want).map(|(g, w)| g - w)) / square(&mut want.iter().copied())
}

#[test]
fn deltas_are_carried_over_folded_batch_norms_and_equalized_channels() {
    let outputs = outputs();
    let compiled = Compiled::new("conv", true);
    let base = compiled.base(true);
    let diagonals: Vec<_> = (0..base.plan.site_count()).map(|site| base.plan.site_diagonals(site)).collect();
    assert!(diagonals.iter().any(|(o, _)| o.is_some()), "a batch norm was folded");
    assert!(diagonals.iter().any(|(_, i)| i.is_some()), "channels were equalized");
    for case in ["lora_conv", "dora_conv", "loha_conv", "hira_conv"] {
        let (config, tensors) = checkpoint(case);
        let imported = import_peft(&base, &config, &tensors, &Matching::default(), "test").expect("fits");
        let file = Aligned::copy_of(&imported.bytes);
        let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("import checked it");
        assert_eq!(imported.sites.len(), 3, "{case}");
        for site in &imported.sites {
            let index =
                (0..base.plan.site_count()).find(|i| base.plan.site(*i).expect("a site").name == site.name);
            let got = delta(&base, index.expect("named"), &adapter.terms(index.expect("named")));
            let apart = relative(&got, &outputs[&format!("{case}/delta/{}", site.module)].values);
            println!("{case} {}: {apart:.1e} apart, {:.1e} reported", site.name, site.error);
            // What rounding to the base's integers costs, no more: two factors stay floats and cost nothing. The diagonals
            // weight the error otherwise before and behind them.
            assert!(apart < 1e-6 + 1.5 * site.error, "{case} {}: {apart:.1e} apart", site.name);
        }
    }
}

#[test]
fn what_was_trained_behind_folded_batch_norms_is_exported_as_before_them() {
    let compiled = Compiled::new("conv", true);
    let base = compiled.base(true);
    let folded = |index: &usize| {
        let site = base.plan.site(*index).expect("a site");
        base.plan.site_diagonals(*index) != (None, None) && site.groups == 1
    };
    let sites: Vec<usize> = (0..base.plan.site_count()).filter(folded).collect();
    assert!(!sites.is_empty());
    for method in ["lora", "dora"] {
        let (mut tensors, mut named) = (Vec::new(), Vec::new());
        for site in sites.iter().filter_map(|index| base.plan.site(*index)) {
            let mut values = |name: &str, dims: [usize; 2]| {
                let value = |i: usize| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.4;
                let values = (0..dims[0] * dims[1]).map(value).collect();
                tensors.push((format!("{}.{name}", site.name), dims.to_vec(), values));
            };
            values("lora_A", [2, site.row()]);
            values("lora_B", [site.out, 2]);
            if method == "dora" {
                values("lora_magnitude_vector", [site.out, 1]);
            }
            named.push(format!("\"{}\": {{}}", site.name));
        }
        let json = format!(
            "{{\"method\": \"{method}\", \"settings\": {{\"rank\": 2, \"alpha\": 3}}, \"sites\": {{{}}}}}",
            named.join(", ")
        );
        let made = import_native(&base, json.as_bytes(), &file(&tensors), "by hand").expect("fits");
        if method == "dora" {
            // Its lengths are those of the folded weight.
            let error = export_peft(&made.bytes, &base.plan).expect_err("it cannot be unfolded");
            assert!(error.to_string().contains("folded"), "{error}");
            continue;
        }
        let written = export_peft(&made.bytes, &base.plan).expect("factors are unfolded");
        let json = written.json.as_bytes();
        let again = import_peft(&base, json, &written.tensors, &Matching::default(), "back").expect("fits");
        let [made, again] = [made.bytes, again.bytes].map(|bytes| Aligned::copy_of(&bytes));
        let attach = |file| Adapter::attach(file, &base.plan).expect("import checked it");
        let [made, again] = [attach(made.as_slice()), attach(again.as_slice())];
        for index in &sites {
            let deltas = [&made, &again].map(|adapter| delta(&base, *index, &adapter.terms(*index)));
            assert!(relative(&deltas[1], &deltas[0]) < 1e-6);
        }
    }
}
