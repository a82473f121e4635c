"""Greedy answers of a GroupQueryAttention export by ONNX Runtime alone, for tests/reference.rs.

Standard input: {"model": path of the graph, "accuracy_level": null for that of the graph, "conversations": [[{"token_ids": [...], "count": n}, ...], ...]}.
Standard output: for each turn {"token_ids": [...], "logprobs": [...]}. Each turn's tokens are read in
one run, each sampled token in a run of its own, with the cache in one growing tensor a layer.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime as ort


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


class Conversation:
    def __init__(self, session):
        self.session = session
        past = [i for i in session.get_inputs() if i.name.startswith("past_key_values")]
        head_dim = 16
        self.cache = {i.name: np.zeros((1, i.shape[1], 0, head_dim), np.float32) for i in past}
        self.length = 0

    def read(self, tokens):
        """Runs the tokens and returns the log-probabilities of the next one."""
        self.length += len(tokens)
        feed = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, self.length), np.int64),
            **self.cache,
        }
        names = ["logits"] + [n.replace("past_key_values", "present") for n in self.cache]
        logits, *present = self.session.run(names, feed)
        self.cache = dict(zip(self.cache, present))
        return log_softmax(logits[0, -1])

    def turn(self, tokens, count):
        token_ids, logprobs = [], []
        for _ in range(count):
            scores = self.read(tokens)
            token = int(scores.argmax())
            token_ids.append(token)
            logprobs.append(float(scores[token]))
            tokens = [token]
        self.unread = tokens
        return {"token_ids": token_ids, "logprobs": logprobs}


def at_level(path, level):
    """The model with another accuracy level in all its products, as bytes."""
    model = onnx.load(path)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = level
    return model.SerializeToString()


def main():
    job = json.load(sys.stdin)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = job["model"]
    if job["accuracy_level"] is not None:
        model = at_level(model, job["accuracy_level"])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers = []
    for turns in job["conversations"]:
        conversation, unread = Conversation(session), []
        answers.append([])
        for turn in turns:
            answers[-1].append(conversation.turn(unread + turn["token_ids"], turn["count"]))
            unread = conversation.unread
    json.dump(answers, sys.stdout)


main()
