//! The support matrix of the README, generated from the tables of kernels.

use core::fmt::Write;
use std::collections::BTreeMap;

use ingraft::kernel::{Host, OpCode};

/// The tables whose rows count as a target's own.
fn targets() -> Vec<(&'static str, Host)> {
    #[cfg(target_arch = "x86_64")]
    if let (Some(avx2), Some(avx512)) = (ingraft::x86_64::Avx2::detect(), ingraft::x86_64::Avx512::detect()) {
        return vec![
            ("x86-64 AVX2", ingraft::x86_64::target(avx2)),
            ("x86-64 AVX-512 VNNI", ingraft::x86_64::target_avx512(avx512)),
        ];
    }
    Vec::new()
}

/// The matrix as Markdown.
fn matrix() -> String {
    let targets = targets();
    let mut rows: BTreeMap<OpCode, Vec<String>> = BTreeMap::new();
    for row in Host::SCALAR.tables().iter().flat_map(|t| t.iter()) {
        let types = types_of(row.name);
        let cells = rows.entry(row.op).or_insert_with(|| vec![String::new(); targets.len() + 1]);
        join(&mut cells[0], types);
        for (i, (_, host)) in targets.iter().enumerate() {
            let own = host.tables().iter().take(2).flat_map(|t| t.iter());
            if own.filter(|r| r.op == row.op).any(|r| types_of(r.name) == types) {
                join(&mut cells[i + 1], types);
            }
        }
    }
    let mut text = String::from("| operator | scalar |");
    targets.iter().for_each(|(name, _)| text.push_str(&format!(" {name} |")));
    text.push_str("\n|---|---|");
    targets.iter().for_each(|_| text.push_str("---|"));
    for (op, cells) in rows {
        let _ = write!(text, "\n| {op} |");
        cells.iter().for_each(|cell| text.push_str(&format!(" {cell} |")));
    }
    text.push('\n');
    text
}

/// The type codes of a kernel's name: between family and `__isa`.
fn types_of(name: &str) -> &str {
    let name = name.split("__").next().unwrap_or(name);
    name.split_once('_').map_or("any", |(_, types)| types)
}

fn join(cell: &mut String, types: &str) {
    if !cell.split(", ").any(|t| t == types) {
        if !cell.is_empty() {
            cell.push_str(", ");
        }
        cell.push_str(types);
    }
}

#[test]
fn the_readme_has_the_support_matrix() {
    if targets().is_empty() {
        eprintln!("skipped: the matrix in the README is made on x86-64 with AVX-512");
        return;
    }
    let path = super::root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("there is a README");
    let (head, rest) = readme.split_once("<!-- support:begin -->\n").expect("the section begins");
    let (found, tail) = rest.split_once("<!-- support:end -->").expect("the section ends");
    let wanted = matrix();
    if found != wanted && std::env::var_os("INGRAFT_UPDATE").is_some() {
        let text = format!("{head}<!-- support:begin -->\n{wanted}<!-- support:end -->{tail}");
        std::fs::write(&path, text).expect("the README is writable");
        return;
    }
    assert_eq!(found, wanted, "run again with INGRAFT_UPDATE=1 to rewrite the section");
}
