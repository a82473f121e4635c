"""What the benchmark makes and asks: the peers' forms of a model, the tokens, the perplexity."""

import dataclasses
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from bench.forget import forget
from bench.genai_folder import genai_config, write_genai_folder
from bench.gguf_blocks import write_blocks
from bench.protocol import perplexity, texts, token_ids
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

    def test_other_blocks_keep_what_a_file_says_and_nearly_its_weights(self):
        model = random_model(SHAPE)
        write_gguf(model, self.folder / "model.gguf")
        for blocks, kind, error in (("q4_0", GGMLQuantizationType.Q4_0, 0.1), ("q8_0", GGMLQuantizationType.Q8_0, 0.01)):
            write_blocks(self.folder / "model.gguf", blocks, self.folder / "blocks.gguf")
            before, after = GGUFReader(self.folder / "model.gguf"), GGUFReader(self.folder / "blocks.gguf")
            for name in ("general.architecture", "qwen2.attention.head_count_kv", "tokenizer.ggml.model"):
                self.assertEqual(before.get_field(name).contents(), after.get_field(name).contents())
            found = {tensor.name: tensor for tensor in after.tensors}
            self.assertEqual(found.keys(), {tensor.name for tensor in before.tensors})
            self.assertEqual(found["blk.1.attn_q.weight"].tensor_type, kind)
            self.assertEqual(found["token_embd.weight"].tensor_type, GGMLQuantizationType.Q8_0)
            np.testing.assert_array_equal(found["blk.1.attn_q.bias"].data, model.layers[1].q_bias)
            gate = found["blk.1.ffn_gate.weight"]
            weights = dequantize(gate.data, gate.tensor_type)
            self.assertLess(np.abs(weights - model.layers[1].gate).mean(), error * np.abs(model.layers[1].gate).mean())

    def test_forgotten_files_are_still_there(self):
        (self.folder / "file").write_text("text")
        forget(self.folder)
        forget(self.folder / "file")
        self.assertEqual((self.folder / "file").read_text(), "text")

    def test_conversations_have_tokens_of_their_own_that_go_on(self):
        self.assertEqual(token_ids(1, 0, 8)[5:], token_ids(1, 5, 3))
        self.assertNotEqual(token_ids(1, 0, 8), token_ids(2, 0, 8))
        self.assertEqual(token_ids(0, 0, 800), texts()["code"])
        self.assertEqual(len({tuple(token_ids(row, 0, 32)) for row in range(16)}), 16)

    def test_perplexity_of_an_even_guess_is_the_number_of_choices(self):
        self.assertAlmostEqual(perplexity(np.zeros((5, 16), np.float32), [3, 1, 4, 1, 5]), 16)
        sure = np.eye(16, dtype=np.float32)[[1, 4, 1, 5, 0]] * 100
        self.assertAlmostEqual(perplexity(sure, [3, 1, 4, 1, 5]), 1)
