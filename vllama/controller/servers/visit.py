"""One request at a server: it counts as in flight from here to its end, and what becomes of it is noted."""

from typing import TYPE_CHECKING

from vllama.controller.demand import Grant
from vllama.controller.servers.server import Server

if TYPE_CHECKING:
    from vllama.controller.servers.fleet import Fleet


class Visit:
    __slots__ = ("_fleet", "_model", "_server", "_tries")

    def __init__(self, fleet: "Fleet", server: Server, model: str, now: float) -> None:
        self._fleet, self._server, self._model = fleet, server, model
        self._tries = server.health.half_open  # whether it works again
        if self._tries:
            server.health.trying = True
        server.in_flight += 1
        server.last_chosen_at = now
        fleet.in_flight[model] += 1

    def end(self, _: Grant) -> None:
        server, fleet = self._server, self._fleet
        server.in_flight -= 1
        fleet.in_flight[self._model] -= 1
        fleet.last_used_at[self._model] = fleet.clock()
        if self._tries:
            server.health.trying = False
            fleet.review()
        else:
            fleet.pour(server.models)

    def went_well(self) -> None:
        self._server.health.succeeded()

    def went_wrong(self, why: str) -> None:
        self._server.health.failed(why, self._fleet.clock())
        self._server.doubt()

    def knows_no_such(self) -> None:
        self._server.doubt()
