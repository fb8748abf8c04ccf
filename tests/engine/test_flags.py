import pytest

from vllama.engine.flags import OWNED_FLAGS, flag_name, refuse_owned, refuse_owned_env


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("max_num_seqs", "max-num-seqs"),
        ("--max-num-seqs", "max-num-seqs"),
        ("speculative_config.num_tokens", "speculative-config.num_tokens"),  # a JSON key keeps its spelling
    ],
)
def test_flags_have_one_spelling(name: str, flag: str) -> None:
    assert flag_name(name) == flag


@pytest.mark.parametrize("flag", sorted(OWNED_FLAGS))
def test_what_is_owned_is_refused_in_every_spelling(flag: str) -> None:
    for name in (flag, flag.replace("-", "_"), f"--{flag}", f"no-{flag}"):
        refusal = refuse_owned(((name, "1"),))
        assert refusal is not None
        assert repr(name) in refusal


def test_an_abbreviation_is_refused_too() -> None:
    assert refuse_owned((("hos", "0.0.0.0"),)) is not None
    assert refuse_owned((("api-k", "secret"),)) is not None


@pytest.mark.parametrize("name", ["max-num-seqs", "enable-prefix-caching", "lora-modules", "kv-cache-dtype", "ssl"])
def test_the_rest_is_the_models_own(name: str) -> None:
    refused = refuse_owned(((name, True),))
    assert (refused is None) == (name != "ssl")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("enable-sleep-mode", False, True),
        ("enable_sleep_mode", False, True),
        ("no-enable-sleep-mode", True, True),
        ("enable-sleep-mode", True, False),
        ("no-enable-sleep-mode", False, False),
        ("enable-sleep-mode", "false", False),
    ],
)
def test_sleep_mode_can_only_be_declined(name: str, value: bool | str, allowed: bool) -> None:
    assert (refuse_owned(((name, value),)) is None) == allowed


def test_the_refusal_says_where_to_write_it_instead() -> None:
    assert refuse_owned((("tensor-parallel-size", 2),)) == (
        "extra_args: 'tensor-parallel-size' is not allowed here: write `tensor_parallel_size` as a key of the model; "
        "it decides how many GPUs it gets."
    )


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "SPT_NOENV", "VLLAMA_ENGINE_ID"])
def test_owned_variables_are_refused(name: str) -> None:
    assert name in (refuse_owned_env({"HF_TOKEN": "x", name: "1"}) or "")


def test_the_simulators_variables_may_be_set() -> None:
    assert refuse_owned_env({"VLLAMA_SIM_LOAD_S": "1", "VLLM_LOGGING_LEVEL": "DEBUG"}) is None
