"""llama.cpp, through llama-cpp-python's low-level functions, as a worker of `cargo xtask bench`.

See protocol.py. `llama_decode`, the wait for its end and llama.cpp's own samplers are timed; the filling of
a batch from Python is not, which a program in C does in no time. A call a token is the only way it has: a
stream and single steps are the same to it.

Every request may bring settings: what is fastest differs from measure to measure, and a context is made in
a moment.

    peer_llama.py --threads N --kv f16|f32
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from time import perf_counter

import llama_cpp as llama
import numpy as np

from protocol import FIRST, MIN_P, TEMPERATURE, TOP_P, perplexities, serve, token_ids

# The most tokens of one `llama_decode`.
BATCH = 2048

# How keys and values are kept; numbers of `enum ggml_type`.
KV_TYPES = {"f32": 0, "f16": 1}


@dataclass(frozen=True)
class Settings:
    """How a context is driven; `ubatch` is the most tokens of one pass through the graph."""

    threads: int
    kv: str
    flash: bool = True
    ubatch: int = 512
    pooled: bool = False


class Context:
    """A context of llama.cpp with its conversations; they are freed together."""

    def __init__(self, model, settings: Settings, conversations: int, length: int) -> None:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = conversations * -(-length // 256) * 256
        parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = BATCH, settings.ubatch, conversations
        parameters.n_threads = parameters.n_threads_batch = settings.threads
        parameters.flash_attn_type = int(settings.flash)
        parameters.type_k = parameters.type_v = KV_TYPES[settings.kv]
        parameters.kv_unified = False
        if settings.pooled:
            parameters.embeddings, parameters.pooling_type = True, llama.LLAMA_POOLING_TYPE_MEAN
        self._context = llama.llama_init_from_model(model, parameters)
        if not self._context:
            raise MemoryError(f"no context for {conversations} conversations of {length} tokens with {settings}")
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        self._pooled = settings.pooled
        self._samplers = []
        self.lengths = [0] * conversations
        # What each conversation goes on with.
        self.next = [0] * conversations

    def free(self) -> None:
        """Gives the context's memory back."""
        for chain in self._samplers:
            llama.llama_sampler_free(chain)
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)

    def choose(self, sampled: bool) -> None:
        """From now on each conversation's tokens are chosen so, by a chain of its own."""
        self._samplers = [sampler(sampled, seed) for seed in range(len(self.lengths))]

    def copy_first(self) -> None:
        """Gives every conversation what the first has read; each has keys and values of its own."""
        memory = llama.llama_get_memory(self._context)
        for row in range(1, len(self.lengths)):
            llama.llama_memory_seq_cp(memory, 0, row, -1, -1)
            self.lengths[row], self.next[row] = self.lengths[0], self.next[0]

    def read(self, conversation: int, ids: list[int], all_logits: bool = False) -> float:
        """Appends tokens; the seconds that took. Of the last one the logits are wanted, or of all."""
        seconds = 0.0
        for start in range(0, len(ids), BATCH):
            piece = ids[start : start + BATCH]
            rows = [(conversation, token, all_logits or self._pooled) for token in piece]
            rows[-1] = (conversation, piece[-1], True)
            seconds += self.run(rows)
        if self._samplers:
            seconds += self._sample(conversation, -1)
        return seconds

    def decode(self, conversations: int) -> float:
        """One more token of each of the first conversations; the seconds that took."""
        seconds = self.run([(row, self.next[row], True) for row in range(conversations)])
        return seconds + sum(self._sample(row, row) for row in range(conversations))

    def _sample(self, conversation: int, row: int) -> float:
        start = perf_counter()
        self.next[conversation] = llama.llama_sampler_sample(self._samplers[conversation], self._context, row)
        return perf_counter() - start

    def run(self, rows: list[tuple[int, int, bool]]) -> float:
        """One `llama_decode`: rows of conversation, token, and whether its logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for place, (conversation, token, wanted) in enumerate(rows):
            batch.token[place], batch.pos[place] = token, self.lengths[conversation]
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, conversation
            batch.logits[place] = wanted
            self.lengths[conversation] += 1
        start = perf_counter()
        status = llama.llama_decode(self._context, batch)
        llama.llama_synchronize(self._context)
        seconds = perf_counter() - start
        if status:
            raise RuntimeError(f"llama_decode gave {status}")
        return seconds

    def logits(self, count: int, vocab: int) -> np.ndarray:
        """Of the last run, where all were wanted: [count, vocab]."""
        found = llama.llama_get_logits(self._context)
        return np.ctypeslib.as_array(found, shape=(count * vocab,)).reshape(count, vocab).copy()


def sampler(sampled: bool, seed: int):
    """A chain of llama.cpp's own samplers."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if sampled:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(TOP_P, 1))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_min_p(MIN_P, 1))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(TEMPERATURE))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
    else:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
    return chain


