"""What an export must answer: by transformers, and in a sliding window by ONNX Runtime on the export itself.

In a window the cache is cut and the keys of each layer turned back by what transformers turns them by there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

WINDOW = {"size": 64, "sinks": 4, "slide": 16}
COUNT = 200


def tokens() -> list[int]:
    """The same ones for every export."""
    return [int(token) for token in np.random.default_rng(3).integers(3, 500, COUNT)]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def of_next(logits: np.ndarray, ids: list[int]) -> list[float | None]:
    """Log-probabilities of tokens, each given those before it."""
    return [None, *log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]].tolist()]


def by_transformers(made: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """Logits of a whole context."""
    with torch.no_grad():
        return made(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()


class Runtime:
    """An export and one conversation's cache."""

    def __init__(self, path: Path, config: object) -> None:
        graph = onnx.load(path)
        for node in graph.graph.node:
            # The cache as a ring, which needs a buffer as large as the window; what it gives is the same.
            for attribute in [a for a in node.attribute if a.name == "sliding_window_cache"]:
                node.attribute.remove(attribute)
        self.session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        self.inputs = {given.name: given for given in self.session.get_inputs()}
        self.outputs = [given.name for given in self.session.get_outputs()]
        shape = 1, config.num_key_value_heads, 0, config.head_dim
        self.cache = {name: np.zeros(shape, np.float32) for name in self.inputs if name.startswith("past_key_values.")}

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return next(iter(self.cache.values())).shape[2]

    def run(self, ids: list[int]) -> np.ndarray:
        """Logits of tokens that are appended."""
        past = self.length
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, past + len(ids)), np.int64),
            "position_ids": np.arange(past, past + len(ids), dtype=np.int64)[None],
            **self.cache,
        }
        values = self.session.run(None, {name: value for name, value in feed.items() if name in self.inputs})
        given = dict(zip(self.outputs, values))
        self.cache = {name: given[name.replace("past_key_values", "present")] for name in self.cache}
        return given["logits"][0]

    def slide(self, sinks: int, slide: int, angles: list[np.ndarray | None], neighbours: bool) -> None:
        """Drops tokens behind the sinks and turns the keys of later ones back."""
        for name, rows in self.cache.items():
            rest = rows[:, :, sinks + slide :]
            layer, what = name.split(".")[1:]
            if what == "key" and angles[int(layer)] is not None:
                rest = turned(rest, -slide * angles[int(layer)], neighbours)
            self.cache[name] = np.concatenate([rows[:, :, :sinks], rest], 2)


def turned(keys: np.ndarray, angles: np.ndarray, neighbours: bool) -> np.ndarray:
    """Keys turned by an angle for each pair."""
    count = len(angles)
    first, second = (np.s_[..., : 2 * count : 2], np.s_[..., 1 : 2 * count : 2])
    if not neighbours:
        first, second = np.s_[..., :count], np.s_[..., count : 2 * count]
    result = keys.astype(np.float64)
    one, other = result[first].copy(), result[second].copy()
    result[first] = one * np.cos(angles) - other * np.sin(angles)
    result[second] = other * np.cos(angles) + one * np.sin(angles)
    return result.astype(keys.dtype)


def slid(runtime: Runtime, ids: list[int], angles: list[np.ndarray | None], neighbours: bool) -> np.ndarray:
    """Logits in a sliding window."""
    rows = []
    for token in ids:
        if runtime.length == WINDOW["size"]:
            runtime.slide(WINDOW["sinks"], WINDOW["slide"], angles, neighbours)
        rows.append(runtime.run([token])[-1])
    return np.stack(rows)


def rounded(logprobs: list[float | None]) -> list[float | None]:
    """As many places as float32 is worth."""
    return [None if value is None else round(value, 6) for value in logprobs]


def largest(one: list[float | None], other: list[float | None]) -> float:
    """The largest difference."""
    return max(abs(a - b) for a, b in zip(one[1:], other[1:]))
