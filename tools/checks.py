"""Is a conversion of SmolLM2-135M-Instruct right? Two questions, asked of ONNX Runtime itself.

Logits: the graph against the numpy forward pass of the same weights, read in pieces so that the
cache is used too. Perplexity: two known texts, whose token ids are committed beside them; a wrong
rotation or a permuted weight makes it many times larger.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from gguf_model import Model
from manifest import differences
from reference import Reference, log_softmax

TEXTS = Path(__file__).parent / "texts" / "token_ids.json"
# Perplexity of the float32 model over the 800 tokens of each text.
PERPLEXITY = {"code": 12.634, "english": 14.301}
# How far a form may be from it, relatively.
PERPLEXITY_TOLERANCE = {"plain": 0.01, "gqa": 0.02}
# Of log-probabilities; both sides compute in float32, in a different order.
LOGPROB_TOLERANCE = 1e-3
# A long first piece, a single token, and several tokens on a filled cache.
PIECES = (40, 1, 23)


class CheckFailed(Exception):
    """The conversion is not what it should be."""


class Conversation:
    """One conversation with a graph of either form; the cache grows by what each run returns."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        inputs = {value.name: value for value in session.get_inputs()}
        self._wants_positions = "position_ids" in inputs
        self._outputs = [value.name for value in session.get_outputs()]
        self._past = {
            name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for name, value in inputs.items()
            if name.startswith("past_key_values.")
        }
        self._length = 0

    def forward(self, token_ids: list[int]) -> np.ndarray:
        """Appends the tokens and returns the logits after each of them, [tokens, vocab]."""
        end = self._length + len(token_ids)
        feeds = {"input_ids": np.array([token_ids]), "attention_mask": np.ones((1, end), np.int64), **self._past}
        if self._wants_positions:
            feeds["position_ids"] = np.arange(self._length, end)[None]
        results = dict(zip(self._outputs, self._session.run(None, feeds), strict=True))
        self._past = {name: results[name.replace("past_key_values", "present")] for name in self._past}
        self._length = end
        return results["logits"][0]


def open_session(folder: Path, accuracy_level: int | None = None) -> ort.InferenceSession:
    """Loads `model.onnx`, where asked with another accuracy level for the quantised products."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    if accuracy_level is not None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = accuracy_level
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def texts() -> dict[str, list[int]]:
    """The token ids of the two texts."""
    return json.loads(TEXTS.read_text(encoding="utf-8"))


def check_logits(folder: Path, name: str, weights: Model) -> str:
    """Compares the graph with the numpy forward pass of `weights`; returns a line to print.

    # Errors: `CheckFailed` where a log-probability differs by more than `LOGPROB_TOLERANCE`.
    """
    token_ids = texts()["code"][: sum(PIECES)]
    # Level 1 keeps activations in float32, so that only the graph is judged, not their rounding.
    graph, reference = Conversation(open_session(folder, accuracy_level=1)), Reference(weights)
    worst, start = 0.0, 0
    for size in PIECES:
        piece = token_ids[start : start + size]
        found, expected = log_softmax(graph.forward(piece)), log_softmax(reference.forward(piece))
        worst = max(worst, float(np.abs(found - expected).max()))
        start += size
    line = f"{name}: log-probabilities differ from the numpy forward pass by at most {worst:.1e}"
    if not worst <= LOGPROB_TOLERANCE:
        raise CheckFailed(f"{line}; allowed are {LOGPROB_TOLERANCE:.0e}")
    return line


def check_perplexity(folder: Path, name: str, form: str) -> list[str]:
    """Measures the perplexity of both texts; returns the lines to print.

    # Errors: `CheckFailed` where one is further than `PERPLEXITY_TOLERANCE` from the model's own.
    """
    session, lines = open_session(folder), []
    for text, token_ids in texts().items():
        logits = Conversation(session).forward(token_ids)
        found, expected, tolerance = perplexity(logits, token_ids), PERPLEXITY[text], PERPLEXITY_TOLERANCE[form]
        line = f"{name}: perplexity of {text} {found:.3f}, of the float32 model {expected:.3f}"
        if not abs(found / expected - 1) <= tolerance:
            raise CheckFailed(f"{line}; allowed are {tolerance:.0%} of difference")
        lines.append(line)
    return lines


def perplexity(logits: np.ndarray, token_ids: list[int]) -> float:
    """Of each token but the first, given all before it."""
    logprobs = log_softmax(logits[:-1])[np.arange(len(token_ids) - 1), token_ids[1:]]
    return float(np.exp(-logprobs.mean()))


def check_manifest(folder: Path) -> None:
    """# Errors: `CheckFailed` where a file is not what the manifest says."""
    found = differences(folder)
    if found:
        raise CheckFailed(f"{folder.name}: {', '.join(found)}")
