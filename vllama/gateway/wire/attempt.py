"""One request at somebody else's server: how it goes there is told, and where it failed before it said a word
that counts, another one is asked. So it is for one of several replicas here.
"""

from typing import Protocol

from vllama.controller.board import Board
from vllama.controller.control import Control
from vllama.controller.demand import Grant
from vllama.controller.servers.server import Server
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Wanted
from vllama.gateway.wire.answer import Answer
from vllama.gateway.wire.engine import Asker

_ASK_ANOTHER = frozenset((502, 503))  # it did nothing. 500 may be the request's fault, and after 504 it may still work


class Mover(Protocol):
    def move(self) -> bool:
        """Another server is to be asked; False: there is none to ask."""
        ...

    def ask_again(self) -> None: ...


class Attempt:
    """Stands between a server and whoever asks it. `answered`: that one has heard the head of its answer."""

    __slots__ = ("_answered", "_asker", "_moved", "_mover", "_server", "_wrong", "unchunked")

    def __init__(self, asker: Asker, server: Server, mover: Mover, *, answered: bool = False) -> None:
        self.unchunked = asker.unchunked
        self._asker, self._server, self._mover = asker, server, mover
        self._answered, self._moved, self._wrong = answered, False, False

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        status = head.status
        if status >= 500:
            self._went_wrong(f"it answered {status}")
            if status in _ASK_ANOTHER and self._mover.move():
                self._moved = True  # and nobody hears the rest of this
                return
        elif status == 404:
            self._server.doubt()
        self._answered = True
        self._asker.answered(head, length, data)

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        self.answered(head, length, data)
        self.complete()

    def piece(self, data: bytes) -> None:
        if not self._moved:
            self._asker.piece(data)

    def complete(self) -> None:
        if self._moved:
            self._mover.ask_again()
            return
        if not self._wrong:
            self._server.went_well()
        self._asker.complete()

    def broken(self, why: str, *, stale: bool) -> None:
        if self._moved:
            self._mover.ask_again()
            return
        if stale:
            self._asker.broken(why, stale=True)
            return
        self._went_wrong(why)
        if not self._answered and self._mover.move():
            self._mover.ask_again()
        else:
            self._asker.broken(why, stale=False)

    def silent(self, limit_s: float) -> None:
        """It may be at work on this very request, so nobody else is asked."""
        if self._moved:
            self._mover.ask_again()
            return
        self._went_wrong(f"it said nothing for {limit_s:g} s")
        self._asker.silent(limit_s)

    def _went_wrong(self, why: str) -> None:
        if not self._wrong:
            self._wrong = True
            self._server.went_wrong(why)


def may_wait(
    control: Control, grant: Grant | None, wanted: Wanted, *, unsent: bool, again: bool, waited_s: float
) -> bool:
    """Its engine, one of ours, was ended as it did not serve any more: another one can answer. Not `again`: it may be
    this very request that made it hang.

    What no engine on another machine was sent (`unsent`) waits till one can be reached, as long as it may at all.
    """
    if grant is None or grant.server is not None or wanted.engine_id is not None:
        return False
    if unsent and grant.endpoint.far:
        return waited_s < wanted.spec.queue_timeout_s
    return not again and control.board.gave_up(grant.endpoint.engine_id)


def whose(grant: Grant | None) -> str:
    return "engine" if grant is None or grant.server is None else "server"


def gone(grant: Grant | None, model: str, why: str) -> ErrorAnswer:
    """It was granted a request, and went away before it answered."""
    return (errors.engine_gone if whose(grant) == "engine" else errors.server_gone)(model, why)


def lost(board: Board, grant: Grant | None, why: str) -> None:
    """It takes no connections."""
    if grant is not None and grant.server is not None:
        grant.server.went_wrong(why)
    elif grant is not None and grant.endpoint.far:
        board.unreachable(grant, why)
    died(board, grant)


def died(board: Board, grant: Grant | None) -> bool:
    """It is an engine here that broke off: of several replicas another one is chosen. A server is told by Attempt.

    Not for what a far one had been sent: the network may have lost no more than its answer.
    """
    if grant is None or grant.server is not None:
        return False
    board.doubt(grant)
    return not grant.endpoint.far
