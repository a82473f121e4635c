"""OpenVINO GenAI as a worker of `cargo xtask bench`; see protocol.py.

Its ContinuousBatchingPipeline with paged attention, which is what its LLMPipeline is made of on a CPU; it
reads GGUF files itself. Settings are its defaults (keys and values in 8 bits among them). A step of the
pipeline is a token of every conversation; a conversation is a request, so that a next turn is a new
request, for which a second pipeline keeps what it has read (`enable_prefix_caching`).

    peer_openvino.py --threads N
"""

from __future__ import annotations

import argparse
from itertools import count
from time import perf_counter

import numpy as np
import openvino as ov
import openvino_genai as genai

from protocol import FIRST, MIN_P, TEMPERATURE, TOP_P, serve, texts, token_ids

# Gigabytes for keys and values.
CACHE = 2


class OpenVino:
    """One model, with the requests that are open and the conversation that takes turns."""

    def __init__(self, threads: int) -> None:
        self._properties = {"INFERENCE_NUM_THREADS": threads}
        self._ids = count()
        self._open: list = []
        self._turns = None

    def load(self, model: str) -> dict:
        """Loads a GGUF file."""
        start = perf_counter()
        self._model = model
        self._pipeline = self._load(prefix_caching=False)
        seconds = perf_counter() - start
        self.prefill(FIRST)
        version = f"openvino-genai {genai.__version__}"
        return {"seconds": seconds, "first_seconds": perf_counter() - start, "version": version}

    def open(self, conversations: int, context: int, room: int, sampled: bool = False, turns: bool = False) -> dict:
        """For turns the one conversation is read into the pipeline that keeps it."""
        start = perf_counter()
        self._close()
        if turns:
            self._turns = self._turns or self._load(prefix_caching=True)
            self._history = token_ids(0, 0, context)
            self._answer(self._turns)
        else:
            config = self._config(room + 2, sampled)
            self._open = [self._ask(self._pipeline, token_ids(row, 0, context), config) for row in range(conversations)]
            waiting = list(self._open)
            while waiting:
                self._pipeline.step()
                waiting = [handle for handle in waiting if not handle.can_read()]
            self._read()
        return {"seconds": perf_counter() - start}

    def decode(self, conversations: int, tokens: int, sampled: bool = False, steps: bool = False) -> dict:
        """All that are open: `conversations` is their number, and how they are sampled was said when they were opened."""
        if steps:
            raise ValueError("a request of one token is a prompt to it")
        self._pipeline.step()
        self._read()
        start = perf_counter()
        for _ in range(tokens):
            self._pipeline.step()
        seconds = perf_counter() - start
        found = self._read()
        if found != conversations * tokens:
            raise RuntimeError(f"{tokens} tokens of {conversations} conversations were asked for, {found} came")
        return {"seconds": seconds}

    def turn(self, tokens: int) -> dict:
        """A request with all of the conversation so far, of which only the end is new."""
        self._history += token_ids(0, len(self._history), tokens)
        start = perf_counter()
        self._answer(self._turns)
        return {"seconds": perf_counter() - start}

    def prefill(self, tokens: int) -> dict:
        """Greedy: the choice of one token is nothing beside the reading."""
        ids, config = token_ids(0, 0, tokens), self._config(1)
        start = perf_counter()
        self._run(self._pipeline, ids, config)
        return {"seconds": perf_counter() - start}

    def embed(self, tokens: int) -> dict:
        """Its embeddings are of other models: reading the text is what it costs at least."""
        return self.prefill(tokens)

    def perplexity(self) -> dict:
        """Of the texts as prompts that are echoed with their log-probabilities."""
        return {name: self._perplexity(ids) for name, ids in texts().items()}

    def _perplexity(self, ids: list[int]) -> float:
        config = self._config(1)
        config.echo, config.logprobs = True, 1
        output = self._run(self._pipeline, ids, config)
        if list(output.generated_ids[: len(ids)]) != ids:
            raise RuntimeError("the prompt was not echoed")
        return float(np.exp(-np.mean(output.generated_log_probs[1 : len(ids)])))

    def _answer(self, pipeline) -> None:
        """Its first token after the whole history, which is not kept in it: all engines read the same."""
        self._run(pipeline, self._history, self._config(1))

    def _run(self, pipeline, ids: list[int], config):
        handle = self._ask(pipeline, ids, config)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return handle.read_all()[0]

    def _ask(self, pipeline, ids: list[int], config):
        return pipeline.add_request(next(self._ids), ov.Tensor(np.array([ids], np.int64)), config)

    def _read(self) -> int:
        """Takes the tokens that have come; their number."""
        tokens = 0
        for handle in self._open:
            # A step's tokens at a time.
            while handle.can_read():
                tokens += sum(len(output.generated_ids) for output in handle.read().values())
        return tokens

    def _close(self) -> None:
        for handle in self._open:
            handle.cancel()
        self._open = []
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def _config(self, tokens: int, sampled: bool = False):
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = tokens, True
        if sampled:
            config.do_sample, config.temperature, config.top_p, config.min_p = True, TEMPERATURE, TOP_P, MIN_P
        return config

    def _load(self, prefix_caching: bool):
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.enable_prefix_caching = CACHE, prefix_caching
        return genai.ContinuousBatchingPipeline(self._model, scheduler, "CPU", self._properties)


def main() -> None:
    """Parses the settings and serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    worker = OpenVino(parser.parse_args().threads)
    names = ("load", "open", "decode", "prefill", "embed", "turn", "perplexity")
    serve({name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    main()
