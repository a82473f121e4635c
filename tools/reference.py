"""The forward pass in plain numpy: slow, short, and sharing nothing with the graphs it checks.

It works on the GGUF's own layout (interleaved rotation), computes in float32 with angles in float64,
and keeps a KV cache so that a greedy continuation does not start over at each token.
"""

from __future__ import annotations

import numpy as np

from gguf_model import Config, Layer, Model


class Reference:
    """One conversation with a model. Feed it tokens; it remembers those before."""

    def __init__(self, model: Model) -> None:
        self._model = model
        config = model.config
        empty = np.zeros((0, config.kv_heads, config.head_dim), np.float32)
        self._keys = [empty] * config.layers
        self._values = [empty] * config.layers

    def forward(self, token_ids: list[int]) -> np.ndarray:
        """Appends the tokens and returns the logits after each of them, [tokens, vocab]."""
        model, config = self._model, self._model.config
        past = len(self._keys[0])
        cos, sin = rotation(config, np.arange(past, past + len(token_ids)))
        x = model.embedding[np.asarray(token_ids)]
        for index, layer in enumerate(model.layers):
            x = x + self._attention(index, layer, rms_norm(x, layer.attn_norm, config.norm_eps), cos, sin)
            x = x + feed_forward(layer, rms_norm(x, layer.ffn_norm, config.norm_eps))
        return rms_norm(x, model.norm, config.norm_eps) @ model.embedding.T

    def _attention(self, index: int, layer: Layer, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        config = self._model.config
        q = rotate(project(x, layer.q, layer.q_bias).reshape(len(x), config.heads, config.head_dim), cos, sin)
        k = rotate(project(x, layer.k, layer.k_bias).reshape(len(x), config.kv_heads, config.head_dim), cos, sin)
        v = project(x, layer.v, layer.v_bias).reshape(len(x), config.kv_heads, config.head_dim)
        keys = self._keys[index] = np.concatenate([self._keys[index], k])
        values = self._values[index] = np.concatenate([self._values[index], v])

        past = len(keys) - len(x)
        unseen = np.arange(len(keys))[None, :] > past + np.arange(len(x))[:, None]
        heads = []
        for head in range(config.heads):
            shared = head // (config.heads // config.kv_heads)
            scores = q[:, head] @ keys[:, shared].T / np.sqrt(np.float32(config.head_dim))
            heads.append(softmax(np.where(unseen, -np.inf, scores)) @ values[:, shared])
        return np.concatenate(heads, axis=-1) @ layer.o.T


def project(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The product with a matrix [out, in], and its bias where it has one."""
    product = x @ matrix.T
    return product if bias is None else product + bias


def rotation(config: Config, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [positions, head_dim / 2] of the rotary embedding."""
    frequencies = config.rope_base ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = positions[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turns each neighbouring pair of [tokens, heads, head_dim] by its angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    turned = np.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return turned.reshape(x.shape)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """Root mean square normalisation over the last axis."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(eps)) * weight


def feed_forward(layer: Layer, x: np.ndarray) -> np.ndarray:
    """The gated (SiLU) feed-forward network."""
    gate = x @ layer.gate.T
    return (gate / (1 + np.exp(-gate)) * (x @ layer.up.T)) @ layer.down.T


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; -inf becomes zero."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
