"""The plain form: float32 and standard operators only, as Hugging Face exports are.

Past and new keys are concatenated, `position_ids` says where each token stands, and the mask hides
padding on either side. Slower than the default form, but exact: tests that promise equality use it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from gguf_model import Config, Layer, Model, half_split
from graph import Graph

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT
TOTAL = "past_sequence_length + sequence_length"


def write_plain(model: Model, folder: Path, advance=lambda: None) -> None:
    """Writes `model.onnx` and its data; `advance` is called after each layer."""
    _Writer(model.config, Graph(folder, "plain")).write(model, advance)


class _Writer:
    def __init__(self, config: Config, graph: Graph) -> None:
        self.config = config
        self.graph = graph

    def write(self, model: Model, advance) -> None:
        config, graph = self.config, self.graph
        graph.input("input_ids", INT, ["batch_size", "sequence_length"])
        graph.input("attention_mask", INT, ["batch_size", TOTAL])
        graph.input("position_ids", INT, ["batch_size", "sequence_length"])
        graph.output("logits", FLOAT, ["batch_size", "sequence_length", config.vocab])

        head = graph.weight("lm_head.weight", np.ascontiguousarray(model.embedding.T))
        x = self._embedding(head)
        cos, sin = self._rotation()
        past_len = self._dimension("past_key_values.0.key", 2)
        mask = self._mask(past_len)
        for index, layer in enumerate(model.layers):
            name = f"layers.{index}"
            normed = self._norm(f"{name}.input_norm", x, layer.attn_norm)
            x = graph.node("Add", f"{name}.attn.sum", [x, self._attention(index, layer, normed, cos, sin, mask)])
            normed = self._norm(f"{name}.post_attention_norm", x, layer.ffn_norm)
            x = graph.node("Add", f"{name}.mlp.sum", [x, self._feed_forward(f"{name}.mlp", layer, normed)])
            advance()
        graph.node("MatMul", "lm_head", [self._norm("norm", x, model.norm), head], ["logits"])
        graph.save()

    def _embedding(self, head: str) -> str:
        """Takes columns of the output projection, which is stored once: [hidden, batch, seq] first."""
        columns = self.graph.node("Gather", "embed_tokens.columns", [head, "input_ids"], axis=1)
        return self.graph.node("Transpose", "embed_tokens", [columns], perm=[1, 2, 0])

    def _rotation(self) -> tuple[str, str]:
        """Cosines and sines [batch, 1, seq, head_dim] for the positions of this run."""
        config, graph = self.config, self.graph
        frequencies = config.rope_base ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
        frequencies = graph.weight("rotary.frequencies", frequencies.astype(np.float32))
        positions = graph.node("Cast", "rotary.positions", ["position_ids"], to=FLOAT)
        column = graph.node("Unsqueeze", "rotary.column", [positions, graph.constant([1, 3])])
        half = graph.node("Mul", "rotary.half", [column, frequencies])
        angles = graph.node("Concat", "rotary.angles", [half, half], axis=-1)
        return graph.node("Cos", "rotary.cos", [angles]), graph.node("Sin", "rotary.sin", [angles])

    def _mask(self, past_len: str) -> str:
        """What is added to the scores, [batch, 1, 1, seq, total]: 0 where a token may look, else very low.

        The lowest finite number rather than -inf: a row that is all padding gets a harmless mean
        instead of NaN.
        """
        graph = self.graph
        total, zero, one = self._dimension("attention_mask", 1), graph.constant(0), graph.constant(1)
        end = graph.node("Add", "mask.end", [past_len, self._dimension("input_ids", 1)])
        rows = graph.node("Range", "mask.rows", [past_len, end, one])
        rows = graph.node("Unsqueeze", "mask.row_column", [rows, graph.constant([1])])
        columns = graph.node("Range", "mask.columns", [zero, total, one])
        causal = graph.node("LessOrEqual", "mask.causal", [columns, rows])
        real = graph.node("Cast", "mask.real", ["attention_mask"], to=TensorProto.BOOL)
        real = graph.node("Unsqueeze", "mask.real_rows", [real, graph.constant([1, 2, 3])])
        visible = graph.node("And", "mask.visible", [causal, real])
        lowest = graph.constant(float(np.finfo(np.float32).min), np.float32)
        return graph.node("Where", "mask", [visible, graph.constant(0.0, np.float32), lowest])

    def _dimension(self, tensor: str, axis: int) -> str:
        shape = self.graph.node("Shape", f"{tensor}.shape", [tensor])
        return self.graph.node("Gather", f"{tensor}.dim{axis}", [shape, self.graph.constant(axis)], axis=0)

    def _norm(self, name: str, x: str, weight: np.ndarray) -> str:
        graph = self.graph
        square = graph.node("Pow", f"{name}.square", [x, graph.constant(2.0, np.float32)])
        mean = graph.node("ReduceMean", f"{name}.mean", [square, graph.constant([-1])])
        safe = graph.node("Add", f"{name}.safe", [mean, graph.constant(self.config.norm_eps, np.float32)])
        root = graph.node("Sqrt", f"{name}.root", [safe])
        scaled = graph.node("Div", f"{name}.scaled", [x, root])
        return graph.node("Mul", name, [graph.weight(f"{name}.weight", weight), scaled])

    def _attention(self, index: int, layer: Layer, x: str, cos: str, sin: str, mask: str) -> str:
        """Attention with the query heads grouped by the key head they share.

        Queries are [batch, kv_heads, group, seq, head_dim], keys [batch, kv_heads, 1, total, head_dim].
        """
        config, graph, name = self.config, self.graph, f"layers.{index}.attn"
        q = self._heads(f"{name}.q", x, *_half_split(layer.q, layer.q_bias, config.heads), config.heads)
        k = self._heads(f"{name}.k", x, *_half_split(layer.k, layer.k_bias, config.kv_heads), config.kv_heads)
        v = self._heads(f"{name}.v", x, layer.v, layer.v_bias, config.kv_heads)
        q, k = self._rotate(f"{name}.q", q, cos, sin), self._rotate(f"{name}.k", k, cos, sin)
        k, v = self._remember(index, "key", k), self._remember(index, "value", v)

        group = graph.constant([0, config.kv_heads, config.heads // config.kv_heads, -1, config.head_dim])
        q = graph.node("Reshape", f"{name}.q.grouped", [q, group])
        axis = graph.constant([2])
        k = graph.node("Unsqueeze", f"{name}.k.shared", [k, axis])
        v = graph.node("Unsqueeze", f"{name}.v.shared", [v, axis])
        k = graph.node("Transpose", f"{name}.k.transposed", [k], perm=[0, 1, 2, 4, 3])

        scores = graph.node("MatMul", f"{name}.scores", [q, k])
        scale = graph.constant(float(config.head_dim**-0.5), np.float32)
        scores = graph.node("Mul", f"{name}.scores.scaled", [scores, scale])
        scores = graph.node("Add", f"{name}.scores.masked", [scores, mask])
        weights = graph.node("Softmax", f"{name}.weights", [scores], axis=-1)
        mixed = graph.node("MatMul", f"{name}.mixed", [weights, v])
        mixed = graph.node("Transpose", f"{name}.by_token", [mixed], perm=[0, 3, 1, 2, 4])
        mixed = graph.node("Reshape", f"{name}.flat", [mixed, graph.constant([0, 0, config.hidden])])
        return self._linear(f"{name}.o_proj", mixed, layer.o)

    def _heads(self, name: str, x: str, matrix: np.ndarray, bias: np.ndarray | None, heads: int) -> str:
        """A projection cut into heads: [batch, heads, seq, head_dim]."""
        graph = self.graph
        flat = self._linear(f"{name}_proj", x, matrix)
        if bias is not None:
            flat = graph.node("Add", f"{name}_proj.biased", [graph.weight(f"{name}_proj.bias", bias), flat])
        cut = graph.node("Reshape", f"{name}.cut", [flat, graph.constant([0, 0, heads, self.config.head_dim])])
        return graph.node("Transpose", f"{name}.heads", [cut], perm=[0, 2, 1, 3])

    def _rotate(self, name: str, x: str, cos: str, sin: str) -> str:
        """Turns element j of a head together with element j + head_dim / 2."""
        graph = self.graph
        first, second = f"{name}.first", f"{name}.second"
        graph.node("Split", f"{name}.halves", [x], [first, second], axis=-1, num_outputs=2)
        swapped = graph.node("Neg", f"{name}.negated", [second])
        swapped = graph.node("Concat", f"{name}.swapped", [swapped, first], axis=-1)
        straight = graph.node("Mul", f"{name}.straight", [x, cos])
        crossed = graph.node("Mul", f"{name}.crossed", [swapped, sin])
        return graph.node("Add", f"{name}.rotated", [straight, crossed])

    def _remember(self, index: int, part: str, new: str) -> str:
        """Appends to the cache: past in, present out."""
        config, graph = self.config, self.graph
        sizes = lambda length: ["batch_size", config.kv_heads, length, config.head_dim]
        past = graph.input(f"past_key_values.{index}.{part}", FLOAT, sizes("past_sequence_length"))
        present = graph.output(f"present.{index}.{part}", FLOAT, sizes(TOTAL))
        return graph.node("Concat", f"layers.{index}.attn.{part}.all", [past, new], [present], axis=2)

    def _feed_forward(self, name: str, layer: Layer, x: str) -> str:
        graph = self.graph
        gate = self._linear(f"{name}.gate_proj", x, layer.gate)
        sigmoid = graph.node("Sigmoid", f"{name}.sigmoid", [gate])
        active = graph.node("Mul", f"{name}.active", [gate, sigmoid])
        gated = graph.node("Mul", f"{name}.gated", [active, self._linear(f"{name}.up_proj", x, layer.up)])
        return self._linear(f"{name}.down_proj", gated, layer.down)

    def _linear(self, name: str, x: str, matrix: np.ndarray) -> str:
        weight = self.graph.weight(f"{name}.weight", np.ascontiguousarray(matrix.T))
        return self.graph.node("MatMul", name, [x, weight])


def _half_split(matrix: np.ndarray, bias: np.ndarray | None, heads: int) -> tuple[np.ndarray, np.ndarray | None]:
    return half_split(matrix, heads), None if bias is None else half_split(bias, heads)
