"""Makes what `cargo xtask bench` measures on, beside the models that set-up has made.

    make_models.py smollm2 --source FILE --default DIR --out DIR
    make_models.py qwen --out DIR

FILE is the GGUF or a wheel that holds it, the first DIR the default model's folder. What is made:

    smollm2.gguf, smollm2-q4_0.gguf (llama.cpp's fastest 4-bit blocks), smollm2-q8_0.gguf (OpenVINO predicts
    a fifth worse from the GGUF's own blocks), smollm2-exact (ours, the GGUF's own blocks), smollm2-8bit with
    its twin -genai (that engine's best within 2 % of the GGUF's perplexity: it runs the GGUF's own blocks at a
    tenth of the speed), smollm2-4bit (lossy) with its twin -genai, matmul.onnx
    qwen.gguf, qwen (ours, plain f32), qwen-genai

A folder or file of an earlier run is replaced only when its successor is complete.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import qwen_shaped
from convert_gguf import gguf_file, partial_folder, write_json
from genai_folder import FILES, link, write_genai_folder
from gguf_blocks import TYPES, write_blocks
from gguf_model import GgufFile
from graph_gqa import write_gqa
from graph_plain import write_plain
from tokenizer import config_json

# [rows, inner] times [inner, columns]: large enough for the product to run at the machine's limit.
MATMUL = (1024, 2048, 4096)


def make_smollm2(source: Path, default: Path, out: Path) -> None:
    """The GGUF and its other blocks, and the exact, the 8-bit and the lossy 4-bit form as ONNX."""
    with gguf_file(source) as path:
        replace_file(out / "smollm2.gguf", lambda partial: shutil.copyfile(path, partial))
        for blocks in TYPES:
            replace_file(out / f"smollm2-{blocks}.gguf", lambda partial, blocks=blocks: write_blocks(path, blocks, partial))
        file = GgufFile(path)
        make_endless(default, out / "smollm2-exact")
        with partial_folder(out / "smollm2-8bit") as partial:
            write_gqa(file.model(), partial, bits=8)
            copy_endless(default, partial)
        with partial_folder(out / "smollm2-4bit") as partial:
            write_gqa(file.model(), partial, bits=4)
            copy_endless(default, partial)
    make_genai(out / "smollm2-4bit", out / "smollm2-4bit-genai")
    make_genai(out / "smollm2-8bit", out / "smollm2-8bit-genai")
    replace_file(out / "matmul.onnx", write_matmul)


def make_endless(model: Path, folder: Path) -> None:
    """The same model without end tokens: an answer then has the length that was asked for."""
    with partial_folder(folder) as partial:
        for name in FILES:
            link(model / name, partial / name)
        copy_endless(model, partial)


def copy_endless(model: Path, folder: Path) -> None:
    """Tokenizer and sizes of a model, but not its end token."""
    shutil.copyfile(model / "tokenizer.json", folder / "tokenizer.json")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config.pop("eos_token_id", None)
    write_json(folder / "config.json", config)


def make_qwen(out: Path) -> None:
    """One set of random weights in every engine's form (2 GB each, shared where links can be)."""
    model = qwen_shaped.random_model()
    with partial_folder(out / "qwen") as partial:
        write_plain(model, partial)
        write_json(partial / "config.json", config_json(model.config, "Qwen2", None))
    make_genai(out / "qwen", out / "qwen-genai")
    replace_file(out / "qwen.gguf", lambda partial: qwen_shaped.write_gguf(model, partial))


def make_genai(model: Path, folder: Path) -> None:
    """The model as onnxruntime-genai wants it."""
    with partial_folder(folder) as partial:
        partial.rmdir()
        write_genai_folder(model, partial)


def replace_file(path: Path, write) -> None:
    """Has a file written under another name, which takes its place when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    partial.rename(path)


def write_matmul(path: Path) -> None:
    """A graph that is one product of f32 matrices, the second of them constant."""
    rows, inner, columns = MATMUL
    weight = np.random.default_rng(1).standard_normal((inner, columns), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["product"])],
        "matmul",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [rows, inner])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [rows, columns])],
        [numpy_helper.from_array(weight, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def main() -> None:
    """Parses the command line and makes what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    smollm2, qwen = tasks.add_parser("smollm2"), tasks.add_parser("qwen")
    smollm2.add_argument("--source", type=Path, required=True)
    smollm2.add_argument("--default", type=Path, required=True)
    for task in (smollm2, qwen):
        task.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.task == "qwen":
        make_qwen(arguments.out)
    else:
        make_smollm2(arguments.source, arguments.default, arguments.out)


if __name__ == "__main__":
    main()
