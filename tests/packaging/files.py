"""What the packaging tests read: the repository's files, and the schemas beside these tests."""

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vllama.cli.serve import FINISH_WITHIN_S
from vllama.domain.spec import Policy
from vllama.runtime.local import settling, stopping

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = ROOT / "manifests" / "kubernetes"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[str]:
    """The files of the repository; skips where this is none (in an unpacked source distribution)."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    # also what is new and not ignored: a file must not be forgotten until it is committed
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@cache
def schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def problems(name: str, document: Any, *, definition: str | None = None) -> list[str]:
    """What is wrong with the document, by the schema or one definition of it; empty: nothing."""
    whole = schema(name)
    wanted = whole if definition is None else {**whole, "$ref": f"#/$defs/{definition}"}
    validator = jsonschema.validators.validator_for(whole)(wanted)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)]


def longest_end_s(policy: Policy) -> float:
    """How long `vllama serve` may take from SIGTERM to its end: requests, engines, what survives, the last answers."""
    engines = policy.stop_deadline_s + stopping.WORKERS_LEAVE_S + stopping.TRACKER_LEAVES_S + stopping.KILLED_WITHIN_S
    return policy.drain_deadline_s + engines + settling.LONGEST_S + FINISH_WITHIN_S


def seconds(duration: str) -> float:
    """Of `180s` and `3m`, as compose and systemd write them; a bare number is seconds."""
    number, unit = re.fullmatch(r"(\d+)(s|m|)", duration).groups()
    return int(number) * (60 if unit == "m" else 1)


@cache
def dockerfile() -> tuple[tuple[str, str], ...]:
    """(instruction, what it is told), with lines that go on joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return tuple((word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line))


def build_args() -> dict[str, str]:
    return dict(told.split("=", 1) for word, told in dockerfile() if word == "ARG")
