"""Books, figures, rehearsals and model cards as JSON: plain dicts and lists."""

from collections.abc import Sequence
from typing import Any

import msgspec

from vllama.controller.card import ModelCard
from vllama.controller.figures import Figures
from vllama.controller.supposed import Foreseen
from vllama.gateway.render import decision_json, iso, plan_json, status_json
from vllama.planner.books import Books
from vllama.planner.rehearse import Rehearsal
from vllama.planner.together import Matrix


def memory_json(books: Books, figures: Sequence[Figures]) -> dict[str, Any]:
    """The fields of Books, and `models`: the fields of Figures."""
    return {"taken_at": books.taken_at, **books_json(books), "models": plain(figures)}


def books_json(books: Books) -> dict[str, Any]:
    """The fields of Books but for the time, so that what is the same compares as the same."""
    answer: dict[str, Any] = plain(books)
    del answer["taken_at"]
    return answer


def rehearsal_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """The fields of Rehearsal."""
    answer: dict[str, Any] = plain(rehearsal)
    return answer


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    """The fields of Matrix; `pairs` as a list of `{a, b, together}`."""
    pairs = [{"a": a, "b": b, "together": together.value} for (a, b), together in matrix.pairs.items()]
    return {
        "models": list(matrix.models), "pinned": list(matrix.pinned), "never": dict(matrix.never), "pairs": pairs,
        "sets": None if matrix.sets is None else [list(names) for names in matrix.sets],
        "searched_all": matrix.searched_all, "left_out": matrix.left_out,
    }  # fmt: skip


def foreseen_json(foreseen: Foreseen) -> dict[str, Any]:
    """The fields of Foreseen."""
    return {
        "plans": [plan_json(each) for each in foreseen.plans], "anyway": [plan_json(each) for each in foreseen.anyway],
        "start": decision_json(foreseen.start), "after": plain(foreseen.after),
        "before": None if foreseen.before is None else plain(foreseen.before),
    }  # fmt: skip


def card_json(card: ModelCard) -> dict[str, Any]:
    """The fields of ModelCard; times as ISO 8601 in UTC, the environment of the command as an object."""
    answer: dict[str, Any] = plain(card)
    answer["status"] = status_json(card.status)
    answer["command"]["env"] = dict(card.command.env)
    if card.engine is not None:
        answer["engine"]["started_at"] = iso(card.engine.started_at)
    if card.failures is not None:
        answer["failures"]["last_at"] = iso(card.failures.last_at)
    for said, event in zip(answer["lately"], card.lately, strict=True):
        said["at"] = iso(event.at)
        said["first_at"] = iso(event.at if event.first_at is None else event.first_at)
    return {"model": card.status.model} | answer


def plain(value: Any) -> Any:
    """As plain dicts and lists: enums as their values, no tuples: a comparison with what was read back holds."""
    match value:
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case None | str() | int() | float():
            return value
        case _:
            return plain(msgspec.to_builtins(value))
