"""Both graphs, run by ONNX Runtime, against the numpy forward pass of the same random weights."""

import tempfile
import unittest
from pathlib import Path

import numpy as np

from checks import Conversation, open_session
from graph_gqa import write_gqa
from graph_plain import write_plain
from quantize import rounded
from reference import Reference, log_softmax
from tests.random_model import CONFIG, random_model, with_biases

TOLERANCE = 1e-4


class Graphs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.model = random_model(seed=7)
        self.token_ids = np.random.default_rng(8).integers(0, CONFIG.vocab, 24).tolist()

    def assert_equal_in_pieces(self, session, reference, pieces):
        conversation, start = Conversation(session), 0
        for size in pieces:
            piece = self.token_ids[start : start + size]
            found, expected = log_softmax(conversation.forward(piece)), log_softmax(reference.forward(piece))
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)
            start += size

    def test_plain_equals_the_reference(self):
        write_plain(self.model, self.folder)
        self.assert_equal_in_pieces(open_session(self.folder), Reference(self.model), [9, 1, 14])

    def test_plain_equals_the_reference_with_biases(self):
        model = with_biases(self.model, seed=9)
        write_plain(model, self.folder)
        self.assert_equal_in_pieces(open_session(self.folder), Reference(model), [9, 1, 14])

    def test_gqa_equals_the_reference_of_the_rounded_weights(self):
        for bits in (8, 4):
            with self.subTest(bits=bits):
                write_gqa(self.model, self.folder, accuracy_level=1, bits=bits)
                reference = Reference(self.model.map_matrices(lambda matrix: rounded(matrix, bits)))
                self.assert_equal_in_pieces(open_session(self.folder), reference, [9, 1, 14])

    def test_another_layout_of_q_and_k_does_not_pass(self):
        write_plain(self.model, self.folder)
        swapped = random_model(seed=7)
        reference = Reference(swapped.map_matrices(lambda matrix: matrix[::-1] if len(matrix) == 32 else matrix))
        with self.assertRaises(AssertionError):
            self.assert_equal_in_pieces(open_session(self.folder), reference, [24])

    def test_plain_ignores_padding_on_the_left(self):
        write_plain(self.model, self.folder)
        session, short, long = open_session(self.folder), self.token_ids[:5], self.token_ids[5:14]
        padding = len(long) - len(short)
        empty = {
            value.name: np.zeros((2, value.shape[1], 0, value.shape[3]), np.float32)
            for value in session.get_inputs()
            if value.name.startswith("past")
        }
        feeds = {
            "input_ids": np.array([[0] * padding + short, long]),
            "attention_mask": np.array([[0] * padding + [1] * len(short), [1] * len(long)]),
            "position_ids": np.array([[0] * padding + list(range(len(short))), list(range(len(long)))]),
        }
        logits = session.run(["logits"], feeds | empty)[0]
        for row, token_ids, skipped in ((logits[0], short, padding), (logits[1], long, 0)):
            expected = Reference(self.model).forward(token_ids)
            np.testing.assert_allclose(log_softmax(row[skipped:]), log_softmax(expected), atol=TOLERANCE)
