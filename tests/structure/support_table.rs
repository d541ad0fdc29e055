//! The support matrix of the README, generated from the tables of kernels.
//!
//! A machine knows the tables of its own architecture: it checks (or, with `INGRAFT_UPDATE=1`, rewrites) their
//! columns and leaves the others as they stand.

use std::collections::{BTreeMap, BTreeSet};

use ingraft::kernel::OpCode;

#[path = "../support/targets.rs"]
mod targets;

/// Columns behind the reference: the name of a target and what the README calls it.
const COLUMNS: [(&str, &str); 12] = [
    ("x86-64", "x86-64 AVX2"),
    ("x86-64-avxvnni", "x86-64 AVX-VNNI"),
    ("x86-64-avx512", "x86-64 AVX-512"),
    ("arm-neon", "Arm NEON"),
    ("arm-dotprod", "Arm dotprod"),
    ("arm-i8mm", "Arm i8mm"),
    ("arm-fp16", "Arm fp16"),
    ("cortex-m", "Cortex-M"),
    ("cortex-m-dsp", "Cortex-M DSP"),
    ("cortex-m-helium", "Cortex-M Helium"),
    (CUDA, "CUDA"),
    (CUDA_FP16, "CUDA fp16"),
];

/// The targets whose tables every machine knows.
const CUDA: &str = "cuda";
const CUDA_FP16: &str = "cuda-fp16";

type Cells = [String; COLUMNS.len()];

/// The matrix as Markdown, with the columns that this machine does not know taken from `found`.
fn matrix(found: &str) -> String {
    let standing = columns_of(found);
    let here: Vec<_> = targets::with_microcontrollers().into_iter().chain(targets::halves()).collect();
    let mut text = String::from("| operator | scalar |");
    COLUMNS.iter().for_each(|(_, title)| text.push_str(&format!(" {title} |")));
    text.push_str("\n|---|---|");
    COLUMNS.iter().for_each(|_| text.push_str("---|"));
    for (op, types) in reference() {
        text.push_str(&format!("\n| {op} | {} |", list(&types)));
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let target = here.iter().find(|host| ingraft::kernel::Target::name(*host) == *name);
            let cell = match target {
                Some(host) => covered(host.tables()[0].iter().map(|row| (row.op, row.name)), op, &types),
                None if *name == CUDA => covered(ingraft_jetson_cuda::Cuda::rows(), op, &types),
                None if *name == CUDA_FP16 => covered(ingraft_jetson_cuda::Cuda::half_rows(), op, &types),
                None => standing.get(op.name()).map_or(String::new(), |cells| cells[column].clone()),
            };
            text.push_str(&if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") });
        }
    }
    text.push('\n');
    text
}

/// The types of every operator of the scalar reference.
fn reference() -> BTreeMap<OpCode, BTreeSet<&'static str>> {
    let mut rows: BTreeMap<OpCode, BTreeSet<&str>> = BTreeMap::new();
    for row in ingraft::kernel::REFERENCE {
        rows.entry(row.op).or_default().insert(types_of(row.name));
    }
    rows
}

/// Which of `types` the rows of a table compute for `op`: `all`, some by name, or nothing.
fn covered(
    table: impl Iterator<Item = (OpCode, &'static str)>,
    op: OpCode,
    types: &BTreeSet<&'static str>,
) -> String {
    let own: BTreeSet<&str> = table.filter(|row| row.0 == op).map(|row| types_of(row.1)).collect();
    let some: BTreeSet<&str> = types.intersection(&own).copied().collect();
    if some.len() == types.len() { "all".to_owned() } else { list(&some) }
}

/// The type codes of a kernel's name: between family and `__isa`.
fn types_of(name: &str) -> &str {
    let name = name.split("__").next().unwrap_or(name);
    name.split_once('_').map_or("any", |(_, types)| types)
}

fn list(types: &BTreeSet<&str>) -> String {
    types.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The cells of every operator's row in a matrix as [`matrix`] writes it, by the titles of its columns: one that is new
/// is empty.
fn columns_of(markdown: &str) -> BTreeMap<String, Cells> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let titles = markdown.lines().next().map(cells).unwrap_or_default();
    let row = |line: &str| {
        let row = cells(line);
        let cell = |title| Some(row.get(titles.iter().position(|found| found == title)?)?.clone());
        (row[0].clone(), COLUMNS.map(|(_, title)| cell(title).unwrap_or_default()))
    };
    markdown.lines().skip(2).map(row).collect()
}

#[test]
fn the_readme_has_the_support_matrix() {
    let path = super::root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("there is a README");
    let (head, rest) = readme.split_once("<!-- support:begin -->\n").expect("the section begins");
    let (found, tail) = rest.split_once("<!-- support:end -->").expect("the section ends");
    let wanted = matrix(found);
    if found != wanted && std::env::var_os("INGRAFT_UPDATE").is_some() {
        let text = format!("{head}<!-- support:begin -->\n{wanted}<!-- support:end -->{tail}");
        std::fs::write(&path, text).expect("the README is writable");
        return;
    }
    let stale: Vec<&str> = found.lines().filter(|line| !wanted.contains(line)).collect();
    assert!(found == wanted, "run again with INGRAFT_UPDATE=1 to rewrite the section; stale: {stale:#?}");
}
