//! See `motorbrain_fuzz::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    // The fuzzer's own hook ends the process at a panic that is caught, as those of the tokenizers library are.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| motorbrain_fuzz::tokenizer(data)
);
