//! What a run of the model needs of the machine at least, from the model's own sizes.
//!
//! All weights are read once a run; keys and values once a token that attends to them. A
//! multiplication and an addition are two operations. Norms, activations and the softmax are left
//! out: they are a thousandth. So a share above 1.0 says that the machine
//! was slower while its limits were measured.

use super::results::Shape;

/// Bytes of an f32 number, which weights, keys and values have in the model of the Qwen shape.
const F32: usize = 4;

impl Shape {
    /// Numbers in the matrices of a layer: q and o, k and v, then gate, up and down.
    fn layer_weights(&self) -> usize {
        let (query, shared) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        2 * self.hidden * query + 2 * self.hidden * shared + 3 * self.hidden * self.inner
    }

    /// Operations of a prefill of `tokens` that samples once: two a weight and token in the layers, two
    /// a weight of the output projection for the last token; and for each layer, head and pair of a
    /// token with one it sees (itself among them) two a number of the key and two of the value.
    pub(super) fn prefill_flop(&self, tokens: usize) -> f64 {
        let products = 2 * tokens * self.layers * self.layer_weights() + 2 * self.hidden * self.vocab;
        let pairs = tokens * (tokens + 1) / 2;
        (products + 4 * pairs * self.layers * self.heads * self.head_dim) as f64
    }

    /// Bytes of all weights of which a run reads every one: the matrices of the layers and the output
    /// projection, whose bytes are also those of the embedding. In f32.
    pub(super) fn weight_bytes(&self) -> f64 {
        (F32 * (self.layers * self.layer_weights() + self.hidden * self.vocab)) as f64
    }

    /// Bytes of the keys and values of a context, in f32.
    pub(super) fn kv_bytes(&self, context: usize) -> f64 {
        (F32 * 2 * self.layers * self.kv_heads * self.head_dim * context) as f64
    }

    /// Tokens a second that a bandwidth allows: a run gives each conversation a token, reads the weights
    /// once and each conversation's keys and values.
    pub(super) fn decode_limit(
        &self,
        bytes_per_second: f64,
        weight_bytes: f64,
        conversations: usize,
        context: usize,
    ) -> f64 {
        let conversations = conversations as f64;
        conversations * bytes_per_second / (weight_bytes + conversations * self.kv_bytes(context))
    }

    /// Tokens a second that a throughput of operations allows.
    pub(super) fn prefill_limit(&self, flop_per_second: f64, tokens: usize) -> f64 {
        tokens as f64 * flop_per_second / self.prefill_flop(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: Shape =
        Shape { layers: 24, hidden: 896, inner: 4864, heads: 14, kv_heads: 2, head_dim: 64, vocab: 151_936 };

    #[test]
    fn weights_are_those_of_the_published_model() {
        // 494.0 million parameters are published; biases and norms are not counted here.
        assert_eq!(QWEN.weight_bytes() / 4.0, 493_961_216.0);
    }

    #[test]
    fn operations_are_two_a_weight_and_attention_besides() {
        let per_token = QWEN.prefill_flop(512) / 512.0;
        let layers = 2.0 * 24.0 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864) as f64;
        assert!(per_token > layers && per_token < layers * 1.04, "{per_token} a token, {layers} in the layers");
    }

    #[test]
    fn many_conversations_share_the_reading_of_the_weights() {
        let limit = |conversations| QWEN.decode_limit(20e9, QWEN.weight_bytes(), conversations, 64);
        assert!((limit(1) - 20e9 / 1.9774e9).abs() < 0.01, "{}", limit(1));
        assert!(limit(16) / limit(1) > 15.8 && limit(16) / limit(1) < 16.0);
    }
}
