//! Arrays, and archives of them.

use ingraft_dataset::{Array, from_npy_bytes, from_npz_bytes, to_npy_bytes, to_npz_bytes};

/// Whatever `bytes` are as a `.npy` file or an `.npz` archive.
pub fn npy(bytes: &[u8]) {
    if bytes.starts_with(b"PK") {
        let Ok(arrays) = from_npz_bytes(bytes) else { return };
        let again = to_npz_bytes(&arrays).expect("no larger than what it came from");
        let again = from_npz_bytes(&again).expect("we wrote it");
        assert_eq!(again.len(), arrays.len());
        for ((name, array), (_, before)) in again.iter().zip(&arrays) {
            same(array, before);
            assert!(name.len() <= bytes.len());
        }
    } else if let Ok(array) = from_npy_bytes(bytes) {
        same(&from_npy_bytes(&to_npy_bytes(&array)).expect("we wrote it"), &array);
    }
}

fn same(array: &Array, before: &Array) {
    assert_eq!((array.dtype(), array.shape()), (before.dtype(), before.shape()));
    assert!(array.bytes() == before.bytes(), "an array reads as it was written");
}
