//! Checkpoints: settings of a configuration, tensors under a header whose offsets are right.

use serde_json::{Map, Value, json};

use super::{Input, Own, change};
use crate::exercise::{joined, split};

/// Changes a checkpoint.
pub fn peft(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        let whole = input.bytes.clone();
        let Some((choice, config, tensors)) = split(&whole) else { return input.own_whole(most) };
        let (mut choice, mut config, mut tensors) = (choice, config.to_vec(), tensors.to_vec());
        match input.random.below(8) {
            0 => choice = input.random.next_u64() as u8,
            1 => input.own(&mut config, 4096),
            2 => input.own(&mut tensors, most),
            3 | 4 => setting(input, &mut config),
            _ => held(input, &mut tensors),
        }
        input.bytes = joined(choice, &config, &tensors);
    })
}

/// Changes a setting, somewhere in the object.
fn setting(input: &mut Input<'_>, config: &mut Vec<u8>) {
    let Ok(mut document) = serde_json::from_slice::<Map<String, Value>>(config) else {
        return input.own(config, 4096);
    };
    let names: Vec<String> = document.keys().cloned().collect();
    let name = match names.is_empty() || input.once_in(4) {
        true => input.one_of(&SETTINGS).to_owned(),
        false => names[input.random.below(names.len())].clone(),
    };
    match (input.random.below(5), document.get_mut(&name)) {
        (0, Some(_)) => drop(document.remove(&name)),
        (1, Some(Value::Object(inner))) => {
            let value = value(input, &names);
            let inside = input.one_of(&["lin0", "conv1", ".*", "(", "block.lin1", "score"]);
            inner.insert(inside.to_owned(), value);
        }
        (1, Some(Value::Array(list))) => list.push(value(input, &names)),
        _ => drop(document.insert(name, value(input, &names))),
    }
    *config = Value::Object(document).to_string().into_bytes();
}

fn value(input: &mut Input<'_>, names: &[String]) -> Value {
    match input.random.below(12) {
        0 => Value::Null,
        1 => json!(input.once_in(2)),
        2 => json!(input.one_of(&[0u64, 1, 2, 3, 4, 8, 65_535, 1 << 31, u64::MAX])),
        3 => json!(input.one_of(&[0.0f64, -1.0, 0.5, 1e-300, 1e300, f64::MAX, -0.0])),
        4 => json!(input.one_of(&PATTERNS)),
        5 => json!([input.one_of(&PATTERNS), input.one_of(&PATTERNS)]),
        6 => json!({ input.one_of(&PATTERNS): input.random.below(9) }),
        7 => json!([]),
        8 => json!({}),
        9 => json!(input.one_of(&TYPES)),
        10 => json!(names.first()),
        _ => json!(input.random.below(16)),
    }
}

/// A tensor: its name, type, extents and bytes.
#[derive(Clone)]
struct Held {
    name: String,
    dtype: String,
    dims: Vec<u64>,
    data: Vec<u8>,
}

/// Changes the tensors of a file.
fn held(input: &mut Input<'_>, file: &mut Vec<u8>) {
    let Some(mut list) = parse(file) else { return input.own(file, 1 << 14) };
    let at = input.random.below(list.len().max(1));
    let Some(tensor) = list.get(at).cloned() else { return input.own(file, 1 << 14) };
    match input.random.below(8) {
        0 => drop(list.remove(at)),
        1 => list.push(Held { name: renamed(input, &tensor.name), ..tensor }),
        2 => list[at].name = renamed(input, &tensor.name),
        3 => {
            list[at].dtype =
                input.one_of(&["F32", "F16", "BF16", "F64", "I8", "I64", "U8", "BOOL"]).to_owned()
        }
        4 => resize(input, &mut list[at], true),
        5 => resize(input, &mut list[at], false),
        6 => list[at].dims.reverse(),
        _ => {
            let bits = input.word(0x3f80_0000);
            let place = 4 * input.random.below((tensor.data.len() / 4).max(1));
            if let Some(chunk) = list[at].data.get_mut(place..).and_then(|rest| rest.first_chunk_mut()) {
                *chunk = bits.to_le_bytes();
            }
        }
    }
    *file = serialize(&list);
}

/// Another extent, with as many bytes as it takes, or without.
fn resize(input: &mut Input<'_>, tensor: &mut Held, filled: bool) {
    let extent = input.one_of(&[0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 65_536, 1 << 31, u64::MAX]);
    let axis = input.random.below(tensor.dims.len() + 1);
    match tensor.dims.get_mut(axis) {
        Some(held) => *held = extent,
        None => tensor.dims.push(extent),
    }
    let needed = tensor.dims.iter().try_fold(4u64, |count, dim| count.checked_mul(*dim));
    if let Some(needed) = needed.filter(|needed| filled && *needed <= 8192) {
        let data = core::mem::take(&mut tensor.data);
        let from = if data.is_empty() { &[0, 0, 0, 0x3f][..] } else { &data };
        tensor.data = from.iter().copied().cycle().take(needed as usize).collect();
    }
}

/// The name with another end, or of another module.
fn renamed(input: &mut Input<'_>, name: &str) -> String {
    let leaf = input.one_of(&LEAVES);
    match input.random.below(3) {
        0 => format!("base_model.model.{}.{leaf}", input.one_of(&MODULES)),
        1 => format!("{name}.{leaf}"),
        _ => {
            let module = LEAVES.iter().find_map(|known| name.strip_suffix(known)).unwrap_or(name);
            format!("{module}{leaf}")
        }
    }
}

