"""Command lines of other tools, as settings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllama.cli.imports.command import NotVllm, read_command
from vllama.cli.imports.ollama import address


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("vllm serve a/b", "a/b"),
        ("env X=1 /opt/bin/vllm serve --port 1 --model a/b", "a/b"),
        ("uv run vllm serve a/b --seed -1", "a/b"),
        ("/v/bin/python3 -m vllm.entrypoints.openai.api_server --model a/b", "a/b"),
        ("sh -c 'CUDA_VISIBLE_DEVICES=1 exec vllm serve a/b'", "a/b"),
        ("podman run -v /m:/models docker.io/vllm/vllm-openai:v0.11.0 vllm serve /models/x", "/m/x"),
    ],
)
def test_many_ways_to_run_it(text: str, model: str) -> None:
    assert read_command(text).model == model


def test_where_its_vllm_is() -> None:
    assert read_command("vllm serve a/b").vllm is None
    assert read_command("/v/bin/python -m vllm.entrypoints.openai.api_server --model a").vllm == "/v/bin/vllm"


def test_values_and_adapters() -> None:
    engine = read_command(
        """vllm serve m --seed -1 --middleware a b --lora-modules x=/x '{"name":"y","path":"/y"}' -O3"""
    )
    assert engine.entry == {"seed": "-1", "extra_args": {"middleware": ["a", "b"]}, "lora": {"x": "/x", "y": "/y"}}
    assert engine.refused == [("-O3", "write the flag's long name under extra_args")]


@pytest.mark.parametrize("text", ["", "vllm serve", "vllm bench", "vllm serve 'a", "ollama serve", "docker run nginx"])
def test_what_is_no_vllm(text: str) -> None:
    with pytest.raises(NotVllm):
        read_command(text)


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_whatever_it_says_it_is_read_or_refused(text: str) -> None:
    for command in (text, f"vllm serve m {text}", f"docker run {text} vllm/vllm-openai {text}"):
        try:
            read_command(command)
        except NotVllm:
            continue


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("http://box", "http://box:80"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_where_ollama_is(said: str, url: str) -> None:
    assert address(said) == url
