"""`vllama config`: every setting of the server, and where it comes from."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from vllama.cli import env_file
from vllama.cli.manifest import manifest
from vllama.cli.render.table import GAP, cut
from vllama.cli.terminal import show, show_json, width
from vllama.cli.wiring import DEFAULT_PORTS
from vllama.domain.spec import IdleSpec
from vllama.domain.units import format_duration
from vllama.engine.cache import hub_directory
from vllama.engine.shown import masked
from vllama.runtime.ray.settings import GRACE_S, SILENCE_S

FURTHER: tuple[tuple[str, Any], ...] = (
    ("VLLAMA_VLLM_PORT_START", DEFAULT_PORTS[0]), ("VLLAMA_VLLM_PORT_END", DEFAULT_PORTS[1]),
    ("VLLAMA_RAY_SILENCE", f"{SILENCE_S:g}s"), ("VLLAMA_RAY_GRACE", f"{GRACE_S:g}s"),
    ("VLLAMA_TRANSFORMERS_CACHE", None), ("VLLAMA_UNLOAD_TIMEOUT", format_duration(IdleSpec().sleep_after_s or 0)),
    ("VLLAMA_UNLOAD_MODE", "auto"), ("VLLAMA_DEFAULT_DEVICE", None), ("VLLAMA_OFFLINE_MODE", False),
    ("VLLAMA_VLLM", None), ("VLLAMA_SERVER", None), ("VLLAMA_API_KEY", None), ("HF_HOME", None), ("HF_TOKEN", None),
)  # fmt: skip
SECRET = ("VLLAMA_API_KEY", "HF_TOKEN")


def run(options: Mapping[str, Any], config_dir: Path, *, as_json: bool) -> None:
    """`options`: variables that are options of `vllama serve`, and their defaults."""
    rows = list(_rows(options, config_dir))
    if as_json:
        show_json(rows)
    else:
        show(_table(rows, width()))
        print("\nAn option of the command line goes before all of these.")


def _rows(options: Mapping[str, Any], config_dir: Path) -> Iterator[dict[str, Any]]:
    further = dict(FURTHER)
    for name, usual in {**options, **further}.items():
        if name == "VLLAMA_CONFIG_DIR":
            yield {"name": name, "value": str(config_dir), "from": _source(name)}
        elif not os.environ.get(name):
            value = str(hub_directory(os.environ)) if name == "VLLAMA_TRANSFORMERS_CACHE" else usual
            yield _of_the_file(name, config_dir) or {"name": name, "value": value, "from": "default"}
        else:
            value = os.environ[name]
            value = ("***" if value else value) if name in SECRET else masked(name, value)
            yield _of_the_file(name, config_dir) or {"name": name, "value": value, "from": _source(name)}


def _source(name: str) -> str:
    return ".env" if name in env_file.taken else "environment" if os.environ.get(name) else "default"


def _of_the_file(name: str, config_dir: Path) -> dict[str, Any] | None:
    """What `defaults` of models.yaml say goes before the environment: the file knows its models better."""
    if name not in {"VLLAMA_UNLOAD_TIMEOUT", "VLLAMA_UNLOAD_MODE"}:
        return None
    path = config_dir / "models.yaml"
    here, without = manifest(path).undeclared.idle, manifest(path.with_name(".none")).undeclared.idle
    if name == "VLLAMA_UNLOAD_TIMEOUT" and here.sleep_after_s != without.sleep_after_s:
        value = "never" if here.sleep_after_s is None else format_duration(here.sleep_after_s)
        return {"name": name, "value": value, "from": "models.yaml"}
    if name == "VLLAMA_UNLOAD_MODE" and here.level != without.level:
        return {"name": name, "value": "auto" if here.level is None else int(here.level), "from": "models.yaml"}
    return None


def _table(rows: list[dict[str, Any]], columns: int | None) -> Text:
    lines = [("SETTING", "VALUE", "FROM"), *((row["name"], _shown(row["value"]), row["from"]) for row in rows)]
    first, second, last = (max(len(line[column]) for line in lines) for column in range(3))
    if columns is not None:
        second = max(12, min(second, columns - first - last - 2 * len(GAP)))
    text = Text()
    for number, (name, value, source) in enumerate(lines):
        style = "bold" if number == 0 else "dim" if source == "default" else "default"
        text.append(f"{name:<{first}}{GAP}{cut(value, second):<{second}}{GAP}{source}\n", style)
    text.rstrip()
    return text


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
