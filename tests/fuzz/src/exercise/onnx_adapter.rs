//! ONNX Runtime's adapters.

use ingraft_import::{Matching, import_onnx_adapter};

use super::base::golden;

/// Whatever `bytes` are as an `.onnx_adapter`.
pub fn onnx_adapter(bytes: &[u8]) {
    let matching = Matching { accept_proposal: true, ..Matching::default() };
    for model in [0, 1] {
        let base = golden(model, bytes.len() % 2 == 1, false);
        let _ = import_onnx_adapter(&base, bytes, &matching, "a file");
    }
}
