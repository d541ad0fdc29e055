//! The memory map is that of the machine that counts ours.

fn main() {
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/bare-metal/machines");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::copy(format!("{machines}/mps2-an386.x"), format!("{out}/memory.x"))
        .expect("the machine is described");
    println!("cargo:rustc-link-search={out}");
    println!("cargo:rerun-if-changed={machines}");
    println!("cargo:rerun-if-changed=model.tflite");
}
