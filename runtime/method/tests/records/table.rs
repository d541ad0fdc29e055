//! How the records' cases are cases of our methods: one line a method, more where names or layouts differ.

use serde_json::Value;

use crate::case::Case;

mod expressions;
mod sparse;

/// How the cases of one method of the records are read.
pub(crate) struct Entry {
    /// Name in our list.
    pub(crate) method: &'static str,
    /// Name in the records.
    pub(crate) record: &'static str,
    /// Names in the records, of settings and tensors, and what they are called here.
    pub(crate) names: &'static [(&'static str, &'static str)],
    /// Whether tensors are padded here, with zeros, to one size for all their parts.
    pub(crate) padded: bool,
    /// The settings of a case; a reason where it is of a form that the method does not offer.
    pub(crate) settings: fn(&Case) -> Given,
    /// Where an element of a tensor is held here.
    pub(crate) places: fn(&Case, &str, usize) -> Vec<Place>,
    /// Values of the constant of this name here, where the case has them.
    pub(crate) constant: fn(&Case, &str) -> Option<Vec<f64>>,
    /// The places of the weight that the other implementation drew.
    pub(crate) chosen: fn(&Case) -> Option<Vec<usize>>,
    /// Trained values here; more than the record counts only where factors repeat for every group.
    pub(crate) parameters: fn(&Case) -> usize,
    /// Whether the adapter's start is that of the record; says why where it is not.
    pub(crate) start: Start,
}

impl Entry {
    /// What `name` of the records is called here.
    pub(crate) fn renamed<'n>(&self, name: &'n str) -> &'n str {
        self.names.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| ours)
    }
}

/// Settings, as `--set` has them.
pub(crate) type Given = Result<Vec<(String, String)>, &'static str>;

/// How our start compares with the record's.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// Both are the base, or neither is.
    Same,
    /// They differ, for this reason.
    Otherwise(&'static str),
}

/// A place of ours: element `index` of a latent tensor, or of the terms `down`, `up`, `scale`, `shift` (rows in published
/// order), or the entry of the sparse term at place `index` of the weight (`delta`).
pub(crate) struct Place {
    pub(crate) tensor: String,
    pub(crate) index: usize,
    /// Ours is the record's times this,
    pub(crate) factor: f64,
    /// plus this.
    pub(crate) offset: f64,
}

