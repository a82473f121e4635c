"""Asks a running `motorbrain serve` everything that OpenAI's own client can ask, and LangChain where it is installed.

    pip install openai langchain-openai pydantic
    motorbrain serve --address 127.0.0.1:8080
    python server/clients/openai_client.py http://127.0.0.1:8080

Each check reads typed results, so what a client could not parse fails here. A server with tokens is asked with the
one in MOTORBRAIN_TOKEN. Ends with status 1 where a check has failed.
"""

import json
import os
import sys
import traceback
import urllib.request

import openai
from openai import OpenAI
from pydantic import BaseModel

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
TOKEN = os.environ.get("MOTORBRAIN_TOKEN", "none")
client = OpenAI(base_url=f"{BASE}/v1", api_key=TOKEN, max_retries=0, timeout=300)
MODEL = client.models.list().data[0].id
# The model's own template would begin with another system message, by which it answers this in French.
SYSTEM = "You are a helpful assistant."
ASKED = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


def models():
    assert client.models.retrieve(MODEL).id == MODEL
    expect(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("gpt-4o"))


def embeddings():
    # The client asks for base64 unless it is told otherwise.
    many = client.embeddings.create(model=MODEL, input=["a cat", "a dog"])
    floats = client.embeddings.create(model=MODEL, input="a dog", encoding_format="float")
    assert [it.index for it in many.data] == [0, 1]
    near(many.data[1].embedding, floats.data[0].embedding)
    assert many.usage.prompt_tokens == many.usage.total_tokens > 0
    assert len(client.embeddings.create(model=MODEL, input="a", dimensions=64).data[0].embedding) == 64
    assert len(client.embeddings.create(model=MODEL, input=[[1, 2], [3]]).data) == 2


def completions():
    asked = dict(model=MODEL, prompt="Once upon a time", max_tokens=8, temperature=0)
    whole = client.completions.create(**asked, logprobs=2, echo=True)
    assert whole.choices[0].text.startswith("Once upon a time") and whole.usage.completion_tokens == 8
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.token_logprobs)
    plain = client.completions.create(**asked).choices[0].text
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == plain
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    several = client.completions.create(**{**asked, "prompt": ["One", "Two"], "temperature": 1}, n=2, seed=1)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]


def chat():
    asked = dict(model=MODEL, messages=ASKED, max_tokens=16, temperature=0)
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    choice = whole.choices[0]
    assert "Paris" in choice.message.content and choice.finish_reason in ("stop", "length"), choice
    assert len(choice.logprobs.content[0].top_logprobs) == 3
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content, (text, choice.message.content)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0
    several = client.chat.completions.create(**{**asked, "temperature": 1}, n=2, seed=1)
    assert len(several.choices) == 2
    ours = client.chat.completions.create(**asked, extra_body={"top_k": 5, "min_p": 0.1, "conversation": "client"})
    assert ours.choices[0].message.content


def chat_helpers():
    with client.chat.completions.stream(model=MODEL, messages=ASKED, max_tokens=16, temperature=0) as stream:
        kinds = [event.type for event in stream]
        assert "content.delta" in kinds and "content.done" in kinds, kinds
        assert stream.get_final_completion().choices[0].message.content
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Ann is 7 years old. Give name and age."}],
        response_format=Person, temperature=0, max_tokens=100)
    assert isinstance(parsed.choices[0].message.parsed, Person), parsed
    spoken = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say something as JSON."}],
        response_format={"type": "json_object"}, temperature=0, max_tokens=200)
    if spoken.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(spoken.choices[0].message.content), dict)


def tools():
    asked = dict(model=MODEL, messages=[{"role": "user", "content": "What is the weather in Paris?"}], temperature=0,
                 tools=[WEATHER], tool_choice="required", max_tokens=100, parallel_tool_calls=False)
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "tool_calls", whole
    call = whole.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        done = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.delta" in kinds, kinds
    assert done.function.arguments == call.function.arguments
    told = [*asked["messages"], whole.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}]
    assert client.chat.completions.create(model=MODEL, messages=told, tools=[WEATHER], tool_choice="none",
                                          max_tokens=16).choices[0].message.content is not None


def responses():
    # To its end: an answer that is cut is `response.incomplete`, of which the helpers make no final one.
    asked = dict(model=MODEL, input="What is the capital of France?", temperature=0, max_output_tokens=32,
                 instructions=SYSTEM)
    first = client.responses.create(**asked, metadata={"a": "b"})
    assert first.output_text and first.usage.input_tokens_details.cached_tokens >= 0, first
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = client.responses.create(**{**asked, "input": "And of Italy?"}, previous_response_id=first.id)
    assert second.previous_response_id == first.id and second.output_text
    names = []
    with client.responses.stream(**asked) as stream:
        names = [event.type for event in stream]
        final = stream.get_final_response()
    assert names[:3] == ["response.created", "response.in_progress", "response.output_item.added"], names
    assert final.output_text and final.usage.total_tokens > 0
    plain = list(client.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in plain] == list(range(len(plain)))
    client.responses.delete(first.id)
    expect(openai.NotFoundError, "response_not_found", lambda: client.responses.retrieve(first.id))
    expect(openai.BadRequestError, "previous_response_not_found",
           lambda: client.responses.create(**asked, previous_response_id=first.id))


