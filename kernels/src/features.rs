//! What this machine's processor can do that arithmetic is chosen by, here and in ONNX Runtime: a result that was
//! compared on one machine says little about another.

/// The names of those features that the processor has, in a fixed order.
pub fn features() -> impl Iterator<Item = &'static str> {
    #[allow(unused_macros, reason = "of other processors nothing is known")]
    macro_rules! detected {
        ($detect:ident: $($name:tt),+) => {
            [$(($name, std::arch::$detect!($name))),+]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let known = detected!(is_x86_feature_detected:
        "sse4.1", "avx", "avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi",
        "avx512vnni", "avx512bf16", "avx512fp16"
    );
    #[cfg(target_arch = "aarch64")]
    let known = detected!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter_map(|(name, has)| has.then_some(name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_vectors_that_are_chosen_are_among_the_features() {
        let features: Vec<_> = super::features().collect();
        let expected = match crate::linear::vectors() {
            "AVX2" => "avx2",
            "AVX-512" => "avx512f",
            "AVX-512 with VNNI" => "avx512vnni",
            _ => return,
        };
        assert!(features.contains(&expected), "{features:?}");
    }
}