/// The whole table.
pub(crate) const TABLE: &[Entry] = &[
    Entry {
        names: &[
            ("lora_A1", "abba_A1"),
            ("lora_B1", "abba_B1"),
            ("lora_A2", "abba_A2"),
            ("lora_B2", "abba_B2"),
        ],
        ..same("abba")
    },
    Entry { settings: expressions::adalora, ..same("adalora") },
    same("beft"),
    same("bitfit"),
    same("boft"),
    Entry {
        names: &[("magnitude_column", "bora_m_c"), ("magnitude_row", "bora_m_r")],
        settings: expressions::bora,
        ..same("bora")
    },
    same("c3a"),
    Entry {
        padded: true,
        settings: expressions::context,
        places: expressions::in_parts,
        ..same("context-peft")
    },
    Entry {
        settings: expressions::deft,
        places: expressions::deft_places,
        start: Start::Otherwise("with `para` the adapter takes a subspace out"),
        ..same("deft")
    },
    Entry { names: &[("block_A", "diablo_D")], ..same("diablo") },
    Entry { names: &[("default_lora_latent_mapping", "edora_R")], ..same("edora") },
    Entry { padded: true, settings: expressions::flix, places: expressions::in_parts, ..same("flix") },
    Entry { names: &[("k", "grid")], ..same("gralora") },
    Entry { settings: expressions::hd_pissa, ..same("hd-pissa") },
    Entry { names: &[("hut_A", "hut_A1"), ("hut_B", "hut_B1")], settings: expressions::hut, ..same("hut") },
    Entry {
        names: &[("quant_step", "l4q_q"), ("quant_offset", "l4q_beta")],
        settings: expressions::l4q,
        ..same("l4q")
    },
    Entry {
        names: &[
            ("tt_rank", "tensor_rank"),
            ("lora_A.0", "loretta_A0"),
            ("lora_A.1", "loretta_A1"),
            ("lora_A.2", "loretta_A2"),
            ("lora_A.3", "loretta_A3"),
            ("lora_B.0", "loretta_B0"),
            ("lora_B.1", "loretta_B1"),
            ("lora_B.2", "loretta_B2"),
            ("lora_B.3", "loretta_B3"),
        ],
        settings: expressions::loretta,
        start: ZERO,
        ..same("loretta")
    },
    same("lorat"),
    Entry { settings: |case| but(case, &["epsilon"]), ..same("map") },
    Entry { padded: true, settings: expressions::melora, places: expressions::in_parts, ..same("melora") },
    Entry {
        names: &[("poly_router.module_logits", "module_logits")],
        settings: expressions::poly,
        ..same("mhr")
    },
    Entry {
        names: &[("poly_router.module_logits", "module_logits")],
        settings: expressions::poly,
        ..same("poly")
    },
    Entry {
        names: &[
            ("gate", "moka_gate"),
            ("alpha", "scale"),
            ("A.0", "moka_A0"),
            ("B.0", "moka_B0"),
            ("A.1", "moka_A1"),
            ("B.1", "moka_B1"),
        ],
        settings: expressions::moka,
        ..same("moka")
    },
    Entry {
        padded: true,
        names: &[
            ("lora_A.global", "msplora_A_global"),
            ("lora_B.global", "msplora_B_global"),
            ("lora_A.group", "msplora_A_group0"),
            ("lora_B.group", "msplora_B_group0"),
            ("lora_A.layer", "msplora_A_layer"),
            ("lora_B.layer", "msplora_B_layer"),
        ],
        settings: expressions::msplora,
        ..same("msplora")
    },
    Entry { settings: expressions::peqa, places: expressions::peqa_places, ..same("peqa") },
    Entry {
        names: &[
            ("psoft_R.weight", "psoft_R"),
            ("psoft_R.vector_a", "vector_a"),
            ("psoft_R.vector_b", "vector_b"),
        ],
        settings: expressions::psoft,
        ..same("psoft")
    },
    Entry {
        names: &[("angles_out", "quantum_out"), ("angles_in", "quantum_in"), ("lambda", "quantum_lambda")],
        ..same("quantum-peft")
    },
    Entry {
        names: &[("qhft_spectrum", "qwha_values"), ("lambda", "scale")],
        settings: expressions::qwha,
        constant: expressions::walsh,
        start: Start::Otherwise("where it makes up for rounding, the adapter is not the base"),
        ..same("qwha")
    },
    Entry { settings: expressions::randlora, ..same("randlora") },
    same("road"),
    Entry {
        names: &[("codebook", "sketch_codebook")],
        settings: expressions::sketchtune,
        constant: expressions::codes,
        start: Start::Otherwise("a codebook that has not every value is not the base"),
        ..same("sketchtune")
    },
    Entry {
        settings: |_| Err("experts are sites, and their choice is tested beside the method"),
        ..same("esft")
    },
    Entry { settings: |_| Err("a procedure, tested beside the method"), ..same("id3") },
    Entry {
        padded: true,
        settings: |case| but(case, &["samples"]),
        places: sparse::replaced_rows,
        ..same("loki")
    },
    Entry { constant: sparse::rotated, ..same("sparsegrad") },
    same("snell"),
    Entry { settings: sparse::snella, ..same("snella") },
    Entry { names: &[("U", "soka_U"), ("V", "soka_V")], settings: expressions::soka, ..same("soka") },
    same("sora"),
    Entry {
        names: &[
            ("form", "kind"),
            ("offset", "slice"),
            ("Bu", "spectral_B"),
            ("Av", "spectral_A"),
            ("X_u", "spectral_Xu"),
            ("X_v", "spectral_Xv"),
            ("c", "spectral_c"),
        ],
        // Of the singular triplets only those of the slice are given.
        constant: |_, _| None,
        ..same("spectral-adapter")
    },
    Entry { settings: expressions::sqft, ..same("sqft") },
    Entry {
        names: &[
            ("k", "block"),
            ("alpha", "scale"),
            ("a", "surm_a"),
            ("b", "surm_b"),
            ("A", "surm_a"),
            ("B", "surm_b"),
        ],
        settings: expressions::surm,
        ..same("surm")
    },
    Entry { names: &[("u", "coefficients")], start: ZERO, ..same("tinylora") },
    same("unilora"),
    Entry { settings: |case| but(case, &["threshold"]), ..same("s2lora") },
    Entry {
        names: &[
            ("rank", "ring"),
            ("residual_rank", "residual_ring"),
            ("transform.0", "tlora_T0"),
            ("transform.1", "tlora_T1"),
            ("residual.0", "tlora_D0"),
            ("residual.1", "tlora_D1"),
            ("residual.2", "tlora_D2"),
            ("residual.3", "tlora_D3"),
        ],
        settings: expressions::tlora,
        ..same("tlora")
    },
    Entry {
        names: &[("delta_sigma", "vectorfit_sigma"), ("delta_bias", "vectorfit_bias")],
        settings: expressions::vectorfit,
        ..same("vectorfit")
    },
    Entry {
        names: &[
            ("wara_A.LL", "wara_A_ll"),
            ("wara_B.LL", "wara_B_ll"),
            ("wara_A.LH", "wara_A_lh"),
            ("wara_B.LH", "wara_B_lh"),
            ("wara_A.HL", "wara_A_hl"),
            ("wara_B.HL", "wara_B_hl"),
            ("wara_A.HH", "wara_A_hh"),
            ("wara_B.HH", "wara_B_hh"),
        ],
        ..same("wara")
    },
    same("bone"),
    same("delora"),
    same("dora"),
    same("ether"),
    same("ether+"),
    Entry { constant: fourier, start: ZERO, ..same("fourierft") },
    same("hira"),
    Entry { settings: hra, start: Start::Otherwise("the record's case has no pairs"), ..same("hra") },
    Entry { settings: ia3, places: scale_and_shift, ..same("ia3") },
    Entry { settings: |_| Ok(Vec::new()), ..same("kradapter") },
    same("loha"),
    Entry { settings: lokr, ..same("lokr") },
    Entry { settings: lora, places: lora_places, constant: active, parameters: per_group, ..same("lora") },
    Entry { places: lora_places, ..same("rslora") },
    same("miss"),
    Entry { settings: oft, ..same("oft") },
    same("pissa"),
    Entry { settings: sparse::shira, places: sparse::shira_places, chosen: sparse::drawn, ..same("shira") },
    Entry { places: sparse::with_factors, ..same("supertuning") },
    Entry { places: sparse::paca, chosen: sparse::paca_columns, ..same("paca") },
    Entry { places: sparse::entries, ..same("neuroada") },
    Entry { places: sparse::with_factors, ..same("rosa") },
    Entry { settings: sparse::speft, places: sparse::entries, chosen: sparse::drawn, ..same("speft") },
    Entry { settings: sparse::spt, places: sparse::with_factors, ..same("spt") },
    Entry { settings: sparse::smt, places: sparse::smt_places, ..same("smt") },
    Entry { places: sparse::losia, ..same("losia") },
    Entry {
        settings: sparse::s2ft,
        places: sparse::s2ft_places,
        chosen: sparse::s2ft_chosen,
        ..same("s2ft")
    },
    Entry { places: scale_and_shift, ..same("ssf") },
    Entry {
        names: &[("ln_tuning_layers.weight", "scale"), ("ln_tuning_layers.bias", "shift")],
        ..same("ln")
    },
    Entry { record: "bitfit", places: bias, ..same("bias") },
    Entry { settings: svft, constant: svft_constant, ..same("svft") },
    same("vblora"),
    same("vera"),
    Entry { settings: waveft, constant: wavelet, ..same("waveft") },
];

