"""`vllama start`, `stop`, `sleep`, `wake-up`: ask, then watch how the model gets there.

The server only writes down what is wanted; the rest is watched from here, a line per change.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.status import Status as Spinner
from rich.text import Text

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed, complain
from vllama.cli.render.ps import shown_phase
from vllama.cli.render.words import one_line, phase_style, place_names, wrapped
from vllama.cli.terminal import is_coloured, show, show_json, width
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.domain.units import format_duration

Status = Mapping[str, Any]

POLL_S = 0.2
STALE_S = 2.0  # what was said before the request is believed again after so long

_NEVER = {Reason.CANNOT_FIT, Reason.NO_SUCH_DEVICE, Reason.NO_SUCH_NODE, Reason.WOULD_EVICT, Reason.BACKING_OFF}
_NOT_ASKED = {Reason.NOT_WANTED, Reason.SLEEPING, Reason.HELD_BY_OPERATOR, Reason.OPERATOR_ASKED}
_COMING_UP = {Phase.STARTING, Phase.WAKING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of `model` (any name of it). `level` is of a sleep; None: as its settings say."""

    verb: str  # start, stop, sleep
    model: str
    level: int | None = None

    @property
    def goals(self) -> set[Phase]:
        """Where it ends. A sleep may end in a stop: at level 3, or where there is nothing to put to sleep."""
        return {"start": {Phase.READY}, "stop": {Phase.STOPPED}, "sleep": {Phase.ASLEEP, Phase.STOPPED}}[self.verb]

    @property
    def body(self) -> Mapping[str, Any] | None:
        return {"level": self.level} if self.verb == "sleep" else None


def run(client: AdminClient, wish: Wish, *, wait: bool, timeout_s: float | None, as_json: bool) -> None:
    """CommandFailed if it does not become what was asked."""
    if wait:
        status, problem = watch(client, wish, timeout_s=timeout_s, as_json=as_json)
    else:
        status, problem = client.ask(wish.model, wish.verb, wish.body), None
    if as_json:
        show_json(status)
    elif problem is None:
        show(ending(wish, status, wait=wait, several_nodes=wait and client.has_several_nodes()))
    if problem is not None:
        raise CommandFailed(problem)


def watch(client: AdminClient, wish: Wish, *, timeout_s: float | None, as_json: bool) -> tuple[Status, str | None]:
    """Ask, and follow on the terminal. What it has become, and why it is not what was asked (None: it is)."""
    first = client.ask(wish.model, wish.verb, wish.body)
    try:
        return _follow_on_terminal(client, wish, first, timeout_s=timeout_s, as_json=as_json)
    except KeyboardInterrupt:
        complain(f"interrupted; {first['model']} is still asked to {wish.verb} (see `vllama ps`).")
        raise


def _follow_on_terminal(
    client: AdminClient, wish: Wish, first: Status, *, timeout_s: float | None, as_json: bool
) -> tuple[Status, str | None]:
    stream, several = sys.stderr if as_json else sys.stdout, client.has_several_nodes()
    if not is_coloured(stream):

        def say(elapsed: float, now: Status) -> None:
            show(_line(elapsed, now, columns=width(stream), several=several), stream=stream)

        return follow(client, wish, first, tell=say, timeout_s=timeout_s)
    console = Console(file=stream, highlight=False)
    with Spinner(Text(first["model"]), console=console) as spinner:

        def tell(elapsed: float, now: Status) -> None:
            console.print(_line(elapsed, now, columns=width(stream), several=several), soft_wrap=True)

        def glance(elapsed: float, now: Status) -> None:
            said = doing(now, elapsed_s=elapsed, several_nodes=several)
            spinner.update(Text(said, style=phase_style(now["phase"])))

        return follow(client, wish, first, tell=tell, glance=glance, timeout_s=timeout_s)


