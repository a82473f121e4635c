"""A Llama-like language model read from a GGUF file, as float32 numpy arrays.

The arrays keep the file's own layout. That matters for `q` and `k`: GGUF stores their rows permuted
so that rotary embedding turns neighbouring pairs (interleaved); ONNX graphs rotate the two halves
of a head (half-split). `half_split` undoes the permutation for them, while `reference.py` works on
the file's layout directly, so a mistake in one does not hide in the other.

Only what SmolLM2 needs is accepted (`llama` architecture, embeddings tied to the output projection);
anything else is refused with a message instead of being converted into something subtly wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

# GGUF token types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
CONTROL_TOKEN = 3
USER_DEFINED_TOKEN = 4


class UnsupportedModel(Exception):
    """The file is a GGUF, but not of a model that this tool knows how to convert."""


@dataclass(frozen=True)
class Config:
    """The sizes and constants of the network."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_base: float
    norm_eps: float


@dataclass(frozen=True)
class Layer:
    """One block. Matrices are [out, in]; `q` and `k` and their biases have their rows in GGUF's order.

    SmolLM2 has no biases; Qwen2 has those of `q`, `k` and `v`.
    """

    attn_norm: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    o: np.ndarray
    ffn_norm: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    q_bias: np.ndarray | None = None
    k_bias: np.ndarray | None = None
    v_bias: np.ndarray | None = None


@dataclass(frozen=True)
class Model:
    """All weights. `embedding` [vocab, hidden] is the output projection as well."""

    config: Config
    embedding: np.ndarray
    layers: list[Layer]
    norm: np.ndarray

    def map_matrices(self, change: Callable[[np.ndarray], np.ndarray]) -> Model:
        """The same model with `change` applied to every matrix; the norms stay."""
        names = ("q", "k", "v", "o", "gate", "up", "down")
        layers = [
            replace(layer, **{name: change(getattr(layer, name)) for name in names})
            for layer in self.layers
        ]
        return replace(self, embedding=change(self.embedding), layers=layers)


@dataclass(frozen=True)
class Vocabulary:
    """What the file says about text: byte-level BPE with GPT-2's alphabet."""

    tokens: list[str]
    merges: list[str]
    special_ids: list[int]
    bos_id: int
    eos_id: int
    pad_id: int


def half_split(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Reorders the rows of `q` or `k`, or its bias, from interleaved pairs to two halves of each head."""
    pairs = matrix.reshape(heads, len(matrix) // heads // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(matrix.shape))


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `half_split`: what a GGUF writer does to `q` and `k`."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


class GgufFile:
    """An opened GGUF file."""

    def __init__(self, path: Path) -> None:
        self._reader = GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def model(self) -> Model:
        """Reads and dequantises all weights (about 540 MB for SmolLM2-135M)."""
        config = self.config()
        layers = [self._layer(index) for index in range(config.layers)]
        return Model(config, self._tensor("token_embd.weight"), layers, self._tensor("output_norm.weight"))

    def vocabulary(self) -> Vocabulary:
        """Reads the tokenizer's data."""
        model, pre = self._field("tokenizer.ggml.model"), self._field("tokenizer.ggml.pre")
        if (model, pre) != ("gpt2", "smollm"):
            raise UnsupportedModel(f"expected the tokenizer gpt2 with the splits of smollm, found {model} with {pre}")
        types = self._field("tokenizer.ggml.token_type")
        return Vocabulary(
            tokens=self._field("tokenizer.ggml.tokens"),
            merges=self._field("tokenizer.ggml.merges"),
            special_ids=[i for i, kind in enumerate(types) if kind in (CONTROL_TOKEN, USER_DEFINED_TOKEN)],
            bos_id=self._field("tokenizer.ggml.bos_token_id"),
            eos_id=self._field("tokenizer.ggml.eos_token_id"),
            pad_id=self._field("tokenizer.ggml.padding_token_id"),
        )

    def chat_template(self) -> str | None:
        """How the model was trained to read messages, as a Jinja template; not every file says it."""
        field = self._reader.get_field("tokenizer.chat_template")
        return None if field is None else field.contents()

    def config(self) -> Config:
        """Reads the sizes; refuses what this tool does not know."""
        architecture = self._field("general.architecture")
        if architecture != "llama":
            raise UnsupportedModel(f"expected the architecture llama, found {architecture}")
        if "output.weight" in self._tensors:
            raise UnsupportedModel("expected embeddings tied to the output projection, found output.weight")
        config = Config(
            layers=self._field("llama.block_count"),
            hidden=self._field("llama.embedding_length"),
            ffn=self._field("llama.feed_forward_length"),
            heads=self._field("llama.attention.head_count"),
            kv_heads=self._field("llama.attention.head_count_kv"),
            head_dim=self._field("llama.rope.dimension_count"),
            vocab=self._field("llama.vocab_size"),
            context=self._field("llama.context_length"),
            rope_base=self._field("llama.rope.freq_base"),
            norm_eps=self._field("llama.attention.layer_norm_rms_epsilon"),
        )
        if config.head_dim * config.heads != config.hidden:
            raise UnsupportedModel(f"expected rotation over whole heads, found {config}")
        return config

    def _layer(self, index: int) -> Layer:
        def tensor(name: str) -> np.ndarray:
            return self._tensor(f"blk.{index}.{name}.weight")

        return Layer(
            attn_norm=tensor("attn_norm"),
            q=tensor("attn_q"),
            k=tensor("attn_k"),
            v=tensor("attn_v"),
            o=tensor("attn_output"),
            ffn_norm=tensor("ffn_norm"),
            gate=tensor("ffn_gate"),
            up=tensor("ffn_up"),
            down=tensor("ffn_down"),
        )

    def _tensor(self, name: str) -> np.ndarray:
        if name not in self._tensors:
            raise UnsupportedModel(f"expected a tensor {name}, found none")
        tensor = self._tensors[name]
        return np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    def _field(self, name: str):
        field = self._reader.get_field(name)
        if field is None:
            raise UnsupportedModel(f"expected the metadata key {name}, found none")
        return field.contents()
