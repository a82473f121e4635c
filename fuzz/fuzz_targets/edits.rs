//! See `motorbrain_fuzz::edits`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| motorbrain_fuzz::edits(data));
