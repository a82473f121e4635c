"""Calibrations by numpy, for a test of those that `src/calibration` makes: `tests/fixtures/calibration.json`.

    calibration_reference.py --out FILE

Vectors and an output projection are made up by a generator that any language has, the formulas are written down
as they stand in a textbook, and what is compared is what callers see: cosines of a few vectors, of all numbers and
of the first three. Signs of directions and the scale of a matrix leave both as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

HIDDEN, VOCAB, TEXTS, PROBES, CUT, SHRINKAGE = 8, 50, 40, 5, 3, 0.1


def made_up(seed: int, rows: int) -> np.ndarray:
    """[rows, HIDDEN] of f32: columns of rising size around other means."""
    numbers = np.empty(rows * HIDDEN, np.float32)
    for index in range(numbers.size):
        seed = (seed * 1664525 + 1013904223) % 2**32
        numbers[index] = np.float32(seed >> 8) / np.float32(2**24) - np.float32(0.5)
    column = np.arange(HIDDEN, dtype=np.float32)
    return numbers.reshape(rows, HIDDEN) * (column + np.float32(1)) + column


def falling(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors, the largest first."""
    values, vectors = np.linalg.eigh(symmetric)
    return values[::-1], vectors[:, ::-1]


def covariance(rows: np.ndarray) -> np.ndarray:
    """Divided by the number of rows."""
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / len(rows)


def logits(projection: np.ndarray) -> np.ndarray:
    """G with G G' the covariance of the projection's rows, its columns by falling length."""
    values, vectors = falling(covariance(projection))
    return vectors * np.sqrt(values)


def whitening(space: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Of unlabelled texts, in the space of logits: half of a whitening, with shrinkage."""
    values, vectors = falling(covariance(texts @ space))
    return space @ (vectors * (values + SHRINKAGE * values.mean()) ** -0.25)


def discriminants(space: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of pairs, in the space of logits: the scatter within pairs becomes 1, and the total's directions are sorted."""
    one, other = one @ space, other @ space
    within = (one - other).T @ (one - other) / (2 * len(one))
    total = covariance(np.concatenate([one, other]))
    within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    inverse = np.linalg.inv(np.linalg.cholesky(within))
    return space @ inverse.T @ falling(inverse @ total @ inverse.T)[1]


def cosines(vectors: np.ndarray) -> list[list[float]]:
    """Of each with each."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.round(unit @ unit.T, 9).tolist()


def answers(matrix: np.ndarray, mean: np.ndarray) -> dict:
    """What a calibration makes of a few vectors."""
    vectors = (made_up(5, PROBES).astype(np.float64) - mean) @ matrix
    return {"all": cosines(vectors), "first": cosines(vectors[:, :CUT])}


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    out = parser.parse_args().out
    projection, texts, one, noise = (
        made_up(seed, rows).astype(np.float64) for seed, rows in [(1, VOCAB), (2, TEXTS), (3, TEXTS), (4, TEXTS)]
    )
    # The second of a pair is the first one and some of another.
    other = (one.astype(np.float32) + noise.astype(np.float32) * np.float32(0.25)).astype(np.float64)
    space = logits(projection)
    reference = {
        "weights": answers(space, np.zeros(HIDDEN)),
        "texts": answers(whitening(space, texts), texts.mean(axis=0)),
        "pairs": answers(discriminants(space, one, other), np.concatenate([one, other]).mean(axis=0)),
    }
    out.write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
