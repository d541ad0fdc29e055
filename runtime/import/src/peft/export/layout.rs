//! How PEFT calls and lays out what is trained here.

use ingraft_kernel::{SiteDesc, SiteKind};

/// How a method trained here is called there.
pub(super) struct Layout {
    pub(super) method: &'static str,
    pub(super) peft_type: &'static str,
    /// Settings by our name, and theirs.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Settings it always has.
    pub(super) fixed: &'static [(&'static str, &'static str)],
    /// Tensors by our name, and theirs with the form they have there; one of all modules by its whole key.
    pub(super) tensors: &'static [(&'static str, &'static str, Form)],
    /// Settings of ours that follow from the tensors, or from which theirs follow: [`super::parts::complete`] writes those.
    pub(super) derived: &'static [&'static str],
    /// Tensors of ours that PEFT's file does not have.
    pub(super) dropped: &'static [&'static str],
    /// Whether PEFT has it for linear layers alone.
    pub(super) linear: bool,
}

const ANYWHERE: Layout = Layout {
    method: "",
    peft_type: "",
    settings: &[],
    fixed: &[],
    tensors: &[],
    derived: &[],
    dropped: &[],
    linear: false,
};
const LINEAR: Layout = Layout { linear: true, ..ANYWHERE };
/// Skills that PEFT mixes by the task it is told at run time.
const POLY: Layout = Layout {
    peft_type: "POLY",
    settings: &[("rank", "r"), ("skills", "n_skills"), ("tasks", "n_tasks"), ("splits", "n_splits")],
    fixed: &[("poly_type", "\"poly\"")],
    tensors: &[
        ("poly_lora_A", "poly_lora_A", Form::Skills),
        ("poly_lora_B", "poly_lora_B", Form::Skills),
        ("module_logits", "poly_router.module_logits", Form::Same),
    ],
    derived: &["task"],
    ..LINEAR
};
/// Two factors, which [`super::factors`] writes.
const PAIR: Layout = Layout {
    peft_type: "LORA",
    fixed: &[("bias", "\"none\"")],
    derived: &["rank", "alpha"],
    dropped: &["lora_A", "lora_B"],
    ..ANYWHERE
};

impl Layout {
    /// Whether it is two factors of the weight's delta.
    pub(super) fn is_pair(&self) -> bool {
        self.peft_type == PAIR.peft_type && self.method != "dora"
    }
}

