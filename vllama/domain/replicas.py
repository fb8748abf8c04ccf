"""Engines of one model beside each other: each is planned for under a name of its own, `org/model#2`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vllama.domain.spec import ModelSpec

MOST_REPLICAS = 64


def replica_name(model: str, replica: int) -> str:
    """The first is called as its model is."""
    return model if replica == 1 else f"{model}#{replica}"


def model_of(name: str) -> str:
    """The model that a replica of this name serves, as the name says it."""
    served, mark, number = name.rpartition("#")
    return served if mark and number.isdecimal() else name


def expanded(models: Iterable[ModelSpec]) -> Mapping[str, ModelSpec]:
    """Every engine that is wished for, by name. Aliases, and what happens at boot, are the model's as a whole."""
    return {each.model: each for spec in models for each in (spec, *_further(spec))}


def _further(spec: ModelSpec) -> Iterable[ModelSpec]:
    return (
        replace(
            spec, model=replica_name(spec.model, number), replica=number, replica_of=spec.model, aliases=(),
            auto_start=False,
        )
        for number in range(2, spec.replicas + 1)
    )  # fmt: skip
