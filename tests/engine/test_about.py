"""What the files of a model tell about it."""

import json
import os
import struct

import pytest

from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.engine.about import about
from vllama.engine.kinds import Task

CONFIG = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16",
    "max_position_embeddings": 40960, "hidden_size": 64,
}  # fmt: skip
NAME = "org/M"


@pytest.fixture
def put(tmp_path):
    """`put(config, name=text)`: org/M in the cache of `tmp_path`, with 1,000 bytes of weights."""

    def put(config, **files):
        repository = tmp_path / "models--org--M"
        directory = repository / "snapshots" / "abc"
        directory.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        header = json.dumps({"w": {"dtype": "BF16", "shape": [500], "data_offsets": [0, 1000]}}).encode()
        header = header.ljust(200)
        (directory / "model.safetensors").write_bytes(struct.pack("<Q", 200) + header + bytes(792))
        (directory / "config.json").write_text(json.dumps(config))
        for file, text in files.items():
            (directory / file.replace("__", ".")).write_text(text)
        return directory

    return put


def test_a_chat_model(put, tmp_path):
    directory = put(CONFIG, chat_template__jinja="{% if tools %}", LICENSE="MIT")
    os.utime(directory / "config.json", (1e9, 1e9))
    found = about(ModelSpec(model=NAME), tmp_path)
    assert (found.task, found.family, found.quantization) == (Task.CHAT, "qwen3", "BF16")
    assert (found.parameters, found.size_bytes, found.max_model_len) == (500, 1000, 40960)
    assert (found.modified_at, found.chat_template, found.licence) == (1e9, "{% if tools %}", "MIT")
    assert (found.sees, found.calls_tools, found.thinks, found.config["hidden_size"]) == (False, False, False, 64)
    assert len(bytes.fromhex(found.digest)) == 32


def test_what_models_yaml_says_of_it_counts(put, tmp_path):
    put(CONFIG)
    launch = LaunchSpec(
        settings=(("max_model_len", 4096),),
        extra_args=(("tool_call_parser", "hermes"), ("reasoning-parser", "qwen3")),
    )
    found = about(ModelSpec(model=NAME, launch=launch), tmp_path)
    assert (found.max_model_len, found.calls_tools, found.thinks) == (4096, True, True)


def test_quantised_weights_do_not_tell_how_many_parameters_there_are(put, tmp_path):
    put(CONFIG | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    found = about(ModelSpec(model=NAME), tmp_path)
    assert (found.quantization, found.parameters) == ("AWQ", None)


def test_a_model_that_sees_keeps_its_numbers_one_floor_down(put, tmp_path):
    put({"model_type": "qwen_vl", "vision_config": {}, "text_config": CONFIG})
    found = about(ModelSpec(model=NAME), tmp_path)
    assert (found.sees, found.family, found.max_model_len, found.quantization) == (True, "qwen_vl", 40960, "BF16")


def test_a_directory_that_models_yaml_names(put):
    directory = put(CONFIG, tokenizer_config__json='{"chat_template": "x"}')
    found = about(ModelSpec(model="mine", launch=LaunchSpec(path=str(directory))), None)
    assert (found.family, found.chat_template) == ("qwen3", "x")


@pytest.mark.parametrize("config", [None, "[]", "{", '{"torch_dtype": 7, "text_config": [], "model_type": null}'])
def test_odd_files_tell_nothing(put, tmp_path, config):
    directory = put({})
    if config is None:
        (directory / "config.json").unlink()
    else:
        (directory / "config.json").write_text(config)
    found = about(ModelSpec(model=NAME), tmp_path)
    assert (found.family, found.parameters, found.max_model_len) == ("", None, None)


def test_a_model_that_is_not_there_is_guessed_by_its_name(tmp_path):
    assert about(ModelSpec(model="org/Embed-1B"), tmp_path).task is Task.EMBEDDING
    assert about(ModelSpec(model="org/Rerank"), None).task is Task.RERANK
    nothing = about(ModelSpec(model=NAME), tmp_path)
    assert (nothing.task, nothing.size_bytes, nothing.modified_at) == (Task.CHAT, 0, None)
