//! The shape of the workspace: which crate may depend on which, and what a
//! device crate must not do.

mod support_table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates in order: an arrow may only point at an earlier row.
const ORDER: &[(&str, &str)] = &[
    ("ingraft-tensor", "runtime/tensor"),
    ("ingraft-kernel", "runtime/kernel"),
    ("ingraft-adapter", "runtime/adapter"),
    ("ingraft-plan", "runtime/plan"),
    ("ingraft-exec", "runtime/exec"),
    ("ingraft-train", "runtime/train"),
    ("ingraft-store", "runtime/store"),
    ("ingraft-signal", "runtime/signal"),
    ("ingraft-dataset", "runtime/dataset"),
    ("ingraft-method", "runtime/method"),
    ("ingraft-import", "runtime/import"),
    ("ingraft-compile", "runtime/compile"),
    ("ingraft-models", "models"),
    ("ingraft-vector", "targets/vector"),
    ("ingraft-arm-neon", "targets/arm-neon"),
    ("ingraft-cortex-m", "targets/cortex-m"),
    ("ingraft-jetson-cuda", "targets/jetson-cuda"),
    ("ingraft-x86-64", "targets/x86-64"),
    ("ingraft", "."),
    ("ingraft-cli", "runtime/cli"),
];

/// Crates that run on a device: `no_std`, no `unsafe`.
const DEVICE: &[&str] = &[
    "runtime/tensor",
    "runtime/kernel",
    "runtime/adapter",
    "runtime/plan",
    "runtime/exec",
    "runtime/train",
    "runtime/store",
    "runtime/signal",
];

