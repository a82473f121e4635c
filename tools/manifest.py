"""`manifest.json`: size and SHA-256 of every file of a model folder, so that damage is noticed.

A flipped bit in the weights loads without complaint and only makes the model a little worse. It also says
what the weights were made of, so that a calibration made for one form of a model is taken by every other.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

NAME = "manifest.json"
VERSION = 1
CALIBRATION = "calibration.safetensors"


def write_manifest(folder: Path, source: Path) -> None:
    """Writes the manifest of all other files of the folder, sorted by path; `source` is what they were made of."""
    text = json.dumps({"version": VERSION, "origin": _sha256(source), "files": _entries(folder)}, indent=1)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def differences(folder: Path) -> list[str]:
    """What the folder holds otherwise than its manifest says; empty when all is well."""
    recorded = json.loads((folder / NAME).read_text(encoding="utf-8"))
    expected = {entry["path"]: entry for entry in recorded["files"]}
    found = {entry["path"]: entry for entry in _entries(folder)}
    lacking = [f"{path} is missing" for path in expected.keys() - found.keys()]
    extra = [f"{path} is not in the manifest" for path in found.keys() - expected.keys()]
    changed = [f"{path} has changed" for path in expected.keys() & found.keys() if expected[path] != found[path]]
    return sorted(lacking + extra + changed)


def _entries(folder: Path) -> list[dict]:
    """Of all files but hidden ones, which checks leave behind, and a calibration, which may be put there later."""
    others = {folder / NAME, folder / CALIBRATION}
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path not in others
    )
    return [
        {"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix())
    ]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
