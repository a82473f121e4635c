"""What surrounds the conversion: manifests, the move into place, the tokenizer's files."""

import json
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from convert_gguf import Form, partial_folder, write_form
from gguf_model import Vocabulary
from manifest import differences, write_manifest
from tests.random_model import random_model
from tokenizer import tokenizer_json


class Folders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def make(self, name: str, text: str) -> Path:
        (self.folder / name).mkdir()
        (self.folder / name / "file").write_text(text)
        return self.folder / name

    def test_a_manifest_notices_changed_missing_and_extra_files(self):
        model = self.make("model", "weights")
        (model / "other").write_text("")
        write_manifest(model, model / "other")
        for later in (".manifest.checked", "calibration.safetensors"):
            (model / later).write_text("")
        self.assertEqual(differences(model), [])
        (model / "file").write_text("Weights")
        (model / "other").rename(model / "another")
        self.assertEqual(
            differences(model), ["another is not in the manifest", "file has changed", "other is missing"]
        )

    def test_a_manifest_says_what_a_model_was_made_of(self):
        model = self.make("model", "weights")
        source = self.folder / "source"
        source.write_text("abc")
        write_manifest(model, source)
        manifest = json.loads((model / "manifest.json").read_text())
        # The test vector of FIPS 180 for "abc".
        self.assertEqual(
            manifest["origin"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )

    def test_the_new_folder_takes_the_place_of_the_old(self):
        model = self.make("model", "old")
        with partial_folder(model) as partial:
            (partial / "file").write_text("new")
            self.assertEqual((model / "file").read_text(), "old")
        self.assertEqual((model / "file").read_text(), "new")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["model"])

    def test_a_failure_leaves_the_old_folder_and_nothing_else(self):
        model = self.make("model", "old")
        with self.assertRaises(KeyboardInterrupt), partial_folder(model) as partial:
            (partial / "file").write_text("half")
            raise KeyboardInterrupt
        self.assertEqual((model / "file").read_text(), "old")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["model"])


class Files(unittest.TestCase):
    def test_a_chat_template_is_written_to_the_byte_where_there_is_one(self):
        vocabulary = Vocabulary(["<|end|>", "a"], [], [0], bos_id=0, eos_id=0, pad_id=0)
        form = Form("plain", "model", lambda model, folder, step: step(), lambda model: model)
        for template in ("{{ messages }}é\n\n", None):
            file = SimpleNamespace(vocabulary=lambda: vocabulary, chat_template=lambda: template)
            with tempfile.TemporaryDirectory() as folder:
                write_form(form, file, random_model(1), Path(folder), SimpleNamespace(step=lambda what: None))
                written = Path(folder) / "chat_template.jinja"
                self.assertEqual(written.read_bytes() if written.exists() else None, template and template.encode())


class Tokenizer(unittest.TestCase):
    def test_control_tokens_are_special_and_merges_are_pairs(self):
        vocabulary = Vocabulary(["<|end|>", "a", "b", "ab"], ["a b"], [0], bos_id=0, eos_id=0, pad_id=0)
        written = tokenizer_json(vocabulary)
        self.assertEqual([(token["id"], token["content"]) for token in written["added_tokens"]], [(0, "<|end|>")])
        self.assertTrue(all(token["special"] for token in written["added_tokens"]))
        self.assertEqual(written["model"]["vocab"]["ab"], 3)
        self.assertEqual(written["model"]["merges"], [["a", "b"]])
