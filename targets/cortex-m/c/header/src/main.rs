//! Writes `include/ingraft.h` from the source of the library; with `--check`, fails where the committed one differs.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config =
        cbindgen::Config::from_file(library.join("cbindgen.toml")).expect("the configuration is valid");
    let sources = ["status", "plan", "adapter", "session", "trainer"];
    let builder = sources.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
        builder.with_src(library.join("src").join(format!("{name}.rs")))
    });
    let mut header = Vec::new();
    builder.generate().expect("the source is what cbindgen reads").write(&mut header);
    let path = library.join("include/ingraft.h");
    if std::env::args().any(|argument| argument == "--check") {
        if std::fs::read(&path).is_ok_and(|committed| committed == header) {
            return ExitCode::SUCCESS;
        }
        eprintln!("include/ingraft.h is not that of the source: run this without --check and commit it");
        return ExitCode::FAILURE;
    }
    std::fs::write(&path, header).expect("the header is writable");
    ExitCode::SUCCESS
}
