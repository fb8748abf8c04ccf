"""Evidence as plain JSON, and back. Fields that have their default are left out; of several kinds, `kind` tells which.

It goes by the fields of the domain's own classes, so that what is added to those is kept, too.
"""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec, Policy
from vllama.planner.evidence import Evidence

_UNIONS = (types.UnionType, typing.Union)


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = _plain(Evidence, evidence)
    return found


def evidence_from(said: Mapping[str, Any]) -> Evidence:
    """Raises ValueError where it is none of this version."""
    try:
        found: Evidence = _typed(Evidence, said)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"no evidence of this version: {error}") from error
    return found


def _plain(kind: Any, value: Any) -> Any:
    """`kind` is what the field may hold; only of several classes the value's own is told."""
    match value:
        case enum.Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case ModelSpec() | Footprint() | Policy():
            return _lasting(value)
        case Mapping():
            of = typing.get_args(kind)[1]
            return {str(key): _plain(of, each) for key, each in value.items()}
        case frozenset():
            return sorted(_plain(None, each) for each in value)
        case tuple() | list():
            return [_plain(of, each) for of, each in zip(_items(kind, len(value)), value, strict=True)]
    return _of_fields(value, named=len(_classes(kind)) > 1)


@functools.lru_cache(maxsize=1024)
def _lasting(value: Any) -> dict[str, Any]:
    """What is the same in one evidence after the other. Nobody may change it."""
    return _of_fields(value, named=False)


def _of_fields(value: Any, *, named: bool) -> dict[str, Any]:
    its_own: Any = type(value)
    said: dict[str, Any] = {"kind": its_own.__name__} if named else {}
    for name, (of, default) in _fields(its_own).items():
        if (each := getattr(value, name)) != default:
            said[name] = _plain(of, each)
    return said


def _typed(kind: Any, said: Any) -> Any:
    if said is None or kind is Any:
        return said
    if (classes := _classes(kind)) and isinstance(said, Mapping):
        of: Any = classes[0] if len(classes) == 1 else next(one for one in classes if one.__name__ == said["kind"])
        fields = _fields(of)
        return of(**{name: _typed(fields[name][0], each) for name, each in said.items() if name in fields})
    origin = typing.get_origin(kind)
    if origin in _UNIONS:
        return _of_several(kind, said)
    if isinstance(said, Mapping):
        of = typing.get_args(kind)[1]
        return {key: _typed(of, each) for key, each in said.items()}
    if isinstance(said, list):
        items = [_typed(of, each) for of, each in zip(_items(kind, len(said)), said, strict=True)]
        return frozenset(items) if origin is frozenset else tuple(items)
    return kind(said) if isinstance(kind, type) else said


def _of_several(kind: Any, said: Any) -> Any:
    """Of a scalar, a tuple or an enum; what is no enum stays as it is."""
    for of in typing.get_args(kind):
        if isinstance(of, type) and issubclass(of, enum.Enum):
            return of(said)
        if isinstance(said, list) and typing.get_origin(of) is tuple:
            return _typed(of, said)
    return said


def _items(kind: Any, count: int) -> list[Any]:
    """What each of `count` items of a tuple, list or set may be."""
    for of in (kind, *typing.get_args(kind)):
        if typing.get_origin(of) in {tuple, frozenset}:
            args = typing.get_args(of)
            return [args[0]] * count if len(args) == 1 or args[-1] is Ellipsis else list(args)
    return [Any] * count


@functools.cache
def _classes(kind: Any) -> tuple[type[Any], ...]:
    """The dataclasses that it may be."""
    of = typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)
    return tuple(each for each in of if dataclasses.is_dataclass(each) and isinstance(each, type))


@functools.cache
def _fields(of: type[Any]) -> dict[str, tuple[Any, Any]]:
    """By name: what it may hold, and its default. Only what an __init__ takes: the rest follows from it."""
    hints = typing.get_type_hints(of)
    return {field.name: (hints[field.name], _default(field)) for field in dataclasses.fields(of) if field.init}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
