"""What people are shown of a command line has no secrets in it."""

import pytest

from vllama.engine.command import EngineCommand
from vllama.engine.shown import HIDDEN, masked, masked_arguments, shown


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "apiKey", "--hf-token", "DB_PASSWORD", "password",
        "SSH_AUTH_SOCK", "GITHUB_PAT", "ApiKey", "hfToken",
    ],
)  # fmt: skip
def test_a_name_that_speaks_of_secrets_hides_its_value(name):
    assert masked(name, "whatever") == HIDDEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--tokenizer", "org/tokenizer"),
        ("max_num_batched_tokens", "8192"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("PATH", "/usr/bin:/bin"),
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("HF_HOME", "/models/hf_cache"),
        ("--kv-transfer-config", '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'),
        ("", "skip-tokenizer-init-please"),
    ],
)
def test_what_is_no_secret_is_shown(name, value):
    assert masked(name, value) == value


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("http://user:pw@proxy:3128/x", f"http://{HIDDEN}@proxy:3128/x"),
        ("prefix hf_abcdefghijklmnopqrstuvwx suffix", f"prefix {HIDDEN} suffix"),
        ("sk-0123456789abcdefghij", HIDDEN),
        ('{"api_key": "a\\"b", "url": "x"}', f'{{"api_key": "{HIDDEN}", "url": "x"}}'),
    ],
)
def test_what_looks_like_a_secret_is_hidden_under_any_name(value, left):
    assert masked("X", value) == left


def test_flags_name_what_follows_them():
    argv = ["vllm", "serve", "org/a", "--hf-token", "abc", "--port", "1", "--some-key=xyz", "--middleware", "a", "b"]
    assert list(masked_arguments(argv)) == [
        "vllm", "serve", "org/a", "--hf-token", HIDDEN, "--port", "1", f"--some-key={HIDDEN}", "--middleware", "a", "b",
    ]  # fmt: skip


def test_only_what_is_not_inherited_is_shown_and_an_unknown_port_is_none():
    command = EngineCommand(
        argv=("vllm", "serve", "org/a", "--port", "0"),
        env=(("HOME", "/root"), ("MY_TOKEN", "x"), ("PATH", "/own"), ("SPT_NOENV", "1")),
    )
    seen = shown(command, {"HOME": "/root", "PATH": "/bin"}, port_known=False)
    assert seen.argv == ("vllm", "serve", "org/a", "--port", "PORT")
    assert seen.env == (("MY_TOKEN", HIDDEN), ("PATH", "/own"), ("SPT_NOENV", "1"))
    assert shown(command, {}).argv[-1] == "0"
