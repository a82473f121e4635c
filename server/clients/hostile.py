"""Treats a server badly, and looks at what the others get meanwhile.

    motorbrain serve --address 127.0.0.1:8080 & python3 server/clients/hostile.py http://127.0.0.1:8080 --process $!

Mutated bodies, bodies of a gigabyte, heads and bodies that come a byte at a time, idle connections, readers who stop, callers
who go away, and at the end SIGTERM while answers stream. One caller asks all the while for a short vector: what he waits is
compared with what he waits alone. Where the server has tokens, shares go by them: `--tokens` gives the callers' and that one's.
Ends with status 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from copy import deepcopy
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from asking import Server

# What a server may say that is not the caller's doing: draining, and out of time.
NAMED = (503, 504)
# Times what somebody waits alone.
BESIDE = 4.0

wrong: list[str] = []


def check(what: str, holds: bool, found: object = "") -> None:
    """Says whether something is as it should be."""
    print(f"{'ok   ' if holds else 'WRONG'} {what} {found}", flush=True)
    if not holds:
        wrong.append(what)


def ask_on(server: Server, model: str, ends: Event, told: Connection) -> None:
    """Asks for a short vector again and again until it ends; then tells what each took, and what was refused."""
    waited, refused, turn = [], [], 0
    told.send("begins")
    while not waited or not ends.is_set():
        turn += 1
        began = time.perf_counter()
        status, body = server.ask("POST", "/v1/embeddings", {"model": model, "input": f"number {turn}"})
        waited.append(time.perf_counter() - began)
        if status != 200:
            refused.append(f"a neighbour was answered {status}: {body}")
        ends.wait(0.02)
    told.send((waited, refused))


class Neighbour:
    """Somebody who asks for short vectors, in a process of its own: it never waits for this one's threads."""

    def __init__(self, server: Server, model: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends = context.Event()
        self._told, told = context.Pipe(duplex=False)
        self._process = context.Process(target=ask_on, args=(server, model, self._ends, told), daemon=True)
        self._process.start()
        # Its end is the other's alone: one that fails is an error here and no silence.
        told.close()
        self._told.recv()

    def end(self) -> list[float]:
        """What it waited each time, in seconds, shortest first."""
        self._ends.set()
        waited, refused = self._told.recv()
        self._process.join()
        wrong.extend(refused)
        return sorted(waited)


def at(waited: list[float], quantile: float) -> float:
    """A quantile in milliseconds."""
    return waited[min(len(waited) - 1, int(quantile * len(waited)))] * 1e3


class Bench:
    """The server and what it is judged by."""

    def __init__(self, base: str, process: int, tokens: tuple[str | None, str | None]) -> None:
        hostile, other = tokens
        self.server, self.others, self.process = Server(base, hostile), Server(base, other), process
        token = f"authorization: Bearer {hostile}\r\n" if hostile else ""
        self.head = f"host: localhost\r\n{token}content-type: application/json\r\n".encode()
        self.model = self.server.model()
        neighbour = Neighbour(self.others, self.model)
        time.sleep(4)
        waited = neighbour.end()
        self.alone = at(waited, 0.95)
        print(f"      alone a vector takes {at(waited, 0.5):.1f} ms, {self.alone:.1f} ms at the 95th percentile")

    @contextmanager
    def neighbour(self, what: str):
        """While this is done, somebody else is served."""
        neighbour = Neighbour(self.others, self.model)
        yield
        waited = neighbour.end()
        ratio = at(waited, 0.95) / self.alone
        found = f"{at(waited, 0.5):.1f} ms, {at(waited, 0.95):.1f} ms at the 95th percentile, {ratio:.2f} times; {len(waited)}"
        check(f"others beside {what}", ratio <= BESIDE, found)

    def descriptors(self) -> int:
        """How many the process has open."""
        return len(os.listdir(f"/proc/{self.process}/fd"))

    def resident(self) -> float:
        """Its memory in MiB."""
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))

    def sampled(self) -> int:
        """Tokens that were sampled, once none is any more: the brain says it once a second while something happens."""
        seen: list[int] = []
        while len(seen) < 4 or len(set(seen[-4:])) > 1:
            lines = self.server.open("GET", "/metrics").read().decode().splitlines()
            seen.append(sum(int(line.split()[-1]) for line in lines if line.startswith("motorbrain_tokens_decoded_total")))
            time.sleep(0.5)
        return seen[-1]

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((self.server.host, self.server.port), timeout=60)


