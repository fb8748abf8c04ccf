"""Files for vLLM's --config that models.yaml names."""

import asyncio
from pathlib import Path

import pytest

from vllama.controller.manifest import Manifest, ManifestInvalid, ManifestWatch, load
from vllama.controller.manifest.effective import effective
from vllama.domain.spec import ModelSpec

MODELS = "models:\n  org/a:\n    config_file: flags.yaml\n    max_num_seqs: 8\n    extra_args: {seed: 7}\n  org/b: {}\n"


def read(directory: Path, config: str | None, models: str = MODELS) -> Manifest:
    (directory / "models.yaml").write_text(models)
    if config is not None:
        (directory / "flags.yaml").write_text(config)
    return load(directory / "models.yaml", environ={"HOME": str(directory)})


def spec(directory: Path, config: str) -> ModelSpec:
    return read(directory, config).models["org/a"]


def problems(directory: Path, config: str | None, models: str = MODELS) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        read(directory, config, models)
    return [str(problem).removeprefix(f"{directory}/") for problem in caught.value.problems]


def test_what_it_says_counts_below_what_models_yaml_says(tmp_path: Path) -> None:
    found = spec(tmp_path, "max-num-seqs: 4\nmax_model_len: 32k\nnuma-bind: true\nhf-overrides: {a: 1}\n")
    assert found.launch.config_file == str(tmp_path / "flags.yaml")
    assert found.launch.setting("max_num_seqs") == 8
    assert found.launch.setting("max_model_len") == 32000
    said = {setting.name: setting.value for setting in effective(found)}
    assert said["config_file"] == str(tmp_path / "flags.yaml")
    assert (said["config_file.max_model_len"], said["config_file.numa-bind"]) == (32000, True)
    assert "config_file.max_num_seqs" not in said  # not in force


def test_its_content_is_part_of_the_engines_identity(tmp_path: Path) -> None:
    first = spec(tmp_path, "block-size: 16\n")
    assert spec(tmp_path, "# the same\nblock_size: 16\n").spec_hash == first.spec_hash
    assert spec(tmp_path, "block-size: 32\n").spec_hash != first.spec_hash
    plain = read(tmp_path, None, "org/a: {max_num_seqs: 8, extra_args: {seed: 7}}").models["org/a"]
    assert plain.spec_hash != first.spec_hash


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("port: 1\n", "1: the file: 'port' is not allowed here: write `port` as a key of the model"),
        ("a: 1\nhost: x\n", "2: the file: 'host' is not allowed here: vllama gives every engine its address"),
        ("hos: x\n", "1: the file: 'hos' is not allowed here"),
        ("served_model_name: [x]\n", "1: the file: 'served-model-name' is not allowed here"),
        ("api-key: x\n", "1: the file: 'api-key' is not allowed here"),
        ("gpu-memory-utilization: 0.5\n", "1: the file: 'gpu-memory-utilization' is not allowed here"),
        ("tensor-parallel-size: 2\n", "1: the file: 'tensor-parallel-size' is not allowed here"),
        ("enable-sleep-mode: true\n", "1: the file: 'enable-sleep-mode' is not allowed here"),
        ("model: x\n", "1: the file: 'model' is not allowed here"),
        ("config: x.yaml\n", "1: the file: 'config' is not allowed here: write `config_file`"),
        ("lora-modules: [a=b]\n", "1: the file: lora-modules is not taken here: write `lora: {name: /path}`"),
        ("max-model-len: long\n", "1: max-model-len: 'long' is not a whole number"),
        ("seed:\n", "1: seed: has no value, and vLLM would take it for the word None"),
        ("middleware: []\n", "1: middleware: an empty list is no value"),
        ("allowed-media-domains: any\n", "1: allowed-media-domains: these words are vllama's"),
        ("a: b: c\n", "1:5: a ':' is out of place"),
        ("- a\n", " the file: ['a'] is not a mapping"),
    ],
)
def test_what_vllama_owns_is_refused_with_file_and_line(tmp_path: Path, config: str, says: str) -> None:
    assert problems(tmp_path, config)[0].startswith(f"flags.yaml:{says}")


def test_what_is_wrong_with_the_file_itself(tmp_path: Path) -> None:
    [said] = problems(tmp_path, None)
    assert said == (
        f"models.yaml:3: org/a: config_file: {tmp_path}/flags.yaml: there is no such file, or it cannot be read"
    )
    [said] = problems(tmp_path, None, "defaults: {config_file: ~/flags.txt}\nmodels: {a: {}, b: {}}")
    assert said.endswith("flags.txt: its name must end in .yaml or .yml")


def test_what_is_honoured(tmp_path: Path) -> None:
    assert spec(tmp_path, "enable-sleep-mode: false\n").sleep_mode is False
    assert spec(tmp_path, "kv-cache-memory-bytes: 2GiB\n").launch.setting("kv_cache_memory_bytes") == 2 << 30
    assert spec(tmp_path, "chat-template: ${X}\n").launch.setting("chat_template") == "${X}"  # vLLM knows no references


def test_one_for_all_and_a_model_without(tmp_path: Path) -> None:
    models = "defaults: {config_file: flags.yaml}\nmodels:\n  a: {}\n  b: {config_file: null}\n"
    found = read(tmp_path, "block-size: 16\n", models)
    configs = [each.launch.config_file is not None for each in (*found.models.values(), found.spec_for_undeclared("c"))]
    assert configs == [True, False, True]


def test_a_change_of_it_is_seen(tmp_path: Path) -> None:
    rings: list[int] = []
    path, flags = tmp_path / "models.yaml", tmp_path / "flags.yaml"
    path.write_text(MODELS)
    watch = ManifestWatch(path, lambda: rings.append(1), environ={}, settle_s=0.001)

    def look(text: str | None) -> tuple[object, str | None, int]:
        if text is None:
            flags.unlink(missing_ok=True)
        else:
            flags.write_text(text)
        asyncio.run(watch.check())
        found = watch.current.models.get("org/a")
        return (
            None if found is None else found.launch.setting("block_size"),
            None if watch.error is None else str(watch.error).rpartition(": ")[2],
            watch.generation,
        )

    missing = "there is no such file, or it cannot be read"
    assert look(None) == (None, missing, 0)
    assert look("block-size: 16") == (16, None, 1)
    assert look("block-size: 16") == (16, None, 1)
    assert look("block-size: 32") == (32, None, 2)
    assert look("block-size: x") == (32, "'x' is not a whole number", 2)
    assert look(None) == (32, missing, 2)
    assert look("block-size: 32") == (32, None, 2)
    assert len(rings) == 6
