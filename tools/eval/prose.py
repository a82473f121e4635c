"""Paragraphs of guides: of Markdown files, and of what Rust modules say of themselves (`//!`).

A pair is (query, document, file, ""): a paragraph's first sentence, and the rest of it. Code, headings, lists,
tables and quotations are no paragraphs.
"""

import re

from functions import plain

PARAGRAPH_LEN = range(200, 1201)
FIRST_LEN = range(40, 201)
REST_LEN_MIN = 100
NO_GUIDES = ("changelog", "changes", "release", "license", "licence", "history", "copying", "migration", "contributing",
             "code_of_conduct", "code-of-conduct", "summary")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(])")
# Behind these a full stop ends no sentence.
SHORT = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|approx|resp)\.$")


def of_markdown(name, data):
    """Pairs of one Markdown file."""
    base = name.rsplit("/", 1)[-1].lower()
    if any(word in base for word in NO_GUIDES):
        return
    yield from pairs(name, data.decode("utf8", "replace").splitlines())


def of_rust(name, data):
    """Pairs of what a Rust file says of its module."""
    lines = data.decode("utf8", "replace").splitlines()
    said = [line.strip()[3:].removeprefix(" ") for line in lines if line.strip().startswith("//!")]
    yield from pairs(name, said)


def pairs(name, lines):
    """First sentences and rests of the paragraphs that are long enough to be about something."""
    for paragraph in paragraphs(lines):
        text = plain(paragraph)
        if len(text) not in PARAGRAPH_LEN:
            continue
        first, rest = first_sentence(text)
        if len(first) in FIRST_LEN and len(rest) >= REST_LEN_MIN:
            yield first, rest, name, ""


def paragraphs(lines):
    """Each run of lines that are prose, as one line."""
    block, fence = [], None
    for line in [*lines, ""]:
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (fence is None or mark[1].startswith(fence)):
            fence = None if fence else mark[1]
            block = []
        elif fence:
            continue
        elif not line.strip():
            if block and not any(re.match(r"\s{4}|\t|\s*(?:[-*+|>#<:]|\d+[.)]\s|\[[^\]]+\]:|=+$)", line) for line in block):
                yield " ".join(block)
            block = []
        else:
            block.append(line)


def first_sentence(text):
    """A paragraph's first sentence and what follows it."""
    for end in SENTENCE_END.finditer(text):
        if not SHORT.search(text[:end.start()]):
            return text[:end.start()], text[end.end():]
    return text, ""
