"""The parts of a file. The full form has them by name; in the flat form every key is a model."""

from dataclasses import dataclass
from typing import Any

from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.problems import FULL_FORM, KeyPath, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """As YAML gave them. `root` is the path of `models`: empty in the flat form."""

    models: dict[str, Any]
    root: KeyPath
    defaults: Any = None
    policy: Any = None
    balance: Any = None
    servers: Any = None


def sections_of(data: Any, findings: Findings) -> Sections:
    """A file with any key of the full form is meant to be full: a model has no name like `models` or `defaults`."""
    top = findings.mapping(data, ())
    if not any(key in FULL_FORM for key in top):
        return Sections(models=top, root=())
    known = dict.fromkeys(FULL_FORM)
    for key in top:
        if key not in FULL_FORM:
            findings.unknown_key((key,), known, "; a model belongs under 'models' when the file has one of " + _LISTED)
    if top.get("version", 1) not in (1, "1", None):
        findings.add(("version",), f"{shown(top['version'])} is not known; this vllama reads version 1")
    return Sections(
        models=findings.mapping(top.get("models"), ("models",)),
        root=("models",),
        defaults=top.get("defaults"),
        policy=top.get("policy"),
        balance=top.get("balance"),
        servers=top.get("servers"),
    )


_LISTED = ", ".join(FULL_FORM)
