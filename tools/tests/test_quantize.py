"""The error of 8-bit and 4-bit blocks."""

import unittest

import numpy as np

from quantize import BLOCK, dequantize, quantize, quantize_between, rounded


class Quantize(unittest.TestCase):
    def test_error_is_at_most_half_a_step(self):
        matrix = np.random.default_rng(1).standard_normal((16, 4 * BLOCK)).astype(np.float32)
        quantized, scales = quantize(matrix)
        error = np.abs(dequantize(quantized, scales) - matrix).reshape(16, 4, BLOCK).max(axis=-1)
        self.assertTrue((error <= scales * 0.5001).all())

    def test_error_of_4_bits_is_at_most_a_step_and_mostly_half(self):
        matrix = np.random.default_rng(1).standard_normal((16, 4 * BLOCK)).astype(np.float32)
        quantized, scales = quantize(matrix, bits=4)
        self.assertEqual(quantized.shape, (16, 4, BLOCK // 2))
        steps = (dequantize(quantized, scales, bits=4) - matrix).reshape(16, 4, BLOCK) / scales[..., None]
        self.assertLessEqual(np.abs(steps).max(), 1.0001)  # what would be 8 becomes 7
        self.assertGreater((np.abs(steps) <= 0.5001).mean(), 0.95)

    def test_blocks_of_16_even_steps_are_kept_exactly(self):
        random = np.random.default_rng(3)
        codes = random.integers(0, 16, (8, 4, BLOCK))
        codes[..., 0], codes[..., 1] = 0, 15  # as a quantiser leaves them
        scales = random.uniform(0.01, 0.1, (8, 4)).astype(np.float16).astype(np.float32)
        least = random.uniform(-1, 0, (8, 4)).astype(np.float16).astype(np.float32)
        matrix = (codes * scales[..., None] + least[..., None]).astype(np.float32).reshape(8, -1)
        packed, found, zeros = quantize_between(matrix)
        np.testing.assert_array_equal(found, scales)
        np.testing.assert_array_equal(np.stack([packed & 15, packed >> 4], axis=-1).reshape(codes.shape), codes)
        np.testing.assert_allclose(-zeros * scales, least, rtol=1e-6)

    def test_the_largest_of_each_block_is_kept(self):
        matrix = np.random.default_rng(2).standard_normal((8, BLOCK)).astype(np.float32)
        for bits in (8, 4):
            kept = rounded(matrix, bits)
            np.testing.assert_allclose(np.abs(kept).max(axis=-1), np.abs(matrix).max(axis=-1), rtol=1e-6)

    def test_zeros_stay_zeros(self):
        for bits in (8, 4):
            np.testing.assert_array_equal(rounded(np.zeros((1, BLOCK), np.float32), bits), np.zeros((1, BLOCK)))

    def test_a_width_that_is_no_multiple_of_the_block_is_refused(self):
        with self.assertRaisesRegex(ValueError, "33 columns"):
            quantize(np.zeros((1, 33), np.float32))
