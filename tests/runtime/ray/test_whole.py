"""Engines that span machines, put together of what each machine tells."""

from pathlib import Path

from vllama.domain.observed import Place
from vllama.runtime.base import EngineProcess, ProcessExit
from vllama.runtime.ray.whole import whole_engines


def part(rank: int, *, ranks: int = 2, engine_id: str = "e1", code: int | None = None, over: bool = False):
    return EngineProcess(
        engine_id=engine_id, model="org/large", spec_hash="h", node=f"n{rank}", devices=(0, 1), memory_bytes=1,
        pid=rank + 10, port=rank + 100, started_at=1.0, log=Path("/l"), rank=rank, ranks=ranks,
        exit=ProcessExit(code=code) if over else None,
    )  # fmt: skip


def whole(*parts: EngineProcess, starting: tuple[str, ...] = ()) -> EngineProcess:
    (engine,) = whole_engines(parts, starting=starting)
    return engine


def test_one_on_one_machine_is_as_it_is():
    assert whole(part(0, ranks=1)) == part(0, ranks=1)


def test_rank_0_speaks_for_all_in_whatever_order_they_are_told():
    for parts in ((part(0), part(1)), (part(1), part(0))):
        engine = whole(*parts)
        assert (engine.node, engine.port, engine.exit) == ("n0", 100, None)
        assert engine.further == (Place(node="n1", devices=(0, 1)),)


def test_it_is_over_when_any_rank_is_or_is_missing():
    engine = whole(part(0), part(1, over=True, code=3))
    assert (engine.exit, engine.last_words.node) == (ProcessExit(code=3), "n1")
    gone = whole(part(0))
    assert (gone.exit, gone.further) == (ProcessExit(code=None), ())
    headless = whole(part(1))
    assert (headless.node, headless.exit) == ("n1", ProcessExit(code=None))


def test_one_that_is_being_started_is_not_over_for_want_of_ranks():
    assert whole_engines([part(0)], starting=("e1",)) == ()
    assert whole(part(0, ranks=1), starting=("e1",)) == part(0, ranks=1)
