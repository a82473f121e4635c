"""How `cargo xtask bench` talks to a worker: a JSON object a line, one answer to each request.

    {"op": "decode", "conversations": 8, "tokens": 16}  ->  {"ok": {"seconds": 0.41}}
                                                        or  {"error": "what was wrong"}

`benches/worker/` speaks the same. A worker that waits for its next request is blocked on a read, so
that it takes nothing from the one that is being measured. What an engine prints goes to standard
error: standard output is the protocol's alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

TEXTS = Path(__file__).parent.parent / "texts" / "token_ids.json"


def serve(operations: dict[str, Callable[..., dict]]) -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": operations[request.pop("op")](**request)}
        except Exception as error:  # noqa: BLE001: whatever it is, the other side is to hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def token_ids(conversation: int, start: int, count: int) -> list[int]:
    """Tokens of a conversation from place `start` on: the same in every worker, none of them special."""
    return [1000 + (conversation * 7919 + place * 104_729) % 40_000 for place in range(start, start + count)]


def perplexities(logits_of: Callable[[list[int]], np.ndarray]) -> dict[str, float]:
    """Of the two committed texts, by an engine that gives the logits after each token."""
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    return {name: perplexity(logits_of(ids), ids) for name, ids in texts.items()}


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    """Of each token but the first, given all before it; logits are [tokens, vocab]."""
    logits = logits[:-1].astype(np.float64)
    highest = logits.max(axis=-1)
    normaliser = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=-1))
    chosen = logits[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp((normaliser - chosen).mean()))
