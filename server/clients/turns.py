"""What a chat of ten turns reads when its whole history is sent each time, and by `previous_response_id`.

    MOTORBRAIN_TOKENS="$(python3 server/clients/turns.py tokens)" motorbrain serve --address 127.0.0.1:8080
    python3 server/clients/turns.py http://127.0.0.1:8080

Every token is a client of its own, who shares nothing with others: the chat's client sends turn after turn, and each turn's
history is sent once more by a client who has read nothing. Both must get the same answer; how much sooner the first
token comes to the one who has read before is what is printed. Ends with status 1 where something is not so.
"""

from __future__ import annotations

import statistics
import sys
import time

from asking import Server

TURNS = 10
# Tokens of an answer, and words of a message, so that the tenth turn has some 1,000 tokens.
ANSWER, WORDS = 40, 48
TEXT = (
    "The harbour was quiet before dawn and the boats lay still beside the stone wall while the keeper of the light "
    "climbed down the narrow stairs with his lamp and looked over the water for the ship that had been promised to him"
).split()
SYSTEM = "You are a patient teller of stories who answers in plain words."


def tokens() -> list[str]:
    """Bearer tokens: that of the chat, that of the responses, and one for each turn read anew."""
    return [f"a-client-of-the-chat-{index:02}" for index in range(TURNS + 2)]


def message(turn: int) -> str:
    """What is said in a turn."""
    return f"Part {turn}. " + " ".join(TEXT[(turn * 7 + place) % len(TEXT)] for place in range(WORDS))


def chat(server: Server, model: str, messages: list[dict]) -> dict:
    """An answer, the seconds to its first piece, and its usage."""
    asked = {"model": model, "messages": messages, "max_tokens": ANSWER, "temperature": 0, "logprobs": True}
    found: dict = {"text": "", "logprobs": [], "first": None}
    began = time.perf_counter()
    for event in server.events("/v1/chat/completions", asked | {"stream_options": {"include_usage": True}}):
        for choice in event["choices"]:
            piece = choice["delta"].get("content") or ""
            if piece and found["first"] is None:
                found["first"] = time.perf_counter() - began
            found["text"] += piece
            found["logprobs"] += (choice.get("logprobs") or {}).get("content") or []
        if event.get("usage"):
            found["prompt"] = event["usage"]["prompt_tokens"]
            found["cached"] = event["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def respond(server: Server, model: str, text: str, previous: str | None) -> dict:
    """The same by the other interface; with the answer's id."""
    asked = {"model": model, "input": text, "max_output_tokens": ANSWER, "temperature": 0, "instructions": SYSTEM}
    found: dict = {"text": "", "first": None}
    began = time.perf_counter()
    for event in server.events("/v1/responses", asked | ({"previous_response_id": previous} if previous else {})):
        if event["type"] == "response.output_text.delta":
            found["first"] = found["first"] or time.perf_counter() - began
            found["text"] += event["delta"]
        if event["type"] in ("response.completed", "response.incomplete"):
            usage = event["response"]["usage"]
            found["id"] = event["response"]["id"]
            found["prompt"], found["cached"] = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
    return found


def main(base: str) -> int:
    """Has both chats, and says what was found."""
    kept, responding, *fresh = (Server(base, token) for token in tokens())
    model = kept.model()
    messages = [{"role": "system", "content": SYSTEM}]
    wrong, before, sooner, spoken = [], 0, [], []
    print("turn  tokens  read  first [ms]  anew: read  first [ms]  sooner")
    for turn in range(TURNS):
        messages.append({"role": "user", "content": message(turn)})
        here, anew = chat(kept, model, messages), chat(fresh[turn], model, messages)
        read, whole = here["prompt"] - here["cached"], anew["prompt"] - anew["cached"]
        ratio = anew["first"] / here["first"]
        sooner.append(ratio)
        print(f"{turn + 1:4}  {here['prompt']:6}  {read:4}  {here['first'] * 1e3:10.0f}  {whole:10}  "
              f"{anew['first'] * 1e3:10.0f}  {ratio:6.1f}")
        if (here["text"], here["logprobs"]) != (anew["text"], anew["logprobs"]):
            wrong.append(f"turn {turn + 1}: {here['text']!r} and read anew {anew['text']!r}")
        # New are the message, the markers around it, and the token that was sampled last.
        new = here["prompt"] - before
        if turn and read > new + 1:
            wrong.append(f"turn {turn + 1}: {read} tokens were read, {new} are new")
        before = here["prompt"] + ANSWER
        messages.append({"role": "assistant", "content": here["text"]})
        spoken.append(here["text"])
    print(f"at {before - ANSWER} tokens {sooner[-1]:.1f} times sooner; middle of the last three {statistics.median(sooner[-3:]):.1f}")

    previous = None
    print("by previous_response_id\nturn  tokens  read  first [ms]")
    for turn in range(TURNS):
        answer = respond(responding, model, message(turn), previous)
        previous = answer["id"]
        print(f"{turn + 1:4}  {answer['prompt']:6}  {answer['prompt'] - answer['cached']:4}  {answer['first'] * 1e3:10.0f}")
        if answer["text"] != spoken[turn]:
            wrong.append(f"response {turn + 1}: {answer['text']!r} and in the chat {spoken[turn]!r}")
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["tokens"]:
        print(" ".join(tokens()))
    else:
        sys.exit(main(sys.argv[1]))
