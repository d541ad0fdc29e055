//! `adapter_config.json`: what it says of the mathematics, and nothing of that ignored.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::Ordered;
use crate::{Fault, ImportError};

/// The configuration of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    entries: Ordered,
    /// Objects inside, in their order.
    inner: BTreeMap<String, Ordered>,
}

impl Config {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Fault::Json`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImportError> {
        let broken =
            |error: serde_json::Error| ImportError::at("adapter_config.json", Fault::Json(error.to_string()));
        let entries = Ordered::parse(bytes).map_err(broken)?;
        let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(broken)?;
        let object = |(name, value): (String, &RawValue)| {
            value
                .get()
                .starts_with('{')
                .then(|| Ordered::parse(value.get().as_bytes()).map(|inner| (name, inner)))
        };
        let inner = raw.into_iter().filter_map(object).collect::<Result<_, _>>().map_err(broken)?;
        Ok(Self { entries, inner })
    }

    /// The method, in upper case.
    pub(crate) fn peft_type(&self) -> &str {
        self.entries.get("peft_type").and_then(Value::as_str).unwrap_or("")
    }

    /// Refuses settings that are neither among `honoured`, nor known to change nothing, nor off.
    ///
    /// # Errors
    /// [`Fault::Unsupported`].
    pub(crate) fn check(&self, honoured: &[&str]) -> Result<(), ImportError> {
        for (name, value) in &self.entries.0 {
            let known = honoured.contains(&name.as_str()) || INERT.contains(&name.as_str());
            if !known && !off(value) {
                let why =
                    "this setting changes what the checkpoint means, and is not one this version honours";
                return Err(ImportError::at(name, Fault::Unsupported(why)));
            }
        }
        Ok(())
    }

    /// Whether `name` is there and says anything.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|value| !off(value))
    }

    fn setting<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ImportError> {
        self.entries.get(name).map(|value| read(value).ok_or_else(|| wrong(name, expected))).transpose()
    }

    /// A number; `default` where there is none.
    pub(crate) fn number(&self, name: &str, default: f64) -> Result<f64, ImportError> {
        Ok(self.setting(name, "a number", Value::as_f64)?.unwrap_or(default))
    }

    /// A whole number.
    pub(crate) fn count(&self, name: &str, default: usize) -> Result<usize, ImportError> {
        let read = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        Ok(self.setting(name, "a whole number", read)?.unwrap_or(default))
    }

    /// Yes or no.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        Ok(self.setting(name, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A text; empty where there is none, or where it is something else.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.entries.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// Whole numbers that `name` lists, for every module or, in an object, for the one that `module` is or ends in; `None` where
    /// there are none.
    pub(crate) fn list(&self, name: &str, module: &str) -> Result<Option<Vec<usize>>, ImportError> {
        let named = |entries: &Ordered| {
            let of = |key: &str| module == key || module.ends_with(&format!(".{key}"));
            entries.0.iter().find(|(key, _)| of(key)).map(|(_, value)| value.clone())
        };
        let list = match self.inner.get(name) {
            Some(entries) => named(entries),
            None => self.entries.get(name).cloned(),
        };
        let number = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        let read = |list: Value| list.as_array().and_then(|list| list.iter().map(number).collect());
        list.filter(|list| !list.is_null())
            .map(|list| read(list).ok_or_else(|| wrong(name, "whole numbers, or lists of them by module")))
            .transpose()
    }

    /// The value of `name`.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.entries.get(name)
    }

    /// `name` for `module`: the first pattern in `patterns` that its path matches, else the value of `name`.
    pub(crate) fn patterned(
        &self,
        name: &str,
        patterns: &str,
        module: &str,
        default: f64,
    ) -> Result<f64, ImportError> {
        for (pattern, value) in self.inner.get(patterns).map_or(&[][..], |inner| &inner.0) {
            let matches = full_match(&format!(r"(.*\.)?({pattern})"), module);
            if matches.ok_or_else(|| wrong(patterns, "regular expressions"))? {
                return value.as_f64().ok_or_else(|| wrong(patterns, "numbers by module"));
            }
        }
        self.number(name, default)
    }

    /// Every setting that is not null, as JSON.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let entries = self.entries.0.iter().filter(|(_, value)| !value.is_null());
        let ordered = |name: &str, value: &Value| match self.inner.get(name) {
            // In the order of the file, which counts for patterns.
            Some(inner) => inner.to_json(),
            None => value.to_string(),
        };
        entries.map(|(name, value)| (name.clone(), ordered(name, value))).collect()
    }

    /// Whether `module` is one that the configuration says was adapted.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] where it is not: config and tensors contradict each other.
    pub(crate) fn check_target(&self, module: &str) -> Result<(), ImportError> {
        let named = |list: &[Value]| {
            list.iter().filter_map(Value::as_str).any(|t| module == t || module.ends_with(&format!(".{t}")))
        };
        let matches = |value: Option<&Value>| match value {
            Some(Value::Array(list)) => Some(named(list)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => None,
            Some(Value::String(text)) => full_match(text, module),
            _ => None,
        };
        let contradiction = |name: &str| {
            let why = "the setting says this module was not adapted, and there are tensors for it";
            Err(ImportError::at(&format!("{name} {module}"), Fault::Unsupported(why)))
        };
        if matches(self.entries.get("target_modules")) == Some(false) {
            return contradiction("target_modules");
        }
        if matches(self.entries.get("exclude_modules")) == Some(true) {
            return contradiction("exclude_modules");
        }
        let layers: Vec<u64> = match self.entries.get("layers_to_transform") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_u64).collect(),
            Some(Value::Number(number)) => number.as_u64().into_iter().collect(),
            _ => return Ok(()),
        };
        match self.layer(module) {
            Some(layer) if !layers.is_empty() && !layers.contains(&layer) => {
                contradiction("layers_to_transform")
            }
            _ => Ok(()),
        }
    }

    /// The layer that `module` belongs to: the number behind the named container, else the first number in its path.
    fn layer(&self, module: &str) -> Option<u64> {
        let containers: Vec<&str> = match self.entries.get("layers_pattern") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ => Vec::new(),
        };
        let parts: Vec<&str> = module.split('.').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse().ok());
        let behind = |container: &&str| parts.iter().position(|part| part == container).map(|at| at + 1);
        match containers.is_empty() {
            true => (1..parts.len()).find_map(number),
            false => containers.iter().filter_map(behind).find_map(number),
        }
    }
}

/// Whether a setting says nothing.
fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// Whether `pattern` matches all of `text`; `None` for a pattern that is none.
fn full_match(pattern: &str, text: &str) -> Option<bool> {
    Regex::new(&format!("^(?:{pattern})$")).ok().map(|pattern| pattern.is_match(text))
}

fn wrong(name: &str, expected: &str) -> ImportError {
    ImportError::at(name, Fault::Setting(expected.to_owned()))
}

/// Settings that say where a checkpoint comes from or how it was trained.
const INERT: &[&str] = &[
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
    "bias",
    "init_weights",
    "lora_dropout",
    "module_dropout",
    "rank_dropout",
    "rank_dropout_scale",
    "megatron_config",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "runtime_config",
    "ensure_weight_tying",
    "save_embedding_layers",
    "target_r",
    "tinit",
    "tfinal",
    "deltaT",
    "beta1",
    "beta2",
    "orth_reg_weight",
    "total_step",
    "boft_dropout",
    "deft_dropout",
    "init_scale",
    "hira_dropout",
    "vera_dropout",
    "pvera_dropout",
    "d_initial",
    "randlora_dropout",
    "gralora_dropout",
    "miss_dropout",
    "tinylora_dropout",
    "init_v_bound",
    "unilora_dropout",
    "init_theta_d_bound",
    "vblora_dropout",
    "init_vector_bank_bound",
    "init_logits_std",
    "num_vectors",
    "vector_length",
    "save_projection",
    "save_indices",
    "save_precomputed_indices",
    "save_only_topk_weights",
    "init_ia3_weights",
    "mask_type",
    "random_seed",
    "sparsity",
    "select_top",
    "eps",
    "qalora_group_size",
    "oft_block_size",
    "boft_block_size",
    "boft_block_num",
    "boft_n_butterfly_factor",
    "n_frequency",
    "n_frequency_pattern",
    "proportional_parameters",
    "block_size_pattern",
    "feedforward_modules",
    "projection_seed",
    "proj_seed",
    "theta_d_length",
    "u",
    "decompose_both",
    "decompose_factor",
    "use_effective_conv2d",
    "weight_tying",
    "loftq_bits",
    "frod_dropout",
    "psoft_dropout",
    "use_dynamic_rank",
    "svd_threshold",
    "use_asa",
    "asa_target_subspaces",
    "init_warmup",
    "final_warmup",
    "mask_interval",
    "asa_importance_beta",
    "asa_uncertainty_beta",
    "asa_schedule_exponent",
    "sparse_rate",
    "regularization_alpha",
    "progressbar",
    "runtime_offload_base_weight",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_pattern_in_the_file_counts() {
        let found = config(r#"{"r": 8, "rank_pattern": {"q": 2, "layer.0.q": 3}}"#);
        assert_eq!(found.patterned("r", "rank_pattern", "layer.0.q", 0.0), Ok(2.0));
        let found = config(r#"{"r": 8, "rank_pattern": {"layer.0.q": 3, "q": 2}}"#);
        assert_eq!(found.patterned("r", "rank_pattern", "layer.0.q", 0.0), Ok(3.0));
        assert_eq!(found.patterned("r", "rank_pattern", "layer.0.k", 0.0), Ok(8.0));
    }

    #[test]
    fn what_would_change_the_mathematics_is_refused() {
        for setting in
            [r#""use_new_thing": true"#, r#""alora_invocation_tokens": [1]"#, r#""kasa_config": {"beta": 1}"#]
        {
            assert!(config(&format!("{{{setting}}}")).check(&[]).is_err(), "{setting}");
        }
        let harmless = r#"{"use_new_thing": false, "loftq_config": {}, "peft_version": "0.21.2", "x": null}"#;
        assert!(config(harmless).check(&[]).is_ok());
    }

    #[test]
    fn tensors_where_none_were_trained_are_a_contradiction() {
        let found =
            config(r#"{"target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "layer"}"#);
        assert!(found.check_target("layer.1.q").is_ok());
        assert!(found.check_target("layer.0.q").is_err());
        assert!(found.check_target("layer.1.k").is_err());
        assert!(config(r#"{"target_modules": ".*\\.(q|v)"}"#).check_target("a.v").is_ok());
        assert!(config(r#"{"target_modules": ".*\\.(q|v)"}"#).check_target("a.vv").is_err());
    }
}
