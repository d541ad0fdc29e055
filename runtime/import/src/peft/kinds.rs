//! The methods of HF PEFT: which can be read, under which names, and why the others cannot.

use crate::ImportError;
use crate::change::Change;
use crate::peft::module::Module;
use crate::peft::{adamss, low_rank, norm, product, psoft, rotation, sparse, weighed};

/// A method that can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// As `peft_type` has it.
    pub(crate) peft_type: &'static str,
    /// As `ingraft methods` has it, or would.
    pub(crate) method: &'static str,
    /// How the tensors of a module end; `#` stands for a number.
    pub(crate) leaves: &'static [&'static str],
    /// Settings that are part of its mathematics.
    pub(crate) honoured: &'static [&'static str],
    /// What a module's tensors do to its weight.
    pub(crate) change: fn(&Module<'_>) -> Result<Change, ImportError>,
}

macro_rules! kinds {
    ($($peft_type:literal $method:literal $change:path: [$($leaf:literal)*] [$($honoured:literal)*];)*) => {
        &[$(Kind {
            peft_type: $peft_type,
            method: $method,
            leaves: &[$($leaf),*],
            honoured: &[$($honoured),*],
            change: $change,
        }),*]
    };
}

/// Those that can be read.
pub(crate) static KINDS: &[Kind] = kinds! {
    "LORA" "lora" low_rank::lora:
        ["lora_A.weight" "lora_B.weight" "lora_B.bias" "lora_magnitude_vector" "lora_embedding_A" "lora_embedding_B"
         "token_adapter.trainable_tokens_delta"]
        ["r" "lora_alpha" "use_rslora" "rank_pattern" "alpha_pattern" "use_dora" "lora_bias" "fan_in_fan_out"
         "init_lora_weights" "use_bdlora" "trainable_token_indices"];
    "TRAINABLE_TOKENS" "trainable-tokens" sparse::tokens: ["trainable_tokens_delta"] ["token_indices"];
    "ADALORA" "adalora" low_rank::adalora: ["lora_A" "lora_B" "lora_E"]
        ["r" "init_r" "lora_alpha" "rank_pattern" "fan_in_fan_out" "init_lora_weights"];
    "VERA" "vera" low_rank::vera: ["vera_lambda_b" "vera_lambda_d"] ["r" "projection_prng_key" "fan_in_fan_out"];
    "PVERA" "pvera" low_rank::pvera: ["pvera_lambda_b" "pvera_lambda_d"] ["r" "projection_prng_key" "fan_in_fan_out"];
    "RANDLORA" "randlora" low_rank::randlora: ["randlora_lambda" "randlora_gamma" "randlora_A" "randlora_B"]
        ["r" "randlora_alpha" "projection_prng_key" "fan_in_fan_out" "sparse" "very_sparse"];
    "GRALORA" "gralora" low_rank::gralora:
        ["gralora_A" "gralora_B" "gralora_A_general.weight" "gralora_B_general.weight"]
        ["r" "alpha" "gralora_k" "hybrid_r" "fan_in_fan_out"];
    "DELORA" "delora" low_rank::delora: ["delora_A" "delora_B" "delora_lambda" "delora_w_norm"]
        ["r" "delora_lambda" "rank_pattern" "lambda_pattern"];
    "VBLORA" "vblora" low_rank::vblora:
        ["vblora_logits_A" "vblora_logits_B" "vblora_logits_A_topk_indices" "vblora_logits_B_topk_indices"
         "vblora_logits_A_topk_weights" "vblora_logits_B_topk_weights"]
        ["r" "topk" "fan_in_fan_out"];
    "UNILORA" "unilora" low_rank::unilora:
        ["unilora_indices_A" "unilora_indices_B" "unilora_scales_A" "unilora_scales_B"] ["r" "fan_in_fan_out"];
    "TINYLORA" "tinylora" low_rank::tinylora: ["tinylora_A" "tinylora_B" "tinylora_P"] ["r" "fan_in_fan_out"];
    "LOHA" "loha" product::loha: ["hada_w1_a" "hada_w1_b" "hada_w2_a" "hada_w2_b" "hada_t1" "hada_t2"]
        ["r" "alpha" "rank_pattern" "alpha_pattern"];
    "LOKR" "lokr" product::lokr:
        ["lokr_w1" "lokr_w1_a" "lokr_w1_b" "lokr_w2" "lokr_w2_a" "lokr_w2_b" "lokr_t2"]
        ["r" "alpha" "rank_pattern" "alpha_pattern"];
    "HIRA" "hira" product::hira: ["hira_A" "hira_B" "hira_embedding_A" "hira_embedding_B"] ["r" "rank_pattern" "fan_in_fan_out"];
    "DEFT" "deft" product::deft: ["deft_P" "deft_R"] ["r" "alpha" "para" "decomposition_method" "fan_in_fan_out"];
    "OFT" "oft" rotation::oft: ["oft_R.weight" "oft_embedding_R.weight"]
        ["r" "block_share" "coft" "use_cayley_neumann" "num_cayley_neumann_terms" "fan_in_fan_out"];
    "BOFT" "boft" rotation::boft: ["boft_R" "boft_s"] ["fan_in_fan_out"];
    "HRA" "hra" rotation::hra: ["hra_u"] ["r" "apply_GS"];
    "ROAD" "road" rotation::road: ["road_theta" "road_alpha"] ["variant" "group_size"];
    "MISS" "miss" rotation::miss: ["miss_block"] ["r" "mini_r"];
    "BONE" "bone" rotation::miss: ["miss_block"] ["r"];
    "SHIRA" "shira" sparse::shira: ["shira_weight" "shira_indices"] ["r" "fan_in_fan_out"];
    "SUPERTUNING" "supertuning" sparse::supertuning:
        ["supertuning_values" "supertuning_indices" "supertuning_lora_A.weight" "supertuning_lora_B.weight"]
        ["r" "lora_alpha"];
    "FOURIERFT" "fourierft" sparse::fourierft: ["fourierft_spectrum"] ["scaling" "random_loc_seed" "fan_in_fan_out"];
    "WAVEFT" "waveft" sparse::waveft: ["waveft_spectrum"]
        ["scaling" "random_loc_seed" "wavelet_family" "use_idwt" "fan_in_fan_out"];
    "C3A" "c3a" sparse::c3a: ["c3a_kernel"] ["block_size"];
    "IA3" "ia3" sparse::ia3: ["ia3_l"] ["fan_in_fan_out"];
    "BEFT" "beft" sparse::beft: ["beft_bias"] [];
    "LN_TUNING" "ln" norm::ln:
        ["ln_tuning_layers.weight" "ln_tuning_layers.bias" "ln_tuning_layers.running_mean"
         "ln_tuning_layers.running_var" "ln_tuning_layers.num_batches_tracked"] [];
    "GLORA" "glora" weighed::glora:
        ["glora_A.Xd" "glora_A.Xu" "glora_A.X" "glora_A.zeros" "glora_B.Xd" "glora_B.Xu" "glora_B.X" "glora_B.zeros"
         "glora_C.Xd" "glora_C.Xu" "glora_C.X" "glora_C.zeros" "glora_D.X" "glora_D.zeros" "glora_E.X" "glora_E.zeros"]
        ["r" "config_A_B" "config_C" "config_D_E"];
    "PEANUT" "peanut" weighed::peanut:
        ["peanut_A.weight" "peanut_B.weight" "peanut_encoders.#.weight" "peanut_decoders.#.weight"]
        ["r" "depth" "act_fn" "scaling"];
    "OSF" "osf" weighed::osf: ["osf_svd_params.U_low" "osf_svd_params.S_low" "osf_svd_params.V_low"]
        ["effective_rank" "rank_pattern" "target_svd_config"];
    "PSOFT" "psoft" psoft::psoft:
        ["psoft_R.weight" "psoft_R.vector_a" "psoft_R.vector_b" "psoft_A" "psoft_B"]
        ["r" "psoft_alpha" "ab_svd_init" "psoft_svd" "psoft_svd_lowrank_niter" "psoft_orth" "psoft_mag_a" "psoft_mag_b"
         "use_cayley_neumann" "num_cayley_neumann_terms" "cayley_neumann_eps"];
    "ADAMSS" "adamss" adamss::adamss: ["adamss_A.#" "adamss_B.#" "adamss_newB"] ["r" "num_subspaces" "subspace_rank"];
    "FROD" "frod" weighed::frod: ["frod_lambda_l" "frod_lambda_s_values"] ["projection_prng_key" "fan_in_fan_out"];
};

/// Those that cannot be, and why.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    ("XLORA", "X-LoRA chooses its experts token by token in two passes; there is no fixed weight to import"),
    ("POLY", "Poly mixes its skills by task at run time; save one task as a LoRA"),
    ("LILY", "Lily's router averages over the whole batch: what a sample gets depends on its neighbours"),
    ("SHADOW", "Shadow runs a second model beside the base, and adds no weight to it"),
    ("CARTRIDGE", "a cartridge is a key-value cache of a language model, no weight"),
    ("PROMPT_TUNING", "prompt tuning adds inputs, no weight"),
    ("MULTITASK_PROMPT_TUNING", "prompt tuning adds inputs, no weight"),
    ("P_TUNING", "p-tuning adds inputs, no weight"),
    ("PREFIX_TUNING", "prefix tuning adds keys and values, no weight"),
    ("CPT", "context prompts add inputs, no weight"),
    ("ADAPTION_PROMPT", "adaption prompts add inputs of attention, no weight"),
];
