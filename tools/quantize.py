"""Symmetric quantisation in blocks of 32, as ONNX Runtime's MatMulNBits reads it, in 8 or 4 bits.

A block of 32 neighbouring inputs of one output row shares a scale; a stored number `q` means
`(q - zero) * scale`. The zero point is the operator's own where none is given, 128 or 8, so none is
stored. Two numbers of 4 bits share a byte, the first one in its lower half.
"""

from __future__ import annotations

import numpy as np

BLOCK = 32


def quantize(matrix: np.ndarray, bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """[out, in] -> bytes [out, in / 32, 32 * bits / 8] and scales [out, in / 32]."""
    rows, columns = matrix.shape
    if columns % BLOCK:
        raise ValueError(f"a matrix of {columns} columns cannot be cut into blocks of {BLOCK}")
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    scales = (_scales_of_8 if bits == 8 else _scales_of_4)(blocks).astype(np.float32)
    divisor = np.where(scales == 0, 1, scales)  # a block of zeros stays zeros
    zero = 1 << bits - 1
    quantized = (np.rint(blocks / divisor[..., None]) + zero).clip(0, 2 * zero - 1).astype(np.uint8)
    return (quantized if bits == 8 else quantized[..., ::2] | quantized[..., 1::2] << 4), scales


def quantize_between(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[out, in] -> 4-bit codes, scales and zero points that are floats: 0 is a block's least number, 15 its
    largest.

    This is how Q4_1 blocks of a GGUF were made, so that a matrix read from one is kept exactly, up to
    roundings of f32. Its scales and least numbers were f16: they are found again by rounding to it.
    """
    blocks = matrix.reshape(matrix.shape[0], -1, BLOCK)
    least = blocks.min(axis=-1)
    scales = _as_f16((blocks.max(axis=-1) - least) / 15)
    divisor = np.where(scales == 0, 1, scales)
    codes = np.rint((blocks - least[..., None]) / divisor[..., None]).clip(0, 15).astype(np.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4, scales, (-least / divisor).astype(np.float32)


def _as_f16(numbers: np.ndarray) -> np.ndarray:
    """Numbers that are f16 but for a few roundings of f32 become it; others stay."""
    half = numbers.astype(np.float16).astype(np.float32)
    return np.where(np.abs(half - numbers) <= 1e-5 * np.abs(numbers), half, numbers).astype(np.float32)


def _scales_of_8(blocks: np.ndarray) -> np.ndarray:
    """The largest of a block becomes 127 or -127."""
    return np.abs(blocks).max(axis=-1) / 127


def _scales_of_4(blocks: np.ndarray) -> np.ndarray:
    """The largest of a block becomes -8, whatever its sign: there is no 8, and one step in 16 counts."""
    largest = np.abs(blocks).argmax(axis=-1)[..., None]
    return np.take_along_axis(blocks, largest, axis=-1)[..., 0] / -8


def dequantize(quantized: np.ndarray, scales: np.ndarray, bits: int = 8) -> np.ndarray:
    """The matrix [out, in] that the bytes and scales stand for."""
    if bits == 4:
        quantized = np.stack([quantized & 15, quantized >> 4], axis=-1).reshape(*scales.shape, BLOCK)
    blocks = (quantized.astype(np.float32) - (1 << bits - 1)) * scales[..., None]
    return blocks.reshape(quantized.shape[0], -1)


def rounded(matrix: np.ndarray, bits: int = 8) -> np.ndarray:
    """The matrix as it is after quantisation."""
    return dequantize(*quantize(matrix, bits), bits)
