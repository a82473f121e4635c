"""Makes the two ONNX forms of SmolLM2-135M-Instruct out of its GGUF file, and checks them.

    convert_gguf.py --source FILE --out DIR [--form FOLDER]
                                                convert, check, put in place; both forms or one
    convert_gguf.py --check DIR [--source FILE] check what is in place (with FILE: the logits too)

FILE is the GGUF, or a wheel that holds one. DIR gets two folders:

    smollm2-135m      the default: GroupQueryAttention, the GGUF's own 4-bit blocks, the head in 8-bit ones
    smollm2-135m-f32  plain: float32, standard operators, position_ids

Each is written beside its place and moved there only after it has passed its checks, so a failure
or an interruption leaves what was there as it was. Exit status: 0 done, 1 failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import checks
from gguf_model import GgufFile, Model, UnsupportedModel
from graph_gqa import write_gqa
from graph_plain import write_plain
from manifest import write_manifest
from quantize import rounded
from tokenizer import config_json, generation_config_json, tokenizer_json


@dataclass(frozen=True)
class Form:
    """One of the conversions: its folder, its writer, and what the writer does to the weights."""

    kind: str
    folder: str
    write: Callable
    weights: Callable[[Model], Model]


FORMS = (
    Form("gqa", "smollm2-135m", write_gqa, lambda model: replace(model, embedding=rounded(model.embedding))),
    Form("plain", "smollm2-135m-f32", write_plain, lambda model: model),
)


class Progress:
    """Lines of `progress DONE TOTAL WHAT`, which `cargo xtask setup` draws as a bar."""

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total

    def step(self, what: str) -> None:
        """One more of the steps has begun."""
        print(f"progress {self._done} {self._total} {what}", flush=True)
        self._done += 1


def convert(source: Path, out: Path, forms: tuple[Form, ...]) -> None:
    """Writes and checks forms, then moves each to its place."""
    with gguf_file(source) as path:
        file = GgufFile(path)
        progress = Progress(total=1 + len(forms) * (file.config().layers + 2))
        progress.step("reading the weights")
        model = file.model()
        for form in forms:
            with partial_folder(out / form.folder) as partial:
                write_form(form, file, model, partial, progress)
                check_form(form, model, partial, progress)
                write_manifest(partial, path)


def write_form(form: Form, file: GgufFile, model: Model, folder: Path, progress: Progress) -> None:
    """Writes the graph and the files that go with it."""
    form.write(model, folder, lambda: progress.step(f"writing {form.folder}"))
    vocabulary = file.vocabulary()
    write_json(folder / "tokenizer.json", tokenizer_json(vocabulary))
    write_json(folder / "config.json", config_json(model.config, "Llama", vocabulary))
    write_json(folder / "generation_config.json", generation_config_json(vocabulary))
    if (template := file.chat_template()) is not None:
        # To the byte: a line's end at its end would be another template.
        (folder / "chat_template.jinja").write_bytes(template.encode())


def check_form(form: Form, model: Model, folder: Path, progress: Progress) -> None:
    """Compares logits and perplexity; prints what was found."""
    progress.step(f"checking the logits of {form.folder}")
    print(checks.check_logits(folder, form.folder, form.weights(model)))
    progress.step(f"checking the perplexity of {form.folder}")
    print(*checks.check_perplexity(folder, form.folder, form.kind), sep="\n")


def check(out: Path, source: Path | None) -> None:
    """Checks the forms in place; their logits only where there is something to compare them with."""
    for form in FORMS:
        checks.check_manifest(out / form.folder)
        print(*checks.check_perplexity(out / form.folder, form.folder, form.kind), sep="\n")
    if source:
        with gguf_file(source) as path:
            model = GgufFile(path).model()
        for form in FORMS:
            print(checks.check_logits(out / form.folder, form.folder, form.weights(model)))


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place if all goes well and else goes away.

    What was there before goes only when its successor is complete.
    """
    partial, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def gguf_file(source: Path) -> Iterator[Path]:
    """The source itself, or the one GGUF file in the wheel, unpacked for as long as it is needed."""
    if not zipfile.is_zipfile(source):
        yield source
        return
    with zipfile.ZipFile(source) as archive, tempfile.TemporaryDirectory(dir=source.parent) as unpacked:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise UnsupportedModel(f"expected one .gguf file in {source}, found {len(names)}")
        yield Path(archive.extract(names[0], unpacked))


def write_json(path: Path, value: dict) -> None:
    """Non-ASCII text stays readable: a vocabulary has much of it."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, metavar="FILE", help="the GGUF file, or a wheel that holds it")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, metavar="DIR", help="convert into this folder")
    task.add_argument("--check", type=Path, metavar="DIR", help="check the conversions in this folder")
    parser.add_argument("--form", choices=[form.folder for form in FORMS], help="convert into this form alone")
    arguments = parser.parse_args()
    if arguments.out and not arguments.source:
        parser.error("--out needs --source")
    try:
        if arguments.out:
            convert(arguments.source, arguments.out, tuple(form for form in FORMS if arguments.form in (None, form.folder)))
        else:
            check(arguments.check, arguments.source)
    except (OSError, UnsupportedModel, checks.CheckFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
