"""`vllama simulate`: which models, how large and how slow, then the replays."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from vllama.cli.assumptions import Assumptions, said
from vllama.cli.failure import CommandFailed
from vllama.cli.foresee import footprint_on_disk
from vllama.cli.render.replay import Outcome, outcome_json, render_replay
from vllama.cli.terminal import show, show_json, width
from vllama.controller.manifest.load import Manifest, load
from vllama.controller.manifest.problems import ManifestInvalid
from vllama.controller.names import Names
from vllama.controller.profiles import measured_of
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Device, Footprint, Node
from vllama.domain.spec import DEFAULT_RESERVE_BYTES, ModelSpec, Policy, VictimPolicy
from vllama.domain.units import parse_bytes
from vllama.engine.platform import Platform
from vllama.replay import CannotReplay, Result, Trace, TraceError, simulate
from vllama.replay.clairvoyant import clairvoyant
from vllama.replay.costs import ModelCosts
from vllama.replay.trace import read_trace
from vllama.simulator.devices import parse_devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """As the command line says it."""

    trace: Path
    devices: str
    manifest: Path
    profiles: Path
    assume: tuple[str, ...]
    host_memory: str | None


def run(wish: Wish, rules: Sequence[str], *, plot: Path | None, show_all: bool, as_json: bool) -> None:
    totals, assumptions = said(parse_devices, wish.devices, "--devices"), Assumptions(wish.assume)
    if plot is not None and plot.suffix not in {".svg", ".png"}:
        raise typer.BadParameter(f"{plot}: draws .svg, and .png.", param_hint="--plot")
    host_bytes = None if wish.host_memory is None else said(parse_bytes, wish.host_memory, "--host-memory")
    try:
        trace = read_trace(wish.trace)
        manifest = load(wish.manifest, environ=os.environ)
    except (TraceError, ManifestInvalid) as error:
        raise CommandFailed(str(error)) from None
    if not trace.requests:
        raise CommandFailed(f"{wish.trace} has no requests.")
    trace, models = _resolved(trace, manifest)
    desired = DesiredState(generation=1, models=models, policy=manifest.policy)
    footprints = measured_of(wish.profiles, desired.models.values(), _estimates(desired.models))
    costs = assumptions.costs(desired.models, footprints)
    host_bytes = next(b for b in (host_bytes, manifest.policy.host_memory_bytes, 2 * sum(totals)) if b is not None)
    nodes = (_node(totals, host_bytes, manifest.policy),)
    try:
        outcomes = [
            Outcome(rule=rule, result=_replay(rule, trace, desired, nodes, costs)) for rule in rules
        ]  # fmt: skip
    except CannotReplay as error:
        raise CommandFailed(str(error)) from None
    assumed = sorted(model for model, each in costs.items() if each.assumed)
    if plot is not None:
        from vllama.cli.render.plot import draw  # noqa: PLC0415  # it may need matplotlib

        draw(plot, trace, outcomes)
    if as_json:
        show_json({
            "requests": len(trace), "span_s": round(trace.span_s, 3), "devices": list(totals),
            "host_memory_bytes": host_bytes, "assumed": assumed, "policies": [outcome_json(each) for each in outcomes],
        })  # fmt: skip
        return
    text = render_replay(
        trace, outcomes, devices=wish.devices, assumed=assumed, models=len(costs), show_all=show_all, width=width()
    )
    show(text)


def _replay(
    rule: str, trace: Trace, desired: DesiredState, nodes: Sequence[Node], costs: Mapping[str, ModelCosts]
) -> Result:  # fmt: skip
    sees = rule == "clairvoyant"
    policy = replace(desired.policy, victims=VictimPolicy.LRU if sees else VictimPolicy(rule))
    foresight = clairvoyant(trace, desired, costs) if sees else None
    return simulate(trace, desired, nodes, costs, policy, foresight=foresight)


def _resolved(trace: Trace, manifest: Manifest) -> tuple[Trace, Mapping[str, ModelSpec]]:
    """By the ids of their models: of those of models.yaml, or, undeclared, with its defaults. What is pinned or
    preloaded is there, too.
    """
    names, specs = Names(manifest.models.values()), dict[str, ModelSpec]()
    for asked in trace.models:
        spec = names.resolve(asked)
        specs[asked] = spec if isinstance(spec, ModelSpec) else manifest.spec_for_undeclared(asked)
    kept = {model: spec for model, spec in manifest.models.items() if spec.pin or spec.auto_start}
    by_id = (replace(request, model=specs[request.model].model) for request in trace)
    return Trace(tuple(by_id)), kept | {spec.model: spec for spec in specs.values()}


def _estimates(models: Mapping[str, ModelSpec]) -> Mapping[str, Footprint]:
    found = ((model, footprint_on_disk(spec, Platform.CUDA)) for model, spec in models.items())
    return {model: footprint for model, footprint in found if footprint is not None}


def _node(totals: Sequence[int], host_bytes: int, policy: Policy) -> Node:
    reserve = DEFAULT_RESERVE_BYTES if policy.reserve_bytes is None else policy.reserve_bytes
    devices = tuple(
        Device(index=index, name="simulated", total_bytes=total, reserve_bytes=reserve)
        for index, total in enumerate(totals)
    )
    return Node(name="simulated", devices=devices, host_budget_bytes=host_bytes, sleep_frees_memory=True)
