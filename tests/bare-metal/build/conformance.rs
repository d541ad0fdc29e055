//! The cases of the conformance suite as a file that the firmware reads over semihosting: operands, terms, and what
//! the host's reference makes of them.

use ingraft::kernel::attrs::QConvAttrs;
use ingraft::kernel::{Factors, OpCode, REFERENCE, SiteTerms, SparseValues};
use ingraft::tensor::bytes::{self, Plain};

#[path = "../../support/cases.rs"]
#[allow(dead_code, unused_imports, reason = "the suite on the host uses the rest")]
mod cases;

use cases::{Case, Tensor};

/// Larger cases do not fit the smallest board with the program and its memory.
const LARGEST: usize = 192 * 1024;

/// Every case of the operators that Cortex-M has kernels for.
pub(crate) fn file() -> Vec<u8> {
    let operators = [OpCode::QConv, OpCode::QDepthwise];
    let cases = operators.into_iter().flat_map(|op| cases::of(op).unwrap_or_default());
    cases.filter_map(|case| record(&case)).filter(|record| record.len() <= LARGEST).flatten().collect()
}

/// One case; `None` where it is not of int8 constants, as plans have them.
fn record(case: &Case) -> Option<Vec<u8>> {
    let row = REFERENCE.iter().find(|row| case.suits(row))?;
    let wanted = case.run(row).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut file = Record(vec![0; 16]);
    file.put(case.name.as_bytes());
    file.put(&[u32::from(case.op == OpCode::QDepthwise)]);
    file.put(core::slice::from_ref(case.attrs::<QConvAttrs>()));
    case.inputs.iter().for_each(|tensor| file.tensor(tensor));
    let (out, mask) = wanted.outputs.split_first()?;
    file.tensor(out);
    file.put(mask.first().map_or(&[], Tensor::bytes));
    file.terms(&case.terms.site());
    let len = u32::try_from(file.0.len()).ok()?;
    file.0[..4].copy_from_slice(&len.to_le_bytes());
    Some(file.0)
}

/// Pieces at 16-byte boundaries, each behind its length.
struct Record(Vec<u8>);

impl Record {
    fn put<T: Plain>(&mut self, values: &[T]) {
        let bytes = bytes::of(values);
        self.0.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.0.resize(bytes::align_up(self.0.len()), 0);
        self.0.extend_from_slice(bytes);
        self.0.resize(bytes::align_up(self.0.len()), 0);
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.put(&[u32::from(tensor.dtype as u8)]);
        self.put(tensor.shape.dims());
        self.put(tensor.bytes());
    }

    fn terms(&mut self, terms: &SiteTerms<'_>) {
        match terms.two_factor.map(|term| (term.rank as u32, term.factors)) {
            None => self.put(&[0u32, 0]),
            Some((rank, Factors::F32 { down, up })) => {
                self.put(&[1, rank]);
                self.put(down);
                self.put(up);
            }
            Some((rank, Factors::I8 { down, up, down_scale, up_scale })) => {
                self.put(&[2, rank]);
                self.put(down);
                self.put(up);
                self.put(down_scale);
                self.put(up_scale);
            }
        }
        match terms.sparse {
            None => self.put(&[0u32]),
            Some(sparse) => {
                let integer = matches!(sparse.values, SparseValues::I16(_));
                self.put(&[1 + u32::from(integer)]);
                self.put(sparse.indptr);
                self.put(sparse.indices);
                match sparse.values {
                    SparseValues::I16(values) => self.put(values),
                    SparseValues::F32(values) => self.put(values),
                }
            }
        }
        self.put(terms.dense.unwrap_or(&[]));
        self.put(terms.affine.map_or(&[], |affine| affine.scale));
        self.put(terms.affine.map_or(&[], |affine| affine.shift));
        self.put(terms.patched.map_or(&[], |patched| patched.weight));
        self.put(terms.patched.map_or(&[], |patched| patched.bias));
    }
}
