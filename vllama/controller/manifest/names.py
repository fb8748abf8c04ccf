"""No name may mean two models, and no port belong to two engines."""

from collections.abc import Iterator, Mapping

from vllama.controller.manifest import values
from vllama.controller.manifest.entry import Entry
from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.problems import KeyPath, shown
from vllama.domain.replicas import replica_name


def check_names(entries: Mapping[str, Entry], root: KeyPath, findings: Findings) -> None:
    """`root` is where the models stand in the document. Ids, aliases and adapters share one space of names."""
    owners: dict[str, tuple[str, KeyPath]] = {}
    for model in entries:
        if (wrong := _wrong(model)) is not None:
            findings.add((*root, model), wrong)
        owners[model] = ("a model", (*root, model))
    for name, kind, at in _further_names(entries, root):
        taken, where = owners.setdefault(name, (kind, at))
        if where != at:
            line = findings.line_of(where)
            findings.add(at[:-1], f"{shown(name)} is already the name of {taken} (line {line})", at=at)


def names_of(entries: Mapping[str, Entry]) -> frozenset[str]:
    """Ids, aliases and adapters."""
    return frozenset((*entries, *(name for name, _, _ in _further_names(entries, ()))))


def check_ports(entries: Mapping[str, Entry], root: KeyPath, findings: Findings) -> None:
    owners: dict[int, str] = {}
    for model, entry in entries.items():
        port = entry.keys.port
        if port is not None and owners.setdefault(port, model) != model:
            findings.add((*root, model, "port"), f"{port} is already the port of {shown(owners[port])}")


def check_replicas(
    entries: Mapping[str, Entry], own: Mapping[str, Entry], root: KeyPath, findings: Findings
) -> None:  # fmt: skip
    """Each replica has a port and a name of its own. `entries` have the defaults, `own` what stands at the model."""
    for model, entry in entries.items():
        count = entry.keys.replicas or 1
        at = (*root, model, "replicas" if own[model].keys.replicas else "port")
        if count > 1 and entry.keys.port is not None:
            findings.add(
                at, f"{count} engines cannot share port {entry.keys.port}; leave `port` out, and each finds one"
            )
        for number in range(2, count + 1):
            if (name := replica_name(model, number)) in entries:
                findings.add((*root, name), f"{shown(name)} is what engine {number} of {shown(model)} is called")


def check_adapters(entries: Mapping[str, Entry], root: KeyPath, findings: Findings) -> None:
    for _, kind, at in _further_names(entries, root):
        name = str(at[-1])
        if kind == "an adapter" and (wrong := _wrong(name)) is not None:
            findings.add(at[:-1], wrong, at=at)
        elif kind == "an adapter" and "=" in name:
            findings.add(at[:-1], f"{shown(name)}: the name of an adapter has no '='", at=at)


def _further_names(entries: Mapping[str, Entry], root: KeyPath) -> Iterator[tuple[str, str, KeyPath]]:
    """(name, what it is the name of, where it stands)"""
    for model, entry in entries.items():
        for number, alias in enumerate(entry.keys.aliases or ()):
            yield alias, "an alias", (*root, model, "aliases", number)
        for adapter in entry.keys.lora or {}:
            yield adapter, "an adapter", (*root, model, "lora", adapter)


def _wrong(name: str) -> str | None:
    try:
        values.name(name)
    except ValueError as error:
        return str(error)
    return None