fn parse(file: &[u8]) -> Option<Vec<Held>> {
    let (length, rest) = file.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, data) = rest.split_at_checked(length)?;
    let header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors
        .map(|(name, entry)| {
            let range = entry.get("data_offsets")?.as_array()?;
            let end = |at: usize| usize::try_from(range.get(at)?.as_u64()?).ok();
            Some(Held {
                name,
                dtype: entry.get("dtype")?.as_str()?.to_owned(),
                dims: entry.get("shape")?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
                data: data.get(end(0)?..end(1)?)?.to_vec(),
            })
        })
        .collect()
}

fn serialize(list: &[Held]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut header = Map::new();
    for tensor in list {
        let from = data.len();
        data.extend_from_slice(&tensor.data);
        let range = [from, data.len()];
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.dims, "data_offsets": range });
        header.insert(tensor.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Settings that PEFT writes and that change what a file means.
const SETTINGS: [&str; 53] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "fan_in_fan_out",
    "bias",
    "layers_to_transform",
    "layers_pattern",
    "init_lora_weights",
    "block_size",
    "boft_block_size",
    "n_frequency",
    "num_vectors",
    "projection_prng_key",
    "vector_length",
    "topk",
    "target_rank",
    "oft_block_size",
    "init_r",
    "trainable_token_indices",
    "token_indices",
    "use_bdlora",
    "wavelet_family",
    "use_idwt",
    "scaling",
    "random_loc_seed",
    "random_seed",
    "variant",
    "group_size",
    "feedforward_modules",
    "num_cayley_neumann_terms",
    "psoft_alpha",
    "psoft_orth",
    "psoft_svd",
    "cayley_neumann_eps",
    "ab_svd_init",
    "depth",
    "act_fn",
    "effective_rank",
    "config_A_B",
    "mini_r",
    "init_weights",
    "decomposition_method",
    "delora_lambda",
    "lora_bias",
    "use_effective_conv2d",
    "weight_tying",
];

/// Modules of the goldens' models.
const MODULES: [&str; 16] = [
    "lin0",
    "block.lin1",
    "score",
    "conv0",
    "point",
    "fc",
    "norm0",
    "batch1",
    "emb",
    "line1",
    "attn",
    "attn.base_layer.out_proj",
    "mix",
    "far",
    "both",
    "deep",
];

const PATTERNS: [&str; 10] =
    ["lin0", "block.lin1", "score", "conv0", "conv1", "point", "all-linear", ".*", "(a{99}){99}", "("];

const TYPES: [&str; 34] = [
    "LORA",
    "LOHA",
    "LOKR",
    "IA3",
    "OFT",
    "BOFT",
    "VERA",
    "HRA",
    "FOURIERFT",
    "C3A",
    "RANDLORA",
    "SHIRA",
    "MISS",
    "VBLORA",
    "ADALORA",
    "UNILORA",
    "PVERA",
    "GRALORA",
    "DELORA",
    "TINYLORA",
    "HIRA",
    "DEFT",
    "ROAD",
    "SUPERTUNING",
    "WAVEFT",
    "BEFT",
    "LN_TUNING",
    "GLORA",
    "PEANUT",
    "OSF",
    "FROD",
    "PSOFT",
    "ADAMSS",
    "TRAINABLE_TOKENS",
];

/// Ends of the names of tensors.
const LEAVES: [&str; 76] = [
    "lora_A.weight",
    "lora_B.weight",
    "lora_B.bias",
    "lora_A",
    "lora_B",
    "lora_E",
    "lora_magnitude_vector",
    "oft_R.weight",
    "weight",
    "bias",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "hada_t1",
    "hada_t2",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "lokr_t2",
    "ia3_l",
    "hra_u",
    "vera_lambda_d",
    "vera_lambda_b",
    "fourierft_spectrum",
    "waveft_spectrum",
    "c3a_kernel",
    "boft_R",
    "boft_s",
    "shira_weight",
    "shira_indices",
    "lora_up.weight",
    "lora_down.weight",
    "alpha",
    "diff",
    "road_theta",
    "delora_lambda",
    "lora_embedding_A",
    "lora_embedding_B",
    "trainable_tokens_delta",
    "token_adapter.trainable_tokens_delta",
    "randlora_lambda",
    "randlora_gamma",
    "gralora_A",
    "gralora_B",
    "delora_w_norm",
    "vblora_logits_A",
    "vblora_logits_A_topk_indices",
    "unilora_indices_A",
    "unilora_scales_A",
    "tinylora_A",
    "tinylora_P",
    "hira_A",
    "deft_P",
    "miss_block",
    "supertuning_values",
    "supertuning_indices",
    "beft_bias",
    "ln_tuning_layers.weight",
    "ln_tuning_layers.running_var",
    "glora_A.Xd",
    "glora_D.X",
    "peanut_A.weight",
    "peanut_encoders.0.weight",
    "osf_svd_params.S_low",
    "frod_lambda_l",
    "psoft_R.weight",
    "psoft_R.vector_a",
    "psoft_A",
    "psoft_B",
    "adamss_A.0",
    "adamss_B.1",
    "adamss_newB",
];
