//! The rows of kernels that the library links: those of the plan that `INGRAFT_PLAN` names, or every row.

use std::path::PathBuf;

use ingraft_plan::PlanView;

use aligned::Aligned;
use kernels::Adapters;

#[path = "../firmware/build/aligned.rs"]
mod aligned;
#[path = "../firmware/build/cores.rs"]
#[allow(dead_code, reason = "the firmware asks for the machine")]
mod cores;
#[path = "../firmware/build/kernels.rs"]
mod kernels;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../firmware/build");
    println!("cargo:rerun-if-env-changed=INGRAFT_PLAN");
    let target = match std::env::var_os("INGRAFT_PLAN").map(PathBuf::from) {
        None => "ingraft_cortex_m::native()".to_owned(),
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let file = Aligned::new(&file);
            let plan =
                PlanView::new(file.bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let any_term = std::env::var_os("CARGO_FEATURE_ANY_TERM").is_some();
            let rows = kernels::list(&plan, &cores::device(), Adapters { heads: true, any_term });
            format!("Host::only(\"firmware\", {rows})")
        }
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let source = format!("/// The kernels that are linked.\npub(crate) static TARGET: Host = {target};\n");
    std::fs::write(out.join("target.rs"), source).expect("OUT_DIR is writable");
}
