"""What an engine is asked, for what a client of Ollama asked."""

import json

import pytest

from vllama.gateway.ollama.ask import RAW_MAX_TOKENS, Asked, Kind, OnlyLoad, translate
from vllama.gateway.ollama.messages import Untranslatable

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def ask(kind: Kind, **body) -> tuple[str, dict]:
    asked = translate(kind, json.dumps({"model": "as written"} | body).encode(), model="org/M")
    assert isinstance(asked, Asked)
    return asked.path.decode(), json.loads(asked.body)


def test_a_chat():
    path, body = ask(Kind.CHAT, messages=HI)
    assert (path, body) == ("/v1/chat/completions", {"model": "org/M", "messages": HI} | STREAM)


def test_a_prompt_is_a_chat_of_one_message_after_the_system_prompt():
    path, body = ask(Kind.GENERATE, prompt="hi", system="be brief")
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "system", "content": "be brief"}, *HI]


def test_a_raw_prompt_and_one_with_a_suffix_are_completions():
    path, body = ask(Kind.GENERATE, prompt="[INST] hi", raw=True)
    assert (path, body) == (
        "/v1/completions", {"model": "org/M", "prompt": "[INST] hi", "max_tokens": RAW_MAX_TOKENS} | STREAM,
    )  # fmt: skip
    path, body = ask(Kind.GENERATE, prompt="def f(", suffix="return x", options={"num_predict": 7})
    assert (path, body["suffix"], body["max_tokens"]) == ("/v1/completions", "return x", 7)


@pytest.mark.parametrize(("said", "streamed"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_lines_unless_they_are_declined_and_the_engine_streams_anyway(said, streamed):
    asked = translate(Kind.CHAT, json.dumps({"messages": HI} | said).encode(), model="m")
    assert isinstance(asked, Asked)
    assert (asked.streamed, json.loads(asked.body)["stream"]) == (streamed, True)


def test_options_that_vllm_has_pass_as_they_were_written_and_others_do_not():
    raw = (
        b'{"messages":[{"role":"user","content":"hi"}],"options":{"temperature":0.10,"top_p":1,"top_k":20,"min_p":0.05,'
        b'"seed":1,"stop":["a","b"],"presence_penalty":1.5,"frequency_penalty":1,"repeat_penalty":1.2,"num_predict":9,'
        b'"num_ctx":4096,"mirostat":1,"num_gpu":1,"typical_p":0.7,"made_up":1}}'
    )
    asked = translate(Kind.CHAT, raw, model="m")
    assert isinstance(asked, Asked)
    assert b'"temperature":0.10,' in asked.body
    options = {k: v for k, v in json.loads(asked.body).items() if k not in {"model", "messages", *STREAM}}
    assert options == {
        "temperature": 0.1, "top_p": 1, "top_k": 20, "min_p": 0.05, "seed": 1, "stop": ["a", "b"],
        "presence_penalty": 1.5, "frequency_penalty": 1, "repetition_penalty": 1.2, "max_tokens": 9,
    }  # fmt: skip


@pytest.mark.parametrize("limit", [-1, -2, 0, None])
def test_no_limit_is_no_limit(limit):
    assert "max_tokens" not in ask(Kind.CHAT, messages=HI, options={"num_predict": limit, "stop": None})[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("json", {"type": "json_object"}),
        ({"type": "object"}, {"type": "json_schema", "json_schema": {"name": "format", "schema": {"type": "object"}}}),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("asking", [{"messages": HI}, {"prompt": "hi"}, {"prompt": "hi", "raw": True}])
def test_a_format(given, expected, asking):
    kind = Kind.CHAT if "messages" in asking else Kind.GENERATE
    assert ask(kind, format=given, **asking)[1].get("response_format") == expected


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (True, {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        ("high", {"reasoning_effort": "high"}),
        (None, {}),
    ],
)
def test_thinking(think, expected):
    body = ask(Kind.CHAT, messages=HI, think=think)[1]
    assert {k: v for k, v in body.items() if k in {"chat_template_kwargs", "reasoning_effort"}} == expected


def test_tools_pass_as_they_are_and_an_empty_list_of_them_does_not():
    assert ask(Kind.CHAT, messages=HI, tools=[TOOL])[1]["tools"] == [TOOL]
    assert "tools" not in ask(Kind.CHAT, messages=HI, tools=[])[1]


def test_logprobs():
    body = ask(Kind.CHAT, messages=HI, logprobs=True, top_logprobs=3)[1]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert "logprobs" not in ask(Kind.CHAT, messages=HI, top_logprobs=3)[1]


@pytest.mark.parametrize("keep_alive", [0, -1, 90, 1.5, "10m", "-1", "0"])
def test_keep_alive_goes_along(keep_alive):
    assert ask(Kind.CHAT, messages=HI, keep_alive=keep_alive)[1]["keep_alive"] == keep_alive
    assert ask(Kind.EMBED, input="x", keep_alive=keep_alive)[1]["keep_alive"] == keep_alive
    assert ask(Kind.EMBEDDINGS, prompt="x", keep_alive=keep_alive)[1]["keep_alive"] == keep_alive


def test_embeddings_old_and_new():
    plain = {"model": "org/M", "input": ["a", "b"], "encoding_format": "float"}
    assert ask(Kind.EMBED, input=["a", "b"]) == ("/v1/embeddings", plain | {"truncate_prompt_tokens": -1})
    assert ask(Kind.EMBED, input=["a", "b"], truncate=False, dimensions=8)[1] == plain | {"dimensions": 8}
    assert ask(Kind.EMBEDDINGS, prompt="a")[1]["input"] == "a"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.CHAT, {}),
        (Kind.CHAT, {"messages": []}),
        (Kind.GENERATE, {}),
        (Kind.GENERATE, {"prompt": ""}),
        (Kind.EMBED, {"input": []}),
        (Kind.EMBEDDINGS, {}),
    ],
)
def test_nothing_to_be_said_is_only_about_the_model(kind, body):
    assert translate(kind, json.dumps(body).encode(), model="m") == OnlyLoad(kind=kind)


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (Kind.CHAT, {"messages": "hi"}, "Expected `array | null`"),
        (Kind.CHAT, {"messages": [{"content": "hi"}]}, "missing required field `role`"),
        (Kind.CHAT, {"messages": HI, "format": 7}, '`format` is "json" or a JSON schema, not 7'),
        (Kind.CHAT, {"messages": HI, "think": "a bit"}, "not 'a bit'"),
        (Kind.CHAT, {"messages": [{"role": "user", "images": ["http://x/y.png"]}]}, "must be base64"),
        (Kind.GENERATE, {"prompt": "x", "template": "{{ .Prompt }}"}, "chat template"),
        (Kind.EMBED, {"input": [1]}, "Expected `str`"),
    ],
)
def test_what_makes_no_sense_is_said(kind, body, why):
    with pytest.raises(Untranslatable, match=why.replace("|", r"\|")):
        translate(kind, json.dumps(body).encode(), model="m")
