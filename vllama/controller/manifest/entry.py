"""One layer of settings: what the environment, `defaults` or a model says. Layers lie on each other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.problems import KeyPath, shown
from vllama.controller.manifest.schema import IdleKeys, ModelKeys
from vllama.controller.manifest.settings import SETTINGS, VllmSettings
from vllama.engine.flags import refuse_owned, refuse_owned_env

Keys = TypeVar("Keys", bound=BaseModel)

_KNOWN = {**ModelKeys.model_fields, **VllmSettings.model_fields}
_SHORT_FLAGS = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp": "data-parallel-size",
    "q": "quantization",
}
OF_ONE_MODEL = ("aliases", "lora", "path", "port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Both know which of their fields were said (`model_fields_set`)."""

    settings: VllmSettings = field(default_factory=VllmSettings)
    keys: ModelKeys = field(default_factory=ModelKeys)


def read_entry(data: Any, path: KeyPath, findings: Findings) -> Entry:
    """What `path` of the document says; without what is wrong, which goes to `findings`."""
    said = findings.mapping(data, path)
    own: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    moved: dict[str, KeyPath] = {}
    for key, value in said.items():
        if key in SETTINGS:
            settings[key] = value
        elif key in ModelKeys.model_fields:
            own[key] = value
        else:
            findings.unknown_key((*path, key), _KNOWN, _hint(key))
    if isinstance(own.get("extra_args"), dict):
        own["extra_args"] = flags_of(own["extra_args"], settings, moved, path, findings)
    _check_env(own.get("env"), path, findings)
    if path == ("defaults",):
        for key in [key for key in OF_ONE_MODEL if own.get(key) is not None]:
            findings.add((*path, key), "belongs to one model; the defaults are for all")
            del own[key]
    return Entry(
        settings=findings.validated(VllmSettings, settings, lambda loc: moved.get(str(loc[0]), (*path, *loc)))
        or VllmSettings(),
        keys=findings.validated(ModelKeys, own, lambda loc: (*path, *loc)) or ModelKeys(),
    )


def layered(base: Entry, over: Entry) -> Entry:
    """`over` upon `base`: key by key, and within idle, extra_args, env and lora too; null takes away."""
    keys = _laid(base.keys, over.keys)
    changes: dict[str, Any] = {}
    if base.keys.idle is not None and over.keys.idle is not None:
        changes["idle"] = _laid(base.keys.idle, over.keys.idle)
    for name in ("extra_args", "env", "lora"):
        below, above = getattr(base.keys, name), getattr(over.keys, name)
        if below and above:
            changes[name] = below | above
    return Entry(settings=_laid(base.settings, over.settings), keys=keys.model_copy(update=changes))


def idle_entry(idle: Mapping[str, Any]) -> Entry:
    return Entry(keys=ModelKeys(idle=IdleKeys(**idle)))


def _laid(base: Keys, over: Keys) -> Keys:
    return base.model_copy(update={name: getattr(over, name) for name in over.model_fields_set})


def _hint(key: str) -> str:
    if key in IdleKeys.model_fields:
        return "; it belongs under idle"
    return "; any other flag of `vllm serve` goes under extra_args"


def flags_of(
    extra: Mapping[str, Any],
    settings: dict[str, Any],
    moved: dict[str, KeyPath],
    path: KeyPath,
    findings: Findings,
    *,
    group: tuple[str, ...] = ("extra_args",),
) -> dict[str, Any]:
    """extra_args by the flags' names. Those that vllama knows as settings move there, so that each is said once.

    `group`: where the flags stand below `path`.
    """
    where = "".join(f"{name}: " for name in group)
    flags: dict[str, Any] = {}
    for key, value in extra.items():
        here = (*path, *group, key)
        flag, dot, rest = key.lstrip("-").partition(".")
        flag = _SHORT_FLAGS.get(flag, flag).replace("_", "-")
        name = flag.removeprefix("no-").replace("-", "_")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", flag):
            findings.add(here, f"{shown(key)} is not the name of a flag")
        elif (refusal := refuse_owned([(flag, value if isinstance(value, bool) else "")], where=where)) is not None:
            findings.add(path, refusal.removesuffix("."), at=here)
        elif name == "lora_modules":
            findings.add(path, f"{where}lora-modules is not taken here: write `lora: {{name: /path}}`", at=here)
        elif dot or name not in SETTINGS or (flag.startswith("no-") and value is not True):
            if flag + dot + rest in flags:
                findings.add(here, "is given twice, spelled differently")
            flags[flag + dot + rest] = value
        elif name in settings:
            findings.add(here, f"is given twice: also as {name}")
        else:
            settings[name] = False if flag.startswith("no-") else value
            moved[name] = here
    return flags


def _check_env(env: Any, path: KeyPath, findings: Findings) -> None:
    for name in env if isinstance(env, dict) else ():
        here = (*path, "env", name)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            findings.add(here, f"{shown(name)} is not the name of an environment variable")
        elif (refusal := refuse_owned_env({name: ""})) is not None:
            findings.add(path, refusal.removesuffix("."), at=here)
