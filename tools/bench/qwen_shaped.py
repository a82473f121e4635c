"""A model with the shape of Qwen2.5-Coder-0.5B and random weights: it says nothing, and costs the same.

https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B/blob/main/config.json
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from gguf_model import Config, Layer, Model

CONFIG = Config(
    layers=24, hidden=896, ffn=4864, heads=14, kv_heads=2, head_dim=64,
    vocab=151_936, context=32_768, rope_base=1e6, norm_eps=1e-6,
)


def random_model(config: Config = CONFIG, seed: int = 1) -> Model:
    """Weights scaled so that activations neither vanish nor overflow (2 GB for the default shape)."""
    generator = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return generator.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(columns))

    def bias(rows: int) -> np.ndarray:
        return generator.standard_normal(rows, np.float32) * np.float32(0.1)

    hidden, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
    ones = np.ones(config.hidden, np.float32)
    layers = [
        Layer(
            attn_norm=ones, q=matrix(hidden, config.hidden), k=matrix(shared, config.hidden),
            v=matrix(shared, config.hidden), o=matrix(config.hidden, hidden), ffn_norm=ones,
            gate=matrix(config.ffn, config.hidden), up=matrix(config.ffn, config.hidden),
            down=matrix(config.hidden, config.ffn), q_bias=bias(hidden), k_bias=bias(shared), v_bias=bias(shared),
        )
        for _ in range(config.layers)
    ]
    return Model(config, matrix(config.vocab, config.hidden), layers, ones)


def write_gguf(model: Model, path: Path) -> None:
    """The same weights for llama.cpp, f32 too and without a tokenizer.

    llama.cpp rotates Qwen2 by halves, so that the rows are not permuted as they are for Llama: they
    mean another model, of the same cost.
    """
    config = model.config
    writer = GGUFWriter(path, "qwen2")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab)
    writer.add_tokenizer_model("none")
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output_norm.weight", model.norm)
    for index, layer in enumerate(model.layers):
        tensors = {
            "attn_norm.weight": layer.attn_norm, "ffn_norm.weight": layer.ffn_norm,
            "attn_q.weight": layer.q, "attn_k.weight": layer.k, "attn_v.weight": layer.v,
            "attn_q.bias": layer.q_bias, "attn_k.bias": layer.k_bias, "attn_v.bias": layer.v_bias,
            "attn_output.weight": layer.o, "ffn_gate.weight": layer.gate, "ffn_up.weight": layer.up,
            "ffn_down.weight": layer.down,
        }
        for name, tensor in tensors.items():
            writer.add_tensor(f"blk.{index}.{name}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
