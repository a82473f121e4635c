"""Symmetric 8-bit quantisation in blocks of 32, as ONNX Runtime's MatMulNBits reads it.

A block of 32 neighbouring inputs of one output row shares a scale; a stored byte `q` means
`(q - 128) * scale`. 128 is the operator's zero point where none is given, so none is stored.
"""

from __future__ import annotations

import numpy as np

BLOCK = 32
ZERO_POINT = 128


def quantize(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[out, in] -> bytes [out, in / 32, 32] and scales [out, in / 32]."""
    rows, columns = matrix.shape
    if columns % BLOCK:
        raise ValueError(f"a matrix of {columns} columns cannot be cut into blocks of {BLOCK}")
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    scales = (np.abs(blocks).max(axis=-1) / 127).astype(np.float32)
    divisor = np.where(scales == 0, 1, scales)  # a block of zeros stays zeros
    quantized = np.rint(blocks / divisor[..., None]) + ZERO_POINT
    return quantized.clip(1, 255).astype(np.uint8), scales


def dequantize(quantized: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The matrix [out, in] that the bytes and scales stand for."""
    blocks = (quantized.astype(np.float32) - ZERO_POINT) * scales[..., None]
    return blocks.reshape(quantized.shape[0], -1)


def rounded(matrix: np.ndarray) -> np.ndarray:
    """The matrix as it is after quantisation."""
    return dequantize(*quantize(matrix))