def bodies(model: str) -> list[tuple[str, dict]]:
    """Requests that are right, and cheap."""
    user = [{"role": "user", "content": "Hello"}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
    return [
        ("/v1/chat/completions", {"model": model, "messages": user, "max_tokens": 2, "temperature": 0.5, "seed": 1}),
        ("/v1/chat/completions", {"model": model, "messages": user, "max_tokens": 2, "tools": [tool], "stream": True}),
        ("/v1/chat/completions", {"model": model, "messages": user, "max_tokens": 2, "stop": ["a"], "logprobs": True,
                                  "response_format": {"type": "json_object"}, "logit_bias": {"5": 1}}),
        ("/v1/completions", {"model": model, "prompt": ["a", "b"], "max_tokens": 2, "echo": True, "logprobs": 1}),
        ("/v1/embeddings", {"model": model, "input": ["a", "b"], "dimensions": 64, "encoding_format": "base64"}),
        ("/v1/responses", {"model": model, "input": "Hello", "max_output_tokens": 2, "store": True}),
        ("/brain/conversations/hostile/step", {"text": "a", "count": 2, "temperature": 0.5, "top": 2}),
        ("/brain/conversations/hostile/score", {"token_ids": [1, 2, 3]}),
        ("/brain/rerank", {"query": "a", "documents": ["a", "b"]}),
        ("/brain/tokenize", {"text": "a"}),
        ("/brain/apply-template", {"messages": user}),
    ]


ODD = [None, True, -1, 0, 1e308, 2**63, "", "\ud800", "\x00", [], {}, [[]], "x" * 4096, {"a": {"a": {}}}, 0.5, [None] * 99]


# What says how long an answer is. Without it one that is right by chance is as long as the window, which is no ill treatment
# but load: `cargo xtask bench door` measures that.
LENGTHS = ("max_tokens", "max_output_tokens", "count")


def mutated(right: dict, random: random.Random) -> bytes:
    """The body with something wrong, somewhere: in what it says, or in its bytes."""
    body = deepcopy(right)
    for _ in range(random.randint(1, 3)):
        place = body
        while isinstance(place, dict | list) and place:
            key = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
            if not isinstance(place[key], dict | list) or random.random() < 0.5:
                if random.random() < 0.2:
                    del place[key]
                elif random.random() < 0.2 and isinstance(place, dict):
                    place[str(random.choice(["extra", "n", "user", "echo", "top_k", "\u0000"]))] = deepcopy(random.choice(ODD))
                else:
                    place[key] = deepcopy(random.choice(ODD))
                break
            place = place[key]
    for key in LENGTHS:
        if key in right and body.get(key) is None:
            body[key] = right[key]
    text = json.dumps(body).encode()
    if random.random() < 0.3:
        at = random.randrange(len(text) + 1)
        kind = random.randrange(3)
        text = [text[:at], text[:at] + bytes([random.randrange(256)]) + text[at + 1 :], text[:at] + b"[" * 2000 + text[at:]][kind]
    return text


def mutations(bench: Bench, count: int) -> None:
    """Bodies that are wrong in many ways."""
    rng, said = random.Random(1), Counter()
    right = bodies(bench.model)
    work = [(path, mutated(body, rng)) for path, body in (rng.choice(right) for _ in range(count))]
    lock = threading.Lock()

    def ask() -> None:
        while True:
            with lock:
                if not work:
                    return
                path, body = work.pop()
            answer = bench.server.open("POST", path, body)
            answer.read()
            with lock:
                said[answer.status] += 1
                if answer.status >= 500 and answer.status not in NAMED:
                    wrong.append(f"{path} was answered {answer.status} for {body[:300]!r}")

    with bench.neighbour("mutated bodies"):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check(f"{count} mutated bodies", all(status < 500 or status in NAMED for status in said), dict(said))


def huge(bench: Bench) -> None:
    """A gigabyte, said beforehand, and in chunks."""
    before = bench.resident()
    with bench.neighbour("bodies of a gigabyte"):
        with bench.connect() as link:
            link.sendall(b"POST /v1/embeddings HTTP/1.1\r\n" + bench.head +
                         b"content-length: 1073741824\r\n\r\n")
            check("a body of a gigabyte", b" 413 " in link.recv(4096))
        for _ in range(3):
            sent, answer = 0, b""
            with bench.connect() as link, suppress(OSError):
                link.sendall(b"POST /v1/embeddings HTTP/1.1\r\n" + bench.head +
                             b"transfer-encoding: chunked\r\n\r\n")
                piece = b"100000\r\n" + b"[" * 0x100000 + b"\r\n"
                while sent < 1 << 30:
                    link.sendall(piece)
                    sent += 0x100000
                    link.settimeout(0.001)
                    with suppress(TimeoutError):
                        answer = link.recv(4096)
                        break
                    link.settimeout(60)
            check("a gigabyte in chunks is cut off", sent < 1 << 28, f"after {sent >> 20} MiB: {answer[:30]!r}")
    check("memory after them", bench.resident() < before + 64, f"{before:.0f} -> {bench.resident():.0f} MiB")


async def slow(bench: Bench, head: bytes, what: str, links: int, patience: float) -> None:
    """Connections that give a byte a second; they must be closed."""
    async def one() -> float:
        reader, writer = await asyncio.open_connection(bench.server.host, bench.server.port)
        began = time.perf_counter()
        with suppress(OSError):
            writer.write(head)
            while time.perf_counter() - began < patience and not reader.at_eof():
                writer.write(b"a")
                await writer.drain()
                with suppress(TimeoutError):
                    if await asyncio.wait_for(reader.read(4096), 1.0) == b"":
                        break
        writer.close()
        return time.perf_counter() - began
    took = await asyncio.gather(*(one() for _ in range(links)))
    check(f"{links} connections with slow {what} are ended", max(took) < patience, f"after {max(took):.0f} s at most")


def slow_ones(bench: Bench, patience: float) -> None:
    """Heads and bodies that take for ever."""
    head = b"POST /v1/embeddings HTTP/1.1\r\n" + bench.head + b"x-slow: "
    body = b"POST /v1/embeddings HTTP/1.1\r\n" + bench.head + b"content-length: 9999\r\n\r\n"

    async def both() -> None:
        await asyncio.gather(slow(bench, head, "heads", 100, patience), slow(bench, body, "bodies", 20, patience))
    with bench.neighbour("slow heads and bodies"):
        asyncio.run(both())


def idle(bench: Bench) -> None:
    """Connections that say nothing."""
    with bench.neighbour("1,000 idle connections"):
        links = []
        for _ in range(1000):
            links.append(bench.connect())
        time.sleep(5)
        for link in links:
            link.close()


def readers_that_stop(bench: Bench) -> None:
    """Streams of which nobody takes anything."""
    asked = {"model": bench.model, "messages": [{"role": "user", "content": "Count for ever"}], "stream": True,
             "max_tokens": 400, "logprobs": True, "top_logprobs": 20}
    body = json.dumps(asked).encode()
    with bench.neighbour("readers that stop"):
        links = []
        for _ in range(8):
            link = socket.socket()
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            link.connect((bench.server.host, bench.server.port))
            link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + bench.head +
                         b"content-length: %d\r\n\r\n" % len(body) + body)
            links.append(link)
        time.sleep(10)
        for link in links:
            link.close()


