from pathlib import Path

import pytest

from vllama.simulator.command import parse_command, parse_count


def test_what_vllm_assumes() -> None:
    command = parse_command(["serve", "org/model"])
    assert (command.model, command.served_model_names) == ("org/model", ("org/model",))
    assert (command.host, command.port, command.shutdown_timeout_s) == ("0.0.0.0", 8000, 0)
    assert command.gpu_memory_utilization is None
    assert not command.sleep_mode


def test_all_spellings() -> None:
    words = [
        "serve",
        "m",
        "--port=81",
        "--served_model_name",
        "a",
        "b",
        "--gpu-memory-utilization",
        "0.5",
        "-tp",
        "2",
        "--enable-sleep-mode",
    ]
    more = ["--max-model-len", "4K", "--kv-cache-memory", "2GiB", "--api-key", "k", "--shutdown-timeout", "3"]
    command = parse_command([*words, *more])
    assert (command.port, command.served_model_names, command.api_keys) == (81, ("a", "b"), ("k",))
    assert (command.gpu_memory_utilization, command.tensor_parallel_size) == (0.5, 2)
    assert (command.max_model_len, command.kv_cache_bytes, command.shutdown_timeout_s) == (4096, 2 << 30, 3)
    assert command.sleep_mode


def test_what_it_does_not_know_it_tolerates() -> None:
    command = parse_command(["serve", "m", "--frobnicate", "1", "--seed", "-1", "--no-such.thing=x", "--port", "9"])
    assert command.port == 9
    assert command.options["--seed"] == ("-1",)


@pytest.mark.parametrize(
    "words", [[], ["run", "m"], ["serve"], ["serve", "--port", "1"], ["serve", "m", "--port", "x"]]
)
def test_what_cannot_be_served(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"serve MODEL|invalid literal"):
        parse_command(words)


def test_adapters() -> None:
    modules = ["a=/somewhere", '{"name": "b", "path": "/there", "base_model_name": "m"}']
    command = parse_command(["serve", "m", "--enable-lora", "--lora-modules", *modules])
    assert command.lora_modules == {"a": "/somewhere", "b": "/there"}


def test_a_file_of_flags(tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("port: 1\nmax-model-len: 4K\nenable-sleep-mode: true\ngrpc: false\nmiddleware: [a, b]\nx: {a: 1}\n")
    command = parse_command(["serve", "m", "--config", str(file), "--port", "9"])
    assert (command.port, command.max_model_len, command.sleep_mode) == (9, 4096, True)  # the command line wins
    assert command.options["--middleware"] == ("a", "b")
    assert command.options["--x"] == ('{"a": 1}',)
    assert "--grpc" not in command.options
    for wrong in (tmp_path / "none.yaml", tmp_path / "flags.txt"):
        with pytest.raises(ValueError, match="onfig file"):
            parse_command(["serve", "m", "--config", str(wrong)])


@pytest.mark.parametrize(("text", "count"), [("12", 12), ("4k", 4000), ("1.5K", 1536), ("auto", None), ("-1", None)])
def test_counts(text: str, count: int | None) -> None:
    assert parse_count(text) == count
