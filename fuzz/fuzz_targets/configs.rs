//! See `motorbrain_fuzz::configs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| motorbrain_fuzz::configs(data));
