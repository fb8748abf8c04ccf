"""docs/settings.md, made from the code: python -m tests.docs.settings > docs/settings.md"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import typer
from pydantic import BaseModel

from vllama.cli.app import app
from vllama.cli.config import FURTHER
from vllama.controller.manifest import shapes
from vllama.controller.manifest.effective import effective
from vllama.controller.manifest.json_schema import manifest_schema
from vllama.controller.manifest.schema import BalanceKeys, IdleKeys, ModelKeys, PolicyKeys, ServerKeys
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec, balance_keys
from vllama.controller.manifest.settings import VllmSettings
from vllama.domain.spec import DEFAULT_RESERVE_BYTES, ModelSpec, Policy
from vllama.domain.units import format_bytes, format_duration
from vllama.engine.flags import OWNED_ENV, OWNED_FLAGS

HEAD = """\
# Settings

Made from the code by `python -m tests.docs.settings`; a test compares.

Four places, each with its purpose: **models.yaml** says which models there are and how they run, **options** of
`vllama serve` how the server runs, **environment variables** are the same options for systemd and containers, and
**keys.yaml** ([security.md](security.md)) has the keys. `vllama config` shows the server's settings and where each
comes from, `vllama assign MODEL --show` a model's.
"""
SERVE = """
## `vllama serve`

The option goes before the variable, the variable before `.env` of the working directory, that before the default.
"""
ENVIRONMENT = """
## Further environment variables

Read by the server and the commands. `.env` of the working directory counts for those that begin with `VLLAMA_` or
`HF_`, but not for `VLLAMA_VLLM`.
"""
ABOUT = {
    "VLLAMA_VLLM_PORT_START": "The first port for engines, on loopback.",
    "VLLAMA_VLLM_PORT_END": "The port after the last one for engines.",
    "VLLAMA_RAY_SILENCE": "With `--runtime ray`: a machine that says nothing for longer is lost.",
    "VLLAMA_RAY_GRACE": "With `--runtime ray`: how long engines go on where their machine's agent is gone.",
    "VLLAMA_TRANSFORMERS_CACHE": "The model cache. Else `HF_HUB_CACHE`, else `hub` in `HF_HOME`.",
    "VLLAMA_UNLOAD_TIMEOUT": "Seconds or a duration: `idle.sleep_after` where the file says nothing of it.",
    "VLLAMA_UNLOAD_MODE": "1, 2, 3 or auto: `idle.level` where the file says nothing of it.",
    "VLLAMA_DEFAULT_DEVICE": "The GPU for models that name none and need one.",
    "VLLAMA_OFFLINE_MODE": "Look at the model cache once, and then at `vllama reload` only.",
    "VLLAMA_VLLM": "The `vllm` that runs models. Else the one on PATH, else the one beside vllama.",
    "VLLAMA_SERVER": "The server that commands ask (`--server`).",
    "VLLAMA_API_KEY": "The key that commands show (`--api-key`).",
    "HF_HOME": "Hugging Face's directory.",
    "HF_TOKEN": "Opens gated and private models.",
}
SIMULATED = """
## Simulated engines

With `--simulate`, in the environment or in a model's `env:`. `VLLAMA_SIM_LOAD_S`, `VLLAMA_SIM_SLEEP_S`,
`VLLAMA_SIM_WAKE_S` and `VLLAMA_SIM_TOKEN_S` are how long things take, `VLLAMA_SIM_RESIDUE` what a sleeper still holds,
`VLLAMA_SIM_TASK` what it can do, `VLLAMA_SIM_MAX_MODEL_LEN` its context, `VLLAMA_SIM_FAULTS` its bad manners
(`vllama/simulator/faults.py` lists them), `VLLAMA_SIM_DEAD_S` how long it outlives its core, and
`VLLAMA_SIM_HIDES_PROCESSES` has the driver list no processes, and `VLLAMA_SIM_SERVED` names a file that it notes its
requests in. vllama itself sets `VLLAMA_SIM_DEVICES` and
`VLLAMA_SIM_MEMORY`. `VLLAMA_TRACEBACK=1` shows where a command failed that should not have.
"""
FILE = """
## models.yaml

Durations are `30s`, `10m`, `1h30m` or seconds; bytes `4GiB`, `512MiB`, `80GB` or a number; `null` takes a default back.
Any value may have `${NAME}` or `${NAME:-default}` of the environment in it. The file is full (with `models:`, and
`version: 1` where wanted) or flat (every key a model). [models.schema.json](models.schema.json) is for editors.
"""
VLLM = """
### vLLM's own settings

