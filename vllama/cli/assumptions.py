"""What `--assume` says of models that were never measured, and of the machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import typer

from vllama.cli.failure import CommandFailed
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec
from vllama.domain.units import parse_bytes, parse_duration
from vllama.replay.costs import Assumed, ModelCosts, costs_of, costs_of_weights, with_weights

_SECONDS = {"start": "start_s", "change": "change_s", "stop": "stop_s"}
_RATES = {"read": "reads_bytes_per_s", "copy": "copies_bytes_per_s"}

Value = TypeVar("Value")


def said(parse: Callable[[str], Value], text: str, option: str) -> Value:
    """What `parse` makes of an option. What it cannot read is wrong usage."""
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


class Assumptions:
    """What `--assume` says."""

    def __init__(self, said: Sequence[str]) -> None:
        self._rates, self._weights, self._others = Assumed(), dict[str, int](), 0
        for each in said:
            what, is_said, value = each.rpartition("=")
            if not is_said:
                raise typer.BadParameter(f"{each!r} is not WHAT=SIZE, e.g. weights=16GiB.", param_hint="--assume")
            self._take(what.strip(), value.strip())

    def _take(self, what: str, value: str) -> None:
        if what in _SECONDS:
            seconds = said(parse_duration, value, f"--assume {what}")
            self._change(**{_SECONDS[what]: seconds})
            return
        size = said(parse_bytes, value.removesuffix("/s") if what in _RATES else value, f"--assume {what}")
        if size <= 0:
            raise typer.BadParameter(f"{what}={value} is nothing.", param_hint="--assume")
        if what in _RATES:
            self._change(**{_RATES[what]: size})
        elif what == "weights":
            self._others = size
        else:
            self._weights[what] = size

    def _change(self, **rates: Any) -> None:
        self._rates = replace(self._rates, **rates)

    def costs(self, models: Mapping[str, ModelSpec], known: Mapping[str, Footprint]) -> Mapping[str, ModelCosts]:
        """Raises CommandFailed for models of which nobody knows how large they are."""
        found, unknown = dict[str, ModelCosts](), list[str]()
        for model, spec in models.items():
            weights = self._weights.get(model)
            if weights is None and model in known:
                footprint = with_weights(known[model], spec.device_count)
                found[model] = costs_of(footprint, spec.device_count, self._rates)
            elif size := weights or self._others:
                found[model] = costs_of_weights(
                    size, awake_bytes=spec.memory_bytes, device_count=spec.device_count,
                    assumed=self._rates,
                )  # fmt: skip
            else:
                unknown.append(model)
        if strange := sorted(set(self._weights) - set(models)):
            raise typer.BadParameter(f"nothing asks for {', '.join(strange)}.", param_hint="--assume")
        if unknown:
            raise CommandFailed(
                f"It is not known how large {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'}: not on disk, "
                f"and without `memory` in models.yaml.\nSay it: --assume {unknown[0]}=16GiB, or --assume weights=16GiB "
                "for all of them."
            )
        return found
