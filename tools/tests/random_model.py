"""A tiny random model with every feature of the real one: grouped heads, rotation, tied embeddings."""

from dataclasses import replace

import numpy as np

from gguf_model import Config, Layer, Model

CONFIG = Config(
    layers=2, hidden=64, ffn=96, heads=4, kv_heads=2, head_dim=16,
    vocab=128, context=64, rope_base=10000.0, norm_eps=1e-5,
)


def random_model(seed: int) -> Model:
    """Weights large enough for attention to be far from uniform."""
    generator = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (generator.standard_normal((rows, columns)) * 2 / np.sqrt(columns)).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + 0.1 * generator.standard_normal(CONFIG.hidden)).astype(np.float32)

    def layer() -> Layer:
        hidden, shared = CONFIG.hidden, CONFIG.kv_heads * CONFIG.head_dim
        return Layer(
            attn_norm=norm(), q=matrix(hidden, hidden), k=matrix(shared, hidden), v=matrix(shared, hidden),
            o=matrix(hidden, hidden), ffn_norm=norm(), gate=matrix(CONFIG.ffn, hidden),
            up=matrix(CONFIG.ffn, hidden), down=matrix(hidden, CONFIG.ffn),
        )

    return Model(CONFIG, matrix(CONFIG.vocab, CONFIG.hidden), [layer() for _ in range(CONFIG.layers)], norm())


def with_biases(model: Model, seed: int) -> Model:
    """The same model with biases on q, k and v, as Qwen2 has them."""
    generator = np.random.default_rng(seed)

    def biased(layer: Layer) -> Layer:
        biases = {f"{name}_bias": generator.standard_normal(len(getattr(layer, name))) for name in "qkv"}
        return replace(layer, **{name: bias.astype(np.float32) for name, bias in biases.items()})

    return replace(model, layers=[biased(layer) for layer in model.layers])
