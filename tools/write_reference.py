"""Writes tests/fixtures/smollm2-reference.json: what the numpy forward pass says about 200 tokens.

    cargo xtask reference

The test suite compares the float32 form with it, through the whole system. Fields:

    prompt                 200 token ids, the beginning of texts/code.txt
    prompt_logprobs        of each of them given all before it; null for the first
    continuation           the 32 tokens that greedy decoding appends
    continuation_logprobs  of each of those
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from checks import texts
from convert_gguf import gguf_file
from gguf_model import GgufFile, Model
from reference import Reference, log_softmax

PROMPT = 200
CONTINUATION = 32
# Where the best two tokens are closer than this, rounding could choose the other one.
MARGIN_MIN = 0.01


def reference(model: Model, prompt: list[int]) -> dict:
    """Runs the prompt, then decodes greedily."""
    conversation = Reference(model)
    logprobs = log_softmax(conversation.forward(prompt))
    of_prompt = logprobs[np.arange(len(prompt) - 1), prompt[1:]]
    continuation, of_continuation = [], []
    for _ in range(CONTINUATION):
        second, best = np.argsort(logprobs[-1])[-2:]
        margin = logprobs[-1, best] - logprobs[-1, second]
        if margin < MARGIN_MIN:
            raise ValueError(f"token {len(continuation)}: the best two are only {margin:.4f} apart; take another prompt")
        continuation.append(int(best))
        of_continuation.append(logprobs[-1, best])
        logprobs = log_softmax(conversation.forward([int(best)]))
    return {
        "prompt": prompt,
        "prompt_logprobs": [None, *np.round(of_prompt, 6).tolist()],
        "continuation": continuation,
        "continuation_logprobs": np.round(of_continuation, 6).tolist(),
    }


def main() -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="the GGUF file, or a wheel that holds it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    arguments = parser.parse_args()
    with gguf_file(arguments.source) as path:
        model = GgufFile(path).model()
    fields = reference(model, texts()["code"][:PROMPT])
    lines = (f' "{key}": {json.dumps(value)}' for key, value in fields.items())
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
