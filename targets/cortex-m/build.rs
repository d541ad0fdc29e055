//! Finds out which instructions the program is compiled for.
//!
//! Stable compilers do not tell `cfg(target_feature)` of `dsp` and `mve`, so they are
//! read off the target and its flags, the only places that could switch them on.

use std::env;

/// Cores of Armv8-M that have the DSP extension by LLVM's word.
const DSP: &[&str] = &["cortex-m33", "cortex-m35p", "cortex-m52", "cortex-m55", "cortex-m85", "star-mc1"];
/// Cores that have Helium on integers and floats.
const HELIUM: &[&str] = &["cortex-m52", "cortex-m55", "cortex-m85"];

fn main() {
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut core = String::new();
    let mut features = Vec::new();
    for flag in flags.split('\x1f').map(|flag| flag.trim_start_matches("-C").trim()) {
        match flag.split_once('=') {
            Some(("target-cpu", name)) => core = name.to_owned(),
            Some(("target-feature", list)) => features.extend(list.split(',').map(str::to_owned)),
            _ => {}
        }
    }
    // The last word on a feature counts; no word leaves it to the core.
    let stated = |name: &str| {
        features.iter().rev().find_map(|feature| match feature.strip_prefix(['+', '-'])? {
            stated if stated == name => Some(feature.starts_with('+')),
            _ => None,
        })
    };
    let of_core = |cores: &[&str]| cores.contains(&core.as_str());
    let main_line = target.starts_with("thumbv7em") || target.starts_with("thumbv8m.main");
    let dsp = target.starts_with("thumbv7em") || of_core(DSP);
    let helium = of_core(HELIUM) && stated("mve") != Some(false);
    let fpu = target.ends_with("hf");
    for (name, value) in [
        ("dsp", main_line && stated("dsp").unwrap_or(dsp) && fpu),
        ("helium", main_line && stated("mve.fp").unwrap_or(helium) && fpu),
    ] {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if value {
            println!("cargo::rustc-cfg={name}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}
