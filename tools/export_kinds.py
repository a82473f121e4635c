"""Makes the folders of tests/fixtures/exports: kinds of models as real exporters write them, with right answers.

    python tools/export_kinds.py tests/fixtures/exports --newer FOLDER

Needs what `exports.py` needs and two releases of a builder, of which the newer wants another transformers:

    pip install onnxruntime-genai==0.15.2
    pip install --target FOLDER onnxruntime-genai==0.18.0 transformers==5.24.0

Names say who wrote the graph (as in `exports.py`; `genai`, `genai18`: the model builder of onnxruntime-genai)
and which of the kinds in `kinds.py` it is. Each folder holds model.onnx, the model's config.json and

    reference.json  200 token ids, and of each the log-probability given all before it, by transformers in
                    float32; where weights have few bits by ONNX Runtime on the export itself
    slide.json      the same in a sliding window (`answers.py`), with the angles that keys were turned by, null for
                    a layer without rotation; not where positions are learned
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from optimum.exporters.onnx import onnx_export_from_model

import kinds
from answers import WINDOW, Runtime, by_transformers, largest, of_next, rounded, slid, tokens
from exports import dynamo, hf

TOKENIZER = Path(__file__).parent.parent / "tests/fixtures/tiny-plain/tokenizer.json"
# What of an export stays.
KEPT = ("model.onnx", "model.onnx.data", "config.json", "genai_config.json")
FOLDERS = [
    "hf-gemma3_text",
    "hf-smollm3",
    "hf-phi",
    "hf-gpt2",
    "dynamo18-gemma2",
    "dynamo18-gemma3_text-linear",
    "dynamo18-cohere2",
    "dynamo18-exaone4",
    "dynamo18-phi3-local",
    "dynamo18-qwen3-yarn",
    "dynamo18-gpt_neox",
    "genai-gemma3_text",
    "genai-gemma3_text-64-int4",
    "genai-phi3-long",
    "genai-phi3-partial",
    "genai18-gemma2",
]


def hf_eager(made: torch.nn.Module) -> onnx.ModelProto:
    """Hugging Face's exporter, given a model whose attention is eager: without that it writes no soft cap."""
    with tempfile.TemporaryDirectory() as folder:
        onnx_export_from_model(
            made, folder, task="text-generation-with-past", do_validation=False, no_post_process=True
        )
        return onnx.load(f"{folder}/model.onnx")


def genai(made: torch.nn.Module, out: Path, bits: str, newer: Path | None = None) -> None:
    """The model builder of onnxruntime-genai; int4 with activations kept in float32."""
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        shutil.copy(TOKENIZER, folder)
        names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}
        Path(folder, "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", folder, "-o", str(out)]
        command += ["-p", bits, "-e", "cpu", "-c", f"{folder}/cache"]
        if bits == "int4":
            command += ["--extra_options", "accuracy_level=1"]
        environment = os.environ | ({"PYTHONPATH": str(newer.absolute())} if newer else {})
        subprocess.run(command, check=True, env=environment)


def export(name: str, made: torch.nn.Module, out: Path, newer: Path | None) -> None:
    """Writes the graph, and whatever else the exporter writes."""
    exporter, _, kind = name.partition("-")
    if exporter == "genai":
        genai(made, out, "int4" if kind.endswith("-int4") else "fp32")
    elif exporter == "genai18":
        if newer is None:
            raise ValueError(f"{name}: name the newer builder's folder in --newer")
        genai(made, out, "fp32", newer)
    else:
        write = {"hf": hf, "hfeager": hf_eager, "dynamo18": lambda made: dynamo(made, 18)}[exporter]
        onnx.save(write(made), out / "model.onnx")


def write(name: str, out: Path, newer: Path | None) -> str:
    """One folder; how near the export is to transformers, and how much the rotation matters."""
    kind = name.partition("-")[2].removesuffix("-int4")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    export(name, kinds.model(kind), out, newer)
    made = kinds.model(kind)
    made.config.save_pretrained(out)
    for file in out.iterdir():
        if file.name not in KEPT:
            file.unlink()
    ids = tokens()
    whole = of_next(Runtime(out / "model.onnx", made.config).run(ids), ids)
    expected = whole if name.endswith("-int4") else of_next(by_transformers(made, ids), ids)
    dump(out / "reference.json", {"token_ids": ids, "logprobs": rounded(expected)})
    said = f"{name}: {largest(whole, expected):.1e} from transformers"
    if kind not in kinds.LEARNED:
        turned, neighbours = kinds.angles(made), kind in kinds.NEIGHBOURS

        def in_window(angles: list[np.ndarray | None]) -> list[float | None]:
            return of_next(slid(Runtime(out / "model.onnx", made.config), ids, angles, neighbours), ids)

        right = in_window(turned)
        fields = {
            "window": WINDOW,
            "neighbours": neighbours,
            "angles": [None if one is None else one.tolist() for one in turned],
            "token_ids": ids,
            "logprobs": rounded(right),
        }
        dump(out / "slide.json", fields)
        said += f"; slid, all turned as the first {largest(right, in_window(turned[:1] * len(turned))):.1e}"
        said += f", none turned {largest(right, in_window([None] * len(turned))):.1e}"
    return said + f"; {sum(file.stat().st_size for file in out.iterdir())} bytes"


def dump(path: Path, fields: dict) -> None:
    """A file of JSON with a line a field."""
    lines = (f' "{key}": {json.dumps(value)}' for key, value in fields.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> int:
    """Writes those that were named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("names", nargs="*", help="an exporter and a kind; left out, those that are committed")
    arguments.add_argument("--newer", type=Path, metavar="FOLDER", help="where the newer builder is, for genai18")
    given = arguments.parse_args()
    for name in given.names or FOLDERS:
        print(write(name, given.folder / name, given.newer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
