"""How `cargo xtask bench` talks to a worker: a JSON object a line, one answer to each request.

    {"op": "decode", "conversations": 8, "tokens": 16}  ->  {"ok": {"seconds": 0.41}}
                                                        or  {"error": "what was wrong"}

`benches/worker/` speaks the same. A worker that waits for its next request is blocked on a read, so
that it takes nothing from the one that is being measured. What an engine prints goes to standard
error: standard output is the protocol's alone.

What every worker can be asked (lengths are in tokens, times in seconds):

    load    a model; until it can be asked, and until the first token after a prompt of FIRST tokens
    open    in place of those before: conversations that have read `context` tokens, with place for `room` more
    decode  so many more tokens of each open conversation, after one that is not timed
    turn    the first token after so many more tokens, in the one open conversation
    prefill from an empty conversation to its first token
    embed   the vector of a text
    perplexity of the committed texts
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

TEXTS = Path(__file__).parent.parent / "texts" / "token_ids.json"

# How the sampled decodes choose: the likeliest tokens with this probability together, less those that are less than
# MIN_P times as likely as the likeliest.
TEMPERATURE, TOP_P, MIN_P = 1.0, 0.9, 0.05

# The prompt by which a load is judged: an engine that reads its weights only when it needs them has to by then.
FIRST = 16

# Places between the beginnings of two conversations in the texts.
APART = 97


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
    """Tokens of a conversation from place `start` on: the same in every worker.

    They are those of the committed texts, over and over, and each conversation begins elsewhere: what an
    engine samples from is then as narrow as it is on real text.
    """
    ids = _all_ids()
    return [ids[(conversation * APART + place) % len(ids)] for place in range(start, start + count)]


@cache
def _all_ids() -> list[int]:
    return [id for _, ids in sorted(texts().items()) for id in ids]


def texts() -> dict[str, list[int]]:
    """The two committed texts."""
    return json.loads(TEXTS.read_text(encoding="utf-8"))


def perplexities(logits_of: Callable[[list[int]], np.ndarray]) -> dict[str, float]:
    """Of the two committed texts, by an engine that gives the logits after each token."""
    return {name: perplexity(logits_of(ids), ids) for name, ids in texts().items()}


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    """Of each token but the first, given all before it; logits are [tokens, vocab]."""
    logits = logits[:-1].astype(np.float64)
    highest = logits.max(axis=-1)
    normaliser = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=-1))
    chosen = logits[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp((normaliser - chosen).mean()))
