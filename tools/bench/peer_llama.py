"""llama.cpp, through llama-cpp-python's low-level functions, as a worker of `cargo xtask bench`.

See protocol.py. Only `llama_decode` and the wait for its end are timed: neither the filling of a
batch from Python nor sampling is, which is to the peer's advantage.

    peer_llama.py [--threads N] [--flash on|off] [--unified on|off]
"""

from __future__ import annotations

import argparse
from time import perf_counter

import llama_cpp as llama
import numpy as np

from protocol import perplexities, serve, token_ids

# The most tokens of one `llama_decode`, and of one pass through the graph.
BATCH, UBATCH = 2048, 512


class Context:
    """A context of llama.cpp with its conversations; they are freed together."""

    def __init__(self, model, settings: argparse.Namespace, conversations: int, length: int, pooled: bool) -> None:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = conversations * -(-length // 256) * 256
        parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = BATCH, UBATCH, conversations
        parameters.n_threads = parameters.n_threads_batch = settings.threads
        parameters.flash_attn_type = settings.flash == "on"
        parameters.kv_unified = settings.unified == "on"
        if pooled:
            parameters.embeddings, parameters.pooling_type = True, llama.LLAMA_POOLING_TYPE_MEAN
        self._context = llama.llama_init_from_model(model, parameters)
        if not self._context:
            raise MemoryError(f"no context for {conversations} conversations of {length} tokens")
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        self._pooled = pooled
        self._room = length
        self.lengths = [0] * conversations
        # The length to which all can go back.
        self.read_context = 0

    def free(self) -> None:
        """Gives the context's memory back."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)

    def can_go_back(self, conversations: int, context: int, room: int) -> bool:
        """Whether enough conversations have read just this context, and have the room."""
        return self.read_context == context and conversations <= len(self.lengths) and context + room <= self._room

    def go_back(self, context: int) -> None:
        """Drops all tokens after the first `context` of every conversation."""
        memory = llama.llama_get_memory(self._context)
        for row in range(len(self.lengths)):
            if not llama.llama_memory_seq_rm(memory, row, context, -1):
                raise RuntimeError(f"conversation {row} does not go back to {context} tokens")
            self.lengths[row] = context

    def read(self, conversation: int, ids: list[int], all_logits: bool = False) -> float:
        """Appends tokens to one conversation; returns the seconds it took."""
        seconds = 0.0
        for start in range(0, len(ids), BATCH):
            piece = ids[start : start + BATCH]
            rows = [(conversation, token, all_logits or self._pooled) for token in piece]
            rows[-1] = (conversation, piece[-1], True)
            seconds += self.run(rows)
        return seconds

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


class Llama:
    """One model and at most one open context."""

    def __init__(self, settings: argparse.Namespace) -> None:
        self._settings = settings
        self._open: Context | None = None

    def load(self, model: str) -> dict:
        """Loads a GGUF file."""
        llama.llama_backend_init()
        start = perf_counter()
        self._model = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
        if not self._model:
            raise OSError(f"{model} does not load")
        self._context(1, 256).free()
        return {"seconds": perf_counter() - start, "version": f"llama-cpp-python {llama.__version__}"}

    def open(self, conversations: int, context: int, room: int) -> dict:
        """In place of those before: conversations that have read `context` tokens, with place for `room` more.

        Where more of them have read the same already, they only go back to it.
        """
        if self._open and self._open.can_go_back(conversations, context, room):
            self._open.go_back(context)
            return {"seconds": 0.0}
        if self._open:
            self._open.free()
        self._open = self._context(conversations, context + room)
        self._open.read_context = context
        return {"seconds": sum(self._open.read(row, token_ids(row, 0, context)) for row in range(conversations))}

    def decode(self, conversations: int, tokens: int) -> dict:
        """`tokens` more of each of the first `conversations` that are open."""
        seconds = 0.0
        for _ in range(tokens):
            lengths = self._open.lengths
            seconds += self._open.run([(row, *token_ids(row, lengths[row], 1), True) for row in range(conversations)])
        return {"seconds": seconds}

    def prefill(self, tokens: int) -> dict:
        """From an empty conversation to the logits of its last token."""
        context = self._context(1, tokens)
        seconds = context.read(0, token_ids(0, 0, tokens))
        context.free()
        return {"seconds": seconds}

    def embed(self, tokens: int) -> dict:
        """The mean of the hidden states, by llama.cpp's own pooling."""
        context = self._context(1, tokens, pooled=True)
        seconds = context.read(0, token_ids(0, 0, tokens))
        context.free()
        return {"seconds": seconds}

    def turn(self, context: int, tokens: int) -> dict:
        """The logits after `tokens` more on `context`, and after reading all of it again."""
        held = self._context(1, context + tokens)
        held.read(0, token_ids(0, 0, context))
        seconds = held.read(0, token_ids(0, context, tokens))
        held.free()
        return {"seconds": seconds, "again_seconds": self.prefill(context + tokens)["seconds"]}

    def perplexity(self) -> dict:
        """Each text in one batch."""
        return perplexities(self._logits)

    def _logits(self, ids: list[int]) -> np.ndarray:
        context = self._context(1, len(ids))
        context.read(0, ids, all_logits=True)
        logits = context.logits(len(ids), llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model)))
        context.free()
        return logits

    def _context(self, conversations: int, length: int, pooled: bool = False) -> Context:
        return Context(self._model, self._settings, conversations, length, pooled)


def main() -> None:
    """Parses the settings and serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--flash", choices=("on", "off"), default="on")
    parser.add_argument("--unified", choices=("on", "off"), default="off")
    worker = Llama(parser.parse_args())
    names = ("load", "open", "decode", "prefill", "embed", "turn", "perplexity")
    serve({name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    main()
