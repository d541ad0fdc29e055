//! Uncompressed NumPy archives.

use std::collections::BTreeMap;

use ingraft_tensor::DType;

use crate::graph::Tensor;

/// The arrays of an archive by name.
pub(super) fn read(archive: &[u8]) -> BTreeMap<String, Tensor> {
    let u16_at = |at: usize| u16::from_le_bytes([archive[at], archive[at + 1]]) as usize;
    let u32_at = |at: usize| u16_at(at) + (u16_at(at + 2) << 16);
    let end = archive.windows(4).rposition(|w| w == b"PK\x05\x06").expect("not a zip archive");
    let (count, mut at) = (u16_at(end + 10), u32_at(end + 16));
    let mut arrays = BTreeMap::new();
    for _ in 0..count {
        assert_eq!(u16_at(at + 10), 0, "compressed");
        let (size, name_len, local) = (u32_at(at + 20), u16_at(at + 28), u32_at(at + 42));
        let name = core::str::from_utf8(&archive[at + 46..at + 46 + name_len]).unwrap();
        let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        arrays.insert(name.trim_end_matches(".npy").to_owned(), array(&archive[start..start + size]));
        at += 46 + name_len + u16_at(at + 30) + u16_at(at + 32);
    }
    arrays
}

fn array(npy: &[u8]) -> Tensor {
    let length = u16::from_le_bytes([npy[8], npy[9]]) as usize;
    let (header, data) = npy[10..].split_at(length);
    let header = core::str::from_utf8(header).unwrap();
    let after = |key: &str| header.split(key).nth(1).unwrap();
    assert!(after("'fortran_order': ").starts_with("False"));
    let dtype = match after("'descr': '").split('\'').next().unwrap() {
        "<f4" => DType::F32,
        "<i8" => DType::I64,
        descr => panic!("{descr}"),
    };
    let list = after("'shape': (").split(')').next().unwrap();
    let shape =
        list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    Tensor::new(dtype, shape, data.to_vec()).unwrap()
}
