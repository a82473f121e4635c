"""Makes tests/fixtures/exports: tiny random models as real exporters write them.

    python tools/exports.py tests/fixtures/exports

Not part of `cargo xtask setup`: the packages weigh gigabytes and the exports are committed. They are
needed to add an export, or to see what a newer exporter writes:

    pip install torch==2.15.0 transformers==4.57.6 optimum-onnx==0.1.0 onnxscript==0.7.2 \\
        onnxruntime==1.31.1 onnxslim==0.1.98

The folders beside these graphs are made by `export_kinds.py`.

Names say who wrote the graph (`hf`: Hugging Face optimum, over TorchScript; `dynamo18`, `dynamo23`:
torch.export with that operator set), of which architecture, and what was done to it afterwards, as
the onnx-community does it: `slim` (constants folded), and of that `f16` (with float32 inputs and
outputs: `f16-io32`), `q4`, `q4f16` and `int8`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import onnx
import onnxslim
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers import float16
from optimum.exporters.onnx import main_export
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

VOCAB = 96
LAYERS = 2
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# What makes each architecture a case of its own.
ARCHITECTURES = {
    "llama": {"rope_theta": 10_000.0, "tie_word_embeddings": False},
    "qwen2": {"rope_theta": 1e6, "tie_word_embeddings": True},  # biases
    "qwen3": {"rope_theta": 1e6, "tie_word_embeddings": True},  # a norm of each head before rotation
    "mistral": {"rope_theta": 10_000.0, "sliding_window": 64},
    # One product for q, k and v; half of each head is rotated.
    "phi3": {"rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "head_dim": 32},
    # Neighbours are rotated.
    "glm": {"rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
    # A scale of its own.
    "granite": {"attention_multiplier": 0.1, "residual_multiplier": 0.5},
}


def model(architecture: str) -> torch.nn.Module:
    """A model with random weights of sensible sizes, the same ones each time."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(architecture, **(SIZES | ARCHITECTURES[architecture]))
    made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            noise = torch.randn_like(weights)
            if "norm" in name:
                weights.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                weights.copy_(0.3 * noise)
            else:
                size = 3.0 if "embed" in name else 1.0
                weights.copy_(noise * size / weights.shape[-1] ** 0.5)
    return made


def hf(made: torch.nn.Module) -> onnx.ModelProto:
    """Hugging Face's exporter."""
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(f"{folder}/torch")
        main_export(
            f"{folder}/torch",
            f"{folder}/onnx",
            task="text-generation-with-past",
            do_validation=False,
            no_post_process=True,
            library_name="transformers",
        )
        return onnx.load(f"{folder}/onnx/model.onnx")


