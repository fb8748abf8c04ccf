"""What the reader takes the schema takes: for every key, and for every file that we show to people."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.controller.manifest.test_properties import SPECS
from vllama.controller.manifest.json_schema import manifest_schema
from vllama.controller.manifest.load import load_bytes
from vllama.controller.manifest.schema import BalanceKeys, IdleKeys, ModelKeys, PolicyKeys, ServerKeys
from vllama.controller.manifest.settings import VllmSettings

ROOT = Path(__file__).parents[3]
COPY = ROOT / "docs" / "models.schema.json"
SCHEMA = manifest_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
SAMPLES = [*sorted((ROOT / "manifests").glob("*.yaml")), ROOT / "vllama/cli/demo.yaml"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "vllama").rglob("*.md"))]
KEYS: list[tuple[type[BaseModel], str]] = [
    (VllmSettings, "model"), (ModelKeys, "model"), (IdleKeys, "idle"), (PolicyKeys, "policy"), (BalanceKeys, "balance"),
    (ServerKeys, "server"),
]  # fmt: skip
FIELDS = [(keys, name, where) for keys, where in KEYS for name in keys.model_fields]
VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 4, 65535, 70_000, 1_000_001, 1 << 60, 0.0, 0.5, 1.0, 1.5, -0.5, 1e300,
    "", " ", "a", " a", "auto", "none", "never", "any", "true", "Yes", "oFF", "0", "1", "01", "-1", "+5", "1.5", ".5",
    "1e3", "32k", "32K", "1.5M", "4GiB", "512 MiB", "80gb", "1.5g", "10", "30m", "1h30m", "500ms", "1d 2H", "5x",
    "queue", "refuse", "http://gpu-1:8081", "https://x/v1/", "ftp://x", "http://", "images.example.org", "no host",
    "é" * 300,
    [], [0], [0, 1], [0, 0], ["0"], [-1], ["a", "b"], ["a", 1, True], [{"a": 1}], [[1]], ["x" * 300], [" a"],
    {}, {"a": 1}, {"a": "b"}, {"a": None}, {"a": [1]}, {"a": []}, {"a": {"b": 1}}, {"sleep_after": "5m"}, {"level": 3},
    {"level": 4}, {"sleep": 1}, {"url": "http://x"},
]  # fmt: skip
MAPPINGS = {"extra_args", "env", "lora", "idle"}


def problems(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:100]}" for error in VALIDATOR.iter_errors(document)]


def reads(keys: type[BaseModel], name: str, value: Any) -> bool:
    required = {"url": "http://x"} if keys is ServerKeys else {}
    try:
        TypeAdapter(keys).validate_python({**required, name: value})
    except ValidationError:
        return False
    return True


def takes(where: str, name: str, value: Any) -> bool:
    schema = {"$defs": SCHEMA["$defs"], **SCHEMA["$defs"][where]["properties"][name]}
    return Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(("keys", "name", "where"), FIELDS, ids=lambda part: part if isinstance(part, str) else "")
def test_the_schema_takes_what_the_reader_takes_and_little_else(keys: type[BaseModel], name: str, where: str) -> None:
    read = [value for value in VALUES if reads(keys, name, value)]
    assert [value for value in read if not takes(where, name, value)] == []
    assert takes(where, name, "${NAME}") or name in MAPPINGS or (where, name) == ("server", "aliases")
    refused = [value for value in VALUES if value not in read and not isinstance(value, float)]
    wrongly = [value for value in refused if takes(where, name, value)]
    assert len(wrongly) <= 6, wrongly  # texts whose number is out of range, and the like


def test_every_key_is_there_and_ours_say_what_they_are() -> None:
    assert SCHEMA["$defs"]["model"]["properties"].keys() == {*VllmSettings.model_fields, *ModelKeys.model_fields}
    for keys, where in KEYS:
        if keys not in {VllmSettings, BalanceKeys}:
            for name in keys.model_fields:
                assert SCHEMA["$defs"][where]["properties"][name]["description"], name


def test_the_copy_in_docs_is_this_one() -> None:
    assert json.loads(COPY.read_text()) == SCHEMA, "write it anew: vllama schema > docs/models.schema.json"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_sample_is_valid(sample: Path) -> None:
    assert problems(yaml.safe_load(sample.read_text())) == []


def examples() -> list[tuple[str, str]]:
    """The models.yaml files in our pages: blocks of YAML that begin like one, or say that they are one."""
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            if re.match(r"(#[^\n]*models\.yaml[^\n]*\n)?(defaults|models|servers|policy|balance|version):", block):
                found.append((f"{page.name}-{number}", block))
    return found


@pytest.mark.parametrize(("name", "block"), examples())
def test_every_example_in_the_docs_is_valid(name: str, block: str) -> None:
    assert problems(yaml.safe_load(block)) == []
    assert load_bytes(block.encode(), file=name, environ={"LLM_KEY": "of-the-environment"})


def test_there_are_examples() -> None:
    assert "README.md-0" in [name for name, _ in examples()]


@settings(max_examples=60)
@given(st.dictionaries(st.from_regex(r"[a-c]/[a-z0-9.-]{1,8}", fullmatch=True), SPECS, max_size=3))
def test_whatever_is_read_is_valid_in_both_forms(models: dict[str, Any]) -> None:
    assert problems(models) == []
    assert problems({"models": models, "version": 1}) == []


@pytest.mark.parametrize("document", [None, {}, {"models": None}, {"org/a": None}, {"defaults": {"aliases": None}}])
def test_little_is_needed(document: Any) -> None:
    assert problems(document) == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"models": {"org/a": {"gpu_memory_utilisation": 0.5}}}, "gpu_memory_utilisation"),
        ({"org/a": {"pin": "perhaps"}}, "pin"),
        ({"models": {}, "org/a": {}}, "org/a"),
        ({"defaults": {"aliases": ["x"]}}, "aliases"),
        ({"servers": [{"max_concurrent_requests": 3}]}, "url"),
        ({"models": {"org/a": {"idle": {"sleep": "5m"}}}}, "sleep"),
        ({"policy": {"reserve": "much"}}, "reserve"),
        ({"version": 2}, "version"),
        ([], "$"),
    ],
)
def test_mistakes_are_found(document: Any, says: str) -> None:
    assert any(says in problem for problem in problems(document))
