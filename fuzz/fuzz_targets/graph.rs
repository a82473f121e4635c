//! See `motorbrain_fuzz::graph`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| motorbrain_fuzz::graph(data));