By vLLM's names and with its meaning, for a model or in `defaults`; what is not said is left to vLLM. Any other flag of
`vllm serve` goes under `extra_args`.
"""


@cache
def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD + SERVE
    yield from _table(("option", "variable", "default", ""), _options())
    yield ENVIRONMENT
    yield from _table(("variable", "default", ""), _further())
    yield SIMULATED + FILE
    model = {setting.name: setting.value for setting in effective(ModelSpec(model=""))}
    idle = {name.removeprefix("idle."): value for name, value in model.items() if name.startswith("idle.")}
    yield "### A model, or `defaults` for all\n"
    yield "`aliases`, `lora`, `path` and `port` belong to one model and not into `defaults`.\n"
    yield from _keys(ModelKeys, "model", model)
    yield "\n### `idle:` of a model or of `defaults`\n"
    yield from _keys(IdleKeys, "idle", idle, none="never")
    yield VLLM
    yield from _table(("key", "takes"), (_key(name, "model") for name in sorted(VllmSettings.model_fields)))
    yield "\nvllama's own business, refused in `extra_args`: " + _listed(OWNED_FLAGS) + ".\n"
    yield "And in `env`: " + _listed(OWNED_ENV) + ", and `VLLAMA_...` but for `VLLAMA_SIM_...`."
    yield "\n### `policy:`\n"
    yield from _keys(PolicyKeys, "policy", _policy())
    yield "\n### A server of `servers:`\n"
    server = ServerSpec(url="")
    capacity = {"max_concurrent_requests": server.max_concurrent_requests}
    yield from _keys(ServerKeys, "server", capacity)
    yield "\n### `balance:`, how requests are spread over servers\n"
    yield from _keys(BalanceKeys, "balance", {name: _timed(name, value) for name, value in _balance().items()})


def _options() -> Iterator[tuple[str, ...]]:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    for each in command.params:
        if each.envvar:
            names = " / ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
            yield names, f"`{each.envvar}`", _shown(getattr(each.default, "value", each.default)), each.help


def _further() -> Iterator[tuple[str, ...]]:
    for name, default in FURTHER:
        yield f"`{name}`", _shown(default), ABOUT[name]


def _keys(keys: type[BaseModel], where: str, usual: Mapping[str, Any], *, none: str = "") -> Iterator[str]:
    def rows() -> Iterator[tuple[str, ...]]:
        for name, field in keys.model_fields.items():
            default = usual.get(name)
            shown = (
                none if default is None and name != "level" else "auto" if name == "level" else _timed(name, default)
            )
            yield (*_key(name, where), _shown(shown), field.description or "")

    yield from _table(("key", "takes", "default", ""), rows())


def _key(name: str, where: str) -> tuple[str, str]:
    return f"`{name}`", _takes(_schemas()[where]["properties"][name])


@cache
def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = manifest_schema()["$defs"]
    return schemas


def _takes(schema: Mapping[str, Any]) -> str:
    """In words, of the shapes that the reader of the file declares."""
    if "$ref" in schema:
        return "keys below"
    options = [each for each in schema.get("anyOf", [schema]) if each not in (shapes.REFERENCE, {"type": "null"})]
    for words, parts in _WORDS:
        if all(part in options for part in parts):
            options = [words, *(each for each in options if each not in parts)]
    return ", ".join(dict.fromkeys(word for each in options if (word := _word(each))))


_WORDS: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("true, false", shapes.SWITCH), ("bytes", shapes.AMOUNT), ("duration", shapes.DURATION), ("tokens", shapes.TOKENS),
    ("auto, list of GPUs", shapes.DEVICES), ("any value, list", shapes.SETTING), ("hosts, any, none", shapes.HOSTS),
    ("list of names", (shapes.NAMES,)), ("text", (shapes.TEXT,)), ("address", (shapes.ADDRESS,)),
    ("auto, 1, 2, 3", (shapes.LEVEL,)), ("never", (shapes.NEVER,)),
)  # fmt: skip


def _word(option: Any) -> str:
    match option:
        case str():
            return option
        case {"enum": list(values)}:
            return ", ".join(dict.fromkeys(map(str, values)))
        case {"type": "integer" | "number"}:
            low, high = option.get("minimum", option.get("exclusiveMinimum")), option.get("maximum")
            above = "above " if "exclusiveMinimum" in option else "from "
            return f"{above}{low}" + ("" if high is None else f" to {high}")
        case {"type": "object"} | {"type": ["object", "null"]}:
            return "mapping"
        case _:
            return ""  # the same as text


def _policy() -> dict[str, Any]:
    policy = Policy()
    fields = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
    usual: dict[str, Any] = {"reserve": _bytes(DEFAULT_RESERVE_BYTES), "fairness": policy.fairness_bound_s}
    for field, value in fields.items():
        name = field.removesuffix("_s").removesuffix("_bytes")
        usual.setdefault(name, _bytes(value) if field.endswith("_bytes") and value is not None else value)
    return {name: _timed(name, value) for name, value in usual.items()}


def _bytes(count: int) -> str:
    """As the file takes it."""
    return format_bytes(count).replace(".0 ", "")


def _balance() -> dict[str, Any]:
    return balance_keys(BalanceSpec())


def _timed(name: str, value: Any) -> Any:
    """Seconds as durations: they are the only floats but for the one rate."""
    return (
        format_duration(value).replace(".0s", "s") if isinstance(value, float) and not name.endswith("rate") else value
    )


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    print(page(), end="")