const ZERO: Start = Start::Otherwise("the published start is random");

/// A method whose hyper-parameters and tensors have the same names in the records as here.
pub(crate) const fn same(method: &'static str) -> Entry {
    Entry {
        method,
        record: method,
        names: &[],
        padded: false,
        settings: by_name,
        places: in_place,
        constant: given,
        chosen: |_| None,
        parameters: |case| case.parameters,
        start: Start::Same,
    }
}

/// Every hyper-parameter as the setting of its name.
fn by_name(case: &Case) -> Given {
    let settings = case.hyper.iter().map(|(name, value)| match value {
        Value::Array(_) | Value::Object(_) => Err("a list is no setting"),
        _ => Ok((name.clone(), case.text(name))),
    });
    settings.collect()
}

/// By name, but for those named.
pub(crate) fn but(case: &Case, dropped: &[&str]) -> Given {
    let kept = case.hyper.keys().filter(|name| !dropped.contains(&name.as_str()));
    Ok(kept.map(|name| (name.clone(), case.text(name))).collect())
}

/// At the same place of the tensor of the same name.
fn in_place(_: &Case, tensor: &str, index: usize) -> Vec<Place> {
    at(tensor, index)
}

pub(crate) fn at(tensor: &str, index: usize) -> Vec<Place> {
    vec![Place { tensor: tensor.to_string(), index, factor: 1.0, offset: 0.0 }]
}

