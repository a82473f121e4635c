"""Makes the pairs and texts of evaluation, as JSONL, from sources at fixed versions.

    python tools/eval/extract.py --out .motorbrain/eval/pairs [--cosqa FILE.jsonl]

    python.jsonl  python-train.jsonl   docstring -> code: Python's standard library and packages.txt
    rust.jsonl    rust-train.jsonl     documentation -> code: crates.txt
    prose.jsonl   prose-train.jsonl    first sentence -> rest of a paragraph: guides and modules of crates.txt
    corpus.jsonl                       mixed texts to calibrate on
    left_out.txt                       the files that tests are made of; no other set has a text of them
    guide.txt                          a long text, to read with windows: the guide of a crate
    sources.json                       what all of it was made from

Whole files are for testing or not. The same sources give the same bytes: the one thing that is not pinned is the
standard library, which is that of the Python that runs this.
"""

import argparse
import collections
import glob
import json
import os
import platform
import random
import sysconfig
from pathlib import Path

import fetch
import functions
import prose

SEED = 0
TEST_PAIRS = 300
POOL = 1200  # pairs of a kind at most, tests among them
CORPUS_SHARE = 500  # texts of each of five kinds
GUIDE = "pyo3-"  # the crate whose archive holds a whole guide


def main():
    """Fetches, extracts and writes."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, required=True, help="the folder that the files go to")
    arguments.add_argument("--cosqa", type=Path, help="queries of the web with the Python functions that answer them")
    arguments = arguments.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    wheels, crates = fetch.wheels(out / "fetched" / "wheels"), fetch.crates(out / "fetched" / "crates")

    rng, seen = random.Random(SEED), set()
    half = TEST_PAIRS // 2
    standard = choose(standard_library(), "std/", rng, seen, half, per_file=12, per_package=10**9)
    site = choose(packages(wheels), "site/", rng, seen, half, per_file=3, per_package=130)
    sets = {
        "python": join(rng, standard, site),
        "rust": choose(rust_functions(crates), "", rng, seen, TEST_PAIRS, per_file=3, per_package=130),
        "prose": choose(guides(crates), "", rng, seen, TEST_PAIRS, per_file=15, per_package=400),
    }
    left_out = set()
    for name, (tests, train) in sets.items():
        write(out / f"{name}.jsonl", map(pair, tests))
        write(out / f"{name}-train.jsonl", map(pair, train))
        left_out.update(file for _, _, file, _ in tests)
        print(f"{name}: {len(tests)} pairs to test, {len(train)} to train")
    # A crate's file can be in two sets, as code and as prose.
    texts = corpus(sets, left_out, rng)
    write(out / "corpus.jsonl", texts)
    print(f"corpus: {len(texts)} texts")
    (out / "left_out.txt").write_text("".join(f"{file}\n" for file in sorted(left_out)))
    guide = [data.decode("utf8") for crate in crates if crate.name.startswith(GUIDE)
             for name, data in fetch.files_of_crate(crate, ".md") if "/guide/" in name]
    (out / "guide.txt").write_text("\n".join(guide), encoding="utf8", newline="\n")
    if arguments.cosqa:
        rows = map(json.loads, arguments.cosqa.read_text(encoding="utf8").splitlines())
        write(out / "cosqa.jsonl", ({"query": row["query"], "document": row["code"], "source": "cosqa"} for row in rows))
    sources = {"python": platform.python_version(), "wheels": [path.name for path in wheels],
               "crates": [path.name for path in crates], "seed": SEED}
    (out / "sources.json").write_text(json.dumps(sources, indent=1) + "\n")


def standard_library():
    """Pairs of Python's standard library."""
    root = sysconfig.get_paths()["stdlib"]
    for path in sorted(glob.glob(root + "/**/*.py", recursive=True)):
        name = os.path.relpath(path, root)
        installed = "/site-packages/" in path[len(root):] or "/dist-packages/" in path[len(root):]
        if functions.is_test(name) or installed or os.path.getsize(path) > functions.FILE_BYTES_MAX:
            continue
        yield from functions.of_python(name, Path(path).read_bytes())


def packages(wheels):
    """Pairs of Python packages."""
    for wheel in wheels:
        for name, data in fetch.files_of_wheel(wheel, ".py"):
            if not functions.is_test(name) and len(data) <= functions.FILE_BYTES_MAX:
                yield from functions.of_python(name, data)


def rust_functions(crates):
    """Pairs of Rust functions."""
    for crate in crates:
        for name, data in fetch.files_of_crate(crate, ".rs"):
            if not functions.is_test(name):
                yield from functions.of_rust(name, data)


def guides(crates):
    """Pairs of prose."""
    for crate in crates:
        for name, data in fetch.files_of_crate(crate, ".md"):
            if not functions.is_test(name):
                yield from prose.of_markdown(name, data)
        for name, data in fetch.files_of_crate(crate, ".rs"):
            if not functions.is_test(name):
                yield from prose.of_rust(name, data)


def choose(found, origin, rng, seen, test_count, per_file, per_package):
    """Pairs to test and to train on: none twice, not too many of a file or of a package, whole files held out."""
    found = list(found)
    rng.shuffle(found)
    of_file, of_package, chosen = collections.Counter(), collections.Counter(), []
    for query, document, file, name in found:
        package = file.split("/")[0]
        if query.lower() in seen or document in seen:
            continue
        if of_file[file] >= per_file or of_package[package] >= per_package:
            continue
        seen.update((query.lower(), document))
        of_file[file] += 1
        of_package[package] += 1
        chosen.append((query, document, origin + file, name))
    chosen = chosen[:POOL]
    files = sorted({file for _, _, file, _ in chosen})
    rng.shuffle(files)
    counts, held_out, count = collections.Counter(file for _, _, file, _ in chosen), set(), 0
    for file in files:
        if count >= test_count:
            break
        held_out.add(file)
        count += counts[file]
    tests = [found for found in chosen if found[2] in held_out][:test_count]
    return tests, [found for found in chosen if found[2] not in held_out]


def join(rng, *parts):
    """Two kinds as one, mixed."""
    tests, train = ([found for part in parts for found in part[index]] for index in (0, 1))
    rng.shuffle(tests)
    rng.shuffle(train)
    return tests, train


def corpus(sets, left_out, rng):
    """Texts of all kinds, of files that no test is made of, mixed."""
    texts = []
    for name, (_, train) in sets.items():
        rows = [found for found in train if found[2] not in left_out]
        kinds = [[f"{query} {rest}" for query, rest, _, _ in rows]] if name == "prose" else [
            [query for query, _, _, _ in rows], [document for _, document, _, _ in rows]]
        for kind in kinds:
            chosen = list(zip(kind, (file for _, _, file, _ in rows)))
            rng.shuffle(chosen)
            texts += [{"text": text, "source": file} for text, file in chosen[:CORPUS_SHARE]]
    rng.shuffle(texts)
    return texts


def pair(found):
    """A line of a file of pairs."""
    query, document, file, _ = found
    return {"query": query, "document": document, "source": file}


def write(path, rows):
    """Rows as JSON, one a line."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf8", newline="\n")


if __name__ == "__main__":
    main()