/// The shape of a tensor in PEFT's file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// As it is here.
    Same,
    /// Rows of a weight: `[rows, in, kh, kw]` on convolutions.
    Rows,
    /// Columns per rank: `[out, r, 1, 1]` on convolutions.
    Columns,
    /// `[out]`, or `[1, out, 1, 1]` on convolutions.
    Magnitude,
    /// `[out, 1]`, or `[1, out, 1, 1]` on convolutions.
    Scale,
    /// Rows of a weight without its first extent's channels: `[o, i, kh, kw]` on convolutions.
    Window,
    /// `[tiles, r, r]`.
    Tiles,
    /// One extent.
    Flat,
    /// `[k, rows/k, columns]`, k a setting.
    Slices(&'static str),
    /// `[rows/k, k, columns]`, k a setting.
    Stacked(&'static str),
    /// `[m, blocks, b, b]` of blocks under each other, m a setting.
    Blocks(&'static str),
    /// `[out/b, row/b, b]`.
    Kernels,
    /// `[out, 1]`, or `[1, out]` on convolutions.
    Column,
    /// `[splits, skills, rows, columns]`, of settings of these names.
    Skills,
}

pub(super) const LAYOUTS: &[Layout] = &[
    Layout { method: "lora", settings: &[("rslora", "use_rslora")], ..PAIR },
    Layout { method: "rslora", fixed: &[("bias", "\"none\""), ("use_rslora", "true")], ..PAIR },
    // On a base that did not move.
    Layout { method: "pissa", ..PAIR },
    // Its own layout has neither singular vectors nor their signs, and PEFT would take those of the library it runs on.
    Layout {
        method: "psoft",
        derived: &["rank", "neumann_terms"],
        dropped: &["psoft_R", "vector_a", "vector_b"],
        ..PAIR
    },
    Layout {
        method: "dora",
        peft_type: "LORA",
        settings: &[("rank", "r"), ("alpha", "lora_alpha")],
        fixed: &[("bias", "\"none\""), ("use_dora", "true")],
        tensors: &[
            ("lora_A", "lora_A.weight", Form::Rows),
            ("lora_B", "lora_B.weight", Form::Columns),
            ("lora_magnitude_vector", "lora_magnitude_vector", Form::Magnitude),
        ],
        ..ANYWHERE
    },
    Layout {
        method: "loha",
        peft_type: "LOHA",
        settings: &[("rank", "r"), ("alpha", "alpha")],
        fixed: &[],
        tensors: &[
            ("hada_w1_a", "hada_w1_a", Form::Same),
            ("hada_w1_b", "hada_w1_b", Form::Same),
            ("hada_w2_a", "hada_w2_a", Form::Same),
            ("hada_w2_b", "hada_w2_b", Form::Same),
        ],
        ..ANYWHERE
    },
    Layout {
        method: "lokr",
        peft_type: "LOKR",
        settings: &[("rank", "r"), ("alpha", "alpha"), ("decompose_both", "decompose_both")],
        fixed: &[],
        tensors: &[
            ("lokr_w1", "lokr_w1", Form::Same),
            ("lokr_w1_a", "lokr_w1_a", Form::Same),
            ("lokr_w1_b", "lokr_w1_b", Form::Same),
            ("lokr_w2", "lokr_w2", Form::Window),
            ("lokr_w2_a", "lokr_w2_a", Form::Same),
            ("lokr_w2_b", "lokr_w2_b", Form::Same),
        ],
        ..ANYWHERE
    },
    Layout {
        method: "hira",
        peft_type: "HIRA",
        settings: &[("rank", "r")],
        fixed: &[],
        tensors: &[("hira_A", "hira_A", Form::Rows), ("hira_B", "hira_B", Form::Columns)],
        ..ANYWHERE
    },
    Layout {
        method: "hra",
        peft_type: "HRA",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("hra_u", "hra_u", Form::Same)],
        // Where training began.
        dropped: &["start"],
        ..ANYWHERE
    },
    Layout {
        method: "miss",
        peft_type: "MISS",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("miss_block", "miss_block", Form::Same)],
        ..LINEAR
    },
    Layout {
        method: "ia3",
        peft_type: "IA3",
        settings: &[],
        fixed: &[("feedforward_modules", "[]")],
        tensors: &[("scale", "ia3_l", Form::Scale)],
        // It has none.
        dropped: &["shift"],
        ..ANYWHERE
    },
    Layout {
        method: "ln",
        peft_type: "LN_TUNING",
        tensors: &[
            ("scale", "ln_tuning_layers.weight", Form::Flat),
            ("shift", "ln_tuning_layers.bias", Form::Flat),
        ],
        ..ANYWHERE
    },
    Layout {
        method: "bone",
        peft_type: "MISS",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\""), ("init_weights", "\"bat\"")],
        tensors: &[("miss_block", "miss_block", Form::Tiles)],
        ..LINEAR
    },
    Layout {
        method: "vera",
        peft_type: "VERA",
        settings: &[("rank", "r"), ("d_initial", "d_initial"), ("projection_seed", "projection_prng_key")],
        fixed: &[("bias", "\"none\""), ("save_projection", "true")],
        tensors: &[
            ("vera_lambda_b", "vera_lambda_b", Form::Flat),
            ("vera_lambda_d", "vera_lambda_d", Form::Flat),
        ],
        // One of all sites there.
        dropped: &["vera_A", "vera_B"],
        ..LINEAR
    },
    Layout {
        method: "randlora",
        peft_type: "RANDLORA",
        settings: &[("rank", "r"), ("alpha", "randlora_alpha"), ("projection_seed", "projection_prng_key")],
        fixed: &[("bias", "\"none\""), ("save_projection", "true")],
        tensors: &[
            ("randlora_lambda", "randlora_lambda", Form::Same),
            ("randlora_gamma", "randlora_gamma", Form::Same),
        ],
        // One of all sites there.
        dropped: &["randlora_A", "randlora_B"],
        ..LINEAR
    },
    Layout {
        method: "vblora",
        peft_type: "VBLORA",
        settings: &[
            ("rank", "r"),
            ("vectors", "num_vectors"),
            ("vector_length", "vector_length"),
            ("topk", "topk"),
        ],
        fixed: &[("bias", "\"none\""), ("save_only_topk_weights", "false")],
        tensors: &[
            ("vblora_vector_bank", "base_model.vblora_vector_bank", Form::Same),
            ("vblora_logits_A", "vblora_logits_A", Form::Slices("rank")),
            ("vblora_logits_B", "vblora_logits_B", Form::Stacked("rank")),
        ],
        ..LINEAR
    },
    Layout {
        method: "unilora",
        peft_type: "UNILORA",
        settings: &[("rank", "r"), ("theta_d_length", "theta_d_length")],
        fixed: &[("bias", "\"none\""), ("save_indices", "true")],
        tensors: &[
            ("unilora_theta_d", "base_model.unilora_theta_d", Form::Flat),
            ("unilora_indices_A", "unilora_indices_A", Form::Same),
            ("unilora_indices_B", "unilora_indices_B", Form::Same),
            ("unilora_scales_A", "unilora_scales_A", Form::Same),
            ("unilora_scales_B", "unilora_scales_B", Form::Same),
        ],
        ..LINEAR
    },
    Layout {
        method: "delora",
        peft_type: "DELORA",
        settings: &[("rank", "r"), ("lambda", "delora_lambda")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[
            ("delora_A", "delora_A", Form::Same),
            ("delora_B", "delora_B", Form::Same),
            ("delora_lambda", "delora_lambda", Form::Flat),
        ],
        ..LINEAR
    },
    Layout {
        method: "oft",
        peft_type: "OFT",
        fixed: &[("r", "0"), ("bias", "\"none\"")],
        tensors: &[("oft_R", "oft_R.weight", Form::Same)],
        derived: &["block"],
        ..LINEAR
    },
    Layout {
        method: "boft",
        peft_type: "BOFT",
        settings: &[("factors", "boft_n_butterfly_factor")],
        fixed: &[("boft_block_num", "0"), ("bias", "\"none\"")],
        tensors: &[("boft_R", "boft_R", Form::Blocks("factors")), ("boft_s", "boft_s", Form::Column)],
        derived: &["block"],
        ..ANYWHERE
    },
    Layout {
        method: "adalora",
        peft_type: "ADALORA",
        settings: &[
            ("rank", "init_r"),
            ("alpha", "lora_alpha"),
            ("target_rank", "target_r"),
            ("warm_up", "tinit"),
            ("final", "tfinal"),
            ("interval", "deltaT"),
            ("orthogonality", "orth_reg_weight"),
        ],
        fixed: &[("bias", "\"none\"")],
        tensors: &[
            ("lora_A", "lora_A", Form::Same),
            ("lora_B", "lora_B", Form::Same),
            ("lora_E", "lora_E", Form::Same),
        ],
        derived: &["steps"],
        ..ANYWHERE
    },
    Layout {
        method: "gralora",
        peft_type: "GRALORA",
        settings: &[("grid", "gralora_k"), ("rank", "r"), ("hybrid_rank", "hybrid_r"), ("alpha", "alpha")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[
            ("gralora_A", "gralora_A", Form::Slices("grid")),
            ("gralora_B", "gralora_B", Form::Slices("grid")),
            ("gralora_A_general", "gralora_A_general.weight", Form::Same),
            ("gralora_B_general", "gralora_B_general.weight", Form::Same),
        ],
        ..LINEAR
    },
    Layout {
        method: "beft",
        peft_type: "BEFT",
        tensors: &[("beft_bias", "beft_bias", Form::Same)],
        ..LINEAR
    },
    Layout {
        method: "deft",
        peft_type: "DEFT",
        settings: &[("decomposition", "decomposition_method"), ("para", "para")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("deft_P", "deft_P", Form::Same), ("deft_R", "deft_R", Form::Same)],
        derived: &["rank"],
        ..LINEAR
    },
    Layout {
        method: "road",
        peft_type: "ROAD",
        tensors: &[("road_theta", "road_theta", Form::Flat), ("road_alpha", "road_alpha", Form::Flat)],
        derived: &["variant", "group"],
        ..LINEAR
    },
    Layout {
        method: "c3a",
        peft_type: "C3A",
        fixed: &[("bias", "\"none\"")],
        tensors: &[("c3a_kernel", "c3a_kernel", Form::Kernels)],
        derived: &["block"],
        ..LINEAR
    },
    Layout {
        method: "fourierft",
        peft_type: "FOURIERFT",
        settings: &[("scale", "scaling"), ("random_loc_seed", "random_loc_seed")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("fourierft_spectrum", "fourierft_spectrum", Form::Flat)],
        derived: &["frequencies"],
        dropped: &["indices"],
        ..LINEAR
    },
    Layout {
        method: "waveft",
        peft_type: "WAVEFT",
        settings: &[("scale", "scaling"), ("random_loc_seed", "random_loc_seed")],
        fixed: &[("wavelet_family", "\"db1\""), ("use_idwt", "true"), ("bias", "\"none\"")],
        tensors: &[("waveft_spectrum", "waveft_spectrum", Form::Flat)],
        derived: &["coefficients"],
        dropped: &["indices"],
        ..LINEAR
    },
    Layout { method: "poly", ..POLY },
    Layout { method: "mhr", ..POLY },
    Layout {
        method: "tinylora",
        peft_type: "TINYLORA",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\""), ("save_projection", "true")],
        // All in another form.
        derived: &["coefficients"],
        dropped: &["tinylora_v", "tinylora_P"],
        ..LINEAR
    },
    Layout {
        method: "supertuning",
        peft_type: "SUPERTUNING",
        settings: &[("select_top", "select_top")],
        fixed: &[("save_precomputed_indices", "true")],
        tensors: &[
            ("values", "supertuning_values", Form::Same),
            ("indices", "supertuning_indices", Form::Same),
            ("lora_A", "supertuning_lora_A.weight", Form::Same),
            ("lora_B", "supertuning_lora_B.weight", Form::Same),
        ],
        derived: &["sparsity", "rank", "alpha"],
        ..LINEAR
    },
    Layout {
        method: "shira",
        peft_type: "SHIRA",
        fixed: &[("mask_type", "\"random\"")],
        // The places are stored.
        derived: &["density", "mask"],
        tensors: &[("values", "shira_weight", Form::Same), ("indices", "shira_indices", Form::Same)],
        ..LINEAR
    },
];

