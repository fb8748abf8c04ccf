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


@pytest.mark.parametrize(("text", "count"), [("12", 12), ("4k", 4000), ("1.5K", 1536), ("auto", None), ("-1", None)])
def test_counts(text: str, count: int | None) -> None:
    assert parse_count(text) == count