def responses_helpers():
    parsed = client.responses.parse(model=MODEL, input="Ann is 7 years old. Give name and age.", text_format=Person,
                                    temperature=0, max_output_tokens=100)
    assert isinstance(parsed.output_parsed, Person), parsed
    flat = {"type": "function", **WEATHER["function"], "strict": True}
    asked = dict(model=MODEL, input=[{"role": "user", "content": "What is the weather in Paris?"}], temperature=0,
                 tools=[flat], tool_choice="required", max_output_tokens=100, parallel_tool_calls=False)
    called = client.responses.create(**asked)
    call = next(item for item in called.output if item.type == "function_call")
    assert "city" in json.loads(call.arguments)
    events = list(client.responses.create(**asked, stream=True))
    kinds = {event.type for event in events}
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds, kinds
    told = [*asked["input"], *called.output,
            {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}]
    assert client.responses.create(model=MODEL, input=told, max_output_tokens=16).status in ("completed", "incomplete")


def errors():
    bad = [
        ("unsupported_parameter", lambda: client.chat.completions.create(model=MODEL, messages=ASKED, store=True)),
        ("unsupported_parameter", lambda: client.completions.create(model=MODEL, prompt="a", suffix="b")),
        ("bad_request", lambda: client.chat.completions.create(model=MODEL, messages=ASKED, top_p=5)),
        ("bad_request", lambda: list(client.chat.completions.create(model=MODEL, messages=ASKED, top_p=5, stream=True))),
        ("context_length_exceeded", lambda: client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 20000}])),
        ("empty_input", lambda: client.embeddings.create(model=MODEL, input="")),
        ("invalid_token", lambda: client.embeddings.create(model=MODEL, input=[10**6])),
    ]
    for code, ask in bad:
        expect(openai.BadRequestError, code, ask)
    expect(openai.NotFoundError, "model_not_found", lambda: client.completions.create(model="gpt-4o", prompt="a"))
    if TOKEN != "none":
        stranger = OpenAI(base_url=f"{BASE}/v1", api_key="stranger", max_retries=0)
        expect(openai.AuthenticationError, "invalid_api_key", stranger.models.list)


def raw():
    """What has no place in the client: the brain's own paths."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{BASE}{path}", data, headers)) as answer:
            return json.loads(answer.read())

    assert ask("/brain/health")["health"] == "ready"
    assert ask("/brain/rerank", {"query": "add two numbers", "documents": ["def plus(a, b): return a + b", "x"]})["order"]
    assert "assistant" in ask("/brain/apply-template", {"messages": ASKED})["prompt"]
    assert "/v1/chat/completions" in ask("/openapi.json")["paths"]


def langchain():
    try:
        from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    except ImportError:
        return "not installed"
    chats = ChatOpenAI(base_url=f"{BASE}/v1", api_key=TOKEN, model=MODEL, temperature=0, max_tokens=16, max_retries=0)
    asked = [(message["role"], message["content"]) for message in ASKED]
    assert "Paris" in chats.invoke(asked).content
    assert "".join(chunk.content for chunk in chats.stream(asked))
    person = chats.with_structured_output(Person, method="json_schema").bind(max_tokens=100)
    assert isinstance(chats.bind(max_tokens=100).with_structured_output(Person).invoke("Ann is 7 years old."), Person) \
        if hasattr(person, "with_structured_output") else True
    # Its own tokens are another model's.
    vectors = OpenAIEmbeddings(base_url=f"{BASE}/v1", api_key=TOKEN, model=MODEL, check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a cat", "a dog"])) == 2
    return None


def expect(kind, code, ask):
    try:
        ask()
    except kind as error:
        assert error.code == code, (error.code, code)
        return
    raise AssertionError(f"{code} was expected")


def near(one, other):
    assert len(one) == len(other) and all(abs(a - b) < 1e-6 for a, b in zip(one, other))


CHECKS = [models, embeddings, completions, chat, chat_helpers, tools, responses, responses_helpers, errors, raw, langchain]


def main():
    wanted = sys.argv[2:]
    failed = 0
    print(f"openai {openai.__version__}, {MODEL} at {BASE}")
    for check in CHECKS:
        if wanted and check.__name__ not in wanted:
            continue
        try:
            print(f"{check.__name__:20} {check() or 'ok'}")
        except Exception:  # each check is told of
            failed += 1
            print(f"{check.__name__:20} FAILED")
            traceback.print_exc()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
