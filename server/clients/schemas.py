"""Has JSON sampled that fits schemas, and tools called, and checks it with other programs than the server's.

    pip install jsonschema pydantic-core
    motorbrain serve --address 127.0.0.1:8080
    python server/clients/schemas.py http://127.0.0.1:8080 schemas.json --seeds 3

A file of schemas is a JSON list: schemas, or objects with a `schema`. What is finished must be valid for Python's jsonschema,
what was cut must be the beginning of a JSON text, and a call must name an offered tool and have arguments that fit it. The same
messages without a schema say what a schema costs. Ends with status 1 where something is not so.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pydantic_core
from asking import Server

AT_ONCE = 16
ASKED = [{"role": "user", "content": "Give me a short example, as JSON."}]
CALL = [{"role": "user", "content": "Please do something useful with one of your tools."}]
TEMPERATURE = 1.5


def tool(name: str, properties: dict) -> dict:
    """A tool whose arguments are these, all of them."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": f"Does {name}", "parameters": parameters}}


TOOLS = [
    tool("get_weather", {"city": {"type": "string", "maxLength": 16}, "unit": {"enum": ["C", "F"]}}),
    tool("add", {"a": {"type": "integer", "minimum": 0, "maximum": 999}, "b": {"type": "integer", "maximum": 9}}),
    tool("set_lamp", {"on": {"type": "boolean"}, "colour": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}}),
]


class Asking:
    """A server with what is asked of it in common."""

    def __init__(self, base: str, most: int) -> None:
        self._server, self._most = Server(base), most
        self._model = self._server.model()

    def answer(self, messages: list[dict], seed: int, **more: object) -> tuple[int, dict]:
        """Status and body of a chat."""
        asked = {"model": self._model, "messages": messages, "temperature": TEMPERATURE, "seed": seed}
        return self._server.ask("POST", "/v1/chat/completions", asked | {"max_tokens": self._most} | more)

    def all(self, ask, items: list) -> tuple[list, float]:
        """All of them, some at once, and the seconds that took."""
        began = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, items)), time.perf_counter() - began


def check_schema(text: str, finish: str, schema: dict) -> str | None:
    """What is wrong with an answer."""
    if finish != "stop":
        return partial(text)
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def partial(text: str) -> str | None:
    """What is wrong with the beginning of a JSON text."""
    try:
        pydantic_core.from_json(text.encode(), allow_partial="trailing-strings")
    except ValueError as error:
        # So short that it has not begun to be anything.
        return None if text.strip() in ("", "-") else f"no beginning of JSON: {error}"
    return None


def check_call(message: dict) -> str | None:
    """What is wrong with a call."""
    offered = {it["function"]["name"]: it["function"]["parameters"] for it in TOOLS}
    calls = message.get("tool_calls") or []
    if not calls:
        return "no call"
    for call in calls:
        if call["function"]["name"] not in offered:
            return f"`{call['function']['name']}` was not offered"
        try:
            jsonschema.validate(json.loads(call["function"]["arguments"]), offered[call["function"]["name"]])
        except (ValueError, jsonschema.ValidationError) as error:
            return f"{call}: {error}"
    return None


def rate(tokens: int, seconds: float) -> str:
    """Tokens a second."""
    return f"{tokens} tokens in {seconds:.0f} s, {tokens / seconds:.1f} a second"


def schemas(asking: Asking, rows: list[dict], seeds: int) -> list[str]:
    """Answers to schemas, and what is wrong with them."""
    items = [(index, seed) for seed in range(seeds) for index in range(len(rows))]

    def ask(item: tuple[int, int]) -> tuple[int, dict]:
        shape = {"type": "json_schema", "json_schema": {"name": "it", "schema": rows[item[0]]}}
        return asking.answer(ASKED, item[1], response_format=shape)

    answers, seconds = asking.all(ask, items)
    counted, refused, wrong, tokens = collections.Counter(), collections.Counter(), [], 0
    for (index, seed), (status, body) in zip(items, answers, strict=True):
        if status != 200:
            counted[f"refused ({status})"] += 1
            refused[body["error"]["message"][:100]] += 1
            if status != 400:
                wrong.append(f"schema {index}, seed {seed}: {status} {body}")
            continue
        choice = body["choices"][0]
        counted[choice["finish_reason"]] += 1
        tokens += body["usage"]["completion_tokens"]
        if found := check_schema(choice["message"]["content"], choice["finish_reason"], rows[index]):
            wrong.append(f"schema {index}, seed {seed}: {found}: {choice['message']['content'][:200]!r}")
    print(f"{len(items)} answers: {dict(counted)}; {rate(tokens, seconds)}")
    for message, count in refused.most_common():
        print(f"  {count:3} {message}")

    plain, more_seconds = asking.all(lambda item: asking.answer(ASKED, item[1]), items[: len(rows)])
    more = sum(body["usage"]["completion_tokens"] for _, body in plain)
    print(f"without schemas: {rate(more, more_seconds)}; with them {tokens / seconds / (more / more_seconds):.2f} of that")
    return wrong


def calls(asking: Asking, count: int) -> list[str]:
    """Calls of tools, and what is wrong with them."""
    answers, seconds = asking.all(
        lambda seed: asking.answer(CALL, seed, tools=TOOLS, tool_choice="required", max_tokens=160), list(range(count))
    )
    named, wrong, cut = collections.Counter(), [], 0
    for seed, (status, body) in enumerate(answers):
        if status != 200:
            wrong.append(f"call {seed}: {status} {body}")
            continue
        choice = body["choices"][0]
        cut += choice["finish_reason"] == "length"
        named.update(call["function"]["name"] for call in choice["message"].get("tool_calls") or [])
        if choice["finish_reason"] != "length" and (found := check_call(choice["message"])):
            wrong.append(f"call {seed}: {found}")
    print(f"{count} answers that must call: {dict(named)}, {cut} cut; {seconds:.0f} s")
    return wrong


def main() -> int:
    """Asks everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("schemas", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    rows = json.loads(arguments.schemas.read_text())
    rows = [row.get("schema", row) if isinstance(row, dict) else row for row in rows]
    rows = [json.loads(row) if isinstance(row, str) else row for row in rows]
    asking = Asking(arguments.base, arguments.tokens)
    wrong = schemas(asking, rows, arguments.seeds) + calls(asking, arguments.calls)
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
