#![no_main]

use ingraft_fuzz::{exercise, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| exercise::onnx(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::onnx(&mut data[..max_size], size, seed, &mut |bytes, len, most| fuzzer_mutate(bytes, len, most))
});
