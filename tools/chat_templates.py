"""Renders the chat templates of tests/fixtures/templates as transformers does, for the tests to compare with.

    chat_templates.py [--check]     writes expected.json beside cases.json, or compares with it

Needs transformers (any since 4.50), which no other tool does; nothing of it is needed to run the tests.
Exit status: 0 done, 1 what is there differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template as compile_template

FOLDER = Path(__file__).parent.parent / "tests" / "fixtures" / "templates"


def render(cases: dict, case: dict, chat: str, tools: bool, prompt: bool) -> dict:
    """One case with what came of it: a text, or the words of the template that refuses."""
    name = case["template"]
    variables = cases["specials"][name] | case.get("variables", {})
    result = {"template": name, "chat": chat, "tools": tools, "prompt": prompt, "variables": case.get("variables", {})}
    template = compile_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    try:
        text = template.render(
            messages=cases["chats"][chat],
            tools=cases["tools"] if tools else None,
            documents=None,
            add_generation_prompt=prompt,
            **variables,
        )
        return result | {"text": text}
    except jinja2.exceptions.TemplateError as error:
        return result | {"refused": error.message}


def main() -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    cases = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
    results = [
        render(cases, case, chat, tools, prompt)
        for case in cases["cases"]
        for chat in case["chats"]
        for tools in case["tools"]
        for prompt in (True, False)
    ]
    text = json.dumps(results, ensure_ascii=False, indent=1) + "\n"
    file = FOLDER / "expected.json"
    if not arguments.check:
        file.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        print(f"{file} differs from what transformers renders", file=sys.stderr)
        return 1
    print(f"{len(results)} renders")
    return 0


if __name__ == "__main__":
    sys.exit(main())
