//! See `motorbrain_fuzz::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| motorbrain_fuzz::tokenizer(data));
