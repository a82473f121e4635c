"""Functions with their documentation: of Python by its own parser, of Rust by reading lines and braces.

A pair is (query, document, file, name): the documentation's first paragraph, and the function without any
documentation. Both ways to find them agree on what is too short or too long to say anything.
"""

import ast
import re

QUERY_LEN = range(30, 201)  # letters of the documentation's first paragraph
BODY_LINES = range(5, 31)
FILE_BYTES_MAX = 600_000
TESTS = {"test", "tests", "testing", "idlelib", "lib2to3", "__pycache__", "benches", "examples"}


def is_test(name):
    """Whether a file is for tests, or of what Python ships beside its library."""
    return any(part in TESTS for part in name.split("/"))


def of_python(name, data):
    """Pairs of one Python file, in the order of the parser's walk; none where it does not parse."""
    try:
        source = data.decode("utf8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = source.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        query = " ".join(text.split("\n\n")[0].split())
        first = node.body[0]
        rest = node.end_lineno - node.lineno - (first.end_lineno - first.lineno)
        if len(query) in QUERY_LEN and rest in BODY_LINES and first.lineno > node.lineno:
            code = lines[node.lineno - 1:first.lineno - 1] + lines[first.end_lineno:node.end_lineno]
            yield query, "\n".join(code), name, node.name


FUNCTION = re.compile(r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?fn\s+(\w+)")


def of_rust(name, data):
    """Pairs of one Rust file, in the order of their lines."""
    try:
        lines = data.decode("utf8").splitlines()
    except UnicodeDecodeError:
        return
    at = 0
    while at < len(lines):
        if not lines[at].lstrip().startswith("///"):
            at += 1
            continue
        comment = []
        while at < len(lines) and lines[at].lstrip().startswith("///"):
            comment.append(lines[at].lstrip()[3:].strip())
            at += 1
        while at < len(lines) and lines[at].lstrip().startswith("#["):
            at = attribute_end(lines, at)
        found = FUNCTION.match(lines[at]) if at < len(lines) else None
        end = body_end(lines, at) if found else None
        query = first_paragraph(comment)
        if end and len(query) in QUERY_LEN and end - at in BODY_LINES:
            code = [line for line in lines[at:end] if not line.lstrip().startswith(("///", "//!"))]
            yield query, dedent(code), name, found[1]


def attribute_end(lines, at):
    """The line behind an attribute, which may go over several."""
    depth = 0
    for end in range(at, min(at + 40, len(lines))):
        depth += lines[end].count("[") - lines[end].count("]")
        if depth <= 0:
            return end + 1
    return at + 1


STRINGS = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\])\'|//.*')


def body_end(lines, at):
    """The line behind the brace that closes the function that begins at a line; None where there is no such body."""
    depth = 0
    for end in range(at, min(at + BODY_LINES.stop + 20, len(lines))):
        code = STRINGS.sub("", lines[end])
        depth += code.count("{") - code.count("}")
        if depth == 0 and ("}" in code or code.rstrip().endswith(";")):
            return end + 1 if "}" in code and end > at else None
    return None


def first_paragraph(comment):
    """What a documentation comment says first, its links as their words."""
    words = []
    for line in comment:
        if not line and words:
            break
        words.append(line)
    return plain(" ".join(words))


def plain(text):
    """Markdown as what is read of it: links are their words, emphasis is gone, white space is single."""
    text = re.sub(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?", "", text)
    # What follows a word or a `#` is an index or an attribute, and no link.
    text = re.sub(r"(?<![\w#])\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])?", r"\1", text)
    text = re.sub(r"\*\*|(?<!\w)__|__(?!\w)|</?\w[^>]*>", "", text)
    return " ".join(text.split())


def dedent(lines):
    """Lines without the white space that all of them begin with."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)
