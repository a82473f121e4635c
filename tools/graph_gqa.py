"""The default form: GroupQueryAttention, fused norms and the GGUF's own 4-bit blocks, its head in 8 bits.

Past and present may be one buffer, rows are right-padded, and positions follow from the mask, so
there is no `position_ids` input: the contract of the onnxruntime-genai exporter. The bytes of the
embedding are those of the output projection.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from gguf_model import Config, Layer, Model, half_split
from graph import Graph
from quantize import BLOCK, quantize, quantize_between
from reference import rotation

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT
# Activations are rounded to 8 bits as well (level 4), which makes products of integers out of those
# of floats. Level 1 keeps them float32: the checks use it to tell a wrong graph from rounding.
ACCURACY_LEVEL = 4


def write_gqa(
    model: Model,
    folder: Path,
    advance=lambda: None,
    accuracy_level: int = ACCURACY_LEVEL,
    bits: int | None = None,
) -> None:
    """Writes `model.onnx` and its data; `advance` is called after each layer.

    All products but the head have 4 bits between each block's least and largest number, which keeps weights
    that were Q4_1 exactly; the head has 8. With `bits` all have as many, in symmetric blocks.
    """
    _Writer(model.config, Graph(folder, "gqa", activations="int8"), accuracy_level, bits).write(model, advance)


class _Writer:
    def __init__(self, config: Config, graph: Graph, accuracy_level: int, bits: int | None) -> None:
        self.config = config
        self.graph = graph
        self.accuracy_level = accuracy_level
        self.bits = bits or 8
        self.exact = bits is None

    def write(self, model: Model, advance) -> None:
        config, graph = self.config, self.graph
        graph.input("input_ids", INT, ["batch_size", "sequence_length"])
        graph.input("attention_mask", INT, ["batch_size", "total_sequence_length"])
        lengths = self._lengths()
        caches = self._rotation_caches()
        head = self._store("lm_head", model.embedding)

        skip = self._embedding(head)
        branch = None
        for index, layer in enumerate(model.layers):
            name = f"layers.{index}"
            x, skip = self._norm(f"{name}.input_norm", skip, branch, layer.attn_norm)
            branch = self._attention(index, layer, x, lengths + caches)
            x, skip = self._norm(f"{name}.post_attention_norm", skip, branch, layer.ffn_norm)
            branch = self._feed_forward(name, layer, x)
            advance()
        x, _ = self._norm("norm", skip, branch, model.norm)
        graph.output("logits", FLOAT, ["batch_size", "sequence_length", config.vocab])
        self._product("lm_head", x, head, model.embedding.shape, output="logits")
        graph.save()

    def _lengths(self) -> list[str]:
        """What GroupQueryAttention wants to know: the last position of each row, the longest row."""
        graph = self.graph
        count = graph.node("ReduceSum", "mask.sum", ["attention_mask", graph.constant([1])], keepdims=0)
        last = graph.node("Sub", "mask.last", [count, graph.constant(1)])
        last = graph.node("Cast", "mask.last_position", [last], to=TensorProto.INT32)
        shape = graph.node("Shape", "mask.shape", ["attention_mask"])
        total = graph.node("Gather", "mask.total", [shape, graph.constant(1)], axis=0)
        return [last, graph.node("Cast", "mask.total_length", [total], to=TensorProto.INT32)]

    def _rotation_caches(self) -> list[str]:
        cos, sin = rotation(self.config, np.arange(self.config.context))
        return [self.graph.weight("cos_cache", cos), self.graph.weight("sin_cache", sin)]

    def _embedding(self, head: tuple[str, str]) -> str:
        quantized, scales = head
        table = self.graph.alias("embed_tokens.weight", quantized, [self.config.vocab, self.config.hidden * self.bits // 8])
        return self.graph.microsoft(
            "GatherBlockQuantized", "embed_tokens", [table, "input_ids", scales],
            bits=self.bits, block_size=BLOCK, gather_axis=0, quantize_axis=1,
        )

    def _norm(self, name: str, skip: str, branch: str | None, weight: np.ndarray) -> tuple[str, str]:
        """Adds the branch to the residual stream; returns the normalised sum and the sum."""
        eps, weight = self.config.norm_eps, self.graph.weight(f"{name}.weight", weight)
        if branch is None:
            x = self.graph.node("SimplifiedLayerNormalization", name, [skip, weight], epsilon=eps, axis=-1, stash_type=1)
            return x, skip
        x, total = f"{name}.normed", f"{name}.sum"
        self.graph.microsoft(
            "SkipSimplifiedLayerNormalization", name, [skip, branch, weight], [x, "", "", total], epsilon=eps
        )
        return x, total

    def _attention(self, index: int, layer: Layer, x: str, shared: list[str]) -> str:
        config, graph, name = self.config, self.graph, f"layers.{index}.attn"
        assert layer.q_bias is None, "this form has no biases"
        qkv = np.concatenate([half_split(layer.q, config.heads), half_split(layer.k, config.kv_heads), layer.v])
        packed = self._linear(f"{name}.qkv_proj", x, qkv)
        past, present = [], []
        for part in ("key", "value"):
            sizes = lambda length: ["batch_size", config.kv_heads, length, config.head_dim]
            past.append(graph.input(f"past_key_values.{index}.{part}", FLOAT, sizes("past_sequence_length")))
            present.append(graph.output(f"present.{index}.{part}", FLOAT, sizes("total_sequence_length")))
        mixed = graph.microsoft(
            "GroupQueryAttention", name, [packed, "", "", *past, *shared], [f"{name}.mixed", *present],
            num_heads=config.heads, kv_num_heads=config.kv_heads, do_rotary=1, rotary_interleaved=0,
        )
        return self._linear(f"{name}.o_proj", mixed, layer.o)

    def _feed_forward(self, name: str, layer: Layer, x: str) -> str:
        graph, gate, up = self.graph, f"{name}.mlp.gate", f"{name}.mlp.up"
        # One product reads its input once and starts the threads once.
        both = self._linear(f"{name}.mlp.gate_up_proj", x, np.concatenate([layer.gate, layer.up]))
        graph.node("Split", f"{name}.mlp.split", [both], [gate, up], axis=-1, num_outputs=2)
        sigmoid = graph.node("Sigmoid", f"{name}.mlp.sigmoid", [gate])
        active = graph.node("Mul", f"{name}.mlp.active", [gate, sigmoid])
        gated = graph.node("Mul", f"{name}.mlp.gated", [active, up])
        return self._linear(f"{name}.mlp.down_proj", gated, layer.down)

    def _linear(self, name: str, x: str, matrix: np.ndarray) -> str:
        if not self.exact:
            return self._product(name, x, self._store(name, matrix), matrix.shape)
        parts = zip(("weight", "scales", "zeros"), quantize_between(matrix))
        weight = [self.graph.weight(f"{name}.{part}", array) for part, array in parts]
        return self._product(name, x, weight, matrix.shape, bits=4)

    def _store(self, name: str, matrix: np.ndarray) -> tuple[str, str]:
        quantized, scales = quantize(matrix, self.bits)
        return self.graph.weight(f"{name}.weight", quantized), self.graph.weight(f"{name}.scales", scales)

    def _product(self, name: str, x: str, weight, shape, output: str | None = None, bits: int | None = None) -> str:
        out, inner = shape
        return self.graph.microsoft(
            "MatMulNBits", name, [x, *weight], [output or name],
            K=inner, N=out, bits=bits or self.bits, block_size=BLOCK, accuracy_level=self.accuracy_level,
        )