def follow(
    client: AdminClient,
    wish: Wish,
    first: Status,
    *,
    tell: Callable[[float, Status], None],
    glance: Callable[[float, Status], None] = lambda *_: None,
    timeout_s: float | None = None,
    poll_s: float = POLL_S,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Status, str | None]:
    """Polls until the model is what was asked (None), or cannot be (why not). `tell` hears every change and its time,
    `glance` sees every look.

    `first` is what the server answered to the request. It may still speak of the time before: a verdict in it
    counts once it has stood for STALE_S.
    """
    began, told, before, status = clock(), None, first, first
    while True:
        elapsed = clock() - began
        if _said(status) != told:
            tell(elapsed, status)
            told = _said(status)
        glance(elapsed, status)
        fresh = elapsed >= STALE_S or _said(status) != _said(first)
        if status["phase"] in wish.goals:
            return status, None
        if (problem := _problem(wish, status, before, fresh=fresh)) is not None:
            return status, problem
        if timeout_s is not None and elapsed >= timeout_s:
            return status, (
                f"{status['model']} is {shown_phase(status)} after {format_duration(elapsed)}: {_why(status)}\n"
                f"  The server goes on with it; `vllama ps` shows how far it is."
            )
        time.sleep(poll_s)
        now = client.model(first["model"])
        if now is None:
            return status, f"{first['model']} is no longer in models.yaml or the model cache."
        before, status = status, now


def _problem(wish: Wish, status: Status, before: Status, *, fresh: bool) -> str | None:
    model, phase = status["model"], status["phase"]
    if wish.verb != "start":
        back = phase in _COMING_UP and before["phase"] not in _COMING_UP
        return f"{model} is wanted again: {_why(status)}" if back else None
    if not fresh:
        return None
    if status["reason"] in _NEVER or phase == Phase.FAILED:
        return f"{model} cannot start: {_why(status)}"
    if status["reason"] in _NOT_ASKED:  # the failure itself came and went between two polls, or somebody else asked
        return f"{model} is {shown_phase(status)}, the start was given up: {_why(status)}\n  The server's log says why."
    return None


def _said(status: Status) -> tuple[str | None, ...]:
    return status["phase"], status["reason"], status["message"], status.get("stage")


def doing(status: Status, *, elapsed_s: float, several_nodes: bool = False) -> str:
    """For one line that is renewed: `org/a: Starting, loading weights, 12s, about 30s left`.

    Where there are `several_nodes` it says on which: `org/a: Starting on gpu0 of gpu-2, loading weights, ...`.
    """
    head = f"{status['model']}: {shown_phase(status)}" + (_on(status, several=True) if several_nodes else "")
    parts = [head, status.get("stage"), f"{elapsed_s:.0f}s", left(status)]
    return ", ".join(part for part in parts if part)


def left(status: Status) -> str | None:
    """As long as it took last time; None: nobody knows."""
    left_s = status.get("ready_in_s")
    return None if left_s is None else f"about {format_duration(left_s)} left"


def _on(status: Status, *, several: bool) -> str:
    return f" on {place_names(status, several_nodes=several)}" if status["devices"] else ""


def _stage(status: Status, *, several: bool) -> str:
    where = _on(status, several=True).lstrip() if several else None
    said = ", ".join(part for part in (where, status.get("stage"), left(status)) if part)
    return f" [{said}]" if said and status["phase"] in _COMING_UP else ""


def _why(status: Status) -> str:
    return f"{status['reason']}: {one_line(status['message'])}" if status["reason"] else one_line(status["message"])


def _line(elapsed: float, status: Status, *, columns: int | None, several: bool) -> Text:
    when, phase = f"{elapsed:7.1f}s  ", shown_phase(status)
    first = f"{when}{phase:<11}  "
    said = _why(status) + _stage(status, several=several)
    line = Text("\n".join(wrapped(said, columns, indent=" " * len(first), first=first)))
    line.stylize("dim", 0, len(when))
    line.stylize(phase_style(status["phase"]), len(when), len(when) + len(phase))
    return line


def ending(wish: Wish, status: Status, *, wait: bool, several_nodes: bool = False) -> Text:
    if not wait:
        return Text(f"{status['model']} is asked to {wish.verb}; it is {shown_phase(status)} now.")
    port = f", port {status['port']}" if status["port"] is not None and status["phase"] == Phase.READY else ""
    return Text(f"{status['model']} is {shown_phase(status)}{_on(status, several=several_nodes)}{port}.")
