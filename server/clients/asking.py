"""Requests and streams with nothing but Python's own library, for the programs beside it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator


class Server:
    """A server, asked by one caller: a connection a request."""

    def __init__(self, base: str, token: str | None = None, timeout: float = 600.0) -> None:
        url = urllib.parse.urlsplit(base)
        self.host, self.port = url.hostname or "127.0.0.1", url.port or 80
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._timeout = timeout

    def open(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        """The answer as it begins; its body is still to come, and closing it closes the connection."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, self._headers | {"connection": "close"})
        return connection.getresponse()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        """Status and body; whoever is told to come again does so."""
        while True:
            answer = self.open(method, path, body)
            text = answer.read()
            if answer.status != 429:
                return answer.status, json.loads(text) if text else {}
            time.sleep(int(answer.headers.get("retry-after-ms", "1000")) / 1000)

    def events(self, path: str, body: dict) -> Iterator[dict]:
        """The events of a stream, each as soon as it is there."""
        answer = self.open("POST", path, body | {"stream": True})
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}: {answer.read()!r}")
        with answer:
            for line in answer:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    yield json.loads(line[len(b"data: ") :])

    def model(self) -> str:
        """The first of the served names."""
        return self.ask("GET", "/v1/models")[1]["data"][0]["id"]
