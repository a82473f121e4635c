"""A model folder as onnxruntime-genai wants it: the same files, and a `genai_config.json` beside them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import onnx

FILES = ("model.onnx", "model.onnx.data")


def write_genai_folder(model: Path, folder: Path) -> None:
    """Links the graph and its weights into `folder` (copies them where links cannot be) and describes them."""
    folder.mkdir(parents=True)
    for name in FILES:
        link(model / name, folder / name)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    graph = onnx.load(model / "model.onnx", load_external_data=False).graph
    text = json.dumps(genai_config(config, graph), indent=1)
    (folder / "genai_config.json").write_text(text + "\n", encoding="utf-8")


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def genai_config(config: dict, graph: onnx.GraphProto) -> dict:
    """What the engine wants to be told; sizes from config.json, names and form from the graph."""
    names = ("input_ids", "attention_mask", "position_ids")
    inputs = {value.name for value in graph.input}
    # GroupQueryAttention appends in place; a form that concatenates cannot.
    shared = any(node.op_type == "GroupQueryAttention" for node in graph.node)
    return {
        "model": {
            "type": config["model_type"],
            "bos_token_id": config.get("bos_token_id", 0),
            "eos_token_id": config.get("eos_token_id", 0),
            "pad_token_id": config.get("pad_token_id", 0),
            "context_length": config["max_position_embeddings"],
            "vocab_size": config["vocab_size"],
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": "model.onnx",
                "head_size": config["head_dim"],
                "hidden_size": config["hidden_size"],
                "num_attention_heads": config["num_attention_heads"],
                "num_hidden_layers": config["num_hidden_layers"],
                "num_key_value_heads": config["num_key_value_heads"],
                "inputs": {
                    **{name: name for name in names if name in inputs},
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"do_sample": False, "past_present_share_buffer": shared},
    }
