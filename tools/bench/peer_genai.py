"""onnxruntime-genai as a worker of `cargo xtask bench`; see protocol.py.

A generator is one batch of conversations of equal length that share a KV buffer; its decode is the
engine's own loop in C++, sampling included. A call a token is the only way it has: a stream and single
steps are the same to it.

    peer_genai.py --threads N
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter

import numpy as np
import onnxruntime
import onnxruntime_genai as og

from protocol import FIRST, TEMPERATURE, TOP_P, perplexities, serve, token_ids


class Genai:
    """One model and at most one open batch."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._open: og.Generator | None = None
        self._length = 0

    def load(self, model: str) -> dict:
        """Loads a folder that has a genai_config.json."""
        og.disable_telemetry_events()
        start = perf_counter()
        config = og.Config(model)
        session = {"intra_op_num_threads": self._threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = og.Model(config)
        seconds = perf_counter() - start
        self._read(self._generator(1, FIRST + 1), 0, FIRST)
        version = f"onnxruntime-genai {og.__version__} on onnxruntime {onnxruntime.__version__}"
        return {"seconds": seconds, "first_seconds": perf_counter() - start, "version": version}

    def open(self, conversations: int, context: int, room: int, sampled: bool = False, turns: bool = False) -> dict:
        """Whether turns follow makes no difference here."""
        self._open = None
        start = perf_counter()
        generator = self._generator(conversations, context + room, sampled)
        generator.append_tokens(batch(conversations, 0, context))
        generator.generate_next_token()
        self._open, self._length = generator, context
        return {"seconds": perf_counter() - start}

    def decode(self, conversations: int, tokens: int, sampled: bool = False, steps: bool = False) -> dict:
        """All that are open: `conversations` is their number, and how they are sampled was said when they were opened."""
        self._open.generate_next_token()
        start = perf_counter()
        for _ in range(tokens):
            self._open.generate_next_token()
        return {"seconds": perf_counter() - start}

    def turn(self, tokens: int) -> dict:
        """Goes on in the one open conversation."""
        seconds = self._read(self._open, self._length, tokens)
        self._length += tokens
        return {"seconds": seconds}

    def prefill(self, tokens: int) -> dict:
        """Greedy: the choice of one token is nothing beside the reading."""
        return {"seconds": self._read(self._generator(1, tokens + 1), 0, tokens)}

    def embed(self, tokens: int) -> dict:
        """There is no call for it: reading the text is what it costs at least."""
        return self.prefill(tokens)

    def perplexity(self) -> dict:
        """Token by token: the logits of a prompt's last token alone are given out."""
        return perplexities(self._logits)

    def _logits(self, ids: list[int]) -> np.ndarray:
        generator = self._generator(1, len(ids) + 1)
        rows = []
        for token in ids:
            generator.append_tokens(np.array([[token]], np.int32))
            rows.append(np.array(generator.get_logits()).reshape(-1))
        return np.stack(rows)

    def _generator(self, conversations: int, length: int, sampled: bool = False) -> og.Generator:
        parameters = og.GeneratorParams(self._model)
        # It has no min-p.
        choice = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0, "random_seed": 1}
        # The least length keeps an end token from ending the measurement.
        parameters.set_search_options(
            batch_size=conversations,
            max_length=length + 1,
            min_length=length + 1,
            **(choice if sampled else {"do_sample": False}),
        )
        return og.Generator(self._model, parameters)

    def _read(self, generator: og.Generator, start: int, count: int) -> float:
        began = perf_counter()
        generator.append_tokens(batch(1, start, count))
        generator.generate_next_token()
        return perf_counter() - began


def batch(conversations: int, start: int, count: int) -> np.ndarray:
    """[conversations, count]"""
    return np.array([token_ids(row, start, count) for row in range(conversations)], np.int32)


def main() -> None:
    """Parses the settings and serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    genai = Genai(parser.parse_args().threads)
    names = ("load", "open", "decode", "prefill", "embed", "turn", "perplexity")
    serve({name: getattr(genai, name) for name in names})


if __name__ == "__main__":
    main()
