"""The families of several engines' /metrics as one text: each family once, each sample with the model it is of. Pure.

Prometheus throws a whole scrape away for one line that it cannot read, so a line that is no sample is left out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

PREFIX = "vllm:"  # the others (http_, process_, python_) speak of the API server's process only
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*"'
_SAMPLE = re.compile(rf"(vllm:[a-zA-Z0-9_:]+)(?:\{{((?:{_LABEL},)*(?:{_LABEL})?)\}})? (\S+)(?: -?[0-9]+)?")
_OF_TYPE = {  # what the samples of a family are called behind its name
    "counter": ("", "_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
}
_TYPES = frozenset((*_OF_TYPE, "gauge", "untyped"))
_MODEL = re.compile(r'(?:^|(?<=,))model="')


@dataclass(slots=True, kw_only=True)
class _Family:
    kind: str = "untyped"
    help: str = ""
    samples: list[str] = field(default_factory=list)


def merged(texts: Iterable[tuple[str, str]]) -> str:
    """`texts`: a model, and what its engine's /metrics says. A sample's own label `model` becomes `exported_model`.

    What several engines of one model say is added up.
    """
    families: dict[str, _Family] = {}
    several, seen = False, set[str]()
    for model, text in texts:
        several |= model in seen
        seen.add(model)
        label = f'model="{_escaped(model)}"'
        for name, family in _read(text, label).items():
            first = families.setdefault(name, _Family(kind=family.kind, help=family.help))
            if first.kind == family.kind:  # else of another version of vLLM, and two types have no place in one family
                first.samples += family.samples
    for name, family in families.items() if several else ():
        family.samples = _added_up(name, family.samples)
    return "".join(_written(name, family) for name, family in families.items() if family.samples)


def _read(text: str, label: str) -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    for line in text.split("\n"):
        if line.startswith(("# HELP vllm:", "# TYPE vllm:")):
            _, word, name, *rest = line.split(" ", 3)
            family = families.setdefault(name, _Family())
            if word == "HELP":
                family.help = "".join(rest)
            else:
                family.kind = rest[0] if rest and rest[0] in _TYPES else "untyped"
        elif line.startswith(PREFIX) and (sample := _SAMPLE.fullmatch(line)) and _is_number(sample[3]):
            labels = _MODEL.sub('exported_model="', sample[2] or "").rstrip(",")
            both = f"{label},{labels}" if labels else label
            family = _family_of(sample[1], families)
            family.samples.append(f"{sample[1]}{{{both}}} {sample[3]}\n")
    return families


def _family_of(name: str, families: dict[str, _Family]) -> _Family:
    if name in families:
        return families[name]
    for end in ("_bucket", "_sum", "_count", "_total", "_created"):
        family = families.get(name.removesuffix(end)) if name.endswith(end) else None
        if family is not None and end in _OF_TYPE.get(family.kind, ()):
            return family
    return families.setdefault(name, _Family())


def _added_up(name: str, samples: list[str]) -> list[str]:
    """One for each name and set of labels. Of shares, facts and times the largest counts."""
    of: dict[str, list[str]] = {}
    for sample in samples:
        of.setdefault(sample.rpartition(" ")[0], []).append(sample)
    return [each[0] if len(each) == 1 else _one_of(name, what, each) for what, each in of.items()]


def _one_of(name: str, what: str, samples: list[str]) -> str:
    values = [float(sample.rpartition(" ")[2]) for sample in samples]
    largest = name.endswith(("_perc", "_info")) or what.partition("{")[0].endswith("_created")
    return f"{what} {max(values) if largest else sum(values)}\n"


def _written(name: str, family: _Family) -> str:
    about = f"# HELP {name} {family.help}\n" if family.help else ""
    return f"{about}# TYPE {name} {family.kind}\n" + "".join(family.samples)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