/// Where `unsafe` may stand, and for what. Nowhere else does it.
const UNSAFE: &[(&str, &str)] = &[
    ("benches/instructions/plugin", "QEMU's interface"),
    ("targets/arm-neon/src", "instructions"),
    ("targets/cortex-m/c/src", "the border to C: pointers, exported names, the panic that does not link"),
    ("targets/cortex-m/firmware/src", "registers, the panic that does not link"),
    ("targets/cortex-m/src", "instructions"),
    ("targets/jetson-cuda/src", "the driver"),
    ("targets/vector/src", "loads and stores through pointers into slices"),
    ("targets/x86-64/src", "instructions"),
    ("tests/bare-metal/src", "semihosting, the panic that does not link"),
    ("tests/no_alloc", "an allocator that counts"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `[dependencies]` of a manifest, target-specific ones included, dev-dependencies not.
fn dependencies(folder: &str) -> Vec<String> {
    let text =
        fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies")
                && !line.contains("dev-")
                && !line.contains("workspace");
        } else if inside
            && let Some(name) = line.split(['=', '.', ' ']).next().filter(|n| n.starts_with("ingraft"))
        {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn arrows_point_at_earlier_crates() {
    let rank: BTreeMap<&str, usize> = ORDER.iter().enumerate().map(|(i, (name, _))| (*name, i)).collect();
    for (i, (name, folder)) in ORDER.iter().enumerate() {
        for dependency in dependencies(folder) {
            let target =
                rank.get(dependency.as_str()).unwrap_or_else(|| panic!("{dependency} is not in the order"));
            assert!(target < &i, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_member_is_in_the_order() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the root has a manifest");
    let members =
        text.split("members = [").nth(1).and_then(|t| t.split(']').next()).expect("members are listed");
    for member in members.lines().map(|l| l.trim().trim_matches([',', '"'])).filter(|l| !l.is_empty()) {
        assert!(ORDER.iter().any(|(_, folder)| *folder == member), "{member} is not in the order");
    }
}

#[test]
fn targets_know_only_tensor_kernel_and_vector() {
    for (name, folder) in ORDER.iter().filter(|(_, folder)| folder.starts_with("targets/")) {
        for dependency in dependencies(folder) {
            let allowed =
                matches!(dependency.as_str(), "ingraft-tensor" | "ingraft-kernel" | "ingraft-vector");
            assert!(allowed, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn device_crates_are_core_and_safe() {
    for folder in DEVICE {
        let lib = fs::read_to_string(root().join(folder).join("src/lib.rs")).expect("every crate has a root");
        assert!(lib.contains("#![no_std]"), "{folder} is not no_std");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{folder} does not forbid unsafe");
    }
}

#[test]
fn unsafe_stands_where_it_is_named() {
    let mut found = Vec::new();
    for folder in ["runtime", "targets", "models", "tests", "benches"] {
        visit(&root().join(folder), &mut |path| {
            let text = fs::read_to_string(path).expect("a source file is a text");
            let mut code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            // A block, a function, a trait, its implementation, an attribute: the word alone, not the end of another.
            let starts = |line: &str| {
                line.match_indices("unsafe").any(|(at, word)| {
                    let [before, after] = [&line[..at], &line[at + word.len()..]];
                    let alone = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
                    alone
                        && [" {", " fn", " extern", " impl", " trait", "("]
                            .iter()
                            .any(|s| after.starts_with(s))
                })
            };
            if code.any(starts) {
                found.push(path.strip_prefix(root()).expect("it lies under the root").to_owned());
            }
        });
    }
    for (folder, reason) in UNSAFE {
        assert!(
            found.iter().any(|path| path.starts_with(folder)),
            "no unsafe code in {folder} for {reason}: take it off"
        );
    }
    found.retain(|path| !UNSAFE.iter().any(|(folder, _)| path.starts_with(folder)));
    assert!(found.is_empty(), "unsafe code where none is allowed: {found:?}");
}

#[test]
fn only_compile_knows_onnx() {
    // The root manifest pins versions for all; what it depends on itself is checked by the arrows.
    for (name, folder) in ORDER.iter().filter(|(_, folder)| !matches!(*folder, "runtime/compile" | ".")) {
        let text =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
        assert!(!text.contains("\nprost"), "{name} must not read protobuf");
    }
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for folder in ["runtime", "targets", "models", "tests", "benches"] {
        visit(&root().join(folder), &mut |path| {
            let lines = fs::read_to_string(path).map_or(0, |text| text.lines().count());
            if lines > 600 {
                long.push((path.to_owned(), lines));
            }
        });
    }
    assert!(long.is_empty(), "files past 600 lines: {long:?}");
}

/// The driver may begin a recorded kernel before the end of the one it follows: one that does not wait would read what is not
/// yet written.
#[test]
fn every_cuda_kernel_waits_for_the_one_before() {
    let (mut kernels, mut hasty) = (0, Vec::new());
    for entry in fs::read_dir(root().join("targets/jetson-cuda/cu")).expect("the sources are there") {
        let path = entry.expect("it can be listed").path();
        let text = fs::read_to_string(&path).expect("a source file is a text");
        for kernel in text.split("extern \"C\" __global__").skip(1) {
            let (head, body) = kernel.split_once('{').expect("a kernel has a body");
            let body = body.trim_start_matches([' ', '\\', '\n']);
            kernels += 1;
            // Some read their weights first: what they call waits then.
            let family = body.split_once('<').map_or("", |(family, _)| family);
            let definition = format!("__forceinline__ void {family}(");
            let called = text.split_once(&definition).and_then(|(_, rest)| rest.split_once("\n}\n"));
            // Or find their place first, which reads nothing.
            let own = body.split_once("follow();").is_some_and(|(before, _)| !before.contains(['<', '{']));
            let waits = own || called.is_some_and(|(body, _)| body.contains("\n    follow();\n"));
            if !waits && !head.contains("record_sizes(") {
                hasty.push((path.clone(), head.trim().to_owned()));
            }
        }
    }
    assert!(kernels > 100, "{kernels} kernels found");
    assert!(hasty.is_empty(), "kernels without follow(): {hasty:?}");
}

fn visit(folder: &Path, check: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            visit(&path, check);
        } else if path.extension().is_some_and(|e| e == "rs") {
            check(&path);
        }
    }
}
