//! Checkpoints: safetensors with the configuration beside them.

use ingraft_import::{
    Matching, export_native, export_peft, import_lycoris, import_native, import_peft, read_tensors,
};

use super::base::golden;

/// Whatever `bytes` are as a choice of base and format, a configuration and tensors ([`joined`]).
pub fn peft(bytes: &[u8]) {
    let Some((choice, config, tensors)) = split(bytes) else { return };
    let _ = read_tensors(tensors).map(|held| held.len());
    let base = golden(choice & 1 != 0, choice & 2 != 0, choice & 4 != 0);
    let matching = Matching { accept_proposal: choice & 8 != 0, ..Matching::default() };
    let made = match choice >> 4 & 3 {
        0 | 1 => import_peft(&base, config, tensors, &matching, "a file"),
        2 => import_native(&base, config, tensors, "a file"),
        _ => import_lycoris(&base, tensors, &matching, "a file"),
    };
    let Ok(made) = made else { return };
    let _ = export_native(&made.bytes).expect("what was imported is an adapter");
    let _ = export_peft(&made.bytes, &base.plan).map(|exported| exported.tensors.len());
}

/// One input: choice, length of the configuration in two bytes, configuration, tensors.
pub fn joined(choice: u8, config: &[u8], tensors: &[u8]) -> Vec<u8> {
    let len = u16::try_from(config.len()).unwrap_or(u16::MAX);
    let config = &config[..usize::from(len)];
    [&[choice], &len.to_le_bytes()[..], config, tensors].concat()
}

/// The parts of an input.
pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[choice, low, high], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (config, tensors) = rest.split_at(len);
    Some((choice, config, tensors))
}
