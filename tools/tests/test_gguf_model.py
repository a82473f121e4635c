"""The permutation of q and k rows."""

import unittest

import numpy as np

from gguf_model import half_split, interleaved


class Permutation(unittest.TestCase):
    def test_undoes_what_a_gguf_writer_does(self):
        matrix = np.arange(24.0).reshape(12, 2)
        np.testing.assert_array_equal(half_split(interleaved(matrix, heads=3), heads=3), matrix)

    def test_moves_pairs_to_halves_within_each_head(self):
        rows = np.arange(8)[:, None]
        self.assertEqual(half_split(rows, heads=2)[:, 0].tolist(), [0, 2, 1, 3, 4, 6, 5, 7])