def goes_away(bench: Bench) -> None:
    """A caller who goes away in the middle of a stream; what was sampled for him beyond what he has seen."""
    asked = {"model": bench.model, "messages": [{"role": "user", "content": "Tell me a very long story"}],
             "max_tokens": 1000, "temperature": 1, "logit_bias": {"2": -100}, "logprobs": True}
    before, seen = bench.sampled(), 0
    stream = bench.server.events("/v1/chat/completions", asked)
    for event in stream:
        seen += sum(len((choice.get("logprobs") or {}).get("content") or []) for choice in event["choices"])
        if seen >= 40:
            break
    stream.close()
    more = bench.sampled() - before - seen
    # Two runs, and a token that is held back as a part of a character.
    check("a caller who goes away stops his work", more <= 3, f"{more} tokens more than the {seen} that he has seen")


def ends(bench: Bench) -> None:
    """SIGTERM while answers stream: each must come to its end."""
    asked = {"model": bench.model, "messages": [{"role": "user", "content": "Tell me a story"}], "max_tokens": 100,
             "logit_bias": {"2": -100}, "stream": True}
    ended, begun = [], threading.Barrier(17)

    def stream() -> None:
        answer = bench.server.open("POST", "/v1/chat/completions", asked)
        first = answer.readline()
        begun.wait()
        ended.append(answer.status == 200 and (first + answer.read()).endswith(b"data: [DONE]\n\n"))

    threads = [threading.Thread(target=stream) for _ in range(16)]
    for thread in threads:
        thread.start()
    begun.wait()
    os.kill(bench.process, signal.SIGTERM)
    for thread in threads:
        thread.join()
    check("SIGTERM under load", ended == [True] * 16, f"{sum(ended)} of 16 streams came to their end")


def main() -> int:
    """Does everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--tokens", nargs=2, metavar=("HOSTILE", "OTHER"), default=(None, None), help="two clients' tokens")
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--patience", type=float, default=60, help="seconds in which slow connections must be ended")
    arguments = parser.parse_args()
    bench = Bench(arguments.base, arguments.process, arguments.tokens)
    before = bench.descriptors()
    mutations(bench, arguments.mutations)
    huge(bench)
    slow_ones(bench, arguments.patience)
    idle(bench)
    readers_that_stop(bench)
    goes_away(bench)
    deadline = time.monotonic() + 60
    while bench.descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.2)
    check("descriptors left over", bench.descriptors() <= before, f"{before} -> {bench.descriptors()}")
    ends(bench)
    with suppress(http.client.HTTPException, OSError):
        bench.server.open("GET", "/healthz").read()
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
