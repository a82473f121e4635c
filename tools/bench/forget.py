"""Has the system drop files from its memory, so that the next one to read them waits for the disk.

    forget.py PATH...

A folder stands for all files in it. Nothing is dropped that a running program has mapped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def forget(path: Path) -> None:
    """What is not written yet cannot be dropped: it is written first."""
    for file in path.iterdir() if path.is_dir() else [path]:
        if not file.is_file():
            continue
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        forget(Path(argument))
