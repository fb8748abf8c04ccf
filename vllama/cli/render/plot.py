"""A drawing of replays: how the waiting of all requests adds up over time, one line per policy."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from xml.sax.saxutils import escape

from vllama.cli.failure import CommandFailed
from vllama.cli.render.replay import Outcome
from vllama.domain.units import format_duration
from vllama.replay.trace import Trace

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 45
MOST_POINTS = 600
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by the colour-blind, too
TITLE, ACROSS, UP = "Waiting of all requests, added up", "time since the first request", "waiting"

_ANCHORS = ("start", "middle", "middle", "middle", "end")  # of the times below

Points = Sequence[tuple[float, float]]  # seconds since the first arrival, seconds waited in sum


def draw(path: Path, trace: Trace, outcomes: Sequence[Outcome]) -> None:
    """`path` ends in .svg, or in .png, which takes matplotlib. Raises CommandFailed."""
    lines = [(each.rule, points(trace, each.result.waits_s)) for each in outcomes]
    try:
        if path.suffix == ".png":
            _png(path, lines)
        else:
            path.write_text("\n".join(_svg(lines)) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"Cannot write {path}: {error.strerror or error}.") from None


def points(trace: Trace, waits_s: Sequence[float]) -> Points:
    """At most MOST_POINTS of them; the last one has it all."""
    sums = list(accumulate(0.0 if math.isnan(wait) else wait for wait in waits_s))
    step = max(1, math.ceil(len(sums) / MOST_POINTS))
    chosen = sorted({*range(0, len(sums), step), len(sums) - 1})
    return [(trace.requests[i].at_s - trace.requests[0].at_s, sums[i]) for i in chosen]


def _svg(lines: Sequence[tuple[str, Points]]) -> Iterator[str]:
    longest = max(each[-1][0] for _, each in lines) or 1.0
    most = max(each[-1][1] for _, each in lines) or 1.0
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at_s: float) -> float:
        return LEFT + inner_width * at_s / longest

    def y(waited_s: float) -> float:
        return HEIGHT - BOTTOM - inner_height * waited_s / most

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12">'
    )
    yield f'<title>{TITLE}</title><rect width="100%" height="100%" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="22" font-size="15">{TITLE}</text>'
    for part in range(5):
        at, up = longest * part / 4, most * part / 4
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(up):.1f}" y2="{y(up):.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y(up) + 4:.1f}" text-anchor="end">{format_duration(up)}</text>'
        where = f'x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{_ANCHORS[part]}"'
        yield f"<text {where}>{format_duration(at)}</text>"
    yield f'<text x="{LEFT + inner_width / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{ACROSS}</text>'
    for number, (name, each) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(at):.1f},{y(waited):.1f}" for at, waited in each)
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>'
        said = f"{name}: {format_duration(each[-1][1])}"
        yield f'<text x="{LEFT + 12}" y="{TOP + 16 + 18 * number}" fill="{colour}">{escape(said)}</text>'
    yield "</svg>"


def _png(path: Path, lines: Sequence[tuple[str, Points]]) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra
    except ImportError:
        raise CommandFailed(
            "A .png needs matplotlib: pip install 'vllama[plot]'\nA .svg needs nothing: --plot waiting.svg"
        ) from None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, each) in enumerate(lines):
        label = f"{name}: {format_duration(each[-1][1])}"
        axes.plot(*zip(*each, strict=True), label=label, color=COLOURS[number % len(COLOURS)])
    axes.set(title=TITLE, xlabel=f"{ACROSS} (s)", ylabel=f"{UP} (s)")
    axes.grid(visible=True, alpha=0.4)
    axes.legend()
    figure.savefig(path, dpi=120)