class Llama:
    """One model and at most one open context."""

    def __init__(self, threads: int, kv: str) -> None:
        self._threads, self._kv = threads, kv
        self._open: Context | None = None

    def load(self, model: str) -> dict:
        """Loads a GGUF file."""
        llama.llama_backend_init()
        start = perf_counter()
        self._model = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
        if not self._model:
            raise OSError(f"{model} does not load")
        context = self._context({}, 1, 256)
        seconds = perf_counter() - start
        context.choose(sampled=False)
        context.read(0, token_ids(0, 0, FIRST))
        first_seconds = perf_counter() - start
        context.free()
        return {"seconds": seconds, "first_seconds": first_seconds, "version": f"llama-cpp-python {llama.__version__}"}

    def open(
        self, conversations: int, context: int, room: int, sampled: bool = False, turns: bool = False,
        settings: dict | None = None,
    ) -> dict:
        """All have read what the first has; whether turns follow makes no difference here."""
        if self._open:
            self._open.free()
        self._open = self._context(settings, conversations, context + room)
        self._open.choose(sampled)
        seconds = self._open.read(0, token_ids(0, 0, context))
        self._open.copy_first()
        return {"seconds": seconds}

    def decode(
        self, conversations: int, tokens: int, sampled: bool = False, steps: bool = False,
        settings: dict | None = None,
    ) -> dict:
        """Of the first `conversations`; settings and sampling are those with which they were opened."""
        self._open.decode(conversations)
        return {"seconds": sum(self._open.decode(conversations) for _ in range(tokens))}

    def turn(self, tokens: int, settings: dict | None = None) -> dict:
        """Goes on in the one open conversation."""
        return {"seconds": self._open.read(0, token_ids(0, self._open.lengths[0], tokens))}

    def prefill(self, tokens: int, settings: dict | None = None) -> dict:
        """Greedy: the choice of one token is nothing beside the reading."""
        context = self._context(settings, 1, tokens)
        context.choose(sampled=False)
        seconds = context.read(0, token_ids(0, 0, tokens))
        context.free()
        return {"seconds": seconds}

    def embed(self, tokens: int, settings: dict | None = None) -> dict:
        """By its own pooling of the hidden states, or only read, whichever the settings say is faster."""
        context = self._context(settings, 1, tokens)
        seconds = context.read(0, token_ids(0, 0, tokens))
        context.free()
        return {"seconds": seconds}

    def perplexity(self) -> dict:
        """Each text in one batch."""
        return perplexities(self._logits)

    def _logits(self, ids: list[int]) -> np.ndarray:
        context = self._context({}, 1, len(ids))
        context.read(0, ids, all_logits=True)
        logits = context.logits(len(ids), llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model)))
        context.free()
        return logits

    def _context(self, settings: dict | None, conversations: int, length: int) -> Context:
        default = {"threads": self._threads, "kv": self._kv}
        return Context(self._model, Settings(**(default | (settings or {}))), conversations, length)


def main() -> None:
    """Parses the settings and serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--kv", choices=tuple(KV_TYPES), required=True)
    arguments = parser.parse_args()
    worker = Llama(arguments.threads, arguments.kv)
    names = ("load", "open", "decode", "prefill", "embed", "turn", "perplexity")
    serve({name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    main()