/// The constant of the same name.
fn given(case: &Case, name: &str) -> Option<Vec<f64>> {
    case.constants.get(name).map(|array| array.data.clone())
}

/// The places of a spectrum as large as the weight.
fn fourier(case: &Case, name: &str) -> Option<Vec<f64>> {
    (name == "indices").then(|| case.flat(&case.constants["indices"], case.row()))
}

/// The places of a spectrum whose sides are even.
fn wavelet(case: &Case, name: &str) -> Option<Vec<f64>> {
    (name == "indices").then(|| case.flat(&case.constants["indices"], case.row().next_multiple_of(2)))
}

fn hra(case: &Case) -> Given {
    if case.flag("gram_schmidt") {
        return Err("directions are not made orthogonal");
    }
    if case.number("rank") % 2.0 == 1.0 {
        Err("directions come in pairs")
    } else {
        but(case, &["gram_schmidt"])
    }
}

fn oft(case: &Case) -> Given {
    if case.flag("share") { Err("every block has its own rotation") } else { but(case, &["share"]) }
}

fn waveft(case: &Case) -> Given {
    if case.text("wavelet") != "db1" || !case.flag("use_idwt") {
        return Err("the wavelet is Haar's");
    }
    but(case, &["wavelet", "use_idwt"])
}

fn svft(case: &Case) -> Given {
    let settings = by_name(case)?.into_iter();
    // With the diagonal alone there is nothing beside it to count.
    Ok(settings.filter(|(name, value)| (&**name, &**value) != ("off_diagonals", "0")).collect())
}

fn svft_constant(case: &Case, name: &str) -> Option<Vec<f64>> {
    match name {
        "indices" => Some(case.flat(&case.constants["indices"], case.site.out.min(case.row()))),
        "Vh" => Some(case.constants["V"].transposed()),
        _ => given(case, name),
    }
}

fn ia3(case: &Case) -> Given {
    if case.flag("feedforward") {
        Err("scales are at the output, as its documentation says")
    } else {
        Ok(Vec::new())
    }
}

/// A trained bias replaces the base's; here it is added to it.
fn bias(case: &Case, _: &str, index: usize) -> Vec<Place> {
    let base = case.bias.as_ref().map_or(0.0, |bias| bias.data[index]);
    vec![Place { tensor: "shift".to_string(), index, factor: 1.0, offset: -base }]
}

fn scale_and_shift(_: &Case, tensor: &str, index: usize) -> Vec<Place> {
    at(if matches!(tensor, "ia3_l" | "ssf_scale") { "scale" } else { "shift" }, index)
}

fn lokr(case: &Case) -> Given {
    let mut settings = but(case, &["w1", "split_w1", "split_w2"])?;
    settings.push(("decompose_both".to_string(), case.flag("split_w1").to_string()));
    Ok(settings)
}

fn lora(case: &Case) -> Given {
    let mut settings = but(case, &["active"])?;
    let (name, value) =
        if case.hyper.contains_key("active") { ("slices", "2") } else { ("depthwise", "factors") };
    settings.push((name.to_string(), value.to_string()));
    Ok(settings)
}

/// The slice that acts.
fn active(case: &Case, name: &str) -> Option<Vec<f64>> {
    (name == "active").then(|| vec![case.number("active")])
}

/// A once for every group; B times its scale.
fn lora_places(case: &Case, tensor: &str, index: usize) -> Vec<Place> {
    let rank = case.number("rank");
    let scale = case.number("alpha") / if case.method == "rslora" { rank.sqrt() } else { rank };
    if case.hyper.contains_key("active") || case.site.groups == case.site.out && case.site.out > 1 {
        return at(tensor, index);
    }
    match tensor {
        "lora_A" => {
            let len = case.tensors["lora_A"].data.len();
            (0..case.site.groups).flat_map(|group| at("down", group * len + index)).collect()
        }
        _ => vec![Place { tensor: "up".to_string(), index, factor: scale, offset: 0.0 }],
    }
}

fn per_group(case: &Case) -> usize {
    let dense = case.site.groups == 1 || case.site.groups == case.site.out;
    let repeats = if dense { 0 } else { case.site.groups - 1 };
    case.parameters + repeats * case.tensors["lora_A"].data.len()
}
