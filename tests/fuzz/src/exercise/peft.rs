//! Checkpoints: safetensors with the configuration beside them.

use ingraft_import::{
    Base, Imported, Matching, export_native, export_peft, import_lycoris, import_native, import_peft,
    read_tensors,
};

use super::base::golden;

/// Whatever `bytes` are as a choice of base and format, a configuration and tensors ([`joined`]).
pub fn peft(bytes: &[u8]) {
    let Some((choice, _, tensors)) = split(bytes) else { return };
    let _ = read_tensors(tensors).map(|held| held.len());
    let base = chosen(choice);
    let Some(made) = imported(&base, bytes) else { return };
    let _ = export_native(&made.bytes).expect("what was imported is an adapter");
    let _ = export_peft(&made.bytes, &base.plan).map(|exported| exported.tensors.len());
}

/// Whether an input is one that is imported.
pub fn fits(bytes: &[u8]) -> bool {
    split(bytes).is_some_and(|(choice, ..)| imported(&chosen(choice), bytes).is_some())
}

fn chosen(choice: u8) -> Base<'static> {
    golden(usize::from(choice & 1 | choice >> 5 & 6), choice & 2 != 0, choice & 4 != 0)
}

fn imported(base: &Base<'_>, bytes: &[u8]) -> Option<Imported> {
    let (choice, config, tensors) = split(bytes)?;
    let matching = Matching { accept_proposal: choice & 8 != 0, ..Matching::default() };
    let made = match choice >> 4 & 3 {
        0 | 1 => import_peft(base, config, tensors, &matching, "a file"),
        2 => import_native(base, config, tensors, "a file"),
        _ => import_lycoris(base, tensors, &matching, "a file"),
    };
    made.ok()
}

/// One input: choice, length of the configuration in two bytes, configuration, tensors.
pub fn joined(choice: u8, config: &[u8], tensors: &[u8]) -> Vec<u8> {
    let len = u16::try_from(config.len()).unwrap_or(u16::MAX);
    let config = &config[..usize::from(len)];
    [&[choice], &len.to_le_bytes()[..], config, tensors].concat()
}

/// The choice of `model` of [`super::MODELS`] with its float weights, as a base of a PEFT checkpoint.
pub fn on(model: usize) -> u8 {
    let model = model as u8;
    4 | model & 1 | (model & 6) << 5
}

/// The parts of an input.
pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[choice, low, high], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (config, tensors) = rest.split_at(len);
    Some((choice, config, tensors))
}
