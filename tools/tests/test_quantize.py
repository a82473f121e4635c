"""The error of 8-bit blocks."""

import unittest

import numpy as np

from quantize import BLOCK, dequantize, quantize


class Quantize(unittest.TestCase):
    def test_error_is_at_most_half_a_step(self):
        matrix = np.random.default_rng(1).standard_normal((16, 4 * BLOCK)).astype(np.float32)
        quantized, scales = quantize(matrix)
        error = np.abs(dequantize(quantized, scales) - matrix).reshape(16, 4, BLOCK).max(axis=-1)
        self.assertTrue((error <= scales * 0.5001).all())

    def test_the_largest_of_each_block_is_kept(self):
        matrix = np.random.default_rng(2).standard_normal((8, BLOCK)).astype(np.float32)
        rounded = dequantize(*quantize(matrix))
        np.testing.assert_allclose(np.abs(rounded).max(axis=-1), np.abs(matrix).max(axis=-1), rtol=1e-6)

    def test_zeros_stay_zeros(self):
        quantized, scales = quantize(np.zeros((1, BLOCK), np.float32))
        np.testing.assert_array_equal(dequantize(quantized, scales), np.zeros((1, BLOCK)))

    def test_a_width_that_is_no_multiple_of_the_block_is_refused(self):
        with self.assertRaisesRegex(ValueError, "33 columns"):
            quantize(np.zeros((1, 33), np.float32))
