from collections.abc import Iterator

import httpx
import pytest

from tests.hub import COMMIT, LATER, Hub, Model, running
from vllama.engine.listing import PullFailed, endpoint_of, hub_name, look_up, wanted, why_not

WEIGHTS = bytes(range(256)) * 8
FILES = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS, "README.md": b"# it"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running({"a/b": Model(commits={COMMIT: FILES, LATER: {"config.json": b"{}"}}, refs={"main": COMMIT})}) as hub:
        yield hub


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["config.json", "model.safetensors", "generation_config.json", "LICENSE", "chat_template.jinja"], []),
        (["model.safetensors", "pytorch_model.bin", "training_args.bin", "tf_model.h5", "flax_model.msgpack"],
         ["pytorch_model.bin", "training_args.bin", "tf_model.h5", "flax_model.msgpack"]),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
          "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
         ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"]),
        (["pytorch_model.bin", "model.pt"], ["model.pt"]),
        (["config.json", "model.pt"], []),
        (["pytorch_model.bin", "2_Dense/model.safetensors", "1_Pooling/config.json"], []),  # each directory for itself
        (["model.safetensors", "original/consolidated.00.pth", "onnx/model.onnx", "x.gguf", "metal/model.bin",
          "openvino/openvino_model.bin", "checkpoint-500/model.safetensors"],
         ["original/consolidated.00.pth", "onnx/model.onnx", "x.gguf", "metal/model.bin",
          "openvino/openvino_model.bin", "checkpoint-500/model.safetensors"]),
        (["model.safetensors", "consolidated.safetensors", "params.json", "tekken.json"], []),  # vLLM may take either
        (["model.safetensors", "README.md", "assets/demo.png", ".gitattributes"],
         ["README.md", "assets/demo.png", ".gitattributes"]),
    ],
)  # fmt: skip
def test_what_vllm_reads(names: list[str], left_out: list[str]) -> None:
    assert wanted(names) == set(names) - set(left_out)


def test_a_listing_is_of_one_commit(hub: Hub) -> None:
    listing = look_up("a/b", revision=None, endpoint=hub.url, token=None)
    assert (listing.revision, listing.commit) == ("main", COMMIT)
    assert {file.name for file in listing.files} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert [file.name for file in listing.left_out] == ["README.md"]
    assert listing.size_bytes == len(WEIGHTS) + 4
    weights = next(file for file in listing.files if file.name == "model.safetensors")
    assert weights.blob == weights.sha256
    assert look_up("a/b", revision=COMMIT, endpoint=hub.url, token=None).revision == COMMIT


def failure(hub: Hub, model: str = "a/b", *, revision: str | None = None, token: str | None = None) -> str:
    with pytest.raises(PullFailed) as failed:
        look_up(model, revision=revision, endpoint=hub.url, token=token)
    return str(failed.value)


def test_what_the_hub_does_not_have_is_said(hub: Hub) -> None:
    assert failure(hub, "no/such").startswith(f"{hub.url} has no model no/such, or does not show it to you.")
    assert failure(hub, revision="v9").startswith("a/b has no branch, tag or commit 'v9'")
    hub.models["a/b"].token = "hf_secret"
    assert "needs HF_TOKEN" in failure(hub)
    assert "needs HF_TOKEN" in failure(hub, token="hf_other")
    assert look_up("a/b", revision=None, endpoint=hub.url, token="hf_secret").files


def test_a_model_without_weights_for_vllm_is_not_fetched(hub: Hub) -> None:
    hub.models["a/gguf"] = Model(commits={COMMIT: {"config.json": b"{}", "x-Q4.gguf": WEIGHTS}})
    assert failure(hub, "a/gguf").startswith(
        "a/gguf has no weights that vLLM reads, neither safetensors nor .bin (it ha"
    )


def test_no_hub_at_all() -> None:
    with pytest.raises(PullFailed, match="cannot be reached") as failed:
        look_up("a/b", revision=None, endpoint="http://127.0.0.1:9", token=None)
    assert "HF_ENDPOINT" in str(failed.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (type("GatedRepoError", (Exception,), {})("x"), "accept its terms at http://hub/a/b"),
        (type("OfflineModeIsEnabled", (ConnectionError,), {})("x"), "HF_HUB_OFFLINE"),
        (type("HFValidationError", (ValueError,), {})("x"), "is no name of a model"),
        (httpx.ReadTimeout("timed out"), "cannot be reached: timed out"),
        (KeyError("odd"), "could not be fetched: 'odd'"),
    ],
)
def test_errors_are_told_to_people(error: Exception, says: str) -> None:
    assert says in why_not(error, model="a/b", revision=None, endpoint="http://hub")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("gpt2", "gpt2"),
        ("Qwen/Qwen3-8B:latest", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B:q4", None),
        ("..", None),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/", "Qwen/Qwen3-0.6B"),
        ("hf.co/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("a/b/c", None),
        ("../b", None),
        ("a b", None),
        ("", None),
    ],
)
def test_the_ways_in_which_people_name_a_model(text: str, name: str | None) -> None:
    assert hub_name(text) == name


def test_a_mirror_is_named_by_the_environment() -> None:
    assert endpoint_of({}) == "https://huggingface.co"
    assert endpoint_of({"HF_ENDPOINT": "https://mirror/"}) == "https://mirror"
