"""A GGUF file again, with the matrices of its layers in blocks of another type.

The weights are taken as f32 and rounded by the quantiser of the package `gguf`, which rounds as llama.cpp's
does without an importance matrix. The embedding, which is the output projection, has 8 bits in both.
"""

from __future__ import annotations

from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

TYPES = {
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def write_blocks(source: Path, blocks: str, path: Path) -> None:
    """Copies everything but the matrices; norms stay f32."""
    block_type, file_type = TYPES[blocks]
    reader = GGUFReader(source)
    writer = GGUFWriter(path, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        # The first are the file's own header, and the writer has the architecture already.
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            items = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], items)
    writer.add_file_type(file_type)
    for tensor in reader.tensors:
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
            continue
        kind = GGMLQuantizationType.Q8_0 if tensor.name == "token_embd.weight" else block_type
        if tensor.tensor_type == kind:
            data = tensor.data
        else:
            data = quantize(dequantize(tensor.data, tensor.tensor_type), kind)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