class WithCache(torch.nn.Module):
    """A model whose caches are plain arguments, as the exporter wants them."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask, position_ids, *past):  # noqa: ANN001, ANN201
        """Logits, then keys and values of each layer."""
        cache = DynamicCache.from_legacy_cache(tuple(zip(past[::2], past[1::2])))
        given = self.inner(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        layers = given.past_key_values.layers
        return given.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))


def dynamo(made: torch.nn.Module, opset: int) -> onnx.ModelProto:
    """torch's own exporter."""
    batch, past, new = 2, 7, 5
    config = made.config
    caches = [f"{layer}.{what}" for layer in range(config.num_hidden_layers) for what in ("key", "value")]
    shape = batch, config.num_key_value_heads, past, config.head_dim
    auto = torch.export.Dim.DYNAMIC
    inputs = (
        torch.randint(0, config.vocab_size, (batch, new)),
        torch.ones(batch, past + new, dtype=torch.long),
        torch.arange(past, past + new)[None].repeat(batch, 1),
        *(torch.randn(shape) for _ in caches),
    )
    dynamic = ({0: auto, 1: auto},) * 3 + (tuple({0: auto, 2: auto} for _ in caches),)
    program = torch.onnx.export(
        WithCache(made),
        inputs,
        dynamo=True,
        input_names=["input_ids", "attention_mask", "position_ids"] + [f"past_key_values.{name}" for name in caches],
        output_names=["logits"] + [f"present.{name}" for name in caches],
        dynamic_shapes=dynamic,
        opset_version=opset,
        external_data=False,
    )
    exported = program.model_proto
    graph = exported.graph
    # Stack traces with the paths of this machine.
    for part in [graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        del part.metadata_props[:]
    return exported


def slim(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Constants folded, equal nodes merged."""
    return onnxslim.slim(graph)


def f16(graph: onnx.ModelProto, keep_io_types: bool = False) -> onnx.ModelProto:
    """Numbers float16, inputs and outputs as well unless they are kept. Angles stay float32: in
    float16 no position beyond 2,048 has a number of its own, and such an export is of no use."""
    angles = [node.name for node in graph.graph.node if "rotary_emb" in node.name]
    made = float16.convert_float_to_float16(graph, keep_io_types=keep_io_types, node_block_list=angles)
    # A node that takes a tensor twice gets two casts of one name.
    nodes = {node.name: node for node in made.graph.node}.values()
    maker = {output: node for node in nodes for output in node.output}
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = unrounded(name, maker)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def unrounded(name: str, maker: dict[str, onnx.NodeProto]) -> str:
    """What was cast to float16 and back between two nodes that both keep float32."""
    back = maker.get(name)
    there = maker.get(back.input[0]) if is_cast(back, onnx.TensorProto.FLOAT) else None
    return there.input[0] if is_cast(there, onnx.TensorProto.FLOAT16) else name


def is_cast(node: onnx.NodeProto | None, to: int) -> bool:
    """Whether a node casts to that type."""
    return node is not None and node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") == to


def q4(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of products as 4-bit blocks."""
    quantizer = MatMulNBitsQuantizer(graph, block_size=32, is_symmetric=True, accuracy_level=None)
    quantizer.process()
    return quantizer.model.model


def int8(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and, while it runs, activations of products as 8-bit integers."""
    options = {"EnableSubgraph": True, "MatMulConstBOnly": True}
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(graph, f"{folder}/in.onnx")
        quantize_dynamic(f"{folder}/in.onnx", f"{folder}/out.onnx", weight_type=QuantType.QInt8, extra_options=options)
        return onnx.load(f"{folder}/out.onnx")


EXPORTS = {
    "hf-qwen3": lambda: hf(model("qwen3")),
    "hf-qwen2-slim": lambda: slim(hf(model("qwen2"))),
    "hf-qwen2-f16": lambda: f16(slim(hf(model("qwen2")))),
    "hf-qwen2-f16-io32": lambda: f16(slim(hf(model("qwen2"))), keep_io_types=True),
    "hf-qwen2-q4": lambda: q4(slim(hf(model("qwen2")))),
    "hf-qwen2-q4f16": lambda: f16(q4(slim(hf(model("qwen2"))))),
    "hf-qwen2-int8": lambda: int8(slim(hf(model("qwen2")))),
    "dynamo18-llama": lambda: dynamo(model("llama"), 18),
    "dynamo18-qwen3": lambda: dynamo(model("qwen3"), 18),
    "dynamo18-mistral": lambda: dynamo(model("mistral"), 18),
    "dynamo18-phi3": lambda: dynamo(model("phi3"), 18),
    "dynamo18-glm": lambda: dynamo(model("glm"), 18),
    "dynamo18-granite": lambda: dynamo(model("granite"), 18),
    "dynamo23-qwen3": lambda: dynamo(model("qwen3"), 23),
}


def main() -> int:
    """Writes those that were named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(EXPORTS)}")
    given = arguments.parse_args()
    for name in given.names or EXPORTS:
        made = EXPORTS[name]()
        file = given.folder / f"{name}.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(made, file)
        print(f"{file}: {len(made.graph.node)} nodes, {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
