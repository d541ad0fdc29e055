//! Checkpoints made to hurt: small files that ask for more time or memory than there is. First found by the fuzz target
//! `safetensors_peft`, or on the way to what it found.

use ingraft_import::{Fault, ImportError, Matching, import_lycoris, import_peft, read_tensors};
use ingraft_kernel::Sites;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::fixture::{Compiled, checkpoint};

type Held = Vec<(String, Vec<usize>, Vec<f32>)>;

fn file(tensors: &Held) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, dims, _), data)| {
        (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), data).expect("whole"))
    });
    safetensors::serialize(views, None).expect("whole")
}

/// The refusal of a checkpoint with a setting changed.
fn refused(case: &str, name: &str, value: Value) -> ImportError {
    let compiled = Compiled::new("linear", false);
    let (config, tensors) = checkpoint(case);
    let mut config: Value = serde_json::from_slice(&config).expect("JSON");
    config[name] = value;
    let config = serde_json::to_vec(&config).expect("JSON");
    import_peft(&compiled.base(true), &config, &tensors, &Matching::default(), "test").expect_err("refused")
}

#[test]
fn a_setting_alone_costs_neither_time_nor_memory() {
    // 2⁶² matrix products, and 2⁴⁰ rows to draw.
    for (case, name, value) in [
        ("oft_neumann_5", "num_cayley_neumann_terms", json!(1u64 << 62)),
        ("vera_drawn", "r", json!(1u64 << 40)),
        ("pvera_drawn", "r", json!(1u64 << 63)),
    ] {
        let error = refused(case, name, value);
        assert!(matches!(error.fault, Fault::Unsupported(_) | Fault::Shape { .. }), "{case}: {error}");
    }
}

/// A stated rank of 0 takes what is there, which then must be one rank.
#[test]
fn factors_of_two_ranks_are_refused() {
    let compiled = Compiled::new("linear", false);
    let (config, tensors) = checkpoint("unilora");
    let mut config: Value = serde_json::from_slice(&config).expect("JSON");
    config["r"] = json!(0);
    let config = serde_json::to_vec(&config).expect("JSON");
    let mut held: Held = Vec::new();
    for (name, tensor) in read_tensors(&tensors).expect("whole") {
        let mut values: Vec<f32> = tensor.values.iter().map(|v| *v as f32).collect();
        let mut dims = tensor.dims.clone();
        if name.ends_with("_B") {
            dims[1] -= 1;
            values.truncate(dims[0] * dims[1]);
        }
        held.push((name, dims, values));
    }
    let made = import_peft(&compiled.base(true), &config, &file(&held), &Matching::default(), "test");
    let error = made.expect_err("two ranks");
    assert!(matches!(error.fault, Fault::Shape { .. }), "{error}");
}

/// Values of LyCORIS for the first layer.
fn lycoris(tensors: &[(&str, [usize; 2])]) -> Result<usize, ImportError> {
    let held = tensors.iter().map(|(leaf, dims)| {
        (format!("lycoris_lin0.{leaf}"), dims.to_vec(), vec![0.5; dims.iter().product()])
    });
    let compiled = Compiled::new("linear", false);
    let file = file(&held.collect());
    assert!(read_tensors(&file).is_ok());
    import_lycoris(&compiled.base(true), &file, &Matching::default(), "test").map(|made| made.sites.len())
}

#[test]
fn products_are_of_the_weights_size_before_they_are_computed() {
    let lin0 = Compiled::new("linear", false);
    let base = lin0.base(false);
    let mut sites = (0..base.plan.site_count()).filter_map(|index| base.plan.site(index));
    let site = sites.find(|site| site.name == "lin0.weight").expect("it is there");
    let (out, row) = (site.out, site.row());
    let pair = |first: [usize; 2], second: [usize; 2]| {
        [("hada_w1_a", [out, 2]), ("hada_w1_b", [2, row]), ("hada_w2_a", first), ("hada_w2_b", second)]
    };
    assert_eq!(lycoris(&pair([out, 2], [2, row])), Ok(1));
    // What the fuzzer found: two factors of different sizes, multiplied element by element.
    assert!(matches!(
        lycoris(&pair([out, 2], [2, 2 * row])),
        Err(ImportError { fault: Fault::Unsupported(_), .. })
    ));
    assert!(lycoris(&pair([out, 2], [2, 1])).is_err());
    // 200 kB that would make 5 GB each.
    let long = 25_000;
    assert!(lycoris(&pair([long, 1], [1, long])).is_err());
    assert!(lycoris(&[("lokr_w1", [1, long]), ("lokr_w2", [long, 1])]).is_err());
    assert!(lycoris(&[("lokr_w1_a", [long, 1]), ("lokr_w1_b", [1, long]), ("lokr_w2", [1, 1])]).is_err());
    assert_eq!(lycoris(&[("lokr_w1", [out, 1]), ("lokr_w2", [1, row])]), Ok(1));
}

#[test]
fn kronecker_products_of_peft_too() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (config, tensors) = checkpoint("lokr");
    let long = 25_000;
    let mut held: Held = Vec::new();
    for (name, tensor) in read_tensors(&tensors).expect("whole") {
        let (dims, count) = match name.rsplit('.').next() {
            Some("lokr_w1") => (vec![1, long], long),
            Some("lokr_w2_a") => (vec![long, 1], long),
            Some("lokr_w2_b") => (vec![1, long], long),
            _ => (tensor.dims.clone(), tensor.values.len()),
        };
        held.push((name, dims, vec![0.5; count]));
    }
    let error =
        import_peft(&base, &config, &file(&held), &Matching::default(), "test").expect_err("too large");
    assert!(error.to_string().contains("lokr"), "{error}");
}

/// No elements, and extents whose product is beyond any count.
#[test]
fn an_extent_of_zero_hides_no_others() {
    let held =
        vec![("base_model.model.lin0.lora_A.weight".to_owned(), vec![0, 1 << 40, 1 << 40], Vec::new())];
    let error = read_tensors(&file(&held)).expect_err("too many");
    assert!(matches!(error.fault, Fault::Shape { .. }), "{error}");
}