/// The extents that a tensor of `dims` has in PEFT's file; `setting` gives a whole number among the method's.
pub(super) fn shaped(
    form: Form,
    dims: &[usize],
    site: &SiteDesc<'_>,
    setting: &dyn Fn(&str) -> usize,
) -> Vec<usize> {
    let [kh, kw] = site.kernel;
    let conv = site.kind != SiteKind::Linear;
    let (first, last) = (dims.first().copied().unwrap_or(1), dims.last().copied().unwrap_or(1));
    match form {
        Form::Rows if conv => vec![first, site.inputs, kh, kw],
        Form::Columns if conv => vec![first, last, 1, 1],
        Form::Magnitude if conv => vec![1, first, 1, 1],
        Form::Scale if conv => vec![1, first, 1, 1],
        Form::Window if conv => vec![first, last / (kh * kw).max(1), kh, kw],
        Form::Scale => vec![first, 1],
        Form::Magnitude => vec![dims.iter().product()],
        Form::Tiles => {
            let count: usize = dims.iter().product();
            vec![count / (last * last).max(1), last, last]
        }
        Form::Flat => vec![dims.iter().product()],
        Form::Slices(count) => {
            let count = setting(count).max(1);
            vec![count, first / count, last]
        }
        Form::Stacked(count) => {
            let count = setting(count).max(1);
            vec![first / count, count, last]
        }
        Form::Blocks(count) => {
            let count = setting(count).max(1);
            vec![count, first / (count * last).max(1), last, last]
        }
        Form::Skills => {
            let (splits, skills) = (setting("splits").max(1), setting("skills").max(1));
            vec![splits, skills, first / (splits * skills), last]
        }
        Form::Kernels => vec![site.out / last.max(1), site.row() / last.max(1), last],
        Form::Column if conv => vec![1, first],
        _ => dims.to_vec(),
    }
}
