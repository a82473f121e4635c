//! See `motorbrain_fuzz::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| motorbrain_fuzz::lines(data));
