"""What the benchmark makes and asks: the peers' forms of a model, the tokens, the perplexity."""

import dataclasses
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from gguf import GGUFReader

from bench.genai_folder import genai_config, write_genai_folder
from bench.protocol import perplexity, token_ids
from bench.qwen_shaped import CONFIG, random_model, write_gguf
from checks import Conversation, open_session
from graph_gqa import write_gqa
from graph_plain import write_plain
from reference import Reference, log_softmax
from tests import random_model as tiny
from tokenizer import config_json

SHAPE = dataclasses.replace(CONFIG, layers=2, hidden=64, ffn=96, heads=4, kv_heads=2, head_dim=16, vocab=256)


class Bench(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def graph(self, write, model):
        write(model, self.folder)
        return onnx.load(self.folder / "model.onnx", load_external_data=False).graph

    def test_the_model_of_qwens_shape_computes_what_its_weights_say(self):
        model = random_model(SHAPE)
        write_plain(model, self.folder)
        found = Conversation(open_session(self.folder)).forward([1, 2, 3, 4, 5])
        expected = Reference(model).forward([1, 2, 3, 4, 5])
        np.testing.assert_allclose(log_softmax(found), log_softmax(expected), atol=1e-4)
        self.assertTrue(np.isfinite(found).all() and found.std() > 0.1)

    def test_its_gguf_has_every_tensor_and_size(self):
        write_gguf(random_model(SHAPE), self.folder / "model.gguf")
        reader = GGUFReader(self.folder / "model.gguf")
        self.assertEqual(reader.get_field("qwen2.attention.head_count_kv").contents(), 2)
        self.assertEqual(len(reader.tensors), 2 + 12 * SHAPE.layers)

    def test_genai_is_told_of_the_form(self):
        config = config_json(SHAPE, "Qwen2", None)
        plain = genai_config(config, self.graph(write_plain, random_model(SHAPE)))
        self.assertIn("position_ids", plain["model"]["decoder"]["inputs"])
        self.assertFalse(plain["search"]["past_present_share_buffer"])
        gqa = genai_config(config, self.graph(write_gqa, tiny.random_model(seed=1)))
        self.assertNotIn("position_ids", gqa["model"]["decoder"]["inputs"])
        self.assertTrue(gqa["search"]["past_present_share_buffer"])

    def test_genai_has_the_very_files(self):
        write_plain(random_model(SHAPE), self.folder)
        (self.folder / "config.json").write_text(json.dumps(config_json(SHAPE, "Qwen2", None)))
        write_genai_folder(self.folder, self.folder / "genai")
        for name in ("model.onnx", "model.onnx.data"):
            self.assertEqual((self.folder / name).read_bytes(), (self.folder / "genai" / name).read_bytes())

    def test_conversations_have_tokens_of_their_own_that_go_on(self):
        self.assertEqual(token_ids(1, 0, 8)[5:], token_ids(1, 5, 3))
        self.assertNotEqual(token_ids(1, 0, 8), token_ids(2, 0, 8))
        self.assertTrue(all(1000 <= token < 41_000 for token in token_ids(31, 0, 8000)))

    def test_perplexity_of_an_even_guess_is_the_number_of_choices(self):
        self.assertAlmostEqual(perplexity(np.zeros((5, 16), np.float32), [3, 1, 4, 1, 5]), 16)
        sure = np.eye(16, dtype=np.float32)[[1, 4, 1, 5, 0]] * 100
        self.assertAlmostEqual(perplexity(sure, [3, 1, 4, 1, 5]), 1)
