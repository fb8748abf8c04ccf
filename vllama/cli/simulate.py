"""`vllama simulate` and `vllama trace`: the command lines."""
# ruff: noqa: PLC0415

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vllama.cli.complete import model_names
from vllama.cli.failure import CommandFailed
from vllama.cli.options import CONFIG_DIR, All, ConfigDir, Output, OutputFormat

if TYPE_CHECKING:
    from vllama.replay import Trace

trace = typer.Typer(no_args_is_help=True, help="Who asked for which model when: for `vllama simulate`.")


class Rule(enum.StrEnum):
    """By what victims are chosen. `clairvoyant` is no policy to run with, but what they are measured by."""

    LRU = "lru"
    COST = "cost"
    CLAIRVOYANT = "clairvoyant"


Devices = Annotated[str, typer.Option("--devices", "-d", metavar="DEVICES", help="GPUs, e.g. 2x24GiB or 24GiB,80GiB.")]
Assume = Annotated[
    list[str] | None,
    typer.Option(
        "--assume",
        metavar="WHAT=SIZE",
        help="Weights of a model (MODEL=16GiB) or of all that are unknown (weights=16GiB); "
        "start=35s, read=2GiB and copy=20GiB a second, change=1s, stop=5s.",
    ),
]
Out = Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Default: stdout. *.gz is packed.")]


def simulate(
    file: Annotated[Path, typer.Argument(metavar="TRACE", help="A CSV file, at_s,model,busy_s; may end in .gz.")],
    *,
    devices: Devices,
    policy: Annotated[
        list[Rule] | None,
        typer.Option("--policy", "-p", help="Who makes room. Again: another, to compare. [lru, cost]"),
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", "-f", metavar="FILE", help="Default: models.yaml of --config-dir.")
    ] = None,
    config_dir: ConfigDir = CONFIG_DIR,
    assume: Assume = None,
    host_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="For the copies of sleepers. Default: as models.yaml says, or the devices' twice."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the waiting over time, as .svg, or as .png with matplotlib."),
    ] = None,
    show_all: All = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Replay a trace with the real planner, and show who would have waited. Needs no server and no GPU.

    Starts, wakes and sleeps take as long as the server of --config-dir has learned, else as long as is assumed from
    the size of the weights. Exit codes: 0 done; 1 the trace or models.yaml has mistakes; 2 wrong usage.
    """
    from vllama.cli import replay

    rules = list(dict.fromkeys(policy or [Rule.LRU, Rule.COST]))
    wish = replay.Wish(
        trace=file.expanduser(), devices=devices, manifest=(models or config_dir / "models.yaml").expanduser(),
        profiles=config_dir.expanduser() / "profiles.json", assume=tuple(assume or ()), host_memory=host_memory,
    )  # fmt: skip
    replay.run(
        wish, [rule.value for rule in rules], plot=plot, show_all=show_all, as_json=output is Output.JSON
    )  # fmt: skip


@trace.command()
def generate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="The most popular one first.", autocompletion=model_names),
    ],
    *,
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How long, from midnight on.")] = 24.0,
    rate: Annotated[float, typer.Option(min=1e-6, help="Requests per second, of all models together.")] = 0.1,
    busy: Annotated[str, typer.Option(metavar="DURATION", help="That the median request takes.")] = "5s",
    zipf: Annotated[
        float, typer.Option(min=0, help="The n-th model is asked for 1/n^ZIPF as often as the first.")
    ] = 1.4,
    steady: Annotated[bool, typer.Option("--steady", help="At random times: no days, no bursts, no spells.")] = False,
    round_robin: Annotated[
        bool, typer.Option("--round-robin", help="Each in turn, evenly: the worst case of the least recently used.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same one gives the same trace.")] = 1,
    to: Out = None,
) -> None:
    """Make up a trace: popular and rare models, bursts, spells, days and nights.

    How models are called was fitted to published arrival statistics of a production LLM service (alibaba/ServeGen).
    """
    from vllama.domain.units import parse_duration
    from vllama.replay.generator import PLAIN, Habits
    from vllama.replay.generator import generate as made_up
    from vllama.replay.generator import round_robin as in_turn

    try:
        busy_s = parse_duration(busy)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--busy") from None
    if round_robin:
        found = in_turn(models, requests=round(hours * 3600 * rate), every_s=1 / rate, busy_s=busy_s)
    else:
        from dataclasses import replace

        habits = replace(PLAIN if steady else Habits(), zipf=zipf, busy_s=busy_s)
        found = made_up(models, span_s=hours * 3600, rate_per_s=rate, seed=seed, habits=habits)
    _write(found, to)


@trace.command()
def export(
    *,
    config_dir: ConfigDir = CONFIG_DIR,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only the latest, e.g. 24h. Default: all there is.")
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Models as model-1, model-2, ...")] = False,
    to: Out = None,
) -> None:
    """Write the trace of what a server was asked, counted from its first request. Needs no server that runs.

    A server keeps the time, model and length of the latest 200,000 requests or more in requests.csv of --config-dir,
    nothing else of them; a request of the last seconds may be missing. Exit codes: 0 done; 1 nothing was recorded.
    """
    from vllama.cli.options import seconds
    from vllama.cli.recorded import exported

    _write(exported(config_dir.expanduser(), since_s=seconds(since), anonymous=anonymous), to)


def _write(found: "Trace", to: Path | None) -> None:
    from vllama.replay.trace import trace_text, write_trace

    if to is None:
        print(trace_text(found), end="")
        return
    try:
        write_trace(found, to.expanduser())
    except OSError as error:
        raise CommandFailed(f"Cannot write {to}: {error.strerror or error}.") from None
    print(f"{to}: {len(found)} requests for {len(found.models)} models.")
